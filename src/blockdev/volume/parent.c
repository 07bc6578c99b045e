/* Commands that give a volume another parent without copying: what it does not hold itself reads as something else then. */
#include "blockdev/volume/replica.h"

void layer_content_changes(struct volume_store *store, struct layer *layer) {
    layer->content_changes++;
    identity_drop_attribute(store, layer->record, VOLUME_CHECKSUM_ATTRIBUTE);
}

/* Whether layers on their way out, or copies, count on the volume's place in the tree. */
static bool place_is_needed(const struct layer *layer) {
    const struct layer *parent = layer->parent;
    bool needed = layer->heirs > 0 || layer->copying;
    if (parent != NULL && parent->external == NULL)
        needed |= layer_state(parent) == LAYER_MERGING || parent->volume == NULL || parent->volume->deleting != NULL;
    list_for_each (&layer->children, struct layer, child, sibling)
        needed |= child->copying;
    return needed;
}

/* The next of those that stand on `top`, directly or not, in some order; NULL = that was all. */
static struct layer *next_upon(const struct layer *top, struct layer *at) {
    if (!list_empty(&at->children))
        return list_entry(at->children.head.next, struct layer, sibling);
    for (; at != top; at = at->parent)
        if (at->sibling.next != &at->parent->children.head)
            return list_entry(at->sibling.next, struct layer, sibling);
    return NULL;
}

/* Their checksums say in what they differ from what will be something else. Before the move, in as many batches as it takes. */
static enum got sums_upon_drop(struct volume_store *store, struct layer *top) {
    for (struct layer *upon = top; (upon = next_upon(top, upon)) != NULL;) {
        enum got got = commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter);
        if (got != GOT)
            return got;
        layer_content_changes(store, upon);
    }
    return GOT;
}

/* False: answered, or waits. */
static bool may_move(struct volume_command *command, const struct volume *volume) {
    struct volume_store *store = command->store;
    if (place_is_needed(volume->layer)) {
        error_set(&command->error, ERROR_BUSY, "what %s stands on is being merged or copied", volume->name);
        command_fail(store, command);
        return false;
    }
    return sums_upon_drop(store, volume->layer) == GOT && commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) == GOT;
}

static void move(struct volume_command *command, struct volume *volume, struct layer *parent, uint64_t limit,
                 void (*after)(struct volume_command *command)) {
    struct volume_store *store = command->store;
    struct layer *layer = volume->layer;
    layer_set(store, layer, LAYER_LIMIT, limit);
    layer_set(store, layer, LAYER_PARENT, parent == NULL ? 0 : parent->id);
    layer_set_parent(store, layer, parent);
    store->move_generation++;
    layer_content_changes(store, layer);
    replica_tree_stamp(command);
    background_kick(store);
    command_commit(store, command, after);
}

static void detach_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    struct layer *layer = volume->layer, *parent = layer->parent;
    if (parent == NULL || parent->external != NULL) {
        error_set(&command->error, ERROR_INVALID, "%s has no parent in %s", volume->name, store->name);
        command_fail(store, command);
    } else if (may_move(command, volume)) {
        move(command, volume, parent->parent, min_u64(layer_get(layer, LAYER_LIMIT), layer_get(parent, LAYER_LIMIT)), NULL);
    }
}

static bool descends_from(const struct layer *layer, const struct layer *ancestor) {
    while (layer != NULL && layer != ancestor)
        layer = layer->parent;
    return layer != NULL;
}

static void set_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    const struct volume *snapshot = volume_find(store, &command->snapshot);
    struct layer *layer = volume->layer, *parent = snapshot == NULL || snapshot->deleting != NULL ? NULL : snapshot->layer;
    if (parent == NULL)
        error_set(&command->error, ERROR_NO_DEVICE, "there is no such snapshot in %s", store->name);
    else if (layer->parent == parent)
        error_set(&command->error, ERROR_EXISTS, "%s is the parent of %s already", snapshot->name, volume->name);
    else if (!snapshot->read_only)
        error_invalid(&command->error, "parent_name", snapshot->name, "a snapshot or a read-only volume");
    else if (descends_from(parent, layer))
        error_invalid(&command->error, "parent_name", snapshot->name, "one that does not stand on %s itself", volume->name);
    else if ((layer_get(layer, LAYER_STATE) & LAYER_THICK) != 0)
        error_invalid(&command->error, "lvol_name", volume->name, "a thin volume");
    else if (layer_size(parent) > layer_size(layer))
        error_invalid(&command->error, "parent_name", snapshot->name, "one that is not larger than %s", volume->name);
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    if (!may_move(command, volume))
        return;
    command_subject(command, volume);
    move(command, volume, parent, layer_size(parent),
         command->tree != NULL ? volume_resized : NULL); /* nobody else tells of it */
}

static void set_device_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    struct layer *layer = volume->layer;
    const struct layer *parent = layer->parent;
    if (parent != NULL && parent->external != NULL && uuid_equal(&parent->external->source, &command->snapshot))
        error_set(&command->error, ERROR_EXISTS, "it is the parent of %s already", volume->name);
    else if ((layer_get(layer, LAYER_STATE) & LAYER_THICK) != 0)
        error_invalid(&command->error, "lvol_name", volume->name, "a thin volume");
    else if (command->size_bytes >> BLOCK_SHIFT > layer_size(layer))
        error_invalid(&command->error, "parent_name", "", "a device that is not larger than %s", volume->name);
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    struct layer *device = may_move(command, volume) ? external_layer_new(command) : NULL;
    if (device != NULL)
        move(command, volume, device, layer_size(device), external_commanded);
}

void volume_parent_set_device(struct volume_command *command) { external_start(command, set_device_run); }
void volume_parent_detach(struct volume_command *command) { command_start(command, detach_run); }
void volume_parent_set(struct volume_command *command) { command_start(command, set_run); }
