/* What calls of both roles have in common: messages in and out. */
#include "wire/grpc/internal.h"

#include <stdlib.h>

#define PREFIX_BYTES 5

void call_init(struct grpc_call *call, struct budget *budget) {
    memset(call, 0, offsetof(struct grpc_call, text));
    call->text[0] = '\0';
    call->budget = budget;
    call->deadline_ns = call->request_until_ns = call->stall_at_ns = UINT64_MAX;
    grpc_arena_init(&call->arena, budget);
    grpc_buffer_init(&call->in, budget);
    grpc_buffer_init(&call->out, budget);
}

void call_detach(struct grpc_call *call) {
    struct grpc_connection *connection = call->connection;
    if (connection == NULL)
        return;
    http2_consume(&connection->http2, &call->stream, call->held);
    call->held = 0;
    list_remove(&call->node);
    if (list_linked(&call->tell_node))
        list_remove(&call->tell_node);
    connection->call_count--;
    call->connection = NULL;
}

void call_release(struct grpc_call *call) {
    if (call->gone != NULL)
        *call->gone = true;
    grpc_arena_fini(&call->arena);
    grpc_buffer_fini(&call->in);
    grpc_buffer_fini(&call->out);
    if (!call->client)
        free(call);
}

void call_set_status(struct grpc_call *call, enum grpc_status status, const char *text, size_t length) {
    if (call->has_status)
        return;
    call->has_status = true;
    call->status = status;
    length = min_u64(length, sizeof(call->text) - 1);
    while (length > 0 && text[length] != '\0' && ((uint8_t)text[length] & 0xc0) == 0x80)
        length--; /* whole characters */
    if (length > 0)
        memcpy(call->text, text, length);
    call->text[length] = '\0';
}

void call_due(struct grpc_call *call, uint64_t at_ns) {
    if (call->connection != NULL && at_ns < call->connection->next_call_ns)
        call->connection->next_call_ns = at_ns;
}

void call_ready(struct grpc_call *call) {
    struct grpc_connection *connection = call->connection;
    if (connection != NULL && !connection->busy && connection->ready != NULL)
        connection->ready(connection->arg);
}

/* The connection looks at it again, not from inside of what runs now. */
void call_tell(struct grpc_call *call) {
    if (call->connection != NULL && !list_linked(&call->tell_node))
        list_push_back(&call->connection->tell, &call->tell_node);
}

/* ---- in ---- */

static void give_window(struct grpc_call *call, size_t bytes) {
    bytes = min_u64(bytes, call->held);
    call->held -= bytes;
    if (call->connection != NULL)
        http2_consume(&call->connection->http2, &call->stream, bytes);
}

void call_discard(struct grpc_call *call) {
    call->discards = true;
    call->request_until_ns = UINT64_MAX;
    grpc_buffer_fini(&call->in);
    give_window(call, call->held);
}

static void fault(struct grpc_call *call, enum grpc_status status, const char *text) {
    if (call->client)
        client_finish(call, status, text);
    else
        server_fail(call, status, text);
}

void call_receive(struct grpc_call *call, const uint8_t *bytes, size_t length) {
    call->held += length;
    if (call->discards) {
        give_window(call, length);
        return;
    }
    uint8_t *to = grpc_buffer_reserve(&call->in, length);
    if (to == NULL) {
        fault(call, GRPC_RESOURCE_EXHAUSTED, "this connection, or all together, hold too much at once");
        return;
    }
    memcpy(to, bytes, length);
    grpc_buffer_added(&call->in, length);
    (void)call_parse(call);
}

/* True once the next message's length is known. False: not yet, or the call has been ended for it. */
static bool take_prefix(struct grpc_call *call) {
    if (call->has_prefix)
        return true;
    if (grpc_buffer_length(&call->in) < PREFIX_BYTES)
        return false;
    const uint8_t *prefix = call->in.bytes + call->in.begin;
    uint8_t flags = prefix[0];
    call->message_length = get_be32(prefix + 1);
    if (flags == 1)
        fault(call, call->client ? GRPC_INTERNAL : GRPC_UNIMPLEMENTED, "compressed messages are not understood here");
    else if (flags != 0)
        fault(call, GRPC_INTERNAL, "a message has unknown flags");
    else if (call->connection != NULL && call->message_length > call->connection->limits.message_bytes)
        fault(call, GRPC_RESOURCE_EXHAUSTED, "a message is too large");
    else {
        grpc_buffer_take(&call->in, PREFIX_BYTES);
        give_window(call, PREFIX_BYTES);
        call->has_prefix = true;
        return true;
    }
    return false;
}

static bool is_held_back(const struct grpc_call *call) {
    return call->paused || call->discards || (!call->client && call->above_mark);
}

/* One request and nothing behind it. */
static void parse_single(struct grpc_call *call) {
    if (!take_prefix(call))
        return;
    if (grpc_buffer_length(&call->in) > call->message_length)
        server_fail(call, GRPC_INTERNAL, "more than one request");
    else
        give_window(call, call->held);
}

bool call_parse(struct grpc_call *call) {
    if (!call->client && call->kind != GRPC_BIDIRECTIONAL)
        return call->discards || CALL_GUARDED(call, parse_single(call));
    while (!is_held_back(call)) {
        bool had = call->has_prefix;
        if (!CALL_GUARDED(call, had = take_prefix(call)))
            return false;
        if (!had || call->discards)
            break;
        size_t length = grpc_buffer_length(&call->in);
        if (length < call->message_length) {
            give_window(call, call->held); /* the message's own bytes are always wanted */
            break;
        }
        /* The callback may take more from the peer's view, but not from this buffer. */
        const uint8_t *bytes = call->in.bytes + call->in.begin;
        size_t message_length = call->message_length;
        call->has_prefix = false;
        if (!CALL_GUARDED(call, call->client ? client_message(call, bytes, message_length)
                                             : server_message(call, bytes, message_length)))
            return false;
        if (call->discards)
            break;
        grpc_buffer_take(&call->in, message_length);
        give_window(call, message_length);
    }
    if (!call->client && !call->discards) {
        /* A message that has begun must end; between messages a stream may rest for ever. */
        bool begun = call->has_prefix || grpc_buffer_length(&call->in) > 0;
        if (!begun || is_held_back(call))
            call->request_until_ns = UINT64_MAX;
        else if (call->request_until_ns == UINT64_MAX && call->connection != NULL) {
            call->request_until_ns = call->connection->now_ns + call->connection->limits.request_ns;
            call_due(call, call->request_until_ns);
        }
    }
    return true;
}

void grpc_call_pause(struct grpc_call *call) { call->paused = true; }

void grpc_call_resume(struct grpc_call *call) {
    if (!call->paused)
        return;
    call->paused = false;
    if (call->connection == NULL)
        return;
    call_tell(call);
    call_ready(call);
}

/* ---- out ---- */

static void watch_stall(struct grpc_call *call) {
    struct grpc_connection *connection = call->connection;
    if (call->client || connection == NULL || call->stall_at_ns != UINT64_MAX)
        return;
    call->stall_at_ns = connection->now_ns + connection->limits.stall_ns;
    call->stall_sent = call->sent_bytes;
    call->stall_waiting = grpc_buffer_length(&call->out);
    call_due(call, call->stall_at_ns);
}

static const struct http2_field answer_fields[] = {HTTP2_FIELD(":status", "200"),
                                                   HTTP2_FIELD("content-type", "application/grpc")};

/* A server's headers go with its first message, so that an early fault is an answer of one frame. */
static bool answer(struct grpc_call *call) {
    if (call->client || call->answered)
        return true;
    call->answered = true;
    return http2_respond(&call->stream, answer_fields, array_count(answer_fields), false);
}

bool grpc_call_send(struct grpc_call *call, const ProtobufCMessage *message) {
    struct grpc_connection *connection = call->connection;
    const struct grpc_limits *limits = connection != NULL ? &connection->limits : &grpc_limits_default;
    if (call->ended || call->broken != NULL || (connection == NULL && !call->client))
        return false;
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *to = NULL;
    const char *why = NULL;
    if (length > limits->message_bytes)
        why = "a message is too large to be sent";
    else if (grpc_buffer_length(&call->out) > limits->send_bytes)
        why = "the peer reads too slowly";
    else if ((to = grpc_buffer_reserve(&call->out, PREFIX_BYTES + length)) == NULL)
        why = "this connection, or all together, hold too much at once";
    else if (connection != NULL && !answer(call))
        why = "no memory for an answer";
    if (why != NULL) { /* its owner hears of it, but not from inside */
        call->broken = why;
        call_tell(call);
        call_ready(call);
        return false;
    }
    to[0] = 0;
    put_be32(to + 1, (uint32_t)length);
    protobuf_c_message_pack(message, to + PREFIX_BYTES);
    grpc_buffer_added(&call->out, PREFIX_BYTES + length);
    watch_stall(call);
    http2_resume(&call->stream);
    call_ready(call);
    call->above_mark = grpc_buffer_length(&call->out) > limits->send_mark;
    return !call->above_mark;
}

enum http2_read call_read(struct http2_stream *stream, uint8_t *to, size_t size, size_t *ret_length) {
    struct grpc_call *call = call_of(stream);
    size_t length = min_u64(size, grpc_buffer_length(&call->out));
    memcpy(to, call->out.bytes + call->out.begin, length);
    grpc_buffer_take(&call->out, length);
    call->sent_bytes += length;
    *ret_length = length;
    size_t left = grpc_buffer_length(&call->out);
    if (left == 0)
        call->stall_at_ns = UINT64_MAX;
    if (call->above_mark && left <= call->connection->limits.send_mark / 2) {
        call->above_mark = false;
        call_tell(call);
    }
    if (left > 0)
        return HTTP2_READ_MORE;
    if (!call->ended)
        return HTTP2_READ_WAIT;
    if (call->client)
        return HTTP2_READ_END;
    server_trailers(call);
    return HTTP2_READ_TRAILERS;
}
