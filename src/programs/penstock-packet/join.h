/* What penstock-packet's processes say to each other: lines. A vf's process says "ID MASK BOND", its number, its cores and what
 * it was started as, and is answered by "yes" or "no REASON"; before it ends it says "leave". Pure. Must not know: sockets, who
 * has joined. */
#pragma once

#include <string.h>

#include "base/bytes.h"

enum { JOIN_LINE_MAX = 256, JOIN_BOND_MAX = 31 };

struct join_line {
    char text[JOIN_LINE_MAX]; /* whole once join_take() has said so */
    size_t length;
};

/* Takes of `count` bytes those up to the end of the line, or where it is longer than it may be. True: it is whole, and begins
 * anew with the next bytes. *ret_taken: at most `count`, at least one of them. */
bool join_take(struct join_line *line, const char *bytes, size_t count, size_t *ret_taken);
/* *ret_bond is within the line; "" if there is none. */
bool join_parse_hello(const char *line, uint32_t *ret_vf, uint64_t *ret_mask, const char **ret_bond);
void join_format_hello(uint32_t vf, uint64_t mask, const char *bond, char to[JOIN_LINE_MAX]);
/* NULL: yes. Else the reason, within the line. */
const char *join_parse_answer(const char *line);
static inline bool join_is_leave(const char *line) { return strcmp(line, "leave") == 0; }
