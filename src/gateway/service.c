/* The table of methods, and what all handlers share. */
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "api/proto/spdkrpc/spdk.pb-c.h"
#include "gateway/internal.h"

static const struct {
    const char *name;
    gateway_handler *handler;
} served[] = {
    {"DiskCreate", gateway_disk_create},
    {"DiskDelete", gateway_disk_delete},
    {"DiskGet", gateway_disk_get},
    {"DiskHealthGet", gateway_disk_health_get},
    {"EngineCreate", gateway_engine_create},
    {"EngineDelete", gateway_engine_delete},
    {"EngineExpand", gateway_engine_expand},
    {"EngineExpandPrecheck", gateway_engine_expand_precheck},
    {"EngineFrontendCreate", gateway_frontend_create},
    {"EngineFrontendDelete", gateway_frontend_delete},
    {"EngineFrontendExpand", gateway_frontend_expand},
    {"EngineFrontendGet", gateway_frontend_get},
    {"EngineFrontendList", gateway_frontend_list},
    {"EngineFrontendReplicaAdd", gateway_frontend_replica_add},
    {"EngineFrontendResume", gateway_frontend_resume},
    {"EngineFrontendSnapshotCreate", gateway_frontend_snapshot_create},
    {"EngineFrontendSnapshotDelete", gateway_frontend_snapshot_delete},
    {"EngineFrontendSnapshotPurge", gateway_frontend_snapshot_purge},
    {"EngineFrontendSnapshotRevert", gateway_frontend_snapshot_revert},
    {"EngineFrontendSuspend", gateway_frontend_suspend},
    {"EngineFrontendSwitchOver", gateway_frontend_switch_over},
    {"EngineFrontendWatch", gateway_frontend_watch},
    {"EngineGet", gateway_engine_get},
    {"EngineList", gateway_engine_list},
    {"EngineReplicaAdd", gateway_engine_replica_add},
    {"EngineReplicaDelete", gateway_engine_replica_delete},
    {"EngineReplicaList", gateway_engine_replica_list},
    {"EngineSetTargetListenerANAState", gateway_engine_set_ana},
    {"EngineSnapshotClone", gateway_engine_snapshot_clone},
    {"EngineSnapshotCreate", gateway_engine_snapshot_create},
    {"EngineSnapshotDelete", gateway_engine_snapshot_delete},
    {"EngineSnapshotHash", gateway_engine_snapshot_hash},
    {"EngineSnapshotHashStatus", gateway_engine_snapshot_hash_status},
    {"EngineSnapshotMaxCountSet", gateway_engine_snapshot_max_count_set},
    {"EngineSnapshotPurge", gateway_engine_snapshot_purge},
    {"EngineSnapshotRevert", gateway_engine_snapshot_revert},
    {"EngineWatch", gateway_engine_watch},
    {"LogGetFlags", gateway_log_get_flags},
    {"LogGetLevel", gateway_log_get_level},
    {"LogSetFlags", gateway_log_set_flags},
    {"LogSetLevel", gateway_log_set_level},
    {"MetricsGet", gateway_metrics_get},
    {"ReplicaCreate", gateway_replica_create},
    {"ReplicaDelete", gateway_replica_delete},
    {"ReplicaExpand", gateway_replica_expand},
    {"ReplicaGet", gateway_replica_get},
    {"ReplicaList", gateway_replica_list},
    {"ReplicaRebuildingDstFinish", gateway_rebuild_finish},
    {"ReplicaRebuildingDstSetQosLimit", gateway_rebuild_limit},
    {"ReplicaRebuildingDstShallowCopyCheck", gateway_rebuild_check},
    {"ReplicaRebuildingDstShallowCopyStart", gateway_rebuild_copy},
    {"ReplicaRebuildingDstSnapshotCreate", gateway_rebuild_snapshot},
    {"ReplicaRebuildingDstStart", gateway_rebuild_start},
    {"ReplicaRebuildingSrcFinish", gateway_source_finish},
    {"ReplicaRebuildingSrcRangeShallowCopyStart", gateway_source_range_copy},
    {"ReplicaRebuildingSrcShallowCopyCheck", gateway_source_check},
    {"ReplicaRebuildingSrcShallowCopyStart", gateway_source_copy},
    {"ReplicaRebuildingSrcStart", gateway_source_start},
    {"ReplicaSnapshotCloneDstStart", gateway_clone_start},
    {"ReplicaSnapshotCloneDstStatusCheck", gateway_clone_check},
    {"ReplicaSnapshotCloneSrcFinish", gateway_clone_source_finish},
    {"ReplicaSnapshotCloneSrcStart", gateway_clone_source_start},
    {"ReplicaSnapshotCloneSrcStatusCheck", gateway_clone_source_check},
    {"ReplicaSnapshotCreate", gateway_snapshot_create},
    {"ReplicaSnapshotDelete", gateway_snapshot_delete},
    {"ReplicaSnapshotHash", gateway_snapshot_hash},
    {"ReplicaSnapshotHashStatus", gateway_snapshot_hash_status},
    {"ReplicaSnapshotPurge", gateway_snapshot_purge},
    {"ReplicaSnapshotRangeHashGet", gateway_snapshot_range_hash_get},
    {"ReplicaSnapshotRevert", gateway_snapshot_revert},
    {"ReplicaWatch", gateway_replica_watch},
    {"VersionDetailGet", gateway_version_detail_get},
};

/* What is missing for the others; the first prefix counts. */
static const struct {
    const char *prefix, *missing;
} missing[] = {
    {"BackingImage", "backing images are not offered"},
    {"EngineBackup", "backups are not offered"},
    {"EngineRestore", "backups are not offered"},
    {"EngineSnapshotHash", "a checksum that is being made is not locked, and not stopped"},
    {"EngineSuspend", "suspend its engine frontend"},
    {"EngineResume", "resume its engine frontend"},
    {"EngineDeleteTarget", "delete the engine"},
    {"ReplicaBackup", "backups are not offered"},
    {"ReplicaRestore", "backups are not offered"},
    {"ReplicaSnapshotHash", "a checksum that is being made is not locked, and not stopped"},
    {"Shard", "volumes of shards are not offered"},
};

static void unimplemented(struct grpc_call *call, const ProtobufCMessage *request) {
    const char *name = call->method->name, *what = "it is not offered";
    (void)request;
    for (size_t i = 0; i < array_count(missing); i++)
        if (strncmp(name, missing[i].prefix, strlen(missing[i].prefix)) == 0) {
            what = missing[i].missing;
            break;
        }
    grpc_call_endf(call, GRPC_UNIMPLEMENTED, "%s: %s", name, what);
}

static void quiet_watch_lost(struct grpc_call *call) {
    struct list_node *node = call->arg;
    list_remove(node);
    free(node);
    grpc_call_end(call, GRPC_CANCELLED, NULL);
}

/* Of a kind of which there are none: nothing ever changes. */
struct quiet_watch {
    struct list_node node; /* first: quiet_watch_lost() */
    struct grpc_call *call;
};

static void quiet_watch(struct grpc_call *call, const ProtobufCMessage *request) {
    struct quiet_watch *watch = gateway_of(call)->stopping ? NULL : calloc(1, sizeof(*watch));
    (void)request;
    if (watch == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    watch->call = call;
    call->arg = &watch->node;
    call->cancelled = quiet_watch_lost;
    list_push_back(&gateway_of(call)->quiet_watches, &watch->node);
}

static gateway_handler *handler_of(const char *name, bool stream) {
    for (size_t i = 0; i < array_count(served); i++)
        if (strcmp(served[i].name, name) == 0)
            return served[i].handler;
    return stream ? quiet_watch : unimplemented;
}

struct gateway *gateway_create(struct grpc_server *server, const struct gateway_options *options) {
    const ProtobufCServiceDescriptor *described = &spdkrpc__spdkservice__descriptor;
    struct gateway *gateway = calloc(1, sizeof(*gateway) + described->n_methods * sizeof(gateway->methods[0]));
    if (gateway == NULL)
        return NULL;
    gateway->options = *options;
    gateway->service = (struct grpc_service){GATEWAY_SERVICE, gateway->methods, described->n_methods};
    list_init(&gateway->watches);
    list_init(&gateway->quiet_watches);
    list_init(&gateway->volume_watches);
    list_init(&gateway->peers);
    list_init(&gateway->switches);
    list_init(&gateway->rate_calls);
    list_init(&gateway->looks);
    list_init(&gateway->rebuilds);
    list_init(&gateway->clones);
    list_init(&gateway->engine_clones);
    list_init(&gateway->engine_rebuilds);
    gateway->options.server = server;
    for (unsigned i = 0; i < described->n_methods; i++) {
        const ProtobufCMethodDescriptor *method = &described->methods[i];
        size_t length = strlen(method->name);
        /* The descriptor does not tell streams; in this service they are all watches, and all watches are streams. */
        bool stream = length > 5 && strcmp(method->name + length - 5, "Watch") == 0;
        gateway->methods[i] = (struct grpc_method){method->name, stream ? GRPC_SERVER_STREAM : GRPC_UNARY, method->input,
                                                   method->output, handler_of(method->name, stream)};
    }
    gateway->began_ns = reactor_now_ns(options->control->options.reactor);
    if (grpc_server_add(server, &gateway->service, gateway) && grpc_server_add(server, &gateway_own_service, gateway) &&
        grpc_server_add(server, &gateway_volume_service, gateway)) {
        gateway_switches_resume(gateway);
        return gateway;
    }
    free(gateway);
    return NULL;
}

void gateway_stop(struct gateway *gateway) {
    while (!list_empty(&gateway->quiet_watches)) {
        struct quiet_watch *watch = list_entry(list_pop_front(&gateway->quiet_watches), struct quiet_watch, node);
        grpc_call_end(watch->call, GRPC_UNAVAILABLE, "the daemon is ending");
        free(watch);
    }
    gateway_watches_end(gateway);
    gateway_volume_watches_end(gateway);
    gateway->stopping = true;
    gateway_switches_end(gateway);
    gateway_rebuilds_end(gateway);
    gateway_engine_rebuilds_end(gateway);
    gateway_clones_end(gateway);
    gateway_engine_clones_end(gateway);
    gateway_peers_end(gateway);
    gateway_rates_end(gateway);
}

void gateway_destroy(struct gateway *gateway) {
    assert(list_empty(&gateway->watches) && list_empty(&gateway->quiet_watches));
    gateway_rates_fini(gateway);
    gateway_rebuilds_end(gateway); /* those whose beginning was under way */
    gateway_engine_rebuilds_end(gateway);
    gateway_clones_end(gateway);
    gateway_engine_clones_end(gateway);
    free(gateway);
}

/* ---- errors ---- */

static enum grpc_status status_of(enum error_code code, bool plain_errors) {
    switch (code) {
    case ERROR_INVALID: return GRPC_INVALID_ARGUMENT;
    case ERROR_NOT_FOUND:
    case ERROR_NO_DEVICE: return GRPC_NOT_FOUND;
    case ERROR_UNSUPPORTED: return GRPC_UNIMPLEMENTED;
    case ERROR_EXISTS: return plain_errors ? GRPC_UNKNOWN : GRPC_ALREADY_EXISTS;
    case ERROR_PERMISSION: return plain_errors ? GRPC_UNKNOWN : GRPC_FAILED_PRECONDITION;
    case ERROR_TIMED_OUT: return GRPC_DEADLINE_EXCEEDED;
    case ERROR_CANCELLED: return GRPC_UNAVAILABLE;
    case ERROR_NO_MEMORY:
    case ERROR_NO_SPACE: return plain_errors ? GRPC_UNKNOWN : GRPC_RESOURCE_EXHAUSTED;
    case ERROR_INTERNAL: return GRPC_INTERNAL;
    default: return GRPC_UNKNOWN;
    }
}

const char *gateway_error_text(const struct error *error, char to[256]) {
    if (error->code == ERROR_INVALID && error->field[0] != '\0')
        snprintf(to, 256, "%.40s is '%.40s': expected %.120s", error->field, error->value, error->expected);
    else
        snprintf(to, 256, "%.255s", error->text);
    return to;
}

void gateway_fail(struct grpc_call *call, const struct error *error, bool plain_errors) {
    enum grpc_status status = status_of(error->code, plain_errors);
    if (error->code == ERROR_INVALID && error->field[0] != '\0')
        grpc_call_endf(call, status, "%s is '%s': expected %s", error->field, error->value, error->expected);
    else
        grpc_call_end(call, status, error->text);
}

/* ---- calls that wait for a goal ---- */

static void goal_done(struct control_goal *goal) {
    struct gateway_pending *pending = container_of(goal, struct gateway_pending, goal);
    if (goal->error.code != ERROR_NONE && pending->failed != NULL && pending->failed(pending))
        (void)pending; /* its call goes on */
    else if (goal->error.code != ERROR_NONE)
        gateway_fail(pending->call, &goal->error, pending->plain_errors);
    else
        pending->answer(pending);
    free(pending);
}

void gateway_goal_init(struct control_goal *goal, enum control_verb verb, const char *name,
                       void (*done)(struct control_goal *goal)) {
    *goal = (struct control_goal){.verb = verb,
                                  .name = name,
                                  .path = "",
                                  .driver = "",
                                  .uuid = "",
                                  .store_name = "",
                                  .store_uuid = "",
                                  .snapshot = "",
                                  .timestamp = "",
                                  .peer = "",
                                  .peer_address = "",
                                  .parent = "",
                                  .volume = "",
                                  .frontend = "",
                                  .engine = "",
                                  .target = "",
                                  .failure = "",
                                  .done = done};
}

struct gateway_pending *gateway_pend(struct grpc_call *call, const ProtobufCMessage *request, enum control_verb verb,
                                     const char *name, void (*answer)(struct gateway_pending *pending)) {
    struct gateway_pending *pending = calloc(1, sizeof(*pending));
    if (pending == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    *pending = (struct gateway_pending){.call = call, .request = request, .answer = answer};
    gateway_goal_init(&pending->goal, verb, name, goal_done);
    return pending;
}

void gateway_start(struct gateway_pending *pending) {
    control_goal_start(gateway_of(pending->call)->options.control, &pending->goal);
}

static void refreshed(struct gateway_pending *pending) { pending->then(pending->call, pending->request); }

void gateway_refresh(struct grpc_call *call, const ProtobufCMessage *request, const char *name, gateway_handler *then) {
    if (control_is_fresh(gateway_of(call)->options.control, name)) {
        then(call, request);
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, request, CONTROL_REFRESH, name, refreshed);
    if (pending == NULL)
        return;
    pending->then = then;
    gateway_start(pending);
}

void gateway_snapshot_call(struct grpc_call *call, const ProtobufCMessage *message, enum control_verb verb,
                           void (*answer)(struct gateway_pending *pending)) {
    const Spdkrpc__SnapshotRequest *request = (const Spdkrpc__SnapshotRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, verb, request->name, answer);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.snapshot = request->snapshot_name;
    pending->goal.timestamp = request->snapshot_timestamp;
    pending->goal.user_created = request->user_created != 0;
    gateway_start(pending);
}

void gateway_reply_empty(struct grpc_call *call) {
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    grpc_call_reply(call, &empty.base);
}

void gateway_answer_empty(struct gateway_pending *pending) { gateway_reply_empty(pending->call); }

/* ---- memory of an answer ---- */

struct gateway_scratch_piece {
    struct gateway_scratch_piece *next;
    alignas(16) uint8_t bytes[];
};

void *gateway_scratch_take(struct gateway_scratch *scratch, size_t count, size_t size) {
    size_t bytes;
    bool small_enough = !__builtin_mul_overflow(max_u64(count, 1), size, &bytes) && bytes < SIZE_MAX / 2;
    assert(small_enough);
    bytes = round_up(bytes, 16);
    if (bytes > scratch->left) {
        size_t room = max_u64(bytes, KIB(4) - sizeof(struct gateway_scratch_piece));
        struct gateway_scratch_piece *piece = malloc(sizeof(*piece) + room);
        assert(piece != NULL);
        piece->next = scratch->pieces;
        *scratch = (struct gateway_scratch){piece, piece->bytes, room};
    }
    void *taken = scratch->at;
    scratch->at += bytes;
    scratch->left -= bytes;
    return memset(taken, 0, bytes);
}

void gateway_scratch_free(struct gateway_scratch *scratch) {
    for (struct gateway_scratch_piece *piece = scratch->pieces, *next; piece != NULL; piece = next) {
        next = piece->next;
        free(piece);
    }
}
