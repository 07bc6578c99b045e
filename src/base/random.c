#include "base/random.h"

#include <string.h>

static uint64_t rotate_left(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

void random_init(struct random *random, uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* splitmix64, as xoshiro's authors advise */
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        random->state[i] = z ^ (z >> 31);
    }
}

uint64_t random_u64(struct random *random) {
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound) {
    return (uint64_t)(((unsigned __int128)random_u64(random) * bound) >> 64);
}

bool random_chance(struct random *random, uint64_t numerator, uint64_t denominator) {
    return random_below(random, denominator) < numerator;
}

void random_fill(struct random *random, void *to, size_t length) {
    for (char *p = to; length > 0;) {
        uint64_t value = random_u64(random);
        size_t n = length < 8 ? length : 8;
        memcpy(p, &value, n);
        p += n;
        length -= n;
    }
}
