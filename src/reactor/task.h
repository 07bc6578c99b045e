/* Multi-step work (snapshot, connect, drain): one function, one switch over an enum in reading order, a table of allowed moves, a
 * deadline, an invariant checked at every move. Undo states stand below and are walked downward.
 *
 *     static void snapshot_step(struct task *task) {
 *         switch ((enum snapshot_state)task->state) {
 *         case SNAPSHOT_FREEZE: freeze(…); task_move(task, SNAPSHOT_DRAIN); break;
 *         case SNAPSHOT_DRAIN:  if (busy(…)) return;      // somebody calls task_wake() when that may have changed
 *                               task_move(task, SNAPSHOT_COMMIT); break;
 *         …
 *         case SNAPSHOT_DONE:   …; task_end(task); break; // then type->end
 *
 * Calling context: the reactor it was started on. */
#pragma once

#include "reactor/reactor.h"

struct task;

struct task_type {
    const char *name;
    const char *const *state_names;
    unsigned state_count;
    const uint64_t *moves;                      /* moves[from]: bit set of the states it may move to */
    void (*step)(struct task *task);            /* acts on task->state: moves, waits (just returns) or ends */
    void (*end)(struct task *task);             /* called last, after task_end(): may free the task; NULL = nothing to do */
    bool (*invariant)(const struct task *task); /* holds at every move; NULL = none */
};

struct task {
    const struct task_type *type;
    struct reactor *reactor;
    unsigned state;
    bool moved, queued, running, ended;
    bool expired; /* the deadline has passed; stays set, step() is called once for it */
    struct reactor_job job;
    struct reactor_timer deadline;
};

#define TASK_MOVE(state) (UINT64_C(1) << (state))

/* Begins in `state`; the first step runs from the loop. deadline_ns: absolute, UINT64_MAX = none. */
void task_start(struct task *task, const struct task_type *type, struct reactor *reactor, unsigned state, uint64_t deadline_ns);
/* Goes to another state, from inside step(); its step follows at once after this one returns. */
void task_move(struct task *task, unsigned state);
/* Something a waiting task looks at may have changed: its step runs again from the loop. Harmless when it is queued already or
 * has ended. */
void task_wake(struct task *task);
/* From inside step(): no step follows, the deadline is disarmed, type->end is called when step() has returned. */
void task_end(struct task *task);
static inline const char *task_state_name(const struct task *task) { return task->type->state_names[task->state]; }
