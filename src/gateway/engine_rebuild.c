/* A replica that keeps no record of the mirror is added to an engine: rebuilt call by call, as a foreign engine would have it
 * done, snapshot after snapshot by its own node, while the mirror writes to it and gives it what was written meanwhile.
 * docs/control.md, "A replica that keeps no record". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum {
    ASK_MS = (CONTROL_GOAL_S + 5) * 1000,
    POLL_MS = 250,
    SHOWN_MS = 100,
    SHOWN_TRIES = 300,
    SILENT_MAX = 30,
    FILLED_MS = 1000,
    FILLED_TRIES = 60
};

enum step {
    STEP_LOOK,     /* is the replica fit? */
    STEP_SNAPSHOT, /* of the engine: what was written until now does not change any more */
    STEP_SOURCE,   /* the source's snapshots, with that one */
    STEP_EXPOSE,   /* the source exports it */
    STEP_BEGIN,    /* the replica's head stands upon that */
    STEP_JOIN,     /* the mirror writes to it; the caller has its answer */
    STEP_COPY,     /* of each snapshot, parents first: begun, */
    STEP_CHECK,    /* asked about until it ends, */
    STEP_MAKE,     /* made */
    STEP_FINISH,   /* the head stands upon the replica's own newest one */
    STEP_UNEXPOSE, /* the source's export goes */
    STEP_FILLED,   /* the mirror may read it */
    STEP_OUT,      /* it has failed: the replica leaves the mirror, */
    STEP_CLEAN,    /* cleans up, */
    STEP_LEAVE,    /* and so does whoever may have been the source */
    STEPS
};

struct engine_rebuild {
    struct list_node node;
    struct gateway *gateway;
    struct grpc_call *call; /* EngineReplicaAdd; NULL = answered */
    enum step step;
    char engine[CONTROL_NAME_MAX + 1], snapshot[24], exposed[CONTROL_ADDRESS_SIZE];
    struct control_leg_record leg, source, others[CONTROL_LEGS_MAX];
    unsigned other_count, other_at;
    Spdkrpc__Replica *told; /* the source */
    Spdkrpc__Lvol **lvols;  /* of it: its snapshots, parents first */
    size_t lvol_count, at;
    uint64_t tree;
    bool fast, joined, busy;
    unsigned tries, silent;
    char failure[256];
    enum grpc_status status;
    struct gateway_ask ask;
    struct control_goal goal;
    struct reactor_timer timer;
};

static struct control *control_of(const struct engine_rebuild *rebuild) { return rebuild->gateway->options.control; }

static void go(struct engine_rebuild *rebuild, enum step step);

/* ---- its end ---- */

static void end(struct engine_rebuild *take_rebuild) {
    struct engine_rebuild *rebuild = take_rebuild;
    list_remove(&rebuild->node);
    reactor_timer_stop(control_of(rebuild)->options.reactor, &rebuild->timer);
    control_engine_rebuilt(control_of(rebuild), rebuild->engine, rebuild->leg.name);
    if (rebuild->call != NULL)
        grpc_call_end(rebuild->call, rebuild->status, rebuild->failure);
    if (rebuild->told != NULL)
        spdkrpc__replica__free_unpacked(rebuild->told, NULL);
    free(rebuild->lvols);
    free(rebuild);
}

static void fail(struct engine_rebuild *rebuild, enum grpc_status status, const char *why) {
    if (rebuild->failure[0] == '\0') {
        snprintf(rebuild->failure, sizeof(rebuild->failure), "replica %.63s: %.180s", rebuild->leg.name, why);
        rebuild->status = status;
    }
    log_warning(control_of(rebuild)->options.log, LOG_AREA_APP, "engine %s: rebuilding %s", rebuild->engine, rebuild->failure);
    if (rebuild->gateway->stopping)
        end(rebuild); /* what is left is seen as such when the daemon is back */
    else
        go(rebuild, STEP_OUT);
}

void gateway_engine_rebuilds_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->engine_rebuilds, struct engine_rebuild, rebuild, node)
        if (!rebuild->busy) { /* between two questions */
            rebuild->status = GRPC_UNAVAILABLE;
            snprintf(rebuild->failure, sizeof(rebuild->failure), "the daemon is ending");
            end(rebuild);
        }
}

/* ---- waiting ---- */

static void timed(struct reactor_timer *timer) {
    struct engine_rebuild *rebuild = container_of(timer, struct engine_rebuild, timer);
    go(rebuild, rebuild->step);
}

static void again(struct engine_rebuild *rebuild, uint64_t after_ms) {
    struct reactor *reactor = control_of(rebuild)->options.reactor;
    rebuild->timer.run = timed;
    reactor_timer_start(reactor, &rebuild->timer, host_now_ns(reactor->host) + after_ms * NS_PER_MS);
}

/* ---- the source's snapshots ---- */

static Spdkrpc__Lvol *find_lvol(const Spdkrpc__Replica *replica, const char *name) {
    for (size_t i = 0; i < replica->n_snapshots; i++)
        if (replica->snapshots[i]->value != NULL && strcmp(replica->snapshots[i]->key, name) == 0)
            return replica->snapshots[i]->value;
    return NULL;
}

static bool is_listed(const struct engine_rebuild *rebuild, const char *name) {
    for (size_t i = 0; i < rebuild->lvol_count; i++)
        if (strcmp(rebuild->lvols[i]->name, name) == 0)
            return true;
    return false;
}

/* False: one of them has a parent that is none of them, or they go round. */
static bool put_in_order(struct engine_rebuild *rebuild) {
    const Spdkrpc__Replica *replica = rebuild->told;
    rebuild->lvols = calloc(replica->n_snapshots + 1, sizeof(*rebuild->lvols));
    for (size_t before = SIZE_MAX; rebuild->lvols != NULL && before != rebuild->lvol_count;) {
        before = rebuild->lvol_count;
        for (size_t i = 0; i < replica->n_snapshots; i++) {
            Spdkrpc__Lvol *lvol = replica->snapshots[i]->value;
            if (lvol != NULL && !is_listed(rebuild, lvol->name) && (lvol->parent[0] == '\0' || is_listed(rebuild, lvol->parent)))
                rebuild->lvols[rebuild->lvol_count++] = lvol;
        }
    }
    return rebuild->lvols != NULL && rebuild->lvol_count == replica->n_snapshots;
}

static Spdkrpc__Replica *copy_of(const ProtobufCMessage *message) {
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(length + 1);
    if (bytes == NULL)
        return NULL;
    protobuf_c_message_pack(message, bytes);
    Spdkrpc__Replica *copy = spdkrpc__replica__unpack(NULL, length, bytes);
    free(bytes);
    return copy;
}

/* ---- answers ---- */

static void looked(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    const Spdkrpc__Replica *replica = (const Spdkrpc__Replica *)answer;
    const struct control_engine *engine = control_find_engine(control_of(rebuild), rebuild->engine);
    if (strcmp(replica->state, "running") != 0)
        fail(rebuild, GRPC_FAILED_PRECONDITION, "its node does not say that it is running");
    else if (engine == NULL || replica->spec_size != engine->record.bytes)
        fail(rebuild, GRPC_FAILED_PRECONDITION, "it is not as large as the engine");
    else
        go(rebuild, STEP_SNAPSHOT);
}

/* Its node may not have seen the engine's snapshot yet. */
static void source_told(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    if (find_lvol((const Spdkrpc__Replica *)answer, rebuild->snapshot) == NULL) {
        if (++rebuild->tries == SHOWN_TRIES)
            fail(rebuild, GRPC_INTERNAL, "its source does not show the snapshot that was made for it");
        else
            again(rebuild, SHOWN_MS);
        return;
    }
    rebuild->told = copy_of(answer);
    if (rebuild->told == NULL || !put_in_order(rebuild))
        fail(rebuild, GRPC_INTERNAL, "its source's snapshots make no sense");
    else
        go(rebuild, STEP_EXPOSE);
}

static void exposed(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    snprintf(rebuild->exposed, sizeof(rebuild->exposed), "%s",
             ((const Spdkrpc__ReplicaRebuildingSrcStartResponse *)answer)->exposed_snapshot_lvol_address);
    go(rebuild, STEP_BEGIN);
}

static void on(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    (void)answer;
    go(rebuild, rebuild->step + 1);
}

static void copy_told(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    const Spdkrpc__ReplicaRebuildingDstShallowCopyCheckResponse *told =
        (const Spdkrpc__ReplicaRebuildingDstShallowCopyCheckResponse *)answer;
    if (strcmp(told->state, "complete") == 0)
        go(rebuild, STEP_MAKE);
    else if (strcmp(told->state, "error") == 0 || strcmp(told->total_state, "error") == 0)
        fail(rebuild, GRPC_INTERNAL, told->error[0] != '\0' ? told->error : "its node says error");
    else
        again(rebuild, POLL_MS);
}

static void made(struct engine_rebuild *rebuild, const ProtobufCMessage *answer) {
    (void)answer;
    rebuild->tries = 0;
    go(rebuild, ++rebuild->at < rebuild->lvol_count ? STEP_COPY : STEP_FINISH);
}

/* ---- questions ---- */

static bool is_cleaning(const struct engine_rebuild *rebuild) { return rebuild->step >= STEP_OUT; }

static void answered(struct gateway_ask *asked, const ProtobufCMessage *answer) {
    struct engine_rebuild *rebuild = container_of(asked, struct engine_rebuild, ask);
    static void (*const told[STEPS])(struct engine_rebuild *, const ProtobufCMessage *) = {
        [STEP_LOOK] = looked,     [STEP_SOURCE] = source_told, [STEP_EXPOSE] = exposed, [STEP_BEGIN] = on,   [STEP_COPY] = on,
        [STEP_CHECK] = copy_told, [STEP_MAKE] = made,          [STEP_FINISH] = on,      [STEP_UNEXPOSE] = on};
    bool passes = asked->status == GRPC_UNAVAILABLE || asked->status == GRPC_DEADLINE_EXCEEDED;
    rebuild->busy = false;
    if (is_cleaning(rebuild)) { /* as well as it can be done */
        if (rebuild->gateway->stopping)
            end(rebuild);
        else if (rebuild->step == STEP_CLEAN)
            go(rebuild, STEP_LEAVE);
        else
            go(rebuild, ++rebuild->other_at < rebuild->other_count ? STEP_LEAVE : STEPS);
        return;
    }
    if (answer == NULL && passes && rebuild->step == STEP_CHECK && !rebuild->gateway->stopping && ++rebuild->silent < SILENT_MAX)
        again(rebuild, POLL_MS);
    else if (answer == NULL)
        fail(rebuild, rebuild->call != NULL && asked->status == GRPC_UNAVAILABLE ? GRPC_UNAVAILABLE : GRPC_INTERNAL, asked->text);
    else
        told[rebuild->step](rebuild, answer);
    /* it may be gone */
}

static void ask(struct engine_rebuild *rebuild, const char *address, const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *receives) {
    rebuild->busy = true;
    rebuild->ask.done = answered;
    gateway_ask(rebuild->gateway, &rebuild->ask, address, method, request, receives, ASK_MS);
}

static void ask_replica(struct engine_rebuild *rebuild, const struct control_leg_record *of) {
    Spdkrpc__ReplicaGetRequest request = SPDKRPC__REPLICA_GET_REQUEST__INIT;
    request.name = (char *)of->name;
    ask(rebuild, of->address, "ReplicaGet", &request.base, &spdkrpc__replica__descriptor);
}

static void ask_source_start(struct engine_rebuild *rebuild) {
    Spdkrpc__ReplicaRebuildingSrcStartRequest request = SPDKRPC__REPLICA_REBUILDING_SRC_START_REQUEST__INIT;
    request.name = rebuild->source.name;
    request.dst_replica_name = rebuild->leg.name;
    request.dst_replica_address = rebuild->leg.address;
    request.exposed_snapshot_name = rebuild->snapshot;
    ask(rebuild, rebuild->source.address, "ReplicaRebuildingSrcStart", &request.base,
        &spdkrpc__replica_rebuilding_src_start_response__descriptor);
}

static void ask_start(struct engine_rebuild *rebuild) {
    Spdkrpc__ReplicaRebuildingDstStartRequest request = SPDKRPC__REPLICA_REBUILDING_DST_START_REQUEST__INIT;
    request.name = rebuild->leg.name;
    request.src_replica_name = rebuild->source.name;
    request.src_replica_address = rebuild->source.address;
    request.external_snapshot_name = rebuild->snapshot;
    request.external_snapshot_address = rebuild->exposed;
    request.rebuilding_snapshot_list = rebuild->lvols;
    request.n_rebuilding_snapshot_list = rebuild->lvol_count;
    ask(rebuild, rebuild->leg.address, "ReplicaRebuildingDstStart", &request.base,
        &spdkrpc__replica_rebuilding_dst_start_response__descriptor);
}

static void ask_copy(struct engine_rebuild *rebuild) {
    Spdkrpc__ReplicaRebuildingDstShallowCopyStartRequest request =
        SPDKRPC__REPLICA_REBUILDING_DST_SHALLOW_COPY_START_REQUEST__INIT;
    request.name = rebuild->leg.name;
    request.snapshot_name = rebuild->lvols[rebuild->at]->name;
    request.fast_sync = rebuild->fast;
    rebuild->silent = 0;
    ask(rebuild, rebuild->leg.address, "ReplicaRebuildingDstShallowCopyStart", &request.base,
        &google__protobuf__empty__descriptor);
}

static void ask_check(struct engine_rebuild *rebuild) {
    Spdkrpc__ReplicaRebuildingDstShallowCopyCheckRequest request =
        SPDKRPC__REPLICA_REBUILDING_DST_SHALLOW_COPY_CHECK_REQUEST__INIT;
    request.name = rebuild->leg.name;
    ask(rebuild, rebuild->leg.address, "ReplicaRebuildingDstShallowCopyCheck", &request.base,
        &spdkrpc__replica_rebuilding_dst_shallow_copy_check_response__descriptor);
}

static void ask_make(struct engine_rebuild *rebuild) {
    const Spdkrpc__Lvol *lvol = rebuild->lvols[rebuild->at];
    Spdkrpc__SnapshotRequest request = SPDKRPC__SNAPSHOT_REQUEST__INIT;
    request.name = rebuild->leg.name;
    request.snapshot_name = lvol->name;
    request.user_created = lvol->user_created;
    request.snapshot_timestamp = lvol->snapshot_timestamp;
    ask(rebuild, rebuild->leg.address, "ReplicaRebuildingDstSnapshotCreate", &request.base, &google__protobuf__empty__descriptor);
}

static void ask_finish(struct engine_rebuild *rebuild) {
    Spdkrpc__ReplicaRebuildingDstFinishRequest request = SPDKRPC__REPLICA_REBUILDING_DST_FINISH_REQUEST__INIT;
    request.name = rebuild->leg.name;
    ask(rebuild, rebuild->leg.address, "ReplicaRebuildingDstFinish", &request.base, &google__protobuf__empty__descriptor);
}

static void ask_source_finish(struct engine_rebuild *rebuild, const struct control_leg_record *of) {
    Spdkrpc__ReplicaRebuildingSrcFinishRequest request = SPDKRPC__REPLICA_REBUILDING_SRC_FINISH_REQUEST__INIT;
    request.name = (char *)of->name;
    request.dst_replica_name = rebuild->leg.name;
    ask(rebuild, of->address, "ReplicaRebuildingSrcFinish", &request.base, &google__protobuf__empty__descriptor);
}

/* ---- goals ---- */

static void reached(struct control_goal *goal) {
    struct engine_rebuild *rebuild = container_of(goal, struct engine_rebuild, goal);
    char text[256];
    rebuild->busy = false;
    if (rebuild->step == STEP_OUT) { /* one that somebody took away meanwhile is out as well */
        if (rebuild->gateway->stopping)
            end(rebuild);
        else
            go(rebuild, STEP_CLEAN);
    } else if (rebuild->step == STEP_FILLED && goal->error.code == ERROR_BUSY && ++rebuild->tries < FILLED_TRIES) {
        again(rebuild, FILLED_MS); /* its mirror is being brought back */
    } else if (goal->error.code != ERROR_NONE) {
        fail(rebuild, GRPC_INTERNAL, gateway_error_text(&goal->error, text));
    } else if (rebuild->step == STEP_JOIN) {
        rebuild->joined = true;
        if (rebuild->call != NULL)
            gateway_reply_empty(rebuild->call);
        rebuild->call = NULL;
        go(rebuild, STEP_COPY);
    } else {
        go(rebuild, rebuild->step == STEP_SNAPSHOT ? STEP_SOURCE : STEPS);
    }
}

static void want(struct engine_rebuild *rebuild, enum control_verb verb) {
    gateway_goal_init(&rebuild->goal, verb, rebuild->engine, reached);
    rebuild->goal.legs = &rebuild->leg;
    rebuild->goal.leg_count = 1;
    rebuild->goal.snapshot = verb == CONTROL_ENGINE_SNAPSHOT_CREATE ? rebuild->snapshot : "";
    rebuild->goal.rebuilds = true;
    rebuild->goal.stays = rebuild->joined;
    rebuild->busy = true;
    if (verb == CONTROL_ENGINE_REPLICA_ADD)
        rebuild->goal.tree = control_engine_tree(control_of(rebuild), rebuild->engine, rebuild->snapshot);
    control_goal_start(control_of(rebuild), &rebuild->goal);
}

/* Whether the engine still has it: it may be taken away at any time. */
static bool is_there(const struct engine_rebuild *rebuild) {
    const struct control_engine *engine = control_find_engine(control_of(rebuild), rebuild->engine);
    for (unsigned i = 0; engine != NULL && i < engine->record.leg_count; i++)
        if (strcmp(engine->record.legs[i].name, rebuild->leg.name) == 0)
            return engine->record.legs[i].filling;
    return false;
}

static void go(struct engine_rebuild *rebuild, enum step step) {
    rebuild->step = step;
    if (step < STEP_OUT && rebuild->gateway->stopping) {
        fail(rebuild, GRPC_UNAVAILABLE, "the daemon is ending");
        return;
    }
    if (step < STEP_OUT && !is_there(rebuild)) {
        fail(rebuild, GRPC_INTERNAL, "it was taken away from its engine");
        return;
    }
    switch (step) {
    case STEP_LOOK: ask_replica(rebuild, &rebuild->leg); break;
    case STEP_SNAPSHOT: want(rebuild, CONTROL_ENGINE_SNAPSHOT_CREATE); break;
    case STEP_SOURCE: ask_replica(rebuild, &rebuild->source); break;
    case STEP_EXPOSE: ask_source_start(rebuild); break;
    case STEP_BEGIN: ask_start(rebuild); break;
    case STEP_JOIN: want(rebuild, CONTROL_ENGINE_REPLICA_ADD); break;
    case STEP_COPY: ask_copy(rebuild); break;
    case STEP_CHECK: ask_check(rebuild); break;
    case STEP_MAKE: ask_make(rebuild); break;
    case STEP_FINISH: ask_finish(rebuild); break;
    case STEP_UNEXPOSE: ask_source_finish(rebuild, &rebuild->source); break;
    case STEP_FILLED: want(rebuild, CONTROL_ENGINE_FILLED); break;
    case STEP_OUT: want(rebuild, CONTROL_ENGINE_REPLICA_DELETE); break;
    case STEP_CLEAN: ask_finish(rebuild); break;
    case STEP_LEAVE: ask_source_finish(rebuild, &rebuild->others[rebuild->other_at]); break;
    case STEPS: end(rebuild); break;
    }
}

/* ---- beginnings ---- */

/* NULL: no memory, or there is no such engine any more. */
static struct engine_rebuild *create(struct gateway *gateway, const char *name, const struct control_leg_record *leg) {
    const struct control_engine *engine = control_find_engine(gateway->options.control, name);
    struct engine_rebuild *rebuild = engine == NULL || gateway->stopping ? NULL : calloc(1, sizeof(*rebuild));
    uint32_t number;
    if (rebuild == NULL)
        return NULL;
    rebuild->gateway = gateway;
    rebuild->leg = *leg;
    rebuild->leg.foreign = true;
    rebuild->status = GRPC_INTERNAL;
    snprintf(rebuild->engine, sizeof(rebuild->engine), "%s", name);
    host_random(gateway->options.control->options.reactor->host, &number, sizeof(number));
    snprintf(rebuild->snapshot, sizeof(rebuild->snapshot), "rebuild-%08x", number);
    for (unsigned i = 0; i < engine->record.leg_count; i++) {
        const struct control_leg_record *other = &engine->record.legs[i];
        if (strcmp(other->name, leg->name) == 0)
            continue;
        rebuild->others[rebuild->other_count++] = *other;
        if (rebuild->source.name[0] == '\0' && !other->foreign && engine->legs[i].mode == CONTROL_LEG_RW)
            rebuild->source = *other;
    }
    list_push_back(&gateway->engine_rebuilds, &rebuild->node);
    return rebuild;
}

bool gateway_rebuild_by_calls(struct gateway_pending *pending) {
    const Spdkrpc__EngineReplicaAddRequest *request = (const Spdkrpc__EngineReplicaAddRequest *)pending->request;
    struct gateway *gateway = gateway_of(pending->call);
    if (pending->goal.error.code != ERROR_UNSUPPORTED)
        return false;
    struct engine_rebuild *rebuild = create(gateway, pending->goal.name, &pending->legs[0]);
    if (rebuild == NULL)
        return false;
    rebuild->call = pending->call;
    rebuild->fast = request->fast_sync != 0;
    if (rebuild->source.name[0] == '\0')
        fail(rebuild, GRPC_INTERNAL, "the engine has no whole replica that it could be rebuilt from");
    else
        go(rebuild, STEP_LOOK);
    return true;
}

void gateway_rebuild_over(struct gateway *gateway, const char *engine, const struct control_leg_record *leg) {
    list_for_each (&gateway->engine_rebuilds, struct engine_rebuild, rebuild, node)
        if (strcmp(rebuild->engine, engine) == 0 && strcmp(rebuild->leg.name, leg->name) == 0)
            return; /* it sees to it */
    struct engine_rebuild *rebuild = create(gateway, engine, leg);
    if (rebuild != NULL)
        go(rebuild, STEP_CLEAN);
}
