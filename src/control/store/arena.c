#include "control/store/arena.h"

#include <stdlib.h>

#define SLAB_BYTES KIB(16)
#define ALIGNMENT 16

struct arena_slab {
    struct arena_slab *next;
    uint64_t unused; /* keeps what follows aligned */
    uint8_t bytes[];
};

void arena_fini(struct arena *arena) {
    while (arena->slabs != NULL) {
        struct arena_slab *slab = arena->slabs;
        arena->slabs = slab->next;
        free(slab);
    }
    arena_init(arena);
}

void *arena_take(struct arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (bytes > arena->left) {
        size_t size = bytes > SLAB_BYTES / 4 ? bytes : SLAB_BYTES;
        struct arena_slab *slab = malloc(sizeof(*slab) + size);
        if (slab == NULL)
            return NULL;
        slab->next = arena->slabs;
        arena->slabs = slab;
        arena->free = slab->bytes;
        arena->left = size;
    }
    void *taken = arena->free;
    arena->free += bytes;
    arena->left -= bytes;
    arena->used += bytes;
    return taken;
}

void *arena_copy(struct arena *arena, const void *from, size_t length) {
    uint8_t *to = arena_take(arena, length + 1);
    if (to == NULL)
        return NULL;
    if (length > 0)
        memcpy(to, from, length);
    to[length] = 0;
    return to;
}

void *arena_grow(struct arena *arena, void *items, size_t count, size_t item_bytes) {
    if (count > 0 && (count < 8 || (count & (count - 1)) != 0))
        return items;
    void *grown = arena_take(arena, item_bytes * (count == 0 ? 8 : 2 * count));
    if (grown != NULL && count > 0)
        memcpy(grown, items, item_bytes * count);
    return grown;
}
