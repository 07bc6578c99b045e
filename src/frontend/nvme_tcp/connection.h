/* Inside of src/frontend/nvme_tcp: the transport's listeners and one connection. Not for other folders. */
#pragma once

#include "frontend/nvme/queue.h"
#include "frontend/nvme_tcp/transport.h"
#include "wire/nvme_tcp/target.h"

struct tcp_transport {
    struct nvme_transport base;
    struct reactor *control;
    struct list listeners;   /* struct tcp_listener */
    struct list connections; /* struct tcp_connection, all of them */
    unsigned connection_count, stranger_count;
    bool stopping;
};

struct tcp_listener {
    struct list_node node;
    struct tcp_transport *transport;
    struct host_socket *socket;
    struct nvme_listen_address address;
    struct reactor_timer retry_timer; /* no descriptor was left to accept with */
};

enum tcp_command_state {
    TCP_COMMAND_FREE,
    TCP_COMMAND_RECEIVING, /* waits for a buffer or for its data */
    TCP_COMMAND_IN_CORE,
    TCP_COMMAND_ANSWERING /* its answer is on the way out */
};

struct tcp_command {
    struct nvme_command command; /* .data: from the reactor's pool, `buffer_size` bytes */
    struct nvme_tcp_out answer;
    struct nvme_tcp_transfer transfer;
    struct slice place;
    enum tcp_command_state state;
    uint32_t buffer_size; /* 0 = none */
    uint16_t tag;
    struct tcp_command *next_free;
};

struct tcp_connection {
    struct nvme_queue queue;
    struct tcp_transport *transport;
    struct list_node node; /* control reactor */
    bool stranger;         /* not through Connect; control reactor */
    struct reactor *reactor;
    struct host_socket *socket;
    struct nvme_tcp_target wire;

    struct tcp_command connect_command; /* until the queue's depth is known */
    struct nvme_tcp_transfer *connect_transfer;
    struct tcp_command *commands; /* [depth] */
    struct nvme_tcp_transfer **transfers;
    uint16_t depth, used; /* commands [used, depth) were never taken */
    struct tcp_command *free;

    struct tcp_command *receiving; /* whose in-capsule payload comes; NULL = one that is thrown away */
    struct tcp_command *waiting;   /* waits for a buffer: nothing is read */
    bool waiting_payload;          /* … that its payload in the capsule then goes to */
    bool waiting_limit;            /* … as the connection has its share of them */
    struct buffer_waiter buffer_waiter;
    uint64_t buffer_bytes;
    unsigned receiving_count; /* commands that wait for a buffer or for their data */

    bool busy;   /* its events are being worked on */
    bool moving; /* to queue.reactor */
    bool doomed, orderly, dead, lingering;
    bool hung_up; /* the peer's end was told: reads go on until they find it */
    bool arrived;
    struct reactor_job read_job, flush_job, end_job, finish_job, move_job;
    bool read_queued, flush_queued, end_queued, finish_queued;
    struct reactor_message message;
    struct reactor_timer timer;   /* connect, stall or linger */
    uint64_t moved, moved_before; /* bytes in and out; when the timer last looked */
    uint8_t *staging;
};

/* A new connection from a listener; false if it cannot be had (the socket is closed then). Control reactor. */
bool tcp_connection_create(struct tcp_listener *listener, struct host_socket *socket, const struct host_address *peer);
/* Ends it soon. On its reactor. */
void tcp_connection_doom(struct tcp_connection *connection, bool orderly);
/* Its last sign: off the transport's list. Control reactor. */
void tcp_transport_forget(struct tcp_connection *connection);
