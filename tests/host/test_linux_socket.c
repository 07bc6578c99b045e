/* host/linux: stream sockets over IPv4, IPv6 and Unix; events, moving between loops, stale and live paths. */
#include "loop_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/random.h"

struct end {
    struct host_socket *socket;
    sem_t event;
    _Atomic unsigned events; /* all that were told */
    bool echo;
    size_t moved;
};

struct net {
    struct host *host;
    struct loop_fixture a, b;
    struct host_address address;
    struct host_socket *listener;
    struct end server, client;
    sem_t accepted;
    char folder[64];
};

static void end_init(struct end *end) {
    memset(end, 0, sizeof(*end));
    sem_init(&end->event, 0, 0);
}

/* Echoes what comes; partial writes are kept going by waiting in place, since the other side always reads. */
static void echo(struct end *end) {
    static _Thread_local char buffer[65536];
    for (;;) {
        struct slice two[2] = {{buffer, 1000}, {buffer + 1000, sizeof(buffer) - 1000}};
        int64_t n = host_socket_read(end->socket, two, 2);
        if (n <= 0)
            return;
        for (int64_t sent = 0; sent < n;) {
            struct slice rest = {buffer + sent, (size_t)(n - sent)};
            int64_t m = host_socket_write(end->socket, &rest, 1);
            assert(m > 0 || m == -EAGAIN);
            sent += m > 0 ? m : 0;
        }
        end->moved += (size_t)n;
    }
}

static void on_event(void *arg, unsigned events) {
    struct end *end = arg;
    end->events |= events;
    if (end->echo && (events & HOST_READABLE))
        echo(end);
    sem_post(&end->event);
}

static void on_accept(void *arg, unsigned events) {
    struct net *net = arg;
    assert(events & HOST_READABLE);
    struct host_address peer;
    int number = 0;
    net->server.socket = host_accept(net->listener, &peer, &number);
    assert(net->server.socket != NULL);
    assert(peer.family == net->address.family);
    assert(host_accept(net->listener, &peer, &number) == NULL && number == -EAGAIN);
    int result = host_socket_attach(net->server.socket, net->a.loop, on_event, &net->server);
    assert(result == 0);
    sem_post(&net->accepted);
}

static void do_listen(void *arg) {
    struct net *net = arg;
    struct error error = {0};
    net->listener = host_listen(net->a.loop, &net->address, on_accept, net, &error);
    if (net->listener == NULL)
        fprintf(stderr, "%s\n", error.text);
    else if (net->address.family != HOST_UNIX)
        host_socket_local(net->listener, &net->address);
}
static void do_connect(void *arg) {
    struct net *net = arg;
    struct error error = {0};
    net->client.socket = host_connect(net->b.loop, &net->address, NULL, on_event, &net->client, &error);
    assert(net->client.socket != NULL);
}
static void close_end(void *arg) {
    struct end *end = arg;
    host_socket_close(end->socket);
    end->socket = NULL;
}
static void close_listener(void *arg) { host_socket_close(((struct net *)arg)->listener); }

/* NULL = the family's usual place. */
static void net_up_at(struct net *net, enum host_family family, const char *address) {
    memset(net, 0, sizeof(*net));
    net->host = make_host(false);
    loop_fixture_start(&net->a, net->host, HOST_POLL_ADAPTIVE, -1);
    loop_fixture_start(&net->b, net->host, HOST_POLL_NEVER, -1);
    make_folder(true, net->folder, sizeof(net->folder));
    sem_init(&net->accepted, 0, 0);
    end_init(&net->server);
    end_init(&net->client);
    net->address.family = family;
    if (family == HOST_UNIX)
        snprintf(net->address.text, sizeof(net->address.text), "%s/s", net->folder);
    else
        snprintf(net->address.text, sizeof(net->address.text), "%s",
                 address != NULL       ? address
                 : family == HOST_IPV4 ? "127.0.0.1"
                                       : "::1");
    loop_fixture_run(&net->a, do_listen, net);
    assert_non_null(net->listener);
}
static void net_up(struct net *net, enum host_family family) { net_up_at(net, family, NULL); }
static void net_connect(struct net *net) {
    loop_fixture_run(&net->b, do_connect, net);
    wait_for(&net->client.event);
    assert_int_equal(net->client.events & (HOST_WRITABLE | HOST_CLOSED), HOST_WRITABLE);
    assert_int_equal(host_socket_error(net->client.socket), 0);
    wait_for(&net->accepted);
}
static void net_down(struct net *net) {
    if (net->client.socket != NULL)
        loop_fixture_run(&net->b, close_end, &net->client);
    if (net->server.socket != NULL)
        loop_fixture_run(&net->a, close_end, &net->server);
    loop_fixture_run(&net->a, close_listener, net);
    loop_fixture_stop(&net->a);
    loop_fixture_stop(&net->b);
    host_linux_destroy(net->host);
    sem_destroy(&net->accepted);
    sem_destroy(&net->server.event);
    sem_destroy(&net->client.event);
    remove_folder(net->folder);
}

/* ---- bytes ---- */

enum { STREAM = 4 << 20 };
struct stream {
    struct net *net;
    char *out, *in;
    size_t sent, received;
    sem_t all;
};

/* The client's turn-by-turn pump: writes and reads until both would block. */
static void pump(void *arg, unsigned events) {
    struct stream *s = arg;
    (void)events;
    bool moved = true;
    while (moved) {
        moved = false;
        struct slice out[2] = {{s->out + s->sent, min_u64(STREAM - s->sent, 30000)}, {0}};
        if (out[0].length > 100) {
            out[1] = (struct slice){(char *)out[0].base + 100, out[0].length - 100};
            out[0].length = 100;
        }
        int64_t n = s->sent < STREAM ? host_socket_write(s->net->client.socket, out, out[1].length != 0 ? 2 : 1) : -EAGAIN;
        assert(n > 0 || n == -EAGAIN);
        if (n > 0) {
            s->sent += (size_t)n;
            moved = true;
        }
        struct slice in = {s->in + s->received, min_u64(STREAM - s->received, 50000)};
        n = s->received < STREAM ? host_socket_read(s->net->client.socket, &in, 1) : -EAGAIN;
        assert(n > 0 || n == -EAGAIN);
        if (n > 0) {
            s->received += (size_t)n;
            moved = true;
            if (s->received == STREAM)
                sem_post(&s->all);
        }
    }
}

static void hand_client_to_pump(void *arg) {
    struct stream *s = arg;
    host_socket_detach(s->net->client.socket);
    int result = host_socket_attach(s->net->client.socket, s->net->b.loop, pump, s);
    assert(result == 0);
    pump(s, HOST_WRITABLE);
}
static void start_echo(void *arg) { ((struct end *)arg)->echo = true; }

static bool has_ipv6(void) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static void streams_are_whole(void **state) {
    (void)state;
    static const enum host_family families[] = {HOST_IPV4, HOST_UNIX, HOST_IPV6};
    for (size_t f = 0; f < array_count(families); f++) {
        if (families[f] == HOST_IPV6 && !has_ipv6())
            continue;
        struct net net;
        net_up(&net, families[f]);
        net_connect(&net);
        loop_fixture_run(&net.a, start_echo, &net.server);
        struct stream s = {.net = &net, .out = malloc(STREAM), .in = calloc(1, STREAM)};
        sem_init(&s.all, 0, 0);
        struct random random;
        random_init(&random, 7);
        for (size_t i = 0; i < STREAM; i += 8)
            put_le64(s.out + i, random_u64(&random));
        loop_fixture_run(&net.b, hand_client_to_pump, &s);
        wait_for(&s.all);
        assert_memory_equal(s.in, s.out, STREAM);
        net_down(&net);
        sem_destroy(&s.all);
        free(s.out);
        free(s.in);
    }
}

/* ---- events ---- */

static void write_word(void *arg) {
    struct end *end = arg;
    struct slice word = {(char[]){"penstock"}, 8};
    int64_t n = host_socket_write(end->socket, &word, 1);
    assert(n == 8);
}
static void read_word(void *arg) {
    struct end *end = arg;
    char word[16];
    struct slice to = {word, sizeof(word)};
    int64_t n = host_socket_read(end->socket, &to, 1);
    assert(n == 8 && memcmp(word, "penstock", 8) == 0);
    end->moved += 8;
    n = host_socket_read(end->socket, &to, 1);
    assert(n == -EAGAIN);
}

static void each_arrival_is_told(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_IPV4);
    net_connect(&net);
    for (int i = 0; i < 200; i++) {
        loop_fixture_run(&net.b, write_word, &net.client);
        wait_for(&net.server.event);
        loop_fixture_run(&net.a, read_word, &net.server);
    }
    assert_int_equal(net.server.moved, 1600);
    /* Room to write is told to nobody who never ran out of it. */
    assert_int_equal(net.server.events, HOST_READABLE);
    net_down(&net);
}

static void read_end(void *arg) {
    struct end *end = arg;
    char byte;
    end->moved = (size_t)(host_socket_read(end->socket, &(struct slice){&byte, 1}, 1) == 0);
}

static void a_closed_peer_is_told(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_UNIX);
    net_connect(&net);
    loop_fixture_run(&net.b, close_end, &net.client);
    wait_for(&net.server.event);
    assert_true(net.server.events & HOST_READABLE);
    loop_fixture_run(&net.a, read_end, &net.server);
    assert_int_equal(net.server.moved, 1);
    net_down(&net);
}

static void a_refused_connection_is_told(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_IPV4);
    struct net nobody = {.host = net.host};
    end_init(&nobody.client);
    nobody.a.loop = net.a.loop; /* a port that was just free: listen, learn it, close */
    nobody.b.loop = net.b.loop;
    nobody.address = (struct host_address){.family = HOST_IPV4, .text = "127.0.0.1"};
    loop_fixture_run(&net.a, do_listen, &nobody);
    loop_fixture_run(&net.a, close_listener, &nobody);
    loop_fixture_run(&net.b, do_connect, &nobody);
    wait_for(&nobody.client.event);
    assert_true(nobody.client.events & HOST_CLOSED);
    assert_int_equal(host_socket_error(nobody.client.socket), -ECONNREFUSED);
    loop_fixture_run(&net.b, close_end, &nobody.client);
    sem_destroy(&nobody.client.event);
    net_down(&net);
}

/* ---- moving ---- */

static void detach_end(void *arg) { host_socket_detach(((struct end *)arg)->socket); }
struct move {
    struct end *end;
    struct host_loop *to;
};
static void attach_end(void *arg) {
    struct move *move = arg;
    int result = host_socket_attach(move->end->socket, move->to, on_event, move->end);
    assert(result == 0);
}

static void a_socket_moves_with_its_unread_bytes(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_IPV4);
    net_connect(&net);
    loop_fixture_run(&net.b, write_word, &net.client);
    wait_for(&net.server.event);
    loop_fixture_run(&net.a, detach_end, &net.server); /* told, not read */
    loop_fixture_run(&net.b, attach_end, &(struct move){&net.server, net.b.loop});
    wait_for(&net.server.event);
    loop_fixture_run(&net.b, read_word, &net.server);
    /* From now on events come on the new loop. */
    loop_fixture_run(&net.b, write_word, &net.client);
    wait_for(&net.server.event);
    loop_fixture_run(&net.b, read_word, &net.server);
    loop_fixture_run(&net.b, detach_end, &net.server);
    loop_fixture_run(&net.a, attach_end, &(struct move){&net.server, net.a.loop});
    net_down(&net);
}

/* Two sockets become readable in one look at the kernel; the first to hear of it closes the other: it must hear nothing. */
struct pair {
    struct host_loop *loop;
    struct host_socket *sockets[2];
    int peers[2];
    unsigned told;
    sem_t event;
};
struct pair_end {
    struct pair *pair;
    int index;
};
static void close_the_other(void *arg, unsigned events) {
    struct pair_end *end = arg;
    (void)events;
    end->pair->told++;
    host_socket_close(end->pair->sockets[!end->index]);
    end->pair->sockets[!end->index] = NULL;
    sem_post(&end->pair->event);
}
static void make_pair(void *arg) {
    struct pair_end *ends = arg;
    struct pair *pair = ends[0].pair;
    /* Accepted through a real listener, then both made readable inside this turn. */
    struct error error;
    struct host_address at = {.family = HOST_IPV4, .text = "127.0.0.1"};
    struct host_socket *listener = host_listen(pair->loop, &at, close_the_other, NULL, &error);
    host_socket_local(listener, &at);
    for (int i = 0; i < 2; i++) {
        struct host_socket *client = host_connect(pair->loop, &at, NULL, close_the_other, &ends[i], &error);
        assert(client != NULL);
        host_socket_detach(client);
        int number;
        do
            pair->sockets[i] = host_accept(listener, NULL, &number);
        while (pair->sockets[i] == NULL);
        int64_t n = host_socket_write(client, &(struct slice){(char[]){"x"}, 1}, 1);
        assert(n == 1);
        host_socket_close(client);
    }
    host_socket_close(listener);
    for (int i = 0; i < 2; i++) {
        int result = host_socket_attach(pair->sockets[i], pair->loop, close_the_other, &ends[i]);
        assert(result == 0);
    }
}
static void close_pair(void *arg) {
    struct pair *pair = arg;
    for (int i = 0; i < 2; i++)
        if (pair->sockets[i] != NULL)
            host_socket_close(pair->sockets[i]);
}

static void a_closed_socket_hears_nothing(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ADAPTIVE, -1);
    for (int round = 0; round < 50; round++) {
        struct pair pair = {.loop = fixture.loop};
        sem_init(&pair.event, 0, 0);
        struct pair_end ends[2] = {{&pair, 0}, {&pair, 1}};
        loop_fixture_run(&fixture, make_pair, ends);
        wait_for(&pair.event);
        loop_fixture_run(&fixture, close_pair, &pair);
        assert_int_equal(pair.told, 1);
        sem_destroy(&pair.event);
    }
    loop_fixture_stop(&fixture);
    host_linux_destroy(host);
}

/* ---- Unix paths, bad addresses ---- */

struct try_listen {
    struct host_loop *loop;
    struct host_address address;
    struct error error;
    struct host_socket *socket;
};
static void ignore_event(void *arg, unsigned events) {
    (void)arg;
    (void)events;
}
static void do_try_listen(void *arg) {
    struct try_listen *t = arg;
    error_clear(&t->error);
    t->socket = host_listen(t->loop, &t->address, ignore_event, NULL, &t->error);
}
static void do_try_connect(void *arg) {
    struct try_listen *t = arg;
    error_clear(&t->error);
    t->socket = host_connect(t->loop, &t->address, NULL, ignore_event, NULL, &t->error);
}
static void do_close(void *arg) {
    struct try_listen *t = arg;
    host_socket_close(t->socket);
}

static void unix_paths_are_taken_from_the_dead_only(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_UNIX);
    struct stat stat_of;
    assert_int_equal(stat(net.address.text, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0600);
    struct try_listen t = {.loop = net.b.loop, .address = net.address};
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_BUSY);
    assert_non_null(strstr(t.error.text, net.address.text));
    /* Somebody who answers without our lock is alive, too. */
    char lock[128];
    snprintf(lock, sizeof(lock), "%s.lock", net.address.text);
    assert_int_equal(unlink(lock), 0);
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_BUSY);
    assert_int_equal(access(net.address.text, F_OK), 0);
    wait_for(&net.accepted); /* that is how it was found out */

    /* A killed process leaves its path: it is replaced, lock file or not. */
    snprintf(t.address.text, sizeof(t.address.text), "%s/stale", net.folder);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un {
        sa_family_t family;
        char path[108];
    } at = {.family = AF_UNIX};
    memcpy(at.path, t.address.text, sizeof(at.path));
    assert_int_equal(bind(dead, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    close(dead);
    loop_fixture_run(&net.b, do_try_listen, &t);
    if (t.socket == NULL)
        fail_msg("%s", t.error.text);
    loop_fixture_run(&net.b, do_close, &t);
    assert_int_equal(access(t.address.text, F_OK), -1);
    snprintf(lock, sizeof(lock), "%s.lock", t.address.text);
    assert_int_equal(access(lock, F_OK), -1);

    /* What is no socket is not ours to remove. */
    FILE *file = fopen(t.address.text, "w");
    fclose(file);
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_EXISTS);
    assert_int_equal(access(t.address.text, F_OK), 0);
    net_down(&net);
}

static void bad_addresses_say_why(void **state) {
    (void)state;
    struct net net;
    net_up(&net, HOST_IPV4);
    struct try_listen t = {.loop = net.b.loop, .address = {.family = HOST_IPV4, .text = "localhost"}};
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_INVALID);
    assert_string_equal(t.error.value, "localhost");
    t.address = (struct host_address){.family = HOST_IPV6, .text = "127.0.0.1"};
    loop_fixture_run(&net.b, do_try_connect, &t);
    assert_null(t.socket);
    t.address = (struct host_address){.family = HOST_UNIX, .text = ""};
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_INVALID);
    t.address = net.address; /* somebody listens there */
    loop_fixture_run(&net.b, do_try_listen, &t);
    assert_null(t.socket);
    assert_non_null(strstr(t.error.text, "cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(t.error.text, "in use"));
    t.address = (struct host_address){.family = HOST_UNIX, .text = "/no/such/path"};
    loop_fixture_run(&net.b, do_try_connect, &t);
    assert_null(t.socket);
    assert_int_equal(t.error.code, ERROR_NOT_FOUND);
    net_down(&net);
}

/* ---- pacing ---- */

/* An address of this machine that is not a loopback one. */
static bool own_address(char *to, socklen_t size) {
    struct ifaddrs *all;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *i = all; i != NULL && !found; i = i->ifa_next) {
        const struct sockaddr_in *address = (const void *)i->ifa_addr;
        found = address != NULL && address->sin_family == AF_INET && ntohl(address->sin_addr.s_addr) >> 24 != 127 &&
                inet_ntop(AF_INET, &address->sin_addr, to, size) != NULL;
    }
    freeifaddrs(all);
    return found;
}

/* How many ends of connections to our port there are, and how many of them are unpaced. */
static unsigned ends(uint16_t port, unsigned *ret_unpaced) {
    unsigned count = 0;
    *ret_unpaced = 0;
    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_in local = {0}, peer = {0};
        socklen_t local_length = sizeof(local), peer_length = sizeof(peer), length = 16;
        char name[16] = "";
        if (getpeername(fd, (struct sockaddr *)&peer, &peer_length) != 0 || peer.sin_family != AF_INET ||
            getsockname(fd, (struct sockaddr *)&local, &local_length) != 0)
            continue;
        if (ntohs(local.sin_port) != port && ntohs(peer.sin_port) != port)
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
        count++;
        *ret_unpaced += strcmp(name, "reno") == 0;
    }
    return count;
}

/* Whatever the system's choice is for others: on loopback and on an address of its own, the listener on that or on all of them.
 */
static void connections_within_the_machine_are_not_paced(void **state) {
    (void)state;
    char own[64];
    bool has_own = own_address(own, sizeof(own));
    const char *const listen[] = {"127.0.0.1", "0.0.0.0", "0.0.0.0", own}, *const to[] = {"127.0.0.1", "127.0.0.1", own, own};
    for (unsigned i = 0; i < (has_own ? 4 : 2); i++) {
        struct net net;
        unsigned unpaced;
        net_up_at(&net, HOST_IPV4, listen[i]);
        snprintf(net.address.text, sizeof(net.address.text), "%s", to[i]);
        net_connect(&net);
        assert_int_equal(ends(net.address.port, &unpaced), 2);
        assert_int_equal(unpaced, 2);
        net_down(&net);
    }
    if (!has_own)
        print_message("this machine has loopback addresses only\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_whole),
        cmocka_unit_test(each_arrival_is_told),
        cmocka_unit_test(a_closed_peer_is_told),
        cmocka_unit_test(a_refused_connection_is_told),
        cmocka_unit_test(a_socket_moves_with_its_unread_bytes),
        cmocka_unit_test(a_closed_socket_hears_nothing),
        cmocka_unit_test(unix_paths_are_taken_from_the_dead_only),
        cmocka_unit_test(bad_addresses_say_why),
        cmocka_unit_test(connections_within_the_machine_are_not_paced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
