/* Whose a node's name is: several owners on one store in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/owner.h"
#include "control/store/memory/memory.h"
#include "support/step_host.h"

enum { OWNERS = 3 };

struct daemon {
    struct control_owner *owner;
    bool taken, lost, stopped;
};

struct world {
    struct host *host;
    struct reactor *reactor;
    struct log log;
    struct store_memory_data *data;
    struct store *store;
    struct daemon daemons[OWNERS];
    unsigned warnings;
    bool refuses; /* to write */
    bool closed;
};

static uint64_t no_clock(void *arg) {
    (void)arg;
    return 0;
}

static void count_record(void *arg, const struct log_record *record) {
    (void)record;
    ((struct world *)arg)->warnings++;
}

static void on_taken(void *arg) { ((struct daemon *)arg)->taken = true; }
static void on_lost(void *arg, const struct error *error) {
    assert_int_equal(error->code, ERROR_EXISTS);
    ((struct daemon *)arg)->lost = true;
}
static void on_stopped(void *arg) { ((struct daemon *)arg)->stopped = true; }
static void on_closed(void *arg) { ((struct world *)arg)->closed = true; }
static enum store_memory_fault refuse(void *arg, const struct store_request *request) {
    bool writes = request->verb == STORE_TRANSACT || request->verb == STORE_LEASE_GRANT;
    return writes && ((struct world *)arg)->refuses ? STORE_MEMORY_REFUSE : STORE_MEMORY_FINE;
}

static bool is_taken(void *arg) { return ((struct daemon *)arg)->taken; }
static bool is_stopped(void *arg) { return ((struct daemon *)arg)->stopped; }
static bool is_closed(void *arg) { return ((struct world *)arg)->closed; }

static void world_begin(struct world *world) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    struct step_host_options host = {.seed = 1};
    *world = (struct world){.host = step_host_create(&host), .data = store_memory_data_create()};
    assert_int_equal(reactor_create(world->host, &options, &world->reactor), 0);
    log_init(&world->log, no_clock, count_record, world);
    struct store_memory_options store = {
        .store = {.reactor = world->reactor}, .data = world->data, .fault = refuse, .fault_arg = world};
    world->store = store_memory_create(&store);
    assert_int_equal(reactor_start(world->reactor), 0);
}

static void start(struct world *world, unsigned i, const char *node, const char *id) {
    struct daemon *daemon = &world->daemons[i];
    struct control_owner_options options = {.reactor = world->reactor,
                                            .log = &world->log,
                                            .store = world->store,
                                            .node = node,
                                            .address = "127.0.0.1",
                                            .id = id,
                                            .taken = on_taken,
                                            .lost = on_lost,
                                            .arg = daemon};
    *daemon = (struct daemon){.owner = control_owner_create(&options)};
    reactor_enter(world->reactor);
    control_owner_start(daemon->owner);
    reactor_enter(NULL);
}

static void stop(struct world *world, unsigned i) {
    struct daemon *daemon = &world->daemons[i];
    reactor_enter(world->reactor);
    control_owner_stop(daemon->owner, on_stopped, daemon);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_stopped, daemon, 10 * NS_PER_S));
    control_owner_destroy(daemon->owner);
    daemon->owner = NULL;
}

static void world_end(struct world *world) {
    for (unsigned i = 0; i < OWNERS; i++)
        if (world->daemons[i].owner != NULL)
            stop(world, i);
    reactor_enter(world->reactor);
    store_close(world->store, on_closed, world);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_closed, world, 30 * NS_PER_S));
    reactor_destroy(world->reactor);
    store_memory_data_destroy(world->data);
    step_host_destroy(world->host);
}

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"

static void another_is_waited_for(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    start(&world, 1, "n", TWO);
    start(&world, 2, "other", TWO);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[2], 5 * NS_PER_S)); /* names are apart */
    assert_false(step_host_run(world.host, is_taken, &world.daemons[1], 100 * NS_PER_S));
    assert_in_range(world.warnings, 2, 5); /* said, and not each time */
    stop(&world, 0);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[1], 2 * NS_PER_S)); /* it was given back */
    assert_false(world.daemons[1].lost);
    world_end(&world);
}

/* As a daemon that was killed does: its lease lives on. */
static void ones_own_is_taken_over_at_once(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    start(&world, 1, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[1], NS_PER_S));
    start(&world, 2, "n", TWO);
    stop(&world, 0); /* it has it no more, and takes nothing along */
    assert_false(step_host_run(world.host, is_taken, &world.daemons[2], 100 * NS_PER_S));
    assert_false(world.daemons[1].lost);
    world_end(&world);
}

/* A store that is slow to write keeps nobody from going on. */
static void ones_own_needs_no_write(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    world.refuses = true;
    start(&world, 1, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[1], NS_PER_S));
    assert_false(step_host_run(world.host, NULL, NULL, 5 * NS_PER_S));
    world.refuses = false;
    stop(&world, 0);
    stop(&world, 1);
    start(&world, 2, "n", TWO);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[2], 2 * NS_PER_S)); /* it was given back */
    world_end(&world);
}

static void on_asked(struct store_request *request) { *(bool *)request->arg = true; }
static bool is_asked(void *arg) { return *(bool *)arg; }

static enum store_outcome write_op(struct world *world, struct store_op op, bool unguarded) {
    bool asked = false;
    struct store_request request = {
        .verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1, .unguarded = unguarded, .arg = &asked, .done = on_asked};
    reactor_enter(world->reactor);
    store_submit(world->store, &request);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_asked, &asked, 5 * NS_PER_S));
    return request.outcome;
}

static void nothing_is_written_without_it(void **state) {
    struct world world;
    struct store_op put = {.kind = STORE_PUT, .key = "/penstock/n/disks/d", .value = "{}", .value_length = 2};
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    assert_int_equal(write_op(&world, put, false), STORE_DONE);
    assert_int_equal(write_op(&world, (struct store_op){.kind = STORE_DELETE, .key = "/penstock/n/owner"}, true), STORE_DONE);
    assert_int_equal(write_op(&world, put, false), STORE_NOT_DONE);
    world_end(&world);
}

static void whoever_waits_may_end(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    start(&world, 1, "n", TWO);
    assert_true(step_host_run(world.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    assert_false(step_host_run(world.host, NULL, NULL, 5 * NS_PER_S));
    stop(&world, 1);
    assert_false(world.daemons[1].taken || world.daemons[0].lost);
    world_end(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_is_waited_for),   cmocka_unit_test(ones_own_is_taken_over_at_once),
        cmocka_unit_test(ones_own_needs_no_write), cmocka_unit_test(nothing_is_written_without_it),
        cmocka_unit_test(whoever_waits_may_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
