/* What the files of this folder share. Not for others. */
#pragma once

#include "wire/grpc/grpc.h"

static inline struct grpc_call *call_of(struct http2_stream *stream) { return container_of(stream, struct grpc_call, stream); }

/* ---- both roles (call.c) ---- */

/* Everything but the callbacks. */
void call_init(struct grpc_call *call, struct budget *budget);
/* The call leaves its connection, and gives back the window that it held. */
void call_detach(struct grpc_call *call);
/* Frees its buffers; a server's call is freed itself. */
void call_release(struct grpc_call *call);
/* Sets status and text once. */
void call_set_status(struct grpc_call *call, enum grpc_status status, const char *text, size_t length);
/* Bytes of the peer; then what they make. */
void call_receive(struct grpc_call *call, const uint8_t *bytes, size_t length);
/* Goes through what has come in. False: the call is gone. */
bool call_parse(struct grpc_call *call);
/* What comes in from now on is not looked at. */
void call_discard(struct grpc_call *call);
/* The next time something is due for the call falls on `at_ns` or before. */
void call_due(struct grpc_call *call, uint64_t at_ns);
/* The connection looks at the call again, not from inside of what runs now. */
void call_tell(struct grpc_call *call);
/* There is something to put out. */
void call_ready(struct grpc_call *call);
enum http2_read call_read(struct http2_stream *stream, uint8_t *to, size_t size, size_t *ret_length);
/* Calls a callback that may make the call go. False: it has gone. */
#define CALL_GUARDED(call, statement)                                                                                            \
    ({                                                                                                                           \
        bool gone_ = false, *outer_ = (call)->gone;                                                                              \
        (call)->gone = &gone_;                                                                                                   \
        statement;                                                                                                               \
        if (!gone_)                                                                                                              \
            (call)->gone = outer_;                                                                                               \
        else if (outer_ != NULL)                                                                                                 \
            *outer_ = true;                                                                                                      \
        !gone_;                                                                                                                  \
    })

/* ---- server (server.c) ---- */

struct http2_stream *server_open(struct http2_connection *http2);
void server_header(struct grpc_call *call, const char *name, size_t name_length, const char *value, size_t value_length);
void server_headers(struct grpc_call *call);
void server_end(struct grpc_call *call);
void server_closed(struct grpc_call *call);
/* The connection goes. */
void server_orphan(struct grpc_call *call);
/* Ends a call from our side, dropping what still waits to be sent; its handler hears of it. May free it. */
void server_lose(struct grpc_call *call, enum grpc_status status, const char *text);
/* A whole request, or a message of a stream. */
void server_message(struct grpc_call *call, const uint8_t *bytes, size_t length);
void server_trailers(struct grpc_call *call);
/* Answers with a fault of the request; its handler, if it has one, hears of it. */
void server_fail(struct grpc_call *call, enum grpc_status status, const char *text);

/* ---- client (client.c) ---- */

void client_header(struct grpc_call *call, const char *name, size_t name_length, const char *value, size_t value_length);
void client_headers(struct grpc_call *call);
void client_message(struct grpc_call *call, const uint8_t *bytes, size_t length);
/* The server has sent all, or the stream is gone with `code`: ends the call once its messages are delivered. */
void client_end(struct grpc_call *call);
void client_closed(struct grpc_call *call, uint32_t code);
/* Ends the call now. */
void client_finish(struct grpc_call *call, enum grpc_status status, const char *text);
