/* The store on disk: docs/volume-format.md in C. Shared by the store and the checker. Pure. */
#pragma once

#include "base/crc32c.h"
#include "base/uuid.h"

#include "base/bytes.h"

#define VOLUME_MAGIC "PENSTOCK"
#define VOLUME_VERSION 1u
#define VOLUME_KNOWN_REFUSE UINT64_C(0)
#define VOLUME_KNOWN_READ_ONLY UINT64_C(0)

#define BLOCK_BYTES 4096u
#define BLOCK_SHIFT 12u
#define CLUSTER_BYTES 65536u
#define CLUSTER_SHIFT 16u
#define CLUSTER_BLOCKS 16u
#define PAGE_HEADER_BYTES 64u
#define PAGE_WORDS 504u
#define NODE_PAGES 8u
#define NODE_WORDS (NODE_PAGES * PAGE_WORDS)                   /* 4032: map words a node, references a directory node */
#define ALLOC_PAGE_CLUSTERS (PAGE_WORDS * 64u)                 /* 32,256 */
#define ALLOC_NODE_CLUSTERS (NODE_PAGES * ALLOC_PAGE_CLUSTERS) /* 258,048 */
#define CLUSTERS_MAX UINT64_C(0xffffff00)
#define LAYERS_MAX (16u * PAGE_WORDS * NODE_PAGES) /* 64,512 */

#define SUPERBLOCK_CLUSTER(generation) ((uint32_t)((generation)&1))
#define ALLOC_NODE_0 2u
#define INDEX_FIRST 3u

struct superblock {
    char magic[8];
    uint32_t crc, version;
    uint64_t features_refuse, features_read_only, features_ignore;
    struct uuid store_id;
    uint64_t generation;
    uint32_t cluster_bytes, block_bytes, sector_bytes, unit_bytes;
    uint32_t journal_cluster, journal_clusters;
    uint32_t index_cluster[2];
    uint32_t table_index_pages, alloc_index_pages;
    uint32_t total_clusters, reserve_clusters;
    uint64_t reserved;
    uint64_t journal_sequence;
    uint32_t journal_block, journal_crc;
    uint64_t opening_id, created_ns, flags;
    uint8_t rest[BLOCK_BYTES - 160];
};
static_assert(sizeof(struct superblock) == BLOCK_BYTES, "one block");
static_assert(offsetof(struct superblock, store_id) == 40 && offsetof(struct superblock, journal_sequence) == 120 &&
                  offsetof(struct superblock, flags) == 152,
              "as documented");
#define SUPERBLOCK_CLEAN UINT64_C(1)

#define PAGE_MAGIC 0x70765350u
struct page_header {
    uint32_t magic, crc, kind, owner, index, reserved;
    uint64_t sequence;
    struct uuid store_id;
    uint64_t place;      /* block number on the disk */
    uint64_t generation; /* index pages: of the superblock they belong to; else 0 */
};
static_assert(sizeof(struct page_header) == PAGE_HEADER_BYTES, "as documented");

#define RECORD_MAGIC 0x6a765350u
struct record_header {
    uint32_t magic, crc, blocks, change_count;
    uint64_t sequence, opening_id;
    struct uuid store_id;
    uint32_t previous_crc, reserved;
    uint64_t durable_sequence;
};
static_assert(sizeof(struct record_header) == 64, "as documented");
struct record_change {
    uint32_t space, word;
    uint64_t value;
};
static_assert(sizeof(struct record_change) == 16, "as documented");

enum page_kind { PAGE_TABLE_INDEX = 1, PAGE_ALLOC_INDEX, PAGE_TABLE, PAGE_ALLOC, PAGE_DIR, PAGE_MAP, PAGE_KINDS };
#define SPACE(kind, owner) ((uint32_t)(kind) << 28 | (owner))
#define SPACE_KIND(space) ((enum page_kind)((space) >> 28))
#define SPACE_OWNER(space) ((space)&0x0fffffffu)

/* ---- node references, and the words of the allocation index (bit i = page 0 there) ---- */
#define REFERENCE_ZERO (UINT64_C(1) << 32)
#define REFERENCE_JOURNALED ((UINT64_C(1) << 40) - 1)
#define ALLOC_INDEX_USED(word) ((uint32_t)((word)&0xffff))
static inline uint32_t reference_cluster(uint64_t reference) { return (uint32_t)reference; }
static inline unsigned reference_place(uint64_t reference, unsigned page) { return (reference >> (40 + page)) & 1; }
static inline bool reference_valid(uint64_t reference, unsigned page) { return (reference >> (48 + page)) & 1; }
/* After page `page` was written to its other place (or its first). */
static inline uint64_t reference_written(uint64_t reference, unsigned page, unsigned place) {
    reference &= ~(UINT64_C(1) << (40 + page));
    return reference | (uint64_t)place << (40 + page) | UINT64_C(1) << (48 + page);
}
/* Block number on the disk of a page of a node. */
static inline uint64_t node_place(uint32_t cluster, unsigned page, unsigned place) {
    return (uint64_t)cluster * CLUSTER_BLOCKS + 2 * page + place;
}
static inline uint32_t alloc_node_cluster(uint32_t node) { return node == 0 ? ALLOC_NODE_0 : node * ALLOC_NODE_CLUSTERS; }
/* True for kinds whose words have bits that are not journaled. */
static inline bool space_has_places(enum page_kind kind) {
    return kind == PAGE_TABLE_INDEX || kind == PAGE_ALLOC_INDEX || kind == PAGE_DIR;
}

/* ---- map words ---- */
#define MAP_ZERO_ALL (UINT64_C(0xffff) << 48)
static inline uint32_t map_cluster(uint64_t word) { return (uint32_t)word; }
static inline uint16_t map_present(uint64_t word) { return (uint16_t)(word >> 32); }
static inline uint16_t map_zero(uint64_t word) { return (uint16_t)(word >> 48); }
static inline uint64_t map_word(uint32_t cluster, uint16_t present, uint16_t zero) {
    return cluster | (uint64_t)present << 32 | (uint64_t)zero << 48;
}
/* Bits of `count` blocks from block `first` of a cluster. */
static inline uint16_t block_mask(unsigned first, unsigned count) { return (uint16_t)(((UINT32_C(1) << count) - 1) << first); }

/* ---- layer records ---- */
enum layer_word {
    LAYER_STATE,
    LAYER_PARENT,
    LAYER_SIZE,
    LAYER_LIMIT,
    LAYER_TAIL,
    LAYER_USED,
    LAYER_NODES,
    LAYER_CREATED,
    LAYER_IDENTITY,
    LAYER_TREE,
    LAYER_MARKS,
    LAYER_CHANGE,
    LAYER_ROOTS,
    LAYER_ROOT_COUNT = 72,
    LAYER_IDENTITY_WORDS = LAYER_ROOTS + LAYER_ROOT_COUNT
};
#define STORE_TOTAL 1 /* words of the store's page */
#define STORE_NEXT_LAYER 2
#define IDENTITY_BYTES ((PAGE_WORDS - LAYER_IDENTITY_WORDS) * 8) /* 3360 */
#define LAYER_BLOCKS_MAX ((uint64_t)LAYER_ROOT_COUNT * NODE_WORDS * NODE_WORDS * CLUSTER_BLOCKS)
enum layer_state { LAYER_FREE, LAYER_STORE, LAYER_LIVE, LAYER_DELETING, LAYER_MERGING };
#define LAYER_STATE_OF(word) ((enum layer_state)((word)&0xff))
#define LAYER_SNAPSHOT (UINT64_C(1) << 8)
#define LAYER_READ_ONLY (UINT64_C(1) << 9)
#define LAYER_THICK (UINT64_C(1) << 10)
#define LAYER_HOLDS_MARKS (UINT64_C(1) << 11) /* its words are the region marks of a leg */
#define LAYER_EXTERNAL (UINT64_C(1) << 12)    /* it has no map: it reads as the device that IDENTITY_SOURCE names */
#define MARKS_BLOCKS (LAYER_BLOCKS_MAX / 16)  /* SIZE of such a layer: a word for each region of the largest volume */
/* No change of a tree needs more journal words than this. */
#define TREE_CHANGE_WORDS (3 * PAGE_WORDS)

enum identity_type { IDENTITY_NAME = 1, IDENTITY_UUID, IDENTITY_ATTRIBUTE, IDENTITY_MIRROR, IDENTITY_SOURCE, IDENTITY_SNAPSHOT };
/* The bytes of an IDENTITY_SNAPSHOT item; the name follows, without a terminator. */
struct identity_snapshot {
    struct uuid mirror, leg; /* leg: the UUID of the volume that was snapshotted: two legs may share a store */
    uint64_t id;
};
static_assert(sizeof(struct identity_snapshot) == 40, "as documented");
struct identity_item {
    uint16_t type, length;
    const uint8_t *bytes;
};
/* Steps through an identity of `size` bytes; *at begins at 0. False at the end, or where it does not parse (*at != size then). */
static inline bool identity_next(const uint8_t *identity, uint32_t size, uint32_t *at, struct identity_item *ret_item) {
    if (size - *at < 4)
        return false;
    uint16_t type = get_le16(identity + *at), length = get_le16(identity + *at + 2);
    uint32_t whole = 4 + (uint32_t)round_up(length, 4);
    if (whole > size - *at || type == 0)
        return false;
    *ret_item = (struct identity_item){type, length, identity + *at + 4};
    *at += whole;
    return true;
}

/* ---- checksums ---- */
/* CRC of a structure whose own crc field is the four bytes at `field`, taken as zero. */
static inline uint32_t format_crc(const void *data, size_t length, size_t field) {
    static const uint8_t zero[4];
    uint32_t crc = crc32c(data, field);
    crc = crc32c_continue(crc, zero, 4);
    return crc32c_continue(crc, (const uint8_t *)data + field + 4, length - field - 4);
}
#define SUPERBLOCK_CRC_FIELD 8
#define PAGE_CRC_FIELD 4
#define RECORD_CRC_FIELD 4
