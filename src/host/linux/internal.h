/* What the files of host/linux share. Nobody outside this folder includes it (tests of the folder do). */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "host/linux/linux.h"
#include "host/linux/spin.h"

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

enum { INHERITED_MAX = 16 };
enum { POOL_THREADS_MAX = 64, EPOLL_BATCH = 64, RING_ENTRIES = 256, RING_IN_FLIGHT_MAX = 1024 };

/* ---- helper threads (pool.c) ---- */

struct linux_loop;
/* One piece of blocking work, embedded in the request's host_private: `run` in a helper thread, then `done` on the loop. */
struct thread_pool_work {
    struct queue_node node;
    struct linux_loop *loop;
    void (*run)(struct thread_pool_work *work);
    void (*done)(struct thread_pool_work *work);
};
struct thread_pool {
    const char *name;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue queue;
    uint64_t queued;
    unsigned threads, idle, limit;
    bool stopping;
    pthread_t ids[POOL_THREADS_MAX];
};
void thread_pool_init(struct thread_pool *pool, const char *name, unsigned limit);
/* The queue is empty. Waits for the threads to end. */
void thread_pool_fini(struct thread_pool *pool);
/* Queues `work` (its loop, run and done are set); starts a thread if none is idle. On the loop. */
void thread_pool_submit(struct thread_pool *pool, struct thread_pool_work *work);

/* ---- the host ---- */

struct linux_loop;
struct linux_host {
    struct host base;
    struct host_linux_options options;
    struct thread_pool jobs, io;
    sigset_t signals; /* empty without options.signals */
    _Atomic bool ring_refused;
    int inherited[INHERITED_MAX]; /* listening sockets that the service manager has opened, not yet taken */
    unsigned inherited_count;
};

/* Says `text` to the operator. */
void linux_log(struct linux_host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* service.c: takes note of sockets that were opened for this process; before any thread runs. */
void linux_inherit_sockets(struct linux_host *host);
/* The one that listens at this system address, -1 if there is none. Before threads run, or on the loop that owns listeners. */
int linux_take_inherited(struct linux_host *host, const void *address, size_t length);
void linux_close_inherited(struct linux_host *host);
/* Undoes host_linux_watchdog(). */
void linux_watchdog_end(struct linux_loop *loop);
/* Undoes host_linux_watch_signals(). */
void linux_signals_unwatch(struct linux_loop *loop);
/* Finds out whether the processor's counter can be trusted, and its rate. */
void linux_ticks_calibrate(struct host *host);

/* ---- loops (loop.c) ---- */

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Something in a loop's epoll set. */
struct watch {
    int fd;
    void (*fire)(struct watch *watch, uint32_t events); /* NULL: waking up was all */
};

struct ring;         /* ring.c */
struct signal_watch; /* host.c */

struct linux_loop {
    struct host_loop base;
    struct host_loop_options options;
    char name[16];
    struct linux_host *host;
    pthread_t thread;
    bool started, joined;
    bool coarse_timeouts; /* epoll_pwait2() is refused: milliseconds, rounded up */
    int epoll_fd;
    struct watch wake;
    struct spin spin;
    int schedstat_fd; /* of the thread that turns; -1 = there is none */

    /* The last epoll_wait's events; a watch that leaves the set is struck out of it. */
    struct epoll_event batch[EPOLL_BATCH];
    unsigned batch_count, batch_next;
    unsigned watched;         /* sockets and the like, not `wake` and not the ring */
    uint64_t epoll_next;      /* ticks: when to look again although nothing came lately */
    uint64_t epoll_hot_until; /* ticks: look every turn until then */

    struct queue sync; /* file requests to carry out inside poll (tmpfs) */
    struct ring *ring; /* made by the first request that needs it */
    struct signal_watch *signals;
    struct watch watchdog; /* fire NULL = none */

    /* Counters: written by the loop, read by any thread, relaxed. */
    _Atomic uint64_t busy_ticks, turns, sleeps, switches;
    pthread_mutex_t lock; /* of `started` and what follows: the thread's clock can be read only while it runs */
    uint64_t started_ticks;
    bool running;
    uint64_t cpu_ns_at_end;

    /* Shared with other threads; lines of their own. */
    _Alignas(64) _Atomic(struct queue_node *) done; /* thread_pool_work that ran, newest first */
    _Atomic uint32_t in_pool;                       /* thread_pool_work not yet taken from `done` */
    _Alignas(64) _Atomic uint32_t asleep;           /* 1 = blocks or is about to: whoever takes it to 0 writes the eventfd */
    _Atomic bool stop;
};

/* Adds to and removes from the epoll set. On the loop, or before it starts. -errno or 0. */
int linux_loop_watch(struct linux_loop *loop, struct watch *watch, uint32_t events);
void linux_loop_unwatch(struct linux_loop *loop, struct watch *watch);
/* Hands a finished piece of work back to its loop. Helper threads. */
void linux_loop_work_done(struct thread_pool_work *work);

int linux_loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop);
int linux_loop_start(struct host_loop *base);
void linux_loop_stop(struct host_loop *base);
void linux_loop_destroy(struct host_loop *base);
unsigned linux_loop_poll(struct host_loop *base);
void linux_loop_flush(struct host_loop *base);
void linux_loop_wake(struct host_loop *base);
void linux_loop_stats(struct host_loop *base, struct host_loop_stats *ret_stats);

/* ---- files (file_open.c, file_io.c, ring.c) ---- */

struct linux_file {
    struct host_file base;
    int fd;
    bool synchronous; /* on tmpfs or ramfs: calls do not sleep */
    bool block_device;
};

/* host_file_request.host_private */
struct file_io {
    struct thread_pool_work work;
    uint64_t moved; /* bytes done before a short transfer was continued */
};
static_assert(sizeof(struct file_io) <= sizeof(((struct host_file_request *)0)->host_private), "fits the request");
static inline struct file_io *file_io_of(struct host_file_request *request) {
    return (struct file_io *)(void *)request->host_private;
}
static inline struct host_file_request *file_io_request(struct thread_pool_work *work) {
    return container_of((void **)(void *)work, struct host_file_request, host_private[0]);
}

void *linux_memory_keep(struct host *host, const char *name, const char *of, size_t bytes, bool anew);
void linux_memory_leave(struct host *host, const char *name, void *take_memory, size_t bytes, bool forget);
void linux_file_open_submit(struct host_loop *loop, struct host_file_open *open);
void linux_file_close(struct host_file *file);
int linux_file_size(struct host_file *file, uint64_t *ret_bytes);
int linux_file_truncate(struct host_file *file, uint64_t bytes);
void linux_file_submit(struct host_loop *loop, struct host_file_request *request);
/* Carries out what is left of the request by blocking calls; sets its result. Any thread. */
void linux_file_io_run(struct host_file_request *request);
/* Gives the request (what is left of it) to a helper thread. */
void linux_file_io_to_threads(struct linux_loop *loop, struct host_file_request *request);
/* Carries out and completes what file_submit queued for tmpfs. Returns how many. */
unsigned linux_file_io_poll(struct linux_loop *loop);

/* False: the kernel refuses io_uring, use the pool. */
bool linux_ring_submit(struct linux_loop *loop, struct host_file_request *request);
unsigned linux_ring_poll(struct linux_loop *loop);
/* Enters the kernel with what is prepared. */
void linux_ring_flush(struct linux_loop *loop);
/* Before and after a sleep: whether completions are to wake the loop. */
void linux_ring_sleeps(struct linux_loop *loop, bool asleep);
/* True if something is to be handed over or taken: do not sleep. */
bool linux_ring_pending(const struct linux_loop *loop);
/* On any thread, when the loop's thread has ended. */
void linux_ring_destroy(struct linux_loop *loop);

/* ---- sockets (socket.c) ---- */

struct host_socket *linux_listen(struct host_loop *loop, const struct host_address *address, host_socket_event event, void *arg,
                                 struct error *error);
struct host_socket *linux_accept(struct host_socket *listener, struct host_address *ret_peer, int *ret_errno);
struct host_socket *linux_connect(struct host_loop *loop, const struct host_address *to, const struct host_address *from,
                                  host_socket_event event, void *arg, struct error *error);
int linux_socket_error(struct host_socket *socket);
void linux_socket_local(struct host_socket *socket, struct host_address *ret_address);
int64_t linux_socket_read(struct host_socket *socket, const struct slice *slices, uint32_t count);
int64_t linux_socket_write(struct host_socket *socket, const struct slice *slices, uint32_t count);
void linux_socket_detach(struct host_socket *socket);
int linux_socket_attach(struct host_socket *socket, struct host_loop *loop, host_socket_event event, void *arg);
void linux_socket_close(struct host_socket *socket);
void linux_socket_reset(struct host_socket *socket);
