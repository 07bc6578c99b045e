/* The mirror: one block device of up to eight legs. Writes go to every leg, reads to the cheapest member; which leg is what is
 * stored on the legs themselves (block/replica.h). docs/mirror.md is its specification. Stands on the block contract alone: a leg
 * is any device. Must not know volumes, protocols or JSON-RPC.
 *
 * The device has a home; all of the engine runs there. Functions here are for the control reactor unless they say otherwise. */
#pragma once

#include "block/device.h"
#include "block/replica.h"

#define MIRROR_LEGS_MAX REPLICA_LEGS_MAX

struct mirror;

struct mirror_leg_options {
    const char *device; /* a device's name; one that is not there yet is absent */
    bool tie_breaker;
};

struct mirror_options {
    const char *name;
    struct uuid uuid; /* of the device and of the mirror; nil = as the records say, or random at a first start */
    unsigned leg_count;
    struct mirror_leg_options legs[MIRROR_LEGS_MAX];
    enum replica_policy policy; /* of a first start; afterwards the records' counts */
    uint64_t term;              /* 0 = highest promised + 1 */
    bool assume_equal;          /* of a first start: the legs hold the same */
    uint32_t accept_absent;     /* legs by index that may be missing at this start, and are excluded from it on */
    uint64_t longest_stall_ms;  /* L, 0 = 900 */
    uint64_t hold_ms;           /* how long I/O is held while no leg is there, 0 = 30 s */
    unsigned copies;            /* regions that are copied at a time, 0 = 2 */
    uint32_t marked_max;        /* bound on marked regions, 0 = 1024 */
    struct reactor *home;
    uint64_t seed; /* of ids and jitter; 0 = unpredictable */
};

enum mirror_state {
    MIRROR_CONFIGURING, /* legs are missing, or looked for */
    MIRROR_STARTING,    /* claims and the first epoch */
    MIRROR_SERVING,
    MIRROR_HOLDING, /* all legs are lost */
    MIRROR_REFUSED, /* cannot start: error says why */
    MIRROR_ENDED    /* another engine has the legs, or acknowledged writes are gone: the path is dead */
};

enum mirror_leg_state {
    MIRROR_LEG_ABSENT,
    MIRROR_LEG_CONNECTING, /* looked at, or claimed */
    MIRROR_LEG_WHOLE,
    MIRROR_LEG_SYNCING,
    MIRROR_LEG_SET_ASIDE, /* lost; comes back by itself */
    MIRROR_LEG_DIVERGED,  /* kept as it is */
    MIRROR_LEG_WITNESS
};

struct mirror_leg_status {
    char name[BLOCK_NAME_SIZE];
    enum mirror_leg_state state;
    char why[96];                      /* it is not whole; "" else */
    uint64_t since_ns;                 /* monotonic, of the state */
    uint64_t sync_total, sync_done;    /* bytes, while syncing */
    uint64_t times_lost, bytes_copied; /* since the engine's start */
};

struct mirror_status {
    enum mirror_state state;
    struct error error; /* CONFIGURING, REFUSED, ENDED: why */
    struct uuid mirror, engine;
    uint64_t term;
    struct replica_epoch epoch;
    unsigned leg_count;
    struct mirror_leg_status legs[MIRROR_LEGS_MAX];
    uint64_t unequal_regions, marked_regions;
    uint64_t changes, longest_stall_ns, reads_repeated;
    bool settled;
};

/* Makes the device and begins to look for its legs; I/O is held until they are found. The legs that are there give it its size;
 * ERROR_INVALID if their sizes or block sizes differ, ERROR_UNSUPPORTED for a mix of legs with and without the replica interface,
 * ERROR_EXISTS for a leg named twice, and the errors of block_handle_open() and block_device_register(). */
bool mirror_create(struct block_graph *graph, struct reactor *control, const struct mirror_options *options,
                   struct block_device **ret_device, struct error *error);
/* As block_device_remove(): the legs keep their claim's promise, and their records. */
bool mirror_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                   struct error *error);
/* True for a device of this kind. */
bool mirror_is(const struct block_device *device);
/* A copy of what the engine knows, taken on its home; `done` is called on the control reactor. */
struct mirror_look {
    struct reactor_message message;
    struct block_device *device;
    struct reactor *control;
    struct mirror_status status;
    void (*done)(struct mirror_look *look);
};
void mirror_look(struct mirror_look *look);
/* The same at once: on the home reactor. */
void mirror_status_get(const struct block_device *device, struct mirror_status *ret_status);
