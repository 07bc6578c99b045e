/* Writes: space for all of the range first, then whole blocks in place or into their new cluster, parts of absent blocks by
 * filling (rules 1, 4, 8, 9). Also the edges of write-zeroes. */
#include "blockdev/volume/replica.h"

#define WORDS_PER_CLUSTER 6u /* map, allocation, count, USED, and the bits later */

/* ---- the end of one data write ---- */

/* Of whole blocks: one that was written in part was present, and if it is not any more, a trim has cleared it meanwhile. */
static void set_bits(struct volume_store *store, const struct store_io *io) {
    struct page *page = io->page;
    uint64_t block = io->first_block, end = block + io->block_count;
    bool part_of_last = (io->request.offset + io->request.length) % BLOCK_BYTES != 0;
    uint32_t i = 0;
    if (io->request.offset % BLOCK_BYTES != 0)
        i = ++block % CLUSTER_BLOCKS == 0;
    if (part_of_last)
        end--;
    for (; block < end; i++) {
        uint32_t cluster = (uint32_t)(block / CLUSTER_BLOCKS);
        unsigned first = (unsigned)(block % CLUSTER_BLOCKS);
        unsigned count = (unsigned)min_u64(CLUSTER_BLOCKS - first, end - block);
        uint64_t word = page->words[cluster % PAGE_WORDS];
        block += count;
        if (map_cluster(word) != io->cluster + i)
            continue; /* trimmed meanwhile: that came later */
        uint16_t mask = block_mask(first, count);
        page_set(store, page, cluster % PAGE_WORDS,
                 map_word(io->cluster + i, map_present(word) | mask, map_zero(word) & (uint16_t)~mask));
    }
}

static void data_written(struct store_io *io) {
    struct volume_store *store = io->store;
    struct volume_op *op = io->owner;
    struct layer *layer = io->layer;
    enum io_status status = (enum io_status)io->request.status;
    store->unflushed = true;
    if (io->reserved_words > 0)
        commit_unreserve(store, io->reserved_words);
    if (likely(status == IO_OK)) {
        if (io->sets_bits && !io->page->dropped) {
            set_bits(store, io);
            if (layer->frozen)
                store->move_generation++;
        }
    } else if ((io->request.flags & BLOCK_FUA) != 0 && !store->base_handle.device->native_fua) {
        /* the block layer's own flush behind the write may be what failed, and then others' data is lost with it */
        store_fail(store, "a flushed write failed: %s; open the store anew to recover", io_status_words(status));
    } else if (status != IO_NO_SPACE) {
        uint32_t clusters = (uint32_t)(divide_up(io->first_block % CLUSTER_BLOCKS + io->block_count, CLUSTER_BLOCKS));
        for (uint32_t i = 0; i < clusters; i++)
            cluster_quarantine(store, io->cluster + i);
        replica_doubt(op->volume);
    }
    page_unpin(store, io->page);
    io_give(io);
    layer_write_done(store, layer);
    op_child_done(op, status);
}

/* ---- space ---- */

enum got write_prepare(struct volume_op *op, struct layer *layer, uint64_t from, uint64_t end, enum io_status *ret_status) {
    struct volume_store *store = op->volume->store;
    uint32_t first = (uint32_t)(from >> CLUSTER_SHIFT), last = (uint32_t)((end - 1) >> CLUSTER_SHIFT);
    uint32_t missing = 0;
    bool bits = false;
    struct page *page = NULL;
    for (uint32_t cluster = first; cluster <= last; cluster++) {
        enum got got = map_page_for_write(store, layer, cluster, false, &op->waiter, &page, ret_status);
        if (got != GOT)
            return got;
        uint64_t word = page->words[cluster % PAGE_WORDS];
        missing += map_cluster(word) == 0;
        bits = bits || map_present(word) != 0xffff;
    }
    if (bits) {
        enum got got =
            commit_room(store, min_u32(store->commit.words_max / 2, WORDS_PER_CLUSTER * (last - first + 1)), &op->waiter);
        if (got != GOT)
            return got;
    }
    if (missing == 0)
        return GOT;
    if (!space_available(store, layer, missing, SPACE_DATA)) {
        *ret_status = IO_NO_SPACE;
        if (store->waiting_clusters == 0)
            return FAILED;
        list_push_back(&store->space_waiters, &op->waiter.node); /* what was freed comes back */
        commit_hasten(store);
        return WAIT;
    }
    for (uint32_t cluster = first; cluster <= last; cluster++) {
        enum got got = map_page_for_write(store, layer, cluster, false, &op->waiter, &page, ret_status);
        if (got != GOT)
            return got;
        uint64_t word = page->words[cluster % PAGE_WORDS];
        if (map_cluster(word) != 0)
            continue;
        uint32_t taken;
        page_pin(page);
        got = cluster_take(store, layer, SPACE_DATA, false, &op->waiter, &taken, ret_status);
        if (got == GOT) {
            page_set(store, page, cluster % PAGE_WORDS, word | taken);
            layer_set(store, layer, LAYER_USED, layer_get(layer, LAYER_USED) + 1);
            if (layer->promise > 0)
                promise_update(store, layer);
        }
        page_unpin(store, page);
        if (got != GOT)
            return got;
    }
    return GOT;
}

/* ---- filling: part of an absent block ---- */

static void fill_read(struct volume_op *op);

static void fill_written(struct store_io *io) {
    op_buffer_give(io->owner);
    data_written(io);
}

static void fill_write(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    struct layer *layer = op->lock.layer;
    uint64_t block = op->cursor >> BLOCK_SHIFT;
    uint32_t cluster = (uint32_t)(block / CLUSTER_BLOCKS);
    uint32_t skip = (uint32_t)(op->cursor % BLOCK_BYTES), length = (uint32_t)min_u64(BLOCK_BYTES - skip, op->end - op->cursor);
    struct page *page = NULL;
    enum io_status status = IO_OK;
    enum got got = commit_room(store, 1, &op->waiter);
    if (got == GOT)
        got = map_page_for_write(store, layer, cluster, false, &op->waiter, &page, &status);
    op->waiting = got == WAIT;
    if (got == FAILED)
        op_fail(op, status);
    if (got != GOT)
        return;
    assert(op->hold.layer == layer && map_cluster(page->words[cluster % PAGE_WORDS]) != 0);
    struct store_io *io = io_take(store, fill_written, op);
    if (io == NULL) {
        op_fail(op, IO_NO_MEMORY);
        return;
    }
    if (op->request->op == BLOCK_WRITE)
        slice_copy_out(op->request->slices, op->request->slice_count, op->cursor - op->request->offset, op->buffer + skip,
                       length);
    else
        memset(op->buffer + skip, 0, length);
    io->layer = layer;
    io->page = page;
    page_pin(page);
    io->first_block = block;
    io->block_count = 1;
    io->cluster = map_cluster(page->words[cluster % PAGE_WORDS]);
    io->sets_bits = true;
    io->reserved_words = 1;
    commit_reserve(store, 1);
    if ((op->request->flags & BLOCK_FUA) != 0)
        op->commit_after = true;
    layer->writes_in_flight++;
    op->cursor += length;
    op->resume = write_run;
    op->pending++;
    epoch_enter(io);
    io_buffer(io, BLOCK_WRITE, ((uint64_t)io->cluster * CLUSTER_BLOCKS + block % CLUSTER_BLOCKS) * BLOCK_BYTES, op->buffer,
              BLOCK_BYTES);
}

static void fill_read_done(struct store_io *io) {
    struct volume_op *op = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    io_give(io);
    op_child_done(op, status); /* op->resume is fill_write */
}

/* From the pool or, so that fills which wait for each other's cannot all stand still, the store's own. False: waits for that. */
static bool fill_buffer_take(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    op->buffer = buffer_take(&store->home->buffers, BLOCK_BYTES);
    if (op->buffer == NULL && !store->fill_block_lent) {
        store->fill_block_lent = true;
        op->buffer = store->fill_block;
    }
    if (op->buffer == NULL)
        list_push_back(&store->fill_waiters, &op->waiter.node);
    return op->buffer != NULL;
}

/* The block is this request's alone from here on; its new content is put together in op->buffer. Whoever has a buffer waits for
 * no lock and no buffer: those that wait for it may hold them. */
static void fill_read(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    struct layer *layer = op->volume->layer;
    uint64_t block = op->cursor >> BLOCK_SHIFT;
    struct waiter *waiter = &op->waiter;
    if (op->lock.layer != NULL && (op->lock.layer != layer || !op->lock.exclusive || op->lock.first != block))
        lock_release(&op->lock);
    if (op->lock.layer == NULL)
        op_buffer_give(op);
    op->waiting = true; /* until shown otherwise */
    if (op->lock.layer == NULL && !lock_take(layer, &op->lock, block, block, true, waiter)) {
        if (VOLUME_CANARY != VOLUME_CANARY_RMW_RACES)
            return;
    }
    if (!op->lock.granted && VOLUME_CANARY != VOLUME_CANARY_RMW_RACES)
        return;
    for (struct layer *up = layer->parent; up != NULL; up = up->parent)
        if (up->writes_in_flight > 0 &&
            VOLUME_CANARY != VOLUME_CANARY_RMW_RACES) { /* a snapshot's stragglers: they belong into what is copied */
            list_push_back(&up->drain_waiters, &waiter->node);
            return;
        }
    if (op->buffer == NULL && !fill_buffer_take(op))
        return;
    struct resolved resolved;
    enum io_status status = IO_OK;
    unsigned b = (unsigned)(block % CLUSTER_BLOCKS);
    uint32_t cluster = (uint32_t)(block / CLUSTER_BLOCKS);
    uint64_t word;
    enum got got = map_get(store, layer, cluster, waiter, &word, &status);
    if (got == GOT && (map_present(word) >> b & 1) != 0) { /* somebody else filled it */
        op->waiting = false;
        lock_release(&op->lock);
        op_buffer_give(op);
        op->resume = write_run;
        write_run(op);
        return;
    }
    if (got == GOT)
        got = chain_resolve(store, layer, cluster, block_mask(b, 1), false, false, waiter, &resolved, &status);
    if (got == WAIT)
        return;
    op->waiting = false;
    if (got == FAILED) {
        op_fail(op, status);
        return;
    }
    op->resume = fill_write;
    if (resolved.block[b] == 0) {
        memset(op->buffer, 0, BLOCK_BYTES);
        fill_write(op);
        return;
    }
    struct store_io *io = io_take(store, fill_read_done, op);
    if (io == NULL) {
        op_fail(op, IO_NO_MEMORY);
        return;
    }
    epoch_enter(io);
    op->pending++;
    io_aim(io, &resolved, resolved.block[b]);
    io_buffer(io, BLOCK_READ, resolved.block[b] * BLOCK_BYTES, op->buffer, BLOCK_BYTES);
}

/* ---- whole blocks, and parts of present ones ---- */

struct run {
    uint64_t from, length; /* bytes of the volume */
    struct page *page;
    uint32_t cluster, next; /* where it lies: its first cluster, and the one that would follow */
    bool sets_bits;
};

static bool send_run(struct volume_op *op, struct layer *layer, const struct run *run) {
    struct volume_store *store = op->volume->store;
    uint64_t from = run->from, end = run->from + run->length;
    while (from < end) {
        struct store_io *io = io_take(store, data_written, op);
        uint64_t n = io == NULL ? 0 : end - from;
        if (io != NULL && op->request->op == BLOCK_WRITE) {
            n = op_slices(op, io, from, n);
        } else if (io != NULL) { /* the edge of write-zeroes, within one block */
            io->slices[0] = (struct slice){store->zero_block, n};
            io->request.slices = io->slices;
            io->request.slice_count = 1;
        }
        if (n == 0 || (run->sets_bits && n % BLOCK_BYTES != 0 && n < end - from)) {
            if (io != NULL)
                io_give(io);
            if (op->status == IO_OK)
                op->status = io == NULL ? IO_NO_MEMORY : IO_INVALID;
            return false;
        }
        uint64_t first_block = from >> BLOCK_SHIFT, last_block = (from + n - 1) >> BLOCK_SHIFT;
        io->layer = layer;
        io->page = run->page;
        page_pin(run->page);
        io->first_block = first_block;
        io->block_count = (uint32_t)(last_block - first_block + 1);
        io->cluster = run->cluster + (uint32_t)((from >> CLUSTER_SHIFT) - (run->from >> CLUSTER_SHIFT));
        io->sets_bits = run->sets_bits;
        if (run->sets_bits) {
            io->reserved_words = (uint32_t)((last_block / CLUSTER_BLOCKS) - (first_block / CLUSTER_BLOCKS) + 1);
            commit_reserve(store, io->reserved_words);
        }
        if (unlikely((op->request->flags & BLOCK_FUA) != 0)) {
            bool pending = (run->sets_bits || page_pending(store, run->page)) && VOLUME_CANARY != VOLUME_CANARY_FUA_ON_PENDING;
            /* without FUA of its own the disk is flushed by a commit, so that a failed flush is seen for what it is */
            if (pending || !store->base_handle.device->native_fua)
                op->commit_after = true;
            else
                io->request.flags = BLOCK_FUA;
        }
        if (VOLUME_CANARY == VOLUME_CANARY_CLONE_SHARES && run->sets_bits && layer->parent != NULL) {
            uint64_t word;
            enum io_status status;
            struct waiter nobody = {.wake = op->waiter.wake};
            if (map_get(store, layer->parent, (uint32_t)(from >> CLUSTER_SHIFT), &nobody, &word, &status) == GOT &&
                map_cluster(word) != 0)
                io->cluster = map_cluster(word);
        }
        io->request.op = BLOCK_WRITE;
        io->request.offset = ((uint64_t)io->cluster << CLUSTER_SHIFT) + from % CLUSTER_BYTES;
        io->request.length = n;
        epoch_enter(io);
        layer->writes_in_flight++;
        op->pending++;
        io_submit(io);
        from += n;
    }
    return true;
}

static void write_end(struct volume_op *op) {
    if (op->request->op == BLOCK_WRITE_ZEROES) {
        trim_run(op);
    } else if (op->commit_after) {
        op_commit(op);
    } else {
        op_end(op, IO_OK);
    }
}

/* It may need several steps: parts of blocks may have to be filled, pages to be read again. */
static bool may_split(const struct volume_op *op) {
    const uint64_t page_bytes = (uint64_t)PAGE_WORDS << CLUSTER_SHIFT;
    return (op->cursor | op->end) % BLOCK_BYTES != 0 || op->cursor / page_bytes != (op->end - 1) / page_bytes;
}

enum io_status change_status(const struct volume_op *op, uint64_t end) {
    const struct layer *layer = op->volume->layer;
    if (unlikely(layer == NULL))
        return IO_DEVICE_GONE;
    if (unlikely(store_frozen(op->volume->store)))
        return IO_MEDIUM_WRITE;
    if (unlikely(layer->frozen))
        return IO_READ_ONLY;
    return unlikely(end > layer_size(layer) << BLOCK_SHIFT) ? IO_OUT_OF_RANGE : IO_OK;
}

void write_run(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    struct layer *layer = op->volume->layer;
    op->resume = write_run;
    if (op->cursor == op->end) {
        write_end(op);
        return;
    }
    enum io_status status = change_status(op, op->end);
    if (unlikely(status != IO_OK)) {
        op_fail(op, status);
        return;
    }
    if (unlikely(store->gate == layer) && op->hold.layer == NULL && may_split(op)) {
        lock_release(&op->lock);
        op->waiting = hold_gate(store, layer, &op->waiter) == WAIT;
        return;
    }
    if (op->lock.layer != NULL && (op->lock.layer != layer || op->lock.exclusive))
        lock_release(&op->lock);
    if (op->lock.layer == NULL)
        lock_take(layer, &op->lock, op->cursor >> BLOCK_SHIFT, (op->end - 1) >> BLOCK_SHIFT, false, &op->waiter);
    if (unlikely(!op->lock.granted)) {
        op->waiting = true;
        return;
    }
    enum got got = GOT;
    if (VOLUME_CANARY != VOLUME_CANARY_NO_SPACE_HALF)
        got = write_prepare(op, layer, op->cursor, op->end, &status);
    bool prepared = got == GOT;
    struct run run = {0};
    bool fill = false;
    while (got == GOT && op->cursor < op->end) {
        uint32_t cluster = (uint32_t)(op->cursor >> CLUSTER_SHIFT);
        struct page *page = NULL;
        if (VOLUME_CANARY == VOLUME_CANARY_NO_SPACE_HALF) {
            got = write_prepare(op, layer, op->cursor, min_u64(op->end, (uint64_t)(cluster + 1) << CLUSTER_SHIFT), &status);
            if (got != GOT)
                break;
        }
        got = map_page_for_write(store, layer, cluster, false, &op->waiter, &page, &status);
        if (got != GOT)
            break;
        uint64_t word = page->words[cluster % PAGE_WORDS];
        assert(map_cluster(word) != 0); /* prepared in this turn, or held since */
        uint64_t until = min_u64(op->end, (uint64_t)(cluster + 1) << CLUSTER_SHIFT);
        unsigned first = (unsigned)(op->cursor >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        unsigned last = (unsigned)((until - 1) >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        uint16_t absent = block_mask(first, last - first + 1) & (uint16_t)~map_present(word);
        if (op->cursor % BLOCK_BYTES != 0 && (absent >> first & 1) != 0) {
            fill = true;
            break;
        }
        if (until % BLOCK_BYTES != 0 && (absent >> last & 1) != 0) { /* so much before it as is whole */
            until = round_down(until, BLOCK_BYTES);
            if (until <= op->cursor) {
                fill = true;
                break;
            }
            last--;
            absent &= (uint16_t)((1u << (last + 1)) - 1);
        }
        bool joins = run.length > 0 && run.page == page && run.next == map_cluster(word) && op->cursor % CLUSTER_BYTES == 0 &&
                     run.sets_bits == (absent != 0);
        if (run.length > 0 && !joins) {
            if (!send_run(op, layer, &run)) {
                got = FAILED;
                run.length = 0;
                break;
            }
            run.length = 0;
        }
        if (run.length == 0)
            run = (struct run){.from = op->cursor, .page = page, .cluster = map_cluster(word), .sets_bits = absent != 0};
        run.length += until - op->cursor;
        run.next = map_cluster(word) + 1;
        op->cursor = until;
    }
    op->waiting = got == WAIT;
    if (unlikely(fill || (got == WAIT && prepared)) && op->hold.layer == NULL)
        hold_take(layer, &op->hold, op->cursor >> BLOCK_SHIFT, (op->end - 1) >> BLOCK_SHIFT);
    if (run.length > 0 && !send_run(op, layer, &run))
        got = FAILED;
    if (op->waiting) {
        return; /* a failure shows in op->status when it is woken */
    } else if (got == FAILED) {
        op_fail(op, op->status != IO_OK ? op->status : status);
    } else if (fill && op->pending == 0) {
        op->resume = fill_read;
        fill_read(op);
    } else if (op->cursor == op->end && op->pending == 0) {
        write_end(op); /* nothing was sent: it was all filled */
    }
    /* else the last child's end comes back here: op->resume */
}

void write_start(struct volume_op *op) {
    if (op->cursor == op->end)
        op_end(op, IO_OK);
    else
        write_run(op);
}
