/* The NVMe/TCP initiator: controllers of other nodes' subsystems, and a block device for each of their namespaces, called
 * <name>n<nsid>. How it connects, what it does when a connection is lost, and what is retried: docs/nvme-initiator.md.
 *
 * Calling context: the control reactor, for everything here; callbacks come there too, never from inside the call. The devices
 * are used on any reactor: each has its own queue and connection. */
#pragma once

#include "block/device.h"

#define NVME_INITIATOR_NAME_MAX 191 /* characters of a controller's name; the device's adds "n<nsid>" */
#define NVME_INITIATOR_NQN_MAX 223
#define NVME_INITIATOR_DEVICES_DEFAULT 128
#define NVME_INITIATOR_DEVICES_MAX 1024
#define NVME_INITIATOR_CONTROLLERS_MAX 1024

struct nvme_initiator;

enum nvme_initiator_timeout_action {
    NVME_INITIATOR_TIMEOUT_NONE,
    NVME_INITIATOR_TIMEOUT_RESET, /* all connections are given up and made anew */
    NVME_INITIATOR_TIMEOUT_ABORT  /* the command is aborted; if it stays for another timeout: reset */
};

/* What a lost controller means. Milliseconds; the dialect's rules: loss −1 or ≥ reconnect_delay > 0; fast_io_fail 0 or from
 * reconnect_delay to loss; all 0 = one attempt at once, then the controller has failed until it is reset. */
struct nvme_initiator_loss {
    int64_t ctrlr_loss_timeout_ms;    /* lost for so long: detached, its devices removed; −1 = never */
    uint32_t reconnect_delay_ms;      /* between attempts (the first is made at once) */
    uint32_t fast_io_fail_timeout_ms; /* lost for so long: requests fail with IO_PATH_LOST; 0 = they wait */
};

struct nvme_initiator_options {
    enum nvme_initiator_timeout_action timeout_action;
    uint64_t timeout_us;             /* of a command; 0 = none */
    uint64_t timeout_admin_us;       /* of an admin command, 0 = timeout_us; needs timeout_us */
    uint32_t keep_alive_timeout_ms;  /* 0 = none */
    int32_t retry_count;             /* how often a request is sent again after a loss or a passing error; −1 = always */
    uint32_t io_queue_entries;       /* of each I/O queue, 2 … 4096; the controller may allow fewer */
    uint32_t connect_timeout_ms;     /* of each step of a connect */
    struct nvme_initiator_loss loss; /* for controllers that say none */
};

/* One per node. Devices go to `graph`. Its host NQN is made from a random UUID, for controllers that name none. */
bool nvme_initiator_create(struct block_graph *graph, struct reactor *control, struct nvme_initiator **ret_initiator,
                           struct error *error);
/* No controller is left. */
void nvme_initiator_destroy(struct nvme_initiator *initiator);
void nvme_initiator_options_default(struct nvme_initiator_options *options);
const struct nvme_initiator_options *nvme_initiator_options(const struct nvme_initiator *initiator);
/* For controllers attached from now on. ERROR_PERMISSION while there is one ("RPC not permitted with nvme controllers already
 * attached"), ERROR_INVALID names the field. */
bool nvme_initiator_set_options(struct nvme_initiator *initiator, const struct nvme_initiator_options *options,
                                struct error *error);

/* ---- attach and detach ---- */

struct nvme_initiator_attach {
    /* the caller's; texts are copied */
    const char *name;
    struct host_address address; /* numeric; port 0 = 4420 */
    struct host_address from;    /* local address; text "" = any */
    const char *subnqn;
    const char *hostnqn; /* NULL = the initiator's own */
    bool header_digest, data_digest;
    bool sq_flow_control; /* keep submission queue flow control; else it is given up where the controller can */
    bool loss_set;        /* `loss` counts, else the initiator's */
    struct nvme_initiator_loss loss;
    uint32_t io_queues;          /* at most; 0 = one for each reactor that uses a device */
    uint32_t devices_max;        /* namespaces beyond it are left alone; 0 = NVME_INITIATOR_DEVICES_DEFAULT */
    uint64_t connect_timeout_us; /* of the fabrics Connect, 0 = the initiator's connect_timeout_ms */
    /* 0: the first attempt decides. Else one that failed, or has taken so long, is answered ok without devices, and it is tried
     * on as after a loss; wants a ctrlr_loss_timeout of -1 and a reconnect_delay. */
    uint64_t patience_ns;
    void (*done)(struct nvme_initiator_attach *attach); /* once; the caller's memory again */

    /* the answer */
    bool ok;
    /* ERROR_IO: refused or failed; ERROR_TIMED_OUT; ERROR_ALREADY: the name is taken; ERROR_EXISTS: the same path is attached
     * under another name; ERROR_INVALID names the field; ERROR_UNSUPPORTED: not a controller that we can use */
    struct error error;
    struct nvme_initiator_controller *controller;

    struct reactor_job job; /* the initiator's */
};
/* Connects, and registers a device for each namespace, then answers. A first connect is tried once, but for patience_ns. */
void nvme_initiator_attach(struct nvme_initiator *initiator, struct nvme_initiator_attach *attach);

/* Which path a detach means; NULL or "" members match any. */
struct nvme_initiator_path {
    const char *address, *subnqn, *from;
    uint16_t port;
};
/* Removes the devices (their users are told, the removal waits for them), shuts the controller down and forgets it, then calls
 * done(arg). ERROR_NO_DEVICE: no such name; ERROR_NOT_FOUND: the path is another; ERROR_BUSY: under way already. */
bool nvme_initiator_detach(struct nvme_initiator *initiator, const char *name, const struct nvme_initiator_path *path,
                           void (*done)(void *arg), void *arg, struct error *error);
/* Gives all connections of a controller up and makes them anew; done(ok, arg). ERROR_NO_DEVICE, ERROR_BUSY while another reset or
 * a detach is under way. */
bool nvme_initiator_reset(struct nvme_initiator *initiator, const char *name, void (*done)(bool ok, void *arg), void *arg,
                          struct error *error);

/* ---- looking ---- */

enum nvme_initiator_state {
    NVME_INITIATOR_ENABLED,
    NVME_INITIATOR_RESETTING,            /* connecting, or giving up connections */
    NVME_INITIATOR_RECONNECT_IS_DELAYED, /* between attempts */
    NVME_INITIATOR_FAILED,               /* no further attempt until it is reset */
    NVME_INITIATOR_DELETING
};

struct nvme_initiator_controller_info {
    const char *name;
    enum nvme_initiator_state state;
    struct host_address address, from;
    const char *subnqn, *hostnqn;
    uint16_t cntlid;
    unsigned devices;      /* namespaces that have one */
    unsigned io_queues;    /* connected ones */
    uint64_t reconnects;   /* associations after the first */
    const char *last_loss; /* why the last association ended, "" if none has */
    /* as the controller says; blanks at the end taken off */
    char serial[21], model[41], firmware[9];
    uint16_t vendor_id, oacs;
    uint32_t version; /* major << 16 | minor << 8 | tertiary */
    uint8_t cmic;
    bool header_digest, data_digest;               /* in force */
    bool header_digest_wanted, data_digest_wanted; /* as asked for */
    struct nvme_initiator_loss loss;               /* as asked for, or the initiator's */
    uint32_t io_queues_max;                        /* as asked for, 0 = one for each reactor */
};

/* "enabled", "disabled" …: the dialect's word. */
const char *nvme_initiator_state_name(enum nvme_initiator_state state);
/* By name; NULL if there is none. */
struct nvme_initiator_controller *nvme_initiator_find(struct nvme_initiator *initiator, const char *name);
/* First controller, and the one after, in order of attaching; NULL at the end. Those whose attach has not answered are left out.
 */
struct nvme_initiator_controller *nvme_initiator_next(struct nvme_initiator *initiator, struct nvme_initiator_controller *after);
/* Texts stay valid while the controller is there. */
void nvme_initiator_controller_info(const struct nvme_initiator_controller *controller,
                                    struct nvme_initiator_controller_info *ret_info);
/* Its devices in order of namespace id: the first, and the one after. */
struct block_device *nvme_initiator_device_next(struct nvme_initiator_controller *controller, const struct block_device *after);

/* True for a device of this kind. */
bool nvme_initiator_device_is(const struct block_device *device);
uint32_t nvme_initiator_device_nsid(const struct block_device *device);
/* Bit 0 of NMIC: the namespace may be reached through several controllers. */
bool nvme_initiator_device_can_share(const struct block_device *device);
/* State of asymmetric access as the dialect says it, "non_optimized"; NULL if its controller does not report it. */
const char *nvme_initiator_device_ana_state(const struct block_device *device);
struct nvme_initiator_controller *nvme_initiator_device_controller(const struct block_device *device);

/* What an NVMe status (type << 8 | code) means for the data path; writes: the command would have changed data. Any thread. */
enum io_status nvme_initiator_status(unsigned status, bool writes);
