/* Which leg a read is asked of. Legs whose reads take about as long as those of the quickest one count (a leg on this node does,
 * one behind a network does not until the near one has much to do); among them, each keeps to its own regions while none is much
 * busier than the others, so that what they cache is not the same twice. Measured, not configured. Must not know requests. */
#include "blockdev/mirror/mirror_internal.h"

#define NEAR_NS (20 * NS_PER_US)
#define PROBE 1024 /* one read of so many goes to a leg that does not count, to hear whether it still is slow */

static unsigned place(uint64_t offset, unsigned count) {
    uint64_t hash = region_first(offset) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)((hash >> 32) * count >> 32);
}

static struct mirror_leg *nth(struct mirror *mirror, mirror_mask mask, uint64_t offset) {
    unsigned count = 0, at;
    for (mirror_mask left = mask; left != 0; left &= (mirror_mask)(left - 1))
        count++;
    for (at = place(offset, count); at > 0; at--)
        mask &= (mirror_mask)(mask - 1);
    return &mirror->legs[__builtin_ctz(mask)];
}

static bool is_near(const struct mirror_leg *leg, uint32_t quickest) { return leg->read_ns <= 2 * quickest + NEAR_NS; }
static bool is_idle(const struct mirror_leg *leg, uint32_t idlest) { return leg->outstanding <= idlest + idlest / 4 + 4; }

static struct mirror_leg *search(struct mirror *mirror, mirror_mask from, uint64_t offset, uint32_t quickest) {
    uint32_t idlest = UINT32_MAX;
    mirror_mask near = 0, idle = 0;
    mirror_for_each_leg(mirror, leg) if ((from & leg->bit) != 0 && is_near(leg, quickest)) {
        near |= leg->bit;
        idlest = min_u32(idlest, leg->outstanding);
    }
    if (near != from && ++mirror->reads_elsewhere % PROBE == 0)
        return nth(mirror, from & (mirror_mask)~near, offset);
    mirror_for_each_leg(mirror, leg) if ((near & leg->bit) != 0 && is_idle(leg, idlest)) idle |= leg->bit;
    return nth(mirror, idle, offset);
}

struct mirror_leg *mirror_leg_cheapest(struct mirror *mirror, mirror_mask from, uint64_t offset) {
    uint32_t quickest = UINT32_MAX, slowest = 0, idlest = UINT32_MAX;
    if ((from & (from - 1)) == 0)
        return &mirror->legs[__builtin_ctz(from)];
    for (mirror_mask left = from; left != 0; left &= (mirror_mask)(left - 1)) {
        const struct mirror_leg *leg = &mirror->legs[__builtin_ctz(left)];
        quickest = min_u32(quickest, leg->read_ns);
        slowest = max_u32(slowest, leg->read_ns);
        idlest = min_u32(idlest, leg->outstanding);
    }
    struct mirror_leg *own = &mirror->legs[place(offset, mirror->leg_count)];
    if (likely(slowest <= 2 * quickest + NEAR_NS && (from & own->bit) != 0 && is_idle(own, idlest)))
        return own;
    return search(mirror, from, offset, quickest);
}
