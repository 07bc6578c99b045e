#include "control/store/etcd/etcd.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/store/etcd/internal.h"

void etcd_resume_soon(struct etcd_store *etcd) {
    if (etcd->queued)
        return;
    etcd->queued = true;
    reactor_defer(etcd->store.reactor, &etcd->job);
}

/* ---- closing ---- */

static void on_linger(struct reactor_timer *timer) {
    struct etcd_store *etcd = container_of(timer, struct etcd_store, linger);
    etcd_requests_cancel(etcd);
    etcd_resume_soon(etcd);
}

static void etcd_close(struct store *store) {
    struct etcd_store *etcd = etcd_of(store);
    etcd->closing = true;
    etcd_probe_stop(etcd);
    reactor_timer_start(store->reactor, &etcd->linger, reactor_now_ns(store->reactor) + ETCD_LINGER_MS * NS_PER_MS);
    etcd_resume_soon(etcd);
}

static void on_job(struct reactor_job *job) {
    struct etcd_store *etcd = container_of(job, struct etcd_store, job);
    etcd->queued = false;
    if (!etcd->closing) {
        etcd_watches_resume(etcd);
        etcd_leases_resume(etcd);
    } else if (list_empty(&etcd->requests)) {
        reactor_timer_stop(etcd->store.reactor, &etcd->linger);
        store_backend_closed(&etcd->store);
    }
}

static void wipe_and_free(char *secret) {
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void etcd_free(struct etcd_store *etcd) {
    for (unsigned i = 0; i < etcd->endpoint_count; i++) {
        if (etcd->endpoints[i].channel != NULL)
            grpc_channel_destroy(etcd->endpoints[i].channel);
        tls_context_destroy(etcd->endpoints[i].tls);
    }
    tls_context_destroy(etcd->tls);
    etcd_token_unref(etcd->token);
    free(etcd->user);
    wipe_and_free(etcd->password);
    free(etcd);
}

static void on_last_job(struct reactor_job *job) { etcd_free(container_of(job, struct etcd_store, job)); }

static void etcd_destroy(struct store *store) {
    struct etcd_store *etcd = etcd_of(store);
    assert(list_empty(&etcd->calls) && list_empty(&etcd->watches) && list_empty(&etcd->leases));
    if (etcd->queued)
        etcd->job.run = on_last_job;
    else
        etcd_free(etcd);
}

static const struct store_backend etcd_backend = {
    .work = etcd_work,
    .watch_start = etcd_watch_start,
    .watch_stop = etcd_watch_stop,
    .lease_held = etcd_lease_held,
    .lease_let_go = etcd_lease_let_go,
    .close = etcd_close,
    .destroy = etcd_destroy,
};

/* ---- beginning ---- */

static bool copy(const char *from, char **to, struct error *error) {
    if (from == NULL)
        return true;
    *to = malloc(strlen(from) + 1);
    if (*to == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the state store");
    memcpy(*to, from, strlen(from) + 1);
    return true;
}

static bool make_tls(const struct store_etcd_options *options, const char *peer_name, struct tls_context **ret_tls,
                     struct error *error) {
    struct tls_options tls = {.ca_pem = options->ca_pem,
                              .certificate_pem = options->certificate_pem,
                              .key_pem = options->key_pem,
                              .peer_name = peer_name};
    return tls_context_create(&tls, ret_tls, error);
}

static bool make_endpoint(struct etcd_store *etcd, const struct store_etcd_options *options, unsigned index,
                          struct error *error) {
    struct etcd_endpoint *endpoint = &etcd->endpoints[index];
    endpoint->address = options->endpoints[index];
    etcd->endpoint_count = index + 1;
    if (options->ca_pem != NULL && etcd->tls == NULL && !make_tls(options, endpoint->address.text, &endpoint->tls, error))
        return false;
    struct grpc_channel_options channel = {.reactor = options->store.reactor,
                                           .address = endpoint->address,
                                           .authority = options->peer_name,
                                           .tls = etcd->tls != NULL ? etcd->tls : endpoint->tls};
    endpoint->channel = grpc_channel_create(&channel);
    return endpoint->channel != NULL || error_set(error, ERROR_NO_MEMORY, "no memory for the state store");
}

static void on_timer(struct reactor_timer *timer) { etcd_probe_start(container_of(timer, struct etcd_store, timer)); }

bool store_etcd_create(const struct store_etcd_options *options, struct store **ret_store, struct error *error) {
    char number[16];
    snprintf(number, sizeof(number), "%u", options->endpoint_count);
    if (options->endpoint_count == 0 || options->endpoint_count > STORE_ETCD_ENDPOINTS_MAX)
        return error_invalid(error, "endpoints", number, "1 to %u endpoints", STORE_ETCD_ENDPOINTS_MAX);
    struct etcd_store *etcd = calloc(1, sizeof(*etcd));
    if (etcd == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the state store");
    store_init(&etcd->store, &etcd_backend, &options->store);
    etcd->cluster_id = options->cluster_id;
    etcd->pause_ms = ETCD_ROUND_MIN_MS;
    etcd->job.run = on_job;
    etcd->timer.run = on_timer;
    etcd->linger.run = on_linger;
    list_init(&etcd->calls);
    list_init(&etcd->requests);
    list_init(&etcd->watches);
    list_init(&etcd->leases);
    bool ok = copy(options->user, &etcd->user, error) &&
              copy(options->user != NULL && options->password == NULL ? "" : options->password, &etcd->password, error);
    if (ok && options->ca_pem != NULL && options->peer_name != NULL)
        ok = make_tls(options, options->peer_name, &etcd->tls, error);
    for (unsigned i = 0; ok && i < options->endpoint_count; i++)
        ok = make_endpoint(etcd, options, i, error);
    if (!ok) {
        etcd_free(etcd);
        return false;
    }
    snprintf(etcd->store.status.where, sizeof(etcd->store.status.where), "etcd");
    reactor_timer_start(etcd->store.reactor, &etcd->timer, reactor_now_ns(etcd->store.reactor));
    *ret_store = &etcd->store;
    return true;
}
