/* The volume stores of a plane: finding them on new devices, making, closing, naming. Control reactor.
 * Must not know: methods. */
#pragma once

#include "blockdev/volume/volume.h"
#include "plane_rpc/plane.h"

struct plane_store {
    struct list_node node; /* in plane->stores, in order of opening */
    struct plane *plane;
    struct volume_store *store;
    struct block_device *base;
    struct reactor *home;
    struct uuid uuid;
    char name[VOLUME_NAME_SIZE];
    bool closing;
};

/* Opens the store on a device; `done` always follows: with the store, or with NULL and why (ERROR_FOREIGN: there is none). */
void plane_store_open(struct plane *plane, struct block_device *device,
                      void (*done)(void *arg, struct plane_store *store, const struct error *error), void *arg);
/* Formats the device and opens the store. `format` has all but base, home and done set. */
void plane_store_create(struct plane *plane, struct block_device *device, const struct volume_store_format *format,
                        void (*done)(void *arg, struct plane_store *store, const struct error *error), void *arg);
/* Closes a store: its volumes go away, the device stays. ERROR_BUSY if that is under way. */
bool plane_store_close(struct plane_store *store, void (*done)(void *arg, bool ok, const struct error *error), void *arg,
                       struct error *error);
/* By name, or by UUID; NULL if there is none (or it is closing). */
struct plane_store *plane_store_find(struct plane *plane, const char *name);
struct plane_store *plane_store_of(struct plane *plane, const struct volume_store *store);
/* The store on a device; NULL = none. */
struct plane_store *plane_store_on(struct plane *plane, const struct block_device *base);
/* Begins to close all that are not closing; true when none is left and none is being opened. */
bool plane_stores_close_all(struct plane *plane);
