#include "blockdev/null/null.h"

#include <stdio.h>
#include <stdlib.h>

static void submit(struct block_channel *channel, struct block_request *request) {
    (void)channel;
    block_complete_later(request, IO_OK);
}

static void destroy(struct block_device *device) { free(device); }

static const struct block_device_ops ops = {.kind = "null", .product_name = "Null disk", .submit = submit, .destroy = destroy};

bool null_device_is(const struct block_device *device) { return device->ops == &ops; }

bool null_device_create(struct block_graph *graph, const struct null_device_options *options, struct block_device **ret_device,
                        struct error *error) {
    if (options->block_count == 0)
        return error_invalid(error, "num_blocks", "0", "at least one block");
    if (options->block_count > UINT64_MAX / KIB(64))
        return error_invalid(error, "num_blocks", "too large", "a size below 2^64 bytes");
    struct block_device *device = calloc(1, sizeof(*device));
    if (device == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->uuid = options->uuid;
    device->block_size = options->block_size;
    device->physical_block_size = options->physical_block_size;
    device->block_count = options->block_count;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES);
    device->native_fua = true;
    device->prompt = true;
    if (!block_device_register(graph, device, error)) {
        free(device);
        return false;
    }
    *ret_device = device;
    return true;
}
