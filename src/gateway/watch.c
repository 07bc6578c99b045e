/* Watches: a bare "something changed" for each change of a kind of objects, however many of them a slow caller misses. */
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "gateway/internal.h"

struct watch {
    struct control_watcher watcher;
    struct list_node node; /* of the gateway's */
    struct grpc_call *call;
    bool missed; /* a change while the caller did not read */
};

static void tell(struct watch *watch) {
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    if (watch->call->above_mark) {
        watch->missed = true; /* one message tells of any number of changes */
        return;
    }
    watch->missed = false;
    (void)grpc_call_send(watch->call, &empty.base);
}

static void changed(struct control_watcher *watcher) { tell(container_of(watcher, struct watch, watcher)); }

static void writable(struct grpc_call *call) {
    struct watch *watch = call->arg;
    if (watch->missed)
        tell(watch);
}

static void watch_end(struct watch *watch, enum grpc_status status, const char *text) {
    control_unwatch(&watch->watcher);
    list_remove(&watch->node);
    grpc_call_end(watch->call, status, text);
    free(watch);
}

static void cancelled(struct grpc_call *call) { watch_end(call->arg, GRPC_CANCELLED, NULL); }

static void watch_begin(struct grpc_call *call, enum control_kind kind) {
    struct watch *watch = gateway_of(call)->stopping ? NULL : calloc(1, sizeof(*watch));
    if (watch == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    watch->call = call;
    watch->watcher.changed = changed;
    call->arg = watch;
    call->cancelled = cancelled;
    call->writable = writable;
    control_watch(gateway_of(call)->options.control, kind, &watch->watcher);
    list_push_back(&gateway_of(call)->watches, &watch->node);
}

void gateway_replica_watch(struct grpc_call *call, const ProtobufCMessage *request) {
    (void)request;
    watch_begin(call, CONTROL_REPLICAS);
}

void gateway_engine_watch(struct grpc_call *call, const ProtobufCMessage *request) {
    (void)request;
    watch_begin(call, CONTROL_ENGINES);
}

void gateway_frontend_watch(struct grpc_call *call, const ProtobufCMessage *request) {
    (void)request;
    watch_begin(call, CONTROL_FRONTENDS);
}

void gateway_watches_end(struct gateway *gateway) {
    while (!list_empty(&gateway->watches))
        watch_end(list_entry(list_first(&gateway->watches), struct watch, node), GRPC_UNAVAILABLE, "the daemon is ending");
}
