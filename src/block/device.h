/* The block-device contract, for kinds of device (src/blockdev): a device's life, its table of operations, and the graph's name
 * table.
 *
 * Life: the kind fills a struct block_device inside its own object and registers it (control reactor). While it is registered,
 * handles may be opened on it and channels on those. block_device_remove() takes the names away, tells the handles' owners, and
 * when the last handle is closed calls ops->destroy(), after which the kind frees everything in its own time.
 *
 * Where requests arrive: a device with home == NULL gets them on the reactor of the channel they were submitted to, and keeps
 * per-reactor state in block_channel_private(). A device with a home gets all of them on its home reactor, whichever channel they
 * came from; the block layer carries them there and back (and the kind must not use the channel's private state then).
 *
 * What the block layer has checked before submit(): the operation is native, the range lies inside and is aligned, the device is
 * writable, slices match the length and obey memory_alignment (else they were bounced). What a kind lacks is emulated where it
 * can be: COMPARE by reading, WRITE_ZEROES by writing, FUA by a flush behind the write. REPLICA_PUT and _GET come as they are, up
 * to 1 MiB, with any alignment. */
#pragma once

#include <stdatomic.h>

#include "base/hash_map.h"
#include "base/uuid.h"
#include "block/block.h"
#include "block/stats.h"

#define BLOCK_NAME_SIZE 256
#define BLOCK_ALIASES_MAX 2

struct block_device_ops {
    const char *kind;         /* "memory" */
    const char *product_name; /* "Malloc disk": what the storage dialect calls it */
    void (*submit)(struct block_channel *channel, struct block_request *request);
    /* Takes back what only queues (see block_abort()); NULL = nothing ever queues here. */
    bool (*abort)(struct block_channel *channel, struct block_request *request);
    /* See block_channel_recall(); on the channel's reactor. NULL = there is nothing to give up. */
    void (*recall)(struct block_channel *channel);
    size_t channel_private_size;
    /* NULL = nothing to do. open: false if there is no memory. On the channel's reactor. */
    bool (*channel_open)(struct block_channel *channel);
    void (*channel_close)(struct block_channel *channel);
    /* The last handle is closed and the names are gone; the device is out of the graph. Control reactor. */
    void (*destroy)(struct block_device *device);
};

/* An entry of the name table: a device's name (index 0), its UUID's text (1) or an alias (2 …). The block layer's. */
struct block_name {
    struct hash_node node;
    struct block_device *device;
    unsigned index;
    bool linked;
};
#define BLOCK_NAMES (2 + BLOCK_ALIASES_MAX)

struct block_device {
    /* the kind's, before registering */
    const struct block_device_ops *ops;
    char name[BLOCK_NAME_SIZE];
    char aliases[BLOCK_ALIASES_MAX][BLOCK_NAME_SIZE]; /* "" = none */
    struct uuid uuid;                                 /* nil = a random one is made */
    uint32_t block_size;                              /* bytes; a power of two, 512 … 64 KiB */
    uint32_t physical_block_size;                     /* power-fail unit, 0 = block_size */
    uint32_t optimal_io_bytes;                        /* 0 = none */
    uint32_t memory_alignment;                        /* of payload addresses and lengths, bytes, 0 = any */
    uint32_t native_ops;                              /* BLOCK_BIT()s */
    bool native_fua;
    bool volatile_cache; /* completed writes may be lost at a power cut until flushed */
    bool trim_reads_zero;
    bool prompt; /* requests end at once, by themselves or when their channel is recalled, whatever a disk or a peer does */
    _Atomic bool read_only;
    _Atomic bool path_down; /* block_device_set_path() */
    _Atomic uint64_t block_count;
    const char *place;    /* path of its file or disk on this machine, while it is registered; NULL = it has none */
    struct reactor *home; /* NULL = any reactor */

    /* the block layer's */
    struct block_graph *graph;
    struct list handles;
    bool removing, claimed;
    void (*removed)(struct block_device *device, void *arg);
    void *removed_arg;
    struct list_node node; /* in graph->devices, in order of registration */
    struct block_name names[BLOCK_NAMES];
    struct block_stats *stats; /* graph->reactor_count of them; each written by its reactor */
};
#define BLOCK_BIT(op) (UINT32_C(1) << (op))

enum { BLOCK_ASSOCIATIONS = 4096 };

/* All devices of a node by name. Control reactor. */
struct block_graph {
    struct host *host;
    struct hash_map names;
    struct list devices;
    unsigned device_count;
    unsigned reactor_count;                    /* reactors of the node, the control one included; index of reactor < this */
    _Atomic uint64_t associations;             /* given out so far */
    _Atomic uint64_t live[BLOCK_ASSOCIATIONS]; /* those that have not ended, each at its number modulo the size; 0 = free */
    struct list watchers;
    atomic_flag replicas_lock; /* held for a look-up */
    struct hash_map replicas;  /* struct block_replica, by leg */
};

/* Somebody who is told of every registration, removal and resize. Embedded in its owner. Control reactor; it may not open, close
 * or remove from inside. */
struct block_watcher {
    void (*told)(struct block_watcher *watcher, const char *what /* "bdev_register", "bdev_unregister", "bdev_resize" */,
                 const struct block_device *device);
    struct list_node node;
};

/* The leg of a mirror that is on a device of this process: what it keeps in memory goes with this process. Embedded in its owner,
 * and told on any reactor. */
struct block_replica {
    struct hash_node node;
    struct uuid leg;
};
/* False if there is no memory. */
bool block_replica_enter(struct block_graph *graph, struct block_replica *replica, const struct uuid *leg);
void block_replica_leave(struct block_graph *graph, struct block_replica *replica);
/* True while one with this id has entered and not left. */
bool block_replica_is_here(struct block_graph *graph, const struct uuid *leg);

void block_graph_init(struct block_graph *graph, struct host *host, unsigned reactor_count);
/* All devices are gone. */
void block_graph_fini(struct block_graph *graph);
/* By name, alias or UUID (any case); NULL if there is none. */
struct block_device *block_graph_find(struct block_graph *graph, const char *name);
/* First device, and the one after; NULL at the end. */
struct block_device *block_graph_next(struct block_graph *graph, struct block_device *after);

void block_graph_watch(struct block_graph *graph, struct block_watcher *watcher);
void block_graph_unwatch(struct block_watcher *watcher);

/* A number for a way to devices that has none of a handle's, such as an NVMe controller with all its queues. Any thread, as the
 * following. */
uint64_t block_graph_new_association(struct block_graph *graph);
/* Nothing comes by it any more. */
void block_graph_end_association(struct block_graph *graph, uint64_t association);
/* It has not ended. (More than BLOCK_ASSOCIATIONS at a time are not remembered.) */
bool block_graph_association_lives(const struct block_graph *graph, uint64_t association);

/* Makes the device known. ERROR_EXISTS if a name is taken, ERROR_INVALID for a bad geometry or name. */
bool block_device_register(struct block_graph *graph, struct block_device *device, struct error *error);
/* Begins to remove it; `removed` (NULL allowed) is called when ops->destroy() has been. ERROR_BUSY if that is under way. */
bool block_device_remove(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error);
/* Another name; ERROR_EXISTS if taken. alias_index ≥ 0: that alias instead ("" takes it away). */
bool block_device_rename(struct block_device *device, int alias_index, const char *name, struct error *error);
/* Another UUID, for a kind that learns its own late; ERROR_EXISTS if another device has it. Who asked before has the old one. */
bool block_device_set_uuid(struct block_device *device, const struct uuid *uuid, struct error *error);
/* Tells handles and watchers of a new size. Control reactor. */
void block_device_set_size(struct block_device *device, uint64_t block_count);
/* Tells handles that its path is there, or is away. Control reactor. */
void block_device_set_path(struct block_device *device, bool up);

/* ---- for submit() ---- */

/* Ends a request. From submit() itself use block_complete_later(): a submit never completes inline. */
void block_complete(struct block_request *request, enum io_status status);
/* The same from the ready list. */
void block_complete_later(struct block_request *request, enum io_status status);
/* The device's own state on this channel's reactor: channel_private_size bytes, zeroed. */
void *block_channel_private(struct block_channel *channel);
struct reactor *block_channel_reactor(const struct block_channel *channel);
