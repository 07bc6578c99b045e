/* bdev_lvol_get_fragmap: which clusters a volume holds something of. Asked of the store piece by piece. */
#include "plane_rpc/methods/lvol.h"

#include <stdlib.h>

#include "base/bitmap.h"
#include "base/text.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

#define FRAGMAP_CLUSTERS_MAX (UINT64_C(64) << 20) /* 8 MiB of bitmap: 64 TiB in clusters of 1 MiB */

struct fragmap {
    struct rpc_call *call;
    struct volume_command command;
    struct volume_store_info info;
    struct volume_map map;
    uint64_t offset, size; /* bytes; as asked for, then as they are */
    uint64_t device_bytes;
    uint64_t unit_blocks, first_unit, unit_count;
    uint64_t *bits;
};

static void fail(struct fragmap *fragmap, const struct error *error) {
    rpc_call_fail_late(fragmap->call, error);
    free(fragmap->bits);
    free(fragmap);
}

static void answer(struct fragmap *fragmap) {
    struct text encoded;
    size_t bytes = (size_t)divide_up(fragmap->unit_count, 8);
    text_init(&encoded, divide_up(bytes, 3) * 4);
    text_append_base64(&encoded, fragmap->bits, bytes);
    if (encoded.failed) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory for a map of %zu bytes", bytes);
        text_fini(&encoded);
        fail(fragmap, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(fragmap->call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "cluster_size", fragmap->info.unit_bytes);
    json_put_u64(writer, "num_clusters", fragmap->unit_count);
    json_put_u64(writer, "num_allocated_clusters", bitmap_count(fragmap->bits, fragmap->unit_count));
    json_put_string(writer, "fragmap", encoded.bytes != NULL ? encoded.bytes : "");
    json_end(writer);
    rpc_call_end(fragmap->call);
    text_fini(&encoded);
    free(fragmap->bits);
    free(fragmap);
}

/* The units of the blocks that are set from `first` on. */
static void take_in(struct fragmap *fragmap, const uint64_t *bits) {
    uint64_t end = (fragmap->first_unit + fragmap->unit_count) * fragmap->unit_blocks;
    for (uint64_t bit = 0; (bit = bitmap_find_set(bits, VOLUME_MAP_BLOCKS, bit)) < VOLUME_MAP_BLOCKS;) {
        uint64_t block = fragmap->map.first_block + bit, unit = block / fragmap->unit_blocks;
        if (block >= end)
            return;
        if (unit >= fragmap->first_unit)
            bitmap_set(fragmap->bits, unit - fragmap->first_unit);
        bit += (unit + 1) * fragmap->unit_blocks - block;
    }
}

static void piece_done(struct volume_command *command) {
    struct fragmap *fragmap = container_of(command, struct fragmap, command);
    if (!command->ok) {
        fail(fragmap, &command->error);
        return;
    }
    take_in(fragmap, fragmap->map.held);
    take_in(fragmap, fragmap->map.cleared);
    uint64_t next = fragmap->map.end_block;
    if (next >= (fragmap->first_unit + fragmap->unit_count) * fragmap->unit_blocks || next >= fragmap->device_bytes / 4096) {
        answer(fragmap);
        return;
    }
    fragmap->map.first_block = next;
    volume_map_get(command);
}

static bool range_ok(struct fragmap *fragmap, struct error *error) {
    uint64_t unit = fragmap->info.unit_bytes, whole = fragmap->device_bytes;
    if (fragmap->size == 0 && fragmap->offset <= whole)
        fragmap->size = whole - fragmap->offset;
    if (fragmap->offset % unit != 0 || fragmap->size % unit != 0 || fragmap->offset > whole ||
        fragmap->size > whole - fragmap->offset) {
        char number[24];
        return error_invalid(error, "offset", methods_number(fragmap->offset, number),
                             "with size, a range of clusters of %llu bytes within %llu", (unsigned long long)unit,
                             (unsigned long long)whole);
    }
    fragmap->unit_blocks = unit / 4096;
    fragmap->first_unit = fragmap->offset / unit;
    fragmap->unit_count = fragmap->size / unit;
    if (fragmap->unit_count > FRAGMAP_CLUSTERS_MAX)
        return error_set(error, ERROR_INVALID, "%llu clusters in one answer: at most %llu",
                         (unsigned long long)fragmap->unit_count, (unsigned long long)FRAGMAP_CLUSTERS_MAX);
    fragmap->bits = calloc(max_u64(1, bitmap_words(fragmap->unit_count)), sizeof(uint64_t));
    return fragmap->bits != NULL || error_set(error, ERROR_NO_MEMORY, "no memory for the map");
}

static void described(struct volume_command *command) {
    struct fragmap *fragmap = container_of(command, struct fragmap, command);
    struct error error;
    if (!command->ok || !range_ok(fragmap, &error)) {
        fail(fragmap, command->ok ? &error : &command->error);
        return;
    }
    if (fragmap->unit_count == 0) {
        answer(fragmap);
        return;
    }
    command->done = piece_done;
    command->map = &fragmap->map;
    fragmap->map.first_block = fragmap->first_unit * fragmap->unit_blocks;
    volume_map_get(command);
}

void method_bdev_lvol_get_fragmap(struct rpc_call *call, const struct params_bdev_lvol_get_fragmap *params) {
    struct block_device *device = methods_device_of(call, params->name, volume_device_is, "a volume or snapshot");
    struct fragmap *fragmap = device == NULL ? NULL : calloc(1, sizeof(*fragmap));
    if (fragmap == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory for a map");
        if (device != NULL)
            rpc_call_fail(call, &error);
        return;
    }
    fragmap->call = call;
    fragmap->offset = params->offset;
    fragmap->size = params->size;
    fragmap->device_bytes = block_device_size(device);
    fragmap->command = (struct volume_command){
        .store = volume_device_store(device), .volume = device->uuid, .store_info = &fragmap->info, .done = described};
    volume_store_describe(&fragmap->command);
}
