#include "reactor/reactor.h"

#include <stdio.h>
#include <stdlib.h>

/* Jobs a turn runs before it looks at the kernel again: long enough to pay for the look, short enough for a few tens of µs. */
#define JOBS_PER_TURN 512
/* How often the system is asked again for memory while somebody waits for a buffer. */
#define BUFFER_RETRY_NS (10 * NS_PER_MS)

/* The one thread-local of the house: who is running. */
static _Thread_local struct reactor *current;

struct reactor *reactor_current(void) {
    return current;
}

void reactor_enter(struct reactor *reactor) {
    current = reactor;
    if (reactor != NULL)
        reactor->now_ns = host_now_ns(reactor->host);
}

static unsigned run_messages(struct reactor *reactor) {
    if (atomic_load_explicit(&reactor->inbox, memory_order_relaxed) == NULL)
        return 0;
    /* acquire: pairs with the release of each push, so that what the sender wrote is seen */
    struct reactor_message *newest = atomic_exchange_explicit(&reactor->inbox, NULL, memory_order_acquire), *oldest = NULL;
    while (newest != NULL) {
        struct reactor_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    unsigned count = 0;
    while (oldest != NULL) {
        struct reactor_message *message = oldest;
        oldest = oldest->next;
        message->run(message);
        count++;
    }
    reactor->messages_run += count;
    return count;
}

static unsigned run_timers(struct reactor *reactor) {
    unsigned count = 0;
    uint64_t until = reactor->timers.next_order; /* those started from here on wait for the next turn */
    for (struct reactor_timer *timer; (timer = timer_heap_first(&reactor->timers)) != NULL; count++) {
        if (timer->deadline_ns > reactor->now_ns || timer->order >= until)
            break;
        timer_heap_remove(&reactor->timers, timer);
        timer->run(timer);
    }
    return count;
}

static unsigned run_jobs(struct reactor *reactor, struct queue *queue, unsigned budget) {
    unsigned count = 0;
    for (struct queue_node *node; count < budget && (node = queue_pop(queue)) != NULL; count++) {
        struct reactor_job *job = container_of(node, struct reactor_job, node);
        job->run(job);
    }
    reactor->jobs_run += count;
    return count;
}

static struct host_turn turn(void *arg) {
    struct reactor *reactor = arg;
    reactor_enter(reactor);
    unsigned worked = host_loop_poll(reactor->loop);
    worked += run_messages(reactor);
    worked += run_timers(reactor);
    bool short_of_buffers = !list_empty(&reactor->buffers.waiters);
    if (unlikely(short_of_buffers) && reactor->now_ns - reactor->buffers_retried_ns >= BUFFER_RETRY_NS) {
        reactor->buffers_retried_ns = reactor->now_ns;
        buffer_pool_retry(&reactor->buffers);
    }
    worked += run_jobs(reactor, &reactor->ready, JOBS_PER_TURN);
    worked += run_jobs(reactor, &reactor->late, JOBS_PER_TURN);
    if (reactor->poller != NULL)
        worked += reactor->poller->poll(reactor->poller);
    host_loop_flush(reactor->loop);
    struct host_turn result = {.worked = worked > 0, .deadline_ns = UINT64_MAX};
    struct reactor_timer *timer = timer_heap_first(&reactor->timers);
    if (!queue_empty(&reactor->ready) || !queue_empty(&reactor->late))
        result.deadline_ns = 0;
    else if (timer != NULL)
        result.deadline_ns = timer->deadline_ns;
    if (reactor->poll_within_ns != UINT64_MAX)
        result.deadline_ns = min_u64(result.deadline_ns, reactor->now_ns + reactor->poll_within_ns);
    if (unlikely(short_of_buffers))
        result.deadline_ns = min_u64(result.deadline_ns, reactor->now_ns + BUFFER_RETRY_NS);
    /* seq_cst: the loop has announced that it may sleep before its last turn; a sender that pushed after this load sees that and
     * wakes it */
    if (atomic_load(&reactor->inbox) != NULL)
        result.deadline_ns = 0;
    reactor_enter(NULL);
    return result;
}

static void sleeps(void *arg, bool asleep) {
    struct reactor *reactor = arg;
    if (reactor->poller == NULL)
        return;
    reactor_enter(reactor);
    uint64_t within_ns = reactor->poller->sleep(reactor->poller, asleep);
    reactor->poll_within_ns = asleep ? within_ns : UINT64_MAX;
    reactor_enter(NULL);
}

void reactor_set_poller(struct reactor *reactor, struct reactor_poller *poller) {
    reactor->poller = poller;
    reactor->poll_within_ns = UINT64_MAX;
}

int reactor_create(struct host *host, const struct reactor_options *options, struct reactor **ret_reactor) {
    struct reactor *reactor = calloc(1, sizeof(*reactor));
    if (reactor == NULL)
        return error_facts(ERROR_NO_MEMORY)->negative_errno;
    reactor->host = host;
    reactor->index = options->index;
    snprintf(reactor->name, sizeof(reactor->name), "%s", options->name);
    reactor->poll_within_ns = UINT64_MAX;
    queue_init(&reactor->ready);
    queue_init(&reactor->late);
    timer_heap_init(&reactor->timers);
    buffer_pool_init(&reactor->buffers, options->buffer_limit);
    struct host_loop_options loop_options = {.name = reactor->name,
                                             .cpu = options->cpu,
                                             .poll_mode = options->poll_mode,
                                             .turn = turn,
                                             .sleeps = sleeps,
                                             .arg = reactor,
                                             .launcher = options->launcher};
    int result = host_loop_create(host, &loop_options, &reactor->loop);
    if (result != 0) {
        free(reactor);
        return result;
    }
    reactor->now_ns = host_now_ns(host);
    *ret_reactor = reactor;
    return 0;
}

int reactor_start(struct reactor *reactor) { return host_loop_start(reactor->loop); }

void reactor_destroy(struct reactor *reactor) {
    host_loop_stop(reactor->loop);
    host_loop_destroy(reactor->loop);
    timer_heap_fini(&reactor->timers);
    buffer_pool_fini(&reactor->buffers);
    free(reactor);
}

void reactor_post(struct reactor *target, struct reactor_message *message) {
    struct reactor_message *head = atomic_load_explicit(&target->inbox, memory_order_relaxed);
    do
        message->next = head;
    while (
        !atomic_compare_exchange_weak(&target->inbox, &head, message)); /* seq_cst: orders the push before the look at "asleep" */
    host_loop_wake(target->loop);
}

void reactor_timer_start(struct reactor *reactor, struct reactor_timer *timer, uint64_t deadline_ns) {
    if (reactor_timer_armed(timer))
        timer_heap_remove(&reactor->timers, timer);
    timer->deadline_ns = deadline_ns;
    timer_heap_insert(&reactor->timers, timer);
}

void reactor_timer_stop(struct reactor *reactor, struct reactor_timer *timer) {
    if (reactor_timer_armed(timer))
        timer_heap_remove(&reactor->timers, timer);
}
