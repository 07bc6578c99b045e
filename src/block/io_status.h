/* How a block request ended. Shaped after NVMe's status so that frontends map it one to one; each value is retryable or not. */
#pragma once

#include <stdbool.h>

enum io_status {
    IO_OK,
    IO_INVALID,      /* the request makes no sense (alignment, flags) */
    IO_OUT_OF_RANGE, /* beyond the device's end */
    IO_UNSUPPORTED,  /* the device has no such operation */
    IO_READ_ONLY,
    IO_NO_SPACE,     /* nothing was changed */
    IO_MEDIUM_READ,  /* data could not be read */
    IO_MEDIUM_WRITE, /* data may not have been written */
    IO_DAMAGED,      /* a checksum or identity was wrong */
    IO_COMPARE_FAILED,
    IO_NOT_READY,   /* opening, or all paths away: passes */
    IO_PATH_LOST,   /* the connection is gone; fate unknown */
    IO_TIMED_OUT,   /* fate unknown */
    IO_DEVICE_GONE, /* removed for good */
    IO_FENCED,      /* another owner has claimed the device */
    IO_ABORTED,     /* taken back before it was begun */
    IO_NO_MEMORY,   /* a limit was reached; passes */
    IO_INTERNAL,
    IO_STATUS_COUNT
};

/* "no_space": for programs. Never NULL. */
const char *io_status_name(enum io_status status);
/* "no space left": what people are told. Never NULL. */
const char *io_status_words(enum io_status status);
/* True if the same request may succeed later or on another path. */
bool io_status_retryable(enum io_status status);
