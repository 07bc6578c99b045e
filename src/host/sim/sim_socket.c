/* The sockets of host.h on simulated connections: events, accept, read and write. Streams are sim_stream.c's.
 *
 * Strict where the contract allows it: READABLE is told once after an -EAGAIN or a short read, WRITABLE after an -EAGAIN, and not
 * again before the next one (but now and then, as the kernel does). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/sim/sim_net_internal.h"

/* ---- events ---- */

static bool readable(const struct sim_socket *socket) {
    if (socket->kind == SIM_LISTENER)
        return !list_empty(&socket->accept_queue);
    if (socket->kind == SIM_CONNECTING)
        return false;
    const struct sim_stream *in = sim_socket_in(socket);
    return in->delivered > in->read || in->fin_delivered || socket->error != 0;
}

static void queue_events(struct sim_socket *socket, unsigned events) {
    if (events == 0)
        return;
    socket->pending |= events;
    if (socket->loop == NULL || socket->event == NULL)
        return;
    if (!list_linked(&socket->on_ready))
        list_push_back(&socket->loop->ready, &socket->on_ready);
    sim_loop_kick(socket->loop);
}

void sim_socket_update(struct sim_socket *socket, bool arrived) {
    unsigned events = 0;
    if (readable(socket) && (socket->read_armed || (arrived && sim_one_in(socket->sim, socket->sim->options.spurious_one_in)))) {
        events |= HOST_READABLE;
        socket->read_armed = false;
    }
    if (socket->kind == SIM_CONNECTED && socket->write_armed && socket->error == 0 &&
        sim_stream_room(sim_socket_out(socket)) > 0) {
        events |= HOST_WRITABLE;
        socket->write_armed = false;
    }
    bool closed = socket->error != 0 || (socket->kind == SIM_CONNECTED && sim_socket_in(socket)->fin_delivered);
    if (closed && !socket->closed_told) {
        events |= HOST_CLOSED | (socket->kind == SIM_CONNECTED ? HOST_READABLE : 0u);
        socket->closed_told = true;
    }
    queue_events(socket, events);
}

void sim_socket_fail(struct sim_socket *socket, int error) {
    if (socket->error == 0)
        socket->error = error;
    sim_socket_update(socket, false);
}

unsigned sim_sockets_poll(struct sim_loop *loop) {
    unsigned count = 0;
    struct list ready; /* what becomes ready from inside waits for the next poll */
    list_init(&ready);
    list_splice_back(&ready, &loop->ready);
    for (struct list_node *node; (node = list_pop_front(&ready)) != NULL; count++) {
        struct sim_socket *socket = list_entry(node, struct sim_socket, on_ready);
        unsigned events = socket->pending;
        socket->pending = 0;
        sim_note(loop->process->sim, SIM_TRACE_READ, socket->id, events);
        socket->event(socket->arg, events);
    }
    return count;
}

/* ---- life ---- */

static struct sim_socket *socket_create(struct sim_process *process, struct sim_loop *loop, enum sim_socket_kind kind) {
    struct sim *sim = process->sim;
    struct sim_socket *socket = sim_pool_take(&sim->sockets);
    socket->socket.host = &process->host;
    socket->sim = sim;
    socket->process = process;
    socket->node = process->node;
    socket->loop = loop;
    socket->kind = kind;
    socket->read_armed = true;
    socket->id = ++sim->next_id;
    list_init(&socket->accept_queue);
    list_push_back(&process->sockets, &socket->of_process);
    process->socket_count++;
    if (loop != NULL)
        loop->socket_count++;
    return socket;
}

void sim_socket_free(struct sim_socket *socket) {
    if (list_linked(&socket->on_ready))
        list_remove(&socket->on_ready);
    if (list_linked(&socket->of_node))
        list_remove(&socket->of_node);
    if (list_linked(&socket->queued))
        list_remove(&socket->queued);
    else
        socket->process->socket_count--;
    if (socket->loop != NULL)
        socket->loop->socket_count--;
    list_remove(&socket->of_process);
    sim_pool_give(&socket->sim->sockets, socket);
}

static bool over_limit(const struct sim_process *process) {
    return process->socket_limit != 0 && process->socket_count >= process->socket_limit;
}

/* ---- addresses ---- */

static bool is_numeric(const struct host_address *address) {
    const char *allowed = address->family == HOST_IPV4 ? "0123456789." : "0123456789abcdefABCDEF:.";
    size_t length = strlen(address->text);
    return length > 0 && strspn(address->text, allowed) == length &&
           strchr(address->text, address->family == HOST_IPV4 ? '.' : ':');
}

static bool is_any(const char *text) { return strcmp(text, "0.0.0.0") == 0 || strcmp(text, "::") == 0; }
static bool is_loopback(const char *text) { return strncmp(text, "127.", 4) == 0 || strcmp(text, "::1") == 0; }

static bool node_has(const struct sim_node *node, const char *text) {
    for (uint32_t i = 0; i < node->address_count; i++)
        if (strcmp(node->addresses[i], text) == 0)
            return true;
    return is_loopback(text);
}

static const char *describe(const struct host_address *address, char *to, size_t size) {
    if (address->family == HOST_UNIX)
        snprintf(to, size, "%s", address->text);
    else
        snprintf(to, size, address->family == HOST_IPV6 ? "[%s]:%u" : "%s:%u", address->text, address->port);
    return to;
}

struct sim_socket *sim_listener_find(struct sim_node *node, const struct host_address *address) {
    list_for_each (&node->listeners, struct sim_socket, listener, of_node) {
        const struct host_address *local = &listener->local;
        if (local->family == address->family && local->port == address->port &&
            (strcmp(local->text, address->text) == 0 || (local->family != HOST_UNIX && is_any(local->text))))
            return listener;
    }
    return NULL;
}

static bool port_taken(struct sim_node *node, const struct host_address *address) {
    list_for_each (&node->listeners, struct sim_socket, listener, of_node) {
        const struct host_address *local = &listener->local;
        if (local->family == address->family && local->port == address->port &&
            (strcmp(local->text, address->text) == 0 || is_any(local->text) || is_any(address->text)))
            return true;
    }
    return false;
}

static uint16_t next_port(struct sim_node *node) {
    uint16_t port = node->next_port++;
    if (node->next_port == 0)
        node->next_port = 32768;
    return port;
}

struct host_socket *sim_host_listen(struct host_loop *host_loop, const struct host_address *address, host_socket_event event,
                                    void *arg, struct error *error) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim_node *node = loop->process->node;
    char text[160];
    sim_assert_on(loop);
    int problem = 0;
    struct host_address local = *address;
    if (local.family != HOST_UNIX) {
        if (!is_numeric(&local))
            problem = EINVAL;
        else if (!is_any(local.text) && !node_has(node, local.text))
            problem = EADDRNOTAVAIL;
        while (problem == 0 && address->port == 0 && (local.port == 0 || port_taken(node, &local)))
            local.port = next_port(node);
    }
    if (problem == 0 && port_taken(node, &local))
        problem = EADDRINUSE;
    if (problem == 0 && over_limit(loop->process))
        problem = EMFILE;
    if (problem != 0) {
        error_set_errno(error, problem, "listening on %s", describe(address, text, sizeof(text)));
        return NULL;
    }
    struct sim_socket *socket = socket_create(loop->process, loop, SIM_LISTENER);
    socket->event = event;
    socket->arg = arg;
    socket->local = local;
    list_push_back(&node->listeners, &socket->of_node);
    return &socket->socket;
}

struct sim_socket *sim_socket_embryo(struct sim_socket *listener, struct sim_connection *connection) {
    struct sim_socket *socket = socket_create(listener->process, NULL, SIM_CONNECTED);
    listener->process->socket_count--; /* counted when it is accepted */
    socket->connection = connection;
    socket->side = 1;
    socket->local = connection->server_address;
    list_push_back(&listener->accept_queue, &socket->queued);
    listener->accept_count++;
    return socket;
}

struct host_socket *sim_host_accept(struct host_socket *host_listener, struct host_address *ret_peer, int *ret_errno) {
    struct sim_socket *listener = sim_socket_of(host_listener);
    sim_assert_on(listener->loop);
    if (list_empty(&listener->accept_queue)) {
        listener->read_armed = true;
        *ret_errno = -EAGAIN;
        return NULL;
    }
    if (over_limit(listener->process)) {
        *ret_errno = -EMFILE;
        return NULL;
    }
    struct sim_socket *socket = list_entry(list_pop_front(&listener->accept_queue), struct sim_socket, queued);
    listener->accept_count--;
    listener->process->socket_count++;
    if (ret_peer != NULL)
        *ret_peer = socket->connection->client_address;
    *ret_errno = 0;
    return &socket->socket;
}

struct host_socket *sim_host_connect(struct host_loop *host_loop, const struct host_address *to, const struct host_address *from,
                                     host_socket_event event, void *arg, struct error *error) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim_node *node = loop->process->node;
    char text[160];
    sim_assert_on(loop);
    int problem = 0;
    if (to->family != HOST_UNIX && (!is_numeric(to) || to->port == 0))
        problem = EINVAL;
    else if (from != NULL && to->family != HOST_UNIX && (!is_numeric(from) || !node_has(node, from->text)))
        problem = EADDRNOTAVAIL;
    else if (over_limit(loop->process))
        problem = EMFILE;
    if (problem != 0) {
        error_set_errno(error, problem, "connecting to %s", describe(to, text, sizeof(text)));
        return NULL;
    }
    sim_process_effect(loop->process);
    struct sim_socket *socket = socket_create(loop->process, loop, SIM_CONNECTING);
    socket->event = event;
    socket->arg = arg;
    socket->write_armed = true;
    socket->local = (struct host_address){.family = to->family};
    if (to->family != HOST_UNIX) {
        socket->local.port = from != NULL && from->port != 0 ? from->port : next_port(node);
        const char *source = from != NULL ? from->text : is_loopback(to->text) ? to->text : node->addresses[0];
        snprintf(socket->local.text, sizeof(socket->local.text), "%s", source);
    }
    sim_connection_begin(sim_connection_create(socket, to));
    return &socket->socket;
}

int sim_host_socket_error(struct host_socket *socket) { return sim_socket_of(socket)->error; }
void sim_host_socket_local(struct host_socket *socket, struct host_address *ret_address) {
    *ret_address = sim_socket_of(socket)->local;
}

/* ---- data ---- */

int64_t sim_host_socket_read(struct host_socket *host_socket, const struct slice *slices, uint32_t count) {
    struct sim_socket *socket = sim_socket_of(host_socket);
    assert(socket->kind != SIM_LISTENER);
    sim_assert_on(socket->loop);
    uint64_t want = slice_total(slices, count);
    if (socket->kind == SIM_CONNECTED && sim_socket_in(socket)->delivered > sim_socket_in(socket)->read) {
        uint64_t taken = sim_stream_take(sim_socket_in(socket), slices, count, want);
        socket->read_armed |= taken < want;
        return (int64_t)taken;
    }
    if (socket->error != 0)
        return socket->error;
    if (socket->kind == SIM_CONNECTED && sim_socket_in(socket)->fin_delivered)
        return 0;
    socket->read_armed = true;
    return -EAGAIN;
}

int64_t sim_host_socket_write(struct host_socket *host_socket, const struct slice *slices, uint32_t count) {
    struct sim_socket *socket = sim_socket_of(host_socket);
    assert(socket->kind != SIM_LISTENER);
    sim_assert_on(socket->loop);
    if (socket->error != 0)
        return socket->error == -ECONNRESET ? -EPIPE : socket->error;
    uint64_t length = slice_total(slices, count);
    uint64_t room = socket->kind == SIM_CONNECTED ? sim_stream_room(sim_socket_out(socket)) : 0;
    if (room == 0 && length > 0) {
        socket->write_armed = true;
        return -EAGAIN;
    }
    sim_process_effect(socket->process);
    uint64_t part = min_u64(room, length);
    if (part > 1 && sim_one_in(socket->sim, sim_stream_link(sim_socket_out(socket))->options.short_write_one_in))
        part = 1 + random_below(&socket->sim->random, part);
    return sim_stream_put(sim_socket_out(socket), slices, count, part);
}

/* ---- hand-over and end ---- */

void sim_host_socket_detach(struct host_socket *host_socket) {
    struct sim_socket *socket = sim_socket_of(host_socket);
    assert(socket->loop != NULL);
    sim_assert_on(socket->loop);
    socket->loop->socket_count--;
    if (list_linked(&socket->on_ready))
        list_remove(&socket->on_ready);
    if ((socket->pending & HOST_WRITABLE) != 0) /* not told yet: the new loop must hear it */
        socket->write_armed = true;
    socket->loop = NULL;
}

int sim_host_socket_attach(struct host_socket *host_socket, struct host_loop *host_loop, host_socket_event event, void *arg) {
    struct sim_socket *socket = sim_socket_of(host_socket);
    struct sim_loop *loop = sim_loop_of(host_loop);
    assert(socket->loop == NULL && loop->process == socket->process);
    sim_assert_on(loop);
    socket->loop = loop;
    loop->socket_count++;
    socket->event = event;
    socket->arg = arg;
    socket->pending = 0;
    socket->read_armed = true;
    socket->closed_told = false;
    sim_socket_update(socket, false);
    return 0;
}

static void listener_close(struct sim_socket *listener, void (*end)(struct sim_connection *connection, unsigned side)) {
    for (struct list_node *node; (node = list_first(&listener->accept_queue)) != NULL;) {
        struct sim_socket *socket = list_entry(node, struct sim_socket, queued);
        struct sim_connection *connection = socket->connection;
        connection->sockets[1] = NULL;
        sim_socket_free(socket);
        end(connection, 1);
    }
}

static void socket_end(struct host_socket *host_socket, void (*end)(struct sim_connection *connection, unsigned side)) {
    struct sim_socket *socket = sim_socket_of(host_socket);
    sim_process_effect(socket->process);
    struct sim_connection *connection = socket->connection;
    unsigned side = socket->side;
    sim_note(socket->sim, SIM_TRACE_CLOSE, socket->id, 0);
    if (socket->loop != NULL)
        sim_assert_on(socket->loop);
    if (socket->kind == SIM_LISTENER) {
        listener_close(socket, end);
        sim_socket_free(socket);
        return;
    }
    connection->sockets[side] = NULL;
    sim_socket_free(socket);
    end(connection, side);
}

void sim_host_socket_close(struct host_socket *host_socket) { socket_end(host_socket, sim_connection_close); }
void sim_host_socket_reset(struct host_socket *host_socket) {
    bool plain = sim_socket_of(host_socket)->local.family == HOST_UNIX;
    socket_end(host_socket, plain ? sim_connection_close : sim_connection_abort);
}

static void vanish_silent(struct sim_connection *connection, unsigned side) { sim_connection_vanish(connection, side, true); }

void sim_sockets_abandon(struct sim_process *process, enum sim_kill how) {
    void (*end)(struct sim_connection *, unsigned) = how == SIM_KILL_CLOSE ? sim_connection_close : vanish_silent;
    while (!list_empty(&process->sockets)) {
        struct sim_socket *socket = list_entry(list_first(&process->sockets), struct sim_socket, of_process);
        struct sim_connection *connection = socket->connection;
        unsigned side = socket->side;
        if (socket->kind == SIM_LISTENER)
            listener_close(socket, end);
        if (connection != NULL)
            connection->sockets[side] = NULL;
        sim_socket_free(socket);
        if (connection != NULL)
            end(connection, side);
    }
}
