/* Listings of a plane made into an observation, and what was listed again put into it. Pure. */
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

bool observed_volume_read(const struct observation *seen, const json_t *device, struct observed_volume *ret_volume) {
    const json_t *lvol = json_object_get(json_object_get(device, "driver_specific"), "lvol");
    *ret_volume = (struct observed_volume){
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
    if (ret_volume->uuid == NULL || ret_volume->name == NULL || ret_volume->store == NULL)
        return false;
    const struct observed_store *store = observed_store(seen, ret_volume->store);
    const json_t *used = json_object_get(lvol, "used_bytes");
    if (ret_volume->created == NULL)
        ret_volume->created = "";
    ret_volume->used_bytes = json_is_integer(used) ? number_of(lvol, "used_bytes")
                             : store == NULL       ? 0
                                                   : number_of(lvol, "num_allocated_clusters") * store->cluster_bytes;
    return true;
}

static bool read_device(const json_t *device, struct observed_device *ret_device) {
    const json_t *specific = json_object_get(device, "driver_specific"), *file = json_object_get(specific, "aio");
    if (file == NULL)
        file = json_object_get(specific, "uring");
    *ret_device = (struct observed_device){
        .name = text_of(device, "name"),
        .path = text_of(file, "filename"),
        .block_bytes = number_of(device, "block_size"),
        .bytes = number_of(device, "num_blocks") * number_of(device, "block_size"),
    };
    return ret_device->name != NULL && ret_device->path != NULL;
}

static bool read_store(const json_t *store, struct observed_store *ret_store) {
    *ret_store = (struct observed_store){
        .uuid = text_of(store, "uuid"),
        .name = text_of(store, "name"),
        .base = text_of(store, "base_bdev"),
        .cluster_bytes = number_of(store, "cluster_size"),
        .reason = text_of(store, "reason"),
        .failed = true_of(store, "failed"),
    };
    ret_store->total_bytes = number_of(store, "total_data_clusters") * ret_store->cluster_bytes;
    ret_store->free_bytes = number_of(store, "free_clusters") * ret_store->cluster_bytes;
    return ret_store->uuid != NULL && ret_store->name != NULL && ret_store->base != NULL;
}

static bool read_export(const json_t *subsystem, struct observed_export *ret_export) {
    const json_t *namespaces = json_object_get(subsystem, "namespaces"),
                 *listeners = json_object_get(subsystem, "listen_addresses");
    *ret_export = (struct observed_export){
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
    return ret_export->nqn != NULL;
}

static bool read_controller(const json_t *listed, struct observed_controller *ret_controller) {
    const json_t *trid = json_object_get(json_array_get(json_object_get(listed, "ctrlrs"), 0), "trid");
    *ret_controller = (struct observed_controller){.name = text_of(listed, "name"),
                                                   .address = text_of(trid, "traddr"),
                                                   .port = text_of(trid, "trsvcid"),
                                                   .nqn = text_of(trid, "subnqn")};
    return ret_controller->name != NULL && ret_controller->address != NULL && ret_controller->port != NULL &&
           ret_controller->nqn != NULL;
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

static bool read_mirror(const json_t *listed, struct observed_mirror *ret_mirror) {
    const json_t *error = json_object_get(listed, "error");
    *ret_mirror = (struct observed_mirror){.name = text_of(listed, "name"),
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
    json_array_foreach(json_object_get(listed, "legs"), i, leg) add_leg(ret_mirror, leg);
    return ret_mirror->name != NULL && ret_mirror->uuid != NULL && ret_mirror->state != NULL && ret_mirror->engine != NULL;
}

/* ---- what is seen of a kind: sorted ---- */

/* Of what begins with its name; a lone name is such a thing, too. */
static_assert(offsetof(struct observed_device, name) == 0 && offsetof(struct observed_controller, name) == 0 &&
                  offsetof(struct observed_mirror, name) == 0,
              "by_name() looks there");
static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

enum shelf_kind { SHELF_DEVICES, SHELF_VOLUMES, SHELF_EXPORTS, SHELF_CONTROLLERS, SHELF_MIRRORS, SHELF_KINDS };

struct shelf {
    void **items;
    size_t *count, *room, size, listed; /* size of one; where its `listed` is */
    int (*compare)(const void *a, const void *b);
};

union observed_any {
    struct observed_device device;
    struct observed_volume volume;
    struct observed_export export;
    struct observed_controller controller;
    struct observed_mirror mirror;
};

#define SHELF(member, type, compare)                                                                                             \
    (struct shelf) {                                                                                                             \
        (void **)&seen->member##s, &seen->member##_count, &seen->member##_room, sizeof(struct type),                             \
            offsetof(struct type, listed), compare                                                                               \
    }
static struct shelf shelf_of(struct observation *seen, enum shelf_kind kind) {
    switch (kind) {
    case SHELF_DEVICES: return SHELF(device, observed_device, by_name);
    case SHELF_VOLUMES: return SHELF(volume, observed_volume, compare_volumes);
    case SHELF_EXPORTS: return SHELF(export, observed_export, compare_exports);
    case SHELF_CONTROLLERS: return SHELF(controller, observed_controller, by_name);
    case SHELF_MIRRORS: return SHELF(mirror, observed_mirror, by_name);
    case SHELF_KINDS: break;
    }
    assert(!"no kind");
}

static char *item_at(const struct shelf *shelf, size_t at) { return (char *)*shelf->items + at * shelf->size; }
static json_t **listed_of(const struct shelf *shelf, void *item) { return (json_t **)((char *)item + shelf->listed); }

/* The first one that is not below. */
static size_t find_place(const struct shelf *shelf, const void *item) {
    size_t low = 0, high = *shelf->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (shelf->compare(item_at(shelf, middle), item) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(const struct shelf *shelf, size_t count) {
    if (count <= *shelf->room)
        return true;
    size_t room = max_u64(count, *shelf->room * 2);
    void *items = realloc(*shelf->items, room * shelf->size);
    if (items == NULL)
        return false;
    *shelf->items = items;
    *shelf->room = room;
    return true;
}

static bool put_at(const struct shelf *shelf, size_t at, void *item, json_t *listed) {
    if (!make_room(shelf, *shelf->count + 1))
        return false;
    *listed_of(shelf, item) = json_incref(listed);
    memmove(item_at(shelf, at + 1), item_at(shelf, at), (*shelf->count - at) * shelf->size);
    memcpy(item_at(shelf, at), item, shelf->size);
    ++*shelf->count;
    return true;
}

/* What a listed thing is. SHELF_KINDS: nothing that is kept. */
static enum shelf_kind read_any(const struct observation *seen, enum observe_kind kind, const json_t *item,
                                union observed_any *ret) {
    switch (kind) {
    case OBSERVE_DEVICES:
        if (json_object_get(json_object_get(item, "driver_specific"), "lvol") != NULL)
            return observed_volume_read(seen, item, &ret->volume) ? SHELF_VOLUMES : SHELF_KINDS;
        return read_device(item, &ret->device) ? SHELF_DEVICES : SHELF_KINDS;
    case OBSERVE_EXPORTS: return read_export(item, &ret->export) ? SHELF_EXPORTS : SHELF_KINDS;
    case OBSERVE_CONTROLLERS: return read_controller(item, &ret->controller) ? SHELF_CONTROLLERS : SHELF_KINDS;
    case OBSERVE_MIRRORS: return read_mirror(item, &ret->mirror) ? SHELF_MIRRORS : SHELF_KINDS;
    case OBSERVE_STORES:
    case OBSERVE_TRANSPORTS:
    case OBSERVE_KINDS: break;
    }
    assert(!"not of these kinds");
}

bool observation_add(struct observation *seen, enum observe_kind kind, json_t *item) {
    union observed_any any;
    enum shelf_kind which = read_any(seen, kind, item, &any);
    if (which == SHELF_KINDS)
        return true;
    struct shelf shelf = shelf_of(seen, which);
    return put_at(&shelf, find_place(&shelf, &any), &any, item);
}

static void drop_attributes(struct observed_attributes *attributes) {
    if (--attributes->references != 0)
        return;
    hash_map_remove(attributes->map, &attributes->node);
    free(attributes->parent);
    free(attributes);
}

void observed_attributes_unref(struct observed_attributes *take_attributes) {
    if (take_attributes != NULL)
        drop_attributes(take_attributes);
}

static void release(enum shelf_kind kind, const struct shelf *shelf, void *item) {
    if (kind == SHELF_VOLUMES)
        observed_attributes_unref(((struct observed_volume *)item)->attributes);
    if (kind == SHELF_MIRRORS)
        json_decref(((struct observed_mirror *)item)->tree);
    json_decref(*listed_of(shelf, item));
}

void observation_remove(struct observation *seen, enum observe_kind kind, const json_t *item) {
    union observed_any any;
    enum shelf_kind which = read_any(seen, kind, item, &any);
    if (which == SHELF_KINDS)
        return;
    struct shelf shelf = shelf_of(seen, which);
    size_t at = find_place(&shelf, &any);
    while (at < *shelf.count && *listed_of(&shelf, item_at(&shelf, at)) != item && shelf.compare(item_at(&shelf, at), &any) == 0)
        at++;
    if (at == *shelf.count || *listed_of(&shelf, item_at(&shelf, at)) != item)
        return;
    union observed_any removed;
    memcpy(&removed, item_at(&shelf, at), shelf.size);
    memmove(item_at(&shelf, at), item_at(&shelf, at + 1), (*shelf.count - at - 1) * shelf.size);
    --*shelf.count;
    release(which, &shelf, &removed); /* the item may be gone now */
}

/* ---- all of it ---- */

static void answers_free(struct observation_answers *answers) {
    json_decref(answers->devices);
    json_decref(answers->stores);
    json_decref(answers->transports);
    json_decref(answers->exports);
    json_decref(answers->controllers);
    json_decref(answers->mirrors);
}

bool observation_set_stores(struct observation *seen, const json_t *listed) {
    struct observed_store *stores = calloc(json_array_size(listed) + 1, sizeof(*stores));
    size_t count = 0, i;
    json_t *item;
    if (stores == NULL)
        return false;
    json_array_foreach(listed, i, item) if (read_store(item, &stores[count])) stores[count++].listed = json_incref(item);
    for (i = 0; i < seen->store_count; i++)
        json_decref(seen->stores[i].listed);
    free(seen->stores);
    seen->stores = stores;
    seen->store_count = count;
    return true;
}

void observation_set_transports(struct observation *seen, const json_t *listed) {
    size_t i;
    const json_t *item;
    seen->has_tcp = false;
    json_array_foreach(listed, i, item) {
        const char *kind = text_of(item, "trtype");
        seen->has_tcp |= kind != NULL && strcasecmp(kind, "tcp") == 0;
    }
}

/* Sorted by whoever adds all. */
static bool append_all(struct observation *seen, enum observe_kind kind, const json_t *listed) {
    size_t i;
    json_t *item;
    bool ok = true;
    json_array_foreach(listed, i, item) {
        union observed_any any;
        enum shelf_kind which = read_any(seen, kind, item, &any);
        if (which == SHELF_KINDS)
            continue;
        struct shelf shelf = shelf_of(seen, which);
        ok = ok && put_at(&shelf, *shelf.count, &any, item);
    }
    return ok;
}

struct observation *observation_make(const struct observation_answers *take_answers) {
    struct observation_answers answers = *take_answers;
    struct observation *seen = calloc(1, sizeof(*seen));
    bool ok = seen != NULL;
    for (unsigned kind = 0; ok && kind < SHELF_KINDS; kind++) { /* never NULL, also when there is nothing */
        struct shelf shelf = shelf_of(seen, (enum shelf_kind)kind);
        ok = make_room(&shelf, 1);
    }
    ok = ok && observation_set_stores(seen, answers.stores) && append_all(seen, OBSERVE_DEVICES, answers.devices) &&
         append_all(seen, OBSERVE_EXPORTS, answers.exports) && append_all(seen, OBSERVE_CONTROLLERS, answers.controllers) &&
         append_all(seen, OBSERVE_MIRRORS, answers.mirrors);
    if (seen != NULL) {
        seen->references = 1;
        observation_set_transports(seen, answers.transports);
    }
    for (unsigned kind = 0; ok && kind < SHELF_KINDS; kind++) {
        struct shelf shelf = shelf_of(seen, (enum shelf_kind)kind);
        qsort(*shelf.items, *shelf.count, shelf.size, shelf.compare);
    }
    answers_free(&answers);
    if (!ok) {
        observation_unref(seen);
        return NULL;
    }
    return seen;
}

void observation_unref(struct observation *take_seen) {
    if (take_seen == NULL || --take_seen->references != 0)
        return;
    for (unsigned kind = 0; kind < SHELF_KINDS; kind++) {
        struct shelf shelf = shelf_of(take_seen, (enum shelf_kind)kind);
        for (size_t i = 0; i < *shelf.count; i++)
            release((enum shelf_kind)kind, &shelf, item_at(&shelf, i));
        free(*shelf.items);
    }
    for (size_t i = 0; i < take_seen->store_count; i++)
        json_decref(take_seen->stores[i].listed);
    free(take_seen->stores);
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
    return bsearch(&key, seen->exports, seen->export_count, sizeof(*seen->exports), compare_exports);
}

const struct observed_controller *observed_controller(const struct observation *seen, const char *name) {
    return bsearch(&name, seen->controllers, seen->controller_count, sizeof(*seen->controllers), by_name);
}

const struct observed_mirror *observed_mirror(const struct observation *seen, const char *name) {
    return bsearch(&name, seen->mirrors, seen->mirror_count, sizeof(*seen->mirrors), by_name);
}

const json_t *observed_mirror_snapshot(const struct observed_mirror *mirror, const char *name) {
    const json_t *snapshot;
    size_t i;
    json_array_foreach(mirror->tree, i, snapshot) {
        const char *its = json_string_value(json_object_get(snapshot, "name"));
        if (its != NULL && strcmp(its, name) == 0)
            return snapshot;
    }
    return NULL;
}
