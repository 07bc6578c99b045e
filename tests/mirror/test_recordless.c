/* Legs that keep no record: alone, where each start is told whose content counts, and beside legs that do (foreign ones). Over
 * replicas in memory (replica_disk.h), some of which are none. */
#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

#define BYTES (WORLD_REGIONS * REPLICA_REGION_BYTES)

/* The disks of `plain` keep no record. */
static struct world *make(uint64_t seed, unsigned disks, unsigned plain) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, seed, disks, REPLICA_ANY);
    for (unsigned i = 0; i < disks; i++)
        world->disks[i].plain = (plain >> i & 1) != 0;
    return world;
}

static void end(struct world *world) {
    world_fini(world);
    plain_free(world);
}

static struct mirror_status now(struct world *world) {
    struct mirror_status status;
    world_status(world, &status);
    return status;
}

static void check_equal(struct world *world) {
    world_settle(world);
    for (unsigned i = 1; i < world->disk_count; i++)
        assert_memory_equal(world->disks[0].bytes, world->disks[i].bytes, BYTES);
}

/* Its connection is lost, and all that was sent on it has arrived or never will: nothing keeps late writes off such a leg. */
static void lose(struct world *world, unsigned disk) {
    world_break(world, disk);
    while (world->disks[disk].operation_count > 0)
        world_run(world, 20 * NS_PER_US, 20);
    while (!world_begin_write(world, 0)) /* and somebody asks it for something */
        world_run(world, 20 * NS_PER_US, 20);
    world_drain(world, NS_PER_S);
    world_pass(world, 20);
}

static enum error_code ask(struct world *world, enum mirror_verb verb, const char *leg, bool foreign,
                           struct mirror_command *command) {
    *command = (struct mirror_command){.foreign = foreign};
    return world_do(world, verb, leg, command);
}

/* ---- alone ---- */

static void one_is_copied_to_the_others(void **state) {
    (void)state;
    struct world *world = make(1, 3, 7);
    memset(world->disks[0].bytes, 0x11, BYTES); /* what the first one holds does not count: the second one is named */
    memset(world->disks[2].bytes + MIB(3), 0x33, MIB(1));
    world->disks[1].bytes[MIB(2) - 9] = 0x22;
    world->options.source_set = true;
    world->options.source = 1;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    check_equal(world);
    assert_int_equal(world->disks[0].bytes[MIB(2) - 9], 0x22);
    end(world);
}

static bool told(struct world *world) { return now(world).state == MIRROR_REFUSED; }
static bool waits(struct world *world) { return strstr(now(world).error.text, "is not there") != NULL; }

static void somebody_has_to_say_whose_content_counts(void **state) {
    (void)state;
    struct world *world = make(2, 2, 3);
    world->absent = 3;
    world_engine_start(world);
    world_appear(world, 0);
    world_appear(world, 1);
    world_until(world, told, "it is not refused");
    assert_non_null(strstr(now(world).error.text, "keep no record"));
    assert_int_equal(world->disks[0].writes + world->disks[1].writes, 0);
    world_engine_kill(world);
    /* the named one is waited for, whoever else is there */
    world->absent = 2;
    world->options.source_set = true;
    world->options.source = 1;
    world_engine_start(world);
    world_until(world, waits, "nobody says who is waited for");
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    world_appear(world, 1);
    world_serve(world);
    check_equal(world);
    end(world);
}

/* Whoever is lost gets all when he is back; the last one stays. */
static void they_are_lost_and_come_back(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world *world = make(seed, 3, 7);
        world->options.assume_equal = true;
        world_engine_start(world);
        world_serve(world);
        for (unsigned round = 0; round < 6; round++) {
            unsigned victim = (unsigned)random_below(&world->random, 3);
            lose(world, victim);
            assert_int_equal(now(world).state, MIRROR_SERVING);
            assert_int_not_equal(now(world).legs[victim].state, MIRROR_LEG_WHOLE);
            for (unsigned i = 0; i < 100; i++) {
                world_begin_any(world);
                world_run(world, NS_PER_MS, 20);
            }
            world_drain(world, NS_PER_S);
            uint64_t copied = now(world).legs[victim].bytes_copied;
            world_mend(world, victim);
            check_equal(world);
            assert_int_equal(now(world).legs[victim].bytes_copied - copied, BYTES);
        }
        assert_int_equal(world->failed, 0);
        end(world);
    }
}

static void they_grow(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = make(5, 3, 7);
    world->options.leg_count = 2;
    world->apart = 4;
    world->options.assume_equal = true;
    memset(world->disks[2].bytes, 0x77, BYTES);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", false, &command), ERROR_NONE);
    world->apart = 0;
    world_write_all(world);
    check_equal(world);
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "a", false, &command), ERROR_NONE);
    check_equal(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "a", false, &command), ERROR_NONE);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "b", false, &command), ERROR_NONE);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", false, &command), ERROR_PERMISSION); /* the last one */
    assert_int_equal(now(world).state, MIRROR_SERVING);
    end(world);
}

/* ---- beside legs with a record ---- */

static struct world *mixed(uint64_t seed) {
    struct world *world = make(seed, 3, 4);
    memset(world->disks[2].bytes, 0x77, BYTES); /* what it held does not count */
    world->options.legs[2].foreign = true;
    world_engine_start(world);
    world_serve(world);
    return world;
}

static bool all_are_whole(struct world *world) { return now(world).legs[2].state == MIRROR_LEG_WHOLE; }

static void a_foreign_leg_gets_all_and_is_read(void **state) {
    (void)state;
    struct world *world = mixed(11);
    world_write_all(world);
    world_until(world, all_are_whole, "the foreign leg does not become whole");
    assert_true(now(world).legs[2].foreign);
    assert_non_null(strstr(now(world).legs[2].why, "keeps no record"));
    check_equal(world);
    struct mirror *mirror = mirror_of(world->mirror);
    assert_int_equal(mirror->readers, 7);
    assert_int_equal(mirror->members, 3);
    assert_int_equal(world->disks[0].record.leg_count, 2); /* nobody else hears of it */
    /* with it marks are cleared as if it were not there, and it changes no epoch */
    uint64_t changes = now(world).changes;
    lose(world, 2);
    world_write_all(world);
    for (unsigned i = 0; i < 200 && now(world).marked_regions > 0; i++)
        world_pass(world, 100);
    assert_int_equal(now(world).marked_regions, 0);
    assert_int_equal(now(world).changes, changes);
    world_mend(world, 2);
    check_equal(world);
    /* the next engine does not know it, but has it named */
    world_engine_kill(world);
    while (world->disks[2].operation_count > 0)
        world_run(world, 20 * NS_PER_US, 20);
    world_engine_start(world);
    check_equal(world);
    end(world);
}

static void a_foreign_leg_never_goes_on_alone(void **state) {
    (void)state;
    struct world *world = mixed(12);
    world_write_all(world);
    world_until(world, all_are_whole, "the foreign leg does not become whole");
    world_break(world, 0);
    world_break(world, 1);
    assert_true(world_begin_write(world, 1) && world_begin_read(world, 2));
    world_pass(world, 60);
    assert_int_equal(now(world).state, MIRROR_HOLDING);
    assert_int_equal(world->failed, 0);
    assert_true(world->ops[0].busy && world->ops[1].busy);
    world_mend(world, 0);
    world_mend(world, 1);
    check_equal(world);
    end(world);
}

/* Any of them comes and goes under load. */
static void all_kinds_come_and_go(void **state) {
    (void)state;
    for (uint64_t seed = 20; seed < 26; seed++) {
        struct world *world = mixed(seed);
        for (unsigned round = 0; round < 8; round++) {
            unsigned victim = (unsigned)random_below(&world->random, 3);
            for (unsigned i = 0; i < 60; i++) {
                world_begin_any(world);
                world_run(world, 100 * NS_PER_US, 20);
            }
            if (victim == 2)
                lose(world, victim);
            else
                world_break(world, victim);
            for (unsigned i = 0; i < 60; i++) {
                world_begin_any(world);
                world_run(world, 300 * NS_PER_US, 20);
            }
            world_mend(world, victim);
            if (victim == 2) /* which others need not wait for */
                world_pass(world, random_below(&world->random, 60));
            else
                check_equal(world);
        }
        check_equal(world);
        assert_int_equal(world->failed, 0);
        end(world);
    }
}

/* What its disk fails is its own affair, and what members fail is not made good by it. */
static void members_are_not_judged_by_it(void **state) {
    (void)state;
    struct world *world = mixed(31);
    world_until(world, all_are_whole, "the foreign leg does not become whole");
    world->disks[0].full = world->disks[1].full = true;
    uint64_t failed = world->failed;
    assert_true(world_begin_write(world, 1));
    world_drain(world, NS_PER_S);
    assert_int_equal(world->failed, failed + 1);
    assert_int_equal(mirror_of(world->mirror)->standing, 3);
    world->disks[0].full = world->disks[1].full = false;
    world_settle(world);
    world->disks[2].full = true;
    world_write_all(world);
    assert_int_equal(mirror_of(world->mirror)->standing, 3);
    assert_int_equal(mirror_of(world->mirror)->foreign, 0);
    assert_int_equal(world->failed, failed + 1);
    world->disks[2].full = false;
    check_equal(world);
    /* slow members are no worse than a quick leg that does not count */
    world_run(world, 0, 0);
    world->disks[0].hung = world->disks[1].hung = true;
    assert_true(world_begin_write(world, 1));
    world_pass(world, 200);
    assert_int_equal(mirror_of(world->mirror)->standing, 3);
    world->disks[0].hung = world->disks[1].hung = false;
    check_equal(world);
    end(world);
}

static bool is_verified(struct world *world) { return now(world).verify.state == MIRROR_VERIFY_DONE; }

static void verify_reads_it(void **state) {
    (void)state;
    struct world *world = mixed(41);
    world_write_all(world);
    check_equal(world);
    world->disks[2].bytes[MIB(3) + 5] ^= 1;
    struct mirror_set verify = {.what = MIRROR_VERIFY_START, .verify = {.repair = true}};
    assert_int_equal(world_set(world, &verify), ERROR_NONE);
    world_until(world, is_verified, "verify does not end");
    assert_int_equal(now(world).verify.mismatches, 1);
    assert_int_equal(now(world).verify.repaired, 1);
    assert_int_equal(now(world).verify.leg_mismatches[2], 1);
    check_equal(world);
    end(world);
}

static void one_is_removed_and_added(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = mixed(51);
    world_until(world, all_are_whole, "the foreign leg does not become whole");
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "c", false, &command), ERROR_NONE);
    world_until(world, all_are_whole, "the foreign leg does not become whole");
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", false, &command), ERROR_NONE);
    assert_string_equal(now(world).legs[2].name, "");
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", false, &command), ERROR_UNSUPPORTED); /* nobody said that it is foreign */
    assert_non_null(strstr(command.error.text, "keeps a record"));
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", true, &command), ERROR_NONE);
    world_write_all(world);
    check_equal(world);
    end(world);
}

/* ---- upon a snapshot ---- */

static bool is_filling(struct world *world) { return strstr(now(world).legs[2].why, "filled by somebody else") != NULL; }

/* Two members whose head stands upon a snapshot, tree 7, and has had region 2 written since; the third one's head stands upon the
 * same, by somebody else's doing. */
static struct world *upon(uint64_t seed, const uint64_t *owned) {
    struct world *world = make(seed, 3, 4);
    world->options.leg_count = 2;
    world->apart = 4;
    for (unsigned i = 0; i < 2; i++) {
        world->disks[i].owned = owned;
        world->disks[i].tree_sequence = 7;
    }
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_settle(world);
    memcpy(world->disks[2].bytes, world->disks[0].bytes, BYTES);
    memset(world->disks[2].bytes + MIB(2), 0x55, MIB(1));
    return world;
}

static void what_was_written_since_is_copied_alone(void **state) {
    (void)state;
    static const uint64_t owned[1] = {1u << 2};
    for (uint64_t seed = 71; seed < 75; seed++) {
        struct world *world = upon(seed, owned);
        struct mirror_command command = {.foreign = true, .upon = 7};
        for (unsigned i = 0; i < 20; i++) /* also while it comes: these are copied or written */
            world_begin_any(world);
        assert_int_equal(world_do(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
        world->apart = 0;
        for (unsigned i = 0; i < 40; i++) {
            world_begin_any(world);
            world_run(world, 100 * NS_PER_US, 20);
        }
        world_until(world, is_filling, "it does not get as far as that");
        assert_int_equal(now(world).legs[2].state, MIRROR_LEG_SYNCING);
        struct mirror *mirror = mirror_of(world->mirror);
        assert_int_equal(mirror->readers, 3);
        assert_int_equal(mirror->writers, 7);
        assert_true(now(world).legs[2].bytes_copied <= MIB(1));
        world_write_all(world);
        assert_int_equal(ask(world, MIRROR_FILLED, "d", false, &command), ERROR_NOT_FOUND);
        assert_int_equal(ask(world, MIRROR_FILLED, "c", false, &command), ERROR_NONE);
        assert_int_equal(now(world).legs[2].state, MIRROR_LEG_WHOLE);
        assert_int_equal(mirror->readers, 7);
        check_equal(world);
        uint64_t copied = now(world).legs[2].bytes_copied;
        lose(world, 2); /* nothing is known of what it misses */
        world_mend(world, 2);
        check_equal(world);
        assert_int_equal(now(world).legs[2].bytes_copied - copied, BYTES);
        end(world);
    }
}

/* What the members' heads hold says nothing of it. */
static void with_another_tree_all_is_copied(void **state) {
    (void)state;
    static const uint64_t owned[1] = {0};
    struct world *world = upon(81, owned);
    struct mirror_command command = {.foreign = true, .upon = 6};
    assert_int_equal(world_do(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world->apart = 0;
    world_until(world, is_filling, "it does not get as far as that");
    assert_int_equal(now(world).legs[2].bytes_copied, BYTES);
    assert_int_equal(ask(world, MIRROR_FILLED, "c", false, &command), ERROR_NONE);
    check_equal(world);
    end(world);
    world = upon(82, NULL); /* nor do they tell */
    command = (struct mirror_command){.foreign = true, .upon = 7};
    assert_int_equal(world_do(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world->apart = 0;
    world_until(world, is_filling, "it does not get as far as that");
    assert_int_equal(now(world).legs[2].bytes_copied, BYTES);
    assert_int_equal(ask(world, MIRROR_FILLED, "c", false, &command), ERROR_NONE);
    check_equal(world);
    end(world);
}

/* ---- refused ---- */

static bool says_why(struct world *world) { return strstr(now(world).legs[2].why, "record") != NULL; }

static void what_is_named_wrongly_is_refused(void **state) {
    (void)state;
    struct world *world = make(61, 3, 4); /* no record, and nobody said so */
    world->absent = 4;
    world_engine_start(world);
    world_appear(world, 2);
    world_until(world, says_why, "nobody says why the leg is not taken");
    assert_int_equal(world->disks[2].writes, 0);
    end(world);
    world = make(62, 3, 0); /* it has one, and is called foreign */
    world->options.legs[2].foreign = true;
    world->absent = 4;
    world_engine_start(world);
    world_appear(world, 2);
    world_until(world, says_why, "nobody says why the leg is not taken");
    assert_false(world->disks[2].has_record);
    world_serve(world);
    end(world);
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_copied_to_the_others),
        cmocka_unit_test(somebody_has_to_say_whose_content_counts),
        cmocka_unit_test(they_are_lost_and_come_back),
        cmocka_unit_test(they_grow),
        cmocka_unit_test(a_foreign_leg_gets_all_and_is_read),
        cmocka_unit_test(a_foreign_leg_never_goes_on_alone),
        cmocka_unit_test(all_kinds_come_and_go),
        cmocka_unit_test(members_are_not_judged_by_it),
        cmocka_unit_test(verify_reads_it),
        cmocka_unit_test(one_is_removed_and_added),
        cmocka_unit_test(what_was_written_since_is_copied_alone),
        cmocka_unit_test(with_another_tree_all_is_copied),
        cmocka_unit_test(what_is_named_wrongly_is_refused),
    };
    return cmocka_run_group_tests_name("legs without a record", tests, NULL, NULL);
}
