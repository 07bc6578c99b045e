/* Seeded pseudo-random numbers (xoshiro256**): simulation, load generation, jitter. Not for secrets: those come from
 * host_random(). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

/* Equal seeds give equal sequences, on every machine. */
void random_init(struct random *random, uint64_t seed);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound), bound > 0, without modulo bias worth speaking of. */
uint64_t random_below(struct random *random, uint64_t bound);
/* True with probability numerator / denominator. */
bool random_chance(struct random *random, uint64_t numerator, uint64_t denominator);
void random_fill(struct random *random, void *to, size_t length);
