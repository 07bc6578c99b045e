/* The memory of one simulated process: every allocation made by the code under test while a heap is entered belongs to it, so
 * that a crash frees all of it at once, and the n-th allocation can be made to fail. Works by the linker's --wrap of malloc and
 * its siblings; only for test programs linked so (see meson.build). One thread. */
#pragma once

#include "base/list.h"

struct heap {
    struct list blocks;
    uint64_t allocations; /* asked for so far */
    uint64_t fail_at;     /* the allocation with this number (from 1) fails; 0 = none */
    bool dry;             /* every allocation fails */
    uint64_t failed;
    uint64_t live_bytes, peak_bytes;
};

/* The system's allocator keeps what is freed, for programs that live through many heaps. Once, from main(). */
void heap_keep_memory(void);
void heap_init(struct heap *heap);
/* Frees whatever is still allocated. */
void heap_drop(struct heap *heap);
/* Allocations go to this heap from here on; NULL = to nobody's. Returns the one before. */
struct heap *heap_enter(struct heap *heap);
/* Memory of the test itself, whichever heap is entered. Never NULL. */
void *plain_alloc(size_t size);
void *plain_grow(void *memory, size_t size);
void plain_free(void *memory);
