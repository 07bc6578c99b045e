/* Snapshots of a mirror over real volumes: made under load, while a leg is away, and through crashes at every step. In the end
 * all legs have the same tree with the same content. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/canary.h"

struct tale {
    struct fleet *fleet;
    struct fleet_node *engine;
    struct mirror_tree_command command;
    bool done;
    unsigned percent, steps; /* of a leg that comes back */
};

static struct tale *told; /* by the test that runs: for conditions and hooks */

static void command_done(struct mirror_tree_command *command) { container_of(command, struct tale, command)->done = true; }
static bool command_is_done(struct fleet *fleet) { return told->fleet == fleet && told->done; }

static void command_send(struct plane *plane, void *arg) {
    struct tale *tale = arg;
    tale->command.device = tale->engine->mirror;
    tale->command.control = plane->control;
    tale->command.done = command_done;
    mirror_tree_command(&tale->command);
}

static void begin(struct tale *tale, enum replica_change what, const char *snapshot, uint64_t size) {
    tale->done = false;
    tale->command = (struct mirror_tree_command){.what = what,
                                                 .snapshot = snapshot,
                                                 .size_bytes = size,
                                                 .pairs = fleet_pairs,
                                                 .pair_count = what == REPLICA_SNAPSHOT ? FLEET_PAIRS : 0};
    plane_do(&tale->engine->plane, command_send, tale);
}

static bool run(struct tale *tale, enum replica_change what, const char *snapshot, uint64_t size) {
    begin(tale, what, snapshot, size);
    fleet_wait(tale->fleet, command_is_done, 10 * NS_PER_S, "a change of the tree");
    return tale->command.ok;
}

static void must(struct tale *tale, enum replica_change what, const char *snapshot) {
    if (!run(tale, what, snapshot, 0))
        fleet_fail(tale->fleet, "change %d of %s: %s", what, snapshot, tale->command.error.text);
}

/* Makes snapshot s1, and notes what is in it. */
static void keep(struct tale *tale, struct ledger *ret_was) {
    must(tale, REPLICA_SNAPSHOT, "s1");
    ledger_copy(&tale->fleet->ledger, ret_was);
}

static void go_back(struct tale *tale, const struct ledger *was) {
    must(tale, REPLICA_REVERT, "s1");
    ledger_revert(&tale->fleet->ledger, was);
}

static struct tale *tale_of(struct fleet_options options) {
    struct tale *tale = plain_alloc(sizeof(*tale));
    *tale = (struct tale){.fleet = plain_alloc(sizeof(struct fleet))};
    told = tale;
    fleet_init(tale->fleet, &options);
    fleet_wait(tale->fleet, fleet_stores_are_up, 10 * NS_PER_S, "the stores");
    tale->engine = &tale->fleet->nodes[options.storages];
    fleet_engine_up(tale->engine, ++tale->fleet->terms);
    fleet_wait(tale->fleet, fleet_all_whole, 10 * NS_PER_S, "the first start");
    return tale;
}

static struct tale *tale_new(uint64_t seed, bool local) {
    return tale_of((struct fleet_options){
        .seed = seed, .storages = local ? 2 : 3, .engines = 1, .local = local, .policy = REPLICA_ANY, .depth = 8});
}

static void tale_end(struct tale *tale) {
    fleet_wait(tale->fleet, fleet_is_idle, 10 * NS_PER_S, "requests to end");
    fleet_wait(tale->fleet, fleet_all_whole, 100 * NS_PER_S, "all legs");
    fleet_compare(tale->fleet);
    fleet_fini(tale->fleet);
    plain_free(tale->fleet);
    plain_free(tale);
}

static void drive(struct tale *tale, uint64_t requests, bool keep) { fleet_drive(tale->fleet, requests, keep); }

/* One of three dies, and misses a write. */
static void go_without(struct tale *tale, unsigned node, enum fleet_death dies) {
    struct fleet *fleet = tale->fleet;
    fleet_node_die(&fleet->nodes[node], dies);
    assert_true(fleet_begin(tale->engine, BLOCK_WRITE, 1, 2));
    fleet_wait(fleet, fleet_has_two_members, 4 * NS_PER_S, "the change");
    fleet_wait(fleet, fleet_is_idle, 4 * NS_PER_S, "a write without the leg");
}

static uint32_t snapshots_of(struct tale *tale) {
    assert_true(run(tale, 0, NULL, 0));
    uint32_t count = tale->command.ret_layers->count;
    free(tale->command.ret_layers);
    return count;
}

static void under_load_every_leg_gets_the_same(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct tale *tale = tale_new(seed, seed % 2 == 0);
        static const char *const names[] = {"s1", "s2", "s3"};
        for (unsigned i = 0; i < 3; i++) {
            drive(tale, 150, true);
            must(tale, REPLICA_SNAPSHOT, names[i]);
        }
        assert_false(run(tale, REPLICA_SNAPSHOT, "s2", 0));
        assert_int_equal(tale->command.error.code, ERROR_EXISTS);
        assert_false(run(tale, REPLICA_DELETE, "none", 0));
        assert_int_equal(tale->command.error.code, ERROR_NOT_FOUND);
        assert_false(run(tale, REPLICA_SNAPSHOT, "a/b", 0));
        assert_int_equal(tale->command.error.code, ERROR_INVALID);
        assert_false(run(tale, REPLICA_RESIZE, NULL, 4711));
        assert_int_equal(tale->command.error.code, ERROR_INVALID);
        drive(tale, 150, true);
        must(tale, REPLICA_DELETE, "s2");
        drive(tale, 150, false);
        assert_int_equal(snapshots_of(tale), 2);
        assert_true(tale->fleet->failures == 0);
        tale_end(tale);
    }
}

static void resize(struct tale *tale, unsigned regions) {
    struct fleet *fleet = tale->fleet;
    if (!run(tale, REPLICA_RESIZE, NULL, regions * REPLICA_REGION_BYTES))
        fleet_fail(fleet, "a resize: %s", tale->command.error.text);
    ledger_cut(&fleet->ledger, min_u32(regions, fleet->regions) * FLEET_BLOCKS_A_REGION);
    fleet->regions = regions;
}

/* What happens while a leg is away. */
static void miss(struct tale *tale, unsigned what, struct ledger *was) {
    struct fleet *fleet = tale->fleet;
    switch (what) {
    case 0: /* two snapshots and writes between them */
        must(tale, REPLICA_SNAPSHOT, "m1");
        drive(tale, 60, false);
        must(tale, REPLICA_SNAPSHOT, "m2");
        break;
    case 1: must(tale, REPLICA_DELETE, "s1"); break;
    case 2: /* all of them go, and others come */
        must(tale, REPLICA_DELETE, "s2");
        must(tale, REPLICA_SNAPSHOT, "m1");
        drive(tale, 60, false);
        must(tale, REPLICA_DELETE, "s1");
        break;
    case 3: go_back(tale, was); break;
    case 4: /* back, and another way on: a branch stays behind */
        must(tale, REPLICA_SNAPSHOT, "m1");
        go_back(tale, was);
        drive(tale, 60, false);
        must(tale, REPLICA_SNAPSHOT, "m2");
        break;
    case 5: /* what was cut off is zeros when it is there again */
        if (!run(tale, REPLICA_RESIZE, NULL, FLEET_BYTES / 2) || !run(tale, REPLICA_RESIZE, NULL, FLEET_BYTES))
            fleet_fail(fleet, "a resize: %s", tale->command.error.text);
        for (unsigned block = FLEET_BLOCKS / 2; block < FLEET_BLOCKS; block++) {
            uint32_t id = ledger_write_begin(&fleet->ledger, block, tale->engine->writer, true, ledger_now(&fleet->ledger));
            ledger_write_end(&fleet->ledger, block, id, true, false);
        }
        break;
    default: break;
    }
    drive(tale, 60, false);
}

/* Everything counts as marked after a revert, until all have flushed: a crash before that costs a comparison, one after it not.
 */
static void a_reverts_mark_on_everything_goes(void **state) {
    (void)state;
    struct tale *tale = tale_new(50, false);
    struct fleet *fleet = tale->fleet;
    struct ledger was;
    drive(tale, 200, false);
    keep(tale, &was);
    drive(tale, 100, false);
    go_back(tale, &was);
    const struct mirror *mirror = mirror_of(tale->engine->mirror);
    assert_true((mirror->legs[0].status.flags & REPLICA_HAS_FLOOR) != 0);
    fleet_run(fleet, 12 * NS_PER_S);
    assert_true((mirror->legs[0].status.flags & REPLICA_HAS_FLOOR) == 0);
    assert_int_equal(mirror->regions.marked_count, 0);
    fleet_node_die(tale->engine, FLEET_CLOSE);
    fleet_engine_up(tale->engine, ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 10 * NS_PER_S, "all legs");
    mirror = mirror_of(tale->engine->mirror);
    for (unsigned i = 0; i < 3; i++)
        assert_true((mirror->legs[i].status.flags & REPLICA_HAS_FLOOR) == 0);
    assert_int_equal(mirror->regions.marked_count, 0);
    drive(tale, 100, false);
    tale_end(tale);
    ledger_fini(&was);
}

/* Watches the first leg while it is waited for. */
static bool all_whole_and_never_less(struct fleet *fleet) {
    struct mirror_status status;
    fleet_status(told->engine, &status);
    const struct mirror_leg_status *leg = &status.legs[0];
    if (leg->state == MIRROR_LEG_SYNCING) {
        if (leg->sync_percent < told->percent)
            fleet_fail(fleet, "%u %% after %u %%", leg->sync_percent, told->percent);
        told->steps += leg->sync_percent > told->percent;
        told->percent = leg->sync_percent;
    }
    return fleet_all_whole(fleet);
}

/* Snapshot after snapshot, then the head. */
static void how_far_it_is_never_falls_back(void **state) {
    (void)state;
    static const char *const names[] = {"s1", "s2", "s3", "s4"};
    struct tale *tale = tale_new(60, false);
    struct fleet *fleet = tale->fleet;
    drive(tale, 50, false);
    go_without(tale, 0, FLEET_VANISH);
    for (unsigned i = 0; i < 4; i++) {
        drive(tale, 150, false);
        must(tale, REPLICA_SNAPSHOT, names[i]);
    }
    drive(tale, 150, false);
    fleet_node_up(&fleet->nodes[0]);
    fleet_wait(fleet, all_whole_and_never_less, 100 * NS_PER_S, "the leg");
    assert_true(tale->steps >= 3);
    assert_int_equal(snapshots_of(tale), 4);
    tale_end(tale);
}

static void a_leg_that_missed_it_gets_it(void **state) {
    (void)state;
    for (unsigned what = 0; what < 6; what++)
        for (unsigned victim = 0; victim < 2; victim++) {
            struct tale *tale = tale_new(10 + what, victim == 1);
            struct fleet *fleet = tale->fleet;
            struct ledger was;
            drive(tale, 200, false);
            keep(tale, &was);
            drive(tale, 100, false);
            must(tale, REPLICA_SNAPSHOT, "s2");
            drive(tale, 100, false);
            go_without(tale, victim, (enum fleet_death)(what % 3));
            miss(tale, what, &was);
            fleet_node_up(&fleet->nodes[victim]);
            drive(tale, 100, false);
            tale_end(tale);
            ledger_fini(&was);
        }
}

/* A leg comes at any moment of a revert that makes the mirror larger: what it lists must reach to the new end. */
static void a_leg_that_comes_while_the_size_changes(void **state) {
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct tale *tale = tale_new(70 + i, false);
        struct fleet *fleet = tale->fleet;
        struct ledger was;
        drive(tale, 200, false);
        keep(tale, &was);
        if (!run(tale, REPLICA_RESIZE, NULL, FLEET_BYTES / 2))
            fleet_fail(fleet, "a shrink: %s", tale->command.error.text);
        fleet->regions = FLEET_REGIONS / 2;
        ledger_cut(&fleet->ledger, FLEET_BLOCKS / 2);
        go_without(tale, 0, FLEET_CLOSE);
        fleet_node_up(&fleet->nodes[0]);
        fleet_run(fleet, i * NS_PER_MS / 2);
        must(tale, REPLICA_REVERT, "s1");
        fleet->regions = FLEET_REGIONS;
        ledger_revert(&fleet->ledger, &was);
        fleet_wait(fleet, fleet_all_whole, 100 * NS_PER_S, "all legs");
        drive(tale, 60, false);
        tale_end(tale);
        ledger_fini(&was);
    }
}

/* It has what was cut off, and the mirror is as large again before the leg is whole. */
static void a_leg_that_comes_while_the_mirror_grows(void **state) {
    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct tale *tale = tale_new(120 + i, false);
        struct fleet *fleet = tale->fleet;
        drive(tale, 200, false);
        go_without(tale, 0, FLEET_CLOSE);
        resize(tale, FLEET_REGIONS / 2);
        fleet_node_up(&fleet->nodes[0]);
        fleet_run(fleet, i * NS_PER_MS / 2);
        resize(tale, FLEET_REGIONS);
        fleet_wait(fleet, fleet_all_whole, 100 * NS_PER_S, "all legs");
        drive(tale, 60, false);
        tale_end(tale);
    }
}

/* Of two under `majority`: reads that were begun without it are answered when it is there again; the deletion waits for them. */
static void a_deletion_while_reads_wait_for_the_leg_that_comes(void **state) {
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct tale *tale =
            tale_of((struct fleet_options){.seed = 160 + i, .storages = 2, .engines = 1, .policy = REPLICA_MAJORITY, .depth = 8});
        struct fleet *fleet = tale->fleet;
        drive(tale, 60, false);
        must(tale, REPLICA_SNAPSHOT, "s1");
        drive(tale, 60, false);
        fleet_node_die(&fleet->nodes[0], FLEET_VANISH);
        for (unsigned n = 0; n < 6; n++)
            assert_true(fleet_begin(tale->engine, BLOCK_READ, 3 * n, 1));
        begin(tale, REPLICA_DELETE, "s1", 0);
        fleet_run(fleet, (100 + 37 * i) * NS_PER_MS);
        fleet_node_up(&fleet->nodes[0]);
        for (unsigned n = 0; n < 40 && !tale->done; n++) { /* more of them while it comes */
            fleet_begin(tale->engine, BLOCK_READ, n % 20, 1);
            fleet_run(fleet, 20 * NS_PER_MS);
        }
        fleet_wait(fleet, command_is_done, 20 * NS_PER_S, "the deletion");
        if (!tale->command.ok)
            fleet_fail(fleet, "the deletion: %s", tale->command.error.text);
        tale_end(tale);
    }
}

/* A snapshot hides what the one below it holds, by no more than its limit; the leg is cut less by what it has to catch up with.
 */
static void what_was_cut_off_is_cut_off_in_a_snapshot_that_a_leg_gets(void **state) {
    (void)state;
    struct tale *tale = tale_new(140, false);
    struct fleet *fleet = tale->fleet;
    struct ledger was;
    drive(tale, 200, false);
    keep(tale, &was);
    go_back(tale, &was); /* what its head holds is told by no marks */
    ledger_fini(&was);
    go_without(tale, 0, FLEET_VANISH);
    resize(tale, 2);
    resize(tale, 4);
    must(tale, REPLICA_SNAPSHOT, "s2");
    drive(tale, 60, false);
    fleet_node_up(&fleet->nodes[0]);
    tale_end(tale);
}

/* A leg comes, and is copied to, at any moment of a snapshot: neither waits for the other. */
static void a_leg_that_is_copied_to_keeps_no_snapshot_back(void **state) {
    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        struct tale *tale = tale_new(90 + i, false);
        struct fleet *fleet = tale->fleet;
        drive(tale, 100, false);
        for (unsigned victim = 0; victim < 2; victim++) {
            fleet_node_die(&fleet->nodes[victim], FLEET_CLOSE);
            drive(tale, 200, false);
        }
        for (unsigned victim = 0; victim < 2; victim++)
            fleet_node_up(&fleet->nodes[victim]);
        drive(tale, 1, true);
        fleet_run(fleet, i * NS_PER_MS / 2);
        must(tale, REPLICA_SNAPSHOT, "s1");
        drive(tale, 60, false);
        tale_end(tale);
    }
}

/* ---- a deletion that one leg did, and that came to nothing ---- */

static bool deleted; /* by the first leg */

static void cut_others(struct fleet *fleet, bool cut) {
    for (unsigned i = 1; i < 3; i++)
        sim_link_cut(sim_link(told->engine->plane.node, fleet->nodes[i].plane.node), cut);
}

static void only_the_first_is_told(struct fleet *fleet, struct fleet_node *node, unsigned leg, unsigned point) {
    (void)leg;
    if (node == told->engine && point == VOLUME_POINTS + MIRROR_POINT_COMMAND + COMMAND_SEND)
        cut_others(fleet, true);
    deleted = deleted || (node == &fleet->nodes[0] && point == VOLUME_POINT_TREE_DURABLE);
}

/* What waits on its way to them is not to arrive. */
static void drop_connections(struct fleet *fleet) {
    struct sim_connection *connection = NULL;
    while ((connection = sim_connection_next(fleet->cluster.sim, connection)) != NULL)
        sim_connection_reset(connection);
}

static bool is_deleted(struct fleet *fleet) { return told->fleet == fleet && deleted; }
static bool serves(struct fleet *fleet) { return fleet_engine(fleet) != NULL; }

/* Who starts next goes on without it. */
static void delete_in_vain(struct tale *tale, const char *snapshot) {
    struct fleet *fleet = tale->fleet;
    deleted = false;
    fleet->at_point = only_the_first_is_told;
    begin(tale, REPLICA_DELETE, snapshot, 0);
    fleet_wait(fleet, is_deleted, 10 * NS_PER_S, "the deletion");
    fleet->at_point = NULL;
    fleet_node_die(tale->engine, FLEET_VANISH);
    fleet_node_die(&fleet->nodes[0], FLEET_VANISH);
    drop_connections(fleet);
    cut_others(fleet, false);
    fleet_engine_up(tale->engine, ++fleet->terms);
    fleet_wait(fleet, serves, 60 * NS_PER_S, "a start without the leg");
}

/* It is older than what the leg has in common with the others, whose marks of that time are gone. */
static void a_snapshot_that_a_leg_deleted_alone_comes_back(void **state) {
    (void)state;
    for (unsigned what = 0; what < 6; what++) {
        struct tale *tale = tale_of(
            (struct fleet_options){.seed = 150 + what, .storages = 3, .engines = 1, .policy = REPLICA_MAJORITY, .depth = 8});
        struct fleet *fleet = tale->fleet;
        struct ledger was;
        drive(tale, 200, false);
        keep(tale, &was);
        drive(tale, 100, false);
        if (what >= 1 && what <= 3)
            must(tale, REPLICA_SNAPSHOT, "s2");
        if (what == 3) {
            go_back(tale, &was);
        }
        if (what == 5)
            resize(tale, 2);
        drive(tale, 100, false);
        fleet_run(fleet, 12 * NS_PER_S);
        assert_int_equal(mirror_of(tale->engine->mirror)->regions.marked_count, 0);
        delete_in_vain(tale, what == 1 || what == 3 ? "s2" : "s1");
        if (what >= 4) { /* more stands on it when the leg comes */
            must(tale, REPLICA_SNAPSHOT, "s3");
            assert_true(fleet_begin(tale->engine, BLOCK_WRITE, 1, 2));
            fleet_wait(fleet, fleet_is_idle, 4 * NS_PER_S, "a write without the leg");
        }
        if (what == 5)
            resize(tale, 4);
        fleet_node_die(tale->engine, FLEET_CLOSE);
        fleet_node_up(&fleet->nodes[0]);
        fleet_wait(fleet, fleet_stores_are_up, 10 * NS_PER_S, "the leg");
        fleet_engine_up(tale->engine, ++fleet->terms);
        fleet_wait(fleet, fleet_all_whole, 100 * NS_PER_S, "all legs");
        assert_int_equal(snapshots_of(tale), what == 0 ? 1 : 2);
        drive(tale, 20, false);
        tale_end(tale);
        ledger_fini(&was);
    }
}

/* ---- crashes at every step ---- */

struct crash {
    unsigned point, leg_phase; /* either of them */
    bool engine;               /* it dies, else the leg */
    bool hit;
};
static struct crash *crash;

static void at_point(struct fleet *fleet, struct fleet_node *node, unsigned leg, unsigned point) {
    (void)leg;
    if (crash->hit || point != VOLUME_POINTS + crash->point || node != told->engine)
        return;
    crash->hit = true;
    if (crash->engine)
        fleet_node_die(node, FLEET_CLOSE); /* does not return */
    fleet_node_die(&fleet->nodes[0], FLEET_POWER);
}

static bool command_is_over(struct fleet *fleet) { return command_is_done(fleet) || (crash->hit && crash->engine); }

static void whatever_dies_at_any_step_the_trees_are_equal(void **state) {
    (void)state;
    unsigned hits = 0;
    for (unsigned phase = 0; phase < 9; phase++)
        for (unsigned what = 0; what < 4; what++) {
            struct tale *tale = tale_new(100 + phase, false);
            struct fleet *fleet = tale->fleet;
            drive(tale, 100, false);
            must(tale, REPLICA_SNAPSHOT, "s1");
            drive(tale, 60, false);
            crash = &(struct crash){.point = MIRROR_POINT_COMMAND + phase, .engine = what % 2 == 0};
            fleet->at_point = at_point;
            begin(tale, what < 2 ? REPLICA_SNAPSHOT : REPLICA_DELETE, what < 2 ? "s2" : "s1", 0);
            fleet_wait(fleet, command_is_over, 20 * NS_PER_S, "a change that is disturbed");
            fleet->at_point = NULL;
            hits += crash->hit;
            if (tale->engine->state == FLEET_DOWN)
                fleet_engine_up(tale->engine, ++fleet->terms);
            if (fleet->nodes[0].state == FLEET_DOWN)
                fleet_node_up(&fleet->nodes[0]);
            drive(tale, 100, false);
            fleet_wait(fleet, fleet_all_whole, 100 * NS_PER_S, "all legs");
            must(tale, REPLICA_SNAPSHOT, "s3"); /* numbers go on rising */
            tale_end(tale);
        }
    assert_in_range(hits, 20, 36);
}

/* The leg that is brought up dies, or its engine, at each step of that. */
static void whatever_dies_while_a_tree_is_brought_up(void **state) {
    (void)state;
    unsigned hits = 0;
    for (unsigned phase = LEG_KEEP; phase <= LEG_LISTED; phase++)
        for (unsigned what = 0; what < 4; what++) {
            struct tale *tale = tale_new(200 + phase, false);
            struct fleet *fleet = tale->fleet;
            struct ledger was;
            drive(tale, 150, false);
            keep(tale, &was);
            drive(tale, 60, false);
            must(tale, REPLICA_SNAPSHOT, "s2");
            go_without(tale, 0, FLEET_POWER);
            miss(tale, what < 2 ? 2 : 4, &was);
            crash = &(struct crash){.point = MIRROR_POINT_LEG + phase, .engine = what % 2 == 0};
            fleet->at_point = at_point;
            fleet_node_up(&fleet->nodes[0]);
            for (unsigned i = 0; i < 3000 && !crash->hit; i++)
                fleet_run(fleet, NS_PER_MS);
            fleet->at_point = NULL;
            hits += crash->hit;
            if (tale->engine->state == FLEET_DOWN)
                fleet_engine_up(tale->engine, ++fleet->terms);
            if (fleet->nodes[0].state == FLEET_DOWN)
                fleet_node_up(&fleet->nodes[0]);
            drive(tale, 100, false);
            tale_end(tale);
            ledger_fini(&was);
        }
    assert_in_range(hits, 30, 32);
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(under_load_every_leg_gets_the_same),
        cmocka_unit_test(a_reverts_mark_on_everything_goes),
        cmocka_unit_test(how_far_it_is_never_falls_back),
        cmocka_unit_test(a_leg_that_missed_it_gets_it),
        cmocka_unit_test(a_leg_that_comes_while_the_size_changes),
        cmocka_unit_test(a_leg_that_comes_while_the_mirror_grows),
        cmocka_unit_test(a_deletion_while_reads_wait_for_the_leg_that_comes),
        cmocka_unit_test(what_was_cut_off_is_cut_off_in_a_snapshot_that_a_leg_gets),
        cmocka_unit_test(a_leg_that_is_copied_to_keeps_no_snapshot_back),
        cmocka_unit_test(a_snapshot_that_a_leg_deleted_alone_comes_back),
        cmocka_unit_test(whatever_dies_at_any_step_the_trees_are_equal),
        cmocka_unit_test(whatever_dies_while_a_tree_is_brought_up),
    };
    return cmocka_run_group_tests_name("the trees of a fleet", tests, NULL, NULL);
}
