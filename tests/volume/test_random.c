/* Long random sequences over many lives (closed, cut, killed) against the model. Each is ≥ 500 operations of a mix that is drawn
 * itself; a failing one is made smaller before it is printed. test_random [FIRST_SEED [COUNT]]; PENSTOCK_TEST_BUDGET=long: 2000.
 * Without arguments the seeds that once found something come first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "life.h"

struct sequence {
    struct workload workload;
    uint64_t seed;
    unsigned lives, operations; /* of each life */
};

static void draw_sequence(uint64_t seed, struct sequence *sequence) {
    struct random random;
    random_init(&random, seed);
    memset(sequence, 0, sizeof(*sequence));
    sequence->seed = seed;
    sequence->lives = 3 + (unsigned)random_below(&random, 6);
    sequence->operations = 600 / sequence->lives + 1;
    struct workload *w = &sequence->workload;
    w->name = "random";
    w->seed = seed;
    w->depth = 1 + (unsigned)random_below(&random, 16);
    w->controls = 1 + (unsigned)random_below(&random, 2);
    w->volumes = 4;
    w->clusters = 1 + (unsigned)random_below(&random, 6);
    w->fua_percent = (unsigned)random_below(&random, 40);
    w->hot_percent = (unsigned)random_below(&random, 80);
    w->filler_free = random_chance(&random, 1, 5) ? 8 + (unsigned)random_below(&random, 24) : 0;
    w->drain_first = random_chance(&random, 1, 5);
    for (unsigned i = 0; i < ACTION_COUNT; i++)
        w->weights[i] = random_chance(&random, 1, 4) ? 0 : (uint8_t)(1 + random_below(&random, i < ACTION_COMMANDS ? 40 : 8));
    w->weights[ACTION_WRITE] = (uint8_t)(20 + random_below(&random, 60));
    w->weights[ACTION_IDLE] = random_chance(&random, 1, 3);
    w->store = (struct store_options){
        .disk = {.power_fail_unit = 512,
                 .block_size = random_chance(&random, 1, 6) ? 4096 : 512,
                 .read_ns = NS_PER_US * (10 + random_below(&random, 600)),
                 .write_ns = NS_PER_US * (10 + random_below(&random, 600)),
                 .flush_ns = NS_PER_US * (10 + random_below(&random, 600)),
                 .native_fua = random_chance(&random, 1, 3),
                 .write_through = random_chance(&random, 1, 10),
                 .no_trim = random_chance(&random, 1, 6)},
        .disk_bytes = MIB(32),
        .journal_bytes = MIB(1),
        .checkpoint_bytes = random_chance(&random, 1, 4) ? 0 : KIB(8) << random_below(&random, 5),
        .cache_bytes = MIB(4),
    };
    w->store.disk.power_fail_unit = random_chance(&random, 1, 3) ? 4096 : w->store.disk.block_size;
}

static bool run(const struct sequence *sequence, char *text, size_t size, uint64_t *ret_operations) {
    struct life *life = plain_alloc(sizeof(*life));
    struct random random;
    random_init(&random, sequence->seed + 1);
    bool ok = life_begin(life, &sequence->workload, sequence->seed);
    for (unsigned i = 0; i < sequence->lives && ok; i++)
        ok = life_go_on(life, random_u64(&random), sequence->operations, (enum life_end)random_below(&random, LIFE_ENDS));
    if (ok)
        ok = life_go_on(life, random_u64(&random), 0, LIFE_CLOSE);
    if (!ok)
        snprintf(text, size, "%s", life->failure);
    if (ret_operations != NULL)
        *ret_operations += life->operations;
    life_fini(life);
    plain_free(life);
    return ok;
}

/* Takes away what is not needed for it to fail. */
static void minimise(struct sequence *sequence) {
    char text[768];
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (unsigned i = 0; i < ACTION_COUNT + 6; i++) {
            struct sequence less = *sequence;
            struct workload *w = &less.workload;
            if (i < ACTION_COUNT) {
                unsigned total = 0;
                for (unsigned a = 0; a < ACTION_COUNT; a++)
                    total += a == i ? 0 : w->weights[a];
                if (w->weights[i] == 0 || total == 0)
                    continue;
                w->weights[i] = 0;
            } else if (i == ACTION_COUNT && less.lives > 1) {
                less.lives--;
            } else if (i == ACTION_COUNT + 1 && less.operations > 1) {
                less.operations -= less.operations / 2;
            } else if (i == ACTION_COUNT + 2 && less.operations > 1) {
                less.operations--;
            } else if (i == ACTION_COUNT + 3 && w->depth > 1) {
                w->depth--;
            } else if (i == ACTION_COUNT + 4 && w->controls > 1) {
                w->controls--;
            } else if (i == ACTION_COUNT + 5 && w->volumes > 1) {
                w->volumes--;
            } else {
                continue;
            }
            if (!run(&less, text, sizeof(text), NULL)) {
                *sequence = less;
                smaller = true;
            }
        }
    }
}

static void print(const struct sequence *s) {
    const struct workload *w = &s->workload;
    printf("  minimal: %u lives of %u operations, depth %u, %u commands at once, %u volumes, mix:", s->lives, s->operations,
           w->depth, w->controls, w->volumes);
    for (unsigned i = 0; i < ACTION_COUNT; i++)
        if (w->weights[i] != 0)
            printf(" %s %u", action_name((enum action)i), w->weights[i]);
    printf("\n");
}

/* What they found is mended. */
static const uint64_t found[] = {13, 204, 270, 440, 692, 1165, 1187, 1387, 1679, 1725, 2457, 2563, 2723, 2807};

static bool try(uint64_t seed, uint64_t *ret_operations) {
    struct sequence sequence;
    char text[768];
    draw_sequence(seed, &sequence);
    context_set("running seed %llu", (unsigned long long)seed);
    if (run(&sequence, text, sizeof(text), ret_operations))
        return true;
    printf("not ok: seed %llu: %s\n", (unsigned long long)seed, text);
    fflush(stdout);
    minimise(&sequence);
    run(&sequence, text, sizeof(text), NULL);
    print(&sequence);
    printf("  which gives: %s\n", text);
    fflush(stdout);
    return false;
}

int main(int argc, char **argv) {
    heap_keep_memory();
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    uint64_t first = argc > 1 ? (uint64_t)atoll(argv[1]) : 1, count = argc > 2 ? (uint64_t)atoll(argv[2]) : 40, operations = 0;
    if (budget != NULL && strcmp(budget, "long") == 0 && argc <= 2)
        count = 2000;
    unsigned failures = 0;
    for (unsigned i = 0; i < array_count(found) && argc == 1; i++)
        failures += !try(found[i], &operations);
    for (uint64_t seed = first; seed < first + count && failures < 3; seed++)
        failures += !try(seed, &operations);
    printf("random sequences: %llu, %llu operations\n", (unsigned long long)count, (unsigned long long)operations);
    return failures != 0;
}
