/* The drivers' side of the packet plane: DPDK's environment, frames' memory, ports as virtual devices. docs/packet.md, "Ports".
 * The only folder that includes DPDK. Must not know: components, the API. */
#pragma once

#include "packet/plane.h"

#define DPDK_BUFFERS_DEFAULT 8192
#define DPDK_BUFFERS_MIN 1024
#define DPDK_BUFFERS_MAX 1048576

#define DPDK_DRIVERS_MAX 16

struct dpdk_options {
    const char *program;                   /* named in messages */
    uint32_t buffers;                      /* frames */
    const char *huge_dir;                  /* a hugetlbfs, whose pages are used; NULL = pages of 4 KiB */
    const char *drivers[DPDK_DRIVERS_MAX]; /* shared objects of DPDK's drivers */
    unsigned driver_count;
};

/* All of a backend but compile_filter. Brings DPDK up, without devices: once a process, from main, before other threads run. The
 * options are needed for the call only. False: error. */
bool dpdk_backend_create(const struct dpdk_options *options, struct packet_backend **ret_backend, struct error *error);
/* All ports are gone. */
void dpdk_backend_destroy(struct packet_backend *backend);
/* Frames' buffers, all and free ones. Any thread; counts, so it takes a while. */
void dpdk_backend_buffers(struct packet_backend *backend, uint64_t *ret_count, uint64_t *ret_free);
