/* A RAM disk with the replica interface (block/replica.h), for tests of those that carry it: a record, a claim, marks a region
 * each. It is no model of a volume: nothing is durable and a claim waits for nobody. */
#pragma once

#include "block/device.h"
#include "block/replica.h"

#define REPLICA_DEVICE_CLAIMS 32 /* that it remembers, the last ones */

struct replica_device {
    struct block_device device;
    uint8_t *bytes;
    struct replica_record record;
    bool has_record;
    uint64_t claimed; /* association, 0 = none */
    uint64_t claims[REPLICA_DEVICE_CLAIMS];
    struct uuid claimants[REPLICA_DEVICE_CLAIMS];
    unsigned claim_count;
    uint64_t *marks; /* depth by region, 0 = none */
    uint64_t tree_length;
    uint8_t tree[4096]; /* the document of the last TREE, which LAYERS gives back */
    /* for the test to look at */
    unsigned puts, gets, writes, reads;
    uint64_t last_association; /* of any request */
    uint64_t last_argument;
    uint32_t largest_get;
    uint8_t last_write_flags;
};

bool replica_device_create(struct block_graph *graph, const char *name, uint32_t block_size, uint64_t size,
                           struct block_device **ret_device);
/* NULL if the device is another kind. */
struct replica_device *replica_device_of(struct block_device *device);
/* What a SUMS of this device says of a block. */
uint64_t replica_device_sum(const struct replica_device *replica, uint64_t block, uint32_t seed);
