/* The node: its objects, start and stop. How objects are judged: judge.c. */
#include "control/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/helper.h"
#include "control/internal.h"

enum {
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

static struct control_object *find(struct control *control, enum control_kind kind, const char *name) {
    for (struct hash_node *n = hash_map_first(&control->names[kind], hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct control_object *object = container_of(n, struct control_object, by_name);
        if (strcmp(control_object_name(object), name) == 0)
            return object;
    }
    return NULL;
}

struct control_disk *control_find_disk(struct control *control, const char *name) {
    struct control_object *object = find(control, CONTROL_DISKS, name);
    return object == NULL ? NULL : disk_of(object);
}

struct control_frontend *control_find_frontend(struct control *control, const char *name) {
    struct control_object *object = find(control, CONTROL_FRONTENDS, name);
    return object == NULL ? NULL : frontend_of(object);
}

struct control_engine *control_find_engine(struct control *control, const char *name) {
    struct control_object *object = find(control, CONTROL_ENGINES, name);
    return object == NULL ? NULL : engine_of(object);
}

struct control_replica *control_find_replica(struct control *control, const char *name) {
    struct control_object *object = find(control, CONTROL_REPLICAS, name);
    return object == NULL ? NULL : replica_of(object);
}

void *control_object_add(struct control *control, enum control_kind kind, const char *name, size_t size) {
    struct control_object *object = calloc(1, size);
    if (object == NULL || !hash_map_insert(&control->names[kind], &object->by_name, hash_text(name))) {
        free(object);
        return NULL;
    }
    object->kind = kind;
    list_init(&object->goals);
    snprintf(control_object_record(object), CONTROL_NAME_MAX + 1, "%s", name);
    list_push_back(&control->objects[kind], &object->node);
    list_push_back(&control->to_judge[kind], &object->judge_node);
    return object;
}

void control_object_remove(struct control *control, struct control_object *take_object) {
    list_remove(&take_object->node);
    if (list_linked(&take_object->judge_node))
        list_remove(&take_object->judge_node);
    hash_map_remove(&control->names[take_object->kind], &take_object->by_name);
    free(take_object);
}

const struct observed_volume *control_find_snapshot(struct control *control, const struct control_replica *replica,
                                                    const char *snapshot) {
    const struct observation *seen = control_shown(control, control_find_disk(control, replica->record.disk));
    if (seen == NULL || snapshot[0] == '\0')
        return NULL;
    const struct observed_volume *volume = plan_find_snapshot(&replica->record, snapshot, seen);
    return volume != NULL && volume->attributes != NULL ? volume : NULL;
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
    struct control_disk *disk = control_object_add(control, CONTROL_DISKS, name, sizeof(*disk));
    if (disk != NULL)
        disk->state = CONTROL_CREATING;
    return disk;
}

struct control_replica *control_add_replica(struct control *control, const char *name) {
    struct control_replica *replica = control_object_add(control, CONTROL_REPLICAS, name, sizeof(*replica));
    if (replica != NULL)
        replica->state = CONTROL_PENDING;
    return replica;
}

void control_remove_disk(struct control *control, struct control_disk *disk) {
    observation_unref(disk->shown);
    if (disk->identifying != NULL)
        *disk->identifying = NULL;
    control_object_remove(control, &disk->object);
}

void control_become_ready(struct control *control) {
    reactor_timer_stop(control->options.reactor, &control->patience);
    if (control->started)
        return;
    control->started = true;
    control->ready(control->arg, NULL);
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
        control_become_ready(control);
    bool late = false;
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++)
        list_for_each (&control->objects[kind], struct control_object, object, node)
            late |= object->failures > 0 && object->recorded;
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        if (object->recorded && (!control->observer.follows || !engine_is_at_rest(engine_of(object)))) {
            observer_doubt(&control->observer, OBSERVE_MIRRORS, control_object_name(object)); /* nobody tells of progress */
            late = true;
        }
    control_judge_frontends(control); /* pauses end by themselves */
    if ((late || observer_is_behind(&control->observer, now_ns(control))) && control->plane.wanted &&
        control_plane_ready(&control->plane))
        ask(control);
    /* What it shows may be the same, and mean something else by now; or what happened to one was another's matter. */
    if (late || control->judged_some || !control_plane_ready(&control->plane))
        control_judge(control);
    reactor_timer_start(control->options.reactor, timer, now_ns(control) + TICK_S * NS_PER_S);
}

void control_look_by(struct control *control, uint64_t at_ns) {
    if (reactor_timer_armed(&control->timer) && at_ns < control->timer.deadline_ns)
        reactor_timer_start(control->options.reactor, &control->timer, at_ns);
}

static void out_of_patience(struct reactor_timer *timer) {
    struct control *control = container_of(timer, struct control, patience);
    log_warning(control->options.log, LOG_AREA_APP, "not all disks are open after %u s: callers are served without them",
                PATIENCE_S);
    control_become_ready(control);
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
    } else if (strncmp(rest, "volumes/", 8) != 0 && strcmp(rest, "owner") != 0) { /* the fleet's, and owner.c's */
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
        control_become_ready(control);
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
        list_init(&control->to_judge[kind]);
        hash_map_init(&control->names[kind]);
        list_init(&control->watchers[kind]);
    }
    list_init(&control->free_goals);
    list_init(&control->hashes);
    list_init(&control->copies);
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
    control->observer.observed = control_observed;
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
        control_remove_disk(control, disk_of(object));
    observer_fini(&control->observer);
    list_for_each_safe (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node)
        frontend_remove(control, frontend_of(object));
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++) {
        list_for_each_safe (&control->objects[kind], struct control_object, object, node)
            control_object_remove(control, object);
        hash_map_fini(&control->names[kind]);
    }
    free(control);
}
