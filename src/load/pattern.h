/* Inside of src/load: what verified blocks contain. Pure. */
#pragma once

#include "base/bytes.h"

#define PATTERN_BLOCK 4096

/* Fills one block for (seed, device offset in bytes, version ≥ 1). */
void pattern_fill(void *block, uint64_t seed, uint64_t offset, uint32_t version);
/* The version a block holds: 0 = all zero (never written), UINT32_MAX = nothing of this seed and offset, or torn. */
uint32_t pattern_version(const void *block, uint64_t seed, uint64_t offset);
