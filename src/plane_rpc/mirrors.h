/* The mirrors of a plane: made, watched, told of, deleted. Control reactor.
 * Must not know: methods; how a mirror works. */
#pragma once

#include "blockdev/mirror/mirror.h"
#include "plane_rpc/plane.h"

struct plane_mirror_look;

/* What is kept of a leg beside the engine's own status. */
struct plane_mirror_leg {
    char name[BLOCK_NAME_SIZE]; /* as it was given at creation */
    uint64_t set_aside;         /* times */
};

/* What a leg had missed when bdev_raid_stop_base_bdev_delta_bitmap was called. */
struct plane_mirror_delta {
    struct list_node node; /* in the mirror's deltas */
    struct plane_mirror *mirror;
    char leg[BLOCK_NAME_SIZE];
    uint64_t *bitmap, regions;
    struct reactor_timer end; /* it is forgotten */
};

struct plane_mirror {
    struct list_node node; /* in plane->mirrors, in order of creation */
    struct hash_node by_name;
    struct plane *plane;
    char name[BLOCK_NAME_SIZE];
    struct plane_mirror_leg legs[MIRROR_LEGS_MAX];
    struct mirror_options options; /* as given; texts are here, above */
    bool keep;                     /* stays, and says why, where it cannot serve */
    struct block_device *device;
    struct mirror_status status; /* states as of the last event; the rest as looked at last; a leg without name = none */
    bool served;                 /* since the plane's start */
    bool deleting;
    uint64_t since_wall_ns; /* of the mirror's state */
    uint64_t legs_set_aside, events_dropped;
    void (*created)(void *arg, struct plane_mirror *mirror, const struct error *error); /* NULL: told already */
    void *created_arg;
    struct plane_mirror_look *look; /* whether there is a store on it; NULL = not under way */
    struct error failure;           /* why it could not be made */
    struct list deltas;             /* struct plane_mirror_delta */
    void (*deleted)(void *arg);
    void *deleted_arg;
};

/* Makes one. `done` follows, perhaps at once: with the mirror when it serves, or waits for legs that are not there (status.error
 * says for which), or, with `keep`, whatever it does; with NULL and why if it cannot serve: then it is gone again. The options'
 * texts are copied; home, event, gone and event_arg are the plane's. */
void plane_mirror_create(struct plane *plane, const struct mirror_options *options, bool keep,
                         void (*done)(void *arg, struct plane_mirror *mirror, const struct error *error), void *arg);
/* Ends it; `deleted` (NULL allowed) is called when its legs are free. ERROR_BUSY if that is under way. */
bool plane_mirror_delete(struct plane_mirror *mirror, void (*deleted)(void *arg), void *arg, struct error *error);
/* By name, or by the device's UUID; NULL if there is none. */
struct plane_mirror *plane_mirror_find(struct plane *plane, const char *name);
/* The mirror of a device of this kind; NULL for any other. */
struct plane_mirror *plane_mirror_of(struct plane *plane, const struct block_device *device);
/* The first mirror that has a leg of this name; NULL = none. */
struct plane_mirror *plane_mirror_with_leg(struct plane *plane, const char *leg);
/* Keeps `bitmap` (taken) for a leg, in place of what was kept, for ten minutes. ERROR_NO_MEMORY: it is freed. */
bool plane_mirror_keep_delta(struct plane_mirror *mirror, const char *leg, uint64_t *take_bitmap, uint64_t regions,
                             struct error *error);
/* What is kept for a leg of this name; NULL = nothing. */
struct plane_mirror_delta *plane_mirror_delta_of(struct plane *plane, const char *leg);
void plane_mirror_forget_delta(struct plane_mirror_delta *delta);
/* Refreshes the status of a mirror, NULL = of all, then calls `done`, perhaps at once. */
void plane_mirrors_look(struct plane *plane, struct plane_mirror *only, void (*done)(void *arg), void *arg);
/* Begins to delete all that are not on their way out; true when none is left. */
bool plane_mirrors_delete_all(struct plane *plane);
