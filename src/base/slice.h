/* Scattered memory: an array of (base, length), laid out as the system's struct iovec (host/linux asserts it). Pure; the memory
 * is the caller's. */
#pragma once

#include "base/bytes.h"

struct slice {
    void *base;
    size_t length;
};

/* Sum of all lengths. */
size_t slice_total(const struct slice *slices, size_t count);
/* Copies `length` bytes from byte `skip` of the scattered memory to `to`, or from `from` into it. The range must lie inside. */
void slice_copy_out(const struct slice *slices, size_t count, size_t skip, void *to, size_t length);
void slice_copy_in(const struct slice *slices, size_t count, size_t skip, const void *from, size_t length);
/* Copies all of it to `to`, past the caches: for memory that is overwritten whole and not looked at soon. Lines that are
 * overwritten whole are not read first, which halves the time where they lie in main memory. Ordered like any copy for who is
 * told of it. */
void slice_stream_out(const struct slice *slices, size_t count, void *to);
/* Sets `length` bytes from byte `skip` on to `value`. */
void slice_fill(const struct slice *slices, size_t count, size_t skip, int value, size_t length);
/* Describes [skip, skip + length) in `to` (room for `capacity`); returns how many entries it took, 0 if there was not room
 * enough. */
size_t slice_sub(const struct slice *slices, size_t count, size_t skip, size_t length, struct slice *to, size_t capacity);
/* True if every base and length is a multiple of `alignment` (a power of two). */
bool slice_aligned(const struct slice *slices, size_t count, size_t alignment);
