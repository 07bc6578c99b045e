/* The NVMe target's configuration and what can be seen of it: subsystems with their namespaces, hosts, listeners, controllers.
 * Transport-independent; transports (frontend/nvme_tcp) register themselves and bring connections.
 *
 * Calling context: the control reactor, unless a comment says otherwise; it owns all configuration and the discovery controllers.
 * A subsystem's I/O runs on its home, one data reactor (the home of its first namespace's device, else the least loaded one),
 * with all its controllers and connections; the two sides exchange messages. What takes a round trip there ends in a callback, on
 * the control reactor. Listings: walk the lists below. */
#pragma once

#include "block/device.h"
#include "frontend/nvme/limits.h"
#include "wire/nvme/nvme_log.h"

struct nvme_target;
struct nvme_subsystem;
struct nvme_controller;
struct nvme_queue;

/* How an operation that needs the data reactor ended. It always ends well: what can fail was checked before. */
typedef void (*nvme_done)(void *arg);
/* The same where it can fail; NULL = it has not. */
typedef void (*nvme_ana_done)(void *arg, const struct error *error);

/* ---- the target ---- */

struct nvme_target_options {
    struct block_graph *graph;
    struct reactor *control;
    struct reactor **data; /* copied */
    unsigned data_count;   /* ≥ 1 */
};

/* Where it listens; text as the operator wrote it, canonical after nvme_listen_address_parse(). */
struct nvme_listen_address {
    enum nvme_transport_type transport;
    enum nvme_address_family family;
    char address[64]; /* numeric */
    uint16_t port;
};
/* Understands "TCP", "IPv4" or "IPv6" or "" (any case), an address, a port ("" = 4420). ERROR_INVALID names the field as the
 * storage dialect does (trtype, adrfam, traddr, trsvcid). Pure. */
bool nvme_listen_address_parse(const char *trtype, const char *adrfam, const char *traddr, const char *trsvcid,
                               struct nvme_listen_address *ret, struct error *error);
/* "IPv4" or "IPv6". */
const char *nvme_address_family_name(enum nvme_address_family family);

struct nvme_target *nvme_target_create(const struct nvme_target_options *options, struct error *error);
/* Deletes all subsystems, closes all connections and transports; `done` when nothing of it is left (it is freed then). */
void nvme_target_destroy(struct nvme_target *target, nvme_done done, void *arg);

/* ---- transports ---- */

/* What nvmf_create_transport may set; 0 = the default, which is filled in. */
struct nvme_transport_options {
    uint16_t queue_depth; /* I/O queue entries */
    uint16_t admin_queue_depth;
    uint16_t io_queues;        /* of one controller */
    uint32_t max_io_bytes;     /* a power of two from 8 KiB to 1 MiB */
    uint32_t in_capsule_bytes; /* 0 … 64 KiB; see in_capsule_given */
    bool in_capsule_given;
    bool no_c2h_success;                   /* reads end with a response capsule always */
    bool no_header_digest, no_data_digest; /* refused when a host asks for them */
    uint32_t min_kato_ms;
    uint32_t connections; /* at once */
};

struct nvme_transport;
struct nvme_transport_ops {
    const char *name; /* "TCP" */
    enum nvme_transport_type type;
    bool (*listen)(struct nvme_transport *transport, const struct nvme_listen_address *address, void **ret_socket,
                   uint16_t *ret_port, struct error *error);
    void (*unlisten)(struct nvme_transport *transport, void *socket);
    /* All its listeners are gone: closes connections that belong to no controller, then calls nvme_transport_gone(). */
    void (*stop)(struct nvme_transport *transport);
};
/* Each transport's object begins with this. */
struct nvme_transport {
    const struct nvme_transport_ops *ops;
    struct nvme_target *target;
    struct nvme_transport_options options; /* complete */
    struct list_node node;
};
/* Checks and completes the options (ERROR_INVALID). Pure. */
bool nvme_transport_options_complete(struct nvme_transport_options *options, struct error *error);
/* For transports: makes it known; ERROR_EXISTS. */
bool nvme_target_add_transport(struct nvme_target *target, struct nvme_transport *transport, struct error *error);
/* For transports: the last connection is gone after stop(); it frees itself next. */
void nvme_transport_gone(struct nvme_transport *transport);
/* NULL if there is none. */
struct nvme_transport *nvme_target_find_transport(struct nvme_target *target, enum nvme_transport_type type);
/* First one, and the one after; NULL at the end. */
struct nvme_transport *nvme_target_next_transport(struct nvme_target *target, struct nvme_transport *after);

/* ---- subsystems ---- */

struct nvme_subsystem_options {
    const char *nqn;
    const char *serial;      /* NULL = 20 zeros; at most 20 printable characters */
    const char *model;       /* NULL = "SPDK bdev Controller", what the storage dialect answers; at most 40 */
    uint32_t max_namespaces; /* 0 = NVME_DEFAULT_NAMESPACES */
    bool allow_any_host;
    uint16_t min_cntlid, max_cntlid; /* both 0 = 1 … NVME_CNTLID_MAX; disjoint ones on the nodes that offer one subsystem */
    bool ana;                        /* report asymmetric namespace access */
};

struct nvme_host {
    struct list_node node;
    char nqn[NVME_NQN_LENGTH_MAX + 1];
};

/* An address on which a subsystem is offered. Several subsystems share one socket. */
struct nvme_listener {
    struct list_node node;
    struct nvme_listen_address address; /* port: the actual one */
    struct nvme_socket *socket;
    struct nvme_path *path; /* NULL: asymmetric access is not reported */
};

struct nvme_namespace {
    /* control reactor */
    struct list_node node; /* in order of nsid */
    struct nvme_subsystem *subsystem;
    uint32_t nsid;
    struct block_handle handle;
    struct block_device *device;
    struct uuid uuid;
    uint8_t nguid[16], eui64[8]; /* eui64: zero = none */
    uint32_t anagrpid;           /* 1 … max_namespaces */
    bool removing;
    nvme_done done;
    void *done_arg;
    /* the subsystem's home */
    struct block_channel *channel;
    uint32_t block_shift;
    uint32_t outstanding; /* commands in the device */
    uint64_t serial;      /* no two namespaces of a subsystem have the same, ever */
    bool detaching;
    bool away; /* the path of its device is */
    /* that it is there, that it goes, that its size or its path is another */
    struct reactor_message message, detach_message, resize_message, path_message;
    struct reactor_job detach_job;
    _Atomic bool resize_posted, path_posted;
};

struct nvme_subsystem {
    struct nvme_target *target;
    struct list_node node;
    struct hash_node by_name;
    char nqn[NVME_NQN_LENGTH_MAX + 1];
    char serial[20 + 1], model[40 + 1];
    uint32_t max_namespaces;
    uint16_t min_cntlid, max_cntlid, next_cntlid;
    bool discovery, allow_any_host, deleting, ana;
    struct list hosts;       /* struct nvme_host */
    struct list listeners;   /* struct nvme_listener */
    struct list namespaces;  /* struct nvme_namespace */
    struct list controllers; /* struct nvme_controller, .node */
    struct list queues;      /* struct nvme_queue, .node: connections that came through Connect */
    unsigned controller_count, namespace_count, host_count, listener_count;
    unsigned path_changes; /* under way */
    nvme_done done;
    void *done_arg;
    struct reactor_message stop_message;
    bool stopped; /* its home has dropped all controllers, and knows of nothing more to come */
    /* where its I/O runs; fixed with the first namespace or controller, NULL before. Everything below is the home's. */
    struct reactor *home;
    struct nvme_namespace **by_id; /* [max_namespaces + 1], those attached */
    struct list live;              /* struct nvme_controller, .live_node */
    uint64_t attach_count;
};

/* ERROR_INVALID (field nqn, serial_number, model_number, max_namespaces, min_cntlid), ERROR_EXISTS, ERROR_NO_MEMORY. */
bool nvme_subsystem_create(struct nvme_target *target, const struct nvme_subsystem_options *options,
                           struct nvme_subsystem **ret_subsystem, struct error *error);
/* Takes it out of the names at once, disconnects its hosts and frees it; `done` (NULL allowed) then. Not the discovery one. */
void nvme_subsystem_delete(struct nvme_subsystem *subsystem, nvme_done done, void *arg);
/* By NQN, the discovery subsystem too; NULL if there is none. */
struct nvme_subsystem *nvme_target_find_subsystem(struct nvme_target *target, const char *nqn);
/* First one (the discovery subsystem), and the one after; NULL at the end. */
struct nvme_subsystem *nvme_target_next_subsystem(struct nvme_target *target, struct nvme_subsystem *after);

/* ---- hosts ---- */

/* ERROR_EXISTS, ERROR_INVALID (host). */
bool nvme_subsystem_add_host(struct nvme_subsystem *subsystem, const char *nqn, struct error *error);
/* Takes the host off the list and, unless any host is allowed, drops its controllers. ERROR_NOT_FOUND. */
bool nvme_subsystem_remove_host(struct nvme_subsystem *subsystem, const char *nqn, struct error *error);
/* Disallowing does not drop the hosts that are connected. */
void nvme_subsystem_allow_any_host(struct nvme_subsystem *subsystem, bool allow);

/* ---- listeners ---- */

/* ERROR_NOT_FOUND (no such transport), ERROR_EXISTS, what listening says. *address gets the actual port. `state`: of all groups;
 * ERROR_UNSUPPORTED for another than NVME_ANA_OPTIMIZED where asymmetric access is not reported. */
bool nvme_subsystem_add_listener(struct nvme_subsystem *subsystem, struct nvme_listen_address *address, enum nvme_ana_state state,
                                 struct error *error);
/* Drops the controllers that came through it. ERROR_NOT_FOUND. */
bool nvme_subsystem_remove_listener(struct nvme_subsystem *subsystem, const struct nvme_listen_address *address,
                                    struct error *error);

/* The state in which this listener's controllers see a group, 0 = all groups: optimized, non-optimized or inaccessible. To become
 * inaccessible it first drains: new commands are refused with a path-related status at once, hosts see the group in transition,
 * and `done` comes when no command of this listener is in a device any more. If that takes NVME_ANA_TRANSITION_S it is
 * inaccessible all the same, and ERROR_TIMED_OUT. ERROR_UNSUPPORTED: asymmetric access is not reported (optimized is taken);
 * ERROR_NOT_FOUND: the listener; ERROR_INVALID (anagrpid); ERROR_BUSY: another change is under way. */
bool nvme_listener_set_ana_state(struct nvme_subsystem *subsystem, const struct nvme_listen_address *address, uint32_t group,
                                 enum nvme_ana_state state, nvme_ana_done done, void *arg, struct error *error);
/* What was last asked for; NVME_ANA_OPTIMIZED where asymmetric access is not reported. */
enum nvme_ana_state nvme_listener_ana_state(const struct nvme_listener *listener, uint32_t group);

/* ---- namespaces ---- */

struct nvme_namespace_options {
    uint32_t nsid;           /* 0 = the lowest free one */
    const char *device;      /* name, alias or UUID */
    const struct uuid *uuid; /* NULL = the device's, as a client recognises it after a restart */
    const uint8_t *nguid;    /* 16 bytes; NULL = the UUID's */
    const uint8_t *eui64;    /* 8 bytes; NULL = none */
    uint32_t anagrpid;       /* group of asymmetric access; 0 = its nsid */
};
/* Opens the device for writing (for reading if it is read-only) and offers it. ERROR_NO_DEVICE, ERROR_INVALID (nsid, anagrpid,
 * bdev_name: taken, added already, a block size that NVMe hosts do not take), what opening says. */
bool nvme_subsystem_add_namespace(struct nvme_subsystem *subsystem, const struct nvme_namespace_options *options,
                                  uint32_t *ret_nsid, struct error *error);
/* New commands are refused at once; `done` when the last one in the device has completed and the device is closed.
 * ERROR_NOT_FOUND, ERROR_BUSY (is being removed). */
bool nvme_subsystem_remove_namespace(struct nvme_subsystem *subsystem, uint32_t nsid, nvme_done done, void *arg,
                                     struct error *error);
struct nvme_namespace *nvme_subsystem_find_namespace(struct nvme_subsystem *subsystem, uint32_t nsid);

/* ---- what can be seen of controllers, queues, and counters ---- */

struct nvme_controller_facts {
    uint16_t cntlid;
    bool discovery;
    const char *hostnqn;
    struct uuid hostid;
    unsigned io_queues;
    uint32_t kato_ms;
};
/* First one, and the one after; NULL at the end. The facts point into it. */
struct nvme_controller *nvme_subsystem_next_controller(struct nvme_subsystem *subsystem, struct nvme_controller *after);
void nvme_controller_get_facts(const struct nvme_controller *controller, struct nvme_controller_facts *ret);

struct nvme_queue_facts {
    uint16_t cntlid, qid;
    const char *reactor; /* the name of the one that serves it */
    const char *hostnqn;
    const struct nvme_listen_address *listen_address;
    const struct nvme_listen_address *peer_address;
};
struct nvme_queue *nvme_subsystem_next_queue(struct nvme_subsystem *subsystem, struct nvme_queue *after);
void nvme_queue_get_facts(const struct nvme_queue *queue, struct nvme_queue_facts *ret);

/* Of one reactor. The totals are since the start. */
struct nvme_reactor_stats {
    const char *reactor;
    uint64_t admin_queues, io_queues, current_admin_queues, current_io_queues, current_unassociated_queues;
    uint64_t pending_io;   /* commands in devices */
    uint64_t completed_io; /* I/O commands */
};
/* Of the target's n-th reactor (data reactors, then the control one); false beyond. */
bool nvme_target_get_stats(struct nvme_target *target, unsigned index, struct nvme_reactor_stats *ret);
