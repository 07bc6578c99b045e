/* The engine of goals: recorded, observed, planned, carried out, again until reached, settled. What the verbs mean is not known
 * here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/internal.h"

enum { ROUNDS_MAX = 64, ASIDE_MS = 15000, WRITES_MAX = 6, AGAIN_MS = 200 };

static void observe(struct control_goal *goal);
static void settle(struct control_goal *goal);
static void ask_helper(struct control_goal *goal);
static void submit(struct control_goal *goal);

static struct reactor *reactor_of(const struct control_goal *goal) { return goal->control->options.reactor; }
static uint64_t now_ns(const struct control_goal *goal) { return host_now_ns(reactor_of(goal)->host); }

/* ---- the end ---- */

static void release(struct control_goal *goal) {
    reactor_timer_stop(reactor_of(goal), &goal->deadline);
    observer_forget(&goal->waiter);
    plan_commands_free(goal->commands, goal->command_count);
    text_fini(&goal->value);
    free(goal->before);
}

static void end(struct control_goal *goal) {
    struct control *control = goal->control;
    struct control_object *object = goal->object;
    /* One that expires behind others of its object leaves the one that runs alone. */
    bool first = object != NULL && list_linked(&goal->node) && list_first(&object->goals) == &goal->node;
    goal->stage = GOAL_ENDED;
    if (list_linked(&goal->node)) {
        list_remove(&goal->node);
        control->goal_count--;
    }
    release(goal);
    if (first && !list_empty(&object->goals))
        goal_begin(list_entry(list_first(&object->goals), struct control_goal, node));
    control_judge_soon(control, object);
    struct text text = goal->text;
    json_t *result = goal->result;
    goal->done(goal); /* its memory may be gone */
    text_fini(&text);
    json_decref(result);
    control_goal_ended(control);
}

static void run_job(struct reactor_job *job) {
    struct control_goal *goal = container_of(job, struct control_goal, job);
    if (goal->stage == GOAL_QUEUED && goal->object != NULL && list_linked(&goal->node))
        goal_begin(goal);
    else
        end(goal);
}

/* ---- the state ---- */

/* As it was before the goal began. */
static void restore(struct control_goal *goal) {
    struct control_object *object = goal->object;
    struct control_ports ports = control_object_ports(object);
    uint16_t port = ports.first != NULL ? *ports.first : 0, count = ports.first != NULL ? *ports.count : 0;
    object->recorded = goal->recorded_before;
    memcpy(control_object_record(object), goal->before, goal->before_size);
    if (ports.first != NULL && *ports.first != port) {
        ports_release(goal->control, port, count);
        ports_mark(goal->control, *ports.first, *ports.count);
    }
}

/* Only this node writes its keys, so what stands there is what it wrote itself, by a transaction whose answer was lost. True: it
 * is what is to stand there. */
static bool stands(struct control_goal *goal) {
    const struct store_result *result = &goal->request.results[0];
    const struct store_entry *entry = result->count > 0 ? &result->entries[0] : NULL;
    goal->object->revision = entry != NULL ? entry->modify_revision : 0;
    if (goal->op.kind == STORE_DELETE || entry == NULL)
        return goal->op.kind == STORE_DELETE && entry == NULL;
    return entry->value_length == goal->op.value_length && memcmp(entry->value, goal->op.value, entry->value_length) == 0;
}

/* Whether it is in the state. False: it is not, or that is not known. */
static bool is_written(struct control_goal *goal) {
    const struct store_request *request = &goal->request;
    if (request->outcome != STORE_DONE) {
        goal->uncertain |= request->outcome == STORE_UNKNOWN; /* and remains so, whatever becomes of later tries */
        return false;
    }
    goal->uncertain = false;
    if (!request->succeeded)
        return stands(goal);
    goal->object->revision = goal->op.kind == STORE_PUT ? request->now_revision : 0;
    return true;
}

/* True: it is, now or later. */
static bool submit_again(struct control_goal *goal) {
    struct store *store = goal->control->options.store;
    if (goal->control->stopping || store_get_status(store)->state == STORE_FAILED)
        return false;
    if (goal->uncertain)
        reactor_timer_start(reactor_of(goal), &goal->again, now_ns(goal) + AGAIN_MS * NS_PER_MS);
    else if (goal->request.outcome == STORE_DONE && ++goal->writes <= WRITES_MAX)
        submit(goal);
    else
        return false;
    return true;
}

static void go_on(struct control_goal *goal, bool ok) {
    if (ok && goal->stage == GOAL_RECORDING && goal->op.kind == STORE_PUT)
        goal->object->recorded = true;
    if (!ok) {
        const char *what = goal->uncertain ? "may have been written, or not" : "cannot be written",
                   *why = goal->request.error.text;
        log_error(goal->control->options.log, LOG_AREA_APP, "the state of %s %s: %s", control_object_name(goal->object), what,
                  why);
        if (goal->error.code == ERROR_NONE)
            error_set(&goal->error, ERROR_IO, "the state %s: %s", what, why);
    }
    if (goal->stage == GOAL_SETTLING) {
        end(goal);
    } else if (!ok) { /* nothing is done that is not written */
        restore(goal);
        end(goal);
    } else {
        if (goal->accepted != NULL && !goal->told)
            goal->accepted(goal);
        goal->told = true;
        if (goal->error.code != ERROR_NONE)
            settle(goal);
        else
            observe(goal);
    }
}

static void recorded(struct store_request *request) {
    struct control_goal *goal = container_of(request, struct control_goal, request);
    bool ok = is_written(goal);
    if (ok || !submit_again(goal))
        go_on(goal, ok);
}

static void again(struct reactor_timer *timer) { submit(container_of(timer, struct control_goal, again)); }

/* Compared first: so it may be submitted again, and one whose answer was lost has no effect after a later one. */
static void submit(struct control_goal *goal) {
    goal->compare = (struct store_compare){
        .key = goal->key, .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = goal->object->revision};
    goal->look = (struct store_op){.kind = STORE_GET, .key = goal->key};
    goal->request = (struct store_request){.verb = STORE_TRANSACT,
                                           .compares = &goal->compare,
                                           .compare_count = 1,
                                           .then_ops = &goal->op,
                                           .then_count = 1,
                                           .else_ops = &goal->look,
                                           .else_count = 1,
                                           .done = recorded};
    store_submit(goal->control->options.store, &goal->request);
}

/* What the object's record says now, or that there is none any more. */
static void record(struct control_goal *goal, enum goal_stage stage) {
    struct control_object *object = goal->object;
    goal->stage = stage;
    bool keep = stage == GOAL_RECORDING || object->recorded;
    snprintf(goal->key, sizeof(goal->key), "/penstock/%s/%s/%s", goal->control->options.node, records_folder(object->kind),
             control_object_name(object));
    text_fini(&goal->value);
    text_init(&goal->value, KIB(16));
    bool ok = !keep || records_write(object->kind, control_object_record(object), &goal->value);
    assert(ok);
    goal->op = (struct store_op){.kind = keep ? STORE_PUT : STORE_DELETE,
                                 .key = goal->key,
                                 .value = keep ? goal->value.bytes : NULL,
                                 .value_length = goal->value.length};
    goal->writes = 0;
    goal->uncertain = false;
    submit(goal);
}

static void settle(struct control_goal *goal) {
    if (verb_settle(goal) == VERB_RECORD)
        record(goal, GOAL_SETTLING);
    else
        end(goal);
}

static void fail(struct control_goal *goal, const struct error *error) {
    goal->error = *error;
    settle(goal);
}

/* ---- commands ---- */

static void carry_out(struct control_goal *goal);

static void command_done(struct plane_call *call) {
    struct control_goal *goal = call->arg;
    observer_note_command(&goal->control->observer, call->method, call->params);
    if (call->ok) {
        json_decref(goal->result);
        goal->result = call->result;
        goal->command_at++;
        carry_out(goal);
    } else if (call->error.code == ERROR_TIMED_OUT || call->code != 0) {
        log_info(goal->control->options.log, LOG_AREA_APP, "%s", call->error.text);
        if (goal->control->stopping)
            error_set(&goal->error, ERROR_CANCELLED, "the daemon is ending");
        else if (strcmp(call->method, "nvmf_create_transport") == 0 && !goal->transport_raced) {
            goal->transport_raced = true; /* another goal has made it meanwhile */
            observe(goal);
            return;
        } else if (strcmp(call->method, "bdev_nvme_detach_controller") == 0 && call->error.code == ERROR_NO_DEVICE) {
            observe(goal); /* it went between the look and the call: a copy that ends detaches by itself */
            return;
        } else if (verb_refused(goal, call)) {
            record(goal, GOAL_RECORDING);
            return;
        } else {
            goal->error = call->error;
        }
        settle(goal);
    } else if (!verb_outlives_plane(goal)) {
        goal->error = call->error;
        goal->plane_lost = true;
        settle(goal);
    } else { /* the plane is gone: what it did will be seen */
        observe(goal);
    }
}

/* ---- commands aside ---- */

static void asides_done(struct control_goal *goal) {
    if (--goal->asides_missing != 0)
        return;
    goal->asides_done = true;
    carry_out(goal);
}

static void aside_done(struct plane_call *call) {
    struct goal_aside *aside = container_of(call, struct goal_aside, call);
    struct control_goal *goal = aside->goal;
    observer_note_command(&goal->control->observer, call->method, call->params);
    if (call->ok) {
        json_decref(call->result);
    } else {
        log_info(goal->control->options.log, LOG_AREA_APP, "%s", call->error.text);
        snprintf(goal->aside_failure, sizeof(goal->aside_failure), "%s", call->error.text);
    }
    asides_done(goal);
}

static void carry_out_asides(struct control_goal *goal) {
    goal->stage = GOAL_CARRYING_OUT;
    goal->asides_missing = 1; /* this loop */
    for (unsigned i = 0; i < CONTROL_LEGS_MAX && goal->command_at < goal->command_count; i++) {
        const struct plan_command *command = &goal->commands[goal->command_at];
        struct goal_aside *aside = &goal->asides[i];
        if (!command->aside)
            break;
        goal->command_at++;
        aside->goal = goal;
        aside->call =
            (struct plane_call){.method = command->method, .params = command->params, .timeout_ms = ASIDE_MS, .done = aside_done};
        goal->asides_missing++;
        control_plane_call(&goal->control->plane, &aside->call);
    }
    asides_done(goal);
}

static void carry_out(struct control_goal *goal) {
    struct control_plane *plane = verb_is_of_helper(goal) ? blockdev_plane(goal) : &goal->control->plane;
    if (goal->command_at == goal->command_count) {
        goal->carried_out = true;
        observe(goal);
        return;
    }
    if (!control_plane_ready(plane)) {
        observe(goal);
        return;
    }
    const struct plan_command *command = &goal->commands[goal->command_at];
    struct error error;
    if (!control_plane_can(plane, command->method)) {
        error_set(&error, ERROR_UNSUPPORTED, "the storage plane has no method %s", command->method);
        fail(goal, &error);
        return;
    }
    if (command->aside) {
        carry_out_asides(goal);
        return;
    }
    uint64_t now = now_ns(goal), until = goal->deadline_ns;
    goal->stage = GOAL_CARRYING_OUT;
    goal->call = (struct plane_call){.method = command->method,
                                     .params = json_is_null(command->params) ? NULL : command->params,
                                     .timeout_ms = until > now + NS_PER_S ? (until - now) / NS_PER_MS : 1000,
                                     .done = command_done,
                                     .arg = goal};
    control_plane_call(plane, &goal->call);
}

/* The plane has been started again, and the replica's disk is being opened: that observes, too. */
static bool waits_for_disk(struct control_goal *goal) {
    const struct control_replica *replica = NULL;
    if (goal->verb == CONTROL_AWAIT_DISK || goal->verb == CONTROL_SNAPSHOT_RANGES)
        replica = control_find_replica(goal->control, goal->name);
    else if (goal->object != NULL && goal->object->kind == CONTROL_REPLICAS)
        replica = replica_of(goal->object);
    if (replica == NULL)
        return false;
    const struct control_replica_record *record = &replica->record;
    const struct control_disk *disk = control_find_disk(goal->control, record->disk);
    return disk != NULL && disk->state == CONTROL_CREATING && observed_store(control_seen(goal->control), record->store) == NULL;
}

static void observed(struct observe_waiter *waiter) {
    struct control_goal *goal = container_of(waiter, struct control_goal, waiter);
    struct plan plan;
    if (waits_for_disk(goal)) {
        observer_await(&goal->control->observer, waiter);
        return;
    }
    plan_make(goal, control_seen(goal->control), goal->control->options.address, &plan);
    plan_commands_free(goal->commands, goal->command_count);
    goal->commands = plan.commands;
    goal->command_count = plan.count;
    goal->command_at = 0;
    goal->salvaged |= plan.salvages;
    goal->looked_again |= plan.looks_again;
    if (plan.outcome == PLAN_CARRY_OUT && ++goal->rounds > ROUNDS_MAX) {
        plan.outcome = PLAN_REFUSED;
        error_set(&plan.error, ERROR_INTERNAL, "%s is planned again and again, and never reached", plan.commands[0].method);
    }
    if (plan.outcome == PLAN_CARRY_OUT)
        carry_out(goal);
    else if (plan.outcome == PLAN_REFUSED) {
        goal->planned_end = true;
        fail(goal, &plan.error);
    } else
        settle(goal);
}

static void observe(struct control_goal *goal) {
    struct error error;
    if (verb_is_of_helper(goal)) {
        ask_helper(goal);
        return;
    }
    if (verb_is_of_state(goal->verb)) {
        settle(goal);
        return;
    }
    goal->stage = GOAL_OBSERVING;
    goal->waiter.done = observed;
    if (goal->control->stopping) {
        error_set(&error, ERROR_CANCELLED, "the daemon is ending");
        fail(goal, &error);
    } else if (now_ns(goal) >= goal->deadline_ns) {
        error_set(&error, ERROR_TIMED_OUT, "it was not reached in time");
        fail(goal, &error);
    } else {
        if (goal->verb != CONTROL_REFRESH)
            control_plane_want(&goal->control->plane);
        observer_ask(&goal->control->observer, &goal->waiter);
    }
}

/* Of what a helper does nothing is observed; one that is not there yet is waited for. */
static void ask_helper(struct control_goal *goal) {
    struct control_plane *plane = blockdev_plane(goal);
    struct error error;
    struct plan plan;
    goal->stage = GOAL_OBSERVING;
    if (goal->control->stopping) {
        error_set(&error, ERROR_CANCELLED, "the daemon is ending");
        fail(goal, &error);
    } else if (now_ns(goal) >= goal->deadline_ns) {
        error_set(&error, ERROR_TIMED_OUT, "it was not reached in time");
        fail(goal, &error);
    } else if (goal->carried_out) {
        settle(goal);
    } else if (plane == NULL) {
        error_set(&error, ERROR_UNSUPPORTED, "block devices are not offered here");
        fail(goal, &error);
    } else if (!control_plane_ready(plane)) {
        control_plane_want(plane);
    } else {
        plan_blockdev(goal, &plan);
        plan_commands_free(goal->commands, goal->command_count);
        goal->commands = plan.commands;
        goal->command_count = plan.count;
        goal->command_at = 0;
        carry_out(goal);
    }
}

void goal_helper_changed(struct control_goal *goal) {
    if (goal->stage == GOAL_OBSERVING && verb_is_of_helper(goal))
        ask_helper(goal);
}

/* A refresh is content with what is known; one that is for a disk only once that is open. True: that was all. */
static bool expire_refresh(struct control_goal *goal) {
    uint64_t pause_ns = verb_seconds(goal->verb) * NS_PER_S;
    bool opens = goal->verb == CONTROL_AWAIT_DISK && (!control_plane_ready(&goal->control->plane) || waits_for_disk(goal));
    if (goal->verb != CONTROL_REFRESH && goal->verb != CONTROL_AWAIT_DISK)
        return false;
    if (opens && ++goal->rounds * pause_ns > CONTROL_GOAL_S * NS_PER_S)
        return false;
    if (opens) {
        goal->deadline_ns = now_ns(goal) + pause_ns;
        reactor_timer_start(reactor_of(goal), &goal->deadline, goal->deadline_ns);
        return true;
    }
    observer_forget(&goal->waiter);
    end(goal);
    return true;
}

/* A call under way has its own end, and so has a write. */
static void expire(struct reactor_timer *timer) {
    struct control_goal *goal = container_of(timer, struct control_goal, deadline);
    struct control_plane *plane = goal->stage == GOAL_OBSERVING && verb_is_of_helper(goal) ? blockdev_plane(goal) : NULL;
    const char *what = plane == NULL ? "the storage plane" : "the block device's helper";
    struct error error;
    if (plane == NULL)
        plane = &goal->control->plane;
    if (goal->stage == GOAL_QUEUED) {
        error_set(&goal->error, ERROR_TIMED_OUT, "what was asked for before took too long");
        end(goal);
    } else if (goal->stage == GOAL_OBSERVING && !expire_refresh(goal)) {
        observer_forget(&goal->waiter);
        if (control_plane_ready(plane))
            error_set(&error, ERROR_TIMED_OUT, "%s answers too slowly", what);
        else
            error_set(&error, ERROR_CANCELLED, "%s is not there: %s", what, plane->error.text);
        fail(goal, &error);
    }
}

/* ---- the beginning ---- */

void goal_begin(struct control_goal *goal) {
    struct control_object *object = goal->object;
    if (object != NULL) {
        goal->before = calloc(1, sizeof(*goal->before));
        assert(goal->before != NULL);
        goal->before_size = control_object_record_size(object->kind);
        memcpy(goal->before, control_object_record(object), goal->before_size);
        goal->recorded_before = object->recorded;
    }
    enum verb_next next = verb_begin(goal);
    if (next == VERB_RECORD) {
        record(goal, GOAL_RECORDING);
        return;
    }
    if (next == VERB_END) { /* not from inside of another's end */
        goal->stage = GOAL_ENDED;
        goal->job.run = run_job;
        reactor_defer(reactor_of(goal), &goal->job);
        return;
    }
    if (goal->accepted != NULL)
        goal->accepted(goal);
    goal->told = true;
    observe(goal);
}

static void later(struct control_goal *goal) {
    goal->job.run = run_job;
    reactor_defer(reactor_of(goal), &goal->job);
}

static void make_id(struct control_goal *goal) {
    struct uuid uuid;
    host_random(reactor_of(goal)->host, uuid.bytes, sizeof(uuid.bytes));
    uuid_format(&uuid, goal->id);
}

static bool may_start(struct control_goal *goal) {
    struct control *control = goal->control;
    if (control->stopping)
        return error_set(&goal->error, ERROR_CANCELLED, "the daemon is ending");
    if (control->goal_count >= CONTROL_GOALS_MAX)
        return error_set(&goal->error, ERROR_NO_MEMORY, "%d calls are under way", CONTROL_GOALS_MAX);
    return verb_accept(goal);
}

void control_goal_start(struct control *control, struct control_goal *goal) {
    goal->control = control;
    goal->stage = GOAL_QUEUED;
    goal->object = NULL;
    goal->deadline.run = expire;
    goal->again.run = again;
    goal->result = NULL;
    error_clear(&goal->error);
    text_init(&goal->text, KIB(64));
    text_init(&goal->value, KIB(16));
    make_id(goal);
    if (!may_start(goal)) {
        goal->object = NULL;
        later(goal);
        return;
    }
    control->goal_count++;
    list_push_back(goal->object != NULL ? &goal->object->goals : &control->free_goals, &goal->node);
    goal->deadline_ns = now_ns(goal) + verb_seconds(goal->verb) * NS_PER_S;
    reactor_timer_start(reactor_of(goal), &goal->deadline, goal->deadline_ns);
    if (goal->object == NULL) {
        observe(goal);
        return;
    }
    if (list_first(&goal->object->goals) == &goal->node)
        later(goal);
}

static void own_done(struct control_goal *goal) { free(goal); }

void goal_start_own(struct control *control, struct control_object *object, enum control_verb verb) {
    struct control_goal *goal = calloc(1, sizeof(*goal));
    assert(goal != NULL);
    *goal = (struct control_goal){.verb = verb, .name = control_object_name(object), .own = true, .done = own_done};
    if (object->kind == CONTROL_DISKS) {
        goal->path = disk_of(object)->record.path;
        goal->driver = disk_of(object)->record.driver;
        goal->uuid = "";
    }
    control_goal_start(control, goal);
}

static void cancel(struct control_goal *goal) {
    if (reactor_timer_armed(&goal->again)) {
        reactor_timer_stop(reactor_of(goal), &goal->again);
        go_on(goal, false);
    } else if (goal->stage == GOAL_OBSERVING) {
        struct error error;
        observer_forget(&goal->waiter);
        error_set(&error, ERROR_CANCELLED, "the daemon is ending");
        fail(goal, &error);
    }
}

/* Those that wait are ended here, the others by what they wait for: the plane's calls, the state store. */
void goals_cancel(struct control *control) {
    list_for_each_safe (&control->free_goals, struct control_goal, goal, node)
        cancel(goal);
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++)
        list_for_each (&control->objects[kind], struct control_object, object, node)
            if (!list_empty(&object->goals))
                cancel(list_entry(list_first(&object->goals), struct control_goal, node));
}
