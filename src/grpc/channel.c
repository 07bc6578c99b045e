#include "grpc/channel.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"

struct grpc_channel {
    struct reactor *reactor;
    struct grpc_limits limits;
    struct grpc_scratch *scratch;
    struct budget memory;
    struct host_address address;
    char authority[128];
    struct tls_context *tls;
    struct grpc_transport *current; /* takes new calls, or will */
    bool ready;                     /* current does */
    uint64_t connections;           /* established so far */
    struct list leaving;            /* transports that only finish their calls */
    struct list waiting;            /* calls without a connection */
    struct reactor_job job;
    bool queued, destroyed;
    struct reactor_timer timer;
    uint64_t retry_ns;   /* no attempt before */
    uint64_t backoff_ms; /* the next pause; 0 = none so far */
    uint64_t backoff_max_ms;
    uint64_t attempts; /* to connect, begun so far */
    struct random random;
    char why[192]; /* the last attempt failed; "" = it did not */
};

static void look_soon(struct grpc_channel *channel) {
    if (channel->queued)
        return;
    channel->queued = true;
    reactor_defer(channel->reactor, &channel->job);
}

/* ---- the connection ---- */

static void failed(struct grpc_channel *channel, const char *why) {
    uint64_t now_ns = reactor_now_ns(channel->reactor);
    channel->backoff_ms =
        channel->backoff_ms == 0 ? GRPC_RECONNECT_MIN_MS : min_u64(channel->backoff_ms * 2, channel->backoff_max_ms);
    /* Four fifths to six fifths, so that those who lost a server together do not come back together. */
    channel->retry_ns = now_ns + channel->backoff_ms * NS_PER_MS / 5 * 4 +
                        random_below(&channel->random, channel->backoff_ms * NS_PER_MS / 5 * 2 + 1);
    snprintf(channel->why, sizeof(channel->why), "%s: %s", channel->authority, why);
    look_soon(channel);
}

static void on_closed(struct grpc_transport *t, const char *why) {
    struct grpc_channel *channel = t->arg;
    bool was_ready = t->is_established;
    if (t == channel->current) {
        channel->current = NULL;
        channel->ready = false;
        if (!was_ready || !t->connection.http2.established)
            failed(channel, why);
        else
            channel->backoff_ms = 0;
        look_soon(channel);
    } else {
        list_remove(&t->node);
    }
    grpc_transport_destroy(t);
}

static void on_established(struct grpc_transport *t) {
    struct grpc_channel *channel = t->arg;
    if (t != channel->current)
        return;
    channel->ready = true;
    channel->connections++;
    channel->why[0] = '\0';
    look_soon(channel);
}

static void connect_now(struct grpc_channel *channel) {
    struct error error;
    struct grpc_transport_options options = {.reactor = channel->reactor,
                                             .scratch = channel->scratch,
                                             .tls = channel->tls,
                                             .limits = &channel->limits,
                                             .authority = channel->authority,
                                             .closed = on_closed,
                                             .established = on_established,
                                             .arg = channel};
    channel->ready = false;
    channel->attempts++;
    channel->current = grpc_transport_connect(&options, &channel->address, &error);
    if (channel->current == NULL)
        failed(channel, error.text);
}

/* A connection that takes no more calls leaves its place to a new one. */
static void leave_current(struct grpc_channel *channel) {
    struct grpc_transport *t = channel->current;
    channel->current = NULL;
    channel->ready = false;
    list_push_back(&channel->leaving, &t->node);
    grpc_transport_wake(t);
}

/* ---- calls ---- */

static void stop_waiting(struct grpc_channel_call *call) { list_remove(&call->node); }

static void start_on_current(struct grpc_channel *channel, struct grpc_channel_call *call) {
    if (grpc_call_start(&channel->current->connection, &call->call, call->path, call->metadata, call->metadata_count)) {
        stop_waiting(call);
        return;
    }
    leave_current(channel);
}

static uint64_t expire_waiting(struct grpc_channel *channel, uint64_t now_ns) {
    uint64_t next_ns = UINT64_MAX;
    struct list due;
    list_init(&due);
    list_for_each_safe (&channel->waiting, struct grpc_channel_call, call, node) {
        bool hopeless = channel->why[0] != '\0' && channel->current == NULL && now_ns < channel->retry_ns && !call->wait_ready &&
                        (!call->wait_attempt || channel->attempts != call->attempts);
        if (now_ns >= call->call.deadline_ns || hopeless || call->call.broken != NULL) {
            list_remove(&call->node);
            list_push_back(&due, &call->node);
        } else {
            next_ns = min_u64(next_ns, call->call.deadline_ns);
        }
    }
    for (struct list_node *node; (node = list_pop_front(&due)) != NULL;) {
        struct grpc_channel_call *call = container_of(node, struct grpc_channel_call, node);
        if (call->call.broken != NULL)
            grpc_call_fail(&call->call, GRPC_RESOURCE_EXHAUSTED, call->call.broken);
        else if (now_ns >= call->call.deadline_ns)
            grpc_call_fail(&call->call, GRPC_DEADLINE_EXCEEDED, "the deadline passed before there was a connection");
        else
            grpc_call_fail(&call->call, GRPC_UNAVAILABLE, channel->why);
    }
    return next_ns;
}

/* Brings waiting calls and connection together. */
static void look(struct grpc_channel *channel) {
    uint64_t now_ns = reactor_now_ns(channel->reactor);
    if (channel->current != NULL && channel->ready && !grpc_connection_takes_calls(&channel->current->connection))
        leave_current(channel);
    uint64_t next_ns = expire_waiting(channel, now_ns);
    while (!list_empty(&channel->waiting) && channel->ready)
        start_on_current(channel, container_of(list_first(&channel->waiting), struct grpc_channel_call, node));
    if (!list_empty(&channel->waiting) && channel->current == NULL) {
        if (now_ns >= channel->retry_ns)
            connect_now(channel);
        else
            next_ns = min_u64(next_ns, channel->retry_ns);
    }
    if (next_ns != UINT64_MAX)
        reactor_timer_start(channel->reactor, &channel->timer, next_ns);
}

static void on_job(struct reactor_job *job) {
    struct grpc_channel *channel = container_of(job, struct grpc_channel, job);
    channel->queued = false;
    if (channel->destroyed)
        free(channel);
    else
        look(channel);
}

static void on_timer(struct reactor_timer *timer) { look(container_of(timer, struct grpc_channel, timer)); }

void grpc_channel_prepare(struct grpc_channel *channel, struct grpc_channel_call *call, enum grpc_kind kind, const char *path,
                          const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms) {
    uint64_t now_ns = reactor_now_ns(channel->reactor);
    struct grpc_call_options options = {.kind = kind,
                                        .receives = receives,
                                        .deadline_ns = timeout_ms == 0 ? UINT64_MAX : now_ns + timeout_ms * NS_PER_MS,
                                        .budget = &channel->memory};
    grpc_call_init(&call->call, &options);
    call->path = path;
    call->metadata = NULL;
    call->metadata_count = 0;
    call->wait_ready = call->wait_attempt = false;
    call->channel = channel;
    list_node_init(&call->node);
}

void grpc_channel_start(struct grpc_channel *channel, struct grpc_channel_call *call) {
    bool first = list_empty(&channel->waiting);
    call->attempts = channel->attempts;
    list_push_back(&channel->waiting, &call->node);
    if (channel->ready && first && call->call.broken == NULL &&
        grpc_connection_takes_calls(&channel->current->connection)) /* its clock may be old, as may be the deadline */
        channel->current->connection.now_ns = reactor_now_ns(channel->reactor), start_on_current(channel, call);
    else
        look_soon(channel);
}

void grpc_channel_cancel(struct grpc_channel_call *call) {
    if (list_linked(&call->node))
        stop_waiting(call);
    grpc_call_cancel(&call->call);
}

bool grpc_channel_is_connected(const struct grpc_channel *channel) { return channel->ready; }

uint64_t grpc_channel_connections(const struct grpc_channel *channel) { return channel->connections; }

/* ---- life ---- */

struct grpc_channel *grpc_channel_create(const struct grpc_channel_options *options) {
    struct grpc_channel *channel = calloc(1, sizeof(*channel));
    struct grpc_scratch *scratch = malloc(sizeof(*scratch));
    uint64_t seed;
    if (channel == NULL || scratch == NULL) {
        free(channel);
        free(scratch);
        return NULL;
    }
    channel->scratch = scratch;
    channel->reactor = options->reactor;
    channel->limits = options->limits != NULL ? *options->limits : grpc_limits_default;
    channel->address = options->address;
    channel->tls = options->tls;
    channel->backoff_max_ms = options->reconnect_max_ms != 0 ? options->reconnect_max_ms : GRPC_RECONNECT_MAX_MS;
    channel->job.run = on_job;
    channel->timer.run = on_timer;
    budget_init(&channel->memory, NULL, options->memory_bytes != 0 ? options->memory_bytes : GRPC_DEFAULT_SERVER_BYTES);
    host_random(channel->reactor->host, &seed, sizeof(seed));
    random_init(&channel->random, seed);
    list_init(&channel->waiting);
    list_init(&channel->leaving);
    if (options->authority != NULL)
        snprintf(channel->authority, sizeof(channel->authority), "%s", options->authority);
    else if (options->address.family == HOST_UNIX)
        snprintf(channel->authority, sizeof(channel->authority), "localhost");
    else
        snprintf(channel->authority, sizeof(channel->authority), options->address.family == HOST_IPV6 ? "[%s]:%u" : "%s:%u",
                 options->address.text, options->address.port);
    return channel;
}

void grpc_channel_destroy(struct grpc_channel *channel) {
    reactor_timer_stop(channel->reactor, &channel->timer);
    channel->ready = false;
    while (!list_empty(&channel->waiting)) {
        struct grpc_channel_call *call = container_of(list_pop_front(&channel->waiting), struct grpc_channel_call, node);
        grpc_call_fail(&call->call, GRPC_UNAVAILABLE, "the channel is closed");
    }
    if (channel->current != NULL)
        grpc_transport_destroy(channel->current);
    list_for_each_safe (&channel->leaving, struct grpc_transport, t, node) {
        list_remove(&t->node);
        grpc_transport_destroy(t);
    }
    free(channel->scratch);
    channel->destroyed = true;
    if (!channel->queued)
        free(channel);
}
