/* Layers whose content is another device's: the roots of volumes that were cloned from one, or set upon one. Such a layer has no
 * map; the device is known by its UUID, and may be absent: then what would be read from it fails, and passes.
 *
 * Two sides: the home reactor reads through a channel; the control reactor looks for the device, holds it open, and sees it go.
 * They talk by messages, of which each kind is under way at most once. */
#include "blockdev/volume/replica.h"

#include <stdio.h>
#include <stdlib.h>

static void control_gone(struct reactor_message *message);

/* ---- home ---- */

static void channel_leave(struct external *external) {
    if (external->channel != NULL)
        block_channel_close(external->channel);
    external->channel = NULL;
    external->closing = false;
    reactor_post(external->store->control, &external->closed);
}

static void home_open(struct reactor_message *message) {
    struct external *external = container_of(message, struct external, open);
    if (external->layer != NULL)
        external->channel = block_channel_open(&external->handle); /* NULL: no memory; it stays absent */
}

static void home_close(struct reactor_message *message) {
    struct external *external = container_of(message, struct external, close);
    external->closing = true;
    if (external->ios == 0)
        channel_leave(external);
}

void external_io_done(struct external *external) {
    if (--external->ios == 0 && external->closing)
        channel_leave(external);
}

static void absent(struct reactor_job *job) {
    struct block_request *request = container_of(job, struct block_request, job);
    request->status = IO_NOT_READY;
    request->complete(request);
}

void external_submit(struct store_io *io) {
    struct external *external = io->external;
    external->ios++;
    io->request.offset -= OUTSIDE_BLOCKS * BLOCK_BYTES;
    if (external->channel == NULL || external->closing) {
        io->request.job.run = absent;
        reactor_defer(io->store->home, &io->request.job);
        return;
    }
    block_submit(external->channel, &io->request);
}

void io_aim(struct store_io *io, const struct resolved *resolved, uint64_t block) {
    if (unlikely(block >= OUTSIDE_BLOCKS))
        io->external = resolved->external;
}

struct external *external_attach(struct volume_store *store, struct layer *layer) {
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(layer->record, &size);
    struct external *external = calloc(1, sizeof(*external));
    if (external == NULL)
        return NULL;
    external->store = store;
    external->layer = layer;
    for (struct identity_item item; identity_next(identity, size, &at, &item);)
        if (item.type == IDENTITY_SOURCE && item.length == sizeof(external->source))
            memcpy(&external->source, item.bytes, sizeof(external->source));
    external->gone.run = control_gone;
    external->bytes = layer_size(layer) << BLOCK_SHIFT;
    layer->external = external;
    return external;
}

void external_unused(struct volume_store *store, struct layer *layer) {
    if (layer == NULL || layer->external == NULL || layer->child_count > 0 || layer_state(layer) != LAYER_LIVE)
        return;
    layer_set_state(store, layer, LAYER_DELETING);
    background_start(store, layer);
}

void external_detach(struct layer *layer) {
    struct external *external = layer->external;
    layer->external = NULL;
    external->layer = NULL;
    reactor_post(external->store->control, &external->gone);
}

const struct external *external_below(const struct layer *layer) {
    while (layer != NULL && layer->external == NULL)
        layer = layer->parent;
    return layer == NULL ? NULL : layer->external;
}

bool external_is_there(const struct external *external) { return external->channel != NULL; }

struct layer *external_layer_new(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size = 0;
    struct page *record;
    enum io_status status = IO_OK;
    enum got got = layer_record_new(store, &store->command_waiter, &record, &status);
    if (got == WAIT)
        return NULL;
    struct layer *layer = got == GOT ? layer_attach(store, record->index, record) : NULL;
    if (layer == NULL) {
        command_fail_status(command, got == FAILED ? status : IO_NO_MEMORY);
        return NULL;
    }
    identity_append(identity, &size, IDENTITY_SOURCE, &command->snapshot, sizeof(command->snapshot));
    layer_set(store, layer, LAYER_STATE, LAYER_LIVE | LAYER_READ_ONLY | LAYER_EXTERNAL);
    layer_set(store, layer, LAYER_SIZE, command->size_bytes >> BLOCK_SHIFT);
    layer_set(store, layer, LAYER_LIMIT, command->size_bytes >> BLOCK_SHIFT);
    layer_set(store, layer, LAYER_TAIL, command->size_bytes >> BLOCK_SHIFT);
    layer_set(store, layer, LAYER_CREATED, host_wall_ns(store->home->host));
    record_set_identity(store, record, identity, size);
    layer->frozen = true;
    command->external = external_attach(store, layer);
    if (command->external != NULL)
        return layer;
    for (unsigned word = 0; word < PAGE_WORDS; word++)
        if (layer_get(layer, word) != 0)
            layer_set(store, layer, word, 0);
    layer_detach(store, layer);
    command_fail_status(command, IO_NO_MEMORY);
    return NULL;
}

/* ---- control ---- */

static bool prepare(struct volume_command *command) {
    const struct block_device *device = command->device;
    struct volume_store *store = command->store;
    uint64_t bytes = block_device_size(device);
    if (!external_fits(store, device, 1, &command->error))
        return false;
    if (bytes % store->super.unit_bytes != 0 || bytes >> BLOCK_SHIFT > LAYER_BLOCKS_MAX)
        return error_set(&command->error, ERROR_INVALID, "%s has %llu bytes: no multiple of the cluster size, %u", device->name,
                         (unsigned long long)bytes, store->super.unit_bytes);
    command->snapshot = device->uuid;
    command->size_bytes = bytes;
    return true;
}

static void refused(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    command->done(command);
}

void external_start(struct volume_command *command, void (*run)(struct volume_command *command)) {
    error_clear(&command->error);
    command->external = NULL;
    command->ok = false;
    if (prepare(command)) {
        command_start(command, run);
        return;
    }
    command->message.run = refused;
    reactor_post(command->store->control, &command->message);
}

void external_commanded(struct volume_command *command) {
    external_adopt(command->external);
    if (command->subject != NULL)
        volume_registered(command);
    else
        command->done(command);
}

static void control_free(struct external *external) {
    list_remove(&external->node);
    free(external);
}

static void control_closed(struct reactor_message *message) {
    struct external *external = container_of(message, struct external, closed);
    block_handle_close(&external->handle);
    external->state = EXTERNAL_ABSENT;
    if (external->layer_gone)
        control_free(external);
}

static void leave(struct external *external) {
    if (external->state != EXTERNAL_OPEN)
        return;
    external->state = EXTERNAL_CLOSING;
    external->close.run = home_close;
    external->closed.run = control_closed;
    reactor_post(external->store->home, &external->close);
}

static void control_gone(struct reactor_message *message) {
    struct external *external = container_of(message, struct external, gone);
    external->layer_gone = true;
    if (external->state == EXTERNAL_ABSENT)
        control_free(external);
    else
        leave(external);
}

static void event(struct block_handle *handle, enum block_event event) {
    if (event == BLOCK_EVENT_REMOVE)
        leave(container_of(handle, struct external, handle));
}

bool external_fits(const struct volume_store *store, const struct block_device *device, uint64_t bytes, struct error *error) {
    if (volume_device_is(device) && volume_device_store(device) == store)
        return error_set(error, ERROR_INVALID, "%s is a volume of the same store: clone its snapshot", device->name);
    if (block_device_block_size(device) > store->super.sector_bytes)
        return error_set(error, ERROR_INVALID, "%s has blocks of %u bytes, more than the %u of %s", device->name,
                         block_device_block_size(device), store->super.sector_bytes, store->control_name);
    if (block_device_size(device) < bytes)
        return error_set(error, ERROR_INVALID, "%s has %llu bytes: fewer than the %llu it had", device->name,
                         (unsigned long long)block_device_size(device), (unsigned long long)bytes);
    return true;
}

static void look(struct external *external) {
    char text[UUID_TEXT_SIZE];
    struct error error;
    uuid_format(&external->source, text);
    if (external->state != EXTERNAL_ABSENT || external->layer_gone || external->store->closing_command != NULL)
        return;
    struct block_device *device = block_graph_find(external->store->graph, text);
    external->handle = (struct block_handle){.owner = "parent of volumes", .event = event};
    if (device == NULL || !external_fits(external->store, device, external->bytes, &error) ||
        !block_handle_open(&external->handle, device, BLOCK_MODE_READ, &error))
        return;
    external->state = EXTERNAL_OPEN;
    external->open.run = home_open;
    reactor_post(external->store->home, &external->open);
}

static void look_at_all(struct reactor_job *job) {
    struct volume_store *store = container_of(job, struct volume_store, externals_job);
    store->externals_queued = false;
    list_for_each (&store->externals, struct external, external, node)
        look(external);
}

/* Somebody new may be the one who is missing. Nothing may be opened from in here. */
static void told(struct block_watcher *watcher, const char *what, const struct block_device *device) {
    struct volume_store *store = container_of(watcher, struct volume_store, watcher);
    (void)device;
    if (strcmp(what, "bdev_register") != 0 || list_empty(&store->externals) || store->externals_queued)
        return;
    store->externals_queued = true;
    store->externals_job.run = look_at_all;
    reactor_defer(store->control, &store->externals_job);
}

void external_adopt(struct external *external) {
    list_push_back(&external->store->externals, &external->node);
    look(external);
}

void externals_begin(struct volume_store *store) {
    store->watcher.told = told;
    block_graph_watch(store->graph, &store->watcher);
    list_for_each (&store->layers, struct layer, layer, node)
        if (layer->external != NULL)
            external_adopt(layer->external);
}

bool externals_end(struct volume_store *store) {
    if (store->watcher.told != NULL)
        block_graph_unwatch(&store->watcher);
    store->watcher.told = NULL;
    bool all = true;
    list_for_each (&store->externals, struct external, external, node) {
        leave(external);
        all &= external->state == EXTERNAL_ABSENT;
    }
    return all && !store->externals_queued;
}

void externals_free(struct volume_store *store) {
    for (struct list_node *node; (node = list_pop_front(&store->externals)) != NULL;)
        free(list_entry(node, struct external, node));
}
