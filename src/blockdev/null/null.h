/* The null device: every request succeeds at once, reads leave the buffers as they are. For measuring what stands above it. */
#pragma once

#include "block/device.h"

struct null_device_options {
    const char *name;
    struct uuid uuid;                         /* nil = random */
    uint32_t block_size, physical_block_size; /* bytes; physical 0 = block_size */
    uint64_t block_count;
};

/* Makes and registers it; block_device_remove() frees it. Control reactor. */
bool null_device_create(struct block_graph *graph, const struct null_device_options *options, struct block_device **ret_device,
                        struct error *error);
/* True for a device of this kind. */
bool null_device_is(const struct block_device *device);
