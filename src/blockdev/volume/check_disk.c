/* The checker's view of the disk: superblock, journal, and pages as they are once the journal is applied. Written apart from the
 * store's own replay, so that one error is not in both. */
#include "blockdev/volume/check_disk.h"
#include "blockdev/volume/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void check_problem(struct checker *checker, const char *format, ...) {
    struct volume_check *check = checker->check;
    if (check->problems++ >= check->limit)
        return;
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    text_append_string(&check->report, line);
    text_append_char(&check->report, '\n');
}

static bool read_blocks(struct checker *checker, uint64_t block, void *to, size_t count) {
    struct volume_check *check = checker->check;
    return range_inside(block * BLOCK_BYTES, count * BLOCK_BYTES, check->size) &&
           check->read(check->arg, block * BLOCK_BYTES, to, count * BLOCK_BYTES);
}

/* ---- the journal ---- */

static bool keep_change(struct checker *checker, const struct record_change *change, uint64_t sequence) {
    if (checker->change_count == checker->change_capacity) {
        size_t capacity = checker->change_capacity == 0 ? 1024 : checker->change_capacity * 2;
        struct check_change *changes = realloc(checker->changes, capacity * sizeof(*changes));
        if (changes == NULL)
            return false;
        checker->changes = changes;
        checker->change_capacity = capacity;
    }
    checker->changes[checker->change_count++] = (struct check_change){change->space, change->word, change->value, sequence};
    return true;
}

static int by_page(const void *a, const void *b) {
    const struct check_change *x = a, *y = b;
    if (x->space != y->space)
        return x->space < y->space ? -1 : 1;
    uint32_t p = x->word / PAGE_WORDS, q = y->word / PAGE_WORDS;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->sequence != y->sequence)
        return x->sequence < y->sequence ? -1 : 1;
    return x->word < y->word ? -1 : x->word > y->word; /* a word is in a record once */
}

/* Copies a record out of the ring; 0 = none there, else its blocks. */
static uint32_t ring_record(const struct checker *checker, const uint8_t *ring, uint32_t at, uint8_t *to) {
    uint32_t blocks = checker->super.journal_clusters * CLUSTER_BLOCKS, most = min_u32(blocks / 8, 256);
    struct record_header header;
    memcpy(&header, ring + (size_t)at * BLOCK_BYTES, sizeof(header));
    if (header.magic != RECORD_MAGIC || header.blocks == 0 || header.blocks > most ||
        !uuid_equal(&header.store_id, &checker->super.store_id) ||
        header.change_count > (header.blocks * (size_t)BLOCK_BYTES - sizeof(header)) / sizeof(struct record_change))
        return 0;
    for (uint32_t i = 0; i < header.blocks; i++)
        memcpy(to + (size_t)i * BLOCK_BYTES, ring + (size_t)((at + i) % blocks) * BLOCK_BYTES, BLOCK_BYTES);
    return format_crc(to, (size_t)header.blocks * BLOCK_BYTES, RECORD_CRC_FIELD) == header.crc ? header.blocks : 0;
}

static bool journal_read(struct checker *checker, struct error *error) {
    uint32_t blocks = checker->super.journal_clusters * CLUSTER_BLOCKS, at = checker->super.journal_block;
    uint32_t crc = checker->super.journal_crc;
    uint8_t *ring = calloc(blocks, BLOCK_BYTES), *record = malloc((size_t)256 * BLOCK_BYTES);
    bool ok = ring != NULL && record != NULL;
    checker->last_sequence = checker->super.journal_sequence;
    for (uint32_t i = 0; i < blocks && ok; i += CLUSTER_BLOCKS)
        if (!read_blocks(checker, (uint64_t)checker->super.journal_cluster * CLUSTER_BLOCKS + i, ring + (size_t)i * BLOCK_BYTES,
                         CLUSTER_BLOCKS)) {
            check_problem(checker, "journal: blocks %u to %u cannot be read", i, i + CLUSTER_BLOCKS - 1);
            memset(ring + (size_t)i * BLOCK_BYTES, 0, CLUSTER_BYTES);
        }
    for (uint32_t walked = 0; ok && walked < blocks;) {
        struct record_header header;
        uint32_t length = ring_record(checker, ring, at, record);
        memcpy(&header, record, sizeof(header));
        if (length == 0 || header.sequence != checker->last_sequence + 1 || header.previous_crc != crc)
            break;
        for (uint32_t i = 0; i < header.change_count && ok; i++) {
            struct record_change change;
            memcpy(&change, record + sizeof(header) + i * sizeof(change), sizeof(change));
            ok = keep_change(checker, &change, header.sequence);
        }
        checker->last_sequence = header.sequence;
        crc = header.crc;
        at = (at + length) % blocks;
        walked += length;
        checker->check->records++;
    }
    for (uint32_t block = 0; block < blocks && ok; block++) {
        struct record_header header;
        if (ring_record(checker, ring, block, record) == 0)
            continue;
        memcpy(&header, record, sizeof(header));
        if (header.sequence > checker->last_sequence + 1 && header.durable_sequence > checker->last_sequence) {
            check_problem(checker, "journal: record %llu is damaged: a later one says that it was durable",
                          (unsigned long long)checker->last_sequence + 1);
            break;
        }
    }
    free(ring);
    free(record);
    if (ok && checker->change_count > 0)
        qsort(checker->changes, checker->change_count, sizeof(*checker->changes), by_page);
    return ok || error_set(error, ERROR_NO_MEMORY, "no memory for the journal");
}

/* First change of a page, or where it would be. */
static size_t change_first(const struct checker *checker, uint32_t space, uint32_t index) {
    size_t low = 0, high = checker->change_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct check_change *change = &checker->changes[middle];
        if (change->space < space || (change->space == space && change->word / PAGE_WORDS < index))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Newest record that changed a word (to `only_free`: to a free layer); 0 = none. */
static uint64_t last_change(const struct checker *checker, uint32_t space, uint32_t word, bool only_free) {
    uint64_t sequence = 0;
    for (size_t i = change_first(checker, space, word / PAGE_WORDS); i < checker->change_count; i++) {
        const struct check_change *change = &checker->changes[i];
        if (change->space != space || change->word / PAGE_WORDS != word / PAGE_WORDS)
            break;
        if (change->word == word && (!only_free || LAYER_STATE_OF(change->value) == LAYER_FREE))
            sequence = change->sequence;
    }
    return sequence;
}

/* Changes of a map or directory page before this record are of a node that is gone. */
static uint64_t node_since(const struct checker *checker, uint32_t space, uint32_t index) {
    uint32_t owner = SPACE_OWNER(space), node = index / NODE_PAGES, table = SPACE(PAGE_TABLE, 0);
    if (SPACE_KIND(space) != PAGE_MAP && SPACE_KIND(space) != PAGE_DIR)
        return 0;
    uint64_t since = last_change(checker, table, owner * PAGE_WORDS + LAYER_STATE, true);
    if (SPACE_KIND(space) == PAGE_MAP) {
        since = max_u64(since, last_change(checker, SPACE(PAGE_DIR, owner), node, false));
        node /= NODE_WORDS;
    }
    return max_u64(since, last_change(checker, table, owner * PAGE_WORDS + LAYER_ROOTS + node, false));
}

/* ---- pages ---- */

static const char *kind_name(uint32_t space) {
    static const char *const names[] = {"?", "table index", "allocation index", "layer record", "allocation", "directory", "map"};
    return names[SPACE_KIND(space) < PAGE_KINDS ? SPACE_KIND(space) : 0];
}

static bool page_read(struct checker *checker, uint32_t space, uint32_t index, uint64_t place, struct check_page *page) {
    uint8_t image[BLOCK_BYTES];
    struct page_header header;
    const char *wrong = NULL;
    if (!read_blocks(checker, place, image, 1)) {
        wrong = "cannot be read";
    } else {
        memcpy(&header, image, sizeof(header));
        if (header.magic != PAGE_MAGIC || header.crc != format_crc(image, BLOCK_BYTES, PAGE_CRC_FIELD))
            wrong = "has a wrong checksum";
        else if (!uuid_equal(&header.store_id, &checker->super.store_id) || header.kind != SPACE_KIND(space) ||
                 header.owner != SPACE_OWNER(space) || header.index != index || header.place != place)
            wrong = "is another page";
        else if (header.sequence > checker->last_sequence)
            wrong = "is newer than the journal";
        else if (SPACE_KIND(space) < PAGE_TABLE && header.generation != checker->super.generation)
            wrong = "is of another generation";
    }
    if (wrong != NULL) {
        check_problem(checker, "%s page %u of layer %u (block %llu) %s", kind_name(space), index, SPACE_OWNER(space),
                      (unsigned long long)place, wrong);
        return false;
    }
    page->sequence = header.sequence;
    memcpy(page->words, image + PAGE_HEADER_BYTES, sizeof(page->words));
    return true;
}

static void apply(struct checker *checker, struct check_page *page) {
    uint64_t since = node_since(checker, page->space, page->index);
    for (size_t i = change_first(checker, page->space, page->index); i < checker->change_count; i++) {
        const struct check_change *change = &checker->changes[i];
        if (change->space != page->space || change->word / PAGE_WORDS != page->index)
            break;
        if (change->sequence <= page->sequence || change->sequence < since)
            continue;
        uint64_t *word = &page->words[change->word % PAGE_WORDS];
        if (SPACE_KIND(page->space) == PAGE_ALLOC_INDEX)
            *word = (*word & ~REFERENCE_JOURNALED) | change->value;
        else
            *word = change->value; /* a reference without places: its node is new */
    }
}

bool check_page_load(struct checker *checker, uint32_t space, uint32_t index, uint64_t reference, struct check_page *page) {
    page->space = space;
    page->index = index;
    page->sequence = 0;
    unsigned sub = SPACE_KIND(space) == PAGE_ALLOC ? 0 : index % NODE_PAGES;
    if (reference_valid(reference, sub)) {
        uint32_t cluster =
            SPACE_KIND(space) == PAGE_ALLOC ? alloc_node_cluster(index / NODE_PAGES) : reference_cluster(reference);
        if (!page_read(checker, space, index, node_place(cluster, index % NODE_PAGES, reference_place(reference, sub)), page))
            return false;
    } else {
        uint64_t word = (reference & REFERENCE_ZERO) == 0 ? 0 : SPACE_KIND(space) == PAGE_MAP ? MAP_ZERO_ALL : REFERENCE_ZERO;
        for (unsigned i = 0; i < PAGE_WORDS; i++)
            page->words[i] = SPACE_KIND(space) == PAGE_ALLOC ? 0 : word;
        if (SPACE_KIND(space) == PAGE_ALLOC)
            alloc_page_init(&checker->super, index, page->words);
    }
    apply(checker, page);
    return true;
}

struct check_page *check_kept(struct checker *checker, enum page_kind kind, uint32_t index) {
    uint64_t hash = hash_u64((uint64_t)kind << 32 | index);
    for (struct hash_node *n = hash_map_first(&checker->pages, hash); n != NULL; n = hash_map_next(n)) {
        struct check_page *page = container_of(n, struct check_page, node);
        if (page->space == SPACE(kind, 0) && page->index == index)
            return page;
    }
    return NULL;
}

uint64_t check_word(struct checker *checker, enum page_kind kind, uint32_t word) {
    struct check_page *page = check_kept(checker, kind, word / PAGE_WORDS);
    return page == NULL ? 0 : page->words[word % PAGE_WORDS];
}

static struct check_page *page_keep(struct checker *checker, enum page_kind kind, uint32_t index) {
    struct check_page *page = calloc(1, sizeof(*page));
    if (page == NULL || !hash_map_insert(&checker->pages, &page->node, hash_u64((uint64_t)kind << 32 | index))) {
        free(page);
        checker->no_memory = true;
        return NULL;
    }
    page->space = SPACE(kind, 0);
    page->index = index;
    if (kind == PAGE_TABLE)
        checker->layers_end = max_u32(checker->layers_end, index + 1);
    return page;
}

static void page_unkeep(struct checker *checker, struct check_page *page) {
    hash_map_remove(&checker->pages, &page->node);
    free(page);
}

bool check_disk_open(struct checker *checker, struct error *error) {
    hash_map_init(&checker->pages);
    struct superblock *images = calloc(2, sizeof(*images));
    if (images == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for two superblocks");
    for (unsigned i = 0; i < 2; i++)
        if (!read_blocks(checker, (uint64_t)i * CLUSTER_BLOCKS, &images[i], 1))
            memset(&images[i], 0, sizeof(images[i]));
    bool ok = superblock_choose(images, checker->check->size, &checker->super, error);
    free(images);
    if (!ok || !journal_read(checker, error))
        return false;
    const struct superblock *super = &checker->super;
    uint64_t place = (uint64_t)super->index_cluster[super->generation & 1] * CLUSTER_BLOCKS;
    for (uint32_t i = 0; i < super->table_index_pages + super->alloc_index_pages; i++) {
        bool table = i < super->table_index_pages;
        struct check_page *page =
            page_keep(checker, table ? PAGE_TABLE_INDEX : PAGE_ALLOC_INDEX, table ? i : i - super->table_index_pages);
        if (page == NULL)
            break;
        if (page_read(checker, page->space, page->index, place + i, page))
            apply(checker, page);
        else
            page_unkeep(checker, page);
    }
    uint32_t limit = min_u32(LAYERS_MAX, super->table_index_pages * NODE_WORDS);
    for (uint32_t id = 0; id < limit && !checker->no_memory; id++) {
        uint64_t reference = check_word(checker, PAGE_TABLE_INDEX, id / NODE_PAGES);
        if (reference_cluster(reference) == 0) {
            id |= NODE_PAGES - 1;
            continue;
        }
        size_t first = change_first(checker, SPACE(PAGE_TABLE, 0), id);
        bool changed = first < checker->change_count && checker->changes[first].space == SPACE(PAGE_TABLE, 0) &&
                       checker->changes[first].word / PAGE_WORDS == id;
        if (!reference_valid(reference, id % NODE_PAGES) && !changed)
            continue;
        struct check_page *page = page_keep(checker, PAGE_TABLE, id);
        if (page != NULL && !check_page_load(checker, page->space, id, reference, page))
            page_unkeep(checker, page);
    }
    return !checker->no_memory || error_set(error, ERROR_NO_MEMORY, "no memory for the layer records");
}

void check_disk_close(struct checker *checker) {
    for (size_t i = 0; i < checker->pages.bucket_count; i++)
        for (struct hash_node *n = checker->pages.buckets[i], *next; n != NULL; n = next) {
            next = n->next;
            free(container_of(n, struct check_page, node));
        }
    hash_map_fini(&checker->pages);
    free(checker->changes);
    free(checker->seen);
}
