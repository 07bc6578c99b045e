/* States of objects, as judged from record and observation, and what objects do by themselves because of them. Judged are those
 * to which something happened and those that are not at rest; all of them when everything was observed anew, and a second after
 * some were: who hangs on another's things is seen to then. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/internal.h"

enum { GONE_S = 30 }; /* a plane that is away for so long is no passing matter */

static uint64_t now_ns(const struct control *control) { return host_now_ns(control->options.reactor->host); }

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

/* What is on a disk and has no record: listed, since it takes space and may be wanted. */
static void discover(struct control *control, const struct observed_volume *volume) {
    const struct observed_store *store = observed_store(control_seen(control), volume->store);
    size_t length = names_replica_of(volume->name);
    char name[CONTROL_NAME_MAX + 1];
    if (length == 0 || length > CONTROL_NAME_MAX || store == NULL || strlen(volume->store) >= UUID_TEXT_SIZE ||
        strlen(store->name) > CONTROL_NAME_MAX)
        return;
    memcpy(name, volume->name, length);
    name[length] = '\0';
    struct control_replica *replica = control_find_replica(control, name);
    if (replica == NULL && (replica = control_add_replica(control, name)) == NULL)
        return;
    if (replica->object.recorded || !list_empty(&replica->object.goals))
        return;
    snprintf(replica->record.disk, sizeof(replica->record.disk), "%s", store->name);
    snprintf(replica->record.store, sizeof(replica->record.store), "%s", volume->store);
    if (strlen(volume->name) == length) {
        replica->record.made = true;
        replica->record.bytes = volume->bytes;
    }
}

/* Anything of it is on its disk, by its name. */
static bool is_seen(const struct control *control, const struct control_replica *replica) {
    const struct observation *seen = control_seen(control);
    size_t length = strlen(replica->record.name);
    if (seen == NULL || observed_store(seen, replica->record.store) == NULL)
        return false;
    for (const struct observed_volume *v = observed_volumes_from(seen, replica->record.store, replica->record.name);
         v < observed_volumes_end(seen) && strcmp(v->store, replica->record.store) == 0 &&
         strncmp(v->name, replica->record.name, length) == 0;
         v++)
        if (names_replica_of(v->name) == length)
            return true;
    return false;
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

/* ---- judging ---- */

/* Nothing about it changes unless something happens to it, or all are judged. */
static bool rests(const struct control_object *object, enum control_state state) {
    return list_empty(&object->goals) && state != CONTROL_CREATING && state != CONTROL_PENDING && state != CONTROL_TERMINATING;
}

static void to_judge(struct control *control, struct control_object *object) {
    if (!list_linked(&object->judge_node))
        list_push_back(&control->to_judge[object->kind], &object->judge_node);
}

static void judged(struct control_object *object, enum control_state state) {
    if (rests(object, state) && list_linked(&object->judge_node))
        list_remove(&object->judge_node);
}

#define for_each_to_judge(control, kind, object)                                                                                 \
    list_for_each_safe (&(control)->to_judge[kind], struct control_object, object, judge_node)

/* Disks are few, and much hangs on them. */
static bool judge_disks(struct control *control) {
    bool changed = false;
    list_for_each_safe (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        enum control_state was = disk_of(object)->state;
        judge_disk(control, disk_of(object));
        changed |= disk_of(object)->state != was;
        if (!object->recorded && list_empty(&object->goals))
            control_remove_disk(control, disk_of(object));
    }
    return changed;
}

static bool judge_replicas(struct control *control) {
    bool changed = false;
    for_each_to_judge(control, CONTROL_REPLICAS, object) {
        struct control_replica *replica = replica_of(object);
        judge_replica(control, replica);
        uint64_t print = fingerprint(control, replica);
        changed |= print != replica->fingerprint;
        replica->fingerprint = print;
        if (!object->recorded && list_empty(&object->goals) && !is_seen(control, replica)) {
            control_object_remove(control, object);
            changed = true;
        }
    }
    return changed;
}

static void judge_engines(struct control *control) {
    bool changed = false;
    for_each_to_judge(control, CONTROL_ENGINES, object) {
        struct control_engine *engine = engine_of(object);
        engine_judge(control, engine);
        uint64_t print = engine_fingerprint(control, engine);
        changed |= print != engine->fingerprint;
        engine->fingerprint = print;
        if (!object->recorded && list_empty(&object->goals)) {
            control_object_remove(control, object);
            changed = true;
        }
    }
    for_each_to_judge(control, CONTROL_ENGINES, object) {
        if (control_seen(control) != NULL)
            engine_care(control, engine_of(object));
        judged(object, engine_of(object)->state);
    }
    if (changed)
        tell_watchers(control, CONTROL_ENGINES);
}

void control_judge_frontends(struct control *control) {
    bool changed = false;
    for_each_to_judge(control, CONTROL_FRONTENDS, object) {
        struct control_frontend *frontend = frontend_of(object);
        frontend_judge(control, frontend);
        blockdev_care(control, frontend);
        uint64_t print = frontend_fingerprint(frontend);
        changed |= print != frontend->fingerprint;
        frontend->fingerprint = print;
        judged(object, frontend->state == CONTROL_SUSPENDED ? CONTROL_PENDING : frontend->state); /* pauses end by themselves */
        if (!object->recorded && list_empty(&object->goals)) {
            frontend_remove(control, frontend);
            changed = true;
        }
    }
    if (changed)
        tell_watchers(control, CONTROL_FRONTENDS);
}

static void all_to_judge(struct control *control) {
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++)
        list_for_each (&control->objects[kind], struct control_object, object, node)
            to_judge(control, object);
}

/* A disk may settle without another observation: when what was done about it is recorded. */
static void look_whether_ready(struct control *control) {
    bool opening = control_seen(control) == NULL;
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        opening |= disk_of(object)->state == CONTROL_CREATING;
    if (!opening)
        control_become_ready(control);
}

/* Those that are to be judged. */
static void judge_some(struct control *control) {
    const struct observation *seen = control_seen(control);
    if (control->stopping)
        return;
    if (judge_disks(control))
        all_to_judge(control);
    bool changed = judge_replicas(control);
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        if (seen != NULL)
            care_for_disk(control, disk_of(object));
    for_each_to_judge(control, CONTROL_REPLICAS, object) {
        if (seen != NULL)
            care_for_replica(control, replica_of(object));
        judged(object, replica_of(object)->state);
    }
    if (changed)
        tell_watchers(control, CONTROL_REPLICAS);
    judge_engines(control);
    control_judge_frontends(control);
    control->judged_some = true;
    if (!control->started)
        look_whether_ready(control);
}

void control_judge(struct control *control) {
    const struct observation *seen = control_seen(control);
    if (control->stopping)
        return;
    for (size_t i = 0; seen != NULL && i < seen->volume_count; i++)
        discover(control, &seen->volumes[i]);
    all_to_judge(control);
    judge_some(control);
    control->judged_some = false;
}

static void run_judge(struct reactor_job *job) {
    struct control *control = container_of(job, struct control, judge_job);
    control->judge_queued = false;
    judge_some(control);
}

void control_judge_soon(struct control *control, struct control_object *object) {
    if (control->stopping)
        return;
    if (object != NULL)
        to_judge(control, object);
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

/* ---- what was observed ---- */

static void replica_to_judge(struct control *control, const char *name, size_t length) {
    char text[CONTROL_NAME_MAX + 1];
    if (length == 0 || length > CONTROL_NAME_MAX)
        return;
    memcpy(text, name, length);
    text[length] = '\0';
    struct control_replica *replica = control_find_replica(control, text);
    if (replica != NULL)
        to_judge(control, &replica->object);
}

/* A volume of it, whatever sort of name it was given. */
static void volume_to_judge(struct control *control, const char *volume) {
    static const char *const tails[] = {"-snap-", NAMES_REBUILDING, NAMES_CLONING, NAMES_EXPIRED};
    replica_to_judge(control, volume, strlen(volume));
    replica_to_judge(control, volume, names_replica_of(volume));
    for (size_t i = 0; i < array_count(tails); i++) {
        const char *tail = strstr(volume, tails[i]);
        if (tail != NULL)
            replica_to_judge(control, volume, (size_t)(tail - volume));
    }
}

static void device_to_judge(struct control *control, const json_t *device, bool now) {
    struct observed_volume volume;
    if (!observed_volume_read(control_seen(control), device, &volume))
        return; /* no volume: disks are judged anyway */
    if (now)
        discover(control, &volume);
    volume_to_judge(control, volume.name);
}

static void export_to_judge(struct control *control, const char *nqn) {
    static const char of_volume[] = NAMES_NQN_PREFIX "volume-";
    if (strncmp(nqn, NAMES_NQN_PREFIX, sizeof(NAMES_NQN_PREFIX) - 1) == 0)
        volume_to_judge(control, nqn + sizeof(NAMES_NQN_PREFIX) - 1);
    if (strncmp(nqn, of_volume, sizeof(of_volume) - 1) != 0)
        return;
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        if (strcmp(engine_of(object)->record.volume, nqn + sizeof(of_volume) - 1) == 0)
            to_judge(control, object);
}

/* Whose things were listed otherwise than before, and who is not at rest. Who hangs on another's things besides is judged with
 * all, a moment later. */
void control_observed(void *arg, bool all) {
    struct control *control = arg;
    const struct observe_part *parts = control->observer.parts;
    const char *name;
    const json_t *before;
    if (all) {
        control_judge(control);
        return;
    }
    json_object_foreach(parts[OBSERVE_DEVICES].touched, name, before) {
        device_to_judge(control, before, false);
        device_to_judge(control, json_object_get(parts[OBSERVE_DEVICES].listed, name), true);
    }
    json_object_foreach(parts[OBSERVE_EXPORTS].touched, name, before) export_to_judge(control, name);
    json_object_foreach(parts[OBSERVE_MIRRORS].touched, name, before) {
        struct control_engine *engine = control_find_engine(control, name);
        if (engine != NULL)
            to_judge(control, &engine->object);
    }
    judge_some(control);
}
