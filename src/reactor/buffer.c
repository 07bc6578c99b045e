#include "reactor/buffer.h"

#include <stdlib.h>

#define SLAB_BYTES KIB(256)

void buffer_pool_init(struct buffer_pool *pool, uint64_t limit) {
    *pool = (struct buffer_pool){.limit = limit != 0 ? limit : BUFFER_LIMIT_DEFAULT};
    list_init(&pool->waiters);
}

void buffer_pool_fini(struct buffer_pool *pool) {
    for (size_t i = 0; i < pool->slab_count; i++)
        free(pool->slabs[i]);
    free(pool->slabs);
}

static unsigned class_of(size_t size) {
    assert(size <= BUFFER_SIZE_MAX);
    return size <= BUFFER_ALIGNMENT ? 0 : 64 - (unsigned)__builtin_clzll((size - 1) / BUFFER_ALIGNMENT);
}

static size_t class_size(unsigned class) { return (size_t)BUFFER_ALIGNMENT << class; }

/* Adds one slab of a class; false at the limit. */
static bool grow(struct buffer_pool *pool, unsigned class) {
    size_t bytes = max_u64(SLAB_BYTES, class_size(class));
    if (pool->taken + bytes > pool->limit)
        return false;
    if (pool->slab_count == pool->slab_capacity) {
        size_t capacity = pool->slab_capacity == 0 ? 16 : pool->slab_capacity * 2;
        void **slabs = realloc(pool->slabs, capacity * sizeof(void *));
        if (slabs == NULL)
            return false;
        pool->slabs = slabs;
        pool->slab_capacity = capacity;
    }
    char *slab = aligned_alloc(BUFFER_ALIGNMENT, bytes);
    if (slab == NULL)
        return false;
    pool->slabs[pool->slab_count++] = slab;
    pool->taken += bytes;
    for (size_t at = bytes; at > 0;) {
        at -= class_size(class);
        *(void **)(void *)(slab + at) = pool->free[class];
        pool->free[class] = slab + at;
    }
    return true;
}

static void *take(struct buffer_pool *pool, unsigned class) {
    if (pool->free[class] == NULL && !grow(pool, class))
        return NULL;
    void *buffer = pool->free[class];
    pool->free[class] = *(void **)buffer;
    pool->in_use += class_size(class);
    return buffer;
}

void *buffer_take(struct buffer_pool *pool, size_t size) {
    return list_empty(&pool->waiters) ? take(pool, class_of(size)) : NULL;
}

void buffer_give(struct buffer_pool *pool, void *take_buffer, size_t size) {
    unsigned class = class_of(size);
    *(void **)take_buffer = pool->free[class];
    pool->free[class] = take_buffer;
    pool->in_use -= class_size(class);
    buffer_pool_retry(pool);
}

void buffer_pool_retry(struct buffer_pool *pool) {
    while (!list_empty(&pool->waiters)) {
        struct buffer_waiter *waiter = list_entry(list_first(&pool->waiters), struct buffer_waiter, node);
        void *buffer = take(pool, class_of(waiter->size));
        if (buffer == NULL)
            break;
        list_remove(&waiter->node);
        waiter->ready(waiter, buffer);
    }
}

void buffer_wait(struct buffer_pool *pool, struct buffer_waiter *waiter) {
    pool->waits++;
    list_push_back(&pool->waiters, &waiter->node);
}

void buffer_wait_cancel(struct buffer_pool *pool, struct buffer_waiter *waiter) {
    (void)pool;
    if (list_linked(&waiter->node))
        list_remove(&waiter->node);
}
