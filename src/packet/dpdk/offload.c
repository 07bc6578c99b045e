/* Checksums and segments of TCP that a guest left to us: handed on to who can do with them, else done here. What a frame carries
 * inside the plane says nothing of where its headers are, so that tags come and go without making it a lie; they are looked for
 * here, when it leaves. docs/packet.md, "Guests". */
#include "packet/dpdk/internal.h"

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

enum { TAGS_MAX = 4, SEGMENT_MIN = 64 };

/* Where the headers are. */
struct layout {
    unsigned l2, l3, l4; /* bytes of each; l4 of TCP only */
    bool v6, tcp;
    unsigned length; /* of the frame, without what pads it */
};

static bool find_ip(const struct rte_mbuf *frame, struct layout *layout, uint16_t type) {
    const uint8_t *ip = rte_pktmbuf_mtod_offset(frame, const uint8_t *, layout->l2);
    unsigned room = frame->data_len - layout->l2;
    uint8_t protocol;
    if (type == RTE_ETHER_TYPE_IPV4) {
        if (room < sizeof(struct rte_ipv4_hdr))
            return false;
        layout->l3 = (ip[0] & 15u) * 4;
        layout->length = layout->l2 + get_be16(ip + 2);
        protocol = ip[9];
        if (layout->l3 < sizeof(struct rte_ipv4_hdr) ||
            (get_be16(ip + 6) & 0x3fff) != 0) /* a fragment has no checksum of its own */
            return false;
    } else if (type == RTE_ETHER_TYPE_IPV6) {
        if (room < sizeof(struct rte_ipv6_hdr))
            return false;
        layout->v6 = true;
        layout->l3 = sizeof(struct rte_ipv6_hdr);
        layout->length = layout->l2 + layout->l3 + get_be16(ip + 4);
        protocol = ip[6];
    } else {
        return false;
    }
    layout->tcp = protocol == IPPROTO_TCP;
    return (layout->tcp || protocol == IPPROTO_UDP) && room >= layout->l3 + sizeof(struct rte_udp_hdr);
}

/* False: not TCP or UDP over IP, or cut short, or its lengths contradict each other. */
static bool find_headers(const struct rte_mbuf *frame, struct layout *layout) {
    const uint8_t *data = rte_pktmbuf_mtod(frame, const uint8_t *);
    *layout = (struct layout){.l2 = ETHERNET_HEADER_SIZE};
    if (frame->data_len < layout->l2)
        return false;
    uint16_t type = get_be16(data + ETHERNET_ADDRESSES_SIZE);
    for (unsigned tags = 0; type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ; tags++) {
        layout->l2 += VLAN_TAG_SIZE;
        if (tags == TAGS_MAX || frame->data_len < layout->l2)
            return false;
        type = get_be16(data + layout->l2 - 2);
    }
    if (!find_ip(frame, layout, type))
        return false;
    if (layout->tcp) {
        if (frame->data_len < layout->l2 + layout->l3 + sizeof(struct rte_tcp_hdr))
            return false;
        layout->l4 = (data[layout->l2 + layout->l3 + 12] >> 4) * 4u;
        if (layout->l4 < sizeof(struct rte_tcp_hdr) || frame->data_len < layout->l2 + layout->l3 + layout->l4)
            return false;
    }
    return layout->length <= frame->pkt_len && layout->length >= layout->l2 + layout->l3 + max_u32(layout->l4, 8);
}

/* Computes the checksum over all of the frame. False: its segments are not what they say. */
static bool finish_sum(struct rte_mbuf *frame, const struct layout *layout) {
    uint8_t *l3 = rte_pktmbuf_mtod_offset(frame, uint8_t *, layout->l2), *l4 = l3 + layout->l3;
    uint8_t *sum = l4 + (layout->tcp ? offsetof(struct rte_tcp_hdr, cksum) : offsetof(struct rte_udp_hdr, dgram_cksum));
    uint16_t pad = (uint16_t)(frame->pkt_len - layout->length), result;
    unsigned start = layout->l2 + layout->l3;
    if (pad > 0 && rte_pktmbuf_trim(frame, pad) != 0)
        return false;
    memset(sum, 0, 2);
    if (rte_raw_cksum_mbuf(frame, start, layout->length - start, &result) != 0)
        return false;
    uint32_t all = result;
    all += layout->v6 ? rte_ipv6_phdr_cksum((const struct rte_ipv6_hdr *)l3, 0)
                      : rte_ipv4_phdr_cksum((const struct rte_ipv4_hdr *)l3, 0);
    result = (uint16_t) ~((all & 0xffff) + (all >> 16));
    if (result == 0 && !layout->tcp)
        result = 0xffff; /* 0 says that there is none */
    memcpy(sum, &result, 2);
    return true;
}

/* Numbers of one segment out of the train's. */
static bool number(struct rte_mbuf *segment, const struct layout *train, unsigned index, unsigned offset, bool last) {
    uint8_t *l3 = rte_pktmbuf_mtod_offset(segment, uint8_t *, train->l2), *tcp = l3 + train->l3;
    if (train->v6) {
        put_be16(l3 + 4, (uint16_t)(segment->pkt_len - train->l2 - train->l3));
    } else {
        put_be16(l3 + 2, (uint16_t)(segment->pkt_len - train->l2));
        put_be16(l3 + 4, (uint16_t)(get_be16(l3 + 4) + index));
        memset(l3 + 10, 0, 2);
        uint16_t sum = rte_ipv4_cksum((const struct rte_ipv4_hdr *)l3);
        memcpy(l3 + 10, &sum, 2);
    }
    put_be32(tcp + 4, get_be32(tcp + 4) + offset);
    if (!last)
        tcp[13] &= (uint8_t) ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
    if (index > 0)
        tcp[13] &= (uint8_t)~RTE_TCP_CWR_FLAG;
    struct layout layout = *train;
    layout.length = segment->pkt_len;
    return finish_sum(segment, &layout);
}

/* A train of segments, taken apart. */
static unsigned split(struct rte_mempool *pool, struct rte_mbuf *frame, const struct layout *layout, struct rte_mbuf **out,
                      unsigned capacity) {
    unsigned head = layout->l2 + layout->l3 + layout->l4, size = frame->tso_segsz, count = 0;
    if (head > RTE_PKTMBUF_HEADROOM || size < SEGMENT_MIN || divide_up(layout->length - head, size) > capacity)
        return 0;
    for (unsigned at = head; at < layout->length; at += size) {
        unsigned length = min_u32(size, layout->length - at);
        struct rte_mbuf *segment = rte_pktmbuf_copy(frame, pool, at, length);
        char *start = segment == NULL ? NULL : rte_pktmbuf_prepend(segment, (uint16_t)head);
        if (segment != NULL)
            out[count++] = segment;
        if (start != NULL) {
            memcpy(start, rte_pktmbuf_mtod(frame, const char *), head);
            segment->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;
        }
        if (start == NULL || !number(segment, layout, count - 1, at - head, at + length == layout->length)) {
            rte_pktmbuf_free_bulk(out, count);
            return 0;
        }
    }
    if (count > 0)
        rte_pktmbuf_free(frame);
    return count;
}

unsigned dpdk_offload(struct rte_mempool *pool, struct rte_mbuf *frame, const struct dpdk_taker *taker, struct rte_mbuf **out,
                      unsigned capacity) {
    struct layout layout;
    bool train = (frame->ol_flags & RTE_MBUF_F_RX_LRO) != 0;
    if (!find_headers(frame, &layout) || (train && !layout.tcp))
        return 0;
    bool taken = taker->sums && (!train || (layout.v6 ? taker->big_v6 : taker->big_v4));
    if (train && !taken)
        return split(pool, frame, &layout, out, capacity);
    frame->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;
    out[0] = frame;
    if (!taken)
        return finish_sum(frame, &layout) ? 1 : 0;
    frame->l2_len = layout.l2 & 0x7f;
    frame->l3_len = layout.l3 & 0x1ff;
    frame->l4_len = layout.l4 & 0xff;
    frame->ol_flags |= (layout.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
                       (layout.tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM) | (train ? RTE_MBUF_F_TX_TCP_SEG : 0);
    return 1;
}
