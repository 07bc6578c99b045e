/* Methods of the NVMe-oF target that change it. What only looks: nvmf_list.c. */
#include <stdio.h>

#include "frontend/nvme_tcp/transport.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/nvmf.h"
#include "plane_rpc/rpc_methods.h"

struct nvme_subsystem *nvmf_find(struct rpc_call *call, const char *nqn) {
    struct nvme_subsystem *subsystem = nvme_target_find_subsystem(plane_of(call)->target, nqn);
    if (subsystem != NULL)
        return subsystem;
    struct error error;
    char message[NVME_NQN_LENGTH_MAX + 64];
    error_invalid(&error, "nqn", nqn, "a subsystem of nvmf_get_subsystems");
    error.code = ERROR_NOT_FOUND;
    /* callers look for "unable to find subsystem", in any case */
    snprintf(message, sizeof(message), "Unable to find subsystem with NQN %s", nqn);
    rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
    return NULL;
}

static void answer_true(void *arg) { rpc_call_result_true(arg); }

/* What the caller gave is wrong, or cannot be: the dialect has one answer, error.data says more. */
static void answer(struct rpc_call *call, bool ok, const struct error *error) {
    if (ok)
        rpc_call_result_true(call);
    else
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, error);
}

/* ---- transports ---- */

void method_nvmf_create_transport(struct rpc_call *call, const struct params_nvmf_create_transport *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    struct nvme_listen_address address;
    if (!nvme_listen_address_parse(params->trtype, "", "127.0.0.1", "", &address, &error)) {
        answer(call, false, &error);
        return;
    }
    if (nvme_target_find_transport(plane->target, address.transport) != NULL) {
        error_set(&error, ERROR_EXISTS, "the transport exists");
        rpc_call_error(call, JSONRPC_INTERNAL_ERROR, "Transport type 'TCP' already exists", &error);
        return;
    }
    struct nvme_transport_options options = {.queue_depth = params->max_queue_depth,
                                             .admin_queue_depth = (uint16_t)params->max_aq_depth,
                                             .io_queues = params->max_io_qpairs_per_ctrlr,
                                             .max_io_bytes = params->max_io_size,
                                             .in_capsule_bytes = params->in_capsule_data_size,
                                             .in_capsule_given = params->has_in_capsule_data_size,
                                             .no_c2h_success = !params->c2h_success,
                                             .min_kato_ms = params->min_kato};
    bool ok = nvme_tcp_transport_create(plane->target, plane->control, &options, &error);
    answer(call, ok, &error);
}

/* ---- subsystems ---- */

void method_nvmf_create_subsystem(struct rpc_call *call, const struct params_nvmf_create_subsystem *params) {
    struct error error;
    struct nvme_subsystem *subsystem;
    char message[NVME_NQN_LENGTH_MAX + 64], range[32];
    if (params->min_cntlid == 0 || params->min_cntlid > params->max_cntlid || params->max_cntlid > NVME_CNTLID_MAX) {
        snprintf(range, sizeof(range), "%u-%u", params->min_cntlid, params->max_cntlid);
        snprintf(message, sizeof(message), "Invalid cntlid range [%s]", range);
        error_invalid(&error, "min_cntlid", range, "a range inside 1-%u", NVME_CNTLID_MAX);
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
        return;
    }
    struct nvme_subsystem_options options = {.nqn = params->nqn,
                                             .serial = params->serial_number,
                                             .model = params->model_number,
                                             .max_namespaces = params->max_namespaces,
                                             .allow_any_host = params->allow_any_host,
                                             .min_cntlid = params->min_cntlid,
                                             .max_cntlid = params->max_cntlid};
    if (nvme_subsystem_create(plane_of(call)->target, &options, &subsystem, &error)) {
        rpc_call_result_true(call);
        return;
    }
    snprintf(message, sizeof(message), "Unable to create subsystem %s", params->nqn);
    rpc_call_error(call, JSONRPC_INTERNAL_ERROR, message, &error);
}

void method_nvmf_delete_subsystem(struct rpc_call *call, const struct params_nvmf_delete_subsystem *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct error error;
    if (subsystem == NULL)
        return;
    if (!subsystem->discovery) {
        nvme_subsystem_delete(subsystem, answer_true, call);
        return;
    }
    error_invalid(&error, "nqn", params->nqn, "a subsystem that is not the discovery one");
    answer(call, false, &error);
}

/* ---- listeners ---- */

static bool parse_address(const struct rpc_nvmf_listen_address *given, struct nvme_listen_address *ret_address,
                          struct error *error) {
    return nvme_listen_address_parse(given->trtype, given->adrfam != NULL ? given->adrfam : "", given->traddr,
                                     given->trsvcid != NULL ? given->trsvcid : "", ret_address, error);
}

void method_nvmf_subsystem_add_listener(struct rpc_call *call, const struct params_nvmf_subsystem_add_listener *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct nvme_listen_address address;
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok =
        parse_address(&params->listen_address, &address, &error) && nvme_subsystem_add_listener(subsystem, &address, &error);
    answer(call, ok, &error);
}

void method_nvmf_subsystem_remove_listener(struct rpc_call *call, const struct params_nvmf_subsystem_remove_listener *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct nvme_listen_address address;
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok =
        parse_address(&params->listen_address, &address, &error) && nvme_subsystem_remove_listener(subsystem, &address, &error);
    answer(call, ok, &error);
}

/* ---- namespaces ---- */

/* Exactly 2 × `bytes` hexadecimal digits; dashes between them are skipped, as in a UUID. */
static bool parse_hex(const char *field, const char *text, uint8_t *to, size_t bytes, struct error *error) {
    size_t digits = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '-')
            continue;
        int digit = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10 : -1;
        if (digit < 0 || digits == 2 * bytes)
            return error_invalid(error, field, text, "%zu hexadecimal digits", 2 * bytes);
        to[digits / 2] = (uint8_t)(digits % 2 == 0 ? digit << 4 : to[digits / 2] | digit);
        digits++;
    }
    return digits == 2 * bytes || error_invalid(error, field, text, "%zu hexadecimal digits", 2 * bytes);
}

void method_nvmf_subsystem_add_ns(struct rpc_call *call, const struct params_nvmf_subsystem_add_ns *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    const struct rpc_nvmf_namespace *given = &params->namespace;
    struct error error;
    uint8_t nguid[16], eui64[8];
    uint32_t nsid;
    if (subsystem == NULL)
        return;
    struct nvme_namespace_options options = {.nsid = given->nsid,
                                             .device = given->bdev_name,
                                             .uuid = uuid_is_nil(&given->uuid) ? NULL : &given->uuid,
                                             .nguid = given->nguid != NULL ? nguid : NULL,
                                             .eui64 = given->eui64 != NULL ? eui64 : NULL};
    if ((given->nguid == NULL || parse_hex("namespace.nguid", given->nguid, nguid, sizeof(nguid), &error)) &&
        (given->eui64 == NULL || parse_hex("namespace.eui64", given->eui64, eui64, sizeof(eui64), &error)) &&
        nvme_subsystem_add_namespace(subsystem, &options, &nsid, &error))
        rpc_call_result_u64(call, nsid);
    else
        answer(call, false, &error);
}

void method_nvmf_subsystem_remove_ns(struct rpc_call *call, const struct params_nvmf_subsystem_remove_ns *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct error error;
    if (subsystem != NULL && !nvme_subsystem_remove_namespace(subsystem, params->nsid, answer_true, call, &error))
        answer(call, false, &error);
}

/* ---- hosts ---- */

void method_nvmf_subsystem_add_host(struct rpc_call *call, const struct params_nvmf_subsystem_add_host *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok = nvme_subsystem_add_host(subsystem, params->host, &error);
    if (!ok && error.code == ERROR_EXISTS)
        rpc_call_error(call, JSONRPC_INTERNAL_ERROR, NULL, &error);
    else
        answer(call, ok, &error);
}

void method_nvmf_subsystem_remove_host(struct rpc_call *call, const struct params_nvmf_subsystem_remove_host *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok = nvme_subsystem_remove_host(subsystem, params->host, &error);
    answer(call, ok, &error);
}

void method_nvmf_subsystem_allow_any_host(struct rpc_call *call, const struct params_nvmf_subsystem_allow_any_host *params) {
    struct nvme_subsystem *subsystem = nvmf_find(call, params->nqn);
    if (subsystem == NULL)
        return;
    nvme_subsystem_allow_any_host(subsystem, params->allow_any_host);
    rpc_call_result_true(call);
}
