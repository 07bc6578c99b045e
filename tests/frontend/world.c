#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DISK_BYTES MIB(4)

/* ---- the disk ---- */

static void disk_run(struct block_request *request) {
    struct disk *disk = container_of(block_channel_device(request->channel), struct disk, device);
    uint8_t *at = disk->bytes + request->offset;
    enum io_status status = disk->fail_with;
    if (status == IO_OK)
        switch (request->op) {
        case BLOCK_READ: slice_copy_in(request->slices, request->slice_count, 0, at, request->length); break;
        case BLOCK_WRITE: slice_copy_out(request->slices, request->slice_count, 0, at, request->length); break;
        case BLOCK_FLUSH: disk->flushes++; break;
        case BLOCK_TRIM:
            disk->trims++;
            disk->trimmed_bytes += request->length;
            memset(at, 0, request->length);
            break;
        case BLOCK_WRITE_ZEROES:
            disk->zeroes++;
            memset(at, 0, request->length);
            break;
        case BLOCK_COMPARE: {
            disk->compares++;
            uint8_t *held = malloc(request->length);
            slice_copy_out(request->slices, request->slice_count, 0, held, request->length);
            status = memcmp(held, at, request->length) == 0 ? IO_OK : IO_COMPARE_FAILED;
            free(held);
            break;
        }
        }
    disk->fua += (request->flags & BLOCK_FUA) != 0;
    block_complete_later(request, status);
}

static void disk_submit(struct block_channel *channel, struct block_request *request) {
    struct disk *disk = container_of(block_channel_device(channel), struct disk, device);
    disk->submitted++;
    disk->association = block_request_association(request);
    disk->argument = request->argument;
    disk->offset = request->offset;
    if (disk->hold)
        list_push_back(&disk->held, &request->node);
    else
        disk_run(request);
}

static bool disk_abort(struct block_channel *channel, struct block_request *request) {
    struct disk *disk = container_of(block_channel_device(channel), struct disk, device);
    if (!disk->abortable)
        return false;
    list_for_each (&disk->held, struct block_request, held, node)
        if (held == request) {
            list_remove(&held->node);
            block_complete_later(held, IO_ABORTED);
            return true;
        }
    return false;
}

static void disk_destroy(struct block_device *device) { container_of(device, struct disk, device)->destroyed = true; }

static const struct block_device_ops disk_ops = {
    .kind = "test", .product_name = "test", .submit = disk_submit, .abort = disk_abort, .destroy = disk_destroy};

static struct disk *disk_create(struct world *world, const char *name, uint32_t block_size, uint8_t id) {
    struct disk *disk = calloc(1, sizeof(*disk));
    disk->bytes = calloc(1, DISK_BYTES);
    list_init(&disk->held);
    disk->device.ops = &disk_ops;
    disk->device.uuid = (struct uuid){{0x11, 0x22, 0x33, id}};
    snprintf(disk->device.name, sizeof(disk->device.name), "%s", name);
    disk->device.block_size = block_size;
    disk->device.block_count = DISK_BYTES / block_size;
    disk->device.native_ops = (1U << BLOCK_OP_COUNT) - 1;
    disk->device.native_fua = disk->device.volatile_cache = disk->device.trim_reads_zero = true;
    disk->device.home = world->data;
    assert_true(block_device_register(&world->graph, &disk->device, NULL));
    return disk;
}

static void on_release(void *arg) {
    struct disk *disk = arg;
    disk->hold = false;
    for (struct list_node *node; (node = list_pop_front(&disk->held)) != NULL;)
        disk_run(list_entry(node, struct block_request, node));
}

void disk_release(struct world *world, struct disk *disk) { world_do_data(world, on_release, disk); }

/* ---- the hosts' node ---- */

static void client_push(struct client *client) {
    while (client->socket != NULL && client->raw && client->out_done < client->out_length) {
        struct slice slice = {client->out + client->out_done, client->out_length - client->out_done};
        int64_t n = host_socket_write(client->socket, &slice, 1);
        if (n < 0) {
            client->closed |= n != -EAGAIN;
            return;
        }
        client->out_done += (size_t)n;
    }
    while (client->socket != NULL && !client->raw && !nvme_tcp_tx_empty(&client->wire.tx)) {
        struct slice slices[64];
        uint32_t count = nvme_tcp_tx_out(&client->wire.tx, slices, 64);
        int64_t n = host_socket_write(client->socket, slices, count);
        if (n < 0) {
            client->closed |= n != -EAGAIN;
            return;
        }
        nvme_tcp_host_sent(&client->wire, (size_t)n);
    }
}

static void client_events(struct client *client) {
    struct nvme_tcp_host_event event;
    do {
        nvme_tcp_host_next(&client->wire, &event);
        switch (event.type) {
        case NVME_TCP_HOST_CONNECTED: client->connected = true; break;
        case NVME_TCP_HOST_COMPLETION:
            client->cqe[event.request->cid] = event.request->cqe;
            client->done[event.request->cid] = true;
            break;
        case NVME_TCP_HOST_TERMINATED:
            client->ended = true;
            client->fes = client->wire.controller_fes;
            break;
        case NVME_TCP_HOST_FAULT: fail_msg("the target broke the protocol: %s", client->wire.rx.fault.text); break;
        case NVME_TCP_HOST_IDLE: break;
        }
    } while (event.type == NVME_TCP_HOST_CONNECTED || event.type == NVME_TCP_HOST_COMPLETION);
}

static void client_pull(struct client *client) {
    while (client->socket != NULL && !client->no_read && !client->closed) {
        struct slice slices[8];
        uint8_t waste[4096];
        uint32_t count = 1;
        if (client->raw) {
            if (client->in_length == sizeof(client->in))
                return;
            slices[0] = (struct slice){client->in + client->in_length, sizeof(client->in) - client->in_length};
        } else if (client->ended)
            slices[0] = (struct slice){waste, sizeof(waste)};
        else
            count = nvme_tcp_host_want(&client->wire, slices, 8);
        int64_t n = host_socket_read(client->socket, slices, count);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            client->closed = true;
            return;
        }
        if (client->raw)
            client->in_length += (size_t)n;
        else if (!client->ended) {
            nvme_tcp_host_got(&client->wire, (size_t)n);
            client_events(client);
        }
    }
}

static void on_event(void *arg, unsigned events) {
    struct client *client = arg;
    if (events & HOST_CLOSED && host_socket_error(client->socket) != 0)
        client->closed = true;
    client_push(client);
    client_pull(client);
    client_push(client);
}

static struct host_turn client_turn(void *arg) {
    struct world *world = arg;
    unsigned worked = host_loop_poll(world->client_loop);
    list_for_each (&world->clients, struct client, client, node) {
        if (client->connect_now) {
            struct host_address to = {.family = HOST_IPV4, .port = client->port, .text = "10.0.0.1"};
            client->connect_now = false;
            client->socket = host_connect(world->client_loop, &to, NULL, on_event, client, NULL);
            assert_non_null(client->socket);
            worked++;
        }
        if (client->close_now && client->socket != NULL) {
            host_socket_close(client->socket);
            client->socket = NULL;
            worked++;
        }
        if (client->socket != NULL && !client->closed) {
            client_pull(client);
            client_push(client);
        }
    }
    host_loop_flush(world->client_loop);
    return (struct host_turn){.worked = worked > 0, .deadline_ns = UINT64_MAX};
}

static bool until(struct world *world, bool (*condition)(void *arg), void *arg, uint64_t ms) {
    return sim_run_until(world->sim, condition, arg, ms * NS_PER_MS, 5000000) == SIM_MET;
}

struct client *client_open(struct world *world, bool raw, bool header_digest, bool data_digest) {
    struct client *client = calloc(1, sizeof(*client));
    client->world = world;
    client->raw = raw;
    client->hostnqn = HOST_NQN;
    client->nqn = NQN;
    client->port = PORT;
    client->connect_now = true;
    struct nvme_tcp_host_options options = {.header_digest = header_digest, .data_digest = data_digest, .success_flag = true};
    nvme_tcp_host_init(&client->wire, &options, client->staging, sizeof(client->staging));
    for (unsigned i = 0; i < DEPTH; i++)
        client->table[i] = &client->requests[i];
    nvme_tcp_host_set_requests(&client->wire, client->table, DEPTH);
    list_push_back(&world->clients, &client->node);
    host_loop_wake(world->client_loop);
    return client;
}

static bool is_unplugged(void *arg) { return ((struct client *)arg)->socket == NULL; }

void client_close(struct client *client) {
    client->close_now = true;
    host_loop_wake(client->world->client_loop);
    assert_true(until(client->world, is_unplugged, client, 60000));
    list_remove(&client->node);
    free(client);
}

void client_send(struct client *client, const void *bytes, size_t count) {
    assert_true(client->raw && client->out_length + count <= sizeof(client->out));
    memcpy(client->out + client->out_length, bytes, count);
    client->out_length += count;
    host_loop_wake(client->world->client_loop);
}

static bool is_connected(void *arg) {
    struct client *client = arg;
    return client->connected || client->closed;
}

void client_submit(struct client *client, uint16_t cid, struct nvme_sqe sqe, enum nvme_direction direction, void *data,
                   uint32_t length, bool in_capsule) {
    assert_true(until(client->world, is_connected, client, 60000));
    sqe.cid = cid;
    client->done[cid] = false;
    client->slices[cid] = (struct slice){data, length};
    nvme_tcp_host_submit(&client->wire, &sqe, direction, &client->slices[cid], 1, length, in_capsule);
    host_loop_wake(client->world->client_loop);
}

struct waiting {
    struct client *client;
    uint16_t cid;
};
static bool is_done(void *arg) {
    struct waiting *waiting = arg;
    return waiting->client->done[waiting->cid] || waiting->client->closed || waiting->client->ended;
}

void client_wait(struct client *client, uint16_t cid) {
    struct waiting waiting = {client, cid};
    if (!until(client->world, is_done, &waiting, 120000) || !client->done[cid])
        fail_msg("command %u was not answered (%s)", cid, client->closed ? "closed" : client->ended ? "ended" : "time is over");
}

unsigned client_run(struct client *client, struct nvme_sqe sqe, enum nvme_direction direction, void *data, uint32_t length,
                    bool in_capsule) {
    client_submit(client, 0, sqe, direction, data, length, in_capsule);
    client_wait(client, 0);
    return nvme_status_code(&client->cqe[0]);
}

static bool is_closed(void *arg) { return ((struct client *)arg)->closed; }
bool client_is_closed(struct client *client, uint64_t ms) { return until(client->world, is_closed, client, ms); }

/* ---- what hosts say ---- */

unsigned client_connect(struct client *client, const char *nqn, uint16_t qid, uint16_t depth, uint16_t cntlid, uint32_t kato_ms) {
    struct nvme_connect_data data = {.cntlid = cntlid, .host_id = {1, 2, 3, 4}};
    snprintf(data.subnqn, sizeof(data.subnqn), "%s", nqn);
    snprintf(data.hostnqn, sizeof(data.hostnqn), "%s", client->hostnqn);
    struct nvme_connect connect = {.opcode = NVME_OPCODE_FABRICS,
                                   .fabrics_type = NVME_FABRICS_CONNECT,
                                   .qid = qid,
                                   .sq_size = (uint16_t)(depth - 1),
                                   .attributes = client->disable_sq_flow ? NVME_CONNECT_DISABLE_SQ_FLOW : 0,
                                   .kato_ms = kato_ms};
    struct nvme_sqe sqe;
    memcpy(&sqe, &connect, sizeof(sqe));
    unsigned status = client_run(client, sqe, NVME_HOST_TO_CONTROLLER, &data, sizeof(data), true);
    client->cntlid = (uint16_t)client->cqe[0].dw0;
    return status;
}

unsigned client_property_set(struct client *client, uint32_t offset, uint64_t value) {
    struct nvme_property property = {
        .opcode = NVME_OPCODE_FABRICS, .fabrics_type = NVME_FABRICS_PROPERTY_SET, .offset = offset, .value = value};
    struct nvme_sqe sqe;
    memcpy(&sqe, &property, sizeof(sqe));
    return client_run(client, sqe, NVME_NO_DATA, NULL, 0, false);
}

unsigned client_property_get(struct client *client, uint32_t offset, bool wide, uint64_t *ret) {
    struct nvme_property property = {
        .opcode = NVME_OPCODE_FABRICS, .fabrics_type = NVME_FABRICS_PROPERTY_GET, .offset = offset, .attributes = wide ? 1 : 0};
    struct nvme_sqe sqe;
    memcpy(&sqe, &property, sizeof(sqe));
    unsigned status = client_run(client, sqe, NVME_NO_DATA, NULL, 0, false);
    *ret = client->cqe[0].value;
    return status;
}

struct client *controller_open_at(struct world *world, const char *nqn, uint16_t port, uint32_t kato_ms) {
    struct client *admin = client_open(world, false, false, false);
    admin->nqn = nqn;
    admin->port = port;
    assert_int_equal(client_connect(admin, nqn, 0, DEPTH, NVME_CNTLID_DYNAMIC, kato_ms), 0);
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CC, CC_USUAL), 0);
    uint64_t csts = 0;
    for (int i = 0; i < 100 && !(csts & NVME_CSTS_READY); i++) {
        world_pass(world, 1);
        assert_int_equal(client_property_get(admin, NVME_PROPERTY_CSTS, false, &csts), 0);
    }
    assert_int_equal(csts, NVME_CSTS_READY);
    return admin;
}

struct client *controller_open(struct world *world, uint32_t kato_ms) {
    return controller_open_at(world, NQN, PORT, kato_ms);
}

struct client *queue_open(struct client *admin, uint16_t qid) {
    struct client *io = client_open(admin->world, false, admin->header_digest, admin->data_digest);
    io->hostnqn = admin->hostnqn;
    io->nqn = admin->nqn;
    io->port = admin->port;
    assert_int_equal(client_connect(io, io->nqn, qid, DEPTH, admin->cntlid, 0), 0);
    return io;
}

unsigned client_io(struct client *client, uint8_t opcode, uint64_t block, uint32_t blocks, void *data, uint32_t length) {
    struct nvme_sqe sqe = {
        .opcode = opcode, .nsid = 1, .cdw10 = (uint32_t)block, .cdw11 = (uint32_t)(block >> 32), .cdw12 = blocks - 1};
    enum nvme_direction direction = length == 0 ? NVME_NO_DATA : (enum nvme_direction)(opcode & 3);
    return client_run(client, sqe, direction, data, length, direction == NVME_HOST_TO_CONTROLLER && length <= 4096);
}

unsigned client_identify(struct client *client, uint8_t cns, uint32_t nsid, void *to) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = cns};
    memset(to, 0xee, NVME_IDENTIFY_SIZE);
    return client_run(client, sqe, NVME_CONTROLLER_TO_HOST, to, NVME_IDENTIFY_SIZE, false);
}

/* ---- the world ---- */

static void on_call(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, call_message);
    world->call(world->call_arg);
    world->call_done = true;
}
static bool call_is_done(void *arg) { return ((struct world *)arg)->call_done; }

static void do_on(struct world *world, struct reactor *reactor, void (*call)(void *arg), void *arg) {
    world->call = call;
    world->call_arg = arg;
    world->call_done = false;
    world->call_message.run = on_call;
    reactor_post(reactor, &world->call_message);
    assert_true(until(world, call_is_done, world, 60000));
}

void world_do(struct world *world, void (*call)(void *arg), void *arg) { do_on(world, world->control, call, arg); }
void world_do_data(struct world *world, void (*call)(void *arg), void *arg) { do_on(world, world->data, call, arg); }
void world_pass(struct world *world, uint64_t ms) { sim_run_for(world->sim, ms * NS_PER_MS); }

struct build {
    struct world *world;
    struct nvme_transport_options options;
    uint32_t block_size;
};

static void build(void *arg) {
    struct build *b = arg;
    struct world *world = b->world;
    struct error error = {0};
    struct nvme_target_options options = {
        .graph = &world->graph, .control = world->control, .data = &world->data, .data_count = 1};
    struct nvme_subsystem_options subsystem = {.nqn = NQN, .serial = "S1", .model = "Model", .allow_any_host = true};
    struct nvme_namespace_options ns = {.device = "disk"};
    struct nvme_listen_address address;
    uint32_t nsid = 0;
    world->disk = disk_create(world, "disk", b->block_size, 1);
    world->disk2 = disk_create(world, "disk2", b->block_size, 2);
    world->target = nvme_target_create(&options, &error);
    assert_non_null(world->target);
    assert_true(nvme_tcp_transport_create(world->target, world->control, &b->options, &error));
    assert_true(nvme_subsystem_create(world->target, &subsystem, &world->subsystem, &error));
    assert_true(nvme_subsystem_add_namespace(world->subsystem, &ns, &nsid, &error));
    assert_int_equal(nsid, 1);
    assert_true(nvme_listen_address_parse("TCP", "IPv4", "10.0.0.1", "4420", &address, &error));
    assert_true(nvme_subsystem_add_listener(world->subsystem, &address, NVME_ANA_OPTIMIZED, &error));
}

struct world *world_create(uint64_t seed, const struct nvme_transport_options *options, uint32_t block_size) {
    struct world *world = calloc(1, sizeof(*world));
    struct sim_options sim_options;
    sim_options_init(&sim_options, seed);
    world->sim = sim_create(&sim_options);
    world->target_node = sim_node_create(world->sim, "target", "10.0.0.1");
    world->host_node = sim_node_create(world->sim, "hosts", "10.0.0.2");
    world->host = sim_process_start(world->target_node);
    world->client_host = sim_process_start(world->host_node);
    list_init(&world->clients);
    struct reactor_options data = {.name = "data", .cpu = -1}, control = {.name = "control", .cpu = -1, .index = 1};
    assert_int_equal(reactor_create(world->host, &data, &world->data), 0);
    assert_int_equal(reactor_create(world->host, &control, &world->control), 0);
    block_graph_init(&world->graph, world->host, 2);
    struct host_loop_options loop = {.name = "hosts", .cpu = -1, .turn = client_turn, .arg = world};
    assert_int_equal(host_loop_create(world->client_host, &loop, &world->client_loop), 0);
    reactor_start(world->data);
    reactor_start(world->control);
    host_loop_start(world->client_loop);
    struct build b = {.world = world, .block_size = block_size};
    if (options != NULL)
        b.options = *options;
    world_do(world, build, &b);
    return world;
}

static void on_gone(void *arg) { ((struct world *)arg)->target_gone = true; }
static bool is_gone(void *arg) { return ((struct world *)arg)->target_gone; }
static void end(void *arg) {
    struct world *world = arg;
    nvme_target_destroy(world->target, on_gone, world);
}
static void remove_disks(void *arg) {
    struct world *world = arg;
    if (!world->disk->device.removing)
        assert_true(block_device_remove(&world->disk->device, NULL, NULL, NULL));
    if (!world->disk2->device.removing)
        assert_true(block_device_remove(&world->disk2->device, NULL, NULL, NULL));
}

void world_destroy(struct world *world) {
    world_do(world, end, world);
    assert_true(until(world, is_gone, world, 120000));
    while (!list_empty(&world->clients))
        client_close(list_entry(list_first(&world->clients), struct client, node));
    world_do(world, remove_disks, world);
    assert_true(world->disk->destroyed && world->disk2->destroyed);
    assert_int_equal(world->data->buffers.in_use, 0);
    assert_int_equal(world->control->buffers.in_use, 0);
    assert_int_equal(sim_process_sockets(world->host), 0);
    block_graph_fini(&world->graph);
    host_loop_stop(world->client_loop);
    host_loop_destroy(world->client_loop);
    reactor_destroy(world->data);
    reactor_destroy(world->control);
    sim_process_exit(world->host);
    sim_process_exit(world->client_host);
    sim_destroy(world->sim);
    free(world->disk->bytes);
    free(world->disk2->bytes);
    free(world->disk);
    free(world->disk2);
    free(world);
}

struct counts {
    struct world *world;
    unsigned queues, controllers;
};
static void count(void *arg) {
    struct counts *counts = arg;
    for (struct nvme_queue *q = NULL; (q = nvme_subsystem_next_queue(counts->world->subsystem, q)) != NULL;)
        counts->queues++;
    for (struct nvme_controller *c = NULL; (c = nvme_subsystem_next_controller(counts->world->subsystem, c)) != NULL;)
        counts->controllers++;
}
unsigned world_queues(struct world *world) {
    struct counts counts = {.world = world};
    world_do(world, count, &counts);
    return counts.queues;
}
unsigned world_controllers(struct world *world) {
    struct counts counts = {.world = world};
    world_do(world, count, &counts);
    return counts.controllers;
}

void fill(uint8_t *to, size_t size, uint8_t seed) {
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(i * 31 + seed + i / 256);
}
