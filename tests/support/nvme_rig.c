#include "nvme_rig.h"

#include <stdio.h>
#include <stdlib.h>

bool rig_run(struct rig *rig, bool (*condition)(void *arg), void *arg, uint64_t for_ns) {
    if (rig->sim == NULL)
        return step_host_run(rig->host, condition, arg, for_ns);
    return sim_run_until(rig->sim, condition, arg, for_ns, 0) == SIM_MET;
}

uint64_t rig_now_ns(struct rig *rig) { return rig->sim == NULL ? step_host_now_ns(rig->host) : sim_now_ns(rig->sim); }

struct call {
    struct reactor_message message;
    void (*call)(void *arg);
    void *arg;
    bool done;
};
static void call_run(struct reactor_message *message) {
    struct call *call = container_of(message, struct call, message);
    call->call(call->arg);
    call->done = true;
}
static bool call_done(void *arg) { return ((struct call *)arg)->done; }

void rig_call(struct rig *rig, struct reactor *reactor, void (*function)(void *arg), void *arg) {
    struct call call = {.message.run = call_run, .call = function, .arg = arg};
    reactor_post(reactor, &call.message);
    bool ran = rig_run(rig, call_done, &call, 60 * NS_PER_S);
    assert(ran);
}

static struct reactor *reactor_new(struct host *host, const char *name, unsigned index) {
    struct reactor *reactor;
    int result = reactor_create(host, &(struct reactor_options){.name = name, .cpu = -1, .index = index}, &reactor);
    assert(result == 0);
    return reactor;
}

/* ---- the target's disks ---- */

struct disk_call {
    struct rig *rig;
    unsigned number;
    const struct uuid *uuid;
    uint64_t value, value2;
    struct block_device *found;
    const struct error_device_rule *rule;
};

static struct block_device *disk_of(struct disk_call *call, const char *prefix) {
    char name[32];
    snprintf(name, sizeof(name), "%s%u", prefix, call->number);
    struct block_device *device = block_graph_find(&call->rig->target_graph, name);
    assert(device != NULL);
    return device;
}

static void disk_add(void *arg) {
    struct disk_call *call = arg;
    struct rig *rig = call->rig;
    char memory[32], error[32], delay[32];
    snprintf(memory, sizeof(memory), "m%u", call->number);
    snprintf(error, sizeof(error), "EE_m%u", call->number);
    snprintf(delay, sizeof(delay), "d%u", call->number);
    struct block_device *device;
    bool ok = rig->replicas
                  ? replica_device_create(&rig->target_graph, memory, rig->block_size, rig->disk_bytes, &device)
                  : memory_device_create(&rig->target_graph,
                                         &(struct memory_device_options){.name = memory,
                                                                         .block_size = rig->block_size,
                                                                         .block_count = rig->disk_bytes / rig->block_size},
                                         &device, NULL);
    ok = ok && error_device_create(&rig->target_graph, memory, &(struct uuid){{0}}, &device, NULL);
    struct uuid uuid = {{0x11, 0x22, [14] = (uint8_t)((call->number + 1) >> 8), [15] = (uint8_t)(call->number + 1)}};
    ok = ok && delay_device_create(
                   &rig->target_graph,
                   &(struct delay_device_options){.name = delay, .base_name = error, .uuid = uuid, .seed = call->number + 1},
                   &device, NULL);
    assert(ok);
}

static void disk_offer(void *arg) {
    struct disk_call *call = arg;
    char delay[32];
    snprintf(delay, sizeof(delay), "d%u", call->number);
    uint32_t nsid;
    struct error error;
    struct nvme_namespace_options options = {.nsid = call->number + 1, .device = delay, .uuid = call->uuid};
    options.nguid = call->uuid != NULL ? call->uuid->bytes : NULL;
    bool ok = nvme_subsystem_add_namespace(call->rig->subsystem, &options, &nsid, &error);
    if (!ok)
        fprintf(stderr, "rig: %s\n", error.text);
    assert(ok);
}

static void set_true(void *arg) { *(bool *)arg = true; }
static bool is_true(void *arg) { return *(bool *)arg; }

struct withdraw_call {
    struct disk_call disk;
    bool done;
};
static void disk_withdraw(void *arg) {
    struct withdraw_call *call = arg;
    bool ok = nvme_subsystem_remove_namespace(call->disk.rig->subsystem, call->disk.number + 1, set_true, &call->done, NULL);
    assert(ok);
}
static void disk_resize(void *arg) {
    struct disk_call *call = arg;
    block_device_set_size(disk_of(call, "m"), call->value / call->rig->block_size);
}
static void disk_inject(void *arg) {
    struct disk_call *call = arg;
    if (call->rule == NULL) {
        error_device_clear(disk_of(call, "EE_m"));
        return;
    }
    bool ok = error_device_inject(disk_of(call, "EE_m"), call->rule, NULL);
    assert(ok);
}
static void disk_hits(void *arg) {
    struct disk_call *call = arg;
    call->value = error_device_hits(disk_of(call, "EE_m"));
}
static void disk_delay(void *arg) {
    struct disk_call *call = arg;
    struct block_device *device = disk_of(call, "d");
    delay_device_set_latency(device, DELAY_AVG_READ, call->value, NULL);
    delay_device_set_latency(device, DELAY_P99_READ, call->value, NULL);
    delay_device_set_latency(device, DELAY_AVG_WRITE, call->value2, NULL);
    delay_device_set_latency(device, DELAY_P99_WRITE, call->value2, NULL);
}

void rig_disk_add(struct rig *rig, unsigned number) {
    rig_call(rig, rig->target_control, disk_add, &(struct disk_call){.rig = rig, .number = number});
    rig_disk_offer(rig, number, NULL);
}
void rig_disk_withdraw(struct rig *rig, unsigned number) {
    struct withdraw_call call = {.disk = {.rig = rig, .number = number}};
    rig_call(rig, rig->target_control, disk_withdraw, &call);
    bool done = rig_run(rig, is_true, &call.done, 60 * NS_PER_S);
    assert(done);
}
void rig_disk_offer(struct rig *rig, unsigned number, const struct uuid *uuid) {
    rig_call(rig, rig->target_control, disk_offer, &(struct disk_call){.rig = rig, .number = number, .uuid = uuid});
}
void rig_disk_resize(struct rig *rig, unsigned number, uint64_t bytes) {
    rig_call(rig, rig->target_control, disk_resize, &(struct disk_call){.rig = rig, .number = number, .value = bytes});
}
void rig_disk_inject(struct rig *rig, unsigned number, const struct error_device_rule *rule) {
    rig_call(rig, rig->target_control, disk_inject, &(struct disk_call){.rig = rig, .number = number, .rule = rule});
}
uint64_t rig_disk_hits(struct rig *rig, unsigned number) {
    struct disk_call call = {.rig = rig, .number = number};
    rig_call(rig, rig->target_control, disk_hits, &call);
    return call.value;
}
void rig_disk_delay(struct rig *rig, unsigned number, uint64_t read_us, uint64_t write_us) {
    rig_call(rig, rig->target_control, disk_delay,
             &(struct disk_call){.rig = rig, .number = number, .value = read_us, .value2 = write_us});
}

/* ---- life ---- */

struct rig *rig_create(const struct rig_options *options) {
    struct rig *rig = calloc(1, sizeof(*rig));
    assert(rig != NULL);
    rig->block_size = options->block_size != 0 ? options->block_size : 512;
    rig->replicas = options->replicas;
    rig->disk_bytes = options->disk_bytes != 0 ? options->disk_bytes : RIG_DISK_BYTES;
    if (options->simulated) {
        struct sim_options sim_options;
        sim_options_init(&sim_options, options->seed);
        if (options->link != NULL)
            sim_options.remote = *options->link;
        rig->sim = sim_create(&sim_options);
        rig->target_node = sim_node_create(rig->sim, "target", "10.0.0.1");
        rig->node = sim_node_create(rig->sim, "host", "10.0.0.2");
        rig->target_host = sim_process_start(rig->target_node);
        rig->host = sim_process_start(rig->node);
    } else {
        struct step_host_options step = options->step;
        step.seed = options->seed;
        rig->host = rig->target_host = step_host_create(&step);
    }
    rig->target_data = reactor_new(rig->target_host, "t-data", 0);
    rig->target_control = reactor_new(rig->target_host, "t-control", 1);
    for (unsigned i = 0; i < RIG_DATA_REACTORS; i++)
        rig->data[i] = reactor_new(rig->host, "data", i);
    rig->control = reactor_new(rig->host, "control", RIG_DATA_REACTORS);
    block_graph_init(&rig->target_graph, rig->target_host, 2);
    block_graph_init(&rig->graph, rig->host, RIG_DATA_REACTORS + 1);

    reactor_enter(rig->target_control);
    struct reactor *data[1] = {rig->target_data};
    struct nvme_target_options target = {
        .graph = &rig->target_graph, .control = rig->target_control, .data = data, .data_count = 1};
    rig->target = nvme_target_create(&target, NULL);
    assert(rig->target != NULL);
    bool ok = nvme_tcp_transport_create(rig->target, rig->target_control, &options->transport, NULL);
    struct nvme_subsystem_options subsystem = {.nqn = RIG_NQN, .allow_any_host = true, .max_namespaces = 1024};
    ok = ok && nvme_subsystem_create(rig->target, &subsystem, &rig->subsystem, NULL);
    struct nvme_listen_address address = {
        .transport = NVME_TRANSPORT_TCP, .family = NVME_FAMILY_IPV4, .address = "10.0.0.1", .port = RIG_PORT};
    ok = ok && nvme_subsystem_add_listener(rig->subsystem, &address, NVME_ANA_OPTIMIZED, NULL);
    reactor_enter(rig->control);
    ok = ok && nvme_initiator_create(&rig->graph, rig->control, &rig->initiator, NULL);
    reactor_enter(NULL);
    assert(ok);
    struct reactor *all[] = {rig->target_data, rig->target_control, rig->data[0], rig->data[1], rig->control};
    for (unsigned i = 0; i < array_count(all); i++)
        reactor_start(all[i]);
    for (unsigned i = 0; i < (options->disks != 0 ? options->disks : 1); i++)
        rig_disk_add(rig, i);
    return rig;
}

static void initiator_destroy(void *arg) {
    struct rig *rig = arg;
    nvme_initiator_destroy(rig->initiator);
}

struct end_call {
    struct rig *rig;
    bool done;
};
static void target_destroy(void *arg) {
    struct end_call *call = arg;
    nvme_target_destroy(call->rig->target, set_true, &call->done);
}
static void graph_empty(void *arg) {
    struct rig *rig = arg;
    for (unsigned number = 0; number < 2048; number++) {
        char name[32];
        snprintf(name, sizeof(name), "m%u", number);
        struct block_device *device = block_graph_find(&rig->target_graph, name);
        if (device != NULL)
            (void)block_device_remove(device, NULL, NULL, NULL);
    }
}
static bool target_graph_is_empty(void *arg) { return ((struct rig *)arg)->target_graph.device_count == 0; }

struct name_call {
    struct rig *rig;
    char name[64];
    bool found;
};
static void first_controller(void *arg) {
    struct name_call *call = arg;
    struct nvme_initiator_controller *controller = nvme_initiator_next(call->rig->initiator, NULL);
    call->found = controller != NULL;
    if (controller == NULL)
        return;
    struct nvme_initiator_controller_info info;
    nvme_initiator_controller_info(controller, &info);
    snprintf(call->name, sizeof(call->name), "%s", info.name);
}

void rig_destroy(struct rig *rig) {
    for (;;) {
        struct name_call call = {.rig = rig};
        rig_call(rig, rig->control, first_controller, &call);
        if (!call.found)
            break;
        bool ok = rig_detach(rig, call.name);
        assert(ok);
    }
    rig_call(rig, rig->control, initiator_destroy, rig);
    struct end_call call = {.rig = rig};
    rig_call(rig, rig->target_control, target_destroy, &call);
    bool ended = rig_run(rig, is_true, &call.done, 120 * NS_PER_S);
    assert(ended);
    rig_call(rig, rig->target_control, graph_empty, rig);
    ended = rig_run(rig, target_graph_is_empty, rig, 10 * NS_PER_S);
    assert(ended && rig->graph.device_count == 0);
    struct reactor *all[] = {rig->target_data, rig->target_control, rig->data[0], rig->data[1], rig->control};
    for (unsigned i = 0; i < array_count(all); i++)
        assert(all[i]->buffers.in_use == 0);
    for (unsigned i = 0; i < array_count(all); i++)
        reactor_destroy(all[i]);
    block_graph_fini(&rig->target_graph);
    block_graph_fini(&rig->graph);
    if (rig->sim != NULL) {
        sim_process_exit(rig->host);
        sim_process_exit(rig->target_host);
        sim_destroy(rig->sim);
    } else {
        step_host_destroy(rig->host);
    }
    free(rig);
}

/* ---- the initiator ---- */

static void answered(struct nvme_initiator_attach *attach) { attach->name = NULL; }
static bool is_answered(void *arg) { return ((struct nvme_initiator_attach *)arg)->name == NULL; }

struct attach_call {
    struct rig *rig;
    struct nvme_initiator_attach *attach;
};
static void attach_begin(void *arg) {
    struct attach_call *call = arg;
    nvme_initiator_attach(call->rig->initiator, call->attach);
}

void rig_attach_options(struct nvme_initiator_attach *attach) {
    *attach = (struct nvme_initiator_attach){.name = "r",
                                             .address = {.family = HOST_IPV4, .port = RIG_PORT, .text = "10.0.0.1"},
                                             .subnqn = RIG_NQN,
                                             .hostnqn = RIG_HOSTNQN};
}

bool rig_attach(struct rig *rig, struct nvme_initiator_attach *attach) {
    attach->done = answered;
    rig_call(rig, rig->control, attach_begin, &(struct attach_call){rig, attach});
    bool done = rig_run(rig, is_answered, attach, 120 * NS_PER_S);
    assert(done);
    return attach->ok;
}

struct detach_call {
    struct rig *rig;
    const char *name;
    bool began, done;
};
static void detach_begin(void *arg) {
    struct detach_call *call = arg;
    call->began = nvme_initiator_detach(call->rig->initiator, call->name, NULL, set_true, &call->done, NULL);
}

bool rig_detach(struct rig *rig, const char *name) {
    struct detach_call call = {.rig = rig, .name = name};
    rig_call(rig, rig->control, detach_begin, &call);
    return call.began && rig_run(rig, is_true, &call.done, 120 * NS_PER_S);
}

struct info_call {
    struct rig *rig;
    struct nvme_initiator_controller_info *info;
};
static void info_take(void *arg) {
    struct info_call *call = arg;
    struct nvme_initiator_controller *controller = nvme_initiator_find(call->rig->initiator, "r");
    *call->info = (struct nvme_initiator_controller_info){.state = NVME_INITIATOR_DELETING};
    if (controller != NULL)
        nvme_initiator_controller_info(controller, call->info);
}
void rig_info(struct rig *rig, struct nvme_initiator_controller_info *ret) {
    rig_call(rig, rig->control, info_take, &(struct info_call){rig, ret});
}

bool rig_wait_state(struct rig *rig, enum nvme_initiator_state state, uint64_t for_ns) {
    uint64_t until = rig_now_ns(rig) + for_ns;
    for (;;) {
        struct nvme_initiator_controller_info info;
        rig_info(rig, &info);
        if (info.state == state)
            return true;
        if (rig_now_ns(rig) >= until)
            return false;
        rig_run(rig, NULL, NULL, NS_PER_MS);
    }
}

struct known_call {
    struct rig *rig;
    const char *name;
    bool known;
};
static void known_look(void *arg) {
    struct known_call *call = arg;
    call->known = block_graph_find(&call->rig->graph, call->name) != NULL;
}
bool rig_device_known(struct rig *rig, const char *name) {
    struct known_call call = {.rig = rig, .name = name};
    rig_call(rig, rig->control, known_look, &call);
    return call.known;
}

/* ---- devices and requests ---- */

static void device_event(struct block_handle *handle, enum block_event event) {
    struct rig_device *device = container_of(handle, struct rig_device, handle);
    if (event == BLOCK_EVENT_REMOVE)
        device->remove_told = true;
    else if (event == BLOCK_EVENT_PATH)
        device->path_told++;
    else
        device->resize_told = true;
}

struct device_call {
    struct rig *rig;
    struct rig_device *device;
    const char *name;
    bool opened;
};
static void handle_open(void *arg) {
    struct device_call *call = arg;
    struct block_graph *graph = &call->rig->graph;
    struct block_device *found = call->name == NULL ? block_graph_next(graph, NULL) : block_graph_find(graph, call->name);
    if (found == NULL)
        return;
    enum block_mode mode = atomic_load(&found->read_only) ? BLOCK_MODE_READ : BLOCK_MODE_WRITE;
    call->opened = block_handle_open(&call->device->handle, found, mode, NULL);
}
static void channel_open(void *arg) {
    struct rig_device *device = arg;
    device->channel = block_channel_open(&device->handle);
    assert(device->channel != NULL);
}
static void channel_close(void *arg) {
    struct rig_device *device = arg;
    block_channel_close(device->channel);
}
static void handle_close(void *arg) { block_handle_close(&((struct rig_device *)arg)->handle); }

bool rig_device_try_open(struct rig *rig, struct rig_device *device, const char *name, unsigned reactor) {
    *device = (struct rig_device){.rig = rig, .handle = {.owner = "test", .event = device_event}, .reactor = rig->data[reactor]};
    struct device_call call = {.rig = rig, .device = device, .name = name};
    rig_call(rig, rig->control, handle_open, &call);
    if (call.opened)
        rig_call(rig, device->reactor, channel_open, device);
    return call.opened;
}
void rig_device_open(struct rig *rig, struct rig_device *device, const char *name, unsigned reactor) {
    bool opened = rig_device_try_open(rig, device, name, reactor);
    assert(opened);
}
void rig_device_close(struct rig_device *device) {
    rig_call(device->rig, device->reactor, channel_close, device);
    rig_call(device->rig, device->rig->control, handle_close, device);
}

static void completed(struct block_request *request) {
    struct rig_io *io = container_of(request, struct rig_io, request);
    assert(reactor_current() == io->device->reactor && !io->done);
    io->done = true;
}
static void submit(void *arg) {
    struct rig_io *io = arg;
    block_submit(io->device->channel, &io->request);
    assert(!io->done);
}

void rig_start(struct rig_device *device, struct rig_io *io, enum block_op op, unsigned flags, uint64_t offset, void *bytes,
               uint64_t length) {
    *io = (struct rig_io){.rig = device->rig, .device = device, .slice = {bytes, length}};
    io->request = (struct block_request){
        .op = (uint8_t)op, .flags = (uint8_t)flags, .offset = offset, .length = length, .complete = completed};
    if (bytes != NULL) {
        io->request.slices = &io->slice;
        io->request.slice_count = 1;
    }
    rig_call(device->rig, device->reactor, submit, io);
}

void rig_start_replica(struct rig_device *device, struct rig_io *io, enum block_op op, uint64_t argument, uint64_t offset,
                       void *bytes, uint64_t length) {
    *io = (struct rig_io){.rig = device->rig, .device = device, .slice = {bytes, length}};
    io->request = (struct block_request){.op = (uint8_t)op,
                                         .flags = BLOCK_FAIL_FAST,
                                         .slices = &io->slice,
                                         .slice_count = length > 0 ? 1 : 0,
                                         .offset = offset,
                                         .length = length,
                                         .argument = argument,
                                         .complete = completed};
    rig_call(device->rig, device->reactor, submit, io);
}

static void disk_find(void *arg) {
    struct disk_call *call = arg;
    call->found = disk_of(call, "m");
}
struct block_device *rig_disk(struct rig *rig, unsigned number) {
    struct disk_call call = {.rig = rig, .number = number};
    rig_call(rig, rig->target_control, disk_find, &call);
    return call.found;
}

static void recall(void *arg) { block_channel_recall(((struct rig_device *)arg)->channel); }
void rig_recall(struct rig_device *device) { rig_call(device->rig, device->reactor, recall, device); }

void rig_start_slices(struct rig_device *device, struct rig_io *io, enum block_op op, unsigned flags, uint64_t offset,
                      const struct slice *slices, uint32_t slice_count) {
    *io = (struct rig_io){.rig = device->rig, .device = device};
    io->request = (struct block_request){.op = (uint8_t)op,
                                         .flags = (uint8_t)flags,
                                         .offset = offset,
                                         .length = slice_total(slices, slice_count),
                                         .slices = slices,
                                         .slice_count = slice_count,
                                         .complete = completed};
    rig_call(device->rig, device->reactor, submit, io);
}

static bool io_done(void *arg) { return ((struct rig_io *)arg)->done; }
bool rig_wait(struct rig_io *io, uint64_t for_ns) { return rig_run(io->rig, io_done, io, for_ns); }

enum io_status rig_do(struct rig_device *device, enum block_op op, unsigned flags, uint64_t offset, void *bytes,
                      uint64_t length) {
    struct rig_io io;
    rig_start(device, &io, op, flags, offset, bytes, length);
    bool done = rig_wait(&io, 60 * NS_PER_S);
    assert(done);
    return (enum io_status)io.request.status;
}
