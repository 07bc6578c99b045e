/* Writes of a leg that are answered before the mark of their region is durable: their payload is kept in memory meanwhile, as a
 * disk's cache would, and goes to the disk after the mark. Whoever comes after them and meets their blocks waits until they are
 * there, and so does a flush. docs/volume-store.md, "Writes that wait for a mark". */
#include "blockdev/volume/replica.h"

#include <stdlib.h>

#define EARLY_WRITES 512 /* a store */
#define EARLY_BYTES KIB(16)
#define EARLY_BUCKETS 256 /* by region */
#define EARLY_DEPTH 64    /* at the disk at a time: more would only keep others waiting */

struct early_write {
    struct list_node node;        /* the room's `unused`, or its volume's, by arrival */
    struct list_node bucket_node; /* of its region */
    struct block_request request; /* of the op, in place of the one that was answered */
    struct slice slice;
    struct volume *volume;
    uint64_t sequence;
    struct list waiters; /* for its end */
    bool at_disk;
};

struct early_room {
    struct list unused;
    struct list turn; /* marked, and waiting for the disk */
    unsigned at_disk;
    struct list buckets[EARLY_BUCKETS];
    uint8_t *bytes; /* EARLY_BYTES for each */
    struct early_write writes[EARLY_WRITES];
};

void early_init(struct volume_store *store) {
    if (store->early != NULL)
        return;
    struct early_room *room = calloc(1, sizeof(*room));
    uint8_t *bytes = room == NULL ? NULL : aligned_alloc(BLOCK_BYTES, (size_t)EARLY_WRITES * EARLY_BYTES);
    if (bytes == NULL) { /* then every write waits for its mark */
        free(room);
        return;
    }
    room->bytes = bytes;
    list_init(&room->unused);
    list_init(&room->turn);
    for (unsigned i = 0; i < EARLY_BUCKETS; i++)
        list_init(&room->buckets[i]);
    for (unsigned i = 0; i < EARLY_WRITES; i++) {
        list_init(&room->writes[i].waiters);
        list_push_back(&room->unused, &room->writes[i].node);
    }
    store->early = room;
}

void early_fini(struct volume_store *store) {
    if (store->early != NULL)
        free(store->early->bytes);
    free(store->early);
}

/* ---- one write ---- */

static void ended(struct volume_op *op, enum io_status status) {
    struct early_write *write = op->early;
    struct volume *volume = write->volume;
    struct volume_store *store = volume->store;
    list_remove(&write->node);
    list_remove(&write->bucket_node);
    list_push_front(&store->early->unused, &write->node); /* whose memory is warm */
    volume->early_count--;
    store->early_count--;
    store->early->at_disk -= write->at_disk;
    struct list_node *next = list_pop_front(&store->early->turn);
    if (next != NULL)
        list_entry(next, struct waiter, node)->wake(list_entry(next, struct waiter, node), IO_OK);
    if (status != IO_OK && volume->layer != NULL)
        store_fail(store, "a write that was answered failed: %s; open the store anew to recover", io_status_name(status));
    waiters_wake(&write->waiters, IO_OK);
}

/* It goes over what is there: a file below the store may have no room for anything else, though the store has. */
static bool is_there(struct volume_op *op) {
    enum io_status status;
    for (uint64_t at = op->request->offset, until; at < op->end; at = until) {
        uint32_t cluster = (uint32_t)(at >> CLUSTER_SHIFT);
        struct page *page;
        until = min_u64(op->end, (uint64_t)(cluster + 1) << CLUSTER_SHIFT);
        if (map_page_for_write(op->volume->store, op->volume->layer, cluster, false, &op->waiter, &page, &status) != GOT)
            return false;
        unsigned first = (unsigned)(at >> BLOCK_SHIFT) % CLUSTER_BLOCKS, count = (unsigned)((until - at) >> BLOCK_SHIFT);
        if ((block_mask(first, count) & (uint16_t)~map_present(page->words[cluster % PAGE_WORDS])) != 0)
            return false;
    }
    return true;
}

/* Whether nothing that could be foreseen keeps it from ending well, and a process that lives on has it, should this one be killed
 * before it is on the disk: a host that lives on, too, would never learn of it. */
static bool is_fit(const struct volume_op *op) {
    const struct volume_store *store = op->volume->store;
    const struct block_request *request = op->request;
    return store->early != NULL && !store->closing && request->op == BLOCK_WRITE && (request->flags & BLOCK_FUA) == 0 &&
           request->length <= EARLY_BYTES && (request->offset | request->length) % BLOCK_BYTES == 0 &&
           request->offset / REPLICA_REGION_BYTES == (op->end - 1) / REPLICA_REGION_BYTES && !list_empty(&store->early->unused) &&
           store->gate != op->volume->layer && change_status(op, op->end) == IO_OK && op->volume->replica->elsewhere;
}

enum got early_take(struct volume_op *op) {
    struct volume *volume = op->volume;
    struct volume_store *store = volume->store;
    struct block_request *request = op->request;
    enum io_status status;
    if (!is_fit(op))
        return FAILED;
    enum got got = write_prepare(op, volume->layer, request->offset, op->end, &status);
    if (got != GOT)
        return got;
    if (!is_there(op)) /* prepared, so all of its pages are in memory */
        return FAILED;
    struct early_room *room = store->early;
    struct early_write *write = list_entry(list_pop_front(&room->unused), struct early_write, node);
    uint8_t *bytes = room->bytes + (size_t)(write - room->writes) * EARLY_BYTES;
    slice_copy_out(request->slices, request->slice_count, 0, bytes, request->length);
    write->slice = (struct slice){bytes, request->length};
    write->request = (struct block_request){
        .op = BLOCK_WRITE, .slices = &write->slice, .slice_count = 1, .offset = request->offset, .length = request->length};
    write->volume = volume;
    write->at_disk = false;
    write->sequence = ++store->early_sequence;
    list_push_back(&volume->early, &write->node);
    list_push_back(&room->buckets[request->offset / REPLICA_REGION_BYTES % EARLY_BUCKETS], &write->bucket_node);
    volume->early_count++;
    store->early_count++;
    /* Its space stays, and so does its head, until it has ended. */
    hold_take(volume->layer, &op->hold, request->offset >> BLOCK_SHIFT, (op->end - 1) >> BLOCK_SHIFT);
    op->request = &write->request;
    op->early = write;
    op->inside = ended;
    block_complete_later(request, IO_OK);
    return GOT;
}

bool early_goes(struct volume_op *op) {
    struct early_room *room = op->volume->store->early;
    if (op->early == NULL || op->early->at_disk)
        return true;
    if (room->at_disk >= EARLY_DEPTH) {
        list_push_back(&room->turn, &op->waiter.node);
        return false;
    }
    room->at_disk++;
    op->early->at_disk = true;
    return true;
}

/* ---- those who come after ---- */

static bool meets(const struct early_write *write, const struct volume *volume, uint64_t offset, uint64_t end) {
    return write->volume == volume && write->request.offset < end && write->request.offset + write->request.length > offset;
}

bool early_meets(struct volume *volume, uint64_t offset, uint64_t length, struct waiter *waiter) {
    uint64_t end = offset + length;
    if (volume->early_count == 0 || length == 0)
        return false;
    uint64_t first = offset / REPLICA_REGION_BYTES, last = (end - 1) / REPLICA_REGION_BYTES;
    if (last - first >= EARLY_BUCKETS / 4) {
        list_for_each (&volume->early, struct early_write, write, node)
            if (meets(write, volume, offset, end)) {
                list_push_back(&write->waiters, &waiter->node);
                return true;
            }
        return false;
    }
    for (uint64_t region = first; region <= last; region++)
        list_for_each (&volume->store->early->buckets[region % EARLY_BUCKETS], struct early_write, write, bucket_node)
            if (meets(write, volume, offset, end)) {
                list_push_back(&write->waiters, &waiter->node);
                return true;
            }
    return false;
}

bool early_any(struct volume *volume, uint64_t until, struct waiter *waiter) {
    if (volume->early_count == 0)
        return false;
    struct early_write *oldest = list_entry(list_first(&volume->early), struct early_write, node);
    if (oldest->sequence > until)
        return false;
    list_push_back(&oldest->waiters, &waiter->node);
    return true;
}
