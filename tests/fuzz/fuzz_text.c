/* Fuzzes what parses single words that people and peers write: numbers, sizes, names, UUIDs. */
#include "base/text.h"
#include "base/uuid.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char string[128];
    if (size >= sizeof(string))
        return 0;
    if (size > 0)
        memcpy(string, data, size);
    string[size] = '\0';

    uint64_t number, bytes;
    if (text_parse_u64(string, 1000, &number))
        assert(number <= 1000);
    /* A plain number is the same as a size in bytes. */
    if (text_parse_u64(string, UINT64_MAX, &number) && text_parse_size(string, &bytes))
        assert(number == bytes);
    if (text_is_name(string, 64))
        assert(strlen(string) <= 64 && strchr(string, '/') == NULL);

    struct uuid uuid, again;
    char formatted[UUID_TEXT_SIZE];
    if (uuid_parse(string, &uuid)) {
        uuid_format(&uuid, formatted);
        assert(uuid_parse(formatted, &again) && uuid_equal(&uuid, &again));
    }
    return 0;
}
