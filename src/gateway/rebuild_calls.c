/* The rebuilding of a replica of this node from another node's, call by call as a caller wants it: begun, snapshot after snapshot
 * copied and made, finished. How a snapshot is copied is in rebuild.c. docs/control.md, "Copies between replicas". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/spdkrpc/replica.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "gateway/rebuild.h"

enum { SNAPSHOTS_MAX = 4096 };

/* ---- ReplicaRebuildingDstStart ---- */

static void begun(struct control_goal *goal) {
    struct rebuild *rebuild = container_of(goal, struct rebuild, goal);
    struct gateway *gateway = rebuild->gateway;
    const struct control_replica *replica = control_find_replica(rebuild_control(rebuild), rebuild->replica);
    struct grpc_call *call = rebuild->call;
    rebuild->call = NULL;
    rebuild->busy = false;
    if (goal->error.code != ERROR_NONE || replica == NULL || gateway->stopping) {
        if (goal->error.code == ERROR_NONE)
            error_set(&goal->error, ERROR_CANCELLED, "the daemon is ending");
        gateway_fail(call, &goal->error, true);
        rebuild_leave(rebuild);
        return;
    }
    Spdkrpc__ReplicaRebuildingDstStartResponse answer = SPDKRPC__REPLICA_REBUILDING_DST_START_RESPONSE__INIT;
    char address[CONTROL_ADDRESS_SIZE];
    gateway_put_address(gateway, replica->record.port, address);
    answer.dst_head_lvol_address = address;
    rebuild->state = REBUILD_READY;
    grpc_call_reply(call, &answer.base);
}

/* The list of what is to be rebuilt: each name once, parents before children, the exported one among them. */
static bool take_list(struct rebuild *rebuild, const Spdkrpc__ReplicaRebuildingDstStartRequest *request, struct error *error) {
    size_t count = request->n_rebuilding_snapshot_list;
    bool external = false;
    if (count == 0 || count > SNAPSHOTS_MAX)
        return error_invalid(error, "rebuilding_snapshot_list", "", "1 to %d snapshots", SNAPSHOTS_MAX);
    rebuild->snapshots = calloc(count, sizeof(*rebuild->snapshots));
    rebuild->names = calloc(count, sizeof(*rebuild->names));
    if (rebuild->snapshots == NULL || rebuild->names == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %zu snapshots", count);
    for (size_t i = 0; i < count; i++) {
        const Spdkrpc__Lvol *lvol = request->rebuilding_snapshot_list[i];
        char volume[NAMES_VOLUME_SIZE];
        bool known = lvol->parent[0] == '\0';
        for (size_t j = 0; j < i; j++) {
            known |= strcmp(rebuild->names[j], lvol->parent) == 0;
            if (strcmp(rebuild->names[j], lvol->name) == 0)
                return error_invalid(error, "rebuilding_snapshot_list", lvol->name, "each snapshot once");
        }
        if (!names_check(lvol->name, "rebuilding_snapshot_list", error))
            return false;
        if (!known)
            return error_invalid(error, "rebuilding_snapshot_list", lvol->name, "parents before their children");
        if (!names_make_snapshot(rebuild->replica, lvol->name, volume) || strstr(lvol->name, "-snap-") != NULL ||
            lvol->spec_size == 0 || lvol->spec_size % REBUILD_CLUSTER != 0)
            return error_invalid(error, "rebuilding_snapshot_list", lvol->name,
                                 "snapshots of whole MiB, without -snap- in names");
        rebuild->snapshots[i] = (struct rebuild_snapshot){strdup(lvol->name), strdup(lvol->parent), lvol->spec_size, false};
        rebuild->names[i] = rebuild->snapshots[i].name;
        rebuild->count++;
        if (rebuild->snapshots[i].name == NULL || rebuild->snapshots[i].parent == NULL)
            return error_set(error, ERROR_NO_MEMORY, "no memory for %zu snapshots", count);
        external |= strcmp(lvol->name, rebuild->external) == 0;
    }
    return external || error_invalid(error, "external_snapshot_name", rebuild->external, "one of rebuilding_snapshot_list");
}

static bool take_text(char *to, size_t size, const char *from, const char *field, struct error *error) {
    if (from[0] == '\0' || strlen(from) >= size)
        return error_invalid(error, field, from, "1 to %zu bytes", size - 1);
    snprintf(to, size, "%s", from);
    return true;
}

static bool take_request(struct rebuild *rebuild, const Spdkrpc__ReplicaRebuildingDstStartRequest *request, struct error *error) {
    if (!names_check(request->name, "name", error) || !names_check(request->src_replica_name, "src_replica_name", error) ||
        !take_text(rebuild->replica, sizeof(rebuild->replica), request->name, "name", error) ||
        !take_text(rebuild->source, sizeof(rebuild->source), request->src_replica_name, "src_replica_name", error) ||
        !take_text(rebuild->source_address, sizeof(rebuild->source_address), request->src_replica_address, "src_replica_address",
                   error) ||
        !take_text(rebuild->external, sizeof(rebuild->external), request->external_snapshot_name, "external_snapshot_name",
                   error) ||
        !take_text(rebuild->external_address, sizeof(rebuild->external_address), request->external_snapshot_address,
                   "external_snapshot_address", error))
        return false;
    if (!control_is_address(rebuild->source_address))
        return error_invalid(error, "src_replica_address", rebuild->source_address, "IP:PORT");
    const Spdkrpc__LinkedCloneSource *linked = request->linked_clone_source;
    if (linked != NULL && linked->snapshot_name[0] != '\0' &&
        !names_make_snapshot(linked->replica_name, linked->snapshot_name, rebuild->root_parent))
        return error_invalid(error, "linked_clone_source", linked->snapshot_name, "the names of a replica and a snapshot of it");
    return take_list(rebuild, request, error);
}

void gateway_rebuild_start(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingDstStartRequest *request = (const Spdkrpc__ReplicaRebuildingDstStartRequest *)message;
    struct gateway *gateway = gateway_of(call);
    struct rebuild *old = rebuild_find_any(gateway, request->name),
                   *rebuild = gateway->stopping ? NULL : calloc(1, sizeof(*rebuild));
    struct error error;
    if (rebuild == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    rebuild->gateway = gateway;
    bool ok = take_request(rebuild, request, &error);
    const struct control_replica *replica = control_find_replica(gateway->options.control, request->name);
    for (size_t i = 0; ok && replica != NULL && i < rebuild->count; i++)
        if (rebuild->snapshots[i].bytes > replica->record.bytes)
            ok = error_set(&error, ERROR_PERMISSION, "snapshot %s is larger than replica %s", rebuild->names[i], request->name);
    if (ok && old != NULL && (old->busy || old->call != NULL))
        ok = error_set(&error, ERROR_PERMISSION, "replica %s is being rebuilt from %s", request->name, old->source);
    if (!ok) {
        gateway_fail(call, &error, true);
        rebuild_free(rebuild);
        return;
    }
    if (old != NULL)
        rebuild_leave(old);
    rebuild->call = call;
    rebuild->state = REBUILD_BEGINNING;
    list_push_back(&gateway->rebuilds, &rebuild->node);
    rebuild_run_goal(rebuild, CONTROL_REBUILD_BEGIN, begun);
    control_goal_start(rebuild_control(rebuild), &rebuild->goal);
}

/* ---- ReplicaRebuildingDstShallowCopyStart, …Check ---- */

/* Of a call about a snapshot of a replica. NULL: the call was ended. */
static struct rebuild *find_ready(struct grpc_call *call, const char *name, const char *snapshot) {
    const struct control_replica *replica = control_find_replica(gateway_of(call)->options.control, name);
    struct rebuild *rebuild = rebuild_find(gateway_of(call), name);
    struct error error;
    if ((name[0] != '\0' && !names_check(snapshot, "snapshot_name", &error)) || !names_check(name, "name", &error))
        gateway_fail(call, &error, true);
    else if (replica == NULL)
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", name);
    else if (rebuild == NULL || rebuild->state == REBUILD_BEGINNING)
        grpc_call_endf(call, GRPC_UNKNOWN, "replica '%s' is not being rebuilt", name);
    else if (rebuild->state == REBUILD_FAILED)
        grpc_call_endf(call, GRPC_UNKNOWN, "its rebuilding has failed: %s", rebuild->failure);
    else
        return rebuild;
    return NULL;
}

static struct rebuild_snapshot *find_snapshot(const struct rebuild *rebuild, const char *name) {
    for (size_t i = 0; i < rebuild->count; i++)
        if (strcmp(rebuild->snapshots[i].name, name) == 0)
            return &rebuild->snapshots[i];
    return NULL;
}

/* Where the snapshot's volume is to hang. False: its parent is not there yet. */
static bool find_parent(struct rebuild *rebuild, const struct rebuild_snapshot *snapshot) {
    snprintf(rebuild->parent, sizeof(rebuild->parent), "%s", rebuild->root_parent);
    if (snapshot->parent[0] == '\0')
        return true;
    const struct rebuild_snapshot *parent = find_snapshot(rebuild, snapshot->parent);
    return parent != NULL && parent->done && names_make_snapshot(rebuild->replica, parent->name, rebuild->parent);
}

void gateway_rebuild_copy(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingDstShallowCopyStartRequest *request =
        (const Spdkrpc__ReplicaRebuildingDstShallowCopyStartRequest *)message;
    struct rebuild *rebuild = find_ready(call, request->name, request->snapshot_name);
    if (rebuild == NULL)
        return;
    struct rebuild_snapshot *snapshot = find_snapshot(rebuild, request->snapshot_name);
    if (snapshot == NULL) {
        grpc_call_endf(call, GRPC_UNKNOWN, "snapshot '%s' was not in the list", request->snapshot_name);
    } else if (rebuild->state == REBUILD_COPYING || (rebuild->state == REBUILD_COPIED && rebuild->current != snapshot)) {
        grpc_call_endf(call, GRPC_UNKNOWN, "snapshot '%s' is under way", rebuild->current->name);
    } else if (snapshot->done) {
        grpc_call_endf(call, GRPC_UNKNOWN, "snapshot '%s' was rebuilt already", request->snapshot_name);
    } else if (!find_parent(rebuild, snapshot)) {
        grpc_call_endf(call, GRPC_UNKNOWN, "the parent of snapshot '%s', '%s', comes first", request->snapshot_name,
                       snapshot->parent);
    } else {
        rebuild->current = snapshot;
        rebuild->fast = request->fast_sync != 0;
        rebuild_copy_current(rebuild);
        gateway_reply_empty(call);
    }
}

static unsigned percent_of(const struct rebuild *rebuild) {
    const struct gateway_pull *pull = &rebuild->pull;
    uint64_t handled = pull->handled, total = pull->total;
    if (rebuild->state == REBUILD_COPIED || (rebuild->current != NULL && rebuild->current->done))
        return 100;
    if (rebuild->mismatches != NULL) {
        handled += rebuild->pulled;
        total = rebuild->mismatch_count;
    }
    return total == 0 ? 0 : (unsigned)min_u64(handled * 100 / total, 100);
}

void gateway_rebuild_check(struct grpc_call *call, const ProtobufCMessage *message) {
    const char *name = ((const Spdkrpc__ReplicaRebuildingDstShallowCopyCheckRequest *)message)->name;
    const struct rebuild *rebuild = rebuild_find(gateway_of(call), name);
    Spdkrpc__ReplicaRebuildingDstShallowCopyCheckResponse answer =
        SPDKRPC__REPLICA_REBUILDING_DST_SHALLOW_COPY_CHECK_RESPONSE__INIT;
    struct error error;
    if (!names_check(name, "name", &error)) {
        gateway_fail(call, &error, true);
        return;
    }
    const struct control_replica *replica = control_find_replica(gateway_of(call)->options.control, name);
    if (replica == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", name);
        return;
    }
    if (rebuild == NULL && gateway_check_engine(call, replica))
        return;
    if (rebuild != NULL && rebuild->state != REBUILD_BEGINNING) {
        size_t done = 0;
        for (size_t i = 0; i < rebuild->count; i++)
            done += rebuild->snapshots[i].done;
        bool failed = rebuild->state == REBUILD_FAILED, current_done = rebuild->current != NULL && rebuild->current->done;
        unsigned percent = percent_of(rebuild);
        answer.src_replica_name = (char *)rebuild->source;
        answer.src_replica_address = (char *)rebuild->source_address;
        answer.snapshot_name = rebuild->current == NULL ? (char *)"" : rebuild->current->name;
        answer.progress = percent;
        answer.state = (char *)(failed                              ? "error"
                                : rebuild->current == NULL          ? "starting"
                                : rebuild->state == REBUILD_COPYING ? "in_progress"
                                                                    : "complete");
        answer.total_state = (char *)(failed ? "error" : done == rebuild->count ? "complete" : "in_progress");
        answer.total_progress =
            rebuild->count == 0
                ? 100
                : (uint32_t)((done * 100 + (rebuild->current == NULL || current_done ? 0 : percent)) / rebuild->count);
        answer.error = (char *)rebuild->failure;
    }
    grpc_call_reply(call, &answer.base);
}

/* ---- ReplicaRebuildingDstSnapshotCreate ---- */

static void snapshot_made(struct gateway_pending *pending) {
    struct rebuild *rebuild = rebuild_find(gateway_of(pending->call), pending->goal.name);
    if (rebuild != NULL && rebuild->state == REBUILD_COPIED && strcmp(rebuild->current->name, pending->goal.snapshot) == 0) {
        rebuild->current->done = true;
        rebuild->state = REBUILD_READY;
    }
    gateway_answer_empty(pending);
}

void gateway_rebuild_snapshot(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__SnapshotRequest *request = (const Spdkrpc__SnapshotRequest *)message;
    struct rebuild *rebuild = find_ready(call, request->name, request->snapshot_name);
    if (rebuild == NULL)
        return;
    const struct rebuild_snapshot *snapshot = find_snapshot(rebuild, request->snapshot_name);
    if (snapshot != NULL && snapshot->done)
        gateway_reply_empty(call);
    else if (snapshot == NULL || rebuild->current != snapshot || rebuild->state != REBUILD_COPIED)
        grpc_call_endf(call, GRPC_UNKNOWN, "snapshot '%s' was not copied", request->snapshot_name);
    else
        gateway_snapshot_call(call, message, CONTROL_REBUILD_SNAPSHOT, snapshot_made);
}

/* ---- ReplicaRebuildingDstFinish ---- */

/* Also how one that has failed is cleaned up. */
void gateway_rebuild_finish(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingDstFinishRequest *request = (const Spdkrpc__ReplicaRebuildingDstFinishRequest *)message;
    struct rebuild *rebuild = rebuild_find(gateway_of(call), request->name);
    if (rebuild != NULL && rebuild->call != NULL) {
        grpc_call_endf(call, GRPC_UNKNOWN, "the rebuilding of replica '%s' is being begun", request->name);
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_REBUILD_END, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.complete = rebuild != NULL && rebuild->state == REBUILD_READY;
    for (size_t i = 0; rebuild != NULL && i < rebuild->count; i++)
        pending->goal.complete &= rebuild->snapshots[i].done;
    if (rebuild != NULL)
        rebuild_leave(rebuild);
    gateway_start(pending);
}

/* ---- ReplicaRebuildingDstSetQosLimit ---- */

/* From the next piece on of what is copied by clusters, and for whole snapshots from the next one on. */
void gateway_rebuild_limit(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingDstSetQosLimitRequest *request =
        (const Spdkrpc__ReplicaRebuildingDstSetQosLimitRequest *)message;
    struct rebuild *rebuild = rebuild_find(gateway_of(call), request->name);
    const struct control_replica *replica = control_find_replica(gateway_of(call)->options.control, request->name);
    struct error error;
    if (!names_check(request->name, "name", &error)) {
        gateway_fail(call, &error, true);
    } else if (request->qos_limit_mbps < 0) {
        grpc_call_end(call, GRPC_INVALID_ARGUMENT, "qos_limit_mbps is below 0: expected MB/s, or 0 for no limit");
    } else if (replica == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", request->name);
    } else if (rebuild == NULL) {
        if (!gateway_limit_engine(call, replica, min_u64((uint64_t)request->qos_limit_mbps, UINT32_MAX) * MIB(1)))
            grpc_call_endf(call, GRPC_UNKNOWN, "replica '%s' is not being rebuilt", request->name);
    } else {
        rebuild->limit_mib = (uint64_t)request->qos_limit_mbps;
        gateway_reply_empty(call);
    }
}
