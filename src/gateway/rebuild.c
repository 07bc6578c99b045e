/* How one snapshot of a replica of this node is rebuilt from another node's: what is asked of the source, and what is copied.
 * What is done with volumes is control's. The calls by which it is ordered are in rebuild_calls.c. docs/control.md, "Copies
 * between replicas". */
#include "gateway/rebuild.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"

enum { ASK_MS = 30000, HASH_POLL_MS = 500, PIECES_A_SECOND = 4 };

/* ---- beginning and end of one ---- */

struct rebuild *rebuild_find_any(const struct gateway *gateway, const char *replica) {
    list_for_each (&gateway->rebuilds, struct rebuild, rebuild, node)
        if (strcmp(rebuild->replica, replica) == 0)
            return rebuild;
    return NULL;
}

struct rebuild *rebuild_find(const struct gateway *gateway, const char *name) {
    struct rebuild *rebuild = rebuild_find_any(gateway, name);
    const struct control_replica *replica = control_find_replica(gateway->options.control, name);
    bool lives = replica != NULL && replica->incoming_lives && replica->record.incoming.kind == CONTROL_REBUILD;
    return rebuild != NULL && (lives || rebuild->call != NULL) ? rebuild : NULL;
}

void rebuild_free(struct rebuild *rebuild) {
    for (size_t i = 0; i < rebuild->count; i++) {
        free(rebuild->snapshots[i].name);
        free(rebuild->snapshots[i].parent);
    }
    free(rebuild->snapshots);
    free(rebuild->names);
    free(rebuild->mismatches);
    free(rebuild);
}

void rebuild_leave(struct rebuild *rebuild) {
    list_remove(&rebuild->node);
    rebuild->over = true;
    if (gateway_pull_stop(&rebuild->pull) || reactor_timer_armed(&rebuild->timer))
        rebuild->busy = false;
    reactor_timer_stop(rebuild_control(rebuild)->options.reactor, &rebuild->timer);
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
            rebuild_leave(rebuild);
}

static void fail(struct rebuild *rebuild, const char *why) {
    rebuild->state = REBUILD_FAILED;
    snprintf(rebuild->failure, sizeof(rebuild->failure), "%.255s", why);
    log_warning(rebuild_control(rebuild)->options.log, LOG_AREA_APP, "rebuilding replica %s from %s: snapshot %s: %s",
                rebuild->replica, rebuild->source, rebuild->current == NULL ? "" : rebuild->current->name, rebuild->failure);
}

void rebuild_run_goal(struct rebuild *rebuild, enum control_verb verb, void (*done)(struct control_goal *goal)) {
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
    struct reactor *reactor = rebuild_control(rebuild)->options.reactor;
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
    const struct control_replica *replica = control_find_replica(rebuild_control(rebuild), rebuild->replica);
    char scratch[CONTROL_ADDRESS_SIZE];
    bool ranges = rebuild->mismatches != NULL;
    uint64_t piece =
        rebuild->limit_mib == 0 ? REBUILD_COMPARED : max_u64(1, min_u64(REBUILD_COMPARED, rebuild->limit_mib / PIECES_A_SECOND));
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
    rebuild->pulled_ns = host_now_ns(rebuild_control(rebuild)->options.reactor->host);
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
    rebuild_run_goal(rebuild, CONTROL_REBUILD_SCRATCH, scratch_made);
    rebuild->goal.delta = delta;
    control_goal_start(rebuild_control(rebuild), &rebuild->goal);
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
    uint64_t end = min_u64(rebuild->compare_at + REBUILD_COMPARED, rebuild->current->bytes / REBUILD_CLUSTER);
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
    struct sum own[REBUILD_COMPARED];
    size_t count = 0, i;
    const json_t *item;
    struct error error = goal->error;
    json_array_foreach(goal->result, i, item) if (count < REBUILD_COMPARED) own[count++] =
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
    if (answer->n_range_hash_map > REBUILD_COMPARED) {
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
    rebuild_run_goal(rebuild, CONTROL_SNAPSHOT_RANGES, own_sums_told);
    rebuild->goal.first_cluster = rebuild->compare_at;
    rebuild->goal.cluster_count = REBUILD_COMPARED;
    control_goal_start(rebuild_control(rebuild), &rebuild->goal);
}

static void compare_next(struct rebuild *rebuild) {
    Spdkrpc__ReplicaSnapshotRangeHashGetRequest request = SPDKRPC__REPLICA_SNAPSHOT_RANGE_HASH_GET_REQUEST__INIT;
    if (rebuild->compare_at >= rebuild->current->bytes / REBUILD_CLUSTER) {
        make_scratch(rebuild, !rebuild->listed);
        return;
    }
    request.name = rebuild->source;
    request.snapshot_name = rebuild->current->name;
    request.cluster_start_index = rebuild->compare_at;
    request.cluster_count = REBUILD_COMPARED;
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
    rebuild->mismatch_capacity = REBUILD_COMPARED;
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
    log_warning(rebuild_control(rebuild)->options.log, LOG_AREA_APP,
                "rebuilding replica %s: the limit cannot be kept for snapshot %s: %.200s", rebuild->replica,
                rebuild->current->name, why);
    rebuild->listed = false;
    make_scratch(rebuild, false);
}

static void hash_status_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct rebuild *rebuild = container_of(ask, struct rebuild, ask);
    const Spdkrpc__ReplicaSnapshotHashStatusResponse *answer = (const Spdkrpc__ReplicaSnapshotHashStatusResponse *)message;
    struct reactor *reactor = rebuild_control(rebuild)->options.reactor;
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
    struct control *control = rebuild_control(rebuild);
    const struct control_replica *replica = control_find_replica(control, rebuild->replica);
    const struct observed_volume *own = replica == NULL ? NULL : control_find_snapshot(control, replica, rebuild->current->name);
    bool summed = own != NULL && own->attributes->checksum[0] != '\0' && its->snapshot_checksum[0] != '\0' &&
                  own->bytes == rebuild->current->bytes;
    if (summed && rebuild->fast && strcmp(own->attributes->checksum, its->snapshot_checksum) == 0 &&
        strcmp(own->attributes->timestamp, its->snapshot_timestamp) == 0) {
        rebuild_run_goal(rebuild, CONTROL_REBUILD_KEEP, kept);
        control_goal_start(control, &rebuild->goal);
        return;
    }
    const struct observed_store *store = summed ? observed_store(control_seen(control), own->store) : NULL;
    if (store != NULL && store->cluster_bytes == REBUILD_CLUSTER)
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

void rebuild_copy_current(struct rebuild *rebuild) {
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
