/* What a block-device frontend needs of the kernel: NVMe/TCP connections, the disk behind them, a device-mapper device on top. A
 * table of functions, so that tests can be the kernel. All of them block. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

enum { KERNEL_PATHS_MAX = 8, KERNEL_NAME_SIZE = 32, KERNEL_ADDRESS_SIZE = 64, KERNEL_NQN_SIZE = 224 };

struct kernel_path { /* a controller of the kernel's */
    char controller[KERNEL_NAME_SIZE], address[KERNEL_ADDRESS_SIZE], port[8];
    char state[16]; /* "live", "connecting", … */
    char ana[20];   /* "optimized", …; "" = not told */
};

struct kernel_disk {
    struct kernel_path paths[KERNEL_PATHS_MAX];
    unsigned path_count;
    char name[KERNEL_NAME_SIZE]; /* "nvme0n1"; "" = there is none */
    char number[16];             /* "259:0" */
    uint64_t bytes;
};

struct kernel_mapping { /* a device-mapper device with one linear target */
    bool there, suspended;
    bool loaded;     /* it has a table: `below` and `bytes` are that one's */
    char number[16]; /* its own */
    char below[16];  /* number of the disk that it stands on */
    uint64_t bytes;
    int opens;
};

struct kernel_connect {
    const char *nqn, *address, *port, *host_nqn, *host_id;
};

struct kernel_ops {
    bool (*look)(void *arg, const char *nqn, struct kernel_disk *ret_disk, struct error *error);
    bool (*connect)(void *arg, const struct kernel_connect *to, struct error *error);
    bool (*disconnect)(void *arg, const char *controller, struct error *error);
    bool (*mapping)(void *arg, const char *name, struct kernel_mapping *ret_mapping, struct error *error);
    /* Makes the device if there is none. The table counts from the next resume on. */
    bool (*load)(void *arg, const char *name, const char *below, uint64_t bytes, struct error *error);
    /* `whole`: with what is under way done, and a file system on it frozen; ERROR_TIMED_OUT when that takes longer than
     * `timeout_ms`. Else at once: what is under way waits. */
    bool (*suspend)(void *arg, const char *name, bool whole, uint64_t timeout_ms, struct error *error);
    bool (*resume)(void *arg, const char *name, struct error *error);
    bool (*remove)(void *arg, const char *name, struct error *error); /* ERROR_BUSY: somebody has it open */
    /* A block device of that number at `path`; number NULL = none. */
    bool (*node)(void *arg, const char *path, const char *number, struct error *error);
    void (*sleep)(void *arg, uint64_t ms);
    uint64_t (*now_ms)(void *arg);
};

/* Linux: sysfs, libnvme, libdevmapper. */
extern const struct kernel_ops kernel_linux;
