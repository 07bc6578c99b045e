/* What penstock-bench measures: a device made from a text. */
#pragma once

#include "block/device.h"

#define TARGET_HELP                                                                                                              \
    "DEVICE is one of\n"                                                                                                         \
    "  null:SIZE          requests succeed at once\n"                                                                            \
    "  memory:SIZE        a RAM disk\n"                                                                                          \
    "  file:PATH          a file or block device, directly accessed where it can be\n"                                           \
    "  buffered:PATH      the same through the page cache\n"                                                                     \
    "  volume:DEVICE      a thin volume in a store on one of the above, which is made if the device is empty\n"                  \
    "  nvme-tcp://ADDRESS:PORT/NQN[?OPTION,…]   the first namespace of a subsystem; options: nsid=N, hdgst, ddgst,\n"          \
    "                     hostnqn=NQN\n"

#define TARGET_LEGS 2

struct target {
    struct block_graph *graph;
    struct reactor *control, *data; /* this one's, and the first of those that submit */
    uint32_t block_size;
    struct block_device *device; /* the result */
    void (*done)(struct target *target, bool ok, const struct error *error);
    void *arg;

    bool wants_volume;
    /* what is to be closed */
    struct block_device *base; /* under a volume */
    struct volume_store *store;
    struct nvme_initiator *initiator;
    struct block_device *legs[TARGET_LEGS]; /* of a mirror */
    unsigned legs_left;
    void (*closed)(struct target *target);
};

/* Makes the device that `spec` describes, then calls done (from the loop). Control reactor. */
void target_open(struct target *target, const char *spec);
/* Closes what was opened, also after a failure, then calls closed (perhaps at once). No handle is open. */
void target_close(struct target *target, void (*closed)(struct target *target));

/* ---- between the files of this folder ---- */
void target_open_nvme(struct target *target, const char *address);
void target_close_nvme(struct target *target);
/* target->base is open: makes a store and a volume on it. */
void target_open_volume(struct target *target);
void target_close_volume(struct target *target);
/* Removes the simple devices and says closed. */
void target_close_rest(struct target *target);
bool target_open_mirror(struct target *target, uint64_t blocks, struct error *error);
void target_close_mirror(struct target *target);
