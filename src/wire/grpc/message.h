/* Messages of hostile origin, for protobuf-c: it recurses as deep as the bytes say, takes any bytes for text, cuts text at a zero
 * byte and allocates what it likes. So bytes are walked first, along the same descriptors, and unpacked into an arena that is
 * bounded. Pure but for the arena's memory; one owner at a time. */
#pragma once

#include <stdalign.h>

#include <protobuf-c/protobuf-c.h>

#include "base/budget.h"

struct grpc_arena_slab;

/* Memory that is freed all at once. */
struct grpc_arena {
    struct budget *budget;
    struct grpc_arena_slab *slabs;
    size_t used, left; /* bytes had so far; bytes it may still take */
    uint8_t *free;     /* in the newest slab, or in local */
    size_t free_bytes;
    alignas(8) uint8_t local[448]; /* small messages need no more */
};

void grpc_arena_init(struct grpc_arena *arena, struct budget *budget);
void grpc_arena_fini(struct grpc_arena *arena);
/* The arena outlives its budget: what it holds is paid for by the budget's parent alone from now on. */
void grpc_arena_move_up(struct grpc_arena *arena);

/* True if the bytes are a message of that kind: every field well formed, strings UTF-8 without a zero byte, nesting within
 * GRPC_LIMIT_NESTING. Else *ret_why says what is wrong (static text). */
bool grpc_message_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t length, const char **ret_why);
/* Checks and unpacks into the arena (emptied first). NULL: *ret_why. The message lives until the arena's next use or end. */
const ProtobufCMessage *grpc_message_unpack(struct grpc_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                                            const uint8_t *bytes, size_t length, const char **ret_why);
