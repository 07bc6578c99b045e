#include "fleet/fleet.h"

#include <stdio.h>
#include <stdlib.h>

#include "fleet/internal.h"

enum { LOAD_MS = 2000 };

/* ---- volumes ---- */

struct fleet_volume *fleet_find(struct fleet *fleet, const char *name) {
    for (struct hash_node *n = hash_map_first(&fleet->names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct fleet_volume *volume = container_of(n, struct fleet_volume, by_name);
        if (strcmp(volume->record.name, name) == 0)
            return volume;
    }
    return NULL;
}

struct fleet_volume *fleet_volume_add(struct fleet *fleet, const char *name) {
    struct fleet_volume *volume = fleet->volume_count == FLEET_VOLUMES_MAX ? NULL : calloc(1, sizeof(*volume));
    if (volume == NULL)
        return NULL;
    fleet_copy(volume->record.name, sizeof(volume->record.name), name);
    if (!hash_map_insert(&fleet->names, &volume->by_name, hash_text(name))) {
        free(volume);
        return NULL;
    }
    volume->fleet = fleet;
    volume->job.run = fleet_volume_turn;
    volume->timer.run = fleet_volume_retry;
    list_init(&volume->requests);
    list_push_back(&fleet->volumes, &volume->node);
    fleet->volume_count++;
    return volume;
}

void fleet_volume_remove(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    reactor_timer_stop(fleet->reactor, &volume->timer);
    list_remove(&volume->node);
    hash_map_remove(&fleet->names, &volume->by_name);
    fleet->volume_count--;
    text_fini(&volume->value);
    free(volume->calls);
    free(volume);
}

void fleet_tell_watchers(struct fleet *fleet) {
    list_for_each_safe (&fleet->watchers, struct fleet_watcher, watcher, node)
        watcher->changed(watcher);
}

void fleet_watch(struct fleet *fleet, struct fleet_watcher *watcher) { list_push_back(&fleet->watchers, &watcher->node); }

const struct control_engine *fleet_engine(const struct fleet *fleet, const struct fleet_volume *volume) {
    char name[CONTROL_NAME_MAX + 1];
    fleet_engine_name(&volume->record, name);
    const struct control_engine *engine = control_find_engine(fleet->options.control, name);
    return engine != NULL && strcmp(engine->record.volume, volume->record.name) == 0 ? engine : NULL;
}

int fleet_member_mode(const struct control_engine *engine, const struct fleet_member *member, unsigned *ret_leg) {
    for (unsigned i = 0; engine != NULL && i < engine->record.leg_count; i++)
        if (strcmp(engine->record.legs[i].name, member->name) == 0) {
            *ret_leg = i;
            return (int)engine->legs[i].mode;
        }
    return -1;
}

static unsigned add_node(char (*to)[FLEET_NODE_SIZE], unsigned count, unsigned max, const char *node) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(to[i], node) == 0)
            return count;
    if (count < max)
        fleet_copy(to[count++], FLEET_NODE_SIZE, node);
    return count;
}

unsigned fleet_nodes(const struct fleet *fleet, char (*to)[FLEET_NODE_SIZE], unsigned max) {
    unsigned count = add_node(to, 0, max, fleet->options.address);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        const struct fleet_record *record = &volume->record;
        for (unsigned i = 0; i < record->node_count; i++)
            count = add_node(to, count, max, record->nodes[i]);
        for (unsigned i = 0; i < record->member_count; i++)
            count = add_node(to, count, max, record->members[i].node);
    }
    return count;
}

/* ---- start ---- */

static void engines_changed(struct control_watcher *watcher) {
    struct fleet *fleet = container_of(watcher, struct fleet, engines);
    fleet_tell_watchers(fleet);
    reactor_timer_start(fleet->reactor, &fleet->care_timer, fleet_now_ns(fleet)); /* not from inside of control */
}

static void load_entry(struct fleet *fleet, const struct store_entry *entry) {
    struct fleet_record record;
    struct error error;
    struct fleet_volume *volume = NULL;
    if (!fleet_record_read(entry->value, entry->value_length, &record, &error))
        ;
    else if (strcmp(entry->key + strlen(fleet->loading_key), record.name) != 0)
        error_set(&error, ERROR_DAMAGED, "it says that it is %s", record.name);
    else if ((volume = fleet_volume_add(fleet, record.name)) == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory for a volume, or %d are there", FLEET_VOLUMES_MAX);
    if (volume == NULL) {
        log_error(fleet->log, LOG_AREA_APP, "the state's %s is left alone: %s", entry->key, error.text);
        return;
    }
    volume->record = record;
    volume->recorded = true;
}

static void load(struct fleet *fleet, const char *after, int64_t revision);

static void loaded(struct store_request *request) {
    struct fleet *fleet = request->arg;
    fleet->is_loading = false;
    if (fleet->stopping) {
        fleet_look_whether_stopped(fleet);
        return;
    }
    if (request->outcome != STORE_DONE && store_is_away(request)) {
        log_warning(fleet->log, LOG_AREA_APP, "the state of volumes cannot be read yet: %s", request->error.text);
        load(fleet, request->after, request->revision);
        return;
    }
    if (request->outcome != STORE_DONE) {
        fleet->ready(fleet->arg, &request->error);
        return;
    }
    const struct store_result *result = &request->results[0];
    for (uint32_t i = 0; i < result->count; i++)
        load_entry(fleet, &result->entries[i]);
    if (request->more && result->count > 0) {
        fleet_copy(fleet->loading_after, sizeof(fleet->loading_after), result->entries[result->count - 1].key);
        load(fleet, fleet->loading_after, request->now_revision);
        return;
    }
    fleet->ready(fleet->arg, NULL);
}

static void load(struct fleet *fleet, const char *after, int64_t revision) {
    fleet->loading = (struct store_request){.verb = STORE_RANGE,
                                            .key = fleet->loading_key,
                                            .prefix = true,
                                            .after = after,
                                            .revision = revision,
                                            .timeout_ms = LOAD_MS,
                                            .arg = fleet,
                                            .done = loaded};
    fleet->is_loading = true;
    store_submit(fleet->options.store, &fleet->loading);
}

struct fleet *fleet_create(const struct fleet_options *options) {
    struct fleet *fleet = calloc(1, sizeof(*fleet));
    if (fleet == NULL)
        return NULL;
    fleet->options = *options;
    fleet->reactor = options->control->options.reactor;
    fleet->log = options->control->options.log;
    fleet->engines.changed = engines_changed;
    fleet->care_timer.run = fleet_care_again;
    list_init(&fleet->volumes);
    list_init(&fleet->watchers);
    hash_map_init(&fleet->names);
    return fleet;
}

void fleet_start(struct fleet *fleet, void (*ready)(void *arg, const struct error *error), void *arg) {
    fleet->ready = ready;
    fleet->arg = arg;
    snprintf(fleet->loading_key, sizeof(fleet->loading_key), "/penstock/%s/volumes/", fleet->options.node);
    load(fleet, NULL, 0);
}

void fleet_run(struct fleet *fleet) {
    control_watch(fleet->options.control, CONTROL_ENGINES, &fleet->engines);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        if (!fleet_record_is_settled(&volume->record)) {
            log_notice(fleet->log, LOG_AREA_APP, "volume %s: goes on with what was begun before", volume->record.name);
            volume->expires_ns = fleet_now_ns(fleet) + FLEET_GIVE_UP_S * NS_PER_S;
        }
        fleet_volume_kick(volume);
    }
    fleet_care_run(fleet);
}

/* ---- stop ---- */

static void run_stopped(struct reactor_job *job) {
    struct fleet *fleet = container_of(job, struct fleet, stop_job);
    fleet->stopped(fleet->stop_arg);
}

void fleet_look_whether_stopped(struct fleet *fleet) {
    bool busy = fleet->is_loading;
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node)
        busy |= volume->stage != FLEET_IDLE;
    if (busy || fleet->stop_told)
        return;
    fleet->stop_told = true;
    fleet->stop_job.run = run_stopped; /* late: after the ends of requests */
    reactor_defer_late(fleet->reactor, &fleet->stop_job);
}

void fleet_stop(struct fleet *fleet, void (*stopped)(void *arg), void *arg) {
    fleet->stopping = true;
    fleet->stopped = stopped;
    fleet->stop_arg = arg;
    reactor_timer_stop(fleet->reactor, &fleet->care_timer);
    if (list_linked(&fleet->engines.node))
        control_unwatch(&fleet->engines);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        reactor_timer_stop(fleet->reactor, &volume->timer);
        list_for_each_safe (&volume->requests, struct fleet_request, request, node) {
            error_set(&request->error, ERROR_CANCELLED, "the daemon is ending");
            request_end(request);
        }
        if (volume->stage == FLEET_PAUSED)
            volume->stage = FLEET_IDLE;
    }
    fleet_look_whether_stopped(fleet);
}

void fleet_destroy(struct fleet *fleet) {
    list_for_each_safe (&fleet->volumes, struct fleet_volume, volume, node)
        fleet_volume_remove(volume);
    hash_map_fini(&fleet->names);
    free(fleet);
}
