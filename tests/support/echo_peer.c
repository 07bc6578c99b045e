/* The Echo service on real sockets, and a client of it: for foreign clients and servers to talk to, and for the bench.
 *
 *   echo_peer serve [--port N] [--unix PATH] [--tls CA CERTIFICATE KEY] [--cpu N]    prints "ready PORT"; ends at end of input
 *   echo_peer call --port N [--tls CA CERTIFICATE KEY NAME] METHOD TEXT NUMBER SIZE    prints messages and status
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "grpc/channel.h"
#include "grpc/health.h"
#include "grpc/reflection.h"
#include "grpc_echo.h"
#include "host/linux/linux.h"

extern const unsigned char echo_descriptors[];
extern const size_t echo_descriptors_size;

struct program {
    struct host *host;
    struct reactor *reactor;
    struct reactor_message message;
    const char *unix_path, *tls[4];
    unsigned port;
    int cpu;
    struct tls_context *context; /* NULL = plain */
    char *path;                  /* of the call */
    /* serve */
    struct grpc_server *server;
    struct grpc_health *health;
    struct grpc_reflection *reflection;
    struct echo echo;
    /* call */
    struct grpc_channel *channel;
    struct grpc_channel_call call;
    const char *method, *text;
    uint64_t number, size;
    enum grpc_status status;
    _Atomic bool done;
};

static void die(const char *what) {
    fprintf(stderr, "echo_peer: %s\n", what);
    exit(1);
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 65536);
    if (file == NULL || text == NULL || fread(text, 1, 65535, file) == 0)
        die(path);
    fclose(file);
    return text;
}

static struct tls_context *tls_of(struct program *program, bool server) {
    struct error error;
    if (program->tls[0] == NULL)
        return NULL;
    char *texts[3];
    for (unsigned i = 0; i < 3; i++)
        texts[i] = read_text(program->tls[i]);
    struct tls_options options = {
        .server = server, .ca_pem = texts[0], .certificate_pem = texts[1], .key_pem = texts[2], .peer_name = program->tls[3]};
    if (!tls_context_create(&options, &program->context, &error))
        die(error.text);
    for (unsigned i = 0; i < 3; i++)
        free(texts[i]);
    return program->context;
}

/* ---- serve ---- */

static void listen_at(struct program *program, const struct host_address *address, struct tls_context *tls) {
    struct grpc_listen_options options = {.address = *address, .tls = tls};
    uint16_t port;
    struct error error;
    if (!grpc_server_listen(program->server, &options, &port, &error))
        die(error.text);
    if (address->family == HOST_IPV4)
        program->port = port;
}

static void serve(struct reactor_message *message) {
    struct program *program = container_of(message, struct program, message);
    struct grpc_server_options options = {.reactor = program->reactor};
    echo_init(&program->echo);
    program->server = grpc_server_create(&options);
    program->health = grpc_health_create(program->server);
    program->reflection = grpc_reflection_create(program->server);
    if (!grpc_server_add(program->server, &echo_service, &program->echo) ||
        !grpc_reflection_add(program->reflection, echo_service.name, echo_descriptors, echo_descriptors_size))
        die("no memory");
    struct host_address address = {.family = HOST_IPV4, .port = (uint16_t)program->port, .text = "127.0.0.1"};
    listen_at(program, &address, tls_of(program, true));
    if (program->unix_path != NULL) {
        address = (struct host_address){.family = HOST_UNIX};
        snprintf(address.text, sizeof(address.text), "%s", program->unix_path);
        listen_at(program, &address, NULL);
    }
    printf("ready %u\n", program->port);
    fflush(stdout);
}

static void on_stopped(void *arg) {
    struct program *program = arg;
    grpc_health_destroy(program->health);
    grpc_reflection_destroy(program->reflection);
    grpc_server_destroy(program->server);
    program->done = true;
}

static void stop(struct reactor_message *message) {
    struct program *program = container_of(message, struct program, message);
    grpc_server_stop(program->server, 500, on_stopped, program);
}

/* ---- call ---- */

static void on_message(struct grpc_call *call, const ProtobufCMessage *got) {
    const Words *words = (const Words *)got;
    (void)call;
    printf("message %s %llu %zu\n", words->text, (unsigned long long)words->number, words->data.len);
}

static void on_done(struct grpc_call *call) {
    struct program *program = call->arg;
    printf("status %s %s\n", grpc_status_name(call->status), call->text);
    program->done = true;
}

static void start_call(struct reactor_message *message) {
    struct program *program = container_of(message, struct program, message);
    struct grpc_channel_options options = {.reactor = program->reactor,
                                           .address = {.family = HOST_IPV4, .port = (uint16_t)program->port, .text = "127.0.0.1"},
                                           .tls = tls_of(program, false)};
    program->channel = grpc_channel_create(&options);
    enum grpc_kind kind = strcmp(program->method, "Count") == 0  ? GRPC_SERVER_STREAM
                          : strcmp(program->method, "Chat") == 0 ? GRPC_BIDIRECTIONAL
                                                                 : GRPC_UNARY;
    if (asprintf(&program->path, "/penstock.test.v1.Echo/%s", program->method) < 0)
        die("no memory");
    Words words = WORDS_INIT;
    words.text = (char *)(uintptr_t)program->text;
    words.number = program->number;
    words.size = program->size;
    grpc_channel_prepare(program->channel, &program->call, kind, program->path, WORDS, 10000);
    program->call.call.arg = program;
    program->call.call.message = on_message;
    program->call.call.done = on_done;
    (void)grpc_call_send(&program->call.call, &words.base);
    if (kind == GRPC_BIDIRECTIONAL) {
        (void)grpc_call_send(&program->call.call, &words.base);
        grpc_call_send_end(&program->call.call);
    }
    grpc_channel_start(program->channel, &program->call);
}

static void end_call(struct reactor_message *message) {
    struct program *program = container_of(message, struct program, message);
    grpc_channel_destroy(program->channel);
    program->done = true;
}

/* ---- main ---- */

static void post(struct program *program, void (*run)(struct reactor_message *message)) {
    program->message.run = run;
    reactor_post(program->reactor, &program->message);
}

static void wait_done(struct program *program) {
    while (!program->done)
        usleep(1000);
    program->done = false;
}

static void options_of(struct program *program, int argc, char **argv) {
    unsigned plain = 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
            program->port = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--unix") == 0 && i + 1 < argc)
            program->unix_path = argv[++i];
        else if (strcmp(argv[i], "--cpu") == 0 && i + 1 < argc)
            program->cpu = atoi(argv[++i]);
        else if (strcmp(argv[i], "--tls") == 0 && i + 3 < argc)
            for (unsigned j = 0; j < 3; j++)
                program->tls[j] = argv[++i];
        else if (strcmp(argv[i], "--name") == 0 && i + 1 < argc)
            program->tls[3] = argv[++i];
        else if (plain == 0)
            program->method = argv[i], plain++;
        else if (plain == 1)
            program->text = argv[i], plain++;
        else if (plain == 2)
            program->number = strtoull(argv[i], NULL, 10), plain++;
        else
            program->size = strtoull(argv[i], NULL, 10);
    }
}

static void pass(struct reactor_message *message) { container_of(message, struct program, message)->done = true; }

int main(int argc, char **argv) {
    struct program *program = calloc(1, sizeof(*program));
    struct host_linux_options host_options = {0};
    if (program == NULL || argc < 2)
        die("serve or call?");
    program->cpu = -1;
    program->text = "";
    options_of(program, argc, argv);
    struct reactor_options options = {.name = "echo", .cpu = program->cpu, .poll_mode = HOST_POLL_NEVER};
    signal(SIGPIPE, SIG_IGN);
    if (host_linux_create(&host_options, &program->host) != 0 ||
        reactor_create(program->host, &options, &program->reactor) != 0 || reactor_start(program->reactor) != 0)
        die("no reactor");
    if (strcmp(argv[1], "serve") == 0) {
        char byte;
        post(program, serve);
        while (read(STDIN_FILENO, &byte, 1) > 0)
            continue;
        post(program, stop);
    } else {
        if (program->method == NULL)
            die("which method?");
        post(program, start_call);
        wait_done(program);
        post(program, end_call);
    }
    wait_done(program);
    for (unsigned turns = 0; turns < 20; turns++) { /* jobs that free what was closed */
        usleep(1000);
        post(program, pass);
        wait_done(program);
    }
    reactor_destroy(program->reactor);
    host_linux_destroy(program->host);
    if (program->context != NULL)
        tls_context_destroy(program->context);
    free(program->path);
    free(program);
    return 0;
}
