/* Engines: what their calls check, record and leave behind; how they are judged, and what they need by themselves.
 * docs/control.md, "Engines". Plans are in plan_engine.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/internal.h"

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

struct control_engine *engine_add(struct control *control, const char *name) {
    struct control_engine *engine = control_object_add(control, CONTROL_ENGINES, name, sizeof(*engine));
    if (engine != NULL)
        engine->state = CONTROL_PENDING;
    return engine;
}

uint64_t control_engine_tree(const struct control *control, const char *engine, const char *snapshot) {
    const struct observation *seen = control_seen(control);
    const struct observed_mirror *mirror = seen == NULL ? NULL : observed_mirror(seen, engine);
    const json_t *listed = mirror == NULL ? NULL : observed_mirror_snapshot(mirror, snapshot);
    return json_is_true(json_object_get(listed, "under_head")) ? max_u64(mirror->tree_number, 1) : 1;
}

/* ---- states ---- */

#define set_engine(engine, ...) control_set_state(&(engine)->state, (engine)->reason, sizeof((engine)->reason), __VA_ARGS__)

/* One that is rebuilt call by call: how far it is, its own node tells. */
static void judge_filling(struct control_leg *leg) {
    leg->mode = leg->rebuilt ? CONTROL_LEG_WO : CONTROL_LEG_ERR;
    leg->percent = 0;
    snprintf(leg->text, sizeof(leg->text), "%s",
             leg->rebuilt ? "it is rebuilt call by call"
                          : "its rebuilding did not come to its end: take it away, and add it again");
}

static void judge_leg(const struct control *control, struct control_leg *leg, const struct observed_leg *seen) {
    uint64_t now = host_now_ns(control->options.reactor->host),
             window = control->options.leg_return_ns != 0 ? control->options.leg_return_ns : CONTROL_LEG_RETURN_S * NS_PER_S;
    const char *state = seen == NULL ? "absent" : seen->state;
    bool whole = strcmp(state, "whole") == 0, syncing = strcmp(state, "syncing") == 0;
    if (whole || syncing)
        leg->out_since_ns = 0;
    else if (leg->out_since_ns == 0)
        leg->out_since_ns = now;
    leg->percent = whole ? 100 : syncing ? seen->percent : 0;
    leg->copied_bytes = seen != NULL ? seen->copied_bytes : 0;
    leg->behind_bytes = seen != NULL && !whole ? seen->behind_bytes : 0;
    leg->mode = whole ? CONTROL_LEG_RW : CONTROL_LEG_WO;
    if (strcmp(state, "faulted") == 0 || strcmp(state, "diverged") == 0 ||
        (leg->out_since_ns != 0 && now - leg->out_since_ns >= window))
        leg->mode = CONTROL_LEG_ERR;
    if (whole)
        leg->text[0] = '\0';
    else if (syncing)
        snprintf(leg->text, sizeof(leg->text), "%u %% copied", leg->percent);
    else
        snprintf(leg->text, sizeof(leg->text), "%s%s%s", state, seen != NULL && seen->why[0] != '\0' ? ": " : "",
                 seen != NULL ? seen->why : "");
}

/* A standby claims nothing, and so cannot tell how far they are: those that it reaches are as well as they can be. */
static void judge_standby_leg(struct control_leg *leg, const struct observed_leg *seen) {
    bool reached = seen != NULL && strcmp(seen->state, "connecting") == 0;
    *leg = (struct control_leg){
        .mode = reached ? CONTROL_LEG_RW : CONTROL_LEG_WO, .percent = reached ? 100 : 0, .rebuilt = leg->rebuilt};
    if (!reached)
        snprintf(leg->text, sizeof(leg->text), "%s%s%s", seen == NULL ? "absent" : seen->state,
                 seen != NULL && seen->why[0] != '\0' ? ": " : "", seen != NULL ? seen->why : "");
}

static void judge_legs(const struct control *control, struct control_engine *engine, const struct observed_mirror *mirror) {
    for (unsigned i = 0; i < engine->record.leg_count; i++) {
        const struct observed_leg *leg = mirror == NULL ? NULL : plan_find_leg(&engine->record, &engine->record.legs[i], mirror);
        if (engine->record.standby)
            judge_standby_leg(&engine->legs[i], leg);
        else
            judge_leg(control, &engine->legs[i], leg);
        if (engine->record.legs[i].filling)
            judge_filling(&engine->legs[i]);
    }
}

/* Why it is not as good as it could be. `what`: said first, "" = nothing. */
static void say_degraded(struct control_engine *engine, const char *what) {
    const char *between = what[0] != '\0' ? "; " : "";
    set_engine(engine, CONTROL_RUNNING, "%s", what);
    for (unsigned i = 0; i < engine->record.leg_count; i++) {
        size_t length = strlen(engine->reason);
        if (engine->legs[i].mode == CONTROL_LEG_RW)
            continue;
        snprintf(engine->reason + length, sizeof(engine->reason) - length, "%sreplica %s: %s", between,
                 engine->record.legs[i].name, engine->legs[i].text);
        between = "; ";
    }
}

static const struct control_goal *first_goal(const struct control_object *object) {
    return list_empty(&object->goals) ? NULL : list_entry(list_first(&object->goals), struct control_goal, node);
}

static void judge_standby(const struct control *control, struct control_engine *engine, const struct observed_mirror *mirror) {
    const struct control_engine_record *record = &engine->record;
    const struct control_object *object = &engine->object;
    char what[192];
    if (record->promoting)
        set_engine(engine, CONTROL_PENDING, "it is being promoted%s%s", mirror != NULL && mirror->error != NULL ? ": " : "",
                   mirror != NULL && mirror->error != NULL ? mirror->error : "");
    else if (!plan_mirror_stands_by(mirror) || !plan_target_stands(record, control_seen(control), control->options.address))
        set_engine(engine, object->failures > 0 ? CONTROL_ERROR : CONTROL_PENDING, "%s",
                   object->failures > 0 ? object->failure : "it is being brought back, as a standby");
    else {
        snprintf(what, sizeof(what), CONTROL_STANDBY ": %.160s",
                 mirror->error != NULL ? mirror->error : "another engine has its replicas");
        say_degraded(engine, what);
    }
}

static void judge_by_mirror(const struct control *control, struct control_engine *engine) {
    const struct control_engine_record *record = &engine->record;
    const struct control_object *object = &engine->object;
    const struct observed_mirror *mirror = observed_mirror(control_seen(control), record->name);
    const struct control_goal *goal = first_goal(object);
    const char *why = mirror == NULL ? "" : mirror->error != NULL ? mirror->error : mirror->state;
    judge_legs(control, engine, mirror);
    if (goal != NULL && goal->verb == CONTROL_ENGINE_CREATE)
        set_engine(engine, CONTROL_PENDING, "%s", "");
    else if (record->standby)
        judge_standby(control, engine, mirror);
    else if (mirror == NULL && object->failures > 0)
        set_engine(engine, CONTROL_ERROR, "%s", object->failure);
    else if (mirror == NULL)
        set_engine(engine, CONTROL_PENDING, "it is being brought back");
    else if (plan_mirror_is_over(mirror))
        set_engine(engine, CONTROL_ERROR, "%s", why);
    else if (strcmp(mirror->state, "holding") == 0)
        set_engine(engine, CONTROL_ERROR, "%s; requests %s", mirror->error != NULL ? why : "no replica answers",
                   mirror->error != NULL ? "wait until enough are there" : "are held for a while");
    else if (strcmp(mirror->state, "serving") != 0)
        set_engine(engine, CONTROL_PENDING, "%s", why);
    else if (plan_target_stands(record, control_seen(control), control->options.address))
        say_degraded(engine, "");
    else if (object->failures > 0)
        set_engine(engine, CONTROL_ERROR, "%s", object->failure);
    /* else it is being offered: as it was */
}

void engine_judge(struct control *control, struct control_engine *engine) {
    const struct control_engine_record *record = &engine->record;
    if (record->deleting)
        set_engine(engine, CONTROL_TERMINATING, "%s", engine->object.failures > 0 ? engine->object.failure : "");
    else if (record->failure[0] != '\0')
        set_engine(engine, CONTROL_ERROR, "%s", record->failure);
    else if (record->promoting) /* whatever happens to it: hosts may be about to come */
        judge_standby(control, engine,
                      control_seen(control) == NULL ? NULL : observed_mirror(control_seen(control), record->name));
    else if (control_is_gone(control))
        set_engine(engine, CONTROL_ERROR, "the storage plane is not there: %s", control->plane.error.text);
    else if (control_plane_ready(&control->plane) && control_seen(control) != NULL)
        judge_by_mirror(control, engine);
    /* else nothing new is known of it */
}

bool engine_is_at_rest(const struct control_engine *engine) {
    bool rests = engine->state == CONTROL_RUNNING;
    for (unsigned i = 0; i < engine->record.leg_count; i++)
        rests = rests && engine->legs[i].mode == CONTROL_LEG_RW;
    return rests;
}

uint64_t engine_fingerprint(const struct control *control, const struct control_engine *engine) {
    const struct observation *seen = control_seen(control);
    const struct observed_mirror *mirror = seen == NULL ? NULL : observed_mirror(seen, engine->record.name);
    uint64_t print = hash_bytes(&engine->state, sizeof(engine->state), hash_text(engine->reason) ^ engine->record.port);
    size_t i;
    const json_t *snapshot;
    for (unsigned leg = 0; leg < engine->record.leg_count; leg++) {
        print = hash_bytes(engine->record.legs[leg].name, strlen(engine->record.legs[leg].name), print);
        print = hash_bytes(&engine->legs[leg].mode, sizeof(engine->legs[leg].mode), print);
    }
    if (mirror == NULL)
        return print;
    print += mirror->bytes;
    json_array_foreach(mirror->tree, i, snapshot) {
        const char *id = json_string_value(json_object_get(snapshot, "id"));
        print = hash_bytes(id, id == NULL ? 0 : strlen(id), print);
    }
    return print;
}

/* ---- what it does by itself ---- */

static bool standby_needs_tending(const struct control *control, const struct control_engine_record *record) {
    const struct observation *seen = control_seen(control);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    return record->promoting || !plan_mirror_stands_by(mirror) || plan_engine_misses_way(record, seen) ||
           !plan_target_stands(record, seen, control->options.address) || !plan_ana_stands(record, seen);
}

static bool needs_tending(const struct control *control, const struct control_engine *engine) {
    const struct control_engine_record *record = &engine->record;
    const struct observation *seen = control_seen(control);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    if (record->failure[0] != '\0')
        return plan_engine_is_there(record, seen);
    if (record->standby)
        return standby_needs_tending(control, record);
    if (mirror == NULL || plan_mirror_is_over(mirror) || plan_engine_misses_way(record, seen))
        return true;
    bool changing = false;
    for (unsigned i = 0; i < record->leg_count; i++)
        changing = changing || record->legs[i].changing;
    bool forgets = record->run_count > 1 && engine_is_at_rest(engine); /* runs before */
    return plan_mirror_serves(mirror) &&
           (changing || forgets || !plan_target_stands(record, seen, control->options.address) || !plan_ana_stands(record, seen));
}

/* After a start of the plane: the disk or the export of a replica on this node is being seen to. Without it the mirror would wait
 * longer for that leg than this takes. */
static bool awaits_own_leg(struct control *control, const struct control_engine_record *record) {
    const struct observation *seen = control_seen(control);
    for (unsigned i = 0; i < record->leg_count && observed_mirror(seen, record->name) == NULL; i++) {
        const struct control_replica *replica = control_find_replica(control, record->legs[i].name);
        const struct observed_volume *head =
            replica == NULL ? NULL : observed_volume(seen, replica->record.store, replica->record.name);
        if (replica == NULL || (head != NULL && plan_export_stands(&replica->record, head, seen, control->options.address)))
            continue;
        const struct control_disk *disk = control_find_disk(control, replica->record.disk);
        if (!list_empty(&replica->object.goals) || (disk != NULL && !list_empty(&disk->object.goals)))
            return true;
    }
    return false;
}

void engine_care(struct control *control, struct control_engine *engine) {
    const struct control_engine_record *record = &engine->record;
    if (!control_may_try(control, &engine->object) || awaits_own_leg(control, record))
        return;
    if (record->deleting)
        goal_start_own(control, &engine->object, CONTROL_ENGINE_DELETE);
    else if (needs_tending(control, engine))
        goal_start_own(control, &engine->object, CONTROL_ENGINE_TEND);
    else if (record->clone.state == CONTROL_CLONE_COPYING && !engine->clone_lives && engine->state == CONTROL_RUNNING)
        goal_start_own(control, &engine->object, CONTROL_ENGINE_CLONE_END);
}

/* ---- arguments ---- */

static bool check_frontend(struct control_goal *goal) {
    if (strcmp(goal->frontend, "ublk") == 0)
        return error_set(&goal->error, ERROR_UNSUPPORTED, "the frontend ublk is not offered: use spdk-tcp-nvmf");
    if (goal->frontend[0] == '\0' || strcmp(goal->frontend, "spdk-tcp-nvmf") == 0 ||
        strcmp(goal->frontend, "spdk-tcp-blockdev") == 0)
        return true;
    return error_invalid(&goal->error, "frontend", goal->frontend, "spdk-tcp-nvmf, spdk-tcp-blockdev, or nothing");
}

static bool check_leg(struct control_goal *goal, const struct control_leg_record *leg) {
    return names_check(leg->name, "replica_name", &goal->error) &&
           (control_is_address(leg->address) || error_invalid(&goal->error, "replica_address", leg->address, "IP:PORT"));
}

static bool check_create(struct control_goal *goal) {
    if (!names_check(goal->volume, "volume_name", &goal->error) || !check_frontend(goal) || !verb_check_size(goal))
        return false;
    if (goal->bytes == 0)
        return error_invalid(&goal->error, "spec_size", "0", "the size of the volume");
    if (goal->leg_count == 0)
        return error_invalid(&goal->error, "replica_address_map", "", "the replicas of the volume");
    if (goal->snapshot_max < 0 || goal->snapshot_max > INT32_MAX)
        return error_invalid(&goal->error, "snapshot_max_count", "below 0", "0 for any number, or how many");
    for (unsigned i = 0; i < goal->leg_count; i++)
        if (!check_leg(goal, &goal->legs[i]))
            return false;
    return true;
}

static bool check(struct control_goal *goal) {
    if (!names_check(goal->name, "name", &goal->error))
        return false;
    switch (goal->verb) {
    case CONTROL_ENGINE_CREATE: return check_create(goal);
    case CONTROL_ENGINE_EXPAND: return verb_check_size(goal);
    case CONTROL_ENGINE_SNAPSHOT_CREATE:
        if (goal->snapshot[0] == '\0') { /* one is made up */
            snprintf(goal->made_up, sizeof(goal->made_up), "%.8s", goal->id);
            goal->snapshot = goal->made_up;
        }
        if (goal->timestamp[0] == '\0') /* that somebody made it who knew what he did can be told by it */
            goal->timestamp = text_format_time(host_wall_ns(goal->control->options.reactor->host), goal->now, sizeof(goal->now));
        return verb_check_snapshot(goal);
    case CONTROL_ENGINE_CLONE_BEGIN:
    case CONTROL_ENGINE_SNAPSHOT_DELETE:
    case CONTROL_ENGINE_SNAPSHOT_REVERT: return verb_check_snapshot(goal);
    case CONTROL_ENGINE_FILLED:
    case CONTROL_ENGINE_REPLICA_ADD: return check_leg(goal, &goal->legs[0]);
    case CONTROL_ENGINE_ANA:
        return names_ana(goal->ana) != NULL ||
               error_invalid(&goal->error, "ana_state", goal->ana, "optimized, non-optimized or inaccessible");
    default: return true;
    }
}

bool engine_accept(struct control_goal *goal) {
    if (!goal->own && !check(goal))
        return false;
    struct control_engine *engine = control_find_engine(goal->control, goal->name);
    if (engine == NULL && goal->verb == CONTROL_ENGINE_DELETE)
        return false; /* nothing to do */
    if (engine == NULL && goal->verb != CONTROL_ENGINE_CREATE)
        return error_set(&goal->error, ERROR_NO_DEVICE, "there is no engine %s", goal->name);
    if (engine == NULL)
        engine = engine_add(goal->control, goal->name);
    if (engine == NULL)
        return error_set(&goal->error, ERROR_NO_MEMORY, "no memory for an engine");
    goal->object = &engine->object;
    return true;
}

void control_engine_rebuilt(struct control *control, const char *name, const char *replica) {
    struct control_engine *engine = control_find_engine(control, name);
    for (unsigned i = 0; engine != NULL && i < engine->record.leg_count; i++)
        if (strcmp(engine->record.legs[i].name, replica) == 0)
            engine->legs[i].rebuilt = false;
}

void control_engine_clone_left(struct control *control, const char *name) {
    struct control_engine *engine = control_find_engine(control, name);
    if (engine == NULL || !engine->clone_lives)
        return;
    engine->clone_lives = false;
    control_judge_soon(control, &engine->object);
}

/* ---- the beginning ---- */

static enum verb_next end_with(bool ok) {
    assert(!ok);
    return VERB_END;
}

static enum verb_next begin_create(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    struct control_engine_record *record = &engine->record;
    if (record->deleting)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "engine %s is being deleted", record->name));
    if (goal->object->recorded && (record->failure[0] == '\0' || record->superseded))
        return end_with(error_set(&goal->error, ERROR_EXISTS, "engine %s is there%s%s", record->name,
                                  record->failure[0] != '\0' ? ": " : "", record->failure));
    list_for_each (&goal->control->objects[CONTROL_ENGINES], struct control_object, object, node) {
        const struct control_engine_record *other = &engine_of(object)->record;
        if (object != goal->object && object->recorded && strcmp(other->volume, goal->volume) == 0 &&
            control_engine_is_offered(other) && goal->frontend[0] != '\0' && other->failure[0] == '\0')
            return end_with(
                error_set(&goal->error, ERROR_PERMISSION, "volume %s has the engine %s on this node", goal->volume, other->name));
    }
    copy(record->volume, sizeof(record->volume), goal->volume);
    copy(record->frontend, sizeof(record->frontend), goal->frontend);
    record->bytes = divide_up(goal->bytes, MIB(1)) * MIB(1);
    record->leg_count = goal->leg_count;
    memcpy(record->legs, goal->legs, goal->leg_count * sizeof(record->legs[0]));
    memset(engine->legs, 0, sizeof(engine->legs));
    record->snapshot_max = (uint32_t)goal->snapshot_max;
    record->made = record->standby = record->promoting = false;
    copy(record->ana, sizeof(record->ana), NAMES_ANA_OPTIMIZED);
    record->run_count = 0;
    record->clone = (struct control_engine_clone){0};
    record->failure[0] = record->expansion_failure[0] = record->expansion_failed_at[0] = engine->object.failure[0] = '\0';
    engine->object.failures = 0;
    engine->state = CONTROL_PENDING;
    if (goal->frontend[0] == '\0')
        verb_release_ports(goal->control, goal->object);
    else if (!verb_take_ports(goal, 1))
        copy(record->failure, sizeof(record->failure), goal->error.text);
    return VERB_RECORD;
}

/* Its mirror is made anew: a run whose id is recorded before it can claim anything. */
static void begin_run(struct control_goal *goal, struct control_engine_record *record) {
    if (record->run_count == CONTROL_RUNS_MAX) { /* the oldest that did not come to serve */
        memmove(record->runs[1], record->runs[2], (CONTROL_RUNS_MAX - 2) * sizeof(record->runs[0]));
        record->run_count--;
    }
    copy(record->runs[record->run_count++], sizeof(record->runs[0]), goal->id);
    goal->resumes = true;
}

static enum verb_next begin_tend(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct observation *seen = control_seen(goal->control);
    if (!goal->object->recorded || record->deleting)
        return VERB_END;
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    bool promote = record->promoting && plan_mirror_stands_by(mirror) &&
                   plan_claims_of(record, mirror, seen) == PLAN_CLAIMS_SOME; /* what was begun is finished */
    if (record->failure[0] != '\0' || (record->standby && !promote) ||
        (!record->standby && mirror != NULL && !plan_mirror_is_over(mirror)))
        return VERB_OBSERVE;
    begin_run(goal, record);
    return VERB_RECORD;
}

static enum verb_next begin_delete(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    if (goal->object->recorded && record->deleting)
        return VERB_OBSERVE;
    record->deleting = true;
    return VERB_RECORD;
}

/* Commands on one that serves. */
static enum verb_next begin_on(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    if (engine->state == CONTROL_RUNNING)
        return VERB_OBSERVE;
    return end_with(error_set(&goal->error, ERROR_BUSY, "engine %s is in state %s%s%s", engine->record.name,
                              control_state_name(engine->state), engine->reason[0] != '\0' ? ": " : "", engine->reason));
}

/* Recorded before the first claim, with the run's id: whether it came to one can be seen from the replicas ever after. */
static enum verb_next begin_ana(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct observation *seen = control_seen(goal->control);
    bool superseded = record->superseded || (seen != NULL && plan_mirror_is_superseded(observed_mirror(seen, record->name)));
    if (superseded && strcmp(goal->ana, NAMES_ANA_INACCESSIBLE) == 0)
        return VERB_END; /* it is: another engine has its replicas */
    if (begin_on(goal) == VERB_END)
        return VERB_END;
    if (!control_engine_is_offered(record) && !record->standby)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "engine %s has no target", record->name));
    copy(record->ana, sizeof(record->ana), goal->ana);
    if (record->standby && strcmp(goal->ana, NAMES_ANA_OPTIMIZED) == 0) {
        record->promoting = true;
        record->run_count = 0;
        begin_run(goal, record);
    }
    return VERB_RECORD;
}

static enum verb_next begin_snapshot_max(struct control_goal *goal) {
    if (goal->snapshot_max < 0 || goal->snapshot_max > INT32_MAX) {
        error_invalid(&goal->error, "count", "below 0", "0 for any number, or how many");
        return VERB_END;
    }
    engine_of(goal->object)->record.snapshot_max = (uint32_t)goal->snapshot_max;
    return VERB_RECORD;
}

/* Recorded first: should this process die, the next one empties it. */
static enum verb_next begin_clone(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    struct control_engine_clone *clone = &engine->record.clone;
    enum verb_next next = begin_on(goal);
    if (next == VERB_END)
        return next;
    if (clone->state == CONTROL_CLONE_COPYING)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "snapshot %s of %s is being cloned into engine %s",
                                  clone->snapshot, clone->source, engine->record.name));
    if (engine->record.port == 0 && !verb_take_ports(goal, 1))
        return VERB_END;
    *clone = (struct control_engine_clone){.state = CONTROL_CLONE_COPYING};
    copy(clone->snapshot, sizeof(clone->snapshot), goal->snapshot);
    copy(clone->source, sizeof(clone->source), goal->peer);
    copy(clone->source_address, sizeof(clone->source_address), goal->peer_address);
    engine->clone_lives = true;
    return VERB_RECORD;
}

static unsigned find_leg(const struct control_engine_record *record, const char *name, const char *address) {
    unsigned at = 0;
    while (at < record->leg_count && ((name[0] != '\0' && strcmp(record->legs[at].name, name) != 0) ||
                                      (address[0] != '\0' && strcmp(record->legs[at].address, address) != 0)))
        at++;
    return at;
}

/* Refused it is not, as long as nobody knows what became of the try before. */
static bool stay_in_doubt(struct control_goal *goal) {
    if (goal->in_doubt)
        goal->error.code = ERROR_CANCELLED;
    return goal->in_doubt;
}

static enum verb_next begin_replica_add(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct control_leg_record *leg = &goal->legs[0];
    unsigned at = find_leg(record, leg->name, leg->address);
    goal->in_doubt = at < record->leg_count && record->legs[at].changing && record->legs[at].adding;
    if (begin_on(goal) == VERB_END) {
        stay_in_doubt(goal);
        return VERB_END;
    }
    if (goal->in_doubt)
        return VERB_OBSERVE;
    if (leg->foreign && at < record->leg_count && record->legs[at].filling)
        return VERB_OBSERVE; /* that it is one is known since it was tried as another */
    if (find_leg(record, leg->name, "") < record->leg_count || find_leg(record, "", leg->address) < record->leg_count)
        return end_with(error_set(&goal->error, ERROR_EXISTS, "engine %s has a replica %s or one at %s", record->name, leg->name,
                                  leg->address));
    if (record->leg_count == CONTROL_LEGS_MAX)
        return end_with(error_set(&goal->error, ERROR_NO_MEMORY, "engine %s has %d replicas", record->name, CONTROL_LEGS_MAX));
    engine_of(goal->object)->legs[record->leg_count] = (struct control_leg){0};
    record->legs[record->leg_count] = *leg;
    record->legs[record->leg_count].adding = record->legs[record->leg_count].changing = true;
    record->leg_count++;
    return VERB_RECORD;
}

static enum verb_next begin_filled(struct control_goal *goal) {
    const struct control_engine_record *record = &engine_of(goal->object)->record;
    enum verb_next next = begin_on(goal);
    unsigned at = find_leg(record, goal->legs[0].name, "");
    if (next == VERB_END)
        return next;
    if (at == record->leg_count || !record->legs[at].filling)
        return end_with(
            error_set(&goal->error, ERROR_PERMISSION, "engine %s rebuilds no replica %s", record->name, goal->legs[0].name));
    goal->leg_meant = record->legs[at];
    goal->legs = &goal->leg_meant;
    return VERB_OBSERVE;
}

static enum verb_next begin_replica_delete(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct control_leg_record *leg = &goal->legs[0];
    if (leg->name[0] == '\0' && leg->address[0] == '\0') {
        error_invalid(&goal->error, "replica_name", "", "a replica's name or address");
        return VERB_END;
    }
    unsigned at = find_leg(record, leg->name, leg->address);
    goal->in_doubt = at < record->leg_count && record->legs[at].changing;
    if (begin_on(goal) == VERB_END) {
        stay_in_doubt(goal);
        return VERB_END;
    }
    if (at == record->leg_count)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "engine %s has no replica %s%s%s", record->name, leg->name,
                                  leg->address[0] != '\0' ? " at " : "", leg->address));
    goal->leg_meant = record->legs[at];
    goal->legs = &goal->leg_meant;
    record->legs[at].changing = true;
    record->legs[at].adding = false;
    return VERB_RECORD;
}

enum verb_next engine_begin(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_ENGINE_CREATE: return begin_create(goal);
    case CONTROL_ENGINE_TEND: return begin_tend(goal);
    case CONTROL_ENGINE_DELETE: return begin_delete(goal);
    case CONTROL_ENGINE_SNAPSHOT_MAX: return begin_snapshot_max(goal);
    case CONTROL_ENGINE_ANA: return begin_ana(goal);
    case CONTROL_ENGINE_REPLICA_ADD: return begin_replica_add(goal);
    case CONTROL_ENGINE_REPLICA_DELETE: return begin_replica_delete(goal);
    case CONTROL_ENGINE_FILLED: return begin_filled(goal);
    case CONTROL_ENGINE_CLONE_BEGIN: return begin_clone(goal);
    default: return begin_on(goal);
    }
}

/* ---- the end ---- */

/* The run that serves comes first. It is the only one that counts once all replicas are whole: until then one that is away may
 * still be promised to a run before. */
static bool record_run(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct observed_mirror *mirror = observed_mirror(control_seen(goal->control), record->name);
    if (mirror == NULL || strcmp(mirror->state, "serving") != 0 || strlen(mirror->engine) >= UUID_TEXT_SIZE)
        return false;
    unsigned at = 0, whole = 0, count = record->run_count;
    for (unsigned i = 0; i < mirror->leg_count; i++)
        whole += strcmp(mirror->legs[i].state, "whole") == 0;
    while (at < count && strcmp(record->runs[at], mirror->engine) != 0)
        at++;
    bool alone = whole == mirror->leg_count || count == 0, first = at == 0 && count > 0;
    if (first && (!alone || count == 1))
        return false;
    if (at == CONTROL_RUNS_MAX)
        at--;
    memmove(record->runs[1], record->runs[0], at * sizeof(record->runs[0]));
    copy(record->runs[0], sizeof(record->runs[0]), mirror->engine);
    record->run_count = alone ? 1 : at < count ? count : at + 1;
    return true;
}

static enum verb_next settle_create(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    if (goal->error.code != ERROR_NONE) {
        copy(record->failure, sizeof(record->failure), goal->error.text[0] != '\0' ? goal->error.text : goal->error.expected);
        verb_release_ports(goal->control, goal->object);
        error_clear(&goal->error); /* the answer is the engine, in state error */
    } else {
        record->made = true;
        record->standby = plan_mirror_stands_by(observed_mirror(control_seen(goal->control), record->name));
        record_run(goal);
    }
    return VERB_RECORD;
}

/* Where a promotion has got to: it serves, or it has claimed nothing and stands by as before. */
static bool record_promotion(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    const struct observation *seen = control_seen(goal->control);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    bool none = plan_mirror_stands_by(mirror) && plan_claims_of(record, mirror, seen) == PLAN_CLAIMS_NONE;
    if (!record->promoting || (!plan_mirror_serves(mirror) && !none))
        return false;
    record->promoting = false;
    record->standby = none;
    return true;
}

static enum verb_next settle_ana(struct control_goal *goal) {
    if (goal->error.code != ERROR_NONE)
        return VERB_END; /* the record says what is wanted; whether a promotion has come to anything is found out */
    bool promoted = record_promotion(goal), ran = record_run(goal);
    return promoted || ran ? VERB_RECORD : VERB_END;
}

static enum verb_next settle_delete(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    char name[CONTROL_NAME_MAX + 1];
    if (goal->error.code != ERROR_NONE) {
        verb_own_failed(goal);
        return VERB_END;
    }
    verb_release_ports(goal->control, goal->object);
    copy(name, sizeof(name), engine->record.name);
    engine->record = (struct control_engine_record){0};
    copy(engine->record.name, sizeof(engine->record.name), name);
    verb_own_succeeded(goal);
    goal->object->recorded = false;
    return VERB_RECORD;
}

static void drop_leg(struct control_engine *engine, const char *name) {
    struct control_engine_record *record = &engine->record;
    unsigned at = find_leg(record, name, "");
    if (at == record->leg_count)
        return;
    record->leg_count--;
    memmove(&record->legs[at], &record->legs[at + 1], (record->leg_count - at) * sizeof(record->legs[0]));
    memmove(&engine->legs[at], &engine->legs[at + 1], (record->leg_count - at) * sizeof(engine->legs[0]));
}

/* Whether a replica came or went when that was not answered: the mirror, whose records say so, is believed. */
static bool record_legs(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    const struct observed_mirror *mirror = observed_mirror(control_seen(goal->control), engine->record.name);
    bool changed = false;
    if (goal->error.code != ERROR_NONE || mirror == NULL || strcmp(mirror->state, "serving") != 0)
        return false;
    for (unsigned i = engine->record.leg_count; i-- > 0;) {
        struct control_leg_record *leg = &engine->record.legs[i];
        bool stays = plan_find_leg(&engine->record, leg, mirror) != NULL;
        if (!leg->changing || (!stays && plan_leg_has_way(&engine->record, leg, control_seen(goal->control))))
            continue; /* its way goes first: nobody would know of it any more */
        changed = true;
        leg->changing = leg->adding = false;
        if (!stays)
            drop_leg(engine, leg->name);
    }
    return changed;
}

static enum verb_next settle_tend(struct control_goal *goal) {
    struct control_engine_record *record = &engine_of(goal->object)->record;
    if (goal->error.code == ERROR_PERMISSION && goal->planned_end && !record->standby) { /* the mirror's word, not a command's */
        bool said = strncmp(goal->error.text, "superseded", 10) == 0;
        snprintf(record->failure, sizeof(record->failure), "%s%.240s", said ? "" : "superseded: ", goal->error.text);
        record->superseded = true;
        verb_release_ports(goal->control, goal->object);
        return VERB_RECORD;
    }
    if (goal->error.code == ERROR_NONE && goal->aside_failure[0] != '\0')
        error_set(&goal->error, ERROR_BUSY, "%s", goal->aside_failure);
    (goal->error.code != ERROR_NONE ? verb_own_failed : verb_own_succeeded)(goal);
    bool promoted = goal->error.code == ERROR_NONE && record_promotion(goal), ran = record_run(goal), changed = record_legs(goal);
    return promoted || ran || changed ? VERB_RECORD : VERB_END;
}

/* Refused, and nothing was done: else it is found out. */
static bool is_refusal(enum error_code code) {
    return code != ERROR_IO && code != ERROR_TIMED_OUT && code != ERROR_CANCELLED && code != ERROR_INTERNAL;
}

static enum verb_next settle_replicas(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    bool adds = goal->verb == CONTROL_ENGINE_REPLICA_ADD, done = goal->error.code == ERROR_NONE;
    unsigned at = find_leg(&engine->record, goal->legs[0].name, "");
    if (at == engine->record.leg_count || (!done && (stay_in_doubt(goal) || goal->plane_lost || !is_refusal(goal->error.code))))
        return VERB_END;
    struct control_leg_record *leg = &engine->record.legs[at];
    if (adds && !done && goal->error.code != ERROR_UNSUPPORTED && !goal->planned_end)
        return VERB_END; /* the mirror refused it, with its way there: engine_care() takes that away, then forgets it */
    leg->changing = leg->adding = false;
    if (adds && leg->filling)
        return VERB_END;                                 /* whoever rebuilds it takes it away if need be */
    if (adds && goal->error.code == ERROR_UNSUPPORTED) { /* it keeps no record: the caller rebuilds it call by call */
        leg->foreign = leg->filling = true;
        engine->legs[at].rebuilt = true;
    } else if (done != adds && !(done && goal->stays)) {
        drop_leg(engine, goal->legs[0].name);
    }
    return VERB_RECORD;
}

static enum verb_next settle_filled(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    unsigned at = find_leg(&engine->record, goal->legs[0].name, "");
    if (at == engine->record.leg_count || goal->error.code != ERROR_NONE)
        return VERB_END;
    engine->record.legs[at].filling = engine->legs[at].rebuilt = false;
    return VERB_RECORD;
}

static enum verb_next settle_expand(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    struct control_engine_record *record = &engine->record;
    engine->expanding = false;
    if (goal->error.code == ERROR_INVALID)
        return VERB_END;
    if (goal->error.code != ERROR_NONE) {
        copy(record->expansion_failure, sizeof(record->expansion_failure), goal->error.text);
        text_format_time(host_wall_ns(goal->control->options.reactor->host), record->expansion_failed_at,
                         sizeof(record->expansion_failed_at));
        return VERB_RECORD;
    }
    record->bytes = divide_up(goal->bytes, MIB(1)) * MIB(1);
    record->expansion_failure[0] = record->expansion_failed_at[0] = '\0';
    return VERB_RECORD;
}

static void release_clone(struct control_goal *goal, const struct control_engine *engine) {
    if (engine->record.frontend[0] == '\0')
        verb_release_ports(goal->control, goal->object);
}

/* What was begun and did not come about is seen to by engine_care(). */
static enum verb_next settle_clone_begin(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    if (goal->error.code == ERROR_NONE || !goal->planned_end || goal->carried_out)
        return VERB_END;
    release_clone(goal, engine);
    engine->record.clone = (struct control_engine_clone){0};
    return VERB_RECORD;
}

static enum verb_next settle_clone_end(struct control_goal *goal) {
    struct control_engine *engine = engine_of(goal->object);
    struct control_engine_clone *clone = &engine->record.clone;
    if (goal->error.code != ERROR_NONE) {
        verb_own_failed(goal);
        return VERB_END;
    }
    verb_own_succeeded(goal);
    bool whole = plan_clone_is_whole(&engine->record, observed_mirror(control_seen(goal->control), engine->record.name));
    clone->state = whole ? CONTROL_CLONE_COMPLETE : CONTROL_CLONE_FAILED;
    copy(clone->failure, sizeof(clone->failure), whole ? "" : goal->own ? "it did not come to its end" : goal->failure);
    release_clone(goal, engine);
    return VERB_RECORD;
}

enum verb_next engine_settle(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_ENGINE_CREATE: return settle_create(goal);
    case CONTROL_ENGINE_TEND: return settle_tend(goal);
    case CONTROL_ENGINE_DELETE: return settle_delete(goal);
    case CONTROL_ENGINE_EXPAND: return settle_expand(goal);
    case CONTROL_ENGINE_ANA: return settle_ana(goal);
    case CONTROL_ENGINE_REPLICA_ADD:
    case CONTROL_ENGINE_REPLICA_DELETE: return settle_replicas(goal);
    case CONTROL_ENGINE_FILLED: return settle_filled(goal);
    case CONTROL_ENGINE_CLONE_BEGIN: return settle_clone_begin(goal);
    case CONTROL_ENGINE_CLONE_END: return settle_clone_end(goal);
    default: return VERB_END;
    }
}
