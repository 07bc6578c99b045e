#include "wire/jsonrpc/json_writer.h"

#include <inttypes.h>
#include <stdio.h>

void json_writer_init(struct json_writer *writer, struct text *text, bool pretty) {
    *writer = (struct json_writer){.text = text, .pretty = pretty, .first = true};
}

/* Length of the UTF-8 character at p, 0 if it is none. */
static size_t utf8_length(const uint8_t *p, size_t rest) {
    uint8_t low = 0x80, high = 0xbf;
    size_t length;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        length = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        length = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < length; i++) {
        if (i >= rest || p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

static void put_escaped(struct text *text, const char *bytes, size_t length) {
    const uint8_t *p = (const uint8_t *)bytes;
    text_append_char(text, '"');
    for (size_t i = 0; i < length;) {
        size_t plain = i;
        while (plain < length && p[plain] >= 0x20 && p[plain] < 0x7f && p[plain] != '"' && p[plain] != '\\')
            plain++;
        text_append(text, bytes + i, plain - i);
        if ((i = plain) == length)
            break;
        static const char letters[] = "\"\\bfnrt", meanings[] = "\"\\\b\f\n\r\t";
        const char *found = p[i] == 0 ? NULL : strchr(meanings, p[i]);
        size_t character = p[i] >= 0x80 ? utf8_length(p + i, length - i) : 1;
        if (found != NULL) {
            text_append_char(text, '\\');
            text_append_char(text, letters[found - meanings]);
        } else if (p[i] < 0x80) {
            text_appendf(text, "\\u%04x", p[i]);
        } else if (character > 0) {
            text_append(text, bytes + i, character);
        } else {
            text_append_string(text, "\xef\xbf\xbd");
            character = 1;
        }
        i += character;
    }
    text_append_char(text, '"');
}

static void new_line(struct json_writer *writer) {
    if (!writer->pretty)
        return;
    text_append_char(writer->text, '\n');
    for (unsigned i = 0; i < writer->depth; i++)
        text_append_string(writer->text, "  ");
}

/* Comma, new line and key: what stands before a value. */
static void before(struct json_writer *writer, const char *key) {
    bool in_object = writer->depth > 0 && (writer->is_object >> (writer->depth - 1) & 1) != 0;
    assert(in_object == (key != NULL));
    assert(writer->depth > 0 || writer->first); /* one value at the top */
    if (!writer->first)
        text_append_char(writer->text, ',');
    writer->first = false;
    if (writer->depth > 0)
        new_line(writer);
    if (key == NULL)
        return;
    put_escaped(writer->text, key, writer->key_length > 0 ? writer->key_length : strlen(key));
    writer->key_length = 0;
    text_append_string(writer->text, writer->pretty ? ": " : ":");
}

static void begin(struct json_writer *writer, const char *key, bool is_object) {
    before(writer, key);
    assert(writer->depth < JSON_WRITER_DEPTH_MAX);
    uint64_t bit = UINT64_C(1) << writer->depth;
    writer->is_object = is_object ? writer->is_object | bit : writer->is_object & ~bit;
    writer->depth++;
    writer->first = true;
    text_append_char(writer->text, is_object ? '{' : '[');
}

void json_begin_object(struct json_writer *writer, const char *key) { begin(writer, key, true); }
void json_begin_array(struct json_writer *writer, const char *key) { begin(writer, key, false); }

void json_end(struct json_writer *writer) {
    assert(writer->depth > 0);
    bool empty = writer->first;
    writer->depth--;
    writer->first = false;
    if (!empty)
        new_line(writer);
    text_append_char(writer->text, (writer->is_object >> writer->depth & 1) != 0 ? '}' : ']');
}

void json_put_raw(struct json_writer *writer, const char *key, const char *json, size_t length) {
    before(writer, key);
    text_append(writer->text, json, length);
}

void json_put_null(struct json_writer *writer, const char *key) { json_put_raw(writer, key, "null", 4); }

void json_put_bool(struct json_writer *writer, const char *key, bool value) {
    json_put_raw(writer, key, value ? "true" : "false", value ? 4 : 5);
}

void json_put_u64(struct json_writer *writer, const char *key, uint64_t value) {
    char digits[24];
    json_put_raw(writer, key, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, value));
}

void json_put_i64(struct json_writer *writer, const char *key, int64_t value) {
    char digits[24];
    json_put_raw(writer, key, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRId64, value));
}

void json_put_bytes(struct json_writer *writer, const char *key, const char *value, size_t length) {
    before(writer, key);
    put_escaped(writer->text, value, length);
}

void json_put_string(struct json_writer *writer, const char *key, const char *value) {
    json_put_bytes(writer, key, value, strlen(value));
}

void json_putf(struct json_writer *writer, const char *key, const char *format, ...) {
    char value[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    assert(length >= 0 && length < (int)sizeof(value)); /* for short, composed texts */
    json_put_bytes(writer, key, value, (size_t)length);
}

void json_put_uuid(struct json_writer *writer, const char *key, const struct uuid *value) {
    char text[UUID_TEXT_SIZE];
    uuid_format(value, text);
    json_put_string(writer, key, text);
}

static void put_scalar(struct json_writer *writer, const char *key, const struct json_document *document,
                       const struct json_node *node) {
    switch ((enum json_kind)node->kind) {
    case JSON_KIND_FALSE:
    case JSON_KIND_TRUE: json_put_bool(writer, key, node->kind == JSON_KIND_TRUE); break;
    case JSON_KIND_NUMBER: json_put_raw(writer, key, json_node_text(document, node), node->length); break;
    case JSON_KIND_STRING: json_put_bytes(writer, key, json_node_text(document, node), node->length); break;
    default: json_put_null(writer, key); break;
    }
}

/* Walks the nodes in their order; the ends of containers are kept beside, no recursion. */
void json_put_node(struct json_writer *writer, const char *key, const struct json_document *document,
                   const struct json_node *node) {
    uint32_t ends[JSON_DEPTH_MAX], at = (uint32_t)(node - document->nodes), last = node->end;
    unsigned open = 0;
    while (at < last) {
        const struct json_node *n = &document->nodes[at++];
        if (n->kind == JSON_KIND_ARRAY || n->kind == JSON_KIND_OBJECT) {
            begin(writer, key, n->kind == JSON_KIND_OBJECT);
            ends[open++] = n->end;
        } else {
            put_scalar(writer, key, document, n);
        }
        for (; open > 0 && ends[open - 1] == at; open--)
            json_end(writer);
        key = NULL;
        if (open > 0 && (writer->is_object >> (writer->depth - 1) & 1) != 0) {
            key = json_node_text(document, &document->nodes[at]);
            writer->key_length = document->nodes[at++].length;
        }
    }
}
