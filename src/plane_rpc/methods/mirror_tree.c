/* Methods of a mirror's tree: snapshots and size, changed on all legs at once. The mirror itself: mirror.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/rpc_methods.h"

#define PAIRS_MAX 64

struct tree_call {
    struct mirror_tree_command command;
    struct rpc_call *call;
    const char *pairs[2 * PAIRS_MAX]; /* texts of the call's document, which outlives the command */
};

static void put_layer(struct json_writer *writer, const struct replica_layers *tree, const struct replica_layer *layer) {
    char text[TEXT_TIME_SIZE];
    json_begin_object(writer, NULL);
    json_putf(writer, "name", "%.*s", (int)sizeof(layer->name), layer->name);
    json_putf(writer, "id", "%016" PRIx64, layer->id); /* readers of numbers stop at 63 bits */
    for (uint32_t i = 0; i < tree->count; i++)
        if (layer->parent != 0 && tree->layers[i].id == layer->parent)
            json_putf(writer, "parent", "%.*s", (int)sizeof(tree->layers[i].name), tree->layers[i].name);
    json_put_u64(writer, "size", layer->size);
    json_put_u64(writer, "used_bytes", layer->used);
    json_put_u64(writer, "children", layer->children);
    json_put_bool(writer, "under_head", layer->id == tree->head_parent);
    json_put_string(writer, "creation_time", text_format_time(layer->created_ns, text, sizeof(text)));
    json_end(writer);
}

static void answer_list(struct tree_call *tree) {
    const struct replica_layers *layers = tree->command.ret_layers;
    struct rpc_call *call = tree->call;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (uint32_t i = 0; i < layers->count; i++)
        put_layer(writer, layers, &layers->layers[i]);
    json_end(writer);
    free(tree->command.ret_layers);
    free(tree);
    rpc_call_end(call);
}

static void done(struct mirror_tree_command *command) {
    struct tree_call *tree = container_of(command, struct tree_call, command);
    if (command->ok && command->ret_layers != NULL) {
        answer_list(tree);
        return;
    }
    if (command->ok)
        rpc_call_result_true(tree->call);
    else
        rpc_call_fail(tree->call, &command->error);
    free(tree);
}

/* NULL, and the call is answered, if there is no such mirror or no memory. */
static struct tree_call *create(struct rpc_call *call, const char *name, enum replica_change what, const char *snapshot) {
    struct plane_mirror *mirror = mirror_find(call, name);
    struct tree_call *tree = NULL;
    struct error error;
    if (mirror == NULL)
        return NULL;
    if (mirror->deleting)
        error_set(&error, ERROR_BUSY, "%s is being deleted", mirror->name);
    else if ((tree = calloc(1, sizeof(*tree))) == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory");
    if (tree == NULL) {
        rpc_call_fail(call, &error);
        return NULL;
    }
    tree->call = call;
    tree->command = (struct mirror_tree_command){
        .device = mirror->device, .control = plane_of(call)->control, .what = what, .snapshot = snapshot, .done = done};
    return tree;
}

static void put_pairs(struct tree_call *tree, const struct rpc_pair *pairs, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        tree->pairs[2 * i] = pairs[i].key;
        tree->pairs[2 * i + 1] = pairs[i].value;
    }
    tree->command.pairs = tree->pairs;
    tree->command.pair_count = count;
}

void method_mirror_snapshot_create(struct rpc_call *call, const struct params_mirror_snapshot_create *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_SNAPSHOT, params->snapshot);
    if (tree == NULL)
        return;
    put_pairs(tree, params->attributes.items, params->attributes.count);
    mirror_tree_command(&tree->command);
}

void method_mirror_set_parents(struct rpc_call *call, const struct params_mirror_set_parents *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_UPON, NULL);
    if (tree == NULL)
        return;
    put_pairs(tree, params->parents.items, params->parents.count);
    mirror_tree_command(&tree->command);
}

void method_mirror_snapshot_delete(struct rpc_call *call, const struct params_mirror_snapshot_delete *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_DELETE, params->snapshot);
    if (tree != NULL)
        mirror_tree_command(&tree->command);
}

void method_mirror_snapshot_revert(struct rpc_call *call, const struct params_mirror_snapshot_revert *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_REVERT, params->snapshot);
    if (tree != NULL)
        mirror_tree_command(&tree->command);
}

void method_mirror_clear(struct rpc_call *call, const struct params_mirror_clear *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_REVERT, NULL);
    if (tree != NULL)
        mirror_tree_command(&tree->command);
}

void method_mirror_resize(struct rpc_call *call, const struct params_mirror_resize *params) {
    struct tree_call *tree = create(call, params->name, REPLICA_RESIZE, NULL);
    if (tree == NULL)
        return;
    tree->command.size_bytes = MIB(params->size_in_mib);
    mirror_tree_command(&tree->command);
}

void method_mirror_get_snapshots(struct rpc_call *call, const struct params_mirror_get_snapshots *params) {
    struct tree_call *tree = create(call, params->name, 0, NULL);
    if (tree != NULL)
        mirror_tree_command(&tree->command);
}
