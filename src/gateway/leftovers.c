/* ListLeftovers: what was made for volumes (its name says so) and belongs to none. All nodes are asked for their objects, then
 * for their volumes, and, if something is left over, for their objects again: what went meanwhile is none. Nothing is deleted
 * here. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/penstock/v1/volume.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "gateway/internal.h"

enum { ASK_MS = 5000, KINDS = 3, FOUND_MAX = 100000, TOLD_MAX = 1000 };

enum round { OBJECTS, VOLUMES, OBJECTS_AGAIN };

/* An object, or (kind NULL) what a volume says that it has. */
struct found {
    const char *kind; /* "replica" */
    char name[CONTROL_NAME_MAX + 1], node[FLEET_NODE_SIZE];
    size_t volume_length;
    bool there; /* the second time too */
};

struct question {
    struct gateway_ask ask;
    struct sweep *sweep;
    unsigned node;
};

struct sweep {
    struct grpc_call *call;
    struct gateway *gateway;
    enum round round;
    char nodes[FLEET_NODES_MAX * 2][FLEET_NODE_SIZE];
    char silent[FLEET_NODES_MAX * 2][256]; /* why; "" = it has told all */
    unsigned node_count, missing;
    struct question questions[FLEET_NODES_MAX * 2 * KINDS];
    unsigned question_count;
    struct found *objects, *owned;
    size_t object_count, owned_count, object_room, owned_room;
};

static struct found *add(struct found **list, size_t *count, size_t *room, const char *name, const char *node) {
    if (*count == *room) {
        size_t more = *room == 0 ? 64 : 2 * *room;
        struct found *grown = *room >= FOUND_MAX ? NULL : realloc(*list, more * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        *list = grown;
        *room = more;
    }
    struct found *found = &(*list)[(*count)++];
    *found = (struct found){.kind = NULL};
    snprintf(found->name, sizeof(found->name), "%s", name);
    snprintf(found->node, sizeof(found->node), "%s", node);
    return found;
}

static void hear_object(struct sweep *sweep, unsigned node, const char *name, const char *expected) {
    const char *kind;
    size_t length = fleet_volume_of(name, &kind);
    if (length == 0 || strcmp(kind, expected) != 0)
        return;
    if (sweep->round == OBJECTS_AGAIN) {
        for (size_t i = 0; i < sweep->object_count; i++)
            if (strcmp(sweep->objects[i].name, name) == 0 && strcmp(sweep->objects[i].node, sweep->nodes[node]) == 0)
                sweep->objects[i].there = true;
        return;
    }
    struct found *found = add(&sweep->objects, &sweep->object_count, &sweep->object_room, name, sweep->nodes[node]);
    if (found == NULL)
        return;
    found->kind = kind;
    found->volume_length = length;
}

static void own(struct sweep *sweep, const char *name, const char *node) {
    (void)add(&sweep->owned, &sweep->owned_count, &sweep->owned_room, name, node);
}

static void hear_volume(struct sweep *sweep, const Penstock__V1__Volume *volume) {
    struct fleet_record record = {.name = ""};
    char name[CONTROL_NAME_MAX + 1];
    snprintf(record.name, sizeof(record.name), "%s", volume->name);
    own(sweep, volume->name, volume->node); /* the volume itself */
    fleet_engine_name(&record, name);
    own(sweep, name, volume->node);
    fleet_frontend_name(&record, name);
    own(sweep, name, volume->node);
    for (size_t i = 0; i < volume->n_replicas; i++)
        own(sweep, volume->replicas[i]->name, volume->replicas[i]->node);
}

static void hear(struct sweep *sweep, unsigned node, const ProtobufCMessage *message) {
    const ProtobufCMessageDescriptor *is = message->descriptor;
    if (is == &spdkrpc__replica_list_response__descriptor) {
        const Spdkrpc__ReplicaListResponse *list = (const Spdkrpc__ReplicaListResponse *)message;
        for (size_t i = 0; i < list->n_replicas; i++)
            hear_object(sweep, node, list->replicas[i]->key, "replica");
    } else if (is == &spdkrpc__engine_list_response__descriptor) {
        const Spdkrpc__EngineListResponse *list = (const Spdkrpc__EngineListResponse *)message;
        for (size_t i = 0; i < list->n_engines; i++)
            hear_object(sweep, node, list->engines[i]->key, "engine");
    } else if (is == &spdkrpc__engine_frontend_list_response__descriptor) {
        const Spdkrpc__EngineFrontendListResponse *list = (const Spdkrpc__EngineFrontendListResponse *)message;
        for (size_t i = 0; i < list->n_engine_frontends; i++)
            hear_object(sweep, node, list->engine_frontends[i]->key, "frontend");
    } else {
        const Penstock__V1__ListVolumesResponse *list = (const Penstock__V1__ListVolumesResponse *)message;
        for (size_t i = 0; i < list->n_volumes; i++)
            hear_volume(sweep, list->volumes[i]);
    }
}

/* ---- judgement ---- */

/* `node` NULL: on any. */
static bool is_owned(const struct sweep *sweep, const char *name, size_t length, const char *node) {
    for (size_t i = 0; i < sweep->owned_count; i++)
        if (strncmp(sweep->owned[i].name, name, length) == 0 && sweep->owned[i].name[length] == '\0' &&
            (node == NULL || strcmp(sweep->owned[i].node, node) == 0))
            return true;
    return false;
}

static bool is_leftover(const struct sweep *sweep, const struct found *object) {
    bool any_silent = false;
    for (unsigned i = 0; i < sweep->node_count; i++)
        any_silent = any_silent || sweep->silent[i][0] != '\0';
    if (is_owned(sweep, object->name, strlen(object->name), object->node))
        return false;
    /* Its volume may be that of a node that does not tell. */
    return !any_silent || is_owned(sweep, object->name, object->volume_length, NULL);
}

static void answer(struct sweep *sweep) {
    Penstock__V1__ListLeftoversResponse message = PENSTOCK__V1__LIST_LEFTOVERS_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    message.leftovers = gateway_scratch_take(&scratch, TOLD_MAX, sizeof(*message.leftovers));
    message.silent = gateway_scratch_take(&scratch, sweep->node_count, sizeof(*message.silent));
    for (size_t i = 0; i < sweep->object_count && message.n_leftovers < TOLD_MAX; i++) {
        struct found *object = &sweep->objects[i];
        if (!object->there || !is_leftover(sweep, object))
            continue;
        Penstock__V1__Leftover *leftover = gateway_scratch_take(&scratch, 1, sizeof(*leftover));
        char *volume = gateway_scratch_take(&scratch, 1, CONTROL_NAME_MAX + 1);
        penstock__v1__leftover__init(leftover);
        memcpy(volume, object->name, object->volume_length);
        leftover->kind = (char *)object->kind;
        leftover->name = object->name;
        leftover->node = object->node;
        leftover->volume = volume;
        message.leftovers[message.n_leftovers++] = leftover;
    }
    for (unsigned i = 0; i < sweep->node_count; i++)
        if (sweep->silent[i][0] != '\0')
            message.silent[message.n_silent++] = sweep->silent[i];
    grpc_call_reply(sweep->call, &message.base);
    gateway_scratch_free(&scratch);
    free(sweep->objects);
    free(sweep->owned);
    free(sweep);
}

/* ---- rounds ---- */

static void begin_round(struct sweep *sweep);

static void round_over(struct sweep *sweep) {
    bool any = false;
    for (size_t i = 0; i < sweep->object_count; i++)
        any = any || is_leftover(sweep, &sweep->objects[i]);
    if (sweep->round == OBJECTS_AGAIN || (sweep->round == VOLUMES && !any) || sweep->gateway->stopping) {
        answer(sweep);
        return;
    }
    sweep->round++;
    begin_round(sweep);
}

static void told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct question *question = container_of(ask, struct question, ask);
    struct sweep *sweep = question->sweep;
    char node[FLEET_NODE_SIZE];
    fleet_copy(node, sizeof(node), sweep->nodes[question->node]);
    if (message != NULL)
        hear(sweep, question->node, message);
    else
        snprintf(sweep->silent[question->node], sizeof(sweep->silent[0]), "%.47s: %.200s", node, ask->text);
    if (--sweep->missing == 0)
        round_over(sweep);
}

static void ask_all(struct sweep *sweep, const char *method, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *receives) {
    for (unsigned i = 0; i < sweep->node_count; i++) {
        struct question *question = &sweep->questions[sweep->question_count++];
        *question = (struct question){.sweep = sweep, .node = i, .ask.done = told};
        sweep->missing++;
        gateway_ask_node(sweep->gateway, &question->ask, sweep->nodes[i], method, request, receives, ASK_MS);
    }
}

static void begin_round(struct sweep *sweep) {
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    Penstock__V1__ListVolumesRequest volumes = PENSTOCK__V1__LIST_VOLUMES_REQUEST__INIT;
    sweep->question_count = 0;
    if (sweep->round == VOLUMES) {
        ask_all(sweep, "/" GATEWAY_VOLUME_SERVICE "/ListVolumes", &volumes.base,
                &penstock__v1__list_volumes_response__descriptor);
        return;
    }
    ask_all(sweep, "ReplicaList", &empty.base, &spdkrpc__replica_list_response__descriptor);
    ask_all(sweep, "EngineList", &empty.base, &spdkrpc__engine_list_response__descriptor);
    ask_all(sweep, "EngineFrontendList", &empty.base, &spdkrpc__engine_frontend_list_response__descriptor);
}

static void add_node(struct sweep *sweep, const char *node) {
    for (unsigned i = 0; i < sweep->node_count; i++)
        if (strcmp(sweep->nodes[i], node) == 0)
            return;
    if (sweep->node_count < array_count(sweep->nodes))
        fleet_copy(sweep->nodes[sweep->node_count++], FLEET_NODE_SIZE, node);
}

void gateway_list_leftovers(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__ListLeftoversRequest *asked = (const Penstock__V1__ListLeftoversRequest *)message;
    struct gateway *gateway = gateway_of(call);
    for (size_t i = 0; i < asked->n_nodes; i++)
        if (strlen(asked->nodes[i]) >= FLEET_NODE_SIZE || i >= FLEET_NODES_MAX) {
            grpc_call_endf(call, GRPC_INVALID_ARGUMENT, "nodes is '%.60s': expected at most %d numeric addresses",
                           asked->nodes[i], FLEET_NODES_MAX);
            return;
        }
    struct sweep *sweep = gateway->stopping ? NULL : calloc(1, sizeof(*sweep));
    if (sweep == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    char known[FLEET_NODES_MAX][FLEET_NODE_SIZE];
    unsigned count = fleet_nodes(gateway->options.fleet, known, FLEET_NODES_MAX);
    sweep->call = call;
    sweep->gateway = gateway;
    for (unsigned i = 0; i < count; i++)
        add_node(sweep, known[i]);
    for (size_t i = 0; i < asked->n_nodes; i++)
        add_node(sweep, asked->nodes[i]);
    begin_round(sweep);
}
