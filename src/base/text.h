/* Growing text, and checked parsing of what people and peers write. Pure but for the buffer's allocation; one owner at a time. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text that grows up to a limit. On overflow or lack of memory it keeps what it had, and `failed` stays set: check once at the
 * end. */
struct text {
    char *bytes; /* terminated once non-NULL */
    size_t length, capacity, limit;
    bool failed;
};

void text_init(struct text *text, size_t limit);
void text_fini(struct text *text);
/* Empties the text, keeping its memory; clears `failed`. */
void text_reset(struct text *text);
void text_append(struct text *text, const void *bytes, size_t length);
void text_append_string(struct text *text, const char *string);
void text_append_char(struct text *text, char c);
void text_appendf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Decimal (or 0x hexadecimal) digits only, the whole string, no sign or blanks; false if not so or beyond `max`. */
bool text_parse_u64(const char *string, uint64_t max, uint64_t *ret);
/* As above with an optional binary unit: K, M, G, T, P, with or without "iB" ("10G", "512KiB"). Result in bytes. */
bool text_parse_size(const char *string, uint64_t *ret);
/* Bytes in the largest binary unit that shows three digits: "4.00 KiB". `to` holds at least 24. */
const char *text_format_size(uint64_t bytes, char *to, size_t size);
/* "0000:03:00.0": domain, bus, device, function of PCI, in lower case. */
bool text_is_pci_address(const char *string);
/* True for 1…max bytes of printable ASCII without blanks, '/' and control bytes: what a name of ours may be. */
bool text_is_name(const char *string, size_t max);
/* Appends bytes in base64, RFC 4648 section 4, padded. */
void text_append_base64(struct text *text, const void *bytes, size_t length);
/* A time in nanoseconds since 1970 as RFC 3339 has it, UTC, to the millisecond: "2026-11-21T11:36:01.250Z". `to` holds at least
 * TEXT_TIME_SIZE. */
const char *text_format_time(uint64_t wall_ns, char *to, size_t size);
#define TEXT_TIME_SIZE 32
