/* What a plane has, as its listings say, and the sharing of such observations among those who ask.
 *
 * Calling context: the control loop. An observation changes between turns of the loop only: what is had of it is gone with the
 * turn. It is brought up to date by what was listed again; a new one is made when everything was, or when stores came or went. */
#pragma once

#include "base/hash_map.h"
#include "base/list.h"
#include "base/uuid.h"
#include "control/plane.h"

struct observed_device { /* a file or disk that the plane has open */
    const char *name, *path;
    uint64_t block_bytes, bytes;
    json_t *listed; /* as the plane has listed it: holds the texts. The same for the others */
};

struct observed_store {
    const char *uuid, *name, *base; /* base: the device's name */
    uint64_t total_bytes, free_bytes, cluster_bytes;
    const char *reason; /* read-only or failed: why; else NULL */
    bool failed;
    json_t *listed;
};

/* Attributes of a snapshot: they change with its parent, or when observer_doubt_attributes() is told, so they are asked for once.
 * Kept while an observation has the snapshot. */
struct observed_attributes {
    struct hash_node node;
    struct hash_map *map;
    struct list_node pending; /* the observer's, until what it is of is in its observation */
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
    json_t *listed;
};

struct observed_export {
    const char *nqn;
    const char *device;         /* of its first namespace; NULL = none */
    const char *address, *port; /* of its first listener; NULL = none */
    const char *ana_state;      /* of that; NULL = it reports none */
    unsigned namespaces, listeners, hosts;
    bool any_host;
    json_t *listed;
};

struct observed_controller { /* of another node's subsystem */
    const char *name, *address, *port, *nqn;
    json_t *listed;
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
    uint64_t bytes, term, depth, tree_number;
    unsigned leg_count;
    struct observed_leg legs[OBSERVED_LEGS_MAX];
    const json_t *awaited; /* legs of the records that it waits for: id, name; NULL = not told */
    bool paused;
    json_t *tree; /* as mirror_get_snapshots answers; the last one that was had. NULL = never */
    json_t *listed;
};

/* What the listings answered. */
struct observation_answers {
    json_t *devices, *stores, *transports, *exports;
    json_t *controllers, *mirrors; /* NULL: a plane without them */
};

struct observation {
    unsigned references;
    struct observed_device *devices; /* by name */
    struct observed_store *stores;
    struct observed_volume *volumes;         /* by store, then name */
    struct observed_export *exports;         /* by NQN */
    struct observed_controller *controllers; /* by name */
    struct observed_mirror *mirrors;         /* by name */
    size_t device_count, store_count, volume_count, export_count, controller_count, mirror_count;
    size_t device_room, volume_room, export_room, controller_room, mirror_room;
    bool has_tcp;
    bool has_attributes; /* the plane keeps attributes of volumes: a stock SPDK target does not */
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
/* As mirror_get_snapshots lists it; NULL: there is none, or the tree was never had. Borrowed from the mirror. */
const json_t *observed_mirror_snapshot(const struct observed_mirror *mirror, const char *name);

enum observe_kind {
    OBSERVE_DEVICES,
    OBSERVE_STORES,
    OBSERVE_TRANSPORTS,
    OBSERVE_EXPORTS,
    OBSERVE_CONTROLLERS,
    OBSERVE_MIRRORS,
    OBSERVE_KINDS
};

/* Takes the answers. What does not look as it should is left out. NULL: no memory. Pure. */
struct observation *observation_make(const struct observation_answers *take_answers);
/* All of its stores. False: no memory; they are as they were. */
bool observation_set_stores(struct observation *seen, const json_t *stores);
void observation_set_transports(struct observation *seen, const json_t *transports);
/* Of the other kinds: takes out what was listed as `item`, the same object; whatever is not there is left out. */
void observation_remove(struct observation *seen, enum observe_kind kind, const json_t *item);
/* Puts in what is listed now. False: no memory. */
bool observation_add(struct observation *seen, enum observe_kind kind, json_t *item);
/* The volume that a listed device is; false: it is none. Its texts are the item's. */
bool observed_volume_read(const struct observation *seen, const json_t *device, struct observed_volume *ret_volume);
static inline struct observation *observation_ref(struct observation *seen) {
    seen->references++;
    return seen;
}
/* NULL is fine. */
void observation_unref(struct observation *take_seen);
void observed_attributes_unref(struct observed_attributes *take_attributes);

/* ---- sharing ---- */

enum { OBSERVE_FULL_S = 60 }; /* all is listed at least so often: nobody tells of how full things are */

struct observe_waiter {
    struct list_node node;
    void (*done)(struct observe_waiter *waiter); /* there is an observation that began after it asked */
};

/* What of a kind is to be listed again: what of it may differ from what was listed last. */
struct observe_part {
    json_t *listed;  /* name: item, as the plane has listed it; of stores and transports an array */
    json_t *doubts;  /* names, as the keys of an object */
    json_t *touched; /* name: item as it was in the observation (null = it was not), of what has been listed otherwise since */
    bool all;
};

struct observer {
    struct control_plane *plane;
    struct log *log;
    struct list waiting, served; /* for the next, for the one under way */
    struct observe_part parts[OBSERVE_KINDS];
    json_t *aliases; /* of devices: names */
    json_t *trees;   /* of mirrors, by name */
    json_t *tree_doubts, *trees_told;
    json_t *attribute_doubts;                    /* UUIDs */
    json_t *unfit;                               /* names of devices that did not fit others when they were listed last */
    struct plane_call stores, events, following; /* following: tells that something happens */
    bool follows;                                /* the plane can tell what happens; else all is listed each time */
    bool is_following, stirred;                  /* stirred: something has happened */
    uint64_t next_event;
    uint64_t full_ns;         /* all was listed then */
    unsigned unsettled;       /* observations in a row in which two things did not fit each other */
    unsigned answers_missing; /* 0 = none under way */
    bool failed;
    bool anew;            /* a new observation is to be made, of all that is listed */
    bool other_stores;    /* what they tell of themselves has changed */
    bool other_transport; /* the same */
    uint64_t began_ns;
    struct reactor_timer retry, stir;
    struct observation *seen, *next; /* the newest; a new one whose attributes are being asked for */
    struct hash_map attributes;
    struct list pending;      /* attributes of what is going to be in the observation */
    unsigned details_missing; /* answers about snapshots */
    bool (*is_replica)(void *arg, const struct observed_volume *volume); /* whose snapshots' attributes are wanted */
    bool (*is_engine)(void *arg, const char *mirror);                    /* whose snapshots are wanted */
    /* There is something new, before the waiters hear of it: everything, or what is in the parts' `touched`. */
    void (*observed)(void *arg, bool all);
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
void observer_doubt_attributes(struct observer *observer, const char *uuid);
/* The plane has become ready. */
void observer_resume(struct observer *observer);
/* Something it tells of is not known as it is by now: it wants to be asked for again. */
static inline bool observer_is_behind(const struct observer *observer, uint64_t now_ns) {
    return json_object_size(observer->tree_doubts) > 0 || now_ns - observer->full_ns >= OBSERVE_FULL_S * NS_PER_S;
}

/* ---- what may have changed: follow.c ---- */

/* NULL: all of the kind. */
void observer_doubt(struct observer *observer, enum observe_kind kind, const char *name);
/* A volume, and those that are next to it in the tree. */
void observer_doubt_volume(struct observer *observer, const char *name);
void observer_doubt_all(struct observer *observer);
/* A command was sent to the plane and has ended, somehow. */
void observer_note_command(struct observer *observer, const char *method, const json_t *params);
/* Events, as the plane lists them. */
void observer_note_events(struct observer *observer, const json_t *events);
/* What is listed under a name from now on, NULL = nothing. */
void observer_set_listed(struct observer *observer, enum observe_kind kind, const char *name, json_t *item);
/* What was listed again of a device (NULL: it is gone), of which another listing is there. Doubts its neighbours. */
void observer_note_device(struct observer *observer, const json_t *before, const json_t *now);
