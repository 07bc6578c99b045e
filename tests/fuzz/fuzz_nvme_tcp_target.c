/* Fuzzes the whole NVMe/TCP target: sockets in memory, the codec, connections, controllers, a RAM disk. What must hold: it does
 * not fall, answers are whole PDUs, and when the host has gone, or stays silent for long, nothing of it is left.
 *
 * Byte 0, bits 1:0: where the bytes begin: 0 at the very start, 1 behind an admin Connect, 2 behind an enabled controller, 3 on
 * an I/O queue of one. Bit 2: the host stays and says no more, else it closes. Bit 3: it does not read. Bit 4: the disk is a
 * replica. Byte 1: how many bytes the target reads at once, 0 = all. The rest is what the host sends. */
#include "../support/step_host.h"
#include "blockdev/memory/memory.h"
#include "frontend/nvme_tcp/transport.h"
#include "support/replica_device.h"
#include "wire/nvme_tcp/pdu.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NQN "nqn.2026-01.penstock:fuzz"
#define DEVICE_BLOCKS 2048

struct peer {
    struct host_socket *socket;
    uint8_t out[65536 + 4096];
    size_t out_length, out_done;
    uint8_t in[16384]; /* a ring is not needed: whole PDUs are checked and dropped */
    size_t in_length;
    uint64_t skip; /* rest of the PDU under way */
    bool closed, no_read;
};

struct world {
    struct host *host;
    struct reactor *control, *data;
    struct block_graph graph;
    struct nvme_target *target;
    struct block_device *device;
    struct nvme_subsystem *subsystem;
    struct host_loop *peer_loop;
    struct peer peers[2];
    bool gone;
};

/* Answers are PDUs, one behind the other. */
static void answers_check(struct peer *peer) {
    size_t at = 0;
    while (at < peer->in_length) {
        if (peer->skip > 0) {
            size_t n = min_u64(peer->skip, peer->in_length - at);
            peer->skip -= n;
            at += n;
            continue;
        }
        if (peer->in_length - at < sizeof(struct nvme_tcp_common))
            break;
        struct nvme_tcp_common common;
        memcpy(&common, peer->in + at, sizeof(common));
        assert(common.type == NVME_TCP_ICRESP || common.type == NVME_TCP_C2H_TERM || common.type == NVME_TCP_RESPONSE ||
               common.type == NVME_TCP_C2H_DATA || common.type == NVME_TCP_R2T);
        assert(common.length >= common.header_length && common.length <= MIB(2));
        peer->skip = common.length;
    }
    memmove(peer->in, peer->in + at, peer->in_length - at);
    peer->in_length -= at;
}

static void peer_run(struct peer *peer) {
    while (peer->socket != NULL && !peer->closed && peer->out_done < peer->out_length) {
        struct slice slice = {peer->out + peer->out_done, peer->out_length - peer->out_done};
        int64_t n = host_socket_write(peer->socket, &slice, 1);
        if (n == -EAGAIN)
            break;
        if (n < 0)
            peer->closed = true;
        else
            peer->out_done += (size_t)n;
    }
    while (peer->socket != NULL && !peer->closed && !peer->no_read) {
        struct slice slice = {peer->in + peer->in_length, sizeof(peer->in) - peer->in_length};
        int64_t n = host_socket_read(peer->socket, &slice, 1);
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            peer->closed = true;
            break;
        }
        peer->in_length += (size_t)n;
        answers_check(peer);
    }
}

static void on_peer(void *arg, unsigned events) {
    (void)events;
    peer_run(arg);
}

static struct host_turn peer_turn(void *arg) {
    struct world *world = arg;
    unsigned worked = host_loop_poll(world->peer_loop);
    for (unsigned i = 0; i < 2; i++)
        peer_run(&world->peers[i]);
    return (struct host_turn){.worked = worked > 0, .deadline_ns = UINT64_MAX};
}

/* ---- what leads to where the input begins ---- */

static void say(struct peer *peer, const void *bytes, size_t size) {
    assert(peer->out_length + size <= sizeof(peer->out));
    memcpy(peer->out + peer->out_length, bytes, size);
    peer->out_length += size;
}

static void say_connect(struct peer *peer, uint16_t qid, uint16_t cntlid) {
    struct nvme_tcp_icreq icreq = {.common = {NVME_TCP_ICREQ, 0, 128, 0, 128}};
    struct {
        struct nvme_tcp_command head;
        struct nvme_connect_data data;
    } NVME_PACKED capsule = {
        .head.common = {NVME_TCP_COMMAND, 0, 72, 72, 72 + 1024},
        .data = {.cntlid = cntlid, .subnqn = NQN, .hostnqn = "nqn.2026-01.penstock:host"},
    };
    struct nvme_connect connect = {.opcode = NVME_OPCODE_FABRICS,
                                   .flags = NVME_FLAG_PSDT_SGL,
                                   .fabrics_type = NVME_FABRICS_CONNECT,
                                   .sgl = {.length = 1024, .type = NVME_SGL_OFFSET},
                                   .qid = qid,
                                   .sq_size = 15,
                                   .kato_ms = 30000};
    memcpy(&capsule.head.sqe, &connect, sizeof(connect));
    say(peer, &icreq, sizeof(icreq));
    say(peer, &capsule, sizeof(capsule));
}

static void say_enable(struct peer *peer) {
    struct nvme_tcp_command command = {.common = {NVME_TCP_COMMAND, 0, 72, 0, 72}};
    struct nvme_property property = {.opcode = NVME_OPCODE_FABRICS,
                                     .flags = NVME_FLAG_PSDT_SGL,
                                     .fabrics_type = NVME_FABRICS_PROPERTY_SET,
                                     .offset = NVME_PROPERTY_CC,
                                     .value = NVME_CC_ENABLE | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16};
    memcpy(&command.sqe, &property, sizeof(property));
    say(peer, &command, sizeof(command));
}

/* ---- the target ---- */

static void target_build(struct world *world, bool replica) {
    struct error error = {0};
    struct memory_device_options memory = {.name = "disk", .uuid = {{1}}, .block_size = 512, .block_count = DEVICE_BLOCKS};
    struct nvme_target_options options = {
        .graph = &world->graph, .control = world->control, .data = &world->data, .data_count = 1};
    struct nvme_transport_options transport = {.queue_depth = 16, .max_io_bytes = replica ? 131072 : 16384};
    struct nvme_subsystem_options subsystem = {.nqn = NQN, .allow_any_host = true};
    struct nvme_namespace_options ns = {.device = "disk"};
    struct nvme_listen_address address;
    uint32_t nsid;
    bool ok = replica ? replica_device_create(&world->graph, "disk", 512, DEVICE_BLOCKS * UINT64_C(512), &world->device)
                      : memory_device_create(&world->graph, &memory, &world->device, &error);
    world->target = nvme_target_create(&options, &error);
    ok = ok && world->target != NULL && nvme_tcp_transport_create(world->target, world->control, &transport, &error) &&
         nvme_subsystem_create(world->target, &subsystem, &world->subsystem, &error) &&
         nvme_subsystem_add_namespace(world->subsystem, &ns, &nsid, &error) &&
         nvme_listen_address_parse("TCP", "", "10.0.0.1", "4420", &address, &error) &&
         nvme_subsystem_add_listener(world->subsystem, &address, NVME_ANA_OPTIMIZED, &error);
    assert(ok);
}

static void world_build(struct world *world, uint32_t read_max, bool replica) {
    struct step_host_options host = {.seed = 1, .read_max = read_max};
    world->host = step_host_create(&host);
    struct reactor_options control = {.name = "control", .cpu = -1, .index = 1},
                           data = {.name = "data", .cpu = -1, .buffer_limit = MIB(4)};
    bool ok =
        reactor_create(world->host, &control, &world->control) == 0 && reactor_create(world->host, &data, &world->data) == 0;
    struct host_loop_options loop = {.name = "peer", .cpu = -1, .turn = peer_turn, .arg = world};
    ok = ok && host_loop_create(world->host, &loop, &world->peer_loop) == 0;
    assert(ok);
    block_graph_init(&world->graph, world->host, 2);
    reactor_enter(world->control);
    target_build(world, replica);
    reactor_enter(NULL);
    reactor_start(world->data);
    reactor_start(world->control);
    host_loop_start(world->peer_loop);
}

static void peer_open(struct world *world, struct peer *peer) {
    struct host_address to = {.family = HOST_IPV4, .port = 4420, .text = "10.0.0.1"};
    peer->socket = host_connect(world->peer_loop, &to, NULL, on_peer, peer, NULL);
    assert(peer->socket != NULL);
    host_loop_wake(world->peer_loop);
}

static void peer_close(struct peer *peer) {
    if (peer->socket != NULL)
        host_socket_close(peer->socket);
    peer->socket = NULL;
}

static void on_gone(void *arg) { ((struct world *)arg)->gone = true; }

static void world_end(struct world *world) {
    reactor_enter(world->control);
    nvme_target_destroy(world->target, on_gone, world);
    reactor_enter(NULL);
    host_loop_wake(world->control->loop);
    step_host_run(world->host, NULL, NULL, 100 * NS_PER_MS);
    assert(world->gone);
    for (unsigned i = 0; i < 2; i++)
        peer_close(&world->peers[i]);
    reactor_enter(world->control);
    bool removed = block_device_remove(world->device, NULL, NULL, NULL);
    reactor_enter(NULL);
    assert(removed && world->data->buffers.in_use == 0 && world->control->buffers.in_use == 0);
    reactor_destroy(world->data);
    reactor_destroy(world->control);
    host_loop_destroy(world->peer_loop);
    block_graph_fini(&world->graph);
    step_host_destroy(world->host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 65536)
        return 0;
    uint8_t mode = data[0] & 3;
    bool stays = data[0] & 4;
    struct world *world = calloc(1, sizeof(*world));
    assert(world != NULL);
    world_build(world, data[1], data[0] & 16);
    struct peer *peer = &world->peers[0];
    peer_open(world, peer);
    if (mode >= 1)
        say_connect(peer, 0, NVME_CNTLID_DYNAMIC);
    if (mode >= 2)
        say_enable(peer);
    if (mode == 3) {
        step_host_run(world->host, NULL, NULL, 100 * NS_PER_MS);
        peer = &world->peers[1];
        peer_open(world, peer);
        say_connect(peer, 1, 1);
    }
    step_host_run(world->host, NULL, NULL, 100 * NS_PER_MS);
    peer->no_read = data[0] & 8;
    say(peer, data + 2, size - 2);
    host_loop_wake(world->peer_loop);
    step_host_run(world->host, NULL, NULL, 100 * NS_PER_MS);
    if (!stays)
        peer_close(peer);
    step_host_run(world->host, NULL, NULL, (stays ? 200000 : 100) * NS_PER_MS);
    /* With a keep-alive timeout, or none of a controller, silence has ended everything. */
    if (stays && !peer->no_read)
        assert(world->data->buffers.in_use == 0);
    world_end(world);
    free(world);
    return 0;
}
