/* Clones: a replica of this node that is empty becomes what a snapshot of another replica is: copied with all that the snapshot
 * stands upon, or (linked) standing upon the snapshot itself, on the same disk. docs/control.md, "Copies between replicas". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { ASK_MS = 30000 };

enum clone_state { CLONE_STARTING, CLONE_COPYING, CLONE_COMPLETE, CLONE_FAILED };

struct clone {
    struct list_node node;
    struct gateway *gateway;
    struct grpc_call *call; /* that began it; NULL = answered */
    char replica[CONTROL_NAME_MAX + 1], snapshot[CONTROL_NAME_MAX + 1], source[CONTROL_NAME_MAX + 1];
    char source_address[CONTROL_ADDRESS_SIZE], timestamp[64];
    enum clone_state state;
    enum grpc_status status;
    char failure[256];
    bool linked, begun, busy, over;
    struct gateway_pull pull;
    struct gateway_ask ask;
    struct control_goal goal;
};

static struct control *control_of(const struct clone *clone) { return clone->gateway->options.control; }

static struct clone *find(const struct gateway *gateway, const char *replica) {
    list_for_each (&gateway->clones, struct clone, clone, node)
        if (strcmp(clone->replica, replica) == 0)
            return clone;
    return NULL;
}

static void leave(struct clone *clone) {
    list_remove(&clone->node);
    clone->over = true;
    if (gateway_pull_stop(&clone->pull))
        clone->busy = false;
    if (!clone->busy)
        free(clone);
}

/* False: nobody wants to know any more. */
static bool back(struct clone *clone) {
    clone->busy = false;
    if (!clone->over)
        return true;
    free(clone);
    return false;
}

void gateway_clones_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->clones, struct clone, clone, node)
        if (clone->call == NULL)
            leave(clone);
}

static void run_goal(struct clone *clone, enum control_verb verb, void (*done)(struct control_goal *goal)) {
    gateway_goal_init(&clone->goal, verb, clone->replica, done);
    clone->goal.peer = clone->source;
    clone->goal.snapshot = clone->snapshot;
    clone->goal.timestamp = clone->timestamp;
    clone->goal.user_created = true;
    clone->busy = true;
}

/* ---- its end ---- */

static void answer(struct clone *clone) {
    struct grpc_call *call = clone->call;
    clone->call = NULL;
    if (call != NULL && clone->state == CLONE_FAILED)
        grpc_call_end(call, clone->status == GRPC_OK ? GRPC_UNKNOWN : clone->status, clone->failure);
    else if (call != NULL)
        gateway_reply_empty(call);
}

static void cleaned(struct control_goal *goal) {
    struct clone *clone = container_of(goal, struct clone, goal);
    if (back(clone)) /* what could not be cleaned up now is seen to later: the record says so */
        answer(clone);
}

static void fail(struct clone *clone, enum grpc_status status, const char *why) {
    clone->state = CLONE_FAILED;
    clone->status = status;
    snprintf(clone->failure, sizeof(clone->failure), "%.255s", why);
    log_warning(control_of(clone)->options.log, LOG_AREA_APP, "cloning snapshot %s of %s into replica %s: %s", clone->snapshot,
                clone->source, clone->replica, clone->failure);
    if (!clone->begun) {
        answer(clone);
        return;
    }
    run_goal(clone, CONTROL_CLONE_END, cleaned); /* not complete */
    control_goal_start(control_of(clone), &clone->goal);
}

static void fail_goal(struct clone *clone, const struct error *error) {
    char text[256];
    fail(clone,
         error->code == ERROR_INVALID     ? GRPC_INVALID_ARGUMENT
         : error->code == ERROR_NO_DEVICE ? GRPC_NOT_FOUND
         : error->code == ERROR_CANCELLED ? GRPC_UNAVAILABLE
                                          : GRPC_UNKNOWN,
         gateway_error_text(error, text));
}

static void forgotten(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct clone *clone = container_of(ask, struct clone, ask);
    (void)message; /* nothing hangs on it here */
    (void)back(clone);
}

static void done(struct control_goal *goal) {
    struct clone *clone = container_of(goal, struct clone, goal);
    struct error error = goal->error;
    Spdkrpc__ReplicaSnapshotCloneSrcFinishRequest request = SPDKRPC__REPLICA_SNAPSHOT_CLONE_SRC_FINISH_REQUEST__INIT;
    if (!back(clone))
        return;
    if (error.code != ERROR_NONE) {
        clone->begun = false; /* the goal itself has seen to what is left */
        fail_goal(clone, &error);
        return;
    }
    clone->state = CLONE_COMPLETE;
    answer(clone);
    if (clone->linked || clone->gateway->stopping)
        return;
    request.name = clone->source;
    request.dst_replica_name = clone->replica;
    clone->ask.done = forgotten;
    clone->busy = true;
    gateway_ask(clone->gateway, &clone->ask, clone->source_address, "ReplicaSnapshotCloneSrcFinish", &request.base,
                &google__protobuf__empty__descriptor, ASK_MS);
}

/* ---- a full one ---- */

static void pulled(struct gateway_pull *pull, bool ok) {
    struct clone *clone = container_of(pull, struct clone, pull);
    if (!back(clone))
        return;
    if (!ok) {
        fail(clone, pull->status, pull->failure);
        return;
    }
    run_goal(clone, CONTROL_CLONE_END, done);
    clone->goal.complete = true;
    control_goal_start(control_of(clone), &clone->goal);
}

/* The caller has its answer when the source has begun. */
static void pull_begun(struct gateway_pull *pull) {
    struct clone *clone = container_of(pull, struct clone, pull);
    clone->state = CLONE_COPYING;
    if (!clone->over)
        answer(clone);
}

static void scratch_made(struct control_goal *goal) {
    struct clone *clone = container_of(goal, struct clone, goal);
    struct error error = goal->error;
    char scratch[CONTROL_ADDRESS_SIZE];
    if (!back(clone))
        return;
    const struct control_replica *replica = control_find_replica(control_of(clone), clone->replica);
    if (error.code == ERROR_NONE && replica == NULL)
        error_set(&error, ERROR_NO_DEVICE, "the replica is gone");
    if (error.code != ERROR_NONE) {
        fail_goal(clone, &error);
        return;
    }
    clone->begun = true;
    gateway_put_address(clone->gateway, control_private_port(&replica->record), scratch);
    clone->pull = (struct gateway_pull){.replica = clone->replica,
                                        .source = clone->source,
                                        .source_address = clone->source_address,
                                        .snapshot = clone->snapshot,
                                        .deep = true,
                                        .done = pulled,
                                        .begun = pull_begun};
    clone->busy = true;
    gateway_pull_start(clone->gateway, &clone->pull, scratch, NULL, 0);
}

static void source_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct clone *clone = container_of(ask, struct clone, ask);
    const Spdkrpc__Replica *replica = (const Spdkrpc__Replica *)message;
    const Spdkrpc__Lvol *lvol = NULL;
    if (!back(clone))
        return;
    for (size_t i = 0; replica != NULL && i < replica->n_snapshots; i++)
        if (strcmp(replica->snapshots[i]->key, clone->snapshot) == 0)
            lvol = replica->snapshots[i]->value;
    if (replica == NULL) {
        fail(clone, ask->status, ask->text);
    } else if (lvol == NULL || lvol->spec_size == 0 || lvol->spec_size % MIB(1) != 0) {
        fail(clone, GRPC_UNKNOWN, lvol == NULL ? "the source has no such snapshot" : "the source tells a size that is none");
    } else {
        snprintf(clone->timestamp, sizeof(clone->timestamp), "%.63s", lvol->snapshot_timestamp);
        run_goal(clone, CONTROL_CLONE_BEGIN, scratch_made);
        clone->goal.bytes = lvol->spec_size;
        control_goal_start(control_of(clone), &clone->goal);
    }
}

static void clone_fully(struct clone *clone) {
    Spdkrpc__ReplicaGetRequest request = SPDKRPC__REPLICA_GET_REQUEST__INIT;
    request.name = clone->source;
    clone->ask.done = source_told;
    clone->busy = true;
    gateway_ask(clone->gateway, &clone->ask, clone->source_address, "ReplicaGet", &request.base, &spdkrpc__replica__descriptor,
                ASK_MS);
}

/* ---- calls ---- */

static bool take(char *to, size_t size, const char *from, const char *field, struct error *error) {
    if (!names_check(from, field, error))
        return false;
    snprintf(to, size, "%s", from);
    return true;
}

static bool take_request(struct clone *clone, const Spdkrpc__ReplicaSnapshotCloneDstStartRequest *request, struct error *error) {
    char volume[NAMES_VOLUME_SIZE];
    clone->linked = request->clone_mode == SPDKRPC__CLONE_MODE__CLONE_MODE_LINKED_CLONE;
    if (!take(clone->replica, sizeof(clone->replica), request->name, "name", error) ||
        !take(clone->snapshot, sizeof(clone->snapshot), request->snapshot_name, "snapshot_name", error) ||
        !take(clone->source, sizeof(clone->source), request->src_replica_name, "src_replica_name", error))
        return false;
    if (!clone->linked && request->clone_mode != SPDKRPC__CLONE_MODE__CLONE_MODE_FULL_COPY)
        return error_invalid(error, "clone_mode", "", "CLONE_MODE_FULL_COPY or CLONE_MODE_LINKED_CLONE");
    if (!control_is_address(request->src_replica_address))
        return error_invalid(error, "src_replica_address", request->src_replica_address, "IP:PORT");
    if (strstr(clone->snapshot, "-snap-") != NULL || !names_make_snapshot(clone->replica, clone->snapshot, volume))
        return error_invalid(error, "snapshot_name", clone->snapshot,
                             "a name without -snap-, that is not too long with the replica's");
    if (strcmp(clone->replica, clone->source) == 0)
        return error_invalid(error, "src_replica_name", clone->source, "another replica");
    snprintf(clone->source_address, sizeof(clone->source_address), "%s", request->src_replica_address);
    return true;
}

/* A source of another node is no linked one: its disk is not here. */
void gateway_clone_start(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaSnapshotCloneDstStartRequest *request = (const Spdkrpc__ReplicaSnapshotCloneDstStartRequest *)message;
    struct gateway *gateway = gateway_of(call);
    struct clone *old = find(gateway, request->name), *clone = gateway->stopping ? NULL : calloc(1, sizeof(*clone));
    struct error error;
    if (clone == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    clone->gateway = gateway;
    bool ok = take_request(clone, request, &error);
    if (ok && control_find_replica(gateway->options.control, request->name) == NULL)
        ok = error_set(&error, ERROR_NO_DEVICE, "there is no replica %s", request->name);
    if (ok && old != NULL && (old->state == CLONE_STARTING || old->state == CLONE_COPYING || old->busy))
        ok = error_set(&error, ERROR_PERMISSION, "snapshot %s of %s is being cloned into replica %s", old->snapshot, old->source,
                       old->replica);
    if (!ok) {
        gateway_fail(call, &error, true);
        free(clone);
        return;
    }
    if (old != NULL)
        leave(old);
    clone->call = call;
    list_push_back(&gateway->clones, &clone->node);
    if (clone->linked) {
        run_goal(clone, CONTROL_CLONE_LINK, done);
        control_goal_start(control_of(clone), &clone->goal);
    } else {
        clone_fully(clone);
    }
}

void gateway_clone_check(struct grpc_call *call, const ProtobufCMessage *message) {
    static const char *const states[] = {
        [CLONE_STARTING] = "starting", [CLONE_COPYING] = "in_progress", [CLONE_COMPLETE] = "complete", [CLONE_FAILED] = "error"};
    const char *name = ((const Spdkrpc__ReplicaSnapshotCloneDstStatusCheckRequest *)message)->name;
    const struct clone *clone = find(gateway_of(call), name);
    Spdkrpc__ReplicaSnapshotCloneDstStatusCheckResponse answered =
        SPDKRPC__REPLICA_SNAPSHOT_CLONE_DST_STATUS_CHECK_RESPONSE__INIT;
    struct error error;
    if (!names_check(name, "name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    if (control_find_replica(gateway_of(call)->options.control, name) == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", name);
        return;
    }
    if (clone == NULL) {
        gateway_check_engine_clone(call, control_find_replica(gateway_of(call)->options.control, name));
        return;
    }
    answered.is_cloning = clone->state == CLONE_STARTING || clone->state == CLONE_COPYING;
    answered.src_replica_name = (char *)clone->source;
    answered.src_replica_address = (char *)clone->source_address;
    answered.snapshot_name = (char *)clone->snapshot;
    answered.state = (char *)states[clone->state];
    answered.progress = clone->state == CLONE_COMPLETE ? 100
                        : clone->pull.total == 0       ? 0
                                                       : (uint32_t)(clone->pull.handled * 100 / clone->pull.total);
    answered.error = (char *)clone->failure;
    grpc_call_reply(call, &answered.base);
}
