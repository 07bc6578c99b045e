/* Engine frontends. What they do to their engine is asked of the node that has it, which may be this one. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { LOOK_MS = 5000, ASK_MS = (CONTROL_GOAL_S + 5) * 1000, PURGE_MS = 600000 };

/* ---- a frontend as a message ---- */

/* "IP:PORT" or "[IP]:PORT" in two. */
static char *split_target(const char *target, int32_t *ret_port, struct gateway_scratch *scratch) {
    char *ip = gateway_scratch_take(scratch, 1, CONTROL_ADDRESS_SIZE);
    uint64_t port;
    snprintf(ip, CONTROL_ADDRESS_SIZE, "%s", target[0] == '[' ? target + 1 : target);
    char *colon = strrchr(ip, ':');
    if (colon != NULL && text_parse_u64(colon + 1, UINT16_MAX, &port))
        *ret_port = (int32_t)port;
    if (colon != NULL)
        colon[colon > ip && colon[-1] == ']' ? -1 : 0] = '\0';
    return ip;
}

static void add_path(Spdkrpc__EngineFrontend *answer, const char *engine, const char *target, bool serves,
                     struct gateway_scratch *scratch) {
    Spdkrpc__EngineFrontendNvmeTcpPath *path = gateway_scratch_take(scratch, 1, sizeof(*path));
    struct names_identity *identity = gateway_scratch_take(scratch, 1, sizeof(*identity));
    char *nqn = gateway_scratch_take(scratch, 1, NAMES_NQN_SIZE);
    spdkrpc__engine_frontend_nvme_tcp_path__init(path);
    names_make_volume_nqn(answer->volume_name, nqn);
    names_make_identity(answer->volume_name, identity);
    path->engine_name = (char *)engine;
    path->target_ip = split_target(target, &path->target_port, scratch);
    path->nqn = nqn;
    path->nguid = identity->nguid;
    path->ana_state = (char *)(serves ? NAMES_ANA_OPTIMIZED : NAMES_ANA_INACCESSIBLE);
    answer->paths[answer->n_paths++] = path;
}

static Spdkrpc__EngineFrontend *put_frontend(const struct control_frontend *frontend, struct gateway_scratch *scratch) {
    const struct control_frontend_record *record = &frontend->record;
    Spdkrpc__EngineFrontend *answer = gateway_scratch_take(scratch, 1, sizeof(*answer));
    spdkrpc__engine_frontend__init(answer);
    answer->name = (char *)record->name;
    answer->volume_name = (char *)record->volume;
    answer->engine_name = (char *)record->engine;
    answer->spec_size = record->bytes;
    answer->frontend = (char *)record->frontend;
    answer->state = (char *)control_state_name(frontend->state);
    answer->error_msg = (char *)frontend->reason;
    answer->is_expanding = frontend->expanding;
    if (record->target[0] == '\0')
        return answer;
    char nqn[NAMES_NQN_SIZE];
    bool moving = record->step == SWITCH_MOVING || record->step == SWITCH_DRAINED;
    answer->target_ip = split_target(record->target, &answer->target_port, scratch);
    answer->active_path = (char *)record->target;
    answer->preferred_path = (char *)(moving ? record->next_target : record->target);
    if (record->frontend[0] == '\0' || frontend->state == CONTROL_ERROR || frontend->state == CONTROL_PENDING)
        return answer;
    answer->paths = gateway_scratch_take(scratch, 2, sizeof(*answer->paths));
    add_path(answer, record->engine, record->target, !moving, scratch);
    if (record->next_target[0] != '\0')
        add_path(answer, record->next_engine, record->next_target, false, scratch);
    if (strcmp(record->frontend, CONTROL_BLOCKDEV) == 0) {
        answer->endpoint = (char *)frontend->path;
        return answer;
    }
    names_make_volume_nqn(record->volume, nqn);
    size_t size = sizeof("nvmf:///") + strlen(record->target) + strlen(nqn);
    answer->endpoint = gateway_scratch_take(scratch, 1, size);
    snprintf(answer->endpoint, size, "nvmf://%s/%s", record->target, nqn);
    return answer;
}

static void answer_frontend(struct grpc_call *call, const char *name) {
    const struct control_frontend *frontend = control_find_frontend(gateway_of(call)->options.control, name);
    struct gateway_scratch scratch = {0};
    if (frontend == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine frontend '%s'", name);
        return;
    }
    grpc_call_reply(call, &put_frontend(frontend, &scratch)->base);
    gateway_scratch_free(&scratch);
}

/* ---- what is asked of the engine's node ---- */

struct asking {
    struct gateway_ask ask;
    struct grpc_call *call;
    const ProtobufCMessage *request; /* of the call */
    char name[CONTROL_NAME_MAX + 1]; /* the frontend's */
};

/* NULL: the call was ended. */
static struct asking *asking_create(struct grpc_call *call, const ProtobufCMessage *request, const char *name,
                                    void (*done)(struct gateway_ask *ask, const ProtobufCMessage *answer)) {
    struct asking *asking = gateway_of(call)->stopping ? NULL : calloc(1, sizeof(*asking));
    if (asking == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return NULL;
    }
    asking->call = call;
    asking->request = request;
    asking->ask.done = done;
    snprintf(asking->name, sizeof(asking->name), "%s", name);
    return asking;
}

/* The frontend of that name, in a state in which its engine can be asked; NULL: the call was ended. */
static const struct control_frontend *find_running(struct grpc_call *call, const char *name) {
    const struct control_frontend *frontend = control_find_frontend(gateway_of(call)->options.control, name);
    if (name[0] == '\0')
        grpc_call_end(call, GRPC_INVALID_ARGUMENT, "name is '': expected the name of an engine frontend");
    else if (frontend == NULL)
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine frontend '%s'", name);
    else if (frontend->state != CONTROL_RUNNING && frontend->state != CONTROL_SUSPENDED)
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine frontend %s is in state %s: %s", name,
                       control_state_name(frontend->state), frontend->reason);
    else if (frontend->record.step == SWITCH_MOVING || frontend->record.step == SWITCH_DRAINED)
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine frontend %s is switching over to %s", name,
                       frontend->record.next_engine);
    else if (frontend->record.target[0] == '\0')
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine frontend %s has no target address: ask engine %s itself", name,
                       frontend->record.engine);
    else
        return frontend;
    return NULL;
}

static void pass_on(struct gateway_ask *ask, const ProtobufCMessage *answer) {
    struct asking *asking = container_of(ask, struct asking, ask);
    if (answer != NULL)
        grpc_call_reply(asking->call, answer);
    else
        grpc_call_end(asking->call, ask->status, ask->text);
    free(asking);
}

static void forward(struct grpc_call *call, const struct control_frontend *frontend, const char *method,
                    const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    struct asking *asking = asking_create(call, request, frontend->record.name, pass_on);
    if (asking != NULL)
        gateway_ask(gateway_of(call), &asking->ask, frontend->record.target, method, request, receives, timeout_ms);
}

/* ---- creation: recorded, then its engine is looked for ---- */

static void answer_named(struct gateway_pending *pending) { answer_frontend(pending->call, pending->goal.name); }

static void record_outcome(struct grpc_call *call, const ProtobufCMessage *message, uint64_t bytes, const char *failure,
                           void (*answer)(struct gateway_pending *pending)) {
    const Spdkrpc__EngineFrontendCreateRequest *request = (const Spdkrpc__EngineFrontendCreateRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_FRONTEND_SETTLE, request->name, answer);
    if (pending == NULL)
        return;
    snprintf(pending->text, sizeof(pending->text), "%s", failure);
    pending->goal.failure = pending->text;
    pending->goal.bytes = bytes;
    gateway_start(pending);
}

/* A device that cannot be had is no error of the call: the frontend is in state error. */
static void attached(struct grpc_call *call, const ProtobufCMessage *message, const struct error *error) {
    if (error->code == ERROR_NONE)
        answer_frontend(call, ((const Spdkrpc__EngineFrontendCreateRequest *)message)->name);
    else
        record_outcome(call, message, 0, error->text[0] != '\0' ? error->text : error->expected, answer_named);
}

static void attach_made(struct gateway_pending *pending) {
    gateway_attach(pending->call, pending->request, pending->goal.name, attached);
}

static void settle(struct asking *asking, uint64_t bytes, const char *failure) {
    const Spdkrpc__EngineFrontendCreateRequest *request = (const Spdkrpc__EngineFrontendCreateRequest *)asking->request;
    bool device = failure[0] == '\0' && strcmp(request->frontend, CONTROL_BLOCKDEV) == 0;
    record_outcome(asking->call, asking->request, bytes, failure, device ? attach_made : answer_named);
    free(asking);
}

static void looked(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct asking *asking = container_of(ask, struct asking, ask);
    const Spdkrpc__EngineFrontendCreateRequest *request = (const Spdkrpc__EngineFrontendCreateRequest *)asking->request;
    const Spdkrpc__Engine *engine = (const Spdkrpc__Engine *)message;
    char failure[256] = "", at[CONTROL_ADDRESS_SIZE];
    if (engine == NULL)
        snprintf(failure, sizeof(failure), "engine %.63s is not found at %.63s: %.100s", request->engine_name,
                 request->target_address, ask->text);
    else if (strcmp(engine->volume_name, request->volume_name) != 0)
        snprintf(failure, sizeof(failure), "engine %.63s is of volume %.63s", request->engine_name, engine->volume_name);
    else if (strcmp(engine->state, "running") != 0)
        snprintf(failure, sizeof(failure), "engine %.63s is in state %.20s: %.100s", request->engine_name, engine->state,
                 engine->error_msg);
    else if (strncmp(engine->error_msg, CONTROL_STANDBY, sizeof(CONTROL_STANDBY) - 1) == 0)
        snprintf(failure, sizeof(failure), "engine %.63s is a %.150s", request->engine_name, engine->error_msg);
    else if (request->frontend[0] != '\0') {
        snprintf(at, sizeof(at), strchr(engine->ip, ':') != NULL ? "[%.45s]:%d" : "%.45s:%d", engine->ip, (int)engine->port);
        if (strcmp(at, request->target_address) != 0)
            snprintf(failure, sizeof(failure), "engine %.63s is offered at %.60s, not at %.63s", request->engine_name, at,
                     request->target_address);
    }
    settle(asking, engine != NULL ? engine->spec_size : 0, failure);
}

static void created(struct gateway_pending *pending) {
    const Spdkrpc__EngineFrontendCreateRequest *request = (const Spdkrpc__EngineFrontendCreateRequest *)pending->request;
    Spdkrpc__EngineGetRequest get = SPDKRPC__ENGINE_GET_REQUEST__INIT;
    struct asking *asking = asking_create(pending->call, pending->request, request->name, looked);
    if (asking == NULL)
        return;
    get.name = request->engine_name;
    if (request->target_address[0] == '\0')
        settle(asking, 0, "");
    else
        gateway_ask(gateway_of(pending->call), &asking->ask, request->target_address, "EngineGet", &get.base,
                    &spdkrpc__engine__descriptor, LOOK_MS);
}

void gateway_frontend_create(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineFrontendCreateRequest *request = (const Spdkrpc__EngineFrontendCreateRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_FRONTEND_CREATE, request->name, created);
    if (pending == NULL)
        return;
    pending->goal.volume = request->volume_name;
    pending->goal.engine = request->engine_name;
    pending->goal.bytes = request->spec_size;
    pending->goal.frontend = request->frontend;
    pending->goal.target = request->target_address;
    gateway_start(pending);
}

/* ---- calls ---- */

static void start_named(struct grpc_call *call, const ProtobufCMessage *message, enum control_verb verb, const char *name) {
    struct gateway_pending *pending = gateway_pend(call, message, verb, name, gateway_answer_empty);
    if (pending != NULL)
        gateway_start(pending);
}

void gateway_frontend_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    start_named(call, message, CONTROL_FRONTEND_DELETE, ((const Spdkrpc__EngineFrontendDeleteRequest *)message)->name);
}

void gateway_frontend_get(struct grpc_call *call, const ProtobufCMessage *message) {
    answer_frontend(call, ((const Spdkrpc__EngineFrontendGetRequest *)message)->name);
}

void gateway_frontend_list(struct grpc_call *call, const ProtobufCMessage *message) {
    struct control *control = gateway_of(call)->options.control;
    Spdkrpc__EngineFrontendListResponse answer = SPDKRPC__ENGINE_FRONTEND_LIST_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    size_t count = 0;
    (void)message;
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node)
        count += object->kind == CONTROL_FRONTENDS;
    answer.engine_frontends = gateway_scratch_take(&scratch, count, sizeof(*answer.engine_frontends));
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        const struct control_frontend *frontend = container_of(object, struct control_frontend, object);
        Spdkrpc__EngineFrontendListResponse__EngineFrontendsEntry *entry = gateway_scratch_take(&scratch, 1, sizeof(*entry));
        spdkrpc__engine_frontend_list_response__engine_frontends_entry__init(entry);
        entry->key = (char *)frontend->record.name;
        entry->value = put_frontend(frontend, &scratch);
        answer.engine_frontends[answer.n_engine_frontends++] = entry;
    }
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

/* ---- size: the engine grows, then it is recorded ---- */

static void grown(struct grpc_call *call, const ProtobufCMessage *request, const struct error *error) {
    (void)request;
    if (error->code != ERROR_NONE)
        gateway_fail(call, error, false);
    else
        gateway_reply_empty(call);
}

static void grow(struct gateway_pending *pending) {
    const struct control_frontend *frontend =
        control_find_frontend(gateway_of(pending->call)->options.control, pending->goal.name);
    if (frontend != NULL && strcmp(frontend->record.frontend, CONTROL_BLOCKDEV) == 0)
        gateway_attach(pending->call, pending->request, pending->goal.name, grown);
    else
        gateway_answer_empty(pending);
}

static void expanded(struct gateway_ask *ask, const ProtobufCMessage *answer) {
    struct asking *asking = container_of(ask, struct asking, ask);
    const Spdkrpc__EngineFrontendExpandRequest *request = (const Spdkrpc__EngineFrontendExpandRequest *)asking->request;
    struct grpc_call *call = asking->call;
    if (answer == NULL) {
        grpc_call_end(call, ask->status, ask->text);
    } else {
        struct gateway_pending *pending = gateway_pend(call, asking->request, CONTROL_FRONTEND_SETTLE, request->name, grow);
        if (pending != NULL) {
            pending->goal.bytes = divide_up(request->size, MIB(1)) * MIB(1);
            gateway_start(pending);
        }
    }
    free(asking);
}

void gateway_frontend_expand(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineFrontendExpandRequest *request = (const Spdkrpc__EngineFrontendExpandRequest *)message;
    const struct control_frontend *frontend = find_running(call, request->name);
    Spdkrpc__EngineExpandRequest expand = SPDKRPC__ENGINE_EXPAND_REQUEST__INIT;
    struct asking *asking = frontend == NULL ? NULL : asking_create(call, message, request->name, expanded);
    if (asking == NULL)
        return;
    expand.name = (char *)frontend->record.engine;
    expand.size = request->size;
    gateway_ask(gateway_of(call), &asking->ask, frontend->record.target, "EngineExpand", &expand.base,
                &google__protobuf__empty__descriptor, ASK_MS);
}

/* ---- snapshots, replicas ---- */

static void snapshot_call(struct grpc_call *call, const ProtobufCMessage *message, const char *method,
                          const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    const struct control_frontend *frontend = find_running(call, ((const Spdkrpc__SnapshotRequest *)message)->name);
    if (frontend == NULL)
        return;
    Spdkrpc__SnapshotRequest request = *(const Spdkrpc__SnapshotRequest *)message;
    request.name = (char *)frontend->record.engine;
    forward(call, frontend, method, &request.base, receives, timeout_ms);
}

void gateway_frontend_snapshot_create(struct grpc_call *call, const ProtobufCMessage *message) {
    const char *name = ((const Spdkrpc__SnapshotRequest *)message)->name;
    const struct control_frontend *frontend = control_find_frontend(gateway_of(call)->options.control, name);
    if (frontend != NULL && frontend->state == CONTROL_RUNNING && strcmp(frontend->record.frontend, CONTROL_BLOCKDEV) == 0 &&
        frontend->record.step == SWITCH_NONE) {
        gateway_snapshot_frozen(call, message, name);
        return;
    }
    snapshot_call(call, message, "EngineSnapshotCreate", &spdkrpc__snapshot_response__descriptor, ASK_MS);
}
void gateway_frontend_snapshot_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    snapshot_call(call, message, "EngineSnapshotDelete", &google__protobuf__empty__descriptor, ASK_MS);
}
void gateway_frontend_snapshot_revert(struct grpc_call *call, const ProtobufCMessage *message) {
    snapshot_call(call, message, "EngineSnapshotRevert", &google__protobuf__empty__descriptor, ASK_MS);
}

void gateway_frontend_snapshot_purge(struct grpc_call *call, const ProtobufCMessage *message) {
    snapshot_call(call, message, "EngineSnapshotPurge", &google__protobuf__empty__descriptor, PURGE_MS);
}

void gateway_frontend_replica_add(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineFrontendReplicaAddRequest *request = (const Spdkrpc__EngineFrontendReplicaAddRequest *)message;
    const struct control_frontend *frontend = find_running(call, request->engine_frontend_name);
    Spdkrpc__EngineReplicaAddRequest add = SPDKRPC__ENGINE_REPLICA_ADD_REQUEST__INIT;
    if (frontend == NULL)
        return;
    add.engine_name = (char *)frontend->record.engine;
    add.replica_name = request->replica_name;
    add.replica_address = request->replica_address;
    add.fast_sync = request->fast_sync;
    add.linked_clone_source = request->linked_clone_source;
    forward(call, frontend, "EngineReplicaAdd", &add.base, &google__protobuf__empty__descriptor, ASK_MS);
}
