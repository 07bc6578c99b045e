#include "context.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A signal handler has no argument to carry this. */
static char context[512];

static void ended(int number) {
    fputs("not ok: it was ended while: ", stdout);
    puts(context);
    fflush(stdout);
    signal(number, SIG_DFL);
    raise(number);
}

void context_set(const char *format, ...) {
    if (context[0] == '\0') {
        signal(SIGABRT, ended);
        signal(SIGSEGV, ended);
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof(context), format, arguments);
    va_end(arguments);
}
