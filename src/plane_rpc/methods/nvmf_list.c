/* Methods that list the NVMe/TCP target, and its configuration as calls. */
#include <stdio.h>
#include <strings.h>

#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/nvmf.h"
#include "plane_rpc/rpc_methods.h"

static void put_address(struct json_writer *writer, const char *key, const struct nvme_listen_address *address) {
    json_begin_object(writer, key);
    methods_put_address(writer, address->family == NVME_FAMILY_IPV6, address->address, address->port);
    json_end(writer);
}

static bool is_zero(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static void put_hex(struct json_writer *writer, const char *key, const uint8_t *bytes, size_t size) {
    char text[33];
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02X", bytes[i]);
    json_put_string(writer, key, text);
}

static void put_namespace(struct json_writer *writer, const struct nvme_namespace *ns) {
    json_begin_object(writer, NULL);
    json_put_u64(writer, "nsid", ns->nsid);
    json_put_string(writer, "bdev_name", ns->device->name);
    json_put_string(writer, "name", ns->device->name);
    put_hex(writer, "nguid", ns->nguid, sizeof(ns->nguid));
    if (!is_zero(ns->eui64, sizeof(ns->eui64)))
        put_hex(writer, "eui64", ns->eui64, sizeof(ns->eui64));
    json_put_uuid(writer, "uuid", &ns->uuid);
    if (ns->subsystem->ana)
        json_put_u64(writer, "anagrpid", ns->anagrpid);
    json_end(writer);
}

static const char *ana_state_name(enum nvme_ana_state state) {
    return state == NVME_ANA_OPTIMIZED ? "optimized" : state == NVME_ANA_NON_OPTIMIZED ? "non_optimized" : "inaccessible";
}

/* The state is the first group's: penstockd has one namespace in a subsystem. */
static void put_listener(struct json_writer *writer, const struct nvme_subsystem *subsystem,
                         const struct nvme_listener *listener) {
    const struct nvme_listen_address *address = &listener->address;
    json_begin_object(writer, NULL);
    methods_put_address(writer, address->family == NVME_FAMILY_IPV6, address->address, address->port);
    if (subsystem->ana)
        json_put_string(writer, "ana_state", ana_state_name(nvme_listener_ana_state(listener, 1)));
    json_end(writer);
}

static void put_subsystem(struct json_writer *writer, const struct nvme_subsystem *subsystem) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "nqn", subsystem->nqn);
    json_put_string(writer, "subtype", subsystem->discovery ? "Discovery" : "NVMe");
    json_begin_array(writer, "listen_addresses");
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node)
        put_listener(writer, subsystem, listener);
    json_end(writer);
    json_put_bool(writer, "allow_any_host", subsystem->allow_any_host);
    json_begin_array(writer, "hosts");
    list_for_each (&subsystem->hosts, struct nvme_host, host, node) {
        json_begin_object(writer, NULL);
        json_put_string(writer, "nqn", host->nqn);
        json_end(writer);
    }
    json_end(writer);
    if (!subsystem->discovery) {
        json_put_string(writer, "serial_number", subsystem->serial);
        json_put_string(writer, "model_number", subsystem->model);
        json_put_u64(writer, "max_namespaces", subsystem->max_namespaces);
        json_put_bool(writer, "passthrough", false);
        json_put_bool(writer, "ana_reporting", subsystem->ana);
        json_put_u64(writer, "min_cntlid", subsystem->min_cntlid);
        json_put_u64(writer, "max_cntlid", subsystem->max_cntlid);
        json_put_u64(writer, "dmrsl", 0);
        json_put_u64(writer, "wzsl", 0);
        json_begin_array(writer, "namespaces");
        list_for_each (&subsystem->namespaces, struct nvme_namespace, ns, node)
            put_namespace(writer, ns);
        json_end(writer);
    }
    json_end(writer);
}

void method_nvmf_get_subsystems(struct rpc_call *call, const struct params_nvmf_get_subsystems *params) {
    struct nvme_target *target = plane_of(call)->target;
    bool all = params->nqn == NULL;
    struct nvme_subsystem *only = all ? NULL : nvmf_subsystem(call, params->nqn);
    if (!all && only == NULL) /* the call has ended, its parameters have gone */
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    if (only != NULL)
        put_subsystem(writer, only);
    for (struct nvme_subsystem *subsystem = NULL; all && (subsystem = nvme_target_next_subsystem(target, subsystem)) != NULL;)
        put_subsystem(writer, subsystem);
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_listeners(struct rpc_call *call, const struct params_nvmf_subsystem_get_listeners *params) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, params->nqn);
    if (subsystem == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node) {
        json_begin_object(writer, NULL);
        put_address(writer, "address", &listener->address);
        if (subsystem->ana) {
            json_begin_array(writer, "ana_states");
            for (uint32_t group = 1; group <= subsystem->max_namespaces; group++) {
                json_begin_object(writer, NULL);
                json_put_u64(writer, "ana_group", group);
                json_put_string(writer, "ana_state", ana_state_name(nvme_listener_ana_state(listener, group)));
                json_end(writer);
            }
            json_end(writer);
        }
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_controllers(struct rpc_call *call, const struct params_nvmf_subsystem_get_controllers *params) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, params->nqn);
    if (subsystem == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (struct nvme_controller *controller = NULL;
         (controller = nvme_subsystem_next_controller(subsystem, controller)) != NULL;) {
        struct nvme_controller_facts facts;
        nvme_controller_get_facts(controller, &facts);
        json_begin_object(writer, NULL);
        json_put_u64(writer, "cntlid", facts.cntlid);
        json_put_string(writer, "cntrltype", facts.discovery ? "discovery" : "io");
        json_put_string(writer, "hostnqn", facts.hostnqn);
        json_put_uuid(writer, "hostid", &facts.hostid);
        json_put_u64(writer, "num_io_qpairs", facts.io_queues);
        json_put_u64(writer, "kato_ms", facts.kato_ms);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_qpairs(struct rpc_call *call, const struct params_nvmf_subsystem_get_qpairs *params) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, params->nqn);
    if (subsystem == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (struct nvme_queue *queue = NULL; (queue = nvme_subsystem_next_queue(subsystem, queue)) != NULL;) {
        struct nvme_queue_facts facts;
        nvme_queue_get_facts(queue, &facts);
        json_begin_object(writer, NULL);
        json_put_u64(writer, "cntlid", facts.cntlid);
        json_put_u64(writer, "qid", facts.qid);
        json_put_string(writer, "state", "enabled");
        json_put_string(writer, "thread", facts.reactor);
        json_put_string(writer, "hostnqn", facts.hostnqn);
        put_address(writer, "listen_address", facts.listen_address);
        put_address(writer, "peer_address", facts.peer_address);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

static void put_transport(struct json_writer *writer, const struct nvme_transport *transport) {
    const struct nvme_transport_options *options = &transport->options;
    json_begin_object(writer, NULL);
    json_put_string(writer, "trtype", transport->ops->name);
    json_put_u64(writer, "max_queue_depth", options->queue_depth);
    json_put_u64(writer, "max_io_qpairs_per_ctrlr", options->io_queues);
    json_put_u64(writer, "in_capsule_data_size", options->in_capsule_bytes);
    json_put_u64(writer, "max_io_size", options->max_io_bytes);
    json_put_u64(writer, "io_unit_size", options->max_io_bytes);
    json_put_u64(writer, "max_aq_depth", options->admin_queue_depth);
    json_put_u64(writer, "iobuf_small_cache_size", 0);
    json_put_u64(writer, "iobuf_large_cache_size", 0);
    json_put_bool(writer, "dif_insert_or_strip", false);
    json_put_bool(writer, "zcopy", false);
    json_put_bool(writer, "c2h_success", !options->no_c2h_success);
    json_put_u64(writer, "sock_priority", 0);
    json_put_u64(writer, "abort_timeout_sec", 1);
    json_put_u64(writer, "ack_timeout", 0);
    json_put_u64(writer, "data_wr_pool_size", 0);
    json_put_bool(writer, "disable_command_passthru", true);
    json_put_u64(writer, "kas", NVME_KATO_GRANULARITY_MS / 100);
    json_put_u64(writer, "min_kato", options->min_kato_ms);
    json_put_u64(writer, "max_connections", options->connections);
    json_end(writer);
}

void method_nvmf_get_transports(struct rpc_call *call, const struct params_nvmf_get_transports *params) {
    struct nvme_target *target = plane_of(call)->target;
    if (params->trtype != NULL &&
        (strcasecmp(params->trtype, "TCP") != 0 || nvme_target_find_transport(target, NVME_TRANSPORT_TCP) == NULL)) {
        struct error error;
        error_invalid(&error, "trtype", params->trtype, "a transport that is there");
        error.code = ERROR_NO_DEVICE;
        rpc_call_fail(call, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (struct nvme_transport *transport = NULL; (transport = nvme_target_next_transport(target, transport)) != NULL;)
        put_transport(writer, transport);
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_get_stats(struct rpc_call *call, const struct params_nvmf_get_stats *params) {
    struct plane *plane = plane_of(call);
    struct nvme_reactor_stats stats;
    struct json_writer *writer = rpc_call_result(call);
    (void)params;
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "tick_rate", plane->host->ticks_per_second);
    json_begin_array(writer, "poll_groups");
    for (unsigned i = 0; nvme_target_get_stats(plane->target, i, &stats); i++) {
        json_begin_object(writer, NULL);
        json_put_string(writer, "name", stats.reactor);
        json_put_u64(writer, "admin_qpairs", stats.admin_queues);
        json_put_u64(writer, "io_qpairs", stats.io_queues);
        json_put_u64(writer, "current_admin_qpairs", stats.current_admin_queues);
        json_put_u64(writer, "current_io_qpairs", stats.current_io_queues);
        json_put_u64(writer, "current_unassociated_qpairs", stats.current_unassociated_queues);
        json_put_u64(writer, "pending_bdev_io", stats.pending_io);
        json_put_u64(writer, "completed_nvme_io", stats.completed_io);
        json_begin_array(writer, "transports");
        for (struct nvme_transport *transport = NULL;
             (transport = nvme_target_next_transport(plane->target, transport)) != NULL;) {
            json_begin_object(writer, NULL);
            json_put_string(writer, "trtype", transport->ops->name);
            json_end(writer);
        }
        json_end(writer);
        json_end(writer);
    }
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- configuration ---- */

static void put_transport_call(struct json_writer *writer, const struct nvme_transport *transport) {
    const struct nvme_transport_options *options = &transport->options;
    methods_config_begin(writer, "nvmf_create_transport");
    json_put_string(writer, "trtype", transport->ops->name);
    json_put_u64(writer, "max_queue_depth", options->queue_depth);
    json_put_u64(writer, "max_io_qpairs_per_ctrlr", options->io_queues);
    json_put_u64(writer, "in_capsule_data_size", options->in_capsule_bytes);
    json_put_u64(writer, "max_io_size", options->max_io_bytes);
    json_put_u64(writer, "max_aq_depth", options->admin_queue_depth);
    json_put_bool(writer, "c2h_success", !options->no_c2h_success);
    json_put_u64(writer, "min_kato", options->min_kato_ms);
    json_put_u64(writer, "max_connections", options->connections);
    methods_config_end(writer);
}

static void put_subsystem_call(struct json_writer *writer, const struct nvme_subsystem *subsystem) {
    methods_config_begin(writer, "nvmf_create_subsystem");
    json_put_string(writer, "nqn", subsystem->nqn);
    json_put_string(writer, "serial_number", subsystem->serial);
    json_put_string(writer, "model_number", subsystem->model);
    json_put_u64(writer, "max_namespaces", subsystem->max_namespaces);
    json_put_bool(writer, "allow_any_host", subsystem->allow_any_host);
    if (subsystem->ana)
        json_put_bool(writer, "ana_reporting", true);
    json_put_u64(writer, "min_cntlid", subsystem->min_cntlid);
    json_put_u64(writer, "max_cntlid", subsystem->max_cntlid);
    methods_config_end(writer);
    list_for_each (&subsystem->hosts, struct nvme_host, host, node) {
        methods_config_begin(writer, "nvmf_subsystem_add_host");
        json_put_string(writer, "nqn", subsystem->nqn);
        json_put_string(writer, "host", host->nqn);
        methods_config_end(writer);
    }
    list_for_each (&subsystem->namespaces, struct nvme_namespace, ns, node) {
        methods_config_begin(writer, "nvmf_subsystem_add_ns");
        json_put_string(writer, "nqn", subsystem->nqn);
        json_begin_object(writer, "namespace");
        json_put_u64(writer, "nsid", ns->nsid);
        json_put_string(writer, "bdev_name", ns->device->name);
        put_hex(writer, "nguid", ns->nguid, sizeof(ns->nguid));
        if (!is_zero(ns->eui64, sizeof(ns->eui64)))
            put_hex(writer, "eui64", ns->eui64, sizeof(ns->eui64));
        json_put_uuid(writer, "uuid", &ns->uuid);
        if (subsystem->ana)
            json_put_u64(writer, "anagrpid", ns->anagrpid);
        json_end(writer);
        methods_config_end(writer);
    }
}

static void put_ana_call(struct json_writer *writer, const struct nvme_listener *listener, const struct nvme_subsystem *subsystem,
                         uint32_t group) {
    methods_config_begin(writer, "nvmf_subsystem_listener_set_ana_state");
    json_put_string(writer, "nqn", subsystem->nqn);
    put_address(writer, "listen_address", &listener->address);
    json_put_string(writer, "ana_state", ana_state_name(nvme_listener_ana_state(listener, group)));
    json_put_u64(writer, "anagrpid", group);
    methods_config_end(writer);
}

static void put_listener_calls(struct json_writer *writer, const struct nvme_subsystem *subsystem) {
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node) {
        methods_config_begin(writer, "nvmf_subsystem_add_listener");
        json_put_string(writer, "nqn", subsystem->nqn);
        put_address(writer, "listen_address", &listener->address);
        if (subsystem->ana)
            json_put_string(writer, "ana_state", ana_state_name(nvme_listener_ana_state(listener, 1)));
        methods_config_end(writer);
        for (uint32_t group = 2; subsystem->ana && group <= subsystem->max_namespaces; group++)
            if (nvme_listener_ana_state(listener, group) != nvme_listener_ana_state(listener, 1))
                put_ana_call(writer, listener, subsystem, group);
    }
}

/* Listeners last: whoever connects then finds all. */
void methods_put_nvmf_config(struct plane *plane, struct json_writer *writer) {
    for (struct nvme_transport *transport = NULL; (transport = nvme_target_next_transport(plane->target, transport)) != NULL;)
        put_transport_call(writer, transport);
    for (struct nvme_subsystem *subsystem = NULL; (subsystem = nvme_target_next_subsystem(plane->target, subsystem)) != NULL;)
        if (!subsystem->discovery)
            put_subsystem_call(writer, subsystem);
    for (struct nvme_subsystem *subsystem = NULL; (subsystem = nvme_target_next_subsystem(plane->target, subsystem)) != NULL;)
        put_listener_calls(writer, subsystem);
}
