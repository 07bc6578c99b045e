/* Volumes as block devices: registering, renaming, removing them on the control reactor; closing and growing the store. */
#include "blockdev/volume/replica.h"

#include <stdio.h>
#include <stdlib.h>

static void destroy(struct block_device *device);

static const struct block_device_ops ops = {
    .kind = "volume", .product_name = "Logical Volume", .submit = volume_submit, .destroy = destroy};

bool volume_device_is(const struct block_device *device) { return device->ops == &ops; }
struct volume_store *volume_device_store(const struct block_device *device) {
    return container_of((struct block_device *)(uintptr_t)device, struct volume, device)->store;
}

/* ---- home reactor ---- */

struct volume *volume_find(struct volume_store *store, const struct uuid *uuid) {
    for (struct hash_node *n = hash_map_first(&store->by_uuid, get_le64(uuid->bytes)); n != NULL; n = hash_map_next(n)) {
        struct volume *volume = container_of(n, struct volume, by_uuid);
        if (uuid_equal(&volume->uuid, uuid))
            return volume;
    }
    return NULL;
}

bool volumes_build(struct volume_store *store) {
    list_for_each (&store->layers, struct layer, layer, node) {
        uint64_t flags = layer_get(layer, LAYER_STATE);
        layer->frozen = layer_state(layer) != LAYER_LIVE || (flags & LAYER_READ_ONLY) != 0;
        uint32_t size, at = 0;
        const uint8_t *identity = record_identity(layer->record, &size);
        char name[VOLUME_NAME_SIZE] = "";
        struct uuid uuid = {0};
        for (struct identity_item item; identity_next(identity, size, &at, &item);) {
            if (item.type == IDENTITY_NAME)
                snprintf(name, sizeof(name), "%.*s", (int)item.length, (const char *)item.bytes);
            else if (item.type == IDENTITY_UUID && item.length == sizeof(uuid))
                memcpy(&uuid, item.bytes, sizeof(uuid));
        }
        if (layer_state(layer) != LAYER_LIVE || uuid_is_nil(&uuid) || volume_find(store, &uuid) != NULL)
            continue;
        struct volume *volume = volume_new(store, layer, name, &uuid);
        if (volume == NULL)
            return false;
        volume->read_only = (flags & LAYER_READ_ONLY) != 0;
        if (!replica_open(store, volume))
            return false;
        uint64_t blocks = layer_size(layer), tail = layer_get(layer, LAYER_TAIL);
        if (tail > blocks && !store_frozen(store) && !tail_start(store, NULL, volume, blocks, tail))
            return false;
    }
    return true;
}

/* ---- control reactor ---- */

static bool device_register(struct volume *volume, const char *name, uint64_t blocks, struct error *error) {
    struct volume_store *store = volume->store;
    struct block_device *device = &volume->device;
    uuid_format(&volume->uuid, device->name);
    if ((size_t)snprintf(device->aliases[0], sizeof(device->aliases[0]), "%s/%s", store->control_name, name) >=
        sizeof(device->aliases[0]))
        device->aliases[0][0] = '\0'; /* two names of full length: the UUID must do */
    device->ops = &ops;
    device->uuid = volume->uuid;
    device->block_size = store->super.sector_bytes;
    device->physical_block_size = max_u32(store->base_handle.device->physical_block_size, store->super.sector_bytes);
    device->optimal_io_bytes = CLUSTER_BYTES;
    device->memory_alignment = store->base_handle.device->memory_alignment;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES) | BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET);
    device->native_fua = true;
    device->volatile_cache = true;
    device->trim_reads_zero = store->super.sector_bytes == BLOCK_BYTES;
    atomic_store(&device->read_only, volume->read_only || store->read_only);
    atomic_store(&device->block_count, (blocks << BLOCK_SHIFT) / device->block_size);
    device->home = store->home;
    volume->registered = block_device_register(store->graph, device, error);
    return volume->registered;
}

/* From inside of the opening: the home reactor has not begun to change names and sizes. */
void devices_register_all(struct volume_store *store) {
    memcpy(store->control_name, store->name, sizeof(store->control_name));
    list_for_each (&store->volumes, struct volume, volume, node) {
        struct error error;
        if (!device_register(volume, volume->name, layer_size(volume->layer), &error) && !store->read_only)
            /* a name that others took: the volume is there, its device is not */
            snprintf(store->reason, sizeof(store->reason), "%.200s", error.text);
    }
}

void volume_registered(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (store->closing_command == NULL && !command->subject->registered)
        command->ok = device_register(command->subject, command->name, command->subject_blocks, &command->error);
    command->done(command);
}

void volume_resized(struct volume_command *command) {
    struct block_device *device = &command->subject->device;
    if (command->subject->registered)
        block_device_set_size(device, (command->subject_blocks << BLOCK_SHIFT) / device->block_size);
    command->done(command);
}

void volume_renamed(struct volume_command *command) {
    char alias[BLOCK_NAME_SIZE];
    if (command->subject->registered &&
        (size_t)snprintf(alias, sizeof(alias), "%s/%s", command->store->control_name, command->name) < sizeof(alias))
        command->ok = block_device_rename(&command->subject->device, 0, alias, &command->error);
    command->done(command);
}

/* First device of the store, and the one after. */
static struct volume *device_next(struct volume_store *store, struct volume *after) {
    struct block_device *device = after == NULL ? NULL : &after->device;
    while ((device = block_graph_next(store->graph, device)) != NULL)
        if (volume_device_is(device) && volume_device_store(device) == store)
            return container_of(device, struct volume, device);
    return NULL;
}

void store_renamed(struct volume_command *command) {
    struct volume_store *store = command->store;
    snprintf(store->control_name, sizeof(store->control_name), "%s", command->name);
    for (struct volume *volume = NULL; (volume = device_next(store, volume)) != NULL;) {
        const char *slash = strchr(volume->device.aliases[0], '/');
        char alias[BLOCK_NAME_SIZE];
        if (slash != NULL && !volume->device.removing &&
            (size_t)snprintf(alias, sizeof(alias), "%s%s", command->name, slash) < sizeof(alias) &&
            !block_device_rename(&volume->device, 0, alias, &command->error))
            command->ok = false;
    }
    command->done(command);
}

void volume_made_read_only(struct volume_command *command) {
    atomic_store(&command->subject->device.read_only, true);
    command->done(command);
}

/* ---- removing devices: destroy() is the last word of the block layer ---- */

static void deletion_fail(struct volume_command *command) {
    command->ok = error_set(&command->error, ERROR_NO_DEVICE, "%s is being closed", command->store->control_name);
    command->done(command);
}

static void destroy(struct block_device *device) {
    struct volume *volume = container_of(device, struct volume, device);
    struct volume_store *store = volume->store;
    volume->registered = false;
    if (store->closing_command == NULL) {
        assert(volume->deleting != NULL);
        volume_device_removed(volume->deleting);
        return;
    }
    if (volume->deleting != NULL)
        deletion_fail(volume->deleting);
    if (--store->close_devices == 0)
        store_close_devices_gone(store);
}

void volume_remove_device(struct volume_command *command) {
    struct volume *volume = command->subject;
    if (command->store->closing_command != NULL)
        deletion_fail(command);
    else if (!volume->registered)
        volume_device_removed(command);
    else if (!block_device_remove(&volume->device, NULL, NULL, &command->error)) {
        command->ok = false;
        command->done(command);
    }
}

void devices_remove_all(struct volume_store *store) {
    struct volume *next;
    store->close_devices = 1;
    for (struct volume *volume = device_next(store, NULL); volume != NULL; volume = next) {
        next = device_next(store, volume);
        store->close_devices++;
        if (!volume->device.removing) /* else it is being deleted, and ends here all the same */
            block_device_remove(&volume->device, NULL, NULL, NULL);
    }
    if (--store->close_devices == 0)
        store_close_devices_gone(store);
}

void base_event(struct block_handle *handle, enum block_event event) {
    /* a store follows its disk's growth only when told to, and keeps a disk that is being removed until it is closed */
    (void)handle;
    (void)event;
}
