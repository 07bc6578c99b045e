#include "programs/penstock-bench/target.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "blockdev/file/file.h"
#include "blockdev/memory/memory.h"
#include "blockdev/null/null.h"

static bool size_blocks(struct target *target, const char *text, uint64_t *ret_blocks, struct error *error) {
    uint64_t size;
    if (!text_parse_size(text, &size) || size == 0 || size % target->block_size != 0)
        return error_invalid(error, "DEVICE", text, "a size such as 1G, a multiple of %u bytes", target->block_size);
    *ret_blocks = size / target->block_size;
    return true;
}

static const char *after(const char *spec, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(spec, prefix, length) == 0 ? spec + length : NULL;
}

static bool open_simple(struct target *target, const char *spec, bool *ret_known, struct error *error) {
    const char *rest;
    uint64_t blocks;
    *ret_known = true;
    if ((rest = after(spec, "null:")) != NULL) {
        if (!size_blocks(target, rest, &blocks, error))
            return false;
        struct null_device_options options = {.name = "base", .block_size = target->block_size, .block_count = blocks};
        return null_device_create(target->graph, &options, &target->device, error);
    }
    if ((rest = after(spec, "memory:")) != NULL) {
        if (!size_blocks(target, rest, &blocks, error))
            return false;
        struct memory_device_options options = {.name = "base", .block_size = target->block_size, .block_count = blocks};
        return memory_device_create(target->graph, &options, &target->device, error);
    }
    *ret_known = false;
    return true;
}

/* ---- volume: a store on the device, and a volume "bench" in it ---- */

struct volume_target {
    struct target *target;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command command;
};

static void volume_end(struct volume_target *volume, bool ok, const struct error *error) {
    struct target *target = volume->target;
    struct error copy = *error;
    target->device = block_graph_find(target->graph, "bench/bench");
    free(volume);
    target->done(target, ok, &copy);
}

static void volume_created(struct volume_command *command) {
    struct volume_target *volume = container_of(command, struct volume_target, command);
    volume_end(volume, command->ok, &command->error);
}

static void store_opened(struct volume_store_open *open) {
    struct volume_target *volume = container_of(open, struct volume_target, open);
    volume->target->store = open->store;
    if (!open->ok || block_graph_find(volume->target->graph, "bench/bench") != NULL) {
        volume_end(volume, open->ok, &open->error);
        return;
    }
    volume->command = (struct volume_command){
        .store = open->store, .name = "bench", .size_bytes = block_device_size(open->base) / 10 * 9, .done = volume_created};
    volume_create(&volume->command);
}

static void store_formatted(struct volume_store_format *format) {
    struct volume_target *volume = container_of(format, struct volume_target, format);
    if (!format->ok && format->error.code != ERROR_EXISTS) {
        volume_end(volume, false, &format->error);
        return;
    }
    volume->open = (struct volume_store_open){.base = format->base, .home = format->home, .done = store_opened};
    volume_store_open(&volume->open);
}

static void base_opened(struct target *target, bool ok, const struct error *error) {
    struct volume_target *volume = ok && target->volume ? calloc(1, sizeof(*volume)) : NULL;
    struct error none = {.code = ERROR_NO_MEMORY, .text = "no memory for a volume store"};
    if (volume == NULL) {
        target->done(target, ok && !target->volume, ok && target->volume ? &none : error);
        return;
    }
    volume->target = target;
    target->base = target->device;
    volume->format =
        (struct volume_store_format){.base = target->device, .home = target->data, .name = "bench", .done = store_formatted};
    volume_store_format(&volume->format);
}

struct file_target {
    struct file_device_create create;
    struct target *target;
    char path[];
};

static void file_created(struct file_device_create *create) {
    struct file_target *file = container_of(create, struct file_target, create);
    struct target *target = file->target;
    struct error error = create->error;
    bool ok = create->ok;
    target->device = create->device;
    free(file);
    base_opened(target, ok, &error);
}

static bool file_start(struct target *target, const char *path, bool buffered, struct error *error) {
    struct file_target *file = calloc(1, sizeof(*file) + strlen(path) + 1);
    if (file == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", path);
    file->target = target;
    memcpy(file->path, path, strlen(path) + 1);
    file->create =
        (struct file_device_create){.options = {.name = "base", .path = file->path, .buffered = buffered}, .done = file_created};
    file_device_create_submit(target->graph, target->control, &file->create);
    return true;
}

void target_open(struct target *target, const char *spec) {
    struct error error = {0};
    bool known, ok;
    const char *base = after(spec, "volume:");
    target->volume = base != NULL;
    spec = base != NULL ? base : spec;
    const char *path = after(spec, "file:"), *buffered = after(spec, "buffered:");
    if (path != NULL || buffered != NULL) {
        ok = file_start(target, path != NULL ? path : buffered, buffered != NULL, &error);
        if (ok)
            return; /* file_created() ends it */
    } else {
        ok = open_simple(target, spec, &known, &error);
        if (!known)
            ok = error_invalid(&error, "DEVICE", spec,
                               "one of null:SIZE, memory:SIZE, file:PATH, buffered:PATH, or volume: and one of these");
    }
    base_opened(target, ok, &error);
}

static void store_closed(struct volume_command *command) {
    struct target *target = container_of(command, struct target, close);
    block_device_remove(target->base, NULL, NULL, NULL);
    target->closed(target);
}

void target_close(struct target *target, void (*closed)(struct target *target)) {
    target->closed = closed;
    if (target->store != NULL) {
        target->close = (struct volume_command){.store = target->store, .done = store_closed};
        volume_store_close(&target->close);
        return;
    }
    if (target->device != NULL)
        block_device_remove(target->device, NULL, NULL, NULL);
    else if (target->base != NULL)
        block_device_remove(target->base, NULL, NULL, NULL);
    closed(target);
}
