/* Methods of the fault kit: error, delay and volatile devices. */
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/volatile/volatile_device.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

void method_bdev_error_create(struct rpc_call *call, const struct params_bdev_error_create *params) {
    struct block_device *device;
    struct error error;
    if (error_device_create(&plane_of(call)->graph, params->base_name, &params->uuid, &device, &error))
        rpc_call_result_true(call);
    else
        rpc_call_fail(call, &error);
}

/* A status of NVMe as the block layer knows it. */
static enum io_status nvme_status(uint32_t type, uint32_t code) {
    static const struct {
        uint8_t type, code;
        enum io_status status;
    } known[] = {
        {0, 0x02, IO_INVALID},        {0, 0x80, IO_OUT_OF_RANGE}, {0, 0x01, IO_UNSUPPORTED},  {0, 0x20, IO_READ_ONLY},
        {0, 0x81, IO_NO_SPACE},       {2, 0x81, IO_MEDIUM_READ},  {2, 0x80, IO_MEDIUM_WRITE}, {2, 0x82, IO_DAMAGED},
        {2, 0x85, IO_COMPARE_FAILED}, {0, 0x82, IO_NOT_READY},    {3, 0x03, IO_PATH_LOST},    {0, 0x07, IO_ABORTED},
        {0, 0x83, IO_FENCED},
    };
    for (size_t i = 0; i < array_count(known); i++)
        if (known[i].type == type && known[i].code == code)
            return known[i].status;
    return IO_INTERNAL;
}

void method_bdev_error_inject_error(struct rpc_call *call, const struct params_bdev_error_inject_error *params) {
    static const unsigned ops[] = {[RPC_FAULT_IO_TYPE_READ] = ERROR_DEVICE_OP(ERROR_DEVICE_READ),
                                   [RPC_FAULT_IO_TYPE_WRITE] = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE),
                                   [RPC_FAULT_IO_TYPE_UNMAP] = ERROR_DEVICE_OP(ERROR_DEVICE_TRIM),
                                   [RPC_FAULT_IO_TYPE_FLUSH] = ERROR_DEVICE_OP(ERROR_DEVICE_FLUSH),
                                   [RPC_FAULT_IO_TYPE_ALL] = ERROR_DEVICE_OP_ALL};
    static const enum error_device_effect effects[] = {[RPC_FAULT_ERROR_TYPE_FAILURE] = ERROR_DEVICE_FAIL,
                                                       [RPC_FAULT_ERROR_TYPE_PENDING] = ERROR_DEVICE_PENDING,
                                                       [RPC_FAULT_ERROR_TYPE_CORRUPT_DATA] = ERROR_DEVICE_CORRUPT,
                                                       [RPC_FAULT_ERROR_TYPE_NOMEM] = ERROR_DEVICE_NO_MEMORY,
                                                       [RPC_FAULT_ERROR_TYPE_NVME_FAILURE] = ERROR_DEVICE_STATUS};
    struct error error;
    struct block_device *device = methods_device_of(call, params->name, error_device_is, "a device of bdev_error_create");
    if (device == NULL)
        return;
    if (params->io_type == RPC_FAULT_IO_TYPE_CLEAR) {
        error_device_clear(device);
        rpc_call_result_true(call);
        return;
    }
    if (params->error_type == RPC_FAULT_ERROR_TYPE_CORRUPT_DATA &&
        (params->io_type == RPC_FAULT_IO_TYPE_FLUSH || params->io_type == RPC_FAULT_IO_TYPE_UNMAP)) {
        error_invalid(&error, "error_type", "corrupt_data", "another one: a flush or unmap carries no data");
        rpc_call_fail(call, &error);
        return;
    }
    struct error_device_rule rule = {.ops = ops[params->io_type],
                                     .effect = effects[params->error_type],
                                     .status = nvme_status(params->nvme_sct, params->nvme_sc),
                                     .count = params->num,
                                     .queue_depth = params->queue_depth,
                                     .corrupt_offset = params->corrupt_offset,
                                     .corrupt_value = params->corrupt_value};
    if (error_device_inject(device, &rule, &error))
        rpc_call_result_true(call);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_error_delete(struct rpc_call *call, const struct params_bdev_error_delete *params) {
    struct block_device *device = methods_device_of(call, params->name, error_device_is, "a device of bdev_error_create");
    if (device != NULL)
        methods_remove_device(call, device, error_device_delete);
}

void method_bdev_delay_create(struct rpc_call *call, const struct params_bdev_delay_create *params) {
    struct block_device *device;
    struct error error;
    struct delay_device_options options = {
        .name = params->name,
        .base_name = params->base_bdev_name,
        .uuid = params->uuid,
        .latency_us = {[DELAY_AVG_READ] = params->avg_read_latency,
                       [DELAY_P99_READ] = params->p99_read_latency,
                       [DELAY_AVG_WRITE] = params->avg_write_latency,
                       [DELAY_P99_WRITE] = params->p99_write_latency},
    };
    if (delay_device_create(&plane_of(call)->graph, &options, &device, &error))
        rpc_call_result_string(call, device->name);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_delay_update_latency(struct rpc_call *call, const struct params_bdev_delay_update_latency *params) {
    static_assert((int)RPC_LATENCY_TYPE_AVG_READ == DELAY_AVG_READ && (int)RPC_LATENCY_TYPE_P99_WRITE == DELAY_P99_WRITE,
                  "one order");
    struct error error;
    struct block_device *device =
        methods_device_of(call, params->delay_bdev_name, delay_device_is, "a device of bdev_delay_create");
    if (device == NULL)
        return;
    if (delay_device_set_latency(device, (enum delay_latency)params->latency_type, params->latency_us, &error))
        rpc_call_result_true(call);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_delay_delete(struct rpc_call *call, const struct params_bdev_delay_delete *params) {
    struct block_device *device = methods_device_of(call, params->name, delay_device_is, "a device of bdev_delay_create");
    if (device != NULL)
        methods_remove_device(call, device, delay_device_delete);
}

void method_bdev_volatile_create(struct rpc_call *call, const struct params_bdev_volatile_create *params) {
    struct block_device *device;
    struct error error;
    struct volatile_device_options options = {.name = params->name,
                                              .base_name = params->base_bdev_name,
                                              .uuid = params->uuid,
                                              .cache_bytes = params->cache_mib * MIB(1),
                                              .early_percent = params->early_percent,
                                              .seed = params->seed};
    if (volatile_device_create(&plane_of(call)->graph, &options, &device, &error))
        rpc_call_result_string(call, device->name);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_volatile_delete(struct rpc_call *call, const struct params_bdev_volatile_delete *params) {
    struct block_device *device = methods_device_of(call, params->name, volatile_device_is, "a device of bdev_volatile_create");
    if (device != NULL)
        methods_remove_device(call, device, volatile_device_delete);
}
