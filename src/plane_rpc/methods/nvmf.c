/* Methods of the NVMe/TCP target that change it. Listings: nvmf_list.c. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "frontend/nvme_tcp/transport.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/nvmf.h"
#include "plane_rpc/rpc_methods.h"

struct nvme_subsystem *nvmf_subsystem(struct rpc_call *call, const char *nqn) {
    struct nvme_subsystem *subsystem = nvme_target_find_subsystem(plane_of(call)->target, nqn);
    if (subsystem != NULL)
        return subsystem;
    struct error error;
    char message[NVME_NQN_LENGTH_MAX + 64];
    error_invalid(&error, "nqn", nqn, "a subsystem of nvmf_get_subsystems");
    snprintf(message, sizeof(message), "Subsystem with NQN '%.*s' not found", NVME_NQN_LENGTH_MAX, nqn);
    rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
    return NULL;
}

/* A subsystem that may be changed: not the discovery one. */
static struct nvme_subsystem *changeable(struct rpc_call *call, const char *nqn) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, nqn);
    struct error error;
    if (subsystem == NULL || !subsystem->discovery)
        return subsystem;
    error_invalid(&error, "nqn", nqn, "a subsystem that is not the discovery one");
    rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
    return NULL;
}

static void answer(struct rpc_call *call, bool ok, int code, const struct error *error) {
    if (ok)
        rpc_call_result_true(call);
    else
        rpc_call_error(call, code, NULL, error);
}

/* Those who follow look again. */
static void tell(struct rpc_call *call, const char *nqn) { plane_notify(plane_of(call), "nvmf_subsystem", nqn); }

static void answer_changed(struct rpc_call *call, const char *nqn, bool ok, int code, const struct error *error) {
    if (ok)
        tell(call, nqn);
    answer(call, ok, code, error);
}

static void deleted(void *arg) {
    struct rpc_call *call = arg;
    tell(call, ((const struct params_nvmf_delete_subsystem *)call->params)->nqn);
    rpc_call_result_true(call);
}

static void namespace_removed(void *arg) {
    struct rpc_call *call = arg;
    tell(call, ((const struct params_nvmf_subsystem_remove_ns *)call->params)->nqn);
    rpc_call_result_true(call);
}

/* ---- transports ---- */

static bool is_tcp(const char *trtype) { return strcasecmp(trtype, "TCP") == 0; }

void method_nvmf_create_transport(struct rpc_call *call, const struct params_nvmf_create_transport *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    char message[96];
    if (!is_tcp(params->trtype)) {
        error_invalid(&error, "trtype", params->trtype, "TCP");
        snprintf(message, sizeof(message), "Invalid transport type '%.40s'", params->trtype);
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
        return;
    }
    if (nvme_target_find_transport(plane->target, NVME_TRANSPORT_TCP) != NULL) {
        error_set(&error, ERROR_EXISTS, "there is a TCP transport already");
        snprintf(message, sizeof(message), "Transport type '%.40s' already exists", params->trtype);
        rpc_call_error(call, JSONRPC_INTERNAL_ERROR, message, &error);
        return;
    }
    struct nvme_transport_options options = {.queue_depth = params->max_queue_depth,
                                             .admin_queue_depth = (uint16_t)params->max_aq_depth,
                                             .io_queues = params->max_io_qpairs_per_ctrlr,
                                             .max_io_bytes = params->max_io_size,
                                             .in_capsule_bytes = params->in_capsule_data_size,
                                             .in_capsule_given = params->has_in_capsule_data_size,
                                             .no_c2h_success = !params->c2h_success,
                                             .min_kato_ms = params->min_kato,
                                             .connections = params->max_connections};
    bool ok = nvme_tcp_transport_create(plane->target, plane->control, &options, &error);
    answer(call, ok, !ok && error.code == ERROR_INVALID ? JSONRPC_INVALID_PARAMS : JSONRPC_INTERNAL_ERROR, &error);
}

/* ---- subsystems ---- */

void method_nvmf_create_subsystem(struct rpc_call *call, const struct params_nvmf_create_subsystem *params) {
    struct nvme_subsystem *subsystem;
    struct error error;
    char message[NVME_NQN_LENGTH_MAX + 64];
    if (params->min_cntlid == 0 || params->min_cntlid > params->max_cntlid || params->max_cntlid > NVME_CNTLID_MAX) {
        char given[24];
        error_invalid(&error, "min_cntlid", methods_number(params->min_cntlid, given), "1 ≤ min_cntlid ≤ max_cntlid ≤ %u",
                      (unsigned)NVME_CNTLID_MAX);
        snprintf(message, sizeof(message), "Invalid cntlid range [%u-%u]", params->min_cntlid, params->max_cntlid);
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
        return;
    }
    struct nvme_subsystem_options options = {.nqn = params->nqn,
                                             .serial = params->serial_number,
                                             .model = params->model_number,
                                             .max_namespaces = params->max_namespaces,
                                             .allow_any_host = params->allow_any_host,
                                             .min_cntlid = params->min_cntlid,
                                             .max_cntlid = params->max_cntlid,
                                             .ana = params->ana_reporting};
    if (nvme_subsystem_create(plane_of(call)->target, &options, &subsystem, &error)) {
        tell(call, params->nqn);
        rpc_call_result_true(call);
        return;
    }
    snprintf(message, sizeof(message), "Unable to create subsystem %.*s", NVME_NQN_LENGTH_MAX, params->nqn);
    rpc_call_error(call, JSONRPC_INTERNAL_ERROR, message, &error);
}

void method_nvmf_delete_subsystem(struct rpc_call *call, const struct params_nvmf_delete_subsystem *params) {
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    if (subsystem != NULL)
        nvme_subsystem_delete(subsystem, deleted, call);
}

/* ---- listeners ---- */

static bool parse_address(const struct rpc_nvmf_listen_address *from, struct nvme_listen_address *ret, struct error *error) {
    const char *family = from->adrfam[0] == '\0' && strchr(from->traddr, ':') != NULL ? "IPv6" : from->adrfam;
    if (nvme_listen_address_parse(from->trtype, family, from->traddr, from->trsvcid, ret, error))
        return true;
    if (error->field[0] != '\0') { /* name it as the caller knows it */
        struct error inner = *error;
        error_invalid(error, "listen_address", inner.value, "%s", inner.expected);
        snprintf(error->field, sizeof(error->field), "listen_address.%.*s", (int)sizeof(error->field) - 16, inner.field);
    }
    return false;
}

static enum nvme_ana_state ana_state_of(enum rpc_nvmf_ana_state given) {
    return given == RPC_NVMF_ANA_STATE_OPTIMIZED       ? NVME_ANA_OPTIMIZED
           : given == RPC_NVMF_ANA_STATE_NON_OPTIMIZED ? NVME_ANA_NON_OPTIMIZED
                                                       : NVME_ANA_INACCESSIBLE_STATE;
}

void method_nvmf_subsystem_add_listener(struct rpc_call *call, const struct params_nvmf_subsystem_add_listener *params) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, params->nqn);
    struct nvme_listen_address address;
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok = parse_address(&params->listen_address, &address, &error) &&
              nvme_subsystem_add_listener(subsystem, &address, ana_state_of(params->ana_state), &error);
    if (!ok && error.code == ERROR_UNSUPPORTED)
        rpc_call_fail(call, &error);
    else
        answer_changed(call, params->nqn, ok, JSONRPC_INVALID_PARAMS, &error);
}

void method_nvmf_subsystem_remove_listener(struct rpc_call *call, const struct params_nvmf_subsystem_remove_listener *params) {
    struct nvme_subsystem *subsystem = nvmf_subsystem(call, params->nqn);
    struct nvme_listen_address address;
    struct error error;
    if (subsystem == NULL)
        return;
    bool ok =
        parse_address(&params->listen_address, &address, &error) && nvme_subsystem_remove_listener(subsystem, &address, &error);
    answer_changed(call, params->nqn, ok, JSONRPC_INVALID_PARAMS, &error);
}

static void ana_state_set(void *arg, const struct error *error) {
    if (error == NULL)
        rpc_call_result_true(arg);
    else
        rpc_call_fail(arg, error);
}

void method_nvmf_subsystem_listener_set_ana_state(struct rpc_call *call,
                                                  const struct params_nvmf_subsystem_listener_set_ana_state *params) {
    struct nvme_subsystem *subsystem = nvme_target_find_subsystem(plane_of(call)->target, params->nqn);
    struct nvme_listen_address address;
    struct error error;
    if (subsystem == NULL) {
        char message[NVME_NQN_LENGTH_MAX + 64]; /* clients look for these words */
        snprintf(message, sizeof(message), "Unable to find subsystem with NQN %.*s", NVME_NQN_LENGTH_MAX, params->nqn);
        error_invalid(&error, "nqn", params->nqn, "a subsystem of nvmf_get_subsystems");
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, message, &error);
        return;
    }
    if (!parse_address(&params->listen_address, &address, &error)) {
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
        return;
    }
    if (nvme_listener_set_ana_state(subsystem, &address, params->anagrpid, ana_state_of(params->ana_state), ana_state_set, call,
                                    &error))
        return;
    if (error.code == ERROR_UNSUPPORTED || error.code == ERROR_BUSY) {
        rpc_call_fail(call, &error);
        return;
    }
    if (error.code == ERROR_NOT_FOUND)
        error_invalid(&error, "listen_address", params->listen_address.traddr, "a listener of the subsystem");
    rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
}

/* ---- namespaces ---- */

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static bool parse_hex(const char *field, const char *text, uint8_t *to, size_t size, struct error *error) {
    bool good = strlen(text) == 2 * size;
    for (size_t i = 0; good && i < size; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        to[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
    }
    return good || error_invalid(error, field, text, "%zu hexadecimal digits", 2 * size);
}

void method_nvmf_subsystem_add_ns(struct rpc_call *call, const struct params_nvmf_subsystem_add_ns *params) {
    const struct rpc_nvmf_namespace *given = &params->namespace;
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    struct error error;
    uint8_t nguid[16], eui64[8];
    uint32_t nsid;
    if (subsystem == NULL || methods_wait_for_look(call, given->bdev_name))
        return;
    bool ok = (given->nguid[0] == '\0' || parse_hex("namespace.nguid", given->nguid, nguid, sizeof(nguid), &error)) &&
              (given->eui64[0] == '\0' || parse_hex("namespace.eui64", given->eui64, eui64, sizeof(eui64), &error));
    struct nvme_namespace_options options = {.nsid = given->nsid,
                                             .device = given->bdev_name,
                                             .uuid = uuid_is_nil(&given->uuid) ? NULL : &given->uuid,
                                             .nguid = given->nguid[0] != '\0' ? nguid : NULL,
                                             .eui64 = given->eui64[0] != '\0' ? eui64 : NULL,
                                             .anagrpid = given->anagrpid};
    if (ok && nvme_subsystem_add_namespace(subsystem, &options, &nsid, &error)) {
        tell(call, params->nqn);
        rpc_call_result_u64(call, nsid);
    } else {
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
    }
}

void method_nvmf_subsystem_remove_ns(struct rpc_call *call, const struct params_nvmf_subsystem_remove_ns *params) {
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    struct error error;
    if (subsystem != NULL && !nvme_subsystem_remove_namespace(subsystem, params->nsid, namespace_removed, call, &error))
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
}

/* ---- hosts ---- */

void method_nvmf_subsystem_add_host(struct rpc_call *call, const struct params_nvmf_subsystem_add_host *params) {
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    struct error error;
    if (subsystem != NULL)
        answer_changed(call, params->nqn, nvme_subsystem_add_host(subsystem, params->host, &error), JSONRPC_INTERNAL_ERROR,
                       &error);
}

void method_nvmf_subsystem_remove_host(struct rpc_call *call, const struct params_nvmf_subsystem_remove_host *params) {
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    struct error error;
    if (subsystem != NULL)
        answer_changed(call, params->nqn, nvme_subsystem_remove_host(subsystem, params->host, &error), JSONRPC_INTERNAL_ERROR,
                       &error);
}

void method_nvmf_subsystem_allow_any_host(struct rpc_call *call, const struct params_nvmf_subsystem_allow_any_host *params) {
    struct nvme_subsystem *subsystem = changeable(call, params->nqn);
    if (subsystem == NULL)
        return;
    nvme_subsystem_allow_any_host(subsystem, params->allow_any_host);
    tell(call, params->nqn);
    rpc_call_result_true(call);
}

/* ---- options before service: nothing of it has a counterpart that could differ ---- */

void method_nvmf_set_config(struct rpc_call *call, const struct params_nvmf_set_config *params) {
    (void)params;
    rpc_call_result_true(call);
}
void method_nvmf_set_max_subsystems(struct rpc_call *call, const struct params_nvmf_set_max_subsystems *params) {
    (void)params;
    rpc_call_result_true(call);
}
void method_nvmf_set_crdt(struct rpc_call *call, const struct params_nvmf_set_crdt *params) {
    (void)params;
    rpc_call_result_true(call);
}
