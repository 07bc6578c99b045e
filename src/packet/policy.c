#include "packet/policy.h"

#define BURST_NS 10000000

static int64_t fill(int64_t left, uint64_t per_s, uint64_t elapsed_ns) {
    int64_t full = (int64_t)(per_s * BURST_NS); /* at most 4·10¹⁸ */
    if (elapsed_ns > (uint64_t)(full - left) / per_s)
        return full;
    return left + (int64_t)(per_s * elapsed_ns);
}

void policy_refill(const struct policy_rate *rate, struct policy_budget *budget, uint64_t now_ns) {
    uint64_t elapsed_ns = now_ns - budget->now_ns;
    if (elapsed_ns == 0)
        return;
    budget->now_ns = now_ns;
    budget->bits = rate->bits_per_s == 0 ? 0 : fill(budget->bits, rate->bits_per_s, elapsed_ns);
    budget->packets = rate->packets_per_s == 0 ? 0 : fill(budget->packets, rate->packets_per_s, elapsed_ns);
}

bool policy_allows_mac(const struct policy *policy, const struct packet *packet) {
    uint64_t address = ethernet_address_read(packet_data(packet) + 6);
    if (policy->mac_count == 0)
        return true;
    for (unsigned i = 0; i < policy->mac_count; i++)
        if (policy->macs[i] == address)
            return true;
    return false;
}

bool policy_allows_tag(const struct policy *policy, const struct packet *packet) {
    if (!policy->vlan_check)
        return true;
    uint16_t type = get_be16(packet_data(packet) + ETHERNET_ADDRESSES_SIZE);
    if (type == 0x88a8 || type == 0x9100 || type == 0x9200)
        return false;
    if (type != VLAN_TYPE)
        return true;
    if (!packet_is_tagged(packet))
        return false; /* cut short */
    unsigned vid = vlan_tag_vid(packet_tag(packet));
    return vid == 0 || (policy->vlans[vid / 64] >> vid % 64 & 1) != 0;
}
