#include "host/linux/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/text.h"
#include "host/linux/internal.h"

enum { RECORD_MAX = 8192 };
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

bool host_linux_log_format_parse(const char *text, enum host_linux_log_format *ret_format) {
    static const char *const names[] = {"auto", "text", "json", "journal"};
    for (unsigned i = 0; i < array_count(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_format = (enum host_linux_log_format)i;
            return true;
        }
    return false;
}

/* $JOURNAL_STREAM names the socket that systemd has connected to the journal: is it our standard error, and nobody's pipe? */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM"), *colon = stream == NULL ? NULL : strchr(stream, ':');
    struct stat stat;
    if (colon == NULL || fstat(STDERR_FILENO, &stat) != 0)
        return false;
    return strtoull(stream, NULL, 10) == stat.st_dev && strtoull(colon + 1, NULL, 10) == stat.st_ino;
}

static int connect_journal(void) {
    const char *path = getenv("PENSTOCK_JOURNAL_SOCKET"); /* tests have one of their own */
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL)
        path = JOURNAL_SOCKET;
    if (strlen(path) >= sizeof(to.sun_path))
        return -1;
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void host_linux_log_init(struct host_linux_log *log, enum host_linux_log_format format, const char *program) {
    *log = (struct host_linux_log){.format = format, .program = program, .journal_fd = -1};
    if (format == HOST_LINUX_LOG_AUTO)
        log->format = stderr_is_journal() ? HOST_LINUX_LOG_JOURNAL : HOST_LINUX_LOG_TEXT;
    if (log->format == HOST_LINUX_LOG_JOURNAL && (log->journal_fd = connect_journal()) < 0)
        log->format = HOST_LINUX_LOG_TEXT;
}

/* A member of a JSON object: quotes, backslashes and control bytes escaped. */
static void put_member(struct text *to, const char *before, const char *name, const char *value) {
    text_appendf(to, "%s\"%s\":\"", before, name);
    for (; *value != '\0'; value++)
        if (*value == '"' || *value == '\\')
            text_appendf(to, "\\%c", *value);
        else if ((unsigned char)*value < 0x20)
            text_appendf(to, "\\u%04x", (unsigned)*value);
        else
            text_append_char(to, *value);
    text_append_char(to, '"');
}

bool host_linux_log_json(const struct log_record *record, const char *program, char *to, size_t size, size_t *ret_length) {
    char time[TEXT_TIME_SIZE];
    struct text line;
    text_init(&line, size);
    put_member(&line, "{", "time", text_format_time(record->wall_ns, time, sizeof(time)));
    put_member(&line, ",", "level", log_level_name(record->level));
    put_member(&line, ",", "area", log_area_name(record->area));
    if (program != NULL)
        put_member(&line, ",", "program", program);
    put_member(&line, ",", "text", record->text);
    text_append_string(&line, "}\n");
    bool fits = !line.failed && line.length <= size;
    if (fits) {
        memcpy(to, line.bytes, line.length);
        *ret_length = line.length;
    }
    text_fini(&line);
    return fits;
}

/* syslog's number of a level. */
static unsigned priority(enum log_level level) {
    static const unsigned numbers[LOG_LEVEL_COUNT] = {
        [LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_WARNING] = 4, [LOG_LEVEL_NOTICE] = 5, [LOG_LEVEL_INFO] = 6, [LOG_LEVEL_DEBUG] = 7};
    return numbers[level];
}

/* The journal's protocol: NAME=VALUE lines in one datagram. A log's text is one line. False: it was not taken. */
static bool send_to_journal(const struct host_linux_log *log, const struct log_record *record) {
    char fields[RECORD_MAX];
    int length = snprintf(fields, sizeof(fields), "MESSAGE=%s\nPRIORITY=%u\nSYSLOG_IDENTIFIER=%s\nPENSTOCK_AREA=%s\n",
                          record->text, priority(record->level), log->program, log_area_name(record->area));
    if (length < 0 || length >= (int)sizeof(fields))
        return false;
    return send(log->journal_fd, fields, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length;
}

void host_linux_log_write(const struct host_linux_log *log, const struct log_record *record, bool with_time) {
    char time[TEXT_TIME_SIZE] = "", line[RECORD_MAX];
    size_t length;
    if (log->format == HOST_LINUX_LOG_JOURNAL && send_to_journal(log, record))
        return;
    if (log->format != HOST_LINUX_LOG_JSON || !host_linux_log_json(record, log->program, line, sizeof(line), &length)) {
        if (with_time)
            text_format_time(record->wall_ns, time, sizeof(time));
        int printed = snprintf(line, sizeof(line), "%s%s%s %s: %s\n", time, with_time ? " " : "", log_level_name(record->level),
                               log_area_name(record->area), record->text);
        length = min_u64((uint64_t)printed, sizeof(line) - 1);
    }
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written; /* there is nowhere else to say it */
}
