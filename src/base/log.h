/* The log of a node: levels and flags that can be changed while it runs, one sink. No state of its own: hangs on the node.
 * Writing costs one load when the message is not wanted. Any thread. For events, not for requests: those are counted. */
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_COUNT };

/* Who speaks. An area is a flag too: INFO and DEBUG of an area appear only while it is set. The names are the storage dialect's
 * where it has one. */
enum log_area {
    LOG_AREA_APP,      /* "app" */
    LOG_AREA_REACTOR,  /* "reactor" */
    LOG_AREA_RPC,      /* "rpc" */
    LOG_AREA_BLOCK,    /* "bdev" */
    LOG_AREA_FILE,     /* "aio" */
    LOG_AREA_FAULT,    /* "vbdev_delay" */
    LOG_AREA_VOLUME,   /* "lvol" */
    LOG_AREA_STORE,    /* "blob" */
    LOG_AREA_NVME,     /* "bdev_nvme": the initiator */
    LOG_AREA_NVMF,     /* "nvmf": subsystems */
    LOG_AREA_NVMF_TCP, /* "nvmf_tcp": its transport */
    LOG_AREA_MIRROR,   /* "bdev_raid" */
    LOG_AREA_COUNT
};

struct log_record {
    uint64_t wall_ns; /* since 1970 */
    enum log_level level;
    enum log_area area;
    const char *text; /* one line */
    bool print;       /* within the print level: for people */
    bool keep;        /* within the level: for the file */
};

struct log {
    _Atomic uint32_t level, print_level; /* enum log_level: up to this one */
    _Atomic uint64_t flags;              /* bit: enum log_area */
    _Atomic bool timestamps;
    uint64_t (*wall_ns)(void *arg);
    /* Takes a wanted message; the record is valid during the call. Any thread, several at a time. */
    void (*write)(void *arg, const struct log_record *record);
    void *arg;
};

/* Levels NOTICE (file) and INFO (print), no flags, timestamps on: the dialect's defaults. */
void log_init(struct log *log, uint64_t (*wall_ns)(void *arg), void (*write)(void *arg, const struct log_record *record),
              void *arg);
/* log NULL: nothing happens. */
void log_write(struct log *log, enum log_level level, enum log_area area, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(log, area, ...) log_write(log, LOG_LEVEL_ERROR, area, __VA_ARGS__)
#define log_warning(log, area, ...) log_write(log, LOG_LEVEL_WARNING, area, __VA_ARGS__)
#define log_notice(log, area, ...) log_write(log, LOG_LEVEL_NOTICE, area, __VA_ARGS__)
#define log_info(log, area, ...) log_write(log, LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_debug(log, area, ...) log_write(log, LOG_LEVEL_DEBUG, area, __VA_ARGS__)

const char *log_level_name(enum log_level level); /* "NOTICE" */
const char *log_area_name(enum log_area area);    /* "nvmf_tcp" */
/* Sets or clears the flag of that name, or "all"; false if there is none. */
bool log_set_flag(struct log *log, const char *name, bool on);
static inline bool log_flag_is_set(const struct log *log, enum log_area area) {
    return (atomic_load_explicit(&log->flags, memory_order_relaxed) >> area & 1) != 0;
}
