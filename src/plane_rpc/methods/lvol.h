/* What the volume methods share. Control reactor. */
#pragma once

#include "plane_rpc/stores.h"

/* A store command that answers a call: made by lvol_call_create(), freed with its answer. */
struct lvol_call {
    struct rpc_call *call;
    struct plane *plane;
    struct volume_command command;          /* .store and .volume are set */
    void (*answer)(struct lvol_call *lvol); /* after success */
};

/* For a volume by name: NULL, and the call is answered, if there is none or no memory. */
struct lvol_call *lvol_call_create(struct rpc_call *call, const char *volume, void (*answer)(struct lvol_call *lvol));
/* For a store: the same. */
struct lvol_call *lvol_call_create_on(struct rpc_call *call, struct plane_store *store, void (*answer)(struct lvol_call *lvol));
/* Runs a command of volume.h. */
void lvol_call_run(struct lvol_call *lvol, void (*command)(struct volume_command *command));
void lvol_answer_true(struct lvol_call *lvol);
/* The UUID of what was created. */
void lvol_answer_uuid(struct lvol_call *lvol);
/* The store that uuid or lvs_name name, exactly one of them: else the call is answered and NULL returned. */
struct plane_store *lvol_store_of(struct rpc_call *call, const char *uuid, const char *name);

/* What is gathered for a listing. */
struct lvol_wanted {
    struct plane_store *store; /* NULL = all stores, with their volumes */
    struct uuid volume;        /* of that store, and what is directly upon it; nil = all volumes */
    bool no_volumes;           /* nothing but what the stores tell of themselves */
};

/* Stores and volumes, gathered. */
struct lvol_listing {
    struct plane *plane;
    struct lvol_wanted wanted;
    unsigned store_count, waiting;
    struct lvol_listing_store {
        struct lvol_listing *listing;
        struct plane_store *store;
        struct volume_store_info info;
        struct volume_command describe, list;
    } * stores;
    struct lvol_listing_volume {
        struct hash_node by_uuid, by_parent;
        const struct volume_info *info;
        const struct lvol_listing_store *store;
    } * volumes; /* of all stores */
    struct hash_map by_uuid, by_parent;
    void (*done)(struct lvol_listing *listing);
    void *arg;
};
/* Gathers, then calls done (perhaps at once), then frees it. */
void lvol_listing_run(struct plane *plane, const struct lvol_wanted *wanted, void (*done)(struct lvol_listing *listing),
                      void *arg);
/* A volume of the listing by UUID; NULL if it came since. */
const struct lvol_listing_volume *lvol_listing_find(const struct lvol_listing *listing, const struct uuid *uuid);
/* driver_specific.lvol of a volume's device. */
void lvol_put_driver_specific(struct json_writer *writer, const struct lvol_listing *listing, const struct block_device *device);
