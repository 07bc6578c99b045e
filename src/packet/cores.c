#include "packet/cores.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool cores_parse_mask(const char *field, const char *text, uint64_t *ret_mask, struct error *error) {
    const char *c = text[0] == '0' && (text[1] | 32) == 'x' ? text + 2 : text;
    uint64_t mask = 0;
    bool ok = *c != '\0';
    for (; ok && *c != '\0'; c++) {
        int value = digit(*c);
        ok = value >= 0 && mask >> 60 == 0;
        mask = mask << 4 | (unsigned)(value & 15);
    }
    if (!ok || mask == 0)
        return error_invalid(error, field, text, "a mask of cores in hexadecimal, such as 0xfe, of cores 0 to %u", CORES_MAX - 1);
    *ret_mask = mask;
    return true;
}

static bool take_number(const char **text, uint64_t max, uint64_t *ret_value) {
    char word[8];
    size_t length = strspn(*text, "0123456789");
    if (length == 0 || length >= sizeof(word))
        return false;
    snprintf(word, sizeof(word), "%.*s", (int)length, *text);
    *text += length;
    return text_parse_u64(word, max, ret_value);
}

bool cores_parse_map(const char *text, struct cores_map *ret_map) {
    struct cores_map map = {.given = true};
    for (unsigned i = 0; i < CORES_MAX; i++)
        map.cpus[i] = -1;
    for (;; text++) {
        uint64_t first, last, cpu;
        if (!take_number(&text, CORES_MAX - 1, &first))
            return false;
        last = first;
        if (*text == '-' && (text++, !take_number(&text, CORES_MAX - 1, &last)))
            return false;
        if (*text++ != '=' || last < first || !take_number(&text, 1023, &cpu))
            return false;
        for (uint64_t core = first; core <= last; core++) {
            if (map.cpus[core] >= 0)
                return false; /* named twice */
            map.cpus[core] = (int16_t)cpu;
        }
        if (*text == '\0')
            break;
        if (*text != ',')
            return false;
    }
    *ret_map = map;
    return true;
}

int cores_cpu(const struct cores_map *map, unsigned core) {
    assert(core < CORES_MAX);
    return map->given ? map->cpus[core] : (int)core;
}

const char *cores_format(uint64_t mask, char to[CORES_TEXT_SIZE]) {
    size_t length = 0;
    to[0] = '\0';
    for (unsigned core = 0; core < CORES_MAX; core++) {
        unsigned last = core;
        if ((mask >> core & 1) == 0)
            continue;
        while (last + 1 < CORES_MAX && (mask >> (last + 1) & 1) != 0)
            last++;
        const char *comma = length == 0 ? "" : ",";
        int n = last > core ? snprintf(to + length, CORES_TEXT_SIZE - length, "%s%u-%u", comma, core, last)
                            : snprintf(to + length, CORES_TEXT_SIZE - length, "%s%u", comma, core);
        length += (size_t)n; /* 64 cores take less than 192 bytes */
        core = last;
    }
    return to;
}
