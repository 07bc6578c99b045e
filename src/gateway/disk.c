/* Disks. */
#include <stdlib.h>

#include "api/proto/spdkrpc/disk.pb-c.h"
#include "gateway/internal.h"

#define CLUSTER MIB(1) /* of sizes on the wire, whatever the store uses */

static void answer_disk(struct grpc_call *call, const struct control_disk *disk) {
    Spdkrpc__Disk answer = SPDKRPC__DISK__INIT;
    const struct observation *seen = control_seen(gateway_of(call)->options.control);
    bool ready = disk->state == CONTROL_READY && seen != NULL;
    const struct observed_store *store = ready ? observed_store(seen, disk->record.uuid) : NULL;
    const struct observed_device *device = ready ? observed_device(seen, disk->record.name) : NULL;
    answer.name = (char *)disk->record.name;
    answer.uuid = (char *)disk->record.uuid;
    answer.path = (char *)disk->record.path;
    answer.id = (char *)disk->id;
    answer.type = (char *)"block";
    answer.driver = (char *)disk->record.driver;
    answer.state = (char *)control_state_name(disk->state);
    answer.cluster_size = CLUSTER;
    answer.block_size = device != NULL ? (int64_t)device->block_bytes : disk->record.block_bytes;
    if (store != NULL) {
        answer.total_size = (int64_t)(store->total_bytes / CLUSTER * CLUSTER);
        answer.free_size = (int64_t)(store->free_bytes / CLUSTER * CLUSTER);
    }
    if (answer.block_size > 0) {
        answer.total_blocks = answer.total_size / answer.block_size;
        answer.free_blocks = answer.free_size / answer.block_size;
    }
    grpc_call_reply(call, &answer.base);
}

static struct control_disk *find(struct grpc_call *call, const char *name) {
    struct control_disk *disk = control_find_disk(gateway_of(call)->options.control, name);
    if (disk == NULL)
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no disk '%s'", name);
    return disk;
}

/* ---- DiskCreate: answered when it is recorded, goes on by itself ---- */

struct creation {
    struct control_goal goal;
    struct grpc_call *call; /* NULL = answered */
    char *texts[4];         /* the call's go with it */
};

static void created(struct control_goal *goal) {
    struct creation *creation = container_of(goal, struct creation, goal);
    if (creation->call != NULL)
        gateway_fail(creation->call, &goal->error, false);
    for (size_t i = 0; i < array_count(creation->texts); i++)
        free(creation->texts[i]);
    free(creation);
}

static void accepted(struct control_goal *goal) {
    struct creation *creation = container_of(goal, struct creation, goal);
    struct grpc_call *call = creation->call;
    creation->call = NULL;
    answer_disk(call, control_find_disk(goal->control, goal->name));
}

static const char *keep(struct creation *creation, unsigned at, const char *text) {
    creation->texts[at] = strdup(text);
    assert(creation->texts[at] != NULL);
    return creation->texts[at];
}

void gateway_disk_create(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__DiskCreateRequest *request = (const Spdkrpc__DiskCreateRequest *)message;
    struct creation *creation = calloc(1, sizeof(*creation));
    if (creation == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    creation->call = call;
    creation->goal = (struct control_goal){.verb = CONTROL_DISK_OPEN,
                                           .name = keep(creation, 0, request->disk_name),
                                           .path = keep(creation, 1, request->disk_path),
                                           .driver = keep(creation, 2, request->disk_driver),
                                           .uuid = keep(creation, 3, request->disk_uuid),
                                           .bytes = request->block_size < 0 ? 1 : (uint64_t)request->block_size,
                                           .accepted = accepted,
                                           .done = created};
    control_goal_start(gateway_of(call)->options.control, &creation->goal);
}

/* ---- the others ---- */

static void refreshed(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__DiskGetRequest *request = (const Spdkrpc__DiskGetRequest *)message;
    struct control_disk *disk = find(call, request->disk_name);
    if (disk != NULL)
        answer_disk(call, disk);
}

void gateway_disk_get(struct grpc_call *call, const ProtobufCMessage *request) {
    gateway_refresh(call, request, ((const Spdkrpc__DiskGetRequest *)request)->disk_name, refreshed);
}

void gateway_disk_delete(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__DiskDeleteRequest *request = (const Spdkrpc__DiskDeleteRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_DISK_DELETE, request->disk_name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->goal.uuid = request->disk_uuid;
    gateway_start(pending);
}

void gateway_disk_health_get(struct grpc_call *call, const ProtobufCMessage *message) {
    const struct control_disk *disk = find(call, ((const Spdkrpc__DiskHealthGetRequest *)message)->disk_name);
    if (disk != NULL)
        grpc_call_endf(call, GRPC_UNIMPLEMENTED, "disk %s is no NVMe controller: it has no health log", disk->record.name);
}
