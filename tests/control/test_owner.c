/* Whose a node's name is: several owners on one store in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/owner.h"
#include "support/stage.h"

enum { OWNERS = 3 };

struct daemon {
    struct control_owner *owner;
    bool taken, lost, stopped;
};

struct world {
    struct stage stage;
    struct daemon daemons[OWNERS];
    bool refuses; /* to write */
};

static void on_taken(void *arg) { ((struct daemon *)arg)->taken = true; }
static void on_lost(void *arg, const struct error *error) {
    assert_int_equal(error->code, ERROR_EXISTS);
    ((struct daemon *)arg)->lost = true;
}
static void on_stopped(void *arg) { ((struct daemon *)arg)->stopped = true; }
static enum store_memory_fault refuse(void *arg, const struct store_request *request) {
    bool writes = request->verb == STORE_TRANSACT || request->verb == STORE_LEASE_GRANT;
    return writes && ((struct world *)arg)->refuses ? STORE_MEMORY_REFUSE : STORE_MEMORY_FINE;
}

static bool is_taken(void *arg) { return ((struct daemon *)arg)->taken; }
static bool is_stopped(void *arg) { return ((struct daemon *)arg)->stopped; }

static void world_begin(struct world *world) {
    *world = (struct world){0};
    stage_begin(&world->stage, refuse, world);
}

static void start(struct world *world, unsigned i, const char *node, const char *id) {
    struct daemon *daemon = &world->daemons[i];
    struct control_owner_options options = {.reactor = world->stage.reactor,
                                            .log = &world->stage.log,
                                            .store = world->stage.store,
                                            .node = node,
                                            .address = "127.0.0.1",
                                            .id = id,
                                            .taken = on_taken,
                                            .lost = on_lost,
                                            .arg = daemon};
    *daemon = (struct daemon){.owner = control_owner_create(&options)};
    reactor_enter(world->stage.reactor);
    control_owner_start(daemon->owner);
    reactor_enter(NULL);
}

static void stop(struct world *world, unsigned i) {
    struct daemon *daemon = &world->daemons[i];
    reactor_enter(world->stage.reactor);
    control_owner_stop(daemon->owner, on_stopped, daemon);
    reactor_enter(NULL);
    assert_true(step_host_run(world->stage.host, is_stopped, daemon, 10 * NS_PER_S));
    control_owner_destroy(daemon->owner);
    daemon->owner = NULL;
}

static void world_end(struct world *world) {
    for (unsigned i = 0; i < OWNERS; i++)
        if (world->daemons[i].owner != NULL)
            stop(world, i);
    stage_end(&world->stage);
}

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"

static void another_is_waited_for(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    start(&world, 1, "n", TWO);
    start(&world, 2, "other", TWO);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[2], 5 * NS_PER_S)); /* names are apart */
    assert_false(step_host_run(world.stage.host, is_taken, &world.daemons[1], 100 * NS_PER_S));
    assert_in_range(world.stage.records, 2, 5); /* said, and not each time */
    stop(&world, 0);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[1], 2 * NS_PER_S)); /* it was given back */
    assert_false(world.daemons[1].lost);
    world_end(&world);
}

/* As a daemon that was killed does: its lease lives on. */
static void ones_own_is_taken_over_at_once(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    start(&world, 1, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[1], NS_PER_S));
    start(&world, 2, "n", TWO);
    stop(&world, 0); /* it has it no more, and takes nothing along */
    assert_false(step_host_run(world.stage.host, is_taken, &world.daemons[2], 100 * NS_PER_S));
    assert_false(world.daemons[1].lost);
    world_end(&world);
}

/* A store that is slow to write keeps nobody from going on. */
static void ones_own_needs_no_write(void **state) {
    struct world world;
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    world.refuses = true;
    start(&world, 1, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[1], NS_PER_S));
    assert_false(step_host_run(world.stage.host, NULL, NULL, 5 * NS_PER_S));
    world.refuses = false;
    stop(&world, 0);
    stop(&world, 1);
    start(&world, 2, "n", TWO);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[2], 2 * NS_PER_S)); /* it was given back */
    world_end(&world);
}

static void on_asked(struct store_request *request) { *(bool *)request->arg = true; }
static bool is_asked(void *arg) { return *(bool *)arg; }

static enum store_outcome write_op(struct world *world, struct store_op op, bool unguarded) {
    bool asked = false;
    struct store_request request = {
        .verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1, .unguarded = unguarded, .arg = &asked, .done = on_asked};
    reactor_enter(world->stage.reactor);
    store_submit(world->stage.store, &request);
    reactor_enter(NULL);
    assert_true(step_host_run(world->stage.host, is_asked, &asked, 5 * NS_PER_S));
    return request.outcome;
}

static void nothing_is_written_without_it(void **state) {
    struct world world;
    struct store_op put = {.kind = STORE_PUT, .key = "/penstock/n/disks/d", .value = "{}", .value_length = 2};
    (void)state;
    world_begin(&world);
    start(&world, 0, "n", ONE);
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
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
    assert_true(step_host_run(world.stage.host, is_taken, &world.daemons[0], 5 * NS_PER_S));
    assert_false(step_host_run(world.stage.host, NULL, NULL, 5 * NS_PER_S));
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
