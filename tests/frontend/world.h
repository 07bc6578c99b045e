/* A simulated node with a target on it, and hosts on another node that speak NVMe/TCP by the codec's host role, or anything else
 * by raw bytes. Each call of a test runs the world until what it waits for has come. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/device.h"
#include "frontend/nvme_tcp/transport.h"
#include "host/sim/sim.h"
#include "wire/nvme/nvme_identify.h"
#include "wire/nvme_tcp/host.h"

#define NQN "nqn.2026-01.penstock:disk"
#define HOST_NQN "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
#define PORT 4420
#define DEPTH 32

/* A memory disk of the test's: counts, holds requests back, fails them. */
struct disk {
    struct block_device device;
    uint8_t *bytes;
    bool hold; /* requests wait in `held` */
    bool abortable;
    enum io_status fail_with;
    struct list held;
    unsigned submitted, flushes, trims, zeroes, fua, compares;
    uint64_t trimmed_bytes;
    uint64_t association, argument, offset; /* of the last request */
    bool destroyed;
};

struct world {
    struct sim *sim;
    struct sim_node *target_node, *host_node;
    struct host *host, *client_host; /* processes */
    struct reactor *data, *control;
    struct host_loop *client_loop;
    struct block_graph graph;
    struct disk *disk, *disk2;
    struct nvme_target *target;
    struct nvme_subsystem *subsystem;
    struct list clients;
    void (*call)(void *arg); /* to run on the control reactor */
    void *call_arg;
    struct reactor_message call_message;
    struct reactor *call_reactor;
    bool call_done, target_gone;
};

/* Options 0 = usual. */
struct world *world_create(uint64_t seed, const struct nvme_transport_options *options, uint32_t block_size);
/* Ends everything in order and checks that nothing is left: connections, requests, buffers, sockets. */
void world_destroy(struct world *world);
/* Runs `call` on the control reactor, or on the data reactor. */
void world_do(struct world *world, void (*call)(void *arg), void *arg);
void world_do_data(struct world *world, void (*call)(void *arg), void *arg);
void world_pass(struct world *world, uint64_t ms);
/* Lets held requests of the disk complete. */
void disk_release(struct world *world, struct disk *disk);
/* Live connections at the target: admin and I/O queues of the subsystem. */
unsigned world_queues(struct world *world);
unsigned world_controllers(struct world *world);

/* One connection from the hosts' node. */
struct client {
    struct world *world;
    struct list_node node;
    struct host_socket *socket;
    bool raw;       /* bytes go in and out as they are */
    bool no_read;   /* a reader that stops */
    bool connected; /* ICResp is here */
    bool closed;    /* by the target */
    bool ended;     /* by a termination request; fes */
    uint16_t fes;
    struct nvme_tcp_host wire;
    struct nvme_tcp_request requests[DEPTH];
    struct nvme_tcp_request *table[DEPTH];
    struct slice slices[DEPTH];
    bool done[DEPTH];
    struct nvme_cqe cqe[DEPTH];
    uint8_t staging[65536];
    uint8_t out[200000]; /* raw bytes to send */
    size_t out_length, out_done;
    uint8_t in[65536]; /* raw bytes received */
    size_t in_length;
    bool connect_now, close_now;
    bool header_digest, data_digest, disable_sq_flow;
    const char *hostnqn, *nqn; /* nqn: the subsystem */
    uint16_t port, cntlid;
};

struct client *client_open(struct world *world, bool raw, bool header_digest, bool data_digest);
void client_close(struct client *client);
/* Sends raw bytes (of a raw client). */
void client_send(struct client *client, const void *bytes, size_t count);
/* Begins a command; it is `done[cid]` when its completion is here. The SQE's cid is set. */
void client_submit(struct client *client, uint16_t cid, struct nvme_sqe sqe, enum nvme_direction direction, void *data,
                   uint32_t length, bool in_capsule);
void client_wait(struct client *client, uint16_t cid);
/* Submit and wait; returns the enum nvme_status. */
unsigned client_run(struct client *client, struct nvme_sqe sqe, enum nvme_direction direction, void *data, uint32_t length,
                    bool in_capsule);
/* True when the target closed the connection within this time. */
bool client_is_closed(struct client *client, uint64_t ms);

/* Connect command; the status. */
unsigned client_connect(struct client *client, const char *nqn, uint16_t qid, uint16_t depth, uint16_t cntlid, uint32_t kato_ms);
unsigned client_property_set(struct client *client, uint32_t offset, uint64_t value);
unsigned client_property_get(struct client *client, uint32_t offset, bool wide, uint64_t *ret);
#define CC_USUAL (NVME_CC_ENABLE | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16)
/* A controller that is ready; fails the test otherwise. */
struct client *controller_open_at(struct world *world, const char *nqn, uint16_t port, uint32_t kato_ms);
struct client *controller_open(struct world *world, uint32_t kato_ms);
struct client *queue_open(struct client *admin, uint16_t qid);
unsigned client_io(struct client *client, uint8_t opcode, uint64_t block, uint32_t blocks, void *data, uint32_t length);
unsigned client_identify(struct client *client, uint8_t cns, uint32_t nsid, void *to);

/* Bytes that depend on their place and on the seed. */
void fill(uint8_t *to, size_t size, uint8_t seed);
