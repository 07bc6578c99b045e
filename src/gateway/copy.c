/* Copies to other replicas: what the node of the source is asked. */
#include <stdio.h>

#include "api/proto/spdkrpc/replica.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

void gateway_put_address(const struct gateway *gateway, uint16_t port, char to[CONTROL_ADDRESS_SIZE]) {
    const char *ip = gateway->options.address;
    bool brackets = strchr(ip, ':') != NULL;
    snprintf(to, CONTROL_ADDRESS_SIZE, "%s%.50s%s:%u", brackets ? "[" : "", ip, brackets ? "]" : "", (unsigned)port);
}

/* ---- a snapshot is exported ---- */

static void answer_exposed(struct gateway_pending *pending) {
    const struct gateway *gateway = gateway_of(pending->call);
    const struct control_replica *replica = control_find_replica(gateway->options.control, pending->goal.name);
    Spdkrpc__ReplicaRebuildingSrcStartResponse answer = SPDKRPC__REPLICA_REBUILDING_SRC_START_RESPONSE__INIT;
    char address[CONTROL_ADDRESS_SIZE] = "";
    if (replica != NULL)
        gateway_put_address(gateway, control_private_port(&replica->record), address);
    answer.exposed_snapshot_lvol_address = address;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_source_start(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingSrcStartRequest *request = (const Spdkrpc__ReplicaRebuildingSrcStartRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_EXPOSE, request->name, answer_exposed);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.peer = request->dst_replica_name;
    pending->goal.peer_address = request->dst_replica_address;
    pending->goal.snapshot = request->exposed_snapshot_name;
    gateway_start(pending);
}

void gateway_source_finish(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingSrcFinishRequest *request = (const Spdkrpc__ReplicaRebuildingSrcFinishRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_UNEXPOSE, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.peer = request->dst_replica_name;
    gateway_start(pending);
}

/* ---- copies ---- */

void gateway_source_copy(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingSrcShallowCopyStartRequest *request =
        (const Spdkrpc__ReplicaRebuildingSrcShallowCopyStartRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_COPY, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.snapshot = request->snapshot_name;
    pending->goal.peer_address = request->dst_rebuilding_lvol_address;
    gateway_start(pending);
}

void gateway_source_range_copy(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingSrcRangeShallowCopyStartRequest *request =
        (const Spdkrpc__ReplicaRebuildingSrcRangeShallowCopyStartRequest *)message;
    if (request->n_mismatching_cluster_list == 0 || request->n_mismatching_cluster_list > CONTROL_RANGE_MAX) {
        grpc_call_endf(call, GRPC_INVALID_ARGUMENT, "mismatching_cluster_list has %zu clusters: expected 1 to %d",
                       request->n_mismatching_cluster_list, CONTROL_RANGE_MAX);
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_COPY, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.snapshot = request->snapshot_name;
    pending->goal.peer_address = request->dst_rebuilding_lvol_address;
    pending->goal.clusters = request->mismatching_cluster_list;
    pending->goal.cluster_count = request->n_mismatching_cluster_list;
    gateway_start(pending);
}

/* False: the call was ended. */
static bool find_copy(struct grpc_call *call, const char *name, const char *peer, const char *snapshot,
                      struct control_copy_status *ret_status) {
    struct control *control = gateway_of(call)->options.control;
    struct error error;
    if (!names_check(name, "name", &error) || !names_check(peer, "dst_replica_name", &error) ||
        !names_check(snapshot, "snapshot_name", &error))
        gateway_fail(call, &error, true);
    else if (control_find_replica(control, name) == NULL)
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", name);
    else if (!control_copy_get(control, name, peer, snapshot, ret_status))
        grpc_call_endf(call, GRPC_UNKNOWN, "no copy of snapshot '%s' of replica '%s' to '%s' is known", snapshot, name, peer);
    else
        return true;
    return false;
}

void gateway_source_check(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckRequest *request =
        (const Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckRequest *)message;
    Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckResponse answer =
        SPDKRPC__REPLICA_REBUILDING_SRC_SHALLOW_COPY_CHECK_RESPONSE__INIT;
    struct control_copy_status status;
    if (!find_copy(call, request->name, request->dst_replica_name, request->snapshot_name, &status))
        return;
    answer.state = (char *)status.state;
    answer.copied_clusters = answer.handled_clusters = status.handled;
    answer.total_clusters = status.total;
    answer.error_msg = (char *)status.error;
    grpc_call_reply(call, &answer.base);
}

/* ---- clones ---- */

/* A linked clone copies nothing: the snapshot must be there. */
static void answer_linked(struct gateway_pending *pending) {
    const Spdkrpc__ReplicaSnapshotCloneSrcStartRequest *request =
        (const Spdkrpc__ReplicaSnapshotCloneSrcStartRequest *)pending->request;
    struct control *control = gateway_of(pending->call)->options.control;
    const struct control_replica *replica = control_find_replica(control, request->name);
    if (replica == NULL)
        grpc_call_endf(pending->call, GRPC_NOT_FOUND, "there is no replica '%s'", request->name);
    else if (control_find_snapshot(control, replica, request->snapshot_name) == NULL)
        grpc_call_endf(pending->call, GRPC_UNKNOWN, "replica '%s' has no snapshot '%s'", request->name, request->snapshot_name);
    else
        gateway_answer_empty(pending);
}

void gateway_clone_source_start(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaSnapshotCloneSrcStartRequest *request = (const Spdkrpc__ReplicaSnapshotCloneSrcStartRequest *)message;
    struct error error;
    if (!names_check(request->name, "name", &error) || !names_check(request->snapshot_name, "snapshot_name", &error) ||
        !names_check(request->dst_replica_name, "dst_replica_name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    bool full = request->clone_mode == SPDKRPC__CLONE_MODE__CLONE_MODE_FULL_COPY;
    if (!full && request->clone_mode != SPDKRPC__CLONE_MODE__CLONE_MODE_LINKED_CLONE) {
        grpc_call_end(call, GRPC_INVALID_ARGUMENT,
                      "clone_mode is unknown: expected CLONE_MODE_FULL_COPY or CLONE_MODE_LINKED_CLONE");
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, message, full ? CONTROL_COPY : CONTROL_REFRESH,
                                                   full ? request->name : "", full ? gateway_answer_empty : answer_linked);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.snapshot = request->snapshot_name;
    pending->goal.peer = request->dst_replica_name;
    pending->goal.peer_address = request->dst_cloning_lvol_address;
    pending->goal.deep = true;
    gateway_start(pending);
}

void gateway_clone_source_check(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckRequest *request =
        (const Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckRequest *)message;
    Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckResponse answer = SPDKRPC__REPLICA_SNAPSHOT_CLONE_SRC_STATUS_CHECK_RESPONSE__INIT;
    struct control_copy_status status;
    if (!find_copy(call, request->name, request->dst_replica_name, request->snapshot_name, &status))
        return;
    answer.state = (char *)status.state;
    answer.processed_clusters = status.handled;
    answer.total_clusters = status.total;
    answer.error_msg = (char *)status.error;
    grpc_call_reply(call, &answer.base);
}

static void answer_finished(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    gateway_reply_empty(call);
}

/* What a copy had in the plane went with its end. */
void gateway_clone_source_finish(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaSnapshotCloneSrcFinishRequest *request = (const Spdkrpc__ReplicaSnapshotCloneSrcFinishRequest *)message;
    struct error error;
    if (!names_check(request->name, "name", &error) || !names_check(request->dst_replica_name, "dst_replica_name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    if (control_find_replica(gateway_of(call)->options.control, request->name) == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", request->name);
        return;
    }
    gateway_refresh(call, message, "", answer_finished);
}
