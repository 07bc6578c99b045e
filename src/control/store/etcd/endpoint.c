/* Which endpoint is used: one after the other is asked who it is, until one is of our cluster, knows a leader, and gives a token.
 */
#include <stdio.h>
#include <stdlib.h>

#include "control/store/etcd/internal.h"

static void probe_status(struct etcd_store *etcd);

static struct etcd_store *of(struct etcd_call *call) { return call->etcd; }

void etcd_token_unref(struct etcd_token *token) {
    if (token == NULL || --token->references > 0)
        return;
    explicit_bzero(token->text, strlen(token->text));
    free(token);
}

static void name_endpoint(const struct etcd_endpoint *endpoint, char *to, size_t size) {
    const struct host_address *address = &endpoint->address;
    snprintf(to, size,
             address->family == HOST_IPV6   ? "[%s]:%u"
             : address->family == HOST_UNIX ? "%s"
                                            : "%s:%u",
             address->text, address->port);
}

/* The current endpoint is not to be had: the next one, after a pause if all were tried. */
static void probe_failed(struct etcd_store *etcd, enum error_code code, const char *why) {
    struct error error;
    char name[128];
    name_endpoint(&etcd->endpoints[etcd->current], name, sizeof(name));
    error_set(&error, code, "etcd %.100s: %.140s", name, why);
    etcd->probe = ETCD_PROBE_NONE;
    etcd->endpoints[etcd->current].verified = 0;
    etcd->current = (etcd->current + 1) % etcd->endpoint_count;
    uint64_t pause_ms = 0;
    if (++etcd->failed_in_row >= etcd->endpoint_count) {
        /* Not before all were tried: one of three that is away is nothing to talk about. */
        store_set_state(&etcd->store, STORE_UNREACHABLE, &error);
        etcd->failed_in_row = 0;
        pause_ms = etcd->pause_ms;
        etcd->pause_ms = min_u64(2 * etcd->pause_ms, ETCD_ROUND_MAX_MS);
    }
    if (!etcd->closing)
        reactor_timer_start(etcd->store.reactor, &etcd->timer, reactor_now_ns(etcd->store.reactor) + pause_ms * NS_PER_MS);
}

static void probe_succeeded(struct etcd_store *etcd) {
    struct etcd_endpoint *endpoint = &etcd->endpoints[etcd->current];
    char name[128];
    etcd->probe = ETCD_PROBE_USABLE;
    etcd->failed_in_row = 0;
    etcd->pause_ms = ETCD_ROUND_MIN_MS;
    name_endpoint(endpoint, name, sizeof(name));
    snprintf(etcd->store.status.where, sizeof(etcd->store.status.where), "etcd %s", name);
    etcd->store.status.identity = etcd->cluster_id;
    store_set_state(&etcd->store, STORE_READY, NULL);
    store_look_soon(&etcd->store);
    etcd_resume_soon(etcd);
}

/* ---- the token ---- */

static void on_token(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__AuthenticateResponse *answer = (const void *)got;
    struct etcd_store *etcd = of(call);
    size_t length = strlen(answer->token);
    struct etcd_token *token = length > 0 ? malloc(sizeof(*token) + length + 1) : NULL;
    if (token == NULL)
        return;
    token->references = 1;
    memcpy(token->text, answer->token, length + 1);
    etcd_token_unref(etcd->token);
    etcd->token = token;
}

static void on_token_done(struct etcd_call *call) {
    struct etcd_store *etcd = of(call);
    if (call->call.call.status == GRPC_OK && etcd->token != NULL)
        probe_succeeded(etcd);
    else
        probe_failed(etcd, call->call.call.status == GRPC_INVALID_ARGUMENT ? ERROR_PERMISSION : ERROR_IO, call->call.call.text);
}

static void probe_token(struct etcd_store *etcd) {
    Etcdserverpb__AuthenticateRequest request = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
    request.name = etcd->user;
    request.password = etcd->password;
    etcd->probe = ETCD_PROBE_TOKEN;
    etcd->probe_call.message = on_token;
    etcd->probe_call.done = on_token_done;
    etcd_call_start_at(&etcd->probe_call, etcd, etcd->current, "/etcdserverpb.Auth/Authenticate",
                       &etcdserverpb__authenticate_response__descriptor, &request.base, ETCD_PROBE_MS);
}

/* ---- who it is ---- */

static void on_status(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__StatusResponse *answer = (const void *)got;
    struct etcd_store *etcd = of(call);
    if (answer->leader == 0) {
        call->got = false;
        return;
    }
    if (etcd->cluster_id == 0)
        etcd->cluster_id = answer->header->cluster_id;
    etcd->endpoints[call->endpoint].verified = grpc_channel_connections(etcd->endpoints[call->endpoint].channel);
}

static void on_status_done(struct etcd_call *call) {
    struct etcd_store *etcd = of(call);
    if (call->foreign)
        probe_failed(etcd, ERROR_FOREIGN, "is of another cluster");
    else if (call->call.call.status != GRPC_OK)
        probe_failed(etcd, ERROR_IO, call->call.call.text);
    else if (!call->got)
        probe_failed(etcd, ERROR_IO, "knows no leader");
    else if (etcd->user != NULL && etcd->token == NULL)
        probe_token(etcd);
    else
        probe_succeeded(etcd);
}

static void probe_status(struct etcd_store *etcd) {
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    etcd->probe = ETCD_PROBE_STATUS;
    etcd->probe_call.message = on_status;
    etcd->probe_call.done = on_status_done;
    etcd_call_start_at(&etcd->probe_call, etcd, etcd->current, "/etcdserverpb.Maintenance/Status",
                       &etcdserverpb__status_response__descriptor, &request.base, ETCD_PROBE_MS);
}

/* ---- from outside ---- */

void etcd_probe_start(struct etcd_store *etcd) {
    if (etcd->probe == ETCD_PROBE_NONE && !etcd->closing && !reactor_timer_armed(&etcd->timer))
        probe_status(etcd);
}

void etcd_probe_stop(struct etcd_store *etcd) {
    etcd_call_cancel(&etcd->probe_call);
    reactor_timer_stop(etcd->store.reactor, &etcd->timer);
    etcd->probe = ETCD_PROBE_NONE;
}

bool etcd_is_usable(struct etcd_store *etcd) {
    const struct etcd_endpoint *endpoint = &etcd->endpoints[etcd->current];
    if (etcd->probe != ETCD_PROBE_USABLE)
        return false;
    if (grpc_channel_is_connected(endpoint->channel) && grpc_channel_connections(endpoint->channel) == endpoint->verified)
        return true;
    etcd->probe = ETCD_PROBE_NONE;
    etcd_probe_start(etcd);
    return false;
}

void etcd_endpoint_lost(struct etcd_store *etcd, unsigned endpoint, enum error_code code, const char *why) {
    if (endpoint == etcd->current && etcd->probe == ETCD_PROBE_USABLE)
        probe_failed(etcd, code, why);
}

void etcd_token_lost(struct etcd_store *etcd) {
    if (etcd->probe != ETCD_PROBE_USABLE)
        return;
    etcd_token_unref(etcd->token);
    etcd->token = NULL;
    etcd->probe = ETCD_PROBE_NONE;
    /* A moment later: a server that refuses each token must not be asked without end. */
    if (!etcd->closing)
        reactor_timer_start(etcd->store.reactor, &etcd->timer, reactor_now_ns(etcd->store.reactor) + 50 * NS_PER_MS);
}
