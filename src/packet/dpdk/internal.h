/* What backend.c and port.c share. */
#pragma once

#include "packet/dpdk/dpdk.h"

struct rte_mempool;

struct dpdk_backend {
    struct packet_backend backend;
    struct packet_memory memory;
    struct rte_mempool *pool;
    uint32_t next_device; /* number in the next device's name */
};

bool dpdk_port_open(struct packet_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                    struct error *error);
