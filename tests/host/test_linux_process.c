/* host/linux: other programs, started and watched. */
#include "loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

struct scene {
    struct loop_fixture fixture;
    char folder[256], log_path[300];
    const char *const *arguments;
    uint64_t number, adopted; /* adopted: as the loop's own thread read it, which frees the process when it ends */
    struct host_linux_process *process;
    int result, status;
    sem_t ended;
};

static void on_end(void *arg, int status) {
    struct scene *scene = arg;
    scene->status = status;
    sem_post(&scene->ended);
}

static void start(void *arg) {
    struct scene *scene = arg;
    struct host_linux_process_options options = {.arguments = scene->arguments, .log_path = scene->log_path};
    scene->result = host_linux_process_start(scene->fixture.loop, &options, on_end, scene, &scene->process);
    if (scene->result == 0)
        scene->number = host_linux_process_number(scene->process);
}

static void adopt(void *arg) {
    struct scene *scene = arg;
    scene->result = host_linux_process_adopt(scene->fixture.loop, scene->number, on_end, scene, &scene->process);
    scene->adopted = scene->result == 0 ? host_linux_process_number(scene->process) : 0;
}

static void release(void *arg) { host_linux_process_release(((struct scene *)arg)->process); }

static int run(struct scene *scene, const char *const *arguments) {
    scene->arguments = arguments;
    loop_fixture_run(&scene->fixture, start, scene);
    return scene->result;
}

static const char *log_of(struct scene *scene, char text[4096]) {
    FILE *file = fopen(scene->log_path, "r");
    assert_non_null(file);
    text[fread(text, 1, 4095, file)] = '\0';
    fclose(file);
    return text;
}

static int set_up(void **state) {
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    make_folder(true, scene->folder, sizeof(scene->folder));
    snprintf(scene->log_path, sizeof(scene->log_path), "%s/log", scene->folder);
    sem_init(&scene->ended, 0, 0);
    loop_fixture_start(&scene->fixture, make_host(true), HOST_POLL_NEVER, -1);
    *state = scene;
    return 0;
}

static int tear_down(void **state) {
    struct scene *scene = *state;
    struct host *host = scene->fixture.host;
    loop_fixture_stop(&scene->fixture);
    host_linux_destroy(host);
    remove_folder(scene->folder);
    sem_destroy(&scene->ended);
    free(scene);
    return 0;
}

static void test_ends(void **state) {
    static const char *const fine[] = {"true", NULL}, *const exits[] = {"sh", "-c", "echo out; echo err >&2; exit 7", NULL},
                             *const killed[] = {"sh", "-c", "kill -9 $$", NULL}, *const none[] = {"/no/such/program", NULL};
    struct scene *scene = *state;
    char text[4096];
    assert_int_equal(run(scene, fine), 0);
    wait_for(&scene->ended);
    assert_int_equal(scene->status, 0);
    assert_int_equal(run(scene, exits), 0);
    wait_for(&scene->ended);
    assert_int_equal(scene->status, 7);
    assert_string_equal(log_of(scene, text), "out\nerr\n");
    assert_int_equal(run(scene, killed), 0);
    wait_for(&scene->ended);
    assert_int_equal(scene->status, 128 + SIGKILL);
    assert_int_equal(run(scene, none), -ENOENT);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left unwaited for */
    assert_int_equal(errno, ECHILD);
    snprintf(scene->log_path, sizeof(scene->log_path), "%s/no/folder/log", scene->folder);
    assert_int_equal(run(scene, fine), -ENOENT);
}

/* A session of its own, nothing but the three files, no signal blocked or ignored. */
static void test_what_it_inherits(void **state) {
    static const char *const look[] = {"sh", "-c",
                                       "set -- /proc/$$/fd/*; echo $#; grep -E 'SigBlk|SigIgn' /proc/$$/status | cut -f2; cut "
                                       "-d' ' -f1,6 /proc/$$/stat | xargs -n1",
                                       NULL};
    struct scene *scene = *state;
    char text[4096];
    int leak = open("/dev/null", O_RDONLY);
    assert_true(leak >= 0);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(run(scene, look), 0);
    wait_for(&scene->ended);
    signal(SIGPIPE, SIG_DFL);
    close(leak);
    unsigned files, pid, session;
    uint64_t blocked, ignored;
    assert_int_equal(sscanf(log_of(scene, text), "%u %" SCNx64 " %" SCNx64 " %u %u", &files, &blocked, &ignored, &pid, &session),
                     5);
    assert_in_range(files, 3, 4); /* the shell may have the folder open that it looks into */
    assert_int_equal(blocked, 0);
    assert_int_equal(ignored & ~UINT64_C(0x180000000), 0); /* but for the C library's own two */
    assert_int_equal(pid, session);
}

static void test_watched_by_another(void **state) {
    static const char *const waits[] = {"sleep", "60", NULL};
    struct scene *scene = *state;
    assert_int_equal(run(scene, waits), 0);
    loop_fixture_run(&scene->fixture, release, scene);
    assert_int_equal(kill((pid_t)scene->number, 0), 0); /* it goes on */
    loop_fixture_run(&scene->fixture, adopt, scene);
    assert_int_equal(scene->result, 0);
    assert_int_equal(scene->adopted, scene->number);
    assert_int_equal(sem_trywait(&scene->ended), -1);
    assert_int_equal(kill((pid_t)scene->number, SIGKILL), 0);
    wait_for(&scene->ended);
    assert_int_equal(scene->status, -1);
    assert_int_equal(waitpid((pid_t)scene->number, NULL, 0), (pid_t)scene->number);
    loop_fixture_run(&scene->fixture, adopt, scene);
    assert_int_equal(scene->result, -ESRCH);
    scene->number = 0;
    loop_fixture_run(&scene->fixture, adopt, scene);
    assert_int_equal(scene->result, -ESRCH);
    scene->number = UINT64_MAX;
    loop_fixture_run(&scene->fixture, adopt, scene);
    assert_int_equal(scene->result, -ESRCH);
}

static void test_folder(void **state) {
    struct scene *scene = *state;
    char path[400];
    snprintf(path, sizeof(path), "%s/made", scene->folder);
    assert_int_equal(host_linux_make_folder(path), 0);
    assert_int_equal(host_linux_make_folder(path), 0);
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof(path), "%s/none/made", scene->folder);
    assert_int_equal(host_linux_make_folder(path), -ENOENT);
    assert_int_equal(host_linux_make_folder("/dev/null"), -ENOTDIR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_it_inherits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_watched_by_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folder, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
