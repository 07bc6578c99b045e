/* Checkpoints: dirty pages to their other places, then the superblock, so that the journal's space can be used again (rule 2). A
 * task that is stepped whenever something it waits for may have happened. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

/* References to what a kind's pages are in must be written after them. */
static const enum page_kind rounds[] = {PAGE_MAP, PAGE_DIR, PAGE_ALLOC, PAGE_TABLE, PAGE_TABLE_INDEX, PAGE_ALLOC_INDEX};

#define RETRY_NS (20 * NS_PER_MS)

static void step(struct volume_store *store);
static void round_begin(struct volume_store *store);

/* A page that it needs cannot be had. What is only out for now – memory, as a rule – is asked for again a little later. */
static void page_missing(struct volume_store *store, enum io_status status) {
    struct checkpoint *checkpoint = &store->checkpoint;
    if (status == IO_DAMAGED || status == IO_MEDIUM_READ || status == IO_INTERNAL)
        store_set_read_only(store, "a metadata page that a checkpoint needs cannot be had: %s", io_status_words(status));
    else
        reactor_timer_start(store->home, &checkpoint->retry, reactor_now_ns(store->home) + RETRY_NS);
}

static void retry_run(struct reactor_timer *timer) { step(container_of(timer, struct volume_store, checkpoint.retry)); }

static void waiter_wake(struct waiter *waiter, enum io_status status) {
    struct volume_store *store = container_of(waiter, struct volume_store, checkpoint.waiter);
    if (status != IO_OK)
        page_missing(store, status);
    if (status == IO_OK || store_frozen(store))
        step(store);
}

void checkpoint_init(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    checkpoint->waiter.wake = waiter_wake;
    checkpoint->retry.run = retry_run;
    list_init(&checkpoint->queue);
    list_init(&checkpoint->waiters);
}

void superblock_seal(struct superblock *super) { super->crc = format_crc(super, sizeof(*super), SUPERBLOCK_CRC_FIELD); }

/* The journal up to the checkpoint is not needed any more. */
static void journal_trim(struct volume_store *store) {
    struct commit *commit = &store->commit;
    uint32_t end = (commit->head + (commit->state == COMMIT_IDLE ? 0 : commit->record_blocks)) % commit->ring_blocks;
    bool same = store->checkpoint.sequence == commit->closed_sequence;
    commit->used = same ? 0 : (end + commit->ring_blocks - store->checkpoint.head) % commit->ring_blocks;
}

static void finish(struct volume_store *store, enum io_status status) {
    struct checkpoint *checkpoint = &store->checkpoint;
    checkpoint->state = CHECKPOINT_IDLE;
    reactor_timer_stop(store->home, &checkpoint->retry);
    waiters_wake(&checkpoint->waiters, status);
    waiters_wake(&store->memory_waiters, IO_OK);
    waiters_wake(&store->commit.room_waiters, IO_OK);
    commit_kick(store);
    checkpoint_consider(store);
}

void checkpoint_start(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    if (checkpoint->state != CHECKPOINT_IDLE || store_frozen(store))
        return;
    struct commit *commit = &store->commit;
    checkpoint->state = CHECKPOINT_PAGES;
    checkpoint->sequence = commit->durable_sequence;
    checkpoint->head = commit->head;
    checkpoint->crc = commit->durable_crc;
    checkpoint->round = 0;
    checkpoint->group_count = 0;
    checkpoint->group_filled = false;
    round_begin(store);
    step(store);
}

void checkpoint_consider(struct volume_store *store) {
    if (store->commit.used > store->checkpoint.start_blocks || store->dirty_count > store->cache_limit / 2)
        checkpoint_start(store);
}

void checkpoint_kick(struct volume_store *store) {
    if (store->checkpoint.state != CHECKPOINT_IDLE)
        step(store);
}

/* ---- one group of pages ---- */

static enum page_kind round_kind(const struct checkpoint *checkpoint) { return rounds[checkpoint->round]; }

/* All that is dirty of this kind by now. Pages that get dirty later are the next checkpoint's. */
static void round_begin(struct volume_store *store) {
    enum page_kind kind = round_kind(&store->checkpoint);
    uint32_t index_pages = kind == PAGE_TABLE_INDEX   ? store->super.table_index_pages
                           : kind == PAGE_ALLOC_INDEX ? store->super.alloc_index_pages
                                                      : 0;
    for (uint32_t i = 0; i < index_pages; i++) /* the copy that is written was last current two generations ago */
        page_mark_dirty(store, page_find(store, SPACE(kind, 0), i));
    list_splice_back(&store->checkpoint.queue, &store->dirty[kind]);
}

void checkpoint_overlay_applied(struct volume_store *store, struct page *page) {
    struct checkpoint *checkpoint = &store->checkpoint;
    page_mark_dirty(store, page);
    if (checkpoint->state != CHECKPOINT_PAGES || round_kind(checkpoint) != SPACE_KIND(page->space))
        return;
    list_remove(&page->dirty_node); /* what replay left for it is older than this checkpoint's sequence */
    list_push_back(&checkpoint->queue, &page->dirty_node);
}

void checkpoint_take_image(struct volume_store *store, struct page *page) {
    memcpy(page->image_wanted, page->bytes, BLOCK_BYTES);
    page->image_wanted = NULL;
    page->image_sequence = store->commit.closed_sequence;
    page_clean(store, page);
}

/* The next page to be written: dirty, or not read since the opening and changed by the journal. */
static enum got next_page(struct volume_store *store, struct page **ret_page) {
    struct checkpoint *checkpoint = &store->checkpoint;
    enum io_status status = IO_OK;
    enum got got = GOT;
    while (list_empty(&checkpoint->queue) && got == GOT) {
        struct list_node *node = list_first(&store->overlay_lists[round_kind(checkpoint)]);
        if (node == NULL) {
            *ret_page = NULL;
            return GOT;
        }
        struct overlay *overlay = list_entry(node, struct overlay, list_node);
        struct page *page;
        got = page_get(store, overlay->space, overlay->index, &checkpoint->waiter, &page, &status);
    }
    if (got == FAILED)
        page_missing(store, status);
    if (got == GOT)
        *ret_page = list_entry(list_first(&checkpoint->queue), struct page, dirty_node);
    return got;
}

/* Takes up to a group of pages; each is copied now, or when the batch closes that has changes of it. False: waits. */
static bool fill_group(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    while (checkpoint->group_count < CHECKPOINT_GROUP) {
        struct page *page, *holder = NULL;
        if (next_page(store, &page) != GOT)
            return false;
        if (page == NULL)
            break;
        struct checkpoint_slot *slot = &checkpoint->group[checkpoint->group_count];
        if (SPACE_KIND(page->space) >= PAGE_TABLE) {
            uint32_t space, index;
            enum io_status status = IO_OK;
            page_holder(page->space, page->index, &space, &index, &slot->word, &slot->sub);
            enum got got = page_get(store, space, index, &checkpoint->waiter, &holder, &status);
            if (got == FAILED)
                page_missing(store, status);
            if (got != GOT)
                return false;
            page_pin(holder);
        }
        page_pin(page);
        slot->page = page;
        slot->holder = holder;
        page->imaging = true;
        page->image_wanted = checkpoint->images + (size_t)checkpoint->group_count++ * BLOCK_BYTES;
        if (!page->in_batch) {
            checkpoint_take_image(store, page);
        } else { /* it stays dirty until then, but leaves the queue */
            list_remove(&page->dirty_node);
            list_push_back(&store->dirty[SPACE_KIND(page->space)], &page->dirty_node);
        }
    }
    checkpoint->group_filled = true;
    return true;
}

static void slot_release(struct volume_store *store, struct checkpoint_slot *slot, bool written) {
    slot->page->imaging = false;
    slot->page->image_wanted = NULL;
    if (!written && !slot->page->dropped)
        page_mark_dirty(store, slot->page); /* what it holds is nowhere else */
    if (slot->holder != NULL)
        page_unpin(store, slot->holder);
    page_unpin(store, slot->page);
    slot->page = slot->holder = NULL;
}

static bool group_ready(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    bool hasten = false, ready = true;
    for (uint32_t i = 0; i < checkpoint->group_count; i++) {
        const struct page *page = checkpoint->group[i].page;
        if (page->dropped)
            continue;
        if (page->image_wanted != NULL)
            hasten = true;
        else if (page->image_sequence > store->commit.durable_sequence && VOLUME_CANARY != VOLUME_CANARY_CHECKPOINT_AHEAD)
            ready = false; /* its record is under way */
    }
    if (hasten)
        commit_hasten(store);
    return ready && !hasten;
}

static void group_end(struct volume_store *store) {
    store->checkpoint.group_count = 0;
    store->checkpoint.group_filled = false;
    waiters_wake(&store->memory_waiters, IO_OK);
    step(store);
}

static void page_written(struct store_io *io) {
    struct volume_store *store = io->store;
    struct checkpoint *checkpoint = &store->checkpoint;
    struct checkpoint_slot *slot = io->owner;
    struct page *page = slot->page, *holder = slot->holder;
    enum io_status status = (enum io_status)io->request.status;
    uint64_t block = io->request.offset / BLOCK_BYTES;
    io_give(io);
    store->unflushed = true;
    if (status != IO_OK) {
        store_fail(store, "write of a metadata page failed: %s; open the store anew to recover", io_status_words(status));
    } else if (!page->dropped && holder != NULL && !holder->dropped) {
        uint64_t reference = holder->words[slot->word];
        page->disk_sequence = page->image_sequence;
        /* a node that was dropped meanwhile took its pages out of the cache with it */
        page_set_places(store, holder, slot->word, reference_written(reference, slot->sub, (unsigned)(block & 1)));
    }
    slot_release(store, slot, status == IO_OK);
    if (--checkpoint->group_writing == 0)
        group_end(store);
}

/* Where an image goes: the other place of its node, or the other copy of the index. */
static uint64_t image_place(const struct volume_store *store, const struct checkpoint_slot *slot) {
    const struct page *page = slot->page;
    if (slot->holder == NULL) {
        uint64_t first = (uint64_t)store->super.index_cluster[(store->super.generation + 1) & 1] * CLUSTER_BLOCKS;
        return first + (SPACE_KIND(page->space) == PAGE_ALLOC_INDEX ? store->super.table_index_pages : 0) + page->index;
    }
    uint64_t reference = slot->holder->words[slot->word];
    unsigned place = reference_valid(reference, slot->sub) ? !reference_place(reference, slot->sub) : 0;
    return page_place(page->space, page->index, reference, place);
}

static void write_group(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    uint32_t count = checkpoint->group_count;
    checkpoint->group_writing = count + 1; /* one for this loop: no end from inside */
    for (uint32_t i = 0; i < count; i++) {
        struct checkpoint_slot *slot = &checkpoint->group[i];
        struct page *page = slot->page;
        if (page->dropped || (slot->holder != NULL && slot->holder->dropped)) {
            slot_release(store, slot, false);
            checkpoint->group_writing--;
            continue;
        }
        uint64_t place = image_place(store, slot);
        uint8_t *image = checkpoint->images + (size_t)i * BLOCK_BYTES;
        uint64_t sequence = page->image_sequence;
        if (VOLUME_CANARY == VOLUME_CANARY_PAGE_SAYS_TOO_MUCH)
            sequence = store->commit.durable_sequence;
        page_seal(store, image, page->space, page->index, sequence, place,
                  slot->holder == NULL ? store->super.generation + 1 : 0);
        io_use(&slot->io, store, page_written, slot);
        epoch_enter(&slot->io);
        io_buffer(&slot->io, BLOCK_WRITE, place * BLOCK_BYTES, image, BLOCK_BYTES);
    }
    if (--checkpoint->group_writing == 0)
        group_end(store);
}

/* ---- the superblock ---- */

static void superblock_flushed(struct store_io *io) {
    struct volume_store *store = io->store;
    struct checkpoint *checkpoint = &store->checkpoint;
    store->flushing--;
    enum io_status status = (enum io_status)io->request.status;
    if (status != IO_OK) {
        store_fail(store, "flush of the superblock failed: %s; open the store anew to recover", io_status_words(status));
        finish(store, IO_MEDIUM_WRITE);
        return;
    }
    store->super = *checkpoint->superblock;
    if (VOLUME_CANARY != VOLUME_CANARY_JOURNAL_REUSED_EARLY)
        journal_trim(store);
    store->checkpoints++;
    finish(store, IO_OK);
}

static void superblock_written(struct store_io *io) {
    struct volume_store *store = io->store;
    if (io->request.status != IO_OK) {
        store_fail(store, "write of the superblock failed: %s; open the store anew to recover",
                   io_status_words((enum io_status)io->request.status));
        finish(store, IO_MEDIUM_WRITE);
        return;
    }
    store->checkpoint.state = CHECKPOINT_SUPERBLOCK_FLUSH;
    io_use(&store->checkpoint.io, store, superblock_flushed, NULL);
    io_flush(&store->checkpoint.io);
}

static void write_superblock(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    struct superblock *super = checkpoint->superblock;
    checkpoint->state = CHECKPOINT_SUPERBLOCK;
    *super = store->super;
    super->generation++;
    const struct page *own = page_find(store, SPACE(PAGE_TABLE, 0), 0);
    if (!own->in_batch && own->last_sequence <= store->commit.durable_sequence) /* else a cut may take the growth back */
        super->total_clusters = store->total_clusters;
    super->journal_sequence = checkpoint->sequence;
    super->journal_block = checkpoint->head;
    super->journal_crc = checkpoint->crc;
    super->opening_id = store->commit.opening_id;
    super->flags = checkpoint->clean && checkpoint->sequence == store->commit.closed_sequence && !trail_is_doubted(store)
                       ? SUPERBLOCK_CLEAN
                       : 0;
    superblock_seal(super);
    if (VOLUME_CANARY == VOLUME_CANARY_JOURNAL_REUSED_EARLY)
        journal_trim(store);
    io_use(&checkpoint->io, store, superblock_written, NULL);
    io_buffer(&checkpoint->io, BLOCK_WRITE, (uint64_t)SUPERBLOCK_CLUSTER(super->generation) << CLUSTER_SHIFT, super, BLOCK_BYTES);
}

static void pages_flushed(struct store_io *io) {
    struct volume_store *store = io->store;
    store->flushing--;
    if (io->request.status != IO_OK) {
        store_fail(store, "flush of a checkpoint failed: %s; open the store anew to recover",
                   io_status_words((enum io_status)io->request.status));
        finish(store, IO_MEDIUM_WRITE);
        return;
    }
    write_superblock(store);
}

static void stop(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    for (uint32_t i = 0; i < checkpoint->group_count; i++)
        slot_release(store, &checkpoint->group[i], false);
    checkpoint->group_count = 0;
    finish(store, IO_MEDIUM_WRITE);
}

static void step(struct volume_store *store) {
    struct checkpoint *checkpoint = &store->checkpoint;
    if (checkpoint->stepping || checkpoint->state != CHECKPOINT_PAGES || checkpoint->group_writing > 0 ||
        list_linked(&checkpoint->waiter.node))
        return;
    checkpoint->stepping = true;
    while (checkpoint->state == CHECKPOINT_PAGES && checkpoint->group_writing == 0) {
        if (store_frozen(store)) {
            stop(store);
            break;
        }
        if (!checkpoint->group_filled && !fill_group(store)) {
            if (store_frozen(store))
                continue;
            break;
        }
        if (checkpoint->group_count > 0) {
            if (!group_ready(store))
                break;
            write_group(store);
        } else if (++checkpoint->round < array_count(rounds)) {
            checkpoint->group_filled = false;
            round_begin(store);
        } else {
            checkpoint->state = CHECKPOINT_FLUSH;
            if (VOLUME_CANARY == VOLUME_CANARY_CHECKPOINT_NO_FLUSH) {
                write_superblock(store);
                break;
            }
            io_use(&checkpoint->io, store, pages_flushed, NULL);
            io_flush(&checkpoint->io);
        }
    }
    checkpoint->stepping = false;
}
