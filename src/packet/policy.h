/* What may come in by a port, and how much through it. docs/packet.md, "Policies". Rules are a value, shared by versions of the
 * model; what is left of a rate is the port's. Pure: the time is passed in. */
#pragma once

#include "base/bytes.h"
#include "packet/packet.h"

#define POLICY_MACS_MAX 64

/* 0 = no limit. */
struct policy_rate {
    uint64_t bits_per_s;
    uint64_t packets_per_s;
};
#define POLICY_BITS_MAX UINT64_C(400000000000)
#define POLICY_PACKETS_MAX UINT64_C(400000000000)

struct policy {
    unsigned refs;                  /* control reactor */
    uint64_t macs[POLICY_MACS_MAX]; /* source addresses that may come in */
    unsigned mac_count;             /* 0 = any */
    bool vlan_check;                /* only untagged frames, and those with a VID of vlans */
    uint64_t vlans[4096 / 64];      /* bit by bit */
    struct policy_rate rx, tx;
};

/* What one direction may still take: a bucket that holds 10 ms of the rate, and may be overdrawn by one frame. One writer. */
struct policy_budget {
    int64_t bits, packets; /* times 10⁹ */
    uint64_t now_ns;       /* when that was so */
};

/* Brings the budget up to the time. Before frames are taken from it. */
void policy_refill(const struct policy_rate *rate, struct policy_budget *budget, uint64_t now_ns);
/* True if one more frame may go: it is taken from the budget. */
static inline bool policy_take(const struct policy_rate *rate, struct policy_budget *budget, uint32_t bytes) {
    if ((rate->bits_per_s != 0 && budget->bits <= 0) || (rate->packets_per_s != 0 && budget->packets <= 0))
        return false;
    budget->bits -= (int64_t)bytes * 8 * INT64_C(1000000000);
    budget->packets -= INT64_C(1000000000);
    return true;
}

/* Whether the frame's source address may be; of at least ETHERNET_HEADER_SIZE bytes. */
bool policy_allows_mac(const struct policy *policy, const struct packet *packet);
/* Whether its outermost tag may be. A tag of another kind than 802.1Q's is one that may not. */
bool policy_allows_tag(const struct policy *policy, const struct packet *packet);
