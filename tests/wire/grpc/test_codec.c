/* The small grammars of gRPC, and messages of hostile origin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "grpc_echo.h"

static void timeouts_are_read_and_written(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        uint64_t ns;
    } cases[] = {{"1n", true, 1},
                 {"99999999u", true, 99999999 * NS_PER_US},
                 {"100m", true, 100 * NS_PER_MS},
                 {"2S", true, 2 * NS_PER_S},
                 {"3M", true, 180 * NS_PER_S},
                 {"1H", true, 3600 * NS_PER_S},
                 {"99999999H", true, UINT64_MAX / 4},
                 {"0n", true, 0},
                 {"", false, 0},
                 {"n", false, 0},
                 {"1", false, 0},
                 {"1s", false, 0},
                 {"-1S", false, 0},
                 {"1 S", false, 0},
                 {"123456789n", false, 0},
                 {"1.5S", false, 0}};
    for (size_t i = 0; i < array_count(cases); i++) {
        uint64_t ns = 77;
        assert_int_equal(grpc_timeout_parse(cases[i].text, strlen(cases[i].text), &ns), cases[i].ok);
        assert_int_equal(ns, cases[i].ok ? cases[i].ns : 77);
    }
    struct random random;
    random_init(&random, 1);
    for (unsigned i = 0; i < 100000; i++) {
        char text[10];
        uint64_t ns = random_u64(&random) >> (3 + random_below(&random, 60)), back = 0;
        size_t length = grpc_timeout_format(ns, text);
        assert_true(grpc_timeout_parse(text, length, &back));
        assert_true(back >= ns && back - ns <= ns / 1000000 + (ns > 99999999 ? ns / 1000 : 0));
    }
}

static void text_survives_percent_encoding(void **state) {
    (void)state;
    char encoded[200], back[100];
    static const char text[] = "100% \u00fc\u20ac\U0001f600 done";
    size_t length = grpc_text_encode(text, strlen(text), encoded, sizeof(encoded));
    for (size_t i = 0; i < length; i++)
        assert_in_range(encoded[i], 0x20, 0x7e);
    grpc_text_decode(encoded, length, back, sizeof(back));
    assert_string_equal(back, text);
    /* Cut within a character: the whole character goes. */
    length = grpc_text_encode("ab\u20ac", 5, encoded, 10);
    assert_int_equal(length, 2);
    static const struct {
        const char *from, *to;
    } cases[] = {{"a%", "a%"},      {"%4", "%4"},         {"%zz", "%zz"},           {"%41%6a", "Aj"}, {"%00x", "?x"},
                 {"%ff\xfe", "??"}, {"%ed%a0%80", "???"}, {"%f4%90%80%80", "????"}, {"%c0%af", "??"}, {"a%0ab", "a?b"}};
    for (size_t i = 0; i < array_count(cases); i++) {
        grpc_text_decode(cases[i].from, strlen(cases[i].from), back, sizeof(back));
        assert_string_equal(back, cases[i].to);
    }
    grpc_text_decode("abcdef", 6, back, 4);
    assert_string_equal(back, "abc");
}

static void content_types_and_status_numbers_are_known(void **state) {
    (void)state;
    static const char *const good[] = {"application/grpc", "application/grpc+proto", "application/grpc;x=1",
                                       "application/grpc+proto;x"};
    static const char *const bad[] = {"", "application/grpcx", "application/grpc+json", "text/plain", "application/grpc+protox"};
    for (size_t i = 0; i < array_count(good); i++)
        assert_true(grpc_content_type_ok(good[i], strlen(good[i])));
    for (size_t i = 0; i < array_count(bad); i++)
        assert_false(grpc_content_type_ok(bad[i], strlen(bad[i])));
    enum grpc_status status = GRPC_OK;
    assert_true(grpc_status_parse("16", 2, &status) && status == GRPC_UNAUTHENTICATED);
    assert_true(grpc_status_parse("17", 2, &status) && status == GRPC_UNKNOWN);
    assert_false(grpc_status_parse("", 0, &status) || grpc_status_parse("-1", 2, &status) ||
                 grpc_status_parse("9999999999", 10, &status));
}

/* ---- messages ---- */

static size_t put_varint(uint8_t *to, uint64_t value) {
    size_t length = 0;
    for (; value >= 0x80; value >>= 7)
        to[length++] = (uint8_t)(value | 0x80);
    to[length++] = (uint8_t)value;
    return length;
}

static bool accepts(const void *bytes, size_t length) {
    struct budget budget;
    struct grpc_arena arena;
    const char *why = NULL;
    budget_init(&budget, NULL, MIB(256));
    grpc_arena_init(&arena, &budget);
    const ProtobufCMessage *message = grpc_message_unpack(&arena, WORDS, bytes, length, &why);
    assert_true((message == NULL) == (why != NULL));
    grpc_arena_fini(&arena);
    assert_int_equal(budget.used, 0);
    return message != NULL;
}

static void nesting_is_bounded(void **state) {
    (void)state;
    for (unsigned depth = 1; depth <= 100000; depth = depth < 100 ? depth + 1 : depth * 10) {
        uint8_t *bytes = malloc((size_t)depth * 8), *at = bytes + (size_t)depth * 8;
        size_t length = 0;
        assert_non_null(bytes);
        for (unsigned i = 0; i < depth; i++) { /* from the inside out */
            uint8_t head[8];
            head[0] = 5 << 3 | 2;
            size_t size = 1 + put_varint(head + 1, length);
            at -= size;
            memcpy(at, head, size);
            length += size;
        }
        assert_int_equal(accepts(at, length), depth <= GRPC_LIMIT_NESTING);
        free(bytes);
    }
}

static void strings_are_text(void **state) {
    (void)state;
    assert_true(accepts("\x0a\x03"
                        "a\u00fc",
                        5));
    assert_false(accepts("\x0a\x03"
                         "a\xff"
                         "b",
                         5));
    assert_false(accepts("\x0a\x03"
                         "a\0b",
                         5));
    assert_true(accepts("\x12\x03"
                        "a\xff\0",
                        5)); /* bytes are bytes */
    assert_false(accepts("\x3a\x04\x0a\x02"
                         "a\xff",
                         6));                         /* in the key of a map */
    assert_false(accepts("\x2a\x03\x0a\x01\xff", 5)); /* in a message within */
}

static void malformed_fields_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        bool ok;
    } cases[] = {
        {"", 0, true},
        {"\x18\x05", 2, true},
        {"\x18", 1, false},                                              /* no value */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, true},      /* the largest */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, false},     /* beyond 64 bits */
        {"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12, false}, /* eleven bytes */
        {"\x0a\x05"
         "abc",
         5, false},                                                  /* beyond the end */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, false}, /* far beyond */
        {"\x08\x01", 2, false},                                      /* a string as a number */
        {"\x1a\x01\x00", 3, false},                                  /* a number as bytes */
        {"\x1b\x1c", 2, false},                                      /* groups */
        {"\x00\x01", 2, false},                                      /* field 0 */
        {"\xf8\x07\x01", 3, true},                                   /* an unknown field */
        {"\xfd\x07\x01\x02", 4, false},                              /* an unknown one that is cut */
        {"\x42\x03\x01\x02\x03", 5, true},                           /* packed */
        {"\x42\x02\x01\x80", 4, false},                              /* packed and cut */
    };
    for (size_t i = 0; i < array_count(cases); i++)
        if (accepts(cases[i].bytes, cases[i].length) != cases[i].ok)
            fail_msg("case %zu", i);
}

/* Two bytes each, and each becomes a struct; and a field that is merged with itself again and again. */
static void unpacking_is_bounded(void **state) {
    (void)state;
    for (unsigned merged = 0; merged < 2; merged++) {
        size_t length = MIB(2);
        uint8_t *bytes = malloc(length);
        assert_non_null(bytes);
        for (size_t i = 0; i < length; i += 4)
            memcpy(bytes + i, merged ? "\x2a\x02\x32\x00" : "\x32\x00\x32\x00", 4);
        struct budget budget;
        struct grpc_arena arena;
        const char *why = NULL;
        budget_init(&budget, NULL, MIB(256));
        grpc_arena_init(&arena, &budget);
        assert_null(grpc_message_unpack(&arena, WORDS, bytes, length, &why));
        assert_true(budget.used <= GRPC_LIMIT_UNPACK_BASE + length * (GRPC_LIMIT_UNPACK_FACTOR + 1));
        grpc_arena_fini(&arena);
        free(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_read_and_written),
        cmocka_unit_test(text_survives_percent_encoding),
        cmocka_unit_test(content_types_and_status_numbers_are_known),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(strings_are_text),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(unpacking_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
