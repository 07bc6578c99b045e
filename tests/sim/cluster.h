/* Product nodes in one simulated cluster: what the tests of many nodes together stand on. A plane is a process of the product
 * with its reactors, block graph, NVMe target and initiator, on a machine of its own; its memory is one heap, so that a kill
 * frees all of it. One thread. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/device.h"
#include "blockdev/file/file.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "frontend/nvme/target.h"
#include "frontend/nvme_tcp/transport.h"
#include "heap.h"
#include "host/sim/sim_disk.h"

#define PLANE_DATA_MAX 4
#define PLANE_PORT 4420

struct cluster {
    struct sim *sim;
};

/* Says the seed, so that a failure shows it. */
void cluster_init(struct cluster *cluster, uint64_t seed);
void cluster_init_options(struct cluster *cluster, const struct sim_options *options);
void cluster_fini(struct cluster *cluster);
/* Runs until condition(arg); fails the test with `what` if it does not come within so much virtual time. */
void cluster_wait(struct cluster *cluster, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what);

struct plane {
    struct cluster *cluster;
    struct sim_node *node;
    char address[48];
    unsigned data_count;
    bool digests; /* asked for by what it attaches */
    bool running;
    /* of the running process */
    struct heap heap;
    struct host *host;
    struct reactor *control, *data[PLANE_DATA_MAX];
    struct block_graph graph;
    struct nvme_target *target;
    struct nvme_initiator *initiator;
    uint64_t kills; /* of the node, as last looked at */
};

/* A machine, without a process yet. */
void plane_init(struct plane *plane, struct cluster *cluster, const char *name, const char *address, unsigned data_count);
/* Fit for tests: a lost controller is tried again for ever, quickly; requests wait and are retried for ever. */
void plane_initiator_options(struct nvme_initiator_options *options);
/* Starts the process: reactors, an empty graph, target and initiator. `options` of the initiator: NULL = its defaults. */
void plane_start(struct plane *plane, const struct nvme_initiator_options *options);
/* Frees the memory of a process that has died meanwhile (sim_process_kill_at). True if it has. */
bool plane_reap(struct plane *plane);
void plane_kill(struct plane *plane, enum sim_kill how);
void plane_power_off(struct plane *plane);
/* Ends in order: controllers are detached, devices removed, target and reactors destroyed. Fails the test if memory is left. */
void plane_exit(struct plane *plane);

/* Calls call(plane, arg) on a reactor of the plane and waits for its return. */
void plane_do_on(struct plane *plane, struct reactor *reactor, void (*call)(struct plane *plane, void *arg), void *arg);
/* On the control reactor. */
void plane_do(struct plane *plane, void (*call)(struct plane *plane, void *arg), void *arg);

/* A RAM disk, registered under this name; its UUID is made from the name. */
void plane_add_memory(struct plane *plane, const char *name, uint64_t bytes);
/* A disk of the machine as a device. The file is opened in the background: `opening` is the test's until it is done, which
 * file_is_open() tells. */
void plane_add_file(struct plane *plane, struct file_device_create *opening, const char *name, const char *path);
/* *opening has ended, well or not. */
bool file_is_open(void *opening);
/* Offers a device as namespace 1 of a subsystem, on the plane's address and PLANE_PORT, to any host. */
void plane_serve(struct plane *plane, const char *nqn, const char *device);
/* The same, from the control reactor. */
void plane_serve_now(struct plane *plane, const char *nqn, const char *device);
/* Attaches a subsystem of another plane; fails the test unless that works. Its devices are <name>n<nsid>. */
void plane_attach(struct plane *plane, const char *name, const struct plane *to, const char *nqn);
/* The same; false with *error if it is refused. */
bool plane_try_attach(struct plane *plane, const char *name, const struct plane *to, const char *nqn, struct error *error);
/* Detaches it and waits. */
void plane_detach(struct plane *plane, const char *name);
/* True if there is a device of this name. */
bool plane_has(struct plane *plane, const char *device);
/* Its counters; zero if it is not attached. */
uint64_t plane_reconnects(struct plane *plane, const char *name);
