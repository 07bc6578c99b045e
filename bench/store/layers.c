/* What a chain of snapshots costs a reader, and what random writes after a snapshot cost in space. */
#include <string.h>

#include "base/bitmap.h"
#include "store/bench.h"

#define ROUNDS_MAX 15
#define CHAIN_KINDS 3

/* ---- chains ---- */

static const char *const chain_names[CHAIN_KINDS] = {"one", "bottom", "spread"};

static struct load_options random_reads(uint64_t region, unsigned depth) {
    return (struct load_options){
        .random = true, .read_percent = 100, .request_bytes = 4096, .depth = depth, .region_bytes = region, .seed = 7};
}

/* One: no snapshot at all. Bottom: all data in the oldest of DEPTH layers. Spread: each layer has its share of the blocks, at
 * random, as daily snapshots have. */
static void chain_make(struct bench *bench, unsigned kind, unsigned depth, uint64_t region) {
    struct uuid volume = bench_volume(bench, chain_names[kind], region);
    struct load_options all = {.request_bytes = (uint32_t)KIB(64), .depth = 16, .request_limit = region / KIB(64)};
    struct load_options share = {.random = true, .request_bytes = 4096, .depth = 32, .request_limit = region / 4096 / depth};
    bench_use(bench, chain_names[kind]);
    bench_measure(bench, &all);
    for (unsigned i = 1; i < depth && kind > 0; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%s.%u", chain_names[kind], i);
        bench_snapshot(bench, &volume, name);
        share.seed = i;
        if (kind == 2)
            bench_measure(bench, &share);
    }
    bench_leave(bench);
}

static int by_iops(const void *a, const void *b) {
    const struct measured *x = a, *y = b;
    return x->iops < y->iops ? -1 : x->iops > y->iops;
}

void figure_chain(struct bench *bench) {
    unsigned depth = (unsigned)bench_word(bench, "how deep?");
    uint64_t region = bench_word(bench, "how large?"), seconds = bench_word(bench, "how long?");
    unsigned rounds = (unsigned)min_u64(ROUNDS_MAX, bench_word(bench, "how many rounds?"));
    static const unsigned depths[2] = {1, 32};
    struct load_options options = random_reads(region, 32);
    for (unsigned k = 0; k < CHAIN_KINDS; k++)
        chain_make(bench, k, depth, region);
    bench_close(bench);
    bench_open(bench);
    printf("{\"figure\": \"chain\", \"depth\": %u, \"region\": %llu", depth, (unsigned long long)region);
    for (unsigned k = 0; k < CHAIN_KINDS; k++) {
        char name[32];
        bench_use(bench, chain_names[k]);
        options.request_limit = 1024;
        struct measured cold = bench_measure(bench, &options);
        printf(", ");
        snprintf(name, sizeof(name), "cold_%s", chain_names[k]);
        bench_print(name, &cold);
        options.request_limit = region / 4096 * 4; /* from here on it is warm */
        bench_measure(bench, &options);
        bench_leave(bench);
    }
    for (unsigned d = 0; d < 2; d++) {
        struct measured all[CHAIN_KINDS][ROUNDS_MAX];
        options = random_reads(region, depths[d]);
        options.duration_ns = seconds * NS_PER_S;
        for (unsigned round = 0; round < rounds; round++)
            for (unsigned i = 0; i < CHAIN_KINDS; i++) {
                unsigned k = round % 2 == 0 ? i : CHAIN_KINDS - 1 - i;
                bench_use(bench, chain_names[k]);
                all[k][round] = bench_measure(bench, &options);
                bench_leave(bench);
            }
        for (unsigned k = 0; k < CHAIN_KINDS; k++) {
            char name[32];
            qsort(all[k], rounds, sizeof(all[k][0]), by_iops);
            snprintf(name, sizeof(name), "qd%u_%s", depths[d], chain_names[k]);
            printf(", ");
            bench_print(name, &all[k][rounds / 2]);
        }
    }
    printf("}\n");
}

/* ---- space ---- */

#define GRAINS 4
static const uint64_t grain_bytes[GRAINS] = {KIB(32), KIB(64), KIB(256), MIB(1)};
static uint64_t *grain_seen[GRAINS], grain_count[GRAINS];

static void space_sent(struct bench *bench, uint64_t offset) {
    (void)bench;
    for (unsigned g = 0; g < GRAINS; g++)
        if (!bitmap_test(grain_seen[g], offset / grain_bytes[g])) {
            bitmap_set(grain_seen[g], offset / grain_bytes[g]);
            grain_count[g]++;
        }
}

/* What the same writes would take with clusters of other sizes is counted beside what they took. */
void figure_space(struct bench *bench) {
    uint64_t size = bench_word(bench, "how large?"), written = bench_word(bench, "how much is written?");
    struct volume_store_info before, after;
    struct uuid volume = bench_volume(bench, "v", size);
    for (unsigned g = 0; g < GRAINS; g++)
        if ((grain_seen[g] = calloc(bitmap_words(size / grain_bytes[g]), sizeof(uint64_t))) == NULL)
            bench_die("no memory");
    bench_use(bench, "v");
    bench_map_all(bench, size);
    volume_store_info(bench->store, &before);
    uint64_t full = before.free_bytes;
    bench_snapshot(bench, &volume, "snapshot");
    bench->sent = space_sent;
    bench->region = size;
    bench->write_limit = written / 4096;
    bench_load_run(bench, 32, 3600 * NS_PER_S);
    bench->sent = NULL;
    bench->write_limit = 0;
    bench_leave(bench);
    volume_store_info(bench->store, &after);
    printf("{\"figure\": \"space\", \"cluster\": %llu, \"written\": %llu, \"writes\": %llu, \"taken\": %llu, \"ratio\": %.2f",
           (unsigned long long)bench->cluster, (unsigned long long)written, (unsigned long long)bench->done,
           (unsigned long long)(full - after.free_bytes), (double)(full - after.free_bytes) / (double)written);
    for (unsigned g = 0; g < GRAINS; g++)
        printf(", \"counted_%lluk\": %.2f", (unsigned long long)(grain_bytes[g] >> 10),
               (double)(grain_count[g] * grain_bytes[g]) / (double)written);
    printf("}\n");
}
