/* EngineFrontendSwitchOver: asks the engines' nodes what control/switch.h says, and records each step. A switch that a restart
 * cut off, or that could not be finished, is brought to an end here, without a caller. */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/engine.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "control/names.h"
#include "gateway/internal.h"

enum {
    LOOK_MS = 5000,
    OLD_MS = 2000,    /* an old engine that does not even tell its state by then is not waited for */
    DRAIN_MS = 12000, /* the target gives up draining after 10 s */
    PROMOTE_MS = (CONTROL_GOAL_S + 5) * 1000,
    DRAINED_S = 30, /* hosts have no path meanwhile: a caller that stays away is undone */
    AGAIN_MAX_S = 30
};

struct gateway_switch {
    struct list_node node;
    struct gateway *gateway;
    char frontend[CONTROL_NAME_MAX + 1], engine[CONTROL_NAME_MAX + 1],
        target[CONTROL_ADDRESS_SIZE]; /* engine, target: the next */
    enum switch_step step;
    enum switch_phase phase;
    struct switch_move move; /* being recorded */
    enum switch_ask asked;
    struct gateway_ask ask;
    struct control_goal goal;
    bool asking, recording, leaving;
    struct reactor_timer timer;
    unsigned tries;
    struct grpc_call *call; /* NULL: nobody's */
    char text[300];         /* what went wrong first */
};

static void run(struct gateway_switch *over, struct switch_move move);

static const struct control_frontend *frontend_of(const struct gateway_switch *over) {
    return control_find_frontend(over->gateway->options.control, over->frontend);
}

static struct reactor *reactor_of(const struct gateway_switch *over) { return over->gateway->options.control->options.reactor; }

static void answer(struct gateway_switch *over, enum grpc_status status, const char *text) {
    struct grpc_call *call = over->call;
    over->call = NULL;
    if (call != NULL && status == GRPC_OK)
        gateway_reply_empty(call);
    else if (call != NULL)
        grpc_call_end(call, status, text);
}

static void leave(struct gateway_switch *over) {
    over->leaving = true;
    if (over->asking || over->recording)
        return;
    answer(over, GRPC_UNAVAILABLE, "the daemon is ending");
    reactor_timer_stop(reactor_of(over), &over->timer);
    list_remove(&over->node);
    free(over);
}

static void note(struct gateway_switch *over, const char *text) {
    if (over->text[0] == '\0')
        snprintf(over->text, sizeof(over->text), "%s", text);
}

/* ---- ends ---- */

static void again(struct reactor_timer *timer) {
    struct gateway_switch *over = container_of(timer, struct gateway_switch, timer);
    enum switch_step step = over->step == SWITCH_DRAINED ? SWITCH_MOVING : over->step;
    if (frontend_of(over) == NULL)
        leave(over);
    else
        run(over, switch_next(step, SWITCH_ALL, SWITCH_ASK_NOTHING, SWITCH_BEGIN));
}

static void later(struct gateway_switch *over, unsigned seconds) {
    over->timer.run = again;
    reactor_timer_start(reactor_of(over), &over->timer, host_now_ns(reactor_of(over)->host) + seconds * NS_PER_S);
}

/* A caller's switch gave way to another one's that did not get as far: what is recorded is still to be undone. */
static bool take_up(struct gateway_switch *over) {
    const struct control_frontend *frontend = frontend_of(over);
    if (frontend == NULL || frontend->record.step == SWITCH_NONE || frontend->record.step == SWITCH_PREPARED)
        return false;
    over->step = frontend->record.step;
    snprintf(over->engine, sizeof(over->engine), "%s", frontend->record.next_engine);
    snprintf(over->target, sizeof(over->target), "%s", frontend->record.next_target);
    later(over, 1);
    return true;
}

static void finish(struct gateway_switch *over, enum switch_end how) {
    char text[400];
    snprintf(text, sizeof(text), "%s%s", over->text[0] != '\0' ? over->text : "the switch-over broke off",
             how == SWITCH_LATER ? "; it is being undone" : "");
    if (how == SWITCH_REACHED || how == SWITCH_MOVED)
        answer(over, GRPC_OK, NULL);
    else
        answer(over,
               over->tries == 0 && how == SWITCH_FAILED && over->asked == SWITCH_ASK_NEXT ? GRPC_FAILED_PRECONDITION
                                                                                          : GRPC_INTERNAL,
               text);
    over->tries++;
    if (how == SWITCH_LATER)
        later(over, over->tries <= 5 ? 1U << (over->tries - 1) : AGAIN_MAX_S);
    else if (how == SWITCH_REACHED && over->step == SWITCH_DRAINED)
        later(over, DRAINED_S);
    else if (how != SWITCH_FAILED || !take_up(over))
        leave(over);
}

/* ---- questions ---- */

/* A standby is running, and says that it is one. One that is being promoted, or made, is in no state to tell. */
static enum switch_answer read_engine(struct gateway_switch *over, const Spdkrpc__Engine *engine, bool next) {
    char at[CONTROL_ADDRESS_SIZE + 16], text[256];
    const struct control_frontend *frontend = frontend_of(over);
    if (strcmp(engine->state, control_state_name(CONTROL_PENDING)) == 0)
        return SWITCH_SILENT;
    snprintf(at, sizeof(at), strchr(engine->ip, ':') != NULL ? "[%.45s]:%d" : "%.45s:%d", engine->ip, (int)engine->port);
    if (strcmp(engine->state, control_state_name(CONTROL_RUNNING)) != 0)
        snprintf(text, sizeof(text), "engine %.63s is in state %.20s: %.120s", engine->name, engine->state, engine->error_msg);
    else if (frontend != NULL && strcmp(engine->volume_name, frontend->record.volume) != 0)
        snprintf(text, sizeof(text), "engine %.63s is of volume %.63s", engine->name, engine->volume_name);
    else if (next && strcmp(at, over->target) != 0)
        snprintf(text, sizeof(text), "engine %.63s is offered at %.60s, not at %.63s", engine->name, at, over->target);
    else if (strncmp(engine->error_msg, CONTROL_STANDBY, sizeof(CONTROL_STANDBY) - 1) == 0)
        return next ? SWITCH_STANDS_BY : SWITCH_REFUSED;
    else
        return SWITCH_SERVES;
    if (next)
        note(over, text);
    return SWITCH_REFUSED;
}

static bool is_silence(enum grpc_status status) {
    return status == GRPC_UNAVAILABLE || status == GRPC_DEADLINE_EXCEEDED || status == GRPC_CANCELLED || status == GRPC_INTERNAL;
}

static void answered(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct gateway_switch *over = container_of(ask, struct gateway_switch, ask);
    enum switch_answer heard;
    bool look = over->asked == SWITCH_ASK_NEXT || over->asked == SWITCH_ASK_OLD;
    over->asking = false;
    if (over->leaving) {
        leave(over);
        return;
    }
    if (message == NULL && over->asked != SWITCH_ASK_OLD && over->asked != SWITCH_ASK_DRAIN)
        note(over, ask->text);
    if (message == NULL)
        heard = is_silence(ask->status) ? SWITCH_SILENT : SWITCH_REFUSED;
    else
        heard = look ? read_engine(over, (const Spdkrpc__Engine *)message, over->asked == SWITCH_ASK_NEXT) : SWITCH_SERVES;
    if (over->asked == SWITCH_ASK_DRAIN && heard != SWITCH_SERVES)
        log_warning(over->gateway->options.control->options.log, LOG_AREA_APP,
                    "engine frontend %s: the old engine was not drained: %s", over->frontend, ask->text);
    run(over, switch_next(over->step, over->phase, over->asked, heard));
}

static void look(struct gateway_switch *over, const char *engine, const char *target, uint64_t timeout_ms) {
    Spdkrpc__EngineGetRequest get = SPDKRPC__ENGINE_GET_REQUEST__INIT;
    get.name = (char *)engine;
    gateway_ask(over->gateway, &over->ask, target, "EngineGet", &get.base, &spdkrpc__engine__descriptor, timeout_ms);
}

static void set_ana(struct gateway_switch *over, const char *engine, const char *target, const char *state, uint64_t timeout_ms) {
    Spdkrpc__EngineSetTargetListenerANAStateRequest set = SPDKRPC__ENGINE_SET_TARGET_LISTENER_ANASTATE_REQUEST__INIT;
    set.name = (char *)engine;
    set.ana_state = (char *)state;
    gateway_ask(over->gateway, &over->ask, target, "EngineSetTargetListenerANAState", &set.base,
                &google__protobuf__empty__descriptor, timeout_ms);
}

static void connected(struct control_goal *goal) {
    struct gateway_switch *over = container_of(goal, struct gateway_switch, goal);
    over->recording = false;
    over->asking = false;
    if (over->leaving) {
        leave(over);
        return;
    }
    if (goal->error.code != ERROR_NONE)
        note(over, goal->error.text);
    run(over, switch_next(over->step, over->phase, SWITCH_ASK_CONNECT,
                          goal->error.code == ERROR_NONE ? SWITCH_SERVES : SWITCH_REFUSED));
}

/* Hosts that are not ours connect by themselves. */
static void connect_device(struct gateway_switch *over, const struct control_frontend_record *record) {
    if (strcmp(record->frontend, CONTROL_BLOCKDEV) != 0) {
        over->asking = false;
        run(over, switch_next(over->step, over->phase, SWITCH_ASK_CONNECT, SWITCH_SERVES));
        return;
    }
    over->goal =
        (struct control_goal){.verb = CONTROL_FRONTEND_ATTACH, .name = over->frontend, .target = over->target, .done = connected};
    control_goal_start(over->gateway->options.control, &over->goal);
}

static void ask(struct gateway_switch *over, enum switch_ask what) {
    const struct control_frontend *frontend = frontend_of(over);
    if (frontend == NULL || over->leaving) {
        note(over, "the engine frontend was deleted meanwhile");
        answer(over, GRPC_NOT_FOUND, over->text);
        leave(over);
        return;
    }
    const struct control_frontend_record *old = &frontend->record;
    over->asked = what;
    over->asking = true;
    over->ask = (struct gateway_ask){.done = answered};
    switch (what) {
    case SWITCH_ASK_NEXT: look(over, over->engine, over->target, LOOK_MS); break;
    case SWITCH_ASK_CONNECT: connect_device(over, old); break;
    case SWITCH_ASK_OLD: look(over, old->engine, old->target, OLD_MS); break;
    case SWITCH_ASK_DRAIN: set_ana(over, old->engine, old->target, NAMES_ANA_INACCESSIBLE, DRAIN_MS); break;
    case SWITCH_ASK_PROMOTE: set_ana(over, over->engine, over->target, NAMES_ANA_OPTIMIZED, PROMOTE_MS); break;
    case SWITCH_ASK_RESTORE:
    case SWITCH_ASK_RESTORE_BLIND: set_ana(over, old->engine, old->target, NAMES_ANA_OPTIMIZED, DRAIN_MS); break;
    case SWITCH_ASK_NOTHING: assert(!"nothing to ask");
    }
}

/* ---- steps ---- */

static void go_on(struct gateway_switch *over, struct switch_move move) {
    if (move.end != SWITCH_GOES_ON)
        finish(over, move.end);
    else
        ask(over, move.ask);
}

static void recorded(struct control_goal *goal) {
    struct gateway_switch *over = container_of(goal, struct gateway_switch, goal);
    over->recording = false;
    if (over->leaving) {
        leave(over);
    } else if (goal->error.code == ERROR_NONE) {
        over->step = over->move.step;
        go_on(over, over->move);
    } else { /* as it was recorded before; what was begun is looked after */
        note(over, goal->error.text);
        finish(over, over->step == SWITCH_NONE || over->step == SWITCH_PREPARED ? SWITCH_FAILED : SWITCH_LATER);
    }
}

static void run(struct gateway_switch *over, struct switch_move move) {
    bool moved = move.end == SWITCH_MOVED;
    if (move.step == over->step && !moved) {
        go_on(over, move);
        return;
    }
    log_notice(over->gateway->options.control->options.log, LOG_AREA_APP, "engine frontend %s: switch-over to %s: %s",
               over->frontend, over->engine, moved ? "done" : switch_step_name(move.step));
    over->move = move;
    over->recording = true;
    over->goal = (struct control_goal){.verb = CONTROL_FRONTEND_SWITCH,
                                       .name = over->frontend,
                                       .engine = over->engine,
                                       .target = over->target,
                                       .step = move.step,
                                       .moved = moved,
                                       .done = recorded};
    control_goal_start(over->gateway->options.control, &over->goal);
}

static struct gateway_switch *create(struct gateway *gateway, const char *frontend, const char *engine, const char *target) {
    struct gateway_switch *over = calloc(1, sizeof(*over));
    if (over == NULL)
        return NULL;
    over->gateway = gateway;
    over->phase = SWITCH_ALL;
    snprintf(over->frontend, sizeof(over->frontend), "%s", frontend);
    snprintf(over->engine, sizeof(over->engine), "%s", engine);
    snprintf(over->target, sizeof(over->target), "%s", target);
    list_push_back(&gateway->switches, &over->node);
    return over;
}

void gateway_switches_resume(struct gateway *gateway) {
    list_for_each (&gateway->options.control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        const struct control_frontend_record *record = &container_of(object, struct control_frontend, object)->record;
        if (record->step == SWITCH_NONE || record->step == SWITCH_PREPARED)
            continue;
        struct gateway_switch *over = create(gateway, record->name, record->next_engine, record->next_target);
        if (over == NULL)
            continue;
        over->step = record->step;
        later(over, 0);
    }
}

void gateway_switches_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->switches, struct gateway_switch, over, node)
        leave(over);
}

/* ---- the call ---- */

/* By its own name, or by that of an engine which is no other's. NULL: the call was ended. */
static const struct control_frontend *find_frontend(struct grpc_call *call, const char *name) {
    struct control *control = gateway_of(call)->options.control;
    const struct control_frontend *found = control_find_frontend(control, name);
    unsigned count = 0;
    if (found != NULL)
        return found;
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        const struct control_frontend *frontend = container_of(object, struct control_frontend, object);
        if (name[0] != '\0' && strcmp(frontend->record.engine, name) == 0) {
            found = frontend;
            count++;
        }
    }
    if (count == 1)
        return found;
    if (name[0] == '\0')
        grpc_call_end(call, GRPC_INVALID_ARGUMENT, "name is '': expected the name of an engine frontend, or of its engine");
    else if (count == 0)
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine frontend '%s'", name);
    else
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine %s has %u frontends: name one of them", name, count);
    return NULL;
}

static bool read_phase(const char *text, enum switch_phase *ret_phase) {
    static const struct {
        const char *name;
        enum switch_phase phase;
    } phases[] = {{"", SWITCH_ALL}, {"preparing", SWITCH_PREPARE}, {"switching", SWITCH_DRAIN}, {"promoting", SWITCH_ALL}};
    for (size_t i = 0; i < array_count(phases); i++)
        if (strcmp(phases[i].name, text) == 0) {
            *ret_phase = phases[i].phase;
            return true;
        }
    return false;
}

static struct gateway_switch *find_switch(const struct gateway *gateway, const char *frontend) {
    list_for_each (&gateway->switches, struct gateway_switch, over, node)
        if (strcmp(over->frontend, frontend) == 0)
            return over;
    return NULL;
}

/* False: it is at work for somebody. One that waits gives way: the caller's may go elsewhere. */
static bool end_waiting(struct gateway_switch *over) {
    if (over == NULL)
        return true;
    if (over->asking || over->recording || over->leaving)
        return false;
    leave(over);
    return true;
}

static void start(struct grpc_call *call, const char *name, enum switch_phase phase, const char *engine, const char *target) {
    struct gateway *gateway = gateway_of(call);
    const struct control_frontend *frontend = control_find_frontend(gateway->options.control, name);
    if (frontend == NULL || gateway->stopping) {
        grpc_call_endf(call, GRPC_NOT_FOUND, "there is no engine frontend '%s'", name);
        return;
    }
    const struct control_frontend_record *record = &frontend->record;
    bool same = strcmp(record->next_engine, engine) == 0 && strcmp(record->next_target, target) == 0;
    if (!end_waiting(find_switch(gateway, name))) {
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine frontend %s is switching over to %s", name, record->next_engine);
        return;
    }
    if (strcmp(record->engine, engine) == 0 && strcmp(record->target, target) == 0 && record->step == SWITCH_NONE) {
        gateway_reply_empty(call); /* it has moved already */
        return;
    }
    struct gateway_switch *over = create(gateway, name, engine, target);
    if (over == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    over->call = call;
    over->phase = phase;
    over->step = same && (record->step == SWITCH_PREPARED || record->step == SWITCH_DRAINED) ? record->step : SWITCH_NONE;
    run(over, switch_next(over->step, phase, SWITCH_ASK_NOTHING, SWITCH_BEGIN));
}

/* An engine that is named by its place alone. */
struct finding {
    struct gateway_ask ask;
    struct grpc_call *call;
    char frontend[CONTROL_NAME_MAX + 1], target[CONTROL_ADDRESS_SIZE];
    enum switch_phase phase;
};

static void listed(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct finding *finding = container_of(ask, struct finding, ask);
    const Spdkrpc__EngineListResponse *list = (const Spdkrpc__EngineListResponse *)message;
    const char *found = NULL;
    char at[CONTROL_ADDRESS_SIZE + 16];
    for (size_t i = 0; list != NULL && i < list->n_engines; i++) {
        const Spdkrpc__Engine *engine = list->engines[i]->value;
        if (engine == NULL)
            continue;
        snprintf(at, sizeof(at), strchr(engine->ip, ':') != NULL ? "[%.45s]:%d" : "%.45s:%d", engine->ip, (int)engine->port);
        if (strcmp(at, finding->target) == 0 && strlen(engine->name) <= CONTROL_NAME_MAX)
            found = engine->name;
    }
    if (list == NULL)
        grpc_call_endf(finding->call, GRPC_FAILED_PRECONDITION, "the engine at %s is not to be found: %s", finding->target,
                       ask->text);
    else if (found == NULL)
        grpc_call_endf(finding->call, GRPC_NOT_FOUND, "there is no engine at %s", finding->target);
    else
        start(finding->call, finding->frontend, finding->phase, found, finding->target);
    free(finding);
}

static void find_engine(struct grpc_call *call, const char *frontend, enum switch_phase phase, const char *target) {
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    struct finding *finding = calloc(1, sizeof(*finding));
    if (finding == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    *finding = (struct finding){.ask.done = listed, .call = call, .phase = phase};
    snprintf(finding->frontend, sizeof(finding->frontend), "%s", frontend);
    snprintf(finding->target, sizeof(finding->target), "%s", target);
    gateway_ask(gateway_of(call), &finding->ask, target, "EngineList", &empty.base, &spdkrpc__engine_list_response__descriptor,
                LOOK_MS);
}

void gateway_frontend_switch_over(struct grpc_call *call, const ProtobufCMessage *message) {
    const Spdkrpc__EngineFrontendSwitchOverRequest *request = (const Spdkrpc__EngineFrontendSwitchOverRequest *)message;
    const struct control_frontend *frontend = find_frontend(call, request->name);
    enum switch_phase phase = SWITCH_ALL;
    struct error error;
    if (frontend == NULL)
        return;
    error_clear(&error);
    if (!control_is_address(request->target_address))
        error_invalid(&error, "target_address", request->target_address, "the new engine's IP:PORT");
    else if (!read_phase(request->switchover_phase, &phase))
        error_invalid(&error, "switchover_phase", request->switchover_phase,
                      "preparing, switching, promoting, or nothing for all");
    else if (request->engine_name[0] != '\0')
        (void)names_check(request->engine_name, "engine_name", &error);
    if (error.code != ERROR_NONE)
        gateway_fail(call, &error, false);
    else if (frontend->state != CONTROL_RUNNING || frontend->record.frontend[0] == '\0')
        grpc_call_endf(call, GRPC_FAILED_PRECONDITION, "engine frontend %s is in state %s%s%s%s", frontend->record.name,
                       control_state_name(frontend->state), frontend->reason[0] != '\0' ? ": " : "", frontend->reason,
                       frontend->record.frontend[0] == '\0' ? ", and gives its volume to nobody" : "");
    else if (request->engine_name[0] == '\0')
        find_engine(call, frontend->record.name, phase, request->target_address);
    else
        start(call, frontend->record.name, phase, request->engine_name, request->target_address);
}
