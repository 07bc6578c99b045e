/* The packet plane, put together: workers, the model that they run, and the changes of it, one after the other. docs/packet.md,
 * "Change". Calling context: the control reactor, unless said otherwise. Must not know: JSON-RPC, DPDK. */
#pragma once

#include "base/log.h"
#include "packet/model.h"
#include "reactor/task.h"

#define PACKET_QUEUES_MAX 8 /* of a port */

enum packet_port_kind {
    PACKET_PORT_AF_PACKET,
    PACKET_PORT_TAP,
    PACKET_PORT_VHOST_USER,
    PACKET_PORT_MEMIF,
    PACKET_PORT_RING,
    PACKET_PORT_NULL,
    PACKET_PORT_PCAP,
    PACKET_PORT_AF_XDP,
    PACKET_PORT_PCI,
    PACKET_PORT_KIND_COUNT
};

/* What a port is made of; members that its kind has not are unset. Texts are the change's. */
struct packet_port_options {
    const char *name;
    enum packet_port_kind kind;
    const char *interface;         /* af_packet, af_xdp: there; tap: to be made */
    const char *device;            /* pci: address, "0000:03:00.0" */
    const char *socket;            /* vhost_user, memif: path */
    bool client;                   /* vhost_user: the peer listens */
    uint32_t queues;               /* vhost_user: pairs of them, 1 to PACKET_QUEUES_MAX */
    bool server;                   /* memif */
    uint32_t id;                   /* memif */
    uint32_t size;                 /* ring: frames */
    bool generate;                 /* null */
    const char *rx_file, *tx_file; /* pcap; NULL = none */
};
const char *packet_port_kind_name(enum packet_port_kind kind); /* "vhost_user" */

/* Where a capture goes. In a helper thread, one at a time. */
struct packet_sink {
    /* How many bytes went; -EAGAIN: not now; else -errno. */
    int64_t (*write)(struct packet_sink *sink, const void *bytes, size_t size);
    void (*close)(struct packet_sink *sink);
};

/* How much of the drivers' memory is taken. */
struct packet_usage {
    uint64_t buffers, buffers_free;       /* frames' */
    uint64_t heap_bytes, heap_free_bytes; /* what ports, queues and buffers are made of */
    uint64_t heap_largest_free_bytes;     /* in one piece */
};

/* What drivers give: frames' memory, ports, and what a thread needs that calls them. */
struct packet_backend {
    struct packet_memory *memory;
    /* Makes a port; of kind ring only if it says so. In a helper thread, one at a time. */
    bool opens_rings;
    bool (*open)(struct packet_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                 struct error *error);
    /* A worker's thread begins and ends to call ports. On it. NULL = nothing to do. */
    void (*thread)(struct packet_backend *backend, bool begins);
    /* Whose thread a worker on that core is. NULL = one of its own. */
    struct host_launcher *(*launcher)(struct packet_backend *backend, unsigned worker, unsigned core);
    /* For captures: a file or pipe, and which frames are wanted. In a helper thread. */
    bool (*open_sink)(const char *path, struct packet_sink **ret_sink, struct error *error);
    bool (*compile_filter)(const char *text, struct capture_filter **ret_filter, struct error *error);
    /* Any thread; counts, so it takes a while. NULL = not told. */
    void (*usage)(struct packet_backend *backend, struct packet_usage *ret_usage);
};

struct packet_plane;

struct packet_worker {
    struct packet_plane *plane;
    struct reactor *reactor;
    unsigned index;
    int cpu;                      /* -1 = unpinned */
    const struct plan *plan;      /* the worker's: what it runs */
    const struct plan *next_plan; /* what `adopt` has it run */
    struct reactor_poller poller;
    struct reactor_message begin, adopt, end;
    struct reactor_message adopted, ended; /* on their way back */
    struct plan_scratch scratch;
};

struct packet_version {
    uint64_t generation;
    struct model *model;
    struct model_plans plans;
};

/* One change; the submitter's memory until `done`. */
struct packet_change {
    /* Changes the copy of the model, or refuses. */
    bool (*edit)(struct packet_change *change, struct model *model, struct error *error);
    const struct packet_port_options *open; /* a port to be made first; NULL = none */
    /* ok: every worker runs version `generation`, or a later one. Else error. */
    void (*done)(struct packet_change *change);
    bool ok;
    uint64_t generation;
    struct error error;

    /* the plane's */
    struct packet_plane *plane;
    struct list_node node;
    struct task task;
    struct host_job job;
    struct packet_version *next;
    struct packet_port *opened;
    struct packet_port *closing; /* the one that the edit took out of the model */
    unsigned pending;            /* workers that have not yet taken the version, or not yet ended */
    bool job_done;
};

struct packet_plane_options {
    struct host *host;
    struct log *log;
    struct reactor *control; /* not yet started, or entered */
    struct packet_backend *backend;
    const int *cpus; /* of the workers that are there from the start, -1 = unpinned */
    unsigned cpu_count;
    const struct cores_map *cores; /* for vfs */
    bool (*cpu_is_there)(int cpu); /* a thread may be pinned to it */
    bool processes;                /* one of several: vfs are processes */
    const struct model_vf *vf;     /* that is there from the start, with its workers; NULL = none */
    enum host_poll_mode poll_mode;
};

struct packet_plane {
    struct packet_plane_options options;
    struct packet_worker *workers[MODEL_WORKERS_MAX]; /* those of the version that runs; NULL = none of that number */
    struct packet_version *version;                   /* what the workers run */
    struct list changes;                              /* the first is under way */
    struct packet_change last;                        /* takes all away, at the end */
    void (*stopped)(void *arg);
    void *stopped_arg;
    unsigned ending; /* workers that have not yet ended */
};

/* Makes the workers of the options and starts them, with nothing to do. Before the control reactor runs. */
bool packet_plane_create(const struct packet_plane_options *options, struct packet_plane **ret_plane, struct error *error);
/* Queues a change; `done` comes from the loop. */
void packet_plane_submit(struct packet_plane *plane, struct packet_change *change);
/* Takes a port out of the model, in an edit: it is closed once no worker has it. */
bool packet_change_remove_port(struct packet_change *change, struct model *model, const char *name, struct error *error);
/* After the changes under way, takes all components and ports away and has the workers end. Nothing is submitted afterwards.
 * Once. */
void packet_plane_stop(struct packet_plane *plane, void (*stopped)(void *arg), void *arg);
/* After `stopped`; not on a worker. */
void packet_plane_destroy(struct packet_plane *plane);
