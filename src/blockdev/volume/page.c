/* The cache of metadata pages: making, evicting, changing words, sealing and verifying, and the overlays of replayed changes.
 * Knows nothing of where pages lie: space.c. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

#define SLAB_PAGES 32
#define EVICT_LOOKS 128 /* pages looked at for one to evict */

struct page_slab {
    struct page_slab *next;
    void *bytes;
    struct page pages[SLAB_PAGES];
};

static uint64_t page_hash(uint32_t space, uint32_t index) { return hash_u64((uint64_t)space << 32 | index); }

struct page *page_find(struct volume_store *store, uint32_t space, uint32_t index) {
    for (struct hash_node *n = hash_map_first(&store->pages, page_hash(space, index)); n != NULL; n = hash_map_next(n)) {
        struct page *page = container_of(n, struct page, node);
        if (likely(page->space == space && page->index == index))
            return page;
    }
    return NULL;
}

static bool evictable_kind(uint32_t space) { return SPACE_KIND(space) >= PAGE_ALLOC; }

static struct page *slab_take(struct volume_store *store) {
    if (store->page_free == NULL) {
        struct page_slab *slab = calloc(1, sizeof(*slab));
        void *bytes = aligned_alloc(BLOCK_BYTES, (size_t)SLAB_PAGES * BLOCK_BYTES);
        if (slab == NULL || bytes == NULL) {
            free(slab);
            free(bytes);
            return NULL;
        }
        slab->bytes = bytes;
        slab->next = store->page_slabs;
        store->page_slabs = slab;
        for (unsigned i = 0; i < SLAB_PAGES; i++) {
            slab->pages[i].bytes = (uint8_t *)bytes + (size_t)i * BLOCK_BYTES;
            slab->pages[i].node.next = (struct hash_node *)(void *)store->page_free;
            store->page_free = &slab->pages[i];
        }
    }
    struct page *page = store->page_free;
    store->page_free = (struct page *)(void *)page->node.next;
    uint8_t *bytes = page->bytes;
    memset(page, 0, sizeof(*page));
    page->bytes = bytes;
    page->words = (uint64_t *)(void *)(bytes + PAGE_HEADER_BYTES);
    list_init(&page->waiters);
    return page;
}

static void slab_give(struct volume_store *store, struct page *page) {
    page->node.next = (struct hash_node *)(void *)store->page_free;
    store->page_free = page;
}

static bool evict_one(struct volume_store *store) {
    for (unsigned looks = 0; looks < EVICT_LOOKS; looks++) {
        struct list_node *node = list_first(&store->cache);
        if (node == NULL)
            return false;
        struct page *page = list_entry(node, struct page, cache_node);
        list_remove(node);
        list_push_back(&store->cache, node);
        if (page->pins > 0 || page->dirty || page->in_batch || page->loading || page->imaging || page->shadow_count > 0)
            continue;
        if (page->referenced) {
            page->referenced = false;
            continue;
        }
        page_drop(store, page);
        return true;
    }
    return false;
}

bool page_room(struct volume_store *store) { return store->cache_count < store->cache_limit || evict_one(store); }

struct page *page_create(struct volume_store *store, uint32_t space, uint32_t index, struct waiter *waiter) {
    bool evictable = evictable_kind(space);
    if (evictable && store->cache_count >= store->cache_limit && !evict_one(store)) {
        checkpoint_consider(store);
        /* what cannot go is dirty or in use: a little more is allowed, so that those who would make it clean can go on */
        if (waiter != NULL && waiter != &store->checkpoint.waiter && !store_frozen(store) &&
            store->cache_count >= store->cache_limit + store->cache_limit / 8) {
            list_push_back(&store->memory_waiters, &waiter->node);
            return NULL;
        }
    }
    struct page *page = slab_take(store);
    if (page == NULL && evict_one(store)) /* what is here must do */
        page = slab_take(store);
    if (page == NULL || !hash_map_insert(&store->pages, &page->node, page_hash(space, index))) {
        if (page != NULL)
            slab_give(store, page);
        return NULL;
    }
    page->space = space;
    page->index = index;
    page->referenced = true;
    memset(page->bytes, 0, BLOCK_BYTES);
    if (evictable) {
        list_push_back(&store->cache, &page->cache_node);
        store->cache_count++;
    }
    return page;
}

static void page_free(struct volume_store *store, struct page *page) {
    assert(page->pins == 0 && list_empty(&page->waiters));
    free(page->shadow);
    page->shadow = NULL;
    slab_give(store, page);
}

static void unbatch(struct volume_store *store, struct page *page) {
    if (!page->in_batch)
        return;
    list_remove(&page->batch_node);
    page->in_batch = false;
    if (page->in_urgent)
        list_remove(&page->urgent_node);
    page->in_urgent = false;
    for (unsigned i = 0; i < 8; i++)
        store->commit.batch_words -= (uint32_t)__builtin_popcountll(page->changed[i]);
}

void page_clean(struct volume_store *store, struct page *page) {
    if (!page->dirty)
        return;
    page->dirty = false;
    list_remove(&page->dirty_node);
    if (evictable_kind(page->space))
        store->dirty_count--;
}

void page_drop(struct volume_store *store, struct page *page) {
    assert(!page->dropped && page->shadow_count == 0);
    hash_map_remove(&store->pages, &page->node);
    unbatch(store, page);
    page_clean(store, page);
    if (evictable_kind(page->space)) {
        list_remove(&page->cache_node);
        store->cache_count--;
    }
    page->dropped = true;
    page->image_wanted = NULL;
    if (page->pins == 0)
        page_free(store, page);
}

void page_unpin(struct volume_store *store, struct page *page) {
    assert(page->pins > 0);
    if (--page->pins > 0)
        return;
    if (page->dropped)
        page_free(store, page);
    if (unlikely(!list_empty(&store->memory_waiters)))
        waiters_wake(&store->memory_waiters, IO_OK);
}

void page_mark_dirty(struct volume_store *store, struct page *page) {
    if (page->dirty)
        return;
    page->dirty = true;
    list_push_back(&store->dirty[SPACE_KIND(page->space)], &page->dirty_node);
    if (evictable_kind(page->space))
        store->dirty_count++;
}

/* What is in the open batch may go ahead of it. */
static void page_urge(struct volume_store *store, struct page *page, unsigned word) {
    if (!page->in_urgent) {
        memset(page->urgent, 0, sizeof(page->urgent));
        page->in_urgent = true;
        list_push_back(&store->commit.urgent, &page->urgent_node);
    }
    page->urgent[word >> 6] |= UINT64_C(1) << (word & 63);
}

void page_set(struct volume_store *store, struct page *page, unsigned word, uint64_t value) {
    assert(!page->dropped && !page->loading);
    uint64_t bit = UINT64_C(1) << (word & 63);
    bool pending = page->in_batch && (page->changed[word >> 6] & bit) != 0;
    if (unlikely(store->commit.urge != COMMIT_IN_TURN) && (pending || page->words[word] != value))
        page_urge(store, page, word);
    if (page->words[word] == value)
        return;
    page->words[word] = value;
    if (pending)
        return;
    if (!page->in_batch) {
        memset(page->changed, 0, sizeof(page->changed));
        page->in_batch = true;
        list_push_back(&store->commit.batch, &page->batch_node);
        page_mark_dirty(store, page);
    }
    page->changed[word >> 6] |= bit;
    store->commit.batch_words++;
    commit_changed(store);
}

void page_set_places(struct volume_store *store, struct page *page, unsigned word, uint64_t value) {
    page->words[word] = value;
    page_mark_dirty(store, page);
}

void page_seal(const struct volume_store *store, uint8_t *image, uint32_t space, uint32_t index, uint64_t sequence,
               uint64_t place, uint64_t generation) {
    struct page_header header = {.magic = PAGE_MAGIC,
                                 .kind = SPACE_KIND(space),
                                 .owner = SPACE_OWNER(space),
                                 .index = index,
                                 .sequence = sequence,
                                 .store_id = store->store_id,
                                 .place = place,
                                 .generation = generation};
    memcpy(image, &header, sizeof(header));
    put_le32(image + PAGE_CRC_FIELD, format_crc(image, BLOCK_BYTES, PAGE_CRC_FIELD));
}

const char *page_verify(const struct volume_store *store, const uint8_t *image, uint32_t space, uint32_t index, uint64_t place) {
    struct page_header header;
    memcpy(&header, image, sizeof(header));
    if (header.magic != PAGE_MAGIC)
        return "is no page";
    if (header.crc != format_crc(image, BLOCK_BYTES, PAGE_CRC_FIELD))
        return "has a wrong checksum";
    if (!uuid_equal(&header.store_id, &store->store_id))
        return "belongs to another store";
    if (header.kind != SPACE_KIND(space) || header.owner != SPACE_OWNER(space) || header.index != index || header.place != place)
        return "is another page";
    return NULL;
}

/* ---- overlays ---- */

struct overlay *overlay_find(struct volume_store *store, uint32_t space, uint32_t index) {
    for (struct hash_node *n = hash_map_first(&store->overlays, page_hash(space, index)); n != NULL; n = hash_map_next(n)) {
        struct overlay *overlay = container_of(n, struct overlay, node);
        if (overlay->space == space && overlay->index == index)
            return overlay;
    }
    return NULL;
}

bool overlay_add(struct volume_store *store, uint32_t space, uint32_t word, uint64_t value, uint64_t sequence) {
    uint32_t index = word / PAGE_WORDS;
    struct list_node *newest = list_last(&store->overlay_lists[SPACE_KIND(space)]); /* changes of a page come together */
    struct overlay *overlay = newest == NULL ? NULL : list_entry(newest, struct overlay, list_node);
    if (overlay == NULL || overlay->space != space || overlay->index != index)
        overlay = overlay_find(store, space, index);
    if (overlay == NULL) {
        overlay = calloc(1, sizeof(*overlay));
        if (overlay == NULL)
            return false;
        overlay->space = space;
        overlay->index = index;
        if (!hash_map_insert(&store->overlays, &overlay->node, page_hash(space, index))) {
            free(overlay);
            return false;
        }
        list_push_back(&store->overlay_lists[SPACE_KIND(space)], &overlay->list_node);
    }
    if (overlay->count == overlay->capacity) {
        uint32_t capacity = max_u32(4, overlay->capacity * 2);
        struct overlay_change *changes = realloc(overlay->changes, capacity * sizeof(*changes));
        if (changes == NULL)
            return false;
        overlay->changes = changes;
        overlay->capacity = capacity;
    }
    overlay->changes[overlay->count++] = (struct overlay_change){value, sequence << 9 | word % PAGE_WORDS};
    store->overlay_changes++;
    return true;
}

void overlay_drop(struct volume_store *store, struct overlay *overlay) {
    hash_map_remove(&store->overlays, &overlay->node);
    list_remove(&overlay->list_node);
    store->overlay_changes -= overlay->count;
    free(overlay->changes);
    free(overlay);
}

bool word_is_reference(uint32_t space, uint32_t index, unsigned word) {
    switch (SPACE_KIND(space)) {
    case PAGE_TABLE_INDEX:
    case PAGE_DIR: return true;
    case PAGE_TABLE: return index != 0 && word >= LAYER_ROOTS && word < LAYER_IDENTITY_WORDS;
    default: return false;
    }
}

void overlay_apply_word(struct page *page, unsigned word, uint64_t value) {
    if (word_is_reference(page->space, page->index, word))
        page->words[word] = value & REFERENCE_JOURNALED;
    else if (SPACE_KIND(page->space) == PAGE_ALLOC_INDEX)
        page->words[word] = (page->words[word] & ~REFERENCE_JOURNALED) | (value & REFERENCE_JOURNALED);
    else
        page->words[word] = value;
}

void cache_fini(struct volume_store *store) {
    for (unsigned kind = 0; kind < PAGE_KINDS; kind++)
        while (!list_empty(&store->overlay_lists[kind]))
            overlay_drop(store, list_entry(list_first(&store->overlay_lists[kind]), struct overlay, list_node));
    hash_map_fini(&store->overlays);
    hash_map_fini(&store->pages);
    for (struct page_slab *slab = store->page_slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        for (unsigned i = 0; i < SLAB_PAGES; i++)
            free(slab->pages[i].shadow);
        free(slab->bytes);
        free(slab);
    }
}
