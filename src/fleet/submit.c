/* How requests come and end: which volume one waits at, its time, and telling its owner. What it wants is request.c's. */
#include "fleet/internal.h"

static void run_end(struct reactor_job *job) {
    struct fleet_request *request = container_of(job, struct fleet_request, job);
    request->done(request); /* its memory may be gone */
}

void request_end(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    reactor_timer_stop(request->fleet->reactor, &request->timer);
    if (list_linked(&request->node))
        list_remove(&request->node);
    if (volume != NULL && volume->placing == request)
        volume->placing = NULL;
    if (volume != NULL && volume->recording == request)
        volume->recording = NULL;
    request->job.run = run_end;
    reactor_defer(request->fleet->reactor, &request->job);
}

void requests_end_over(struct fleet_volume *volume) {
    list_for_each_safe (&volume->requests, struct fleet_request, request, node)
        if (request->begun && request_is_over(request))
            request_end(request);
}

static void expire(struct reactor_timer *timer) {
    struct fleet_request *request = container_of(timer, struct fleet_request, timer);
    request_expire(request);
    request_end(request);
    fleet_volume_kick(request->volume);
}

static void submit(struct fleet *fleet, struct fleet_request *request) {
    struct fleet_volume *volume = fleet_find(fleet, request->name);
    unsigned waiting = 0;
    if (volume == NULL && request->verb == FLEET_CREATE && (volume = fleet_volume_add(fleet, request->name)) == NULL) {
        error_set(&request->error, ERROR_NO_MEMORY, "no memory for a volume, or %d are there", FLEET_VOLUMES_MAX);
        request_end(request);
        return;
    }
    if (volume == NULL) {
        if (request->verb != FLEET_DELETE)
            error_set(&request->error, ERROR_NOT_FOUND, "there is no volume %s", request->name);
        request_end(request);
        return;
    }
    list_for_each (&volume->requests, struct fleet_request, other, node)
        waiting += other != request;
    if (waiting >= FLEET_REQUESTS_MAX) {
        error_set(&request->error, ERROR_NO_MEMORY, "%u requests of volume %s are under way", waiting, request->name);
        request_end(request);
        return;
    }
    request->volume = volume;
    list_push_back(&volume->requests, &request->node);
    request->timer.run = expire;
    reactor_timer_start(fleet->reactor, &request->timer, fleet_now_ns(fleet) + FLEET_REQUEST_S * NS_PER_S);
    fleet_volume_kick(volume);
}

void fleet_submit(struct fleet *fleet, struct fleet_request *request) {
    request->fleet = fleet;
    request->volume = NULL;
    request->begun = request->placed = false;
    request->member[0] = '\0';
    request->wanted_count = 0;
    memset(request->wanted, 0, sizeof(request->wanted));
    request->node = (struct list_node){0};
    error_clear(&request->error);
    if (fleet->stopping)
        error_set(&request->error, ERROR_CANCELLED, "the daemon is ending");
    if (fleet->stopping || !request_check(request))
        request_end(request);
    else
        submit(fleet, request);
}
