/* The load generator: a pattern of requests kept at a depth on one channel, with latency histograms, a count for every tenth of a
 * second, and verification of what is read. Used by penstock-bench, the demo and tests.
 *
 * Verification: every 512-byte sector carries the run's seed, its own offset and a version; the load remembers for each 4 KiB
 * block the newest version written and the newest that a completed FLUSH covers. A read must show the newest; after a crash of
 * the target that was announced (load_expect_crash()), any version from the flushed one on is right, and becomes the block's only
 * right one.
 *
 * Calling context: one load belongs to one reactor. Must not know kinds of device. */
#pragma once

#include "base/histogram.h"
#include "base/random.h"
#include "block/block.h"

#define LOAD_DEPTH_MAX 1024
#define LOAD_PARTS_MAX 16
#define LOAD_INTERVAL_NS (100 * NS_PER_MS)

struct load_options {
    bool random;                          /* uniformly random blocks, else sequential, wrapping around */
    bool trim;                            /* the writing part sends TRIM */
    unsigned read_percent;                /* 0 … 100 */
    uint32_t request_bytes;               /* a multiple of the device's block size, ≤ 1 MiB; with verify: of 4096 */
    unsigned depth;                       /* 1 … LOAD_DEPTH_MAX */
    uint64_t region_offset, region_bytes; /* region_bytes 0 = to the device's end */
    uint64_t duration_ns;                 /* 0 = until request_limit */
    uint64_t request_limit;               /* 0 = until duration_ns */
    unsigned flush_every;                 /* a FLUSH after each so many writes, 0 = never */
    bool fua;                             /* writes carry BLOCK_FUA */
    bool verify;
    uint64_t seed;
};

struct load_result {
    uint64_t requests, bytes, flushes, errors, mismatches;
    uint64_t elapsed_ns;
    enum io_status first_error;     /* IO_OK if none */
    char first_mismatch[160];       /* what was wrong where; "" if nothing */
    struct histogram latency_ticks; /* of reads, writes and trims */
    uint32_t *intervals;            /* requests completed in each LOAD_INTERVAL_NS from the start */
    size_t interval_count;
    uint64_t longest_stall_ns;              /* longest time without any completion */
    uint64_t part_stall_ns[LOAD_PARTS_MAX]; /* the same of each part: see load_begin_part() */
    unsigned part_count;
};

struct load;

/* Makes a load for a channel of the current reactor. ERROR_INVALID names the option. `done` is called when it has ended and
 * nothing is under way. */
bool load_create(struct block_channel *channel, const struct load_options *options, void (*done)(struct load *load, void *arg),
                 void *arg, struct load **ret_load, struct error *error);
/* Frees it; not while it runs. */
void load_destroy(struct load *load);
/* Starts the pattern, again if it ran before (the versions stay, so that several patterns share one model). */
void load_start(struct load *load, const struct load_options *options);
/* Ends early. */
void load_stop(struct load *load);
/* From now on unflushed writes may have been lost: see above. */
void load_expect_crash(struct load *load);
/* What follows is told apart from what was: of a stall over both, it is this part's. No more than LOAD_PARTS_MAX; what comes
 * after them is the last one's. */
void load_begin_part(struct load *load);
/* Reads the whole region once, in order, verifying; then `done`. Adds only errors and mismatches to the result. */
void load_start_read_back(struct load *load);
const struct load_result *load_result(const struct load *load);
