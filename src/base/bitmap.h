/* Bit arrays over uint64_t words, bit 0 is the least significant of word 0. The memory is the caller's. Pure. */
#pragma once

#include "base/bytes.h"

static inline size_t bitmap_words(uint64_t bits) { return (size_t)divide_up(bits, 64); }
static inline bool bitmap_test(const uint64_t *map, uint64_t bit) { return (map[bit >> 6] >> (bit & 63)) & 1; }
static inline void bitmap_set(uint64_t *map, uint64_t bit) { map[bit >> 6] |= UINT64_C(1) << (bit & 63); }
static inline void bitmap_clear(uint64_t *map, uint64_t bit) { map[bit >> 6] &= ~(UINT64_C(1) << (bit & 63)); }

/* Sets or clears `count` bits from `first`. */
void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count);
void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count);
/* First set (clear) bit at or after `from`, or `bits` if there is none. */
uint64_t bitmap_find_set(const uint64_t *map, uint64_t bits, uint64_t from);
uint64_t bitmap_find_clear(const uint64_t *map, uint64_t bits, uint64_t from);
/* Number of set bits in [0, bits). */
uint64_t bitmap_count(const uint64_t *map, uint64_t bits);
