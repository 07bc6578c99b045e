/* What the head of a leg has to be given: the list of its regions, by its own marks and those of a member, which it is told to
 * mark as well. docs/mirror.md, "Returning", "Head". Copying them is resync.c's. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdlib.h>

bool mirror_work_begin(struct mirror_leg *leg, uint64_t regions) {
    uint64_t words = bitmap_words(regions);
    if (words > leg->work_words) {
        uint64_t *work = realloc(leg->work, words * sizeof(uint64_t));
        leg->work = work != NULL ? work : leg->work;
        uint64_t *doubtful = realloc(leg->doubtful, words * sizeof(uint64_t));
        leg->doubtful = doubtful != NULL ? doubtful : leg->doubtful;
        if (work == NULL || doubtful == NULL)
            return false;
        leg->work_words = words;
    }
    leg->work_count = regions;
    if (words > 0) {
        memset(leg->work, 0, words * sizeof(uint64_t));
        memset(leg->doubtful, 0, words * sizeof(uint64_t));
    }
    return true;
}

bool mirror_leg_is_doubtful(const struct mirror_leg *leg) {
    return (leg->status.flags & (REPLICA_UNPROVEN | REPLICA_UNTOUCHED)) == REPLICA_UNPROVEN;
}

/* Merges the piece of a bitmap that a call brought. */
static void merge(struct mirror_leg *leg, const struct mirror_leg *from) {
    const uint64_t *bits = from->call_document;
    for (size_t i = 0; i < from->call.slice.length / 8; i++) {
        leg->work[leg->piece / 64 + i] |= bits[i];
        leg->doubtful[leg->piece / 64 + i] |= from == leg ? bits[i] : 0;
    }
}

static size_t piece_bytes(const struct mirror *mirror, uint64_t piece, size_t most) {
    return (size_t)min_u64(most, (bitmap_words(mirror->regions.count) - piece / 64) * 8);
}

/* ---- what it marked itself ---- */

static void ask_own_marks(struct mirror_leg *leg) {
    leg->piece = 0;
    task_move(&leg->task, LEG_OWN_MARKS);
    mirror_leg_get(leg, REPLICA_MARKS, 0, 0, piece_bytes(leg->mirror, 0, MIRROR_MARKS_PIECE));
}

void mirror_work_own_marks(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not tell its marks"))
        return;
    merge(leg, leg);
    leg->piece += leg->call.slice.length * 8;
    if (leg->piece < bitmap_words(mirror->regions.count) * 64) {
        mirror_leg_get(leg, REPLICA_MARKS, 0, leg->piece / 8, piece_bytes(mirror, leg->piece, MIRROR_MARKS_PIECE));
        return;
    }
    leg->joined = 0;
    task_move(&leg->task, LEG_JOIN);
}

uint32_t mirror_work_progress(const struct mirror_leg *leg) {
    uint64_t total = leg->told.sync_total, done = min_u64(leg->told.sync_done, total);
    return leg->sync_base + (uint32_t)(total == 0 ? leg->sync_share : leg->sync_share * done / total);
}

/* What is unequal among the members comes after it is equal. A step's share is of what is left, so that an estimate that was
 * wrong makes the rest faster or slower, and never falls back. */
void mirror_work_count(struct mirror_leg *leg, uint64_t after_bytes) {
    leg->sync_base = mirror_work_progress(leg);
    leg->work_total = leg->work_left = bitmap_count(leg->work, leg->work_count);
    leg->work_hand = 0;
    leg->told.sync_total = leg->work_total * REGION_BYTES;
    leg->told.sync_done = 0;
    uint64_t all = leg->told.sync_total + after_bytes;
    leg->sync_share = (uint32_t)(all == 0 ? 0 : (10000 - leg->sync_base) * (leg->told.sync_total >> 20) / max_u64(all >> 20, 1));
}

void mirror_work_again(struct mirror_leg *leg, uint64_t region) {
    if (leg->task.state > LEG_COPY) {
        mirror_leg_lose(leg, "what it was to be equal to cannot be read");
        return;
    }
    bool counts = leg->task.state == LEG_COPY && !bitmap_test(leg->work, region);
    bitmap_set(leg->work, region);
    bitmap_set(leg->doubtful, region);
    if (!counts)
        return;
    leg->work_left++;
    leg->work_total++;
    leg->cursor_left += leg->cursor_left != UINT64_MAX;
    leg->told.sync_total = leg->work_total * REGION_BYTES;
}

/* ---- whom it asks ---- */

static void source_answered(struct mirror_call *call) {
    struct mirror_leg *source = call->leg;
    if (source->asker->source != source)
        source->asker = NULL; /* it was lost meanwhile */
    mirror_legs_wake(source->mirror);
}

static void source_called(struct mirror_call *call) {
    struct mirror_leg *source = call->leg;
    source_answered(call);
    if (call->generation == source->generation && call->status != IO_OK)
        if (!mirror_leg_judge(source, call->status))
            mirror_leg_refused(source, call->status, "it does not tell its marks");
}

static void ask_source(struct mirror_leg *leg, uint32_t depth) {
    mirror_call_send(leg->source, &leg->source->call, BLOCK_REPLICA_GET, replica_argument(REPLICA_MARKS, 0, depth),
                     leg->piece / 8, leg->source->call_document, piece_bytes(leg->mirror, leg->piece, MIRROR_MARKS_PIECE),
                     source_called);
}

void mirror_work_leave_source(struct mirror_leg *leg) {
    struct mirror_leg *source = leg->source;
    leg->source = NULL;
    if (source == NULL || source->call.busy)
        return; /* source_called() lets it go */
    source->asker = NULL;
    mirror_legs_wake(leg->mirror);
}

/* The member that is asked for what it knows, or another one if that is lost: then from the beginning. NULL: not now. */
static struct mirror_leg *borrow_source(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    struct mirror_leg *source = leg->source;
    if (source == NULL || (mirror->standing & source->bit) == 0 || source->generation != leg->source_generation) {
        mirror_work_leave_source(leg);
        if (mirror->standing == 0)
            return NULL;
        source = &mirror->legs[__builtin_ctz(mirror->standing)];
        if (source->asker != NULL || source->call.busy)
            return NULL; /* another leg asks it; this one is woken with it */
        source->asker = leg;
        leg->source = source;
        leg->source_generation = source->generation;
        leg->piece = 0;
        leg->mark_step = 0;
    }
    return source->call.busy ? NULL : source;
}

/* ---- what may be there at all ---- */

/* Nobody who does not tell what he holds is worse for that: then all is looked at. */
static void owned_by_all(struct mirror_leg *leg) { bitmap_set_range(leg->work, 0, leg->work_count); }

static bool owned_of_source(struct mirror_leg *leg) {
    struct mirror_leg *source = borrow_source(leg);
    if (source == NULL)
        return false;
    if (leg->mark_step != 0) {
        if (source->call.status != IO_OK) {
            (void)mirror_leg_judge(source, source->call.status);
            owned_by_all(leg);
            return true;
        }
        merge(leg, source);
        leg->piece += source->call.slice.length * 8;
    }
    if (leg->piece >= bitmap_words(leg->mirror->regions.count) * 64)
        return true;
    leg->mark_step = 1;
    mirror_call_send(source, &source->call, BLOCK_REPLICA_GET, replica_argument(REPLICA_OWNED, 0, REPLICA_LAYER_HEAD),
                     leg->piece / 8, source->call_document, piece_bytes(leg->mirror, leg->piece, REPLICA_OWNED_MAX),
                     source_answered);
    return false;
}

/* Nothing is known of it: its head and a member's stand on the same snapshot, or on none; what neither owns upon that is equal.
 * What is written from here on is marked on the members. */
void mirror_work_owned(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->call.busy)
        return;
    if (leg->owned_step == 0) {
        if (leg->call.status == IO_UNSUPPORTED) {
            owned_by_all(leg);
            leg->owned_step = 2;
        } else if (!mirror_leg_went_well(leg, "it does not tell what it holds")) {
            return;
        } else {
            merge(leg, leg);
            leg->piece += leg->call.slice.length * 8;
            if (leg->piece < bitmap_words(mirror->regions.count) * 64) {
                mirror_leg_get(leg, REPLICA_OWNED, REPLICA_LAYER_HEAD, leg->piece / 8,
                               piece_bytes(mirror, leg->piece, REPLICA_OWNED_MAX));
                return;
            }
            leg->owned_step = 1;
        }
    }
    if (leg->owned_step == 1 && !owned_of_source(leg))
        return;
    leg->owned_step = 2;
    if (!mirror_cursor_begin(leg, 0))
        return;
    leg->from_depth = leg->cursor != 0 ? leg->cursor_joined : 0;
    mirror_work_leave_source(leg);
    ask_own_marks(leg);
}

void mirror_work_upon(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (!owned_of_source(leg))
        return;
    mirror_work_leave_source(leg);
    /* A snapshot since, or one that is just being made, leaves a head that tells less. */
    if (leg->upon != mirror->tree_sequence || mirror_tree_is_changing(mirror))
        owned_by_all(leg);
    leg->upon = 0; /* what it misses when it is away is not known */
    mirror_work_count(leg, 0);
    task_move(&leg->task, LEG_COPY);
    mirror_copy_wake(mirror);
}

/* Its tree is the mirror's, unless that was changed since: the work on its head begins with what may be there at all, if nothing
 * is known of it, or its own marks. */
void mirror_work_listed(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (mirror_tree_is_sent(mirror))
        return; /* woken when that is over */
    if (!mirror_tree_is_equal(leg)) {
        task_move(&leg->task, LEG_TREES);
        return;
    }
    if (!mirror_work_begin(leg, mirror->regions.count)) {
        mirror_leg_lose(leg, "no memory for its work");
        return;
    }
    leg->piece = 0;
    if (leg->verdict == DECIDE_FULL) {
        bitmap_set_range(leg->doubtful, 0, leg->work_count);
        leg->owned_step = 0;
        task_move(&leg->task, LEG_OWNED);
        mirror_leg_get(leg, REPLICA_OWNED, REPLICA_LAYER_HEAD, 0, piece_bytes(mirror, 0, REPLICA_OWNED_MAX));
        return;
    }
    ask_own_marks(leg);
}

/* ---- what members marked ---- */

/* Pieces of two bitmaps in turn: what it needs, and all that is marked, which it marks as well. */
void mirror_work_source_marks(struct mirror_leg *leg) {
    struct mirror_leg *source = borrow_source(leg);
    if (source == NULL)
        return;
    switch (leg->mark_step) {
    case 0:
        leg->mark_step = 1;
        ask_source(leg, (uint32_t)leg->from_depth);
        return;
    case 1:
        merge(leg, source);
        leg->mark_step = 2;
        ask_source(leg, 0);
        return;
    default: break;
    }
    struct replica_ranges *ranges = leg->call_document;
    const uint64_t *bits = source->call_document;
    uint64_t count = source->call.slice.length * 8, bit = 0;
    *ranges = (struct replica_ranges){0};
    while ((bit = bitmap_find_set(bits, count, bit)) < count) {
        uint64_t end = bitmap_find_clear(bits, count, bit);
        if (ranges->count == REPLICA_RANGES_MAX) { /* a few more than are marked do no harm */
            ranges->ranges[ranges->count - 1].count = leg->piece + end - ranges->ranges[ranges->count - 1].first;
        } else {
            ranges->ranges[ranges->count++] = (struct replica_range){.first = leg->piece + bit, .count = end - bit};
        }
        bit = end;
    }
    leg->mark_step = 0;
    leg->piece += count;
    task_move(&leg->task, LEG_MARK);
    if (ranges->count > 0)
        mirror_call_send(leg, &leg->call, BLOCK_REPLICA_PUT, replica_argument(REPLICA_MARK, 0, 0), 0, ranges,
                         replica_ranges_bytes(ranges->count), mirror_leg_called);
    else
        leg->call.status = IO_OK;
}

void mirror_work_marked(struct mirror_leg *leg) {
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not mark"))
        return;
    task_move(&leg->task, LEG_SOURCE_MARKS);
    if (leg->piece < bitmap_words(leg->mirror->regions.count) * 64)
        return;
    mirror_work_leave_source(leg);
    mirror_work_count(leg, 0);
    task_move(&leg->task, LEG_COPY);
    mirror_copy_wake(leg->mirror);
}
