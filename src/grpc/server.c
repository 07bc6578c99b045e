#include "grpc/server.h"

#include <errno.h>
#include <stdlib.h>

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after descriptors ran out */
#define ACCEPTS_A_TURN 64
#define STOP_LOOK_NS (10 * NS_PER_MS) /* at handlers that still have a lost call */

enum stop_state { STOP_DRAINING, STOP_ENDING, STOP_WAITING, STOP_DONE, STOP_STATES };
static const char *const stop_names[STOP_STATES] = {"draining", "ending", "waiting", "done"};
static const uint64_t stop_moves[STOP_STATES] = {
    [STOP_DRAINING] = TASK_MOVE(STOP_ENDING) | TASK_MOVE(STOP_WAITING),
    [STOP_ENDING] = TASK_MOVE(STOP_WAITING),
    [STOP_WAITING] = TASK_MOVE(STOP_DONE),
};

struct grpc_server {
    struct reactor *reactor;
    struct grpc_limits limits;
    struct grpc_core core;
    struct grpc_scratch *scratch;
    struct list listeners;
    uint32_t connections_max, strangers_max;
    uint64_t accepted, refused, evicted;
    struct task stop;
    struct reactor_timer look; /* while stopping */
    uint64_t force_ns;         /* when connections that do not go are closed */
    void (*stopped)(void *arg);
    void *stopped_arg;
    bool stopping;
};

struct grpc_listener {
    struct grpc_server *server;
    struct list_node node;
    struct list transports;
    unsigned count;
    struct host_socket *socket; /* NULL: stopping */
    struct tls_context *tls;
    struct reactor_timer retry;
};

/* ---- connections ---- */

static void transport_close(struct grpc_transport *t) {
    struct grpc_listener *listener = t->arg;
    list_remove(&t->node);
    listener->count--;
    grpc_transport_destroy(t);
    if (listener->server->stopping)
        task_wake(&listener->server->stop);
}

static void on_closed(struct grpc_transport *t, const char *why) {
    (void)why;
    transport_close(t);
}

static bool is_stranger(const struct grpc_transport *t) { return !t->is_established || !t->connection.http2.established; }

/* Who goes when there are too many: the oldest stranger, if it is for them; else the longest without a call. NULL = nobody. */
static struct grpc_transport *choose_victim(struct grpc_listener *listener, bool stranger) {
    struct grpc_transport *victim = NULL;
    list_for_each (&listener->transports, struct grpc_transport, t, node) { /* in the order of coming */
        if (is_stranger(t) && stranger)
            return t;
        bool idle = t->connection.call_count == 0;
        if (!stranger && idle && (victim == NULL || t->last_call_ns < victim->last_call_ns))
            victim = t;
    }
    return victim;
}

/* Makes place for one more. False: there is none. */
static bool make_place(struct grpc_listener *listener) {
    struct grpc_server *server = listener->server;
    unsigned strangers = 0;
    struct grpc_transport *victim = NULL;
    list_for_each (&listener->transports, struct grpc_transport, t, node)
        strangers += is_stranger(t);
    if (strangers >= server->strangers_max)
        victim = choose_victim(listener, true);
    else if (listener->count < server->connections_max)
        return true;
    else if (strangers > 0)
        victim = choose_victim(listener, true);
    else
        victim = choose_victim(listener, false);
    if (victim == NULL)
        return false;
    server->evicted++;
    transport_close(victim);
    return true;
}

static void accept_one(struct grpc_listener *listener, struct host_socket *take_socket) {
    struct grpc_server *server = listener->server;
    struct grpc_transport_options options = {.reactor = server->reactor,
                                             .scratch = server->scratch,
                                             .tls = listener->tls,
                                             .limits = &server->limits,
                                             .core = &server->core,
                                             .closed = on_closed,
                                             .arg = listener};
    struct grpc_transport *t = NULL;
    if (make_place(listener))
        t = grpc_transport_accept(&options, take_socket);
    else
        host_socket_close(take_socket);
    if (t == NULL) {
        server->refused++;
        return;
    }
    list_push_back(&listener->transports, &t->node);
    listener->count++;
    server->accepted++;
}

static void accept_more(struct grpc_listener *listener) {
    struct reactor *reactor = listener->server->reactor;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        int error = 0;
        struct host_address peer;
        struct host_socket *socket = host_accept(listener->socket, &peer, &error);
        if (socket == NULL && error == -EAGAIN)
            return;
        if (socket == NULL) {
            reactor_timer_start(reactor, &listener->retry, reactor_now_ns(reactor) + ACCEPT_RETRY_NS);
            return;
        }
        accept_one(listener, socket);
    }
    reactor_timer_start(reactor, &listener->retry, reactor_now_ns(reactor));
}

static void on_retry(struct reactor_timer *timer) { accept_more(container_of(timer, struct grpc_listener, retry)); }
static void on_listener(void *arg, unsigned events) {
    (void)events;
    accept_more(arg);
}

/* ---- memory ---- */

/* When all together hold too much, the greediest connection goes, so that it cannot starve the others. Not from inside one. */
static void relieve(struct reactor_timer *timer) {
    struct grpc_server *server = container_of(timer, struct grpc_server, look);
    struct grpc_transport *greediest = NULL;
    if (server->stopping) {
        task_wake(&server->stop);
        return;
    }
    list_for_each (&server->listeners, struct grpc_listener, listener, node)
        list_for_each (&listener->transports, struct grpc_transport, t, node)
            if (greediest == NULL || t->connection.memory.used > greediest->connection.memory.used)
                greediest = t;
    if (greediest == NULL || greediest->connection.memory.used < server->core.memory.limit / server->connections_max)
        return;
    server->evicted++;
    transport_close(greediest);
}

static void on_memory_refused(struct budget *budget) {
    struct grpc_server *server = container_of(budget, struct grpc_server, core.memory);
    if (!server->stopping && !reactor_timer_armed(&server->look))
        reactor_timer_start(server->reactor, &server->look, reactor_now_ns(server->reactor));
}

/* ---- life ---- */

struct grpc_server *grpc_server_create(const struct grpc_server_options *options) {
    struct grpc_server *server = calloc(1, sizeof(*server));
    struct grpc_scratch *scratch = malloc(sizeof(*scratch));
    if (server == NULL || scratch == NULL) {
        free(server);
        free(scratch);
        return NULL;
    }
    server->scratch = scratch;
    server->reactor = options->reactor;
    server->limits = options->limits != NULL ? *options->limits : grpc_limits_default;
    server->connections_max = options->connections != 0 ? options->connections : GRPC_DEFAULT_CONNECTIONS;
    server->strangers_max =
        options->strangers != 0 ? options->strangers : max_u32(server->connections_max / GRPC_STRANGERS_SHARE, 1);
    server->look.run = relieve;
    list_init(&server->listeners);
    grpc_core_init(&server->core, options->memory_bytes != 0 ? options->memory_bytes : GRPC_DEFAULT_SERVER_BYTES,
                   GRPC_DEFAULT_LOST_CALLS);
    server->core.memory.refused = on_memory_refused;
    return server;
}

bool grpc_server_add(struct grpc_server *server, const struct grpc_service *service, void *service_arg) {
    return grpc_core_add(&server->core, service, service_arg);
}

bool grpc_server_listen(struct grpc_server *server, const struct grpc_listen_options *options, uint16_t *ret_port,
                        struct error *error) {
    struct grpc_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a listener on %s", options->address.text);
    listener->server = server;
    listener->tls = options->tls;
    listener->retry.run = on_retry;
    list_init(&listener->transports);
    listener->socket = host_listen(server->reactor->loop, &options->address, on_listener, listener, error);
    if (listener->socket == NULL) {
        free(listener);
        return false;
    }
    list_push_back(&server->listeners, &listener->node);
    struct host_address actual;
    host_socket_local(listener->socket, &actual);
    if (ret_port != NULL)
        *ret_port = actual.port;
    return true;
}

void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *ret_stats) {
    *ret_stats = (struct grpc_server_stats){.accepted = server->accepted,
                                            .refused = server->refused,
                                            .evicted = server->evicted,
                                            .calls = server->core.calls_started,
                                            .lost_calls = server->core.lost_calls,
                                            .memory_bytes = server->core.memory.used};
    list_for_each (&server->listeners, struct grpc_listener, listener, node) {
        ret_stats->connections += listener->count;
        list_for_each (&listener->transports, struct grpc_transport, t, node)
            ret_stats->calls_now += t->connection.call_count;
    }
}

/* ---- the end ---- */

static unsigned count_connections(const struct grpc_server *server) {
    unsigned count = 0;
    list_for_each (&server->listeners, struct grpc_listener, listener, node)
        count += listener->count;
    return count;
}

static void each_transport(struct grpc_server *server, void (*act)(struct grpc_transport *t)) {
    list_for_each (&server->listeners, struct grpc_listener, listener, node)
        list_for_each_safe (&listener->transports, struct grpc_transport, t, node)
            act(t);
}

static void drain_one(struct grpc_transport *t) {
    if (is_stranger(t))
        transport_close(t);
    else
        grpc_connection_drain(&t->connection);
}

static void end_one(struct grpc_transport *t) {
    grpc_connection_end_calls(&t->connection, "the server ends");
    grpc_transport_wake(t);
}

static void stop_step(struct task *task) {
    struct grpc_server *server = container_of(task, struct grpc_server, stop);
    uint64_t now_ns = reactor_now_ns(server->reactor);
    switch ((enum stop_state)task->state) {
    case STOP_DRAINING:
        if (count_connections(server) == 0)
            task_move(task, STOP_WAITING);
        else if (task->expired)
            task_move(task, STOP_ENDING);
        break;
    case STOP_ENDING: /* what can still be answered is; the rest of the time is for the last bytes */
        each_transport(server, end_one);
        server->force_ns = now_ns + GRPC_LINGER_MS * NS_PER_MS;
        task_move(task, STOP_WAITING);
        break;
    case STOP_WAITING:
        if (server->force_ns != 0 && now_ns >= server->force_ns)
            each_transport(server, transport_close);
        if (count_connections(server) == 0 && server->core.lost_calls == 0)
            task_move(task, STOP_DONE);
        else
            reactor_timer_start(server->reactor, &server->look, now_ns + STOP_LOOK_NS);
        break;
    case STOP_DONE: task_end(task); break;
    case STOP_STATES: break;
    }
}

static void stop_end(struct task *task) {
    struct grpc_server *server = container_of(task, struct grpc_server, stop);
    reactor_timer_stop(server->reactor, &server->look);
    server->stopped(server->stopped_arg);
}

static const struct task_type stop_type = {.name = "grpc_server_stop",
                                           .state_names = stop_names,
                                           .state_count = STOP_STATES,
                                           .moves = stop_moves,
                                           .step = stop_step,
                                           .end = stop_end};

static void listener_silence(struct grpc_listener *listener) {
    if (listener->socket != NULL)
        host_socket_close(listener->socket);
    listener->socket = NULL;
    reactor_timer_stop(listener->server->reactor, &listener->retry);
}

void grpc_server_stop(struct grpc_server *server, uint64_t grace_ms, void (*stopped)(void *arg), void *arg) {
    assert(!server->stopping);
    server->stopped = stopped;
    server->stopped_arg = arg;
    list_for_each (&server->listeners, struct grpc_listener, listener, node)
        listener_silence(listener);
    each_transport(server, drain_one);
    server->stopping = true;
    task_start(&server->stop, &stop_type, server->reactor, STOP_DRAINING, reactor_now_ns(server->reactor) + grace_ms * NS_PER_MS);
}

void grpc_server_destroy(struct grpc_server *server) {
    list_for_each_safe (&server->listeners, struct grpc_listener, listener, node) {
        assert(listener->count == 0);
        listener_silence(listener);
        list_remove(&listener->node);
        free(listener);
    }
    grpc_core_fini(&server->core);
    free(server->scratch);
    free(server);
}
