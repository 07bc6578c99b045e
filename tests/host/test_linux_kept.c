/* host/linux: memory that outlives the process that was killed with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/linux/linux.h"

#define SIZE ((size_t)20000)

struct scene {
    struct host *host;
    char name[HOST_KEPT_NAME_SIZE], path[HOST_KEPT_NAME_SIZE + 32];
};

static void begin(struct scene *scene) {
    struct host_linux_options options = {.no_io_uring = true, .threads_max = 1};
    assert_int_equal(host_linux_create(&options, &scene->host), 0);
    uint64_t number;
    host_random(scene->host, &number, sizeof(number));
    snprintf(scene->name, sizeof(scene->name), "test-%016" PRIx64, number);
    snprintf(scene->path, sizeof(scene->path), "/dev/shm/penstock-%s", scene->name);
}

static void end(struct scene *scene) {
    unlink(scene->path);
    host_linux_destroy(scene->host);
}

static uint8_t *keep(const struct scene *scene, bool anew) { return host_memory_keep(scene->host, scene->name, SIZE, anew); }

/* A process that writes and then waits to be killed. */
static pid_t writer(const struct scene *scene) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        uint8_t *memory = keep(scene, true);
        if (memory != NULL)
            memset(memory, 0x5a, SIZE);
        if (write(ready[1], memory != NULL ? "y" : "n", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    char answer = 'n';
    assert_int_equal(read(ready[0], &answer, 1), 1);
    close(ready[0]);
    close(ready[1]);
    if (answer == 'y')
        return pid;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}

static void test_who_is_killed_leaves_it_to_the_next(void **state) {
    (void)state;
    struct scene scene;
    begin(&scene);
    pid_t pid = writer(&scene);
    if (pid == 0) {
        end(&scene);
        skip(); /* a system without shared memory */
    }
    assert_null(keep(&scene, false)); /* who lives has it */
    assert_null(keep(&scene, true));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    uint8_t *memory = keep(&scene, false);
    assert_non_null(memory);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(memory[i], 0x5a);
    host_memory_leave(scene.host, scene.name, memory, SIZE, true);
    assert_null(keep(&scene, false));
    end(&scene);
}

static void test_what_others_could_touch_is_not_taken(void **state) {
    (void)state;
    struct scene scene;
    begin(&scene);
    uint8_t *memory = keep(&scene, true);
    if (memory == NULL) {
        end(&scene);
        skip();
    }
    host_memory_leave(scene.host, scene.name, memory, SIZE, false);
    assert_int_equal(chmod(scene.path, 0660), 0);
    assert_null(keep(&scene, false));
    assert_int_equal(chmod(scene.path, 0600), 0);
    char other[sizeof(scene.path) + 8];
    snprintf(other, sizeof(other), "%s.other", scene.path);
    assert_int_equal(link(scene.path, other), 0);
    assert_null(keep(&scene, false));
    assert_int_equal(unlink(scene.path), 0);
    assert_int_equal(symlink(other, scene.path), 0);
    assert_null(keep(&scene, false));
    assert_null(keep(&scene, true));
    assert_int_equal(unlink(other), 0);
    end(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_killed_leaves_it_to_the_next),
        cmocka_unit_test(test_what_others_could_touch_is_not_taken),
    };
    return cmocka_run_group_tests_name("kept memory", tests, NULL, NULL);
}
