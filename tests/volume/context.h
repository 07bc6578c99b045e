/* What a test program is about to do, printed when an assertion ends it: the seed that brings it back. */
#pragma once

void context_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
