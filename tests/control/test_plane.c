/* A plane that dies: how soon it is started again. Its process is played here, on a socket in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "control/plane.h"
#include "support/step_host.h"

#define SOCKET "/plane"

struct world {
    struct host *host;
    struct reactor *reactor;
    struct log log;
    struct control_plane plane;
    struct host_socket *listener, *connection; /* of the process; NULL = it does not run */
    void (*ended)(void *arg, int status);
    void *ended_arg;
    unsigned starts;
};

static uint64_t no_clock(void *arg) {
    (void)arg;
    return 0;
}
static void no_record(void *arg, const struct log_record *record) {
    (void)arg;
    (void)record;
}
static void no_change(void *arg) { (void)arg; }
static bool is_ready(void *arg) { return control_plane_ready(&((struct world *)arg)->plane); }

/* ---- the process ---- */

static void answer(struct world *world, const char *request) {
    json_t *asked = json_loads(request, 0, NULL);
    assert_non_null(asked);
    bool methods = strcmp(json_string_value(json_object_get(asked, "method")), "rpc_get_methods") == 0;
    char text[128];
    int length = snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":%s}\n",
                          (long long)json_integer_value(json_object_get(asked, "id")), methods ? "[]" : "{\"pid\":7}");
    assert_int_equal(host_socket_write(world->connection, &(struct slice){text, (size_t)length}, 1), length);
    json_decref(asked);
}

/* One request at a time comes, whole. */
static void on_request(void *arg, unsigned events) {
    struct world *world = arg;
    char text[1024];
    (void)events;
    for (int64_t got = 1; world->connection != NULL && got > 0;) {
        got = host_socket_read(world->connection, &(struct slice){text, sizeof(text) - 1}, 1);
        if (got <= 0)
            break;
        text[got] = '\0';
        answer(world, text);
    }
}

static void on_connect(void *arg, unsigned events) {
    struct world *world = arg;
    struct host_address peer;
    int code;
    (void)events;
    struct host_socket *accepted = host_accept(world->listener, &peer, &code);
    if (accepted == NULL)
        return;
    assert_null(world->connection);
    world->connection = accepted;
    assert_int_equal(host_socket_attach(accepted, world->reactor->loop, on_request, world), 0);
    on_request(world, HOST_READABLE);
}

static int start(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct world *world = arg;
    struct host_address address = {.family = HOST_UNIX, .text = SOCKET};
    struct error error;
    assert_null(world->listener);
    world->listener = host_listen(world->reactor->loop, &address, on_connect, world, &error);
    world->ended = ended;
    world->ended_arg = ended_arg;
    world->starts++;
    *ret_process = world;
    return 0;
}
static int adopt(void *arg, uint64_t number, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    (void)arg, (void)number, (void)ended, (void)ended_arg, (void)ret_process;
    fail(); /* each is its child */
    return 0;
}
static void release(void *arg, void *process) { (void)arg, (void)process; }

static void crash(struct world *world) {
    reactor_enter(world->reactor);
    host_socket_close(world->connection);
    host_socket_close(world->listener);
    world->connection = world->listener = NULL;
    world->ended(world->ended_arg, 1);
    reactor_enter(NULL);
}

/* ---- */

static void begin(struct world *world) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    struct step_host_options host = {.seed = 1};
    *world = (struct world){.host = step_host_create(&host)};
    assert_int_equal(reactor_create(world->host, &options, &world->reactor), 0);
    assert_int_equal(reactor_start(world->reactor), 0);
    log_init(&world->log, no_clock, no_record, NULL);
    reactor_enter(world->reactor);
    control_plane_init(&world->plane, &(struct control_plane_options){
                                          .reactor = world->reactor,
                                          .log = &world->log,
                                          .socket_path = SOCKET,
                                          .log_path = "/log",
                                          .processes = {.start = start, .adopt = adopt, .release = release, .arg = world},
                                          .changed = no_change});
    control_plane_want(&world->plane);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_ready, world, NS_PER_S));
}

static void end(struct world *world) {
    reactor_enter(world->reactor);
    control_plane_fini(&world->plane);
    host_socket_close(world->connection);
    host_socket_close(world->listener);
    reactor_enter(NULL);
    step_host_run(world->host, NULL, NULL, NS_PER_S);
    reactor_destroy(world->reactor);
    step_host_destroy(world->host);
}

/* Dies after `ready_ms`: how long nobody was served, in ms. */
static uint64_t death(struct world *world, uint64_t ready_ms) {
    assert_false(step_host_run(world->host, NULL, NULL, ready_ms * NS_PER_MS));
    uint64_t at_ns = step_host_now_ns(world->host);
    crash(world);
    assert_false(is_ready(world));
    assert_true(step_host_run(world->host, is_ready, world, 60 * NS_PER_S));
    return (step_host_now_ns(world->host) - at_ns) / NS_PER_MS;
}

enum { AT_ONCE_MS = 50 };

/* Hosts wait: whoever kills planes now and then, or a few at a time, does not make them wait longer. */
static void who_dies_now_and_then_is_started_at_once(void **state) {
    struct world world;
    (void)state;
    begin(&world);
    for (unsigned i = 0; i < 5; i++)
        assert_in_range(death(&world, 20), 0, AT_ONCE_MS);
    assert_false(step_host_run(world.host, NULL, NULL, 60 * NS_PER_S));
    for (unsigned i = 0; i < 50; i++)
        assert_in_range(death(&world, 8000), 0, AT_ONCE_MS);
    end(&world);
}

/* One that crashes whenever it has served for a moment is not started again and again. */
static void who_dies_always_is_started_ever_more_slowly(void **state) {
    struct world world;
    uint64_t most_ms = 0, at_ns;
    (void)state;
    begin(&world);
    at_ns = step_host_now_ns(world.host);
    while (step_host_now_ns(world.host) - at_ns < 300 * NS_PER_S)
        most_ms = max_u64(most_ms, death(&world, 600));
    assert_in_range(world.starts, 30, 120); /* in five minutes: 500 without a pause */
    assert_in_range(most_ms, 1000, 5000);   /* hosts wait for longer than that */
    assert_false(step_host_run(world.host, NULL, NULL, 60 * NS_PER_S));
    assert_in_range(death(&world, 0), 0, AT_ONCE_MS); /* that is forgotten */
    end(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_dies_now_and_then_is_started_at_once),
        cmocka_unit_test(who_dies_always_is_started_ever_more_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
