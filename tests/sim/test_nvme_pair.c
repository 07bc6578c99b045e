/* The NVMe/TCP target and initiator facing each other in one simulation, over many seeds: every split, stalls, resets, one-way
 * cuts, connections that overtake each other, processes that stand still. No answered write may be lost or undone, and after the
 * faults stop everything finishes. */
#include "workload.h"

#include "base/text.h"

#define NQN "nqn.2026-01.org.penstock:simulated"
#define BLOCKS 64
#define SEEDS 60 /* in CI; more by an argument: test_nvme_pair SEEDS [FIRST] */
#define DISK_BYTES (BLOCKS * WORKLOAD_BLOCK)

struct pair {
    struct cluster cluster;
    struct plane target, initiator;
    struct workload workload;
    struct sim_disk *disk; /* NULL: the target serves a RAM disk */
    struct file_device_create opening;
};

/* The target's process serves its disk; a former one's requests have landed by then. */
static void pair_serve(struct pair *pair) {
    if (pair->disk == NULL) {
        plane_add_memory(&pair->target, "disk", DISK_BYTES);
    } else {
        plane_add_file(&pair->target, &pair->opening, "disk", "/disk");
        cluster_wait(&pair->cluster, file_is_open, &pair->opening, 600 * NS_PER_S, "the disk to open");
        if (!pair->opening.ok)
            fail_msg("%s", pair->opening.error.text);
    }
    plane_serve(&pair->target, NQN, "disk");
}

static void pair_init_hooked(struct pair *pair, const struct sim_options *options, bool with_disk,
                             void (*hook)(void *arg, struct sim_connection *connection), void *hook_arg) {
    pair->disk = NULL;
    cluster_init_options(&pair->cluster, options);
    sim_set_connection_hook(pair->cluster.sim, hook, hook_arg);
    plane_init(&pair->target, &pair->cluster, "target", "10.0.0.1", 2);
    plane_init(&pair->initiator, &pair->cluster, "initiator", "10.0.0.2", 2);
    plane_start(&pair->target, NULL);
    if (with_disk) {
        struct sim_disk_options disk;
        sim_disk_options_init(&disk, DISK_BYTES);
        pair->disk = sim_disk_create(pair->cluster.sim, &disk);
        sim_node_attach(pair->target.node, "/disk", pair->disk);
    }
    pair_serve(pair);
    struct nvme_initiator_options initiator;
    plane_initiator_options(&initiator);
    plane_start(&pair->initiator, &initiator);
    pair->initiator.digests = options->seed % 2 == 1;
    plane_attach(&pair->initiator, "remote", &pair->target, NQN);
    workload_init(&pair->workload, &pair->initiator, "remoten1", BLOCKS, 8, (uint32_t)options->seed + 1);
}

static void pair_init_options(struct pair *pair, const struct sim_options *options, bool with_disk) {
    pair_init_hooked(pair, options, with_disk, NULL, NULL);
}

static void pair_init(struct pair *pair, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    pair_init_options(pair, &options, false);
}

/* After the faults: all requests end, everything is there, and both sides end without a byte left. */
static void pair_fini(struct pair *pair) {
    workload_stop(&pair->workload, 120 * NS_PER_S);
    assert_int_equal(pair->workload.failed, 0);
    workload_verify(&pair->workload);
    for (uint32_t block = 0; pair->disk != NULL && block < BLOCKS; block++) {
        uint8_t bytes[WORKLOAD_BLOCK];
        sim_disk_peek(pair->disk, SIM_VIEW_CURRENT, (uint64_t)block * WORKLOAD_BLOCK, bytes, sizeof(bytes));
        workload_check(&pair->workload, block, bytes);
    }
    workload_fini(&pair->workload);
    plane_exit(&pair->initiator);
    plane_exit(&pair->target);
    cluster_fini(&pair->cluster);
}

static void a_quiet_network_carries_everything(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct pair *pair = plain_alloc(sizeof(*pair));
        pair_init(pair, seed);
        workload_start(&pair->workload, 2000);
        cluster_wait(&pair->cluster, workload_is_done, &pair->workload, 600 * NS_PER_S, "2000 requests");
        assert_int_equal(pair->workload.failed, 0);
        assert_int_equal(plane_reconnects(&pair->initiator, "remote"), 0);
        pair_fini(pair);
        plain_free(pair);
    }
}

/* ---- every split ---- */

struct split {
    uint64_t byte;
    enum sim_direction direction;
};

static void split_each_connection(void *arg, struct sim_connection *connection) {
    const struct split *split = arg;
    sim_connection_split_at(connection, split->direction, split->byte);
}

/* One split, at each byte of the first few hundred (all headers of the handshake and of the first commands lie there), further on
 * at every 13th; on all connections at once, and no other split. */
static void each_single_split_is_survived(void **state) {
    (void)state;
    for (uint64_t byte = 1; byte < 9000; byte += byte < 500 ? 1 : 13)
        for (unsigned direction = 0; direction < 2; direction++) {
            struct sim_options options;
            sim_options_init(&options, byte);
            options.remote.split_one_in = options.remote.short_write_one_in = options.remote.late_one_in = 0;
            struct split split = {byte, (enum sim_direction)direction};
            struct pair *pair = plain_alloc(sizeof(*pair));
            pair_init_hooked(pair, &options, false, split_each_connection, &split);
            workload_start(&pair->workload, 20);
            cluster_wait(&pair->cluster, workload_is_done, &pair->workload, 600 * NS_PER_S, "20 requests");
            assert_int_equal(plane_reconnects(&pair->initiator, "remote"), 0);
            pair_fini(pair);
            plain_free(pair);
        }
}

/* All splits at once: every delivery is one byte, writes are short. */
static void bytes_one_by_one_are_survived(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct sim_options options;
        sim_options_init(&options, seed);
        options.remote.delivery_bytes = 1;
        options.remote.latency_min_ns = options.remote.latency_max_ns = 200; /* else the day would not be long enough */
        options.remote.short_write_one_in = 2;
        struct pair *pair = plain_alloc(sizeof(*pair));
        pair_init_options(pair, &options, false);
        workload_start(&pair->workload, 40);
        cluster_wait(&pair->cluster, workload_is_done, &pair->workload, 600 * NS_PER_S, "40 requests");
        assert_int_equal(plane_reconnects(&pair->initiator, "remote"), 0);
        pair_fini(pair);
        plain_free(pair);
    }
}

/* ---- faults at random ---- */

enum { FAULTS = 25, REQUESTS_PER_FAULT = 120, UNDO_MAX = FAULTS, KINDS = 12, KINDS_WITHOUT_DISK = 9 };

struct undo {
    uint64_t at_ns;
    void (*undo)(struct pair *pair, struct undo *undo);
    uint64_t connection; /* id */
    enum sim_direction direction;
    struct sim_link *link;
    struct plane *plane;
    struct sim_link_options options;
};

struct chaos {
    struct pair *pair;
    struct random random;
    struct undo undos[UNDO_MAX];
    unsigned undo_count;
    unsigned done[KINDS]; /* by kind of fault */
};

static struct sim_connection *connection_by_id(struct sim *sim, uint64_t id) {
    struct sim_connection *connection = NULL;
    while ((connection = sim_connection_next(sim, connection)) != NULL) {
        struct sim_connection_facts facts;
        sim_connection_facts(connection, &facts);
        if (facts.id == id)
            return connection;
    }
    return NULL;
}

static void undo_stall(struct pair *pair, struct undo *undo) {
    struct sim_connection *connection = connection_by_id(pair->cluster.sim, undo->connection);
    if (connection != NULL)
        sim_connection_stall(connection, undo->direction, false);
}
static void undo_cut(struct pair *pair, struct undo *undo) {
    (void)pair;
    sim_link_cut(undo->link, false);
}
static void undo_options(struct pair *pair, struct undo *undo) {
    (void)pair;
    sim_link_set(undo->link, &undo->options);
}
static void undo_pause(struct pair *pair, struct undo *undo) {
    (void)pair;
    sim_process_resume(undo->plane->host);
}

static void undo_hang(struct pair *pair, struct undo *undo) {
    (void)undo;
    sim_disk_faults_clear(pair->disk);
    sim_disk_release(pair->disk);
}

/* The target's process dies and comes back at once; what it had handed to its disk still lands. */
static void restart_target(struct pair *pair, enum sim_kill how) {
    plane_kill(&pair->target, how);
    undo_hang(pair, NULL);
    sim_run_for(pair->cluster.sim, random_below(sim_random(pair->cluster.sim), NS_PER_MS));
    plane_start(&pair->target, NULL);
    pair_serve(pair);
}

static struct sim_connection *any_connection(struct chaos *chaos) {
    struct sim *sim = chaos->pair->cluster.sim;
    unsigned count = 0;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(sim, c)) != NULL;)
        count++;
    if (count == 0)
        return NULL;
    struct sim_connection *connection = NULL;
    for (uint64_t skip = random_below(&chaos->random, count) + 1; skip > 0; skip--)
        connection = sim_connection_next(sim, connection);
    return connection;
}

/* How long a fault lasts: mostly a blink, sometimes beyond every timeout. */
static uint64_t any_duration(struct chaos *chaos) {
    const uint64_t longest[] = {NS_PER_MS, 20 * NS_PER_MS, 300 * NS_PER_MS, 8 * NS_PER_S};
    return 1 + random_below(&chaos->random, longest[random_below(&chaos->random, array_count(longest))]);
}

static void fault(struct chaos *chaos) {
    struct pair *pair = chaos->pair;
    struct sim_node *nodes[2] = {pair->target.node, pair->initiator.node};
    struct sim_connection *connection = any_connection(chaos);
    unsigned kind = (unsigned)random_below(&chaos->random, pair->disk == NULL ? KINDS_WITHOUT_DISK : KINDS);
    unsigned side = (unsigned)random_below(&chaos->random, 2);
    enum sim_direction direction = random_chance(&chaos->random, 1, 2) ? SIM_TO_SERVER : SIM_TO_CLIENT;
    struct undo undo = {.at_ns = sim_now_ns(pair->cluster.sim) + any_duration(chaos), .direction = direction};
    if (connection == NULL && kind <= 4)
        return;
    chaos->done[kind]++;
    struct sim_connection_facts facts;
    if (connection != NULL) {
        sim_connection_facts(connection, &facts);
        undo.connection = facts.id;
    }
    switch (kind) {
    case 0: sim_connection_reset(connection); break;
    case 1: sim_connection_reset_one(connection, direction); break;
    case 2:
        sim_connection_stall(connection, direction, true);
        undo.undo = undo_stall;
        break;
    case 3: sim_connection_delay(connection, direction, random_below(&chaos->random, 20 * NS_PER_MS)); break;
    case 4:
        sim_connection_split_at(connection, direction, facts.written[direction] + 1 + random_below(&chaos->random, 9000));
        break;
    case 5:
    case 6: /* one way; both, as the next fault may be the other way */
        undo.link = sim_link(nodes[side], nodes[1 - side]);
        sim_link_cut(undo.link, true);
        undo.undo = undo_cut;
        break;
    case 7: {
        undo.link = sim_link(nodes[side], nodes[1 - side]);
        sim_link_get(undo.link, &undo.options);
        struct sim_link_options options = undo.options;
        options.delivery_bytes = (uint32_t)random_below(&chaos->random, 3) * 7 + 1; /* 1, 8 or 15 bytes at once */
        options.split_one_in = 2;
        options.short_write_one_in = 2;
        undo.at_ns = min_u64(undo.at_ns, sim_now_ns(pair->cluster.sim) + 20 * NS_PER_MS);
        sim_link_set(undo.link, &options);
        undo.undo = undo_options;
        break;
    }
    case 8:
        undo.plane = side == 0 ? &pair->target : &pair->initiator;
        sim_process_pause(undo.plane->host);
        undo.undo = undo_pause;
        break;
    case 9: restart_target(pair, side == 0 ? SIM_KILL_CLOSE : SIM_KILL_VANISH); break;
    case 10:
    case 11: { /* requests that hang, or take long */
        struct sim_disk_fault disk = {.ops = SIM_OP_ALL,
                                      .action = kind == 10 ? SIM_FAULT_HANG : SIM_FAULT_DELAY,
                                      .one_in = 3,
                                      .delay_ns = random_below(&chaos->random, 50 * NS_PER_MS)};
        sim_disk_faults_clear(pair->disk);
        sim_disk_fault_add(pair->disk, &disk);
        undo.undo = undo_hang;
        break;
    }
    }
    if (undo.undo != NULL)
        chaos->undos[chaos->undo_count++] = undo;
}

/* Ends the faults that are over by then. */
static void undo_until(struct chaos *chaos, uint64_t at_ns) {
    for (;;) {
        struct undo *next = NULL;
        for (unsigned i = 0; i < chaos->undo_count; i++)
            if (chaos->undos[i].undo != NULL && chaos->undos[i].at_ns <= at_ns &&
                (next == NULL || chaos->undos[i].at_ns < next->at_ns))
                next = &chaos->undos[i];
        uint64_t now = sim_now_ns(chaos->pair->cluster.sim), until = next == NULL ? at_ns : max_u64(next->at_ns, now);
        if (until > now)
            sim_run_for(chaos->pair->cluster.sim, until - now);
        if (next == NULL)
            return;
        next->undo(chaos->pair, next);
        next->undo = NULL;
    }
}

static uint64_t chaos_run(uint64_t seed, bool with_disk, unsigned *done, uint64_t *reconnects, uint64_t *requests) {
    struct sim_options options;
    sim_options_init(&options, seed);
    options.remote.window_bytes = 1u << (12 + seed % 7);
    options.remote.split_one_in = 1 + (uint32_t)(seed % 5);
    struct pair *pair = plain_alloc(sizeof(*pair));
    pair_init_options(pair, &options, with_disk);
    struct chaos *chaos = plain_alloc(sizeof(*chaos));
    *chaos = (struct chaos){.pair = pair};
    random_init(&chaos->random, seed);
    for (unsigned i = 0; i < FAULTS; i++) {
        workload_start(&pair->workload, REQUESTS_PER_FAULT);
        uint64_t pause_ns = random_chance(&chaos->random, 1, 5) ? 4 * NS_PER_S : 3 * NS_PER_MS;
        undo_until(chaos, sim_now_ns(pair->cluster.sim) + random_below(&chaos->random, pause_ns));
        fault(chaos);
    }
    undo_until(chaos, sim_now_ns(pair->cluster.sim) + 10 * NS_PER_S);
    for (unsigned i = 0; i < array_count(chaos->done); i++)
        done[i] += chaos->done[i];
    *reconnects += plane_reconnects(&pair->initiator, "remote");
    *requests += pair->workload.begun;
    uint64_t hash = sim_trace_hash(pair->cluster.sim);
    pair_fini(pair);
    plain_free(chaos);
    plain_free(pair);
    return hash;
}

struct budget {
    uint64_t seeds, first;
};

static void many_seeds(bool with_disk, const struct budget *budget) {
    unsigned done[KINDS] = {0};
    uint64_t reconnects = 0, requests = 0;
    for (uint64_t seed = budget->first; seed < budget->first + budget->seeds; seed++) {
        uint64_t hash = chaos_run(seed, with_disk, done, &reconnects, &requests);
        if (seed % 20 == 1 && chaos_run(seed, with_disk, done, &reconnects, &requests) != hash)
            fail_msg("seed %llu: two runs differ", (unsigned long long)seed);
    }
    for (unsigned i = 0; i < (with_disk ? KINDS : KINDS_WITHOUT_DISK); i++)
        assert_true(done[i] > 0 || budget->seeds < SEEDS);
    print_message("%llu seeds, %llu requests, %llu reconnects\n", (unsigned long long)budget->seeds, (unsigned long long)requests,
                  (unsigned long long)reconnects);
    assert_true(reconnects >= budget->seeds);
}

static void faults_at_random_lose_nothing(void **state) { many_seeds(false, *state); }

/* The target serves a disk that hangs and is slow, and its process is killed and started again. */
static void faults_of_disk_and_process_lose_nothing(void **state) { many_seeds(true, *state); }

int main(int argc, char **argv) {
    struct budget budget = {.seeds = SEEDS, .first = 1};
    if ((argc > 1 && !text_parse_u64(argv[1], 1000000, &budget.seeds)) ||
        (argc > 2 && !text_parse_u64(argv[2], UINT32_MAX, &budget.first)))
        return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_network_carries_everything),
        cmocka_unit_test(each_single_split_is_survived),
        cmocka_unit_test(bytes_one_by_one_are_survived),
        cmocka_unit_test_prestate(faults_at_random_lose_nothing, &budget),
        cmocka_unit_test_prestate(faults_of_disk_and_process_lose_nothing, &budget),
    };
    return cmocka_run_group_tests_name("target and initiator in one simulation", tests, NULL, NULL);
}
