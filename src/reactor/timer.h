/* Timers of one reactor: a binary heap of pointers to embedded nodes, so that starting and stopping cost O(log n) and no
 * allocation but the array's doubling. Use reactor_timer_start() and _stop(). */
#pragma once

#include "base/bytes.h"

struct reactor_timer {
    void (*run)(struct reactor_timer *timer);
    uint64_t deadline_ns;
    uint64_t order;    /* equal deadlines fire in order of starting */
    size_t heap_index; /* 1-based; 0 = not armed */
};

struct timer_heap {
    struct reactor_timer **slots; /* slots[1 … count] */
    size_t count, capacity;
    uint64_t next_order;
};

void timer_heap_init(struct timer_heap *heap);
void timer_heap_fini(struct timer_heap *heap);
void timer_heap_insert(struct timer_heap *heap, struct reactor_timer *timer);
void timer_heap_remove(struct timer_heap *heap, struct reactor_timer *timer);
static inline struct reactor_timer *timer_heap_first(const struct timer_heap *heap) {
    return heap->count > 0 ? heap->slots[1] : NULL;
}
static inline bool reactor_timer_armed(const struct reactor_timer *timer) { return timer->heap_index != 0; }
