/* Connections, their byte streams, and the links they run over: latency, splits, stalls, cuts, resets, half-open ends. */
#include <errno.h>
#include <stdio.h>

#include "host/sim/sim_net_internal.h"

static void stream_run(struct sim_event *event);
static void timeout_run(struct sim_event *event);
static void connect_run(struct sim_event *event);

/* ---- links ---- */

struct sim_link *sim_link(struct sim_node *from, struct sim_node *to) {
    return &from->sim->links[from->index][to->index];
}

void sim_link_set(struct sim_link *link, const struct sim_link_options *options) { link->options = *options; }
void sim_link_get(const struct sim_link *link, struct sim_link_options *ret_options) { *ret_options = link->options; }

static unsigned stream_side(const struct sim_stream *stream) { return (unsigned)(stream - stream->connection->streams); }

/* The reader's end of a stream; NULL once closed. */
static struct sim_socket *reader_of(const struct sim_stream *stream) {
    return stream->connection->sockets[1 - stream_side(stream)];
}
static struct sim_socket *writer_of(const struct sim_stream *stream) { return stream->connection->sockets[stream_side(stream)]; }
static struct sim_stream *other_of(const struct sim_stream *stream) {
    return &stream->connection->streams[1 - stream_side(stream)];
}

struct sim_link *sim_stream_link(const struct sim_stream *stream) {
    struct sim_node *const *nodes = stream->connection->nodes;
    unsigned side = stream_side(stream);
    return sim_link(nodes[side], nodes[1 - side]);
}

/* Nothing gets through at the moment. */
static bool blocked(const struct sim_stream *stream) {
    return stream->stalled || stream->silent || sim_stream_link(stream)->cut ||
           !stream->connection->nodes[1 - stream_side(stream)]->on;
}

static uint64_t link_latency(const struct sim_stream *stream) {
    const struct sim_link_options *options = &sim_stream_link(stream)->options;
    return sim_draw(stream->connection->sim, options->latency_min_ns, options->latency_max_ns) + stream->extra_ns;
}

/* ---- connections ---- */

static void stream_init(struct sim_stream *stream, struct sim_connection *connection) {
    stream->connection = connection;
    stream->event.run = stream_run;
    stream->timeout.run = timeout_run;
    stream->window = sim_stream_link(stream)->options.window_bytes;
    assert(is_power_of_two(stream->window));
}

static struct sim_node *node_of_address(struct sim_node *from, const struct host_address *to) {
    struct sim *sim = from->sim;
    if (to->family == HOST_UNIX || strncmp(to->text, "127.", 4) == 0 || strcmp(to->text, "::1") == 0)
        return from;
    for (uint32_t i = 0; i < sim->node_count; i++)
        for (uint32_t j = 0; j < sim->nodes[i]->address_count; j++)
            if (strcmp(sim->nodes[i]->addresses[j], to->text) == 0)
                return sim->nodes[i];
    return NULL;
}

struct sim_connection *sim_connection_create(struct sim_socket *client, const struct host_address *to) {
    struct sim *sim = client->sim;
    struct sim_connection *connection = sim_pool_take(&sim->connections);
    connection->sim = sim;
    connection->id = ++sim->next_connection;
    connection->nodes[0] = client->node;
    connection->nodes[1] = node_of_address(client->node, to);
    connection->unix_socket = to->family == HOST_UNIX;
    connection->server_address = *to;
    connection->client_address = client->local;
    connection->sockets[0] = client;
    connection->connect.run = connect_run;
    connection->connect_began_ns = sim->now_ns;
    client->connection = connection;
    client->side = 0;
    list_push_back(&sim->connection_list, &connection->of_sim);
    return connection;
}

static void ring_give(struct sim_stream *stream) {
    if (stream->ring == NULL)
        return;
    struct sim *sim = stream->connection->sim;
    if (stream->window == sim->rings.size)
        sim_pool_give(&sim->rings, stream->ring);
    else
        sim_release(sim, stream->ring);
    stream->ring = NULL;
}

static void connection_free(struct sim_connection *connection) {
    struct sim *sim = connection->sim;
    sim_event_cancel(sim, &connection->connect);
    for (unsigned i = 0; i < 2; i++) {
        sim_event_cancel(sim, &connection->streams[i].event);
        sim_event_cancel(sim, &connection->streams[i].timeout);
        ring_give(&connection->streams[i]);
    }
    list_remove(&connection->of_sim);
    sim_pool_give(&sim->connections, connection);
}

static bool under_way(const struct sim_stream *stream) {
    return stream->delivered < stream->written || (stream->fin_at_ns != 0 && !stream->fin_delivered) || stream->reset_at_ns != 0;
}

void sim_connection_reap(struct sim_connection *connection) {
    if (connection->sockets[0] != NULL || connection->sockets[1] != NULL)
        return;
    if (!connection->answered || connection->dead || (!under_way(&connection->streams[0]) && !under_way(&connection->streams[1])))
        connection_free(connection);
}

/* The SYN comes to the server's machine: true if it was answered, with a connection or a refusal. */
static bool syn_arrives(struct sim_connection *connection) {
    struct sim *sim = connection->sim;
    struct sim_node *server = connection->nodes[1];
    if (server == NULL || !server->on || sim_link(connection->nodes[0], server)->cut)
        return false;
    struct sim_socket *listener = sim_listener_find(server, &connection->server_address);
    if (listener == NULL) {
        if (sim_link(server, connection->nodes[0])->cut)
            return false;
        connection->dead = true;
        sim_socket_fail(connection->sockets[0], connection->unix_socket ? -ENOENT : -ECONNREFUSED);
        return true;
    }
    if (listener->accept_count >= sim->options.backlog) {
        if (!connection->unix_socket)
            return false;
        connection->dead = true;
        sim_socket_fail(connection->sockets[0], -EAGAIN);
        return true;
    }
    connection->answered = true;
    stream_init(&connection->streams[0], connection);
    stream_init(&connection->streams[1], connection);
    connection->sockets[1] = sim_socket_embryo(listener, connection);
    if (sim->hook != NULL)
        sim->hook(sim->hook_arg, connection);
    sim_socket_update(listener, true);
    return true;
}

/* Four events use it: the SYN, its answer, a repetition when either got lost (after 1, 2, 4 … s, as TCP does), and the end of a
 * connection that a fault left nothing of. */
static void connect_run(struct sim_event *event) {
    struct sim_connection *connection = container_of(event, struct sim_connection, connect);
    struct sim *sim = connection->sim;
    struct sim_socket *client = connection->sockets[0];
    sim_note(sim, SIM_TRACE_CONNECT, connection->id, connection->connect_tries);
    if (client == NULL || connection->dead || client->error != 0) {
        sim_connection_reap(connection);
        return;
    }
    uint64_t deadline_ns = connection->connect_began_ns + sim->options.connect_timeout_ns;
    if (sim->now_ns >= deadline_ns) {
        connection->dead = !connection->answered;
        sim_socket_fail(client, -ETIMEDOUT);
        return;
    }
    if (!connection->answered) {
        if (syn_arrives(connection)) {
            if (!connection->dead)
                sim_event_at(sim, event, sim->now_ns + link_latency(&connection->streams[SIM_TO_CLIENT]));
            return;
        }
    } else if (!blocked(&connection->streams[SIM_TO_CLIENT])) {
        client->kind = SIM_CONNECTED;
        sim_socket_update(client, false);
        return;
    }
    uint64_t next = sim->now_ns + (NS_PER_S << min_u32(connection->connect_tries++, 6));
    sim_event_at(sim, event, min_u64(next, deadline_ns));
}

void sim_connection_begin(struct sim_connection *connection) {
    struct sim *sim = connection->sim;
    struct sim_node *to = connection->nodes[1] == NULL ? connection->nodes[0] : connection->nodes[1];
    const struct sim_link_options *options = &sim_link(connection->nodes[0], to)->options;
    sim_event_at(sim, &connection->connect, sim->now_ns + sim_draw(sim, options->latency_min_ns, options->latency_max_ns));
}

/* ---- streams ---- */

static uint8_t *ring_of(struct sim_stream *stream) {
    struct sim *sim = stream->connection->sim;
    if (stream->ring == NULL)
        stream->ring = stream->window == sim->rings.size ? sim_pool_take_raw(&sim->rings) : sim_allocate(sim, stream->window);
    return stream->ring;
}

/* When the next thing of this stream can arrive; UINT64_MAX = nothing is under way. */
static uint64_t stream_next(const struct sim_stream *stream) {
    uint64_t next = UINT64_MAX;
    if (stream->segment_count > 0)
        next = stream->segments[stream->segment_first].at_ns;
    else if (stream->fin_at_ns != 0 && !stream->fin_delivered)
        next = stream->fin_at_ns;
    if (next != UINT64_MAX)
        next = max_u64(next, stream->hold_until_ns);
    return stream->reset_at_ns != 0 ? min_u64(next, stream->reset_at_ns) : next;
}

static void stream_arm(struct sim_stream *stream) {
    struct sim *sim = stream->connection->sim;
    uint64_t next = stream_next(stream);
    if (next == UINT64_MAX) {
        sim_event_cancel(sim, &stream->event);
        sim_event_cancel(sim, &stream->timeout);
        return;
    }
    if (blocked(stream)) {
        sim_event_cancel(sim, &stream->event);
        if (!sim_event_armed(&stream->timeout) && sim->options.stream_timeout_ns != 0)
            sim_event_at(sim, &stream->timeout, sim->now_ns + sim->options.stream_timeout_ns);
        return;
    }
    sim_event_cancel(sim, &stream->timeout);
    if (!sim_event_armed(&stream->event) || sim_event_time(sim, &stream->event) != max_u64(next, sim->now_ns))
        sim_event_at(sim, &stream->event, next);
}

uint32_t sim_stream_put(struct sim_stream *stream, const struct slice *slices, uint32_t count, uint64_t length) {
    struct sim *sim = stream->connection->sim;
    uint8_t *ring = ring_of(stream);
    for (uint64_t done = 0; done < length;) {
        uint64_t at = (stream->written + done) & (stream->window - 1), part = min_u64(stream->window - at, length - done);
        slice_copy_out(slices, count, (size_t)done, ring + at, (size_t)part);
        done += part;
    }
    stream->written += length;
    sim_note(sim, SIM_TRACE_WRITE, stream->connection->id << 1 | stream_side(stream), stream->written);
    if (length == 0)
        return 0;
    const struct sim_link_options *options = &sim_stream_link(stream)->options;
    uint64_t at_ns = sim->now_ns + link_latency(stream) + (sim_one_in(sim, options->late_one_in) ? options->late_ns : 0);
    if (options->bytes_per_second != 0) {
        stream->rate_until_ns =
            max_u64(stream->rate_until_ns, sim->now_ns) + (uint64_t)((double)length * 1e9 / (double)options->bytes_per_second);
        at_ns += stream->rate_until_ns - sim->now_ns;
    }
    struct sim_segment *last = stream->segment_count == 0
                                   ? NULL
                                   : &stream->segments[(stream->segment_first + stream->segment_count - 1) % SIM_SEGMENTS_MAX];
    if (last != NULL)
        at_ns = max_u64(at_ns, last->at_ns);
    if (stream->segment_count == SIM_SEGMENTS_MAX)
        *last = (struct sim_segment){stream->written, at_ns};
    else
        stream->segments[(stream->segment_first + stream->segment_count++) % SIM_SEGMENTS_MAX] =
            (struct sim_segment){stream->written, at_ns};
    stream_arm(stream);
    return (uint32_t)length;
}

/* The reader took bytes; the writer hears of it unless the way back is cut. */
static void stream_acknowledge(struct sim_stream *stream) {
    const struct sim_node *const writer_node = stream->connection->nodes[stream_side(stream)];
    if (stream->acked == stream->read || sim_stream_link(other_of(stream))->cut || !writer_node->on)
        return;
    stream->acked = stream->read;
    if (writer_of(stream) != NULL)
        sim_socket_update(writer_of(stream), false);
}

uint64_t sim_stream_take(struct sim_stream *stream, const struct slice *slices, uint32_t count, uint64_t length) {
    uint64_t total = min_u64(length, stream->delivered - stream->read);
    for (uint64_t done = 0; done < total;) {
        uint64_t at = (stream->read + done) & (stream->window - 1), part = min_u64(stream->window - at, total - done);
        slice_copy_in(slices, count, (size_t)done, stream->ring + at, (size_t)part);
        done += part;
    }
    stream->read += total;
    stream_acknowledge(stream);
    return total;
}

/* Sends a reset behind what is under way, or past it. Lost where nothing gets through: nobody repeats a reset. */
static void stream_send_reset(struct sim_stream *stream) {
    struct sim *sim = stream->connection->sim;
    if (stream->reset_at_ns != 0 || stream->reset_delivered)
        return;
    if (sim_stream_link(stream)->cut || !stream->connection->nodes[1 - stream_side(stream)]->on)
        return;
    uint64_t at = sim->now_ns + link_latency(stream);
    if (stream->segment_count > 0 && sim_one_in(sim, 2))
        at = max_u64(at, stream->segments[(stream->segment_first + stream->segment_count - 1) % SIM_SEGMENTS_MAX].at_ns + 1);
    stream->reset_at_ns = at;
    stream_arm(stream);
}

static void stream_drop_rest(struct sim_stream *stream) {
    stream->written = stream->delivered;
    stream->segment_count = 0;
    stream->fin_at_ns = 0;
    stream->reset_at_ns = 0;
}

static void reset_arrives(struct sim_stream *stream) {
    sim_note(stream->connection->sim, SIM_TRACE_RESET, stream->connection->id, stream_side(stream));
    stream_drop_rest(stream);
    stream->reset_delivered = true;
    stream_drop_rest(other_of(stream)); /* what the reader had sent is thrown away with its end */
    stream_arm(other_of(stream));
    if (reader_of(stream) != NULL)
        sim_socket_fail(reader_of(stream), -ECONNRESET);
}

/* How far this delivery goes: not over a split, not beyond the limit, and sometimes just not all. */
static uint64_t delivery_end(struct sim_stream *stream, uint64_t end) {
    struct sim *sim = stream->connection->sim;
    const struct sim_link_options *options = &sim_stream_link(stream)->options;
    if (options->delivery_bytes != 0)
        end = min_u64(end, stream->delivered + options->delivery_bytes);
    if (end - stream->delivered > 1 && sim_one_in(sim, options->split_one_in))
        end = stream->delivered + 1 + random_below(&sim->random, end - stream->delivered - 1);
    while (stream->split_count > 0 && stream->splits[0] <= end) { /* those that were passed already are dropped */
        uint64_t split = stream->splits[0];
        memmove(&stream->splits[0], &stream->splits[1], --stream->split_count * sizeof(stream->splits[0]));
        if (split > stream->delivered) {
            stream->hold_until_ns = sim->now_ns + max_u64(100 * NS_PER_US, options->latency_max_ns);
            return split;
        }
    }
    return end;
}

static void deliver(struct sim_stream *stream) {
    struct sim *sim = stream->connection->sim;
    uint64_t end = stream->delivered;
    while (stream->segment_count > 0 && stream->segments[stream->segment_first].at_ns <= sim->now_ns) {
        uint64_t segment_end = stream->segments[stream->segment_first].end;
        uint64_t to = delivery_end(stream, segment_end);
        end = to;
        stream->delivered = to;
        if (to < segment_end) {
            stream->hold_until_ns = max_u64(stream->hold_until_ns, sim->now_ns + 1 + link_latency(stream) / 4);
            break;
        }
        stream->segment_first = (stream->segment_first + 1) % SIM_SEGMENTS_MAX;
        stream->segment_count--;
        if (stream->hold_until_ns > sim->now_ns)
            break;
    }
    sim_note(sim, SIM_TRACE_DELIVER, stream->connection->id << 1 | stream_side(stream), end);
    if (stream->segment_count == 0 && stream->fin_at_ns != 0 && stream->fin_at_ns <= sim->now_ns &&
        stream->hold_until_ns <= sim->now_ns)
        stream->fin_delivered = true;
}

static void stream_run(struct sim_event *event) {
    struct sim_stream *stream = container_of(event, struct sim_stream, event);
    struct sim_connection *connection = stream->connection;
    struct sim *sim = connection->sim;
    if (stream->reset_at_ns != 0 && stream->reset_at_ns <= sim->now_ns) {
        reset_arrives(stream);
        sim_connection_reap(connection);
        return;
    }
    uint64_t before = stream->delivered;
    deliver(stream);
    struct sim_socket *reader = reader_of(stream);
    if (reader != NULL && !stream->reset_delivered) {
        sim_socket_update(reader, stream->delivered > before);
    } else if (stream->delivered > before) {
        /* nobody is there any more: the bytes are thrown away, and their writer is told */
        stream->read = stream->delivered;
        stream_send_reset(other_of(stream));
    }
    stream_arm(stream);
    sim_connection_reap(connection);
}

/* Nothing got through for so long that the writer's kernel gives up. */
static void timeout_run(struct sim_event *event) {
    struct sim_stream *stream = container_of(event, struct sim_stream, timeout);
    struct sim_connection *connection = stream->connection;
    stream_drop_rest(stream);
    if (writer_of(stream) != NULL)
        sim_socket_fail(writer_of(stream), -ETIMEDOUT);
    sim_connection_reap(connection);
}

/* ---- ends ---- */

void sim_connection_close(struct sim_connection *connection, unsigned side) {
    struct sim *sim = connection->sim;
    if (!connection->answered) {
        sim_connection_reap(connection);
        return;
    }
    struct sim_stream *out = &connection->streams[side], *in = &connection->streams[1 - side];
    if (in->delivered > in->read) {
        in->read = in->delivered; /* closed over unread bytes: the kernel resets */
        stream_send_reset(out);
    } else if (!in->reset_delivered) { /* one that was reset has nothing more to say */
        out->fin_at_ns = max_u64(1, sim->now_ns + link_latency(out));
        stream_arm(out);
    }
    sim_connection_reap(connection);
}

void sim_connection_abort(struct sim_connection *connection, unsigned side) {
    struct sim_stream *out = &connection->streams[side], *in = &connection->streams[1 - side];
    if (connection->answered && !in->reset_delivered) {
        /* What has left the machine may still arrive, but nobody repeats what gets lost. */
        if (sim_stream_link(out)->cut || !connection->nodes[1 - side]->on || sim_one_in(connection->sim, 2))
            stream_drop_rest(out);
        in->read = in->delivered;
        stream_send_reset(out);
    }
    sim_connection_reap(connection);
}

void sim_connection_vanish(struct sim_connection *connection, unsigned side, bool silent) {
    struct sim *sim = connection->sim;
    if (connection->answered) {
        struct sim_stream *out = &connection->streams[side], *in = &connection->streams[1 - side];
        if (sim_one_in(sim, 2)) { /* what had not left the machine */
            stream_drop_rest(out);
            stream_arm(out);
        }
        in->silent = silent;
        in->read = in->delivered;
        stream_arm(in);
    }
    sim_connection_reap(connection);
}

static void rearm_all(struct sim *sim) {
    list_for_each (&sim->connection_list, struct sim_connection, connection, of_sim)
        for (unsigned i = 0; connection->answered && i < 2; i++) {
            stream_acknowledge(&connection->streams[i]);
            stream_arm(&connection->streams[i]);
        }
}

void sim_link_cut(struct sim_link *link, bool cut) {
    if (link->cut == cut)
        return;
    link->cut = cut;
    sim_note(link->sim, SIM_TRACE_LINK, link->from->index << 8 | link->to->index, cut);
    rearm_all(link->sim);
}

void sim_cut(struct sim_node *a, struct sim_node *b, bool cut) {
    sim_link_cut(sim_link(a, b), cut);
    sim_link_cut(sim_link(b, a), cut);
}

/* After a power cut nobody is silent by intent: a machine that is on again answers with resets. */
void sim_network_power(struct sim_node *node) {
    list_for_each (&node->sim->connection_list, struct sim_connection, connection, of_sim)
        for (unsigned i = 0; connection->answered && i < 2; i++)
            if (connection->nodes[1 - i] == node)
                connection->streams[i].silent = false;
    rearm_all(node->sim);
}

void sim_network_destroy(struct sim *sim) {
    while (!list_empty(&sim->connection_list))
        connection_free(list_entry(list_first(&sim->connection_list), struct sim_connection, of_sim));
}

/* ---- faults on one connection ---- */

struct sim_connection *sim_connection_next(struct sim *sim, struct sim_connection *previous) {
    struct list_node *next = previous == NULL ? sim->connection_list.head.next : previous->of_sim.next;
    for (; next != &sim->connection_list.head; next = next->next)
        if (list_entry(next, struct sim_connection, of_sim)->answered)
            return list_entry(next, struct sim_connection, of_sim);
    return NULL;
}

void sim_connection_facts(const struct sim_connection *connection, struct sim_connection_facts *ret_facts) {
    *ret_facts = (struct sim_connection_facts){.id = connection->id,
                                               .client = connection->nodes[0],
                                               .server = connection->nodes[1],
                                               .port = connection->server_address.port,
                                               .client_open = connection->sockets[0] != NULL,
                                               .server_open = connection->sockets[1] != NULL};
    for (unsigned i = 0; i < 2; i++) {
        ret_facts->written[i] = connection->streams[i].written;
        ret_facts->delivered[i] = connection->streams[i].delivered;
        ret_facts->read[i] = connection->streams[i].read;
    }
}

void sim_connection_stall(struct sim_connection *connection, enum sim_direction direction, bool stall) {
    connection->streams[direction].stalled = stall;
    stream_arm(&connection->streams[direction]);
}

void sim_connection_delay(struct sim_connection *connection, enum sim_direction direction, uint64_t extra_ns) {
    connection->streams[direction].extra_ns = extra_ns;
}

void sim_connection_split_at(struct sim_connection *connection, enum sim_direction direction, uint64_t byte) {
    struct sim_stream *stream = &connection->streams[direction];
    assert(stream->split_count < SIM_SPLITS_MAX);
    uint32_t at = stream->split_count++;
    for (; at > 0 && stream->splits[at - 1] > byte; at--)
        stream->splits[at] = stream->splits[at - 1];
    stream->splits[at] = byte;
}

/* Not in here, where the caller holds a pointer to it: whose ends are closed both goes when time goes on. */
static void reap_later(struct sim_connection *connection) {
    if (!sim_event_armed(&connection->connect))
        sim_event_at(connection->sim, &connection->connect, connection->sim->now_ns);
}

void sim_connection_reset_one(struct sim_connection *connection, enum sim_direction direction) {
    reset_arrives(&connection->streams[direction]);
    reap_later(connection);
}

void sim_connection_reset(struct sim_connection *connection) {
    reset_arrives(&connection->streams[0]);
    reset_arrives(&connection->streams[1]);
    reap_later(connection);
}
