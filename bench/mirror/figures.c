/* The figures of main.c. */
#include "mirror/ground.h"

#include "blockdev/error/error_device.h"

#define PIECE KIB(256)
#define PIECES 4

static void fill(struct ground *ground, struct block_device *device, uint64_t bytes) {
    struct load_options options = {.request_bytes = (uint32_t)KIB(256), .depth = 8, .request_limit = bytes / KIB(256)};
    options.region_bytes = bytes;
    ground_use(ground, device);
    ground_load(ground, &options);
    ground_leave(ground);
}

static void load(struct ground *ground, bool write, unsigned depth, uint64_t seconds, uint64_t region, struct measured *ret) {
    struct load_options options = {.random = true,
                                   .read_percent = write ? 0 : 100,
                                   .request_bytes = 4096,
                                   .depth = depth,
                                   .region_bytes = region,
                                   .seed = 1,
                                   .duration_ns = seconds * NS_PER_S};
    *ret = ground_load(ground, &options);
}

/* Requests a second of a mirror, or of a device without one. Everything in the region is there before. */
void figure_load(struct ground *ground) {
    unsigned legs = (unsigned)ground_number(ground, "how many legs?");
    const char *spec = ground_word(ground, "which legs?");
    bool write = strcmp(ground_word(ground, "randread or randwrite?"), "randwrite") == 0;
    unsigned depth = (unsigned)ground_number(ground, "how deep?");
    uint64_t seconds = ground_number(ground, "how long?"), region = ground_number(ground, "how much of it?");
    struct mirror_options options = {.marked_max = (uint32_t)ground_number(ground, "how many marks, at most?")};
    options.marked_hard = options.marked_max != 0;
    struct block_device *devices[MIRROR_LEGS_MAX];
    struct measured measured, again = {0};
    for (unsigned i = 0; i < max_u32(legs, 1); i++)
        devices[i] = ground_leg(ground, spec, i);
    struct block_device *device = devices[0];
    if (legs > 0) {
        ground_mirror(ground, devices, legs, &options);
        ground_until(ground, ground_all_whole);
        device = ground->mirror;
    }
    fill(ground, device, region);
    ground_use(ground, device);
    load(ground, write, depth, 1, region, &again); /* caches, and marks, are as they stay */
    ground->marked_most = 0;
    load(ground, write, depth, seconds, region, &measured);
    printf("{\"figure\": \"load\", \"marked_most\": %llu, ", (unsigned long long)ground->marked_most);
    ground_print("load", &measured);
    printf("}\n");
}

/* ---- marks ---- */

static struct block_device *marked_mirror(struct ground *ground, const char *spec, unsigned first, unsigned legs,
                                          const char *name, uint32_t bound) {
    /* However long the disk takes: a leg that is set aside would do without its half of the writes. */
    struct mirror_options options = {.name = name, .marked_max = bound, .marked_hard = bound != 0, .longest_stall_ms = 60000};
    struct block_device *devices[MIRROR_LEGS_MAX];
    for (unsigned i = 0; i < legs; i++)
        devices[i] = ground_leg(ground, spec, first + i);
    ground_mirror(ground, devices, legs, &options);
    ground_until(ground, ground_all_whole);
    return ground->mirror;
}

/* Random writes of two mirrors in turn, so that both see the same disk: one whose marks are bounded, and one all of whose regions
 * are marked before and stay so, which writes no mark. */
void figure_marks(struct ground *ground) {
    enum { ROUNDS_MAX = 64 };
    unsigned legs = (unsigned)ground_number(ground, "how many legs?");
    const char *spec = ground_word(ground, "which legs?");
    unsigned depth = (unsigned)ground_number(ground, "how deep?");
    uint64_t seconds = ground_number(ground, "how long?"), region = ground_number(ground, "how much of it?");
    uint32_t bound = (uint32_t)ground_number(ground, "how many marks, at most?");
    unsigned rounds = (unsigned)min_u64(ground_number(ground, "how many rounds?"), ROUNDS_MAX);
    if (legs == 0 || legs > MIRROR_LEGS_MAX)
        ground_die("one leg, or a few");
    struct block_device *mirrors[2] = {marked_mirror(ground, spec, legs, legs, "marked", UINT32_MAX),
                                       marked_mirror(ground, spec, 0, legs, "bounded", bound)};
    struct measured got[2][ROUNDS_MAX], warm;
    for (unsigned which = 0; which < 2; which++) {
        fill(ground, mirrors[which], region);
        ground_use(ground, mirrors[which]);
        load(ground, true, depth, 1, region, &warm);
        ground_leave(ground);
    }
    ground->mirror = mirrors[1];
    ground->marked_most = 0;
    for (unsigned i = 0; i < 2 * rounds; i++) {
        unsigned which = (i + i / 2) % 2; /* 0 1 1 0 */
        ground_use(ground, mirrors[which]);
        load(ground, true, depth, seconds, region, &got[which][i / 2]);
        ground_leave(ground);
    }
    for (unsigned which = 0; which < 2; which++) {
        ground->mirror = mirrors[which];
        if (!ground_all_whole(ground))
            ground_die("a leg was set aside");
    }
    printf("{\"figure\": \"marks\", \"marked_most\": %llu", (unsigned long long)ground->marked_most);
    for (unsigned which = 0; which < 2; which++) {
        printf(", \"%s\": [", which == 0 ? "marked" : "bounded");
        for (unsigned i = 0; i < rounds; i++) {
            printf("%s{", i > 0 ? ", " : "");
            ground_print("load", &got[which][i]);
            printf("}");
        }
        printf("]");
    }
    printf("}\n");
}

/* ---- rebuild ---- */

struct raw {
    struct ground *ground;
    struct block_channel *from, *to;
    uint64_t next, end;
    unsigned running;
    struct raw_piece {
        struct raw *raw;
        struct block_request request;
        struct slice slice;
    } pieces[PIECES];
};

static void raw_next(struct raw_piece *piece);

static void raw_done(struct block_request *request) {
    struct raw_piece *piece = container_of(request, struct raw_piece, request);
    if (request->status != IO_OK)
        ground_die(io_status_name((enum io_status)request->status));
    if (request->op == BLOCK_WRITE) {
        raw_next(piece);
        return;
    }
    request->op = BLOCK_WRITE;
    block_submit(piece->raw->to, request);
}

static void raw_next(struct raw_piece *piece) {
    struct raw *raw = piece->raw;
    if (raw->next == raw->end) {
        if (--raw->running == 0)
            ground_go_on(raw->ground);
        return;
    }
    piece->request = (struct block_request){
        .op = BLOCK_READ, .slices = &piece->slice, .slice_count = 1, .offset = raw->next, .length = PIECE, .complete = raw_done};
    raw->next += PIECE;
    block_submit(raw->from, &piece->request);
}

/* Seconds of a bare copy, so many pieces at a time. */
static double raw_copy(struct ground *ground, struct block_device *from, struct block_device *to, uint64_t bytes) {
    struct raw raw = {.ground = ground, .end = bytes, .running = PIECES};
    struct block_handle handle = {.owner = "bench"};
    struct error error;
    if (!block_handle_open(&handle, from, BLOCK_MODE_READ, &error))
        ground_die(error.text);
    ground_use(ground, to);
    raw.from = block_channel_open(&handle);
    raw.to = ground->channel;
    uint64_t begin = host_now_ns(ground->host);
    for (unsigned i = 0; i < PIECES; i++) {
        raw.pieces[i].raw = &raw;
        raw.pieces[i].slice = (struct slice){aligned_alloc(4096, PIECE), PIECE};
        raw_next(&raw.pieces[i]);
    }
    ground_wait(ground);
    double seconds = (double)(host_now_ns(ground->host) - begin) / 1e9;
    for (unsigned i = 0; i < PIECES; i++)
        free(raw.pieces[i].slice.base);
    block_channel_close(raw.from);
    block_handle_close(&handle);
    ground_leave(ground);
    return seconds;
}

/* A new leg beside a filled one: idle, against a bare copy to a third device of the same kind; then what a load keeps while
 * another one is rebuilt. */
void figure_rebuild(struct ground *ground) {
    const char *spec = ground_word(ground, "which legs?");
    uint64_t bytes = ground_number(ground, "how much?"), load_ms = ground_number(ground, "how long?");
    struct mirror_status status;
    struct measured during, after;
    bool under_load = load_ms > 0;
    struct block_device *legs[3];
    for (unsigned i = 0; i < 3; i++)
        legs[i] = ground_leg(ground, spec, i);
    fill(ground, legs[0], bytes);
    double raw = raw_copy(ground, legs[0], legs[2], bytes);
    uint64_t begin = host_now_ns(ground->host);
    ground_mirror(ground, legs, 2, &(struct mirror_options){0});
    if (under_load) {
        ground_use(ground, ground->mirror);
        struct load_options options = {.random = true,
                                       .read_percent = 50,
                                       .request_bytes = 4096,
                                       .depth = 32,
                                       .region_bytes = bytes,
                                       .duration_ns = load_ms * NS_PER_MS};
        during = ground_load(ground, &options);
        ground_status(ground, &status);
        if (status.legs[1].state != MIRROR_LEG_SYNCING)
            ground_die("the rebuild was over before the load was");
        uint64_t done = status.legs[1].sync_done;
        ground_until(ground, ground_all_whole);
        after = ground_load(ground, &options);
        printf("{\"figure\": \"rebuild\", \"kept\": %.3f, \"under_load_mib_per_s\": %.0f, ", during.iops / after.iops,
               (double)done / 1048576 / during.seconds);
        ground_print("during", &during);
        printf(", ");
        ground_print("after", &after);
        printf("}\n");
        return;
    }
    ground_until(ground, ground_all_whole);
    double rebuilt = (double)(host_now_ns(ground->host) - begin) / 1e9;
    ground_status(ground, &status);
    printf("{\"figure\": \"rebuild\", \"raw_s\": %.3f, \"rebuild_s\": %.3f, \"copied\": %llu, \"mib_per_s\": %.0f}\n", raw,
           rebuilt, (unsigned long long)status.legs[1].bytes_copied, (double)bytes / 1048576 / rebuilt);
}

/* ---- outages ---- */

static bool second_is_lost(struct ground *ground) {
    struct mirror_status status;
    ground_status(ground, &status);
    return status.legs[1].state != MIRROR_LEG_WHOLE;
}

static uint64_t accepted_ns; /* when the leg began to be looked at last */
static bool second_is_back(struct ground *ground) {
    struct mirror_status status;
    ground_status(ground, &status);
    if (status.legs[1].state == MIRROR_LEG_SET_ASIDE)
        accepted_ns = 0;
    else if (accepted_ns == 0)
        accepted_ns = host_now_ns(ground->host);
    return ground_all_whole(ground);
}

static void break_leg(struct block_device *leg, bool broken) {
    struct error_device_rule rule = {.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_STATUS, .status = IO_PATH_LOST};
    struct error error;
    if (!broken)
        error_device_clear(leg);
    else if (!error_device_inject(leg, &rule, &error))
        ground_die(error.text);
}

/* The second leg (of "error:…") is away while so much is written. */
void figure_outage(struct ground *ground) {
    const char *spec = ground_word(ground, "which legs?");
    uint64_t bytes = ground_number(ground, "how much?");
    const char *how = ground_word(ground, "seq, random or nothing?");
    struct block_device *legs[2];
    struct mirror_status before, status;
    for (unsigned i = 0; i < 2; i++)
        legs[i] = ground_leg(ground, spec, i);
    ground_mirror(ground, legs, 2, &(struct mirror_options){0});
    ground_until(ground, ground_all_whole);
    fill(ground, ground->mirror, MIB(64));
    ground_use(ground, ground->mirror);
    ground_status(ground, &before);
    break_leg(legs[1], true);
    struct load_options options = {.random = strcmp(how, "random") == 0, .depth = 16, .seed = 3};
    options.request_bytes = options.random ? 4096 : (uint32_t)KIB(64);
    options.request_limit = strcmp(how, "nothing") == 0 ? 16 : bytes / options.request_bytes;
    if (strcmp(how, "nothing") == 0)
        options.read_percent = 100, options.random = true; /* it is noticed by what is asked of it */
    do
        ground_load(ground, &options);
    while (!second_is_lost(ground));
    break_leg(legs[1], false);
    ground_until(ground, second_is_back);
    double back_ms = (double)(host_now_ns(ground->host) - accepted_ns) / 1e6;
    ground_status(ground, &status);
    uint64_t copied = status.legs[1].bytes_copied - before.legs[1].bytes_copied;
    printf("{\"figure\": \"outage\", \"written\": %llu, \"copied\": %llu, \"ratio\": %.3f, \"back_ms\": %.2f}\n",
           (unsigned long long)bytes, (unsigned long long)copied, (double)copied / (double)bytes, back_ms);
}

/* ---- verify ---- */

static bool verified(struct ground *ground) {
    struct mirror_status status;
    ground_status(ground, &status);
    return status.verify.state == MIRROR_VERIFY_DONE;
}

static void verify_begun(struct mirror_set *set) {
    if (set->error.code != ERROR_NONE)
        ground_die(set->error.text);
}

void figure_verify(struct ground *ground) {
    unsigned count = (unsigned)ground_number(ground, "how many legs?");
    const char *spec = ground_word(ground, "which legs?");
    uint64_t bytes = ground_number(ground, "how much?");
    struct block_device *legs[MIRROR_LEGS_MAX];
    struct mirror_status status;
    for (unsigned i = 0; i < count; i++)
        legs[i] = ground_leg(ground, spec, i);
    ground_mirror(ground, legs, count, &(struct mirror_options){0});
    ground_until(ground, ground_all_whole);
    fill(ground, ground->mirror, bytes);
    struct mirror_set set = {
        .device = ground->mirror, .control = ground->reactor, .what = MIRROR_VERIFY_START, .done = verify_begun};
    uint64_t cpu = ground_cpu_ns(), begin = host_now_ns(ground->host);
    mirror_set(&set);
    ground_until(ground, verified);
    double cpu_s = (double)(ground_cpu_ns() - cpu) / 1e9, seconds = (double)(host_now_ns(ground->host) - begin) / 1e9;
    ground_status(ground, &status);
    if (status.verify.mismatches > 0)
        ground_die("equal legs differ");
    printf("{\"figure\": \"verify\", \"gib_per_cpu_second\": %.3f, \"gib_per_second\": %.3f}\n",
           (double)bytes / 1073741824 / cpu_s, (double)bytes / 1073741824 / seconds);
}
