#include "reactor/buffer.h"

#include <stdlib.h>
#include <string.h>

void buffer_pool_init(struct buffer_pool *pool, uint64_t limit) {
    *pool = (struct buffer_pool){.limit = limit != 0 ? limit : BUFFER_LIMIT_DEFAULT};
    list_init(&pool->waiters);
}

void buffer_pool_fini(struct buffer_pool *pool) {
    for (size_t i = 0; i < pool->slab_count; i++)
        free(pool->slabs[i].base);
    free(pool->slabs);
}

static unsigned class_of(size_t size) {
    assert(size <= BUFFER_SIZE_MAX);
    return size <= BUFFER_ALIGNMENT ? 0 : 64 - (unsigned)__builtin_clzll((size - 1) / BUFFER_ALIGNMENT);
}

static size_t class_size(unsigned class) { return (size_t)BUFFER_ALIGNMENT << class; }

static void push(struct buffer_pool *pool, unsigned class, void *buffer) {
    *(void **)buffer = pool->free[class];
    pool->free[class] = buffer;
}

static void *pop(struct buffer_pool *pool, unsigned class) {
    void *buffer = pool->free[class];
    pool->free[class] = *(void **)buffer;
    return buffer;
}

/* Room for one more slab, in order of address. NULL: no memory. */
static struct buffer_slab *slab_add(struct buffer_pool *pool, char *base, size_t bytes) {
    if (pool->slab_count == pool->slab_capacity) {
        size_t capacity = pool->slab_capacity == 0 ? 16 : pool->slab_capacity * 2;
        struct buffer_slab *slabs = realloc(pool->slabs, capacity * sizeof(*slabs));
        if (slabs == NULL)
            return NULL;
        pool->slabs = slabs;
        pool->slab_capacity = capacity;
    }
    size_t at = pool->slab_count++;
    for (; at > 0 && pool->slabs[at - 1].base > base; at--)
        pool->slabs[at] = pool->slabs[at - 1];
    pool->slabs[at] = (struct buffer_slab){.base = base, .bytes = bytes};
    return &pool->slabs[at];
}

static struct buffer_slab *slab_of(const struct buffer_pool *pool, const void *buffer) {
    size_t low = 0, high = pool->slab_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (pool->slabs[middle].base <= (const char *)buffer)
            low = middle;
        else
            high = middle;
    }
    return &pool->slabs[low];
}

/* Adds one slab, which holds a buffer of `class` at least; false at the limit. */
static bool grow(struct buffer_pool *pool, unsigned class) {
    unsigned slab_class = BUFFER_CLASSES - 1;
    while (slab_class > class && pool->taken + class_size(slab_class) > pool->limit)
        slab_class--;
    size_t bytes = class_size(slab_class);
    if (pool->taken + bytes > pool->limit)
        return false;
    char *base = aligned_alloc(BUFFER_ALIGNMENT, bytes);
    if (base == NULL || slab_add(pool, base, bytes) == NULL) {
        free(base);
        return false;
    }
    pool->taken += bytes;
    push(pool, slab_class, base);
    return true;
}

/* Puts the free buffers of a class together with their free neighbours, into the next one. */
static void merge_class(struct buffer_pool *pool, unsigned class) {
    void *at = pool->free[class];
    for (size_t i = 0; i < pool->slab_count; i++)
        memset(pool->slabs[i].free, 0, sizeof(pool->slabs[i].free));
    for (void *buffer = at; buffer != NULL; buffer = *(void **)buffer) {
        struct buffer_slab *slab = slab_of(pool, buffer);
        size_t index = (size_t)((char *)buffer - slab->base) / class_size(class);
        slab->free[index / 64] |= UINT64_C(1) << index % 64;
    }
    pool->free[class] = NULL;
    while (at != NULL) {
        void *buffer = at;
        at = *(void **)buffer;
        const struct buffer_slab *slab = slab_of(pool, buffer);
        size_t index = (size_t)((char *)buffer - slab->base) / class_size(class), buddy = index ^ 1;
        if ((slab->free[buddy / 64] >> buddy % 64 & 1) == 0)
            push(pool, class, buffer);
        else if (index < buddy)
            push(pool, class + 1, buffer);
    }
}

/* Makes a buffer of `class` out of smaller ones, if enough was given back since the last attempt that one may be there. */
static bool merge(struct buffer_pool *pool, unsigned class) {
    if (pool->returned < class_size(class) && pool->in_use > 0)
        return false;
    pool->returned = 0;
    for (unsigned small = 0; small < BUFFER_CLASSES - 1; small++)
        merge_class(pool, small);
    return true;
}

/* Makes a buffer of `class` out of a larger one. */
static bool split(struct buffer_pool *pool, unsigned class) {
    unsigned large = class;
    while (large < BUFFER_CLASSES && pool->free[large] == NULL)
        large++;
    if (large == BUFFER_CLASSES)
        return false;
    char *buffer = pop(pool, large);
    for (; large > class; large--)
        push(pool, large - 1, buffer + class_size(large - 1));
    push(pool, class, buffer);
    return true;
}

static void *take(struct buffer_pool *pool, unsigned class) {
    if (unlikely(pool->free[class] == NULL) && !split(pool, class) && !(grow(pool, class) && split(pool, class)) &&
        !(merge(pool, class) && split(pool, class)))
        return NULL;
    pool->in_use += class_size(class);
    return pop(pool, class);
}

void *buffer_take(struct buffer_pool *pool, size_t size) {
    return list_empty(&pool->waiters) ? take(pool, class_of(size)) : NULL;
}

static void serve(struct buffer_pool *pool) {
    while (!list_empty(&pool->waiters)) {
        struct buffer_waiter *waiter = list_entry(list_first(&pool->waiters), struct buffer_waiter, node);
        void *buffer = take(pool, class_of(waiter->size));
        if (buffer == NULL)
            break;
        list_remove(&waiter->node);
        waiter->ready(waiter, buffer);
    }
}

void buffer_give(struct buffer_pool *pool, void *take_buffer, size_t size) {
    unsigned class = class_of(size);
    push(pool, class, take_buffer);
    pool->in_use -= class_size(class);
    pool->returned += class_size(class);
    serve(pool);
}

void buffer_pool_retry(struct buffer_pool *pool) {
    pool->returned = pool->limit; /* whatever was given back since, it is worth an attempt */
    serve(pool);
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
