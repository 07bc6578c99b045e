/* A lease that is held: renewed each third of its time, lost when that did not succeed for all of it. */
#include <stdlib.h>

#include "control/store/etcd/internal.h"

struct etcd_lease {
    struct etcd_call call;
    struct store_lease *lease;
    struct list_node node;
    struct reactor_timer timer; /* the next renewal, or its end */
    uint64_t renew_ns, sent_ns;
    int64_t left_s; /* what the answer said; < 0: none */
};

static struct etcd_lease *of(struct etcd_call *call) { return container_of(call, struct etcd_lease, call); }

static void renew(struct etcd_lease *it);

static void wait_for_next(struct etcd_lease *it) {
    struct reactor *reactor = it->lease->store->reactor;
    reactor_timer_start(reactor, &it->timer, min_u64(it->renew_ns, it->lease->until_ns));
}

static void on_message(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__LeaseKeepAliveResponse *answer = (const void *)got;
    of(call)->left_s = answer->ttl > 0 ? answer->ttl : 0;
}

static void on_done(struct etcd_call *call) {
    struct etcd_lease *it = of(call);
    struct error error;
    uint64_t now_ns = reactor_now_ns(call->etcd->store.reactor);
    enum etcd_verdict verdict = etcd_call_verdict(call, &error);
    if (verdict == ETCD_ANSWERED && it->left_s == 0) {
        store_lease_lost(it->lease);
        return;
    }
    if (verdict == ETCD_ANSWERED) {
        it->lease->until_ns = it->sent_ns + (uint64_t)it->left_s * NS_PER_S;
        it->renew_ns = it->sent_ns + (uint64_t)it->left_s * NS_PER_S / 3;
    } else {
        it->renew_ns = now_ns + ETCD_RETRY_MS * NS_PER_MS;
    }
    wait_for_next(it);
}

static void renew(struct etcd_lease *it) {
    struct etcd_store *etcd = etcd_of(it->lease->store);
    Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    uint64_t now_ns = reactor_now_ns(etcd->store.reactor);
    if (list_linked(&it->call.node))
        return;
    request.id = it->lease->id;
    it->left_s = -1;
    it->sent_ns = now_ns;
    it->call.message = on_message;
    it->call.done = on_done;
    uint64_t timeout_ms = max_u64(it->lease->ttl_s * UINT64_C(1000) / 3, 500);
    it->renew_ns = now_ns + ETCD_RETRY_MS * NS_PER_MS;
    if (etcd_call_start(&it->call, etcd, GRPC_BIDIRECTIONAL, "/etcdserverpb.Lease/LeaseKeepAlive",
                        &etcdserverpb__lease_keep_alive_response__descriptor, &request.base, timeout_ms)) {
        it->renew_ns = UINT64_MAX; /* its end says when */
        grpc_call_send_end(&it->call.call.call);
    }
    wait_for_next(it);
}

static void on_timer(struct reactor_timer *timer) {
    struct etcd_lease *it = container_of(timer, struct etcd_lease, timer);
    struct etcd_store *etcd = etcd_of(it->lease->store);
    if (reactor_now_ns(etcd->store.reactor) >= it->lease->until_ns) {
        store_lease_lost(it->lease);
        return;
    }
    etcd_probe_start(etcd);
    renew(it);
}

bool etcd_lease_held(struct store *store, struct store_lease *lease) {
    struct etcd_lease *it = calloc(1, sizeof(*it));
    struct etcd_store *etcd = etcd_of(store);
    lease->impl = (struct store_impl *)it;
    if (it == NULL)
        return false;
    it->lease = lease;
    it->call.etcd = etcd;
    it->timer.run = on_timer;
    it->renew_ns = reactor_now_ns(store->reactor); /* granting may have taken long */
    list_push_back(&etcd->leases, &it->node);
    wait_for_next(it);
    return true;
}

void etcd_lease_let_go(struct store *store, struct store_lease *lease) {
    struct etcd_lease *it = (struct etcd_lease *)lease->impl;
    lease->impl = NULL;
    if (it == NULL)
        return;
    reactor_timer_stop(store->reactor, &it->timer);
    etcd_call_cancel(&it->call);
    list_remove(&it->node);
    free(it);
}

void etcd_leases_resume(struct etcd_store *etcd) {
    list_for_each_safe (&etcd->leases, struct etcd_lease, it, node)
        if (!list_linked(&it->call.node) && it->renew_ns <= reactor_now_ns(etcd->store.reactor) + ETCD_RETRY_MS * NS_PER_MS)
            renew(it);
}
