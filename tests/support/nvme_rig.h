/* The NVMe/TCP target and the initiator facing each other, each with a control and data reactors, on a stepped host (one process)
 * or on the simulated cluster (two machines). The target serves memory devices through an error and a delay device each, so that
 * a test can make them slow, stuck or wrong. */
#pragma once

#include "block/block.h"
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/memory/memory.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "frontend/nvme/target.h"
#include "frontend/nvme_tcp/transport.h"
#include "host/sim/sim.h"
#include "support/replica_device.h"
#include "support/step_host.h"

#define RIG_NQN "nqn.2024-01.io.example:rig"
#define RIG_HOSTNQN "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define RIG_DISK_BYTES MIB(8)
#define RIG_DATA_REACTORS 2
#define RIG_PORT 4420

struct rig_options {
    uint64_t seed;
    bool simulated;
    struct step_host_options step; /* else */
    struct sim_link_options *link; /* simulated: NULL = the default */
    struct nvme_transport_options transport;
    unsigned disks;      /* namespaces from the beginning, 1 … ; 0 = 1 */
    uint32_t block_size; /* 0 = 512 */
    bool replicas;       /* the disks are replica devices … */
    uint64_t disk_bytes; /* … and everything is so large; 0 = RIG_DISK_BYTES */
};

struct rig {
    struct sim *sim;
    struct sim_node *target_node, *node;
    struct host *target_host, *host; /* the same one when stepped */
    struct reactor *target_control, *target_data, *control, *data[RIG_DATA_REACTORS];
    struct block_graph target_graph, graph;
    struct nvme_target *target;
    struct nvme_subsystem *subsystem;
    struct nvme_initiator *initiator;
    uint32_t block_size;
    bool replicas;
    uint64_t disk_bytes;
};

/* A request; the test sets op, flags, offset, length and bytes. */
struct rig_io {
    struct block_request request;
    struct slice slice;
    struct rig *rig;
    struct rig_device *device;
    bool done;
};

/* An open device of the initiator's, on one data reactor. */
struct rig_device {
    struct rig *rig;
    struct block_handle handle;
    struct block_channel *channel;
    struct reactor *reactor;
    bool remove_told, resize_told;
    unsigned path_told;
};

struct rig *rig_create(const struct rig_options *options);
/* Detaches what is attached, ends the target, and checks that nothing is left. */
void rig_destroy(struct rig *rig);
/* As step_host_run(). */
bool rig_run(struct rig *rig, bool (*condition)(void *arg), void *arg, uint64_t for_ns);
uint64_t rig_now_ns(struct rig *rig);
/* Calls it inside a turn of that reactor, and waits until it has run. */
void rig_call(struct rig *rig, struct reactor *reactor, void (*call)(void *arg), void *arg);

/* Adds a disk "m<number>" to the target and offers it under number + 1. */
void rig_disk_add(struct rig *rig, unsigned number);
/* Takes a namespace away, its disk stays. */
void rig_disk_withdraw(struct rig *rig, unsigned number);
/* Offers the disk of a number (again). */
void rig_disk_offer(struct rig *rig, unsigned number, const struct uuid *uuid);
void rig_disk_resize(struct rig *rig, unsigned number, uint64_t bytes);
/* Rule of the disk's error device; NULL = clear. */
void rig_disk_inject(struct rig *rig, unsigned number, const struct error_device_rule *rule);
uint64_t rig_disk_hits(struct rig *rig, unsigned number);
void rig_disk_delay(struct rig *rig, unsigned number, uint64_t read_us, uint64_t write_us);

/* Options for attaching to the rig's target as "r". */
void rig_attach_options(struct nvme_initiator_attach *attach);
/* Attaches and waits; the answer is in *attach. */
bool rig_attach(struct rig *rig, struct nvme_initiator_attach *attach);
bool rig_detach(struct rig *rig, const char *name);
/* The state of controller "r". */
void rig_info(struct rig *rig, struct nvme_initiator_controller_info *ret);
bool rig_wait_state(struct rig *rig, enum nvme_initiator_state state, uint64_t for_ns);

/* Opens a device (NULL = the first there is) on data reactor `reactor`. False if there is none of that name. */
bool rig_device_try_open(struct rig *rig, struct rig_device *device, const char *name, unsigned reactor);
void rig_device_open(struct rig *rig, struct rig_device *device, const char *name, unsigned reactor);
void rig_device_close(struct rig_device *device);
void rig_start(struct rig_device *device, struct rig_io *io, enum block_op op, unsigned flags, uint64_t offset, void *bytes,
               uint64_t length);
/* A replica operation; offset within the document. */
void rig_start_replica(struct rig_device *device, struct rig_io *io, enum block_op op, uint64_t argument, uint64_t offset,
                       void *bytes, uint64_t length);
/* The disk itself, to be looked at between runs. */
struct block_device *rig_disk(struct rig *rig, unsigned number);
void rig_recall(struct rig_device *device);
void rig_start_slices(struct rig_device *device, struct rig_io *io, enum block_op op, unsigned flags, uint64_t offset,
                      const struct slice *slices, uint32_t slice_count);
bool rig_wait(struct rig_io *io, uint64_t for_ns);
/* Does it whole; fails the test if it does not end in a minute. */
enum io_status rig_do(struct rig_device *device, enum block_op op, unsigned flags, uint64_t offset, void *bytes, uint64_t length);
bool rig_device_known(struct rig *rig, const char *name);
