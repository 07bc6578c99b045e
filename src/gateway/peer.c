/* Calls of other nodes' penstockd, or of this one: the same service, at the port where peers look for it, under TLS if this
 * node's own is. A connection is kept for each address that was ever asked, up to a limit. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/internal.h"
#include "grpc/channel.h"
#include "wire/tls/tls.h"

/* A node that lost its power and is back knows nothing of a connection of before, and may not say so: what is asked there is not
 * answered until the connection is given up, two questions (fleet.c) later at most. */
enum { PEERS_MAX = 256, PEER_SILENCE_S = 4, PEER_PONG_S = 5, RECONNECT_MAX_MS = 500 };

struct gateway_peer {
    struct list_node node;
    struct host_address address;
    struct tls_context *tls; /* NULL = plain */
    struct grpc_channel *channel;
};

static void peer_destroy(struct gateway_peer *take_peer) {
    if (take_peer->channel != NULL)
        grpc_channel_destroy(take_peer->channel);
    tls_context_destroy(take_peer->tls);
    free(take_peer);
}

/* A peer is asked nothing before its certificate says that it is who was meant. */
static bool set_up(struct gateway *gateway, struct gateway_peer *peer) {
    const struct gateway_options *options = &gateway->options;
    struct grpc_limits limits = grpc_limits_default;
    struct grpc_channel_options channel = {.reactor = options->control->options.reactor,
                                           .address = peer->address,
                                           .limits = &limits,
                                           .reconnect_max_ms = RECONNECT_MAX_MS};
    limits.silence_ns = PEER_SILENCE_S * NS_PER_S;
    limits.pong_ns = PEER_PONG_S * NS_PER_S;
    if (options->tls != NULL) {
        peer->tls = tls_context_for(options->tls, options->tls_node_name != NULL ? options->tls_node_name : peer->address.text);
        if (peer->tls == NULL)
            return false;
        channel.tls = peer->tls;
    }
    peer->channel = grpc_channel_create(&channel);
    return peer->channel != NULL;
}

static struct gateway_peer *find_peer(struct gateway *gateway, const struct host_address *address) {
    unsigned count = 0;
    list_for_each (&gateway->peers, struct gateway_peer, peer, node) {
        count++;
        if (strcmp(peer->address.text, address->text) == 0)
            return peer;
    }
    struct gateway_peer *peer = count == PEERS_MAX ? NULL : calloc(1, sizeof(*peer));
    if (peer == NULL)
        return NULL;
    peer->address = *address;
    if (!set_up(gateway, peer)) {
        peer_destroy(peer);
        return NULL;
    }
    list_push_back(&gateway->peers, &peer->node);
    return peer;
}

static bool make_address(const struct gateway *gateway, const char *ip, size_t length, struct host_address *ret_address) {
    if (length == 0 || length >= sizeof(ret_address->text))
        return false;
    *ret_address =
        (struct host_address){.family = memchr(ip, ':', length) != NULL ? HOST_IPV6 : HOST_IPV4, .port = GATEWAY_PEER_PORT};
    memcpy(ret_address->text, ip, length);
    if (strcmp(ret_address->text, gateway->options.address) == 0 && gateway->options.port != 0)
        ret_address->port = gateway->options.port;
    return true;
}

/* Of "IP:PORT" only the IP says where the node is. */
static bool read_address(const struct gateway *gateway, const char *text, struct host_address *ret_address) {
    const char *begin = text[0] == '[' ? text + 1 : text, *end = strrchr(text, ':');
    if (end != NULL && end > begin && end[-1] == ']')
        end--;
    return end != NULL && end > begin && make_address(gateway, begin, (size_t)(end - begin), ret_address);
}

static void got(struct grpc_call *call, const ProtobufCMessage *message) {
    struct gateway_ask *ask = call->arg;
    free(ask->bytes);
    ask->length = protobuf_c_message_get_packed_size(message);
    ask->bytes = malloc(ask->length + 1);
    if (ask->bytes != NULL)
        protobuf_c_message_pack(message, ask->bytes);
}

static void finish(struct gateway_ask *ask, enum grpc_status status, const char *text) {
    ProtobufCMessage *answer =
        status == GRPC_OK && ask->bytes != NULL ? protobuf_c_message_unpack(ask->receives, NULL, ask->length, ask->bytes) : NULL;
    if (answer == NULL && status == GRPC_OK)
        status = GRPC_INTERNAL;
    snprintf(ask->text, sizeof(ask->text), "%.255s", text);
    ask->status = status;
    free(ask->bytes);
    ask->bytes = NULL;
    ask->done(ask, answer);
    if (answer != NULL)
        protobuf_c_message_free_unpacked(answer, NULL);
}

static void done(struct grpc_call *call) {
    struct gateway_ask *ask = call->arg;
    char text[sizeof(ask->text)];
    snprintf(text, sizeof(text), "%.255s", call->text);
    finish(ask, call->status, text);
}

static void run_failed(struct reactor_job *job) {
    finish(container_of(job, struct gateway_ask, job), GRPC_UNAVAILABLE,
           "the node's address is none, too many are asked, or the daemon is ending");
}

/* NULL: nowhere. */
static void ask_at(struct gateway *gateway, struct gateway_ask *ask, const struct host_address *to, const char *method,
                   const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    struct gateway_peer *peer = to == NULL || gateway->stopping ? NULL : find_peer(gateway, to);
    ask->receives = receives;
    ask->bytes = NULL;
    snprintf(ask->path, sizeof(ask->path), method[0] == '/' ? "%s" : "/" GATEWAY_SERVICE "/%s", method);
    if (peer == NULL) {
        ask->job.run = run_failed;
        reactor_defer(gateway->options.control->options.reactor, &ask->job);
        return;
    }
    grpc_channel_prepare(peer->channel, &ask->call, GRPC_UNARY, ask->path, receives, timeout_ms);
    ask->call.wait_attempt = true; /* the node may be back */
    ask->call.call.arg = ask;
    ask->call.call.message = got;
    ask->call.call.done = done;
    (void)grpc_call_send(&ask->call.call, request);
    grpc_channel_start(peer->channel, &ask->call);
}

void gateway_ask(struct gateway *gateway, struct gateway_ask *ask, const char *address, const char *method,
                 const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    struct host_address to;
    ask_at(gateway, ask, read_address(gateway, address, &to) ? &to : NULL, method, request, receives, timeout_ms);
}

void gateway_ask_node(struct gateway *gateway, struct gateway_ask *ask, const char *node, const char *method,
                      const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    struct host_address to;
    ask_at(gateway, ask, make_address(gateway, node, strlen(node), &to) ? &to : NULL, method, request, receives, timeout_ms);
}

void gateway_peers_end(struct gateway *gateway) {
    while (!list_empty(&gateway->peers))
        peer_destroy(list_entry(list_pop_front(&gateway->peers), struct gateway_peer, node));
}
