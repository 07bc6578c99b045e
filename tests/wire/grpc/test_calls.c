/* Both ends of gRPC facing each other: every kind of call under every split of bytes, deadlines, cancels, back-pressure, limits,
 * drain, keep-alive, lack of memory. */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>

#define assert_status(caller, expected)                                                                                          \
    do {                                                                                                                         \
        assert_int_equal((caller)->dones, 1);                                                                                    \
        if ((caller)->status != (expected))                                                                                      \
            fail_msg("%s: %s", grpc_status_name((caller)->status), (caller)->why);                                               \
    } while (0)

static struct pair *pair_create(void) {
    struct pair *pair = calloc(1, sizeof(*pair));
    assert_non_null(pair);
    pair_init(pair, NULL, NULL);
    return pair;
}

static void pair_destroy(struct pair *pair) {
    pair_fini(pair);
    free(pair);
}

static void *make(size_t count) {
    void *callers = calloc(count, sizeof(struct caller));
    assert_non_null(callers);
    return callers;
}

static void a_call_gets_its_answer(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Say"), "hello \u00fc", 7, 0);
    assert_int_equal(caller->dones, 0);
    pair_run(pair);
    assert_status(caller, GRPC_OK);
    assert_int_equal(caller->messages, 1);
    assert_string_equal(caller->text, "hello \u00fc");
    assert_int_equal(caller->last_number, 7);
    assert_int_equal(pair->server.call_count, 0);
    free(caller);
    pair_destroy(pair);
}

static void a_status_crosses_with_its_text(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    for (unsigned code = 1; code < GRPC_STATUS_COUNT; code++) {
        caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Fail"), "100% \u00fcbel\ttab", code, 0);
        pair_run(pair);
        assert_status(caller, (enum grpc_status)code);
        assert_string_equal(caller->why, "100% \u00fcbel?tab");
        assert_int_equal(caller->messages, 0);
    }
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Nothing"), "", 0, 0);
    pair_run(pair);
    assert_status(caller, GRPC_UNIMPLEMENTED);
    /* A unary method that says OK without a message. */
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Fail"), "", 0, 0);
    pair_run(pair);
    assert_status(caller, GRPC_INTERNAL);
    free(caller);
    pair_destroy(pair);
}

/* A mix of all kinds of calls; what comes out does not depend on how bytes are cut. */
struct mix {
    struct caller say, count, fail, chat, large;
};

static void mix_run(struct pair *pair) {
    struct mix *mix = calloc(1, sizeof(*mix));
    uint8_t *data = calloc(1, 150000);
    assert_true(mix != NULL && data != NULL);
    caller_call(&mix->say, pair, GRPC_UNARY, ECHO_PATH("Say"), "say", 1, 0);
    caller_call(&mix->count, pair, GRPC_SERVER_STREAM, ECHO_PATH("Count"), "", 40, 3000);
    caller_call(&mix->fail, pair, GRPC_UNARY, ECHO_PATH("Fail"), "no", 5, 0);
    caller_init(&mix->large, pair, GRPC_UNARY, NS_PER_S);
    Words words = WORDS_INIT;
    words.data = (ProtobufCBinaryData){150000, data};
    caller_start(&mix->large, pair, ECHO_PATH("Say"), &words);
    caller_init(&mix->chat, pair, GRPC_BIDIRECTIONAL, 0);
    words.data.len = 500;
    caller_start(&mix->chat, pair, ECHO_PATH("Chat"), &words);
    for (unsigned i = 0; i < 20; i++)
        (void)grpc_call_send(&mix->chat.call, &words.base);
    pair_run(pair);
    assert_int_equal(mix->chat.messages, 21);
    grpc_call_send_end(&mix->chat.call);
    pair_run(pair);
    assert_status(&mix->say, GRPC_OK);
    assert_status(&mix->count, GRPC_OK);
    assert_int_equal(mix->count.messages, 40);
    assert_int_equal(mix->count.bytes, 40 * 3000);
    assert_int_equal(mix->count.last_number, 1);
    assert_status(&mix->fail, GRPC_NOT_FOUND);
    assert_status(&mix->large, GRPC_OK);
    assert_int_equal(mix->large.bytes, 150000);
    assert_status(&mix->chat, GRPC_OK);
    assert_int_equal(mix->chat.bytes, 21 * 500);
    assert_false(pair->server_dead || pair->client_dead);
    assert_int_equal(pair->server.call_count, 0);
    assert_int_equal(pair->client.call_count, 0);
    assert_int_equal(pair->core.memory.used, 0);
    free(data);
    free(mix);
}

static void any_piece_size_gives_the_same(void **state) {
    (void)state;
    static const size_t pieces[] = {1, 2, 3, 5, 7, 9, 13, 64, 1000, 16393, 0};
    for (size_t i = 0; i < array_count(pieces); i++) {
        struct pair *pair = pair_create();
        pair->piece = pieces[i];
        mix_run(pair);
        mix_run(pair); /* a connection that has been used */
        pair_destroy(pair);
    }
}

static void each_single_split_gives_the_same(void **state) {
    (void)state;
    for (uint64_t byte = 1; byte < 1200; byte++)
        for (unsigned way = 0; way < 2; way++) {
            struct pair *pair = pair_create();
            struct caller *callers = make(3);
            pair->split_at[way] = byte;
            caller_call(&callers[0], pair, GRPC_UNARY, ECHO_PATH("Say"), "say", 1, 0);
            caller_call(&callers[1], pair, GRPC_SERVER_STREAM, ECHO_PATH("Count"), "", 5, 300);
            caller_call(&callers[2], pair, GRPC_UNARY, ECHO_PATH("Fail"), "no", 5, 0);
            pair_run(pair);
            assert_status(&callers[0], GRPC_OK);
            assert_status(&callers[1], GRPC_OK);
            assert_int_equal(callers[1].bytes, 1500);
            assert_status(&callers[2], GRPC_NOT_FOUND);
            free(callers);
            pair_destroy(pair);
        }
}

static void random_splits_give_the_same(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct pair *pair = pair_create();
        struct random random;
        random_init(&random, seed);
        pair->random = &random;
        mix_run(pair);
        pair_destroy(pair);
    }
}

static void a_thousand_calls_run_at_once(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    pair_run(pair); /* the client learns how many it may */
    struct caller *callers = make(1500);
    for (unsigned i = 0; i < 1500; i++)
        caller_call(&callers[i], pair, GRPC_UNARY, ECHO_PATH("Hold"), "", i, 0);
    pair_run(pair);
    assert_int_equal(pair->echo.running, 1024);
    echo_release(&pair->echo);
    pair_run(pair);
    assert_false(pair->server_dead || pair->client_dead);
    assert_int_equal(pair->echo.running, 1500 - 1024);
    echo_release(&pair->echo);
    pair_run(pair);
    for (unsigned i = 0; i < 1500; i++)
        assert_status(&callers[i], GRPC_OK);
    free(callers);
    pair_destroy(pair);
}

static void a_deadline_ends_both_sides(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *callers = make(2);
    Words words = WORDS_INIT;
    caller_init(&callers[0], pair, GRPC_UNARY, 50 * NS_PER_MS);
    caller_start(&callers[0], pair, ECHO_PATH("Hold"), &words);
    caller_init(&callers[1], pair, GRPC_UNARY, 10 * NS_PER_S);
    caller_start(&callers[1], pair, ECHO_PATH("Hold"), &words);
    pair_run(pair);
    assert_int_equal(pair->echo.running, 2);
    uint64_t next_ns;
    assert_true(grpc_connection_tick(&pair->server, pair->now_ns, &next_ns));
    assert_int_equal(next_ns, pair->now_ns + 50 * NS_PER_MS);
    /* The server's own clock, without the client's help. */
    pair->now_ns += 50 * NS_PER_MS;
    assert_true(grpc_connection_tick(&pair->server, pair->now_ns, &next_ns));
    assert_int_equal(pair->echo.cancelled, 1);
    assert_int_equal(pair->echo.running, 1);
    pair_run(pair);
    assert_status(&callers[0], GRPC_DEADLINE_EXCEEDED);
    /* And the client's, when the server does not say a word. */
    pair->to_client_stalled = true;
    pair_pass(pair, 10 * NS_PER_S, NS_PER_S);
    assert_status(&callers[1], GRPC_DEADLINE_EXCEEDED);
    pair->to_client_stalled = false;
    pair_run(pair);
    assert_int_equal(pair->echo.running, 0);
    free(callers);
    pair_destroy(pair);
}

static void a_cancel_reaches_the_handler(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    pair->echo.keep_cancelled = true;
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Hold"), "", 0, 0);
    pair_run(pair);
    grpc_call_cancel(&caller->call);
    pair_run(pair);
    assert_int_equal(caller->dones, 0);
    assert_int_equal(pair->echo.cancelled, 1);
    assert_int_equal(pair->server.call_count, 1); /* its place is taken until the handler lets go */
    echo_release(&pair->echo);
    assert_int_equal(pair->server.call_count, 0);
    /* Before a byte of it has gone. */
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Hold"), "", 0, 0);
    grpc_call_cancel(&caller->call);
    pair_run(pair);
    assert_int_equal(pair->echo.running, 0);
    free(caller);
    pair_destroy(pair);
}

static void a_reader_that_pauses_stops_the_writer(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    caller_call(caller, pair, GRPC_SERVER_STREAM, ECHO_PATH("Count"), "", 1000, 10000);
    caller->pause_each = true;
    pair_run(pair);
    assert_int_equal(caller->messages, 1);
    assert_true(pair->client_memory.used < KIB(256) && pair->core.memory.used < KIB(256));
    for (unsigned i = 2; i <= 1000; i++) {
        grpc_call_resume(&caller->call);
        pair_run(pair);
        assert_int_equal(caller->messages, i);
    }
    pair_run(pair);
    grpc_call_resume(&caller->call);
    pair_run(pair);
    assert_status(caller, GRPC_OK);
    free(caller);
    pair_destroy(pair);
}

static void a_writer_that_does_not_stop_loses_its_call(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *callers = make(2);
    caller_call(&callers[0], pair, GRPC_SERVER_STREAM, ECHO_PATH("Flood"), "", 100000, 10000);
    callers[0].pause_each = true;
    pair_run(pair);
    assert_int_equal(pair->echo.running, 0);
    assert_int_equal(pair->echo.cancelled, 1);
    assert_true(pair->core.memory.used == 0);
    grpc_call_resume(&callers[0].call);
    callers[0].pause_each = false;
    pair_run(pair);
    assert_status(&callers[0], GRPC_RESOURCE_EXHAUSTED);
    caller_call(&callers[1], pair, GRPC_UNARY, ECHO_PATH("Say"), "others are served", 0, 0);
    pair_run(pair);
    assert_status(&callers[1], GRPC_OK);
    free(callers);
    pair_destroy(pair);
}

/* Small questions with large answers, of which none is read. */
static void a_chat_is_not_read_while_its_answers_wait(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    uint8_t *data = calloc(1, 20000);
    Words words = WORDS_INIT;
    words.data = (ProtobufCBinaryData){20000, data};
    caller_init(caller, pair, GRPC_BIDIRECTIONAL, 0);
    caller->pause_each = true;
    caller_start(caller, pair, ECHO_PATH("Chat"), &words);
    for (unsigned i = 0; i < 40; i++)
        (void)grpc_call_send(&caller->call, &words.base);
    pair_run(pair);
    assert_in_range(pair->echo.chatted, 4, 20);
    assert_true(pair->core.memory.used < KIB(512));
    caller->pause_each = false;
    grpc_call_resume(&caller->call);
    pair_run(pair);
    assert_int_equal(caller->messages, 41);
    assert_true(caller->writables > 0);
    grpc_call_send_end(&caller->call);
    pair_run(pair);
    assert_status(caller, GRPC_OK);
    free(data);
    free(caller);
    pair_destroy(pair);
}

static void a_message_beyond_the_limit_is_refused(void **state) {
    (void)state;
    struct grpc_limits wide = grpc_limits_default;
    wide.message_bytes = MIB(8);
    wide.send_bytes = MIB(16);
    struct pair *pair = calloc(1, sizeof(*pair));
    pair_init(pair, NULL, &wide);
    struct caller *caller = make(1);
    uint8_t *data = calloc(1, MIB(5));
    Words words = WORDS_INIT;
    words.data = (ProtobufCBinaryData){MIB(5), data};
    /* Ours refuses to send it … */
    caller_init(caller, pair, GRPC_UNARY, 0);
    caller_start(caller, pair, ECHO_PATH("Say"), &words);
    pair_run(pair);
    assert_status(caller, GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(pair->core.calls_started, 0);
    free(data);
    free(caller);
    pair_destroy(pair);
}

static void a_broken_connection_ends_its_calls(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *callers = make(3);
    pair->echo.keep_cancelled = true;
    for (unsigned i = 0; i < 3; i++)
        caller_call(&callers[i], pair, GRPC_UNARY, ECHO_PATH("Hold"), "", i, 0);
    pair_run(pair);
    assert_int_equal(pair->echo.running, 3);
    grpc_connection_fini(&pair->client, "gone");
    for (unsigned i = 0; i < 3; i++) {
        assert_status(&callers[i], GRPC_UNAVAILABLE);
        assert_string_equal(callers[i].why, "gone");
    }
    grpc_connection_fini(&pair->server, NULL);
    assert_int_equal(pair->echo.cancelled, 3);
    assert_int_equal(pair->core.lost_calls, 3);
    struct grpc_connection_options options = {.core = &pair->core, .limits = &grpc_limits_default};
    assert_true(grpc_connection_init(&pair->server, &options, pair->now_ns));
    options = (struct grpc_connection_options){.limits = &grpc_limits_default, .authority = "again:1"};
    assert_true(grpc_connection_init(&pair->client, &options, pair->now_ns));
    for (unsigned i = 0; i < 2; i++)
        text_reset(&pair->wire[i]);
    pair->core.lost_max = 3;
    caller_call(&callers[0], pair, GRPC_UNARY, ECHO_PATH("Say"), "", 0, 0);
    pair_run(pair);
    assert_status(&callers[0], GRPC_RESOURCE_EXHAUSTED);
    echo_release(&pair->echo);
    assert_int_equal(pair->core.lost_calls, 0);
    caller_call(&callers[0], pair, GRPC_UNARY, ECHO_PATH("Say"), "", 0, 0);
    pair_run(pair);
    assert_status(&callers[0], GRPC_OK);
    free(callers);
    pair_destroy(pair);
}

static void a_drain_lets_calls_finish_and_takes_no_new_ones(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *callers = make(3);
    caller_call(&callers[0], pair, GRPC_UNARY, ECHO_PATH("Hold"), "", 0, 0);
    pair_run(pair);
    /* A call that is on its way while the server begins to drain is served. */
    caller_call(&callers[1], pair, GRPC_UNARY, ECHO_PATH("Say"), "", 0, 0);
    grpc_connection_drain(&pair->server);
    pair_run(pair);
    assert_status(&callers[1], GRPC_OK);
    assert_false(grpc_connection_takes_calls(&pair->client));
    assert_true(pair->server.drained);
    assert_false(grpc_connection_is_over(&pair->server));
    assert_false(grpc_connection_is_over(&pair->client));
    caller_init(&callers[2], pair, GRPC_UNARY, 0);
    assert_false(grpc_call_start(&pair->client, &callers[2].call, ECHO_PATH("Say"), NULL, 0));
    grpc_call_cancel(&callers[2].call);
    echo_release(&pair->echo);
    pair_run(pair);
    assert_status(&callers[0], GRPC_OK);
    assert_true(grpc_connection_is_over(&pair->server));
    assert_true(grpc_connection_is_over(&pair->client));
    free(callers);
    pair_destroy(pair);
}

static void a_silent_peer_is_given_up(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    struct caller *caller = make(1);
    caller_call(caller, pair, GRPC_UNARY, ECHO_PATH("Hold"), "", 0, 0);
    pair_pass(pair, 600 * NS_PER_S, 5 * NS_PER_S); /* pings are answered */
    assert_false(pair->server_dead || pair->client_dead);
    assert_int_equal(caller->dones, 0);
    pair->to_client_stalled = pair->to_server_stalled = true;
    pair_pass(pair, 19 * NS_PER_S, NS_PER_S); /* the last frame came up to 30 s ago */
    assert_false(pair->server_dead || pair->client_dead);
    pair_pass(pair, 31 * NS_PER_S, NS_PER_S);
    assert_true(pair->server_dead && pair->client_dead);
    grpc_call_cancel(&caller->call);
    free(caller);
    pair_destroy(pair);
}

static void a_client_without_calls_does_not_ping(void **state) {
    (void)state;
    struct pair *pair = pair_create();
    pair_run(pair);
    pair->to_client_stalled = pair->to_server_stalled = true;
    pair_pass(pair, 600 * NS_PER_S, 5 * NS_PER_S);
    assert_true(pair->server_dead);
    assert_false(pair->client_dead);
    pair_destroy(pair);
}

/* The n-th allocation of nghttp2's fails, for each n: no call hangs, nothing is left. */
static void each_lack_of_memory_ends_cleanly(void **state) {
    (void)state;
    size_t step = 64;
    for (size_t bytes = 512; bytes < 200000; bytes += step) {
        struct grpc_limits tight = grpc_limits_default;
        tight.http2.memory_bytes = bytes;
        step = bytes < 20000 ? 64 : 1024;
        struct pair *pair = calloc(1, sizeof(*pair));
        assert_non_null(pair);
        struct grpc_connection_options options = {.core = &pair->core, .limits = &tight};
        struct grpc_connection probe;
        grpc_core_init(&pair->core, MIB(1), 1);
        bool fits = grpc_connection_init(&probe, &options, 1);
        if (fits)
            grpc_connection_fini(&probe, NULL);
        grpc_core_fini(&pair->core);
        if (!fits) {
            free(pair);
            continue;
        }
        pair_init(pair, &tight, NULL);
        struct caller *callers = make(30);
        for (unsigned i = 0; i < 30; i++)
            caller_call(&callers[i], pair, i % 3 == 0 ? GRPC_SERVER_STREAM : GRPC_UNARY,
                        i % 3 == 0   ? ECHO_PATH("Count")
                        : i % 3 == 1 ? ECHO_PATH("Say")
                                     : ECHO_PATH("Fail"),
                        "x", 3, 100);
        pair_run(pair);
        grpc_connection_fini(&pair->client, "end");
        for (unsigned i = 0; i < 30; i++)
            assert_int_equal(callers[i].dones, 1);
        options = (struct grpc_connection_options){.limits = &grpc_limits_default, .authority = "x"};
        assert_true(grpc_connection_init(&pair->client, &options, pair->now_ns));
        free(callers);
        pair_destroy(pair);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_gets_its_answer),
        cmocka_unit_test(a_status_crosses_with_its_text),
        cmocka_unit_test(any_piece_size_gives_the_same),
        cmocka_unit_test(each_single_split_gives_the_same),
        cmocka_unit_test(random_splits_give_the_same),
        cmocka_unit_test(a_thousand_calls_run_at_once),
        cmocka_unit_test(a_deadline_ends_both_sides),
        cmocka_unit_test(a_cancel_reaches_the_handler),
        cmocka_unit_test(a_reader_that_pauses_stops_the_writer),
        cmocka_unit_test(a_writer_that_does_not_stop_loses_its_call),
        cmocka_unit_test(a_chat_is_not_read_while_its_answers_wait),
        cmocka_unit_test(a_message_beyond_the_limit_is_refused),
        cmocka_unit_test(a_broken_connection_ends_its_calls),
        cmocka_unit_test(a_drain_lets_calls_finish_and_takes_no_new_ones),
        cmocka_unit_test(a_silent_peer_is_given_up),
        cmocka_unit_test(a_client_without_calls_does_not_ping),
        cmocka_unit_test(each_lack_of_memory_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
