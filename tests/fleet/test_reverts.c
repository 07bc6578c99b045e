/* A volume that is reverted to a snapshot, over nodes that are played: nothing is touched for what cannot be, and what goes away
 * or stands by meanwhile leaves a volume that serves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "world.h"

/* Addresses as its engine says, which is not played to this node. */
static void put_addresses(struct world *world) {
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    for (unsigned i = 0; i < record->member_count; i++)
        fleet_copy(record->members[i].address, sizeof(record->members[i].address), "10.0.0.9:20001");
}

static bool is_reverted(void *arg) { return ((struct world *)arg)->reverted; }
static bool is_hidden(void *arg) {
    const struct world *world = arg;
    return world->engine && !world->offered;
}

static void test_reverts(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world_ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NOT_FOUND);
    world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    /* To what is not there: nothing is touched. */
    unsigned calls = world->calls;
    world->no_snapshot = true;
    world_ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
    assert_non_null(strstr(asked.request.error.text, "no snapshot s"));
    assert_true(world->calls - calls <= NODES + 2); /* looks */
    world_settle(world, "refused");
    for (unsigned at = 1; at <= NODES + 2; at++) { /* nor if one of them is not answered */
        world->fault = LOST_BEFORE;
        world->fault_at = world->calls + at;
        world_ask(world, &asked, FLEET_REVERT, 0, NULL);
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        world_settle(world, "refused later");
    }
    world->fault_at = 0;
    assert_int_equal(world->deletions, 0);
    assert_false(world->reverted);
    world->no_snapshot = false;
    /* A node goes away in it before anything is done: it is given up, and the volume serves again, without that node. */
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    unsigned away = world_node_of(record->members[2].node);
    struct asked begun = {.world = world, .request = {.verb = FLEET_REVERT, .name = "v", .frontend = "", .snapshot = "s"}};
    world->down[away] = true;
    world_send(&begun);
    (void)step_host_run(world->stage.host, NULL, NULL, 5 * NS_PER_MS);
    put_addresses(world);
    world_ask(world, &asked, FLEET_EXPAND, MIB(32), NULL);
    assert_int_equal(asked.request.error.code, ERROR_BUSY);
    assert_true(step_host_run(world->stage.host, asked_is_done, &begun, 100 * NS_PER_S));
    assert_int_equal(begun.request.error.code, ERROR_PERMISSION);
    assert_non_null(strstr(begun.request.error.text, "not done in its time"));
    assert_true(world->down[away] && !world->reverted);
    world_settle(world, "given up");
    assert_string_equal(world->legs[2].address, "10.0.0.9:20001");
    world->down[away] = false;
    world_ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_true(world->reverted);
    world_settle(world, "reverted");
    world_destroy(world);
}

/* A replica goes away, or fails, while the volume is reverted, and never comes back: the volume does. */
static void test_a_replica_is_lost_in_a_revert(void **state) {
    static const struct {
        unsigned count;
        bool down, after;
    } rows[] = {{2, true, false}, {2, true, true}, {2, false, true}, {3, true, false}, {3, false, false}, {3, false, true}};
    (void)state;
    for (unsigned i = 0; i < array_count(rows); i++) {
        struct world *world = world_create();
        struct asked asked;
        world->node_count = rows[i].count;
        world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        world_settle(world, "made");
        world->degraded = !rows[i].after;
        world_submit(world, &asked, FLEET_REVERT, 0, NULL);
        assert_true(step_host_run(world->stage.host, rows[i].after ? is_reverted : is_hidden, world, 100 * NS_PER_S));
        put_addresses(world);
        world->ill_node = world_node_of(fleet_find(world->fleet, "v")->record.members[1].node);
        world->ill = rows[i].down ? CONTROL_RUNNING : CONTROL_ERROR;
        world->down[world->ill_node] = rows[i].down;
        if (!step_host_run(world->stage.host, world_is_settled, world, 300 * NS_PER_S))
            fail_msg("row %u: it is never settled: %s", i, fleet_find(world->fleet, "v")->waits_for);
        assert_true(asked.done && world->frontend && world->offered && world->reverted == rows[i].after);
        assert_int_equal(world->leg_count, rows[i].count);
        world_destroy(world);
    }
}

/* Each engine that is made in a revert finds claims of the one before, and stands by. */
static void test_engines_that_stand_by_in_a_revert(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    world_settle(world, "made");
    world->lingering = UINT32_MAX;
    world_ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_true(world->reverted);
    world_settle(world, "reverted");
    assert_int_equal(world->promotions, 2); /* without target, and with it */
    assert_false(fleet_find(world->fleet, "v")->record.served);
    world_destroy(world);
}

/* Its users have switched over to an engine of theirs: that is left alone, whatever is asked. */
static void test_a_standby_beside_an_engine_of_others(void **state) {
    static const char *const frontends[] = {"spdk-tcp-nvmf", ""};
    (void)state;
    for (unsigned i = 0; i < array_count(frontends); i++) {
        struct world *world = world_create();
        struct asked asked;
        world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        world_settle(world, "made");
        struct fleet_volume *volume = fleet_find(world->fleet, "v");
        fleet_copy(volume->record.frontend, sizeof(volume->record.frontend), frontends[i]);
        world->standby = true;
        world->frontend = world->offered = frontends[i][0] != '\0';
        world_ask(world, &asked, FLEET_REVERT, 0, NULL);
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        assert_non_null(strstr(asked.request.error.text, "standby: engine x has r"));
        assert_true(step_host_run(world->stage.host, world_is_settled, world, 200 * NS_PER_S));
        assert_true(!world->reverted && world->standby && world->engine);
        assert_int_equal(world->promotions + world->deletions, 0);
        assert_false(volume->record.served);
        world_destroy(world);
    }
}

/* They have deleted the volume's own since: the one that a revert makes waits for them. */
static void test_a_standby_instead_of_a_deleted_engine(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    world_settle(world, "made");
    world->engine = world->frontend = false;
    world->leg_count = 0;
    world->lingering = UINT32_MAX;
    world_ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_not_equal(asked.request.error.code, ERROR_NONE);
    (void)step_host_run(world->stage.host, NULL, NULL, 200 * NS_PER_S);
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    assert_true(world->engine && world->standby && !world->reverted && !world->frontend);
    assert_int_equal(world->promotions, 0);
    assert_non_null(strstr(volume->waits_for, "its engine is a standby"));
    world_ask(world, &asked, FLEET_DELETE, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_int_equal(world_count_replicas(world), 0);
    world_destroy(world);
}

/* Two of three: the engine that runs is not given up for one that could not be made. */
static void test_too_many_are_lost_in_a_revert(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    world_submit(world, &asked, FLEET_REVERT, 0, NULL);
    assert_true(step_host_run(world->stage.host, is_reverted, world, 100 * NS_PER_S));
    put_addresses(world);
    for (unsigned i = 1; i < 3; i++)
        world->down[world_node_of(fleet_find(world->fleet, "v")->record.members[i].node)] = true;
    (void)step_host_run(world->stage.host, NULL, NULL, 200 * NS_PER_S);
    assert_true(world->engine && !world->offered && !world->frontend);
    world->down[world_node_of(fleet_find(world->fleet, "v")->record.members[1].node)] = false;
    assert_true(step_host_run(world->stage.host, world_is_settled, world, 100 * NS_PER_S));
    assert_true(world->offered && world->frontend);
    world_destroy(world);
}

/* Its engine does not run for a while (its plane dies), and cannot tell what it has and how large it is: before anything is
 * touched, and when it was reverted. */
static void test_a_revert_and_an_engine_that_does_not_run(void **state) {
    static const enum control_state states[] = {CONTROL_ERROR, CONTROL_PENDING};
    (void)state;
    for (unsigned i = 0; i < array_count(states); i++) {
        struct world *world = world_create();
        struct asked asked;
        world->clones = i == 0;
        world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        world_settle(world, "made");
        world->engine_state = states[i];
        world->no_snapshot = true;
        world_submit(world, &asked, FLEET_REVERT, 0, NULL);
        (void)step_host_run(world->stage.host, NULL, NULL, 20 * NS_PER_S);
        assert_true(!asked.done && world->engine && world->offered && world->frontend);
        world->engine_state = CONTROL_RUNNING;
        assert_true(step_host_run(world->stage.host, asked_is_done, &asked, 100 * NS_PER_S));
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        assert_non_null(strstr(asked.request.error.text, "no snapshot s"));
        world_settle(world, "refused");
        /* For longer than the revert's time. */
        world->engine_state = states[i];
        world_submit(world, &asked, FLEET_REVERT, 0, NULL);
        (void)step_host_run(world->stage.host, NULL, NULL, 100 * NS_PER_S);
        assert_true(world->engine && world->offered && world->frontend && !world->reverted);
        world->engine_state = CONTROL_RUNNING;
        world_settle(world, "given up");
        world->no_snapshot = false;
        world_submit(world, &asked, FLEET_REVERT, 0, NULL);
        assert_true(step_host_run(world->stage.host, is_reverted, world, 100 * NS_PER_S));
        world->engine_state = states[i];
        (void)step_host_run(world->stage.host, NULL, NULL, 30 * NS_PER_S);
        assert_true(world->engine && !world->offered);
        world->engine_state = CONTROL_RUNNING;
        assert_true(step_host_run(world->stage.host, asked_is_done, &asked, 100 * NS_PER_S));
        assert_int_equal(asked.request.error.code, ERROR_NONE);
        world_settle(world, "reverted");
        assert_int_equal(world->engine_bytes, MIB(16));
        world_destroy(world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reverts),
        cmocka_unit_test(test_a_replica_is_lost_in_a_revert),
        cmocka_unit_test(test_engines_that_stand_by_in_a_revert),
        cmocka_unit_test(test_a_standby_beside_an_engine_of_others),
        cmocka_unit_test(test_a_standby_instead_of_a_deleted_engine),
        cmocka_unit_test(test_too_many_are_lost_in_a_revert),
        cmocka_unit_test(test_a_revert_and_an_engine_that_does_not_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
