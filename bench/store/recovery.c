/* Dying under load, and how long it takes until every volume is read again. `fill` goes on with a disk that `image` made: it
 * writes to all volumes until the journal is as full as it ever was before a checkpoint freed it, and kills itself with the
 * writes under way. `reopen` opens what is left and reads the first block of every volume and snapshot, which must say its name.
 */
#include <signal.h>
#include <string.h>

#include "store/bench.h"

#define LOOK_EVERY 256 /* writes */
#define TURN_NS (5 * NS_PER_MS)

struct fill {
    uint64_t writes, used, peak;
    bool peak_known;
};

/* The peak is what the first checkpoint found; the second one shall not come that far. */
static void fill_look(struct bench *bench, uint64_t offset) {
    static struct fill fill;
    struct volume_store_info info;
    (void)offset;
    if (++fill.writes % LOOK_EVERY != 0)
        return;
    volume_store_info(bench->store, &info);
    if (!fill.peak_known && info.journal_used_bytes < fill.used) {
        fill.peak_known = true;
        fill.peak = fill.used;
    }
    fill.used = info.journal_used_bytes;
    if (!fill.peak_known || fill.used < fill.peak / 100 * 97)
        return;
    printf("{\"figure\": \"fill\", \"writes\": %llu, \"journal_used\": %llu, \"journal\": %llu, \"checkpoints\": %llu}\n",
           (unsigned long long)fill.writes, (unsigned long long)fill.used, (unsigned long long)info.journal_bytes,
           (unsigned long long)info.checkpoints);
    fflush(stdout);
    raise(SIGKILL);
}

void figure_fill(struct bench *bench) {
    size_t count;
    bench_open(bench);
    struct volume_info *volumes = bench_list(bench, &count);
    bench->origin = bench->cluster; /* the first cluster says whose it is */
    bench->sent = fill_look;
    for (;;)
        for (size_t i = 0; i < count; i++) {
            if (volumes[i].read_only)
                continue;
            bench_use(bench, volumes[i].name);
            bench->region = volumes[i].size_bytes;
            bench_load_run(bench, 32, TURN_NS);
            bench_leave(bench);
        }
}

struct probe {
    struct bench *bench;
    struct block_handle handle;
    struct block_request request;
    struct slice slice;
    uint8_t *bytes;
    unsigned *left;
};

static void probe_done(struct block_request *request) {
    struct probe *probe = container_of(request, struct probe, request);
    if (request->status != IO_OK)
        bench_die(io_status_name((enum io_status)request->status));
    if (--*probe->left == 0)
        bench_go_on(probe->bench);
}

void figure_reopen(struct bench *bench) {
    uint64_t start = bench_now(bench);
    bench_open(bench);
    uint64_t opened = bench_now(bench);
    size_t count;
    struct volume_info *volumes = bench_list(bench, &count);
    struct probe *probes = calloc(count, sizeof(*probes));
    uint8_t *bytes = aligned_alloc(4096, count * 4096);
    unsigned left = (unsigned)count;
    struct volume_store_info info;
    if (probes == NULL || bytes == NULL || count == 0)
        bench_die("no memory, or no volumes");
    for (size_t i = 0; i < count; i++) {
        struct probe *probe = &probes[i];
        char alias[200];
        struct error error;
        snprintf(alias, sizeof(alias), "bench/%s", volumes[i].name);
        struct block_device *device = block_graph_find(&bench->graph, alias);
        *probe = (struct probe){.bench = bench, .handle = {.owner = "bench"}, .bytes = bytes + i * 4096, .left = &left};
        if (device == NULL || !block_handle_open(&probe->handle, device, BLOCK_MODE_READ, &error))
            bench_die("a volume is not there");
        probe->slice = (struct slice){probe->bytes, 4096};
        probe->request = (struct block_request){
            .op = BLOCK_READ, .slices = &probe->slice, .slice_count = 1, .length = 4096, .complete = probe_done};
        block_submit(block_channel_open(&probe->handle), &probe->request);
    }
    bench_wait(bench);
    for (size_t i = 0; i < count; i++)
        if (strcmp((const char *)probes[i].bytes, volumes[i].name) != 0)
            bench_die("a volume holds what another one should");
    uint64_t read = bench_now(bench);
    volume_store_info(bench->store, &info);
    printf("{\"figure\": \"reopen\", \"open_ms\": %.1f, \"all_read_ms\": %.1f, \"volumes\": %zu, \"replayed_records\": %llu, "
           "\"reads\": %llu}\n",
           (double)(opened - start) / 1e6, (double)(read - start) / 1e6, count, (unsigned long long)info.replayed_records,
           (unsigned long long)info.open_reads);
}
