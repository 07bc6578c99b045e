#include "block/io_status.h"

static const struct {
    const char *name;
    bool retryable;
} facts[IO_STATUS_COUNT] = {
    [IO_OK] = {"ok", false},
    [IO_INVALID] = {"invalid", false},
    [IO_OUT_OF_RANGE] = {"out_of_range", false},
    [IO_UNSUPPORTED] = {"unsupported", false},
    [IO_READ_ONLY] = {"read_only", false},
    [IO_NO_SPACE] = {"no_space", false},
    [IO_MEDIUM_READ] = {"medium_read", false},
    [IO_MEDIUM_WRITE] = {"medium_write", false},
    [IO_DAMAGED] = {"damaged", false},
    [IO_COMPARE_FAILED] = {"compare_failed", false},
    [IO_NOT_READY] = {"not_ready", true},
    [IO_PATH_LOST] = {"path_lost", true},
    [IO_TIMED_OUT] = {"timed_out", true},
    [IO_DEVICE_GONE] = {"device_gone", false},
    [IO_FENCED] = {"fenced", false},
    [IO_ABORTED] = {"aborted", true},
    [IO_NO_MEMORY] = {"no_memory", true},
    [IO_INTERNAL] = {"internal", false},
};

const char *io_status_name(enum io_status status) { return (unsigned)status < IO_STATUS_COUNT ? facts[status].name : "unknown"; }
bool io_status_retryable(enum io_status status) { return (unsigned)status < IO_STATUS_COUNT && facts[status].retryable; }
