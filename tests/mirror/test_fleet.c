/* A mirror over real volumes on other nodes, and one of its own: single stories. What happens by chance: test_fleet_random.c. */
#include "fleet.h"

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/internal.h"

#include <stdio.h>

static struct fleet *fleet_new(const struct fleet_options *options) {
    struct fleet *fleet = plain_alloc(sizeof(*fleet));
    fleet_init(fleet, options);
    return fleet;
}

static void fleet_free(struct fleet *fleet) {
    fleet_fini(fleet);
    plain_free(fleet);
}

/* A leg dies, the others go on, it returns and gets what changed meanwhile and nothing else. */
static void story(uint64_t seed, bool local, enum fleet_death death, unsigned victim) {
    struct fleet_options options = {
        .seed = seed, .storages = local ? 2 : 3, .engines = 1, .local = local, .policy = REPLICA_ANY, .depth = 8};
    struct fleet *fleet = fleet_new(&options);
    fleet_wait(fleet, fleet_stores_are_up, 10 * NS_PER_S, "the stores");
    struct fleet_node *engine = &fleet->nodes[options.storages];
    fleet_engine_up(engine, ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 10 * NS_PER_S, "the first start");
    fleet_drive(fleet, 400, false);
    for (unsigned i = 0; i < 200 && mirror_of(engine->mirror)->regions.marked_count > 0; i++)
        fleet_run(fleet, 100 * NS_PER_MS);
    assert_int_equal(mirror_of(engine->mirror)->regions.marked_count, 0);
    fleet_node_die(&fleet->nodes[victim], death);
    /* two regions are written while it is away */
    assert_true(fleet_begin(engine, BLOCK_WRITE, 1, 2) && fleet_begin(engine, BLOCK_WRITE, 4 * FLEET_BLOCKS_A_REGION, 1));
    fleet_wait(fleet, fleet_is_idle, 2 * NS_PER_S, "a write without the leg");
    fleet_wait(fleet, fleet_has_two_members, 2 * NS_PER_S, "the change");
    assert_true(fleet->failures == 0);
    fleet_run(fleet, 300 * NS_PER_MS);
    fleet_node_up(&fleet->nodes[victim]);
    fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "its return");
    const struct mirror_leg *leg = NULL;
    for (unsigned i = 0; i < engine->leg_count; i++)
        if (engine->legs[i].node == &fleet->nodes[victim])
            leg = &mirror_of(engine->mirror)->legs[i];
    assert_int_equal(leg->told.bytes_copied, 3 * FLEET_BLOCK);
    assert_int_equal(leg->work_total, 2);
    fleet_drive(fleet, 200, false);
    assert_true(fleet->failures == 0);
    fleet_compare(fleet);
    fleet_free(fleet);
}

static void a_remote_leg_dies_and_gets_only_what_it_missed(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        story(seed, false, (enum fleet_death)(seed % 3), (unsigned)(seed % 2));
}

static void the_same_beside_a_local_leg(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        story(seed, true, (enum fleet_death)(seed % 3), (unsigned)(seed % 2));
}

/* ---- what a process leaves behind ---- */

static const struct mirror_leg *leg_on(const struct fleet_node *engine, const struct fleet_node *node) {
    for (unsigned i = 0; i < engine->leg_count; i++)
        if (engine->legs[i].node == node)
            return &mirror_of(engine->mirror)->legs[i];
    return NULL;
}

static void write_everywhere(struct fleet *fleet, struct fleet_node *engine) {
    for (unsigned region = 0; region < FLEET_REGIONS; region++)
        assert_true(fleet_begin(engine, BLOCK_WRITE, region * FLEET_BLOCKS_A_REGION, 1));
    fleet_wait(fleet, fleet_is_idle, 5 * NS_PER_S, "writes");
}

static struct fleet *fleet_that_serves(uint64_t seed) {
    struct fleet_options options = {.seed = seed, .storages = 2, .engines = 1, .policy = REPLICA_ANY, .depth = 8};
    struct fleet *fleet = fleet_new(&options);
    fleet_wait(fleet, fleet_stores_are_up, 10 * NS_PER_S, "the stores");
    fleet_engine_up(&fleet->nodes[2], ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 10 * NS_PER_S, "the first start");
    return fleet;
}

/* All regions are marked when it dies. What is in no doubt is compared; after a loss of power nobody knows what was flushed. */
static void dies_with_marks(uint64_t seed, enum fleet_death death, unsigned times) {
    struct fleet *fleet = fleet_that_serves(seed);
    struct fleet_node *engine = &fleet->nodes[2], *victim = &fleet->nodes[0];
    write_everywhere(fleet, engine);
    for (unsigned i = 0; i < times; i++) { /* the second opening tells of itself before it dies, too */
        fleet_node_die(victim, death);
        fleet_run(fleet, 300 * NS_PER_MS);
        assert_true(fleet_begin(engine, BLOCK_WRITE, 1, 1));
        fleet_wait(fleet, fleet_is_idle, 2 * NS_PER_S, "a write without it");
        fleet_node_up(victim);
        fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "its return");
        if (i + 1 < times)
            write_everywhere(fleet, engine);
    }
    const struct mirror_leg *leg = leg_on(engine, victim);
    assert_int_equal((leg->status.flags & REPLICA_UNPROVEN) != 0, death == FLEET_POWER);
    if (death != FLEET_POWER) /* at most what was written to it and not flushed: its map may have been in the process alone */
        assert_true(leg->told.bytes_copied <= times * (FLEET_REGIONS + 1) * FLEET_BLOCK);
    assert_true(fleet->failures == 0);
    fleet_compare(fleet);
    fleet_free(fleet);
}

static void a_killed_process_leaves_no_doubt_and_a_loss_of_power_does(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        dies_with_marks(seed, FLEET_VANISH, 1 + (unsigned)(seed % 3));
        dies_with_marks(seed, FLEET_CLOSE, 1);
        dies_with_marks(seed, FLEET_POWER, 1);
    }
}

/* Its disk forgets what a flush should have kept, and goes on showing it; its process dies and comes back; then the power goes.
 */
static void a_failed_flush_is_mended_by_the_next_process(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct fleet *fleet = fleet_that_serves(seed);
        struct fleet_node *engine = &fleet->nodes[2], *victim = &fleet->nodes[0];
        fleet_drive(fleet, 40, false);
        write_everywhere(fleet, engine);
        const struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_SYNC), .count = 1};
        sim_disk_fault_add(victim->disk, &fault);
        for (unsigned i = 0; i < 100 && fleet_all_whole(fleet); i++) {
            (void)fleet_begin(engine, BLOCK_FLUSH, 0, 0);
            fleet_wait(fleet, fleet_is_idle, 5 * NS_PER_S, "a flush");
        }
        fleet_node_die(victim, seed % 2 == 0 ? FLEET_VANISH : FLEET_CLOSE);
        sim_disk_faults_clear(victim->disk);
        fleet_run(fleet, 300 * NS_PER_MS);
        fleet_node_up(victim);
        fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "its return");
        assert_true(leg_on(engine, victim)->told.bytes_copied < FLEET_REGIONS * REPLICA_REGION_BYTES / 2);
        fleet_node_die(victim, FLEET_POWER);
        fleet_run(fleet, 300 * NS_PER_MS);
        fleet_node_up(victim);
        fleet_wait(fleet, fleet_stores_are_up, 70 * NS_PER_S, "its store");
        assert_true(fleet->failures == 0);
        fleet_compare(fleet);
        fleet_free(fleet);
    }
}

static bool nothing_is_marked(struct fleet *fleet) {
    struct fleet_node *engine = fleet_engine(fleet);
    return engine != NULL && mirror_of(engine->mirror)->regions.marked_count == 0;
}

/* A write fails on a disk that shows it all the same, and loses it with the power when nothing is marked any more: beside another
 * leg that did it, and where the leg is the only one and the other gets what it shows. */
static void what_a_failed_write_shows_is_not_trusted(void **state) {
    (void)state;
    unsigned lives = 0;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct fleet *fleet = fleet_that_serves(seed);
        struct fleet_node *engine = &fleet->nodes[2], *victim = &fleet->nodes[0], *other = &fleet->nodes[1];
        bool alone = seed % 2 == 0;
        write_everywhere(fleet, engine);
        if (alone) {
            fleet_node_die(other, FLEET_VANISH);
            write_everywhere(fleet, engine);
        }
        assert_true(fleet_begin(engine, BLOCK_WRITE, FLEET_BLOCKS_A_REGION, 1)); /* in the disk's cache, below what fails */
        fleet_wait(fleet, fleet_is_idle, 5 * NS_PER_S, "a write");
        const struct volume_store *store = victim->store; /* a write into the journal would end it */
        uint64_t data =
            ((uint64_t)store->super.journal_cluster << CLUSTER_SHIFT) + (uint64_t)store->commit.ring_blocks * BLOCK_BYTES;
        const struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_WRITE), .offset = data, .length = GIB(1), .count = 1};
        sim_disk_fault_add(victim->disk, &fault);
        assert_true(fleet_begin(engine, BLOCK_WRITE, FLEET_BLOCKS_A_REGION, 1));
        fleet_wait(fleet, fleet_is_idle, 5 * NS_PER_S, "a write that fails");
        sim_disk_faults_clear(victim->disk);
        if (store->failed) { /* it was answered before its mark was there: whoever fails that is not trusted at all */
            fleet_free(fleet);
            continue;
        }
        lives++;
        assert_int_equal(fleet->failures, alone);
        if (alone)
            fleet_node_up(other);
        fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "a return");
        fleet_wait(fleet, nothing_is_marked, 70 * NS_PER_S, "a round that clears");
        fleet_node_die(victim, FLEET_POWER);
        fleet_run(fleet, 300 * NS_PER_MS);
        fleet_node_up(victim);
        fleet_wait(fleet, fleet_stores_are_up, 70 * NS_PER_S, "its store");
        fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "its return");
        fleet_compare(fleet);
        fleet_free(fleet);
    }
    assert_true(lives >= 16);
}

/* ---- returns as a whole ---- */

struct order {
    struct mirror_command command;
    bool done;
};
static void order_done(struct mirror_command *command) { container_of(command, struct order, command)->done = true; }
static void order_send(struct plane *plane, void *arg) {
    (void)plane;
    mirror_command(arg);
}

static void invalidate(struct fleet_node *engine, unsigned leg) {
    struct order order = {
        .command = {.device = engine->mirror, .control = engine->plane.control, .verb = MIRROR_INVALIDATE, .done = order_done}};
    snprintf(order.command.leg, sizeof(order.command.leg), "%s", engine->legs[leg].device);
    plane_do(&engine->plane, order_send, &order.command);
    for (unsigned i = 0; i < 100000 && !order.done; i++)
        fleet_run(engine->fleet, 100 * NS_PER_US);
    assert_true(order.done);
    assert_int_equal(order.command.error.code, ERROR_NONE);
}

static const struct mirror_leg *first_leg(struct fleet *fleet) {
    struct fleet_node *engine = fleet_engine(fleet);
    return engine == NULL ? NULL : &mirror_of(engine->mirror)->legs[0];
}
static bool is_copying(struct fleet *fleet) {
    const struct mirror_leg *leg = first_leg(fleet);
    return leg != NULL && leg->task.state == LEG_COPY;
}
static bool is_not_copying(struct fleet *fleet) { return !is_copying(fleet); }
static bool has_cursor(struct fleet *fleet) {
    const struct replica_record *record = fleet_record(&fleet->nodes[0]);
    return record != NULL && record->cursor_offset >= 2 * REPLICA_REGION_BYTES;
}

/* Two storages hold some regions; the first is copied to as a whole, `dies` of it or of the engine in the middle. */
static void whole_return(uint64_t seed, bool engine_dies, enum fleet_death dies) {
    struct fleet_options options = {.seed = seed, .storages = 2, .engines = 1, .policy = REPLICA_ANY, .depth = 8};
    struct fleet *fleet = fleet_new(&options);
    fleet_wait(fleet, fleet_stores_are_up, 10 * NS_PER_S, "the stores");
    struct fleet_node *engine = &fleet->nodes[2];
    fleet_engine_up(engine, ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 10 * NS_PER_S, "the first start");
    mirror_of(engine->mirror)->throttle.rates.bytes_per_s = engine->options.rates.bytes_per_s = MIB(20);
    for (unsigned region = 0; region < FLEET_REGIONS; region++) /* one was never written */
        if (region != 4)
            assert_true(fleet_begin(engine, BLOCK_WRITE, region * FLEET_BLOCKS_A_REGION, 1));
    fleet_wait(fleet, fleet_is_idle, 2 * NS_PER_S, "writes");
    for (unsigned i = 0; i < 200 && mirror_of(engine->mirror)->regions.marked_count > 0; i++)
        fleet_run(fleet, 100 * NS_PER_MS);
    assert_int_equal(mirror_of(engine->mirror)->regions.marked_count, 0);
    invalidate(engine, 0);
    fleet_wait(fleet, is_copying, 5 * NS_PER_S, "copying");
    assert_int_equal(first_leg(fleet)->work_total, FLEET_REGIONS - 1);
    fleet_wait(fleet, has_cursor, 5 * NS_PER_S, "a cursor");
    assert_int_equal(mirror_of(engine->mirror)->regions.marked_count, 0); /* copies mark nothing */
    fleet_node_die(&fleet->nodes[engine_dies ? 2 : 0], dies);
    fleet_run(fleet, 300 * NS_PER_MS);
    if (engine_dies)
        fleet_engine_up(engine, ++fleet->terms);
    else
        fleet_node_up(&fleet->nodes[0]);
    fleet_wait(fleet, fleet_stores_are_up, 20 * NS_PER_S, "the stores again");
    /* As its disk has it: the one that was being stored may be gone with the power. */
    uint64_t cursor = fleet_record(&fleet->nodes[0])->cursor_offset / REPLICA_REGION_BYTES;
    assert_true(cursor >= 1);
    fleet_wait(fleet, is_not_copying, 20 * NS_PER_S, "somebody to see it");
    fleet_wait(fleet, fleet_all_whole, 20 * NS_PER_S, "the leg to be whole");
    uint64_t left = FLEET_REGIONS - cursor;
    assert_int_equal(first_leg(fleet)->work_total, left - (cursor <= 4));
    fleet_drive(fleet, 100, false);
    fleet_compare(fleet);
    fleet_free(fleet);
}

static void a_whole_return_takes_what_is_held_and_goes_on_where_it_was(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        whole_return(seed, seed > 3, seed % 3 == 0 ? FLEET_CLOSE : seed % 3 == 1 ? FLEET_VANISH : FLEET_POWER);
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_remote_leg_dies_and_gets_only_what_it_missed),
        cmocka_unit_test(the_same_beside_a_local_leg),
        cmocka_unit_test(a_killed_process_leaves_no_doubt_and_a_loss_of_power_does),
        cmocka_unit_test(a_failed_flush_is_mended_by_the_next_process),
        cmocka_unit_test(what_a_failed_write_shows_is_not_trusted),
        cmocka_unit_test(a_whole_return_takes_what_is_held_and_goes_on_where_it_was),
    };
    return cmocka_run_group_tests_name("a fleet", tests, NULL, NULL);
}
