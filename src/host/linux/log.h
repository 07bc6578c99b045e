/* Where a process's log goes: text or JSON on standard error, or systemd's journal by its own protocol. Only src/programs
 * includes it. Any thread. */
#pragma once

#include "base/log.h"

enum host_linux_log_format {
    HOST_LINUX_LOG_AUTO, /* the journal if standard error is connected to it, else text */
    HOST_LINUX_LOG_TEXT,
    HOST_LINUX_LOG_JSON, /* an object a line: time, level, area, text, program */
    HOST_LINUX_LOG_JOURNAL
};

struct host_linux_log {
    enum host_linux_log_format format; /* not AUTO any more */
    const char *program;
    int journal_fd; /* -1 = none */
};

/* "auto", "text", "json", "journal". */
bool host_linux_log_format_parse(const char *text, enum host_linux_log_format *ret_format);
/* The program's name stays. A journal that is not there: text. */
void host_linux_log_init(struct host_linux_log *log, enum host_linux_log_format format, const char *program);
/* One write a record, so that lines of several threads do not mix. */
void host_linux_log_write(const struct host_linux_log *log, const struct log_record *record, bool with_time);
/* The record as JSON, with a newline; false if it does not fit. */
bool host_linux_log_json(const struct log_record *record, const char *program, char *to, size_t size, size_t *ret_length);
