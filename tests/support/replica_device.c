#include "replica_device.h"

#include <stdio.h>
#include <stdlib.h>

static bool names_mirror(const struct replica_device *replica, const struct uuid *mirror) {
    return replica->has_record && uuid_equal(mirror, &replica->record.mirror);
}

/* Who comes without the claim: superseded by another engine, or not. */
static enum io_status unclaimed(const struct replica_device *replica, uint64_t association) {
    for (unsigned i = 0; i < REPLICA_DEVICE_CLAIMS; i++)
        if (replica->claims[i] == association)
            return uuid_equal(&replica->claimants[i], &replica->record.promised_engine) ? IO_NOT_READY : IO_FENCED;
    return IO_NOT_READY;
}

static enum io_status claim(struct replica_device *replica, uint64_t association, const void *document, size_t length) {
    const struct replica_claim *claim = document;
    struct replica_record *record = &replica->record;
    if (length != sizeof(*claim) || uuid_is_nil(&claim->engine) || claim->term == 0)
        return IO_INVALID;
    if (!replica->has_record) {
        if (uuid_is_nil(&claim->leg) || uuid_is_nil(&claim->mirror))
            return IO_INVALID;
        *record = (struct replica_record){.magic = REPLICA_RECORD_MAGIC,
                                          .version = REPLICA_RECORD_VERSION,
                                          .mirror = claim->mirror,
                                          .leg = claim->leg,
                                          .state = REPLICA_WHOLE,
                                          .policy = REPLICA_ANY};
        replica->has_record = true;
    }
    bool same = uuid_equal(&claim->engine, &record->promised_engine);
    if (!names_mirror(replica, &claim->mirror))
        return IO_INVALID;
    if (claim->term < record->promised_term || (claim->term == record->promised_term && !same) ||
        (same && claim->attempt <= record->promised_attempt))
        return IO_FENCED;
    record->promised_term = claim->term;
    record->promised_attempt = claim->attempt;
    record->promised_engine = claim->engine;
    replica->claimed = association;
    unsigned place = replica->claim_count++ % REPLICA_DEVICE_CLAIMS;
    for (unsigned i = 0; i < REPLICA_DEVICE_CLAIMS; i++)
        if (replica->claims[i] == association) /* only its last engine counts */
            place = i;
    replica->claims[place] = association;
    replica->claimants[place] = claim->engine;
    return IO_OK;
}

static enum io_status mark(struct replica_device *replica, const struct replica_ranges *ranges, size_t length, uint64_t depth) {
    uint64_t regions = block_device_size(&replica->device) / REPLICA_REGION_BYTES;
    if (replica_ranges_check(ranges, length) != NULL)
        return IO_INVALID;
    for (uint32_t i = 0; i < ranges->count; i++)
        if (!range_inside(ranges->ranges[i].first, ranges->ranges[i].count, regions))
            return IO_INVALID;
    for (uint32_t i = 0; i < ranges->count; i++)
        for (uint64_t region = 0; region < ranges->ranges[i].count; region++)
            replica->marks[ranges->ranges[i].first + region] = depth;
    for (uint64_t region = 0; region < regions && (ranges->flags & REPLICA_ALL_REGIONS) != 0; region++)
        replica->marks[region] = depth;
    return IO_OK;
}

static enum io_status store(struct replica_device *replica, const struct replica_store *store, size_t length) {
    if (length < sizeof(*store) || replica_record_check(&store->record) != NULL || !names_mirror(replica, &store->record.mirror))
        return IO_INVALID;
    enum io_status status =
        mark(replica, &store->marks, length - offsetof(struct replica_store, marks), store->record.epoch.depth);
    if (status != IO_OK)
        return status;
    struct replica_record before = replica->record;
    replica->record = store->record;
    replica->record.promised_term = before.promised_term;
    replica->record.promised_attempt = before.promised_attempt;
    replica->record.promised_engine = before.promised_engine;
    return IO_OK;
}

static enum io_status put(struct replica_device *replica, struct block_request *request) {
    static_assert(REPLICA_DOCUMENT_MAX % 8 == 0, "as a count of words");
    uint64_t words[REPLICA_DOCUMENT_MAX / 8];
    uint64_t association = block_request_association(request);
    size_t length = request->length;
    unsigned verb = replica_verb(request->argument);
    replica->puts++;
    if (length > sizeof(words))
        return IO_INVALID;
    slice_copy_out(request->slices, request->slice_count, 0, words, length);
    if (verb == REPLICA_CLAIM)
        return claim(replica, association, words, length);
    if (replica->claimed != association)
        return unclaimed(replica, association);
    switch (verb) {
    case REPLICA_RELEASE:
        if (length != 0)
            return IO_INVALID;
        replica->claimed = 0;
        return IO_OK;
    case REPLICA_STORE: return store(replica, (void *)words, length);
    case REPLICA_MARK: return mark(replica, (void *)words, length, replica->record.epoch.depth);
    case REPLICA_CLEAR: return mark(replica, (void *)words, length, 0);
    case REPLICA_TREE:
        if (length > sizeof(replica->tree))
            return IO_INVALID;
        replica->tree_length = length;
        memcpy(replica->tree, words, length);
        return IO_OK;
    case REPLICA_FORGET:
        if (length != sizeof(struct uuid) || !names_mirror(replica, (void *)words))
            return IO_INVALID;
        replica->has_record = false;
        replica->record = (struct replica_record){0};
        replica->claimed = 0;
        return IO_OK;
    default: return IO_UNSUPPORTED;
    }
}

uint64_t replica_device_sum(const struct replica_device *replica, uint64_t block, uint32_t seed) {
    return hash_u64(get_le64(replica->bytes + block * REPLICA_BLOCK_BYTES) + block * 31 + seed);
}

/* Answers with [offset, …) of `bytes`, zeros behind them. */
static enum io_status part(struct block_request *request, const void *bytes, uint64_t size) {
    uint64_t length = request->offset < size ? min_u64(request->length, size - request->offset) : 0;
    if (length > 0)
        slice_copy_in(request->slices, request->slice_count, 0, (const char *)bytes + request->offset, length);
    return IO_OK;
}

static enum io_status sums(struct replica_device *replica, struct block_request *request) {
    uint64_t first = request->offset / REPLICA_BLOCK_BYTES, count = request->length / 8;
    if (request->offset % REPLICA_BLOCK_BYTES != 0 || request->length % 8 != 0 ||
        !range_inside(first, count, block_device_size(&replica->device) / REPLICA_BLOCK_BYTES))
        return IO_INVALID;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t sum = replica_device_sum(replica, first + i, replica_seed(request->argument));
        slice_copy_in(request->slices, request->slice_count, i * 8, &sum, 8);
    }
    return IO_OK;
}

static enum io_status marks(struct replica_device *replica, struct block_request *request, uint32_t depth) {
    uint64_t regions = block_device_size(&replica->device) / REPLICA_REGION_BYTES;
    for (uint64_t i = 0; i < request->length; i++) {
        uint8_t byte = 0;
        for (unsigned bit = 0; bit < 8; bit++) {
            uint64_t region = (request->offset + i) * 8 + bit;
            if (region < regions && replica->marks[region] != 0 && replica->marks[region] >= depth)
                byte |= (uint8_t)(1u << bit);
        }
        slice_copy_in(request->slices, request->slice_count, i, &byte, 1);
    }
    return IO_OK;
}

static enum io_status get(struct replica_device *replica, struct block_request *request) {
    uint64_t association = block_request_association(request), argument = request->argument;
    replica->gets++;
    replica->largest_get = max_u32(replica->largest_get, (uint32_t)request->length);
    if (replica_verb(argument) == REPLICA_STATUS) {
        struct replica_status status = {
            .record = replica->record, .incarnation = 77, .size = block_device_size(&replica->device)};
        status.flags = (replica->has_record ? REPLICA_HAS_RECORD : 0) | (replica->claimed != 0 ? REPLICA_CLAIMED : 0) |
                       (replica->claimed == association ? REPLICA_CLAIM_YOURS : 0);
        return part(request, &status, sizeof(status));
    }
    if (replica->claimed != association)
        return unclaimed(replica, association);
    switch (replica_verb(argument)) {
    case REPLICA_LAYERS: return part(request, replica->tree, replica->tree_length);
    case REPLICA_MARKS: return marks(replica, request, replica_layer_or_depth(argument));
    case REPLICA_OWNED: return marks(replica, request, 0);
    case REPLICA_SUMS: return sums(replica, request);
    case REPLICA_READ: return part(request, replica->bytes, block_device_size(&replica->device));
    default: return IO_UNSUPPORTED;
    }
}

static void submit(struct block_channel *channel, struct block_request *request) {
    struct replica_device *replica = container_of(block_channel_device(channel), struct replica_device, device);
    uint64_t association = block_request_association(request);
    enum io_status status = IO_OK;
    replica->last_association = association;
    if (request->op == BLOCK_REPLICA_PUT || request->op == BLOCK_REPLICA_GET) {
        replica->last_argument = request->argument;
        status = request->op == BLOCK_REPLICA_PUT ? put(replica, request) : get(replica, request);
    } else if (replica->has_record && association != replica->claimed) {
        status = unclaimed(replica, association);
    } else if (request->op == BLOCK_READ) {
        replica->reads++;
        slice_copy_in(request->slices, request->slice_count, 0, replica->bytes + request->offset, request->length);
    } else if (request->op == BLOCK_WRITE) {
        replica->writes++;
        replica->last_write_flags = request->flags;
        slice_copy_out(request->slices, request->slice_count, 0, replica->bytes + request->offset, request->length);
    }
    block_complete_later(request, status);
}

static void destroy(struct block_device *device) {
    struct replica_device *replica = container_of(device, struct replica_device, device);
    free(replica->marks);
    free(replica->bytes);
    free(replica);
}

static const struct block_device_ops ops = {
    .kind = "replica", .product_name = "test replica", .submit = submit, .destroy = destroy};

struct replica_device *replica_device_of(struct block_device *device) {
    return device->ops == &ops ? container_of(device, struct replica_device, device) : NULL;
}

bool replica_device_create(struct block_graph *graph, const char *name, uint32_t block_size, uint64_t size,
                           struct block_device **ret_device) {
    struct replica_device *replica = calloc(1, sizeof(*replica));
    if (replica == NULL)
        return false;
    replica->bytes = calloc(1, size);
    replica->marks = calloc(size / REPLICA_REGION_BYTES + 1, sizeof(*replica->marks));
    struct block_device *device = &replica->device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", name);
    device->block_size = block_size;
    device->block_count = size / block_size;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_REPLICA_PUT) |
                         BLOCK_BIT(BLOCK_REPLICA_GET);
    device->native_fua = device->prompt = true;
    if (replica->bytes == NULL || replica->marks == NULL || !block_device_register(graph, device, NULL)) {
        destroy(device);
        return false;
    }
    *ret_device = device;
    return true;
}
