#include "plane_rpc/methods/bdev_object.h"

#include <inttypes.h>

#include "base/text.h"
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/file/file.h"
#include "blockdev/memory/memory.h"
#include "blockdev/null/null.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "blockdev/volatile/volatile_device.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/methods/nvme.h"

static void put_aliases(struct json_writer *writer, const struct block_device *device) {
    bool any = false;
    json_begin_array(writer, "aliases");
    for (unsigned i = 0; i < BLOCK_ALIASES_MAX; i++)
        if (device->aliases[i][0] != '\0') {
            json_put_string(writer, NULL, device->aliases[i]);
            any = true;
        }
    if (!any)
        json_put_uuid(writer, NULL, &device->uuid);
    json_end(writer);
}

/* Not here, whatever the device. */
static const char *const absent_io_types[] = {"reset",           "nvme_admin",  "nvme_io",
                                              "nvme_io_md",      "zcopy",       "get_zone_info",
                                              "zone_management", "zone_append", "compare_and_write",
                                              "seek_hole",       "seek_data",   "copy",
                                              "nvme_iov_md",     "nvme_nssr",   "write_uncorrectable"};

static void put_io_types(struct json_writer *writer, const struct block_device *device) {
    uint32_t ops = device->native_ops;
    bool writable = !atomic_load(&device->read_only);
    json_begin_object(writer, "supported_io_types");
    json_put_bool(writer, "read", true);
    json_put_bool(writer, "write", writable);
    json_put_bool(writer, "unmap", writable && (ops & BLOCK_BIT(BLOCK_TRIM)) != 0);
    json_put_bool(writer, "flush", true);
    json_put_bool(writer, "write_zeroes", writable); /* emulated where the device lacks it */
    json_put_bool(writer, "compare", true);          /* the same */
    json_put_bool(writer, "abort", device->ops->abort != NULL);
    for (size_t i = 0; i < array_count(absent_io_types); i++)
        json_put_bool(writer, absent_io_types[i], false);
    json_end(writer);
}

/* Who has claimed it; NULL = nobody. */
static const struct block_handle *claim_of(const struct block_device *device) {
    list_for_each (&device->handles, struct block_handle, handle, node) {
        if (handle->mode == BLOCK_MODE_CLAIM)
            return handle;
    }
    return NULL;
}

static void put_limits(struct json_writer *writer) {
    static const char *const names[] = {"rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"};
    json_begin_object(writer, "assigned_rate_limits");
    for (size_t i = 0; i < array_count(names); i++)
        json_put_u64(writer, names[i], 0);
    json_end(writer);
}

static void put_file(struct json_writer *writer, const struct block_device *device) {
    struct file_device_facts facts;
    file_device_facts(device, &facts);
    json_begin_object(writer, facts.called_uring ? "uring" : "aio");
    json_put_string(writer, "filename", facts.path);
    json_put_bool(writer, "block_size_override", facts.block_size_given);
    json_put_bool(writer, "readonly", facts.read_only);
    json_put_bool(writer, "fallocate", !facts.keep_space);
    json_put_bool(writer, "nowait", false);
    json_put_bool(writer, "direct", facts.direct);
    json_put_bool(writer, "flush_failed", facts.flush_failed);
    json_end(writer);
}

static void put_driver_specific(struct json_writer *writer, const struct block_device *device,
                                const struct lvol_listing *listing) {
    const struct plane_mirror *mirror = plane_mirror_of(listing->plane, device);
    json_begin_object(writer, "driver_specific");
    if (volume_device_is(device)) {
        lvol_put_driver_specific(writer, listing, device);
    } else if (memory_device_is(device)) {
        json_begin_object(writer, "malloc");
        json_end(writer);
    } else if (null_device_is(device)) {
        json_begin_object(writer, "null");
        json_end(writer);
    } else if (file_device_is(device)) {
        put_file(writer, device);
    } else if (nvme_initiator_device_is(device)) {
        nvme_put_driver_specific(writer, device);
    } else if (delay_device_is(device)) {
        json_begin_object(writer, "delay");
        json_put_string(writer, "name", device->name);
        json_put_string(writer, "base_bdev_name", delay_device_base(device)->name);
        json_put_u64(writer, "avg_read_latency", delay_device_latency_us(device, DELAY_AVG_READ));
        json_put_u64(writer, "p99_read_latency", delay_device_latency_us(device, DELAY_P99_READ));
        json_put_u64(writer, "avg_write_latency", delay_device_latency_us(device, DELAY_AVG_WRITE));
        json_put_u64(writer, "p99_write_latency", delay_device_latency_us(device, DELAY_P99_WRITE));
        json_end(writer);
    } else if (error_device_is(device)) {
        json_begin_object(writer, "error");
        json_put_string(writer, "name", device->name);
        json_put_string(writer, "base_bdev", error_device_base(device)->name);
        json_put_u64(writer, "hits", error_device_hits(device));
        json_end(writer);
    } else if (volatile_device_is(device)) {
        struct volatile_device_facts facts;
        volatile_device_facts(device, &facts);
        json_begin_object(writer, "volatile");
        json_put_string(writer, "name", device->name);
        json_put_string(writer, "base_bdev_name", facts.base_name);
        json_put_u64(writer, "cache_mib", facts.cache_bytes / MIB(1));
        json_put_u64(writer, "early_percent", facts.early_percent);
        json_put_u64(writer, "seed", facts.seed);
        json_put_u64(writer, "unflushed_bytes", facts.unflushed_bytes);
        json_put_u64(writer, "early_bytes", facts.early_bytes);
        json_end(writer);
    } else if (mirror != NULL) {
        json_begin_object(writer, "raid");
        mirror_put_raid_members(writer, mirror);
        json_end(writer);
    }
    json_end(writer);
}

void bdev_put_object(struct json_writer *writer, struct block_device *device, const struct lvol_listing *listing) {
    const struct block_handle *claim = claim_of(device);
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", device->name);
    put_aliases(writer, device);
    json_put_string(writer, "product_name", device->ops->product_name);
    json_put_u64(writer, "block_size", device->block_size);
    json_put_u64(writer, "num_blocks", atomic_load(&device->block_count));
    json_put_uuid(writer, "uuid", &device->uuid);
    json_put_string(writer, "creation_time", "");
    put_limits(writer);
    json_put_bool(writer, "claimed", claim != NULL);
    if (claim != NULL) {
        json_put_string(writer, "claim_type",
                        strcmp(claim->owner, "a volume store") == 0 ? "read_many_write_one" : "exclusive_write");
        json_put_string(writer, "claimed_by", claim->owner);
    }
    json_put_bool(writer, "zoned", false);
    put_io_types(writer, device);
    json_put_u64(writer, "physical_block_size", device->physical_block_size);
    json_put_u64(writer, "optimal_io_bytes", device->optimal_io_bytes);
    json_put_bool(writer, "volatile_cache", device->volatile_cache);
    put_driver_specific(writer, device, listing);
    json_end(writer);
}

bool bdev_check_name(struct plane *plane, const char *name, struct error *error) {
    if (!text_is_name(name, BLOCK_NAME_SIZE - 1))
        return error_invalid(error, "name", name, "1 to %d printable characters without blanks and /", BLOCK_NAME_SIZE - 1);
    if (block_graph_find(&plane->graph, name) == NULL)
        return true;
    error_invalid(error, "name", name, "a name that is not taken");
    if (error != NULL)
        error->code = ERROR_EXISTS;
    return false;
}

bool bdev_check_new(struct plane *plane, const char *name, uint32_t block_size, uint32_t physical_block_size,
                    uint64_t block_count, struct error *error) {
    char number[24];
    if (!bdev_check_name(plane, name, error))
        return false;
    if (!is_power_of_two(block_size) || block_size < 512 || block_size > KIB(64))
        return error_invalid(error, "block_size", methods_number(block_size, number), "a power of two from 512 to 65536");
    if (physical_block_size != 0 &&
        (!is_power_of_two(physical_block_size) || physical_block_size < block_size || physical_block_size > MIB(1)))
        return error_invalid(error, "physical_block_size", methods_number(physical_block_size, number),
                             "0, or a power of two from block_size to 1 MiB");
    if (block_count == 0 || block_count > INT64_MAX / block_size)
        return error_invalid(error, "num_blocks", methods_number(block_count, number), "1 to %" PRId64,
                             INT64_MAX / (int64_t)block_size);
    return true;
}
