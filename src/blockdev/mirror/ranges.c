#include "blockdev/mirror/ranges.h"

static const unsigned shifts[RANGE_GRAINS] = {15, 20};

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
    if (unlikely(ranges->counts[RANGE_GRAINS] > 0))
        list_for_each (&ranges->wide, struct range, range, wide_node)
            if (overlaps(range, offset, end) && range->order < before)
                return range;
    for (unsigned grain = 0; grain < RANGE_GRAINS && found == NULL; grain++) {
        uint64_t first = offset >> shifts[grain], last = (end - 1) >> shifts[grain];
        if (ranges->counts[grain] == 0)
            continue;
        if (last - first >= RANGE_BUCKETS) {
            for (size_t i = 0; i < RANGE_BUCKETS && found == NULL; i++)
                found = find_in(ranges->buckets[grain][i], offset, end, before);
            continue;
        }
        for (uint64_t granule = first; granule <= last && found == NULL; granule++)
            found = find_in(ranges->buckets[grain][bucket_of(granule)], offset, end, before);
    }
    return found;
}

static void insert(struct ranges *ranges, struct range *range) {
    uint64_t first = 0, last = 0;
    for (range->grain = 0; range->grain < RANGE_GRAINS; range->grain++) {
        first = range->offset >> shifts[range->grain];
        last = (range->end - 1) >> shifts[range->grain];
        if (last - first < RANGE_SPAN)
            break;
    }
    range->links = 0;
    ranges->counts[range->grain]++;
    if (range->grain == RANGE_GRAINS) {
        list_push_back(&ranges->wide, &range->wide_node);
        return;
    }
    for (uint64_t granule = first; granule <= last; granule++) {
        struct range_link *link = &range->link[range->links++], **bucket = &ranges->buckets[range->grain][bucket_of(granule)];
        *link = (struct range_link){.range = range, .next = *bucket, .link = bucket};
        if (*bucket != NULL)
            (*bucket)->link = &link->next;
        *bucket = link;
    }
}

static void take_out(struct ranges *ranges, struct range *range) {
    ranges->counts[range->grain]--;
    if (range->grain == RANGE_GRAINS) {
        list_remove(&range->wide_node);
        return;
    }
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
