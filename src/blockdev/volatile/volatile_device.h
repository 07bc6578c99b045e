/* The volatile device: stands on another device and keeps what is written in memory until it is flushed. When its process is
 * killed, or when it is deleted, that is gone as at a loss of power.
 *
 * What a loss leaves, all within the block contract: of the blocks written since the last flush some have reached the base
 * before, drawn from `seed`, in another order than they were written, each block by itself (a request is torn at block_size); of
 * a block that was written several times possibly an older version. The same happens when the cache is full. Trims and zeroing
 * reach the base at once. What a completed flush covered is on the base, whose own flush has completed. */
#pragma once

#include "block/device.h"

#define VOLATILE_DEVICE_CACHE_DEFAULT MIB(64)
#define VOLATILE_DEVICE_CACHE_MAX GIB(1)
#define VOLATILE_DEVICE_EARLY_DEFAULT 50

struct volatile_device_options {
    const char *name, *base_name;
    struct uuid uuid;       /* nil = random */
    uint64_t cache_bytes;   /* 0 = the default; at least 64 blocks, at most VOLATILE_DEVICE_CACHE_MAX */
    unsigned early_percent; /* of the blocks written, how many go to the base before they are flushed; 0 … 100 */
    uint64_t seed;          /* of that draw; 0 = unpredictable */
};

/* Makes and registers it; it claims its base, takes its requests on the reactor that calls, and goes with its base.
 * ERROR_NO_DEVICE without the base, ERROR_READ_ONLY on one that cannot be written, ERROR_INVALID, ERROR_EXISTS,
 * ERROR_PERMISSION, ERROR_NO_MEMORY. Control reactor, as all here. */
bool volatile_device_create(struct block_graph *graph, const struct volatile_device_options *options,
                            struct block_device **ret_device, struct error *error);
/* As block_device_remove(); what was not flushed is lost. */
bool volatile_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                            struct error *error);

struct volatile_device_facts {
    const char *base_name;
    uint64_t cache_bytes, seed;
    unsigned early_percent;
    uint64_t unflushed_bytes; /* on no disk yet */
    uint64_t early_bytes;     /* written to the base without a flush that asked for it, since it was made */
};
void volatile_device_facts(const struct block_device *device, struct volatile_device_facts *ret_facts);
/* True for a device of this kind. */
bool volatile_device_is(const struct block_device *device);
