/* The checker: who owns which cluster, and whether every record and count says so. */
#include "blockdev/volume/check_disk.h"

#include "base/bitmap.h"
#include "block/replica.h"

#include <stdio.h>
#include <stdlib.h>

struct layer_counts {
    uint32_t id;
    bool marks; /* words are region marks */
    uint64_t used, nodes;
};

static void claim(struct checker *checker, uint64_t cluster, const char *what, uint32_t owner) {
    if (cluster >= checker->total) {
        check_problem(checker, "%s of layer %u lies at cluster %llu, beyond the end", what, owner, (unsigned long long)cluster);
        return;
    }
    if (bitmap_test(checker->seen, cluster))
        check_problem(checker, "%s of layer %u lies at cluster %llu, which has an owner already", what, owner,
                      (unsigned long long)cluster);
    bitmap_set(checker->seen, cluster);
}

/* ---- maps ---- */

static void check_map_page(struct checker *checker, uint32_t index, uint64_t reference, uint64_t end,
                           struct layer_counts *counts) {
    struct check_page page;
    if (!check_page_load(checker, SPACE(PAGE_MAP, counts->id), index, reference, &page))
        return;
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        uint64_t word = page.words[i], cluster = (uint64_t)index * PAGE_WORDS + i;
        if (word == 0)
            continue;
        if (counts->marks) {
            if ((uint32_t)word != 0)
                check_problem(checker, "layer %u region %llu: its mark is none", counts->id, (unsigned long long)cluster);
            continue;
        }
        if ((map_present(word) & map_zero(word)) != 0)
            check_problem(checker, "layer %u cluster %llu: blocks are present and zero at once", counts->id,
                          (unsigned long long)cluster);
        if (map_cluster(word) == 0) {
            if (map_present(word) != 0)
                check_problem(checker, "layer %u cluster %llu: blocks are present nowhere", counts->id,
                              (unsigned long long)cluster);
            continue;
        }
        uint64_t first = cluster * CLUSTER_BLOCKS;
        uint16_t inside = first >= end ? 0 : block_mask(0, (unsigned)min_u64(CLUSTER_BLOCKS, end - first));
        if ((map_present(word) & ~inside) != 0 || inside == 0)
            check_problem(checker, "layer %u cluster %llu: data beyond the end", counts->id, (unsigned long long)cluster);
        claim(checker, map_cluster(word), "data", counts->id);
        counts->used++;
    }
}

static void check_map(struct checker *checker, const struct check_page *record, struct layer_counts *counts) {
    uint64_t end = max_u64(record->words[LAYER_SIZE], record->words[LAYER_TAIL]);
    for (unsigned root = 0; root < LAYER_ROOT_COUNT; root++) {
        uint64_t reference = record->words[LAYER_ROOTS + root];
        if (reference_cluster(reference) == 0)
            continue;
        claim(checker, reference_cluster(reference), "a directory node", counts->id);
        counts->nodes++;
        for (uint32_t d = 0; d < NODE_PAGES; d++) {
            struct check_page dir;
            uint32_t index = root * NODE_PAGES + d;
            if (!check_page_load(checker, SPACE(PAGE_DIR, counts->id), index, reference, &dir))
                continue;
            for (unsigned i = 0; i < PAGE_WORDS; i++) {
                uint32_t node = index * PAGE_WORDS + i;
                if (reference_cluster(dir.words[i]) == 0)
                    continue;
                claim(checker, reference_cluster(dir.words[i]), "a map node", counts->id);
                counts->nodes++;
                for (uint32_t m = 0; m < NODE_PAGES; m++)
                    check_map_page(checker, node * NODE_PAGES + m, dir.words[i], end, counts);
            }
        }
    }
}

/* ---- layers ---- */

static unsigned children(struct checker *checker, uint32_t of, uint32_t limit) {
    unsigned count = 0;
    for (uint32_t id = 1; id < limit; id++) {
        const struct check_page *record = check_kept(checker, PAGE_TABLE, id);
        if (record == NULL || record->words[LAYER_PARENT] != of)
            continue;
        enum layer_state state = LAYER_STATE_OF(record->words[LAYER_STATE]);
        count += state == LAYER_LIVE || state == LAYER_MERGING;
    }
    return count;
}

static void check_parents(struct checker *checker, uint32_t id, const struct check_page *record, uint32_t limit) {
    uint64_t up = record->words[LAYER_PARENT];
    bool deleting = LAYER_STATE_OF(record->words[LAYER_STATE]) == LAYER_DELETING;
    for (uint32_t steps = 0; up != 0 && !deleting; steps++) {
        const struct check_page *parent = up < limit ? check_kept(checker, PAGE_TABLE, (uint32_t)up) : NULL;
        enum layer_state state = parent == NULL ? LAYER_FREE : LAYER_STATE_OF(parent->words[LAYER_STATE]);
        if (state != LAYER_LIVE && state != LAYER_MERGING) {
            check_problem(checker, "layer %u descends from layer %llu, which is not there", id, (unsigned long long)up);
            return;
        }
        if (steps > limit) {
            check_problem(checker, "layer %u is its own ancestor", id);
            return;
        }
        up = parent->words[LAYER_PARENT];
    }
    if (LAYER_STATE_OF(record->words[LAYER_STATE]) == LAYER_MERGING && children(checker, id, limit) > 1)
        check_problem(checker, "layer %u is being merged and has several children", id);
}

/* False: it does not parse. */
static bool identity_of(const struct check_page *record, struct uuid *ret_uuid, char name[128]) {
    uint64_t size = record->words[LAYER_IDENTITY];
    uint32_t at = 0;
    const uint8_t *identity = (const uint8_t *)&record->words[LAYER_IDENTITY_WORDS];
    name[0] = '\0';
    *ret_uuid = (struct uuid){0};
    if (size > IDENTITY_BYTES)
        return false;
    for (struct identity_item item; identity_next(identity, (uint32_t)size, &at, &item);) {
        if (item.type == IDENTITY_NAME)
            snprintf(name, 128, "%.*s", (int)item.length, (const char *)item.bytes);
        else if (item.type == IDENTITY_UUID && item.length == sizeof(*ret_uuid))
            memcpy(ret_uuid, item.bytes, sizeof(*ret_uuid));
    }
    return at == size;
}

struct known {
    struct hash_node node;
    struct uuid uuid;
    char name[128];
};

static void check_identity(struct checker *checker, uint32_t id, const struct check_page *record, struct hash_map *known) {
    struct uuid uuid;
    char name[128];
    if (!identity_of(record, &uuid, name)) {
        check_problem(checker, "layer %u: its identity does not parse", id);
        return;
    }
    if (record->words[LAYER_IDENTITY] == 0)
        return;
    if ((record->words[LAYER_STATE] & LAYER_EXTERNAL) != 0) { /* its identity says which device it is */
        if (!uuid_is_nil(&uuid) || name[0] != '\0' || record->words[LAYER_PARENT] != 0)
            check_problem(checker, "layer %u is another device's content, and has a name or a parent", id);
        return;
    }
    checker->check->volumes++;
    if (uuid_is_nil(&uuid) || name[0] == '\0')
        check_problem(checker, "layer %u has a name or a UUID only", id);
    uint64_t hashes[2] = {get_le64(uuid.bytes), hash_text(name)};
    for (unsigned i = 0; i < 2; i++) {
        for (struct hash_node *n = hash_map_first(known, hashes[i]); n != NULL; n = hash_map_next(n)) {
            const struct known *other = container_of(n, struct known, node);
            if (uuid_equal(&other->uuid, &uuid) || strcmp(other->name, name) == 0)
                check_problem(checker, "layer %u has the name or the UUID of another one (%s)", id, name);
        }
        struct known *own = calloc(1, sizeof(*own));
        if (own == NULL || !hash_map_insert(known, &own->node, hashes[i])) {
            free(own);
            checker->no_memory = true;
            return;
        }
        own->uuid = uuid;
        memcpy(own->name, name, sizeof(name));
    }
}

/* A leg's record and its marks belong together, one to one. */
static void check_replica(struct checker *checker, uint32_t id, const struct check_page *record, uint32_t limit) {
    uint64_t size = min_u64(record->words[LAYER_IDENTITY], IDENTITY_BYTES), marks = record->words[LAYER_MARKS];
    const uint8_t *identity = (const uint8_t *)&record->words[LAYER_IDENTITY_WORDS];
    struct replica_record mirror;
    bool found = false;
    uint32_t at = 0;
    for (struct identity_item item; identity_next(identity, (uint32_t)size, &at, &item);) {
        if (item.type == IDENTITY_SNAPSHOT && item.length < sizeof(struct identity_snapshot))
            check_problem(checker, "layer %u: what its mirror calls it is too short", id);
        if (item.type != IDENTITY_MIRROR)
            continue;
        const char *wrong = found || item.length != sizeof(mirror) ? "there are two, or it has another length" : NULL;
        if (wrong == NULL) {
            memcpy(&mirror, item.bytes, sizeof(mirror));
            wrong = replica_record_check(&mirror);
        }
        if (wrong != NULL)
            check_problem(checker, "layer %u: its mirror's record: %s", id, wrong);
        found = true;
    }
    const struct check_page *of = marks != 0 && marks < limit ? check_kept(checker, PAGE_TABLE, (uint32_t)marks) : NULL;
    if (found != (marks != 0) || (found && (of == NULL || (of->words[LAYER_STATE] & LAYER_HOLDS_MARKS) == 0 ||
                                            LAYER_STATE_OF(of->words[LAYER_STATE]) != LAYER_LIVE)))
        check_problem(checker, "layer %u has a mirror's record or its marks only", id);
    if ((record->words[LAYER_STATE] & LAYER_HOLDS_MARKS) == 0 || LAYER_STATE_OF(record->words[LAYER_STATE]) != LAYER_LIVE)
        return;
    unsigned owners = 0;
    for (uint32_t other = 1; other < limit; other++) {
        const struct check_page *head = check_kept(checker, PAGE_TABLE, other);
        owners += head != NULL && LAYER_STATE_OF(head->words[LAYER_STATE]) == LAYER_LIVE && head->words[LAYER_MARKS] == id;
    }
    if (owners != 1)
        check_problem(checker, "layer %u holds the marks of %u volumes", id, owners);
}

static void check_layers(struct checker *checker) {
    uint32_t limit = checker->layers_end;
    struct hash_map known;
    hash_map_init(&known);
    for (uint32_t id = 1; id < limit; id++) {
        const struct check_page *record = check_kept(checker, PAGE_TABLE, id);
        if (record == NULL || LAYER_STATE_OF(record->words[LAYER_STATE]) == LAYER_FREE)
            continue;
        const uint64_t *words = record->words;
        checker->check->layers++;
        if (LAYER_STATE_OF(words[LAYER_STATE]) < LAYER_LIVE || LAYER_STATE_OF(words[LAYER_STATE]) > LAYER_MERGING)
            check_problem(checker, "layer %u has state %u", id, LAYER_STATE_OF(words[LAYER_STATE]));
        if (words[LAYER_LIMIT] > words[LAYER_SIZE] || words[LAYER_SIZE] > words[LAYER_TAIL] ||
            words[LAYER_TAIL] > LAYER_BLOCKS_MAX)
            check_problem(checker, "layer %u: limit %llu, size %llu, tail %llu", id, (unsigned long long)words[LAYER_LIMIT],
                          (unsigned long long)words[LAYER_SIZE], (unsigned long long)words[LAYER_TAIL]);
        check_parents(checker, id, record, limit);
        check_identity(checker, id, record, &known);
        check_replica(checker, id, record, limit);
        struct layer_counts counts = {.id = id, .marks = (words[LAYER_STATE] & LAYER_HOLDS_MARKS) != 0};
        check_map(checker, record, &counts);
        if (counts.used != words[LAYER_USED] || counts.nodes != words[LAYER_NODES])
            check_problem(checker, "layer %u has %llu data and %llu node clusters, its record says %llu and %llu", id,
                          (unsigned long long)counts.used, (unsigned long long)counts.nodes,
                          (unsigned long long)words[LAYER_USED], (unsigned long long)words[LAYER_NODES]);
        checker->check->data_clusters += counts.used;
        checker->check->node_clusters += counts.nodes;
    }
    for (size_t i = 0; i < known.bucket_count; i++)
        for (struct hash_node *n = known.buckets[i], *next; n != NULL; n = next) {
            next = n->next;
            free(container_of(n, struct known, node));
        }
    hash_map_fini(&known);
}

/* ---- space ---- */

static void claim_fixed(struct checker *checker) {
    const struct superblock *super = &checker->super;
    for (uint64_t cluster = 0; cluster < (uint64_t)super->journal_cluster + super->journal_clusters; cluster++)
        claim(checker, cluster, "a fixed structure", 0);
    for (uint64_t node = 1; node * ALLOC_NODE_CLUSTERS < checker->total; node++)
        claim(checker, node * ALLOC_NODE_CLUSTERS, "an allocation node", 0);
    for (uint32_t word = 0; word < super->table_index_pages * PAGE_WORDS; word++) {
        uint64_t reference = check_word(checker, PAGE_TABLE_INDEX, word);
        if (reference_cluster(reference) != 0)
            claim(checker, reference_cluster(reference), "a table node", 0);
    }
}

static_assert(ALLOC_PAGE_CLUSTERS % 64 == 0, "a page's bits and ours are compared by words");
static void check_space(struct checker *checker) {
    for (uint32_t index = 0; (uint64_t)index * ALLOC_PAGE_CLUSTERS < checker->total; index++) {
        struct check_page page;
        uint64_t counted = 0, reference = check_word(checker, PAGE_ALLOC_INDEX, index);
        if (!check_page_load(checker, SPACE(PAGE_ALLOC, 0), index, reference, &page))
            continue;
        for (uint32_t i = 0; i < ALLOC_PAGE_CLUSTERS; i += 64) {
            uint64_t cluster = (uint64_t)index * ALLOC_PAGE_CLUSTERS + i;
            uint64_t used = page.words[i / 64], owned = cluster < checker->total ? checker->seen[cluster / 64] : 0;
            counted += (uint64_t)__builtin_popcountll(used);
            for (uint64_t differ = used ^ owned; differ != 0; differ &= differ - 1) {
                unsigned bit = (unsigned)__builtin_ctzll(differ);
                check_problem(checker,
                              (used >> bit & 1) != 0 ? "cluster %llu is in use and nobody's" : "cluster %llu is owned and free",
                              (unsigned long long)cluster + bit);
            }
        }
        if (counted != ALLOC_INDEX_USED(reference))
            check_problem(checker, "allocation page %u has %llu clusters in use, the index says %u", index,
                          (unsigned long long)counted, ALLOC_INDEX_USED(reference));
        checker->used_seen += counted;
    }
    checker->check->free_clusters = checker->total - min_u64(checker->total, checker->used_seen);
}

bool volume_check_run(struct volume_check *check, struct error *error) {
    struct checker checker = {.check = check};
    text_init(&check->report, MIB(1));
    check->problems = 0;
    check->records = check->layers = check->volumes = check->data_clusters = check->node_clusters = check->free_clusters = 0;
    bool ok = check_disk_open(&checker, error);
    const struct check_page *own = ok ? check_kept(&checker, PAGE_TABLE, 0) : NULL;
    if (ok && (own == NULL || LAYER_STATE_OF(own->words[LAYER_STATE]) != LAYER_STORE))
        ok = error_set(error, ERROR_DAMAGED, "the store's own record is damaged");
    if (ok) {
        check->generation = checker.super.generation;
        check->clean_close = (checker.super.flags & SUPERBLOCK_CLEAN) != 0 && check->records == 0;
        checker.total = own->words[STORE_TOTAL];
        if (!identity_of(own, &check->uuid, check->name))
            check_problem(&checker, "the store's identity does not parse");
        if (checker.total > CLUSTERS_MAX || checker.total << CLUSTER_SHIFT > check->size ||
            divide_up(divide_up(checker.total, ALLOC_PAGE_CLUSTERS), PAGE_WORDS) > checker.super.alloc_index_pages)
            ok = error_set(error, ERROR_DAMAGED, "the store ends beyond the end of the disk");
        else if ((checker.seen = calloc(bitmap_words(checker.total), sizeof(uint64_t))) == NULL)
            checker.no_memory = true;
    }
    if (ok && !checker.no_memory) {
        claim_fixed(&checker);
        check_layers(&checker);
        check_space(&checker);
    }
    if (ok && checker.no_memory)
        ok = error_set(error, ERROR_NO_MEMORY, "no memory to check the store");
    check_disk_close(&checker);
    return ok;
}
