/* Methods that change something: each is one change of the plane, answered with the generation that every worker runs. */
#include <stdio.h>
#include <stdlib.h>

#include "packet/mac.h"
#include "packet_rpc/packet_rpc.h"
#include "packet_rpc/packet_rpc_methods.h"

struct method_change {
    struct packet_change change;
    struct packet_port_options port;
    struct rpc_call *call;
    const void *params; /* the call's: valid until it is answered */
    struct policy *policy;
    /* What is answered besides the generation; NULL = nothing. */
    void (*answer)(struct method_change *change, struct json_writer *writer);
};

static void change_done(struct packet_change *base) {
    struct method_change *change = container_of(base, struct method_change, change);
    struct rpc_call *call = change->call;
    if (base->ok) {
        struct json_writer *writer = rpc_call_result(call);
        json_begin_object(writer, RPC_RESULT);
        json_put_u64(writer, "generation", base->generation);
        if (change->answer != NULL)
            change->answer(change, writer);
        json_end(writer);
        rpc_call_end(call);
    } else {
        rpc_call_fail(call, &base->error);
    }
    policy_unref(change->policy);
    free(change);
}

/* NULL, and the call answered, if there is no memory. */
static struct method_change *change_create(struct rpc_call *call, const void *params,
                                           bool (*edit)(struct packet_change *, struct model *, struct error *)) {
    struct method_change *change = calloc(1, sizeof(*change));
    if (change == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory for a change");
        rpc_call_fail(call, &error);
        return NULL;
    }
    change->call = call;
    change->params = params;
    change->change.edit = edit;
    change->change.done = change_done;
    return change;
}

static void submit(struct rpc_call *call, const void *params,
                   bool (*edit)(struct packet_change *, struct model *, struct error *)) {
    struct method_change *change = change_create(call, params, edit);
    if (change != NULL)
        packet_plane_submit(packet_rpc_of(call)->plane, &change->change);
}

static const void *params_of(struct packet_change *change) { return container_of(change, struct method_change, change)->params; }

void method_rpc_get_methods(struct rpc_call *call, const struct params_rpc_get_methods *params) {
    rpc_call_result_methods(call, params->current);
}

void method_packet_stop(struct rpc_call *call) {
    packet_rpc_stop(packet_rpc_of(call)); /* calls that have begun are answered first */
    rpc_call_result_true(call);
}

/* ---- ports ---- */

/* Texts that only some kinds know: given to another one, they were meant for something else. */
static bool check_port(const struct params_packet_port_create *params, struct error *error) {
    enum { INTERFACE = 1, SOCKET = 2, CLIENT = 4, SERVER = 8, FILES = 16, GENERATE = 32, QUEUES = 64, DEVICE = 128 };
    static const uint8_t known[] = {
        [RPC_PACKET_PORT_KIND_AF_PACKET] = INTERFACE,
        [RPC_PACKET_PORT_KIND_TAP] = INTERFACE,
        [RPC_PACKET_PORT_KIND_VHOST_USER] = SOCKET | CLIENT | QUEUES,
        [RPC_PACKET_PORT_KIND_MEMIF] = SOCKET | SERVER,
        [RPC_PACKET_PORT_KIND_NULL] = GENERATE,
        [RPC_PACKET_PORT_KIND_PCAP] = FILES,
        [RPC_PACKET_PORT_KIND_RING] = 0,
        [RPC_PACKET_PORT_KIND_AF_XDP] = INTERFACE,
        [RPC_PACKET_PORT_KIND_PCI] = DEVICE,
    };
    const struct {
        const char *name, *value;
        uint8_t bit;
    } given[] = {
        {"interface", params->interface, INTERFACE},
        {"device", params->device, DEVICE},
        {"socket", params->socket, SOCKET},
        {"client", params->client ? "true" : NULL, CLIENT},
        {"server", params->server ? "true" : NULL, SERVER},
        {"rx_file", params->rx_file, FILES},
        {"tx_file", params->tx_file, FILES},
        {"generate", params->generate ? "true" : NULL, GENERATE},
        {"queues", params->queues > 1 ? "more than one" : NULL, QUEUES},
    };
    for (size_t i = 0; i < array_count(given); i++)
        if (given[i].value != NULL && (known[params->kind] & given[i].bit) == 0)
            return error_invalid(error, given[i].name, given[i].value, "nothing: a port of kind %s has no such parameter",
                                 packet_port_kind_name((enum packet_port_kind)params->kind));
    return true;
}

void method_packet_port_create(struct rpc_call *call, const struct params_packet_port_create *params) {
    static_assert(RPC_PACKET_PORT_KIND_PCI == (int)PACKET_PORT_PCI && RPC_PACKET_PORT_KIND_RING == (int)PACKET_PORT_RING,
                  "one order");
    struct error error;
    if (!check_port(params, &error)) {
        rpc_call_fail_decode(call, &error);
        return;
    }
    struct method_change *change = change_create(call, params, NULL);
    if (change == NULL)
        return;
    change->port = (struct packet_port_options){.name = params->name,
                                                .kind = (enum packet_port_kind)params->kind,
                                                .interface = params->interface,
                                                .device = params->device,
                                                .socket = params->socket,
                                                .client = params->client,
                                                .queues = params->queues,
                                                .server = params->server,
                                                .id = params->id,
                                                .size = params->size,
                                                .generate = params->generate,
                                                .rx_file = params->rx_file,
                                                .tx_file = params->tx_file};
    change->change.open = &change->port;
    packet_plane_submit(packet_rpc_of(call)->plane, &change->change);
}

static bool edit_port_delete(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_port_delete *params = params_of(change);
    return packet_change_remove_port(change, model, params->name, error);
}

void method_packet_port_delete(struct rpc_call *call, const struct params_packet_port_delete *params) {
    submit(call, params, edit_port_delete);
}

static bool edit_set_policy(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_port_set_policy *params = params_of(change);
    return model_set_policy(model, params->name, container_of(change, struct method_change, change)->policy, error);
}

static struct policy_rate rate_of(bool given, const struct rpc_packet_rate *rate) {
    if (!given)
        return (struct policy_rate){0};
    return (struct policy_rate){.bits_per_s = rate->bits_per_s, .packets_per_s = rate->packets_per_s};
}

/* False: error. */
static bool fill_policy(const struct params_packet_port_set_policy *params, struct policy *policy, struct error *error) {
    const char *const *macs = params->macs.items;
    const uint32_t *vlans = params->vlans.items;
    for (; policy->mac_count < params->macs.count; policy->mac_count++)
        if (!mac_parse(macs[policy->mac_count], &policy->macs[policy->mac_count]))
            return error_invalid(error, "macs", macs[policy->mac_count], "addresses like fa:16:3e:00:00:01");
    for (uint32_t i = 0; i < params->vlans.count; i++) {
        char value[16];
        snprintf(value, sizeof(value), "%u", vlans[i]);
        if (vlans[i] > VLAN_VID_MAX)
            return error_invalid(error, "vlans", value, "VLAN IDs, 0 to %u", VLAN_VID_MAX);
        policy->vlans[vlans[i] / 64] |= UINT64_C(1) << vlans[i] % 64;
    }
    policy->vlan_check = params->vlan_check;
    policy->rx = rate_of(params->has_rx_rate, &params->rx_rate);
    policy->tx = rate_of(params->has_tx_rate, &params->tx_rate);
    return params->vlan_check || params->vlans.count == 0 ||
           error_invalid(error, "vlan_check", "false", "true, where vlans are given");
}

void method_packet_port_set_policy(struct rpc_call *call, const struct params_packet_port_set_policy *params) {
    struct error error;
    struct policy *policy = NULL;
    if (params->macs.count > 0 || params->vlan_check || params->vlans.count > 0 || params->has_rx_rate || params->has_tx_rate) {
        policy = calloc(1, sizeof(*policy));
        if (policy != NULL)
            policy->refs = 1;
        if (policy == NULL ? !error_set(&error, ERROR_NO_MEMORY, "no memory for a policy")
                           : !fill_policy(params, policy, &error)) {
            policy_unref(policy);
            rpc_call_fail_decode(call, &error);
            return;
        }
    }
    struct method_change *change = change_create(call, params, edit_set_policy);
    if (change == NULL) {
        policy_unref(policy);
        return;
    }
    change->policy = policy;
    packet_plane_submit(packet_rpc_of(call)->plane, &change->change);
}

/* ---- vfs ---- */

/* False, and the call answered: here they are processes. */
static bool check_vfs_are_ours(struct rpc_call *call) {
    struct error error;
    if (!packet_rpc_of(call)->options.processes)
        return true;
    error_set(&error, ERROR_UNSUPPORTED, "vfs are processes here, which come and go by themselves");
    error_hint(&error, "penstock-packet --vf");
    rpc_call_fail(call, &error);
    return false;
}

static bool edit_vf_create(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_vf_create *params = params_of(change);
    const struct packet_plane_options *options = &change->plane->options;
    struct model_vf vf = {.id = params->id, .vhosts = params->num_vhost, .share = params->share};
    return cores_parse_mask("core_mask", params->core_mask, &vf.mask, error) &&
           model_add_vf(model, &vf, options->cores, options->cpu_is_there, error);
}

static void answer_vf(struct method_change *change, struct json_writer *writer) {
    const struct params_packet_vf_create *params = change->params;
    const struct model *model = change->change.plane->version->model;
    packet_rpc_put_cores(writer, model, model_find_vf(model, params->id, NULL));
}

void method_packet_vf_create(struct rpc_call *call, const struct params_packet_vf_create *params) {
    struct method_change *change = check_vfs_are_ours(call) ? change_create(call, params, edit_vf_create) : NULL;
    if (change == NULL)
        return;
    change->answer = answer_vf;
    packet_plane_submit(packet_rpc_of(call)->plane, &change->change);
}

static bool edit_vf_delete(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_vf_delete *params = params_of(change);
    return model_remove_vf(model, params->id, error);
}

void method_packet_vf_delete(struct rpc_call *call, const struct params_packet_vf_delete *params) {
    if (check_vfs_are_ours(call))
        submit(call, params, edit_vf_delete);
}

/* ---- components ---- */

static bool edit_component_create(struct packet_change *change, struct model *model, struct error *error) {
    static_assert(RPC_PACKET_COMPONENT_TYPE_MIRROR == (int)COMPONENT_MIRROR &&
                      RPC_PACKET_COMPONENT_TYPE_MERGE == (int)COMPONENT_MERGE,
                  "one order");
    const struct params_packet_component_create *params = params_of(change);
    unsigned worker = params->has_worker ? params->worker : 0;
    if (params->has_vf) {
        if (!model_find_worker(model, params->vf, params->core, &worker, error))
            return false;
    } else if (worker >= MODEL_WORKERS_MAX || !model->workers[worker].exists) {
        char value[16];
        snprintf(value, sizeof(value), "%u", worker);
        return error_invalid(error, "worker", value, "the number of one that is there (packet_get_status)");
    }
    return model_add_component(model, params->name, (enum component_type)params->type, worker, error);
}

void method_packet_component_create(struct rpc_call *call, const struct params_packet_component_create *params) {
    struct error error;
    if (params->has_vf != params->has_core || (params->has_vf && params->has_worker)) {
        const char *field = params->has_worker ? "worker" : params->has_vf ? "core" : "vf";
        error_invalid(&error, field, params->has_worker ? "given" : "absent", "worker, or vf and core");
        rpc_call_fail_decode(call, &error);
        return;
    }
    submit(call, params, edit_component_create);
}

static bool edit_component_delete(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_component_delete *params = params_of(change);
    return model_remove_component(model, params->name, error);
}

void method_packet_component_delete(struct rpc_call *call, const struct params_packet_component_delete *params) {
    submit(call, params, edit_component_delete);
}

static struct vlan_operation vlan_of(bool given, const struct rpc_packet_vlan *vlan) {
    static_assert(RPC_PACKET_VLAN_OPERATION_DEL == (int)VLAN_ACTION_DEL && RPC_PACKET_DIRECTION_TX == (int)PORT_DIRECTION_TX,
                  "one order");
    if (!given)
        return (struct vlan_operation){.action = VLAN_ACTION_NONE};
    return (struct vlan_operation){.action = (enum vlan_action)vlan->operation, .tag = vlan_tag_make(vlan->id, vlan->pcp)};
}

/* False, and the call answered: not both or neither. */
static bool check_vlan(struct rpc_call *call, bool given, const struct rpc_packet_vlan *vlan) {
    struct error error;
    if (!given || (vlan->operation == RPC_PACKET_VLAN_OPERATION_ADD) == vlan->has_id)
        return true;
    error_invalid(&error, "vlan.id", vlan->has_id ? "given" : "absent", "a VLAN ID with operation add, and only there");
    rpc_call_fail_decode(call, &error);
    return false;
}

static bool edit_attach(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_component_attach *params = params_of(change);
    return model_attach(model, params->component, params->port, (enum port_direction)params->direction,
                        vlan_of(params->has_vlan, &params->vlan), params->hairpin, error);
}

void method_packet_component_attach(struct rpc_call *call, const struct params_packet_component_attach *params) {
    if (check_vlan(call, params->has_vlan, &params->vlan))
        submit(call, params, edit_attach);
}

static bool edit_set_vlan(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_component_set_vlan *params = params_of(change);
    return model_set_vlan(model, params->component, params->port, (enum port_direction)params->direction,
                          vlan_of(params->has_vlan, &params->vlan), error);
}

void method_packet_component_set_vlan(struct rpc_call *call, const struct params_packet_component_set_vlan *params) {
    if (check_vlan(call, params->has_vlan, &params->vlan))
        submit(call, params, edit_set_vlan);
}

static bool edit_detach(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_component_detach *params = params_of(change);
    return model_detach(model, params->component, params->port, (enum port_direction)params->direction, error);
}

void method_packet_component_detach(struct rpc_call *call, const struct params_packet_component_detach *params) {
    submit(call, params, edit_detach);
}

/* ---- entries ---- */

static bool edit_add_entry(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_classifier_add_entry *params = params_of(change);
    return model_add_entry(model, params->component, params->mac, params->has_vlan ? params->vlan : TABLE_UNTAGGED, params->port,
                           error);
}

void method_packet_classifier_add_entry(struct rpc_call *call, const struct params_packet_classifier_add_entry *params) {
    submit(call, params, edit_add_entry);
}

static bool edit_delete_entry(struct packet_change *change, struct model *model, struct error *error) {
    const struct params_packet_classifier_delete_entry *params = params_of(change);
    return model_remove_entry(model, params->component, params->mac, params->has_vlan ? params->vlan : TABLE_UNTAGGED,
                              params->port, error);
}

void method_packet_classifier_delete_entry(struct rpc_call *call, const struct params_packet_classifier_delete_entry *params) {
    submit(call, params, edit_delete_entry);
}
