/* Bytes of one call that wait: appended at the end, taken from the front, paid for from a budget beyond a small room of its own.
 * One owner at a time. */
#pragma once

#include "base/budget.h"

struct grpc_buffer {
    struct budget *budget;
    uint8_t *bytes; /* local, or allocated */
    size_t begin, end, capacity;
    uint8_t local[224];
};

void grpc_buffer_init(struct grpc_buffer *buffer, struct budget *budget);
void grpc_buffer_fini(struct grpc_buffer *buffer);
static inline size_t grpc_buffer_length(const struct grpc_buffer *buffer) { return buffer->end - buffer->begin; }
/* Room for `length` more bytes at the end, to be counted by grpc_buffer_added(); NULL if budget or memory refuse. */
uint8_t *grpc_buffer_reserve(struct grpc_buffer *buffer, size_t length);
static inline void grpc_buffer_added(struct grpc_buffer *buffer, size_t length) { buffer->end += length; }
/* Drops bytes at the front. */
void grpc_buffer_take(struct grpc_buffer *buffer, size_t length);
