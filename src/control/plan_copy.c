/* Plans of what replicas do for each other: snapshots exported to others, copies to them, and rebuilds and clones into this one.
 * docs/control.md, "Copies between replicas". Pure. */
#include <stdio.h>

#include "control/names.h"
#include "control/plan.h"

enum { LOSS_S = 15 }; /* a peer that is away for so long has failed */

static const struct control_replica_record *record_of(const struct control_goal *goal) {
    return &container_of(goal->object, struct control_replica, object)->record;
}

static const struct observed_volume *find(const struct control_replica_record *record, const char *tail,
                                          const struct observation *seen) {
    char name[NAMES_VOLUME_SIZE];
    return names_make_tailed(record->name, tail, name) ? observed_volume(seen, record->store, name) : NULL;
}

/* "DISK/NAME", by which a volume is known before it has been observed. */
enum { ALIAS_SIZE = NAMES_VOLUME_SIZE * 2 + 2 };
static void make_alias(const struct control_replica_record *record, const char *tail, const struct observation *seen,
                       char alias[ALIAS_SIZE]) {
    const struct observed_store *store = observed_store(seen, record->store);
    snprintf(alias, ALIAS_SIZE, "%.*s/%s%s", NAMES_VOLUME_SIZE, store == NULL ? "" : store->name, record->name, tail);
}

static void delete_volume(const struct observed_volume *volume, struct plan *plan) {
    if (volume != NULL)
        plan_add(plan, "bdev_lvol_delete", json_pack("{s:s}", "name", volume->uuid));
}

static void detach_controller(const char *name, const struct observation *seen, struct plan *plan) {
    if (observed_controller(seen, name) != NULL)
        plan_add(plan, "bdev_nvme_detach_controller", json_pack("{s:s}", "name", name));
}

bool plan_stands_outside(const struct observed_volume *volume, const struct observation *seen) {
    for (unsigned depth = 0; volume != NULL && depth < 100000; depth++) {
        if (volume->outside)
            return true;
        volume = volume->parent == NULL ? NULL : observed_volume(seen, volume->store, volume->parent);
    }
    return false;
}

/* ---- this replica is the source ---- */

static void plan_expose(const struct control_replica_record *record, const struct observation *seen, const char *address,
                        struct plan *plan) {
    const struct observed_volume *snapshot =
        plan_find_head(record, seen, plan) == NULL ? NULL : plan_find_snapshot(record, record->outgoing.snapshot, seen);
    if (snapshot == NULL && plan->outcome != PLAN_REFUSED)
        plan_refuse(plan, ERROR_PERMISSION, "replica %s has no snapshot %s", record->name, record->outgoing.snapshot);
    if (snapshot == NULL || plan_exposed(record, seen, address))
        return;
    plan_unexport(snapshot->name, seen, plan);
    plan_export_as(snapshot->name, snapshot->uuid, seen, address, control_private_port(record), plan);
}

bool plan_exposed(const struct control_replica_record *record, const struct observation *seen, const char *address) {
    const struct observed_volume *snapshot = plan_find_snapshot(record, record->outgoing.snapshot, seen);
    return snapshot != NULL && plan_is_exported(snapshot->name, snapshot->uuid, seen, address, control_private_port(record));
}

/* What the snapshot is exported as, and the ways that copies to the peer take. */
static void plan_unexpose(const struct control_replica_record *record, const struct observation *seen, struct plan *plan) {
    char name[NAMES_VOLUME_SIZE];
    if (record->outgoing.peer[0] == '\0')
        return;
    if (names_make_snapshot(record->name, record->outgoing.snapshot, name))
        plan_unexport(name, seen, plan);
    if (names_make_tailed(record->outgoing.peer, NAMES_REBUILDING, name))
        detach_controller(name, seen, plan);
}

static void plan_copying(const struct control_goal *goal, const struct control_replica_record *record,
                         const struct observation *seen, struct plan *plan) {
    const struct observed_volume *snapshot = plan_find_snapshot(record, goal->snapshot, seen);
    char to[NAMES_VOLUME_SIZE], nqn[NAMES_NQN_SIZE], device[NAMES_VOLUME_SIZE + 2];
    if (goal->carried_out)
        return;
    if (snapshot == NULL) {
        plan_refuse(plan, ERROR_PERMISSION, "replica %s has no snapshot %s", record->name, goal->snapshot);
        return;
    }
    if (!names_make_tailed(goal->peer, goal->deep ? NAMES_CLONING : NAMES_REBUILDING, to)) {
        plan_refuse(plan, ERROR_INVALID, "the name %s is too long", goal->peer);
        return;
    }
    names_make_nqn(to, nqn);
    snprintf(device, sizeof(device), "%sn1", to);
    detach_controller(to, seen, plan); /* of a copy before: the scratch volume is another one now */
    plan_add(plan, "bdev_nvme_attach_controller", plan_attach_params(to, nqn, goal->peer_address, LOSS_S));
    const struct observed_store *store = observed_store(seen, record->store);
    if (goal->clusters != NULL && (store == NULL || store->cluster_bytes != MIB(1))) {
        plan_refuse(plan, ERROR_PERMISSION, "the clusters of disk %s are not of 1 MiB", record->disk);
        return;
    }
    json_t *params = json_pack("{s:s, s:s}", "src_lvol_name", snapshot->uuid, "dst_bdev_name", device);
    if (goal->clusters != NULL) {
        json_t *clusters = json_array();
        for (uint64_t i = 0; i < goal->cluster_count; i++)
            json_array_append_new(clusters, json_integer((json_int_t)min_u64(goal->clusters[i], INT64_MAX)));
        json_object_set_new(params, "clusters", clusters);
    }
    plan_add(plan,
             goal->deep               ? "bdev_lvol_start_deep_copy"
             : goal->clusters != NULL ? "bdev_lvol_start_range_shallow_copy"
                                      : "bdev_lvol_start_shallow_copy",
             params);
}

/* ---- this replica is rebuilt ---- */

static bool is_listed(const struct control_goal *goal, const char *snapshot) {
    for (size_t i = 0; i < goal->name_count; i++)
        if (strcmp(goal->names[i], snapshot) == 0)
            return true;
    return false;
}

/* Out of the way, with whatever hangs on it: taken away at the end. */
static void expire(const struct control_goal *goal, const struct control_replica_record *record,
                   const struct observed_volume *volume, unsigned number, struct plan *plan) {
    char name[NAMES_VOLUME_SIZE], tail[40];
    snprintf(tail, sizeof(tail), NAMES_EXPIRED "%.8s%u", goal->id, number);
    bool fits = names_make_tailed(record->name, tail, name);
    assert(fits);
    plan_add(plan, "bdev_lvol_rename", json_pack("{s:s, s:s}", "old_name", volume->uuid, "new_name", name));
}

/* Snapshots that the source does not have. One with several children cannot be merged into them. */
static void plan_strangers(const struct control_goal *goal, const struct control_replica_record *record,
                           const struct observation *seen, struct plan *plan) {
    unsigned number = 0;
    for (const struct observed_volume *v = observed_volumes_from(seen, record->store, record->name); plan_is_of(v, record, seen);
         v++) {
        const char *name = v->snapshot ? names_snapshot(v->name, record->name) : NULL;
        if (name == NULL || is_listed(goal, name))
            continue;
        if (v->children == 0)
            delete_volume(v, plan);
        else
            expire(goal, record, v, number++, plan);
    }
}

/* The new head is made beside the old one and takes its place: there is a head at any time but between two commands, and then the
 * new one is found by its other name. */
static void plan_begin(const struct control_goal *goal, const struct control_replica_record *record,
                       const struct observation *seen, const char *address, struct plan *plan) {
    const struct observed_volume *head = observed_volume(seen, record->store, record->name);
    const struct observed_store *store = observed_store(seen, record->store);
    char source[NAMES_VOLUME_SIZE], exported[NAMES_VOLUME_SIZE], nqn[NAMES_NQN_SIZE], device[NAMES_VOLUME_SIZE + 2],
        alias[ALIAS_SIZE];
    if (goal->carried_out) {
        plan_strangers(goal, record, seen, plan);
        return;
    }
    if (store == NULL) {
        plan_refuse(plan, ERROR_BUSY, "its disk %s is not open", record->disk);
        return;
    }
    if (!names_make_tailed(record->name, NAMES_SOURCE, source) || !names_make_snapshot(goal->peer, goal->snapshot, exported)) {
        plan_refuse(plan, ERROR_INVALID, "the names of replica and snapshot are too long together");
        return;
    }
    names_make_nqn(exported, nqn);
    snprintf(device, sizeof(device), "%sn1", source);
    plan_no_copies(record, seen, plan);
    plan_add(plan, "bdev_nvme_attach_controller", plan_attach_params(source, nqn, goal->peer_address, LOSS_S));
    delete_volume(find(record, NAMES_REBUILDING, seen), plan);
    delete_volume(find(record, NAMES_REBUILDING_HEAD, seen), plan);
    snprintf(alias, sizeof(alias), "%s" NAMES_REBUILDING_HEAD, record->name);
    plan_add(plan, "bdev_lvol_clone_bdev",
             json_pack("{s:s, s:s, s:s}", "bdev", device, "lvs_name", store->name, "clone_name", alias));
    make_alias(record, NAMES_REBUILDING_HEAD, seen, alias);
    plan_add(plan, "bdev_lvol_resize", json_pack("{s:s, s:I}", "name", alias, "size_in_mib", (json_int_t)(goal->bytes / MIB(1))));
    plan_unexport(record->name, seen, plan);
    delete_volume(head, plan);
    plan_add(plan, "bdev_lvol_rename", json_pack("{s:s, s:s}", "old_name", alias, "new_name", record->name));
    make_alias(record, "", seen, alias);
    plan_export_as(record->name, alias, seen, address, record->port, plan);
}

static void make_scratch(const struct control_goal *goal, const struct control_replica_record *record, const char *tail,
                         const struct observed_volume *parent, const struct observation *seen, const char *address,
                         struct plan *plan) {
    const struct observed_volume *scratch = find(record, tail, seen);
    char name[NAMES_VOLUME_SIZE], alias[ALIAS_SIZE];
    uint64_t mib = divide_up(goal->bytes, MIB(1));
    if (!names_make_tailed(record->name, tail, name)) {
        plan_refuse(plan, ERROR_INVALID, "the name %s is too long", record->name);
        return;
    }
    plan_unexport(name, seen, plan);
    delete_volume(scratch, plan);
    make_alias(record, tail, seen, alias);
    if (parent != NULL)
        plan_add(plan, "bdev_lvol_clone", json_pack("{s:s, s:s}", "snapshot_name", parent->uuid, "clone_name", name));
    else
        plan_add(plan, "bdev_lvol_create",
                 json_pack("{s:s, s:I, s:b, s:s}", "lvol_name", name, "size_in_mib", (json_int_t)mib, "thin_provision", 1, "uuid",
                           record->store));
    if (parent != NULL && parent->bytes != mib * MIB(1))
        plan_add(plan, "bdev_lvol_resize", json_pack("{s:s, s:I}", "name", alias, "size_in_mib", (json_int_t)mib));
    plan_export_as(name, alias, seen, address, control_private_port(record), plan);
}

/* True: its parent is as the goal says. */
static bool plan_parent(const struct control_goal *goal, const struct control_replica_record *record,
                        const struct observed_volume *volume, const struct observation *seen, struct plan *plan) {
    const struct observed_volume *parent = goal->parent[0] == '\0' ? NULL : observed_volume(seen, record->store, goal->parent);
    if (goal->parent[0] != '\0' && parent == NULL)
        plan_refuse(plan, ERROR_PERMISSION, "there is no %s on disk %s", goal->parent, record->disk);
    else if (parent != NULL && (volume->parent == NULL || strcmp(volume->parent, goal->parent) != 0))
        plan_add(plan, "bdev_lvol_set_parent", json_pack("{s:s, s:s}", "lvol_name", volume->uuid, "parent_name", parent->uuid));
    else if (parent == NULL && volume->parent != NULL) /* the next round leaves the next one out */
        plan_add(plan, "bdev_lvol_detach_parent", json_pack("{s:s}", "name", volume->uuid));
    else
        return true;
    return false;
}

static void plan_scratch(const struct control_goal *goal, const struct control_replica_record *record,
                         const struct observation *seen, const char *address, struct plan *plan) {
    const struct observed_volume *old = plan_find_snapshot(record, goal->snapshot, seen), *parent = NULL;
    if (goal->carried_out && find(record, NAMES_REBUILDING, seen) != NULL)
        return;
    if (goal->delta && old == NULL) {
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s of replica %s is gone", goal->snapshot, record->name);
    } else if (goal->delta) {
        if (plan_parent(goal, record, old, seen, plan))
            make_scratch(goal, record, NAMES_REBUILDING, old, seen, address, plan);
    } else {
        if (goal->parent[0] != '\0' && (parent = observed_volume(seen, record->store, goal->parent)) == NULL) {
            plan_refuse(plan, ERROR_PERMISSION, "there is no %s on disk %s", goal->parent, record->disk);
            return;
        }
        if (old != NULL)
            expire(goal, record, old, 0, plan);
        make_scratch(goal, record, NAMES_REBUILDING, parent, seen, address, plan);
    }
}

static void plan_keep(const struct control_goal *goal, const struct control_replica_record *record,
                      const struct observation *seen, struct plan *plan) {
    const struct observed_volume *old = plan_find_snapshot(record, goal->snapshot, seen);
    if (old == NULL)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s of replica %s is gone", goal->snapshot, record->name);
    else
        (void)plan_parent(goal, record, old, seen, plan);
}

static bool was_made_by(const struct control_goal *goal, const struct observed_volume *snapshot) {
    return snapshot->attributes != NULL && strcmp(snapshot->attributes->operation, goal->id) == 0;
}

static void plan_drop(const struct control_replica_record *record, const char *tail, const struct observation *seen,
                      struct plan *plan) {
    char name[NAMES_VOLUME_SIZE];
    if (names_make_tailed(record->name, tail, name))
        plan_unexport(name, seen, plan);
    delete_volume(find(record, tail, seen), plan);
}

/* An old snapshot that the scratch volume stands upon becomes part of it. */
static void plan_absorb(const struct control_replica_record *record, const struct observed_volume *old,
                        const struct observed_volume *scratch, const struct observation *seen, struct plan *plan) {
    for (const struct observed_volume *v = observed_volumes_from(seen, record->store, record->name); plan_is_of(v, record, seen);
         v++)
        if (v != scratch && v->parent != NULL && strcmp(v->parent, old->name) == 0)
            plan_add(plan, "bdev_lvol_detach_parent", json_pack("{s:s}", "name", v->uuid));
    delete_volume(old, plan);
}

/* What was copied gets the snapshot's name: `tail` is where it was copied to. True: it is there, and the scratch volume is not.
 */
static bool plan_taken(const struct control_goal *goal, const struct control_replica_record *record, const char *tail,
                       const struct observation *seen, struct plan *plan) {
    const struct observed_volume *there = plan_find_snapshot(record, goal->snapshot, seen), *scratch = find(record, tail, seen);
    char name[NAMES_VOLUME_SIZE];
    if (there != NULL && (scratch == NULL || was_made_by(goal, there))) {
        plan_drop(record, tail, seen, plan);
        return scratch == NULL;
    }
    if (scratch == NULL) {
        plan_refuse(plan, ERROR_PERMISSION, "nothing was copied for snapshot %s of replica %s", goal->snapshot, record->name);
    } else if (there != NULL && scratch->parent != NULL && strcmp(scratch->parent, there->name) == 0) {
        plan_absorb(record, there, scratch, seen, plan);
    } else if (there != NULL) {
        plan_refuse(plan, ERROR_EXISTS, "replica %s has a snapshot %s", record->name, goal->snapshot);
    } else if (!names_make_snapshot(record->name, goal->snapshot, name)) {
        plan_refuse(plan, ERROR_INVALID, "the names of replica and snapshot are too long together");
    } else {
        char scratch_name[NAMES_VOLUME_SIZE];
        if (names_make_tailed(record->name, tail, scratch_name))
            plan_unexport(scratch_name, seen, plan);
        plan_add(plan, "bdev_lvol_snapshot",
                 json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "lvol_name", scratch->uuid, "snapshot_name", name, "xattrs",
                           "user_created", goal->user_created ? "true" : "false", "snapshot_timestamp", goal->timestamp,
                           "penstock_operation", goal->id));
    }
    return false;
}

static bool is_left_over(const char *rest) {
    return strncmp(rest, NAMES_REBUILDING, strlen(NAMES_REBUILDING)) == 0 ||
           strncmp(rest, NAMES_CLONING, strlen(NAMES_CLONING)) == 0 || strncmp(rest, NAMES_EXPIRED, strlen(NAMES_EXPIRED)) == 0;
}

/* A head that the beginning left under its other name. */
static bool plan_head_back(const struct control_replica_record *record, const struct observation *seen, struct plan *plan) {
    const struct observed_volume *beside = find(record, NAMES_REBUILDING_HEAD, seen);
    if (observed_volume(seen, record->store, record->name) != NULL || beside == NULL)
        return false;
    plan_add(plan, "bdev_lvol_rename", json_pack("{s:s, s:s}", "old_name", beside->uuid, "new_name", record->name));
    return true;
}

static void plan_end(const struct control_goal *goal, const struct control_replica_record *record, const struct observation *seen,
                     const char *address, struct plan *plan) {
    const struct observed_volume *newest = plan_find_snapshot(record, record->incoming.snapshot, seen);
    if (observed_store(seen, record->store) == NULL) {
        plan_refuse(plan, ERROR_BUSY, "its disk %s is not open", record->disk);
        return;
    }
    if (plan_head_back(record, seen, plan))
        return;
    const struct observed_volume *head = plan_find_head(record, seen, plan);
    if (head == NULL)
        return;
    if (goal->complete && newest == NULL) {
        plan_refuse(plan, ERROR_PERMISSION, "replica %s has no snapshot %s", record->name, record->incoming.snapshot);
        return;
    }
    if (goal->complete && (head->parent == NULL || strcmp(head->parent, newest->name) != 0)) {
        plan_add(plan, "bdev_lvol_set_parent", json_pack("{s:s, s:s}", "lvol_name", head->uuid, "parent_name", newest->uuid));
        return;
    }
    plan_no_copies(record, seen, plan);
    plan_delete_volumes(record, seen, is_left_over, plan);
    if (record->exported && !plan_stands_outside(head, seen) &&
        !plan_is_exported(record->name, head->uuid, seen, address, record->port)) {
        plan_unexport(record->name, seen, plan);
        plan_export_as(record->name, head->uuid, seen, address, record->port, plan);
    }
}

/* ---- this replica becomes a clone ---- */

static const struct observed_volume *find_blank(const struct control_replica_record *record, const struct observation *seen,
                                                struct plan *plan) {
    const struct observed_volume *head = plan_find_head(record, seen, plan);
    if (head == NULL || (head->parent == NULL && head->used_bytes == 0))
        return head;
    plan_refuse(plan, ERROR_PERMISSION, "replica %s holds something: only an empty one can become a clone", record->name);
    return NULL;
}

static void plan_clone_begin(const struct control_goal *goal, const struct control_replica_record *record,
                             const struct observation *seen, const char *address, struct plan *plan) {
    const struct observed_volume *head = find_blank(record, seen, plan);
    if (head == NULL || (goal->carried_out && find(record, NAMES_CLONING, seen) != NULL))
        return;
    if (goal->bytes > head->bytes)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s is larger than replica %s", goal->snapshot, record->name);
    else if (plan_find_snapshot(record, goal->snapshot, seen) != NULL)
        plan_refuse(plan, ERROR_EXISTS, "replica %s has a snapshot %s", record->name, goal->snapshot);
    else
        make_scratch(goal, record, NAMES_CLONING, NULL, seen, address, plan);
}

static void plan_clone_end(const struct control_goal *goal, const struct control_replica_record *record,
                           const struct observation *seen, struct plan *plan) {
    const struct observed_volume *head = plan_find_head(record, seen, plan),
                                 *copied = plan_find_snapshot(record, goal->snapshot, seen);
    if (head == NULL)
        return;
    if (!goal->complete) {
        plan_no_copies(record, seen, plan);
        plan_delete_volumes(record, seen, is_left_over, plan);
    } else if (plan_taken(goal, record, NAMES_CLONING, seen, plan) &&
               (head->parent == NULL || strcmp(head->parent, copied->name) != 0)) {
        plan_add(plan, "bdev_lvol_set_parent", json_pack("{s:s, s:s}", "lvol_name", head->uuid, "parent_name", copied->uuid));
    }
}

static void plan_clone_link(const struct control_goal *goal, const struct control_replica_record *record,
                            const struct observation *seen, struct plan *plan) {
    const struct observed_volume *head = plan_find_head(record, seen, plan), *from;
    char name[NAMES_VOLUME_SIZE];
    if (head == NULL)
        return;
    from = names_make_snapshot(goal->peer, goal->snapshot, name) ? observed_volume(seen, record->store, name) : NULL;
    if (from == NULL || !from->snapshot)
        plan_refuse(plan, ERROR_PERMISSION, "replica %s has no snapshot %s on disk %s: a linked clone lies on the same disk",
                    goal->peer, goal->snapshot, record->disk);
    else if (head->parent != NULL && strcmp(head->parent, name) == 0)
        return;
    else if (from->bytes > head->bytes)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s is larger than replica %s", goal->snapshot, record->name);
    else if (find_blank(record, seen, plan) != NULL)
        plan_add(plan, "bdev_lvol_set_parent", json_pack("{s:s, s:s}", "lvol_name", head->uuid, "parent_name", from->uuid));
}

/* ---- all of them ---- */

void plan_no_copies(const struct control_replica_record *record, const struct observation *seen, struct plan *plan) {
    char name[NAMES_VOLUME_SIZE];
    if (names_make_tailed(record->name, NAMES_REBUILDING, name))
        plan_unexport(name, seen, plan);
    if (names_make_tailed(record->name, NAMES_CLONING, name))
        plan_unexport(name, seen, plan);
    if (names_make_tailed(record->name, NAMES_SOURCE, name))
        detach_controller(name, seen, plan);
}

void plan_copy(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan) {
    const struct control_replica_record *record = record_of(goal);
    switch (goal->verb) {
    case CONTROL_EXPOSE: plan_expose(record, seen, address, plan); break;
    case CONTROL_UNEXPOSE: plan_unexpose(record, seen, plan); break;
    case CONTROL_COPY: plan_copying(goal, record, seen, plan); break;
    case CONTROL_REBUILD_BEGIN: plan_begin(goal, record, seen, address, plan); break;
    case CONTROL_REBUILD_SCRATCH: plan_scratch(goal, record, seen, address, plan); break;
    case CONTROL_REBUILD_KEEP: plan_keep(goal, record, seen, plan); break;
    case CONTROL_REBUILD_SNAPSHOT: (void)plan_taken(goal, record, NAMES_REBUILDING, seen, plan); break;
    case CONTROL_REBUILD_END: plan_end(goal, record, seen, address, plan); break;
    case CONTROL_CLONE_BEGIN: plan_clone_begin(goal, record, seen, address, plan); break;
    case CONTROL_CLONE_END: plan_clone_end(goal, record, seen, plan); break;
    case CONTROL_CLONE_LINK: plan_clone_link(goal, record, seen, plan); break;
    default: assert(!"no copy");
    }
}
