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
        struct null_device_options options = {.name = "bench", .block_size = target->block_size, .block_count = blocks};
        return null_device_create(target->graph, &options, &target->device, error);
    }
    if ((rest = after(spec, "memory:")) != NULL) {
        if (!size_blocks(target, rest, &blocks, error))
            return false;
        struct memory_device_options options = {.name = "bench", .block_size = target->block_size, .block_count = blocks};
        return memory_device_create(target->graph, &options, &target->device, error);
    }
    if ((rest = after(spec, "mirror:")) != NULL)
        return size_blocks(target, rest, &blocks, error) && target_open_mirror(target, blocks, error);
    *ret_known = false;
    return true;
}

/* The simple device is there: it is the target, or what a volume lies on. */
static void simple_opened(struct target *target, bool ok, const struct error *error) {
    if (!ok || !target->wants_volume) {
        target->done(target, ok, error);
        return;
    }
    target->base = target->device;
    target->device = NULL;
    target_open_volume(target);
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
    simple_opened(target, ok, &error);
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
    const char *address = after(spec, "nvme-tcp://"), *under = after(spec, "volume:");
    if (address != NULL) {
        target_open_nvme(target, address);
        return;
    }
    target->wants_volume = under != NULL;
    if (under != NULL)
        spec = under;
    const char *path = after(spec, "file:"), *buffered = after(spec, "buffered:");
    if (path != NULL || buffered != NULL) {
        if (file_start(target, path != NULL ? path : buffered, buffered != NULL, &error))
            return; /* file_created() goes on */
        ok = false;
    } else {
        ok = open_simple(target, spec, &known, &error);
        if (!known)
            ok = error_invalid(&error, "DEVICE", spec, "one of those that --help lists");
    }
    simple_opened(target, ok, &error);
}

void target_close_rest(struct target *target) {
    if (target->device != NULL)
        block_device_remove(target->device, NULL, NULL, NULL);
    if (target->base != NULL)
        block_device_remove(target->base, NULL, NULL, NULL);
    target->device = target->base = NULL;
    target->closed(target);
}

void target_close(struct target *target, void (*closed)(struct target *target)) {
    target->closed = closed;
    if (target->initiator != NULL)
        target_close_nvme(target);
    else if (target->legs[0] != NULL)
        target_close_mirror(target);
    else if (target->store != NULL)
        target_close_volume(target);
    else
        target_close_rest(target);
}
