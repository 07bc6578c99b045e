/* What a plane has, as its listings say, and the sharing of such observations among those who ask.
 *
 * Calling context: the control loop. An observation is immutable and lives until the next one is there. */
#pragma once

#include "base/hash_map.h"
#include "base/uuid.h"
#include "control/plane.h"

struct observed_device { /* a file or disk that the plane has open */
    const char *name, *path;
    uint64_t block_bytes, bytes;
};

struct observed_store {
    const char *uuid, *name, *base; /* base: the device's name */
    uint64_t total_bytes, free_bytes, cluster_bytes;
    const char *reason; /* read-only or failed: why; else NULL */
    bool failed;
};

/* Attributes of a snapshot: they change with its parent, or when observer_doubt() is told, so they are asked for once. Kept
 * while an observation has the snapshot. */
struct observed_attributes {
    struct hash_node node;
    struct hash_map *map;
    unsigned references;
    char uuid[UUID_TEXT_SIZE];
    char timestamp[64], operation[UUID_TEXT_SIZE];
    char checksum[24]; /* "" = none was made; what it is of changes with its parent */
    char *parent;      /* when they were asked for; NULL = none */
    bool user_created;
    bool known;       /* all of them */
    unsigned waiting; /* answers */
};

struct observed_volume {
    const char *uuid, *name, *store; /* store: its UUID */
    const char *parent;              /* a name in the same store; NULL = none */
    const char *created;             /* RFC 3339; "" = the plane does not say */
    uint64_t bytes, used_bytes;
    unsigned children;
    bool snapshot, damaged;
    bool outside;                           /* it stands upon a device of another kind or store */
    struct observed_attributes *attributes; /* of a snapshot; NULL = not of a replica */
};

struct observed_export {
    const char *nqn;
    const char *device;         /* of its first namespace; NULL = none */
    const char *address, *port; /* of its first listener; NULL = none */
    const char *ana_state;      /* of that; NULL = it reports none */
    unsigned namespaces, listeners, hosts;
    bool any_host;
};

struct observed_controller { /* of another node's subsystem */
    const char *name, *address, *port, *nqn;
};

enum { OBSERVED_LEGS_MAX = 8 };

struct observed_leg {
    const char *name, *state, *why;
    const char *promised; /* a standby's: id of the engine to which it is promised; NULL = not told */
    uint64_t behind_bytes, copied_bytes;
    unsigned percent; /* of its copying; 100 = it is not copied to */
};

struct observed_mirror {
    const char *name, *uuid, *state, *engine;
    const char *error_code, *error; /* NULL = none */
    uint64_t bytes, term, depth;
    unsigned leg_count;
    struct observed_leg legs[OBSERVED_LEGS_MAX];
    bool paused;
    json_t *tree; /* as mirror_get_snapshots answers; the last one that was had. NULL = never */
};

/* What the listings answered. */
struct observation_answers {
    json_t *devices, *stores, *transports, *exports;
    json_t *controllers, *mirrors; /* NULL: a plane without them */
};

struct observation {
    unsigned references;
    struct observation_answers answers; /* hold the texts */
    struct observed_device *devices;
    struct observed_store *stores;
    struct observed_volume *volumes; /* by store, then name */
    struct observed_export *exports; /* by NQN */
    struct observed_controller *controllers;
    struct observed_mirror *mirrors;
    size_t device_count, store_count, volume_count, export_count, controller_count, mirror_count;
    bool has_tcp;
    uint64_t at_ns;
};

const struct observed_device *observed_device(const struct observation *seen, const char *name);
const struct observed_store *observed_store(const struct observation *seen, const char *uuid);
const struct observed_store *observed_store_on(const struct observation *seen, const char *device);
const struct observed_volume *observed_volume(const struct observation *seen, const char *store, const char *name);
/* The first volume of a store whose name is not below `name`; [it, end) is what follows. */
const struct observed_volume *observed_volumes_from(const struct observation *seen, const char *store, const char *name);
static inline const struct observed_volume *observed_volumes_end(const struct observation *seen) {
    return seen->volumes + seen->volume_count;
}
const struct observed_export *observed_export(const struct observation *seen, const char *nqn);

const struct observed_controller *observed_controller(const struct observation *seen, const char *name);
const struct observed_mirror *observed_mirror(const struct observation *seen, const char *name);

/* Takes the answers. What does not look as it should is left out. NULL: no memory. Pure. */
struct observation *observation_make(const struct observation_answers *take_answers);
static inline struct observation *observation_ref(struct observation *seen) {
    seen->references++;
    return seen;
}
/* NULL is fine. */
void observation_unref(struct observation *take_seen);

/* ---- sharing ---- */

enum { OBSERVE_LISTINGS = 6 };

struct observe_waiter {
    struct list_node node;
    void (*done)(struct observe_waiter *waiter); /* there is an observation that began after it asked */
};

struct observer {
    struct control_plane *plane;
    struct log *log;
    struct list waiting, served; /* for the next, for the one under way */
    struct plane_call calls[OBSERVE_LISTINGS];
    unsigned answers_missing; /* 0 = none under way */
    bool failed;
    uint64_t began_ns;
    struct reactor_timer retry;
    struct observation *seen, *next; /* the newest; one whose attributes are being asked for */
    struct hash_map attributes;
    unsigned details_missing;                                            /* answers about snapshots */
    bool (*is_replica)(void *arg, const struct observed_volume *volume); /* whose snapshots' attributes are wanted */
    bool (*is_engine)(void *arg, const char *mirror);                    /* whose snapshots are wanted */
    void (*observed)(void *arg);                                         /* a new one is there; before the waiters hear of it */
    void *arg;
};

void observer_init(struct observer *observer, struct control_plane *plane, struct log *log);
/* Waiters are forgotten. The plane's calls have ended. */
void observer_fini(struct observer *observer);
/* Waits, if need be, until the plane is ready. */
void observer_ask(struct observer *observer, struct observe_waiter *waiter);
/* Asks for nothing: waits for the next one that somebody asks for from now on. */
static inline void observer_await(struct observer *observer, struct observe_waiter *waiter) {
    list_push_back(&observer->waiting, &waiter->node);
}
/* Harmless if it does not wait. */
static inline void observer_forget(struct observe_waiter *waiter) {
    if (list_linked(&waiter->node))
        list_remove(&waiter->node);
}
/* Attributes of this volume may have changed: the next observation that is asked for has them anew. */
void observer_doubt(struct observer *observer, const char *uuid);
/* The plane has become ready. */
void observer_resume(struct observer *observer);
