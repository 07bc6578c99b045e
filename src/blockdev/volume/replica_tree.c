/* The tree of a leg: what its mirror made of it. Snapshots, deletions, reverts and resizes come as documents, and are carried out
 * as the commands of the same name are (tree.c), which stamp the tree's number and the change's id in the same journal record. */
#include "blockdev/volume/replica.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

/* A document that is being carried out by a command. */
struct tree_work {
    struct volume_command command;
    struct volume_op *op;
    struct reactor_message message;
    const char *pairs[2 * REPLICA_PAIRS_MAX];
    char name[VOLUME_NAME_SIZE];
};

/* ---- whose snapshot a layer is ---- */

bool replica_snapshot_of(const struct layer *layer, const struct replica *replica, struct replica_snapshot *ret_snapshot) {
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(layer->record, &size);
    for (struct identity_item item; identity_next(identity, size, &at, &item);) {
        if (item.type != IDENTITY_SNAPSHOT || item.length < sizeof(struct identity_snapshot))
            continue;
        struct identity_snapshot head;
        memcpy(&head, item.bytes, sizeof(head));
        if (replica != NULL &&
            (!uuid_equal(&head.mirror, &replica->record.mirror) || !uuid_equal(&head.leg, &replica->volume->uuid)))
            return false;
        *ret_snapshot = (struct replica_snapshot){.mirror = head.mirror, .leg = head.leg, .id = head.id};
        snprintf(ret_snapshot->name, sizeof(ret_snapshot->name), "%.*s", (int)(item.length - sizeof(head)),
                 (const char *)item.bytes + sizeof(head));
        return true;
    }
    return false;
}

const struct layer *replica_layer_below(const struct replica *replica, const struct layer *layer,
                                        struct replica_snapshot *ret_snapshot) {
    for (layer = layer->parent; layer != NULL; layer = layer->parent)
        if (layer->volume != NULL && replica_snapshot_of(layer, replica, ret_snapshot))
            return layer;
    return NULL;
}

/* Its volume; NULL if the leg has no such snapshot. */
static struct volume *snapshot_find(const struct replica *replica, uint64_t id) {
    struct replica_snapshot snapshot;
    list_for_each (&replica->volume->store->volumes, struct volume, volume, node)
        if (volume->layer != NULL && volume->deleting == NULL && replica_snapshot_of(volume->layer, replica, &snapshot) &&
            snapshot.id == id)
            return volume;
    return NULL;
}

static uint32_t snapshot_count(const struct volume *leg) {
    struct replica_snapshot snapshot;
    uint32_t count = 0;
    list_for_each (&leg->store->volumes, struct volume, volume, node)
        count += volume->layer != NULL && replica_snapshot_of(volume->layer, leg->replica, &snapshot);
    return count;
}

static struct volume *volume_named(struct volume_store *store, const char *name) {
    list_for_each (&store->volumes, struct volume, volume, node)
        if (strcmp(volume->name, name) == 0)
            return volume;
    return NULL;
}

/* ---- what the commands ask ---- */

bool replica_tree_identity(const struct volume_command *command, uint8_t *identity, uint32_t *size) {
    const struct replica_tree *tree = command->tree;
    uint8_t item[sizeof(struct identity_snapshot) + REPLICA_SNAPSHOT_NAME_MAX];
    if (tree == NULL || tree->what != REPLICA_SNAPSHOT)
        return true;
    struct identity_snapshot head = {
        .mirror = command->leg->replica->record.mirror, .leg = command->leg->uuid, .id = tree->layer};
    size_t name = strlen(tree->name);
    memcpy(item, &head, sizeof(head));
    memcpy(item + sizeof(head), tree->name, name);
    return identity_append(identity, size, IDENTITY_SNAPSHOT, item, sizeof(head) + name);
}

static void stamp(struct volume *leg, const struct replica_tree *tree) {
    layer_set(leg->store, leg->layer, LAYER_TREE, tree->sequence);
    layer_set(leg->store, leg->layer, LAYER_CHANGE, tree->change);
}

void replica_tree_stamp(struct volume_command *command) {
    const struct replica_tree *tree = command->tree;
    if (tree == NULL || tree->what == REPLICA_KEEP)
        return;
    struct volume *leg = command->leg;
    stamp(leg, tree);
    bool cuts = tree->what == REPLICA_RESIZE && command->subject_blocks > layer_size(leg->layer);
    bool reverts = tree->what == REPLICA_REVERT && REPLICA_CANARY != REPLICA_CANARY_REVERT_UNMARKED;
    if (reverts || cuts || tree->what == REPLICA_UPON) /* what a leg that misses it has to compare */
        layer_set(leg->store, leg->replica->marks, LAYER_TREE, leg->replica->record.epoch.depth);
}

bool replica_refuses_delete(struct volume_command *command, const struct volume *volume) {
    struct replica_snapshot snapshot;
    if (!replica_snapshot_of(volume->layer, NULL, &snapshot))
        return false;
    list_for_each (&volume->store->volumes, struct volume, leg, node)
        if (leg->replica != NULL && replica_snapshot_of(volume->layer, leg->replica, &snapshot)) {
            char text[UUID_TEXT_SIZE];
            uuid_format(&snapshot.mirror, text);
            error_set(&command->error, ERROR_PERMISSION, "%s is a snapshot of mirror %s: delete it there", volume->name, text);
            command_fail(volume->store, command);
            return true;
        }
    return false;
}

/* ---- PUT: a change ---- */

static enum io_status status_of(const struct error *error) {
    switch (error->code) {
    case ERROR_NONE: return IO_OK;
    case ERROR_NO_SPACE: return IO_NO_SPACE;
    case ERROR_NO_MEMORY: return IO_NO_MEMORY;
    case ERROR_NO_DEVICE: return IO_DEVICE_GONE;
    case ERROR_DAMAGED: return IO_DAMAGED;
    case ERROR_READ_ONLY: return IO_READ_ONLY;
    case ERROR_PERMISSION: return IO_ABORTED;
    case ERROR_BUSY: return IO_NOT_READY;
    case ERROR_IO: return IO_MEDIUM_WRITE;
    default: return IO_INVALID;
    }
}

static void carried_out(struct reactor_message *message) {
    struct tree_work *work = container_of(message, struct tree_work, message);
    struct volume_op *op = work->op;
    enum io_status status = work->command.ok ? IO_OK : status_of(&work->command.error);
    free(work);
    if (status == IO_OK)
        VOLUME_AT(op->volume, TREE_DURABLE);
    op_end(op, status);
}

/* What was let go has been deleted, or somebody else must: it is a plain snapshot now, with clones or in use. Control reactor. */
static void deleted(struct volume_command *command) { free(container_of(command, struct tree_work, command)); }

/* Control reactor. */
static void done(struct volume_command *command) {
    struct tree_work *work = container_of(command, struct tree_work, command);
    work->message.run = carried_out;
    reactor_post(command->store->home, &work->message);
}

static bool too_many_children(const struct volume *volume) { return volume->layer->child_count + volume->layer->heirs > 1; }

/* "leg-snap-name", as users of such volumes know it. False: too long. */
static bool compose_name(const struct volume *leg, const char *suffix, char name[VOLUME_NAME_SIZE]) {
    return snprintf(name, VOLUME_NAME_SIZE, "%s-%s", leg->name, suffix) < VOLUME_NAME_SIZE;
}

#define KEPT "before-sync"

/* What the document names for this leg; NULL: nothing that is there. */
static struct volume *upon_what(const struct volume *leg, const struct replica_tree *tree) {
    const char *at = tree->pairs, *end = tree->pairs + tree->pair_bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        struct volume *upon = strcmp(at, leg->name) == 0 ? volume_named(leg->store, value) : NULL;
        if (upon != NULL)
            return upon->read_only && upon->deleting == NULL ? upon : NULL;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

static enum io_status plan_upon(struct tree_work *work, const struct volume *leg, const struct replica_tree *tree,
                                void (**ret_start)(struct volume_command *command)) {
    const struct volume *upon = upon_what(leg, tree);
    const struct layer *head = leg->layer;
    if (upon == NULL)
        return IO_DEVICE_GONE;
    if (head->parent == upon->layer)
        return IO_OK;
    if (head->parent != NULL || layer_get(head, LAYER_USED) != 0)
        return IO_ABORTED;
    if (layer_size(upon->layer) > layer_size(head) || (layer_get(head, LAYER_STATE) & LAYER_THICK) != 0)
        return IO_INVALID;
    work->command.snapshot = upon->uuid;
    *ret_start = volume_parent_set;
    return IO_OK;
}

/* NULL: there is none, or it is not to be deleted now. */
static struct volume *find_kept(const struct volume *leg, char name[VOLUME_NAME_SIZE]) {
    struct volume *kept = compose_name(leg, KEPT, name) ? volume_named(leg->store, name) : NULL;
    return kept == NULL || kept->deleting != NULL || too_many_children(kept) ? NULL : kept;
}

/* What stands against it as things are, and what it would be: the command's function, NULL = there is nothing to do. */
static enum io_status plan(struct tree_work *work, const struct volume *leg, const struct replica_tree *tree,
                           void (**ret_start)(struct volume_command *command)) {
    struct volume_store *store = leg->store;
    struct volume_command *command = &work->command;
    struct volume *snapshot = tree->layer == 0 ? NULL : snapshot_find(leg->replica, tree->layer);
    char suffix[REPLICA_SNAPSHOT_NAME_MAX + 8];
    *ret_start = NULL;
    command->volume = leg->uuid;
    if (leg->state != VOLUME_IDLE || (snapshot != NULL && snapshot->state != VOLUME_IDLE))
        return IO_NOT_READY;
    switch ((enum replica_change)tree->what) {
    case REPLICA_SNAPSHOT:
        if (snapshot != NULL)
            return IO_OK;
        if (snapshot_count(leg) >= REPLICA_LAYERS_MAX)
            return IO_NO_SPACE;
        snprintf(suffix, sizeof(suffix), "snap-%s", tree->name);
        if (!compose_name(leg, suffix, work->name) || !text_is_name(work->name, VOLUME_NAME_SIZE - 1) ||
            volume_named(store, work->name) != NULL)
            return IO_INVALID;
        command->name = work->name;
        *ret_start = volume_snapshot_create;
        break;
    case REPLICA_DELETE:
        if (snapshot == NULL)
            return IO_DEVICE_GONE;
        if (too_many_children(snapshot) && (tree->flags & REPLICA_TREE_CHECK) != 0)
            return IO_ABORTED;
        command->volume = snapshot->uuid;
        *ret_start = volume_delete;
        break;
    case REPLICA_REVERT:
        if (tree->layer != 0 && snapshot == NULL)
            return IO_DEVICE_GONE;
        command->snapshot = snapshot == NULL ? (struct uuid){0} : snapshot->uuid;
        *ret_start = volume_revert;
        break;
    case REPLICA_RESIZE:
        if (tree->size % store->super.unit_bytes != 0)
            return IO_INVALID;
        command->size_bytes = tree->size;
        if (tree->size != layer_size(leg->layer) << BLOCK_SHIFT)
            *ret_start = volume_resize;
        break;
    case REPLICA_KEEP:
        /* a thick volume would be thin afterwards: it keeps nothing */
        if (!compose_name(leg, KEPT, work->name) || (layer_get(leg->layer, LAYER_STATE) & LAYER_THICK) != 0 ||
            volume_named(store, work->name) != NULL)
            return IO_OK;
        command->name = work->name;
        *ret_start = volume_snapshot_create;
        break;
    case REPLICA_DROP:
        if ((snapshot = find_kept(leg, work->name)) == NULL)
            return IO_OK;
        command->volume = snapshot->uuid;
        *ret_start = volume_delete;
        break;
    case REPLICA_UPON: return plan_upon(work, leg, tree, ret_start);
    case REPLICA_NOTE: break;
    }
    return IO_OK;
}

static void take_pairs(struct tree_work *work, const struct replica_tree *tree) {
    const char *at = tree->pairs, *end = tree->pairs + tree->pair_bytes;
    unsigned texts = 0;
    for (; at < end; at += strlen(at) + 1)
        work->pairs[texts++] = at;
    work->command.pairs = work->pairs;
    work->command.pair_count = texts / 2;
}

/* From this record on the snapshot is not the mirror's any more, whoever has it open or cloned it here; then it is deleted as
 * any other, which may take until it is closed: nobody is kept waiting for that. */
static bool let_go(struct volume_op *op, struct volume *snapshot) {
    struct volume_store *store = op->volume->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size = 0, old_size, at = 0;
    if (commit_room(store, TREE_CHANGE_WORDS, &op->waiter) != GOT)
        return false;
    const uint8_t *old = record_identity(snapshot->layer->record, &old_size);
    for (struct identity_item item; identity_next(old, old_size, &at, &item);)
        if (item.type != IDENTITY_SNAPSHOT)
            identity_append(identity, &size, item.type, item.bytes, item.length);
    static const struct identity_snapshot nobodys; /* it is to be deleted, by the next opening at the latest */
    identity_append(identity, &size, IDENTITY_SNAPSHOT, &nobodys, sizeof(nobodys));
    record_set_identity(store, snapshot->layer->record, identity, size);
    return true;
}

static void delete_behind(struct tree_work *work, const struct volume *volume) {
    work->command.store = volume->store;
    work->command.done = deleted;
    volume_delete(&work->command);
}

void replica_drop_kept(struct volume *leg) {
    char name[VOLUME_NAME_SIZE];
    struct volume *kept = find_kept(leg, name);
    struct tree_work *work = kept == NULL ? NULL : calloc(1, sizeof(*work));
    if (work == NULL)
        return;
    work->command.volume = kept->uuid;
    delete_behind(work, kept);
}

void replica_delete_let_go(struct volume_store *store) {
    struct replica_snapshot snapshot;
    if (store_frozen(store))
        return;
    list_for_each (&store->volumes, struct volume, volume, node) {
        bool is_nobodys = replica_snapshot_of(volume->layer, NULL, &snapshot) && uuid_is_nil(&snapshot.mirror);
        struct tree_work *work = is_nobodys ? calloc(1, sizeof(*work)) : NULL;
        if (work == NULL)
            continue; /* or at the opening after this one */
        work->command.volume = volume->uuid;
        delete_behind(work, volume);
    }
}

/* What needs no command, or none that is waited for. False: `work` is somebody's now. */
static bool run_here(struct volume_op *op, struct tree_work *work, const struct replica_tree *tree, bool deletes) {
    struct volume *leg = op->volume;
    if (tree->what == REPLICA_DELETE) {
        if (!let_go(op, volume_find(leg->store, &work->command.volume)))
            return true; /* again, when there is room */
        stamp(leg, tree);
        replica_put_commit(op);
        delete_behind(work, leg);
        return false;
    }
    if (tree->what == REPLICA_KEEP || tree->what == REPLICA_DROP) {
        op_end(op, IO_OK);
        if (deletes)
            delete_behind(work, leg);
        return !deletes;
    }
    if (commit_room(leg->store, 2, &op->waiter) != GOT)
        return true;
    stamp(leg, tree);
    replica_put_commit(op);
    return true;
}

void replica_tree_run(struct volume_op *op) {
    struct volume *leg = op->volume;
    const struct replica_tree *tree = (const void *)op->put->document;
    enum io_status status = leg->replica == NULL ? IO_UNSUPPORTED : replica_admits(leg->replica, op->request);
    if (status == IO_OK && replica_tree_check(tree, op->put->length) != NULL)
        status = IO_INVALID;
    struct tree_work *work = status == IO_OK ? calloc(1, sizeof(*work)) : NULL;
    void (*start)(struct volume_command *) = NULL;
    if (status == IO_OK)
        status = work == NULL ? IO_NO_MEMORY : plan(work, leg, tree, &start);
    if (status != IO_OK || (tree->flags & REPLICA_TREE_CHECK) != 0) {
        free(work);
        op_end(op, status);
        return;
    }
    VOLUME_AT(leg, TREE);
    if (start == NULL || start == volume_delete) {
        if (run_here(op, work, tree, start != NULL))
            free(work);
        return;
    }
    work->op = op;
    work->command.store = leg->store;
    work->command.tree = tree;
    work->command.leg = leg;
    work->command.done = done;
    take_pairs(work, tree);
    start(&work->command);
}

/* ---- GET: the snapshots ---- */

static void describe(const struct replica *replica, const struct volume *volume, const struct replica_snapshot *snapshot,
                     struct replica_layer *ret) {
    const struct layer *layer = volume->layer;
    struct replica_snapshot below = {0};
    replica_layer_below(replica, layer, &below);
    *ret = (struct replica_layer){.id = snapshot->id,
                                  .parent = below.id,
                                  .size = layer_size(layer) << BLOCK_SHIFT,
                                  .used = layer_get(layer, LAYER_USED) << CLUSTER_SHIFT,
                                  .created_ns = layer_get(layer, LAYER_CREATED),
                                  .uuid = volume->uuid,
                                  .layer = layer->id,
                                  .children = layer->child_count + layer->heirs};
    memcpy(ret->name, snapshot->name, sizeof(ret->name));
}

void replica_get_layers(struct volume_op *op) {
    const struct volume *leg = op->volume;
    const struct replica *replica = leg->replica;
    struct replica_snapshot snapshot;
    uint32_t count = snapshot_count(leg);
    size_t size = sizeof(struct replica_layers) + count * sizeof(struct replica_layer);
    struct replica_layers *layers = count > REPLICA_LAYERS_MAX ? NULL : calloc(1, size);
    if (layers == NULL) {
        op_end(op, IO_NO_MEMORY);
        return;
    }
    struct replica_snapshot below = {0};
    replica_layer_below(replica, leg->layer, &below);
    *layers = (struct replica_layers){.sequence = layer_get(leg->layer, LAYER_TREE),
                                      .change = layer_get(leg->layer, LAYER_CHANGE),
                                      .head_parent = below.id,
                                      .head_size = layer_size(leg->layer) << BLOCK_SHIFT};
    list_for_each (&leg->store->volumes, struct volume, volume, node)
        if (volume->layer != NULL && replica_snapshot_of(volume->layer, replica, &snapshot))
            describe(replica, volume, &snapshot, &layers->layers[layers->count++]);
    uint64_t offset = op->request->offset, length = min_u64(op->request->length, offset < size ? size - offset : 0);
    for (unsigned i = 0; i < op->request->slice_count; i++)
        memset(op->request->slices[i].base, 0, op->request->slices[i].length);
    if (length > 0)
        slice_copy_in(op->request->slices, op->request->slice_count, 0, (const uint8_t *)layers + offset, length);
    free(layers);
    op_end(op, IO_OK);
}

/* ---- GET: the attributes of one ---- */

/* Of its checksum the new copy is to be told by who reads it. */
static bool is_of_this_copy(const char *key) { return strcmp(key, VOLUME_CHECKSUM_ATTRIBUTE) == 0; }

void replica_get_pairs(struct volume_op *op, const struct volume *of) {
    uint8_t answer[REPLICA_PAIRS_BYTES] __attribute__((aligned(8))) = {0};
    struct replica_pairs *pairs = (void *)answer;
    uint32_t size, at = 0, count = 0;
    const uint8_t *identity = record_identity(of->layer->record, &size);
    static_assert(sizeof(*pairs) + IDENTITY_BYTES <= sizeof(answer), "an item's head is longer than the zero at its value's end");
    if (op->request->offset != 0 || op->request->length < sizeof(*pairs) || op->request->length > sizeof(answer)) {
        op_end(op, IO_INVALID);
        return;
    }
    for (struct identity_item item; identity_next(identity, size, &at, &item) && count < REPLICA_PAIRS_MAX;) {
        if (item.type != IDENTITY_ATTRIBUTE || memchr(item.bytes, '\0', item.length) == NULL ||
            is_of_this_copy((const char *)item.bytes))
            continue;
        memcpy(pairs->pairs + pairs->pair_bytes, item.bytes, item.length);
        pairs->pair_bytes += item.length + 1u;
        count++;
    }
    bool fits = sizeof(*pairs) + pairs->pair_bytes <= op->request->length;
    if (fits)
        slice_copy_in(op->request->slices, op->request->slice_count, 0, answer, op->request->length);
    op_end(op, fits ? IO_OK : IO_INVALID);
}
