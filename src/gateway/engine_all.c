/* What an engine is asked and each of its replicas' nodes has to do, or knows: checksums of a snapshot, and who made which
 * snapshot, for a purge. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { ASK_MS = 10000, AGAIN_MS = 300, TRIES_MAX = 8 };

struct everybody {
    struct grpc_call *call;
    struct gateway *gateway;
    char engine[CONTROL_NAME_MAX + 1];
    void (*told)(struct everybody *all); /* all have answered, or not */
    unsigned count, missing;
    struct one {
        struct gateway_ask ask;
        struct everybody *all;
        char name[CONTROL_NAME_MAX + 1], address[CONTROL_ADDRESS_SIZE], failure[256];
        ProtobufCMessage *answer; /* NULL: failure says why */
        const ProtobufCMessageDescriptor *receives;
    } ones[CONTROL_LEGS_MAX];
    /* a purge */
    char (*doomed)[CONTROL_NAME_MAX + 1];
    size_t doomed_count, doomed_at;
    unsigned tries;
    struct reactor_timer timer;
    struct control_goal goal;
};

static void everybody_free(struct everybody *all) {
    for (unsigned i = 0; i < all->count; i++)
        if (all->ones[i].answer != NULL)
            protobuf_c_message_free_unpacked(all->ones[i].answer, NULL);
    free(all->doomed);
    free(all);
}

static void one_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct one *one = container_of(ask, struct one, ask);
    if (message == NULL) {
        snprintf(one->failure, sizeof(one->failure), "%.255s", ask->text[0] != '\0' ? ask->text : "its node does not answer");
    } else {
        size_t length = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = malloc(length + 1);
        assert(bytes != NULL);
        protobuf_c_message_pack(message, bytes);
        one->answer = protobuf_c_message_unpack(one->receives, NULL, length, bytes);
        assert(one->answer != NULL); /* it was packed here */
        free(bytes);
    }
    if (--one->all->missing == 0)
        one->all->told(one->all);
}

/* The whole replicas of the engine; NULL: the call was ended. */
static struct everybody *everybody_create(struct grpc_call *call, const char *name, void (*told)(struct everybody *all)) {
    struct gateway *gateway = gateway_of(call);
    const struct control_engine *engine = control_find_engine(gateway->options.control, name);
    struct error error;
    if (!names_check(name, "name", &error)) {
        gateway_fail(call, &error, true);
        return NULL;
    }
    if (engine == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine '%s'", name);
        return NULL;
    }
    if (engine->state != CONTROL_RUNNING) {
        grpc_call_endf(call, GRPC_UNKNOWN, "engine '%s' is in state %s: %s", name, control_state_name(engine->state),
                       engine->reason);
        return NULL;
    }
    struct everybody *all = gateway->stopping ? NULL : calloc(1, sizeof(*all));
    if (all == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return NULL;
    }
    all->call = call;
    all->gateway = gateway;
    all->told = told;
    snprintf(all->engine, sizeof(all->engine), "%s", name);
    for (unsigned i = 0; i < engine->record.leg_count; i++) {
        if (engine->legs[i].mode != CONTROL_LEG_RW)
            continue;
        struct one *one = &all->ones[all->count++];
        one->all = all;
        one->ask.done = one_told;
        snprintf(one->name, sizeof(one->name), "%s", engine->record.legs[i].name);
        snprintf(one->address, sizeof(one->address), "%s", engine->record.legs[i].address);
    }
    all->missing = all->count + 1; /* the asking */
    return all;
}

static void ask_one(struct everybody *all, struct one *one, const char *method, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *receives) {
    one->receives = receives;
    gateway_ask(all->gateway, &one->ask, one->address, method, request, receives, ASK_MS);
}

static void all_asked(struct everybody *all) {
    if (--all->missing == 0)
        all->told(all);
}

/* Ends the call if one of them has failed. */
static bool somebody_failed(struct everybody *all) {
    for (unsigned i = 0; i < all->count; i++)
        if (all->ones[i].answer == NULL) {
            enum grpc_status status = all->ones[i].ask.status == GRPC_INVALID_ARGUMENT ? GRPC_INVALID_ARGUMENT : GRPC_UNKNOWN;
            grpc_call_endf(all->call, status, "replica %s: %.200s", all->ones[i].name, all->ones[i].failure);
            return true;
        }
    return false;
}

/* ---- checksums ---- */

static void hash_told(struct everybody *all) {
    if (!somebody_failed(all))
        gateway_reply_empty(all->call);
    everybody_free(all);
}

void gateway_engine_snapshot_hash(struct grpc_call *call, const ProtobufCMessage *message) {
    Spdkrpc__SnapshotHashRequest request = *(const Spdkrpc__SnapshotHashRequest *)message;
    struct error error;
    if (request.name[0] != '\0' && !names_check(request.snapshot_name, "snapshot_name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    struct everybody *all = everybody_create(call, request.name, hash_told);
    for (unsigned i = 0; all != NULL && i < all->count; i++) {
        request.name = all->ones[i].name;
        ask_one(all, &all->ones[i], "ReplicaSnapshotHash", &request.base, &google__protobuf__empty__descriptor);
    }
    if (all != NULL)
        all_asked(all);
}

static void hash_status_told(struct everybody *all) {
    Spdkrpc__EngineSnapshotHashStatusResponse answer = SPDKRPC__ENGINE_SNAPSHOT_HASH_STATUS_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    answer.status = gateway_scratch_take(&scratch, all->count, sizeof(*answer.status));
    for (unsigned i = 0; i < all->count; i++) {
        Spdkrpc__EngineSnapshotHashStatusResponse__StatusEntry *entry = gateway_scratch_take(&scratch, 1, sizeof(*entry));
        Spdkrpc__ReplicaSnapshotHashStatusResponse *status = (Spdkrpc__ReplicaSnapshotHashStatusResponse *)all->ones[i].answer;
        spdkrpc__engine_snapshot_hash_status_response__status_entry__init(entry);
        entry->key = all->ones[i].address;
        if (status == NULL) {
            status = gateway_scratch_take(&scratch, 1, sizeof(*status));
            spdkrpc__replica_snapshot_hash_status_response__init(status);
            status->state = (char *)"error";
            status->error = all->ones[i].failure;
        }
        entry->value = status;
        answer.status[answer.n_status++] = entry;
    }
    grpc_call_reply(all->call, &answer.base);
    gateway_scratch_free(&scratch);
    everybody_free(all);
}

void gateway_engine_snapshot_hash_status(struct grpc_call *call, const ProtobufCMessage *message) {
    Spdkrpc__SnapshotHashStatusRequest request = *(const Spdkrpc__SnapshotHashStatusRequest *)message;
    struct error error;
    if (request.name[0] != '\0' && !names_check(request.snapshot_name, "snapshot_name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    struct everybody *all = everybody_create(call, request.name, hash_status_told);
    for (unsigned i = 0; all != NULL && i < all->count; i++) {
        request.name = all->ones[i].name;
        ask_one(all, &all->ones[i], "ReplicaSnapshotHashStatus", &request.base,
                &spdkrpc__replica_snapshot_hash_status_response__descriptor);
    }
    if (all != NULL)
        all_asked(all);
}

/* ---- purge ---- */

/* What is known of a snapshot by all of those who have it. */
struct made {
    bool by_user, known;
    size_t children;
};

static struct made who_made(const struct everybody *all, const char *snapshot) {
    struct made made = {0};
    for (unsigned i = 0; i < all->count; i++) {
        const Spdkrpc__Replica *replica = (const Spdkrpc__Replica *)all->ones[i].answer;
        for (size_t s = 0; s < replica->n_snapshots; s++) {
            const Spdkrpc__Lvol *lvol = replica->snapshots[s]->value;
            if (strcmp(replica->snapshots[s]->key, snapshot) != 0 || lvol == NULL)
                continue;
            made.by_user |= lvol->user_created != 0;
            made.known |= lvol->snapshot_timestamp[0] != '\0'; /* a replica that was copied to may not have been told */
            made.children = max_u64(made.children, lvol->n_children);
        }
    }
    return made;
}

static void purge_next(struct everybody *all);

static void purged_one(struct control_goal *goal) {
    struct everybody *all = container_of(goal, struct everybody, goal);
    if (goal->error.code == ERROR_NONE) {
        purge_next(all);
        return;
    }
    gateway_fail(all->call, &goal->error, true);
    everybody_free(all);
}

static void purge_next(struct everybody *all) {
    if (all->doomed_at == all->doomed_count) {
        gateway_reply_empty(all->call);
        everybody_free(all);
        return;
    }
    gateway_goal_init(&all->goal, CONTROL_ENGINE_SNAPSHOT_DELETE, all->engine, purged_one);
    all->goal.snapshot = all->doomed[all->doomed_at++];
    control_goal_start(all->gateway->options.control, &all->goal);
}

static bool has(const struct everybody *all, unsigned one, const char *snapshot) {
    const Spdkrpc__Replica *replica = (const Spdkrpc__Replica *)all->ones[one].answer;
    for (size_t s = 0; s < replica->n_snapshots; s++)
        if (strcmp(replica->snapshots[s]->key, snapshot) == 0)
            return true;
    return false;
}

/* The snapshots that the mirror has; NULL: it is not there. */
static const json_t *tree_of(const struct everybody *all) {
    const struct observation *seen = control_seen(all->gateway->options.control);
    const struct observed_mirror *mirror = seen == NULL ? NULL : observed_mirror(seen, all->engine);
    return mirror == NULL ? NULL : mirror->tree;
}

static void ask_for_purge(struct everybody *all);

static void ask_again(struct reactor_timer *timer) {
    struct everybody *all = container_of(timer, struct everybody, timer);
    for (unsigned i = 0; i < all->count; i++) {
        protobuf_c_message_free_unpacked(all->ones[i].answer, NULL);
        all->ones[i].answer = NULL;
    }
    ask_for_purge(all);
}

/* Nodes answer from what they saw up to a second ago. */
static bool is_behind(const struct everybody *all) {
    size_t i;
    const json_t *snapshot;
    json_array_foreach(tree_of(all), i, snapshot) for (unsigned one = 0; one < all->count; one++) {
        const char *name = json_string_value(json_object_get(snapshot, "name"));
        if (name != NULL && !has(all, one, name))
            return true;
    }
    return false;
}

static void purge_told(struct everybody *all) {
    struct reactor *reactor = all->gateway->options.control->options.reactor;
    const json_t *tree = tree_of(all), *snapshot;
    size_t i;
    if (somebody_failed(all)) {
        everybody_free(all);
        return;
    }
    if (is_behind(all) && ++all->tries < TRIES_MAX && !all->gateway->stopping) {
        all->timer.run = ask_again;
        reactor_timer_start(reactor, &all->timer, host_now_ns(reactor->host) + AGAIN_MS * NS_PER_MS);
        return;
    }
    all->doomed = calloc(json_array_size(tree) + 1, sizeof(*all->doomed));
    assert(all->doomed != NULL);
    json_array_foreach(tree, i, snapshot) {
        const char *name = json_string_value(json_object_get(snapshot, "name"));
        struct made made = who_made(all, name == NULL ? "" : name);
        if (name != NULL && strlen(name) <= CONTROL_NAME_MAX && made.known && !made.by_user && made.children <= 1)
            snprintf(all->doomed[all->doomed_count++], sizeof(all->doomed[0]), "%s", name);
    }
    purge_next(all);
}

static void ask_for_purge(struct everybody *all) {
    all->missing = all->count + 1;
    for (unsigned i = 0; i < all->count; i++) {
        Spdkrpc__ReplicaGetRequest request = SPDKRPC__REPLICA_GET_REQUEST__INIT;
        request.name = all->ones[i].name;
        ask_one(all, &all->ones[i], "ReplicaGet", &request.base, &spdkrpc__replica__descriptor);
    }
    all_asked(all);
}

static void looked(struct grpc_call *call, const ProtobufCMessage *message) {
    struct everybody *all = everybody_create(call, ((const Spdkrpc__SnapshotRequest *)message)->name, purge_told);
    if (all != NULL)
        ask_for_purge(all);
}

void gateway_engine_snapshot_purge(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", looked);
}
