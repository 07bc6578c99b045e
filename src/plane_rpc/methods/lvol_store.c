/* Methods of volume stores. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "plane_rpc/methods/lvol.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

#define STORE_NAME_MAX 63 /* the dialect's */

struct plane_store *lvol_store_of(struct rpc_call *call, const char *uuid, const char *name) {
    struct error error;
    if ((uuid == NULL) == (name == NULL)) {
        error_invalid(&error, "lvs_name", uuid == NULL ? "absent" : name, "either uuid or lvs_name");
        rpc_call_fail(call, &error);
        return NULL;
    }
    struct plane_store *store = plane_store_find(plane_of(call), uuid != NULL ? uuid : name);
    if (store != NULL)
        return store;
    error_invalid(&error, uuid != NULL ? "uuid" : "lvs_name", uuid != NULL ? uuid : name, "a store of bdev_lvol_get_lvstores");
    error.code = ERROR_NO_DEVICE;
    rpc_call_fail(call, &error);
    return NULL;
}

/* ---- making ---- */

static void created(void *arg, struct plane_store *store, const struct error *error) {
    struct rpc_call *call = arg;
    char text[UUID_TEXT_SIZE];
    if (store != NULL) {
        uuid_format(&store->uuid, text);
        rpc_call_result_string(call, text);
    } else if (error->code == ERROR_NO_SPACE || error->code == ERROR_NO_MEMORY) {
        rpc_call_fail_late(call, error);
    } else {
        rpc_call_fail(call, error);
    }
}

static bool check_name(struct rpc_call *call, const char *field, const char *name, struct error *error) {
    if (!text_is_name(name, STORE_NAME_MAX))
        return error_invalid(error, field, name, "1 to %d printable characters without blanks and /", STORE_NAME_MAX);
    if (plane_store_find(plane_of(call), name) == NULL)
        return true;
    error_invalid(error, field, name, "a name that is not taken");
    error->code = ERROR_EXISTS;
    return false;
}

void method_bdev_lvol_create_lvstore(struct rpc_call *call, const struct params_bdev_lvol_create_lvstore *params) {
    struct error error;
    struct block_device *device = methods_device(call, params->bdev_name);
    if (device == NULL)
        return;
    char number[24];
    bool size_is_right = is_power_of_two(params->cluster_sz) && params->cluster_sz >= KIB(4) && params->cluster_sz <= GIB(1);
    if (!size_is_right)
        error_invalid(&error, "cluster_sz", methods_number(params->cluster_sz, number), "a power of two from 4096 to 1073741824");
    if (!size_is_right || !check_name(call, "lvs_name", params->lvs_name, &error)) {
        rpc_call_fail(call, &error);
        return;
    }
    struct volume_store_format format = {.name = params->lvs_name,
                                         .unit_bytes = params->cluster_sz,
                                         .force = params->force,
                                         .discard = params->clear_method == RPC_LVS_CLEAR_METHOD_UNMAP};
    plane_store_create(plane_of(call), device, &format, created, call);
}

/* ---- deleting: closed, then its superblocks are overwritten, so that it is not found again ---- */

struct destruction {
    struct rpc_call *call;
    struct block_handle handle;
    struct block_channel *channel;
    struct block_request request;
    char device[BLOCK_NAME_SIZE];
    unsigned step;
};

/* What a store keeps at the beginning of its disk: two superblocks, a cluster each (docs/volume-format.md). */
#define STORE_HEAD_BYTES KIB(128)

static void destroyed(struct destruction *destruction, const struct error *error) {
    if (destruction->channel != NULL)
        block_channel_close(destruction->channel);
    if (destruction->handle.device != NULL)
        block_handle_close(&destruction->handle);
    if (error == NULL)
        rpc_call_result_true(destruction->call);
    else
        rpc_call_fail_late(destruction->call, error);
    free(destruction);
}

static void head_written(struct block_request *request) {
    struct destruction *destruction = container_of(request, struct destruction, request);
    struct error error;
    if (request->status != IO_OK) {
        error_set(&error, ERROR_IO, "overwriting the superblocks of %s: %s", destruction->device,
                  io_status_words(request->status));
        destroyed(destruction, &error);
        return;
    }
    if (destruction->step++ > 0) {
        destroyed(destruction, NULL);
        return;
    }
    *request = (struct block_request){.op = BLOCK_FLUSH, .complete = head_written};
    block_submit(destruction->channel, request);
}

static void closed(void *arg, bool ok, const struct error *why) {
    struct destruction *destruction = arg;
    struct error error;
    (void)ok, (void)why; /* it goes anyway */
    struct block_device *device = block_graph_find(&plane_of(destruction->call)->graph, destruction->device);
    destruction->handle.owner = "the deletion of its store";
    if (device == NULL)
        error_set(&error, ERROR_NO_DEVICE, "%s went away meanwhile", destruction->device);
    if (device == NULL || !block_handle_open(&destruction->handle, device, BLOCK_MODE_CLAIM, &error)) {
        destruction->handle.device = NULL;
        destroyed(destruction, &error);
        return;
    }
    destruction->channel = block_channel_open(&destruction->handle);
    if (destruction->channel == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory to write to %s", destruction->device);
        destroyed(destruction, &error);
        return;
    }
    destruction->request = (struct block_request){.op = BLOCK_WRITE_ZEROES, .length = STORE_HEAD_BYTES, .complete = head_written};
    block_submit(destruction->channel, &destruction->request);
}

void method_bdev_lvol_delete_lvstore(struct rpc_call *call, const struct params_bdev_lvol_delete_lvstore *params) {
    struct plane_store *store = lvol_store_of(call, params->uuid, params->lvs_name);
    struct error error;
    if (store == NULL)
        return;
    struct destruction *destruction = calloc(1, sizeof(*destruction));
    if (destruction == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory");
        rpc_call_fail(call, &error);
        return;
    }
    destruction->call = call;
    snprintf(destruction->device, sizeof(destruction->device), "%s", store->base->name);
    if (!plane_store_close(store, closed, destruction, &error)) {
        rpc_call_fail(call, &error);
        free(destruction);
    }
}

/* ---- changing ---- */

static void renamed(struct lvol_call *lvol) {
    struct plane_store *store = plane_store_of(lvol->plane, lvol->command.store);
    if (store != NULL)
        snprintf(store->name, sizeof(store->name), "%s", lvol->command.name);
    rpc_call_result_true(lvol->call);
}

void method_bdev_lvol_rename_lvstore(struct rpc_call *call, const struct params_bdev_lvol_rename_lvstore *params) {
    struct error error;
    struct plane_store *store = plane_store_find(plane_of(call), params->old_name);
    if (store == NULL) {
        char message[BLOCK_NAME_SIZE + 32];
        snprintf(message, sizeof(message), "Lvol store %.*s not found", BLOCK_NAME_SIZE, params->old_name);
        error_invalid(&error, "old_name", params->old_name, "a store of bdev_lvol_get_lvstores");
        rpc_call_error(call, error_facts(ERROR_NOT_FOUND)->negative_errno, message, &error);
        return;
    }
    if (strcmp(params->old_name, params->new_name) != 0 && !check_name(call, "new_name", params->new_name, &error)) {
        rpc_call_fail_late(call, &error);
        return;
    }
    struct lvol_call *lvol = lvol_call_create_on(call, store, renamed);
    if (lvol == NULL)
        return;
    lvol->command.name = params->new_name;
    lvol_call_run(lvol, volume_store_rename);
}

void method_bdev_lvol_grow_lvstore(struct rpc_call *call, const struct params_bdev_lvol_grow_lvstore *params) {
    struct plane_store *store = lvol_store_of(call, params->uuid, params->lvs_name);
    struct lvol_call *lvol = store == NULL ? NULL : lvol_call_create_on(call, store, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_store_grow);
}
