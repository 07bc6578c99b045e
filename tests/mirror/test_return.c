/* How legs come back: what is paused, how far a full return got when it was broken off, and what it need not look at. Over
 * replicas in memory (replica_disk.h); the same over real volumes: test_fleet.c. */
#include "world.h"

#include "base/bitmap.h"
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

static struct world *begin(uint64_t seed, unsigned disks) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, seed, disks, REPLICA_ANY);
    world_engine_start(world);
    world_settle(world);
    world_write_all(world);
    for (unsigned i = 0; i < 200 && mirror_of(world->mirror)->regions.marked_count > 0; i++)
        world_pass(world, 100);
    assert_int_equal(mirror_of(world->mirror)->regions.marked_count, 0);
    return world;
}

static void finish(struct world *world) {
    world_settle(world);
    world_fini(world);
    plain_free(world);
}

static struct mirror_leg *leg_of(struct world *world, unsigned disk) { return &mirror_of(world->mirror)->legs[disk]; }
static bool is_copying(struct world *world) { return leg_of(world, 1)->task.state == LEG_COPY; }
static bool is_whole(struct world *world) { return leg_of(world, 1)->task.state == LEG_MEMBER; }
static bool is_lost(struct world *world) { return !mirror_leg_is_up(leg_of(world, 1)); }
static bool got_half(struct world *world) {
    return world->disks[1].record.cursor_offset >= WORLD_REGIONS / 2 * REPLICA_REGION_BYTES;
}

/* ---- paused ---- */

static void nothing_is_copied_while_it_is_paused(void **state) {
    (void)state;
    struct world *world = begin(3, 2);
    struct mirror_set pause = {.what = MIRROR_SYNC_PAUSE}, resume = {.what = MIRROR_SYNC_RESUME};
    struct mirror_status status;
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    world_break(world, 1);
    assert_true(world_begin_write(world, 2) && world_begin_write(world, 3));
    world_drain(world, NS_PER_S);
    world_mend(world, 1);
    world_until(world, is_copying, "the leg does not come back");
    for (unsigned i = 0; i < 200; i++) { /* hosts go on */
        world_begin_any(world);
        world_run(world, NS_PER_MS, 20);
    }
    world_status(world, &status);
    assert_true(status.sync_paused);
    assert_int_equal(status.state, MIRROR_SERVING);
    assert_int_equal(status.legs[1].state, MIRROR_LEG_SYNCING);
    assert_int_equal(status.legs[1].sync_done, 0);
    assert_int_equal(status.legs[1].bytes_copied, 0);
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    assert_int_equal(world_set(world, &resume), ERROR_NONE);
    world_until(world, is_whole, "the leg does not become whole");
    world_status(world, &status);
    assert_false(status.sync_paused);
    finish(world);
}

/* What an engine's death left unequal is not what is paused: hosts wait for it. */
static void a_start_is_not_held_up_by_it(void **state) {
    (void)state;
    struct world *world = begin(4, 2);
    for (unsigned i = 0; i < WORLD_BLOCKS; i += 3)
        (void)world_begin_write(world, i);
    world_run(world, 100 * NS_PER_US, 8);
    world_engine_kill(world);
    world_engine_start(world);
    struct mirror_set pause = {.what = MIRROR_SYNC_PAUSE};
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    finish(world); /* all is settled, and can be read */
}

/* ---- a write that fails on all meanwhile ---- */

static bool none_is_unequal(struct world *world) { return mirror_of(world->mirror)->regions.unequal_count == 0; }

/* The last member shows the old, the leg that returns the new, and the member cannot be read: hosts do not wait for that, and the
 * leg is not made whole over it. */
static void what_the_last_member_cannot_give_is_copied_later(void **state) {
    (void)state;
    static uint64_t unreadable[WORLD_REGIONS * REPLICA_REGION_BYTES / WORLD_BLOCK / 64];
    struct world *world = begin(5, 2);
    struct mirror_set pause = {.what = MIRROR_SYNC_PAUSE}, resume = {.what = MIRROR_SYNC_RESUME};
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    world_break(world, 1);
    assert_true(world_begin_write(world, 2));
    world_drain(world, NS_PER_S);
    world_mend(world, 1);
    world_until(world, is_copying, "the leg does not come back");
    unsigned block = 0;
    uint64_t region = 0;
    while (bitmap_test(leg_of(world, 1)->work, region = world->blocks[block].offset / REPLICA_REGION_BYTES))
        block++;
    assert_true(block < WORLD_BLOCKS);
    bitmap_set_range(unreadable, region * 256, 256);
    world->disks[0].unreadable = unreadable;
    world->disks[0].stays_unreadable = true;
    world->disks[0].fail_write = world->disks[1].fail_write = world->disks[1].torn = true;
    uint64_t failed = world->failed;
    assert_true(world_begin_write(world, block));
    world_drain(world, NS_PER_S);
    assert_int_equal(world->failed, failed + 1);
    assert_false(memcmp(world->disks[0].bytes + region * REPLICA_REGION_BYTES,
                        world->disks[1].bytes + region * REPLICA_REGION_BYTES, REPLICA_REGION_BYTES) == 0);
    world_until(world, none_is_unequal, "hosts wait for what cannot be made equal");
    assert_true(is_copying(world));
    assert_true(bitmap_test(leg_of(world, 1)->work, region));
    world->disks[0].unreadable = NULL;
    assert_int_equal(world_set(world, &resume), ERROR_NONE);
    world_until(world, is_whole, "the leg does not become whole");
    assert_memory_equal(world->disks[0].bytes, world->disks[1].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
    finish(world);
}

/* ---- broken off ---- */

enum breaking { PROCESS, POWER, CONNECTION, ENGINE, BREAKINGS };

/* A leg is copied as a whole; in the middle something dies; what was there already is not looked at again. */
static void broken_off(uint64_t seed, enum breaking how, bool load) {
    struct world *world = begin(seed, 2);
    struct mirror_command command = {0};
    struct mirror_set slow = {.what = MIRROR_SET_RATES, .rates = {.bytes_per_s = MIB(20)}};
    assert_int_equal(world_set(world, &slow), ERROR_NONE);
    world->options.rates = slow.rates;
    for (unsigned i = 0; i < WORLD_REGIONS && !load; i++) { /* so that each region has to be written */
        world->disks[1].bytes[i * REPLICA_REGION_BYTES + MIB(1) - 9] ^= 1;
        world->disks[1].durable[i * REPLICA_REGION_BYTES + MIB(1) - 9] ^= 1;
    }
    assert_int_equal(world_do(world, MIRROR_INVALIDATE, "b", &command), ERROR_NONE);
    world_until(world, is_copying, "the leg is not copied to");
    assert_int_equal(leg_of(world, 1)->work_total, WORLD_REGIONS);
    for (unsigned i = 0; !got_half(world); i++) {
        assert_true(i < 100000);
        if (load && i % 64 == 0)
            world_begin_any(world);
        world_run(world, 50 * NS_PER_US, 20);
    }
    uint64_t cursor = world->disks[1].record.cursor_offset / REPLICA_REGION_BYTES;
    switch (how) {
    case PROCESS:
    case POWER: world_cut(world, 1, how == POWER); break;
    case CONNECTION: world_break(world, 1); break;
    default: world_engine_kill(world); break;
    }
    if (how == ENGINE) {
        world_engine_start(world);
        world_serve(world);
    } else {
        world_until(world, is_lost, "the leg is not lost");
        if (load) /* and it is missed, before the cursor and behind it */
            assert_true(world_begin_write(world, 0) && world_begin_write(world, WORLD_REGIONS - 1));
        world_drain(world, NS_PER_S);
        world_mend(world, 1);
    }
    world_until(world, is_copying, "the leg is not copied to again");
    assert_true(leg_of(world, 1)->cursor >= cursor * REPLICA_REGION_BYTES);
    if (!load)
        assert_int_equal(leg_of(world, 1)->work_total, WORLD_REGIONS - cursor);
    else
        assert_true(leg_of(world, 1)->work_total <= WORLD_REGIONS);
    world_until(world, is_whole, "the leg does not become whole");
    assert_int_equal(world->disks[1].record.cursor_offset, 0);
    world->options.rates = (struct mirror_rates){0};
    finish(world); /* reads all, and compares the replicas */
}

static void a_full_return_goes_on_where_it_was(void **state) {
    (void)state;
    for (unsigned how = 0; how < BREAKINGS; how++)
        for (uint64_t seed = 1; seed <= 3; seed++)
            broken_off(10 * how + seed, (enum breaking)how, false);
}

static void the_same_beside_requests(void **state) {
    (void)state;
    for (unsigned how = 0; how < BREAKINGS; how++)
        for (uint64_t seed = 5; seed <= 9; seed++)
            broken_off(10 * how + seed, (enum breaking)how, true);
}

static bool first_is_stuck(struct world *world) { return leg_of(world, 0)->task.state == LEG_STUCK; }

/* What was copied from a leg that was left out since does not count: it may be what nobody else has. */
static void what_another_history_copied_does_not_count(void **state) {
    (void)state;
    struct world *world = begin(31, 3);
    struct mirror_command command = {0};
    struct mirror_set slow = {.what = MIRROR_SET_RATES, .rates = {.bytes_per_s = MIB(20)}};
    assert_int_equal(world_set(world, &slow), ERROR_NONE);
    world_break(world, 2); /* c stays where it is; a goes on, writes, and is copied to b */
    struct world_versions before = world->blocks[1].now;
    assert_true(world_begin_write(world, 1));
    world_drain(world, NS_PER_S);
    assert_int_equal(world_do(world, MIRROR_INVALIDATE, "b", &command), ERROR_NONE);
    world_until(world, got_half, "the leg does not get half of it");
    world_engine_kill(world);
    world->absent = world->options.accept_absent = 3;
    world_engine_start(world);
    world_serve(world);
    world->options.accept_absent = 0;
    world->blocks[1].now = world->blocks[1].flushed = before; /* as it was asked for */
    world_appear(world, 1);
    world_until(world, is_copying, "the leg is not copied to again");
    assert_int_equal(leg_of(world, 1)->work_total, WORLD_REGIONS);
    world_appear(world, 0);
    world_until(world, first_is_stuck, "the leg that was left out is taken");
    command = (struct mirror_command){0};
    assert_int_equal(world_do(world, MIRROR_DISCARD, "a", &command), ERROR_NONE);
    finish(world);
}

/* ---- beside a load that never ends ---- */

/* Each region takes the longer the more of the disks' queues are hosts' requests. All the same the leg gets half as many regions
 * a second as its share has percent, since the disks could do that; and a disk that hung for a while holds up nothing afterwards.
 */
static void hosts_that_never_stop_do_not_hold_it_up(void **state) {
    (void)state;
    for (uint64_t seed = 80; seed < 90; seed++) {
        struct world *world = begin(seed, 2);
        bool hangs = seed % 2 != 0;
        mirror_of(world->mirror)->stall_ns = 60 * NS_PER_S; /* slow is not late */
        world_break(world, 1);
        world_write_all(world);
        world_mend(world, 1);
        world_until(world, is_copying, "the leg does not come back");
        assert_int_equal(leg_of(world, 1)->work_total, WORLD_REGIONS);
        uint64_t end_ns = sim_now_ns(world->cluster.sim) + 2 * WORLD_REGIONS * NS_PER_S / MIRROR_SHARE_DEFAULT + 400 * NS_PER_MS;
        while (!is_whole(world)) {
            assert_true(sim_now_ns(world->cluster.sim) < end_ns);
            for (unsigned i = 0; i < WORLD_OPS; i++)
                world_begin_any(world);
            world_run(world, NS_PER_MS, 1);
            if (hangs && leg_of(world, 1)->copying > 0) {
                hangs = false;
                world->disks[0].hung = true;
                world_run(world, 5 * NS_PER_S, 100);
                world->disks[0].hung = false;
                end_ns += 5 * NS_PER_S;
            }
        }
        assert_int_equal(leg_of(world, 1)->told.times_lost, 1);
        finish(world);
    }
}

/* ---- what it was lost for, and its path ---- */

static void path_goes(struct plane *plane, void *arg) {
    (void)plane;
    block_device_set_path(replica_view_device(arg), false);
}

static void path_comes(struct plane *plane, void *arg) {
    (void)plane;
    block_device_set_path(replica_view_device(arg), true);
}

static void path_is_back(struct plane *plane, void *arg) {
    path_goes(plane, arg);
    path_comes(plane, arg);
}

static bool is_at_rest(struct world *world) { return leg_of(world, 1)->task.state == LEG_REST; }

/* How long it rests while its path comes back, in nanoseconds. */
static uint64_t rests(struct world *world) {
    uint64_t began_ns = sim_now_ns(world->cluster.sim);
    while (is_at_rest(world)) {
        assert_true(sim_now_ns(world->cluster.sim) - began_ns < 100 * NS_PER_S);
        plane_do(&world->plane, path_is_back, world->views[1]);
        world_run(world, NS_PER_MS, 20);
    }
    return sim_now_ns(world->cluster.sim) - began_ns;
}

/* Rounds that clear marks flush: a leg that fails that each time pauses for longer each time. */
static void a_leg_that_fails_each_round_pauses(void **state) {
    (void)state;
    struct world *world = begin(100, 2);
    for (unsigned i = 0; i < 4; i++) {
        world_until(world, is_whole, "the leg does not become whole");
        world_write_all(world);
        world->disks[1].fail_flush = true;
        world_until(world, is_lost, "no round flushes");
        world_until(world, is_at_rest, "the leg does not rest");
        assert_true(rests(world) >= (NS_PER_S << i) - 100 * NS_PER_MS);
    }
    finish(world);
}

static void a_round_without_room_costs_the_private_copy(void **state) {
    (void)state;
    struct world *world = begin(101, 2);
    world->disks[1].cramped = true;
    world_write_all(world);
    world->disks[1].fail_flush = true;
    world_until(world, is_lost, "no round flushes");
    assert_true(world_begin_write(world, 2));
    world_drain(world, NS_PER_S);
    world_until(world, is_whole, "the leg does not become whole");
    assert_int_equal(leg_of(world, 1)->told.times_lost, 1);
    finish(world);
}

/* The only member fails a write that a leg on its way did: that one begins anew, and at once. */
static void a_leg_that_did_right_is_not_blamed(void **state) {
    (void)state;
    struct world *world = begin(102, 2);
    struct mirror_set pause = {.what = MIRROR_SYNC_PAUSE}, resume = {.what = MIRROR_SYNC_RESUME};
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    world_break(world, 1);
    assert_true(world_begin_write(world, 2));
    world_drain(world, NS_PER_S);
    world_mend(world, 1);
    world_until(world, is_copying, "the leg does not come back");
    uint64_t failed = world->failed;
    world->disks[0].fail_write = true;
    assert_true(world_begin_write(world, 3));
    world_drain(world, NS_PER_S);
    assert_int_equal(world->failed, failed + 1);
    assert_int_equal(leg_of(world, 1)->told.times_lost, 2);
    assert_true(rests(world) < 100 * NS_PER_MS);
    assert_int_equal(world_set(world, &resume), ERROR_NONE);
    finish(world);
}

static bool rests_for_long(struct world *world) { return is_at_rest(world) && leg_of(world, 1)->losses_in_row > 5; }

/* A leg that has no room for what it misses waits half a minute by now. Its path, given up and back, is no reason to hurry; that
 * its node was away, and is back, is one. */
static void a_node_that_was_away_is_tried_at_once(void **state) {
    (void)state;
    struct world *world = begin(103, 2);
    world->disks[1].full = true;
    world_write_all(world);
    world_until(world, rests_for_long, "the leg does not rest");
    world->disks[1].full = false;
    plane_do(&world->plane, path_goes, world->views[1]);
    world_pass(world, 10);
    plane_do(&world->plane, path_comes, world->views[1]);
    world_pass(world, 100);
    assert_true(is_at_rest(world));
    plane_do(&world->plane, path_goes, world->views[1]);
    world_break(world, 1);
    world_pass(world, 2000);
    world_mend(world, 1);
    assert_true(is_at_rest(world));
    plane_do(&world->plane, path_comes, world->views[1]);
    world_pass(world, 1000);
    assert_true(is_whole(world));
    finish(world);
}

/* ---- the private copy ---- */

/* A return fails because the copy of what the leg had takes the room that it needs: the next goes without. The connection, given
 * up with the failure, is back at once, which is no reason to begin anew. */
static void what_it_had_does_not_take_the_room_of_what_it_misses(void **state) {
    (void)state;
    for (uint64_t seed = 90; seed < 98; seed++) {
        struct world *world = begin(seed, 2);
        world->disks[1].cramped = true;
        world_break(world, 1);
        assert_true(world_begin_write(world, 2));
        world_drain(world, NS_PER_S);
        world_mend(world, 1);
        uint64_t end_ns = sim_now_ns(world->cluster.sim) + 10 * NS_PER_S;
        while (!is_whole(world)) {
            assert_true(sim_now_ns(world->cluster.sim) < end_ns);
            if (leg_of(world, 1)->task.state == LEG_REST)
                plane_do(&world->plane, path_is_back, world->views[1]);
            world_run(world, 100 * NS_PER_US, 20);
        }
        assert_int_equal(leg_of(world, 1)->told.times_lost, 2);
        finish(world);
    }
}

/* ---- orders of things that an attack found ---- */

static void hears_of_whole(void *arg, struct replica_disk *disk, const char *name) {
    if (strcmp(name, "after store") == 0 && disk->record.state == REPLICA_WHOLE)
        *(bool *)arg = true;
}

/* The record that makes a leg whole is stored, its answer lost: the leg was a member from then on, so that nothing which it
 * misses is acknowledged in that epoch. */
static void whole_without_an_answer(void **state) {
    (void)state;
    for (uint64_t seed = 40; seed < 48; seed++) {
        struct world *world = begin(seed, 2);
        bool stored = false;
        world_break(world, 1);
        assert_true(world_begin_write(world, 4));
        world_drain(world, NS_PER_S);
        world->disks[1].point_arg = &stored;
        world->disks[1].point = hears_of_whole;
        world_mend(world, 1);
        for (unsigned i = 0; !stored && i < 1000000; i++)
            world_run(world, 10 * NS_PER_US, 1);
        assert_true(stored);
        world->disks[1].point = NULL;
        world_break(world, 1); /* before it is answered */
        uint64_t depth = world->disks[1].record.epoch.depth;
        assert_true(world_begin_write(world, 4));
        world_drain(world, NS_PER_S);
        assert_true(world->disks[0].record.epoch.depth > depth);
        world_engine_kill(world);
        finish(world); /* a new engine shows what was acknowledged */
    }
}

static bool is_at_barrier(struct world *world) { return leg_of(world, 1)->task.state == LEG_BARRIER; }

/* What the leg lacks is asked for only when every write that went out without it has ended: else it would be on no list. */
static void the_list_waits_for_writes_sent_without_it(void **state) {
    (void)state;
    for (uint64_t seed = 50; seed < 58; seed++) {
        struct world *world = begin(seed, 2);
        world->options.longest_stall_ms = 4000;
        world_engine_kill(world);
        world_engine_start(world);
        world_settle(world);
        world_break(world, 1);
        assert_true(world_begin_write(world, 2));
        world_drain(world, 10 * NS_PER_S);
        assert_true(is_lost(world));
        assert_true(world_begin_write(world, 3));
        world->disks[0].hung = true; /* with the write on its way */
        world_mend(world, 1);
        world_until(world, is_at_barrier, "the leg does not join");
        world_pass(world, 50);
        assert_true(is_at_barrier(world));
        world->disks[0].hung = false;
        world_until(world, is_whole, "the leg does not become whole");
        assert_memory_equal(world->disks[0].bytes, world->disks[1].bytes, WORLD_REGIONS * REPLICA_REGION_BYTES);
        finish(world);
    }
}

/* ---- what is refused ---- */

struct view_order {
    struct replica_disk *disk;
    struct reactor *home;
};
static void add_view(struct plane *plane, void *arg) {
    const struct view_order *order = arg;
    (void)replica_view_create(order->disk, &plane->graph, order->home);
}

static void a_leg_offered_twice_is_refused(void **state) {
    (void)state;
    struct world *world = begin(60, 2);
    struct mirror_command command = {0};
    snprintf(world->disks[1].name, sizeof(world->disks[1].name), "c"); /* another way to the same replica */
    plane_do(&world->plane, add_view, &(struct view_order){&world->disks[1], world->plane.data[0]});
    snprintf(world->disks[1].name, sizeof(world->disks[1].name), "b");
    assert_int_equal(world_do(world, MIRROR_ADD_LEG, "c", &command), ERROR_EXISTS);
    assert_non_null(strstr(command.error.text, "one of the legs already"));
    world_pass(world, 50);
    assert_true(is_whole(world)); /* the leg is none the worse */
    assert_int_equal(leg_of(world, 1)->told.times_lost, 0);
    finish(world);
}

static bool is_refused(struct world *world) { return leg_of(world, 1)->task.state == LEG_STUCK; }

static void is_the_other_leg(struct replica_record *record, const struct replica_record *other) { record->leg = other->leg; }
static void is_of_another_mirror(struct replica_record *record, const struct replica_record *other) {
    (void)other;
    record->mirror.bytes[5] ^= 1;
}
static void is_no_record(struct replica_record *record, const struct replica_record *other) {
    (void)other;
    record->magic ^= 1;
}
/* It went on alone, in an epoch of its own. */
static void has_another_history(struct replica_record *record, const struct replica_record *other) {
    record->epoch.id.bytes[5] ^= 1;
    record->legs[replica_record_leg(record, &other->leg)].flags &= ~(uint32_t)REPLICA_LEG_MEMBER;
}

static void a_replica_that_answers_for_another_is_refused(void **state) {
    static const struct {
        void (*change)(struct replica_record *record, const struct replica_record *other);
        const char *why;
    } rows[] = {{is_the_other_leg, "it is offered twice"},
                {is_of_another_mirror, "it is a leg of mirror "},
                {is_no_record, "its record is damaged"},
                {has_another_history, "it has another history: kept as it is until it is discarded"}};
    (void)state;
    for (unsigned i = 0; i < array_count(rows); i++) {
        struct world *world = begin(61, 2);
        world_break(world, 1);
        assert_true(world_begin_write(world, 2));
        world_drain(world, NS_PER_S);
        assert_true(is_lost(world));
        struct replica_record own = world->disks[1].record;
        rows[i].change(&world->disks[1].record, &world->disks[0].record);
        uint64_t writes = world->disks[1].writes, stores = world->disks[1].stores, claims = world->disks[1].claims;
        world_mend(world, 1);
        world_until(world, is_refused, "it is taken");
        assert_memory_equal(leg_of(world, 1)->told.why, rows[i].why, strlen(rows[i].why));
        world_write_all(world);
        assert_int_equal(world->disks[1].writes, writes);
        assert_int_equal(world->disks[1].stores, stores);
        assert_int_equal(world->disks[1].claims, claims);
        assert_int_equal(leg_of(world, 0)->told.times_lost, 0);
        world->disks[1].record = own;
        world_engine_kill(world);
        finish(world);
    }
}

static void loses_its_claim(void *arg, struct replica_disk *disk, const char *name) {
    bool *done = arg;
    if (strcmp(name, "after claim") != 0 || *done)
        return;
    *done = true;
    disk->claim_association = 0;
}

/* It is claimed once more, and nothing was sent to it in between. */
static void a_claim_that_did_not_last_is_made_again(void **state) {
    (void)state;
    struct world *world = begin(63, 2);
    bool done = false;
    world_break(world, 1);
    assert_true(world_begin_write(world, 2));
    world_drain(world, NS_PER_S);
    world->disks[1].point = loses_its_claim;
    world->disks[1].point_arg = &done;
    uint64_t fenced = world->disks[1].fenced;
    world_mend(world, 1);
    world_until(world, is_whole, "the leg does not become whole");
    assert_true(done);
    assert_int_equal(world->disks[1].fenced, fenced);
    assert_int_equal(leg_of(world, 1)->told.times_lost, 1);
    world->disks[1].point = NULL;
    finish(world);
}

static void a_term_that_goes_backwards_is_refused(void **state) {
    (void)state;
    struct world *world = begin(62, 2);
    world_engine_kill(world);
    world_engine_start(world);
    world_settle(world);
    uint64_t engines = world->engines, stores = world->disks[0].stores;
    world_engine_kill(world);
    world->engines = 0; /* the next one has term 1 again */
    world_engine_start(world);
    world_pass(world, 200);
    struct mirror_status status;
    world_status(world, &status);
    assert_int_equal(status.state, MIRROR_REFUSED);
    assert_non_null(strstr(status.error.text, "term"));
    for (unsigned i = 0; i < 2; i++)
        assert_true(world->disks[i].record.promised_term > 1);
    assert_int_equal(world->disks[0].stores, stores);
    world_engine_kill(world);
    world->engines = engines;
    finish(world);
}

/* Blocks that were written while it was away, less what it has got again; where that is not known, whole regions. */
static void what_it_missed_is_told(void **state) {
    (void)state;
    struct world *world = begin(71, 2);
    struct mirror_set pause = {.what = MIRROR_SYNC_PAUSE}, resume = {.what = MIRROR_SYNC_RESUME};
    struct mirror_status status;
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    world_status(world, &status);
    assert_true(status.legs[1].behind == 0 && status.legs[1].behind_exact);
    world_break(world, 1);
    assert_true(world_begin_write(world, 2) && world_begin_write(world, 3));
    world_drain(world, NS_PER_S);
    for (unsigned i = 0; i < 2; i++) { /* the same again is no more */
        assert_true(world_begin_write(world, 3) && world_begin_write(world, 3 + WORLD_REGIONS));
        world_drain(world, NS_PER_S);
        world_status(world, &status);
        assert_int_equal(status.legs[1].behind, 3 * WORLD_BLOCK);
        assert_true(status.legs[1].behind_exact);
    }
    world_mend(world, 1);
    world_until(world, is_copying, "the leg does not come back");
    assert_true(world_begin_write(world, 4)); /* it takes part again */
    world_drain(world, NS_PER_S);
    world_status(world, &status);
    assert_int_equal(status.legs[1].behind, 3 * WORLD_BLOCK);
    assert_int_equal(world_set(world, &resume), ERROR_NONE);
    world_until(world, is_whole, "the leg does not become whole");
    world_status(world, &status);
    assert_true(status.legs[1].behind == 0 && status.legs[1].behind_exact);
    /* opened anew it may have lost more */
    assert_int_equal(world_set(world, &pause), ERROR_NONE);
    world_cut(world, 1, true);
    world_break(world, 1);
    assert_true(world_begin_write(world, 2));
    world_drain(world, NS_PER_S);
    world_mend(world, 1);
    world_until(world, is_copying, "the leg does not come back");
    world_status(world, &status);
    assert_false(status.legs[1].behind_exact);
    assert_true(status.legs[1].behind >= REPLICA_REGION_BYTES);
    assert_int_equal(world_set(world, &resume), ERROR_NONE);
    finish(world);
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_copied_while_it_is_paused),
        cmocka_unit_test(a_start_is_not_held_up_by_it),
        cmocka_unit_test(what_the_last_member_cannot_give_is_copied_later),
        cmocka_unit_test(a_full_return_goes_on_where_it_was),
        cmocka_unit_test(the_same_beside_requests),
        cmocka_unit_test(what_another_history_copied_does_not_count),
        cmocka_unit_test(hosts_that_never_stop_do_not_hold_it_up),
        cmocka_unit_test(a_leg_that_fails_each_round_pauses),
        cmocka_unit_test(a_round_without_room_costs_the_private_copy),
        cmocka_unit_test(a_leg_that_did_right_is_not_blamed),
        cmocka_unit_test(a_node_that_was_away_is_tried_at_once),
        cmocka_unit_test(what_it_had_does_not_take_the_room_of_what_it_misses),
        cmocka_unit_test(whole_without_an_answer),
        cmocka_unit_test(the_list_waits_for_writes_sent_without_it),
        cmocka_unit_test(a_leg_offered_twice_is_refused),
        cmocka_unit_test(a_replica_that_answers_for_another_is_refused),
        cmocka_unit_test(a_claim_that_did_not_last_is_made_again),
        cmocka_unit_test(a_term_that_goes_backwards_is_refused),
        cmocka_unit_test(what_it_missed_is_told),
    };
    return cmocka_run_group_tests_name("returns to a mirror", tests, NULL, NULL);
}
