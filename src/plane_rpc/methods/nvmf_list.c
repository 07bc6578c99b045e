/* Methods of the NVMe-oF target that only look, and its configuration as calls. What changes it: nvmf.c. */
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/nvmf.h"
#include "plane_rpc/rpc_methods.h"

static void put_transport_limits(struct json_writer *writer, const struct nvme_transport *transport) {
    json_put_string(writer, "trtype", transport->ops->name);
    json_put_u64(writer, "max_queue_depth", transport->options.queue_depth);
    json_put_u64(writer, "max_io_qpairs_per_ctrlr", transport->options.io_queues);
    json_put_u64(writer, "in_capsule_data_size", transport->options.in_capsule_bytes);
    json_put_u64(writer, "max_io_size", transport->options.max_io_bytes);
    json_put_u64(writer, "max_aq_depth", transport->options.admin_queue_depth);
    json_put_bool(writer, "c2h_success", !transport->options.no_c2h_success);
    json_put_u64(writer, "min_kato", transport->options.min_kato_ms);
}

void method_nvmf_get_transports(struct rpc_call *call, const struct params_nvmf_get_transports *params) {
    struct nvme_target *target = plane_of(call)->target;
    struct error error;
    struct nvme_listen_address address;
    if (params->trtype != NULL && (!nvme_listen_address_parse(params->trtype, "", "127.0.0.1", "", &address, &error) ||
                                   nvme_target_find_transport(target, address.transport) == NULL)) {
        error_invalid(&error, "trtype", params->trtype, "a transport that was created");
        error.code = ERROR_NO_DEVICE;
        rpc_call_fail(call, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (struct nvme_transport *transport = NULL; (transport = nvme_target_next_transport(target, transport)) != NULL;) {
        if (params->trtype != NULL && transport->ops->type != address.transport)
            continue;
        json_begin_object(writer, NULL);
        put_transport_limits(writer, transport);
        json_put_bool(writer, "dif_insert_or_strip", false);
        json_put_bool(writer, "zcopy", false);
        json_put_bool(writer, "disable_command_passthru", false);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

static void put_address(struct json_writer *writer, const char *key, const struct nvme_listen_address *address) {
    json_begin_object(writer, key);
    json_put_string(writer, "trtype", "TCP");
    json_put_string(writer, "adrfam", nvme_address_family_name(address->family));
    json_put_string(writer, "traddr", address->address);
    json_putf(writer, "trsvcid", "%u", address->port);
    json_end(writer);
}

static void put_hex(struct json_writer *writer, const char *key, const uint8_t *bytes, size_t count) {
    static const char digits[] = "0123456789ABCDEF";
    char text[32];
    assert(2 * count <= sizeof(text));
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    json_put_bytes(writer, key, text, 2 * count);
}

/* What identifies a namespace: the same keys when it is shown and when it is made again. */
static void put_namespace_ids(struct json_writer *writer, const struct nvme_namespace *ns) {
    json_put_u64(writer, "nsid", ns->nsid);
    json_put_string(writer, "bdev_name", ns->device->name);
    put_hex(writer, "nguid", ns->nguid, sizeof(ns->nguid));
    if (get_le64(ns->eui64) != 0)
        put_hex(writer, "eui64", ns->eui64, sizeof(ns->eui64));
    json_put_uuid(writer, "uuid", &ns->uuid);
}

static void put_subsystem(struct json_writer *writer, const struct nvme_subsystem *subsystem) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "nqn", subsystem->nqn);
    json_put_string(writer, "subtype", subsystem->discovery ? "Discovery" : "NVMe");
    json_begin_array(writer, "listen_addresses");
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node)
        put_address(writer, NULL, &listener->address);
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
        json_put_u64(writer, "min_cntlid", subsystem->min_cntlid);
        json_put_u64(writer, "max_cntlid", subsystem->max_cntlid);
        json_begin_array(writer, "namespaces");
        list_for_each (&subsystem->namespaces, struct nvme_namespace, ns, node) {
            json_begin_object(writer, NULL);
            put_namespace_ids(writer, ns);
            json_put_string(writer, "name", ns->device->name);
            json_end(writer);
        }
        json_end(writer);
    }
    json_end(writer);
}

void method_nvmf_get_subsystems(struct rpc_call *call, const struct params_nvmf_get_subsystems *params) {
    struct nvme_target *target = plane_of(call)->target;
    struct nvme_subsystem *only = params->nqn != NULL ? nvmf_find(call, params->nqn) : NULL;
    if (params->nqn != NULL && only == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (struct nvme_subsystem *subsystem = NULL; (subsystem = nvme_target_next_subsystem(target, subsystem)) != NULL;)
        if (only == NULL || subsystem == only)
            put_subsystem(writer, subsystem);
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_listeners(struct rpc_call *call, const struct params_nvmf_subsystem_get_listeners *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    if (subsystem == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node) {
        json_begin_object(writer, NULL);
        put_address(writer, "address", &listener->address);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_controllers(struct rpc_call *call, const struct params_nvmf_subsystem_get_controllers *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
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
        json_put_string(writer, "cntrltype", facts.discovery ? "Discovery" : "I/O");
        json_put_string(writer, "hostnqn", facts.hostnqn);
        json_put_uuid(writer, "hostid", &facts.hostid);
        json_put_u64(writer, "num_io_qpairs", facts.io_queues);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_nvmf_subsystem_get_qpairs(struct rpc_call *call, const struct params_nvmf_subsystem_get_qpairs *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
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

static void put_stats(struct json_writer *writer, struct nvme_target *target, const struct nvme_reactor_stats *stats) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", stats->reactor);
    json_put_u64(writer, "admin_qpairs", stats->admin_queues);
    json_put_u64(writer, "io_qpairs", stats->io_queues);
    json_put_u64(writer, "current_admin_qpairs", stats->current_admin_queues);
    json_put_u64(writer, "current_io_qpairs", stats->current_io_queues);
    json_put_u64(writer, "current_unassociated_qpairs", stats->current_unassociated_queues);
    json_put_u64(writer, "pending_bdev_io", stats->pending_io);
    json_put_u64(writer, "completed_nvme_io", stats->completed_io);
    json_begin_array(writer, "transports");
    for (struct nvme_transport *transport = NULL; (transport = nvme_target_next_transport(target, transport)) != NULL;) {
        json_begin_object(writer, NULL);
        json_put_string(writer, "trtype", transport->ops->name);
        json_end(writer);
    }
    json_end(writer);
    json_end(writer);
}

void method_nvmf_get_stats(struct rpc_call *call, const struct params_nvmf_get_stats *params) {
    (void)params;
    struct plane *plane = plane_of(call);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "tick_rate", plane->host->ticks_per_second);
    json_begin_array(writer, "poll_groups");
    struct nvme_reactor_stats stats;
    for (unsigned i = 0; nvme_target_get_stats(plane->target, i, &stats); i++)
        put_stats(writer, plane->target, &stats);
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- configuration ---- */

static void put_subsystem_config(struct json_writer *writer, const struct nvme_subsystem *subsystem) {
    methods_config_begin(writer, "nvmf_create_subsystem");
    json_put_string(writer, "nqn", subsystem->nqn);
    json_put_string(writer, "serial_number", subsystem->serial);
    json_put_string(writer, "model_number", subsystem->model);
    json_put_u64(writer, "max_namespaces", subsystem->max_namespaces);
    json_put_bool(writer, "allow_any_host", subsystem->allow_any_host);
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
        put_namespace_ids(writer, ns);
        json_end(writer);
        methods_config_end(writer);
    }
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node) {
        methods_config_begin(writer, "nvmf_subsystem_add_listener");
        json_put_string(writer, "nqn", subsystem->nqn);
        put_address(writer, "listen_address", &listener->address);
        methods_config_end(writer);
    }
}

void methods_put_nvmf_config(struct plane *plane, struct json_writer *writer) {
    for (struct nvme_transport *transport = NULL; (transport = nvme_target_next_transport(plane->target, transport)) != NULL;) {
        methods_config_begin(writer, "nvmf_create_transport");
        put_transport_limits(writer, transport);
        methods_config_end(writer);
    }
    for (struct nvme_subsystem *subsystem = NULL; (subsystem = nvme_target_next_subsystem(plane->target, subsystem)) != NULL;)
        if (!subsystem->discovery)
            put_subsystem_config(writer, subsystem);
}
