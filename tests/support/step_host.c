#include "step_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash_map.h"
#include "base/list.h"

struct step_host {
    struct host host;
    struct step_host_options options;
    struct random random;
    uint64_t now_ns;
    struct list loops, sockets;
    unsigned connections;
    bool refuse, hang, stall_all;
    uint16_t next_port;
};

struct step_loop {
    struct host_loop base;
    struct host_loop_options options;
    struct list_node node;
    bool running, woken;
    uint64_t deadline_ns;
};

struct step_socket {
    struct host_socket base;
    struct step_loop *loop; /* NULL = detached */
    host_socket_event event;
    void *arg;
    struct list_node node;
    struct step_socket *peer; /* NULL: none yet, or closed */
    struct list backlog;      /* of a listener: server ends, by backlog_node */
    struct list_node backlog_node;
    bool listener, connecting, reset, peer_closed, stalled, from_client;
    bool read_armed, write_armed;
    unsigned pending; /* events to tell */
    uint16_t port;
    unsigned connection;
    uint8_t *in; /* received and not read, window_bytes of room */
    size_t in_length;
    int error;
};

static struct step_host *of(struct host *host) { return container_of(host, struct step_host, host); }
static struct step_socket *of_socket(struct host_socket *socket) { return container_of(socket, struct step_socket, base); }

static uint64_t now_ns(struct host *host) { return of(host)->now_ns; }
static void fill(struct host *host, void *to, size_t length) { random_fill(&of(host)->random, to, length); }

/* ---- loops ---- */

static int loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop) {
    struct step_loop *loop = calloc(1, sizeof(*loop));
    assert(loop != NULL);
    loop->base.host = host;
    loop->options = *options;
    list_push_back(&of(host)->loops, &loop->node);
    *ret_loop = &loop->base;
    return 0;
}
static int loop_start(struct host_loop *base) {
    struct step_loop *loop = container_of(base, struct step_loop, base);
    loop->running = true;
    return 0;
}
static void loop_stop(struct host_loop *base) { container_of(base, struct step_loop, base)->running = false; }
static void loop_destroy(struct host_loop *base) {
    struct step_loop *loop = container_of(base, struct step_loop, base);
    list_remove(&loop->node);
    free(loop);
}
static void loop_wake(struct host_loop *base) { container_of(base, struct step_loop, base)->woken = true; }
static void loop_flush(struct host_loop *base) { (void)base; }
static void loop_stats(struct host_loop *base, struct host_loop_stats *ret) {
    (void)base;
    *ret = (struct host_loop_stats){0};
}

static unsigned loop_poll(struct host_loop *base) {
    struct step_loop *loop = container_of(base, struct step_loop, base);
    struct step_host *host = of(base->host);
    unsigned count = 0;
    for (bool again = true; again;) { /* an event may close any socket */
        again = false;
        list_for_each (&host->sockets, struct step_socket, socket, node) {
            if (socket->loop != loop || socket->pending == 0 || socket->event == NULL)
                continue;
            unsigned events = socket->pending;
            socket->pending = 0;
            socket->event(socket->arg, events);
            count++;
            again = true;
            break;
        }
    }
    return count;
}

/* ---- sockets ---- */

static void tell(struct step_socket *socket, unsigned events) {
    if (socket == NULL)
        return;
    if ((events & HOST_READABLE) != 0 && !socket->read_armed)
        events &= ~(unsigned)HOST_READABLE;
    if ((events & HOST_WRITABLE) != 0 && !socket->write_armed)
        events &= ~(unsigned)HOST_WRITABLE;
    if ((events & HOST_READABLE) != 0)
        socket->read_armed = false;
    if ((events & HOST_WRITABLE) != 0)
        socket->write_armed = false;
    socket->pending |= events;
}

static bool stalled(const struct step_socket *socket) { return socket->stalled || of(socket->base.host)->stall_all; }

static struct step_socket *socket_new(struct step_host *host, struct step_loop *loop, host_socket_event event, void *arg) {
    struct step_socket *socket = calloc(1, sizeof(*socket));
    assert(socket != NULL);
    socket->base.host = &host->host;
    socket->loop = loop;
    socket->event = event;
    socket->arg = arg;
    socket->read_armed = socket->write_armed = true;
    list_init(&socket->backlog);
    list_push_back(&host->sockets, &socket->node);
    return socket;
}

/* A Unix socket's path is a port of its own, beside those that are given out. */
static uint16_t port_of(const struct host_address *address) {
    return address->family == HOST_UNIX ? (uint16_t)(1 + hash_text(address->text) % 30000) : address->port;
}

static struct host_socket *host_listen_(struct host_loop *base, const struct host_address *address, host_socket_event event,
                                        void *arg, struct error *error) {
    struct step_host *host = of(base->host);
    (void)error;
    struct step_socket *socket = socket_new(host, container_of(base, struct step_loop, base), event, arg);
    socket->listener = true;
    uint16_t port = port_of(address);
    socket->port = port != 0 ? port : host->next_port++;
    return &socket->base;
}

/* Answers a connect that waits: called as the clock moves on or at once. */
static void connect_finish(struct step_socket *client) {
    struct step_host *host = of(client->base.host);
    client->connecting = false;
    struct step_socket *listener = NULL;
    list_for_each (&host->sockets, struct step_socket, other, node)
        if (other->listener && other->port == client->port)
            listener = other;
    if (listener == NULL || host->refuse) {
        client->error = -ECONNREFUSED;
        client->reset = true;
        client->pending |= HOST_CLOSED;
        return;
    }
    struct step_socket *server = socket_new(host, NULL, NULL, NULL);
    server->peer = client;
    client->peer = server;
    server->connection = client->connection = host->connections++;
    client->from_client = true;
    size_t window = host->options.window_bytes;
    client->in = malloc(window);
    server->in = malloc(window);
    assert(client->in != NULL && server->in != NULL);
    list_push_back(&listener->backlog, &server->backlog_node);
    tell(listener, HOST_READABLE);
    tell(client, HOST_WRITABLE);
}

static struct host_socket *host_connect_(struct host_loop *base, const struct host_address *to, const struct host_address *from,
                                         host_socket_event event, void *arg, struct error *error) {
    struct step_host *host = of(base->host);
    (void)from, (void)error;
    struct step_socket *socket = socket_new(host, container_of(base, struct step_loop, base), event, arg);
    socket->port = port_of(to);
    socket->connecting = true;
    if (!host->hang)
        connect_finish(socket);
    return &socket->base;
}

static struct host_socket *socket_accept(struct host_socket *base, struct host_address *ret_peer, int *ret_errno) {
    struct step_socket *listener = of_socket(base);
    struct list_node *node = list_pop_front(&listener->backlog);
    if (node == NULL) {
        listener->read_armed = true;
        *ret_errno = -EAGAIN;
        return NULL;
    }
    *ret_peer = (struct host_address){.family = HOST_IPV4, .text = "10.0.0.9"};
    struct step_socket *server = list_entry(node, struct step_socket, backlog_node);
    server->loop = listener->loop;
    return &server->base;
}

static int socket_error(struct host_socket *base) { return of_socket(base)->error; }

static void socket_local(struct host_socket *base, struct host_address *ret) {
    *ret = (struct host_address){.family = HOST_IPV4, .port = of_socket(base)->port, .text = "10.0.0.1"};
}

static size_t limit(struct step_host *host, uint32_t max) {
    if (max == 0)
        return SIZE_MAX;
    return host->options.random_sizes ? 1 + (size_t)random_below(&host->random, max) : max;
}

static int64_t socket_read(struct host_socket *base, const struct slice *slices, uint32_t count) {
    struct step_socket *socket = of_socket(base);
    struct step_host *host = of(base->host);
    if (socket->reset)
        return -ECONNRESET;
    size_t n = min_u64(slice_total(slices, count), socket->in_length);
    n = min_u64(n, limit(host, host->options.read_max));
    if (n == 0 || stalled(socket)) {
        if (socket->peer_closed && socket->in_length == 0)
            return 0;
        socket->read_armed = true;
        return -EAGAIN;
    }
    slice_copy_in(slices, count, 0, socket->in, n);
    memmove(socket->in, socket->in + n, socket->in_length - n);
    socket->in_length -= n;
    if (n < slice_total(slices, count)) {
        socket->read_armed = true;
        if (socket->in_length > 0)
            tell(socket, HOST_READABLE);
    }
    tell(socket->peer, HOST_WRITABLE);
    return (int64_t)n;
}

static int64_t socket_write(struct host_socket *base, const struct slice *slices, uint32_t count) {
    struct step_socket *socket = of_socket(base), *peer = socket->peer;
    struct step_host *host = of(base->host);
    if (socket->reset || socket->connecting)
        return socket->connecting ? -EAGAIN : -ECONNRESET;
    if (peer == NULL)
        return -EPIPE;
    size_t n = min_u64(slice_total(slices, count), host->options.window_bytes - peer->in_length);
    n = min_u64(n, limit(host, host->options.write_max));
    if (n == 0) {
        socket->write_armed = true;
        return -EAGAIN;
    }
    uint8_t *to = peer->in + peer->in_length;
    slice_copy_out(slices, count, 0, to, n);
    if (host->options.tap != NULL)
        host->options.tap(host->options.tap_arg, socket->connection, socket->from_client, to, n);
    peer->in_length += n;
    if (!stalled(peer))
        tell(peer, HOST_READABLE);
    return (int64_t)n;
}

static void socket_detach(struct host_socket *base) { of_socket(base)->loop = NULL; }

static int socket_attach(struct host_socket *base, struct host_loop *loop, host_socket_event event, void *arg) {
    struct step_socket *socket = of_socket(base);
    socket->loop = container_of(loop, struct step_loop, base);
    socket->event = event;
    socket->arg = arg;
    socket->read_armed = socket->write_armed = true;
    tell(socket, HOST_WRITABLE | (socket->in_length > 0 || socket->peer_closed ? HOST_READABLE : 0U));
    return 0;
}

static void socket_close(struct host_socket *base) {
    struct step_socket *socket = of_socket(base);
    if (socket->peer != NULL) {
        socket->peer->peer = NULL;
        socket->peer->peer_closed = true;
        socket->peer->read_armed = true;
        if (!stalled(socket->peer))
            tell(socket->peer, HOST_READABLE | HOST_CLOSED);
    }
    for (struct list_node *node; (node = list_pop_front(&socket->backlog)) != NULL;)
        socket_close(&list_entry(node, struct step_socket, backlog_node)->base);
    if (list_linked(&socket->backlog_node))
        list_remove(&socket->backlog_node);
    list_remove(&socket->node);
    free(socket->in);
    free(socket);
}

static void socket_reset(struct host_socket *base) {
    struct step_socket *peer = of_socket(base)->peer;
    if (peer != NULL) {
        peer->reset = true;
        peer->in_length = 0;
    }
    socket_close(base);
}

/* ---- the test's side ---- */

static void *map(struct host *host, size_t bytes) {
    (void)host;
    return calloc(1, bytes);
}
static void unmap(struct host *host, void *take_memory, size_t bytes) {
    (void)host;
    (void)bytes;
    free(take_memory);
}

static const struct host_ops ops = {
    .now_ns = now_ns,
    .ticks = now_ns,
    .wall_ns = now_ns,
    .random = fill,
    .memory_map = map,
    .memory_unmap = unmap,
    .loop_create = loop_create,
    .loop_start = loop_start,
    .loop_stop = loop_stop,
    .loop_destroy = loop_destroy,
    .loop_poll = loop_poll,
    .loop_flush = loop_flush,
    .loop_wake = loop_wake,
    .loop_stats = loop_stats,
    .listen = host_listen_,
    .accept = socket_accept,
    .connect = host_connect_,
    .socket_error = socket_error,
    .socket_local = socket_local,
    .socket_read = socket_read,
    .socket_write = socket_write,
    .socket_detach = socket_detach,
    .socket_attach = socket_attach,
    .socket_close = socket_close,
    .socket_reset = socket_reset,
};

struct host *step_host_create(const struct step_host_options *options) {
    struct step_host *host = calloc(1, sizeof(*host));
    assert(host != NULL);
    host->host = (struct host){.ops = &ops, .ticks_per_second = NS_PER_S};
    host->options = *options;
    if (host->options.window_bytes == 0)
        host->options.window_bytes = (uint32_t)KIB(256);
    host->now_ns = NS_PER_S;
    host->next_port = 40000;
    random_init(&host->random, options->seed);
    list_init(&host->loops);
    list_init(&host->sockets);
    return &host->host;
}

void step_host_destroy(struct host *base) {
    struct step_host *host = of(base);
    assert(list_empty(&host->sockets) && list_empty(&host->loops));
    free(host);
}

uint64_t step_host_now_ns(struct host *host) { return of(host)->now_ns; }

bool step_host_run(struct host *base, bool (*condition)(void *arg), void *arg, uint64_t for_ns) {
    struct step_host *host = of(base);
    uint64_t until = host->now_ns + for_ns;
    while (condition == NULL || !condition(arg)) {
        uint64_t next = UINT64_MAX;
        bool worked = false;
        list_for_each (&host->loops, struct step_loop, loop, node) {
            if (!loop->running)
                continue;
            loop->woken = false;
            struct host_turn turn = loop->options.turn(loop->options.arg);
            worked |= turn.worked;
            next = min_u64(next, turn.deadline_ns);
        }
        list_for_each (&host->loops, struct step_loop, loop, node)
            worked |= loop->woken;
        host->now_ns += NS_PER_US;
        if (worked || next <= host->now_ns) {
            if (host->now_ns >= until)
                return condition != NULL && condition(arg);
            continue;
        }
        list_for_each (&host->sockets, struct step_socket, socket, node)
            if (socket->pending != 0 && socket->loop != NULL)
                next = 0;
        if (next == 0)
            continue;
        if (next >= until) {
            host->now_ns = max_u64(host->now_ns, until);
            return condition != NULL && condition(arg);
        }
        host->now_ns = next;
    }
    return true;
}

unsigned step_host_connections(struct host *host) { return of(host)->connections; }

void step_host_reset(struct host *base, unsigned connection) {
    list_for_each (&of(base)->sockets, struct step_socket, socket, node) {
        if (socket->listener || socket->in == NULL || socket->connection != connection)
            continue;
        socket->reset = true;
        socket->in_length = 0;
        socket->pending |= HOST_CLOSED | HOST_READABLE;
    }
}

static void release(struct step_socket *socket) {
    if (socket->in_length > 0 || socket->peer_closed) {
        socket->read_armed = true;
        tell(socket, HOST_READABLE);
    }
}

void step_host_stall(struct host *base, unsigned connection, bool to_server, bool stall) {
    list_for_each (&of(base)->sockets, struct step_socket, socket, node) {
        if (socket->listener || socket->in == NULL || socket->connection != connection || socket->from_client == to_server)
            continue;
        socket->stalled = stall;
        if (!stall)
            release(socket);
    }
}

void step_host_stall_all(struct host *base, bool stall) {
    of(base)->stall_all = stall;
    if (!stall)
        list_for_each (&of(base)->sockets, struct step_socket, socket, node)
            release(socket);
}

void step_host_refuse(struct host *host, bool refuse, bool hang) {
    of(host)->refuse = refuse;
    of(host)->hang = hang;
}

unsigned step_host_open_sockets(struct host *host) {
    unsigned count = 0;
    list_for_each (&of(host)->sockets, struct step_socket, socket, node)
        count++;
    return count;
}
