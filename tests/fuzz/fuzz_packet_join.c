/* Fuzzes what one of penstock-packet's processes hears from another: any bytes, whole and in pieces, are the same lines; a hello
 * that is understood is said in the same words; an answer is yes or has its reason within the line. */
#include <stdlib.h>
#include <string.h>

#include "programs/penstock-packet/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_MAX_FED = 4096 };

static void check_line(const char *text) {
    uint32_t vf, vf_again;
    uint64_t mask, mask_again;
    const char *bond, *bond_again;
    assert(strlen(text) < JOIN_LINE_MAX && strchr(text, '\n') == NULL);
    const char *reason = join_parse_answer(text);
    assert(reason == NULL ? strcmp(text, "yes") == 0 : reason >= text && reason <= text + strlen(text));
    if (!join_parse_hello(text, &vf, &mask, &bond))
        return;
    char said[JOIN_LINE_MAX];
    struct join_line heard = {0};
    size_t taken;
    assert(!join_is_leave(text) && reason == text);
    join_format_hello(vf, mask, bond, said);
    bool ok = join_take(&heard, said, strlen(said), &taken) && taken == strlen(said) &&
              join_parse_hello(heard.text, &vf_again, &mask_again, &bond_again);
    assert(ok && vf_again == vf && mask_again == mask && strcmp(bond_again, bond) == 0);
}

/* Its lines one behind the other, each with its zero byte; how long they are together. */
static size_t feed(const char *bytes, size_t size, size_t piece, char *to) {
    struct join_line line = {0};
    size_t length = 0;
    for (size_t at = 0, taken; at < size; at += taken) {
        size_t count = size - at < piece ? size - at : piece;
        bool whole = join_take(&line, bytes + at, count, &taken);
        assert(taken > 0 && taken <= count && (whole || taken == count));
        if (!whole)
            continue;
        check_line(line.text);
        size_t text = strlen(line.text) + 1;
        memcpy(to + length, line.text, text);
        length += text;
    }
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > SIZE_MAX_FED)
        return 0;
    char *whole = malloc(size + 1), *split = malloc(size + 1);
    assert(whole != NULL && split != NULL);
    size_t length = feed((const char *)data, size, size, whole);
    size_t pieces = feed((const char *)data, size, 1 + (size > 0 ? data[size - 1] % 19 : 0), split);
    assert(length <= size && length == pieces && memcmp(whole, split, length) == 0);
    free(whole);
    free(split);
    return 0;
}
