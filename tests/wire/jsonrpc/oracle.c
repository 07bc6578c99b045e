#include "oracle.h"

#include <jansson.h>
#include <string.h>

#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

enum oracle_verdict oracle_judge(const char *bytes, size_t length) {
    json_error_t error;
    /* JSON has no such byte anywhere, but jansson takes one for the end. */
    if (memchr(bytes, '\0', length) != NULL)
        return ORACLE_NO;
    json_t *value = json_loadb(bytes, length, FLAGS, &error);
    if (value != NULL) {
        json_decref(value);
        return ORACLE_YES;
    }
    enum json_error_code code = json_error_code(&error);
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ? ORACLE_CANNOT_SAY : ORACLE_NO;
}

bool oracle_equal(const char *a, size_t a_length, const char *b, size_t b_length) {
    json_t *left = json_loadb(a, a_length, FLAGS, NULL), *right = json_loadb(b, b_length, FLAGS, NULL);
    bool equal = left != NULL && right != NULL && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return equal;
}
