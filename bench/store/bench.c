/* See bench.h. */
#include "store/bench.h"

#include <string.h>
#include <time.h>

#include "blockdev/memory/memory.h"

struct sparse {
    struct block_device device;
    uint8_t **chunks; /* of CHUNK bytes; NULL = zeros */
};
#define CHUNK KIB(64)

void bench_die(const char *what) {
    fprintf(stderr, "store: %s\n", what);
    exit(1);
}

void bench_wait(struct bench *bench) {
    reactor_enter(NULL);
    host_linux_loop_run(bench->reactor->loop);
    reactor_enter(bench->reactor);
}

uint64_t bench_word(struct bench *bench, const char *what) {
    uint64_t value;
    if (*bench->words == NULL || !text_parse_size(*bench->words++, &value))
        bench_die(what);
    return value;
}

/* ---- a disk of zeros ---- */

static void sparse_move(struct sparse *sparse, bool write, uint64_t offset, uint8_t *bytes, uint64_t length) {
    static const uint8_t zeros[4096];
    for (uint64_t n; length > 0; offset += n, bytes += n, length -= n) {
        uint8_t **chunk = &sparse->chunks[offset / CHUNK];
        n = min_u64(min_u64(length, sizeof(zeros)), CHUNK - offset % CHUNK);
        if (write && *chunk == NULL && memcmp(bytes, zeros, n) != 0 && (*chunk = calloc(1, CHUNK)) == NULL)
            bench_die("no memory");
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
        bench_die("no memory for the disk");
    sparse->device.ops = &sparse_ops;
    snprintf(sparse->device.name, sizeof(sparse->device.name), "base");
    sparse->device.block_size = 4096;
    sparse->device.block_count = size / 4096;
    sparse->device.native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH);
    sparse->device.native_fua = true;
    if (!block_device_register(&bench->graph, &sparse->device, &error))
        bench_die(error.text);
    bench->base = &sparse->device;
}

static void file_made(struct file_device_create *create) { bench_go_on(container_of(create, struct bench, file)); }

static const char *after(const char *spec, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(spec, prefix, length) == 0 ? spec + length : NULL;
}

static uint64_t size_of(const char *text) {
    uint64_t size;
    if (!text_parse_size(text, &size) || size == 0 || size % 4096 != 0)
        bench_die("the disk's size is no multiple of 4096");
    return size;
}

void bench_disk(struct bench *bench, const char *spec) {
    const char *sparse = after(spec, "sparse:"), *memory = after(spec, "memory:");
    struct error error;
    if (sparse != NULL) {
        sparse_create(bench, size_of(sparse));
        return;
    }
    if (memory != NULL) {
        struct memory_device_options options = {.name = "base", .block_size = 4096, .block_count = size_of(memory) / 4096};
        if (!memory_device_create(&bench->graph, &options, &bench->base, &error))
            bench_die(error.text);
        return;
    }
    bench->path = spec;
    bench->file = (struct file_device_create){.options = {.name = "base", .path = spec}, .done = file_made};
    file_device_create_submit(&bench->graph, bench->reactor, &bench->file);
    bench_wait(bench);
    if (!bench->file.ok)
        bench_die(bench->file.error.text);
    bench->base = bench->file.device;
}

/* ---- store and commands ---- */

static void formatted(struct volume_store_format *format) { bench_go_on(container_of(format, struct bench, format)); }
static void opened(struct volume_store_open *open) { bench_go_on(container_of(open, struct bench, open)); }
static void commanded(struct volume_command *command) { bench_go_on(container_of(command, struct bench, command)); }

void bench_open(struct bench *bench) {
    bench->open = (struct volume_store_open){
        .base = bench->base, .home = bench->reactor, .checkpoint_bytes = bench->checkpoint_bytes, .done = opened};
    volume_store_open(&bench->open);
    bench_wait(bench);
    if (!bench->open.ok)
        bench_die(bench->open.error.text);
    bench->store = bench->open.store;
    struct volume_store_info info;
    volume_store_info(bench->store, &info);
    bench->cluster = info.cluster_bytes;
}

void bench_close(struct bench *bench) {
    bench_command(bench, (struct volume_command){0}, volume_store_close);
    bench->store = NULL;
}

void bench_format(struct bench *bench) {
    bench->format = (struct volume_store_format){
        .base = bench->base, .home = bench->reactor, .name = "bench", .force = true, .done = formatted};
    volume_store_format(&bench->format);
    bench_wait(bench);
    if (!bench->format.ok)
        bench_die(bench->format.error.text);
}

struct uuid bench_command(struct bench *bench, struct volume_command arguments, void (*call)(struct volume_command *)) {
    bench->command = arguments;
    bench->command.store = bench->store;
    bench->command.done = commanded;
    call(&bench->command);
    bench_wait(bench);
    if (!bench->command.ok)
        bench_die(bench->command.error.text);
    return bench->command.ret_uuid;
}

struct uuid bench_volume(struct bench *bench, const char *name, uint64_t size) {
    return bench_command(bench, (struct volume_command){.name = name, .size_bytes = size}, volume_create);
}

void bench_snapshot(struct bench *bench, const struct uuid *volume, const char *name) {
    bench_command(bench, (struct volume_command){.volume = *volume, .name = name}, volume_snapshot_create);
}

struct volume_info *bench_list(struct bench *bench, size_t *ret_count) {
    bench_command(bench, (struct volume_command){0}, volume_list);
    *ret_count = bench->command.ret_count;
    return bench->command.ret_infos;
}

/* ---- the bare load ---- */

static void send(struct flight *flight);

static void flight_done(struct block_request *request) {
    struct flight *flight = container_of(request, struct flight, request);
    struct bench *bench = flight->bench;
    if (request->status != IO_OK)
        bench_die(io_status_name((enum io_status)request->status));
    if (bench->flush_each && !flight->flushing) {
        flight->flushing = true;
        *request = (struct block_request){.op = BLOCK_FLUSH, .complete = flight_done};
        block_submit(bench->channel, request);
        return;
    }
    uint64_t at = bench_now(bench);
    bench->longest_ns = max_u64(bench->longest_ns, at - bench->last_ns);
    bench->last_ns = at;
    bench->done++;
    if (bench->per_second != NULL && (at - bench->started_ns) / NS_PER_S < bench->seconds)
        bench->per_second[(at - bench->started_ns) / NS_PER_S]++;
    if (at >= bench->until_ns || bench->stopping || (bench->sequential && bench->next >= bench->region) ||
        (bench->write_limit != 0 && bench->done + bench->under_way > bench->write_limit)) {
        if (--bench->under_way == 0)
            bench_go_on(bench);
        return;
    }
    send(flight);
}

static void send(struct flight *flight) {
    struct bench *bench = flight->bench;
    uint64_t offset = bench->origin + random_below(&bench->random, (bench->region - bench->origin) / 4096) * 4096;
    if (bench->sequential) {
        offset = bench->next;
        bench->next += bench->cluster;
    }
    if (bench->sent != NULL)
        bench->sent(bench, offset);
    flight->flushing = false;
    flight->slice = (struct slice){flight->buffer, 4096};
    flight->request = (struct block_request){
        .op = BLOCK_WRITE, .slices = &flight->slice, .slice_count = 1, .offset = offset, .length = 4096, .complete = flight_done};
    block_submit(bench->channel, &flight->request);
}

void bench_use(struct bench *bench, const char *name) {
    char alias[200];
    struct error error;
    snprintf(alias, sizeof(alias), "bench/%s", name);
    struct block_device *device = block_graph_find(&bench->graph, alias);
    bench->handle = (struct block_handle){.owner = "bench"};
    if (device == NULL || !block_handle_open(&bench->handle, device, BLOCK_MODE_WRITE, &error))
        bench_die("no such volume");
    bench->channel = block_channel_open(&bench->handle);
}
void bench_leave(struct bench *bench) {
    block_channel_close(bench->channel);
    block_handle_close(&bench->handle);
}

void bench_load_start(struct bench *bench, unsigned depth, uint64_t for_ns) {
    bench->depth = bench->under_way = depth;
    bench->done = bench->longest_ns = bench->next = 0;
    bench->stopping = false;
    bench->started_ns = bench->last_ns = bench_now(bench);
    bench->until_ns = bench->started_ns + for_ns;
    for (unsigned i = 0; i < depth; i++)
        send(&bench->flights[i]);
}
double bench_load_run(struct bench *bench, unsigned depth, uint64_t for_ns) {
    bench_load_start(bench, depth, for_ns);
    bench_wait(bench);
    return (double)bench->done * 1e9 / (double)(bench_now(bench) - bench->started_ns);
}
void bench_map_all(struct bench *bench, uint64_t region) {
    bench->region = region;
    bench->sequential = true;
    bench_load_run(bench, 64, 3600 * NS_PER_S);
    bench->sequential = false;
}

/* ---- loads with histograms ---- */

uint64_t bench_cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static void load_ended(struct load *load, void *arg) {
    (void)load;
    bench_go_on(arg);
}

struct measured bench_result(struct bench *bench, const struct load_result *result, uint64_t cpu_ns) {
    double us_per_tick = 1e6 / (double)bench->host->ticks_per_second;
    const struct histogram *latency = &result->latency_ticks;
    if (result->errors > 0)
        bench_die(io_status_name(result->first_error));
    return (struct measured){.iops = (double)result->requests * 1e9 / (double)result->elapsed_ns,
                             .p50_us = (double)histogram_percentile(latency, 5000) * us_per_tick,
                             .p99_us = (double)histogram_percentile(latency, 9900) * us_per_tick,
                             .p99_9_us = (double)histogram_percentile(latency, 9990) * us_per_tick,
                             .cpu_us = (double)cpu_ns / 1e3 / (double)result->requests,
                             .seconds = (double)result->elapsed_ns / 1e9};
}

struct measured bench_measure(struct bench *bench, const struct load_options *options) {
    struct load *load;
    struct error error;
    if (!load_create(bench->channel, options, load_ended, bench, &load, &error))
        bench_die(error.text);
    uint64_t before = bench_cpu_ns();
    load_start(load, options);
    bench_wait(bench);
    struct measured measured = bench_result(bench, load_result(load), bench_cpu_ns() - before);
    load_destroy(load);
    return measured;
}

void bench_print(const char *name, const struct measured *measured) {
    printf(
        "\"%s\": {\"iops\": %.0f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p99_9_us\": %.2f, \"cpu_us\": %.3f, \"seconds\": %.3f}",
        name, measured->iops, measured->p50_us, measured->p99_us, measured->p99_9_us, measured->cpu_us, measured->seconds);
}

int bench_by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}
