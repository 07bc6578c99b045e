#include "wire/grpc/buffer.h"

#include <stdlib.h>

void grpc_buffer_init(struct grpc_buffer *buffer, struct budget *budget) {
    buffer->budget = budget;
    buffer->bytes = buffer->local;
    buffer->begin = buffer->end = 0;
    buffer->capacity = sizeof(buffer->local);
}

static size_t paid(const struct grpc_buffer *buffer) { return buffer->bytes == buffer->local ? 0 : buffer->capacity; }

void grpc_buffer_fini(struct grpc_buffer *buffer) {
    if (paid(buffer) > 0) {
        budget_give(buffer->budget, buffer->capacity);
        free(buffer->bytes);
    }
    grpc_buffer_init(buffer, buffer->budget);
}

uint8_t *grpc_buffer_reserve(struct grpc_buffer *buffer, size_t length) {
    size_t used = grpc_buffer_length(buffer);
    if (buffer->begin > 0 && (used == 0 || (buffer->capacity - buffer->end < length && buffer->begin >= used))) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, used);
        buffer->begin = 0;
        buffer->end = used;
    }
    if (buffer->capacity - buffer->end >= length)
        return buffer->bytes + buffer->end;
    if (length > SIZE_MAX / 4)
        return NULL;
    size_t capacity = max_u64(buffer->capacity * 2, used + length);
    if (!budget_take(buffer->budget, capacity))
        return NULL;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL) {
        budget_give(buffer->budget, capacity);
        return NULL;
    }
    memcpy(bytes, buffer->bytes + buffer->begin, used);
    if (paid(buffer) > 0) {
        budget_give(buffer->budget, buffer->capacity);
        free(buffer->bytes);
    }
    buffer->bytes = bytes;
    buffer->begin = 0;
    buffer->end = used;
    buffer->capacity = capacity;
    return buffer->bytes + used;
}

void grpc_buffer_take(struct grpc_buffer *buffer, size_t length) {
    assert(length <= grpc_buffer_length(buffer));
    buffer->begin += length;
    if (buffer->begin == buffer->end && paid(buffer) > KIB(64)) /* a large one is not kept for the next small one */
        grpc_buffer_fini(buffer);
}
