/* Where pages lie, and getting them: references, loading, new nodes. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

void page_holder(uint32_t space, uint32_t index, uint32_t *ret_space, uint32_t *ret_index, unsigned *ret_word,
                 unsigned *ret_sub) {
    uint32_t node = index / NODE_PAGES;
    *ret_sub = index % NODE_PAGES;
    *ret_index = node / PAGE_WORDS;
    *ret_word = node % PAGE_WORDS;
    switch (SPACE_KIND(space)) {
    case PAGE_MAP: *ret_space = SPACE(PAGE_DIR, SPACE_OWNER(space)); return;
    case PAGE_DIR:
        *ret_space = SPACE(PAGE_TABLE, 0);
        *ret_index = SPACE_OWNER(space);
        *ret_word = LAYER_ROOTS + node;
        return;
    case PAGE_TABLE: *ret_space = SPACE(PAGE_TABLE_INDEX, 0); return;
    default:
        assert(SPACE_KIND(space) == PAGE_ALLOC);
        *ret_space = SPACE(PAGE_ALLOC_INDEX, 0);
        *ret_index = index / PAGE_WORDS;
        *ret_word = index % PAGE_WORDS;
        *ret_sub = 0;
    }
}

uint64_t page_place(uint32_t space, uint32_t index, uint64_t reference, unsigned place) {
    uint32_t cluster = SPACE_KIND(space) == PAGE_ALLOC ? alloc_node_cluster(index / NODE_PAGES) : reference_cluster(reference);
    return node_place(cluster, index % NODE_PAGES, place);
}

/* What a page holds that was never written. */
static void page_default(struct volume_store *store, struct page *page, uint64_t reference) {
    uint64_t word = 0;
    if ((reference & REFERENCE_ZERO) != 0)
        word = SPACE_KIND(page->space) == PAGE_MAP ? MAP_ZERO_ALL : SPACE_KIND(page->space) == PAGE_DIR ? REFERENCE_ZERO : 0;
    for (unsigned i = 0; i < PAGE_WORDS; i++)
        page->words[i] = word;
    if (SPACE_KIND(page->space) == PAGE_ALLOC)
        alloc_page_init(&store->super, page->index, page->words);
}

static void apply_overlay(struct volume_store *store, struct page *page) {
    struct overlay *overlay = overlay_find(store, page->space, page->index);
    if (overlay == NULL)
        return;
    for (uint32_t i = 0; i < overlay->count; i++)
        if (overlay->changes[i].sequence_word >> 9 > page->disk_sequence)
            overlay_apply_word(page, overlay->changes[i].sequence_word & 511, overlay->changes[i].value);
    overlay_drop(store, overlay);
    checkpoint_overlay_applied(store, page);
}

static void load_failed(struct volume_store *store, struct page *page, const char *what) {
    enum page_kind kind = SPACE_KIND(page->space);
    if (kind == PAGE_ALLOC) {
        store_set_read_only(store, "allocation page %u %s", page->index, what);
        return;
    }
    struct layer *layer = store->layer_by_id[SPACE_OWNER(page->space)];
    if (layer != NULL)
        layer_mark_damaged(store, layer, what);
}

static void load_done(struct store_io *io) {
    struct volume_store *store = io->store;
    struct page *page = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    uint64_t place = io->request.offset / BLOCK_BYTES;
    io_give(io);
    page->loading = false;
    if (!page->dropped) {
        const char *wrong = status == IO_OK ? page_verify(store, page->bytes, page->space, page->index, place) : NULL;
        struct page_header header;
        memcpy(&header, page->bytes, sizeof(header));
        if (status == IO_OK && wrong == NULL && header.sequence > store->commit.closed_sequence)
            wrong = "is newer than the journal";
        if (wrong != NULL) {
            load_failed(store, page, wrong);
            status = IO_DAMAGED;
        }
        page->disk_sequence = header.sequence;
        if (status == IO_OK)
            apply_overlay(store, page);
    }
    struct list waiters;
    list_init(&waiters);
    list_splice_back(&waiters, &page->waiters);
    if (status != IO_OK && !page->dropped)
        page_drop(store, page);
    page_unpin(store, page);
    waiters_wake(&waiters, status);
}

enum got page_get(struct volume_store *store, uint32_t space, uint32_t index, struct waiter *waiter, struct page **ret_page,
                  enum io_status *ret_status) {
    struct page *page = page_find(store, space, index);
    if (likely(page != NULL)) {
        if (unlikely(page->loading)) {
            list_push_back(&page->waiters, &waiter->node);
            return WAIT;
        }
        page->referenced = true;
        *ret_page = page;
        return GOT;
    }
    if (SPACE_KIND(space) < PAGE_ALLOC) { /* those are all here, or were damaged when the store was opened */
        *ret_status = IO_DAMAGED;
        return FAILED;
    }
    uint32_t holder_space, holder_index;
    unsigned word, sub;
    page_holder(space, index, &holder_space, &holder_index, &word, &sub);
    struct page *holder;
    enum got got = page_get(store, holder_space, holder_index, waiter, &holder, ret_status);
    if (got != GOT)
        return got;
    uint64_t reference = holder->words[word];
    if (SPACE_KIND(space) != PAGE_ALLOC && reference_cluster(reference) == 0) {
        *ret_status = IO_INTERNAL; /* the caller looked before */
        return FAILED;
    }
    page_pin(holder); /* making room may evict */
    page = page_create(store, space, index, waiter);
    reference = holder->words[word];
    holder->pins--;
    if (page == NULL) {
        *ret_status = IO_NO_MEMORY;
        return list_linked(&waiter->node) ? WAIT : FAILED;
    }
    if (!reference_valid(reference, sub)) {
        page_default(store, page, reference);
        apply_overlay(store, page);
        *ret_page = page;
        return GOT;
    }
    struct store_io *io = io_take(store, load_done, page);
    if (io == NULL) {
        page_drop(store, page);
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    page->loading = true;
    page_pin(page);
    list_push_back(&page->waiters, &waiter->node);
    if (SPACE_KIND(space) != PAGE_ALLOC)
        epoch_enter(io); /* a node can be freed while it is read */
    io_buffer(io, BLOCK_READ, page_place(space, index, reference, reference_place(reference, sub)) * BLOCK_BYTES, page->bytes,
              BLOCK_BYTES);
    return WAIT;
}

enum got dir_get(struct volume_store *store, struct layer *layer, uint32_t node, struct waiter *waiter, uint64_t *ret_reference,
                 enum io_status *ret_status) {
    uint32_t space = SPACE(PAGE_DIR, layer->id), index = node / PAGE_WORDS;
    struct page *page = page_find(store, space, index);
    if (page == NULL) {
        uint64_t root = layer->record->words[LAYER_ROOTS + index / NODE_PAGES];
        if (reference_cluster(root) == 0 ||
            (!reference_valid(root, index % NODE_PAGES) && overlay_find(store, space, index) == NULL)) {
            *ret_reference = root & REFERENCE_ZERO;
            return GOT;
        }
    }
    enum got got = page_get(store, space, index, waiter, &page, ret_status);
    if (got == GOT)
        *ret_reference = page->words[node % PAGE_WORDS];
    return got;
}

enum got map_get(struct volume_store *store, struct layer *layer, uint32_t cluster, struct waiter *waiter, uint64_t *ret_word,
                 enum io_status *ret_status) {
    uint32_t space = SPACE(PAGE_MAP, layer->id), index = cluster / PAGE_WORDS;
    struct page *page = page_find(store, space, index);
    if (likely(page != NULL && !page->loading)) {
        page->referenced = true;
        *ret_word = page->words[cluster % PAGE_WORDS];
        return GOT;
    }
    if (page == NULL) {
        uint64_t reference;
        enum got got = dir_get(store, layer, index / NODE_PAGES, waiter, &reference, ret_status);
        if (got != GOT)
            return got;
        if (reference_cluster(reference) == 0 ||
            (!reference_valid(reference, index % NODE_PAGES) && overlay_find(store, space, index) == NULL)) {
            *ret_word = (reference & REFERENCE_ZERO) != 0 ? MAP_ZERO_ALL : 0;
            return GOT;
        }
    }
    enum got got = page_get(store, space, index, waiter, &page, ret_status);
    if (got == GOT)
        *ret_word = page->words[cluster % PAGE_WORDS];
    return got;
}

/* ---- new nodes ---- */

static void making_done(struct store_io *io) {
    struct volume_store *store = io->store;
    struct node_making *making = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    io_give(io);
    list_remove(&making->node);
    commit_unreserve(store, 8);
    if (status == IO_OK) {
        store->unflushed = true;
        if (making->holder->dropped || store_frozen(store)) {
            cluster_return(store, making->cluster, false);
        } else {
            cluster_keep(store, making->cluster);
            page_set(store, making->holder, making->word,
                     (making->holder->words[making->word] & REFERENCE_ZERO) | making->cluster);
            if (making->layer != NULL) {
                layer_set(store, making->layer, LAYER_NODES, layer_get(making->layer, LAYER_NODES) + 1);
                promise_update(store, making->layer);
            }
        }
    } else {
        cluster_return(store, making->cluster, status != IO_NO_SPACE);
    }
    if (making->layer != NULL)
        making->layer->busy--;
    page_unpin(store, making->holder);
    waiters_wake(&making->waiters, status);
    free(making);
    background_kick(store);
}

enum got node_make(struct volume_store *store, struct layer *layer, uint32_t space, uint32_t index, struct page *holder,
                   unsigned word, bool housekeeping, struct waiter *waiter, enum io_status *ret_status) {
    list_for_each (&store->makings, struct node_making, other, node) {
        if (other->space == space && other->index == index) {
            list_push_back(&other->waiters, &waiter->node);
            return WAIT;
        }
    }
    enum got got = commit_room(store, 8, waiter);
    if (got != GOT)
        return got;
    struct node_making *making = calloc(1, sizeof(*making));
    struct store_io *io = making == NULL ? NULL : io_take(store, making_done, making);
    if (io == NULL) {
        free(making);
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    page_pin(holder);
    got = cluster_take(store, layer, housekeeping ? SPACE_HOUSEKEEPING : SPACE_DATA, true, waiter, &making->cluster, ret_status);
    if (got != GOT) {
        page_unpin(store, holder);
        io_give(io);
        free(making);
        return got;
    }
    *making = (struct node_making){
        .layer = layer, .space = space, .index = index, .holder = holder, .word = word, .cluster = making->cluster};
    list_init(&making->waiters);
    list_push_back(&making->waiters, &waiter->node);
    list_push_back(&store->makings, &making->node);
    commit_reserve(store, 8);
    if (layer != NULL)
        layer->busy++;
    /* written before it is referred to, so that the host's lack of space strikes now and not at a checkpoint */
    for (unsigned i = 0; i < IO_SLICES; i++)
        io->slices[i] = (struct slice){store->zero_block, BLOCK_BYTES};
    io->request.op = BLOCK_WRITE;
    io->request.slices = io->slices;
    io->request.slice_count = IO_SLICES;
    io->request.offset = (uint64_t)making->cluster << CLUSTER_SHIFT;
    io->request.length = CLUSTER_BYTES;
    io_submit(io);
    return WAIT;
}
static_assert(IO_SLICES * BLOCK_BYTES == CLUSTER_BYTES, "a node is zeroed by one request");

enum got dir_page_for_write(struct volume_store *store, struct layer *layer, uint32_t node, bool housekeeping,
                            struct waiter *waiter, struct page **ret_page, enum io_status *ret_status) {
    uint32_t space = SPACE(PAGE_DIR, layer->id), index = node / PAGE_WORDS;
    unsigned word = LAYER_ROOTS + index / NODE_PAGES;
    if (reference_cluster(layer->record->words[word]) == 0)
        return node_make(store, layer, space, index / NODE_PAGES * NODE_PAGES, layer->record, word, housekeeping, waiter,
                         ret_status);
    return page_get(store, space, index, waiter, ret_page, ret_status);
}

enum got map_page_for_write(struct volume_store *store, struct layer *layer, uint32_t cluster, bool housekeeping,
                            struct waiter *waiter, struct page **ret_page, enum io_status *ret_status) {
    uint32_t space = SPACE(PAGE_MAP, layer->id), index = cluster / PAGE_WORDS, node = index / NODE_PAGES;
    struct page *page = page_find(store, space, index);
    if (likely(page != NULL && !page->loading)) {
        page->referenced = true;
        *ret_page = page;
        return GOT;
    }
    if (page == NULL) {
        struct page *dir;
        enum got got = dir_page_for_write(store, layer, node, housekeeping, waiter, &dir, ret_status);
        if (got != GOT)
            return got;
        if (reference_cluster(dir->words[node % PAGE_WORDS]) == 0)
            return node_make(store, layer, space, node * NODE_PAGES, dir, node % PAGE_WORDS, housekeeping, waiter, ret_status);
    }
    return page_get(store, space, index, waiter, ret_page, ret_status);
}

void pages_forget(struct volume_store *store, uint32_t space, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        struct page *page = page_find(store, space, i);
        if (page != NULL) {
            struct list waiters;
            list_init(&waiters);
            list_splice_back(&waiters, &page->waiters);
            page_drop(store, page);
            waiters_wake(&waiters, IO_OK);
        }
        struct overlay *overlay = overlay_find(store, space, i);
        if (overlay != NULL)
            overlay_drop(store, overlay);
    }
}
