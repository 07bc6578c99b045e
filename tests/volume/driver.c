#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SECTORS_PER_BLOCK 8u
#define NO_NODE MODEL_NODES_MAX
#define TURNS_MAX 4000000

const char *action_name(enum action action) {
    static const char *const names[ACTION_COUNT] = {
        [ACTION_WRITE] = "write",
        [ACTION_SUBWRITE] = "subwrite",
        [ACTION_BIGWRITE] = "bigwrite",
        [ACTION_READ] = "read",
        [ACTION_ZERO] = "zero",
        [ACTION_TRIM] = "trim",
        [ACTION_FLUSH] = "flush",
        [ACTION_IDLE] = "idle",
        [ACTION_SNAPSHOT] = "snapshot",
        [ACTION_CLONE] = "clone",
        [ACTION_REVERT] = "revert",
        [ACTION_DELETE_SNAPSHOT] = "delete-snapshot",
        [ACTION_DELETE_VOLUME] = "delete-volume",
        [ACTION_CREATE] = "create",
        [ACTION_RESIZE] = "resize",
        [ACTION_RENAME] = "rename",
        [ACTION_ATTRIBUTE] = "attribute",
        [ACTION_INFLATE] = "inflate",
        [ACTION_DECOUPLE] = "decouple",
        [ACTION_GROW] = "grow",
    };
    return names[action];
}

static void fail(struct driver *driver, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct driver *driver, const char *format, ...) {
    if (driver->failure[0] != '\0')
        return; /* the first one counts */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(driver->failure, sizeof(driver->failure), format, arguments);
    va_end(arguments);
}

static uint32_t now(struct driver *driver) { return disk_mark(driver->session->disk); }
static uint64_t draw(struct driver *driver, uint64_t bound) { return random_below(&driver->random, bound); }
static bool chance(struct driver *driver, unsigned percent) { return random_chance(&driver->random, percent, 100); }

static bool faults_planted(const struct driver *driver) {
    for (unsigned i = 0; i < DISK_FAULT_COUNT; i++)
        if (driver->workload->fail_at[i] != 0)
            return true;
    return driver->session->world.heap.fail_at != 0;
}

/* ---- requests ---- */

static bool flush_has_failed(const struct driver *driver) { return driver->session->disk->failed[DISK_FAULT_FLUSH] > 0; }

static void read_ended(struct slot *slot) {
    struct driver *driver = slot->driver;
    uint32_t content[DRIVER_BUFFER / MODEL_SECTOR], bad;
    model_unstamp(driver->model, slot->buffer, slot->first, slot->count, true, content);
    if (!model_read_ok(driver->model, slot->node, slot->first, slot->count, slot->completed, MODEL_NEVER, content, &bad))
        fail(driver, "a read of node %u, sector %u, shows %u, which must not be seen (later than %u is there)", slot->node, bad,
             content[bad - slot->first], slot->completed[bad - slot->first]);
}

static enum model_result result_of(struct driver *driver, enum io_status status) {
    switch (status) {
    case IO_OK: return MODEL_OK;
    case IO_NO_SPACE: return faults_planted(driver) ? MODEL_FAILED : MODEL_UNDONE; /* the disk's own comes late */
    case IO_OUT_OF_RANGE:
    case IO_INVALID: return MODEL_UNDONE;
    default:
        driver->store_failed = true;
        if (!faults_planted(driver))
            fail(driver, "a request gave %s", io_status_name(status));
        return MODEL_FAILED;
    }
}

static void request_done(struct block_request *request) {
    struct slot *slot = container_of(request, struct slot, request);
    struct driver *driver = slot->driver;
    enum io_status status = (enum io_status)request->status;
    uint32_t at = now(driver);
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
        fail(driver, "a %s succeeded although a flush of the disk had failed before it began", action_name(slot->action));
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

/* Any open volume, or also a snapshot. */
static uint32_t pick(struct driver *driver, bool snapshots, bool idle_only) {
    uint32_t chosen = NO_NODE, seen = 0;
    for (uint32_t i = 0; i < driver->model->node_count; i++) {
        const struct target *target = &driver->targets[i];
        if (!target->open || target->leaving || target->filler || (idle_only && target->reserved) ||
            (target->snapshot && (!snapshots || driver->model->nodes[i].exact == NULL)))
            continue; /* a new snapshot is first read by whoever made it */
        if (draw(driver, ++seen) == 0)
            chosen = i;
    }
    return chosen;
}
static uint32_t pick_snapshot(struct driver *driver) {
    uint32_t chosen = NO_NODE, seen = 0;
    for (uint32_t i = 0; i < driver->model->node_count; i++) {
        const struct target *target = &driver->targets[i];
        if (target->open && target->snapshot && !target->leaving && !target->reserved && draw(driver, ++seen) == 0)
            chosen = i;
    }
    return chosen;
}

static void range(struct driver *driver, struct slot *slot, uint64_t bytes, uint64_t grain, uint64_t longest) {
    grain = max_u64(grain, driver->workload->store.disk.block_size);
    uint64_t grains = bytes / grain, count = 1 + draw(driver, longest);
    if (chance(driver, driver->workload->hot_percent))
        grains = min_u64(grains, KIB(48) / grain);
    count = min_u64(count, grains);
    slot->first = (uint32_t)(draw(driver, grains - count + 1) * grain / MODEL_SECTOR);
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
        if (slot->request.slice_count < 2 && chance(driver, 20))
            n = (1 + draw(driver, n / MODEL_SECTOR)) * MODEL_SECTOR;
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

static bool request_begin(struct driver *driver, struct slot *slot, enum action action) {
    uint32_t node = pick(driver, action == ACTION_READ, false);
    if (node == NO_NODE)
        return false;
    struct target *target = &driver->targets[node];
    uint64_t bytes = target->bytes;
    bool fua = action != ACTION_READ && action != ACTION_FLUSH && chance(driver, driver->workload->fua_percent);
    slot->node = node;
    slot->action = action;
    slot->operations = 0;
    slot->request = (struct block_request){.complete = request_done, .flags = fua ? BLOCK_FUA : 0};
    switch (action) {
    case ACTION_WRITE: range(driver, slot, bytes, 4096, 8); break;
    case ACTION_BIGWRITE: range(driver, slot, bytes, 4096, 32); break;
    case ACTION_SUBWRITE: range(driver, slot, bytes, 512, 12); break;
    case ACTION_READ: range(driver, slot, bytes, 512, 200); break;
    case ACTION_ZERO: range(driver, slot, bytes, chance(driver, 50) ? 4096 : 512, 60); break;
    case ACTION_TRIM: range(driver, slot, bytes, chance(driver, 80) ? 4096 : 512, 60); break;
    default: slot->first = slot->count = 0;
    }
    uint64_t length = (uint64_t)slot->count * MODEL_SECTOR;
    slot->request.offset = (uint64_t)slot->first * MODEL_SECTOR;
    slot->request.length = length;
    uint32_t at = now(driver);
    slot->after_failure = flush_has_failed(driver);
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
        slot->request.flags |= chance(driver, 50) ? BLOCK_MAY_TRIM : 0;
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

/* ---- commands ---- */

static unsigned child_count(const struct driver *driver, uint32_t node) {
    unsigned count = 0;
    for (uint32_t i = 0; i < driver->model->node_count; i++)
        count += !driver->targets[i].deleted && driver->targets[i].parent == node;
    return count;
}

/* Children of a node that is gone belong to its parent. */
static void orphan(struct driver *driver, uint32_t node) {
    for (uint32_t i = 0; i < driver->model->node_count; i++)
        if (driver->targets[i].parent == node)
            driver->targets[i].parent = driver->targets[node].parent;
}

static bool target_open(struct driver *driver, uint32_t node) {
    struct target *target = &driver->targets[node];
    if (target->filler) {
        target->open = true;
        return true;
    }
    target->open = port_open(driver->session, &target->port, &driver->model->nodes[node].uuid, target->snapshot);
    if (!target->open && !faults_planted(driver))
        fail(driver, "node %u cannot be opened: %s", node, driver->session->error.text);
    return target->open;
}

static void control_end(struct control *control) {
    struct driver *driver = control->driver;
    if (control->node != NO_NODE && control->state != CONTROL_LEARNING) /* another command may have it by then */
        driver->targets[control->node].reserved = driver->targets[control->node].leaving = false;
    if (control->other != NO_NODE)
        driver->targets[control->other].reserved = false;
    control->state = CONTROL_IDLE;
    driver->busy--;
}

static void learn_next(struct control *control);

static void learn_done(struct block_request *request) {
    struct control *control = container_of(request, struct control, request);
    struct driver *driver = control->driver;
    if (request->status != IO_OK) {
        driver->store_failed = true;
        if (!faults_planted(driver))
            fail(driver, "a new snapshot's read gave %s", io_status_name((enum io_status)request->status));
        driver->targets[control->other].busy--;
        plain_free(control->content);
        control_end(control);
        return;
    }
    model_unstamp(driver->model, control->buffer, (uint32_t)(control->at / MODEL_SECTOR),
                  (uint32_t)(request->length / MODEL_SECTOR), true, control->content + control->at / MODEL_SECTOR);
    control->at += request->length;
    learn_next(control);
}

/* Reads the new snapshot once; from then on it must stay exactly so. */
static void learn_next(struct control *control) {
    struct driver *driver = control->driver;
    struct target *target = &driver->targets[control->other];
    uint64_t bytes = driver->model->nodes[control->other].size->value;
    if (control->at < bytes) {
        uint64_t length = min_u64(DRIVER_BUFFER, bytes - control->at);
        control->slice = (struct slice){control->buffer, length};
        control->request = (struct block_request){.op = BLOCK_READ,
                                                  .offset = control->at,
                                                  .length = length,
                                                  .slices = &control->slice,
                                                  .slice_count = 1,
                                                  .complete = learn_done};
        block_submit(target->port.channel, &control->request);
        return;
    }
    target->busy--;
    struct model *model = driver->model;
    uint32_t count = (uint32_t)(bytes / MODEL_SECTOR), bad;
    const uint32_t *frozen = model->live.flushes[control->flush];
    uint32_t *floor = plain_alloc(count * sizeof(uint32_t));
    for (uint32_t i = 0; i < count; i++)
        floor[i] = i < frozen[0] ? frozen[1 + i] : 0;
    if (!model_read_ok(model, control->node, 0, count, floor, model->nodes[control->other].created_done, control->content, &bad))
        fail(driver,
             "the new snapshot %u of node %u has %u in sector %u, which is not what was there at its beginning (since %u)",
             control->other, control->node, control->content[bad], bad, floor[bad]);
    plain_free(floor);
    model_learn(model, control->other, control->content, count);
    plain_free(control->content);
    control_end(control);
}

/* Errors by which a command may refuse what was asked for at random, having done nothing. */
static bool refusal(const struct driver *driver, const struct control *control) {
    switch (control->command.error.code) {
    case ERROR_NO_SPACE: return driver->workload->filler_free != 0;
    case ERROR_PERMISSION: return control->action == ACTION_DELETE_SNAPSHOT;
    case ERROR_INVALID:
        return control->action == ACTION_DECOUPLE || control->action == ACTION_REVERT || driver->workload->controls > 1;
    case ERROR_NO_DEVICE: return driver->workload->controls > 1;
    case ERROR_BUSY: return true;
    default: return false;
    }
}

static void snapshot_answered(struct control *control, uint32_t at) {
    struct driver *driver = control->driver;
    bool ok = control->command.ok;
    model_created(driver->model, control->other, at, ok);
    model_flushed(driver->model, control->node, control->flush, at, ok);
    if (!ok)
        return;
    struct target *made = &driver->targets[control->other], *head = &driver->targets[control->node];
    *made = (struct target){.snapshot = true, .reserved = true, .bytes = head->bytes, .parent = head->parent};
    head->parent = control->other;
    if (!target_open(driver, control->other))
        return;
    head->reserved = head->leaving = false;
    made->busy++;
    control->state = CONTROL_LEARNING;
    control->at = 0;
    control->content = plain_alloc(head->bytes / MODEL_SECTOR * sizeof(uint32_t));
    learn_next(control);
}

static void answered(struct control *control, uint32_t at) {
    struct driver *driver = control->driver;
    struct model *model = driver->model;
    bool ok = control->command.ok;
    struct target *target = control->node == NO_NODE ? NULL : &driver->targets[control->node];
    struct model_node *node = control->node == NO_NODE ? NULL : &model->nodes[control->node];
    switch (control->action) {
    case ACTION_SNAPSHOT: snapshot_answered(control, at); break;
    case ACTION_CLONE:
    case ACTION_CREATE:
        model_created(model, control->other, at, ok);
        driver->targets[control->other] = (struct target){.bytes = control->bytes, .parent = control->node, .deleted = !ok};
        if (ok)
            target_open(driver, control->other);
        break;
    case ACTION_DELETE_SNAPSHOT:
    case ACTION_DELETE_VOLUME:
        model_deleted(model, control->node, at, ok);
        if (ok) {
            target->deleted = true;
            orphan(driver, control->node);
        } else {
            target_open(driver, control->node);
        }
        break;
    case ACTION_REVERT:
        model_reverted(model, control->node, at, ok);
        model_fact_done(model, &node->size, at, ok);
        if (ok)
            target->parent = control->other;
        target->bytes = ok ? control->bytes : target->bytes;
        target_open(driver, control->node);
        break;
    case ACTION_RESIZE:
        if (control->cut != 0)
            model_written(model, control->cut, at, ok ? MODEL_OK : MODEL_UNDONE);
        model_fact_done(model, &node->size, at, ok);
        if (ok)
            target->bytes = control->bytes;
        else
            target->bytes = node->size->value;
        break;
    case ACTION_RENAME: model_fact_done(model, &node->name, at, ok); break;
    case ACTION_ATTRIBUTE: model_fact_done(model, &node->attribute, at, ok); break;
    case ACTION_INFLATE:
        if (ok)
            target->parent = NO_NODE;
        break;
    case ACTION_DECOUPLE:
        if (ok && target->parent != NO_NODE)
            target->parent = driver->targets[target->parent].parent;
        break;
    case ACTION_GROW: model_fact_done(model, &model->capacity, at, ok); break;
    default: break;
    }
}

static void command_done(struct volume_command *command) {
    struct control *control = container_of(command, struct control, command);
    struct driver *driver = control->driver;
    uint32_t at = now(driver);
    if (command->ok && control->after_failure)
        fail(driver, "the command %s succeeded although a flush of the disk had failed before it began",
             action_name(control->action));
    driver->commands_after_failure += control->after_failure;
    bool refused = !command->ok && refusal(driver, control);
    if (command->ok) {
        driver->done[control->action]++;
    } else if (refused) {
        driver->refused[control->action]++;
    } else {
        driver->failed[control->action]++;
        driver->store_failed = true;
        if (!faults_planted(driver))
            fail(driver, "the command %s of node %u: %s", action_name(control->action), control->node, command->error.text);
    }
    if (!command->ok && !refused) {
        /* Its fate is unknown: the model keeps both, and nothing more is done with what it was about. */
        for (int i = 0; i < 2; i++) {
            uint32_t node = i == 0 ? control->node : control->other;
            if (node != NO_NODE && (i == 0 || control->action != ACTION_REVERT))
                driver->targets[node].leaving = true;
        }
        control->state = CONTROL_IDLE;
        driver->busy--;
        return;
    }
    answered(control, at);
    if (control->state == CONTROL_RUNNING)
        control_end(control);
}

static void (*const calls[ACTION_COUNT])(struct volume_command *) = {
    [ACTION_SNAPSHOT] = volume_snapshot_create,
    [ACTION_CLONE] = volume_clone,
    [ACTION_REVERT] = volume_revert,
    [ACTION_DELETE_SNAPSHOT] = volume_delete,
    [ACTION_DELETE_VOLUME] = volume_delete,
    [ACTION_CREATE] = volume_create,
    [ACTION_RESIZE] = volume_resize,
    [ACTION_RENAME] = volume_rename,
    [ACTION_ATTRIBUTE] = volume_attribute_set,
    [ACTION_INFLATE] = volume_inflate,
    [ACTION_DECOUPLE] = volume_decouple,
    [ACTION_GROW] = volume_store_grow,
};

/* The command is sent: the model learns what it is to do. */
static void control_run(struct control *control) {
    struct driver *driver = control->driver;
    struct model *model = driver->model;
    struct volume_command *command = &control->command;
    *command = (struct volume_command){.store = driver->session->store, .done = command_done};
    struct model_node *node = NULL;
    if (control->node != NO_NODE) {
        node = &model->nodes[control->node];
        command->volume = node->uuid;
    }
    uint64_t number = ++driver->next_number;
    session_name(number, control->name);
    uint32_t at = now(driver);
    control->after_failure = flush_has_failed(driver);
    switch (control->action) {
    case ACTION_SNAPSHOT:
        command->name = control->name;
        session_uuid((uint32_t)number, &command->new_uuid);
        control->flush = model_flush(model, at, control->node);
        control->other = model_create(model, at, &command->new_uuid, true, driver->targets[control->node].bytes, number, NULL, 0);
        break;
    case ACTION_CLONE:
        command->name = control->name;
        session_uuid((uint32_t)number, &command->new_uuid);
        control->bytes = node->size->value;
        control->other =
            model_create(model, at, &command->new_uuid, false, control->bytes, number, node->exact, node->exact_count);
        break;
    case ACTION_CREATE:
        command->name = control->name;
        command->size_bytes = control->bytes;
        session_uuid((uint32_t)number, &command->new_uuid);
        command->volume = (struct uuid){0};
        control->other = model_create(model, at, &command->new_uuid, false, control->bytes, number, NULL, 0);
        break;
    case ACTION_DELETE_SNAPSHOT:
    case ACTION_DELETE_VOLUME: model_delete(model, control->node, at); break;
    case ACTION_REVERT: {
        const struct model_node *to = &model->nodes[control->other];
        command->snapshot = to->uuid;
        control->bytes = to->size->value;
        node->count = max_u32(node->count, to->exact_count);
        model_revert(model, control->node, at, to->exact, to->exact_count);
        model_fact(model, &node->size, at, control->bytes);
        break;
    }
    case ACTION_RESIZE:
        command->size_bytes = control->bytes;
        control->cut = 0;
        if (control->bytes < node->size->value)
            control->cut = model_cut(model, at, control->node, (uint32_t)(control->bytes / MODEL_SECTOR));
        node->count = max_u32(node->count, (uint32_t)(control->bytes / MODEL_SECTOR));
        model_fact(model, &node->size, at, control->bytes);
        break;
    case ACTION_RENAME:
        command->name = control->name;
        model_fact(model, &node->name, at, number);
        break;
    case ACTION_GROW: {
        uint64_t bytes = (uint64_t)driver->session->disk->now.page_count * DISK_PAGE_SIZE + draw(driver, 256) * 4096;
        disk_grow(driver->session->disk, bytes);
        model_fact(model, &model->capacity, at, round_down(bytes, KIB(64)) - model->overhead);
        break;
    }
    case ACTION_ATTRIBUTE:
        command->name = "key";
        session_name(number, control->value);
        command->value = control->value;
        model_fact(model, &node->attribute, at, number);
        break;
    default: break;
    }
    if (control->other != NO_NODE && control->action != ACTION_REVERT)
        driver->targets[control->other] = (struct target){.reserved = true, .parent = NO_NODE};
    control->state = CONTROL_RUNNING;
    calls[control->action](command);
}

/* Goes on when nothing is under way on what it is about. */
static void control_drain(struct control *control) {
    struct driver *driver = control->driver;
    struct target *target = &driver->targets[control->node];
    if (target->busy > 0)
        return;
    bool closes =
        control->action == ACTION_DELETE_SNAPSHOT || control->action == ACTION_DELETE_VOLUME || control->action == ACTION_REVERT;
    if (closes) {
        port_close(&target->port);
        target->open = false;
    }
    control_run(control);
}

static uint32_t ancestor(struct driver *driver, uint32_t node) {
    uint32_t chosen = NO_NODE, seen = 0;
    for (uint32_t i = driver->targets[node].parent; i != NO_NODE; i = driver->targets[i].parent)
        if (driver->targets[i].open && !driver->targets[i].leaving && !driver->targets[i].reserved &&
            driver->model->nodes[i].exact != NULL && draw(driver, ++seen) == 0)
            chosen = i;
    return chosen;
}

static uint64_t size_near(struct driver *driver) {
    return (2 + draw(driver, 2 * driver->workload->clusters)) * KIB(32) + draw(driver, 4) * 4096;
}

static bool control_begin(struct driver *driver, struct control *control, enum action action) {
    if (driver->model->node_count + DRIVER_CONTROLS >= MODEL_NODES_MAX)
        return false;
    control->action = action;
    control->other = NO_NODE;
    control->node = NO_NODE;
    bool drain = driver->workload->drain_first || chance(driver, 30);
    switch (action) {
    case ACTION_CREATE:
        control->bytes = size_near(driver);
        drain = false;
        break;
    case ACTION_GROW:
        for (unsigned i = 0; i < DRIVER_CONTROLS; i++)
            if (driver->controls[i].state != CONTROL_IDLE && driver->controls[i].action == ACTION_GROW)
                return false; /* which of two growths is there after a cut is not known to the model */
        drain = false;
        break;
    case ACTION_CLONE:
    case ACTION_DELETE_SNAPSHOT:
        control->node = pick_snapshot(driver);
        if (control->node == NO_NODE)
            return false;
        break;
    case ACTION_RENAME:
    case ACTION_ATTRIBUTE: control->node = pick(driver, true, true); break;
    default: control->node = pick(driver, false, true);
    }
    if (control->node == NO_NODE && action != ACTION_CREATE && action != ACTION_GROW)
        return false;
    if (action == ACTION_REVERT) {
        control->other = ancestor(driver, control->node);
        if (control->other == NO_NODE)
            return false;
        driver->targets[control->other].reserved = true;
    }
    if (action == ACTION_DELETE_VOLUME && child_count(driver, NO_NODE) + 4 > driver->model->node_count && draw(driver, 2) == 0)
        return false;
    if (action == ACTION_DELETE_SNAPSHOT && child_count(driver, control->node) > 1 && draw(driver, 4) != 0)
        return false;
    bool shrink = false;
    if (action == ACTION_RESIZE) {
        control->bytes = size_near(driver);
        shrink = control->bytes < driver->targets[control->node].bytes;
        if (shrink)
            driver->targets[control->node].bytes = control->bytes; /* nothing new behind it */
    }
    driver->busy++;
    struct target *target = control->node == NO_NODE ? NULL : &driver->targets[control->node];
    if (target != NULL)
        target->reserved = true;
    if (action == ACTION_DELETE_SNAPSHOT || action == ACTION_DELETE_VOLUME || action == ACTION_REVERT || shrink || drain) {
        if (target != NULL) {
            target->leaving = true;
            control->state = CONTROL_DRAINING;
            return true;
        }
    }
    control_run(control);
    return true;
}

/* ---- the loop ---- */

static void timer_run(struct reactor_timer *timer) { container_of(timer, struct driver, timer)->idle = false; }

static enum action choose(struct driver *driver) {
    unsigned total = 0;
    for (unsigned i = 0; i < ACTION_COUNT; i++)
        total += driver->workload->weights[i];
    uint64_t at = draw(driver, total);
    enum action action = 0;
    while (at >= driver->workload->weights[action])
        at -= driver->workload->weights[action++];
    return action;
}

static bool begin_one(struct driver *driver) {
    enum action action = choose(driver);
    if (action == ACTION_IDLE) {
        driver->idle = true;
        driver->timer.run = timer_run;
        reactor_timer_start(driver->session->world.reactor, &driver->timer,
                            driver->session->world.now_ns + NS_PER_MS * (1 + draw(driver, 2000)));
        return true;
    }
    if (action >= ACTION_COMMANDS) {
        for (unsigned i = 0; i < driver->workload->controls; i++)
            if (driver->controls[i].state == CONTROL_IDLE)
                return control_begin(driver, &driver->controls[i], action);
        return false;
    }
    for (unsigned i = 0; i < driver->workload->depth; i++)
        if (!driver->slots[i].busy)
            return request_begin(driver, &driver->slots[i], action);
    return false;
}

static void drain(struct driver *driver) {
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++)
        if (driver->controls[i].state == CONTROL_DRAINING)
            control_drain(&driver->controls[i]);
}

/* Begins what can be begun; true at the end. */
static bool pump(void *arg) {
    struct driver *driver = arg;
    drain(driver);
    if (driver->failure[0] != '\0')
        return true;
    for (unsigned tries = 0; tries < 8 && driver->left > 0 && !driver->idle; tries++)
        if (begin_one(driver))
            driver->left--;
    while (driver->busy == 0 && driver->left > 0 && !driver->idle) { /* what was drawn could not be done */
        begin_one(driver);
        driver->left--;
    }
    drain(driver);
    return driver->left == 0 && driver->busy == 0 && !driver->idle;
}

bool driver_init(struct driver *driver, const struct workload *workload, struct session *session, struct model *model,
                 uint64_t seed, unsigned operations) {
    memset(driver, 0, sizeof(*driver));
    driver->workload = workload;
    driver->session = session;
    driver->model = model;
    driver->left = operations;
    random_init(&driver->random, seed);
    if (model->capacity == NULL) {
        struct volume_store_info info;
        volume_store_info(session->store, &info);
        model_fact(model, &model->capacity, 0, info.total_bytes);
        model_fact_done(model, &model->capacity, 0, true);
    }
    for (unsigned i = 0; i < workload->depth; i++) {
        driver->slots[i].driver = driver;
        driver->slots[i].buffer = plain_alloc(DRIVER_BUFFER);
    }
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++) {
        driver->controls[i].driver = driver;
        driver->controls[i].buffer = plain_alloc(DRIVER_BUFFER);
    }
    for (uint32_t i = 0; i < model->node_count; i++) { /* no name or UUID of an earlier life again */
        const struct model_node *node = &model->nodes[i];
        uint64_t highest = max_u64(node->name->value, get_be32(node->uuid.bytes + 12));
        driver->next_number = max_u64(driver->next_number, max_u64(1000, highest));
    }
    for (uint32_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        driver->targets[i] = (struct target){.snapshot = node->snapshot,
                                             .bytes = node->size->value,
                                             .filler = node->uuid.bytes[0] == SESSION_UUID_FILLER,
                                             .parent = NO_NODE};
        if (!target_open(driver, i))
            return false;
    }
    return true;
}

bool driver_run(struct driver *driver) {
    if (!world_run_until(&driver->session->world, pump, driver, TURNS_MAX)) {
        unsigned commands = 0;
        for (unsigned i = 0; i < DRIVER_CONTROLS; i++)
            commands += driver->controls[i].state != CONTROL_IDLE;
        fail(driver, "it hangs: %u under way, %u of them commands, %u to begin", driver->busy, commands, driver->left);
    }
    return driver->failure[0] == '\0';
}

void driver_close(struct driver *driver) {
    for (uint32_t i = 0; i < MODEL_NODES_MAX; i++) {
        port_close(&driver->targets[i].port);
        driver->targets[i].open = false;
    }
}

void driver_free(struct driver *driver) {
    for (unsigned i = 0; i < DRIVER_DEPTH_MAX; i++) {
        plain_free(driver->slots[i].completed);
        plain_free(driver->slots[i].buffer);
    }
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++) {
        if (driver->controls[i].state == CONTROL_LEARNING)
            plain_free(driver->controls[i].content);
        plain_free(driver->controls[i].buffer);
    }
    plain_free(driver);
}

bool driver_prepare(const struct workload *workload, struct session *session, struct model *model) {
    for (unsigned i = 0; i < workload->volumes; i++) {
        char name[MODEL_NAME_SIZE];
        session_name(i + 1, name);
        struct volume_command create = {.name = name, .size_bytes = workload->clusters * KIB(64)};
        session_uuid(i + 1, &create.new_uuid);
        uint32_t node = model_create(model, 0, &create.new_uuid, false, create.size_bytes, i + 1, NULL, 0);
        if (!session_command(session, volume_create, &create))
            return false;
        model_created(model, node, 0, true);
    }
    struct volume_store_info info;
    volume_store_info(session->store, &info);
    model->overhead = workload->store.disk_bytes - info.total_bytes;
    for (unsigned i = 1; i <= workload->warm; i++) {
        char value[MODEL_NAME_SIZE];
        session_name(i, value);
        struct volume_command set = {.name = "key", .value = value};
        session_uuid(1, &set.volume);
        if (!session_command(session, volume_attribute_set, &set))
            return false;
        model->nodes[0].attribute->value = i;
    }
    if (workload->filler_free == 0)
        return true;
    volume_store_info(session->store, &info);
    struct volume_command create = {.name = "v999", .thick = true};
    create.size_bytes = info.free_bytes - (workload->filler_free + 4) * (uint64_t)info.cluster_bytes;
    session_uuid(999, &create.new_uuid);
    create.new_uuid.bytes[0] = SESSION_UUID_FILLER;
    uint32_t node = model_create(model, 0, &create.new_uuid, false, create.size_bytes, 999, NULL, 0);
    if (!session_command(session, volume_create, &create))
        return false;
    model_created(model, node, 0, true);
    return true;
}
