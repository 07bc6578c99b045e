/* Log and version of the node. */
#include "api/proto/spdkrpc/node.pb-c.h"
#include "gateway/internal.h"

static void start(struct grpc_call *call, const ProtobufCMessage *request, enum control_verb verb, const char *text,
                  void (*answer)(struct gateway_pending *pending)) {
    struct gateway_pending *pending = gateway_pend(call, request, verb, text, answer);
    if (pending != NULL)
        gateway_start(pending);
}

void gateway_log_set_level(struct grpc_call *call, const ProtobufCMessage *request) {
    start(call, request, CONTROL_LOG_SET_LEVEL, ((const Spdkrpc__LogSetLevelRequest *)request)->level, gateway_answer_empty);
}

void gateway_log_set_flags(struct grpc_call *call, const ProtobufCMessage *request) {
    start(call, request, CONTROL_LOG_SET_FLAGS, ((const Spdkrpc__LogSetFlagsRequest *)request)->flags, gateway_answer_empty);
}

static char *text_of(struct gateway_pending *pending) {
    return pending->goal.text.length == 0 ? (char *)"" : pending->goal.text.bytes;
}

static void answer_level(struct gateway_pending *pending) {
    Spdkrpc__LogGetLevelResponse answer = SPDKRPC__LOG_GET_LEVEL_RESPONSE__INIT;
    answer.level = text_of(pending);
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_log_get_level(struct grpc_call *call, const ProtobufCMessage *request) {
    start(call, request, CONTROL_LOG_GET_LEVEL, "", answer_level);
}

static void answer_flags(struct gateway_pending *pending) {
    Spdkrpc__LogGetFlagsResponse answer = SPDKRPC__LOG_GET_FLAGS_RESPONSE__INIT;
    answer.flags = text_of(pending);
    grpc_call_reply(pending->call, &answer.base);
}

void gateway_log_get_flags(struct grpc_call *call, const ProtobufCMessage *request) {
    start(call, request, CONTROL_LOG_GET_FLAGS, "", answer_flags);
}

/* What is compared by callers are the numbers, and none of them is ours: they stay 0. */
void gateway_version_detail_get(struct grpc_call *call, const ProtobufCMessage *request) {
    Spdkrpc__VersionOutput version = SPDKRPC__VERSION_OUTPUT__INIT;
    Spdkrpc__VersionDetailGetReply answer = SPDKRPC__VERSION_DETAIL_GET_REPLY__INIT;
    (void)request;
    version.version = (char *)gateway_of(call)->options.version;
    answer.version = &version;
    grpc_call_reply(call, &answer.base);
}
