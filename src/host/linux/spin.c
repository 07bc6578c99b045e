#include "host/linux/spin.h"

void spin_init(struct spin *spin, uint64_t ticks_per_second, uint64_t now, uint64_t switches) {
    *spin = (struct spin){
        .ticks_per_us = max_u64(ticks_per_second / 1000000, 1), .last_work = now, .switches = switches, .waited_at = now};
    spin->window = SPIN_MAX_US * spin->ticks_per_us;
    spin->hold = SPIN_HOLD_MIN_US * spin->ticks_per_us;
    spin->next_sample = now + SPIN_SAMPLE_US * spin->ticks_per_us;
}

/* Again soon after the last time: the neighbour stays, so we ask less often whether it has gone. */
static void contended(struct spin *spin, uint64_t now) {
    bool again = spin->contended_until != 0 && now < spin->contended_until + spin->hold;
    spin->hold = (again ? min_u64(2 * spin->hold / spin->ticks_per_us, SPIN_HOLD_MAX_US) : SPIN_HOLD_MIN_US) * spin->ticks_per_us;
    spin->contended_until = now + spin->hold;
    spin->strikes = 0;
}

void spin_sample(struct spin *spin, uint64_t now, uint64_t switches, uint64_t waited) {
    spin->next_sample = now + SPIN_SAMPLE_US * spin->ticks_per_us;
    if (switches == spin->switches)
        return;
    uint64_t wait = waited - spin->waited, shared = SPIN_WAIT_US * spin->ticks_per_us;
    if (waited == SPIN_WAIT_UNKNOWN || (wait >= shared && wait >= (now - spin->waited_at) / SPIN_WAIT_SHARE))
        contended(spin, now);
    spin->switches = switches;
    spin->waited = waited;
    spin->waited_at = now;
}

void spin_slept(struct spin *spin, uint64_t now, uint64_t slept) {
    uint64_t longest = SPIN_MAX_US * spin->ticks_per_us, began = now - slept, pause = now - spin->last_work;
    bool spun_in_vain = began - spin->last_work >= longest && began >= spin->contended_until;
    spin->last_work = now;
    if (pause <= longest) {
        spin->window = min_u64(2 * spin->window, longest);
    } else if (spun_in_vain && slept < longest / 2) {
        if (++spin->strikes >= SPIN_STRIKES)
            contended(spin, now);
    } else {
        spin->strikes = 0;
        spin->window = max_u64(spin->window / 2, SPIN_MIN_US * spin->ticks_per_us);
    }
}
