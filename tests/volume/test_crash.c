/* Power cuts at every write of every workload: what enumerate.h does, for the workloads with index % parts == part.
 * Budget: PENSTOCK_TEST_BUDGET=long: everything; else about PENSTOCK_TEST_IMAGES images of each workload: every cut first, then a
 * drawn share of further images and second cuts; "sanitized": of every cut's images a drawn share too, since the plain run sees
 * them all and these look for what the code does with its memory. The draw depends on the numbers alone: a run here is the run
 * elsewhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "enumerate.h"

static double max_double(double a, double b) { return a > b ? a : b; }

static bool sanitized(void) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    return budget != NULL && strcmp(budget, "sanitized") == 0;
}

static uint64_t budget_images(void) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET"), *images = getenv("PENSTOCK_TEST_IMAGES");
    if (budget != NULL && strcmp(budget, "long") == 0)
        return 0;
    return images != NULL ? strtoull(images, NULL, 10) : sanitized() ? 200 : 3000;
}

static uint32_t budget_plain_chance(void) { return sanitized() ? ENUMERATION_ALL / 16 : ENUMERATION_ALL; }

struct totals {
    unsigned workloads, operations, commands;
    uint64_t records, checkpoints, cuts, images, checked, second_cuts, second_images, kills, reads_max, read_bytes_max;
    uint32_t outstanding_max;
};

static uint32_t chance_of(double share) { return share > 1 ? ENUMERATION_ALL : (uint32_t)(share * ENUMERATION_ALL); }

/* `images` 0 = all. */
static bool passes(struct enumeration *e, uint64_t images) {
    struct enumeration_pass pass = {.seed = e->workload->seed, .plain_chance = budget_plain_chance(), .second_operations = 50};
    if (!enumeration_pass(e, &pass)) /* every cut: none, all, the newest alone */
        return false;
    if (images == 0) {
        pass = (struct enumeration_pass){.seed = e->workload->seed,
                                         .exhaustive_max = 8,
                                         .seeded = 16,
                                         .torn = true,
                                         .plain_chance = ENUMERATION_ALL,
                                         .image_chance = ENUMERATION_ALL,
                                         .second_plain_chance = ENUMERATION_ALL,
                                         .second_image_chance = ENUMERATION_ALL / 16,
                                         .second_chance = ENUMERATION_ALL / 4,
                                         .second_operations = 50};
        return enumeration_pass(e, &pass);
    }
    double fit = (double)images, wanted = (double)e->cuts * 60;
    double share = fit * 0.5 / wanted, seconds = max_double(fit * 0.5 / 600, 3) / (double)(e->cuts + 1);
    uint32_t chance = chance_of(share);
    pass = (struct enumeration_pass){.seed = e->workload->seed,
                                     .exhaustive_max = 8,
                                     .seeded = 16,
                                     .torn = true,
                                     .image_chance = chance,
                                     .second_plain_chance = budget_plain_chance(),
                                     .second_image_chance = chance / 16,
                                     .second_chance = min_u32(chance_of(seconds) + 1, ENUMERATION_ALL),
                                     .second_operations = 50};
    return enumeration_pass(e, &pass);
}

int main(int argc, char **argv) {
    heap_keep_memory();
    unsigned part = argc > 1 ? (unsigned)atoi(argv[1]) : 0, parts = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    const char *only = argc > 3 ? argv[3] : NULL;
    unsigned failures = 0;
    struct totals totals = {0};
    double began = cpu_seconds();
    for (unsigned i = 0; i < workload_count; i++) {
        if (i % parts != part || (only != NULL && strcmp(workloads[i].name, only) != 0))
            continue;
        struct enumeration *e = malloc(sizeof(*e));
        bool ok = enumeration_start(e, &workloads[i]) && passes(e, budget_images());
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
        printf("%-24s %4u operations (%u commands, %u refused), %llu records, %llu checkpoints, %llu cuts, %llu images, %llu "
               "second cuts, %llu images of those\n",
               workloads[i].name, operations, commands, refused, (unsigned long long)e->records,
               (unsigned long long)e->checkpoints, (unsigned long long)e->cuts, (unsigned long long)e->images,
               (unsigned long long)e->second_cuts, (unsigned long long)e->second_images);
        fflush(stdout);
        if (ok && (operations < 200 || workloads[i].volumes < 4)) { /* a run that got shorter proves less */
            printf("not ok: %s has %u operations on %u volumes\n", workloads[i].name, operations, workloads[i].volumes);
            failures++;
        }
        totals.workloads++;
        totals.operations += operations;
        totals.commands += commands;
        totals.records += e->records;
        totals.checkpoints += e->checkpoints;
        totals.checked += e->checked;
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
        "note: crash enumeration: %u workloads, %u operations (%u commands), %llu records, %llu checkpoints: %llu cuts, %llu "
        "images; %llu second cuts, %llu images; %llu kills; %llu images checked; at most %u writes outstanding, %llu reads and "
        "%llu KiB a recovery; %.0f s\n",
        totals.workloads, totals.operations, totals.commands, (unsigned long long)totals.records,
        (unsigned long long)totals.checkpoints, (unsigned long long)totals.cuts, (unsigned long long)totals.images,
        (unsigned long long)totals.second_cuts, (unsigned long long)totals.second_images, (unsigned long long)totals.kills,
        (unsigned long long)totals.checked, totals.outstanding_max, (unsigned long long)totals.reads_max,
        (unsigned long long)totals.read_bytes_max / 1024, cpu_seconds() - began);
    return failures != 0;
}
