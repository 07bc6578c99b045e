/* Copies that are given up: a leg that was away for too long, so that its marks need not be kept for it, and one that an operator
 * does not trust. Its leg id goes, so that it can only come back as a new leg, which is copied as a whole. docs/mirror.md,
 * "Marks". */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

#define LOOK_NS NS_PER_S

static bool is_away(const struct mirror *mirror, const struct mirror_leg *leg) {
    return mirror_leg_counts(leg) && !leg->tie_breaker && !leg->removing && !leg->renewing && leg->wishes == 0 &&
           (leg->config.flags & REPLICA_LEG_BLANK) == 0 && (mirror->standing & leg->bit) == 0 && !mirror_leg_is_up(leg);
}

static void look(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, give_up_timer);
    uint64_t now = reactor_now_ns(mirror->home);
    mirror_for_each_leg(mirror, leg) {
        if (mirror->state != MIRROR_SERVING || !is_away(mirror, leg)) {
            leg->away_ns = 0;
            continue;
        }
        if (leg->away_ns == 0)
            leg->away_ns = now;
        if (now - leg->away_ns < mirror->give_up_ns)
            continue;
        (void)mirror_leg_renew(leg);
        snprintf(leg->told.why, sizeof(leg->told.why), "away for more than %llu s: it will be copied as a whole",
                 (unsigned long long)(mirror->give_up_ns / NS_PER_S));
    }
    mirror_give_up_begin(mirror);
}

void mirror_give_up_begin(struct mirror *mirror) {
    if (mirror->give_up_ns == 0 || mirror->closing)
        return;
    mirror->give_up_timer.run = look;
    reactor_timer_start(mirror->home, &mirror->give_up_timer,
                        reactor_now_ns(mirror->home) + min_u64(LOOK_NS, mirror->give_up_ns / 4 + 1));
}

uint64_t mirror_leg_renew(struct mirror_leg *leg) {
    leg->renewing = true;
    leg->faulted = false;
    leg->faults = 0;
    return leg->renewed = mirror_config_wish(leg, WISH_RENEW);
}
