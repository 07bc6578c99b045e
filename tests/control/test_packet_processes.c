/* The packet plane's processes: what a plane tells of others is taken with care. No process is started, none answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/packet/processes.h"
#include "support/step_host.h"

struct rig {
    struct host *host;
    struct log log;
    struct reactor *reactor;
    struct packet_processes processes;
    struct host_socket *listener; /* of a process that hears, and says nothing */
    void (*ended)(void *arg, int status);
    void *ended_arg;
    unsigned starts, asked, killed;
};

static int start(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    (void)arg, (void)ended, (void)ended_arg, (void)ret_process;
    return -ENOENT;
}

static struct control_processes launch(void *arg, unsigned place, unsigned vf, const char *core_mask) {
    (void)arg, (void)place, (void)vf, (void)core_mask;
    return (struct control_processes){.start = start};
}

static int start_mute(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct rig *rig = arg;
    rig->ended = ended;
    rig->ended_arg = ended_arg;
    rig->starts++;
    *ret_process = rig;
    return 0;
}

static void release(void *arg, void *process) { (void)arg, (void)process; }

static void end_mute(void *arg, void *process, bool kill) {
    struct rig *rig = arg;
    assert_ptr_equal(process, rig);
    rig->asked += !kill;
    rig->killed += kill;
}

static struct control_processes launch_mute(void *arg, unsigned place, unsigned vf, const char *core_mask) {
    (void)place, (void)vf, (void)core_mask;
    return (struct control_processes){.start = start_mute, .release = release, .end = end_mute, .arg = arg};
}

static void on_connect(void *arg, unsigned events) { (void)arg, (void)events; }

static void listen_as_vf_2(struct rig *rig) {
    struct host_address address = {.family = HOST_UNIX, .text = "/packet.sock.vf-2"};
    struct error error;
    rig->listener = host_listen(rig->reactor->loop, &address, on_connect, NULL, &error);
    assert_non_null(rig->listener);
}

static void stop_listening(struct rig *rig) {
    if (rig->listener != NULL)
        host_socket_close(rig->listener);
    rig->listener = NULL;
}

static void changed(void *arg) { (void)arg; }

static void write_nothing(void *arg, const struct log_record *record) { (void)arg, (void)record; }

static uint64_t no_clock(void *arg) {
    (void)arg;
    return 0;
}

static int begin(void **state) {
    struct rig *rig = calloc(1, sizeof(*rig));
    struct step_host_options host = {.seed = 1};
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    rig->host = step_host_create(&host);
    assert_int_equal(reactor_create(rig->host, &options, &rig->reactor), 0);
    assert_int_equal(reactor_start(rig->reactor), 0);
    log_init(&rig->log, no_clock, write_nothing, NULL);
    struct packet_processes_options processes = {.reactor = rig->reactor,
                                                 .log = &rig->log,
                                                 .socket_path = "/packet.sock",
                                                 .log_path = "/packet.log",
                                                 .several = true,
                                                 .launch = {launch, NULL},
                                                 .changed = changed,
                                                 .stirred = changed};
    reactor_enter(rig->reactor);
    packet_processes_init(&rig->processes, &processes);
    *state = rig;
    return 0;
}

static int end(void **state) {
    struct rig *rig = *state;
    packet_processes_fini(&rig->processes);
    stop_listening(rig);
    reactor_enter(NULL);
    reactor_destroy(rig->reactor);
    step_host_destroy(rig->host);
    free(rig);
    return 0;
}

/* A process that has just left may be told of as number 0, and one of another version without its cores. */
static void case_what_is_no_process_is_not_watched(void **state) {
    struct rig *rig = *state;
    packet_processes_found(&rig->processes, 0, "0x6");
    packet_processes_found(&rig->processes, 0, "");
    packet_processes_found(&rig->processes, 0, NULL);
    packet_processes_found(&rig->processes, 2, NULL);
    assert_false(packet_processes_leaving(&rig->processes));
    assert_null(packet_processes_find(&rig->processes, 2));
}

static bool is_started(void *arg) { return ((struct rig *)arg)->starts > 0; }
static bool is_waiting(void *arg) { return packet_processes_find(arg, 2)->plane.state == CONTROL_PLANE_WAITING; }

static void case_one_that_nobody_wants_is_let_go(void **state) {
    struct rig *rig = *state;
    json_t *none = json_object(), *wanted = json_pack("{s{ss}}", "2", "core_mask", "0x6");
    packet_processes_want(&rig->processes, none);
    packet_processes_found(&rig->processes, 2, "0x6");
    assert_true(packet_processes_leaving(&rig->processes));
    packet_processes_found(&rig->processes, 2, NULL);
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, is_waiting, &rig->processes, 10 * NS_PER_S));
    reactor_enter(rig->reactor);
    packet_processes_want(&rig->processes, none);
    assert_null(packet_processes_find(&rig->processes, 2));
    packet_processes_want(&rig->processes, wanted);
    packet_processes_found(&rig->processes, 2, "0x6");
    assert_false(packet_processes_leaving(&rig->processes)); /* it is as it is wanted */
    packet_processes_found(&rig->processes, 2, "0x18");
    assert_true(packet_processes_leaving(&rig->processes));
    json_decref(none);
    json_decref(wanted);
}

/* One that cannot be started has nothing that others would have to wait for; of one that was not looked for yet, nobody knows. */
static void case_one_that_does_not_start_is_empty(void **state) {
    struct rig *rig = *state;
    json_t *wanted = json_pack("{s{ss}}", "2", "core_mask", "0x6");
    packet_processes_want(&rig->processes, wanted);
    const struct packet_process *process = packet_processes_find(&rig->processes, 2);
    assert_false(packet_process_empty(process));
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, is_waiting, &rig->processes, 10 * NS_PER_S));
    reactor_enter(rig->reactor);
    assert_true(packet_process_empty(process));
    assert_false(packet_process_ready(process));
    assert_non_null(strstr(process->plane.error.text, "cannot be started"));
    assert_false(packet_processes_usable(&rig->processes)); /* the plane itself is not there either */
    assert_ptr_equal(packet_processes_missing(&rig->processes), &rig->processes.list[0]);
    json_decref(wanted);
}

static bool is_asked(void *arg) { return ((struct rig *)arg)->asked > 0; }
static bool is_killed(void *arg) { return ((struct rig *)arg)->killed > 0; }
static bool is_not_empty(void *arg) { return !packet_process_empty(packet_processes_find(&((struct rig *)arg)->processes, 2)); }
static bool has_started_again(void *arg) { return ((struct rig *)arg)->starts > 1; }

/* One that was started and never answers is empty all the time, until it is ended and started again. */
static void hang(struct rig *rig, bool listens) {
    rig->processes.options.launch = (struct packet_launch){launch_mute, rig};
    json_t *wanted = json_pack("{s{ss}}", "2", "core_mask", "0x6");
    packet_processes_want(&rig->processes, wanted);
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, is_started, rig, 10 * NS_PER_S));
    reactor_enter(rig->reactor);
    if (listens)
        listen_as_vf_2(rig);
    reactor_enter(NULL);
    assert_false(step_host_run(rig->host, is_not_empty, rig, 110 * NS_PER_S));
    assert_int_equal(rig->asked, 0);
    assert_true(step_host_run(rig->host, is_asked, rig, 60 * NS_PER_S));
    assert_int_equal(rig->killed, 0);
    assert_true(step_host_run(rig->host, is_killed, rig, 60 * NS_PER_S));
    assert_int_equal(rig->asked, 1);
    assert_false(is_not_empty(rig));
    reactor_enter(rig->reactor);
    stop_listening(rig);
    rig->ended(rig->ended_arg, 137);
    assert_non_null(strstr(packet_processes_find(&rig->processes, 2)->plane.error.text, "did not answer"));
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, has_started_again, rig, 60 * NS_PER_S));
    assert_false(is_not_empty(rig));
    reactor_enter(rig->reactor);
    json_decref(wanted);
}

static void case_one_that_hangs_holds_up_nobody(void **state) { hang(*state, false); }
static void case_one_that_listens_and_hangs_holds_up_nobody(void **state) { hang(*state, true); }

static void case_one_that_hangs_and_is_not_wanted_is_ended_at_once(void **state) {
    struct rig *rig = *state;
    rig->processes.options.launch = (struct packet_launch){launch_mute, rig};
    json_t *none = json_object(), *wanted = json_pack("{s{ss}}", "2", "core_mask", "0x6");
    packet_processes_want(&rig->processes, wanted);
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, is_started, rig, 10 * NS_PER_S));
    reactor_enter(rig->reactor);
    packet_processes_want(&rig->processes, none);
    packet_processes_want(&rig->processes, none);
    assert_int_equal(rig->asked, 1);
    assert_int_equal(rig->killed, 0);
    rig->ended(rig->ended_arg, 143);
    packet_processes_want(&rig->processes, none);
    assert_null(packet_processes_find(&rig->processes, 2));
    json_decref(none);
    json_decref(wanted);
}

/* It was there before us, and has what it has, for as long as it is slow. */
static void case_a_slow_one_that_was_there_is_not_empty(void **state) {
    struct rig *rig = *state;
    json_t *none = json_object(), *wanted = json_pack("{s{ss}}", "2", "core_mask", "0x6");
    listen_as_vf_2(rig);
    packet_processes_want(&rig->processes, wanted);
    struct packet_process *process = packet_processes_find(&rig->processes, 2);
    reactor_enter(NULL);
    assert_true(step_host_run(rig->host, is_waiting, &rig->processes, 60 * NS_PER_S));
    reactor_enter(rig->reactor);
    assert_int_equal(process->plane.failures, 1);
    assert_false(packet_process_empty(process));
    packet_processes_want(&rig->processes, none);
    assert_ptr_equal(packet_processes_find(&rig->processes, 2), process); /* nor let go, unasked */
    json_decref(none);
    json_decref(wanted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(case_what_is_no_process_is_not_watched, begin, end),
        cmocka_unit_test_setup_teardown(case_one_that_nobody_wants_is_let_go, begin, end),
        cmocka_unit_test_setup_teardown(case_one_that_does_not_start_is_empty, begin, end),
        cmocka_unit_test_setup_teardown(case_one_that_hangs_holds_up_nobody, begin, end),
        cmocka_unit_test_setup_teardown(case_one_that_listens_and_hangs_holds_up_nobody, begin, end),
        cmocka_unit_test_setup_teardown(case_one_that_hangs_and_is_not_wanted_is_ended_at_once, begin, end),
        cmocka_unit_test_setup_teardown(case_a_slow_one_that_was_there_is_not_empty, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
