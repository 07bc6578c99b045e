#include "base/histogram.h"

void histogram_init(struct histogram *h) { memset(h, 0, sizeof(*h)); }

void histogram_merge(struct histogram *into, const struct histogram *from) {
    if (from->count == 0)
        return;
    into->min = into->count == 0 ? from->min : min_u64(into->min, from->min);
    into->max = max_u64(into->max, from->max);
    into->count += from->count;
    into->sum += from->sum;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* Largest value that falls into a bucket. */
static uint64_t bucket_top(unsigned bucket) {
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    return ((((uint64_t)HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) + 1) << shift) - 1;
}

uint64_t histogram_percentile(const struct histogram *h, unsigned per_ten_thousand) {
    if (h->count == 0)
        return 0;
    uint64_t wanted = (uint64_t)divide_up(h->count * per_ten_thousand, 10000), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if ((seen += h->buckets[i]) >= wanted)
            return min_u64(bucket_top(i), h->max);
    return h->max;
}

uint64_t histogram_mean(const struct histogram *h) { return h->count == 0 ? 0 : h->sum / h->count; }
