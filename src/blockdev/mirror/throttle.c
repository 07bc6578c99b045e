/* How much the engine may do of its own accord (copying, verifying) beside its hosts' requests: at most so many bytes a second,
 * and while hosts are at work a share of the time, one piece after the other, so that they keep the rest whatever a piece costs
 * them; but of each chore at least half as many pieces a second as the share has percent, since a piece may be slow for others'
 * doing. What a host waits for is never throttled. docs/mirror.md, "Copying beside requests". */
#include "blockdev/mirror/mirror_internal.h"

#define ACTIVE_NS (20 * NS_PER_MS) /* hosts are at work so long after their last request */

static bool hosts_are_active(struct mirror *mirror) {
    struct mirror_throttle *throttle = &mirror->throttle;
    uint64_t now = reactor_now_ns(mirror->home);
    if (throttle->sequence != mirror->sequence || !list_empty(&mirror->under_way)) {
        throttle->sequence = mirror->sequence;
        throttle->active_until_ns = now + ACTIVE_NS;
    }
    return now < throttle->active_until_ns;
}

static uint64_t share_percent(const struct mirror *mirror) {
    unsigned share = mirror->throttle.rates.share_percent;
    return share == 0 ? MIRROR_SHARE_DEFAULT : share;
}

bool mirror_throttle_admits(struct mirror *mirror, enum mirror_chore chore, uint64_t *ret_until_ns) {
    struct mirror_throttle *throttle = &mirror->throttle;
    uint64_t now = reactor_now_ns(mirror->home), until = 0;
    if (hosts_are_active(mirror)) /* whoever runs wakes the others before that */
        until = min_u64(throttle->running > 0 ? UINT64_MAX : throttle->share_until_ns, throttle->due_ns[chore]);
    *ret_until_ns = max_u64(until, throttle->rate_until_ns);
    return *ret_until_ns <= now;
}

void mirror_throttle_begin(struct mirror *mirror, enum mirror_chore chore, uint64_t bytes) {
    struct mirror_throttle *throttle = &mirror->throttle;
    uint64_t now = reactor_now_ns(mirror->home);
    throttle->due_ns[chore] = now + 2 * NS_PER_S / share_percent(mirror);
    if (throttle->running++ == 0)
        throttle->began_ns = now;
    if (throttle->rates.bytes_per_s != 0)
        throttle->rate_until_ns = max_u64(throttle->rate_until_ns, now) + bytes * NS_PER_S / throttle->rates.bytes_per_s;
}

void mirror_throttle_end(struct mirror *mirror) {
    struct mirror_throttle *throttle = &mirror->throttle;
    uint64_t now = reactor_now_ns(mirror->home), share = share_percent(mirror);
    assert(throttle->running > 0);
    throttle->running--;
    /* of the time since the first of those that run together began, or since another one ended */
    throttle->share_until_ns = now + (now - throttle->began_ns) * (100 - share) / share;
    throttle->began_ns = now;
    mirror_copy_wake(mirror);
    mirror_verify_wake(mirror);
}

void mirror_throttle_set(struct mirror *mirror, const struct mirror_rates *rates) {
    mirror->throttle.rates = *rates;
    mirror->throttle.rate_until_ns = mirror->throttle.share_until_ns = 0;
    memset(mirror->throttle.due_ns, 0, sizeof(mirror->throttle.due_ns));
    mirror_copy_wake(mirror);
    mirror_verify_wake(mirror);
}
