/* The delay device: stands on another device and lets each request wait after it is done, to see what slow disks do to those
 * above. One request in a hundred, drawn, waits the p99 time, the others the average. Reads and compares take the read times, all
 * else the write times. */
#pragma once

#include "block/device.h"

enum delay_latency { DELAY_AVG_READ, DELAY_P99_READ, DELAY_AVG_WRITE, DELAY_P99_WRITE, DELAY_LATENCY_COUNT };
#define DELAY_LATENCY_US_MAX (UINT64_C(3600) * 1000000)

struct delay_device_options {
    const char *name, *base_name;
    struct uuid uuid;                         /* nil = random */
    uint64_t latency_us[DELAY_LATENCY_COUNT]; /* at most DELAY_LATENCY_US_MAX */
    uint64_t seed;                            /* of the draw; 0 = unpredictable */
};

/* Makes and registers it; it claims its base. ERROR_NO_DEVICE without the base, ERROR_INVALID for a latency, ERROR_EXISTS,
 * ERROR_PERMISSION. It goes with its base. Control reactor, as all here. */
bool delay_device_create(struct block_graph *graph, const struct delay_device_options *options, struct block_device **ret_device,
                         struct error *error);
/* As block_device_remove(); requests that wait still wait their time out. */
bool delay_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error);
/* Changes one time, for requests that complete from now on. */
bool delay_device_set_latency(struct block_device *device, enum delay_latency which, uint64_t latency_us, struct error *error);
uint64_t delay_device_latency_us(const struct block_device *device, enum delay_latency which);
/* The device it stands on. */
struct block_device *delay_device_base(const struct block_device *device);
/* True for a device of this kind. */
bool delay_device_is(const struct block_device *device);
