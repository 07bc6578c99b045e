/* Which blocks a volume or snapshot holds: what copies and maps of it go by. */
#include "base/bitmap.h"
#include "blockdev/volume/internal.h"

#define ROOT_BLOCKS ((uint64_t)NODE_WORDS * NODE_WORDS * CLUSTER_BLOCKS)

struct layer *layer_below(const struct layer *layer) {
    struct layer *below = layer->parent;
    while (below != NULL && below->external == NULL && layer_state(below) != LAYER_LIVE)
        below = below->parent;
    return below;
}

/* Where a layer hides, by its limit, what its parent holds: nothing says so block by block. */
static bool limit_hides(const struct layer *layer, uint64_t first, uint64_t end) {
    return layer->parent != NULL && end > layer_get(layer, LAYER_LIMIT) && first < layer_size(layer->parent);
}

/* The end of what the layer has no words for, from `first`; `first` where it may have some. */
static uint64_t nothing_until(const struct layer *layer, uint64_t first, uint64_t end) {
    uint64_t at = first;
    while (at < end) {
        uint64_t next = min_u64(end, (at / ROOT_BLOCKS + 1) * ROOT_BLOCKS);
        uint64_t root = layer_get(layer, LAYER_ROOTS + (unsigned)(at / ROOT_BLOCKS));
        if (reference_cluster(root) != 0 || (root & REFERENCE_ZERO) != 0 || limit_hides(layer, at, next))
            return at;
        at = next;
    }
    return at;
}

uint16_t layer_hidden_by_limit(const struct layer *layer, uint32_t cluster) {
    uint64_t first = (uint64_t)cluster * CLUSTER_BLOCKS;
    if (!limit_hides(layer, first, first + CLUSTER_BLOCKS))
        return 0;
    uint64_t count = min_u64(CLUSTER_BLOCKS, layer_size(layer->parent) - first);
    return (uint16_t)(~layer_parent_mask(layer, cluster) & block_mask(0, (unsigned)count));
}

static void bits_put(uint64_t *map, uint64_t at, uint16_t bits) {
    static_assert(64 % CLUSTER_BLOCKS == 0, "no cluster lies across two words");
    map[at / 64] |= (uint64_t)bits << at % 64;
}

static uint16_t bits_get(const uint64_t *map, uint64_t at) { return (uint16_t)(map[at / 64] >> at % 64); }

enum got occupancy_get(struct volume_store *store, struct layer *layer, struct volume_map *map, struct waiter *waiter,
                       enum io_status *ret_status) {
    uint64_t size = layer_size(layer), first = round_down(map->first_block, CLUSTER_BLOCKS);
    uint64_t end = min_u64(size, first + VOLUME_MAP_BLOCKS);
    map->first_block = first;
    memset(map->held, 0, sizeof(map->held));
    memset(map->cleared, 0, sizeof(map->cleared));
    uint64_t nothing = size;
    const struct layer *below = map->deep ? NULL : layer_below(layer);
    for (struct layer *up = layer; up != below; up = up->parent) {
        if (up->damaged) {
            *ret_status = IO_DAMAGED;
            return FAILED;
        }
        uint64_t until = min_u64(end, layer_size(up)), empty = first < until ? nothing_until(up, first, layer_size(up)) : size;
        nothing = min_u64(nothing, empty >= layer_size(up) ? size : max_u64(first, empty));
        if (up->external != NULL) {
            bitmap_set_range(map->held, 0, until > first ? until - first : 0);
            nothing = until > first ? first : nothing;
            continue;
        }
        for (uint64_t block = min_u64(until, max_u64(first, empty)) / CLUSTER_BLOCKS * CLUSTER_BLOCKS; block < until;
             block += CLUSTER_BLOCKS) {
            uint64_t word;
            enum got got = map_get(store, up, (uint32_t)(block / CLUSTER_BLOCKS), waiter, &word, ret_status);
            if (got != GOT)
                return got;
            uint16_t inside = block_mask(0, (unsigned)min_u64(CLUSTER_BLOCKS, until - block));
            uint16_t zero = map_zero(word) | layer_hidden_by_limit(up, (uint32_t)(block / CLUSTER_BLOCKS));
            inside &= (uint16_t)~bits_get(map->cleared, block - first); /* hidden from what is merged into it */
            bits_put(map->held, block - first, map_present(word) & inside);
            if (!map->deep)
                bits_put(map->cleared, block - first, (uint16_t)(zero & ~bits_get(map->held, block - first) & inside));
        }
    }
    map->end_block = max_u64(end, nothing);
    return GOT;
}

static void map_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    struct volume *volume = volume_find(store, &command->volume);
    enum io_status status = IO_OK;
    if (volume == NULL || volume->layer == NULL) {
        command_finish(command, command_no_such(command), NULL);
        return;
    }
    enum got got = occupancy_get(store, volume->layer, command->map, &store->command_waiter, &status);
    if (got == FAILED)
        command_fail_status(command, status);
    else if (got == GOT)
        command_finish(command, true, NULL);
}

void volume_map_get(struct volume_command *command) { command_start(command, map_run); }
