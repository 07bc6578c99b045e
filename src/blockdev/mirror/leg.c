/* A task for each leg, in reading order: found, looked at, claimed, and then brought up until it is a member. Whatever it was at,
 * a loss brings it back to the beginning. docs/mirror.md, "Starting" and "Returning". */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define M(phase) TASK_MOVE(LEG_##phase)
#define ALWAYS (M(REST) | M(OVER))
static const uint64_t moves[LEG_PHASES] = {
    [LEG_REST] = ALWAYS | M(LOOK) | M(STUCK),
    [LEG_LOOK] = ALWAYS | M(SEEN) | M(STUCK) | M(CLAIMED),
    [LEG_SEEN] = ALWAYS | M(CLAIM) | M(STUCK) | M(LOOK),
    [LEG_CLAIM] = ALWAYS | M(RELOOK) | M(SEEN) | M(FORGET) | M(STUCK),
    [LEG_RELOOK] = ALWAYS | M(CLAIMED) | M(STUCK),
    [LEG_FORGET] = ALWAYS,
    [LEG_CLAIMED] = ALWAYS | M(ADOPT) | M(MEMBER) | M(STUCK) | M(JOIN),
    [LEG_ADOPT] = ALWAYS | M(KEEP) | M(WITNESS) | M(STUCK),
    [LEG_KEEP] = ALWAYS | M(LISTED) | M(TREES),
    [LEG_TREES] = ALWAYS | M(TREE_STEP),
    [LEG_TREE_STEP] = ALWAYS | M(TREE_CHANGE) | M(FILL_LIST) | M(TREES),
    [LEG_TREE_CHANGE] = ALWAYS | M(TREES) | M(LISTED),
    [LEG_FILL_LIST] = ALWAYS | M(FILL) | M(TREES),
    [LEG_FILL] = ALWAYS | M(FILL_FLUSH) | M(TREES),
    [LEG_FILL_FLUSH] = ALWAYS | M(TREE_CHANGE),
    [LEG_LISTED] = ALWAYS | M(OWN_MARKS) | M(OWNED) | M(TREES),
    [LEG_OWNED] = ALWAYS | M(OWN_MARKS) | M(COPY),
    [LEG_OWN_MARKS] = ALWAYS | M(JOIN),
    [LEG_JOIN] = ALWAYS | M(BARRIER),
    [LEG_BARRIER] = ALWAYS | M(SOURCE_MARKS) | M(COPY) | M(OWNED),
    [LEG_SOURCE_MARKS] = ALWAYS | M(MARK) | M(COPY),
    [LEG_MARK] = ALWAYS | M(SOURCE_MARKS),
    [LEG_COPY] = ALWAYS | M(FLUSH),
    [LEG_FLUSH] = ALWAYS | M(RAISE) | M(FOREIGN),
    [LEG_RAISE] = ALWAYS | M(MEMBER),
    [LEG_MEMBER] = ALWAYS,
    [LEG_WITNESS] = ALWAYS,
    [LEG_FOREIGN] = ALWAYS,
    [LEG_STUCK] = ALWAYS,
    [LEG_OVER] = 0,
};
static const char *const names[LEG_PHASES] = {
    "rest",         "look",        "seen",      "claim", "relook",     "forget", "claimed", "adopt",     "keep",  "trees",
    "tree step",    "tree change", "fill list", "fill",  "fill flush", "listed", "owned",   "own marks", "join",  "barrier",
    "source marks", "mark",        "copy",      "flush", "raise",      "member", "witness", "foreign",   "stuck", "over"};
static const enum mirror_leg_state shown[LEG_PHASES] = {
    [LEG_REST] = MIRROR_LEG_SET_ASIDE,       [LEG_LOOK] = MIRROR_LEG_CONNECTING,     [LEG_SEEN] = MIRROR_LEG_CONNECTING,
    [LEG_CLAIM] = MIRROR_LEG_CONNECTING,     [LEG_RELOOK] = MIRROR_LEG_CONNECTING,   [LEG_CLAIMED] = MIRROR_LEG_CONNECTING,
    [LEG_ADOPT] = MIRROR_LEG_SYNCING,        [LEG_KEEP] = MIRROR_LEG_SYNCING,        [LEG_TREES] = MIRROR_LEG_SYNCING,
    [LEG_TREE_STEP] = MIRROR_LEG_SYNCING,    [LEG_TREE_CHANGE] = MIRROR_LEG_SYNCING, [LEG_FILL_LIST] = MIRROR_LEG_SYNCING,
    [LEG_FILL] = MIRROR_LEG_SYNCING,         [LEG_FILL_FLUSH] = MIRROR_LEG_SYNCING,  [LEG_LISTED] = MIRROR_LEG_SYNCING,
    [LEG_OWN_MARKS] = MIRROR_LEG_SYNCING,    [LEG_JOIN] = MIRROR_LEG_SYNCING,        [LEG_BARRIER] = MIRROR_LEG_SYNCING,
    [LEG_SOURCE_MARKS] = MIRROR_LEG_SYNCING, [LEG_MARK] = MIRROR_LEG_SYNCING,        [LEG_COPY] = MIRROR_LEG_SYNCING,
    [LEG_FLUSH] = MIRROR_LEG_SYNCING,        [LEG_RAISE] = MIRROR_LEG_SYNCING,       [LEG_MEMBER] = MIRROR_LEG_WHOLE,
    [LEG_WITNESS] = MIRROR_LEG_WITNESS,      [LEG_STUCK] = MIRROR_LEG_DIVERGED,      [LEG_OVER] = MIRROR_LEG_SET_ASIDE,
    [LEG_FORGET] = MIRROR_LEG_CONNECTING,    [LEG_OWNED] = MIRROR_LEG_SYNCING,       [LEG_FOREIGN] = MIRROR_LEG_WHOLE,
};

/* ---- documents ---- */

static void call_back(struct block_request *request) {
    struct mirror_call *call = container_of(request, struct mirror_call, request);
    struct mirror_leg *leg = call->leg;
    call->busy = false;
    call->status = (enum io_status)request->status;
    if (call->status == IO_OK && call->generation == leg->generation && call != &leg->ping)
        mirror_leg_heard(leg, call->sent_ns);
    if (--leg->outstanding == 0 && leg->lost)
        task_wake(&leg->task);
    call->done(call);
}

void mirror_call_send(struct mirror_leg *leg, struct mirror_call *call, enum block_op op, uint64_t argument, uint64_t offset,
                      void *bytes, size_t length, void (*done)(struct mirror_call *call)) {
    assert(!call->busy);
    call->busy = true;
    call->leg = leg;
    call->done = done;
    call->generation = leg->generation;
    call->sent_ns = reactor_now_ns(leg->mirror->home);
    call->slice = (struct slice){bytes, length};
    call->request = (struct block_request){.op = (uint8_t)op,
                                           .flags = BLOCK_FAIL_FAST,
                                           .slices = &call->slice,
                                           .slice_count = length > 0 ? 1 : 0,
                                           .offset = offset,
                                           .length = length,
                                           .argument = argument,
                                           .association = leg->association,
                                           .complete = call_back};
    leg->outstanding++;
    block_submit(leg->channel, &call->request);
}

void mirror_leg_called(struct mirror_call *call) { task_wake(&call->leg->task); }

void mirror_leg_get(struct mirror_leg *leg, enum replica_get verb, uint32_t layer_or_depth, uint64_t offset, size_t length) {
    mirror_call_send(leg, &leg->call, BLOCK_REPLICA_GET, replica_argument(verb, 0, layer_or_depth), offset, leg->call_document,
                     length, mirror_leg_called);
}

void mirror_legs_wake(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (leg->task.type != NULL) task_wake(&leg->task);
}

void mirror_leg_retry(struct mirror_leg *leg) {
    if (leg->task.state != LEG_REST)
        return;
    reactor_timer_stop(leg->mirror->home, &leg->retry);
    leg->losses_in_row = 0;
    leg->retry.deadline_ns = 0;
    task_wake(&leg->task);
}

/* ---- steps ---- */

/* Before it is up: tries again later. */
static void back_off(struct mirror_leg *leg, const char *why) {
    leg->generation++;
    leg->forget = leg->forget && !leg->removing; /* who cannot be told keeps its record: it is out of the others' */
    mirror_leg_tell(leg, why);
    task_move(&leg->task, LEG_REST);
    mirror_commands_look(leg->mirror);
}

static void stick(struct mirror_leg *leg, const char *why) {
    struct mirror *mirror = leg->mirror;
    mirror_leg_tell(leg, why);
    mirror_commands_look(mirror);
    if (mirror_leg_is_up(leg)) {
        leg->lost = true;
        leg->claimed = leg->recorded = false;
        leg->generation++;
        mirror_masks_update(mirror);
    }
    task_move(&leg->task, LEG_STUCK);
}

bool mirror_leg_went_well(struct mirror_leg *leg, const char *what) {
    if (leg->call.status == IO_OK)
        return true;
    if (leg->call.status == IO_FENCED) {
        mirror_leg_superseded(leg);
        return false;
    }
    if (leg->call.status == IO_PATH_LOST) /* then it is the path that has to be seen after */
        what = "its path is lost";
    if (mirror_leg_is_up(leg))
        mirror_leg_refused(leg, leg->call.status, what);
    else
        back_off(leg, what);
    return false;
}

/* Takes over what a leg said of itself; false if it makes no sense. */
static bool take_status(struct mirror_leg *leg) {
    memcpy(&leg->status, leg->call_document, sizeof(leg->status));
    leg->mirror->tree_highest = max_u64(leg->mirror->tree_highest, leg->status.tree_sequence);
    bool has = (leg->status.flags & REPLICA_HAS_RECORD) != 0;
    leg->told.promised = has ? leg->status.record.promised_engine : (struct uuid){0};
    leg->told.held = (leg->status.flags & (REPLICA_CLAIMED | REPLICA_CLAIM_YOURS)) == REPLICA_CLAIMED;
    return !has || (leg->status.record.leg_count == 0 && leg->status.record.epoch.depth == 0) ||
           replica_record_check(&leg->status.record) == NULL;
}

/* Gives its device back, then its slot. */
static void depart(struct mirror_leg *leg) {
    mirror_attach_drop(leg);
    if (!leg->dropped)
        return;
    mirror_leg_detach(leg, "it was removed");
    if (leg->channel != NULL)
        return;
    leg->vacant = true;
    mirror_missed_end(leg);
    leg->config = (struct replica_leg){0};
    reactor_timer_stop(leg->mirror->home, &leg->retry);
    leg->retry.deadline_ns = 0;
    mirror_commands_look(leg->mirror);
    task_end(&leg->task);
}

void mirror_leg_depart(struct mirror_leg *leg, const char *why) {
    leg->removing = true;
    leg->forget = false;
    mirror_leg_detach(leg, why);
    task_wake(&leg->task);
}

static void rest(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    leg->seen = leg->allowed = false;
    if (leg->leaving && leg->outstanding == 0)
        mirror_attach_leave(leg);
    if (leg->removing && !leg->forget && !leg->configured && !leg->counted) {
        depart(leg);
        return;
    }
    if (leg->channel == NULL || leg->leaving || leg->outstanding > 0)
        return; /* late answers come first */
    if (leg->faulted) {
        stick(leg, "its disk gave the same error again after it had come back: remove it and add it anew when it is mended");
        return;
    }
    if (!reactor_timer_armed(&leg->retry) && leg->retry.deadline_ns == 0) {
        uint64_t wait_s = leg->losses_in_row == 0 ? 0 : min_u64(UINT64_C(1) << min_u32(leg->losses_in_row - 1, 6), 60);
        leg->losses_in_row++;
        reactor_timer_start(mirror->home, &leg->retry, reactor_now_ns(mirror->home) + wait_s * NS_PER_S);
    }
    if (reactor_timer_armed(&leg->retry))
        return;
    leg->retry.deadline_ns = 0;
    leg->association = block_graph_new_association(mirror->graph);
    leg->lost = true;
    task_move(&leg->task, LEG_LOOK);
    if (!leg->replica) {
        leg->status = (struct replica_status){.size = leg->size};
        leg->seen = leg->claimed = true;
        leg->lost = leg->fell = false;
        leg->up_since_ns = reactor_now_ns(mirror->home);
        task_move(&leg->task, LEG_CLAIMED);
        mirror_start_wake(mirror);
        return;
    }
    mirror_leg_get(leg, REPLICA_STATUS, 0, 0, sizeof(struct replica_status));
}

static void looked(struct mirror_leg *leg) {
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not tell its record"))
        return;
    if (!take_status(leg)) {
        stick(leg, "its record is damaged");
        return;
    }
    leg->seen = true;
    leg->refused = false;
    task_move(&leg->task, LEG_SEEN);
    mirror_start_wake(leg->mirror);
}

/* What it is to the running mirror; sets verdict, base and from_depth. */
static void judge_record(struct mirror_leg *leg) {
    struct replica_record record;
    mirror_record_compose(leg->mirror, leg, &record);
    leg->verdict = leg->tie_breaker ? DECIDE_WITNESS : decide_leg(&record, &leg->status, &leg->base, &leg->from_depth);
    if (leg->discard)
        leg->verdict = decide_discarded(&record, &leg->status.record, &leg->base, &leg->from_depth);
    if (leg->verdict == DECIDE_SOURCE)
        leg->verdict = DECIDE_RETURNING; /* it was lost all the same */
    mirror_cursor_find(leg);
}

/* Not before the epoch is complete in which it is no leg, or another one: until then its record may be what that needs. */
static bool may_forget(const struct mirror_leg *leg) {
    if (!leg->forget)
        return false;
    mirror_for_each_leg(leg->mirror, other) {
        if (other->counted && uuid_equal(&other->counted_id, &leg->status.record.leg))
            return false;
    }
    return true;
}

static bool runs(const struct mirror *mirror) { return mirror->state == MIRROR_SERVING || mirror->state == MIRROR_HOLDING; }

/* It says that it is another leg than this slot's: that one's place, if nobody has it; else none of this mirror's any more.
 * False: it is stuck. */
static bool identify(struct mirror_leg *leg) {
    const struct replica_record *record = &leg->status.record;
    char text[UUID_TEXT_SIZE], why[96];
    if ((leg->status.flags & REPLICA_HAS_RECORD) == 0) {
        /* Another volume under the name of a leg takes its place if it is empty. The same one was made to forget. */
        leg->told.stranger = leg->replica && !leg->tie_breaker && (leg->status.flags & REPLICA_UNTOUCHED) == 0 &&
                             !leg->overwrite && (uuid_is_nil(&leg->known) || !uuid_equal(&leg->known, &leg->attach.uuid));
        leg->told.recordless = leg->told.stranger;
        if (leg->told.stranger) {
            leg->verdict = DECIDE_STRANGER;
            stick(leg, "it holds data, and no record of this mirror");
        }
        return !leg->told.stranger;
    }
    leg->told.recordless = false;
    leg->told.stranger = !uuid_equal(&record->mirror, &leg->mirror->id);
    if (leg->told.stranger) {
        uuid_format(&record->mirror, text);
        snprintf(why, sizeof(why), "it is a leg of mirror %s", text);
        stick(leg, why);
        return false;
    }
    if (uuid_equal(&record->leg, &leg->config.id) || leg->forget)
        return true;
    if (!mirror_leg_trade(leg)) {
        stick(leg, "it is offered twice");
        return false;
    }
    leg->forget = !uuid_equal(&record->leg, &leg->config.id);
    return !leg->forget || leg->mirror->state == MIRROR_SERVING; /* nobody forgets while it may be needed */
}

static void seen(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (!leg->configured && !leg->forget && !leg->counted) {
        mirror_commands_look(mirror); /* it is being added: looked at there */
        return;
    }
    if (runs(mirror)) {
        if (!identify(leg))
            return;
        if (mirror_leg_misfits(leg, mirror->size)) {
            stick(leg, "it is not as large as the mirror");
            return;
        }
        if (!may_forget(leg))
            judge_record(leg);
        else
            leg->verdict = DECIDE_FULL;
        if (leg->verdict == DECIDE_DIVERGED) {
            stick(leg, "it has another history: kept as it is until it is discarded");
            return;
        }
    } else if (leg->relook) {
        leg->relook = leg->seen = false;
        task_move(&leg->task, LEG_LOOK);
        mirror_leg_get(leg, REPLICA_STATUS, 0, 0, sizeof(struct replica_status));
        return;
    } else if (!leg->allowed) {
        return;
    }
    struct replica_claim *claim = leg->call_document;
    uint64_t before = leg->status.record.promised_attempt;
    if (may_forget(leg) && (leg->status.flags & REPLICA_HAS_RECORD) == 0) {
        leg->forget = false;
        task_move(&leg->task, LEG_REST);
        return;
    }
    if (uuid_equal(&leg->status.record.promised_engine, &mirror->engine))
        leg->attempt = max_u64(leg->attempt, before);
    *claim =
        (struct replica_claim){.mirror = mirror->id, .engine = mirror->engine, .term = mirror->term, .attempt = ++leg->attempt};
    if ((leg->status.flags & REPLICA_HAS_RECORD) == 0)
        claim->leg = leg->config.id;
    task_move(&leg->task, LEG_CLAIM);
    mirror_call_send(leg, &leg->call, BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLAIM, 0, 0), 0, claim, sizeof(*claim),
                     mirror_leg_called);
}

static void claimed(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->call.busy)
        return;
    leg->claim_status = leg->call.status;
    if ((leg->forget || leg->discard) && leg->call.status == IO_FENCED) { /* that engine may have no other leg of this mirror */
        leg->overwrite = leg->overwrite && !leg->discard;
        leg->verdict = leg->discard ? DECIDE_DIVERGED : leg->verdict; /* it still is */
        leg->forget = leg->discard = false;
        stick(leg, "it is promised to an engine of a higher term than this one's");
        return;
    }
    if (leg->call.status == IO_FENCED && mirror->state != MIRROR_SERVING && mirror->state != MIRROR_HOLDING) {
        leg->allowed = false;
        mirror_start_wake(mirror); /* the start is refused: it looks at claim_status */
        task_move(&leg->task, LEG_SEEN);
        return;
    }
    if (!mirror_leg_went_well(leg, "it cannot be claimed"))
        return;
    if (may_forget(leg)) {
        struct uuid *id = leg->call_document;
        *id = mirror->id;
        task_move(&leg->task, LEG_FORGET);
        mirror_call_send(leg, &leg->call, BLOCK_REPLICA_PUT, replica_argument(REPLICA_FORGET, 0, 0), 0, id, sizeof(*id),
                         mirror_leg_called);
        return;
    }
    task_move(&leg->task, LEG_RELOOK);
    mirror_leg_get(leg, REPLICA_STATUS, 0, 0, sizeof(struct replica_status));
}

/* Without a record it is found anew, or leaves. */
static void forgotten(struct mirror_leg *leg) {
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not forget what it was"))
        return;
    leg->forget = false;
    leg->overwrite = true;
    leg->attempt = 0;
    leg->losses_in_row = 0;
    task_move(&leg->task, LEG_REST);
    mirror_commands_look(leg->mirror);
}

static void relooked(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not tell its record"))
        return;
    if (!take_status(leg) || (leg->status.flags & REPLICA_HAS_RECORD) == 0 ||
        !(leg->forget || uuid_equal(&leg->status.record.leg, &leg->config.id))) {
        stick(leg, "it is another leg than it said");
        return;
    }
    if ((leg->status.flags & REPLICA_CLAIM_YOURS) == 0) {
        back_off(leg, "the claim did not last");
        return;
    }
    leg->claimed = leg->seen = true; /* it may have been too late for the decision before */
    leg->own_id = leg->status.record.leg;
    leg->known = leg->attach.uuid;
    leg->overwrite = false;
    leg->lost = leg->fell = false;
    leg->recorded = false;
    leg->joined = leg->barrier = 0;
    leg->up_since_ns = reactor_now_ns(mirror->home);
    task_move(&leg->task, LEG_CLAIMED);
    mirror_start_wake(mirror);
    mirror_epoch_wake(mirror);
}

/* It keeps no record: nothing is known of it, not even what it missed. */
static void copy_all(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (mirror->state != MIRROR_SERVING)
        return; /* woken when it serves */
    if (leg->status.size != mirror->size) {
        stick(leg, "it is not as large as the mirror");
        return;
    }
    if (!mirror_work_begin(leg, mirror->regions.count)) {
        mirror_leg_lose(leg, "no memory for its work");
        return;
    }
    if (leg->upon == 0)
        bitmap_set_range(leg->work, 0, leg->work_count);
    mirror_missed_end(leg);
    leg->verdict = DECIDE_FULL;
    leg->base = (struct replica_epoch){0};
    leg->from_depth = leg->joined = leg->cursor = 0;
    leg->sync_base = leg->sync_share = 0;
    leg->blank = false;
    leg->blind_left = 0;
    leg->config.flags &= ~(uint32_t)REPLICA_LEG_BLANK;
    leg->retry.deadline_ns = 0;
    task_move(&leg->task, LEG_JOIN);
}

static void decided(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->foreign) {
        copy_all(leg);
        return;
    }
    if (!leg->configured && !leg->counted) {
        mirror_commands_look(mirror);
        return;
    }
    if ((mirror->members & mirror->standing & leg->bit) != 0) {
        task_move(&leg->task, LEG_MEMBER);
        mirror_leg_tell(leg, "");
        mirror_missed_end(leg);
        mirror_layers_drop(leg);
        return;
    }
    bool short_of_records = (mirror->state == MIRROR_HOLDING || mirror->state == MIRROR_STARTING) &&
                            mirror->epoch_task.state == EPOCH_SHORT && (mirror->sent_members & leg->bit) == 0;
    if (mirror->state != MIRROR_SERVING && !short_of_records)
        return; /* a start or the first survivor is what decides */
    if (mirror->plain) {
        copy_all(leg);
        return;
    }
    if (!leg->recorded) /* else a start had more to judge by, and what it came to is in the leg's record now */
        judge_record(leg);
    else if (leg->verdict == DECIDE_SOURCE)
        leg->verdict = DECIDE_RETURNING;
    if (leg->verdict == DECIDE_DIVERGED) {
        stick(leg, "it has another history: kept as it is until it is discarded");
        return;
    }
    /* It stores nothing that is not deeper than what it has: an epoch that came to nothing may have been as deep as this one. */
    const struct replica_epoch *own = &leg->status.record.epoch;
    if (own->depth >= mirror->epoch.depth && !replica_epoch_equal(own, &mirror->epoch)) {
        mirror->deepest = max_u64(mirror->deepest, own->depth);
        mirror->deeper = true;
        mirror_epoch_wake(mirror);
        return; /* woken when the change is complete */
    }
    task_move(&leg->task, LEG_ADOPT);
}

static bool is_recorded(const struct mirror_leg *leg) {
    return MIRROR_CANARY == MIRROR_CANARY_SYNCING_LATE ||
           (leg->recorded && replica_epoch_equal(&leg->store_epoch, &leg->mirror->epoch));
}

/* Its record says what it is now, as of the epoch sent last. */
static void adopt(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->store.busy)
        return;
    if (!is_recorded(leg)) {
        mirror_store_send(leg, false);
        return;
    }
    if ((leg->config.flags & (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK)) !=
        0) { /* it counts now that it has a record of this history */
        if (leg->wishes == 0)
            (void)mirror_config_wish(leg, (leg->config.flags & REPLICA_LEG_BLANK) != 0 ? WISH_FILL : WISH_INCLUDE);
        return;
    }
    if (leg->removing || leg->renewing || leg->forget)
        return; /* its record may be needed until that is complete */
    if (leg->tie_breaker) {
        task_move(&leg->task, LEG_WITNESS);
        mirror_leg_tell(leg, "");
        return;
    }
    leg->discard = false;
    leg->sync_base = leg->sync_share = 0;
    /* It has lost more than it missed, or all of it counts as missed. */
    if (leg->verdict != DECIDE_RETURNING || !mirror_tree_is_equal(leg) || leg->status.incarnation != leg->missed_incarnation)
        mirror_missed_end(leg);
    mirror_commands_look(mirror);
    leg->keeping = leg->listing = false;
    leg->blank = (leg->status.flags & REPLICA_UNTOUCHED) != 0;
    leg->blind_left = 0;
    leg->doubted = mirror_leg_is_doubtful(leg);
    leg->retry.deadline_ns = 0;
    task_move(&leg->task, LEG_KEEP);
}

static void join(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if (leg->store.busy || mirror->changing || mirror->state != MIRROR_SERVING)
        return; /* woken when the change is complete */
    if ((leg->joined == 0 && MIRROR_CANARY != MIRROR_CANARY_SYNCING_LATE) || !is_recorded(leg)) {
        leg->joined = mirror->epoch.depth;
        mirror_store_send(leg, false);
        return;
    }
    leg->barrier = mirror->sequence + 1;
    mirror_masks_update(mirror);
    task_move(&leg->task, LEG_BARRIER);
}

/* It took part, under the id that it had, in the epoch that made it another leg, or none. */
static bool is_stranger(const struct mirror_leg *leg) {
    const struct mirror *mirror = leg->mirror;
    return mirror_leg_is_up(leg) && !mirror->plain && mirror->state == MIRROR_SERVING && !mirror->changing &&
           (leg->configured ? !uuid_equal(&leg->own_id, &leg->config.id) : leg->removing);
}

/* It has everything, and is read from here on. Nothing depends on it: no record says so. */
static void is_foreign(struct mirror_leg *leg) {
    if (!leg->filling)
        leg->mirror->foreign |= leg->bit;
    mirror_masks_update(leg->mirror);
    mirror_leg_tell(leg, leg->filling ? "what lies under its head is being filled by somebody else"
                                      : "it keeps no record: it is copied as a whole whenever it returns");
}

void mirror_leg_filled(struct mirror_leg *leg) {
    leg->filling = false;
    if (leg->task.state != LEG_FOREIGN || !mirror_leg_is_up(leg))
        return;
    is_foreign(leg);
    task_wake(&leg->task);
}

static void step(struct task *task) {
    struct mirror_leg *leg = container_of(task, struct mirror_leg, task);
    struct mirror *mirror = leg->mirror;
    if (mirror->state == MIRROR_ENDED || mirror->closing) {
        if (task->state != LEG_OVER)
            task_move(task, LEG_OVER);
        else if (leg->leaving && leg->outstanding == 0 && !mirror->closing)
            mirror_attach_leave(leg);
        return;
    }
    leg->renewing = leg->renewing && mirror->config_done < leg->renewed;
    if (is_stranger(leg)) {
        leg->losses_in_row = 0;
        mirror_leg_lose(leg, leg->removing ? "it is being removed" : "it has another id now");
    }
    if (leg->fell && task->state != LEG_REST) {
        leg->fell = false;
        mirror_work_leave_source(leg);
        task_move(task, LEG_REST);
        return;
    }
    MIRROR_AT(mirror, leg, MIRROR_POINT_LEG + task->state);
    switch ((enum leg_phase)task->state) {
    case LEG_REST: rest(leg); break;
    case LEG_LOOK: looked(leg); break;
    case LEG_SEEN: seen(leg); break;
    case LEG_CLAIM: claimed(leg); break;
    case LEG_RELOOK: relooked(leg); break;
    case LEG_FORGET: forgotten(leg); break;
    case LEG_CLAIMED: decided(leg); break;
    case LEG_ADOPT: adopt(leg); break;
    case LEG_KEEP: mirror_layers_keep(leg); break;
    case LEG_TREES: mirror_layers_begin(leg); break;
    case LEG_TREE_STEP: mirror_layers_step(leg); break;
    case LEG_TREE_CHANGE: mirror_layers_change(leg); break;
    case LEG_FILL_LIST: mirror_layers_list(leg); break;
    case LEG_FILL: mirror_layers_fill(leg); break;
    case LEG_FILL_FLUSH: mirror_layers_freeze(leg); break;
    case LEG_LISTED: mirror_work_listed(leg); break;
    case LEG_OWNED: (leg->replica ? mirror_work_owned : mirror_work_upon)(leg); break;
    case LEG_OWN_MARKS: mirror_work_own_marks(leg); break;
    case LEG_JOIN: join(leg); break;
    case LEG_BARRIER:
        mirror->watched = true;
        if (!mirror_io_all_after(mirror, leg->barrier))
            break;
        /* A copy among the members may have begun without it, from one whose marks are not asked. */
        for (uint64_t i = 0; mirror->regions.unequal_count > 0 && i < bitmap_words(mirror->regions.count); i++)
            leg->work[i] |= mirror->regions.unequal[i];
        task_move(task, leg->replica ? LEG_SOURCE_MARKS : leg->upon != 0 ? LEG_OWNED : LEG_COPY);
        if (!leg->replica && leg->upon == 0) {
            mirror_work_count(leg, 0);
            mirror_copy_wake(mirror);
        }
        break;
    case LEG_SOURCE_MARKS: mirror_work_source_marks(leg); break;
    case LEG_MARK: mirror_work_marked(leg); break;
    case LEG_COPY:
        if (!mirror_cursor_step(leg, 0) || leg->work_left > 0 || leg->copying > 0)
            break; /* resync.c wakes */
        task_move(task, LEG_FLUSH);
        mirror_call_send(leg, &leg->call, BLOCK_FLUSH, 0, 0, NULL, 0, mirror_leg_called);
        break;
    case LEG_FLUSH:
        if (leg->call.busy || !mirror_leg_went_well(leg, "it does not flush"))
            break;
        if (leg->foreign) {
            is_foreign(leg);
            leg->returned = true;
            leg->told.sync_total = leg->told.sync_done = 0;
            task_move(task, LEG_FOREIGN);
            break;
        }
        task_move(task, LEG_RAISE);
        mirror_epoch_wake(mirror);
        break;
    case LEG_RAISE:
        if ((mirror->members & mirror->standing & leg->bit) == 0)
            break;
        mirror_leg_tell(leg, "");
        mirror_missed_end(leg);
        leg->doubted = false;
        leg->returned = true;
        leg->refusals = 0;
        leg->told.sync_total = leg->told.sync_done = 0;
        task_move(task, LEG_MEMBER);
        mirror_layers_drop(leg);
        break;
    case LEG_MEMBER:
    case LEG_WITNESS:
    case LEG_FOREIGN:
    case LEG_STUCK:
    case LEG_OVER:
    case LEG_PHASES: break;
    }
    leg->told.state = leg->channel == NULL                         ? MIRROR_LEG_ABSENT
                      : leg->faulted && task->state == LEG_STUCK   ? MIRROR_LEG_FAULTED
                      : leg->filling && task->state == LEG_FOREIGN ? MIRROR_LEG_SYNCING
                                                                   : shown[task->state];
}

static void step_and_tell(struct task *task) {
    step(task);
    mirror_watch_look(container_of(task, struct mirror_leg, task)->mirror);
}

static const struct task_type type = {
    .name = "mirror leg", .state_names = names, .state_count = LEG_PHASES, .moves = moves, .step = step_and_tell};

static void retry(struct reactor_timer *timer) {
    struct mirror_leg *leg = container_of(timer, struct mirror_leg, retry);
    task_wake(&leg->task);
}

bool mirror_leg_init(struct mirror_leg *leg) {
    if (leg->call_document == NULL)
        leg->call_document = calloc(1, REPLICA_DOCUMENT_MAX);
    if (leg->store_document == NULL)
        leg->store_document = calloc(1, REPLICA_DOCUMENT_MAX);
    return (leg->work != NULL || mirror_work_begin(leg, leg->mirror->regions.count)) && leg->call_document != NULL &&
           leg->store_document != NULL;
}

void mirror_leg_fini(struct mirror_leg *leg) {
    mirror_missed_end(leg);
    mirror_layers_fini(leg);
    free(leg->work);
    free(leg->doubtful);
    free(leg->call_document);
    free(leg->store_document);
}

void mirror_leg_begin(struct mirror_leg *leg) {
    leg->lost = true;
    leg->claimed = leg->fell = leg->seen = false;
    leg->retry = (struct reactor_timer){.run = retry};
    task_start(&leg->task, &type, leg->mirror->home, LEG_REST, UINT64_MAX);
}
