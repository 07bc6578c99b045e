/* Many requests to the base device, a few at a time: for opening, creating and growing a store. */
#include "blockdev/volume/internal.h"

static void bulk_step(struct bulk *bulk);

static void slot_done(struct store_io *io) {
    struct bulk_slot *slot = container_of(io, struct bulk_slot, io);
    struct bulk *bulk = io->owner;
    enum io_status status = (enum io_status)io->request.status;
    slot->busy = false;
    bulk->pending--;
    if (status != IO_OK && bulk->status == IO_OK)
        bulk->status = status;
    if (bulk->item != NULL)
        bulk->item(bulk, slot->i, status);
    bulk_step(bulk);
}

static void bulk_step(struct bulk *bulk) {
    for (unsigned n = 0; n < BULK_DEPTH && bulk->next < bulk->count; n++) {
        struct bulk_slot *slot = &bulk->slots[n];
        if (slot->busy)
            continue;
        uint64_t offset;
        void *buffer;
        size_t length;
        while (bulk->next < bulk->count && !bulk->describe(bulk, bulk->next, &offset, &buffer, &length))
            bulk->next++;
        if (bulk->next == bulk->count)
            break;
        slot->busy = true;
        slot->i = bulk->next++;
        bulk->pending++;
        io_use(&slot->io, bulk->store, slot_done, bulk);
        io_buffer(&slot->io, bulk->op, offset, buffer, length);
    }
    if (bulk->pending == 0 && bulk->next == bulk->count)
        bulk->done(bulk);
}

static void start_run(struct reactor_job *job) { bulk_step(container_of(job, struct bulk, job)); }

void bulk_start(struct bulk *bulk) {
    bulk->next = bulk->pending = 0;
    bulk->status = IO_OK;
    for (unsigned n = 0; n < BULK_DEPTH; n++)
        bulk->slots[n].busy = false;
    bulk->job.run = start_run;
    reactor_defer(bulk->store->home, &bulk->job);
}
