/* Statistics of block devices. Reading sums what the reactors write; setting to zero is done by each reactor for its share, which
 * is read in the same step so that nothing is lost between. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

/* ---- printing ---- */

static void put_op(struct json_writer *writer, const struct block_stats_op_sum *op, const char *name) {
    char key[48];
    snprintf(key, sizeof(key), "%s_latency_ticks", name);
    json_put_u64(writer, key, op->ticks);
    snprintf(key, sizeof(key), "max_%s_latency_ticks", name);
    json_put_u64(writer, key, op->ticks_max);
    snprintf(key, sizeof(key), "min_%s_latency_ticks", name);
    json_put_u64(writer, key, op->ticks_min);
}

/* The members of an iostat element behind its name. */
static void put_stats(struct json_writer *writer, const struct block_stats_sum *sum) {
    static const struct block_stats_op_sum none;
    const struct block_stats_op_sum *ops = sum->ops;
    json_put_u64(writer, "bytes_read", ops[BLOCK_STATS_READ].bytes);
    json_put_u64(writer, "num_read_ops", ops[BLOCK_STATS_READ].count);
    json_put_u64(writer, "bytes_written", ops[BLOCK_STATS_WRITE].bytes);
    json_put_u64(writer, "num_write_ops", ops[BLOCK_STATS_WRITE].count);
    json_put_u64(writer, "bytes_unmapped", ops[BLOCK_STATS_TRIM].bytes);
    json_put_u64(writer, "num_unmap_ops", ops[BLOCK_STATS_TRIM].count);
    json_put_u64(writer, "bytes_copied", 0);
    json_put_u64(writer, "num_copy_ops", 0);
    put_op(writer, &ops[BLOCK_STATS_READ], "read");
    put_op(writer, &ops[BLOCK_STATS_WRITE], "write");
    put_op(writer, &ops[BLOCK_STATS_TRIM], "unmap");
    put_op(writer, &none, "copy");
    json_put_u64(writer, "bytes_zeroed", ops[BLOCK_STATS_ZEROES].bytes);
    json_put_u64(writer, "num_zeroes_ops", ops[BLOCK_STATS_ZEROES].count);
    json_put_u64(writer, "num_flush_ops", ops[BLOCK_STATS_FLUSH].count);
    put_op(writer, &ops[BLOCK_STATS_FLUSH], "flush");
    json_begin_object(writer, "io_error");
    for (unsigned status = IO_OK + 1; status < IO_STATUS_COUNT; status++)
        if (sum->errors[status] != 0)
            json_put_u64(writer, io_status_name((enum io_status)status), sum->errors[status]);
    json_end(writer);
}

/* ---- the work: one item a device, one message a reactor ---- */

struct iostat_item {
    struct block_handle handle;     /* keeps the device while the reactors look at it */
    struct block_stats_sum *shares; /* one a reactor */
};

struct iostat_work {
    struct rpc_call *call;
    struct plane *plane;
    struct iostat_item *items;
    size_t count;
    enum block_stats_reset reset;
    bool per_channel, answer_true;
    unsigned reactor_count, pending;
    struct iostat_message {
        struct reactor_message there, back;
        struct iostat_work *work;
        unsigned reactor;
    } messages[PLANE_REACTORS_MAX + 1];
};

static void put_channels(struct json_writer *writer, const struct iostat_work *work) {
    json_put_string(writer, "name", work->items[0].handle.device->name);
    json_begin_array(writer, "channels");
    for (unsigned i = 0; i < work->reactor_count; i++) {
        json_begin_object(writer, NULL);
        json_put_u64(writer, "thread_id", i + 1);
        put_stats(writer, &work->items[0].shares[i]);
        json_end(writer);
    }
    json_end(writer);
}

static void put_devices(struct json_writer *writer, const struct iostat_work *work) {
    json_begin_array(writer, "bdevs");
    for (size_t i = 0; i < work->count; i++) {
        struct block_stats_sum sum;
        block_stats_add_up(work->items[i].shares, work->reactor_count, &sum);
        json_begin_object(writer, NULL);
        json_put_string(writer, "name", work->items[i].handle.device->name);
        put_stats(writer, &sum);
        json_end(writer);
    }
    json_end(writer);
}

static void work_free(struct iostat_work *work) {
    for (size_t i = 0; i < work->count; i++) {
        if (work->items[i].handle.device != NULL)
            block_handle_close(&work->items[i].handle);
        free(work->items[i].shares);
    }
    free(work->items);
    free(work);
}

static void work_answer(struct iostat_work *work) {
    struct rpc_call *call = work->call;
    if (work->answer_true) {
        work_free(work);
        rpc_call_result_true(call);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "tick_rate", work->plane->host->ticks_per_second);
    json_put_u64(writer, "ticks", host_ticks(work->plane->host));
    if (work->per_channel)
        put_channels(writer, work);
    else
        put_devices(writer, work);
    json_end(writer);
    work_free(work);
    rpc_call_end(call);
}

static void message_back(struct reactor_message *message) {
    struct iostat_work *work = container_of(message, struct iostat_message, back)->work;
    if (--work->pending == 0)
        work_answer(work);
}

/* On each reactor: its share of every device, read and set to zero. */
static void message_there(struct reactor_message *message) {
    struct iostat_message *m = container_of(message, struct iostat_message, there);
    for (size_t i = 0; i < m->work->count; i++) {
        struct iostat_item *item = &m->work->items[i];
        block_stats_of_reactor(item->handle.device, m->reactor, &item->shares[m->reactor]);
        block_stats_reset_reactor(item->handle.device, m->reactor, m->work->reset);
    }
    reactor_post(m->work->plane->control, &m->back);
}

static void work_run(struct iostat_work *work) {
    struct plane *plane = work->plane;
    if (work->reset == BLOCK_STATS_RESET_NONE) {
        for (size_t i = 0; i < work->count; i++)
            for (unsigned r = 0; r < work->reactor_count; r++)
                block_stats_of_reactor(work->items[i].handle.device, r, &work->items[i].shares[r]);
        work_answer(work);
        return;
    }
    work->pending = work->reactor_count;
    for (unsigned r = 0; r < work->reactor_count; r++) {
        struct iostat_message *m = &work->messages[r];
        *m = (struct iostat_message){.there.run = message_there, .back.run = message_back, .work = work, .reactor = r};
        reactor_post(r < plane->reactor_count ? plane->reactors[r] : plane->control, &m->there);
    }
}

static struct iostat_work *work_make(struct rpc_call *call, size_t count_max, uint32_t reset) {
    static const enum block_stats_reset resets[] = {[RPC_STATS_RESET_ALL] = BLOCK_STATS_RESET_ALL,
                                                    [RPC_STATS_RESET_MAXMIN] = BLOCK_STATS_RESET_MAXMIN,
                                                    [RPC_STATS_RESET_ERROR] = BLOCK_STATS_RESET_ERROR,
                                                    [RPC_STATS_RESET_NONE] = BLOCK_STATS_RESET_NONE};
    struct iostat_work *work = calloc(1, sizeof(*work));
    struct iostat_item *items = calloc(max_u64(count_max, 1), sizeof(*items));
    if (work == NULL || items == NULL) {
        struct error error;
        free(work);
        free(items);
        error_set(&error, ERROR_NO_MEMORY, "no memory for the statistics");
        rpc_call_fail(call, &error);
        return NULL;
    }
    work->call = call;
    work->plane = plane_of(call);
    work->items = items;
    work->reset = resets[reset];
    work->reactor_count = work->plane->graph.reactor_count;
    return work;
}

static bool work_add(struct iostat_work *work, struct block_device *device, struct error *error) {
    struct iostat_item *item = &work->items[work->count];
    item->shares = calloc(work->reactor_count, sizeof(*item->shares));
    if (item->shares == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the statistics");
    item->handle.owner = "bdev_get_iostat";
    work->count++;
    return block_handle_open(&item->handle, device, BLOCK_MODE_READ, error);
}

/* All devices, or those named; answers the call and frees the work if one cannot be used. */
static bool work_add_all(struct iostat_work *work, const char *const *names, uint32_t name_count) {
    struct error error = {.code = ERROR_NONE};
    struct block_graph *graph = &work->plane->graph;
    bool ok = true;
    for (uint32_t i = 0; i < name_count && ok; i++) {
        struct block_device *device = plane_find_device(work->plane, names[i], &error);
        ok = device != NULL && work_add(work, device, &error);
    }
    for (struct block_device *device = NULL; name_count == 0 && ok && (device = block_graph_next(graph, device)) != NULL;)
        if (!device->removing)
            ok = work_add(work, device, &error);
    if (!ok) {
        struct rpc_call *call = work->call;
        work_free(work);
        rpc_call_fail(call, &error);
    }
    return ok;
}

void method_bdev_get_iostat(struct rpc_call *call, const struct params_bdev_get_iostat *params) {
    struct error error;
    if (params->per_channel && params->names.count != 1) {
        char number[24];
        error_invalid(&error, "names", methods_number(params->names.count, number), "exactly one with per_channel");
        rpc_call_fail(call, &error);
        return;
    }
    size_t count = params->names.count > 0 ? params->names.count : plane_of(call)->graph.device_count;
    struct iostat_work *work = work_make(call, count, params->reset_mode);
    if (work == NULL)
        return;
    work->per_channel = params->per_channel;
    if (work_add_all(work, params->names.items, params->names.count))
        work_run(work);
}

void method_bdev_reset_iostat(struct rpc_call *call, const struct params_bdev_reset_iostat *params) {
    struct iostat_work *work = work_make(call, params->name != NULL ? 1 : plane_of(call)->graph.device_count, params->mode);
    if (work == NULL)
        return;
    work->answer_true = true;
    if (work_add_all(work, &params->name, params->name != NULL))
        work_run(work);
}
