/* UUIDs (RFC 4122): text form and name-based derivation. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define UUID_TEXT_SIZE 37 /* with the terminator */

/* Bytes in network order, as NVMe's UUID and NGUID carry them. */
struct uuid {
    uint8_t bytes[16];
};

static inline bool uuid_equal(const struct uuid *a, const struct uuid *b) { return memcmp(a, b, sizeof(*a)) == 0; }
static inline bool uuid_is_nil(const struct uuid *u) {
    static const struct uuid nil;
    return uuid_equal(u, &nil);
}
/* 8-4-4-4-12 hexadecimal digits, either case; false (and *ret unchanged) for anything else. */
bool uuid_parse(const char *text, struct uuid *ret);
/* Lower-case text, terminated. */
void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);
/* Makes a version 4 UUID of 16 random bytes. */
void uuid_from_random(const uint8_t random[16], struct uuid *ret);
/* The version 5 UUID of a name in a namespace: the same wherever and whenever it is made. */
void uuid_from_name(const struct uuid *space, const char *name, struct uuid *ret);
extern const struct uuid uuid_space_url, uuid_space_oid; /* RFC 4122, appendix C */
