/* Methods of the NVMe/TCP initiator. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "frontend/nvme/target.h"
#include "plane_rpc/examine.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/nvme.h"
#include "plane_rpc/rpc_methods.h"

#define PATIENCE_NS NS_PER_S /* that a start waits for a controller which is not there */

/* ---- addresses ---- */

static bool parse_address(const char *trtype, const char *adrfam, const char *traddr, const char *trsvcid,
                          struct host_address *ret_address, struct error *error) {
    struct nvme_listen_address address;
    const char *family = adrfam[0] == '\0' && strchr(traddr, ':') != NULL ? "IPv6" : adrfam;
    if (!nvme_listen_address_parse(trtype, family, traddr, trsvcid, &address, error))
        return false;
    *ret_address =
        (struct host_address){.family = address.family == NVME_FAMILY_IPV6 ? HOST_IPV6 : HOST_IPV4, .port = address.port};
    snprintf(ret_address->text, sizeof(ret_address->text), "%s", address.address);
    return true;
}

/* ---- attach: connect, then look for stores on each device, then answer with the devices' names ---- */

struct attachment {
    struct nvme_initiator_attach attach;
    struct plane_examine examine;
    struct rpc_call *call;
    struct error error;
    char **names;
    size_t count, examined;
};

static void attachment_free(struct attachment *attachment) {
    for (size_t i = 0; i < attachment->count; i++)
        free(attachment->names[i]);
    free(attachment->names);
    free(attachment);
}

/* Those who follow look again. */
static void tell(struct rpc_call *call, const char *name) { plane_notify(plane_of(call), "bdev_nvme_controller", name); }

static void answer_names(struct attachment *attachment) {
    struct rpc_call *call = attachment->call;
    tell(call, ((const struct params_bdev_nvme_attach_controller *)call->params)->name);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (size_t i = 0; i < attachment->count; i++)
        json_put_string(writer, NULL, attachment->names[i]);
    json_end(writer);
    attachment_free(attachment);
    rpc_call_end(call);
}

static void examine_next(struct attachment *attachment);

static void examined(struct plane_examine *examine) { examine_next(container_of(examine, struct attachment, examine)); }

static void examine_next(struct attachment *attachment) {
    struct plane *plane = plane_of(attachment->call);
    while (attachment->examined < attachment->count) {
        struct block_device *device = block_graph_find(&plane->graph, attachment->names[attachment->examined++]);
        if (device == NULL) /* gone again */
            continue;
        attachment->examine.done = examined;
        plane_examine_automatically(plane, device, &attachment->examine);
        return;
    }
    answer_names(attachment);
}

static bool collect_names(struct attachment *attachment, struct nvme_initiator_controller *controller) {
    for (struct block_device *device = NULL; (device = nvme_initiator_device_next(controller, device)) != NULL;) {
        char **grown = realloc(attachment->names, (attachment->count + 1) * sizeof(*grown));
        char *name = strdup(device->name);
        if (grown != NULL)
            attachment->names = grown;
        if (grown == NULL || name == NULL) {
            free(name);
            return false;
        }
        attachment->names[attachment->count++] = name;
    }
    return true;
}

static void answer_attach_error(struct rpc_call *call, const char *name, bool multipath, const struct error *error) {
    char message[NVME_INITIATOR_NAME_MAX + 80];
    if (error->code != ERROR_ALREADY) {
        rpc_call_fail(call, error);
        return;
    }
    snprintf(message, sizeof(message), "A controller named %.*s already exists %s", NVME_INITIATOR_NAME_MAX, name,
             multipath ? "with the specified network path" : "and multipath is disabled");
    rpc_call_error(call, error_facts(ERROR_ALREADY)->negative_errno, message, error);
}

static void attached(struct nvme_initiator_attach *attach) {
    struct attachment *attachment = container_of(attach, struct attachment, attach);
    if (attach->ok && attach->patience_ns != 0 && nvme_initiator_device_next(attach->controller, NULL) == NULL)
        log_warning(&plane_of(attachment->call)->log, LOG_AREA_NVME, "controller %s is not there: it is looked for",
                    attach->name);
    if (attach->ok && collect_names(attachment, attach->controller)) {
        examine_next(attachment);
        return;
    }
    if (attach->ok)
        error_set(&attach->error, ERROR_NO_MEMORY, "no memory for the names of the devices");
    answer_attach_error(attachment->call, attach->name, false, &attach->error);
    attachment_free(attachment);
}

/* A controller of this name is there: what a second attach means. */
static void answer_taken(struct rpc_call *call, const struct params_bdev_nvme_attach_controller *params,
                         const struct host_address *address, struct nvme_initiator_controller *controller) {
    struct nvme_initiator_controller_info info;
    struct error error;
    bool multipath = params->multipath != RPC_NVME_MULTIPATH_DISABLE;
    nvme_initiator_controller_info(controller, &info);
    if (strcmp(info.subnqn, params->subnqn) != 0) {
        error_invalid(&error, "subnqn", params->subnqn, "%s, the controller's", info.subnqn);
        rpc_call_fail(call, &error);
        return;
    }
    if (multipath && (info.address.port != address->port || strcmp(info.address.text, address->text) != 0)) {
        error_invalid(&error, "multipath", params->multipath == RPC_NVME_MULTIPATH_FAILOVER ? "failover" : "multipath",
                      "one path: a second one is not supported");
        error.code = ERROR_UNSUPPORTED;
        rpc_call_fail(call, &error);
        return;
    }
    error_set(&error, ERROR_ALREADY, "controller %s is attached to %s", info.name, info.subnqn);
    answer_attach_error(call, params->name, multipath, &error);
}

static void set_loss(const struct params_bdev_nvme_attach_controller *params, struct nvme_initiator_attach *attach,
                     const struct nvme_initiator_loss *defaults) {
    attach->loss = *defaults;
    attach->loss_set =
        params->has_ctrlr_loss_timeout_sec || params->has_reconnect_delay_sec || params->has_fast_io_fail_timeout_sec;
    if (params->has_ctrlr_loss_timeout_sec)
        attach->loss.ctrlr_loss_timeout_ms =
            params->ctrlr_loss_timeout_sec < 0 ? -1 : params->ctrlr_loss_timeout_sec * INT64_C(1000);
    if (params->has_reconnect_delay_sec)
        attach->loss.reconnect_delay_ms = params->reconnect_delay_sec * 1000;
    if (params->has_fast_io_fail_timeout_sec)
        attach->loss.fast_io_fail_timeout_ms = params->fast_io_fail_timeout_sec * 1000;
}

void method_bdev_nvme_attach_controller(struct rpc_call *call, const struct params_bdev_nvme_attach_controller *params) {
    struct plane *plane = plane_of(call);
    struct host_address address, from = {.text = ""};
    struct error error;
    bool ok =
        parse_address(params->trtype, params->adrfam, params->traddr, params->trsvcid, &address, &error) &&
        (params->hostaddr[0] == '\0' || parse_address(params->trtype, "", params->hostaddr,
                                                      params->hostsvcid[0] == '\0' ? "1" : params->hostsvcid, &from, &error));
    if (!ok) {
        rpc_call_fail(call, &error);
        return;
    }
    if (params->hostsvcid[0] == '\0')
        from.port = 0;
    struct nvme_initiator_controller *controller = nvme_initiator_find(plane->initiator, params->name);
    if (controller != NULL) {
        answer_taken(call, params, &address, controller);
        return;
    }
    struct attachment *attachment = calloc(1, sizeof(*attachment));
    if (attachment == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the controller");
        rpc_call_fail(call, &error);
        return;
    }
    attachment->call = call;
    attachment->attach = (struct nvme_initiator_attach){.name = params->name,
                                                        .address = address,
                                                        .from = from,
                                                        .subnqn = params->subnqn,
                                                        .hostnqn = params->hostnqn,
                                                        .header_digest = params->hdgst,
                                                        .data_digest = params->ddgst,
                                                        .sq_flow_control = !params->disable_sq_flow_control,
                                                        .io_queues = params->num_io_queues,
                                                        .devices_max = params->max_bdevs,
                                                        .connect_timeout_us = params->fabrics_connect_timeout_us,
                                                        .done = attached};
    set_loss(params, &attachment->attach, &nvme_initiator_options(plane->initiator)->loss);
    /* A node must come up from its file while others are away. Who never gives a controller up does not give it up at the start.
     */
    const struct nvme_initiator_loss *loss = &attachment->attach.loss;
    if (call->connection != NULL && call->connection->is_file && loss->ctrlr_loss_timeout_ms == -1 &&
        loss->reconnect_delay_ms != 0)
        attachment->attach.patience_ns = PATIENCE_NS;
    nvme_initiator_attach(plane->initiator, &attachment->attach);
}

/* ---- detach, reset ---- */

static void detached(void *arg) {
    struct rpc_call *call = arg;
    tell(call, ((const struct params_bdev_nvme_detach_controller *)call->params)->name);
    rpc_call_result_true(call);
}

void method_bdev_nvme_detach_controller(struct rpc_call *call, const struct params_bdev_nvme_detach_controller *params) {
    struct error error;
    uint64_t port = 0;
    if (params->trsvcid[0] != '\0' && !text_parse_u64(params->trsvcid, UINT16_MAX, &port)) {
        error_invalid(&error, "trsvcid", params->trsvcid, "a port");
        rpc_call_fail(call, &error);
        return;
    }
    struct nvme_initiator_path path = {
        .address = params->traddr, .subnqn = params->subnqn, .from = params->hostaddr, .port = (uint16_t)port};
    if (nvme_initiator_detach(plane_of(call)->initiator, params->name, &path, detached, call, &error))
        return;
    if (error.code == ERROR_NOT_FOUND) /* the dialect's for a path that matches nothing: -ENXIO */
        rpc_call_error(call, -6, "No such device or address", &error);
    else
        rpc_call_fail(call, &error);
}

static void reset_done(bool ok, void *arg) {
    struct error error;
    if (ok) {
        rpc_call_result_true(arg);
        return;
    }
    error_set(&error, ERROR_IO, "the controller could not be connected again");
    rpc_call_fail(arg, &error);
}

void method_bdev_nvme_reset_controller(struct rpc_call *call, const struct params_bdev_nvme_reset_controller *params) {
    struct error error;
    if (!nvme_initiator_reset(plane_of(call)->initiator, params->name, reset_done, call, &error))
        rpc_call_fail(call, &error);
}

/* ---- options ---- */

void method_bdev_nvme_set_options(struct rpc_call *call, const struct params_bdev_nvme_set_options *params) {
    static_assert((int)RPC_NVME_TIMEOUT_ACTION_ABORT == NVME_INITIATOR_TIMEOUT_ABORT &&
                      (int)RPC_NVME_TIMEOUT_ACTION_NONE == NVME_INITIATOR_TIMEOUT_NONE,
                  "one order");
    struct plane *plane = plane_of(call);
    struct nvme_initiator_options options = *nvme_initiator_options(plane->initiator);
    struct error error;
    if (params->has_action_on_timeout)
        options.timeout_action = (enum nvme_initiator_timeout_action)params->action_on_timeout;
    if (params->has_timeout_us)
        options.timeout_us = params->timeout_us;
    if (params->has_timeout_admin_us)
        options.timeout_admin_us = params->timeout_admin_us;
    if (params->has_keep_alive_timeout_ms)
        options.keep_alive_timeout_ms = params->keep_alive_timeout_ms;
    if (params->io_queue_requests != 0)
        options.io_queue_entries = params->io_queue_requests;
    if (params->has_bdev_retry_count)
        options.retry_count = params->bdev_retry_count;
    if (params->has_tcp_connect_timeout_ms)
        options.connect_timeout_ms = params->tcp_connect_timeout_ms;
    if (params->has_ctrlr_loss_timeout_sec)
        options.loss.ctrlr_loss_timeout_ms =
            params->ctrlr_loss_timeout_sec < 0 ? -1 : params->ctrlr_loss_timeout_sec * INT64_C(1000);
    if (params->has_reconnect_delay_sec)
        options.loss.reconnect_delay_ms = params->reconnect_delay_sec * 1000;
    if (params->has_fast_io_fail_timeout_sec)
        options.loss.fast_io_fail_timeout_ms = params->fast_io_fail_timeout_sec * 1000;
    if (nvme_initiator_set_options(plane->initiator, &options, &error))
        rpc_call_result_true(call);
    else if (error.code == ERROR_PERMISSION)
        rpc_call_error(call, error_facts(ERROR_PERMISSION)->negative_errno,
                       "RPC not permitted with nvme controllers already attached", &error);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_nvme_set_hotplug(struct rpc_call *call, const struct params_bdev_nvme_set_hotplug *params) {
    (void)params;
    rpc_call_result_true(call);
}

/* ---- listing ---- */

static void put_trid(struct json_writer *writer, const struct nvme_initiator_controller_info *info) {
    json_begin_object(writer, "trid");
    methods_put_address(writer, info->address.family == HOST_IPV6, info->address.text, info->address.port);
    json_put_string(writer, "subnqn", info->subnqn);
    json_end(writer);
}

static void put_controller(struct json_writer *writer, const struct nvme_initiator_controller *controller) {
    struct nvme_initiator_controller_info info;
    nvme_initiator_controller_info(controller, &info);
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", info.name);
    json_begin_array(writer, "ctrlrs");
    json_begin_object(writer, NULL);
    json_put_string(writer, "state", nvme_initiator_state_name(info.state));
    put_trid(writer, &info);
    json_put_u64(writer, "cntlid", info.cntlid);
    json_begin_object(writer, "host");
    json_put_string(writer, "nqn", info.hostnqn);
    json_put_string(writer, "addr", info.from.text);
    if (info.from.port != 0)
        json_putf(writer, "svcid", "%u", info.from.port);
    else
        json_put_string(writer, "svcid", "");
    json_end(writer);
    json_put_u64(writer, "num_bdevs", info.devices);
    json_put_u64(writer, "num_io_queues", info.io_queues);
    json_put_u64(writer, "reconnects", info.reconnects);
    json_put_string(writer, "last_loss", info.last_loss);
    json_end(writer);
    json_end(writer);
    json_end(writer);
}

void method_bdev_nvme_get_controllers(struct rpc_call *call, const struct params_bdev_nvme_get_controllers *params) {
    struct nvme_initiator *initiator = plane_of(call)->initiator;
    struct nvme_initiator_controller *only = params->name == NULL ? NULL : nvme_initiator_find(initiator, params->name);
    if (params->name != NULL && only == NULL) {
        char message[NVME_INITIATOR_NAME_MAX + 40];
        struct error error;
        error_invalid(&error, "name", params->name, "a controller of bdev_nvme_get_controllers");
        snprintf(message, sizeof(message), "Controller %.*s does not exist", NVME_INITIATOR_NAME_MAX, params->name);
        rpc_call_error(call, error_facts(ERROR_INVALID)->negative_errno, message, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    if (only != NULL)
        put_controller(writer, only);
    for (struct nvme_initiator_controller *controller = NULL;
         only == NULL && (controller = nvme_initiator_next(initiator, controller)) != NULL;)
        put_controller(writer, controller);
    json_end(writer);
    rpc_call_end(call);
}

void nvme_put_driver_specific(struct json_writer *writer, const struct block_device *device) {
    struct nvme_initiator_controller_info info;
    nvme_initiator_controller_info(nvme_initiator_device_controller(device), &info);
    json_begin_array(writer, "nvme");
    json_begin_object(writer, NULL);
    put_trid(writer, &info);
    json_begin_object(writer, "ctrlr_data");
    json_put_u64(writer, "cntlid", info.cntlid);
    json_putf(writer, "vendor_id", "0x%04x", info.vendor_id);
    json_put_string(writer, "model_number", info.model);
    json_put_string(writer, "serial_number", info.serial);
    json_put_string(writer, "firmware_revision", info.firmware);
    json_put_string(writer, "subnqn", info.subnqn);
    json_begin_object(writer, "oacs");
    json_put_u64(writer, "security", info.oacs & 1);
    json_put_u64(writer, "format", info.oacs >> 1 & 1);
    json_put_u64(writer, "firmware", info.oacs >> 2 & 1);
    json_put_u64(writer, "ns_manage", info.oacs >> 3 & 1);
    json_end(writer);
    json_put_bool(writer, "multi_ctrlr", (info.cmic & 2) != 0);
    json_put_bool(writer, "ana_reporting", (info.cmic & 8) != 0);
    json_end(writer);
    json_begin_object(writer, "vs");
    json_putf(writer, "nvme_version", "%u.%u", info.version >> 16, info.version >> 8 & 0xff);
    json_end(writer);
    json_begin_object(writer, "ns_data");
    json_put_u64(writer, "id", nvme_initiator_device_nsid(device));
    if (nvme_initiator_device_ana_state(device) != NULL)
        json_put_string(writer, "ana_state", nvme_initiator_device_ana_state(device));
    json_put_bool(writer, "can_share", nvme_initiator_device_can_share(device));
    json_end(writer);
    json_end(writer);
    json_end(writer);
    json_put_string(writer, "mp_policy", "active_passive");
}

/* ---- configuration ---- */

static const char *const timeout_action_names[] = {"none", "reset", "abort"};

/* The dialect counts losses in seconds; ours came in as such. */
static void put_loss(struct json_writer *writer, const struct nvme_initiator_loss *loss) {
    json_put_i64(writer, "ctrlr_loss_timeout_sec", loss->ctrlr_loss_timeout_ms < 0 ? -1 : loss->ctrlr_loss_timeout_ms / 1000);
    json_put_u64(writer, "reconnect_delay_sec", loss->reconnect_delay_ms / 1000);
    json_put_u64(writer, "fast_io_fail_timeout_sec", loss->fast_io_fail_timeout_ms / 1000);
}

static void put_options(struct json_writer *writer, const struct nvme_initiator_options *options) {
    methods_config_begin(writer, "bdev_nvme_set_options");
    json_put_string(writer, "action_on_timeout", timeout_action_names[options->timeout_action]);
    json_put_u64(writer, "timeout_us", options->timeout_us);
    json_put_u64(writer, "timeout_admin_us", options->timeout_admin_us);
    json_put_u64(writer, "keep_alive_timeout_ms", options->keep_alive_timeout_ms);
    json_put_u64(writer, "io_queue_requests", options->io_queue_entries);
    json_put_i64(writer, "bdev_retry_count", options->retry_count);
    json_put_u64(writer, "tcp_connect_timeout_ms", options->connect_timeout_ms);
    put_loss(writer, &options->loss);
    methods_config_end(writer);
}

void methods_put_nvme_config(struct plane *plane, struct json_writer *writer) {
    put_options(writer, nvme_initiator_options(plane->initiator));
    for (struct nvme_initiator_controller *controller = NULL;
         (controller = nvme_initiator_next(plane->initiator, controller)) != NULL;) {
        struct nvme_initiator_controller_info info;
        nvme_initiator_controller_info(controller, &info);
        methods_config_begin(writer, "bdev_nvme_attach_controller");
        json_put_string(writer, "name", info.name);
        methods_put_address(writer, info.address.family == HOST_IPV6, info.address.text, info.address.port);
        json_put_string(writer, "subnqn", info.subnqn);
        json_put_string(writer, "hostnqn", info.hostnqn);
        json_put_bool(writer, "hdgst", info.header_digest_wanted);
        json_put_bool(writer, "ddgst", info.data_digest_wanted);
        if (info.from.text[0] != '\0')
            json_put_string(writer, "hostaddr", info.from.text);
        json_put_u64(writer, "num_io_queues", info.io_queues_max);
        put_loss(writer, &info.loss);
        methods_config_end(writer);
    }
}
