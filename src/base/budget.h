/* A limit on memory that many share: each holder's budget stands in a parent's (a connection's in its server's). Counts, and
 * allocates nothing. One owner at a time. */
#pragma once

#include "base/bytes.h"

struct budget {
    struct budget *parent;                  /* NULL = none; takes and gives the same bytes */
    size_t used, limit;                     /* bytes */
    uint64_t refusals;                      /* takes that this budget (and not its parent) refused */
    void (*refused)(struct budget *budget); /* is told of each; NULL = not */
};

static inline void budget_init(struct budget *budget, struct budget *parent, size_t limit) {
    *budget = (struct budget){.parent = parent, .limit = limit};
}

/* True: all of `bytes` are had, up to the topmost parent; false: none. */
static inline bool budget_take(struct budget *budget, size_t bytes) {
    if (!range_inside(budget->used, bytes, budget->limit)) {
        budget->refusals++;
        if (budget->refused != NULL)
            budget->refused(budget);
        return false;
    }
    if (budget->parent != NULL && !budget_take(budget->parent, bytes))
        return false;
    budget->used += bytes;
    return true;
}

static inline void budget_give(struct budget *budget, size_t bytes) {
    for (; budget != NULL; budget = budget->parent) {
        assert(budget->used >= bytes);
        budget->used -= bytes;
    }
}
