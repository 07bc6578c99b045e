/* A resumable JSON reader: bytes in, in pieces of any size, documents out. It finds the end of each document in a stream of
 * concatenated ones, checks the grammar (RFC 8259, UTF-8) byte by byte, and builds the document in the same pass. Strings are
 * decoded, numbers keep the text they were written in, so that an id is echoed and a u64 read exactly.
 * Bounded: bytes, values and depth of a document. Pure but for the document's memory; one owner at a time.
 * Must not know: JSON-RPC, sockets. */
#pragma once

#include "base/bytes.h"

enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_FALSE,
    JSON_KIND_TRUE,
    JSON_KIND_NUMBER, /* text as written */
    JSON_KIND_STRING, /* text decoded; may hold NULs, so look at length */
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT /* children: key (a string), value, key, value … */
};

/* One value of a document; nodes stand in document order, a container before its contents. */
struct json_node {
    uint32_t kind;   /* enum json_kind */
    uint32_t offset; /* of the text in document->bytes; number and string */
    uint32_t length; /* of the text, without its terminator */
    uint32_t end;    /* index of the first node behind this one and its contents */
    uint32_t count;  /* elements of an array, members of an object */
};

struct json_document {
    char *bytes; /* all texts, each terminated */
    size_t bytes_length, bytes_capacity;
    struct json_node *nodes; /* nodes[0] is the document's value */
    uint32_t node_count, node_capacity;
};

#define JSON_DEPTH_MAX 60 /* containers inside each other, at most; the writer has room for a few around them */

struct json_limits {
    size_t bytes_max;    /* of a document as written, ≤ 1 GiB */
    uint32_t values_max; /* nodes: keys count too */
    uint32_t depth_max;  /* ≤ JSON_DEPTH_MAX */
};
#define JSON_LIMITS_DEFAULT ((struct json_limits){.bytes_max = MIB(1), .values_max = 128 * 1024, .depth_max = JSON_DEPTH_MAX})

enum json_event {
    JSON_EVENT_MORE,     /* all bytes are used, the document goes on (or none has begun) */
    JSON_EVENT_DOCUMENT, /* one is complete: json_reader_take() it before reading on */
    JSON_EVENT_BAD       /* not JSON, or beyond a limit: the stream cannot be read on */
};

struct json_reader {
    struct json_limits limits;
    struct json_document document; /* being built */
    uint64_t document_bytes;       /* of this document, as written, so far */
    const char *bad;               /* after JSON_EVENT_BAD: what was wrong, a few words */

    /* the machine */
    uint8_t state;
    bool complete;                  /* a document waits for json_reader_take() */
    bool is_key;                    /* the string being read is a key */
    uint32_t depth;                 /* open containers */
    uint32_t stack[JSON_DEPTH_MAX]; /* their nodes */
    const char *literal;            /* rest of true, false, null */
    uint32_t escape;                /* \u: the digits so far, and a high surrogate above them */
    uint16_t high_surrogate;
    uint8_t escape_digits;
    uint8_t utf8_rest, utf8_low, utf8_high; /* continuation bytes to come, bounds of the next one */
};

void json_reader_init(struct json_reader *reader, const struct json_limits *limits);
void json_reader_fini(struct json_reader *reader);
/* Reads up to the end of a document, or of the bytes. *ret_used: how many were taken; a byte that only showed the end of a
 * number is not. Cost: one step a byte, whatever the pieces. */
enum json_event json_reader_feed(struct json_reader *reader, const char *bytes, size_t length, size_t *ret_used);
/* The stream has ended: a number at its end is complete now. JSON_EVENT_BAD if a document was cut short. */
enum json_event json_reader_finish(struct json_reader *reader);
/* True between two documents: nothing but blanks since the last one. */
bool json_reader_idle(const struct json_reader *reader);
/* Hands the complete document over; the caller frees it by json_document_fini(). */
void json_reader_take(struct json_reader *reader, struct json_document *ret_document);

/* Reads a text that is one whole document. False: *ret_bad says why (a literal). */
bool json_document_parse(struct json_document *document, const char *bytes, size_t length, const struct json_limits *limits,
                         const char **ret_bad);
void json_document_fini(struct json_document *document);

static inline const struct json_node *json_document_root(const struct json_document *document) { return document->nodes; }
static inline const char *json_node_text(const struct json_document *document, const struct json_node *node) {
    return document->bytes + node->offset;
}
/* First element of an array, first key of an object; NULL if empty or not a container. */
const struct json_node *json_node_child(const struct json_document *document, const struct json_node *parent);
/* The one after `child`: next element; of a key its value, of a value the next key. NULL at the end. */
const struct json_node *json_node_after(const struct json_document *document, const struct json_node *parent,
                                        const struct json_node *child);
/* The value of a key; NULL if it is absent or `object` is none. The first of duplicates. */
const struct json_node *json_node_member(const struct json_document *document, const struct json_node *object, const char *key);
/* True if the node is a string with exactly this text. */
bool json_node_is_text(const struct json_document *document, const struct json_node *node, const char *text);

/* The value of a JSON number's text if it is an integer in range, also when written 1e3 or 5.12e2; exact, no floating point. */
bool json_number_u64(const char *text, uint64_t *ret_value);
bool json_number_i64(const char *text, int64_t *ret_value);
