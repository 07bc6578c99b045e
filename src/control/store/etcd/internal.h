/* The parts of the etcd store. */
#pragma once

#include "api/proto/etcd/etcd.pb-c.h"
#include "control/store/arena.h"
#include "control/store/backend.h"
#include "control/store/etcd/etcd.h"
#include "grpc/channel.h"

enum {
    ETCD_PROBE_MS = 3000,    /* for an endpoint to say who it is */
    ETCD_READ_MS = 3000,     /* for an answer that another endpoint can give as well */
    ETCD_ROUND_MIN_MS = 100, /* pause after all endpoints failed */
    ETCD_ROUND_MAX_MS = 2000,
    ETCD_RETRY_MS = 200,  /* pause of a watch or lease after a failure that is not the endpoint's */
    ETCD_LINGER_MS = 2000 /* how long closing waits for answers */
};

struct etcd_store;
struct etcd_call;

struct etcd_token {
    unsigned references;
    char text[];
};

struct etcd_endpoint {
    struct host_address address;
    struct tls_context *tls; /* its own; NULL = the shared one, or none */
    struct grpc_channel *channel;
    uint64_t verified; /* the channel's connection that was asked who it is; 0 = none */
};

enum etcd_probe { ETCD_PROBE_NONE, ETCD_PROBE_STATUS, ETCD_PROBE_TOKEN, ETCD_PROBE_USABLE };

/* A call to an endpoint; embedded in what makes it. */
struct etcd_call {
    struct grpc_channel_call call;
    struct grpc_metadata metadata[2];
    struct etcd_token *token;
    struct etcd_store *etcd;
    unsigned endpoint;
    struct list_node node; /* of the store's calls; linked while under way */
    bool foreign;          /* another cluster answered */
    bool got;              /* a message */
    bool old_token;        /* inside done: the store has another one by now */
    struct arena arena;    /* for what a message left; freed after done */
    /* A message of our cluster; may cancel the call and free it. */
    void (*message)(struct etcd_call *call, const ProtobufCMessage *got);
    void (*done)(struct etcd_call *call); /* see call.call.status; may free it */
};

struct etcd_store {
    struct store store;
    struct etcd_endpoint endpoints[STORE_ETCD_ENDPOINTS_MAX];
    unsigned endpoint_count, current;
    struct tls_context *tls;
    char *user, *password;
    struct etcd_token *token;
    uint64_t cluster_id;
    /* looking for an endpoint */
    enum etcd_probe probe;
    struct etcd_call probe_call;
    struct reactor_timer timer; /* the next attempt */
    unsigned failed_in_row;
    uint64_t pause_ms;
    /* under way */
    struct list calls, requests, watches, leases;
    bool closing;
    struct reactor_job job; /* resumes watches and leases; ends */
    bool queued;
    struct reactor_timer linger;
};

static inline struct etcd_store *etcd_of(struct store *store) { return container_of(store, struct etcd_store, store); }

/* ---- endpoint.c ---- */

/* Begins to look for an endpoint, if none is usable and nobody looks. */
void etcd_probe_start(struct etcd_store *etcd);
void etcd_probe_stop(struct etcd_store *etcd);
/* Is the current endpoint, over the connection that it has now, of our cluster? If not, that is found out. */
bool etcd_is_usable(struct etcd_store *etcd);
/* The endpoint failed us; another one is looked for if it is the current one. */
void etcd_endpoint_lost(struct etcd_store *etcd, unsigned endpoint, enum error_code code, const char *why);
/* The token is no longer good. */
void etcd_token_lost(struct etcd_store *etcd);
void etcd_token_unref(struct etcd_token *token);

/* ---- call.c ---- */

enum etcd_verdict {
    ETCD_ANSWERED,  /* status OK, from our cluster */
    ETCD_REFUSED,   /* error; certainly without effect */
    ETCD_ELSEWHERE, /* certainly without effect; to be sent again */
    ETCD_UNKNOWN    /* error; it may have been, or become, effective */
};

/* Prepares and starts a call; message and done are set by then. False: no endpoint is usable now, nothing was begun. */
bool etcd_call_start(struct etcd_call *call, struct etcd_store *etcd, enum grpc_kind kind, const char *path,
                     const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message, uint64_t timeout_ms);
/* The same to an endpoint that is not verified. */
void etcd_call_start_at(struct etcd_call *call, struct etcd_store *etcd, unsigned endpoint, const char *path,
                        const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message, uint64_t timeout_ms);
/* Harmless if it is not under way; done does not come. */
void etcd_call_cancel(struct etcd_call *call);
/* What became of it, inside done; tells the endpoint's side of the store about its failure. */
enum etcd_verdict etcd_call_verdict(struct etcd_call *call, struct error *error);
/* [key, end) of a key or prefix, in `low` and `high` of STORE_KEY_MAX + 2 bytes. */
void etcd_key_range(const char *key, bool prefix, char *low, char *high, ProtobufCBinaryData *ret_key,
                    ProtobufCBinaryData *ret_end);
/* False: no memory. A foreign key gives an entry with key NULL. */
bool etcd_read_entry(struct arena *arena, const Etcdserverpb__KeyValue *from, struct store_entry *entry);

/* ---- request.c, watch.c, lease.c ---- */

void etcd_work(struct store *store);
void etcd_requests_cancel(struct etcd_store *etcd); /* all that are under way */
void etcd_watch_start(struct store *store, struct store_watch *watch);
void etcd_watch_stop(struct store *store, struct store_watch *watch);
void etcd_watches_resume(struct etcd_store *etcd);
bool etcd_lease_held(struct store *store, struct store_lease *lease);
void etcd_lease_let_go(struct store *store, struct store_lease *lease);
void etcd_leases_resume(struct etcd_store *etcd);
/* Resumes from the loop what waits for an endpoint. */
void etcd_resume_soon(struct etcd_store *etcd);
