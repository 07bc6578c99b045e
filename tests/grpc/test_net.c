/* Server and channel on sockets (a host in memory): listeners, health, reflection, losses, drain, places, memory, TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/proto/grpc/health/v1/health.pb-c.h"
#include "api/proto/grpc/reflection/v1/reflection.pb-c.h"
#include "certificates.h"
#include "grpc/channel.h"
#include "grpc/health.h"
#include "grpc/reflection.h"
#include "grpc_echo.h"
#include "tests/support/step_host.h"

#define CHANNELS 8

struct world {
    struct host *host;
    struct reactor *at_server, *at_client;
    struct grpc_server *server;
    struct grpc_health *health;
    struct grpc_reflection *reflection;
    struct grpc_channel *channels[CHANNELS];
    struct echo echo;
    uint16_t port;
    bool stopped;
    struct tls_context *server_tls, *client_tls;
};

static const struct host_address loopback = {.family = HOST_IPV4, .text = "127.0.0.1"};
static const struct host_address unix_path = {.family = HOST_UNIX, .text = "/run/grpc.sock"};

static void server_open(struct world *world, const struct grpc_server_options *more) {
    struct grpc_server_options options = more != NULL ? *more : (struct grpc_server_options){0};
    struct error error;
    reactor_enter(world->at_server);
    options.reactor = world->at_server;
    echo_init(&world->echo);
    world->server = grpc_server_create(&options);
    assert_non_null(world->server);
    assert_true(grpc_server_add(world->server, &echo_service, &world->echo));
    world->health = grpc_health_create(world->server);
    world->reflection = grpc_reflection_create(world->server);
    assert_true(world->health != NULL && world->reflection != NULL);
    struct grpc_listen_options listen = {.address = loopback, .tls = world->server_tls};
    listen.address.port = world->port;
    if (!grpc_server_listen(world->server, &listen, &world->port, &error))
        fail_msg("%s", error.text);
    listen = (struct grpc_listen_options){.address = unix_path};
    if (!grpc_server_listen(world->server, &listen, NULL, &error))
        fail_msg("%s", error.text);
    reactor_enter(NULL);
}

static struct grpc_channel *channel_open(struct world *world, unsigned index, bool on_unix) {
    struct grpc_channel_options options = {
        .reactor = world->at_client, .address = on_unix ? unix_path : loopback, .tls = world->client_tls};
    if (!on_unix)
        options.address.port = world->port;
    reactor_enter(world->at_client);
    world->channels[index] = grpc_channel_create(&options);
    reactor_enter(NULL);
    assert_non_null(world->channels[index]);
    return world->channels[index];
}

static struct world *world_create(const struct step_host_options *options, const struct grpc_server_options *server) {
    struct step_host_options plain = {.seed = 1};
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world->host = step_host_create(options != NULL ? options : &plain);
    struct reactor_options reactor = {.name = "server", .cpu = -1};
    assert_int_equal(reactor_create(world->host, &reactor, &world->at_server), 0);
    reactor.name = "client";
    assert_int_equal(reactor_create(world->host, &reactor, &world->at_client), 0);
    server_open(world, server);
    channel_open(world, 0, false);
    channel_open(world, 1, true);
    assert_int_equal(reactor_start(world->at_server), 0);
    assert_int_equal(reactor_start(world->at_client), 0);
    return world;
}

static void run_for(struct world *world, uint64_t ns) { (void)step_host_run(world->host, NULL, NULL, ns); }

static void on_stopped(void *arg) { ((struct world *)arg)->stopped = true; }

static void server_stop(struct world *world, uint64_t grace_ms) {
    reactor_enter(world->at_server);
    grpc_server_stop(world->server, grace_ms, on_stopped, world);
    reactor_enter(NULL);
}

static bool is_stopped(void *arg) { return ((struct world *)arg)->stopped; }

static void server_close(struct world *world) {
    assert_true(step_host_run(world->host, is_stopped, world, 60 * NS_PER_S));
    world->stopped = false;
    reactor_enter(world->at_server);
    grpc_health_destroy(world->health);
    grpc_reflection_destroy(world->reflection);
    grpc_server_destroy(world->server);
    reactor_enter(NULL);
    world->server = NULL;
}

static void channel_close(struct world *world, unsigned index) {
    reactor_enter(world->at_client);
    if (world->channels[index] != NULL)
        grpc_channel_destroy(world->channels[index]);
    world->channels[index] = NULL;
    reactor_enter(NULL);
}

static void world_destroy(struct world *world) {
    for (unsigned i = 0; i < CHANNELS; i++)
        channel_close(world, i);
    if (world->server != NULL) {
        server_stop(world, 1000);
        server_close(world);
    }
    run_for(world, NS_PER_S);
    reactor_destroy(world->at_client);
    reactor_destroy(world->at_server);
    step_host_destroy(world->host);
    free(world);
}

/* ---- calls ---- */

struct caller {
    struct grpc_channel_call call;
    unsigned messages, dones;
    enum grpc_status status;
    char why[GRPC_LIMIT_TEXT], text[64];
    void (*look)(struct caller *caller, const ProtobufCMessage *got);
    char seen[256];
};

static void on_message(struct grpc_call *call, const ProtobufCMessage *got) {
    struct caller *caller = call->arg;
    caller->messages++;
    if (caller->look != NULL)
        caller->look(caller, got);
    else
        snprintf(caller->text, sizeof(caller->text), "%s", ((const Words *)got)->text);
}

static void on_done(struct grpc_call *call) {
    struct caller *caller = call->arg;
    caller->dones++;
    caller->status = call->status;
    snprintf(caller->why, sizeof(caller->why), "%s", call->text);
}

static void prepare(struct world *world, struct caller *caller, unsigned channel, enum grpc_kind kind, const char *path,
                    const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    memset(caller, 0, sizeof(*caller));
    grpc_channel_prepare(world->channels[channel], &caller->call, kind, path, receives, timeout_ms);
    caller->call.call.arg = caller;
    caller->call.call.message = on_message;
    caller->call.call.done = on_done;
}

static void go(struct world *world, struct caller *caller, const ProtobufCMessage *message) {
    reactor_enter(world->at_client);
    (void)grpc_call_send(&caller->call.call, message);
    grpc_channel_start(caller->call.channel, &caller->call);
    reactor_enter(NULL);
    assert_int_equal(caller->dones, 0);
}

static void call(struct world *world, struct caller *caller, unsigned channel, enum grpc_kind kind, const char *path,
                 uint64_t number, uint64_t timeout_ms) {
    Words words = WORDS_INIT;
    words.text = (char *)(uintptr_t) "hello";
    words.number = number;
    words.size = 1000;
    prepare(world, caller, channel, kind, path, WORDS, timeout_ms);
    go(world, caller, &words.base);
}

static bool is_done(void *arg) { return ((struct caller *)arg)->dones > 0; }

static void expect(struct world *world, struct caller *caller, enum grpc_status status) {
    if (!step_host_run(world->host, is_done, caller, 300 * NS_PER_S))
        fail_msg("the call does not end");
    if (caller->status != status)
        fail_msg("%s: %s", grpc_status_name(caller->status), caller->why);
    assert_int_equal(caller->dones, 1);
}

static void calls_cross_tcp_and_unix(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct step_host_options options = {
            .seed = seed, .read_max = 700, .write_max = 700, .random_sizes = true, .window_bytes = 4096};
        struct world *world = world_create(&options, NULL);
        for (unsigned channel = 0; channel < 2; channel++) {
            struct caller say, count, fail;
            call(world, &say, channel, GRPC_UNARY, ECHO_PATH("Say"), 1, 0);
            call(world, &count, channel, GRPC_SERVER_STREAM, ECHO_PATH("Count"), 50, 0);
            call(world, &fail, channel, GRPC_UNARY, ECHO_PATH("Fail"), 9, 0);
            expect(world, &say, GRPC_OK);
            assert_string_equal(say.text, "hello");
            expect(world, &count, GRPC_OK);
            assert_int_equal(count.messages, 50);
            expect(world, &fail, GRPC_FAILED_PRECONDITION);
        }
        assert_int_equal(step_host_connections(world->host), 2);
        world_destroy(world);
    }
}

/* ---- health, reflection ---- */

static void look_health(struct caller *caller, const ProtobufCMessage *got) {
    size_t used = strlen(caller->seen);
    snprintf(caller->seen + used, sizeof(caller->seen) - used, "%d ",
             (int)((const Grpc__Health__V1__HealthCheckResponse *)got)->status);
}

static void health_is_told_and_watched(void **state) {
    (void)state;
    struct world *world = world_create(NULL, NULL);
    struct caller check, watch;
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    prepare(world, &check, 0, GRPC_UNARY, "/grpc.health.v1.Health/Check", &grpc__health__v1__health_check_response__descriptor,
            0);
    check.look = look_health;
    go(world, &check, &request.base);
    expect(world, &check, GRPC_OK);
    assert_string_equal(check.seen, "1 ");
    request.service = (char *)(uintptr_t) "x";
    prepare(world, &check, 0, GRPC_UNARY, "/grpc.health.v1.Health/Check", &grpc__health__v1__health_check_response__descriptor,
            0);
    go(world, &check, &request.base);
    expect(world, &check, GRPC_NOT_FOUND);
    prepare(world, &watch, 0, GRPC_SERVER_STREAM, "/grpc.health.v1.Health/Watch",
            &grpc__health__v1__health_check_response__descriptor, 0);
    watch.look = look_health;
    go(world, &watch, &request.base);
    run_for(world, NS_PER_MS);
    reactor_enter(world->at_server);
    assert_true(grpc_health_set(world->health, "x", true));
    assert_true(grpc_health_set(world->health, "y", true));
    assert_true(grpc_health_set(world->health, "x", true));
    assert_true(grpc_health_set(world->health, "x", false));
    reactor_enter(NULL);
    run_for(world, NS_PER_MS);
    assert_string_equal(watch.seen, "3 1 2 ");
    assert_int_equal(watch.dones, 0);
    reactor_enter(world->at_client);
    grpc_channel_cancel(&watch.call);
    reactor_enter(NULL);
    run_for(world, NS_PER_MS);
    world_destroy(world);
}

static void look_reflection(struct caller *caller, const ProtobufCMessage *got) {
    const Grpc__Reflection__V1__ServerReflectionResponse *response = (const Grpc__Reflection__V1__ServerReflectionResponse *)got;
    size_t used = strlen(caller->seen);
    char *to = caller->seen + used;
    size_t size = sizeof(caller->seen) - used;
    if (response->message_response_case ==
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE)
        snprintf(to, size, "%zu services ", response->list_services_response->n_service);
    else if (response->message_response_case ==
             GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE)
        snprintf(to, size, "%zu files ", response->file_descriptor_response->n_file_descriptor_proto);
    else if (response->message_response_case == GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE)
        snprintf(to, size, "error %d ", response->error_response->error_code);
    else
        snprintf(to, size, "other ");
}

static void reflection_names_services_and_files(void **state) {
    (void)state;
    static const char *const paths[] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
    struct world *world = world_create(NULL, NULL);
    for (size_t i = 0; i < array_count(paths); i++) {
        struct caller caller;
        prepare(world, &caller, 1, GRPC_BIDIRECTIONAL, paths[i], &grpc__reflection__v1__server_reflection_response__descriptor,
                0);
        caller.look = look_reflection;
        static const char *const symbols[] = {"grpc.health.v1.Health", "grpc.health.v1.Health.Watch",
                                              "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc.health.v1.Nothing"};
        Grpc__Reflection__V1__ServerReflectionRequest request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
        request.message_request_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
        request.list_services = (char *)(uintptr_t) "*";
        go(world, &caller, &request.base);
        reactor_enter(world->at_client);
        request.message_request_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
        for (size_t j = 0; j < array_count(symbols); j++) {
            request.file_containing_symbol = (char *)(uintptr_t)symbols[j];
            (void)grpc_call_send(&caller.call.call, &request.base);
        }
        request.message_request_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME;
        request.file_by_filename = (char *)(uintptr_t) "grpc/reflection/v1alpha/reflection.proto";
        (void)grpc_call_send(&caller.call.call, &request.base);
        grpc_call_send_end(&caller.call.call);
        reactor_enter(NULL);
        expect(world, &caller, GRPC_OK);
        assert_string_equal(caller.seen, "3 services 1 files 1 files 1 files error 5 1 files ");
    }
    world_destroy(world);
}

/* ---- losses ---- */

static void a_reset_ends_calls_and_the_next_call_connects_again(void **state) {
    (void)state;
    struct world *world = world_create(NULL, NULL);
    struct caller hold, say;
    call(world, &hold, 0, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
    run_for(world, 10 * NS_PER_MS);
    assert_int_equal(world->echo.running, 1);
    step_host_reset(world->host, 0);
    expect(world, &hold, GRPC_UNAVAILABLE);
    run_for(world, 10 * NS_PER_MS);
    assert_int_equal(world->echo.running, 0);
    call(world, &say, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &say, GRPC_OK);
    assert_int_equal(step_host_connections(world->host), 2);
    world_destroy(world);
}

static void without_a_server_calls_fail_or_wait(void **state) {
    (void)state;
    struct world *world = world_create(NULL, NULL);
    struct caller quick, patient, late;
    step_host_refuse(world->host, true, false);
    call(world, &quick, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &quick, GRPC_UNAVAILABLE);
    Words words = WORDS_INIT;
    prepare(world, &patient, 0, GRPC_UNARY, ECHO_PATH("Say"), WORDS, 60000);
    patient.call.wait_ready = true;
    go(world, &patient, &words.base);
    prepare(world, &late, 0, GRPC_UNARY, ECHO_PATH("Say"), WORDS, 500);
    late.call.wait_ready = true;
    go(world, &late, &words.base);
    expect(world, &late, GRPC_DEADLINE_EXCEEDED);
    run_for(world, 5 * NS_PER_S);
    assert_int_equal(patient.dones, 0);
    step_host_refuse(world->host, false, false);
    expect(world, &patient, GRPC_OK);
    /* One waits for the next attempt, another ends by what was so before it. */
    channel_close(world, 0);
    channel_open(world, 0, false);
    step_host_refuse(world->host, true, false);
    call(world, &quick, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &quick, GRPC_UNAVAILABLE);
    step_host_refuse(world->host, false, false);
    prepare(world, &patient, 0, GRPC_UNARY, ECHO_PATH("Say"), WORDS, 60000);
    patient.call.wait_attempt = true;
    call(world, &quick, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    go(world, &patient, &words.base);
    expect(world, &quick, GRPC_UNAVAILABLE);
    assert_int_equal(patient.dones, 0);
    expect(world, &patient, GRPC_OK);
    /* A connect that is never answered. */
    channel_close(world, 0);
    channel_open(world, 0, false);
    step_host_refuse(world->host, false, true);
    uint64_t began_ns = step_host_now_ns(world->host);
    call(world, &quick, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &quick, GRPC_UNAVAILABLE);
    assert_true(step_host_now_ns(world->host) - began_ns <= 11 * NS_PER_S);
    world_destroy(world);
}

static void a_stalled_peer_is_found_out(void **state) {
    (void)state;
    struct world *world = world_create(NULL, NULL);
    struct caller hold;
    call(world, &hold, 0, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
    run_for(world, 10 * NS_PER_MS);
    step_host_stall_all(world->host, true);
    uint64_t began_ns = step_host_now_ns(world->host);
    expect(world, &hold, GRPC_UNAVAILABLE);
    assert_true(step_host_now_ns(world->host) - began_ns <= 51 * NS_PER_S);
    step_host_stall_all(world->host, false);
    run_for(world, 60 * NS_PER_S);
    assert_int_equal(world->echo.running, 0);
    world_destroy(world);
}

/* ---- the end ---- */

static void a_stop_waits_for_calls_for_a_while(void **state) {
    (void)state;
    struct world *world = world_create(NULL, NULL);
    struct caller hold, stuck, late;
    call(world, &hold, 0, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
    run_for(world, 10 * NS_PER_MS);
    server_stop(world, 5000);
    run_for(world, 100 * NS_PER_MS);
    assert_false(world->stopped);
    call(world, &late, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &late, GRPC_UNAVAILABLE); /* nobody listens */
    reactor_enter(world->at_server);
    echo_release(&world->echo);
    reactor_enter(NULL);
    expect(world, &hold, GRPC_OK);
    server_close(world);
    /* And one that nobody releases. */
    server_open(world, NULL);
    run_for(world, NS_PER_S);
    call(world, &stuck, 0, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
    run_for(world, 100 * NS_PER_MS);
    assert_int_equal(world->echo.running, 1);
    world->echo.keep_cancelled = true;
    server_stop(world, 2000);
    expect(world, &stuck, GRPC_UNAVAILABLE);
    assert_string_equal(stuck.why, "the server ends");
    run_for(world, 10 * NS_PER_S);
    assert_false(world->stopped); /* its handler has not let go */
    reactor_enter(world->at_server);
    echo_release(&world->echo);
    reactor_enter(NULL);
    server_close(world);
    world_destroy(world);
}

/* ---- places and memory ---- */

static void an_idle_connection_makes_place_and_a_busy_one_does_not(void **state) {
    (void)state;
    struct grpc_server_options options = {.connections = 3};
    struct world *world = world_create(NULL, &options);
    struct caller holds[3], say;
    for (unsigned i = 2; i < 8; i++)
        channel_open(world, i, false);
    for (unsigned i = 2; i < 5; i++) { /* each holds a connection without calls */
        call(world, &say, i, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
        expect(world, &say, GRPC_OK);
        run_for(world, NS_PER_MS);
    }
    struct grpc_server_stats stats;
    for (unsigned i = 0; i < 3; i++) {
        call(world, &holds[i], i + 5, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
        run_for(world, 10 * NS_PER_MS);
        grpc_server_stats(world->server, &stats);
        assert_int_equal(stats.connections, 3);
        assert_int_equal(stats.evicted, i + 1);
        assert_int_equal(world->echo.running, i + 1);
    }
    call(world, &say, 2, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &say, GRPC_UNAVAILABLE);
    grpc_server_stats(world->server, &stats);
    assert_true(stats.refused >= 1);
    call(world, &say, 1, GRPC_UNARY, ECHO_PATH("Say"), 0, 0); /* the other listener has its own places */
    expect(world, &say, GRPC_OK);
    reactor_enter(world->at_server);
    echo_release(&world->echo);
    reactor_enter(NULL);
    for (unsigned i = 0; i < 3; i++)
        expect(world, &holds[i], GRPC_OK);
    world_destroy(world);
}

static void ignore(void *arg, unsigned events) { (void)arg, (void)events; }

static void strangers_do_not_keep_others_out(void **state) {
    (void)state;
    struct grpc_server_options options = {.connections = 20, .strangers = 4};
    struct world *world = world_create(NULL, &options);
    struct host_socket *sockets[30];
    struct caller say;
    for (unsigned i = 0; i < 30; i++) {
        struct host_address to = loopback;
        struct error error;
        to.port = world->port;
        reactor_enter(world->at_client);
        sockets[i] = host_connect(world->at_client->loop, &to, NULL, ignore, NULL, &error);
        reactor_enter(NULL);
        assert_non_null(sockets[i]);
        run_for(world, NS_PER_MS);
    }
    struct grpc_server_stats stats;
    grpc_server_stats(world->server, &stats);
    assert_int_equal(stats.connections, 4);
    call(world, &say, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
    expect(world, &say, GRPC_OK);
    run_for(world, 11 * NS_PER_S); /* those that say nothing go by themselves */
    grpc_server_stats(world->server, &stats);
    assert_int_equal(stats.connections, 1);
    reactor_enter(world->at_client);
    for (unsigned i = 0; i < 30; i++)
        host_socket_close(sockets[i]);
    reactor_enter(NULL);
    world_destroy(world);
}

static void who_holds_most_goes_when_memory_is_used_up(void **state) {
    (void)state;
    struct grpc_server_options options = {.memory_bytes = MIB(8)};
    struct world *world = world_create(NULL, &options);
    struct caller greedy[40], modest;
    uint8_t *data = calloc(1, MIB(1));
    channel_open(world, 2, false);
    call(world, &modest, 2, GRPC_UNARY, ECHO_PATH("Hold"), 0, 0);
    run_for(world, 10 * NS_PER_MS);
    for (unsigned i = 0; i < 40; i++) {
        Words words = WORDS_INIT;
        words.data = (ProtobufCBinaryData){MIB(1), data};
        prepare(world, &greedy[i], 0, GRPC_UNARY, ECHO_PATH("Hold"), WORDS, 0);
        go(world, &greedy[i], &words.base);
    }
    run_for(world, NS_PER_S);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(greedy[i].dones, 1);
    assert_int_equal(modest.dones, 0);
    struct grpc_server_stats stats;
    grpc_server_stats(world->server, &stats);
    assert_true(stats.evicted >= 1);
    assert_int_equal(stats.calls_now, 1);
    reactor_enter(world->at_server);
    echo_release(&world->echo);
    reactor_enter(NULL);
    expect(world, &modest, GRPC_OK);
    free(data);
    world_destroy(world);
}

/* ---- TLS ---- */

struct authority {
    struct certificate ca, server, client, other_ca, stranger, expired;
};

static void authority_make(struct authority *authority) {
    const int64_t end = 4000000000;
    certificate_make(&authority->ca, "ca", NULL, 0, end);
    certificate_make(&authority->other_ca, "ca", NULL, 0, end);
    certificate_make(&authority->server, "server.test", &authority->ca, 0, end);
    certificate_make(&authority->client, "client.test", &authority->ca, 0, end);
    certificate_make(&authority->stranger, "client.test", &authority->other_ca, 0, end);
    certificate_make(&authority->expired, "client.test", &authority->ca, -1000, -500);
}

static void authority_free(struct authority *authority) {
    struct certificate *all = &authority->ca;
    for (size_t i = 0; i < sizeof(*authority) / sizeof(*all); i++)
        certificate_free(&all[i]);
}

static struct tls_context *context_of(bool server, const struct certificate *ca, const struct certificate *own,
                                      const char *name) {
    struct tls_options options = {.server = server,
                                  .ca_pem = ca->certificate_pem,
                                  .certificate_pem = own->certificate_pem,
                                  .key_pem = own->key_pem,
                                  .peer_name = name};
    struct tls_context *context = NULL;
    struct error error;
    if (!tls_context_create(&options, &context, &error))
        fail_msg("%s", error.text);
    return context;
}

static void tls_admits_who_should_be_admitted(void **state) {
    (void)state;
    struct authority a;
    authority_make(&a);
    const struct {
        const struct certificate *ca, *own;
        const char *name, *client_name;
        bool ok;
    } cases[] = {
        {&a.ca, &a.client, "server.test", NULL, true},         {&a.ca, &a.client, NULL, "client.test", true},
        {&a.ca, &a.client, "another.test", NULL, false},       /* the server is someone else */
        {&a.ca, &a.client, "server.test", "boss.test", false}, /* the client is someone else */
        {&a.other_ca, &a.client, "server.test", NULL, false},  /* the client does not trust the server */
        {&a.ca, &a.stranger, "server.test", NULL, false},      /* the server does not trust the client */
        {&a.ca, &a.expired, "server.test", NULL, false},
    };
    for (size_t i = 0; i < array_count(cases); i++)
        for (unsigned small = 0; small < 2; small++) {
            struct step_host_options options = {
                .seed = 3, .read_max = small != 0 ? 50 : 0, .write_max = small != 0 ? 50 : 0, .random_sizes = true};
            struct world *world = world_create(&options, NULL);
            server_stop(world, 0);
            server_close(world);
            world->server_tls = context_of(true, &a.ca, &a.server, cases[i].client_name);
            world->client_tls = context_of(false, cases[i].ca, cases[i].own, cases[i].name);
            world->port = 0;
            server_open(world, NULL);
            channel_close(world, 0);
            channel_open(world, 0, false);
            struct caller say, count;
            call(world, &say, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
            expect(world, &say, cases[i].ok ? GRPC_OK : GRPC_UNAVAILABLE);
            if (cases[i].ok) {
                call(world, &count, 0, GRPC_SERVER_STREAM, ECHO_PATH("Count"), 300, 0);
                expect(world, &count, GRPC_OK);
                assert_int_equal(count.messages, 300);
            }
            assert_int_equal(world->echo.running, 0);
            struct tls_context *contexts[] = {world->server_tls, world->client_tls};
            world_destroy(world);
            tls_context_destroy(contexts[0]);
            tls_context_destroy(contexts[1]);
        }
    authority_free(&a);
}

static void a_plain_client_finds_no_tls_server_and_the_other_way_round(void **state) {
    (void)state;
    struct authority a;
    authority_make(&a);
    for (unsigned server_has_it = 0; server_has_it < 2; server_has_it++) {
        struct world *world = world_create(NULL, NULL);
        struct tls_context *context = context_of(server_has_it, &a.ca, &a.server, NULL);
        if (server_has_it) {
            server_stop(world, 0);
            server_close(world);
            world->server_tls = context;
            world->port = 0;
            server_open(world, NULL);
        } else {
            world->client_tls = context;
        }
        channel_close(world, 0);
        channel_open(world, 0, false);
        struct caller say;
        call(world, &say, 0, GRPC_UNARY, ECHO_PATH("Say"), 0, 0);
        expect(world, &say, GRPC_UNAVAILABLE);
        world_destroy(world);
        tls_context_destroy(context);
    }
    authority_free(&a);
}

static void unfit_certificates_are_named(void **state) {
    (void)state;
    struct authority a;
    authority_make(&a);
    struct tls_context *context;
    struct error error;
    struct tls_options options = {.ca_pem = "nonsense", .certificate_pem = a.client.certificate_pem, .key_pem = a.client.key_pem};
    assert_false(tls_context_create(&options, &context, &error));
    assert_non_null(strstr(error.text, "CA certificate"));
    options.ca_pem = a.ca.certificate_pem;
    options.key_pem = a.server.key_pem; /* another's */
    assert_false(tls_context_create(&options, &context, &error));
    assert_non_null(strstr(error.text, "private key"));
    options.certificate_pem = "";
    assert_false(tls_context_create(&options, &context, &error));
    assert_non_null(strstr(error.text, "the certificate"));
    authority_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_cross_tcp_and_unix),
        cmocka_unit_test(health_is_told_and_watched),
        cmocka_unit_test(reflection_names_services_and_files),
        cmocka_unit_test(a_reset_ends_calls_and_the_next_call_connects_again),
        cmocka_unit_test(without_a_server_calls_fail_or_wait),
        cmocka_unit_test(a_stalled_peer_is_found_out),
        cmocka_unit_test(a_stop_waits_for_calls_for_a_while),
        cmocka_unit_test(an_idle_connection_makes_place_and_a_busy_one_does_not),
        cmocka_unit_test(strangers_do_not_keep_others_out),
        cmocka_unit_test(who_holds_most_goes_when_memory_is_used_up),
        cmocka_unit_test(tls_admits_who_should_be_admitted),
        cmocka_unit_test(a_plain_client_finds_no_tls_server_and_the_other_way_round),
        cmocka_unit_test(unfit_certificates_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
