#include "block/io_status.h"

static const struct {
    const char *name, *words;
    bool retryable;
} facts[IO_STATUS_COUNT] = {
    [IO_OK] = {"ok", "ok", false},
    [IO_INVALID] = {"invalid", "the request is invalid", false},
    [IO_OUT_OF_RANGE] = {"out_of_range", "beyond the end of the device", false},
    [IO_UNSUPPORTED] = {"unsupported", "the device has no such operation", false},
    [IO_READ_ONLY] = {"read_only", "the device is read-only", false},
    [IO_NO_SPACE] = {"no_space", "no space left", false},
    [IO_MEDIUM_READ] = {"medium_read", "data could not be read", false},
    [IO_MEDIUM_WRITE] = {"medium_write", "data could not be written", false},
    [IO_DAMAGED] = {"damaged", "a checksum or an identity is wrong", false},
    [IO_COMPARE_FAILED] = {"compare_failed", "the data is not what was expected", false},
    [IO_NOT_READY] = {"not_ready", "not ready", true},
    [IO_PATH_LOST] = {"path_lost", "the connection is lost", true},
    [IO_TIMED_OUT] = {"timed_out", "no answer in time", true},
    [IO_DEVICE_GONE] = {"device_gone", "the device was removed", false},
    [IO_FENCED] = {"fenced", "another owner has claimed it", false},
    [IO_ABORTED] = {"aborted", "given up before it was begun", true},
    [IO_NO_MEMORY] = {"no_memory", "a limit was reached", true},
    [IO_INTERNAL] = {"internal", "internal error", false},
};

const char *io_status_name(enum io_status status) { return (unsigned)status < IO_STATUS_COUNT ? facts[status].name : "unknown"; }
const char *io_status_words(enum io_status status) {
    return (unsigned)status < IO_STATUS_COUNT ? facts[status].words : "unknown";
}
bool io_status_retryable(enum io_status status) { return (unsigned)status < IO_STATUS_COUNT && facts[status].retryable; }
