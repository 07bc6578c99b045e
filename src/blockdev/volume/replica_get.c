/* What a leg tells its mirror: record and state, marks, which regions a layer owns, checksums, and data of layers that are not
 * written any more. */
#include "base/bitmap.h"
#include "base/block_sum.h"
#include "blockdev/volume/replica.h"

#include <stdlib.h>

#define REGION_CLUSTERS (REPLICA_REGION_BYTES / CLUSTER_BYTES)

static void answer(struct volume_op *op, const void *bytes, size_t length) {
    slice_copy_in(op->request->slices, op->request->slice_count, 0, bytes, length);
    op_end(op, IO_OK);
}

static void get_status(struct volume_op *op) {
    const struct volume *volume = op->volume;
    const struct replica *replica = volume->replica;
    const struct layer *layer = volume->layer;
    struct replica_status status = {.incarnation = volume->store->commit.opening_id,
                                    .size = layer_size(layer) << BLOCK_SHIFT,
                                    .tree_sequence = layer_get(layer, LAYER_TREE),
                                    .tree_change = layer_get(layer, LAYER_CHANGE),
                                    .waits = volume->under_way[volume->generation ^ 1]};
    if (op->request->length != sizeof(status) || op->request->offset != 0) {
        op_end(op, IO_INVALID);
        return;
    }
    if (replica != NULL) {
        status.record = replica->record;
        bool claimed = replica->holder != 0 && block_graph_association_lives(volume->device.graph, replica->holder);
        status.flags |= REPLICA_HAS_RECORD | (claimed ? REPLICA_CLAIMED : 0u);
        status.flags |= replica_admits(replica, op->request) == IO_OK ? REPLICA_CLAIM_YOURS : 0u;
        status.flags |= layer_get(replica->marks, LAYER_TREE) != 0 ? REPLICA_HAS_FLOOR : 0u;
    }
    status.flags |= (volume->replica != NULL ? volume->replica->unproven : volume->store->unproven) ? REPLICA_UNPROVEN : 0u;
    if (layer->parent == NULL && layer_get(layer, LAYER_USED) == 0 && layer_get(layer, LAYER_NODES) == 0)
        status.flags |= REPLICA_UNTOUCHED;
    if (!store_frozen(volume->store) && !volume->read_only)
        status.flags |= REPLICA_CAN_WRITE;
    answer(op, &status, sizeof(status));
}

/* ---- bitmaps: op->cursor is the next region; the answer is collected in op->buffer ---- */

static uint64_t bitmap_first(const struct volume_op *op) { return op->request->offset * 8; }
static uint64_t bitmap_end(const struct volume_op *op, const struct volume *of) {
    uint64_t regions = divide_up(layer_size(of->layer) << BLOCK_SHIFT, REPLICA_REGION_BYTES);
    return min_u64(regions, (op->request->offset + op->request->length) * 8);
}

static bool bitmap_begin(struct volume_op *op, size_t most) {
    if (op->request->length == 0 || op->request->length > most) {
        op_end(op, IO_INVALID);
        return false;
    }
    if (op->buffer == NULL) {
        op->buffer = buffer_take(&op->volume->store->home->buffers, BLOCK_BYTES);
        if (op->buffer == NULL) {
            op_end(op, IO_NO_MEMORY);
            return false;
        }
        memset(op->buffer, 0, BLOCK_BYTES);
        op->cursor = bitmap_first(op);
    }
    return true;
}

static void get_marks(struct volume_op *op) {
    struct replica *replica = op->volume->replica;
    uint32_t least = max_u32(1, replica_layer_or_depth(op->request->argument));
    enum io_status status = IO_OK;
    op->resume = get_marks;
    if (!bitmap_begin(op, REPLICA_MARKS_MAX))
        return;
    for (uint64_t end = bitmap_end(op, op->volume); op->cursor < end; op->cursor++) {
        uint32_t depth;
        enum got got = replica_mark_get(replica, op->cursor, &op->waiter, &depth, &status);
        if (got == FAILED)
            op_fail(op, status);
        if (got != GOT)
            return;
        uint64_t bit = op->cursor - bitmap_first(op);
        op->buffer[bit / 8] |= (uint8_t)((depth >= least) << bit % 8);
    }
    answer(op, op->buffer, op->request->length);
}

/* The volume of a layer: the head, one of its ancestors, or another snapshot of the mirror. NULL: the op is ended. */
static struct volume *layer_asked(struct volume_op *op) {
    uint32_t id = replica_layer_or_depth(op->request->argument);
    if (id == REPLICA_LAYER_HEAD)
        return op->volume;
    for (const struct layer *layer = op->volume->layer->parent; layer != NULL; layer = layer->parent)
        if (layer->id == id && layer->volume != NULL)
            return layer->volume;
    struct layer *layer = id < LAYERS_MAX ? op->volume->store->layer_by_id[id] : NULL;
    struct replica_snapshot snapshot;
    if (layer != NULL && layer->volume != NULL && replica_snapshot_of(layer, op->volume->replica, &snapshot))
        return layer->volume;
    op_end(op, IO_DEVICE_GONE);
    return NULL;
}

/* Whether a layer, or one between it and the mirror's next snapshot below, holds or hides anything of a region. */
static enum got region_owned(struct volume_op *op, struct layer *layer, const struct layer *below, bool *ret_owned,
                             enum io_status *ret_status) {
    *ret_owned = false;
    for (; layer != below && !*ret_owned; layer = layer->parent)
        for (uint64_t cluster = op->cursor * REGION_CLUSTERS; cluster < (op->cursor + 1) * REGION_CLUSTERS && !*ret_owned;
             cluster++) {
            uint64_t word;
            enum got got = map_get(op->volume->store, layer, (uint32_t)cluster, &op->waiter, &word, ret_status);
            if (got != GOT)
                return got;
            *ret_owned = word != 0 || layer_hidden_by_limit(layer, (uint32_t)cluster) != 0;
        }
    return GOT;
}

static void get_owned(struct volume_op *op) {
    struct volume *of = layer_asked(op);
    enum io_status status = IO_OK;
    op->resume = get_owned;
    if (of == NULL || !bitmap_begin(op, REPLICA_OWNED_MAX))
        return;
    struct replica_snapshot snapshot;
    const struct layer *below = replica_layer_below(op->volume->replica, of->layer, &snapshot);
    uint32_t budget = WALK_STEPS;
    for (uint64_t end = bitmap_end(op, of); op->cursor < end; op->cursor++) {
        bool owned;
        enum got got = region_owned(op, of->layer, below, &owned, &status);
        if (got == FAILED)
            op_fail(op, status);
        if (got != GOT)
            return;
        uint64_t bit = op->cursor - bitmap_first(op);
        op->buffer[bit / 8] |= (uint8_t)(owned << bit % 8);
        budget -= min_u32(budget, REGION_CLUSTERS);
        if (budget == 0 && op->cursor + 1 < end) { /* others' turn */
            op->cursor++;
            op->waiter.wake(&op->waiter, IO_OK);
            return;
        }
    }
    answer(op, op->buffer, op->request->length);
}

/* ---- checksums and data ---- */

/* Reads a layer into a buffer of ours, by a second op whose request is ours as well. */
struct sums {
    struct block_request request;
    struct slice slice;
    struct volume_op *asker;
    uint32_t length;
};

static void sums_read(struct volume_op *op, enum io_status status) {
    struct sums *sums = container_of(op->request, struct sums, request);
    struct volume_op *asker = sums->asker;
    struct reactor *home = asker->volume->store->home;
    if (status == IO_OK) {
        uint64_t *sum = sums->slice.base; /* each block's sum goes where blocks were that have theirs already */
        uint64_t first = asker->request->offset / REPLICA_BLOCK_BYTES;
        for (uint32_t i = 0; i < sums->length / REPLICA_BLOCK_BYTES; i++)
            sum[i] = block_sum((const uint8_t *)sums->slice.base + (size_t)i * REPLICA_BLOCK_BYTES, REPLICA_BLOCK_BYTES,
                               first + i, replica_seed(asker->request->argument));
        slice_copy_in(asker->request->slices, asker->request->slice_count, 0, sum, asker->request->length);
    }
    buffer_give(&home->buffers, sums->slice.base, sums->length);
    free(sums);
    op_end(asker, status);
}

static void get_sums(struct volume_op *op) {
    struct volume *of = layer_asked(op);
    if (of == NULL)
        return;
    uint64_t length = op->request->length / 8 * REPLICA_BLOCK_BYTES;
    if (length == 0 || length > REPLICA_REGION_BYTES || op->request->length % 8 != 0 ||
        op->request->offset % REPLICA_BLOCK_BYTES != 0 ||
        !range_inside(op->request->offset, length, layer_size(of->layer) << BLOCK_SHIFT)) {
        op_end(op, op->request->offset % REPLICA_BLOCK_BYTES == 0 && length > 0 ? IO_OUT_OF_RANGE : IO_INVALID);
        return;
    }
    if (of == op->volume && early_meets(op->volume, op->request->offset, length, &op->waiter)) {
        op->resume = replica_get_start; /* the fence, too */
        return;
    }
    struct volume_store *store = of->store;
    struct sums *sums = calloc(1, sizeof(*sums));
    void *buffer = sums == NULL ? NULL : buffer_take(&store->home->buffers, length);
    struct volume_op *reader = buffer == NULL ? NULL : pool_take(&store->ops);
    if (reader == NULL) { /* passes: the mirror asks again */
        if (buffer != NULL)
            buffer_give(&store->home->buffers, buffer, length);
        free(sums);
        op_end(op, IO_NO_MEMORY);
        return;
    }
    sums->asker = op;
    sums->length = (uint32_t)length;
    sums->slice = (struct slice){buffer, length};
    sums->request = (struct block_request){.op = BLOCK_READ,
                                           .slices = &sums->slice,
                                           .slice_count = 1,
                                           .offset = op->request->offset,
                                           .length = length,
                                           .channel = op->request->channel};
    op_read_inside(reader, op->volume, of == op->volume ? NULL : of->layer, &sums->request, sums_read);
}

static void get_data(struct volume_op *op) {
    struct volume *of = layer_asked(op);
    const struct block_request *request = op->request;
    if (of == NULL)
        return;
    if (of == op->volume || ((request->offset | request->length) & (BLOCK_BYTES - 1)) != 0 ||
        !slice_aligned(request->slices, request->slice_count, max_u32(1, op->volume->device.memory_alignment))) {
        op_end(op, IO_INVALID);
        return;
    }
    if (!range_inside(request->offset, request->length, layer_size(of->layer) << BLOCK_SHIFT)) {
        op_end(op, IO_OUT_OF_RANGE);
        return;
    }
    op->reads = of->layer;
    op->reads->busy++;
    read_start(op);
}

static void get_pairs(struct volume_op *op) {
    const struct volume *of = layer_asked(op);
    if (of != NULL)
        replica_get_pairs(op, of);
}

void replica_get_start(struct volume_op *op) {
    const struct replica *replica = op->volume->replica;
    unsigned verb = replica_verb(op->request->argument);
    if (verb == REPLICA_STATUS) {
        get_status(op);
        return;
    }
    enum io_status status = replica == NULL ? IO_UNSUPPORTED : replica_admits(replica, op->request);
    if (status != IO_OK)
        op_end(op, status);
    else if (verb == REPLICA_MARKS)
        get_marks(op);
    else if (verb == REPLICA_LAYERS)
        replica_get_layers(op);
    else if (verb == REPLICA_OWNED)
        get_owned(op);
    else if (verb == REPLICA_SUMS)
        get_sums(op);
    else if (verb == REPLICA_READ)
        get_data(op);
    else if (verb == REPLICA_PAIRS)
        get_pairs(op);
    else
        op_end(op, IO_UNSUPPORTED);
}
