#include "replica_disk.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/block_sum.h"
#include "heap.h"

#define BLOCK_BYTES 4096

struct replica_view {
    struct block_device device;
    struct replica_disk *disk;
    uint64_t number;
    bool broken;
    struct list_node node;
};

enum place { IN_NETWORK, IN_REPLICA, MARKED, ON_THE_WAY_BACK };

struct operation {
    struct list_node node;
    struct replica_disk *disk;
    struct replica_view *view;     /* NULL = nobody waits for the answer */
    struct block_request *request; /* likewise */
    uint64_t view_number, association;
    enum place place;
    enum io_status status;
    uint8_t op, flags;
    uint64_t offset, length, argument;
    uint8_t *payload;
};

static void at(struct replica_disk *disk, const char *name) {
    if (disk->point != NULL)
        disk->point(disk->point_arg, disk, name);
}

void replica_disk_init(struct replica_disk *disk, const char *name, uint64_t size, uint64_t seed) {
    *disk = (struct replica_disk){.size = size, .untouched = true, .up = true};
    snprintf(disk->name, sizeof(disk->name), "%s", name);
    random_init(&disk->random, seed);
    disk->bytes = plain_alloc(size);
    disk->durable = plain_alloc(size);
    memset(disk->bytes, 0, size);
    memset(disk->durable, 0, size);
    size_t words = bitmap_words(size / BLOCK_BYTES), regions = divide_up(size, REPLICA_REGION_BYTES);
    disk->dirty = plain_alloc(words * 8);
    memset(disk->dirty, 0, words * 8);
    disk->marks = plain_alloc(regions * sizeof(uint32_t));
    memset(disk->marks, 0, regions * sizeof(uint32_t));
    list_init(&disk->operations);
    list_init(&disk->views);
    disk->incarnation = random_u64(&disk->random) | 1;
}

static void operation_free(struct operation *operation) {
    list_remove(&operation->node);
    operation->disk->operation_count--;
    plain_free(operation->payload);
    plain_free(operation);
}

void replica_disk_fini(struct replica_disk *disk) {
    while (!list_empty(&disk->operations))
        operation_free(list_entry(list_first(&disk->operations), struct operation, node));
    plain_free(disk->bytes);
    plain_free(disk->durable);
    plain_free(disk->dirty);
    plain_free(disk->marks);
}

/* ---- answers ---- */

static void complete(struct reactor_message *message) {
    struct block_request *request = container_of(message, struct block_request, message);
    block_complete(request, (enum io_status)request->status);
}

static void answer(struct operation *operation, enum io_status status) {
    struct block_request *request = operation->request;
    if (request != NULL) {
        if (status == IO_OK && (operation->op == BLOCK_READ || operation->op == BLOCK_REPLICA_GET))
            slice_copy_in(request->slices, request->slice_count, 0, operation->payload, operation->length);
        request->status = (uint8_t)status;
        request->message.run = complete;
        struct reactor *home = operation->view->device.home;
        reactor_post(home != NULL ? home : block_channel_reactor(request->channel), &request->message);
    }
    operation_free(operation);
}

/* ---- the replica ---- */

static bool is_document(const struct operation *operation) { return operation->op >= BLOCK_REPLICA_PUT; }

static uint64_t regions_of(const struct replica_disk *disk) { return divide_up(disk->size, REPLICA_REGION_BYTES); }

static bool is_mine(const struct operation *operation) {
    const struct replica_disk *disk = operation->disk;
    return disk->claim_association != 0 && disk->claim_view == operation->view_number &&
           disk->claim_association == operation->association;
}

/* What arrives is let in or not. */
static enum io_status admit(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    if (disk->plain)
        return IO_OK;
    if (operation->op == BLOCK_REPLICA_GET && replica_verb(operation->argument) == REPLICA_STATUS)
        return IO_OK;
    if (operation->op == BLOCK_REPLICA_PUT && replica_verb(operation->argument) == REPLICA_CLAIM)
        return IO_OK;
    if (is_mine(operation))
        return IO_OK;
    if ((disk->canaries & REPLICA_FENCE_BY_NUMBER) != 0 && disk->claim_view == operation->view_number)
        return IO_OK;
    disk->fenced++;
    return disk->claim_association != 0 && disk->claim_view != operation->view_number ? IO_FENCED : IO_NOT_READY;
}

static bool others_at_work(const struct operation *operation) {
    list_for_each (&operation->disk->operations, struct operation, other, node)
        if (other != operation && (other->place == IN_REPLICA || other->place == MARKED) &&
            (other->view_number != operation->view_number || other->association != operation->association))
            return true;
    return false;
}

static enum io_status claim(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    const struct replica_claim *document = (const struct replica_claim *)(const void *)operation->payload;
    struct replica_record *record = &disk->record;
    if (operation->length != sizeof(*document))
        return IO_INVALID;
    if (!disk->has_record && uuid_is_nil(&document->leg))
        return IO_INVALID;
    if (disk->has_record && !uuid_equal(&record->mirror, &document->mirror))
        return IO_INVALID;
    bool same = uuid_equal(&record->promised_engine, &document->engine);
    if (disk->has_record && (document->term < record->promised_term || (document->term == record->promised_term && !same) ||
                             (same && document->attempt <= record->promised_attempt)))
        return IO_FENCED;
    at(disk, "before claim");
    if (!disk->has_record) {
        disk->has_record = true;
        *record = (struct replica_record){.magic = REPLICA_RECORD_MAGIC, .version = REPLICA_RECORD_VERSION};
        record->mirror = document->mirror;
        record->leg = document->leg;
        record->state = REPLICA_SYNCING;
        record->policy = REPLICA_ANY;
    }
    record->promised_term = document->term;
    record->promised_engine = document->engine;
    record->promised_attempt = document->attempt;
    disk->claim_view = operation->view_number;
    disk->claim_association = operation->association;
    disk->claims++;
    at(disk, "after claim");
    return IO_OK;
}

static void mark(struct replica_disk *disk, uint64_t first, uint64_t count, uint64_t depth) {
    for (uint64_t region = first; region < first + count && region < regions_of(disk); region++)
        disk->marks[region] = max_u32(disk->marks[region], (uint32_t)depth);
}

static enum io_status mark_ranges(struct replica_disk *disk, const struct replica_ranges *ranges, size_t length, bool clear) {
    if (replica_ranges_check(ranges, length) != NULL)
        return IO_INVALID;
    for (uint32_t i = 0; i < ranges->count; i++) {
        if (!clear)
            mark(disk, ranges->ranges[i].first, ranges->ranges[i].count, disk->record.epoch.depth);
        for (uint64_t j = 0; clear && j < ranges->ranges[i].count && ranges->ranges[i].first + j < regions_of(disk); j++)
            disk->marks[ranges->ranges[i].first + j] = 0;
    }
    return IO_OK;
}

static enum io_status store(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    const struct replica_store *document = (const struct replica_store *)(const void *)operation->payload;
    struct replica_record *old = &disk->record;
    if (operation->length < sizeof(*document) || replica_record_check(&document->record) != NULL ||
        !uuid_equal(&document->record.mirror, &old->mirror) || !uuid_equal(&document->record.leg, &old->leg) ||
        document->record.epoch.depth < old->epoch.depth ||
        (document->record.epoch.depth == old->epoch.depth && !replica_epoch_equal(&document->record.epoch, &old->epoch)))
        return IO_INVALID;
    if (document->record.promised_term != old->promised_term ||
        !uuid_equal(&document->record.promised_engine, &old->promised_engine))
        return IO_INVALID;
    at(disk, "before store");
    if ((disk->canaries & REPLICA_MARKS_RESET) != 0 && document->record.epoch.depth != old->epoch.depth)
        memset(disk->marks, 0, regions_of(disk) * sizeof(uint32_t));
    struct replica_record keep = *old;
    *old = document->record;
    old->promised_term = keep.promised_term;
    old->promised_engine = keep.promised_engine;
    old->promised_attempt = keep.promised_attempt;
    enum io_status status = mark_ranges(disk, &document->marks, operation->length - offsetof(struct replica_store, marks), false);
    disk->stores++;
    at(disk, "after store");
    return status;
}

static enum io_status put(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    const struct replica_ranges *ranges = (const struct replica_ranges *)(const void *)operation->payload;
    switch (replica_verb(operation->argument)) {
    case REPLICA_CLAIM: return claim(operation);
    case REPLICA_STORE: return store(operation);
    case REPLICA_MARK: at(disk, "before mark"); return mark_ranges(disk, ranges, operation->length, false);
    case REPLICA_CLEAR: at(disk, "before clear"); return mark_ranges(disk, ranges, operation->length, true);
    case REPLICA_RELEASE: disk->claim_association = 0; return IO_OK;
    case REPLICA_TREE:
        if (!disk->cramped)
            return IO_UNSUPPORTED;
        disk->kept = ((const struct replica_tree *)(const void *)operation->payload)->what == REPLICA_KEEP;
        return IO_OK;
    case REPLICA_FORGET:
        if (operation->length != sizeof(struct uuid) ||
            memcmp(operation->payload, &disk->record.mirror, sizeof(struct uuid)) != 0)
            return IO_INVALID;
        at(disk, "before forget");
        disk->has_record = false;
        disk->record = (struct replica_record){0};
        disk->claim_association = disk->claim_view = 0;
        memset(disk->marks, 0, regions_of(disk) * sizeof(uint32_t));
        at(disk, "after forget");
        return IO_OK;
    default: return IO_UNSUPPORTED;
    }
}

static bool cannot_be_read(const struct replica_disk *disk, uint64_t offset, uint64_t length) {
    uint64_t first = offset / BLOCK_BYTES, end = divide_up(offset + length, BLOCK_BYTES);
    return disk->unreadable != NULL && bitmap_find_set(disk->unreadable, end, first) < end;
}

static enum io_status get(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    memset(operation->payload, 0, operation->length);
    uint32_t depth = replica_layer_or_depth(operation->argument), seed = replica_seed(operation->argument);
    switch (replica_verb(operation->argument)) {
    case REPLICA_STATUS: {
        struct replica_status status = {
            .incarnation = disk->incarnation, .size = disk->size, .tree_sequence = disk->tree_sequence};
        if (disk->has_record)
            status.record = disk->record;
        status.flags = (disk->has_record ? REPLICA_HAS_RECORD : 0u) | (disk->claim_association != 0 ? REPLICA_CLAIMED : 0u) |
                       (is_mine(operation) ? REPLICA_CLAIM_YOURS : 0u) | (disk->untouched ? REPLICA_UNTOUCHED : 0u) |
                       (disk->read_only ? 0u : REPLICA_CAN_WRITE);
        memcpy(operation->payload, &status, min_u64(operation->length, sizeof(status)));
        return IO_OK;
    }
    case REPLICA_MARKS:
        for (uint64_t i = 0; i < operation->length * 8; i++) {
            uint64_t region = operation->offset * 8 + i;
            if (region < regions_of(disk) && disk->marks[region] != 0 && disk->marks[region] >= depth)
                operation->payload[i / 8] |= (uint8_t)(1u << i % 8);
        }
        return IO_OK;
    case REPLICA_OWNED:
        if (disk->owned == NULL)
            return IO_UNSUPPORTED;
        for (uint64_t i = 0; i < operation->length * 8; i++)
            if (operation->offset * 8 + i < regions_of(disk) && bitmap_test(disk->owned, operation->offset * 8 + i))
                operation->payload[i / 8] |= (uint8_t)(1u << i % 8);
        return IO_OK;
    case REPLICA_SUMS:
        if (cannot_be_read(disk, operation->offset, operation->length / 8 * BLOCK_BYTES))
            return IO_MEDIUM_READ;
        for (uint64_t i = 0; i < operation->length / 8; i++) {
            uint64_t offset = operation->offset + i * BLOCK_BYTES;
            if (offset + BLOCK_BYTES > disk->size)
                return IO_OUT_OF_RANGE;
            put_le64(operation->payload + i * 8, block_sum(disk->bytes + offset, BLOCK_BYTES, offset / BLOCK_BYTES, seed));
        }
        return IO_OK;
    default: return IO_UNSUPPORTED;
    }
}

static void change(struct replica_disk *disk, uint64_t offset, uint64_t length, const uint8_t *from) {
    if (from != NULL)
        memcpy(disk->bytes + offset, from, length);
    else
        memset(disk->bytes + offset, 0, length);
    if (disk->unreadable != NULL && !disk->stays_unreadable)
        bitmap_clear_range(disk->unreadable, offset / BLOCK_BYTES, divide_up(length, BLOCK_BYTES));
    bitmap_set_range(disk->dirty, offset / BLOCK_BYTES, divide_up(length, BLOCK_BYTES));
    disk->untouched = false;
    disk->writes++;
}

static void flush(struct replica_disk *disk) {
    for (uint64_t block = 0; (block = bitmap_find_set(disk->dirty, disk->size / BLOCK_BYTES, block)) < disk->size / BLOCK_BYTES;
         block++) {
        memcpy(disk->durable + block * BLOCK_BYTES, disk->bytes + block * BLOCK_BYTES, BLOCK_BYTES);
        bitmap_clear(disk->dirty, block);
    }
}

static bool writes(const struct operation *operation) {
    return operation->op == BLOCK_WRITE || operation->op == BLOCK_TRIM || operation->op == BLOCK_WRITE_ZEROES;
}

/* True if the write waits for its mark: the next step looks again. */
static bool needs_mark(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    bool below = false;
    if ((operation->flags & BLOCK_UNMARKED) != 0 && disk->record.state == REPLICA_SYNCING && disk->record.base.depth == 0)
        return false;
    if (!disk->has_record || (disk->canaries & REPLICA_MARK_AFTER_DATA) != 0)
        return false;
    uint64_t first = operation->offset / REPLICA_REGION_BYTES;
    uint64_t last = (operation->offset + operation->length - 1) / REPLICA_REGION_BYTES;
    for (uint64_t region = first; region <= last; region++)
        below = below || disk->marks[region] < disk->record.epoch.depth;
    if (!below)
        return false;
    at(disk, "before the mark of a write");
    mark(disk, first, last - first + 1, disk->record.epoch.depth);
    at(disk, "after the mark of a write");
    return true;
}

static enum io_status run(struct operation *operation) {
    struct replica_disk *disk = operation->disk;
    switch ((enum block_op)operation->op) {
    case BLOCK_READ:
        at(disk, "before read");
        if (cannot_be_read(disk, operation->offset, operation->length))
            return IO_MEDIUM_READ;
        memcpy(operation->payload, disk->bytes + operation->offset, operation->length);
        return IO_OK;
    case BLOCK_WRITE:
        if (disk->full || (disk->cramped && disk->kept))
            return IO_NO_SPACE;
        if (!disk->fail_write || disk->torn)
            change(disk, operation->offset, operation->length, operation->payload);
        if (disk->fail_write) {
            disk->fail_write = false;
            return IO_MEDIUM_WRITE;
        }
        break;
    case BLOCK_TRIM:
    case BLOCK_WRITE_ZEROES: change(disk, operation->offset, operation->length, NULL); break;
    case BLOCK_FLUSH:
        if (disk->fail_flush) {
            disk->fail_flush = false;
            return disk->cramped ? IO_NO_SPACE : IO_MEDIUM_WRITE;
        }
        at(disk, "before flush");
        flush(disk);
        return IO_OK;
    case BLOCK_REPLICA_PUT: return put(operation);
    case BLOCK_REPLICA_GET: return get(operation);
    default: return IO_UNSUPPORTED;
    }
    if ((operation->flags & BLOCK_FUA) != 0)
        flush(disk);
    return IO_OK;
}

bool replica_disk_step(struct replica_disk *disk) {
    if (disk->hung || !disk->up || disk->operation_count == 0)
        return false;
    uint64_t skip = random_below(&disk->random, disk->operation_count);
    struct operation *operation = NULL;
    list_for_each (&disk->operations, struct operation, each, node)
        if (skip-- == 0) {
            operation = each;
            break;
        }
    switch (operation->place) {
    case IN_NETWORK:
        operation->status = admit(operation);
        operation->place = operation->status == IO_OK ? IN_REPLICA : ON_THE_WAY_BACK;
        return true;
    case IN_REPLICA:
    case MARKED:
        if (operation->op == BLOCK_REPLICA_PUT && replica_verb(operation->argument) == REPLICA_CLAIM &&
            (disk->canaries & REPLICA_FENCE_BY_NUMBER) == 0 && others_at_work(operation))
            return false;
        if (writes(operation) && operation->length > 0 && needs_mark(operation)) {
            operation->place = MARKED;
            return true;
        }
        operation->status = run(operation);
        operation->place = ON_THE_WAY_BACK;
        return true;
    case ON_THE_WAY_BACK: answer(operation, operation->status); return true;
    }
    return false;
}

/* ---- what happens to it ---- */

static void lose_connections(struct replica_disk *disk, const struct replica_view *only) {
    list_for_each_safe (&disk->operations, struct operation, operation, node) {
        if (only != NULL && operation->view != only)
            continue;
        bool arrives = operation->place != ON_THE_WAY_BACK && random_chance(&disk->random, 1, 2);
        bool inside = operation->place == IN_REPLICA || operation->place == MARKED;
        if (operation->request != NULL && (arrives || inside)) {
            struct block_request *request = operation->request;
            request->status = IO_PATH_LOST;
            request->message.run = complete;
            struct reactor *home = operation->view->device.home;
            reactor_post(home != NULL ? home : block_channel_reactor(request->channel), &request->message);
            operation->request = NULL;
            operation->view = NULL;
        } else if (operation->request != NULL) {
            answer(operation, IO_PATH_LOST);
        } else if (!arrives && !inside) {
            operation_free(operation);
        }
    }
}

void replica_disk_cut(struct replica_disk *disk, bool lose) {
    lose_connections(disk, NULL);
    list_for_each_safe (&disk->operations, struct operation, operation, node) {
        if (operation->place == MARKED && random_chance(&disk->random, 1, 2))
            (void)run(operation); /* it was just being written */
        if (operation->place != IN_NETWORK)
            operation_free(operation);
    }
    uint64_t blocks = disk->size / BLOCK_BYTES;
    for (uint64_t block = 0; (block = bitmap_find_set(disk->dirty, blocks, block)) < blocks; block++) {
        if (lose && random_chance(&disk->random, 1, 2))
            memcpy(disk->bytes + block * BLOCK_BYTES, disk->durable + block * BLOCK_BYTES, BLOCK_BYTES);
        else
            memcpy(disk->durable + block * BLOCK_BYTES, disk->bytes + block * BLOCK_BYTES, BLOCK_BYTES);
        bitmap_clear(disk->dirty, block);
    }
    disk->incarnation = random_u64(&disk->random) | 1;
    disk->claim_association = disk->claim_view = 0;
    disk->fail_flush = disk->hung = false;
    disk->cuts++;
}

/* ---- views ---- */

static void submit(struct block_channel *channel, struct block_request *request) {
    struct replica_view *view = container_of(block_channel_device(channel), struct replica_view, device);
    struct replica_disk *disk = view->disk;
    if (view->broken || !disk->up) {
        block_complete_later(request, IO_PATH_LOST);
        return;
    }
    struct operation *operation = plain_alloc(sizeof(*operation));
    *operation = (struct operation){.disk = disk,
                                    .view = view,
                                    .request = request,
                                    .view_number = view->number,
                                    .association = block_request_association(request),
                                    .op = request->op,
                                    .flags = request->flags,
                                    .offset = request->offset,
                                    .length = request->length,
                                    .argument = request->argument};
    operation->payload = plain_alloc(request->length + 8);
    if ((request->op == BLOCK_WRITE || request->op == BLOCK_REPLICA_PUT) && request->length > 0)
        slice_copy_out(request->slices, request->slice_count, 0, operation->payload, request->length);
    assert(is_document(operation) || range_inside(request->offset, request->length, disk->size));
    list_push_back(&disk->operations, &operation->node);
    disk->operation_count++;
}

static void destroy(struct block_device *device) {
    struct replica_view *view = container_of(device, struct replica_view, device);
    list_remove(&view->node);
    plain_free(view);
}

static const struct block_device_ops ops = {.kind = "replica", .product_name = "replica", .submit = submit, .destroy = destroy};

struct replica_view *replica_view_create(struct replica_disk *disk, struct block_graph *graph, struct reactor *home) {
    struct replica_view *view = plain_alloc(sizeof(*view));
    *view = (struct replica_view){.disk = disk};
    view->number = random_u64(&disk->random) | 1;
    list_push_back(&disk->views, &view->node);
    struct block_device *device = &view->device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", disk->name);
    device->block_size = 512;
    device->physical_block_size = BLOCK_BYTES;
    atomic_store(&device->block_count, disk->size / 512);
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES);
    if (!disk->plain)
        device->native_ops |= BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET);
    device->native_fua = device->volatile_cache = device->trim_reads_zero = true;
    device->home = home;
    struct error error = {0};
    if (!block_device_register(graph, device, &error)) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return view;
}

struct block_device *replica_view_device(struct replica_view *view) {
    return &view->device;
}

void replica_view_break(struct replica_view *view) {
    view->broken = true;
    lose_connections(view->disk, view);
}

void replica_view_mend(struct replica_view *view) { view->broken = false; }

static void die(struct replica_view *view) {
    struct replica_disk *disk = view->disk;
    list_for_each_safe (&disk->operations, struct operation, operation, node) {
        if (operation->view != view)
            continue;
        operation->view = NULL;
        operation->request = NULL;
        if (operation->place == IN_NETWORK && random_chance(&disk->random, 1, 2))
            operation_free(operation);
    }
    plain_free(view);
}

void replica_view_forsake(struct replica_view *view) {
    list_remove(&view->node);
    die(view);
}

void replica_disk_forsake(struct replica_disk *disk) {
    for (struct list_node *node; (node = list_pop_front(&disk->views)) != NULL;)
        die(list_entry(node, struct replica_view, node));
}
