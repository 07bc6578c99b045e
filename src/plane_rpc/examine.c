#include "plane_rpc/examine.h"

#include "plane_rpc/stores.h"

static void finish(struct plane_examine *examine) {
    list_remove(&examine->node);
    plane_wake_waiters(examine->plane);
    examine->done(examine);
}

static void finish_job(struct reactor_job *job) { finish(container_of(job, struct plane_examine, job)); }

static void store_opened(void *arg, struct plane_store *store, const struct error *error) {
    struct plane_examine *examine = arg;
    examine->opened = store != NULL;
    if (store == NULL)
        examine->error = *error;
    if (!examine->opened && error->code == ERROR_PERMISSION) /* in use otherwise: not for a store */
        examine->error.code = ERROR_FOREIGN;
    if (!examine->opened && examine->error.code != ERROR_FOREIGN)
        log_error(&examine->plane->log, LOG_AREA_VOLUME, "%s: %s", examine->device->name, error->text);
    finish(examine);
}

static void begin(struct plane *plane, struct block_device *device, struct plane_examine *examine) {
    examine->plane = plane;
    examine->device = device;
    examine->opened = false;
    list_push_back(&plane->examines, &examine->node);
}

void plane_examine(struct plane *plane, struct block_device *device, struct plane_examine *examine) {
    begin(plane, device, examine);
    plane_store_open(plane, device, store_opened, examine);
}

bool plane_examines(struct plane *plane, const char *name) {
    const struct block_device *device = block_graph_find(&plane->graph, name);
    list_for_each (&plane->examines, struct plane_examine, examine, node) {
        if (device != NULL && examine->device == device)
            return true;
    }
    return false;
}

void plane_examine_automatically(struct plane *plane, struct block_device *device, struct plane_examine *examine) {
    if (plane->auto_examine) {
        plane_examine(plane, device, examine);
        return;
    }
    begin(plane, device, examine);
    error_set(&examine->error, ERROR_FOREIGN, "%s was not looked at", device->name);
    examine->job.run = finish_job;
    reactor_defer(plane->control, &examine->job);
}
