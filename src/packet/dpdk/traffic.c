/* Frames in and out of a driver's port. */
#include "packet/dpdk/internal.h"

/* ---- in ---- */

/* The kernel, or hardware, has taken the tag out of it: back with it. */
static unsigned put_tags_back(struct dpdk_port *port, struct rte_mbuf **frames, unsigned count) {
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++) {
        struct rte_mbuf *frame = frames[i];
        if ((frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && rte_vlan_insert(&frame) != 0) {
            rte_pktmbuf_free(frame);
            packet_count(&port->port.received.full, 1);
            continue;
        }
        frames[left++] = frame;
    }
    return left;
}

/* Only a guest's unfinished work stays with the frame: the rest is of the driver that received it. */
static void keep_states(const struct dpdk_port *port, struct rte_mbuf **frames, unsigned count) {
    bool guest = port->kind == PACKET_PORT_VHOST_USER;
    for (unsigned i = 0; i < count; i++) {
        uint64_t flags = frames[i]->ol_flags;
        uint64_t states = guest ? flags & RTE_MBUF_F_RX_LRO : 0;
        if (guest && (flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE)
            states |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
        frames[i]->ol_flags = (flags & (RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT)) | states;
    }
}

/* ---- the driver's bursts ---- */

/* In the driver from now on: a connection of memif's is not taken down under us (remains.c). */
static void enter(const struct dpdk_port *port, _Atomic bool *in) {
    if (port->kind == PACKET_PORT_MEMIF) {
        atomic_store_explicit(in, true, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst); /* that is seen before the driver looks whether there is one */
    }
}

static void leave(const struct dpdk_port *port, _Atomic bool *in) {
    if (port->kind == PACKET_PORT_MEMIF)
        atomic_store_explicit(in, false, memory_order_release);
}

static unsigned receive_burst(struct dpdk_port *port, struct rte_mbuf **frames, unsigned capacity) {
    enter(port, &port->memif.receiving);
    unsigned count = rte_eth_rx_burst(port->id, 0, frames, (uint16_t)capacity);
    leave(port, &port->memif.receiving);
    return count;
}

static unsigned send_burst(struct dpdk_port *port, struct rte_mbuf **frames, unsigned count) {
    enter(port, &port->memif.sending);
    unsigned sent = rte_eth_tx_burst(port->id, 0, frames, (uint16_t)count);
    leave(port, &port->memif.sending);
    return sent;
}

unsigned dpdk_port_receive(struct packet_port *base, struct packet **ret_packets, unsigned capacity) {
    struct dpdk_port *port = dpdk_port_of(base);
    struct rte_mbuf **frames = (struct rte_mbuf **)ret_packets;
    bool guest = port->kind == PACKET_PORT_VHOST_USER;
    if (guest && !dpdk_guest_is_sound(port))
        return 0;
    unsigned count = guest ? dpdk_guest_receive(port, frames, capacity) : receive_burst(port, frames, capacity);
    uint64_t flags = 0;
    dpdk_frames_come((void *const *)frames, count);
    for (unsigned i = 0; i < count; i++)
        flags |= frames[i]->ol_flags;
    if (unlikely((flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0))
        count = put_tags_back(port, frames, count);
    if (flags != 0)
        keep_states(port, frames, count);
    return count;
}

/* ---- out ---- */

/* The same for all frames of a flow, so that they keep their order. */
static uint32_t flow_of(const struct rte_mbuf *frame) {
    const uint8_t *data = rte_pktmbuf_mtod(frame, const uint8_t *);
    uint64_t hash = get_le64(data) ^ (uint64_t)get_le32(data + 8) << 16;
    uint16_t type = get_be16(data + ETHERNET_ADDRESSES_SIZE);
    const uint8_t *ip = data + ETHERNET_HEADER_SIZE;
    if (type == RTE_ETHER_TYPE_IPV4 && frame->data_len >= ETHERNET_HEADER_SIZE + 24) {
        bool whole = (get_be16(ip + 6) & 0x3fff) == 0 && (ip[0] & 15) == 5 && (ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP);
        hash ^= get_le64(ip + 12) ^ (whole ? (uint64_t)get_le32(ip + 20) << 20 : 0);
    } else if (type == RTE_ETHER_TYPE_IPV6 && frame->data_len >= ETHERNET_HEADER_SIZE + 44) {
        hash ^= get_le64(ip + 16) ^ get_le64(ip + 32) ^ (uint64_t)get_le32(ip + 40) << 20;
    }
    return (uint32_t)(hash * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Over the queues that the guest listens on. Those not taken come last. */
static unsigned transmit_spread(struct dpdk_port *port, struct rte_mbuf **frames, unsigned count, uint32_t queues) {
    not_zeroed struct rte_mbuf *lists[PACKET_QUEUES_MAX][PACKET_BURST], *left[PACKET_BURST];
    unsigned counts[PACKET_QUEUES_MAX] = {0}, sent_all = 0, left_count = 0, used = 0;
    uint16_t numbers[PACKET_QUEUES_MAX];
    for (uint16_t queue = 0; queue < port->queue_count; queue++)
        if ((queues >> queue & 1) != 0)
            numbers[used++] = queue;
    for (unsigned i = 0; i < count; i++) {
        unsigned list = (unsigned)((uint64_t)flow_of(frames[i]) * used >> 32);
        lists[list][counts[list]++] = frames[i];
    }
    for (unsigned list = 0; list < used; list++) {
        if (counts[list] == 0)
            continue;
        unsigned sent = dpdk_guest_send(port, numbers[list], lists[list], counts[list]);
        sent_all += sent;
        for (; sent < counts[list]; sent++)
            left[left_count++] = lists[list][sent];
    }
    memcpy(frames + sent_all, left, left_count * sizeof(*left));
    return sent_all;
}

static unsigned transmit(struct dpdk_port *port, struct rte_mbuf **frames, unsigned count) {
    dpdk_frames_go((void *const *)frames, count);
    if (port->kind != PACKET_PORT_VHOST_USER)
        return send_burst(port, frames, count);
    if (unlikely(port->queue_count > 1)) {
        uint32_t queues = atomic_load_explicit(&port->guest.takes_queues, memory_order_relaxed);
        queues &= (1u << port->queue_count) - 1;
        if ((queues & (queues - 1)) != 0)
            return transmit_spread(port, frames, count, queues);
    }
    return dpdk_guest_send(port, 0, frames, count);
}

/* Segments of one frame, which counts as sent: those that are not taken are counted apart. */
static void transmit_train(struct dpdk_port *port, struct rte_mbuf **segments, unsigned count) {
    unsigned sent = 0;
    while (sent < count) {
        unsigned burst = min_u32(count - sent, PACKET_BURST), went = transmit(port, segments + sent, burst);
        sent += went;
        if (went < burst)
            break;
    }
    packet_count(&port->port.sent.full, count - sent);
    rte_pktmbuf_free_bulk(segments + sent, count - sent);
}

/* Some have to be finished first. */
static __attribute__((noinline)) unsigned send_unfinished(struct dpdk_port *port, struct rte_mbuf **frames, unsigned count) {
    const struct dpdk_guest *guest = &port->guest;
    struct dpdk_taker taker = {0};
    if (port->kind == PACKET_PORT_VHOST_USER)
        taker = (struct dpdk_taker){.sums = atomic_load_explicit(&guest->takes_sums, memory_order_relaxed),
                                    .big_v4 = atomic_load_explicit(&guest->takes_big_v4, memory_order_relaxed),
                                    .big_v6 = atomic_load_explicit(&guest->takes_big_v6, memory_order_relaxed)};
    not_zeroed struct rte_mbuf *batch[PACKET_BURST], *left[PACKET_BURST], *made[DPDK_SEGMENTS_MAX];
    unsigned batched = 0, left_count = 0;
    for (unsigned i = 0; i <= count; i++) {
        bool plain = i < count && !dpdk_frame_is_unfinished(frames[i]);
        unsigned n = plain || i == count ? 0 : dpdk_offload(port->backend->pool, frames[i], &taker, made, DPDK_SEGMENTS_MAX);
        if (plain || n == 1) {
            batch[batched++] = plain ? frames[i] : made[0];
            continue;
        }
        if (i < count && n == 0) {
            packet_count(&port->port.sent.unfinished, 1);
            left[left_count++] = frames[i];
            continue;
        }
        /* In order: what stands before a train goes before it; and what is left at the end. */
        unsigned sent = batched == 0 ? 0 : transmit(port, batch, batched);
        for (; sent < batched; sent++)
            left[left_count++] = batch[sent];
        batched = 0;
        if (n > 1)
            transmit_train(port, made, n);
    }
    memcpy(frames + (count - left_count), left, left_count * sizeof(*left));
    return count - left_count;
}

unsigned dpdk_port_send(struct packet_port *base, struct packet **packets, unsigned count) {
    struct dpdk_port *port = dpdk_port_of(base);
    struct rte_mbuf **frames = (struct rte_mbuf **)packets;
    uint64_t flags = 0;
    if (port->kind == PACKET_PORT_VHOST_USER && !dpdk_guest_is_sound(port))
        return 0;
    for (unsigned i = 0; i < count; i++)
        flags |= frames[i]->ol_flags;
    if (unlikely((flags & DPDK_FRAME_STATES) != 0))
        return send_unfinished(port, frames, count);
    return transmit(port, frames, count);
}
