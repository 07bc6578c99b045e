/* What stands between a request and a device that cannot take it as it is: payloads that are not aligned are bounced through a
 * buffer of the reactor, COMPARE is a read, WRITE_ZEROES are writes, FUA is a flush behind the write, FLUSH of a device without a
 * cache is done at once. A stage works through its request in pieces of at most one buffer, with one child request under way. */
#include "block/channel.h"

static void next(struct block_stage *stage);

static bool has_payload(const struct block_request *request) {
    return request->op == BLOCK_READ || request->op == BLOCK_WRITE || request->op == BLOCK_COMPARE;
}

static void end(struct block_stage *stage, enum io_status status) {
    struct block_request *request = stage->request;
    struct block_channel *channel = request->channel;
    if (stage->buffer != NULL)
        buffer_give(&channel->reactor->buffers, stage->buffer, stage->buffer_size);
    pool_give(&channel->stages, stage);
    block_complete(request, status);
}

static void child_done(struct block_request *child) {
    struct block_stage *stage = container_of(child, struct block_stage, child);
    struct block_request *request = stage->request;
    if (child->status != IO_OK || stage->flushing) {
        end(stage, (enum io_status)child->status);
        return;
    }
    if (stage->buffer != NULL && request->op == BLOCK_READ)
        slice_copy_in(request->slices, request->slice_count, stage->done, stage->buffer, child->length);
    if (request->op == BLOCK_COMPARE) {
        assert(stage->buffer != NULL);
        for (size_t at = 0; at < child->length;) { /* piecewise, since the slices may be scattered at will */
            struct slice piece;
            size_t n = child->length - at;
            while (slice_sub(request->slices, request->slice_count, stage->done + at, n, &piece, 1) == 0)
                n = n / 2;
            if (memcmp((char *)stage->buffer + at, piece.base, n) != 0) {
                end(stage, IO_COMPARE_FAILED);
                return;
            }
            at += n;
        }
    }
    stage->done += child->length;
    next(stage);
}

/* Sends one child: [done, done + length) of the request as `op`. */
static void send(struct block_stage *stage, enum block_op op, uint64_t length, uint8_t flags) {
    struct block_request *request = stage->request, *child = &stage->child;
    *child = (struct block_request){.op = (uint8_t)op,
                                    .flags = flags,
                                    .offset = request->offset + stage->done,
                                    .length = length,
                                    .association = request->association,
                                    .channel = request->channel,
                                    .start_ticks = request->start_ticks,
                                    .device_done = child_done};
    if (op == BLOCK_FLUSH) {
        child->offset = child->length = 0;
    } else if (stage->buffer != NULL) {
        stage->slice = (struct slice){stage->buffer, length};
        child->slices = &stage->slice;
        child->slice_count = 1;
    } else {
        child->slices = request->slices;
        child->slice_count = request->slice_count;
    }
    block_to_device(child);
}

static void next(struct block_stage *stage) {
    struct block_request *request = stage->request;
    const struct block_device *device = request->channel->device;
    uint8_t flags = request->flags;
    bool flush_behind = (flags & BLOCK_FUA) != 0 && !device->native_fua;
    if (flush_behind)
        flags &= (uint8_t)~BLOCK_FUA;
    if (stage->done == request->length) {
        if (flush_behind && device->volatile_cache && (device->native_ops & BLOCK_BIT(BLOCK_FLUSH)) != 0) {
            stage->flushing = true;
            send(stage, BLOCK_FLUSH, 0, flags & BLOCK_FAIL_FAST);
            return;
        }
        end(stage, IO_OK);
        return;
    }
    uint64_t length = request->length - stage->done;
    if (stage->buffer != NULL)
        length = min_u64(length, stage->buffer_size);
    enum block_op op = (enum block_op)request->op;
    if (op == BLOCK_COMPARE)
        op = BLOCK_READ;
    else if (op == BLOCK_WRITE_ZEROES && (device->native_ops & BLOCK_BIT(BLOCK_WRITE_ZEROES)) == 0)
        op = BLOCK_WRITE;
    if (stage->buffer != NULL && request->op == BLOCK_WRITE)
        slice_copy_out(request->slices, request->slice_count, stage->done, stage->buffer, length);
    send(stage, op, length, flags);
}

static void buffer_ready(struct buffer_waiter *waiter, void *take_buffer) {
    struct block_stage *stage = container_of(waiter, struct block_stage, buffer_waiter);
    stage->buffer = take_buffer;
    if (stage->request->op == BLOCK_WRITE_ZEROES)
        memset(take_buffer, 0, stage->buffer_size);
    next(stage);
}

static void begin(struct block_stage *stage, struct block_request *request) {
    const struct block_device *device = request->channel->device;
    *stage = (struct block_stage){.request = request, .buffer_waiter.ready = buffer_ready};
    bool native = (device->native_ops & BLOCK_BIT(request->op)) != 0;
    bool aligned = !has_payload(request) || device->memory_alignment <= 1 ||
                   slice_aligned(request->slices, request->slice_count, device->memory_alignment);
    block_stats_add(native ? &request->channel->stats->bounced : &request->channel->stats->emulated, native && aligned ? 0 : 1);
    if (native && aligned) { /* only FUA is missing */
        next(stage);
        return;
    }
    stage->buffer_size = min_u64(round_up(request->length, BUFFER_ALIGNMENT), BUFFER_SIZE_MAX);
    struct buffer_pool *buffers = &request->channel->reactor->buffers;
    stage->buffer_waiter.size = stage->buffer_size;
    void *buffer = buffer_take(buffers, stage->buffer_size);
    if (buffer != NULL) {
        buffer_ready(&stage->buffer_waiter, buffer);
    } else if (buffers->in_use > 0) {
        buffer_wait(buffers, &stage->buffer_waiter);
    } else { /* nobody would ever give one back */
        pool_give(&request->channel->stages, stage);
        block_complete_later(request, IO_NO_MEMORY);
    }
}

struct stage_waiter {
    struct pool_waiter waiter;
    struct block_request *request;
};

/* A waiting request carries its pool waiter in its own scratch. */
static_assert(sizeof(struct stage_waiter) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static void stage_ready(struct pool_waiter *waiter, void *take_object) {
    struct stage_waiter *own = container_of(waiter, struct stage_waiter, waiter);
    begin(take_object, own->request);
}

void block_stage_start(struct block_request *request) {
    struct block_channel *channel = request->channel;
    /* no device can be asked to flush what it does not cache */
    if (request->length == 0 || request->op == BLOCK_FLUSH) {
        block_complete_later(request, IO_OK);
        return;
    }
    struct block_stage *stage = pool_take(&channel->stages);
    if (stage != NULL) {
        begin(stage, request);
        return;
    }
    if (channel->stages.lent == 0) { /* nor here */
        block_complete_later(request, IO_NO_MEMORY);
        return;
    }
    struct stage_waiter *own = (struct stage_waiter *)(void *)request->device_private;
    own->waiter.ready = stage_ready;
    own->request = request;
    pool_wait(&channel->stages, &own->waiter);
}
