/* The first exchange after a silence: a reactor on host/linux that answers, beside a thread that blocks in recv() and answers.
 * The same client asks each in turn, each after the same silence, so that the machine's own waking up cancels out. silence ROUNDS
 * MILLISECONDS Prints {"ours_us": [...], "bare_us": [...]}. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/linux/linux.h"
#include "reactor/reactor.h"

enum { COMMAND_BYTES = 72, ANSWER_BYTES = 4120, ROUNDS_MAX = 1000 };

struct server {
    struct reactor *reactor;
    struct host_socket *listener, *peer;
    struct host_address address;
    struct reactor_message start;
    _Atomic bool ready;
    char bytes[ANSWER_BYTES];
};

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static void on_peer(void *arg, unsigned events) {
    struct server *server = arg;
    struct slice command = {server->bytes, sizeof(server->bytes)}, answer = {server->bytes, ANSWER_BYTES};
    if ((events & HOST_READABLE) == 0)
        return;
    int64_t n = host_socket_read(server->peer, &command, 1);
    if (n == COMMAND_BYTES)
        (void)host_socket_write(server->peer, &answer, 1); /* fits the empty socket buffer */
}

static void on_listener(void *arg, unsigned events) {
    struct server *server = arg;
    int number;
    (void)events;
    server->peer = host_accept(server->listener, NULL, &number);
    if (server->peer == NULL || host_socket_attach(server->peer, server->reactor->loop, on_peer, server) != 0)
        abort();
}

static void start(struct reactor_message *message) {
    struct server *server = container_of(message, struct server, start);
    struct error error;
    server->address = (struct host_address){.family = HOST_IPV4, .text = "127.0.0.1"};
    server->listener = host_listen(server->reactor->loop, &server->address, on_listener, server, &error);
    if (server->listener == NULL)
        abort();
    host_socket_local(server->listener, &server->address);
    server->ready = true;
}

static void *serve_bare(void *arg) {
    int fd = *(int *)arg;
    char bytes[ANSWER_BYTES] = {0};
    while (recv(fd, bytes, COMMAND_BYTES, MSG_WAITALL) == COMMAND_BYTES)
        if (send(fd, bytes, ANSWER_BYTES, MSG_NOSIGNAL) != ANSWER_BYTES)
            break;
    return NULL;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
        perror("connect");
        exit(EXIT_FAILURE);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* A client that polls, at full speed: the average of 1000 exchanges. */
static double busy_us(int fd) {
    char bytes[ANSWER_BYTES] = {0};
    double before = now_us();
    for (int i = 0; i < 1000; i++) {
        if (send(fd, bytes, COMMAND_BYTES, MSG_NOSIGNAL) != COMMAND_BYTES)
            abort();
        for (size_t done = 0; done < ANSWER_BYTES;) {
            ssize_t n = recv(fd, bytes, ANSWER_BYTES - done, MSG_DONTWAIT);
            done += n > 0 ? (size_t)n : 0;
        }
    }
    return (now_us() - before) / 1000;
}

static double exchange_us(int fd, unsigned silence_ms) {
    char bytes[ANSWER_BYTES] = {0};
    struct timespec pause = {.tv_sec = silence_ms / 1000, .tv_nsec = (long)(silence_ms % 1000) * 1000000};
    if (silence_ms == 0)
        return busy_us(fd);
    nanosleep(&pause, NULL);
    double before = now_us();
    if (send(fd, bytes, COMMAND_BYTES, MSG_NOSIGNAL) != COMMAND_BYTES ||
        recv(fd, bytes, ANSWER_BYTES, MSG_WAITALL) != ANSWER_BYTES)
        abort();
    return now_us() - before;
}

static void print(const char *name, const double *values, unsigned count, const char *end) {
    printf("\"%s\":[", name);
    for (unsigned i = 0; i < count; i++)
        printf("%s%.2f", i == 0 ? "" : ",", values[i]);
    printf("]%s", end);
}

int main(int argc, char **argv) {
    unsigned rounds = argc == 3 ? (unsigned)atoi(argv[1]) : 0, silence_ms = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
    if (rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: silence ROUNDS MILLISECONDS\n");
        return EXIT_FAILURE;
    }
    static double ours[ROUNDS_MAX], bare[ROUNDS_MAX];
    struct host_linux_options host_options = {0};
    struct reactor_options options = {.name = "echo", .cpu = -1};
    struct host *host;
    struct server server = {.ready = false};
    if (host_linux_create(&host_options, &host) != 0 || reactor_create(host, &options, &server.reactor) != 0)
        return EXIT_FAILURE;
    server.start.run = start;
    reactor_post(server.reactor, &server.start);
    if (reactor_start(server.reactor) != 0)
        return EXIT_FAILURE;
    while (!server.ready)
        usleep(100);
    int our_client = connect_to(server.address.port);

    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &length) != 0)
        return EXIT_FAILURE;
    int bare_client = connect_to(ntohs(at.sin_port)), bare_server = accept(listener, NULL, NULL);
    setsockopt(bare_server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve_bare, &bare_server) != 0)
        return EXIT_FAILURE;
    for (unsigned i = 0; i < rounds; i++) {
        bool we_first = i % 2 == 0;
        double first = exchange_us(we_first ? our_client : bare_client, silence_ms);
        double second = exchange_us(we_first ? bare_client : our_client, silence_ms);
        ours[i] = we_first ? first : second;
        bare[i] = we_first ? second : first;
    }
    printf("{");
    print("ours_us", ours, rounds, ",");
    print("bare_us", bare, rounds, "}\n");
    shutdown(bare_client, SHUT_RDWR);
    pthread_join(thread, NULL);
    return 0;
}
