/* One NVMe/TCP connection of the initiator: a socket and the host's protocol machine, on one reactor. Knows commands only as the
 * requests of wire/nvme_tcp/host.h; admin.c and queue.c stand on it. What is submitted in a turn leaves in one gathering write at
 * its end. Not used by other folders. */
#pragma once

#include "reactor/reactor.h"
#include "wire/nvme_tcp/host.h"

struct initiator_connection;

/* None is called from inside a function of this header but initiator_connection_lose(). */
struct initiator_connection_ops {
    /* Digests are agreed: commands may be submitted. */
    void (*ready)(struct initiator_connection *connection);
    void (*completed)(struct initiator_connection *connection, struct nvme_tcp_request *request);
    /* It ended by itself or by initiator_connection_lose(), and is closed already. error: a negative errno, or 0. */
    void (*lost)(struct initiator_connection *connection, const char *why, int error);
};

#define INITIATOR_WHY_SIZE 256

struct initiator_connection {
    const struct initiator_connection_ops *ops;
    struct reactor *reactor;
    struct host_socket *socket; /* NULL = closed */
    struct nvme_tcp_host tcp;
    struct nvme_tcp_request **requests; /* by command id */
    uint16_t request_count;
    uint8_t *staging;
    uint32_t staging_size;
    bool connecting, write_blocked;
    bool hung_up; /* the peer's end was told: reads go on until they find it */
    bool flush_queued, read_queued;
    struct reactor_job flush, read;
    char why[INITIATOR_WHY_SIZE];
};

struct initiator_connection_options {
    const struct initiator_connection_ops *ops;
    uint32_t staging_size;
    struct nvme_tcp_request **requests; /* all entries set; stays the caller's */
    uint16_t request_count;
};

/* Readies a closed connection of the current reactor. False if there is no memory. */
bool initiator_connection_init(struct initiator_connection *connection, struct reactor *reactor,
                               const struct initiator_connection_options *options);
/* It is closed and initiator_connection_idle(). */
void initiator_connection_fini(struct initiator_connection *connection);
/* Begins to connect: ready() or lost() follow. False if it cannot even begin. */
bool initiator_connection_open(struct initiator_connection *connection, const struct host_address *to,
                               const struct host_address *from, const struct nvme_tcp_host_options *options, struct error *error);
/* Closes the socket, or resets it if anything is under way: from here on no payload is touched, and nothing of it leaves later;
 * all requests are free again. No callback. */
void initiator_connection_close(struct initiator_connection *connection);
/* Closes it, then calls lost(). */
void initiator_connection_lose(struct initiator_connection *connection, const char *why, int error);
/* False while a job of it is queued: its memory must stay. */
static inline bool initiator_connection_idle(const struct initiator_connection *connection) {
    return !connection->flush_queued && !connection->read_queued;
}
static inline bool initiator_connection_is_open(const struct initiator_connection *connection) {
    return connection->socket != NULL;
}
/* As nvme_tcp_host_submit(), after ready(). */
void initiator_connection_submit(struct initiator_connection *connection, const struct nvme_sqe *sqe,
                                 enum nvme_direction direction, const struct slice *slices, uint32_t slice_count, uint32_t length,
                                 bool in_capsule);
