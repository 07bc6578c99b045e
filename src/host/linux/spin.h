/* When a loop without work may keep spinning: a pure policy over ticks. See house.md, "The loop".
 * - At most SPIN_MAX_US after the last work; shorter where past pauses lasted longer than that (a spin would have been wasted).
 * - Not at all for a while where the core is contended. Two signs of that: the thread lost its core involuntarily and waited long
 *   to get it back (a kernel thread that ends a disk's request takes microseconds, and is no neighbour); or twice in a row a
 * whole spin found nothing and then, as soon as the loop slept, work came. Then the spin itself kept its peer (a client on the
 * same core) from running; and if not, what comes just after a whole spin is not worth the spin either. */
#pragma once

#include "base/bytes.h"

enum {
    SPIN_MIN_US = 10,
    SPIN_MAX_US = 100,
    SPIN_SAMPLE_US = 50,
    SPIN_STRIKES = 2,
    SPIN_WAIT_US = 50,    /* this much waiting for the core, and … */
    SPIN_WAIT_SHARE = 16, /* … this share of the time is a neighbour */
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
    uint64_t waited;          /* ticks in which the thread could run but did not, when `switches` last rose … */
    uint64_t waited_at;       /* … and when that was */
    unsigned strikes;         /* whole spins in vain just before work came */
};

void spin_init(struct spin *spin, uint64_t ticks_per_second, uint64_t now, uint64_t switches);
static inline void spin_worked(struct spin *spin, uint64_t now) { spin->last_work = now; }
/* Work came while it spun. */
static inline void spin_paid(struct spin *spin) { spin->strikes = 0; }
/* True when the caller should read the thread's involuntary switches and call spin_sample(). */
static inline bool spin_wants_sample(const struct spin *spin, uint64_t now) { return now >= spin->next_sample; }
/* `waited`: ticks that the thread ever waited for its core; looked at if the switches rose. SPIN_WAIT_UNKNOWN: any rise counts.
 */
void spin_sample(struct spin *spin, uint64_t now, uint64_t switches, uint64_t waited);
#define SPIN_WAIT_UNKNOWN UINT64_MAX
/* May the loop look again rather than sleep? */
static inline bool spin_may(const struct spin *spin, uint64_t now) {
    return now - spin->last_work < spin->window && now >= spin->contended_until;
}
/* After a sleep of `slept` ticks that ended at `now`. */
void spin_slept(struct spin *spin, uint64_t now, uint64_t slept);
