/* Intrusive doubly linked list (struct list) and singly linked FIFO (struct queue). No allocation; one owner at a time.
 * A list_node that is on no list is self-linked or zero; list_remove() leaves it self-linked. */
#pragma once

#include "base/bytes.h"

struct list_node {
    struct list_node *prev, *next;
};
struct list {
    struct list_node head;
};

static inline void list_node_init(struct list_node *n) { n->prev = n->next = n; }
static inline void list_init(struct list *l) { list_node_init(&l->head); }
static inline bool list_empty(const struct list *l) { return l->head.next == &l->head; }
/* True while the node is on a list (a zeroed node is on none). */
static inline bool list_linked(const struct list_node *n) { return n->next != NULL && n->next != n; }
static inline void list_insert_after(struct list_node *at, struct list_node *n) {
    n->prev = at;
    n->next = at->next;
    at->next->prev = n;
    at->next = n;
}
static inline void list_push_back(struct list *l, struct list_node *n) { list_insert_after(l->head.prev, n); }
static inline void list_push_front(struct list *l, struct list_node *n) { list_insert_after(&l->head, n); }
static inline void list_remove(struct list_node *n) {
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_node_init(n);
}
static inline struct list_node *list_first(const struct list *l) { return list_empty(l) ? NULL : l->head.next; }
static inline struct list_node *list_last(const struct list *l) { return list_empty(l) ? NULL : l->head.prev; }
static inline struct list_node *list_pop_front(struct list *l) {
    struct list_node *n = list_first(l);
    if (n != NULL)
        list_remove(n);
    return n;
}
/* Moves all nodes of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from) {
    if (list_empty(from))
        return;
    struct list_node *first = from->head.next, *last = from->head.prev, *tail = to->head.prev;
    tail->next = first;
    first->prev = tail;
    last->next = &to->head;
    to->head.prev = last;
    list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_for_each(list_, type, var, member)                                                                                  \
    for (type *var = list_entry((list_)->head.next, type, member); &var->member != &(list_)->head;                               \
         var = list_entry(var->member.next, type, member))
/* The body may remove (and free) `var`, nothing else. */
#define list_for_each_safe(list_, type, var, member)                                                                             \
    for (type *var = list_entry((list_)->head.next, type, member), *var##_next = list_entry(var->member.next, type, member);     \
         &var->member != &(list_)->head; var = var##_next, var##_next = list_entry(var->member.next, type, member))

struct queue_node {
    struct queue_node *next;
};
struct queue {
    struct queue_node *first, **last; /* last: where the next node is linked */
};

static inline void queue_init(struct queue *q) {
    q->first = NULL;
    q->last = &q->first;
}
static inline bool queue_empty(const struct queue *q) { return q->first == NULL; }
static inline void queue_push(struct queue *q, struct queue_node *n) {
    n->next = NULL;
    *q->last = n;
    q->last = &n->next;
}
static inline struct queue_node *queue_pop(struct queue *q) {
    struct queue_node *n = q->first;
    if (n != NULL && (q->first = n->next) == NULL)
        q->last = &q->first;
    return n;
}
