/* The memory device: a RAM disk. Pages are taken from the system when they are first written. */
#pragma once

#include "block/device.h"

struct memory_device_options {
    const char *name;
    struct uuid uuid;                         /* nil = random */
    uint32_t block_size, physical_block_size; /* bytes; physical 0 = block_size */
    uint64_t block_count;
    uint32_t optimal_io_blocks; /* 0 = none */
};

/* Makes and registers it; block_device_remove() frees it. Control reactor. */
bool memory_device_create(struct block_graph *graph, const struct memory_device_options *options,
                          struct block_device **ret_device, struct error *error);
/* True for a device of this kind. */
bool memory_device_is(const struct block_device *device);
