/* Methods of block devices in general, and of the kinds memory and null. Statistics: iostat.c. The device object: bdev_object.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/file/file.h"
#include "blockdev/memory/memory.h"
#include "blockdev/null/null.h"
#include "blockdev/volatile/volatile_device.h"
#include "plane_rpc/examine.h"
#include "plane_rpc/methods/bdev_object.h"
#include "plane_rpc/methods/lvol.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/rpc_methods.h"
#include "plane_rpc/stores.h"

/* ---- listing, waiting ---- */

struct devices_answer {
    struct rpc_call *call;
    struct plane_store *store; /* of the one device, if it is a volume */
    struct uuid only;          /* nil = all */
};

/* To clients of the dialect a mirror comes into being when it serves. */
static bool is_shown(struct plane *plane, const struct block_device *device) {
    const struct plane_mirror *mirror = plane_mirror_of(plane, device);
    return !device->removing && (mirror == NULL || mirror_is_shown(mirror));
}

/* It may have gone meanwhile. */
static struct block_device *only_device(const struct devices_answer *answer) {
    char name[UUID_TEXT_SIZE];
    uuid_format(&answer->only, name);
    return block_graph_find(&plane_of(answer->call)->graph, name);
}

static void put_devices(struct lvol_listing *listing) {
    struct devices_answer *answer = listing->arg;
    struct rpc_call *call = answer->call;
    bool all = uuid_is_nil(&answer->only);
    struct block_device *only = all ? NULL : only_device(answer);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    if (only != NULL && is_shown(listing->plane, only))
        bdev_put_object(writer, only, listing);
    for (struct block_device *device = NULL; all && (device = block_graph_next(&listing->plane->graph, device)) != NULL;)
        if (is_shown(listing->plane, device))
            bdev_put_object(writer, device, listing);
    json_end(writer);
    rpc_call_end(call);
    free(answer);
}

static void mirrors_looked_at(void *arg) {
    struct devices_answer *answer = arg;
    struct plane *plane = plane_of(answer->call);
    bool all = uuid_is_nil(&answer->only);
    struct lvol_wanted wanted = {.volume = answer->only, .no_volumes = !all};
    list_for_each (&plane->stores, struct plane_store, store, node) {
        if (!all && store == answer->store) { /* it may have been closed meanwhile */
            wanted.store = store;
            wanted.no_volumes = false;
        }
    }
    lvol_listing_run(plane, &wanted, put_devices, answer);
}

/* `only` NULL = all. What volumes hold is asked of their stores first, how mirrors are of their engines. */
static void answer_devices(struct rpc_call *call, struct block_device *only) {
    struct devices_answer *answer = calloc(1, sizeof(*answer));
    struct error error;
    if (answer == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the list");
        rpc_call_fail(call, &error);
        return;
    }
    answer->call = call;
    if (only != NULL)
        answer->only = only->uuid;
    if (only != NULL && volume_device_is(only))
        answer->store = plane_store_of(plane_of(call), volume_device_store(only));
    struct plane_mirror *mirror = only == NULL ? NULL : plane_mirror_of(plane_of(call), only);
    if (only == NULL || mirror != NULL)
        plane_mirrors_look(plane_of(call), mirror, mirrors_looked_at, answer);
    else
        mirrors_looked_at(answer);
}

/* bdev_get_bdevs with a timeout. */
struct device_waiter {
    struct plane_waiter waiter;
    struct reactor_timer timer;
    const char *name; /* in the call's document */
};

static void device_waiter_end(struct device_waiter *waiter) {
    reactor_timer_stop(plane_of(waiter->waiter.call)->control, &waiter->timer);
    list_remove(&waiter->waiter.node);
    free(waiter);
}

static void device_waiter_run(struct plane_waiter *plane_waiter) {
    struct device_waiter *waiter = container_of(plane_waiter, struct device_waiter, waiter);
    struct rpc_call *call = plane_waiter->call;
    struct block_device *device = plane_find_device(plane_of(call), waiter->name, NULL);
    if (device == NULL || !is_shown(plane_of(call), device))
        return;
    device_waiter_end(waiter);
    answer_devices(call, device);
}

static void device_waiter_expire(struct reactor_timer *timer) {
    struct device_waiter *waiter = container_of(timer, struct device_waiter, timer);
    struct rpc_call *call = waiter->waiter.call;
    struct error error;
    plane_say_no_device(waiter->name, &error);
    device_waiter_end(waiter);
    rpc_call_fail(call, &error);
}

static void device_waiter_cancel(struct plane_waiter *plane_waiter) {
    device_waiter_expire(&container_of(plane_waiter, struct device_waiter, waiter)->timer);
}

void method_bdev_get_bdevs(struct rpc_call *call, const struct params_bdev_get_bdevs *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    struct block_device *device = params->name == NULL ? NULL : plane_find_device(plane, params->name, &error);
    if (device != NULL && !is_shown(plane, device)) {
        plane_say_no_device(params->name, &error);
        device = NULL;
    }
    if (params->name == NULL || device != NULL) {
        answer_devices(call, device);
        return;
    }
    struct device_waiter *waiter = params->timeout == 0 ? NULL : calloc(1, sizeof(*waiter));
    if (waiter == NULL) {
        rpc_call_fail(call, &error);
        return;
    }
    waiter->waiter = (struct plane_waiter){.call = call, .run = device_waiter_run, .cancel = device_waiter_cancel};
    waiter->timer.run = device_waiter_expire;
    waiter->name = params->name;
    plane_add_waiter(&plane->waiters, &waiter->waiter);
    reactor_timer_start(plane->control, &waiter->timer, reactor_now_ns(plane->control) + params->timeout * NS_PER_MS);
}

static void examines_ended(struct plane_waiter *waiter) {
    struct rpc_call *call = waiter->call;
    if (!list_empty(&plane_of(call)->examines))
        return;
    list_remove(&waiter->node);
    free(waiter);
    rpc_call_result_true(call);
}

void method_bdev_wait_for_examine(struct rpc_call *call) {
    struct plane *plane = plane_of(call);
    if (list_empty(&plane->examines))
        rpc_call_result_true(call);
    else
        methods_wait(call, &plane->waiters, examines_ended);
}

struct examination {
    struct plane_examine examine;
    struct rpc_call *call;
};

static void examined(struct plane_examine *examine) {
    struct examination *examination = container_of(examine, struct examination, examine);
    struct rpc_call *call = examination->call;
    if (examine->opened || examine->error.code == ERROR_FOREIGN)
        rpc_call_result_true(call);
    else
        rpc_call_fail(call, &examine->error);
    free(examination);
}

void method_bdev_examine(struct rpc_call *call, const struct params_bdev_examine *params) {
    struct block_device *device = methods_device(call, params->name);
    if (device == NULL)
        return;
    struct examination *examination = calloc(1, sizeof(*examination));
    if (examination == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory to examine %s", device->name);
        rpc_call_fail(call, &error);
        return;
    }
    examination->call = call;
    examination->examine.done = examined;
    plane_examine(plane_of(call), device, &examination->examine);
}

void method_bdev_set_options(struct rpc_call *call, const struct params_bdev_set_options *params) {
    if (params->has_bdev_auto_examine)
        plane_of(call)->auto_examine = params->bdev_auto_examine;
    rpc_call_result_true(call);
}

/* ---- memory and null ---- */

void method_bdev_malloc_create(struct rpc_call *call, const struct params_bdev_malloc_create *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    struct block_device *device;
    char name[32];
    while (params->name == NULL) {
        snprintf(name, sizeof(name), "Malloc%" PRIu64, plane->malloc_names++);
        if (block_graph_find(&plane->graph, name) == NULL)
            break;
    }
    struct memory_device_options options = {.name = params->name != NULL ? params->name : name,
                                            .uuid = params->uuid,
                                            .block_size = params->block_size,
                                            .physical_block_size = params->physical_block_size,
                                            .block_count = params->num_blocks,
                                            .optimal_io_blocks = params->optimal_io_boundary};
    if (bdev_check_new(plane, options.name, options.block_size, options.physical_block_size, options.block_count, &error) &&
        memory_device_create(&plane->graph, &options, &device, &error))
        rpc_call_result_string(call, device->name);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_malloc_delete(struct rpc_call *call, const struct params_bdev_malloc_delete *params) {
    struct block_device *device = methods_device_of(call, params->name, memory_device_is, "a device of bdev_malloc_create");
    if (device != NULL)
        methods_remove_device(call, device, NULL);
}

void method_bdev_null_create(struct rpc_call *call, const struct params_bdev_null_create *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    struct block_device *device;
    struct null_device_options options = {.name = params->name,
                                          .uuid = params->uuid,
                                          .block_size = params->block_size,
                                          .physical_block_size = params->physical_block_size,
                                          .block_count = params->num_blocks};
    if (bdev_check_new(plane, options.name, options.block_size, options.physical_block_size, options.block_count, &error) &&
        null_device_create(&plane->graph, &options, &device, &error))
        rpc_call_result_string(call, device->name);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_null_delete(struct rpc_call *call, const struct params_bdev_null_delete *params) {
    struct block_device *device = methods_device_of(call, params->name, null_device_is, "a device of bdev_null_create");
    if (device != NULL)
        methods_remove_device(call, device, NULL);
}

void method_bdev_null_resize(struct rpc_call *call, const struct params_bdev_null_resize *params) {
    struct block_device *device = methods_device_of(call, params->name, null_device_is, "a device of bdev_null_create");
    if (device == NULL)
        return;
    block_device_set_size(device, MIB(params->new_size) / device->block_size);
    rpc_call_result_true(call);
}

/* ---- configuration ---- */

static void put_simple(struct json_writer *writer, const struct block_device *device, const char *method) {
    methods_config_begin(writer, method);
    json_put_string(writer, "name", device->name);
    json_put_u64(writer, "block_size", device->block_size);
    json_put_u64(writer, "num_blocks", atomic_load(&device->block_count));
    json_put_uuid(writer, "uuid", &device->uuid);
    if (device->physical_block_size != device->block_size)
        json_put_u64(writer, "physical_block_size", device->physical_block_size);
    if (device->optimal_io_bytes != 0)
        json_put_u64(writer, "optimal_io_boundary", device->optimal_io_bytes / device->block_size);
    methods_config_end(writer);
}

static void put_file(struct json_writer *writer, const struct block_device *device) {
    struct file_device_facts facts;
    file_device_facts(device, &facts);
    methods_config_begin(writer, facts.called_uring ? "bdev_uring_create" : "bdev_aio_create");
    json_put_string(writer, "name", device->name);
    json_put_string(writer, "filename", facts.path);
    json_put_u64(writer, "block_size", facts.block_size_given ? device->block_size : 0);
    json_put_uuid(writer, "uuid", &device->uuid);
    if (!facts.called_uring) {
        json_put_bool(writer, "readonly", facts.read_only);
        json_put_bool(writer, "fallocate", !facts.keep_space);
    }
    methods_config_end(writer);
}

static void put_delay(struct json_writer *writer, const struct block_device *device) {
    methods_config_begin(writer, "bdev_delay_create");
    json_put_string(writer, "name", device->name);
    json_put_string(writer, "base_bdev_name", delay_device_base(device)->name);
    json_put_u64(writer, "avg_read_latency", delay_device_latency_us(device, DELAY_AVG_READ));
    json_put_u64(writer, "p99_read_latency", delay_device_latency_us(device, DELAY_P99_READ));
    json_put_u64(writer, "avg_write_latency", delay_device_latency_us(device, DELAY_AVG_WRITE));
    json_put_u64(writer, "p99_write_latency", delay_device_latency_us(device, DELAY_P99_WRITE));
    json_put_uuid(writer, "uuid", &device->uuid);
    methods_config_end(writer);
}

static void put_error(struct json_writer *writer, const struct block_device *device) {
    methods_config_begin(writer, "bdev_error_create");
    json_put_string(writer, "base_name", error_device_base(device)->name);
    json_put_uuid(writer, "uuid", &device->uuid);
    methods_config_end(writer);
}

static void put_volatile(struct json_writer *writer, const struct block_device *device) {
    struct volatile_device_facts facts;
    volatile_device_facts(device, &facts);
    methods_config_begin(writer, "bdev_volatile_create");
    json_put_string(writer, "name", device->name);
    json_put_string(writer, "base_bdev_name", facts.base_name);
    json_put_u64(writer, "cache_mib", facts.cache_bytes / MIB(1));
    json_put_u64(writer, "early_percent", facts.early_percent);
    json_put_u64(writer, "seed", facts.seed);
    json_put_uuid(writer, "uuid", &device->uuid);
    methods_config_end(writer);
}

/* A store that is not found by itself when the node comes up again. */
static void put_examine(struct json_writer *writer, const struct block_device *device) {
    methods_config_begin(writer, "bdev_examine");
    json_put_string(writer, "name", device->name);
    methods_config_end(writer);
}

void methods_put_bdev_config(struct plane *plane, struct json_writer *writer) {
    methods_config_begin(writer, "bdev_set_options");
    json_put_bool(writer, "bdev_auto_examine", plane->auto_examine);
    methods_config_end(writer);
    methods_put_nvme_config(plane, writer);
    if (plane->mirror_bytes_per_s != 0) {
        methods_config_begin(writer, "bdev_raid_set_options");
        json_put_u64(writer, "process_max_bandwidth_mb_sec", plane->mirror_bytes_per_s / MIB(1));
        methods_config_end(writer);
    }
    for (struct block_device *device = NULL; (device = block_graph_next(&plane->graph, device)) != NULL;) {
        if (memory_device_is(device))
            put_simple(writer, device, "bdev_malloc_create");
        else if (null_device_is(device))
            put_simple(writer, device, "bdev_null_create");
        else if (file_device_is(device))
            put_file(writer, device);
        else if (delay_device_is(device))
            put_delay(writer, device);
        else if (error_device_is(device))
            put_error(writer, device);
        else if (volatile_device_is(device))
            put_volatile(writer, device);
        else if (plane_mirror_of(plane, device) != NULL)
            mirror_put_config(writer, plane_mirror_of(plane, device));
        if (!plane->auto_examine && plane_store_on(plane, device) != NULL)
            put_examine(writer, device);
    }
}
