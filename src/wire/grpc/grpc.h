/* gRPC calls on one HTTP/2 connection, either end, without its socket. docs/grpc.md: the states of a call, who owns it when, and
 * what each limit does.
 *
 * Calling context: one owner, one reactor. The functions of a call may be called from inside its callbacks and outside. Callbacks
 * come from inside grpc_connection_input(), _output(), _tick() and _fini(), which must not be called from inside one. */
#pragma once

#include "base/error.h"
#include "base/hash_map.h"
#include "base/list.h"
#include "wire/grpc/buffer.h"
#include "wire/grpc/codec.h"
#include "wire/grpc/limits.h"
#include "wire/grpc/message.h"

struct grpc_call;
struct grpc_connection;

/* ---- what a server offers ---- */

enum grpc_kind { GRPC_UNARY, GRPC_SERVER_STREAM, GRPC_BIDIRECTIONAL };

struct grpc_method {
    const char *name;
    enum grpc_kind kind;
    const ProtobufCMessageDescriptor *request, *response;
    /* The handler: owns the call from here until grpc_call_reply() or grpc_call_end(), which may be called inside or later. The
     * request lives as long. Bidirectional: comes with the headers, request is NULL, and call->message is to be set. */
    void (*start)(struct grpc_call *call, const ProtobufCMessage *request);
};

struct grpc_service {
    const char *name; /* with its package */
    const struct grpc_method *methods;
    size_t method_count;
};

/* A method under its path, "/package.Service/Method". */
struct grpc_path {
    struct hash_node node;
    const struct grpc_service *service;
    const struct grpc_method *method;
    void *service_arg;
    size_t length;
    char path[];
};

/* What the connections of one server share. */
struct grpc_core {
    struct hash_map paths;
    struct budget memory;          /* of all calls */
    uint32_t lost_calls, lost_max; /* owned by handlers, without a connection */
    uint64_t calls_started;        /* statistics */
};

void grpc_core_init(struct grpc_core *core, size_t memory_bytes, uint32_t lost_max);
/* No call is left. */
void grpc_core_fini(struct grpc_core *core);
/* `service` stays; service_arg comes to its handlers as call->service_arg. False if there is no memory; a path twice is a bug. */
bool grpc_core_add(struct grpc_core *core, const struct grpc_service *service, void *service_arg);

/* ---- calls ---- */

/* A server's is allocated for its handler, a client's is the caller's memory. Members above the line are set by the owner. */
struct grpc_call {
    void *arg;                                                            /* the owner's */
    void (*message)(struct grpc_call *call, const ProtobufCMessage *got); /* valid inside; client, bidirectional handler */
    void (*half_closed)(struct grpc_call *call);                          /* bidirectional handler: the client has sent all */
    void (*writable)(struct grpc_call *call);                             /* below the mark again */
    void (*cancelled)(struct grpc_call *call);                            /* handler: lost; end it soon */
    void (*done)(struct grpc_call *call);                                 /* client: over, see status; the last callback */
    /* ---- */
    struct grpc_connection *connection; /* NULL: lost, or not yet begun */
    const struct grpc_method *method;   /* server */
    void *service_arg;                  /* server */
    const ProtobufCMessageDescriptor *receives;
    enum grpc_kind kind;
    enum grpc_status status;
    bool unprocessed; /* client: failed, and the server certainly has not seen it */
    /* the machine's own */
    struct list_node node;      /* of the connection's */
    struct list_node tell_node; /* of those to be told that they are writable */
    struct http2_stream stream;
    bool *gone;         /* set when the call goes while a callback of it runs */
    const char *broken; /* a message could not be sent: what to end the call with */
    struct grpc_core *core;
    bool owned, told, ended, answered, discards, paused, half_closed_told, above_mark, client;
    bool post, content_ok, timeout_bad, encoding_bad, has_status;
    unsigned http_status;
    uint64_t deadline_ns, request_until_ns, stall_at_ns, stall_sent, sent_bytes;
    size_t stall_waiting, held, message_length;
    bool has_prefix;
    bool single; /* client: has had a message */
    struct budget *budget;
    char text[GRPC_LIMIT_TEXT]; /* of the status, UTF-8 */
    struct grpc_arena arena;
    struct grpc_buffer in, out;
};

/* Packs and queues a message. False: so much waits now that the owner should go on at `writable`; or the call is over. A call
 * that goes on beyond the limit, or a message above it, ends with RESOURCE_EXHAUSTED. */
bool grpc_call_send(struct grpc_call *call, const ProtobufCMessage *message);
/* Handler: ends the call, which is no more the handler's. `text` may be NULL. */
void grpc_call_end(struct grpc_call *call, enum grpc_status status, const char *text);
void grpc_call_endf(struct grpc_call *call, enum grpc_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Handler: one message and OK. */
void grpc_call_reply(struct grpc_call *call, const ProtobufCMessage *message);
/* No `message` until resumed. */
void grpc_call_pause(struct grpc_call *call);
void grpc_call_resume(struct grpc_call *call);

struct grpc_metadata {
    const char *name; /* lower-case, not ending in "-bin" */
    const char *value;
};

struct grpc_call_options {
    enum grpc_kind kind;
    const ProtobufCMessageDescriptor *receives;
    uint64_t deadline_ns;  /* of the connection's clock; UINT64_MAX = none */
    struct budget *budget; /* pays for its buffers */
};

/* Client: makes a call that messages can be sent on; nothing goes out before grpc_call_start(). The callbacks are set after it.
 */
void grpc_call_init(struct grpc_call *call, const struct grpc_call_options *options);
/* False: the connection takes no more calls (GOAWAY, stream numbers used up, no memory); the call is as before. */
bool grpc_call_start(struct grpc_connection *connection, struct grpc_call *call, const char *path,
                     const struct grpc_metadata *metadata, size_t metadata_count);
/* Client, bidirectional: there will be no more messages. Others say so with their first message. */
void grpc_call_send_end(struct grpc_call *call);
/* Client: lets go of the call, telling the server; `done` does not come. Also before the start, or instead of it. */
void grpc_call_cancel(struct grpc_call *call);
/* Client: the call cannot begin: `done` with that status, from inside. */
void grpc_call_fail(struct grpc_call *call, enum grpc_status status, const char *text);

/* ---- connections ---- */

struct grpc_connection_options {
    struct grpc_core *core;           /* a server's; NULL makes a client */
    const struct grpc_limits *limits; /* copied */
    const char *authority;            /* client: host:port, copied */
    bool secure;                      /* client: what it calls the scheme */
    void (*ready)(void *arg);         /* there is something to put out, from outside of input and output */
    void *arg;
};

struct grpc_connection {
    struct http2_connection http2;
    struct grpc_limits limits;
    struct grpc_core *core;
    struct budget memory; /* of a server's calls; parent is the core's */
    struct list calls, tell;
    uint32_t call_count;
    uint64_t now_ns; /* of the last call that brought it */
    uint64_t began_ns;
    uint64_t frames; /* of http2, when they last changed: at frame_ns */
    uint64_t frame_ns;
    uint64_t ping_ns;       /* PING is out since; 0 = none */
    uint64_t drain_ns;      /* the first GOAWAY is out since; 0 = none */
    uint64_t next_call_ns;  /* no call has anything due before */
    bool busy;              /* inside input or output: they look for more to do themselves */
    bool draining, drained; /* the first GOAWAY, the second */
    bool secure;
    char authority[128];
    void (*ready)(void *arg);
    void *arg;
};

bool grpc_connection_init(struct grpc_connection *connection, const struct grpc_connection_options *options, uint64_t now_ns);
/* Calls that are left are lost (server) or end with UNAVAILABLE (client); `why` as their text, NULL = the connection's own. */
void grpc_connection_fini(struct grpc_connection *connection, const char *why);
/* Takes all bytes. False: it has failed: send what output gives and close. */
bool grpc_connection_input(struct grpc_connection *connection, const void *bytes, size_t length, uint64_t now_ns);
/* As http2_output(). */
size_t grpc_connection_output(struct grpc_connection *connection, void *to, size_t size, uint64_t now_ns);
/* Does what is due, and gives the time when it wants to be called again at the latest (also after input and output). False: as
 * for input. */
bool grpc_connection_tick(struct grpc_connection *connection, uint64_t now_ns, uint64_t *ret_next_ns);
/* True when there is nothing left to do but to close, once output gives nothing more. */
bool grpc_connection_is_over(const struct grpc_connection *connection);
/* Client: may a call be started here? */
static inline bool grpc_connection_takes_calls(const struct grpc_connection *connection) {
    return !connection->http2.failed && !connection->http2.peer_goaway && !connection->draining;
}
/* Server: no new calls; is over when those under way have ended. */
void grpc_connection_drain(struct grpc_connection *connection);
/* Ends all calls with UNAVAILABLE, as far as they can still be answered. */
void grpc_connection_end_calls(struct grpc_connection *connection, const char *text);
static inline const char *grpc_connection_why(const struct grpc_connection *connection) {
    return connection->http2.why != NULL ? connection->http2.why : "the connection is closed";
}
