#include "control/store/store.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/store/backend.h"
#include "control/store/check.h"

/* A lease that nobody holds, until its time is over and its keys are deleted; also one that is being granted or revoked. */
struct store_orphan {
    struct store_request request;
    struct list_node node;
    struct store_lease *lease; /* being granted to; NULL = it was let go */
    uint64_t due_ns;
    bool sent;
};

/* A transaction with the guard's compare and, to tell who has refused it, a read of its key, both at the end; what its owner set
 * comes back with the answer. */
struct store_guarded {
    const struct store_compare *compares;
    const struct store_op *else_ops;
    int64_t revision;
};

static void look(struct store *store);

static void on_job(struct reactor_job *job) {
    struct store *store = container_of(job, struct store, job);
    store->job_queued = false;
    look(store);
}

static void on_timer(struct reactor_timer *timer) { store_look_soon(container_of(timer, struct store, timer)); }

void store_init(struct store *store, const struct store_backend *backend, const struct store_options *options) {
    *store = (struct store){.backend = backend, .reactor = options->reactor, .options = *options};
    list_init(&store->queued);
    list_init(&store->refused);
    list_init(&store->watches);
    list_init(&store->leases);
    list_init(&store->orphans);
    store->job.run = on_job;
    store->timer.run = on_timer;
}

void store_look_soon(struct store *store) {
    if (store->job_queued)
        return;
    store->job_queued = true;
    reactor_defer(store->reactor, &store->job);
}

const struct store_status *store_get_status(const struct store *store) { return &store->status; }

bool store_is_away(const struct store_request *request) {
    return request->store->status.state == STORE_UNREACHABLE || request->error.code == ERROR_TIMED_OUT;
}

void store_set_state(struct store *store, enum store_state state, const struct error *error) {
    if (store->status.state == STORE_FAILED)
        return;
    if (store->status.state == state && error == NULL)
        return;
    store->status.state = state;
    error_clear(&store->status.error);
    if (error != NULL)
        store->status.error = *error;
    store->state_changed = true;
    store_look_soon(store);
}

/* ---- requests ---- */

struct store_request *store_take(struct store *store) {
    struct list_node *node = list_pop_front(&store->queued);
    return node != NULL ? container_of(node, struct store_request, node) : NULL;
}

void store_give_back(struct store *store, struct store_request *request) { list_push_front(&store->queued, &request->node); }

/* ---- the guard ---- */

void store_guard(struct store *store, const char *key, int64_t create_revision) {
    snprintf(store->guard_key, sizeof(store->guard_key), "%s", key);
    store->guard_revision = create_revision;
}

static bool guard(struct store *store, struct store_request *request) {
    uint32_t compare_count = request->compare_count, else_count = request->else_count;
    if (request->verb != STORE_TRANSACT || request->unguarded || store->guard_key[0] == '\0')
        return true;
    if (compare_count >= STORE_COMPARES_MAX || else_count >= STORE_OPS_MAX)
        return error_set(&request->error, ERROR_INVALID, "a guarded transaction has less than %u compares and %u operations",
                         STORE_COMPARES_MAX, STORE_OPS_MAX);
    struct store_guarded *guarded = malloc(sizeof(*guarded) + (compare_count + 1) * sizeof(struct store_compare) +
                                           (else_count + 1) * sizeof(struct store_op));
    if (guarded == NULL)
        return error_set(&request->error, ERROR_NO_MEMORY, "no memory for a request to the state store");
    struct store_compare *compares = (struct store_compare *)(guarded + 1);
    struct store_op *else_ops = (struct store_op *)(compares + compare_count + 1);
    *guarded = (struct store_guarded){request->compares, request->else_ops, store->guard_revision};
    for (uint32_t i = 0; i < compare_count; i++)
        compares[i] = request->compares[i];
    for (uint32_t i = 0; i < else_count; i++)
        else_ops[i] = request->else_ops[i];
    compares[compare_count] = (struct store_compare){
        .key = store->guard_key, .target = STORE_CREATE_REVISION, .relation = STORE_EQUAL, .revision = store->guard_revision};
    else_ops[else_count] = (struct store_op){.kind = STORE_GET, .key = store->guard_key};
    request->guarded = guarded;
    request->compares = compares;
    request->else_ops = else_ops;
    request->compare_count++;
    request->else_count++;
    return true;
}

static void unguard(struct store_request *request) {
    struct store_guarded *guarded = request->guarded;
    if (guarded == NULL)
        return;
    request->guarded = NULL;
    request->compares = guarded->compares;
    request->else_ops = guarded->else_ops;
    request->compare_count--;
    request->else_count--;
    if (request->outcome == STORE_DONE && !request->succeeded) {
        const struct store_result *key = &request->results[--request->result_count];
        if (key->count == 0 || key->entries[0].create_revision != guarded->revision) {
            request->outcome = STORE_NOT_DONE;
            request->results = NULL;
            request->result_count = 0;
            error_set(&request->error, ERROR_BUSY, "the right to write to the state store has run out");
        }
    }
    free(guarded);
}

void store_answer(struct store *store, struct store_request *request) {
    assert(!list_linked(&request->node) && store->request_count > 0);
    store->request_count--;
    request->impl = NULL;
    unguard(request);
    request->done(request);
}

void store_answer_error(struct store *store, struct store_request *request, enum store_outcome outcome,
                        const struct error *error) {
    assert(outcome != STORE_DONE);
    request->outcome = outcome;
    request->error = *error;
    request->results = NULL;
    request->result_count = 0;
    store_answer(store, request);
}

static void queue_request(struct store *store, struct store_request *request) {
    uint64_t timeout_ms = request->timeout_ms != 0 ? request->timeout_ms : STORE_TIMEOUT_MS;
    request->store = store;
    request->impl = NULL;
    request->guarded = NULL;
    request->deadline_ns = reactor_now_ns(store->reactor) + timeout_ms * NS_PER_MS;
    request->succeeded = request->more = false;
    request->page = 0;
    request->now_revision = 0;
    request->results = NULL;
    request->result_count = 0;
    request->outcome = STORE_NOT_DONE;
    error_clear(&request->error);
    store->request_count++;
    list_push_back(&store->queued, &request->node);
    store_look_soon(store);
}

void store_submit(struct store *store, struct store_request *request) {
    bool full = store->request_count >= STORE_REQUESTS_MAX;
    queue_request(store, request);
    if (full)
        error_set(&request->error, ERROR_BUSY, "%u requests of the state store are under way", STORE_REQUESTS_MAX);
    else if (store->closing)
        error_set(&request->error, ERROR_CANCELLED, "the state store is being closed");
    else if (guard(store, request) && store_check_request(request, &request->error))
        return;
    list_remove(&request->node);
    list_push_back(&store->refused, &request->node);
}

static void answer_refused(struct store *store) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, &store->refused);
    for (struct list_node *node; (node = list_pop_front(&now)) != NULL;) {
        struct store_request *request = container_of(node, struct store_request, node);
        store_answer(store, request);
    }
}

/* Moves what cannot be served any more to the refused. Returns when to look again. */
static uint64_t refuse_expired(struct store *store) {
    uint64_t now_ns = reactor_now_ns(store->reactor), next_ns = UINT64_MAX;
    const struct store_status *status = &store->status;
    list_for_each_safe (&store->queued, struct store_request, request, node) {
        if (status->state == STORE_FAILED)
            request->error = status->error;
        else if (store->closing)
            error_set(&request->error, ERROR_CANCELLED, "the state store is being closed");
        else if (now_ns >= request->deadline_ns)
            error_set(&request->error, ERROR_TIMED_OUT, "the state store did not answer in time%s%s",
                      status->error.code != ERROR_NONE ? ": " : "", status->error.code != ERROR_NONE ? status->error.text : "");
        else {
            next_ns = min_u64(next_ns, request->deadline_ns);
            continue;
        }
        list_remove(&request->node);
        list_push_back(&store->refused, &request->node);
    }
    return next_ns;
}

/* ---- watches ---- */

void store_watch_start(struct store *store, struct store_watch *watch) {
    assert(watch->store == NULL && watch->from_revision > 0);
    watch->store = store;
    watch->impl = NULL;
    /* The empty store's revision is 1: no change has it. */
    watch->next_revision = watch->from_revision > 2 ? watch->from_revision : 2;
    watch->refused = store->status.state == STORE_FAILED || store->closing || store->watch_count >= STORE_WATCHES_MAX ||
                     !store_check_range(watch->key, watch->prefix, NULL);
    store->watch_count++;
    list_push_back(&store->watches, &watch->node);
    if (!watch->refused)
        store->backend->watch_start(store, watch);
    store_look_soon(store);
}

void store_watch_stop(struct store_watch *watch) {
    struct store *store = watch->store;
    if (store == NULL)
        return;
    if (!watch->refused)
        store->backend->watch_stop(store, watch);
    list_remove(&watch->node);
    store->watch_count--;
    watch->store = NULL;
}

void store_watch_end(struct store_watch *watch, const struct error *error) {
    struct error kept = *error;
    store_watch_stop(watch);
    watch->ended(watch, &kept);
}

bool store_compare_holds(const struct store_compare *compare, const struct store_entry *entry) {
    int order;
    if (compare->target == STORE_VALUE) {
        if (entry == NULL)
            return false;
        size_t common = entry->value_length < compare->value_length ? entry->value_length : compare->value_length;
        order = common > 0 ? memcmp(entry->value, compare->value, common) : 0;
        if (order == 0)
            order = (entry->value_length > compare->value_length) - (entry->value_length < compare->value_length);
    } else {
        int64_t has = entry == NULL                              ? 0
                      : compare->target == STORE_CREATE_REVISION ? entry->create_revision
                                                                 : entry->modify_revision;
        order = (has > compare->revision) - (has < compare->revision);
    }
    switch (compare->relation) {
    case STORE_EQUAL: return order == 0;
    case STORE_NOT_EQUAL: return order != 0;
    case STORE_LESS: return order < 0;
    case STORE_GREATER: return order > 0;
    }
    return false;
}

bool store_watch_covers(const struct store_watch *watch, const char *key) {
    return watch->prefix ? strncmp(key, watch->key, strlen(watch->key)) == 0 : strcmp(key, watch->key) == 0;
}

bool store_watch_tell(struct store_watch *watch, const struct store_event *events, uint32_t count, int64_t last_revision) {
    struct store_event *told = count > 0 ? malloc(count * sizeof(*told)) : NULL;
    if (count > 0 && told == NULL)
        return false;
    uint32_t told_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (events[i].entry.modify_revision >= watch->next_revision && store_watch_covers(watch, events[i].entry.key))
            told[told_count++] = events[i];
    if (last_revision >= watch->next_revision)
        watch->next_revision = last_revision + 1;
    if (told_count > 0)
        watch->events(watch, told, told_count);
    free(told);
    return true;
}

bool store_set_compacted(struct error *error, int64_t revision, int64_t compacted) {
    return error_set(error, ERROR_NOT_FOUND, "revision %lld of the state store is compacted: what is kept begins with %lld",
                     (long long)revision, (long long)compacted);
}

bool store_set_future(struct error *error, int64_t revision, int64_t newest) {
    return error_set(error, ERROR_INVALID, "revision %lld of the state store is yet to come: the newest is %lld",
                     (long long)revision, (long long)newest);
}

static void end_watches(struct store *store) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, &store->watches);
    for (struct list_node *node; (node = list_first(&now)) != NULL;) {
        struct store_watch *watch = container_of(node, struct store_watch, node);
        struct error error;
        if (!watch->refused && store->status.state != STORE_FAILED) {
            list_remove(node);
            list_push_back(&store->watches, node);
            continue;
        }
        if (store->status.state == STORE_FAILED)
            error = store->status.error;
        else if (store->closing)
            error_set(&error, ERROR_CANCELLED, "the state store is being closed");
        else if (store_check_range(watch->key, watch->prefix, &error))
            error_set(&error, ERROR_NO_MEMORY, "%u watches of the state store are under way", STORE_WATCHES_MAX);
        store_watch_end(watch, &error);
    }
}

/* ---- leases ---- */

static void on_orphan_done(struct store_request *request);

static struct store_orphan *orphan_create(struct store *store, int64_t id, uint32_t ttl_s) {
    struct store_orphan *orphan = calloc(1, sizeof(*orphan));
    if (orphan == NULL)
        return NULL;
    orphan->request =
        (struct store_request){.revision = id, .limit = ttl_s, .store = store, .arg = orphan, .done = on_orphan_done};
    orphan->due_ns = UINT64_MAX;
    list_push_back(&store->orphans, &orphan->node);
    return orphan;
}

static void orphan_send(struct store_orphan *orphan, enum store_verb verb) {
    orphan->sent = true;
    orphan->request.verb = verb;
    queue_request(orphan->request.store, &orphan->request);
}

static void orphan_free(struct store_orphan *orphan) {
    list_remove(&orphan->node);
    free(orphan);
}

static void lease_remove(struct store_lease *lease, bool revoke) {
    struct store *store = lease->store;
    struct store_orphan *orphan = lease->orphan;
    if (lease->id != 0 && store->backend->lease_let_go != NULL)
        store->backend->lease_let_go(store, lease);
    if (orphan != NULL) {
        orphan->lease = NULL;
        orphan->due_ns = reactor_now_ns(store->reactor) + (revoke ? 0 : lease->ttl_s * NS_PER_S);
        store_look_soon(store);
    }
    list_remove(&lease->node);
    store->lease_count--;
    lease->store = NULL;
    lease->orphan = NULL;
    lease->impl = NULL;
}

static void lease_refuse(struct store_lease *lease, const struct error *error) {
    struct error kept = *error;
    lease_remove(lease, false);
    lease->granted(lease, &kept);
}

static void on_granted(struct store_orphan *orphan, struct store_request *request) {
    struct store *store = request->store;
    struct store_lease *lease = orphan->lease;
    if (request->outcome == STORE_NOT_DONE) {
        struct error error = request->error;
        orphan_free(orphan);
        if (lease != NULL) {
            lease->orphan = NULL;
            lease_refuse(lease, &error);
        }
    } else if (lease != NULL) {
        lease->id = request->revision;
        lease->ttl_s = request->limit;
        if (store->backend->lease_held != NULL)
            lease->until_ns = (uint64_t)request->now_revision + lease->ttl_s * NS_PER_S;
        if (store->backend->lease_held == NULL || store->backend->lease_held(store, lease)) {
            lease->granted(lease, NULL);
        } else {
            struct error error;
            error_set(&error, ERROR_NO_MEMORY, "no memory for a lease of the state store");
            lease_refuse(lease, &error);
        }
    }
}

static void on_orphan_done(struct store_request *request) {
    struct store_orphan *orphan = request->arg;
    struct store *store = request->store;
    orphan->sent = false;
    if (request->verb == STORE_LEASE_GRANT)
        on_granted(orphan, request);
    else if (request->outcome == STORE_DONE || store->closing || store->status.state == STORE_FAILED)
        orphan_free(orphan);
    else /* a full disk, say */
        orphan->due_ns = reactor_now_ns(store->reactor) + NS_PER_S;
    store_look_soon(store);
}

bool store_adopt_lease(struct store *store, int64_t id, uint32_t ttl_s) {
    struct store_orphan *orphan = orphan_create(store, id, ttl_s);
    if (orphan == NULL)
        return false;
    orphan->due_ns = reactor_now_ns(store->reactor) + ttl_s * NS_PER_S;
    store_look_soon(store);
    return true;
}

void store_lease_grant(struct store *store, struct store_lease *lease) {
    assert(lease->store == NULL);
    lease->store = store;
    lease->orphan = NULL;
    lease->impl = NULL;
    lease->id = 0;
    lease->until_ns = UINT64_MAX;
    lease->refused = store->status.state == STORE_FAILED || store->closing || store->lease_count >= STORE_LEASES_MAX ||
                     lease->ttl_s < STORE_TTL_MIN_S || lease->ttl_s > STORE_TTL_MAX_S;
    store->lease_count++;
    list_push_back(&store->leases, &lease->node);
    if (!lease->refused) {
        uint64_t id;
        host_random(store->reactor->host, &id, sizeof(id));
        struct store_orphan *orphan = orphan_create(store, (int64_t)(id >> 1 | 1), lease->ttl_s);
        lease->refused = orphan == NULL;
        if (orphan != NULL) {
            orphan->lease = lease;
            lease->orphan = orphan;
            orphan_send(orphan, STORE_LEASE_GRANT);
        }
    }
    store_look_soon(store);
}

void store_lease_end(struct store_lease *lease, bool revoke) {
    if (lease->store != NULL)
        lease_remove(lease, revoke);
}

void store_lease_lost(struct store_lease *lease) {
    lease_remove(lease, false);
    lease->lost(lease);
}

static void end_lease(struct store *store, struct store_lease *lease) {
    struct error error;
    if (store->status.state == STORE_FAILED)
        error = store->status.error;
    else if (store->closing)
        error_set(&error, ERROR_CANCELLED, "the state store is being closed");
    else if (lease->ttl_s < STORE_TTL_MIN_S || lease->ttl_s > STORE_TTL_MAX_S)
        error_set(&error, ERROR_INVALID, "a lease's time is %u to %u seconds", STORE_TTL_MIN_S, STORE_TTL_MAX_S);
    else
        error_set(&error, ERROR_NO_MEMORY, "%u leases of the state store are under way", STORE_LEASES_MAX);
    if (lease->id == 0)
        lease_refuse(lease, &error);
    else
        store_lease_lost(lease);
}

static void end_leases(struct store *store) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, &store->leases);
    for (struct list_node *node; (node = list_first(&now)) != NULL;) {
        struct store_lease *lease = container_of(node, struct store_lease, node);
        if (lease->refused || store->status.state == STORE_FAILED) {
            end_lease(store, lease);
        } else {
            list_remove(node);
            list_push_back(&store->leases, node);
        }
    }
}

/* Sends what is due. Returns when the next one is. */
static uint64_t look_at_orphans(struct store *store) {
    uint64_t now_ns = reactor_now_ns(store->reactor), next_ns = UINT64_MAX;
    bool over = store->closing || store->status.state == STORE_FAILED;
    list_for_each_safe (&store->orphans, struct store_orphan, orphan, node) {
        if (orphan->sent || orphan->lease != NULL)
            continue;
        if (over)
            orphan_free(orphan); /* a file still has it */
        else if (now_ns >= orphan->due_ns)
            orphan_send(orphan, STORE_LEASE_REVOKE);
        else
            next_ns = min_u64(next_ns, orphan->due_ns);
    }
    return next_ns;
}

/* ---- the loop's part ---- */

/* May free the store. */
static void close_further(struct store *store) {
    if (!list_empty(&store->queued) || !list_empty(&store->refused) || !list_empty(&store->watches) ||
        !list_empty(&store->leases)) {
        store_look_soon(store);
    } else if (!store->backend_closing) {
        store->backend_closing = true;
        store->backend->close(store);
    } else if (store->backend_closed && !store->job_queued) {
        assert(list_empty(&store->orphans) && store->request_count == 0);
        void (*closed)(void *arg) = store->closed;
        void *arg = store->closed_arg;
        reactor_timer_stop(store->reactor, &store->timer);
        store->backend->destroy(store);
        closed(arg);
    }
}

static void look(struct store *store) {
    if (store->state_changed) {
        store->state_changed = false;
        if (store->options.changed != NULL && !store->closing)
            store->options.changed(store->options.arg, &store->status);
    }
    end_watches(store);
    end_leases(store);
    uint64_t next_ns = min_u64(look_at_orphans(store), refuse_expired(store));
    answer_refused(store);
    if (store->closing) {
        close_further(store);
        return;
    }
    if (next_ns != UINT64_MAX)
        reactor_timer_start(store->reactor, &store->timer, next_ns);
    enum store_state state = store->status.state;
    if ((state == STORE_READY || state == STORE_UNREACHABLE) && !list_empty(&store->queued))
        store->backend->work(store);
}

void store_backend_closed(struct store *store) {
    store->backend_closed = true;
    store_look_soon(store);
}

void store_close(struct store *store, void (*closed)(void *arg), void *arg) {
    assert(!store->closing);
    store->closing = true;
    store->closed = closed;
    store->closed_arg = arg;
    while (!list_empty(&store->watches))
        store_watch_stop(container_of(list_first(&store->watches), struct store_watch, node));
    while (!list_empty(&store->leases))
        store_lease_end(container_of(list_first(&store->leases), struct store_lease, node), false);
    store_look_soon(store);
}
