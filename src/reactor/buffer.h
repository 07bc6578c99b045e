/* Payload buffers of one reactor: 4 KiB-aligned, in classes of powers of two from 4 KiB to 1 MiB, taken from the system in slabs
 * as they are needed and kept, up to a limit. A large free buffer is split when a small one is wanted; free neighbours are made
 * one again only when a large one is wanted and there is none (buddies, put together lazily: the usual take and give is a pop and
 * a push). When none is left a waiter queues, FIFO over all classes, so that a large one is not starved by small ones. Calling
 * context: the owning reactor. A buffer goes back to the pool it came from. */
#pragma once

#include "base/list.h"

#define BUFFER_ALIGNMENT 4096
#define BUFFER_CLASSES 9 /* 4 KiB << 0 … 8 */
#define BUFFER_SIZE_MAX MIB(1)
#define BUFFER_LIMIT_DEFAULT MIB(256)

struct buffer_waiter {
    struct list_node node;
    size_t size;
    void (*ready)(struct buffer_waiter *waiter, void *take_buffer); /* from inside buffer_give() */
};

/* What the system gave at once: a buffer of the largest class, or less where the limit leaves no room for one. */
struct buffer_slab {
    char *base;
    size_t bytes;
    uint64_t free[BUFFER_SIZE_MAX / BUFFER_ALIGNMENT / 64]; /* scratch of putting together */
};

struct buffer_pool {
    void *free[BUFFER_CLASSES]; /* free buffers, linked through their first bytes */
    struct list waiters;
    struct buffer_slab *slabs; /* by address */
    size_t slab_count, slab_capacity;
    uint64_t taken, limit; /* bytes had from the system; the most it may be */
    uint64_t in_use;       /* bytes lent */
    uint64_t returned;     /* bytes given back since free buffers were last put together */
    uint64_t waits;        /* how often someone had to wait */
};

void buffer_pool_init(struct buffer_pool *pool, uint64_t limit);
/* All buffers are back. */
void buffer_pool_fini(struct buffer_pool *pool);
/* A buffer of at least `size` ≤ BUFFER_SIZE_MAX bytes, contents undefined; NULL if there is none now or others wait. */
void *buffer_take(struct buffer_pool *pool, size_t size);
/* Gives a buffer of `size` (as asked for) back; may serve a waiter. */
void buffer_give(struct buffer_pool *pool, void *take_buffer, size_t size);
/* Calls waiter->ready once a buffer of waiter->size is there. Only after buffer_take() gave NULL. */
void buffer_wait(struct buffer_pool *pool, struct buffer_waiter *waiter);
/* Serves waiters again, as the system may have memory now. The reactor calls it now and then while somebody waits: with no buffer
 * lent, no buffer_give() would. */
void buffer_pool_retry(struct buffer_pool *pool);
/* Leaves the queue; harmless if it is not in it. */
void buffer_wait_cancel(struct buffer_pool *pool, struct buffer_waiter *waiter);
