/* One NVMe/TCP connection: bytes between its socket, the codec and the core of the target. Accepted and decoded up to Connect on
 * the control reactor, then moved to its subsystem's home.
 *
 * It ends in steps, each from the ready list: doomed (reading stops) → dead (socket closed, the core told, what only waited is
 * freed) → finished (no command in the core any more) → forgotten, back on the control reactor. */
#include "frontend/nvme_tcp/connection.h"

#include <errno.h>
#include <stdlib.h>

/* Read at one go, before others have their turn; and how much may gather before it is sent within a turn. */
#define READ_BYTES_A_TURN (1024 * 1024)
#define READS_A_TURN 16
#define SEND_AT_BYTES (128 * 1024)
#define SLICES_OUT 256
#define SLICES_IN 8

static struct tcp_connection *of_queue(struct nvme_queue *queue) { return container_of(queue, struct tcp_connection, queue); }
static struct tcp_command *of_command(struct nvme_command *command) { return container_of(command, struct tcp_command, command); }

/* ---- command contexts and their buffers ---- */

static struct tcp_command *command_take(struct tcp_connection *c) {
    struct tcp_command *command = c->free;
    if (command != NULL)
        c->free = command->next_free;
    else if (c->used < c->depth)
        command = &c->commands[c->used++];
    else
        return NULL;
    command->state = TCP_COMMAND_RECEIVING;
    c->receiving_count++;
    return command;
}

static void command_set(struct tcp_connection *c, struct tcp_command *command, enum tcp_command_state state) {
    c->receiving_count -= command->state == TCP_COMMAND_RECEIVING;
    command->state = state;
}

static void buffer_release(struct tcp_connection *c, struct tcp_command *command) {
    if (command->buffer_size == 0)
        return;
    uint32_t size = command->buffer_size;
    command->buffer_size = 0;
    c->buffer_bytes -= size;
    buffer_give(&c->reactor->buffers, command->command.data, size);
    command->command.data = NULL;
}

static void command_release(struct tcp_connection *c, struct tcp_command *command) {
    buffer_release(c, command);
    command_set(c, command, TCP_COMMAND_FREE);
    if (command == &c->connect_command && c->commands != NULL)
        return;
    command->next_free = c->free;
    c->free = command;
}

/* ---- watching that bytes move while they should ---- */

static bool data_are_due(const struct tcp_connection *c) {
    return c->receiving_count > 0 || c->wire.rx.end > c->wire.rx.begin || c->wire.rx.phase == NVME_TCP_RX_PAYLOAD;
}

/* Coarse: a thousand connections with nothing but keep-alives arm it each, and none of them needs a wake-up of its own. */
static void look_later(struct tcp_connection *c) {
    const uint64_t timeout_ns = NVME_TCP_STALL_TIMEOUT_MS * NS_PER_MS;
    reactor_timer_start_coarse(c->reactor, &c->timer, reactor_now_ns(c->reactor) + timeout_ns, timeout_ns / 64);
}

static void on_timer(struct reactor_timer *timer) {
    struct tcp_connection *c = container_of(timer, struct tcp_connection, timer);
    if (c->lingering || !c->arrived) {
        tcp_connection_doom(c, false);
        return;
    }
    /* While it waits for a buffer we do not read: not the peer's fault. */
    if (nvme_tcp_tx_empty(&c->wire.tx) && (c->waiting != NULL || !data_are_due(c)))
        return;
    if (c->moved == c->moved_before) {
        tcp_connection_doom(c, false);
        return;
    }
    c->moved_before = c->moved;
    look_later(c);
}

/* Something is due now: from here on it is looked at. The timer stays armed under load, so that this costs a comparison. */
static void watch(struct tcp_connection *c) {
    if (likely(reactor_timer_armed(&c->timer)) || c->dead || !c->arrived)
        return;
    c->moved_before = c->moved;
    look_later(c);
}

/* ---- sending ---- */

static void sent_release(struct tcp_connection *c) {
    for (struct nvme_tcp_out *out; (out = nvme_tcp_target_take_sent(&c->wire)) != NULL;)
        command_release(c, container_of(out, struct tcp_command, answer));
}

static void limit_resume(struct tcp_connection *c);

static void flush(struct tcp_connection *c) {
    if (c->dead || c->moving)
        return;
    while (!nvme_tcp_tx_empty(&c->wire.tx)) {
        struct slice slices[SLICES_OUT];
        uint32_t count = nvme_tcp_tx_out(&c->wire.tx, slices, SLICES_OUT);
        int64_t n = host_socket_write(c->socket, slices, count);
        if (n == -EAGAIN) {
            watch(c);
            break;
        }
        if (n < 0) {
            tcp_connection_doom(c, false);
            return;
        }
        c->moved += (uint64_t)n;
        nvme_tcp_tx_sent(&c->wire.tx, (size_t)n);
        sent_release(c);
    }
    limit_resume(c);
}

static void on_flush(struct reactor_job *job) {
    struct tcp_connection *c = container_of(job, struct tcp_connection, flush_job);
    c->flush_queued = false;
    flush(c);
}

/* Sends once, at the end of the turn, what the turn has brought; or at once when that is much, so that the peer can begin. */
static void flush_soon(struct tcp_connection *c) {
    if (c->wire.tx.waiting_bytes >= SEND_AT_BYTES && !c->busy)
        flush(c);
    if (c->flush_queued || nvme_tcp_tx_empty(&c->wire.tx))
        return;
    c->flush_queued = true;
    c->flush_job.run = on_flush;
    reactor_defer_late(c->reactor, &c->flush_job);
}

static void respond(struct tcp_connection *c, struct tcp_command *command) {
    struct nvme_command *nvme = &command->command;
    const struct nvme_cqe *cqe = &nvme->cqe;
    command_set(c, command, TCP_COMMAND_ANSWERING);
    if (nvme->direction == NVME_CONTROLLER_TO_HOST && nvme->length > 0 && cqe->status == 0) {
        bool success = c->queue.sq_flow_disabled && !c->transport->base.options.no_c2h_success && cqe->value == 0;
        command->place = (struct slice){nvme->data, nvme->length};
        nvme_tcp_target_respond_with_data(&c->wire, &command->answer, cqe, &command->place, 1, nvme->length, success);
    } else {
        buffer_release(c, command);
        nvme_tcp_target_respond(&c->wire, &command->answer, cqe);
    }
    flush_soon(c);
}

static void finish_soon(struct tcp_connection *c);

static void on_complete(struct nvme_command *nvme) {
    struct tcp_command *command = of_command(nvme);
    struct tcp_connection *c = of_queue(nvme->queue);
    if (unlikely(c->dead)) {
        command_release(c, command);
        finish_soon(c);
        return;
    }
    respond(c, command);
}

/* ---- receiving ---- */

static void execute(struct tcp_connection *c, struct tcp_command *command) {
    command_set(c, command, TCP_COMMAND_IN_CORE);
    nvme_command_execute(&command->command);
}

/* The command has its buffer, or needs none. */
static void proceed(struct tcp_connection *c, struct tcp_command *command, bool payload) {
    struct nvme_command *nvme = &command->command;
    if (nvme->direction != NVME_HOST_TO_CONTROLLER || nvme->length == 0) {
        execute(c, command);
        return;
    }
    command->place = (struct slice){nvme->data, nvme->length};
    if (payload) {
        c->receiving = command;
        nvme_tcp_target_place(&c->wire, &command->place, 1);
    } else {
        nvme_tcp_target_request(&c->wire, command->tag, nvme->sqe.cid, &command->place, 1, nvme->length);
        flush_soon(c);
    }
}

static bool buffer_had(struct tcp_connection *c, struct tcp_command *command, void *buffer) {
    if (buffer == NULL)
        return false;
    command->command.data = buffer;
    command->buffer_size = command->command.length;
    c->buffer_bytes += command->buffer_size;
    return true;
}

static void read_soon(struct tcp_connection *c);

static void on_buffer(struct buffer_waiter *waiter, void *take_buffer) {
    struct tcp_connection *c = container_of(waiter, struct tcp_connection, buffer_waiter);
    struct tcp_command *command = c->waiting;
    c->waiting = NULL;
    buffer_had(c, command, take_buffer);
    bool busy = c->busy;
    c->busy = true; /* what it submits or sends comes after this call */
    proceed(c, command, c->waiting_payload);
    c->busy = busy;
    read_soon(c);
}

/* Takes a buffer, or makes the connection wait for one. */
static void buffer_get(struct tcp_connection *c, struct tcp_command *command, bool payload) {
    uint32_t size = command->command.length;
    if (c->buffer_bytes > 0 && c->buffer_bytes + size > NVME_TCP_CONNECTION_BUFFER_BYTES) {
        c->waiting = command;
        c->waiting_payload = payload;
        c->waiting_limit = true;
        return;
    }
    if (likely(buffer_had(c, command, buffer_take(&c->reactor->buffers, size)))) {
        proceed(c, command, payload);
        return;
    }
    c->waiting = command;
    c->waiting_payload = payload;
    c->waiting_limit = false;
    c->buffer_waiter.size = size;
    c->buffer_waiter.ready = on_buffer;
    buffer_wait(&c->reactor->buffers, &c->buffer_waiter);
}

/* Answers have left: the connection may be below its share again. */
static void limit_resume(struct tcp_connection *c) {
    if (likely(c->waiting == NULL || !c->waiting_limit || c->dead))
        return;
    struct tcp_command *command = c->waiting;
    bool busy = c->busy;
    c->waiting = NULL;
    c->busy = true;
    buffer_get(c, command, c->waiting_payload);
    c->busy = busy;
    if (c->waiting == NULL)
        read_soon(c);
}

static void on_capsule(struct tcp_connection *c, const struct nvme_tcp_target_event *event) {
    struct tcp_command *command = command_take(c);
    if (command == NULL) {
        nvme_tcp_target_fail(&c->wire, NVME_TCP_FES_SEQUENCE, 0, "more commands than the queue has entries");
        return;
    }
    struct nvme_command *nvme = &command->command;
    nvme->sqe = *event->sqe;
    bool payload = event->payload_length > 0;
    if (!nvme_command_decode(&c->queue, nvme, event->payload_length)) {
        if (payload) {
            c->receiving = NULL;
            nvme_tcp_target_discard(&c->wire);
        }
        respond(c, command);
        return;
    }
    if (nvme->length > 0)
        buffer_get(c, command, payload);
    else
        proceed(c, command, payload);
}

/* All data of a command are here. */
static void on_data(struct tcp_connection *c, struct tcp_command *command, bool broken) {
    if (likely(!broken)) {
        execute(c, command);
        return;
    }
    nvme_command_refuse(&command->command, NVME_TRANSIENT_TRANSPORT_ERROR);
    respond(c, command);
}

static void on_fault(struct tcp_connection *c) {
    flush(c);
    c->lingering = nvme_tcp_tx_empty(&c->wire.tx); /* the reason is out: give the peer time to read it */
    tcp_connection_doom(c, false);
}

/* Works on the events that the bytes so far make. False: stop reading. */
static bool events(struct tcp_connection *c) {
    for (;;) {
        if (c->waiting != NULL || c->moving || c->doomed)
            return false;
        struct nvme_tcp_target_event event;
        nvme_tcp_target_next(&c->wire, &event);
        switch (event.type) {
        case NVME_TCP_TARGET_IDLE: return true;
        case NVME_TCP_TARGET_HELD: return false;
        case NVME_TCP_TARGET_CONNECTED: flush_soon(c); break;
        case NVME_TCP_TARGET_COMMAND: on_capsule(c, &event); break;
        case NVME_TCP_TARGET_PAYLOAD: {
            struct tcp_command *command = c->receiving;
            c->receiving = NULL;
            if (command != NULL)
                on_data(c, command, event.digest_error);
            break;
        }
        case NVME_TCP_TARGET_TRANSFER:
            on_data(c, container_of(event.transfer, struct tcp_command, transfer), event.digest_error);
            break;
        case NVME_TCP_TARGET_TERMINATED: tcp_connection_doom(c, false); return false;
        case NVME_TCP_TARGET_FAULT: on_fault(c); return false;
        }
    }
}

/* True if the host may close now without having lost anything. */
static bool between_commands(const struct tcp_connection *c) {
    return c->queue.outstanding == 0 && c->wire.rx.phase == NVME_TCP_RX_HEADER && c->wire.rx.end == c->wire.rx.begin &&
           nvme_tcp_tx_empty(&c->wire.tx) && !data_are_due(c);
}

enum read_end { READ_ALL, READ_HELD, READ_BUDGET };

/* `strict`: to -EAGAIN, else a short read is the end of what is there. */
static enum read_end read_some(struct tcp_connection *c, bool strict) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < READS_A_TURN && bytes < READ_BYTES_A_TURN; i++) {
        struct slice slices[SLICES_IN];
        if (!events(c))
            return READ_HELD;
        uint32_t count = nvme_tcp_target_want(&c->wire, slices, SLICES_IN);
        size_t asked = slice_total(slices, count);
        int64_t n = host_socket_read(c->socket, slices, count);
        if (n == -EAGAIN)
            return READ_ALL;
        if (n <= 0) {
            tcp_connection_doom(c, n == 0 && between_commands(c));
            return READ_ALL;
        }
        c->moved += (uint64_t)n;
        bytes += (uint64_t)n;
        nvme_queue_heard(&c->queue);
        nvme_tcp_target_got(&c->wire, (size_t)n);
        if ((size_t)n < asked && !strict && !c->hung_up)
            return events(c) ? READ_ALL : READ_HELD;
    }
    return events(c) ? READ_BUDGET : READ_HELD;
}

/* After the reason for ending is out: what still comes is thrown away until the peer closes. */
static void linger_read(struct tcp_connection *c) {
    uint8_t waste[4096];
    struct slice slice = {waste, sizeof(waste)};
    for (unsigned i = 0; i < READS_A_TURN; i++) {
        int64_t n = host_socket_read(c->socket, &slice, 1);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            tcp_connection_doom(c, false);
            return;
        }
    }
    read_soon(c);
}

static void connection_read(struct tcp_connection *c) {
    if (c->busy || c->moving || c->doomed || c->socket == NULL)
        return;
    if (c->dead) {
        linger_read(c);
        return;
    }
    c->busy = true;
    enum read_end end = read_some(c, false);
    c->busy = false;
    if (end == READ_BUDGET)
        read_soon(c);
    if (!c->dead && data_are_due(c))
        watch(c);
    if (!nvme_tcp_tx_empty(&c->wire.tx))
        flush_soon(c);
}

static void on_read(struct reactor_job *job) {
    struct tcp_connection *c = container_of(job, struct tcp_connection, read_job);
    c->read_queued = false;
    connection_read(c);
}

static void read_soon(struct tcp_connection *c) {
    if (c->read_queued)
        return;
    c->read_queued = true;
    c->read_job.run = on_read;
    reactor_defer(c->reactor, &c->read_job);
}

static void on_socket(void *arg, unsigned happened) {
    struct tcp_connection *c = arg;
    c->hung_up |= (happened & HOST_CLOSED) != 0;
    if (happened & HOST_WRITABLE && !nvme_tcp_tx_empty(&c->wire.tx))
        flush(c);
    if (happened & (HOST_READABLE | HOST_CLOSED))
        connection_read(c);
}

/* ---- what the core asks for ---- */

static void on_close(struct nvme_queue *queue) { tcp_connection_doom(of_queue(queue), false); }

static bool on_settle(struct nvme_queue *queue) {
    struct tcp_connection *c = of_queue(queue);
    if (c->dead || c->busy)
        return c->dead;
    if (!c->doomed) {
        c->busy = true;
        enum read_end end = read_some(c, true); /* a fence: whatever the peer plays at */
        c->busy = false;
        if (!nvme_tcp_tx_empty(&c->wire.tx))
            flush_soon(c);
        if (end != READ_ALL) {
            read_soon(c);
            return false;
        }
    }
    if (c->doomed)
        nvme_queue_lost(queue, c->orderly);
    return true;
}

static struct nvme_command *on_command(struct nvme_queue *queue, unsigned index) {
    struct tcp_connection *c = of_queue(queue);
    return index < c->used && c->commands[index].state == TCP_COMMAND_IN_CORE ? &c->commands[index].command : NULL;
}

/* ---- moving to the home ---- */

static bool commands_create(struct tcp_connection *c) {
    c->commands = calloc(c->queue.depth, sizeof(*c->commands));
    c->transfers = calloc(c->queue.depth, sizeof(struct nvme_tcp_transfer *));
    if (c->commands == NULL || c->transfers == NULL)
        return false;
    c->depth = c->queue.depth;
    for (uint16_t i = 0; i < c->depth; i++) {
        c->commands[i].tag = i;
        c->transfers[i] = &c->commands[i].transfer;
    }
    return true;
}

static void on_arrive(struct reactor_message *message) {
    struct tcp_connection *c = container_of(message, struct tcp_connection, message);
    const struct nvme_transport_options *options = &c->transport->base.options;
    bool attached = c->reactor == c->transport->control || host_socket_attach(c->socket, c->reactor->loop, on_socket, c) == 0;
    bool gave_up = c->doomed || !attached;
    c->moving = c->doomed = false;
    c->arrived = true;
    if (gave_up)
        tcp_connection_doom(c, false);
    c->free = NULL;
    c->used = c->depth = 0;
    if (!commands_create(c))
        tcp_connection_doom(c, false);
    nvme_tcp_target_set_transfers(&c->wire, c->transfers, c->depth);
    nvme_tcp_target_set_in_capsule_limit(&c->wire, c->queue.qid == 0 ? (uint32_t)NVME_TCP_ADMIN_IN_CAPSULE_BYTES
                                                                     : options->in_capsule_bytes);
    assert(c->connect_command.state == TCP_COMMAND_IN_CORE);
    nvme_queue_arrive(&c->queue, &c->connect_command.command);
    read_soon(c);
}

static void on_move(struct reactor_job *job) {
    struct tcp_connection *c = container_of(job, struct tcp_connection, move_job);
    if (c->read_queued || c->flush_queued || c->end_queued) { /* nothing of it may stay behind */
        reactor_defer_late(c->reactor, &c->move_job);
        return;
    }
    reactor_timer_stop(c->reactor, &c->timer);
    if (c->queue.reactor != c->reactor)
        host_socket_detach(c->socket);
    c->reactor = c->queue.reactor;
    c->message.run = on_arrive;
    reactor_post(c->reactor, &c->message);
}

/* From inside of the Connect command: what uses this reactor is given up, the rest is done when the stack has unwound. */
static void on_move_asked(struct nvme_queue *queue, struct reactor *to) {
    struct tcp_connection *c = of_queue(queue);
    assert(to == queue->reactor);
    buffer_release(c, &c->connect_command);
    c->stranger = false;
    c->transport->stranger_count--;
    c->moving = true;
    c->move_job.run = on_move;
    reactor_defer(c->reactor, &c->move_job);
}

static const struct nvme_queue_ops queue_ops = {
    .complete = on_complete, .move = on_move_asked, .close = on_close, .settle = on_settle, .command = on_command};

/* ---- the end ---- */

static void on_forget(struct reactor_message *message) {
    struct tcp_connection *c = container_of(message, struct tcp_connection, message);
    nvme_queue_release(&c->queue);
    free(c->commands);
    free(c->transfers);
    free(c->staging);
    tcp_transport_forget(c);
    free(c);
}

static void on_finish(struct reactor_job *job) {
    struct tcp_connection *c = container_of(job, struct tcp_connection, finish_job);
    c->finish_queued = false;
    /* Jobs that are still queued come first. */
    if (c->read_queued || c->flush_queued || c->end_queued) {
        finish_soon(c);
        return;
    }
    if (!c->dead || c->socket != NULL || c->queue.outstanding > 0)
        return;
    reactor_timer_stop(c->reactor, &c->timer);
    nvme_queue_detach(&c->queue);
    c->message.run = on_forget;
    reactor_post(c->transport->control, &c->message);
}

static void finish_soon(struct tcp_connection *c) {
    if (c->finish_queued || !c->dead || c->socket != NULL || c->queue.outstanding > 0)
        return;
    c->finish_queued = true;
    c->finish_job.run = on_finish;
    reactor_defer_late(c->reactor, &c->finish_job);
}

/* Gives back what waits for bytes that will not come or cannot leave; what is in the core stays. */
static void die(struct tcp_connection *c) {
    c->dead = true;
    if (c->waiting != NULL && !c->waiting_limit)
        buffer_wait_cancel(&c->reactor->buffers, &c->buffer_waiter);
    c->waiting = c->receiving = NULL;
    for (struct nvme_tcp_out *out; (out = nvme_tcp_target_take_unsent(&c->wire)) != NULL;)
        command_release(c, container_of(out, struct tcp_command, answer));
    for (uint16_t i = 0; i < c->used; i++)
        if (c->commands[i].state == TCP_COMMAND_RECEIVING)
            command_release(c, &c->commands[i]);
    if (c->connect_command.state == TCP_COMMAND_RECEIVING)
        command_release(c, &c->connect_command);
    nvme_queue_lost(&c->queue, c->orderly);
}

static void on_end(struct reactor_job *job) {
    struct tcp_connection *c = container_of(job, struct tcp_connection, end_job);
    c->end_queued = false;
    if (c->moving) /* it looks again when it has arrived */
        return;
    bool linger = c->lingering && !c->dead;
    if (!c->dead) {
        flush(c); /* what is answered already, e.g. why a Connect is refused */
        die(c);
    }
    if (linger) {
        c->doomed = false;
        reactor_timer_start(c->reactor, &c->timer, reactor_now_ns(c->reactor) + NVME_TCP_TERM_LINGER_MS * NS_PER_MS);
        read_soon(c);
        return;
    }
    c->lingering = false;
    /* Nothing of a controller that is given up is delivered later. A refused Connect, though, is to be read. */
    if (c->socket != NULL)
        (c->queue.attached && !c->orderly ? host_socket_reset : host_socket_close)(c->socket);
    c->socket = NULL;
    reactor_timer_stop(c->reactor, &c->timer);
    finish_soon(c);
}

void tcp_connection_doom(struct tcp_connection *c, bool orderly) {
    if (c->doomed || c->socket == NULL)
        return;
    c->doomed = true;
    c->orderly = orderly;
    if (c->moving || c->end_queued)
        return;
    c->end_queued = true;
    c->end_job.run = on_end;
    reactor_defer(c->reactor, &c->end_job);
}

/* ---- the beginning ---- */

static void address_from_host(struct nvme_listen_address *to, const struct host_address *from) {
    *to = (struct nvme_listen_address){
        .transport = NVME_TRANSPORT_TCP,
        .family = from->family == HOST_IPV6 ? NVME_FAMILY_IPV6 : NVME_FAMILY_IPV4,
        .port = from->port,
    };
    size_t length = strnlen(from->text, sizeof(to->address) - 1);
    memcpy(to->address, from->text, length);
}

bool tcp_connection_create(struct tcp_listener *listener, struct host_socket *socket, const struct host_address *peer) {
    struct tcp_transport *transport = listener->transport;
    const struct nvme_transport_options *options = &transport->base.options;
    struct tcp_connection *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->staging = malloc(NVME_TCP_STAGING_BYTES)) == NULL) {
        free(c);
        host_socket_close(socket);
        return false;
    }
    struct nvme_tcp_target_options wire = {
        .h2c_data_limit = options->max_io_bytes,
        .in_capsule_limit = NVME_TCP_ADMIN_IN_CAPSULE_BYTES,
        .allow_header_digest = !options->no_header_digest,
        .allow_data_digest = !options->no_data_digest,
    };
    struct host_address local = {0};
    host_socket_local(socket, &local);
    c->transport = transport;
    c->reactor = transport->control;
    c->socket = socket;
    c->queue.ops = &queue_ops;
    c->queue.transport = &transport->base;
    c->queue.listener = listener;
    address_from_host(&c->queue.listen_address, &local);
    address_from_host(&c->queue.peer_address, peer);
    nvme_tcp_target_init(&c->wire, &wire, c->staging, NVME_TCP_STAGING_BYTES);
    /* Until Connect there is one command at a time. */
    c->connect_transfer = &c->connect_command.transfer;
    nvme_tcp_target_set_transfers(&c->wire, &c->connect_transfer, 1);
    c->free = &c->connect_command;
    c->timer.run = on_timer;
    c->stranger = true;
    list_push_back(&transport->connections, &c->node);
    transport->connection_count++;
    transport->stranger_count++;
    nvme_queue_init(&c->queue);
    reactor_timer_start(c->reactor, &c->timer, reactor_now_ns(c->reactor) + NVME_TCP_CONNECT_TIMEOUT_MS * NS_PER_MS);
    if (host_socket_attach(socket, c->reactor->loop, on_socket, c) != 0)
        tcp_connection_doom(c, false);
    return true;
}
