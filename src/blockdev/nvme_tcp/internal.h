/* Inside of the initiator: its objects, and what their files offer each other. docs/nvme-initiator.md tells how they work
 * together. Not for other folders. */
#pragma once

#include "blockdev/nvme_tcp/connection.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "blockdev/nvme_tcp/parse.h"
#include "reactor/task.h"

struct initiator_queue;

struct nvme_initiator {
    struct block_graph *graph;
    struct reactor *control;
    struct nvme_initiator_options options;
    struct list controllers;
    struct hash_map controller_names;
    unsigned controller_count;
    char hostnqn[NVME_INITIATOR_NQN_MAX + 1];
};

/* ---- messages between control and queues ---- */

/* "Look at what I published": posted at most once at a time, so that it may live in its owner. */
struct initiator_look {
    struct reactor_message message;
    _Atomic bool posted;
};
/* The sender has published before. */
static inline void initiator_look_post(struct initiator_look *look, struct reactor *target) {
    if (!atomic_exchange(&look->posted, true))
        reactor_post(target, &look->message);
}
/* First thing of the handler: what is published from here on is told anew. */
static inline void initiator_look_taken(struct initiator_look *look) { atomic_store(&look->posted, false); }

/* ---- the admin queue (control reactor) ---- */

enum initiator_admin_slot { ADMIN_TASK, ADMIN_KEEP_ALIVE, ADMIN_EVENT, ADMIN_ABORT, ADMIN_SLOTS };

struct initiator_admin_command {
    struct nvme_tcp_request tcp;
    struct nvme_initiator_controller *controller;
    struct slice slice;
    struct reactor_timer deadline;
    bool busy, answered;
    void (*done)(struct initiator_admin_command *command); /* answered; NULL = the task looks */
};

/* ---- an I/O queue: one reactor's connection to a controller ---- */

/* One command. A free one is on queue->free by `node`, one under way on active or aborting. */
struct initiator_command {
    struct nvme_tcp_request tcp;
    struct list_node node;
    struct block_request *request; /* NULL: free, or a zombie that waits for the answer to its abort */
    uint64_t offset;               /* bytes, on the device */
    uint64_t length;
    uint64_t deadline_ns;
    bool aborting;    /* its time is over */
    bool abort_asked; /* and control was asked for its abort */
    struct nvme_dsm_range range;
    struct slice range_slice;
};

/* What control publishes for a queue is written on the control reactor, and the other way round. */
struct initiator_queue {
    struct nvme_initiator_controller *controller;
    struct reactor *reactor;

    /* by control: `wanted` is the association it is to be connected to, 0 = none; qid and forward are fixed while it is not 0 */
    _Atomic uint64_t wanted;
    uint16_t qid;         /* 0: no connection of its own */
    unsigned forward_to;  /* then: the reactor index of the queue that gets the requests */
    _Atomic bool failing; /* requests that wait fail */
    struct initiator_look to_queue;
    struct reactor_message end;

    /* by the queue: `held` is the association it has a socket of (or forwards in), 0 = none */
    _Atomic uint64_t held;
    _Atomic bool up;       /* connected for it */
    _Atomic uint64_t lost; /* the association that ended here by itself */
    char lost_why[INITIATOR_WHY_SIZE];
    int lost_error;
    struct initiator_look to_control;
    struct reactor_message goodbye;

    _Atomic bool recalled; /* a channel wants its requests back; set on any queue's reactor, followed by a look */

    /* by both: 0, or command id + 1 of the command to abort (the queue sets it, control clears it) */
    _Atomic uint32_t abort;

    /* the queue's own */
    struct initiator_queue *forward; /* who gets the requests in this association; NULL = itself */
    struct initiator_connection connection;
    struct nvme_tcp_request **requests;
    struct nvme_tcp_request connect; /* the fabrics Connect, behind the commands */
    struct slice connect_slice;
    struct reactor_timer connect_deadline;
    struct initiator_command *commands;
    uint16_t command_count;
    uint32_t under_way, depth; /* commands at the controller, and how many may be */
    struct list free, active /* oldest first */, aborting /* oldest first */;
    struct list waiting; /* of struct block_request */
    struct list urgent;  /* the replica operations among them: they go first, by a slot that is kept for them */
    struct list delayed; /* of struct block_request: to be tried again */
    struct reactor_timer timer, retry;
    struct reactor_job pump, dismantle;
    bool pump_queued;
    unsigned gone_seen;
};

/* ---- a namespace and its device ---- */

struct initiator_namespace {
    struct block_device device;
    struct nvme_initiator_controller *controller;
    struct list_node node; /* in controller->namespaces, by nsid */
    struct initiator_namespace_facts facts;
    _Atomic uint8_t ana_state; /* enum nvme_ana_state, as last read */
    _Atomic bool gone;         /* being removed: nothing is sent any more */
};
static inline struct initiator_namespace *initiator_namespace_of(const struct block_request *request) {
    return container_of(block_channel_device(request->channel), struct initiator_namespace, device);
}

/* ---- a controller (control reactor) ---- */

/* What all of one association share; written by control before the first queue is told its number. */
struct initiator_association {
    uint64_t number;
    uint16_t cntlid;
    uint32_t entries;     /* of an I/O queue */
    bool sq_flow_control; /* could not be given up */
    uint16_t io_queues;   /* granted */
    struct initiator_controller_facts facts;
};

struct nvme_initiator_controller {
    struct nvme_initiator *initiator;
    struct list_node node;
    struct hash_node by_name;
    char name[NVME_INITIATOR_NAME_MAX + 1];
    char subnqn[NVME_INITIATOR_NQN_MAX + 1], hostnqn[NVME_INITIATOR_NQN_MAX + 1];
    struct uuid host_id;
    struct uuid line; /* by which the target knows that a new association replaces the one before */
    struct host_address address, from;
    struct nvme_tcp_host_options tcp_options;
    bool sq_flow_control;
    struct nvme_initiator_options options; /* as of the attach, its own `loss` in it */
    uint32_t io_queues_max, devices_max;
    uint64_t connect_timeout_ns;

    struct task task;
    struct nvme_initiator_attach *attach; /* not answered yet */
    bool detach_wanted;
    void (*detach_done)(void *arg);
    void *detach_arg;
    bool reset_wanted, reset_under_way;
    void (*reset_done)(bool ok, void *arg);
    void *reset_arg;

    struct initiator_association association;
    uint64_t reconnects;
    bool ended;         /* this association is given up; `error` says why */
    struct error error; /* of the last end */
    bool issued;        /* the state under way has begun what it waits for */
    bool failing, rescan, listing /* a list that goes on */;
    unsigned attempts; /* since the last association that became ready */
    uint64_t down_ns;  /* since when there is none; 0 = there is */

    struct initiator_connection admin;
    bool admin_ready;
    struct initiator_admin_command commands[ADMIN_SLOTS];
    struct nvme_tcp_request *requests[ADMIN_SLOTS];
    uint8_t *page; /* NVME_IDENTIFY_SIZE bytes, ADMIN_TASK's */
    uint32_t page_size;
    uint64_t ready_deadline_ns;
    struct reactor_timer step_timer, keep_alive, outage;
    bool aborting;        /* ADMIN_ABORT is busy, for the queue of … */
    unsigned abort_queue; /* … this reactor */

    struct initiator_namespace_facts *found; /* devices_max of them */
    uint32_t *found_ids;
    unsigned found_count, found_next;
    struct list namespaces;
    unsigned namespace_count; /* being removed ones included */
    _Atomic unsigned gone_count;
    _Atomic uint64_t ready;          /* the association that is ready, 0 = none */
    _Atomic uint32_t slots_reserved; /* of each queue, for replica operations */

    _Atomic(struct initiator_queue *) *queues; /* by reactor index; each set by its reactor */
    unsigned queue_slots, queues_ending;
};

/* controller.c */
bool initiator_controller_start(struct nvme_initiator_controller *controller);
enum nvme_initiator_state initiator_controller_state(const struct nvme_initiator_controller *controller);
/* Gives the association under way up; the first reason counts. */
void initiator_controller_end(struct nvme_initiator_controller *controller, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* All is gone: the last touch of the controller (nvme_tcp.c). */
void initiator_controller_free(struct nvme_initiator_controller *controller);

/* admin.c */
bool initiator_admin_init(struct nvme_initiator_controller *controller);
void initiator_admin_close(struct nvme_initiator_controller *controller);
/* Sends a command in a slot that is not busy; `length` bytes of data to or from `data`. timeout_ns 0 = it may take for ever. */
void initiator_admin_send(struct nvme_initiator_controller *controller, enum initiator_admin_slot slot, struct nvme_sqe *sqe,
                          enum nvme_direction direction, void *data, uint32_t length, uint64_t timeout_ns);
void initiator_admin_connect(struct nvme_initiator_controller *controller);
void initiator_admin_property_get(struct nvme_initiator_controller *controller, uint32_t offset, bool wide);
void initiator_admin_property_set(struct nvme_initiator_controller *controller, uint32_t offset, uint32_t value);
void initiator_admin_identify(struct nvme_initiator_controller *controller, enum nvme_cns cns, uint32_t nsid);
void initiator_admin_set_feature(struct nvme_initiator_controller *controller, enum nvme_feature feature, uint32_t value);
/* The states of the ANA groups; clears their event too. */
void initiator_admin_read_ana(struct nvme_initiator_controller *controller);
void initiator_admin_clear_event(struct nvme_initiator_controller *controller);
void initiator_admin_await_event(struct nvme_initiator_controller *controller);
void initiator_admin_keep_alive_start(struct nvme_initiator_controller *controller);
/* Sends the next abort that a queue asks for, if none is under way. */
void initiator_admin_abort_next(struct nvme_initiator_controller *controller);
uint64_t initiator_admin_timeout_ns(const struct nvme_initiator_controller *controller);
/* Fills a fabrics Connect and its data. */
void initiator_connect_fill(const struct nvme_initiator_controller *controller, uint16_t qid, uint32_t entries,
                            struct nvme_connect *ret_command, struct nvme_connect_data *ret_data);

/* queue.c, on the queue's reactor unless said otherwise */
struct initiator_queue *initiator_queue_create(struct nvme_initiator_controller *controller);
void initiator_queue_submit(struct initiator_queue *queue, struct block_request *request);
bool initiator_queue_abort(struct initiator_queue *queue, struct block_request *request);
/* Soon gives the association up, if there is one, and ends what waits and fails fast. */
void initiator_queue_recall(struct initiator_queue *queue);
/* Control reactor: tells a queue to look. */
static inline void initiator_queue_tell(struct initiator_queue *queue) { initiator_look_post(&queue->to_queue, queue->reactor); }
/* Control reactor, in queue->goodbye's handler: the memory. */
void initiator_queue_free(struct initiator_queue *queue);
/* Control reactor: on the control reactor a queue has looked up (controller.c). */
void initiator_controller_queue_looks(struct reactor_message *message);
void initiator_controller_queue_gone(struct reactor_message *message);

/* namespace.c, control reactor */
extern const struct block_device_ops initiator_namespace_ops;
/* Makes the devices agree with what was found. */
void initiator_namespaces_publish(struct nvme_initiator_controller *controller);
/* Tells the users of all that they can be reached, or not. */
void initiator_namespaces_set_path(struct nvme_initiator_controller *controller, bool up);
/* Begins to remove all. */
void initiator_namespaces_remove(struct nvme_initiator_controller *controller);
