/* The plane's socket under host/sim: many connections, clients that do not read, that go away, that speak no JSON. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "host/sim/sim.h"
#include "plane_rpc/plane.h"
#include "plane_rpc/rpc_methods.h"
#include "plane_rpc/server.h"

#define SOCKET_PATH "/run/plane.sock"
#define CLIENTS (RPC_CONNECTIONS_MAX + 6)

struct client {
    struct world *world;
    struct host_socket *socket;
    struct text to_send, received;
    size_t sent;
    bool closed;  /* by the server */
    bool dormant; /* does not read */
    bool close;   /* is to be closed */
};

struct world {
    struct sim *sim;
    struct host *server_host, *client_host;
    struct plane *plane;
    struct reactor *reactor;
    struct reactor_message message;
    bool posted;
    struct client clients[CLIENTS];
};

static void client_move(struct client *client) {
    char buffer[8192];
    struct slice slice;
    int64_t n = 1;
    while (client->socket != NULL && client->sent < client->to_send.length && n > 0) {
        slice = (struct slice){.base = client->to_send.bytes + client->sent, .length = client->to_send.length - client->sent};
        n = host_socket_write(client->socket, &slice, 1);
        client->sent += n > 0 ? (size_t)n : 0;
    }
    slice = (struct slice){.base = buffer, .length = sizeof(buffer)};
    while (client->socket != NULL && !client->dormant && (n = host_socket_read(client->socket, &slice, 1)) > 0)
        text_append(&client->received, buffer, (size_t)n);
    client->closed = client->closed || (!client->dormant && n <= 0 && n != -EAGAIN);
    if (client->close && client->socket != NULL) {
        host_socket_close(client->socket);
        client->socket = NULL;
    }
}

static void client_event(void *arg, unsigned events) {
    (void)events;
    client_move(arg);
}

static void move_all(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, message);
    world->posted = false;
    for (unsigned i = 0; i < CLIENTS; i++)
        client_move(&world->clients[i]);
}

/* Lets what was prepared happen, and half a virtual second pass. */
static void go(struct world *world) {
    if (!world->posted) {
        world->posted = true;
        reactor_post(world->reactor, &world->message);
    }
    sim_run_for(world->sim, NS_PER_S / 2);
}

static void world_init(struct world *world, unsigned clients) {
    static const int cpus[] = {-1};
    struct sim_options sim_options;
    struct error error;
    memset(world, 0, sizeof(*world));
    sim_options_init(&sim_options, 20261121);
    world->sim = sim_create(&sim_options);
    struct sim_node *node = sim_node_create(world->sim, "n", "10.0.0.1");
    world->server_host = sim_process_start(node);
    world->client_host = sim_process_start(node);
    struct plane_options options = {.host = world->server_host,
                                    .socket_path = SOCKET_PATH,
                                    .cpus = cpus,
                                    .cpu_count = 1,
                                    .version = "0",
                                    .table = &rpc_table_plane};
    if (!plane_create(&options, &world->plane, &error))
        fail_msg("%s", error.text);
    assert_int_equal(reactor_create(world->client_host, &(struct reactor_options){.name = "client", .cpu = -1}, &world->reactor),
                     0);
    world->message.run = move_all;
    reactor_enter(world->reactor);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct host_address address = {.family = HOST_UNIX, .text = SOCKET_PATH};
        world->clients[i].world = world;
        text_init(&world->clients[i].to_send, MIB(1));
        text_init(&world->clients[i].received, MIB(64));
        if (i < clients)
            world->clients[i].socket =
                host_connect(world->reactor->loop, &address, NULL, client_event, &world->clients[i], &error);
    }
    reactor_enter(NULL);
    assert_int_equal(reactor_start(world->reactor), 0);
    sim_run_for(world->sim, NS_PER_S / 10);
}

static bool has_ended(void *arg) { return ((struct world *)arg)->plane->stopped_empty; }

static void world_fini(struct world *world) {
    for (unsigned i = 0; i < CLIENTS; i++)
        world->clients[i].close = true;
    go(world);
    plane_stop(world->plane);
    assert_int_equal(sim_run_until(world->sim, has_ended, world, 20 * NS_PER_S, 0), SIM_MET);
    sim_run_for(world->sim, NS_PER_MS);
    plane_destroy(world->plane);
    reactor_destroy(world->reactor);
    sim_process_exit(world->client_host);
    sim_process_exit(world->server_host);
    sim_destroy(world->sim);
    for (unsigned i = 0; i < CLIENTS; i++) {
        text_fini(&world->clients[i].to_send);
        text_fini(&world->clients[i].received);
    }
}

static unsigned lines(const struct text *text) {
    unsigned count = 0;
    for (size_t i = 0; i < text->length; i++)
        count += text->bytes[i] == '\n';
    return count;
}

/* 64 are served; the others wait in the backlog, unharmed, until places become free. */
static void test_many(void **state) {
    (void)state;
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world_init(world, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        text_appendf(&world->clients[i].to_send, "{\"id\":%u,\"method\":\"log_get_level\"}", i);
    go(world);
    unsigned served = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        served += lines(&world->clients[i].received);
    assert_int_equal(served, RPC_CONNECTIONS_MAX);
    assert_int_equal(world->plane->rpc.connection_count, RPC_CONNECTIONS_MAX);
    for (unsigned i = 0; i < CLIENTS; i++)
        world->clients[i].close = lines(&world->clients[i].received) > 0 && i % 2 == 0;
    go(world);
    for (unsigned i = 0; i < CLIENTS; i++) {
        char expected[80];
        snprintf(expected, sizeof(expected), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":\"NOTICE\"}\n", i);
        assert_string_equal(world->clients[i].received.bytes, expected);
        assert_false(world->clients[i].closed);
    }
    world_fini(world);
    free(world);
}

/* Who does not read is not read after a while, holds nobody up, and gets every answer in the end. */
static void test_dormant(void **state) {
    (void)state;
    enum { REQUESTS = 6000 };
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world_init(world, 2);
    struct client *dormant = &world->clients[0], *other = &world->clients[1];
    dormant->dormant = true;
    for (unsigned i = 0; i < REQUESTS; i++)
        text_appendf(&dormant->to_send, "{\"id\":%u,\"method\":\"rpc_get_methods\"}", i);
    go(world);
    assert_true(world->plane->rpc.requests < REQUESTS); /* the server has stopped to read */
    const struct rpc_connection *connection = list_entry(list_first(&world->plane->rpc.connections), struct rpc_connection, node);
    assert_true(connection->output_bytes >= world->plane->rpc.limits.output_pause);
    assert_true(connection->output_bytes < world->plane->rpc.limits.output_pause + KIB(64));
    text_append_string(&other->to_send, "{\"id\":1,\"method\":\"log_get_level\"}");
    go(world);
    assert_int_equal(lines(&other->received), 1);
    dormant->dormant = false;
    for (unsigned i = 0; i < 60 && lines(&dormant->received) < REQUESTS; i++)
        go(world);
    assert_int_equal(lines(&dormant->received), REQUESTS);
    world_fini(world);
    free(world);
}

/* What is no JSON ends its own connection; a client that goes leaves its operation running and harms nobody. */
static void test_bad(void **state) {
    (void)state;
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world_init(world, 4);
    text_append_string(&world->clients[0].to_send, "{\"id\":1,\"method\":\"log_get_level\"}garbage");
    text_append_string(&world->clients[1].to_send,
                       "{\"id\":1,\"method\":\"bdev_get_bdevs\",\"params\":{\"name\":\"late\",\"timeout\":60000}}");
    for (unsigned i = 0; i < 70000; i++) /* a document without an end */
        text_append_string(&world->clients[2].to_send, "[[],[],[],[],[");
    text_append_string(&world->clients[3].to_send, "{\"id\":3,\"method\":\"log_get_level\"}");
    go(world);
    assert_true(world->clients[0].closed && world->clients[2].closed);
    assert_int_equal(lines(&world->clients[2].received), 0);
    assert_false(world->clients[1].closed || world->clients[3].closed);
    assert_int_equal(lines(&world->clients[3].received), 1);
    assert_int_equal(world->plane->rpc.call_count, 1);
    world->clients[1].close = true;
    go(world);
    assert_int_equal(world->plane->rpc.connection_count, 1);
    assert_int_equal(world->plane->rpc.call_count, 1); /* it waits on, unheard */
    text_append_string(
        &world->clients[3].to_send,
        "{\"id\":4,\"method\":\"bdev_null_create\",\"params\":{\"name\":\"late\",\"block_size\":512,\"num_blocks\":8}}");
    go(world);
    assert_int_equal(lines(&world->clients[3].received), 2);
    assert_int_equal(world->plane->rpc.call_count, 0);
    world_fini(world);
    free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_many), cmocka_unit_test(test_dormant), cmocka_unit_test(test_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
