/* The JSON reader and writer: grammar, splits, limits, exact numbers; jansson as the second opinion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "oracle.h"
#include "wire/jsonrpc/json_writer.h"

static const struct json_limits limits = {.bytes_max = 4096, .values_max = 200, .depth_max = 8};

static const char *const good[] = {
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1.5",
    "1e3",
    "5.12e2",
    "1E+2",
    "0.5e-7",
    "18446744073709551615",
    "\"\"",
    "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"",
    "\"\\u0000x\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "[]",
    "{}",
    "[[],{}]",
    " [ 1 , 2 ,\t3 ]\r\n",
    "{\"a\":{\"b\":[true,false,null]},\"a\":2}",
    "[\"\x7f\"]",
    "[[[[[[[[]]]]]]]]",
};

static const char *const wrong[] = {
    "nul ",
    "tru]",
    "True",
    "+1",
    "01",
    "-",
    "-a",
    "1.",
    "1.e3",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1 2",
    "\"a\nb\"",
    "\"\\x\"",
    "\"\\u12g4\"",
    "\"\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"",
    "\"\x80\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xe2\x82\"",
    "\"\xff\"",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{1:2}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{,}",
    "]",
    "}",
    ",",
    ":",
    "'a'",
    "// no\n1",
    "[1",
    "{\"a\":1",
    "\"a",
    "\xef\xbb\xbf{}",
    "[NaN]",
    "[Infinity]",
    "{\"a\":1 \"b\":2}",
    "",
    "  ",
};

/* Feeds in pieces of `piece` bytes; the text must be one document, or bad. */
static bool reads(const char *bytes, size_t length, size_t piece, struct json_document *ret_document) {
    struct json_reader reader;
    json_reader_init(&reader, &limits);
    bool taken = false, bad = false;
    for (size_t at = 0; at < length && !bad;) {
        size_t used, n = min_u64(piece, length - at);
        char *copy = malloc(n); /* exactly so many: a sanitizer sees what is read beyond */
        memcpy(copy, bytes + at, n);
        enum json_event event = json_reader_feed(&reader, copy, n, &used);
        free(copy);
        assert_true(used <= n && (event != JSON_EVENT_MORE || used == n));
        at += used;
        bad = event == JSON_EVENT_BAD || (event == JSON_EVENT_DOCUMENT && taken);
        if (event == JSON_EVENT_DOCUMENT && !bad) {
            json_reader_take(&reader, ret_document);
            taken = true;
        }
    }
    enum json_event end = json_reader_finish(&reader);
    if (end == JSON_EVENT_DOCUMENT && !taken) {
        json_reader_take(&reader, ret_document);
        taken = true;
    } else if (end != JSON_EVENT_MORE) {
        bad = true;
    }
    json_reader_fini(&reader);
    if (bad && taken) {
        json_document_fini(ret_document);
        taken = false;
    }
    return taken;
}

static void check_equal(const struct json_document *a, const struct json_document *b) {
    assert_int_equal(a->node_count, b->node_count);
    assert_memory_equal(a->nodes, b->nodes, a->node_count * sizeof(*a->nodes));
    assert_int_equal(a->bytes_length, b->bytes_length);
    if (a->bytes_length > 0)
        assert_memory_equal(a->bytes, b->bytes, a->bytes_length);
}

static void test_good(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(good); i++) {
        size_t length = strlen(good[i]);
        struct json_document whole, split;
        assert_int_not_equal(oracle_judge(good[i], length), ORACLE_NO);
        if (!reads(good[i], length, length, &whole))
            fail_msg("not read: %s", good[i]);
        for (size_t piece = 1; piece < length; piece++) {
            assert_true(reads(good[i], length, piece, &split));
            check_equal(&whole, &split);
            json_document_fini(&split);
        }
        struct text text;
        text_init(&text, 8192);
        for (int pretty = 0; pretty < 2; pretty++) {
            struct json_writer writer;
            text_reset(&text);
            json_writer_init(&writer, &text, pretty);
            json_put_node(&writer, NULL, &whole, json_document_root(&whole));
            assert_false(text.failed);
            if (oracle_judge(good[i], length) == ORACLE_YES)
                assert_true(oracle_equal(good[i], length, text.bytes, text.length));
            assert_true(reads(text.bytes, text.length, 3, &split));
            check_equal(&whole, &split);
            json_document_fini(&split);
        }
        text_fini(&text);
        json_document_fini(&whole);
    }
}

static void test_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(wrong); i++) {
        size_t length = strlen(wrong[i]);
        struct json_document document;
        const char *why = NULL;
        assert_int_equal(oracle_judge(wrong[i], length), ORACLE_NO);
        for (size_t piece = 1; piece <= max_u64(length, 1); piece++)
            if (reads(wrong[i], length, piece, &document))
                fail_msg("read in pieces of %zu: %s", piece, wrong[i]);
        assert_false(json_document_parse(&document, wrong[i], length, &limits, &why));
        assert_non_null(why);
    }
}

/* Many documents one behind the other, cut at every place into two feeds. */
static void test_stream(void **state) {
    (void)state;
    static const char stream[] = "{\"id\":-1.5} {\"id\":1e3}[1][2]\"x\"\"y\"12 13\n{}\n\n\ttrue false";
    static const char *const expected[] = {"{\"id\":-1.5}", "{\"id\":1e3}", "[1]", "[2]", "\"x\"", "\"y\"", "12", "13", "{}",
                                           "true",          "false"};
    size_t length = sizeof(stream) - 1;
    for (size_t cut = 0; cut <= length; cut++) {
        struct json_reader reader;
        struct text text;
        json_reader_init(&reader, &limits);
        text_init(&text, 1000);
        size_t found = 0;
        for (size_t at = 0; at < length;) {
            size_t used, end = at < cut ? cut : length;
            enum json_event event = json_reader_feed(&reader, stream + at, end - at, &used);
            at += used;
            assert_int_not_equal(event, JSON_EVENT_BAD);
            if (event == JSON_EVENT_MORE)
                continue;
            struct json_document document;
            struct json_writer writer;
            json_reader_take(&reader, &document);
            text_reset(&text);
            json_writer_init(&writer, &text, false);
            json_put_node(&writer, NULL, &document, json_document_root(&document));
            assert_string_equal(text.bytes, expected[found++]);
            json_document_fini(&document);
        }
        assert_int_equal(found, array_count(expected));
        assert_true(json_reader_idle(&reader));
        text_fini(&text);
        json_reader_fini(&reader);
    }
}

static bool fits(const char *bytes, size_t length, const struct json_limits *l, const char **ret_why) {
    struct json_document document;
    if (!json_document_parse(&document, bytes, length, l, ret_why))
        return false;
    json_document_fini(&document);
    return true;
}

static void test_limits(void **state) {
    (void)state;
    const char *why;
    assert_true(fits("[[[[[[[[]]]]]]]]", 16, &limits, &why));
    assert_false(fits("[[[[[[[[[]]]]]]]]]", 18, &limits, &why));
    assert_string_equal(why, "nested too deeply");
    struct json_limits small = {.bytes_max = 6, .values_max = 3, .depth_max = 2};
    assert_true(fits("[1,2] ", 6, &small, &why));
    assert_true(fits("   [1,22]   ", 12, &small, &why)); /* blanks around it do not count */
    assert_false(fits("[1,222]", 7, &small, &why));
    assert_string_equal(why, "the document is too long");
    assert_true(fits("\"1234\"", 6, &small, &why));
    assert_false(fits("\"12345\"", 7, &small, &why));
    assert_false(fits("[1,2,3]", 7, &(struct json_limits){.bytes_max = 100, .values_max = 3, .depth_max = 2}, &why));
    assert_string_equal(why, "too many values");

    /* Ever more of one document never takes more than the limit. */
    struct json_reader reader;
    json_reader_init(&reader, &limits);
    char block[1024];
    memset(block, 'x', sizeof(block));
    block[0] = '"';
    size_t used, fed = 0;
    enum json_event event;
    for (event = JSON_EVENT_MORE; event == JSON_EVENT_MORE; block[0] = 'x', fed += used)
        event = json_reader_feed(&reader, block, sizeof(block), &used);
    assert_int_equal(event, JSON_EVENT_BAD);
    assert_int_equal(fed, limits.bytes_max + 1);
    assert_true(reader.document.bytes_capacity <= 2 * limits.bytes_max);
    json_reader_fini(&reader);
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_u64, is_i64;
        uint64_t u64;
        int64_t i64;
    } cases[] = {
        {"0", true, true, 0, 0},
        {"-0", true, true, 0, 0},
        {"0e99999999999", true, true, 0, 0},
        {"0.000", true, true, 0, 0},
        {"1e3", true, true, 1000, 1000},
        {"5.12e2", true, true, 512, 512},
        {"1.0", true, true, 1, 1},
        {"100e-2", true, true, 1, 1},
        {"1200e-2", true, true, 12, 12},
        {"0.001e3", true, true, 1, 1},
        {"10.50e1", true, true, 105, 105},
        {"10.05e1", false, false, 0, 0},
        {"1.5", false, false, 0, 0},
        {"1e-1", false, false, 0, 0},
        {"-1", false, true, 0, -1},
        {"-1e2", false, true, 0, -100},
        {"18446744073709551615", true, false, UINT64_MAX, 0},
        {"18446744073709551616", false, false, 0, 0},
        {"1.8446744073709551615e19", true, false, UINT64_MAX, 0},
        {"1844674407370955161500e-2", true, false, UINT64_MAX, 0},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
        {"-9223372036854775808", false, true, 0, INT64_MIN},
        {"-9223372036854775809", false, false, 0, 0},
        {"1e19", true, false, UINT64_C(10000000000000000000), 0},
        {"1e20", false, false, 0, 0},
        {"1e99999999999999999999", false, false, 0, 0},
        {"1e-99999999999999999999", false, false, 0, 0},
        {"100000000000000000000000000000e-27", true, true, 100, 100},
    };
    for (size_t i = 0; i < array_count(cases); i++) {
        uint64_t u64 = 7;
        int64_t i64 = 7;
        if (json_number_u64(cases[i].text, &u64) != cases[i].is_u64 || json_number_i64(cases[i].text, &i64) != cases[i].is_i64)
            fail_msg("%s", cases[i].text);
        assert_true(u64 == (cases[i].is_u64 ? cases[i].u64 : 7));
        assert_true(i64 == (cases[i].is_i64 ? cases[i].i64 : 7));
    }
}

static void test_writer(void **state) {
    (void)state;
    struct text text;
    struct json_writer writer;
    text_init(&text, 1000);
    json_writer_init(&writer, &text, false);
    json_begin_object(&writer, NULL);
    json_put_u64(&writer, "max", UINT64_MAX);
    json_put_i64(&writer, "min", INT64_MIN);
    json_put_string(&writer, "text", "a\"b\\c\n\x01\x7f\xc3\xa9\xff\xe2\x82");
    json_put_bytes(&writer, "nul", "a\0b", 3);
    json_begin_array(&writer, "list");
    json_put_bool(&writer, NULL, true);
    json_put_null(&writer, NULL);
    json_begin_object(&writer, NULL);
    json_end(&writer);
    json_end(&writer);
    json_putf(&writer, "f", "%d/%s", 3, "x");
    json_end(&writer);
    assert_string_equal(
        text.bytes,
        "{\"max\":18446744073709551615,\"min\":-9223372036854775808,\"text\":\"a\\\"b\\\\c\\n\\u0001\\u007f"
        "\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"nul\":\"a\\u0000b\",\"list\":[true,null,{}],\"f\":\"3/x\"}");
    text_reset(&text);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer, NULL);
    json_begin_array(&writer, "a");
    json_put_u64(&writer, NULL, 1);
    json_put_u64(&writer, NULL, 2);
    json_end(&writer);
    json_begin_object(&writer, "b");
    json_end(&writer);
    json_end(&writer);
    assert_string_equal(text.bytes, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
    text_fini(&text);

    text_init(&text, 5);
    json_writer_init(&writer, &text, false);
    json_put_string(&writer, NULL, "longer than that");
    assert_true(text.failed);
    text_fini(&text);
}

/* Random texts of JSON's own characters: the reader and jansson agree on each. */
static void test_oracle(void **state) {
    (void)state;
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":",    "\"a\"", "\"\\u00", "\"",
                                         "1", "-", "0", ".", "e", "true", "null",  " ",       "41\""};
    struct random random;
    random_init(&random, 20261121);
    unsigned accepted = 0;
    for (unsigned i = 0; i < 200000; i++) {
        char bytes[64];
        size_t length = 0;
        const char *why;
        for (uint64_t n = 1 + random_below(&random, 8); n > 0; n--) {
            const char *piece = pieces[random_below(&random, array_count(pieces))];
            memcpy(bytes + length, piece, strlen(piece));
            length += strlen(piece);
        }
        bool ours = fits(bytes, length, &limits, &why);
        enum oracle_verdict theirs = oracle_judge(bytes, length);
        if (theirs != ORACLE_CANNOT_SAY && ours != (theirs == ORACLE_YES))
            fail_msg("we say %d, jansson %d: %.*s", ours, theirs, (int)length, bytes);
        accepted += ours;
    }
    assert_true(accepted > 5000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_wrong),   cmocka_unit_test(test_stream),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_numbers), cmocka_unit_test(test_writer),
        cmocka_unit_test(test_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
