/* Volumes as block devices: registering, renaming, removing them on the control reactor; closing and growing the store. */
#include "blockdev/volume/store.h"

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
        if (layer_get(layer, LAYER_TAIL) > layer_size(layer) && !store_frozen(store))
            tail_start(store, NULL, volume);
    }
    return true;
}

/* ---- control reactor ---- */

static bool device_register(struct volume *volume, struct error *error) {
    struct volume_store *store = volume->store;
    struct block_device *device = &volume->device;
    uuid_format(&volume->uuid, device->name);
    if ((size_t)snprintf(device->aliases[0], sizeof(device->aliases[0]), "%s/%s", store->name, volume->name) >=
        sizeof(device->aliases[0]))
        device->aliases[0][0] = '\0'; /* two names of full length: the UUID must do */
    device->ops = &ops;
    device->uuid = volume->uuid;
    device->block_size = store->super.sector_bytes;
    device->physical_block_size = max_u32(store->base_handle.device->physical_block_size, store->super.sector_bytes);
    device->optimal_io_bytes = CLUSTER_BYTES;
    device->memory_alignment = store->base_handle.device->memory_alignment;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES);
    device->native_fua = true;
    device->volatile_cache = true;
    device->trim_reads_zero = store->super.sector_bytes == BLOCK_BYTES;
    atomic_store(&device->read_only, volume->read_only || store->read_only);
    atomic_store(&device->block_count, (layer_size(volume->layer) << BLOCK_SHIFT) / device->block_size);
    device->home = store->home;
    volume->registered = block_device_register(store->graph, device, error);
    return volume->registered;
}

bool devices_register_all(struct volume_store *store, struct error *error) {
    list_for_each (&store->volumes, struct volume, volume, node) {
        struct error own;
        if (!device_register(volume, &own)) /* a name that others took: the volume is there, its device is not */
            snprintf(store->reason, sizeof(store->reason), "%.200s", own.text);
    }
    (void)error;
    return true;
}

static struct volume *volume_of(struct volume_command *command, const struct uuid *uuid) {
    char text[UUID_TEXT_SIZE];
    uuid_format(uuid, text);
    struct block_device *device = block_graph_find(command->store->graph, text);
    if (device == NULL || !volume_device_is(device))
        return NULL;
    return container_of(device, struct volume, device);
}

void volume_registered(struct volume_command *command) {
    struct volume *volume = volume_find(command->store, &command->ret_uuid);
    if (volume != NULL && !volume->registered)
        command->ok = device_register(volume, &command->error);
    command->done(command);
}

void volume_resized(struct volume_command *command) {
    struct volume *volume = volume_of(command, &command->volume);
    if (volume != NULL)
        block_device_set_size(&volume->device, (layer_size(volume->layer) << BLOCK_SHIFT) / volume->device.block_size);
    command->done(command);
}

void volume_renamed(struct volume_command *command) {
    struct volume *volume = volume_of(command, &command->volume);
    char alias[BLOCK_NAME_SIZE];
    if (volume != NULL && (size_t)snprintf(alias, sizeof(alias), "%s/%s", command->store->name, command->name) < sizeof(alias))
        command->ok = block_device_rename(&volume->device, 0, alias, &command->error);
    command->done(command);
}

void store_renamed(struct volume_command *command) {
    list_for_each (&command->store->volumes, struct volume, volume, node) {
        char alias[BLOCK_NAME_SIZE];
        if (volume->registered && (size_t)snprintf(alias, sizeof(alias), "%s/%s", command->name, volume->name) < sizeof(alias) &&
            !block_device_rename(&volume->device, 0, alias, &command->error))
            command->ok = false;
    }
    command->done(command);
}

void volume_made_read_only(struct volume_command *command) {
    struct volume *volume = volume_of(command, &command->volume);
    if (volume != NULL)
        atomic_store(&volume->device.read_only, true);
    command->done(command);
}

/* ---- removing devices: destroy() is the last word of the block layer ---- */

static void destroy(struct block_device *device) {
    struct volume *volume = container_of(device, struct volume, device);
    struct volume_store *store = volume->store;
    volume->registered = false;
    if (volume->deleting != NULL)
        volume_device_removed(volume->deleting);
    else if (store->closing_command != NULL && --store->close_devices == 0)
        store_close_devices_gone(store);
}

void volume_remove_device(struct volume_command *command) {
    struct volume *volume = volume_of(command, &command->volume);
    if (volume == NULL || !block_device_remove(&volume->device, NULL, NULL, &command->error))
        volume_device_removed(command);
}

void base_event(struct block_handle *handle, enum block_event event) {
    /* a store follows its disk's growth only when told to, and keeps a disk that is being removed until it is closed */
    (void)handle;
    (void)event;
}
