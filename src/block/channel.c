/* Submission and completion: checks, carrying to the home reactor and back, statistics. Bouncing and emulation are in stage.c. */
#include <stdlib.h>

#include "block/channel.h"

static const uint8_t stats_column[BLOCK_OP_COUNT] = {
    [BLOCK_READ] = BLOCK_STATS_READ,           [BLOCK_WRITE] = BLOCK_STATS_WRITE,         [BLOCK_FLUSH] = BLOCK_STATS_FLUSH,
    [BLOCK_TRIM] = BLOCK_STATS_TRIM,           [BLOCK_WRITE_ZEROES] = BLOCK_STATS_ZEROES, [BLOCK_COMPARE] = BLOCK_STATS_READ,
    [BLOCK_REPLICA_PUT] = BLOCK_STATS_REPLICA, [BLOCK_REPLICA_GET] = BLOCK_STATS_REPLICA,
};

struct block_channel *block_channel_open(struct block_handle *handle) {
    struct block_device *device = handle->device;
    struct reactor *reactor = reactor_current();
    assert(reactor != NULL && reactor->index < device->graph->reactor_count);
    struct block_channel *channel = calloc(1, sizeof(*channel) + device->ops->channel_private_size);
    if (channel == NULL)
        return NULL;
    channel->handle = handle;
    channel->device = device;
    channel->reactor = reactor;
    channel->stats = &device->stats[reactor->index];
    channel->remote = device->home != NULL && device->home != reactor;
    pool_init(&channel->stages, sizeof(struct block_stage), BLOCK_STAGES_MAX);
    if (device->ops->channel_open != NULL && !device->ops->channel_open(channel)) {
        free(channel);
        return NULL;
    }
    atomic_fetch_add(&handle->channels, 1);
    return channel;
}

void block_channel_close(struct block_channel *channel) {
    assert(channel->outstanding == 0 && channel->reactor == reactor_current());
    if (channel->device->ops->channel_close != NULL)
        channel->device->ops->channel_close(channel);
    pool_fini(&channel->stages);
    atomic_fetch_sub(&channel->handle->channels, 1);
    free(channel);
}

unsigned block_channel_outstanding(const struct block_channel *channel) { return channel->outstanding; }
struct block_device *block_channel_device(const struct block_channel *channel) {
    return channel->device;
}
void *block_channel_private(struct block_channel *channel) { return channel + 1; }
struct reactor *block_channel_reactor(const struct block_channel *channel) {
    return channel->reactor;
}

uint64_t block_request_association(const struct block_request *request) {
    return request->association != 0 ? request->association : request->channel->handle->association;
}

static enum io_status check(const struct block_channel *channel, const struct block_request *request) {
    const struct block_device *device = channel->device;
    if (request->op >= BLOCK_OP_COUNT)
        return IO_UNSUPPORTED;
    bool writes = (BLOCK_BIT(request->op) & BLOCK_WRITING_OPS) != 0;
    if (writes && (channel->handle->mode == BLOCK_MODE_READ || atomic_load_explicit(&device->read_only, memory_order_relaxed)))
        return IO_READ_ONLY;
    if (unlikely(request->op >= BLOCK_REPLICA_PUT)) { /* what they carry is the kind's to judge */
        if ((BLOCK_BIT(request->op) & device->native_ops) == 0)
            return IO_UNSUPPORTED;
        return request->length > BLOCK_REPLICA_BYTES_MAX ? IO_INVALID : IO_OK;
    }
    if (((request->offset | request->length) & (device->block_size - 1)) != 0)
        return IO_INVALID;
    uint64_t size = atomic_load_explicit(&device->block_count, memory_order_relaxed) * device->block_size;
    if (!range_inside(request->offset, request->length, size))
        return IO_OUT_OF_RANGE;
    if ((BLOCK_BIT(request->op) & (device->native_ops | BLOCK_EMULATED_OPS)) == 0)
        return IO_UNSUPPORTED;
    return IO_OK;
}

static void on_home(struct reactor_message *message) {
    struct block_request *request = container_of(message, struct block_request, message);
    request->channel->device->ops->submit(request->channel, request);
}

void block_to_device(struct block_request *request) {
    struct block_channel *channel = request->channel;
    if (unlikely(channel->remote)) {
        block_stats_add(&channel->stats->forwarded, 1);
        request->message.run = on_home;
        reactor_post(channel->device->home, &request->message);
        return;
    }
    channel->device->ops->submit(channel, request);
}

void block_submit(struct block_channel *channel, struct block_request *request) {
    assert(channel->reactor == reactor_current());
    request->channel = channel;
    request->device_done = NULL;
    request->start_ticks = host_ticks(channel->reactor->host);
    channel->outstanding++;
    enum io_status status = check(channel, request);
    if (unlikely(status != IO_OK))
        block_complete_later(request, status);
    else if (unlikely(block_needs_stage(channel->device, request)))
        block_stage_start(request);
    else
        block_to_device(request);
}

bool block_abort(struct block_channel *channel, struct block_request *request) {
    assert(channel->reactor == reactor_current());
    if (channel->remote || request->device_done != NULL || channel->device->ops->abort == NULL)
        return false;
    return channel->device->ops->abort(channel, request);
}

void block_channel_recall(struct block_channel *channel) {
    assert(channel->reactor == reactor_current());
    if (channel->device->ops->recall != NULL)
        channel->device->ops->recall(channel);
}

static void finish(struct block_request *request) {
    struct block_channel *channel = request->channel;
    struct block_stats *stats = channel->stats;
    if (likely(request->status == IO_OK)) {
        struct block_stats_op *op = &stats->ops[stats_column[request->op]];
        uint64_t ticks = host_ticks(channel->reactor->host) - request->start_ticks;
        block_stats_add(&op->count, 1);
        block_stats_add(&op->bytes, request->length);
        block_stats_add(&op->ticks, ticks);
        if (ticks > atomic_load_explicit(&op->ticks_max, memory_order_relaxed))
            atomic_store_explicit(&op->ticks_max, ticks, memory_order_relaxed);
        if (ticks < atomic_load_explicit(&op->ticks_min, memory_order_relaxed))
            atomic_store_explicit(&op->ticks_min, ticks, memory_order_relaxed);
    } else {
        block_stats_add(&stats->errors[request->status], 1);
    }
    channel->outstanding--;
    request->complete(request);
}

static void back_from_home(struct reactor_message *message) {
    struct block_request *request = container_of(message, struct block_request, message);
    if (request->device_done != NULL)
        request->device_done(request);
    else
        finish(request);
}

void block_complete(struct block_request *request, enum io_status status) {
    struct block_channel *channel = request->channel;
    request->status = (uint8_t)status;
    if (unlikely(channel->remote && reactor_current() != channel->reactor)) {
        request->message.run = back_from_home;
        reactor_post(channel->reactor, &request->message);
        return;
    }
    if (unlikely(request->device_done != NULL))
        request->device_done(request);
    else
        finish(request);
}

static void complete_job(struct reactor_job *job) {
    struct block_request *request = container_of(job, struct block_request, job);
    block_complete(request, (enum io_status)request->status);
}

void block_complete_later(struct block_request *request, enum io_status status) {
    request->status = (uint8_t)status;
    request->job.run = complete_job;
    reactor_defer(reactor_current(), &request->job);
}
