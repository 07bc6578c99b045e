/* A server and three clients in the simulated network, over many seeds: splits, short writes, delays, resets and stalls. Each
 * call ends exactly once with a status that can be, streams have no gaps, and when all is over nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "grpc/channel.h"
#include "grpc/server.h"
#include "grpc_echo.h"
#include "host/sim/sim.h"

#define CLIENTS 3
#define CALLS 40 /* of each */
#define SEEDS 300

struct world;

struct call {
    struct grpc_channel_call call;
    struct client *client;
    unsigned dones;
    uint64_t expected; /* the next number of a stream */
    bool gap;
    enum grpc_status status;
};

struct client {
    struct world *world;
    struct host *host;
    struct reactor *reactor;
    struct reactor_message message;
    struct reactor_timer timer;
    struct grpc_channel *channel;
    struct random random;
    struct call calls[CALLS];
    unsigned started, done, ok;
    bool closed;
};

struct world {
    struct sim *sim;
    struct host *host;
    struct reactor *reactor;
    struct reactor_message message;
    struct reactor_timer timer;
    struct grpc_server *server;
    struct echo echo;
    struct client clients[CLIENTS];
    struct random random;
    bool calm; /* no more faults */
    bool stopped;
};

static void on_message(struct grpc_call *grpc, const ProtobufCMessage *got) {
    struct call *call = grpc->arg;
    if (call->call.call.kind != GRPC_SERVER_STREAM)
        return;
    call->gap = call->gap || ((const Words *)got)->number != call->expected;
    call->expected--;
}

static void on_done(struct grpc_call *grpc) {
    struct call *call = grpc->arg;
    call->dones++;
    call->status = grpc->status;
    call->client->done++;
    call->client->ok += grpc->status == GRPC_OK;
}

static void start_one(struct client *client) {
    static const char *const paths[] = {ECHO_PATH("Say"), ECHO_PATH("Count"), ECHO_PATH("Hold"), ECHO_PATH("Chat")};
    static const enum grpc_kind kinds[] = {GRPC_UNARY, GRPC_SERVER_STREAM, GRPC_UNARY, GRPC_BIDIRECTIONAL};
    static uint8_t data[4000];
    struct call *call = &client->calls[client->started++];
    unsigned which = (unsigned)random_below(&client->random, array_count(paths));
    Words words = WORDS_INIT;
    call->client = client;
    words.number = call->expected = 1 + random_below(&client->random, 60);
    words.size = random_below(&client->random, 8000);
    words.data = (ProtobufCBinaryData){(size_t)random_below(&client->random, sizeof(data)), data};
    grpc_channel_prepare(client->channel, &call->call, kinds[which], paths[which], WORDS, which == 2 ? 2000 : 100000);
    call->call.wait_ready = random_chance(&client->random, 1, 2);
    call->call.call.arg = call;
    call->call.call.message = on_message;
    call->call.call.done = on_done;
    (void)grpc_call_send(&call->call.call, &words.base);
    if (kinds[which] == GRPC_BIDIRECTIONAL)
        grpc_call_send_end(&call->call.call);
    grpc_channel_start(client->channel, &call->call);
}

static void client_tick(struct reactor_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    if (client->started == CALLS)
        return;
    start_one(client);
    reactor_timer_start(client->reactor, timer, reactor_now_ns(client->reactor) + random_below(&client->random, 500 * NS_PER_MS));
}

static void client_begin(struct reactor_message *message) {
    struct client *client = container_of(message, struct client, message);
    struct grpc_channel_options options = {.reactor = client->reactor,
                                           .address = {.family = HOST_IPV4, .port = 8504, .text = "10.0.0.1"}};
    client->channel = grpc_channel_create(&options);
    assert_non_null(client->channel);
    client->timer.run = client_tick;
    client_tick(&client->timer);
}

static void client_end(struct reactor_message *message) {
    struct client *client = container_of(message, struct client, message);
    grpc_channel_destroy(client->channel);
    client->closed = true;
}

static void server_begin(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, message);
    struct grpc_server_options options = {.reactor = world->reactor};
    struct grpc_listen_options listen = {.address = {.family = HOST_IPV4, .port = 8504, .text = "10.0.0.1"}};
    struct error error;
    echo_init(&world->echo);
    world->server = grpc_server_create(&options);
    assert_true(world->server != NULL && grpc_server_add(world->server, &echo_service, &world->echo));
    if (!grpc_server_listen(world->server, &listen, NULL, &error))
        fail_msg("%s", error.text);
}

static void on_stopped(void *arg) { ((struct world *)arg)->stopped = true; }
static void server_end(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, message);
    grpc_server_stop(world->server, 1000, on_stopped, world);
}

/* Every now and then each living connection is reset (at both ends or one), stands still, or goes on. */
static void fault(void *arg) {
    struct world *world = arg;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(world->sim, c)) != NULL && !world->calm;) {
        enum sim_direction direction = (enum sim_direction)random_below(&world->random, 2);
        switch (random_below(&world->random, 8)) {
        case 0: sim_connection_reset(c); break;
        case 1: sim_connection_reset_one(c, direction); break;
        case 2: sim_connection_stall(c, direction, true); break;
        case 3:
        case 4:
        case 5: sim_connection_stall(c, direction, false); break;
        default: break;
        }
    }
    if (!world->calm)
        sim_at(world->sim, sim_now_ns(world->sim) + 1 + random_below(&world->random, 3 * NS_PER_S), fault, world);
}

static bool all_done(void *arg) {
    struct world *world = arg;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (world->clients[i].done < CALLS)
            return false;
    return true;
}
static bool all_closed(void *arg) {
    struct world *world = arg;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (!world->clients[i].closed)
            return false;
    return true;
}
static bool is_stopped(void *arg) { return ((struct world *)arg)->stopped; }

static void wait_for(struct world *world, uint64_t seed, bool (*condition)(void *arg), const char *what) {
    enum sim_end end = sim_run_until(world->sim, condition, world, 1000 * NS_PER_S, 0);
    if (end != SIM_MET)
        fail_msg("seed %llu: %s: %s", (unsigned long long)seed, what, sim_end_name(end));
}

static void run(uint64_t seed, unsigned *ok, unsigned *lost) {
    struct world *world = calloc(1, sizeof(*world));
    struct sim_options options;
    assert_non_null(world);
    sim_options_init(&options, seed);
    options.remote.short_write_one_in = 5;
    options.remote.late_one_in = 50;
    options.remote.late_ns = 3 * NS_PER_S;
    world->sim = sim_create(&options);
    random_init(&world->random, seed);
    sim_at(world->sim, sim_now_ns(world->sim) + NS_PER_S, fault, world);
    struct reactor_options reactor = {.name = "grpc", .cpu = -1};
    world->host = sim_process_start(sim_node_create(world->sim, "server", "10.0.0.1"));
    assert_int_equal(reactor_create(world->host, &reactor, &world->reactor), 0);
    world->message.run = server_begin;
    reactor_post(world->reactor, &world->message);
    assert_int_equal(reactor_start(world->reactor), 0);
    sim_run_for(world->sim, NS_PER_MS * 10);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &world->clients[i];
        char name[16], address[24];
        snprintf(name, sizeof(name), "client%u", i);
        snprintf(address, sizeof(address), "10.0.0.%u", i + 2);
        client->world = world;
        random_init(&client->random, seed * 10 + i);
        client->host = sim_process_start(sim_node_create(world->sim, name, address));
        assert_int_equal(reactor_create(client->host, &reactor, &client->reactor), 0);
        client->message.run = client_begin;
        reactor_post(client->reactor, &client->message);
        assert_int_equal(reactor_start(client->reactor), 0);
    }
    wait_for(world, seed, all_done, "not all calls end");
    world->calm = true;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(world->sim, c)) != NULL;)
        for (unsigned direction = 0; direction < 2; direction++)
            sim_connection_stall(c, (enum sim_direction)direction, false);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &world->clients[i];
        *ok += client->ok;
        for (unsigned j = 0; j < CALLS; j++) {
            const struct call *call = &client->calls[j];
            bool fine = call->dones == 1 && !call->gap &&
                        (call->status == GRPC_OK || call->status == GRPC_UNAVAILABLE || call->status == GRPC_DEADLINE_EXCEEDED) &&
                        !(call->call.call.kind == GRPC_SERVER_STREAM && call->status == GRPC_OK && call->expected != 0);
            if (!fine)
                fail_msg("seed %llu: client %u call %u: %u times, %s, gap %d", (unsigned long long)seed, i, j, call->dones,
                         grpc_status_name(call->status), call->gap);
            *lost += call->status == GRPC_UNAVAILABLE;
        }
        client->message.run = client_end;
        reactor_post(client->reactor, &client->message);
    }
    wait_for(world, seed, all_closed, "not all channels close");
    world->message.run = server_end;
    reactor_post(world->reactor, &world->message);
    wait_for(world, seed, is_stopped, "the server does not stop");
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(world->echo.running, 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        reactor_destroy(world->clients[i].reactor);
        sim_process_exit(world->clients[i].host);
    }
    reactor_enter(world->reactor);
    grpc_server_destroy(world->server);
    reactor_enter(NULL);
    reactor_destroy(world->reactor);
    sim_process_exit(world->host);
    sim_destroy(world->sim);
    free(world);
}

static void calls_end_once_whatever_the_network_does(void **state) {
    (void)state;
    unsigned ok = 0, lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed, &ok, &lost);
    printf("note: %u seeds, %u calls ended well, %u with their connection\n", (unsigned)SEEDS, ok, lost);
    assert_true(ok > SEEDS * CLIENTS * CALLS / 3 && lost > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(calls_end_once_whatever_the_network_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
