#include "pair.h"

#include <stdio.h>
#include <stdlib.h>

void pair_init(struct pair *pair, const struct grpc_limits *server, const struct grpc_limits *client) {
    memset(pair, 0, sizeof(*pair));
    pair->now_ns = 1000 * NS_PER_S;
    pair->split_at[0] = pair->split_at[1] = UINT64_MAX;
    echo_init(&pair->echo);
    grpc_core_init(&pair->core, GRPC_DEFAULT_SERVER_BYTES, GRPC_DEFAULT_LOST_CALLS);
    assert_true(grpc_core_add(&pair->core, &echo_service, &pair->echo));
    budget_init(&pair->client_memory, NULL, MIB(64));
    for (unsigned i = 0; i < 2; i++)
        text_init(&pair->wire[i], MIB(64));
    struct grpc_connection_options options = {.core = &pair->core, .limits = server != NULL ? server : &grpc_limits_default};
    assert_true(grpc_connection_init(&pair->server, &options, pair->now_ns));
    options = (struct grpc_connection_options){.limits = client != NULL ? client : &grpc_limits_default, .authority = "test:1"};
    assert_true(grpc_connection_init(&pair->client, &options, pair->now_ns));
}

void pair_fini(struct pair *pair) {
    grpc_connection_fini(&pair->client, NULL);
    grpc_connection_fini(&pair->server, NULL);
    echo_release(&pair->echo);
    assert_int_equal(pair->echo.running, 0);
    assert_int_equal(pair->client_memory.used, 0);
    grpc_core_fini(&pair->core);
    for (unsigned i = 0; i < 2; i++)
        text_fini(&pair->wire[i]);
}

static bool take_output(struct pair *pair, struct grpc_connection *from, struct text *wire) {
    uint8_t bytes[4096];
    size_t size = pair->random != NULL ? 1 + (size_t)random_below(pair->random, sizeof(bytes)) : sizeof(bytes);
    size_t length = grpc_connection_output(from, bytes, size, pair->now_ns);
    text_append(wire, bytes, length);
    assert_false(wire->failed);
    return length > 0;
}

static bool feed(struct pair *pair, unsigned way, struct grpc_connection *to, bool *dead) {
    struct text *wire = &pair->wire[way];
    size_t length = wire->length;
    if (length == 0 || *dead)
        return false;
    if (pair->random != NULL)
        length = 1 + (size_t)random_below(pair->random, length);
    else if (pair->piece != 0)
        length = min_u64(length, pair->piece);
    uint64_t split = pair->split_at[way];
    if (split > pair->moved[way] && split - pair->moved[way] < length)
        length = (size_t)(split - pair->moved[way]);
    uint8_t *copy = malloc(length); /* of exactly that size: a sanitizer sees more */
    assert_non_null(copy);
    memcpy(copy, wire->bytes, length);
    memmove(wire->bytes, wire->bytes + length, wire->length - length);
    wire->length -= length;
    pair->moved[way] += length;
    *dead = !grpc_connection_input(to, copy, length, pair->now_ns);
    free(copy);
    return true;
}

void pair_run(struct pair *pair) {
    for (bool moved = true; moved;) {
        moved = false;
        if (!pair->to_server_stalled) {
            moved |= take_output(pair, &pair->client, &pair->wire[0]);
            moved |= feed(pair, 0, &pair->server, &pair->server_dead);
        }
        if (!pair->to_client_stalled) {
            moved |= take_output(pair, &pair->server, &pair->wire[1]);
            moved |= feed(pair, 1, &pair->client, &pair->client_dead);
        }
    }
}

void pair_pass(struct pair *pair, uint64_t for_ns, uint64_t step_ns) {
    uint64_t end_ns = pair->now_ns + for_ns, next_ns;
    while (pair->now_ns < end_ns) {
        pair->now_ns = min_u64(end_ns, pair->now_ns + step_ns);
        pair->server_dead |= !grpc_connection_tick(&pair->server, pair->now_ns, &next_ns);
        pair->client_dead |= !grpc_connection_tick(&pair->client, pair->now_ns, &next_ns);
        pair_run(pair);
    }
}

static void on_message(struct grpc_call *call, const ProtobufCMessage *got) {
    struct caller *caller = call->arg;
    const Words *words = (const Words *)got;
    caller->messages++;
    caller->bytes += words->data.len;
    caller->last_number = words->number;
    snprintf(caller->text, sizeof(caller->text), "%s", words->text);
    if (caller->pause_each)
        grpc_call_pause(call);
}

static void on_writable(struct grpc_call *call) { ((struct caller *)call->arg)->writables++; }

static void on_done(struct grpc_call *call) {
    struct caller *caller = call->arg;
    caller->dones++;
    caller->status = call->status;
    snprintf(caller->why, sizeof(caller->why), "%s", call->text);
}

void caller_init(struct caller *caller, struct pair *pair, enum grpc_kind kind, uint64_t timeout_ns) {
    memset(caller, 0, sizeof(*caller));
    struct grpc_call_options options = {.kind = kind,
                                        .receives = WORDS,
                                        .deadline_ns = timeout_ns == 0 ? UINT64_MAX : pair->now_ns + timeout_ns,
                                        .budget = &pair->client_memory};
    grpc_call_init(&caller->call, &options);
    caller->call.arg = caller;
    caller->call.message = on_message;
    caller->call.writable = on_writable;
    caller->call.done = on_done;
    caller->status = GRPC_STATUS_COUNT;
}

void caller_start(struct caller *caller, struct pair *pair, const char *path, const Words *words) {
    (void)grpc_call_send(&caller->call, &words->base);
    assert_true(grpc_call_start(&pair->client, &caller->call, path, NULL, 0));
}

void caller_call(struct caller *caller, struct pair *pair, enum grpc_kind kind, const char *path, const char *text,
                 uint64_t number, uint64_t size) {
    Words words = WORDS_INIT;
    words.text = (char *)(uintptr_t)text;
    words.number = number;
    words.size = size;
    caller_init(caller, pair, kind, 0);
    caller_start(caller, pair, path, &words);
}
