/* What carries the fleet's calls to nodes: Longhorn's service of theirs, and our own where that has no word for it. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/penstock/v1/node.pb-c.h"
#include "api/proto/penstock/v1/volume.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { LOOK_MS = 5000, MAKE_MS = 30000 };

struct carried {
    struct gateway_ask ask;
    struct fleet_call *call;
};

/* ---- answers ---- */

static enum control_state state_of(const char *name) {
    for (int state = CONTROL_CREATING; state <= CONTROL_ERROR; state++)
        if (strcmp(control_state_name((enum control_state)state), name) == 0)
            return (enum control_state)state;
    return CONTROL_PENDING; /* one that we do not know comes and goes */
}

static void put_address(struct fleet_thing *thing, const char *ip, int64_t port) {
    if (port > 0 && ip[0] != '\0')
        snprintf(thing->address, sizeof(thing->address), strchr(ip, ':') != NULL ? "[%.45s]:%u" : "%.45s:%u", ip, (unsigned)port);
}

static void hear_replica(struct fleet_call *call, const Spdkrpc__Replica *replica) {
    call->thing.state = state_of(replica->state);
    call->thing.bytes = replica->spec_size;
    fleet_copy(call->thing.text, sizeof(call->thing.text), replica->error_msg);
    put_address(&call->thing, replica->ip, replica->port_start);
}

static void hear_engine(struct fleet_call *call, const Spdkrpc__Engine *engine) {
    call->thing.state = state_of(engine->state);
    call->thing.bytes = engine->spec_size;
    fleet_copy(call->thing.text, sizeof(call->thing.text), engine->error_msg);
    fleet_copy(call->thing.volume, sizeof(call->thing.volume), engine->volume_name);
    call->thing.standby =
        call->thing.state == CONTROL_RUNNING && strncmp(engine->error_msg, CONTROL_STANDBY, sizeof(CONTROL_STANDBY) - 1) == 0;
    put_address(&call->thing, engine->ip, engine->port);
    call->thing.offered = engine->frontend[0] != '\0';
    call->thing.whole = engine->n_replica_mode_map > 0;
    for (size_t i = 0; i < engine->n_replica_mode_map; i++)
        call->thing.whole = call->thing.whole && engine->replica_mode_map[i]->value == SPDKRPC__REPLICA_MODE__RW;
    for (size_t i = 0; i < engine->n_snapshots; i++)
        call->thing.has_snapshot = call->thing.has_snapshot || strcmp(engine->snapshots[i]->key, call->snapshot) == 0;
    for (size_t i = 0; i < engine->n_replica_address_map && i < CONTROL_LEGS_MAX; i++) {
        struct control_leg_record *leg = &call->seen_legs[call->seen_leg_count++];
        fleet_copy(leg->name, sizeof(leg->name), engine->replica_address_map[i]->key);
        fleet_copy(leg->address, sizeof(leg->address), engine->replica_address_map[i]->value);
    }
}

static void hear_frontend(struct fleet_call *call, const Spdkrpc__EngineFrontend *frontend) {
    call->thing.state = state_of(frontend->state);
    call->thing.bytes = frontend->spec_size;
    fleet_copy(call->thing.text, sizeof(call->thing.text), frontend->error_msg);
    fleet_copy(call->thing.volume, sizeof(call->thing.volume), frontend->volume_name);
}

static void hear_clone(struct fleet_call *call, const Penstock__V1__GetCloneResponse *clone) {
    call->thing.presence = clone->state[0] == '\0' ? FLEET_ABSENT : FLEET_PRESENT;
    call->thing.state = strcmp(clone->state, "complete") == 0 ? CONTROL_RUNNING
                        : strcmp(clone->state, "error") == 0  ? CONTROL_ERROR
                                                              : CONTROL_PENDING;
    call->thing.percent = clone->percent;
    fleet_copy(call->thing.text, sizeof(call->thing.text), clone->text);
}

static void hear_node(struct fleet_call *call, const Penstock__V1__Node *node) {
    for (size_t i = 0; node != NULL && i < node->n_disks && call->disk_count < array_count(call->disks); i++) {
        const Penstock__V1__Disk *disk = node->disks[i];
        struct fleet_candidate *to = &call->disks[call->disk_count++];
        fleet_copy(to->node, sizeof(to->node), call->node);
        fleet_copy(to->disk, sizeof(to->disk), disk->name);
        to->free_bytes = disk->free_bytes;
        to->ready = strcmp(disk->state, "ready") == 0;
        if (!to->ready)
            snprintf(to->text, sizeof(to->text), "it is in state %.20s%s%.140s", disk->state, disk->reason[0] != '\0' ? ": " : "",
                     disk->reason);
    }
}

static void hear(struct fleet_call *call, const ProtobufCMessage *message) {
    const ProtobufCMessageDescriptor *is = message->descriptor;
    call->thing.presence = FLEET_PRESENT;
    if (is == &spdkrpc__replica__descriptor)
        hear_replica(call, (const Spdkrpc__Replica *)message);
    else if (is == &spdkrpc__engine__descriptor)
        hear_engine(call, (const Spdkrpc__Engine *)message);
    else if (is == &spdkrpc__engine_frontend__descriptor)
        hear_frontend(call, (const Spdkrpc__EngineFrontend *)message);
    else if (is == &penstock__v1__get_clone_response__descriptor)
        hear_clone(call, (const Penstock__V1__GetCloneResponse *)message);
    else if (is == &penstock__v1__get_node_response__descriptor)
        hear_node(call, ((const Penstock__V1__GetNodeResponse *)message)->node);
}

static enum fleet_answer answer_of(const struct fleet_call *call, enum grpc_status status) {
    bool makes = call->act == FLEET_REPLICA_CREATE || call->act == FLEET_ENGINE_CREATE;
    switch (status) {
    case GRPC_OK: return FLEET_DONE;
    case GRPC_NOT_FOUND: return FLEET_NOT_THERE;
    case GRPC_UNAVAILABLE:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_CANCELLED:
    case GRPC_INTERNAL:
    case GRPC_RESOURCE_EXHAUSTED: return FLEET_NO_ANSWER;
    case GRPC_ALREADY_EXISTS: return makes ? FLEET_NO_ANSWER : FLEET_NOT_DONE; /* made meanwhile: it is looked at again */
    default: return FLEET_NOT_DONE;
    }
}

static void answered(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct carried *carried = container_of(ask, struct carried, ask);
    struct fleet_call *call = carried->call;
    call->answer = answer_of(call, ask->status);
    if (message != NULL)
        hear(call, message);
    else
        snprintf(call->text, sizeof(call->text), "%s", ask->text[0] != '\0' ? ask->text : grpc_status_name(ask->status));
    free(carried);
    call->done(call);
}

/* ---- questions ---- */

static void ask(struct gateway *gateway, struct fleet_call *call, const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *receives) {
    struct carried *carried = calloc(1, sizeof(*carried));
    assert(carried != NULL);
    carried->call = call;
    carried->ask.done = answered;
    gateway_ask_node(gateway, &carried->ask, call->node, method, request, receives,
                     call->act <= FLEET_LOOK_FRONTEND ? LOOK_MS : MAKE_MS);
}

#define OWN_METHOD(service, method) "/" service "/" method

static void look(struct gateway *gateway, struct fleet_call *call) {
    Penstock__V1__GetNodeRequest node = PENSTOCK__V1__GET_NODE_REQUEST__INIT;
    Penstock__V1__GetVolumeRequest volume = PENSTOCK__V1__GET_VOLUME_REQUEST__INIT;
    Spdkrpc__ReplicaGetRequest replica = SPDKRPC__REPLICA_GET_REQUEST__INIT;
    Penstock__V1__GetCloneRequest clone = PENSTOCK__V1__GET_CLONE_REQUEST__INIT;
    Spdkrpc__EngineGetRequest engine = SPDKRPC__ENGINE_GET_REQUEST__INIT;
    Spdkrpc__EngineFrontendGetRequest frontend = SPDKRPC__ENGINE_FRONTEND_GET_REQUEST__INIT;
    volume.name = replica.name = clone.engine = engine.name = frontend.name = call->name;
    switch (call->act) {
    case FLEET_LOOK_NODE:
        ask(gateway, call, OWN_METHOD(GATEWAY_OWN_SERVICE, "GetNode"), &node.base, &penstock__v1__get_node_response__descriptor);
        break;
    case FLEET_LOOK_VOLUME:
        ask(gateway, call, OWN_METHOD(GATEWAY_VOLUME_SERVICE, "GetVolume"), &volume.base,
            &penstock__v1__get_volume_response__descriptor);
        break;
    case FLEET_LOOK_REPLICA: ask(gateway, call, "ReplicaGet", &replica.base, &spdkrpc__replica__descriptor); break;
    case FLEET_LOOK_ENGINE: ask(gateway, call, "EngineGet", &engine.base, &spdkrpc__engine__descriptor); break;
    case FLEET_LOOK_CLONE:
        ask(gateway, call, OWN_METHOD(GATEWAY_OWN_SERVICE, "GetClone"), &clone.base,
            &penstock__v1__get_clone_response__descriptor);
        break;
    default: ask(gateway, call, "EngineFrontendGet", &frontend.base, &spdkrpc__engine_frontend__descriptor); break;
    }
}

static void replica_create(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__ReplicaCreateRequest request = SPDKRPC__REPLICA_CREATE_REQUEST__INIT;
    request.name = call->name;
    request.lvs_name = call->disk;
    request.spec_size = call->bytes;
    request.port_count = 1;
    ask(gateway, call, "ReplicaCreate", &request.base, &spdkrpc__replica__descriptor);
}

static void replica_delete(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__ReplicaDeleteRequest request = SPDKRPC__REPLICA_DELETE_REQUEST__INIT;
    request.name = call->name;
    request.cleanup_required = 1;
    ask(gateway, call, "ReplicaDelete", &request.base, &google__protobuf__empty__descriptor);
}

static void engine_create(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__EngineCreateRequest request = SPDKRPC__ENGINE_CREATE_REQUEST__INIT;
    Spdkrpc__EngineCreateRequest__ReplicaAddressMapEntry entries[CONTROL_LEGS_MAX], *map[CONTROL_LEGS_MAX];
    for (unsigned i = 0; i < call->leg_count; i++) {
        map[i] = &entries[i];
        spdkrpc__engine_create_request__replica_address_map_entry__init(map[i]);
        map[i]->key = call->legs[i].name;
        map[i]->value = call->legs[i].address;
    }
    request.name = call->name;
    request.volume_name = call->volume;
    request.spec_size = call->bytes;
    request.frontend = call->frontend[0] != '\0' ? (char *)"spdk-tcp-nvmf" : (char *)"";
    request.port_count = 1;
    request.replica_address_map = map;
    request.n_replica_address_map = call->leg_count;
    ask(gateway, call, "EngineCreate", &request.base, &spdkrpc__engine__descriptor);
}

static void engine_change(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__EngineDeleteRequest delete = SPDKRPC__ENGINE_DELETE_REQUEST__INIT;
    Spdkrpc__EngineExpandRequest expand = SPDKRPC__ENGINE_EXPAND_REQUEST__INIT;
    Spdkrpc__EngineReplicaAddRequest add = SPDKRPC__ENGINE_REPLICA_ADD_REQUEST__INIT;
    Spdkrpc__EngineReplicaDeleteRequest remove = SPDKRPC__ENGINE_REPLICA_DELETE_REQUEST__INIT;
    Spdkrpc__SnapshotRequest revert = SPDKRPC__SNAPSHOT_REQUEST__INIT;
    Spdkrpc__EngineSetTargetListenerANAStateRequest promote = SPDKRPC__ENGINE_SET_TARGET_LISTENER_ANASTATE_REQUEST__INIT;
    const ProtobufCMessageDescriptor *empty = &google__protobuf__empty__descriptor;
    promote.ana_state = (char *)NAMES_ANA_OPTIMIZED;
    revert.snapshot_name = call->snapshot;
    delete.name = promote.name = expand.name = revert.name = add.engine_name = remove.engine_name = call->name;
    expand.size = call->bytes;
    add.replica_name = remove.replica_name = call->legs[0].name;
    add.replica_address = call->legs[0].address;
    switch (call->act) {
    case FLEET_ENGINE_DELETE: ask(gateway, call, "EngineDelete", &delete.base, empty); break;
    case FLEET_ENGINE_PROMOTE: ask(gateway, call, "EngineSetTargetListenerANAState", &promote.base, empty); break;
    case FLEET_ENGINE_EXPAND: ask(gateway, call, "EngineExpand", &expand.base, empty); break;
    case FLEET_ENGINE_ADD: ask(gateway, call, "EngineReplicaAdd", &add.base, empty); break;
    case FLEET_ENGINE_REVERT: ask(gateway, call, "EngineSnapshotRevert", &revert.base, empty); break;
    default: ask(gateway, call, "EngineReplicaDelete", &remove.base, empty); break;
    }
}

static void engine_clone(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__EngineSnapshotCloneRequest request = SPDKRPC__ENGINE_SNAPSHOT_CLONE_REQUEST__INIT;
    char here[CONTROL_ADDRESS_SIZE];
    gateway_put_address(gateway, GATEWAY_PEER_PORT, here);
    request.name = call->name;
    request.snapshot_name = call->snapshot;
    request.src_engine_name = call->source;
    request.src_engine_address = here;
    request.clone_mode = SPDKRPC__CLONE_MODE__CLONE_MODE_FULL_COPY;
    ask(gateway, call, "EngineSnapshotClone", &request.base, &google__protobuf__empty__descriptor);
}

static void frontend_change(struct gateway *gateway, struct fleet_call *call) {
    Spdkrpc__EngineFrontendCreateRequest create = SPDKRPC__ENGINE_FRONTEND_CREATE_REQUEST__INIT;
    Spdkrpc__EngineFrontendDeleteRequest delete = SPDKRPC__ENGINE_FRONTEND_DELETE_REQUEST__INIT;
    Spdkrpc__EngineFrontendExpandRequest expand = SPDKRPC__ENGINE_FRONTEND_EXPAND_REQUEST__INIT;
    create.name = delete.name = expand.name = call->name;
    create.volume_name = call->volume;
    create.engine_name = call->engine;
    create.spec_size = expand.size = call->bytes;
    create.target_address = call->target;
    create.frontend = call->frontend;
    if (call->act == FLEET_FRONTEND_CREATE)
        ask(gateway, call, "EngineFrontendCreate", &create.base, &spdkrpc__engine_frontend__descriptor);
    else if (call->act == FLEET_FRONTEND_DELETE)
        ask(gateway, call, "EngineFrontendDelete", &delete.base, &google__protobuf__empty__descriptor);
    else
        ask(gateway, call, "EngineFrontendExpand", &expand.base, &google__protobuf__empty__descriptor);
}

void gateway_fleet_call(struct gateway *gateway, struct fleet_call *call) {
    switch (call->act) {
    case FLEET_REPLICA_CREATE: replica_create(gateway, call); break;
    case FLEET_REPLICA_DELETE: replica_delete(gateway, call); break;
    case FLEET_ENGINE_CLONE: engine_clone(gateway, call); break;
    case FLEET_ENGINE_CREATE: engine_create(gateway, call); break;
    case FLEET_ENGINE_DELETE:
    case FLEET_ENGINE_PROMOTE:
    case FLEET_ENGINE_EXPAND:
    case FLEET_ENGINE_ADD:
    case FLEET_ENGINE_REMOVE:
    case FLEET_ENGINE_REVERT: engine_change(gateway, call); break;
    case FLEET_FRONTEND_CREATE:
    case FLEET_FRONTEND_DELETE:
    case FLEET_FRONTEND_EXPAND: frontend_change(gateway, call); break;
    default: look(gateway, call); break;
    }
}
