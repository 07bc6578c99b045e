#include "wire/http2/http2.h"

#include <stdalign.h>
#include <stdlib.h>

#define HEADER_FIELD_OVERHEAD 32 /* RFC 9113, 6.5.2 */
#define HEADERS_FATAL_FACTOR 8
/* nghttp2 counts each piece in which a CONTINUATION frame's 9-byte header arrives: this is eight frames, byte by byte. */
#define CONTINUATION_PIECES 72
#define FRAME_CREDIT 4         /* idle frames for each of ours that the peer asked for */
#define CREDIT_DATA_BYTES 1024 /* a DATA frame that leaves something behind gives credit from this size on */

/* ---- nghttp2's memory, counted ---- */

struct counted {
    size_t size;
    alignas(16) char bytes[];
};

static void *counted_malloc(size_t size, void *arg) {
    struct budget *budget = arg;
    if (size > budget->limit || !budget_take(budget, size + sizeof(struct counted)))
        return NULL;
    struct counted *block = malloc(size + sizeof(*block));
    if (block == NULL) {
        budget_give(budget, size + sizeof(*block));
        return NULL;
    }
    block->size = size;
    return block->bytes;
}

static void counted_free(void *pointer, void *arg) {
    if (pointer == NULL)
        return;
    struct counted *block = container_of(pointer, struct counted, bytes);
    budget_give(arg, block->size + sizeof(*block));
    free(block);
}

static void *counted_calloc(size_t count, size_t size, void *arg) {
    size_t total;
    void *pointer = __builtin_mul_overflow(count, size, &total) ? NULL : counted_malloc(total, arg);
    if (pointer != NULL)
        memset(pointer, 0, total);
    return pointer;
}

static void *counted_realloc(void *pointer, size_t size, void *arg) {
    void *moved = counted_malloc(size, arg);
    if (moved != NULL && pointer != NULL) {
        memcpy(moved, pointer, min_u64(size, container_of(pointer, struct counted, bytes)->size));
        counted_free(pointer, arg);
    }
    return moved;
}

/* ---- what a peer may do without bringing anything on ---- */

static void bucket_fill(struct http2_bucket *bucket, uint64_t now_ns, uint32_t stock, uint32_t per_s) {
    uint64_t token_ns = NS_PER_S / per_s;
    bucket->tokens_ns = min_u64(bucket->tokens_ns + (now_ns - min_u64(now_ns, bucket->at_ns)), stock * token_ns);
    bucket->at_ns = now_ns;
}

static bool bucket_take(struct http2_bucket *bucket, uint64_t now_ns, uint32_t stock, uint32_t per_s) {
    uint64_t token_ns = NS_PER_S / per_s;
    if (bucket->tokens_ns < token_ns)
        bucket_fill(bucket, now_ns, stock, per_s);
    if (bucket->tokens_ns < token_ns)
        return false;
    bucket->tokens_ns -= token_ns;
    return true;
}

static void credit(struct http2_connection *c, uint64_t most_frames) {
    uint64_t token_ns = NS_PER_S / c->limits.idle_frames_per_s;
    if (c->idle.tokens_ns < most_frames * token_ns)
        c->idle.tokens_ns = min_u64(c->idle.tokens_ns + FRAME_CREDIT * token_ns, most_frames * token_ns);
}

/* A new stream may bring its own WINDOW_UPDATE and the like long before it is answered, and a client may open all that it may
 * have before it sends any of them. Opening and dropping streams for the sake of this is what the resets are counted for. */
static void credit_stream(struct http2_connection *c) {
    credit(c, c->limits.idle_frames + (uint64_t)FRAME_CREDIT * c->limits.streams);
}

void http2_fail(struct http2_connection *c, uint32_t code, const char *why) {
    if (c->failed)
        return;
    c->failed = true;
    c->why = why;
    (void)nghttp2_session_terminate_session(c->session, code);
}

/* 0, or what ends nghttp2's run over the input. */
static int count_idle_frame(struct http2_connection *c) {
    if (bucket_take(&c->idle, c->now_ns, c->limits.idle_frames, c->limits.idle_frames_per_s))
        return 0;
    http2_fail(c, NGHTTP2_ENHANCE_YOUR_CALM, "too many frames that bring nothing on");
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int count_reset(struct http2_connection *c) {
    if (!c->server || bucket_take(&c->resets, c->now_ns, c->limits.resets, c->limits.resets_per_s))
        return 0;
    http2_fail(c, NGHTTP2_ENHANCE_YOUR_CALM, "too many streams that end early");
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* ---- nghttp2's callbacks ---- */

/* nghttp2 ignores these where priorities are switched off, and calls on_frame() where they are not. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *arg) {
    (void)session;
    return head->type == NGHTTP2_PRIORITY ? count_idle_frame(arg) : 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct http2_connection *c = arg;
    struct http2_stream *stream;
    c->header_bytes = 0;
    if (c->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        /* A peer that has said goodbye has no more to ask: without other streams nghttp2 would not even look at what comes. */
        stream = c->peer_goaway ? NULL : c->handler->open(c);
        c->header_stream = stream;
        if (stream == NULL) {
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
            return count_reset(c);
        }
        *stream = (struct http2_stream){.connection = c, .id = frame->hd.stream_id};
        credit_stream(c);
        return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    }
    stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    c->header_stream = stream;
    if (stream != NULL)
        stream->headers_over = false;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *arg) {
    struct http2_connection *c = arg;
    (void)session, (void)frame, (void)flags;
    /* nghttp2 lets no name or value be above 64 KiB. */
    c->header_bytes += (uint32_t)(name_length + value_length + HEADER_FIELD_OVERHEAD);
    if (c->header_bytes > c->limits.header_bytes * HEADERS_FATAL_FACTOR) {
        http2_fail(c, NGHTTP2_ENHANCE_YOUR_CALM, "a list of headers far above the limit");
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (c->header_stream == NULL)
        return 0;
    if (c->header_bytes > c->limits.header_bytes)
        c->header_stream->headers_over = true;
    else
        c->handler->header(c->header_stream, (const char *)name, name_length, (const char *)value, value_length);
    return 0;
}

static int headers_received(struct http2_connection *c, const nghttp2_frame *frame) {
    struct http2_stream *stream = c->header_stream;
    bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    c->header_stream = NULL;
    if (stream == NULL)
        return 0;
    stream->peer_ended = last;
    c->handler->headers(stream);
    if (last && nghttp2_session_get_stream_user_data(c->session, frame->hd.stream_id) == stream) /* else it was let go of */
        c->handler->end(stream);
    /* A further list that is not the last follows an informational answer, of which there may be any number. */
    return frame->headers.cat == NGHTTP2_HCAT_HEADERS && !last ? count_idle_frame(c) : 0;
}

static int data_received(struct http2_connection *c, const nghttp2_frame *frame) {
    bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct http2_stream *stream = last ? nghttp2_session_get_stream_user_data(c->session, frame->hd.stream_id) : NULL;
    if (stream != NULL) {
        stream->peer_ended = true;
        c->handler->end(stream);
    }
    return !last && frame->hd.length == frame->data.padlen ? count_idle_frame(c) : 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct http2_connection *c = arg;
    (void)session;
    c->frames++;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: return headers_received(c, frame);
    case NGHTTP2_DATA: return data_received(c, frame);
    case NGHTTP2_PRIORITY: return 0;   /* counted at its beginning */
    case NGHTTP2_RST_STREAM: return 0; /* counted when the stream closes */
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
            return 0;
        c->established = true;
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
            break;
        c->handler->pong(c);
        return 0;
    case NGHTTP2_GOAWAY:
        c->peer_goaway = true;
        c->handler->goaway(c, frame->goaway.error_code);
        break;
    default: break;
    }
    return count_idle_frame(c);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length, void *arg) {
    struct http2_connection *c = arg;
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    if (stream != NULL)
        c->handler->data(stream, bytes, length);
    else
        (void)nghttp2_session_consume(session, id, length);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg) {
    struct http2_connection *c = arg;
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (stream == NULL)
        return 0;
    bool early = !stream->ended;
    if (c->header_stream == stream)
        c->header_stream = NULL;
    stream->connection = NULL;
    c->handler->closed(stream, code);
    return early ? count_reset(c) : 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct http2_connection *c = arg;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        credit(c, c->limits.idle_frames);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    stream->ended = true;
    if (c->server && !stream->peer_ended) /* answered before the request was whole: the rest is not wanted */
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
                       nghttp2_data_source *source, void *arg) {
    struct http2_connection *c = arg;
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)source;
    if (stream == NULL) /* reset, and not yet seen to be */
        return NGHTTP2_ERR_DEFERRED;
    size_t length = 0;
    enum http2_read what = c->handler->read(stream, to, size, &length);
    if (length >= CREDIT_DATA_BYTES || (length > 0 && what != HTTP2_READ_MORE))
        credit(c, c->limits.idle_frames);
    stream->waits = what == HTTP2_READ_WAIT && length == 0;
    if (stream->waits)
        return NGHTTP2_ERR_DEFERRED;
    if (what == HTTP2_READ_END || what == HTTP2_READ_TRAILERS)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (what == HTTP2_READ_TRAILERS)
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)length;
}

/* ---- life ---- */

static bool session_create(struct http2_connection *c) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_mem memory = {&c->memory, counted_malloc, counted_free, counted_calloc, counted_realloc};
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return false;
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    int status = nghttp2_option_new(&option);
    if (status == 0) {
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        /* Its own count of resets reads the system's clock; ours does the work. */
        nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, 1);
        nghttp2_option_set_max_continuations(option, CONTINUATION_PIECES);
        status = c->server ? nghttp2_session_server_new3(&c->session, callbacks, c, option, &memory)
                           : nghttp2_session_client_new3(&c->session, callbacks, c, option, &memory);
        nghttp2_option_del(option);
    }
    nghttp2_session_callbacks_del(callbacks);
    return status == 0;
}

bool http2_init(struct http2_connection *c, bool server, const struct http2_limits *limits, const struct http2_handler *handler,
                uint64_t now_ns) {
    *c = (struct http2_connection){.server = server, .limits = *limits, .handler = handler, .now_ns = now_ns};
    c->idle = (struct http2_bucket){limits->idle_frames * (NS_PER_S / limits->idle_frames_per_s), now_ns};
    c->resets = (struct http2_bucket){limits->resets * (NS_PER_S / limits->resets_per_s), now_ns};
    budget_init(&c->memory, NULL, limits->memory_bytes);
    if (!session_create(c))
        return false;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, server ? limits->streams : 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits->header_bytes},
        {server ? NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES : NGHTTP2_SETTINGS_ENABLE_PUSH, server ? 1 : 0},
    };
    return nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, array_count(settings)) == 0 &&
           nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, (int32_t)limits->connection_window) == 0;
}

void http2_fini(struct http2_connection *c) {
    nghttp2_session_del(c->session);
    c->session = NULL;
    assert(c->memory.used == 0);
}

/* ---- bytes ---- */

static const char *why_of(ssize_t error) {
    switch (error) {
    case NGHTTP2_ERR_NOMEM: return "no memory for it";
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC: return "not HTTP/2";
    case NGHTTP2_ERR_FLOODED: return "too many frames that want an answer";
    default: return "HTTP/2 is broken off";
    }
}

bool http2_input(struct http2_connection *c, const void *bytes, size_t length, uint64_t now_ns) {
    c->now_ns = now_ns;
    if (c->failed)
        return false;
    ssize_t n = nghttp2_session_mem_recv(c->session, bytes, length);
    if (n < 0 && !c->failed) {
        c->failed = true;
        c->why = why_of(n);
    }
    if (!c->failed && nghttp2_session_get_outbound_queue_size(c->session) > c->limits.queued_frames)
        http2_fail(c, NGHTTP2_ENHANCE_YOUR_CALM, "too many frames of ours wait for the peer to read");
    return !c->failed;
}

size_t http2_output(struct http2_connection *c, void *to, size_t size, uint64_t now_ns) {
    size_t used = 0;
    c->now_ns = now_ns;
    while (used < size) {
        if (c->chunk_length == 0) {
            ssize_t n = nghttp2_session_mem_send(c->session, &c->chunk);
            if (n < 0 && !c->failed) {
                c->failed = true;
                c->why = why_of(n);
            }
            if (n <= 0)
                break;
            c->chunk_length = (size_t)n;
        }
        size_t length = min_u64(c->chunk_length, size - used);
        memcpy((char *)to + used, c->chunk, length);
        c->chunk += length;
        c->chunk_length -= length;
        used += length;
    }
    return used;
}

bool http2_is_over(const struct http2_connection *c) {
    return c->chunk_length == 0 && nghttp2_session_want_read(c->session) == 0 && nghttp2_session_want_write(c->session) == 0;
}

/* ---- streams ---- */

#define FIELDS_MAX 32

static size_t to_nghttp2(const struct http2_field *fields, size_t count, nghttp2_nv *to) {
    assert(count <= FIELDS_MAX);
    for (size_t i = 0; i < count; i++)
        to[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)fields[i].name, (uint8_t *)(uintptr_t)fields[i].value, fields[i].name_length,
                             fields[i].value_length, NGHTTP2_NV_FLAG_NONE};
    return count;
}

static const nghttp2_data_provider reader = {.read_callback = on_read};

bool http2_request(struct http2_connection *c, struct http2_stream *stream, const struct http2_field *fields, size_t count,
                   bool end) {
    nghttp2_nv copies[FIELDS_MAX];
    if (c->failed || c->peer_goaway)
        return false;
    int32_t id =
        nghttp2_submit_request(c->session, NULL, copies, to_nghttp2(fields, count, copies), end ? NULL : &reader, stream);
    if (id < 0)
        return false;
    *stream = (struct http2_stream){.connection = c, .id = id};
    return true;
}

bool http2_respond(struct http2_stream *stream, const struct http2_field *fields, size_t count, bool end) {
    nghttp2_nv copies[FIELDS_MAX];
    return nghttp2_submit_response(stream->connection->session, stream->id, copies, to_nghttp2(fields, count, copies),
                                   end ? NULL : &reader) == 0;
}

bool http2_trailers(struct http2_stream *stream, const struct http2_field *fields, size_t count) {
    nghttp2_nv copies[FIELDS_MAX];
    return nghttp2_submit_trailer(stream->connection->session, stream->id, copies, to_nghttp2(fields, count, copies)) == 0;
}

void http2_resume(struct http2_stream *stream) {
    if (stream->connection == NULL || !stream->waits)
        return;
    stream->waits = false;
    (void)nghttp2_session_resume_data(stream->connection->session, stream->id);
}

void http2_reset(struct http2_stream *stream, uint32_t code) {
    struct http2_connection *c = stream->connection;
    if (c == NULL)
        return;
    (void)nghttp2_session_set_stream_user_data(c->session, stream->id, NULL);
    if (!stream->ended || !stream->peer_ended)
        (void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, stream->id, code);
    if (c->header_stream == stream)
        c->header_stream = NULL;
    stream->connection = NULL;
}

void http2_consume(struct http2_connection *c, struct http2_stream *stream, size_t bytes) {
    if (bytes == 0)
        return;
    if (stream->connection != NULL)
        (void)nghttp2_session_consume(c->session, stream->id, bytes);
    else
        (void)nghttp2_session_consume_connection(c->session, bytes);
}

void http2_ping(struct http2_connection *c) { (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL); }
void http2_drain_notice(struct http2_connection *c) { (void)nghttp2_submit_shutdown_notice(c->session); }

void http2_drain(struct http2_connection *c) {
    (void)nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
}
