/* The drivers' side of the packet plane: DPDK's environment, frames' memory, ports as virtual devices. docs/packet.md, "Ports".
 * The only folder that includes DPDK. Must not know: components, the API. */
#pragma once

#include "packet/plane.h"

#define DPDK_BUFFERS_DEFAULT 8192
#define DPDK_BUFFERS_MIN 1024
#define DPDK_BUFFERS_MAX 1048576

/* All of a backend but compile_filter. Brings DPDK up, without huge pages and without devices: once a process, from main, before
 * other threads run. `program` is named in its messages. False: error. */
bool dpdk_backend_create(const char *program, uint32_t buffers, struct packet_backend **ret_backend, struct error *error);
/* All ports are gone. */
void dpdk_backend_destroy(struct packet_backend *backend);
/* Frames' buffers, all and free ones. Any thread; counts, so it takes a while. */
void dpdk_backend_buffers(struct packet_backend *backend, uint64_t *ret_count, uint64_t *ret_free);
