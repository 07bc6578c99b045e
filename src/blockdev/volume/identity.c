/* Commands about names, UUIDs and attributes: what a layer's record says of who it is. */
#include "blockdev/volume/replica.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

static bool name_taken(struct volume_store *store, const char *name, const struct uuid *uuid) {
    for (struct hash_node *n = hash_map_first(&store->by_name, hash_text(name)); n != NULL; n = hash_map_next(n))
        if (strcmp(container_of(n, struct volume, by_name)->name, name) == 0)
            return true;
    return uuid != NULL && volume_find(store, uuid) != NULL;
}

bool identity_new(struct volume_command *command) {
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

bool identity_compose(struct volume_command *command, uint8_t *identity, uint32_t *ret_size) {
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
    fits = fits && replica_tree_identity(command, identity, &size);
    *ret_size = size;
    if (!fits) {
        error_set(&command->error, ERROR_NO_SPACE, "the attributes of %s are longer than %d bytes", command->name,
                  VOLUME_ATTRIBUTES_SIZE);
        command_fail(command->store, command);
    }
    return fits;
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

void identity_drop_attribute(struct volume_store *store, struct page *record, const char *key) {
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(record, &size);
    for (struct identity_item item; identity_next(identity, size, &at, &item);)
        if (item.type == IDENTITY_ATTRIBUTE && item.length > strlen(key) && memcmp(item.bytes, key, strlen(key) + 1) == 0) {
            identity_edit(store, record, IDENTITY_ATTRIBUTE, key, NULL, 0); /* shorter than it was: it fits */
            return;
        }
}

static void rename_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
    if (volume == NULL || !identity_new(command))
        return;
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    if (!identity_edit(store, volume->layer->record, IDENTITY_NAME, NULL, command->name, strlen(command->name))) {
        command_fail_status(command, IO_NO_SPACE);
        return;
    }
    hash_map_remove(&store->by_name, &volume->by_name);
    snprintf(volume->name, sizeof(volume->name), "%s", command->name);
    bool inserted = hash_map_insert(&store->by_name, &volume->by_name, hash_text(volume->name));
    assert(inserted); /* as many as before: it does not grow */
    command_subject(command, volume);
    command_commit(store, command, volume_renamed);
}

static void attribute_set_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = command_target(command);
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

static void attribute_get_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = volume_find(store, &command->volume);
    if (volume == NULL || volume->layer == NULL) {
        command_finish(command, command_no_such(command), NULL);
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
        command_finish(command,
                       command->ret_text != NULL || error_set(&command->error, ERROR_NO_MEMORY, "no memory for an attribute"),
                       NULL);
        return;
    }
    command_finish(command, error_set(&command->error, ERROR_NOT_FOUND, "%s has no attribute %.64s", volume->name, command->name),
                   NULL);
}

static void store_rename_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (!command_may_change(command))
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

void volume_rename(struct volume_command *command) { command_start(command, rename_run); }
static void checksum_set_run(struct volume_command *command) {
    const struct volume *volume = volume_find(command->store, &command->volume);
    if (volume == NULL || volume->layer == NULL || volume->layer->content_changes != command->content_changes) {
        error_set(&command->error, ERROR_BUSY, "what the snapshot holds has changed while its checksum was made");
        command_fail(command->store, command);
        return;
    }
    attribute_set_run(command);
}

void checksum_set(struct volume_command *command) { command_start(command, checksum_set_run); }
void volume_attribute_set(struct volume_command *command) { command_start(command, attribute_set_run); }
void volume_attribute_get(struct volume_command *command) { command_start(command, attribute_get_run); }
void volume_store_rename(struct volume_command *command) { command_start(command, store_rename_run); }
