#include "load/pattern.h"

#include "base/hash_map.h"

#define SECTOR 512
#define WORDS (SECTOR / 8)

static void fill_sector(uint64_t words[WORDS], uint64_t seed, uint64_t offset, uint32_t version) {
    uint64_t value = hash_u64(seed ^ hash_u64(offset)) + version;
    words[0] = seed;
    words[1] = offset;
    words[2] = version;
    for (unsigned i = 3; i < WORDS; i++)
        words[i] = value * (2 * i + 1);
}

void pattern_fill(void *block, uint64_t seed, uint64_t offset, uint32_t version) {
    for (unsigned at = 0; at < PATTERN_BLOCK; at += SECTOR) {
        uint64_t words[WORDS];
        fill_sector(words, seed, offset + at, version);
        memcpy((char *)block + at, words, SECTOR);
    }
}

uint32_t pattern_version(const void *block, uint64_t seed, uint64_t offset) {
    uint64_t version = get_le64((const char *)block + 16), zero = 0;
    if (version == 0) {
        for (unsigned at = 0; at < PATTERN_BLOCK; at += 8)
            zero |= get_le64((const char *)block + at);
        return zero == 0 ? 0 : UINT32_MAX;
    }
    if (version >= UINT32_MAX)
        return UINT32_MAX;
    for (unsigned at = 0; at < PATTERN_BLOCK; at += SECTOR) {
        uint64_t words[WORDS];
        fill_sector(words, seed, offset + at, (uint32_t)version);
        if (memcmp((const char *)block + at, words, SECTOR) != 0)
            return UINT32_MAX;
    }
    return (uint32_t)version;
}
