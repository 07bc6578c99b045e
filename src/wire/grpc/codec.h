/* The small grammars of gRPC over HTTP/2 (PROTOCOL-HTTP2 of the gRPC project): status, timeout, percent-encoded text, content
 * type. Pure; any context. */
#pragma once

#include "base/bytes.h"

enum grpc_status {
    GRPC_OK,
    GRPC_CANCELLED,
    GRPC_UNKNOWN,
    GRPC_INVALID_ARGUMENT,
    GRPC_DEADLINE_EXCEEDED,
    GRPC_NOT_FOUND,
    GRPC_ALREADY_EXISTS,
    GRPC_PERMISSION_DENIED,
    GRPC_RESOURCE_EXHAUSTED,
    GRPC_FAILED_PRECONDITION,
    GRPC_ABORTED,
    GRPC_OUT_OF_RANGE,
    GRPC_UNIMPLEMENTED,
    GRPC_INTERNAL,
    GRPC_UNAVAILABLE,
    GRPC_DATA_LOSS,
    GRPC_UNAUTHENTICATED,
    GRPC_STATUS_COUNT
};

/* "NOT_FOUND"; "UNKNOWN" for what is none. */
const char *grpc_status_name(enum grpc_status status);
/* "0" … "16"; false if it is no number. A number that is no status is GRPC_UNKNOWN. */
bool grpc_status_parse(const char *text, size_t length, enum grpc_status *ret_status);
/* What an answer without a status of its own means. */
enum grpc_status grpc_status_of_http(unsigned http_status);
enum grpc_status grpc_status_of_http2(uint32_t error_code);

/* "100m" and its like: 1 to 8 digits and a unit of H M S m u n. False if it is not so. Nanoseconds, cut to UINT64_MAX / 4 so that
 * a deadline can be added up. */
bool grpc_timeout_parse(const char *text, size_t length, uint64_t *ret_ns);
/* The shortest such text that is not below `ns`, terminated. `to` holds at least 10. Returns its length. */
size_t grpc_timeout_format(uint64_t ns, char *to);

/* Percent-encodes all but printable ASCII, and '%' itself, cutting whole characters beyond `size`. Returns the length. */
size_t grpc_text_encode(const char *text, size_t length, char *to, size_t size);
/* Back; what is not well encoded stays as it is, control bytes and what is not UTF-8 become '?'. Terminated, cut to `size` - 1.
 */
void grpc_text_decode(const char *text, size_t length, char *to, size_t size);

/* "application/grpc", and "application/grpc+proto" or with parameters. */
bool grpc_content_type_ok(const char *text, size_t length);

/* Length of the well-formed UTF-8 character at `bytes` (RFC 3629), 0 if there is none. */
size_t utf8_character(const uint8_t *bytes, size_t length);
