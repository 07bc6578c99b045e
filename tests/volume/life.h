/* What becomes of a disk from one life of a store to the next: closed, cut from power, killed. */
#pragma once

#include "driver.h"

enum life_end {
    LIFE_CLOSE, /* cleanly */
    LIFE_CUT,   /* power fails at the end of the log, or a little earlier */
    LIFE_KILL,  /* the process dies, the disk's cache does not */
    LIFE_ENDS
};

struct life {
    const struct workload *workload;
    struct disk_image image; /* what the next life finds on the medium */
    struct disk *cache;      /* the log that holds what is in the disk's cache; NULL = nothing */
    uint32_t *cached;        /* indices of its writes */
    uint32_t cached_count;
    struct model model;     /* what is expected */
    struct model_view view; /* … at the moment of the end */
    bool all;               /* closed cleanly: nothing at all may be missing */
    uint64_t lives, operations, ends[LIFE_ENDS];
    char failure[768];
};

/* Formats a disk and makes the workload's volumes. */
bool life_begin(struct life *life, const struct workload *workload, uint64_t seed);
/* One life: opens, compares, checks, goes on for `operations`, ends. False: failure. */
bool life_go_on(struct life *life, uint64_t seed, unsigned operations, enum life_end end);
void life_fini(struct life *life);
/* A random seed's survival of the writes outstanding at the cursor. */
void life_survival(struct random *random, const struct disk_cursor *cursor, struct disk_keep *keep);
