#include "host/linux/spin.h"

void spin_init(struct spin *spin, uint64_t ticks_per_second, uint64_t now, uint64_t switches) {
    *spin = (struct spin){.ticks_per_us = max_u64(ticks_per_second / 1000000, 1), .last_work = now, .switches = switches};
    spin->window = SPIN_MAX_US * spin->ticks_per_us;
    spin->hold = SPIN_HOLD_MIN_US * spin->ticks_per_us;
    spin->next_sample = now + SPIN_SAMPLE_US * spin->ticks_per_us;
}

void spin_sample(struct spin *spin, uint64_t now, uint64_t switches) {
    spin->next_sample = now + SPIN_SAMPLE_US * spin->ticks_per_us;
    if (switches != spin->switches) {
        /* Twice in a row: the neighbour stays, so we ask less often whether it has gone. */
        bool again = now < spin->contended_until + spin->hold;
        spin->hold = again && spin->contended_until != 0 ? min_u64(2 * spin->hold, SPIN_HOLD_MAX_US * spin->ticks_per_us)
                                                         : SPIN_HOLD_MIN_US * spin->ticks_per_us;
        spin->contended_until = now + spin->hold;
    }
    spin->switches = switches;
}

void spin_slept(struct spin *spin, uint64_t now, uint64_t slept) {
    spin->last_work = now;
    uint64_t longest = SPIN_MAX_US * spin->ticks_per_us;
    spin->window =
        slept <= longest ? min_u64(2 * spin->window, longest) : max_u64(spin->window / 2, SPIN_MIN_US * spin->ticks_per_us);
}
