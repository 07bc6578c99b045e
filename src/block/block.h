/* The block-device contract, for those who submit: requests, channels, handles. Those who *are* a device read block/device.h too.
 *
 * Life of a request: the submitter fills it and calls block_submit(). It never fails or completes inline. From then on request,
 * slices and payload are lent until `complete`, which is called exactly once, on the channel's reactor. A submitted request is
 * not cancelled, except by block_abort() while it still queues.
 *
 * A write that completed is in the device (a read sees it); it is durable when a FLUSH submitted after its completion has
 * completed, or when it carried BLOCK_FUA. */
#pragma once

#include "base/slice.h"
#include "block/io_status.h"
#include "reactor/reactor.h"

struct block_device;
struct block_channel;
struct block_graph;

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,        /* everything completed before it was submitted, through any channel, is durable */
    BLOCK_TRIM,         /* contents no longer needed; what it reads as afterwards: device->trim_reads_zero */
    BLOCK_WRITE_ZEROES, /* reads as zero afterwards */
    BLOCK_COMPARE,      /* IO_COMPARE_FAILED unless the device holds what the slices hold */
    BLOCK_REPLICA_PUT,  /* a document to the leg of a mirror, and */
    BLOCK_REPLICA_GET,  /* one from it: block/replica.h. offset and length lie within the document, not within the device */
    BLOCK_OP_COUNT
};

enum {
    BLOCK_FUA = 1,      /* WRITE, TRIM, WRITE_ZEROES: durable on completion */
    BLOCK_MAY_TRIM = 2, /* WRITE_ZEROES: space may be given back */
    BLOCK_FAIL_FAST =
        4,             /* what a device would wait for or try again (a path that is away, an error that passes) is told at once */
    BLOCK_UNMARKED = 8 /* WRITE, to a leg of a mirror whose record says that nothing of its content counts: the leg keeps no mark
                          of it. Without meaning elsewhere */
};

struct block_request {
    /* the submitter's */
    uint8_t op; /* enum block_op */
    uint8_t flags;
    uint8_t status; /* enum io_status, valid in complete() */
    uint32_t slice_count;
    const struct slice *slices; /* READ, WRITE, COMPARE: their total is length */
    uint64_t offset, length;    /* bytes, multiples of the device's block size; FLUSH: both 0 */
    uint64_t argument;          /* of the two replica operations */
    uint64_t association;       /* by which way it comes, for devices that fence; 0 = the handle's own */
    void (*complete)(struct block_request *request);

    /* the layers', until complete() */
    struct block_channel *channel;
    uint64_t start_ticks;
    void (*device_done)(struct block_request *request); /* set by the block layer's own stages, NULL otherwise */
    union {
        struct reactor_job job;
        struct reactor_message message;
        struct list_node node;
    };
    uint64_t device_private[4]; /* scratch of the device it is in */
};

/* ---- handles: the right to use a device. Control reactor. ---- */

enum block_mode {
    BLOCK_MODE_READ,  /* any number, beside writers */
    BLOCK_MODE_WRITE, /* any number (several frontends of one device); refused on a claimed device */
    BLOCK_MODE_CLAIM  /* one, and no other writer: a device that stores its own structure on it */
};

enum block_event {
    BLOCK_EVENT_RESIZED,
    BLOCK_EVENT_PATH,  /* block_device_path_is_up() says something else now */
    BLOCK_EVENT_REMOVE /* being removed: close the handle soon (the removal waits for it); I/O may already fail with
                          IO_DEVICE_GONE */
};

struct block_handle {
    struct block_device *device;
    enum block_mode mode;
    const char *owner; /* for messages: "lvstore lvs0", "nqn…"; stays valid while open */
    void (*event)(struct block_handle *handle, enum block_event event); /* on the control reactor; NULL = none */
    struct list_node node;
    uint64_t association;      /* the block layer's: a number that no other handle or way has had since the start */
    _Atomic unsigned channels; /* open ones */
};

/* Opens a device. ERROR_PERMISSION if claims forbid it, ERROR_READ_ONLY, ERROR_BUSY while it is being removed. The caller has set
 * owner and event. */
bool block_handle_open(struct block_handle *handle, struct block_device *device, enum block_mode mode, struct error *error);
/* All channels are closed. May end a removal. */
void block_handle_close(struct block_handle *handle);

/* ---- channels: a device on one reactor ---- */

/* Opens a channel on the current reactor; NULL if there is no memory. Requests may be submitted at once. */
struct block_channel *block_channel_open(struct block_handle *handle);
/* No request may be under way. */
void block_channel_close(struct block_channel *channel);
/* Requests of this channel that are not yet complete. */
unsigned block_channel_outstanding(const struct block_channel *channel);
struct block_device *block_channel_device(const struct block_channel *channel);

/* On the channel's reactor. */
void block_submit(struct block_channel *channel, struct block_request *request);
/* Takes a request back that has not been begun; it then completes with IO_ABORTED, and true is returned. False: it runs, or has
 * run. */
bool block_abort(struct block_channel *channel, struct block_request *request);
/* Wants everything back that was lent through this channel: a device that waits for somebody else gives him up (an initiator
 * closes the connections of its association). What it held completes soon, not inline, with IO_PATH_LOST, or goes on elsewhere if
 * it was not BLOCK_FAIL_FAST; no payload of a completed request is touched again. Harmless on a device whose requests end by
 * themselves; one that can neither is not block_device_is_prompt(), and keeps what it has. */
void block_channel_recall(struct block_channel *channel);

/* The association a request comes by: its own, or that of the channel's handle. For devices and filters. */
uint64_t block_request_association(const struct block_request *request);

/* ---- what is known of a device; any thread (sizes may change at any time) ---- */

uint64_t block_device_size(const struct block_device *device);       /* bytes */
uint32_t block_device_block_size(const struct block_device *device); /* bytes: 512 or 4096 usually */
bool block_device_is_prompt(const struct block_device *device);  /* a recall brings every BLOCK_FAIL_FAST request back at once */
bool block_device_path_is_up(const struct block_device *device); /* false: requests would wait, or fail with IO_PATH_LOST */
bool block_device_is_replica(const struct block_device *device); /* has the interface of block/replica.h */
