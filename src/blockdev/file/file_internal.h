/* Inside of blockdev/file: the device (file.c makes it, file_io.c carries its requests). */
#pragma once

#include "blockdev/file/file.h"
#include "reactor/pool.h"

/* Host requests under way a channel; more wait. A host loop takes about as many at once. */
#define FILE_IN_FLIGHT_MAX 1024

struct file_device {
    struct block_device device;
    struct host_file *file;
    struct host_file_facts facts;
    char *path;
    bool block_size_given, keep_space;
    _Atomic bool flush_failed; /* any reactor, once: see file.h */
};

/* One reactor's part. */
struct file_channel {
    struct pool ios;     /* struct file_io */
    struct list waiting; /* block requests, through their node: no file_io was free */
    struct list flushes; /* FLUSHes that wait for the one under way: the next covers them all */
    struct list covered; /* those that the one under way answers; empty = none is */
    struct host_file_request flush;
};

/* One host request: a block request, or the part of it that fits. */
struct file_io {
    struct host_file_request host;
    struct block_request *request;
    struct file_channel *channel;
    uint32_t slices_done; /* of the request */
    uint64_t bytes_done;
};

static inline struct file_device *file_of(const struct block_device *device) {
    return container_of((struct block_device *)(uintptr_t)device, struct file_device, device);
}

void file_submit(struct block_channel *channel, struct block_request *request);
bool file_abort(struct block_channel *channel, struct block_request *request);
bool file_channel_open(struct block_channel *channel);
void file_channel_close(struct block_channel *channel);
