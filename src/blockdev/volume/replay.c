/* Reading the journal at opening (rule 5): which records count, and applying them to resident pages and overlays. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

/* The record at `block`, in one piece: in the ring itself or, where it goes over the end, in `scratch`. NULL: there is none. */
static const uint8_t *record_at(const struct volume_store *store, const uint8_t *ring, uint32_t block, uint8_t *scratch,
                                struct record_header *ret_header) {
    const struct commit *commit = &store->commit;
    const uint8_t *record = ring + (size_t)block * BLOCK_BYTES;
    memcpy(ret_header, record, sizeof(*ret_header));
    if (ret_header->magic != RECORD_MAGIC || ret_header->blocks == 0 || ret_header->blocks > commit->record_blocks_max ||
        !uuid_equal(&ret_header->store_id, &store->store_id))
        return NULL;
    size_t bytes = (size_t)ret_header->blocks * BLOCK_BYTES;
    if (ret_header->change_count > (bytes - sizeof(*ret_header)) / sizeof(struct record_change))
        return NULL;
    if (block + ret_header->blocks > commit->ring_blocks) {
        size_t first = (size_t)(commit->ring_blocks - block) * BLOCK_BYTES;
        memcpy(scratch, record, first);
        memcpy(scratch + first, ring, bytes - first);
        record = scratch;
    }
    return format_crc(record, bytes, RECORD_CRC_FIELD) == ret_header->crc ? record : NULL;
}

/* True if some record says that the one with this sequence was durable: then its absence is damage. */
static bool was_durable(const struct volume_store *store, const uint8_t *ring, uint64_t sequence, uint8_t *scratch) {
    for (uint32_t block = 0; block < store->commit.ring_blocks; block++) {
        struct record_header header;
        memcpy(&header, ring + (size_t)block * BLOCK_BYTES, sizeof(header));
        if (header.magic == RECORD_MAGIC && header.sequence > sequence && header.durable_sequence >= sequence &&
            record_at(store, ring, block, scratch, &header) != NULL)
            return true;
    }
    return false;
}

struct replay {
    struct volume_store *store;
    uint64_t *first; /* by layer: sequence of the oldest change in its overlays, 0 = none */
};

/* Pages of a layer in [first, end) of a kind lose what older records said of them: their node is a new one, or gone. */
static void overlays_purge(struct replay *replay, enum page_kind kind, uint32_t owner, uint32_t first, uint64_t end,
                           uint64_t sequence) {
    if (VOLUME_CANARY == VOLUME_CANARY_REPLAY_KEEPS_DROPPED)
        return;
    list_for_each_safe (&replay->store->overlay_lists[kind], struct overlay, overlay, list_node) {
        if (SPACE_OWNER(overlay->space) != owner || overlay->index < first || overlay->index >= end)
            continue;
        uint32_t kept = 0;
        for (uint32_t i = 0; i < overlay->count; i++)
            if (overlay->changes[i].sequence_word >> 9 == sequence)
                overlay->changes[kept++] = overlay->changes[i];
        replay->store->overlay_changes -= overlay->count - kept;
        overlay->count = kept;
        if (kept == 0)
            overlay_drop(replay->store, overlay);
    }
}

static void node_purge(struct replay *replay, uint32_t owner, uint32_t node, uint64_t sequence) {
    for (uint32_t index = node * NODE_PAGES; index < (node + 1) * NODE_PAGES; index++) {
        struct overlay *overlay = overlay_find(replay->store, SPACE(PAGE_MAP, owner), index);
        if (overlay != NULL)
            overlays_purge(replay, PAGE_MAP, owner, index, index + 1, sequence);
    }
}

static bool resident_change(struct replay *replay, uint32_t space, uint32_t word, uint64_t value, uint64_t sequence) {
    struct volume_store *store = replay->store;
    uint32_t index = word / PAGE_WORDS, at = word % PAGE_WORDS;
    struct page *page = page_find(store, space, index);
    if (page == NULL) {
        if (SPACE_KIND(space) != PAGE_TABLE || index >= LAYERS_MAX) {
            store_set_read_only(store, "the journal changes an index page that is damaged");
            return true;
        }
        page = page_create(store, space, index, NULL);
        if (page == NULL)
            return false;
    }
    /* also when the record's page is newer than this: the pages below need not be */
    bool old = SPACE_KIND(space) == PAGE_TABLE && index != 0 && index < LAYERS_MAX && replay->first[index] != 0 &&
               replay->first[index] < sequence;
    if (old && at == LAYER_STATE && LAYER_STATE_OF(value) == LAYER_FREE) {
        overlays_purge(replay, PAGE_DIR, index, 0, UINT64_MAX, sequence);
        overlays_purge(replay, PAGE_MAP, index, 0, UINT64_MAX, sequence);
        replay->first[index] = 0;
    } else if (old && at >= LAYER_ROOTS && at < LAYER_IDENTITY_WORDS) {
        uint32_t root = at - LAYER_ROOTS, pages = NODE_WORDS * NODE_PAGES;
        overlays_purge(replay, PAGE_DIR, index, root * NODE_PAGES, (root + 1) * NODE_PAGES, sequence);
        overlays_purge(replay, PAGE_MAP, index, root * pages, (uint64_t)(root + 1) * pages, sequence);
    }
    if (sequence <= page->disk_sequence)
        return true;
    overlay_apply_word(page, at, value);
    page_mark_dirty(store, page);
    return true;
}

static bool apply(struct replay *replay, const struct record_change *change, uint64_t sequence) {
    enum page_kind kind = SPACE_KIND(change->space);
    uint32_t owner = SPACE_OWNER(change->space);
    if (kind < PAGE_TABLE_INDEX || kind >= PAGE_KINDS || owner >= LAYERS_MAX || (kind <= PAGE_ALLOC && owner != 0)) {
        store_set_read_only(replay->store, "record %llu of the journal has a change that makes no sense",
                            (unsigned long long)sequence);
        return true;
    }
    if (kind <= PAGE_TABLE)
        return resident_change(replay, change->space, change->word, change->value, sequence);
    if (kind == PAGE_DIR && replay->first[owner] != 0 && replay->first[owner] < sequence)
        node_purge(replay, owner, change->word, sequence);
    if (kind != PAGE_ALLOC && replay->first[owner] == 0)
        replay->first[owner] = sequence;
    return overlay_add(replay->store, change->space, change->word, change->value, sequence);
}

bool replay_run(struct volume_store *store, const uint8_t *ring, bool unreadable) {
    struct commit *commit = &store->commit;
    struct replay replay = {.store = store, .first = calloc(LAYERS_MAX, sizeof(uint64_t))};
    uint8_t *scratch = malloc((size_t)commit->record_blocks_max * BLOCK_BYTES);
    bool ok = replay.first != NULL && scratch != NULL;
    uint32_t walked = 0;
    while (ok && walked < commit->ring_blocks) {
        struct record_header header;
        const uint8_t *record = record_at(store, ring, commit->head, scratch, &header);
        bool next =
            record != NULL && header.sequence == commit->durable_sequence + 1 && header.previous_crc == commit->durable_crc;
        if (VOLUME_CANARY == VOLUME_CANARY_STALE_RECORD)
            next = record != NULL;
        if (!next)
            break;
        const struct record_change *changes = (const struct record_change *)(const void *)(record + sizeof(header));
        for (uint32_t i = 0; i < header.change_count && ok; i++)
            ok = apply(&replay, &changes[i], header.sequence);
        commit->durable_sequence = header.sequence;
        commit->durable_crc = header.crc;
        commit->found_opening = header.opening_id;
        commit->head = (commit->head + header.blocks) % commit->ring_blocks;
        walked += header.blocks;
        store->replayed_records++;
    }
    commit->closed_sequence = commit->durable_sequence;
    commit->used = walked;
    if (ok && unreadable)
        store_set_read_only(store, "a part of the journal cannot be read");
    else if (ok && VOLUME_CANARY != VOLUME_CANARY_DAMAGE_AS_TAIL &&
             was_durable(store, ring, commit->durable_sequence + 1, scratch))
        store_set_read_only(store, "record %llu of the journal is damaged", (unsigned long long)commit->durable_sequence + 1);
    free(replay.first);
    free(scratch);
    return ok;
}
