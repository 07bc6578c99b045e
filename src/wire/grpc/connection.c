/* The connection: joins calls to http2, and looks at the clock. */
#include "wire/grpc/internal.h"

#include <stdio.h>

/* ---- http2's events ---- */

static void on_header(struct http2_stream *stream, const char *name, size_t name_length, const char *value, size_t value_length) {
    struct grpc_call *call = call_of(stream);
    if (call->client)
        client_header(call, name, name_length, value, value_length);
    else
        server_header(call, name, name_length, value, value_length);
}

static void on_headers(struct http2_stream *stream) {
    struct grpc_call *call = call_of(stream);
    if (call->client)
        client_headers(call);
    else
        server_headers(call);
}

static void on_data(struct http2_stream *stream, const uint8_t *bytes, size_t length) {
    call_receive(call_of(stream), bytes, length);
}

static void on_end(struct http2_stream *stream) {
    struct grpc_call *call = call_of(stream);
    if (call->client)
        client_end(call);
    else
        server_end(call);
}

static void on_closed(struct http2_stream *stream, uint32_t code) {
    struct grpc_call *call = call_of(stream);
    if (call->client)
        client_closed(call, code);
    else
        server_closed(call);
}

static void on_pong(struct http2_connection *http2) {
    struct grpc_connection *connection = container_of(http2, struct grpc_connection, http2);
    if (connection->draining && !connection->drained && connection->core != NULL) {
        connection->drained = true;
        http2_drain(http2);
    }
}

static void on_goaway(struct http2_connection *http2, uint32_t code) { (void)http2, (void)code; }

static const struct http2_handler handler = {.open = server_open,
                                             .header = on_header,
                                             .headers = on_headers,
                                             .data = on_data,
                                             .end = on_end,
                                             .read = call_read,
                                             .closed = on_closed,
                                             .pong = on_pong,
                                             .goaway = on_goaway};

/* ---- life ---- */

bool grpc_connection_init(struct grpc_connection *connection, const struct grpc_connection_options *options, uint64_t now_ns) {
    *connection = (struct grpc_connection){.core = options->core,
                                           .limits = *options->limits,
                                           .secure = options->secure,
                                           .ready = options->ready,
                                           .arg = options->arg,
                                           .now_ns = now_ns,
                                           .began_ns = now_ns,
                                           .frame_ns = now_ns,
                                           .next_call_ns = UINT64_MAX};
    list_init(&connection->calls);
    list_init(&connection->tell);
    budget_init(&connection->memory, options->core != NULL ? &options->core->memory : NULL, options->limits->connection_bytes);
    if (options->authority != NULL)
        snprintf(connection->authority, sizeof(connection->authority), "%s", options->authority);
    if (http2_init(&connection->http2, options->core != NULL, &options->limits->http2, &handler, now_ns))
        return true;
    http2_fini(&connection->http2);
    return false;
}

void grpc_connection_fini(struct grpc_connection *connection, const char *why) {
    if (why == NULL)
        why = grpc_connection_why(connection);
    connection->busy = true; /* nothing goes out any more */
    while (!list_empty(&connection->calls)) {
        struct grpc_call *call = container_of(list_first(&connection->calls), struct grpc_call, node);
        call->stream.connection = NULL;
        if (call->client)
            client_finish(call, GRPC_UNAVAILABLE, why);
        else
            server_orphan(call);
    }
    http2_fini(&connection->http2);
    assert(connection->memory.used == 0);
}

/* ---- bytes ---- */

/* Calls that something changed for from outside of their own events. */
static void run_told(struct grpc_connection *connection) {
    struct list told;
    list_init(&told);
    list_splice_back(&told, &connection->tell); /* what comes while they run has the next turn */
    for (struct list_node *node; (node = list_pop_front(&told)) != NULL;) {
        struct grpc_call *call = container_of(node, struct grpc_call, tell_node);
        if (call->broken != NULL && call->client) {
            client_finish(call, GRPC_RESOURCE_EXHAUSTED, call->broken);
            continue;
        }
        if (call->broken != NULL && !call->ended) {
            server_lose(call, GRPC_RESOURCE_EXHAUSTED, call->broken);
            continue;
        }
        if (!call_parse(call))
            continue;
        if (call->stream.peer_ended && call->client)
            client_end(call);
        else if (call->stream.peer_ended && !CALL_GUARDED(call, server_end(call)))
            continue;
        else if (!call->client && call->kind != GRPC_BIDIRECTIONAL && call->owned == false)
            continue;
        else if (call->writable != NULL && !call->above_mark && !call->told && call->connection != NULL)
            call->writable(call);
    }
}

bool grpc_connection_input(struct grpc_connection *connection, const void *bytes, size_t length, uint64_t now_ns) {
    connection->now_ns = now_ns;
    connection->busy = true;
    bool ok = http2_input(&connection->http2, bytes, length, now_ns);
    if (connection->frames != connection->http2.frames) {
        connection->frames = connection->http2.frames;
        connection->frame_ns = now_ns;
        connection->ping_ns = 0;
    }
    run_told(connection);
    connection->busy = false;
    return ok && !connection->http2.failed;
}

size_t grpc_connection_output(struct grpc_connection *connection, void *to, size_t size, uint64_t now_ns) {
    connection->now_ns = now_ns;
    connection->busy = true;
    size_t used = 0;
    do {
        if (!list_empty(&connection->tell))
            run_told(connection);
        used += http2_output(&connection->http2, (char *)to + used, size - used, now_ns);
    } while (used < size && !list_empty(&connection->tell));
    connection->busy = false;
    return used;
}

bool grpc_connection_is_over(const struct grpc_connection *connection) {
    if (connection->http2.failed || http2_is_over(&connection->http2))
        return true;
    bool ends = connection->core != NULL ? connection->drained : connection->draining || connection->http2.peer_goaway;
    return ends && connection->call_count == 0;
}

/* ---- time ---- */

/* Something of the call's is due. It may go. */
static void call_expire(struct grpc_call *call) {
    const struct grpc_limits *limits = &call->connection->limits;
    uint64_t now_ns = call->connection->now_ns;
    if (call->client) {
        if (now_ns >= call->deadline_ns)
            client_finish(call, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
    } else if (now_ns >= call->stall_at_ns) {
        size_t due = min_u64(call->stall_waiting, limits->stall_bytes);
        if (call->sent_bytes - call->stall_sent < due) {
            server_lose(call, GRPC_RESOURCE_EXHAUSTED, "the peer reads too slowly");
            return;
        }
        call->stall_at_ns = now_ns + limits->stall_ns;
        call->stall_sent = call->sent_bytes;
        call->stall_waiting = grpc_buffer_length(&call->out);
    } else if (now_ns >= call->deadline_ns) {
        call->deadline_ns = UINT64_MAX;
        server_lose(call, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
    } else if (now_ns >= call->request_until_ns) {
        server_lose(call, GRPC_DEADLINE_EXCEEDED, "the request did not become whole in time");
    }
}

static uint64_t call_next_ns(const struct grpc_call *call) {
    return min_u64(call->deadline_ns, min_u64(call->request_until_ns, call->stall_at_ns));
}

static void tick_calls(struct grpc_connection *connection) {
    uint64_t now_ns = connection->now_ns;
    if (now_ns < connection->next_call_ns)
        return;
    connection->next_call_ns = UINT64_MAX;
    /* A callback may make any call go: those that are due leave the list for as long as they wait for their turn. */
    struct list due;
    list_init(&due);
    list_for_each_safe (&connection->calls, struct grpc_call, call, node) {
        if (call_next_ns(call) <= now_ns) {
            list_remove(&call->node);
            list_push_back(&due, &call->node);
        } else {
            call_due(call, call_next_ns(call));
        }
    }
    while (!list_empty(&due)) {
        struct list_node *node = list_first(&due);
        struct grpc_call *call = container_of(node, struct grpc_call, node);
        list_remove(node);
        list_push_back(&connection->calls, node);
        if (CALL_GUARDED(call, call_expire(call)) && call->connection == connection)
            call_due(call, call_next_ns(call));
    }
}

static bool tick_keepalive(struct grpc_connection *connection, uint64_t *next_ns) {
    const struct grpc_limits *limits = &connection->limits;
    uint64_t now_ns = connection->now_ns;
    if (connection->core == NULL && connection->call_count == 0)
        return true;
    if (connection->ping_ns != 0) {
        if (now_ns >= connection->ping_ns + limits->pong_ns)
            return false;
        *next_ns = min_u64(*next_ns, connection->ping_ns + limits->pong_ns);
    } else if (now_ns >= connection->frame_ns + limits->silence_ns) {
        connection->ping_ns = now_ns;
        http2_ping(&connection->http2);
        *next_ns = min_u64(*next_ns, now_ns + limits->pong_ns);
    } else {
        *next_ns = min_u64(*next_ns, connection->frame_ns + limits->silence_ns);
    }
    return true;
}

bool grpc_connection_tick(struct grpc_connection *connection, uint64_t now_ns, uint64_t *ret_next_ns) {
    uint64_t next_ns = UINT64_MAX;
    connection->now_ns = now_ns;
    if (connection->http2.failed)
        return false;
    connection->busy = true;
    tick_calls(connection);
    if (!connection->http2.established) {
        uint64_t until_ns = connection->began_ns + connection->limits.handshake_ns;
        if (now_ns >= until_ns)
            http2_fail(&connection->http2, NGHTTP2_SETTINGS_TIMEOUT, "no handshake in time");
        next_ns = until_ns;
    } else if (!tick_keepalive(connection, &next_ns)) {
        http2_fail(&connection->http2, NGHTTP2_NO_ERROR, "the peer is silent");
    }
    if (connection->draining && !connection->drained && connection->core != NULL) {
        uint64_t until_ns = connection->drain_ns + GRPC_DRAIN_PING_MS * NS_PER_MS;
        if (now_ns >= until_ns)
            on_pong(&connection->http2);
        else
            next_ns = min_u64(next_ns, until_ns);
    }
    run_told(connection);
    connection->busy = false;
    *ret_next_ns = min_u64(next_ns, connection->next_call_ns);
    return !connection->http2.failed;
}

void grpc_connection_drain(struct grpc_connection *connection) {
    if (connection->draining)
        return;
    connection->draining = true;
    connection->drain_ns = connection->now_ns;
    if (connection->core == NULL)
        return;
    http2_drain_notice(&connection->http2);
    http2_ping(&connection->http2);
    if (!connection->busy && connection->ready != NULL)
        connection->ready(connection->arg);
}

void grpc_connection_end_calls(struct grpc_connection *connection, const char *text) {
    struct list calls;
    list_init(&calls);
    list_splice_back(&calls, &connection->calls);
    while (!list_empty(&calls)) {
        struct list_node *node = list_first(&calls);
        struct grpc_call *call = container_of(node, struct grpc_call, node);
        list_remove(node);
        list_push_back(&connection->calls, node);
        if (call->client)
            client_finish(call, GRPC_UNAVAILABLE, text);
        else
            server_fail(call, GRPC_UNAVAILABLE, text); /* after what waits, as far as the peer takes it */
    }
}
