/* Inside of src/frontend/nvme. Not for other folders. */
#pragma once

#include "frontend/nvme/queue.h"
#include "wire/nvme/nvme_identify.h"

/* A listening socket, shared by the listeners of one address. */
struct nvme_socket {
    struct hash_node node; /* in target->sockets */
    struct nvme_transport *transport;
    struct nvme_listen_address address;
    void *socket; /* the transport's */
    unsigned refs;
};

/* Counters of one reactor, each written by it alone (relaxed, read by the control reactor). */
struct nvme_reactor_counters {
    struct reactor *reactor;
    _Atomic uint64_t admin_queues, io_queues, current_admin, current_io, pending, completed;
    unsigned load; /* queues sent there; control reactor */
} __attribute__((aligned(64)));

/* The way into a subsystem that reports asymmetric access, through one listener. One change at a time. */
struct nvme_path {
    /* control reactor */
    struct nvme_subsystem *subsystem;
    unsigned refs; /* its listener, its controllers, a change under way */
    bool busy;     /* a change is under way; what it is stands below, written before the home is told */
    nvme_ana_done done;
    void *done_arg;
    uint32_t first, last; /* groups */
    uint8_t wanted;       /* enum nvme_ana_state */
    struct reactor_message message;
    /* the home's */
    bool draining;
    uint32_t left; /* commands in the device when the change ended */
    uint64_t change_count;
    struct reactor_timer deadline;
    struct nvme_path_group {
        uint8_t configured; /* control reactor: what was last asked for */
        uint8_t state;      /* enum nvme_ana_state; also NVME_ANA_CHANGE */
        uint32_t outstanding;
        uint64_t change_count;
    } groups[]; /* by id, from 1; max_namespaces + 1 */
};

struct nvme_target {
    struct block_graph *graph;
    struct reactor *control;
    struct nvme_reactor_counters *counters; /* data reactors, then the control one */
    unsigned data_count;
    struct list transports, subsystems;
    struct hash_map sockets;         /* by their addresses */
    struct hash_map subsystem_names; /* of those that are not being deleted */
    unsigned subsystem_count;
    struct nvme_subsystem *discovery;
    uint64_t discovery_generation;
    unsigned strangers; /* connections not through Connect */
    bool destroying;
    nvme_done done;
    void *done_arg;
    struct reactor_job finish_job;
};

struct nvme_controller {
    /* written once on the control reactor, before the home knows it */
    struct nvme_target *target;
    struct nvme_subsystem *subsystem;
    struct nvme_transport *transport;
    uint16_t cntlid;
    uint64_t association; /* of all its requests */
    char hostnqn[NVME_NQN_LENGTH_MAX + 1];
    struct uuid hostid;
    bool has_line; /* a younger one with the same line replaces it */
    struct uuid line;
    struct nvme_path *path; /* of the listener that it came through; NULL: asymmetric access is not reported */
    /* control reactor */
    struct list_node node;
    unsigned queue_refs; /* queues that point here */
    bool gone;           /* the home has done with it */
    /* the home's */
    struct list_node live_node;
    struct nvme_queue *queues[NVME_LIMIT_IO_QUEUES + 1];
    unsigned queue_count;
    _Atomic unsigned io_queue_count; /* any thread reads */
    _Atomic uint32_t kato_ms;
    bool lost, arrived;
    uint32_t cc, csts;
    bool enabling;  /* CC.EN is set, waits for the lost controllers' writes */
    bool disabling; /* CC.EN was cleared, waits for the I/O queues to go */
    uint64_t settle_deadline_ns;
    struct reactor_timer settle_timer, kato_timer;
    uint64_t heard_ns;
    uint32_t async_config;
    uint32_t feature[NVME_FEATURE_ASYNC_EVENT_CONFIG + 1]; /* the plain dword features, by id */
    struct list async_requests;                            /* struct nvme_command, .node */
    unsigned async_count;
    bool namespace_event, ana_event, discovery_event;    /* to tell; stays until told */
    bool namespace_masked, ana_masked, discovery_masked; /* told; not again until the log page was read */
    uint64_t changed[NVME_LIMIT_NAMESPACES / 64 + 1];    /* bitmap of namespace ids */
    uint64_t error_count;
    struct nvme_error_entry errors[NVME_ERROR_LOG_ENTRIES];
    uint64_t read_bytes, written_bytes, reads, writes;
    uint64_t created_ns;
    struct reactor_message message;
};

/* ---- subsystem.c ---- */
struct nvme_reactor_counters *nvme_counters_of(struct nvme_target *target, const struct reactor *reactor);
/* A change of what discovery shows: new generation, events. */
void nvme_discovery_changed(struct nvme_target *target);
/* Chooses the home if there is none yet; false if there is no memory. */
bool nvme_subsystem_settle_home(struct nvme_subsystem *subsystem, struct reactor *preferred);
/* Goes on with deletion, if it is under way. */
void nvme_subsystem_try_finish(struct nvme_subsystem *subsystem);
void nvme_target_try_finish(struct nvme_target *target);

/* ---- access.c ---- */
bool nvme_host_allowed(const struct nvme_subsystem *subsystem, const char *hostnqn);
/* Of a subsystem that goes: its connections are dropped otherwise. */
void nvme_listener_drop(struct nvme_listener *listener);

/* ---- connect.c ---- */
void nvme_connect_execute(struct nvme_command *command);
/* Home: drops all its connections; it is gone when all their commands are done. */
void nvme_controller_lose(struct nvme_controller *controller);
/* Home: told that something it may wait for has happened. */
void nvme_controller_advance(struct nvme_controller *controller);

/* ---- controller.c ---- */
bool nvme_admin_decode(struct nvme_queue *queue, struct nvme_command *command);
void nvme_admin_execute(struct nvme_command *command);
void nvme_controller_start(struct nvme_controller *controller); /* its home knows it now */
void nvme_controller_stop(struct nvme_controller *controller);  /* ends timers, async requests */
void nvme_controller_namespace_event(struct nvme_controller *controller, uint32_t nsid);
void nvme_controller_ana_event(struct nvme_controller *controller);
void nvme_controller_discovery_event(struct nvme_controller *controller);
/* NVME_AEC_* that it can send. */
uint32_t nvme_controller_events(const struct nvme_controller *controller);
/* Tells what is to tell and not masked. */
void nvme_controller_events_tell(struct nvme_controller *controller);

/* ---- identify.c, log.c, io.c ---- */
/* True if the namespace takes the replica commands, for hosts of this transport. */
bool nvme_namespace_is_replica(const struct nvme_namespace *ns, const struct nvme_transport *transport);
unsigned nvme_identify(struct nvme_controller *controller, struct nvme_command *command);
/* Where a page is written that may be larger than what the host asks for at once: only the window is stored. */
struct nvme_window {
    uint8_t *to;
    uint64_t offset; /* of the window in the page */
    uint32_t length;
    uint64_t at; /* bytes of the page so far */
};
void nvme_window_put(struct nvme_window *window, const void *bytes, size_t size);
unsigned nvme_log_page(struct nvme_controller *controller, struct nvme_command *command);
bool nvme_io_decode(struct nvme_queue *queue, struct nvme_command *command);
void nvme_io_execute(struct nvme_command *command);
/* Tells a command's end to the transport. `status` as enum nvme_status, flags allowed. */
void nvme_command_complete(struct nvme_command *command, unsigned status);
/* Fills command->cqe only. */
void nvme_command_fill(struct nvme_command *command, unsigned status);

/* ---- ana.c ---- */
/* Control reactor. All groups are in this state. NULL: no memory. */
struct nvme_path *nvme_path_create(struct nvme_subsystem *subsystem, enum nvme_ana_state state);
/* NULL allowed. */
struct nvme_path *nvme_path_ref(struct nvme_path *path);
void nvme_path_unref(struct nvme_path *path);
/* Control reactor; none may be under way. group 0 = all. See nvme_listener_set_ana_state(). */
void nvme_path_change(struct nvme_path *path, uint32_t group, enum nvme_ana_state state, nvme_ana_done done, void *arg);
/* Home: NVME_SUCCESS, or why a command for this namespace may not pass: hosts send it by another path then. */
unsigned nvme_path_status(const struct nvme_path *path, const struct nvme_namespace *ns);
/* Home: a command goes to the device, or has come back. */
static inline void nvme_path_enter(struct nvme_path *path, uint32_t group) { path->groups[group].outstanding++; }
void nvme_path_leave(struct nvme_path *path, uint32_t group);
/* Home: its device's path is there, or is away: so is the namespace, whatever the listeners' states. */
void nvme_namespace_look_away(struct nvme_namespace *ns);
/* Home: the log page; of a controller with a path. */
void nvme_ana_log(const struct nvme_controller *controller, bool groups_only, struct nvme_window *window);

/* ---- namespace.c ---- */
/* Home: one command less in the device. */
void nvme_namespace_idle(struct nvme_namespace *ns);
/* A namespace that goes with its subsystem. */
void nvme_namespace_remove(struct nvme_namespace *ns);

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t counter_get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}
/* True if an NQN may be one: "nqn.", printable, 12 … 223 characters. */
bool nvme_nqn_check(const char *nqn);
