/* Durable creations, snapshots under load, first writes across checkpoints, group commit. */
#include "store/bench.h"

void figure_create(struct bench *bench) {
    uint64_t start = bench_now(bench);
    for (unsigned i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "v%u", i);
        bench_volume(bench, name, GIB(1));
    }
    struct volume_store_info info;
    volume_store_info(bench->store, &info);
    printf("{\"figure\": \"create_1000\", \"seconds\": %.3f, \"flushes\": %llu}\n", (double)(bench_now(bench) - start) / 1e9,
           (unsigned long long)info.base_flushes);
}

void figure_snapshot(struct bench *bench) {
    uint64_t size = min_u64(GIB(64), block_device_size(bench->base) / 4), times[100];
    struct uuid volume = bench_volume(bench, "v", size);
    bench_use(bench, "v");
    bench_map_all(bench, size);
    bench->region = size;
    uint64_t longest = 0;
    for (unsigned i = 0; i < 100; i++) { /* at rest */
        char name[16];
        snprintf(name, sizeof(name), "q%u", i);
        uint64_t start = bench_now(bench);
        bench_snapshot(bench, &volume, name);
        times[i] = bench_now(bench) - start;
    }
    qsort(times, 100, sizeof(times[0]), bench_by_value);
    double rest = (double)times[50] / 1e6;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "s%u", i);
        bench_load_start(bench, 32, 3600 * NS_PER_S);
        uint64_t start = bench_now(bench);
        bench_snapshot(bench, &volume, name);
        times[i] = bench_now(bench) - start;
        longest = max_u64(longest, bench->longest_ns);
        bench->stopping = true;
        bench_wait(bench);
    }
    qsort(times, 100, sizeof(times[0]), bench_by_value);
    struct volume_store_info info;
    volume_store_info(bench->store, &info);
    printf("{\"figure\": \"snapshot\", \"mapped_clusters\": %llu, \"p50_at_rest_ms\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"longest_hold_ms\": %.3f, \"longest_gap_ms\": %.3f}\n",
           (unsigned long long)(size / bench->cluster), rest, (double)times[50] / 1e6, (double)times[98] / 1e6,
           (double)times[99] / 1e6, (double)info.longest_hold_ns / 1e6, (double)longest / 1e6);
    bench_leave(bench);
}

void figure_flood(struct bench *bench) {
    uint64_t size = block_device_size(bench->base) / 10 * 9, seconds[600] = {0};
    uint64_t count = min_u64(bench_word(bench, "how many seconds?"), array_count(seconds));
    struct volume_store_info info;
    bench->checkpoint_bytes = bench_word(bench, "after how much journal is a checkpoint made?");
    bench_open(bench);
    bench_volume(bench, "v", size);
    bench_use(bench, "v");
    bench->region = size;
    bench->per_second = seconds;
    bench->seconds = count;
    bench_load_run(bench, 32, count * NS_PER_S);
    bench->per_second = NULL;
    volume_store_info(bench->store, &info);
    qsort(seconds, count, sizeof(seconds[0]), bench_by_value);
    uint64_t median = seconds[count / 2];
    printf("{\"figure\": \"flood\", \"worst_second\": %llu, \"median_second\": %llu, \"ratio\": %.2f, \"checkpoints\": %llu}\n",
           (unsigned long long)seconds[0], (unsigned long long)median, (double)seconds[0] / (double)median,
           (unsigned long long)info.checkpoints);
    bench_leave(bench);
}

/* 32 writers, each with a flush after each write: first all over an empty volume, then over one that is all there. */
void figure_flush(struct bench *bench) {
    static const char *const names[2] = {"first_writes", "overwrites"};
    struct volume_store_info before, after;
    uint64_t size = MIB(512);
    bench_volume(bench, "v", size);
    bench_use(bench, "v");
    printf("{\"figure\": \"flush\"");
    for (unsigned round = 0; round < 2; round++) {
        bench->region = round == 0 ? size : KIB(64) * 64;
        if (round == 1) { /* then one that is all there */
            bench->flush_each = false;
            bench_load_run(bench, 32, NS_PER_S);
        }
        bench->flush_each = true;
        volume_store_info(bench->store, &before);
        double rate = bench_load_run(bench, 32, 2 * NS_PER_S);
        volume_store_info(bench->store, &after);
        printf(", \"%s\": {\"per_second\": %.0f, \"flushes_per_fdatasync\": %.1f}", names[round], rate,
               (double)bench->done / (double)max_u64(1, after.base_flushes - before.base_flushes));
    }
    printf("}\n");
    bench_leave(bench);
}

/* The first second of random writes after a snapshot beside one before it, over a volume of SIZE bytes that is all there. */
void figure_after(struct bench *bench) {
    static const struct {
        const char *name;
        unsigned depth, flush_every;
    } cases[] = {{"qd1", 1, 0}, {"qd32", 32, 0}, {"qd1_flush32", 1, 32}, {"qd32_flush32", 32, 32}};
    uint64_t size = bench_word(bench, "how large?");
    struct uuid volume = bench_volume(bench, "v", size);
    struct load_options all = {.request_bytes = (uint32_t)KIB(64), .depth = 16, .request_limit = size / KIB(64)};
    struct load_options options = {.random = true, .request_bytes = 4096, .duration_ns = NS_PER_S};
    struct measured before[array_count(cases)], after;
    bench_use(bench, "v");
    bench_measure(bench, &all);
    for (size_t i = 0; i < array_count(cases); i++) {
        options.depth = cases[i].depth;
        options.flush_every = cases[i].flush_every;
        options.seed = i;
        before[i] = bench_measure(bench, &options);
    }
    printf("{\"figure\": \"after\"");
    for (size_t i = 0; i < array_count(cases); i++) {
        char name[32];
        snprintf(name, sizeof(name), "s%zu", i);
        bench_snapshot(bench, &volume, name);
        options.depth = cases[i].depth;
        options.flush_every = cases[i].flush_every;
        options.seed = i + 100;
        after = bench_measure(bench, &options);
        printf(", \"ratio_%s\": %.3f, ", cases[i].name, after.iops / before[i].iops);
        snprintf(name, sizeof(name), "before_%s", cases[i].name);
        bench_print(name, &before[i]);
        printf(", ");
        snprintf(name, sizeof(name), "after_%s", cases[i].name);
        bench_print(name, &after);
    }
    printf("}\n");
    bench_leave(bench);
}
