/* Making, resizing and ending a file device. */
#include "blockdev/file/file.h"

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/file/file_internal.h"

static void destroy(struct block_device *device) {
    struct file_device *file = file_of(device);
    host_file_close(file->file);
    free(file->path);
    free(file);
}

#define FILE_OPS(product)                                                                                                        \
    {                                                                                                                            \
        .kind = "file", .product_name = product, .submit = file_submit, .abort = file_abort,                                     \
        .channel_private_size = sizeof(struct file_channel), .channel_open = file_channel_open,                                  \
        .channel_close = file_channel_close, .destroy = destroy                                                                  \
    }
static const struct block_device_ops ops = FILE_OPS("AIO disk");
static const struct block_device_ops ops_uring = FILE_OPS("URING bdev");

bool file_device_is(const struct block_device *device) { return device->ops == &ops || device->ops == &ops_uring; }

void file_device_facts(const struct block_device *device, struct file_device_facts *ret_facts) {
    const struct file_device *file = file_of(device);
    *ret_facts = (struct file_device_facts){
        .path = file->path,
        .read_only = atomic_load(&device->read_only),
        .block_size_given = file->block_size_given,
        .called_uring = device->ops == &ops_uring,
        .keep_space = file->keep_space,
        .direct = file->facts.direct,
        .in_memory = file->facts.in_memory,
        .block_device = file->facts.block_device,
        .flush_failed = atomic_load(&file->flush_failed),
    };
}

/* ---- creating ---- */

static bool choose_block_size(const struct file_device_options *options, const struct host_file_facts *facts, uint32_t *ret_bytes,
                              struct error *error) {
    uint32_t least = max_u32(facts->logical_block, 512), chosen = options->block_size;
    if (chosen == 0)
        chosen = facts->block_device || facts->size % 4096 != 0 ? least : max_u32(least, 4096);
    if (options->block_size != 0 && (!is_power_of_two(chosen) || chosen < least || chosen > KIB(64))) {
        char given[16];
        snprintf(given, sizeof(given), "%u", chosen);
        return error_invalid(error, "block_size", given, "a power of two from %u to 65536", least);
    }
    if (facts->size == 0 || facts->size % chosen != 0) {
        char size[24];
        snprintf(size, sizeof(size), "%llu", (unsigned long long)facts->size);
        return error_invalid(error, "filename", options->path, "a size that is a positive multiple of %u, not %s bytes", chosen,
                             size);
    }
    *ret_bytes = chosen;
    return true;
}

static bool name_is_free(struct block_graph *graph, const struct file_device_options *options, struct error *error) {
    if (block_graph_find(graph, options->name) != NULL)
        return error_set(error, ERROR_EXISTS, "the name %s is taken", options->name);
    for (struct block_device *other = NULL; (other = block_graph_next(graph, other)) != NULL;)
        if (file_device_is(other) && !(options->read_only && atomic_load(&other->read_only)) &&
            strcmp(file_of(other)->path, options->path) == 0)
            return error_set(error, ERROR_EXISTS, "%s is open already, as %s", options->path, other->name);
    return true;
}

static bool make_device(struct file_device_create *create) {
    const struct file_device_options *options = &create->options;
    const struct host_file_facts *facts = &create->open.facts;
    uint32_t block_size;
    if (!choose_block_size(options, facts, &block_size, &create->error))
        return false;
    struct file_device *file = calloc(1, sizeof(*file));
    char *path = strdup(options->path);
    if (file == NULL || path == NULL) {
        free(path);
        free(file);
        return error_set(&create->error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    }
    file->file = create->open.file;
    file->facts = *facts;
    file->path = path;
    file->block_size_given = options->block_size != 0;
    file->keep_space = options->keep_space;
    struct block_device *device = &file->device;
    device->ops = options->called_uring ? &ops_uring : &ops;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->uuid = options->uuid;
    device->block_size = block_size;
    device->physical_block_size = facts->physical_block;
    /* Addresses and lengths of each piece of memory: direct access wants whole logical blocks. */
    device->memory_alignment = facts->direct ? max_u32(facts->memory_alignment, facts->logical_block) : 1;
    device->block_count = facts->size / block_size;
    device->read_only = options->read_only;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) |
                         (facts->can_punch && !options->keep_space ? BLOCK_BIT(BLOCK_TRIM) : 0) |
                         (facts->can_zero ? BLOCK_BIT(BLOCK_WRITE_ZEROES) : 0);
    device->place = path;
    device->volatile_cache = true;
    device->trim_reads_zero = !facts->block_device;
    if (!block_device_register(create->graph, device, &create->error)) {
        free(path);
        free(file);
        return false;
    }
    create->device = device;
    return true;
}

static void opened(struct host_file_open *open) {
    struct file_device_create *create = container_of(open, struct file_device_create, open);
    create->error = open->error;
    if (open->ok) {
        /* The name may have been taken while the file was opened. */
        create->ok = name_is_free(create->graph, &create->options, &create->error) && make_device(create);
        if (!create->ok)
            host_file_close(open->file);
    }
    create->done(create);
}

static void refused(struct reactor_job *job) {
    struct file_device_create *create = container_of(job, struct file_device_create, refused);
    create->done(create);
}

void file_device_create_submit(struct block_graph *graph, struct reactor *control, struct file_device_create *create) {
    const struct file_device_options *options = &create->options;
    create->graph = graph;
    create->ok = false;
    create->device = NULL;
    error_clear(&create->error);
    create->open = (struct host_file_open){
        .path = options->path,
        .options = {.read_only = options->read_only,
                    .create = options->create && !options->read_only,
                    .create_size = options->create_size,
                    .direct = !options->buffered,
                    .hold = true,
                    .hold_timeout_ms = options->hold_timeout_ms != 0 ? options->hold_timeout_ms : FILE_DEVICE_HOLD_TIMEOUT_MS},
        .done = opened,
    };
    /* Known in advance: do not wait for a lock that we hold ourselves, and make no file for a name that is taken. */
    if (!name_is_free(graph, options, &create->error)) {
        create->refused.run = refused;
        reactor_defer(control, &create->refused);
        return;
    }
    host_file_open_submit(control->loop, &create->open);
}

/* ---- resizing ---- */

static bool size_fits(const struct block_device *device, uint64_t bytes, struct error *error) {
    char size[24];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
    return (bytes != 0 && bytes % device->block_size == 0) ||
           error_invalid(error, "size", size, "a positive multiple of %u", device->block_size);
}

bool file_device_rescan(struct block_device *device, struct error *error) {
    uint64_t bytes;
    struct file_device *file = file_of(device);
    int result = host_file_size(file->file, &bytes);
    if (result != 0)
        return error_set_errno(error, result, "cannot read the size of %s", file->path);
    if (!size_fits(device, bytes, error))
        return false;
    if (bytes != block_device_size(device))
        block_device_set_size(device, bytes / device->block_size);
    return true;
}

static void resize_run(struct host_job *job) {
    struct file_device_resize *resize = container_of(job, struct file_device_resize, job);
    if (resize->error.code == ERROR_NONE)
        resize->result = host_file_truncate(file_of(resize->device)->file, resize->size);
}

static void resize_done(struct host_job *job) {
    struct file_device_resize *resize = container_of(job, struct file_device_resize, job);
    if (resize->result != 0)
        error_set_errno(&resize->error, resize->result, "cannot resize %s", file_of(resize->device)->path);
    resize->ok = resize->error.code == ERROR_NONE;
    if (resize->ok)
        block_device_set_size(resize->device, resize->size / resize->device->block_size);
    resize->done(resize);
}

void file_device_resize_submit(struct reactor *control, struct file_device_resize *resize) {
    const struct file_device *file = file_of(resize->device);
    error_clear(&resize->error);
    resize->ok = false;
    resize->result = 0;
    if (file->facts.block_device)
        error_set(&resize->error, ERROR_UNSUPPORTED, "%s is a block device: resize what is behind it, then rescan", file->path);
    else if (atomic_load(&resize->device->read_only))
        error_set(&resize->error, ERROR_READ_ONLY, "%s is read-only", resize->device->name);
    else
        size_fits(resize->device, resize->size, &resize->error);
    resize->job = (struct host_job){.run = resize_run, .done = resize_done};
    host_job_submit(control->loop, &resize->job); /* refusals take this way, too: `done` never comes from inside */
}
