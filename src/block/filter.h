/* What kinds of device that stand on one other device have in common: opening it, taking over its geometry, following its size
 * and its removal, and handing requests down with state of the filter's own.
 *
 * A kind embeds a struct block_filter as its object, starts its channel's private state with a struct block_filter_channel and
 * each request's state with a struct block_filter_io. The device has no home: everything of a channel happens on its reactor. */
#pragma once

#include "block/device.h"
#include "reactor/pool.h"

#define BLOCK_FILTER_IO_MAX 65536 /* requests under way a channel; more wait in order */

struct block_filter {
    struct block_device device; /* the kind fills ops, name and uuid */
    struct block_handle base;
    /* Called once, when removal begins: what the kind holds back must now end. NULL = nothing. Control reactor. */
    void (*removing)(struct block_filter *filter);
};

/* One request on its way through the filter; from the channel's pool. */
struct block_filter_io {
    struct block_request child;    /* what the base gets */
    struct block_request *request; /* what came from above */
};

struct block_filter_channel {
    struct block_channel *base;
    struct pool ios;
};

/* Claims `base_name` for itself (a read-only base is opened for reading, and makes the filter read-only) and registers the
 * device, with the base's size and abilities. ERROR_NO_DEVICE, ERROR_PERMISSION, and the errors of block_device_register(). On
 * failure the memory is the caller's again. Control reactor. */
bool block_filter_create(struct block_filter *filter, struct block_graph *graph, const char *base_name, struct error *error);
/* The half of it before registering, for a kind that does not hand everything through: it may have a home, and changes what the
 * base's abilities are not its own before it registers the device itself. */
bool block_filter_open(struct block_filter *filter, struct block_graph *graph, const char *base_name, struct error *error);
/* Begins to remove it, as block_device_remove(). Also called by itself when the base is removed. */
bool block_filter_remove(struct block_filter *filter, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error);
/* For ops->destroy: gives the base up; the kind frees its memory afterwards. */
void block_filter_close(struct block_filter *filter);
static inline struct block_filter *block_filter_of(const struct block_channel *channel) {
    return container_of(block_channel_device(channel), struct block_filter, device);
}

/* For ops->channel_open and _close. io_size: of the kind's state that starts with a struct block_filter_io. */
bool block_filter_channel_open(struct block_channel *channel, size_t io_size);
void block_filter_channel_close(struct block_channel *channel);
/* Recalls the base's channel: an ops->recall, or a part of one. */
void block_filter_recall(struct block_channel *channel);

/* From ops->submit: takes a state for the request, then calls begin(io, request) at once or when there is one. */
void block_filter_begin(struct block_request *request, void (*begin)(struct block_filter_io *io));
/* Hands a copy of the request down; `done` is called with &io->child when it is complete. */
void block_filter_send(struct block_filter_io *io, void (*done)(struct block_request *child));
/* Gives the state back and ends the request. Not from inside submit: use block_filter_end_later() there. */
void block_filter_end(struct block_filter_io *io, enum io_status status);
void block_filter_end_later(struct block_filter_io *io, enum io_status status);
