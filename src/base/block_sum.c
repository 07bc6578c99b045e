#include "base/block_sum.h"

#include <xxhash.h>

uint64_t block_sum(const void *bytes, size_t length, uint64_t block, uint32_t seed) {
    return XXH3_64bits_withSeed(bytes, length, (block << 24 ^ seed) * UINT64_C(0x9e3779b97f4a7c15));
}
