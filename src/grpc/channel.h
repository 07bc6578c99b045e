/* A gRPC client: calls to one address, over a connection that is made when it is needed and made again, with back-off, when it is
 * lost. Repeats nothing by itself.
 *
 * Calling context: one reactor. A call is its caller's memory until `done`, which never comes from inside of a function here but
 * grpc_channel_destroy(). */
#pragma once

#include "grpc/transport.h"

struct grpc_channel;

struct grpc_channel_options {
    struct reactor *reactor;
    struct host_address address;
    const char *authority;            /* what to call the server; NULL = the address; copied */
    struct tls_context *tls;          /* a client's; NULL = plain; stays until the channel is destroyed */
    const struct grpc_limits *limits; /* NULL = the defaults; copied */
    size_t memory_bytes;              /* that all calls may hold; 0 = GRPC_DEFAULT_SERVER_BYTES */
    uint64_t reconnect_max_ms;        /* the longest pause between attempts to connect; 0 = GRPC_RECONNECT_MAX_MS */
};

/* A call through a channel: prepare it, set the callbacks of `call`, grpc_call_send() its request, start it. */
struct grpc_channel_call {
    struct grpc_call call;
    const char *path;                     /* stays until done */
    const struct grpc_metadata *metadata; /* the same */
    size_t metadata_count;
    bool wait_ready;   /* a failed attempt to connect does not end it, only its deadline does */
    bool wait_attempt; /* only one that was begun after it does: what was so before it is not held against it */
    /* the channel's */
    struct grpc_channel *channel;
    struct list_node node; /* waiting */
    uint64_t attempts;     /* to connect, when it was started */
};

struct grpc_channel *grpc_channel_create(const struct grpc_channel_options *options);
/* Calls under way end with UNAVAILABLE, inside. */
void grpc_channel_destroy(struct grpc_channel *channel);
/* timeout_ms: 0 = none. `path`, "/package.Service/Method", stays until done. */
void grpc_channel_prepare(struct grpc_channel *channel, struct grpc_channel_call *call, enum grpc_kind kind, const char *path,
                          const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms);
/* Starts it now, or when there is a connection. */
void grpc_channel_start(struct grpc_channel *channel, struct grpc_channel_call *call);
/* Lets go of a call that was prepared and is not done; `done` does not come. */
void grpc_channel_cancel(struct grpc_channel_call *call);
/* For tests and status lines. */
bool grpc_channel_is_connected(const struct grpc_channel *channel);
/* How many connections were established so far: another number means that another server may answer there. */
uint64_t grpc_channel_connections(const struct grpc_channel *channel);
/* The call has not been handed to a connection. */
static inline bool grpc_channel_call_waits(const struct grpc_channel_call *call) { return list_linked(&call->node); }
