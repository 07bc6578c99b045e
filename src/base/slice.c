#include "base/slice.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

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

#if defined(__x86_64__)
#define LINE 64

static void stream_lines(char *to, const char *from, size_t length) {
    for (const char *end = from + length; from < end; from += LINE, to += LINE) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
}

void slice_stream_out(const struct slice *slices, size_t count, void *to) {
    char *at = to;
    for (size_t i = 0; i < count; at += slices[i].length, i++) {
        if ((((uintptr_t)at | slices[i].length) & (LINE - 1)) == 0)
            stream_lines(at, slices[i].base, slices[i].length);
        else if (slices[i].length > 0)
            memcpy(at, slices[i].base, slices[i].length);
    }
    _mm_sfence(); /* the release that tells other threads does not order such stores */
}
#else
void slice_stream_out(const struct slice *slices, size_t count, void *to) {
    slice_copy_out(slices, count, 0, to, slice_total(slices, count));
}
#endif

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
