#include "fleet/plan.h"

#include <stdarg.h>
#include <stdio.h>

const char *fleet_act_name(enum fleet_act act) {
    static const char *const names[] = {[FLEET_LOOK_NODE] = "look at node",         [FLEET_LOOK_VOLUME] = "look for volume",
                                        [FLEET_LOOK_REPLICA] = "look at replica",   [FLEET_LOOK_ENGINE] = "look at engine",
                                        [FLEET_LOOK_CLONE] = "look at the copy of", [FLEET_LOOK_FRONTEND] = "look at frontend",
                                        [FLEET_REPLICA_CREATE] = "make replica",    [FLEET_REPLICA_DELETE] = "delete replica",
                                        [FLEET_ENGINE_CREATE] = "make engine",      [FLEET_ENGINE_DELETE] = "delete engine",
                                        [FLEET_ENGINE_PROMOTE] = "promote engine",  [FLEET_ENGINE_EXPAND] = "expand engine",
                                        [FLEET_ENGINE_ADD] = "add replica",         [FLEET_ENGINE_REMOVE] = "remove replica",
                                        [FLEET_ENGINE_REVERT] = "revert engine",    [FLEET_ENGINE_CLONE] = "copy to engine",
                                        [FLEET_FRONTEND_CREATE] = "make frontend",  [FLEET_FRONTEND_DELETE] = "delete frontend",
                                        [FLEET_FRONTEND_EXPAND] = "expand frontend"};
    return names[act];
}

bool fleet_seen_has_leg(const struct fleet_seen *seen, const char *name) {
    for (unsigned i = 0; i < seen->leg_count; i++)
        if (strcmp(seen->legs[i].name, name) == 0)
            return true;
    return false;
}

/* ---- plans ---- */

static void add(struct fleet_plan *plan, enum fleet_act act, unsigned member) {
    assert(plan->step_count < array_count(plan->steps));
    plan->outcome = FLEET_CARRY_OUT;
    plan->steps[plan->step_count++] = (struct fleet_step){act, member};
}

/* Unless there is something to do meanwhile. */
static void wait_for(struct fleet_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wait_for(struct fleet_plan *plan, const char *format, ...) {
    va_list arguments;
    if (plan->outcome != FLEET_REACHED)
        return;
    plan->outcome = FLEET_WAIT;
    va_start(arguments, format);
    vsnprintf(plan->text, sizeof(plan->text), format, arguments);
    va_end(arguments);
}

static void refuse(struct fleet_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void refuse(struct fleet_plan *plan, const char *format, ...) {
    va_list arguments;
    plan->outcome = FLEET_REFUSED;
    va_start(arguments, format);
    vsnprintf(plan->text, sizeof(plan->text), format, arguments);
    va_end(arguments);
}

static bool is_state(const struct fleet_thing *thing, enum control_state state) {
    return thing->presence == FLEET_PRESENT && thing->state == state;
}

/* Somebody else's, under the name that ours would have. */
static bool is_foreign(const struct fleet_record *record, const struct fleet_thing *thing) {
    return thing->presence == FLEET_PRESENT && strcmp(thing->volume, record->name) != 0;
}

/* There, and served. True if it is; else the plan says what follows. */
static bool plan_member(const struct fleet_record *record, const struct fleet_seen *seen, unsigned at, struct fleet_plan *plan) {
    const struct fleet_member *member = &record->members[at];
    const struct fleet_thing *thing = &seen->members[at];
    if (is_state(thing, CONTROL_RUNNING))
        return true;
    if (thing->presence == FLEET_UNKNOWN)
        wait_for(plan, "replica %s: node %s does not answer: %s", member->name, member->node, thing->text);
    else if (thing->presence == FLEET_ABSENT || thing->state == CONTROL_STOPPED || thing->state == CONTROL_ERROR)
        add(plan, FLEET_REPLICA_CREATE, at);
    else
        wait_for(plan, "replica %s on %s is %s", member->name, member->node, control_state_name(thing->state));
    return false;
}

/* A volume that was is not kept waiting for a replica that has gone away or failed meanwhile, if those that are there can tell
 * that they are newest: of more than two the most; of two either one, which the mirror starts without the other only if that has
 * missed something. */
static bool is_spared(const struct fleet_record *record, const struct fleet_seen *seen, unsigned at) {
    const struct fleet_thing *thing = &seen->members[at];
    bool fails = thing->presence != FLEET_PRESENT || thing->state == CONTROL_ERROR;
    unsigned running = 0;
    for (unsigned i = 0; i < record->member_count; i++)
        running += is_state(&seen->members[i], CONTROL_RUNNING);
    return record->revert == FLEET_RESTORING && fails && record->members[at].address[0] != '\0' &&
           running > (record->member_count > 2 ? record->member_count / 2 : 0);
}

/* All that an engine is to be made of is there, or is spared. */
static bool plan_members(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    bool all = true;
    for (unsigned i = 0; i < record->member_count; i++)
        all = (is_spared(record, seen, i) || plan_member(record, seen, i, plan)) && all;
    return all;
}

/* It runs and has its replicas. */
static bool serves(const struct fleet_record *record, const struct fleet_thing *engine) {
    return is_state(engine, CONTROL_RUNNING) && !engine->standby && !is_foreign(record, engine);
}

/* An engine that is made anew stands by if it finds claims of the one before: that was deleted while a replica of it, or its own
 * plane, was not reached. Nobody else makes engines of a volume that is being made; nor of one in a revert, whose own engine
 * served when that began and which has no frontend since. So nobody's engine is taken away, and that is recorded before the first
 * step: where users have switched over to one of theirs, the volume's own did not serve, and a standby waits. Should one be made
 * by hand all the same, or that claim be of an engine whose end was not heard of: the promotion claims under a younger term, all
 * older ones are fenced from then on, and no two write. */
static bool may_promote(const struct fleet_record *record, const struct fleet_seen *seen) {
    bool free = seen->frontend.presence == FLEET_ABSENT || is_foreign(record, &seen->frontend);
    return free && (record->phase == FLEET_MAKING || (record->revert != FLEET_NO_REVERT && record->served));
}

static void plan_standby(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    if (may_promote(record, seen))
        add(plan, FLEET_ENGINE_PROMOTE, 0);
    else
        wait_for(plan, "its engine is a %s", seen->engine.text);
}

static bool plan_engine(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *engine = &seen->engine;
    if (is_foreign(record, engine)) {
        refuse(plan, "the engine that would be its own is there, and of volume %s", engine->volume);
        return false;
    }
    if (is_state(engine, CONTROL_RUNNING)) {
        if (engine->standby)
            plan_standby(record, seen, plan);
        return !engine->standby;
    }
    if (!plan_members(record, seen, plan))
        return false;
    if (engine->presence == FLEET_UNKNOWN)
        wait_for(plan, "its engine: %s", engine->text);
    else if (engine->presence == FLEET_ABSENT || engine->state == CONTROL_ERROR)
        add(plan, FLEET_ENGINE_CREATE, 0);
    else
        wait_for(plan, "its engine is %s%s%s", control_state_name(engine->state), engine->text[0] != '\0' ? ": " : "",
                 engine->text);
    return false;
}

static bool frontend_stands(const struct fleet_record *record, const struct fleet_seen *seen) {
    return record->frontend[0] == '\0' || is_state(&seen->frontend, CONTROL_RUNNING) ||
           is_state(&seen->frontend, CONTROL_SUSPENDED);
}

/* Its engine has no target until all was copied, so that no host finds, or writes to, what is not yet there. */
static void plan_cloning(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *clone = &seen->clone;
    if (!plan_engine(record, seen, plan))
        return;
    if (clone->presence == FLEET_UNKNOWN)
        wait_for(plan, "its engine: %s", clone->text);
    else if (clone->presence == FLEET_ABSENT && !seen->engine.whole)
        wait_for(plan, "not all of its replicas are whole");
    else if (clone->presence == FLEET_ABSENT)
        add(plan, FLEET_ENGINE_CLONE, 0);
    else if (clone->state == CONTROL_ERROR)
        refuse(plan, "snapshot %s of %s was not copied: %s", record->source_snapshot, record->source, clone->text);
    else if (clone->state != CONTROL_RUNNING)
        wait_for(plan, "snapshot %s of %s is being copied: %u %%", record->source_snapshot, record->source, clone->percent);
}

/* True: the engine was made to have no target, for what is done by now. */
static bool is_hidden(const struct fleet_record *record, const struct fleet_thing *engine) {
    return record->frontend[0] != '\0' && engine->presence == FLEET_PRESENT && !is_foreign(record, engine) && !engine->offered;
}

static void plan_making(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *frontend = &seen->frontend;
    if (record->clone == FLEET_CLONING) {
        plan_cloning(record, seen, plan);
        return;
    }
    if (record->phase == FLEET_MAKING && record->clone == FLEET_CLONED && is_hidden(record, &seen->engine) &&
        (seen->engine.state == CONTROL_RUNNING || seen->engine.state == CONTROL_ERROR)) {
        add(plan, FLEET_ENGINE_DELETE, 0);
        return;
    }
    if (!plan_engine(record, seen, plan) || frontend_stands(record, seen))
        return;
    if (is_foreign(record, frontend))
        refuse(plan, "the frontend that would be its own is there, and of volume %s", frontend->volume);
    else if (frontend->presence == FLEET_UNKNOWN)
        wait_for(plan, "its frontend: %s", frontend->text);
    else if (frontend->presence == FLEET_ABSENT || frontend->state == CONTROL_ERROR)
        add(plan, FLEET_FRONTEND_CREATE, 0);
    else
        wait_for(plan, "its frontend is %s", control_state_name(frontend->state));
}

/* From the user downwards: a frontend without an engine serves nobody, and replicas that an engine has are not deleted under it.
 */
static void plan_going(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *frontend = &seen->frontend, *engine = &seen->engine;
    if (frontend->presence == FLEET_UNKNOWN)
        wait_for(plan, "its frontend: %s", frontend->text);
    else if (frontend->presence == FLEET_PRESENT && !is_foreign(record, frontend))
        add(plan, FLEET_FRONTEND_DELETE, 0);
    else if (engine->presence == FLEET_UNKNOWN)
        wait_for(plan, "its engine: %s", engine->text);
    else if (engine->presence == FLEET_PRESENT && !is_foreign(record, engine))
        add(plan, FLEET_ENGINE_DELETE, 0);
    if (plan->outcome != FLEET_REACHED)
        return;
    for (unsigned i = 0; i < record->member_count; i++)
        if (seen->members[i].presence == FLEET_PRESENT)
            add(plan, FLEET_REPLICA_DELETE, i);
    for (unsigned i = 0; i < record->member_count; i++)
        if (seen->members[i].presence == FLEET_UNKNOWN && !record->abandon)
            wait_for(plan, "replica %s is to be deleted: node %s does not answer: %s", record->members[i].name,
                     record->members[i].node, seen->members[i].text);
}

/* It changes by commands on an engine that runs. */
static bool engine_serves(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *engine = &seen->engine;
    if (is_state(engine, CONTROL_RUNNING) && !is_foreign(record, engine))
        return true;
    wait_for(plan, "its engine is %s%s%s", engine->presence == FLEET_PRESENT ? control_state_name(engine->state) : "not there",
             engine->text[0] != '\0' ? ": " : "", engine->text);
    return false;
}

static void plan_coming(const struct fleet_record *record, const struct fleet_seen *seen, unsigned at, struct fleet_plan *plan) {
    if (!fleet_seen_has_leg(seen, record->members[at].name) && plan_member(record, seen, at, plan) &&
        engine_serves(record, seen, plan))
        add(plan, FLEET_ENGINE_ADD, at);
}

static void plan_leaving(const struct fleet_record *record, const struct fleet_seen *seen, unsigned at, struct fleet_plan *plan) {
    const struct fleet_member *member = &record->members[at];
    const struct fleet_thing *thing = &seen->members[at];
    if (seen->engine.presence == FLEET_UNKNOWN)
        wait_for(plan, "its engine: %s", seen->engine.text);
    else if (fleet_seen_has_leg(seen, member->name)) {
        if (engine_serves(record, seen, plan))
            add(plan, FLEET_ENGINE_REMOVE, at);
    } else if (thing->presence == FLEET_PRESENT)
        add(plan, FLEET_REPLICA_DELETE, at);
    else if (thing->presence == FLEET_UNKNOWN && !record->abandon)
        wait_for(plan, "replica %s is to be deleted: node %s does not answer: %s", member->name, member->node, thing->text);
}

/* Hosts lose the volume first, and its engine is another one, without a target, until it is done: nobody writes, so that a revert
 * of which nobody knows whether it was done may be done again. */
static void plan_reverting(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *frontend = &seen->frontend, *engine = &seen->engine;
    bool untouched = engine->offered || record->frontend[0] == '\0';
    if (engine->presence == FLEET_UNKNOWN) {
        wait_for(plan, "its engine: %s", engine->text);
    } else if (is_foreign(record, engine)) {
        refuse(plan, "the engine under its name is of volume %s", engine->volume);
    } else if (engine->offered && !is_state(engine, CONTROL_RUNNING)) { /* it cannot tell what it has */
        wait_for(plan, "its engine is %s%s%s", control_state_name(engine->state), engine->text[0] != '\0' ? ": " : "",
                 engine->text);
    } else if (untouched && engine->standby && !record->served) { /* it is another one that hosts write to */
        refuse(plan, "its engine is a %s", engine->text);
    } else if (untouched && serves(record, engine) && !engine->has_snapshot) {
        refuse(plan, "it has no snapshot %s", record->snapshot);
    } else if (engine->offered && !engine->whole) {
        refuse(plan, "not all of its replicas are whole");
    } else if (frontend->presence == FLEET_UNKNOWN) {
        wait_for(plan, "its frontend: %s", frontend->text);
    } else if (frontend->presence == FLEET_PRESENT && !is_foreign(record, frontend)) {
        add(plan, FLEET_FRONTEND_DELETE, 0);
    } else if (engine->presence == FLEET_PRESENT && engine->offered) {
        add(plan, FLEET_ENGINE_DELETE, 0);
    } else if (plan_engine(record, seen, plan)) {
        if (engine->whole)
            add(plan, FLEET_ENGINE_REVERT, 0);
        else
            wait_for(plan, "not all of its replicas are whole");
    }
}

/* A snapshot may be of the time before the volume grew: it is as large as it was again, before hosts find it. That is for the
 * engine without target to tell and to do, which therefore goes only while it runs, and when another one can be made. */
static void plan_restoring(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    const struct fleet_thing *engine = &seen->engine;
    bool runs = serves(record, engine);
    if (engine->standby && !is_foreign(record, engine) && !record->served && frontend_stands(record, seen))
        return; /* nothing was touched */
    if (runs && engine->bytes < record->bytes)
        add(plan, FLEET_ENGINE_EXPAND, 0);
    else if (!runs || !is_hidden(record, engine))
        plan_making(record, seen, plan);
    else if (plan_members(record, seen, plan))
        add(plan, FLEET_ENGINE_DELETE, 0);
}

static void plan_standing(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    if (record->revert != FLEET_NO_REVERT) {
        (record->revert == FLEET_REVERTING ? plan_reverting : plan_restoring)(record, seen, plan);
        return;
    }
    for (unsigned i = 0; i < record->member_count; i++) {
        if (record->members[i].change == FLEET_COMES)
            plan_coming(record, seen, i, plan);
        else if (record->members[i].change == FLEET_GOES)
            plan_leaving(record, seen, i, plan);
    }
    if (record->wanted_bytes > record->bytes && engine_serves(record, seen, plan) && seen->engine.bytes < record->wanted_bytes)
        add(plan, record->frontend[0] != '\0' && frontend_stands(record, seen) ? FLEET_FRONTEND_EXPAND : FLEET_ENGINE_EXPAND, 0);
}

void fleet_plan_make(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan) {
    *plan = (struct fleet_plan){.outcome = FLEET_REACHED};
    switch (record->phase) {
    case FLEET_MAKING: plan_making(record, seen, plan); break;
    case FLEET_STANDING: plan_standing(record, seen, plan); break;
    case FLEET_UNMAKING:
    case FLEET_DELETING: plan_going(record, seen, plan); break;
    case FLEET_FAILED:
    case FLEET_GONE: break;
    }
}

/* ---- what was done ---- */

static void drop(struct fleet_record *record, struct fleet_seen *seen, unsigned at) {
    fleet_record_drop(record, &record->members[at]);
    memmove(&seen->members[at], &seen->members[at + 1], (record->member_count - at) * sizeof(seen->members[0]));
}

static bool advance_members(struct fleet_record *record, struct fleet_seen *seen) {
    bool changed = false;
    for (unsigned i = record->member_count; i-- > 0;) {
        struct fleet_member *member = &record->members[i];
        enum fleet_presence presence = seen->members[i].presence;
        bool leg = fleet_seen_has_leg(seen, member->name), known = seen->engine.presence != FLEET_UNKNOWN;
        if (member->change == FLEET_COMES && leg) {
            member->change = FLEET_STAYS;
            changed = true;
        } else if (member->change == FLEET_GOES && known && !leg &&
                   (presence == FLEET_ABSENT || (presence == FLEET_UNKNOWN && record->abandon))) {
            drop(record, seen, i);
            changed = true;
        }
    }
    return changed;
}

static bool advance_size(struct fleet_record *record, const struct fleet_seen *seen) {
    if (!is_state(&seen->engine, CONTROL_RUNNING) || is_foreign(record, &seen->engine) || seen->engine.bytes <= record->bytes)
        return false;
    record->bytes = seen->engine.bytes; /* it is the one that knows */
    if (record->wanted_bytes < record->bytes)
        record->wanted_bytes = record->bytes;
    return true;
}

static bool end_revert(struct fleet_record *record) {
    record->revert = FLEET_NO_REVERT;
    record->snapshot[0] = record->failure[0] = '\0';
    record->served = false;
    for (unsigned i = 0; i < record->member_count; i++)
        memset(record->members[i].address, 0, sizeof(record->members[i].address));
    return true;
}

/* Its own engine serves, and is about to be taken away or reverted: that is recorded first (may_promote()). */
static bool begin_taking(struct fleet_record *record, const struct fleet_seen *seen, const struct fleet_plan *plan) {
    enum fleet_act act = plan->steps[0].act;
    bool takes = plan->outcome == FLEET_CARRY_OUT &&
                 (act == FLEET_FRONTEND_DELETE || act == FLEET_ENGINE_DELETE || act == FLEET_ENGINE_REVERT);
    if (record->served || !takes || !serves(record, &seen->engine))
        return false;
    record->served = true;
    return true;
}

bool fleet_plan_advance(struct fleet_record *record, struct fleet_seen *seen) {
    struct fleet_plan plan;
    fleet_plan_make(record, seen, &plan);
    bool reached = plan.outcome == FLEET_REACHED;
    switch (record->phase) {
    case FLEET_MAKING:
        if (reached && record->clone == FLEET_CLONING)
            record->clone = FLEET_CLONED;
        else if (reached)
            record->phase = FLEET_STANDING;
        return reached;
    case FLEET_UNMAKING:
        if (reached) {
            record->phase = FLEET_FAILED;
            record->member_count = 0;
        }
        return reached;
    case FLEET_DELETING:
        if (reached)
            record->phase = FLEET_GONE;
        return reached;
    case FLEET_STANDING: {
        if (record->revert == FLEET_REVERTING)
            return begin_taking(record, seen, &plan);
        if (record->revert == FLEET_RESTORING)
            return reached && end_revert(record);
        bool members = advance_members(record, seen), size = advance_size(record, seen);
        if (fleet_record_is_settled(record))
            record->abandon = false;
        return members || size;
    }
    default: return false;
    }
}

static void copy_failure(struct fleet_record *record, const char *text) {
    snprintf(record->failure, sizeof(record->failure), "%s", text);
}

static bool give_up_making(struct fleet_record *record, const char *text) {
    record->phase = FLEET_UNMAKING;
    copy_failure(record, text);
    return true;
}

/* What was before comes back, however long that takes. */
static bool give_up_reverting(struct fleet_record *record, const char *text) {
    if (record->revert != FLEET_REVERTING)
        return false;
    record->revert = FLEET_RESTORING;
    copy_failure(record, text);
    return true;
}

bool fleet_plan_done(struct fleet_record *record, const struct fleet_step *step) {
    if (step->act != FLEET_ENGINE_REVERT || record->phase != FLEET_STANDING || record->revert != FLEET_REVERTING)
        return false;
    record->revert = FLEET_RESTORING;
    return true;
}

bool fleet_plan_refused(struct fleet_record *record, const struct fleet_step *step, const char *text) {
    if (record->phase == FLEET_MAKING)
        return give_up_making(record, text);
    if (record->phase != FLEET_STANDING)
        return false; /* tried again: what is to go has to */
    if (record->revert != FLEET_NO_REVERT)
        return give_up_reverting(record, text);
    struct fleet_member *member = &record->members[step->member];
    switch (step->act) {
    case FLEET_REPLICA_CREATE:
    case FLEET_ENGINE_ADD: member->change = FLEET_GOES; return true;
    case FLEET_ENGINE_REMOVE: member->change = FLEET_STAYS; return true;
    case FLEET_ENGINE_EXPAND:
    case FLEET_FRONTEND_EXPAND: record->wanted_bytes = record->bytes; return true;
    default: return false;
    }
}

bool fleet_plan_expired(struct fleet_record *record, const char *waits_for) {
    char text[256];
    bool changed = false;
    snprintf(text, sizeof(text), "it was not done in its time: %.200s", waits_for);
    if (record->phase == FLEET_MAKING)
        return give_up_making(record, text);
    if (record->phase != FLEET_STANDING)
        return false;
    if (record->revert != FLEET_NO_REVERT)
        return give_up_reverting(record, text);
    for (unsigned i = 0; i < record->member_count; i++)
        if (record->members[i].change == FLEET_COMES) {
            record->members[i].change = FLEET_GOES;
            changed = true;
        }
    if (record->wanted_bytes > record->bytes) {
        record->wanted_bytes = record->bytes;
        changed = true;
    }
    return changed;
}

/* ---- the policy ---- */

/* First a new one, and only when there are whole ones enough without it the lost one is given up: it may yet return. */
enum fleet_care fleet_plan_care(const struct fleet_record *record, const int *modes, unsigned *ret_member) {
    unsigned lost = 0, whole = 0, good = 0;
    if (!record->replace || record->phase != FLEET_STANDING || !fleet_record_is_settled(record))
        return FLEET_CARE_NOTHING;
    for (unsigned i = 0; i < record->member_count; i++) {
        bool is_lost = modes[i] == CONTROL_LEG_ERR || modes[i] < 0;
        whole += modes[i] == CONTROL_LEG_RW;
        good += !is_lost;
        if (is_lost) {
            lost++;
            *ret_member = i;
        }
    }
    if (lost == 0)
        return FLEET_CARE_NOTHING;
    if (whole >= record->replicas)
        return FLEET_CARE_REMOVE;
    return good < record->replicas && record->member_count < FLEET_REPLICAS_MAX ? FLEET_CARE_ADD : FLEET_CARE_NOTHING;
}

/* ---- places ---- */

static bool has(const struct fleet_member *members, unsigned count, const char *node, const char *disk) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(members[i].node, node) == 0 && (disk == NULL || strcmp(members[i].disk, disk) == 0))
            return true;
    return false;
}

/* The best disk for a member: of its node, if it has one. */
static const struct fleet_candidate *choose(const struct fleet_record *record, const struct fleet_candidate *candidates,
                                            unsigned candidate_count, const struct fleet_member *members, unsigned count,
                                            const struct fleet_member *member) {
    const struct fleet_candidate *best = NULL;
    for (unsigned i = 0; i < candidate_count; i++) {
        const struct fleet_candidate *candidate = &candidates[i];
        bool asked = member->node[0] != '\0';
        if (!candidate->ready || (asked && strcmp(candidate->node, member->node) != 0) ||
            (member->disk[0] != '\0' && strcmp(candidate->disk, member->disk) != 0))
            continue;
        if (has(record->members, record->member_count, candidate->node, asked ? candidate->disk : NULL))
            continue;
        if (member->disk[0] == '\0' && has(members, count, candidate->node, asked ? candidate->disk : NULL))
            continue;
        if (best == NULL || candidate->free_bytes > best->free_bytes)
            best = candidate;
    }
    return best;
}

/* What is wrong with the others. */
static void list_reasons(const struct fleet_candidate *candidates, unsigned count, char *to, size_t size) {
    size_t length = 0;
    to[0] = '\0';
    for (unsigned i = 0; i < count && length < size; i++)
        if (!candidates[i].ready)
            length += (size_t)snprintf(to + length, size - length, "; %s%s%s: %s", candidates[i].node,
                                       candidates[i].disk[0] != '\0' ? "/" : "", candidates[i].disk, candidates[i].text);
}

bool fleet_plan_place(const struct fleet_record *record, const struct fleet_candidate *candidates, unsigned candidate_count,
                      struct fleet_member *members, unsigned count, struct error *error) {
    struct fleet_member placed[FLEET_MEMBERS_MAX] = {0};
    char reasons[200];
    assert(count <= FLEET_MEMBERS_MAX);
    for (unsigned i = 0; i < count; i++) { /* those whose disk is said first, so that nobody takes it */
        if (members[i].disk[0] != '\0')
            placed[i] = members[i];
    }
    for (unsigned i = 0; i < count; i++) {
        const struct fleet_member *member = &members[i];
        const struct fleet_candidate *best = choose(record, candidates, candidate_count, placed, count, member);
        if (best == NULL) {
            list_reasons(candidates, candidate_count, reasons, sizeof(reasons));
            if (member->node[0] != '\0')
                return error_set(error, ERROR_BUSY, "%s%s%s cannot have a replica of it%s", member->node,
                                 member->disk[0] != '\0' ? "/" : "", member->disk, reasons);
            return error_set(error, ERROR_BUSY, "%u nodes with a ready disk are wanted, one a replica, and %u are there%s", count,
                             i, reasons);
        }
        snprintf(placed[i].node, sizeof(placed[i].node), "%s", best->node);
        snprintf(placed[i].disk, sizeof(placed[i].disk), "%s", best->disk);
    }
    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(placed[i].node, placed[j].node) == 0 && strcmp(placed[i].disk, placed[j].disk) == 0)
                return error_set(error, ERROR_INVALID, "two replicas of it would be on disk %s of %s", placed[i].disk,
                                 placed[i].node);
    memcpy(members, placed, count * sizeof(*members));
    return true;
}
