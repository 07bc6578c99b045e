/* What an implementation of the store provides, and what it is given: store.c checks requests, queues them, watches their
 * deadlines, counts, and keeps the leases of implementations that have no time of their own. For the folders below this one.
 *
 * The life of a request: queued (store.c's; NOT_DONE at its deadline), taken by the implementation when it can serve it, answered
 * once. */
#pragma once

#include "control/store/arena.h"
#include "control/store/store.h"

struct store_backend {
    /* Something may be queued, and the state is READY or UNREACHABLE: store_take() what can be served. From the loop. */
    void (*work)(struct store *store);
    /* The watch has its members set; what it is told comes from the loop. */
    void (*watch_start)(struct store *store, struct store_watch *watch);
    void (*watch_stop)(struct store *store, struct store_watch *watch);
    /* Leases are granted and revoked by requests STORE_LEASE_GRANT (`revision`: the id that it shall have, `limit`: seconds,
     * which the answer may make more) and STORE_LEASE_REVOKE (`revision`; deletes its keys). Where they run out by themselves,
     * the implementation renews those that are held, and says store_lease_lost(). Both NULL: they do not. */
    bool (*lease_held)(struct store *store, struct store_lease *lease); /* false: no memory */
    void (*lease_let_go)(struct store *store, struct store_lease *lease);
    /* No more requests, watches, leases come; answers those that it took, then calls store_backend_closed(). From the loop. */
    void (*close)(struct store *store);
    void (*destroy)(struct store *store); /* frees it */
};

struct store {
    const struct store_backend *backend;
    struct reactor *reactor;
    struct store_options options;
    struct store_status status;
    struct list queued;  /* requests not taken */
    struct list refused; /* requests with an answer that waits for the loop */
    struct list watches, leases, orphans;
    uint32_t request_count, watch_count, lease_count; /* request_count: all that are not answered, ours not counted */
    struct reactor_job job;
    bool job_queued, closing, backend_closing, backend_closed, state_changed;
    struct reactor_timer timer; /* the earliest deadline */
    void (*closed)(void *arg);
    void *closed_arg;
    char guard_key[STORE_KEY_MAX + 1]; /* "": none */
    int64_t guard_revision;
};

void store_init(struct store *store, const struct store_backend *backend, const struct store_options *options);
/* The implementation is done; destroy() follows from the loop. */
void store_backend_closed(struct store *store);
/* `error`: for UNREACHABLE and FAILED. FAILED answers all that is queued, and ends watches and leases. */
void store_set_state(struct store *store, enum store_state state, const struct error *error);
/* Calls work() soon. */
void store_look_soon(struct store *store);

/* The next queued request, now the implementation's; NULL = none. */
struct store_request *store_take(struct store *store);
/* Back to the front of the queue: it was not begun. */
void store_give_back(struct store *store, struct store_request *request);
/* The answer is in the request: tells its owner. From the loop. */
void store_answer(struct store *store, struct store_request *request);
/* The same, with an error (copied). */
void store_answer_error(struct store *store, struct store_request *request, enum store_outcome outcome,
                        const struct error *error);

/* Whether a comparison holds for what its key has; NULL = nothing. Any thread. */
bool store_compare_holds(const struct store_compare *compare, const struct store_entry *entry);
/* Does the watch cover this key? */
bool store_watch_covers(const struct store_watch *watch, const char *key);
/* Tells a watch those of the events (in order, whole revisions) that it covers and was not told. `last_revision`: all up to it
 * are among them. False: no memory; it was told nothing. */
bool store_watch_tell(struct store_watch *watch, const struct store_event *events, uint32_t count, int64_t last_revision);
/* Takes the watch off and calls `ended`. */
void store_watch_end(struct store_watch *watch, const struct error *error);
/* Error of a watch or range whose history is gone. */
bool store_set_compacted(struct error *error, int64_t revision, int64_t compacted);
bool store_set_future(struct error *error, int64_t revision, int64_t newest);

/* A lease whose owner is not known any more, from a file: its keys are deleted when its time is over. False: no memory. */
bool store_adopt_lease(struct store *store, int64_t id, uint32_t ttl_s);
/* It has run out, or may have: tells its owner. */
void store_lease_lost(struct store_lease *lease);
