#include "programs/penstockd/place.h"

#include "base/text.h"

bool place_parse(const char *option, const char *text, struct host_address *ret, struct error *error) {
    const char *colon = strrchr(text, ':'), *begin = text, *end = colon;
    uint64_t port;
    bool bracketed = text[0] == '[';
    if (colon != NULL && bracketed) {
        begin++;
        end--;
    }
    if (colon == NULL || (bracketed && *end != ']') || !text_parse_u64(colon + 1, UINT16_MAX, &port) ||
        end - begin >= (int)sizeof(ret->text))
        return error_invalid(error, option, text, "IP:PORT, as 127.0.0.1:9504");
    *ret = (struct host_address){.family = bracketed ? HOST_IPV6 : HOST_IPV4, .port = (uint16_t)port};
    memcpy(ret->text, begin, (size_t)(end - begin));
    return true;
}
