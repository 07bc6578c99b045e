/* Commands of the driver: when they may begin, what is asked, and what the model learns from the answer. */
#include "driver_internal.h"

#include <stdio.h>
#include <stdlib.h>

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

bool driver_target_open(struct driver *driver, uint32_t node) {
    struct target *target = &driver->targets[node];
    if (target->filler) {
        target->open = true;
        return true;
    }
    target->open = port_open(driver->session, &target->port, &driver->model->nodes[node].uuid, target->snapshot);
    if (!target->open && !driver_faults_planted(driver))
        driver_fail(driver, "node %u cannot be opened: %s", node, driver->session->error.text);
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
        if (!driver_faults_planted(driver))
            driver_fail(driver, "a new snapshot's read gave %s", io_status_name((enum io_status)request->status));
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
        driver_fail(driver,
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
    if (!driver_target_open(driver, control->other))
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
            driver_target_open(driver, control->other);
        break;
    case ACTION_DELETE_SNAPSHOT:
    case ACTION_DELETE_VOLUME:
        model_deleted(model, control->node, at, ok);
        if (ok) {
            target->deleted = true;
            orphan(driver, control->node);
        } else {
            driver_target_open(driver, control->node);
        }
        break;
    case ACTION_REVERT:
        model_reverted(model, control->node, at, ok);
        model_fact_done(model, &node->size, at, ok);
        if (ok)
            target->parent = control->other;
        target->bytes = ok ? control->bytes : target->bytes;
        driver_target_open(driver, control->node);
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
    uint32_t at = driver_now(driver);
    if (command->ok && control->after_failure)
        driver_fail(driver, "the command %s succeeded although a flush of the disk had failed before it began",
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
        if (!driver_faults_planted(driver))
            driver_fail(driver, "the command %s of node %u: %s", action_name(control->action), control->node,
                        command->error.text);
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
    uint32_t at = driver_now(driver);
    control->after_failure = driver_flush_has_failed(driver);
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
        uint64_t bytes = (uint64_t)driver->session->disk->now.page_count * DISK_PAGE_SIZE + driver_draw(driver, 256) * 4096;
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
void driver_control_drain(struct control *control) {
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
            driver->model->nodes[i].exact != NULL && driver_draw(driver, ++seen) == 0)
            chosen = i;
    return chosen;
}

static uint64_t size_near(struct driver *driver) {
    return (2 + driver_draw(driver, 2 * driver->workload->clusters)) * KIB(32) + driver_draw(driver, 4) * 4096;
}

bool driver_control_begin(struct driver *driver, struct control *control, enum action action) {
    if (driver->model->node_count + DRIVER_CONTROLS >= MODEL_NODES_MAX)
        return false;
    control->action = action;
    control->other = NO_NODE;
    control->node = NO_NODE;
    bool drain = driver->workload->drain_first || driver_chance(driver, 30);
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
        control->node = driver_pick_snapshot(driver);
        if (control->node == NO_NODE)
            return false;
        break;
    case ACTION_RENAME:
    case ACTION_ATTRIBUTE: control->node = driver_pick(driver, true, true); break;
    default: control->node = driver_pick(driver, false, true);
    }
    if (control->node == NO_NODE && action != ACTION_CREATE && action != ACTION_GROW)
        return false;
    if (action == ACTION_REVERT) {
        control->other = ancestor(driver, control->node);
        if (control->other == NO_NODE)
            return false;
        driver->targets[control->other].reserved = true;
    }
    if (action == ACTION_DELETE_VOLUME && child_count(driver, NO_NODE) + 4 > driver->model->node_count &&
        driver_draw(driver, 2) == 0)
        return false;
    if (action == ACTION_DELETE_SNAPSHOT && child_count(driver, control->node) > 1 && driver_draw(driver, 4) != 0)
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
