/* The event loop: jobs, messages, timers and buffers of one core. A turn never blocks; host_loop decides between turns whether to
 * spin or to sleep (host/linux), or moves the virtual clock (host/sim).
 *
 * Calling context: everything here is for the reactor's own turn, unless a comment says "any thread". */
#pragma once

#include <stdatomic.h>

#include "base/list.h"
#include "host/host.h"
#include "reactor/buffer.h"
#include "reactor/timer.h"

struct reactor;

/* A continuation that runs later in this turn or in the next one. Embedded in its owner; may be queued once at a time. */
struct reactor_job {
    struct queue_node node;
    void (*run)(struct reactor_job *job);
};

/* A job sent to another reactor. Embedded in its owner, who does not touch it until it has run. */
struct reactor_message {
    struct reactor_message *next;
    void (*run)(struct reactor_message *message);
};

/* Work that no message, timer or descriptor tells of, such as frames in shared memory: looked at every turn. */
struct reactor_poller {
    /* Does what there is, up to a burst; returns how much it was: 0 = nothing. */
    unsigned (*poll)(struct reactor_poller *poller);
    /* The loop is about to block (true), and polls once more after this: what can wake it is to be armed. Returns how long it may
     * sleep at most, ns; UINT64_MAX = until woken. Or it has woken (false). Hosts that simulate do not call it. */
    uint64_t (*sleep)(struct reactor_poller *poller, bool asleep);
};

struct reactor_options {
    const char *name;
    int cpu; /* -1 = unpinned */
    enum host_poll_mode poll_mode;
    unsigned index;                 /* 0 … of this node; a control reactor has the index after the last data reactor's */
    uint64_t buffer_limit;          /* bytes of payload buffers it may take, 0 = BUFFER_LIMIT_DEFAULT */
    struct host_launcher *launcher; /* whose thread turns it; NULL = one of its own */
};

struct reactor {
    struct host *host;
    struct host_loop *loop;
    char name[16];
    unsigned index;
    uint64_t now_ns;    /* the turn's one clock reading */
    struct queue ready; /* jobs for this turn */
    struct queue late;  /* jobs for the end of this turn */
    struct timer_heap timers;
    struct reactor_poller *poller; /* NULL = none */
    uint64_t poll_within_ns;       /* what the poller said of the sleep to come */
    struct buffer_pool buffers;
    uint64_t buffers_retried_ns;             /* while somebody waits for one */
    uint64_t jobs_run, messages_run;         /* statistics, this reactor writes */
    _Atomic(struct reactor_message *) inbox; /* pushed by any thread, newest first */
};

/* Makes a reactor and its loop; it runs from reactor_start() on. Errors as host_loop_create(). Any thread. */
int reactor_create(struct host *host, const struct reactor_options *options, struct reactor **ret_reactor);
/* Starts turning. Between create and start the creator may submit, defer and arm timers as if it were on the reactor. */
int reactor_start(struct reactor *reactor);
/* Stops turning after the current turn, waits for it, and frees the reactor. What is still queued never runs. Not from inside it.
 */
void reactor_destroy(struct reactor *reactor);

/* The reactor whose turn runs on this thread; NULL outside of one. */
struct reactor *reactor_current(void);
/* Makes `reactor` the current one of this thread while it does not turn (assembling a node before the start, tests). NULL ends
 * that. */
void reactor_enter(struct reactor *reactor);

/* Has `poller` called from the next turn on; NULL = none any more. */
void reactor_set_poller(struct reactor *reactor, struct reactor_poller *poller);

/* The turn's clock reading, nanoseconds. */
static inline uint64_t reactor_now_ns(const struct reactor *reactor) { return reactor->now_ns; }

/* Runs `job` from the loop: in this turn while its budget lasts, else in the next. FIFO. */
static inline void reactor_defer(struct reactor *reactor, struct reactor_job *job) { queue_push(&reactor->ready, &job->node); }
/* Runs `job` once at the end of this turn, after all ready jobs: where work of many requests is sent or committed as one. */
static inline void reactor_defer_late(struct reactor *reactor, struct reactor_job *job) {
    queue_push(&reactor->late, &job->node);
}
/* Runs `message` on `target`, in order of posting from one thread. Any thread. */
void reactor_post(struct reactor *target, struct reactor_message *message);

/* Calls timer->run at or soon after the deadline (now at the earliest: never from inside). An armed timer is moved. */
void reactor_timer_start(struct reactor *reactor, struct reactor_timer *timer, uint64_t deadline_ns);
/* The same for what may as well be later, by less than `tick_ns` (> 0): all that is due within a tick wakes the loop once. */
static inline void reactor_timer_start_coarse(struct reactor *reactor, struct reactor_timer *timer, uint64_t deadline_ns,
                                              uint64_t tick_ns) {
    reactor_timer_start(reactor, timer, divide_up(deadline_ns, tick_ns) * tick_ns);
}
/* Harmless if it is not armed. */
void reactor_timer_stop(struct reactor *reactor, struct reactor_timer *timer);
