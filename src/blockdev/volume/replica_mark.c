/* Region marks: which part of a leg was written in which epoch. A mark is durable before the data may reach the disk; a region
 * that has the record's depth costs a bit test. */
#include "base/bitmap.h"
#include "blockdev/volume/replica.h"

#include <stdlib.h>

/* A mark's word: depth in the upper half, so that it names no cluster. */
static uint64_t mark_word(uint32_t depth) { return (uint64_t)depth << 32; }
static uint32_t mark_depth(uint64_t word) { return (uint32_t)(word >> 32); }

static uint64_t first_region(const struct volume_op *op) { return op->request->offset / REPLICA_REGION_BYTES; }
static uint64_t end_region(const struct volume_op *op) {
    return divide_up(op->request->offset + op->request->length, REPLICA_REGION_BYTES);
}

/* Of a volume that has grown since the bitmap was made. */
static bool cover(struct replica *replica, uint64_t end) {
    if (likely(end <= replica->region_count))
        return true;
    uint64_t count = max_u64(end, divide_up(layer_size(replica->volume->layer) << BLOCK_SHIFT, REPLICA_REGION_BYTES));
    uint64_t *marked = calloc(bitmap_words(count), sizeof(*marked));
    if (marked == NULL)
        return false;
    if (replica->marked != NULL)
        memcpy(marked, replica->marked, bitmap_words(replica->region_count) * sizeof(*marked));
    free(replica->marked);
    replica->marked = marked;
    replica->region_count = count;
    return true;
}

enum got replica_marks_set(struct replica *replica, uint64_t first, uint64_t count, uint32_t depth, struct waiter *waiter,
                           enum io_status *ret_status) {
    struct volume_store *store = replica->volume->store;
    for (uint64_t region = first; region < first + count; region++) {
        struct page *page;
        uint64_t word = 1;
        enum got got = depth != 0 ? GOT : map_get(store, replica->marks, (uint32_t)region, waiter, &word, ret_status);
        if (got != GOT)
            return got;
        if (word == 0) /* and no page is made for that */
            continue;
        enum commit_urge urge = store->commit.urge;
        store->commit.urge = COMMIT_IN_TURN; /* what a new node takes is not for a record of its own */
        got = map_page_for_write(store, replica->marks, (uint32_t)region, false, waiter, &page, ret_status);
        store->commit.urge = urge;
        if (got == GOT)
            got = commit_room(store, 1, waiter);
        if (got != GOT)
            return got;
        page_set(store, page, (unsigned)(region % PAGE_WORDS), mark_word(depth));
    }
    return GOT;
}

enum got replica_mark_get(struct replica *replica, uint64_t region, struct waiter *waiter, uint32_t *ret_depth,
                          enum io_status *ret_status) {
    uint64_t word;
    enum got got = map_get(replica->volume->store, replica->marks, (uint32_t)region, waiter, &word, ret_status);
    if (got == GOT)
        *ret_depth = max_u32(mark_depth(word), (uint32_t)layer_get(replica->marks, LAYER_TREE));
    return got;
}

/* ---- before a write ---- */

static void mark_run(struct volume_op *op);

/* The round's marks are durable. A later epoch needs them anew. */
static void mark_committed(struct waiter *waiter, enum io_status status) {
    struct volume_op *op = container_of(waiter, struct volume_op, waiter);
    struct replica *replica = op->volume->replica;
    if (status == IO_OK)
        VOLUME_AT(op->volume, MARK_DURABLE);
    if (status == IO_OK && replica != NULL && op->mark_depth == replica->record.epoch.depth)
        bitmap_set_range(replica->marked, op->mark_first, op->mark_end - op->mark_first);
    waiter->wake = op->mark_wake;
    waiter->wake(waiter, status);
}

static void mark_run(struct volume_op *op) {
    struct replica *replica = op->volume->replica;
    struct volume_store *store = op->volume->store;
    enum io_status status = IO_OK;
    enum got got = GOT;
    op->resume = mark_run;
    /* one that was answered is nobody's any more: a claim waits for it */
    if (unlikely(replica == NULL || (op->early == NULL && (status = replica_admits(replica, op->request)) != IO_OK))) {
        op_fail(op, replica == NULL ? IO_NOT_READY : status);
        return;
    }
    uint32_t depth = (uint32_t)replica->record.epoch.depth;
    if (unlikely(op->volume->layer == NULL || store_frozen(store))) {
        op_fail(op, op->volume->layer == NULL ? IO_DEVICE_GONE : IO_MEDIUM_WRITE);
        return;
    }
    if (!cover(replica, end_region(op))) {
        op_fail(op, IO_NO_MEMORY);
        return;
    }
    uint64_t end = end_region(op), region = bitmap_find_clear(replica->marked, end, first_region(op));
    if (region == end) {
        if (!early_goes(op))
            return;
        op->mark_next(op);
        return;
    }
    op->mark_first = op->mark_end = region;
    op->mark_depth = depth;
    store->commit.urge = COMMIT_AHEAD;
    while (got == GOT && op->mark_end < end && op->mark_end - region < REPLICA_MARKS_A_TURN) {
        got = replica_marks_set(replica, op->mark_end, 1, depth, &op->waiter, &status);
        op->mark_end += got == GOT;
    }
    store->commit.urge = COMMIT_IN_TURN;
    if (got == FAILED)
        op_fail(op, status);
    if (got != GOT)
        return; /* what is set already is looked at again */
    if (REPLICA_CANARY == REPLICA_CANARY_MARK_AFTER_DATA) {
        op->mark_next(op);
        return;
    }
    if (op->early == NULL && early_take(op) == WAIT)
        return;
    VOLUME_AT(op->volume, MARK);
    op->mark_wake = op->waiter.wake;
    op->waiter.wake = mark_committed;
    commit_join_ahead(store, &op->waiter);
}

void replica_mark(struct volume_op *op, void (*next)(struct volume_op *op)) {
    op->mark_next = next;
    mark_run(op);
}
