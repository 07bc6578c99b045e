/* Lives of a mirror over real volumes and a real network, with faults drawn from the seed. What the promises of docs/mirror.md
 * allow is checked at every answer; when the faults are over everything comes back by itself, within a bound of simulated time,
 * and all copies are equal. Some seeds are lived twice, the same way. Every named moment of the protocol must be hit in the
 * batch.
 *
 * test_fleet_random [FIRST [COUNT [TWICE]]]: every TWICEth seed is lived twice. test_fleet_random seeds SEED…: these, that did
 * not end well once. test_fleet_canary [NAME [FIRST]]. */
#include "chaos.h"
#include "orders.h"
#include "trees.h"

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUESTS 3000
#define FAULTS 20
#define BATCH 400      /* lives, in which every moment is hit */
#define LONG_FACTOR 15 /* of the long budget */
#define TREES_ONE_IN 150
#define RECOVERY_NS (150 * NS_PER_S)
#define VAIN_MAX 60 /* faults in a row without an answer: from then on there are none until somebody serves */

struct batch {
    uint64_t first, count;
    char **seeds;   /* NULL = those from `first` on */
    uint64_t twice; /* every so many lives are lived once more: the same way; 0 = none */
    unsigned trees; /* they change, too: in one of so many rounds; 0 = never */
    enum chaos_kind often;
    int told; /* pipe that hears of each seed, 0 = none */
    uint64_t hits[CHAOS_POINTS][CHAOS_ACTIONS];
    uint64_t done[CHAOS_KINDS];
    uint64_t orders[MIRROR_RESUME + 1], leases_over, changes[REPLICA_DROP + 1];
    uint64_t answers, failures, faults, losses, longest_ns, steps, fewest_answers, fewest_faults;
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
    for (unsigned i = 0; i < fleet->node_count; i++) {
        const struct fleet_node *node = &fleet->nodes[i];
        if (node->exported && (node->state != FLEET_UP || node->store->failed))
            return false;
    }
    return true;
}

#define IN_VAIN 32 /* requests in a row that failed: from then on only now and then another one */

static void fill_all(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->channel == NULL || node->paused || mirror_of(node->mirror)->state == MIRROR_STANDBY)
            continue;
        if (node->failed < IN_VAIN || random_chance(&fleet->random, 1, IN_VAIN))
            fleet_fill(node);
    }
}

/* A leg that was not there when the engine started needs an engine that starts when it is. */
static bool lacks_a_leg(const struct fleet_node *engine) {
    const struct mirror *mirror = mirror_of(engine->mirror);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        if (mirror->legs[i].handle.device == NULL)
            return true;
    return false;
}

static void restart_who_lack_a_leg(struct fleet *fleet) {
    for (unsigned i = 0; all_stores_up(fleet) && i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->state != FLEET_UP || node->mirror == NULL || !lacks_a_leg(node))
            continue;
        fleet_node_die(node, FLEET_CLOSE);
        node->again_ns = sim_now_ns(fleet->cluster.sim) + NS_PER_MS;
    }
}

static void recover(struct chaos *chaos, struct trees *trees, struct orders *orders) {
    struct fleet *fleet = chaos->fleet;
    uint64_t end = sim_now_ns(fleet->cluster.sim) + RECOVERY_NS;
    chaos_end(chaos);
    while (trees_tend(trees, false) || !orders_rest(orders) || !all_stores_up(fleet) || !fleet_all_whole(fleet) ||
           !fleet_is_idle(fleet)) {
        if (sim_now_ns(fleet->cluster.sim) > end)
            fleet_fail(fleet, "the faults are over, and not all is well");
        fleet_run(fleet, 5 * NS_PER_MS);
        chaos_tend(chaos);
        orders_tend(orders, false);
        restart_who_lack_a_leg(fleet);
    }
}

static void count(struct batch *batch, const struct chaos *chaos, const struct trees *trees, const struct orders *orders,
                  uint64_t recovery_ns) {
    const struct fleet *fleet = chaos->fleet;
    batch->answers += fleet->answers;
    batch->failures += fleet->failures;
    batch->faults += fleet->faults;
    batch->fewest_answers = min_u64(batch->fewest_answers, fleet->answers);
    batch->fewest_faults = min_u64(batch->fewest_faults, fleet->faults);
    batch->losses += fleet->losses;
    batch->longest_ns = max_u64(batch->longest_ns, recovery_ns);
    batch->steps += sim_steps(fleet->cluster.sim);
    batch->leases_over += orders->leases_over;
    for (unsigned i = 0; i < CHAOS_KINDS; i++)
        batch->done[i] += chaos->done[i];
    for (unsigned i = 0; i < array_count(trees->done); i++)
        batch->changes[i] += trees->done[i];
    for (unsigned i = 0; i < array_count(orders->done); i++)
        batch->orders[i] += orders->done[i];
}

/* Faults come faster than anybody can begin to serve: then they stop, and somebody must. */
struct calm {
    uint64_t answers, faults, since_ns;
};

static bool is_calm(struct calm *calm, struct fleet *fleet) {
    uint64_t now = sim_now_ns(fleet->cluster.sim);
    if (fleet->answers != calm->answers) {
        *calm = (struct calm){.answers = fleet->answers, .faults = fleet->faults};
        return false;
    }
    if (fleet->faults - calm->faults < VAIN_MAX)
        return false;
    if (calm->since_ns == 0)
        calm->since_ns = now;
    if (now - calm->since_ns > RECOVERY_NS)
        fleet_fail(fleet, "there are no faults for long, and nobody serves");
    restart_who_lack_a_leg(fleet);
    return true;
}

static uint64_t live(struct batch *batch, uint64_t seed, bool counts) {
    struct fleet *fleet = plain_alloc(sizeof(*fleet));
    struct chaos *chaos = plain_alloc(sizeof(*chaos));
    struct trees trees;
    struct orders orders;
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
    chaos->often = batch->often;
    trees_init(&trees, fleet, batch->trees);
    orders_init(&orders, fleet);
    struct calm calm = {0};
    uint64_t last = 0;
    while (fleet->answers < REQUESTS || fleet->faults < FAULTS) {
        bool held = batch->trees != 0 && trees_tend(&trees, true), quiet = !held && random_chance(&fleet->random, 1, 12);
        orders_tend(&orders, true);
        fleet->driving = !held && !quiet;
        if (fleet->driving)
            fill_all(fleet);
        fleet_run(fleet, quiet ? random_below(&fleet->random, 3 * NS_PER_S) : 1 + random_below(&fleet->random, 2 * NS_PER_MS));
        chaos_tend(chaos);
        if (is_calm(&calm, fleet))
            continue;
        uint64_t due = REQUESTS / (FAULTS + 8);
        if (fleet->answers - last >= due || random_chance(&fleet->random, 1, 30)) {
            last = fleet->answers;
            chaos_strike(chaos);
        }
    }
    fleet->driving = false;
    uint64_t began = sim_now_ns(fleet->cluster.sim);
    recover(chaos, &trees, &orders);
    began = sim_now_ns(fleet->cluster.sim) - began;
    fleet_compare(fleet);
    sim_trace(fleet->cluster.sim, "answers", fleet->answers, fleet->failures);
    uint64_t hash = sim_trace_hash(fleet->cluster.sim);
    if (counts)
        count(batch, chaos, &trees, &orders, began);
    trees_fini(&trees);
    fleet_fini(fleet);
    plain_free(chaos);
    plain_free(fleet);
    return hash;
}

static struct batch batch = {.first = 1,
                             .count = 20,
                             .twice = 1,
                             .trees = TREES_ONE_IN,
                             .often = CHAOS_POINT,
                             .fewest_answers = UINT64_MAX,
                             .fewest_faults = UINT64_MAX};

static void tell(void) {
    printf("note: %llu lives, %llu requests answered (%llu failed), %llu faults; at least %llu and %llu a life; slowest recovery "
           "%.1f s, everything lost %llu times, %llu events\nnote: faults:",
           (unsigned long long)batch.count, (unsigned long long)batch.answers, (unsigned long long)batch.failures,
           (unsigned long long)batch.faults, (unsigned long long)batch.fewest_answers, (unsigned long long)batch.fewest_faults,
           (double)batch.longest_ns / 1e9, (unsigned long long)batch.losses, (unsigned long long)batch.steps);
    for (unsigned i = 0; i < CHAOS_KINDS; i++)
        printf(" %s %llu,", chaos_kind_name((enum chaos_kind)i), (unsigned long long)batch.done[i]);
    printf(
        "\nnote: done meanwhile: snapshots %llu, deletions %llu, reverts %llu, resizes %llu; pauses %llu, given back %llu, over "
        "by themselves %llu; releases %llu, promotions %llu, starts without a leg %llu, discards %llu\n",
        (unsigned long long)batch.changes[REPLICA_SNAPSHOT], (unsigned long long)batch.changes[REPLICA_DELETE],
        (unsigned long long)batch.changes[REPLICA_REVERT], (unsigned long long)batch.changes[REPLICA_RESIZE],
        (unsigned long long)batch.orders[MIRROR_PAUSE], (unsigned long long)batch.orders[MIRROR_RESUME],
        (unsigned long long)batch.leases_over, (unsigned long long)batch.orders[MIRROR_RELEASE],
        (unsigned long long)batch.orders[MIRROR_PROMOTE], (unsigned long long)batch.orders[MIRROR_START],
        (unsigned long long)batch.orders[MIRROR_DISCARD]);
}

static uint64_t nth_seed(uint64_t i) { return batch.seeds == NULL ? batch.first + i : strtoull(batch.seeds[i], NULL, 10); }

static void random_lives(void **state) {
    (void)state;
    for (uint64_t i = 0; i < batch.count; i++) {
        uint64_t seed = nth_seed(i);
        uint64_t hash = live(&batch, seed, true);
        if (batch.twice != 0 && seed % batch.twice == 0 && live(&batch, seed, false) != hash)
            fail_msg("seed %llu: two lives that differ", (unsigned long long)seed);
    }
    tell();
}

#ifdef MIRROR_CANARY_RUNTIME
/* Compiled with planted faults, one alive at a time: within so many lives one must not end well. */
#define CANARY_LIVES 1000
#define CANARY_SECONDS 120 /* of the processor's time: what goes round for ever is not found */

int replica_canary_planted, mirror_canary_planted, volume_canary_planted;

static const struct canary {
    const char *name;
    int *variable, value;
    uint64_t first;        /* seed; it is found soon from there on, as things are */
    unsigned trees;        /* 0 = as ever */
    enum chaos_kind often; /* CHAOS_POINT = none */
} canaries[] = {
    {"fence by number only", &replica_canary_planted, REPLICA_CANARY_FENCE_BY_NUMBER, 1, 0, CHAOS_POINT},
    {"marks reset at an epoch", &replica_canary_planted, REPLICA_CANARY_MARKS_RESET, 1, 0, CHAOS_POINT},
    {"mark after data", &replica_canary_planted, REPLICA_CANARY_MARK_AFTER_DATA, 83, 0, CHAOS_ALL_DIE},
    {"flush ahead of writes", &replica_canary_planted, REPLICA_CANARY_FLUSH_AHEAD, 37, 0, CHAOS_ALL_DIE},
    {"syncing flag late", &mirror_canary_planted, MIRROR_CANARY_SYNCING_LATE, 1, 0, CHAOS_POINT},
    {"incarnation ignored", &mirror_canary_planted, MIRROR_CANARY_INCARNATION_IGNORED, 28, 0, CHAOS_STORE_DIES},
    {"flush retried", &volume_canary_planted, VOLUME_CANARY_FLUSH_RETRIED, 60, 0, CHAOS_POINT},
    {"revert unmarked", &replica_canary_planted, REPLICA_CANARY_REVERT_UNMARKED, 126, 15, CHAOS_STORE_DIES},
    {"epoch acknowledged early", &mirror_canary_planted, MIRROR_CANARY_EPOCH_EARLY, 304, 0, CHAOS_HALF_CHANGE},
    {"trail forgotten", &replica_canary_planted, REPLICA_CANARY_TRAIL_FORGOTTEN, 60, 0, CHAOS_FAILED_FLUSH},
};

/* In a process of its own, whose life ends with the first seed that does not end well. */
static void live_with(const struct canary *canary, int told) {
    struct itimerval budget = {.it_value = {.tv_sec = CANARY_SECONDS}};
    *canary->variable = canary->value;
    if (setitimer(ITIMER_PROF, &budget, NULL) != 0)
        abort();
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives)};
    if (freopen("/dev/null", "w", stdout) == NULL || dup2(fileno(stdout), STDERR_FILENO) < 0)
        _exit(2);
    batch.first = batch.first == 0 ? canary->first : batch.first;
    batch.trees = canary->trees != 0 ? canary->trees : batch.trees;
    batch.often = canary->often;
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
    bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF;
    bool found = !late && (WIFSIGNALED(status) || WEXITSTATUS(status) == 1);
    printf("%s: %s, seed %llu\n", canary->name, found ? "found" : late ? "OUT OF TIME" : "SURVIVED", (unsigned long long)seed);
    return found;
}

int main(int argc, char **argv) {
    unsigned survived = 0;
    batch.first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
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
    if (argc > 1 && strcmp(argv[1], "seeds") == 0) {
        batch.seeds = argv + 2;
        batch.count = (uint64_t)argc - 2;
    } else {
        batch.first = argc > 1 ? strtoull(argv[1], NULL, 10) : batch.first;
        batch.count = argc > 2 ? strtoull(argv[2], NULL, 10) : batch.count;
        batch.twice = argc > 3 ? strtoull(argv[3], NULL, 10) : batch.twice;
    }
    if (batch.seeds == NULL && budget != NULL && strcmp(budget, "long") == 0) {
        batch.first = batch.first * LONG_FACTOR;
        batch.count *= LONG_FACTOR;
        batch.twice = 1;
    }
    const char *trees = getenv("MIRROR_TREES");
    if (trees != NULL)
        batch.trees = (unsigned)strtoul(trees, NULL, 10);
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives),
        cmocka_unit_test(every_moment_is_hit),
    };
    return cmocka_run_group_tests_name("lives of a fleet", tests, NULL, NULL);
}
#endif
