/* Byte order, alignment and arithmetic helpers. Pure; any context. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define array_count(array) (sizeof(array) / sizeof((array)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "wire and disk structs are read in place: little-endian hosts only");

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static inline bool is_power_of_two(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }
/* `to` is a power of two. */
static inline uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) & ~(to - 1); }
static inline uint64_t round_down(uint64_t n, uint64_t to) { return n & ~(to - 1); }
static inline uint64_t divide_up(uint64_t n, uint64_t by) { return n / by + (n % by != 0); }
/* log2 of a power of two. */
static inline unsigned log2_u64(uint64_t n) { return (unsigned)__builtin_ctzll(n); }

/* True if [offset, offset + length) lies inside [0, size), overflow included. */
static inline bool range_inside(uint64_t offset, uint64_t length, uint64_t size) {
    return length <= size && offset <= size - length;
}

/* Unaligned little- and big-endian access. */
#define BYTES_ACCESS(bits)                                                                                                       \
    static inline uint##bits##_t get_le##bits(const void *p) {                                                                   \
        uint##bits##_t v;                                                                                                        \
        memcpy(&v, p, sizeof(v));                                                                                                \
        return v;                                                                                                                \
    }                                                                                                                            \
    static inline void put_le##bits(void *p, uint##bits##_t v) { memcpy(p, &v, sizeof(v)); }                                     \
    static inline uint##bits##_t get_be##bits(const void *p) { return __builtin_bswap##bits(get_le##bits(p)); }                  \
    static inline void put_be##bits(void *p, uint##bits##_t v) { put_le##bits(p, __builtin_bswap##bits(v)); }
BYTES_ACCESS(16)
BYTES_ACCESS(32)
BYTES_ACCESS(64)
#undef BYTES_ACCESS
