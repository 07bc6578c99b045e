/* Fuzzes the JSON reader: pieces do not matter, jansson agrees, and what was read is written and read again as the same. */
#include "oracle.h"
#include "wire/jsonrpc/json_writer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct json_limits limits = {.bytes_max = 16384, .values_max = 2000, .depth_max = 20};

static bool same(const struct json_document *a, const struct json_document *b) {
    return a->node_count == b->node_count && a->bytes_length == b->bytes_length &&
           memcmp(a->nodes, b->nodes, a->node_count * sizeof(*a->nodes)) == 0 &&
           (a->bytes_length == 0 || memcmp(a->bytes, b->bytes, a->bytes_length) == 0);
}

/* Byte by byte: the same events as whole. */
static void feed_slowly(const char *bytes, size_t length, const struct json_document *document) {
    struct json_reader reader;
    json_reader_init(&reader, &limits);
    enum json_event event = JSON_EVENT_MORE;
    for (size_t at = 0, used; at < length && event == JSON_EVENT_MORE; at += used)
        event = json_reader_feed(&reader, bytes + at, 1, &used);
    if (event == JSON_EVENT_MORE)
        event = json_reader_finish(&reader);
    if (document != NULL) {
        assert(event == JSON_EVENT_DOCUMENT);
        struct json_document again;
        json_reader_take(&reader, &again);
        assert(same(document, &again));
        json_document_fini(&again);
    }
    json_reader_fini(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data, *why = NULL;
    struct json_document document, again;
    if (size > limits.bytes_max)
        return 0;
    enum oracle_verdict verdict = oracle_judge(bytes, size);
    if (!json_document_parse(&document, bytes, size, &limits, &why)) {
        assert(verdict != ORACLE_YES || strcmp(why, "nested too deeply") == 0 || strcmp(why, "too many values") == 0);
        feed_slowly(bytes, size, NULL);
        return 0;
    }
    assert(verdict != ORACLE_NO);
    feed_slowly(bytes, size, &document);

    struct text text;
    struct json_writer writer;
    text_init(&text, MIB(1));
    json_writer_init(&writer, &text, size % 2 != 0);
    json_put_node(&writer, NULL, &document, json_document_root(&document));
    assert(!text.failed);
    struct json_limits wide = limits;
    wide.bytes_max = MIB(1);
    if (!json_document_parse(&again, text.bytes, text.length, &wide, &why))
        abort();
    assert(same(&document, &again));
    text_fini(&text);
    json_document_fini(&again);
    json_document_fini(&document);
    return 0;
}
