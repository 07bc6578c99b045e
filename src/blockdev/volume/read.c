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

void op_end(struct volume_op *op, enum io_status status) {
    struct block_request *request = op->request;
    struct volume_store *store = op->volume->store;
    bool *ended = op->ended;
    lock_release(&op->lock);
    hold_release(store, &op->hold);
    if (op->buffer != NULL)
        buffer_give(&store->home->buffers, op->buffer, BLOCK_BYTES);
    if (unlikely(op->reads != NULL))
        status = reads_end(op, status);
    struct volume *volume = op->volume;
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

static void begin(struct volume_op *op, struct block_request *request) {
    struct volume *volume = container_of(block_channel_device(request->channel), struct volume, device);
    struct volume_store *store = volume->store;
    bool ended = false;
    memset(op, 0, offsetof(struct volume_op, walk));
    op->request = request;
    op->volume = volume;
    op->waiter.wake = op_wake;
    op->cursor = request->offset;
    op->end = request->offset + request->length;
    op->ended = &ended;
    op->generation = (uint8_t)volume->generation;
    if (likely(request->op != BLOCK_REPLICA_PUT)) /* a claim does not wait for itself */
        volume->under_way[op->generation]++;
    enum io_status admitted = IO_OK;
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
    } else if (request->op == BLOCK_READ) {
        read_start(op);
    } else if (unlikely(store->failed)) {
        op_end(op, IO_MEDIUM_WRITE);
    } else if (request->op == BLOCK_FLUSH) {
        if (store->read_only && store->commit.batch_words == 0 && !store->unflushed && store->commit.state == COMMIT_IDLE)
            op_end(op, IO_OK); /* there never was anything to flush */
        else
            op_commit(op);
    } else if (unlikely(store->read_only || volume->read_only)) {
        op_end(op, IO_READ_ONLY);
    } else if (unlikely(volume->replica != NULL)) {
        replica_mark(op, request->op == BLOCK_WRITE ? write_start : trim_start);
    } else if (request->op == BLOCK_WRITE) {
        write_start(op);
    } else {
        trim_start(op);
    }
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

static struct owner_hint *hint_at(struct volume_store *store, const struct layer *layer, uint32_t cluster) {
    return &store->hints[hash_u64((uint64_t)layer->id << 32 | cluster) & (store->hint_count - 1)];
}

/* What the parents say of blocks `asked`, remembered. All from one owner, or it is not remembered. */
static void hint_store(struct volume_store *store, const struct layer *layer, uint32_t cluster, uint16_t asked,
                       const struct resolved *resolved) {
    uint32_t owner = 0;
    uint16_t present = 0;
    for (unsigned b = 0; b < CLUSTER_BLOCKS; b++) {
        if ((asked >> b & 1) == 0 || resolved->block[b] == 0)
            continue;
        uint32_t at = (uint32_t)(resolved->block[b] / CLUSTER_BLOCKS);
        if (owner != 0 && at != owner)
            return;
        owner = at;
        present |= (uint16_t)(1 << b);
    }
    if (store->hints == NULL && (store->hints = calloc(store->hint_count, sizeof(*store->hints))) == NULL)
        return;
    struct owner_hint *hint = hint_at(store, layer, cluster);
    bool same = hint->layer == layer->id && hint->cluster == cluster && hint->generation == (uint32_t)store->move_generation &&
                (hint->owner_cluster == owner || hint->present == 0 || present == 0);
    uint16_t zero = asked & (uint16_t)~present;
    *hint = (struct owner_hint){.layer = layer->id,
                                .cluster = cluster,
                                .owner_cluster = present != 0 ? owner
                                                 : same       ? hint->owner_cluster
                                                              : 0,
                                .generation = (uint32_t)store->move_generation,
                                .present = present | (same ? hint->present : 0),
                                .zero = zero | (same ? hint->zero : 0)};
}

enum got chain_resolve(struct volume_store *store, struct layer *layer, uint32_t cluster, uint16_t mask, bool skip_own,
                       bool one_level, struct waiter *waiter, struct resolved *ret, enum io_status *ret_status) {
    struct layer *head = layer;
    uint16_t rest = mask, asked = 0;
    memset(ret, 0, sizeof(*ret));
    for (unsigned depth = 0; layer != NULL && rest != 0; depth++) {
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
        if (depth == 0 && rest != 0 && !skip_own) {
            asked = rest;
            if (store->hints != NULL) {
                const struct owner_hint *hint = hint_at(store, layer, cluster);
                if (hint->layer == layer->id && hint->cluster == cluster &&
                    hint->generation == (uint32_t)store->move_generation && (rest & ~(hint->present | hint->zero)) == 0) {
                    for (uint16_t own = rest & hint->present; own != 0; own &= (uint16_t)(own - 1)) {
                        unsigned b = (unsigned)__builtin_ctz(own);
                        ret->block[b] = (uint64_t)hint->owner_cluster * CLUSTER_BLOCKS + b;
                    }
                    return GOT;
                }
            }
        }
        layer = layer->parent;
    }
    if (asked != 0)
        hint_store(store, head, cluster, asked, ret);
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

static bool send_read(struct volume_op *op, uint64_t from, uint64_t base, uint64_t length) {
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
    if (unlikely(layer == NULL)) {
        op_fail(op, IO_DEVICE_GONE);
        return;
    }
    while (op->cursor < op->end && got == GOT) {
        uint32_t cluster = (uint32_t)(op->cursor >> CLUSTER_SHIFT);
        uint64_t until = min_u64(op->end, (uint64_t)(cluster + 1) << CLUSTER_SHIFT);
        unsigned first = (unsigned)(op->cursor >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        unsigned last = (unsigned)((until - 1) >> BLOCK_SHIFT) % CLUSTER_BLOCKS;
        struct resolved resolved;
        got = chain_resolve(store, layer, cluster, block_mask(first, last - first + 1), false, false, &op->waiter, &resolved,
                            &status);
        for (unsigned b = first; b <= last && got == GOT; b++) {
            uint64_t n = min_u64(until, round_down(op->cursor, BLOCK_BYTES) + BLOCK_BYTES) - op->cursor;
            uint64_t base = resolved.block[b] == 0 ? 0 : resolved.block[b] * BLOCK_BYTES + op->cursor % BLOCK_BYTES;
            if (base == 0 || (run_length > 0 && base != run_base + run_length)) {
                if (run_length > 0 && !send_read(op, run_from, run_base, run_length))
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
    if (run_length > 0 && !send_read(op, run_from, run_base, run_length))
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
