#include "blockdev/mirror/ranges.h"

static size_t bucket_of(uint64_t granule) { return (size_t)(granule * UINT64_C(0x9e3779b97f4a7c15) >> 54); }
static_assert(RANGE_BUCKETS == 1 << 10, "bucket_of() gives ten bits");

void ranges_init(struct ranges *ranges) {
    memset(ranges, 0, sizeof(*ranges));
    list_init(&ranges->wide);
}

static bool overlaps(const struct range *a, uint64_t offset, uint64_t end) { return a->offset < end && offset < a->end; }

static struct range *find_in(const struct range_link *first, uint64_t offset, uint64_t end, uint64_t before) {
    for (const struct range_link *link = first; link != NULL; link = link->next)
        if (overlaps(link->range, offset, end) && link->range->order < before)
            return link->range;
    return NULL;
}

/* Somebody who entered before `before` and overlaps; NULL if there is nobody. */
static struct range *find(const struct ranges *ranges, uint64_t offset, uint64_t end, uint64_t before) {
    struct range *found = NULL;
    if (unlikely(ranges->wide_count > 0))
        list_for_each (&ranges->wide, struct range, range, wide_node)
            if (overlaps(range, offset, end) && range->order < before)
                return range;
    if (ranges->narrow == 0)
        return NULL;
    uint64_t first = offset >> RANGE_GRANULE_SHIFT, last = (end - 1) >> RANGE_GRANULE_SHIFT;
    if (last - first >= RANGE_BUCKETS) {
        for (size_t i = 0; i < RANGE_BUCKETS && found == NULL; i++)
            found = find_in(ranges->buckets[i], offset, end, before);
        return found;
    }
    for (uint64_t granule = first; granule <= last && found == NULL; granule++)
        found = find_in(ranges->buckets[bucket_of(granule)], offset, end, before);
    return found;
}

static void insert(struct ranges *ranges, struct range *range) {
    uint64_t first = range->offset >> RANGE_GRANULE_SHIFT, last = (range->end - 1) >> RANGE_GRANULE_SHIFT;
    range->wide = last - first >= RANGE_SPAN;
    range->links = 0;
    if (range->wide) {
        list_push_back(&ranges->wide, &range->wide_node);
        ranges->wide_count++;
        return;
    }
    ranges->narrow++;
    for (uint64_t granule = first; granule <= last; granule++) {
        struct range_link *link = &range->link[range->links++], **bucket = &ranges->buckets[bucket_of(granule)];
        *link = (struct range_link){.range = range, .next = *bucket, .link = bucket};
        if (*bucket != NULL)
            (*bucket)->link = &link->next;
        *bucket = link;
    }
}

static void take_out(struct ranges *ranges, struct range *range) {
    if (range->wide) {
        list_remove(&range->wide_node);
        ranges->wide_count--;
        return;
    }
    ranges->narrow--;
    for (unsigned i = 0; i < range->links; i++) {
        struct range_link *link = &range->link[i];
        *link->link = link->next;
        if (link->next != NULL)
            link->next->link = link->link;
    }
}

static bool enter(struct ranges *ranges, struct range *range, uint64_t offset, uint64_t length, bool shared) {
    assert(length > 0 && offset + length > offset);
    range->offset = offset;
    range->end = offset + length;
    range->order = ++ranges->order;
    range->shared = shared;
    struct range *other = find(ranges, range->offset, range->end, range->order);
    if (!shared) {
        queue_init(&range->waiters);
        insert(ranges, range);
    }
    if (likely(other == NULL))
        return true;
    queue_push(&other->waiters, &range->node);
    return false;
}

bool ranges_enter(struct ranges *ranges, struct range *range, uint64_t offset, uint64_t length) {
    return enter(ranges, range, offset, length, false);
}

bool ranges_enter_shared(struct ranges *ranges, struct range *range, uint64_t offset, uint64_t length) {
    return enter(ranges, range, offset, length, true);
}

void ranges_leave(struct ranges *ranges, struct range *range) {
    take_out(ranges, range);
    struct queue waiters = range->waiters; /* granted() may give the memory of this one away */
    if (likely(queue_empty(&waiters)))
        return;
    for (struct queue_node *node = waiters.first, *next; node != NULL; node = next) {
        next = node->next;
        struct range *waiter = container_of(node, struct range, node);
        struct range *other = find(ranges, waiter->offset, waiter->end, waiter->order);
        if (other != NULL)
            queue_push(&other->waiters, node);
        else
            waiter->granted(waiter);
    }
}

bool ranges_busy(const struct ranges *ranges, uint64_t offset, uint64_t length) {
    return find(ranges, offset, offset + length, UINT64_MAX) != NULL;
}
