/* Which legs a mirror has: devices that come late or go, legs added and removed while it runs, and what is refused. Over replicas
 * in memory (replica_disk.h). */
#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

static struct world *begin(unsigned disks, unsigned legs, enum replica_policy policy) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, 7, disks, policy);
    world->options.leg_count = legs;
    for (unsigned i = legs; i < disks; i++)
        world->apart |= 1u << i;
    return world;
}

/* … its engine serves … */
static struct world *begin_serving(unsigned disks, unsigned legs, enum replica_policy policy) {
    struct world *world = begin(disks, legs, policy);
    world_engine_start(world);
    world_serve(world);
    return world;
}

/* … and every block was written. */
static struct world *begin_written(unsigned disks, unsigned legs, enum replica_policy policy) {
    struct world *world = begin_serving(disks, legs, policy);
    world_write_all(world);
    return world;
}

static void restart(struct world *world, unsigned absent) {
    world_engine_kill(world);
    world->absent = absent;
    world_engine_start(world);
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

static enum error_code ask(struct world *world, enum mirror_verb verb, const char *leg, struct mirror_command *command) {
    *command = (struct mirror_command){0};
    return world_do(world, verb, leg, command);
}

/* ---- devices that come and go ---- */

static void no_leg_is_there_yet(void **state) {
    (void)state;
    struct world *world = begin(2, 2, REPLICA_ANY);
    world->absent = 3;
    world_engine_start(world);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_non_null(strstr(now(world).error.text, "a, b"));
    assert_int_equal(block_device_size(world->mirror), 0);
    assert_int_equal(now(world).legs[0].state, MIRROR_LEG_ABSENT);
    world_appear(world, 1);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_non_null(strstr(now(world).error.text, ": a"));
    assert_null(strstr(now(world).error.text, "b"));
    assert_int_equal(block_device_size(world->mirror), WORLD_REGIONS * REPLICA_REGION_BYTES);
    world_appear(world, 0);
    world_serve(world);
    world_write_all(world);
    world_settle(world);
    end(world);
}

/* As an NVMe/TCP controller that is deleted and created again. */
static void a_leg_goes_and_comes_as_a_new_device(void **state) {
    (void)state;
    struct world *world = begin_written(2, 2, REPLICA_ANY);
    world_vanish(world, 1);
    world_pass(world, 20);
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_ABSENT);
    assert_int_equal(now(world).state, MIRROR_SERVING);
    world_write_all(world);
    for (unsigned round = 0; round < 5; round++) {
        world_appear(world, 1);
        world_pass(world, round); /* into each step of coming back */
        world_vanish(world, 1);
        world_pass(world, 2);
    }
    world_write_all(world);
    uint64_t began = sim_now_ns(world->cluster.sim);
    world_settle(world);
    assert_true(sim_now_ns(world->cluster.sim) - began < 2 * NS_PER_S); /* there is no back-off for a new device */
    end(world);
}

static void all_legs_go_and_come(void **state) {
    (void)state;
    struct world *world = begin_written(2, 2, REPLICA_ANY);
    world_vanish(world, 0);
    world_vanish(world, 1);
    world_pass(world, 30);
    assert_int_equal(now(world).state, MIRROR_HOLDING);
    assert_true(world_begin_write(world, 3));
    world_appear(world, 1);
    world_appear(world, 0);
    world_serve(world);
    world_settle(world);
    end(world);
}

static void an_engine_finds_legs_under_each_others_names(void **state) {
    (void)state;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    world_settle(world);
    world_engine_kill(world);
    char name[16]; /* b and c are cabled the other way round, and come late */
    memcpy(name, world->disks[1].name, sizeof(name));
    memcpy(world->disks[1].name, world->disks[2].name, sizeof(name));
    memcpy(world->disks[2].name, name, sizeof(name));
    world->absent = 4;
    world_engine_start(world);
    world_serve(world);
    assert_int_equal(now(world).leg_count, 3);
    world_write_all(world);
    world_settle(world);
    assert_int_equal(now(world).leg_count, 3);
    assert_int_equal(world->disks[0].record.leg_count, 3);
    end(world);
}

static bool told_refusal(struct world *world) { return strstr(now(world).error.text, "as large as") != NULL; }

static void a_leg_of_another_size_is_not_taken(void **state) {
    (void)state;
    struct world *world = begin(2, 2, REPLICA_ANY);
    world->absent = 2;
    replica_disk_fini(&world->disks[1]);
    replica_disk_init(&world->disks[1], "b", MIB(2), 5);
    world_engine_start(world);
    world_appear(world, 1);
    world_until(world, told_refusal, "nobody says why the leg is not taken");
    assert_int_equal(now(world).state, MIRROR_REFUSED);
    assert_false(world->disks[1].has_record);
    end(world);
}

/* ---- added and removed ---- */

static void legs_are_added(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(4, 2, REPLICA_ANY);
    memset(world->disks[2].bytes + 4096, 0x77, 8192); /* what it held does not count */
    world->disks[2].untouched = false;
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    assert_int_equal(world->disks[0].record.leg_count, 3);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_EXISTS);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "x", &command), ERROR_NO_DEVICE);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "d", &command), ERROR_NONE);
    world->apart = 0;
    world_settle(world);
    assert_memory_equal(world->disks[0].bytes, world->disks[2].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
    /* The next engine is told of two, and finds the others in the records. */
    restart(world, 0);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_non_null(strstr(now(world).error.text, "c, d"));
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "d", &command), ERROR_NONE);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world_settle(world);
    assert_int_equal(world->disks[0].record.leg_count, 4);
    end(world);
}

static void a_leg_is_removed_and_added_again(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    struct uuid was = world->disks[2].record.leg;
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NONE);
    assert_int_equal(world->disks[0].record.leg_count, 2);
    assert_false(world->disks[2].has_record);
    world->apart = 4;
    world_write_all(world);
    world_settle(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NOT_FOUND);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world->apart = 0;
    world_settle(world);
    assert_false(uuid_equal(&was, &world->disks[2].record.leg));
    end(world);
}

/* It could not be told, so its record says that it is a member: it means nothing any more. */
static void a_leg_that_is_away_is_removed(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 3, REPLICA_ANY);
    world_break(world, 2);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NONE);
    world->apart = 4;
    assert_true(world->disks[2].has_record);
    world_write_all(world);
    world_settle(world); /* c is not there: marks are cleared again */
    world_mend(world, 2);
    struct uuid was = world->disks[2].record.leg;
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world->apart = 0;
    world_settle(world);
    assert_false(uuid_equal(&was, &world->disks[2].record.leg));
    /* The same at a start that is offered it. */
    world_break(world, 1);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "b", &command), ERROR_NONE);
    was = world->disks[1].record.leg;
    world_write_all(world);
    restart(world, 0);
    world_settle(world);
    assert_false(uuid_equal(&was, &world->disks[1].record.leg));
    end(world);
}

static void the_last_whole_copy_stays(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_serving(2, 2, REPLICA_ANY);
    world_break(world, 0);
    world_pass(world, 100);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "b", &command), ERROR_PERMISSION);
    world_mend(world, 0);
    world_write_all(world);
    world_settle(world);
    end(world);
}

/* Without it the two that remain would be a majority only together: writes would wait for the one that is away. */
static void a_majority_remains(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    world_break(world, 2);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "a", &command), ERROR_BUSY);
    assert_non_null(strstr(command.error.text, "a majority without it"));
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "a", &command), ERROR_BUSY);
    assert_int_equal(now(world).legs[0].state, MIRROR_LEG_WHOLE);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NONE);
    world->apart = 4;
    world_write_all(world);
    world_settle(world);
    end(world);
}

static bool is_answered(struct world *world) { return !world->asked; }

/* The only other copy is lost meanwhile, at each moment of it: then nobody says that nothing was done. What the legs show is what
 * the records have. */
static void all_is_lost_while_a_leg_is_removed(void **state) {
    (void)state;
    unsigned refused = 0, cancelled = 0, done = 0;
    for (unsigned moment = 0; moment < 120; moment++) {
        struct world *world = begin_written(2, 2, REPLICA_ANY);
        world_ask(world, MIRROR_REMOVE_LEG, 1);
        for (unsigned i = 0; i < moment && !is_answered(world); i++)
            world_run(world, NS_PER_US, 1);
        world_break(world, 0);
        world_until(world, is_answered, "it is never answered");
        enum error_code code = world->command.error.code;
        cancelled += code == ERROR_CANCELLED;
        done += code == ERROR_NONE;
        refused += code == ERROR_PERMISSION; /* it was the last one by then */
        world_mend(world, 0);
        world_serve(world);
        world_pass(world, 100);
        bool has = strcmp(now(world).legs[1].name, "b") == 0;
        assert_int_equal(world->disks[0].record.leg_count, has ? 2 : 1);
        assert_true(has || code == ERROR_CANCELLED || code == ERROR_NONE);
        assert_true(!has || code == ERROR_CANCELLED || code == ERROR_PERMISSION);
        world->apart = has ? 0 : 2;
        world_settle(world);
        end(world);
    }
    assert_true(refused > 0 && cancelled > 0 && done > 0);
}

/* Whether the last change of its legs was made, one that resumes does not know: it names all, and the records say. */
static void one_that_resumes_has_the_legs_of_the_records(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    world->options.resume_count = 1;
    world->options.resume[0] = now(world).engine;
    for (unsigned round = 0; round < 2; round++) { /* there at the start, and not */
        assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NONE);
        world->apart = 4;
        world_write_all(world);
        restart(world, round == 0 ? 0 : 4);
        world_serve(world);
        world->options.resume[0] = now(world).engine;
        world_write_all(world);
        assert_string_equal(now(world).legs[2].name, "");
        assert_int_equal(world->disks[0].record.leg_count, 2);
        assert_false(world->disks[2].has_record);
        if (round == 1)
            world_appear(world, 2);
        assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
        world->apart = 0;
        world_settle(world);
        assert_int_equal(world->disks[0].record.leg_count, 3);
    }
    /* One that they have is a leg, there or not. */
    restart(world, 4);
    world_serve(world);
    world_write_all(world);
    assert_string_equal(now(world).legs[2].name, "c");
    world_appear(world, 2);
    world_settle(world);
    assert_int_equal(world->disks[0].record.leg_count, 3);
    end(world);
}

/* A disk of the test that holds something, and no record. */
static void fill(struct replica_disk *disk, uint8_t with) {
    memset(disk->bytes, with, disk->size);
    memset(disk->durable, with, disk->size);
    disk->untouched = false;
}

/* What was b is gone; another disk is in its place. */
static void put_stranger(struct world *world, const char *name) {
    replica_disk_fini(&world->disks[1]);
    replica_disk_init(&world->disks[1], name, WORLD_REGIONS * REPLICA_REGION_BYTES, 9);
    fill(&world->disks[1], 0x5c);
}

static bool says_stranger(struct world *world) { return strstr(now(world).legs[1].why, "it holds data, and no record") != NULL; }

/* The records have b as blank, and b is not there: c, which comes late, is no more b for that. */
static void a_stranger_in_the_place_of_a_blank_leg_is_kept(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 2, REPLICA_ANY);
    world_break(world, 1);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "b", &command), ERROR_NONE);
    world_engine_kill(world);
    assert_int_equal(world->disks[0].record.legs[1].flags & REPLICA_LEG_BLANK, REPLICA_LEG_BLANK);
    put_stranger(world, "c");
    memcpy(world->disks[2].name, "d", 2);
    world->absent = 6;
    world_engine_start(world);
    world_serve(world);
    world_appear(world, 1);
    world_until(world, says_stranger, "the stranger is taken");
    world_write_all(world);
    assert_int_equal(world->disks[1].writes, 0);
    assert_false(world->disks[1].has_record);
    /* who says so gives it up */
    assert_int_equal(ask(world, MIRROR_DISCARD, "c", &command), ERROR_NONE);
    world_settle(world);
    end(world);
}

/* Two names that begin alike, and are longer than what a record has of them. */
static void the_beginning_of_a_name_gives_nothing_up(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin(3, 2, REPLICA_ANY);
    snprintf(world->disks[1].name, sizeof(world->disks[1].name), "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-b");
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_break(world, 1);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_INVALIDATE, world->disks[1].name, &command), ERROR_NONE);
    world_engine_kill(world);
    assert_int_equal(world->disks[0].record.legs[1].flags & REPLICA_LEG_BLANK, REPLICA_LEG_BLANK);
    put_stranger(world, "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-c");
    world->absent = 6;
    world_engine_start(world);
    world_serve(world);
    world_appear(world, 1);
    world_until(world, says_stranger, "the stranger is taken");
    world_write_all(world);
    assert_int_equal(world->disks[1].writes, 0);
    assert_int_equal(ask(world, MIRROR_DISCARD, world->disks[1].name, &command), ERROR_NONE);
    world_settle(world);
    end(world);
}

/* All members are lost at each moment of giving a stranger up: where that is answered as not done it is not done later. */
static void a_discard_that_failed_overwrites_nothing(void **state) {
    (void)state;
    unsigned busy = 0, done = 0;
    for (unsigned moment = 0; moment < 30; moment++) {
        struct world *world = begin_written(3, 2, REPLICA_ANY);
        world_break(world, 1);
        world_write_all(world);
        world_engine_kill(world);
        put_stranger(world, "b");
        world_engine_start(world);
        world_serve(world);
        world_until(world, says_stranger, "the stranger is taken");
        world_ask(world, MIRROR_DISCARD, 1);
        for (unsigned i = 0; i < moment && !is_answered(world); i++)
            world_run(world, NS_PER_US, 1);
        world_break(world, 0);
        world_until(world, is_answered, "it is never answered");
        enum error_code code = world->command.error.code;
        world_mend(world, 0);
        world_serve(world);
        world_pass(world, 300);
        busy += code == ERROR_BUSY;
        done += code == ERROR_NONE;
        if (code == ERROR_BUSY) {
            assert_int_equal(world->disks[1].writes, 0);
            assert_false(world->disks[1].has_record);
            world->apart = 6;
        } else {
            assert_true(code == ERROR_NONE || code == ERROR_CANCELLED);
            if (!world->disks[1].has_record)
                world->apart = 6;
        }
        end(world);
    }
    assert_true(busy > 0 && done > 0);
}

/* Whoever overwrites says that what others hold is given up: not for a leg that holds nothing. */
static void what_holds_nothing_overwrites_nothing(void **state) {
    (void)state;
    struct world *world = begin(3, 3, REPLICA_ANY);
    fill(&world->disks[1], 0x5b);
    fill(&world->disks[2], 0x5c);
    world->options.overwrite = true;
    world_engine_start(world);
    world_serve(world);
    world_pass(world, 2000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(world->disks[i].bytes[MIB(1) + 5], 0x5b);
    end(world);
}

static void a_leg_of_another_mirror_is_refused(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_serving(3, 2, REPLICA_ANY);
    struct replica_disk *other = &world->disks[2];
    other->has_record = true;
    other->record = world->disks[0].record;
    other->record.mirror.bytes[3] ^= 1;
    other->record.leg.bytes[3] ^= 1;
    struct replica_record before = other->record;
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_PERMISSION);
    assert_non_null(strstr(command.error.text, "is a leg of mirror"));
    assert_memory_equal(&before, &other->record, sizeof(before));
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_PERMISSION); /* the slot was given back */
    assert_string_equal(now(world).legs[2].name, "");
    world_settle(world);
    end(world);
}

static void slots_are_used_again(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_serving(3, 2, REPLICA_ANY);
    for (unsigned i = 0; i < 12; i++) { /* slots are used again */
        assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
        world_pass(world, i);
        assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "c", &command), ERROR_NONE);
    }
    world_write_all(world);
    world_settle(world);
    end(world);
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_leg_is_there_yet),
        cmocka_unit_test(a_leg_goes_and_comes_as_a_new_device),
        cmocka_unit_test(all_legs_go_and_come),
        cmocka_unit_test(an_engine_finds_legs_under_each_others_names),
        cmocka_unit_test(a_leg_of_another_size_is_not_taken),
        cmocka_unit_test(legs_are_added),
        cmocka_unit_test(a_leg_is_removed_and_added_again),
        cmocka_unit_test(a_leg_that_is_away_is_removed),
        cmocka_unit_test(the_last_whole_copy_stays),
        cmocka_unit_test(a_majority_remains),
        cmocka_unit_test(all_is_lost_while_a_leg_is_removed),
        cmocka_unit_test(one_that_resumes_has_the_legs_of_the_records),
        cmocka_unit_test(a_stranger_in_the_place_of_a_blank_leg_is_kept),
        cmocka_unit_test(the_beginning_of_a_name_gives_nothing_up),
        cmocka_unit_test(a_discard_that_failed_overwrites_nothing),
        cmocka_unit_test(what_holds_nothing_overwrites_nothing),
        cmocka_unit_test(a_leg_of_another_mirror_is_refused),
        cmocka_unit_test(slots_are_used_again),
    };
    return cmocka_run_group_tests_name("legs of a mirror", tests, NULL, NULL);
}
