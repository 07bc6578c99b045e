/* Checked I/O on a device of a plane: every 512-byte sector says which write it is of, and a model says which ones it may be.
 *
 * One request at a time on each block. A write that was answered must be what every later read shows; one that failed may be
 * there or not, until a later write of that block is answered or a read has shown it. */
#pragma once

#include "cluster.h"

#include "base/random.h"

#define WORKLOAD_BLOCKS_MAX 256
#define WORKLOAD_DEPTH_MAX 32
#define WORKLOAD_LANES_MAX PLANE_DATA_MAX
#define WORKLOAD_BLOCK 4096
#define WORKLOAD_UNKNOWN_MAX 64

struct workload_block {
    uint32_t answered;                      /* version that is surely there, 0 = none yet (zeros) */
    uint32_t unknown[WORKLOAD_UNKNOWN_MAX]; /* failed writes after it, which may be there */
    uint32_t unknown_count;
    uint32_t last; /* version given out last */
    bool busy;
};

struct workload_slot {
    struct block_request request;
    struct slice slices[3];
    struct workload_lane *lane;
    uint32_t block, version;
    uint8_t *payload;
    bool busy;
};

/* A reactor's share, with its own channel. */
struct workload_lane {
    struct workload *workload;
    struct reactor *reactor;
    struct block_channel *channel;
    struct reactor_message message; /* begins requests */
    bool posted;
    struct workload_slot slots[WORKLOAD_DEPTH_MAX];
    unsigned busy;
};

struct workload {
    struct plane *plane;
    struct block_handle handle;
    struct workload_lane lanes[WORKLOAD_LANES_MAX];
    struct random random;
    uint32_t seed;
    unsigned depth, block_count;
    struct workload_block blocks[WORKLOAD_BLOCKS_MAX];
    bool running;   /* begins new requests as old ones end */
    uint64_t limit; /* of requests; 0 = none */
    uint64_t begun, reads, writes, flushes, failed;
    uint64_t ended[16]; /* by status, to look at */
};

/* Opens the device on all data reactors of the plane. The first `block_count` blocks are used; they read as zeros now. */
void workload_init(struct workload *workload, struct plane *plane, const char *device, unsigned block_count, unsigned depth,
                   uint32_t seed);
/* Keeps `depth` requests under way on each lane until so many have begun (0 = until stopped). */
void workload_start(struct workload *workload, uint64_t limit);
/* Begins no more; waits until all have ended, at most so long. */
void workload_stop(struct workload *workload, uint64_t for_ns);
/* True when the limit is reached and all have ended. */
bool workload_is_done(void *workload);
/* Reads every block through the device and compares. */
void workload_verify(struct workload *workload);
/* Compares a block's bytes, as found elsewhere, with the model. */
void workload_check(struct workload *workload, uint32_t block, const uint8_t *bytes);
/* One write, waited for; returns its status. */
enum io_status workload_write(struct workload *workload, unsigned lane, uint32_t block);
/* Begins one write and does not wait. */
void workload_begin_write(struct workload *workload, unsigned lane, uint32_t block);
bool workload_is_idle(void *workload);
void workload_fini(struct workload *workload);
/* The plane has died: its requests are of unknown fate. The workload may be opened again on the device that comes back. */
void workload_orphaned(struct workload *workload);
void workload_reopen(struct workload *workload, const char *device);
