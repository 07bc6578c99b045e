/* Fuzzes the checks of what a mirror sends to its legs and is told by them. First byte: 0 a record, 1 a STORE, 254 a change of
 * the tree, 255 attributes, else ranges; the rest is the document. */
#include <stdlib.h>

#include "block/replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record_holds(const struct replica_record *record) {
    assert(record->leg_count <= REPLICA_LEGS_MAX && record->history_count <= REPLICA_HISTORY_MAX);
    assert(replica_record_knows(record, &record->epoch));
    for (unsigned i = 0; i < record->leg_count; i++) {
        assert(replica_record_leg(record, &record->legs[i].id) == i); /* no two of one id */
        assert(strnlen(record->legs[i].name, sizeof(record->legs[i].name)) < sizeof(record->legs[i].name));
    }
    for (unsigned i = 0; i < record->history_count; i++) {
        assert(replica_record_knows(record, &record->history[i]));
        assert(record->history[i].depth < record->epoch.depth && record->history[i].depth <= REPLICA_DEPTH_MAX);
    }
}

static void ranges_hold(const struct replica_ranges *ranges, size_t size) {
    if (replica_ranges_check(ranges, size) != NULL)
        return;
    assert(ranges->count <= REPLICA_RANGES_MAX && replica_ranges_bytes(ranges->count) == size);
    volatile uint64_t sum = 0; /* every one is there, the sanitizers look */
    for (uint32_t i = 0; i < ranges->count; i++)
        sum += ranges->ranges[i].first + ranges->ranges[i].count;
    (void)sum;
}

/* Texts by twos, each with its end inside. */
static void pairs_hold(const char *pairs, uint32_t size) {
    unsigned texts = 0;
    for (uint32_t at = 0; at < size; texts++)
        at += (uint32_t)strnlen(pairs + at, size - at) + 1;
    assert(texts % 2 == 0 && texts <= 2 * REPLICA_PAIRS_MAX);
    assert(size == 0 || pairs[size - 1] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > MIB(1))
        return 0;
    uint8_t *bytes = malloc(size); /* exact, and aligned for anything */
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    const struct replica_record *record = (void *)bytes;
    if (data[0] < 2 && size - 1 >= sizeof(*record) && replica_record_check(record) == NULL)
        record_holds(record);
    if (data[0] == 1 && size - 1 >= sizeof(struct replica_store))
        ranges_hold(&((const struct replica_store *)(void *)bytes)->marks, size - 1 - offsetof(struct replica_store, marks));
    const struct replica_tree *tree = (void *)bytes;
    const struct replica_pairs *pairs = (void *)bytes;
    if (data[0] == 254 && replica_tree_check(tree, size - 1) == NULL)
        pairs_hold(tree->pairs, tree->pair_bytes);
    else if (data[0] == 255 && replica_pairs_check(pairs, size - 1) == NULL)
        pairs_hold(pairs->pairs, pairs->pair_bytes);
    else if (data[0] > 1 && data[0] < 254)
        ranges_hold((void *)bytes, size - 1);
    free(bytes);
    return 0;
}
