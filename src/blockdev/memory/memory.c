#include "blockdev/memory/memory.h"

#include <stdio.h>
#include <stdlib.h>

/* A long trim or zeroing goes on in pieces, so that it does not hold its reactor. */
#define ZERO_PIECE MIB(1)

struct memory_device {
    struct block_device device;
    struct host *host;
    char *bytes;
    size_t size;
};

static struct memory_device *of(struct block_request *request) {
    return container_of(block_channel_device(request->channel), struct memory_device, device);
}

/* A device larger than any cache is written past it. */
#define STREAM_DEVICE_BYTES MIB(64)

static void write_bytes(const struct memory_device *memory, const struct block_request *request) {
    char *at = memory->bytes + request->offset;
    if (memory->size < STREAM_DEVICE_BYTES)
        slice_copy_out(request->slices, request->slice_count, 0, at, request->length);
    else
        slice_stream_out(request->slices, request->slice_count, at);
}

/* device_private[0]: bytes already zeroed. */
static void zero_piece(struct reactor_job *job) {
    struct block_request *request = container_of(job, struct block_request, job);
    uint64_t done = request->device_private[0], length = min_u64(request->length - done, ZERO_PIECE);
    memset(of(request)->bytes + request->offset + done, 0, length);
    request->device_private[0] = done += length;
    if (done == request->length)
        block_complete(request, IO_OK);
    else
        reactor_defer(reactor_current(), &request->job);
}

static void submit(struct block_channel *channel, struct block_request *request) {
    (void)channel;
    char *at = of(request)->bytes + request->offset;
    switch ((enum block_op)request->op) {
    case BLOCK_READ: slice_copy_in(request->slices, request->slice_count, 0, at, request->length); break;
    case BLOCK_WRITE: write_bytes(of(request), request); break;
    case BLOCK_TRIM:
    case BLOCK_WRITE_ZEROES:
        request->device_private[0] = 0;
        request->job.run = zero_piece;
        reactor_defer(reactor_current(), &request->job);
        return;
    default: break;
    }
    block_complete_later(request, IO_OK);
}

static void destroy(struct block_device *device) {
    struct memory_device *memory = container_of(device, struct memory_device, device);
    host_memory_unmap(memory->host, memory->bytes, memory->size);
    free(memory);
}

static const struct block_device_ops ops = {
    .kind = "memory", .product_name = "Malloc disk", .submit = submit, .destroy = destroy};

bool memory_device_is(const struct block_device *device) { return device->ops == &ops; }

bool memory_device_create(struct block_graph *graph, const struct memory_device_options *options,
                          struct block_device **ret_device, struct error *error) {
    if (options->block_count == 0)
        return error_invalid(error, "num_blocks", "0", "at least one block");
    size_t size;
    if (__builtin_mul_overflow(options->block_count, (size_t)options->block_size, &size) || size > SIZE_MAX >> 2)
        return error_set(error, ERROR_NO_MEMORY, "%s is larger than the memory there can be", options->name);
    struct memory_device *memory = calloc(1, sizeof(*memory));
    size = max_u64(size, 1); /* a block size of 0 is refused below, by name */
    if (memory == NULL || (memory->bytes = host_memory_map(graph->host, size)) == NULL) {
        free(memory);
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    }
    memory->host = graph->host;
    memory->size = size;
    struct block_device *device = &memory->device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->uuid = options->uuid;
    device->block_size = options->block_size;
    device->physical_block_size = options->physical_block_size;
    device->optimal_io_bytes = options->optimal_io_blocks * options->block_size;
    device->block_count = options->block_count;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES);
    device->native_fua = true;
    device->prompt = true;
    device->trim_reads_zero = true;
    if (!block_device_register(graph, device, error)) {
        destroy(device);
        return false;
    }
    *ret_device = device;
    return true;
}
