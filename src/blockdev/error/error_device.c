#include "blockdev/error/error_device.h"

#include <stdio.h>
#include <stdlib.h>

#include "block/filter.h"

#define PENDING_LOOK_NS NS_PER_MS /* how often a channel with pending requests looks whether they may go on */

/* Written on the control reactor, read and counted down by all: `left` is cleared first and set last. */
struct rule {
    _Atomic uint64_t left; /* hits to come; 0 = no rule */
    _Atomic uint64_t seen; /* matching requests so far */
    _Atomic uint64_t skip, seed, queue_depth, corrupt_offset;
    _Atomic uint32_t one_in;
    _Atomic uint8_t effect, status, corrupt_value;
};

struct error_device {
    struct block_filter filter;
    struct rule rules[ERROR_DEVICE_OPS];
    _Atomic uint64_t hits;
    _Atomic uint64_t releases; /* counts the times that pending requests were let go */
    _Atomic bool gone;         /* pending requests are not done any more */
};

struct error_channel {
    struct block_filter_channel filter;
    struct list pending; /* of struct error_io */
    uint64_t releases;   /* as of the time the first of them was held */
    bool recalled;       /* pending ones end */
    struct reactor_timer look;
};

struct error_io {
    struct block_filter_io filter;
    struct list_node node;
    uint64_t corrupt_offset; /* UINT64_MAX = nothing to corrupt */
    uint8_t corrupt_value;
    struct buffer_waiter waiter; /* for the block that spoils a write */
    void *buffer;
    struct slice slice;
    struct block_request spoil;
};

static struct error_device *of(const struct block_device *device) {
    return container_of(container_of(device, struct block_filter, device), struct error_device, filter);
}
static struct error_device *of_io(const struct error_io *io) { return of(block_channel_device(io->filter.request->channel)); }

static const uint8_t op_of[BLOCK_OP_COUNT] = {
    [BLOCK_READ] = ERROR_DEVICE_READ,         [BLOCK_WRITE] = ERROR_DEVICE_WRITE,        [BLOCK_FLUSH] = ERROR_DEVICE_FLUSH,
    [BLOCK_TRIM] = ERROR_DEVICE_TRIM,         [BLOCK_WRITE_ZEROES] = ERROR_DEVICE_WRITE, [BLOCK_COMPARE] = ERROR_DEVICE_READ,
    [BLOCK_REPLICA_PUT] = ERROR_DEVICE_WRITE, [BLOCK_REPLICA_GET] = ERROR_DEVICE_READ,
};

/* True if this request is hit; takes one of what is left. */
static bool hits(struct error_device *error, struct rule *rule, unsigned outstanding) {
    uint64_t left = atomic_load(&rule->left);
    if (likely(left == 0) || outstanding < atomic_load(&rule->queue_depth))
        return false;
    uint64_t place = atomic_fetch_add(&rule->seen, 1);
    if (place < atomic_load(&rule->skip))
        return false;
    uint32_t one_in = atomic_load(&rule->one_in);
    if (one_in > 1 && hash_u64(atomic_load(&rule->seed) + place * UINT64_C(0x9e3779b97f4a7c15)) % one_in != 0)
        return false;
    while (left != UINT64_MAX && !atomic_compare_exchange_weak(&rule->left, &left, left - 1))
        if (left == 0)
            return false;
    atomic_fetch_add(&error->hits, 1);
    return true;
}

/* ---- corruption ---- */

static void end(struct error_io *io, enum io_status status) {
    struct reactor *reactor = block_channel_reactor(io->filter.request->channel);
    if (io->buffer != NULL)
        buffer_give(&reactor->buffers, io->buffer, io->slice.length);
    block_filter_end(&io->filter, status);
}

static void spoiled(struct block_request *spoil) {
    end(container_of(spoil, struct error_io, spoil), (enum io_status)spoil->status);
}

/* The payload of a write is only lent: the write is done as it is, then the block with the byte is written again, changed. */
static void spoil_write(struct buffer_waiter *waiter, void *take_buffer) {
    struct error_io *io = container_of(waiter, struct error_io, waiter);
    const struct block_request *request = io->filter.request;
    struct block_filter_channel *own = block_channel_private(request->channel);
    uint64_t block = round_down(io->corrupt_offset, waiter->size);
    io->buffer = take_buffer;
    if (request->op == BLOCK_WRITE)
        slice_copy_out(request->slices, request->slice_count, block, take_buffer, waiter->size);
    else
        memset(take_buffer, 0, waiter->size);
    ((uint8_t *)take_buffer)[io->corrupt_offset - block] ^= io->corrupt_value;
    io->slice = (struct slice){take_buffer, waiter->size};
    io->spoil = (struct block_request){.op = BLOCK_WRITE,
                                       .flags = request->flags & (BLOCK_FUA | BLOCK_FAIL_FAST),
                                       .slice_count = 1,
                                       .slices = &io->slice,
                                       .offset = request->offset + block,
                                       .length = waiter->size,
                                       .association = block_request_association(request),
                                       .complete = spoiled};
    block_submit(own->base, &io->spoil);
}

static void done(struct block_request *child) {
    struct error_io *io = container_of(child, struct error_io, filter.child);
    if (likely(io->corrupt_offset >= child->length) || child->status != IO_OK) {
        end(io, (enum io_status)child->status);
        return;
    }
    if (child->op == BLOCK_READ) {
        uint8_t byte;
        slice_copy_out(child->slices, child->slice_count, io->corrupt_offset, &byte, 1);
        byte ^= io->corrupt_value;
        slice_copy_in(child->slices, child->slice_count, io->corrupt_offset, &byte, 1);
        end(io, IO_OK);
        return;
    }
    struct block_channel *channel = io->filter.request->channel;
    struct buffer_pool *buffers = &block_channel_reactor(channel)->buffers;
    io->waiter = (struct buffer_waiter){.size = block_channel_device(channel)->block_size, .ready = spoil_write};
    void *buffer = buffer_take(buffers, io->waiter.size);
    if (buffer == NULL)
        buffer_wait(buffers, &io->waiter);
    else
        spoil_write(&io->waiter, buffer);
}

/* ---- holding back ---- */

static void look(struct reactor_timer *timer) {
    struct error_channel *own = container_of(timer, struct error_channel, look);
    struct error_io *first = list_entry(list_first(&own->pending), struct error_io, node);
    struct error_device *error = of_io(first);
    struct reactor *reactor = block_channel_reactor(first->filter.request->channel);
    bool gone = atomic_load(&error->gone);
    bool recalled = own->recalled;
    own->recalled = false;
    if (!gone && !recalled && atomic_load(&error->releases) == own->releases) {
        reactor_timer_start(reactor, timer, reactor_now_ns(reactor) + PENDING_LOOK_NS);
        return;
    }
    struct list going; /* what is submitted from inside a completion may be held again */
    list_init(&going);
    list_splice_back(&going, &own->pending);
    for (struct list_node *node; (node = list_pop_front(&going)) != NULL;) {
        struct error_io *io = list_entry(node, struct error_io, node);
        if (gone || recalled)
            end(io, gone ? IO_DEVICE_GONE : IO_PATH_LOST);
        else
            block_filter_send(&io->filter, done);
    }
}

static void hold(struct error_io *io) {
    struct block_channel *channel = io->filter.request->channel;
    struct error_channel *own = block_channel_private(channel);
    struct reactor *reactor = block_channel_reactor(channel);
    if (list_empty(&own->pending)) {
        own->releases = atomic_load(&of_io(io)->releases);
        reactor_timer_start(reactor, &own->look, reactor_now_ns(reactor) + PENDING_LOOK_NS);
    }
    list_push_back(&own->pending, &io->node);
}

/* ---- requests ---- */

static void begin(struct block_filter_io *filter_io) {
    struct error_io *io = container_of(filter_io, struct error_io, filter);
    const struct block_request *request = filter_io->request;
    struct error_device *error = of_io(io);
    enum error_device_op op = (enum error_device_op)op_of[request->op];
    struct rule *rule = &error->rules[op];
    io->corrupt_offset = UINT64_MAX;
    io->buffer = NULL;
    if (likely(!hits(error, rule, block_channel_outstanding(request->channel)))) {
        block_filter_send(filter_io, done);
        return;
    }
    switch ((enum error_device_effect)atomic_load(&rule->effect)) {
    case ERROR_DEVICE_FAIL: block_filter_end_later(filter_io, op == ERROR_DEVICE_READ ? IO_MEDIUM_READ : IO_MEDIUM_WRITE); return;
    case ERROR_DEVICE_PENDING: hold(io); return;
    case ERROR_DEVICE_CORRUPT:
        if (request->op == BLOCK_READ || request->op == BLOCK_WRITE || request->op == BLOCK_WRITE_ZEROES) {
            io->corrupt_offset = atomic_load(&rule->corrupt_offset);
            io->corrupt_value = atomic_load(&rule->corrupt_value);
        }
        block_filter_send(filter_io, done);
        return;
    case ERROR_DEVICE_NO_MEMORY: block_filter_end_later(filter_io, IO_NO_MEMORY); return;
    case ERROR_DEVICE_STATUS: block_filter_end_later(filter_io, (enum io_status)atomic_load(&rule->status)); return;
    case ERROR_DEVICE_DROP: block_filter_end_later(filter_io, IO_OK); return;
    }
    assert(false);
}

static void submit(struct block_channel *channel, struct block_request *request) {
    (void)channel;
    block_filter_begin(request, begin);
}

static void recall(struct block_channel *channel) {
    struct error_channel *own = block_channel_private(channel);
    struct reactor *reactor = block_channel_reactor(channel);
    if (!list_empty(&own->pending)) {
        own->recalled = true;
        reactor_timer_start(reactor, &own->look, reactor_now_ns(reactor));
    }
    block_filter_recall(channel);
}

static bool channel_open(struct block_channel *channel) {
    struct error_channel *own = block_channel_private(channel);
    list_init(&own->pending);
    own->look.run = look;
    return block_filter_channel_open(channel, sizeof(struct error_io));
}

static void channel_close(struct block_channel *channel) {
    struct error_channel *own = block_channel_private(channel);
    assert(list_empty(&own->pending));
    reactor_timer_stop(block_channel_reactor(channel), &own->look);
    block_filter_channel_close(channel);
}

/* ---- life ---- */

static void destroy(struct block_device *device) {
    struct error_device *error = of(device);
    block_filter_close(&error->filter);
    free(error);
}

static const struct block_device_ops ops = {
    .kind = "error",
    .product_name = "Error Injection Disk",
    .submit = submit,
    .recall = recall,
    .channel_private_size = sizeof(struct error_channel),
    .channel_open = channel_open,
    .channel_close = channel_close,
    .destroy = destroy,
};

bool error_device_is(const struct block_device *device) { return device->ops == &ops; }

static void removing(struct block_filter *filter) {
    atomic_store(&container_of(filter, struct error_device, filter)->gone, true);
}

bool error_device_create(struct block_graph *graph, const char *base_name, const struct uuid *uuid,
                         struct block_device **ret_device, struct error *error) {
    if (strlen(base_name) >= BLOCK_NAME_SIZE - strlen(ERROR_DEVICE_PREFIX))
        return error_invalid(error, "base_name", base_name, "a shorter name: %s is put before it", ERROR_DEVICE_PREFIX);
    struct error_device *own = calloc(1, sizeof(*own));
    if (own == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s%s", ERROR_DEVICE_PREFIX, base_name);
    struct block_device *device = &own->filter.device;
    device->ops = &ops;
    device->uuid = *uuid;
    snprintf(device->name, sizeof(device->name), "%s%s", ERROR_DEVICE_PREFIX, base_name);
    own->filter.removing = removing;
    if (!block_filter_create(&own->filter, graph, base_name, error)) {
        free(own);
        return false;
    }
    *ret_device = device;
    return true;
}

bool error_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error) {
    assert(error_device_is(device));
    return block_filter_remove(&of(device)->filter, removed, arg, error);
}

static bool rule_check(const struct error_device_rule *rule, struct error *error) {
    if (rule->ops == 0 || (rule->ops & ~ERROR_DEVICE_OP_ALL) != 0)
        return error_invalid(error, "io_type", "unknown", "clear, read, write, unmap, flush or all");
    if (rule->effect > ERROR_DEVICE_DROP)
        return error_invalid(error, "error_type", "unknown", "failure, pending, corrupt_data, nomem, nvme_failure or drop");
    if (rule->effect == ERROR_DEVICE_STATUS && (rule->status == IO_OK || rule->status >= IO_STATUS_COUNT))
        return error_invalid(error, "nvme_sc", "success", "a status that is an error");
    return true;
}

bool error_device_inject(struct block_device *device, const struct error_device_rule *rule, struct error *error) {
    assert(error_device_is(device));
    if (!rule_check(rule, error))
        return false;
    for (unsigned op = 0; op < ERROR_DEVICE_OPS; op++) {
        if ((rule->ops & ERROR_DEVICE_OP(op)) == 0)
            continue;
        struct rule *to = &of(device)->rules[op];
        atomic_store(&to->left, 0);
        atomic_store(&to->seen, 0);
        atomic_store(&to->skip, rule->skip);
        atomic_store(&to->seed, rule->seed);
        atomic_store(&to->one_in, rule->one_in);
        atomic_store(&to->queue_depth, rule->queue_depth);
        atomic_store(&to->corrupt_offset, rule->corrupt_offset);
        atomic_store(&to->corrupt_value, rule->corrupt_value == 0 ? 0xff : rule->corrupt_value);
        atomic_store(&to->effect, (uint8_t)rule->effect);
        atomic_store(&to->status, (uint8_t)rule->status);
        atomic_store(&to->left, rule->count == 0 ? UINT64_MAX : rule->count);
    }
    return true;
}

void error_device_clear(struct block_device *device) {
    assert(error_device_is(device));
    for (unsigned op = 0; op < ERROR_DEVICE_OPS; op++)
        atomic_store(&of(device)->rules[op].left, 0);
    atomic_fetch_add(&of(device)->releases, 1);
}

uint64_t error_device_hits(const struct block_device *device) {
    assert(error_device_is(device));
    return atomic_load(&of(device)->hits);
}

struct block_device *error_device_base(const struct block_device *device) {
    assert(error_device_is(device));
    return of(device)->filter.base.device;
}
