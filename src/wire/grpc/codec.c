#include "wire/grpc/codec.h"

#include <stdio.h>

static const char *const names[GRPC_STATUS_COUNT] = {
    [GRPC_OK] = "OK",
    [GRPC_CANCELLED] = "CANCELLED",
    [GRPC_UNKNOWN] = "UNKNOWN",
    [GRPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [GRPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [GRPC_NOT_FOUND] = "NOT_FOUND",
    [GRPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [GRPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [GRPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [GRPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [GRPC_ABORTED] = "ABORTED",
    [GRPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [GRPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [GRPC_INTERNAL] = "INTERNAL",
    [GRPC_UNAVAILABLE] = "UNAVAILABLE",
    [GRPC_DATA_LOSS] = "DATA_LOSS",
    [GRPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *grpc_status_name(enum grpc_status status) {
    return (unsigned)status < GRPC_STATUS_COUNT ? names[status] : names[GRPC_UNKNOWN];
}

bool grpc_status_parse(const char *text, size_t length, enum grpc_status *ret_status) {
    unsigned value = 0;
    if (length == 0 || length > 9)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *ret_status = value < GRPC_STATUS_COUNT ? (enum grpc_status)value : GRPC_UNKNOWN;
    return true;
}

enum grpc_status grpc_status_of_http(unsigned http_status) {
    switch (http_status) {
    case 400: return GRPC_INTERNAL;
    case 401: return GRPC_UNAUTHENTICATED;
    case 403: return GRPC_PERMISSION_DENIED;
    case 404: return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return GRPC_UNAVAILABLE;
    default: return GRPC_UNKNOWN;
    }
}

enum grpc_status grpc_status_of_http2(uint32_t error_code) {
    switch (error_code) {
    case 0x7: return GRPC_UNAVAILABLE;        /* REFUSED_STREAM */
    case 0x8: return GRPC_CANCELLED;          /* CANCEL */
    case 0xb: return GRPC_RESOURCE_EXHAUSTED; /* ENHANCE_YOUR_CALM */
    case 0xc: return GRPC_PERMISSION_DENIED;  /* INADEQUATE_SECURITY */
    default: return GRPC_INTERNAL;
    }
}

/* ---- timeout ---- */

struct unit {
    char letter;
    uint64_t ns;
};
static const struct unit units[] = {{'n', 1},        {'u', NS_PER_US},     {'m', NS_PER_MS},
                                    {'S', NS_PER_S}, {'M', 60 * NS_PER_S}, {'H', 3600 * NS_PER_S}};
#define TIMEOUT_DIGITS_MAX 99999999u

bool grpc_timeout_parse(const char *text, size_t length, uint64_t *ret_ns) {
    uint64_t value = 0;
    if (length < 2 || length > 9)
        return false;
    for (size_t i = 0; i < length - 1; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    for (size_t i = 0; i < array_count(units); i++)
        if (units[i].letter == text[length - 1]) {
            const uint64_t most = UINT64_MAX / 4;
            *ret_ns = value > most / units[i].ns ? most : value * units[i].ns;
            return true;
        }
    return false;
}

size_t grpc_timeout_format(uint64_t ns, char *to) {
    size_t i = 0;
    while (i + 1 < array_count(units) && divide_up(ns, units[i].ns) > TIMEOUT_DIGITS_MAX)
        i++;
    int length = snprintf(to, 10, "%u%c", (unsigned)min_u64(divide_up(ns, units[i].ns), TIMEOUT_DIGITS_MAX), units[i].letter);
    return (size_t)length;
}

/* ---- text ---- */

size_t utf8_character(const uint8_t *bytes, size_t length) {
    if (length == 0)
        return 0;
    uint8_t first = bytes[0];
    if (first < 0x80)
        return 1;
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || length < size)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    bool shortest = !(first == 0xe0 && bytes[1] < 0xa0) && !(first == 0xf0 && bytes[1] < 0x90);
    bool surrogate = first == 0xed && bytes[1] > 0x9f, beyond = first == 0xf4 && bytes[1] > 0x8f;
    return shortest && !surrogate && !beyond ? size : 0;
}

static bool is_plain(char c) { return c >= 0x20 && c <= 0x7e && c != '%'; }

size_t grpc_text_encode(const char *text, size_t length, char *to, size_t size) {
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < length;) {
        size_t bytes = max_u64(1, utf8_character((const uint8_t *)text + i, length - i));
        bool plain = is_plain(text[i]);
        if (used + (plain ? 1 : 3 * bytes) > size)
            break;
        for (size_t end = i + bytes; i < end; i++) {
            if (plain) {
                to[used++] = text[i];
                continue;
            }
            to[used++] = '%';
            to[used++] = digits[(uint8_t)text[i] >> 4];
            to[used++] = digits[(uint8_t)text[i] & 0xf];
        }
    }
    return used;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_text_decode(const char *text, size_t length, char *to, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < size; i++) {
        bool encoded = text[i] == '%' && i + 2 < length && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0;
        to[used++] = encoded ? (char)(hex(text[i + 1]) * 16 + hex(text[i + 2])) : text[i];
        i += encoded ? 2 : 0;
    }
    to[used] = '\0';
    for (size_t i = 0; i < used;) {
        size_t bytes = utf8_character((const uint8_t *)to + i, used - i);
        if (bytes == 0 || (uint8_t)to[i] < 0x20 || to[i] == 0x7f) {
            to[i] = '?';
            bytes = 1;
        }
        i += bytes;
    }
}

bool grpc_content_type_ok(const char *text, size_t length) {
    static const char type[] = "application/grpc", proto[] = "application/grpc+proto";
    if (length >= sizeof(proto) - 1 && memcmp(text, proto, sizeof(proto) - 1) == 0)
        return length == sizeof(proto) - 1 || text[sizeof(proto) - 1] == ';';
    return length >= sizeof(type) - 1 && memcmp(text, type, sizeof(type) - 1) == 0 &&
           (length == sizeof(type) - 1 || text[sizeof(type) - 1] == ';');
}
