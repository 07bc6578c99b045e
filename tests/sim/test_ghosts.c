/* Ghost writes: a write of the past that lands after a younger one was answered. Three ways in which one might: a killed
 * process's request is still in the disk when the next process serves it; bytes of a lost connection are still in the network
 * when the host has connected anew; a retry on a new connection overtakes the first try, which still runs in the device. */
#include "workload.h"

#define NQN "nqn.2026-01.org.penstock:ghosts"
#define BLOCKS 32
#define DISK_BYTES (BLOCKS * WORKLOAD_BLOCK)
#define SEEDS 10

struct stage {
    struct cluster cluster;
    struct plane target, initiator;
    struct sim_disk *disk;
    struct file_device_create opening;
    struct workload workload;
};

static void serve_disk(struct stage *stage) {
    plane_add_file(&stage->target, &stage->opening, "disk", "/disk");
    cluster_wait(&stage->cluster, file_is_open, &stage->opening, 600 * NS_PER_S, "the disk to open");
    if (!stage->opening.ok)
        fail_msg("%s", stage->opening.error.text);
    plane_serve(&stage->target, NQN, "disk");
}

static struct stage *stage_create(uint64_t seed, bool broken_lock) {
    struct stage *stage = plain_alloc(sizeof(*stage));
    cluster_init(&stage->cluster, seed);
    plane_init(&stage->target, &stage->cluster, "target", "10.0.0.1", 1);
    plane_init(&stage->initiator, &stage->cluster, "initiator", "10.0.0.2", 2);
    struct sim_disk_options options;
    sim_disk_options_init(&options, DISK_BYTES);
    options.lock_forgets_requests = broken_lock;
    stage->disk = sim_disk_create(stage->cluster.sim, &options);
    sim_node_attach(stage->target.node, "/disk", stage->disk);
    plane_start(&stage->target, NULL);
    serve_disk(stage);
    struct nvme_initiator_options initiator;
    plane_initiator_options(&initiator);
    plane_start(&stage->initiator, &initiator);
    plane_attach(&stage->initiator, "remote", &stage->target, NQN);
    workload_init(&stage->workload, &stage->initiator, "remoten1", BLOCKS, 4, (uint32_t)seed);
    for (unsigned lane = 0; lane < 2; lane++)
        assert_int_equal(workload_write(&stage->workload, lane, lane), IO_OK);
    return stage;
}

static void stage_end(struct stage *stage) {
    workload_verify(&stage->workload);
    uint8_t bytes[WORKLOAD_BLOCK];
    for (uint32_t block = 0; block < BLOCKS; block++) {
        sim_disk_peek(stage->disk, SIM_VIEW_CURRENT, (uint64_t)block * WORKLOAD_BLOCK, bytes, sizeof(bytes));
        workload_check(&stage->workload, block, bytes);
    }
    workload_fini(&stage->workload);
    plane_exit(&stage->initiator);
    plane_exit(&stage->target);
    cluster_fini(&stage->cluster);
    plain_free(stage);
}

static void hang_next_write(struct stage *stage) {
    struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_WRITE), .action = SIM_FAULT_HANG, .count = 1};
    sim_disk_fault_add(stage->disk, &fault);
}

static bool one_hangs(void *arg) { return sim_disk_hung(((struct stage *)arg)->disk) == 1; }
static bool is_free(void *arg) { return !((struct workload_block *)arg)->busy; }

static uint32_t shown(struct stage *stage, uint32_t block) {
    uint8_t bytes[WORKLOAD_BLOCK];
    sim_disk_peek(stage->disk, SIM_VIEW_CURRENT, (uint64_t)block * WORKLOAD_BLOCK, bytes, sizeof(bytes));
    return get_le32(bytes + 4);
}

/* ---- a killed process's request lands after the restart ---- */

static void a_killed_targets_write_lands_before_its_successor_serves(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        bool broken = seed % 2 == 0; /* the canary: a lock that does not wait */
        struct stage *stage = stage_create(seed, broken);
        struct workload_block *block = &stage->workload.blocks[0];
        hang_next_write(stage);
        workload_begin_write(&stage->workload, 0, 0);
        cluster_wait(&stage->cluster, one_hangs, stage, 600 * NS_PER_S, "a write in the disk");
        uint32_t old = block->last;
        plane_kill(&stage->target, SIM_KILL_CLOSE);
        plane_start(&stage->target, NULL);
        plane_add_file(&stage->target, &stage->opening, "disk", "/disk");
        sim_run_for(stage->cluster.sim, 3 * NS_PER_S);
        assert_int_equal(file_is_open(&stage->opening), broken);
        if (!broken)
            sim_disk_release(stage->disk);
        cluster_wait(&stage->cluster, file_is_open, &stage->opening, 600 * NS_PER_S, "the disk to open");
        assert_true(stage->opening.ok);
        plane_serve(&stage->target, NQN, "disk");
        cluster_wait(&stage->cluster, is_free, block, 600 * NS_PER_S, "the retry");
        assert_int_equal(workload_write(&stage->workload, 1, 0), IO_OK);
        assert_int_equal(block->answered, old + 1);
        sim_disk_release(stage->disk);
        sim_run_for(stage->cluster.sim, NS_PER_S);
        struct sim_disk_stats stats;
        sim_disk_stats(stage->disk, &stats);
        assert_int_equal(stats.ghosts, 1);
        if (broken) { /* the ghost is seen where the lock does not wait: the check can fail */
            assert_int_equal(shown(stage, 0), old);
            assert_int_equal(workload_write(&stage->workload, 0, 0), IO_OK);
        }
        assert_int_equal(shown(stage, 0), block->last);
        stage_end(stage);
    }
}

/* ---- a lost connection's write lands after the reconnect ---- */

static struct sim_connection *nth_connection(struct sim *sim, unsigned n) {
    struct sim_connection *connection = sim_connection_next(sim, NULL);
    while (n-- > 0 && connection != NULL)
        connection = sim_connection_next(sim, connection);
    assert_non_null(connection);
    return connection;
}

/* Connection 0 is the admin queue's, 1 and 2 are the lanes'. The bytes of lane 0's write stand still in the network while the
 * host loses its admin connection, and with it all others, connects anew and writes the block again. Then they arrive. */
static void a_lost_connections_write_never_lands_after_the_reconnect(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct stage *stage = stage_create(seed, false);
        struct sim *sim = stage->cluster.sim;
        struct workload_block *block = &stage->workload.blocks[0];
        struct sim_connection *admin = nth_connection(sim, 0), *io = NULL;
        workload_begin_write(&stage->workload, 0, 0); /* shows which connection is lane 0's */
        for (unsigned n = 1; n <= 2; n++) {
            struct sim_connection_facts facts;
            sim_connection_facts(nth_connection(sim, n), &facts);
            if (facts.written[SIM_TO_SERVER] > facts.delivered[SIM_TO_SERVER])
                io = nth_connection(sim, n);
        }
        assert_non_null(io);
        sim_connection_stall(io, SIM_TO_SERVER, true);
        sim_run_for(sim, 10 * NS_PER_MS);
        assert_true(block->busy);
        uint32_t old = block->last;
        if (seed % 2 == 0)
            sim_connection_reset(admin); /* both ends know */
        else
            sim_connection_reset_one(admin, SIM_TO_CLIENT); /* the target has not heard of it */
        cluster_wait(&stage->cluster, is_free, block, 600 * NS_PER_S, "the retry");
        assert_true(plane_reconnects(&stage->initiator, "remote") >= 1);
        assert_int_equal(workload_write(&stage->workload, 1, 0), IO_OK);
        assert_int_equal(shown(stage, 0), old + 1);
        io = NULL; /* it may be gone: looked for among those that live */
        for (struct sim_connection *c = NULL; (c = sim_connection_next(sim, c)) != NULL;)
            sim_connection_stall(c, SIM_TO_SERVER, false);
        sim_run_for(sim, 5 * NS_PER_S);
        assert_int_equal(shown(stage, 0), old + 1);
        stage_end(stage);
    }
}

/* ---- a retry on a sibling queue while the first runs ---- */

static void a_retry_waits_for_the_first_try(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct stage *stage = stage_create(seed, false);
        struct sim *sim = stage->cluster.sim;
        struct workload_block *block = &stage->workload.blocks[0];
        hang_next_write(stage);
        workload_begin_write(&stage->workload, 0, 0);
        cluster_wait(&stage->cluster, one_hangs, stage, 600 * NS_PER_S, "a write in the disk");
        uint32_t old = block->last;
        for (unsigned n = (unsigned)seed % 3, times = 0; times < 1; times++) /* any of the three */
            sim_connection_reset(nth_connection(sim, n));
        sim_run_for(sim, 2 * NS_PER_S);
        /* the host has come back long ago, but nothing of it is let through */
        assert_true(block->busy);
        workload_begin_write(&stage->workload, 1, 1);
        sim_run_for(sim, 2 * NS_PER_S);
        assert_true(stage->workload.blocks[1].busy);
        struct sim_disk_stats stats;
        sim_disk_stats(stage->disk, &stats);
        assert_int_equal(stats.in_flight, 1);
        sim_disk_release(stage->disk);
        cluster_wait(&stage->cluster, is_free, block, 600 * NS_PER_S, "the retry");
        assert_int_equal(workload_write(&stage->workload, 1, 0), IO_OK);
        assert_int_equal(shown(stage, 0), old + 1);
        sim_run_for(sim, 5 * NS_PER_S);
        assert_int_equal(shown(stage, 0), old + 1);
        workload_stop(&stage->workload, 60 * NS_PER_S);
        stage_end(stage);
    }
}

/* ---- and nobody else ---- */

/* Two attachments of one host are two lines: neither replaces the other, whichever connects anew. */
static void attachments_of_one_host_leave_each_other_alone(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct stage *stage = stage_create(seed, false);
        struct sim *sim = stage->cluster.sim;
        struct plane second;
        plane_init(&second, &stage->cluster, "second", "10.0.0.3", 1);
        struct nvme_initiator_options options;
        plane_initiator_options(&options);
        plane_start(&second, &options);
        plane_attach(&second, "remote", &stage->target, NQN); /* the same host NQN: see plane_attach() */
        sim_connection_reset(nth_connection(sim, 0));
        sim_run_for(sim, 2 * NS_PER_S);
        assert_int_equal(workload_write(&stage->workload, 0, 0), IO_OK);
        assert_int_equal(plane_reconnects(&stage->initiator, "remote"), 1);
        assert_int_equal(plane_reconnects(&second, "remote"), 0);
        plane_exit(&second);
        stage_end(stage);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_targets_write_lands_before_its_successor_serves),
        cmocka_unit_test(a_lost_connections_write_never_lands_after_the_reconnect),
        cmocka_unit_test(a_retry_waits_for_the_first_try),
        cmocka_unit_test(attachments_of_one_host_leave_each_other_alone),
    };
    return cmocka_run_group_tests_name("ghost writes", tests, NULL, NULL);
}
