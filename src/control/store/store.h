/* The state store: keys with values and revisions, transactions that compare and then act, ranges, watches, compaction, leases.
 * One contract, docs/state-store.md; its implementations are the folders below this one (memory, sqlite, etcd) and are made by
 * functions of theirs. Must not know: what is kept in it.
 *
 * Calling context: one reactor. Nothing here blocks, and no callback comes from inside a function of this header but those of
 * store_close(). Requests, watches and leases are their owner's memory and embedded in it. */
#pragma once

#include "base/error.h"
#include "reactor/reactor.h"

enum {
    STORE_KEY_MAX = 512,                 /* bytes of a key: printable ASCII without blanks, at least one */
    STORE_VALUE_MAX = 256 * 1024,        /* bytes of a value */
    STORE_COMPARES_MAX = 128,            /* of a transaction */
    STORE_OPS_MAX = 128,                 /* of one of its branches */
    STORE_GETS_MAX = 8,                  /* reads among them */
    STORE_TRANSACTION_MAX = 1024 * 1024, /* bytes of all its keys and values */
    STORE_RANGE_MAX = 1000,              /* entries of an answer */
    STORE_RANGE_BYTES =
        2 * 1024 * 1024,       /* of an answer's keys and values, if it has more than one entry (etcd: what fits a message) */
    STORE_REQUESTS_MAX = 1024, /* under way in one store */
    STORE_WATCHES_MAX = 256,
    STORE_LEASES_MAX = 64,
    STORE_TTL_MIN_S = 2,
    STORE_TTL_MAX_S = 3600,
    STORE_TIMEOUT_MS = 10000 /* of a request that names none */
};

struct store;
struct store_impl; /* an implementation's part of a request, watch or lease */

/* ---- what is kept ---- */

/* A key and its value; the revisions are those of transactions: of the one that made the key (since it was last absent), and of
 * the last one that put it. */
struct store_entry {
    const char *key;
    const void *value; /* never NULL; a zero byte follows, which is not counted */
    size_t value_length;
    int64_t create_revision, modify_revision;
    int64_t lease; /* 0 = none */
};

/* ---- requests ---- */

enum store_compare_target {
    STORE_CREATE_REVISION, /* an absent key's are 0 */
    STORE_MODIFY_REVISION,
    STORE_VALUE /* never true of an absent key */
};
enum store_relation { STORE_EQUAL, STORE_NOT_EQUAL, STORE_LESS, STORE_GREATER };

struct store_compare {
    const char *key;
    enum store_compare_target target;
    enum store_relation relation; /* what the key has, to what stands here */
    int64_t revision;
    const void *value;
    size_t value_length;
};

enum store_op_kind {
    STORE_PUT,
    STORE_DELETE, /* of what is absent is fine */
    STORE_GET     /* sees what the operations before it did */
};

struct store_op {
    enum store_op_kind kind;
    bool prefix; /* DELETE: all keys that begin with `key` */
    const char *key;
    const void *value;
    size_t value_length;
    int64_t lease; /* PUT: of a store_lease that is held, 0 = none */
};

struct store_result {
    struct store_entry *entries; /* GET: one or none; a range: in order of keys, which is that of their bytes */
    uint32_t count;
    uint32_t deleted; /* DELETE */
};

enum store_verb {
    STORE_RANGE,
    STORE_TRANSACT,
    STORE_COMPACT,
    STORE_LEASE_GRANT, /* these two are the store's own */
    STORE_LEASE_REVOKE
};

enum store_outcome {
    STORE_DONE,     /* answered; what it did is durable */
    STORE_NOT_DONE, /* `error`; it has no effect, nor will it have one */
    STORE_UNKNOWN   /* a transaction whose answer was lost: it may have been effective, or yet become so */
};

/* One request. The owner sets what stands above the line, and lets everything that it points to stay until `done`, which comes
 * exactly once. The answer, and all it points to, is valid inside `done` only; there the owner may free the request or submit it
 * anew. Zero what is not used. */
struct store_request {
    enum store_verb verb;
    /* RANGE: the entries of `key`, or of all keys that begin with it (which may be ""), as of a revision. */
    const char *key;
    bool prefix;
    const char *after; /* only keys above this one; NULL = all. For the next page, with the first one's revision */
    uint32_t limit;    /* entries; 0 = STORE_RANGE_MAX */
    int64_t revision;  /* 0 = the newest. COMPACT: history before this one is no longer wanted */
    /* TRANSACT: if all compares hold `then_ops`, else `else_ops`; as one. No branch may put a key twice, or put and delete it. */
    const struct store_compare *compares;
    const struct store_op *then_ops, *else_ops;
    uint32_t compare_count, then_count, else_count;
    bool unguarded;      /* TRANSACT: not under store_guard() */
    uint32_t timeout_ms; /* 0 = STORE_TIMEOUT_MS */
    void *arg;
    void (*done)(struct store_request *request);
    /* ---- the answer ---- */
    enum store_outcome outcome;
    struct error error;                 /* unless DONE */
    int64_t now_revision;               /* of the store when it answered: of a transaction that wrote something, its own */
    bool succeeded;                     /* all compares held */
    bool more;                          /* RANGE: there are entries above the last one */
    const struct store_result *results; /* RANGE: one; TRANSACT: one for each operation of its branch */
    uint32_t result_count;
    /* ---- the store's ---- */
    struct store *store;
    struct list_node node;
    uint64_t deadline_ns;
    uint32_t page; /* entries that fitted an answer; 0 = `limit` */
    struct store_guarded *guarded;
    struct store_impl *impl;
};

/* Never fails inline: what is malformed, or beyond a limit, is answered NOT_DONE as everything else. */
void store_submit(struct store *store, struct store_request *request);

/* ---- watches ---- */

/* A key was put, or (deleted) is no more: then it has neither value nor lease, and modify_revision is that of the deletion. */
struct store_event {
    struct store_entry entry;
    bool deleted;
};

/* All changes of a key, or of the keys that begin with it, from a revision on. Revisions come in order, each whole and once,
 * whatever happens to connections meanwhile. */
struct store_watch {
    const char *key; /* stays until the watch is stopped or has ended */
    bool prefix;
    int64_t from_revision; /* > 0; a list's now_revision + 1, say */
    void *arg;
    /* Events of one revision or of several, valid inside; may stop the watch. */
    void (*events)(struct store_watch *watch, const struct store_event *events, uint32_t count);
    /* No event comes any more, and there is nothing to stop. ERROR_NOT_FOUND: the history from `from_revision` on is compacted:
     * list again, watch from there. Others: the store has failed, or refuses this. */
    void (*ended)(struct store_watch *watch, const struct error *error);
    /* ---- the store's ---- */
    struct store *store; /* NULL: not under way */
    struct list_node node;
    int64_t next_revision; /* all below it was told */
    bool refused;          /* not begun: `ended` comes from the loop */
    struct store_impl *impl;
};

void store_watch_start(struct store *store, struct store_watch *watch);
/* No callback comes after it. Harmless if the watch is not under way. */
void store_watch_stop(struct store_watch *watch);

/* ---- leases ---- */

/* Keys put with a lease are deleted when nobody has renewed it for its time. The store renews it as long as it can. */
struct store_lease {
    uint32_t ttl_s; /* STORE_TTL_MIN_S … _MAX_S; the store may make it longer: then that stands here */
    void *arg;
    /* Comes once: `id` is set, and lost() may follow; or error, and it is over. */
    void (*granted)(struct store_lease *lease, const struct error *error);
    /* It may run out from now on, or has been revoked: what was done in its name must stop. Comes before anybody can see the keys
     * gone because of time. The lease is over. */
    void (*lost)(struct store_lease *lease);
    /* ---- the store's ---- */
    struct store *store; /* NULL: not under way */
    struct list_node node;
    int64_t id;
    uint64_t until_ns; /* lost then, if it is not renewed */
    bool refused;      /* not begun: `granted` comes from the loop */
    struct store_orphan *orphan;
    struct store_impl *impl;
};

void store_lease_grant(struct store *store, struct store_lease *lease);
/* No callback comes after it. `revoke`: its keys are deleted now, if the store can be reached, else (and without) when the time
 * is over. Harmless if the lease is not under way. */
void store_lease_end(struct store_lease *lease, bool revoke);

/* ---- the store ---- */

enum store_state {
    STORE_OPENING, /* requests wait */
    STORE_READY,
    STORE_UNREACHABLE, /* for now: requests wait until their deadline */
    STORE_FAILED       /* for good (close it, mend it, open it anew): requests are answered with `error` */
};

struct store_status {
    enum store_state state;
    struct error error; /* UNREACHABLE, FAILED: why */
    char where[160];    /* file or endpoint in use, for people */
    uint64_t identity;  /* of the store (etcd: of the cluster); 0 = not known yet */
};

/* What all implementations are told when they are made. */
struct store_options {
    struct reactor *reactor;
    void *arg;
    void (*changed)(void *arg, const struct store_status *status); /* of state, from the loop; NULL = nobody asks */
};

const struct store_status *store_get_status(const struct store *store);
/* Transactions submitted from now on have an effect only while `key` (copied) is there and was made at this revision; else they
 * are answered NOT_DONE, ERROR_BUSY. A key under a lease stands for the right to write: what another has made since is another
 * one. One that is submitted again after UNKNOWN and answered so may have had its effect the first time. Each of them has a
 * compare and a read (of the limit's) less. */
void store_guard(struct store *store, const char *key, int64_t create_revision);
/* Inside `done` of a request that is not DONE: it may be answered when it is submitted again. */
bool store_is_away(const struct store_request *request);
/* Ends watches and leases (which run out, later) without a callback. Requests that were begun are finished, if need be with
 * UNKNOWN, others get NOT_DONE; then `closed`, and the store is no more. */
void store_close(struct store *store, void (*closed)(void *arg), void *arg);
