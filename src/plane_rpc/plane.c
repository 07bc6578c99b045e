#include "plane_rpc/plane.h"

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "frontend/nvme/target.h"
#include "plane_rpc/config.h"
#include "plane_rpc/mirrors.h"
#include "plane_rpc/scans.h"
#include "plane_rpc/server.h"
#include "plane_rpc/stores.h"

#define STOP_LOOK_NS NS_PER_MS        /* how often a stopping plane looks whether all is gone */
#define STOP_LIMIT_NS (10 * NS_PER_S) /* and how long */

uint64_t plane_ticks(const struct plane *plane, uint64_t ns) {
    return (uint64_t)((unsigned __int128)ns * plane->host->ticks_per_second / NS_PER_S);
}

void plane_say_no_device(const char *name, struct error *error) {
    error_set(error, ERROR_NO_DEVICE, "there is no block device %s", name);
    if (error != NULL) {
        snprintf(error->field, sizeof(error->field), "name");
        snprintf(error->value, sizeof(error->value), "%.*s", (int)sizeof(error->value) - 1, name);
    }
    error_hint(error, "the name, alias or UUID of a device (bdev_get_bdevs)");
}

struct block_device *plane_find_device(struct plane *plane, const char *name, struct error *error) {
    struct block_device *device = block_graph_find(&plane->graph, name);
    if (device == NULL)
        plane_say_no_device(name, error);
    return device;
}

/* ---- waiting calls ---- */

void plane_add_waiter(struct list *list, struct plane_waiter *waiter) { list_push_back(list, &waiter->node); }

static void run_waiters(struct reactor_job *job) {
    struct plane *plane = container_of(job, struct plane, waiters_job);
    plane->waiters_queued = false;
    list_for_each_safe (&plane->waiters, struct plane_waiter, waiter, node)
        waiter->run(waiter);
}

void plane_wake_waiters(struct plane *plane) {
    if (plane->waiters_queued || list_empty(&plane->waiters))
        return;
    plane->waiters_queued = true;
    reactor_defer(plane->control, &plane->waiters_job);
}

void plane_notify(struct plane *plane, const char *type, const char *context) {
    notify_ring_add(&plane->notify, type, context);
    plane_wake_waiters(plane);
}

static void cancel_waiters(struct list *list) {
    for (struct list_node *node; (node = list_first(list)) != NULL;) {
        struct plane_waiter *waiter = list_entry(node, struct plane_waiter, node);
        waiter->cancel(waiter);
    }
}

static void watch(struct block_watcher *watcher, const char *what, const struct block_device *device) {
    struct plane *plane = container_of(watcher, struct plane, watcher);
    plane_notify(plane, what, device->name);
    log_info(&plane->log, LOG_AREA_BLOCK, "%s %s", what, device->name);
}

/* ---- start ---- */

void plane_begin_service(struct plane *plane) { plane->rpc.state = RPC_STATE_RUNTIME; }

static void start_done(struct plane *plane, const struct error *error) {
    plane->config = NULL;
    if (error == NULL) {
        plane->started = true;
        list_for_each_safe (&plane->init_waiters, struct plane_waiter, waiter, node)
            waiter->run(waiter);
        log_notice(&plane->log, LOG_AREA_APP, "ready: %u data reactor%s, RPC socket %s", plane->reactor_count,
                   plane->reactor_count == 1 ? "" : "s",
                   plane->options.socket_path != NULL ? plane->options.socket_path : "none");
    } else {
        log_error(&plane->log, LOG_AREA_APP, "%s", error->text);
    }
    if (plane->options.started != NULL)
        plane->options.started(plane->options.arg, error);
    if (error != NULL)
        plane_stop(plane);
}

static void config_service(void *arg) { plane_begin_service(arg); }
static void config_done(void *arg, const struct error *error) { start_done(arg, error); }

bool plane_start(struct plane *plane, struct error *error) {
    if (plane->config != NULL || plane->rpc.state == RPC_STATE_RUNTIME)
        return error_set(error, ERROR_ALREADY, "the start is under way");
    if (plane->options.config_path == NULL) {
        plane_begin_service(plane);
        start_done(plane, NULL);
        return true;
    }
    struct plane_config_options options = {.server = &plane->rpc,
                                           .reactor = plane->control,
                                           .path = plane->options.config_path,
                                           .service = config_service,
                                           .done = config_done,
                                           .arg = plane};
    plane->config = plane_config_run(&options);
    return plane->config != NULL || error_set(error, ERROR_NO_MEMORY, "no memory for the configuration");
}

static void start_message(struct reactor_message *message) {
    struct plane *plane = container_of(message, struct plane, start_message);
    struct error error;
    if (!plane->stopping && !plane->options.wait_for_rpc && !plane_start(plane, &error))
        start_done(plane, &error);
}

/* ---- stop ---- */

static void remove_devices(struct plane *plane) {
    for (struct block_device *device = NULL, *next = block_graph_next(&plane->graph, NULL); (device = next) != NULL;) {
        /* removing one may take others with it: begin anew after each */
        next = block_graph_next(&plane->graph, device);
        if (device->removing)
            continue;
        block_device_remove(device, NULL, NULL, NULL);
        next = block_graph_next(&plane->graph, NULL);
    }
}

static void nothing(void *arg) { (void)arg; }

/* True when no controller is left. */
static bool detach_controllers(struct plane *plane) {
    for (struct nvme_initiator_controller *controller = NULL;
         (controller = nvme_initiator_next(plane->initiator, controller)) != NULL;) {
        struct nvme_initiator_controller_info info;
        nvme_initiator_controller_info(controller, &info);
        if (info.state != NVME_INITIATOR_DELETING)
            nvme_initiator_detach(plane->initiator, info.name, &(struct nvme_initiator_path){.port = 0}, nothing, NULL, NULL);
    }
    return nvme_initiator_next(plane->initiator, NULL) == NULL;
}

static void stop_look(struct reactor_timer *timer) {
    struct plane *plane = container_of(timer, struct plane, stop_timer);
    if (plane->target == NULL && plane_mirrors_delete_all(plane) && plane_stores_close_all(plane) && detach_controllers(plane))
        remove_devices(plane);
    bool empty = plane->target == NULL && list_empty(&plane->mirrors) && list_empty(&plane->stores) &&
                 nvme_initiator_next(plane->initiator, NULL) == NULL && plane->graph.device_count == 0 &&
                 plane->rpc.call_count == 0;
    if (!empty && reactor_now_ns(plane->control) < plane->stop_deadline_ns) {
        reactor_timer_start(plane->control, timer, reactor_now_ns(plane->control) + STOP_LOOK_NS);
        return;
    }
    if (!empty)
        log_warning(&plane->log, LOG_AREA_APP, "stopped with %u devices and %u calls not ended", plane->graph.device_count,
                    plane->rpc.call_count);
    if (empty)
        nvme_initiator_destroy(plane->initiator);
    plane->stopped_empty = empty;
    host_loop_stop(plane->control->loop);
}

static void target_gone(void *arg) { ((struct plane *)arg)->target = NULL; }

static void stop_message(struct reactor_message *message) {
    struct plane *plane = container_of(message, struct plane, stop_message);
    log_notice(&plane->log, LOG_AREA_APP, "stopping");
    if (plane->listener != NULL)
        rpc_listener_close(plane->listener);
    plane->listener = NULL;
    if (plane->config != NULL)
        plane_config_cancel(plane->config);
    plane->config = NULL;
    cancel_waiters(&plane->waiters);
    cancel_waiters(&plane->init_waiters);
    nvme_target_destroy(plane->target, target_gone, plane); /* its hosts first, then the devices they use */
    plane->stop_deadline_ns = reactor_now_ns(plane->control) + STOP_LIMIT_NS;
    reactor_timer_start(plane->control, &plane->stop_timer, 0);
}

void plane_stop(struct plane *plane) {
    if (!atomic_exchange(&plane->stopping, true))
        reactor_post(plane->control, &plane->stop_message);
}

/* ---- making ---- */

static uint64_t log_wall_ns(void *arg) { return host_wall_ns(((struct plane *)arg)->host); }

static void log_write_through(void *arg, const struct log_record *record) {
    struct plane *plane = arg;
    if (plane->options.log_write != NULL)
        plane->options.log_write(plane->options.arg, record);
}

static bool make_reactor(struct plane *plane, const char *name, int cpu, enum host_poll_mode mode, unsigned index,
                         struct reactor **ret_reactor, struct error *error) {
    struct reactor_options options = {.name = name, .cpu = cpu, .poll_mode = mode, .index = index};
    int result = reactor_create(plane->host, &options, ret_reactor);
    return result == 0 || error_set_errno(error, result, "no reactor on core %d", cpu);
}

static bool make_reactors(struct plane *plane, struct error *error) {
    const struct plane_options *options = &plane->options;
    if (!make_reactor(plane, "control", -1, HOST_POLL_NEVER, options->cpu_count, &plane->control, error))
        return false;
    for (unsigned i = 0; i < options->cpu_count; i++) {
        char name[32]; /* the reactor keeps 15 characters */
        snprintf(name, sizeof(name), "reactor_%u", options->cpus[i] >= 0 ? (unsigned)options->cpus[i] : i);
        if (!make_reactor(plane, name, options->cpus[i], options->poll_mode, i, &plane->reactors[i], error))
            return false;
        plane->reactor_count++;
    }
    return true;
}

static void free_plane(struct plane *plane) {
    for (unsigned i = 0; i < plane->reactor_count; i++)
        reactor_destroy(plane->reactors[i]);
    if (plane->control != NULL)
        reactor_destroy(plane->control);
    plane_scans_forget(plane);
    notify_ring_fini(&plane->notify);
    free(plane);
}

bool plane_create(const struct plane_options *options, struct plane **ret_plane, struct error *error) {
    assert(options->cpu_count >= 1);
    if (options->cpu_count > PLANE_REACTORS_MAX)
        return error_set(error, ERROR_INVALID, "%u reactors: at most %u", options->cpu_count, PLANE_REACTORS_MAX);
    struct plane *plane = calloc(1, sizeof(*plane));
    if (plane == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    plane->options = *options;
    plane->host = options->host;
    plane->auto_examine = true;
    plane->start_message.run = start_message;
    plane->stop_message.run = stop_message;
    plane->stop_timer.run = stop_look;
    plane->waiters_job.run = run_waiters;
    list_init(&plane->waiters);
    list_init(&plane->init_waiters);
    list_init(&plane->examines);
    list_init(&plane->stores);
    list_init(&plane->openings);
    list_init(&plane->mirrors);
    hash_map_init(&plane->mirror_names);
    list_init(&plane->scans);
    log_init(&plane->log, log_wall_ns, log_write_through, plane);
    if (!make_reactors(plane, error)) {
        free_plane(plane);
        return false;
    }
    reactor_enter(plane->control);
    block_graph_init(&plane->graph, plane->host, plane->reactor_count + 1);
    plane->watcher.told = watch;
    block_graph_watch(&plane->graph, &plane->watcher);
    rpc_server_init(&plane->rpc, options->table, plane, &plane->log, &RPC_LIMITS_DEFAULT);
    struct nvme_target_options target = {
        .graph = &plane->graph, .control = plane->control, .data = plane->reactors, .data_count = plane->reactor_count};
    plane->target = nvme_target_create(&target, error);
    bool ok = plane->target != NULL && nvme_initiator_create(&plane->graph, plane->control, &plane->initiator, error) &&
              (options->socket_path == NULL ||
               rpc_listener_open(&plane->rpc, plane->control, options->socket_path, &plane->listener, error));
    if (ok && options->prepare != NULL)
        options->prepare(options->arg, plane);
    reactor_enter(NULL);
    if (!ok) {
        hash_map_fini(&plane->mirror_names);
        block_graph_fini(&plane->graph);
        free_plane(plane);
        return false;
    }
    /* A loop that does not start leaves the others running: they end in free_plane(). */
    int result = 0;
    for (unsigned i = 0; i < plane->reactor_count && result == 0; i++)
        result = reactor_start(plane->reactors[i]);
    reactor_post(plane->control, &plane->start_message);
    if (result == 0)
        result = reactor_start(plane->control);
    if (result != 0) {
        error_set_errno(error, result, "the reactors do not start");
        if (plane->listener != NULL)
            rpc_listener_close(plane->listener);
        free_plane(plane);
        return false;
    }
    *ret_plane = plane;
    return true;
}

void plane_destroy(struct plane *plane) {
    if (plane->stopped_empty) {
        rpc_server_fini(&plane->rpc);
        hash_map_fini(&plane->mirror_names);
        block_graph_fini(&plane->graph);
    }
    free_plane(plane);
}
