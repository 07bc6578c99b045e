/* Everything that a gRPC peer can ask for, and how much of it there is: the one place for these numbers. docs/grpc.md has the
 * reasons, and what happens at each. */
#pragma once

#include "wire/http2/http2.h"

struct grpc_limits {
    struct http2_limits http2;
    size_t message_bytes;    /* of one message, either way */
    size_t connection_bytes; /* that all calls of a connection hold together */
    size_t send_mark;        /* waiting in one call: above it, grpc_call_send() says so and the call is not read */
    size_t send_bytes;       /* waiting in one call when the next message comes: at it, a stream is ended */
    uint32_t calls;          /* of a connection, until their handlers have let go */
    uint64_t handshake_ns;   /* until the peer's SETTINGS */
    uint64_t silence_ns;     /* without a whole frame: then a PING */
    uint64_t pong_ns;        /* and so long for the next frame */
    uint64_t request_ns;     /* from the first byte of a request (or of a message of a stream) to its last */
    uint64_t stall_ns;       /* in which a call must move stall_bytes, or all that waits, or one that is over */
    size_t stall_bytes;
};

static const struct grpc_limits grpc_limits_default = {
    .http2 = {.streams = 1024,
              .header_bytes = KIB(16),
              .stream_window = KIB(64),
              .connection_window = MIB(1),
              .memory_bytes = MIB(4),
              .queued_frames = 4096,
              .idle_frames = 1000,
              .idle_frames_per_s = 20,
              .resets = 500,
              .resets_per_s = 50},
    .message_bytes = MIB(4),
    .connection_bytes = MIB(16),
    .send_mark = KIB(64),
    .send_bytes = MIB(1),
    .calls = 1024,
    .handshake_ns = 10 * NS_PER_S,
    .silence_ns = 30 * NS_PER_S,
    .pong_ns = 20 * NS_PER_S,
    .request_ns = 60 * NS_PER_S,
    .stall_ns = 60 * NS_PER_S,
    .stall_bytes = KIB(64),
};

enum {
    GRPC_LIMIT_TEXT = 512,          /* bytes of a status text, both ways, with its end; longer ones are cut */
    GRPC_LIMIT_NESTING = 32,        /* messages within messages */
    GRPC_LIMIT_METADATA = 8,        /* fields that a client adds to a call */
    GRPC_LIMIT_UNPACK_BASE = 65536, /* what unpacking may allocate: this … */
    GRPC_LIMIT_UNPACK_FACTOR = 16,  /* … and so many times the message */
    GRPC_DEFAULT_CONNECTIONS = 256, /* of a listener */
    GRPC_STRANGERS_SHARE = 4,       /* one in so many of them may be in the handshake */
    GRPC_DEFAULT_LOST_CALLS = 1024, /* of a server, that run on without their connection */
    GRPC_READ_BYTES = 32 * 1024,    /* taken from a socket at once */
    GRPC_READS_A_TURN = 4,          /* of one connection, before the others */
    GRPC_RECONNECT_MIN_MS = 100,
    GRPC_RECONNECT_MAX_MS = 10000,
    GRPC_DRAIN_PING_MS = 1000, /* how long the first GOAWAY waits for its PING */
    GRPC_LINGER_MS = 1000,     /* how long the last bytes of a connection may take */
};
#define GRPC_DEFAULT_SERVER_BYTES MIB(128) /* that all calls of a server hold together */
