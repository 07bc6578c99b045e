/* Opening a store, and the memory of one: from two superblocks to volumes that answer. */
#include "blockdev/volume/replica.h"

#include <stdio.h>
#include <stdlib.h>

#define RING_PIECE MIB(1)
#define REWRITE_PIECE KIB(64)
#define REWRITE_PIECES 64

bool store_alloc(struct block_device *base, struct reactor *home, struct reactor *control, uint64_t cache_bytes,
                 struct volume_store **ret_store, struct error *error) {
    struct volume_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a volume store on %s", base->name);
    store->home = home;
    store->control = control;
    store->graph = base->graph;
    hash_map_init(&store->pages);
    hash_map_init(&store->overlays);
    hash_map_init(&store->by_uuid);
    hash_map_init(&store->by_name);
    list_init(&store->cache);
    for (unsigned i = 0; i < PAGE_KINDS; i++) {
        list_init(&store->dirty[i]);
        list_init(&store->overlay_lists[i]);
    }
    struct list *lists[] = {&store->memory_waiters, &store->grace,         &store->discards, &store->space_waiters,
                            &store->makings,        &store->drain_waiters, &store->layers,   &store->volumes,
                            &store->hold_waiters,   &store->gate_waiters,  &store->commands, &store->backgrounds,
                            &store->copies,         &store->fill_waiters,  &store->externals};
    for (size_t i = 0; i < array_count(lists); i++)
        list_init(lists[i]);
    commit_init(store);
    checkpoint_init(store);
    pool_init(&store->ops, sizeof(struct volume_op), POOL_OPS);
    pool_init(&store->ios, sizeof(struct store_io), 4 * POOL_OPS);
    store->epoch = store->epoch_oldest = 1;
    cache_bytes = cache_bytes == 0 ? VOLUME_CACHE_DEFAULT : max_u64(cache_bytes, VOLUME_CACHE_MIN);
    store->cache_limit = cache_bytes / CACHE_PAGE_BYTES;
    store->layer_by_id = calloc(LAYERS_MAX, sizeof(*store->layer_by_id));
    store->zero_block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    store->fill_block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    store->checkpoint.images = aligned_alloc(BLOCK_BYTES, (size_t)CHECKPOINT_GROUP * BLOCK_BYTES);
    store->checkpoint.superblock = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (store->layer_by_id == NULL || store->zero_block == NULL || store->fill_block == NULL ||
        store->checkpoint.images == NULL || store->checkpoint.superblock == NULL) {
        store_free(store);
        return error_set(error, ERROR_NO_MEMORY, "no memory for a volume store on %s", base->name);
    }
    memset(store->zero_block, 0, BLOCK_BYTES);
    *ret_store = store;
    return true;
}

/* Everything, in whatever state: nothing of it may be called any more. */
void store_free(struct volume_store *store) {
    reactor_timer_stop(store->home, &store->commit.timer);
    reactor_timer_stop(store->home, &store->commit.hold);
    reactor_timer_stop(store->home, &store->checkpoint.retry);
    background_fini(store);
    copies_fini(store);
    reactor_timer_stop(store->home, &store->close_timer);
    for (struct list_node *node; (node = list_pop_front(&store->volumes)) != NULL;) {
        struct volume *volume = list_entry(node, struct volume, node);
        replica_close(volume);
        free(volume);
    }
    for (struct list_node *node; (node = list_pop_front(&store->layers)) != NULL;) {
        struct layer *layer = list_entry(node, struct layer, node);
        if (layer->external != NULL && !list_linked(&layer->external->node)) /* nobody has adopted it */
            free(layer->external);
        free(layer);
    }
    externals_free(store);
    for (struct list_node *node; (node = list_pop_front(&store->makings)) != NULL;)
        free(list_entry(node, struct node_making, node));
    freed_fini(store);
    cache_fini(store);
    hash_map_fini(&store->by_uuid);
    hash_map_fini(&store->by_name);
    store->ops.lent = store->ios.lent = 0;
    pool_fini(&store->ops);
    pool_fini(&store->ios);
    free(store->commit.record);
    free(store->checkpoint.images);
    free(store->checkpoint.superblock);
    free(store->zero_block);
    free(store->fill_block);
    early_fini(store);
    free(store->layer_by_id);
    free(store);
}

/* ---- the way to an open store; on the home reactor ---- */

struct opening {
    struct volume_store_open *open;
    struct volume_store *store;
    struct bulk bulk;
    struct store_io io;
    struct superblock *heads; /* two, as read */
    uint8_t *index;
    uint8_t *ring;
    struct page **table; /* pages being read; NULL = none at this id */
    bool ring_unreadable;
    uint32_t again;         /* blocks of the ring that were written once more, or are about to be */
    struct trail_left left; /* by the process before */
    uint8_t *rewritten;     /* REWRITE_PIECES of REWRITE_PIECE */
    struct rewrite_piece {
        uint64_t block, count;
    } pieces[REWRITE_PIECES];
};

static void opening_free(struct opening *opening) {
    free(opening->heads);
    free(opening->index);
    free(opening->ring);
    free(opening->table);
    free(opening->rewritten);
    free(opening);
}

/* Control reactor: the end of a failed opening. */
static void report_failure(struct reactor_message *message) {
    struct volume_store_open *open = container_of(message, struct volume_store_open, message);
    struct opening *opening = open->private;
    if (opening != NULL && opening->store != NULL) {
        trail_left_fini(opening->store, &opening->left);
        if (opening->store->base_handle.device != NULL)
            block_handle_close(&opening->store->base_handle);
        store_free(opening->store);
    }
    if (opening != NULL)
        opening_free(opening);
    open->done(open);
}

static void fail(struct opening *opening) {
    struct volume_store *store = opening->store;
    if (store->base != NULL)
        block_channel_close(store->base);
    store->base = NULL;
    opening->open->message.run = report_failure;
    reactor_post(store->control, &opening->open->message);
}

static void fail_memory(struct opening *opening) {
    error_set(&opening->open->error, ERROR_NO_MEMORY, "no memory to open the volume store on %s", opening->open->base->name);
    fail(opening);
}

static void bulk_then(struct opening *opening, enum block_op op, uint32_t count,
                      bool (*describe)(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer,
                                       size_t *ret_length),
                      void (*item)(struct bulk *bulk, uint32_t i, enum io_status status), void (*done)(struct bulk *bulk)) {
    opening->bulk.store = opening->store;
    opening->bulk.op = op;
    opening->bulk.count = count;
    opening->bulk.describe = describe;
    opening->bulk.item = item;
    opening->bulk.done = done;
    opening->bulk.owner = opening;
    bulk_start(&opening->bulk);
}

static void report_open(struct reactor_message *message) {
    struct volume_store_open *open = container_of(message, struct volume_store_open, message);
    struct opening *opening = open->private;
    struct volume_store *store = opening->store;
    opening_free(opening);
    open->store = store;
    externals_begin(store);
    devices_register_all(store);
    replica_delete_let_go(store);
    open->ok = true;
    open->done(open);
}

/* ---- 5: layers and volumes ---- */

static bool layer_sane(const struct page *record) {
    const uint64_t *words = record->words;
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(record, &size);
    struct identity_item item;
    while (identity_next(identity, size, &at, &item))
        ;
    enum layer_state state = LAYER_STATE_OF(words[LAYER_STATE]);
    return at == size && words[LAYER_IDENTITY] <= IDENTITY_BYTES && state >= LAYER_LIVE && state <= LAYER_MERGING &&
           words[LAYER_TAIL] <= LAYER_BLOCKS_MAX && words[LAYER_SIZE] <= words[LAYER_TAIL] &&
           words[LAYER_LIMIT] <= words[LAYER_SIZE] && words[LAYER_PARENT] < LAYERS_MAX;
}

static bool build_layers(struct volume_store *store) {
    uint32_t limit = min_u32(LAYERS_MAX, store->super.table_index_pages * NODE_WORDS);
    struct page *index = NULL;
    for (uint32_t id = 1; id < limit; id++) {
        uint32_t node = id / NODE_PAGES;
        if (index == NULL || node % PAGE_WORDS == 0)
            index = page_find(store, SPACE(PAGE_TABLE_INDEX, 0), node / PAGE_WORDS);
        if (index != NULL && reference_cluster(index->words[node % PAGE_WORDS]) == 0) {
            id |= NODE_PAGES - 1; /* there are 64,512 ids, and a few nodes */
            continue;
        }
        struct page *record = page_find(store, SPACE(PAGE_TABLE, 0), id);
        if (record == NULL || LAYER_STATE_OF(record->words[LAYER_STATE]) == LAYER_FREE)
            continue;
        if (!layer_sane(record)) {
            store_set_read_only(store, "the record of layer %u makes no sense", id);
            continue;
        }
        struct layer *layer = layer_attach(store, id, record);
        if (layer == NULL || ((layer_get(layer, LAYER_STATE) & LAYER_EXTERNAL) != 0 && external_attach(store, layer) == NULL))
            return false;
    }
    list_for_each (&store->layers, struct layer, layer, node) {
        uint32_t id = (uint32_t)layer_get(layer, LAYER_PARENT);
        struct layer *parent = id == 0 ? NULL : store->layer_by_id[id];
        if (parent != NULL)
            layer_set_parent(store, layer, parent);
        promise_update(store, layer);
    }
    list_for_each (&store->layers, struct layer, layer, node) {
        uint32_t steps = 0;
        const struct layer *up = layer;
        while (up != NULL && steps++ < LAYERS_MAX)
            up = up->parent;
        if (up != NULL) { /* cut it, or every walk would run for ever */
            store_set_read_only(store, "layer %u is its own ancestor", layer->id);
            layer_mark_damaged(store, layer, "descends from itself");
            layer_set_parent(store, layer, NULL);
        }
        if (layer_get(layer, LAYER_PARENT) != 0 && layer->parent == NULL)
            layer_mark_damaged(store, layer, "has lost its parent");
    }
    return true;
}

static bool build(struct opening *opening) {
    struct volume_store *store = opening->store;
    struct page *own = page_find(store, SPACE(PAGE_TABLE, 0), 0);
    if (own == NULL || LAYER_STATE_OF(own->words[LAYER_STATE]) != LAYER_STORE)
        return error_set(&opening->open->error, ERROR_DAMAGED, "the store's own record on %s is damaged",
                         opening->open->base->name);
    uint64_t total = own->words[STORE_TOTAL];
    if (total < store->super.total_clusters || total << CLUSTER_SHIFT > block_device_size(opening->open->base) ||
        divide_up(divide_up(total, ALLOC_PAGE_CLUSTERS), PAGE_WORDS) > store->super.alloc_index_pages)
        return error_set(&opening->open->error, ERROR_DAMAGED, "the store ends at %llu clusters, beyond the end of %s",
                         (unsigned long long)total, opening->open->base->name);
    store->total_clusters = (uint32_t)total;
    for (uint32_t i = 0; i < alloc_pages(store); i++) {
        struct page *page = page_find(store, SPACE(PAGE_ALLOC_INDEX, 0), i / PAGE_WORDS);
        if (page == NULL)
            continue; /* damaged, and the store read-only */
        uint32_t used = ALLOC_INDEX_USED(page->words[i % PAGE_WORDS]);
        if (used > ALLOC_PAGE_CLUSTERS)
            store_set_read_only(store, "the count of allocation page %u is wrong", i);
        store->used_clusters += used;
    }
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(own, &size);
    for (struct identity_item item; identity_next(identity, size, &at, &item);) {
        if (item.type == IDENTITY_NAME)
            snprintf(store->name, sizeof(store->name), "%.*s", (int)item.length, (const char *)item.bytes);
        else if (item.type == IDENTITY_UUID && item.length == sizeof(store->uuid))
            memcpy(&store->uuid, item.bytes, sizeof(store->uuid));
    }
    if (!build_layers(store) || !volumes_build(store))
        return error_set(&opening->open->error, ERROR_NO_MEMORY, "no memory for the volumes on %s", opening->open->base->name);
    return true;
}

/* ---- 4: the journal ---- */

static void legs_look(struct volume_store *store) {
    bool legs = false;
    list_for_each (&store->volumes, const struct volume, volume, node)
        legs = legs || volume->replica != NULL;
    if (!legs)
        return;
    trail_begin(store);
    if (store->trail.memory != NULL)
        commit_announce(store);
}

static void replayed(struct opening *opening) {
    struct volume_store *store = opening->store;
    if (!build(opening)) {
        fail(opening);
        return;
    }
    if (!store_frozen(store)) {
        legs_look(store);
        background_resume(store);
    }
    opening->open->message.run = report_open;
    reactor_post(store->control, &opening->open->message);
}

static void kept(struct store_io *io) {
    struct opening *opening = io->owner;
    io->store->flushing--;
    if (io->request.status == IO_OK) {
        if (opening->left.memory != NULL)
            trail_take_over(io->store, &opening->left);
        trail_left_fini(io->store, &opening->left);
        replayed(opening);
        return;
    }
    error_set(&opening->open->error, ERROR_IO, "%s cannot be flushed: %s", opening->open->base->name,
              io_status_words((enum io_status)io->request.status));
    fail(opening);
}

static void written_again(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    if (bulk->status != IO_OK) {
        error_set(&opening->open->error, ERROR_IO, "%s cannot be written: %s", opening->open->base->name,
                  io_status_words(bulk->status));
        fail(opening);
        return;
    }
    io_use(&opening->io, opening->store, kept, opening);
    if (VOLUME_CANARY == VOLUME_CANARY_OPEN_WITHOUT_FLUSH) {
        opening->store->flushing++;
        opening->io.request.status = IO_OK;
        kept(&opening->io);
        return;
    }
    io_flush(&opening->io); /* what was read is durable from here on */
}

/* The superblock that counts, and then what was replayed of the ring. */
static bool describe_again(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct opening *opening = bulk->owner;
    const struct volume_store *store = opening->store;
    const struct commit *commit = &store->commit;
    if (i == 0) {
        *ret_offset = (uint64_t)SUPERBLOCK_CLUSTER(store->super.generation) << CLUSTER_SHIFT;
        *ret_buffer = &opening->heads[store->super.generation & 1];
        *ret_length = BLOCK_BYTES;
        return true;
    }
    uint32_t from = (store->super.journal_block + opening->again) % commit->ring_blocks;
    uint32_t count = min_u32(min_u32(commit->used - opening->again, commit->ring_blocks - from), RING_PIECE / BLOCK_BYTES);
    opening->again += count;
    *ret_offset = ((uint64_t)store->super.journal_cluster << CLUSTER_SHIFT) + (uint64_t)from * BLOCK_BYTES;
    *ret_buffer = opening->ring + (size_t)from * BLOCK_BYTES;
    *ret_length = (size_t)count * BLOCK_BYTES;
    return count > 0;
}

/* What is read may be in a cache only, forgotten by the disk when a flush failed: the one above proves nothing then. What the
 * store goes on from is written once more. Pages need it not: the superblock that leads to them was written after theirs. */
static void write_again(struct opening *opening) {
    struct volume_store *store = opening->store;
    opening->again = 0;
    bulk_then(opening, BLOCK_WRITE, 2 + (uint32_t)divide_up((uint64_t)store->commit.used * BLOCK_BYTES, RING_PIECE),
              describe_again, NULL, written_again);
}

/* ---- what the process before may not have flushed: it is read and written, a group at a time ---- */

static bool describe_piece(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct opening *opening = bulk->owner;
    *ret_offset = opening->pieces[i].block * BLOCK_BYTES;
    *ret_buffer = opening->rewritten + (size_t)i * REWRITE_PIECE;
    *ret_length = (size_t)opening->pieces[i].count * BLOCK_BYTES;
    return true;
}

static void rewrite_some(struct opening *opening);

static void rewrite_failed(struct opening *opening) {
    opening->store->unproven = true; /* as if there were no list */
    trail_left_fini(opening->store, &opening->left);
    write_again(opening);
}

static void pieces_written(struct bulk *bulk) {
    if (bulk->status == IO_OK)
        rewrite_some(bulk->owner);
    else
        rewrite_failed(bulk->owner);
}

static void pieces_read(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    if (bulk->status != IO_OK) {
        rewrite_failed(opening);
        return;
    }
    bulk->op = BLOCK_WRITE;
    bulk->done = pieces_written;
    bulk_start(bulk);
}

static void rewrite_some(struct opening *opening) {
    uint32_t count = 0;
    while (count < REWRITE_PIECES &&
           trail_next(&opening->left, REWRITE_PIECE / BLOCK_BYTES, &opening->pieces[count].block, &opening->pieces[count].count))
        count++;
    if (count == 0 || REPLICA_CANARY == REPLICA_CANARY_TRAIL_FORGOTTEN) {
        write_again(opening);
        return;
    }
    bulk_then(opening, BLOCK_READ, count, describe_piece, NULL, pieces_read);
}

static void rewrite_begin(struct opening *opening) {
    struct volume_store *store = opening->store;
    if (!store->unproven || !trail_find(store, store->commit.found_opening, &opening->left)) {
        write_again(opening);
        return;
    }
    opening->rewritten = aligned_alloc(BLOCK_BYTES, (size_t)REWRITE_PIECES * REWRITE_PIECE);
    if (opening->rewritten == NULL) {
        fail_memory(opening);
        return;
    }
    store->unproven = false;
    rewrite_some(opening);
}

static void ring_read(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    struct volume_store *store = opening->store;
    opening->ring_unreadable = bulk->status != IO_OK;
    if (!replay_run(store, opening->ring, opening->ring_unreadable)) {
        fail_memory(opening);
        return;
    }
    bool clean = (store->super.flags & SUPERBLOCK_CLEAN) != 0 && store->replayed_records == 0;
    store->unproven = !clean && store->commit.closed_sequence != 0 && /* 0: it was never used */
                      opening->open->base->volatile_cache;
    if (store_frozen(store)) {
        replayed(opening);
        return;
    }
    rewrite_begin(opening);
}

static bool describe_ring(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct opening *opening = bulk->owner;
    uint64_t bytes = (uint64_t)opening->store->commit.ring_blocks * BLOCK_BYTES, at = i * RING_PIECE;
    *ret_offset = ((uint64_t)opening->store->super.journal_cluster << CLUSTER_SHIFT) + at;
    *ret_buffer = opening->ring + at;
    *ret_length = min_u64(RING_PIECE, bytes - at);
    opening->store->open_reads++;
    return true;
}

static void table_read(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    struct commit *commit = &opening->store->commit;
    const struct superblock *super = &opening->store->super;
    commit->ring_blocks = super->journal_clusters * CLUSTER_BLOCKS;
    commit->record_blocks_max = min_u32(commit->ring_blocks / 8, (uint32_t)(MIB(1) / BLOCK_BYTES));
    commit->words_max = (uint32_t)((commit->record_blocks_max * (size_t)BLOCK_BYTES - sizeof(struct record_header)) /
                                   sizeof(struct record_change));
    commit->head = super->journal_block;
    commit->durable_sequence = commit->closed_sequence = super->journal_sequence;
    commit->durable_crc = super->journal_crc;
    commit->found_opening = super->opening_id;
    uint64_t start = opening->open->checkpoint_bytes / BLOCK_BYTES;
    opening->store->checkpoint.start_blocks =
        start == 0 ? commit->ring_blocks / 2 : (uint32_t)min_u64(start, commit->ring_blocks / 2);
    commit->record = aligned_alloc(BLOCK_BYTES, (size_t)commit->record_blocks_max * BLOCK_BYTES);
    opening->ring = aligned_alloc(BLOCK_BYTES, (size_t)commit->ring_blocks * BLOCK_BYTES);
    if (commit->record == NULL || opening->ring == NULL) {
        fail_memory(opening);
        return;
    }
    memset(opening->ring, 0, (size_t)commit->ring_blocks * BLOCK_BYTES); /* what cannot be read is no record */
    host_random(opening->store->home->host, &commit->opening_id, sizeof(commit->opening_id));
    bulk_then(opening, BLOCK_READ, (uint32_t)divide_up((uint64_t)commit->ring_blocks * BLOCK_BYTES, RING_PIECE), describe_ring,
              NULL, ring_read);
}

/* ---- 3: layer records ---- */

static bool describe_table(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct opening *opening = bulk->owner;
    struct volume_store *store = opening->store;
    struct page *index = page_find(store, SPACE(PAGE_TABLE_INDEX, 0), i / NODE_PAGES / PAGE_WORDS);
    uint64_t reference = index == NULL ? 0 : index->words[i / NODE_PAGES % PAGE_WORDS];
    if (reference_cluster(reference) == 0) {
        bulk->next = min_u32(bulk->count - 1, i | (NODE_PAGES - 1));
        return false;
    }
    if (!reference_valid(reference, i % NODE_PAGES))
        return false;
    struct page *page = page_create(store, SPACE(PAGE_TABLE, 0), i, NULL);
    if (page == NULL) {
        bulk->status = IO_NO_MEMORY;
        return false;
    }
    opening->table[i] = page;
    *ret_buffer = page->bytes;
    *ret_length = BLOCK_BYTES;
    *ret_offset = page_place(SPACE(PAGE_TABLE, 0), i, reference, reference_place(reference, i % NODE_PAGES)) * BLOCK_BYTES;
    store->open_reads++;
    return true;
}

static void table_item(struct bulk *bulk, uint32_t i, enum io_status status) {
    struct opening *opening = bulk->owner;
    struct volume_store *store = opening->store;
    struct page *page = opening->table[i];
    const char *wrong = "cannot be read";
    struct page *index = page_find(store, SPACE(PAGE_TABLE_INDEX, 0), i / NODE_PAGES / PAGE_WORDS);
    uint64_t reference = index->words[i / NODE_PAGES % PAGE_WORDS];
    if (status == IO_OK)
        wrong = page_verify(store, page->bytes, page->space, i,
                            page_place(page->space, i, reference, reference_place(reference, i % NODE_PAGES)));
    if (wrong != NULL) {
        store_set_read_only(store, "the record of layer %u %s", i, wrong);
        page_drop(store, page);
        return;
    }
    struct page_header header;
    memcpy(&header, page->bytes, sizeof(header));
    page->disk_sequence = header.sequence;
}

static void table_done(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    if (bulk->status == IO_NO_MEMORY)
        fail_memory(opening);
    else
        table_read(bulk);
}

/* ---- 2: the index ---- */

static void index_read(struct store_io *io) {
    struct opening *opening = io->owner;
    struct volume_store *store = opening->store;
    const struct superblock *super = &store->super;
    uint32_t count = super->table_index_pages + super->alloc_index_pages;
    if (io->request.status != IO_OK) {
        error_set(&opening->open->error, ERROR_DAMAGED, "the index on %s cannot be read", opening->open->base->name);
        fail(opening);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool table = i < super->table_index_pages;
        uint32_t space = SPACE(table ? PAGE_TABLE_INDEX : PAGE_ALLOC_INDEX, 0), index = table ? i : i - super->table_index_pages;
        const uint8_t *image = opening->index + (size_t)i * BLOCK_BYTES;
        struct page_header header;
        memcpy(&header, image, sizeof(header));
        uint64_t place = (uint64_t)super->index_cluster[super->generation & 1] * CLUSTER_BLOCKS + i;
        const char *wrong = page_verify(store, image, space, index, place);
        if (wrong == NULL && header.generation != super->generation)
            wrong = "is of another generation";
        if (wrong != NULL) {
            store_set_read_only(store, "%s index page %u %s", table ? "table" : "allocation", index, wrong);
            continue;
        }
        struct page *page = page_create(store, space, index, NULL);
        if (page == NULL) {
            fail_memory(opening);
            return;
        }
        memcpy(page->bytes, image, BLOCK_BYTES);
        page->disk_sequence = header.sequence;
    }
    uint32_t limit = min_u32(LAYERS_MAX, super->table_index_pages * NODE_WORDS);
    opening->table = calloc(limit, sizeof(*opening->table));
    if (opening->table == NULL)
        fail_memory(opening);
    else
        bulk_then(opening, BLOCK_READ, limit, describe_table, table_item, table_done);
}

/* ---- 1: superblocks ---- */

static void heads_read(struct bulk *bulk) {
    struct opening *opening = bulk->owner;
    struct volume_store *store = opening->store;
    struct volume_store_open *open = opening->open;
    if (!superblock_choose(opening->heads, block_device_size(open->base), &store->super, &open->error)) {
        fail(opening);
        return;
    }
    if (store->super.sector_bytes < open->base->block_size) {
        error_set(&open->error, ERROR_UNSUPPORTED, "the store has sectors of %u bytes, %s of %u", store->super.sector_bytes,
                  open->base->name, open->base->block_size);
        fail(opening);
        return;
    }
    store->store_id = store->super.store_id;
    if ((store->super.features_read_only & ~VOLUME_KNOWN_READ_ONLY) != 0)
        store_set_read_only(store, "the store has features of a newer version (0x%llx): it can only be read",
                            (unsigned long long)store->super.features_read_only);
    else if (open->read_only || atomic_load(&open->base->read_only))
        store_set_read_only(store, "opened read-only");
    uint32_t count = store->super.table_index_pages + store->super.alloc_index_pages;
    opening->index = aligned_alloc(BLOCK_BYTES, (size_t)count * BLOCK_BYTES);
    if (opening->index == NULL) {
        fail_memory(opening);
        return;
    }
    store->open_reads += 3;
    io_use(&opening->io, store, index_read, opening);
    io_buffer(&opening->io, BLOCK_READ, (uint64_t)store->super.index_cluster[store->super.generation & 1] << CLUSTER_SHIFT,
              opening->index, (size_t)count * BLOCK_BYTES);
}

static bool describe_head(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct opening *opening = bulk->owner;
    *ret_offset = (uint64_t)i << CLUSTER_SHIFT;
    *ret_buffer = &opening->heads[i];
    *ret_length = BLOCK_BYTES;
    return true;
}

static void flushed(struct store_io *io) {
    struct opening *opening = io->owner;
    io->store->flushing--;
    if (io->request.status != IO_OK && io->request.status != IO_READ_ONLY) {
        if (io->request.status == IO_NOT_READY) /* whoever has the claim may look */
            error_set(&opening->open->error, ERROR_PERMISSION, "%s is a leg of a mirror", opening->open->base->name);
        else
            error_set(&opening->open->error, ERROR_IO, "%s cannot be flushed: %s", opening->open->base->name,
                      io_status_words((enum io_status)io->request.status));
        fail(opening);
        return;
    }
    bulk_then(opening, BLOCK_READ, 2, describe_head, NULL, heads_read); /* one of the two may be unreadable: then it is zero */
}

static void begin(struct reactor_message *message) {
    struct volume_store_open *open = container_of(message, struct volume_store_open, message);
    struct opening *opening = open->private;
    struct volume_store *store = opening->store;
    store->base = block_channel_open(&store->base_handle);
    if (store->base == NULL) {
        fail_memory(opening);
        return;
    }
    io_use(&opening->io, store, flushed, opening);
    if (VOLUME_CANARY == VOLUME_CANARY_OPEN_WITHOUT_FLUSH || store->base_handle.mode == BLOCK_MODE_READ) {
        store->flushing++;
        opening->io.request.status = IO_OK;
        flushed(&opening->io);
        return;
    }
    io_flush(&opening->io); /* what is read from here on is durable, if no flush failed before */
}

void volume_store_open(struct volume_store_open *open) {
    struct opening *opening = calloc(1, sizeof(*opening));
    open->private = opening;
    open->ok = false;
    open->store = NULL;
    error_clear(&open->error);
    bool ok = opening != NULL || error_set(&open->error, ERROR_NO_MEMORY, "no memory to open %s", open->base->name);
    if (ok) {
        opening->open = open;
        opening->heads = aligned_alloc(BLOCK_BYTES, 2 * sizeof(*opening->heads));
        ok = opening->heads != NULL || error_set(&open->error, ERROR_NO_MEMORY, "no memory to open %s", open->base->name);
    }
    ok = ok && store_alloc(open->base, open->home, reactor_current(), open->cache_bytes, &opening->store, &open->error);
    if (ok) {
        memset(opening->heads, 0, 2 * sizeof(*opening->heads));
        opening->store->base_handle.owner = "a volume store";
        opening->store->base_handle.event = base_event;
        ok = block_handle_open(&opening->store->base_handle, open->base, open->read_only ? BLOCK_MODE_READ : BLOCK_MODE_CLAIM,
                               &open->error);
    }
    open->message.run = ok ? begin : report_failure;
    reactor_post(ok ? open->home : reactor_current(), &open->message);
}
