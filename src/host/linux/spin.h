/* When a loop without work may keep spinning: a pure policy over ticks. See house.md, "The loop".
 * - At most SPIN_MAX_US after the last work; shorter where past pauses lasted longer than that (a spin would have been wasted).
 * - Not at all for a while where the core is contended. Two signs of that: the thread lost its core involuntarily; or twice in a
 *   row a whole spin found nothing and then, as soon as the loop slept, work came. Then the spin itself kept its peer (a client
 *   on the same core) from running; and if not, what comes just after a whole spin is not worth the spin either. */
#pragma once

#include "base/bytes.h"

enum {
    SPIN_MIN_US = 10,
    SPIN_MAX_US = 100,
    SPIN_SAMPLE_US = 50,
    SPIN_STRIKES = 2,
    SPIN_HOLD_MIN_US = 1000,
    SPIN_HOLD_MAX_US = 64000
};

struct spin {
    uint64_t ticks_per_us;
    uint64_t window;    /* ticks after the last work */
    uint64_t last_work; /* ticks; also the last wake-up */
    uint64_t next_sample;
    uint64_t hold;            /* how long contention keeps from spinning, ticks */
    uint64_t contended_until; /* ticks */
    uint64_t switches;        /* involuntary ones at the last sample */
    unsigned strikes;         /* whole spins in vain just before work came */
};

void spin_init(struct spin *spin, uint64_t ticks_per_second, uint64_t now, uint64_t switches);
static inline void spin_worked(struct spin *spin, uint64_t now) { spin->last_work = now; }
/* True when the caller should read the thread's involuntary switches and call spin_sample(). */
static inline bool spin_wants_sample(const struct spin *spin, uint64_t now) { return now >= spin->next_sample; }
void spin_sample(struct spin *spin, uint64_t now, uint64_t switches);
/* May the loop look again rather than sleep? */
static inline bool spin_may(const struct spin *spin, uint64_t now) {
    return now - spin->last_work < spin->window && now >= spin->contended_until;
}
/* After a sleep of `slept` ticks that ended at `now`. */
void spin_slept(struct spin *spin, uint64_t now, uint64_t slept);
