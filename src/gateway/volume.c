/* penstock.v1.VolumeService: requests become those of the fleet, volumes messages. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/penstock/v1/volume.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

/* ---- a volume as a message ---- */

static void put_replica(const struct control_engine *engine, const struct fleet_member *member,
                        Penstock__V1__VolumeReplica *answer) {
    static const char *const modes[] = {[CONTROL_LEG_WO] = "WO", [CONTROL_LEG_RW] = "RW", [CONTROL_LEG_ERR] = "ERR"};
    static const char *const changes[] = {[FLEET_STAYS] = "", [FLEET_COMES] = "adding", [FLEET_GOES] = "removing"};
    unsigned at;
    int mode = fleet_member_mode(engine, member, &at);
    penstock__v1__volume_replica__init(answer);
    answer->name = (char *)member->name;
    answer->node = (char *)member->node;
    answer->disk = (char *)member->disk;
    answer->change = (char *)changes[member->change];
    if (mode < 0)
        return;
    answer->address = (char *)engine->record.legs[at].address;
    answer->mode = (char *)modes[mode];
    answer->reason = (char *)engine->legs[at].text;
    answer->percent = engine->legs[at].percent;
    answer->copied_bytes = engine->legs[at].copied_bytes;
    answer->behind_bytes = engine->legs[at].behind_bytes;
}

static const char *health_of(const struct control_engine *engine) {
    unsigned whole = 0;
    if (engine->state != CONTROL_RUNNING)
        return engine->state == CONTROL_ERROR ? "faulted" : "";
    for (unsigned i = 0; i < engine->record.leg_count; i++)
        whole += engine->legs[i].mode == CONTROL_LEG_RW;
    return whole == engine->record.leg_count ? "healthy" : "degraded";
}

static void put_endpoint(const struct gateway *gateway, const struct fleet_record *record, const struct control_engine *engine,
                         Penstock__V1__Volume *answer, struct gateway_scratch *scratch) {
    const char *address = gateway->options.address;
    char nqn[NAMES_NQN_SIZE], *endpoint = gateway_scratch_take(scratch, 1, 2 * NAMES_NQN_SIZE);
    if (record->frontend[0] == '\0' || engine->record.port == 0 || engine->state != CONTROL_RUNNING)
        return;
    names_make_volume_nqn(record->name, nqn);
    snprintf(endpoint, (size_t)2 * NAMES_NQN_SIZE, strchr(address, ':') != NULL ? "nvmf://[%s]:%u/%s" : "nvmf://%s:%u/%s",
             address, (unsigned)engine->record.port, nqn);
    answer->endpoint = endpoint;
}

/* A volume that stands is as its engine is. */
static void put_standing(const struct gateway *gateway, const struct fleet_volume *volume, const struct control_engine *engine,
                         Penstock__V1__Volume *answer, struct gateway_scratch *scratch) {
    const struct observation *seen = control_seen(gateway->options.control);
    if (volume->record.revert != FLEET_NO_REVERT) { /* its engine comes and goes meanwhile */
        answer->state = (char *)"reverting";
        return;
    }
    if (engine == NULL) {
        answer->state = (char *)"error";
        answer->health = (char *)"faulted";
        answer->reason = (char *)"its engine is not there: somebody has deleted it";
        return;
    }
    const struct observed_mirror *mirror = seen == NULL ? NULL : observed_mirror(seen, engine->record.name);
    answer->state = (char *)(engine->state == CONTROL_PENDING ? "creating" : control_state_name(engine->state));
    answer->health = (char *)health_of(engine);
    answer->reason = (char *)(volume->waits_for[0] != '\0' ? volume->waits_for : engine->reason);
    answer->snapshot_count = mirror != NULL ? (uint32_t)json_array_size(mirror->tree) : 0;
    put_endpoint(gateway, &volume->record, engine, answer, scratch);
}

Penstock__V1__Volume *gateway_put_volume(const struct gateway *gateway, const struct fleet_volume *volume,
                                         struct gateway_scratch *scratch) {
    const struct fleet_record *record = &volume->record;
    const struct control_engine *engine = fleet_engine(gateway->options.fleet, volume);
    Penstock__V1__Volume *answer = gateway_scratch_take(scratch, 1, sizeof(*answer));
    char *engine_name = gateway_scratch_take(scratch, 1, CONTROL_NAME_MAX + 1);
    penstock__v1__volume__init(answer);
    fleet_engine_name(record, engine_name);
    answer->name = (char *)record->name;
    answer->size_bytes = record->bytes;
    answer->frontend = (char *)record->frontend;
    answer->node = (char *)gateway->options.address;
    answer->engine = engine_name;
    answer->replica_count = record->replicas;
    answer->replace_lost = record->replace;
    answer->nodes = gateway_scratch_take(scratch, record->node_count, sizeof(*answer->nodes));
    for (unsigned i = 0; i < record->node_count; i++)
        answer->nodes[answer->n_nodes++] = (char *)record->nodes[i];
    answer->replicas = gateway_scratch_take(scratch, record->member_count, sizeof(*answer->replicas));
    for (unsigned i = 0; i < record->member_count; i++) {
        Penstock__V1__VolumeReplica *replica = gateway_scratch_take(scratch, 1, sizeof(*replica));
        put_replica(engine, &record->members[i], replica);
        answer->replicas[answer->n_replicas++] = replica;
    }
    answer->reason = (char *)volume->waits_for;
    if (record->phase == FLEET_STANDING) {
        put_standing(gateway, volume, engine, answer, scratch);
    } else if (record->phase == FLEET_MAKING) {
        answer->state = (char *)"creating";
    } else if (record->phase == FLEET_DELETING) {
        answer->state = (char *)"terminating";
    } else {
        char *reason = gateway_scratch_take(scratch, 1, sizeof(record->failure) + sizeof(volume->waits_for) + 64);
        snprintf(reason, sizeof(record->failure) + sizeof(volume->waits_for) + 64, "%s%s%s", record->failure,
                 record->phase == FLEET_UNMAKING ? "; what there is of it is being taken away: " : "",
                 record->phase == FLEET_UNMAKING ? volume->waits_for : "");
        answer->state = (char *)"error";
        answer->reason = reason;
    }
    return answer;
}

/* ---- requests ---- */

struct wanting {
    struct fleet_request request;
    struct grpc_call *call;
    struct fleet_record as; /* of a clone: the volume that it is to be like */
    const char *nodes[FLEET_NODES_MAX];
};

/* Answers that have a volume have it in the same place. */
#define SAME_PLACE(Response)                                                                                                     \
    static_assert(offsetof(Penstock__V1__##Response, volume) == offsetof(Penstock__V1__AddReplicaResponse, volume),              \
                  "one writes all")
SAME_PLACE(CreateVolumeResponse);
SAME_PLACE(ExpandVolumeResponse);
SAME_PLACE(UpdateVolumeResponse);
SAME_PLACE(RemoveReplicaResponse);
SAME_PLACE(RevertVolumeResponse);
SAME_PLACE(CloneVolumeResponse);

static void answer_wanting(struct wanting *wanting) {
    const struct gateway *gateway = gateway_of(wanting->call);
    const struct fleet_volume *volume = fleet_find(gateway->options.fleet, wanting->request.name);
    struct gateway_scratch scratch = {0};
    Penstock__V1__AddReplicaResponse message = PENSTOCK__V1__ADD_REPLICA_RESPONSE__INIT;
    Penstock__V1__DeleteVolumeResponse deleted = PENSTOCK__V1__DELETE_VOLUME_RESPONSE__INIT;
    if (wanting->request.verb == FLEET_DELETE) {
        grpc_call_reply(wanting->call, &deleted.base);
        return;
    }
    if (volume == NULL) {
        grpc_call_endf(wanting->call, GRPC_NOT_FOUND, "volume %s was deleted meanwhile", wanting->request.name);
        return;
    }
    /* The answers differ in their type alone, which is the method's, but for the one that says more. */
    message.base.descriptor = wanting->call->method->response;
    message.volume = gateway_put_volume(gateway, volume, &scratch);
    message.replica = wanting->request.member;
    grpc_call_reply(wanting->call, &message.base);
    gateway_scratch_free(&scratch);
}

static void done(struct fleet_request *request) {
    struct wanting *wanting = container_of(request, struct wanting, request);
    if (request->error.code == ERROR_BUSY) /* a state that passes, and not the caller's */
        grpc_call_end(wanting->call, GRPC_FAILED_PRECONDITION, request->error.text);
    else if (request->error.code != ERROR_NONE)
        gateway_fail(wanting->call, &request->error, false);
    else
        answer_wanting(wanting);
    free(wanting);
}

/* NULL: the call was ended. */
static struct fleet_request *want(struct grpc_call *call, enum fleet_verb verb, const char *name) {
    struct wanting *wanting = gateway_of(call)->stopping ? NULL : calloc(1, sizeof(*wanting));
    if (wanting == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return NULL;
    }
    wanting->call = call;
    wanting->request =
        (struct fleet_request){.verb = verb, .name = name, .frontend = "", .replica = "", .snapshot = "", .done = done};
    return &wanting->request;
}

static void submit(struct grpc_call *call, struct fleet_request *request) {
    fleet_submit(gateway_of(call)->options.fleet, request);
}

static void create_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__CreateVolumeRequest *asked = (const Penstock__V1__CreateVolumeRequest *)message;
    struct fleet_request *request = want(call, FLEET_CREATE, asked->name);
    if (request == NULL)
        return;
    request->bytes = asked->size_bytes;
    request->replicas = asked->replica_count;
    request->frontend = asked->frontend[0] == '\0'             ? "spdk-tcp-nvmf"
                        : strcmp(asked->frontend, "none") == 0 ? ""
                                                               : asked->frontend;
    request->replace = asked->replace_lost != 0;
    request->nodes = (const char *const *)asked->nodes;
    request->node_count = asked->n_nodes;
    request->places = (const char *const *)asked->places;
    request->place_count = asked->n_places;
    submit(call, request);
}

static void expand_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__ExpandVolumeRequest *asked = (const Penstock__V1__ExpandVolumeRequest *)message;
    struct fleet_request *request = want(call, FLEET_EXPAND, asked->name);
    if (request == NULL)
        return;
    request->bytes = asked->size_bytes;
    submit(call, request);
}

static void update_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__UpdateVolumeRequest *asked = (const Penstock__V1__UpdateVolumeRequest *)message;
    struct fleet_request *request = want(call, FLEET_UPDATE, asked->name);
    if (request == NULL)
        return;
    request->replace = asked->replace_lost != 0;
    submit(call, request);
}

static void delete_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__DeleteVolumeRequest *asked = (const Penstock__V1__DeleteVolumeRequest *)message;
    struct fleet_request *request = want(call, FLEET_DELETE, asked->name);
    if (request == NULL)
        return;
    request->abandon = asked->abandon != 0;
    submit(call, request);
}

static void revert_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__RevertVolumeRequest *asked = (const Penstock__V1__RevertVolumeRequest *)message;
    struct fleet_request *request = want(call, FLEET_REVERT, asked->name);
    if (request == NULL)
        return;
    request->snapshot = asked->snapshot;
    submit(call, request);
}

static void add_replica(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__AddReplicaRequest *asked = (const Penstock__V1__AddReplicaRequest *)message;
    struct fleet_request *request = want(call, FLEET_ADD, asked->name);
    if (request == NULL)
        return;
    request->places = (const char *const *)&asked->place;
    request->place_count = asked->place[0] != '\0';
    submit(call, request);
}

static void remove_replica(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__RemoveReplicaRequest *asked = (const Penstock__V1__RemoveReplicaRequest *)message;
    struct fleet_request *request = want(call, FLEET_REMOVE, asked->name);
    if (request == NULL)
        return;
    request->replica = asked->replica;
    request->abandon = asked->abandon != 0;
    submit(call, request);
}

/* ---- looks ---- */

/* One that is known; NULL: the call was ended. */
static const struct fleet_volume *find(struct grpc_call *call, const char *name) {
    const struct fleet_volume *volume = fleet_find(gateway_of(call)->options.fleet, name);
    if (volume == NULL || !volume->recorded) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no volume '%s'", name);
        return NULL;
    }
    return volume;
}

static void answer_get(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__GetVolumeRequest *asked = (const Penstock__V1__GetVolumeRequest *)message;
    const struct fleet_volume *volume = find(call, asked->name);
    Penstock__V1__GetVolumeResponse answer = PENSTOCK__V1__GET_VOLUME_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    if (volume == NULL)
        return;
    answer.volume = gateway_put_volume(gateway_of(call), volume, &scratch);
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

static void answer_list(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    const struct gateway *gateway = gateway_of(call);
    const struct fleet *fleet = gateway->options.fleet;
    Penstock__V1__ListVolumesResponse answer = PENSTOCK__V1__LIST_VOLUMES_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    answer.volumes = gateway_scratch_take(&scratch, fleet->volume_count, sizeof(*answer.volumes));
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node)
        if (volume->recorded)
            answer.volumes[answer.n_volumes++] = gateway_put_volume(gateway, volume, &scratch);
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

static void get_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_get);
}

static void list_volumes(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_list);
}

/* ---- clones ---- */

/* NULL: it is not there, or was not seen yet. */
static const struct observed_mirror *mirror_of(const struct gateway *gateway, const struct fleet_volume *volume) {
    const struct control_engine *engine = fleet_engine(gateway->options.fleet, volume);
    const struct observation *seen = control_seen(gateway->options.control);
    return seen == NULL || engine == NULL ? NULL : observed_mirror(seen, engine->record.name);
}

/* As large as the other one, on the same nodes, found in the same way. */
static void clone_known(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__CloneVolumeRequest *asked = (const Penstock__V1__CloneVolumeRequest *)message;
    const struct fleet_volume *volume = find(call, asked->name);
    if (volume == NULL)
        return;
    if (volume->record.phase != FLEET_STANDING || volume->record.revert != FLEET_NO_REVERT) {
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "volume %s does not stand, or is being reverted", asked->name);
        return;
    }
    const struct observed_mirror *mirror = mirror_of(gateway_of(call), volume);
    if (mirror == NULL || observed_mirror_snapshot(mirror, asked->snapshot) == NULL) {
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "volume %s has no snapshot %s", asked->name, asked->snapshot);
        return;
    }
    struct fleet_request *request = want(call, FLEET_CREATE, asked->new_name);
    if (request == NULL)
        return;
    struct wanting *wanting = container_of(request, struct wanting, request);
    wanting->as = volume->record;
    for (unsigned i = 0; i < wanting->as.node_count; i++)
        wanting->nodes[i] = wanting->as.nodes[i];
    request->bytes = wanting->as.bytes;
    request->replicas = wanting->as.replicas;
    request->frontend = wanting->as.frontend;
    request->replace = wanting->as.replace;
    request->nodes = wanting->nodes;
    request->node_count = wanting->as.node_count;
    request->source = asked->name;
    request->source_snapshot = asked->snapshot;
    submit(call, request);
}

static void clone_volume(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", clone_known);
}

/* ---- snapshots: single commands of the engine, which changes all replicas or none ---- */

static struct gateway_pending *pend_snapshot(struct grpc_call *call, const ProtobufCMessage *message, enum control_verb verb,
                                             const char *name, const char *snapshot,
                                             void (*then)(struct gateway_pending *pending)) {
    const struct fleet_volume *volume = find(call, name);
    if (volume == NULL)
        return NULL;
    if (volume->record.phase != FLEET_STANDING) {
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "volume %s does not stand: %s", name, volume->record.failure);
        return NULL;
    }
    struct gateway_pending *pending = gateway_pend(call, message, verb, "", then);
    if (pending == NULL)
        return NULL;
    fleet_engine_name(&volume->record, pending->text);
    pending->goal.name = pending->text;
    pending->goal.snapshot = snapshot;
    pending->goal.user_created = true;
    return pending;
}

static void answer_snapshot(struct gateway_pending *pending) {
    Penstock__V1__CreateSnapshotResponse answer = PENSTOCK__V1__CREATE_SNAPSHOT_RESPONSE__INIT;
    answer.snapshot = (char *)pending->goal.snapshot;
    grpc_call_reply(pending->call, &answer.base);
}

static void create_snapshot(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__CreateSnapshotRequest *asked = (const Penstock__V1__CreateSnapshotRequest *)message;
    struct gateway_pending *pending =
        pend_snapshot(call, message, CONTROL_ENGINE_SNAPSHOT_CREATE, asked->name, asked->snapshot, answer_snapshot);
    if (pending != NULL)
        gateway_start(pending);
}

static void answer_snapshot_deleted(struct gateway_pending *pending) {
    Penstock__V1__DeleteSnapshotResponse answer = PENSTOCK__V1__DELETE_SNAPSHOT_RESPONSE__INIT;
    grpc_call_reply(pending->call, &answer.base);
}

static void delete_snapshot(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__DeleteSnapshotRequest *asked = (const Penstock__V1__DeleteSnapshotRequest *)message;
    struct gateway_pending *pending =
        pend_snapshot(call, message, CONTROL_ENGINE_SNAPSHOT_DELETE, asked->name, asked->snapshot, answer_snapshot_deleted);
    if (pending != NULL)
        gateway_start(pending);
}

static char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return (char *)(text == NULL ? "" : text);
}

static void answer_snapshots(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__ListSnapshotsRequest *asked = (const Penstock__V1__ListSnapshotsRequest *)message;
    const struct gateway *gateway = gateway_of(call);
    const struct fleet_volume *volume = find(call, asked->name);
    if (volume == NULL)
        return;
    Penstock__V1__ListSnapshotsResponse answer = PENSTOCK__V1__LIST_SNAPSHOTS_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    const struct observed_mirror *mirror = mirror_of(gateway, volume);
    const json_t *tree = mirror == NULL ? NULL : mirror->tree, *snapshot;
    size_t i;
    answer.snapshots = gateway_scratch_take(&scratch, json_array_size(tree), sizeof(*answer.snapshots));
    json_array_foreach(tree, i, snapshot) {
        Penstock__V1__Snapshot *put = gateway_scratch_take(&scratch, 1, sizeof(*put));
        penstock__v1__snapshot__init(put);
        put->name = text_of(snapshot, "name");
        put->parent = text_of(snapshot, "parent");
        put->created_at = text_of(snapshot, "creation_time");
        put->size_bytes = (uint64_t)json_integer_value(json_object_get(snapshot, "size"));
        put->used_bytes = (uint64_t)json_integer_value(json_object_get(snapshot, "used_bytes"));
        answer.snapshots[answer.n_snapshots++] = put;
    }
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

static void list_snapshots(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_snapshots);
}

/* ---- the service ---- */

#define MESSAGES(request, response) &penstock__v1__##request##__descriptor, &penstock__v1__##response##__descriptor
static const struct grpc_method methods[] = {
    {"CreateVolume", GRPC_UNARY, MESSAGES(create_volume_request, create_volume_response), create_volume},
    {"GetVolume", GRPC_UNARY, MESSAGES(get_volume_request, get_volume_response), get_volume},
    {"ListVolumes", GRPC_UNARY, MESSAGES(list_volumes_request, list_volumes_response), list_volumes},
    {"WatchVolumes", GRPC_SERVER_STREAM, MESSAGES(watch_volumes_request, watch_volumes_response), gateway_watch_volumes},
    {"ExpandVolume", GRPC_UNARY, MESSAGES(expand_volume_request, expand_volume_response), expand_volume},
    {"UpdateVolume", GRPC_UNARY, MESSAGES(update_volume_request, update_volume_response), update_volume},
    {"DeleteVolume", GRPC_UNARY, MESSAGES(delete_volume_request, delete_volume_response), delete_volume},
    {"RevertVolume", GRPC_UNARY, MESSAGES(revert_volume_request, revert_volume_response), revert_volume},
    {"CloneVolume", GRPC_UNARY, MESSAGES(clone_volume_request, clone_volume_response), clone_volume},
    {"AddReplica", GRPC_UNARY, MESSAGES(add_replica_request, add_replica_response), add_replica},
    {"RemoveReplica", GRPC_UNARY, MESSAGES(remove_replica_request, remove_replica_response), remove_replica},
    {"CreateSnapshot", GRPC_UNARY, MESSAGES(create_snapshot_request, create_snapshot_response), create_snapshot},
    {"ListSnapshots", GRPC_UNARY, MESSAGES(list_snapshots_request, list_snapshots_response), list_snapshots},
    {"DeleteSnapshot", GRPC_UNARY, MESSAGES(delete_snapshot_request, delete_snapshot_response), delete_snapshot},
    {"ListLeftovers", GRPC_UNARY, MESSAGES(list_leftovers_request, list_leftovers_response), gateway_list_leftovers},
};

const struct grpc_service gateway_volume_service = {GATEWAY_VOLUME_SERVICE, methods, array_count(methods)};
