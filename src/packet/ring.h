/* A port inside the plane: what is sent to it comes out of it, on another worker if need be. One reader, one writer, no lock.
 * Must not know: DPDK. */
#pragma once

#include "base/error.h"
#include "packet/port.h"

#define PACKET_RING_SIZE_MAX 65536

/* `size` frames, a power of two. What is in it at the end goes back to `memory`. False: error. Any thread. */
bool packet_ring_create(const char *name, uint32_t size, struct packet_memory *memory, struct packet_port **ret_port,
                        struct error *error);
