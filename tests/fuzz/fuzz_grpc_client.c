/* Fuzzes a gRPC client from the socket's side: a server that answers any bytes, whole and in pieces. Each call ends exactly once,
 * the same way however the bytes are cut. */
#include <stdlib.h>

#include "grpc_echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS 3

struct client {
    struct grpc_connection connection;
    struct grpc_call calls[CALLS];
    unsigned dones[CALLS], messages[CALLS];
    enum grpc_status status[CALLS];
    struct budget memory;
};

static void on_message(struct grpc_call *call, const ProtobufCMessage *got) {
    struct client *client = call->arg;
    client->messages[call - client->calls]++;
    assert(protobuf_c_message_check(got));
}

static void on_done(struct grpc_call *call) {
    struct client *client = call->arg;
    client->dones[call - client->calls]++;
    client->status[call - client->calls] = call->status;
}

static void drain_output(struct grpc_connection *connection, uint64_t now_ns) {
    uint8_t bytes[16384];
    while (grpc_connection_output(connection, bytes, sizeof(bytes), now_ns) > 0)
        continue;
}

static struct client *run(const uint8_t *data, size_t size, size_t piece) {
    static const enum grpc_kind kinds[CALLS] = {GRPC_UNARY, GRPC_SERVER_STREAM, GRPC_BIDIRECTIONAL};
    static const char *const paths[CALLS] = {ECHO_PATH("Say"), ECHO_PATH("Count"), ECHO_PATH("Chat")};
    struct client *client = calloc(1, sizeof(*client));
    uint64_t now_ns = NS_PER_S, next_ns;
    Words words = WORDS_INIT;
    assert(client != NULL);
    struct grpc_connection_options options = {.limits = &grpc_limits_default, .authority = "x"};
    budget_init(&client->memory, NULL, MIB(1));
    if (!grpc_connection_init(&client->connection, &options, now_ns))
        abort();
    for (unsigned i = 0; i < CALLS; i++) {
        struct grpc_call_options call = {
            .kind = kinds[i], .receives = WORDS, .deadline_ns = 100 * NS_PER_S, .budget = &client->memory};
        grpc_call_init(&client->calls[i], &call);
        client->calls[i].arg = client;
        client->calls[i].message = on_message;
        client->calls[i].done = on_done;
        (void)grpc_call_send(&client->calls[i], &words.base);
        if (!grpc_call_start(&client->connection, &client->calls[i], paths[i], NULL, 0))
            abort();
    }
    drain_output(&client->connection, now_ns);
    bool alive = true;
    for (size_t at = 0; at < size && alive; at += piece)
        alive = grpc_connection_input(&client->connection, data + at, min_u64(piece, size - at), now_ns);
    drain_output(&client->connection, now_ns);
    for (unsigned i = 0; i < 12 && alive; i++) {
        now_ns += 10 * NS_PER_S;
        alive = grpc_connection_tick(&client->connection, now_ns, &next_ns);
        drain_output(&client->connection, now_ns);
    }
    grpc_connection_fini(&client->connection, "end");
    assert(client->memory.used == 0);
    for (unsigned i = 0; i < CALLS; i++)
        assert(client->dones[i] == 1);
    return client;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > 16384)
        return 0;
    struct client *whole = run(data, size, size), *split = run(data, size, 1 + data[size - 1] % 19);
    for (unsigned i = 0; i < CALLS; i++)
        assert(whole->messages[i] == split->messages[i] && whole->status[i] == split->status[i]);
    free(whole);
    free(split);
    return 0;
}
