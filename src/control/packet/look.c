/* What a process of the plane has: asked call by call, and told as one observation. */
#include "control/packet/internal.h"

enum { CALL_MS = 20000 };

void packet_control_call_failed(struct packet_control *control, struct plane_call *call) {
    if (control->stopping)
        return;
    packet_processes_forget(&control->processes);
    control->trouble = call->error;
    if (packet_processes_usable(&control->processes))
        packet_control_retry_in(control, PACKET_RETRY_MS);
}

void packet_control_call(struct packet_control *control, const char *method, json_t *params, void (*done)(struct plane_call *)) {
    control->busy = true;
    control->call = (struct plane_call){.method = method, .params = params, .timeout_ms = CALL_MS, .done = done, .arg = control};
    control_plane_call(&control->process->plane, &control->call);
}

static bool is_told(struct packet_control *control, struct plane_call *call) {
    control->busy = false;
    if (!call->ok)
        packet_control_call_failed(control, call);
    return call->ok;
}

void packet_control_forget_told(struct packet_control *control) {
    json_decref(control->told.workers);
    json_decref(control->told.vfs);
    json_decref(control->told.ports);
    json_decref(control->told.components);
    json_decref(control->told.entries);
    control->told = (struct packet_told){0};
}

static void look_done(struct packet_control *control) {
    control->process->observed = packet_observed(&control->told);
    packet_control_forget_told(control);
    if (control->process->observed == NULL) {
        error_set(&control->trouble, ERROR_INTERNAL, "the packet plane's listing is none");
        packet_control_retry_in(control, PACKET_RETRY_MS);
        return;
    }
    packet_control_go_soon(control);
}

static void look_at_entries(struct packet_control *control);

static void entries_told(struct plane_call *call) {
    struct packet_control *control = call->arg;
    json_decref(call->params);
    if (!is_told(control, call))
        return;
    json_object_set_new(control->told.entries,
                        json_string_value(json_object_get(json_array_get(control->told.components, control->entry_at), "name")),
                        call->result);
    control->entry_at++;
    look_at_entries(control);
}

static void look_at_entries(struct packet_control *control) {
    for (; control->entry_at < json_array_size(control->told.components); control->entry_at++) {
        const json_t *component = json_array_get(control->told.components, control->entry_at);
        const char *name = json_string_value(json_object_get(component, "name"));
        if (name == NULL || json_integer_value(json_object_get(component, "entries")) == 0)
            continue;
        packet_control_call(control, "packet_get_classifier", json_pack("{ss}", "component", name), entries_told);
        return;
    }
    look_done(control);
}

static void components_told(struct plane_call *call) {
    struct packet_control *control = call->arg;
    if (!is_told(control, call))
        return;
    control->told.components = call->result;
    control->told.entries = json_object();
    control->entry_at = 0;
    look_at_entries(control);
}

static void ports_told(struct plane_call *call) {
    struct packet_control *control = call->arg;
    if (!is_told(control, call))
        return;
    control->told.ports = call->result;
    packet_control_call(control, "packet_get_components", NULL, components_told);
}

static void vfs_told(struct plane_call *call) {
    struct packet_control *control = call->arg;
    if (!is_told(control, call))
        return;
    control->told.vfs = call->result;
    packet_control_call(control, "packet_get_ports", NULL, ports_told);
}

static void status_told(struct plane_call *call) {
    struct packet_control *control = call->arg;
    if (!is_told(control, call))
        return;
    control->told.workers = json_incref(json_object_get(call->result, "workers"));
    control->generation = (uint64_t)json_integer_value(json_object_get(call->result, "generation"));
    const json_t *found;
    size_t i;
    json_array_foreach(json_object_get(call->result, "processes"), i, found)
        packet_processes_found(&control->processes, (unsigned)json_integer_value(json_object_get(found, "vf")),
                               json_string_value(json_object_get(found, "core_mask")));
    json_decref(call->result);
    if (!control_plane_ready(&control->process->plane)) {
        packet_control_go_soon(control);
        return;
    }
    packet_control_call(control, "packet_get_vfs", NULL, vfs_told);
}

void packet_control_look(struct packet_control *control, struct packet_process *process) {
    packet_control_forget_told(control);
    control->process = process;
    packet_control_call(control, "packet_get_status", NULL, status_told);
}
