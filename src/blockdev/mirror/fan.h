/* One question, or one write, to several legs at once, for work that the engine does of its own accord (verify, repair): who
 * counts is noted when the work begins, and goes on when all have answered. Requests of hosts have their own way (io.c).
 *
 * Calling context: the home reactor. No allocation. */
#pragma once

#include "blockdev/mirror/mirror_internal.h"

struct mirror_fan;
struct mirror_fan_request {
    struct block_request request;
    struct slice slice;
    struct mirror_fan *fan;
};

struct mirror_fan {
    struct mirror *mirror;
    struct mirror_fan_request requests[MIRROR_LEGS_MAX];
    mirror_mask legs;                      /* those who count */
    uint32_t generations[MIRROR_LEGS_MAX]; /* of them, when the work began */
    mirror_mask bad;                       /* of the last round: an error that did not cost the leg */
    mirror_mask passing;                   /* of those: for lack of memory, say; it may be asked again */
    unsigned waiting;
    struct reactor_job job;
    void (*then)(struct mirror_fan *fan);
};

void mirror_fan_init(struct mirror_fan *fan, struct mirror *mirror);
/* A piece of work begins; nothing is under way. */
void mirror_fan_begin(struct mirror_fan *fan, mirror_mask legs);
/* Those who still count: never lost since the beginning. */
mirror_mask mirror_fan_there(const struct mirror_fan *fan);
/* A round: any number of sends, at most one to each leg that is there, then mirror_fan_wait(), which calls `then` from the loop
 * when all are answered (also if there were none). */
void mirror_fan_round(struct mirror_fan *fan);
/* offset, length: of the leg's data; `bytes` get or hold them, or for SUMS a u64 for each block. */
void mirror_fan_send(struct mirror_fan *fan, struct mirror_leg *leg, enum block_op op, uint64_t argument, uint64_t offset,
                     void *bytes, uint64_t length);
void mirror_fan_wait(struct mirror_fan *fan, void (*then)(struct mirror_fan *fan));
