/* Frontends that are block devices: what their calls do besides asking the engine's node. The device is attached when its engine
 * is known, and again when it has grown; it is frozen while a snapshot is made, so that file systems on it are whole in there. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "gateway/internal.h"

enum { SNAPSHOT_MS = CONTROL_LEASE_MS - 500 }; /* the device goes on by itself afterwards */

struct device_call {
    struct control_goal goal;
    struct gateway_ask ask;
    struct grpc_call *call;
    char name[CONTROL_NAME_MAX + 1];
    void (*attached)(struct grpc_call *call, const ProtobufCMessage *request, const struct error *error);
    const ProtobufCMessage *request;
    /* Of a snapshot: what the engine's node answered. */
    enum grpc_status status;
    char text[256], snapshot[CONTROL_NAME_MAX + 1];
};

static struct device_call *create(struct grpc_call *call, const ProtobufCMessage *request, const char *name) {
    struct device_call *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    device->call = call;
    device->request = request;
    snprintf(device->name, sizeof(device->name), "%s", name);
    return device;
}

static void start(struct device_call *device, enum control_verb verb, void (*done)(struct control_goal *goal)) {
    device->goal = (struct control_goal){.verb = verb, .name = device->name, .done = done};
    control_goal_start(gateway_of(device->call)->options.control, &device->goal);
}

/* ---- attaching ---- */

static void attach_done(struct control_goal *goal) {
    struct device_call *device = container_of(goal, struct device_call, goal);
    device->attached(device->call, device->request, &goal->error);
    free(device);
}

void gateway_attach(struct grpc_call *call, const ProtobufCMessage *request, const char *name,
                    void (*attached)(struct grpc_call *call, const ProtobufCMessage *request, const struct error *error)) {
    struct device_call *device = create(call, request, name);
    if (device == NULL)
        return;
    device->attached = attached;
    start(device, CONTROL_FRONTEND_ATTACH, attach_done);
}

/* ---- snapshots ---- */

static void thawed(struct control_goal *goal) {
    struct device_call *device = container_of(goal, struct device_call, goal);
    Spdkrpc__SnapshotResponse answer = SPDKRPC__SNAPSHOT_RESPONSE__INIT;
    answer.snapshot_name = device->snapshot;
    if (device->status != GRPC_OK)
        grpc_call_end(device->call, device->status, device->text);
    else if (goal->error.code != ERROR_NONE)
        grpc_call_endf(device->call, GRPC_INTERNAL, "snapshot %s was made, but the device did not stand still for it: %.160s",
                       device->snapshot, goal->error.text);
    else
        grpc_call_reply(device->call, &answer.base);
    free(device);
}

static void made(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct device_call *device = container_of(ask, struct device_call, ask);
    const Spdkrpc__SnapshotResponse *answer = (const Spdkrpc__SnapshotResponse *)message;
    device->status = answer == NULL ? ask->status : GRPC_OK;
    snprintf(device->text, sizeof(device->text), "%s", ask->text);
    snprintf(device->snapshot, sizeof(device->snapshot), "%.63s", answer == NULL ? "" : answer->snapshot_name);
    start(device, CONTROL_FRONTEND_RESUME, thawed);
}

static void frozen(struct control_goal *goal) {
    struct device_call *device = container_of(goal, struct device_call, goal);
    const struct control_frontend *frontend = control_find_frontend(goal->control, device->name);
    if (goal->error.code != ERROR_NONE || frontend == NULL) {
        gateway_fail(device->call, &goal->error, true);
        free(device);
        return;
    }
    Spdkrpc__SnapshotRequest request = *(const Spdkrpc__SnapshotRequest *)device->request;
    request.name = (char *)frontend->record.engine;
    device->ask.done = made;
    gateway_ask(gateway_of(device->call), &device->ask, frontend->record.target, "EngineSnapshotCreate", &request.base,
                &spdkrpc__snapshot_response__descriptor, SNAPSHOT_MS);
}

void gateway_snapshot_frozen(struct grpc_call *call, const ProtobufCMessage *request, const char *name) {
    struct device_call *device = create(call, request, name);
    if (device != NULL)
        start(device, CONTROL_FRONTEND_SUSPEND, frozen);
}
