/* The server's half: requests in, answers out, and who owns a call when. */
#include "wire/grpc/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- methods ---- */

void grpc_core_init(struct grpc_core *core, size_t memory_bytes, uint32_t lost_max) {
    *core = (struct grpc_core){.lost_max = lost_max};
    budget_init(&core->memory, NULL, memory_bytes);
    hash_map_init(&core->paths);
}

void grpc_core_fini(struct grpc_core *core) {
    assert(core->lost_calls == 0 && core->memory.used == 0);
    for (size_t i = 0; i < core->paths.bucket_count; i++)
        while (core->paths.buckets[i] != NULL) {
            struct grpc_path *path = container_of(core->paths.buckets[i], struct grpc_path, node);
            hash_map_remove(&core->paths, &path->node);
            free(path);
        }
    hash_map_fini(&core->paths);
}

static struct grpc_path *find(struct grpc_core *core, const char *path, size_t length) {
    for (struct hash_node *n = hash_map_first(&core->paths, hash_bytes(path, length, 0)); n != NULL; n = hash_map_next(n)) {
        struct grpc_path *found = container_of(n, struct grpc_path, node);
        if (found->length == length && memcmp(found->path, path, length) == 0)
            return found;
    }
    return NULL;
}

bool grpc_core_add(struct grpc_core *core, const struct grpc_service *service, void *service_arg) {
    for (size_t i = 0; i < service->method_count; i++) {
        const struct grpc_method *method = &service->methods[i];
        size_t length = strlen(service->name) + strlen(method->name) + 2;
        struct grpc_path *path = malloc(sizeof(*path) + length + 1);
        if (path == NULL)
            return false;
        snprintf(path->path, length + 1, "/%s/%s", service->name, method->name);
        path->length = length;
        path->service = service;
        path->method = method;
        path->service_arg = service_arg;
        assert(find(core, path->path, length) == NULL);
        if (!hash_map_insert(&core->paths, &path->node, hash_bytes(path->path, length, 0))) {
            free(path);
            return false;
        }
    }
    return true;
}

/* ---- the end of a call ---- */

/* Nobody has it any more? */
static void release_if_free(struct grpc_call *call) {
    if (call->owned || call->stream.connection != NULL)
        return;
    call_detach(call);
    call_release(call);
}

#define NUMBER_SIZE 4

static size_t status_fields(const struct grpc_call *call, struct http2_field *fields, char *number, char *text) {
    int length = snprintf(number, NUMBER_SIZE, "%u", (unsigned)call->status % 100);
    fields[0] = (struct http2_field){"grpc-status", number, 11, (size_t)length};
    if (call->text[0] == '\0')
        return 1;
    size_t text_length = grpc_text_encode(call->text, strlen(call->text), text, 3 * GRPC_LIMIT_TEXT);
    fields[1] = (struct http2_field){"grpc-message", text, 12, text_length};
    return 2;
}

void server_trailers(struct grpc_call *call) {
    struct http2_field fields[2];
    char number[NUMBER_SIZE], text[3 * GRPC_LIMIT_TEXT];
    size_t count = status_fields(call, fields, number, text);
    if (!http2_trailers(&call->stream, fields, count))
        http2_fail(&call->connection->http2, NGHTTP2_INTERNAL_ERROR, "no memory for an answer");
}

/* Answers without a message: one list of headers that is the trailers too. */
static bool answer_status_only(struct grpc_call *call) {
    struct http2_field fields[5];
    char number[NUMBER_SIZE], text[3 * GRPC_LIMIT_TEXT], http[NUMBER_SIZE];
    snprintf(http, sizeof(http), "%u", call->http_status % 1000);
    fields[0] = (struct http2_field){":status", http, 7, 3};
    fields[1] = HTTP2_FIELD("content-type", "application/grpc");
    size_t count = 2;
    if (call->encoding_bad)
        fields[count++] = HTTP2_FIELD("grpc-accept-encoding", "identity");
    count += status_fields(call, fields + count, number, text);
    call->answered = true;
    return http2_respond(&call->stream, fields, count, true);
}

/* The status is decided: it goes out after what waits. */
static void conclude(struct grpc_call *call, enum grpc_status status, const char *text) {
    call_set_status(call, status, text, text != NULL ? strlen(text) : 0);
    call->ended = true;
    call_discard(call);
    if (call->stream.connection == NULL)
        return;
    call->deadline_ns = UINT64_MAX;
    if (call->answered)
        http2_resume(&call->stream);
    else if (!answer_status_only(call))
        http2_reset(&call->stream, NGHTTP2_INTERNAL_ERROR);
    call_ready(call);
}

static void tell_handler(struct grpc_call *call) {
    if (!call->owned || call->told)
        return;
    call->told = true;
    if (call->cancelled != NULL && !CALL_GUARDED(call, call->cancelled(call)))
        return;
}

void server_fail(struct grpc_call *call, enum grpc_status status, const char *text) {
    if (!call->ended)
        conclude(call, status, text);
    bool owned = call->owned;
    if (owned)
        tell_handler(call); /* may release it */
    else
        release_if_free(call);
}

void server_lose(struct grpc_call *call, enum grpc_status status, const char *text) {
    if (grpc_buffer_length(&call->out) > 0 && call->stream.connection != NULL) {
        /* It would wait behind what the peer does not take. */
        call_set_status(call, status, text, strlen(text));
        call->ended = true;
        call_discard(call);
        http2_reset(&call->stream, status == GRPC_RESOURCE_EXHAUSTED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_CANCEL);
        grpc_buffer_fini(&call->out);
        call->deadline_ns = call->stall_at_ns = UINT64_MAX;
        call_ready(call);
    }
    server_fail(call, status, text);
}

void server_closed(struct grpc_call *call) {
    call->ended = true;
    call->deadline_ns = call->stall_at_ns = UINT64_MAX;
    call_discard(call);
    grpc_buffer_fini(&call->out);
    if (call->owned)
        tell_handler(call);
    else
        release_if_free(call);
}

void server_orphan(struct grpc_call *call) {
    call->stream.connection = NULL;
    call->ended = true;
    call->discards = true;
    if (!call->owned) {
        release_if_free(call);
        return;
    }
    grpc_buffer_fini(&call->in);
    grpc_buffer_fini(&call->out);
    call->held = 0;
    call_detach(call);
    grpc_arena_move_up(&call->arena);
    call->core->lost_calls++;
    tell_handler(call);
}

void grpc_call_end(struct grpc_call *call, enum grpc_status status, const char *text) {
    assert(!call->client && call->owned);
    if (!call->ended && call->broken == NULL)
        conclude(call, status, text);
    else if (call->broken != NULL && !call->ended) /* the connection ends it, as there is nobody to be told */
        call->told = true;
    call->owned = false;
    if (call->connection == NULL)
        call->core->lost_calls--;
    release_if_free(call);
}

void grpc_call_endf(struct grpc_call *call, enum grpc_status status, const char *format, ...) {
    char text[GRPC_LIMIT_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    grpc_call_end(call, status, text);
}

void grpc_call_reply(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)grpc_call_send(call, message);
    grpc_call_end(call, GRPC_OK, NULL);
}

/* ---- the beginning ---- */

struct http2_stream *server_open(struct http2_connection *http2) {
    struct grpc_connection *connection = container_of(http2, struct grpc_connection, http2);
    if (connection->call_count >= connection->limits.calls || connection->drained)
        return NULL;
    struct grpc_call *call = malloc(sizeof(*call));
    if (call == NULL)
        return NULL;
    call_init(call, &connection->memory);
    call->core = connection->core;
    call->connection = connection;
    call->http_status = 200;
    list_push_back(&connection->calls, &call->node);
    connection->call_count++;
    call->request_until_ns = connection->now_ns + connection->limits.request_ns;
    call_due(call, call->request_until_ns);
    return &call->stream;
}

static bool is(const char *text, size_t length, const char *wanted, size_t wanted_length) {
    return length == wanted_length && memcmp(text, wanted, length) == 0;
}
#define IS(text, length, literal) is(text, length, literal, sizeof(literal) - 1)

void server_header(struct grpc_call *call, const char *name, size_t name_length, const char *value, size_t value_length) {
    if (call->answered || call->owned || call->ended)
        return; /* trailers of a request mean nothing */
    if (IS(name, name_length, ":path")) {
        struct grpc_path *path = find(call->core, value, value_length);
        if (path == NULL)
            return;
        call->method = path->method;
        call->service_arg = path->service_arg;
        call->kind = path->method->kind;
        call->receives = path->method->request;
    } else if (IS(name, name_length, ":method")) {
        call->post = IS(value, value_length, "POST");
    } else if (IS(name, name_length, "content-type")) {
        call->content_ok = grpc_content_type_ok(value, value_length);
    } else if (IS(name, name_length, "grpc-timeout")) {
        uint64_t ns = 0;
        call->timeout_bad = !grpc_timeout_parse(value, value_length, &ns);
        call->deadline_ns = call->connection->now_ns + ns;
    } else if (IS(name, name_length, "grpc-encoding")) {
        call->encoding_bad = !IS(value, value_length, "identity");
    }
}

static void refuse_http(struct grpc_call *call, unsigned http_status, const char *text) {
    call->http_status = http_status;
    server_fail(call, GRPC_UNKNOWN, text);
}

void server_headers(struct grpc_call *call) {
    if (call->answered || call->owned || call->ended)
        return;
    if (call->stream.headers_over)
        server_fail(call, GRPC_RESOURCE_EXHAUSTED, "the headers are too large");
    else if (!call->post)
        refuse_http(call, 405, "gRPC is spoken by POST");
    else if (!call->content_ok)
        refuse_http(call, 415, "gRPC is of the type application/grpc");
    else if (call->encoding_bad)
        server_fail(call, GRPC_UNIMPLEMENTED, "compressed messages are not understood here");
    else if (call->method == NULL)
        server_fail(call, GRPC_UNIMPLEMENTED, "no such method");
    else if (call->timeout_bad)
        server_fail(call, GRPC_INVALID_ARGUMENT, "grpc-timeout is no timeout");
    else if (call->connection->core->lost_calls >= call->connection->core->lost_max)
        server_fail(call, GRPC_RESOURCE_EXHAUSTED, "too many calls of lost connections are still under way");
    else {
        call->core->calls_started++;
        call_due(call, call->deadline_ns);
        if (call->kind != GRPC_BIDIRECTIONAL)
            return;
        call->owned = true;
        call->request_until_ns = UINT64_MAX;
        call->method->start(call, NULL);
    }
}

void server_message(struct grpc_call *call, const uint8_t *bytes, size_t length) {
    const char *why;
    const ProtobufCMessage *message = grpc_message_unpack(&call->arena, call->receives, bytes, length, &why);
    if (message == NULL) {
        server_fail(call, GRPC_INVALID_ARGUMENT, why);
    } else if (call->kind == GRPC_BIDIRECTIONAL) {
        if (call->message != NULL)
            call->message(call, message);
    } else {
        call->owned = true;
        call->request_until_ns = UINT64_MAX;
        grpc_buffer_fini(&call->in);
        call->method->start(call, message);
    }
}

void server_end(struct grpc_call *call) {
    if (call->discards || (call->owned && call->kind != GRPC_BIDIRECTIONAL))
        return;
    size_t length = grpc_buffer_length(&call->in);
    if (call->kind == GRPC_BIDIRECTIONAL) {
        bool paused = call->paused || call->above_mark;
        if (!paused && (length > 0 || call->has_prefix))
            server_fail(call, GRPC_INVALID_ARGUMENT, "the request ends within a message");
        else if (!paused && !call->half_closed_told && call->owned) {
            call->half_closed_told = true;
            if (call->half_closed != NULL)
                call->half_closed(call);
        }
        return;
    }
    if (!call->has_prefix || length < call->message_length)
        server_fail(call, GRPC_INVALID_ARGUMENT, "the request is not whole");
    else
        server_message(call, call->in.bytes + call->in.begin, length);
}
