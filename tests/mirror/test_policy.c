/* Who may start and go on, what an operator may overrule and what that costs, how long I/O is held: over replicas in memory. */
#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

static struct world *begin(unsigned disks, enum replica_policy policy) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, 11, disks, policy);
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

static enum error_code ask(struct world *world, enum mirror_verb verb, const char *leg) {
    struct mirror_command command = {0};
    return world_do(world, verb, leg, &command);
}

static void restart(struct world *world, unsigned absent) {
    world_engine_kill(world);
    world->absent = absent;
    world_engine_start(world);
}

/* ---- majority ---- */

static void a_tie_breaker_decides_and_holds_no_data(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_MAJORITY);
    world->options.legs[0].tie_breaker = true; /* the first, which is no source for that */
    world->apart = 1;                          /* its bytes are not compared */
    world->disks[2].untouched = false;         /* so that there has to be one */
    world->options.overwrite = true;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_pass(world, 20);
    assert_int_equal(now(world).legs[0].state, MIRROR_LEG_WITNESS);
    assert_int_equal(world->disks[0].writes, 0);
    assert_int_equal(world->disks[0].record.state, REPLICA_WITNESS);
    /* one leg of two and the tie-breaker go on, and start */
    world_break(world, 1);
    world_write_all(world);
    restart(world, 2);
    world_serve(world);
    world_write_all(world);
    /* the leg alone does not */
    restart(world, 3);
    world_pass(world, 300);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    world_appear(world, 0);
    world_serve(world);
    world->absent = 0;
    restart(world, 0);
    world_serve(world);
    world_write_all(world);
    world_pass(world, 500);
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_WHOLE);
    assert_int_equal(world->disks[0].writes, 0);
    assert_memory_equal(world->disks[1].bytes, world->disks[2].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
    end(world);
}

static void a_minority_neither_goes_on_nor_starts(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_MAJORITY);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_break(world, 0);
    world_write_all(world);
    world_break(world, 1);
    assert_true(world_begin_write(world, 1));
    world_pass(world, 100);
    assert_true(world->ops[0].busy); /* not acknowledged by one of three */
    world_mend(world, 1);
    world_drain(world, 10 * NS_PER_S);
    restart(world, 3);
    world_pass(world, 300);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    world_settle(world);
    end(world);
}

/* ---- absent copies ---- */

static enum error_code start_without(struct world *world, const char *leg, struct mirror_command *command) {
    *command = (struct mirror_command){.accept_absent_count = leg == NULL ? 0 : 1};
    if (leg != NULL)
        snprintf(command->accept_absent[0], sizeof(command->accept_absent[0]), "%s", leg);
    return world_do(world, MIRROR_START, "", command);
}

/* b has what a has not. a is started all the same; b stays as it is until it is discarded, and then gets what both wrote. */
static void an_absent_copy_is_kept_until_it_is_discarded(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin(2, REPLICA_ANY);
    uint8_t zero[WORLD_BLOCK] = {0};
    world_engine_start(world);
    world_serve(world);
    assert_true(world_begin_write(world, 0));
    world_drain(world, NS_PER_S);
    world_pass(world, 300);
    world_break(world, 0);
    world_write_all(world); /* only on b */
    world_engine_kill(world);
    for (unsigned i = 0; i < WORLD_BLOCKS; i++) { /* what a start without b gives up: the model knows nothing but a */
        world->blocks[i].now.count = world->blocks[i].flushed.count = 1;
        world->blocks[i].now.list[0] = get_le32(world->disks[0].bytes + world->blocks[i].offset);
        world->blocks[i].flushed.list[0] = world->blocks[i].now.list[0];
    }
    world->absent = 2;
    world_engine_start(world);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_int_equal(start_without(world, NULL, &command), ERROR_BUSY);
    assert_non_null(strstr(command.error.text, ": b"));
    assert_int_equal(start_without(world, "x", &command), ERROR_BUSY);
    assert_int_equal(start_without(world, "b", &command), ERROR_NONE);
    world_serve(world);
    assert_int_equal(start_without(world, "b", &command), ERROR_ALREADY);
    assert_true(world_begin_write(world, 5));
    world_drain(world, NS_PER_S);
    uint64_t writes = world->disks[1].writes, stores = world->disks[1].stores;
    world_appear(world, 1);
    world_pass(world, 300);
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_DIVERGED);
    assert_int_equal(world->disks[1].writes, writes);
    assert_int_equal(world->disks[1].stores, stores);
    /* so it stays over starts */
    restart(world, 0);
    world_serve(world);
    world_pass(world, 300);
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_DIVERGED);
    assert_int_equal(world->disks[1].writes, writes);
    /* not to be discarded by who may not write to it */
    struct replica_record record = world->disks[1].record;
    world->disks[1].record.promised_term = 1000;
    world->disks[1].record.promised_engine.bytes[3] ^= 1;
    assert_int_equal(ask(world, MIRROR_DISCARD, "b"), ERROR_PERMISSION);
    world_pass(world, 300);
    assert_int_equal(now(world).legs[1].state, MIRROR_LEG_DIVERGED);
    assert_non_null(strstr(now(world).legs[1].why, "higher term"));
    assert_int_equal(world->disks[1].writes, writes);
    assert_int_equal(ask(world, MIRROR_DISCARD, "b"), ERROR_PERMISSION); /* and why does not change */
    world->disks[1].record = record;
    /* and is a leg again when it is discarded, with what it alone had gone */
    assert_memory_not_equal(world->disks[1].bytes + world->blocks[7].offset, zero, WORLD_BLOCK);
    assert_int_equal(ask(world, MIRROR_DISCARD, "b"), ERROR_NONE);
    world_settle(world);
    assert_memory_equal(world->disks[0].bytes, world->disks[1].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
    assert_true(now(world).legs[1].bytes_copied < WORLD_REGIONS * REPLICA_REGION_BYTES / 4); /* the union, not all */
    assert_int_equal(ask(world, MIRROR_DISCARD, "b"), ERROR_BUSY);
    end(world);
}

/* b and c have what a has not. A start without b fails, for c is missing too; when c is there, the mirror waits for b all the
 * same, and later takes the term that it would have taken. */
static void a_start_that_failed_leaves_nothing_behind(void **state) {
    (void)state;
    struct mirror_command command = {.accept_absent_count = 1, .accept_absent = {"b"}, .term = 1};
    struct world *world = begin(3, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    restart(world, 0); /* so that term 1 is over */
    world_serve(world);
    world_break(world, 0);
    world_write_all(world);
    restart(world, 6);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_int_equal(world_do(world, MIRROR_START, "", &command), ERROR_BUSY);
    world_appear(world, 2);
    world_pass(world, 3000);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    world_appear(world, 1);
    world_serve(world);
    world_settle(world);
    end(world);
}

static bool stores_its_first_epoch(struct world *world) {
    return strcmp(task_state_name(&mirror_of(world->mirror)->start_task), "epoch") == 0;
}

/* All legs are lost while the start's epoch is on its way: the records may tell of it, and that is what is answered. */
static void a_start_that_breaks_off_says_that_it_may_be_done(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_settle(world);
    restart(world, 2);
    world_pass(world, 100);
    world_ask(world, MIRROR_START, 1);
    world_until(world, stores_its_first_epoch, "the start draws no epoch");
    world_vanish(world, 0);
    world_pass(world, 3000);
    assert_false(world->asked);
    assert_int_equal(world->command.error.code, ERROR_CANCELLED);
    world_appear(world, 1);
    world_appear(world, 0);
    world_serve(world);
    end(world);
}

static void path_is_back(struct plane *plane, void *arg) {
    (void)plane;
    block_device_set_path(replica_view_device(arg), false);
    block_device_set_path(replica_view_device(arg), true);
}

/* The next attempt finds that another engine came meanwhile: that is told, too. */
static void a_start_that_breaks_off_and_is_refused_says_both(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_settle(world);
    restart(world, 2);
    world_pass(world, 100);
    world_ask(world, MIRROR_START, 1);
    world_until(world, stores_its_first_epoch, "the start draws no epoch");
    world_break(world, 0);
    world->disks[0].record.promised_term += 10;
    world->disks[0].record.promised_engine.bytes[0] ^= 1;
    world_mend(world, 0);
    world_pass(world, 1);
    plane_do(&world->plane, path_is_back, world->views[0]);
    world_pass(world, 3000);
    assert_false(world->asked);
    assert_int_equal(world->command.error.code, ERROR_CANCELLED);
    assert_non_null(strstr(world->command.error.text, "is promised to an engine of term"));
    assert_non_null(strstr(world->command.error.text, "without those that were absent"));
    end(world);
}

static bool waits_after_its_claims(struct world *world) {
    return strcmp(task_state_name(&mirror_of(world->mirror)->start_task), "wait") == 0;
}

/* A start leaves c out, and so waits for a while. a has all that was acknowledged; b was opened anew, and is not to begin alone
 * because a is lost while it waits: a would be given b's content then. */
static void a_leg_is_lost_while_a_start_waits(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_settle(world);
    assert_true(world_begin_flush(world));
    world_drain(world, NS_PER_S);
    world_write_all(world); /* not flushed */
    world_engine_kill(world);
    world_cut(world, 1, true);
    assert_int_equal(world->losses, 0);
    world->absent = world->options.accept_absent = 4;
    world_engine_start(world);
    world_until(world, waits_after_its_claims, "the start does not wait");
    world_vanish(world, 0);
    world_pass(world, 200);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    world_appear(world, 0);
    world_serve(world);
    world_appear(world, 2);
    world_pass(world, 300);
    assert_int_equal(ask(world, MIRROR_DISCARD, "c"), ERROR_NONE);
    world_settle(world); /* reads all of it, on each */
    end(world);
}

static void an_invalid_copy_is_copied_as_a_whole(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    struct uuid was = world->disks[1].record.leg;
    world->disks[1].bytes[77] ^= 1; /* in a block that nobody wrote */
    world->disks[1].durable[77] ^= 1;
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "x"), ERROR_NOT_FOUND);
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "b"), ERROR_NONE);
    world_settle(world);
    assert_memory_equal(world->disks[0].bytes, world->disks[1].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
    assert_false(uuid_equal(&was, &world->disks[1].record.leg));
    world_break(world, 0); /* nobody has noticed yet */
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "b"), ERROR_PERMISSION);
    world_settle(world);
    end(world);
}

/* Both records are a majority of two, that of the leg as it was included. */
static void a_majority_of_two_changes_its_legs(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_MAJORITY);
    world->options.leg_count = 2;
    world->apart = 4;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    assert_int_equal(ask(world, MIRROR_INVALIDATE, "b"), ERROR_NONE);
    world_settle(world);
    assert_int_equal(ask(world, MIRROR_REMOVE_LEG, "b"), ERROR_NONE);
    world->apart = 6;
    world_write_all(world);
    world_settle(world);
    assert_int_equal(ask(world, MIRROR_ADD_LEG, "c"), ERROR_NONE);
    world->apart = 2;
    world_settle(world);
    end(world);
}

static void marks_are_kept_for_a_time(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_ANY);
    world->options.give_up_ms = 5000;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    struct uuid was = world->disks[1].record.leg;
    world_vanish(world, 1);
    world_write_all(world);
    world_pass(world, 3000);
    assert_true(now(world).marked_regions > 2);
    world_appear(world, 1); /* in time */
    world_settle(world);
    assert_true(uuid_equal(&was, &world->disks[1].record.leg));
    world_vanish(world, 1);
    world_write_all(world);
    world_pass(world, 20000);
    assert_int_equal(now(world).marked_regions, 0); /* nothing is kept for it */
    assert_non_null(strstr(now(world).legs[1].why, "as a whole"));
    restart(world, 2); /* and the next engine knows */
    world_serve(world);
    world_write_all(world);
    world_pass(world, 12000);
    assert_int_equal(now(world).marked_regions, 0);
    world_appear(world, 1);
    world_settle(world);
    assert_false(uuid_equal(&was, &world->disks[1].record.leg));
    end(world);
}

/* Two legs get other ids at the same moment: no epoch tells two changes of the configuration. */
static void the_configuration_changes_by_one_leg_at_a_time(void **state) {
    (void)state;
    struct world *world = begin(3, REPLICA_ANY);
    world->options.give_up_ms = 2000;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_vanish(world, 1);
    world_vanish(world, 2);
    world_write_all(world);
    const struct replica_record *record = &world->disks[0].record;
    struct replica_record seen = *record;
    unsigned changed = 0;
    for (unsigned i = 0; changed < 2; i++) {
        assert_true(i < 200000);
        world_run(world, 100 * NS_PER_US, 1);
        unsigned here = 0;
        for (unsigned leg = 0; leg < seen.leg_count; leg++)
            here += !uuid_equal(&seen.legs[leg].id, &record->legs[leg].id);
        assert_true(here <= 1 && record->leg_count == 3 && record->epoch.depth <= seen.epoch.depth + 1);
        changed += here;
        seen = *record;
    }
    world_appear(world, 1);
    world_appear(world, 2);
    world_settle(world);
    end(world);
}

/* ---- held ---- */

static void no_leg_is_there_for_too_long(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    assert_true(block_device_path_is_up(world->mirror));
    world_break(world, 0);
    world_break(world, 1);
    assert_true(world_begin_write(world, 1));
    world_pass(world, 300);
    assert_true(world->ops[0].busy);
    assert_true(block_device_path_is_up(world->mirror));
    uint64_t failed = world->failed;
    world_pass(world, 200);
    assert_int_equal(world->failed, failed + 1);
    assert_false(block_device_path_is_up(world->mirror));
    assert_true(world_begin_read(world, 2));
    world_pass(world, 1);
    assert_int_equal(world->failed, failed + 2);
    world_mend(world, 1);
    world_mend(world, 0);
    world_serve(world);
    world_pass(world, 2);
    assert_true(block_device_path_is_up(world->mirror));
    world_settle(world);
    end(world);
}

/* Two under majority: one is a copy, and not enough. That is told. */
static void too_few_legs_are_there(void **state) {
    (void)state;
    for (unsigned third = 0; third < 2; third++) { /* with a third, which is away already when the second goes */
        struct world *world = begin(2 + third, REPLICA_MAJORITY);
        world->options.legs[2].tie_breaker = third != 0;
        world->apart = third != 0 ? 4 : 0;
        world_engine_start(world);
        world_serve(world);
        world_write_all(world);
        world_pass(world, 20);
        if (third != 0) {
            world_break(world, 2);
            world_pass(world, 100);
            assert_int_equal(now(world).state, MIRROR_SERVING);
        }
        world_break(world, 0);
        assert_true(world_begin_write(world, 1));
        world_pass(world, 10);
        assert_int_equal(now(world).state, MIRROR_HOLDING);
        assert_non_null(strstr(now(world).error.text, third != 0 ? "away: a, c" : "away: a"));
        assert_int_equal(strstr(now(world).error.expected, "--tie-breaker") != NULL, third == 0);
        assert_true(world_begin_read(world, 2));
        world_pass(world, 600);
        assert_true(world->ops[0].busy && world->ops[1].busy);
        world_mend(world, 0);
        world_serve(world);
        world_pass(world, 20);
        assert_int_equal(now(world).error.code, ERROR_NONE);
        world_write_all(world);
        end(world);
    }
}

static void io_is_held_for_ever_if_so_wanted(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world->options.hold_ms = UINT64_MAX;
    world_engine_start(world);
    world_serve(world);
    world_break(world, 0);
    world_break(world, 1);
    assert_true(world_begin_write(world, 1));
    world_pass(world, 60000);
    assert_true(world->ops[0].busy);
    world_settle(world);
    assert_int_equal(world->failed, 0);
    end(world);
}

static void a_pause_ends_by_resume_or_by_itself(void **state) {
    (void)state;
    struct mirror_command command = {.lease_ms = 50};
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_pass(world, 20);
    assert_true(world_begin_write(world, 0)); /* under way */
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &command), ERROR_NONE);
    assert_false(world->ops[0].busy);
    assert_true(now(world).paused);
    uint64_t lease = command.lease, writes = world->disks[0].writes;
    assert_true(world_begin_write(world, 1));
    assert_true(world_begin_read(world, 2));
    world_pass(world, 20);
    assert_int_equal(world->disks[0].writes, writes);
    struct mirror_command second = {.lease_ms = 50};
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &second), ERROR_BUSY);
    struct mirror_command wrong = {.lease = lease ^ 2};
    assert_int_equal(world_do(world, MIRROR_RESUME, "", &wrong), ERROR_TIMED_OUT);
    assert_int_equal(world->disks[0].writes, writes);
    assert_int_equal(world_do(world, MIRROR_RESUME, "", &command), ERROR_NONE);
    world_drain(world, NS_PER_S);
    /* by itself */
    command = (struct mirror_command){.lease_ms = 50};
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &command), ERROR_NONE);
    assert_true(world_begin_write(world, 1));
    world_pass(world, 60);
    assert_false(world->ops[0].busy);
    assert_int_equal(world_do(world, MIRROR_RESUME, "", &command), ERROR_TIMED_OUT);
    /* what is under way does not end in time: a leg that is slow for all */
    world->disks[0].hung = world->disks[1].hung = true;
    assert_true(world_begin_write(world, 1));
    command = (struct mirror_command){.lease_ms = 50};
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &command), ERROR_TIMED_OUT);
    assert_false(now(world).paused);
    /* a leg is lost meanwhile: its change does not need I/O */
    world_settle(world);
    command = (struct mirror_command){.lease_ms = 100};
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &command), ERROR_NONE);
    world_break(world, 1);
    world_pass(world, 20);
    assert_int_equal(world_do(world, MIRROR_RESUME, "", &command), ERROR_NONE);
    world_settle(world);
    assert_int_equal(world->failed, 0);
    end(world);
}

/* Where records, or what legs hold, do not say whose content counts nothing is claimed, and it is told what to do. */
static void what_records_do_not_decide_is_refused(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world->disks[1].untouched = false;
    world_engine_start(world);
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_REFUSED);
    assert_non_null(strstr(now(world).error.text, ": b"));
    assert_non_null(strstr(now(world).error.expected, "--source LEG"));
    assert_false(world->disks[0].has_record || world->disks[1].has_record);
    world->disks[1].untouched = true;
    assert_int_equal(ask(world, MIRROR_START, ""), ERROR_NONE);
    world_settle(world);
    for (unsigned i = 0; i < 2; i++) { /* each is started without the other */
        world->options.accept_absent = 2u >> i;
        restart(world, 2u >> i);
        world_serve(world);
    }
    world->options.accept_absent = 0;
    uint64_t claims[] = {world->disks[0].claims, world->disks[1].claims};
    restart(world, 0);
    world_pass(world, 300);
    assert_int_equal(now(world).state, MIRROR_REFUSED);
    assert_int_equal(now(world).error.code, ERROR_DAMAGED);
    assert_non_null(strstr(now(world).error.text, ": a, b"));
    assert_non_null(strstr(now(world).error.expected, "start it over one of them alone"));
    assert_true(world->disks[0].claims == claims[0] && world->disks[1].claims == claims[1]);
    end(world);
}

/* It is not known to be one of its own runs that has the legs: nobody is cut off by who resumes. */
static void who_resumes_takes_nothing_from_a_later_engine(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world->options.resume_count = 1;
    world->options.resume[0] = now(world).engine;
    restart(world, 0); /* by its own run, it may */
    world_serve(world);
    uint64_t claims = world->disks[0].claims;
    restart(world, 0); /* … and not from the one after it */
    world_pass(world, 300);
    assert_int_equal(now(world).state, MIRROR_REFUSED);
    assert_int_equal(now(world).error.code, ERROR_PERMISSION);
    assert_non_null(strstr(now(world).error.text, "superseded by engine"));
    assert_int_equal(world->disks[0].claims, claims);
    world->options.resume_count = 0;
    world_engine_kill(world);
    world_settle(world);
    end(world);
}

/* A member that cannot be asked is waited for like one that is away, and is left as it is when it is done without. */
static void a_member_with_a_damaged_record_is_waited_for(void **state) {
    (void)state;
    struct mirror_command command;
    struct world *world = begin(2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    world_settle(world);
    world_engine_kill(world);
    world->disks[1].record.magic ^= 1;
    uint64_t claims = world->disks[1].claims;
    world_engine_start(world);
    world_pass(world, 300);
    assert_int_equal(now(world).state, MIRROR_CONFIGURING);
    assert_string_equal(now(world).legs[1].why, "its record is damaged");
    assert_int_equal(start_without(world, "b", &command), ERROR_NONE);
    assert_true(world_begin_write(world, 0));
    world_drain(world, NS_PER_S);
    assert_int_equal(mirror_of(world->mirror)->standing, 1);
    assert_int_equal(world->disks[1].claims, claims);
    end(world);
}

/* The leg whose tree is ahead has a change that the other one missed: that one is no member any more, whatever it was. */
static void a_member_whose_tree_is_behind_is_none(void **state) {
    (void)state;
    for (unsigned ahead = 0; ahead < 2; ahead++) {
        struct world *world = begin(2, REPLICA_ANY);
        world_engine_start(world);
        world_serve(world);
        world_write_all(world);
        world_settle(world);
        world_engine_kill(world);
        world->disks[ahead].tree_sequence = 3;
        world_engine_start(world);
        world_serve(world);
        assert_int_equal(mirror_of(world->mirror)->members, 1u << ahead);
        assert_int_equal(mirror_of(world->mirror)->readers, 1u << ahead);
        assert_int_equal(mirror_of(world->mirror)->legs[1 - ahead].from_depth, world->disks[ahead].record.history[0].depth);
        end(world);
    }
}

static bool is_half_stored(const struct world *world) {
    unsigned stored = 0, claimed = 0;
    for (unsigned i = 0; i < 2; i++) {
        stored += world->disks[i].record.epoch.depth != 0;
        claimed += world->disks[i].has_record;
    }
    return stored == 1 && claimed == 2;
}

/* The first engine dies when one leg has the first epoch, and the other one has not: nothing was served yet. */
static void a_first_start_that_only_one_leg_stored_is_made_again(void **state) {
    (void)state;
    for (unsigned tries = 0, met = 0; met < 4; tries++) {
        struct world *world = plain_alloc(sizeof(*world));
        assert_true(tries < 100);
        world_init(world, 100 + tries, 2, REPLICA_ANY);
        world_engine_start(world);
        for (unsigned i = 0; i < 20000 && !is_half_stored(world) && now(world).state != MIRROR_SERVING; i++)
            world_run(world, NS_PER_US, 1);
        bool half = is_half_stored(world);
        if (half)
            restart(world, 0);
        world_pass(world, 300);
        assert_int_equal(now(world).state, MIRROR_SERVING);
        assert_int_equal(mirror_of(world->mirror)->members, 3);
        met += half;
        world_write_all(world);
        world_settle(world);
        end(world);
    }
}

/* What a pause held is nobody's any more when all legs were lost and the mirror began anew. */
static void a_pause_ends_with_the_legs(void **state) {
    (void)state;
    struct world *world = begin(2, REPLICA_ANY);
    struct mirror_command command = {.lease_ms = 600000}, longer = {.lease_ms = 600001}, none = {0};
    world_engine_start(world);
    world_serve(world);
    world_settle(world);
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &longer), ERROR_INVALID);
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &none), ERROR_INVALID);
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &command), ERROR_NONE);
    for (unsigned i = 0; i < 2; i++) {
        world_vanish(world, i);
        world_cut(world, i, false);
    }
    world_pass(world, 100);
    assert_int_equal(now(world).state, MIRROR_HOLDING);
    none.lease_ms = 50;
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &none), ERROR_BUSY);
    world_settle(world);
    assert_false(now(world).paused);
    assert_int_equal(world_do(world, MIRROR_RESUME, "", &command), ERROR_TIMED_OUT);
    end(world);
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tie_breaker_decides_and_holds_no_data),
        cmocka_unit_test(a_minority_neither_goes_on_nor_starts),
        cmocka_unit_test(an_absent_copy_is_kept_until_it_is_discarded),
        cmocka_unit_test(a_start_that_failed_leaves_nothing_behind),
        cmocka_unit_test(a_start_that_breaks_off_says_that_it_may_be_done),
        cmocka_unit_test(a_start_that_breaks_off_and_is_refused_says_both),
        cmocka_unit_test(a_leg_is_lost_while_a_start_waits),
        cmocka_unit_test(an_invalid_copy_is_copied_as_a_whole),
        cmocka_unit_test(a_majority_of_two_changes_its_legs),
        cmocka_unit_test(marks_are_kept_for_a_time),
        cmocka_unit_test(the_configuration_changes_by_one_leg_at_a_time),
        cmocka_unit_test(no_leg_is_there_for_too_long),
        cmocka_unit_test(too_few_legs_are_there),
        cmocka_unit_test(io_is_held_for_ever_if_so_wanted),
        cmocka_unit_test(a_pause_ends_by_resume_or_by_itself),
        cmocka_unit_test(what_records_do_not_decide_is_refused),
        cmocka_unit_test(who_resumes_takes_nothing_from_a_later_engine),
        cmocka_unit_test(a_member_with_a_damaged_record_is_waited_for),
        cmocka_unit_test(a_member_whose_tree_is_behind_is_none),
        cmocka_unit_test(a_first_start_that_only_one_leg_stored_is_made_again),
        cmocka_unit_test(a_pause_ends_with_the_legs),
    };
    return cmocka_run_group_tests_name("what a mirror may do", tests, NULL, NULL);
}
