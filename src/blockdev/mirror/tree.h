/* Trees of snapshots, of a leg and of its source: what the next step is that makes the one like the other. Pure; docs/mirror.md,
 * "Trees". Must not know legs or how steps are carried out. */
#pragma once

#include "block/replica.h"

enum tree_step_kind {
    TREE_EQUAL,  /* but for the number */
    TREE_RESIZE, /* the head, to `size` */
    TREE_FILL,   /* the head holds what `layer` is to hold: then a snapshot is made of it. Its size is right, `size` */
    TREE_REVERT, /* the head goes to layer `id`, 0 = below all */
    TREE_DELETE  /* the leg's layer `id` */
};

struct tree_step {
    enum tree_step_kind kind;
    uint64_t id, size;
    const struct replica_layer *layer; /* TREE_FILL: the source's */
};

/* NULL, or what is wrong with a document of `length` bytes that a leg sent: its count, an id twice or 0, a parent that is not
 * there, or no way from a layer down to the bottom. Sorts its layers by id, which the others here need. */
const char *tree_check(struct replica_layers *tree, size_t length);
/* The first step that applies, both trees checked. */
struct tree_step tree_next_step(const struct replica_layers *own, const struct replica_layers *source);
/* By id, or by name (the first); NULL if there is none. */
const struct replica_layer *tree_find(const struct replica_layers *tree, uint64_t id);
const struct replica_layer *tree_find_name(const struct replica_layers *tree, const char *name);
/* The head stands on it, or on what stands on it. */
bool tree_is_under_head(const struct replica_layers *tree, uint64_t id);
/* Length of a document that says it has so many layers. */
static inline size_t tree_bytes(uint32_t count) { return sizeof(struct replica_layers) + count * sizeof(struct replica_layer); }
