/* Writes JSON into a bounded text: compact on one line, or indented for people. Integers are exact; strings are escaped, and what
 * is not UTF-8 in them becomes U+FFFD. Structure errors (a key missing, an end too many) are assertions; overflow is
 * text->failed.
 *
 * In an object every value has a key; in an array and at the top `key` is NULL. */
#pragma once

#include "base/text.h"
#include "base/uuid.h"
#include "wire/jsonrpc/json_reader.h"

#define JSON_WRITER_DEPTH_MAX 64

struct json_writer {
    struct text *text;
    bool pretty;
    uint8_t depth;
    bool first;          /* no value yet in the innermost container */
    uint32_t key_length; /* of the next key, if it may hold NULs; 0 = up to its first one */
    uint64_t is_object;  /* bit n: container n (1 = outermost) is an object */
};

void json_writer_init(struct json_writer *writer, struct text *text, bool pretty);

void json_begin_object(struct json_writer *writer, const char *key);
void json_begin_array(struct json_writer *writer, const char *key);
/* Ends the innermost container. */
void json_end(struct json_writer *writer);

void json_put_null(struct json_writer *writer, const char *key);
void json_put_bool(struct json_writer *writer, const char *key, bool value);
void json_put_u64(struct json_writer *writer, const char *key, uint64_t value);
void json_put_i64(struct json_writer *writer, const char *key, int64_t value);
void json_put_string(struct json_writer *writer, const char *key, const char *value);
void json_put_bytes(struct json_writer *writer, const char *key, const char *value, size_t length);
void json_putf(struct json_writer *writer, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void json_put_uuid(struct json_writer *writer, const char *key, const struct uuid *value);
/* A value that was written before: valid JSON, taken as it is. */
void json_put_raw(struct json_writer *writer, const char *key, const char *json, size_t length);
/* A value of a document, with all its contents; numbers as they were written. */
void json_put_node(struct json_writer *writer, const char *key, const struct json_document *document,
                   const struct json_node *node);
