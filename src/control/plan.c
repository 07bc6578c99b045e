#include "control/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/names.h"

/* ---- plans ---- */

void plan_add(struct plan *plan, const char *method, json_t *take_params) {
    if (plan->count == plan->capacity) {
        plan->capacity = plan->capacity == 0 ? 8 : plan->capacity * 2;
        plan->commands = realloc(plan->commands, plan->capacity * sizeof(*plan->commands));
        assert(plan->commands != NULL);
    }
    assert(take_params != NULL);
    plan->commands[plan->count++] = (struct plan_command){.method = method, .params = take_params};
}

void plan_add_aside(struct plan *plan, const char *method, json_t *take_params) {
    plan_add(plan, method, take_params);
    plan->commands[plan->count - 1].aside = true;
}

void plan_commands_free(struct plan_command *take_commands, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        json_decref(take_commands[i].params);
    free(take_commands);
}

static uint64_t mib(uint64_t bytes) { return divide_up(bytes, MIB(1)); }

/* ---- disks ---- */

static void plan_disk_open(const struct control_goal *goal, const struct control_disk_record *disk,
                           const struct observation *seen, struct plan *plan) {
    const char *uuid = disk->uuid[0] != '\0' ? disk->uuid : goal->uuid;
    const struct observed_device *device = observed_device(seen, disk->name);
    if (device == NULL) {
        json_t *params = json_pack("{s:s, s:s}", "name", disk->name, "filename", disk->path);
        if (disk->block_bytes != 0)
            json_object_set_new(params, "block_size", json_integer(disk->block_bytes));
        plan_add(plan, "bdev_aio_create", params);
        return;
    }
    const struct observed_store *store = observed_store_on(seen, disk->name);
    if (strcmp(device->path, disk->path) != 0)
        plan_refuse(plan, ERROR_EXISTS, "the plane has %s open as %s", device->path, disk->name);
    else if (store == NULL && uuid != NULL && uuid[0] != '\0')
        plan_refuse(plan, ERROR_NOT_FOUND, "%s does not hold the store %s%s", disk->path, uuid,
                    disk->uuid[0] != '\0' ? " that was made on it; it is not made again" : "");
    else if (store == NULL)
        plan_add(plan, "bdev_lvol_create_lvstore",
                 json_pack("{s:s, s:s, s:i}", "bdev_name", disk->name, "lvs_name", disk->name, "cluster_sz", (int)MIB(1)));
    else if (uuid != NULL && uuid[0] != '\0' && strcasecmp(store->uuid, uuid) != 0)
        plan_refuse(plan, ERROR_NOT_FOUND, "%s holds the store %s, not %s", disk->path, store->uuid, uuid);
    else if (strcmp(store->name, disk->name) != 0)
        plan_add(plan, "bdev_lvol_rename_lvstore", json_pack("{s:s, s:s}", "old_name", store->name, "new_name", disk->name));
    else if (store->failed)
        plan_refuse(plan, ERROR_IO, "the store on %s has failed: %s", disk->path,
                    store->reason != NULL ? store->reason : "unknown");
}

static void plan_disk_delete(const struct control_disk_record *disk, const struct observation *seen, struct plan *plan) {
    const struct observed_device *device = observed_device(seen, disk->name);
    if (device != NULL && strcmp(device->path, disk->path) == 0)
        plan_add(plan, "bdev_aio_delete", json_pack("{s:s}", "name", disk->name));
}

/* ---- exports ---- */

bool plan_is_exported(const char *name, const char *device, const struct observation *seen, const char *address, uint16_t port) {
    char nqn[NAMES_NQN_SIZE], text[8];
    names_make_nqn(name, nqn);
    snprintf(text, sizeof(text), "%u", (unsigned)port);
    const struct observed_export *export = observed_export(seen, nqn);
    return export != NULL && export->namespaces == 1 && export->listeners == 1 && export->hosts == 1 && !export->any_host &&
           strcmp(export->device, device) == 0 && strcmp(export->address, address) == 0 && strcmp(export->port, text) == 0;
}

bool plan_export_stands(const struct control_replica_record *record, const struct observed_volume *head,
                        const struct observation *seen, const char *address) {
    return plan_is_exported(record->name, head->uuid, seen, address, record->port);
}

void plan_unexport(const char *name, const struct observation *seen, struct plan *plan) {
    char nqn[NAMES_NQN_SIZE];
    names_make_nqn(name, nqn);
    if (observed_export(seen, nqn) != NULL)
        plan_add(plan, "nvmf_delete_subsystem", json_pack("{s:s}", "nqn", nqn));
}

void plan_add_listener(struct plan *plan, const char *nqn, const char *address, uint16_t port, const char *ana) {
    char text[8];
    snprintf(text, sizeof(text), "%u", (unsigned)port);
    json_t *params = json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "nqn", nqn, "listen_address", "trtype", "TCP", "adrfam",
                               strchr(address, ':') != NULL ? "IPv6" : "IPv4", "traddr", address, "trsvcid", text);
    if (ana != NULL && strcmp(ana, NAMES_ANA_OPTIMIZED) != 0)
        json_object_set_new(params, "ana_state", json_string(ana));
    plan_add(plan, "nvmf_subsystem_add_listener", params);
}

void plan_export_as(const char *name, const char *device, const struct observation *seen, const char *address, uint16_t port,
                    struct plan *plan) {
    char nqn[NAMES_NQN_SIZE];
    names_make_nqn(name, nqn);
    if (!seen->has_tcp)
        plan_add(plan, "nvmf_create_transport", json_pack("{s:s}", "trtype", "TCP"));
    plan_add(plan, "nvmf_create_subsystem", json_pack("{s:s, s:b}", "nqn", nqn, "allow_any_host", 0));
    plan_add(plan, "nvmf_subsystem_add_host", json_pack("{s:s, s:s}", "nqn", nqn, "host", NAMES_REPLICA_HOST));
    plan_add(plan, "nvmf_subsystem_add_ns", json_pack("{s:s, s:{s:s}}", "nqn", nqn, "namespace", "bdev_name", device));
    plan_add_listener(plan, nqn, address, port, NULL);
}

/* `device`: the head's name in the plane, or an alias of it. */
static void plan_export(const struct control_replica_record *record, const char *device, const struct observation *seen,
                        const char *address, struct plan *plan) {
    plan_unexport(record->name, seen, plan);
    plan_export_as(record->name, device, seen, address, record->port, plan);
}

json_t *plan_attach_params(const char *controller, const char *nqn, const char *address, int loss_s) {
    const char *colon = strrchr(address, ':');
    bool bracketed = address[0] == '[';
    int length = colon == NULL ? 0 : (int)(colon - address) - (bracketed ? 2 : 0);
    const char *host = bracketed ? address + 1 : address;
    return json_pack("{s:s, s:s, s:s, s:s%, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "name", controller, "trtype", "TCP",
                     "adrfam", bracketed ? "IPv6" : "IPv4", "traddr", host, (size_t)length, "trsvcid",
                     colon == NULL ? "" : colon + 1, "subnqn", nqn, "hostnqn", NAMES_REPLICA_HOST, "multipath", "disable",
                     "ctrlr_loss_timeout_sec", loss_s, "reconnect_delay_sec", 1, "fast_io_fail_timeout_sec", 0,
                     "fabrics_connect_timeout_us", 3000000);
}

/* ---- replicas ---- */

/* NULL, and the plan refuses: the replica's disk is not open, or its head is not as it must be. */
const struct observed_volume *plan_find_head(const struct control_replica_record *replica, const struct observation *seen,
                                             struct plan *plan) {
    if (observed_store(seen, replica->store) == NULL) {
        plan_refuse(plan, ERROR_BUSY, "its disk %s is not open", replica->disk);
        return NULL;
    }
    const struct observed_volume *head = observed_volume(seen, replica->store, replica->name);
    if (head == NULL)
        plan_refuse(plan, ERROR_BUSY, "it is missing on disk %s", replica->disk);
    else if (head->snapshot)
        plan_refuse(plan, ERROR_DAMAGED, "its head on disk %s is a snapshot", replica->disk);
    else
        return head;
    return NULL;
}

bool plan_is_of(const struct observed_volume *volume, const struct control_replica_record *replica,
                const struct observation *seen) {
    return volume < observed_volumes_end(seen) && strcmp(volume->store, replica->store) == 0 &&
           strncmp(volume->name, replica->name, strlen(replica->name)) == 0;
}

static bool has_snapshots(const struct control_replica_record *replica, const struct observation *seen) {
    for (const struct observed_volume *v = observed_volumes_from(seen, replica->store, replica->name);
         plan_is_of(v, replica, seen); v++)
        if (names_snapshot(v->name, replica->name) != NULL)
            return true;
    return false;
}

/* The head, and its export in the same go: by the name that it will have. */
static void plan_making(const struct control_replica_record *replica, const struct observed_store *store,
                        const struct observation *seen, const char *address, struct plan *plan) {
    char alias[NAMES_VOLUME_SIZE * 2];
    snprintf(alias, sizeof(alias), "%s/%s", store->name, replica->name);
    plan_add(plan, "bdev_lvol_create",
             json_pack("{s:s, s:I, s:b, s:s}", "lvol_name", replica->name, "size_in_mib", (json_int_t)mib(replica->bytes),
                       "thin_provision", 1, "uuid", replica->store));
    plan_export(replica, alias, seen, address, plan);
}

static void plan_replica_create(const struct control_goal *goal, const struct control_replica_record *replica,
                                const struct observation *seen, const char *address, struct plan *plan) {
    const struct observed_store *store = observed_store(seen, replica->store);
    if (store != NULL && observed_volume(seen, replica->store, replica->name) == NULL && !replica->made) {
        if (has_snapshots(replica, seen))
            plan_refuse(plan, ERROR_DAMAGED, "disk %s has snapshots of it, but not its head", replica->disk);
        else if (goal->verb != CONTROL_REPLICA_CREATE)
            plan_refuse(plan, ERROR_BUSY, "its making was not finished");
        else
            plan_making(replica, store, seen, address, plan);
        return;
    }
    const struct observed_volume *head = plan_find_head(replica, seen, plan);
    if (head == NULL)
        return;
    if (goal->verb == CONTROL_REPLICA_CREATE && plan_stands_outside(head, seen)) {
        plan_refuse(plan, ERROR_BUSY, "its rebuilding was not finished");
        return;
    }
    if (goal->verb == CONTROL_REPLICA_CREATE && head->bytes > mib(replica->bytes) * MIB(1)) {
        plan_refuse(plan, ERROR_INVALID, "it has %" PRIu64 " bytes, more than the %" PRIu64 " that it is to have", head->bytes,
                    replica->bytes);
        return;
    }
    if (goal->verb == CONTROL_REPLICA_CREATE && head->bytes < replica->bytes)
        plan_add(plan, "bdev_lvol_resize",
                 json_pack("{s:s, s:I}", "name", head->uuid, "size_in_mib", (json_int_t)mib(replica->bytes)));
    if (!plan_export_stands(replica, head, seen, address))
        plan_export(replica, head->uuid, seen, address, plan);
}

static void plan_replica_expand(const struct control_goal *goal, const struct control_replica_record *replica,
                                const struct observation *seen, struct plan *plan) {
    const struct observed_volume *head = plan_find_head(replica, seen, plan);
    if (head == NULL)
        return;
    if (goal->bytes < head->bytes) {
        plan->outcome = PLAN_REFUSED;
        char given[24];
        snprintf(given, sizeof(given), "%" PRIu64, goal->bytes);
        error_invalid(&plan->error, "size", given, "not less than the %" PRIu64 " bytes that it has", head->bytes);
    } else if (mib(goal->bytes) * MIB(1) > head->bytes) {
        plan_add(plan, "bdev_lvol_resize",
                 json_pack("{s:s, s:I}", "name", head->uuid, "size_in_mib", (json_int_t)mib(goal->bytes)));
    }
}

/* Generations between a volume and the root of its tree: who is deeper is deleted first. */
static unsigned depth_of(const struct observed_volume *volume, const struct observation *seen) {
    unsigned depth = 0;
    for (; volume != NULL && volume->parent != NULL && depth < 100000; depth++)
        volume = observed_volume(seen, volume->store, volume->parent);
    return depth;
}

struct doomed {
    const char *uuid;
    unsigned depth;
};

static int deeper_first(const void *a, const void *b) {
    unsigned da = ((const struct doomed *)a)->depth, db = ((const struct doomed *)b)->depth;
    return da > db ? -1 : da < db;
}

/* No snapshot has a child when its turn comes, so nothing is merged. */
void plan_delete_volumes(const struct control_replica_record *replica, const struct observation *seen,
                         bool (*dooms)(const char *rest), struct plan *plan) {
    struct doomed *doomed = NULL;
    size_t count = 0;
    const struct observed_volume *v = observed_volumes_from(seen, replica->store, replica->name);
    for (; plan_is_of(v, replica, seen); v++) {
        if (!dooms(v->name + strlen(replica->name)))
            continue;
        doomed = realloc(doomed, (count + 1) * sizeof(*doomed));
        assert(doomed != NULL);
        doomed[count++] = (struct doomed){v->uuid, depth_of(v, seen)};
    }
    if (count > 0)
        qsort(doomed, count, sizeof(*doomed), deeper_first);
    for (size_t i = 0; i < count; i++)
        plan_add(plan, "bdev_lvol_delete", json_pack("{s:s}", "name", doomed[i].uuid));
    free(doomed);
}

/* Head, snapshots and what rebuilds and returns left. */
static bool is_part(const char *rest) {
    static const char *const tails[] = {"-snap-", NAMES_REBUILDING, NAMES_CLONING, NAMES_EXPIRED, NAMES_KEPT};
    for (size_t i = 0; i < array_count(tails); i++)
        if (strncmp(rest, tails[i], strlen(tails[i])) == 0)
            return true;
    return *rest == '\0';
}

const struct observed_volume *plan_find_linked(const struct control_replica_record *replica,
                                               const struct observed_volume *snapshot, const struct observation *seen) {
    const struct observed_volume *v = observed_volumes_from(seen, replica->store, "");
    for (; v < observed_volumes_end(seen) && strcmp(v->store, replica->store) == 0; v++) {
        const struct observed_volume *parent =
            v->parent == NULL || plan_is_of(v, replica, seen) ? NULL : observed_volume(seen, v->store, v->parent);
        if (parent != NULL && (snapshot == NULL ? plan_is_of(parent, replica, seen) : parent == snapshot))
            return v;
    }
    return NULL;
}

static void plan_replica_stop(const struct control_replica_record *replica, const struct observation *seen, struct plan *plan) {
    char name[NAMES_VOLUME_SIZE];
    plan_unexport(replica->name, seen, plan);
    plan_no_copies(replica, seen, plan);
    if (replica->outgoing.peer[0] != '\0' && names_make_snapshot(replica->name, replica->outgoing.snapshot, name))
        plan_unexport(name, seen, plan);
}

static void plan_replica_delete(const struct control_replica_record *replica, const struct observation *seen, struct plan *plan) {
    if (replica->made && observed_store(seen, replica->store) == NULL) {
        plan_refuse(plan, ERROR_BUSY, "its disk %s is not open; it is deleted when that is opened", replica->disk);
        return;
    }
    const struct observed_volume *linked = plan_find_linked(replica, NULL, seen);
    if (linked != NULL) {
        plan_refuse(plan, ERROR_BUSY, "%s stands upon a snapshot of it", linked->name);
        return;
    }
    plan_replica_stop(replica, seen, plan);
    plan_delete_volumes(replica, seen, is_part, plan);
}

/* ---- snapshots ---- */

const struct observed_volume *plan_find_snapshot(const struct control_replica_record *replica, const char *snapshot,
                                                 const struct observation *seen) {
    char name[NAMES_VOLUME_SIZE];
    if (!names_make_snapshot(replica->name, snapshot, name))
        return NULL;
    const struct observed_volume *found = observed_volume(seen, replica->store, name);
    return found != NULL && found->snapshot ? found : NULL;
}

static void plan_snapshot_create(const struct control_goal *goal, const struct control_replica_record *replica,
                                 const struct observation *seen, struct plan *plan) {
    const struct observed_volume *head = plan_find_head(replica, seen, plan),
                                 *there = plan_find_snapshot(replica, goal->snapshot, seen);
    char name[NAMES_VOLUME_SIZE];
    if (head == NULL)
        return;
    if (there != NULL) {
        bool ours = seen->has_attributes ? there->attributes != NULL && strcmp(there->attributes->operation, goal->id) == 0
                                         : goal->carried_out; /* a plane that died in it left the caller to look */
        if (!ours)
            plan_refuse(plan, ERROR_EXISTS, "replica %s has a snapshot %s", replica->name, goal->snapshot);
        return; /* it is ours */
    }
    if (!names_make_snapshot(replica->name, goal->snapshot, name)) {
        plan_refuse(plan, ERROR_INVALID, "the names of replica and snapshot are too long together");
        return;
    }
    json_t *params = json_pack("{s:s, s:s}", "lvol_name", head->uuid, "snapshot_name", name);
    if (seen->has_attributes)
        json_object_set_new(params, "xattrs",
                            json_pack("{s:s, s:s, s:s}", "user_created", goal->user_created ? "true" : "false",
                                      "snapshot_timestamp", goal->timestamp, "penstock_operation", goal->id));
    plan_add(plan, "bdev_lvol_snapshot", params);
}

static void plan_snapshot_delete(const struct control_goal *goal, const struct control_replica_record *replica,
                                 const struct observation *seen, struct plan *plan) {
    const struct observed_volume *snapshot = plan_find_snapshot(replica, goal->snapshot, seen);
    if (plan_find_head(replica, seen, plan) == NULL || snapshot == NULL)
        return;
    const struct observed_volume *linked = plan_find_linked(replica, snapshot, seen);
    if (snapshot->children > 1)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s of replica %s has %u children", goal->snapshot, replica->name,
                    snapshot->children);
    else if (linked != NULL)
        plan_refuse(plan, ERROR_PERMISSION, "%s stands upon snapshot %s of replica %s", linked->name, goal->snapshot,
                    replica->name);
    else if (strcmp(replica->outgoing.snapshot, goal->snapshot) == 0)
        plan_refuse(plan, ERROR_PERMISSION, "replica %s is rebuilt from snapshot %s", replica->outgoing.peer, goal->snapshot);
    else
        plan_add(plan, "bdev_lvol_delete", json_pack("{s:s}", "name", snapshot->uuid));
}

/* A revert that may have been done before the plane died is done again: it gives the same contents. */
static void plan_snapshot_revert(const struct control_goal *goal, const struct control_replica_record *replica,
                                 const struct observation *seen, struct plan *plan) {
    const struct observed_volume *head = plan_find_head(replica, seen, plan),
                                 *snapshot = plan_find_snapshot(replica, goal->snapshot, seen);
    if (head == NULL || goal->carried_out)
        return;
    if (snapshot == NULL)
        plan_refuse(plan, ERROR_PERMISSION, "replica %s has no snapshot %s", replica->name, goal->snapshot);
    else
        plan_add(plan, "volume_revert", json_pack("{s:s, s:s}", "name", head->uuid, "snapshot", snapshot->uuid));
}

static void plan_snapshot_purge(const struct control_replica_record *replica, const struct observation *seen, struct plan *plan) {
    if (plan_find_head(replica, seen, plan) == NULL)
        return;
    for (const struct observed_volume *v = observed_volumes_from(seen, replica->store, replica->name);
         plan_is_of(v, replica, seen); v++)
        if (v->snapshot && v->children <= 1 && names_snapshot(v->name, replica->name) != NULL && v->attributes != NULL &&
            !v->attributes->user_created && plan_find_linked(replica, v, seen) == NULL &&
            strcmp(names_snapshot(v->name, replica->name), replica->outgoing.snapshot) != 0)
            plan_add(plan, "bdev_lvol_delete", json_pack("{s:s}", "name", v->uuid));
}

/* ---- the log ---- */

const char *plan_log_level(const char *text) {
    static const char *const levels[] = {"ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"};
    for (size_t i = 0; i < array_count(levels); i++)
        if (strcasecmp(text, levels[i]) == 0)
            return levels[i];
    return NULL;
}

static void plan_log_set_level(const struct control_goal *goal, struct plan *plan) {
    if (goal->carried_out)
        return;
    plan_add(plan, "log_set_level", json_pack("{s:s}", "level", plan_log_level(goal->name)));
    plan_add(plan, "log_set_print_level", json_pack("{s:s}", "level", plan_log_level(goal->name)));
}

/* The next word of a list with commas, copied; NULL at its end, or at a word that is too long. */
static const char *next_word(const char **at, char word[64]) {
    *at += strspn(*at, ", ");
    size_t length = strcspn(*at, ", ");
    if (length == 0 || length >= 64)
        return NULL;
    memcpy(word, *at, length);
    word[length] = '\0';
    *at += length;
    return word;
}

static bool lists(const char *list, const char *flag) {
    char word[64];
    while (next_word(&list, word) != NULL)
        if (strcmp(word, flag) == 0 || strcmp(word, "all") == 0)
            return true;
    return false;
}

/* The flags that are listed are set, others are not: what differs is found in the plane's own list of them. */
static void plan_log_set_flags(const struct control_goal *goal, struct plan *plan) {
    const char *flag, *at = goal->name;
    char word[64];
    json_t *value;
    if (!json_is_object(goal->result)) {
        if (!goal->carried_out)
            plan_add(plan, "log_get_flags", json_null());
        return;
    }
    while (next_word(&at, word) != NULL)
        if (strcmp(word, "all") != 0 && json_object_get(goal->result, word) == NULL) {
            plan->outcome = PLAN_REFUSED;
            error_invalid(&plan->error, "flags", word, "flags of log_get_flags, between commas, or all");
            return;
        }
    json_object_foreach(goal->result, flag, value) if (json_is_true(value) != lists(goal->name, flag))
        plan_add(plan, json_is_true(value) ? "log_clear_flag" : "log_set_flag", json_pack("{s:s}", "flag", flag));
}

static void plan_question(const struct control_goal *goal, const char *method, struct plan *plan) {
    if (!goal->carried_out)
        plan_add(plan, method, json_null());
}

static void plan_ranges(const struct control_goal *goal, struct plan *plan) {
    if (!goal->carried_out)
        plan_add(plan, "bdev_lvol_get_snapshot_range_checksums",
                 json_pack("{s:s, s:I, s:I}", "name", goal->subject, "cluster_start_index",
                           (json_int_t)min_u64(goal->first_cluster, INT64_MAX), "cluster_count",
                           (json_int_t)goal->cluster_count));
}

/* ---- all of them ---- */

static void plan_disk(const struct control_goal *goal, const struct observation *seen, struct plan *plan) {
    const struct control_disk_record *record = &container_of(goal->object, struct control_disk, object)->record;
    if (goal->verb == CONTROL_DISK_OPEN)
        plan_disk_open(goal, record, seen, plan);
    else
        plan_disk_delete(record, seen, plan);
}

static void plan_replica(const struct control_goal *goal, const struct observation *seen, const char *address,
                         struct plan *plan) {
    if (goal->verb >= CONTROL_EXPOSE && goal->verb <= CONTROL_CLONE_LINK) {
        plan_copy(goal, seen, address, plan);
        return;
    }
    const struct control_replica_record *record = &container_of(goal->object, struct control_replica, object)->record;
    switch (goal->verb) {
    case CONTROL_REPLICA_CREATE:
    case CONTROL_REPLICA_EXPORT: plan_replica_create(goal, record, seen, address, plan); break;
    case CONTROL_REPLICA_STOP: plan_replica_stop(record, seen, plan); break;
    case CONTROL_REPLICA_FORGET: break;
    case CONTROL_REPLICA_DELETE: plan_replica_delete(record, seen, plan); break;
    case CONTROL_REPLICA_EXPAND: plan_replica_expand(goal, record, seen, plan); break;
    case CONTROL_SNAPSHOT_CREATE: plan_snapshot_create(goal, record, seen, plan); break;
    case CONTROL_SNAPSHOT_DELETE: plan_snapshot_delete(goal, record, seen, plan); break;
    case CONTROL_SNAPSHOT_REVERT: plan_snapshot_revert(goal, record, seen, plan); break;
    case CONTROL_SNAPSHOT_PURGE: plan_snapshot_purge(record, seen, plan); break;
    default: assert(!"not of a replica");
    }
}

void plan_make(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *ret_plan) {
    *ret_plan = (struct plan){.outcome = PLAN_CARRY_OUT};
    switch (goal->verb) {
    case CONTROL_DISK_OPEN:
    case CONTROL_DISK_DELETE: plan_disk(goal, seen, ret_plan); break;
    case CONTROL_LOG_SET_LEVEL: plan_log_set_level(goal, ret_plan); break;
    case CONTROL_LOG_GET_LEVEL: plan_question(goal, "log_get_level", ret_plan); break;
    case CONTROL_LOG_SET_FLAGS: plan_log_set_flags(goal, ret_plan); break;
    case CONTROL_LOG_GET_FLAGS: plan_question(goal, "log_get_flags", ret_plan); break;
    case CONTROL_REFRESH:
    case CONTROL_AWAIT_DISK: break;
    case CONTROL_SNAPSHOT_RANGES: plan_ranges(goal, ret_plan); break;
    case CONTROL_ENGINE_CREATE:
    case CONTROL_ENGINE_TEND:
    case CONTROL_ENGINE_DELETE:
    case CONTROL_ENGINE_EXPAND:
    case CONTROL_ENGINE_SNAPSHOT_CREATE:
    case CONTROL_ENGINE_SNAPSHOT_DELETE:
    case CONTROL_ENGINE_SNAPSHOT_REVERT:
    case CONTROL_ENGINE_SNAPSHOT_PURGE:
    case CONTROL_ENGINE_SNAPSHOT_MAX:
    case CONTROL_ENGINE_REPLICA_ADD:
    case CONTROL_ENGINE_PAUSE:
    case CONTROL_ENGINE_UNPAUSE:
    case CONTROL_ENGINE_CLONE_BEGIN:
    case CONTROL_ENGINE_CLONE_END:
    case CONTROL_ENGINE_CLONE_LINK:
    case CONTROL_ENGINE_LIMIT:
    case CONTROL_ENGINE_REPLICA_DELETE:
    case CONTROL_ENGINE_FILLED:
    case CONTROL_ENGINE_ANA: plan_engine(goal, seen, address, ret_plan); break;
    case CONTROL_FRONTEND_SUSPEND:
    case CONTROL_FRONTEND_RESUME: plan_frontend(goal, seen, ret_plan); break;
    default: plan_replica(goal, seen, address, ret_plan);
    }
    if (ret_plan->outcome == PLAN_CARRY_OUT && ret_plan->count == 0)
        ret_plan->outcome = PLAN_REACHED;
}
