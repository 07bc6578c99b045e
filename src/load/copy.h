/* Copies between a file and a device: `--from` and `--to` of penstock-bench. Several pieces under way, a FLUSH at the end of a
 * write. Calling context: one reactor, that of the channel. */
#pragma once

#include "block/block.h"

#define LOAD_COPY_PIECE MIB(1)
#define LOAD_COPY_DEPTH 8

struct load_copy;
struct load_copy_result {
    bool ok;
    struct error error; /* what failed where */
    uint64_t bytes, elapsed_ns;
};

/* Copies `bytes` from the file's start to `device_offset` of the device (to_device), or the other way. A last partial block is
 * padded with zeros on the device, and cut in the file. The result is valid inside `done`, after which the copy frees itself. */
bool load_copy_start(struct block_channel *channel, struct host_file *file, bool to_device, uint64_t device_offset,
                     uint64_t bytes, void (*done)(void *arg, const struct load_copy_result *result), void *arg,
                     struct error *error);
