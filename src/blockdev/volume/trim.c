/* Clearing ranges of a layer: trim, write-zeroes, and the walker that reclaiming and shrinking use too. Only words change here,
 * never data. */
#include "blockdev/volume/store.h"

#define CLEAR_WORDS 8u /* of the batch, for one step */

/* True if a write of the layer that is not done may still want the cluster of this map word. */
static bool cluster_wanted(const struct layer *layer, uint32_t cluster) {
    uint64_t first = (uint64_t)cluster * CLUSTER_BLOCKS, last = first + CLUSTER_BLOCKS - 1;
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
    if (present != 0 || (mask != 0xffff && freed != 0 && cluster_wanted(layer, cluster)))
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
enum got node_drop(struct volume_store *store, struct layer *layer, uint32_t node, bool zero, struct waiter *waiter,
                   enum io_status *ret_status) {
    uint64_t reference;
    enum got got = dir_get(store, layer, node, waiter, &reference, ret_status);
    if (got != GOT || reference_cluster(reference) == 0)
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

enum got walk_clear(struct volume_store *store, struct walk *walk, uint32_t *budget, enum io_status *ret_status) {
    struct layer *layer = walk->layer;
    const uint64_t node_blocks = (uint64_t)NODE_WORDS * CLUSTER_BLOCKS, root_blocks = node_blocks * NODE_WORDS;
    while (walk->first<walk->end && * budget> 0) {
        (*budget)--;
        bool hide = walk->hide && layer->parent != NULL && walk->first < layer_get(layer, LAYER_LIMIT);
        uint32_t cluster = (uint32_t)(walk->first / CLUSTER_BLOCKS), node = cluster / NODE_WORDS;
        uint64_t root = layer_get(layer, LAYER_ROOTS + node / NODE_WORDS), reference;
        if (reference_cluster(root) == 0 && (!hide || (root & REFERENCE_ZERO) != 0)) {
            walk->first = min_u64(walk->end, (walk->first / root_blocks + 1) * root_blocks);
            continue;
        }
        enum got got = dir_get(store, layer, node, walk->waiter, &reference, ret_status);
        if (got != GOT)
            return got;
        uint64_t node_first = node * node_blocks, node_end = node_first + node_blocks;
        bool whole = walk->nodes && walk->start <= node_first && walk->end >= min_u64(node_end, layer_get(layer, LAYER_TAIL));
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
            got = node_drop(store, layer, node, zero, walk->waiter, ret_status);
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
    if (unlikely(op->volume->layer == NULL || store_frozen(store))) {
        op_fail(op, op->volume->layer == NULL ? IO_DEVICE_GONE : IO_MEDIUM_WRITE);
        return;
    }
    if (unlikely(op->walk.end > layer_size(op->volume->layer))) {
        op_fail(op, IO_OUT_OF_RANGE);
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
            op->prepared = false;
            write_run(op);
            return;
        }
    }
    if (zero && op->zero_stage == 1) { /* and behind */
        op->zero_stage = 2;
        if (end < stop && end >= first) {
            op->cursor = end;
            op->end = stop;
            op->prepared = false;
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
                             .waiter = &op->waiter};
    trim_walk(op);
}

void trim_start(struct volume_op *op) {
    op->zero_stage = 0;
    trim_run(op);
}
