/* Who is at work on which bytes of the mirror: overlapping writes and copies go one after the other, and a read waits for the
 * writes before it. Pure, one reactor, no allocation after init.
 *
 * First come, first served: a range waits for every overlapping one that entered before it and for none that entered later, so
 * nobody starves. Ranges that hold or wait are found by their place: granules of 32 KiB hash into buckets, for longer ones
 * granules of 1 MiB into others; what spans more than RANGE_SPAN of those stands on one list that everybody looks at. Must not
 * know requests, legs or epochs. */
#pragma once

#include "base/list.h"

#define RANGE_SPAN 4
#define RANGE_BUCKETS 1024
#define RANGE_GRAINS 2

struct range;

struct range_link {
    struct range *range;
    struct range_link *next, **link; /* link: what points here */
};

struct range {
    uint64_t offset, end; /* bytes */
    uint64_t order;       /* of entering */
    void (*granted)(struct range *range);
    struct queue waiters;   /* those who look again when this one leaves */
    struct queue_node node; /* in the waiters of another */
    uint8_t links;          /* used ones; 0 = on the wide list, or a read */
    uint8_t grain;          /* of the links' granules; RANGE_GRAINS = on the wide list */
    bool shared;            /* a read, which nobody waits for */
    struct range_link link[RANGE_SPAN];
    struct list_node wide_node;
};

struct ranges {
    uint64_t order;
    uint32_t counts[RANGE_GRAINS + 1]; /* ranges in the buckets of each grain, and on the wide list */
    struct list wide;
    struct range_link *buckets[RANGE_GRAINS][RANGE_BUCKETS];
};

void ranges_init(struct ranges *ranges);
/* Nobody holds or waits for anything: a read need not enter. */
static inline bool ranges_empty(const struct ranges *ranges) {
    return (ranges->counts[0] | ranges->counts[1] | ranges->counts[RANGE_GRAINS]) == 0;
}
/* Enters for writing or copying [offset, offset + length), length > 0. True: it is held now. False: it waits, range->granted
 * (set by the caller) is called from inside somebody's ranges_leave(). */
bool ranges_enter(struct ranges *ranges, struct range *range, uint64_t offset, uint64_t length);
/* The same for a read: true if nothing that entered before overlaps it, and then it need not leave. False: granted is called when
 * that is so, and it need not leave either. */
bool ranges_enter_shared(struct ranges *ranges, struct range *range, uint64_t offset, uint64_t length);
/* A held range leaves; those who waited for it may be granted from inside. */
void ranges_leave(struct ranges *ranges, struct range *range);
/* True if somebody holds or waits for part of it. */
bool ranges_busy(const struct ranges *ranges, uint64_t offset, uint64_t length);
