#include "plane_rpc/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define STAGING_SIZE KIB(32)
#define ROUNDS_PER_TURN 16 /* reads of one connection before the others have their turn */
#define OUTPUT_SLICES 16
#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after -EMFILE and the like */

struct rpc_socket {
    struct rpc_connection connection;
    struct rpc_listener *listener; /* NULL: closed, freed when its job has run */
    struct host_socket *socket;
    struct list_node node;
    struct reactor_job job;
    bool queued;         /* the job */
    bool readable;       /* not yet answered by -EAGAIN */
    bool blocked;        /* the same for writing */
    size_t staged, used; /* bytes in staging, and of them those already taken */
    char staging[STAGING_SIZE];
};

struct rpc_listener {
    struct rpc_server *server;
    struct reactor *reactor;
    struct host_socket *socket;
    struct list sockets;
    unsigned count;
    bool accepting; /* not yet answered by -EAGAIN */
    struct reactor_timer retry;
};

static void accept_more(struct rpc_listener *listener);

static void socket_close(struct rpc_socket *s) {
    struct rpc_listener *listener = s->listener;
    host_socket_close(s->socket);
    rpc_connection_close(&s->connection);
    list_remove(&s->node);
    listener->count--;
    s->listener = NULL;
    if (!s->queued)
        free(s);
}

/* False if the peer is gone. */
static bool send_output(struct rpc_socket *s) {
    struct slice slices[OUTPUT_SLICES];
    uint32_t count;
    while (!s->blocked && (count = rpc_connection_output(&s->connection, slices, OUTPUT_SLICES)) > 0) {
        int64_t n = host_socket_write(s->socket, slices, count);
        if (n == -EAGAIN)
            s->blocked = true;
        else if (n < 0)
            return false;
        else
            rpc_connection_sent(&s->connection, (size_t)n);
    }
    return true;
}

/* Reads once and runs what has come. False if there is nothing more to do now; *ret_alive false: close. */
static bool receive_input(struct rpc_socket *s, bool *ret_alive) {
    if (!rpc_connection_reads(&s->connection))
        return false;
    if (s->used == s->staged) {
        if (!s->readable)
            return false;
        struct slice slice = {.base = s->staging, .length = sizeof(s->staging)};
        int64_t n = host_socket_read(s->socket, &slice, 1);
        if (n == -EAGAIN) {
            s->readable = false;
            return false;
        }
        if (n <= 0) {
            if (n == 0)
                rpc_connection_input_end(&s->connection);
            *ret_alive = false;
            return false;
        }
        s->staged = (size_t)n;
        s->used = 0;
    }
    s->used += rpc_connection_input(&s->connection, s->staging + s->used, s->staged - s->used);
    return true;
}

static void socket_queue(struct rpc_socket *s) {
    if (s->queued)
        return;
    s->queued = true;
    reactor_defer(s->listener->reactor, &s->job);
}

/* Moves what can be moved both ways. May close and free the socket: last. */
static void socket_pump(struct rpc_socket *s) {
    bool alive = true, more = true;
    for (unsigned round = 0; round < ROUNDS_PER_TURN && more; round++) {
        more = receive_input(s, &alive);
        if (!send_output(s))
            alive = more = false;
    }
    if (!alive || s->connection.closing) {
        struct rpc_listener *listener = s->listener;
        socket_close(s);
        accept_more(listener);
    } else if (more) {
        socket_queue(s);
    }
}

static void socket_job(struct reactor_job *job) {
    struct rpc_socket *s = container_of(job, struct rpc_socket, job);
    s->queued = false;
    if (s->listener == NULL)
        free(s);
    else
        socket_pump(s);
}

/* The server has something to send, or would read again. */
static void socket_ready(void *arg) { socket_queue(arg); }

static void socket_event(void *arg, unsigned events) {
    struct rpc_socket *s = arg;
    if ((events & (HOST_READABLE | HOST_CLOSED)) != 0)
        s->readable = true;
    if ((events & (HOST_WRITABLE | HOST_CLOSED)) != 0)
        s->blocked = false;
    socket_pump(s);
}

static void socket_open(struct rpc_listener *listener, struct host_socket *take_socket) {
    struct rpc_socket *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        host_socket_close(take_socket);
        return;
    }
    s->listener = listener;
    s->socket = take_socket;
    s->job.run = socket_job;
    rpc_connection_open(&s->connection, listener->server, socket_ready, s);
    list_push_back(&listener->sockets, &s->node);
    listener->count++;
    s->readable = true;
    if (host_socket_attach(take_socket, listener->reactor->loop, socket_event, s) != 0)
        socket_close(s);
}

static void accept_more(struct rpc_listener *listener) {
    while (listener->accepting && listener->count < RPC_CONNECTIONS_MAX) {
        int error = 0;
        struct host_address peer;
        struct host_socket *socket = host_accept(listener->socket, &peer, &error);
        if (socket != NULL) {
            socket_open(listener, socket);
        } else if (error == -EAGAIN) {
            listener->accepting = false;
        } else {
            reactor_timer_start(listener->reactor, &listener->retry, reactor_now_ns(listener->reactor) + ACCEPT_RETRY_NS);
            return;
        }
    }
}

static void retry(struct reactor_timer *timer) { accept_more(container_of(timer, struct rpc_listener, retry)); }

static void listener_event(void *arg, unsigned events) {
    struct rpc_listener *listener = arg;
    (void)events;
    listener->accepting = true;
    accept_more(listener);
}

bool rpc_listener_open(struct rpc_server *server, struct reactor *reactor, const char *path, struct rpc_listener **ret_listener,
                       struct error *error) {
    struct host_address address = {.family = HOST_UNIX};
    if (strlen(path) >= sizeof(address.text))
        return error_invalid(error, "socket", path, "a path of at most %zu bytes", sizeof(address.text) - 1);
    memcpy(address.text, path, strlen(path) + 1);
    struct rpc_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the socket %s", path);
    listener->server = server;
    listener->reactor = reactor;
    listener->retry.run = retry;
    list_init(&listener->sockets);
    listener->socket = host_listen(reactor->loop, &address, listener_event, listener, error);
    if (listener->socket == NULL) {
        free(listener);
        return false;
    }
    *ret_listener = listener;
    return true;
}

void rpc_listener_close(struct rpc_listener *listener) {
    host_socket_close(listener->socket);
    listener->accepting = false;
    reactor_timer_stop(listener->reactor, &listener->retry);
    list_for_each_safe (&listener->sockets, struct rpc_socket, s, node) {
        send_output(s);
        socket_close(s);
    }
    free(listener);
}
