/* What penstock-bench measures: a device made from a text. */
#pragma once

#include "blockdev/volume/volume.h"

#define TARGET_HELP                                                                                                              \
    "DEVICE is one of\n"                                                                                                         \
    "  null:SIZE          requests succeed at once\n"                                                                            \
    "  memory:SIZE        a RAM disk\n"                                                                                          \
    "  file:PATH          a file or block device, directly accessed where it can be\n"                                           \
    "  buffered:PATH      the same through the page cache\n"                                                                     \
    "  volume:DEVICE      a thin volume over most of one of these; a blank disk gets a store\n"

struct target {
    struct block_graph *graph;
    struct reactor *control, *data; /* this one's, and the first of those that submit */
    uint32_t block_size;
    struct block_device *device; /* the result */
    void (*done)(struct target *target, bool ok, const struct error *error);
    void *arg;

    /* target.c's, for volume: */
    bool volume;
    struct block_device *base; /* under the volume */
    struct volume_store *store;
    struct volume_command close;
    void (*closed)(struct target *target);
};

/* Makes the device that `spec` describes, then calls done (from the loop). Control reactor. */
void target_open(struct target *target, const char *spec);
/* Takes it away again; `closed` may be called from inside. */
void target_close(struct target *target, void (*closed)(struct target *target));
