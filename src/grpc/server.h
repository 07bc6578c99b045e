/* A gRPC server: services, listeners on TCP and Unix sockets, with TLS or without, and the connections that come in. Health and
 * reflection are its own (health.h, reflection.h).
 *
 * Calling context: one reactor, or before it starts. */
#pragma once

#include "grpc/transport.h"
#include "reactor/task.h"

struct grpc_server;
struct grpc_listener;

struct grpc_server_options {
    struct reactor *reactor;
    const struct grpc_limits *limits; /* NULL = the defaults; copied */
    size_t memory_bytes;              /* that all calls may hold; 0 = GRPC_DEFAULT_SERVER_BYTES */
    uint32_t connections, strangers;  /* of each listener; of them in the handshake. 0 = the default, a quarter */
};

struct grpc_listen_options {
    struct host_address address;
    struct tls_context *tls; /* NULL = plain; stays until the server is destroyed */
};

struct grpc_server_stats {
    uint64_t accepted, refused,
        evicted; /* connections: in all; closed for lack of a place; that made place or gave memory back */
    uint64_t calls;
    unsigned connections, calls_now, lost_calls;
    size_t memory_bytes;
};

struct grpc_server *grpc_server_create(const struct grpc_server_options *options);
/* Before it listens. False: no memory. */
bool grpc_server_add(struct grpc_server *server, const struct grpc_service *service, void *service_arg);
/* False: error names the address and why. *ret_port: the actual one; may be NULL. */
bool grpc_server_listen(struct grpc_server *server, const struct grpc_listen_options *options, uint16_t *ret_port,
                        struct error *error);
void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *ret_stats);
/* Takes no new connections and calls; calls under way may finish for so long, then they end with UNAVAILABLE. `stopped` comes
 * from the loop, when no connection and no call is left: handlers that do not let go are waited for. Once. */
void grpc_server_stop(struct grpc_server *server, uint64_t grace_ms, void (*stopped)(void *arg), void *arg);
/* After it has stopped, or without having listened. */
void grpc_server_destroy(struct grpc_server *server);
