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

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t length) {
    uint64_t wide = crc;
    for (; length >= 8; p += 8, length -= 8)
        wide = _mm_crc32_u64(wide, get_le64(p));
    crc = (uint32_t)wide;
    for (; length > 0; p++, length--)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}
#endif

uint32_t crc32c_continue(uint32_t crc, const void *data, size_t length) {
#if defined(__x86_64__)
    if (likely(__builtin_cpu_supports("sse4.2")))
        return ~crc32c_sse42(~crc, data, length);
#endif
    return ~crc32c_portable(~crc, data, length);
}

uint32_t crc32c(const void *data, size_t length) { return crc32c_continue(0, data, length); }
