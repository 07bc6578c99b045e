/* Fuzzes the JSON-RPC server from the socket's side: any bytes, in any pieces. The answers do not depend on the pieces, each is
 * one JSON document a line, and nothing is left behind. */
#include "harness.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rpc_limits limits = {.json = {.bytes_max = 4096, .values_max = 500, .depth_max = 12},
                                         .calls_max = 64,
                                         .output_pause = MIB(64),
                                         .answer_max = 20000};

static void run(const uint8_t *data, size_t size, size_t piece, struct text *ret_received, bool *ret_open) {
    struct harness *harness = calloc(1, sizeof(*harness));
    assert(harness != NULL);
    harness_init(harness, &limits);
    harness_say(harness, (const char *)data, size, piece);
    *ret_open = harness->open;
    *ret_received = harness->received;
    text_init(&harness->received, MIB(1));
    harness_fini(harness);
    free(harness);
}

static void check_answers(const struct text *received) {
    for (size_t at = 0; at < received->length;) {
        const char *line = received->bytes + at, *end = memchr(line, '\n', received->length - at), *why;
        struct json_document document;
        struct json_limits wide = JSON_LIMITS_DEFAULT;
        assert(end != NULL);
        if (!json_document_parse(&document, line, (size_t)(end - line), &wide, &why))
            abort();
        const struct json_node *root = json_document_root(&document);
        struct jsonrpc_response response;
        if (root->kind == JSON_KIND_OBJECT)
            assert(jsonrpc_response_parse(&document, root, &response, NULL));
        else
            assert(root->kind == JSON_KIND_ARRAY && root->count > 0);
        json_document_fini(&document);
        at += (size_t)(end - line) + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct text whole, split;
    bool whole_open, split_open;
    if (size > 8192)
        return 0;
    run(data, size, size == 0 ? 1 : size, &whole, &whole_open);
    run(data, size, size == 0 ? 1 : 1 + data[size - 1] % 7, &split, &split_open);
    assert(whole_open == split_open && whole.length == split.length);
    assert(whole.length == 0 || memcmp(whole.bytes, split.bytes, whole.length) == 0);
    check_answers(&whole);
    text_fini(&whole);
    text_fini(&split);
    return 0;
}
