/* Statistics of one device on one reactor: written by that reactor alone, read by any thread; relaxed atomics cost it nothing. */
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"
#include "block/io_status.h"

/* Columns of struct block_stats: operations that are counted apart. COMPARE counts as a read, WRITE_ZEROES and FLUSH by
 * themselves. */
enum block_stats_column {
    BLOCK_STATS_READ,
    BLOCK_STATS_WRITE,
    BLOCK_STATS_TRIM,
    BLOCK_STATS_ZEROES,
    BLOCK_STATS_FLUSH,
    BLOCK_STATS_REPLICA, /* what a mirror asks of its leg */
    BLOCK_STATS_COLUMNS
};

struct block_stats_op {
    _Atomic uint64_t count, bytes, ticks, ticks_min, ticks_max;
};
struct block_stats {
    struct block_stats_op ops[BLOCK_STATS_COLUMNS];
    _Atomic uint64_t errors[IO_STATUS_COUNT];
    _Atomic uint64_t bounced;   /* requests whose memory was not aligned as the device needs it */
    _Atomic uint64_t emulated;  /* operations the device lacks */
    _Atomic uint64_t forwarded; /* came from a reactor that is not the device's home */
} __attribute__((aligned(64)));

/* Single-writer increment. */
static inline void block_stats_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* A plain copy, summed over reactors. */
struct block_stats_op_sum {
    uint64_t count, bytes, ticks, ticks_min, ticks_max;
};
struct block_stats_sum {
    struct block_stats_op_sum ops[BLOCK_STATS_COLUMNS];
    uint64_t errors[IO_STATUS_COUNT];
    uint64_t bounced, emulated, forwarded;
};

struct block_device;
/* Any thread. */
void block_stats_sum(const struct block_device *device, struct block_stats_sum *ret_sum);
/* One reactor's share; false if the index is too large. */
bool block_stats_of_reactor(const struct block_device *device, unsigned reactor_index, struct block_stats_sum *ret_sum);
/* Adds the shares of all reactors up. Pure. */
void block_stats_add_up(const struct block_stats_sum *shares, unsigned count, struct block_stats_sum *ret_sum);

enum block_stats_reset {
    BLOCK_STATS_RESET_NONE,
    BLOCK_STATS_RESET_ALL,
    BLOCK_STATS_RESET_MAXMIN, /* longest and shortest times */
    BLOCK_STATS_RESET_ERROR   /* counts of failures */
};
/* Sets one reactor's share to zero: on that reactor alone. */
void block_stats_reset_reactor(const struct block_device *device, unsigned reactor_index, enum block_stats_reset reset);
