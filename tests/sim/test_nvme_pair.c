/* The NVMe/TCP target and initiator facing each other in one simulation, over many seeds: every split, stalls, resets, one-way
 * cuts, connections that overtake each other, processes that stand still. No answered write may be lost or undone, and after the
 * faults stop everything finishes. */
#include "workload.h"

#define NQN "nqn.2026-01.org.penstock:simulated"
#define BLOCKS 64
#define SEEDS 60
#define DISK_BYTES (BLOCKS * WORKLOAD_BLOCK)

struct pair {
    struct cluster cluster;
    struct plane target, initiator;
    struct workload workload;
};

static void pair_init_options(struct pair *pair, const struct sim_options *options) {
    cluster_init_options(&pair->cluster, options);
    plane_init(&pair->target, &pair->cluster, "target", "10.0.0.1", 2);
    plane_init(&pair->initiator, &pair->cluster, "initiator", "10.0.0.2", 2);
    plane_start(&pair->target, NULL);
    plane_add_memory(&pair->target, "disk", DISK_BYTES);
    plane_serve(&pair->target, NQN, "disk");
    struct nvme_initiator_options initiator;
    plane_initiator_options(&initiator);
    plane_start(&pair->initiator, &initiator);
    plane_attach(&pair->initiator, "remote", &pair->target, NQN);
    workload_init(&pair->workload, &pair->initiator, "remoten1", BLOCKS, 8, (uint32_t)options->seed + 1);
}

static void pair_init(struct pair *pair, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    pair_init_options(pair, &options);
}

/* After the faults: all requests end, everything is there, and both sides end without a byte left. */
static void pair_fini(struct pair *pair) {
    workload_stop(&pair->workload, 120 * NS_PER_S);
    assert_int_equal(pair->workload.failed, 0);
    workload_verify(&pair->workload);
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

/* ---- faults at random ---- */

enum { FAULTS = 25, REQUESTS_PER_FAULT = 120, UNDO_MAX = FAULTS };

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
    unsigned done[9]; /* by kind of fault */
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
    unsigned kind = (unsigned)random_below(&chaos->random, array_count(chaos->done));
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

static uint64_t chaos_run(uint64_t seed, unsigned *done, uint64_t *reconnects, uint64_t *requests) {
    struct sim_options options;
    sim_options_init(&options, seed);
    options.remote.window_bytes = 1u << (12 + seed % 7);
    options.remote.split_one_in = 1 + (uint32_t)(seed % 5);
    struct pair *pair = plain_alloc(sizeof(*pair));
    pair_init_options(pair, &options);
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

static void faults_at_random_lose_nothing(void **state) {
    (void)state;
    unsigned done[9] = {0};
    uint64_t reconnects = 0, requests = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t hash = chaos_run(seed, done, &reconnects, &requests);
        if (seed % 20 == 1 && chaos_run(seed, done, &reconnects, &requests) != hash)
            fail_msg("seed %llu: two runs differ", (unsigned long long)seed);
    }
    for (unsigned i = 0; i < array_count(done); i++)
        assert_true(done[i] > 0);
    print_message("%u seeds, %llu requests, %llu reconnects\n", SEEDS, (unsigned long long)requests,
                  (unsigned long long)reconnects);
    assert_true(reconnects > SEEDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_network_carries_everything),
        cmocka_unit_test(faults_at_random_lose_nothing),
    };
    return cmocka_run_group_tests_name("target and initiator in one simulation", tests, NULL, NULL);
}
