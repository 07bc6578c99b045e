/* Copying, region by region: members that may differ are made equal, and legs that return get what they missed. A region is
 * excluded from writes and reads while it is copied; checksums say which blocks differ, and only those are read and written. */
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"

#define BLOCKS (REGION_BYTES / REPLICA_BLOCK_BYTES)
#define CHUNK_BLOCKS 64 /* read and written at a time: what all copies hold stays in a core's cache */
#define SLOTS 16        /* requests under way of one region: what differs lies here and there */
static_assert(SLOTS >= MIRROR_LEGS_MAX, "all legs are asked at once");
#define FAILED_REST_NS                                                                                                           \
    (20 * NS_PER_MS)     /* after one that its source, the last member, could not give: nobody else can be asked                 \
                          */
#define BLIND_REGIONS 15 /* copied without checksums after one of which every block differed */

struct mirror_copy {
    struct mirror *mirror;
    bool busy;
    struct range range;
    uint64_t region, offset, length;
    bool equalise;  /* of the unequal list; else for one leg */
    uint32_t layer; /* of the source, that a leg's head is filled from: nobody writes either; REPLICA_LAYER_HEAD = the mirror */
    struct mirror_leg *source;
    mirror_mask targets; /* those still up */
    uint32_t generations[MIRROR_LEGS_MAX];
    uint32_t seed;
    unsigned waiting;       /* requests under way */
    bool failed;            /* the region is not done */
    mirror_mask unreadable; /* targets that told no checksums */
    bool unmarked;          /* nobody has it marked: neither need the target */
    bool blind;             /* all of it is copied, without asking what differs */
    uint64_t differ[BLOCKS / 64];
    uint64_t zero[BLOCKS / 64]; /* of those in the buffer, if blind: they take no room that they do not have */
    uint64_t next;              /* first block not yet looked at */
    struct copy_run {
        uint64_t first, last; /* blocks that differ */
        uint64_t place;       /* in the buffer, in blocks */
    } runs[SLOTS];
    unsigned run_count;
    unsigned run; /* that is being written, from block `at` on */
    uint64_t at;
    uint64_t sums[MIRROR_LEGS_MAX][BLOCKS];
    void *buffer;
    unsigned sent; /* requests of this step */
    struct copy_request {
        struct block_request request;
        struct slice slice;
        struct mirror_copy *copy;
        struct mirror_leg *leg;
    } requests[SLOTS];
    void (*then)(struct mirror_copy *copy); /* when all have been answered */
    struct reactor_job job;
};

static void next_runs(struct mirror_copy *copy);

static bool is_there(const struct mirror_copy *copy, const struct mirror_leg *leg) {
    return mirror_leg_is_up(leg) && copy->generations[leg->index] == leg->generation;
}

/* ---- requests ---- */

static void answered(struct block_request *request) {
    struct copy_request *own = container_of(request, struct copy_request, request);
    struct mirror_copy *copy = own->copy;
    struct mirror *mirror = copy->mirror;
    struct mirror_leg *leg = own->leg;
    enum io_status status = (enum io_status)request->status;
    if (--leg->outstanding == 0 && leg->lost)
        task_wake(&leg->task);
    if (status != IO_OK && is_there(copy, leg) && !mirror_leg_judge(leg, status)) {
        /* The last member is never given up for what a copy wants of it. */
        bool last = (mirror->standing & ~leg->bit) == 0;
        if (leg != copy->source && request->op == BLOCK_REPLICA_GET && (status == IO_MEDIUM_READ || status == IO_DAMAGED))
            copy->unreadable |= leg->bit; /* it is written anew */
        else if (!last || (mirror->standing & leg->bit) == 0)
            mirror_leg_fault(leg, status, "it failed a copy");
        else
            copy->failed = true;
    }
    if (--copy->waiting == 0)
        reactor_defer(mirror->home, &copy->job);
}

static void all_answered(struct reactor_job *job) {
    struct mirror_copy *copy = container_of(job, struct mirror_copy, job);
    copy->sent = 0;
    copy->then(copy);
}

static void send(struct mirror_copy *copy, struct mirror_leg *leg, enum block_op op, uint64_t argument, uint64_t offset,
                 void *bytes, uint64_t length) {
    bool unmarked = op == BLOCK_WRITE && copy->unmarked;
    assert(copy->sent < SLOTS);
    struct copy_request *own = &copy->requests[copy->sent++];
    own->slice = (struct slice){bytes, length};
    own->copy = copy;
    own->leg = leg;
    own->request = (struct block_request){.op = (uint8_t)op,
                                          .flags = BLOCK_FAIL_FAST | (unmarked ? BLOCK_UNMARKED : 0),
                                          .slices = &own->slice,
                                          .slice_count = op == BLOCK_WRITE_ZEROES ? 0 : 1,
                                          .offset = offset,
                                          .length = length,
                                          .argument = argument,
                                          .association = leg->association,
                                          .complete = answered};
    copy->waiting++;
    leg->outstanding++;
    block_submit(leg->channel, &own->request);
}

/* ---- one region ---- */

static void end(struct mirror_copy *copy) {
    struct mirror *mirror = copy->mirror;
    bool source_there = is_there(copy, copy->source), done = source_there && !copy->failed;
    mirror_for_each_leg(mirror, leg) if ((copy->targets & leg->bit) != 0) {
        if (!copy->equalise) {
            leg->copying--;
            if (done && is_there(copy, leg) && bitmap_test(leg->work, copy->region)) {
                bitmap_clear(leg->work, copy->region);
                leg->work_left--;
                if (copy->layer == REPLICA_LAYER_HEAD)
                    mirror_missed_copied(leg, copy->region);
                leg->told.sync_done = (leg->work_total - leg->work_left) * REGION_BYTES;
            } else if (is_there(copy, leg) && copy->failed) {
                mirror_leg_lose(leg, "its source cannot be read");
            }
        }
        task_wake(&leg->task);
    }
    buffer_give(&mirror->home->buffers, copy->buffer, CHUNK_BLOCKS * REPLICA_BLOCK_BYTES);
    copy->buffer = NULL;
    copy->busy = false;
    if (copy->layer == REPLICA_LAYER_HEAD) {
        if (!copy->unmarked && copy->region < mirror->regions.count)
            regions_touch(&mirror->regions, copy->offset, copy->length); /* who was written has it marked */
        ranges_leave(&mirror->ranges, &copy->range);
    }
    /* What the only leg cannot be given anew stays as it is: nobody is to wait for that for ever. */
    bool only = copy->equalise && copy->failed && source_there && mirror->standing == copy->source->bit;
    mirror_mask joined = only ? mirror->writers & (mirror_mask)~mirror->standing : 0; /* nor have those got it who return */
    mirror_for_each_leg(mirror, leg) if ((joined & leg->bit) != 0 && mirror_leg_is_up(leg)) mirror_work_again(leg, copy->region);
    if (copy->equalise && (done || only)) {
        regions_unequal_remove(&mirror->regions, copy->region);
        mirror_io_region_equal(mirror);
        if (mirror->regions.unequal_count == 0)
            mirror_epoch_wake(mirror);
        mirror_tree_commands_wake(mirror);
    }
    if (copy->equalise && copy->failed && !only)
        mirror->copy_rest_ns = reactor_now_ns(mirror->home) + FAILED_REST_NS;
    mirror_throttle_end(mirror);
}

static bool is_zero(const uint8_t *block) { return block[0] == 0 && memcmp(block, block + 1, REPLICA_BLOCK_BYTES - 1) == 0; }

static bool is_wanted(const struct mirror_copy *copy) {
    mirror_for_each_leg(copy->mirror, leg) if ((copy->targets & leg->bit) != 0 && is_there(copy, leg)) return true;
    return false;
}

/* The next blocks of the buffer that are to be written, all of them zeros or none; false: there are no more. */
static bool next_write(struct mirror_copy *copy, uint64_t *ret_first, uint64_t *ret_last, uint8_t **ret_bytes, bool *ret_zero) {
    for (; copy->run < copy->run_count; copy->run++) {
        const struct copy_run *run = &copy->runs[copy->run];
        uint64_t first = bitmap_find_set(copy->differ, run->last, max_u64(copy->at, run->first));
        if (first >= run->last)
            continue;
        *ret_zero = bitmap_test(copy->zero, first);
        uint64_t last = bitmap_find_clear(copy->differ, run->last, first);
        last = min_u64(last, (*ret_zero ? bitmap_find_clear : bitmap_find_set)(copy->zero, run->last, first));
        *ret_first = first;
        *ret_last = copy->at = last;
        *ret_bytes = (uint8_t *)copy->buffer + (run->place + first - run->first) * REPLICA_BLOCK_BYTES;
        return true;
    }
    return false;
}

/* Writes what was read, as much of it at a time as there are requests. */
static void write_runs(struct mirror_copy *copy) {
    struct mirror *mirror = copy->mirror;
    unsigned targets = (unsigned)__builtin_popcount(copy->targets);
    uint64_t first, last;
    uint8_t *bytes;
    bool zero;
    copy->then = write_runs;
    while (!copy->failed && copy->sent + targets <= SLOTS && next_write(copy, &first, &last, &bytes, &zero))
        mirror_for_each_leg(mirror, leg) if ((copy->targets & leg->bit) != 0 && is_there(copy, leg)) {
            uint64_t length = (last - first) * REPLICA_BLOCK_BYTES;
            leg->told.bytes_copied += length;
            send(copy, leg, zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, 0, copy->offset + first * REPLICA_BLOCK_BYTES, bytes,
                 length);
        }
    if (copy->waiting > 0)
        return;
    if (is_wanted(copy))
        next_runs(copy);
    else
        end(copy);
}

static void read_done(struct mirror_copy *copy) {
    if (!is_there(copy, copy->source) || copy->failed) {
        end(copy);
        return;
    }
    memset(copy->zero, 0, sizeof(copy->zero));
    for (unsigned i = 0; i < copy->run_count && copy->blind; i++) {
        const struct copy_run *run = &copy->runs[i];
        for (uint64_t block = run->first; block < run->last; block++)
            if (is_zero((uint8_t *)copy->buffer + (run->place + block - run->first) * REPLICA_BLOCK_BYTES))
                bitmap_set(copy->zero, block);
    }
    /* what was never written reads as zeros */
    mirror_for_each_leg(copy->mirror, leg) if ((copy->targets & leg->bit) != 0 && copy->blind && leg->blank) {
        for (unsigned i = 0; i < array_count(copy->differ); i++)
            copy->differ[i] &= ~copy->zero[i];
    }
    copy->run = 0;
    copy->at = 0;
    write_runs(copy);
}

/* Reads the next blocks that differ, at most a buffer of them. */
static void next_runs(struct mirror_copy *copy) {
    uint64_t blocks = copy->length / REPLICA_BLOCK_BYTES, first, place = 0;
    bool layer = copy->layer != REPLICA_LAYER_HEAD;
    copy->run_count = 0;
    while (copy->run_count < SLOTS && place < CHUNK_BLOCKS &&
           (first = bitmap_find_set(copy->differ, blocks, copy->next)) < blocks) {
        uint64_t last = min_u64(bitmap_find_clear(copy->differ, blocks, first), first + CHUNK_BLOCKS - place);
        copy->runs[copy->run_count++] = (struct copy_run){.first = first, .last = last, .place = place};
        place += last - first;
        copy->next = last;
    }
    if (copy->run_count == 0 || copy->failed || !is_there(copy, copy->source)) {
        end(copy);
        return;
    }
    copy->then = read_done;
    for (unsigned i = 0; i < copy->run_count; i++) {
        const struct copy_run *run = &copy->runs[i];
        send(copy, copy->source, layer ? BLOCK_REPLICA_GET : BLOCK_READ,
             layer ? replica_argument(REPLICA_READ, 0, copy->layer) : 0, copy->offset + run->first * REPLICA_BLOCK_BYTES,
             (uint8_t *)copy->buffer + run->place * REPLICA_BLOCK_BYTES, (run->last - run->first) * REPLICA_BLOCK_BYTES);
    }
}

static void summed(struct mirror_copy *copy) {
    uint64_t blocks = copy->length / REPLICA_BLOCK_BYTES;
    const uint64_t *source = copy->sums[copy->source->index];
    memset(copy->differ, 0, sizeof(copy->differ));
    mirror_for_each_leg(copy->mirror, leg) if ((copy->targets & leg->bit) != 0 &&
                                               is_there(copy, leg)) for (uint64_t i = 0; i < blocks;
                                                                         i++) if ((copy->unreadable & leg->bit) != 0 ||
                                                                                  copy->sums[leg->index][i] != source[i])
        bitmap_set(copy->differ, i);
    bool all = bitmap_count(copy->differ, blocks) == blocks;
    mirror_for_each_leg(copy->mirror, leg) if (all && (copy->targets & leg->bit) != 0) leg->blind_left = BLIND_REGIONS;
    copy->next = 0;
    next_runs(copy);
}

static void begin_held(struct mirror_copy *copy) {
    struct mirror *mirror = copy->mirror;
    mirror_mask asked = copy->targets | copy->source->bit;
    if (!is_wanted(copy)) { /* the mirror may have shrunk while it waited for its range */
        end(copy);
        return;
    }
    if (copy->blind) {
        bitmap_set_range(copy->differ, 0, copy->length / REPLICA_BLOCK_BYTES);
        copy->next = 0;
        next_runs(copy);
        return;
    }
    copy->then = summed;
    mirror_for_each_leg(mirror, leg) if ((asked & leg->bit) != 0 && is_there(copy, leg))
        send(copy, leg, BLOCK_REPLICA_GET,
             replica_argument(REPLICA_SUMS, copy->seed, leg == copy->source ? copy->layer : REPLICA_LAYER_HEAD), copy->offset,
             copy->sums[leg->index], copy->length / REPLICA_BLOCK_BYTES * 8);
    if (copy->waiting == 0)
        end(copy);
}

static void granted(struct range *range) {
    struct mirror_copy *copy = container_of(range, struct mirror_copy, range);
    copy->then = begin_held;
    reactor_defer(copy->mirror->home, &copy->job);
}

/* What differs cannot be asked where one of them tells no checksums. */
static bool all_tell_sums(const struct mirror_copy *copy) {
    mirror_mask all = copy->targets | copy->source->bit;
    mirror_for_each_leg(copy->mirror, leg) if ((all & leg->bit) != 0 && !leg->replica) return false;
    return true;
}

/* False: there is no buffer now. */
static bool begin(struct mirror_copy *copy, uint64_t region, struct mirror_leg *source, mirror_mask targets, bool equalise,
                  const struct mirror_leg *fills) {
    struct mirror *mirror = copy->mirror;
    copy->buffer = buffer_take(&mirror->home->buffers, CHUNK_BLOCKS * REPLICA_BLOCK_BYTES);
    if (copy->buffer == NULL)
        return false;
    copy->busy = true;
    copy->region = region;
    copy->offset = region * REGION_BYTES;
    copy->layer = fills != NULL ? fills->fill_layer : REPLICA_LAYER_HEAD;
    copy->length = min_u64(REGION_BYTES, (fills != NULL ? fills->fill_size : mirror->size) - copy->offset);
    copy->source = source;
    copy->targets = source->doubted && equalise ? targets : targets & (mirror_mask)~source->bit;
    copy->equalise = equalise;
    copy->failed = copy->blind = copy->unmarked = false;
    copy->unreadable = 0;
    copy->waiting = 0;
    mirror_throttle_begin(mirror, MIRROR_CHORE_COPY, copy->length);
    copy->seed = (uint32_t)random_u64(&mirror->random) & 0xffffff;
    mirror_for_each_leg(mirror, leg) {
        copy->generations[leg->index] = leg->generation;
        copy->blind = copy->blind || (equalise && (copy->targets & leg->bit) != 0 && leg->doubted);
        if (!equalise && (copy->targets & leg->bit) != 0) {
            leg->copying++;
            copy->blind = (fills == NULL && leg->verdict == DECIDE_FULL && (leg->blank || leg->blind_left > 0)) ||
                          (leg->doubted && bitmap_test(leg->doubtful, region));
            leg->blind_left -= leg->blind_left > 0;
            copy->unmarked =
                leg->replica && leg->verdict == DECIDE_FULL && (fills != NULL || !bitmap_test(mirror->regions.marked, region));
        }
    }
    copy->blind = copy->blind || !all_tell_sums(copy);
    copy->range.granted = granted;
    if (fills != NULL || ranges_enter(&mirror->ranges, &copy->range, copy->offset, copy->length))
        granted(&copy->range);
    return true;
}

/* ---- which one next ---- */

static bool is_copied(const struct mirror *mirror, uint64_t region) {
    for (unsigned i = 0; i < mirror->copy_count; i++)
        if (mirror->copies[i]->busy && mirror->copies[i]->region == region)
            return true;
    return false;
}

/* Who is asked for comes first, then the unequal ones, then what legs miss. */
static bool next_unequal(struct mirror *mirror, uint64_t *ret_region) {
    while (mirror->front_count > 0) {
        uint64_t region = mirror->front[--mirror->front_count];
        if (bitmap_test(mirror->regions.unequal, region) && !is_copied(mirror, region)) {
            *ret_region = region;
            return true;
        }
    }
    for (uint64_t at = 0; (at = bitmap_find_set(mirror->regions.unequal, mirror->regions.count, at)) < mirror->regions.count;
         at++)
        if (!is_copied(mirror, at)) {
            *ret_region = at;
            return true;
        }
    return false;
}

static struct mirror_leg *next_work(struct mirror *mirror, uint64_t *ret_region) {
    mirror_for_each_leg(mirror, leg) {
        bool fills = leg->task.state == LEG_FILL;
        if ((leg->task.state != LEG_COPY && !fills) || !mirror_leg_is_up(leg) || leg->work_left == 0)
            continue;
        if (fills && ((mirror->standing & leg->fill->bit) == 0 || leg->fill->generation != leg->fill_generation)) {
            task_wake(&leg->task); /* another one has that layer, too */
            continue;
        }
        uint64_t left = leg->work_count;
        for (uint64_t at = leg->work_hand; left > 0; left--) {
            at = bitmap_find_set(leg->work, leg->work_count, at);
            if (at >= leg->work_count) {
                if (leg->work_hand == 0)
                    break;
                at = leg->work_hand = 0;
                continue;
            }
            if (!is_copied(mirror, at) && (fills || !bitmap_test(mirror->regions.unequal, at))) {
                leg->work_hand = at + 1;
                *ret_region = at;
                return leg;
            }
            at++;
        }
    }
    return NULL;
}

/* No buffer is free: others have them, and give them back soon. */
static void try_later(struct mirror *mirror) {
    reactor_timer_start(mirror->home, &mirror->copy_timer, reactor_now_ns(mirror->home) + NS_PER_MS);
}

static struct mirror_leg *source_of(struct mirror *mirror, uint64_t region) {
    return mirror_leg_cheapest(mirror, mirror->standing, region * REGION_BYTES);
}

static void look(struct mirror *mirror) {
    if (mirror->state != MIRROR_SERVING || mirror->standing == 0 || !mirror->regions_known || mirror->closing ||
        mirror->releasing || mirror_tree_commands_hold(mirror))
        return;
    if (reactor_now_ns(mirror->home) < mirror->copy_rest_ns) {
        reactor_timer_start(mirror->home, &mirror->copy_timer, mirror->copy_rest_ns);
        return;
    }
    for (unsigned i = 0; i < mirror->copy_count; i++) {
        struct mirror_copy *copy = mirror->copies[i];
        uint64_t region = 0, until_ns;
        if (copy->busy)
            continue;
        if (list_empty(&mirror->regions_wait) && !mirror_throttle_admits(mirror, MIRROR_CHORE_COPY, &until_ns)) {
            reactor_timer_start(mirror->home, &mirror->copy_timer, until_ns);
            return;
        }
        if (mirror->regions.unequal_count > 0 && next_unequal(mirror, &region)) {
            if (!begin(copy, region, source_of(mirror, region), mirror->writers, true, NULL)) {
                try_later(mirror);
                return;
            }
            continue;
        }
        struct mirror_leg *leg = mirror->sync_paused ? NULL : next_work(mirror, &region);
        if (leg == NULL)
            return;
        bool fills = leg->task.state == LEG_FILL;
        if (!begin(copy, region, fills ? leg->fill : source_of(mirror, region), leg->bit, false, fills ? leg : NULL)) {
            leg->work_hand = region;
            try_later(mirror);
            return;
        }
    }
}

static void look_job(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, copy_timer);
    look(mirror);
}

void mirror_copy_wake(struct mirror *mirror) {
    if (mirror->copy_count > 0)
        reactor_timer_start(mirror->home, &mirror->copy_timer, 0);
}

void mirror_copy_first(struct mirror *mirror, uint64_t region) {
    if (mirror->front_count == array_count(mirror->front)) { /* the oldest wish goes; the list finds it in time */
        memmove(&mirror->front[0], &mirror->front[1], sizeof(mirror->front) - sizeof(mirror->front[0]));
        mirror->front_count--;
    }
    mirror->front[mirror->front_count++] = region;
    mirror_copy_wake(mirror);
}

bool mirror_copy_init(struct mirror *mirror) {
    unsigned count = mirror->options.copies == 0 ? 4 : min_u32(mirror->options.copies, MIRROR_COPIES_MAX);
    mirror->copy_timer = (struct reactor_timer){.run = look_job};
    for (unsigned i = 0; i < count; i++) {
        struct mirror_copy *copy = calloc(1, sizeof(*copy));
        if (copy == NULL)
            return false;
        copy->mirror = mirror;
        copy->job.run = all_answered;
        mirror->copies[mirror->copy_count++] = copy;
    }
    return true;
}

void mirror_copy_fini(struct mirror *mirror) {
    for (unsigned i = 0; i < mirror->copy_count; i++) {
        assert(!mirror->copies[i]->busy);
        free(mirror->copies[i]);
    }
    reactor_timer_stop(mirror->home, &mirror->copy_timer);
    mirror->copy_count = 0;
}

bool mirror_copy_is_busy(const struct mirror *mirror) {
    for (unsigned i = 0; i < mirror->copy_count; i++)
        if (mirror->copies[i]->busy)
            return true;
    return false;
}
