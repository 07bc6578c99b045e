/* Clearing of marks, in rounds: who was touched is forgotten, every leg is flushed, and regions that nobody touched since have
 * all their writes on every disk: their marks go, while they are excluded from writing. Only while every configured leg is a
 * member and the members are equal; then, where the bound is a hard one, a write that would mark one region too many waits.
 * docs/mirror.md, "Marks". */
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"

#define IDLE_NS (5 * NS_PER_S)
#define WORTH_IT 16                /* a round that clears less than one of so many of the bound was not */
#define HURRY_NS (100 * NS_PER_MS) /* until the next round after one that was not */
#define EAGER_ROUNDS 64
#define PIECE_REGIONS 256 /* of a long trim, done at once */
#define VICTIMS 16        /* regions that are closed to writers when no region is ever idle */

struct mirror_retire {
    struct mirror *mirror;
    struct reactor_timer timer;
    struct reactor_job job;
    bool busy;
    uint64_t cleared_now; /* regions, in this round */
    uint64_t pause_ns;    /* until the next round while `eager`, many are marked, and nobody waits */
    uint64_t ended_ns;    /* of the last round */
    unsigned eager;       /* rounds left that do not wait until somebody has to, since somebody had to */
    bool wanted;          /* a write waits for room */
    /* of marked regions, where more than the bound are, since legs were away, say: it falls from round to round */
    uint64_t ceiling, ceiling_depth;
    uint64_t depth; /* of the epoch in which the round began: another one ends it */
    uint64_t tree;  /* change of the tree likewise, for the floor only */
    uint64_t left;
    unsigned waiting;
    mirror_mask awaited;       /* legs that have not answered */
    struct reactor_timer late; /* looks how long they take, while a write waits for them */
    unsigned ticks;            /* of that; one that comes late counts as one */
    struct retire_request {
        struct block_request request;
        struct mirror_retire *retire;
        uint32_t generation;
    } requests[MIRROR_LEGS_MAX];
    struct slice slice;
    bool failed;
    void (*then)(struct mirror_retire *retire);
    struct replica_ranges *document;
    unsigned batch, count; /* of `regions` */
    struct retire_region {
        struct range range;
        uint64_t region;
    } regions[];
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
    retire->awaited &= (mirror_mask)~leg->bit;
    if (--leg->outstanding == 0 && leg->lost)
        task_wake(&leg->task);
    if (request->status != IO_OK) {
        retire->failed = true;
        if (own->generation == leg->generation && !mirror_leg_judge(leg, (enum io_status)request->status))
            mirror_leg_refused(leg, (enum io_status)request->status, "it did not flush, or clear its marks");
    }
    if (--retire->waiting == 0)
        reactor_defer(retire->mirror->home, &retire->job);
}

/* A leg that lets writers wait is judged as if it were one of theirs that it does not answer. */
static void look_who_is_late(struct reactor_timer *timer) {
    struct mirror_retire *retire = container_of(timer, struct mirror_retire, late);
    struct mirror *mirror = retire->mirror;
    bool somebody_answered = (mirror->standing & ~retire->awaited) != 0;
    retire->ticks += retire->wanted;
    if (retire->awaited == 0)
        return;
    if (retire->ticks > 3 && somebody_answered) {
        mirror_for_each_leg(mirror, leg) if ((retire->awaited & leg->bit) != 0 && mirror_leg_is_up(leg) &&
                                             retire->requests[leg->index].generation == leg->generation)
            mirror_leg_lose(leg, "it did not flush, or clear its marks, in time");
        return;
    }
    reactor_timer_start(mirror->home, timer, reactor_now_ns(mirror->home) + mirror->stall_ns / 8);
}

static void all_answered(struct reactor_job *job) {
    struct mirror_retire *retire = container_of(job, struct mirror_retire, job);
    reactor_timer_stop(retire->mirror->home, &retire->late);
    retire->then(retire);
}

static void send_all(struct mirror_retire *retire, enum block_op op, uint64_t argument, uint64_t length) {
    struct mirror *mirror = retire->mirror;
    retire->slice = (struct slice){retire->document, length};
    retire->failed = false;
    retire->waiting = 1; /* until all are sent */
    retire->ticks = 0;
    reactor_timer_start(mirror->home, &retire->late, reactor_now_ns(mirror->home) + mirror->stall_ns / 8);
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
        retire->awaited |= leg->bit;
        leg->outstanding++;
        block_submit(leg->channel, &own->request);
    }
    if (--retire->waiting == 0)
        reactor_defer(mirror->home, &retire->job);
}

static uint64_t bound_of(const struct mirror *mirror) {
    return mirror->options.marked_max == 0 ? MIRROR_MARKED_MAX : mirror->options.marked_max;
}

/* From here on the next round is due: while it lasts writers mark the other half. */
static uint64_t many(const struct mirror *mirror) { return bound_of(mirror) - bound_of(mirror) / 2; }

static void next_round(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    uint64_t marked = mirror->regions.marked_count, pause_ns = IDLE_NS;
    if (retire->wanted)
        pause_ns = 0;
    else if (marked > bound_of(mirror)) /* legs were away, or nothing could be cleared until now */
        pause_ns = max_u64(retire->pause_ns, HURRY_NS);
    else if (retire->eager > 0 && marked >= many(mirror))
        pause_ns = retire->pause_ns;
    if (mirror->closing)
        return;
    if (pause_ns == IDLE_NS) /* the rounds of a thousand idle mirrors wake the loop together */
        reactor_timer_start_coarse(mirror->home, &retire->timer, retire->ended_ns + pause_ns, IDLE_NS / 16);
    else
        reactor_timer_start(mirror->home, &retire->timer, retire->ended_ns + pause_ns);
}

/* Nothing was idle, and a write waits for room: the next ones in turn are closed until they are. */
static void close_some(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    struct regions *regions = &mirror->regions;
    uint64_t first = bitmap_find_set(regions->marked, regions->count, regions->hand < regions->count ? regions->hand : 0);
    if (first >= regions->count)
        first = bitmap_find_set(regions->marked, regions->count, 0);
    uint64_t last = first;
    for (unsigned i = 1; i < VICTIMS && last < regions->count; i++) {
        uint64_t next = bitmap_find_set(regions->marked, regions->count, last + 1);
        if (next >= regions->count)
            break;
        last = next;
    }
    mirror->closed_first = first;
    mirror->closed_end = min_u64(last + 1, regions->count);
}

static void end(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    uint64_t bound = bound_of(mirror), marked = mirror->regions.marked_count;
    bool valid = is_valid(retire), waited = retire->wanted;
    retire->busy = false;
    retire->ended_ns = reactor_now_ns(mirror->home);
    /* All that is marked is in use: flushing again and again would cost its writers more than it frees. */
    bool worth_it = retire->cleared_now > 0 && retire->cleared_now * WORTH_IT >= bound;
    retire->pause_ns = worth_it ? 0 : min_u64(max_u64(2 * retire->pause_ns, HURRY_NS), IDLE_NS);
    retire->eager = waited ? EAGER_ROUNDS : retire->eager - (retire->eager > 0);
    if (valid) {
        retire->ceiling = marked - marked / 4;
        retire->ceiling_depth = retire->depth;
    }
    if (!valid || retire->cleared_now > 0)
        mirror->closed_first = mirror->closed_end = 0;
    else if (waited && mirror->closed_end == 0)
        close_some(retire);
    retire->wanted = waited && mirror->closed_end != 0; /* else who still waits says so again */
    if (waited)
        mirror_io_look(mirror);
    next_round(retire);
}

bool mirror_retire_admits(struct mirror *mirror, uint64_t first, uint64_t last) {
    struct mirror_retire *retire = mirror->retire;
    if (!mirror->options.marked_hard || mirror->plain || !may_clear(mirror))
        return true;
    if (first < mirror->closed_end && mirror->closed_first <= last) {
        retire->wanted = true;
        if (!retire->busy)
            next_round(retire);
        return false;
    }
    uint64_t bound = bound_of(mirror), marked = mirror->regions.marked_count, fresh = 0;
    for (uint64_t region = first; region <= last; region++)
        fresh += !bitmap_test(mirror->regions.marked, region);
    if (fresh == 0)
        return true;
    if (retire->ceiling_depth != mirror->complete.depth) {
        retire->ceiling = marked;
        retire->ceiling_depth = mirror->complete.depth;
    }
    bool room = marked + fresh <= max_u64(bound, retire->ceiling) || marked == 0;
    retire->wanted = retire->wanted || !room;
    if (!retire->busy && marked + fresh >= many(mirror))
        next_round(retire);
    return room;
}

static void leave(struct mirror_retire *retire) {
    for (unsigned i = 0; i < retire->count; i++)
        ranges_leave(&retire->mirror->ranges, &retire->regions[i].range);
    retire->count = 0;
}

static void cleared(struct mirror_retire *retire) {
    if (!retire->failed)
        for (unsigned i = 0; i < retire->count; i++)
            regions_cleared(&retire->mirror->regions, retire->regions[i].region);
    retire->cleared_now += retire->failed ? 0 : retire->count;
    leave(retire);
    if (retire->failed || !is_valid(retire)) {
        end(retire);
        return;
    }
    if (retire->wanted)
        mirror_io_look(retire->mirror);
    pick(retire);
}

/* Regions with nobody at work are taken at once, so that this one never waits. */
static void pick(struct mirror_retire *retire) {
    struct mirror *mirror = retire->mirror;
    struct replica_ranges *document = retire->document;
    uint64_t size = mirror->size;
    while (retire->count < retire->batch) {
        uint64_t region = regions_next_idle(&mirror->regions, &retire->left);
        if (region == UINT64_MAX)
            break;
        uint64_t offset = region * REGION_BYTES, length = min_u64(REGION_BYTES, size - offset);
        if (ranges_busy(&mirror->ranges, offset, length))
            continue;
        bool held = ranges_enter(&mirror->ranges, &retire->regions[retire->count].range, offset, length);
        assert(held);
        document->ranges[retire->count] = (struct replica_range){.first = region, .count = 1};
        retire->regions[retire->count++].region = region;
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
    *retire->document = (struct replica_ranges){.flags = REPLICA_ALL_REGIONS};
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
    unsigned half = (unsigned)min_u64(bound_of(mirror) / 2, REPLICA_RANGES_MAX);
    unsigned batch = mirror->options.marked_hard ? max_u32(half, MIRROR_RETIRE_BATCH) : MIRROR_RETIRE_BATCH;
    struct mirror_retire *retire = calloc(1, sizeof(*retire) + batch * sizeof(retire->regions[0]));
    struct replica_ranges *document = malloc(replica_ranges_bytes(batch));
    if (retire == NULL || document == NULL) {
        free(retire);
        free(document);
        return false;
    }
    retire->mirror = mirror;
    retire->batch = batch;
    retire->document = document;
    mirror->piece_bytes = min_u64(max_u64(bound_of(mirror) / 4, 1), PIECE_REGIONS) << REGION_SHIFT;
    retire->timer.run = round_begin;
    retire->late.run = look_who_is_late;
    retire->job.run = all_answered;
    mirror->retire = retire;
    return true;
}

void mirror_retire_fini(struct mirror *mirror) {
    if (mirror->retire == NULL)
        return;
    assert(!mirror->retire->busy);
    reactor_timer_stop(mirror->home, &mirror->retire->timer);
    reactor_timer_stop(mirror->home, &mirror->retire->late);
    free(mirror->retire->document);
    free(mirror->retire);
    mirror->retire = NULL;
}

bool mirror_retire_is_busy(const struct mirror *mirror) { return mirror->retire != NULL && mirror->retire->busy; }

void mirror_retire_begin(struct mirror *mirror) {
    if (!mirror->plain && !mirror->retire->busy && !reactor_timer_armed(&mirror->retire->timer))
        end(mirror->retire);
}
