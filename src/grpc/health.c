#include "grpc/health.h"

#include <stdlib.h>

#include "api/proto/grpc/health/v1/health.pb-c.h"

typedef Grpc__Health__V1__HealthCheckRequest Request;
typedef Grpc__Health__V1__HealthCheckResponse Response;

struct known {
    struct list_node node;
    bool serves;
    char name[];
};

struct grpc_health {
    struct list services;
    struct list watchers;
};

struct watcher {
    struct list_node node;
    struct grpc_call *call;
    const char *service; /* in the call's request */
    int told;            /* the state that the client knows; -1 = none */
};

static struct known *find(struct grpc_health *health, const char *name) {
    list_for_each (&health->services, struct known, known, node)
        if (strcmp(known->name, name) == 0)
            return known;
    return NULL;
}

static int state_of(struct grpc_health *health, const char *name) {
    const struct known *known = find(health, name);
    return known == NULL   ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
           : known->serves ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                           : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

static void on_check(struct grpc_call *call, const ProtobufCMessage *message) {
    struct grpc_health *health = call->service_arg;
    const Request *request = (const Request *)message;
    Response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    if (find(health, request->service) == NULL) {
        grpc_call_end(call, GRPC_NOT_FOUND, "no such service");
        return;
    }
    response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)state_of(health, request->service);
    grpc_call_reply(call, &response.base);
}

/* States that come while the client does not read are told as one, the latest. */
static void tell(struct grpc_health *health, struct watcher *watcher) {
    int state = state_of(health, watcher->service);
    if (state == watcher->told || watcher->call->above_mark)
        return;
    Response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)state;
    watcher->told = state;
    (void)grpc_call_send(watcher->call, &response.base);
}

static void on_writable(struct grpc_call *call) { tell(call->service_arg, call->arg); }

static void on_cancelled(struct grpc_call *call) {
    struct watcher *watcher = call->arg;
    list_remove(&watcher->node);
    free(watcher);
    grpc_call_end(call, GRPC_CANCELLED, NULL);
}

static void on_watch(struct grpc_call *call, const ProtobufCMessage *message) {
    struct grpc_health *health = call->service_arg;
    struct watcher *watcher = malloc(sizeof(*watcher));
    if (watcher == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    *watcher = (struct watcher){.call = call, .service = ((const Request *)message)->service, .told = -1};
    list_push_back(&health->watchers, &watcher->node);
    call->arg = watcher;
    call->cancelled = on_cancelled;
    call->writable = on_writable;
    tell(health, watcher);
}

static const struct grpc_method methods[] = {
    {"Check", GRPC_UNARY, &grpc__health__v1__health_check_request__descriptor,
     &grpc__health__v1__health_check_response__descriptor, on_check},
    {"Watch", GRPC_SERVER_STREAM, &grpc__health__v1__health_check_request__descriptor,
     &grpc__health__v1__health_check_response__descriptor, on_watch},
};
static const struct grpc_service service = {"grpc.health.v1.Health", methods, array_count(methods)};

struct grpc_health *grpc_health_create(struct grpc_server *server) {
    struct grpc_health *health = calloc(1, sizeof(*health));
    if (health == NULL)
        return NULL;
    list_init(&health->services);
    list_init(&health->watchers);
    if (grpc_health_set(health, "", true) && grpc_server_add(server, &service, health))
        return health;
    grpc_health_destroy(health);
    return NULL;
}

bool grpc_health_set(struct grpc_health *health, const char *name, bool serves) {
    struct known *known = find(health, name);
    if (known == NULL) {
        size_t size = strlen(name) + 1;
        known = malloc(sizeof(*known) + size);
        if (known == NULL)
            return false;
        memcpy(known->name, name, size);
        list_push_back(&health->services, &known->node);
    }
    known->serves = serves;
    list_for_each (&health->watchers, struct watcher, watcher, node)
        tell(health, watcher);
    return true;
}

void grpc_health_destroy(struct grpc_health *health) {
    assert(list_empty(&health->watchers));
    list_for_each_safe (&health->services, struct known, known, node)
        free(known);
    free(health);
}
