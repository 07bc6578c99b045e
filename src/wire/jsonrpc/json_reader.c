#include "wire/jsonrpc/json_reader.h"

#include <stdlib.h>

enum state {
    STATE_VALUE,       /* a value must come */
    STATE_FIRST_VALUE, /* behind '[': a value or ']' */
    STATE_FIRST_KEY,   /* behind '{': a key or '}' */
    STATE_KEY,         /* behind ',' in an object */
    STATE_COLON,
    STATE_AFTER, /* behind a value in a container: ',' or its end */
    STATE_LITERAL,
    STATE_STRING,
    STATE_ESCAPE,
    STATE_ESCAPE_U,
    STATE_SURROGATE,   /* '\' of the low half must come */
    STATE_SURROGATE_U, /* its 'u' */
    STATE_UTF8,        /* a continuation byte must come */
    STATE_MINUS,       /* the states of a number, by what stood last */
    STATE_ZERO,
    STATE_INTEGER,
    STATE_DOT,
    STATE_FRACTION,
    STATE_E,
    STATE_E_SIGN,
    STATE_EXPONENT
};

void json_reader_init(struct json_reader *reader, const struct json_limits *limits) {
    assert(limits->depth_max <= JSON_DEPTH_MAX && limits->bytes_max <= GIB(1));
    *reader = (struct json_reader){.limits = *limits, .state = STATE_VALUE};
}

void json_reader_fini(struct json_reader *reader) { json_document_fini(&reader->document); }

void json_document_fini(struct json_document *document) {
    free(document->bytes);
    free(document->nodes);
    *document = (struct json_document){0};
}

static bool bad(struct json_reader *reader, const char *why) {
    reader->bad = why;
    return false;
}

/* Appends to the document's texts; always leaves room for one terminator. */
static bool put(struct json_reader *reader, const char *bytes, size_t length) {
    struct json_document *document = &reader->document;
    if (document->bytes_capacity - document->bytes_length <= length) {
        size_t capacity = max_u64(max_u64(256, document->bytes_capacity * 2), document->bytes_length + length + 1);
        char *grown = realloc(document->bytes, capacity);
        if (grown == NULL)
            return bad(reader, "no memory");
        document->bytes = grown;
        document->bytes_capacity = capacity;
    }
    if (length > 0)
        memcpy(document->bytes + document->bytes_length, bytes, length);
    document->bytes_length += length;
    return true;
}

static bool put_byte(struct json_reader *reader, char byte) { return put(reader, &byte, 1); }

static bool put_code_point(struct json_reader *reader, uint32_t c) {
    char bytes[4];
    size_t length = 0;
    if (c < 0x80) {
        bytes[length++] = (char)c;
    } else if (c < 0x800) {
        bytes[length++] = (char)(0xc0 | c >> 6);
        bytes[length++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        bytes[length++] = (char)(0xe0 | c >> 12);
        bytes[length++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[length++] = (char)(0x80 | (c & 0x3f));
    } else {
        bytes[length++] = (char)(0xf0 | c >> 18);
        bytes[length++] = (char)(0x80 | (c >> 12 & 0x3f));
        bytes[length++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[length++] = (char)(0x80 | (c & 0x3f));
    }
    return put(reader, bytes, length);
}

static bool node_begin(struct json_reader *reader, enum json_kind kind) {
    struct json_document *document = &reader->document;
    if (document->node_count == reader->limits.values_max)
        return bad(reader, "too many values");
    if (document->node_count == document->node_capacity) {
        uint32_t capacity = max_u32(16, document->node_capacity * 2);
        struct json_node *grown = realloc(document->nodes, capacity * sizeof(*grown));
        if (grown == NULL)
            return bad(reader, "no memory");
        document->nodes = grown;
        document->node_capacity = capacity;
    }
    struct json_node *node = &document->nodes[document->node_count++];
    *node = (struct json_node){.kind = kind, .offset = (uint32_t)document->bytes_length, .end = document->node_count};
    if (reader->depth > 0) {
        struct json_node *parent = &document->nodes[reader->stack[reader->depth - 1]];
        if (parent->kind == JSON_KIND_ARRAY || reader->is_key)
            parent->count++;
    }
    return true;
}

/* What follows a value: the rest of its container, or the document's end. */
static void value_end(struct json_reader *reader) {
    if (reader->depth == 0)
        reader->complete = true;
    reader->state = STATE_AFTER;
}

/* Ends a string or number: its text is what was put since its node began. */
static bool text_end(struct json_reader *reader) {
    struct json_document *document = &reader->document;
    struct json_node *node = &document->nodes[document->node_count - 1];
    node->length = (uint32_t)(document->bytes_length - node->offset);
    if (!put_byte(reader, '\0'))
        return false;
    if (reader->is_key) {
        reader->is_key = false;
        reader->state = STATE_COLON;
    } else {
        value_end(reader);
    }
    return true;
}

static bool container_begin(struct json_reader *reader, enum json_kind kind) {
    if (reader->depth == reader->limits.depth_max)
        return bad(reader, "nested too deeply");
    if (!node_begin(reader, kind))
        return false;
    reader->stack[reader->depth++] = reader->document.node_count - 1;
    reader->state = kind == JSON_KIND_ARRAY ? STATE_FIRST_VALUE : STATE_FIRST_KEY;
    return true;
}

static bool container_end(struct json_reader *reader, enum json_kind kind) {
    struct json_document *document = &reader->document;
    if (reader->depth == 0 || document->nodes[reader->stack[reader->depth - 1]].kind != kind)
        return bad(reader, "a bracket closes nothing");
    document->nodes[reader->stack[--reader->depth]].end = document->node_count;
    value_end(reader);
    return true;
}

static bool string_begin(struct json_reader *reader, bool is_key) {
    reader->is_key = is_key;
    reader->state = STATE_STRING;
    return node_begin(reader, JSON_KIND_STRING);
}

static bool literal_begin(struct json_reader *reader, enum json_kind kind, const char *rest) {
    reader->literal = rest;
    reader->state = STATE_LITERAL;
    return node_begin(reader, kind);
}

static bool number_begin(struct json_reader *reader, char c) {
    reader->state = c == '-' ? STATE_MINUS : c == '0' ? STATE_ZERO : STATE_INTEGER;
    return node_begin(reader, JSON_KIND_NUMBER) && put_byte(reader, c);
}

static bool value_begin(struct json_reader *reader, char c) {
    switch (c) {
    case '{': return container_begin(reader, JSON_KIND_OBJECT);
    case '[': return container_begin(reader, JSON_KIND_ARRAY);
    case '"': return string_begin(reader, false);
    case 't': return literal_begin(reader, JSON_KIND_TRUE, "rue");
    case 'f': return literal_begin(reader, JSON_KIND_FALSE, "alse");
    case 'n': return literal_begin(reader, JSON_KIND_NULL, "ull");
    default: break;
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return number_begin(reader, c);
    return bad(reader, "a value was expected");
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A byte between values. */
static bool structure_byte(struct json_reader *reader, char c) {
    if (is_blank(c))
        return true;
    switch (reader->state) {
    case STATE_FIRST_VALUE: return c == ']' ? container_end(reader, JSON_KIND_ARRAY) : value_begin(reader, c);
    case STATE_FIRST_KEY:
        if (c == '}')
            return container_end(reader, JSON_KIND_OBJECT);
        return c == '"' ? string_begin(reader, true) : bad(reader, "a key or } was expected");
    case STATE_KEY: return c == '"' ? string_begin(reader, true) : bad(reader, "a key was expected");
    case STATE_COLON:
        if (c != ':')
            return bad(reader, "a colon was expected");
        reader->state = STATE_VALUE;
        return true;
    case STATE_AFTER:
        if (c == ']' || c == '}')
            return container_end(reader, c == ']' ? JSON_KIND_ARRAY : JSON_KIND_OBJECT);
        if (c != ',')
            return bad(reader, "a comma or the end of the array or object was expected");
        bool in_array = reader->document.nodes[reader->stack[reader->depth - 1]].kind == JSON_KIND_ARRAY;
        reader->state = in_array ? STATE_VALUE : STATE_KEY;
        return true;
    default: return value_begin(reader, c);
    }
}

/* The first byte of a character beyond ASCII: how many follow, and the bounds of the next (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF). */
static bool utf8_begin(struct json_reader *reader, uint8_t c) {
    reader->utf8_low = 0x80;
    reader->utf8_high = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        reader->utf8_rest = 1;
    } else if (c >= 0xe0 && c <= 0xef) {
        reader->utf8_rest = 2;
        if (c == 0xe0)
            reader->utf8_low = 0xa0;
        else if (c == 0xed)
            reader->utf8_high = 0x9f;
    } else if (c >= 0xf0 && c <= 0xf4) {
        reader->utf8_rest = 3;
        if (c == 0xf0)
            reader->utf8_low = 0x90;
        else if (c == 0xf4)
            reader->utf8_high = 0x8f;
    } else {
        return bad(reader, "not UTF-8");
    }
    reader->state = STATE_UTF8;
    return put_byte(reader, (char)c);
}

static bool utf8_byte(struct json_reader *reader, uint8_t c) {
    if (c < reader->utf8_low || c > reader->utf8_high)
        return bad(reader, "not UTF-8");
    reader->utf8_low = 0x80;
    reader->utf8_high = 0xbf;
    if (--reader->utf8_rest == 0)
        reader->state = STATE_STRING;
    return put_byte(reader, (char)c);
}

static bool string_byte(struct json_reader *reader, char c) {
    if (c == '"')
        return text_end(reader);
    if (c == '\\') {
        reader->state = STATE_ESCAPE;
        return true;
    }
    if ((uint8_t)c < 0x20)
        return bad(reader, "a control character in a string");
    return (uint8_t)c < 0x80 ? put_byte(reader, c) : utf8_begin(reader, (uint8_t)c);
}

static bool escape_byte(struct json_reader *reader, char c) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *found = c == '\0' ? NULL : strchr(names, c);
    if (c == 'u') {
        reader->state = STATE_ESCAPE_U;
        reader->escape = reader->escape_digits = 0;
        return true;
    }
    if (found == NULL)
        return bad(reader, "an unknown escape");
    reader->state = STATE_STRING;
    return put_byte(reader, meanings[found - names]);
}

static bool escape_u_byte(struct json_reader *reader, char c) {
    char low = (char)(c | 32);
    if (!is_digit(c) && !(low >= 'a' && low <= 'f'))
        return bad(reader, "\\u needs four hexadecimal digits");
    reader->escape = reader->escape << 4 | (uint32_t)(is_digit(c) ? c - '0' : low - 'a' + 10);
    if (++reader->escape_digits < 4)
        return true;
    uint32_t unit = reader->escape;
    bool is_low = unit >= 0xdc00 && unit <= 0xdfff, is_high = unit >= 0xd800 && unit <= 0xdbff;
    if (is_low != (reader->high_surrogate != 0))
        return bad(reader, "half a surrogate pair");
    if (is_high) {
        reader->high_surrogate = (uint16_t)unit;
        reader->state = STATE_SURROGATE;
        return true;
    }
    if (is_low)
        unit = 0x10000 + ((uint32_t)(reader->high_surrogate - 0xd800) << 10) + (unit - 0xdc00);
    reader->high_surrogate = 0;
    reader->state = STATE_STRING;
    return put_code_point(reader, unit);
}

static bool surrogate_byte(struct json_reader *reader, char c) {
    if (c != (reader->state == STATE_SURROGATE ? '\\' : 'u'))
        return bad(reader, "half a surrogate pair");
    if (reader->state == STATE_SURROGATE) {
        reader->state = STATE_SURROGATE_U;
        return true;
    }
    reader->state = STATE_ESCAPE_U;
    reader->escape = reader->escape_digits = 0;
    return true;
}

static bool literal_byte(struct json_reader *reader, char c) {
    if (c != *reader->literal)
        return bad(reader, "an unknown word");
    if (*++reader->literal == '\0')
        value_end(reader);
    return true;
}

/* What a number may go on with; -1: it has ended before this byte, -2: it must not end here. */
static int number_next(unsigned state, char c) {
    bool digit = is_digit(c), e = c == 'e' || c == 'E';
    switch (state) {
    case STATE_MINUS: return c == '0' ? STATE_ZERO : digit ? STATE_INTEGER : -2;
    case STATE_ZERO: return digit ? -2 : c == '.' ? STATE_DOT : e ? STATE_E : -1;
    case STATE_INTEGER: return digit ? STATE_INTEGER : c == '.' ? STATE_DOT : e ? STATE_E : -1;
    case STATE_DOT: return digit ? STATE_FRACTION : -2;
    case STATE_FRACTION: return digit ? STATE_FRACTION : e ? STATE_E : -1;
    case STATE_E: return c == '+' || c == '-' ? STATE_E_SIGN : digit ? STATE_EXPONENT : -2;
    case STATE_E_SIGN: return digit ? STATE_EXPONENT : -2;
    default: return digit ? STATE_EXPONENT : -1;
    }
}

/* Bytes of a string that need no thought. */
static size_t plain_length(const char *bytes, size_t length) {
    size_t n = 0;
    while (n < length && (uint8_t)bytes[n] >= 0x20 && (uint8_t)bytes[n] < 0x80 && bytes[n] != '"' && bytes[n] != '\\')
        n++;
    return n;
}

/* Takes one byte, or in a string a run of them. *ret_used is 0 if the byte ended a number and is not part of it. */
static bool step(struct json_reader *reader, const char *bytes, size_t length, size_t *ret_used) {
    *ret_used = 1;
    switch (reader->state) {
    case STATE_STRING: {
        size_t plain = plain_length(bytes, length);
        if (plain == 0)
            return string_byte(reader, *bytes);
        *ret_used = plain;
        return put(reader, bytes, plain);
    }
    case STATE_ESCAPE: return escape_byte(reader, *bytes);
    case STATE_ESCAPE_U: return escape_u_byte(reader, *bytes);
    case STATE_SURROGATE:
    case STATE_SURROGATE_U: return surrogate_byte(reader, *bytes);
    case STATE_UTF8: return utf8_byte(reader, (uint8_t)*bytes);
    case STATE_LITERAL: return literal_byte(reader, *bytes);
    default: break;
    }
    if (reader->state < STATE_MINUS)
        return structure_byte(reader, *bytes);
    int next = number_next(reader->state, *bytes);
    if (next == -2)
        return bad(reader, "a number has no digit where one must be");
    if (next == -1) {
        *ret_used = 0;
        return text_end(reader);
    }
    reader->state = (uint8_t)next;
    return put_byte(reader, *bytes);
}

bool json_reader_idle(const struct json_reader *reader) {
    return !reader->complete && reader->document.node_count == 0 && reader->bad == NULL;
}

enum json_event json_reader_feed(struct json_reader *reader, const char *bytes, size_t length, size_t *ret_used) {
    size_t used = 0, more;
    while (used < length && !reader->complete && reader->bad == NULL) {
        /* the limit cuts a long run, so that it is exact */
        size_t room = reader->limits.bytes_max - reader->document_bytes;
        size_t take = min_u64(length - used, room + 1);
        if (!step(reader, bytes + used, take, &more))
            break;
        used += more;
        if (json_reader_idle(reader)) /* blanks between documents belong to none */
            continue;
        reader->document_bytes += more;
        if (reader->document_bytes > reader->limits.bytes_max)
            bad(reader, "the document is too long");
    }
    *ret_used = used;
    return reader->bad != NULL ? JSON_EVENT_BAD : reader->complete ? JSON_EVENT_DOCUMENT : JSON_EVENT_MORE;
}

enum json_event json_reader_finish(struct json_reader *reader) {
    if (reader->bad == NULL && !reader->complete && !json_reader_idle(reader)) {
        if (reader->depth > 0 || reader->state < STATE_MINUS || number_next(reader->state, ' ') != -1)
            bad(reader, "the document is cut short");
        else
            text_end(reader);
    }
    return reader->bad != NULL ? JSON_EVENT_BAD : reader->complete ? JSON_EVENT_DOCUMENT : JSON_EVENT_MORE;
}

void json_reader_take(struct json_reader *reader, struct json_document *ret_document) {
    assert(reader->complete && reader->bad == NULL);
    *ret_document = reader->document;
    struct json_limits limits = reader->limits;
    json_reader_init(reader, &limits);
}

bool json_document_parse(struct json_document *document, const char *bytes, size_t length, const struct json_limits *limits,
                         const char **ret_bad) {
    struct json_reader reader;
    json_reader_init(&reader, limits);
    size_t used, rest = 0;
    enum json_event event = json_reader_feed(&reader, bytes, length, &used);
    if (event == JSON_EVENT_MORE)
        event = json_reader_finish(&reader);
    while (event == JSON_EVENT_DOCUMENT && used + rest < length && is_blank(bytes[used + rest]))
        rest++;
    if (event == JSON_EVENT_MORE)
        bad(&reader, "there is no value");
    else if (event == JSON_EVENT_DOCUMENT && used + rest < length)
        bad(&reader, "something follows the value");
    if (reader.bad != NULL) {
        *ret_bad = reader.bad;
        json_reader_fini(&reader);
        return false;
    }
    json_reader_take(&reader, document);
    return true;
}

const struct json_node *json_node_child(const struct json_document *document, const struct json_node *parent) {
    return parent->count == 0 ? NULL : &document->nodes[(parent - document->nodes) + 1];
}

const struct json_node *json_node_after(const struct json_document *document, const struct json_node *parent,
                                        const struct json_node *child) {
    return child->end == parent->end ? NULL : &document->nodes[child->end];
}

bool json_node_is_text(const struct json_document *document, const struct json_node *node, const char *text) {
    return node->kind == JSON_KIND_STRING && node->length == strlen(text) &&
           memcmp(json_node_text(document, node), text, node->length) == 0;
}

const struct json_node *json_node_member(const struct json_document *document, const struct json_node *object, const char *key) {
    if (object->kind != JSON_KIND_OBJECT)
        return NULL;
    for (const struct json_node *k = json_node_child(document, object), *value; k != NULL;
         k = json_node_after(document, object, value)) {
        value = json_node_after(document, object, k);
        if (json_node_is_text(document, k, key))
            return value;
    }
    return NULL;
}
