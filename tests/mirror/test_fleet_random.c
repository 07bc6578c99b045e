/* Lives of a mirror over real volumes and a real network, with faults drawn from the seed. What the promises of docs/mirror.md
 * allow is checked at every answer; when the faults are over everything comes back by itself, within a bound of simulated time,
 * and all copies are equal. Each seed is lived twice, the same way. Every named moment of the protocol must be hit in the batch.
 */
#include "chaos.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUESTS 3000
#define FAULTS 20
#define RECOVERY_NS (150 * NS_PER_S)

struct batch {
    uint64_t first, count;
    uint64_t hits[CHAOS_POINTS][CHAOS_ACTIONS];
    uint64_t done[CHAOS_KINDS];
    uint64_t requests, faults, losses, failures, longest_ns, steps;
};

static void variant(uint64_t seed, struct fleet_options *ret_options) {
    struct fleet_options *o = ret_options;
    *o = (struct fleet_options){.seed = seed, .policy = REPLICA_ANY, .depth = 4 + (unsigned)(seed % 9)};
    switch (seed % 5) {
    case 0: /* two nodes, and engines elsewhere */
        o->storages = 2;
        o->engines = 2;
        break;
    case 1:
        o->storages = 3;
        o->engines = 2;
        break;
    case 2:
        o->storages = 3;
        o->engines = 2;
        o->policy = REPLICA_MAJORITY;
        break;
    case 3: /* one leg on the engine's own node */
        o->storages = 2;
        o->engines = 1;
        o->local = true;
        break;
    default:
        o->storages = 2;
        o->engines = 1;
        o->local = true;
        o->policy = REPLICA_MAJORITY;
        break;
    }
}

static bool all_stores_up(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].exported && fleet->nodes[i].state != FLEET_UP)
            return false;
    return true;
}

static uint64_t requests_of(const struct fleet *fleet) { return fleet->reads + fleet->writes + fleet->flushes; }

static void fill_all(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].channel != NULL && !fleet->nodes[i].paused)
            fleet_fill(&fleet->nodes[i]);
}

/* A leg that was not there when the engine started needs an engine that starts when it is. */
static bool lacks_a_leg(const struct fleet_node *engine) {
    const struct mirror *mirror = mirror_of(engine->mirror);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        if (mirror->legs[i].handle.device == NULL)
            return true;
    return false;
}

static void recover(struct chaos *chaos) {
    struct fleet *fleet = chaos->fleet;
    uint64_t end = sim_now_ns(fleet->cluster.sim) + RECOVERY_NS;
    chaos_end(chaos);
    while (!fleet_all_whole(fleet) || !fleet_is_idle(fleet)) {
        if (sim_now_ns(fleet->cluster.sim) > end)
            fleet_fail(fleet, "the faults are over, and not all is well");
        fleet_run(fleet, 5 * NS_PER_MS);
        chaos_tend(chaos);
        for (unsigned i = 0; i < fleet->node_count; i++) {
            struct fleet_node *node = &fleet->nodes[i];
            if (node->state == FLEET_UP && node->mirror != NULL && all_stores_up(fleet) && lacks_a_leg(node)) {
                fleet_node_die(node, FLEET_CLOSE);
                node->again_ns = sim_now_ns(fleet->cluster.sim) + NS_PER_MS;
            }
        }
    }
}

static uint64_t live(struct batch *batch, uint64_t seed, bool counts) {
    struct fleet *fleet = plain_alloc(sizeof(*fleet));
    struct chaos *chaos = plain_alloc(sizeof(*chaos));
    struct fleet_options options;
    static uint64_t nowhere[CHAOS_POINTS][CHAOS_ACTIONS];
    variant(seed, &options);
    fleet_init(fleet, &options);
    fleet_wait(fleet, all_stores_up, 10 * NS_PER_S, "the stores");
    fleet_engine_up(&fleet->nodes[options.storages], ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 20 * NS_PER_S, "the first start");
    chaos_init(chaos, fleet, (unsigned)seed, counts ? batch->hits : nowhere);
    fleet->driving = true;
    uint64_t last = 0;
    while (requests_of(fleet) < REQUESTS || fleet->faults < FAULTS) {
        bool quiet = random_chance(&fleet->random, 1, 12);
        fleet->driving = !quiet;
        if (!quiet)
            fill_all(fleet);
        fleet_run(fleet, quiet ? random_below(&fleet->random, 3 * NS_PER_S) : 1 + random_below(&fleet->random, 2 * NS_PER_MS));
        chaos_tend(chaos);
        uint64_t due = REQUESTS / (FAULTS + 8);
        if (requests_of(fleet) - last >= due || random_chance(&fleet->random, 1, 30)) {
            last = requests_of(fleet);
            chaos_strike(chaos);
        }
    }
    fleet->driving = false;
    uint64_t began = sim_now_ns(fleet->cluster.sim);
    recover(chaos);
    began = sim_now_ns(fleet->cluster.sim) - began;
    fleet_compare(fleet);
    sim_trace(fleet->cluster.sim, "requests", requests_of(fleet), fleet->failures);
    uint64_t hash = sim_trace_hash(fleet->cluster.sim);
    if (counts) {
        batch->requests += requests_of(fleet);
        batch->faults += fleet->faults;
        batch->losses += fleet->losses;
        batch->failures += fleet->failures;
        batch->longest_ns = max_u64(batch->longest_ns, began);
        batch->steps += sim_steps(fleet->cluster.sim);
        for (unsigned i = 0; i < CHAOS_KINDS; i++)
            batch->done[i] += chaos->done[i];
    }
    fleet_fini(fleet);
    plain_free(chaos);
    plain_free(fleet);
    return hash;
}

static struct batch batch = {.first = 1, .count = 20};
static bool once;

static void random_lives(void **state) {
    (void)state;
    for (uint64_t seed = batch.first; seed < batch.first + batch.count; seed++) {
        uint64_t hash = live(&batch, seed, true);
        if (!once && live(&batch, seed, false) != hash)
            fail_msg("seed %llu: two lives that differ", (unsigned long long)seed);
    }
    printf("note: %llu lives, %llu requests (%llu failed), %llu faults, everything lost %llu times, slowest recovery %.1f s, "
           "%llu events\n",
           (unsigned long long)batch.count, (unsigned long long)batch.requests, (unsigned long long)batch.failures,
           (unsigned long long)batch.faults, (unsigned long long)batch.losses, (double)batch.longest_ns / 1e9,
           (unsigned long long)batch.steps);
}

static void every_moment_is_hit(void **state) {
    (void)state;
    unsigned missed = 0;
    if (batch.count < 250) {
        printf("note: too few lives to hit every moment\n");
        return;
    }
    static const char *const actions[] = {"a crash", "a pause", "a cut"};
    for (unsigned point = 0; point < CHAOS_POINTS; point++)
        for (unsigned action = 0; chaos_point_name(point) != NULL && action < CHAOS_ACTIONS; action++)
            if (batch.hits[point][action] == 0) {
                printf("not hit by %s: %s\n", actions[action], chaos_point_name(point));
                missed++;
            }
    if (missed > 0)
        fail_msg("%u of the named moments are not hit", missed);
}

#ifdef MIRROR_CANARY_RUNTIME
/* Compiled with planted faults, of which one is alive: the lives must not all end well. */
int replica_canary_planted, mirror_canary_planted;

static void plant(const char *name) {
    static const struct {
        const char *name;
        int *variable, value;
    } canaries[] = {
        {"fence by number", &replica_canary_planted, REPLICA_CANARY_FENCE_BY_NUMBER},
        {"marks reset", &replica_canary_planted, REPLICA_CANARY_MARKS_RESET},
        {"mark after data", &replica_canary_planted, REPLICA_CANARY_MARK_AFTER_DATA},
        {"epoch early", &mirror_canary_planted, MIRROR_CANARY_EPOCH_EARLY},
        {"incarnation ignored", &mirror_canary_planted, MIRROR_CANARY_INCARNATION_IGNORED},
    };
    for (size_t i = 0; i < array_count(canaries); i++)
        if (strcmp(canaries[i].name, name) == 0) {
            *canaries[i].variable = canaries[i].value;
            return;
        }
    abort();
}
#endif

int main(int argc, char **argv) {
    if (argc > 1)
        batch.first = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        batch.count = strtoull(argv[2], NULL, 10);
    once = getenv("MIRROR_ONCE") != NULL;
#ifdef MIRROR_CANARY_RUNTIME
    once = true;
    if (argc > 3)
        plant(argv[3]);
#endif
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives),
        cmocka_unit_test(every_moment_is_hit),
    };
    return cmocka_run_group_tests_name("lives of a fleet", tests, NULL, NULL);
}
