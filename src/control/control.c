/* The node: its objects, their states as judged from record and observation, what it does by itself, start and stop. */
#include "control/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/helper.h"
#include "control/internal.h"

enum {
    GONE_S = 30,     /* a plane that is away for so long is no passing matter */
    PATIENCE_S = 15, /* for the first observation, before callers are served without */
    TICK_S = 1,
    LOAD_MS = 2000 /* each attempt to read the state */
};

const char *control_state_name(enum control_state state) {
    static const char *const names[] = {
        [CONTROL_CREATING] = "creating",   [CONTROL_READY] = "ready",     [CONTROL_PENDING] = "pending",
        [CONTROL_STOPPED] = "stopped",     [CONTROL_RUNNING] = "running", [CONTROL_TERMINATING] = "terminating",
        [CONTROL_SUSPENDED] = "suspended", [CONTROL_ERROR] = "error"};
    return names[state];
}

static uint64_t now_ns(const struct control *control) { return host_now_ns(control->options.reactor->host); }

/* ---- objects ---- */

void *control_object_record(struct control_object *object) {
    switch (object->kind) {
    case CONTROL_DISKS: return &disk_of(object)->record;
    case CONTROL_REPLICAS: return &replica_of(object)->record;
    case CONTROL_ENGINES: return &engine_of(object)->record;
    case CONTROL_FRONTENDS: return &frontend_of(object)->record;
    case CONTROL_KINDS: break;
    }
    assert(!"no kind");
}

size_t control_object_record_size(enum control_kind kind) {
    static const size_t sizes[] = {[CONTROL_DISKS] = sizeof(struct control_disk_record),
                                   [CONTROL_REPLICAS] = sizeof(struct control_replica_record),
                                   [CONTROL_ENGINES] = sizeof(struct control_engine_record),
                                   [CONTROL_FRONTENDS] = sizeof(struct control_frontend_record)};
    return sizes[kind];
}

/* The first member of every record. */
const char *control_object_name(struct control_object *object) { return control_object_record(object); }

struct control_ports control_object_ports(struct control_object *object) {
    switch (object->kind) {
    case CONTROL_REPLICAS:
        return (struct control_ports){&replica_of(object)->record.port, &replica_of(object)->record.port_count};
    case CONTROL_ENGINES: return (struct control_ports){&engine_of(object)->record.port, &engine_of(object)->record.port_count};
    default: return (struct control_ports){0};
    }
}

struct control_disk *control_find_disk(struct control *control, const char *name) {
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        if (strcmp(disk_of(object)->record.name, name) == 0)
            return disk_of(object);
    return NULL;
}

struct control_frontend *control_find_frontend(struct control *control, const char *name) {
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node)
        if (strcmp(control_object_name(object), name) == 0)
            return frontend_of(object);
    return NULL;
}

struct control_engine *control_find_engine(struct control *control, const char *name) {
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        if (strcmp(control_object_name(object), name) == 0)
            return engine_of(object);
    return NULL;
}

struct control_replica *control_find_replica(struct control *control, const char *name) {
    for (struct hash_node *n = hash_map_first(&control->replica_names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct control_replica *replica = container_of(n, struct control_replica, by_name);
        if (strcmp(replica->record.name, name) == 0)
            return replica;
    }
    return NULL;
}

const struct observed_volume *control_find_snapshot(struct control *control, const struct control_replica *replica,
                                                    const char *snapshot) {
    const struct observation *seen = control_shown(control, control_find_disk(control, replica->record.disk));
    char name[NAMES_VOLUME_SIZE];
    if (seen == NULL || snapshot[0] == '\0' || !names_make_snapshot(replica->record.name, snapshot, name))
        return NULL;
    const struct observed_volume *volume = observed_volume(seen, replica->record.store, name);
    return volume != NULL && volume->snapshot && volume->attributes != NULL ? volume : NULL;
}

const struct observed_volume *control_check_snapshot(struct control *control, const struct control_replica *replica,
                                                     const char *name, const char *snapshot, struct error *error) {
    const struct observed_volume *volume = NULL;
    if (replica == NULL)
        error_set(error, ERROR_NO_DEVICE, "there is no replica %s", name);
    else if (replica->state != CONTROL_STOPPED && replica->state != CONTROL_RUNNING)
        error_set(error, ERROR_BUSY, "replica %s is in state %s%s%s", name, control_state_name(replica->state),
                  replica->reason[0] != '\0' ? ": " : "", replica->reason);
    else if ((volume = control_find_snapshot(control, replica, snapshot)) == NULL)
        error_set(error, ERROR_PERMISSION, "replica %s has no snapshot %s", name, snapshot);
    return volume;
}

struct control_disk *control_find_store(struct control *control, const char *uuid, const char *name) {
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        struct control_disk *disk = disk_of(object);
        if (disk->state == CONTROL_READY &&
            (uuid[0] != '\0' ? strcasecmp(disk->record.uuid, uuid) == 0 : strcmp(disk->record.name, name) == 0))
            return disk;
    }
    return NULL;
}

const struct observation *control_shown(const struct control *control, const struct control_disk *disk) {
    return disk != NULL && disk->state == CONTROL_CREATING && disk->shown != NULL ? disk->shown : control_seen(control);
}

struct control_disk *control_add_disk(struct control *control, const char *name) {
    struct control_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL)
        return NULL;
    disk->object.kind = CONTROL_DISKS;
    disk->state = CONTROL_CREATING;
    list_init(&disk->object.goals);
    snprintf(disk->record.name, sizeof(disk->record.name), "%s", name);
    list_push_back(&control->objects[CONTROL_DISKS], &disk->object.node);
    return disk;
}

struct control_replica *control_add_replica(struct control *control, const char *name) {
    struct control_replica *replica = calloc(1, sizeof(*replica));
    if (replica == NULL)
        return NULL;
    replica->object.kind = CONTROL_REPLICAS;
    replica->state = CONTROL_PENDING;
    list_init(&replica->object.goals);
    snprintf(replica->record.name, sizeof(replica->record.name), "%s", name);
    if (!hash_map_insert(&control->replica_names, &replica->by_name, hash_text(name))) {
        free(replica);
        return NULL;
    }
    list_push_back(&control->objects[CONTROL_REPLICAS], &replica->object.node);
    return replica;
}

static void remove_disk(struct control_disk *disk) {
    observation_unref(disk->shown);
    list_remove(&disk->object.node);
    if (disk->identifying != NULL)
        *disk->identifying = NULL;
    free(disk);
}

static void remove_replica(struct control *control, struct control_replica *replica) {
    list_remove(&replica->object.node);
    hash_map_remove(&control->replica_names, &replica->by_name);
    free(replica);
}

/* ---- the device behind a disk ---- */

struct identifying {
    struct host_file_open open;
    struct control_disk *disk; /* NULL: gone meanwhile */
    char path[256];
};

static void identified(struct host_file_open *open) {
    struct identifying *asked = container_of(open, struct identifying, open);
    struct control_disk *disk = asked->disk;
    if (open->ok) {
        if (disk != NULL) /* as makedev(3) puts them together */
            snprintf(disk->id, sizeof(disk->id), "%" PRIu64 "-%" PRIu64,
                     (open->facts.device >> 8 & 0xfff) | (open->facts.device >> 32 & ~UINT64_C(0xfff)),
                     (open->facts.device & 0xff) | (open->facts.device >> 12 & ~UINT64_C(0xff)));
        host_file_close(open->file);
    }
    if (disk != NULL)
        disk->identifying = NULL;
    free(asked);
}

static void identify(struct control *control, struct control_disk *disk) {
    struct identifying *asked = disk->id_asked ? NULL : calloc(1, sizeof(*asked));
    if (asked == NULL)
        return;
    disk->id_asked = true;
    disk->identifying = &asked->disk;
    asked->disk = disk;
    snprintf(asked->path, sizeof(asked->path), "%s", disk->record.path);
    asked->open = (struct host_file_open){.path = asked->path, .options = {.read_only = true}, .done = identified};
    host_file_open_submit(control->options.reactor->loop, &asked->open);
}

/* ---- states ---- */

bool control_is_gone(const struct control *control) { return control_plane_gone_ns(&control->plane) >= GONE_S * NS_PER_S; }

void control_set_state(enum control_state *state, char *reason, size_t size, enum control_state new_state, const char *format,
                       ...) {
    va_list arguments;
    *state = new_state;
    va_start(arguments, format);
    vsnprintf(reason, size, format, arguments);
    va_end(arguments);
}
#define set_disk(disk, ...) control_set_state(&(disk)->state, (disk)->reason, sizeof((disk)->reason), __VA_ARGS__)
#define set_replica(replica, ...) control_set_state(&(replica)->state, (replica)->reason, sizeof((replica)->reason), __VA_ARGS__)

static void judge_disk(struct control *control, struct control_disk *disk) {
    const struct control_object *object = &disk->object;
    const struct observation *seen = control_seen(control);
    bool current = seen != NULL && control_plane_ready(&control->plane);
    const struct observed_store *store = current && disk->record.uuid[0] != '\0' ? observed_store(seen, disk->record.uuid) : NULL;
    if (store != NULL && disk->shown != seen) {
        observation_unref(disk->shown);
        disk->shown = observation_ref(control->observer.seen);
    }
    if (disk->record.failure[0] != '\0')
        set_disk(disk, CONTROL_ERROR, "%s", disk->record.failure);
    else if (control_is_gone(control))
        set_disk(disk, CONTROL_ERROR, "the storage plane is not there: %s", control->plane.error.text);
    else if (store != NULL && strcmp(store->base, disk->record.name) == 0 && !store->failed) {
        if (disk->state != CONTROL_READY)
            log_notice(control->options.log, LOG_AREA_APP, "disk %s is ready: store %s on %s", disk->record.name,
                       disk->record.uuid, disk->record.path);
        set_disk(disk, CONTROL_READY, "%s", "");
        identify(control, disk);
    } else if (store != NULL && store->failed)
        set_disk(disk, CONTROL_ERROR, "its store has failed: %s", store->reason != NULL ? store->reason : "");
    else if (object->failures > 0)
        set_disk(disk, CONTROL_ERROR, "%s", object->failure);
    else if (current || disk->state != CONTROL_READY)
        set_disk(disk, CONTROL_CREATING, "%s", "");
}

static bool disk_comes(struct control *control, const char *name) {
    const struct control_disk *disk = control_find_disk(control, name);
    return disk != NULL && disk->state == CONTROL_CREATING;
}

static bool is_being_made(const struct control_object *object) {
    return !list_empty(&object->goals) &&
           list_entry(list_first(&object->goals), struct control_goal, node)->verb == CONTROL_REPLICA_CREATE;
}

/* By the disk, which is open. */
static void judge_by_disk(struct control *control, struct control_replica *replica) {
    const struct control_replica_record *record = &replica->record;
    const struct observation *seen = control_seen(control);
    const struct observed_volume *head = observed_volume(seen, record->store, record->name);
    if (head == NULL && replica->incoming_lives)
        return; /* it is being replaced */
    if (head == NULL && is_being_made(&replica->object))
        set_replica(replica, CONTROL_PENDING, "%s", "");
    else if (head == NULL && record->made)
        set_replica(replica, CONTROL_ERROR, "it is missing on disk %s", record->disk);
    else if (head == NULL)
        set_replica(replica, CONTROL_ERROR, "%s",
                    replica->object.recorded ? "its making was not finished" : "its head is missing");
    else if (head->snapshot)
        set_replica(replica, CONTROL_ERROR, "its head on disk %s is a snapshot", record->disk);
    else if (head->damaged)
        set_replica(replica, CONTROL_ERROR, "it is damaged on disk %s", record->disk);
    else if (plan_stands_outside(head, seen) && !replica->incoming_lives)
        set_replica(replica, CONTROL_ERROR, "its rebuilding was not finished: rebuild it again, or delete it");
    else if (!record->exported)
        set_replica(replica, CONTROL_STOPPED, "%s", "");
    else if (plan_export_stands(record, head, seen, control->options.address))
        set_replica(replica, CONTROL_RUNNING, "%s", "");
    else if (replica->object.failures > 0)
        set_replica(replica, CONTROL_ERROR, "%s", replica->object.failure);
    /* else it is being exported: as it was */
}

static void judge_replica(struct control *control, struct control_replica *replica) {
    const struct control_replica_record *record = &replica->record;
    if (record->deleting)
        set_replica(replica, CONTROL_TERMINATING, "%s", replica->object.failures > 0 ? replica->object.failure : "");
    else if (record->failure[0] != '\0')
        set_replica(replica, CONTROL_ERROR, "%s", record->failure);
    else if (control_is_gone(control))
        set_replica(replica, CONTROL_ERROR, "the storage plane is not there: %s", control->plane.error.text);
    else if (!control_plane_ready(&control->plane) || control_seen(control) == NULL || record->disk[0] == '\0')
        return; /* nothing new is known of it; or its record is gone, and it goes next */
    else if (observed_store(control_seen(control), record->store) != NULL)
        judge_by_disk(control, replica);
    else if (!disk_comes(control, record->disk) && !is_being_made(&replica->object))
        set_replica(replica, CONTROL_ERROR, "its disk %s is not open", record->disk);
}

/* What is on the disks and has no record: listed, since it takes space and may be wanted. */
static void discover(struct control *control) {
    const struct observation *seen = control_seen(control);
    for (size_t i = 0; i < seen->volume_count; i++) {
        const struct observed_volume *volume = &seen->volumes[i];
        const struct observed_store *store = observed_store(seen, volume->store);
        size_t length = names_replica_of(volume->name);
        char name[CONTROL_NAME_MAX + 1];
        if (length == 0 || length > CONTROL_NAME_MAX || store == NULL || strlen(volume->store) >= UUID_TEXT_SIZE ||
            strlen(store->name) > CONTROL_NAME_MAX)
            continue;
        memcpy(name, volume->name, length);
        name[length] = '\0';
        struct control_replica *replica = control_find_replica(control, name);
        if (replica == NULL && (replica = control_add_replica(control, name)) == NULL)
            continue;
        replica->seen_ns = seen->at_ns;
        if (replica->object.recorded || !list_empty(&replica->object.goals))
            continue;
        snprintf(replica->record.disk, sizeof(replica->record.disk), "%s", store->name);
        snprintf(replica->record.store, sizeof(replica->record.store), "%s", volume->store);
        if (strlen(volume->name) == length) {
            replica->record.made = true;
            replica->record.bytes = volume->bytes;
        }
    }
}

/* Of what a watcher would want to list again for. */
static uint64_t fingerprint(struct control *control, const struct control_replica *replica) {
    const struct observation *seen = control_shown(control, control_find_disk(control, replica->record.disk));
    uint64_t print = hash_bytes(&replica->state, sizeof(replica->state), hash_text(replica->reason) ^ replica->record.port);
    if (seen == NULL)
        return print;
    size_t length = strlen(replica->record.name);
    const struct observed_volume *v = observed_volumes_from(seen, replica->record.store, replica->record.name);
    for (; v < observed_volumes_end(seen) && strncmp(v->name, replica->record.name, length) == 0 &&
           strcmp(v->store, replica->record.store) == 0;
         v++) {
        print = hash_bytes(v->uuid, strlen(v->uuid), print + v->bytes + v->children);
        print = hash_bytes(v->name, strlen(v->name), print);
        print = hash_bytes(v->parent, v->parent == NULL ? 0 : strlen(v->parent), print);
    }
    return print;
}

/* ---- what it does by itself ---- */

bool control_may_try(const struct control *control, const struct control_object *object) {
    return object->recorded && list_empty(&object->goals) && !control->stopping && control_plane_ready(&control->plane) &&
           now_ns(control) >= object->not_before_ns;
}

static void care_for_disk(struct control *control, struct control_disk *disk) {
    if (control_may_try(control, &disk->object) && disk->record.failure[0] == '\0' && disk->state != CONTROL_READY)
        goal_start_own(control, &disk->object, CONTROL_DISK_OPEN);
}

static void care_for_replica(struct control *control, struct control_replica *replica) {
    const struct control_replica_record *record = &replica->record;
    const struct observation *seen = control_seen(control);
    char nqn[NAMES_NQN_SIZE];
    if (!control_may_try(control, &replica->object) || observed_store(seen, record->store) == NULL)
        return;
    names_make_nqn(record->name, nqn);
    const struct observed_volume *head = observed_volume(seen, record->store, record->name);
    if (record->deleting)
        goal_start_own(control, &replica->object, CONTROL_REPLICA_DELETE);
    else if (copy_care(control, replica))
        return;
    else if (record->exported && head != NULL && (replica->incoming_lives || !plan_stands_outside(head, seen)) &&
             (!record->made || !plan_export_stands(record, head, seen, control->options.address)))
        goal_start_own(control, &replica->object, CONTROL_REPLICA_EXPORT);
    else if (!record->exported && observed_export(seen, nqn) != NULL)
        goal_start_own(control, &replica->object, CONTROL_REPLICA_STOP);
}

static void tell_watchers(struct control *control, enum control_kind kind) {
    list_for_each_safe (&control->watchers[kind], struct control_watcher, watcher, node)
        watcher->changed(watcher);
}

static void judge_engines(struct control *control) {
    bool changed = false;
    list_for_each_safe (&control->objects[CONTROL_ENGINES], struct control_object, object, node) {
        struct control_engine *engine = engine_of(object);
        engine_judge(control, engine);
        uint64_t print = engine_fingerprint(control, engine);
        changed |= print != engine->fingerprint;
        engine->fingerprint = print;
        if (!object->recorded && list_empty(&object->goals)) {
            engine_remove(engine);
            changed = true;
        }
    }
    if (control_seen(control) != NULL)
        list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
            engine_care(control, engine_of(object));
    if (changed)
        tell_watchers(control, CONTROL_ENGINES);
}

static void judge_frontends(struct control *control) {
    bool changed = false;
    list_for_each_safe (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        struct control_frontend *frontend = frontend_of(object);
        frontend_judge(control, frontend);
        blockdev_care(control, frontend);
        uint64_t print = frontend_fingerprint(frontend);
        changed |= print != frontend->fingerprint;
        frontend->fingerprint = print;
        if (!object->recorded && list_empty(&object->goals)) {
            frontend_remove(frontend);
            changed = true;
        }
    }
    if (changed)
        tell_watchers(control, CONTROL_FRONTENDS);
}

static void become_ready(struct control *control) {
    reactor_timer_stop(control->options.reactor, &control->patience);
    if (control->started)
        return;
    control->started = true;
    control->ready(control->arg, NULL);
}

/* A disk may settle without another observation: when what was done about it is recorded. */
static void look_whether_ready(struct control *control) {
    bool opening = control_seen(control) == NULL;
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        opening |= disk_of(object)->state == CONTROL_CREATING;
    if (!opening)
        become_ready(control);
}

void control_judge(struct control *control) {
    const struct observation *seen = control_seen(control);
    bool changed = false;
    if (control->stopping)
        return;
    if (seen != NULL)
        discover(control);
    list_for_each_safe (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        judge_disk(control, disk_of(object));
        if (!object->recorded && list_empty(&object->goals))
            remove_disk(disk_of(object));
    }
    list_for_each_safe (&control->objects[CONTROL_REPLICAS], struct control_object, object, node) {
        struct control_replica *replica = replica_of(object);
        judge_replica(control, replica);
        uint64_t print = fingerprint(control, replica);
        changed |= print != replica->fingerprint;
        replica->fingerprint = print;
        if (!object->recorded && list_empty(&object->goals) && (seen == NULL || replica->seen_ns != seen->at_ns)) {
            remove_replica(control, replica);
            changed = true;
        }
    }
    if (seen != NULL) {
        list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
            care_for_disk(control, disk_of(object));
        list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node)
            care_for_replica(control, replica_of(object));
    }
    if (changed)
        tell_watchers(control, CONTROL_REPLICAS);
    judge_engines(control);
    judge_frontends(control);
    if (!control->started)
        look_whether_ready(control);
}

static void run_judge(struct reactor_job *job) {
    struct control *control = container_of(job, struct control, judge_job);
    control->judge_queued = false;
    control_judge(control);
}

void control_judge_soon(struct control *control, struct control_object *object) {
    if (control->stopping)
        return;
    if (object != NULL && object->kind == CONTROL_DISKS)
        judge_disk(control, disk_of(object));
    else if (object != NULL && object->kind == CONTROL_REPLICAS)
        judge_replica(control, replica_of(object));
    else if (object != NULL && object->kind == CONTROL_ENGINES)
        engine_judge(control, engine_of(object));
    else if (object != NULL)
        frontend_judge(control, frontend_of(object));
    if (control->judge_queued)
        return;
    control->judge_queued = true;
    control->judge_job.run = run_judge;
    reactor_defer_late(control->options.reactor, &control->judge_job);
}

void control_watch(struct control *control, enum control_kind kind, struct control_watcher *watcher) {
    list_push_back(&control->watchers[kind], &watcher->node);
}

/* ---- what comes from below ---- */

static bool is_replica(void *arg, const struct observed_volume *volume) {
    struct control *control = arg;
    if (names_replica_of(volume->name) != 0)
        return true;
    const char *token = strstr(volume->name, "-snap-"); /* of one that was given another sort of name */
    char name[CONTROL_NAME_MAX + 1];
    if (token == NULL || (size_t)(token - volume->name) > CONTROL_NAME_MAX)
        return false;
    memcpy(name, volume->name, (size_t)(token - volume->name));
    name[token - volume->name] = '\0';
    return control_find_replica(control, name) != NULL;
}

static bool is_engine(void *arg, const char *mirror) { return control_find_engine(arg, mirror) != NULL; }

static void observed(void *arg) { control_judge(arg); }

static void waited(struct observe_waiter *waiter) { (void)waiter; }

static void ask(struct control *control) {
    observer_forget(&control->waiter);
    observer_ask(&control->observer, &control->waiter);
}

static void plane_changed(void *arg) {
    struct control *control = arg;
    if (control->stopping)
        return;
    if (control_plane_ready(&control->plane)) {
        list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
            object->not_before_ns = 0; /* what failed before has nothing to say about a plane that is new */
        observer_forget(&control->waiter);
        observer_await(&control->observer, &control->waiter);
        observer_resume(&control->observer);
    } else {
        control_judge(control);
    }
}

/* Second tries, and a plane that stays away. */
static void tick(struct reactor_timer *timer) {
    struct control *control = container_of(timer, struct control, timer);
    if (control->plane.state == CONTROL_PLANE_WAITING) /* it does not come at once: callers are told so, not kept waiting */
        become_ready(control);
    bool late = false;
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++)
        list_for_each (&control->objects[kind], struct control_object, object, node)
            late |= object->failures > 0 && object->recorded;
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        if (object->recorded && (!control->observer.follows || !engine_is_at_rest(engine_of(object)))) {
            observer_doubt(&control->observer, OBSERVE_MIRRORS, control_object_name(object)); /* nobody tells of progress */
            late = true;
        }
    judge_frontends(control); /* pauses end by themselves */
    if ((late || observer_is_behind(&control->observer, now_ns(control))) && control->plane.wanted &&
        control_plane_ready(&control->plane))
        ask(control);
    if (late || !control_plane_ready(&control->plane)) /* what it shows may be the same, and mean something else by now */
        control_judge(control);
    reactor_timer_start(control->options.reactor, timer, now_ns(control) + TICK_S * NS_PER_S);
}

static void out_of_patience(struct reactor_timer *timer) {
    struct control *control = container_of(timer, struct control, patience);
    log_warning(control->options.log, LOG_AREA_APP, "not all disks are open after %u s: callers are served without them",
                PATIENCE_S);
    become_ready(control);
}

/* ---- start ---- */

static bool is_of_kind(const char *key) {
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++) {
        const char *folder = records_folder((enum control_kind)kind);
        if (strncmp(key, folder, strlen(folder)) == 0 && key[strlen(folder)] == '/')
            return true;
    }
    return false;
}

static void load_entry(struct control *control, const struct store_entry *entry, size_t prefix_length) {
    const char *rest = entry->key + prefix_length;
    union control_record record;
    struct error error;
    if (strncmp(rest, "disks/", 6) == 0 && records_read_disk(entry->value, entry->value_length, &record.disk, &error)) {
        struct control_disk *disk = control_add_disk(control, record.disk.name);
        assert(disk != NULL);
        disk->record = record.disk;
        disk->object.recorded = true;
        disk->object.revision = entry->modify_revision;
    } else if (strncmp(rest, "replicas/", 9) == 0 &&
               records_read_replica(entry->value, entry->value_length, &record.replica, &error)) {
        struct control_replica *replica = control_add_replica(control, record.replica.name);
        assert(replica != NULL);
        replica->record = record.replica;
        replica->object.recorded = true;
        replica->object.revision = entry->modify_revision;
        ports_mark(control, record.replica.port, record.replica.port_count);
    } else if (strncmp(rest, "engines/", 8) == 0 &&
               records_read_engine(entry->value, entry->value_length, &record.engine, &error)) {
        struct control_engine *engine = engine_add(control, record.engine.name);
        assert(engine != NULL);
        engine->record = record.engine;
        if (!record.engine.made && record.engine.failure[0] == '\0') /* the daemon died while it was made */
            snprintf(engine->record.failure, sizeof(engine->record.failure), "its making was not finished");
        engine->object.recorded = true;
        engine->object.revision = entry->modify_revision;
        ports_mark(control, record.engine.port, record.engine.port_count);
    } else if (strncmp(rest, "frontends/", 10) == 0 &&
               records_read_frontend(entry->value, entry->value_length, &record.frontend, &error)) {
        struct control_frontend *frontend = frontend_add(control, record.frontend.name);
        assert(frontend != NULL);
        frontend->record = record.frontend;
        if (!record.frontend.made && record.frontend.failure[0] == '\0')
            snprintf(frontend->record.failure, sizeof(frontend->record.failure), "its making was not finished");
        frontend->object.recorded = true;
        frontend->object.revision = entry->modify_revision;
    } else if (strncmp(rest, "volumes/", 8) != 0) { /* those are the fleet's */
        log_error(control->options.log, LOG_AREA_APP, "the state's %s is left alone: %s", entry->key,
                  is_of_kind(rest) ? error.text : "no such kind is known");
    }
}

static void load(struct control *control, const char *after, int64_t revision);

static void loaded(struct store_request *request) {
    struct control *control = request->arg;
    control->is_loading = false;
    if (control->stopping) {
        control_goal_ended(control);
        return;
    }
    if (request->outcome != STORE_DONE && store_is_away(request)) {
        log_warning(control->options.log, LOG_AREA_APP, "the state cannot be read yet: %s", request->error.text);
        load(control, request->after, request->revision);
        return;
    }
    if (request->outcome != STORE_DONE) {
        control->ready(control->arg, &request->error);
        return;
    }
    const struct store_result *result = &request->results[0];
    for (uint32_t i = 0; i < result->count; i++)
        load_entry(control, &result->entries[i], strlen(control->loading_key));
    if (request->more && result->count > 0) {
        snprintf(control->loading_after, sizeof(control->loading_after), "%s", result->entries[result->count - 1].key);
        load(control, control->loading_after, request->now_revision);
        return;
    }
    control->loaded = true;
    reactor_timer_start(control->options.reactor, &control->timer, now_ns(control) + TICK_S * NS_PER_S);
    if (list_empty(&control->objects[CONTROL_DISKS]) && list_empty(&control->objects[CONTROL_ENGINES])) {
        become_ready(control);
        return;
    }
    control_plane_want(&control->plane);
    reactor_timer_start(control->options.reactor, &control->patience, now_ns(control) + PATIENCE_S * NS_PER_S);
}

static void load(struct control *control, const char *after, int64_t revision) {
    control->loading = (struct store_request){.verb = STORE_RANGE,
                                              .key = control->loading_key,
                                              .prefix = true,
                                              .after = after,
                                              .revision = revision,
                                              .timeout_ms = LOAD_MS,
                                              .arg = control,
                                              .done = loaded};
    control->is_loading = true;
    store_submit(control->options.store, &control->loading);
}

struct control *control_create(const struct control_options *options) {
    struct control *control = calloc(1, sizeof(*control));
    if (control == NULL)
        return NULL;
    control->options = *options;
    control->timer.run = tick;
    control->patience.run = out_of_patience;
    control->waiter.done = waited;
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++) {
        list_init(&control->objects[kind]);
        list_init(&control->watchers[kind]);
    }
    list_init(&control->free_goals);
    list_init(&control->hashes);
    list_init(&control->copies);
    hash_map_init(&control->replica_names);
    control_plane_init(&control->plane, &(struct control_plane_options){.reactor = options->reactor,
                                                                        .log = options->log,
                                                                        .socket_path = options->socket_path,
                                                                        .log_path = options->plane_log_path,
                                                                        .processes = options->processes,
                                                                        .changed = plane_changed,
                                                                        .arg = control});
    observer_init(&control->observer, &control->plane, options->log);
    control->observer.is_replica = is_replica;
    control->observer.is_engine = is_engine;
    control->observer.observed = observed;
    control->observer.arg = control;
    return control;
}

void control_start(struct control *control, void (*ready)(void *arg, const struct error *error), void *arg) {
    control->ready = ready;
    control->arg = arg;
    snprintf(control->loading_key, sizeof(control->loading_key), "/penstock/%s/", control->options.node);
    load(control, NULL, 0);
}

/* ---- stop ---- */

static void run_stopped(struct reactor_job *job) {
    struct control *control = container_of(job, struct control, stop_job);
    control->stopped(control->stop_arg);
}

void control_goal_ended(struct control *control) {
    if (!control->stopping || control->goal_count != 0 || control->is_loading || control->stop_told)
        return;
    control->stop_told = true;
    control->stop_job.run = run_stopped; /* late, so that it comes after run_judge() */
    reactor_defer_late(control->options.reactor, &control->stop_job);
}

void control_stop(struct control *control, void (*stopped)(void *arg), void *arg) {
    control->stopping = true;
    control->stopped = stopped;
    control->stop_arg = arg;
    reactor_timer_stop(control->options.reactor, &control->timer);
    reactor_timer_stop(control->options.reactor, &control->patience);
    observer_forget(&control->waiter);
    goals_cancel(control);
    control_plane_fini(&control->plane);
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        struct control_helper *helper = frontend_of(object)->helper;
        frontend_of(object)->helper = NULL;
        helper_destroy(helper);
    }
    control_goal_ended(control);
}

void control_destroy(struct control *control) {
    if (!control->stopping)
        control_plane_fini(&control->plane);
    control->plane.options.reactor = control->options.reactor;
    hashes_forget(control);
    copies_forget(control);
    list_for_each_safe (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        remove_disk(disk_of(object));
    observer_fini(&control->observer);
    list_for_each_safe (&control->objects[CONTROL_REPLICAS], struct control_object, object, node)
        remove_replica(control, replica_of(object));
    list_for_each_safe (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        engine_remove(engine_of(object));
    list_for_each_safe (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node)
        frontend_remove(frontend_of(object));
    hash_map_fini(&control->replica_names);
    free(control);
}
