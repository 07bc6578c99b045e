/* Errors of a leg's disk: what one cannot read another answers and mends; who cannot be mended is lost, comes back, and after
 * doing that twice is faulted. */
#include "world.h"

#include "base/bitmap.h"
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t unreadable[2][WORLD_REGIONS * REPLICA_REGION_BYTES / WORLD_BLOCK / 64];

static struct world *begin(uint64_t seed, unsigned fault_returns) {
    struct world *world = plain_alloc(sizeof(*world));
    memset(unreadable, 0, sizeof(unreadable));
    world_init(world, seed, 2, REPLICA_ANY);
    world->options.fault_returns = fault_returns;
    world_engine_start(world);
    world_settle(world);
    for (unsigned i = 0; i < WORLD_BLOCKS; i++) {
        assert_true(world_begin_write(world, i));
        world_drain(world, NS_PER_S);
    }
    for (unsigned i = 0; i < 2; i++)
        world->disks[i].unreadable = unreadable[i];
    return world;
}

static void finish(struct world *world) {
    world_fini(world);
    plain_free(world);
}

static void spoil(struct world *world, unsigned disk, unsigned block) {
    bitmap_set(unreadable[disk], world->blocks[block].offset / WORLD_BLOCK);
}

/* Both legs are spoiled in turn: one of them is the one that is asked. */
static void is_mended(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = begin(seed, 0);
        struct mirror_status status;
        uint64_t errors = 0, repaired = 0;
        for (unsigned block = 0; block < WORLD_BLOCKS; block++)
            for (unsigned disk = 0; disk < 2; disk++) {
                spoil(world, disk, block);
                assert_true(world_begin_read(world, block));
                world_drain(world, NS_PER_S);
                world_run(world, 10 * NS_PER_MS, 200);
                world_run(world, 10 * NS_PER_MS, 200);
                memset(unreadable[disk], 0, sizeof(unreadable[disk])); /* those who were not asked */
            }
        world_status(world, &status);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(status.legs[i].times_lost, 0);
            errors += status.legs[i].read_errors;
            repaired += status.legs[i].blocks_repaired;
        }
        assert_int_equal(errors, WORLD_BLOCKS);
        assert_int_equal(repaired, WORLD_BLOCKS);
        world_settle(world);
        finish(world);
    }
}

/* Writes, cuts and lost connections around it: data stay right, and everything comes back. */
static void is_mended_under_load(void **state) {
    (void)state;
    for (uint64_t seed = 20; seed < 50; seed++) {
        struct world *world = begin(seed, 1000);
        for (unsigned i = 0; i < 400; i++) {
            world_begin_any(world);
            world_run(world, 20 * NS_PER_US, (unsigned)random_below(&world->random, 20));
            unsigned disk = (unsigned)random_below(&world->random, 2);
            if (i % 10 == 0) { /* never the same block on both: then it is lost */
                unsigned block = (unsigned)random_below(&world->random, WORLD_BLOCKS);
                if (block % 2 == disk)
                    spoil(world, disk, block);
            }
            if (i % 40 == 20)
                world_break(world, disk);
            else if (i % 40 == 30)
                world_mend(world, disk), world_mend(world, 1 - disk);
        }
        memset(unreadable, 0, sizeof(unreadable));
        world_settle(world);
        finish(world);
    }
}

/* A disk that cannot be mended costs its leg, and in the end needs an operator; the other one goes on. */
static void becomes_faulted(void **state) {
    (void)state;
    struct world *world = begin(60, 0);
    struct mirror_status status;
    unsigned returns = 0;
    world->disks[0].stays_unreadable = true;
    for (unsigned block = 0; block < WORLD_BLOCKS; block++)
        spoil(world, 0, block);
    bool whole = true;
    for (unsigned i = 0; i < 200000; i++) {
        (void)world_begin_read(world, (unsigned)random_below(&world->random, WORLD_BLOCKS));
        world_run(world, i % 100 == 0 ? 5 * NS_PER_MS : 20 * NS_PER_US, 20);
        world_status(world, &status);
        bool now = status.legs[0].state == MIRROR_LEG_WHOLE;
        returns += now && !whole;
        whole = now;
        if (status.legs[0].state == MIRROR_LEG_FAULTED)
            break;
    }
    world_drain(world, NS_PER_S);
    assert_int_equal(status.legs[0].state, MIRROR_LEG_FAULTED);
    assert_int_equal(returns, 2);
    assert_int_equal(status.state, MIRROR_SERVING);
    assert_int_equal(status.legs[1].state, MIRROR_LEG_WHOLE);
    assert_int_equal(world->failed, 0);
    finish(world);
}

/* The disk does not take what it could not read: the leg is lost, and comes back; hosts have their data. */
static void a_repair_that_fails_costs_the_leg(void **state) {
    (void)state;
    struct world *world = begin(61, 0);
    struct mirror_status status;
    unsigned lost = 0;
    for (unsigned disk = 0; disk < 2; disk++) {
        world->disks[disk].fail_write = true;
        spoil(world, disk, 4);
        assert_true(world_begin_read(world, 4));
        world_drain(world, NS_PER_S);
        world_pass(world, 5);
        world_status(world, &status);
        lost += status.legs[disk].times_lost == 1;
        assert_int_equal(status.legs[disk].times_lost, status.legs[disk].read_errors);
        assert_int_equal(status.legs[disk].blocks_repaired, 0);
        world_settle(world);
        world->disks[disk].fail_write = false;
        memset(unreadable[disk], 0, sizeof(unreadable[disk]));
    }
    assert_int_equal(lost, 1); /* the one that is read */
    assert_int_equal(world->failed, 0);
    world_settle(world);
    finish(world);
}

/* ---- a disk that hangs ---- */

static struct mirror_leg *leg_of(struct world *world, unsigned disk) { return &mirror_of(world->mirror)->legs[disk]; }
static bool is_lost(struct world *world) { return !mirror_leg_is_up(leg_of(world, 0)); }
static bool is_whole(struct world *world) { return leg_of(world, 0)->task.state == LEG_MEMBER; }

/* Disk 0 hangs, and has been asked for this block. */
static unsigned hang_in_a_read(struct world *world) {
    world->disks[0].hung = true;
    for (unsigned block = 0; block < WORLD_BLOCKS; block++) {
        assert_true(world_begin_read(world, block));
        world_run(world, NS_PER_US, 0);
        if (leg_of(world, 0)->outstanding > 0)
            return block;
        world_drain(world, NS_PER_S);
    }
    fail_msg("it is never asked");
    return 0;
}

/* Of a lost leg a read may end late, and badly: another leg has answered it by then. */
static void what_a_lost_leg_reads_late_is_nobodys(void **state) {
    (void)state;
    struct world *world = begin(70, 1000);
    uint8_t was[WORLD_BLOCKS][WORLD_BLOCK], is[WORLD_BLOCK];
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        memcpy(was[i], world->disks[0].bytes + world->blocks[i].offset, WORLD_BLOCK);
    world_write_all(world);
    unsigned block = hang_in_a_read(world), other = (block + 1) % WORLD_BLOCKS;
    assert_true(world_begin_write(world, other));
    world_until(world, is_lost, "a disk that hangs is not lost");
    world_pass(world, 10);
    uint8_t *bytes = world->disks[0].bytes + world->blocks[block].offset;
    memcpy(is, bytes, WORLD_BLOCK);
    memcpy(bytes, was[block], WORLD_BLOCK); /* as where a flush has failed */
    world->disks[0].hung = false;
    for (unsigned i = 0; i < 1000 && leg_of(world, 0)->outstanding > 0; i++)
        world_run(world, NS_PER_US, 1);
    memcpy(bytes, is, WORLD_BLOCK);
    world_drain(world, NS_PER_S);
    world_settle(world);
    finish(world);
}

/* Nor does the host wait for it: of a leg that was lost by a write, or of one that nobody asks for anything else. */
static void a_read_does_not_wait_for_a_disk_that_hangs(void **state) {
    (void)state;
    for (unsigned writes = 0; writes < 2; writes++) {
        struct world *world = begin(71 + writes, 1000);
        unsigned block = hang_in_a_read(world);
        if (writes > 0)
            assert_true(world_begin_write(world, (block + 1) % WORLD_BLOCKS));
        world_drain(world, NS_PER_S);
        assert_true(is_lost(world));
        assert_true(leg_of(world, 0)->outstanding > 0);
        world->disks[0].hung = false;
        world_until(world, is_whole, "it does not come back");
        world_settle(world);
        finish(world);
    }
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_mended),
        cmocka_unit_test(is_mended_under_load),
        cmocka_unit_test(becomes_faulted),
        cmocka_unit_test(a_repair_that_fails_costs_the_leg),
        cmocka_unit_test(what_a_lost_leg_reads_late_is_nobodys),
        cmocka_unit_test(a_read_does_not_wait_for_a_disk_that_hangs),
    };
    return cmocka_run_group_tests_name("errors of a leg's disk", tests, NULL, NULL);
}
