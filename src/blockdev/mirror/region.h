/* The regions of a mirror that its legs may have marked: which ones, and which may be cleared. Pure, one reactor.
 *
 * A write notes its regions when it begins and when it ends. Clearing goes in rounds: region_round_begin() forgets who was
 * touched; then a FLUSH of every leg begins; when it is done, a region that nobody touched since the round began, and over which
 * nobody is at work, has all its writes flushed: it may be cleared. Must not know legs, records or how clearing is done. */
#pragma once

#include "base/bitmap.h"
#include "block/replica.h"

#define REGION_SHIFT ((unsigned)__builtin_ctzll(REPLICA_REGION_BYTES))
#define REGION_BYTES ((uint64_t)REPLICA_REGION_BYTES)

struct regions {
    uint64_t count;    /* regions of the device */
    uint64_t *marked;  /* the legs may have them marked */
    uint64_t *touched; /* written, or ended a write, since the round began */
    uint64_t *unequal; /* members may differ: not served, not cleared, not copied onward */
    uint64_t marked_count, unequal_count;
    uint64_t hand; /* where the search for retirees goes on */
};

/* False if there is no memory. The bitmaps of 64 TiB are 24 MiB, of which only what is used becomes resident. */
bool regions_init(struct regions *regions, uint64_t bytes);
void regions_fini(struct regions *regions);
/* Another size; what lies beyond it is forgotten, what is new is neither marked nor unequal. False if there is no memory: nothing
 * has changed. */
bool regions_resize(struct regions *regions, uint64_t bytes);
/* As after regions_init(). */
void regions_forget(struct regions *regions);

static inline uint64_t region_first(uint64_t offset) { return offset >> REGION_SHIFT; }
static inline uint64_t region_last(uint64_t offset, uint64_t length) { return (offset + length - 1) >> REGION_SHIFT; }

void regions_touch_slow(struct regions *regions, uint64_t first, uint64_t last);
/* A write of [offset, offset + length) begins or ends; length > 0. */
static inline void regions_touch(struct regions *regions, uint64_t offset, uint64_t length) {
    uint64_t first = region_first(offset), last = region_last(offset, length);
    if (likely(first == last && bitmap_test(regions->marked, first) && bitmap_test(regions->touched, first)))
        return;
    regions_touch_slow(regions, first, last);
}
/* Adds regions that a leg has marked: `words` of its bitmap, the first for region `first` (a multiple of 64). */
void regions_add_marks(struct regions *regions, uint64_t first, const uint64_t *bits, uint64_t bit_count);

/* Puts regions on the unequal list, and takes one off. */
void regions_unequal_add(struct regions *regions, uint64_t first, uint64_t last);
void regions_unequal_remove(struct regions *regions, uint64_t region);
/* First unequal region of the range; UINT64_MAX if there is none. */
uint64_t regions_unequal_in(const struct regions *regions, uint64_t offset, uint64_t length);

void regions_round_begin(struct regions *regions);
/* Next region that was not touched since the round began, is marked and not unequal; UINT64_MAX if there is none before `end_of`
 * round's hand comes round. `left` (of the caller, starting at regions->count) bounds the search. */
uint64_t regions_next_idle(struct regions *regions, uint64_t *left);
/* True if a region may be cleared as things stand (see above; the caller has excluded writers from it). */
bool regions_is_idle(const struct regions *regions, uint64_t region);
/* It has been cleared on every leg. */
void regions_cleared(struct regions *regions, uint64_t region);
