#include "loop_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct host_turn turn(void *arg) {
    struct loop_fixture *fixture = arg;
    unsigned worked = host_loop_poll(fixture->loop);
    atomic_fetch_add(&fixture->polled, worked);
    void (*act)(void *) = atomic_exchange(&fixture->ask, NULL);
    if (act != NULL) {
        fixture->thread = pthread_self();
        act(fixture->ask_arg);
        worked++;
    }
    host_loop_flush(fixture->loop);
    if (act != NULL)
        sem_post(&fixture->answered);
    return (struct host_turn){.worked = worked > 0, .deadline_ns = atomic_load(&fixture->deadline_ns)};
}

void loop_fixture_start(struct loop_fixture *fixture, struct host *host, enum host_poll_mode mode, int cpu) {
    memset(fixture, 0, sizeof(*fixture));
    fixture->host = host;
    fixture->deadline_ns = UINT64_MAX;
    sem_init(&fixture->answered, 0, 0);
    struct host_loop_options options = {.name = "test", .cpu = cpu, .poll_mode = mode, .turn = turn, .arg = fixture};
    assert_int_equal(host_loop_create(host, &options, &fixture->loop), 0);
    assert_int_equal(host_loop_start(fixture->loop), 0);
}

void loop_fixture_stop(struct loop_fixture *fixture) {
    host_loop_destroy(fixture->loop);
    sem_destroy(&fixture->answered);
}

void loop_fixture_run(struct loop_fixture *fixture, void (*act)(void *arg), void *arg) {
    fixture->ask_arg = arg;
    atomic_store(&fixture->ask, act);
    host_loop_wake(fixture->loop);
    wait_for(&fixture->answered);
}

void wait_for(sem_t *semaphore) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    while (sem_timedwait(semaphore, &until) != 0)
        if (errno != EINTR)
            fail_msg("waited 60 s for something that should have come at once");
}

struct host *make_host(bool no_io_uring) {
    struct host_linux_options options = {.no_io_uring = no_io_uring, .threads_max = 4};
    struct host *host = NULL;
    assert_int_equal(host_linux_create(&options, &host), 0);
    return host;
}

const char *make_folder(bool in_memory, char *to, size_t size) {
    snprintf(to, size, "%s/penstock-test-XXXXXX", in_memory ? "/dev/shm" : ".");
    assert_non_null(mkdtemp(to));
    return to;
}

void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    assert_int_equal(rmdir(path), 0);
}
