/* Fuzzes a gRPC server from the socket's side: any bytes, whole and in pieces; time passes behind them. The same calls begin
 * either way, what it may hold is bounded, and nothing is left behind. The first byte: 0 = the rest as it is, else behind a
 * handshake. */
#include <stdlib.h>

#include "grpc_echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char handshake[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0";

struct outcome {
    uint64_t calls;
    bool dead, goaway;
};

static void drain_output(struct grpc_connection *connection, uint64_t now_ns) {
    uint8_t bytes[16384];
    while (grpc_connection_output(connection, bytes, sizeof(bytes), now_ns) > 0)
        continue;
}

static bool feed(struct grpc_connection *connection, const uint8_t *data, size_t size, size_t piece, uint64_t now_ns) {
    for (size_t at = 0; at < size; at += piece)
        if (!grpc_connection_input(connection, data + at, min_u64(piece, size - at), now_ns))
            return false;
    return true;
}

static struct outcome run(const uint8_t *data, size_t size, size_t piece) {
    struct grpc_core core;
    struct grpc_connection *connection = malloc(sizeof(*connection));
    struct echo echo;
    struct grpc_limits limits = grpc_limits_default;
    uint64_t now_ns = NS_PER_S, next_ns;
    assert(connection != NULL);
    limits.message_bytes = 20000;
    limits.connection_bytes = 100000;
    limits.http2.memory_bytes = 400000;
    limits.send_bytes = 20000;
    echo_init(&echo);
    grpc_core_init(&core, MIB(1), 100);
    if (!grpc_core_add(&core, &echo_service, &echo))
        abort();
    struct grpc_connection_options options = {.core = &core, .limits = &limits};
    if (!grpc_connection_init(connection, &options, now_ns))
        abort();
    struct outcome outcome = {0};
    bool alive = data[0] == 0 || feed(connection, (const uint8_t *)handshake, sizeof(handshake) - 1, 100, now_ns);
    alive = alive && feed(connection, data + 1, size - 1, piece, now_ns);
    drain_output(connection, now_ns);
    outcome.dead = !alive;
    outcome.calls = core.calls_started;
    outcome.goaway = connection->http2.peer_goaway;
    assert(connection->memory.used <= limits.connection_bytes && connection->http2.memory.used <= limits.http2.memory_bytes);
    echo_release(&echo);
    for (unsigned i = 0; i < 12 && alive; i++) {
        now_ns += 10 * NS_PER_S;
        alive = grpc_connection_tick(connection, now_ns, &next_ns);
        assert(!alive || next_ns > now_ns);
        drain_output(connection, now_ns);
    }
    grpc_connection_fini(connection, NULL);
    echo_release(&echo);
    assert(echo.running == 0);
    grpc_core_fini(&core);
    free(connection);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 16384)
        return 0;
    struct outcome whole = run(data, size, size), split = run(data, size, 1 + data[size - 1] % 19);
    assert(whole.calls == split.calls);
    /* What follows a goodbye may be ignored or refused, and too much of that is a reason to hang up. */
    assert(whole.dead == split.dead || (whole.goaway && split.goaway));
    return 0;
}
