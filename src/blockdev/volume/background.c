/* Layers on their way out: reclaiming deleted ones, merging others into their child; a few thousand words a turn, taken up again
 * at the next opening. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

void layer_set_state(struct volume_store *store, struct layer *layer, enum layer_state state) {
    bool counted = layer_state(layer) != LAYER_DELETING, counts = state != LAYER_DELETING;
    layer_set(store, layer, LAYER_STATE, (layer_get(layer, LAYER_STATE) & ~UINT64_C(0xff)) | state);
    if (layer->parent != NULL)
        layer->parent->child_count = layer->parent->child_count + counts - counted;
    if (counted && !counts)
        external_unused(store, layer->parent);
    promise_update(store, layer);
}

struct layer *layer_only_child(const struct layer *layer) {
    struct layer *only = NULL;
    list_for_each (&layer->children, struct layer, child, sibling) {
        if (layer_state(child) == LAYER_DELETING)
            continue;
        if (only != NULL)
            return NULL;
        only = child;
    }
    return only;
}

static void finish(struct background *background) {
    struct volume_store *store = background->store;
    assert(!background->queued && background->buffer == NULL);
    list_remove(&background->node);
    store->background_count--;
    background->store = NULL;
}

/* All map nodes are gone: what is left are directory nodes and the record. */
static enum got reclaim_end(struct background *background, enum io_status *ret_status) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer;
    for (; background->roots < LAYER_ROOT_COUNT; background->roots++) {
        uint32_t cluster = reference_cluster(layer_get(layer, LAYER_ROOTS + background->roots));
        if (cluster == 0)
            continue;
        enum got got = commit_room(store, 8, &background->waiter);
        if (got == GOT)
            got = cluster_free_prepare(store, cluster, &background->waiter, ret_status);
        if (got != GOT)
            return got;
        layer_set(store, layer, LAYER_ROOTS + background->roots, 0);
        pages_forget(store, SPACE(PAGE_DIR, layer->id), background->roots * NODE_PAGES, NODE_PAGES);
        cluster_free(store, cluster);
        layer_set(store, layer, LAYER_NODES, layer_get(layer, LAYER_NODES) - 1);
    }
    enum got got = commit_room(store, PAGE_WORDS, &background->waiter);
    if (got != GOT)
        return got;
    for (unsigned word = 0; word < PAGE_WORDS; word++)
        layer_set(store, layer, word, 0);
    return GOT;
}

static enum got reclaim(struct background *background, uint32_t *budget, enum io_status *ret_status) {
    struct layer *layer = background->layer;
    if (layer->writes_in_flight > 0 || layer->busy > 0 || !list_empty(&layer->locks) || !list_empty(&layer->children))
        return WAIT; /* each of these ends with a kick */
    if (!background->walking) {
        background->walking = true;
        background->walk =
            (struct walk){.layer = layer, .end = layer_get(layer, LAYER_TAIL), .nodes = true, .waiter = &background->waiter};
    }
    enum got got = walk_clear(background->store, &background->walk, budget, ret_status);
    if (got != GOT || background->walk.first < background->walk.end)
        return got;
    return reclaim_end(background, ret_status);
}

static void step(struct background *background) {
    struct volume_store *store = background->store;
    struct layer *layer = background->layer;
    if (list_linked(&background->waiter.node) || store_frozen(store) || store->closing)
        return;
    if (background->stopped == IO_NO_SPACE || background->stopped == IO_NO_MEMORY)
        background->stopped = IO_OK;
    if (background->stopped != IO_OK)
        return;
    /* A cluster that was moved into the child is written in place from then on: were the deletion lost, the snapshot would come
     * back with other content. */
    if (store->commit.durable_batches < background->after) {
        commit_join(store, &background->waiter);
        return;
    }
    uint32_t budget = WALK_STEPS;
    enum io_status status = IO_OK;
    enum got got;
    if (layer_state(layer) == LAYER_MERGING) {
        got = merge_step(background, &budget, &status);
        if (got == GOT && layer_state(layer) == LAYER_DELETING)
            background_queue(background);
    } else {
        got = reclaim(background, &budget, &status);
        if (got == GOT && background->walk.first == background->walk.end) {
            struct layer *parent = layer->parent;
            finish(background);
            layer_detach(store, layer);
            if (parent != NULL)
                background_kick(store);
            commands_step(store);
            return;
        }
    }
    if (got == FAILED)
        background_stop(background, status);
    else if (got == GOT)
        background_queue(background);
}

void background_stop(struct background *background, enum io_status status) {
    struct volume_store *store = background->store;
    background->stopped = status;
    if (status == IO_NO_SPACE)
        list_push_back(&store->space_waiters, &background->waiter.node);
    else if (status == IO_NO_MEMORY)
        list_push_back(&store->memory_waiters, &background->waiter.node);
    /* else damage or an unreadable page: it stays as it is */
    copies_kick(store);
}

static void job_run(struct reactor_job *job) {
    struct background *background = container_of(job, struct background, job);
    background->queued = false;
    step(background);
}

void background_queue(struct background *background) {
    if (background->queued)
        return;
    background->queued = true;
    background->job.run = job_run;
    reactor_defer_late(background->store->home, &background->job);
}

static void wake(struct waiter *waiter, enum io_status status) {
    struct background *background = container_of(waiter, struct background, waiter);
    if (status != IO_OK)
        background_stop(background, status);
    else
        background_queue(background);
}

void background_kick(struct volume_store *store) {
    list_for_each (&store->backgrounds, struct background, background, node)
        background_queue(background);
    copies_kick(store);
}

void background_start(struct volume_store *store, struct layer *layer) {
    struct background *background = &layer->background;
    if (background->store == NULL) {
        background->store = store;
        background->layer = layer;
        background->waiter.wake = wake;
        background->after = store->commit.closed_batches + (list_empty(&store->commit.batch) ? 0 : 1);
        list_push_back(&store->backgrounds, &background->node);
        store->background_count++;
    }
    background_queue(background);
}

void background_resume(struct volume_store *store) {
    list_for_each (&store->layers, struct layer, layer, node) {
        if (layer_state(layer) == LAYER_DELETING || layer_state(layer) == LAYER_MERGING)
            background_start(store, layer);
    }
}

void background_fini(struct volume_store *store) {
    list_for_each (&store->backgrounds, struct background, background, node)
        free(background->buffer);
}
