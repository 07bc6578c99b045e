#include "blockdev/delay/delay.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "block/filter.h"

struct delay_device {
    struct block_filter filter;
    _Atomic uint64_t latency_us[DELAY_LATENCY_COUNT];
    uint64_t seed;
};

struct delay_channel {
    struct block_filter_channel filter;
    struct random random;
    struct list waiting; /* of struct delay_io */
};

struct delay_io {
    struct block_filter_io filter;
    struct reactor_timer timer;
    struct list_node node;
};

static struct delay_device *of(const struct block_device *device) {
    return container_of(container_of(device, struct block_filter, device), struct delay_device, filter);
}

static void waited(struct reactor_timer *timer) {
    struct delay_io *io = container_of(timer, struct delay_io, timer);
    list_remove(&io->node);
    block_filter_end(&io->filter, (enum io_status)io->filter.child.status);
}

static void done(struct block_request *child) {
    struct delay_io *io = container_of(child, struct delay_io, filter.child);
    struct block_channel *channel = io->filter.request->channel;
    struct delay_channel *own = block_channel_private(channel);
    bool reads = child->op == BLOCK_READ || child->op == BLOCK_COMPARE || child->op == BLOCK_REPLICA_GET,
         slow = random_chance(&own->random, 1, 100);
    enum delay_latency which = reads ? (slow ? DELAY_P99_READ : DELAY_AVG_READ) : (slow ? DELAY_P99_WRITE : DELAY_AVG_WRITE);
    uint64_t us = atomic_load_explicit(&of(block_channel_device(channel))->latency_us[which], memory_order_relaxed);
    if (us == 0) {
        block_filter_end(&io->filter, (enum io_status)child->status);
        return;
    }
    struct reactor *reactor = block_channel_reactor(channel);
    io->timer = (struct reactor_timer){.run = waited};
    list_push_back(&own->waiting, &io->node);
    reactor_timer_start(reactor, &io->timer, reactor_now_ns(reactor) + us * NS_PER_US);
}

static void begin(struct block_filter_io *io) { block_filter_send(io, done); }

static void submit(struct block_channel *channel, struct block_request *request) {
    (void)channel;
    block_filter_begin(request, begin);
}

/* What only waits here has waited enough. */
static void recall(struct block_channel *channel) {
    struct delay_channel *own = block_channel_private(channel);
    struct reactor *reactor = block_channel_reactor(channel);
    list_for_each (&own->waiting, struct delay_io, io, node)
        reactor_timer_start(reactor, &io->timer, reactor_now_ns(reactor));
    block_filter_recall(channel);
}

static bool channel_open(struct block_channel *channel) {
    struct delay_channel *own = block_channel_private(channel);
    struct reactor *reactor = block_channel_reactor(channel);
    uint64_t seed = of(block_channel_device(channel))->seed + reactor->index;
    random_init(&own->random, seed);
    list_init(&own->waiting);
    return block_filter_channel_open(channel, sizeof(struct delay_io));
}

static void destroy(struct block_device *device) {
    struct delay_device *delay = of(device);
    block_filter_close(&delay->filter);
    free(delay);
}

static const struct block_device_ops ops = {
    .kind = "delay",
    .product_name = "delay",
    .submit = submit,
    .recall = recall,
    .channel_private_size = sizeof(struct delay_channel),
    .channel_open = channel_open,
    .channel_close = block_filter_channel_close,
    .destroy = destroy,
};

static const char *const latency_names[DELAY_LATENCY_COUNT] = {
    [DELAY_AVG_READ] = "avg_read_latency",
    [DELAY_P99_READ] = "p99_read_latency",
    [DELAY_AVG_WRITE] = "avg_write_latency",
    [DELAY_P99_WRITE] = "p99_write_latency",
};

static bool latency_check(enum delay_latency which, uint64_t latency_us, struct error *error) {
    char value[24];
    if (latency_us <= DELAY_LATENCY_US_MAX)
        return true;
    snprintf(value, sizeof(value), "%llu", (unsigned long long)latency_us);
    return error_invalid(error, latency_names[which], value, "at most one hour, in microseconds");
}

bool delay_device_is(const struct block_device *device) { return device->ops == &ops; }

bool delay_device_create(struct block_graph *graph, const struct delay_device_options *options, struct block_device **ret_device,
                         struct error *error) {
    for (unsigned i = 0; i < DELAY_LATENCY_COUNT; i++)
        if (!latency_check((enum delay_latency)i, options->latency_us[i], error))
            return false;
    struct delay_device *delay = calloc(1, sizeof(*delay));
    if (delay == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    struct block_device *device = &delay->filter.device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->uuid = options->uuid;
    for (unsigned i = 0; i < DELAY_LATENCY_COUNT; i++)
        atomic_store(&delay->latency_us[i], options->latency_us[i]);
    delay->seed = options->seed;
    if (delay->seed == 0)
        host_random(graph->host, &delay->seed, sizeof(delay->seed));
    if (!block_filter_create(&delay->filter, graph, options->base_name, error)) {
        free(delay);
        return false;
    }
    *ret_device = device;
    return true;
}

bool delay_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error) {
    assert(delay_device_is(device));
    return block_filter_remove(&of(device)->filter, removed, arg, error);
}

bool delay_device_set_latency(struct block_device *device, enum delay_latency which, uint64_t latency_us, struct error *error) {
    assert(delay_device_is(device) && which < DELAY_LATENCY_COUNT);
    if (!latency_check(which, latency_us, error))
        return false;
    atomic_store(&of(device)->latency_us[which], latency_us);
    return true;
}

uint64_t delay_device_latency_us(const struct block_device *device, enum delay_latency which) {
    assert(delay_device_is(device) && which < DELAY_LATENCY_COUNT);
    return atomic_load(&of(device)->latency_us[which]);
}

struct block_device *delay_device_base(const struct block_device *device) {
    assert(delay_device_is(device));
    return of(device)->filter.base.device;
}
