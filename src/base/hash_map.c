#include "base/hash_map.h"

#include <stdlib.h>

uint64_t hash_bytes(const void *data, size_t length, uint64_t seed) {
    const uint8_t *p = data;
    uint64_t hash = hash_u64(seed ^ length);
    for (; length >= 8; p += 8, length -= 8)
        hash = hash_u64(hash ^ get_le64(p));
    uint64_t tail = 0;
    for (size_t i = 0; i < length; i++)
        tail |= (uint64_t)p[i] << (8 * i);
    return hash_u64(hash ^ tail);
}

uint64_t hash_text(const char *text) { return hash_bytes(text, strlen(text), 0); }

void hash_map_init(struct hash_map *map) { *map = (struct hash_map){0}; }

void hash_map_fini(struct hash_map *map) {
    free(map->buckets);
    hash_map_init(map);
}

static bool grow(struct hash_map *map) {
    size_t count = map->bucket_count == 0 ? 16 : map->bucket_count * 2;
    struct hash_node **buckets = calloc(count, sizeof(*buckets));
    if (buckets == NULL)
        return map->buckets != NULL; /* a fuller map is slower, not wrong */
    for (size_t i = 0; i < map->bucket_count; i++)
        for (struct hash_node *n = map->buckets[i], *next; n != NULL; n = next) {
            next = n->next;
            n->next = buckets[n->hash & (count - 1)];
            buckets[n->hash & (count - 1)] = n;
        }
    free(map->buckets);
    map->buckets = buckets;
    map->bucket_count = count;
    return true;
}

bool hash_map_insert(struct hash_map *map, struct hash_node *node, uint64_t hash) {
    if (map->count >= map->bucket_count && !grow(map))
        return false;
    struct hash_node **bucket = &map->buckets[hash & (map->bucket_count - 1)];
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    map->count++;
    return true;
}

void hash_map_remove(struct hash_map *map, struct hash_node *node) {
    struct hash_node **at = &map->buckets[node->hash & (map->bucket_count - 1)];
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    node->next = NULL;
    map->count--;
}
