/* A volume is brought to what is recorded of it, turn by turn: requests that have come change the record, which is written before
 * anything is done for it; then its parts are looked at, and calls are made (calls.c); what does not succeed is tried again after
 * a pause, and given up when its time is over. Must not know: how calls reach nodes. */
#include <stdio.h>

#include "fleet/internal.h"

enum { PAUSE_MIN_MS = 50, PAUSE_SHORT_MS = 1000, PAUSE_MAX_MS = 10000 };

/* ---- pauses ---- */

void fleet_volume_pause(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    uint64_t ms = volume->failures < 10 ? (uint64_t)PAUSE_MIN_MS << volume->failures : PAUSE_MAX_MS,
             max_ms = volume->expires_ns != 0 ? PAUSE_SHORT_MS : PAUSE_MAX_MS; /* somebody waits */
    volume->failures++;
    volume->stage = FLEET_PAUSED;
    requests_end_over(volume);
    reactor_timer_start(fleet->reactor, &volume->timer, fleet_now_ns(fleet) + min_u64(ms, max_ms) * NS_PER_MS);
}

void fleet_volume_retry(struct reactor_timer *timer) { fleet_volume_kick(container_of(timer, struct fleet_volume, timer)); }

/* ---- the state ---- */

static void recorded(struct store_request *store_request) {
    struct fleet_volume *volume = container_of(store_request, struct fleet_volume, request);
    struct fleet_request *request = volume->recording;
    struct fleet *fleet = volume->fleet;
    volume->recording = NULL;
    volume->stage = FLEET_IDLE;
    if (store_request->outcome == STORE_DONE) {
        volume->uncertain = false;
        if (!volume->recorded || volume->record.phase != volume->before.phase)
            log_notice(fleet->log, LOG_AREA_APP, "volume %s: %s%s%s", volume->record.name,
                       volume->record.phase == FLEET_GONE       ? "deleted"
                       : volume->record.phase == FLEET_MAKING   ? "being made"
                       : volume->record.phase == FLEET_STANDING ? "stands"
                       : volume->record.phase == FLEET_DELETING ? "being deleted"
                                                                : "not made",
                       volume->record.failure[0] != '\0' ? ": " : "", volume->record.failure);
        if (volume->record.revert != volume->before.revert)
            log_notice(fleet->log, LOG_AREA_APP, "volume %s: %s%s", volume->record.name,
                       volume->record.revert == FLEET_REVERTING   ? "being reverted to snapshot "
                       : volume->record.revert == FLEET_NO_REVERT ? "stands again"
                       : volume->record.failure[0] == '\0'        ? "reverted to snapshot "
                                                                  : "not reverted: ",
                       volume->record.failure[0] != '\0' ? volume->record.failure : volume->record.snapshot);
        volume->recorded = volume->record.phase != FLEET_GONE;
        volume->failures = 0;
        requests_end_over(volume);
        fleet_tell_watchers(fleet);
        fleet_volume_proceed(volume);
        return;
    }
    log_error(fleet->log, LOG_AREA_APP, "the state of volume %s cannot be written: %s", volume->record.name,
              store_request->error.text);
    snprintf(volume->waits_for, sizeof(volume->waits_for), "the state cannot be written: %.200s", store_request->error.text);
    volume->uncertain = volume->uncertain || store_request->outcome == STORE_UNKNOWN;
    if (volume->uncertain) { /* it may be written: it is, then */
        volume->recording = request;
        fleet_volume_pause(volume);
        return;
    }
    volume->record = volume->before; /* nothing is done that is not written */
    volume->recorded = volume->recorded_before;
    for (unsigned i = 0; i < FLEET_MEMBERS_MAX; i++)
        volume->seen.members[i].fresh = false;
    if (request != NULL) {
        error_set(&request->error, ERROR_IO, "%s", volume->waits_for);
        request_end(request);
    }
    fleet_volume_pause(volume);
}

void fleet_volume_record(struct fleet_volume *volume, struct fleet_request *request) {
    struct fleet *fleet = volume->fleet;
    bool keep = volume->record.phase != FLEET_GONE;
    reactor_timer_stop(fleet->reactor, &volume->timer);
    volume->stage = FLEET_RECORDING;
    volume->recording = request;
    snprintf(volume->key, sizeof(volume->key), "/penstock/%s/volumes/%s", fleet->options.node, volume->record.name);
    text_fini(&volume->value);
    text_init(&volume->value, KIB(64));
    bool ok = !keep || fleet_record_write(&volume->record, &volume->value);
    assert(ok);
    volume->op = (struct store_op){.kind = keep ? STORE_PUT : STORE_DELETE,
                                   .key = volume->key,
                                   .value = keep ? volume->value.bytes : NULL,
                                   .value_length = keep ? volume->value.length : 0};
    volume->request = (struct store_request){.verb = STORE_TRANSACT, .then_ops = &volume->op, .then_count = 1, .done = recorded};
    store_submit(fleet->options.store, &volume->request);
}

void fleet_volume_keep_before(struct fleet_volume *volume) {
    volume->before = volume->record;
    volume->recorded_before = volume->recorded;
}

/* ---- turns ---- */

/* True: something is under way for one that has come. */
static bool begin_requests(struct fleet_volume *volume) {
    list_for_each_safe (&volume->requests, struct fleet_request, request, node) {
        if (request->begun)
            continue;
        fleet_volume_keep_before(volume);
        switch (request_begin(request)) {
        case REQUEST_END: request_end(request); break;
        case REQUEST_WAIT: request->begun = true; break;
        case REQUEST_PLACE: fleet_volume_place(volume, request); return true;
        case REQUEST_RECORD:
            request->begun = true;
            volume->expires_ns = fleet_now_ns(volume->fleet) + FLEET_GIVE_UP_S * NS_PER_S;
            volume->waits_for[0] = '\0';
            volume->failures = 0;
            volume->seen.engine.fresh = volume->seen.frontend.fresh = volume->seen.clone.fresh = false;
            fleet_volume_record(volume, request);
            return true;
        }
    }
    return false;
}

static void settle(struct fleet_volume *volume) {
    reactor_timer_stop(volume->fleet->reactor, &volume->timer);
    volume->stage = FLEET_IDLE;
    volume->failures = 0;
    volume->expires_ns = 0;
    if (volume->waits_for[0] != '\0') {
        volume->waits_for[0] = '\0';
        fleet_tell_watchers(volume->fleet);
    }
    fleet_volume_forget_seen(volume);
}

static bool is_over_time(const struct fleet_volume *volume) {
    return volume->expires_ns != 0 && fleet_now_ns(volume->fleet) >= volume->expires_ns;
}

void fleet_volume_proceed(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    if (volume->stage != FLEET_IDLE && volume->stage != FLEET_PAUSED)
        return;
    if (fleet->stopping) {
        volume->stage = FLEET_IDLE;
        fleet_look_whether_stopped(fleet);
        return;
    }
    if (volume->uncertain) {
        fleet_volume_record(volume, volume->recording);
        return;
    }
    requests_end_over(volume);
    if (begin_requests(volume))
        return;
    requests_end_over(volume);
    if (!volume->recorded && list_empty(&volume->requests)) {
        if (!volume->job_queued)
            fleet_volume_remove(volume);
        return;
    }
    if (!volume->recorded || fleet_record_is_settled(&volume->record)) {
        settle(volume);
        return;
    }
    if (is_over_time(volume)) {
        volume->expires_ns = 0;
        fleet_volume_keep_before(volume);
        if (fleet_plan_expired(&volume->record, volume->waits_for)) {
            fleet_volume_forget_seen(volume);
            fleet_volume_record(volume, NULL);
            return;
        }
    }
    reactor_timer_stop(fleet->reactor, &volume->timer);
    fleet_volume_look(volume);
}

void fleet_volume_turn(struct reactor_job *job) {
    struct fleet_volume *volume = container_of(job, struct fleet_volume, job);
    volume->job_queued = false;
    fleet_volume_proceed(volume);
}

void fleet_volume_kick(struct fleet_volume *volume) {
    if (volume->job_queued || volume->fleet->stopping)
        return;
    volume->job_queued = true;
    reactor_defer(volume->fleet->reactor, &volume->job);
}
