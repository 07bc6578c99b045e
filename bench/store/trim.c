/* What a trim of a whole volume costs the others: two volumes, FRONT bytes under random reads and writes, and BACK bytes of which
 * each cluster is there, trimmed as a whole in the middle. What counts is the time from the trim until the space is back. */
#include "store/bench.h"

#define BEFORE_NS (3 * NS_PER_S)
#define LOOK_NS (10 * NS_PER_MS)
#define TENTHS_AT_LEAST 5 /* a trim that is done at once is judged by half a second */

struct trimming {
    struct bench *bench;
    struct block_handle handle;
    struct block_channel *channel;
    struct block_request request;
    struct reactor_timer timer;
    struct load *load;
    uint64_t size, started_ns, trim_ns, answered_ns, back_ns, free_bytes;
};

static void trim_done(struct block_request *request) {
    struct trimming *trimming = container_of(request, struct trimming, request);
    if (request->status != IO_OK)
        bench_die(io_status_name((enum io_status)request->status));
    trimming->answered_ns = bench_now(trimming->bench);
}

static void look(struct reactor_timer *timer) {
    struct trimming *trimming = container_of(timer, struct trimming, timer);
    struct bench *bench = trimming->bench;
    struct volume_store_info info;
    uint64_t now = bench_now(bench);
    if (trimming->trim_ns == 0) {
        trimming->trim_ns = now;
        trimming->request = (struct block_request){.op = BLOCK_TRIM, .length = trimming->size, .complete = trim_done};
        block_submit(trimming->channel, &trimming->request);
    }
    volume_store_info(bench->store, &info);
    if (trimming->back_ns == 0 && trimming->answered_ns != 0 && info.free_bytes >= trimming->free_bytes)
        trimming->back_ns = now;
    if (trimming->back_ns != 0 && now - trimming->trim_ns >= TENTHS_AT_LEAST * LOAD_INTERVAL_NS + LOAD_INTERVAL_NS)
        load_stop(trimming->load);
    else
        reactor_timer_start(bench->reactor, timer, now + LOOK_NS);
}

static void foreground_ended(struct load *load, void *arg) {
    (void)load;
    bench_go_on(arg);
}

/* Requests a tenth of a second in [from, until), and the fewest. */
static double tenths(const struct load_result *result, uint64_t from_ns, uint64_t until_ns, uint32_t *ret_worst) {
    size_t first = (size_t)divide_up(from_ns, LOAD_INTERVAL_NS), last = (size_t)(until_ns / LOAD_INTERVAL_NS), count = 0;
    double sum = 0;
    *ret_worst = UINT32_MAX;
    for (size_t i = first; i < last && i < result->interval_count; i++, count++) {
        sum += result->intervals[i];
        *ret_worst = min_u32(*ret_worst, result->intervals[i]);
    }
    return count == 0 ? 0 : sum / (double)count;
}

void figure_trim(struct bench *bench) {
    uint64_t front = bench_word(bench, "how large in front?"), back = bench_word(bench, "how large in the back?");
    struct load_options fill = {.request_bytes = (uint32_t)KIB(64), .depth = 16, .request_limit = front / KIB(64)};
    struct load_options options = {.random = true, .read_percent = 50, .request_bytes = 4096, .depth = 32, .region_bytes = front};
    struct trimming trimming = {.bench = bench, .size = back, .timer.run = look};
    struct volume_store_info info;
    struct error error;
    bench_volume(bench, "front", front);
    bench_use(bench, "front");
    bench_measure(bench, &fill);
    bench_leave(bench);
    volume_store_info(bench->store, &info);
    trimming.free_bytes = info.free_bytes - back / 1024; /* but for what an empty volume has */
    bench_volume(bench, "back", back);
    bench_use(bench, "back");
    bench_map_all(bench, back);
    trimming.handle = bench->handle;
    trimming.channel = bench->channel;
    bench_use(bench, "front");
    options.duration_ns = 60 * NS_PER_S;
    if (!load_create(bench->channel, &options, foreground_ended, bench, &trimming.load, &error))
        bench_die(error.text);
    trimming.started_ns = bench_now(bench);
    reactor_timer_start(bench->reactor, &trimming.timer, trimming.started_ns + BEFORE_NS);
    uint64_t cpu_ns = bench_cpu_ns();
    load_start(trimming.load, &options);
    bench_wait(bench);
    const struct load_result *result = load_result(trimming.load);
    struct measured all = bench_result(bench, result, bench_cpu_ns() - cpu_ns);
    if (trimming.back_ns == 0)
        bench_die("the space did not come back");
    uint64_t until = max_u64(trimming.back_ns, trimming.trim_ns + TENTHS_AT_LEAST * LOAD_INTERVAL_NS);
    uint32_t worst[2];
    double before = tenths(result, BEFORE_NS / 3, trimming.trim_ns - trimming.started_ns, &worst[0]);
    double during = tenths(result, trimming.trim_ns - trimming.started_ns, until - trimming.started_ns, &worst[1]);
    printf("{\"figure\": \"trim\", \"clusters\": %llu, \"answered_ms\": %.1f, \"space_back_ms\": %.1f, \"before_iops\": %.0f, "
           "\"during_iops\": %.0f, \"kept\": %.3f, \"worst_tenth\": %.3f, \"worst_tenth_before\": %.3f, \"longest_stall_ms\": "
           "%.2f, ",
           (unsigned long long)(back / bench->cluster), (double)(trimming.answered_ns - trimming.trim_ns) / 1e6,
           (double)(trimming.back_ns - trimming.trim_ns) / 1e6, before * 10, during * 10, during / before, worst[1] / before,
           worst[0] / before, (double)result->longest_stall_ns / 1e6);
    bench_print("foreground", &all);
    printf("}\n");
}
