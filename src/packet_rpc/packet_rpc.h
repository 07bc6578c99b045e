/* The packet plane with its socket. What src/programs/penstock-packet and the tests make.
 * Calling context: the control reactor, unless said otherwise. Must not know: DPDK, options as typed. */
#pragma once

#include "packet/plane.h"
#include "plane_rpc/server.h"

struct packet_rpc;

struct packet_rpc_options {
    struct host *host;
    const char *socket_path;
    struct packet_backend *backend;
    const int *cpus; /* of the workers that are there from the start, -1 = unpinned */
    unsigned cpu_count;
    const struct cores_map *cores; /* for vfs */
    bool (*cpu_is_there)(int cpu);
    bool processes;            /* one of several: vfs are processes, and not made by a call */
    const struct model_vf *vf; /* the one that this process is; NULL = none */
    /* Of a primary: the next vf's process that is there, after the `at`-th place; false: no more. NULL = it is none. */
    bool (*next_process)(void *arg, unsigned *at, uint32_t *ret_vf, uint64_t *ret_mask);
    enum host_poll_mode poll_mode;
    const char *version;
    uint64_t pid;
    void (*log_write)(void *arg, const struct log_record *record);
    /* All is made, nothing runs yet: a last chance to prepare the control reactor. NULL = nothing to do. */
    void (*prepare)(void *arg, struct packet_rpc *rpc);
    void *arg;
};

struct packet_rpc {
    struct packet_rpc_options options;
    struct log log;
    struct reactor *control;
    struct packet_plane *plane;
    struct rpc_server server;
    struct rpc_listener *listener;
    struct reactor_message stop_message;
    struct reactor_timer stop_timer;
    struct list captures; /* struct rpc_capture */
    bool plane_stopped;
    _Atomic bool stopping;
};

/* Makes and starts all. Any thread; what the options point to stays valid. False: error. */
bool packet_rpc_create(const struct packet_rpc_options *options, struct packet_rpc **ret_rpc, struct error *error);
/* Asks it to end: calls are answered, ports closed, then the control reactor's loop is stopped. Any thread; again without effect.
 */
void packet_rpc_stop(struct packet_rpc *rpc);
/* After the control reactor's loop has ended. Any thread. */
void packet_rpc_destroy(struct packet_rpc *rpc);

static inline struct packet_rpc *packet_rpc_of(const struct rpc_call *call) { return call->server->owner; }

/* ---- inside ---- */

/* Members master and workers. */
void packet_rpc_put_cores(struct json_writer *writer, const struct model *model, const struct model_vf *vf);
/* Ends all captures: their files are whole, and the list empty soon. */
void packet_rpc_stop_captures(struct packet_rpc *rpc);
