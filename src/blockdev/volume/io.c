/* Requests of the store to its base device, epochs, and the two ways in which a store stops taking changes. */
#include "blockdev/volume/internal.h"

#include <stdarg.h>
#include <stdio.h>

static void io_complete(struct block_request *request) {
    struct store_io *io = container_of(request, struct store_io, request);
    io->store->ios_out--;
    if (io->trail != 0)
        trail_leave(io);
    if (unlikely(io->external != NULL))
        external_io_done(io->external);
    io->done(io);
}

static void io_prepare(struct store_io *io, struct volume_store *store, void (*done)(struct store_io *io), void *owner) {
    io->store = store;
    io->done = done;
    io->owner = owner;
    io->request.complete = io_complete;
    io->request.flags = 0;
    io->layer = NULL;
    io->page = NULL;
    io->external = NULL;
    io->sets_bits = false;
    io->epoch = 0;
    io->reserved_words = 0;
    io->trail = 0;
}

struct store_io *io_take(struct volume_store *store, void (*done)(struct store_io *io), void *owner) {
    struct store_io *io = pool_take(&store->ios);
    if (unlikely(io == NULL))
        return NULL;
    io->embedded = false;
    io_prepare(io, store, done, owner);
    return io;
}

void io_use(struct store_io *io, struct volume_store *store, void (*done)(struct store_io *io), void *owner) {
    io->embedded = true;
    io_prepare(io, store, done, owner);
}

static void epoch_settle(struct volume_store *store) {
    while (store->epoch_oldest < store->epoch && store->epoch_count[store->epoch_oldest % EPOCH_RING] == 0)
        store->epoch_oldest++;
}

void epoch_enter(struct store_io *io) {
    struct volume_store *store = io->store;
    io->epoch = (uint32_t)(store->epoch % EPOCH_RING) + 1;
    store->epoch_count[io->epoch - 1]++;
}

bool epoch_passed(struct volume_store *store, uint64_t epoch) {
    epoch_settle(store);
    if (store->epoch == epoch && store->epoch - store->epoch_oldest < EPOCH_RING - 1) {
        store->epoch++;
        epoch_settle(store);
    }
    return store->epoch_oldest > epoch;
}

void io_give(struct store_io *io) {
    struct volume_store *store = io->store;
    uint32_t epoch = io->epoch;
    if (!io->embedded)
        pool_give(&store->ios, io);
    else
        io->epoch = 0;
    if (epoch == 0)
        return;
    assert(store->epoch_count[epoch - 1] > 0);
    if (--store->epoch_count[epoch - 1] == 0 && !list_empty(&store->grace))
        freed_advance(store);
}

void io_submit(struct store_io *io) {
    io->store->ios_out++;
    if (unlikely(io->external != NULL)) {
        external_submit(io);
        return;
    }
    if (io->request.op != BLOCK_READ && io->request.op != BLOCK_TRIM) /* what is trimmed means nothing to anybody */
        trail_enter(io);
    block_submit(io->store->base, &io->request);
}

void io_buffer(struct store_io *io, enum block_op op, uint64_t offset, void *buffer, size_t length) {
    io->slices[0] = (struct slice){buffer, length};
    io->request.op = (uint8_t)op;
    io->request.slices = io->slices;
    io->request.slice_count = 1;
    io->request.offset = offset;
    io->request.length = length;
    io_submit(io);
}

void io_flush(struct store_io *io) {
    io->request.op = BLOCK_FLUSH;
    io->request.slice_count = 0;
    io->request.slices = NULL;
    io->request.offset = io->request.length = 0;
    io->store->unflushed = false; /* what completes from here on needs the next one */
    io->store->flushing++;
    io->store->base_flushes++;
    io_submit(io);
}

void waiters_wake(struct list *waiters, enum io_status status) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, waiters);
    for (struct list_node *node; (node = list_pop_front(&now)) != NULL;) {
        struct waiter *waiter = list_entry(node, struct waiter, node);
        waiter->wake(waiter, status);
    }
}

/* Nobody waits for ever on a store that makes no progress any more. */
static void stop_waiting(struct volume_store *store) {
    waiters_wake(&store->commit.room_waiters, IO_MEDIUM_WRITE);
    waiters_wake(&store->space_waiters, IO_MEDIUM_WRITE);
    waiters_wake(&store->checkpoint.waiters, IO_MEDIUM_WRITE);
    waiters_wake(&store->memory_waiters, IO_NO_MEMORY);
    copies_kick(store); /* one may wait for a merge that will not go on */
    commit_kick(store);
}

void store_fail(struct volume_store *store, const char *format, ...) {
    if (VOLUME_CANARY == VOLUME_CANARY_FLUSH_RETRIED || store->failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(store->reason, sizeof(store->reason), format, args);
    va_end(args);
    store->failed = true;
    stop_waiting(store);
}

void store_set_read_only(struct volume_store *store, const char *format, ...) {
    if (store_frozen(store))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(store->reason, sizeof(store->reason), format, args);
    va_end(args);
    store->read_only = true;
    stop_waiting(store);
}
