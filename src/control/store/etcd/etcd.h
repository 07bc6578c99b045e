/* The state store in etcd, v3 from 3.4 on. Durable and ordered as etcd is. Must not know: the other implementations.
 *
 * Calling context: one reactor. */
#pragma once

#include "control/store/store.h"

enum { STORE_ETCD_ENDPOINTS_MAX = 9 };

struct store_etcd_options {
    struct store_options store;
    const struct host_address *endpoints; /* copied */
    unsigned endpoint_count;
    uint64_t cluster_id; /* another one is refused; 0 = that of the first endpoint that answers */
    /* TLS, mutual: PEM texts, copied; ca_pem NULL = plain. */
    const char *ca_pem, *certificate_pem, *key_pem;
    const char *peer_name;       /* that the servers' certificates must hold; NULL = the endpoint's address; copied */
    const char *user, *password; /* copied; user NULL = none */
};

/* False: error (unfit certificates, no memory). READY once an endpoint has answered; it never FAILS by itself: an etcd that is
 * away, of another cluster, or refuses the password is UNREACHABLE until that changes. */
bool store_etcd_create(const struct store_etcd_options *options, struct store **ret_store, struct error *error);
