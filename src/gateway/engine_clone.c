/* EngineSnapshotClone: an engine over empty replicas becomes what a snapshot of another engine is. Full: a replica of that one
 * is copied through the mirror, which then has a snapshot of the same name. Linked: the heads of all replicas come to stand upon
 * the snapshot of the replica beside each, by one change of the mirror. docs/control.md, "Copies between replicas". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/penstock/v1/node.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { ASK_MS = 30000 };

enum step {
    STEP_ENGINE, /* the other engine: its replicas, and that it has the snapshot */
    STEP_SOURCE, /* full: the snapshot of one of them */
    STEP_BLANK,  /* full, of each of our replicas: it holds nothing */
    STEP_NOTE,   /* full, likewise: its node can ask how far this is */
    STEP_BEGIN,  /* full: the mirror is exported; */
    STEP_PULL,   /* the source copies, and the caller has its answer; */
    STEP_END,    /* the mirror gets a snapshot, or is emptied again; */
    STEP_FORGET, /* the source may forget it */
    STEP_LINK,   /* linked */
    STEPS
};

struct engine_clone {
    struct list_node node;
    struct gateway *gateway;
    struct grpc_call *call; /* that began it; NULL = answered */
    enum step step;
    bool linked, busy, over, failed;
    char engine[CONTROL_NAME_MAX + 1], snapshot[CONTROL_NAME_MAX + 1];
    char source_engine[CONTROL_NAME_MAX + 1], source_engine_address[CONTROL_ADDRESS_SIZE];
    struct control_leg_record legs[CONTROL_LEGS_MAX], source;
    unsigned leg_count, leg_at;
    char sources[CONTROL_LEGS_MAX][CONTROL_NAME_MAX + 1]; /* linked: beside each leg */
    char upon[CONTROL_LEGS_MAX][NAMES_VOLUME_SIZE];
    const char *pairs[2 * CONTROL_LEGS_MAX];
    uint64_t bytes;
    char timestamp[64];
    bool user_created;
    enum grpc_status status;
    char failure[256];
    struct gateway_pull pull;
    struct gateway_ask ask;
    struct control_goal goal;
};

static struct control *control_of(const struct engine_clone *clone) { return clone->gateway->options.control; }

static void go(struct engine_clone *clone, enum step step);

static struct engine_clone *find(const struct gateway *gateway, const char *engine) {
    list_for_each (&gateway->engine_clones, struct engine_clone, clone, node)
        if (strcmp(clone->engine, engine) == 0)
            return clone;
    return NULL;
}

/* ---- its end ---- */

static void answer(struct engine_clone *clone) {
    if (clone->call != NULL && clone->failed)
        grpc_call_end(clone->call, clone->status == GRPC_OK ? GRPC_UNKNOWN : clone->status, clone->failure);
    else if (clone->call != NULL)
        gateway_reply_empty(clone->call);
    clone->call = NULL;
}

static void end(struct engine_clone *take_clone) {
    answer(take_clone);
    list_remove(&take_clone->node);
    control_engine_clone_left(control_of(take_clone), take_clone->engine);
    free(take_clone);
}

/* False: nobody wants to know any more. */
static bool back(struct engine_clone *clone) {
    clone->busy = false;
    if (!clone->over)
        return true;
    free(clone);
    return false;
}

/* What was begun is ended by the next process. */
void gateway_engine_clones_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->engine_clones, struct engine_clone, clone, node) {
        if (clone->call != NULL)
            continue; /* what it waits for ends */
        list_remove(&clone->node);
        clone->over = true;
        if (gateway_pull_stop(&clone->pull))
            clone->busy = false;
        if (!clone->busy)
            free(clone);
    }
}

static void fail(struct engine_clone *clone, enum grpc_status status, const char *why) {
    if (!clone->failed) {
        clone->failed = true;
        clone->status = status;
        snprintf(clone->failure, sizeof(clone->failure), "%.255s", why);
    }
    log_warning(control_of(clone)->options.log, LOG_AREA_APP, "cloning snapshot %s of engine %s into engine %s: %s",
                clone->snapshot, clone->source_engine, clone->engine, why);
    if (clone->step == STEP_PULL && !clone->gateway->stopping)
        go(clone, STEP_END);
    else
        end(clone);
}

/* ---- answers ---- */

static const Spdkrpc__Lvol *find_lvol(const Spdkrpc__Replica *replica, const char *snapshot) {
    for (size_t i = 0; i < replica->n_snapshots; i++)
        if (strcmp(replica->snapshots[i]->key, snapshot) == 0)
            return replica->snapshots[i]->value;
    return NULL;
}

/* Its address; NULL: it has no such replica that is whole. */
static const char *find_whole(const Spdkrpc__Engine *engine, const char *replica) {
    bool whole = false;
    for (size_t i = 0; i < engine->n_replica_mode_map; i++)
        whole = whole || (strcmp(engine->replica_mode_map[i]->key, replica) == 0 &&
                          engine->replica_mode_map[i]->value == SPDKRPC__REPLICA_MODE__RW);
    for (size_t i = 0; i < engine->n_replica_address_map && whole; i++)
        if (strcmp(engine->replica_address_map[i]->key, replica) == 0)
            return engine->replica_address_map[i]->value;
    return NULL;
}

static void choose_sources(struct engine_clone *clone, const Spdkrpc__Engine *engine) {
    char text[256];
    for (unsigned i = 0; i < clone->leg_count; i++) {
        if (find_whole(engine, clone->sources[i]) == NULL) {
            snprintf(text, sizeof(text), "engine %.63s has no replica %.63s that is whole", clone->source_engine,
                     clone->sources[i]);
            fail(clone, GRPC_UNKNOWN, text);
            return;
        }
    }
    go(clone, STEP_LINK);
}

static void choose_source(struct engine_clone *clone, const Spdkrpc__Engine *engine) {
    for (size_t i = 0; i < engine->n_replica_address_map && clone->source.name[0] == '\0'; i++) {
        const char *name = engine->replica_address_map[i]->key, *address = find_whole(engine, name);
        if (address == NULL || !control_is_address(address) || strlen(name) > CONTROL_NAME_MAX)
            continue;
        snprintf(clone->source.name, sizeof(clone->source.name), "%s", name);
        snprintf(clone->source.address, sizeof(clone->source.address), "%s", address);
    }
    if (clone->source.name[0] == '\0')
        fail(clone, GRPC_UNKNOWN, "the source engine has no replica that is whole");
    else
        go(clone, STEP_SOURCE);
}

static void engine_told(struct engine_clone *clone, const ProtobufCMessage *message) {
    const Spdkrpc__Engine *engine = (const Spdkrpc__Engine *)message;
    bool has = false;
    for (size_t i = 0; i < engine->n_snapshots; i++)
        has = has || strcmp(engine->snapshots[i]->key, clone->snapshot) == 0;
    if (strcmp(engine->state, "running") != 0)
        fail(clone, GRPC_UNKNOWN, "the source engine does not run");
    else if (!has)
        fail(clone, GRPC_UNKNOWN, "the source engine has no such snapshot");
    else if (clone->linked)
        choose_sources(clone, engine);
    else
        choose_source(clone, engine);
}

static void source_told(struct engine_clone *clone, const ProtobufCMessage *message) {
    const Spdkrpc__Lvol *lvol = find_lvol((const Spdkrpc__Replica *)message, clone->snapshot);
    if (lvol == NULL || lvol->spec_size == 0 || lvol->spec_size % MIB(1) != 0) {
        fail(clone, GRPC_UNKNOWN, lvol == NULL ? "the source has no such snapshot" : "the source tells a size that is none");
        return;
    }
    clone->bytes = lvol->spec_size;
    clone->user_created = lvol->user_created;
    snprintf(clone->timestamp, sizeof(clone->timestamp), "%.63s", lvol->snapshot_timestamp);
    go(clone, STEP_BLANK);
}

static void go_round(struct engine_clone *clone) {
    if (++clone->leg_at < clone->leg_count) {
        go(clone, clone->step);
        return;
    }
    clone->leg_at = 0;
    go(clone, clone->step + 1);
}

static void blank_told(struct engine_clone *clone, const ProtobufCMessage *message) {
    const Spdkrpc__Replica *replica = (const Spdkrpc__Replica *)message;
    char text[256];
    if (replica->n_snapshots == 0 && replica->head != NULL && replica->head->actual_size == 0) {
        go_round(clone);
        return;
    }
    snprintf(text, sizeof(text), "replica %.63s holds something: only an empty engine can become a clone",
             clone->legs[clone->leg_at].name);
    fail(clone, GRPC_UNKNOWN, text);
}

static void answered(struct gateway_ask *asked, const ProtobufCMessage *message) {
    struct engine_clone *clone = container_of(asked, struct engine_clone, ask);
    if (!back(clone))
        return;
    if (clone->step == STEP_FORGET) /* nothing hangs on it here */
        end(clone);
    else if (clone->step == STEP_NOTE) /* nor on this: who is not told cannot ask */
        go_round(clone);
    else if (message == NULL)
        fail(clone, asked->status == GRPC_NOT_FOUND ? GRPC_UNKNOWN : asked->status, asked->text);
    else if (clone->step == STEP_ENGINE)
        engine_told(clone, message);
    else if (clone->step == STEP_SOURCE)
        source_told(clone, message);
    else
        blank_told(clone, message);
}

static void ask(struct engine_clone *clone, const char *address, const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *receives) {
    clone->busy = true;
    clone->ask.done = answered;
    gateway_ask(clone->gateway, &clone->ask, address, method, request, receives, ASK_MS);
}

static void ask_engine(struct engine_clone *clone) {
    Spdkrpc__EngineGetRequest request = SPDKRPC__ENGINE_GET_REQUEST__INIT;
    request.name = clone->source_engine;
    ask(clone, clone->source_engine_address, "EngineGet", &request.base, &spdkrpc__engine__descriptor);
}

static void ask_replica(struct engine_clone *clone, const struct control_leg_record *of) {
    Spdkrpc__ReplicaGetRequest request = SPDKRPC__REPLICA_GET_REQUEST__INIT;
    request.name = (char *)of->name;
    ask(clone, of->address, "ReplicaGet", &request.base, &spdkrpc__replica__descriptor);
}

static void note(struct engine_clone *clone, const struct control_leg_record *leg) {
    Penstock__V1__NoteEngineRequest request = PENSTOCK__V1__NOTE_ENGINE_REQUEST__INIT;
    char address[CONTROL_ADDRESS_SIZE];
    gateway_put_address(clone->gateway, GATEWAY_PEER_PORT, address);
    request.replica = (char *)leg->name;
    request.engine = clone->engine;
    request.engine_address = address;
    ask(clone, leg->address, "/" GATEWAY_OWN_SERVICE "/NoteEngine", &request.base,
        &penstock__v1__note_engine_response__descriptor);
}

static void forget(struct engine_clone *clone) {
    Spdkrpc__ReplicaSnapshotCloneSrcFinishRequest request = SPDKRPC__REPLICA_SNAPSHOT_CLONE_SRC_FINISH_REQUEST__INIT;
    request.name = clone->source.name;
    request.dst_replica_name = clone->engine;
    ask(clone, clone->source.address, "ReplicaSnapshotCloneSrcFinish", &request.base, &google__protobuf__empty__descriptor);
}

/* ---- the copy ---- */

static void pulled(struct gateway_pull *pull, bool ok) {
    struct engine_clone *clone = container_of(pull, struct engine_clone, pull);
    if (!back(clone))
        return;
    if (ok)
        go(clone, STEP_END);
    else
        fail(clone, pull->status, pull->failure);
}

static void pull_begun(struct gateway_pull *pull) {
    struct engine_clone *clone = container_of(pull, struct engine_clone, pull);
    if (!clone->over)
        answer(clone);
}

static void pull(struct engine_clone *clone) {
    const struct control_engine *engine = control_find_engine(control_of(clone), clone->engine);
    char scratch[CONTROL_ADDRESS_SIZE];
    if (engine == NULL) {
        fail(clone, GRPC_UNKNOWN, "the engine is gone");
        return;
    }
    gateway_put_address(clone->gateway, engine->record.port, scratch);
    clone->pull = (struct gateway_pull){.replica = clone->engine,
                                        .source = clone->source.name,
                                        .source_address = clone->source.address,
                                        .snapshot = clone->snapshot,
                                        .deep = true,
                                        .done = pulled,
                                        .begun = pull_begun};
    clone->busy = true;
    gateway_pull_start(clone->gateway, &clone->pull, scratch, NULL, 0);
}

/* ---- goals ---- */

static void reached(struct control_goal *goal) {
    struct engine_clone *clone = container_of(goal, struct engine_clone, goal);
    struct error error = goal->error;
    char text[256];
    if (!back(clone))
        return;
    if (error.code != ERROR_NONE)
        fail(clone,
             error.code == ERROR_INVALID     ? GRPC_INVALID_ARGUMENT
             : error.code == ERROR_CANCELLED ? GRPC_UNAVAILABLE
                                             : GRPC_UNKNOWN,
             gateway_error_text(&error, text));
    else if (clone->step == STEP_BEGIN)
        go(clone, STEP_PULL);
    else if (clone->step == STEP_END)
        go(clone, STEP_FORGET);
    else
        end(clone);
}

static void want(struct engine_clone *clone, enum control_verb verb) {
    gateway_goal_init(&clone->goal, verb, clone->engine, reached);
    clone->goal.snapshot = clone->snapshot;
    clone->goal.timestamp = clone->timestamp;
    clone->goal.user_created = clone->user_created;
    clone->goal.bytes = clone->bytes;
    clone->goal.peer = clone->source.name;
    clone->goal.peer_address = clone->source.address;
    clone->goal.complete = !clone->failed;
    clone->goal.failure = clone->failure;
    clone->goal.names = clone->pairs;
    clone->goal.name_count = 2 * clone->leg_count;
    clone->busy = true;
    control_goal_start(control_of(clone), &clone->goal);
}

static void go(struct engine_clone *clone, enum step step) {
    clone->step = step;
    if (clone->gateway->stopping) {
        fail(clone, GRPC_UNAVAILABLE, "the daemon is ending");
        return;
    }
    switch (step) {
    case STEP_ENGINE: ask_engine(clone); break;
    case STEP_SOURCE: ask_replica(clone, &clone->source); break;
    case STEP_BLANK: ask_replica(clone, &clone->legs[clone->leg_at]); break;
    case STEP_NOTE: note(clone, &clone->legs[clone->leg_at]); break;
    case STEP_BEGIN: want(clone, CONTROL_ENGINE_CLONE_BEGIN); break;
    case STEP_PULL: pull(clone); break;
    case STEP_END: want(clone, CONTROL_ENGINE_CLONE_END); break;
    case STEP_FORGET: forget(clone); break;
    case STEP_LINK: want(clone, CONTROL_ENGINE_CLONE_LINK); break;
    case STEPS: assert(!"no step");
    }
}

/* ---- calls ---- */

static bool take(char *to, size_t size, const char *from, const char *field, struct error *error) {
    if (!names_check(from, field, error))
        return false;
    snprintf(to, size, "%s", from);
    return true;
}

/* What each leg is to stand upon; all must be told, and no others. */
static bool take_pairs(struct engine_clone *clone, const Spdkrpc__EngineSnapshotCloneRequest *request, struct error *error) {
    static const char field[] = "dst_replica_src_replica_pair_map";
    if (request->n_dst_replica_src_replica_pair_map != clone->leg_count)
        return error_invalid(error, field, "", "for a linked clone: each replica of the engine, and one of the source engine's");
    for (unsigned i = 0; i < clone->leg_count; i++) {
        const char *source = "";
        for (size_t k = 0; k < clone->leg_count; k++)
            if (strcmp(request->dst_replica_src_replica_pair_map[k]->key, clone->legs[i].name) == 0)
                source = request->dst_replica_src_replica_pair_map[k]->value;
        if (source[0] == '\0')
            return error_invalid(error, field, clone->legs[i].name, "each replica of the engine in it");
        if (!take(clone->sources[i], sizeof(clone->sources[i]), source, field, error))
            return false;
        if (!names_make_snapshot(source, clone->snapshot, clone->upon[i]))
            return error_invalid(error, "snapshot_name", clone->snapshot, "a name that is not too long with the replica's");
        clone->pairs[2 * i] = clone->legs[i].name;
        clone->pairs[2 * i + 1] = clone->upon[i];
    }
    return true;
}

static bool take_request(struct engine_clone *clone, const Spdkrpc__EngineSnapshotCloneRequest *request, struct error *error) {
    if (!take(clone->engine, sizeof(clone->engine), request->name, "name", error) ||
        !take(clone->snapshot, sizeof(clone->snapshot), request->snapshot_name, "snapshot_name", error) ||
        !take(clone->source_engine, sizeof(clone->source_engine), request->src_engine_name, "src_engine_name", error))
        return false;
    clone->linked = request->clone_mode == SPDKRPC__CLONE_MODE__CLONE_MODE_LINKED_CLONE;
    if (!clone->linked && request->clone_mode != SPDKRPC__CLONE_MODE__CLONE_MODE_FULL_COPY)
        return error_invalid(error, "clone_mode", "", "CLONE_MODE_FULL_COPY or CLONE_MODE_LINKED_CLONE");
    if (!control_is_address(request->src_engine_address))
        return error_invalid(error, "src_engine_address", request->src_engine_address, "IP:PORT");
    snprintf(clone->source_engine_address, sizeof(clone->source_engine_address), "%s", request->src_engine_address);
    if (strcmp(clone->engine, clone->source_engine) == 0)
        return error_invalid(error, "src_engine_name", clone->source_engine, "another engine");
    const struct control_engine *engine = control_find_engine(control_of(clone), clone->engine);
    if (engine == NULL)
        return error_set(error, ERROR_NO_DEVICE, "there is no engine %s", clone->engine);
    memcpy(clone->legs, engine->record.legs, sizeof(clone->legs));
    clone->leg_count = engine->record.leg_count;
    return !clone->linked || take_pairs(clone, request, error);
}

void gateway_engine_snapshot_clone(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineSnapshotCloneRequest *request = (const Spdkrpc__EngineSnapshotCloneRequest *)message;
    struct gateway *gateway = gateway_of(call);
    struct engine_clone *clone = gateway->stopping ? NULL : calloc(1, sizeof(*clone));
    struct error error;
    if (clone == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    clone->gateway = gateway;
    bool ok = take_request(clone, request, &error);
    if (ok && find(gateway, clone->engine) != NULL)
        ok = error_set(&error, ERROR_PERMISSION, "something is being cloned into engine %s", clone->engine);
    if (!ok) {
        gateway_fail(call, &error, true);
        free(clone);
        return;
    }
    clone->call = call;
    list_push_back(&gateway->engine_clones, &clone->node);
    go(clone, STEP_ENGINE);
}

void gateway_get_clone(struct grpc_call *call, const ProtobufCMessage *message) {
    static const char *const states[] = {[CONTROL_CLONE_NONE] = "",
                                         [CONTROL_CLONE_COPYING] = "in_progress",
                                         [CONTROL_CLONE_COMPLETE] = "complete",
                                         [CONTROL_CLONE_FAILED] = "error"};
    const char *name = ((const Penstock__V1__GetCloneRequest *)message)->engine;
    const struct control_engine *engine = control_find_engine(gateway_of(call)->options.control, name);
    const struct engine_clone *clone = find(gateway_of(call), name);
    Penstock__V1__GetCloneResponse told = PENSTOCK__V1__GET_CLONE_RESPONSE__INIT;
    if (engine == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine '%s'", name);
        return;
    }
    const struct control_engine_clone *record = &engine->record.clone;
    bool starts = record->state == CONTROL_CLONE_NONE && clone != NULL; /* whoever had no answer need not ask again */
    told.state = starts ? (char *)"starting" : (char *)states[record->state];
    told.snapshot = (char *)(starts ? clone->snapshot : record->snapshot);
    told.source = (char *)(starts ? clone->source.name : record->source);
    told.source_address = (char *)(starts ? clone->source.address : record->source_address);
    told.text = (char *)record->failure;
    told.percent = record->state == CONTROL_CLONE_COMPLETE   ? 100
                   : clone == NULL || clone->pull.total == 0 ? 0
                                                             : (uint32_t)(clone->pull.handled * 100 / clone->pull.total);
    grpc_call_reply(call, &told.base);
}
