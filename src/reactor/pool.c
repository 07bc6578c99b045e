#include "reactor/pool.h"

#include <stdlib.h>

#define SLAB_BYTES KIB(16)

void pool_init(struct pool *pool, size_t object_size, uint32_t limit) {
    *pool = (struct pool){.object_size = round_up(max_u64(object_size, sizeof(void *)), 16), .limit = limit};
    queue_init(&pool->waiters);
}

void pool_fini(struct pool *pool) {
    assert(pool->lent == 0);
    for (void *slab = pool->slabs, *next; slab != NULL; slab = next) {
        next = *(void **)slab;
        free(slab);
    }
}

static bool grow(struct pool *pool) {
    uint32_t count = (uint32_t)max_u64(1, (SLAB_BYTES - 16) / pool->object_size);
    count = min_u32(count, pool->limit - pool->count);
    if (count == 0)
        return false;
    char *slab = malloc(16 + count * pool->object_size);
    if (slab == NULL)
        return false;
    *(void **)(void *)slab = pool->slabs;
    pool->slabs = slab;
    for (uint32_t i = count; i-- > 0;) {
        void *object = slab + 16 + i * pool->object_size;
        *(void **)object = pool->free;
        pool->free = object;
    }
    pool->count += count;
    return true;
}

void *pool_take(struct pool *pool) {
    if (!queue_empty(&pool->waiters) || (pool->free == NULL && !grow(pool)))
        return NULL;
    void *object = pool->free;
    pool->free = *(void **)object;
    pool->lent++;
    return object;
}

void pool_give(struct pool *pool, void *take_object) {
    struct queue_node *node = queue_pop(&pool->waiters);
    if (node != NULL) {
        struct pool_waiter *waiter = container_of(node, struct pool_waiter, node);
        waiter->ready(waiter, take_object);
        return;
    }
    *(void **)take_object = pool->free;
    pool->free = take_object;
    pool->lent--;
}

void pool_wait(struct pool *pool, struct pool_waiter *waiter) { queue_push(&pool->waiters, &waiter->node); }
