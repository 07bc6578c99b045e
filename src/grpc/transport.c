#include "grpc/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void note_why(struct grpc_transport *t, const char *why) {
    if (t->why[0] == '\0')
        snprintf(t->why, sizeof(t->why), "%s", why);
}

/* ---- out ---- */

/* Sends bytes, keeping what the socket does not take. False: the socket is dead, or there is no memory to keep them. */
static bool send_bytes(struct grpc_transport *t, const uint8_t *bytes, size_t length) {
    size_t sent = 0;
    while (sent < length && !t->blocked) {
        struct slice slice = {(uint8_t *)(uintptr_t)bytes + sent, length - sent};
        int64_t n = host_socket_write(t->socket, &slice, 1);
        if (n == -EAGAIN) {
            t->blocked = true;
            t->blocked_ns = reactor_now_ns(t->reactor);
        } else if (n < 0) {
            note_why(t, "the peer is gone");
            return false;
        } else {
            sent += (size_t)n;
        }
    }
    if (sent == length)
        return true;
    t->waiting = malloc(length - sent);
    if (t->waiting == NULL) {
        note_why(t, "no memory for what is to be sent");
        return false;
    }
    memcpy(t->waiting, bytes + sent, length - sent);
    t->waiting_length = length - sent;
    t->waiting_sent = 0;
    return true;
}

static bool send_waiting(struct grpc_transport *t) {
    uint8_t *bytes = t->waiting;
    size_t sent = t->waiting_sent, length = t->waiting_length;
    if (bytes == NULL)
        return true;
    while (sent < length && !t->blocked) {
        struct slice slice = {bytes + sent, length - sent};
        int64_t n = host_socket_write(t->socket, &slice, 1);
        if (n == -EAGAIN) {
            t->blocked = true;
            if (sent > t->waiting_sent || t->blocked_ns == 0)
                t->blocked_ns = reactor_now_ns(t->reactor);
        } else if (n < 0) {
            note_why(t, "the peer is gone");
            return false;
        } else {
            sent += (size_t)n;
        }
    }
    t->waiting_sent = sent;
    if (sent == length) {
        free(bytes);
        t->waiting = NULL;
        t->blocked_ns = 0;
    }
    return true;
}

/* The next bytes for the socket. False: TLS has failed. */
static bool next_output(struct grpc_transport *t, size_t *ret_length) {
    struct grpc_scratch *scratch = t->scratch;
    uint64_t now_ns = reactor_now_ns(t->reactor);
    if (t->tls == NULL) {
        *ret_length = grpc_connection_output(&t->connection, scratch->out, sizeof(scratch->out), now_ns);
        return true;
    }
    size_t length = tls_stream_output(t->tls, scratch->out, sizeof(scratch->out));
    if (length == 0 && tls_stream_established(t->tls)) {
        size_t plain = grpc_connection_output(&t->connection, scratch->plain, sizeof(scratch->plain), now_ns);
        if (plain > 0 && !tls_stream_write(t->tls, scratch->plain, plain)) {
            note_why(t, tls_stream_why(t->tls));
            return false;
        }
        length = tls_stream_output(t->tls, scratch->out, sizeof(scratch->out));
    }
    *ret_length = length;
    return true;
}

/* False: nothing can be sent any more. */
static bool flush(struct grpc_transport *t) {
    size_t length = 0;
    for (;;) {
        if (!send_waiting(t))
            return false;
        if (t->waiting != NULL || !next_output(t, &length))
            return t->waiting != NULL;
        if (length == 0)
            return true;
        if (!send_bytes(t, t->scratch->out, length))
            return false;
    }
}

/* ---- in ---- */

static bool take_plain(struct grpc_transport *t, const uint8_t *bytes, size_t length) {
    if (grpc_connection_input(&t->connection, bytes, length, reactor_now_ns(t->reactor)))
        return true;
    note_why(t, grpc_connection_why(&t->connection));
    return false;
}

static void check_established(struct grpc_transport *t) {
    if (t->is_established || !t->connected || (t->tls != NULL && !tls_stream_established(t->tls)))
        return;
    t->is_established = true;
    if (t->established != NULL)
        t->established(t);
}

static bool take_secret(struct grpc_transport *t, const uint8_t *bytes, size_t length) {
    if (!tls_stream_input(t->tls, bytes, length)) {
        note_why(t, "no memory for TLS");
        return false;
    }
    int64_t n;
    while ((n = tls_stream_read(t->tls, t->scratch->plain, sizeof(t->scratch->plain))) > 0)
        if (!take_plain(t, t->scratch->plain, (size_t)n))
            return false;
    if (n < 0) {
        snprintf(t->why, sizeof(t->why), "TLS: %s", tls_stream_why(t->tls));
        return false;
    }
    return true;
}

/* Reads once. False: nothing more now, or the connection is done for (*alive). */
static bool receive(struct grpc_transport *t, bool *alive) {
    struct slice slice = {t->scratch->in, sizeof(t->scratch->in)};
    if (!t->readable)
        return false;
    int64_t n = host_socket_read(t->socket, &slice, 1);
    if (n == -EAGAIN) {
        t->readable = false;
        return false;
    }
    if (n <= 0) {
        note_why(t, n == 0 ? "the peer has closed the connection" : "the peer is gone");
        *alive = false;
        return false;
    }
    *alive = t->tls != NULL ? take_secret(t, t->scratch->in, (size_t)n) : take_plain(t, t->scratch->in, (size_t)n);
    return *alive;
}

/* ---- the loop's view ---- */

/* Connect has ended. False: in vain. */
static bool connect_check(struct grpc_transport *t) {
    int error = host_socket_error(t->socket);
    if (error != 0) {
        note_why(t, error_errno_words(error));
        return false;
    }
    t->connected = true;
    int64_t n = t->tls != NULL ? tls_stream_read(t->tls, t->scratch->plain, sizeof(t->scratch->plain)) : 0; /* begins TLS */
    return n >= 0;
}

static void close_now(struct grpc_transport *t) {
    note_why(t, grpc_connection_why(&t->connection));
    t->closed(t, t->why);
}

/* It is over: the last bytes go out, for a while. True: closed. */
static bool end(struct grpc_transport *t, bool sends) {
    uint64_t now_ns = reactor_now_ns(t->reactor);
    if (t->ending_ns == 0) {
        t->ending_ns = now_ns;
        if (t->tls != NULL) {
            tls_stream_end(t->tls);
            sends = sends && flush(t);
        }
    }
    if (!sends || t->waiting == NULL || now_ns >= t->ending_ns + GRPC_LINGER_MS * NS_PER_MS) {
        close_now(t);
        return true;
    }
    reactor_timer_start(t->reactor, &t->timer, t->ending_ns + GRPC_LINGER_MS * NS_PER_MS);
    return false;
}

static void set_timer(struct grpc_transport *t, uint64_t next_ns) {
    if (t->blocked_ns != 0)
        next_ns = min_u64(next_ns, t->blocked_ns + t->connection.limits.stall_ns);
    if (next_ns == UINT64_MAX)
        reactor_timer_stop(t->reactor, &t->timer);
    else if (!reactor_timer_armed(&t->timer) || next_ns < t->timer.deadline_ns) /* too early an alarm is cheaper than moving it */
        reactor_timer_start(t->reactor, &t->timer, next_ns);
}

/* Moves what can be moved both ways, and does what is due. May close it: last. */
static void pump(struct grpc_transport *t) {
    uint64_t now_ns = reactor_now_ns(t->reactor), next_ns = UINT64_MAX;
    bool alive = true, more = t->connected && t->ending_ns == 0, sends = true;
    if (t->connection.call_count > 0)
        t->last_call_ns = now_ns;
    for (unsigned round = 0; round < GRPC_READS_A_TURN && more; round++) {
        more = receive(t, &alive);
        check_established(t);
        sends = flush(t);
        alive = alive && sends;
    }
    if (alive && !grpc_connection_tick(&t->connection, now_ns, &next_ns)) {
        note_why(t, grpc_connection_why(&t->connection));
        alive = false;
    }
    if (t->connected && sends)
        sends = flush(t);
    if (t->blocked_ns != 0 && now_ns >= t->blocked_ns + t->connection.limits.stall_ns) {
        note_why(t, "the peer does not read");
        sends = false;
    }
    if (!alive || !sends || t->ending_ns != 0 || grpc_connection_is_over(&t->connection)) {
        (void)end(t, sends && t->connected);
        return;
    }
    set_timer(t, next_ns);
    if (more)
        grpc_transport_wake(t);
}

static void on_job(struct reactor_job *job) {
    struct grpc_transport *t = container_of(job, struct grpc_transport, job);
    t->queued = false;
    if (t->socket == NULL)
        free(t);
    else
        pump(t);
}

static void on_timer(struct reactor_timer *timer) { pump(container_of(timer, struct grpc_transport, timer)); }

void grpc_transport_wake(struct grpc_transport *t) {
    if (t->queued)
        return;
    t->queued = true;
    reactor_defer(t->reactor, &t->job);
}

static void on_ready(void *arg) { grpc_transport_wake(arg); }

static void on_event(void *arg, unsigned events) {
    struct grpc_transport *t = arg;
    if ((events & (HOST_READABLE | HOST_CLOSED)) != 0)
        t->readable = true;
    if ((events & (HOST_WRITABLE | HOST_CLOSED)) != 0)
        t->blocked = false;
    if (!t->connected && !connect_check(t))
        close_now(t);
    else
        pump(t);
}

/* ---- life ---- */

static struct grpc_transport *create(const struct grpc_transport_options *options) {
    struct grpc_transport *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->reactor = options->reactor;
    t->scratch = options->scratch;
    t->closed = options->closed;
    t->established = options->established;
    t->arg = options->arg;
    t->job.run = on_job;
    t->timer.run = on_timer;
    t->last_call_ns = reactor_now_ns(t->reactor);
    struct grpc_connection_options connection = {.core = options->core,
                                                 .limits = options->limits,
                                                 .authority = options->authority,
                                                 .secure = options->tls != NULL,
                                                 .ready = on_ready,
                                                 .arg = t};
    if (!grpc_connection_init(&t->connection, &connection, reactor_now_ns(t->reactor))) {
        free(t);
        return NULL;
    }
    if (options->tls == NULL || (t->tls = tls_stream_create(options->tls, host_wall_ns(t->reactor->host))) != NULL)
        return t;
    grpc_connection_fini(&t->connection, NULL);
    free(t);
    return NULL;
}

struct grpc_transport *grpc_transport_accept(const struct grpc_transport_options *options, struct host_socket *take_socket) {
    struct grpc_transport *t = create(options);
    if (t == NULL) {
        host_socket_close(take_socket);
        return NULL;
    }
    t->socket = take_socket;
    t->connected = t->readable = true;
    if (host_socket_attach(take_socket, t->reactor->loop, on_event, t) != 0) {
        grpc_transport_destroy(t);
        return NULL;
    }
    grpc_transport_wake(t);
    return t;
}

struct grpc_transport *grpc_transport_connect(const struct grpc_transport_options *options, const struct host_address *to,
                                              struct error *error) {
    struct grpc_transport *t = create(options);
    if (t == NULL) {
        error_set(error, ERROR_NO_MEMORY, "no memory for a connection to %s", to->text);
        return NULL;
    }
    t->socket = host_connect(t->reactor->loop, to, NULL, on_event, t, error);
    if (t->socket != NULL) {
        grpc_transport_wake(t); /* its timer */
        return t;
    }
    grpc_transport_destroy(t);
    return NULL;
}

void grpc_transport_destroy(struct grpc_transport *t) {
    reactor_timer_stop(t->reactor, &t->timer);
    if (t->socket != NULL)
        host_socket_close(t->socket);
    t->socket = NULL;
    grpc_connection_fini(&t->connection, t->why[0] != '\0' ? t->why : NULL);
    if (t->tls != NULL)
        tls_stream_destroy(t->tls);
    free(t->waiting);
    if (!t->queued)
        free(t);
}
