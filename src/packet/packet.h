/* A frame on its way, and what may be done to its head: the VLAN tag. docs/packet.md, "Frames".
 * Laid over the first cache line of DPDK's rte_mbuf (packet/dpdk/memory.c asserts it), so that a driver's arrays are ours.
 * Pure; whoever holds the frame. Must not know: drivers, where a frame goes. */
#pragma once

#include "base/bytes.h"

struct packet {
    uint8_t *buffer;
    uint64_t driver_0;
    uint16_t data_offset; /* of the first byte, in the buffer */
    uint16_t driver_1;    /* references: always one here */
    uint16_t segments;    /* the first one is here; others hang on it, of no concern to us */
    uint16_t driver_2;
    uint64_t driver_3;
    uint32_t driver_4;
    uint32_t length;       /* of the frame, bytes */
    uint16_t first_length; /* of the first segment */
    uint16_t driver_5[6];
    uint16_t buffer_size;
    void *pool;
};
static_assert(sizeof(struct packet) == 64, "one cache line");

#define PACKET_BURST 32 /* frames taken at a time */

/* All locals are zeroed before use (meson.build), which costs more than the work itself for an array on the data path that is
 * written before it is read. Only for those. */
#define not_zeroed __attribute__((uninitialized))

enum { ETHERNET_HEADER_SIZE = 14, ETHERNET_ADDRESSES_SIZE = 12, VLAN_TAG_SIZE = 4, VLAN_TYPE = 0x8100 };

/* Where frames come from and go when they are not received or sent. Any worker, with its own object. */
struct packet_memory {
    /* A whole copy, NULL if there is no memory. */
    struct packet *(*copy)(struct packet_memory *memory, const struct packet *packet);
    void (*free)(struct packet_memory *memory, struct packet *const *packets, unsigned count);
};

static inline uint8_t *packet_data(const struct packet *packet) { return packet->buffer + packet->data_offset; }

/* An address as its six bytes lie, in the low 48 bits. Reads eight bytes. */
static inline uint64_t ethernet_address_read(const uint8_t *bytes) { return get_le64(bytes) & UINT64_C(0xffffffffffff); }
/* A group: multicast or broadcast. */
static inline bool ethernet_address_is_group(uint64_t address) { return (address & 1) != 0; }

/* True if the outermost header is an 802.1Q tag, all of it in the first segment. */
static inline bool packet_is_tagged(const struct packet *packet) {
    return get_be16(packet_data(packet) + ETHERNET_ADDRESSES_SIZE) == VLAN_TYPE &&
           packet->first_length >= ETHERNET_HEADER_SIZE + VLAN_TAG_SIZE;
}
/* Of a tagged frame: priority, drop eligibility and VID. */
static inline uint16_t packet_tag(const struct packet *packet) { return get_be16(packet_data(packet) + ETHERNET_HEADER_SIZE); }

static inline void packet_move_addresses(uint8_t *to, const uint8_t *from) {
    uint64_t low = get_le64(from);
    uint32_t high = get_le32(from + 8);
    put_le64(to, low);
    put_le32(to + 8, high);
}

/* Puts a tag before what is there. False: no room before the frame; nothing has changed. */
static inline bool packet_push_tag(struct packet *packet, uint16_t tag) {
    if (unlikely(packet->data_offset < VLAN_TAG_SIZE || packet->first_length > UINT16_MAX - VLAN_TAG_SIZE))
        return false;
    uint8_t *old = packet_data(packet);
    packet->data_offset = (uint16_t)(packet->data_offset - VLAN_TAG_SIZE);
    packet->first_length = (uint16_t)(packet->first_length + VLAN_TAG_SIZE);
    packet->length += VLAN_TAG_SIZE;
    packet_move_addresses(old - VLAN_TAG_SIZE, old);
    put_be16(old + ETHERNET_ADDRESSES_SIZE - VLAN_TAG_SIZE, VLAN_TYPE);
    put_be16(old + ETHERNET_HEADER_SIZE - VLAN_TAG_SIZE, tag);
    return true;
}

/* Takes the outermost tag away from a tagged frame. */
static inline void packet_pop_tag(struct packet *packet) {
    uint8_t *old = packet_data(packet);
    packet_move_addresses(old + VLAN_TAG_SIZE, old);
    packet->data_offset = (uint16_t)(packet->data_offset + VLAN_TAG_SIZE);
    packet->first_length = (uint16_t)(packet->first_length - VLAN_TAG_SIZE);
    packet->length -= VLAN_TAG_SIZE;
}

/* ---- what is done to tags where a frame comes in or goes out ---- */

enum vlan_action { VLAN_ACTION_NONE, VLAN_ACTION_ADD, VLAN_ACTION_DEL };

struct vlan_operation {
    enum vlan_action action;
    uint16_t tag; /* of ADD: priority in the upper three bits, VID in the lower twelve */
};

#define VLAN_VID_MAX 4095
#define VLAN_PRIORITY_MAX 7

static inline uint16_t vlan_tag_make(unsigned vid, unsigned priority) { return (uint16_t)(priority << 13 | vid); }
static inline uint16_t vlan_tag_vid(uint16_t tag) { return tag & VLAN_VID_MAX; }

/* Carries the operation out on one frame of at least ETHERNET_HEADER_SIZE bytes. False: no room. */
static inline bool packet_apply_vlan(struct packet *packet, const struct vlan_operation *operation) {
    if (operation->action == VLAN_ACTION_NONE)
        return true;
    bool tagged = packet_is_tagged(packet);
    if (operation->action == VLAN_ACTION_DEL) {
        if (tagged)
            packet_pop_tag(packet);
        return true;
    }
    if (tagged && vlan_tag_vid(packet_tag(packet)) == 0) {
        put_be16(packet_data(packet) + ETHERNET_HEADER_SIZE, operation->tag);
        return true;
    }
    return packet_push_tag(packet, operation->tag);
}
