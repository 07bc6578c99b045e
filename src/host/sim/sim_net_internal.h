/* Sockets, connections and their byte streams, as the simulator's files share them.
 *
 * A connection has two streams. Bytes go into the writer's stream at once (flow control: at most a window between written and
 * acknowledged) and arrive at the reader in segments, later. A stream outlives its writer: what is under way still arrives. */
#pragma once

#include "host/sim/sim_internal.h"

#define SIM_SEGMENTS_MAX 32

struct sim_segment {
    uint64_t end;   /* byte of the stream before which it ends */
    uint64_t at_ns; /* arrival */
};

/* One direction of a connection. Offsets count all bytes of the stream: read ≤ delivered ≤ written; acked ≤ read. */
struct sim_stream {
    struct sim_connection *connection;
    struct sim_event event;   /* the next delivery */
    struct sim_event timeout; /* nothing gets through for too long */
    uint8_t *ring;
    uint32_t window; /* a power of two */
    uint64_t written, delivered, read, acked;
    struct sim_segment segments[SIM_SEGMENTS_MAX];
    uint32_t segment_first, segment_count;
    uint64_t fin_at_ns, reset_at_ns; /* 0 = none under way */
    uint64_t rate_until_ns;
    uint64_t extra_ns;
    uint64_t splits[SIM_SPLITS_MAX]; /* places not yet reached, rising */
    uint32_t split_count;
    uint64_t hold_until_ns; /* a split: the rest not before */
    bool fin_delivered, reset_delivered;
    bool stalled; /* by the test */
    bool silent;  /* its reader vanished: nothing it is sent gets an answer */
};

/* Side 0 is the client: it writes streams[SIM_TO_SERVER] and reads streams[SIM_TO_CLIENT]. */
struct sim_connection {
    struct sim *sim;
    struct list_node of_sim;
    uint64_t id;
    struct sim_node *nodes[2];
    struct sim_socket *sockets[2]; /* NULL once closed (or not yet made) */
    struct sim_stream streams[2];
    struct sim_event connect; /* SYN, its answer, and its repetitions */
    uint64_t connect_began_ns;
    uint32_t connect_tries;
    bool local, unix_socket, answered; /* answered: the server end was made */
    bool dead;                         /* nothing will come of it: free it when both sockets are gone */
    struct host_address server_address, client_address;
};

enum sim_socket_kind { SIM_LISTENER, SIM_CONNECTING, SIM_CONNECTED };

struct sim_socket {
    struct host_socket socket;
    struct sim *sim;
    struct sim_process *process;
    struct sim_node *node;
    struct sim_loop *loop; /* NULL while detached */
    host_socket_event event;
    void *arg;
    enum sim_socket_kind kind;
    struct list_node of_process, on_ready, of_node /* listeners */, queued /* not yet accepted, at its listener */;
    struct list accept_queue;
    uint32_t accept_count;
    struct host_address local;
    struct sim_connection *connection;
    unsigned side;
    unsigned pending; /* events to tell */
    int error;        /* -errno that read and write give, and socket_error */
    bool read_armed, write_armed, accept_armed, closed_told, error_taken;
    uint64_t id;
};

static inline struct sim_socket *sim_socket_of(struct host_socket *socket) {
    return container_of(socket, struct sim_socket, socket);
}
/* The stream that a socket writes, and the one it reads. */
static inline struct sim_stream *sim_socket_out(const struct sim_socket *s) { return &s->connection->streams[s->side]; }
static inline struct sim_stream *sim_socket_in(const struct sim_socket *s) { return &s->connection->streams[1 - s->side]; }

/* ---- sim_socket.c ---- */

/* Looks at the socket's state and queues what is to be told: `arrived` says that bytes just came. */
void sim_socket_update(struct sim_socket *socket, bool arrived);
/* A connected pair's server end, put into the listener's queue. */
struct sim_socket *sim_socket_embryo(struct sim_socket *listener, struct sim_connection *connection);
void sim_socket_fail(struct sim_socket *socket, int error);
struct sim_socket *sim_listener_find(struct sim_node *node, const struct host_address *address);
/* Off every list and freed; the connection is the caller's affair. */
void sim_socket_free(struct sim_socket *socket);

/* ---- sim_stream.c ---- */

struct sim_connection *sim_connection_create(struct sim_socket *client, const struct host_address *to);
/* Sends the first SYN. */
void sim_connection_begin(struct sim_connection *connection);
/* Its side's process closed it: the end of the stream, or a reset if it has not read all. */
void sim_connection_close(struct sim_connection *connection, unsigned side);
/* Its side's process gave it up: a reset, and what has not left is thrown away. */
void sim_connection_abort(struct sim_connection *connection, unsigned side);
/* Its side vanished without a word. */
void sim_connection_vanish(struct sim_connection *connection, unsigned side, bool silent);
uint32_t sim_stream_put(struct sim_stream *stream, const struct slice *slices, uint32_t count, uint64_t length);
uint64_t sim_stream_take(struct sim_stream *stream, const struct slice *slices, uint32_t count, uint64_t length);
static inline uint64_t sim_stream_room(const struct sim_stream *stream) {
    return stream->window - (stream->written - stream->acked);
}
/* Frees a connection that has nothing left to do. */
void sim_connection_reap(struct sim_connection *connection);
struct sim_link *sim_stream_link(const struct sim_stream *stream);
