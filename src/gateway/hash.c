/* Checksums of snapshots. */
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

/* False: the call was ended. */
static bool is_name(struct grpc_call *call, const char *name) {
    struct error error;
    bool ok = names_check(name, "name", &error);
    if (!ok)
        gateway_fail(call, &error, true);
    return ok;
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
    const char *name = ((const Spdkrpc__SnapshotHashRequest *)message)->name;
    struct gateway_pending *pending = is_name(call, name) ? gateway_pend(call, message, CONTROL_AWAIT_DISK, name, start) : NULL;
    if (pending != NULL)
        gateway_start(pending);
}

static void answer_status(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__SnapshotHashStatusRequest *request = (const Spdkrpc__SnapshotHashStatusRequest *)message;
    struct control *control = gateway_of(call)->options.control;
    Spdkrpc__ReplicaSnapshotHashStatusResponse answer = SPDKRPC__REPLICA_SNAPSHOT_HASH_STATUS_RESPONSE__INIT;
    struct control_hash_status status;
    struct error error;
    if (!control_hash_get(control, request->name, request->snapshot_name, &status, &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    answer.state = (char *)status.state;
    answer.checksum = (char *)status.checksum;
    answer.error = (char *)status.error;
    grpc_call_reply(call, &answer.base);
}

void gateway_snapshot_hash_status(struct grpc_call *call, const ProtobufCMessage *message) {
    if (is_name(call, ((const Spdkrpc__SnapshotHashStatusRequest *)message)->name))
        gateway_refresh(call, message, "", answer_status);
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
