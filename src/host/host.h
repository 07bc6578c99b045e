/* The only door to the outside world: clock, random, threads, files, sockets. Two implementations: host/linux (the real one) and
 * host/sim (a simulated cluster in one thread). Everything above is handed a `struct host` and calls nothing else of the system.
 *
 * Calling context: a host_loop's functions are called on that loop (inside its turn) unless said otherwise. Completions and
 * events are called inside host_loop_poll(), never from inside the call that asked for them. Errors are negative errno values;
 * this is the only layer that speaks them. */
#pragma once

#include "base/error.h"
#include "base/slice.h"

struct host;
struct host_loop;
struct host_file;
struct host_socket;
struct host_file_request;

/* ---- time and random ---- */

/* Reading a tick must cost a few cycles, since statistics do it twice a request. */
struct host {
    const struct host_ops *ops;
    bool ticks_are_tsc;        /* host_ticks() reads the processor's counter */
    uint64_t ticks_per_second; /* of host_ticks() */
};

/* Monotonic nanoseconds. The data path uses its turn's one reading (reactor_now) instead. Any thread. */
static inline uint64_t host_now_ns(struct host *host);
/* Ticks for durations. Any thread. */
static inline uint64_t host_ticks(struct host *host);
/* Nanoseconds since 1970, for logs and creation times only. Any thread. */
static inline uint64_t host_wall_ns(struct host *host);
/* Unpredictable bytes (predictable under the simulator's seed). Any thread. */
static inline void host_random(struct host *host, void *to, size_t length);

/* ---- memory ---- */

/* Zeroed memory for data in bulk, aligned to a page at least, taken from the system as it is first touched: in huge pages where
 * it is large and the system has them, since random access to gigabytes of small ones is mostly misses of the TLB. NULL: none.
 * Any thread; may sleep for microseconds. */
static inline void *host_memory_map(struct host *host, size_t bytes);
static inline void host_memory_unmap(struct host *host, void *take_memory, size_t bytes);
/* Memory that outlives this process, and nothing else that the page cache does not: found again under its name (and size) by the
 * next process of the same user, gone with the machine's power. `of` (NULL: nothing is known) is the path of what it is about:
 * what was left by a process that died is not kept for a file that was deleted, nor for more than some dozens of others. `anew`:
 * zeros, whatever was there; else what is there. NULL: there is none, a living process has it, or it cannot be kept here. Any
 * thread; may sleep for milliseconds. */
static inline void *host_memory_keep(struct host *host, const char *name, const char *of, size_t bytes, bool anew);
/* Unmaps it. `forget`: nobody will find it again. */
static inline void host_memory_leave(struct host *host, const char *name, void *take_memory, size_t bytes, bool forget);
#define HOST_KEPT_NAME_SIZE 64

/* ---- loops: each executes one reactor ---- */

enum host_poll_mode {
    HOST_POLL_ADAPTIVE, /* spin up to 100 µs after the last work, then block; at once while the core is contended */
    HOST_POLL_ALWAYS,   /* never block */
    HOST_POLL_NEVER     /* never spin */
};

struct host_turn {
    bool worked;          /* something was done: stay awake */
    uint64_t deadline_ns; /* call again by then at the latest; 0 = at once, UINT64_MAX = when woken */
};

/* A thread that is there already and waits for something to run (an lcore of DPDK's). host/linux only. */
struct host_launcher {
    /* Has the thread call main(arg). -errno or 0. */
    int (*launch)(struct host_launcher *launcher, void *(*main)(void *arg), void *arg);
    /* Until main has returned. */
    void (*wait)(struct host_launcher *launcher);
};

struct host_loop_options {
    const char *name; /* of the thread, ≤ 15 characters */
    int cpu;          /* to pin to; -1 = unpinned */
    enum host_poll_mode poll_mode;
    struct host_turn (*turn)(void *arg); /* never blocks; calls host_loop_poll() */
    /* The thread is about to block, and turns once more after this (true); or it does not block any more (false). NULL = nobody
     * is told. After a sleep, the first turn comes before it. host/linux only: nothing blocks in a simulation. */
    void (*sleeps)(void *arg, bool asleep);
    void *arg;
    struct host_launcher *launcher; /* whose thread turns the loop, pinned as it is; NULL = one of the loop's own */
};

/* Loads of a loop, for framework_get_reactors and the idle figures; relaxed counters, any thread may read. */
struct host_loop_stats {
    uint64_t busy_ns, idle_ns; /* time in turns that worked; all other time, asleep included */
    uint64_t turns, sleeps;
    uint64_t cpu_ns; /* processor time of the thread */
    uint64_t involuntary_switches;
    bool asleep;
};

/* Makes a loop, not yet running. Errors: -EINVAL (absent core), -ENOMEM, -EMFILE. Any thread. */
static inline int host_loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop);
/* Starts calling turns, in a thread of its own (host/linux) or from the simulator's scheduler. Once. */
static inline int host_loop_start(struct host_loop *loop);
/* Asks the loop to end after the current turn; any thread. host_loop_destroy() waits for the end: not from inside the loop. */
static inline void host_loop_stop(struct host_loop *loop);
static inline void host_loop_destroy(struct host_loop *loop);
/* Runs what is due without blocking: calls completions and socket events. Returns how many. Only inside the loop's turn. */
static inline unsigned host_loop_poll(struct host_loop *loop);
/* Hands prepared file requests to the kernel; a turn calls it last. */
static inline void host_loop_flush(struct host_loop *loop);
/* Makes a sleeping loop call turn() soon. Any thread; the caller has made its work visible (seq_cst) before. Cheap when awake. */
static inline void host_loop_wake(struct host_loop *loop);
static inline void host_loop_stats(struct host_loop *loop, struct host_loop_stats *ret_stats);

/* A job that may block (open, lookup, fsync of a directory): `run` in a helper thread, then `done` on the loop. Not cancellable.
 */
struct host_job {
    void (*run)(struct host_job *job);
    void (*done)(struct host_job *job);
    void *host_private[4];
};
static inline void host_job_submit(struct host_loop *loop, struct host_job *job);

/* ---- files and block devices ---- */

struct host_file_options {
    bool read_only;
    bool create;          /* make it (0600) if it is absent */
    uint64_t create_size; /* size of a file made here, bytes, sparse */
    bool direct;          /* O_DIRECT where the file system can, else buffered: see host_file_facts.direct */
    bool hold; /* exclusive lock on the description that carries the I/O (O_EXCL for a block device); shared if read_only */
    uint64_t hold_timeout_ms; /* how long to wait for the holder; for one that has ended longer, until its last writes have
                                 landed. 0 = not at all */
};

struct host_file_facts {
    uint64_t size;             /* bytes */
    uint32_t logical_block;    /* smallest aligned I/O in bytes (1 when buffered) */
    uint32_t physical_block;   /* power-fail unit if known, else 512 */
    uint32_t memory_alignment; /* of buffers */
    bool direct, block_device, in_memory /* tmpfs, ramfs */, can_punch, can_zero;
    uint64_t device, inode; /* identity: to refuse the same file twice */
};

/* Opening may sleep, so it is a job. The caller's memory; `done` on the loop. error: text names the path and what to do. */
struct host_file_open {
    const char *path; /* stays valid until done */
    struct host_file_options options;
    void (*done)(struct host_file_open *open);
    bool ok;
    struct error error;
    struct host_file *file; /* usable on every loop of the host */
    struct host_file_facts facts;
    void *host_private[8];
};
static inline void host_file_open_submit(struct host_loop *loop, struct host_file_open *open);
/* No request may be under way. Releases the lock. */
static inline void host_file_close(struct host_file *file);
/* Re-reads the size (after a grow). -errno or 0. */
static inline int host_file_size(struct host_file *file, uint64_t *ret_bytes);
/* Grows or cuts a regular file. May sleep: from a host_job's run only. */
static inline int host_file_truncate(struct host_file *file, uint64_t bytes);

enum host_file_op {
    HOST_FILE_READ,
    HOST_FILE_WRITE,
    HOST_FILE_SYNC,  /* fdatasync: everything completed before it was submitted is durable when it completes with 0 */
    HOST_FILE_PUNCH, /* deallocate; reads as zero or as before until rewritten on a device, zero on a file */
    HOST_FILE_ZERO   /* reads as zero afterwards */
};

/* One I/O; the submitter's memory and buffers, lent until `complete`. Never completes inside submit. */
struct host_file_request {
    struct host_file *file;
    enum host_file_op op;
    uint32_t slice_count;
    const struct slice *slices; /* READ, WRITE; at most HOST_FILE_SLICES_MAX */
    uint64_t offset, length;    /* bytes; length is the slices' total for READ and WRITE */
    int64_t result;             /* bytes moved (short only at the end of the file), 0, or -errno */
    void (*complete)(struct host_file_request *request);
    void *host_private[6];
};
#define HOST_FILE_SLICES_MAX 256
/* May batch: goes to the kernel at host_loop_flush() at the latest. */
static inline void host_file_submit(struct host_loop *loop, struct host_file_request *request);

/* ---- stream sockets ---- */

enum host_family { HOST_IPV4, HOST_IPV6, HOST_UNIX };
struct host_address {
    enum host_family family;
    uint16_t port;  /* host order; 0 when listening = any free one */
    char text[108]; /* numeric address, or the path of a Unix socket */
};

enum { HOST_READABLE = 1, HOST_WRITABLE = 2 /* also: connected */, HOST_CLOSED = 4 /* error or end of stream: read tells */ };
/* Edge-triggered: told once when there is more to read since the last -EAGAIN or short read (room to write since the last
 * -EAGAIN). Whoever stops at a short read is told of bytes that come later, but finds the end of the stream or an error only by
 * reading on once HOST_CLOSED was told. A listener is readable when accept has work. */
typedef void (*host_socket_event)(void *arg, unsigned events);

/* `error` names the address and why. Unix: mode 0600, a stale path is removed only if nobody answers there. On the loop that will
 * own it. */
static inline struct host_socket *host_listen(struct host_loop *loop, const struct host_address *address, host_socket_event event,
                                              void *arg, struct error *error);
/* A new connection, or NULL with -EAGAIN, -EMFILE, … in *ret_errno. The listener's loop owns it; no events until
 * host_socket_attach(). */
static inline struct host_socket *host_accept(struct host_socket *listener, struct host_address *ret_peer, int *ret_errno);
/* Begins to connect; HOST_WRITABLE or HOST_CLOSED tells the end, host_socket_error() which. `from` may be NULL. */
static inline struct host_socket *host_connect(struct host_loop *loop, const struct host_address *to,
                                               const struct host_address *from, host_socket_event event, void *arg,
                                               struct error *error);
/* 0 or the pending -errno of a connect. */
static inline int host_socket_error(struct host_socket *socket);
/* Where it is bound (a listener's actual port), and its peer. */
static inline void host_socket_local(struct host_socket *socket, struct host_address *ret_address);
/* Bytes moved; 0 from read = the peer closed; -EAGAIN = an event will tell; other -errno = dead. A read of fewer bytes than asked
 * for was short: there were no more. (A peer that sends urgent data can make it look so: who must have all reads to -EAGAIN.) */
static inline int64_t host_socket_read(struct host_socket *socket, const struct slice *slices, uint32_t count);
static inline int64_t host_socket_write(struct host_socket *socket, const struct slice *slices, uint32_t count);
/* Gives a socket (with its unread bytes) to another loop: detach on the old one, attach on the new one. After attach an event
 * comes if there is something to do already. Attach also sets the event function of an accepted connection. -errno or 0. */
static inline void host_socket_detach(struct host_socket *socket);
static inline int host_socket_attach(struct host_socket *socket, struct host_loop *loop, host_socket_event event, void *arg);
/* No event comes after it. What is written is still delivered, for as long as the system tries. */
static inline void host_socket_close(struct host_socket *socket);
/* Gives a connection up: as close, but what is written and has not left the machine never will, and the peer is told by a reset.
 * A Unix socket, which keeps nothing back, is closed. */
static inline void host_socket_reset(struct host_socket *socket);

/* ---- the table behind it ---- */

struct host_ops {
    uint64_t (*now_ns)(struct host *);
    uint64_t (*ticks)(struct host *);
    uint64_t (*wall_ns)(struct host *);
    void (*random)(struct host *, void *, size_t);
    void *(*memory_map)(struct host *, size_t);
    void (*memory_unmap)(struct host *, void *, size_t);
    void *(*memory_keep)(struct host *, const char *, const char *, size_t, bool);
    void (*memory_leave)(struct host *, const char *, void *, size_t, bool);
    int (*loop_create)(struct host *, const struct host_loop_options *, struct host_loop **);
    int (*loop_start)(struct host_loop *);
    void (*loop_stop)(struct host_loop *);
    void (*loop_destroy)(struct host_loop *);
    unsigned (*loop_poll)(struct host_loop *);
    void (*loop_flush)(struct host_loop *);
    void (*loop_wake)(struct host_loop *);
    void (*loop_stats)(struct host_loop *, struct host_loop_stats *);
    void (*job_submit)(struct host_loop *, struct host_job *);
    void (*file_open_submit)(struct host_loop *, struct host_file_open *);
    void (*file_close)(struct host_file *);
    int (*file_size)(struct host_file *, uint64_t *);
    int (*file_truncate)(struct host_file *, uint64_t);
    void (*file_submit)(struct host_loop *, struct host_file_request *);
    struct host_socket *(*listen)(struct host_loop *, const struct host_address *, host_socket_event, void *, struct error *);
    struct host_socket *(*accept)(struct host_socket *, struct host_address *, int *);
    struct host_socket *(*connect)(struct host_loop *, const struct host_address *, const struct host_address *,
                                   host_socket_event, void *, struct error *);
    int (*socket_error)(struct host_socket *);
    void (*socket_local)(struct host_socket *, struct host_address *);
    int64_t (*socket_read)(struct host_socket *, const struct slice *, uint32_t);
    int64_t (*socket_write)(struct host_socket *, const struct slice *, uint32_t);
    void (*socket_detach)(struct host_socket *);
    int (*socket_attach)(struct host_socket *, struct host_loop *, host_socket_event, void *);
    void (*socket_close)(struct host_socket *);
    void (*socket_reset)(struct host_socket *);
};

/* Each implementation's loop, file and socket begin with this. */
struct host_loop {
    struct host *host;
};
struct host_file {
    struct host *host;
};
struct host_socket {
    struct host *host;
};

static inline uint64_t host_now_ns(struct host *host) { return host->ops->now_ns(host); }
static inline uint64_t host_ticks(struct host *host) {
#if defined(__x86_64__)
    if (likely(host->ticks_are_tsc))
        return __builtin_ia32_rdtsc();
#endif
    return host->ops->ticks(host);
}
static inline uint64_t host_wall_ns(struct host *host) { return host->ops->wall_ns(host); }
static inline void host_random(struct host *host, void *to, size_t length) { host->ops->random(host, to, length); }
static inline void *host_memory_map(struct host *host, size_t bytes) { return host->ops->memory_map(host, bytes); }
static inline void host_memory_unmap(struct host *host, void *take_memory, size_t bytes) {
    host->ops->memory_unmap(host, take_memory, bytes);
}
static inline void *host_memory_keep(struct host *host, const char *name, const char *of, size_t bytes, bool anew) {
    return host->ops->memory_keep == NULL ? NULL : host->ops->memory_keep(host, name, of, bytes, anew);
}
static inline void host_memory_leave(struct host *host, const char *name, void *take_memory, size_t bytes, bool forget) {
    host->ops->memory_leave(host, name, take_memory, bytes, forget);
}
static inline int host_loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop) {
    return host->ops->loop_create(host, options, ret_loop);
}
static inline int host_loop_start(struct host_loop *loop) { return loop->host->ops->loop_start(loop); }
static inline void host_loop_stop(struct host_loop *loop) { loop->host->ops->loop_stop(loop); }
static inline void host_loop_destroy(struct host_loop *loop) { loop->host->ops->loop_destroy(loop); }
static inline unsigned host_loop_poll(struct host_loop *loop) { return loop->host->ops->loop_poll(loop); }
static inline void host_loop_flush(struct host_loop *loop) { loop->host->ops->loop_flush(loop); }
static inline void host_loop_wake(struct host_loop *loop) { loop->host->ops->loop_wake(loop); }
static inline void host_loop_stats(struct host_loop *loop, struct host_loop_stats *ret_stats) {
    loop->host->ops->loop_stats(loop, ret_stats);
}
static inline void host_job_submit(struct host_loop *loop, struct host_job *job) { loop->host->ops->job_submit(loop, job); }
static inline void host_file_open_submit(struct host_loop *loop, struct host_file_open *open) {
    loop->host->ops->file_open_submit(loop, open);
}
static inline void host_file_close(struct host_file *file) { file->host->ops->file_close(file); }
static inline int host_file_size(struct host_file *file, uint64_t *ret_bytes) {
    return file->host->ops->file_size(file, ret_bytes);
}
static inline int host_file_truncate(struct host_file *file, uint64_t bytes) {
    return file->host->ops->file_truncate(file, bytes);
}
static inline void host_file_submit(struct host_loop *loop, struct host_file_request *request) {
    loop->host->ops->file_submit(loop, request);
}
static inline struct host_socket *host_listen(struct host_loop *loop, const struct host_address *address, host_socket_event event,
                                              void *arg, struct error *error) {
    return loop->host->ops->listen(loop, address, event, arg, error);
}
static inline struct host_socket *host_accept(struct host_socket *listener, struct host_address *ret_peer, int *ret_errno) {
    return listener->host->ops->accept(listener, ret_peer, ret_errno);
}
static inline struct host_socket *host_connect(struct host_loop *loop, const struct host_address *to,
                                               const struct host_address *from, host_socket_event event, void *arg,
                                               struct error *error) {
    return loop->host->ops->connect(loop, to, from, event, arg, error);
}
static inline int host_socket_error(struct host_socket *socket) { return socket->host->ops->socket_error(socket); }
static inline void host_socket_local(struct host_socket *socket, struct host_address *ret_address) {
    socket->host->ops->socket_local(socket, ret_address);
}
static inline int64_t host_socket_read(struct host_socket *socket, const struct slice *slices, uint32_t count) {
    return socket->host->ops->socket_read(socket, slices, count);
}
static inline int64_t host_socket_write(struct host_socket *socket, const struct slice *slices, uint32_t count) {
    return socket->host->ops->socket_write(socket, slices, count);
}
static inline void host_socket_detach(struct host_socket *socket) { socket->host->ops->socket_detach(socket); }
static inline int host_socket_attach(struct host_socket *socket, struct host_loop *loop, host_socket_event event, void *arg) {
    return socket->host->ops->socket_attach(socket, loop, event, arg);
}
static inline void host_socket_close(struct host_socket *socket) { socket->host->ops->socket_close(socket); }
static inline void host_socket_reset(struct host_socket *socket) { socket->host->ops->socket_reset(socket); }
