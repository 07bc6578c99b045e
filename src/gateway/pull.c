/* Copies that another node makes into one of ours. It is asked until it says that the copy has ended; that it is silent for a
 * while ends nothing. */
#include <stdio.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "gateway/internal.h"

enum { START_MS = (CONTROL_GOAL_S + 5) * 1000, ASK_MS = 10000, POLL_MS = 250, SILENT_MAX = 30 };

static void fail(struct gateway_pull *pull, enum grpc_status status, const char *why) {
    pull->status = status;
    snprintf(pull->failure, sizeof(pull->failure), "%.255s", why);
    pull->done(pull, false);
}

static void wait_a_while(struct gateway_pull *pull) {
    struct reactor *reactor = pull->gateway->options.control->options.reactor;
    reactor_timer_start(reactor, &pull->timer, host_now_ns(reactor->host) + POLL_MS * NS_PER_MS);
}

static void take_state(struct gateway_pull *pull, const char *state, uint64_t handled, uint64_t total, const char *why) {
    pull->silent = 0;
    pull->total = total;
    pull->handled = min_u64(handled, total);
    if (strcmp(state, "complete") == 0)
        pull->done(pull, true);
    else if (strcmp(state, "in_progress") == 0 || strcmp(state, "starting") == 0)
        wait_a_while(pull);
    else if (strcmp(state, "error") == 0)
        fail(pull, GRPC_OK, why[0] != '\0' ? why : "the source says error");
    else
        fail(pull, GRPC_OK, "the source tells no state of the copy that is known");
}

static void checked(struct gateway_ask *ask, const ProtobufCMessage *answer) {
    struct gateway_pull *pull = container_of(ask, struct gateway_pull, ask);
    bool passes = ask->status == GRPC_UNAVAILABLE || ask->status == GRPC_DEADLINE_EXCEEDED;
    if (answer == NULL && (!passes || pull->gateway->stopping || ++pull->silent == SILENT_MAX)) {
        fail(pull, ask->status, ask->text);
    } else if (answer == NULL) {
        wait_a_while(pull);
    } else if (pull->deep) {
        const Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckResponse *told =
            (const Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckResponse *)answer;
        take_state(pull, told->state, told->processed_clusters, told->total_clusters, told->error_msg);
    } else {
        const Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckResponse *told =
            (const Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckResponse *)answer;
        take_state(pull, told->state, told->handled_clusters, told->total_clusters, told->error_msg);
    }
}

static void poll(struct reactor_timer *timer) {
    struct gateway_pull *pull = container_of(timer, struct gateway_pull, timer);
    Spdkrpc__ReplicaSnapshotCloneSrcStatusCheckRequest deep = SPDKRPC__REPLICA_SNAPSHOT_CLONE_SRC_STATUS_CHECK_REQUEST__INIT;
    Spdkrpc__ReplicaRebuildingSrcShallowCopyCheckRequest shallow =
        SPDKRPC__REPLICA_REBUILDING_SRC_SHALLOW_COPY_CHECK_REQUEST__INIT;
    deep.name = shallow.name = (char *)pull->source;
    deep.dst_replica_name = shallow.dst_replica_name = (char *)pull->replica;
    deep.snapshot_name = shallow.snapshot_name = (char *)pull->snapshot;
    pull->ask.done = checked;
    if (pull->deep)
        gateway_ask(pull->gateway, &pull->ask, pull->source_address, "ReplicaSnapshotCloneSrcStatusCheck", &deep.base,
                    &spdkrpc__replica_snapshot_clone_src_status_check_response__descriptor, ASK_MS);
    else
        gateway_ask(pull->gateway, &pull->ask, pull->source_address, "ReplicaRebuildingSrcShallowCopyCheck", &shallow.base,
                    &spdkrpc__replica_rebuilding_src_shallow_copy_check_response__descriptor, ASK_MS);
}

static void begun(struct gateway_ask *ask, const ProtobufCMessage *answer) {
    struct gateway_pull *pull = container_of(ask, struct gateway_pull, ask);
    if (answer == NULL) {
        fail(pull, ask->status, ask->text);
        return;
    }
    if (pull->begun != NULL)
        pull->begun(pull);
    if (pull->gateway->stopping)
        fail(pull, GRPC_UNAVAILABLE, "the daemon is ending");
    else
        poll(&pull->timer);
}

static void start_deep(struct gateway_pull *pull, const char *scratch) {
    Spdkrpc__ReplicaSnapshotCloneSrcStartRequest request = SPDKRPC__REPLICA_SNAPSHOT_CLONE_SRC_START_REQUEST__INIT;
    request.name = (char *)pull->source;
    request.snapshot_name = (char *)pull->snapshot;
    request.dst_replica_name = (char *)pull->replica;
    request.dst_cloning_lvol_address = (char *)scratch;
    request.clone_mode = SPDKRPC__CLONE_MODE__CLONE_MODE_FULL_COPY;
    gateway_ask(pull->gateway, &pull->ask, pull->source_address, "ReplicaSnapshotCloneSrcStart", &request.base,
                &google__protobuf__empty__descriptor, START_MS);
}

static void start_whole(struct gateway_pull *pull, const char *scratch) {
    Spdkrpc__ReplicaRebuildingSrcShallowCopyStartRequest request =
        SPDKRPC__REPLICA_REBUILDING_SRC_SHALLOW_COPY_START_REQUEST__INIT;
    request.name = (char *)pull->source;
    request.snapshot_name = (char *)pull->snapshot;
    request.dst_rebuilding_lvol_address = (char *)scratch;
    gateway_ask(pull->gateway, &pull->ask, pull->source_address, "ReplicaRebuildingSrcShallowCopyStart", &request.base,
                &google__protobuf__empty__descriptor, START_MS);
}

static void start_range(struct gateway_pull *pull, const char *scratch, const uint64_t *clusters, size_t count) {
    Spdkrpc__ReplicaRebuildingSrcRangeShallowCopyStartRequest request =
        SPDKRPC__REPLICA_REBUILDING_SRC_RANGE_SHALLOW_COPY_START_REQUEST__INIT;
    request.name = (char *)pull->source;
    request.snapshot_name = (char *)pull->snapshot;
    request.dst_rebuilding_lvol_address = (char *)scratch;
    request.mismatching_cluster_list = (uint64_t *)(uintptr_t)clusters;
    request.n_mismatching_cluster_list = count;
    gateway_ask(pull->gateway, &pull->ask, pull->source_address, "ReplicaRebuildingSrcRangeShallowCopyStart", &request.base,
                &google__protobuf__empty__descriptor, START_MS);
}

void gateway_pull_start(struct gateway *gateway, struct gateway_pull *pull, const char *scratch, const uint64_t *clusters,
                        size_t count) {
    pull->gateway = gateway;
    pull->timer.run = poll;
    pull->silent = 0;
    pull->handled = pull->total = 0;
    pull->ask.done = begun;
    if (pull->deep)
        start_deep(pull, scratch);
    else if (clusters == NULL)
        start_whole(pull, scratch);
    else
        start_range(pull, scratch, clusters, count);
}

bool gateway_pull_stop(struct gateway_pull *pull) {
    if (pull->gateway == NULL || !reactor_timer_armed(&pull->timer))
        return false;
    reactor_timer_stop(pull->gateway->options.control->options.reactor, &pull->timer);
    return true;
}
