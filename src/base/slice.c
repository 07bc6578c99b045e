#include "base/slice.h"

size_t slice_total(const struct slice *slices, size_t count) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += slices[i].length;
    return total;
}

enum direction { OUT, IN, FILL };

static inline void walk(const struct slice *slices, size_t skip, char *flat, size_t length, enum direction way, int value) {
    while (skip >= slices->length && length > 0)
        skip -= slices++->length;
    for (; length > 0; slices++, skip = 0) {
        size_t n = min_u64(slices->length - skip, length);
        if (n == 0) /* an empty slice has no address */
            continue;
        char *at = (char *)slices->base + skip;
        if (way == OUT)
            memcpy(flat, at, n);
        else if (way == IN)
            memcpy(at, flat, n);
        else
            memset(at, value, n);
        flat += way == FILL ? 0 : n;
        length -= n;
    }
}

void slice_copy_out(const struct slice *slices, size_t count, size_t skip, void *to, size_t length) {
    (void)count;
    walk(slices, skip, to, length, OUT, 0);
}

void slice_copy_in(const struct slice *slices, size_t count, size_t skip, const void *from, size_t length) {
    (void)count;
    walk(slices, skip, (char *)(uintptr_t)from, length, IN, 0);
}

void slice_fill(const struct slice *slices, size_t count, size_t skip, int value, size_t length) {
    (void)count;
    walk(slices, skip, NULL, length, FILL, value);
}

size_t slice_sub(const struct slice *slices, size_t count, size_t skip, size_t length, struct slice *to, size_t capacity) {
    size_t used = 0;
    for (size_t i = 0; i < count && length > 0; i++) {
        if (skip >= slices[i].length) {
            skip -= slices[i].length;
            continue;
        }
        if (used == capacity)
            return 0;
        size_t n = min_u64(slices[i].length - skip, length);
        to[used++] = (struct slice){(char *)slices[i].base + skip, n};
        skip = 0;
        length -= n;
    }
    return length == 0 ? used : 0;
}

bool slice_aligned(const struct slice *slices, size_t count, size_t alignment) {
    uintptr_t bits = 0;
    for (size_t i = 0; i < count; i++)
        bits |= (uintptr_t)slices[i].base | slices[i].length;
    return (bits & (alignment - 1)) == 0;
}
