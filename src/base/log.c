#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_init(struct log *log, uint64_t (*wall_ns)(void *arg), void (*write)(void *arg, const struct log_record *record),
              void *arg) {
    atomic_init(&log->level, LOG_LEVEL_NOTICE);
    atomic_init(&log->print_level, LOG_LEVEL_INFO);
    atomic_init(&log->flags, 0);
    atomic_init(&log->timestamps, true);
    log->wall_ns = wall_ns;
    log->write = write;
    log->arg = arg;
}

const char *log_level_name(enum log_level level) {
    static const char *const names[LOG_LEVEL_COUNT] = {"ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"};
    return names[level];
}

const char *log_area_name(enum log_area area) {
    static const char *const names[LOG_AREA_COUNT] = {"app",  "reactor", "rpc",       "bdev", "aio",      "vbdev_delay",
                                                      "lvol", "blob",    "bdev_nvme", "nvmf", "nvmf_tcp", "bdev_raid"};
    return names[area];
}

bool log_set_flag(struct log *log, const char *name, bool on) {
    uint64_t bits = strcmp(name, "all") == 0 ? (UINT64_C(1) << LOG_AREA_COUNT) - 1 : 0;
    for (unsigned area = 0; area < LOG_AREA_COUNT; area++)
        if (strcmp(name, log_area_name(area)) == 0)
            bits = UINT64_C(1) << area;
    if (on)
        atomic_fetch_or(&log->flags, bits);
    else
        atomic_fetch_and(&log->flags, ~bits);
    return bits != 0;
}

void log_write(struct log *log, enum log_level level, enum log_area area, const char *format, ...) {
    if (log == NULL)
        return;
    struct log_record record = {.level = level,
                                .area = area,
                                .print = level <= atomic_load_explicit(&log->print_level, memory_order_relaxed),
                                .keep = level <= atomic_load_explicit(&log->level, memory_order_relaxed)};
    if ((!record.print && !record.keep) || (level >= LOG_LEVEL_INFO && !log_flag_is_set(log, area)))
        return;
    char text[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (length >= (int)sizeof(text))
        memcpy(text + sizeof(text) - 4, "...", 4);
    for (char *p = text; *p != '\0'; p++) /* what a peer chose cannot forge a line */
        if ((uint8_t)*p < 0x20 || *p == 0x7f)
            *p = '?';
    record.text = text;
    record.wall_ns = log->wall_ns(log->arg);
    log->write(log->arg, &record);
}
