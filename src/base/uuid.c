#include "base/uuid.h"

#include <stddef.h>

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool dash_before(unsigned byte) { return byte == 4 || byte == 6 || byte == 8 || byte == 10; }

bool uuid_parse(const char *text, struct uuid *ret) {
    struct uuid uuid;
    for (unsigned i = 0; i < sizeof(uuid.bytes); i++) {
        if (dash_before(i) && *text++ != '-')
            return false;
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return false;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return false;
    *ret = uuid;
    return true;
}

void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < sizeof(uuid->bytes); i++) {
        if (dash_before(i))
            *text++ = '-';
        *text++ = digits[uuid->bytes[i] >> 4];
        *text++ = digits[uuid->bytes[i] & 15];
    }
    *text = '\0';
}

void uuid_from_random(const uint8_t random[16], struct uuid *ret) {
    memcpy(ret->bytes, random, sizeof(ret->bytes));
    ret->bytes[6] = (uint8_t)((ret->bytes[6] & 0x0f) | 0x40);
    ret->bytes[8] = (uint8_t)((ret->bytes[8] & 0x3f) | 0x80);
}

const struct uuid uuid_space_url = {
    {0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}};
const struct uuid uuid_space_oid = {
    {0x6b, 0xa7, 0xb8, 0x12, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}};

/* ---- SHA-1 (FIPS 180-4), which version 5 asks for; not for secrets ---- */

struct sha1 {
    uint32_t state[5];
    uint8_t block[64];
    uint64_t length;
};

static uint32_t rotate(uint32_t value, unsigned by) { return value << by | value >> (32 - by); }

static void sha1_block(struct sha1 *sha) {
    uint32_t w[80], a = sha->state[0], b = sha->state[1], c = sha->state[2], d = sha->state[3], e = sha->state[4];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)sha->block[4 * i] << 24 | (uint32_t)sha->block[4 * i + 1] << 16 | (uint32_t)sha->block[4 * i + 2] << 8 |
               sha->block[4 * i + 3];
    for (unsigned i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (unsigned i = 0; i < 80; i++) {
        static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        uint32_t mixed = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t next = rotate(a, 5) + mixed + e + constants[i / 20] + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    sha->state[0] += a;
    sha->state[1] += b;
    sha->state[2] += c;
    sha->state[3] += d;
    sha->state[4] += e;
}

static void sha1_byte(struct sha1 *sha, uint8_t byte) {
    sha->block[sha->length++ % 64] = byte;
    if (sha->length % 64 == 0)
        sha1_block(sha);
}

void uuid_from_name(const struct uuid *space, const char *name, struct uuid *ret) {
    struct sha1 sha = {.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
    for (unsigned i = 0; i < sizeof(space->bytes); i++)
        sha1_byte(&sha, space->bytes[i]);
    for (; *name != '\0'; name++)
        sha1_byte(&sha, (uint8_t)*name);
    uint64_t bits = sha.length * 8;
    sha1_byte(&sha, 0x80);
    while (sha.length % 64 != 56)
        sha1_byte(&sha, 0);
    for (unsigned i = 0; i < 8; i++)
        sha1_byte(&sha, (uint8_t)(bits >> (56 - 8 * i)));
    for (unsigned i = 0; i < sizeof(ret->bytes); i++)
        ret->bytes[i] = (uint8_t)(sha.state[i / 4] >> (24 - 8 * (i % 4)));
    ret->bytes[6] = (uint8_t)((ret->bytes[6] & 0x0f) | 0x50);
    ret->bytes[8] = (uint8_t)((ret->bytes[8] & 0x3f) | 0x80);
}
