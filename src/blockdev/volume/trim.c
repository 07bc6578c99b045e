/* Clearing ranges of a layer: trim, write-zeroes, and the walker that reclaiming and shrinking use too. Only words change here,
 * never data. */
#include "blockdev/volume/internal.h"

#define CLEAR_WORDS 8u /* of the batch, for one step */
#define NODE_BLOCKS ((uint64_t)NODE_WORDS * CLUSTER_BLOCKS)
#define ROOT_BLOCKS (NODE_BLOCKS * NODE_WORDS)

/* True if a write of the layer that is not done wants the cluster of this map word: it is held, or blocks beside those that are
 * cleared (`whole`: there are none) are under way. */
static bool cluster_wanted(const struct walk *walk, uint32_t cluster, bool whole) {
    const struct layer *layer = walk->layer;
    uint64_t first = (uint64_t)cluster * CLUSTER_BLOCKS, last = first + CLUSTER_BLOCKS - 1;
    if (hold_covers(layer, first, last, walk->hold))
        return true;
    if (whole)
        return false;
    list_for_each (&layer->locks, struct block_lock, lock, node) {
        if (!lock->clears && lock->first <= last && lock->last >= first)
            return true;
    }
    return false;
}

static enum got clear_word(struct volume_store *store, struct walk *walk, uint32_t cluster, uint16_t mask,
                           enum io_status *ret_status) {
    struct layer *layer = walk->layer;
    uint64_t word;
    enum got got = map_get(store, layer, cluster, walk->waiter, &word, ret_status);
    if (got != GOT)
        return got;
    uint16_t hidden = walk->hide ? layer_parent_mask(layer, cluster) & mask : 0;
    uint16_t present = map_present(word) & (uint16_t)~mask, zero = (map_zero(word) & (uint16_t)~mask) | hidden;
    uint32_t freed = map_cluster(word);
    if (present != 0 || (freed != 0 && cluster_wanted(walk, cluster, mask == 0xffff)))
        freed = 0;
    uint64_t next = map_word(freed != 0 ? 0 : map_cluster(word), present, zero);
    if (next == word)
        return GOT;
    got = commit_room(store, CLEAR_WORDS, walk->waiter);
    if (got != GOT)
        return got;
    struct page *alloc = NULL, *page;
    if (freed != 0) {
        got = cluster_free_prepare(store, freed, walk->waiter, ret_status);
        if (got != GOT)
            return got;
        alloc = page_find(store, SPACE(PAGE_ALLOC, 0), freed / ALLOC_PAGE_CLUSTERS);
        page_pin(alloc);
    }
    got = map_page_for_write(store, layer, cluster, true, walk->waiter, &page, ret_status);
    if (got == GOT) {
        page_set(store, page, cluster % PAGE_WORDS, next);
        if (freed != 0) {
            cluster_free(store, freed);
            layer_set(store, layer, LAYER_USED, layer_get(layer, LAYER_USED) - 1);
            promise_update(store, layer);
        }
    }
    if (alloc != NULL)
        page_unpin(store, alloc);
    return got;
}

/* Drops a node none of whose words names a cluster any more. `zero`: what it covers reads as zero from now on. */
static enum got node_drop(struct volume_store *store, const struct walk *walk, uint32_t node, bool zero,
                          enum io_status *ret_status) {
    struct layer *layer = walk->layer;
    struct waiter *waiter = walk->waiter;
    uint64_t reference, first = (uint64_t)node * NODE_BLOCKS;
    enum got got = dir_get(store, layer, node, waiter, &reference, ret_status);
    if (got != GOT || reference_cluster(reference) == 0 || hold_covers(layer, first, first + NODE_BLOCKS - 1, walk->hold))
        return got;
    for (uint32_t cluster = node * NODE_WORDS; cluster < (node + 1) * NODE_WORDS; cluster++) {
        uint64_t word;
        got = map_get(store, layer, cluster, waiter, &word, ret_status);
        if (got != GOT)
            return got;
        if (map_cluster(word) != 0)
            return GOT; /* written meanwhile */
    }
    got = commit_room(store, CLEAR_WORDS, waiter);
    if (got == GOT)
        got = cluster_free_prepare(store, reference_cluster(reference), waiter, ret_status);
    if (got != GOT)
        return got;
    struct page *alloc = page_find(store, SPACE(PAGE_ALLOC, 0), reference_cluster(reference) / ALLOC_PAGE_CLUSTERS), *dir;
    page_pin(alloc);
    got = dir_page_for_write(store, layer, node, true, waiter, &dir, ret_status);
    if (got == GOT) {
        page_set(store, dir, node % PAGE_WORDS, zero ? REFERENCE_ZERO : 0);
        pages_forget(store, SPACE(PAGE_MAP, layer->id), node * NODE_PAGES, NODE_PAGES);
        cluster_free(store, reference_cluster(reference));
        layer_set(store, layer, LAYER_NODES, layer_get(layer, LAYER_NODES) - 1);
        promise_update(store, layer);
    }
    page_unpin(store, alloc);
    return got;
}

/* True if the walk clears all that the node has. */
static bool node_whole(const struct walk *walk, uint32_t node) {
    uint64_t first = (uint64_t)node * NODE_BLOCKS, end = min_u64(first + NODE_BLOCKS, layer_get(walk->layer, LAYER_TAIL));
    return walk->nodes && walk->start <= first && walk->end >= end;
}

enum got walk_clear(struct volume_store *store, struct walk *walk, uint32_t *budget, enum io_status *ret_status) {
    struct layer *layer = walk->layer;
    while (walk->first<walk->end && * budget> 0) {
        (*budget)--;
        bool hide = walk->hide && layer->parent != NULL && walk->first < layer_get(layer, LAYER_LIMIT);
        uint32_t cluster = (uint32_t)(walk->first / CLUSTER_BLOCKS), node = cluster / NODE_WORDS;
        uint64_t root = layer_get(layer, LAYER_ROOTS + node / NODE_WORDS), reference;
        if (reference_cluster(root) == 0 && (!hide || (root & REFERENCE_ZERO) != 0)) {
            walk->first = min_u64(walk->end, (walk->first / ROOT_BLOCKS + 1) * ROOT_BLOCKS);
            continue;
        }
        enum got got = dir_get(store, layer, node, walk->waiter, &reference, ret_status);
        if (got != GOT)
            return got;
        uint64_t node_first = node * NODE_BLOCKS, node_end = node_first + NODE_BLOCKS;
        bool whole = node_whole(walk, node);
        if (reference_cluster(reference) == 0 && (!hide || (reference & REFERENCE_ZERO) != 0)) {
            walk->first = min_u64(walk->end, node_end);
            continue;
        }
        if (reference_cluster(reference) == 0 && whole) {
            struct page *dir;
            got = commit_room(store, CLEAR_WORDS, walk->waiter);
            if (got == GOT)
                got = dir_page_for_write(store, layer, node, true, walk->waiter, &dir, ret_status);
            if (got != GOT)
                return got;
            if (reference_cluster(dir->words[node % PAGE_WORDS]) == 0)
                page_set(store, dir, node % PAGE_WORDS, REFERENCE_ZERO);
            walk->first = min_u64(walk->end, node_end);
            continue;
        }
        uint64_t until = min_u64(walk->end, (uint64_t)(cluster + 1) * CLUSTER_BLOCKS);
        unsigned skip = (unsigned)(walk->first % CLUSTER_BLOCKS);
        got = clear_word(store, walk, cluster, block_mask(skip, (unsigned)(until - walk->first)), ret_status);
        if (got != GOT)
            return got;
        if (whole && (until == node_end || until == walk->end)) {
            bool zero = walk->hide && layer->parent != NULL && node_first < layer_get(layer, LAYER_LIMIT);
            got = node_drop(store, walk, node, zero, ret_status);
            if (got != GOT)
                return got; /* the last word again, which is nothing to do, and then this */
        }
        walk->first = until;
    }
    return GOT;
}

/* ---- requests ---- */

static void trim_end(struct volume_op *op) {
    if ((op->request->flags & BLOCK_FUA) != 0 && VOLUME_CANARY != VOLUME_CANARY_FUA_ZERO_ON_PENDING)
        op_commit(op);
    else
        op_end(op, IO_OK);
}

static void trim_walk(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    enum io_status status = IO_OK;
    uint32_t budget = WALK_STEPS;
    const struct layer *now = op->volume->layer;
    if (now != NULL && op->request->op == BLOCK_TRIM) { /* a shrink came between: what it cut off needs no trim */
        op->walk.end = min_u64(op->walk.end, layer_size(now));
        op->walk.first = min_u64(op->walk.first, op->walk.end);
    }
    status = change_status(op, op->walk.end << BLOCK_SHIFT);
    if (unlikely(status != IO_OK)) {
        op_fail(op, status);
        return;
    }
    if (op->walk.layer != op->volume->layer) { /* a snapshot came between: what was cleared so far is in it */
        op->walk.layer = op->volume->layer;
        op->walk.hide = true;
        op->walk.first = op->walk.start;
    }
    op->waiting = true;
    if (op->lock.layer != op->walk.layer)
        lock_release(&op->lock);
    if (op->lock.layer == NULL) { /* not while somebody fills a block of it from what it was */
        op->lock.clears = true;
        lock_take(op->walk.layer, &op->lock, op->walk.start, op->walk.end - 1, false, &op->waiter);
    }
    if (!op->lock.granted)
        return;
    enum got got = walk_clear(store, &op->walk, &budget, &status);
    if (got == WAIT)
        return;
    if (got == GOT && op->walk.first < op->walk.end) {
        op->waiter.wake(&op->waiter, IO_OK); /* let others run */
        return;
    }
    op->waiting = false;
    /* a trim that finds no room for its own map pages has given up what it could */
    if (got == FAILED && (status != IO_NO_SPACE || op->request->op != BLOCK_TRIM))
        op_fail(op, status);
    else
        trim_end(op);
}

void trim_run(struct volume_op *op) {
    const struct block_request *request = op->request;
    uint64_t first = round_up(request->offset, BLOCK_BYTES), end = round_down(request->offset + request->length, BLOCK_BYTES);
    bool zero = request->op == BLOCK_WRITE_ZEROES;
    uint64_t stop = request->offset + request->length;
    if (zero && op->zero_stage == 0) { /* the part of a block in front */
        op->zero_stage = 1;
        if (first > request->offset) {
            op->cursor = request->offset;
            op->end = min_u64(first, stop);
            write_run(op);
            return;
        }
    }
    if (zero && op->zero_stage == 1) { /* and behind */
        op->zero_stage = 2;
        if (end < stop && end >= first) {
            op->cursor = end;
            op->end = stop;
            write_run(op);
            return;
        }
    }
    lock_release(&op->lock);
    op->lock.clears = false;
    if (end <= first) {
        trim_end(op);
        return;
    }
    op->resume = trim_walk;
    op->walk = (struct walk){.layer = op->volume->layer,
                             .start = first / BLOCK_BYTES,
                             .first = first / BLOCK_BYTES,
                             .end = end / BLOCK_BYTES,
                             .hide = true,
                             .nodes = true,
                             .hold = &op->hold,
                             .waiter = &op->waiter};
    trim_walk(op);
}

/* The nodes that clearing [first, end) needs are there afterwards: those in which blocks are hidden one by one, at its two ends,
 * and the directory's. */
static enum got nodes_prepare(struct volume_op *op, struct layer *layer, uint64_t first, uint64_t end,
                              enum io_status *ret_status) {
    struct volume_store *store = op->volume->store;
    const struct walk walk = {.layer = layer, .start = first, .end = end, .nodes = true};
    end = layer->parent == NULL ? 0 : min_u64(end, layer_get(layer, LAYER_LIMIT)); /* nothing is hidden behind it */
    enum got got = GOT;
    struct page *page;
    for (uint64_t at = first; at < end && got == GOT; at = (at / ROOT_BLOCKS + 1) * ROOT_BLOCKS) {
        uint64_t root = layer_get(layer, LAYER_ROOTS + (unsigned)(at / ROOT_BLOCKS));
        if (reference_cluster(root) == 0 && (root & REFERENCE_ZERO) == 0)
            got = dir_page_for_write(store, layer, (uint32_t)(at / NODE_BLOCKS), true, &op->waiter, &page, ret_status);
    }
    for (unsigned i = 0; i < 2 && first < end && got == GOT; i++) {
        uint64_t at = i == 0 ? first : end - 1, reference;
        uint32_t node = (uint32_t)(at / NODE_BLOCKS);
        if (node_whole(&walk, node))
            continue;
        got = dir_get(store, layer, node, &op->waiter, &reference, ret_status);
        if (got == GOT && reference_cluster(reference) == 0 && (reference & REFERENCE_ZERO) == 0)
            got = map_page_for_write(store, layer, (uint32_t)(at / CLUSTER_BLOCKS), true, &op->waiter, &page, ret_status);
    }
    return got;
}

/* Space for all of a write-zeroes, held before anything is changed: then it does not fail half done. */
static void zero_prepare(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    struct layer *layer = op->volume->layer;
    const struct block_request *request = op->request;
    uint64_t stop = request->offset + request->length;
    uint64_t first = round_up(request->offset, BLOCK_BYTES), end = round_down(stop, BLOCK_BYTES);
    enum io_status status = change_status(op, stop);
    enum got got = status == IO_OK ? hold_gate(store, layer, &op->waiter) : FAILED;
    op->resume = zero_prepare;
    if (got == GOT && first > request->offset)
        got = write_prepare(op, layer, request->offset, min_u64(first, stop), &status);
    if (got == GOT && end < stop && end >= first)
        got = write_prepare(op, layer, end, stop, &status);
    if (got == GOT)
        got = nodes_prepare(op, layer, first / BLOCK_BYTES, end / BLOCK_BYTES, &status);
    op->waiting = got == WAIT;
    if (got == FAILED)
        op_fail(op, status);
    if (got != GOT)
        return;
    hold_take(layer, &op->hold, request->offset >> BLOCK_SHIFT, (stop - 1) >> BLOCK_SHIFT);
    trim_run(op);
}

void trim_start(struct volume_op *op) {
    op->zero_stage = 0;
    if (op->request->op == BLOCK_WRITE_ZEROES && op->request->length > 0)
        zero_prepare(op);
    else
        trim_run(op);
}
