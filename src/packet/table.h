/* The classifier's table: address and VLAN to output, as one immutable value. docs/packet.md, "The classifier".
 * Pure; made on the control reactor, read by one worker. Must not know: ports, frames. */
#pragma once

#include "base/bytes.h"

#define TABLE_UNTAGGED 4096 /* the VLAN of frames without a tag */
#define TABLE_VLAN_COUNT 4097
#define TABLE_ENTRIES_MAX 65536
#define TABLE_NOWHERE UINT16_MAX
#define TABLE_DETACHED (UINT16_MAX - 1) /* the output of an entry whose port is not attached now */

struct table_entry {
    uint64_t address; /* as ethernet_address_read(); without meaning in a default */
    uint16_t vlan;    /* VID or TABLE_UNTAGGED */
    uint16_t output;  /* index, or TABLE_DETACHED */
    bool is_default;
};

struct table_slot {
    uint64_t key; /* address and VLAN, plus TABLE_USED; 0 = free */
    uint32_t output;
    uint32_t unused;
};

/* A VLAN that has entries. */
struct table_vlan {
    uint16_t default_output; /* TABLE_NOWHERE = none */
    uint16_t member_count;
    uint32_t member_first; /* in table.members: each output once, the default one included, none detached */
};

/* Where a key's slot is. */
struct table_hash {
    uint64_t multiplier;
    struct table_slot *slots;
    unsigned shift; /* 64 - log2(slots) */
};

struct table {
    struct table_hash hash;
    uint16_t general_default;              /* of the untagged; TABLE_NOWHERE = none */
    uint16_t vlan_index[TABLE_VLAN_COUNT]; /* in vlans, plus 1; 0 = no entries */
    struct table_vlan *vlans;
    uint16_t *members;
};

/* Bit 63 of a key in use: VLANs take 13 bits above the address. */
#define TABLE_USED (UINT64_C(1) << 63)
static inline uint64_t table_key(uint64_t address, unsigned vlan) { return address | (uint64_t)vlan << 48 | TABLE_USED; }
/* The first slot that may be the key's. */
static inline struct table_slot *table_slot_of(const struct table_hash *hash, uint64_t key) {
    return &hash->slots[(key ^ key >> 29) * hash->multiplier >> hash->shift];
}

/* Builds a table; no two entries have the same VLAN and address, nor are two defaults of one VLAN. NULL: no memory. */
struct table *table_create(const struct table_entry *entries, uint32_t count);
void table_destroy(struct table *table);

/* The output of a key that has an entry (TABLE_DETACHED too), else TABLE_NOWHERE. `slot`: the key's table_slot_of(). */
static inline uint32_t table_find_from(const struct table_slot *slot, uint64_t key) {
    for (;; slot++) {
        if (likely(slot->key == key))
            return slot->output;
        if (slot->key == 0)
            return TABLE_NOWHERE;
    }
}
static inline uint32_t table_find(const struct table *table, uint64_t key) {
    return table_find_from(table_slot_of(&table->hash, key), key);
}
/* What has no entry of its own, unicast: the VLAN's default, or the general one, or TABLE_NOWHERE; TABLE_DETACHED too. */
uint32_t table_find_default(const struct table *table, unsigned vlan);
/* Outputs of a group address: the VLAN's members, and the general default for frames with a tag. Each once. Returns how many, at
 * most `capacity`, which is the number of outputs. */
unsigned table_find_members(const struct table *table, unsigned vlan, uint16_t *outputs, unsigned capacity);
static inline bool table_has_vlan(const struct table *table, unsigned vlan) { return table->vlan_index[vlan] != 0; }
