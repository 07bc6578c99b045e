/* Frontends suspended and resumed: the engine's mirror holds writes, on whatever node it is. docs/control.md, "Frontends". */
#include <stdio.h>
#include <stdlib.h>

#include "api/proto/penstock/v1/node.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "gateway/internal.h"

enum { ASK_MS = (CONTROL_PAUSE_S + 2) * 1000 };
#define OWN_PATH "/" GATEWAY_OWN_SERVICE "/"

/* ---- the engine's node ---- */

static void answer_paused(struct gateway_pending *pending) {
    Penstock__V1__PauseEngineResponse answer = PENSTOCK__V1__PAUSE_ENGINE_RESPONSE__INIT;
    answer.lease = (uint64_t)json_integer_value(pending->goal.result);
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_pause_engine(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__PauseEngineRequest *request = (const Penstock__V1__PauseEngineRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_PAUSE, request->engine, answer_paused);
    if (pending != NULL)
        gateway_start(pending);
}

static void answer_resumed(struct gateway_pending *pending) {
    Penstock__V1__ResumeEngineResponse answer = PENSTOCK__V1__RESUME_ENGINE_RESPONSE__INIT;
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_resume_engine(struct grpc_call *call, const ProtobufCMessage *message) {
    const Penstock__V1__ResumeEngineRequest *request = (const Penstock__V1__ResumeEngineRequest *)message;
    struct gateway_pending *pending = gateway_pend(call, message, CONTROL_ENGINE_UNPAUSE, request->engine, answer_resumed);
    if (pending == NULL)
        return;
    pending->goal.lease = request->lease;
    gateway_start(pending);
}

/* ---- the frontend's node ---- */

struct pausing {
    struct gateway_ask ask;
    struct grpc_call *call;
    const ProtobufCMessage *request;
    bool resumes;
    uint64_t asked_ns;
};

static void record(struct grpc_call *call, const ProtobufCMessage *request, const char *name, bool resumes, uint64_t lease,
                   uint64_t paused_ns) {
    struct gateway_pending *pending =
        gateway_pend(call, request, resumes ? CONTROL_FRONTEND_RESUME : CONTROL_FRONTEND_SUSPEND, name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->goal.elsewhere = true;
    pending->goal.lease = lease;
    pending->goal.paused_ns = paused_ns;
    gateway_start(pending);
}

/* A pause that ended before it was resumed was too short for whoever wanted it. */
static void told(struct gateway_ask *ask, const ProtobufCMessage *message) {
    struct pausing *pausing = container_of(ask, struct pausing, ask);
    const char *name = pausing->resumes ? ((const Spdkrpc__EngineFrontendResumeRequest *)pausing->request)->name
                                        : ((const Spdkrpc__EngineFrontendSuspendRequest *)pausing->request)->name;
    if (message == NULL)
        grpc_call_endf(pausing->call, ask->status, "its engine's node: %.200s", ask->text);
    else
        record(pausing->call, pausing->request, name, pausing->resumes,
               pausing->resumes ? 0 : ((const Penstock__V1__PauseEngineResponse *)message)->lease, pausing->asked_ns);
    free(pausing);
}

/* The goal says that the engine is on another node. */
static bool ask_engine(struct gateway_pending *pending) {
    struct gateway *gateway = gateway_of(pending->call);
    const struct control *control = gateway->options.control;
    const struct control_frontend *frontend = control_find_frontend(gateway->options.control, pending->goal.name);
    bool wanted = pending->goal.error.code == ERROR_UNSUPPORTED && frontend != NULL && frontend->record.target[0] != '\0' &&
                  !gateway->stopping;
    struct pausing *pausing = wanted ? calloc(1, sizeof(*pausing)) : NULL;
    Penstock__V1__PauseEngineRequest pause = PENSTOCK__V1__PAUSE_ENGINE_REQUEST__INIT;
    Penstock__V1__ResumeEngineRequest resume = PENSTOCK__V1__RESUME_ENGINE_REQUEST__INIT;
    if (pausing == NULL)
        return false;
    pausing->ask.done = told;
    pausing->call = pending->call;
    pausing->request = pending->request;
    pausing->resumes = pending->goal.verb == CONTROL_FRONTEND_RESUME;
    pausing->asked_ns = host_now_ns(control->options.reactor->host);
    pause.engine = resume.engine = (char *)frontend->record.engine;
    resume.lease = frontend->lease;
    if (pausing->resumes)
        gateway_ask(gateway, &pausing->ask, frontend->record.target, OWN_PATH "ResumeEngine", &resume.base,
                    &penstock__v1__resume_engine_response__descriptor, ASK_MS);
    else
        gateway_ask(gateway, &pausing->ask, frontend->record.target, OWN_PATH "PauseEngine", &pause.base,
                    &penstock__v1__pause_engine_response__descriptor, ASK_MS);
    return true;
}

static void start(struct grpc_call *call, const ProtobufCMessage *message, enum control_verb verb, const char *name) {
    struct gateway_pending *pending = gateway_pend(call, message, verb, name, gateway_answer_empty);
    if (pending == NULL)
        return;
    pending->failed = ask_engine;
    gateway_start(pending);
}

void gateway_frontend_suspend(struct grpc_call *call, const ProtobufCMessage *message) {
    start(call, message, CONTROL_FRONTEND_SUSPEND, ((const Spdkrpc__EngineFrontendSuspendRequest *)message)->name);
}

void gateway_frontend_resume(struct grpc_call *call, const ProtobufCMessage *message) {
    start(call, message, CONTROL_FRONTEND_RESUME, ((const Spdkrpc__EngineFrontendResumeRequest *)message)->name);
}
