/* The integers among JSON's numbers, exactly. */
#include "wire/jsonrpc/json_reader.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* magnitude × 10 + digit, unless it does not fit. */
static bool shift_in(uint64_t *magnitude, unsigned digit) {
    return !__builtin_mul_overflow(*magnitude, UINT64_C(10), magnitude) && !__builtin_add_overflow(*magnitude, digit, magnitude);
}

/* Behind 'e': saturates, since beyond a few dozen it makes no difference. */
static int32_t exponent(const char *text) {
    bool negative = *text == '-';
    int32_t value = 0;
    for (text += *text == '-' || *text == '+'; is_digit(*text); text++)
        if (value < 100000000)
            value = value * 10 + (*text - '0');
    return negative ? -value : value;
}

/* The digits of "12.5e1" are 125 at scale -1, and 1 more by the exponent. Zeros at their end count in the scale, so that an
 * integer is one whose scale is not negative. */
static bool parse(const char *text, bool *ret_negative, uint64_t *ret_magnitude) {
    uint64_t magnitude = 0, zeros = 0;
    int64_t scale = 0;
    bool fraction = false;
    *ret_negative = *text == '-';
    for (text += *text == '-'; is_digit(*text) || *text == '.'; text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        scale -= fraction;
        if (*text == '0') {
            zeros++;
            continue;
        }
        for (; magnitude != 0 && zeros > 0; zeros--)
            if (!shift_in(&magnitude, 0))
                return false;
        zeros = 0;
        if (!shift_in(&magnitude, (unsigned)(*text - '0')))
            return false;
    }
    if (*text == 'e' || *text == 'E')
        scale += exponent(text + 1);
    *ret_magnitude = magnitude;
    if (magnitude == 0)
        return true;
    for (scale += (int64_t)zeros; scale > 0; scale--)
        if (!shift_in(&magnitude, 0))
            return false;
    *ret_magnitude = magnitude;
    return scale == 0;
}

bool json_number_u64(const char *text, uint64_t *ret_value) {
    bool negative;
    uint64_t magnitude;
    if (!parse(text, &negative, &magnitude) || (negative && magnitude != 0))
        return false;
    *ret_value = magnitude;
    return true;
}

bool json_number_i64(const char *text, int64_t *ret_value) {
    bool negative;
    uint64_t magnitude;
    if (!parse(text, &negative, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *ret_value = negative ? (int64_t)-magnitude : (int64_t)magnitude;
    return true;
}
