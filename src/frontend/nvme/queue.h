/* What a transport sees of the target: queues and commands. A transport brings a connection as a `struct nvme_queue`, its
 * commands as `struct nvme_command`s with their data, and sends the completions.
 *
 * Life of a connection. On the control reactor: nvme_queue_init; commands arrive; the first must be Connect. If it is accepted
 * the core calls ops->move, the transport carries the connection to that reactor and calls nvme_queue_arrive there, which
 * completes the Connect. From then on everything is on that reactor. When the connection is lost, or ops->close was called:
 * nvme_queue_lost at once; nvme_queue_detach when no command is in the core any more; then, back on the control reactor,
 * nvme_queue_release.
 *
 * Life of a command: nvme_command_decode tells what data it needs; nvme_command_execute once they are there (or a buffer for them
 * is); ops->complete exactly once, perhaps from inside execute. A command that is executing is never cancelled: it and its buffer
 * stay lent, also when the connection is gone. */
#pragma once

#include "frontend/nvme/target.h"

struct nvme_command;

struct nvme_queue_ops {
    /* command->cqe is complete; if its status is 0 and direction is NVME_CONTROLLER_TO_HOST, `length` bytes of `data` go before.
     */
    void (*complete)(struct nvme_command *command);
    /* Accepted: stop reading, carry the connection to that reactor, call nvme_queue_arrive() there. Control reactor. */
    void (*move)(struct nvme_queue *queue, struct reactor *to);
    /* The connection must end, e.g. as its controller is lost. May be called more than once. Not from inside: it is told later.
     */
    void (*close)(struct nvme_queue *queue);
    /* Reads what the peer has sent so far. True if all of it is read, or the connection was found dead. */
    bool (*settle)(struct nvme_queue *queue);
    /* The n-th command context, NULL if it is not in the core; for Abort. */
    struct nvme_command *(*command)(struct nvme_queue *queue, unsigned index);
};

struct nvme_queue {
    /* the transport's, before nvme_queue_init() */
    const struct nvme_queue_ops *ops;
    struct nvme_transport *transport;
    void *listener; /* what ops->listen of the transport gave: the listener it came from */
    struct nvme_listen_address listen_address, peer_address;

    /* the core's; a transport reads them from nvme_queue_arrive() on */
    struct nvme_subsystem *subsystem;
    struct nvme_controller *controller; /* NULL before Connect is accepted */
    struct reactor *reactor;
    struct nvme_reactor_counters *counters;
    uint16_t qid, depth;   /* entries */
    bool sq_flow_disabled; /* the host ignores SQ head */
    bool attached, lost;
    uint16_t sq_head;
    uint16_t cntlid;
    unsigned outstanding;  /* commands in the core */
    struct list_node node; /* in subsystem->queues, control reactor */
};

enum nvme_command_state { NVME_COMMAND_IDLE, NVME_COMMAND_EXECUTING, NVME_COMMAND_WAITING /* an async event request */ };

struct nvme_command {
    struct nvme_queue *queue;
    struct nvme_sqe sqe; /* the transport's, before decode */
    struct nvme_cqe cqe;
    /* set by decode */
    enum nvme_direction direction; /* NVME_NO_DATA, _HOST_TO_CONTROLLER or _CONTROLLER_TO_HOST */
    uint32_t length;               /* bytes of data */
    /* the transport's, before execute: `length` bytes, from the reactor's pool */
    void *data;
    /* the core's */
    uint8_t state;             /* enum nvme_command_state */
    struct nvme_namespace *ns; /* valid while the command is in its device */
    uint64_t ns_serial;
    struct slice slice;
    struct block_request request;
    uint32_t range_next; /* Dataset Management: the next range */
    struct list_node node;
};

/* The connection is new: it knows no subsystem yet. Control reactor. */
void nvme_queue_init(struct nvme_queue *queue);
/* Understands command->sqe. False: it is refused and command->cqe is complete (ops->complete is not called). `capsule_length` is
 * what came in the capsule. */
bool nvme_command_decode(struct nvme_queue *queue, struct nvme_command *command, uint32_t capsule_length);
/* Runs a decoded command. */
void nvme_command_execute(struct nvme_command *command);
/* Completes a command that decode let pass and that was never executed, e.g. with NVME_TRANSIENT_TRANSPORT_ERROR as its data were
 * broken. Sets command->cqe; ops->complete is not called. */
void nvme_command_refuse(struct nvme_command *command, unsigned status);

/* The connection, moved, is on its new reactor, with the Connect command that brought it here: completes that. */
void nvme_queue_arrive(struct nvme_queue *queue, struct nvme_command *connect);
/* Bytes came from the host: it is alive. */
void nvme_queue_heard(struct nvme_queue *queue);
/* The connection is dead. `orderly`: the host closed it between two commands, which for an I/O queue leaves the controller as it
 * is; anything else loses the controller, with all its connections. */
void nvme_queue_lost(struct nvme_queue *queue, bool orderly);
/* No command is in the core any more (see queue->outstanding), and none will come. After nvme_queue_lost(). */
void nvme_queue_detach(struct nvme_queue *queue);
/* Back on the control reactor, its last sign. */
void nvme_queue_release(struct nvme_queue *queue);
