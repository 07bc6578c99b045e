#include "base/bitmap.h"

/* Bits [from, to) of one word, to ≤ 64. */
static uint64_t word_mask(unsigned from, unsigned to) {
    uint64_t high = to == 64 ? UINT64_MAX : (UINT64_C(1) << to) - 1;
    return high & ~((UINT64_C(1) << from) - 1);
}

void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count) {
    for (uint64_t end = first + count; first < end;) {
        uint64_t stop = min_u64(round_down(first, 64) + 64, end);
        map[first >> 6] |= word_mask((unsigned)(first & 63), (unsigned)(stop - round_down(first, 64)));
        first = stop;
    }
}

void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count) {
    for (uint64_t end = first + count; first < end;) {
        uint64_t stop = min_u64(round_down(first, 64) + 64, end);
        map[first >> 6] &= ~word_mask((unsigned)(first & 63), (unsigned)(stop - round_down(first, 64)));
        first = stop;
    }
}

static uint64_t find(const uint64_t *map, uint64_t bits, uint64_t from, uint64_t flip) {
    if (from >= bits)
        return bits;
    uint64_t word = (map[from >> 6] ^ flip) & ~((UINT64_C(1) << (from & 63)) - 1);
    for (uint64_t index = from >> 6;;) {
        if (word != 0)
            return min_u64(index * 64 + (unsigned)__builtin_ctzll(word), bits);
        if (++index * 64 >= bits)
            return bits;
        word = map[index] ^ flip;
    }
}

uint64_t bitmap_find_set(const uint64_t *map, uint64_t bits, uint64_t from) { return find(map, bits, from, 0); }
uint64_t bitmap_find_clear(const uint64_t *map, uint64_t bits, uint64_t from) { return find(map, bits, from, UINT64_MAX); }

uint64_t bitmap_count(const uint64_t *map, uint64_t bits) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < bits / 64; i++)
        count += (unsigned)__builtin_popcountll(map[i]);
    if (bits % 64 != 0)
        count += (unsigned)__builtin_popcountll(map[bits / 64] & word_mask(0, (unsigned)(bits % 64)));
    return count;
}
