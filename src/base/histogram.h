/* Latency histogram: log-linear, 64 steps per power of two (error below 1.6 %), fixed memory, for percentiles. Pure; one writer.
 */
#pragma once

#include "base/bytes.h"

#define HISTOGRAM_STEPS 64
#define HISTOGRAM_BUCKETS ((64 - 6 + 1) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count, sum, min, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value) {
    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned shift = 63 - 6 - (unsigned)__builtin_clzll(value);
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)((value >> shift) & (HISTOGRAM_STEPS - 1));
}
static inline void histogram_add(struct histogram *h, uint64_t value) {
    h->buckets[histogram_bucket(value)]++;
    h->sum += value;
    if (h->count++ == 0 || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

void histogram_init(struct histogram *h);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value below which `per_ten_thousand` of all values lie (9990 = p99.9), as the bucket's upper bound; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, unsigned per_ten_thousand);
uint64_t histogram_mean(const struct histogram *h);
