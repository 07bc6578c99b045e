/* Figures of the volume store that need more than one request at a time: durable creations, snapshots under load, first writes
 * across checkpoints, group commit, and opening after a kill. One line of JSON each. The disk is a file, or "sparse:SIZE": memory
 * that keeps only what is not zero, so that a store of 600 GiB fits (its data are zeros, its metadata are not).
 *
 *     store DISK create | snapshot | flood | flush | open */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"
#include "blockdev/file/file.h"
#include "blockdev/volume/volume.h"
#include "host/linux/linux.h"

#define DEPTH_MAX 128

struct sparse {
    struct block_device device;
    uint8_t **chunks; /* of CHUNK bytes; NULL = zeros */
};
#define CHUNK KIB(64)

struct bench {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct block_device *base;
    struct volume_store *store;
    struct volume_command command;
    struct volume_store_format format;
    struct volume_store_open open;
    struct file_device_create file;
    struct random random;
    struct block_handle handle;
    struct block_channel *channel;
    /* the load */
    struct flight {
        struct bench *bench;
        struct block_request request;
        struct slice slice;
        uint8_t *buffer;
        bool flushing;
    } flights[DEPTH_MAX];
    unsigned depth, under_way;
    bool flush_each, sequential, stopping;
    uint64_t region, next; /* bytes */
    uint64_t done, until_ns, last_ns, longest_ns;
    uint64_t *per_second, seconds;
    uint64_t started_ns;
};

static void die(const char *what) {
    fprintf(stderr, "store: %s\n", what);
    exit(1);
}

static void go_on(struct bench *bench) { host_loop_stop(bench->reactor->loop); }
/* Turns the loop until somebody calls go_on(). */
static void wait(struct bench *bench) {
    reactor_enter(NULL);
    host_linux_loop_run(bench->reactor->loop);
    reactor_enter(bench->reactor);
}
static uint64_t now(const struct bench *bench) { return host_now_ns(bench->host); }

/* ---- a disk of zeros ---- */

static void sparse_move(struct sparse *sparse, bool write, uint64_t offset, uint8_t *bytes, uint64_t length) {
    static const uint8_t zeros[4096];
    for (uint64_t n; length > 0; offset += n, bytes += n, length -= n) {
        uint8_t **chunk = &sparse->chunks[offset / CHUNK];
        n = min_u64(min_u64(length, sizeof(zeros)), CHUNK - offset % CHUNK);
        if (write && *chunk == NULL && memcmp(bytes, zeros, n) != 0 && (*chunk = calloc(1, CHUNK)) == NULL)
            die("no memory");
        if (write && *chunk != NULL)
            memcpy(*chunk + offset % CHUNK, bytes, n);
        else if (!write)
            memcpy(bytes, *chunk == NULL ? zeros : *chunk + offset % CHUNK, n);
    }
}

static void sparse_submit(struct block_channel *channel, struct block_request *request) {
    struct sparse *sparse = container_of(block_channel_device(channel), struct sparse, device);
    uint64_t at = request->offset;
    for (uint32_t i = 0; i < request->slice_count && request->op <= BLOCK_WRITE; i++) {
        sparse_move(sparse, request->op == BLOCK_WRITE, at, request->slices[i].base, request->slices[i].length);
        at += request->slices[i].length;
    }
    block_complete_later(request, IO_OK);
}
static void sparse_destroy(struct block_device *device) { (void)device; }
static const struct block_device_ops sparse_ops = {
    .kind = "sparse", .product_name = "sparse", .submit = sparse_submit, .destroy = sparse_destroy};

static void sparse_create(struct bench *bench, uint64_t size) {
    struct sparse *sparse = calloc(1, sizeof(*sparse));
    struct error error;
    if (sparse == NULL || (sparse->chunks = calloc(size / CHUNK, sizeof(*sparse->chunks))) == NULL)
        die("no memory for the disk");
    sparse->device.ops = &sparse_ops;
    snprintf(sparse->device.name, sizeof(sparse->device.name), "base");
    sparse->device.block_size = 4096;
    sparse->device.block_count = size / 4096;
    sparse->device.native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH);
    sparse->device.native_fua = true;
    if (!block_device_register(&bench->graph, &sparse->device, &error))
        die(error.text);
    bench->base = &sparse->device;
}

static void file_made(struct file_device_create *create) { go_on(container_of(create, struct bench, file)); }

/* ---- store and commands ---- */

static void formatted(struct volume_store_format *format) { go_on(container_of(format, struct bench, format)); }
static void opened(struct volume_store_open *open) { go_on(container_of(open, struct bench, open)); }
static void commanded(struct volume_command *command) { go_on(container_of(command, struct bench, command)); }

static void store_open(struct bench *bench) {
    bench->open = (struct volume_store_open){.base = bench->base, .home = bench->reactor, .done = opened};
    volume_store_open(&bench->open);
    wait(bench);
    if (!bench->open.ok)
        die(bench->open.error.text);
    bench->store = bench->open.store;
}

static void store_make(struct bench *bench) {
    bench->format = (struct volume_store_format){
        .base = bench->base, .home = bench->reactor, .name = "bench", .force = true, .done = formatted};
    volume_store_format(&bench->format);
    wait(bench);
    if (!bench->format.ok)
        die(bench->format.error.text);
    store_open(bench);
}

static struct uuid command(struct bench *bench, struct volume_command arguments, void (*call)(struct volume_command *)) {
    bench->command = arguments;
    bench->command.store = bench->store;
    bench->command.done = commanded;
    call(&bench->command);
    wait(bench);
    if (!bench->command.ok)
        die(bench->command.error.text);
    return bench->command.ret_uuid;
}

/* ---- load ---- */

static void send(struct flight *flight);

static void flight_done(struct block_request *request) {
    struct flight *flight = container_of(request, struct flight, request);
    struct bench *bench = flight->bench;
    if (request->status != IO_OK)
        die(io_status_name((enum io_status)request->status));
    if (bench->flush_each && !flight->flushing) {
        flight->flushing = true;
        *request = (struct block_request){.op = BLOCK_FLUSH, .complete = flight_done};
        block_submit(bench->channel, request);
        return;
    }
    uint64_t at = now(bench);
    bench->longest_ns = max_u64(bench->longest_ns, at - bench->last_ns);
    bench->last_ns = at;
    bench->done++;
    if (bench->per_second != NULL && (at - bench->started_ns) / NS_PER_S < bench->seconds)
        bench->per_second[(at - bench->started_ns) / NS_PER_S]++;
    if (at >= bench->until_ns || bench->stopping || (bench->sequential && bench->next >= bench->region)) {
        if (--bench->under_way == 0)
            go_on(bench);
        return;
    }
    send(flight);
}

static void send(struct flight *flight) {
    struct bench *bench = flight->bench;
    uint64_t offset = random_below(&bench->random, bench->region / 4096) * 4096;
    if (bench->sequential) {
        offset = bench->next;
        bench->next += KIB(64);
    }
    flight->flushing = false;
    flight->slice = (struct slice){flight->buffer, 4096};
    flight->request = (struct block_request){
        .op = BLOCK_WRITE, .slices = &flight->slice, .slice_count = 1, .offset = offset, .length = 4096, .complete = flight_done};
    block_submit(bench->channel, &flight->request);
}

static void volume_use(struct bench *bench, const char *name) {
    char alias[200];
    struct error error;
    snprintf(alias, sizeof(alias), "bench/%s", name);
    struct block_device *device = block_graph_find(&bench->graph, alias);
    bench->handle = (struct block_handle){.owner = "bench"};
    if (device == NULL || !block_handle_open(&bench->handle, device, BLOCK_MODE_WRITE, &error))
        die("no such volume");
    bench->channel = block_channel_open(&bench->handle);
}
static void volume_leave(struct bench *bench) {
    block_channel_close(bench->channel);
    block_handle_close(&bench->handle);
}

static void load_start(struct bench *bench, unsigned depth, uint64_t for_ns) {
    bench->depth = bench->under_way = depth;
    bench->done = bench->longest_ns = bench->next = 0;
    bench->stopping = false;
    bench->started_ns = bench->last_ns = now(bench);
    bench->until_ns = bench->started_ns + for_ns;
    for (unsigned i = 0; i < depth; i++)
        send(&bench->flights[i]);
}
static double load_run(struct bench *bench, unsigned depth, uint64_t for_ns) {
    load_start(bench, depth, for_ns);
    wait(bench);
    return (double)bench->done * 1e9 / (double)(now(bench) - bench->started_ns);
}
/* One block of each cluster of [0, region), so that all of it is mapped. */
static void map_all(struct bench *bench, uint64_t region) {
    bench->region = region;
    bench->sequential = true;
    load_run(bench, 64, 3600 * NS_PER_S);
    bench->sequential = false;
}

/* ---- the figures ---- */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void figure_create(struct bench *bench) {
    uint64_t start = now(bench);
    for (unsigned i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "v%u", i);
        command(bench, (struct volume_command){.name = name, .size_bytes = GIB(1)}, volume_create);
    }
    struct volume_store_info info;
    volume_store_info(bench->store, &info);
    printf("{\"figure\": \"create_1000\", \"seconds\": %.3f, \"flushes\": %llu}\n", (double)(now(bench) - start) / 1e9,
           (unsigned long long)info.base_flushes);
}

static void figure_snapshot(struct bench *bench) {
    uint64_t size = min_u64(GIB(64), block_device_size(bench->base) / 4), times[100];
    struct uuid volume = command(bench, (struct volume_command){.name = "v", .size_bytes = size}, volume_create);
    volume_use(bench, "v");
    map_all(bench, size);
    double before[2], after[2];
    unsigned depths[2] = {1, 32};
    for (unsigned d = 0; d < 2; d++) {
        char name[16];
        snprintf(name, sizeof(name), "first%u", depths[d]);
        before[d] = load_run(bench, depths[d], NS_PER_S);
        command(bench, (struct volume_command){.volume = volume, .name = name}, volume_snapshot_create);
        after[d] = load_run(bench, depths[d], NS_PER_S);
    }
    uint64_t longest = 0;
    for (unsigned i = 0; i < 100; i++) { /* at rest */
        char name[16];
        snprintf(name, sizeof(name), "q%u", i);
        uint64_t start = now(bench);
        command(bench, (struct volume_command){.volume = volume, .name = name}, volume_snapshot_create);
        times[i] = now(bench) - start;
    }
    qsort(times, 100, sizeof(times[0]), by_value);
    double rest = (double)times[50] / 1e6;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "s%u", i);
        load_start(bench, 32, 3600 * NS_PER_S);
        uint64_t start = now(bench);
        command(bench, (struct volume_command){.volume = volume, .name = name}, volume_snapshot_create);
        times[i] = now(bench) - start;
        longest = max_u64(longest, bench->longest_ns);
        bench->stopping = true;
        wait(bench);
    }
    qsort(times, 100, sizeof(times[0]), by_value);
    printf("{\"figure\": \"snapshot\", \"mapped_clusters\": %llu, \"p50_at_rest_ms\": %.3f, \"p50_ms\": %.3f, \"max_ms\": %.3f, "
           "\"longest_hold_ms\": %.3f, "
           "\"first_second_qd1\": %.2f, \"first_second_qd32\": %.2f, \"before_qd1\": %.0f, \"before_qd32\": %.0f}\n",
           (unsigned long long)(size >> 16), rest, (double)times[50] / 1e6, (double)times[99] / 1e6, (double)longest / 1e6,
           after[0] / before[0], after[1] / before[1], before[0], before[1]);
    volume_leave(bench);
}

static void figure_flood(struct bench *bench) {
    uint64_t size = block_device_size(bench->base) / 10 * 9, seconds[60] = {0}, worst = UINT64_MAX;
    struct volume_store_info info;
    command(bench, (struct volume_command){.name = "v", .size_bytes = size}, volume_create);
    volume_use(bench, "v");
    bench->region = size;
    bench->per_second = seconds;
    bench->seconds = 60;
    load_run(bench, 32, 20 * NS_PER_S);
    bench->per_second = NULL;
    volume_store_info(bench->store, &info);
    uint64_t sorted[20];
    memcpy(sorted, seconds, sizeof(sorted));
    qsort(sorted, 20, sizeof(sorted[0]), by_value);
    worst = sorted[0];
    printf("{\"figure\": \"flood\", \"worst_second\": %llu, \"median_second\": %llu, \"ratio\": %.2f, \"checkpoints\": %llu}\n",
           (unsigned long long)worst, (unsigned long long)sorted[10], (double)worst / (double)sorted[10],
           (unsigned long long)info.checkpoints);
    volume_leave(bench);
}

static void figure_flush(struct bench *bench) {
    struct volume_store_info before, after;
    uint64_t size = MIB(512);
    command(bench, (struct volume_command){.name = "v", .size_bytes = size}, volume_create);
    volume_use(bench, "v");
    for (unsigned round = 0; round < 2; round++) {
        bench->region = round == 0 ? size : KIB(64) * 64; /* then one that is all there */
        if (round == 1) {
            bench->flush_each = false;
            load_run(bench, 32, NS_PER_S);
        }
        bench->flush_each = true;
        volume_store_info(bench->store, &before);
        double rate = load_run(bench, 32, 2 * NS_PER_S);
        volume_store_info(bench->store, &after);
        printf("{\"figure\": \"write_flush_32_%s\", \"per_second\": %.0f, \"flushes_per_fdatasync\": %.1f}\n",
               round == 0 ? "first_writes" : "overwrites", rate,
               (double)bench->done / (double)max_u64(1, after.base_flushes - before.base_flushes));
    }
    volume_leave(bench);
}

/* 1100 volumes, 100 of them at the ends of chains of 10 snapshots, two million clusters, and a journal as full as it gets. */
static void figure_open(struct bench *bench) {
    struct volume_store_info info;
    uint64_t start, used;
    for (unsigned i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "v%u", i);
        struct uuid volume = command(bench, (struct volume_command){.name = name, .size_bytes = GIB(2)}, volume_create);
        for (unsigned s = 0; i < 100 && s < 9; s++) {
            snprintf(name, sizeof(name), "s%u.%u", i, s);
            command(bench, (struct volume_command){.volume = volume, .name = name}, volume_snapshot_create);
        }
        snprintf(name, sizeof(name), "v%u", i);
        volume_use(bench, name);
        map_all(bench, MIB(640));
        volume_leave(bench);
    }
    for (unsigned i = 100; i < 200; i++) { /* more first writes, all over, until just before the next checkpoint */
        char name[16];
        snprintf(name, sizeof(name), "v%u", i);
        volume_use(bench, name);
        bench->region = GIB(2);
        do {
            load_run(bench, 32, NS_PER_MS);
            volume_store_info(bench->store, &info);
        } while (info.journal_used_bytes < info.journal_bytes * 48 / 100 && bench->done > 0 && ++bench->seconds % 64 != 0);
        volume_leave(bench);
        if (info.journal_used_bytes >= info.journal_bytes * 48 / 100)
            break;
    }
    used = info.journal_used_bytes;
    volume_store_abandon(bench->store);
    list_init(&bench->base->handles); /* as if the process had died */
    bench->base->claimed = false;
    block_graph_init(&bench->graph, bench->host, 1);
    struct error error;
    struct block_device *base = bench->base;
    if (!block_device_register(&bench->graph, base, &error))
        die(error.text);
    start = now(bench);
    store_open(bench);
    double open_ms = (double)(now(bench) - start) / 1e6;
    volume_store_info(bench->store, &info);
    printf("{\"figure\": \"open\", \"ms\": %.1f, \"volumes\": %u, \"replayed_records\": %llu, \"reads\": %llu, "
           "\"journal_mib\": %llu}\n",
           open_ms, info.volume_count, (unsigned long long)info.replayed_records, (unsigned long long)info.open_reads,
           (unsigned long long)(used >> 20));
}

int main(int argc, char **argv) {
    static struct bench bench;
    struct host_linux_options options = {0};
    struct reactor_options reactor = {.name = "store", .cpu = -1, .poll_mode = HOST_POLL_ADAPTIVE};
    uint64_t size;
    if (argc < 3)
        die("store DISK|sparse:SIZE create|snapshot|flood|flush|open");
    if (host_linux_create(&options, &bench.host) != 0 || reactor_create(bench.host, &reactor, &bench.reactor) != 0)
        die("no host");
    reactor_enter(bench.reactor);
    block_graph_init(&bench.graph, bench.host, 1);
    random_init(&bench.random, 1);
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        bench.flights[i].bench = &bench;
        bench.flights[i].buffer = aligned_alloc(4096, 4096);
        if (bench.flights[i].buffer == NULL)
            die("no memory");
        memset(bench.flights[i].buffer, 0, 4096);
    }
    if (strncmp(argv[1], "sparse:", 7) == 0) {
        if (!text_parse_size(argv[1] + 7, &size))
            die("no size");
        sparse_create(&bench, size);
    } else {
        bench.file = (struct file_device_create){.options = {.name = "base", .path = argv[1]}, .done = file_made};
        file_device_create_submit(&bench.graph, bench.reactor, &bench.file);
        wait(&bench);
        if (!bench.file.ok)
            die(bench.file.error.text);
        bench.base = bench.file.device;
    }
    store_make(&bench);
    const struct {
        const char *name;
        void (*run)(struct bench *bench);
    } figures[] = {{"create", figure_create},
                   {"snapshot", figure_snapshot},
                   {"flood", figure_flood},
                   {"flush", figure_flush},
                   {"open", figure_open}};
    for (size_t i = 0; i < array_count(figures); i++)
        if (strcmp(figures[i].name, argv[2]) == 0)
            figures[i].run(&bench);
    fflush(stdout);
    _Exit(0); /* the store is left as a killed process leaves it */
}
