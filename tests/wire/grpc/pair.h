/* A gRPC client and a server facing each other in memory: two connections and the bytes between them, in pieces of any size. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/text.h"
#include "grpc_echo.h"

struct pair {
    struct grpc_core core;
    struct grpc_connection server, client;
    struct echo echo;
    struct budget client_memory;
    uint64_t now_ns;
    bool server_dead, client_dead; /* input said so */
    /* How many bytes go at once: fixed (0 = all), or drawn. */
    size_t piece;
    struct random *random;
    bool to_server_stalled, to_client_stalled;
    uint64_t split_at[2]; /* one piece ends at this byte of the stream; UINT64_MAX = none; [0] to the server */
    uint64_t moved[2];
    struct text wire[2]; /* taken from output, not yet fed */
};

void pair_init(struct pair *pair, const struct grpc_limits *server, const struct grpc_limits *client);
void pair_fini(struct pair *pair);
/* Moves bytes until nothing moves any more. */
void pair_run(struct pair *pair);
/* Lets time pass in steps of at most `step_ns`, running the pair at each. */
void pair_pass(struct pair *pair, uint64_t for_ns, uint64_t step_ns);

/* A client's call and what came of it. */
struct caller {
    struct grpc_call call;
    unsigned messages, dones, writables;
    uint64_t bytes, last_number;
    char text[64]; /* of the last message */
    enum grpc_status status;
    char why[GRPC_LIMIT_TEXT];
    bool pause_each;
};

/* Prepares a call of that kind; `timeout_ns` 0 = none. */
void caller_init(struct caller *caller, struct pair *pair, enum grpc_kind kind, uint64_t timeout_ns);
/* Starts it with one message. */
void caller_start(struct caller *caller, struct pair *pair, const char *path, const Words *words);
/* The same for Echo's `method`, unary or streaming, with text, number and size. */
void caller_call(struct caller *caller, struct pair *pair, enum grpc_kind kind, const char *path, const char *text,
                 uint64_t number, uint64_t size);
