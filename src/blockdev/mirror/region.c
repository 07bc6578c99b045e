#include "blockdev/mirror/region.h"

#include <stdlib.h>

bool regions_init(struct regions *regions, uint64_t bytes) {
    *regions = (struct regions){.count = divide_up(bytes, REGION_BYTES)};
    size_t words = max_u64(bitmap_words(regions->count), 1);
    regions->marked = calloc(words, sizeof(uint64_t));
    regions->touched = calloc(words, sizeof(uint64_t));
    regions->unequal = calloc(words, sizeof(uint64_t));
    if (regions->marked != NULL && regions->touched != NULL && regions->unequal != NULL)
        return true;
    regions_fini(regions);
    return false;
}

void regions_fini(struct regions *regions) {
    free(regions->marked);
    free(regions->touched);
    free(regions->unequal);
    *regions = (struct regions){0};
}

bool regions_resize(struct regions *regions, uint64_t bytes) {
    struct regions now;
    if (!regions_init(&now, bytes))
        return false;
    size_t words = bitmap_words(min_u64(now.count, regions->count)) * sizeof(uint64_t);
    memcpy(now.marked, regions->marked, words);
    memcpy(now.touched, regions->touched, words);
    memcpy(now.unequal, regions->unequal, words);
    uint64_t spare = bitmap_words(now.count) * 64 - now.count;
    if (spare > 0) { /* of the last word */
        bitmap_clear_range(now.marked, now.count, spare);
        bitmap_clear_range(now.touched, now.count, spare);
        bitmap_clear_range(now.unequal, now.count, spare);
    }
    now.marked_count = bitmap_count(now.marked, now.count);
    now.unequal_count = bitmap_count(now.unequal, now.count);
    now.hand = regions->hand < now.count ? regions->hand : 0;
    regions_fini(regions);
    *regions = now;
    return true;
}

void regions_forget(struct regions *regions) {
    size_t bytes = bitmap_words(regions->count) * sizeof(uint64_t);
    memset(regions->marked, 0, bytes);
    memset(regions->touched, 0, bytes);
    memset(regions->unequal, 0, bytes);
    regions->marked_count = regions->unequal_count = 0;
}

void regions_touch_slow(struct regions *regions, uint64_t first, uint64_t last) {
    assert(last < regions->count);
    for (uint64_t region = first; region <= last; region++) {
        regions->marked_count += !bitmap_test(regions->marked, region);
        bitmap_set(regions->marked, region);
        bitmap_set(regions->touched, region);
    }
}

void regions_add_marks(struct regions *regions, uint64_t first, const uint64_t *bits, uint64_t bit_count) {
    for (uint64_t bit = 0; (bit = bitmap_find_set(bits, bit_count, bit)) < bit_count; bit++)
        if (first + bit < regions->count)
            regions_touch_slow(regions, first + bit, first + bit);
}

void regions_unequal_add(struct regions *regions, uint64_t first, uint64_t last) {
    assert(last < regions->count);
    for (uint64_t region = first; region <= last; region++) {
        regions->unequal_count += !bitmap_test(regions->unequal, region);
        bitmap_set(regions->unequal, region);
    }
}

void regions_unequal_remove(struct regions *regions, uint64_t region) {
    if (!bitmap_test(regions->unequal, region))
        return;
    bitmap_clear(regions->unequal, region);
    regions->unequal_count--;
}

uint64_t regions_unequal_in(const struct regions *regions, uint64_t offset, uint64_t length) {
    if (likely(regions->unequal_count == 0))
        return UINT64_MAX;
    uint64_t last = region_last(offset, length), region = bitmap_find_set(regions->unequal, last + 1, region_first(offset));
    return region <= last ? region : UINT64_MAX;
}

void regions_round_begin(struct regions *regions) {
    memset(regions->touched, 0, bitmap_words(regions->count) * sizeof(uint64_t));
}

bool regions_is_idle(const struct regions *regions, uint64_t region) {
    return bitmap_test(regions->marked, region) && !bitmap_test(regions->touched, region) &&
           !bitmap_test(regions->unequal, region);
}

uint64_t regions_next_idle(struct regions *regions, uint64_t *left) {
    while (*left > 0) {
        if (regions->hand >= regions->count)
            regions->hand = 0;
        uint64_t end = min_u64(regions->count, regions->hand + *left);
        uint64_t region = bitmap_find_set(regions->marked, end, regions->hand);
        *left -= min_u64(*left, region - regions->hand + (region < end));
        regions->hand = region + (region < end);
        if (region < end && regions_is_idle(regions, region))
            return region;
    }
    return UINT64_MAX;
}

void regions_cleared(struct regions *regions, uint64_t region) {
    assert(bitmap_test(regions->marked, region));
    bitmap_clear(regions->marked, region);
    regions->marked_count--;
}
