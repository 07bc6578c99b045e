#include "wire/grpc/message.h"

#include <stdlib.h>

#include "wire/grpc/codec.h"
#include "wire/grpc/limits.h"

/* ---- arena ---- */

#define SLAB_BYTES 4096
#define ALIGNMENT 8

struct grpc_arena_slab {
    struct grpc_arena_slab *next;
    size_t size; /* with this header */
    alignas(ALIGNMENT) uint8_t bytes[];
};

static void arena_rewind(struct grpc_arena *arena) {
    for (struct grpc_arena_slab *slab = arena->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        budget_give(arena->budget, slab->size);
        free(slab);
    }
    arena->slabs = NULL;
    arena->used = 0;
    arena->free = arena->local;
    arena->free_bytes = sizeof(arena->local);
}

void grpc_arena_init(struct grpc_arena *arena, struct budget *budget) {
    arena->budget = budget;
    arena->slabs = NULL;
    arena_rewind(arena);
}

void grpc_arena_fini(struct grpc_arena *arena) { arena_rewind(arena); }

void grpc_arena_move_up(struct grpc_arena *arena) {
    struct budget *budget = arena->budget, *parent = budget->parent;
    for (struct grpc_arena_slab *slab = arena->slabs; slab != NULL; slab = slab->next)
        budget->used -= slab->size;
    arena->budget = parent;
}

static bool arena_grow(struct grpc_arena *arena, size_t bytes) {
    size_t size = sizeof(struct grpc_arena_slab) + max_u64(bytes, SLAB_BYTES - sizeof(struct grpc_arena_slab));
    if (!budget_take(arena->budget, size))
        return false;
    struct grpc_arena_slab *slab = malloc(size);
    if (slab == NULL) {
        budget_give(arena->budget, size);
        return false;
    }
    slab->next = arena->slabs;
    slab->size = size;
    arena->slabs = slab;
    arena->free = slab->bytes;
    arena->free_bytes = size - sizeof(*slab);
    return true;
}

static void *arena_alloc(void *arg, size_t size) {
    struct grpc_arena *arena = arg;
    if (size > arena->left)
        return NULL;
    size_t bytes = round_up(size, ALIGNMENT);
    if (bytes > arena->free_bytes && !arena_grow(arena, bytes))
        return NULL;
    void *memory = arena->free;
    arena->free += bytes;
    arena->free_bytes -= bytes;
    arena->used += bytes;
    arena->left -= min_u64(bytes, arena->left);
    return memory;
}

static void arena_free(void *arg, void *pointer) { (void)arg, (void)pointer; }

/* ---- the walk ---- */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct walk {
    const uint8_t *at, *end;
};

static bool take_varint(struct walk *walk, uint64_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && walk->at < walk->end; shift += 7) {
        uint8_t byte = *walk->at++;
        if (shift < 63 || byte <= 1)
            value |= (uint64_t)(byte & 0x7f) << shift;
        else
            return false;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* The value of a field: of a length-delimited one its bytes, of others nothing. */
static bool take_value(struct walk *walk, unsigned wire_type, struct walk *ret_bytes) {
    uint64_t value;
    size_t left;
    switch (wire_type) {
    case WIRE_VARINT: return take_varint(walk, &value);
    case WIRE_64: value = 8; break;
    case WIRE_32: value = 4; break;
    case WIRE_BYTES:
        if (!take_varint(walk, &value))
            return false;
        break;
    default: return false;
    }
    left = (size_t)(walk->end - walk->at);
    if (value > left)
        return false;
    *ret_bytes = (struct walk){walk->at, walk->at + value};
    walk->at += value;
    return true;
}

static const char *check_text(const struct walk *text) {
    const uint8_t *at = text->at;
    while (at < text->end) {
        size_t bytes = utf8_character(at, (size_t)(text->end - at));
        if (bytes == 0)
            return "a string is not UTF-8";
        if (*at == 0)
            return "a string holds a zero byte";
        at += bytes;
    }
    return NULL;
}

static bool may_have(const ProtobufCFieldDescriptor *field, unsigned wire_type) {
    bool packable = field->label == PROTOBUF_C_LABEL_REPEATED && field->type != PROTOBUF_C_TYPE_STRING &&
                    field->type != PROTOBUF_C_TYPE_BYTES && field->type != PROTOBUF_C_TYPE_MESSAGE;
    switch (field->type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return wire_type == WIRE_32 || (packable && wire_type == WIRE_BYTES);
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return wire_type == WIRE_64 || (packable && wire_type == WIRE_BYTES);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return wire_type == WIRE_BYTES;
    default: return wire_type == WIRE_VARINT || (packable && wire_type == WIRE_BYTES);
    }
}

/* Bounded by `depth`, since what comes in is not. */
static const char *check(const ProtobufCMessageDescriptor *descriptor, struct walk walk, unsigned depth) {
    if (depth > GRPC_LIMIT_NESTING)
        return "messages are nested too deeply";
    while (walk.at < walk.end) {
        uint64_t tag;
        struct walk bytes = {NULL, NULL};
        if (!take_varint(&walk, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff || !take_value(&walk, tag & 7, &bytes))
            return "a field is malformed";
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
        if (field == NULL)
            continue;
        if (!may_have(field, tag & 7))
            return "a field has another type";
        const char *why = NULL;
        if (field->type == PROTOBUF_C_TYPE_STRING)
            why = check_text(&bytes);
        else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            why = check(field->descriptor, bytes, depth + 1);
        if (why != NULL)
            return why;
    }
    return NULL;
}

bool grpc_message_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t length, const char **ret_why) {
    const char *why = check(descriptor, (struct walk){bytes, bytes + length}, 0);
    if (why != NULL)
        *ret_why = why;
    return why == NULL;
}

const ProtobufCMessage *grpc_message_unpack(struct grpc_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                                            const uint8_t *bytes, size_t length, const char **ret_why) {
    ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
    arena_rewind(arena);
    arena->left = GRPC_LIMIT_UNPACK_BASE + length * GRPC_LIMIT_UNPACK_FACTOR;
    if (!grpc_message_check(descriptor, bytes, length, ret_why))
        return NULL;
    const ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, length, bytes);
    if (message == NULL)
        *ret_why = "the message is malformed, or takes too much memory";
    return message;
}
