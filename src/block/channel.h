/* Inside of src/block: the channel, and the stages a request passes before its device. Not for other folders. */
#pragma once

#include "block/device.h"
#include "reactor/pool.h"

#define BLOCK_WRITING_OPS                                                                                                        \
    (BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_TRIM) | BLOCK_BIT(BLOCK_WRITE_ZEROES) | BLOCK_BIT(BLOCK_REPLICA_PUT))
#define BLOCK_REPLICA_OPS (BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET))
#define BLOCK_EMULATED_OPS (BLOCK_BIT(BLOCK_COMPARE) | BLOCK_BIT(BLOCK_WRITE_ZEROES) | BLOCK_BIT(BLOCK_FLUSH))
#define BLOCK_STAGES_MAX 64 /* bounced or emulated requests under way a channel; more wait */

struct block_channel {
    struct block_handle *handle;
    struct block_device *device;
    struct reactor *reactor;
    struct block_stats *stats;
    unsigned outstanding;
    bool remote; /* the device's home is another reactor */
    struct pool stages;
} __attribute__((aligned(16))); /* the kind's private state follows */

/* One request that cannot go to the device as it is. */
struct block_stage {
    struct block_request *request; /* the submitter's */
    struct block_request child;    /* what the device gets, piece by piece */
    struct slice slice;            /* the child's payload: `buffer` */
    void *buffer;
    size_t buffer_size;
    uint64_t done; /* bytes of the request that are finished */
    bool flushing; /* the flush behind an emulated FUA write is under way */
    struct buffer_waiter buffer_waiter;
};

#define BLOCK_REPLICA_BYTES_MAX MIB(1)

/* True if the device lacks the operation, or the payload's alignment. */
static inline bool block_needs_stage(const struct block_device *device, const struct block_request *request) {
    if (unlikely(request->op >= BLOCK_REPLICA_PUT))
        return false;
    if ((device->native_ops & BLOCK_BIT(request->op)) == 0)
        return true;
    if ((request->flags & BLOCK_FUA) != 0 && !device->native_fua)
        return true;
    return device->memory_alignment > 1 && request->slice_count > 0 &&
           !slice_aligned(request->slices, request->slice_count, device->memory_alignment);
}

void block_stage_start(struct block_request *request);
/* Gives a checked request to the device, on its home if it has one. */
void block_to_device(struct block_request *request);
