/* A hostile client, made of frames by hand, against the server: each row of the table in docs/grpc.md. What it may hold is looked
 * at after each; another connection of the same server is served all the time. */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>

#include <nghttp2/nghttp2.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8 };

/* The attacker: its bytes, and what the server answered. */
struct attack {
    struct pair pair; /* core, server, and a good client beside */
    struct grpc_connection victim;
    struct text out;
    uint64_t now_ns;
    bool dead;
    uint64_t answered; /* bytes */
    unsigned goaways, resets, frames[16];
    uint32_t goaway_code, reset_code;
    uint8_t pending[70000];
    size_t pending_length;
    nghttp2_hd_deflater *deflater;
};

static void attack_begin(struct attack *a, const struct grpc_limits *limits, bool handshake);

static void frame(struct attack *a, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t length) {
    uint8_t head[9];
    put_be32(head, (uint32_t)length << 8);
    head[3] = type;
    head[4] = flags;
    put_be32(head + 5, stream);
    text_append(&a->out, head, sizeof(head));
    text_append(&a->out, payload, length);
}

/* What the server says, frame by frame. */
static void listen_to(struct attack *a) {
    for (size_t n; (n = grpc_connection_output(&a->victim, a->pending + a->pending_length, 20000, a->now_ns)) > 0;) {
        a->answered += n;
        a->pending_length += n;
        size_t at = 0;
        while (a->pending_length - at >= 9) {
            size_t length = get_be32(a->pending + at) >> 8;
            if (a->pending_length - at < 9 + length)
                break;
            uint8_t type = a->pending[at + 3];
            const uint8_t *payload = a->pending + at + 9;
            a->frames[type & 15]++;
            if (type == GOAWAY) {
                a->goaways++;
                a->goaway_code = get_be32(payload + 4);
            } else if (type == RST_STREAM) {
                a->resets++;
                a->reset_code = get_be32(payload);
            }
            at += 9 + length;
        }
        memmove(a->pending, a->pending + at, a->pending_length - at);
        a->pending_length -= at;
    }
}

/* Hands over what was written; reads the answers unless `deaf`. */
static void send_all(struct attack *a, bool deaf) {
    for (size_t at = 0; at < a->out.length && !a->dead; at += 16384) {
        size_t length = min_u64(16384, a->out.length - at);
        a->dead = !grpc_connection_input(&a->victim, a->out.bytes + at, length, a->now_ns);
        if (!deaf)
            listen_to(a);
    }
    text_reset(&a->out);
    if (!deaf || a->dead)
        listen_to(a);
}

static void pass(struct attack *a, uint64_t for_ns) {
    uint64_t next_ns, end_ns = a->now_ns + for_ns;
    while (a->now_ns < end_ns) {
        a->now_ns += NS_PER_S;
        a->dead |= !grpc_connection_tick(&a->victim, a->now_ns, &next_ns);
        listen_to(a);
    }
}

/* The header block of a request, by HPACK, as a client would. */
static size_t block(struct attack *a, uint8_t *to, size_t size, const char *path, const char *more_name, const char *more_value) {
    nghttp2_nv fields[] = {
        {(uint8_t *)":method", (uint8_t *)"POST", 7, 4, 0},
        {(uint8_t *)":scheme", (uint8_t *)"http", 7, 4, 0},
        {(uint8_t *)":path", (uint8_t *)(uintptr_t)path, 5, strlen(path), 0},
        {(uint8_t *)":authority", (uint8_t *)"x", 10, 1, 0},
        {(uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16, 0},
        {(uint8_t *)"te", (uint8_t *)"trailers", 2, 8, 0},
        {(uint8_t *)(uintptr_t)more_name, (uint8_t *)(uintptr_t)more_value, strlen(more_name), strlen(more_value), 0},
    };
    ssize_t n = nghttp2_hd_deflate_hd(a->deflater, to, size, fields, array_count(fields));
    assert_true(n > 0);
    return (size_t)n;
}

static void request(struct attack *a, uint32_t stream, const char *path, uint8_t flags) {
    uint8_t bytes[4096];
    frame(a, HEADERS, (uint8_t)(END_HEADERS | flags), stream, bytes, block(a, bytes, sizeof(bytes), path, "x-more", "y"));
}

static void attack_begin(struct attack *a, const struct grpc_limits *limits, bool handshake) {
    memset(a, 0, sizeof(*a));
    pair_init(&a->pair, NULL, NULL);
    a->now_ns = a->pair.now_ns;
    text_init(&a->out, MIB(256));
    struct grpc_connection_options options = {.core = &a->pair.core, .limits = limits != NULL ? limits : &grpc_limits_default};
    assert_true(grpc_connection_init(&a->victim, &options, a->now_ns));
    assert_int_equal(nghttp2_hd_deflate_new(&a->deflater, 4096), 0);
    if (!handshake)
        return;
    text_append_string(&a->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(a, SETTINGS, 0, 0, "", 0);
    frame(a, SETTINGS, ACK, 0, "", 0);
    send_all(a, false);
    assert_false(a->dead);
}

static bool is_served(struct attack *a) {
    uint64_t calls = a->pair.core.calls_started;
    struct caller *caller = calloc(1, sizeof(*caller));
    a->pair.now_ns = a->now_ns;
    caller_call(caller, &a->pair, GRPC_UNARY, ECHO_PATH("Say"), "still here", 1, 0);
    pair_run(&a->pair);
    bool ok = caller->dones == 1 && caller->status == GRPC_OK && a->pair.core.calls_started == calls + 1;
    free(caller);
    return ok;
}

static void attack_end(struct attack *a) {
    assert_true(is_served(a));
    assert_true(a->victim.http2.memory.used <= MIB(4) && a->victim.memory.used <= MIB(16));
    grpc_connection_fini(&a->victim, NULL);
    nghttp2_hd_deflate_del(a->deflater);
    text_fini(&a->out);
    pair_fini(&a->pair);
    free(a);
}

static struct attack *attack_create(const struct grpc_limits *limits) {
    struct attack *a = malloc(sizeof(*a));
    assert_non_null(a);
    attack_begin(a, limits, true);
    return a;
}

#define assert_calmed(a)                                                                                                         \
    do {                                                                                                                         \
        assert_true((a)->dead);                                                                                                  \
        assert_int_equal((a)->goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);                                                           \
    } while (0)

/* ---- streams ---- */

static void rapid_reset_ends_the_connection(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    a->pair.echo.keep_cancelled = true;
    for (uint32_t stream = 1; stream < 20000 && !a->dead; stream += 2) {
        uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
        request(a, stream, ECHO_PATH("Hold"), 0);
        frame(a, DATA, END_STREAM, stream, "\0\0\0\0\0", 5);
        frame(a, RST_STREAM, 0, stream, code, 4);
        send_all(a, false);
        assert_true(a->pair.echo.running <= 1024);
    }
    assert_calmed(a);
    assert_in_range(a->pair.echo.running, 500, 502);
    attack_end(a);
}

/* The server is made to do the resetting: a window of more than 2^31. */
static void made_resets_count_as_well(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    for (uint32_t stream = 1; stream < 20000 && !a->dead; stream += 2) {
        request(a, stream, ECHO_PATH("Hold"), 0);
        frame(a, WINDOW_UPDATE, 0, stream, "\x7f\xff\xff\xff", 4);
        send_all(a, false);
    }
    assert_calmed(a);
    assert_in_range(a->resets, 480, 520);
    attack_end(a);
}

static void a_slow_rate_of_cancels_is_fine(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    for (uint32_t stream = 1; stream < 8000; stream += 2) {
        uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
        request(a, stream, ECHO_PATH("Hold"), 0);
        frame(a, DATA, END_STREAM, stream, "\0\0\0\0\0", 5);
        frame(a, RST_STREAM, 0, stream, code, 4);
        a->now_ns += NS_PER_S / 40;
        send_all(a, false);
    }
    assert_false(a->dead);
    attack_end(a);
}

static void more_streams_than_told_are_refused(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    for (uint32_t stream = 1; stream < 2 * 3000; stream += 2) {
        request(a, stream, ECHO_PATH("Hold"), 0);
        frame(a, DATA, END_STREAM, stream, "\0\0\0\0\0", 5);
        send_all(a, false);
    }
    assert_true(a->pair.echo.running <= 1024);
    assert_true(a->dead || a->goaways > 0);
    attack_end(a);
}

/* ---- headers ---- */

static void continuation_without_end_ends_the_connection(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t bytes[4096];
    size_t length = block(a, bytes, sizeof(bytes), ECHO_PATH("Say"), "x-more", "y");
    frame(a, HEADERS, 0, 1, bytes, length);
    for (unsigned i = 0; i < 100000 && !a->dead; i++) {
        frame(a, CONTINUATION, 0, 1, "", 0);
        send_all(a, false);
        assert_true(i < 100);
    }
    assert_true(a->dead);
    attack_end(a);
}

static void large_headers_are_refused(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    char *value = malloc(17000);
    uint8_t *bytes = malloc(70000);
    memset(value, '~', 16999); /* a character that Huffman's code does not shorten */
    value[16999] = '\0';
    size_t length = block(a, bytes, 70000, ECHO_PATH("Say"), "x-more", value);
    frame(a, HEADERS, 0, 1, bytes, 16000);
    frame(a, CONTINUATION, END_HEADERS, 1, bytes + 16000, length - 16000);
    send_all(a, false);
    assert_false(a->dead);
    assert_int_equal(a->frames[HEADERS], 1); /* a status, no handler */
    assert_int_equal(a->pair.core.calls_started, 0);
    free(value);
    free(bytes);
    attack_end(a);
}

/* One large field put into the table, then named by one byte again and again: 16 KiB of frame are 60 MB of fields. */
static void a_bomb_of_indexed_fields_ends_the_connection(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t *bytes = malloc(16384);
    size_t at = 0;
    bytes[at++] = 0x40; /* literal, indexed, new name */
    bytes[at++] = 1;
    bytes[at++] = 'x';
    bytes[at++] = 0x7f; /* a value of 3900 bytes, not Huffman-coded */
    bytes[at++] = (uint8_t)((3900 - 127) | 0x80);
    bytes[at++] = (uint8_t)((3900 - 127) >> 7);
    memset(bytes + at, 'a', 3900);
    at += 3900;
    memset(bytes + at, 0x80 | 62, 16384 - at); /* the newest entry */
    frame(a, HEADERS, END_HEADERS, 1, bytes, 16384);
    send_all(a, false);
    assert_calmed(a);
    free(bytes);
    attack_end(a);
}

static void broken_hpack_ends_the_connection(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    frame(a, HEADERS, END_HEADERS | END_STREAM, 1, "\xff\xff\xff\xff\xff", 5);
    send_all(a, false);
    assert_int_equal(a->goaway_code, NGHTTP2_COMPRESSION_ERROR);
    assert_true(grpc_connection_is_over(&a->victim));
    attack_end(a);
}

/* ---- frames that bring nothing on ---- */

static const struct {
    const char *name;
    uint8_t type, flags;
    uint32_t stream;
    const char *payload;
    size_t length;
} floods[] = {
    {"SETTINGS", SETTINGS, 0, 0, "\0\3\0\0\0\1", 6},
    {"empty SETTINGS", SETTINGS, 0, 0, "", 0},
    {"PING", PING, 0, 0, "12345678", 8},
    {"PRIORITY", PRIORITY, 0, 5, "\0\0\0\0\1", 5},
    {"WINDOW_UPDATE", WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4},
    {"empty DATA", DATA, 0, 1, "", 0},
    {"padding", DATA, PADDED, 1, "\3\0\0\0", 4},
};

static void floods_end_the_connection(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(floods); i++)
        for (unsigned deaf = 0; deaf < 2; deaf++) {
            struct attack *a = attack_create(NULL);
            request(a, 1, ECHO_PATH("Say"), 0);
            unsigned sent = 0;
            for (; sent < 100000 && !a->dead; sent++) {
                frame(a, floods[i].type, floods[i].flags, floods[i].stream, floods[i].payload, floods[i].length);
                send_all(a, deaf);
            }
            if (!a->dead || sent > 1100)
                fail_msg("%s: %u frames", floods[i].name, sent);
            attack_end(a);
        }
}

/* As many calls as there may be, none answered: each brings frames of its own, all at the end. */
static void a_thousand_calls_at_once_are_fine(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    const unsigned count = grpc_limits_default.http2.streams;
    for (unsigned i = 0; i < count; i++) {
        request(a, 1 + 2 * i, ECHO_PATH("Hold"), 0);
        send_all(a, false);
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < 2; j++)
            frame(a, WINDOW_UPDATE, 0, 1 + 2 * i, "\0\0\4\0", 4);
        frame(a, PING, 0, 0, "12345678", 8);
        frame(a, DATA, END_STREAM, 1 + 2 * i, "\0\0\0\0\0", 5);
        send_all(a, false);
        if (a->dead)
            fail_msg("after %u", i);
    }
    assert_int_equal(a->pair.echo.running, count);
    /* what was given for them is not more than that */
    unsigned sent = 0;
    for (; sent < 100000 && !a->dead; sent++) {
        frame(a, PING, 0, 0, "12345678", 8);
        send_all(a, false);
    }
    if (!a->dead || sent > 1000 + count + 100)
        fail_msg("%u frames", sent);
    attack_end(a);
}

/* A client that probes with each piece of a download is none of these. */
static void pings_beside_a_download_are_fine(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t body[64] = {0};
    Words words = WORDS_INIT;
    words.number = 600000;
    words.size = 5;
    size_t length = protobuf_c_message_pack(&words.base, body + 5);
    body[4] = (uint8_t)length;
    request(a, 1, ECHO_PATH("Count"), 0);
    frame(a, DATA, END_STREAM, 1, body, 5 + length);
    for (unsigned i = 0; i < 6000; i++) {
        frame(a, PING, 0, 0, "12345678", 8);
        frame(a, WINDOW_UPDATE, 0, 0, "\0\0\4\0", 4);
        frame(a, WINDOW_UPDATE, 0, 1, "\0\0\4\0", 4);
        send_all(a, false);
        if (a->dead)
            fail_msg("after %u", i);
    }
    attack_end(a);
}

/* Windows of one byte, again and again: a frame of ours for each of its. */
static void an_answer_is_not_dribbled_for_ever(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t body[64] = {0};
    Words words = WORDS_INIT;
    words.number = 100;
    words.size = 60000;
    size_t length = protobuf_c_message_pack(&words.base, body + 5);
    body[4] = (uint8_t)length;
    frame(a, SETTINGS, 0, 0, "\0\4\0\0\0\0", 6); /* INITIAL_WINDOW_SIZE 0 */
    request(a, 1, ECHO_PATH("Count"), 0);
    frame(a, DATA, END_STREAM, 1, body, 5 + length);
    unsigned i = 0;
    for (; i < 100000 && !a->dead; i++) {
        frame(a, WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4);
        send_all(a, false);
    }
    assert_calmed(a);
    assert_true(i < 2000);
    attack_end(a);
}

static void answers_that_nobody_reads_do_not_pile_up(void **state) {
    (void)state;
    struct grpc_limits limits = grpc_limits_default;
    limits.http2.resets = limits.http2.idle_frames = 1000000; /* what is behind these */
    struct attack *a = malloc(sizeof(*a));
    attack_begin(a, &limits, true);
    uint32_t stream = 1;
    for (; stream < 200000 && !a->dead; stream += 2) {
        uint8_t code[4] = {0, 0, 0, NGHTTP2_CANCEL};
        request(a, stream, ECHO_PATH("Nothing"), 0);
        frame(a, RST_STREAM, 0, stream, code, 4);
        frame(a, PING, 0, 0, "12345678", 8);
        send_all(a, true);
        assert_true(a->victim.http2.memory.used <= MIB(4));
    }
    assert_true(a->dead);
    attack_end(a);
}

/* ---- malformed frames ---- */

static void wrong_frames_end_the_connection(void **state) {
    (void)state;
    static const struct {
        uint8_t type, flags;
        uint32_t stream;
        size_t length;
        uint32_t code;
    } cases[] = {
        {DATA, 0, 1, 16385, NGHTTP2_FRAME_SIZE_ERROR},
        {SETTINGS, 0, 0, 5, NGHTTP2_FRAME_SIZE_ERROR},
        {SETTINGS, ACK, 0, 6, NGHTTP2_FRAME_SIZE_ERROR},
        {PING, 0, 0, 7, NGHTTP2_FRAME_SIZE_ERROR},
        {PING, 0, 1, 8, NGHTTP2_PROTOCOL_ERROR},
        {WINDOW_UPDATE, 0, 0, 3, NGHTTP2_FRAME_SIZE_ERROR},
        {WINDOW_UPDATE, 0, 0, 4, NGHTTP2_PROTOCOL_ERROR},
        {RST_STREAM, 0, 0, 4, NGHTTP2_PROTOCOL_ERROR},
        {RST_STREAM, 0, 99, 4, NGHTTP2_PROTOCOL_ERROR},
        {DATA, 0, 0, 4, NGHTTP2_PROTOCOL_ERROR},
        {DATA, 0, 99, 4, NGHTTP2_PROTOCOL_ERROR},
        {HEADERS, END_HEADERS, 2, 1, NGHTTP2_PROTOCOL_ERROR},
        {CONTINUATION, END_HEADERS, 1, 1, NGHTTP2_PROTOCOL_ERROR},
        {PUSH_PROMISE, END_HEADERS, 1, 5, NGHTTP2_PROTOCOL_ERROR},
        {GOAWAY, 0, 1, 8, NGHTTP2_PROTOCOL_ERROR},
    };
    static const uint8_t zeroes[20000];
    for (size_t i = 0; i < array_count(cases); i++) {
        struct attack *a = attack_create(NULL);
        frame(a, cases[i].type, cases[i].flags, cases[i].stream, zeroes, cases[i].length);
        send_all(a, false);
        if (a->goaways != 1 || a->goaway_code != cases[i].code || !grpc_connection_is_over(&a->victim))
            fail_msg("case %zu: %u GOAWAY, code %u", i, a->goaways, a->goaway_code);
        attack_end(a);
    }
}

static void another_protocol_is_hung_up_on(void **state) {
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx",
                                        "\x16\x03\x01\x02"};
    for (size_t i = 0; i < array_count(texts); i++) {
        struct attack *a = malloc(sizeof(*a));
        attack_begin(a, NULL, false);
        text_append_string(&a->out, texts[i]);
        send_all(a, false);
        assert_true(a->dead);
        attack_end(a);
    }
}

/* ---- slowness ---- */

static void halves_are_not_waited_for(void **state) {
    (void)state;
    struct attack *a = malloc(sizeof(*a));
    attack_begin(a, NULL, false);
    text_append_string(&a->out, "PRI * HTTP/2.0\r\n\r\n"); /* half a preface */
    send_all(a, false);
    pass(a, 9 * NS_PER_S);
    assert_false(a->dead);
    pass(a, 2 * NS_PER_S);
    assert_true(a->dead);
    attack_end(a);

    a = attack_create(NULL); /* half a frame, dripped */
    frame(a, DATA, 0, 1, "x", 1);
    a->out.length -= 8; /* two bytes of it */
    send_all(a, false);
    for (unsigned i = 0; i < 60 && !a->dead; i++) {
        pass(a, NS_PER_S);
        text_append(&a->out, "", i < 5 ? 1 : 0);
        send_all(a, false);
    }
    assert_true(a->dead);
    attack_end(a);

    a = attack_create(NULL); /* half a request, and pings are answered */
    request(a, 1, ECHO_PATH("Say"), 0);
    frame(a, DATA, 0, 1, "\0\0\0\1\0abc", 8);
    send_all(a, false);
    assert_int_equal(a->victim.call_count, 1);
    for (unsigned i = 0; i < 70; i++) {
        pass(a, NS_PER_S);
        frame(a, PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8);
        send_all(a, false);
    }
    assert_false(a->dead);
    assert_int_equal(a->victim.call_count, 0);
    attack_end(a);
}

static void an_answer_without_a_window_is_given_up(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t body[64] = {0};
    Words words = WORDS_INIT;
    words.number = 1000;
    words.size = 60000;
    size_t length = protobuf_c_message_pack(&words.base, body + 5);
    body[4] = (uint8_t)length;
    frame(a, SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
    request(a, 1, ECHO_PATH("Count"), 0);
    frame(a, DATA, END_STREAM, 1, body, 5 + length);
    send_all(a, false);
    assert_int_equal(a->pair.echo.running, 1);
    for (unsigned i = 0; i < 65; i++) {
        pass(a, NS_PER_S);
        frame(a, PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8);
        frame(a, WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4); /* dripped */
        send_all(a, false);
    }
    assert_int_equal(a->pair.echo.running, 0);
    assert_int_equal(a->pair.core.memory.used, 0);
    assert_false(a->dead);
    attack_end(a);
}

/* ---- memory ---- */

static void an_announced_giant_is_refused_at_once(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    request(a, 1, ECHO_PATH("Say"), 0);
    frame(a, DATA, 0, 1, "\0\xff\xff\xff\xff", 5);
    send_all(a, false);
    assert_int_equal(a->frames[HEADERS], 1);
    assert_int_equal(a->resets, 1); /* the rest is not wanted */
    assert_int_equal(a->reset_code, NGHTTP2_NO_ERROR);
    assert_int_equal(a->victim.call_count, 0);
    attack_end(a);
}

static void half_sent_giants_are_bounded(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t *zeroes = calloc(1, 16384);
    zeroes[2] = 0x40; /* 4 MiB are announced */
    unsigned streams = 0;
    for (uint32_t stream = 1; stream <= 41; stream += 2) {
        request(a, stream, ECHO_PATH("Say"), 0);
        frame(a, DATA, 0, stream, zeroes, 16384);
        streams++;
    }
    zeroes[2] = 0;
    send_all(a, false);
    size_t most = 0;
    for (unsigned round = 0; round < 200 && !a->dead; round++) {
        for (uint32_t stream = 1; stream <= 41; stream += 2)
            if (round < 200)
                frame(a, DATA, 0, stream, zeroes, 16384);
        send_all(a, false);
        most = max_u64(most, a->victim.memory.used);
    }
    assert_true(streams == 21 && most <= MIB(16) && most >= MIB(2));
    assert_true(a->dead || a->frames[HEADERS] > 0); /* some were told RESOURCE_EXHAUSTED */
    free(zeroes);
    attack_end(a);
}

static void compressed_messages_and_odd_requests_are_answered(void **state) {
    (void)state;
    struct attack *a = attack_create(NULL);
    uint8_t bytes[4096];
    static const struct {
        const char *name, *value;
    } odd[] = {{"grpc-encoding", "gzip"}, {"grpc-timeout", "never"}, {"x-odd", "and more than one request"},
               {"x-odd", "compressed"},   {"x-odd", "two requests"}, {"x-odd", "no request"}};
    for (uint32_t i = 0; i < array_count(odd); i++) {
        unsigned before = a->frames[HEADERS];
        uint32_t stream = 1 + 2 * i;
        frame(a, HEADERS, END_HEADERS, stream, bytes,
              block(a, bytes, sizeof(bytes), ECHO_PATH("Say"), odd[i].name, odd[i].value));
        if (i == 3)
            frame(a, DATA, END_STREAM, stream, "\1\0\0\0\1x", 6);
        else if (i == 4)
            frame(a, DATA, END_STREAM, stream, "\0\0\0\0\0\0\0\0\0\0", 10);
        else
            frame(a, DATA, END_STREAM, stream, "", 0);
        send_all(a, false);
        assert_int_equal(a->frames[HEADERS], before + 1);
    }
    assert_false(a->dead);
    assert_int_equal(a->victim.call_count, 0);
    attack_end(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rapid_reset_ends_the_connection),
        cmocka_unit_test(made_resets_count_as_well),
        cmocka_unit_test(a_slow_rate_of_cancels_is_fine),
        cmocka_unit_test(more_streams_than_told_are_refused),
        cmocka_unit_test(continuation_without_end_ends_the_connection),
        cmocka_unit_test(large_headers_are_refused),
        cmocka_unit_test(a_bomb_of_indexed_fields_ends_the_connection),
        cmocka_unit_test(broken_hpack_ends_the_connection),
        cmocka_unit_test(floods_end_the_connection),
        cmocka_unit_test(a_thousand_calls_at_once_are_fine),
        cmocka_unit_test(pings_beside_a_download_are_fine),
        cmocka_unit_test(an_answer_is_not_dribbled_for_ever),
        cmocka_unit_test(answers_that_nobody_reads_do_not_pile_up),
        cmocka_unit_test(wrong_frames_end_the_connection),
        cmocka_unit_test(another_protocol_is_hung_up_on),
        cmocka_unit_test(halves_are_not_waited_for),
        cmocka_unit_test(an_answer_without_a_window_is_given_up),
        cmocka_unit_test(an_announced_giant_is_refused_at_once),
        cmocka_unit_test(half_sent_giants_are_bounded),
        cmocka_unit_test(compressed_messages_and_odd_requests_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
