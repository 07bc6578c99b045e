/* The decoder of parameters: one walk over an object's members, driven by the generated tables. */
#include "base/text.h"
#include "plane_rpc/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct rpc_chunk {
    struct rpc_chunk *next;
    max_align_t bytes[];
};

void *rpc_arena_take(struct rpc_arena *arena, size_t size) {
    struct rpc_chunk *chunk = size > SIZE_MAX / 2 ? NULL : calloc(1, sizeof(*chunk) + size);
    if (chunk == NULL)
        return NULL;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk->bytes;
}

void rpc_arena_fini(struct rpc_arena *arena) {
    for (struct rpc_chunk *chunk; (chunk = arena->chunks) != NULL;) {
        arena->chunks = chunk->next;
        free(chunk);
    }
}

const struct rpc_method *rpc_table_find(const struct rpc_table *table, const char *name) {
    uint32_t low = 0, high = table->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, table->methods[middle].name);
        if (order == 0)
            return &table->methods[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Where the decoder is: for the dotted name of a wrong member. */
struct place {
    const struct place *parent;
    const char *name; /* of a member; NULL = an item of an array */
    uint32_t index;
    bool top; /* the whole of params: not part of a name */
};

struct decoder {
    const struct json_document *document;
    struct rpc_arena *arena;
    struct error *error;
    bool relaxed;
};

static void place_text(const struct place *place, struct text *text) {
    if (place->parent != NULL && !place->parent->top)
        place_text(place->parent, text);
    if (place->name == NULL)
        text_appendf(text, "[%" PRIu32 "]", place->index);
    else
        text_appendf(text, "%s%s", text->length > 0 ? "." : "", place->name);
}

/* What was given, in a few characters. */
static void value_text(const struct decoder *decoder, const struct json_node *node, char *to, size_t size) {
    switch ((enum json_kind)node->kind) {
    case JSON_KIND_NULL: snprintf(to, size, "null"); break;
    case JSON_KIND_FALSE: snprintf(to, size, "false"); break;
    case JSON_KIND_TRUE: snprintf(to, size, "true"); break;
    case JSON_KIND_NUMBER: snprintf(to, size, "%s", json_node_text(decoder->document, node)); break;
    case JSON_KIND_STRING:
        snprintf(to, size, "\"%.*s\"", (int)min_u32(node->length, 80), json_node_text(decoder->document, node));
        break;
    case JSON_KIND_ARRAY: snprintf(to, size, "an array of %" PRIu32, node->count); break;
    case JSON_KIND_OBJECT: snprintf(to, size, "an object of %" PRIu32, node->count); break;
    }
}

static bool wrong_text(const struct decoder *decoder, const struct place *place, const char *value, const char *expected) {
    struct text field;
    text_init(&field, 4096);
    place_text(place, &field);
    error_invalid(decoder->error, field.bytes != NULL ? field.bytes : "", value, "%s", expected);
    text_fini(&field);
    return false;
}

static bool wrong(const struct decoder *decoder, const struct place *place, const struct json_node *node, const char *expected) {
    char value[128];
    value_text(decoder, node, value, sizeof(value));
    return wrong_text(decoder, place, value, expected);
}

static bool no_memory(const struct decoder *decoder) {
    return error_set(decoder->error, ERROR_NO_MEMORY, "no memory for the parameters");
}

static bool wrong_choice(const struct decoder *decoder, const struct place *place, const struct json_node *node,
                         const struct rpc_enum *enumeration) {
    struct text expected;
    text_init(&expected, 4096);
    for (uint32_t i = 0; i < enumeration->count; i++)
        text_appendf(&expected, "%s%s", i == 0 ? "one of " : ", ", enumeration->values[i]);
    wrong(decoder, place, node, expected.bytes != NULL ? expected.bytes : "");
    text_fini(&expected);
    return false;
}

static bool decode_choice(const struct decoder *decoder, const struct place *place, const struct json_node *node,
                          const struct rpc_enum *enumeration, uint32_t *ret_index) {
    if (node->kind != JSON_KIND_STRING)
        return wrong_choice(decoder, place, node, enumeration);
    const char *text = json_node_text(decoder->document, node);
    for (uint32_t i = 0; i < enumeration->count; i++) {
        const char *value = enumeration->values[i];
        bool equal = enumeration->any_case ? strcasecmp(value, text) == 0 : strcmp(value, text) == 0;
        if (equal && strlen(text) == node->length) {
            *ret_index = i;
            return true;
        }
    }
    return wrong_choice(decoder, place, node, enumeration);
}

static bool decode_signed(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                          const struct json_node *node, uint64_t *ret_number) {
    int64_t value = 0, low = (int64_t)field->min, high = (int64_t)field->max;
    bool is_integer = node->kind == JSON_KIND_NUMBER && json_number_i64(json_node_text(decoder->document, node), &value);
    char expected[96];
    if (!is_integer || value < low || value > high) {
        snprintf(expected, sizeof(expected), "an integer from %" PRId64 " to %" PRId64, low, high);
        return wrong(decoder, place, node, expected);
    }
    *ret_number = (uint64_t)value;
    return true;
}

static bool decode_unsigned(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                            const struct json_node *node, uint64_t *ret_number) {
    uint64_t value = 0;
    bool is_integer = node->kind == JSON_KIND_NUMBER && json_number_u64(json_node_text(decoder->document, node), &value);
    char expected[96];
    if (!is_integer || value < field->min || value > field->max) {
        snprintf(expected, sizeof(expected), "an integer from %" PRIu64 " to %" PRIu64, field->min, field->max);
        return wrong(decoder, place, node, expected);
    }
    *ret_number = value;
    return true;
}

static bool decode_string(const struct decoder *decoder, const struct place *place, uint32_t max_length,
                          const struct json_node *node, const char **ret_string) {
    char expected[96];
    const char *text = json_node_text(decoder->document, node);
    if (node->kind != JSON_KIND_STRING)
        return wrong(decoder, place, node, "a string");
    if (strlen(text) != node->length)
        return wrong(decoder, place, node, "a string without zero bytes");
    if (node->length > max_length) {
        snprintf(expected, sizeof(expected), "at most %" PRIu32 " bytes", max_length);
        return wrong(decoder, place, node, expected);
    }
    *ret_string = text;
    return true;
}

static bool decode_uuid(const struct decoder *decoder, const struct place *place, const struct json_node *node,
                        struct uuid *ret_uuid) {
    if (node->kind == JSON_KIND_STRING && node->length == UUID_TEXT_SIZE - 1 &&
        uuid_parse(json_node_text(decoder->document, node), ret_uuid))
        return true;
    return wrong(decoder, place, node, "a UUID, 8-4-4-4-12 hexadecimal digits");
}

static bool decode_mask(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                        const struct json_node *node, uint64_t *ret_mask) {
    uint32_t index = 0;
    uint64_t mask = 0;
    if (node->kind != JSON_KIND_ARRAY)
        return wrong(decoder, place, node, "an array of strings");
    for (const struct json_node *item = json_node_child(decoder->document, node); item != NULL;
         item = json_node_after(decoder->document, node, item)) {
        if (!decode_choice(decoder, place, item, field->enumeration, &index))
            return false;
        mask |= UINT64_C(1) << index;
    }
    *ret_mask = mask;
    return true;
}

static bool decode_map(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                       const struct json_node *node, struct rpc_array *ret_array) {
    char expected[96];
    if (node->kind != JSON_KIND_OBJECT)
        return wrong(decoder, place, node, "an object of strings");
    if (node->count > field->max_count) {
        snprintf(expected, sizeof(expected), "at most %" PRIu32 " members", field->max_count);
        return wrong(decoder, place, node, expected);
    }
    struct rpc_pair *pairs = rpc_arena_take(decoder->arena, node->count * sizeof(*pairs));
    if (pairs == NULL)
        return no_memory(decoder);
    uint32_t count = 0;
    for (const struct json_node *key = json_node_child(decoder->document, node), *value; key != NULL;
         key = json_node_after(decoder->document, node, value)) {
        value = json_node_after(decoder->document, node, key);
        struct place inner = {.parent = place, .name = json_node_text(decoder->document, key)};
        if (!decode_string(decoder, &inner, field->max_length, key, &pairs[count].key) ||
            !decode_string(decoder, &inner, field->max_length, value, &pairs[count].value))
            return false;
        for (uint32_t i = 0; i < count; i++)
            if (strcmp(pairs[i].key, pairs[count].key) == 0)
                return wrong_text(decoder, &inner, "given twice", "it once");
        count++;
    }
    *ret_array = (struct rpc_array){.items = pairs, .count = count};
    return true;
}

static bool decode_object(const struct decoder *decoder, const struct place *place, const struct json_node *node,
                          const struct rpc_object *object, char *params);

static bool decode_item(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                        const struct json_node *node, char *to) {
    uint64_t number;
    switch ((enum rpc_kind)field->item_kind) {
    case RPC_KIND_STRING: return decode_string(decoder, place, field->max_length, node, (const char **)(void *)to);
    case RPC_KIND_UUID: return decode_uuid(decoder, place, node, (struct uuid *)to);
    case RPC_KIND_OBJECT: return decode_object(decoder, place, node, field->object, to);
    default: break;
    }
    if (!decode_unsigned(decoder, place, field, node, &number))
        return false;
    memcpy(to, &number, field->item_size); /* little-endian: the low bytes come first */
    return true;
}

static bool decode_array(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                         const struct json_node *node, struct rpc_array *ret_array) {
    char expected[96];
    bool single = (field->flags & RPC_FIELD_SINGLE) != 0 && node->kind != JSON_KIND_ARRAY;
    uint32_t count = single ? 1 : node->count, i = 0;
    if (!single && node->kind != JSON_KIND_ARRAY)
        return wrong(decoder, place, node, "an array");
    if (count > field->max_count) {
        snprintf(expected, sizeof(expected), "at most %" PRIu32 " items", field->max_count);
        return wrong(decoder, place, node, expected);
    }
    char *items = rpc_arena_take(decoder->arena, (size_t)count * field->item_size);
    if (items == NULL)
        return no_memory(decoder);
    if (single && !decode_item(decoder, place, field, node, items))
        return false;
    for (const struct json_node *item = single ? NULL : json_node_child(decoder->document, node); item != NULL;
         item = json_node_after(decoder->document, node, item), i++) {
        struct place inner = {.parent = place, .index = i};
        if (!decode_item(decoder, &inner, field, item, items + (size_t)i * field->item_size))
            return false;
    }
    *ret_array = (struct rpc_array){.items = items, .count = count};
    return true;
}

/* A feature that is not here may be asked for by its default value only. */
static bool refuse_absent(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                          const struct json_node *node, bool is_default) {
    if (is_default)
        return true;
    wrong(decoder, place, node, "");
    struct error error;
    error_set(&error, ERROR_UNSUPPORTED, "%s is not supported: %s", field->name, field->note);
    if (decoder->error != NULL) {
        memcpy(error.field, decoder->error->field, sizeof(error.field));
        memcpy(error.value, decoder->error->value, sizeof(error.value));
        *decoder->error = error;
    }
    return error_hint(decoder->error, "it absent, or its default: %s", field->note);
}

/* Room for a value of any kind: what is checked only is decoded into it, what is kept is copied from it. */
union value {
    bool boolean;
    uint64_t number;
    uint32_t index;
    const char *string;
    struct uuid uuid;
    struct rpc_array array;
};

static bool decode_scalar(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                          const struct json_node *node, union value *value, size_t *ret_size, bool *ret_is_default) {
    switch ((enum rpc_kind)field->kind) {
    case RPC_KIND_BOOL:
        if (node->kind != JSON_KIND_TRUE && node->kind != JSON_KIND_FALSE)
            return wrong(decoder, place, node, "true or false");
        value->boolean = node->kind == JSON_KIND_TRUE;
        *ret_size = sizeof(bool);
        *ret_is_default = value->boolean == (field->default_number != 0);
        return true;
    case RPC_KIND_STRING:
        *ret_size = sizeof(const char *);
        if (!decode_string(decoder, place, field->max_length, node, &value->string))
            return false;
        *ret_is_default =
            value->string[0] == '\0' || (field->default_text != NULL && strcmp(value->string, field->default_text) == 0);
        return true;
    case RPC_KIND_UUID:
        *ret_size = sizeof(struct uuid);
        if (!decode_uuid(decoder, place, node, &value->uuid))
            return false;
        *ret_is_default = uuid_is_nil(&value->uuid);
        return true;
    case RPC_KIND_ENUM:
        *ret_size = sizeof(uint32_t);
        if (!decode_choice(decoder, place, node, field->enumeration, &value->index))
            return false;
        *ret_is_default = value->index == field->default_number;
        return true;
    case RPC_KIND_MASK:
        *ret_size = sizeof(uint64_t);
        if (!decode_mask(decoder, place, field, node, &value->number))
            return false;
        *ret_is_default = value->number == 0;
        return true;
    case RPC_KIND_ARRAY:
    case RPC_KIND_MAP:
        *ret_size = sizeof(struct rpc_array);
        if (!(field->kind == RPC_KIND_ARRAY ? decode_array : decode_map)(decoder, place, field, node, &value->array))
            return false;
        *ret_is_default = value->array.count == 0;
        return true;
    case RPC_KIND_I32:
        *ret_size = sizeof(int32_t);
        if (!decode_signed(decoder, place, field, node, &value->number))
            return false;
        *ret_is_default = value->number == field->default_number;
        return true;
    default: break;
    }
    *ret_size = field->kind == RPC_KIND_U8 ? 1 : field->kind == RPC_KIND_U16 ? 2 : field->kind == RPC_KIND_U32 ? 4 : 8;
    if (!decode_unsigned(decoder, place, field, node, &value->number))
        return false;
    *ret_is_default = value->number == field->default_number;
    return true;
}

static bool decode_field(const struct decoder *decoder, const struct place *place, const struct rpc_field *field,
                         const struct json_node *node, char *params) {
    union value value = {.number = 0};
    size_t size = 0;
    bool is_default = false;
    if (field->kind == RPC_KIND_OBJECT) {
        char *to = field->offset != RPC_NO_OFFSET ? params + field->offset : rpc_arena_take(decoder->arena, field->object->size);
        if (to == NULL)
            return no_memory(decoder);
        if (!decode_object(decoder, place, node, field->object, to))
            return false;
        is_default = node->count == 0;
    } else if (!decode_scalar(decoder, place, field, node, &value, &size, &is_default)) {
        return false;
    } else if (field->offset != RPC_NO_OFFSET) {
        memcpy(params + field->offset, &value, size);
    }
    if (field->has_offset != RPC_NO_OFFSET)
        *(bool *)(params + field->has_offset) = true;
    return (field->flags & RPC_FIELD_ABSENT) == 0 || refuse_absent(decoder, place, field, node, is_default);
}

static void defaults(const struct rpc_object *object, char *params) {
    for (uint32_t i = 0; i < object->field_count; i++) {
        const struct rpc_field *field = &object->fields[i];
        if (field->offset == RPC_NO_OFFSET)
            continue;
        char *to = params + field->offset;
        switch ((enum rpc_kind)field->kind) {
        case RPC_KIND_BOOL: *(bool *)to = field->default_number != 0; break;
        case RPC_KIND_U8: memcpy(to, &field->default_number, 1); break;
        case RPC_KIND_U16: memcpy(to, &field->default_number, 2); break;
        case RPC_KIND_U32:
        case RPC_KIND_I32:
        case RPC_KIND_ENUM: memcpy(to, &field->default_number, 4); break;
        case RPC_KIND_U64: memcpy(to, &field->default_number, 8); break;
        case RPC_KIND_STRING: *(const char **)(void *)to = field->default_text; break;
        case RPC_KIND_OBJECT: defaults(field->object, to); break;
        default: break; /* zero: nil, empty */
        }
    }
}

static bool field_has_name(const struct rpc_field *field, const struct json_document *document, const struct json_node *key) {
    if (json_node_is_text(document, key, field->name))
        return true;
    for (const char *const *alias = field->aliases; alias != NULL && *alias != NULL; alias++)
        if (json_node_is_text(document, key, *alias))
            return true;
    return false;
}

static bool unknown_member(const struct decoder *decoder, const struct place *place, const struct json_node *value,
                           const struct rpc_object *object) {
    struct text expected;
    text_init(&expected, 4096);
    for (uint32_t i = 0; i < object->field_count; i++)
        text_appendf(&expected, "%s%s", i == 0 ? "only these members: " : ", ", object->fields[i].name);
    wrong(decoder, place, value, expected.bytes != NULL ? expected.bytes : "");
    if (decoder->error != NULL)
        snprintf(decoder->error->text, sizeof(decoder->error->text), "there is no parameter %s", decoder->error->field);
    text_fini(&expected);
    return false;
}

static bool decode_object(const struct decoder *decoder, const struct place *place, const struct json_node *node,
                          const struct rpc_object *object, char *params) {
    uint64_t given = 0;
    static_assert(RPC_FIELDS_MAX <= 64, "one bit each");
    if (node != NULL && node->kind != JSON_KIND_OBJECT)
        return wrong(decoder, place, node, "an object");
    defaults(object, params);
    for (const struct json_node *key = node == NULL ? NULL : json_node_child(decoder->document, node), *value; key != NULL;
         key = json_node_after(decoder->document, node, value)) {
        value = json_node_after(decoder->document, node, key);
        struct place inner = {.parent = place, .name = json_node_text(decoder->document, key)};
        uint32_t i = 0;
        while (i < object->field_count && !field_has_name(&object->fields[i], decoder->document, key))
            i++;
        if (i == object->field_count) {
            if (decoder->relaxed)
                continue;
            return unknown_member(decoder, &inner, value, object);
        }
        if ((given & UINT64_C(1) << i) != 0)
            return wrong_text(decoder, &inner, "given twice", "it once");
        given |= UINT64_C(1) << i;
        if (!decode_field(decoder, &inner, &object->fields[i], value, params))
            return false;
    }
    for (uint32_t i = 0; i < object->field_count; i++)
        if ((object->fields[i].flags & RPC_FIELD_REQUIRED) != 0 && (given & UINT64_C(1) << i) == 0) {
            struct place inner = {.parent = place, .name = object->fields[i].name};
            return wrong_text(decoder, &inner, "absent", "it: the parameter is required");
        }
    return true;
}

bool rpc_decode(const struct json_document *document, const struct json_node *node, const struct rpc_object *object, bool relaxed,
                struct rpc_arena *arena, void *params, struct error *error) {
    struct decoder decoder = {.document = document, .arena = arena, .error = error, .relaxed = relaxed};
    struct place top = {.name = "params", .top = true};
    return decode_object(&decoder, &top, node, object, params);
}
