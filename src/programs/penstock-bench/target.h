/* What penstock-bench measures: a device made from a text. */
#pragma once

#include "block/device.h"

#define TARGET_HELP                                                                                                              \
    "DEVICE is one of\n"                                                                                                         \
    "  null:SIZE          requests succeed at once\n"                                                                            \
    "  memory:SIZE        a RAM disk\n"                                                                                          \
    "  file:PATH          a file or block device, directly accessed where it can be\n"                                           \
    "  buffered:PATH      the same through the page cache\n"

struct target {
    struct block_graph *graph;
    struct reactor *control, *data; /* this one's, and the first of those that submit */
    uint32_t block_size;
    struct block_device *device; /* the result */
    void (*done)(struct target *target, bool ok, const struct error *error);
    void *arg;
};

/* Makes the device that `spec` describes, then calls done (from the loop). Control reactor. */
void target_open(struct target *target, const char *spec);
