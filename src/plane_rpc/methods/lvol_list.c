/* Listings of stores and volumes: gathered from the stores' reactors first, then written. */
#include <stdlib.h>

#include "plane_rpc/methods/lvol.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

static uint64_t hash_of(const struct uuid *uuid) { return hash_bytes(uuid->bytes, sizeof(uuid->bytes), 0); }

/* A listing of many volumes is looked into once for each of them. */
static void index_volumes(struct lvol_listing *listing) {
    size_t count = 0, n = 0;
    for (unsigned s = 0; s < listing->store_count; s++)
        count += listing->stores[s].list.ret_count;
    hash_map_init(&listing->by_uuid);
    hash_map_init(&listing->by_parent);
    listing->volumes = calloc(count + 1, sizeof(*listing->volumes));
    assert(listing->volumes != NULL);
    for (unsigned s = 0; s < listing->store_count; s++)
        for (size_t i = 0; i < listing->stores[s].list.ret_count; i++) {
            struct lvol_listing_volume *volume = &listing->volumes[n++];
            volume->info = &listing->stores[s].list.ret_infos[i];
            volume->store = &listing->stores[s];
            bool ok = hash_map_insert(&listing->by_uuid, &volume->by_uuid, hash_of(&volume->info->uuid)) &&
                      hash_map_insert(&listing->by_parent, &volume->by_parent, hash_of(&volume->info->parent));
            assert(ok);
        }
}

static void listing_end(struct lvol_listing *listing) {
    index_volumes(listing);
    listing->done(listing);
    hash_map_fini(&listing->by_uuid);
    hash_map_fini(&listing->by_parent);
    free(listing->volumes);
    for (unsigned i = 0; i < listing->store_count; i++)
        free(listing->stores[i].list.ret_infos);
    free(listing->stores);
    free(listing);
}

static void listed(struct volume_command *command) {
    struct lvol_listing *listing = container_of(command, struct lvol_listing_store, list)->listing;
    if (--listing->waiting == 0)
        listing_end(listing);
}

static void described(struct volume_command *command) {
    struct lvol_listing_store *store = container_of(command, struct lvol_listing_store, describe);
    if (store->listing->wanted.no_volumes)
        listed(&store->list);
    else
        volume_list(&store->list);
}

void lvol_listing_run(struct plane *plane, const struct lvol_wanted *wanted, void (*done)(struct lvol_listing *listing),
                      void *arg) {
    struct plane_store *only = wanted->store;
    unsigned count = 0;
    list_for_each (&plane->stores, struct plane_store, store, node)
        count += !store->closing && (only == NULL || store == only);
    struct lvol_listing *listing = calloc(1, sizeof(*listing));
    struct lvol_listing_store *stores = calloc(count + 1, sizeof(*stores));
    assert(listing != NULL && stores != NULL);
    *listing = (struct lvol_listing){.plane = plane, .wanted = *wanted, .stores = stores, .done = done, .arg = arg, .waiting = 1};
    list_for_each (&plane->stores, struct plane_store, store, node) {
        if (store->closing || (only != NULL && store != only))
            continue;
        struct lvol_listing_store *entry = &stores[listing->store_count++];
        *entry = (struct lvol_listing_store){
            .listing = listing,
            .store = store,
            .describe = {.store = store->store, .store_info = &entry->info, .done = described},
            .list = {.store = store->store, .volume = wanted->volume, .children = true, .done = listed}};
        listing->waiting++;
    }
    for (unsigned i = 0; i < listing->store_count; i++)
        volume_store_describe(&stores[i].describe);
    if (--listing->waiting == 0)
        listing_end(listing);
}

const struct lvol_listing_volume *lvol_listing_find(const struct lvol_listing *listing, const struct uuid *uuid) {
    for (struct hash_node *n = hash_map_first(&listing->by_uuid, hash_of(uuid)); n != NULL; n = hash_map_next(n)) {
        const struct lvol_listing_volume *volume = container_of(n, struct lvol_listing_volume, by_uuid);
        if (uuid_equal(&volume->info->uuid, uuid))
            return volume;
    }
    return NULL;
}

/* What the dialect counts in clusters; ours are the store's unit. */
static uint64_t units(const struct lvol_listing_store *store, uint64_t bytes) { return divide_up(bytes, store->info.unit_bytes); }

static void put_children(struct json_writer *writer, const struct lvol_listing *listing, const struct volume_info *parent) {
    json_begin_array(writer, "clones");
    for (struct hash_node *n = hash_map_first(&listing->by_parent, hash_of(&parent->uuid)); n != NULL; n = hash_map_next(n)) {
        const struct lvol_listing_volume *volume = container_of(n, struct lvol_listing_volume, by_parent);
        if (uuid_equal(&volume->info->parent, &parent->uuid))
            json_put_string(writer, NULL, volume->info->name);
    }
    json_end(writer);
}

void lvol_put_driver_specific(struct json_writer *writer, const struct lvol_listing *listing, const struct block_device *device) {
    const struct lvol_listing_volume *volume = lvol_listing_find(listing, &device->uuid);
    json_begin_object(writer, "lvol");
    if (volume != NULL) {
        const struct lvol_listing_store *store = volume->store;
        const struct volume_info *info = volume->info;
        json_put_uuid(writer, "lvol_store_uuid", &store->store->uuid);
        json_put_string(writer, "base_bdev", store->store->base->name);
        json_put_bool(writer, "thin_provision", !info->thick);
        json_put_u64(writer, "num_allocated_clusters", units(store, info->used_bytes));
        json_put_bool(writer, "snapshot", info->snapshot);
        json_put_bool(writer, "clone", !uuid_is_nil(&info->parent) || !uuid_is_nil(&info->source));
        if (!uuid_is_nil(&info->parent))
            json_put_string(writer, "base_snapshot", info->parent_name);
        if (info->snapshot)
            put_children(writer, listing, info);
        json_put_bool(writer, "esnap_clone", !uuid_is_nil(&info->source));
        if (!uuid_is_nil(&info->source))
            json_put_uuid(writer, "external_snapshot_name", &info->source);
        json_put_u64(writer, "used_bytes", info->used_bytes);
        json_put_bool(writer, "damaged", info->damaged);
        char created[TEXT_TIME_SIZE];
        json_put_string(writer, "creation_time", text_format_time(info->created_ns, created, sizeof(created)));
    }
    json_end(writer);
}

/* ---- bdev_lvol_get_lvstores ---- */

static void put_stores(struct lvol_listing *listing) {
    struct rpc_call *call = listing->arg;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (unsigned i = 0; i < listing->store_count; i++) {
        const struct lvol_listing_store *store = &listing->stores[i];
        const struct volume_store_info *info = &store->info;
        json_begin_object(writer, NULL);
        json_put_uuid(writer, "uuid", &info->uuid);
        json_put_string(writer, "name", info->name);
        json_put_string(writer, "base_bdev", store->store->base->name);
        json_put_u64(writer, "total_data_clusters", info->total_bytes / info->unit_bytes);
        json_put_u64(writer, "free_clusters", info->free_bytes / info->unit_bytes);
        json_put_u64(writer, "block_size", info->sector_bytes);
        json_put_u64(writer, "cluster_size", info->unit_bytes);
        json_put_u64(writer, "max_growable_size", info->max_growable_bytes);
        json_put_u64(writer, "promised_bytes", info->promised_bytes);
        json_put_u64(writer, "provisioned_bytes", info->provisioned_bytes);
        json_put_u64(writer, "background", info->background);
        json_put_bool(writer, "nearly_full", info->nearly_full);
        json_put_bool(writer, "read_only", info->read_only);
        json_put_bool(writer, "failed", info->failed);
        if (info->read_only || info->failed)
            json_put_string(writer, "reason", info->reason);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_bdev_lvol_get_lvstores(struct rpc_call *call, const struct params_bdev_lvol_get_lvstores *params) {
    struct plane_store *only = NULL;
    if (rpc_call_has_params(call)) { /* {} names none, and is wrong */
        only = lvol_store_of(call, params->uuid, params->lvs_name);
        if (only == NULL)
            return;
    }
    lvol_listing_run(plane_of(call), &(struct lvol_wanted){.store = only, .no_volumes = true}, put_stores, call);
}

/* ---- bdev_lvol_get_lvols ---- */

static void put_volume(struct json_writer *writer, const struct lvol_listing_store *store, const struct volume_info *info) {
    json_begin_object(writer, NULL);
    json_putf(writer, "alias", "%s/%s", store->info.name, info->name);
    json_put_uuid(writer, "uuid", &info->uuid);
    json_put_string(writer, "name", info->name);
    json_put_bool(writer, "is_thin_provisioned", !info->thick);
    json_put_bool(writer, "is_snapshot", info->snapshot);
    json_put_bool(writer, "is_clone", !uuid_is_nil(&info->parent) || !uuid_is_nil(&info->source));
    json_put_bool(writer, "is_esnap_clone", !uuid_is_nil(&info->source));
    json_put_bool(writer, "is_degraded", info->damaged || info->source_absent);
    json_put_u64(writer, "num_allocated_clusters", units(store, info->used_bytes));
    json_begin_object(writer, "lvs");
    json_put_string(writer, "name", store->info.name);
    json_put_uuid(writer, "uuid", &store->info.uuid);
    json_end(writer);
    json_end(writer);
}

static void put_volumes(struct lvol_listing *listing) {
    struct rpc_call *call = listing->arg;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (unsigned s = 0; s < listing->store_count; s++)
        for (size_t i = 0; i < listing->stores[s].list.ret_count; i++)
            put_volume(writer, &listing->stores[s], &listing->stores[s].list.ret_infos[i]);
    json_end(writer);
    rpc_call_end(call);
}

void method_bdev_lvol_get_lvols(struct rpc_call *call, const struct params_bdev_lvol_get_lvols *params) {
    struct plane_store *only = NULL;
    if (params->lvs_uuid != NULL || params->lvs_name != NULL) {
        only = lvol_store_of(call, params->lvs_uuid, params->lvs_name);
        if (only == NULL)
            return;
    }
    lvol_listing_run(plane_of(call), &(struct lvol_wanted){.store = only}, put_volumes, call);
}
