/* penstock.v1.NodeService: what the node says of itself. */
#include "api/proto/penstock/v1/node.pb-c.h"
#include "gateway/internal.h"

static uint32_t count_replicas(const struct control *control, const char *disk) {
    uint32_t count = 0;
    list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node)
        count += strcmp(container_of(object, struct control_replica, object)->record.disk, disk) == 0;
    return count;
}

static Penstock__V1__Disk *put_disk(const struct control *control, const struct control_disk *disk,
                                    struct gateway_scratch *scratch) {
    Penstock__V1__Disk *answer = gateway_scratch_take(scratch, 1, sizeof(*answer));
    const struct observation *seen = control_seen(control);
    bool ready = disk->state == CONTROL_READY && seen != NULL;
    const struct observed_store *store = ready ? observed_store(seen, disk->record.uuid) : NULL;
    const struct observed_device *device = ready ? observed_device(seen, disk->record.name) : NULL;
    penstock__v1__disk__init(answer);
    answer->name = (char *)disk->record.name;
    answer->path = (char *)disk->record.path;
    answer->driver = (char *)disk->record.driver;
    answer->uuid = (char *)disk->record.uuid;
    answer->state = (char *)control_state_name(disk->state);
    answer->reason = (char *)disk->reason;
    answer->block_bytes = device != NULL ? (uint32_t)device->block_bytes : disk->record.block_bytes;
    answer->replicas = count_replicas(control, disk->record.name);
    if (store != NULL) {
        answer->total_bytes = store->total_bytes;
        answer->free_bytes = store->free_bytes;
        if (store->reason != NULL)
            answer->reason = (char *)store->reason;
    }
    return answer;
}

static void put_plane(const struct control *control, Penstock__V1__Plane *answer) {
    const struct control_plane *plane = &control->plane;
    penstock__v1__plane__init(answer);
    answer->state = (char *)control_plane_state_name(plane->state);
    answer->reason = (char *)(control_plane_ready(plane) ? "" : plane->error.text);
    answer->socket_path = (char *)control->options.socket_path;
    answer->log_path = (char *)control->options.plane_log_path;
    answer->process_id = plane->process != NULL ? plane->process_number : 0;
    answer->methods = control_plane_ready(plane) ? (uint32_t)json_object_size(plane->methods) : 0;
    answer->failures = plane->failures;
    answer->gone_ms = control_plane_gone_ns(plane) / NS_PER_MS;
}

static void answer_node(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    const struct gateway *gateway = gateway_of(call);
    const struct control *control = gateway->options.control;
    struct gateway_scratch scratch = {0};
    size_t count = 0;
    Penstock__V1__GetNodeResponse answer = PENSTOCK__V1__GET_NODE_RESPONSE__INIT;
    Penstock__V1__Node node = PENSTOCK__V1__NODE__INIT;
    Penstock__V1__Plane plane;
    answer.node = &node;
    put_plane(control, &plane);
    node.name = (char *)control->options.node;
    node.address = (char *)gateway->options.address;
    node.version = (char *)gateway->options.version;
    node.up_ms = (reactor_now_ns(control->options.reactor) - gateway->began_ns) / NS_PER_MS;
    node.plane = &plane;
    node.goals = control->goal_count;
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        count += object->kind == CONTROL_DISKS;
    node.disks = gateway_scratch_take(&scratch, count, sizeof(*node.disks));
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node)
        node.disks[node.n_disks++] = put_disk(control, container_of(object, struct control_disk, object), &scratch);
    grpc_call_reply(call, &answer.base);
    gateway_scratch_free(&scratch);
}

static void get_node(struct grpc_call *call, const ProtobufCMessage *request) { gateway_refresh(call, request, "", answer_node); }

static const struct grpc_method methods[] = {
    {"GetNode", GRPC_UNARY, &penstock__v1__get_node_request__descriptor, &penstock__v1__get_node_response__descriptor, get_node},
    {"NoteEngine", GRPC_UNARY, &penstock__v1__note_engine_request__descriptor, &penstock__v1__note_engine_response__descriptor,
     gateway_note_engine},
    {"GetRebuild", GRPC_UNARY, &penstock__v1__get_rebuild_request__descriptor, &penstock__v1__get_rebuild_response__descriptor,
     gateway_get_rebuild},
    {"GetClone", GRPC_UNARY, &penstock__v1__get_clone_request__descriptor, &penstock__v1__get_clone_response__descriptor,
     gateway_get_clone},
    {"PauseEngine", GRPC_UNARY, &penstock__v1__pause_engine_request__descriptor, &penstock__v1__pause_engine_response__descriptor,
     gateway_pause_engine},
    {"ResumeEngine", GRPC_UNARY, &penstock__v1__resume_engine_request__descriptor,
     &penstock__v1__resume_engine_response__descriptor, gateway_resume_engine},
    {"LimitRebuild", GRPC_UNARY, &penstock__v1__limit_rebuild_request__descriptor,
     &penstock__v1__limit_rebuild_response__descriptor, gateway_limit_rebuild},
};

const struct grpc_service gateway_own_service = {GATEWAY_OWN_SERVICE, methods, array_count(methods)};
