/* Verify over replicas in memory: what silently changed on one of them is found, told apart from what is being written, and
 * mended from whom it should be. */
#include "world.h"

#include "base/bitmap.h"
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

static struct world *begin(uint64_t seed, unsigned disks) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, seed, disks, REPLICA_ANY);
    world_engine_start(world);
    world_settle(world);
    for (unsigned i = 0; i < WORLD_BLOCKS; i++) {
        assert_true(world_begin_write(world, i));
        world_drain(world, NS_PER_S);
    }
    return world;
}

static void finish(struct world *world) {
    world_settle(world);
    world_fini(world);
    plain_free(world);
}

static void run(struct world *world, bool with_load, struct mirror_verify_status *ret_status) {
    struct mirror_status status;
    uint64_t end = sim_now_ns(world->cluster.sim) + 100 * NS_PER_S;
    do {
        if (with_load)
            world_begin_any(world);
        world_run(world, 20 * NS_PER_US, 20);
        world_status(world, &status);
        assert_true(sim_now_ns(world->cluster.sim) < end);
    } while (status.verify.state == MIRROR_VERIFY_RUNNING);
    *ret_status = status.verify;
}

static struct mirror_verify_status verify(struct world *world, const struct mirror_verify_options *options, bool with_load) {
    struct mirror_verify_status status;
    struct mirror_set set = {.what = MIRROR_VERIFY_START, .verify = *options};
    assert_int_equal(world_set(world, &set), ERROR_NONE);
    run(world, with_load, &status);
    assert_int_equal(status.state, MIRROR_VERIFY_DONE);
    assert_int_equal(status.done, status.total);
    return status;
}

/* A byte of a block of the world changes on one disk. */
static void rot(struct world *world, unsigned disk, unsigned block) {
    world->disks[disk].bytes[world->blocks[block].offset + 7] ^= 0x40;
    world->disks[disk].durable[world->blocks[block].offset + 7] ^= 0x40;
}

static void equal_legs_under_load(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = begin(seed, 3);
        struct mirror_verify_status status = verify(world, &(struct mirror_verify_options){.repair = true}, true);
        assert_int_equal(status.mismatches, 0);
        assert_int_equal(status.repaired, 0);
        assert_int_equal(status.last_offset, UINT64_MAX);
        finish(world);
    }
}

static void majority_mends(void **state) {
    (void)state;
    for (unsigned rotten = 0; rotten < 3; rotten++) {
        struct world *world = begin(20 + rotten, 3);
        rot(world, rotten, 2);
        rot(world, rotten, 8); /* the same region, another block */
        rot(world, rotten, 5);
        world->disks[rotten].bytes[world->blocks[5].offset + WORLD_BLOCK] ^= 1; /* the next one, that was never written */
        struct mirror_verify_status status = verify(world, &(struct mirror_verify_options){0}, false);
        assert_int_equal(status.mismatches, 4);
        assert_int_equal(status.repaired, 0);
        assert_int_equal(status.leg_mismatches[rotten], 4);
        assert_int_equal(status.undecided, 0);
        status = verify(world, &(struct mirror_verify_options){.repair = true}, false);
        assert_int_equal(status.mismatches, 4);
        assert_int_equal(status.repaired, 4);
        assert_int_not_equal(status.last_offset, UINT64_MAX);
        assert_non_null(strstr(status.last, "two agree"));
        status = verify(world, &(struct mirror_verify_options){.repair = true}, false);
        assert_int_equal(status.mismatches, 0);
        finish(world); /* compares all blocks with the model */
    }
}

static void trusted_leg_decides(void **state) {
    (void)state;
    for (unsigned rotten = 0; rotten < 2; rotten++) {
        struct world *world = begin(30 + rotten, 2);
        rot(world, rotten, 4);
        struct mirror_verify_options options = {.repair = true, .trusted_set = true, .trusted = 1 - rotten};
        struct mirror_verify_status status = verify(world, &options, false);
        assert_int_equal(status.mismatches, 1);
        assert_int_equal(status.undecided, 1);
        assert_int_equal(status.repaired, 1);
        assert_int_equal(status.leg_mismatches[rotten], 1);
        assert_non_null(strstr(status.last, "trusted"));
        finish(world);
    }
}

/* Rot that is written over before it is looked at is none; rot beside writes is found and mended all the same. */
static void mends_under_load(void **state) {
    (void)state;
    uint64_t mended = 0;
    for (uint64_t seed = 40; seed < 60; seed++) {
        struct world *world = begin(seed, 3);
        unsigned block = (unsigned)random_below(&world->random, WORLD_BLOCKS);
        /* reads would show it: the load only writes */
        rot(world, (unsigned)random_below(&world->random, 3), block);
        struct mirror_set set = {.what = MIRROR_VERIFY_START, .verify = {.repair = true}};
        assert_int_equal(world_set(world, &set), ERROR_NONE);
        struct mirror_status status;
        do {
            (void)world_begin_write(world, (unsigned)random_below(&world->random, WORLD_BLOCKS));
            world_run(world, 20 * NS_PER_US, 20);
            world_status(world, &status);
        } while (status.verify.state == MIRROR_VERIFY_RUNNING);
        assert_int_equal(status.verify.mismatches, status.verify.repaired);
        assert_true(status.verify.mismatches <= 1);
        mended += status.verify.repaired;
        finish(world);
    }
    assert_true(mended > 0);
}

static void stops_and_goes_on(void **state) {
    (void)state;
    struct world *world = begin(70, 2);
    struct mirror_verify_status status;
    struct mirror_set start = {.what = MIRROR_VERIFY_START}, stop = {.what = MIRROR_VERIFY_STOP};
    assert_int_equal(world_set(world, &stop), ERROR_NOT_FOUND);
    start.verify.resume = true;
    assert_int_equal(world_set(world, &start), ERROR_INVALID);
    start.verify = (struct mirror_verify_options){.trusted_set = true, .trusted = 7};
    assert_int_equal(world_set(world, &start), ERROR_INVALID);
    struct mirror_set slow = {.what = MIRROR_SET_RATES, .rates = {.bytes_per_s = MIB(100)}};
    assert_int_equal(world_set(world, &slow), ERROR_NONE);
    start.verify = (struct mirror_verify_options){0};
    assert_int_equal(world_set(world, &start), ERROR_NONE);
    assert_int_equal(world_set(world, &start), ERROR_BUSY);
    world_run(world, 15 * NS_PER_MS, 200);
    assert_int_equal(world_set(world, &stop), ERROR_NONE);
    run(world, false, &status);
    assert_int_equal(status.state, MIRROR_VERIFY_STOPPED);
    assert_true(status.done > 0 && status.done < status.total);
    uint64_t before = status.done;
    start.verify.resume = true;
    assert_int_equal(world_set(world, &start), ERROR_NONE);
    run(world, false, &status);
    assert_int_equal(status.state, MIRROR_VERIFY_DONE);
    assert_int_equal(status.done, status.total);
    assert_true(status.done > before);
    finish(world);
}

/* A leg that is lost in the middle costs its region's comparing at most; with one leg left it waits. */
static void survives_losses(void **state) {
    (void)state;
    for (uint64_t seed = 80; seed < 100; seed++) {
        struct world *world = begin(seed, 2 + seed % 2);
        struct mirror_set set = {.what = MIRROR_VERIFY_START, .verify = {.repair = true}};
        assert_int_equal(world_set(world, &set), ERROR_NONE);
        struct mirror_status status;
        for (unsigned i = 0; i < 40; i++) {
            world_begin_any(world);
            world_run(world, 20 * NS_PER_US, (unsigned)random_below(&world->random, 20));
            unsigned disk = (unsigned)random_below(&world->random, world->disk_count);
            if (random_chance(&world->random, 1, 8))
                world_break(world, disk);
            if (random_chance(&world->random, 1, 2))
                world_mend(world, disk);
        }
        world_settle(world);
        run(world, false, &(struct mirror_verify_status){0});
        world_status(world, &status);
        assert_int_equal(status.verify.mismatches, 0);
        finish(world);
    }
}

/* A share: hosts' requests are never behind more than one piece of it, and a bound on bytes a second holds. */
static void rate_is_kept(void **state) {
    (void)state;
    struct world *world = begin(110, 2);
    struct mirror_set rates = {.what = MIRROR_SET_RATES, .rates = {.share_percent = 101}};
    assert_int_equal(world_set(world, &rates), ERROR_INVALID);
    rates.rates = (struct mirror_rates){.bytes_per_s = MIB(10)};
    assert_int_equal(world_set(world, &rates), ERROR_NONE);
    uint64_t begin_ns = sim_now_ns(world->cluster.sim);
    verify(world, &(struct mirror_verify_options){0}, true);
    uint64_t took_ms = (sim_now_ns(world->cluster.sim) - begin_ns) / NS_PER_MS;
    assert_true(took_ms >= (WORLD_REGIONS - 1) * 100);
    assert_true(took_ms < WORLD_REGIONS * 100 + 100);
    finish(world);
}

static uint64_t unreadable[WORLD_REGIONS * REPLICA_REGION_BYTES / WORLD_BLOCK / 64];

static void spoil(struct world *world, unsigned disk, unsigned block) {
    memset(unreadable, 0, sizeof(unreadable));
    bitmap_set(unreadable, world->blocks[block].offset / WORLD_BLOCK);
    world->disks[disk].unreadable = unreadable;
}

/* A leg that cannot read a block differs from everybody, and is never the one that counts. */
static void what_cannot_be_read_is_written_anew(void **state) {
    (void)state;
    for (unsigned disk = 0; disk < 2; disk++)
        for (unsigned stays = 0; stays < 2; stays++) {
            struct world *world = begin(120 + disk, 2);
            struct mirror_verify_options options = {.repair = true, .trusted_set = true, .trusted = disk};
            spoil(world, disk, 4);
            world->disks[disk].stays_unreadable = stays != 0;
            struct mirror_verify_status status = verify(world, &options, false);
            assert_true(status.mismatches > 0);
            assert_int_equal(status.leg_mismatches[disk], status.mismatches);
            assert_int_equal(status.leg_mismatches[1 - disk], 0);
            assert_int_equal(status.repaired, stays != 0 ? 0 : status.mismatches);
            assert_int_equal(strcmp(status.last, "what was written anew differs still") == 0, stays != 0);
            world->disks[disk].unreadable = NULL;
            finish(world);
        }
}

static void cannot_read_any_more(void *arg, struct replica_disk *disk, const char *name) {
    if (strcmp(name, "before read") == 0)
        spoil(arg, (unsigned)(disk - ((struct world *)arg)->disks), 4);
}

/* Nothing is counted as mended that was not, and the next one mends it: it could not be written; whose content counts could not
 * be read any more. */
static void what_could_not_be_mended_is_told_as_skipped(void **state) {
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct world *world = begin(130 + round, 3);
        rot(world, 2, 4);
        world->disks[2].fail_write = round == 0;
        world->disks[0].point = round == 0 ? NULL : cannot_read_any_more;
        world->disks[0].point_arg = world;
        struct mirror_verify_options options = {.repair = true};
        struct mirror_verify_status status = verify(world, &options, false);
        assert_int_equal(status.mismatches, 1);
        assert_int_equal(status.repaired, 0);
        assert_int_equal(status.skipped, 1);
        assert_int_not_equal(world->disks[2].bytes[world->blocks[4].offset + 7],
                             world->disks[1].bytes[world->blocks[4].offset + 7]);
        world->disks[0].point = NULL;
        world->disks[0].unreadable = NULL;
        status = verify(world, &options, false);
        assert_int_equal(status.repaired, 1);
        finish(world);
    }
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_legs_under_load),
        cmocka_unit_test(majority_mends),
        cmocka_unit_test(trusted_leg_decides),
        cmocka_unit_test(mends_under_load),
        cmocka_unit_test(stops_and_goes_on),
        cmocka_unit_test(survives_losses),
        cmocka_unit_test(rate_is_kept),
        cmocka_unit_test(what_cannot_be_read_is_written_anew),
        cmocka_unit_test(what_could_not_be_mended_is_told_as_skipped),
    };
    return cmocka_run_group_tests_name("verify of a mirror", tests, NULL, NULL);
}
