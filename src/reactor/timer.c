#include "reactor/timer.h"

#include <stdlib.h>

void timer_heap_init(struct timer_heap *heap) { *heap = (struct timer_heap){0}; }

void timer_heap_fini(struct timer_heap *heap) {
    free(heap->slots);
    timer_heap_init(heap);
}

static bool before(const struct reactor_timer *a, const struct reactor_timer *b) {
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

static void place(struct timer_heap *heap, size_t index, struct reactor_timer *timer) {
    heap->slots[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct timer_heap *heap, size_t index, struct reactor_timer *timer) {
    for (; index > 1 && before(timer, heap->slots[index / 2]); index /= 2)
        place(heap, index, heap->slots[index / 2]);
    place(heap, index, timer);
}

static void sift_down(struct timer_heap *heap, size_t index, struct reactor_timer *timer) {
    for (size_t child; (child = index * 2) <= heap->count; index = child) {
        if (child < heap->count && before(heap->slots[child + 1], heap->slots[child]))
            child++;
        if (!before(heap->slots[child], timer))
            break;
        place(heap, index, heap->slots[child]);
    }
    place(heap, index, timer);
}

void timer_heap_insert(struct timer_heap *heap, struct reactor_timer *timer) {
    if (heap->count + 1 >= heap->capacity) {
        size_t capacity = heap->capacity == 0 ? 64 : heap->capacity * 2;
        struct reactor_timer **slots = realloc(heap->slots, capacity * sizeof(struct reactor_timer *));
        assert(slots != NULL); /* a timer that cannot be armed would be a hang: stop here instead */
        heap->slots = slots;
        heap->capacity = capacity;
    }
    timer->order = heap->next_order++;
    sift_up(heap, ++heap->count, timer);
}

void timer_heap_remove(struct timer_heap *heap, struct reactor_timer *timer) {
    size_t index = timer->heap_index;
    assert(index >= 1 && index <= heap->count && heap->slots[index] == timer);
    timer->heap_index = 0;
    struct reactor_timer *last = heap->slots[heap->count--];
    if (last == timer)
        return;
    if (index > 1 && before(last, heap->slots[index / 2]))
        sift_up(heap, index, last);
    else
        sift_down(heap, index, last);
}
