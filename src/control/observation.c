/* Listings of a plane made into an observation. Pure. */
#include <stdlib.h>

#include "base/bytes.h"
#include "control/observe.h"

static const char *text_of(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

static uint64_t number_of(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value < 0 ? 0 : (uint64_t)value;
}

static bool true_of(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }

static int compare_in_store(const char *store_a, const char *name_a, const char *store_b, const char *name_b) {
    int order = strcmp(store_a, store_b);
    return order != 0 ? order : strcmp(name_a, name_b);
}

static int compare_volumes(const void *a, const void *b) {
    const struct observed_volume *va = a, *vb = b;
    return compare_in_store(va->store, va->name, vb->store, vb->name);
}

static int compare_exports(const void *a, const void *b) {
    const struct observed_export *ea = a, *eb = b;
    return strcmp(ea->nqn, eb->nqn);
}

/* "STORE/NAME" is a volume's first alias. */
static const char *name_in_store(const json_t *device) {
    const char *alias = json_string_value(json_array_get(json_object_get(device, "aliases"), 0));
    const char *slash = alias == NULL ? NULL : strchr(alias, '/');
    return slash == NULL ? NULL : slash + 1;
}

static void add_volume(struct observation *seen, const json_t *device, const json_t *lvol) {
    struct observed_volume volume = {
        .uuid = text_of(device, "uuid"),
        .name = name_in_store(device),
        .store = text_of(lvol, "lvol_store_uuid"),
        .parent = true_of(lvol, "clone") ? text_of(lvol, "base_snapshot") : NULL,
        .created = text_of(lvol, "creation_time"),
        .bytes = number_of(device, "num_blocks") * number_of(device, "block_size"),
        .children = (unsigned)json_array_size(json_object_get(lvol, "clones")),
        .snapshot = true_of(lvol, "snapshot"),
        .damaged = true_of(lvol, "damaged"),
        .outside = true_of(lvol, "esnap_clone"),
    };
    if (volume.uuid == NULL || volume.name == NULL || volume.store == NULL)
        return;
    const struct observed_store *store = observed_store(seen, volume.store);
    const json_t *used = json_object_get(lvol, "used_bytes");
    if (volume.created == NULL)
        volume.created = "";
    volume.used_bytes = json_is_integer(used) ? number_of(lvol, "used_bytes")
                        : store == NULL       ? 0
                                              : number_of(lvol, "num_allocated_clusters") * store->cluster_bytes;
    seen->volumes[seen->volume_count++] = volume;
}

static void add_device(struct observation *seen, const json_t *device) {
    const json_t *specific = json_object_get(device, "driver_specific"), *lvol = json_object_get(specific, "lvol");
    if (lvol != NULL) {
        add_volume(seen, device, lvol);
        return;
    }
    const json_t *file = json_object_get(specific, "aio");
    if (file == NULL)
        file = json_object_get(specific, "uring");
    struct observed_device made = {
        .name = text_of(device, "name"),
        .path = text_of(file, "filename"),
        .block_bytes = number_of(device, "block_size"),
        .bytes = number_of(device, "num_blocks") * number_of(device, "block_size"),
    };
    if (made.name != NULL && made.path != NULL)
        seen->devices[seen->device_count++] = made;
}

static void add_store(struct observation *seen, const json_t *store) {
    struct observed_store made = {
        .uuid = text_of(store, "uuid"),
        .name = text_of(store, "name"),
        .base = text_of(store, "base_bdev"),
        .cluster_bytes = number_of(store, "cluster_size"),
        .reason = text_of(store, "reason"),
        .failed = true_of(store, "failed"),
    };
    made.total_bytes = number_of(store, "total_data_clusters") * made.cluster_bytes;
    made.free_bytes = number_of(store, "free_clusters") * made.cluster_bytes;
    if (made.uuid != NULL && made.name != NULL && made.base != NULL)
        seen->stores[seen->store_count++] = made;
}

static void add_export(struct observation *seen, const json_t *subsystem) {
    const json_t *namespaces = json_object_get(subsystem, "namespaces"),
                 *listeners = json_object_get(subsystem, "listen_addresses");
    struct observed_export made = {
        .nqn = text_of(subsystem, "nqn"),
        .device = text_of(json_array_get(namespaces, 0), "bdev_name"),
        .address = text_of(json_array_get(listeners, 0), "traddr"),
        .port = text_of(json_array_get(listeners, 0), "trsvcid"),
        .ana_state = text_of(json_array_get(listeners, 0), "ana_state"),
        .namespaces = (unsigned)json_array_size(namespaces),
        .listeners = (unsigned)json_array_size(listeners),
        .hosts = (unsigned)json_array_size(json_object_get(subsystem, "hosts")),
        .any_host = true_of(subsystem, "allow_any_host"),
    };
    if (made.nqn != NULL)
        seen->exports[seen->export_count++] = made;
}

static void add_controller(struct observation *seen, const json_t *listed) {
    const json_t *trid = json_object_get(json_array_get(json_object_get(listed, "ctrlrs"), 0), "trid");
    struct observed_controller made = {.name = text_of(listed, "name"),
                                       .address = text_of(trid, "traddr"),
                                       .port = text_of(trid, "trsvcid"),
                                       .nqn = text_of(trid, "subnqn")};
    if (made.name != NULL && made.address != NULL && made.port != NULL && made.nqn != NULL)
        seen->controllers[seen->controller_count++] = made;
}

static void add_leg(struct observed_mirror *mirror, const json_t *listed) {
    const json_t *sync = json_object_get(listed, "sync");
    struct observed_leg made = {.name = text_of(listed, "name"),
                                .state = text_of(listed, "state"),
                                .why = text_of(listed, "why"),
                                .promised = text_of(listed, "promised_to"),
                                .behind_bytes = number_of(listed, "bytes_out_of_step"),
                                .copied_bytes = number_of(listed, "bytes_copied"),
                                .percent = sync == NULL ? 100 : (unsigned)min_u64(number_of(sync, "percent"), 100)};
    if (made.name != NULL && made.state != NULL && made.why != NULL && mirror->leg_count < OBSERVED_LEGS_MAX)
        mirror->legs[mirror->leg_count++] = made;
}

static void add_mirror(struct observation *seen, const json_t *listed) {
    const json_t *error = json_object_get(listed, "error");
    struct observed_mirror made = {.name = text_of(listed, "name"),
                                   .uuid = text_of(listed, "uuid"),
                                   .state = text_of(listed, "state"),
                                   .engine = text_of(listed, "engine"),
                                   .error_code = text_of(error, "code"),
                                   .error = text_of(error, "text"),
                                   .awaited = json_object_get(listed, "awaited"),
                                   .bytes = number_of(listed, "size"),
                                   .term = number_of(listed, "term"),
                                   .tree_number = number_of(listed, "tree"),
                                   .depth = number_of(json_object_get(listed, "epoch"), "depth"),
                                   .paused = true_of(listed, "paused")};
    size_t i;
    const json_t *leg;
    json_array_foreach(json_object_get(listed, "legs"), i, leg) add_leg(&made, leg);
    if (made.name != NULL && made.uuid != NULL && made.state != NULL && made.engine != NULL)
        seen->mirrors[seen->mirror_count++] = made;
}

static void *room_for(const json_t *listed, size_t size, bool *ok) {
    void *room = calloc(json_array_size(listed) + 1, size);
    *ok = *ok && room != NULL;
    return room;
}

static bool reserve(struct observation *seen) {
    const struct observation_answers *answers = &seen->answers;
    bool ok = true;
    seen->devices = room_for(answers->devices, sizeof(*seen->devices), &ok);
    seen->volumes = room_for(answers->devices, sizeof(*seen->volumes), &ok);
    seen->stores = room_for(answers->stores, sizeof(*seen->stores), &ok);
    seen->exports = room_for(answers->exports, sizeof(*seen->exports), &ok);
    seen->controllers = room_for(answers->controllers, sizeof(*seen->controllers), &ok);
    seen->mirrors = room_for(answers->mirrors, sizeof(*seen->mirrors), &ok);
    return ok;
}

static void answers_free(struct observation_answers *answers) {
    json_decref(answers->devices);
    json_decref(answers->stores);
    json_decref(answers->transports);
    json_decref(answers->exports);
    json_decref(answers->controllers);
    json_decref(answers->mirrors);
}

/* Of what begins with its name; a lone name is such a thing, too. */
static_assert(offsetof(struct observed_device, name) == 0 && offsetof(struct observed_controller, name) == 0 &&
                  offsetof(struct observed_mirror, name) == 0,
              "by_name() looks there");
static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

struct observation *observation_make(const struct observation_answers *take_answers) {
    struct observation *seen = calloc(1, sizeof(*seen));
    if (seen == NULL) {
        struct observation_answers answers = *take_answers;
        answers_free(&answers);
        return NULL;
    }
    seen->references = 1;
    seen->answers = *take_answers;
    if (!reserve(seen)) {
        observation_unref(seen);
        return NULL;
    }
    size_t i;
    const json_t *item;
    json_array_foreach(seen->answers.transports, i, item) {
        const char *kind = text_of(item, "trtype");
        seen->has_tcp |= kind != NULL && strcasecmp(kind, "tcp") == 0;
    }
    json_array_foreach(seen->answers.stores, i, item) add_store(seen, item);
    json_array_foreach(seen->answers.devices, i, item) add_device(seen, item);
    json_array_foreach(seen->answers.exports, i, item) add_export(seen, item);
    json_array_foreach(seen->answers.controllers, i, item) add_controller(seen, item);
    json_array_foreach(seen->answers.mirrors, i, item) add_mirror(seen, item);
    qsort(seen->devices, seen->device_count, sizeof(*seen->devices), by_name);
    qsort(seen->controllers, seen->controller_count, sizeof(*seen->controllers), by_name);
    qsort(seen->mirrors, seen->mirror_count, sizeof(*seen->mirrors), by_name);
    qsort(seen->volumes, seen->volume_count, sizeof(*seen->volumes), compare_volumes);
    qsort(seen->exports, seen->export_count, sizeof(*seen->exports), compare_exports);
    return seen;
}

static void drop_attributes(struct observed_attributes *attributes) {
    if (--attributes->references != 0)
        return;
    hash_map_remove(attributes->map, &attributes->node);
    free(attributes->parent);
    free(attributes);
}

void observation_unref(struct observation *take_seen) {
    if (take_seen == NULL || --take_seen->references != 0)
        return;
    for (size_t i = 0; i < take_seen->volume_count; i++)
        if (take_seen->volumes[i].attributes != NULL)
            drop_attributes(take_seen->volumes[i].attributes);
    for (size_t i = 0; i < take_seen->mirror_count; i++)
        json_decref(take_seen->mirrors[i].tree);
    answers_free(&take_seen->answers);
    free(take_seen->devices);
    free(take_seen->volumes);
    free(take_seen->stores);
    free(take_seen->exports);
    free(take_seen->controllers);
    free(take_seen->mirrors);
    free(take_seen);
}

const struct observed_device *observed_device(const struct observation *seen, const char *name) {
    return bsearch(&name, seen->devices, seen->device_count, sizeof(*seen->devices), by_name);
}

const struct observed_store *observed_store(const struct observation *seen, const char *uuid) {
    for (size_t i = 0; i < seen->store_count; i++)
        if (strcmp(seen->stores[i].uuid, uuid) == 0)
            return &seen->stores[i];
    return NULL;
}

const struct observed_store *observed_store_on(const struct observation *seen, const char *device) {
    for (size_t i = 0; i < seen->store_count; i++)
        if (strcmp(seen->stores[i].base, device) == 0)
            return &seen->stores[i];
    return NULL;
}

const struct observed_volume *observed_volumes_from(const struct observation *seen, const char *store, const char *name) {
    size_t low = 0, high = seen->volume_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct observed_volume *volume = &seen->volumes[middle];
        if (compare_in_store(volume->store, volume->name, store, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return &seen->volumes[low];
}

const struct observed_volume *observed_volume(const struct observation *seen, const char *store, const char *name) {
    const struct observed_volume *found = observed_volumes_from(seen, store, name);
    return found < observed_volumes_end(seen) && strcmp(found->store, store) == 0 && strcmp(found->name, name) == 0 ? found
                                                                                                                    : NULL;
}

const struct observed_export *observed_export(const struct observation *seen, const char *nqn) {
    const struct observed_export key = {.nqn = nqn};
    return seen->export_count == 0 ? NULL
                                   : bsearch(&key, seen->exports, seen->export_count, sizeof(*seen->exports), compare_exports);
}

const struct observed_controller *observed_controller(const struct observation *seen, const char *name) {
    return bsearch(&name, seen->controllers, seen->controller_count, sizeof(*seen->controllers), by_name);
}

const struct observed_mirror *observed_mirror(const struct observation *seen, const char *name) {
    return bsearch(&name, seen->mirrors, seen->mirror_count, sizeof(*seen->mirrors), by_name);
}
