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

static void swap_names(struct world *world, unsigned one, unsigned other) {
    char name[16];
    memcpy(name, world->disks[one].name, sizeof(name));
    memcpy(world->disks[one].name, world->disks[other].name, sizeof(name));
    memcpy(world->disks[other].name, name, sizeof(name));
}

static void an_engine_finds_legs_under_each_others_names(void **state) {
    (void)state;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    world_settle(world);
    world_engine_kill(world);
    swap_names(world, 1, 2); /* b and c are cabled the other way round, and come late */
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

/* b and c are away when the engine starts, so that it goes by names; they come the other way round. */
static void legs_come_late_under_each_others_names(void **state) {
    (void)state;
    struct world *world = begin_written(3, 3, REPLICA_ANY);
    world_settle(world);
    struct uuid ids[] = {world->disks[1].record.leg, world->disks[2].record.leg};
    world_break(world, 1);
    assert_true(world_begin_write(world, 1));
    world_drain(world, NS_PER_S);
    world_break(world, 2); /* it has missed less */
    world_write_all(world);
    world_engine_kill(world);
    swap_names(world, 1, 2);
    world->absent = 6;
    world_engine_start(world);
    world_serve(world);
    world_appear(world, 1);
    world_pass(world, 300);
    assert_int_equal(world->disks[1].record.state, REPLICA_WHOLE);
    assert_true(uuid_equal(&world->disks[1].record.leg, &ids[0]));
    world_write_all(world);
    world_settle(world);
    assert_true(uuid_equal(&world->disks[2].record.leg, &ids[1]));
    assert_int_equal(now(world).leg_count, 3);
    assert_int_equal(world->disks[0].record.leg_count, 3);
    /* and the next one begins with all of them */
    restart(world, 0);
    world_serve(world);
    assert_int_equal(mirror_of(world->mirror)->members, 7);
    world_settle(world);
    end(world);
}

/* Cables are exchanged, while the epoch without b is not complete, or when it is. */
static void legs_change_their_names_while_it_runs(void **state) {
    (void)state;
    for (unsigned hung = 0; hung < 2; hung++) {
        struct world *world = begin_written(3, 3, REPLICA_ANY);
        world_settle(world);
        struct uuid ids[] = {world->disks[1].record.leg, world->disks[2].record.leg};
        world_vanish(world, 2);
        world_pass(world, 20);
        world->disks[0].hung = hung != 0;
        world_vanish(world, 1);
        swap_names(world, 1, 2);
        world_pass(world, 5);
        assert_int_equal(mirror_of(world->mirror)->members, hung != 0 ? 3 : 1);
        world_appear(world, 1);
        world_pass(world, 5);
        assert_int_equal(mirror_of(world->mirror)->members, 5); /* still, or again: what was b's place is c's now */
        world->disks[0].hung = false;
        world_write_all(world);
        world_settle(world);
        for (unsigned i = 0; i < 2; i++)
            assert_true(uuid_equal(&world->disks[1 + i].record.leg, &ids[i]));
        assert_int_equal(world->disks[0].record.leg_count, 3);
        end(world);
    }
}

/* The records have a leg that nobody named: it has a place all the same, and gets a device. */
static void a_leg_that_no_device_was_named_for_is_told(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 3, REPLICA_MAJORITY);
    world_engine_kill(world);
    struct uuid id = world->disks[2].record.leg;
    world->options.leg_count = 2;
    world_engine_start(world);
    world_serve(world);
    assert_int_equal(now(world).leg_count, 3);
    assert_string_equal(now(world).legs[2].name, "c");
    assert_int_equal(now(world).legs[2].state, MIRROR_LEG_ABSENT);
    assert_string_equal(now(world).legs[2].why, "no device was named for it");
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world_settle(world);
    assert_true(uuid_equal(&world->disks[2].record.leg, &id));
    end(world);
}

static void is_damaged(struct replica_disk *disk, const struct replica_disk *leg) {
    disk->has_record = true;
    disk->record = leg->record;
    disk->record.magic ^= 1;
}
static void cannot_be_written(struct replica_disk *disk, const struct replica_disk *leg) {
    (void)leg;
    disk->read_only = true;
}
static void is_smaller(struct replica_disk *disk, const struct replica_disk *leg) {
    (void)leg;
    disk->size -= REPLICA_REGION_BYTES;
}
/* One that was made larger when it was a leg no more. */
static void was_a_leg_and_is_smaller(struct replica_disk *disk, const struct replica_disk *leg) {
    is_smaller(disk, leg);
    disk->has_record = true;
    disk->record = leg->record;
    disk->record.leg.bytes[3] ^= 1;
}

static void what_cannot_be_a_leg_is_not_added(void **state) {
    static const struct {
        void (*spoil)(struct replica_disk *disk, const struct replica_disk *leg);
        enum error_code code;
        const char *why;
    } rows[] = {
        {is_damaged, ERROR_IO, "its record is damaged"},
        {cannot_be_written, ERROR_READ_ONLY, "cannot be written"},
        {is_smaller, ERROR_INVALID, "not as large as the mirror"},
        {was_a_leg_and_is_smaller, ERROR_INVALID, "not as large as the mirror"},
    };
    (void)state;
    for (unsigned i = 0; i < array_count(rows); i++) {
        struct mirror_command command;
        struct world *world = begin_written(3, 2, REPLICA_ANY);
        struct replica_disk *disk = &world->disks[2];
        rows[i].spoil(disk, &world->disks[0]); /* after its device was made: that says nothing of it */
        struct replica_record before = disk->record;
        assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), rows[i].code);
        assert_non_null(strstr(command.error.text, rows[i].why));
        assert_string_equal(now(world).legs[2].name, "");
        assert_int_equal(world->disks[0].record.leg_count, 2);
        assert_memory_equal(&before, &disk->record, sizeof(before));
        assert_int_equal(disk->claims, 0);
        assert_int_equal(ask(world, MIRROR_FILLED, "c", &command), ERROR_NOT_FOUND);
        disk->size = WORLD_REGIONS * REPLICA_REGION_BYTES;
        world_write_all(world);
        world_settle(world);
        end(world);
    }
}

/* All is lost while a device is looked at that is to be a leg: it is none, and its slot is free. */
static void all_is_lost_while_a_leg_is_added(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin_written(3, 2, REPLICA_ANY);
    world->disks[2].hung = true;
    world_ask(world, MIRROR_ADD_LEG, 2);
    world_pass(world, 2);
    assert_string_equal(now(world).legs[2].name, "c");
    world_break(world, 0);
    world_break(world, 1);
    (void)world_begin_write(world, 1);
    world_until(world, is_answered, "it is never answered");
    assert_int_equal(world->command.error.code, ERROR_BUSY);
    world->disks[2].hung = false;
    world_pass(world, 50);
    assert_string_equal(now(world).legs[2].name, "");
    assert_false(world->disks[2].has_record);
    world_settle(world);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c", &command), ERROR_NONE);
    world->apart = 0;
    world_settle(world);
    end(world);
}

/* b missed something, and another disk of another size is in its place: it is not claimed. */
static void an_empty_disk_of_another_size_takes_no_place(void **state) {
    (void)state;
    struct world *world = begin_written(2, 2, REPLICA_ANY);
    world_break(world, 1);
    world_write_all(world);
    world_engine_kill(world);
    replica_disk_fini(&world->disks[1]);
    replica_disk_init(&world->disks[1], "b", WORLD_REGIONS * REPLICA_REGION_BYTES, 9);
    world_engine_start(world);
    world->disks[1].size -= REPLICA_REGION_BYTES; /* before it is asked, and after its device was made */
    world_serve(world);
    world_pass(world, 300);
    assert_string_equal(now(world).legs[1].why, "it is not as large as the mirror");
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_DIVERGED);
    assert_int_equal(world->disks[1].claims, 0);
    assert_int_equal(world->disks[1].writes, 0);
    world_write_all(world);
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
        cmocka_unit_test(legs_come_late_under_each_others_names),
        cmocka_unit_test(legs_change_their_names_while_it_runs),
        cmocka_unit_test(a_leg_that_no_device_was_named_for_is_told),
        cmocka_unit_test(what_cannot_be_a_leg_is_not_added),
        cmocka_unit_test(all_is_lost_while_a_leg_is_added),
        cmocka_unit_test(an_empty_disk_of_another_size_takes_no_place),
    };
    return cmocka_run_group_tests_name("legs of a mirror", tests, NULL, NULL);
}
