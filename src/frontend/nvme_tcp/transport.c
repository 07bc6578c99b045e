/* Listeners, and the list of all connections. Control reactor. */
#include "frontend/nvme_tcp/connection.h"

#include <errno.h>
#include <stdlib.h>

#define ACCEPT_RETRY_MS 100 /* after descriptors ran out */
#define ACCEPTS_A_TURN 64

static void listener_accept(struct tcp_listener *listener) {
    struct tcp_transport *transport = listener->transport;
    struct reactor *control = transport->control;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        struct host_address peer = {0};
        int problem = 0;
        struct host_socket *socket = host_accept(listener->socket, &peer, &problem);
        if (socket == NULL && problem == -EAGAIN)
            return;
        if (socket == NULL) { /* out of descriptors or memory, or a connection that died in the queue */
            reactor_timer_start(control, &listener->retry_timer, reactor_now_ns(control) + ACCEPT_RETRY_MS * NS_PER_MS);
            return;
        }
        if (transport->connection_count >= transport->base.options.connections ||
            transport->stranger_count >= NVME_TCP_LIMIT_STRANGERS)
            host_socket_close(socket);
        else
            tcp_connection_create(listener, socket, &peer);
    }
    reactor_timer_start(control, &listener->retry_timer, reactor_now_ns(control));
}

static void on_retry(struct reactor_timer *timer) { listener_accept(container_of(timer, struct tcp_listener, retry_timer)); }
static void on_listener(void *arg, unsigned events) {
    (void)events;
    listener_accept(arg);
}

static bool on_listen(struct nvme_transport *base, const struct nvme_listen_address *address, void **ret_socket,
                      uint16_t *ret_port, struct error *error) {
    struct tcp_transport *transport = container_of(base, struct tcp_transport, base);
    struct tcp_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a listener");
    struct host_address at = {.family = address->family == NVME_FAMILY_IPV6 ? HOST_IPV6 : HOST_IPV4, .port = address->port};
    memcpy(at.text, address->address, strlen(address->address) + 1);
    listener->transport = transport;
    listener->address = *address;
    listener->retry_timer.run = on_retry;
    listener->socket = host_listen(transport->control->loop, &at, on_listener, listener, error);
    if (listener->socket == NULL) {
        free(listener);
        return false;
    }
    host_socket_local(listener->socket, &at);
    *ret_port = listener->address.port = at.port;
    *ret_socket = listener;
    list_push_back(&transport->listeners, &listener->node);
    return true;
}

/* Those not through Connect go with their listener (NULL: all of them). */
static void strangers_doom(struct tcp_transport *transport, const struct tcp_listener *listener) {
    list_for_each_safe (&transport->connections, struct tcp_connection, connection, node)
        if (connection->stranger && (listener == NULL || connection->queue.listener == listener))
            tcp_connection_doom(connection, false);
}

static void on_unlisten(struct nvme_transport *base, void *socket) {
    struct tcp_transport *transport = container_of(base, struct tcp_transport, base);
    struct tcp_listener *listener = socket;
    strangers_doom(transport, listener);
    reactor_timer_stop(transport->control, &listener->retry_timer);
    list_remove(&listener->node);
    host_socket_close(listener->socket);
    free(listener);
}

static void transport_try_finish(struct tcp_transport *transport) {
    if (!transport->stopping || transport->connection_count > 0)
        return;
    nvme_transport_gone(&transport->base);
    free(transport);
}

static void on_stop(struct nvme_transport *base) {
    struct tcp_transport *transport = container_of(base, struct tcp_transport, base);
    transport->stopping = true;
    assert(list_empty(&transport->listeners));
    strangers_doom(transport, NULL);
    transport_try_finish(transport);
}

void tcp_transport_forget(struct tcp_connection *connection) {
    struct tcp_transport *transport = connection->transport;
    list_remove(&connection->node);
    transport->connection_count--;
    transport->stranger_count -= connection->stranger;
    transport_try_finish(transport);
}

static const struct nvme_transport_ops transport_ops = {
    .name = "TCP", .type = NVME_TRANSPORT_TCP, .listen = on_listen, .unlisten = on_unlisten, .stop = on_stop};

bool nvme_tcp_transport_create(struct nvme_target *target, struct reactor *control, const struct nvme_transport_options *options,
                               struct error *error) {
    struct nvme_transport_options complete = *options;
    if (!nvme_transport_options_complete(&complete, error))
        return false;
    struct tcp_transport *transport = calloc(1, sizeof(*transport));
    if (transport == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the transport");
    transport->base.ops = &transport_ops;
    transport->base.options = complete;
    transport->control = control;
    list_init(&transport->listeners);
    list_init(&transport->connections);
    if (nvme_target_add_transport(target, &transport->base, error))
        return true;
    free(transport);
    return false;
}
