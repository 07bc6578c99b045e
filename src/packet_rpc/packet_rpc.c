#include "packet_rpc/packet_rpc.h"

#include <stdlib.h>

#include "packet_rpc/packet_rpc_methods.h"

static uint64_t log_wall_ns(void *arg) { return host_wall_ns(((struct packet_rpc *)arg)->options.host); }

static void log_write_through(void *arg, const struct log_record *record) {
    struct packet_rpc *rpc = arg;
    if (rpc->options.log_write != NULL)
        rpc->options.log_write(rpc->options.arg, record);
}

/* ---- stop ---- */

#define STOP_LOOK_NS NS_PER_MS

/* Calls are answered by changes, and changes before the one that takes all away. */
static void stop_look(struct reactor_timer *timer) {
    struct packet_rpc *rpc = container_of(timer, struct packet_rpc, stop_timer);
    if (rpc->plane_stopped && rpc->server.call_count == 0 && list_empty(&rpc->captures))
        host_loop_stop(rpc->control->loop);
    else
        reactor_timer_start(rpc->control, timer, reactor_now_ns(rpc->control) + STOP_LOOK_NS);
}

static void plane_stopped(void *arg) { ((struct packet_rpc *)arg)->plane_stopped = true; }

static void stop_message(struct reactor_message *message) {
    struct packet_rpc *rpc = container_of(message, struct packet_rpc, stop_message);
    log_notice(&rpc->log, LOG_AREA_APP, "stopping");
    rpc_listener_close(rpc->listener);
    packet_rpc_stop_captures(rpc);
    packet_plane_stop(rpc->plane, plane_stopped, rpc);
    reactor_timer_start(rpc->control, &rpc->stop_timer, 0);
}

void packet_rpc_stop(struct packet_rpc *rpc) {
    if (!atomic_exchange(&rpc->stopping, true))
        reactor_post(rpc->control, &rpc->stop_message);
}

/* ---- making ---- */

bool packet_rpc_create(const struct packet_rpc_options *options, struct packet_rpc **ret_rpc, struct error *error) {
    struct packet_rpc *rpc = calloc(1, sizeof(*rpc));
    if (rpc == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    rpc->options = *options;
    rpc->stop_message.run = stop_message;
    rpc->stop_timer.run = stop_look;
    list_init(&rpc->captures);
    log_init(&rpc->log, log_wall_ns, log_write_through, rpc);
    struct reactor_options control = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .index = MODEL_WORKERS_MAX};
    int result = reactor_create(options->host, &control, &rpc->control);
    if (result != 0) {
        free(rpc);
        return error_set_errno(error, result, "no control reactor");
    }
    rpc_server_init(&rpc->server, &rpc_table_packet, rpc, &rpc->log, &RPC_LIMITS_DEFAULT);
    rpc->server.state = RPC_STATE_RUNTIME;
    struct packet_plane_options plane = {.host = options->host,
                                         .log = &rpc->log,
                                         .control = rpc->control,
                                         .backend = options->backend,
                                         .cpus = options->cpus,
                                         .cpu_count = options->cpu_count,
                                         .cores = options->cores,
                                         .cpu_is_there = options->cpu_is_there,
                                         .processes = options->processes,
                                         .vf = options->vf,
                                         .poll_mode = options->poll_mode};
    reactor_enter(rpc->control);
    /* The socket first: workers that run would have to be ended. */
    bool ok = rpc_listener_open(&rpc->server, rpc->control, options->socket_path, &rpc->listener, error);
    if (ok && options->prepare != NULL)
        options->prepare(options->arg, rpc);
    if (ok && !packet_plane_create(&plane, &rpc->plane, error)) {
        rpc_listener_close(rpc->listener);
        ok = false;
    }
    reactor_enter(NULL);
    if (ok) {
        log_notice(&rpc->log, LOG_AREA_APP, "ready: %u worker%s, RPC socket %s", options->cpu_count,
                   options->cpu_count == 1 ? "" : "s", options->socket_path);
        result = reactor_start(rpc->control);
        ok = result == 0 || error_set_errno(error, result, "the control reactor does not start");
    }
    if (!ok) {
        if (rpc->plane != NULL)
            packet_plane_destroy(rpc->plane);
        reactor_destroy(rpc->control);
        free(rpc);
        return false;
    }
    *ret_rpc = rpc;
    return true;
}

void packet_rpc_destroy(struct packet_rpc *rpc) {
    rpc_server_fini(&rpc->server);
    packet_plane_destroy(rpc->plane);
    reactor_destroy(rpc->control);
    free(rpc);
}
