#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

void text_init(struct text *text, size_t limit) { *text = (struct text){.limit = limit}; }

void text_fini(struct text *text) {
    free(text->bytes);
    text_init(text, text->limit);
}

void text_reset(struct text *text) {
    text->length = 0;
    text->failed = false;
    if (text->bytes != NULL)
        text->bytes[0] = '\0';
}

/* Room for `more` bytes and the terminator. */
static bool reserve(struct text *text, size_t more) {
    if (text->failed)
        return false;
    if (!range_inside(text->length, more, text->limit)) {
        text->failed = true;
        return false;
    }
    if (text->bytes != NULL && text->capacity - text->length > more)
        return true;
    size_t capacity = max_u64(max_u64(64, text->capacity * 2), text->length + more + 1);
    char *bytes = realloc(text->bytes, capacity);
    if (bytes == NULL) {
        text->failed = true;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void text_append(struct text *text, const void *bytes, size_t length) {
    if (!reserve(text, length))
        return;
    if (length > 0)
        memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void text_append_string(struct text *text, const char *string) { text_append(text, string, strlen(string)); }
void text_append_char(struct text *text, char c) { text_append(text, &c, 1); }

void text_appendf(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(text, (size_t)length)) {
        text->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(text->bytes + text->length, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
}

/* Parses digits up to the first other byte; NULL if there is no digit or the value exceeds max. */
static const char *parse_digits(const char *s, uint64_t max, uint64_t *ret) {
    unsigned base = 10;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        base = 16;
        s += 2;
    }
    uint64_t value = 0;
    const char *first = s;
    for (;; s++) {
        unsigned digit;
        if (*s >= '0' && *s <= '9')
            digit = (unsigned)(*s - '0');
        else if (base == 16 && ((*s | 32) >= 'a' && (*s | 32) <= 'f'))
            digit = (unsigned)((*s | 32) - 'a' + 10);
        else
            break;
        if (value > (UINT64_MAX - digit) / base || (value = value * base + digit) > max)
            return NULL;
    }
    if (s == first)
        return NULL;
    *ret = value;
    return s;
}

bool text_parse_u64(const char *string, uint64_t max, uint64_t *ret) {
    uint64_t value;
    const char *end = parse_digits(string, max, &value);
    if (end == NULL || *end != '\0')
        return false;
    *ret = value;
    return true;
}

bool text_parse_size(const char *string, uint64_t *ret) {
    uint64_t value;
    const char *end = parse_digits(string, UINT64_MAX, &value);
    if (end == NULL)
        return false;
    unsigned shift = 0;
    if (*end != '\0') {
        static const char units[] = "KMGTP";
        const char *unit = memchr(units, *end & ~32, sizeof(units) - 1);
        if (unit == NULL)
            return false;
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (strcmp(end, "iB") == 0)
            end += 2;
        if (*end != '\0' || value > UINT64_MAX >> shift)
            return false;
    }
    *ret = value << shift;
    return true;
}

const char *text_format_size(uint64_t bytes, char *to, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < array_count(units)) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(to, size, "%" PRIu64 " B", bytes);
    else
        snprintf(to, size, value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return to;
}

bool text_is_pci_address(const char *string) {
    static const char form[] = "xxxx:xx:xx.d";
    if (strlen(string) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i] != '\0'; i++)
        if (form[i] == 'x'   ? strchr("0123456789abcdef", string[i]) == NULL
            : form[i] == 'd' ? string[i] < '0' || string[i] > '7'
                             : string[i] != form[i])
            return false;
    return true;
}

bool text_is_name(const char *string, size_t max) {
    size_t length = strlen(string);
    if (length == 0 || length > max)
        return false;
    for (const char *p = string; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~' || *p == '/')
            return false;
    return true;
}

const char *text_format_time(uint64_t wall_ns, char *to, size_t size) {
    uint64_t seconds = wall_ns / NS_PER_S, day = seconds / 86400, second = seconds % 86400;
    /* The calendar in years that begin on 1 March, so that the leap day is the last one. Eras of 400 years have 146097 days. */
    uint64_t era_day = (day + 719468) % 146097, era = (day + 719468) / 146097;
    uint64_t year_of_era = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    uint64_t year_day = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month_index = (5 * year_day + 2) / 153;
    unsigned month = (unsigned)(month_index < 10 ? month_index + 3 : month_index - 9);
    snprintf(to, size,
             "%04" PRIu64 "-%02u-%02u"
             "T%02u:%02u:%02u.%03uZ",
             year_of_era + era * 400 + (month <= 2), month, (unsigned)(year_day - (153 * month_index + 2) / 5 + 1),
             (unsigned)(second / 3600), (unsigned)(second / 60 % 60), (unsigned)(second % 60),
             (unsigned)(wall_ns / NS_PER_MS % 1000));
    return to;
}

void text_append_base64(struct text *text, const void *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    for (size_t at = 0; at < length; at += 3) {
        size_t left = length - at;
        uint32_t group = (uint32_t)from[at] << 16 | (left > 1 ? (uint32_t)from[at + 1] << 8 : 0) | (left > 2 ? from[at + 2] : 0);
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63], digits[group >> 6 & 63], digits[group & 63]};
        memset(four + min_u64(left, 3) + 1, '=', left > 2 ? 0 : 3 - left);
        text_append(text, four, sizeof(four));
    }
}
