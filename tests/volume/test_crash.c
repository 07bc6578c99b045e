/* Power cuts at every write of every workload: what enumerate.h does, for the workloads with index % parts == part.
 * Budget: PENSTOCK_TEST_BUDGET=long: everything; else PENSTOCK_TEST_SECONDS of processor time (default 28) for this part: every
 * cut of every workload first, then as many further images and second cuts as the time allows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "enumerate.h"

static double budget_s(void) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET"), *seconds = getenv("PENSTOCK_TEST_SECONDS");
    if (budget != NULL && strcmp(budget, "long") == 0)
        return 0;
    return seconds != NULL ? atof(seconds) : 28;
}

struct totals {
    unsigned workloads, operations, commands;
    uint64_t cuts, images, second_cuts, second_images, kills, reads_max, read_bytes_max;
    uint32_t outstanding_max;
};

static bool passes(struct enumeration *e, double until_s) {
    struct enumeration_pass pass = {.seed = e->workload->seed, .second_operations = 50, .check_one_in = until_s == 0 ? 1 : 4};
    double began = cpu_seconds();
    if (!enumeration_pass(e, &pass)) /* every cut: none, all, the newest alone */
        return false;
    if (until_s == 0) {
        pass = (struct enumeration_pass){.seed = e->workload->seed,
                                         .exhaustive_max = 8,
                                         .seeded = 16,
                                         .torn = true,
                                         .image_chance = 65536,
                                         .second_chance = 65536 / 4,
                                         .second_operations = 50};
        return enumeration_pass(e, &pass);
    }
    /* How much of the rest fits, by what the first pass took. */
    double each_s = (cpu_seconds() - began) / (double)(e->images + 1), left_s = until_s - cpu_seconds();
    if (left_s <= 0)
        return true;
    double fit = left_s / each_s; /* images */
    double wanted = (double)e->cuts * 60;
    pass = (struct enumeration_pass){.seed = e->workload->seed,
                                     .exhaustive_max = 8,
                                     .seeded = 16,
                                     .torn = true,
                                     .second_operations = 50,
                                     .check_one_in = 4,
                                     .cpu_until_s = until_s};
    double share = fit * 0.5 / wanted, seconds = fit * 0.5 / 600 / (double)(e->cuts + 1);
    pass.image_chance = share > 1 ? 65536 : (uint32_t)(share * 65536);
    pass.second_chance = seconds > 1 ? 65536 : (uint32_t)(seconds * 65536) + 1;
    return enumeration_pass(e, &pass);
}

int main(int argc, char **argv) {
    heap_keep_memory();
    unsigned part = argc > 1 ? (unsigned)atoi(argv[1]) : 0, parts = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    const char *only = argc > 3 ? argv[3] : NULL;
    unsigned mine = 0, index = 0, failures = 0;
    struct totals totals = {0};
    for (unsigned i = 0; i < workload_count; i++)
        mine += i % parts == part && (only == NULL || strcmp(workloads[i].name, only) == 0);
    double budget = budget_s(), began = cpu_seconds();
    for (unsigned i = 0; i < workload_count; i++) {
        if (i % parts != part || (only != NULL && strcmp(workloads[i].name, only) != 0))
            continue;
        index++;
        struct enumeration *e = malloc(sizeof(*e));
        double until_s = budget == 0 ? 0 : began + budget * index / mine;
        bool ok = enumeration_start(e, &workloads[i]) && passes(e, until_s);
        if (!ok) {
            printf("not ok: %s\n", e->failure);
            failures++;
        }
        unsigned commands = 0, operations = 0, refused = 0;
        for (unsigned a = 0; a < ACTION_COUNT; a++) {
            operations += e->done[a] + e->refused[a];
            commands += a >= ACTION_COMMANDS ? e->done[a] : 0;
            refused += e->refused[a];
        }
        printf("%-24s %4u operations (%u commands, %u refused), %llu cuts, %llu images, %llu second cuts, %llu images of those\n",
               workloads[i].name, operations, commands, refused, (unsigned long long)e->cuts, (unsigned long long)e->images,
               (unsigned long long)e->second_cuts, (unsigned long long)e->second_images);
        fflush(stdout);
        totals.workloads++;
        totals.operations += operations;
        totals.commands += commands;
        totals.cuts += e->cuts;
        totals.images += e->images;
        totals.second_cuts += e->second_cuts;
        totals.second_images += e->second_images;
        totals.kills += e->kills;
        totals.reads_max = max_u64(totals.reads_max, e->reads_max);
        totals.read_bytes_max = max_u64(totals.read_bytes_max, e->read_bytes_max);
        totals.outstanding_max = max_u32(totals.outstanding_max, e->outstanding_max);
        enumeration_end(e);
        free(e);
    }
    printf(
        "crash enumeration: %u workloads, %u operations (%u commands), %llu cuts, %llu images, %llu second cuts, %llu images of "
        "those, %llu kills; at most %u writes outstanding, %llu reads and %llu KiB a recovery; %.0f s\n",
        totals.workloads, totals.operations, totals.commands, (unsigned long long)totals.cuts, (unsigned long long)totals.images,
        (unsigned long long)totals.second_cuts, (unsigned long long)totals.second_images, (unsigned long long)totals.kills,
        totals.outstanding_max, (unsigned long long)totals.reads_max, (unsigned long long)totals.read_bytes_max / 1024,
        cpu_seconds() - began);
    return failures != 0;
}
