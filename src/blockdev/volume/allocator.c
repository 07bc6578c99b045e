/* Clusters: taking, freeing, and the way of a freed one back to the free: free durable, grace, discard (rule 6). */
#include "blockdev/volume/internal.h"

#include "base/bitmap.h"

#include <stdlib.h>

uint32_t alloc_pages(const struct volume_store *store) { return (uint32_t)divide_up(store->total_clusters, ALLOC_PAGE_CLUSTERS); }

void alloc_page_init(const struct superblock *super, uint32_t index, uint64_t *words) {
    memset(words, 0, PAGE_WORDS * sizeof(*words));
    if (index == 0)
        bitmap_set_range(words, 0, super->journal_cluster + super->journal_clusters);
    else if (index % NODE_PAGES == 0)
        bitmap_set(words, 0);
}

static struct page *index_page(struct volume_store *store, uint32_t alloc_page) {
    struct page *page = page_find(store, SPACE(PAGE_ALLOC_INDEX, 0), alloc_page / PAGE_WORDS);
    assert(page != NULL);
    return page;
}

static void count_add(struct volume_store *store, uint32_t alloc_page, int change) {
    struct page *index = index_page(store, alloc_page);
    uint64_t word = index->words[alloc_page % PAGE_WORDS];
    uint32_t used = (uint32_t)((int)ALLOC_INDEX_USED(word) + change);
    if (used > ALLOC_PAGE_CLUSTERS) {
        store_set_read_only(store, "the count of allocation page %u is wrong", alloc_page);
        return;
    }
    page_set(store, index, alloc_page % PAGE_WORDS, (word & ~UINT64_C(0xffff)) | used);
    store->used_clusters = (uint64_t)((int64_t)store->used_clusters + change);
}

static struct page *alloc_page_of(struct volume_store *store, uint32_t cluster) {
    struct page *page = page_find(store, SPACE(PAGE_ALLOC, 0), cluster / ALLOC_PAGE_CLUSTERS);
    assert(page != NULL && !page->loading);
    return page;
}

static void bit_set(struct volume_store *store, uint32_t cluster) {
    struct page *page = alloc_page_of(store, cluster);
    uint32_t bit = cluster % ALLOC_PAGE_CLUSTERS;
    assert(!bitmap_test(page->words, bit));
    page_set(store, page, bit / 64, page->words[bit / 64] | UINT64_C(1) << (bit & 63));
    count_add(store, page->index, 1);
}

/* Memory for shadow_add(). */
static bool shadow_there(struct page *page) {
    return page->shadow != NULL || (page->shadow = calloc(PAGE_WORDS, sizeof(uint64_t))) != NULL;
}

static void shadow_add(struct volume_store *store, uint32_t cluster) {
    struct page *page = alloc_page_of(store, cluster);
    assert(!bitmap_test(page->shadow, cluster % ALLOC_PAGE_CLUSTERS));
    bitmap_set(page->shadow, cluster % ALLOC_PAGE_CLUSTERS);
    page->shadow_count++;
    store->shadow_clusters++;
}

static void shadow_remove(struct volume_store *store, uint32_t cluster) {
    struct page *page = alloc_page_of(store, cluster);
    assert(page->shadow != NULL && bitmap_test(page->shadow, cluster % ALLOC_PAGE_CLUSTERS));
    bitmap_clear(page->shadow, cluster % ALLOC_PAGE_CLUSTERS);
    page->shadow_count--;
    store->shadow_clusters--;
}

bool space_available(const struct volume_store *store, const struct layer *layer, uint64_t count, enum space_purpose purpose) {
    uint64_t busy = store->used_clusters + store->shadow_clusters;
    uint64_t there = store->total_clusters > busy ? store->total_clusters - busy : 0;
    if (layer != NULL && layer->promise >= count) /* it draws on its own promise, which is inside `promised` */
        return there >= store->promised_clusters;
    uint64_t kept = store->promised_clusters + (purpose == SPACE_HOUSEKEEPING ? 0 : store->super.reserve_clusters);
    return there >= kept + count;
}

static enum got wait_for_space(struct volume_store *store, struct waiter *waiter, enum io_status *ret_status) {
    if (store->waiting_clusters > 0 && !store_frozen(store)) {
        list_push_back(&store->space_waiters, &waiter->node);
        commit_hasten(store);
        return WAIT;
    }
    *ret_status = IO_NO_SPACE;
    return FAILED;
}

enum got cluster_take(struct volume_store *store, struct layer *layer, enum space_purpose purpose, bool shadow_only,
                      struct waiter *waiter, uint32_t *ret_cluster, enum io_status *ret_status) {
    if (!space_available(store, layer, 1, purpose))
        return wait_for_space(store, waiter, ret_status);
    uint32_t pages = alloc_pages(store);
    for (uint32_t n = 0; n <= pages; n++) { /* the first page twice: from the cursor, at last from its start */
        uint32_t index = (store->alloc_page + n) % pages;
        uint32_t clusters = (uint32_t)min_u64(ALLOC_PAGE_CLUSTERS, store->total_clusters - (uint64_t)index * ALLOC_PAGE_CLUSTERS);
        if (ALLOC_INDEX_USED(index_page(store, index)->words[index % PAGE_WORDS]) >= clusters)
            continue;
        struct page *page;
        enum got got = page_get(store, SPACE(PAGE_ALLOC, 0), index, waiter, &page, ret_status);
        if (got != GOT)
            return got;
        for (uint32_t word = n == 0 ? store->alloc_word : 0; word < divide_up(clusters, 64); word++) {
            uint64_t taken = page->words[word] | (page->shadow != NULL ? page->shadow[word] : 0);
            if (taken == UINT64_MAX)
                continue;
            uint32_t bit = word * 64 + (uint32_t)__builtin_ctzll(~taken);
            if (bit >= clusters)
                break;
            uint32_t cluster = index * ALLOC_PAGE_CLUSTERS + bit;
            store->alloc_page = index;
            store->alloc_word = word;
            if (shadow_only && !shadow_there(page)) {
                *ret_status = IO_NO_MEMORY;
                return FAILED;
            }
            if (shadow_only)
                shadow_add(store, cluster);
            else
                bit_set(store, cluster);
            *ret_cluster = cluster;
            return GOT;
        }
    }
    return wait_for_space(store, waiter, ret_status);
}

void cluster_keep(struct volume_store *store, uint32_t cluster) {
    shadow_remove(store, cluster);
    bit_set(store, cluster);
}

void cluster_return(struct volume_store *store, uint32_t cluster, bool quarantine) {
    if (quarantine)
        return; /* its shadow stays */
    shadow_remove(store, cluster);
    waiters_wake(&store->space_waiters, IO_OK);
}

void cluster_quarantine(struct volume_store *store, uint32_t cluster) {
    for (uint32_t i = 0; i < store->quarantined_count; i++)
        if (store->quarantined[i] == cluster)
            return;
    if (store->quarantined_count == store->quarantined_capacity) {
        uint32_t capacity = max_u32(16, store->quarantined_capacity * 2);
        uint32_t *more = realloc(store->quarantined, capacity * sizeof(*more));
        if (more == NULL || capacity > 65536) {
            store_set_read_only(store, "too many data writes failed");
            if (more != NULL)
                store->quarantined = more;
            return;
        }
        store->quarantined = more;
        store->quarantined_capacity = capacity;
    }
    store->quarantined[store->quarantined_count++] = cluster;
}

static bool is_quarantined(const struct volume_store *store, uint32_t cluster) {
    for (uint32_t i = 0; i < store->quarantined_count; i++)
        if (store->quarantined[i] == cluster)
            return true;
    return false;
}

/* Memory to remember one more freed cluster by. */
static bool freed_room(struct volume_store *store) {
    struct freed *freed = store->freed_open;
    if (freed == NULL && (freed = store->freed_open = calloc(1, sizeof(*freed))) == NULL)
        return false;
    if (freed->count < freed->capacity)
        return true;
    size_t capacity = freed->capacity == 0 ? 64 : freed->capacity * 2;
    uint32_t *clusters = realloc(freed->clusters, capacity * sizeof(*clusters));
    if (clusters == NULL)
        return false;
    freed->clusters = clusters;
    freed->capacity = capacity;
    return true;
}

enum got cluster_free_prepare(struct volume_store *store, uint32_t cluster, struct waiter *waiter, enum io_status *ret_status) {
    struct page *page;
    if (cluster >= store->total_clusters) { /* a map word that cannot be: the page's checksum was right all the same */
        *ret_status = IO_DAMAGED;
        return FAILED;
    }
    enum got got = page_get(store, SPACE(PAGE_ALLOC, 0), cluster / ALLOC_PAGE_CLUSTERS, waiter, &page, ret_status);
    if (got == GOT && (!shadow_there(page) || !freed_room(store))) {
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    return got;
}

static void discard_early(struct store_io *io) { io_give(io); }

void cluster_free(struct volume_store *store, uint32_t cluster) {
    struct page *page = alloc_page_of(store, cluster);
    uint32_t bit = cluster % ALLOC_PAGE_CLUSTERS;
    if (!bitmap_test(page->words, bit)) { /* named twice: damage that only the checker can tell apart */
        store_set_read_only(store, "cluster %u is named twice", cluster);
        return;
    }
    page_set(store, page, bit / 64, page->words[bit / 64] & ~(UINT64_C(1) << (bit & 63)));
    count_add(store, page->index, -1);
    if (VOLUME_CANARY == VOLUME_CANARY_REUSE_BEFORE_FREE)
        return;
    if (VOLUME_CANARY == VOLUME_CANARY_DISCARD_BEFORE_FREE) {
        struct store_io *io = io_take(store, discard_early, NULL);
        io_buffer(io, BLOCK_TRIM, (uint64_t)cluster << CLUSTER_SHIFT, NULL, CLUSTER_BYTES);
    }
    shadow_add(store, cluster);
    if (is_quarantined(store, cluster))
        return;
    struct freed *freed = store->freed_open;
    freed->clusters[freed->count++] = cluster;
    store->waiting_clusters++;
}

/* ---- from freed to free ---- */

static void freed_destroy(struct freed *freed) {
    free(freed->clusters);
    free(freed);
}

void freed_close(struct volume_store *store) {
    assert(store->freed_running == NULL);
    store->freed_running = store->freed_open;
    store->freed_open = NULL;
    if (store->freed_running != NULL)
        store->freed_running->epoch = store->epoch;
    if (store->epoch - store->epoch_oldest < EPOCH_RING - 1)
        store->epoch++;
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void discard_next(struct volume_store *store);

static void release(struct volume_store *store, struct freed *freed, size_t count) {
    for (size_t i = 0; i < count; i++)
        shadow_remove(store, freed->clusters[freed->at++]);
    store->waiting_clusters -= count;
    if (freed->at == freed->count) {
        list_remove(&freed->node);
        freed_destroy(freed);
    }
    waiters_wake(&store->space_waiters, IO_OK);
}

static void discard_done(struct store_io *io) {
    struct volume_store *store = io->store;
    size_t count = io->request.length / CLUSTER_BYTES;
    io_give(io); /* a discard that failed leaves space taken in the host, nothing else */
    store->discarding = false;
    release(store, list_entry(list_first(&store->discards), struct freed, node), count);
    discard_next(store);
}

static void discard_next(struct volume_store *store) {
    const struct block_device *base = store->base_handle.device;
    bool can = (base->native_ops & BLOCK_BIT(BLOCK_TRIM)) != 0;
    while (!store->discarding && !list_empty(&store->discards) && !store_frozen(store)) {
        struct freed *freed = list_entry(list_first(&store->discards), struct freed, node);
        struct store_io *io = can ? io_take(store, discard_done, NULL) : NULL;
        if (io == NULL) {
            release(store, freed, freed->count - freed->at);
            continue;
        }
        size_t count = 1;
        while (freed->at + count < freed->count && freed->clusters[freed->at + count] == freed->clusters[freed->at] + count &&
               count < DISCARD_MAX_BYTES / CLUSTER_BYTES)
            count++;
        store->discarding = true;
        io->request.op = BLOCK_TRIM;
        io->request.slices = NULL;
        io->request.slice_count = 0;
        io->request.offset = (uint64_t)freed->clusters[freed->at] << CLUSTER_SHIFT;
        io->request.length = (uint64_t)count << CLUSTER_SHIFT;
        io_submit(io);
    }
}

void freed_advance(struct volume_store *store) {
    bool moved = false;
    while (!list_empty(&store->grace)) {
        struct freed *freed = list_entry(list_first(&store->grace), struct freed, node);
        if (!epoch_passed(store, freed->epoch) && VOLUME_CANARY != VOLUME_CANARY_REUSE_UNDER_READER)
            break;
        list_remove(&freed->node);
        list_push_back(&store->discards, &freed->node);
        moved = true;
    }
    if (moved)
        discard_next(store);
}

void freed_durable(struct volume_store *store) {
    struct freed *freed = store->freed_running;
    store->freed_running = NULL;
    if (freed == NULL)
        return;
    if (freed->count == 0) {
        freed_destroy(freed);
        return;
    }
    qsort(freed->clusters, freed->count, sizeof(*freed->clusters), by_number);
    list_push_back(&store->grace, &freed->node);
    freed_advance(store);
}

static void freed_list_fini(struct list *list) {
    for (struct list_node *node; (node = list_pop_front(list)) != NULL;)
        freed_destroy(list_entry(node, struct freed, node));
}

void freed_fini(struct volume_store *store) {
    freed_list_fini(&store->grace);
    freed_list_fini(&store->discards);
    if (store->freed_open != NULL)
        freed_destroy(store->freed_open);
    if (store->freed_running != NULL)
        freed_destroy(store->freed_running);
    free(store->quarantined);
}

void promise_update(struct volume_store *store, struct layer *layer) {
    uint64_t promise = 0;
    if ((layer_get(layer, LAYER_STATE) & LAYER_THICK) != 0 && layer_state(layer) == LAYER_LIVE) {
        uint64_t clusters = divide_up(layer_size(layer), CLUSTER_BLOCKS), nodes = divide_up(clusters, NODE_WORDS);
        uint64_t need = clusters + nodes + divide_up(nodes, NODE_WORDS);
        uint64_t have = layer_get(layer, LAYER_USED) + layer_get(layer, LAYER_NODES);
        promise = need > have ? need - have : 0;
    }
    store->promised_clusters = store->promised_clusters - layer->promise + promise;
    layer->promise = promise;
}
