#include "blockdev/mirror/tree.h"

#include <stdlib.h>

static int by_id(const void *a, const void *b) {
    uint64_t x = ((const struct replica_layer *)a)->id, y = ((const struct replica_layer *)b)->id;
    return (x > y) - (x < y);
}

const struct replica_layer *tree_find(const struct replica_layers *tree, uint64_t id) {
    struct replica_layer key = {.id = id};
    return bsearch(&key, tree->layers, tree->count, sizeof(key), by_id);
}

const struct replica_layer *tree_find_name(const struct replica_layers *tree, const char *name) {
    for (uint32_t i = 0; i < tree->count; i++)
        if (strncmp(tree->layers[i].name, name, sizeof(tree->layers[i].name)) == 0)
            return &tree->layers[i];
    return NULL;
}

/* A way down is longer than there are layers: it goes round. */
static bool goes_round(const struct replica_layers *tree) {
    for (uint32_t i = 0; i < tree->count; i++) {
        uint32_t steps = 0;
        for (uint64_t id = tree->layers[i].id; id != 0; id = tree_find(tree, id)->parent)
            if (++steps > tree->count)
                return true;
    }
    return false;
}

const char *tree_check(struct replica_layers *tree, size_t length) {
    if (length < sizeof(*tree) || tree->count > REPLICA_LAYERS_MAX || length != tree_bytes(tree->count))
        return "its snapshots are more or fewer than it says";
    qsort(tree->layers, tree->count, sizeof(tree->layers[0]), by_id);
    for (uint32_t i = 0; i < tree->count; i++) {
        struct replica_layer *layer = &tree->layers[i];
        if (layer->id == 0 || (i > 0 && layer->id == tree->layers[i - 1].id))
            return "a snapshot has no id, or that of another";
        if (layer->layer == REPLICA_LAYER_HEAD || layer->size == 0 || layer->size % REPLICA_BLOCK_BYTES != 0)
            return "a snapshot has no number or no size";
        layer->name[sizeof(layer->name) - 1] = '\0';
    }
    for (uint32_t i = 0; i < tree->count; i++)
        if (tree->layers[i].parent != 0 && tree_find(tree, tree->layers[i].parent) == NULL)
            return "a snapshot stands on none";
    if (tree->head_parent != 0 && tree_find(tree, tree->head_parent) == NULL)
        return "the head stands on a snapshot that is not there";
    return goes_round(tree) ? "its snapshots stand on each other" : NULL;
}

/* The leg's layer is the source's, with all that is below it. */
static bool is_right(const struct replica_layers *own, const struct replica_layers *source, uint64_t id) {
    while (id != 0) {
        const struct replica_layer *a = tree_find(own, id), *b = tree_find(source, id);
        if (a == NULL || b == NULL || a->parent != b->parent)
            return false;
        id = a->parent;
    }
    return true;
}

/* The nearest right one at or below a place. */
static uint64_t right_below(const struct replica_layers *own, const struct replica_layers *source, uint64_t id) {
    while (id != 0 && !is_right(own, source, id))
        id = tree_find(own, id)->parent;
    return id;
}

bool tree_is_under_head(const struct replica_layers *tree, uint64_t id) {
    uint64_t at = tree->head_parent;
    while (at != 0 && at != id)
        at = tree_find(tree, at)->parent;
    return at == id;
}

/* A layer of the source that the leg misses, and whose parent it has: one on the head's place first, of several the one that
 * leads to the source's head, for what the head holds is worth most there. */
static const struct replica_layer *next_missing(const struct replica_layers *own, const struct replica_layers *source) {
    const struct replica_layer *best = NULL;
    unsigned best_worth = 0;
    for (uint32_t i = 0; i < source->count; i++) {
        const struct replica_layer *layer = &source->layers[i];
        if (tree_find(own, layer->id) != NULL || (layer->parent != 0 && tree_find(own, layer->parent) == NULL))
            continue;
        unsigned worth = 1 + 2 * (layer->parent == own->head_parent) + tree_is_under_head(source, layer->id);
        if (worth > best_worth) {
            best_worth = worth;
            best = layer;
        }
    }
    return best;
}

struct tree_step tree_next_step(const struct replica_layers *own, const struct replica_layers *source) {
    /* What the source has not goes without harm: its content stays in what stands on it. */
    for (uint32_t i = 0; i < own->count; i++)
        if (tree_find(source, own->layers[i].id) == NULL)
            return (struct tree_step){.kind = TREE_DELETE, .id = own->layers[i].id};
    /* What the source has elsewhere is of no use, and a head on it holds what nobody can tell: back to what is common. */
    if (!is_right(own, source, own->head_parent))
        return (struct tree_step){.kind = TREE_REVERT, .id = right_below(own, source, own->head_parent)};
    for (uint32_t i = 0; i < own->count; i++)
        if (!is_right(own, source, own->layers[i].id))
            return (struct tree_step){.kind = TREE_DELETE, .id = own->layers[i].id};
    const struct replica_layer *missing = next_missing(own, source);
    uint64_t place = missing != NULL ? missing->parent : source->head_parent;
    if (own->head_parent != place)
        return (struct tree_step){.kind = TREE_REVERT, .id = place};
    uint64_t size = missing != NULL ? missing->size : source->head_size;
    if (own->head_size != size)
        return (struct tree_step){.kind = TREE_RESIZE, .size = size};
    if (missing != NULL)
        return (struct tree_step){.kind = TREE_FILL, .id = missing->id, .size = size, .layer = missing};
    return (struct tree_step){.kind = TREE_EQUAL};
}
