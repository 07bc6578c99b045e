#include "base/crc32c.h"

#include "base/bytes.h"

static uint32_t crc32c_portable(uint32_t crc, const uint8_t *p, size_t length) {
    while (length-- > 0) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? (crc >> 1) ^ UINT32_C(0x82F63B78) : crc >> 1;
    }
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t length) {
    uint64_t wide = crc;
    for (; length >= 8; p += 8, length -= 8)
        wide = _mm_crc32_u64(wide, get_le64(p));
    crc = (uint32_t)wide;
    for (; length > 0; p++, length--)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}

/* The instruction takes a new operand each cycle and needs three for its result, so three streams side by side are three times as
 * quick. What the first two give is carried over the bytes behind them: times x^(8 n) mod P, which is a carry-less multiplication
 * by x^(8 n - 33) mod P, bits reflected, reduced by the instruction itself. */
#define STREAM_LARGE 1360                  /* three are 4080: of a 4 KiB block all but 16 bytes */
#define STREAM_SMALL 168                   /* three are 504 */
#define LARGE_SHIFT UINT32_C(0x3f70cc6f)   /* x^(8 * 1360 - 33) */
#define LARGE_SHIFT_2 UINT32_C(0x5aa1f3cf) /* x^(16 * 1360 - 33) */
#define SMALL_SHIFT UINT32_C(0x1b3d8f29)   /* x^(8 * 168 - 33) */
#define SMALL_SHIFT_2 UINT32_C(0xa60ce07b) /* x^(16 * 168 - 33) */

__attribute__((target("sse4.2,pclmul"))) static uint32_t carry(uint32_t crc, uint32_t shift) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)shift), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t three_streams(uint32_t crc, const uint8_t *p, size_t stream,
                                                                       uint32_t shift, uint32_t shift_2) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < stream; i += 8) {
        a = _mm_crc32_u64(a, get_le64(p + i));
        b = _mm_crc32_u64(b, get_le64(p + i + stream));
        c = _mm_crc32_u64(c, get_le64(p + i + 2 * stream));
    }
    return carry((uint32_t)a, shift_2) ^ carry((uint32_t)b, shift) ^ (uint32_t)c;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_pclmul(uint32_t crc, const uint8_t *p, size_t length) {
    for (; length >= 3 * STREAM_LARGE; p += 3 * STREAM_LARGE, length -= 3 * STREAM_LARGE)
        crc = three_streams(crc, p, STREAM_LARGE, LARGE_SHIFT, LARGE_SHIFT_2);
    for (; length >= 3 * STREAM_SMALL; p += 3 * STREAM_SMALL, length -= 3 * STREAM_SMALL)
        crc = three_streams(crc, p, STREAM_SMALL, SMALL_SHIFT, SMALL_SHIFT_2);
    return crc32c_sse42(crc, p, length);
}
#endif

uint32_t crc32c_continue(uint32_t crc, const void *data, size_t length) {
#if defined(__x86_64__)
    if (length >= 3 * STREAM_SMALL && likely(__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.2")))
        return ~crc32c_pclmul(~crc, data, length);
    if (likely(__builtin_cpu_supports("sse4.2")))
        return ~crc32c_sse42(~crc, data, length);
#endif
    return ~crc32c_portable(~crc, data, length);
}

uint32_t crc32c(const void *data, size_t length) { return crc32c_continue(0, data, length); }
