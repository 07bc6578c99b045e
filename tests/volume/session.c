#include "session.h"

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/volume/check.h"

#define TURNS_MAX 2000000

void session_start(struct session *session, const struct store_options *options, const struct disk_image *image, uint64_t seed,
                   bool logging) {
    *session = (struct session){.options = options};
    world_init(&session->world, seed);
    block_graph_init(&session->graph, &session->world.host, 1);
    session->disk = disk_create(&session->world, &session->graph, &options->disk, image, hash_u64(seed + 1), logging);
}

struct waiting {
    bool done;
};
static bool is_done(void *arg) { return ((struct waiting *)arg)->done; }

struct formatting {
    struct volume_store_format format;
    struct waiting waiting;
};
static void formatted(struct volume_store_format *format) {
    container_of(format, struct formatting, format)->waiting.done = true;
}

bool session_format(struct session *session) {
    struct formatting formatting = {
        .format = {.base = &session->disk->device,
                   .home = session->world.reactor,
                   .name = "store",
                   .journal_bytes = session->options->journal_bytes,
                   .unit_bytes = session->options->unit_bytes != 0 ? session->options->unit_bytes : 4096,
                   .done = formatted}};
    volume_store_format(&formatting.format);
    if (!world_run_until(&session->world, is_done, &formatting.waiting, TURNS_MAX))
        return error_set(&session->error, ERROR_INTERNAL, "formatting never ends");
    session->error = formatting.format.error;
    return formatting.format.ok;
}

struct opening {
    struct volume_store_open open;
    struct waiting waiting;
};
static void opened(struct volume_store_open *open) { container_of(open, struct opening, open)->waiting.done = true; }

bool session_open(struct session *session) {
    struct opening opening = {.open = {.base = &session->disk->device,
                                       .home = session->world.reactor,
                                       .cache_bytes = session->options->cache_bytes,
                                       .checkpoint_bytes = session->options->checkpoint_bytes,
                                       .done = opened}};
    volume_store_open(&opening.open);
    if (!world_run_until(&session->world, is_done, &opening.waiting, TURNS_MAX))
        return error_set(&session->error, ERROR_INTERNAL, "opening never ends");
    session->error = opening.open.error;
    session->store = opening.open.ok ? opening.open.store : NULL;
    return opening.open.ok;
}

struct commanding {
    struct volume_command command;
    struct waiting waiting;
};
static void commanded(struct volume_command *command) { container_of(command, struct commanding, command)->waiting.done = true; }

bool session_command(struct session *session, void (*call)(struct volume_command *), struct volume_command *command) {
    struct commanding commanding = {.command = *command};
    commanding.command.store = session->store;
    commanding.command.done = commanded;
    call(&commanding.command);
    bool ended = world_run_until(&session->world, is_done, &commanding.waiting, TURNS_MAX);
    assert(ended);
    *command = commanding.command;
    if (!command->ok)
        session->error = command->error;
    return command->ok;
}

bool session_close_store(struct session *session) {
    struct volume_command command = {0};
    bool ok = session_command(session, volume_store_close, &command);
    session->store = NULL;
    return ok;
}

void session_crash(struct session *session) {
    session->store = NULL;
    world_crash(&session->world);
    session->world.reactor = NULL;
}

void session_end(struct session *session) {
    if (session->world.reactor != NULL) {
        struct error error;
        world_enter(&session->world);
        bool removing = block_device_remove(&session->disk->device, NULL, NULL, &error);
        assert(removing);
        block_graph_fini(&session->graph);
        world_exit(&session->world);
    }
    disk_destroy(session->disk);
}

void session_uuid(uint32_t number, struct uuid *ret_uuid) {
    *ret_uuid = (struct uuid){0};
    ret_uuid->bytes[0] = 0x7e;
    ret_uuid->bytes[6] = 0x40;
    ret_uuid->bytes[8] = 0x80;
    put_be32(ret_uuid->bytes + 12, number);
}

void session_name(uint64_t number, char name[MODEL_NAME_SIZE]) {
    snprintf(name, MODEL_NAME_SIZE, "v%llu", (unsigned long long)number);
}

bool port_open(struct session *session, struct port *port, const struct uuid *uuid, bool read_only) {
    char text[UUID_TEXT_SIZE];
    uuid_format(uuid, text);
    *port = (struct port){.handle.owner = "test"};
    struct block_device *device = block_graph_find(&session->graph, text);
    if (device == NULL)
        return error_set(&session->error, ERROR_NO_DEVICE, "no device %s", text);
    if (!block_handle_open(&port->handle, device, read_only ? BLOCK_MODE_READ : BLOCK_MODE_WRITE, &session->error))
        return false;
    port->channel = block_channel_open(&port->handle);
    if (port->channel == NULL) {
        block_handle_close(&port->handle);
        return error_set(&session->error, ERROR_NO_MEMORY, "no channel for %s", text);
    }
    return true;
}

void port_close(struct port *port) {
    if (port->channel == NULL)
        return;
    block_channel_close(port->channel);
    block_handle_close(&port->handle);
    port->channel = NULL;
}

/* ---- looking at everything ---- */

#define CHUNK KIB(128)
#define CHUNKS 4

struct reading {
    uint8_t *buffer;
    unsigned running;
    enum io_status status;
};

struct read_request {
    struct block_request request;
    struct slice slice;
    struct reading *reading;
};

static void piece_done(struct block_request *request) {
    struct read_request *piece = container_of(request, struct read_request, request);
    if (request->status != IO_OK)
        piece->reading->status = (enum io_status)request->status;
    piece->reading->running--;
}
static bool reading_done(void *arg) { return ((struct reading *)arg)->running == 0; }

/* All of a volume's bytes, and what they are. */
static bool read_all(struct session *session, const struct model *model, bool whole, struct model_found *found) {
    struct port port;
    if (!port_open(session, &port, &found->uuid, true))
        return false;
    struct reading reading = {.buffer = aligned_alloc(4096, CHUNK * CHUNKS), .status = IO_OK};
    struct read_request pieces[CHUNKS];
    assert(reading.buffer != NULL);
    for (uint64_t at = 0; at < found->bytes && reading.status == IO_OK; at += CHUNK * CHUNKS) {
        for (unsigned i = 0; i < CHUNKS && at + i * CHUNK < found->bytes; i++) {
            struct read_request *piece = &pieces[i];
            uint64_t length = min_u64(CHUNK, found->bytes - at - i * CHUNK);
            *piece = (struct read_request){.slice = {reading.buffer + i * CHUNK, length}, .reading = &reading};
            piece->request = (struct block_request){.op = BLOCK_READ,
                                                    .slices = &piece->slice,
                                                    .slice_count = 1,
                                                    .offset = at + i * CHUNK,
                                                    .length = length,
                                                    .complete = piece_done};
            reading.running++;
            block_submit(port.channel, &piece->request);
        }
        if (!world_run_until(&session->world, reading_done, &reading, TURNS_MAX))
            return error_set(&session->error, ERROR_INTERNAL, "a read never ends");
        uint64_t length = min_u64(CHUNK * CHUNKS, found->bytes - at);
        model_unstamp(model, reading.buffer, (uint32_t)(at / MODEL_SECTOR), (uint32_t)(length / MODEL_SECTOR), whole,
                      found->content + at / MODEL_SECTOR);
    }
    free(reading.buffer);
    port_close(&port);
    return reading.status == IO_OK ? true
                                   : error_set(&session->error, ERROR_IO, "a read gave %s", io_status_name(reading.status));
}

static uint64_t number_of(const char *text) { return text[0] == 'v' ? strtoull(text + 1, NULL, 10) : UINT64_MAX; }

bool session_find(struct session *session, const struct model *model, bool whole, struct model_found **ret_found,
                  uint32_t *ret_count) {
    struct volume_command list = {0};
    if (!session_command(session, volume_list, &list))
        return false;
    struct model_found *found = plain_alloc((list.ret_count + 1) * sizeof(*found));
    uint32_t count = 0;
    bool ok = true;
    for (size_t i = 0; i < list.ret_count && ok; i++) {
        const struct volume_info *info = &list.ret_infos[i];
        struct model_found *f = &found[count++];
        *f = (struct model_found){
            .uuid = info->uuid, .snapshot = info->snapshot, .bytes = info->size_bytes, .name = number_of(info->name)};
        if (info->damaged)
            ok = error_set(&session->error, ERROR_DAMAGED, "%s is damaged", info->name);
        struct volume_command get = {.volume = f->uuid, .name = "key"};
        if (session_command(session, volume_attribute_get, &get)) {
            f->attribute = number_of(get.ret_text);
            free(get.ret_text);
        } else if (get.error.code != ERROR_NOT_FOUND) {
            ok = false;
        }
        if (info->uuid.bytes[0] == SESSION_UUID_FILLER)
            continue;
        f->count = (uint32_t)(f->bytes / MODEL_SECTOR);
        f->content = plain_alloc(f->count * sizeof(uint32_t));
        ok = ok && read_all(session, model, whole, f);
    }
    free(list.ret_infos);
    if (!ok) {
        session_found_free(found, count);
        return false;
    }
    *ret_found = found;
    *ret_count = count;
    return true;
}

void session_found_free(struct model_found *found, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        plain_free(found[i].content);
    plain_free(found);
}

static bool check_read(void *arg, uint64_t offset, void *to, size_t length) {
    const struct session *session = arg;
    disk_image_read(&session->disk->now, offset, to, length);
    return true;
}

bool session_check(struct session *session) {
    struct volume_check check = {
        .read = check_read, .arg = session, .size = (uint64_t)session->disk->now.page_count * DISK_PAGE_SIZE, .limit = 4};
    struct error error;
    bool ok = volume_check_run(&check, &error);
    if (!ok)
        session->error = error;
    else if (check.problems > 0)
        ok = error_set(&session->error, ERROR_DAMAGED, "%u problems: %.200s", check.problems,
                       check.report.bytes == NULL ? "" : check.report.bytes);
    text_fini(&check.report);
    return ok;
}
