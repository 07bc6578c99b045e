#include "block/stats.h"

#include "block/device.h"

static void add(struct block_stats_sum *sum, const struct block_stats *stats) {
    for (unsigned i = 0; i < BLOCK_STATS_COLUMNS; i++) {
        const struct block_stats_op *op = &stats->ops[i];
        sum->ops[i].count += atomic_load_explicit(&op->count, memory_order_relaxed);
        sum->ops[i].bytes += atomic_load_explicit(&op->bytes, memory_order_relaxed);
        sum->ops[i].ticks += atomic_load_explicit(&op->ticks, memory_order_relaxed);
        sum->ops[i].ticks_min = min_u64(sum->ops[i].ticks_min, atomic_load_explicit(&op->ticks_min, memory_order_relaxed));
        sum->ops[i].ticks_max = max_u64(sum->ops[i].ticks_max, atomic_load_explicit(&op->ticks_max, memory_order_relaxed));
    }
    for (unsigned i = 0; i < IO_STATUS_COUNT; i++)
        sum->errors[i] += atomic_load_explicit(&stats->errors[i], memory_order_relaxed);
    sum->bounced += atomic_load_explicit(&stats->bounced, memory_order_relaxed);
    sum->emulated += atomic_load_explicit(&stats->emulated, memory_order_relaxed);
    sum->forwarded += atomic_load_explicit(&stats->forwarded, memory_order_relaxed);
}

static void begin(struct block_stats_sum *sum) {
    *sum = (struct block_stats_sum){0};
    for (unsigned i = 0; i < BLOCK_STATS_COLUMNS; i++)
        sum->ops[i].ticks_min = UINT64_MAX;
}

/* No request yet: the minimum is 0, not infinity. */
static void end(struct block_stats_sum *sum) {
    for (unsigned i = 0; i < BLOCK_STATS_COLUMNS; i++)
        if (sum->ops[i].ticks_min == UINT64_MAX)
            sum->ops[i].ticks_min = 0;
}

void block_stats_sum(const struct block_device *device, struct block_stats_sum *ret_sum) {
    begin(ret_sum);
    for (unsigned i = 0; i < device->graph->reactor_count; i++)
        add(ret_sum, &device->stats[i]);
    end(ret_sum);
}

bool block_stats_of_reactor(const struct block_device *device, unsigned reactor_index, struct block_stats_sum *ret_sum) {
    if (reactor_index >= device->graph->reactor_count)
        return false;
    begin(ret_sum);
    add(ret_sum, &device->stats[reactor_index]);
    end(ret_sum);
    return true;
}

void block_stats_add_up(const struct block_stats_sum *shares, unsigned count, struct block_stats_sum *ret_sum) {
    begin(ret_sum);
    for (unsigned share = 0; share < count; share++) {
        const struct block_stats_sum *from = &shares[share];
        for (unsigned i = 0; i < BLOCK_STATS_COLUMNS; i++) {
            struct block_stats_op_sum *to = &ret_sum->ops[i];
            to->count += from->ops[i].count;
            to->bytes += from->ops[i].bytes;
            to->ticks += from->ops[i].ticks;
            to->ticks_max = max_u64(to->ticks_max, from->ops[i].ticks_max);
            if (from->ops[i].ticks_max > 0) /* a share without requests has no minimum */
                to->ticks_min = min_u64(to->ticks_min, from->ops[i].ticks_min);
        }
        for (unsigned i = 0; i < IO_STATUS_COUNT; i++)
            ret_sum->errors[i] += from->errors[i];
        ret_sum->bounced += from->bounced;
        ret_sum->emulated += from->emulated;
        ret_sum->forwarded += from->forwarded;
    }
    end(ret_sum);
}

static void set(_Atomic uint64_t *counter, uint64_t value) { atomic_store_explicit(counter, value, memory_order_relaxed); }

void block_stats_reset_reactor(const struct block_device *device, unsigned reactor_index, enum block_stats_reset reset) {
    struct block_stats *stats = &device->stats[reactor_index];
    bool all = reset == BLOCK_STATS_RESET_ALL;
    for (unsigned i = 0; i < BLOCK_STATS_COLUMNS && (all || reset == BLOCK_STATS_RESET_MAXMIN); i++) {
        set(&stats->ops[i].ticks_min, UINT64_MAX);
        set(&stats->ops[i].ticks_max, 0);
    }
    for (unsigned i = 0; i < BLOCK_STATS_COLUMNS && all; i++) {
        set(&stats->ops[i].count, 0);
        set(&stats->ops[i].bytes, 0);
        set(&stats->ops[i].ticks, 0);
    }
    for (unsigned i = 0; i < IO_STATUS_COUNT && (all || reset == BLOCK_STATS_RESET_ERROR); i++)
        set(&stats->errors[i], 0);
    if (!all)
        return;
    set(&stats->bounced, 0);
    set(&stats->emulated, 0);
    set(&stats->forwarded, 0);
}
