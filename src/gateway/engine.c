/* Engines, their snapshots and replicas. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/snapshot.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

#define CLUSTER MIB(1) /* of sizes on the wire, whatever the store uses */
enum { ASK_MS = 5000 };

/* ---- its tree ---- */

static char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return (char *)(text == NULL ? "" : text);
}

static uint64_t number_of(const json_t *object, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void add_child(Spdkrpc__Lvol *lvol, const char *name, size_t capacity, struct gateway_scratch *scratch) {
    if (lvol->children == NULL)
        lvol->children = gateway_scratch_take(scratch, capacity, sizeof(*lvol->children));
    Spdkrpc__Lvol__ChildrenEntry *entry = gateway_scratch_take(scratch, 1, sizeof(*entry));
    spdkrpc__lvol__children_entry__init(entry);
    entry->key = (char *)name;
    entry->value = 1;
    lvol->children[lvol->n_children++] = entry;
}

static Spdkrpc__Lvol *put_snapshot(const json_t *snapshot, const json_t *tree, struct gateway_scratch *scratch) {
    Spdkrpc__Lvol *lvol = gateway_scratch_take(scratch, 1, sizeof(*lvol));
    size_t i, room = json_array_size(tree) + 1;
    const json_t *other;
    spdkrpc__lvol__init(lvol);
    lvol->name = text_of(snapshot, "name");
    lvol->spec_size = number_of(snapshot, "size");
    lvol->actual_size = divide_up(number_of(snapshot, "used_bytes"), CLUSTER) * CLUSTER;
    lvol->parent = text_of(snapshot, "parent");
    lvol->creation_time = text_of(snapshot, "creation_time");
    json_array_foreach(tree, i, other) if (strcmp(text_of(other, "parent"), lvol->name) == 0)
        add_child(lvol, text_of(other, "name"), room, scratch);
    if (json_is_true(json_object_get(snapshot, "under_head")))
        add_child(lvol, NAMES_HEAD, room, scratch);
    return lvol;
}

static void add_snapshot(Spdkrpc__Engine *answer, char *name, Spdkrpc__Lvol *lvol, struct gateway_scratch *scratch) {
    Spdkrpc__Engine__SnapshotsEntry *entry = gateway_scratch_take(scratch, 1, sizeof(*entry));
    spdkrpc__engine__snapshots_entry__init(entry);
    entry->key = name;
    entry->value = lvol;
    answer->snapshots[answer->n_snapshots++] = entry;
}

/* As the mirror tells it: all that is the same on every replica. */
static void put_tree(Spdkrpc__Engine *answer, const struct observed_mirror *mirror, struct gateway_scratch *scratch) {
    size_t i;
    const json_t *snapshot;
    answer->head = gateway_scratch_take(scratch, 1, sizeof(*answer->head));
    spdkrpc__lvol__init(answer->head);
    answer->head->name = (char *)NAMES_HEAD;
    answer->head->spec_size = mirror->bytes;
    answer->snapshots = gateway_scratch_take(scratch, json_array_size(mirror->tree), sizeof(*answer->snapshots));
    json_array_foreach(mirror->tree, i, snapshot) {
        Spdkrpc__Lvol *lvol = put_snapshot(snapshot, mirror->tree, scratch);
        if (json_is_true(json_object_get(snapshot, "under_head")))
            answer->head->parent = lvol->name;
        add_snapshot(answer, lvol->name, lvol, scratch);
    }
}

/* One of its replicas that is whole and on this node knows more: attributes, and what the head takes. */
static const struct control_replica *find_here(const struct gateway *gateway, const struct control_engine *engine) {
    const char *address = gateway->options.address;
    for (unsigned i = 0; i < engine->record.leg_count; i++) {
        const struct control_leg_record *leg = &engine->record.legs[i];
        const struct control_replica *replica = control_find_replica(gateway->options.control, leg->name);
        const char *ip = leg->address[0] == '[' ? leg->address + 1 : leg->address;
        if (engine->legs[i].mode == CONTROL_LEG_RW && replica != NULL && strncmp(ip, address, strlen(address)) == 0)
            return replica;
    }
    return NULL;
}

static void put_tree_of(Spdkrpc__Engine *answer, const Spdkrpc__Replica *replica, struct gateway_scratch *scratch) {
    answer->head = replica->head;
    answer->snapshots = gateway_scratch_take(scratch, replica->n_snapshots, sizeof(*answer->snapshots));
    for (size_t i = 0; i < replica->n_snapshots; i++)
        add_snapshot(answer, replica->snapshots[i]->key, replica->snapshots[i]->value, scratch);
}

/* ---- an engine as a message ---- */

static void put_legs(Spdkrpc__Engine *answer, const struct control_engine *engine, struct gateway_scratch *scratch) {
    static const Spdkrpc__ReplicaMode modes[] = {[CONTROL_LEG_WO] = SPDKRPC__REPLICA_MODE__WO,
                                                 [CONTROL_LEG_RW] = SPDKRPC__REPLICA_MODE__RW,
                                                 [CONTROL_LEG_ERR] = SPDKRPC__REPLICA_MODE__ERR};
    unsigned count = engine->record.leg_count;
    answer->replica_address_map = gateway_scratch_take(scratch, count, sizeof(*answer->replica_address_map));
    answer->replica_mode_map = gateway_scratch_take(scratch, count, sizeof(*answer->replica_mode_map));
    for (unsigned i = 0; i < count; i++) {
        if (engine->record.legs[i].adding) /* it may never come */
            continue;
        Spdkrpc__Engine__ReplicaAddressMapEntry *address = gateway_scratch_take(scratch, 1, sizeof(*address));
        Spdkrpc__Engine__ReplicaModeMapEntry *mode = gateway_scratch_take(scratch, 1, sizeof(*mode));
        spdkrpc__engine__replica_address_map_entry__init(address);
        spdkrpc__engine__replica_mode_map_entry__init(mode);
        address->key = mode->key = (char *)engine->record.legs[i].name;
        address->value = (char *)engine->record.legs[i].address;
        mode->value = modes[engine->legs[i].mode];
        answer->replica_address_map[answer->n_replica_address_map++] = address;
        answer->replica_mode_map[answer->n_replica_mode_map++] = mode;
    }
}

static Spdkrpc__Engine *put_engine(const struct gateway *gateway, const struct control_engine *engine,
                                   struct gateway_scratch *scratch) {
    const struct control_engine_record *record = &engine->record;
    const struct observation *seen = control_seen(gateway->options.control);
    const struct observed_mirror *mirror = seen == NULL ? NULL : observed_mirror(seen, record->name);
    const struct control_replica *here = find_here(gateway, engine);
    Spdkrpc__Engine *answer = gateway_scratch_take(scratch, 1, sizeof(*answer));
    spdkrpc__engine__init(answer);
    answer->name = (char *)record->name;
    answer->volume_name = (char *)record->volume;
    answer->spec_size = mirror != NULL && mirror->bytes != 0 ? mirror->bytes : record->bytes;
    if (control_engine_is_offered(record)) {
        answer->ip = (char *)gateway->options.address;
        answer->port = record->port;
    }
    put_legs(answer, engine, scratch);
    if (here != NULL)
        put_tree_of(answer, gateway_put_replica(gateway, here, scratch), scratch);
    else if (mirror != NULL)
        put_tree(answer, mirror, scratch);
    for (size_t i = 0; i < answer->n_snapshots; i++)
        answer->actual_size += answer->snapshots[i]->value->actual_size;
    answer->actual_size += answer->head != NULL ? answer->head->actual_size : 0;
    answer->frontend = (char *)record->frontend;
    answer->state = (char *)control_state_name(engine->state);
    answer->error_msg = (char *)engine->reason;
    answer->is_expanding = engine->expanding;
    answer->last_expansion_error = (char *)record->expansion_failure;
    answer->last_expansion_failed_at = (char *)record->expansion_failed_at;
    answer->snapshot_max_count = (int32_t)record->snapshot_max;
    return answer;
}

static void answer_engine(struct grpc_call *call, const char *name) {
    const struct control_engine *engine = control_find_engine(gateway_of(call)->options.control, name);
    struct gateway_scratch scratch = {0};
    if (engine == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine '%s'", name);
        return;
    }
    grpc_call_reply(call, &put_engine(gateway_of(call), engine, &scratch)->base);
    gateway_scratch_free(&scratch);
}

/* ---- calls ---- */

static void answer_named(struct gateway_pending *pending) { answer_engine(pending->call, pending->goal.name); }

/* False: the call was ended. */
static bool take_leg(struct gateway_pending *pending, const char *name, const char *address) {
    struct control_leg_record *leg = &pending->legs[pending->goal.leg_count];
    bool fits =
        pending->goal.leg_count < CONTROL_LEGS_MAX && strlen(name) < sizeof(leg->name) && strlen(address) < sizeof(leg->address);
    if (!fits) {
        grpc_call_endf(
            pending->call, GRPC_INVALID_ARGUMENT,
            "replica '%.80s' at '%.80s': expected at most %d of them, with names of at most %d bytes and addresses IP:PORT", name,
            address, CONTROL_LEGS_MAX, CONTROL_NAME_MAX);
        free(pending);
        return false;
    }
    snprintf(leg->name, sizeof(leg->name), "%s", name);
    snprintf(leg->address, sizeof(leg->address), "%s", address);
    pending->goal.legs = pending->legs;
    pending->goal.leg_count++;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct control_leg_record *)a)->name, ((const struct control_leg_record *)b)->name);
}

void gateway_engine_create(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineCreateRequest *request = (const Spdkrpc__EngineCreateRequest *)message;
    if (request->data_layout_type == SPDKRPC__DATA_LAYOUT_TYPE__DATA_LAYOUT_TYPE_SHARDED) {
        grpc_call_end(call, GRPC_UNIMPLEMENTED, "EngineCreate: volumes of shards are not offered");
        return;
    }
    if (request->data_layout_type != SPDKRPC__DATA_LAYOUT_TYPE__DATA_LAYOUT_TYPE_REPLICATED) {
        grpc_call_end(call, GRPC_INVALID_ARGUMENT, "data_layout_type is unknown: expected DATA_LAYOUT_TYPE_REPLICATED");
        return;
    }
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_CREATE, request->name, answer_named);
    if (pending == NULL)
        return;
    for (size_t i = 0; i < request->n_replica_address_map; i++)
        if (!take_leg(pending, request->replica_address_map[i]->key, request->replica_address_map[i]->value))
            return;
    qsort(pending->legs, pending->goal.leg_count, sizeof(pending->legs[0]), by_name); /* maps have no order */
    pending->goal.volume = request->volume_name;
    pending->goal.bytes = request->spec_size;
    pending->goal.frontend = request->frontend;
    pending->goal.salvage = request->salvage_requested != 0;
    pending->goal.snapshot_max = request->snapshot_max_count;
    gateway_start(pending);
}

void gateway_engine_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineDeleteRequest *request = (const Spdkrpc__EngineDeleteRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_DELETE, request->name, gateway_answer_empty);
    if (pending != NULL)
        gateway_start(pending);
}

static void answer_get(struct grpc_call *call, const ProtobufCMessage *message) {
    answer_engine(call, ((const Spdkrpc__EngineGetRequest *)message)->name);
}

void gateway_engine_get(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, ((const Spdkrpc__EngineGetRequest *)message)->name, answer_get);
}

static void answer_list(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    struct control *control = gateway_of(call)->options.control;
    Spdkrpc__EngineListResponse answer = SPDKRPC__ENGINE_LIST_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    size_t count = 0;
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node)
        count += object->kind == CONTROL_ENGINES;
    answer.engines = gateway_scratch_take(&scratch, count, sizeof(*answer.engines));
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node) {
        const struct control_engine *engine = container_of(object, struct control_engine, object);
        Spdkrpc__EngineListResponse__EnginesEntry *entry = gateway_scratch_take(&scratch, 1, sizeof(*entry));
        spdkrpc__engine_list_response__engines_entry__init(entry);
        entry->key = (char *)engine->record.name;
        entry->value = put_engine(gateway_of(call), engine, &scratch);
        answer.engines[answer.n_engines++] = entry;
    }
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

void gateway_engine_list(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, "", answer_list);
}

void gateway_engine_expand(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineExpandRequest *request = (const Spdkrpc__EngineExpandRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_EXPAND, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->goal.bytes = request->size;
    gateway_start(pending);
}

static void answer_precheck(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineExpandPrecheckRequest *request = (const Spdkrpc__EngineExpandPrecheckRequest *)message;
    struct control *control = gateway_of(call)->options.control;
    const struct control_engine *engine = control_find_engine(control, request->name);
    const struct observed_mirror *mirror =
        control_seen(control) == NULL ? NULL : observed_mirror(control_seen(control), request->name);
    Spdkrpc__EngineExpandPrecheckResponse answer = SPDKRPC__ENGINE_EXPAND_PRECHECK_RESPONSE__INIT;
    if (engine == NULL) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine '%s'", request->name);
        return;
    }
    answer.expansion_required = request->size > (mirror != NULL ? mirror->bytes : engine->record.bytes);
    grpc_call_reply(call, &answer.base);
}

void gateway_engine_expand_precheck(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_refresh(call, message, ((const Spdkrpc__EngineExpandPrecheckRequest *)message)->name, answer_precheck);
}

void gateway_engine_set_ana(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineSetTargetListenerANAStateRequest *request =
        (const Spdkrpc__EngineSetTargetListenerANAStateRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_ANA, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->goal.ana = request->ana_state;
    gateway_start(pending);
}

/* ---- snapshots ---- */

static void answer_snapshot(struct gateway_pending *pending) {
    Spdkrpc__SnapshotResponse answer = SPDKRPC__SNAPSHOT_RESPONSE__INIT;
    answer.snapshot_name = (char *)pending->goal.snapshot;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_engine_snapshot_create(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_ENGINE_SNAPSHOT_CREATE, answer_snapshot);
}
void gateway_engine_snapshot_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_ENGINE_SNAPSHOT_DELETE, gateway_answer_empty);
}
void gateway_engine_snapshot_revert(struct grpc_call *call, const ProtobufCMessage *message) {
    gateway_snapshot_call(call, message, CONTROL_ENGINE_SNAPSHOT_REVERT, gateway_answer_empty);
}

void gateway_engine_snapshot_max_count_set(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineSnapshotMaxCountSetRequest *request = (const Spdkrpc__EngineSnapshotMaxCountSetRequest *)message;
    struct gateway_pending *pending =
        gateway_pend(call, message, CONTROL_ENGINE_SNAPSHOT_MAX, request->name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->goal.snapshot_max = request->count;
    gateway_start(pending);
}

/* ---- replicas ---- */

void gateway_engine_replica_add(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineReplicaAddRequest *request = (const Spdkrpc__EngineReplicaAddRequest *)message;
    if ((request->engine_frontend_name[0] == '\0') != (request->engine_frontend_address[0] == '\0')) {
        grpc_call_end(call, GRPC_INVALID_ARGUMENT,
                      "engine_frontend_name and engine_frontend_address: expected both of them, or neither");
        return;
    }
    struct gateway_pending *pending =
        gateway_pend(call, message, CONTROL_ENGINE_REPLICA_ADD, request->engine_name, gateway_answer_added);
    if (pending == NULL || !take_leg(pending, request->replica_name, request->replica_address))
        return;
    pending->failed = gateway_rebuild_by_calls;
    gateway_start(pending);
}

/* One whose rebuilding had not come to its end leaves something at its node, and at the source's. */
static void answer_taken_away(struct gateway_pending *pending) {
    const struct control_leg_record *leg = &pending->goal.leg_meant;
    if (leg->filling)
        gateway_rebuild_over(gateway_of(pending->call), pending->goal.name, leg);
    gateway_answer_empty(pending);
}

void gateway_engine_replica_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineReplicaDeleteRequest *request = (const Spdkrpc__EngineReplicaDeleteRequest *)message;
    struct gateway_pending *pending =
        gateway_pend(call, message, CONTROL_ENGINE_REPLICA_DELETE, request->engine_name, answer_taken_away);
    if (pending == NULL || !take_leg(pending, request->replica_name, request->replica_address))
        return;
    pending->plain_errors = true;
    gateway_start(pending);
}

/* ---- the list of its replicas: each node is asked for its own ---- */

struct replica_list {
    struct grpc_call *call;
    struct replica_question {
        struct gateway_ask ask;
        struct replica_list *list;
        char name[CONTROL_NAME_MAX + 1], failure[256];
        uint8_t *bytes; /* its Replica */
        size_t length;
    } questions[CONTROL_LEGS_MAX];
    unsigned count, missing;
};

/* One that does not answer is there all the same, and says so. */
static Spdkrpc__Replica *put_answer(struct replica_question *question, struct gateway_scratch *scratch) {
    Spdkrpc__Replica *replica;
    if (question->bytes != NULL) {
        replica = spdkrpc__replica__unpack(NULL, question->length, question->bytes);
        assert(replica != NULL); /* it was packed here */
        return replica;
    }
    replica = gateway_scratch_take(scratch, 1, sizeof(*replica));
    spdkrpc__replica__init(replica);
    replica->name = question->name;
    replica->state = (char *)"error";
    replica->error_msg = question->failure;
    return replica;
}

static void list_answered(struct replica_list *list) {
    Spdkrpc__EngineReplicaListResponse answer = SPDKRPC__ENGINE_REPLICA_LIST_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    answer.replicas = gateway_scratch_take(&scratch, list->count, sizeof(*answer.replicas));
    for (unsigned i = 0; i < list->count; i++) {
        Spdkrpc__EngineReplicaListResponse__ReplicasEntry *entry = gateway_scratch_take(&scratch, 1, sizeof(*entry));
        spdkrpc__engine_replica_list_response__replicas_entry__init(entry);
        entry->key = list->questions[i].name;
        entry->value = put_answer(&list->questions[i], &scratch);
        answer.replicas[answer.n_replicas++] = entry;
    }
    grpc_call_reply(list->call, &answer.base);
    for (unsigned i = 0; i < list->count; i++) {
        if (list->questions[i].bytes != NULL)
            spdkrpc__replica__free_unpacked(answer.replicas[i]->value, NULL);
        free(list->questions[i].bytes);
    }
    gateway_scratch_free(&scratch);
    free(list);
}

static void replica_told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct replica_question *question = container_of(ask, struct replica_question, ask);
    if (message != NULL) {
        question->length = protobuf_c_message_get_packed_size(message);
        question->bytes = malloc(question->length + 1);
        assert(question->bytes != NULL);
        protobuf_c_message_pack(message, question->bytes);
    } else {
        snprintf(question->failure, sizeof(question->failure), "its node does not tell: %.200s", ask->text);
    }
    if (--question->list->missing == 0)
        list_answered(question->list);
}

void gateway_engine_replica_list(struct grpc_call *call, const ProtobufCMessage *message) {
    const char *name = ((const Spdkrpc__EngineReplicaListRequest *)message)->engine_name;
    const struct control_engine *engine = control_find_engine(gateway_of(call)->options.control, name);
    struct replica_list *list = engine == NULL || gateway_of(call)->stopping ? NULL : calloc(1, sizeof(*list));
    if (list == NULL) {
        grpc_call_endf(call, engine == NULL ? GRPC_NOT_FOUND : GRPC_UNAVAILABLE, "there is no engine '%s'", name);
        return;
    }
    list->call = call;
    list->count = engine->record.leg_count;
    list->missing = list->count + 1; /* this loop */
    for (unsigned i = 0; i < list->count; i++) {
        struct replica_question *question = &list->questions[i];
        Spdkrpc__ReplicaGetRequest get = SPDKRPC__REPLICA_GET_REQUEST__INIT;
        question->list = list;
        question->ask.done = replica_told;
        snprintf(question->name, sizeof(question->name), "%s", engine->record.legs[i].name);
        get.name = question->name;
        gateway_ask(gateway_of(call), &question->ask, engine->record.legs[i].address, "ReplicaGet", &get.base,
                    &spdkrpc__replica__descriptor, ASK_MS);
    }
    if (--list->missing == 0)
        list_answered(list);
}
