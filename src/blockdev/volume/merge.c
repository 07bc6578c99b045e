/* Merging a nameless layer into its only child, word by word: what the child has or hides is dropped, clusters move, and where
 * both have one the blocks are copied. Words already merged are 0, so that it may begin again anywhere. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

#define MERGE_WORDS 12u

/* What becomes of one word. */
struct plan {
    uint64_t from, into;    /* the words as they are */
    uint16_t present, zero; /* that the child gets */
};

static enum got plan_make(struct background *background, struct plan *plan, enum io_status *ret_status) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer, *child = background->child;
    enum got got = map_get(store, layer, background->cluster, &background->waiter, &plan->from, ret_status);
    if (got == GOT)
        got = map_get(store, child, background->cluster, &background->waiter, &plan->into, ret_status);
    if (got != GOT)
        return got;
    uint16_t visible = layer_parent_mask(child, background->cluster);
    if (VOLUME_CANARY != VOLUME_CANARY_MERGE_OVER_OWN)
        visible &= (uint16_t) ~(map_present(plan->into) | map_zero(plan->into));
    plan->present = map_present(plan->from) & visible;
    plan->zero = layer->parent != NULL ? map_zero(plan->from) & visible : 0;
    return GOT;
}

static void free_for_merge(struct volume_store *store, uint32_t cluster) {
    cluster_free(store, cluster);
    if (VOLUME_CANARY == VOLUME_CANARY_MERGE_FREES_EARLY && store->freed_open != NULL && store->freed_open->count > 0) {
        store->freed_open->count--; /* the shadow away at once */
        store->waiting_clusters--;
        cluster_return(store, cluster, false);
    }
}

/* Takes the words to where the plan says, the copied blocks included; all in this turn. */
static enum got plan_apply(struct background *background, const struct plan *plan, enum io_status *ret_status) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer, *child = background->child;
    uint32_t own = map_cluster(plan->from), into = map_cluster(plan->into);
    bool move = plan->present != 0 && into == 0;
    enum got got = commit_room(store, MERGE_WORDS, &background->waiter);
    if (got != GOT)
        return got;
    struct page *alloc = NULL, *page;
    if (own != 0 && !move) {
        got = cluster_free_prepare(store, own, &background->waiter, ret_status);
        if (got != GOT)
            return got;
        alloc = page_find(store, SPACE(PAGE_ALLOC, 0), own / ALLOC_PAGE_CLUSTERS);
        page_pin(alloc);
    }
    struct page *child_page = NULL;
    uint64_t next = map_word(move ? own : into, map_present(plan->into) | plan->present,
                             (map_zero(plan->into) & (uint16_t)~plan->present) | plan->zero);
    if (next != plan->into) {
        got = map_page_for_write(store, child, background->cluster, true, &background->waiter, &child_page, ret_status);
        if (got == GOT)
            page_pin(child_page);
    }
    if (got == GOT && own != 0)
        got = map_page_for_write(store, layer, background->cluster, true, &background->waiter, &page, ret_status);
    if (got == GOT) {
        if (child_page != NULL)
            page_set(store, child_page, background->cluster % PAGE_WORDS, next);
        if (own != 0) {
            page_set(store, page, background->cluster % PAGE_WORDS, map_word(0, 0, map_zero(plan->from)));
            layer_set(store, layer, LAYER_USED, layer_get(layer, LAYER_USED) - 1);
            if (move)
                layer_set(store, child, LAYER_USED, layer_get(child, LAYER_USED) + 1);
            else
                free_for_merge(store, own);
            promise_update(store, child);
        }
        store->move_generation++;
    }
    if (child_page != NULL)
        page_unpin(store, child_page);
    if (alloc != NULL)
        page_unpin(store, alloc);
    return got;
}

/* ---- copying ---- */

static void copy_end(struct background *background) {
    lock_release(&background->lock);
    free(background->buffer);
    background->buffer = NULL;
    background->into = 0;
    background_queue(background);
}

static void written(struct store_io *io) {
    struct volume_store *store = io->store;
    struct background *background = io->owner;
    if (io->request.status != IO_OK) {
        background->status = (enum io_status)io->request.status;
        if (background->status != IO_NO_SPACE)
            cluster_quarantine(store, background->into);
    }
    store->unflushed = true;
    io_give(io);
    if (--background->pending > 0)
        return;
    struct plan plan;
    enum io_status status = background->status;
    enum got got = status == IO_OK ? plan_make(background, &plan, &status) : FAILED;
    if (got == GOT && map_cluster(plan.into) == background->into && (plan.present & ~background->copying) == 0)
        got = plan_apply(background, &plan, &status);
    /* else the child's word changed under the copy (a trim): the next step looks again */
    if (got == WAIT) {
        list_remove(&background->waiter.node); /* it is done anew, which is rare */
        commit_hasten(store);
    }
    copy_end(background);
    if (got == FAILED)
        background_stop(background, status);
}

static void read_done(struct store_io *io) {
    struct volume_store *store = io->store;
    struct background *background = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    io_give(io);
    background->pending = 1;
    background->status = status;
    for (unsigned b = 0; b < CLUSTER_BLOCKS && status == IO_OK;) {
        unsigned count = 0;
        while (b + count < CLUSTER_BLOCKS && (background->copying >> (b + count) & 1) != 0)
            count++;
        if (count == 0) {
            b++;
            continue;
        }
        struct store_io *write = io_take(store, written, background);
        if (write == NULL) {
            background->status = IO_NO_MEMORY;
            break;
        }
        background->pending++;
        epoch_enter(write);
        io_buffer(write, BLOCK_WRITE, ((uint64_t)background->into * CLUSTER_BLOCKS + b) * BLOCK_BYTES,
                  background->buffer + (size_t)b * BLOCK_BYTES, (size_t)count * BLOCK_BYTES);
        b += count;
    }
    if (--background->pending > 0)
        return;
    copy_end(background); /* it could not be read, or not one write be sent */
    background_stop(background, background->status);
}

/* The blocks are this merge's alone, and nobody writes into the layers any more who may not. */
static enum got copy(struct background *background, const struct plan *plan, enum io_status *ret_status) {
    struct volume_store *store = background->store;
    struct layer *child = background->child;
    uint64_t first = (uint64_t)background->cluster * CLUSTER_BLOCKS;
    if (background->lock.layer == NULL)
        lock_take(child, &background->lock, first, first + CLUSTER_BLOCKS - 1, true, &background->waiter);
    if (!background->lock.granted)
        return WAIT;
    if (child->frozen && child->writes_in_flight > 0)
        return WAIT;
    struct store_io *io = io_take(store, read_done, background);
    background->buffer = io == NULL ? NULL : aligned_alloc(BLOCK_BYTES, CLUSTER_BYTES);
    if (background->buffer == NULL) {
        if (io != NULL)
            io_give(io);
        lock_release(&background->lock);
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    background->into = map_cluster(plan->into);
    background->copying = plan->present;
    epoch_enter(io);
    io_buffer(io, BLOCK_READ, (uint64_t)map_cluster(plan->from) << CLUSTER_SHIFT, background->buffer, CLUSTER_BYTES);
    return WAIT;
}

/* ---- the whole ---- */

/* The child takes the layer's place; what is left of the layer is reclaimed. */
static enum got end(struct background *background) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer, *child = background->child;
    enum got got = commit_room(store, MERGE_WORDS, &background->waiter);
    if (got != GOT)
        return got;
    layer_set(store, child, LAYER_LIMIT, min_u64(layer_get(child, LAYER_LIMIT), layer_get(layer, LAYER_LIMIT)));
    layer_set(store, child, LAYER_PARENT, layer_get(layer, LAYER_PARENT));
    layer_set_parent(store, child, layer->parent);
    layer_set_state(store, layer, LAYER_DELETING);
    background->child = NULL;
    background_kick(store);
    return GOT;
}

enum got merge_step(struct background *background, uint32_t *budget, enum io_status *ret_status) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer;
    if (background->buffer != NULL)
        return WAIT;
    struct layer *child = layer_only_child(layer);
    if (child != background->child && background->lock.layer != NULL)
        lock_release(&background->lock);
    if (child != background->child)
        background->cluster = 0;
    background->child = child;
    if (layer->child_count > 1) { /* no command leads here: the records are wrong */
        *ret_status = IO_DAMAGED;
        return FAILED;
    }
    if (child == NULL) { /* deleted meanwhile */
        layer_set_state(store, layer, LAYER_DELETING);
        return GOT;
    }
    if (layer->writes_in_flight > 0 || layer->busy > 0 || layer_state(child) == LAYER_MERGING || child->copying)
        return WAIT;
    uint32_t clusters = (uint32_t)divide_up(layer_get(layer, LAYER_TAIL), CLUSTER_BLOCKS);
    while (background->cluster<clusters && * budget> 0) {
        (*budget)--;
        uint32_t node = background->cluster / NODE_WORDS;
        uint64_t reference, below;
        enum got got = dir_get(store, layer, node, &background->waiter, &reference, ret_status);
        if (got != GOT)
            return got;
        if (reference_cluster(reference) == 0 && ((reference & REFERENCE_ZERO) == 0 || layer->parent == NULL)) {
            uint32_t next = (node + 1) * NODE_WORDS;
            if (reference_cluster(layer_get(layer, LAYER_ROOTS + node / NODE_WORDS)) == 0)
                next = (node / NODE_WORDS + 1) * NODE_WORDS * NODE_WORDS;
            background->cluster = next;
            continue;
        }
        got = dir_get(store, child, node, &background->waiter, &below, ret_status);
        if (got != GOT)
            return got;
        if (reference_cluster(reference) == 0 && reference_cluster(below) == 0) { /* a node of zeros over nothing */
            struct page *dir;
            got = commit_room(store, MERGE_WORDS, &background->waiter);
            if (got == GOT)
                got = dir_page_for_write(store, child, node, true, &background->waiter, &dir, ret_status);
            if (got != GOT)
                return got;
            if (reference_cluster(dir->words[node % PAGE_WORDS]) == 0)
                page_set(store, dir, node % PAGE_WORDS, REFERENCE_ZERO);
            background->cluster = (node + 1) * NODE_WORDS;
            continue;
        }
        struct plan plan;
        got = plan_make(background, &plan, ret_status);
        if (got == GOT && plan.present != 0 && map_cluster(plan.into) != 0)
            return copy(background, &plan, ret_status);
        if (background->lock.layer != NULL) /* what it was for has gone */
            lock_release(&background->lock);
        if (got == GOT && (map_cluster(plan.from) != 0 || plan.zero != 0))
            got = plan_apply(background, &plan, ret_status);
        if (got != GOT)
            return got;
        background->cluster++;
    }
    return background->cluster < clusters ? GOT : end(background);
}
