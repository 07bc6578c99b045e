/* Replicas and their snapshots. */
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

#define CLUSTER MIB(1) /* of sizes on the wire, whatever the store uses */

/* ---- a replica as a message ---- */

/* How snapshots are called among themselves; what is no part of the replica (the root's parent) has no name. */
static const char *shown(const char *volume, const char *replica) {
    const char *snapshot = volume == NULL ? NULL : names_snapshot(volume, replica);
    return snapshot != NULL ? snapshot : "";
}

struct range {
    const struct observed_volume *first;
    size_t count;
};

static struct range volumes_of(const struct control_replica *replica, const struct observation *seen) {
    const struct control_replica_record *record = &replica->record;
    struct range range = {0};
    if (seen == NULL || record->store[0] == '\0')
        return range;
    range.first = observed_volumes_from(seen, record->store, record->name);
    const struct observed_volume *end = observed_volumes_end(seen);
    while (range.first + range.count < end && strcmp(range.first[range.count].store, record->store) == 0 &&
           strncmp(range.first[range.count].name, record->name, strlen(record->name)) == 0)
        range.count++;
    return range;
}

static bool is_part(const struct observed_volume *volume, const char *replica) {
    return strcmp(volume->name, replica) == 0 || (volume->snapshot && names_snapshot(volume->name, replica) != NULL);
}

static void put_children(Spdkrpc__Lvol *lvol, const struct observed_volume *parent, const char *replica, const struct range *all,
                         struct gateway_scratch *scratch) {
    lvol->children = gateway_scratch_take(scratch, parent->children, sizeof(*lvol->children));
    for (size_t i = 0; i < all->count && lvol->n_children < parent->children; i++) {
        const struct observed_volume *volume = &all->first[i];
        if (volume->parent == NULL || strcmp(volume->parent, parent->name) != 0 || !is_part(volume, replica))
            continue;
        Spdkrpc__Lvol__ChildrenEntry *entry = gateway_scratch_take(scratch, 1, sizeof(*entry));
        spdkrpc__lvol__children_entry__init(entry);
        entry->key = strcmp(volume->name, replica) == 0 ? (char *)NAMES_HEAD : (char *)shown(volume->name, replica);
        entry->value = 1;
        lvol->children[lvol->n_children++] = entry;
    }
}

/* Volumes of others that stand upon a snapshot: linked clones. */
static unsigned count_linked(const struct observed_volume *snapshot, const struct range *all) {
    unsigned own = 0;
    for (size_t i = 0; i < all->count && own < snapshot->children; i++)
        own += all->first[i].parent != NULL && strcmp(all->first[i].parent, snapshot->name) == 0;
    return snapshot->children - own;
}

/* What the root stands upon, if that is another replica's. */
static Spdkrpc__LinkedCloneInfo *put_link(const struct observed_volume *volume, const char *replica,
                                          struct gateway_scratch *scratch) {
    size_t length =
        volume->parent == NULL || strncmp(volume->parent, replica, strlen(replica)) == 0 ? 0 : names_replica_of(volume->parent);
    char *source = length == 0 ? NULL : gateway_scratch_take(scratch, length + 1, 1);
    if (source == NULL)
        return NULL;
    memcpy(source, volume->parent, length);
    const char *snapshot = names_snapshot(volume->parent, source);
    if (snapshot == NULL)
        return NULL;
    Spdkrpc__LinkedCloneInfo *info = gateway_scratch_take(scratch, 1, sizeof(*info));
    spdkrpc__linked_clone_info__init(info);
    info->source_replica_name = source;
    info->source_snapshot_name = (char *)snapshot;
    return info;
}

static void put_usage(Spdkrpc__Replica *answer, const struct observed_volume *snapshot, const char *replica,
                      const struct range *all, struct gateway_scratch *scratch) {
    unsigned linked = count_linked(snapshot, all);
    if (linked == 0)
        return;
    if (answer->clone_snapshot_usage == NULL)
        answer->clone_snapshot_usage = gateway_scratch_take(scratch, all->count, sizeof(*answer->clone_snapshot_usage));
    Spdkrpc__Replica__CloneSnapshotUsageEntry *entry = gateway_scratch_take(scratch, 1, sizeof(*entry));
    spdkrpc__replica__clone_snapshot_usage_entry__init(entry);
    entry->key = (char *)shown(snapshot->name, replica);
    entry->value = (int32_t)linked;
    answer->clone_snapshot_usage[answer->n_clone_snapshot_usage++] = entry;
}

static Spdkrpc__Lvol *put_volume(const struct observed_volume *volume, const char *replica, const struct range *all,
                                 struct gateway_scratch *scratch) {
    Spdkrpc__Lvol *lvol = gateway_scratch_take(scratch, 1, sizeof(*lvol));
    spdkrpc__lvol__init(lvol);
    lvol->name = volume->snapshot ? (char *)shown(volume->name, replica) : (char *)NAMES_HEAD;
    lvol->uuid = (char *)volume->uuid;
    lvol->spec_size = volume->bytes;
    lvol->actual_size = divide_up(volume->used_bytes, CLUSTER) * CLUSTER;
    lvol->parent = (char *)shown(volume->parent, replica);
    lvol->creation_time = (char *)volume->created;
    if (volume->attributes != NULL) {
        lvol->user_created = volume->attributes->user_created;
        lvol->snapshot_timestamp = (char *)volume->attributes->timestamp;
        lvol->snapshot_checksum = (char *)volume->attributes->checksum;
    }
    put_children(lvol, volume, replica, all, scratch);
    return lvol;
}

Spdkrpc__Replica *gateway_put_replica(const struct gateway *gateway, const struct control_replica *replica,
                                      struct gateway_scratch *scratch) {
    const struct control_replica_record *record = &replica->record;
    struct control *control = gateway->options.control;
    struct range all = volumes_of(replica, control_shown(control, control_find_disk(control, record->disk)));
    Spdkrpc__Replica *answer = gateway_scratch_take(scratch, 1, sizeof(*answer));
    spdkrpc__replica__init(answer);
    answer->name = (char *)record->name;
    answer->lvs_name = (char *)record->disk;
    answer->lvs_uuid = (char *)record->store;
    answer->spec_size = record->bytes;
    answer->ip = (char *)gateway->options.address;
    answer->port_start = record->port;
    answer->port_end = record->port == 0 ? 0 : record->port + record->port_count - 1;
    answer->state = (char *)control_state_name(replica->state);
    answer->error_msg = (char *)replica->reason;
    answer->snapshots = gateway_scratch_take(scratch, all.count, sizeof(*answer->snapshots));
    for (size_t i = 0; i < all.count; i++) {
        const struct observed_volume *volume = &all.first[i];
        if (strcmp(volume->name, record->name) == 0 && !volume->snapshot) {
            answer->head = put_volume(volume, record->name, &all, scratch);
            answer->spec_size = volume->bytes;
        } else if (is_part(volume, record->name)) {
            Spdkrpc__Replica__SnapshotsEntry *entry = gateway_scratch_take(scratch, 1, sizeof(*entry));
            spdkrpc__replica__snapshots_entry__init(entry);
            entry->key = (char *)shown(volume->name, record->name);
            entry->value = put_volume(volume, record->name, &all, scratch);
            answer->snapshots[answer->n_snapshots++] = entry;
            put_usage(answer, volume, record->name, &all, scratch);
        }
        if (is_part(volume, record->name) && answer->linked_clone_info == NULL)
            answer->linked_clone_info = put_link(volume, record->name, scratch);
    }
    return answer;
}

static void answer_replica(struct grpc_call *call, const char *name) {
    const struct control_replica *replica = control_find_replica(gateway_of(call)->options.control, name);
    struct gateway_scratch scratch = {0};
    if (replica == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no replica '%s'", name);
        return;
    }
    grpc_call_reply(call, &gateway_put_replica(gateway_of(call), replica, &scratch)->base);
    gateway_scratch_free(&scratch);
}

/* ---- calls ---- */

static void answer_named(struct gateway_pending *pending) { answer_replica(pending->call, pending->goal.name); }

void gateway_replica_create(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaCreateRequest *request = (const Spdkrpc__ReplicaCreateRequest *)message;
    if (request->backing_image_name[0] != '\0') {
        grpc_call_end(call, GRPC_UNIMPLEMENTED, "ReplicaCreate: backing images are not offered");
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_REPLICA_CREATE, request->name, answer_named);
    if (pending == NULL)
        return;
    pending->goal.store_name = request->lvs_name;
    pending->goal.store_uuid = request->lvs_uuid;
    pending->goal.bytes = request->spec_size;
    pending->goal.port_count = request->port_count;
    gateway_start(pending);
}

void gateway_replica_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaDeleteRequest *request = (const Spdkrpc__ReplicaDeleteRequest *)message;
    struct gateway_pending *pending =
        gateway_pend(call, message, request->cleanup_required ? CONTROL_REPLICA_DELETE : CONTROL_REPLICA_STOP, request->name,
                     gateway_answer_empty);
    if (pending != NULL)
        gateway_start(pending);
}

static void answer_get(struct grpc_call *call, const ProtobufCMessage *message) {
    answer_replica(call, ((const Spdkrpc__ReplicaGetRequest *)message)->name);
}

void gateway_replica_get(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, ((const Spdkrpc__ReplicaGetRequest *)message)->name, answer_get);
}

static void answer_list(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    struct control *control = gateway_of(call)->options.control;
    Spdkrpc__ReplicaListResponse answer = SPDKRPC__REPLICA_LIST_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    answer.replicas = gateway_scratch_take(&scratch, control->names[CONTROL_REPLICAS].count, sizeof(*answer.replicas));
    list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node) {
        const struct control_replica *replica = container_of(object, struct control_replica, object);
        Spdkrpc__ReplicaListResponse__ReplicasEntry *entry = gateway_scratch_take(&scratch, 1, sizeof(*entry));
        spdkrpc__replica_list_response__replicas_entry__init(entry);
        entry->key = (char *)replica->record.name;
        entry->value = gateway_put_replica(gateway_of(call), replica, &scratch);
        answer.replicas[answer.n_replicas++] = entry;
    }
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

void gateway_replica_list(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_list);
}

void gateway_replica_expand(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__ReplicaExpandRequest *request = (const Spdkrpc__ReplicaExpandRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_REPLICA_EXPAND, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->plain_errors = true;
    pending->goal.bytes = request->size;
    gateway_start(pending);
}

void gateway_snapshot_create(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_SNAPSHOT_CREATE, answer_named);
}
void gateway_snapshot_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_SNAPSHOT_DELETE, gateway_answer_empty);
}
void gateway_snapshot_revert(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_SNAPSHOT_REVERT, gateway_answer_empty);
}
void gateway_snapshot_purge(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_SNAPSHOT_PURGE, gateway_answer_empty);
}
