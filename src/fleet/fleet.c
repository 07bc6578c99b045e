#include "fleet/fleet.h"

#include <stdio.h>
#include <stdlib.h>

#include "fleet/internal.h"

enum { PAUSE_MIN_MS = 50, PAUSE_SHORT_MS = 1000, PAUSE_MAX_MS = 10000, CARE_S = 5, LOAD_MS = 2000 };

static void kick(struct fleet_volume *volume);
static void proceed(struct fleet_volume *volume);

static uint64_t now_ns(const struct fleet *fleet) { return host_now_ns(fleet->reactor->host); }

/* ---- volumes ---- */

struct fleet_volume *fleet_find(struct fleet *fleet, const char *name) {
    for (struct hash_node *n = hash_map_first(&fleet->names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct fleet_volume *volume = container_of(n, struct fleet_volume, by_name);
        if (strcmp(volume->record.name, name) == 0)
            return volume;
    }
    return NULL;
}

static void run_turn(struct reactor_job *job);
static void retry(struct reactor_timer *timer);

static struct fleet_volume *add_volume(struct fleet *fleet, const char *name) {
    struct fleet_volume *volume = fleet->volume_count == FLEET_VOLUMES_MAX ? NULL : calloc(1, sizeof(*volume));
    if (volume == NULL)
        return NULL;
    fleet_copy(volume->record.name, sizeof(volume->record.name), name);
    if (!hash_map_insert(&fleet->names, &volume->by_name, hash_text(name))) {
        free(volume);
        return NULL;
    }
    volume->fleet = fleet;
    volume->job.run = run_turn;
    volume->timer.run = retry;
    list_init(&volume->requests);
    list_push_back(&fleet->volumes, &volume->node);
    fleet->volume_count++;
    return volume;
}

static void remove_volume(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    reactor_timer_stop(fleet->reactor, &volume->timer);
    list_remove(&volume->node);
    hash_map_remove(&fleet->names, &volume->by_name);
    fleet->volume_count--;
    text_fini(&volume->value);
    free(volume->calls);
    free(volume);
}

static void tell_watchers(struct fleet *fleet) {
    list_for_each_safe (&fleet->watchers, struct fleet_watcher, watcher, node)
        watcher->changed(watcher);
}

void fleet_watch(struct fleet *fleet, struct fleet_watcher *watcher) { list_push_back(&fleet->watchers, &watcher->node); }

const struct control_engine *fleet_engine(const struct fleet *fleet, const struct fleet_volume *volume) {
    char name[CONTROL_NAME_MAX + 1];
    fleet_engine_name(&volume->record, name);
    const struct control_engine *engine = control_find_engine(fleet->options.control, name);
    return engine != NULL && strcmp(engine->record.volume, volume->record.name) == 0 ? engine : NULL;
}

int fleet_member_mode(const struct control_engine *engine, const struct fleet_member *member, unsigned *ret_leg) {
    for (unsigned i = 0; engine != NULL && i < engine->record.leg_count; i++)
        if (strcmp(engine->record.legs[i].name, member->name) == 0) {
            *ret_leg = i;
            return (int)engine->legs[i].mode;
        }
    return -1;
}

static unsigned add_node(char (*to)[FLEET_NODE_SIZE], unsigned count, unsigned max, const char *node) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(to[i], node) == 0)
            return count;
    if (count < max)
        fleet_copy(to[count++], FLEET_NODE_SIZE, node);
    return count;
}

unsigned fleet_nodes(const struct fleet *fleet, char (*to)[FLEET_NODE_SIZE], unsigned max) {
    unsigned count = add_node(to, 0, max, fleet->options.address);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        const struct fleet_record *record = &volume->record;
        for (unsigned i = 0; i < record->node_count; i++)
            count = add_node(to, count, max, record->nodes[i]);
        for (unsigned i = 0; i < record->member_count; i++)
            count = add_node(to, count, max, record->members[i].node);
    }
    return count;
}

/* ---- requests: their end ---- */

static void run_end(struct reactor_job *job) {
    struct fleet_request *request = container_of(job, struct fleet_request, job);
    request->done(request); /* its memory may be gone */
}

/* Told from the loop. */
static void end_request(struct fleet_request *request) {
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

static void end_those_over(struct fleet_volume *volume) {
    list_for_each_safe (&volume->requests, struct fleet_request, request, node)
        if (request->begun && request_is_over(request))
            end_request(request);
}

static void expire(struct reactor_timer *timer) {
    struct fleet_request *request = container_of(timer, struct fleet_request, timer);
    request_expire(request);
    end_request(request);
    kick(request->volume);
}

/* ---- pauses ---- */

static void pause_volume(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    uint64_t ms = volume->failures < 10 ? (uint64_t)PAUSE_MIN_MS << volume->failures : PAUSE_MAX_MS,
             max_ms = volume->expires_ns != 0 ? PAUSE_SHORT_MS : PAUSE_MAX_MS; /* somebody waits */
    volume->failures++;
    volume->stage = FLEET_PAUSED;
    end_those_over(volume);
    reactor_timer_start(fleet->reactor, &volume->timer, now_ns(fleet) + min_u64(ms, max_ms) * NS_PER_MS);
}

static void retry(struct reactor_timer *timer) { kick(container_of(timer, struct fleet_volume, timer)); }

/* ---- the state ---- */

static void record(struct fleet_volume *volume, struct fleet_request *request);

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
        volume->recorded = volume->record.phase != FLEET_GONE;
        volume->failures = 0;
        end_those_over(volume);
        tell_watchers(fleet);
        proceed(volume);
        return;
    }
    log_error(fleet->log, LOG_AREA_APP, "the state of volume %s cannot be written: %s", volume->record.name,
              store_request->error.text);
    snprintf(volume->waits_for, sizeof(volume->waits_for), "the state cannot be written: %.200s", store_request->error.text);
    volume->uncertain = volume->uncertain || store_request->outcome == STORE_UNKNOWN;
    if (volume->uncertain) { /* it may be written: it is, then */
        volume->recording = request;
        pause_volume(volume);
        return;
    }
    volume->record = volume->before; /* nothing is done that is not written */
    volume->recorded = volume->recorded_before;
    for (unsigned i = 0; i < FLEET_MEMBERS_MAX; i++)
        volume->seen.members[i].fresh = false;
    if (request != NULL) {
        error_set(&request->error, ERROR_IO, "%s", volume->waits_for);
        end_request(request);
    }
    pause_volume(volume);
}

/* `before` is as it was. */
static void record(struct fleet_volume *volume, struct fleet_request *request) {
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

static void keep_before(struct fleet_volume *volume) {
    volume->before = volume->record;
    volume->recorded_before = volume->recorded;
}

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
            end_request(request);
    }
    proceed(volume);
}

static void place(struct fleet_volume *volume, struct fleet_request *request) {
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
        proceed(volume);
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
}

/* At all that is to be planned for and may have changed. */
static void look(struct fleet_volume *volume) {
    const struct fleet_record *record = &volume->record;
    const char *here = volume->fleet->options.address;
    char name[CONTROL_NAME_MAX + 1];
    calls_begin(volume, FLEET_LOOKING, record->member_count + 2);
    for (unsigned i = 0; i < record->member_count; i++)
        if (record->phase != FLEET_STANDING || record->members[i].change != FLEET_STAYS)
            look_at(volume, FLEET_LOOK_REPLICA, i, record->members[i].node, record->members[i].name);
    fleet_engine_name(record, name);
    look_at(volume, FLEET_LOOK_ENGINE, 0, here, name);
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

/* All may be otherwise by then. */
static void forget_seen(struct fleet_volume *volume) {
    volume->seen.engine.fresh = volume->seen.frontend.fresh = false;
    for (unsigned i = 0; i < FLEET_MEMBERS_MAX; i++)
        volume->seen.members[i].fresh = false;
}

static void pause_and_look_again(struct fleet_volume *volume, const char *waits_for) {
    fleet_copy(volume->waits_for, sizeof(volume->waits_for), waits_for);
    pause_volume(volume);
    forget_seen(volume);
    tell_watchers(volume->fleet);
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

static void called(struct fleet_call *last) {
    struct fleet_volume *volume = last->volume_of;
    struct fleet *fleet = volume->fleet;
    bool refused = false, unanswered = false, changed = false;
    char text[256] = "", silence[256] = "";
    if (!calls_all_done(volume))
        return;
    volume->stage = FLEET_IDLE;
    keep_before(volume);
    for (unsigned i = 0; i < volume->call_count; i++) {
        struct fleet_call *call = &volume->calls[i];
        if (hear(volume, call)) {
            snprintf(text, sizeof(text), "%s %.63s on %.47s: %.100s", fleet_act_name(call->act), call->name, call->node,
                     call->text);
            log_warning(fleet->log, LOG_AREA_APP, "volume %s: %s", volume->record.name, text);
            refused = true;
            changed = fleet_plan_refused(&volume->record, &call->step, text) || changed;
        } else if (call->answer == FLEET_NO_ANSWER) {
            snprintf(silence, sizeof(silence), "%s %.63s: node %.47s does not answer: %.90s", fleet_act_name(call->act),
                     call->name, call->node, call->text);
            unanswered = true;
        }
    }
    if (refused)
        fleet_copy(volume->waits_for, sizeof(volume->waits_for), text);
    if (fleet->stopping)
        proceed(volume);
    else if (changed)
        record(volume, NULL);
    else if (refused || unanswered)
        pause_and_look_again(volume, refused ? text : silence);
    else
        proceed(volume);
}

static void put_legs(const struct fleet_volume *volume, struct fleet_call *call) {
    const struct fleet_record *record = &volume->record;
    for (unsigned i = 0; i < record->member_count && call->leg_count < CONTROL_LEGS_MAX; i++) {
        struct control_leg_record *leg = &call->legs[call->leg_count++];
        fleet_copy(leg->name, sizeof(leg->name), record->members[i].name);
        fleet_copy(leg->address, sizeof(leg->address), volume->seen.members[i].address);
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
    fleet_copy(call->frontend, sizeof(call->frontend), record->frontend);
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
    keep_before(volume);
    if (fleet_plan_advance(&volume->record, &volume->seen)) {
        record(volume, NULL);
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
            record(volume, NULL);
        else
            pause_and_look_again(volume, plan.text);
        break;
    }
    case FLEET_REACHED:
    case FLEET_WAIT: pause_and_look_again(volume, plan.text); break;
    }
}

/* ---- turns ---- */

/* True: something is under way for one that has come. */
static bool begin_requests(struct fleet_volume *volume) {
    list_for_each_safe (&volume->requests, struct fleet_request, request, node) {
        if (request->begun)
            continue;
        keep_before(volume);
        switch (request_begin(request)) {
        case REQUEST_END: end_request(request); break;
        case REQUEST_WAIT: request->begun = true; break;
        case REQUEST_PLACE: place(volume, request); return true;
        case REQUEST_RECORD:
            request->begun = true;
            volume->expires_ns = now_ns(volume->fleet) + FLEET_GIVE_UP_S * NS_PER_S;
            volume->waits_for[0] = '\0';
            volume->failures = 0;
            volume->seen.engine.fresh = volume->seen.frontend.fresh = false;
            record(volume, request);
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
        tell_watchers(volume->fleet);
    }
    forget_seen(volume);
}

static bool is_over_time(const struct fleet_volume *volume) {
    return volume->expires_ns != 0 && now_ns(volume->fleet) >= volume->expires_ns;
}

static void look_whether_stopped(struct fleet *fleet);

static void proceed(struct fleet_volume *volume) {
    struct fleet *fleet = volume->fleet;
    if (volume->stage != FLEET_IDLE && volume->stage != FLEET_PAUSED)
        return;
    if (fleet->stopping) {
        volume->stage = FLEET_IDLE;
        look_whether_stopped(fleet);
        return;
    }
    if (volume->uncertain) {
        record(volume, volume->recording);
        return;
    }
    end_those_over(volume);
    if (begin_requests(volume))
        return;
    end_those_over(volume);
    if (!volume->recorded && list_empty(&volume->requests)) {
        if (!volume->job_queued)
            remove_volume(volume);
        return;
    }
    if (!volume->recorded || fleet_record_is_settled(&volume->record)) {
        settle(volume);
        return;
    }
    if (is_over_time(volume)) {
        volume->expires_ns = 0;
        keep_before(volume);
        if (fleet_plan_expired(&volume->record, volume->waits_for)) {
            forget_seen(volume);
            record(volume, NULL);
            return;
        }
    }
    reactor_timer_stop(fleet->reactor, &volume->timer);
    look(volume);
}

static void run_turn(struct reactor_job *job) {
    struct fleet_volume *volume = container_of(job, struct fleet_volume, job);
    volume->job_queued = false;
    proceed(volume);
}

static void kick(struct fleet_volume *volume) {
    if (volume->job_queued || volume->fleet->stopping)
        return;
    volume->job_queued = true;
    reactor_defer(volume->fleet->reactor, &volume->job);
}

static void submit(struct fleet *fleet, struct fleet_request *request) {
    struct fleet_volume *volume = fleet_find(fleet, request->name);
    unsigned waiting = 0;
    if (volume == NULL && request->verb == FLEET_CREATE && (volume = add_volume(fleet, request->name)) == NULL) {
        error_set(&request->error, ERROR_NO_MEMORY, "no memory for a volume, or %d are there", FLEET_VOLUMES_MAX);
        end_request(request);
        return;
    }
    if (volume == NULL) {
        if (request->verb != FLEET_DELETE)
            error_set(&request->error, ERROR_NOT_FOUND, "there is no volume %s", request->name);
        end_request(request);
        return;
    }
    list_for_each (&volume->requests, struct fleet_request, other, node)
        waiting += other != request;
    if (waiting >= FLEET_REQUESTS_MAX) {
        error_set(&request->error, ERROR_NO_MEMORY, "%u requests of volume %s are under way", waiting, request->name);
        end_request(request);
        return;
    }
    request->volume = volume;
    list_push_back(&volume->requests, &request->node);
    request->timer.run = expire;
    reactor_timer_start(fleet->reactor, &request->timer, now_ns(fleet) + FLEET_REQUEST_S * NS_PER_S);
    kick(volume);
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
        end_request(request);
    else
        submit(fleet, request);
}

/* ---- what it does by itself ---- */

static void care_done(struct fleet_request *request) {
    struct fleet *fleet = request->fleet;
    struct fleet_volume *volume = fleet->stopping ? NULL : fleet_find(fleet, request->name);
    if (volume != NULL) {
        volume->caring = false;
        volume->care_ns = now_ns(fleet) + (request->error.code != ERROR_NONE ? 30 : 1) * NS_PER_S;
    }
    if (request->error.code != ERROR_NONE)
        log_warning(fleet->log, LOG_AREA_APP, "volume %s: a lost replica is not replaced: %s%s", request->name,
                    request->error.text, request->error.expected);
    free((char *)request->name);
    free((char *)request->replica);
    free(request);
}

static void care_for(struct fleet *fleet, struct fleet_volume *volume) {
    const struct control_engine *engine = fleet_engine(fleet, volume);
    int modes[FLEET_MEMBERS_MAX];
    unsigned leg, member = 0;
    if (engine == NULL || engine->state != CONTROL_RUNNING || volume->caring || now_ns(fleet) < volume->care_ns)
        return;
    for (unsigned i = 0; i < volume->record.member_count; i++)
        modes[i] = fleet_member_mode(engine, &volume->record.members[i], &leg);
    enum fleet_care care = fleet_plan_care(&volume->record, modes, &member);
    struct fleet_request *request = care == FLEET_CARE_NOTHING ? NULL : calloc(1, sizeof(*request));
    if (request == NULL)
        return;
    log_notice(fleet->log, LOG_AREA_APP, "volume %s: replica %s is lost: %s", volume->record.name,
               volume->record.members[member].name, care == FLEET_CARE_ADD ? "another one is added" : "it is given up");
    *request = (struct fleet_request){.verb = care == FLEET_CARE_ADD ? FLEET_ADD : FLEET_REMOVE,
                                      .name = strdup(volume->record.name),
                                      .replica = strdup(volume->record.members[member].name),
                                      .done = care_done};
    assert(request->name != NULL && request->replica != NULL);
    volume->caring = true;
    fleet_submit(fleet, request);
}

static void care(struct fleet *fleet) {
    bool any = false;
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        if (!volume->record.replace || !volume->recorded)
            continue;
        any = true;
        care_for(fleet, volume);
    }
    if (any && !fleet->stopping)
        reactor_timer_start(fleet->reactor, &fleet->care_timer, now_ns(fleet) + CARE_S * NS_PER_S);
}

static void care_again(struct reactor_timer *timer) { care(container_of(timer, struct fleet, care_timer)); }

static void engines_changed(struct control_watcher *watcher) {
    struct fleet *fleet = container_of(watcher, struct fleet, engines);
    tell_watchers(fleet);
    reactor_timer_start(fleet->reactor, &fleet->care_timer, now_ns(fleet)); /* not from inside of control */
}

/* ---- start ---- */

static void load_entry(struct fleet *fleet, const struct store_entry *entry) {
    struct fleet_record record;
    struct error error;
    struct fleet_volume *volume = NULL;
    if (!fleet_record_read(entry->value, entry->value_length, &record, &error))
        ;
    else if (strcmp(entry->key + strlen(fleet->loading_key), record.name) != 0)
        error_set(&error, ERROR_DAMAGED, "it says that it is %s", record.name);
    else if ((volume = add_volume(fleet, record.name)) == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory for a volume, or %d are there", FLEET_VOLUMES_MAX);
    if (volume == NULL) {
        log_error(fleet->log, LOG_AREA_APP, "the state's %s is left alone: %s", entry->key, error.text);
        return;
    }
    volume->record = record;
    volume->recorded = true;
}

static void load(struct fleet *fleet, const char *after, int64_t revision);

static void loaded(struct store_request *request) {
    struct fleet *fleet = request->arg;
    fleet->is_loading = false;
    if (fleet->stopping) {
        look_whether_stopped(fleet);
        return;
    }
    if (request->outcome != STORE_DONE && store_is_away(request)) {
        log_warning(fleet->log, LOG_AREA_APP, "the state of volumes cannot be read yet: %s", request->error.text);
        load(fleet, request->after, request->revision);
        return;
    }
    if (request->outcome != STORE_DONE) {
        fleet->ready(fleet->arg, &request->error);
        return;
    }
    const struct store_result *result = &request->results[0];
    for (uint32_t i = 0; i < result->count; i++)
        load_entry(fleet, &result->entries[i]);
    if (request->more && result->count > 0) {
        fleet_copy(fleet->loading_after, sizeof(fleet->loading_after), result->entries[result->count - 1].key);
        load(fleet, fleet->loading_after, request->now_revision);
        return;
    }
    fleet->ready(fleet->arg, NULL);
}

static void load(struct fleet *fleet, const char *after, int64_t revision) {
    fleet->loading = (struct store_request){.verb = STORE_RANGE,
                                            .key = fleet->loading_key,
                                            .prefix = true,
                                            .after = after,
                                            .revision = revision,
                                            .timeout_ms = LOAD_MS,
                                            .arg = fleet,
                                            .done = loaded};
    fleet->is_loading = true;
    store_submit(fleet->options.store, &fleet->loading);
}

struct fleet *fleet_create(const struct fleet_options *options) {
    struct fleet *fleet = calloc(1, sizeof(*fleet));
    if (fleet == NULL)
        return NULL;
    fleet->options = *options;
    fleet->reactor = options->control->options.reactor;
    fleet->log = options->control->options.log;
    fleet->engines.changed = engines_changed;
    fleet->care_timer.run = care_again;
    list_init(&fleet->volumes);
    list_init(&fleet->watchers);
    hash_map_init(&fleet->names);
    return fleet;
}

void fleet_start(struct fleet *fleet, void (*ready)(void *arg, const struct error *error), void *arg) {
    fleet->ready = ready;
    fleet->arg = arg;
    snprintf(fleet->loading_key, sizeof(fleet->loading_key), "/penstock/%s/volumes/", fleet->options.node);
    load(fleet, NULL, 0);
}

void fleet_run(struct fleet *fleet) {
    control_watch(fleet->options.control, CONTROL_ENGINES, &fleet->engines);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        if (!fleet_record_is_settled(&volume->record)) {
            log_notice(fleet->log, LOG_AREA_APP, "volume %s: goes on with what was begun before", volume->record.name);
            volume->expires_ns = now_ns(fleet) + FLEET_GIVE_UP_S * NS_PER_S;
        }
        kick(volume);
    }
    care(fleet);
}

/* ---- stop ---- */

static void run_stopped(struct reactor_job *job) {
    struct fleet *fleet = container_of(job, struct fleet, stop_job);
    fleet->stopped(fleet->stop_arg);
}

static void look_whether_stopped(struct fleet *fleet) {
    bool busy = fleet->is_loading;
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node)
        busy |= volume->stage != FLEET_IDLE;
    if (busy || fleet->stop_told)
        return;
    fleet->stop_told = true;
    fleet->stop_job.run = run_stopped; /* late: after the ends of requests */
    reactor_defer_late(fleet->reactor, &fleet->stop_job);
}

void fleet_stop(struct fleet *fleet, void (*stopped)(void *arg), void *arg) {
    fleet->stopping = true;
    fleet->stopped = stopped;
    fleet->stop_arg = arg;
    reactor_timer_stop(fleet->reactor, &fleet->care_timer);
    if (list_linked(&fleet->engines.node))
        control_unwatch(&fleet->engines);
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        reactor_timer_stop(fleet->reactor, &volume->timer);
        list_for_each_safe (&volume->requests, struct fleet_request, request, node) {
            error_set(&request->error, ERROR_CANCELLED, "the daemon is ending");
            end_request(request);
        }
        if (volume->stage == FLEET_PAUSED)
            volume->stage = FLEET_IDLE;
    }
    look_whether_stopped(fleet);
}

void fleet_destroy(struct fleet *fleet) {
    list_for_each_safe (&fleet->volumes, struct fleet_volume, volume, node)
        remove_volume(volume);
    hash_map_fini(&fleet->names);
    free(fleet);
}
