/* Intrusive hash map: chained, grows by doubling at load factor 1. Nodes are embedded in the caller's objects and hold their
 * hash. The only allocation is the bucket array. One owner at a time. */
#pragma once

#include "base/bytes.h"

struct hash_node {
    struct hash_node *next;
    uint64_t hash;
};
struct hash_map {
    struct hash_node **buckets; /* a power of two of them, NULL until the first insertion */
    size_t bucket_count;
    size_t count; /* nodes in the map */
};

/* Finaliser of MurmurHash3's family: good low bits from any integer key. */
static inline uint64_t hash_u64(uint64_t key) {
    key ^= key >> 33;
    key *= UINT64_C(0xff51afd7ed558ccd);
    key ^= key >> 33;
    key *= UINT64_C(0xc4ceb9fe1a85ec53);
    return key ^ (key >> 33);
}
/* Hash of bytes under a seed; seed with random where a peer chooses the keys. */
uint64_t hash_bytes(const void *data, size_t length, uint64_t seed);
uint64_t hash_text(const char *text);

void hash_map_init(struct hash_map *map);
/* Frees the buckets; the nodes are the caller's. */
void hash_map_fini(struct hash_map *map);
/* The caller has checked that the key is absent. False if there is no memory (only the first insertion can fail). */
bool hash_map_insert(struct hash_map *map, struct hash_node *node, uint64_t hash);
/* The node must be in the map. */
void hash_map_remove(struct hash_map *map, struct hash_node *node);

/* First node with this hash, then the following ones: compare keys at each. NULL at the end. */
static inline struct hash_node *hash_map_first(const struct hash_map *map, uint64_t hash) {
    if (map->count == 0)
        return NULL;
    struct hash_node *n = map->buckets[hash & (map->bucket_count - 1)];
    while (n != NULL && n->hash != hash)
        n = n->next;
    return n;
}
static inline struct hash_node *hash_map_next(const struct hash_node *node) {
    struct hash_node *n = node->next;
    while (n != NULL && n->hash != node->hash)
        n = n->next;
    return n;
}
