/* Commands that tell of the store and its volumes and change nothing. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

/* The volume that it stands upon; NULL = none. */
static const struct volume *parent_of(const struct volume *volume) {
    const struct layer *parent = volume->layer->parent;
    while (parent != NULL && parent->volume == NULL)
        parent = parent->parent; /* a nameless one is on its way out */
    return parent == NULL ? NULL : parent->volume;
}

static void describe(const struct volume *volume, struct volume_info *info) {
    const struct layer *layer = volume->layer;
    const struct volume *parent = parent_of(volume);
    const struct external *external = external_below(layer);
    info->source_absent = external != NULL && !external_is_there(external);
    if (layer->parent != NULL && layer->parent->external != NULL)
        info->source = layer->parent->external->source;
    uint64_t flags = layer_get(layer, LAYER_STATE);
    info->uuid = volume->uuid;
    memcpy(info->name, volume->name, sizeof(info->name));
    if (parent != NULL) {
        info->parent = parent->uuid;
        memcpy(info->parent_name, parent->name, sizeof(info->parent_name));
    }
    info->size_bytes = layer_size(layer) << BLOCK_SHIFT;
    info->used_bytes = layer_get(layer, LAYER_USED) << CLUSTER_SHIFT;
    info->created_ns = layer_get(layer, LAYER_CREATED);
    info->child_count = layer->child_count;
    info->thick = (flags & LAYER_THICK) != 0;
    info->snapshot = (flags & LAYER_SNAPSHOT) != 0;
    info->read_only = volume->read_only;
    info->damaged = layer->damaged;
    info->state = volume->state;
    info->progress_percent = volume->progress_percent;
}

static void list_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    bool all = uuid_is_nil(&command->volume);
    const struct volume *one = all ? NULL : volume_find(store, &command->volume);
    if (!all && (one == NULL || one->layer == NULL)) {
        command_finish(command, command_no_such(command), NULL);
        return;
    }
    /* Upon a layer without a name there may be any number. */
    bool many = all || (command->children && one->layer->child_count > 0);
    struct volume_info *infos = calloc(max_u64(1, many ? store->volume_count : 1), sizeof(*infos));
    if (infos == NULL) {
        command_finish(command, error_set(&command->error, ERROR_NO_MEMORY, "no memory to list %s", store->name), NULL);
        return;
    }
    if (!all)
        describe(one, &infos[command->ret_count++]);
    list_for_each (&store->volumes, struct volume, volume, node) {
        if (!many)
            break;
        if (volume->layer != NULL && (all || parent_of(volume) == one))
            describe(volume, &infos[command->ret_count++]);
    }
    command->ret_infos = infos;
    command_finish(command, true, NULL);
}

void volume_store_info(struct volume_store *store, struct volume_store_info *info) {
    *info = (struct volume_store_info){
        .uuid = store->uuid,
        .base_name = store->base_handle.device->name,
        .sector_bytes = store->super.sector_bytes,
        .unit_bytes = store->super.unit_bytes,
        .cluster_bytes = CLUSTER_BYTES,
        .promised_bytes = store->promised_clusters << CLUSTER_SHIFT,
        .volume_count = store->volume_count,
        .read_only = store->read_only,
        .failed = store->failed,
        .background = store->background_count,
        .commits = store->commits,
        .records = store->records,
        .base_flushes = store->base_flushes,
        .checkpoints = store->checkpoints,
        .replayed_records = store->replayed_records,
        .open_reads = store->open_reads,
        .journal_bytes = (uint64_t)store->commit.ring_blocks * BLOCK_BYTES,
        .journal_used_bytes = (uint64_t)store->commit.used * BLOCK_BYTES,
        .longest_hold_ns = (uint64_t)((double)store->hold_ticks * (double)NS_PER_S / (double)store->home->host->ticks_per_second),
        .cache_bytes = store->cache_count * CACHE_PAGE_BYTES};
    memcpy(info->name, store->name, sizeof(info->name));
    memcpy(info->reason, store->reason, sizeof(info->reason));
    uint64_t fixed = (uint64_t)store->super.journal_cluster + store->super.journal_clusters + 1 + store->super.reserve_clusters +
                     store->total_clusters / ALLOC_NODE_CLUSTERS;
    uint64_t total = store->total_clusters > fixed ? store->total_clusters - fixed : 0;
    uint64_t taken = store->used_clusters + store->shadow_clusters - store->waiting_clusters + store->promised_clusters +
                     store->super.reserve_clusters;
    info->total_bytes = total << CLUSTER_SHIFT;
    info->free_bytes = taken < store->total_clusters ? (store->total_clusters - taken) << CLUSTER_SHIFT : 0;
    info->max_growable_bytes = min_u64(CLUSTERS_MAX, (uint64_t)store->super.alloc_index_pages * PAGE_WORDS * ALLOC_PAGE_CLUSTERS)
                               << CLUSTER_SHIFT;
    info->nearly_full = info->free_bytes < info->total_bytes / 5;
    list_for_each (&store->volumes, struct volume, volume, node) {
        if (volume->layer != NULL)
            info->provisioned_bytes += layer_size(volume->layer) << BLOCK_SHIFT;
    }
}

static void describe_run(struct volume_command *command) {
    volume_store_info(command->store, command->store_info);
    command_finish(command, true, NULL);
}

void volume_list(struct volume_command *command) { command_start(command, list_run); }
void volume_store_describe(struct volume_command *command) { command_start(command, describe_run); }
