#include "block/filter.h"

static void base_event(struct block_handle *handle, enum block_event event) {
    struct block_filter *filter = container_of(handle, struct block_filter, base);
    if (event == BLOCK_EVENT_REMOVE)
        (void)block_filter_remove(filter, NULL, NULL, NULL); /* fails only if it is under way already */
    else if (!filter->device.removing && event == BLOCK_EVENT_PATH)
        block_device_set_path(&filter->device, block_device_path_is_up(handle->device));
    else if (!filter->device.removing)
        block_device_set_size(&filter->device, atomic_load(&handle->device->block_count));
}

bool block_filter_open(struct block_filter *filter, struct block_graph *graph, const char *base_name, struct error *error) {
    struct block_device *base = block_graph_find(graph, base_name), *device = &filter->device;
    if (base == NULL)
        return error_set(error, ERROR_NO_DEVICE, "no device is called %s", base_name);
    filter->base = (struct block_handle){.owner = device->name, .event = base_event};
    bool read_only = atomic_load(&base->read_only);
    if (!block_handle_open(&filter->base, base, read_only ? BLOCK_MODE_READ : BLOCK_MODE_CLAIM, error))
        return false;
    device->block_size = base->block_size;
    device->physical_block_size = base->physical_block_size;
    device->optimal_io_bytes = base->optimal_io_bytes;
    device->memory_alignment = base->memory_alignment;
    device->native_ops = base->native_ops;
    device->native_fua = base->native_fua;
    device->volatile_cache = base->volatile_cache;
    device->trim_reads_zero = base->trim_reads_zero;
    device->prompt = base->prompt;
    atomic_store(&device->path_down, atomic_load(&base->path_down));
    atomic_store(&device->read_only, read_only);
    atomic_store(&device->block_count, atomic_load(&base->block_count));
    device->place = base->place;
    device->home = NULL;
    return true;
}

bool block_filter_create(struct block_filter *filter, struct block_graph *graph, const char *base_name, struct error *error) {
    if (!block_filter_open(filter, graph, base_name, error))
        return false;
    if (block_device_register(graph, &filter->device, error))
        return true;
    block_handle_close(&filter->base);
    return false;
}

bool block_filter_remove(struct block_filter *filter, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error) {
    if (!filter->device.removing && filter->removing != NULL)
        filter->removing(filter);
    return block_device_remove(&filter->device, removed, arg, error);
}

void block_filter_close(struct block_filter *filter) { block_handle_close(&filter->base); }

bool block_filter_channel_open(struct block_channel *channel, size_t io_size) {
    struct block_filter_channel *own = block_channel_private(channel);
    own->base = block_channel_open(&block_filter_of(channel)->base);
    if (own->base == NULL)
        return false;
    pool_init(&own->ios, io_size, BLOCK_FILTER_IO_MAX);
    return true;
}

void block_filter_channel_close(struct block_channel *channel) {
    struct block_filter_channel *own = block_channel_private(channel);
    pool_fini(&own->ios);
    block_channel_close(own->base);
}

void block_filter_recall(struct block_channel *channel) {
    struct block_filter_channel *own = block_channel_private(channel);
    block_channel_recall(own->base);
}

/* A request that waits for a state keeps this in its scratch. */
struct io_waiter {
    struct pool_waiter waiter;
    void (*begin)(struct block_filter_io *io);
};
static_assert(sizeof(struct io_waiter) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static void ready(struct pool_waiter *waiter, void *take_object) {
    struct io_waiter *own = container_of(waiter, struct io_waiter, waiter);
    struct block_filter_io *io = take_object;
    void *scratch = own;
    io->request = container_of(scratch, struct block_request, device_private);
    own->begin(io);
}

void block_filter_begin(struct block_request *request, void (*begin)(struct block_filter_io *io)) {
    struct block_filter_channel *own = block_channel_private(request->channel);
    struct block_filter_io *io = pool_take(&own->ios);
    if (likely(io != NULL)) {
        io->request = request;
        begin(io);
        return;
    }
    struct io_waiter *waiter = (struct io_waiter *)(void *)request->device_private;
    *waiter = (struct io_waiter){.waiter.ready = ready, .begin = begin};
    pool_wait(&own->ios, &waiter->waiter);
}

void block_filter_send(struct block_filter_io *io, void (*done)(struct block_request *child)) {
    const struct block_request *request = io->request;
    struct block_filter_channel *own = block_channel_private(request->channel);
    io->child = (struct block_request){.op = request->op,
                                       .flags = request->flags,
                                       .slice_count = request->slice_count,
                                       .slices = request->slices,
                                       .offset = request->offset,
                                       .length = request->length,
                                       .argument = request->argument,
                                       .association = block_request_association(request),
                                       .complete = done};
    block_submit(own->base, &io->child);
}

void block_filter_end(struct block_filter_io *io, enum io_status status) {
    struct block_request *request = io->request;
    struct block_filter_channel *own = block_channel_private(request->channel);
    pool_give(&own->ios, io);
    block_complete(request, status);
}

void block_filter_end_later(struct block_filter_io *io, enum io_status status) {
    struct block_request *request = io->request;
    struct block_filter_channel *own = block_channel_private(request->channel);
    pool_give(&own->ios, io);
    block_complete_later(request, status);
}
