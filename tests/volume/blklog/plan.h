/* What the recorded run writes, from nothing but the number of a batch: the writer does it, the checker expects it. A batch is a
 * few writes and trims that do not overlap, a FLUSH of each volume, now and then a snapshot or the deletion of one, and then the
 * marker: one block of the marker volume with the batch's number, flushed. So whoever sees marker m must see all of batch m. */
#pragma once

#include "base/bytes.h"
#include "base/random.h"
#include "base/uuid.h"

#define PLAN_BATCHES 160
#define PLAN_VOLUMES 3
#define PLAN_REGIONS 8
#define PLAN_REGION_BLOCKS 24
#define PLAN_BLOCKS (PLAN_REGIONS * PLAN_REGION_BLOCKS)
#define PLAN_MARKER PLAN_VOLUMES /* number of the marker volume */
#define PLAN_DISK_BYTES MIB(48)
#define PLAN_SNAPSHOT_EVERY 16

struct plan_operation {
    unsigned volume;
    uint32_t block, count;
    bool trim;
};
struct plan_batch {
    struct plan_operation operations[PLAN_REGIONS];
    bool snapshot, drop; /* of `volume`: made in this batch; the oldest one deleted */
    unsigned volume;
    uint32_t dropped_batch; /* the batch that made the one that is deleted */
};

/* Batches count from 1. */
static inline void plan_batch(uint32_t number, struct plan_batch *ret_batch) {
    struct random random;
    random_init(&random, number);
    for (unsigned i = 0; i < PLAN_REGIONS; i++) {
        uint32_t first = (uint32_t)random_below(&random, PLAN_REGION_BLOCKS), count = 1 + (uint32_t)random_below(&random, 10);
        ret_batch->operations[i] = (struct plan_operation){
            .volume = (unsigned)random_below(&random, PLAN_VOLUMES),
            .block = i * PLAN_REGION_BLOCKS + first,
            .count = min_u32(count, PLAN_REGION_BLOCKS - first),
            .trim = random_chance(&random, 1, 6),
        };
    }
    ret_batch->volume = number / PLAN_SNAPSHOT_EVERY % PLAN_VOLUMES;
    ret_batch->snapshot = number % PLAN_SNAPSHOT_EVERY == 0;
    ret_batch->drop = number % PLAN_SNAPSHOT_EVERY == PLAN_SNAPSHOT_EVERY / 2 && number >= 5 * PLAN_SNAPSHOT_EVERY / 2;
    ret_batch->dropped_batch = number - PLAN_SNAPSHOT_EVERY / 2 - PLAN_SNAPSHOT_EVERY;
}

/* What a block holds: who it is and which batch wrote it, all over. */
static inline void plan_fill(void *block, unsigned volume, uint32_t number, uint32_t batch) {
    for (unsigned at = 0; at < 4096; at += 16) {
        put_le32((char *)block + at, 0x6b6c6221);
        put_le32((char *)block + at + 4, volume);
        put_le32((char *)block + at + 8, number);
        put_le32((char *)block + at + 12, batch);
    }
}

/* Volumes are numbered from 0; a snapshot is 100 + its batch. */
static inline void plan_uuid(unsigned number, struct uuid *ret_uuid) {
    *ret_uuid = (struct uuid){.bytes = {[0] = 0xb1, [6] = 0x40, [8] = 0x80}};
    put_be32(ret_uuid->bytes + 12, number + 1);
}
