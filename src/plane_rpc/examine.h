/* Looks at devices for what is stored on them, and opens it: volume stores. Control reactor. */
#pragma once

#include "plane_rpc/plane.h"

/* One look at one device; caller's memory until done. */
struct plane_examine {
    void (*done)(struct plane_examine *examine);
    bool opened;        /* a store is open on it */
    struct error error; /* if not: why. ERROR_FOREIGN = there is none, or the device is in use otherwise */

    /* the plane's */
    struct plane *plane;
    struct block_device *device;
    struct reactor_job job;
    struct list_node node;
};

/* Looks at a device, now. `done` is not called from inside. */
void plane_examine(struct plane *plane, struct block_device *device, struct plane_examine *examine);
/* True while a device of that name is looked at, which keeps it from others. The plane's waiters look again when that ends. */
bool plane_examines(struct plane *plane, const char *name);
/* The same unless the plane was told not to look at new devices (bdev_set_options): then done at once, nothing opened. */
void plane_examine_automatically(struct plane *plane, struct block_device *device, struct plane_examine *examine);
