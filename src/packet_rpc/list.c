/* Methods that list: of the version that runs. Counters are read while workers count on. */
#include <stdio.h>

#include "packet/mac.h"
#include "packet_rpc/packet_rpc.h"
#include "packet_rpc/packet_rpc_methods.h"

static const struct model *model_of(const struct rpc_call *call) { return packet_rpc_of(call)->plane->version->model; }

/* Answers that there is none of that name. */
static void fail_absent(struct rpc_call *call, const char *what, const char *name) {
    struct error error;
    error_set(&error, ERROR_NO_DEVICE, "there is no %s %s", what, name);
    rpc_call_fail(call, &error);
}

/* ---- the plane ---- */

static void put_worker(struct json_writer *writer, const struct model *model, const struct packet_worker *worker) {
    const struct model_worker *place = &model->workers[worker->index];
    struct host_loop_stats stats;
    host_loop_stats(worker->reactor->loop, &stats);
    json_begin_object(writer, NULL);
    json_put_u64(writer, "worker", worker->index);
    if (worker->cpu >= 0)
        json_put_u64(writer, "cpu", (uint64_t)worker->cpu);
    else
        json_put_null(writer, "cpu");
    if (place->vf < MODEL_VFS_MAX) {
        json_put_u64(writer, "vf", model->vfs[place->vf].id);
        json_put_u64(writer, "core", place->core);
    }
    json_put_u64(writer, "busy_ns", stats.busy_ns);
    json_put_u64(writer, "idle_ns", stats.idle_ns);
    json_put_u64(writer, "cpu_ns", stats.cpu_ns);
    json_put_u64(writer, "turns", stats.turns);
    json_put_u64(writer, "sleeps", stats.sleeps);
    json_put_bool(writer, "asleep", stats.asleep);
    json_end(writer);
}

void method_packet_get_status(struct rpc_call *call) {
    const struct packet_rpc *rpc = packet_rpc_of(call);
    const struct model *model = model_of(call);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_string(writer, "version", rpc->options.version);
    json_put_u64(writer, "pid", rpc->options.pid);
    json_put_u64(writer, "generation", rpc->plane->version->generation);
    json_put_u64(writer, "components", model->component_count);
    json_put_u64(writer, "ports", model->port_count);
    if (rpc->options.backend->usage != NULL) {
        struct packet_usage usage;
        rpc->options.backend->usage(rpc->options.backend, &usage);
        json_begin_object(writer, "buffers");
        json_put_u64(writer, "count", usage.buffers);
        json_put_u64(writer, "free", usage.buffers_free);
        json_end(writer);
        json_begin_object(writer, "heap");
        json_put_u64(writer, "bytes", usage.heap_bytes);
        json_put_u64(writer, "free_bytes", usage.heap_free_bytes);
        json_put_u64(writer, "largest_free_bytes", usage.heap_largest_free_bytes);
        json_end(writer);
    }
    if (rpc->options.next_process != NULL) {
        unsigned at = 0;
        uint32_t vf;
        uint64_t mask;
        json_begin_array(writer, "processes");
        while (rpc->options.next_process(rpc->options.arg, &at, &vf, &mask)) {
            char text[24];
            snprintf(text, sizeof(text), "0x%llx", (unsigned long long)mask);
            json_begin_object(writer, NULL);
            json_put_u64(writer, "vf", vf);
            json_put_string(writer, "core_mask", text);
            json_end(writer);
        }
        json_end(writer);
    }
    json_begin_array(writer, "workers");
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (rpc->plane->workers[i] != NULL && model->workers[i].exists)
            put_worker(writer, model, rpc->plane->workers[i]);
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- vfs ---- */

void packet_rpc_put_cores(struct json_writer *writer, const struct model *model, const struct model_vf *vf) {
    json_put_u64(writer, "master", model_vf_master(vf));
    json_begin_array(writer, "workers");
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct model_worker *worker = &model->workers[i];
        if (!worker->exists || worker->vf != (unsigned)(vf - model->vfs))
            continue;
        json_begin_object(writer, NULL);
        json_put_u64(writer, "core", worker->core);
        json_put_u64(writer, "cpu", (uint64_t)worker->cpu);
        json_put_u64(writer, "worker", i);
        json_end(writer);
    }
    json_end(writer);
}

void method_packet_get_vfs(struct rpc_call *call, const struct params_packet_get_vfs *params) {
    const struct model *model = model_of(call);
    struct error error;
    if (params->has_id && model_find_vf(model, params->id, &error) == NULL) {
        rpc_call_fail(call, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (unsigned i = 0; i < MODEL_VFS_MAX; i++) {
        const struct model_vf *vf = &model->vfs[i];
        char mask[24];
        if (!vf->exists || (params->has_id && vf->id != params->id))
            continue;
        snprintf(mask, sizeof(mask), "0x%llx", (unsigned long long)vf->mask);
        json_begin_object(writer, NULL);
        json_put_u64(writer, "id", vf->id);
        json_put_string(writer, "core_mask", mask);
        json_put_u64(writer, "num_vhost", vf->vhosts);
        json_put_bool(writer, "share", vf->share);
        packet_rpc_put_cores(writer, model, vf);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

/* ---- ports ---- */

static void put_drops(struct json_writer *writer, const struct packet_port_counters *counters, enum port_drop first) {
    json_begin_object(writer, "drops");
    for (unsigned i = first; i < PORT_DROP_COUNT; i++)
        json_put_u64(writer, port_drop_name((enum port_drop)i), packet_counter(&counters->drops[i]));
    json_end(writer);
}

static void put_side(struct json_writer *writer, const char *key, const struct model *model, const struct packet_port *port,
                     enum port_direction direction, const struct packet_port_counters *counters) {
    const struct model_component *user = model_user(model, port, direction);
    json_begin_object(writer, key);
    if (user != NULL)
        json_put_string(writer, "component", user->name);
    json_put_u64(writer, "packets", packet_counter(&counters->packets));
    json_put_u64(writer, "bytes", packet_counter(&counters->bytes));
    json_put_u64(writer, "full", packet_counter(&counters->full));
    if (direction == PORT_DIRECTION_TX)
        json_put_u64(writer, "unfinished", packet_counter(&counters->unfinished));
    put_drops(writer, counters, direction == PORT_DIRECTION_TX ? PORT_DROP_OVER_RATE : PORT_DROP_SPOOFED_MAC);
    json_end(writer);
}

static void put_rate(struct json_writer *writer, const char *key, const struct policy_rate *rate) {
    json_begin_object(writer, key);
    json_put_u64(writer, "bits_per_s", rate->bits_per_s);
    json_put_u64(writer, "packets_per_s", rate->packets_per_s);
    json_end(writer);
}

static void put_policy(struct json_writer *writer, const struct policy *policy) {
    json_begin_object(writer, "policy");
    json_begin_array(writer, "macs");
    for (unsigned i = 0; i < policy->mac_count; i++) {
        char mac[MAC_TEXT_SIZE];
        json_put_string(writer, NULL, mac_format(policy->macs[i], mac));
    }
    json_end(writer);
    json_put_bool(writer, "vlan_check", policy->vlan_check);
    json_begin_array(writer, "vlans");
    for (unsigned vid = 0; vid <= VLAN_VID_MAX; vid++)
        if ((policy->vlans[vid / 64] >> vid % 64 & 1) != 0)
            json_put_u64(writer, NULL, vid);
    json_end(writer);
    put_rate(writer, "rx_rate", &policy->rx);
    put_rate(writer, "tx_rate", &policy->tx);
    json_end(writer);
}

static void put_port(struct json_writer *writer, const struct model *model, struct packet_port *port) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", port->name);
    json_put_string(writer, "kind", port->kind);
    json_put_string(writer, "where", port->where);
    json_put_bool(writer, "up", port->ops->is_up(port));
    const char *fault = port->ops->fault == NULL ? NULL : port->ops->fault(port);
    if (fault != NULL)
        json_put_string(writer, "fault", fault);
    const struct policy *policy = model_policy(model, port);
    if (policy != NULL)
        put_policy(writer, policy);
    json_put_bool(writer, "captured", model_is_captured(model, port));
    put_side(writer, "rx", model, port, PORT_DIRECTION_RX, &port->received);
    put_side(writer, "tx", model, port, PORT_DIRECTION_TX, &port->sent);
    json_end(writer);
}

void method_packet_get_ports(struct rpc_call *call, const struct params_packet_get_ports *params) {
    const struct model *model = model_of(call);
    struct packet_port *one = params->name == NULL ? NULL : model_find_port(model, params->name);
    if (params->name != NULL && one == NULL) {
        fail_absent(call, "port", params->name);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (unsigned i = 0; i < model->port_count; i++)
        if (one == NULL || one == model->ports[i])
            put_port(writer, model, model->ports[i]);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- components ---- */

static const char *const type_names[COMPONENT_TYPE_COUNT] = {[COMPONENT_FORWARD] = "forward",
                                                             [COMPONENT_MERGE] = "merge",
                                                             [COMPONENT_CLASSIFIER] = "classifier",
                                                             [COMPONENT_MIRROR] = "mirror"};
static const char *const action_names[] = {[VLAN_ACTION_NONE] = "none", [VLAN_ACTION_ADD] = "add", [VLAN_ACTION_DEL] = "del"};

static void put_ends(struct json_writer *writer, const char *key, const struct model_component *component,
                     enum port_direction direction) {
    json_begin_array(writer, key);
    for (unsigned i = 0; i < component->end_count[direction]; i++) {
        const struct plan_end *end = &component->ends[direction][i];
        json_begin_object(writer, NULL);
        json_put_string(writer, "port", end->port->name);
        json_begin_object(writer, "vlan");
        json_put_string(writer, "operation", action_names[end->vlan.action]);
        if (end->vlan.action == VLAN_ACTION_ADD) {
            json_put_u64(writer, "id", vlan_tag_vid(end->vlan.tag));
            json_put_u64(writer, "pcp", end->vlan.tag >> 13);
        }
        json_end(writer);
        json_put_bool(writer, "hairpin", end->hairpin);
        json_end(writer);
    }
    json_end(writer);
}

static void put_component(struct json_writer *writer, const struct model_component *component) {
    const struct component_counters *counters = &component->state->counters;
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", component->name);
    json_put_string(writer, "type", type_names[component->type]);
    json_put_u64(writer, "worker", component->worker);
    json_put_bool(writer, "runs", model_component_runs(component));
    put_ends(writer, "rx", component, PORT_DIRECTION_RX);
    put_ends(writer, "tx", component, PORT_DIRECTION_TX);
    json_put_u64(writer, "entries", component->entry_count);
    json_put_u64(writer, "packets", packet_counter(&counters->packets));
    json_put_u64(writer, "copies", packet_counter(&counters->copies));
    json_put_u64(writer, "unknown", packet_counter(&counters->unknown));
    json_begin_object(writer, "drops");
    for (unsigned i = 0; i < PACKET_DROP_COUNT; i++)
        json_put_u64(writer, packet_drop_name((enum packet_drop)i), packet_counter(&counters->drops[i]));
    json_end(writer);
    json_end(writer);
}

void method_packet_get_components(struct rpc_call *call, const struct params_packet_get_components *params) {
    const struct model *model = model_of(call);
    if (params->name != NULL && model_find_component(model, params->name) == NULL) {
        fail_absent(call, "component", params->name);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (unsigned i = 0; i < model->component_count; i++)
        if (params->name == NULL || strcmp(params->name, model->components[i]->name) == 0)
            put_component(writer, model->components[i]);
    json_end(writer);
    rpc_call_end(call);
}

void method_packet_get_classifier(struct rpc_call *call, const struct params_packet_get_classifier *params) {
    const struct model_component *component = model_find_component(model_of(call), params->component);
    if (component == NULL || component->type != COMPONENT_CLASSIFIER) {
        fail_absent(call, "classifier", params->component);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (uint32_t i = 0; i < component->entry_count; i++) {
        const struct model_entry *entry = &component->entries[i];
        char mac[MAC_TEXT_SIZE];
        json_begin_object(writer, NULL);
        json_put_string(writer, "mac", entry->is_default ? "default" : mac_format(entry->address, mac));
        if (entry->vlan != TABLE_UNTAGGED)
            json_put_u64(writer, "vlan", entry->vlan);
        json_put_string(writer, "port", entry->port->name);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}
