/* What of a plane may have changed since it was listed: by its events, by the commands that were sent to it, by what was listed
 * anew. Whatever is not known to change less puts all in doubt. */
#include <stdio.h>

#include "control/observe.h"

void observer_doubt(struct observer *observer, enum observe_kind kind, const char *name) {
    struct observe_part *part = &observer->parts[kind];
    if (name == NULL || kind == OBSERVE_STORES || kind == OBSERVE_TRANSPORTS)
        part->all = true;
    else
        json_object_set_new(part->doubts, name, json_true());
    if (kind == OBSERVE_MIRRORS && name != NULL)
        json_object_set_new(observer->tree_doubts, name, json_true());
}

void observer_doubt_all(struct observer *observer) {
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        observer->parts[kind].all = true;
}

/* ---- volumes: one that comes or goes changes what is said of its parent and its children ---- */

static const json_t *lvol_of(const json_t *device) { return json_object_get(json_object_get(device, "driver_specific"), "lvol"); }

/* A volume that is new has an event of its own, so what was seen last is enough. */
static void doubt_in_store(struct observer *observer, const char *store, const json_t *name) {
    const char *text = json_string_value(name);
    const struct observed_volume *volume =
        observer->seen == NULL || store == NULL || text == NULL ? NULL : observed_volume(observer->seen, store, text);
    if (volume != NULL)
        observer_doubt(observer, OBSERVE_DEVICES, volume->uuid);
}

static void doubt_neighbours(struct observer *observer, const json_t *lvol) {
    const char *store = json_string_value(json_object_get(lvol, "lvol_store_uuid"));
    size_t i;
    const json_t *child;
    doubt_in_store(observer, store, json_object_get(lvol, "base_snapshot"));
    json_array_foreach(json_object_get(lvol, "clones"), i, child) doubt_in_store(observer, store, child);
}

static bool same(const json_t *a, const json_t *b, const char *key) {
    const json_t *in_a = json_object_get(a, key), *in_b = json_object_get(b, key);
    return in_a == in_b || (in_a != NULL && in_b != NULL && json_equal(in_a, in_b));
}

void observer_note_device(struct observer *observer, const json_t *before, const json_t *now) {
    const json_t *was = lvol_of(before), *is = lvol_of(now);
    if (was != NULL && is != NULL && same(was, is, "base_snapshot") && same(was, is, "clones"))
        return;
    if (was != NULL)
        doubt_neighbours(observer, was);
    if (is != NULL)
        doubt_neighbours(observer, is);
}

/* ---- what is listed ---- */

static const char *alias_of(const json_t *device) {
    return json_string_value(json_array_get(json_object_get(device, "aliases"), 0));
}

void observer_set_listed(struct observer *observer, enum observe_kind kind, const char *name, json_t *item) {
    struct observe_part *part = &observer->parts[kind];
    json_t *before = json_object_get(part->listed, name);
    const char *alias = alias_of(before);
    if (before == NULL && item == NULL)
        return;
    if (json_object_get(part->touched, name) == NULL)
        json_object_set_new(part->touched, name, before == NULL ? json_null() : json_incref(before));
    if (kind == OBSERVE_DEVICES && alias != NULL && json_object_get(observer->aliases, alias) != NULL &&
        strcmp(json_string_value(json_object_get(observer->aliases, alias)), name) == 0)
        json_object_del(observer->aliases, alias);
    if (item == NULL) {
        json_object_del(part->listed, name);
        return;
    }
    alias = alias_of(item);
    if (kind == OBSERVE_DEVICES && alias != NULL)
        json_object_set_new(observer->aliases, alias, json_string(name));
    json_object_set(part->listed, name, item);
}

/* Devices are listed by UUID; "STORE/NAME" is what one of them was called when it was listed. NULL = none was. */
static const char *listed_name(const struct observer *observer, const char *name) {
    if (json_object_get(observer->parts[OBSERVE_DEVICES].listed, name) != NULL)
        return name;
    return json_string_value(json_object_get(observer->aliases, name));
}

void observer_doubt_volume(struct observer *observer, const char *name) {
    json_t *listed = observer->parts[OBSERVE_DEVICES].listed;
    const char *uuid = listed_name(observer, name);
    observer_doubt(observer, OBSERVE_DEVICES, uuid != NULL ? uuid : name);
    const json_t *lvol = uuid == NULL ? NULL : lvol_of(json_object_get(listed, uuid));
    if (lvol != NULL)
        doubt_neighbours(observer, lvol);
}

/* ---- commands ---- */

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* False: it does not name what it changes. */
static bool note_named(struct observer *observer, enum observe_kind kind, const json_t *params, const char *key) {
    const char *name = json_string_value(json_object_get(params, key));
    if (name != NULL)
        observer_doubt(observer, kind, name);
    return name != NULL;
}

/* Volumes are named by UUID or as "STORE/NAME"; new ones have events. */
static void note_volume(struct observer *observer, const json_t *params) {
    static const char *const keys[] = {"name", "lvol_name", "snapshot_name", "clone_name", "parent_name", "old_name"};
    for (unsigned i = 0; i < array_count(keys); i++) {
        const char *name = json_string_value(json_object_get(params, keys[i]));
        if (name != NULL)
            observer_doubt_volume(observer, name);
    }
}

void observer_note_command(struct observer *observer, const char *method, const json_t *params) {
    static const char *const harmless[] = {"log_", "bdev_wait_for_examine", "bdev_lvol_get_", "notify_", "rpc_", "framework_"};
    for (unsigned i = 0; i < array_count(harmless); i++)
        if (begins(method, harmless[i]))
            return;
    if (strcmp(method, "nvmf_create_transport") == 0) {
        observer_doubt(observer, OBSERVE_TRANSPORTS, NULL);
    } else if (begins(method, "nvmf_")) {
        if (!note_named(observer, OBSERVE_EXPORTS, params, "nqn"))
            observer_doubt(observer, OBSERVE_EXPORTS, NULL);
    } else if (begins(method, "bdev_nvme_")) {
        if (!note_named(observer, OBSERVE_CONTROLLERS, params, "name"))
            observer_doubt(observer, OBSERVE_CONTROLLERS, NULL);
    } else if (begins(method, "mirror_")) {
        if (!note_named(observer, OBSERVE_MIRRORS, params, "name"))
            observer_doubt(observer, OBSERVE_MIRRORS, NULL);
    } else if (begins(method, "bdev_lvol_") && strstr(method, "lvstore") == NULL) {
        note_volume(observer, params);
    } else if (strcmp(method, "volume_revert") == 0) {
        note_volume(observer, params);
    } else {
        observer_doubt_all(observer);
    }
}

/* ---- events ---- */

/* One that goes takes its namespaces along. */
static void note_device(struct observer *observer, const char *type, const char *name) {
    observer_doubt_volume(observer, name);
    if (observer->seen == NULL || strcmp(type, "bdev_unregister") != 0)
        return;
    for (size_t i = 0; i < observer->seen->export_count; i++) {
        const struct observed_export *export = &observer->seen->exports[i];
        if (export->device != NULL && strcmp(export->device, name) == 0)
            observer_doubt(observer, OBSERVE_EXPORTS, export->nqn);
    }
}

static void note_event(struct observer *observer, const char *type, const char *context) {
    char name[256];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(context, " "), context);
    if (strcmp(type, "bdev_nvme_controller") == 0)
        observer_doubt(observer, OBSERVE_CONTROLLERS, context);
    else if (strcmp(type, "nvmf_subsystem") == 0)
        observer_doubt(observer, OBSERVE_EXPORTS, context);
    else if (begins(type, "bdev_"))
        note_device(observer, type, context);
    else if (begins(type, "mirror_"))
        observer_doubt(observer, OBSERVE_MIRRORS, name);
    else
        observer_doubt_all(observer);
}

void observer_note_events(struct observer *observer, const json_t *events) {
    size_t i;
    const json_t *event;
    json_array_foreach(events, i, event) {
        const char *type = json_string_value(json_object_get(event, "type")),
                   *context = json_string_value(json_object_get(event, "ctx"));
        uint64_t id = (uint64_t)json_integer_value(json_object_get(event, "id"));
        if (i == 0 && id != observer->next_event)
            observer_doubt_all(observer); /* those between are not kept any more */
        observer->next_event = id + 1;
        if (type != NULL && context != NULL)
            note_event(observer, type, context);
    }
}
