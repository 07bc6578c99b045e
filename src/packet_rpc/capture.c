/* Methods of captures. One begins with its file, then the model has it; it ends the other way round. */
#include <stdio.h>
#include <stdlib.h>

#include "packet/capture_file.h"
#include "packet_rpc/packet_rpc.h"
#include "packet_rpc/packet_rpc_methods.h"

struct rpc_capture {
    struct list_node node; /* of packet_rpc.captures, once the model has it */
    struct packet_rpc *rpc;
    struct packet_change change;
    struct capture_file *file;
    char port[PACKET_PORT_NAME_MAX + 1];
    struct rpc_call *call; /* to be answered; NULL = none: the plane ends */
    uint64_t generation;
    bool ends;
};

static void capture_destroy(struct rpc_capture *capture) {
    if (capture->file != NULL)
        capture_file_destroy(capture->file);
    free(capture);
}

static void fail(struct rpc_capture *capture, const struct error *error) {
    rpc_call_fail(capture->call, error);
    capture_destroy(capture);
}

/* ---- start ---- */

static bool edit_start(struct packet_change *change, struct model *model, struct error *error) {
    struct rpc_capture *capture = container_of(change, struct rpc_capture, change);
    return model_set_capture(model, capture->port, capture->file->capture, error);
}

static void answer_generation(struct rpc_call *call, uint64_t generation) {
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "generation", generation);
    json_end(writer);
    rpc_call_end(call);
}

static void start_done(struct packet_change *change) {
    struct rpc_capture *capture = container_of(change, struct rpc_capture, change);
    if (!change->ok) {
        fail(capture, &change->error);
        return;
    }
    list_push_back(&capture->rpc->captures, &capture->node);
    capture_file_start(capture->file);
    answer_generation(capture->call, change->generation);
    capture->call = NULL;
    if (atomic_load(&capture->rpc->stopping))
        packet_rpc_stop_captures(capture->rpc);
}

static void opened(void *arg, bool ok) {
    struct rpc_capture *capture = arg;
    struct error error;
    if (!ok || atomic_load(&capture->rpc->stopping)) {
        error_set(&error, ERROR_CANCELLED, "the plane is stopping");
        fail(capture, ok ? &error : &capture->file->error);
        return;
    }
    capture->change.edit = edit_start;
    capture->change.done = start_done;
    packet_plane_submit(capture->rpc->plane, &capture->change);
}

void method_packet_capture_start(struct rpc_call *call, const struct params_packet_capture_start *params) {
    struct packet_rpc *rpc = packet_rpc_of(call);
    struct capture_file_options options = {.path = params->file,
                                           .filter = params->filter,
                                           .rx = params->direction != RPC_PACKET_CAPTURE_DIRECTION_TX,
                                           .tx = params->direction != RPC_PACKET_CAPTURE_DIRECTION_RX,
                                           .snap = params->snap_length,
                                           .limit_bytes = params->limit_bytes};
    struct error error;
    const struct packet_port *port = model_find_port(rpc->plane->version->model, params->port);
    if (port == NULL) { /* before a file is made for nothing */
        error_set(&error, ERROR_NO_DEVICE, "there is no port %s", params->port);
        rpc_call_fail(call, &error);
        return;
    }
    if (model_is_captured(rpc->plane->version->model, port)) {
        error_set(&error, ERROR_EXISTS, "port %s is captured already", params->port);
        rpc_call_fail(call, &error);
        return;
    }
    struct rpc_capture *capture = calloc(1, sizeof(*capture));
    if (capture != NULL) {
        capture->rpc = rpc;
        capture->call = call;
        snprintf(capture->port, sizeof(capture->port), "%s", params->port);
        capture->file = capture_file_open(rpc->control, rpc->options.backend, &options, opened, capture);
    }
    if (capture == NULL || capture->file == NULL) {
        free(capture);
        error_set(&error, ERROR_NO_MEMORY, "no memory for a capture");
        rpc_call_fail(call, &error);
    }
}

/* ---- stop ---- */

static uint64_t sum(const struct rpc_capture *capture, bool lost) {
    const struct capture_ring *rings = capture->file->capture->rings;
    if (lost)
        return atomic_load(&rings[CAPTURE_RX].lost) + atomic_load(&rings[CAPTURE_TX].lost);
    return atomic_load(&rings[CAPTURE_RX].taken) + atomic_load(&rings[CAPTURE_TX].taken);
}

static void put_counters(struct json_writer *writer, const struct rpc_capture *capture) {
    json_put_u64(writer, "packets", sum(capture, false));
    json_put_u64(writer, "lost", sum(capture, true));
    json_put_u64(writer, "bytes", atomic_load(&capture->file->written));
}

static void closed(void *arg, bool ok) {
    (void)ok;
    struct rpc_capture *capture = arg;
    list_remove(&capture->node);
    if (capture->call != NULL) {
        struct json_writer *writer = rpc_call_result(capture->call);
        json_begin_object(writer, RPC_RESULT);
        json_put_u64(writer, "generation", capture->generation);
        put_counters(writer, capture);
        json_end(writer);
        rpc_call_end(capture->call);
    }
    capture_destroy(capture);
}

static bool edit_stop(struct packet_change *change, struct model *model, struct error *error) {
    return model_clear_capture(model, container_of(change, struct rpc_capture, change)->port, error);
}

static void stop_done(struct packet_change *change) {
    struct rpc_capture *capture = container_of(change, struct rpc_capture, change);
    if (!change->ok) { /* no memory for a version: it goes on */
        capture->ends = false;
        if (capture->call != NULL)
            rpc_call_fail(capture->call, &change->error);
        capture->call = NULL;
        return;
    }
    capture->generation = change->generation;
    capture_file_stop(capture->file, closed, capture);
}

static void stop(struct rpc_capture *capture) {
    capture->ends = true;
    capture->change = (struct packet_change){.edit = edit_stop, .done = stop_done};
    packet_plane_submit(capture->rpc->plane, &capture->change);
}

void method_packet_capture_stop(struct rpc_call *call, const struct params_packet_capture_stop *params) {
    struct packet_rpc *rpc = packet_rpc_of(call);
    struct error error;
    list_for_each (&rpc->captures, struct rpc_capture, capture, node) {
        if (strcmp(capture->port, params->port) != 0 || capture->ends)
            continue;
        capture->call = call;
        stop(capture);
        return;
    }
    if (model_find_port(rpc->plane->version->model, params->port) == NULL)
        error_set(&error, ERROR_NO_DEVICE, "there is no port %s", params->port);
    else
        error_set(&error, ERROR_NOT_FOUND, "port %s is not captured", params->port);
    rpc_call_fail(call, &error);
}

void packet_rpc_stop_captures(struct packet_rpc *rpc) {
    list_for_each (&rpc->captures, struct rpc_capture, capture, node) {
        if (!capture->ends)
            stop(capture);
    }
}

void method_packet_get_captures(struct rpc_call *call) {
    static const char *const directions[] = {"none", "rx", "tx", "both"};
    struct packet_rpc *rpc = packet_rpc_of(call);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    list_for_each (&rpc->captures, struct rpc_capture, capture, node) {
        const struct capture_file *file = capture->file;
        int failure = atomic_load(&file->failure);
        json_begin_object(writer, NULL);
        json_put_string(writer, "port", capture->port);
        json_put_string(writer, "file", file->path);
        json_put_string(writer, "direction", directions[(file->rx ? 1 : 0) + (file->tx ? 2 : 0)]);
        if (file->filter != NULL)
            json_put_string(writer, "filter", file->filter);
        json_put_u64(writer, "snap_length", file->snap);
        json_put_u64(writer, "limit_bytes", file->limit_bytes);
        put_counters(writer, capture);
        json_put_bool(writer, "full", atomic_load(&file->full));
        if (failure != 0) {
            struct error error;
            error_set_errno(&error, failure, "%s", file->path);
            json_put_string(writer, "failure", error.text);
        }
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}
