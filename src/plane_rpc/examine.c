#include "plane_rpc/examine.h"

static void finish(struct reactor_job *job) {
    struct plane_examine *examine = container_of(job, struct plane_examine, job);
    struct plane *plane = examine->plane;
    list_remove(&examine->node);
    plane_wake_waiters(plane);
    examine->done(examine);
}

void plane_examine(struct plane *plane, struct block_device *device, struct plane_examine *examine) {
    examine->plane = plane;
    examine->device = device;
    examine->opened = false;
    examine->job.run = finish;
    list_push_back(&plane->examines, &examine->node);
    error_set(&examine->error, ERROR_FOREIGN, "%s holds no store", device->name);
    reactor_defer(plane->control, &examine->job);
}

void plane_examine_automatically(struct plane *plane, struct block_device *device, struct plane_examine *examine) {
    plane_examine(plane, device, examine);
}
