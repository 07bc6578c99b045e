/* The drivers' side of the packet plane: DPDK's environment, frames' memory, ports as virtual devices. docs/packet.md, "Ports".
 * The only folder that includes DPDK. Must not know: components, the API. */
#pragma once

#include "packet/plane.h"

#define DPDK_BUFFERS_DEFAULT 8192
#define DPDK_BUFFERS_MIN 1024
#define DPDK_BUFFERS_MAX 1048576

#define DPDK_DRIVERS_MAX 16
#define DPDK_PCI_MAX 32
/* Of what processes share beside frames: another number with each change of it, or of what a frame carries. */
#define DPDK_SHARED_LAYOUT 2

/* docs/packet-processes.md */
enum dpdk_role { DPDK_ALONE, DPDK_PRIMARY, DPDK_SECONDARY };

struct dpdk_options {
    enum dpdk_role role;
    const char *group;           /* what the processes' shared files are named by: letters, digits, - */
    uint64_t cores;              /* of a secondary: its lcores, the lowest of which runs nothing */
    const struct cores_map *map; /* the processors that stand for them */
    const int *cpus;             /* of a primary's workers, -1 = unpinned; they have lcores that no mask can name */
    unsigned cpu_count;
    const int *wakes; /* of several processes: by a worker's lcore, the descriptor that it is woken by in all of them */
    unsigned wake_count;
    const char *program;                   /* named in messages */
    uint32_t buffers;                      /* frames */
    const char *huge_dir;                  /* a hugetlbfs, whose pages are used; NULL = pages of 4 KiB */
    const char *drivers[DPDK_DRIVERS_MAX]; /* shared objects of DPDK's drivers */
    unsigned driver_count;
    const char *pci[DPDK_PCI_MAX]; /* addresses of network cards that the kernel has left to us; no other is looked at */
    unsigned pci_count;
    bool xdp; /* programs may be loaded into the kernel: for ports of kind af_xdp */
};

/* How many lcores all processes of that primary may have together. */
unsigned dpdk_wake_count(const struct dpdk_options *primary);
/* All of a backend but compile_filter. Brings DPDK up, without devices: once a process, from main, before other threads run. The
 * options are needed for the call only. False: error. */
bool dpdk_backend_create(const struct dpdk_options *options, struct packet_backend **ret_backend, struct error *error);
/* All ports are gone. */
void dpdk_backend_destroy(struct packet_backend *backend);
