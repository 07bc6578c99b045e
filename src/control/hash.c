/* Checksums of snapshots: made by the plane beside all goals, since that takes as long as reading the snapshot does. What was
 * made is an attribute of the snapshot; here is only what is under way, and what has failed. */
#include <stdio.h>
#include <stdlib.h>

#include "control/internal.h"

struct control_hash {
    struct list_node node;
    struct control *control;
    char replica[CONTROL_NAME_MAX + 1], snapshot[NAMES_VOLUME_SIZE], uuid[UUID_TEXT_SIZE];
    bool running; /* or its checksum has not been observed yet */
    char failure[256];
    struct plane_call call;
    struct observe_waiter waiter;
};

static struct control_hash *find(struct control *control, const char *uuid) {
    list_for_each (&control->hashes, struct control_hash, hash, node)
        if (strcmp(hash->uuid, uuid) == 0)
            return hash;
    return NULL;
}

static void drop(struct control_hash *hash) {
    observer_forget(&hash->waiter);
    list_remove(&hash->node);
    hash->control->hash_count--;
    free(hash);
}

/* Failures of snapshots that are gone. */
static void sweep(struct control *control) {
    list_for_each_safe (&control->hashes, struct control_hash, hash, node) {
        const struct control_replica *replica = control_find_replica(control, hash->replica);
        if (!hash->running && (replica == NULL || control_find_snapshot(control, replica, hash->snapshot) == NULL))
            drop(hash);
    }
}

static void observed(struct observe_waiter *waiter) { drop(container_of(waiter, struct control_hash, waiter)); }

static void registered(struct plane_call *call) {
    struct control_hash *hash = container_of(call, struct control_hash, call);
    struct control *control = hash->control;
    json_decref(call->params);
    if (call->ok)
        json_decref(call->result);
    if (call->ok && !control->stopping) {
        observer_doubt_attributes(&control->observer, hash->uuid);
        hash->waiter.done = observed;
        observer_ask(&control->observer, &hash->waiter);
        return;
    }
    hash->running = false;
    snprintf(hash->failure, sizeof(hash->failure), "%s", call->ok ? "the daemon is ending" : call->error.text);
    if (!control->stopping)
        log_warning(control->options.log, LOG_AREA_APP, "the checksum of snapshot %s of replica %s: %s", hash->snapshot,
                    hash->replica, hash->failure);
}

bool control_hash_start(struct control *control, const char *name, const char *snapshot, bool again, struct error *error) {
    const struct control_replica *replica = control_find_replica(control, name);
    const struct observed_volume *volume = control_check_snapshot(control, replica, name, snapshot, error);
    if (volume == NULL)
        return false;
    struct control_hash *hash = find(control, volume->uuid);
    if ((hash != NULL && hash->running) || (volume->attributes->checksum[0] != '\0' && !again))
        return true;
    if (!control_plane_ready(&control->plane) || control->stopping)
        return error_set(error, ERROR_CANCELLED, "the storage plane is not there: %s", control->plane.error.text);
    if (!control_plane_can(&control->plane, "bdev_lvol_register_snapshot_checksum"))
        return error_set(error, ERROR_UNSUPPORTED, "the storage plane makes no checksums");
    if (hash == NULL) {
        sweep(control);
        hash = control->hash_count == CONTROL_HASHES_MAX ? NULL : calloc(1, sizeof(*hash));
        if (hash == NULL)
            return error_set(error, ERROR_NO_MEMORY, "%u checksums are being made or have failed", control->hash_count);
        hash->control = control;
        snprintf(hash->replica, sizeof(hash->replica), "%s", name);
        snprintf(hash->snapshot, sizeof(hash->snapshot), "%s", snapshot);
        snprintf(hash->uuid, sizeof(hash->uuid), "%s", volume->uuid);
        list_push_back(&control->hashes, &hash->node);
        control->hash_count++;
    }
    hash->running = true;
    hash->failure[0] = '\0';
    hash->call = (struct plane_call){
        .method = "bdev_lvol_register_snapshot_checksum", .params = json_pack("{s:s}", "name", hash->uuid), .done = registered};
    control_plane_call(&control->plane, &hash->call);
    return true;
}

bool control_hash_get(struct control *control, const char *name, const char *snapshot, struct control_hash_status *ret_status,
                      struct error *error) {
    const struct control_replica *replica = control_find_replica(control, name);
    const struct observed_volume *volume = control_check_snapshot(control, replica, name, snapshot, error);
    if (volume == NULL)
        return false;
    const struct control_hash *hash = find(control, volume->uuid);
    const char *checksum = volume->attributes->checksum;
    *ret_status = (struct control_hash_status){.state = "", .checksum = "", .error = ""};
    if (hash != NULL && hash->running) {
        ret_status->state = "in_progress";
    } else if (hash != NULL && hash->failure[0] != '\0') {
        ret_status->state = "error";
        ret_status->error = hash->failure;
    } else if (checksum[0] != '\0') {
        ret_status->state = "complete";
        ret_status->checksum = checksum;
    }
    return true;
}

void hashes_forget(struct control *control) {
    list_for_each_safe (&control->hashes, struct control_hash, hash, node)
        drop(hash);
}
