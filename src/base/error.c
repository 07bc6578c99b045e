#define ERROR_DEFINITIONS
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct error_code_facts facts[ERROR_CODE_COUNT] = {
    [ERROR_NONE] = {"none", 0, "Success", 0},
    [ERROR_INVALID] = {"invalid", -EINVAL, "Invalid argument", 64},
    [ERROR_NOT_FOUND] = {"not_found", -ENOENT, "No such file or directory", 66},
    [ERROR_NO_DEVICE] = {"no_device", -ENODEV, "No such device", 66},
    [ERROR_EXISTS] = {"exists", -EEXIST, "File exists", 73},
    [ERROR_BUSY] = {"busy", -EBUSY, "Device or resource busy", 75},
    [ERROR_PERMISSION] = {"permission", -EPERM, "Operation not permitted", 77},
    [ERROR_READ_ONLY] = {"read_only", -EROFS, "Read-only file system", 77},
    [ERROR_NO_SPACE] = {"no_space", -ENOSPC, "No space left on device", 74},
    [ERROR_NO_MEMORY] = {"no_memory", -ENOMEM, "Cannot allocate memory", 71},
    [ERROR_UNSUPPORTED] = {"unsupported", -EOPNOTSUPP, "Operation not supported", 69},
    [ERROR_FOREIGN] = {"foreign", -EPERM, "Operation not permitted", 65},
    [ERROR_DAMAGED] = {"damaged", -EILSEQ, "A checksum or an identity is wrong", 65},
    [ERROR_IO] = {"io", -EIO, "Input/output error", 74},
    [ERROR_TIMED_OUT] = {"timed_out", -ETIMEDOUT, "Connection timed out", 75},
    [ERROR_CANCELLED] = {"cancelled", -ECANCELED, "Operation canceled", 75},
    [ERROR_ALREADY] = {"already", -EALREADY, "Operation already in progress", 75},
    [ERROR_INTERNAL] = {"internal", -EIO, "Input/output error", 70},
};

const struct error_code_facts *error_facts(enum error_code code) {
    return (unsigned)code < ERROR_CODE_COUNT ? &facts[code] : &facts[ERROR_INTERNAL];
}

enum error_code error_from_errno(int number) {
    if (number < 0)
        number = -number;
    switch (number) {
    case 0: return ERROR_NONE;
    case ENOENT: return ERROR_NOT_FOUND;
    case EAGAIN:
    case ETXTBSY: return ERROR_BUSY;
    case EACCES: return ERROR_PERMISSION;
    case EDQUOT:
    case EFBIG: return ERROR_NO_SPACE;
    case EMFILE:
    case ENFILE: return ERROR_NO_MEMORY;
    case ENXIO: return ERROR_NO_DEVICE;
    case ENOSYS: return ERROR_UNSUPPORTED;
    case EBADMSG:
    case EUCLEAN: return ERROR_DAMAGED; /* what file systems answer whose checksums are wrong */
    default: break;
    }
    for (unsigned code = ERROR_INVALID; code < ERROR_CODE_COUNT; code++)
        if (facts[code].negative_errno == -number)
            return (enum error_code)code;
    return ERROR_IO;
}

const char *error_errno_words(int number) {
    if (number < 0)
        number = -number;
    if (error_from_errno(number) == ERROR_DAMAGED)
        return facts[ERROR_DAMAGED].errno_text;
    if (number == ESTALE)
        return "The file is gone at its server";
    const char *words = strerrordesc_np(number);
    return words != NULL ? words : "Unknown error";
}

/* Cuts with an ellipsis rather than silently. */
static void format_bounded(char *to, size_t size, const char *format, va_list args) {
    int n = vsnprintf(to, size, format, args);
    if (n >= (int)size)
        memcpy(to + size - 4, "...", 4);
}

bool error_set(struct error *error, enum error_code code, const char *format, ...) {
    if (error == NULL)
        return false;
    memset(error, 0, sizeof(*error));
    error->code = code;
    va_list args;
    va_start(args, format);
    format_bounded(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

bool error_invalid(struct error *error, const char *field, const char *value, const char *expected_format, ...) {
    if (error == NULL)
        return false;
    memset(error, 0, sizeof(*error));
    error->code = ERROR_INVALID;
    snprintf(error->field, sizeof(error->field), "%s", field);
    if (snprintf(error->value, sizeof(error->value), "%s", value) >= (int)sizeof(error->value))
        memcpy(error->value + sizeof(error->value) - 4, "...", 4);
    va_list args;
    va_start(args, expected_format);
    format_bounded(error->expected, sizeof(error->expected), expected_format, args);
    va_end(args);
    if (snprintf(error->text, sizeof(error->text), "%s is %s: expected %s", error->field, error->value, error->expected) >=
        (int)sizeof(error->text))
        memcpy(error->text + sizeof(error->text) - 4, "...", 4);
    return false;
}

bool error_set_errno(struct error *error, int number, const char *what_format, ...) {
    if (error == NULL)
        return false;
    if (number < 0)
        number = -number;
    memset(error, 0, sizeof(*error));
    error->code = error_from_errno(number);
    va_list args;
    va_start(args, what_format);
    format_bounded(error->text, sizeof(error->text), what_format, args);
    va_end(args);
    size_t used = strlen(error->text);
    snprintf(error->text + used, sizeof(error->text) - used, ": %s", error_errno_words(number));
    return false;
}

bool error_hint(struct error *error, const char *format, ...) {
    if (error == NULL)
        return false;
    va_list args;
    va_start(args, format);
    format_bounded(error->expected, sizeof(error->expected), format, args);
    va_end(args);
    return false;
}

void error_clear(struct error *error) {
    if (error != NULL)
        memset(error, 0, sizeof(*error));
}
