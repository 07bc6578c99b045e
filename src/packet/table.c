#include "packet/table.h"

#include <stdlib.h>

/* Slots behind the last place, so that a probe needs no wrapping; a free one ends it. */
#define PROBE_LIMIT 8
#define MULTIPLIERS_TRIED 16

static bool place_all(const struct table_hash *hash, const struct table_entry *entries, uint32_t count) {
    size_t slots = (size_t)1 << (64 - hash->shift);
    memset(hash->slots, 0, (slots + PROBE_LIMIT + 1) * sizeof(*hash->slots));
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].is_default)
            continue;
        uint64_t key = table_key(entries[i].address, entries[i].vlan);
        struct table_slot *slot = table_slot_of(hash, key);
        for (unsigned n = 0; slot->key != 0; slot++) {
            assert(slot->key != key);
            if (++n == PROBE_LIMIT)
                return false;
        }
        *slot = (struct table_slot){.key = key, .output = entries[i].output};
    }
    return true;
}

/* Multipliers by multiplication with an odd constant: fixed, so that the same entries give the same table. */
static bool fill_slots(struct table_hash *hash, const struct table_entry *entries, uint32_t count) {
    unsigned bits = 4;
    while ((UINT64_C(1) << bits) < (uint64_t)count * 4)
        bits++;
    for (;; bits++) {
        free(hash->slots);
        hash->slots = calloc(((size_t)1 << bits) + PROBE_LIMIT + 1, sizeof(*hash->slots));
        if (hash->slots == NULL)
            return false;
        hash->shift = 64 - bits;
        hash->multiplier = UINT64_C(0x9e3779b97f4a7c15);
        for (unsigned i = 0; i < MULTIPLIERS_TRIED; i++) {
            if (place_all(hash, entries, count))
                return true;
            hash->multiplier *= UINT64_C(0xd1342543de82ef95);
        }
    }
}

static int compare_vlans(const void *a, const void *b) {
    const struct table_entry *x = a, *y = b;
    if (x->vlan != y->vlan)
        return x->vlan < y->vlan ? -1 : 1;
    return x->output < y->output ? -1 : x->output > y->output;
}

/* The sorted entries, VLAN by VLAN. */
static void fill_vlans(struct table *table, const struct table_entry *entries, uint32_t count) {
    uint32_t vlans = 0, members = 0;
    for (uint32_t i = 0; i < count;) {
        uint16_t number = entries[i].vlan, last = TABLE_NOWHERE;
        struct table_vlan *vlan = &table->vlans[vlans++];
        *vlan = (struct table_vlan){.default_output = TABLE_NOWHERE, .member_first = members};
        table->vlan_index[number] = (uint16_t)vlans;
        for (; i < count && entries[i].vlan == number; i++) {
            if (entries[i].output != last && entries[i].output != TABLE_DETACHED)
                table->members[members++] = last = entries[i].output;
            if (entries[i].is_default) {
                assert(vlan->default_output == TABLE_NOWHERE);
                vlan->default_output = entries[i].output;
            }
        }
        vlan->member_count = (uint16_t)(members - vlan->member_first);
        if (number == TABLE_UNTAGGED)
            table->general_default = vlan->default_output;
    }
}

struct table *table_create(const struct table_entry *entries, uint32_t count) {
    assert(count <= TABLE_ENTRIES_MAX);
    struct table *table = calloc(1, sizeof(*table));
    struct table_entry *sorted = calloc(max_u32(count, 1), sizeof(*sorted));
    bool ok = table != NULL && sorted != NULL;
    if (ok) {
        table->general_default = TABLE_NOWHERE;
        table->vlans = calloc(min_u32(count, TABLE_VLAN_COUNT) + 1, sizeof(*table->vlans));
        table->members = calloc(max_u32(count, 1), sizeof(*table->members));
        ok = table->vlans != NULL && table->members != NULL && fill_slots(&table->hash, entries, count);
    }
    if (ok) {
        if (count > 0)
            memcpy(sorted, entries, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), compare_vlans);
        fill_vlans(table, sorted, count);
    } else {
        table_destroy(table);
        table = NULL;
    }
    free(sorted);
    return table;
}

void table_destroy(struct table *table) {
    if (table == NULL)
        return;
    free(table->hash.slots);
    free(table->vlans);
    free(table->members);
    free(table);
}

uint32_t table_find_default(const struct table *table, unsigned vlan) {
    uint16_t index = table->vlan_index[vlan];
    if (index != 0 && table->vlans[index - 1].default_output != TABLE_NOWHERE)
        return table->vlans[index - 1].default_output;
    return table->general_default;
}

unsigned table_find_members(const struct table *table, unsigned vlan, uint16_t *outputs, unsigned capacity) {
    uint16_t index = table->vlan_index[vlan];
    unsigned count = 0;
    bool general = vlan != TABLE_UNTAGGED && table->general_default < TABLE_DETACHED;
    if (index != 0) {
        const struct table_vlan *entry = &table->vlans[index - 1];
        for (; count < entry->member_count; count++) {
            assert(count < capacity);
            outputs[count] = table->members[entry->member_first + count];
            general = general && outputs[count] != table->general_default;
        }
    }
    if (general) {
        assert(count < capacity);
        outputs[count++] = table->general_default;
    }
    return count;
}
