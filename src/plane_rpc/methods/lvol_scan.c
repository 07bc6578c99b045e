/* Copies of snapshots to other devices, and checksums of them. A copy is started, asked about by its number, and forgotten with
 * the answer that says it has ended; a checksum's call is answered at its end. */
#include "plane_rpc/methods/lvol.h"

#include <errno.h>
#include <stdlib.h>

#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"
#include "plane_rpc/scans.h"

static struct plane_scan *scan_create(struct rpc_call *call, const char *from, enum volume_scan_what what) {
    struct block_device *device = methods_device_of(call, from, volume_device_is, "a snapshot");
    struct error error;
    struct plane_scan *scan = device == NULL ? NULL : plane_scan_create(plane_of(call), device, what, &error);
    if (scan != NULL)
        scan->call = call;
    else if (device != NULL)
        rpc_call_fail(call, &error);
    return scan;
}

/* ---- copies ---- */

static void copy_done(struct volume_scan *done) { container_of(done, struct plane_scan, scan)->ended = true; }

static void copy_start(struct rpc_call *call, struct plane_scan *scan, const char *to) {
    struct error error;
    scan->scan.to = plane_find_device(scan->plane, to, &error);
    scan->scan.done = copy_done;
    bool begun = scan->scan.to != NULL && volume_scan_start(&scan->scan);
    if (scan->scan.to != NULL)
        error = scan->scan.error;
    /* The dialect: that the source can be written is found by the work, and told with its state. */
    if (!begun && (scan->scan.to == NULL || atomic_load(&scan->scan.from->read_only))) {
        plane_scan_free(scan);
        rpc_call_fail_late(call, &error);
        return;
    }
    scan->ended = !begun;
    plane_scan_number(scan);
    scan->call = NULL;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "operation_id", scan->id);
    json_end(writer);
    rpc_call_end(call);
}

void method_bdev_lvol_start_shallow_copy(struct rpc_call *call, const struct params_bdev_lvol_start_shallow_copy *params) {
    struct plane_scan *scan = scan_create(call, params->src_lvol_name, VOLUME_SCAN_COPY);
    if (scan != NULL)
        copy_start(call, scan, params->dst_bdev_name);
}

void method_bdev_lvol_start_deep_copy(struct rpc_call *call, const struct params_bdev_lvol_start_deep_copy *params) {
    struct plane_scan *scan = scan_create(call, params->src_lvol_name, VOLUME_SCAN_COPY_DEEP);
    if (scan != NULL)
        copy_start(call, scan, params->dst_bdev_name);
}

void method_bdev_lvol_start_range_shallow_copy(struct rpc_call *call,
                                               const struct params_bdev_lvol_start_range_shallow_copy *params) {
    struct plane_scan *scan = scan_create(call, params->src_lvol_name, VOLUME_SCAN_COPY_UNITS);
    if (scan == NULL)
        return;
    scan->units = calloc(max_u64(1, params->clusters.count), sizeof(*scan->units));
    if (scan->units == NULL) {
        struct error error;
        plane_scan_free(scan);
        error_set(&error, ERROR_NO_MEMORY, "no memory for the clusters' numbers");
        rpc_call_fail(call, &error);
        return;
    }
    if (params->clusters.count > 0)
        memcpy(scan->units, params->clusters.items, params->clusters.count * sizeof(*scan->units));
    scan->scan.units = scan->units;
    scan->scan.unit_count = params->clusters.count;
    copy_start(call, scan, params->dst_bdev_name);
}

static struct plane_scan *copy_find(struct rpc_call *call, uint32_t id, bool deep) {
    list_for_each (&plane_of(call)->scans, struct plane_scan, scan, node)
        if (scan->id == id && id != 0 && (scan->scan.what == VOLUME_SCAN_COPY_DEEP) == deep)
            return scan;
    struct error error;
    error_set(&error, ERROR_NO_DEVICE, "no copy has the number %u, or its end was told already", id);
    rpc_call_fail(call, &error);
    return NULL;
}

static void put_state(struct json_writer *writer, const struct plane_scan *scan) {
    bool good = scan->ended && scan->scan.ok;
    json_put_u64(writer, "total_clusters", atomic_load(&scan->scan.total_units));
    json_put_string(writer, "state", !scan->ended ? "in progress" : good ? "complete" : "error");
    if (scan->ended && !good) {
        json_put_string(writer, "error", error_facts(scan->scan.error.code)->errno_text);
        json_put_string(writer, "reason", scan->scan.error.text);
    }
}

void method_bdev_lvol_check_shallow_copy(struct rpc_call *call, const struct params_bdev_lvol_check_shallow_copy *params) {
    struct plane_scan *scan = copy_find(call, params->operation_id, false);
    if (scan == NULL)
        return;
    uint64_t cleared = scan->ended && scan->scan.ok ? atomic_load(&scan->scan.cleared_units) : 0;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "copied_clusters", atomic_load(&scan->scan.handled_units) - cleared);
    json_put_u64(writer, "unmapped_clusters", cleared);
    put_state(writer, scan);
    json_end(writer);
    rpc_call_end(call);
    if (scan->ended)
        plane_scan_free(scan);
}

void method_bdev_lvol_check_deep_copy(struct rpc_call *call, const struct params_bdev_lvol_check_deep_copy *params) {
    struct plane_scan *scan = copy_find(call, params->operation_id, true);
    if (scan == NULL)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "processed_clusters", atomic_load(&scan->scan.handled_units));
    put_state(writer, scan);
    json_end(writer);
    rpc_call_end(call);
    if (scan->ended)
        plane_scan_free(scan);
}

/* ---- checksums ---- */

static void sum_done(struct volume_scan *done) {
    struct plane_scan *scan = container_of(done, struct plane_scan, scan);
    if (done->ok)
        rpc_call_result_true(scan->call);
    else
        rpc_call_fail_late(scan->call, &done->error);
    plane_scan_free(scan);
}

static void sum_register(struct rpc_call *call, const char *name) {
    struct plane_scan *scan = scan_create(call, name, VOLUME_SCAN_SUM);
    if (scan == NULL)
        return;
    scan->scan.done = sum_done;
    if (!volume_scan_start(&scan->scan)) {
        rpc_call_fail_late(call, &scan->scan.error);
        plane_scan_free(scan);
    }
}

void method_bdev_lvol_register_snapshot_checksum(struct rpc_call *call,
                                                 const struct params_bdev_lvol_register_snapshot_checksum *params) {
    sum_register(call, params->name);
}

void method_bdev_lvol_register_snapshot_range_checksums(struct rpc_call *call,
                                                        const struct params_bdev_lvol_register_snapshot_range_checksums *params) {
    sum_register(call, params->name);
}

void method_bdev_lvol_stop_snapshot_checksum(struct rpc_call *call,
                                             const struct params_bdev_lvol_stop_snapshot_checksum *params) {
    struct block_device *device = methods_device_of(call, params->name, volume_device_is, "a snapshot");
    bool found = false;
    if (device == NULL)
        return;
    list_for_each (&plane_of(call)->scans, struct plane_scan, scan, node)
        if (scan->scan.what == VOLUME_SCAN_SUM && scan->scan.from == device) {
            volume_scan_cancel(&scan->scan);
            found = true;
        }
    if (found)
        rpc_call_result_true(call);
    else
        rpc_call_error(call, -ESRCH, "No such process", NULL);
}

/* Whatever is wrong, the dialect has one answer. */
static void no_sum(struct rpc_call *call, const char *why) {
    struct error error;
    error_set(&error, ERROR_NO_DEVICE, "%s", why);
    rpc_call_fail(call, &error);
}

/* An attribute of a snapshot, before what is done about it. */
struct sum_asked {
    struct rpc_call *call;
    struct volume_command command;
    struct plane_scan *scan; /* of the clusters; NULL = the whole snapshot's is asked for */
};

static void put_sums(struct volume_scan *done) {
    struct plane_scan *scan = container_of(done, struct plane_scan, scan);
    if (!done->ok) {
        no_sum(scan->call, done->error.text);
        plane_scan_free(scan);
        return;
    }
    struct json_writer *writer = rpc_call_result(scan->call);
    json_begin_array(writer, RPC_RESULT);
    for (size_t i = 0; i < done->unit_count; i++) {
        if (!scan->sums[i].held)
            continue;
        json_begin_object(writer, NULL);
        json_put_u64(writer, "cluster_index", scan->sums[i].unit);
        json_put_u64(writer, "checksum", scan->sums[i].sum);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(scan->call);
    plane_scan_free(scan);
}

static void attribute_got(struct volume_command *command) {
    struct sum_asked *asked = container_of(command, struct sum_asked, command);
    struct plane_scan *scan = asked->scan;
    uint64_t sum = command->ok ? strtoull(command->ret_text, NULL, 10) : 0;
    if (!command->ok) {
        no_sum(asked->call, command->error.text);
    } else if (scan == NULL) {
        struct json_writer *writer = rpc_call_result(asked->call);
        json_begin_object(writer, RPC_RESULT);
        json_put_u64(writer, "checksum", sum);
        json_end(writer);
        rpc_call_end(asked->call);
    } else {
        char text[UUID_TEXT_SIZE];
        uuid_format(&scan->volume, text);
        scan->scan.from = block_graph_find(&scan->plane->graph, text); /* it may have gone since */
        if (scan->scan.from == NULL || !volume_device_is(scan->scan.from) || !volume_scan_start(&scan->scan))
            no_sum(asked->call, scan->scan.from == NULL ? "the snapshot is gone" : scan->scan.error.text);
        else
            scan = NULL;
    }
    if (scan != NULL)
        plane_scan_free(scan);
    free(command->ret_text);
    free(asked);
}

static void attribute_ask(struct rpc_call *call, struct block_device *device, struct plane_scan *scan) {
    struct sum_asked *asked = calloc(1, sizeof(*asked));
    if (asked == NULL) {
        no_sum(call, "no memory");
        if (scan != NULL)
            plane_scan_free(scan);
        return;
    }
    asked->call = call;
    asked->scan = scan;
    asked->command = (struct volume_command){
        .store = volume_device_store(device), .volume = device->uuid, .name = VOLUME_CHECKSUM_ATTRIBUTE, .done = attribute_got};
    volume_attribute_get(&asked->command);
}

void method_bdev_lvol_get_snapshot_checksum(struct rpc_call *call, const struct params_bdev_lvol_get_snapshot_checksum *params) {
    struct block_device *device = methods_device_of(call, params->name, volume_device_is, "a snapshot");
    if (device != NULL)
        attribute_ask(call, device, NULL);
}

void method_bdev_lvol_get_snapshot_range_checksums(struct rpc_call *call,
                                                   const struct params_bdev_lvol_get_snapshot_range_checksums *params) {
    struct plane_scan *scan = scan_create(call, params->name, VOLUME_SCAN_UNIT_SUMS);
    if (scan == NULL)
        return;
    scan->sums = calloc(params->cluster_count, sizeof(*scan->sums));
    if (scan->sums == NULL) {
        no_sum(call, "no memory");
        plane_scan_free(scan);
        return;
    }
    scan->scan.sums = scan->sums;
    scan->scan.first_unit = params->cluster_start_index;
    scan->scan.unit_count = params->cluster_count;
    scan->scan.done = put_sums;
    attribute_ask(call, scan->scan.from, scan);
}
