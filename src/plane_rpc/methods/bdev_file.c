/* Methods of file devices, under the dialect's two names for them. */
#include <stdlib.h>

#include "blockdev/file/file.h"
#include "plane_rpc/examine.h"
#include "plane_rpc/methods/bdev_object.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

struct creation {
    struct file_device_create create;
    struct plane_examine examine;
    struct rpc_call *call;
};

static void answer_failure(struct rpc_call *call, bool is_uring, const struct error *error) {
    if (is_uring)
        rpc_call_error(call, JSONRPC_INTERNAL_ERROR, "Unable to create URING bdev.", error);
    else
        rpc_call_fail(call, error);
}

/* A store on it is open, or there is none: also a damaged one is reported elsewhere, the device itself is fine. */
static void examined(struct plane_examine *examine) {
    struct creation *creation = container_of(examine, struct creation, examine);
    struct rpc_call *call = creation->call;
    rpc_call_result_string(call, creation->create.options.name);
    free(creation);
}

static void created(struct file_device_create *create) {
    struct creation *creation = container_of(create, struct creation, create);
    struct rpc_call *call = creation->call;
    if (!create->ok) {
        answer_failure(call, create->options.called_uring, &create->error);
        free(creation);
        return;
    }
    creation->examine.done = examined;
    plane_examine_automatically(plane_of(call), create->device, &creation->examine);
}

static void create_device(struct rpc_call *call, const struct file_device_options *options) {
    struct plane *plane = plane_of(call);
    struct creation *creation = calloc(1, sizeof(*creation));
    struct error error;
    if (creation == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    else if (bdev_check_name(plane, options->name, &error)) {
        creation->call = call;
        creation->create.options = *options;
        creation->create.done = created;
        file_device_create_submit(&plane->graph, plane->control, &creation->create);
        return;
    }
    free(creation);
    answer_failure(call, options->called_uring, &error);
}

void method_bdev_aio_create(struct rpc_call *call, const struct params_bdev_aio_create *params) {
    struct file_device_options options = {.name = params->name,
                                          .path = params->filename,
                                          .uuid = params->uuid,
                                          .block_size = params->block_size,
                                          .read_only = params->readonly,
                                          .keep_space = params->has_fallocate && !params->fallocate};
    create_device(call, &options);
}

void method_bdev_uring_create(struct rpc_call *call, const struct params_bdev_uring_create *params) {
    struct file_device_options options = {.name = params->name,
                                          .path = params->filename,
                                          .uuid = params->uuid,
                                          .block_size = params->block_size,
                                          .called_uring = true};
    create_device(call, &options);
}

static void delete_device(struct rpc_call *call, const char *name) {
    struct block_device *device =
        methods_device_of(call, name, file_device_is, "a device of bdev_aio_create or bdev_uring_create");
    if (device != NULL)
        methods_remove_device(call, device, NULL);
}

static void rescan_device(struct rpc_call *call, const char *name) {
    struct error error;
    struct block_device *device =
        methods_device_of(call, name, file_device_is, "a device of bdev_aio_create or bdev_uring_create");
    if (device == NULL)
        return;
    if (file_device_rescan(device, &error))
        rpc_call_result_true(call);
    else
        rpc_call_fail(call, &error);
}

void method_bdev_aio_delete(struct rpc_call *call, const struct params_bdev_aio_delete *params) {
    delete_device(call, params->name);
}
void method_bdev_uring_delete(struct rpc_call *call, const struct params_bdev_uring_delete *params) {
    delete_device(call, params->name);
}
void method_bdev_aio_rescan(struct rpc_call *call, const struct params_bdev_aio_rescan *params) {
    rescan_device(call, params->name);
}
void method_bdev_uring_rescan(struct rpc_call *call, const struct params_bdev_uring_rescan *params) {
    rescan_device(call, params->name);
}

/* ---- making the file ---- */

struct file_making {
    struct host_file_open open;
    struct rpc_call *call;
};

static void file_made(struct host_file_open *open) {
    struct file_making *making = container_of(open, struct file_making, open);
    if (open->ok) {
        host_file_close(open->file);
        rpc_call_result_true(making->call);
    } else {
        rpc_call_fail(making->call, &open->error);
    }
    free(making);
}

void method_disk_create_file(struct rpc_call *call, const struct params_disk_create_file *params) {
    struct file_making *making = calloc(1, sizeof(*making));
    struct error error;
    if (making == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory to make %s", params->filename);
        rpc_call_fail(call, &error);
        return;
    }
    making->call = call;
    making->open = (struct host_file_open){
        .path = params->filename, .options = {.create = true, .create_size = params->size}, .done = file_made};
    host_file_open_submit(plane_of(call)->control->loop, &making->open);
}
