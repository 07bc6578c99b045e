/* Methods of volumes. Those of stores: lvol_store.c. Listings: lvol_list.c. */
#include "plane_rpc/methods/lvol.h"

#include <stdlib.h>

#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

/* ---- running commands ---- */

static void command_done(struct volume_command *command) {
    struct lvol_call *lvol = container_of(command, struct lvol_call, command);
    if (command->ok)
        lvol->answer(lvol);
    else if (command->error.code == ERROR_EXISTS && command->size_bytes != 0 && command->device == NULL)
        rpc_call_fail(lvol->call, &command->error); /* the dialect: a creation's name is looked at before the work begins */
    else
        rpc_call_fail_late(lvol->call, &command->error);
    free(lvol);
}

struct lvol_call *lvol_call_create_on(struct rpc_call *call, struct plane_store *store, void (*answer)(struct lvol_call *lvol)) {
    struct lvol_call *lvol = calloc(1, sizeof(*lvol));
    if (lvol == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory for the command");
        rpc_call_fail(call, &error);
        return NULL;
    }
    *lvol = (struct lvol_call){
        .call = call, .plane = plane_of(call), .answer = answer, .command = {.store = store->store, .done = command_done}};
    return lvol;
}

struct lvol_call *lvol_call_create(struct rpc_call *call, const char *volume, void (*answer)(struct lvol_call *lvol)) {
    struct block_device *device = methods_device_of(call, volume, volume_device_is, "a volume or snapshot");
    if (device == NULL)
        return NULL;
    struct plane_store *store = plane_store_of(plane_of(call), volume_device_store(device));
    assert(store != NULL);
    struct lvol_call *lvol = lvol_call_create_on(call, store, answer);
    if (lvol != NULL)
        lvol->command.volume = device->uuid;
    return lvol;
}

void lvol_call_run(struct lvol_call *lvol, void (*command)(struct volume_command *command)) { command(&lvol->command); }

void lvol_answer_true(struct lvol_call *lvol) { rpc_call_result_true(lvol->call); }

void lvol_answer_uuid(struct lvol_call *lvol) {
    char text[UUID_TEXT_SIZE];
    uuid_format(&lvol->command.ret_uuid, text);
    rpc_call_result_string(lvol->call, text);
}

/* ---- volumes ---- */

void method_bdev_lvol_create(struct rpc_call *call, const struct params_bdev_lvol_create *params) {
    struct plane_store *store = lvol_store_of(call, params->uuid, params->lvs_name);
    struct lvol_call *lvol = store == NULL ? NULL : lvol_call_create_on(call, store, lvol_answer_uuid);
    if (lvol == NULL)
        return;
    lvol->command.name = params->lvol_name;
    lvol->command.size_bytes = params->size_in_mib * MIB(1);
    lvol->command.thick = !params->thin_provision;
    lvol_call_run(lvol, volume_create);
}

void method_bdev_lvol_delete(struct rpc_call *call, const struct params_bdev_lvol_delete *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_delete);
}

void method_bdev_lvol_snapshot(struct rpc_call *call, const struct params_bdev_lvol_snapshot *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->lvol_name, lvol_answer_uuid);
    if (lvol == NULL)
        return;
    static_assert(sizeof(struct rpc_pair) == 2 * sizeof(char *), "pairs are what the store takes: key, value, …");
    lvol->command.name = params->snapshot_name;
    lvol->command.pairs = params->xattrs.items;
    lvol->command.pair_count = params->xattrs.count;
    lvol_call_run(lvol, volume_snapshot_create);
}

void method_bdev_lvol_clone(struct rpc_call *call, const struct params_bdev_lvol_clone *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->snapshot_name, lvol_answer_uuid);
    if (lvol == NULL)
        return;
    lvol->command.name = params->clone_name;
    lvol_call_run(lvol, volume_clone);
}

void method_bdev_lvol_rename(struct rpc_call *call, const struct params_bdev_lvol_rename *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->old_name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.name = params->new_name;
    lvol_call_run(lvol, volume_rename);
}

void method_bdev_lvol_resize(struct rpc_call *call, const struct params_bdev_lvol_resize *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.size_bytes = params->size_in_mib * MIB(1);
    lvol_call_run(lvol, volume_resize);
}

void method_bdev_lvol_set_read_only(struct rpc_call *call, const struct params_bdev_lvol_set_read_only *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_set_read_only);
}

void method_bdev_lvol_inflate(struct rpc_call *call, const struct params_bdev_lvol_inflate *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_inflate);
}

void method_bdev_lvol_decouple_parent(struct rpc_call *call, const struct params_bdev_lvol_decouple_parent *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_decouple);
}

void method_bdev_lvol_set_parent(struct rpc_call *call, const struct params_bdev_lvol_set_parent *params) {
    struct block_device *parent = methods_device_of(call, params->parent_name, volume_device_is, "a snapshot");
    struct lvol_call *lvol = parent == NULL ? NULL : lvol_call_create(call, params->lvol_name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.snapshot = parent->uuid;
    lvol_call_run(lvol, volume_parent_set);
}

void method_bdev_lvol_set_parent_bdev(struct rpc_call *call, const struct params_bdev_lvol_set_parent_bdev *params) {
    struct block_device *parent = methods_device(call, params->parent_name);
    struct lvol_call *lvol = parent == NULL ? NULL : lvol_call_create(call, params->lvol_name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.device = parent;
    lvol_call_run(lvol, volume_parent_set_device);
}

void method_bdev_lvol_clone_bdev(struct rpc_call *call, const struct params_bdev_lvol_clone_bdev *params) {
    struct plane *plane = plane_of(call);
    struct plane_store *store = plane_store_find(plane, params->lvs_name);
    struct block_device *device = block_graph_find(&plane->graph, params->bdev);
    const char *wrong = store == NULL || store->store == NULL ? "lvs does not exist"
                        : device == NULL                      ? "bdev does not exist"
                        : volume_device_is(device) && volume_device_store(device) == store->store
                            ? "bdev is an lvol in same lvs as clone; use bdev_lvol_clone instead"
                            : NULL;
    if (wrong != NULL) {
        rpc_call_error(call, -32602, wrong, NULL);
        return;
    }
    struct lvol_call *lvol = lvol_call_create_on(call, store, lvol_answer_uuid);
    if (lvol == NULL)
        return;
    lvol->command.device = device;
    lvol->command.name = params->clone_name;
    lvol_call_run(lvol, volume_clone_device);
}

void method_bdev_lvol_detach_parent(struct rpc_call *call, const struct params_bdev_lvol_detach_parent *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol != NULL)
        lvol_call_run(lvol, volume_parent_detach);
}

void method_volume_revert(struct rpc_call *call, const struct params_volume_revert *params) {
    struct block_device *snapshot = methods_device_of(call, params->snapshot, volume_device_is, "a snapshot");
    struct lvol_call *lvol = snapshot == NULL ? NULL : lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.snapshot = snapshot->uuid;
    lvol_call_run(lvol, volume_revert);
}

/* ---- attributes ---- */

void method_bdev_lvol_set_xattr(struct rpc_call *call, const struct params_bdev_lvol_set_xattr *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, lvol_answer_true);
    if (lvol == NULL)
        return;
    lvol->command.name = params->xattr_name;
    lvol->command.value = params->xattr_value;
    lvol_call_run(lvol, volume_attribute_set);
}

static void answer_text(struct lvol_call *lvol) {
    rpc_call_result_string(lvol->call, lvol->command.ret_text);
    free(lvol->command.ret_text);
}

void method_bdev_lvol_get_xattr(struct rpc_call *call, const struct params_bdev_lvol_get_xattr *params) {
    struct lvol_call *lvol = lvol_call_create(call, params->name, answer_text);
    if (lvol == NULL)
        return;
    lvol->command.name = params->xattr_name;
    lvol_call_run(lvol, volume_attribute_get);
}
