/* The storage plane, put together: reactors, block devices, JSON-RPC. What the methods work on; src/programs/penstock-block and
 * the tests make it. Calling context: the control reactor, unless said otherwise.
 * Must not know: the host's kind, options as typed, signals. */
#pragma once

#include "block/device.h"
#include "plane_rpc/notify.h"
#include "plane_rpc/rpc.h"
#include "reactor/reactor.h"

#define PLANE_REACTORS_MAX 64

struct nvme_initiator;
struct nvme_target;
struct rpc_listener;
struct plane;

/* How spdk_kill_instance ends the plane. */
enum plane_signal {
    PLANE_SIGNAL_INT,
    PLANE_SIGNAL_TERM,
    PLANE_SIGNAL_QUIT,
    PLANE_SIGNAL_HUP,
    PLANE_SIGNAL_KILL,
    PLANE_SIGNAL_USR1
};

struct plane_options {
    struct host *host;
    const char *socket_path; /* of JSON-RPC; NULL = none */
    const char *config_path; /* file of calls to run at start; NULL = none */
    bool wait_for_rpc;       /* service begins with framework_start_init */
    enum host_poll_mode poll_mode;
    const int *cpus; /* of the data reactors, -1 = unpinned; cpu_count of them, ≥ 1 */
    unsigned cpu_count;
    const char *version; /* "0.1.0" */
    uint64_t pid;        /* to be told to clients */
    const struct rpc_table *table;
    /* Where messages go (see base/log.h); any thread. */
    void (*log_write)(void *arg, const struct log_record *record);
    /* All is made, nothing runs yet: a last chance to prepare the control reactor. NULL = nothing to do. */
    void (*prepare)(void *arg, struct plane *plane);
    /* Service has begun; or the plane has failed to begin (error set): it is stopping. NULL = nobody is told. */
    void (*started)(void *arg, const struct error *error);
    /* A client wants the program to end. NULL = it cannot. */
    void (*kill)(void *arg, enum plane_signal signal);
    void *arg;
};

/* A call that waits for a device to appear. */
struct plane_waiter {
    struct list_node node;
    struct rpc_call *call;
    void (*run)(struct plane_waiter *waiter);    /* looks again: answers and frees itself, or waits on */
    void (*cancel)(struct plane_waiter *waiter); /* the plane stops: answers and frees itself */
};

struct plane {
    struct plane_options options;
    struct host *host;
    struct log log;
    struct reactor *control;                      /* index reactor_count */
    struct reactor *reactors[PLANE_REACTORS_MAX]; /* data reactors */
    unsigned reactor_count;
    struct block_graph graph;
    struct block_watcher watcher; /* of the graph */
    struct list stores;           /* struct plane_store */
    struct list openings;         /* stores on their way in: stores.c */
    struct list mirrors;          /* struct plane_mirror */
    struct hash_map mirror_names;
    struct list scans; /* struct plane_scan: copies and checksums of snapshots */
    uint32_t scan_ids; /* given out so far */
    unsigned scan_count;
    uint64_t mirror_bytes_per_s; /* of new ones, by themselves; 0 = as fast as it goes */
    struct nvme_initiator *initiator;
    struct nvme_target *target; /* NULL once it is gone, while the plane stops */
    struct rpc_server rpc;
    struct rpc_listener *listener;
    struct notify_ring notify;
    struct list waiters;            /* struct plane_waiter: look again when a device has come */
    struct reactor_job waiters_job; /* runs them */
    bool waiters_queued;
    struct list init_waiters;    /* those of framework_wait_init */
    struct list examines;        /* struct plane_examine: devices being looked at */
    struct plane_config *config; /* the file being run */
    struct reactor_message start_message, stop_message;
    struct reactor_timer stop_timer;
    uint64_t stop_deadline_ns;
    bool auto_examine;
    bool started;
    bool stopped_empty;    /* nothing was left when it stopped */
    _Atomic bool stopping; /* plane_stop() was called */
    uint64_t malloc_names; /* next default name Malloc<N> */
};

/* Makes everything and starts the reactors; service begins soon after (options->started tells), or by framework_start_init. Any
 * thread. The texts and arrays of the options stay valid. */
bool plane_create(const struct plane_options *options, struct plane **ret_plane, struct error *error);
/* Asks it to end: connections are closed, devices removed, then the control reactor's loop is stopped. Any thread; once. */
void plane_stop(struct plane *plane);
/* After the control reactor's loop has ended. Any thread. */
void plane_destroy(struct plane *plane);

static inline struct plane *plane_of(const struct rpc_call *call) { return call->server->owner; }
/* Begins service (RPC state, waiters). Once. */
void plane_begin_service(struct plane *plane);
/* Begins to bring the plane up: the configuration file's startup calls, service, its other calls. Once; ERROR_ALREADY. */
bool plane_start(struct plane *plane, struct error *error);
void plane_add_waiter(struct list *list, struct plane_waiter *waiter);
/* Has them look again, from the loop. */
void plane_wake_waiters(struct plane *plane);
/* An event for those who follow: `type` is static. Wakes those who wait for one. */
void plane_notify(struct plane *plane, const char *type, const char *context);
/* Finds a device or says ERROR_NO_DEVICE. */
struct block_device *plane_find_device(struct plane *plane, const char *name, struct error *error);
void plane_say_no_device(const char *name, struct error *error);
/* Nanoseconds as ticks, as the dialect reports times. */
uint64_t plane_ticks(const struct plane *plane, uint64_t ns);
