/* Simulated networks: every split, stalls, resets, one-way cuts, half-open ends, ghosts of connections that were given up. */
#include "sim_rig.h"

#include <errno.h>
#include <stdio.h>

#define CAPACITY (1024 * 1024)
#define PEERS 8

/* Two machines: "one" listens at 10.0.0.1:4420, "two" connects. */
struct net {
    struct rig one, two;
    struct door door;
    struct peer clients[PEERS], servers[PEERS];
};

/* `capacity`: bytes of a peer's memory. */
static void net_init_sized(struct net *net, const struct sim_options *options, unsigned accepts, size_t capacity) {
    memset(net, 0, sizeof(*net));
    rig_init_options(&net->one, options);
    rig_join(&net->two, &net->one, "two", "10.0.0.2");
    for (unsigned i = 0; i < PEERS; i++) {
        peer_init(&net->clients[i], capacity);
        peer_init(&net->servers[i], capacity);
        net->door.peers[i] = &net->servers[i];
    }
    net->door.capacity = accepts;
    door_open(&net->one.actor, &net->door, HOST_IPV4, "10.0.0.1", 4420);
}

static void net_init_options(struct net *net, const struct sim_options *options, unsigned accepts) {
    net_init_sized(net, options, accepts, CAPACITY);
}

static void net_init(struct net *net, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    net_init_options(net, &options, PEERS);
}

static void net_fini(struct net *net) {
    for (unsigned i = 0; i < PEERS; i++) {
        peer_fini(&net->clients[i]);
        peer_fini(&net->servers[i]);
    }
    rig_fini(&net->one);
}

static bool is_connected(void *arg) { return ((struct peer *)arg)->connected; }
static bool is_closed(void *arg) { return ((struct peer *)arg)->closed; }

/* Connects client i, which the door accepts as server i. */
static struct sim_connection *net_connect(struct net *net, unsigned i) {
    peer_connect(&net->two.actor, &net->clients[i], &net->door.address);
    actor_wait(&net->two.actor, is_connected, &net->clients[i], "the client end");
    actor_wait(&net->one.actor, is_connected, &net->servers[i], "the server end");
    struct sim_connection *last = NULL;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(net->one.sim, c)) != NULL;)
        last = c;
    return last;
}

static void go(struct actor *actor, void *arg) {
    (void)actor;
    peer_go(arg);
}

static void send_bytes(struct rig *rig, struct peer *peer, size_t length, uint8_t first) {
    for (size_t i = 0; i < length; i++)
        peer->out[peer->out_length + i] = (uint8_t)(first + i);
    peer->out_length += length;
    actor_do(&rig->actor, go, peer);
}

static void close_peer(struct actor *actor, void *arg) {
    struct peer *peer = arg;
    (void)actor;
    host_socket_close(peer->socket);
    peer->socket = NULL;
}

struct got {
    struct peer *peer;
    size_t length;
};
static bool has_got(void *arg) { return ((struct got *)arg)->peer->in_length >= ((struct got *)arg)->length; }

static void wait_bytes(struct rig *rig, struct peer *peer, size_t length) {
    struct got got = {peer, length};
    actor_wait(&rig->actor, has_got, &got, "bytes");
    assert_int_equal(peer->in_length, length);
}

/* ---- splits ---- */

/* What single reads returned. */
struct reads {
    struct peer *peer;
    size_t lengths[128];
    unsigned count;
};

static void counting_event(void *arg, unsigned events) {
    struct reads *reads = arg;
    (void)events;
    for (;;) {
        struct slice slice = {reads->peer->in + reads->peer->in_length, CAPACITY - reads->peer->in_length};
        int64_t n = host_socket_read(reads->peer->socket, &slice, 1);
        if (n <= 0)
            return;
        reads->peer->in_length += (size_t)n;
        assert(reads->count < array_count(reads->lengths));
        reads->lengths[reads->count++] = (size_t)n;
    }
}

static void attach_counting(struct actor *actor, void *arg) {
    struct reads *reads = arg;
    host_socket_detach(reads->peer->socket);
    int result = host_socket_attach(reads->peer->socket, actor->loop, counting_event, reads);
    assert(result == 0);
}

static void a_stream_is_split_at_each_byte(void **state) {
    (void)state;
    for (size_t split = 1; split < 64; split++)
        for (int to_client = 0; to_client < 2; to_client++) {
            struct sim_options options;
            sim_options_init(&options, split);
            options.remote.split_one_in = options.remote.short_write_one_in = 0;
            struct net net;
            net_init_options(&net, &options, PEERS);
            struct sim_connection *connection = net_connect(&net, 0);
            struct rig *from = to_client ? &net.one : &net.two, *to = to_client ? &net.two : &net.one;
            struct peer *writer = to_client ? &net.servers[0] : &net.clients[0],
                        *reader = to_client ? &net.clients[0] : &net.servers[0];
            struct reads reads = {.peer = reader};
            actor_do(&to->actor, attach_counting, &reads);
            sim_connection_split_at(connection, to_client ? SIM_TO_CLIENT : SIM_TO_SERVER, split);
            send_bytes(from, writer, 64, 0);
            wait_bytes(to, reader, 64);
            size_t sum = 0;
            bool at_split = false;
            for (unsigned i = 0; i < reads.count; i++) {
                sum += reads.lengths[i];
                at_split |= sum == split;
            }
            assert_true(at_split);
            assert_memory_equal(reader->in, writer->out, 64);
            net_fini(&net);
        }
}

static void a_stream_may_come_byte_by_byte(void **state) {
    (void)state;
    struct sim_options options;
    sim_options_init(&options, 1);
    options.remote.delivery_bytes = 1;
    struct net net;
    net_init_options(&net, &options, PEERS);
    net_connect(&net, 0);
    struct reads reads = {.peer = &net.servers[0]};
    actor_do(&net.one.actor, attach_counting, &reads);
    send_bytes(&net.two, &net.clients[0], 100, 3);
    wait_bytes(&net.one, &net.servers[0], 100);
    assert_true(reads.count > 50); /* a late turn may find two */
    assert_memory_equal(net.servers[0].in, net.clients[0].out, 100);
    net_fini(&net);
}

static void small_windows_and_all_splits_keep_the_order(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_options options;
        sim_options_init(&options, seed);
        options.remote.window_bytes = 1u << (seed % 8 + 6);
        options.remote.split_one_in = 2;
        options.remote.short_write_one_in = 2;
        options.remote.bytes_per_second = seed % 2 == 0 ? 0 : MIB(100);
        struct net net;
        net_init_options(&net, &options, PEERS);
        for (unsigned i = 0; i < 4; i++)
            net_connect(&net, i);
        for (unsigned i = 0; i < 4; i++) {
            send_bytes(&net.two, &net.clients[i], 20000, (uint8_t)i);
            send_bytes(&net.one, &net.servers[i], 20000, (uint8_t)(i + 100));
        }
        for (unsigned i = 0; i < 4; i++) {
            wait_bytes(&net.one, &net.servers[i], 20000);
            wait_bytes(&net.two, &net.clients[i], 20000);
            assert_memory_equal(net.servers[i].in, net.clients[i].out, 20000);
            assert_memory_equal(net.clients[i].in, net.servers[i].out, 20000);
        }
        net_fini(&net);
    }
}

/* ---- stalls and ghosts ---- */

static void bytes_of_a_connection_given_up_arrive_later(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct net net;
        net_init(&net, seed);
        struct sim_connection *old = net_connect(&net, 0);
        sim_connection_stall(old, SIM_TO_SERVER, true);
        send_bytes(&net.two, &net.clients[0], 5000, 0);
        sim_run_for(net.one.sim, NS_PER_S);
        assert_int_equal(net.servers[0].in_length, 0);
        actor_do(&net.two.actor, close_peer, &net.clients[0]);
        net_connect(&net, 1);
        send_bytes(&net.two, &net.clients[1], 300, 9);
        wait_bytes(&net.one, &net.servers[1], 300);
        assert_int_equal(net.servers[0].in_length, 0);
        assert_false(net.servers[0].closed);
        struct sim_connection_facts facts;
        sim_connection_facts(old, &facts);
        assert_false(facts.client_open);
        assert_true(facts.server_open && facts.port == 4420);
        assert_int_equal(facts.written[SIM_TO_SERVER], 5000);
        sim_connection_stall(old, SIM_TO_SERVER, false);
        actor_wait(&net.one.actor, is_closed, &net.servers[0], "the end of the old stream");
        assert_int_equal(net.servers[0].in_length, 5000);
        assert_int_equal(net.servers[0].error, 0);
        assert_memory_equal(net.servers[0].in, net.clients[0].out, 5000);
        net_fini(&net);
    }
}

static void reset_peer(struct actor *actor, void *arg) {
    struct peer *peer = arg;
    (void)actor;
    host_socket_reset(peer->socket);
    peer->socket = NULL;
}

/* A reset keeps back what has not left the machine. Nothing has while the link is cut; a stalled network may hold all of it. */
static void what_a_reset_keeps_back_never_arrives(void **state) {
    (void)state;
    unsigned arrived = 0, kept_back = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (unsigned cut = 0; cut < 2; cut++) {
            struct net net;
            net_init(&net, seed);
            struct sim_connection *old = net_connect(&net, 0);
            if (cut)
                sim_cut(net.one.node, net.two.node, true);
            else
                sim_connection_stall(old, SIM_TO_SERVER, true);
            send_bytes(&net.two, &net.clients[0], 5000, 0);
            sim_run_for(net.one.sim, NS_PER_S);
            actor_do(&net.two.actor, reset_peer, &net.clients[0]);
            if (cut)
                sim_cut(net.one.node, net.two.node, false);
            else
                sim_connection_stall(old, SIM_TO_SERVER, false);
            sim_run_for(net.one.sim, NS_PER_S);
            assert_true(net.servers[0].in_length == 0 || (!cut && net.servers[0].in_length == 5000));
            assert_int_equal(net.servers[0].closed, !cut); /* a reset is not repeated either */
            assert_int_equal(net.servers[0].error, cut ? 0 : -ECONNRESET);
            arrived += net.servers[0].in_length > 0;
            kept_back += !cut && net.servers[0].in_length == 0;
            net_fini(&net);
        }
    }
    assert_true(arrived > 0 && kept_back > 0);
}

static void connections_overtake_each_other(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 4);
    struct sim_connection *first = net_connect(&net, 0);
    net_connect(&net, 1);
    sim_connection_delay(first, SIM_TO_SERVER, 50 * NS_PER_MS);
    send_bytes(&net.two, &net.clients[0], 10, 0);
    send_bytes(&net.two, &net.clients[1], 10, 0);
    wait_bytes(&net.one, &net.servers[1], 10);
    assert_int_equal(net.servers[0].in_length, 0);
    wait_bytes(&net.one, &net.servers[0], 10);
    net_fini(&net);
}

/* ---- cuts ---- */

static void a_one_way_cut_stops_one_way(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 5);
    net_connect(&net, 0);
    struct sim_link *to_one = sim_link(net.two.node, net.one.node);
    sim_link_cut(to_one, true);
    send_bytes(&net.two, &net.clients[0], 10, 0);
    send_bytes(&net.one, &net.servers[0], 20, 0);
    wait_bytes(&net.two, &net.clients[0], 20);
    assert_int_equal(net.servers[0].in_length, 0);
    /* acknowledgements do not pass either: a window's worth gets through to the reader, then the writer stands */
    send_bytes(&net.one, &net.servers[0], 600 * 1024, 0);
    sim_run_for(net.one.sim, 10 * NS_PER_S);
    assert_int_equal(net.clients[0].in_length, 256 * 1024);
    sim_link_cut(to_one, false);
    wait_bytes(&net.one, &net.servers[0], 10);
    wait_bytes(&net.two, &net.clients[0], 20 + 600 * 1024);
    assert_memory_equal(net.clients[0].in, net.servers[0].out, 20 + 600 * 1024);
    net_fini(&net);
}

static void a_cut_that_stays_times_out(void **state) {
    (void)state;
    struct sim_options options;
    sim_options_init(&options, 6);
    options.stream_timeout_ns = 30 * NS_PER_S;
    struct net net;
    net_init_options(&net, &options, PEERS);
    net_connect(&net, 0);
    net_connect(&net, 1);
    sim_cut(net.one.node, net.two.node, true);
    send_bytes(&net.two, &net.clients[0], 10, 0);
    sim_run_for(net.one.sim, 29 * NS_PER_S);
    assert_false(net.clients[0].closed);
    sim_run_for(net.one.sim, 2 * NS_PER_S);
    assert_true(net.clients[0].closed);
    assert_int_equal(net.clients[0].error, -ETIMEDOUT);
    assert_false(net.clients[1].closed); /* it sent nothing, so it noticed nothing */
    peer_connect(&net.two.actor, &net.clients[2], &net.door.address);
    sim_run_for(net.one.sim, 120 * NS_PER_S);
    assert_false(net.clients[2].closed);
    sim_run_for(net.one.sim, 10 * NS_PER_S);
    assert_true(net.clients[2].closed);
    assert_int_equal(net.clients[2].error, -ETIMEDOUT);
    sim_cut(net.one.node, net.two.node, false);
    send_bytes(&net.two, &net.clients[1], 10, 0);
    wait_bytes(&net.one, &net.servers[1], 10);
    net_fini(&net);
}

static void a_connect_through_a_short_cut_succeeds_later(void **state) {
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct net net;
        net_init(&net, 7);
        struct sim_link *link = way ? sim_link(net.one.node, net.two.node) : sim_link(net.two.node, net.one.node);
        sim_link_cut(link, true);
        peer_connect(&net.two.actor, &net.clients[0], &net.door.address);
        sim_run_for(net.one.sim, 2 * NS_PER_S);
        assert_false(net.clients[0].connected);
        assert_int_equal(net.door.count, way); /* the way back cut: the server has an end, the client not yet */
        sim_link_cut(link, false);
        actor_wait(&net.two.actor, is_connected, &net.clients[0], "the repeated connect");
        send_bytes(&net.two, &net.clients[0], 10, 0);
        wait_bytes(&net.one, &net.servers[0], 10);
        net_fini(&net);
    }
}

/* ---- resets and half-open ends ---- */

static void a_reset_ends_both_sides(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 8);
    sim_connection_reset(net_connect(&net, 0));
    actor_wait(&net.two.actor, is_closed, &net.clients[0], "the client's reset");
    actor_wait(&net.one.actor, is_closed, &net.servers[0], "the server's reset");
    assert_int_equal(net.clients[0].error, -ECONNRESET);
    assert_int_equal(net.servers[0].error, -ECONNRESET);
    net_fini(&net);
}

static void a_half_open_end_learns_it_when_it_sends(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 9);
    sim_connection_reset_one(net_connect(&net, 0), SIM_TO_CLIENT);
    actor_wait(&net.two.actor, is_closed, &net.clients[0], "the client's reset");
    assert_int_equal(net.clients[0].error, -ECONNRESET);
    actor_do(&net.two.actor, close_peer, &net.clients[0]);
    sim_run_for(net.one.sim, 100 * NS_PER_S);
    assert_false(net.servers[0].closed);
    send_bytes(&net.one, &net.servers[0], 10, 0);
    actor_wait(&net.one.actor, is_closed, &net.servers[0], "the server's reset");
    assert_int_equal(net.servers[0].error, -ECONNRESET);
    net_fini(&net);
}

/* Every connection that there still is, whatever is left of it. */
static void reset_all(struct net *net, int direction) {
    for (struct sim_connection *c = NULL; (c = sim_connection_next(net->one.sim, c)) != NULL;) {
        if (direction == 2)
            sim_connection_reset(c);
        else
            sim_connection_reset_one(c, (enum sim_direction)direction);
    }
}

/* One end, the other or both are closed, with bytes under way, held up or not, or none: a reset ends what is left of it. */
static void a_reset_of_what_is_half_closed_already(void **state) {
    (void)state;
    for (unsigned variant = 0; variant < 2 * 3 * 4 * 3; variant++) {
        bool stall = variant % 2 != 0;
        unsigned how = variant / 2 % 3, bytes = variant / 6 % 4, closed = variant / 24;
        struct net net;
        struct sim_options options;
        sim_options_init(&options, 100 + variant);
        net_init_sized(&net, &options, PEERS, 4096);
        struct sim_connection *connection = net_connect(&net, 0);
        for (unsigned i = 0; stall && i < 2; i++)
            sim_connection_stall(connection, (enum sim_direction)i, true);
        if ((bytes & 1) != 0)
            send_bytes(&net.two, &net.clients[0], 1000, 0);
        if ((bytes & 2) != 0)
            send_bytes(&net.one, &net.servers[0], 1000, 0);
        if (closed != 1)
            actor_do(&net.two.actor, close_peer, &net.clients[0]);
        if (closed != 0)
            actor_do(&net.one.actor, close_peer, &net.servers[0]);
        reset_all(&net, (int)how);
        sim_run_for(net.one.sim, NS_PER_S);
        reset_all(&net, (int)how); /* and again */
        for (struct sim_connection *c = NULL; (c = sim_connection_next(net.one.sim, c)) != NULL;)
            for (unsigned i = 0; i < 2; i++)
                sim_connection_stall(c, (enum sim_direction)i, false);
        struct peer *left = closed == 0 ? &net.servers[0] : closed == 1 ? &net.clients[0] : NULL;
        if (left != NULL && left->socket != NULL && !left->closed) /* it finds out when it sends */
            send_bytes(closed == 0 ? &net.one : &net.two, left, 10, 0);
        sim_run_for(net.one.sim, 1000 * NS_PER_S);
        if (left != NULL) {
            assert_true(left->closed);
            actor_do(closed == 0 ? &net.one.actor : &net.two.actor, close_peer, left);
        }
        sim_run_for(net.one.sim, NS_PER_S);
        assert_null(sim_connection_next(net.one.sim, NULL)); /* nothing is left */
        net_fini(&net);
    }
}

static void closing_over_unread_bytes_resets(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 10);
    net_connect(&net, 0);
    net.servers[0].stopped = true;
    send_bytes(&net.two, &net.clients[0], 1000, 0);
    sim_run_for(net.one.sim, NS_PER_MS);
    actor_do(&net.one.actor, close_peer, &net.servers[0]);
    actor_wait(&net.two.actor, is_closed, &net.clients[0], "the reset");
    assert_int_equal(net.clients[0].error, -ECONNRESET);
    net_fini(&net);
}

/* ---- listeners ---- */

static void accept_now(struct actor *actor, void *arg) {
    (void)actor;
    door_event(arg, HOST_READABLE);
}
static bool third_is_there(void *arg) { return ((struct door *)arg)->count == 3; }

static void a_full_backlog_delays_connects(void **state) {
    (void)state;
    struct sim_options options;
    sim_options_init(&options, 11);
    options.backlog = 2;
    struct net net;
    net_init_options(&net, &options, 0);
    for (unsigned i = 0; i < 3; i++)
        peer_connect(&net.two.actor, &net.clients[i], &net.door.address);
    sim_run_for(net.one.sim, 500 * NS_PER_MS);
    assert_int_equal(net.clients[0].connected + net.clients[1].connected + net.clients[2].connected, 2);
    net.door.capacity = PEERS;
    actor_do(&net.one.actor, accept_now, &net.door);
    assert_int_equal(net.door.count, 2);
    uint64_t before = sim_now_ns(net.one.sim);
    actor_wait(&net.one.actor, third_is_there, &net.door, "the third connection");
    assert_true(sim_now_ns(net.one.sim) - before > 300 * NS_PER_MS); /* its repetition, a second after the first try */
    /* a Unix socket says so at once */
    char path[] = "/full";
    struct door full = {.capacity = 0};
    door_open(&net.one.actor, &full, HOST_UNIX, path, 0);
    for (unsigned i = 3; i < 6; i++)
        peer_connect(&net.one.actor, &net.clients[i], &full.address);
    sim_run_for(net.one.sim, NS_PER_MS);
    assert_int_equal(net.clients[3].connected + net.clients[4].connected + net.clients[5].connected, 2);
    assert_int_equal(net.clients[3].error + net.clients[4].error + net.clients[5].error, -EAGAIN);
    net_fini(&net);
}

struct refused {
    const struct host_address *to;
    struct error *error;
    struct peer *peer;
    struct door *door;
    int *result;
};

static void connect_one_too_many(struct actor *actor, void *arg) {
    struct refused *refused = arg;
    struct host_socket *socket = host_connect(actor->loop, refused->to, NULL, peer_event, refused->peer, refused->error);
    assert(socket == NULL);
}
static void accept_one_too_many(struct actor *actor, void *arg) {
    struct refused *refused = arg;
    (void)actor;
    struct host_socket *socket = host_accept(refused->door->socket, NULL, refused->result);
    assert(socket == NULL);
}

static void a_process_has_so_many_sockets(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 12);
    net.door.capacity = 2;
    sim_process_set_socket_limit(net.two.host, 2);
    net_connect(&net, 0);
    net_connect(&net, 1);
    assert_int_equal(sim_process_sockets(net.two.host), 2);
    struct error error = {0};
    struct refused refused = {.to = &net.door.address, .error = &error, .peer = &net.clients[2]};
    actor_do(&net.two.actor, connect_one_too_many, &refused);
    assert_int_equal(error.code, ERROR_NO_MEMORY);
    sim_process_set_socket_limit(net.one.host, 3); /* the door and two */
    sim_process_set_socket_limit(net.two.host, 0);
    peer_connect(&net.two.actor, &net.clients[2], &net.door.address);
    actor_wait(&net.two.actor, is_connected, &net.clients[2], "a connection in the backlog");
    sim_run_for(net.one.sim, NS_PER_S);
    int result = 0;
    actor_do(&net.one.actor, accept_one_too_many, &(struct refused){.door = &net.door, .result = &result});
    assert_int_equal(result, -EMFILE);
    net_fini(&net);
}

/* ---- deaths ---- */

static void a_killed_process_closes_or_vanishes(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        bool vanish = seed % 2 == 0;
        struct sim_options options;
        sim_options_init(&options, seed);
        options.stream_timeout_ns = 60 * NS_PER_S;
        struct net net;
        net_init_options(&net, &options, PEERS);
        net_connect(&net, 0);
        sim_process_kill(net.one.host, vanish ? SIM_KILL_VANISH : SIM_KILL_CLOSE);
        sim_run_for(net.two.sim, 10 * NS_PER_S);
        assert_int_equal(net.clients[0].closed, !vanish);
        if (vanish) {
            send_bytes(&net.two, &net.clients[0], 10, 0);
            sim_run_for(net.two.sim, 59 * NS_PER_S);
            assert_false(net.clients[0].closed);
            sim_run_for(net.two.sim, 2 * NS_PER_S);
            assert_int_equal(net.clients[0].error, -ETIMEDOUT);
        } else {
            assert_true(net.clients[0].error == 0 || net.clients[0].error == -ECONNRESET);
        }
        peer_connect(&net.two.actor, &net.clients[1], &net.door.address);
        actor_wait(&net.two.actor, is_closed, &net.clients[1], "a refusal");
        assert_int_equal(net.clients[1].error, -ECONNREFUSED);
        rig_restart(&net.one);
        net.door.count = 1; /* server 1 */
        door_open(&net.one.actor, &net.door, HOST_IPV4, "0.0.0.0", 4420);
        snprintf(net.door.address.text, sizeof(net.door.address.text), "10.0.0.1");
        net.clients[1].closed = false;
        net_connect(&net, 1);
        net_fini(&net);
    }
}

static void a_machine_without_power_is_silent_and_then_resets(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 13);
    net_connect(&net, 0);
    sim_node_power_off(net.one.node);
    send_bytes(&net.two, &net.clients[0], 10, 0);
    peer_connect(&net.two.actor, &net.clients[1], &net.door.address);
    sim_run_for(net.two.sim, 20 * NS_PER_S);
    assert_false(net.clients[0].closed);
    assert_false(net.clients[1].closed);
    sim_node_power_on(net.one.node);
    actor_wait(&net.two.actor, is_closed, &net.clients[0], "the reset of a machine that knows nothing");
    assert_int_equal(net.clients[0].error, -ECONNRESET);
    actor_wait(&net.two.actor, is_closed, &net.clients[1], "the refusal");
    assert_int_equal(net.clients[1].error, -ECONNREFUSED);
    net_fini(&net);
}

static void a_paused_process_finds_all_its_bytes(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 14);
    net_connect(&net, 0);
    sim_process_pause(net.one.host);
    send_bytes(&net.two, &net.clients[0], 1000, 0);
    peer_connect(&net.two.actor, &net.clients[1], &net.door.address);
    sim_run_for(net.two.sim, 20 * NS_PER_S);
    assert_true(net.clients[1].connected); /* by the kernel */
    assert_int_equal(net.servers[0].in_length, 0);
    assert_int_equal(net.door.count, 1);
    sim_process_resume(net.one.host);
    wait_bytes(&net.one, &net.servers[0], 1000);
    actor_wait(&net.one.actor, is_connected, &net.servers[1], "the accept");
    net_fini(&net);
}

/* ---- faults from the first byte ---- */

static void stall_all(void *arg, struct sim_connection *connection) {
    (*(unsigned *)arg)++;
    sim_connection_stall(connection, SIM_TO_SERVER, true);
}

static void a_hook_sees_each_connection_before_its_first_byte(void **state) {
    (void)state;
    struct net net;
    net_init(&net, 15);
    unsigned seen = 0;
    sim_set_connection_hook(net.one.sim, stall_all, &seen);
    struct sim_connection *connection = net_connect(&net, 0);
    send_bytes(&net.two, &net.clients[0], 10, 0);
    sim_run_for(net.one.sim, NS_PER_S);
    assert_int_equal(seen, 1);
    assert_int_equal(net.servers[0].in_length, 0);
    sim_connection_stall(connection, SIM_TO_SERVER, false);
    wait_bytes(&net.one, &net.servers[0], 10);
    net_fini(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_split_at_each_byte),
        cmocka_unit_test(a_stream_may_come_byte_by_byte),
        cmocka_unit_test(small_windows_and_all_splits_keep_the_order),
        cmocka_unit_test(bytes_of_a_connection_given_up_arrive_later),
        cmocka_unit_test(what_a_reset_keeps_back_never_arrives),
        cmocka_unit_test(connections_overtake_each_other),
        cmocka_unit_test(a_one_way_cut_stops_one_way),
        cmocka_unit_test(a_cut_that_stays_times_out),
        cmocka_unit_test(a_connect_through_a_short_cut_succeeds_later),
        cmocka_unit_test(a_reset_ends_both_sides),
        cmocka_unit_test(a_half_open_end_learns_it_when_it_sends),
        cmocka_unit_test(a_reset_of_what_is_half_closed_already),
        cmocka_unit_test(closing_over_unread_bytes_resets),
        cmocka_unit_test(a_full_backlog_delays_connects),
        cmocka_unit_test(a_process_has_so_many_sockets),
        cmocka_unit_test(a_killed_process_closes_or_vanishes),
        cmocka_unit_test(a_machine_without_power_is_silent_and_then_resets),
        cmocka_unit_test(a_paused_process_finds_all_its_bytes),
        cmocka_unit_test(a_hook_sees_each_connection_before_its_first_byte),
    };
    return cmocka_run_group_tests_name("host/sim: networks", tests, NULL, NULL);
}
