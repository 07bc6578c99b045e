/* The name table of a node's devices, handles and claims. Control reactor. */
#include <stdio.h>
#include <stdlib.h>

#include "block/channel.h"

void block_graph_init(struct block_graph *graph, struct host *host, unsigned reactor_count) {
    *graph = (struct block_graph){.host = host, .reactor_count = reactor_count};
    hash_map_init(&graph->names);
    list_init(&graph->devices);
    list_init(&graph->watchers);
    atomic_flag_clear(&graph->replicas_lock);
    hash_map_init(&graph->replicas);
}

void block_graph_watch(struct block_graph *graph, struct block_watcher *watcher) {
    list_push_back(&graph->watchers, &watcher->node);
}

void block_graph_unwatch(struct block_watcher *watcher) { list_remove(&watcher->node); }

static void tell_watchers(const struct block_device *device, const char *what) {
    list_for_each_safe (&device->graph->watchers, struct block_watcher, watcher, node)
        watcher->told(watcher, what, device);
}

void block_graph_fini(struct block_graph *graph) {
    assert(list_empty(&graph->devices));
    assert(graph->replicas.count == 0);
    hash_map_fini(&graph->replicas);
    hash_map_fini(&graph->names);
}

/* name_nodes[0] is the name, [1] the UUID's text, [2 …] the aliases. */
static void name_text(const struct block_device *device, unsigned index, char text[BLOCK_NAME_SIZE]) {
    if (index != 1)
        memcpy(text, index == 0 ? device->name : device->aliases[index - 2], BLOCK_NAME_SIZE);
    else
        uuid_format(&device->uuid, text);
    if (index == 1 && strcmp(text, device->name) == 0) /* a device that is named by its UUID has that name once */
        text[0] = '\0';
}

struct block_device *block_graph_find(struct block_graph *graph, const char *name) {
    char wanted[BLOCK_NAME_SIZE], text[BLOCK_NAME_SIZE];
    struct uuid uuid;
    if (strlen(name) >= sizeof(wanted))
        return NULL;
    memcpy(wanted, name, strlen(name) + 1);
    if (uuid_parse(name, &uuid))
        uuid_format(&uuid, wanted);
    for (struct hash_node *n = hash_map_first(&graph->names, hash_text(wanted)); n != NULL; n = hash_map_next(n)) {
        struct block_name *entry = container_of(n, struct block_name, node);
        name_text(entry->device, entry->index, text);
        if (strcmp(text, wanted) == 0)
            return entry->device;
    }
    return NULL;
}

struct block_device *block_graph_next(struct block_graph *graph, struct block_device *after) {
    struct list_node *node = after == NULL ? graph->devices.head.next : after->node.next;
    return node == &graph->devices.head ? NULL : list_entry(node, struct block_device, node);
}

static bool name_insert(struct block_device *device, unsigned index, struct error *error) {
    char text[BLOCK_NAME_SIZE];
    name_text(device, index, text);
    if (text[0] == '\0')
        return true;
    if (block_graph_find(device->graph, text) != NULL)
        return error_set(error, ERROR_EXISTS, "the name %s is taken", text);
    device->names[index] = (struct block_name){.device = device, .index = index, .linked = true};
    if (hash_map_insert(&device->graph->names, &device->names[index].node, hash_text(text)))
        return true;
    device->names[index].linked = false;
    return error_set(error, ERROR_NO_MEMORY, "no memory for the name %s", text);
}

static void name_remove(struct block_device *device, unsigned index) {
    if (device->names[index].linked)
        hash_map_remove(&device->graph->names, &device->names[index].node);
    device->names[index].linked = false;
}

static void names_remove(struct block_device *device) {
    for (unsigned i = 0; i < BLOCK_NAMES; i++)
        name_remove(device, i);
}

static bool names_insert(struct block_device *device, struct error *error) {
    for (unsigned i = 0; i < BLOCK_NAMES; i++)
        if (!name_insert(device, i, error)) {
            names_remove(device);
            return false;
        }
    return true;
}

bool block_device_register(struct block_graph *graph, struct block_device *device, struct error *error) {
    if (device->name[0] == '\0')
        return error_invalid(error, "name", "", "1 to %d characters", BLOCK_NAME_SIZE - 1);
    if (!is_power_of_two(device->block_size) || device->block_size < 512 || device->block_size > KIB(64)) {
        char number[16];
        snprintf(number, sizeof(number), "%u", device->block_size);
        return error_invalid(error, "block_size", number, "a power of two from 512 to 65536");
    }
    if (device->physical_block_size == 0)
        device->physical_block_size = device->block_size;
    if (uuid_is_nil(&device->uuid)) {
        uint8_t bytes[16];
        host_random(graph->host, bytes, sizeof(bytes));
        uuid_from_random(bytes, &device->uuid);
    }
    device->graph = graph;
    device->removing = device->claimed = false;
    list_init(&device->handles);
    device->stats = aligned_alloc(64, graph->reactor_count * sizeof(struct block_stats));
    if (device->stats == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the statistics of %s", device->name);
    for (unsigned i = 0; i < graph->reactor_count; i++) {
        memset(&device->stats[i], 0, sizeof(device->stats[i]));
        for (unsigned column = 0; column < BLOCK_STATS_COLUMNS; column++)
            device->stats[i].ops[column].ticks_min = UINT64_MAX;
    }
    if (!names_insert(device, error)) {
        free(device->stats);
        device->stats = NULL;
        return false;
    }
    list_push_back(&graph->devices, &device->node);
    graph->device_count++;
    tell_watchers(device, "bdev_register");
    return true;
}

static void removal_finish(struct block_device *device) {
    if (!device->removing || !list_empty(&device->handles))
        return;
    void (*removed)(struct block_device *, void *) = device->removed;
    void *arg = device->removed_arg;
    list_remove(&device->node);
    device->graph->device_count--;
    tell_watchers(device, "bdev_unregister");
    free(device->stats);
    device->stats = NULL;
    if (removed != NULL)
        removed(device, arg);
    device->ops->destroy(device);
}

static void events(struct block_device *device, enum block_event event) {
    list_for_each_safe (&device->handles, struct block_handle, handle, node) {
        if (handle->event != NULL)
            handle->event(handle, event);
    }
}

bool block_device_remove(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error) {
    if (device->removing)
        return error_set(error, ERROR_BUSY, "%s is being removed", device->name);
    device->removed = removed;
    device->removed_arg = arg;
    names_remove(device);
    struct block_handle keep = {.device = device,
                                .owner = "removal"}; /* an event may close the last handle: not before all were told */
    list_push_front(&device->handles, &keep.node);
    device->removing = true;
    events(device, BLOCK_EVENT_REMOVE);
    list_remove(&keep.node);
    removal_finish(device);
    return true;
}

bool block_device_rename(struct block_device *device, int alias_index, const char *name, struct error *error) {
    if (strlen(name) >= BLOCK_NAME_SIZE || (alias_index < 0 && name[0] == '\0'))
        return error_invalid(error, "name", name, "1 to %d characters", BLOCK_NAME_SIZE - 1);
    struct block_device *other = block_graph_find(device->graph, name);
    if (other != NULL && name[0] != '\0')
        return other == device ? true : error_set(error, ERROR_EXISTS, "the name %s is taken", name);
    unsigned index = alias_index < 0 ? 0 : 2 + (unsigned)alias_index;
    assert(index < BLOCK_NAMES);
    char *text = alias_index < 0 ? device->name : device->aliases[alias_index], old[BLOCK_NAME_SIZE];
    memcpy(old, text, sizeof(old));
    name_remove(device, index);
    memcpy(text, name, strlen(name) + 1);
    if (name_insert(device, index, error))
        return true;
    memcpy(text, old, sizeof(old));
    bool restored = name_insert(device, index, NULL);
    assert(restored); /* its place in the table's array was just freed */
    return false;
}

bool block_device_set_uuid(struct block_device *device, const struct uuid *uuid, struct error *error) {
    struct uuid old = device->uuid;
    if (uuid_equal(&old, uuid) || device->removing)
        return true;
    name_remove(device, 1);
    device->uuid = *uuid;
    if (name_insert(device, 1, error))
        return true;
    device->uuid = old;
    bool restored = name_insert(device, 1, NULL);
    assert(restored); /* its place in the table's array was just freed */
    return false;
}

void block_device_set_size(struct block_device *device, uint64_t block_count) {
    atomic_store(&device->block_count, block_count);
    events(device, BLOCK_EVENT_RESIZED);
    tell_watchers(device, "bdev_resize");
}

void block_device_set_path(struct block_device *device, bool up) {
    if (atomic_exchange(&device->path_down, !up) == up)
        events(device, BLOCK_EVENT_PATH);
}

/* Numbers are drawn until one falls on a free place. */
uint64_t block_graph_new_association(struct block_graph *graph) {
    uint64_t association = 0;
    for (unsigned tries = 0; tries < BLOCK_ASSOCIATIONS; tries++) {
        uint64_t none = 0;
        association = atomic_fetch_add(&graph->associations, 1) + 1;
        if (atomic_compare_exchange_strong(&graph->live[association % BLOCK_ASSOCIATIONS], &none, association))
            break;
    }
    return association;
}

void block_graph_end_association(struct block_graph *graph, uint64_t association) {
    atomic_compare_exchange_strong(&graph->live[association % BLOCK_ASSOCIATIONS], &association, 0);
}

bool block_graph_association_lives(const struct block_graph *graph, uint64_t association) {
    return atomic_load(&graph->live[association % BLOCK_ASSOCIATIONS]) == association;
}

bool block_handle_open(struct block_handle *handle, struct block_device *device, enum block_mode mode, struct error *error) {
    if (device->removing)
        return error_set(error, ERROR_BUSY, "%s is being removed", device->name);
    if (mode != BLOCK_MODE_READ && atomic_load(&device->read_only))
        return error_set(error, ERROR_READ_ONLY, "%s is read-only", device->name);
    list_for_each (&device->handles, struct block_handle, other, node) {
        bool clash = mode == BLOCK_MODE_CLAIM ? other->mode != BLOCK_MODE_READ
                                              : mode == BLOCK_MODE_WRITE && other->mode == BLOCK_MODE_CLAIM;
        if (clash)
            return error_set(error, ERROR_PERMISSION, "%s is in use by %s", device->name, other->owner);
    }
    handle->device = device;
    handle->mode = mode;
    handle->association = block_graph_new_association(device->graph);
    atomic_store(&handle->channels, 0);
    list_push_back(&device->handles, &handle->node);
    device->claimed = device->claimed || mode == BLOCK_MODE_CLAIM;
    return true;
}

void block_handle_close(struct block_handle *handle) {
    struct block_device *device = handle->device;
    assert(atomic_load(&handle->channels) == 0);
    list_remove(&handle->node);
    block_graph_end_association(device->graph, handle->association);
    if (handle->mode == BLOCK_MODE_CLAIM)
        device->claimed = false;
    handle->device = NULL;
    removal_finish(device);
}

uint64_t block_device_size(const struct block_device *device) {
    return atomic_load_explicit(&device->block_count, memory_order_relaxed) * device->block_size;
}
uint32_t block_device_block_size(const struct block_device *device) { return device->block_size; }
bool block_device_is_prompt(const struct block_device *device) { return device->prompt; }
bool block_device_path_is_up(const struct block_device *device) { return !atomic_load(&device->path_down); }
bool block_device_is_replica(const struct block_device *device) {
    return (device->native_ops & BLOCK_REPLICA_OPS) == BLOCK_REPLICA_OPS;
}
