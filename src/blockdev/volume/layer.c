/* Layers in RAM and their records: the tree, identities, drains, damage, and block locks. */
#include "blockdev/volume/internal.h"

#include <stdio.h>
#include <stdlib.h>

void layer_set(struct volume_store *store, struct layer *layer, unsigned word, uint64_t value) {
    page_set(store, layer->record, word, value);
}

struct layer *layer_attach(struct volume_store *store, uint32_t id, struct page *record) {
    struct layer *layer = calloc(1, sizeof(*layer));
    if (layer == NULL)
        return NULL;
    layer->id = id;
    layer->record = record;
    page_pin(record);
    list_init(&layer->children);
    list_init(&layer->locks);
    list_init(&layer->holds);
    list_init(&layer->drain_waiters);
    list_push_back(&store->layers, &layer->node);
    store->layer_by_id[id] = layer;
    return layer;
}

/* A layer that is being deleted keeps its parent (nobody reads through it) but does not count. */
static bool counts(const struct layer *layer) { return layer_state(layer) == LAYER_LIVE || layer_state(layer) == LAYER_MERGING; }

void layer_set_parent(struct volume_store *store, struct layer *layer, struct layer *parent) {
    if (layer->parent != NULL) {
        list_remove(&layer->sibling);
        if (counts(layer))
            layer->parent->child_count--;
        store->move_generation++; /* else it is new, and nothing was remembered of it */
        external_unused(store, layer->parent);
    }
    layer->parent = parent;
    if (parent != NULL) {
        list_push_back(&parent->children, &layer->sibling);
        if (counts(layer))
            parent->child_count++;
    }
}

void layer_detach(struct volume_store *store, struct layer *layer) {
    assert(list_empty(&layer->children) && list_empty(&layer->locks) && list_empty(&layer->holds));
    assert(layer->writes_in_flight == 0 && layer->busy == 0);
    layer_set_parent(store, layer, NULL);
    if (layer->external != NULL)
        external_detach(layer);
    store->promised_clusters -= layer->promise;
    store->layer_by_id[layer->id] = NULL;
    store->layer_hint = min_u32(store->layer_hint, layer->id);
    list_remove(&layer->node);
    page_unpin(store, layer->record);
    free(layer);
}

enum got layer_record_new(struct volume_store *store, struct waiter *waiter, struct page **ret_page, enum io_status *ret_status) {
    uint32_t limit = store->super.table_index_pages * NODE_WORDS;
    for (uint32_t id = max_u32(1, store->layer_hint); id < limit; id++) {
        struct page *page = page_find(store, SPACE(PAGE_TABLE, 0), id);
        /* an id is free when its record says so; the record's page may still be pinned by a checkpoint */
        if (page != NULL && (LAYER_STATE_OF(page->words[LAYER_STATE]) != LAYER_FREE || store->layer_by_id[id] != NULL))
            continue;
        if (page == NULL) {
            struct page *index = page_find(store, SPACE(PAGE_TABLE_INDEX, 0), id / NODE_PAGES / PAGE_WORDS);
            unsigned word = id / NODE_PAGES % PAGE_WORDS;
            if (index == NULL) {
                *ret_status = IO_DAMAGED;
                return FAILED;
            }
            if (reference_cluster(index->words[word]) == 0)
                return node_make(store, NULL, SPACE(PAGE_TABLE, 0), id / NODE_PAGES * NODE_PAGES, index, word, false, waiter,
                                 ret_status);
            if (reference_valid(index->words[word], id % NODE_PAGES))
                continue; /* it was damaged when the store was opened */
            page = page_create(store, SPACE(PAGE_TABLE, 0), id, NULL);
            if (page == NULL) {
                *ret_status = IO_NO_MEMORY;
                return FAILED;
            }
        }
        store->layer_hint = id;
        *ret_page = page;
        return GOT;
    }
    *ret_status = IO_NO_MEMORY;
    return FAILED;
}

uint16_t layer_parent_mask(const struct layer *layer, uint32_t cluster) {
    if (layer->parent == NULL)
        return 0;
    uint64_t limit = layer->record->words[LAYER_LIMIT], first = (uint64_t)cluster * CLUSTER_BLOCKS;
    if (likely(limit >= first + CLUSTER_BLOCKS))
        return 0xffff;
    return limit <= first ? 0 : block_mask(0, (unsigned)(limit - first));
}

void layer_write_done(struct volume_store *store, struct layer *layer) {
    assert(layer->writes_in_flight > 0);
    if (likely(--layer->writes_in_flight > 0))
        return;
    if (likely(!layer->frozen))
        return;
    if (layer->draining) {
        layer->draining = false;
        store->draining--;
        commit_kick(store);
    }
    waiters_wake(&layer->drain_waiters, IO_OK);
    background_kick(store);
}

void layer_mark_damaged(struct volume_store *store, struct layer *layer, const char *what) {
    if (layer->damaged)
        return;
    layer->damaged = true;
    if (store->reason[0] == '\0')
        snprintf(store->reason, sizeof(store->reason), "a map page of layer %u (%s) %s", layer->id,
                 layer->volume != NULL ? layer->volume->name : "nameless", what);
    list_for_each (&layer->children, struct layer, child, sibling)
        layer_mark_damaged(store, child, what);
}

/* ---- identities ---- */

const uint8_t *record_identity(const struct page *record, uint32_t *ret_size) {
    uint64_t size = record->words[LAYER_IDENTITY];
    *ret_size = size <= IDENTITY_BYTES ? (uint32_t)size : 0;
    return (const uint8_t *)&record->words[LAYER_IDENTITY_WORDS];
}

bool record_set_identity(struct volume_store *store, struct page *record, const uint8_t *identity, uint32_t size) {
    if (size > IDENTITY_BYTES)
        return false;
    uint64_t old = record->words[LAYER_IDENTITY];
    uint32_t words = (uint32_t)divide_up(max_u64(size, min_u64(old, IDENTITY_BYTES)), 8);
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word = 0;
        if (i * 8 < size)
            memcpy(&word, identity + i * 8, min_u64(8, size - i * 8));
        page_set(store, record, LAYER_IDENTITY_WORDS + i, word);
    }
    page_set(store, record, LAYER_IDENTITY, size);
    return true;
}

bool identity_append(uint8_t *identity, uint32_t *size, uint16_t type, const void *bytes, size_t length) {
    size_t whole = 4 + round_up(length, 4);
    if (whole > IDENTITY_BYTES - *size)
        return false;
    uint8_t *at = identity + *size;
    memset(at, 0, whole);
    put_le16(at, type);
    put_le16(at + 2, (uint16_t)length);
    memcpy(at + 4, bytes, length);
    *size += (uint32_t)whole;
    return true;
}

/* ---- block locks ---- */

static bool overlaps(const struct block_lock *a, const struct block_lock *b) {
    return a->first <= b->last && b->first <= a->last && (a->exclusive || b->exclusive);
}

/* Free of everyone who came before. */
static bool can_have(const struct layer *layer, const struct block_lock *lock) {
    list_for_each (&layer->locks, struct block_lock, other, node) {
        if (other == lock)
            return true;
        if (overlaps(lock, other))
            return false;
    }
    return true;
}

bool lock_take(struct layer *layer, struct block_lock *lock, uint64_t first, uint64_t last, bool exclusive,
               struct waiter *waiter) {
    lock->first = first;
    lock->last = last;
    lock->exclusive = exclusive;
    lock->layer = layer;
    lock->waiter = waiter;
    list_push_back(&layer->locks, &lock->node);
    layer->exclusive_count += exclusive;
    lock->granted = (!exclusive && layer->exclusive_count == 0) || can_have(layer, lock);
    return lock->granted;
}

void lock_release(struct block_lock *lock) {
    struct layer *layer = lock->layer;
    if (layer == NULL)
        return;
    list_remove(&lock->node);
    lock->layer = NULL;
    if (unlikely(layer->background.store != NULL)) /* a deleted layer waits for its last one */
        background_queue(&layer->background);
    bool contested = layer->exclusive_count > 0;
    layer->exclusive_count -= lock->exclusive;
    if (likely(!contested))
        return;
    list_for_each_safe (&layer->locks, struct block_lock, other, node) {
        if (!other->granted && can_have(layer, other)) {
            other->granted = true;
            other->waiter->wake(other->waiter, IO_OK); /* deferred by whoever waits: the list stays as it is */
        }
    }
}

/* ---- holds ---- */

void hold_take(struct layer *layer, struct hold *hold, uint64_t first, uint64_t last) {
    assert(hold->layer == NULL && !layer->frozen);
    *hold = (struct hold){.layer = layer, .first = first, .last = last};
    list_push_back(&layer->holds, &hold->node);
}

void hold_release(struct volume_store *store, struct hold *hold) {
    struct layer *layer = hold->layer;
    if (likely(layer == NULL))
        return;
    list_remove(&hold->node);
    hold->layer = NULL;
    if (unlikely(store->gate == layer) && list_empty(&layer->holds))
        waiters_wake(&store->hold_waiters, IO_OK);
}

bool hold_covers(const struct layer *layer, uint64_t first, uint64_t last, const struct hold *own) {
    list_for_each (&layer->holds, struct hold, hold, node) {
        if (hold != own && hold->first <= last && hold->last >= first)
            return true;
    }
    return false;
}

enum got layer_hold_off(struct volume_store *store, struct layer *layer, struct waiter *waiter) {
    if (list_empty(&layer->holds))
        return GOT;
    if (store->gate == NULL)
        store->gate_ticks = host_ticks(store->home->host);
    store->gate = layer;
    list_push_back(&store->hold_waiters, &waiter->node);
    return WAIT;
}
