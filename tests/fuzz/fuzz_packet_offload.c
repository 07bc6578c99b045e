/* Fuzzes what finishes the checksums and segments that a guest left: any bytes as a frame, in pieces, for any taker. What comes
 * out of a train must be its payload, in order, in frames that are no longer than was asked for, whose lengths and checksums are
 * right. */
#include "packet/dpdk/internal.h"

#include <rte_eal.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { BUFFERS = 512, FRAME_MAX = 9000, ROOM = RTE_MBUF_DEFAULT_BUF_SIZE };

static struct rte_mempool *pool; /* DPDK comes up once a process */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    char list[1024], cpus[1100], program[] = "fuzz";
    host_linux_cpus(list, sizeof(list));
    snprintf(cpus, sizeof(cpus), "--lcores=0@(%s)", list);
    const char *words[] = {program, "--no-huge", "--no-shconf", "--no-pci",          "--no-telemetry",
                           "-m",    "32",        cpus,          "--log-level=error", NULL};
    if (rte_eal_init((int)array_count(words) - 1, (char **)(uintptr_t)words) < 0)
        abort();
    pool = rte_pktmbuf_pool_create("frames", BUFFERS, 0, 0, ROOM, SOCKET_ID_ANY);
    if (pool == NULL)
        abort();
    return 0;
}

/* The bytes in buffers of `piece` each. */
static struct rte_mbuf *make(const uint8_t *data, size_t size, size_t piece) {
    struct rte_mbuf *frame = NULL, *last = NULL;
    for (size_t at = 0; at == 0 || at < size; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
        assert(mbuf != NULL);
        memcpy(rte_pktmbuf_append(mbuf, (uint16_t)length), data + at, length);
        if (frame == NULL) {
            frame = mbuf;
        } else {
            last->next = mbuf;
            frame->nb_segs++;
            frame->pkt_len += (uint32_t)length;
        }
        last = mbuf;
    }
    return frame;
}

/* Where IP begins, behind tags. */
static unsigned find_ip(const uint8_t *data) {
    unsigned at = 12;
    while (get_be16(data + at) == RTE_ETHER_TYPE_VLAN || get_be16(data + at) == RTE_ETHER_TYPE_QINQ)
        at += 4;
    return at + 2;
}

/* The sum over pseudo header and rest is all ones: the frame's own checksum is right. */
static void check_sum(struct rte_mbuf *frame) {
    const uint8_t *ip = rte_pktmbuf_mtod(frame, const uint8_t *);
    unsigned l2 = find_ip(ip);
    ip += l2;
    bool v6 = get_be16(ip - 2) == RTE_ETHER_TYPE_IPV6;
    unsigned l3 = v6 ? 40 : (ip[0] & 15U) * 4;
    uint16_t raw;
    int result = rte_raw_cksum_mbuf(frame, l2 + l3, frame->pkt_len - l2 - l3, &raw);
    assert(result == 0);
    uint32_t sum = raw;
    sum += v6 ? rte_ipv6_phdr_cksum((const struct rte_ipv6_hdr *)ip, 0) : rte_ipv4_phdr_cksum((const struct rte_ipv4_hdr *)ip, 0);
    sum = (sum & 0xffff) + (sum >> 16);
    assert(((sum & 0xffff) + (sum >> 16)) == 0xffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct rte_mbuf *out[DPDK_SEGMENTS_MAX];
    if (size < 5 || size > FRAME_MAX)
        return 0;
    struct dpdk_taker taker = {.sums = data[0] & 1, .big_v4 = data[0] & 2, .big_v6 = data[0] & 4};
    bool train = (data[0] & 8) != 0;
    uint16_t segment = get_le16(data + 1);
    size_t piece = 128 + data[3] * 7U;
    data += 4;
    size -= 4;
    struct rte_mbuf *frame = make(data, size, piece);
    frame->ol_flags = train ? RTE_MBUF_F_RX_LRO : RTE_MBUF_F_RX_L4_CKSUM_NONE;
    frame->tso_segsz = segment;
    unsigned capacity = data[0] % 2 == 0 ? DPDK_SEGMENTS_MAX : 4;
    unsigned count = dpdk_offload(pool, frame, &taker, out, capacity);
    assert(count <= capacity);
    if (count == 0)
        rte_pktmbuf_free(frame);
    for (unsigned i = 0; i < count; i++) {
        bool left = (out[i]->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_L4_MASK)) != 0;
        assert(!left || taker.sums);
        rte_mbuf_sanity_check(out[i], 1);
        if (!left)
            check_sum(out[i]);
        rte_pktmbuf_free(out[i]);
    }
    assert(rte_mempool_avail_count(pool) == BUFFERS);
    return 0;
}
