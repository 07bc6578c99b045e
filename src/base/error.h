/* The error of control paths: a code that programs act on, a text that people act on, and what exactly was wrong.
 * The data path has enum io_status instead (block/io_status.h). Pure; any context. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Each has one JSON-RPC code, gRPC code, HTTP status and exit status: error_code_table() is that table. */
enum error_code {
    ERROR_NONE,
    ERROR_INVALID,    /* an argument is malformed or out of range */
    ERROR_NOT_FOUND,  /* a thing that is named inside another (an attribute, a file) is not there */
    ERROR_NO_DEVICE,  /* no such device, volume, store or controller */
    ERROR_EXISTS,     /* the name is taken */
    ERROR_BUSY,       /* in use; may pass */
    ERROR_PERMISSION, /* not allowed in this state or to this caller */
    ERROR_READ_ONLY,
    ERROR_NO_SPACE,
    ERROR_NO_MEMORY,   /* also: a configured limit is reached */
    ERROR_UNSUPPORTED, /* a feature that this build or device has not */
    ERROR_FOREIGN,     /* the disk holds something that is not ours */
    ERROR_DAMAGED,     /* a checksum, an identity or an invariant is wrong on disk */
    ERROR_IO,          /* the device or the peer failed */
    ERROR_TIMED_OUT,
    ERROR_CANCELLED,
    ERROR_ALREADY,  /* it is done or under way already */
    ERROR_INTERNAL, /* our fault */
    ERROR_CODE_COUNT
};

struct error {
    enum error_code code;
    char text[256];     /* one sentence, what went wrong; no newline */
    char field[64];     /* ERROR_INVALID: which argument, "" if none; nested ones are dotted */
    char value[96];     /* what was given, shortened */
    char expected[160]; /* what would have been right, or what to do next */
};

struct error_code_facts {
    const char *name;       /* "no_space" */
    int negative_errno;     /* -ENOSPC: what the storage target's JSON-RPC dialect answers */
    const char *errno_text; /* "No space left on device": errno's, fixed here, but for ERROR_DAMAGED, whose would mislead */
    int exit_status;        /* of the command line, sysexits(3) */
};

/* Facts of a code; never NULL, an unknown code is ERROR_INTERNAL. */
const struct error_code_facts *error_facts(enum error_code code);
/* The code for an errno value, positive or negative; 0 is ERROR_NONE. */
enum error_code error_from_errno(int number);
/* What people are told of an errno value, positive or negative: the system's words, and ours where those are about something else
 * than here (EILSEQ: "Invalid or incomplete multibyte or wide character"). Never NULL. */
const char *error_errno_words(int number);

/* Each of these fills *error (NULL allowed: nothing is kept) and returns false, so that a caller writes `return error_set(...)`.
 */
bool error_set(struct error *error, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* ERROR_INVALID about one argument: `field` got `value`, `expected` says what would be right. */
bool error_invalid(struct error *error, const char *field, const char *value, const char *expected_format, ...)
    __attribute__((format(printf, 4, 5)));
/* From an errno (either sign); the text is "<what>: <errno's words>". */
bool error_set_errno(struct error *error, int number, const char *what_format, ...) __attribute__((format(printf, 3, 4)));
/* Sets `expected` (what to do next) on an error that is already set; returns false. */
bool error_hint(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_clear(struct error *error);

#if defined(__clang_analyzer__) && !defined(ERROR_DEFINITIONS)
/* It cannot see that these return false, and would warn about what is only set on success. */
#define error_set(...) (error_set(__VA_ARGS__), false)
#define error_invalid(...) (error_invalid(__VA_ARGS__), false)
#define error_set_errno(...) (error_set_errno(__VA_ARGS__), false)
#define error_hint(...) (error_hint(__VA_ARGS__), false)
#endif
