#include "blockdev/nvme_tcp/connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_SLICES 64
#define WRITE_SLICES 512
#define READ_BUDGET KIB(512) /* bytes taken in a row before others of the reactor get their turn */

/* Network errors have no words in the error table. */
static const char *words(int error) {
    switch (-error) {
    case 0: return NULL;
    case ECONNREFUSED: return "Connection refused";
    case ECONNRESET:
    case EPIPE: return "Connection reset by peer";
    case ETIMEDOUT: return "Connection timed out";
    case EHOSTUNREACH: return "No route to host";
    case ENETUNREACH: return "Network is unreachable";
    default: return error_facts(error_from_errno(error))->errno_text;
    }
}

static void events_take(struct initiator_connection *connection);

static void flush_later(struct initiator_connection *connection) {
    if (connection->flush_queued)
        return;
    connection->flush_queued = true;
    reactor_defer_late(connection->reactor, &connection->flush);
}

/* Writes what waits. False if the connection was lost. */
static bool write_out(struct initiator_connection *connection) {
    struct slice slices[WRITE_SLICES];
    while (!nvme_tcp_tx_empty(&connection->tcp.tx)) {
        uint32_t count = nvme_tcp_tx_out(&connection->tcp.tx, slices, WRITE_SLICES);
        int64_t n = host_socket_write(connection->socket, slices, count);
        if (n == -EAGAIN) {
            connection->write_blocked = true;
            return true;
        }
        if (n < 0) {
            initiator_connection_lose(connection, "writing failed", (int)n);
            return false;
        }
        nvme_tcp_host_sent(&connection->tcp, (size_t)n);
    }
    return true;
}

static void flush_run(struct reactor_job *job) {
    struct initiator_connection *connection = container_of(job, struct initiator_connection, flush);
    connection->flush_queued = false;
    if (connection->socket == NULL || connection->connecting || connection->write_blocked)
        return;
    if (write_out(connection))
        events_take(connection); /* an answer may have waited for its command's last byte to leave */
}

/* Tells all that has happened; ends early when the connection is gone. */
static void events_take(struct initiator_connection *connection) {
    struct nvme_tcp_host_event event;
    while (connection->socket != NULL) {
        nvme_tcp_host_next(&connection->tcp, &event);
        switch (event.type) {
        case NVME_TCP_HOST_IDLE:
            if (!nvme_tcp_tx_empty(&connection->tcp.tx))
                flush_later(connection);
            return;
        case NVME_TCP_HOST_CONNECTED: connection->ops->ready(connection); break;
        case NVME_TCP_HOST_COMPLETION: connection->ops->completed(connection, event.request); break;
        case NVME_TCP_HOST_TERMINATED: {
            char why[INITIATOR_WHY_SIZE];
            snprintf(why, sizeof(why), "the controller ended the connection (fatal error status %u)",
                     connection->tcp.controller_fes);
            initiator_connection_lose(connection, why, 0);
            return;
        }
        case NVME_TCP_HOST_FAULT: {
            const char *text = connection->tcp.rx.fault.text;
            if (!connection->write_blocked && !write_out(connection)) /* the termination request, if it goes at once */
                return;
            initiator_connection_lose(connection, text, 0);
            return;
        }
        }
    }
}

static void read_in(struct initiator_connection *connection) {
    struct slice slices[READ_SLICES];
    for (uint64_t taken = 0; connection->socket != NULL && !connection->connecting;) {
        if (taken >= READ_BUDGET) {
            if (!connection->read_queued) {
                connection->read_queued = true;
                reactor_defer(connection->reactor, &connection->read);
            }
            return;
        }
        uint32_t count = nvme_tcp_host_want(&connection->tcp, slices, READ_SLICES);
        assert(count > 0); /* every payload is placed at once, and a fault has closed it */
        size_t asked = slice_total(slices, count);
        int64_t n = host_socket_read(connection->socket, slices, count);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            initiator_connection_lose(connection, n == 0 ? "the controller closed the connection" : "reading failed", (int)n);
            return;
        }
        taken += (uint64_t)n;
        nvme_tcp_host_got(&connection->tcp, (size_t)n);
        events_take(connection);
        if ((size_t)n < asked && !connection->hung_up)
            return;
    }
}

static void read_run(struct reactor_job *job) {
    struct initiator_connection *connection = container_of(job, struct initiator_connection, read);
    connection->read_queued = false;
    if (connection->socket != NULL)
        read_in(connection);
}

static void on_event(void *arg, unsigned events) {
    struct initiator_connection *connection = arg;
    if (connection->connecting) {
        if ((events & (HOST_WRITABLE | HOST_CLOSED)) == 0)
            return;
        int error = host_socket_error(connection->socket);
        if (error != 0 || (events & HOST_WRITABLE) == 0) {
            initiator_connection_lose(connection, "connecting failed", error);
            return;
        }
        connection->connecting = false;
    }
    connection->hung_up |= (events & HOST_CLOSED) != 0;
    if ((events & HOST_WRITABLE) != 0) {
        connection->write_blocked = false;
        if (!nvme_tcp_tx_empty(&connection->tcp.tx))
            flush_later(connection);
    }
    if ((events & (HOST_READABLE | HOST_CLOSED)) != 0 && !connection->read_queued)
        read_in(connection);
}

bool initiator_connection_init(struct initiator_connection *connection, struct reactor *reactor,
                               const struct initiator_connection_options *options) {
    *connection = (struct initiator_connection){.ops = options->ops,
                                                .reactor = reactor,
                                                .requests = options->requests,
                                                .request_count = options->request_count,
                                                .staging_size = options->staging_size,
                                                .flush.run = flush_run,
                                                .read.run = read_run};
    connection->staging = aligned_alloc(64, options->staging_size);
    return connection->staging != NULL;
}

void initiator_connection_fini(struct initiator_connection *connection) {
    assert(connection->socket == NULL && initiator_connection_idle(connection));
    free(connection->staging);
    connection->staging = NULL;
}

bool initiator_connection_open(struct initiator_connection *connection, const struct host_address *to,
                               const struct host_address *from, const struct nvme_tcp_host_options *options,
                               struct error *error) {
    assert(connection->socket == NULL);
    nvme_tcp_host_init(&connection->tcp, options, connection->staging, connection->staging_size);
    nvme_tcp_host_set_requests(&connection->tcp, connection->requests, connection->request_count);
    connection->connecting = true;
    connection->write_blocked = connection->hung_up = false;
    connection->socket =
        host_connect(connection->reactor->loop, to, from->text[0] != '\0' ? from : NULL, on_event, connection, error);
    return connection->socket != NULL;
}

void initiator_connection_close(struct initiator_connection *connection) {
    if (connection->socket == NULL)
        return;
    bool under_way = !nvme_tcp_tx_empty(&connection->tcp.tx);
    for (uint16_t i = 0; i < connection->request_count; i++)
        under_way |= connection->requests[i]->state == NVME_TCP_REQUEST_ACTIVE;
    /* What the system still holds must not reach the controller after a retry. */
    (under_way ? host_socket_reset : host_socket_close)(connection->socket);
    connection->socket = NULL;
    while (nvme_tcp_tx_take_sent(&connection->tcp.tx) != NULL) {
    }
    while (nvme_tcp_tx_take_unsent(&connection->tcp.tx) != NULL) {
    }
    for (uint16_t i = 0; i < connection->request_count; i++)
        connection->requests[i]->state = NVME_TCP_REQUEST_FREE;
}

void initiator_connection_lose(struct initiator_connection *connection, const char *why, int error) {
    if (connection->socket == NULL)
        return;
    const char *more = words(error);
    snprintf(connection->why, sizeof(connection->why), "%s%s%s", why, more != NULL ? ": " : "", more != NULL ? more : "");
    initiator_connection_close(connection);
    connection->ops->lost(connection, connection->why, error);
}

void initiator_connection_submit(struct initiator_connection *connection, const struct nvme_sqe *sqe,
                                 enum nvme_direction direction, const struct slice *slices, uint32_t slice_count, uint32_t length,
                                 bool in_capsule) {
    nvme_tcp_host_submit(&connection->tcp, sqe, direction, slices, slice_count, length, in_capsule);
    flush_later(connection);
}
