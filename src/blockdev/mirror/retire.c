/* Clearing of marks, in rounds: who was touched is forgotten, every leg is flushed, and regions that nobody touched since have
 * all their writes on every disk: their marks go, while they are excluded from writing. Only while every configured leg is a
 * member and the members are equal. docs/mirror.md, "Marks". */
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"

#define IDLE_NS (5 * NS_PER_S)
#define WORTH_IT 16                /* a round that clears less than one of so many over the bound was not */
#define HURRY_NS (100 * NS_PER_MS) /* between rounds while more than the bound are marked */

struct mirror_retire {
    struct mirror *mirror;
    struct reactor_timer timer;
    struct reactor_job job;
    bool busy;
    uint64_t cleared_now; /* regions, in this round */
    uint64_t pause_ns;    /* until the next round while more than the bound are marked */
    uint64_t depth;       /* of the epoch in which the round began: another one ends it */
    uint64_t tree;        /* change of the tree likewise, for the floor only */
    uint64_t left;
    unsigned waiting;
    struct retire_request {
        struct block_request request;
        struct mirror_retire *retire;
        uint32_t generation;
    } requests[MIRROR_LEGS_MAX];
    struct slice slice;
    unsigned count;
    struct range ranges[MIRROR_RETIRE_BATCH];
    uint64_t regions[MIRROR_RETIRE_BATCH];
    uint8_t document[sizeof(struct replica_ranges) + MIRROR_RETIRE_BATCH * sizeof(struct replica_range)]
        __attribute__((aligned(8)));
    bool failed;
    void (*then)(struct mirror_retire *retire);
};

static void pick(struct mirror_retire *retire);

static bool may_clear(const struct mirror *mirror) {
    if (mirror->state != MIRROR_SERVING || !mirror->settled || mirror->changing || mirror->regions.unequal_count > 0)
        return false;
    mirror_for_each_leg(mirror, leg) if (leg->configured && !leg->tie_breaker && (leg->config.flags & REPLICA_LEG_BLANK) == 0 &&
                                         (mirror->standing & leg->bit) == 0) return false;
    return true;
}

static bool is_valid(const struct mirror_retire *retire) {
    return may_clear(retire->mirror) && retire->depth == retire->mirror->complete.depth && !retire->mirror->closing;
}

static void answered(struct block_request *request) {
    struct retire_request *own = container_of(request, struct retire_request, request);
    struct mirror_retire *retire = own->retire;
    struct mirror_leg *leg = &retire->mirror->legs[own - retire->requests];
    if (--leg->outstanding == 0 && leg->lost)
        task_wake(&leg->task);
    if (request->status != IO_OK) {
        retire->failed = true;
        if (own->generation == leg->generation && !mirror_leg_judge(leg, (enum io_status)request->status))
            mirror_leg_lose(leg, "it did not flush, or clear its marks");
    }
    if (--retire->waiting == 0)
        reactor_defer(retire->mirror->home, &retire->job);
}

static void all_answered(struct reactor_job *job) {
    struct mirror_retire *retire = container_of(job, struct mirror_retire, job);
    retire->then(retire);
}

static void send_all(struct mirror_retire *retire, enum block_op op, uint64_t argument, uint64_t length) {
    struct mirror *mirror = retire->mirror;
    retire->slice = (struct slice){retire->document, length};
    retire->failed = false;
    retire->waiting = 1; /* until all are sent */
    mirror_for_each_leg(mirror, leg) {
        if ((mirror->standing & leg->bit) == 0)
            continue;
        struct retire_request *own = &retire->requests[leg->index];
        own->retire = retire;
        own->generation = leg->generation;
        own->request = (struct block_request){.op = (uint8_t)op,
                                              .flags = BLOCK_FAIL_FAST,
                                              .slices = &retire->slice,
                                              .slice_count = length > 0 ? 1 : 0,
                                              .length = length,
                                              .argument = argument,
                                              .association = leg->association,
                                              .complete = answered};
        retire->waiting++;
        leg->outstanding++;
        block_submit(leg->channel, &own->request);
    }
    if (--retire->waiting == 0)
        reactor_defer(mirror->home, &retire->job);
}

static void end(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    uint64_t bound = mirror->options.marked_max == 0 ? 1024 : mirror->options.marked_max;
    uint64_t marked = mirror->regions.marked_count, excess = marked > bound ? marked - bound : 0;
    retire->busy = false;
    /* All that is over the bound is in use: flushing again and again would cost its writers more than it frees. */
    if (retire->cleared_now * WORTH_IT >= excess)
        retire->pause_ns = HURRY_NS;
    else
        retire->pause_ns = min_u64(2 * retire->pause_ns, IDLE_NS);
    if (!mirror->closing)
        reactor_timer_start(mirror->home, &retire->timer,
                            reactor_now_ns(mirror->home) + (excess > 0 ? retire->pause_ns : IDLE_NS));
}

static void leave(struct mirror_retire *retire) {
    for (unsigned i = 0; i < retire->count; i++)
        ranges_leave(&retire->mirror->ranges, &retire->ranges[i]);
    retire->count = 0;
}

static void cleared(struct mirror_retire *retire) {
    if (!retire->failed)
        for (unsigned i = 0; i < retire->count; i++)
            regions_cleared(&retire->mirror->regions, retire->regions[i]);
    retire->cleared_now += retire->failed ? 0 : retire->count;
    leave(retire);
    if (retire->failed || !is_valid(retire))
        end(retire);
    else
        pick(retire);
}

/* Regions with nobody at work are taken at once, so that this one never waits. */
static void pick(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    struct replica_ranges *document = (struct replica_ranges *)(void *)retire->document;
    uint64_t size = mirror->size;
    while (retire->count < MIRROR_RETIRE_BATCH) {
        uint64_t region = regions_next_idle(&mirror->regions, &retire->left);
        if (region == UINT64_MAX)
            break;
        uint64_t offset = region * REGION_BYTES, length = min_u64(REGION_BYTES, size - offset);
        if (ranges_busy(&mirror->ranges, offset, length))
            continue;
        bool held = ranges_enter(&mirror->ranges, &retire->ranges[retire->count], offset, length);
        assert(held);
        document->ranges[retire->count] = (struct replica_range){.first = region, .count = 1};
        retire->regions[retire->count++] = region;
    }
    if (retire->count == 0) {
        end(retire);
        return;
    }
    document->count = retire->count;
    document->flags = 0;
    retire->then = cleared;
    send_all(retire, BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLEAR, 0, 0), replica_ranges_bytes(retire->count));
}

static bool has_floor(const struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if ((leg->status.flags & REPLICA_HAS_FLOOR) != 0) return true;
    return false;
}

static void floor_cleared(struct mirror_retire *retire) {
    if (retire->failed || !is_valid(retire)) {
        end(retire);
        return;
    }
    mirror_for_each_leg(retire->mirror, leg) leg->status.flags &= ~(uint32_t)REPLICA_HAS_FLOOR;
    pick(retire);
}

/* What a revert or a shrink marked goes as one; what was written since has marks of its own. */
static void flushed(struct mirror_retire *retire) {
    if (retire->failed || !is_valid(retire)) {
        end(retire);
        return;
    }
    if (!has_floor(retire->mirror) || retire->tree != retire->mirror->tree_change) {
        pick(retire);
        return;
    }
    struct replica_ranges *document = (struct replica_ranges *)(void *)retire->document;
    *document = (struct replica_ranges){.flags = REPLICA_ALL_REGIONS};
    retire->then = floor_cleared;
    send_all(retire, BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLEAR, 0, 0), replica_ranges_bytes(0));
}

static void round_begin(struct reactor_timer *timer) {
    struct mirror_retire *retire = container_of(timer, struct mirror_retire, timer);
    struct mirror *mirror = retire->mirror;
    retire->depth = mirror->complete.depth;
    retire->tree = mirror->tree_change;
    retire->busy = true;
    retire->cleared_now = 0;
    if (!may_clear(mirror) || (mirror->regions.marked_count == 0 && !has_floor(mirror)) || mirror->closing) {
        end(retire);
        return;
    }
    regions_round_begin(&mirror->regions);
    retire->left = mirror->regions.count;
    retire->then = flushed;
    send_all(retire, BLOCK_FLUSH, 0, 0);
}

bool mirror_retire_init(struct mirror *mirror) {
    struct mirror_retire *retire = calloc(1, sizeof(*retire));
    if (retire == NULL)
        return false;
    retire->mirror = mirror;
    retire->timer.run = round_begin;
    retire->pause_ns = HURRY_NS;
    retire->job.run = all_answered;
    mirror->retire = retire;
    return true;
}

void mirror_retire_fini(struct mirror *mirror) {
    if (mirror->retire == NULL)
        return;
    assert(!mirror->retire->busy);
    reactor_timer_stop(mirror->home, &mirror->retire->timer);
    free(mirror->retire);
    mirror->retire = NULL;
}

bool mirror_retire_is_busy(const struct mirror *mirror) { return mirror->retire != NULL && mirror->retire->busy; }

void mirror_retire_begin(struct mirror *mirror) {
    if (!mirror->plain && !mirror->retire->busy && !reactor_timer_armed(&mirror->retire->timer))
        end(mirror->retire);
}
