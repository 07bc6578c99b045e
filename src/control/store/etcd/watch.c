/* A watch: one stream, made anew from the first revision that was not told, however it ends. */
#include <stdlib.h>

#include "control/store/etcd/internal.h"

struct etcd_watch {
    struct etcd_call call;
    struct store_watch *watch;
    struct list_node node;
    struct reactor_timer retry;
    /* Of an answer in parts: the events of its last revision, which may have more. */
    struct arena arena;
    struct store_event *events;
    uint32_t count;
};

static struct etcd_watch *of(struct etcd_call *call) { return container_of(call, struct etcd_watch, call); }

static void forget_events(struct etcd_watch *it) {
    arena_fini(&it->arena);
    it->events = NULL;
    it->count = 0;
}

static void retry_later(struct etcd_watch *it) {
    struct reactor *reactor = it->call.etcd->store.reactor;
    reactor_timer_start(reactor, &it->retry, reactor_now_ns(reactor) + ETCD_RETRY_MS * NS_PER_MS);
}

/* Appends what the watch has not been told. False: no memory. */
static bool keep_events(struct etcd_watch *it, const Etcdserverpb__WatchResponse *answer) {
    for (size_t i = 0; i < answer->n_events; i++) {
        const Etcdserverpb__Event *from = answer->events[i];
        if (from->kv == NULL || from->kv->mod_revision < it->watch->next_revision)
            continue;
        struct store_event *events = arena_grow(&it->arena, it->events, it->count, sizeof(*events));
        if (events == NULL)
            return false;
        it->events = events;
        struct store_event *event = &events[it->count];
        event->deleted = from->type == ETCDSERVERPB__EVENT__EVENT_TYPE__DELETE;
        if (!etcd_read_entry(&it->arena, from->kv, &event->entry))
            return false;
        it->count += event->entry.key != NULL;
    }
    return true;
}

/* Tells all but the events of the last revision if `part`. The watch may be gone afterwards. */
static void tell(struct etcd_watch *it, bool part, int64_t last_revision) {
    uint32_t count = it->count, whole = count;
    struct arena arena = it->arena;
    struct store_event *events = it->events;
    struct store_watch *watch = it->watch;
    if (part) {
        while (whole > 0 && events[whole - 1].entry.modify_revision == events[count - 1].entry.modify_revision)
            whole--;
        if (whole == 0)
            return;
        last_revision = events[whole - 1].entry.modify_revision;
    }
    arena_init(&it->arena);
    it->events = NULL;
    it->count = 0;
    bool kept = true;
    for (uint32_t i = whole; i < count && kept; i++) {
        struct store_event *rest = arena_grow(&it->arena, it->events, it->count, sizeof(*rest));
        struct store_entry *entry = &events[i].entry;
        kept = rest != NULL;
        if (!kept)
            break;
        it->events = rest;
        rest[it->count] = events[i];
        rest[it->count].entry.key = arena_copy(&it->arena, entry->key, strlen(entry->key));
        rest[it->count].entry.value = arena_copy(&it->arena, entry->value, entry->value_length);
        kept = rest[it->count].entry.key != NULL && rest[it->count].entry.value != NULL;
        it->count += kept;
    }
    bool told = kept && store_watch_tell(watch, events, whole, last_revision);
    bool here = watch->impl == (struct store_impl *)it;
    arena_fini(&arena);
    if (here && !told) { /* no memory: again, from where it is */
        etcd_call_cancel(&it->call);
        forget_events(it);
        retry_later(it);
    }
}

static void end(struct etcd_watch *it, const struct error *error) { store_watch_end(it->watch, error); }

static void on_cancelled(struct etcd_watch *it, const Etcdserverpb__WatchResponse *answer) {
    struct error error;
    if (answer->compact_revision > 0)
        store_set_compacted(&error, it->watch->next_revision, answer->compact_revision);
    else if (strstr(answer->cancel_reason, "permission") != NULL)
        error_set(&error, ERROR_PERMISSION, "etcd: %.200s", answer->cancel_reason);
    else {
        if (it->call.etcd->user != NULL && strstr(answer->cancel_reason, "token") != NULL &&
            it->call.token == it->call.etcd->token)
            etcd_token_lost(it->call.etcd);
        etcd_call_cancel(&it->call);
        forget_events(it);
        retry_later(it);
        return;
    }
    end(it, &error);
}

static void on_message(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__WatchResponse *answer = (const void *)got;
    struct etcd_watch *it = of(call);
    if (answer->canceled) {
        on_cancelled(it, answer);
        return;
    }
    if (!keep_events(it, answer)) {
        etcd_call_cancel(&it->call);
        forget_events(it);
        retry_later(it);
        return;
    }
    /* Only what has no events says how far the watch has come: when it begins, the past is still to be told. */
    int64_t last_revision = 0;
    if (answer->n_events > 0)
        last_revision =
            answer->events[answer->n_events - 1]->kv != NULL ? answer->events[answer->n_events - 1]->kv->mod_revision : 0;
    else if (!answer->created && !answer->fragment)
        last_revision = answer->header->revision;
    if (last_revision > 0)
        tell(it, answer->fragment, last_revision);
}

static void on_done(struct etcd_call *call) {
    struct etcd_watch *it = of(call);
    struct error error;
    forget_events(it);
    enum etcd_verdict verdict = etcd_call_verdict(call, &error);
    if (verdict == ETCD_REFUSED && error.code == ERROR_PERMISSION)
        end(it, &error);
    else
        retry_later(it); /* the endpoint may be fine, and end streams at once all the same */
}

static void start(struct etcd_watch *it) {
    struct etcd_store *etcd = etcd_of(it->watch->store);
    char low[STORE_KEY_MAX + 2], high[STORE_KEY_MAX + 2];
    if (list_linked(&it->call.node) || reactor_timer_armed(&it->retry))
        return;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    etcd_key_range(it->watch->key, it->watch->prefix, low, high, &create.key, &create.range_end);
    /* One earlier: etcd accepts a watch from the compacted revision itself, without that revision's deletions. */
    create.start_revision = it->watch->next_revision - 1;
    create.progress_notify = create.fragment = true;
    it->call.message = on_message;
    it->call.done = on_done;
    (void)etcd_call_start(&it->call, etcd, GRPC_BIDIRECTIONAL, "/etcdserverpb.Watch/Watch",
                          &etcdserverpb__watch_response__descriptor, &request.base, 0);
}

static void on_retry(struct reactor_timer *timer) {
    struct etcd_watch *it = container_of(timer, struct etcd_watch, retry);
    struct etcd_store *etcd = etcd_of(it->watch->store);
    etcd_probe_start(etcd);
    start(it);
}

void etcd_watch_start(struct store *store, struct store_watch *watch) {
    struct etcd_watch *it = calloc(1, sizeof(*it));
    if (it == NULL) {
        watch->refused = true;
        return;
    }
    it->watch = watch;
    it->call.etcd = etcd_of(store);
    it->retry.run = on_retry;
    watch->impl = (struct store_impl *)it;
    list_push_back(&etcd_of(store)->watches, &it->node);
    etcd_resume_soon(etcd_of(store));
}

void etcd_watch_stop(struct store *store, struct store_watch *watch) {
    struct etcd_watch *it = (struct etcd_watch *)watch->impl;
    watch->impl = NULL;
    reactor_timer_stop(store->reactor, &it->retry);
    etcd_call_cancel(&it->call);
    forget_events(it);
    list_remove(&it->node);
    free(it);
}

void etcd_watches_resume(struct etcd_store *etcd) {
    list_for_each_safe (&etcd->watches, struct etcd_watch, it, node)
        start(it);
}
