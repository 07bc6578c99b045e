/* host/linux: memory that outlives the process that was killed with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
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

static uint8_t *keep(const struct scene *scene, bool anew) {
    return host_memory_keep(scene->host, scene->name, NULL, SIZE, anew);
}

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

/* ---- what nobody will look for; in a shared memory of our own, since others' files would be taken away, too ---- */

#define EXPECT(condition)                                                                                                        \
    do {                                                                                                                         \
        if (!(condition))                                                                                                        \
            _exit(__LINE__ % 200 + 1);                                                                                           \
    } while (0)

static void in_own_memory(void (*run)(const struct scene *scene)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0 ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("own", "/dev/shm", "tmpfs", 0, "mode=1777,size=8m") != 0)
            _exit(0); /* refused here */
        struct scene scene;
        begin(&scene);
        run(&scene);
        end(&scene);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static bool is_there(const char *name) {
    char path[HOST_KEPT_NAME_SIZE + 32];
    snprintf(path, sizeof(path), "/dev/shm/penstock-x-%s", name);
    return access(path, F_OK) == 0;
}

static void make_file(const char *path) {
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    EXPECT(fd >= 0);
    close(fd);
}

/* As who is killed leaves it; mapped, so that it lives, if that is wanted. */
static void *leave(const struct scene *scene, const char *name, const char *of, bool alive) {
    char full[HOST_KEPT_NAME_SIZE];
    snprintf(full, sizeof(full), "x-%s", name);
    void *memory = host_memory_keep(scene->host, full, of, 4096, true);
    EXPECT(memory != NULL);
    if (!alive)
        host_memory_leave(scene->host, full, memory, 4096, false);
    return memory;
}

static void deleted_files_are_forgotten(const struct scene *scene) {
    make_file("/dev/shm/disk");
    make_file("/dev/shm/other");
    EXPECT(chdir("/dev/shm") == 0);
    leave(scene, "there", "/dev/shm/disk", false);
    leave(scene, "relative", "disk", false);
    leave(scene, "a-disk", "/dev/null", false);
    leave(scene, "unknown", NULL, false);
    leave(scene, "never-was", "/dev/shm/nothing", false);
    leave(scene, "living", "/dev/shm/other", true);
    leave(scene, "gone", "/dev/shm/other", false);
    EXPECT(unlink("/dev/shm/other") == 0);
    leave(scene, "next", NULL, false);
    EXPECT(is_there("there") && is_there("relative") && is_there("a-disk") && is_there("unknown") && is_there("never-was"));
    EXPECT(is_there("living") && !is_there("gone"));
    make_file("/dev/shm/another"); /* another file in the place of that one */
    EXPECT(rename("/dev/shm/another", "/dev/shm/disk") == 0);
    leave(scene, "next", NULL, false);
    EXPECT(!is_there("there") && !is_there("relative") && is_there("living"));
    void *memory = host_memory_keep(scene->host, "x-a-disk", "/dev/shm/disk", 4096, false); /* it is about another one now */
    EXPECT(memory != NULL);
    host_memory_leave(scene->host, "x-a-disk", memory, 4096, false);
    EXPECT(unlink("/dev/shm/disk") == 0);
    leave(scene, "next", NULL, false);
    EXPECT(!is_there("a-disk"));
}

static void what_is_left_is_bounded(const struct scene *scene) {
    char name[HOST_KEPT_NAME_SIZE];
    leave(scene, "living", NULL, true);
    for (unsigned i = 0; i < 80; i++) {
        struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
        snprintf(name, sizeof(name), "/dev/shm/penstock-x-old-%02u", i);
        make_file(name);
        EXPECT(utimensat(AT_FDCWD, name, times, 0) == 0);
    }
    EXPECT(symlink("/dev/null", "/dev/shm/penstock-x-link") == 0 && mkdir("/dev/shm/penstock-x-folder", 0700) == 0);
    make_file("/dev/shm/penstock-x-of-others");
    EXPECT(chmod("/dev/shm/penstock-x-of-others", 0644) == 0);
    struct timespec oldest[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    make_file("/dev/shm/penstock-y-of-another-sort");
    EXPECT(utimensat(AT_FDCWD, "/dev/shm/penstock-y-of-another-sort", oldest, 0) == 0);
    leave(scene, "newest", NULL, false);
    for (unsigned i = 0; i < 80; i++) {
        snprintf(name, sizeof(name), "old-%02u", i);
        EXPECT(is_there(name) == (i >= 16)); /* 64 of them, the newest */
    }
    EXPECT(is_there("living") && is_there("newest") && is_there("folder") && is_there("of-others"));
    EXPECT(access("/dev/shm/penstock-y-of-another-sort", F_OK) == 0);
    EXPECT(unlink("/dev/shm/penstock-x-link") == 0); /* it was not followed, nor taken away */
}

static void test_deleted_files_are_forgotten(void **state) {
    (void)state;
    in_own_memory(deleted_files_are_forgotten);
}

static void test_what_is_left_is_bounded(void **state) {
    (void)state;
    in_own_memory(what_is_left_is_bounded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_killed_leaves_it_to_the_next),
        cmocka_unit_test(test_what_others_could_touch_is_not_taken),
        cmocka_unit_test(test_deleted_files_are_forgotten),
        cmocka_unit_test(test_what_is_left_is_bounded),
    };
    return cmocka_run_group_tests_name("kept memory", tests, NULL, NULL);
}
