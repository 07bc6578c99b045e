/* Memory of one answer, freed all at once. Pure; one owner at a time. */
#pragma once

#include "base/bytes.h"

struct arena_slab;

struct arena {
    struct arena_slab *slabs; /* the newest first */
    uint8_t *free;            /* in the newest */
    size_t left;
    size_t used; /* bytes handed out */
};

static inline void arena_init(struct arena *arena) { *arena = (struct arena){0}; }
/* Frees all of it; it is empty then, and may be used again. */
void arena_fini(struct arena *arena);
/* Aligned to 16, not zeroed. NULL: no memory. */
void *arena_take(struct arena *arena, size_t bytes);
/* A copy with a zero byte behind it. NULL: no memory. */
void *arena_copy(struct arena *arena, const void *from, size_t length);
/* Room for one more of `count` items (the array doubles, the old one stays behind). NULL: no memory, the old one is as before. */
void *arena_grow(struct arena *arena, void *items, size_t count, size_t item_bytes);
