#include "programs/penstock-packet/join.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

bool join_take(struct join_line *line, const char *bytes, size_t count, size_t *ret_taken) {
    size_t taken = 0;
    while (taken < count) {
        char byte = bytes[taken++];
        if (byte != '\n' && line->length + 1 < sizeof(line->text)) {
            line->text[line->length++] = byte;
            continue;
        }
        line->text[line->length] = '\0';
        line->length = 0;
        *ret_taken = taken;
        return true;
    }
    *ret_taken = taken;
    return false;
}

/* The number up to the next blank or the end, which *line is moved behind. */
static bool take_number(const char **line, uint64_t max, uint64_t *ret_number) {
    char number[24];
    size_t length = strcspn(*line, " ");
    if (length >= sizeof(number))
        return false;
    snprintf(number, sizeof(number), "%.*s", (int)length, *line);
    *line += length + ((*line)[length] == ' ');
    return text_parse_u64(number, max, ret_number);
}

bool join_parse_hello(const char *line, uint32_t *ret_vf, uint64_t *ret_mask, const char **ret_bond) {
    uint64_t vf;
    if (!take_number(&line, UINT32_MAX, &vf) || vf == 0 || !take_number(&line, UINT64_MAX, ret_mask))
        return false;
    if (strlen(line) > JOIN_BOND_MAX)
        return false;
    *ret_vf = (uint32_t)vf;
    *ret_bond = line;
    return true;
}

void join_format_hello(uint32_t vf, uint64_t mask, const char *bond, char to[JOIN_LINE_MAX]) {
    snprintf(to, JOIN_LINE_MAX, "%" PRIu32 " %" PRIu64 " %s\n", vf, mask, bond);
}

const char *join_parse_answer(const char *line) {
    if (strcmp(line, "yes") == 0)
        return NULL;
    return strncmp(line, "no ", 3) == 0 ? line + 3 : line;
}
