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
