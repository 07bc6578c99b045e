/* host/linux, confined: what is given up is refused, what a plane needs still works. In children, since it cannot be undone. */
#include "loop_fixture.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif

static void in_a_child(void (*test)(void)) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert(host_linux_confine(0) == 0);
        test();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void refusals(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {0};
    assert(syscall(SYS_capget, &header, sets) == 0);
    assert((sets[0].permitted & 1u << CAP_SYS_ADMIN) == 0 && (sets[0].permitted & 1u << CAP_SYS_MODULE) == 0);
    char *arguments[] = {(char[]){"true"}, NULL};
#ifndef UNDER_SANITIZER
    assert(mount("none", "/nowhere", "tmpfs", 0, NULL) == -1 && errno == EPERM);
    assert(execv("/bin/true", arguments) == -1 && errno == EPERM);
    assert(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 && errno == EPERM);
    assert(unshare(CLONE_FILES) == -1 && errno == EPERM);
    assert(syscall(SYS_personality, 0xffffffff) == -1 && errno == EPERM);
#endif
    (void)arguments;
}

static void what_is_given_up_is_refused(void **state) {
    (void)state;
    in_a_child(refusals);
}

/* ---- still working ---- */

struct work {
    struct loop_fixture fixture;
    struct host_file_open open;
    struct host_file_request request;
    struct slice slice;
    struct host_socket *listener;
    struct error error;
    sem_t done;
};
static void opened(struct host_file_open *open) { sem_post(&container_of(open, struct work, open)->done); }
static void completed(struct host_file_request *request) { sem_post(&container_of(request, struct work, request)->done); }
static void open_file(void *arg) {
    struct work *work = arg;
    host_file_open_submit(work->fixture.loop, &work->open);
}
static void submit(void *arg) {
    struct work *work = arg;
    host_file_submit(work->fixture.loop, &work->request);
}
static void ignore_event(void *arg, unsigned events) {
    (void)arg;
    (void)events;
}
static void open_listener(void *arg) {
    struct work *work = arg;
    struct host_address at = {.family = HOST_IPV4, .text = "127.0.0.1"};
    work->listener = host_listen(work->fixture.loop, &at, ignore_event, NULL, &work->error);
}
static void close_listener(void *arg) { host_socket_close(((struct work *)arg)->listener); }

static void plane_work(void) {
    char folder[64], path[80];
    struct work work = {.done = {{0}}};
    sem_init(&work.done, 0, 0);
    struct host *host = make_host(false);
    loop_fixture_start(&work.fixture, host, HOST_POLL_ADAPTIVE, -1);
    make_folder(false, folder, sizeof(folder));
    snprintf(path, sizeof(path), "%s/disk", folder);
    work.open = (struct host_file_open){
        .path = path, .options = {.create = true, .create_size = 65536, .direct = true, .hold = true}, .done = opened};
    loop_fixture_run(&work.fixture, open_file, &work);
    wait_for(&work.done);
    assert(work.open.ok);
    char *bytes = aligned_alloc(4096, 65536);
    assert(bytes != NULL);
    memset(bytes, 7, 65536);
    work.slice = (struct slice){bytes, 65536};
    static const enum host_file_op ops[] = {HOST_FILE_WRITE, HOST_FILE_SYNC, HOST_FILE_READ, HOST_FILE_ZERO, HOST_FILE_PUNCH};
    for (size_t i = 0; i < array_count(ops); i++) {
        bool moves = ops[i] == HOST_FILE_READ || ops[i] == HOST_FILE_WRITE;
        work.request = (struct host_file_request){.file = work.open.file,
                                                  .op = ops[i],
                                                  .slices = &work.slice,
                                                  .slice_count = moves ? 1 : 0,
                                                  .length = ops[i] == HOST_FILE_SYNC ? 0 : 65536,
                                                  .complete = completed};
        loop_fixture_run(&work.fixture, submit, &work);
        wait_for(&work.done);
        assert(work.request.result == (moves ? 65536 : 0));
    }
    loop_fixture_run(&work.fixture, open_listener, &work);
    assert(work.listener != NULL);
    loop_fixture_run(&work.fixture, close_listener, &work);
    host_file_close(work.open.file);
    loop_fixture_stop(&work.fixture);
    host_linux_destroy(host);
    remove_folder(folder);
    free(bytes);
    sem_destroy(&work.done);
}

static void what_a_plane_needs_still_works(void **state) {
    (void)state;
    in_a_child(plane_work);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_up_is_refused),
        cmocka_unit_test(what_a_plane_needs_still_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
