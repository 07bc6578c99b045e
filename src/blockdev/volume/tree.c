/* Commands that change the tree: volumes, snapshots and clones come and go, a volume goes back to a snapshot, parts from its
 * parents, changes its size. How a command runs: command.c. */
#include "blockdev/volume/replica.h"

#include <stdio.h>
#include <stdlib.h>

struct volume *volume_new(struct volume_store *store, struct layer *layer, const char *name, const struct uuid *uuid) {
    struct volume *volume = calloc(1, sizeof(*volume));
    if (volume == NULL)
        return NULL;
    volume->store = store;
    volume->uuid = *uuid;
    snprintf(volume->name, sizeof(volume->name), "%s", name);
    list_init(&volume->waiting);
    list_init(&volume->idle_waiters);
    list_init(&volume->puts);
    list_init(&volume->early);
    if (!hash_map_insert(&store->by_name, &volume->by_name, hash_text(name))) {
        free(volume);
        return NULL;
    }
    if (!hash_map_insert(&store->by_uuid, &volume->by_uuid, get_le64(uuid->bytes))) {
        hash_map_remove(&store->by_name, &volume->by_name);
        free(volume);
        return NULL;
    }
    list_push_back(&store->volumes, &volume->node);
    store->volume_count++;
    volume->layer = layer;
    if (layer != NULL)
        layer->volume = volume;
    return volume;
}

void volume_forget(struct volume_store *store, struct volume *volume) {
    hash_map_remove(&store->by_uuid, &volume->by_uuid);
    hash_map_remove(&store->by_name, &volume->by_name);
    list_remove(&volume->node);
    store->volume_count--;
}

/* Everything that a new layer needs and that can fail or wait: record page, batch room, memory. The layer has no state yet. */
static struct layer *new_layer(struct volume_command *command, struct volume **ret_volume) {
    struct volume_store *store = command->store;
    struct page *record;
    enum io_status status = IO_OK;
    enum got got = commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter);
    if (got == GOT)
        got = layer_record_new(store, &store->command_waiter, &record, &status);
    if (got == WAIT)
        return NULL;
    if (got == FAILED) {
        command_fail_status(command, status);
        return NULL;
    }
    struct volume *volume = NULL;
    if (ret_volume != NULL && (volume = volume_new(store, NULL, command->name, &command->ret_uuid)) == NULL) {
        command_fail_status(command, IO_NO_MEMORY);
        return NULL;
    }
    struct layer *layer = layer_attach(store, record->index, record);
    if (layer == NULL) {
        if (volume != NULL) {
            volume_forget(store, volume);
            free(volume);
        }
        command_fail_status(command, IO_NO_MEMORY);
        return NULL;
    }
    if (volume != NULL) {
        volume->layer = layer;
        layer->volume = volume;
        *ret_volume = volume;
    }
    return layer;
}

static void layer_fill(struct volume_store *store, struct layer *layer, uint64_t flags, struct layer *parent, uint64_t blocks,
                       uint64_t limit) {
    layer_set(store, layer, LAYER_STATE, LAYER_LIVE | flags);
    layer_set(store, layer, LAYER_PARENT, parent == NULL ? 0 : parent->id);
    layer_set(store, layer, LAYER_SIZE, blocks);
    layer_set(store, layer, LAYER_LIMIT, limit);
    layer_set(store, layer, LAYER_TAIL, blocks);
    layer_set(store, layer, LAYER_CREATED, host_wall_ns(store->home->host));
    layer_set_parent(store, layer, parent);
    promise_update(store, layer);
}

/* No more writes into the layer; what is under way keeps batches open until it has ended. */
static void layer_freeze(struct volume_store *store, struct layer *layer) {
    layer->frozen = true;
    if (layer->writes_in_flight > 0 && !layer->draining) {
        layer->draining = true;
        store->draining++;
    }
}

/* Sizes in blocks for a wanted one in bytes; false: answered. */
static bool size_wanted(struct volume_command *command, uint64_t *ret_blocks) {
    struct volume_store *store = command->store;
    uint64_t unit = store->super.unit_bytes;
    if (command->size_bytes == 0 || command->size_bytes > (LAYER_BLOCKS_MAX << BLOCK_SHIFT) - unit) {
        char number[24];
        snprintf(number, sizeof(number), "%llu", (unsigned long long)command->size_bytes);
        error_invalid(&command->error, "size", number, "1 to %llu bytes",
                      (unsigned long long)(LAYER_BLOCKS_MAX << BLOCK_SHIFT) - unit);
        command_fail(store, command);
        return false;
    }
    *ret_blocks = round_up(command->size_bytes, unit) >> BLOCK_SHIFT;
    return true;
}

static uint64_t thick_need(uint64_t blocks) {
    uint64_t clusters = divide_up(blocks, CLUSTER_BLOCKS), nodes = divide_up(clusters, NODE_WORDS);
    return clusters + nodes + divide_up(nodes, NODE_WORDS);
}

static bool thick_fits(struct volume_command *command, uint64_t clusters) {
    struct volume_store *store = command->store;
    if (space_available(store, NULL, clusters, SPACE_DATA))
        return true;
    error_set(&command->error, ERROR_NO_SPACE, "%s has not %llu bytes left to promise", store->name,
              (unsigned long long)(clusters << CLUSTER_SHIFT));
    command_fail(store, command);
    return false;
}

/* ---- the commands ---- */

static void create_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    uint64_t blocks;
    if (!command_may_change(command) || !size_wanted(command, &blocks) || !identity_new(command) ||
        !identity_compose(command, identity, &size) || (command->thick && !thick_fits(command, thick_need(blocks))))
        return;
    struct volume *volume;
    struct layer *layer = new_layer(command, &volume);
    if (layer == NULL)
        return;
    layer_fill(store, layer, command->thick ? LAYER_THICK : 0, NULL, blocks, blocks);
    record_set_identity(store, layer->record, identity, size);
    command_subject(command, volume);
    command_commit(store, command, volume_registered);
}

static void snapshot_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size, old_size;
    struct volume *volume = command_target(command), *snapshot;
    if (volume == NULL || replica_refuses_command(command, volume) || !identity_new(command) ||
        !identity_compose(command, identity, &size))
        return;
    if (volume->read_only) {
        error_invalid(&command->error, "lvol_name", volume->name, "a volume that can be written");
        command_fail(store, command);
        return;
    }
    if (store->draining > 0 && store->commit.wanted) { /* a batch waits for other snapshots: not one more in front of it */
        list_push_back(&store->drain_waiters, &store->command_waiter.node);
        return;
    }
    if (layer_hold_off(store, volume->layer, &store->command_waiter) != GOT)
        return;
    struct layer *head = volume->layer, *layer = new_layer(command, &snapshot);
    if (layer == NULL)
        return;
    uint64_t created = layer_get(head, LAYER_CREATED), blocks = layer_size(head);
    const uint8_t *old = record_identity(head->record, &old_size);
    layer_fill(store, layer, 0, head, blocks, blocks);
    layer_set(store, layer, LAYER_CREATED, created);
    record_set_identity(store, layer->record, old, old_size);
    replica_follow(store, head, layer);
    layer_set(store, head, LAYER_STATE, LAYER_LIVE | LAYER_SNAPSHOT | LAYER_READ_ONLY);
    bool told = command->tree != NULL && command->tree->created_ns != 0;
    layer_set(store, head, LAYER_CREATED, told ? command->tree->created_ns : host_wall_ns(store->home->host));
    record_set_identity(store, head->record, identity, size);
    promise_update(store, head);
    snapshot->layer = head;
    snapshot->read_only = true;
    head->volume = snapshot;
    volume->layer = layer;
    layer->volume = volume;
    layer_freeze(store, head);
    replica_tree_stamp(command);
    command_subject(command, snapshot);
    command_commit(store, command, volume_registered);
}

static void clone_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    struct volume *volume = command_target(command), *clone;
    if (volume == NULL || !identity_new(command) || !identity_compose(command, identity, &size))
        return;
    if (!volume->read_only) {
        error_invalid(&command->error, "snapshot_name", volume->name, "a snapshot or a read-only volume");
        command_fail(store, command);
        return;
    }
    struct layer *parent = volume->layer, *layer = new_layer(command, &clone);
    if (layer == NULL)
        return;
    layer_fill(store, layer, 0, parent, layer_size(parent), layer_size(parent));
    record_set_identity(store, layer->record, identity, size);
    command_subject(command, clone);
    command_commit(store, command, volume_registered);
}

static void clone_device_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    struct volume *clone;
    if (!command_may_change(command) || !identity_new(command) || !identity_compose(command, identity, &size))
        return;
    struct layer *layer = new_layer(command, &clone), *parent = layer == NULL ? NULL : external_layer_new(command);
    if (parent == NULL) { /* waits or has failed: it has left no trace */
        if (layer != NULL) {
            volume_forget(store, clone);
            free(clone);
            layer_detach(store, layer);
        }
        return;
    }
    layer_fill(store, layer, 0, parent, layer_size(parent), layer_size(parent));
    record_set_identity(store, layer->record, identity, size);
    command_subject(command, clone);
    command_commit(store, command, external_commanded);
}

static void revert_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    struct volume *snapshot = volume_find(store, &command->snapshot);
    struct layer *up = volume->layer->parent;
    while (up != NULL && (snapshot == NULL || up != snapshot->layer))
        up = up->parent;
    if (command->tree != NULL) /* checked there; to any of the mirror's, or below all of them */
        up = snapshot == NULL ? NULL : snapshot->layer;
    bool allowed = command->tree != NULL || up != NULL;
    if (!allowed || (snapshot != NULL && snapshot->deleting != NULL) || volume->read_only) {
        error_set(&command->error, ERROR_INVALID, "%s can be reverted to its own snapshots only", volume->name);
        command_fail(store, command);
        return;
    }
    if (layer_hold_off(store, volume->layer, &store->command_waiter) != GOT)
        return;
    struct layer *old = volume->layer, *layer = new_layer(command, NULL);
    if (layer == NULL)
        return;
    uint64_t created = layer_get(old, LAYER_CREATED), blocks = layer_size(up != NULL ? up : old);
    memcpy(identity, record_identity(old->record, &size), IDENTITY_BYTES);
    layer_fill(store, layer, 0, up, blocks, blocks);
    layer_set(store, layer, LAYER_CREATED, created);
    record_set_identity(store, layer->record, identity, size);
    record_set_identity(store, old->record, NULL, 0);
    replica_follow(store, old, layer);
    layer_set_state(store, old, LAYER_DELETING);
    old->volume = NULL;
    old->frozen = true;
    volume->layer = layer;
    layer->volume = volume;
    background_start(store, old);
    replica_tree_stamp(command);
    background_kick(store); /* a layer that merges into the old one has no child any more */
    command_subject(command, volume);
    command_commit(store, command, volume_resized);
}

static void read_only_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume) ||
        layer_hold_off(store, volume->layer, &store->command_waiter) != GOT ||
        commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    layer_set(store, volume->layer, LAYER_STATE, layer_get(volume->layer, LAYER_STATE) | LAYER_READ_ONLY);
    volume->read_only = true;
    layer_freeze(store, volume->layer);
    command_subject(command, volume);
    command_commit(store, command, volume_made_read_only);
}

/* ---- deletion: checked here, then the device goes (control reactor), then the layer ---- */

static void delete_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_delete(command, volume))
        return;
    unsigned children = volume->layer->child_count + volume->layer->heirs;
    if (children > 1) {
        error_set(&command->error, ERROR_PERMISSION, "%s has %u children: delete or decouple them first", volume->name, children);
        command_fail(store, command);
        return;
    }
    volume->deleting = command;
    command_subject(command, volume);
    command_finish(command, true, volume_remove_device);
}

/* The device is closed everywhere and unregistered. */
static void delete_layer_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = volume_find(store, &command->volume);
    if (store_frozen(store)) {
        error_set(&command->error, ERROR_IO, "%s", store->reason);
        command_fail(store, command); /* the device is gone, the volume comes back at the next opening */
        return;
    }
    if (early_any(volume, UINT64_MAX, &store->command_waiter) ||
        commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    struct layer *layer = volume->layer;
    replica_forget(volume);
    volume_forget(store, volume);
    free(volume);
    layer->volume = NULL;
    layer->frozen = true;
    record_set_identity(store, layer->record, NULL, 0);
    if (layer->child_count > 0 && layer_only_child(layer) != NULL)
        layer_content_changes(store, layer_only_child(layer));
    layer_set_state(store, layer, layer->child_count == 0 ? LAYER_DELETING : LAYER_MERGING);
    background_start(store, layer);
    background_kick(store); /* a layer that merges into this one looks again */
    command_commit(store, command, NULL);
}

void volume_device_removed(struct volume_command *command) { command_resume(command, delete_layer_run); }

/* ---- inflate, decouple, resize: copy.c and resize.c do the long part ---- */

static void inflate_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    struct layer *layer = volume->layer;
    uint64_t have = layer_get(layer, LAYER_USED) + layer_get(layer, LAYER_NODES), need = thick_need(layer_size(layer));
    if (volume->read_only) {
        error_set(&command->error, ERROR_PERMISSION, "%s is read-only", volume->name);
        command_fail(store, command);
        return;
    }
    if (layer->promise == 0 && need > have && !thick_fits(command, need - have))
        return;
    command_leave(store, command);
    copy_start(store, command, volume, false);
}

static void decouple_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    if (volume->layer->parent == NULL)
        error_set(&command->error, ERROR_INVALID, "%s has no parent", volume->name);
    else if (volume->read_only)
        error_set(&command->error, ERROR_PERMISSION, "%s is read-only", volume->name);
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    command_leave(store, command);
    copy_start(store, command, volume, true);
}

static void resize_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint64_t blocks;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume) || !size_wanted(command, &blocks))
        return;
    struct layer *layer = volume->layer;
    uint64_t old = layer_size(layer), tail = layer_get(layer, LAYER_TAIL);
    if (volume->read_only)
        error_set(&command->error, ERROR_PERMISSION, "%s is read-only", volume->name);
    else if (tail > old && blocks > old)
        error_set(&command->error, ERROR_BUSY, "what %s was shrunk by is not cleared: shrink it once more", volume->name);
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    bool thick = (layer_get(layer, LAYER_STATE) & LAYER_THICK) != 0;
    if (thick && blocks > old && !thick_fits(command, thick_need(blocks) - thick_need(old)))
        return;
    if (blocks < old && layer_hold_off(store, layer, &store->command_waiter) != GOT)
        return;
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    bool clears = blocks < tail && VOLUME_CANARY != VOLUME_CANARY_SHRINK_KEEPS_LIMIT;
    bool mirrors = command->tree != NULL; /* who is not kept waiting for the clearing */
    if (clears && !tail_start(store, mirrors ? NULL : command, volume, blocks, tail)) {
        if (mirrors)
            command_fail_status(command, IO_NO_MEMORY);
        return;
    }
    command_subject(command, volume);
    layer_set(store, layer, LAYER_SIZE, blocks);
    layer_set(store, layer, LAYER_TAIL, clears ? tail : blocks);
    if (VOLUME_CANARY != VOLUME_CANARY_SHRINK_KEEPS_LIMIT)
        layer_set(store, layer, LAYER_LIMIT, min_u64(layer_get(layer, LAYER_LIMIT), blocks));
    store->move_generation++; /* what was remembered of the parents may be beyond the limit */
    promise_update(store, layer);
    replica_tree_stamp(command);
    if (clears && !mirrors) {
        command_leave(store, command);
        return;
    }
    command_subject(command, volume);
    command_commit(store, command, volume_resized);
}

void volume_create(struct volume_command *command) { command_start(command, create_run); }
void volume_delete(struct volume_command *command) { command_start(command, delete_run); }
void volume_snapshot_create(struct volume_command *command) { command_start(command, snapshot_run); }
void volume_clone(struct volume_command *command) { command_start(command, clone_run); }
void volume_clone_device(struct volume_command *command) { external_start(command, clone_device_run); }
void volume_revert(struct volume_command *command) { command_start(command, revert_run); }
void volume_resize(struct volume_command *command) { command_start(command, resize_run); }
void volume_set_read_only(struct volume_command *command) { command_start(command, read_only_run); }
void volume_inflate(struct volume_command *command) { command_start(command, inflate_run); }
void volume_decouple(struct volume_command *command) { command_start(command, decouple_run); }
