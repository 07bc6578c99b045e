/* The JSON-RPC server without sockets: the envelope's golden table, decoding, order of answers, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "harness.h"
#include "rpc_test.h"

#define INVALID_REQUEST(data)                                                                                                    \
    "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"Invalid request\",\"data\":" data "}}"
#define TRUE_FOR(id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":true}"

/* What is said, and all that is answered. */
static const struct {
    const char *request, *answer;
    bool closed;
} envelope[] = {
    /* ids are echoed as they were written */
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"test_none\"}", TRUE_FOR("1") "\n", false},
    {"{\"id\":-1.5,\"method\":\"test_none\"}", TRUE_FOR("-1.5") "\n", false},
    {"{\"id\":1e3,\"method\":\"test_none\"} ", TRUE_FOR("1e3") "\n", false},
    {"{\"id\":18446744073709551616,\"method\":\"test_none\"}", TRUE_FOR("18446744073709551616") "\n", false},
    {"{\"id\":\"a\\\"b\\u00e9\",\"method\":\"test_none\"}", TRUE_FOR("\"a\\\"b\xc3\xa9\"") "\n", false},
    {"{\"id\":\"\",\"method\":\"test_none\"}", TRUE_FOR("\"\"") "\n", false},
    {"{\"id\":0,\"method\":\"test_none\"}", TRUE_FOR("0") "\n", false},
    {"{\"id\":[1],\"method\":\"test_none\"}",
     INVALID_REQUEST(
         "{\"field\":\"id\",\"value\":\"an array\",\"expected\":\"a string, a number or null\",\"text\":\"id is an array: "
         "expected a string, a number or null\"}") "\n",
     false},
    {"{\"id\":true,\"method\":\"test_none\"}",
     INVALID_REQUEST("{\"field\":\"id\",\"value\":\"true\",\"expected\":\"a string, a number or null\",\"text\":\"id is true: "
                     "expected a string, a number or null\"}") "\n",
     false},
    /* params: absent, null, {}, array, others */
    {"{\"id\":1,\"method\":\"test_none\",\"params\":null}", TRUE_FOR("1") "\n", false},
    {"{\"id\":1,\"method\":\"test_none\",\"params\":{}}",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"not a "
     "thing\",\"data\":{\"field\":\"params\",\"value\":\"given\","
     "\"expected\":\"no params at all\",\"text\":\"params is given: expected no params at all\"}}}\n",
     false},
    {"{\"id\":1,\"method\":\"test_relaxed\",\"params\":{}}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"none\"}\n", false},
    {"{\"id\":1,\"method\":\"test_relaxed\"}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"none\"}\n", false},
    {"{\"id\":1,\"method\":\"test_relaxed\",\"params\":[]}",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32603,\"message\":\"spdk_json_decode_object "
     "failed\",\"data\":{\"field\":\"params\","
     "\"value\":\"an array of 0\",\"expected\":\"an object\",\"text\":\"params is an array of 0: expected an object\"}}}\n",
     false},
    {"{\"id\":1,\"method\":\"test_none\",\"params\":7}",
     INVALID_REQUEST(
         "{\"field\":\"params\",\"value\":\"a number\",\"expected\":\"an object\",\"text\":\"params is a number: expected an "
         "object\"}") "\n",
     false},
    /* jsonrpc and method */
    {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"test_none\"}",
     INVALID_REQUEST(
         "{\"field\":\"jsonrpc\",\"value\":\"a string\",\"expected\":\"the string \\\"2.0\\\"\",\"text\":\"jsonrpc is a string: "
         "expected the string \\\"2.0\\\"\"}") "\n",
     false},
    {"{\"jsonrpc\":2.0,\"id\":1,\"method\":\"test_none\"}",
     INVALID_REQUEST(
         "{\"field\":\"jsonrpc\",\"value\":\"a number\",\"expected\":\"the string \\\"2.0\\\"\",\"text\":\"jsonrpc is a number: "
         "expected the string \\\"2.0\\\"\"}") "\n",
     false},
    {"{\"id\":1}",
     INVALID_REQUEST(
         "{\"field\":\"method\",\"value\":\"absent\",\"expected\":\"the name of a method\",\"text\":\"method is absent: expected "
         "the name of a method\"}") "\n",
     false},
    {"{\"id\":1,\"method\":5}",
     INVALID_REQUEST(
         "{\"field\":\"method\",\"value\":\"a number\",\"expected\":\"a string\",\"text\":\"method is a number: expected a "
         "string\"}") "\n",
     false},
    {"{\"id\":1,\"method\":\"no_such\"}",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"Method not "
     "found\",\"data\":{\"field\":\"method\",\"value\":"
     "\"no_such\",\"expected\":\"one of rpc_get_methods\",\"text\":\"method is no_such: expected one of rpc_get_methods\"}}}\n",
     false},
    {"{\"id\":1,\"method\":\"test_none\\u0000\"}",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"Method not "
     "found\",\"data\":{\"field\":\"method\",\"value\":"
     "\"test_none\",\"expected\":\"one of rpc_get_methods\",\"text\":\"method is test_none: expected one of "
     "rpc_get_methods\"}}}\n",
     false},
    /* unknown and doubled top-level members */
    {"{\"id\":1,\"method\":\"test_none\",\"extra\":1}",
     INVALID_REQUEST("{\"field\":\"extra\",\"value\":\"an unknown member\",\"expected\":\"jsonrpc, method, params or "
                     "id\",\"text\":\"extra is "
                     "an unknown member: expected jsonrpc, method, params or id\"}") "\n",
     false},
    {"{\"id\":1,\"id\":1,\"method\":\"test_none\"}",
     INVALID_REQUEST("{\"field\":\"id\",\"value\":\"given twice\",\"expected\":\"it once\",\"text\":\"id is given twice: "
                     "expected it once\"}") "\n",
     false},
    /* notifications */
    {"{\"method\":\"test_none\"}", "", false},
    {"{\"id\":null,\"method\":\"test_none\"}", "", false},
    {"{\"method\":\"test_fail\",\"params\":{\"errno_code\":3}}",
     "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-19,\"message\":\"No such device\",\"data\":{\"text\":\"it "
     "failed\"}}}\n",
     false},
    /* scalars */
    {"5 ",
     INVALID_REQUEST(
         "{\"field\":\"request\",\"value\":\"a number\",\"expected\":\"an object\",\"text\":\"request is a number: expected "
         "an object\"}") "\n",
     false},
    {"\"x\"",
     INVALID_REQUEST("{\"field\":\"request\",\"value\":\"a string\",\"expected\":\"an object\",\"text\":\"request is a string: "
                     "expected an object\"}") "\n",
     false},
    {"null",
     INVALID_REQUEST(
         "{\"field\":\"request\",\"value\":\"null\",\"expected\":\"an object\",\"text\":\"request is null: expected an "
         "object\"}") "\n",
     false},
    /* batches */
    {"[{\"id\":1,\"method\":\"test_none\"},{\"id\":2,\"method\":\"test_none\"}]", "[" TRUE_FOR("1") "," TRUE_FOR("2") "]\n",
     false},
    {"[{\"method\":\"test_none\"},{\"id\":2,\"method\":\"test_none\"}]", "[" TRUE_FOR("2") "]\n", false},
    {"[{\"method\":\"test_none\"},{\"id\":null,\"method\":\"test_none\"}]", "", false},
    {"[]",
     INVALID_REQUEST(
         "{\"field\":\"request\",\"value\":\"an array\",\"expected\":\"an object\",\"text\":\"request is an array: expected "
         "an object\"}") "\n",
     false},
    {"[7]",
     "[" INVALID_REQUEST(
         "{\"field\":\"request\",\"value\":\"a number\",\"expected\":\"an object\",\"text\":\"request is a number: "
         "expected an object\"}") "]\n",
     false},
    /* wrong state */
    {"{\"id\":1,\"method\":\"test_startup\"}",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"Method may only be called before framework is "
     "initialized. Use "
     "--wait-for-rpc command line parameter and then issue this RPC before the framework_start_init RPC.\"}}\n",
     false},
    {"{\"id\":1,\"method\":\"test_runtime\"}", TRUE_FOR("1") "\n", false},
    /* concatenated, with and without blanks, Longhorn's indentation */
    {"{\"id\":1,\"method\":\"test_none\"}{\"id\":2,\"method\":\"test_none\"}\n\n{\n\t\"id\": 3,\n\t\"method\": "
     "\"test_none\"\n}\n",
     TRUE_FOR("1") "\n" TRUE_FOR("2") "\n" TRUE_FOR("3") "\n", false},
    /* not JSON: closed, what came before is answered */
    {"{\"id\":1,\"method\":\"test_none\"}}", TRUE_FOR("1") "\n", true},
    {"GET / HTTP/1.1\r\n", "", true},
    {"{\"id\":1,\"method\":\"test_none\",}", "", true},
    {"{'id':1}", "", true},
    {"{\"id\":01}", "", true},
    {"{\"id\":1,\"method\":\"\xff\"}", "", true},
};

static void check(struct harness *harness, size_t row, const char *got) {
    if (strcmp(got, envelope[row].answer) != 0)
        fail_msg("to %s\n  expected %s\n  but got  %s", envelope[row].request, envelope[row].answer, got);
    assert_int_equal(harness->open, !envelope[row].closed);
}

static void test_envelope(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(envelope); i++) {
        struct harness harness;
        size_t length = strlen(envelope[i].request);
        for (size_t piece = 1; piece <= length; piece = piece < 4 || piece == length ? piece + 1 : length) {
            harness_init(&harness, &RPC_LIMITS_DEFAULT);
            check(&harness, i, harness_say(&harness, envelope[i].request, length, piece));
            harness_fini(&harness);
        }
        /* and cut at every byte into two */
        for (size_t cut = 1; cut < length; cut++) {
            harness_init(&harness, &RPC_LIMITS_DEFAULT);
            harness_say(&harness, envelope[i].request, cut, cut);
            check(&harness, i, harness_say(&harness, envelope[i].request + cut, length - cut, length));
            harness_fini(&harness);
        }
    }
}

static void test_startup_state(void **state) {
    (void)state;
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    harness.server.state = RPC_STATE_STARTUP;
    assert_string_equal(harness_ask(&harness, "{\"id\":1,\"method\":\"test_startup\"}"), TRUE_FOR("1") "\n");
    assert_string_equal(
        harness_ask(&harness, "{\"id\":1,\"method\":\"test_runtime\"}"),
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"Method may only be called after framework is "
        "initialized using framework_start_init RPC.\"}}\n");
    harness_fini(&harness);
}

/* Parameters of test_echo, and what they were decoded to; or field, value and expected of the error. */
static const struct {
    const char *params, *result;
    const char *field, *value, *expected;
} decoding[] = {
#define REST "\"names\":[],\"numbers\":[],\"addresses\":[],\"map\":{}}"
    {.params = "{}", .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"colour\":1," REST},
    {.params = "{\"flag\":false,\"u8\":255,\"u16\":0,\"u32\":1e3,\"u64\":18446744073709551615,\"i32\":-5}",
     .result = "{\"flag\":false,\"u8\":255,\"u16\":0,\"u32\":1000,\"u64\":18446744073709551615,\"i32\":-5,\"colour\":1," REST},
    {.params = "{\"u64\":5.12e2,\"string\":\"12345678\",\"uuid\":\"ABCDEF01-2345-6789-abcd-EF0123456789\"}",
     .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"u64\":512,\"string\":\"12345678\",\"uuid\":\"abcdef01-2345-6789-abcd-"
               "ef0123456789\","
               "\"colour\":1," REST},
    {.params = "{\"text\":\"x\"}", .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"string\":\"x\",\"colour\":1," REST},
    {.params = "{\"colour\":\"5f\",\"any\":\"green\",\"mask\":[\"5f\",\"red\",\"red\"]}",
     .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"colour\":2,\"any\":1,\"mask\":5," REST},
    {.params = "{\"address\":{\"trtype\":\"tcp\"},\"names\":[\"a\",\"b\"],\"numbers\":[1,4294967295],\"addresses\":[{\"trtype\":"
               "\"x\",\"port\":1},"
               "{\"port\":2,\"trtype\":\"y\"}],\"map\":{\"k\":\"v\",\"\":\"\"}}",
     .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"colour\":1,\"address\":{\"trtype\":\"tcp\",\"port\":4420},\"names\":[\"a\","
               "\"b\"],\"numbers\":"
               "[1,4294967295],\"addresses\":[{\"trtype\":\"x\",\"port\":1},{\"trtype\":\"y\",\"port\":2}],\"map\":{\"k\":\"v\","
               "\"\":\"\"}}"},
    {.params = "{\"names\":\"one\"}",
     .result =
         "{\"flag\":true,\"u16\":16,\"u32\":2,\"colour\":1,\"names\":[\"one\"],\"numbers\":[],\"addresses\":[],\"map\":{}}"},
    /* absent features by their defaults, and what has no effect */
    {.params = "{\"md_size\":0,\"psk\":\"\",\"pool\":77}", .result = "{\"flag\":true,\"u16\":16,\"u32\":2,\"colour\":1," REST},

    {.params = "{\"flag\":1}", .field = "flag", .value = "1", .expected = "true or false"},
    {.params = "{\"flag\":\"true\"}", .field = "flag", .value = "\\\"true\\\"", .expected = "true or false"},
    {.params = "{\"flag\":null}", .field = "flag", .value = "null", .expected = "true or false"},
    {.params = "{\"u8\":256}", .field = "u8", .value = "256", .expected = "an integer from 0 to 255"},
    {.params = "{\"u8\":-1}", .field = "u8", .value = "-1", .expected = "an integer from 0 to 255"},
    {.params = "{\"u8\":1.5}", .field = "u8", .value = "1.5", .expected = "an integer from 0 to 255"},
    {.params = "{\"u8\":\"1\"}", .field = "u8", .value = "\\\"1\\\"", .expected = "an integer from 0 to 255"},
    {.params = "{\"u16\":65536}", .field = "u16", .value = "65536", .expected = "an integer from 0 to 65535"},
    {.params = "{\"u32\":1}", .field = "u32", .value = "1", .expected = "an integer from 2 to 1000"},
    {.params = "{\"u32\":1001}", .field = "u32", .value = "1001", .expected = "an integer from 2 to 1000"},
    {.params = "{\"u64\":18446744073709551616}",
     .field = "u64",
     .value = "18446744073709551616",
     .expected = "an integer from 0 to 18446744073709551615"},
    {.params = "{\"i32\":-6}", .field = "i32", .value = "-6", .expected = "an integer from -5 to 2147483647"},
    {.params = "{\"string\":5}", .field = "string", .value = "5", .expected = "a string"},
    {.params = "{\"string\":\"123456789\"}", .field = "string", .value = "\\\"123456789\\\"", .expected = "at most 8 bytes"},
    {.params = "{\"string\":\"a\\u0000\"}", .field = "string", .value = "\\\"a\\\"", .expected = "a string without zero bytes"},
    {.params = "{\"uuid\":\"abc\"}",
     .field = "uuid",
     .value = "\\\"abc\\\"",
     .expected = "a UUID, 8-4-4-4-12 hexadecimal digits"},
    {.params = "{\"colour\":\"green\"}", .field = "colour", .value = "\\\"green\\\"", .expected = "one of red, GREEN, 5f"},
    {.params = "{\"colour\":1}", .field = "colour", .value = "1", .expected = "one of red, GREEN, 5f"},
    {.params = "{\"any\":\"blue\"}", .field = "any", .value = "\\\"blue\\\"", .expected = "one of red, GREEN, 5f"},
    {.params = "{\"mask\":\"red\"}", .field = "mask", .value = "\\\"red\\\"", .expected = "an array of strings"},
    {.params = "{\"mask\":[\"red\",\"blue\"]}", .field = "mask", .value = "\\\"blue\\\"", .expected = "one of red, GREEN, 5f"},
    {.params = "{\"address\":{}}", .field = "address.trtype", .value = "absent", .expected = "it: the parameter is required"},
    {.params = "{\"address\":{\"trtype\":\"a\",\"port\":-1}}",
     .field = "address.port",
     .value = "-1",
     .expected = "an integer from 0 to 65535"},
    {.params = "{\"address\":{\"trtype\":\"a\",\"x\":-1}}",
     .field = "address.x",
     .value = "-1",
     .expected = "only these members: trtype, port"},
    {.params = "{\"address\":7}", .field = "address", .value = "7", .expected = "an object"},
    {.params = "{\"names\":{}}", .field = "names", .value = "an object of 0", .expected = "a string"},
    {.params = "{\"names\":[\"a\",2]}", .field = "names[1]", .value = "2", .expected = "a string"},
    {.params = "{\"names\":[\"a\",\"b\",\"c\",\"d\"]}",
     .field = "names",
     .value = "an array of 4",
     .expected = "at most 3 items"},
    {.params = "{\"numbers\":5}", .field = "numbers", .value = "5", .expected = "an array"},
    {.params = "{\"numbers\":[4294967296]}",
     .field = "numbers[0]",
     .value = "4294967296",
     .expected = "an integer from 0 to 4294967295"},
    {.params = "{\"addresses\":[{\"trtype\":\"a\"},{\"trtype\":1}]}",
     .field = "addresses[1].trtype",
     .value = "1",
     .expected = "a string"},
    {.params = "{\"map\":{\"a\":1}}", .field = "map.a", .value = "1", .expected = "a string"},
    {.params = "{\"map\":{\"a\":\"1\",\"a\":\"2\"}}", .field = "map.a", .value = "given twice", .expected = "it once"},
    {.params = "{\"map\":{\"a\":\"1\",\"b\":\"2\",\"c\":\"\"}}",
     .field = "map",
     .value = "an object of 3",
     .expected = "at most 2 members"},
    {.params = "{\"map\":[]}", .field = "map", .value = "an array of 0", .expected = "an object of strings"},
    {.params = "{\"u8\":1,\"u8\":1}", .field = "u8", .value = "given twice", .expected = "it once"},
    {.params = "{\"text\":\"a\",\"str\":\"a\"}", .field = "str", .value = "given twice", .expected = "it once"},
    {.params = "{\"pool\":-1}", .field = "pool", .value = "-1", .expected = "an integer from 0 to 4294967295"},
};

static void test_decoding(void **state) {
    (void)state;
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    for (size_t i = 0; i < array_count(decoding); i++) {
        char request[1024], answer[1024];
        snprintf(request, sizeof(request), "{\"id\":1,\"method\":\"test_echo\",\"params\":%s}", decoding[i].params);
        if (decoding[i].result != NULL)
            snprintf(answer, sizeof(answer), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}\n", decoding[i].result);
        else
            snprintf(answer, sizeof(answer),
                     "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32603,\"message\":\"spdk_json_decode_object "
                     "failed\",\"data\":{\"field\":"
                     "\"%s\",\"value\":\"%s\",\"expected\":\"%s\",\"text\":",
                     decoding[i].field, decoding[i].value, decoding[i].expected);
        const char *got = harness_ask(&harness, request);
        if (decoding[i].result != NULL ? strcmp(got, answer) != 0 : strncmp(got, answer, strlen(answer)) != 0)
            fail_msg("to %s\n  expected %s\n  but got  %s", request, answer, got);
        assert_true(harness.open);
    }
    harness_fini(&harness);
}

static void test_decoding_codes(void **state) {
    (void)state;
    static const struct {
        const char *request, *answer;
    } rows[] = {
        {"{\"id\":1,\"method\":\"test_needs\"}",
         "\"code\":-32602,\"message\":\"Invalid "
         "parameters\",\"data\":{\"field\":\"name\",\"value\":\"absent\",\"expected\":\"it: the parameter is "
         "required\""},
        {"{\"id\":1,\"method\":\"test_needs\",\"params\":{\"name\":\"a\",\"size\":1,\"sise\":2}}",
         "\"code\":-32602,\"message\":\"Invalid parameters\",\"data\":{\"field\":\"sise\",\"value\":\"2\",\"expected\":\"only "
         "these members: name, "
         "size\",\"text\":\"there is no parameter sise\""},
        {"{\"id\":1,\"method\":\"test_relaxed\",\"params\":{\"other\":{\"x\":[1]},\"name\":\"n\"}}", "\"result\":\"n\""},
        {"{\"id\":1,\"method\":\"test_echo\",\"params\":{\"md_size\":8}}",
         "\"code\":-95,\"message\":\"Operation not supported\",\"data\":{\"field\":\"md_size\",\"value\":\"8\",\"expected\":\"it "
         "absent, or its "
         "default: no metadata here\",\"text\":\"md_size is not supported: no metadata here\""},
        {"{\"id\":1,\"method\":\"test_echo\",\"params\":{\"psk\":\"key\"}}",
         "\"code\":-95,\"message\":\"Operation not supported\",\"data\":{\"field\":\"psk\""},
        {"{\"id\":1,\"method\":\"test_echo\",\"params\":{\"many\":{\"trtype\":\"a\"}}}", "\"code\":-95,"},
        {"{\"id\":1,\"method\":\"test_fail\",\"params\":{\"errno_code\":8}}",
         "\"code\":-28,\"message\":\"No space left on device\""},
        {"{\"id\":1,\"method\":\"test_fail\",\"params\":{\"errno_code\":8,\"late\":true}}",
         "\"code\":-32602,\"message\":\"No space left on device\""},
    };
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    for (size_t i = 0; i < array_count(rows); i++) {
        const char *got = harness_ask(&harness, rows[i].request);
        if (strstr(got, rows[i].answer) == NULL)
            fail_msg("to %s\n  expected %s\n  but got  %s", rows[i].request, rows[i].answer, got);
    }
    harness_fini(&harness);
}

/* Answers come as the operations end, not as they were asked for; a slow one holds nobody up. */
static void test_order(void **state) {
    (void)state;
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    assert_string_equal(
        harness_ask(&harness,
                    "{\"id\":1,\"method\":\"test_wait\"}{\"id\":2,\"method\":\"test_wait\"}{\"id\":3,\"method\":\"test_none\"}"),
        TRUE_FOR("3") "\n");
    text_reset(&harness.received);
    unsigned ready = harness.ready_count;
    harness_answer(&harness, 1);
    assert_int_equal(harness.ready_count, ready + 1);
    harness_answer(&harness, 0);
    harness_drain(&harness);
    assert_string_equal(harness.received.bytes, TRUE_FOR("2") "\n" TRUE_FOR("1") "\n");

    /* a batch waits for its last call; its answers stand in order of completion */
    assert_string_equal(
        harness_ask(
            &harness,
            "[{\"id\":4,\"method\":\"test_wait\"},{\"id\":5,\"method\":\"test_none\"},{\"id\":6,\"method\":\"test_wait\"}]"),
        "");
    harness_answer(&harness, 3);
    harness_drain(&harness);
    assert_string_equal(harness.received.bytes, "");
    harness_answer(&harness, 2);
    harness_drain(&harness);
    assert_string_equal(harness.received.bytes, "[" TRUE_FOR("5") "," TRUE_FOR("6") "," TRUE_FOR("4") "]\n");
    harness_fini(&harness);
}

/* The client goes: the operations end unheard, alone and in a batch. */
static void test_disconnect(void **state) {
    (void)state;
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    harness_ask(&harness, "{\"id\":1,\"method\":\"test_wait\"}[{\"id\":4,\"method\":\"test_wait\"},{\"id\":5,\"method\":\"test_"
                          "none\"}]{\"id\":1,\"met");
    rpc_connection_close(&harness.connection);
    harness.open = false;
    assert_int_equal(harness.server.call_count, 2);
    harness_answer(&harness, 0);
    harness_answer(&harness, 1);
    assert_int_equal(harness.server.call_count, 0);
    harness_fini(&harness);
}

static void test_limits(void **state) {
    (void)state;
    struct rpc_limits limits = {
        .json = {.bytes_max = 200, .values_max = 40, .depth_max = 6}, .calls_max = 3, .output_pause = 100, .answer_max = 5000};
    struct harness harness;
    char request[400];

    /* bytes of a request: closed, and nothing is answered */
    harness_init(&harness, &limits);
    memset(request, ' ', sizeof(request));
    memcpy(request, "{\"id\":1,", 8);
    memcpy(request + 180, "\"method\":\"test_none\"}", 21);
    assert_string_equal(harness_say(&harness, request, 201, 50), "");
    assert_false(harness.open);
    harness_fini(&harness);

    harness_init(&harness, &limits);
    assert_string_equal(harness_ask(&harness, "{\"id\":1,\"method\":\"test_none\",\"params\":[[[[[[]]]]]]}"), "");
    assert_false(harness.open);
    harness_fini(&harness);

    /* calls under way: not read beyond, and on again when one has ended */
    static const char wait[] = "{\"id\":1,\"method\":\"test_wait\"}";
    harness_init(&harness, &limits);
    for (unsigned i = 0; i < 3; i++)
        harness_ask(&harness, wait);
    assert_int_equal(harness.waiting_count, 3);
    assert_false(rpc_connection_reads(&harness.connection));
    assert_int_equal(rpc_connection_input(&harness.connection, wait, sizeof(wait) - 1), 0);
    unsigned ready = harness.ready_count;
    harness_answer(&harness, 0);
    assert_int_equal(harness.ready_count, ready + 1);
    assert_true(rpc_connection_reads(&harness.connection));
    assert_int_equal(rpc_connection_input(&harness.connection, wait, sizeof(wait) - 1), sizeof(wait) - 1);
    harness_fini(&harness);

    /* a batch may have no more calls than that */
    harness_init(&harness, &limits);
    assert_non_null(strstr(harness_ask(&harness, "[1,2,3,4]"), "\"code\":-32600"));
    assert_non_null(strstr(harness_ask(&harness, "[1,2,3]"), "},{"));
    harness_fini(&harness);

    /* a client that does not read its answers is not read either */
    harness_init(&harness, &limits);
    static const char none[] = "{\"id\":1,\"method\":\"test_none\"}";
    unsigned taken = 0;
    while (rpc_connection_input(&harness.connection, none, sizeof(none) - 1) == sizeof(none) - 1)
        taken++;
    assert_true(harness.connection.output_bytes >= limits.output_pause &&
                harness.connection.output_bytes < limits.output_pause + 100);
    assert_int_equal(taken, harness.connection.output_bytes / strlen(TRUE_FOR("1") "\n"));
    harness_drain(&harness);
    assert_true(rpc_connection_reads(&harness.connection));
    harness_fini(&harness);

    /* an answer that is too large */
    harness_init(&harness, &limits);
    assert_int_equal(strlen(harness_ask(&harness, "{\"id\":1,\"method\":\"test_big\",\"params\":{\"size\":4000}}")), 4000 + 37);
    assert_string_equal(harness_ask(&harness, "{\"id\":1,\"method\":\"test_big\",\"params\":{\"size\":5000}}"),
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32603,\"message\":\"Internal "
                        "error\",\"data\":{\"text\":\"the answer is larger than "
                        "5000 bytes\"}}}\n");
    harness_fini(&harness);
}

/* A number at the end of the stream is complete when the client says that it sends no more. */
static void test_end_of_stream(void **state) {
    (void)state;
    struct harness harness;
    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    assert_string_equal(harness_ask(&harness, "7"), "");
    rpc_connection_input_end(&harness.connection);
    harness_drain(&harness);
    assert_non_null(strstr(harness.received.bytes, "-32600"));
    assert_false(harness.connection.closing);
    harness_fini(&harness);

    harness_init(&harness, &RPC_LIMITS_DEFAULT);
    harness_ask(&harness, "{\"id\":1");
    rpc_connection_input_end(&harness.connection);
    assert_true(harness.connection.closing);
    harness_fini(&harness);
}

/* The generated table can be searched: sorted, and each name is found. */
static void test_table(void **state) {
    (void)state;
    for (uint32_t i = 0; i < rpc_table_test.count; i++) {
        assert_ptr_equal(rpc_table_find(&rpc_table_test, rpc_table_test.methods[i].name), &rpc_table_test.methods[i]);
        assert_true(i == 0 || strcmp(rpc_table_test.methods[i - 1].name, rpc_table_test.methods[i].name) < 0);
    }
    assert_null(rpc_table_find(&rpc_table_test, ""));
    assert_null(rpc_table_find(&rpc_table_test, "test_"));
    assert_null(rpc_table_find(&rpc_table_test, "zzz"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope),       cmocka_unit_test(test_startup_state), cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_decoding_codes), cmocka_unit_test(test_order),         cmocka_unit_test(test_disconnect),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_end_of_stream), cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
