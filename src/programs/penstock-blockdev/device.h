/* The block device of one volume: attached to the engine's targets, replaced under whoever has it open, suspended for a time.
 * Every function may be called again, whatever became of the one before: it looks first, and does what is missing. */
#pragma once

#include "programs/penstock-blockdev/kernel.h"

enum { DEVICE_NAME_MAX = 63, DEVICE_PATH_SIZE = 128 };

struct device_target {
    char address[KERNEL_ADDRESS_SIZE], port[8];
};

struct device {
    const struct kernel_ops *kernel;
    void *kernel_arg;
    const char *folder; /* of the nodes: "/dev/longhorn" */
    const char *host_nqn, *host_id;
    uint64_t suspended_until_ms; /* 0 = it is not */
    uint64_t lease;              /* of the suspension, or the last one */
    bool expired;                /* the last one ended by itself */
};

struct device_status {
    char path[DEVICE_PATH_SIZE]; /* of the node; "" = there is no device */
    struct kernel_disk disk;
    struct kernel_mapping mapping;
};

/* Connected to these targets (and, `only`, to no others), with the device over the disk, as large as that: at least `bytes`. A
 * target that does not answer is passed over as long as there is another one. ERROR_TIMED_OUT: no disk of that size within
 * timeout_ms. */
bool device_attach(struct device *device, const char *volume, const char *nqn, const struct device_target *targets,
                   unsigned count, bool only, uint64_t bytes, uint64_t timeout_ms, struct device_status *ret_status,
                   struct error *error);
/* No device, no node, no connection. ERROR_BUSY: somebody has it open; nothing was done. */
bool device_detach(struct device *device, const char *volume, const char *nqn, struct error *error);
/* Writes on the way have been done and new ones wait, until device_resume() or the lease's end. ERROR_BUSY: it is suspended. */
bool device_suspend(struct device *device, const char *volume, uint64_t lease_ms, uint64_t *ret_lease, struct error *error);
/* ERROR_TIMED_OUT: it went on before, by itself. */
bool device_resume(struct device *device, const char *volume, uint64_t lease, struct error *error);
/* Whoever had it suspended is gone, or its time is over. Ms until it is to be called again; UINT64_MAX = not suspended. */
uint64_t device_guard(struct device *device, const char *volume, bool owner_is_gone);
bool device_look(struct device *device, const char *volume, const char *nqn, struct device_status *ret_status,
                 struct error *error);
