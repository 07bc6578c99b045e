#include "reactor/task.h"

static void run(struct reactor_job *job) {
    struct task *task = container_of(job, struct task, job);
    task->queued = false;
    task->running = true;
    while (!task->ended) {
        task->moved = false;
        task->type->step(task);
        if (!task->moved)
            break;
    }
    task->running = false;
    if (task->ended && !task->queued && task->type->end != NULL)
        task->type->end(task);
}

static void expire(struct reactor_timer *timer) {
    struct task *task = container_of(timer, struct task, deadline);
    task->expired = true;
    task_wake(task);
}

void task_start(struct task *task, const struct task_type *type, struct reactor *reactor, unsigned state, uint64_t deadline_ns) {
    assert(state < type->state_count && type->state_count <= 64);
    *task = (struct task){.type = type, .reactor = reactor, .state = state, .job.run = run, .deadline.run = expire};
    if (deadline_ns != UINT64_MAX)
        reactor_timer_start(reactor, &task->deadline, deadline_ns);
    task_wake(task);
}

void task_move(struct task *task, unsigned state) {
    assert(task->running && !task->ended && state < task->type->state_count);
    assert((task->type->moves[task->state] & TASK_MOVE(state)) != 0);
    task->state = state;
    task->moved = true;
    assert(task->type->invariant == NULL || task->type->invariant(task));
}

void task_wake(struct task *task) {
    if (task->queued || task->ended)
        return;
    task->queued = true;
    reactor_defer(task->reactor, &task->job);
}

void task_end(struct task *task) {
    assert(task->running);
    reactor_timer_stop(task->reactor, &task->deadline);
    task->ended = true;
}
