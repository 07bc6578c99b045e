#include "grpc_echo.h"

#include <stdlib.h>

struct talk {
    struct list_node node;
    struct echo *echo;
    struct grpc_call *call;
    bool held, deaf, ending;
    uint64_t left;
    size_t size;
};

void echo_init(struct echo *echo) {
    *echo = (struct echo){0};
    list_init(&echo->calls);
}

static struct talk *talk_start(struct grpc_call *call) {
    struct talk *talk = calloc(1, sizeof(*talk));
    assert(talk != NULL);
    talk->echo = call->service_arg;
    talk->call = call;
    call->arg = talk;
    list_push_back(&talk->echo->calls, &talk->node);
    talk->echo->running++;
    return talk;
}

static void talk_end(struct talk *talk, enum grpc_status status, const char *text) {
    struct grpc_call *call = talk->call;
    list_remove(&talk->node);
    talk->echo->running--;
    free(talk);
    grpc_call_end(call, status, text);
}

static void on_cancelled(struct grpc_call *call) {
    struct talk *talk = call->arg;
    talk->echo->cancelled++;
    if (!talk->held || !talk->echo->keep_cancelled)
        talk_end(talk, GRPC_CANCELLED, "cancelled");
}

static void on_say(struct grpc_call *call, const ProtobufCMessage *request) { grpc_call_reply(call, request); }

static void on_fail(struct grpc_call *call, const ProtobufCMessage *request) {
    const Words *words = (const Words *)request;
    grpc_call_end(call, (enum grpc_status)words->number, words->text);
}

static void on_hold(struct grpc_call *call, const ProtobufCMessage *request) {
    (void)request;
    struct talk *talk = talk_start(call);
    talk->held = true;
    call->cancelled = on_cancelled;
}

void echo_release(struct echo *echo) {
    list_for_each_safe (&echo->calls, struct talk, talk, node) {
        Words words = WORDS_INIT;
        if (!talk->held)
            continue;
        (void)grpc_call_send(talk->call, &words.base);
        talk_end(talk, GRPC_OK, NULL);
    }
}

static void count_on(struct talk *talk) {
    static const uint8_t zeroes[65536];
    bool more = true;
    while (talk->left > 0 && (more || talk->deaf) && talk->call->broken == NULL) {
        Words words = WORDS_INIT;
        words.number = talk->left--;
        words.data = (ProtobufCBinaryData){talk->size, (uint8_t *)(uintptr_t)zeroes};
        more = grpc_call_send(talk->call, &words.base);
    }
    if (talk->left == 0)
        talk_end(talk, GRPC_OK, NULL);
}

static void on_writable(struct grpc_call *call) { count_on(call->arg); }

static void count_start(struct grpc_call *call, const ProtobufCMessage *request, bool deaf) {
    const Words *words = (const Words *)request;
    if (words->size > 65536) {
        grpc_call_endf(call, GRPC_INVALID_ARGUMENT, "size is %llu: expected at most 65536", (unsigned long long)words->size);
        return;
    }
    struct talk *talk = talk_start(call);
    call->cancelled = on_cancelled;
    call->writable = on_writable;
    talk->left = words->number;
    talk->size = (size_t)words->size;
    talk->deaf = deaf;
    count_on(talk);
}

static void on_count(struct grpc_call *call, const ProtobufCMessage *request) { count_start(call, request, false); }
static void on_flood(struct grpc_call *call, const ProtobufCMessage *request) { count_start(call, request, true); }

static void on_chat_message(struct grpc_call *call, const ProtobufCMessage *message) {
    struct talk *talk = call->arg;
    talk->echo->chatted++;
    (void)grpc_call_send(call, message);
}

static void on_chat_end(struct grpc_call *call) { talk_end(call->arg, GRPC_OK, NULL); }

static void on_chat(struct grpc_call *call, const ProtobufCMessage *request) {
    (void)request;
    talk_start(call);
    call->message = on_chat_message;
    call->half_closed = on_chat_end;
    call->cancelled = on_cancelled;
}

static const struct grpc_method methods[] = {
    {"Say", GRPC_UNARY, WORDS, WORDS, on_say},
    {"Fail", GRPC_UNARY, WORDS, WORDS, on_fail},
    {"Hold", GRPC_UNARY, WORDS, WORDS, on_hold},
    {"Count", GRPC_SERVER_STREAM, WORDS, WORDS, on_count},
    {"Flood", GRPC_SERVER_STREAM, WORDS, WORDS, on_flood},
    {"Chat", GRPC_BIDIRECTIONAL, WORDS, WORDS, on_chat},
};
const struct grpc_service echo_service = {"penstock.test.v1.Echo", methods, array_count(methods)};
