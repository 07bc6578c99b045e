/* What each verb checks before, records, and leaves behind. docs/control.md. */
#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "control/internal.h"

enum { PORT_MOVES_MAX = 16, SLOW_S = 600, ATTACH_S = 30 };

uint64_t verb_seconds(enum control_verb verb) {
    switch (verb) {
    case CONTROL_DISK_OPEN: /* a store may have a journal to replay, or a disk to trim */
    case CONTROL_REPLICA_DELETE:
    case CONTROL_SNAPSHOT_PURGE:
    case CONTROL_SNAPSHOT_RANGES:
    case CONTROL_REBUILD_BEGIN:
    case CONTROL_REBUILD_SNAPSHOT:
    case CONTROL_REBUILD_END:
    case CONTROL_CLONE_END: return SLOW_S;
    case CONTROL_REFRESH:
    case CONTROL_AWAIT_DISK: return 2;
    case CONTROL_FRONTEND_ATTACH: return ATTACH_S;
    case CONTROL_ENGINE_PAUSE: return CONTROL_PAUSE_S;
    default: return CONTROL_GOAL_S;
    }
}

static bool is_of_engine(enum control_verb verb) { return verb >= CONTROL_ENGINE_CREATE && verb <= CONTROL_ENGINE_ANA; }

static bool is_of_frontend(enum control_verb verb) { return verb >= CONTROL_FRONTEND_CREATE && verb <= CONTROL_FRONTEND_RESUME; }

bool verb_is_of_state(enum control_verb verb) {
    return verb == CONTROL_REPLICA_NOTE || verb == CONTROL_FRONTEND_CREATE || verb == CONTROL_FRONTEND_SETTLE ||
           verb == CONTROL_FRONTEND_SWITCH || verb == CONTROL_FRONTEND_DELETE || verb == CONTROL_ENGINE_SNAPSHOT_MAX;
}

/* Commands on a mirror end with it: it is brought back by a goal of its own, as another run. */
bool verb_outlives_plane(const struct control_goal *goal) {
    return (!is_of_engine(goal->verb) && !is_of_frontend(goal->verb)) || goal->verb == CONTROL_ENGINE_CREATE ||
           goal->verb == CONTROL_ENGINE_DELETE || goal->verb == CONTROL_FRONTEND_ATTACH || goal->verb == CONTROL_FRONTEND_DELETE;
}

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

/* ---- arguments ---- */

static bool is_pci_address(const char *path) {
    unsigned colons = 0, dots = 0;
    for (const char *c = path; *c != '\0'; c++) {
        colons += *c == ':';
        dots += *c == '.';
        if (*c == '/')
            return false;
    }
    return colons > 0 && dots == 1;
}

static bool check_disk(struct control_goal *goal) {
    static const char *const others[] = {"nvme", "virtio-scsi", "virtio-blk"};
    struct error *error = &goal->error;
    if (goal->path[0] == '\0')
        return error_invalid(error, "disk_path", goal->path, "the path of a file or block device");
    if (strlen(goal->path) >= sizeof(((struct control_disk_record *)0)->path))
        return error_invalid(error, "disk_path", goal->path, "at most %zu bytes",
                             sizeof(((struct control_disk_record *)0)->path) - 1);
    if (goal->bytes != 0 && goal->bytes != 512 && goal->bytes != 4096) {
        char given[24];
        snprintf(given, sizeof(given), "%" PRIu64, goal->bytes);
        return error_invalid(error, "block_size", given, "512, 4096, or 0 for the device's own");
    }
    for (size_t i = 0; i < array_count(others); i++)
        if (strcmp(goal->driver, others[i]) == 0)
            return error_set(error, ERROR_UNSUPPORTED,
                             "disks by the driver %s are not offered: the kernel's block device is (aio)", goal->driver);
    if (goal->driver[0] != '\0' && strcmp(goal->driver, "auto") != 0 && strcmp(goal->driver, "aio") != 0)
        return error_invalid(error, "disk_driver", goal->driver, "aio, auto or nothing");
    if (is_pci_address(goal->path))
        return error_set(error, ERROR_UNSUPPORTED,
                         "disks by PCI address are not offered: give the path of the kernel's block device");
    struct uuid uuid;
    if (goal->uuid[0] != '\0' && !uuid_parse(goal->uuid, &uuid))
        return error_invalid(error, "disk_uuid", goal->uuid, "the UUID of a store");
    return true;
}

bool control_is_address(const char *address) {
    const char *colon = strrchr(address, ':');
    uint64_t port;
    if (colon == NULL || colon == address || strlen(address) >= CONTROL_ADDRESS_SIZE ||
        !text_parse_u64(colon + 1, UINT16_MAX, &port) || port == 0)
        return false;
    bool bracketed = address[0] == '[' && colon[-1] == ']';
    return bracketed ? colon - address > 2 : memchr(address, ':', (size_t)(colon - address)) == NULL;
}

bool verb_check_size(struct control_goal *goal) {
    char given[24];
    if (goal->bytes <= UINT64_C(1) << 50) /* the store's limit is near, and rounding up stays far from overflow */
        return true;
    snprintf(given, sizeof(given), "%" PRIu64, goal->bytes);
    return error_invalid(&goal->error, "spec_size", given, "at most 1 PiB");
}

static bool check_replica(struct control_goal *goal) {
    char given[24];
    snprintf(given, sizeof(given), "%" PRId64, goal->port_count);
    if (strstr(goal->name, "-snap-") != NULL)
        return error_invalid(&goal->error, "name", goal->name, "a name without -snap-, which is reserved");
    if (goal->store_name[0] == '\0' && goal->store_uuid[0] == '\0')
        return error_invalid(&goal->error, "lvs_name", "", "the name or the UUID of a disk's store");
    if (strlen(goal->store_name) > CONTROL_NAME_MAX)
        return error_invalid(&goal->error, "lvs_name", goal->store_name, "at most %d bytes", CONTROL_NAME_MAX);
    if (strlen(goal->store_uuid) >= UUID_TEXT_SIZE)
        return error_invalid(&goal->error, "lvs_uuid", goal->store_uuid, "a UUID");
    if (goal->port_count < 0 || goal->port_count > CONTROL_PORTS_MAX)
        return error_invalid(&goal->error, "port_count", given, "0 to %d", CONTROL_PORTS_MAX);
    return verb_check_size(goal);
}

bool verb_check_snapshot(struct control_goal *goal) {
    char volume[NAMES_VOLUME_SIZE];
    if (goal->verb == CONTROL_SNAPSHOT_PURGE || goal->verb == CONTROL_ENGINE_SNAPSHOT_PURGE)
        return true;
    if (!names_check(goal->snapshot, "snapshot_name", &goal->error))
        return false;
    if (strcmp(goal->snapshot, NAMES_HEAD) == 0 || strstr(goal->snapshot, "-snap-") != NULL ||
        !names_make_snapshot(goal->name, goal->snapshot, volume))
        return error_invalid(&goal->error, "snapshot_name", goal->snapshot,
                             "a name that is not " NAMES_HEAD ", nor has -snap- in it");
    if (strlen(goal->timestamp) >= sizeof(((struct observed_attributes *)0)->timestamp))
        return error_invalid(&goal->error, "snapshot_timestamp", goal->timestamp, "at most %zu bytes",
                             sizeof(((struct observed_attributes *)0)->timestamp) - 1);
    return true;
}

static bool check(struct control_goal *goal) {
    bool of_disk = goal->verb <= CONTROL_DISK_DELETE;
    if (!names_check(goal->name, of_disk ? "disk_name" : "name", &goal->error))
        return false;
    switch (goal->verb) {
    case CONTROL_DISK_OPEN: return check_disk(goal);
    case CONTROL_REPLICA_CREATE: return check_replica(goal);
    case CONTROL_REPLICA_EXPAND: return verb_check_size(goal);
    case CONTROL_REPLICA_NOTE:
        return names_check(goal->engine, "engine", &goal->error) &&
               (control_is_address(goal->target) || error_invalid(&goal->error, "engine_address", goal->target, "IP:PORT"));
    case CONTROL_SNAPSHOT_CREATE:
    case CONTROL_SNAPSHOT_DELETE:
    case CONTROL_SNAPSHOT_REVERT:
    case CONTROL_SNAPSHOT_PURGE: return verb_check_snapshot(goal);
    default: return true;
    }
}

static bool accept_disk(struct control_goal *goal) {
    struct control_disk *disk = control_find_disk(goal->control, goal->name);
    if (disk == NULL && goal->verb == CONTROL_DISK_DELETE)
        return false; /* nothing to do */
    if (disk == NULL)
        disk = control_add_disk(goal->control, goal->name);
    if (disk == NULL)
        return error_set(&goal->error, ERROR_NO_MEMORY, "no memory for a disk");
    goal->object = &disk->object;
    return true;
}

static bool accept_replica(struct control_goal *goal) {
    struct control_replica *replica = control_find_replica(goal->control, goal->name);
    if (replica == NULL && (goal->verb == CONTROL_REPLICA_DELETE || goal->verb == CONTROL_REPLICA_STOP))
        return false;
    if (replica == NULL && goal->verb != CONTROL_REPLICA_CREATE)
        return error_set(&goal->error, ERROR_NO_DEVICE, "there is no replica %s", goal->name);
    if (replica == NULL)
        replica = control_add_replica(goal->control, goal->name);
    if (replica == NULL)
        return error_set(&goal->error, ERROR_NO_MEMORY, "no memory for a replica");
    goal->object = &replica->object;
    return true;
}

static bool accept_log(struct control_goal *goal) {
    if (goal->verb == CONTROL_LOG_SET_LEVEL && plan_log_level(goal->name) == NULL)
        return error_invalid(&goal->error, "level", goal->name, "error, warning, notice, info or debug");
    return true;
}

/* A question about one that is there; it waits for nothing that is done to the replica. */
static bool accept_ranges(struct control_goal *goal) {
    const struct control_replica *replica = control_find_replica(goal->control, goal->name);
    char given[24];
    if (!names_check(goal->name, "name", &goal->error) || !names_check(goal->snapshot, "snapshot_name", &goal->error))
        return false;
    snprintf(given, sizeof(given), "%" PRIu64, goal->cluster_count);
    if (goal->cluster_count == 0 || goal->cluster_count > CONTROL_RANGE_MAX)
        return error_invalid(&goal->error, "cluster_count", given, "1 to %d", CONTROL_RANGE_MAX);
    const struct observed_volume *volume =
        control_check_snapshot(goal->control, replica, goal->name, goal->snapshot, &goal->error);
    if (volume == NULL)
        return false;
    if (volume->attributes->checksum[0] == '\0')
        return error_set(&goal->error, ERROR_PERMISSION,
                         "snapshot %s of replica %s has no checksum: ReplicaSnapshotHash makes it", goal->snapshot, goal->name);
    const struct observed_store *store =
        observed_store(control_shown(goal->control, control_find_disk(goal->control, replica->record.disk)), volume->store);
    if (store != NULL && store->cluster_bytes != MIB(1)) /* else it is being opened again */
        return error_set(&goal->error, ERROR_PERMISSION, "the clusters of disk %s are not of 1 MiB", replica->record.disk);
    copy(goal->subject, sizeof(goal->subject), volume->uuid);
    return true;
}

static void doubt_replica(struct control *control, const struct control_replica *replica) {
    const struct observation *seen = control_seen(control);
    const char *name = replica->record.name, *store = replica->record.store;
    const struct observed_volume *v = observed_volumes_from(seen, store, name);
    for (; v < observed_volumes_end(seen) && strncmp(v->name, name, strlen(name)) == 0 && strcmp(v->store, store) == 0; v++)
        observer_doubt(&control->observer, OBSERVE_DEVICES, v->uuid);
}

/* What is to be asked for anew, and when it was. */
struct refreshed {
    struct control_engine *engine;
    struct control_replica *replica; /* both NULL: everything */
    uint64_t *last_ns;
};

static struct refreshed refreshed_of(struct control *control, const char *name) {
    bool one = control->observer.follows && name[0] != '\0';
    struct refreshed it = {.engine = one ? control_find_engine(control, name) : NULL};
    it.replica = one && it.engine == NULL ? control_find_replica(control, name) : NULL;
    it.last_ns = it.engine != NULL    ? &it.engine->object.refreshed_ns
                 : it.replica != NULL ? &it.replica->object.refreshed_ns
                                      : &control->refreshed_ns;
    return it;
}

static bool is_fresh(const struct control *control, uint64_t last_ns, uint64_t now_ns) {
    return control_seen(control) != NULL && now_ns - last_ns <= NS_PER_S;
}

bool control_is_fresh(struct control *control, const char *name) {
    if (control->stopping)
        return false;
    return !control->plane.wanted ||
           is_fresh(control, *refreshed_of(control, name).last_ns, host_now_ns(control->options.reactor->host));
}

/* Of what nobody tells, what is known was asked for more than a second ago: it is doubted. */
static bool refresh(struct control *control, const char *name) {
    struct refreshed it = refreshed_of(control, name);
    struct control_engine *engine = it.engine;
    struct control_replica *replica = it.replica;
    uint64_t now = host_now_ns(control->options.reactor->host);
    if (control_seen(control) == NULL)
        return true;
    if (is_fresh(control, *it.last_ns, now))
        return false;
    *it.last_ns = now;
    if (engine != NULL)
        observer_doubt(&control->observer, OBSERVE_MIRRORS, name);
    for (unsigned i = 0; engine != NULL && i < engine->record.leg_count; i++) {
        const struct control_replica *leg = control_find_replica(control, engine->record.legs[i].name);
        if (leg != NULL)
            doubt_replica(control, leg);
    }
    if (replica != NULL) {
        doubt_replica(control, replica);
    } else if (engine == NULL && name[0] == '\0') {
        observer_doubt(&control->observer, OBSERVE_DEVICES, NULL);
        observer_doubt(&control->observer, OBSERVE_MIRRORS, NULL);
    }
    return true;
}

bool verb_accept(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_LOG_SET_LEVEL:
    case CONTROL_LOG_GET_LEVEL:
    case CONTROL_LOG_SET_FLAGS:
    case CONTROL_LOG_GET_FLAGS: return accept_log(goal);
    case CONTROL_REFRESH: return goal->control->plane.wanted && refresh(goal->control, goal->name);
    case CONTROL_AWAIT_DISK:
        (void)refresh(goal->control, goal->name);
        return control_find_replica(goal->control, goal->name) != NULL;
    case CONTROL_SNAPSHOT_RANGES: return accept_ranges(goal);
    case CONTROL_DISK_OPEN:
    case CONTROL_DISK_DELETE: return check(goal) && accept_disk(goal);
    default:
        if (verb_is_of_copy(goal->verb))
            return copy_accept(goal);
        if (is_of_engine(goal->verb))
            return engine_accept(goal);
        if (is_of_frontend(goal->verb))
            return frontend_accept(goal);
        return (goal->own || check(goal)) && accept_replica(goal);
    }
}

/* ---- the beginning ---- */

static enum verb_next end_with(bool ok) {
    assert(!ok);
    return VERB_END;
}

static enum verb_next begin_disk_open(struct control_goal *goal) {
    struct control_disk *disk = disk_of(goal->object);
    struct control_disk_record *record = &disk->record;
    if (goal->own)
        return disk->object.recorded ? VERB_OBSERVE : VERB_END;
    if (disk->object.recorded && strcmp(record->path, goal->path) != 0)
        return end_with(error_set(&goal->error, ERROR_EXISTS, "disk %s is %s", record->name, record->path));
    if (disk->object.recorded && record->uuid[0] != '\0' && goal->uuid[0] != '\0' && strcasecmp(record->uuid, goal->uuid) != 0)
        return end_with(error_set(&goal->error, ERROR_EXISTS, "disk %s has the store %s", record->name, record->uuid));
    copy(record->path, sizeof(record->path), goal->path);
    copy(record->driver, sizeof(record->driver), "aio");
    if (record->uuid[0] == '\0')
        record->block_bytes = (uint32_t)goal->bytes;
    record->failure[0] = disk->object.failure[0] = '\0';
    disk->object.failures = 0;
    disk->state = CONTROL_CREATING;
    return VERB_RECORD;
}

static bool runs_on(struct control *control, const char *disk, const char **ret_replica) {
    list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node) {
        const struct control_replica *replica = replica_of(object);
        if (strcmp(replica->record.disk, disk) == 0 && (replica->record.exported || !list_empty(&object->goals))) {
            *ret_replica = replica->record.name;
            return true;
        }
    }
    return false;
}

static enum verb_next begin_disk_delete(struct control_goal *goal) {
    struct control_disk *disk = disk_of(goal->object);
    const char *replica;
    if (!disk->object.recorded)
        return VERB_END;
    if (goal->uuid[0] != '\0' && disk->record.uuid[0] != '\0' && strcasecmp(goal->uuid, disk->record.uuid) != 0)
        return VERB_END; /* the one that is meant is not here */
    if (runs_on(goal->control, disk->record.name, &replica))
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "replica %s on disk %s runs", replica, disk->record.name));
    return VERB_OBSERVE;
}

/* The replica's making has failed: it is listed with the reason, and nothing more is planned for it. */
static void settle_failed(struct control_goal *goal, struct control_replica *replica) {
    struct control_replica_record *record = &replica->record;
    copy(record->failure, sizeof(record->failure), goal->error.text);
    record->exported = false;
    verb_release_ports(goal->control, goal->object);
}

void verb_release_ports(struct control *control, struct control_object *object) {
    struct control_ports ports = control_object_ports(object);
    ports_release(control, *ports.first, *ports.count);
    *ports.first = *ports.count = 0;
}

bool verb_take_ports(struct control_goal *goal, unsigned count) {
    struct control_ports ports = control_object_ports(goal->object);
    if (*ports.first != 0 && *ports.count == count)
        return true;
    verb_release_ports(goal->control, goal->object);
    *ports.first = ports_take(goal->control, 0, count);
    *ports.count = *ports.first != 0 ? (uint16_t)count : 0;
    return *ports.first != 0 || error_set(&goal->error, ERROR_NO_MEMORY, "no %u free ports in a row from %d to %d", count,
                                          CONTROL_PORT_FIRST, CONTROL_PORT_LAST);
}

static unsigned ports_wanted(const struct control_goal *goal, const struct control_replica_record *record) {
    return goal->port_count > 0 ? (unsigned)goal->port_count : record->port != 0 ? record->port_count : 1;
}

static enum verb_next begin_replica_create(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    struct control_replica_record *record = &replica->record;
    struct control_disk *disk = control_find_store(goal->control, goal->store_uuid, goal->store_name);
    if (record->deleting)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "replica %s is being deleted", record->name));
    if (record->exported && replica->state != CONTROL_ERROR)
        return end_with(error_set(&goal->error, ERROR_EXISTS, "replica %s runs", record->name));
    if (record->made && disk != NULL && strcasecmp(record->store, disk->record.uuid) != 0)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "replica %s is on disk %s", record->name, record->disk));
    if (!record->made && goal->bytes == 0) {
        error_invalid(&goal->error, "spec_size", "0", "the size of the replica that is to be made");
        return VERB_END;
    }
    if (disk != NULL) {
        copy(record->disk, sizeof(record->disk), disk->record.name);
        copy(record->store, sizeof(record->store), disk->record.uuid);
    } else if (!record->made) {
        copy(record->disk, sizeof(record->disk), goal->store_name);
        copy(record->store, sizeof(record->store), goal->store_uuid);
    }
    if (goal->bytes != 0)
        record->bytes = divide_up(goal->bytes, MIB(1)) * MIB(1);
    record->failure[0] = replica->object.failure[0] = '\0';
    replica->object.failures = 0;
    if (disk == NULL)
        error_set(&goal->error, ERROR_BUSY, "there is no open disk with the store %s",
                  goal->store_uuid[0] != '\0' ? goal->store_uuid : goal->store_name);
    if (disk == NULL || !verb_take_ports(goal, ports_wanted(goal, record)))
        settle_failed(goal, replica);
    else
        record->exported = true;
    return VERB_RECORD;
}

static enum verb_next begin_replica_export(struct control_goal *goal) {
    const struct control_replica_record *record = &replica_of(goal->object)->record;
    return goal->object->recorded && record->exported && !record->deleting ? VERB_OBSERVE : VERB_END;
}

static enum verb_next begin_replica_stop(struct control_goal *goal) {
    struct control_replica_record *record = &replica_of(goal->object)->record;
    if (record->deleting)
        return VERB_END;
    record->exported = false;
    return goal->object->recorded ? VERB_RECORD : VERB_OBSERVE;
}

static enum verb_next begin_replica_delete(struct control_goal *goal) {
    struct control_replica_record *record = &replica_of(goal->object)->record;
    const struct observation *seen = control_seen(goal->control);
    const struct observed_volume *linked = seen == NULL ? NULL : plan_find_linked(record, NULL, seen);
    if (goal->object->recorded && record->deleting)
        return VERB_OBSERVE;
    if (linked != NULL)
        return end_with(
            error_set(&goal->error, ERROR_BUSY, "%s stands upon a snapshot of replica %s", linked->name, record->name));
    record->deleting = true;
    record->exported = false;
    return VERB_RECORD;
}

static enum verb_next begin_replica_note(struct control_goal *goal) {
    struct control_replica_record *record = &replica_of(goal->object)->record;
    if (!goal->object->recorded || record->deleting)
        return end_with(error_set(&goal->error, ERROR_BUSY, "replica %s is not in use", record->name));
    copy(record->engine, sizeof(record->engine), goal->engine);
    copy(record->engine_address, sizeof(record->engine_address), goal->target);
    return VERB_RECORD;
}

/* Commands on one that is there. */
static enum verb_next begin_on_replica(struct control_goal *goal) {
    const struct control_replica *replica = replica_of(goal->object);
    if (replica->state == CONTROL_STOPPED || replica->state == CONTROL_RUNNING)
        return VERB_OBSERVE;
    return end_with(error_set(&goal->error, ERROR_BUSY, "replica %s is in state %s%s%s", replica->record.name,
                              control_state_name(replica->state), replica->reason[0] != '\0' ? ": " : "", replica->reason));
}

enum verb_next verb_begin(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_DISK_OPEN: return begin_disk_open(goal);
    case CONTROL_DISK_DELETE: return begin_disk_delete(goal);
    case CONTROL_REPLICA_CREATE: return begin_replica_create(goal);
    case CONTROL_REPLICA_EXPORT: return begin_replica_export(goal);
    case CONTROL_REPLICA_STOP: return begin_replica_stop(goal);
    case CONTROL_REPLICA_DELETE: return begin_replica_delete(goal);
    case CONTROL_REPLICA_NOTE: return begin_replica_note(goal);
    case CONTROL_REPLICA_FORGET: return goal->object->recorded ? VERB_OBSERVE : VERB_END;
    default:
        if (verb_is_of_copy(goal->verb))
            return copy_begin(goal);
        if (is_of_frontend(goal->verb))
            return frontend_begin(goal);
        return is_of_engine(goal->verb) ? engine_begin(goal) : begin_on_replica(goal);
    }
}

/* ---- a command was refused ---- */

/* A port that somebody else has: the next ones. */
bool verb_refused(struct control_goal *goal, const struct plane_call *call) {
    if ((goal->verb != CONTROL_REPLICA_CREATE && goal->verb != CONTROL_ENGINE_CREATE) ||
        strcmp(call->method, "nvmf_subsystem_add_listener") != 0 || goal->port_moves++ == PORT_MOVES_MAX)
        return false;
    struct control_ports ports = control_object_ports(goal->object);
    uint16_t port = ports_take(goal->control, (uint16_t)(*ports.first + *ports.count - 1), *ports.count);
    if (port == 0)
        return false;
    ports_release(goal->control, *ports.first, *ports.count);
    *ports.first = port;
    return true;
}

/* ---- the end ---- */

/* What it tried by itself is tried again, later and later. */
void verb_own_failed(struct control_goal *goal) {
    static const char *const words[] = {
        [CONTROL_DISKS] = "disk", [CONTROL_REPLICAS] = "replica", [CONTROL_ENGINES] = "engine", [CONTROL_FRONTENDS] = "frontend"};
    struct control_object *object = goal->object;
    uint64_t ms = object->failures >= 8 ? 30000 : UINT64_C(125) << object->failures;
    copy(object->failure, sizeof(object->failure), goal->error.text);
    object->failures++;
    object->not_before_ns = host_now_ns(goal->control->options.reactor->host) + ms * NS_PER_MS;
    control_look_by(goal->control, object->not_before_ns);
    log_warning(goal->control->options.log, LOG_AREA_APP, "%s %s: %s", words[object->kind], control_object_name(object),
                goal->error.text);
}

void verb_own_succeeded(struct control_goal *goal) {
    goal->object->failures = 0;
    goal->object->failure[0] = '\0';
}

static enum verb_next settle_disk_open(struct control_goal *goal) {
    struct control_disk *disk = disk_of(goal->object);
    struct control_disk_record *record = &disk->record;
    const struct observed_store *store =
        goal->error.code != ERROR_NONE ? NULL : observed_store_on(control_seen(goal->control), record->name);
    if (store == NULL) {
        verb_own_failed(goal);
        if (record->uuid[0] != '\0')
            return VERB_END;
        copy(record->failure, sizeof(record->failure), goal->error.text);
        return VERB_RECORD;
    }
    verb_own_succeeded(goal);
    if (strcmp(record->uuid, store->uuid) == 0)
        return VERB_END;
    copy(record->uuid, sizeof(record->uuid), store->uuid);
    return VERB_RECORD;
}

static enum verb_next settle_disk_delete(struct control_goal *goal) {
    if (goal->error.code != ERROR_NONE)
        return VERB_END;
    list_for_each (&goal->control->objects[CONTROL_REPLICAS], struct control_object, object, node)
        if (object->recorded && strcmp(replica_of(object)->record.disk, control_object_name(goal->object)) == 0)
            goal_start_own(goal->control, object, CONTROL_REPLICA_FORGET);
    goal->object->recorded = false;
    return VERB_RECORD;
}

static enum verb_next settle_replica_create(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    struct control_replica_record *record = &replica->record;
    const struct observation *seen = control_seen(goal->control);
    bool made = record->made || (seen != NULL && observed_volume(seen, record->store, record->name) != NULL);
    if (goal->error.code != ERROR_NONE) {
        bool was_exported = record->exported;
        settle_failed(goal, replica);
        error_clear(&goal->error); /* the answer is the replica, in state error */
        if (!was_exported)
            return VERB_END; /* recorded so already */
    }
    record->made = made;
    return VERB_RECORD;
}

/* A daemon that died after the making, and before it was recorded, left that to this one. */
static enum verb_next settle_replica_export(struct control_goal *goal) {
    struct control_replica_record *record = &replica_of(goal->object)->record;
    (goal->error.code != ERROR_NONE ? verb_own_failed : verb_own_succeeded)(goal);
    if (record->made || goal->error.code != ERROR_NONE)
        return VERB_END;
    record->made = true; /* it stands, so there is a head */
    return VERB_RECORD;
}

static enum verb_next settle_replica_stop(struct control_goal *goal) {
    if (goal->error.code != ERROR_NONE)
        return VERB_END; /* it is taken away when that can be done: the record says so */
    verb_release_ports(goal->control, goal->object);
    replica_of(goal->object)->record.outgoing = (struct control_outgoing){0};
    return goal->object->recorded ? VERB_RECORD : VERB_END;
}

static enum verb_next settle_replica_delete(struct control_goal *goal) {
    struct control_replica *replica = replica_of(goal->object);
    if (goal->error.code != ERROR_NONE) {
        verb_own_failed(goal);
        return VERB_END;
    }
    ports_release(goal->control, replica->record.port, replica->record.port_count);
    char name[CONTROL_NAME_MAX + 1];
    copy(name, sizeof(name), replica->record.name);
    replica->record = (struct control_replica_record){0};
    copy(replica->record.name, sizeof(replica->record.name), name);
    verb_own_succeeded(goal);
    goal->object->recorded = false;
    return VERB_RECORD;
}

static enum verb_next settle_replica_expand(struct control_goal *goal) {
    struct control_replica_record *record = &replica_of(goal->object)->record;
    if (goal->error.code != ERROR_NONE || !goal->object->recorded)
        return VERB_END;
    record->bytes = divide_up(goal->bytes, MIB(1)) * MIB(1);
    return VERB_RECORD;
}

static enum verb_next settle_log(struct control_goal *goal) {
    const char *separator = "", *name;
    json_t *value;
    if (goal->error.code == ERROR_NONE && goal->verb == CONTROL_LOG_GET_LEVEL)
        text_append_string(&goal->text, json_is_string(goal->result) ? json_string_value(goal->result) : "");
    if (goal->error.code == ERROR_NONE && goal->verb == CONTROL_LOG_GET_FLAGS)
        json_object_foreach(goal->result, name, value) if (json_is_true(value)) {
            text_appendf(&goal->text, "%s%s", separator, name);
            separator = ",";
        }
    return VERB_END;
}

enum verb_next verb_settle(struct control_goal *goal) {
    if (goal->control->stopping && goal->error.code != ERROR_NONE)
        return VERB_END; /* that says nothing about the object */
    switch (goal->verb) {
    case CONTROL_DISK_OPEN: return settle_disk_open(goal);
    case CONTROL_DISK_DELETE: return settle_disk_delete(goal);
    case CONTROL_REPLICA_CREATE: return settle_replica_create(goal);
    case CONTROL_REPLICA_EXPORT: return settle_replica_export(goal);
    case CONTROL_REPLICA_STOP: return settle_replica_stop(goal);
    case CONTROL_REPLICA_DELETE: return settle_replica_delete(goal);
    case CONTROL_REPLICA_FORGET:
        ports_release(goal->control, replica_of(goal->object)->record.port, replica_of(goal->object)->record.port_count);
        goal->object->recorded = false;
        return VERB_RECORD;
    case CONTROL_REPLICA_EXPAND: return settle_replica_expand(goal);
    case CONTROL_LOG_GET_LEVEL:
    case CONTROL_LOG_GET_FLAGS: return settle_log(goal);
    default:
        if (verb_is_of_copy(goal->verb))
            return copy_settle(goal);
        if (is_of_frontend(goal->verb))
            return frontend_settle(goal);
        return is_of_engine(goal->verb) ? engine_settle(goal) : VERB_END;
    }
}
