/* Lives of a mirror over real volumes and a real network, with faults drawn from the seed. What the promises of docs/mirror.md
 * allow is checked at every answer; when the faults are over everything comes back by itself, within a bound of simulated time,
 * and all copies are equal. Some seeds are lived twice, the same way. Every named moment of the protocol must be hit in the
 * batch.
 *
 * test_fleet_random [FIRST [COUNT [TWICE]]]: every TWICEth seed is lived twice. test_fleet_canary [NAME]. */
#include "chaos.h"
#include "trees.h"

#include "blockdev/mirror/mirror_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUESTS 3000
#define FAULTS 20
#define BATCH 400      /* lives, in which every moment is hit */
#define LONG_FACTOR 15 /* of the long budget */
#define RECOVERY_NS (150 * NS_PER_S)

struct batch {
    uint64_t first, count;
    uint64_t twice; /* every so many lives are lived once more: the same way; 0 = none */
    bool trees;     /* they change, too */
    int told;       /* pipe that hears of each seed, 0 = none */
    uint64_t hits[CHAOS_POINTS][CHAOS_ACTIONS];
    uint64_t done[CHAOS_KINDS];
    uint64_t requests, faults, losses, failures, longest_ns, steps, changes, reverts;
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

static void recover(struct chaos *chaos, struct trees *trees) {
    struct fleet *fleet = chaos->fleet;
    uint64_t end = sim_now_ns(fleet->cluster.sim) + RECOVERY_NS;
    chaos_end(chaos);
    while (trees_tend(trees, false) || !fleet_all_whole(fleet) || !fleet_is_idle(fleet)) {
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
    struct trees trees;
    struct fleet_options options;
    if (batch->told != 0 && write(batch->told, &seed, sizeof(seed)) != (ssize_t)sizeof(seed))
        abort();
    static uint64_t nowhere[CHAOS_POINTS][CHAOS_ACTIONS];
    variant(seed, &options);
    fleet_init(fleet, &options);
    fleet_wait(fleet, all_stores_up, 10 * NS_PER_S, "the stores");
    fleet_engine_up(&fleet->nodes[options.storages], ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 20 * NS_PER_S, "the first start");
    chaos_init(chaos, fleet, (unsigned)seed, counts ? batch->hits : nowhere);
    trees_init(&trees, fleet);
    uint64_t last = 0;
    while (requests_of(fleet) < REQUESTS || fleet->faults < FAULTS) {
        bool held = batch->trees && trees_tend(&trees, true), quiet = !held && random_chance(&fleet->random, 1, 12);
        fleet->driving = !held && !quiet;
        if (fleet->driving)
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
    recover(chaos, &trees);
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
        for (unsigned i = 0; i < array_count(trees.done); i++)
            batch->changes += trees.done[i];
        batch->reverts += trees.done[REPLICA_REVERT];
    }
    trees_fini(&trees);
    fleet_fini(fleet);
    plain_free(chaos);
    plain_free(fleet);
    return hash;
}

static struct batch batch = {.first = 1, .count = 20, .twice = 1};

static void random_lives(void **state) {
    (void)state;
    for (uint64_t seed = batch.first; seed < batch.first + batch.count; seed++) {
        uint64_t hash = live(&batch, seed, true);
        if (batch.twice != 0 && seed % batch.twice == 0 && live(&batch, seed, false) != hash)
            fail_msg("seed %llu: two lives that differ", (unsigned long long)seed);
    }
    printf("note: %llu lives, %llu requests (%llu failed), %llu faults, everything lost %llu times, slowest recovery %.1f s, "
           "%llu changes of a tree, %llu of them reverts, %llu events\n",
           (unsigned long long)batch.count, (unsigned long long)batch.requests, (unsigned long long)batch.failures,
           (unsigned long long)batch.faults, (unsigned long long)batch.losses, (double)batch.longest_ns / 1e9,
           (unsigned long long)batch.changes, (unsigned long long)batch.reverts, (unsigned long long)batch.steps);
}

#ifdef MIRROR_CANARY_RUNTIME
/* Compiled with planted faults, one alive at a time: within so many lives one must not end well. */
#define CANARY_LIVES 400
#define CANARY_SECONDS 120

int replica_canary_planted, mirror_canary_planted, volume_canary_planted;

static const struct canary {
    const char *name;
    int *variable, value;
} canaries[] = {
    {"fence by number only", &replica_canary_planted, REPLICA_CANARY_FENCE_BY_NUMBER},
    {"marks reset at an epoch", &replica_canary_planted, REPLICA_CANARY_MARKS_RESET},
    {"mark after data", &replica_canary_planted, REPLICA_CANARY_MARK_AFTER_DATA},
    {"syncing flag late", &mirror_canary_planted, MIRROR_CANARY_SYNCING_LATE},
    {"incarnation ignored", &mirror_canary_planted, MIRROR_CANARY_INCARNATION_IGNORED},
    {"flush retried", &volume_canary_planted, VOLUME_CANARY_FLUSH_RETRIED},
    {"epoch acknowledged early", &mirror_canary_planted, MIRROR_CANARY_EPOCH_EARLY},
};

/* In a process of its own, whose life ends with the first seed that does not end well. */
static void live_with(const struct canary *canary, int told) {
    *canary->variable = canary->value;
    alarm(CANARY_SECONDS);
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives)};
    if (freopen("/dev/null", "w", stdout) == NULL || dup2(fileno(stdout), STDERR_FILENO) < 0)
        _exit(2);
    batch.twice = 0;
    batch.told = told;
    _exit(cmocka_run_group_tests_name("a canary", tests, NULL, NULL) != 0);
}

static bool is_found(const struct canary *canary) {
    int pipes[2], status = 0;
    uint64_t seed = 0, got;
    if (pipe(pipes) != 0)
        abort();
    pid_t child = fork();
    if (child == 0)
        live_with(canary, pipes[1]);
    close(pipes[1]);
    while (read(pipes[0], &got, sizeof(got)) == (ssize_t)sizeof(got))
        seed = got;
    close(pipes[0]);
    waitpid(child, &status, 0);
    bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    bool found = !late && (WIFSIGNALED(status) || WEXITSTATUS(status) == 1);
    printf("%s: %s, seed %llu\n", canary->name, found ? "found" : late ? "OUT OF TIME" : "SURVIVED", (unsigned long long)seed);
    return found;
}

int main(int argc, char **argv) {
    unsigned survived = 0;
    batch.first = 1;
    batch.count = CANARY_LIVES;
    heap_keep_memory();
    for (size_t i = 0; i < array_count(canaries); i++)
        if (argc < 2 || strstr(canaries[i].name, argv[1]) != NULL) {
            fflush(stdout);
            survived += !is_found(&canaries[i]);
        }
    printf("note: %u planted faults survived\n", survived);
    return survived != 0;
}
#else
static void every_moment_is_hit(void **state) {
    (void)state;
    unsigned missed = 0;
    if (batch.count < BATCH) {
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

int main(int argc, char **argv) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    if (argc > 1)
        batch.first = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        batch.count = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        batch.twice = strtoull(argv[3], NULL, 10);
    if (budget != NULL && strcmp(budget, "long") == 0) {
        batch.first = batch.first * LONG_FACTOR;
        batch.count *= LONG_FACTOR;
        batch.twice = 1;
    }
    batch.trees = getenv("MIRROR_TREES") != NULL;
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives),
        cmocka_unit_test(every_moment_is_hit),
    };
    return cmocka_run_group_tests_name("lives of a fleet", tests, NULL, NULL);
}
#endif
