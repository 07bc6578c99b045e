/* One gRPC connection on a socket: bytes between the socket, TLS if there is any, and the machine of wire/grpc; its timer. What
 * grpc_server and grpc_channel have in common. Must not know: which of the two it is, any service.
 *
 * Calling context: one reactor. */
#pragma once

#include "reactor/reactor.h"
#include "wire/grpc/grpc.h"
#include "wire/tls/tls.h"

/* Buffers that all transports of one owner use in turn. */
struct grpc_scratch {
    uint8_t in[GRPC_READ_BYTES], plain[GRPC_READ_BYTES], out[2 * GRPC_READ_BYTES];
};

struct grpc_transport {
    void *arg;             /* the owner's */
    struct list_node node; /* the owner's */
    struct reactor *reactor;
    struct host_socket *socket; /* NULL: destroyed, freed when its job has run */
    struct tls_stream *tls;     /* NULL = plain */
    struct grpc_connection connection;
    struct grpc_scratch *scratch;
    /* The transport is done for: the owner destroys it. Comes last; `why` is one line. */
    void (*closed)(struct grpc_transport *transport, const char *why);
    /* A client: calls may be started now. NULL = not told. */
    void (*established)(struct grpc_transport *transport);
    struct reactor_job job;
    struct reactor_timer timer;
    uint8_t *waiting; /* bytes that the socket did not take */
    size_t waiting_length, waiting_sent;
    uint64_t blocked_ns;   /* the socket takes nothing since; 0 = it does */
    uint64_t ending_ns;    /* it is over since, and only sends its last bytes; 0 = it is not */
    uint64_t last_call_ns; /* when it last had a call, or began */
    bool queued, readable, blocked, connected, is_established;
    char why[192];
};

struct grpc_transport_options {
    struct reactor *reactor;
    struct grpc_scratch *scratch;
    struct tls_context *tls; /* NULL = plain */
    const struct grpc_limits *limits;
    struct grpc_core *core; /* a server's */
    const char *authority;  /* a client's */
    void (*closed)(struct grpc_transport *transport, const char *why);
    void (*established)(struct grpc_transport *transport);
    void *arg;
};

/* A server's, on an accepted socket, which it takes over in any case. NULL: no memory. */
struct grpc_transport *grpc_transport_accept(const struct grpc_transport_options *options, struct host_socket *take_socket);
/* A client's; begins to connect. NULL: error. */
struct grpc_transport *grpc_transport_connect(const struct grpc_transport_options *options, const struct host_address *to,
                                              struct error *error);
/* Closes socket and connection; calls end as grpc_connection_fini() says. Not from inside a callback of a call. */
void grpc_transport_destroy(struct grpc_transport *transport);
/* Looks at it soon, from the loop. */
void grpc_transport_wake(struct grpc_transport *transport);
