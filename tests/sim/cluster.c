/* See cluster.h. */
#include "cluster.h"

#include <stdio.h>

#include "blockdev/memory/memory.h"

/* ---- the world ---- */

static void switched(void *arg, void *owner) {
    struct plane *plane = owner;
    (void)arg;
    heap_enter(plane == NULL ? NULL : &plane->heap);
    if (plane == NULL)
        reactor_enter(NULL); /* a kill may have jumped out of a turn */
}

void cluster_init_options(struct cluster *cluster, const struct sim_options *options) {
    struct sim_options own = *options;
    switched(NULL, NULL); /* a test that failed may have jumped out of a turn */
    own.allocate = plain_alloc;
    own.release = plain_free;
    print_message("seed %llu\r", (unsigned long long)options->seed);
    *cluster = (struct cluster){.sim = sim_create(&own)};
    sim_set_switch_hook(cluster->sim, switched, NULL);
}

void cluster_init(struct cluster *cluster, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    cluster_init_options(cluster, &options);
}

void cluster_fini(struct cluster *cluster) { sim_destroy(cluster->sim); }

void cluster_wait(struct cluster *cluster, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what) {
    enum sim_end end = sim_run_until(cluster->sim, condition, arg, for_ns, 0);
    if (end != SIM_MET)
        fail_msg("waited in vain for %s: %s", what, sim_end_name(end));
}

/* ---- planes ---- */

void plane_init(struct plane *plane, struct cluster *cluster, const char *name, const char *address, unsigned data_count) {
    assert_true(data_count >= 1 && data_count <= PLANE_DATA_MAX);
    *plane = (struct plane){.cluster = cluster, .data_count = data_count};
    snprintf(plane->address, sizeof(plane->address), "%s", address);
    plane->node = sim_node_create(cluster->sim, name, address);
}

static struct reactor *reactor_make(struct plane *plane, const char *name, unsigned index) {
    struct reactor_options options = {.name = name, .cpu = -1, .poll_mode = HOST_POLL_ADAPTIVE, .index = index};
    struct reactor *reactor = NULL;
    assert_int_equal(reactor_create(plane->host, &options, &reactor), 0);
    return reactor;
}

void plane_initiator_options(struct nvme_initiator_options *options) {
    nvme_initiator_options_default(options);
    options->keep_alive_timeout_ms = 2000;
    options->retry_count = -1;
    options->connect_timeout_ms = 1000;
    options->loss = (struct nvme_initiator_loss){.ctrlr_loss_timeout_ms = -1, .reconnect_delay_ms = 50};
}

void plane_start(struct plane *plane, const struct nvme_initiator_options *options) {
    assert_false(plane->running);
    plane->running = true;
    plane->kills = sim_node_kill_count(plane->node);
    heap_init(&plane->heap);
    plane->host = sim_process_start(plane->node);
    sim_process_set_owner(plane->host, plane);
    heap_enter(&plane->heap);
    static const char *const names[PLANE_DATA_MAX] = {"data0", "data1", "data2", "data3"};
    for (unsigned i = 0; i < plane->data_count; i++)
        plane->data[i] = reactor_make(plane, names[i], i);
    plane->control = reactor_make(plane, "control", plane->data_count);
    reactor_enter(plane->control);
    block_graph_init(&plane->graph, plane->host, plane->data_count + 1);
    struct error error = {0};
    struct nvme_target_options target = {
        .graph = &plane->graph, .control = plane->control, .data = plane->data, .data_count = plane->data_count};
    plane->target = nvme_target_create(&target, &error);
    if (plane->target == NULL)
        fail_msg("%s", error.text);
    if (!nvme_initiator_create(&plane->graph, plane->control, &plane->initiator, &error) ||
        (options != NULL && !nvme_initiator_set_options(plane->initiator, options, &error)))
        fail_msg("%s", error.text);
    reactor_enter(NULL);
    for (unsigned i = 0; i < plane->data_count; i++)
        assert_int_equal(reactor_start(plane->data[i]), 0);
    assert_int_equal(reactor_start(plane->control), 0);
    heap_enter(NULL);
}

static void forget(struct plane *plane) {
    plane->running = false;
    plane->host = NULL;
    heap_drop(&plane->heap);
}

bool plane_reap(struct plane *plane) {
    if (!plane->running || sim_node_kill_count(plane->node) == plane->kills)
        return false;
    forget(plane);
    return true;
}

void plane_kill(struct plane *plane, enum sim_kill how) {
    sim_process_kill(plane->host, how);
    forget(plane);
}

void plane_power_off(struct plane *plane) {
    sim_node_power_off(plane->node);
    forget(plane);
}

/* ---- calls on a reactor ---- */

struct call {
    struct reactor_message message;
    struct plane *plane;
    void (*call)(struct plane *plane, void *arg);
    void *arg;
    bool done;
};

static void call_run(struct reactor_message *message) {
    struct call *call = container_of(message, struct call, message);
    call->call(call->plane, call->arg);
    call->done = true;
}
static bool call_is_done(void *arg) { return ((struct call *)arg)->done; }

void plane_do_on(struct plane *plane, struct reactor *reactor, void (*function)(struct plane *plane, void *arg), void *arg) {
    struct call call = {.message = {.run = call_run}, .plane = plane, .call = function, .arg = arg};
    reactor_post(reactor, &call.message);
    cluster_wait(plane->cluster, call_is_done, &call, 600 * NS_PER_S, "a call on a reactor");
}

void plane_do(struct plane *plane, void (*function)(struct plane *plane, void *arg), void *arg) {
    plane_do_on(plane, plane->control, function, arg);
}

/* ---- devices, target ---- */

struct memory_call {
    const char *name;
    uint64_t bytes;
};

static void add_memory(struct plane *plane, void *arg) {
    struct memory_call *call = arg;
    struct memory_device_options options = {.name = call->name, .block_size = 512, .block_count = call->bytes / 512};
    for (size_t i = 0; i < sizeof(options.uuid.bytes); i++)
        options.uuid.bytes[i] = (uint8_t)(hash_text(call->name) >> (i % 8 * 8));
    struct block_device *device;
    struct error error = {0};
    if (!memory_device_create(&plane->graph, &options, &device, &error))
        fail_msg("%s", error.text);
}

void plane_add_memory(struct plane *plane, const char *name, uint64_t bytes) {
    plane_do(plane, add_memory, &(struct memory_call){name, bytes});
}

static void file_done(struct file_device_create *create) { create->open.path = NULL; }
bool file_is_open(void *opening) { return ((struct file_device_create *)opening)->open.path == NULL; }

static void add_file(struct plane *plane, void *arg) { file_device_create_submit(&plane->graph, plane->control, arg); }

void plane_add_file(struct plane *plane, struct file_device_create *opening, const char *name, const char *path) {
    *opening = (struct file_device_create){
        .options = {.name = name, .path = path, .uuid = {.bytes = {1, 2, 3}}, .block_size = 512, .hold_timeout_ms = 60000},
        .done = file_done};
    opening->open.path = path; /* until it is done */
    plane_do(plane, add_file, opening);
}

void plane_serve_now(struct plane *plane, const char *nqn, const char *device) {
    struct error error = {0};
    struct nvme_transport_options transport = {0};
    if (nvme_target_find_transport(plane->target, NVME_TRANSPORT_TCP) == NULL &&
        !nvme_tcp_transport_create(plane->target, plane->control, &transport, &error))
        fail_msg("%s", error.text);
    struct nvme_subsystem_options options = {.nqn = nqn, .allow_any_host = true};
    struct nvme_subsystem *subsystem = NULL;
    if (!nvme_subsystem_create(plane->target, &options, &subsystem, &error))
        fail_msg("%s", error.text);
    struct nvme_namespace_options namespace = {.device = device};
    uint32_t nsid = 0;
    if (!nvme_subsystem_add_namespace(subsystem, &namespace, &nsid, &error))
        fail_msg("%s", error.text);
    struct nvme_listen_address address;
    if (!nvme_listen_address_parse("TCP", "IPv4", plane->address, "4420", &address, &error) ||
        !nvme_subsystem_add_listener(subsystem, &address, NVME_ANA_OPTIMIZED, &error))
        fail_msg("%s", error.text);
}

struct serve_call {
    const char *nqn, *device;
};

static void serve(struct plane *plane, void *arg) {
    struct serve_call *call = arg;
    plane_serve_now(plane, call->nqn, call->device);
}

void plane_serve(struct plane *plane, const char *nqn, const char *device) {
    plane_do(plane, serve, &(struct serve_call){nqn, device});
}

/* ---- initiator ---- */

struct attach_call {
    struct nvme_initiator_attach attach;
    bool done;
};

static void attach_done(struct nvme_initiator_attach *attach) { container_of(attach, struct attach_call, attach)->done = true; }
static bool attach_is_done(void *arg) { return ((struct attach_call *)arg)->done; }
static void attach(struct plane *plane, void *arg) {
    nvme_initiator_attach(plane->initiator, &((struct attach_call *)arg)->attach);
}

bool plane_try_attach(struct plane *plane, const char *name, const struct plane *to, const char *nqn, struct error *error) {
    struct attach_call call = {.attach = {.name = name,
                                          .address = {.family = HOST_IPV4, .port = PLANE_PORT},
                                          .subnqn = nqn,
                                          .hostnqn = "nqn.2026-01.org.penstock:host-of-the-simulation",
                                          .header_digest = plane->digests,
                                          .data_digest = plane->digests,
                                          .done = attach_done}};
    snprintf(call.attach.address.text, sizeof(call.attach.address.text), "%s", to->address);
    plane_do(plane, attach, &call);
    cluster_wait(plane->cluster, attach_is_done, &call, 600 * NS_PER_S, "an attach");
    *error = call.attach.error;
    return call.attach.ok;
}

void plane_attach(struct plane *plane, const char *name, const struct plane *to, const char *nqn) {
    struct error error;
    if (!plane_try_attach(plane, name, to, nqn, &error))
        fail_msg("%s", error.text);
}

struct reconnects_call {
    const char *name;
    uint64_t reconnects;
};

static void reconnects(struct plane *plane, void *arg) {
    struct reconnects_call *call = arg;
    struct nvme_initiator_controller *controller = nvme_initiator_find(plane->initiator, call->name);
    struct nvme_initiator_controller_info info = {0};
    if (controller != NULL)
        nvme_initiator_controller_info(controller, &info);
    call->reconnects = info.reconnects;
}

uint64_t plane_reconnects(struct plane *plane, const char *name) {
    struct reconnects_call call = {.name = name};
    plane_do(plane, reconnects, &call);
    return call.reconnects;
}

/* ---- an orderly end ---- */

struct ending {
    unsigned pending;
};

static void one_ended(void *arg) { ((struct ending *)arg)->pending--; }
static void device_ended(struct block_device *device, void *arg) {
    (void)device;
    one_ended(arg);
}
static bool all_ended(void *arg) { return ((struct ending *)arg)->pending == 0; }

static void end_initiator(struct plane *plane, void *arg) {
    struct ending *ending = arg;
    struct error error = {0};
    for (struct nvme_initiator_controller *controller = NULL;
         (controller = nvme_initiator_next(plane->initiator, controller)) != NULL;) {
        struct nvme_initiator_controller_info info;
        nvme_initiator_controller_info(controller, &info);
        ending->pending++;
        if (!nvme_initiator_detach(plane->initiator, info.name, NULL, one_ended, ending, &error))
            fail_msg("%s", error.text);
    }
}

static void end_target(struct plane *plane, void *arg) {
    struct ending *ending = arg;
    nvme_initiator_destroy(plane->initiator);
    ending->pending++;
    nvme_target_destroy(plane->target, one_ended, ending);
}

static void end_devices(struct plane *plane, void *arg) {
    struct ending *ending = arg;
    struct error error = {0};
    for (struct block_device *device = NULL, *next = block_graph_next(&plane->graph, NULL); (device = next) != NULL;) {
        next = block_graph_next(&plane->graph, device);
        ending->pending++;
        if (!block_device_remove(device, device_ended, ending, &error))
            fail_msg("%s", error.text);
    }
}

void plane_exit(struct plane *plane) {
    void (*const steps[])(struct plane *, void *) = {end_initiator, end_target, end_devices};
    for (size_t i = 0; i < array_count(steps); i++) {
        struct ending ending = {0};
        plane_do(plane, steps[i], &ending);
        cluster_wait(plane->cluster, all_ended, &ending, 600 * NS_PER_S, "an orderly end");
    }
    sim_run_for(plane->cluster->sim, NS_PER_S);
    heap_enter(&plane->heap);
    block_graph_fini(&plane->graph);
    for (unsigned i = 0; i < plane->data_count; i++)
        reactor_destroy(plane->data[i]);
    reactor_destroy(plane->control);
    heap_enter(NULL);
    assert_int_equal(plane->heap.live_bytes, 0);
    sim_process_exit(plane->host);
    plane->running = false;
}

/* ---- detaching ---- */

struct detach_call {
    const char *name;
    struct ending ending;
    bool has;
};

static void detach(struct plane *plane, void *arg) {
    struct detach_call *call = arg;
    struct error error = {0};
    call->ending.pending = 1;
    if (!nvme_initiator_detach(plane->initiator, call->name, NULL, one_ended, &call->ending, &error))
        fail_msg("%s", error.text);
}

void plane_detach(struct plane *plane, const char *name) {
    struct detach_call call = {.name = name};
    plane_do(plane, detach, &call);
    cluster_wait(plane->cluster, all_ended, &call.ending, 600 * NS_PER_S, "a detach");
}

static void look_for(struct plane *plane, void *arg) {
    struct detach_call *call = arg;
    call->has = block_graph_find(&plane->graph, call->name) != NULL;
}

bool plane_has(struct plane *plane, const char *device) {
    struct detach_call call = {.name = device};
    plane_do(plane, look_for, &call);
    return call.has;
}
