/* Pool of equal objects for one reactor: a device's own request state. Grown in slabs to a limit, so that the data path allocates
 * nothing in the steady state; an empty pool queues its waiters in order. Calling context: the owning reactor. */
#pragma once

#include "base/list.h"

struct pool_waiter {
    struct queue_node node;
    void (*ready)(struct pool_waiter *waiter, void *take_object); /* from inside pool_give() */
};

struct pool {
    size_t object_size;
    uint32_t count, limit, lent; /* objects */
    void *free;                  /* linked through their first bytes */
    void *slabs;                 /* linked through their first bytes */
    struct queue waiters;
};

/* At most `limit` objects of `object_size` bytes. */
void pool_init(struct pool *pool, size_t object_size, uint32_t limit);
/* All objects are back. */
void pool_fini(struct pool *pool);
/* An object with undefined contents, or NULL: at the limit, or others wait already. */
void *pool_take(struct pool *pool);
void pool_give(struct pool *pool, void *take_object);
/* Calls waiter->ready with an object once there is one. Only after pool_take() gave NULL. */
void pool_wait(struct pool *pool, struct pool_waiter *waiter);
