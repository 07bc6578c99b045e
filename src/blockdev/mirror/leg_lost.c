/* What becomes of a leg that fails, is taken away or belongs to another engine by now, and of the mirror with it. The leg's task
 * (leg.c) brings it back. docs/mirror.md, "Returning". */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

void mirror_leg_tell(struct mirror_leg *leg, const char *why) {
    snprintf(leg->told.why, sizeof(leg->told.why), "%s", why);
    leg->told.since_ns = reactor_now_ns(leg->mirror->home);
}

void mirror_leg_lose(struct mirror_leg *leg, const char *why) {
    struct mirror *mirror = leg->mirror;
    if (!mirror_leg_is_up(leg))
        return;
    leg->lost = leg->fell = true;
    leg->claimed = leg->recorded = leg->allowed = false;
    leg->barrier = 0;
    leg->generation++;
    leg->told.times_lost++;
    if (reactor_now_ns(mirror->home) - leg->up_since_ns > 60 * NS_PER_S)
        leg->losses_in_row = 0;
    mirror_leg_tell(leg, why);
    if ((mirror->standing & leg->bit) != 0)
        mirror_missed_begin(leg);
    mirror->standing &= (mirror_mask)~leg->bit;
    mirror->foreign &= (mirror_mask)~leg->bit;
    mirror->start_members &= (mirror_mask)~leg->bit; /* an attempt may have left it out: it must not make the next */
    mirror->fell |= leg->bit;
    mirror_masks_update(mirror);
    if ((mirror->named & leg->bit) != 0 && !mirror->changing) {
        mirror->changing = true;
        mirror->change_began_ns = mirror->record_sent_ns = reactor_now_ns(mirror->home);
    }
    if (mirror->state == MIRROR_SERVING && mirror->standing == 0) {
        mirror->state = MIRROR_HOLDING;
        mirror_away_begin(mirror);
        mirror_commands_cancel(mirror, ERROR_BUSY, "all legs were lost");
    }
    mirror_io_forget_leg(mirror, leg);
    block_channel_recall(leg->channel);
    mirror_short_look(mirror);
    mirror_epoch_wake(mirror);
    mirror_copy_wake(mirror);
    mirror_start_wake(mirror);
    mirror_tree_commands_wake(mirror);
    task_wake(&leg->task);
}

#define REFUSALS_MAX 2 /* with a copy of what it had */

static bool is_of_the_path(enum io_status status) {
    return status == IO_PATH_LOST || status == IO_TIMED_OUT || status == IO_DEVICE_GONE || status == IO_ABORTED ||
           status == IO_NOT_READY;
}

static void note_refusal(struct mirror_leg *leg, enum io_status status) {
    if (status == IO_OK || is_of_the_path(status))
        return;
    leg->refused = true;
    leg->refusals += status == IO_NO_SPACE ? REFUSALS_MAX + 1 : 1;
}

void mirror_leg_refused(struct mirror_leg *leg, enum io_status status, const char *why) {
    if (!mirror_leg_is_up(leg))
        return;
    note_refusal(leg, status);
    mirror_leg_lose(leg, why);
}

bool mirror_leg_is_cramped(const struct mirror_leg *leg) { return leg->refusals > REFUSALS_MAX; }

void mirror_leg_fault(struct mirror_leg *leg, enum io_status status, const char *why) {
    if (!mirror_leg_is_up(leg))
        return;
    note_refusal(leg, status);
    if (status != IO_MEDIUM_READ && status != IO_MEDIUM_WRITE && status != IO_DAMAGED && status != IO_INTERNAL) {
        mirror_leg_lose(leg, why);
        return;
    }
    bool again = status == leg->fault_status && leg->returned;
    leg->faults = again ? leg->faults + 1 : status == leg->fault_status ? leg->faults : 1;
    leg->fault_status = status;
    leg->returned = false;
    leg->faulted = leg->faults > (leg->mirror->options.fault_returns == 0 ? 2 : leg->mirror->options.fault_returns);
    mirror_leg_lose(leg, why);
}

void mirror_leg_detach(struct mirror_leg *leg, const char *why) {
    if (leg->channel == NULL || leg->leaving)
        return;
    leg->leaving = true;
    if (mirror_leg_is_up(leg)) {
        mirror_leg_lose(leg, why);
        return;
    }
    mirror_leg_tell(leg, why);
    leg->generation++;
    leg->fell = leg->task.state != LEG_REST;
    leg->claimed = leg->allowed = false;
    block_channel_recall(leg->channel);
    task_wake(&leg->task);
}

void mirror_leg_let_go(struct mirror_leg *leg) {
    leg->told.promised = (struct uuid){0}; /* it was seen before the claim */
    leg->losses_in_row = 0;
    if (mirror_leg_is_up(leg)) {
        mirror_leg_lose(leg, "");
    } else if (leg->channel != NULL && leg->task.state > LEG_SEEN) { /* the claim may be on its way */
        leg->generation++;
        leg->fell = true;
        leg->claimed = leg->allowed = false;
        block_channel_recall(leg->channel);
        task_wake(&leg->task);
    }
}

bool mirror_leg_judge(struct mirror_leg *leg, enum io_status status) {
    if (status == IO_FENCED)
        mirror_leg_superseded(leg);
    else if (is_of_the_path(status))
        mirror_leg_lose(leg, io_status_words(status));
    else
        return false;
    return true;
}

/* Who it was: the promise says it. Nothing else is sent any more. */
static void superseded_by(struct mirror_call *call) {
    struct mirror *mirror = call->leg->mirror;
    const struct replica_status *status = &call->leg->ping_document;
    char text[UUID_TEXT_SIZE];
    if (call->status != IO_OK || (status->flags & REPLICA_HAS_RECORD) == 0)
        return;
    uuid_format(&status->record.promised_engine, text);
    error_set(&mirror->error, ERROR_PERMISSION, "engine %s has claimed the legs, with term %llu", text,
              (unsigned long long)status->record.promised_term);
    mirror_watch_look(mirror);
}

void mirror_leg_superseded(struct mirror_leg *leg) {
    if (leg->mirror->state == MIRROR_ENDED)
        return;
    mirror_end(leg->mirror, ERROR_PERMISSION, "another engine has claimed the legs");
    if (!leg->ping.busy && leg->channel != NULL)
        mirror_call_send(leg, &leg->ping, BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, &leg->ping_document,
                         sizeof(leg->ping_document), superseded_by);
}

void mirror_end(struct mirror *mirror, enum error_code code, const char *why) {
    if (mirror->state == MIRROR_ENDED)
        return;
    mirror->state = MIRROR_ENDED;
    error_set(&mirror->error, code, "%s", why);
    mirror->standing = mirror->readers = mirror->writers = 0;
    mirror_for_each_leg(mirror, leg) {
        if (leg->claimed)
            leg->generation++;
        leg->claimed = false;
        leg->lost = true;
        mirror_io_forget_leg(mirror, leg);
    }
    mirror_commands_cancel(mirror, code, why);
    mirror_legs_wake(mirror);
    mirror_tree_commands_wake(mirror);
    mirror_copy_wake(mirror);
    mirror_io_look(mirror);
    mirror_watch_look(mirror);
}
