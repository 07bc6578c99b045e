#include "blockdev/volatile/volatile_device.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "block/filter.h"

#define BLOCKS_MIN 64u
#define BUSY_MAX 32u    /* blocks under way to the base */
#define DRAWN_MAX 64u   /* blocks that are to go there early, until another one that is drawn takes their place */
#define READS_MAX 65536 /* under way; more wait in order */

enum slot_state { SLOT_DIRTY, SLOT_BUSY, SLOT_CLEAN };

/* One block in memory. Moments are counted by device->now. */
struct slot {
    struct volatile_device *device;
    struct hash_node by_block; /* while it is the newest of its block */
    struct list_node node;     /* in the list of its state, or in `unused` */
    enum slot_state state;
    struct slot *older; /* DIRTY: the BUSY one of the same block, which reaches the base before this may be sent */
    struct slot *newer; /* BUSY: the other way round */
    uint64_t block;
    uint64_t since, latest; /* the first and the last write since it was on the base */
    uint64_t cleaned;       /* CLEAN: reads that began before may have seen the base without it */
    struct slice slice;
    struct block_request child;
};

struct volatile_device {
    struct block_filter filter;
    struct host *host;
    struct block_channel *base;
    uint8_t *bytes;
    struct slot *slots;
    uint64_t slot_count, touched; /* that were ever used */
    struct hash_map newest;
    struct list unused, dirty /* by `since` */, busy, clean /* by `cleaned` */;
    unsigned busy_count;
    struct list writers, flushes, erasures; /* requests that wait, in order */
    struct list reads;                      /* under way, by `began` */
    struct pool read_pool;
    uint64_t now;
    struct block_request flush;
    bool flushing;
    uint64_t flush_covers;
    struct block_request erasure; /* while it is under way no block goes to the base */
    bool erasing;
    uint64_t erasure_began;
    struct random random;
    uint64_t seed;
    unsigned early_percent;
    struct slot *drawn[DRAWN_MAX];
    bool closing;
    _Atomic uint64_t unflushed, early; /* blocks */
};

struct read {
    struct block_request child;
    struct block_request *request;
    struct volatile_device *device;
    struct list_node node;
    uint64_t began;
};

/* What waiting requests keep in their scratch: a read the first, a write how much of it is in the cache, bytes, a flush up to
 * which moment it covers writes. */
#define SCRATCH_NUMBER(request) ((request)->device_private[0])
static_assert(sizeof(struct pool_waiter) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static void pump(struct volatile_device *device);

static struct volatile_device *of(const struct block_device *device) {
    return container_of(container_of(device, struct block_filter, device), struct volatile_device, filter);
}
static struct volatile_device *of_request(const struct block_request *request) {
    return of(block_channel_device(request->channel));
}
static uint32_t block_size(const struct volatile_device *device) { return device->filter.device.block_size; }
static struct block_request *first_of(const struct list *requests) {
    return list_entry(list_first(requests), struct block_request, node);
}
static void count(_Atomic uint64_t *blocks, int64_t change) {
    atomic_fetch_add_explicit(blocks, (uint64_t)change, memory_order_relaxed);
}

/* ---- slots ---- */

static struct slot *find(const struct volatile_device *device, uint64_t block) {
    struct hash_node *node = hash_map_first(&device->newest, hash_u64(block));
    while (node != NULL && container_of(node, struct slot, by_block)->block != block)
        node = hash_map_next(node);
    return node == NULL ? NULL : container_of(node, struct slot, by_block);
}

static struct slot *take_slot(struct volatile_device *device) {
    struct list_node *node = list_pop_front(&device->unused);
    if (node != NULL)
        return list_entry(node, struct slot, node);
    if (device->touched == device->slot_count)
        return NULL;
    struct slot *slot = &device->slots[device->touched];
    slot->device = device;
    slot->slice = (struct slice){device->bytes + device->touched * block_size(device), block_size(device)};
    device->touched++;
    return slot;
}

static void give_slot(struct volatile_device *device, struct slot *slot) {
    list_remove(&slot->node);
    list_push_front(&device->unused, &slot->node);
}

/* To its place among the dirty ones. */
static void list_dirty(struct volatile_device *device, struct slot *slot) {
    list_remove(&slot->node);
    struct list_node *before = device->dirty.head.prev;
    while (before != &device->dirty.head && list_entry(before, struct slot, node)->since > slot->since)
        before = before->prev;
    list_insert_after(before, &slot->node);
}

/* The base has what it holds, or something newer. It stays for reads that saw the base before that. */
static void clean(struct volatile_device *device, struct slot *slot) {
    slot->state = SLOT_CLEAN;
    slot->cleaned = ++device->now;
    list_remove(&slot->node);
    list_push_back(&device->clean, &slot->node);
    count(&device->unflushed, -1);
}

/* Takes back the clean slots that no read needs any more. */
static void reap(struct volatile_device *device) {
    uint64_t oldest = list_empty(&device->reads) ? UINT64_MAX : list_entry(list_first(&device->reads), struct read, node)->began;
    while (!list_empty(&device->clean)) {
        struct slot *slot = list_entry(list_first(&device->clean), struct slot, node);
        if (slot->cleaned > oldest)
            return;
        hash_map_remove(&device->newest, &slot->by_block);
        give_slot(device, slot);
    }
}

/* The slot that a block is to be written to; NULL while none is free. */
static struct slot *slot_to_write(struct volatile_device *device, uint64_t block) {
    struct slot *old = find(device, block);
    if (old != NULL && old->state == SLOT_DIRTY) {
        old->latest = ++device->now;
        return old;
    }
    struct slot *slot = take_slot(device);
    if (slot == NULL)
        return NULL;
    slot->older = slot->newer = NULL;
    if (old != NULL) {
        hash_map_remove(&device->newest, &old->by_block);
        if (old->state == SLOT_BUSY) {
            old->newer = slot;
            slot->older = old;
        } else {
            give_slot(device, old);
        }
    }
    slot->block = block;
    slot->since = slot->latest = ++device->now;
    slot->state = SLOT_DIRTY;
    list_push_back(&device->dirty, &slot->node);
    bool ok = hash_map_insert(&device->newest, &slot->by_block, hash_u64(block));
    assert(ok); /* its buckets were made with the device */
    count(&device->unflushed, 1);
    return slot;
}

/* ---- blocks to the base ---- */

static void fail_all(struct list *requests, enum io_status status) {
    for (struct list_node *node; (node = list_pop_front(requests)) != NULL;)
        block_complete_later(list_entry(node, struct block_request, node), status);
}

/* It stays dirty, whoever wants it on the base hears so, and nobody tries again by himself. */
static void write_failed(struct volatile_device *device, struct slot *slot, struct slot *newer, enum io_status status) {
    uint64_t since = slot->since;
    if (newer != NULL) {
        newer->since = since;
        list_dirty(device, newer);
        give_slot(device, slot);
        count(&device->unflushed, -1);
    } else {
        slot->state = SLOT_DIRTY;
        list_dirty(device, slot);
    }
    list_for_each_safe (&device->flushes, struct block_request, request, node) {
        if (SCRATCH_NUMBER(request) < since)
            continue;
        list_remove(&request->node);
        block_complete_later(request, status);
    }
    fail_all(&device->writers, status);
}

static void finish_closing(struct volatile_device *device);

static void written(struct block_request *child) {
    struct slot *slot = container_of(child, struct slot, child), *newer = slot->newer;
    struct volatile_device *device = slot->device;
    device->busy_count--;
    if (newer != NULL)
        newer->older = NULL;
    if (child->status != IO_OK && child->status != IO_OUT_OF_RANGE) { /* the latter: the base has shrunk, the block is gone */
        write_failed(device, slot, newer, (enum io_status)child->status);
    } else if (newer != NULL) {
        give_slot(device, slot);
        count(&device->unflushed, -1);
    } else {
        clean(device, slot);
    }
    if (!device->closing)
        pump(device);
    else if (device->busy_count == 0)
        finish_closing(device);
}

static bool may_send(const struct volatile_device *device) {
    return device->busy_count < BUSY_MAX && !device->erasing && list_empty(&device->erasures);
}

static void send(struct volatile_device *device, struct slot *slot) {
    assert(slot->state == SLOT_DIRTY && slot->older == NULL);
    slot->state = SLOT_BUSY;
    list_remove(&slot->node);
    list_push_back(&device->busy, &slot->node);
    device->busy_count++;
    slot->child = (struct block_request){.op = BLOCK_WRITE,
                                         .slice_count = 1,
                                         .slices = &slot->slice,
                                         .offset = slot->block * block_size(device),
                                         .length = block_size(device),
                                         .complete = written};
    block_submit(device->base, &slot->child);
}

/* Some of what is written goes to the base without being asked for, late and out of order. */
static void draw(struct volatile_device *device, struct slot *slot) {
    if (!random_chance(&device->random, device->early_percent, 100))
        return;
    struct slot **place = &device->drawn[random_below(&device->random, DRAWN_MAX)], *before = *place;
    *place = slot;
    if (before == NULL || before->state != SLOT_DIRTY || before->older != NULL || !may_send(device))
        return;
    count(&device->early, 1);
    send(device, before);
}

/* ---- requests ---- */

/* Copies as much of the first writer as there is room for; true if that was all of it. */
static bool write_some(struct volatile_device *device, struct block_request *request) {
    uint32_t size = block_size(device);
    for (uint64_t *done = &SCRATCH_NUMBER(request); *done < request->length; *done += size) {
        struct slot *slot = slot_to_write(device, (request->offset + *done) / size);
        if (slot == NULL)
            return false;
        slice_copy_out(request->slices, request->slice_count, *done, slot->slice.base, size);
        draw(device, slot);
    }
    return true;
}

static void read_done(struct block_request *child) {
    struct read *read = container_of(child, struct read, child);
    struct volatile_device *device = read->device;
    struct block_request *request = read->request;
    enum io_status status = (enum io_status)child->status;
    uint32_t size = block_size(device);
    for (uint64_t done = 0; done < request->length && status == IO_OK && device->newest.count > 0; done += size) {
        const struct slot *slot = find(device, (request->offset + done) / size);
        if (slot != NULL && (slot->state != SLOT_CLEAN || slot->cleaned > read->began))
            slice_copy_in(request->slices, request->slice_count, done, slot->slice.base, size);
    }
    list_remove(&read->node);
    reap(device);
    pool_give(&device->read_pool, read);
    block_complete(request, status);
    pump(device);
}

static void read_begin(struct volatile_device *device, struct block_request *request, struct read *take_read) {
    *take_read = (struct read){.request = request, .device = device, .began = device->now};
    take_read->child = (struct block_request){.op = BLOCK_READ,
                                              .flags = request->flags & BLOCK_FAIL_FAST,
                                              .slice_count = request->slice_count,
                                              .slices = request->slices,
                                              .offset = request->offset,
                                              .length = request->length,
                                              .complete = read_done};
    list_push_back(&device->reads, &take_read->node);
    block_submit(device->base, &take_read->child);
}

static void read_ready(struct pool_waiter *waiter, void *take_object) {
    void *scratch = waiter;
    struct block_request *request = container_of(scratch, struct block_request, device_private);
    read_begin(of_request(request), request, take_object);
}

static void flushed(struct block_request *child) {
    struct volatile_device *device = container_of(child, struct volatile_device, flush);
    device->flushing = false;
    while (!list_empty(&device->flushes) && SCRATCH_NUMBER(first_of(&device->flushes)) <= device->flush_covers)
        block_complete_later(list_entry(list_pop_front(&device->flushes), struct block_request, node),
                             (enum io_status)child->status);
    pump(device);
}

static void erased(struct block_request *child) {
    struct volatile_device *device = container_of(child, struct volatile_device, erasure);
    struct block_request *request = list_entry(list_pop_front(&device->erasures), struct block_request, node);
    uint64_t first = request->offset / block_size(device), end = first + request->length / block_size(device);
    device->erasing = false;
    list_for_each_safe (&device->dirty, struct slot, slot, node)
        if (child->status == IO_OK && slot->block >= first && slot->block < end && slot->latest <= device->erasure_began)
            clean(device, slot);
    block_complete_later(request, (enum io_status)child->status);
    pump(device);
}

/* ---- what to do next ---- */

/* All writes before this moment are on the base. */
static uint64_t reached(const struct volatile_device *device) {
    uint64_t oldest = list_empty(&device->dirty) ? UINT64_MAX : list_entry(list_first(&device->dirty), struct slot, node)->since;
    list_for_each (&device->busy, struct slot, slot, node)
        oldest = min_u64(oldest, slot->since);
    return oldest;
}

static void pump_erasures(struct volatile_device *device) {
    if (list_empty(&device->erasures) || device->erasing || device->busy_count > 0)
        return;
    const struct block_request *request = first_of(&device->erasures);
    device->erasing = true;
    device->erasure_began = device->now;
    device->erasure = (struct block_request){.op = request->op,
                                             .flags = request->flags & (BLOCK_MAY_TRIM | BLOCK_FAIL_FAST),
                                             .offset = request->offset,
                                             .length = request->length,
                                             .complete = erased};
    block_submit(device->base, &device->erasure);
}

/* What flushes wait for, and the oldest where there is no room. */
static void pump_blocks(struct volatile_device *device) {
    uint64_t wanted =
        list_empty(&device->flushes) ? 0 : SCRATCH_NUMBER(list_entry(list_last(&device->flushes), struct block_request, node));
    list_for_each_safe (&device->dirty, struct slot, slot, node) {
        if (!may_send(device) || (slot->since > wanted && list_empty(&device->writers)))
            return;
        if (slot->older == NULL)
            send(device, slot);
    }
}

static void pump_flushes(struct volatile_device *device) {
    if (list_empty(&device->flushes) || device->flushing)
        return;
    uint64_t oldest = reached(device);
    if (SCRATCH_NUMBER(first_of(&device->flushes)) >= oldest)
        return;
    device->flushing = true;
    list_for_each (&device->flushes, struct block_request, request, node)
        if (SCRATCH_NUMBER(request) < oldest)
            device->flush_covers = SCRATCH_NUMBER(request);
    device->flush = (struct block_request){.op = BLOCK_FLUSH, .complete = flushed};
    block_submit(device->base, &device->flush);
}

static void pump(struct volatile_device *device) {
    reap(device);
    while (!list_empty(&device->writers) && write_some(device, first_of(&device->writers)))
        block_complete_later(list_entry(list_pop_front(&device->writers), struct block_request, node), IO_OK);
    pump_erasures(device);
    pump_blocks(device);
    pump_flushes(device);
}

static void submit(struct block_channel *channel, struct block_request *request) {
    struct volatile_device *device = of(block_channel_device(channel));
    struct list *requests;
    switch ((enum block_op)request->op) {
    case BLOCK_READ: {
        struct read *read = pool_take(&device->read_pool);
        void *scratch = request->device_private;
        struct pool_waiter *waiter = scratch;
        if (read != NULL) {
            read_begin(device, request, read);
            return;
        }
        *waiter = (struct pool_waiter){.ready = read_ready};
        pool_wait(&device->read_pool, waiter);
        return;
    }
    case BLOCK_WRITE:
        SCRATCH_NUMBER(request) = 0;
        requests = &device->writers;
        break;
    case BLOCK_FLUSH:
        SCRATCH_NUMBER(request) = ++device->now;
        requests = &device->flushes;
        break;
    default: requests = &device->erasures; break;
    }
    list_push_back(requests, &request->node);
    pump(device);
}

/* ---- life ---- */

static void free_device(struct volatile_device *device) {
    hash_map_fini(&device->newest);
    if (device->bytes != NULL)
        host_memory_unmap(device->host, device->bytes, device->slot_count * block_size(device));
    free(device->slots);
    free(device);
}

static void finish_closing(struct volatile_device *device) {
    pool_fini(&device->read_pool);
    block_channel_close(device->base);
    block_filter_close(&device->filter);
    free_device(device);
}

/* Only blocks that went to the base early can be under way. */
static void destroy(struct block_device *block_device) {
    struct volatile_device *device = of(block_device);
    device->closing = true;
    if (device->busy_count == 0)
        finish_closing(device);
}

static const struct block_device_ops ops = {
    .kind = "volatile", .product_name = "Volatile Cache Disk", .submit = submit, .destroy = destroy};

bool volatile_device_is(const struct block_device *device) { return device->ops == &ops; }

static bool check(const struct volatile_device_options *options, uint64_t cache_bytes, uint32_t block, struct error *error) {
    char value[24];
    if (options->early_percent > 100) {
        snprintf(value, sizeof(value), "%u", options->early_percent);
        return error_invalid(error, "early_percent", value, "at most 100");
    }
    if (cache_bytes < (uint64_t)BLOCKS_MIN * block || cache_bytes > VOLATILE_DEVICE_CACHE_MAX) {
        snprintf(value, sizeof(value), "%llu", (unsigned long long)(cache_bytes / MIB(1)));
        return error_invalid(error, "cache_mib", value, "at most %llu, and room for %u blocks",
                             (unsigned long long)(VOLATILE_DEVICE_CACHE_MAX / MIB(1)), BLOCKS_MIN);
    }
    return true;
}

/* The base is taken: the cache, and what the device is. */
static bool assemble(struct volatile_device *device, const struct volatile_device_options *options, struct block_graph *graph,
                     struct error *error) {
    struct block_device *self = &device->filter.device;
    uint64_t cache_bytes = options->cache_bytes == 0 ? VOLATILE_DEVICE_CACHE_DEFAULT : options->cache_bytes;
    if (!check(options, cache_bytes, self->block_size, error))
        return false;
    if (atomic_load(&self->read_only))
        return error_set(error, ERROR_READ_ONLY, "%s is read-only: nothing is written to it", options->base_name);
    device->slot_count = cache_bytes / self->block_size;
    device->slots = calloc(device->slot_count, sizeof(*device->slots));
    device->bytes = host_memory_map(device->host, device->slot_count * self->block_size);
    /* The first insertion makes the buckets; later ones cannot fail. */
    if (device->slots == NULL || device->bytes == NULL || !hash_map_insert(&device->newest, &device->slots->by_block, 0) ||
        (device->base = block_channel_open(&device->filter.base)) == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    hash_map_remove(&device->newest, &device->slots->by_block);
    self->home = reactor_current();
    self->native_ops &= ~(BLOCK_BIT(BLOCK_COMPARE) | BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET));
    self->native_ops |= BLOCK_BIT(BLOCK_FLUSH);
    self->native_fua = false;
    self->memory_alignment = 0;
    self->volatile_cache = true;
    self->prompt = false;
    return block_device_register(graph, self, error);
}

bool volatile_device_create(struct block_graph *graph, const struct volatile_device_options *options,
                            struct block_device **ret_device, struct error *error) {
    struct volatile_device *device = calloc(1, sizeof(*device));
    if (device == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    struct block_device *self = &device->filter.device;
    self->ops = &ops;
    self->uuid = options->uuid;
    snprintf(self->name, sizeof(self->name), "%s", options->name);
    device->host = graph->host;
    device->early_percent = options->early_percent;
    device->seed = options->seed;
    if (device->seed == 0)
        host_random(graph->host, &device->seed, sizeof(device->seed));
    random_init(&device->random, device->seed);
    hash_map_init(&device->newest);
    struct list *lists[] = {&device->unused,  &device->dirty,   &device->busy,     &device->clean,
                            &device->writers, &device->flushes, &device->erasures, &device->reads};
    for (size_t i = 0; i < array_count(lists); i++)
        list_init(lists[i]);
    pool_init(&device->read_pool, sizeof(struct read), READS_MAX);
    if (!block_filter_open(&device->filter, graph, options->base_name, error)) {
        free_device(device);
        return false;
    }
    if (!assemble(device, options, graph, error)) {
        if (device->base != NULL)
            block_channel_close(device->base);
        block_filter_close(&device->filter);
        free_device(device);
        return false;
    }
    *ret_device = self;
    return true;
}

bool volatile_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                            struct error *error) {
    assert(volatile_device_is(device));
    return block_filter_remove(&of(device)->filter, removed, arg, error);
}

void volatile_device_facts(const struct block_device *device, struct volatile_device_facts *ret_facts) {
    assert(volatile_device_is(device));
    const struct volatile_device *own = of(device);
    *ret_facts = (struct volatile_device_facts){
        .base_name = own->filter.base.device->name,
        .cache_bytes = own->slot_count * block_size(own),
        .seed = own->seed,
        .early_percent = own->early_percent,
        .unflushed_bytes = atomic_load_explicit(&own->unflushed, memory_order_relaxed) * block_size(own),
        .early_bytes = atomic_load_explicit(&own->early, memory_order_relaxed) * block_size(own),
    };
}
