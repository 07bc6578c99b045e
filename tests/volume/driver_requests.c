/* Requests of the driver: what is drawn, sent, and expected of the answer. */
#include "driver_internal.h"

#include <stdlib.h>

static void read_ended(struct slot *slot) {
    struct driver *driver = slot->driver;
    uint32_t content[DRIVER_BUFFER / MODEL_SECTOR], bad;
    model_unstamp(driver->model, slot->buffer, slot->first, slot->count, true, content);
    if (!model_read_ok(driver->model, slot->node, slot->first, slot->count, slot->completed, MODEL_NEVER, content, &bad))
        driver_fail(driver, "a read of node %u, sector %u, shows %u, which must not be seen (later than %u is there)", slot->node,
                    bad, content[bad - slot->first], slot->completed[bad - slot->first]);
}

static enum model_result result_of(struct driver *driver, enum io_status status) {
    switch (status) {
    case IO_OK: return MODEL_OK;
    case IO_NO_SPACE: return driver_faults_planted(driver) ? MODEL_FAILED : MODEL_UNDONE; /* the disk's own comes late */
    case IO_OUT_OF_RANGE:
    case IO_INVALID: return MODEL_UNDONE;
    default:
        driver->store_failed = true;
        if (!driver_faults_planted(driver))
            driver_fail(driver, "a request gave %s", io_status_name(status));
        return MODEL_FAILED;
    }
}

static void request_done(struct block_request *request) {
    struct slot *slot = container_of(request, struct slot, request);
    struct driver *driver = slot->driver;
    enum io_status status = (enum io_status)request->status;
    uint32_t at = driver_now(driver);
    enum model_result result = result_of(driver, status);
    switch (slot->action) {
    case ACTION_READ:
        if (status == IO_OK)
            read_ended(slot);
        break;
    case ACTION_FLUSH: model_flushed(driver->model, slot->node, slot->flush, at, status == IO_OK); break;
    default:
        for (uint32_t i = 0; i < slot->operations; i++)
            model_written(driver->model, slot->operation[i], at, result);
    }
    bool durability = slot->action == ACTION_FLUSH || (request->flags & BLOCK_FUA) != 0;
    if (slot->after_failure && status == IO_OK && durability)
        driver_fail(driver, "a %s succeeded although a flush of the disk had failed before it began", action_name(slot->action));
    if (status == IO_OK)
        driver->done[slot->action]++;
    else if (result == MODEL_UNDONE)
        driver->refused[slot->action]++;
    else
        driver->failed[slot->action]++;
    driver->targets[slot->node].busy--;
    plain_free(slot->completed);
    slot->completed = NULL;
    slot->busy = false;
    driver->busy--;
}

uint32_t driver_pick(struct driver *driver, bool snapshots, bool idle_only) {
    uint32_t chosen = NO_NODE, seen = 0;
    for (uint32_t i = 0; i < driver->model->node_count; i++) {
        const struct target *target = &driver->targets[i];
        if (!target->open || target->leaving || target->filler || (idle_only && target->reserved) ||
            (target->snapshot && (!snapshots || driver->model->nodes[i].exact == NULL)))
            continue; /* a new snapshot is first read by whoever made it */
        if (driver_draw(driver, ++seen) == 0)
            chosen = i;
    }
    return chosen;
}
uint32_t driver_pick_snapshot(struct driver *driver) {
    uint32_t chosen = NO_NODE, seen = 0;
    for (uint32_t i = 0; i < driver->model->node_count; i++) {
        const struct target *target = &driver->targets[i];
        if (target->open && target->snapshot && !target->leaving && !target->reserved && driver->model->nodes[i].exact != NULL &&
            driver_draw(driver, ++seen) == 0) /* what could not be read after its creation says nothing of a clone */
            chosen = i;
    }
    return chosen;
}

static void range(struct driver *driver, struct slot *slot, uint64_t bytes, uint64_t grain, uint64_t longest) {
    grain = max_u64(grain, driver->workload->store.disk.block_size);
    uint64_t grains = bytes / grain, count = 1 + driver_draw(driver, longest);
    if (driver_chance(driver, driver->workload->hot_percent))
        grains = min_u64(grains, KIB(48) / grain);
    count = min_u64(count, grains);
    slot->first = (uint32_t)(driver_draw(driver, grains - count + 1) * grain / MODEL_SECTOR);
    slot->count = (uint32_t)(count * grain / MODEL_SECTOR);
    if (longest * 512 <= DRIVER_BUFFER) /* it has a payload */
        slot->count = min_u32(slot->count, DRIVER_BUFFER / MODEL_SECTOR);
}

/* The payload in one to three pieces. */
static void slices(struct driver *driver, struct slot *slot, uint64_t length) {
    uint64_t done = 0;
    slot->request.slices = slot->slices;
    slot->request.slice_count = 0;
    while (done < length) {
        uint64_t n = length - done;
        if (slot->request.slice_count < 2 && driver_chance(driver, 20))
            n = (1 + driver_draw(driver, n / MODEL_SECTOR)) * MODEL_SECTOR;
        slot->slices[slot->request.slice_count++] = (struct slice){slot->buffer + done, n};
        done += n;
    }
}

/* What a trim surely zeroes (whole blocks) and what it may. */
static void trim_parts(struct driver *driver, struct slot *slot, uint32_t at, bool fua) {
    uint32_t first = slot->first, end = slot->first + slot->count;
    uint32_t inner = (uint32_t)round_up(first, SECTORS_PER_BLOCK), outer = (uint32_t)round_down(end, SECTORS_PER_BLOCK);
    struct model *model = driver->model;
    if (inner >= outer || driver->workload->filler_free != 0) { /* with the store full, a trim gives up what it can */
        slot->operation[slot->operations++] = model_write(model, at, slot->node, MODEL_MAYBE_ZERO, false, first, end - first);
        return;
    }
    if (first < inner)
        slot->operation[slot->operations++] = model_write(model, at, slot->node, MODEL_MAYBE_ZERO, false, first, inner - first);
    slot->operation[slot->operations++] = model_write(model, at, slot->node, MODEL_ZERO, fua, inner, outer - inner);
    if (outer < end)
        slot->operation[slot->operations++] = model_write(model, at, slot->node, MODEL_MAYBE_ZERO, false, outer, end - outer);
}

bool driver_request_begin(struct driver *driver, struct slot *slot, enum action action) {
    uint32_t node = driver_pick(driver, action == ACTION_READ, false);
    if (node == NO_NODE)
        return false;
    struct target *target = &driver->targets[node];
    uint64_t bytes = target->bytes;
    bool fua = action != ACTION_READ && action != ACTION_FLUSH && driver_chance(driver, driver->workload->fua_percent);
    slot->node = node;
    slot->action = action;
    slot->operations = 0;
    slot->request = (struct block_request){.complete = request_done, .flags = fua ? BLOCK_FUA : 0};
    switch (action) {
    case ACTION_WRITE: range(driver, slot, bytes, 4096, 8); break;
    case ACTION_BIGWRITE: range(driver, slot, bytes, 4096, 32); break;
    case ACTION_SUBWRITE: range(driver, slot, bytes, 512, 12); break;
    case ACTION_READ: range(driver, slot, bytes, 512, 200); break;
    case ACTION_ZERO: range(driver, slot, bytes, driver_chance(driver, 50) ? 4096 : 512, 60); break;
    case ACTION_TRIM: range(driver, slot, bytes, driver_chance(driver, 80) ? 4096 : 512, 60); break;
    default: slot->first = slot->count = 0;
    }
    uint64_t length = (uint64_t)slot->count * MODEL_SECTOR;
    slot->request.offset = (uint64_t)slot->first * MODEL_SECTOR;
    slot->request.length = length;
    uint32_t at = driver_now(driver);
    slot->after_failure = driver_flush_has_failed(driver);
    switch (action) {
    case ACTION_READ:
        slot->request.op = BLOCK_READ;
        slices(driver, slot, length);
        memset(slot->buffer, 0xee, length);
        slot->completed = plain_alloc(slot->count * sizeof(uint32_t));
        for (uint32_t i = 0; i < slot->count; i++)
            slot->completed[i] = slot->first + i < driver->model->live.nodes[node].count
                                     ? driver->model->live.nodes[node].completed[slot->first + i]
                                     : 0;
        break;
    case ACTION_FLUSH:
        slot->request.op = BLOCK_FLUSH;
        slot->flush = model_flush(driver->model, at, node);
        break;
    case ACTION_TRIM:
        slot->request.op = BLOCK_TRIM;
        trim_parts(driver, slot, at, fua);
        break;
    case ACTION_ZERO:
        slot->request.op = BLOCK_WRITE_ZEROES;
        slot->request.flags |= driver_chance(driver, 50) ? BLOCK_MAY_TRIM : 0;
        slot->operation[slot->operations++] = model_write(driver->model, at, node, MODEL_ZERO, fua, slot->first, slot->count);
        break;
    default:
        slot->request.op = BLOCK_WRITE;
        slot->operation[slot->operations++] = model_write(driver->model, at, node, MODEL_WRITE, fua, slot->first, slot->count);
        model_stamp(driver->model, node, slot->operation[0], slot->first, slot->buffer, slot->count);
        slices(driver, slot, length);
    }
    target->busy++;
    slot->busy = true;
    driver->busy++;
    block_submit(target->port.channel, &slot->request);
    return true;
}
