/* What the files of this folder share. */
#pragma once

#include "host/linux/linux.h"
#include "packet/dpdk/dpdk.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_spinlock.h>

struct dpdk_backend {
    struct packet_backend backend;
    struct packet_memory memory;
    struct rte_mempool *pool;
    uint32_t next_device; /* number in the next device's name */
};

#define DPDK_REGIONS_MAX 64
#define DPDK_SEGMENTS_MAX 128 /* of one train: 64 KiB in pieces of 512 bytes */

/* What a virtual machine told of itself. Written by DPDK's thread that speaks to it. */
struct dpdk_guest {
    _Atomic bool here;         /* its rings are set up */
    _Atomic bool takes_sums;   /* frames with unfinished checksums */
    _Atomic bool takes_big_v4; /* TCP in pieces larger than frames, over IPv4 */
    _Atomic bool takes_big_v6;
    _Atomic uint32_t takes_queues; /* bit by bit, the queues it wants frames in */
    _Atomic bool lost;             /* its memory went away: left alone until it connects again */
    _Atomic unsigned lost_seen;    /* how many lost mappings were looked at */
    rte_spinlock_t lock;           /* of the regions */
    unsigned region_count;
    struct {
        const void *start;
        size_t size;
    } regions[DPDK_REGIONS_MAX];
};

struct dpdk_port {
    struct packet_port port;
    struct dpdk_backend *backend;
    enum packet_port_kind kind;
    char device[32]; /* "net_tap3" */
    uint16_t id;
    uint16_t queue_count;
    uint16_t next_queue; /* to be read first: the reading worker's */
    uint32_t interrupts; /* bit by bit, the queues whose interrupt is in wake_fd */
    bool has_device, started;
    int wake_fd;                           /* readable when frames have come and it is armed; -1 = none */
    struct host_linux_frame_watch *frames; /* af_packet: the same by other means */
    struct host_linux_waker *waker;        /* the reading worker's */
    bool is_null;                          /* never a frame: nothing to wake up for */
    _Atomic(struct reactor *) reader;
    struct dpdk_guest guest; /* of vhost_user */
};

static inline struct dpdk_port *dpdk_port_of(struct packet_port *port) { return container_of(port, struct dpdk_port, port); }

bool dpdk_port_open(struct packet_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                    struct error *error);

/* ---- traffic.c: the port's receive and send ---- */

unsigned dpdk_port_receive(struct packet_port *port, struct packet **ret_packets, unsigned capacity);
unsigned dpdk_port_send(struct packet_port *port, struct packet **packets, unsigned count);

/* ---- guest.c: what stands behind a vhost_user port ---- */

/* Has the port told of its guest from now on. Before the device starts; DPDK's thread calls. */
void dpdk_guest_watch(struct dpdk_port *port);
/* Nothing of the device runs any more. */
void dpdk_guest_unwatch(struct dpdk_port *port);
/* A mapping was lost since the last look: whose was it? */
void dpdk_guest_look(struct dpdk_port *port);

/* The guest's memory is there, as far as is known. Before each burst, by the workers. */
static inline bool dpdk_guest_is_sound(struct dpdk_port *port) {
    if (unlikely(host_linux_lost_mappings() != atomic_load_explicit(&port->guest.lost_seen, memory_order_relaxed)))
        dpdk_guest_look(port);
    return likely(!atomic_load_explicit(&port->guest.lost, memory_order_relaxed));
}

/* ---- offload.c: work on frames that guests leave to us, and we to the next one ---- */

/* What stays with a frame inside the plane: its checksum is unfinished; it is a train of TCP segments. */
#define DPDK_FRAME_STATES (RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_LRO)

/* What the taker of a frame does by itself. */
struct dpdk_taker {
    bool sums, big_v4, big_v6;
};

/* True if somebody has to do something before the frame goes out. */
static inline bool dpdk_frame_is_unfinished(const struct rte_mbuf *frame) { return (frame->ol_flags & DPDK_FRAME_STATES) != 0; }

/* Makes what goes to a taker of a frame: itself with the driver's notes, or its segments with checksums. Into `out`, `capacity`
 * of them at most; returns how many. 0: it is malformed or there is no memory, and is still the caller's; else it is not. */
unsigned dpdk_offload(struct rte_mempool *pool, struct rte_mbuf *frame, const struct dpdk_taker *taker, struct rte_mbuf **out,
                      unsigned capacity);
