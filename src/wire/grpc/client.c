/* The client's half: calls out, answers in. */
#include "wire/grpc/internal.h"

#include <stdio.h>

void grpc_call_init(struct grpc_call *call, const struct grpc_call_options *options) {
    call_init(call, options->budget);
    call->client = true;
    call->kind = options->kind;
    call->receives = options->receives;
    call->deadline_ns = options->deadline_ns;
}

static struct http2_field field_of(const char *name, const char *value) {
    return (struct http2_field){name, value, strlen(name), strlen(value)};
}

bool grpc_call_start(struct grpc_connection *connection, struct grpc_call *call, const char *path,
                     const struct grpc_metadata *metadata, size_t metadata_count) {
    struct http2_field fields[8 + GRPC_LIMIT_METADATA];
    size_t count = 0;
    char timeout[10];
    assert(call->client && call->connection == NULL && metadata_count <= GRPC_LIMIT_METADATA);
    if (!grpc_connection_takes_calls(connection))
        return false;
    fields[count++] = HTTP2_FIELD(":method", "POST");
    fields[count++] = connection->secure ? HTTP2_FIELD(":scheme", "https") : HTTP2_FIELD(":scheme", "http");
    fields[count++] = field_of(":path", path);
    fields[count++] = field_of(":authority", connection->authority);
    fields[count++] = HTTP2_FIELD("te", "trailers");
    fields[count++] = HTTP2_FIELD("content-type", "application/grpc");
    if (call->deadline_ns != UINT64_MAX) {
        uint64_t left_ns = call->deadline_ns - min_u64(connection->now_ns, call->deadline_ns);
        size_t length = grpc_timeout_format(max_u64(left_ns, 1), timeout);
        fields[count++] = (struct http2_field){"grpc-timeout", timeout, 12, length};
    }
    for (size_t i = 0; i < metadata_count; i++)
        fields[count++] = field_of(metadata[i].name, metadata[i].value);
    if (call->kind != GRPC_BIDIRECTIONAL)
        call->ended = true;
    if (!http2_request(&connection->http2, &call->stream, fields, count, false)) {
        connection->draining = true; /* whatever it was: a new connection can, this one cannot */
        return false;
    }
    call->connection = connection;
    list_push_back(&connection->calls, &call->node);
    connection->call_count++;
    call_due(call, call->deadline_ns);
    if (call->broken != NULL)
        call_tell(call);
    call_ready(call);
    return true;
}

void grpc_call_send_end(struct grpc_call *call) {
    if (call->ended)
        return;
    call->ended = true;
    http2_resume(&call->stream);
    call_ready(call);
}

void grpc_call_cancel(struct grpc_call *call) {
    assert(call->client);
    struct grpc_connection *connection = call->connection;
    http2_reset(&call->stream, NGHTTP2_CANCEL);
    call_ready(call);
    if (connection != NULL)
        call_detach(call);
    call_release(call);
}

void grpc_call_fail(struct grpc_call *call, enum grpc_status status, const char *text) {
    call->unprocessed = call->unprocessed || call->connection == NULL;
    client_finish(call, status, text);
}

void client_finish(struct grpc_call *call, enum grpc_status status, const char *text) {
    http2_reset(&call->stream, NGHTTP2_CANCEL);
    call_ready(call);
    call_detach(call);
    call->has_status = false;
    call_set_status(call, status, text, strlen(text));
    void (*done)(struct grpc_call *) = call->done;
    call->done = NULL;
    call->discards = true;
    call_release(call);
    if (done != NULL)
        done(call);
}

/* ---- the answer ---- */

static bool is(const char *text, size_t length, const char *wanted, size_t wanted_length) {
    return length == wanted_length && memcmp(text, wanted, length) == 0;
}
#define IS(text, length, literal) is(text, length, literal, sizeof(literal) - 1)

void client_header(struct grpc_call *call, const char *name, size_t name_length, const char *value, size_t value_length) {
    if (IS(name, name_length, ":status")) {
        call->http_status = 0;
        for (size_t i = 0; i < value_length && i < 3; i++)
            call->http_status = call->http_status * 10 + (unsigned)(value[i] - '0');
        call->content_ok = call->encoding_bad = false;
    } else if (IS(name, name_length, "content-type")) {
        call->content_ok = grpc_content_type_ok(value, value_length);
    } else if (IS(name, name_length, "grpc-encoding")) {
        call->encoding_bad = !IS(value, value_length, "identity");
    } else if (IS(name, name_length, "grpc-status")) {
        call->has_status = grpc_status_parse(value, value_length, &call->status);
    } else if (IS(name, name_length, "grpc-message")) {
        grpc_text_decode(value, value_length, call->text, sizeof(call->text));
    }
}

void client_headers(struct grpc_call *call) {
    if (call->http_status < 200 || call->answered)
        return;
    call->answered = true;
    if (call->stream.headers_over)
        client_finish(call, GRPC_RESOURCE_EXHAUSTED, "the headers of the answer are too large");
    else if (call->http_status != 200) {
        char text[64];
        snprintf(text, sizeof(text), "the answer has HTTP status %u", call->http_status);
        if (call->has_status && call->status != GRPC_OK) {
            char own[GRPC_LIMIT_TEXT];
            memcpy(own, call->text, sizeof(own));
            client_finish(call, call->status, own);
        } else {
            client_finish(call, grpc_status_of_http(call->http_status), text);
        }
    } else if (!call->content_ok)
        client_finish(call, GRPC_UNKNOWN, "the answer is no gRPC");
    else if (call->encoding_bad)
        client_finish(call, GRPC_INTERNAL, "the answer is compressed, which was not offered");
}

void client_message(struct grpc_call *call, const uint8_t *bytes, size_t length) {
    const char *why;
    const ProtobufCMessage *message;
    if (call->kind == GRPC_UNARY && call->single)
        client_finish(call, GRPC_INTERNAL, "more than one answer");
    else if ((message = grpc_message_unpack(&call->arena, call->receives, bytes, length, &why)) == NULL)
        client_finish(call, GRPC_INTERNAL, why);
    else {
        call->single = true;
        if (call->message != NULL)
            call->message(call, message);
    }
}

void client_end(struct grpc_call *call) {
    bool more = grpc_buffer_length(&call->in) > 0 || call->has_prefix;
    if (call->paused && more)
        return; /* seen again when it is resumed */
    char text[GRPC_LIMIT_TEXT];
    memcpy(text, call->text, sizeof(text));
    if (!call->has_status && call->stream.peer_ended)
        client_finish(call, GRPC_UNKNOWN, "the answer ends without a status");
    else if (!call->has_status)
        client_finish(call, GRPC_UNAVAILABLE, "the answer broke off");
    else if (call->status == GRPC_OK && more)
        client_finish(call, GRPC_INTERNAL, "the answer ends within a message");
    else if (call->status == GRPC_OK && call->kind == GRPC_UNARY && !call->single)
        client_finish(call, GRPC_INTERNAL, "the answer has no message");
    else
        client_finish(call, call->status, text);
}

void client_closed(struct grpc_call *call, uint32_t code) {
    if (call->stream.peer_ended) { /* all is there; it waits for being resumed */
        client_end(call);
        return;
    }
    char text[64];
    call->unprocessed = code == NGHTTP2_REFUSED_STREAM;
    snprintf(text, sizeof(text), "the server reset the call (%s)", nghttp2_http2_strerror(code));
    client_finish(call, grpc_status_of_http2(code), text);
}
