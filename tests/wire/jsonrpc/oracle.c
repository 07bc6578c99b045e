#include "oracle.h"

#include <jansson.h>

#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

enum oracle_verdict oracle_judge(const char *bytes, size_t length) {
    json_error_t error;
    json_t *value = json_loadb(bytes, length, FLAGS, &error);
    if (value != NULL) {
        json_decref(value);
        return ORACLE_YES;
    }
    return json_error_code(&error) == json_error_numeric_overflow ? ORACLE_NUMBER_TOO_LARGE : ORACLE_NO;
}

bool oracle_equal(const char *a, size_t a_length, const char *b, size_t b_length) {
    json_t *left = json_loadb(a, a_length, FLAGS, NULL), *right = json_loadb(b, b_length, FLAGS, NULL);
    bool equal = left != NULL && right != NULL && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return equal;
}
