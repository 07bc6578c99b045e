/* Commands that change the tree or a record, on the home reactor: one at a time up to the change in RAM, which is made in one
 * turn; answered when its record is durable. A command's function is run again from its start whenever what it waited for has
 * come. */
#include "blockdev/volume/replica.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- how a command runs ---- */

struct command_end {
    struct waiter waiter;
    void (*after)(struct volume_command *command); /* control reactor; NULL = command->done */
};
static_assert(sizeof(struct command_end) <= sizeof(((struct volume_command *)0)->private), "fits the command");

static struct command_end *end_of(struct volume_command *command) { return (struct command_end *)(void *)command->private; }

static void report(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    void (*after)(struct volume_command *) = end_of(command)->after;
    if (command->ok && after != NULL)
        after(command);
    else
        command->done(command);
}

static void answer(struct volume_store *store, struct volume_command *command) {
    command->message.run = report;
    reactor_post(store->control, &command->message);
}

static void commands_run(struct reactor_job *job) {
    struct volume_store *store = container_of(job, struct volume_store, command_job);
    store->commands_queued = false;
    while (store->command != NULL || !list_empty(&store->commands)) {
        if (store->command != NULL && list_linked(&store->command_waiter.node))
            return;
        if (store->command == NULL)
            store->command = list_entry(list_pop_front(&store->commands), struct volume_command, node);
        struct volume_command *command = store->command;
        command->run(command);
        if (store->command == command)
            return; /* it waits */
    }
}

void commands_step(struct volume_store *store) {
    if (store->commands_queued)
        return;
    store->commands_queued = true;
    store->command_job.run = commands_run;
    reactor_defer(store->home, &store->command_job);
}

static void command_wake(struct waiter *waiter, enum io_status status) {
    struct volume_store *store = container_of(waiter, struct volume_store, command_waiter);
    struct volume_command *command = store->command;
    if (status != IO_OK && command != NULL) {
        error_set(&command->error, status == IO_NO_SPACE ? ERROR_NO_SPACE : ERROR_IO, "%s: %s", store->name,
                  io_status_name(status));
        command_fail(store, command);
    }
    commands_step(store);
}

static void leave(struct volume_store *store, struct volume_command *command) {
    if (store->command == command) {
        store->command = NULL;
        store->gate = NULL;
        waiters_wake(&store->gate_waiters, IO_OK);
    }
    commands_step(store);
}

void command_fail(struct volume_store *store, struct volume_command *command) {
    command->ok = false;
    leave(store, command);
    answer(store, command);
}

static void committed(struct waiter *waiter, enum io_status status) {
    struct volume_command *command = container_of((void *(*)[4])(void *)waiter, struct volume_command, private);
    command->ok = status == IO_OK || error_set(&command->error, ERROR_IO, "%s", command->store->reason);
    answer(command->store, command);
}

/* What the control reactor is to do with a volume's device when the command is answered. */
void command_subject(struct volume_command *command, struct volume *volume) {
    command->subject = volume;
    command->subject_blocks = layer_size(volume->layer);
}

void command_commit(struct volume_store *store, struct volume_command *command, void (*after)(struct volume_command *command)) {
    struct command_end *end = end_of(command);
    *end = (struct command_end){.waiter.wake = committed, .after = after};
    leave(store, command);
    commit_join(store, &end->waiter);
}

static void command_arrived(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    struct volume_store *store = command->store;
    store->command_waiter.wake = command_wake;
    list_push_back(&store->commands, &command->node);
    commands_step(store);
}

void command_start(struct volume_command *command, void (*run)(struct volume_command *command)) {
    error_clear(&command->error);
    command->ok = false;
    command->ret_text = NULL;
    command->ret_infos = NULL;
    command->ret_count = 0;
    memset(command->private, 0, sizeof(command->private));
    command->subject = NULL;
    command->subject_blocks = 0;
    command->run = run;
    command->message.run = command_arrived;
    reactor_post(command->store->home, &command->message);
}

/* Fails the command for an io_status; false, as error_set(). */
static void fail_status(struct volume_command *command, enum io_status status) {
    struct volume_store *store = command->store;
    enum error_code code = status == IO_NO_SPACE    ? ERROR_NO_SPACE
                           : status == IO_NO_MEMORY ? ERROR_NO_MEMORY
                           : status == IO_DAMAGED   ? ERROR_DAMAGED
                                                    : ERROR_IO;
    error_set(&command->error, code, "%s: %s", store->name, error_facts(code)->errno_text);
    command_fail(store, command);
}

static bool may_change(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (store->failed)
        error_set(&command->error, ERROR_IO, "%s", store->reason);
    else if (store->read_only)
        error_set(&command->error, ERROR_READ_ONLY, "%s is read-only: %s", store->name, store->reason);
    else if (store->closing)
        error_set(&command->error, ERROR_NO_DEVICE, "%s is being closed", store->name);
    else
        return true;
    command_fail(store, command);
    return false;
}

/* The command's volume, idle; NULL: answered, or put aside until it is. */
static struct volume *target(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (!may_change(command))
        return NULL;
    struct volume *volume = volume_find(store, &command->volume);
    if (volume == NULL || volume->deleting != NULL) {
        char text[UUID_TEXT_SIZE];
        uuid_format(&command->volume, text);
        error_set(&command->error, ERROR_NO_DEVICE, "there is no volume %s in %s", text, store->name);
        command_fail(store, command);
        return NULL;
    }
    if (volume->layer->damaged) {
        error_set(&command->error, ERROR_DAMAGED, "%s is damaged", volume->name);
        command_fail(store, command);
        return NULL;
    }
    if (volume->state != VOLUME_IDLE) {
        list_push_back(&volume->waiting, &command->node);
        leave(store, command);
        return NULL;
    }
    return volume;
}

void volume_set_idle(struct volume_store *store, struct volume *volume) {
    volume->state = VOLUME_IDLE;
    volume->progress_percent = 0;
    list_splice_back(&store->commands, &volume->waiting);
    background_kick(store);
    commands_step(store);
}

static bool name_taken(const struct volume_store *store, const char *name, const struct uuid *uuid) {
    list_for_each (&store->volumes, struct volume, volume, node) {
        if (strcmp(volume->name, name) == 0 || (uuid != NULL && uuid_equal(&volume->uuid, uuid)))
            return true;
    }
    return false;
}

/* Checks and completes name and UUID of what is to be made. */
static bool new_identity(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (command->name == NULL || !text_is_name(command->name, VOLUME_NAME_SIZE - 1))
        error_invalid(&command->error, "name", command->name == NULL ? "" : command->name,
                      "1 to %d printable characters without '/'", VOLUME_NAME_SIZE - 1);
    else if (name_taken(store, command->name, uuid_is_nil(&command->new_uuid) ? NULL : &command->new_uuid))
        error_set(&command->error, ERROR_EXISTS, "%s/%s, or its UUID, exists already", store->name, command->name);
    else if (store->volume_count >= LAYERS_MAX / 2)
        error_set(&command->error, ERROR_NO_MEMORY, "%s has as many volumes as there can be", store->name);
    else {
        command->ret_uuid = command->new_uuid;
        if (uuid_is_nil(&command->ret_uuid)) {
            uint8_t random[16];
            host_random(store->home->host, random, sizeof(random));
            uuid_from_random(random, &command->ret_uuid);
        }
        return true;
    }
    command_fail(store, command);
    return false;
}

static bool identity_compose(struct volume_command *command, uint8_t *identity, uint32_t *ret_size) {
    uint32_t size = 0;
    bool fits = identity_append(identity, &size, IDENTITY_UUID, &command->ret_uuid, sizeof(command->ret_uuid)) &&
                identity_append(identity, &size, IDENTITY_NAME, command->name, strlen(command->name));
    for (unsigned i = 0; i < command->pair_count && fits; i++) {
        uint8_t item[VOLUME_ATTRIBUTES_SIZE];
        size_t key = strlen(command->pairs[2 * i]) + 1, value = strlen(command->pairs[2 * i + 1]);
        fits = key + value <= sizeof(item);
        if (fits) {
            memcpy(item, command->pairs[2 * i], key);
            memcpy(item + key, command->pairs[2 * i + 1], value);
            fits = identity_append(identity, &size, IDENTITY_ATTRIBUTE, item, key + value);
        }
    }
    *ret_size = size;
    if (!fits) {
        error_set(&command->error, ERROR_NO_SPACE, "the attributes of %s are longer than %d bytes", command->name,
                  VOLUME_ATTRIBUTES_SIZE);
        command_fail(command->store, command);
    }
    return fits;
}

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
    if (!hash_map_insert(&store->by_uuid, &volume->by_uuid, get_le64(uuid->bytes))) {
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
        fail_status(command, status);
        return NULL;
    }
    struct volume *volume = NULL;
    if (ret_volume != NULL && (volume = volume_new(store, NULL, command->name, &command->ret_uuid)) == NULL) {
        fail_status(command, IO_NO_MEMORY);
        return NULL;
    }
    struct layer *layer = layer_attach(store, record->index, record);
    if (layer == NULL) {
        if (volume != NULL) {
            volume_forget(store, volume);
            free(volume);
        }
        fail_status(command, IO_NO_MEMORY);
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
    if (!may_change(command) || !size_wanted(command, &blocks) || !new_identity(command) ||
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
    struct volume *volume = target(command), *snapshot;
    if (volume == NULL || replica_refuses_command(command, volume) || !new_identity(command) ||
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
    layer_set(store, head, LAYER_CREATED, host_wall_ns(store->home->host));
    record_set_identity(store, head->record, identity, size);
    promise_update(store, head);
    snapshot->layer = head;
    snapshot->read_only = true;
    head->volume = snapshot;
    volume->layer = layer;
    layer->volume = volume;
    layer_freeze(store, head);
    command_subject(command, snapshot);
    command_commit(store, command, volume_registered);
}

static void clone_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    struct volume *volume = target(command), *clone;
    if (volume == NULL || !new_identity(command) || !identity_compose(command, identity, &size))
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

static void revert_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size;
    struct volume *volume = target(command);
    if (volume == NULL || replica_refuses_command(command, volume))
        return;
    struct volume *snapshot = volume_find(store, &command->snapshot);
    struct layer *up = volume->layer->parent;
    while (up != NULL && (snapshot == NULL || up != snapshot->layer))
        up = up->parent;
    if (up == NULL || snapshot->deleting != NULL || volume->read_only) {
        error_set(&command->error, ERROR_INVALID, "%s can be reverted to its own snapshots only", volume->name);
        command_fail(store, command);
        return;
    }
    if (layer_hold_off(store, volume->layer, &store->command_waiter) != GOT)
        return;
    struct layer *old = volume->layer, *layer = new_layer(command, NULL);
    if (layer == NULL)
        return;
    uint64_t created = layer_get(old, LAYER_CREATED);
    memcpy(identity, record_identity(old->record, &size), IDENTITY_BYTES);
    layer_fill(store, layer, 0, up, layer_size(up), layer_size(up));
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
    background_kick(store); /* a layer that merges into the old one has no child any more */
    command_subject(command, volume);
    command_commit(store, command, volume_resized);
}

/* Rewrites the identity of a record: the name or one attribute replaced (length 0: removed). False: too long. */
static bool identity_edit(struct volume_store *store, struct page *record, enum identity_type type, const char *key,
                          const void *bytes, size_t length) {
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size = 0, old_size, at = 0;
    const uint8_t *old = record_identity(record, &old_size);
    bool fits = true;
    for (struct identity_item item; identity_next(old, old_size, &at, &item);) {
        bool same =
            item.type == type && (key == NULL || (item.length > strlen(key) && memcmp(item.bytes, key, strlen(key) + 1) == 0));
        if (!same)
            fits = fits && identity_append(identity, &size, item.type, item.bytes, item.length);
    }
    if (length > 0)
        fits = fits && identity_append(identity, &size, (uint16_t)type, bytes, length);
    return fits && record_set_identity(store, record, identity, size);
}

static void rename_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
    if (volume == NULL || !new_identity(command))
        return;
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    if (!identity_edit(store, volume->layer->record, IDENTITY_NAME, NULL, command->name, strlen(command->name))) {
        fail_status(command, IO_NO_SPACE);
        return;
    }
    snprintf(volume->name, sizeof(volume->name), "%s", command->name);
    command_subject(command, volume);
    command_commit(store, command, volume_renamed);
}

static void read_only_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
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

static void attribute_set_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
    if (volume == NULL)
        return;
    uint64_t flags = layer_get(volume->layer, LAYER_STATE);
    uint8_t item[VOLUME_ATTRIBUTES_SIZE];
    size_t key = command->name == NULL ? 0 : strlen(command->name), value = command->value == NULL ? 0 : strlen(command->value);
    if (key == 0)
        error_invalid(&command->error, "xattr_name", "", "a name");
    else if ((flags & LAYER_READ_ONLY) != 0 && (flags & LAYER_SNAPSHOT) == 0)
        error_set(&command->error, ERROR_PERMISSION, "%s is read-only", volume->name);
    else if (key + 1 + value > sizeof(item))
        error_set(&command->error, ERROR_NO_SPACE, "attribute %.64s is longer than %d bytes", command->name,
                  VOLUME_ATTRIBUTES_SIZE);
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    memcpy(item, command->name, key + 1);
    if (value > 0)
        memcpy(item + key + 1, command->value, value);
    if (!identity_edit(store, volume->layer->record, IDENTITY_ATTRIBUTE, command->name, item,
                       command->value == NULL ? 0 : key + 1 + value)) {
        error_set(&command->error, ERROR_NO_SPACE, "the attributes of %s would be longer than %d bytes", volume->name,
                  VOLUME_ATTRIBUTES_SIZE);
        command_fail(store, command);
        return;
    }
    command_commit(store, command, NULL);
}

/* ---- commands that change nothing ---- */

static void finish_now(struct volume_store *store, struct volume_command *command, bool ok) {
    command->ok = ok;
    end_of(command)->after = NULL;
    leave(store, command);
    answer(store, command);
}

static bool no_such(struct volume_command *command) {
    char text[UUID_TEXT_SIZE];
    uuid_format(&command->volume, text);
    return error_set(&command->error, ERROR_NO_DEVICE, "there is no volume %s in %s", text, command->store->name);
}

static void attribute_get_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = volume_find(store, &command->volume);
    if (volume == NULL || volume->layer == NULL) {
        finish_now(store, command, no_such(command));
        return;
    }
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(volume->layer->record, &size);
    size_t key = strlen(command->name) + 1;
    for (struct identity_item item; identity_next(identity, size, &at, &item);) {
        if (item.type != IDENTITY_ATTRIBUTE || item.length < key || memcmp(item.bytes, command->name, key) != 0)
            continue;
        command->ret_text = calloc(1, item.length - key + 1);
        if (command->ret_text != NULL)
            memcpy(command->ret_text, item.bytes + key, item.length - key);
        finish_now(store, command,
                   command->ret_text != NULL || error_set(&command->error, ERROR_NO_MEMORY, "no memory for an attribute"));
        return;
    }
    finish_now(store, command,
               error_set(&command->error, ERROR_NOT_FOUND, "%s has no attribute %.64s", volume->name, command->name));
}

static void describe(const struct volume *volume, struct volume_info *info) {
    const struct layer *layer = volume->layer, *parent = layer->parent;
    uint64_t flags = layer_get(layer, LAYER_STATE);
    info->uuid = volume->uuid;
    memcpy(info->name, volume->name, sizeof(info->name));
    while (parent != NULL && parent->volume == NULL)
        parent = parent->parent; /* a nameless one is on its way out */
    if (parent != NULL) {
        info->parent = parent->volume->uuid;
        memcpy(info->parent_name, parent->volume->name, sizeof(info->parent_name));
    }
    info->size_bytes = layer_size(layer) << BLOCK_SHIFT;
    info->used_bytes = layer_get(layer, LAYER_USED) << CLUSTER_SHIFT;
    info->created_ns = layer_get(layer, LAYER_CREATED);
    info->child_count = layer->child_count;
    info->thick = (flags & LAYER_THICK) != 0;
    info->snapshot = (flags & LAYER_SNAPSHOT) != 0;
    info->read_only = volume->read_only;
    info->damaged = layer->damaged;
    info->state = volume->state;
    info->progress_percent = volume->progress_percent;
}

static void list_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    bool all = uuid_is_nil(&command->volume);
    struct volume_info *infos = calloc(max_u64(1, all ? store->volume_count : 1), sizeof(*infos));
    if (infos == NULL) {
        finish_now(store, command, error_set(&command->error, ERROR_NO_MEMORY, "no memory to list %s", store->name));
        return;
    }
    list_for_each (&store->volumes, struct volume, volume, node) {
        if (volume->layer != NULL && (all || uuid_equal(&volume->uuid, &command->volume)))
            describe(volume, &infos[command->ret_count++]);
    }
    if (!all && command->ret_count == 0) {
        free(infos);
        finish_now(store, command, no_such(command));
        return;
    }
    command->ret_infos = infos;
    finish_now(store, command, true);
}

void volume_store_info(struct volume_store *store, struct volume_store_info *info) {
    *info = (struct volume_store_info){.uuid = store->uuid,
                                       .base_name = store->base_handle.device->name,
                                       .sector_bytes = store->super.sector_bytes,
                                       .unit_bytes = store->super.unit_bytes,
                                       .cluster_bytes = CLUSTER_BYTES,
                                       .promised_bytes = store->promised_clusters << CLUSTER_SHIFT,
                                       .volume_count = store->volume_count,
                                       .read_only = store->read_only,
                                       .failed = store->failed,
                                       .background = store->background_count,
                                       .commits = store->commits,
                                       .records = store->records,
                                       .base_flushes = store->base_flushes,
                                       .checkpoints = store->checkpoints,
                                       .replayed_records = store->replayed_records,
                                       .open_reads = store->open_reads,
                                       .journal_bytes = (uint64_t)store->commit.ring_blocks * BLOCK_BYTES,
                                       .journal_used_bytes = (uint64_t)store->commit.used * BLOCK_BYTES,
                                       .cache_bytes = store->cache_count * CACHE_PAGE_BYTES};
    memcpy(info->name, store->name, sizeof(info->name));
    memcpy(info->reason, store->reason, sizeof(info->reason));
    uint64_t fixed = (uint64_t)store->super.journal_cluster + store->super.journal_clusters + 1 + store->super.reserve_clusters +
                     store->total_clusters / ALLOC_NODE_CLUSTERS;
    uint64_t total = store->total_clusters > fixed ? store->total_clusters - fixed : 0;
    uint64_t taken = store->used_clusters + store->shadow_clusters - store->waiting_clusters + store->promised_clusters +
                     store->super.reserve_clusters;
    info->total_bytes = total << CLUSTER_SHIFT;
    info->free_bytes = taken < store->total_clusters ? (store->total_clusters - taken) << CLUSTER_SHIFT : 0;
    info->max_growable_bytes = min_u64(CLUSTERS_MAX, (uint64_t)store->super.alloc_index_pages * PAGE_WORDS * ALLOC_PAGE_CLUSTERS)
                               << CLUSTER_SHIFT;
    info->nearly_full = info->free_bytes < info->total_bytes / 5;
    list_for_each (&store->volumes, struct volume, volume, node) {
        if (volume->layer != NULL)
            info->provisioned_bytes += layer_size(volume->layer) << BLOCK_SHIFT;
    }
}

static void describe_run(struct volume_command *command) {
    volume_store_info(command->store, command->store_info);
    finish_now(command->store, command, true);
}

static void store_rename_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (!may_change(command))
        return;
    if (command->name == NULL || !text_is_name(command->name, VOLUME_NAME_SIZE - 1)) {
        error_invalid(&command->error, "new_name", command->name == NULL ? "" : command->name,
                      "1 to %d printable characters without '/'", VOLUME_NAME_SIZE - 1);
        command_fail(store, command);
        return;
    }
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    identity_edit(store, page_find(store, SPACE(PAGE_TABLE, 0), 0), IDENTITY_NAME, NULL, command->name, strlen(command->name));
    snprintf(store->name, sizeof(store->name), "%s", command->name);
    command_commit(store, command, store_renamed);
}

/* ---- deletion: checked here, then the device goes (control reactor), then the layer ---- */

static void delete_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
    if (volume == NULL)
        return;
    unsigned children = volume->layer->child_count + volume->layer->heirs;
    if (children > 1) {
        error_set(&command->error, ERROR_PERMISSION, "%s has %u children: delete or decouple them first", volume->name, children);
        command_fail(store, command);
        return;
    }
    volume->deleting = command;
    command->ok = true;
    command_subject(command, volume);
    end_of(command)->after = volume_remove_device;
    leave(store, command);
    answer(store, command);
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
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    struct layer *layer = volume->layer;
    replica_forget(volume);
    volume_forget(store, volume);
    free(volume);
    layer->volume = NULL;
    layer->frozen = true;
    record_set_identity(store, layer->record, NULL, 0);
    layer_set_state(store, layer, layer->child_count == 0 ? LAYER_DELETING : LAYER_MERGING);
    background_start(store, layer);
    background_kick(store); /* a layer that merges into this one looks again */
    command_commit(store, command, NULL);
}

void volume_device_removed(struct volume_command *command) {
    command->run = delete_layer_run;
    command->message.run = command_arrived;
    reactor_post(command->store->home, &command->message);
}

/* ---- inflate, decouple, resize: copy.c and resize.c do the long part ---- */

static void inflate_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
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
    leave(store, command);
    copy_start(store, command, volume, false);
}

static void decouple_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = target(command);
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
    leave(store, command);
    copy_start(store, command, volume, true);
}

static void resize_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint64_t blocks;
    struct volume *volume = target(command);
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
    if (clears && !tail_start(store, command, volume, blocks, tail))
        return;
    layer_set(store, layer, LAYER_SIZE, blocks);
    layer_set(store, layer, LAYER_TAIL, clears ? tail : blocks);
    if (VOLUME_CANARY != VOLUME_CANARY_SHRINK_KEEPS_LIMIT)
        layer_set(store, layer, LAYER_LIMIT, min_u64(layer_get(layer, LAYER_LIMIT), blocks));
    store->move_generation++; /* what was remembered of the parents may be beyond the limit */
    promise_update(store, layer);
    if (clears) {
        leave(store, command);
        return;
    }
    command_subject(command, volume);
    command_commit(store, command, volume_resized);
}

void volume_create(struct volume_command *command) { command_start(command, create_run); }
void volume_delete(struct volume_command *command) { command_start(command, delete_run); }
void volume_snapshot_create(struct volume_command *command) { command_start(command, snapshot_run); }
void volume_clone(struct volume_command *command) { command_start(command, clone_run); }
void volume_revert(struct volume_command *command) { command_start(command, revert_run); }
void volume_rename(struct volume_command *command) { command_start(command, rename_run); }
void volume_resize(struct volume_command *command) { command_start(command, resize_run); }
void volume_set_read_only(struct volume_command *command) { command_start(command, read_only_run); }
void volume_inflate(struct volume_command *command) { command_start(command, inflate_run); }
void volume_decouple(struct volume_command *command) { command_start(command, decouple_run); }
void volume_attribute_set(struct volume_command *command) { command_start(command, attribute_set_run); }
void volume_attribute_get(struct volume_command *command) { command_start(command, attribute_get_run); }
void volume_list(struct volume_command *command) { command_start(command, list_run); }
void volume_store_describe(struct volume_command *command) { command_start(command, describe_run); }
void volume_store_rename(struct volume_command *command) { command_start(command, store_rename_run); }
