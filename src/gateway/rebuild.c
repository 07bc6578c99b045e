/* The rebuilding of a replica of this node from another node's, call by call as a caller wants it: begun, snapshot after snapshot
 * copied and made, finished. What is done with volumes is control's; here is the order, and what is asked of the source.
 * docs/control.md, "Copies between replicas". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum { ASK_MS = 30000, SNAPSHOTS_MAX = 4096, COMPARED = 256, HASH_POLL_MS = 500, PIECES_A_SECOND = 4 };
#define CLUSTER MIB(1) /* on the wire, whatever the store uses */

struct rebuild_snapshot {
    char *name, *parent;
    uint64_t bytes;
    bool done;
};

enum rebuild_state {
    REBUILD_BEGINNING,
    REBUILD_READY,   /* for the next snapshot */
    REBUILD_COPYING, /* current */
    REBUILD_COPIED,  /* current: its snapshot is to be made */
    REBUILD_FAILED
};

struct rebuild {
    struct list_node node;
    struct gateway *gateway;
    struct grpc_call *call; /* that began it; NULL = answered */
    char replica[CONTROL_NAME_MAX + 1], source[CONTROL_NAME_MAX + 1], source_address[CONTROL_ADDRESS_SIZE];
    char external[CONTROL_NAME_MAX + 1], external_address[CONTROL_ADDRESS_SIZE];
    char root_parent[NAMES_VOLUME_SIZE]; /* of a linked clone; "" = none */
    struct rebuild_snapshot *snapshots;
    const char **names;
    size_t count;
    enum rebuild_state state;
    char failure[256];
    bool busy; /* something is under way that calls back */
    bool over; /* it goes when it is not busy */
    /* the current snapshot */
    struct rebuild_snapshot *current;
    bool fast;
    uint64_t limit_mib; /* a second; 0 = as fast as it goes */
    bool listed;        /* nothing is there to compare with: what the source holds is copied by clusters, to go slowly */
    uint64_t pulled_ns; /* when the last piece was begun */
    struct reactor_timer timer;
    char parent[NAMES_VOLUME_SIZE];
    uint64_t *mismatches; /* clusters to be copied; all of them are known before the first is */
    size_t mismatch_count, mismatch_capacity, mismatch_at, pulled;
    uint64_t compare_at;
    struct sum {
        uint64_t cluster, value;
    } source_sums[COMPARED];
    size_t source_sum_count;
    struct gateway_pull pull;
    struct gateway_ask ask;
    struct control_goal goal;
};

/* ---- beginning and end of one ---- */

static struct control *control_of(const struct rebuild *rebuild) { return rebuild->gateway->options.control; }

static struct rebuild *find_any(const struct gateway *gateway, const char *replica) {
    list_for_each (&gateway->rebuilds, struct rebuild, rebuild, node)
        if (strcmp(rebuild->replica, replica) == 0)
            return rebuild;
    return NULL;
}

/* One whose replica was deleted, or stopped, is over. */
static struct rebuild *find(const struct gateway *gateway, const char *name) {
    struct rebuild *rebuild = find_any(gateway, name);
    const struct control_replica *replica = control_find_replica(gateway->options.control, name);
    bool lives = replica != NULL && replica->incoming_lives && replica->record.incoming.kind == CONTROL_REBUILD;
    return rebuild != NULL && (lives || rebuild->call != NULL) ? rebuild : NULL;
}

static void rebuild_free(struct rebuild *rebuild) {
    for (size_t i = 0; i < rebuild->count; i++) {
        free(rebuild->snapshots[i].name);
        free(rebuild->snapshots[i].parent);
    }
    free(rebuild->snapshots);
    free(rebuild->names);
    free(rebuild->mismatches);
    free(rebuild);
}

/* Nobody hears of it any more. */
static void leave(struct rebuild *rebuild) {
    list_remove(&rebuild->node);
    rebuild->over = true;
    if (gateway_pull_stop(&rebuild->pull) || reactor_timer_armed(&rebuild->timer))
        rebuild->busy = false;
    reactor_timer_stop(control_of(rebuild)->options.reactor, &rebuild->timer);
    if (!rebuild->busy)
        rebuild_free(rebuild);
}

/* What was under way has called back. False: nobody wants to know. */
static bool back(struct rebuild *rebuild) {
    rebuild->busy = false;
    if (!rebuild->over)
        return true;
    rebuild_free(rebuild);
    return false;
}

void gateway_rebuilds_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->rebuilds, struct rebuild, rebuild, node)
        if (rebuild->call == NULL)
            leave(rebuild);
}

static void fail(struct rebuild *rebuild, const char *why) {
    rebuild->state = REBUILD_FAILED;
    snprintf(rebuild->failure, sizeof(rebuild->failure), "%.255s", why);
    log_warning(control_of(rebuild)->options.log, LOG_AREA_APP, "rebuilding replica %s from %s: snapshot %s: %s",
                rebuild->replica, rebuild->source, rebuild->current == NULL ? "" : rebuild->current->name, rebuild->failure);
}

static void run_goal(struct rebuild *rebuild, enum control_verb verb, void (*done)(struct control_goal *goal)) {
    gateway_goal_init(&rebuild->goal, verb, rebuild->replica, done);
    rebuild->goal.peer = rebuild->source;
    rebuild->goal.peer_address = rebuild->external_address;
    rebuild->goal.snapshot = rebuild->current != NULL ? rebuild->current->name : rebuild->external;
    rebuild->goal.bytes = rebuild->current != NULL ? rebuild->current->bytes : 0;
    rebuild->goal.parent = rebuild->parent;
    rebuild->goal.names = rebuild->names;
    rebuild->goal.name_count = rebuild->count;
    rebuild->busy = true;
}

static void fail_goal(struct rebuild *rebuild, const struct error *error) {
    char text[256];
    fail(rebuild, gateway_error_text(error, text));
}

/* ---- one snapshot: decided, copied ---- */

static void copied(struct rebuild *rebuild) { rebuild->state = REBUILD_COPIED; }

static void pull_next(struct rebuild *rebuild);

static void paced(struct reactor_timer *timer) {
    struct rebuild *rebuild = container_of(timer, struct rebuild, timer);
    if (back(rebuild))
        pull_next(rebuild);
}

/* The next piece, not before the last one's time is over. */
static void pull_in_time(struct rebuild *rebuild) {
    struct reactor *reactor = control_of(rebuild)->options.reactor;
    uint64_t clusters = rebuild->mismatch_at - rebuild->pulled,
             due = rebuild->limit_mib == 0 ? 0 : rebuild->pulled_ns + clusters * NS_PER_S / rebuild->limit_mib;
    if (due <= host_now_ns(reactor->host)) {
        pull_next(rebuild);
        return;
    }
    rebuild->timer.run = paced;
    rebuild->busy = true;
    reactor_timer_start(reactor, &rebuild->timer, due);
}

static void pulled(struct gateway_pull *pull, bool ok) {
    struct rebuild *rebuild = container_of(pull, struct rebuild, pull);
    if (!back(rebuild))
        return;
    if (!ok)
        fail(rebuild, pull->failure);
    else if (rebuild->mismatches == NULL)
        copied(rebuild);
    else
        pull_in_time(rebuild);
}

/* All that the snapshot holds, or the next of the clusters that differ. */
static void pull_next(struct rebuild *rebuild) {
    const struct control_replica *replica = control_find_replica(control_of(rebuild), rebuild->replica);
    char scratch[CONTROL_ADDRESS_SIZE];
    bool ranges = rebuild->mismatches != NULL;
    uint64_t piece = rebuild->limit_mib == 0 ? COMPARED : max_u64(1, min_u64(COMPARED, rebuild->limit_mib / PIECES_A_SECOND));
    size_t count = ranges ? min_u64(rebuild->mismatch_count - rebuild->mismatch_at, piece) : 0;
    if (replica == NULL) {
        fail(rebuild, "the replica is gone");
        return;
    }
    if (ranges && count == 0) {
        copied(rebuild);
        return;
    }
    gateway_put_address(rebuild->gateway, control_private_port(&replica->record), scratch);
    rebuild->pulled = rebuild->mismatch_at;
    rebuild->pulled_ns = host_now_ns(control_of(rebuild)->options.reactor->host);
    rebuild->pull = (struct gateway_pull){.replica = rebuild->replica,
                                          .source = rebuild->source,
                                          .source_address = rebuild->source_address,
                                          .snapshot = rebuild->current->name,
                                          .done = pulled};
    rebuild->busy = true;
    gateway_pull_start(rebuild->gateway, &rebuild->pull, scratch, ranges ? rebuild->mismatches + rebuild->mismatch_at : NULL,
                       count);
    rebuild->mismatch_at += count;
}

/* A goal of its own has ended: goes on by `next`, if it is to. */
static void goal_done(struct control_goal *goal, void (*next)(struct rebuild *rebuild)) {
    struct rebuild *rebuild = container_of(goal, struct rebuild, goal);
    struct error error = goal->error;
    if (!back(rebuild))
        return;
    if (error.code != ERROR_NONE)
        fail_goal(rebuild, &error);
    else
        next(rebuild);
}

static void scratch_made(struct control_goal *goal) { goal_done(goal, pull_next); }

static void kept(struct control_goal *goal) { goal_done(goal, copied); }

static void make_scratch(struct rebuild *rebuild, bool delta) {
    run_goal(rebuild, CONTROL_REBUILD_SCRATCH, scratch_made);
    rebuild->goal.delta = delta;
    control_goal_start(control_of(rebuild), &rebuild->goal);
}

/* ---- which clusters differ ---- */

static void compare_next(struct rebuild *rebuild);

static bool find_sum(const struct sum *sums, size_t count, uint64_t cluster, uint64_t *ret_value) {
    for (size_t i = 0; i < count; i++)
        if (sums[i].cluster == cluster) {
            *ret_value = sums[i].value;
            return true;
        }
    return false;
}

static bool note_mismatch(struct rebuild *rebuild, uint64_t cluster) {
    if (rebuild->mismatch_count == rebuild->mismatch_capacity) {
        size_t capacity = rebuild->mismatch_capacity * 2;
        uint64_t *mismatches = realloc(rebuild->mismatches, capacity * sizeof(*mismatches));
        if (mismatches == NULL)
            return false;
        rebuild->mismatches = mismatches;
        rebuild->mismatch_capacity = capacity;
    }
    rebuild->mismatches[rebuild->mismatch_count++] = cluster;
    return true;
}

static void compare(struct rebuild *rebuild, const struct sum *own, size_t count) {
    uint64_t end = min_u64(rebuild->compare_at + COMPARED, rebuild->current->bytes / CLUSTER);
    for (uint64_t cluster = rebuild->compare_at; cluster < end; cluster++) {
        uint64_t mine = 0, its = 0;
        bool have = find_sum(own, count, cluster, &mine),
             has = find_sum(rebuild->source_sums, rebuild->source_sum_count, cluster, &its);
        if ((have != has || mine != its) && !note_mismatch(rebuild, cluster)) {
            fail(rebuild, "no memory for what differs");
            return;
        }
    }
    rebuild->compare_at = end;
    compare_next(rebuild);
}

static void own_sums_told(struct control_goal *goal) {
    struct rebuild *rebuild = container_of(goal, struct rebuild, goal);
    struct sum own[COMPARED];
    size_t count = 0, i;
    const json_t *item;
    struct error error = goal->error;
    json_array_foreach(goal->result, i, item) if (count < COMPARED) own[count++] =
        (struct sum){(uint64_t)json_integer_value(json_object_get(item, "cluster_index")),
                     (uint64_t)json_integer_value(json_object_get(item, "checksum"))};
    if (!back(rebuild))
        return;
    if (error.code != ERROR_NONE)
        fail_goal(rebuild, &error);
    else
        compare(rebuild, own, count);
}

static void source_sums_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct rebuild *rebuild = container_of(ask, struct rebuild, ask);
    const Spdkrpc__ReplicaSnapshotRangeHashGetResponse *answer = (const Spdkrpc__ReplicaSnapshotRangeHashGetResponse *)message;
    if (!back(rebuild))
        return;
    if (answer == NULL) {
        fail(rebuild, ask->text);
        return;
    }
    if (answer->n_range_hash_map > COMPARED) {
        fail(rebuild, "the source told checksums that nobody asked for");
        return;
    }
    rebuild->source_sum_count = 0;
    for (size_t i = 0; i < answer->n_range_hash_map; i++)
        rebuild->source_sums[rebuild->source_sum_count++] =
            (struct sum){answer->range_hash_map[i]->key, answer->range_hash_map[i]->value};
    if (rebuild->listed) {
        compare(rebuild, NULL, 0);
        return;
    }
    run_goal(rebuild, CONTROL_SNAPSHOT_RANGES, own_sums_told);
    rebuild->goal.first_cluster = rebuild->compare_at;
    rebuild->goal.cluster_count = COMPARED;
    control_goal_start(control_of(rebuild), &rebuild->goal);
}

static void compare_next(struct rebuild *rebuild) {
    Spdkrpc__ReplicaSnapshotRangeHashGetRequest request = SPDKRPC__REPLICA_SNAPSHOT_RANGE_HASH_GET_REQUEST__INIT;
    if (rebuild->compare_at >= rebuild->current->bytes / CLUSTER) {
        make_scratch(rebuild, !rebuild->listed);
        return;
    }
    request.name = rebuild->source;
    request.snapshot_name = rebuild->current->name;
    request.cluster_start_index = rebuild->compare_at;
    request.cluster_count = COMPARED;
    rebuild->ask.done = source_sums_told;
    rebuild->busy = true;
    gateway_ask(rebuild->gateway, &rebuild->ask, rebuild->source_address, "ReplicaSnapshotRangeHashGet", &request.base,
                &spdkrpc__replica_snapshot_range_hash_get_response__descriptor, ASK_MS);
}

/* ---- how it is had: as it is, by what differs, or as a whole ---- */

static const Spdkrpc__Lvol *find_lvol(const Spdkrpc__Replica *replica, const char *snapshot) {
    for (size_t i = 0; i < replica->n_snapshots; i++)
        if (strcmp(replica->snapshots[i]->key, snapshot) == 0)
            return replica->snapshots[i]->value;
    return NULL;
}

static void begin_comparing(struct rebuild *rebuild) {
    rebuild->mismatch_capacity = COMPARED;
    rebuild->mismatches = calloc(rebuild->mismatch_capacity, sizeof(*rebuild->mismatches));
    if (rebuild->mismatches == NULL)
        fail(rebuild, "no memory for what differs");
    else
        compare_next(rebuild);
}

/* ---- to go slowly, what the source holds must be known: its checksums tell ---- */

static void ask_hash_status(struct reactor_timer *timer);

/* Without them it is copied as a whole, as fast as that goes. */
static void cannot_list(struct rebuild *rebuild, const char *why) {
    log_warning(control_of(rebuild)->options.log, LOG_AREA_APP,
                "rebuilding replica %s: the limit cannot be kept for snapshot %s: %.200s", rebuild->replica,
                rebuild->current->name, why);
    rebuild->listed = false;
    make_scratch(rebuild, false);
}

static void hash_status_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct rebuild *rebuild = container_of(ask, struct rebuild, ask);
    const Spdkrpc__ReplicaSnapshotHashStatusResponse *answer = (const Spdkrpc__ReplicaSnapshotHashStatusResponse *)message;
    struct reactor *reactor = control_of(rebuild)->options.reactor;
    if (!back(rebuild))
        return;
    if (answer != NULL && strcmp(answer->state, "complete") == 0) {
        begin_comparing(rebuild);
    } else if (answer == NULL || (strcmp(answer->state, "in_progress") != 0 && strcmp(answer->state, "starting") != 0)) {
        cannot_list(rebuild, answer == NULL ? ask->text : answer->error);
    } else {
        rebuild->timer.run = ask_hash_status;
        rebuild->busy = true;
        reactor_timer_start(reactor, &rebuild->timer, host_now_ns(reactor->host) + HASH_POLL_MS * NS_PER_MS);
    }
}

static void ask_hash_status(struct reactor_timer *timer) {
    struct rebuild *rebuild = container_of(timer, struct rebuild, timer);
    Spdkrpc__SnapshotHashStatusRequest request = SPDKRPC__SNAPSHOT_HASH_STATUS_REQUEST__INIT;
    request.name = rebuild->source;
    request.snapshot_name = rebuild->current->name;
    rebuild->ask.done = hash_status_told;
    rebuild->busy = true;
    gateway_ask(rebuild->gateway, &rebuild->ask, rebuild->source_address, "ReplicaSnapshotHashStatus", &request.base,
                &spdkrpc__replica_snapshot_hash_status_response__descriptor, ASK_MS);
}

static void source_hashes(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct rebuild *rebuild = container_of(ask, struct rebuild, ask);
    if (!back(rebuild))
        return;
    if (message == NULL)
        cannot_list(rebuild, ask->text);
    else
        ask_hash_status(&rebuild->timer);
}

static void list_source(struct rebuild *rebuild, bool summed) {
    Spdkrpc__SnapshotHashRequest request = SPDKRPC__SNAPSHOT_HASH_REQUEST__INIT;
    rebuild->listed = true;
    if (summed) {
        begin_comparing(rebuild);
        return;
    }
    request.name = rebuild->source;
    request.snapshot_name = rebuild->current->name;
    rebuild->ask.done = source_hashes;
    rebuild->busy = true;
    gateway_ask(rebuild->gateway, &rebuild->ask, rebuild->source_address, "ReplicaSnapshotHash", &request.base,
                &google__protobuf__empty__descriptor, ASK_MS);
}

static void decide(struct rebuild *rebuild, const Spdkrpc__Lvol *its) {
    struct control *control = control_of(rebuild);
    const struct control_replica *replica = control_find_replica(control, rebuild->replica);
    const struct observed_volume *own = replica == NULL ? NULL : control_find_snapshot(control, replica, rebuild->current->name);
    bool summed = own != NULL && own->attributes->checksum[0] != '\0' && its->snapshot_checksum[0] != '\0' &&
                  own->bytes == rebuild->current->bytes;
    if (summed && rebuild->fast && strcmp(own->attributes->checksum, its->snapshot_checksum) == 0 &&
        strcmp(own->attributes->timestamp, its->snapshot_timestamp) == 0) {
        run_goal(rebuild, CONTROL_REBUILD_KEEP, kept);
        control_goal_start(control, &rebuild->goal);
        return;
    }
    const struct observed_store *store = summed ? observed_store(control_seen(control), own->store) : NULL;
    if (store != NULL && store->cluster_bytes == CLUSTER)
        begin_comparing(rebuild);
    else if (rebuild->limit_mib != 0)
        list_source(rebuild, its->snapshot_checksum[0] != '\0');
    else
        make_scratch(rebuild, false);
}

static void source_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct rebuild *rebuild = container_of(ask, struct rebuild, ask);
    if (!back(rebuild))
        return;
    const Spdkrpc__Lvol *its = message == NULL ? NULL : find_lvol((const Spdkrpc__Replica *)message, rebuild->current->name);
    if (message == NULL)
        fail(rebuild, ask->text);
    else if (its == NULL)
        fail(rebuild, "the source does not have it");
    else if (its->spec_size != rebuild->current->bytes)
        fail(rebuild, "its size at the source is another one than was said at the beginning");
    else
        decide(rebuild, its);
}

static void copy_current(struct rebuild *rebuild) {
    Spdkrpc__ReplicaGetRequest request = SPDKRPC__REPLICA_GET_REQUEST__INIT;
    free(rebuild->mismatches);
    rebuild->mismatches = NULL;
    rebuild->mismatch_count = rebuild->mismatch_at = rebuild->pulled = 0;
    rebuild->compare_at = 0;
    rebuild->listed = false;
    rebuild->pull = (struct gateway_pull){0};
    rebuild->state = REBUILD_COPYING;
    request.name = rebuild->source;
    rebuild->ask.done = source_told;
    rebuild->busy = true;
    gateway_ask(rebuild->gateway, &rebuild->ask, rebuild->source_address, "ReplicaGet", &request.base,
                &spdkrpc__replica__descriptor, ASK_MS);
}

/* ---- ReplicaRebuildingDstStart ---- */

static void begun(struct control_goal *goal) {
    struct rebuild *rebuild = container_of(goal, struct rebuild, goal);
    struct gateway *gateway = rebuild->gateway;
    const struct control_replica *replica = control_find_replica(control_of(rebuild), rebuild->replica);
    struct grpc_call *call = rebuild->call;
    rebuild->call = NULL;
    rebuild->busy = false;
    if (goal->error.code != ERROR_NONE || replica == NULL || gateway->stopping) {
        if (goal->error.code == ERROR_NONE)
            error_set(&goal->error, ERROR_CANCELLED, "the daemon is ending");
        gateway_fail(call, &goal->error, true);
        leave(rebuild);
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
            lvol->spec_size == 0 || lvol->spec_size % CLUSTER != 0)
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
    struct rebuild *old = find_any(gateway, request->name), *rebuild = gateway->stopping ? NULL : calloc(1, sizeof(*rebuild));
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
        leave(old);
    rebuild->call = call;
    rebuild->state = REBUILD_BEGINNING;
    list_push_back(&gateway->rebuilds, &rebuild->node);
    run_goal(rebuild, CONTROL_REBUILD_BEGIN, begun);
    control_goal_start(control_of(rebuild), &rebuild->goal);
}

/* ---- ReplicaRebuildingDstShallowCopyStart, …Check ---- */

/* Of a call about a snapshot of a replica. NULL: the call was ended. */
static struct rebuild *find_ready(struct grpc_call *call, const char *name, const char *snapshot) {
    const struct control_replica *replica = control_find_replica(gateway_of(call)->options.control, name);
    struct rebuild *rebuild = find(gateway_of(call), name);
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
        copy_current(rebuild);
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
    const struct rebuild *rebuild = find(gateway_of(call), name);
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
    struct rebuild *rebuild = find(gateway_of(pending->call), pending->goal.name);
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
    struct rebuild *rebuild = find(gateway_of(call), request->name);
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
        leave(rebuild);
    gateway_start(pending);
}

/* ---- ReplicaRebuildingDstSetQosLimit ---- */

/* From the next piece on of what is copied by clusters, and for whole snapshots from the next one on. */
void gateway_rebuild_limit(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaRebuildingDstSetQosLimitRequest *request =
        (const Spdkrpc__ReplicaRebuildingDstSetQosLimitRequest *)message;
    struct rebuild *rebuild = find(gateway_of(call), request->name);
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
