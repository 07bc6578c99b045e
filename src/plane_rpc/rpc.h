/* The JSON-RPC server over abstract byte streams: connections, calls, answers. Sans I/O: server.h joins it to sockets.
 *
 * A call is answered exactly once: at once or later, in any order. Its parameters and document stay valid until then and not
 * longer: a helper that answers (and returns NULL) takes them away. If its
 * connection goes, the operation goes on and the answer is dropped.
 *
 *     void method_x(struct rpc_call *call, const struct params_x *params) {
 *         if (!x_do(…, &error)) { rpc_call_fail(call, &error); return; }
 *         struct json_writer *writer = rpc_call_result(call);
 *         json_put_string(writer, RPC_RESULT, name);
 *         rpc_call_end(call);
 *     }
 *
 * Bounded: bytes, depth and values of a request, calls under way and bytes not yet sent of a connection (then it is not read),
 * size of an answer. Calling context: the control reactor.
 * Must not know: sockets, what methods do. */
#pragma once

#include "base/list.h"
#include "base/log.h"
#include "base/slice.h"
#include "plane_rpc/table.h"
#include "wire/jsonrpc/jsonrpc.h"

struct rpc_limits {
    struct json_limits json; /* of a request or batch */
    uint32_t calls_max;      /* under way, of a connection; also requests of a batch */
    size_t output_pause;     /* bytes not yet sent: from here on a connection is not read */
    size_t answer_max;       /* bytes */
};
#define RPC_LIMITS_DEFAULT                                                                                                       \
    ((struct rpc_limits){.json = JSON_LIMITS_DEFAULT, .calls_max = 1024, .output_pause = MIB(4), .answer_max = MIB(32)})

struct rpc_server {
    const struct rpc_table *table;
    void *owner; /* what the handlers work on */
    struct log *log;
    struct rpc_limits limits;
    uint8_t state; /* RPC_STATE_…; the owner moves it */
    struct list connections;
    uint32_t connection_count;
    uint32_t call_count;                 /* under way, of closed connections too */
    uint64_t requests, failures, closed; /* statistics; closed: connections for bad JSON or a limit */
};

struct rpc_connection {
    struct rpc_server *server;
    struct list_node node;
    struct json_reader reader;
    struct list calls;
    uint32_t call_count;
    struct list output; /* chunks */
    size_t output_bytes;
    bool closing; /* what came was not JSON, or beyond a limit: close it */
    bool feeding; /* inside rpc_connection_input() */
    bool is_file; /* nobody reads the answers: the calls of a configuration file */
    void (*ready)(void *arg);
    void *arg;
};

struct rpc_call {
    struct rpc_server *server;
    struct rpc_connection *connection; /* NULL: gone */
    struct list_node node;             /* in connection->calls */
    struct rpc_document *document;
    struct jsonrpc_request request;
    const struct rpc_method *method; /* NULL: no such method, or no valid request */
    const void *params;              /* as decoded, what the handler got; in the arena */
    struct rpc_batch *batch;         /* NULL = none */
    struct rpc_arena arena;
    struct text text;
    struct json_writer writer;
};

void rpc_server_init(struct rpc_server *server, const struct rpc_table *table, void *owner, struct log *log,
                     const struct rpc_limits *limits);
/* All connections are closed and all calls answered. */
void rpc_server_fini(struct rpc_server *server);

/* `ready` is called when there is output, or input may go on, after something outside of rpc_connection_input(). The caller's
 * memory. */
void rpc_connection_open(struct rpc_connection *connection, struct rpc_server *server, void (*ready)(void *arg), void *arg);
/* Forgets what is not sent; calls under way go on unheard. */
void rpc_connection_close(struct rpc_connection *connection);
/* Takes bytes, and runs the calls they complete. Returns how many were taken: fewer than given when a limit is reached (`ready`
 * tells when to go on) or when the connection is to be closed. */
size_t rpc_connection_input(struct rpc_connection *connection, const char *bytes, size_t length);
/* The client will send no more: a request that ends with the stream is complete. */
void rpc_connection_input_end(struct rpc_connection *connection);
/* True if input would be taken. */
bool rpc_connection_reads(const struct rpc_connection *connection);
/* Describes what is to be sent; returns the number of slices, at most `capacity`. Valid until sent or closed. */
uint32_t rpc_connection_output(const struct rpc_connection *connection, struct slice *slices, uint32_t capacity);
void rpc_connection_sent(struct rpc_connection *connection, size_t length);

/* ---- for handlers ---- */

/* The handler is called once more, with the same parameters: by one that has waited for something. */
void rpc_call_again(struct rpc_call *call);

#define RPC_RESULT "result" /* the key under which the result is written */

/* True if the caller sent parameters, were it an empty object. */
static inline bool rpc_call_has_params(const struct rpc_call *call) { return call->request.params != NULL; }

/* Begins a successful answer: the handler writes one value with the key RPC_RESULT, then calls rpc_call_end(). */
struct json_writer *rpc_call_result(struct rpc_call *call);
void rpc_call_end(struct rpc_call *call);
void rpc_call_result_true(struct rpc_call *call);
void rpc_call_result_string(struct rpc_call *call, const char *value);
void rpc_call_result_u64(struct rpc_call *call, uint64_t value);

/* The names of the server's methods, sorted; current: only those that its state allows. */
void rpc_call_result_methods(struct rpc_call *call, bool current);

/* An error of the dialect. message NULL: the code's own. error (NULL allowed): becomes error.data. */
void rpc_call_error(struct rpc_call *call, int code, const char *message, const struct error *error);
/* -errno and the errno's text of error->code, as most failures are answered. */
void rpc_call_fail(struct rpc_call *call, const struct error *error);
/* The same after the work has begun: the method's late_code where it has one. */
void rpc_call_fail_late(struct rpc_call *call, const struct error *error);
/* The method's answer to parameters that do not decode, for what its handler finds wrong. */
void rpc_call_fail_decode(struct rpc_call *call, const struct error *error);
