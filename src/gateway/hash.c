/* Checksums of snapshots. */
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

/* A call that needs to know what is there now. */
static void look_first(struct grpc_call *call, const ProtobufCMessage *request, enum control_verb how, const char *name,
                       void (*answer)(struct gateway_pending *pending)) {
    struct error error;
    if (!names_check(name, "name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, request, how, how == CONTROL_REFRESH ? "" : name, answer);
    if (pending != NULL)
        gateway_start(pending);
}

static void start(struct gateway_pending *pending) {
    const Spdkrpc__SnapshotHashRequest *request = (const Spdkrpc__SnapshotHashRequest *)pending->request;
    struct control *control = gateway_of(pending->call)->options.control;
    struct error error;
    if (control_hash_start(control, request->name, request->snapshot_name, request->rehash != 0, &error))
        gateway_answer_empty(pending);
    else
        gateway_fail(pending->call, &error, true);
}

void gateway_snapshot_hash(struct grpc_call *call, const ProtobufCMessage *message) {
    look_first(call, message, CONTROL_AWAIT_DISK, ((const Spdkrpc__SnapshotHashRequest *)message)->name, start);
}

static void answer_status(struct gateway_pending *pending) {
    const Spdkrpc__SnapshotHashStatusRequest *request = (const Spdkrpc__SnapshotHashStatusRequest *)pending->request;
    struct control *control = gateway_of(pending->call)->options.control;
    Spdkrpc__ReplicaSnapshotHashStatusResponse answer = SPDKRPC__REPLICA_SNAPSHOT_HASH_STATUS_RESPONSE__INIT;
    struct control_hash_status status;
    struct error error;
    if (!control_hash_get(control, request->name, request->snapshot_name, &status, &error)) {
        gateway_fail(pending->call, &error, true);
        return;
    }
    answer.state = (char *)status.state;
    answer.checksum = (char *)status.checksum;
    answer.error = (char *)status.error;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_snapshot_hash_status(struct grpc_call *call, const ProtobufCMessage *message) {
    look_first(call, message, CONTROL_REFRESH, ((const Spdkrpc__SnapshotHashStatusRequest *)message)->name, answer_status);
}

static void answer_ranges(struct gateway_pending *pending) {
    Spdkrpc__ReplicaSnapshotRangeHashGetResponse answer = SPDKRPC__REPLICA_SNAPSHOT_RANGE_HASH_GET_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    const json_t *sum;
    size_t i;
    answer.range_hash_map = gateway_scratch_take(&scratch, json_array_size(pending->goal.result), sizeof(*answer.range_hash_map));
    json_array_foreach(pending->goal.result, i, sum) {
        Spdkrpc__ReplicaSnapshotRangeHashGetResponse__RangeHashMapEntry *entry =
            gateway_scratch_take(&scratch, 1, sizeof(*entry));
        spdkrpc__replica_snapshot_range_hash_get_response__range_hash_map_entry__init(entry);
        entry->key = (uint64_t)json_integer_value(json_object_get(sum, "cluster_index"));
        entry->value = (uint64_t)json_integer_value(json_object_get(sum, "checksum"));
        answer.range_hash_map[answer.n_range_hash_map++] = entry;
    }
    grpc_call_reply(pending->call, &answer.base);
    gateway_scratch_free(&scratch);
}

void gateway_snapshot_range_hash_get(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaSnapshotRangeHashGetRequest *request = (const Spdkrpc__ReplicaSnapshotRangeHashGetRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_SNAPSHOT_RANGES, request->name, answer_ranges);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.snapshot = request->snapshot_name;
    pending->goal.first_cluster = request->cluster_start_index;
    pending->goal.cluster_count = request->cluster_count;
    gateway_start(pending);
}
