/* jansson, as a second opinion on what is JSON. Apart, since its names clash with ours. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum oracle_verdict { ORACLE_NO, ORACLE_YES, ORACLE_CANNOT_SAY /* JSON, but too large a number or a zero in a key */ };
enum oracle_verdict oracle_judge(const char *bytes, size_t length);
/* True if both texts are the same value. */
bool oracle_equal(const char *a, size_t a_length, const char *b, size_t b_length);
