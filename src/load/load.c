#include "load/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "block/device.h"
#include "load/pattern.h"

struct slot {
    struct load *load;
    struct block_request request;
    struct slice slice;
    void *buffer;
    uint32_t flush_number; /* a FLUSH covers what settled in a round below its number */
};

/* What is right for one verified 4 KiB block. */
struct expected {
    uint32_t newest;  /* version last submitted */
    uint32_t settled; /* last completed: what a read must show */
    uint32_t flushed; /* oldest that may show after a crash, as far as flushed_floor() has noted it */
    uint32_t round;   /* flush round in which `settled` completed */
    bool after_crash; /* any of flushed … newest is right until read once */
};

struct load {
    struct block_channel *channel;
    struct reactor *reactor;
    struct load_options options;
    void (*done)(struct load *load, void *arg);
    void *arg;
    struct load_result result;
    struct random random;
    struct slot *slots;
    unsigned slot_count, running;
    bool stopping, reading_back;
    uint64_t region_bytes, request_count, next_sequential, submitted, writes_since_flush;
    uint64_t started_ns, ends_ns, last_completion_ns;
    uint32_t flush_round, flushed_round; /* FLUSHes submitted; the greatest number of a completed one */
    struct expected *expected;           /* a block each, when verifying */
    uint64_t *busy;                      /* blocks under way, when verifying */
    uint64_t verify_blocks;
};

static void submit_next(struct slot *slot);
static void complete(struct block_request *request);

const struct load_result *load_result(const struct load *load) { return &load->result; }

static bool options_check(const struct load *load, const struct load_options *options, struct error *error) {
    char number[24];
    uint32_t block = block_device_block_size(block_channel_device(load->channel));
    uint64_t size = block_device_size(block_channel_device(load->channel));
    snprintf(number, sizeof(number), "%u", options->request_bytes);
    uint32_t grain = options->verify ? PATTERN_BLOCK : block;
    if (options->request_bytes == 0 || options->request_bytes % grain != 0 || options->request_bytes > BUFFER_SIZE_MAX)
        return error_invalid(error, "block-size", number, "a multiple of %u up to 1 MiB", grain);
    snprintf(number, sizeof(number), "%u", options->depth);
    if (options->depth == 0 || options->depth > LOAD_DEPTH_MAX)
        return error_invalid(error, "depth", number, "1 to %d", LOAD_DEPTH_MAX);
    if (options->read_percent > 100)
        return error_invalid(error, "read-percent", "above 100", "0 to 100");
    snprintf(number, sizeof(number), "%" PRIu64, options->region_bytes);
    if (!range_inside(options->region_offset, options->region_bytes, size) || options->region_offset % grain != 0)
        return error_invalid(error, "region", number, "a range inside the device's %" PRIu64 " bytes, on a multiple of %u", size,
                             grain);
    uint64_t region = options->region_bytes != 0 ? options->region_bytes : size - options->region_offset;
    if (region < options->request_bytes)
        return error_invalid(error, "region", number, "room for at least one request of %u bytes", options->request_bytes);
    if (options->verify && options->depth > region / options->request_bytes / 2 && options->depth > 1)
        return error_invalid(error, "region", number, "at least twice depth × request size, to verify");
    if (options->verify && options->trim)
        return error_invalid(error, "verify", "with trim", "reads and writes only");
    if (options->duration_ns == 0 && options->request_limit == 0)
        return error_invalid(error, "time", "0", "a duration or a number of requests");
    return true;
}

bool load_create(struct block_channel *channel, const struct load_options *options, void (*done)(struct load *load, void *arg),
                 void *arg, struct load **ret_load, struct error *error) {
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the load");
    load->channel = channel;
    load->reactor = block_channel_reactor(channel);
    load->done = done;
    load->arg = arg;
    load->options = *options;
    if (!options_check(load, options, error)) {
        free(load);
        return false;
    }
    uint64_t size = block_device_size(block_channel_device(channel));
    load->region_bytes = options->region_bytes != 0 ? options->region_bytes : size - options->region_offset;
    load->slot_count = options->depth;
    load->slots = calloc(load->slot_count, sizeof(*load->slots));
    bool ok = load->slots != NULL;
    for (unsigned i = 0; ok && i < load->slot_count; i++) {
        load->slots[i].load = load;
        load->slots[i].buffer = aligned_alloc(BUFFER_ALIGNMENT, round_up(options->request_bytes, BUFFER_ALIGNMENT));
        ok = load->slots[i].buffer != NULL;
        if (ok) {
            struct random random;
            random_init(&random, options->seed + i);
            random_fill(&random, load->slots[i].buffer, options->request_bytes);
        }
    }
    if (ok && options->verify) {
        load->verify_blocks = load->region_bytes / PATTERN_BLOCK;
        load->expected = calloc(load->verify_blocks, sizeof(*load->expected));
        load->busy = calloc(bitmap_words(load->verify_blocks), sizeof(*load->busy));
        ok = load->expected != NULL && load->busy != NULL;
    }
    random_init(&load->random, options->seed);
    if (!ok) {
        load_destroy(load);
        return error_set(error, ERROR_NO_MEMORY, "no memory for %u requests of %u bytes", options->depth, options->request_bytes);
    }
    *ret_load = load;
    return true;
}

void load_destroy(struct load *load) {
    assert(load->running == 0);
    for (unsigned i = 0; load->slots != NULL && i < load->slot_count; i++)
        free(load->slots[i].buffer);
    free(load->slots);
    free(load->expected);
    free(load->busy);
    free(load->result.intervals);
    free(load);
}

static void begin(struct load *load) {
    assert(load->running == 0);
    load->started_ns = host_now_ns(load->reactor->host);
    load->last_completion_ns = reactor_now_ns(load->reactor);
    load->ends_ns = load->options.duration_ns != 0 ? load->started_ns + load->options.duration_ns : UINT64_MAX;
    load->stopping = false;
    load->next_sequential = load->submitted = load->writes_since_flush = 0;
    load->request_count = load->region_bytes / load->options.request_bytes;
    for (unsigned i = 0; i < load->slot_count; i++) {
        load->running++;
        submit_next(&load->slots[i]);
    }
}

void load_start(struct load *load, const struct load_options *options) {
    assert(options->depth == load->options.depth && options->request_bytes == load->options.request_bytes &&
           options->region_offset == load->options.region_offset && options->region_bytes == load->options.region_bytes &&
           options->verify == load->options.verify);
    load->options = *options;
    load->reading_back = false;
    free(load->result.intervals);
    load->result = (struct load_result){.first_error = IO_OK, .part_count = 1};
    histogram_init(&load->result.latency_ticks);
    load->result.intervals = calloc(options->duration_ns / LOAD_INTERVAL_NS + 1, sizeof(uint32_t));
    load->result.interval_count = load->result.intervals != NULL ? options->duration_ns / LOAD_INTERVAL_NS : 0;
    begin(load);
}

void load_start_read_back(struct load *load) {
    load->reading_back = true;
    load->options.random = false;
    load->options.read_percent = 100;
    load->options.duration_ns = 0;
    load->options.request_limit = load->region_bytes / load->options.request_bytes;
    begin(load);
}

void load_stop(struct load *load) { load->stopping = true; }

/* Blocks a request covers, from the region's start. */
static uint64_t first_block(const struct load *load, const struct block_request *request) {
    return (request->offset - load->options.region_offset) / PATTERN_BLOCK;
}

/* Picks a request's place: a free one when verifying, since two overlapping requests under way have no one right order. */
static uint64_t pick(struct load *load) {
    uint32_t blocks = load->options.request_bytes / PATTERN_BLOCK;
    for (;;) {
        uint64_t index = load->options.random ? random_below(&load->random, load->request_count)
                                              : load->next_sequential++ % load->request_count;
        if (load->busy == NULL || bitmap_find_set(load->busy, (index + 1) * blocks, index * blocks) == (index + 1) * blocks)
            return index;
    }
}

static void mark_expected(struct load *load, struct slot *slot) {
    struct block_request *request = &slot->request;
    uint64_t first = first_block(load, request), count = request->length / PATTERN_BLOCK;
    bitmap_set_range(load->busy, first, count);
    if (request->op != BLOCK_WRITE)
        return;
    for (uint64_t i = 0; i < count; i++) {
        struct expected *expected = &load->expected[first + i];
        pattern_fill((char *)slot->buffer + i * PATTERN_BLOCK, load->options.seed, request->offset + i * PATTERN_BLOCK,
                     ++expected->newest);
    }
}

static void finish_slot(struct load *load) {
    if (--load->running > 0)
        return;
    if (!load->reading_back)
        load->result.elapsed_ns = host_now_ns(load->reactor->host) - load->started_ns;
    load->done(load, load->arg);
}

static void submit_next(struct slot *slot) {
    struct load *load = slot->load;
    const struct load_options *options = &load->options;
    bool over = load->stopping || (options->request_limit != 0 && load->submitted >= options->request_limit) ||
                reactor_now_ns(load->reactor) >= load->ends_ns;
    if (over) {
        finish_slot(load);
        return;
    }
    struct block_request *request = &slot->request;
    *request = (struct block_request){.complete = complete};
    if (options->flush_every != 0 && load->writes_since_flush >= options->flush_every) {
        load->writes_since_flush = 0;
        request->op = BLOCK_FLUSH;
        slot->flush_number = ++load->flush_round;
        block_submit(load->channel, request);
        return;
    }
    load->submitted++;
    bool read =
        options->read_percent == 100 || (options->read_percent > 0 && random_below(&load->random, 100) < options->read_percent);
    request->op = read ? BLOCK_READ : options->trim ? BLOCK_TRIM : BLOCK_WRITE;
    request->flags = !read && options->fua ? BLOCK_FUA : 0;
    request->offset = options->region_offset + pick(load) * options->request_bytes;
    request->length = options->request_bytes;
    if (request->op != BLOCK_TRIM) {
        slot->slice = (struct slice){slot->buffer, options->request_bytes};
        request->slices = &slot->slice;
        request->slice_count = 1;
    }
    if (!read)
        load->writes_since_flush++;
    if (load->busy != NULL)
        mark_expected(load, slot);
    block_submit(load->channel, request);
}

/* The oldest version that may show after a crash. Noted before `settled` changes. */
static uint32_t flushed_floor(const struct load *load, struct expected *expected) {
    if (!expected->after_crash && expected->round < load->flushed_round)
        expected->flushed = expected->settled;
    return expected->flushed;
}

void load_begin_part(struct load *load) {
    if (load->result.part_count < LOAD_PARTS_MAX)
        load->result.part_count++;
}

void load_expect_crash(struct load *load) {
    for (uint64_t i = 0; i < load->verify_blocks; i++) {
        flushed_floor(load, &load->expected[i]);
        load->expected[i].after_crash = true;
    }
}

static void mismatch(struct load *load, uint64_t offset, uint32_t found, const struct expected *expected) {
    if (load->result.mismatches++ > 0)
        return;
    char what[32];
    if (found == UINT32_MAX)
        snprintf(what, sizeof(what), "foreign or torn data");
    else
        snprintf(what, sizeof(what), "version %u", found);
    snprintf(load->result.first_mismatch, sizeof(load->result.first_mismatch),
             "at byte %" PRIu64 ": found %s, expected version %u (flushed: %u, newest: %u)%s", offset, what, expected->settled,
             expected->flushed, expected->newest, expected->after_crash ? ", after a crash" : "");
}

static void check_block(struct load *load, uint64_t block, uint64_t offset, const void *data) {
    struct expected *expected = &load->expected[block];
    if (expected->newest == 0 || (expected->after_crash && expected->flushed == 0))
        return; /* what was there before this load may show, and is not known */
    uint32_t found = pattern_version(data, load->options.seed, offset);
    bool right = expected->after_crash ? found >= expected->flushed && found <= expected->newest : found == expected->settled;
    if (!right) {
        mismatch(load, offset, found, expected);
        return;
    }
    if (expected->after_crash) { /* seen once, it never changes back */
        expected->settled = found;
        expected->after_crash = false;
    }
}

static void settle(struct load *load, struct slot *slot) {
    struct block_request *request = &slot->request;
    uint64_t first = first_block(load, request), count = request->length / PATTERN_BLOCK;
    bitmap_clear_range(load->busy, first, count);
    if (request->status != IO_OK) {
        for (uint64_t i = 0; request->op == BLOCK_WRITE && i < count; i++) { /* fate unknown: old or new */
            flushed_floor(load, &load->expected[first + i]);
            load->expected[first + i].after_crash = true;
        }
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct expected *expected = &load->expected[first + i];
        if (request->op == BLOCK_READ) {
            check_block(load, first + i, request->offset + i * PATTERN_BLOCK, (char *)slot->buffer + i * PATTERN_BLOCK);
            continue;
        }
        flushed_floor(load, expected);
        expected->settled = expected->newest;
        expected->round = load->flush_round;
        expected->after_crash = false;
        if ((request->flags & BLOCK_FUA) != 0)
            expected->flushed = expected->settled;
    }
}

static void note_stall(struct load_result *result, uint64_t stall_ns) {
    uint64_t *part = &result->part_stall_ns[result->part_count - 1];
    *part = max_u64(*part, stall_ns);
    result->longest_stall_ns = max_u64(result->longest_stall_ns, stall_ns);
}

static void complete(struct block_request *request) {
    struct slot *slot = container_of(request, struct slot, request);
    struct load *load = slot->load;
    struct load_result *result = &load->result;
    uint64_t now_ns = reactor_now_ns(load->reactor);
    if (!load->reading_back)
        note_stall(result, now_ns - load->last_completion_ns);
    load->last_completion_ns = now_ns;
    if (unlikely(request->status != IO_OK)) {
        if (result->errors++ == 0)
            result->first_error = (enum io_status)request->status;
        if (result->errors > 1000)
            load->stopping = true;
    } else if (request->op == BLOCK_FLUSH) {
        result->flushes++;
        load->flushed_round = max_u32(load->flushed_round, slot->flush_number);
    } else if (!load->reading_back) {
        histogram_add(&result->latency_ticks, host_ticks(load->reactor->host) - request->start_ticks);
        result->requests++;
        result->bytes += request->length;
        uint64_t interval = (now_ns - load->started_ns) / LOAD_INTERVAL_NS;
        if (interval < result->interval_count)
            result->intervals[interval]++;
    }
    if (load->busy != NULL && request->op != BLOCK_FLUSH)
        settle(load, slot);
    submit_next(slot);
}
