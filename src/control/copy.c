/* What replicas do for each other: what its verbs check, record and leave behind; the copies that were begun, which go on in the
 * plane and are asked about until they end. docs/control.md, "Copies between replicas". Plans are in plan_copy.c. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/internal.h"

enum { POLL_MS = 200, POLL_TIMEOUT_MS = 30000, COPIES_MAX = 1024 };

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

/* ---- copies under way, and the last one to each peer ---- */

struct control_copy {
    struct list_node node;
    struct control *control;
    char replica[CONTROL_NAME_MAX + 1], peer[CONTROL_NAME_MAX + 1], snapshot[CONTROL_NAME_MAX + 1], way[NAMES_VOLUME_SIZE];
    const char *state;
    uint64_t handled, total, unit_mib;
    uint32_t operation;
    char failure[256];
    bool deep, calling;
    struct plane_call call;
    struct reactor_timer timer;
};

static struct reactor *reactor_of(const struct control_copy *copy) { return copy->control->options.reactor; }

static bool is_under_way(const struct control_copy *copy) { return strcmp(copy->state, "in_progress") == 0; }

static struct control_copy *find_copy(struct control *control, const char *replica, const char *peer) {
    list_for_each (&control->copies, struct control_copy, copy, node)
        if (strcmp(copy->replica, replica) == 0 && strcmp(copy->peer, peer) == 0)
            return copy;
    return NULL;
}

static void drop(struct control_copy *copy) {
    reactor_timer_stop(reactor_of(copy), &copy->timer);
    list_remove(&copy->node);
    free(copy);
}

struct detaching {
    struct plane_call call;
};

static void detached(struct plane_call *call) {
    struct detaching *detaching = container_of(call, struct detaching, call);
    if (call->ok)
        json_decref(call->result);
    json_decref(call->params);
    free(detaching);
}

/* Nobody waits for it: what is left is taken away before the next copy, and with the replica. */
static void detach(struct control *control, const char *controller) {
    struct detaching *detaching =
        control_plane_ready(&control->plane) && !control->stopping ? calloc(1, sizeof(*detaching)) : NULL;
    if (detaching == NULL)
        return;
    detaching->call = (struct plane_call){.method = "bdev_nvme_detach_controller",
                                          .params = json_pack("{s:s}", "name", controller),
                                          .timeout_ms = POLL_TIMEOUT_MS,
                                          .done = detached};
    control_plane_call(&control->plane, &detaching->call);
}

static void finish(struct control_copy *copy, const char *state, const char *failure) {
    copy->state = state;
    snprintf(copy->failure, sizeof(copy->failure), "%s", failure);
    detach(copy->control, copy->way);
}

static uint64_t number_of(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value < 0 ? 0 : (uint64_t)value;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static void told(struct plane_call *call) {
    struct control_copy *copy = container_of(call, struct control_copy, call);
    uint64_t now = host_now_ns(reactor_of(copy)->host);
    copy->calling = false;
    json_decref(call->params);
    if (!call->ok) {
        finish(copy, "error", call->error.text);
        return;
    }
    const char *state = text_of(call->result, "state"), *why = text_of(call->result, "reason");
    copy->total = number_of(call->result, "total_clusters") * copy->unit_mib;
    copy->handled = (copy->deep ? number_of(call->result, "processed_clusters")
                                : number_of(call->result, "copied_clusters") + number_of(call->result, "unmapped_clusters")) *
                    copy->unit_mib;
    if (strcmp(state, "complete") == 0)
        finish(copy, "complete", "");
    else if (strcmp(state, "in progress") != 0)
        finish(copy, "error", why[0] != '\0' ? why : text_of(call->result, "error"));
    else
        reactor_timer_start(reactor_of(copy), &copy->timer, now + POLL_MS * NS_PER_MS);
    json_decref(call->result);
}

static void poll(struct reactor_timer *timer) {
    struct control_copy *copy = container_of(timer, struct control_copy, timer);
    struct control *control = copy->control;
    if (control->stopping)
        return;
    if (!control_plane_ready(&control->plane)) {
        finish(copy, "error", "the storage plane was lost");
        return;
    }
    copy->calling = true;
    copy->call = (struct plane_call){.method = copy->deep ? "bdev_lvol_check_deep_copy" : "bdev_lvol_check_shallow_copy",
                                     .params = json_pack("{s:I}", "operation_id", (json_int_t)copy->operation),
                                     .timeout_ms = POLL_TIMEOUT_MS,
                                     .done = told};
    control_plane_call(&control->plane, &copy->call);
}

/* The plane has begun it. */
static void begun(struct control_goal *goal) {
    struct control *control = goal->control;
    const struct control_replica_record *record = &replica_of(goal->object)->record;
    const struct observed_store *store = observed_store(control_seen(control), record->store);
    struct control_copy *copied = find_copy(control, record->name, goal->peer);
    if (copied == NULL) {
        copied = calloc(1, sizeof(*copied));
        assert(copied != NULL);
        list_push_back(&control->copies, &copied->node);
    }
    struct list_node node = copied->node;
    *copied = (struct control_copy){.node = node,
                                    .control = control,
                                    .state = "in_progress",
                                    .deep = goal->deep,
                                    .operation = (uint32_t)number_of(goal->result, "operation_id"),
                                    .unit_mib = store == NULL ? 1 : max_u64(1, store->cluster_bytes / MIB(1)),
                                    .timer.run = poll};
    copy(copied->replica, sizeof(copied->replica), record->name);
    copy(copied->peer, sizeof(copied->peer), goal->peer);
    copy(copied->snapshot, sizeof(copied->snapshot), goal->snapshot);
    bool fits = names_make_tailed(goal->peer, goal->deep ? NAMES_CLONING : NAMES_REBUILDING, copied->way);
    assert(fits); /* it was planned */
    poll(&copied->timer);
}

bool control_copy_get(struct control *control, const char *replica, const char *peer, const char *snapshot,
                      struct control_copy_status *ret_status) {
    const struct control_copy *copied = find_copy(control, replica, peer);
    if (copied == NULL || strcmp(copied->snapshot, snapshot) != 0)
        return false;
    *ret_status = (struct control_copy_status){copied->state, copied->handled, copied->total, copied->failure};
    return true;
}

void copies_forget(struct control *control) {
    list_for_each_safe (&control->copies, struct control_copy, copied, node)
        drop(copied);
}

/* Ended ones, of replicas that are gone. */
static bool has_room(struct control *control) {
    unsigned count = 0;
    list_for_each_safe (&control->copies, struct control_copy, copied, node) {
        if (!is_under_way(copied) && control_find_replica(control, copied->replica) == NULL)
            drop(copied);
        else
            count++;
    }
    return count < COPIES_MAX;
}

/* ---- arguments ---- */

static bool check_peer(struct control_goal *goal, const char *field) { return names_check(goal->peer, field, &goal->error); }

static bool check_address(struct control_goal *goal, const char *field) {
    return control_is_address(goal->peer_address) || error_invalid(&goal->error, field, goal->peer_address, "IP:PORT");
}

static bool check(struct control_goal *goal) {
    if (!names_check(goal->name, "name", &goal->error))
        return false;
    switch (goal->verb) {
    case CONTROL_EXPOSE:
        return check_peer(goal, "dst_replica_name") && check_address(goal, "dst_replica_address") &&
               names_check(goal->snapshot, "exposed_snapshot_name", &goal->error);
    case CONTROL_UNEXPOSE: return check_peer(goal, "dst_replica_name");
    case CONTROL_COPY:
        return names_check(goal->snapshot, "snapshot_name", &goal->error) &&
               (!goal->deep || check_peer(goal, "dst_replica_name")) &&
               check_address(goal, goal->deep ? "dst_cloning_lvol_address" : "dst_rebuilding_lvol_address");
    case CONTROL_REBUILD_BEGIN:
        return check_peer(goal, "src_replica_name") && check_address(goal, "external_snapshot_address") &&
               names_check(goal->snapshot, "external_snapshot_name", &goal->error);
    case CONTROL_REBUILD_SNAPSHOT: return verb_check_snapshot(goal);
    case CONTROL_CLONE_BEGIN:
    case CONTROL_CLONE_LINK:
        return check_peer(goal, "src_replica_name") && names_check(goal->snapshot, "snapshot_name", &goal->error);
    default: return true;
    }
}

bool copy_accept(struct control_goal *goal) {
    if (!goal->own && !check(goal))
        return false;
    struct control_replica *replica = control_find_replica(goal->control, goal->name);
    if (replica == NULL)
        return error_set(&goal->error, ERROR_NO_DEVICE, "there is no replica %s", goal->name);
    goal->object = &replica->object;
    return true;
}

/* ---- the beginning ---- */

static enum verb_next end_with(bool ok) {
    assert(!ok);
    return VERB_END;
}

static enum verb_next refuse_state(struct control_goal *goal) {
    const struct control_replica *replica = replica_of(goal->object);
    return end_with(error_set(&goal->error, ERROR_BUSY, "replica %s is in state %s%s%s", replica->record.name,
                              control_state_name(replica->state), replica->reason[0] != '\0' ? ": " : "", replica->reason));
}

static enum verb_next begin_expose(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    struct control_outgoing *outgoing = &replica->record.outgoing;
    if (goal->own)
        return outgoing->peer[0] != '\0' && !replica->outgoing_ends ? VERB_OBSERVE : VERB_END;
    if (replica->state != CONTROL_RUNNING || replica->record.incoming.kind != CONTROL_INCOMING_NONE)
        return refuse_state(goal);
    if (outgoing->peer[0] != '\0' && (strcmp(outgoing->peer, goal->peer) != 0 || strcmp(outgoing->snapshot, goal->snapshot) != 0))
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "replica %s rebuilds %s with snapshot %s", replica->record.name,
                                  outgoing->peer, outgoing->snapshot));
    copy(outgoing->peer, sizeof(outgoing->peer), goal->peer);
    copy(outgoing->snapshot, sizeof(outgoing->snapshot), goal->snapshot);
    replica->outgoing_ends = false;
    return VERB_RECORD;
}

static enum verb_next begin_copy(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    if (replica->state != CONTROL_RUNNING && replica->state != CONTROL_STOPPED)
        return refuse_state(goal);
    if (!goal->deep)
        goal->peer = replica->record.outgoing.peer;
    if (goal->peer[0] == '\0')
        return end_with(error_set(&goal->error, ERROR_PERMISSION,
                                  "replica %s rebuilds nobody: ReplicaRebuildingSrcStart comes first", replica->record.name));
    const struct control_copy *other = find_copy(goal->control, replica->record.name, goal->peer);
    if (other != NULL && is_under_way(other))
        return end_with(
            error_set(&goal->error, ERROR_PERMISSION, "snapshot %s is being copied to %s", other->snapshot, goal->peer));
    if (!has_room(goal->control))
        return end_with(error_set(&goal->error, ERROR_NO_MEMORY, "there are %d copies", COPIES_MAX));
    return VERB_OBSERVE;
}

/* One that is being rebuilt begins anew, if its rebuild has failed: who calls knows. */
static enum verb_next begin_incoming(struct control_goal *goal, enum control_incoming_kind kind) {
    struct control_replica *replica = replica_of(goal->object);
    struct control_replica_record *record = &replica->record;
    bool again = kind == CONTROL_REBUILD && record->exported && !record->deleting && record->failure[0] == '\0' &&
                 replica->state == CONTROL_ERROR && record->outgoing.peer[0] == '\0';
    if ((replica->state != CONTROL_RUNNING && !again) ||
        (record->incoming.kind != CONTROL_INCOMING_NONE && record->incoming.kind != kind))
        return refuse_state(goal);
    if (record->outgoing.peer[0] != '\0')
        return end_with(
            error_set(&goal->error, ERROR_PERMISSION, "replica %s rebuilds %s itself", record->name, record->outgoing.peer));
    record->incoming.kind = kind;
    copy(record->incoming.source, sizeof(record->incoming.source), goal->peer);
    copy(record->incoming.snapshot, sizeof(record->incoming.snapshot), goal->snapshot);
    if (kind == CONTROL_REBUILD)
        goal->bytes = record->bytes;
    replica->incoming_lives = true;
    return VERB_RECORD;
}

static enum verb_next begin_on_incoming(struct control_goal *goal, enum control_incoming_kind kind) {
    const struct control_replica *replica = replica_of(goal->object);
    if (replica->record.incoming.kind == kind && replica->incoming_lives)
        return VERB_OBSERVE;
    return end_with(error_set(&goal->error, ERROR_PERMISSION, "replica %s is not being %s", replica->record.name,
                              kind == CONTROL_REBUILD ? "rebuilt" : "cloned into"));
}

enum verb_next copy_begin(struct control_goal *goal) {
    const struct control_replica *replica = replica_of(goal->object);
    const struct control_replica_record *record = &replica->record;
    switch (goal->verb) {
    case CONTROL_EXPOSE: return begin_expose(goal);
    case CONTROL_UNEXPOSE: /* of another one, or of none: it is reached */
        return record->outgoing.peer[0] == '\0' || (!goal->own && strcmp(record->outgoing.peer, goal->peer) != 0) ? VERB_END
                                                                                                                  : VERB_OBSERVE;
    case CONTROL_COPY: return begin_copy(goal);
    case CONTROL_REBUILD_BEGIN: return begin_incoming(goal, CONTROL_REBUILD);
    case CONTROL_CLONE_BEGIN:
        if (record->incoming.kind != CONTROL_INCOMING_NONE)
            return refuse_state(goal);
        return begin_incoming(goal, CONTROL_CLONE);
    case CONTROL_REBUILD_END: return record->incoming.kind == CONTROL_REBUILD ? VERB_OBSERVE : VERB_END;
    case CONTROL_CLONE_END: return record->incoming.kind == CONTROL_CLONE ? VERB_OBSERVE : VERB_END;
    case CONTROL_CLONE_LINK:
        return replica->state == CONTROL_RUNNING || replica->state == CONTROL_STOPPED ? VERB_OBSERVE : refuse_state(goal);
    default: return begin_on_incoming(goal, CONTROL_REBUILD);
    }
}

/* ---- the end ---- */

static enum verb_next settle_expose(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    if (goal->own)
        (goal->error.code != ERROR_NONE ? verb_own_failed : verb_own_succeeded)(goal);
    else if (goal->error.code != ERROR_NONE)
        replica->outgoing_ends = true; /* what was done of it is taken away: copy_care() */
    return VERB_END;
}

static enum verb_next settle_unexpose(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    if (goal->error.code != ERROR_NONE) {
        replica->outgoing_ends = true;
        verb_own_failed(goal);
        return VERB_END;
    }
    verb_own_succeeded(goal);
    replica->outgoing_ends = false;
    replica->record.outgoing = (struct control_outgoing){0};
    return goal->object->recorded ? VERB_RECORD : VERB_END;
}

static enum verb_next settle_copy(struct control_goal *goal) {
    char way[NAMES_VOLUME_SIZE];
    if (goal->error.code == ERROR_NONE)
        begun(goal);
    else if (names_make_tailed(goal->peer, goal->deep ? NAMES_CLONING : NAMES_REBUILDING, way))
        detach(goal->control, way);
    return VERB_END;
}

/* Cleaned up by copy_care(); what the head is by then, the disk says. */
static enum verb_next settle_incoming(struct control_goal *goal) {
    if (goal->error.code != ERROR_NONE)
        replica_of(goal->object)->incoming_lives = false;
    return VERB_END;
}

static enum verb_next settle_end(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    replica->incoming_lives = false;
    if (goal->error.code != ERROR_NONE) {
        verb_own_failed(goal);
        return VERB_END;
    }
    verb_own_succeeded(goal);
    replica->record.incoming = (struct control_incoming){0};
    return goal->object->recorded ? VERB_RECORD : VERB_END;
}

enum verb_next copy_settle(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_EXPOSE: return settle_expose(goal);
    case CONTROL_UNEXPOSE: return settle_unexpose(goal);
    case CONTROL_COPY: return settle_copy(goal);
    case CONTROL_REBUILD_BEGIN:
    case CONTROL_CLONE_BEGIN: return settle_incoming(goal);
    case CONTROL_REBUILD_END:
    case CONTROL_CLONE_END: return settle_end(goal);
    default: return VERB_END;
    }
}

bool copy_care(struct control *control, struct control_replica *replica) {
    const struct control_replica_record *record = &replica->record;
    if (record->incoming.kind != CONTROL_INCOMING_NONE && !replica->incoming_lives)
        goal_start_own(control, &replica->object,
                       record->incoming.kind == CONTROL_REBUILD ? CONTROL_REBUILD_END : CONTROL_CLONE_END);
    else if (record->outgoing.peer[0] != '\0' && replica->outgoing_ends)
        goal_start_own(control, &replica->object, CONTROL_UNEXPOSE);
    else if (record->outgoing.peer[0] != '\0' && replica->state == CONTROL_RUNNING &&
             !plan_exposed(record, control_seen(control), control->options.address))
        goal_start_own(control, &replica->object, CONTROL_EXPOSE); /* the plane was started again */
    else
        return false;
    return true;
}

uint16_t control_private_port(const struct control_replica_record *record) {
    return record->port_count > 1 ? (uint16_t)(record->port + 1) : record->port;
}
