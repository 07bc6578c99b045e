#include "packet/mac.h"

#include <stddef.h>
#include <stdio.h>

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool mac_parse(const char *text, uint64_t *ret_address) {
    uint64_t address = 0;
    char joint = '\0';
    for (unsigned i = 0; i < 6; i++) {
        int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (low < 0)
            return false;
        address |= (uint64_t)(unsigned)(high << 4 | low) << 8 * i;
        text += 2;
        if (i == 5)
            break;
        if (i == 0)
            joint = *text;
        if ((joint != ':' && joint != '-') || *text++ != joint)
            return false;
    }
    if (*text != '\0')
        return false;
    *ret_address = address;
    return true;
}

const char *mac_format(uint64_t address, char to[MAC_TEXT_SIZE]) {
    unsigned bytes[6];
    for (unsigned i = 0; i < 6; i++)
        bytes[i] = address >> 8 * i & 0xff;
    snprintf(to, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]);
    return to;
}
