/* One HTTP/2 connection (RFC 9113) without its socket, either end, on nghttp2: bytes in, bytes out, streams up. It bounds what a
 * peer can make it keep (memory, queued frames) and do (resets, frames that carry nothing); docs/grpc.md says what at which
 * limit. The time comes in with the calls.
 *
 * Calling context: one owner. The handler's functions are called from inside http2_input() and http2_output(); they may submit on
 * the connection, and must not feed it, ask it for output or finish it. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/budget.h"

struct http2_connection;

struct http2_limits {
    uint32_t streams;                        /* of the peer, at once */
    uint32_t header_bytes;                   /* of one list, name + value + 32 a field; eight times as much ends the connection */
    uint32_t stream_window;                  /* bytes that a peer may send ahead on a stream */
    uint32_t connection_window;              /* the same for all streams together */
    size_t memory_bytes;                     /* that nghttp2 may have for this connection */
    uint32_t queued_frames;                  /* of ours, DATA aside, that wait to be sent */
    uint32_t idle_frames, idle_frames_per_s; /* of the peer that bring nothing on: in stock, and gained a second */
    uint32_t resets, resets_per_s;           /* streams that end by an error: the same */
};

struct http2_bucket {
    uint64_t tokens_ns; /* tokens, each as the nanoseconds that it takes to gain one */
    uint64_t at_ns;
};

/* One stream, inside its owner's object. */
struct http2_stream {
    struct http2_connection *connection; /* NULL before it begins and after `closed` */
    int32_t id;
    bool headers_over; /* the list is over the limit: the rest of it was not shown */
    bool peer_ended;   /* the peer has sent all */
    bool ended;        /* we have */
    bool waits;        /* `read` said WAIT */
};

struct http2_field {
    const char *name, *value; /* lower-case name */
    size_t name_length, value_length;
};
/* Of literals. */
#define HTTP2_FIELD(name_, value_) ((struct http2_field){name_, value_, sizeof(name_) - 1, sizeof(value_) - 1})

enum http2_read {
    HTTP2_READ_MORE,     /* call again when there is room */
    HTTP2_READ_WAIT,     /* nothing left now: http2_resume() tells */
    HTTP2_READ_END,      /* these are the last bytes */
    HTTP2_READ_TRAILERS, /* the same, and `read` has called http2_trailers() */
};

struct http2_handler {
    /* A server: the peer opens a stream. NULL refuses it. */
    struct http2_stream *(*open)(struct http2_connection *connection);
    /* One field of the list that is coming in; names are lower-case. Not called for those over the limit. */
    void (*header)(struct http2_stream *stream, const char *name, size_t name_length, const char *value, size_t value_length);
    /* The list is whole (look at headers_over). trailers: it follows data, or is the only one of an answer that ends with it. */
    void (*headers)(struct http2_stream *stream);
    /* Payload; http2_consume() gives the window back. */
    void (*data)(struct http2_stream *stream, const uint8_t *bytes, size_t length);
    /* The peer has sent all: after `headers` or `data`. */
    void (*end)(struct http2_stream *stream);
    /* Fills up to `size` bytes for the peer. */
    enum http2_read (*read)(struct http2_stream *stream, uint8_t *to, size_t size, size_t *ret_length);
    /* The stream is no more; the last call about it. 0 or an HTTP/2 error code. */
    void (*closed)(struct http2_stream *stream, uint32_t code);
    void (*pong)(struct http2_connection *connection);
    /* The peer takes no new streams. */
    void (*goaway)(struct http2_connection *connection, uint32_t code);
};

struct http2_connection {
    nghttp2_session *session;
    const struct http2_handler *handler;
    struct http2_limits limits;
    struct budget memory;               /* nghttp2's */
    struct http2_bucket idle, resets;   /* what the peer may still do */
    struct http2_stream *header_stream; /* whose list is coming in; NULL: of none that is known */
    uint32_t header_bytes;              /* of that list */
    uint64_t now_ns;                    /* of the call under way */
    uint64_t frames;                    /* whole frames received */
    const uint8_t *chunk;               /* of nghttp2's output, not yet copied out */
    size_t chunk_length;
    bool server;
    bool established; /* the peer's SETTINGS have come */
    bool peer_goaway; /* the peer takes no new streams */
    bool failed;      /* send what output gives, then close */
    const char *why;  /* failed: a reason for logs; static text */
};

/* False if there is no memory. `limits` are copied. `handler` stays. SETTINGS wait in the output at once. */
bool http2_init(struct http2_connection *connection, bool server, const struct http2_limits *limits,
                const struct http2_handler *handler, uint64_t now_ns);
/* Frees. The owner's streams are let go of without a word. Also after a failed init. */
void http2_fini(struct http2_connection *connection);

/* Takes bytes from the peer, all of them. False: the connection has failed (why). */
bool http2_input(struct http2_connection *connection, const void *bytes, size_t length, uint64_t now_ns);
/* Writes what is to be sent, up to `size`; returns how much, 0 = nothing now. */
size_t http2_output(struct http2_connection *connection, void *to, size_t size, uint64_t now_ns);
/* True when nothing can come any more and all is sent. */
bool http2_is_over(const struct http2_connection *connection);

/* A client opens a stream; the fields are copied. end: nothing follows, else `read` is asked. False: no memory, GOAWAY, or the
 * stream numbers are used up: a new connection is needed. */
bool http2_request(struct http2_connection *connection, struct http2_stream *stream, const struct http2_field *fields,
                   size_t count, bool end);
/* A server answers; as above. */
bool http2_respond(struct http2_stream *stream, const struct http2_field *fields, size_t count, bool end);
/* From inside `read`, which then returns HTTP2_READ_TRAILERS. */
bool http2_trailers(struct http2_stream *stream, const struct http2_field *fields, size_t count);
/* `read` said WAIT and has something now. Harmless otherwise. */
void http2_resume(struct http2_stream *stream);
/* Ends a stream from our side and lets go of it: `closed` is not called. Not counted as an early end. Harmless on a closed one.
 */
void http2_reset(struct http2_stream *stream, uint32_t code);
/* The bytes of `data` are dealt with: the peer may send as many more. Also after the stream is closed, by its connection. */
void http2_consume(struct http2_connection *connection, struct http2_stream *stream, size_t bytes);
void http2_ping(struct http2_connection *connection);
/* GOAWAY that admits all streams still under way (a server's first), then the one that names the last. */
void http2_drain_notice(struct http2_connection *connection);
void http2_drain(struct http2_connection *connection);
/* Ends the connection with GOAWAY. `why` is static. */
void http2_fail(struct http2_connection *connection, uint32_t code, const char *why);
