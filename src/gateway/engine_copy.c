/* Rebuilds that an engine's mirror makes by itself, as callers of the rebuilding calls ask for them: at the replica's node. The
 * engine's node tells that one which engine has the replica; how far it is copied to, and how fast, is the engine's to say. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/penstock/v1/node.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { ASK_MS = 5000 };
#define OWN_PATH "/" GATEWAY_OWN_SERVICE "/"

/* ---- the engine's node tells ---- */

struct noting {
    struct gateway_ask ask;
    struct grpc_call *call;
};

/* A node that does not want to know (another make) has no way to ask either. */
static void noted(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct noting *noting = container_of(ask, struct noting, ask);
    (void)message;
    gateway_reply_empty(noting->call);
    free(noting);
}

void gateway_answer_added(struct gateway_pending *pending) {
    struct gateway *gateway = gateway_of(pending->call);
    struct noting *noting = gateway->stopping ? NULL : calloc(1, sizeof(*noting));
    Penstock__V1__NoteEngineRequest request = PENSTOCK__V1__NOTE_ENGINE_REQUEST__INIT;
    char address[CONTROL_ADDRESS_SIZE];
    if (noting == NULL) {
        gateway_answer_empty(pending);
        return;
    }
    gateway_put_address(gateway, GATEWAY_PEER_PORT, address);
    noting->call = pending->call;
    noting->ask.done = noted;
    request.replica = pending->legs[0].name;
    request.engine = (char *)pending->goal.name;
    request.engine_address = address;
    gateway_ask(gateway, &noting->ask, pending->legs[0].address, OWN_PATH "NoteEngine", &request.base,
                &penstock__v1__note_engine_response__descriptor, ASK_MS);
}

static void answer_noted(struct gateway_pending *pending) {
    Penstock__V1__NoteEngineResponse answer = PENSTOCK__V1__NOTE_ENGINE_RESPONSE__INIT;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_note_engine(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__NoteEngineRequest *request = (const Penstock__V1__NoteEngineRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_REPLICA_NOTE, request->replica, answer_noted);
    if (pending == NULL)
        return;
    pending->goal.engine = request->engine;
    pending->goal.target = request->engine_address;
    gateway_start(pending);
}

/* ---- the engine's node is asked ---- */

/* False: the call was ended. */
static bool find_leg(struct grpc_call *call, const char *name, const char *replica, const struct control_engine **ret_engine,
                     unsigned *ret_at) {
    const struct control_engine *engine = control_find_engine(gateway_of(call)->options.control, name);
    unsigned at = 0, count = engine == NULL ? 0 : engine->record.leg_count;
    while (at < count && strcmp(engine->record.legs[at].name, replica) != 0)
        at++;
    *ret_engine = engine;
    *ret_at = at;
    if (at < count)
        return true;
    grpc_call_endf(call, GRPC_NOT_FOUND, "engine '%s' has no replica '%s'", name, replica);
    return false;
}

static void answer_rebuild(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__GetRebuildRequest *request = (const Penstock__V1__GetRebuildRequest *)message;
    const struct control_engine *engine;
    Penstock__V1__GetRebuildResponse answer = PENSTOCK__V1__GET_REBUILD_RESPONSE__INIT;
    unsigned at, source = 0;
    if (!find_leg(call, request->engine, request->replica, &engine, &at))
        return;
    unsigned count = engine->record.leg_count;
    while (source < count && (source == at || engine->legs[source].mode != CONTROL_LEG_RW))
        source++;
    const struct control_leg *leg = &engine->legs[at];
    answer.percent = leg->mode == CONTROL_LEG_RW ? 100 : leg->percent;
    answer.state = (char *)(leg->mode == CONTROL_LEG_RW    ? "complete"
                            : leg->mode == CONTROL_LEG_ERR ? "error"
                            : leg->out_since_ns != 0       ? "starting"
                                                           : "in_progress");
    answer.text = (char *)leg->text;
    if (source < count) {
        answer.source = (char *)engine->record.legs[source].name;
        answer.source_address = (char *)engine->record.legs[source].address;
    }
    grpc_call_reply(call, &answer.base);
}

void gateway_get_rebuild(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_rebuild);
}

static void answer_limited(struct gateway_pending *pending) {
    Penstock__V1__LimitRebuildResponse answer = PENSTOCK__V1__LIMIT_REBUILD_RESPONSE__INIT;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_limit_rebuild(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__LimitRebuildRequest *request = (const Penstock__V1__LimitRebuildRequest *)message;
    const struct control_engine *engine;
    unsigned at;
    if (!find_leg(call, request->engine, request->replica, &engine, &at))
        return;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_LIMIT, request->engine, answer_limited);
    if (pending == NULL)
        return;
    pending->goal.bytes = request->bytes_per_s;
    gateway_start(pending);
}

/* ---- the replica's node asks ---- */

/* It is not known here, or not any more: nothing is told. */
static void check_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct noting *asked = container_of(ask, struct noting, ask);
    const Penstock__V1__GetRebuildResponse *told = (const Penstock__V1__GetRebuildResponse *)message;
    Spdkrpc__ReplicaRebuildingDstShallowCopyCheckResponse answer =
        SPDKRPC__REPLICA_REBUILDING_DST_SHALLOW_COPY_CHECK_RESPONSE__INIT;
    if (told == NULL && ask->status != GRPC_NOT_FOUND && ask->status != GRPC_UNIMPLEMENTED) {
        grpc_call_endf(asked->call, GRPC_UNAVAILABLE, "its engine's node does not tell: %.200s", ask->text);
        free(asked);
        return;
    }
    if (told != NULL) {
        answer.src_replica_name = told->source;
        answer.src_replica_address = told->source_address;
        answer.state = answer.total_state = told->state;
        answer.progress = answer.total_progress = told->percent;
        answer.error = strcmp(told->state, "error") == 0 ? told->text : (char *)"";
    }
    grpc_call_reply(asked->call, &answer.base);
    free(asked);
}

/* False: no engine is known to have it. Else the call will be answered. */
static bool ask_engine(struct grpc_call *call, const struct control_replica *replica, const char *method,
                       const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives,
                       void (*done)(struct gateway_ask *ask, const ProtobufCMessage *message)) {
    struct gateway *gateway = gateway_of(call);
    struct noting *asked = replica->record.engine[0] == '\0' || gateway->stopping ? NULL : calloc(1, sizeof(*asked));
    if (asked == NULL)
        return false;
    asked->call = call;
    asked->ask.done = done;
    gateway_ask(gateway, &asked->ask, replica->record.engine_address, method, request, receives, ASK_MS);
    return true;
}

bool gateway_check_engine(struct grpc_call *call, const struct control_replica *replica) {
    Penstock__V1__GetRebuildRequest request = PENSTOCK__V1__GET_REBUILD_REQUEST__INIT;
    request.engine = (char *)replica->record.engine;
    request.replica = (char *)replica->record.name;
    return ask_engine(call, replica, OWN_PATH "GetRebuild", &request.base, &penstock__v1__get_rebuild_response__descriptor,
                      check_told);
}

static void limit_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct noting *asked = container_of(ask, struct noting, ask);
    if (message != NULL)
        gateway_reply_empty(asked->call);
    else
        grpc_call_endf(asked->call, ask->status == GRPC_NOT_FOUND ? GRPC_UNKNOWN : ask->status, "its engine's node: %.200s",
                       ask->text);
    free(asked);
}

bool gateway_limit_engine(struct grpc_call *call, const struct control_replica *replica, uint64_t bytes_per_s) {
    Penstock__V1__LimitRebuildRequest request = PENSTOCK__V1__LIMIT_REBUILD_REQUEST__INIT;
    request.engine = (char *)replica->record.engine;
    request.replica = (char *)replica->record.name;
    request.bytes_per_s = bytes_per_s;
    return ask_engine(call, replica, OWN_PATH "LimitRebuild", &request.base, &penstock__v1__limit_rebuild_response__descriptor,
                      limit_told);
}

/* ---- clones ---- */

static void clone_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct noting *asked = container_of(ask, struct noting, ask);
    const Penstock__V1__GetCloneResponse *told = (const Penstock__V1__GetCloneResponse *)message;
    Spdkrpc__ReplicaSnapshotCloneDstStatusCheckResponse answer = SPDKRPC__REPLICA_SNAPSHOT_CLONE_DST_STATUS_CHECK_RESPONSE__INIT;
    if (told == NULL && ask->status != GRPC_NOT_FOUND && ask->status != GRPC_UNIMPLEMENTED) {
        grpc_call_endf(asked->call, GRPC_UNAVAILABLE, "its engine's node does not tell: %.200s", ask->text);
        free(asked);
        return;
    }
    if (told != NULL) {
        answer.is_cloning = strcmp(told->state, "starting") == 0 || strcmp(told->state, "in_progress") == 0;
        answer.src_replica_name = told->source;
        answer.src_replica_address = told->source_address;
        answer.snapshot_name = told->snapshot;
        answer.state = told->state;
        answer.progress = told->percent;
        answer.error = told->text;
    }
    grpc_call_reply(asked->call, &answer.base);
    free(asked);
}

/* A linked clone is one for as long as its disk says so. */
static bool answer_linked(struct grpc_call *call, const struct control_replica *replica) {
    struct gateway_scratch scratch = {0};
    const Spdkrpc__LinkedCloneInfo *link = gateway_put_replica(gateway_of(call), replica, &scratch)->linked_clone_info;
    Spdkrpc__ReplicaSnapshotCloneDstStatusCheckResponse answer = SPDKRPC__REPLICA_SNAPSHOT_CLONE_DST_STATUS_CHECK_RESPONSE__INIT;
    if (link != NULL) {
        answer.src_replica_name = link->source_replica_name;
        answer.snapshot_name = link->source_snapshot_name;
        answer.state = (char *)"complete";
        answer.progress = 100;
        grpc_call_reply(call, &answer.base);
    }
    gateway_scratch_free(&scratch);
    return link != NULL;
}

void gateway_check_engine_clone(struct grpc_call *call, const struct control_replica *replica) {
    Penstock__V1__GetCloneRequest request = PENSTOCK__V1__GET_CLONE_REQUEST__INIT;
    Spdkrpc__ReplicaSnapshotCloneDstStatusCheckResponse nothing = SPDKRPC__REPLICA_SNAPSHOT_CLONE_DST_STATUS_CHECK_RESPONSE__INIT;
    request.engine = (char *)replica->record.engine;
    if (!answer_linked(call, replica) &&
        !ask_engine(call, replica, OWN_PATH "GetClone", &request.base, &penstock__v1__get_clone_response__descriptor, clone_told))
        grpc_call_reply(call, &nothing.base);
}
