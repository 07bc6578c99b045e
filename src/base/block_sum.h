/* Checksums by which the legs of a mirror compare what they hold: XXH3 of a block's bytes, its position and a seed in it, so that
 * blocks that changed places differ. Not against forgery. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* `block`: the block's number; `seed`: of one comparison, so that two that collided do not collide again. */
uint64_t block_sum(const void *bytes, size_t length, uint64_t block, uint32_t seed);
