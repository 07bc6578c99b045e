/* What the parts of the driver share: driver.c (the loop), driver_requests.c, driver_commands.c. */
#pragma once

#include "driver.h"

#define SECTORS_PER_BLOCK 8u
#define NO_NODE MODEL_NODES_MAX
#define TURNS_MAX 4000000

/* The first one counts, and ends the run. */
void driver_fail(struct driver *driver, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline uint32_t driver_now(struct driver *driver) { return disk_mark(driver->session->disk); }
static inline uint64_t driver_draw(struct driver *driver, uint64_t bound) { return random_below(&driver->random, bound); }
static inline bool driver_chance(struct driver *driver, unsigned percent) { return random_chance(&driver->random, percent, 100); }

static inline bool driver_faults_planted(const struct driver *driver) {
    for (unsigned i = 0; i < DISK_FAULT_COUNT; i++)
        if (driver->workload->fail_at[i] != 0)
            return true;
    return driver->session->world.heap.fail_at != 0;
}
static inline bool driver_flush_has_failed(const struct driver *driver) {
    return driver->session->disk->failed[DISK_FAULT_FLUSH] > 0;
}

/* ---- driver_requests.c ---- */
/* Any open volume, or also a snapshot; NO_NODE = none. */
uint32_t driver_pick(struct driver *driver, bool snapshots, bool idle_only);
uint32_t driver_pick_snapshot(struct driver *driver);
/* False: what was drawn cannot be done. */
bool driver_request_begin(struct driver *driver, struct slot *slot, enum action action);

/* ---- driver_commands.c ---- */
bool driver_target_open(struct driver *driver, uint32_t node);
/* False: what was drawn cannot be done. */
bool driver_control_begin(struct driver *driver, struct control *control, enum action action);
/* Goes on with a command that waits until nothing of its target is under way. */
void driver_control_drain(struct control *control);
