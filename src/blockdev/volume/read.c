/* Requests: their life, what a block reads as, and reads. */
#include "blockdev/volume/replica.h"

#include <stdlib.h>

/* ---- the life of a request ---- */

/* The layer was held; what was read is worth nothing if its words began to move meanwhile. */
static enum io_status reads_end(struct volume_op *op, enum io_status status) {
    struct layer *layer = op->reads;
    layer->busy--;
    background_kick(op->volume->store);
    return status == IO_OK && layer_state(layer) != LAYER_LIVE ? IO_DEVICE_GONE : status;
}

void op_buffer_give(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    uint8_t *buffer = op->buffer;
    op->buffer = NULL;
    if (buffer == store->fill_block) {
        store->fill_block_lent = false;
        waiters_wake(&store->fill_waiters, IO_OK); /* all: the pool may have some for the others by now */
    } else if (buffer != NULL) {
        buffer_give(&store->home->buffers, buffer, BLOCK_BYTES);
    }
}

void op_end(struct volume_op *op, enum io_status status) {
    struct block_request *request = op->request;
    struct volume_store *store = op->volume->store;
    bool *ended = op->ended;
    lock_release(&op->lock);
    hold_release(store, &op->hold);
    if (op->buffer != NULL)
        op_buffer_give(op);
    if (unlikely(op->reads != NULL))
        status = reads_end(op, status);
    struct volume *volume = op->volume;
    /* The flush that failed may have dropped what was acknowledged: other legs have it, so that this one must not guess. */
    if (unlikely(store->failed) && volume->replica != NULL && request->op == BLOCK_READ && status == IO_OK)
        status = IO_MEDIUM_READ;
    if (likely(request->op != BLOCK_REPLICA_PUT) &&
        unlikely(--volume->under_way[op->generation] == 0 && op->generation != volume->generation))
        waiters_wake(&volume->idle_waiters, IO_OK);
    if (unlikely(op->put != NULL))
        replica_put_done(op);
    if (unlikely(op->inside != NULL)) {
        op->inside(op, status);
        pool_give(&store->ops, op);
        return;
    }
    pool_give(&store->ops, op);
    if (ended != NULL) {
        *ended = true;
        block_complete_later(request, status);
    } else {
        block_complete(request, status);
    }
}

static void resume_run(struct reactor_job *job) {
    struct volume_op *op = container_of(job, struct volume_op, job);
    op->waiting = false;
    if (op->status != IO_OK && op->pending == 0)
        op_end(op, op->status);
    else if (op->status == IO_OK)
        op->resume(op);
}

/* From the ready list, so that whoever wakes need not be prepared for what the request does next. */
static void op_wake(struct waiter *waiter, enum io_status status) {
    struct volume_op *op = container_of(waiter, struct volume_op, waiter);
    if (status != IO_OK && op->status == IO_OK)
        op->status = status;
    op->job.run = resume_run;
    reactor_defer(op->volume->store->home, &op->job);
}

void op_fail(struct volume_op *op, enum io_status status) {
    if (op->status == IO_OK)
        op->status = status;
    if (op->pending == 0)
        op_end(op, op->status);
}

void op_child_done(struct volume_op *op, enum io_status status) {
    op->pending--;
    if (unlikely(status != IO_OK && op->status == IO_OK))
        op->status = status;
    if (op->pending > 0 || op->waiting)
        return; /* `waiting`: whoever wakes it goes on */
    if (unlikely(op->status != IO_OK))
        op_end(op, op->status);
    else
        op->resume(op);
}

static void committed(struct waiter *waiter, enum io_status status) {
    op_end(container_of(waiter, struct volume_op, waiter), status);
}

void op_commit(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    lock_release(&op->lock);
    hold_release(store, &op->hold);
    op->waiter.wake = committed;
    commit_join(store, &op->waiter);
}

/* Also when it has waited for writes that were answered and are not on the disk. */
static void admit(struct volume_op *op) {
    struct block_request *request = op->request;
    struct volume *volume = op->volume;
    struct volume_store *store = volume->store;
    enum io_status admitted = IO_OK;
    op->resume = admit;
    if (unlikely(request->op >= BLOCK_REPLICA_PUT)) {
        if (volume->layer == NULL)
            op_end(op, IO_DEVICE_GONE);
        else if (request->op == BLOCK_REPLICA_PUT)
            replica_put_start(op);
        else
            replica_get_start(op);
    } else if (unlikely(volume->replica != NULL && (admitted = replica_admits(volume->replica, request)) != IO_OK)) {
        op_end(op, admitted);
    } else if (unlikely(volume->layer == NULL)) {
        op_end(op, IO_DEVICE_GONE);
    } else if (unlikely(op->end > layer_size(volume->layer) << BLOCK_SHIFT)) {
        op_end(op, IO_OUT_OF_RANGE); /* shrunk since the block layer looked */
    } else if (unlikely(volume->layer->damaged && request->op != BLOCK_FLUSH)) {
        op_end(op, IO_DAMAGED);
    } else if (unlikely(volume->early_count > 0) && early_meets(volume, request->offset, request->length, &op->waiter)) {
        return;
    } else if (request->op == BLOCK_READ) {
        read_start(op);
    } else if (unlikely(store->failed)) {
        op_end(op, IO_MEDIUM_WRITE);
    } else if (request->op == BLOCK_FLUSH && REPLICA_CANARY != REPLICA_CANARY_FLUSH_AHEAD &&
               early_any(volume, op->early_until, &op->waiter)) {
        return;
    } else if (request->op == BLOCK_FLUSH) {
        if (store->read_only && store->commit.batch_words == 0 && !store->unflushed && store->commit.state == COMMIT_IDLE)
            op_end(op, IO_OK); /* there never was anything to flush */
        else
            op_commit(op);
    } else if (unlikely(store->read_only || volume->read_only)) {
        op_end(op, IO_READ_ONLY);
    } else if (unlikely(volume->replica != NULL) && !replica_is_unmarked(volume->replica, request)) {
        replica_mark(op, request->op == BLOCK_WRITE ? write_start : trim_start);
    } else if (request->op == BLOCK_WRITE) {
        write_start(op);
    } else {
        trim_start(op);
    }
}

static void begin(struct volume_op *op, struct block_request *request) {
    struct volume *volume = container_of(block_channel_device(request->channel), struct volume, device);
    bool ended = false;
    memset(op, 0, offsetof(struct volume_op, walk));
    op->request = request;
    op->volume = volume;
    op->waiter.wake = op_wake;
    op->cursor = request->offset;
    op->end = request->offset + request->length;
    op->ended = &ended;
    op->early_until = volume->store->early_sequence;
    op->generation = (uint8_t)volume->generation;
    if (likely(request->op != BLOCK_REPLICA_PUT)) /* a claim does not wait for itself */
        volume->under_way[op->generation]++;
    admit(op);
    if (!ended)
        op->ended = NULL;
}

struct op_waiter {
    struct pool_waiter waiter;
};
static_assert(sizeof(struct op_waiter) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static void op_ready(struct pool_waiter *waiter, void *take_object) {
    struct block_request *request = container_of((uint64_t(*)[4])(void *)waiter, struct block_request, device_private);
    begin(take_object, request);
}

void volume_submit(struct block_channel *channel, struct block_request *request) {
    struct volume_store *store = container_of(block_channel_device(channel), struct volume, device)->store;
    struct volume_op *op = pool_take(&store->ops);
    if (likely(op != NULL)) {
        begin(op, request);
        return;
    }
    if (store->ops.lent == 0) { /* nobody would ever give one back */
        block_complete_later(request, IO_NO_MEMORY);
        return;
    }
    struct op_waiter *own = (struct op_waiter *)(void *)request->device_private;
    own->waiter.ready = op_ready;
    pool_wait(&store->ops, &own->waiter);
}

/* ---- what blocks read as ---- */

/* The owners that are remembered for a cluster: one word a block; NULL = none. */
static uint32_t *owners_find(struct volume_store *store, const struct layer *layer, uint32_t cluster) {
    struct page *page = page_find(store, SPACE(PAGE_OWNERS, layer->id), cluster / OWNERS_CLUSTERS);
    if (page == NULL)
        return NULL;
    page->referenced = true;
    if (unlikely(page->disk_sequence != store->move_generation)) {
        memset(page->words, 0, PAGE_WORDS * sizeof(uint64_t));
        page->disk_sequence = store->move_generation;
    }
    return (uint32_t *)(void *)page->words + cluster % OWNERS_CLUSTERS * CLUSTER_BLOCKS;
}

static void owners_remember(struct volume_store *store, const struct layer *layer, uint32_t cluster, uint16_t asked,
                            const struct resolved *resolved) {
    uint32_t *owners = owners_find(store, layer, cluster);
    if (owners == NULL) {
        if (!page_room(store))
            return;
        struct page *page = page_create(store, SPACE(PAGE_OWNERS, layer->id), cluster / OWNERS_CLUSTERS, NULL);
        if (page == NULL)
            return;
        page->disk_sequence = store->move_generation;
        owners = (uint32_t *)(void *)page->words + cluster % OWNERS_CLUSTERS * CLUSTER_BLOCKS;
    }
    for (; asked != 0; asked &= (uint16_t)(asked - 1)) {
        unsigned b = (unsigned)__builtin_ctz(asked);
        if (resolved->block[b] >= OUTSIDE_BLOCKS)
            continue;
        owners[b] = resolved->block[b] == 0 ? OWNER_ZERO : (uint32_t)(resolved->block[b] / CLUSTER_BLOCKS);
    }
}

/* Has as many layers as make remembering worth it. */
static bool is_deep(const struct layer *layer) {
    for (unsigned depth = 1; depth < OWNERS_DEPTH_MIN; depth++)
        if ((layer = layer->parent) == NULL)
            return false;
    return true;
}

/* Blocks of `mask` that are remembered, into *ret. */
static uint16_t owners_recall(const uint32_t *owners, uint16_t mask, struct resolved *ret) {
    uint16_t known = 0;
    for (; mask != 0; mask &= (uint16_t)(mask - 1)) {
        unsigned b = (unsigned)__builtin_ctz(mask);
        if (owners[b] == OWNER_UNKNOWN)
            continue;
        known |= (uint16_t)(1 << b);
        if (owners[b] != OWNER_ZERO)
            ret->block[b] = (uint64_t)owners[b] * CLUSTER_BLOCKS + b;
    }
    return known;
}

enum got chain_resolve(struct volume_store *store, struct layer *layer, uint32_t cluster, uint16_t mask, bool skip_own,
                       bool one_level, struct waiter *waiter, struct resolved *ret, enum io_status *ret_status) {
    struct layer *head = layer;
    uint16_t rest = mask, asked = 0;
    unsigned depth = 0;
    bool recalls = !skip_own && !one_level && is_deep(layer);
    if (recalls) { /* the line that will be wanted comes while the layer's own word is looked up */
        const uint32_t *owners = owners_find(store, layer, cluster);
        if (owners != NULL)
            __builtin_prefetch(owners + __builtin_ctz(mask));
    }
    memset(ret, 0, sizeof(*ret));
    for (; layer != NULL && rest != 0; depth++) {
        if (unlikely(layer->external != NULL)) {
            ret->external = layer->external;
            for (; rest != 0; rest &= (uint16_t)(rest - 1)) {
                unsigned b = (unsigned)__builtin_ctz(rest);
                ret->block[b] = OUTSIDE_BLOCKS + (uint64_t)cluster * CLUSTER_BLOCKS + b;
            }
            break;
        }
        if (!skip_own || depth > 0) {
            uint64_t word;
            if (unlikely(layer->damaged)) {
                *ret_status = IO_DAMAGED;
                return FAILED;
            }
            enum got got = map_get(store, layer, cluster, waiter, &word, ret_status);
            if (got != GOT)
                return got;
            uint64_t first = (uint64_t)map_cluster(word) * CLUSTER_BLOCKS;
            for (uint16_t own = rest & map_present(word); own != 0; own &= (uint16_t)(own - 1)) {
                unsigned b = (unsigned)__builtin_ctz(own);
                ret->block[b] = first + b;
            }
            rest &= (uint16_t) ~(map_present(word) | map_zero(word));
            if (one_level && depth > 0)
                break;
        }
        rest &= layer_parent_mask(layer, cluster);
        /* The head's own memory, and its parent's: until the last snapshot that was the head's. */
        if (depth <= 1 && recalls && rest != 0) {
            const uint32_t *owners = owners_find(store, layer, cluster);
            if (owners != NULL)
                rest &= (uint16_t)~owners_recall(owners, rest, ret);
            if (depth == 0)
                asked = rest;
        }
        layer = layer->parent;
    }
    if (asked != 0 && depth >= OWNERS_DEPTH_MIN)
        owners_remember(store, head, cluster, asked, ret);
    return GOT;
}

/* ---- reads ---- */

static void read_done(struct store_io *io) {
    struct volume_op *op = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    io_give(io);
    op_child_done(op, status);
}

/* Sends [from, from + length) of the request's range as a read of the base at `base`; less if the slices are many. Returns how
 * much. */
uint64_t op_slices(struct volume_op *op, struct store_io *io, uint64_t from, uint64_t length) {
    const struct block_request *request = op->request;
    if (from == request->offset && length == request->length) {
        io->request.slices = request->slices;
        io->request.slice_count = request->slice_count;
        return length;
    }
    size_t count;
    while ((count = slice_sub(request->slices, request->slice_count, from - request->offset, length, io->slices, IO_SLICES)) ==
           0) {
        uint64_t half = round_down(length / 2, BLOCK_BYTES);
        length = half != 0 ? half : round_down(length / 2, 512);
        if (length == 0)
            return 0;
    }
    io->request.slices = io->slices;
    io->request.slice_count = (uint32_t)count;
    return length;
}

static bool send_read(struct volume_op *op, const struct resolved *resolved, uint64_t from, uint64_t base, uint64_t length) {
    struct volume_store *store = op->volume->store;
    while (length > 0) {
        struct store_io *io = io_take(store, read_done, op);
        uint64_t n = io == NULL ? 0 : op_slices(op, io, from, length);
        if (n == 0) {
            if (io != NULL)
                io_give(io);
            if (op->status == IO_OK)
                op->status = io == NULL ? IO_NO_MEMORY : IO_INVALID;
            return false;
        }
        io->request.op = BLOCK_READ;
        io->request.offset = base;
        io->request.length = n;
        io_aim(io, resolved, base >> BLOCK_SHIFT);
        epoch_enter(io);
        op->pending++;
        io_submit(io);
        from += n;
        base += n;
        length -= n;
    }
    return true;
}

static void read_run(struct volume_op *op) {
    struct volume_store *store = op->volume->store;
    struct layer *layer = unlikely(op->reads != NULL) ? op->reads : op->volume->layer;
    uint64_t run_from = op->cursor, run_base = 0, run_length = 0; /* what lies together on disk so far */
    enum io_status status = IO_OK;
    enum got got = GOT;
    struct resolved resolved = {.external = NULL};
    struct external *outside = NULL; /* all blocks are of one chain, so of one device at most */
    if (unlikely(layer == NULL)) {
        op_fail(op, IO_DEVICE_GONE);
        return;
    }
    while (op->cursor < op->end && got == GOT) {
        uint32_t cluster = (uint32_t)(op->cursor >> CLUSTER_SHIFT);
        uint64_t until = min_u64(op->end, (uint64_t)(cluster + 1) << CLUSTER_SHIFT);
        unsigned first = (unsigned)(op->cursor >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        unsigned last = (unsigned)((until - 1) >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        got = chain_resolve(store, layer, cluster, block_mask(first, last - first + 1), false, false, &op->waiter, &resolved,
                            &status);
        outside = resolved.external = resolved.external != NULL ? resolved.external : outside;
        for (unsigned b = first; b <= last && got == GOT; b++) {
            uint64_t n = min_u64(until, round_down(op->cursor, BLOCK_BYTES) + BLOCK_BYTES) - op->cursor;
            uint64_t base = resolved.block[b] == 0 ? 0 : resolved.block[b] * BLOCK_BYTES + op->cursor % BLOCK_BYTES;
            if (base == 0 || (run_length > 0 && base != run_base + run_length)) {
                if (run_length > 0 && !send_read(op, &resolved, run_from, run_base, run_length))
                    got = FAILED;
                run_length = 0;
            }
            if (base == 0) {
                slice_fill(op->request->slices, op->request->slice_count, op->cursor - op->request->offset, 0, n);
            } else {
                if (run_length == 0) {
                    run_from = op->cursor;
                    run_base = base;
                }
                run_length += n;
            }
            op->cursor += n;
        }
    }
    if (got == WAIT)
        op->waiting = true;
    if (run_length > 0 && !send_read(op, &resolved, run_from, run_base, run_length))
        got = FAILED;
    if (got == FAILED && op->status == IO_OK)
        op->status = status;
    if (got == FAILED && !op->waiting)
        op_fail(op, op->status);
    else if (!op->waiting && op->pending == 0 && op->cursor == op->end)
        op_end(op, IO_OK);
}

void op_read_inside(struct volume_op *op, struct volume *volume, struct layer *layer, struct block_request *request,
                    void (*done)(struct volume_op *op, enum io_status status)) {
    memset(op, 0, offsetof(struct volume_op, walk));
    op->request = request;
    op->volume = volume;
    op->inside = done;
    op->waiter.wake = op_wake;
    op->cursor = request->offset;
    op->end = request->offset + request->length;
    op->generation = (uint8_t)volume->generation;
    volume->under_way[op->generation]++;
    op->reads = layer;
    if (layer != NULL)
        layer->busy++;
    read_start(op);
}

void read_start(struct volume_op *op) {
    op->resume = read_run;
    read_run(op);
}
