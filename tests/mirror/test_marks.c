/* The bound on marked regions: while every leg is whole, never more are marked, however writes are spread; and whoever waits for
 * room gets it, whatever others do. Over replicas in memory (replica_disk.h). */
#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#define BOUND 2 /* of world_init() */

static struct world *begin(uint64_t seed, unsigned disks) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, seed, disks, REPLICA_ANY);
    world_engine_start(world);
    world_settle(world);
    return world;
}

static void finish(struct world *world) {
    world_settle(world);
    world_fini(world);
    plain_free(world);
}

static unsigned marked_on(const struct replica_disk *disk) {
    unsigned count = 0;
    for (unsigned i = 0; i < WORLD_REGIONS; i++)
        count += disk->marks[i] != 0;
    return count;
}

/* What the engine knows, and what the legs have. */
static void check_bound(struct world *world) {
    assert_true(mirror_of(world->mirror)->regions.marked_count <= BOUND);
    for (unsigned i = 0; i < world->disk_count; i++)
        assert_true(marked_on(&world->disks[i]) <= BOUND);
}

static void clear_all(struct world *world) {
    for (unsigned i = 0; i < 400 && mirror_of(world->mirror)->regions.marked_count > 0; i++)
        world_pass(world, 100);
    assert_int_equal(mirror_of(world->mirror)->regions.marked_count, 0);
}

static void never_more_are_marked(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct world *world = begin(seed, seed % 2 == 0 ? 2 : 3);
        clear_all(world);
        uint64_t writes = world->writes, changes = mirror_of(world->mirror)->changes;
        for (unsigned i = 0; i < 20000; i++) {
            world_begin_any(world);
            world_run(world, 50 * NS_PER_US, 20);
            check_bound(world);
        }
        world_drain(world, NS_PER_S);
        assert_true(world->writes - writes > 200); /* and they got on */
        assert_int_equal(mirror_of(world->mirror)->changes, changes);
        finish(world);
    }
}

/* ---- those that no idle region makes room for ---- */

static bool is_written(struct world *world) {
    for (unsigned i = 0; i < WORLD_OPS; i++)
        if (world->ops[i].busy && world->ops[i].block == 2 /* in region 2 */)
            return false;
    return true;
}

/* The two marked regions are written without a pause: a third one is written all the same. */
static void hot_regions_make_room(void **state) {
    (void)state;
    struct world *world = begin(11, 2);
    clear_all(world);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 100; i++) {
            for (unsigned block = 0; block < WORLD_BLOCKS; block += WORLD_REGIONS) {
                (void)world_begin_write(world, block);
                (void)world_begin_write(world, block + 1);
            }
            if (i == 50)
                while (!world_begin_write(world, 2))
                    world_run(world, 50 * NS_PER_US, 20);
            world_run(world, 50 * NS_PER_US, 20);
            check_bound(world);
        }
        for (unsigned i = 0; !is_written(world); i++) {
            assert_true(i < 10000);
            (void)world_begin_write(world, i % 3 * WORLD_REGIONS);
            (void)world_begin_write(world, i % 3 * WORLD_REGIONS + 1);
            world_run(world, 50 * NS_PER_US, 20);
            check_bound(world);
        }
        world_drain(world, NS_PER_S);
        assert_true(world_begin_flush(world));
        world_drain(world, NS_PER_S);
    }
    finish(world);
}

/* ---- a long one ---- */

struct wide {
    struct block_request request;
    struct reactor_message message;
    struct world *world;
    bool done;
};

static void wide_done(struct block_request *request) { container_of(request, struct wide, request)->done = true; }
static void wide_run(struct reactor_message *message) {
    struct wide *wide = container_of(message, struct wide, message);
    block_submit(wide->world->channel, &wide->request);
}

/* All of the device is zeroed, piece by piece, while others are written. */
static void a_long_one_is_done_in_pieces(void **state) {
    (void)state;
    struct world *world = begin(21, 3);
    clear_all(world);
    for (unsigned i = 0; i < world->disk_count; i++)
        for (uint64_t region = 0; region < WORLD_REGIONS; region++) /* where nobody of the model looks */
            world->disks[i].bytes[region * REPLICA_REGION_BYTES + MIB(1) - 9] = 7;
    struct wide wide = {
        .world = world,
        .message.run = wide_run,
        .request = {.op = BLOCK_WRITE_ZEROES, .length = WORLD_REGIONS * REPLICA_REGION_BYTES, .complete = wide_done}};
    reactor_post(world->plane.data[0], &wide.message);
    for (unsigned i = 0; !wide.done; i++) {
        assert_true(i < 100000);
        world_run(world, 50 * NS_PER_US, 20);
        check_bound(world);
    }
    assert_int_equal(wide.request.status, IO_OK);
    for (unsigned i = 0; i < world->disk_count; i++)
        for (uint64_t region = 0; region < WORLD_REGIONS; region++)
            assert_int_equal(world->disks[i].bytes[region * REPLICA_REGION_BYTES + MIB(1) - 9], 0);
    finish(world);
}

/* ---- legs that are away ---- */

static bool is_lost(struct world *world) { return !mirror_leg_is_up(&mirror_of(world->mirror)->legs[1]); }
static bool is_whole(struct world *world) { return mirror_of(world->mirror)->legs[1].task.state == LEG_MEMBER; }
static bool is_idle(struct world *world) {
    for (unsigned i = 0; i < WORLD_OPS; i++)
        if (world->ops[i].busy)
            return false;
    return true;
}

/* A leg that hangs lets writers wait for room no longer than for itself. */
static void a_leg_that_hangs_is_lost_for_it(void **state) {
    (void)state;
    struct world *world = begin(31, 2);
    clear_all(world);
    assert_true(world_begin_write(world, 0) && world_begin_write(world, 1));
    world_drain(world, NS_PER_S);
    world->disks[1].hung = true; /* nobody has asked it for anything when the third region wants its mark */
    assert_true(world_begin_write(world, 2));
    uint64_t begin_ns = sim_now_ns(world->cluster.sim);
    world_until(world, is_idle, "the write waits for ever");
    assert_true(is_lost(world));
    assert_true(sim_now_ns(world->cluster.sim) - begin_ns < world->options.longest_stall_ms * NS_PER_MS);
    world->disks[1].hung = false;
    world_mend(world, 1);
    finish(world);
}

/* What was written meanwhile stays marked until it is back; then there are ever fewer, and nobody waits for long. */
static void what_was_marked_meanwhile_goes(void **state) {
    (void)state;
    struct world *world = begin(41, 2);
    clear_all(world);
    world_break(world, 1);
    world_write_all(world);
    world_drain(world, NS_PER_S);
    assert_int_equal(mirror_of(world->mirror)->regions.marked_count, WORLD_REGIONS);
    world_mend(world, 1);
    world_until(world, is_whole, "the leg is not whole");
    for (unsigned i = 0; i < 2000; i++) {
        world_begin_any(world);
        world_run(world, 50 * NS_PER_US, 20);
    }
    world_drain(world, NS_PER_S);
    world_pass(world, 500);
    check_bound(world);
    finish(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_more_are_marked),          cmocka_unit_test(hot_regions_make_room),
        cmocka_unit_test(a_long_one_is_done_in_pieces),   cmocka_unit_test(a_leg_that_hangs_is_lost_for_it),
        cmocka_unit_test(what_was_marked_meanwhile_goes),
    };
    return cmocka_run_group_tests_name("mirror marks", tests, NULL, NULL);
}
