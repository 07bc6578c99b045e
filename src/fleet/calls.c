/* Calls of nodes for a volume: who has room for a replica, how its parts are, and the steps of a plan. What they answer is what
 * the next plan is made of. Must not know: how calls reach nodes; what is planned (plan.h). */
#include <stdio.h>
#include <stdlib.h>

#include "fleet/internal.h"

/* ---- calls ---- */

static struct fleet_call *calls_begin(struct fleet_volume *volume, enum fleet_stage stage, unsigned max) {
    free(volume->calls);
    volume->calls = calloc(max, sizeof(*volume->calls));
    assert(volume->calls != NULL);
    volume->stage = stage;
    volume->call_count = 0;
    return volume->calls;
}

static struct fleet_call *calls_add(struct fleet_volume *volume, enum fleet_act act, const char *node,
                                    void (*done)(struct fleet_call *call)) {
    struct fleet_call *call = &volume->calls[volume->call_count++];
    call->act = act;
    call->done = done;
    call->volume_of = volume;
    fleet_copy(call->node, sizeof(call->node), node);
    fleet_copy(call->volume, sizeof(call->volume), volume->record.name);
    return call;
}

static void calls_send(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    volume->calls_missing = volume->call_count;
    for (unsigned i = 0, count = volume->call_count; i < count; i++)
        fleet->options.peers.call(fleet->options.peers.arg, &volume->calls[i]);
}

/* True: it was the last one. */
static bool calls_all_done(struct fleet_volume *volume) {
    assert(volume->calls_missing > 0);
    return --volume->calls_missing == 0;
}

/* ---- places ---- */

static void placed(struct fleet_call *call) {
    struct fleet_volume *volume = call->volume_of;
    struct fleet_request *request = volume->placing;
    if (!calls_all_done(volume))
        return;
    volume->stage = FLEET_IDLE;
    volume->placing = NULL;
    if (request != NULL) { /* else it has expired */
        request->placed = true;
        if (!request_place(request, volume->calls, volume->call_count))
            request_end(request);
    }
    fleet_volume_proceed(volume);
}

void fleet_volume_place(struct fleet_volume *volume, struct fleet_request *request) {
    char nodes[FLEET_NODES_MAX][FLEET_NODE_SIZE];
    unsigned count = request_candidates(request, nodes);
    volume->placing = request;
    calls_begin(volume, FLEET_PLACING, 2 * count + 1);
    for (unsigned i = 0; i < count; i++) {
        calls_add(volume, FLEET_LOOK_NODE, nodes[i], placed);
        if (request->verb == FLEET_CREATE && strcmp(nodes[i], volume->fleet->options.address) != 0)
            fleet_copy(calls_add(volume, FLEET_LOOK_VOLUME, nodes[i], placed)->name, CONTROL_NAME_MAX + 1, volume->record.name);
    }
    assert(count > 0);
    calls_send(volume);
}

/* ---- looks ---- */

static struct fleet_thing *thing_of(struct fleet_volume *volume, const struct fleet_step *step) {
    switch (step->act) {
    case FLEET_LOOK_REPLICA:
    case FLEET_REPLICA_CREATE:
    case FLEET_REPLICA_DELETE: return &volume->seen.members[step->member];
    case FLEET_LOOK_FRONTEND:
    case FLEET_FRONTEND_CREATE:
    case FLEET_FRONTEND_DELETE: return &volume->seen.frontend;
    case FLEET_LOOK_CLONE:
    case FLEET_ENGINE_CLONE: return &volume->seen.clone;
    default: return &volume->seen.engine;
    }
}

static void see(struct fleet_volume *volume, const struct fleet_call *call) {
    struct fleet_thing *thing = thing_of(volume, &call->step);
    if (call->answer == FLEET_DONE)
        *thing = call->thing;
    else
        *thing = (struct fleet_thing){.presence = call->answer == FLEET_NOT_THERE ? FLEET_ABSENT : FLEET_UNKNOWN};
    if (thing->presence == FLEET_UNKNOWN)
        snprintf(thing->text, sizeof(thing->text), "%.190s", call->text);
    thing->fresh = thing->presence != FLEET_UNKNOWN;
    if (thing != &volume->seen.engine)
        return;
    memcpy(volume->seen.legs, call->seen_legs, sizeof(volume->seen.legs));
    volume->seen.leg_count = call->answer == FLEET_DONE ? call->seen_leg_count : 0;
}

static void plan(struct fleet_volume *volume);

static void looked(struct fleet_call *call) {
    struct fleet_volume *volume = call->volume_of;
    see(volume, call);
    if (!calls_all_done(volume))
        return;
    volume->stage = FLEET_IDLE;
    if (volume->fleet->stopping)
        fleet_volume_proceed(volume);
    else
        plan(volume);
}

static void look_at(struct fleet_volume *volume, enum fleet_act act, unsigned member, const char *node, const char *name) {
    const struct fleet_step step = {act, member};
    if (thing_of(volume, &step)->fresh)
        return;
    struct fleet_call *call = calls_add(volume, act, node, looked);
    call->step = step;
    fleet_copy(call->name, sizeof(call->name), name);
    fleet_copy(call->snapshot, sizeof(call->snapshot), volume->record.snapshot);
}

/* At all that is to be planned for and may have changed. */
void fleet_volume_look(struct fleet_volume *volume) {
    const struct fleet_record *record = &volume->record;
    const char *here = volume->fleet->options.address;
    char name[CONTROL_NAME_MAX + 1];
    calls_begin(volume, FLEET_LOOKING, record->member_count + 3);
    for (unsigned i = 0; i < record->member_count; i++)
        if (record->phase != FLEET_STANDING || record->members[i].change != FLEET_STAYS || record->revert != FLEET_NO_REVERT)
            look_at(volume, FLEET_LOOK_REPLICA, i, record->members[i].node, record->members[i].name);
    fleet_engine_name(record, name);
    look_at(volume, FLEET_LOOK_ENGINE, 0, here, name);
    if (record->phase == FLEET_MAKING && record->clone == FLEET_CLONING)
        look_at(volume, FLEET_LOOK_CLONE, 0, here, name);
    fleet_frontend_name(record, name);
    if (record->frontend[0] == '\0')
        volume->seen.frontend = (struct fleet_thing){.presence = FLEET_ABSENT, .fresh = true};
    else
        look_at(volume, FLEET_LOOK_FRONTEND, 0, here, name);
    if (volume->call_count > 0) {
        calls_send(volume);
        return;
    }
    volume->stage = FLEET_IDLE;
    plan(volume);
}

/* ---- steps ---- */

void fleet_volume_forget_seen(struct fleet_volume *volume) {
    volume->seen.engine.fresh = volume->seen.frontend.fresh = volume->seen.clone.fresh = false;
    for (unsigned i = 0; i < FLEET_MEMBERS_MAX; i++)
        volume->seen.members[i].fresh = false;
}

static void pause_and_look_again(struct fleet_volume *volume, const char *waits_for) {
    fleet_copy(volume->waits_for, sizeof(volume->waits_for), waits_for);
    fleet_volume_pause(volume);
    fleet_volume_forget_seen(volume);
    fleet_tell_watchers(volume->fleet);
}

static bool is_making(enum fleet_act act) {
    return act == FLEET_REPLICA_CREATE || act == FLEET_ENGINE_CREATE || act == FLEET_FRONTEND_CREATE;
}

static bool is_deletion(enum fleet_act act) {
    return act == FLEET_REPLICA_DELETE || act == FLEET_ENGINE_DELETE || act == FLEET_FRONTEND_DELETE;
}

/* What the answer says: true if the step was refused. */
static bool hear(struct fleet_volume *volume, struct fleet_call *call) {
    struct fleet_thing *thing = thing_of(volume, &call->step);
    bool done = call->answer == FLEET_DONE || (call->answer == FLEET_NOT_THERE && is_deletion(call->act));
    if (done && is_making(call->act))
        see(volume, call);
    else if (done && is_deletion(call->act))
        *thing = (struct fleet_thing){.presence = FLEET_ABSENT, .fresh = true};
    else
        thing->fresh = volume->seen.engine.fresh = false;
    if (call->act == FLEET_ENGINE_DELETE && done)
        volume->seen.leg_count = 0;
    if (done && is_making(call->act) && call->thing.state == CONTROL_ERROR)
        snprintf(call->text, sizeof(call->text), "%s", call->thing.text[0] != '\0' ? call->thing.text : "it is in error");
    else if (done || call->answer == FLEET_NO_ANSWER)
        return false;
    return true;
}

/* The engine may have done it at a try before, which nobody was told of: it is looked at first. */
static bool note_refusal(struct fleet_volume *volume, const struct fleet_call *call, const char *text) {
    const struct fleet_member *member = &volume->record.members[call->step.member];
    if (volume->record.phase != FLEET_STANDING || (call->act != FLEET_ENGINE_ADD && call->act != FLEET_ENGINE_REMOVE))
        return fleet_plan_refused(&volume->record, &call->step, text);
    volume->refusal.act = call->act;
    fleet_copy(volume->refusal.member, sizeof(volume->refusal.member), member->name);
    fleet_copy(volume->refusal.text, sizeof(volume->refusal.text), text);
    return false;
}

/* True: the record changes by it. */
static bool judge_refusal(struct fleet_volume *volume) {
    enum fleet_act act = volume->refusal.act;
    const struct fleet_member *member = fleet_record_member(&volume->record, volume->refusal.member);
    bool has = fleet_seen_has_leg(&volume->seen, volume->refusal.member);
    volume->refusal.member[0] = '\0';
    if (member == NULL || volume->seen.engine.presence == FLEET_UNKNOWN || has != (act == FLEET_ENGINE_REMOVE))
        return false;
    const struct fleet_step step = {act, (unsigned)(member - volume->record.members)};
    fleet_copy(volume->waits_for, sizeof(volume->waits_for), volume->refusal.text);
    return fleet_plan_refused(&volume->record, &step, volume->refusal.text);
}

static void called(struct fleet_call *last) {
    struct fleet_volume *volume = last->volume_of;
    struct fleet *fleet = volume->fleet;
    bool refused = false, unanswered = false, changed = false;
    char text[256] = "", silence[256] = "";
    if (!calls_all_done(volume))
        return;
    volume->stage = FLEET_IDLE;
    fleet_volume_keep_before(volume);
    for (unsigned i = 0; i < volume->call_count; i++) {
        struct fleet_call *call = &volume->calls[i];
        if (hear(volume, call)) {
            snprintf(text, sizeof(text), "%s %.63s on %.47s: %.100s", fleet_act_name(call->act), call->name, call->node,
                     call->text);
            log_warning(fleet->log, LOG_AREA_APP, "volume %s: %s", volume->record.name, text);
            refused = true;
            changed = note_refusal(volume, call, text) || changed;
        } else if (call->answer == FLEET_NO_ANSWER) {
            snprintf(silence, sizeof(silence), "%s %.63s: node %.47s does not answer: %.90s", fleet_act_name(call->act),
                     call->name, call->node, call->text);
            unanswered = true;
        } else {
            changed = fleet_plan_done(&volume->record, &call->step) || changed;
        }
    }
    if (refused)
        fleet_copy(volume->waits_for, sizeof(volume->waits_for), text);
    bool looks = volume->refusal.member[0] != '\0' && !unanswered;
    if (changed) /* what follows may take long after what was seen */
        fleet_volume_forget_seen(volume);
    if (changed && !fleet->stopping)
        fleet_volume_record(volume, NULL);
    else if (looks || fleet->stopping)
        fleet_volume_proceed(volume);
    else if (refused || unanswered)
        pause_and_look_again(volume, refused ? text : silence);
    else
        fleet_volume_proceed(volume);
}

static void put_legs(const struct fleet_volume *volume, struct fleet_call *call) {
    const struct fleet_record *record = &volume->record;
    for (unsigned i = 0; i < record->member_count && call->leg_count < CONTROL_LEGS_MAX; i++) {
        struct control_leg_record *leg = &call->legs[call->leg_count++];
        fleet_copy(leg->name, sizeof(leg->name), record->members[i].name);
        bool seen = volume->seen.members[i].address[0] != '\0';
        fleet_copy(leg->address, sizeof(leg->address), seen ? volume->seen.members[i].address : record->members[i].address);
    }
}

static void put_leg(const struct fleet_volume *volume, unsigned member, struct fleet_call *call) {
    struct control_leg_record *leg = &call->legs[call->leg_count++];
    fleet_copy(leg->name, sizeof(leg->name), volume->record.members[member].name);
    if (call->act == FLEET_ENGINE_ADD)
        fleet_copy(leg->address, sizeof(leg->address), volume->seen.members[member].address);
}

static void add_step(struct fleet_volume *volume, const struct fleet_step *step) {
    const struct fleet_record *record = &volume->record;
    const struct fleet_member *member = &record->members[step->member];
    bool of_replica = step->act == FLEET_REPLICA_CREATE || step->act == FLEET_REPLICA_DELETE;
    bool of_frontend =
        step->act == FLEET_FRONTEND_CREATE || step->act == FLEET_FRONTEND_DELETE || step->act == FLEET_FRONTEND_EXPAND;
    struct fleet_call *call = calls_add(volume, step->act, of_replica ? member->node : volume->fleet->options.address, called);
    call->step = *step;
    call->bytes = record->wanted_bytes;
    bool hidden = record->revert == FLEET_REVERTING || record->clone == FLEET_CLONING;
    if (step->act != FLEET_ENGINE_CREATE || !hidden)
        fleet_copy(call->frontend, sizeof(call->frontend), record->frontend);
    fleet_copy(call->snapshot, sizeof(call->snapshot),
               step->act == FLEET_ENGINE_CLONE ? record->source_snapshot : record->snapshot);
    if (step->act == FLEET_ENGINE_CLONE) {
        struct fleet_record source = {.name = ""};
        fleet_copy(source.name, sizeof(source.name), record->source);
        fleet_engine_name(&source, call->source);
    }
    fleet_engine_name(record, call->engine);
    fleet_copy(call->target, sizeof(call->target), volume->seen.engine.address);
    if (of_replica) {
        fleet_copy(call->name, sizeof(call->name), member->name);
        fleet_copy(call->disk, sizeof(call->disk), member->disk);
    } else if (of_frontend) {
        fleet_frontend_name(record, call->name);
    } else {
        fleet_engine_name(record, call->name);
    }
    if (step->act == FLEET_ENGINE_CREATE)
        put_legs(volume, call);
    else if (step->act == FLEET_ENGINE_ADD || step->act == FLEET_ENGINE_REMOVE)
        put_leg(volume, step->member, call);
}

static void plan(struct fleet_volume *volume) {
    struct fleet_plan plan;
    fleet_volume_keep_before(volume);
    if (volume->refusal.member[0] != '\0' && judge_refusal(volume)) {
        fleet_volume_record(volume, NULL);
        return;
    }
    if (fleet_plan_advance(&volume->record, &volume->seen)) {
        fleet_volume_forget_seen(volume); /* it may take long to write */
        fleet_volume_record(volume, NULL);
        return;
    }
    fleet_plan_make(&volume->record, &volume->seen, &plan);
    switch (plan.outcome) {
    case FLEET_CARRY_OUT:
        calls_begin(volume, FLEET_CALLING, plan.step_count);
        for (unsigned i = 0; i < plan.step_count; i++)
            add_step(volume, &plan.steps[i]);
        calls_send(volume);
        break;
    case FLEET_REFUSED: {
        const struct fleet_step step = {FLEET_LOOK_ENGINE, 0};
        fleet_copy(volume->waits_for, sizeof(volume->waits_for), plan.text);
        if (fleet_plan_refused(&volume->record, &step, plan.text))
            fleet_volume_record(volume, NULL);
        else
            pause_and_look_again(volume, plan.text);
        break;
    }
    case FLEET_REACHED:
    case FLEET_WAIT:
        if (volume->record.phase == FLEET_MAKING && volume->record.clone == FLEET_CLONING &&
            volume->seen.clone.presence == FLEET_PRESENT && volume->seen.engine.presence == FLEET_PRESENT &&
            volume->seen.engine.state == CONTROL_RUNNING) /* a copy ends by itself */
            volume->expires_ns = fleet_now_ns(volume->fleet) + FLEET_GIVE_UP_S * NS_PER_S;
        pause_and_look_again(volume, plan.text);
        break;
    }
}
