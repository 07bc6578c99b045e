/* Messages as JSON and back, by their descriptors alone. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/node/node.h"

/* A map is a list of messages with a key and a value, whose name protoc has made. */
static bool is_map(const ProtobufCFieldDescriptor *field) {
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t length = strlen(entry->name);
    return entry->n_fields == 2 && length > 5 && strcmp(entry->name + length - 5, "Entry") == 0 &&
           strcmp(entry->fields[0].name, "key") == 0 && strcmp(entry->fields[1].name, "value") == 0;
}

static size_t element_size(const ProtobufCFieldDescriptor *field) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    default: return 4;
    }
}

/* ---- to JSON ---- */

static json_t *from_u64(uint64_t value) {
    char text[24];
    if (value <= INT64_MAX)
        return json_integer((json_int_t)value);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return json_string(text);
}

static json_t *from_bytes(const ProtobufCBinaryData *bytes) {
    struct text text;
    text_init(&text, 2 * bytes->len + 1);
    for (size_t i = 0; i < bytes->len; i++)
        text_appendf(&text, "%02x", bytes->data[i]);
    json_t *value = json_string(text.bytes != NULL ? text.bytes : "");
    text_fini(&text);
    return value;
}

static json_t *one_to_json(const ProtobufCFieldDescriptor *field, const void *at) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return from_u64(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT: return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE: return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL: return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_STRING: return json_string(*(char *const *)at != NULL ? *(char *const *)at : "");
    case PROTOBUF_C_TYPE_BYTES: return from_bytes(at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(ProtobufCMessage *const *)at == NULL ? json_null() : cli_message_to_json(*(ProtobufCMessage *const *)at);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)at);
        return value != NULL ? json_string(value->name) : json_integer(*(const int *)at);
    }
    }
    return json_null();
}

static json_t *map_to_json(const ProtobufCFieldDescriptor *field, ProtobufCMessage *const *entries, size_t count) {
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        const char *base = (const char *)entries[i];
        json_t *key = one_to_json(&entry->fields[0], base + entry->fields[0].offset);
        char *text = json_is_string(key) ? strdup(json_string_value(key)) : json_dumps(key, JSON_ENCODE_ANY);
        if (text != NULL)
            json_object_set_new(object, text, one_to_json(&entry->fields[1], base + entry->fields[1].offset));
        free(text);
        json_decref(key);
    }
    return object;
}

json_t *cli_message_to_json(const ProtobufCMessage *message) {
    json_t *object = json_object();
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *at = (const char *)message + field->offset;
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            json_object_set_new(object, field->name, one_to_json(field, at));
            continue;
        }
        size_t count = *(const size_t *)(const void *)((const char *)message + field->quantifier_offset);
        const char *elements = *(char *const *)(const void *)at;
        if (is_map(field)) {
            json_object_set_new(object, field->name,
                                map_to_json(field, (ProtobufCMessage *const *)(const void *)elements, count));
            continue;
        }
        json_t *array = json_array();
        for (size_t e = 0; e < count; e++)
            json_array_append_new(array, one_to_json(field, elements + e * element_size(field)));
        json_object_set_new(object, field->name, array);
    }
    return object;
}

/* ---- from JSON ---- */

static void *take(struct cli_message_memory *memory, size_t size) {
    if (memory->count == memory->capacity) {
        memory->capacity = memory->capacity == 0 ? 16 : memory->capacity * 2;
        memory->blocks = realloc(memory->blocks, memory->capacity * sizeof(*memory->blocks));
    }
    void *block = memory->blocks == NULL ? NULL : calloc(1, size + (size == 0));
    if (block == NULL)
        abort(); /* a command line without memory */
    return memory->blocks[memory->count++] = block;
}

void cli_message_free(struct cli_message_memory *memory) {
    for (size_t i = 0; i < memory->count; i++)
        free(memory->blocks[i]);
    free(memory->blocks);
    *memory = (struct cli_message_memory){0};
}

static bool refuse(const ProtobufCFieldDescriptor *field, const json_t *value, const char *expected, struct error *error) {
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    error_invalid(error, field->name, text != NULL ? text : "", "%s", expected);
    free(text);
    return false;
}

/* A number, or the text of one. */
static bool to_integer(const json_t *value, bool is_signed, uint64_t max, uint64_t *ret) {
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        *ret = (uint64_t)number;
        return number >= 0 ? *ret <= max : is_signed && number >= -(json_int_t)max - 1;
    }
    return json_is_string(value) && text_parse_u64(json_string_value(value), max, ret);
}

static bool to_enum(const ProtobufCFieldDescriptor *field, const json_t *value, int *ret, struct error *error) {
    const ProtobufCEnumDescriptor *descriptor = field->descriptor;
    const ProtobufCEnumValue *found = json_is_string(value)
                                          ? protobuf_c_enum_descriptor_get_value_by_name(descriptor, json_string_value(value))
                                          : protobuf_c_enum_descriptor_get_value(descriptor, (int)json_integer_value(value));
    if (found == NULL || (!json_is_string(value) && !json_is_integer(value)))
        return refuse(field, value, descriptor->n_values > 0 ? descriptor->values[0].name : "one of its values", error);
    *ret = found->value;
    return true;
}

static bool one_from_json(const ProtobufCFieldDescriptor *field, const json_t *value, void *at, struct cli_message_memory *memory,
                          struct error *error) {
    uint64_t number;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!to_integer(value, true, INT32_MAX, &number))
            return refuse(field, value, "a number of 32 bits", error);
        *(int32_t *)at = (int32_t)number;
        return true;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        if (!to_integer(value, true, INT64_MAX, &number))
            return refuse(field, value, "a number of 64 bits", error);
        *(int64_t *)at = (int64_t)number;
        return true;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!to_integer(value, false, UINT32_MAX, &number))
            return refuse(field, value, "a number from 0 to 4294967295", error);
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        if (!to_integer(value, false, UINT64_MAX, &number))
            return refuse(field, value, "a number from 0", error);
        *(uint64_t *)at = number;
        return true;
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(value))
            return refuse(field, value, "true or false", error);
        *(protobuf_c_boolean *)at = json_is_true(value);
        return true;
    case PROTOBUF_C_TYPE_STRING:
        if (json_is_string(value)) {
            *(const char **)at = json_string_value(value);
            return true;
        }
        if (!json_is_integer(value))
            return refuse(field, value, "a text", error);
        *(char **)at = take(memory, 24); /* "10" was meant: it looked like a number */
        snprintf(*(char **)at, 24, "%lld", (long long)json_integer_value(value));
        return true;
    case PROTOBUF_C_TYPE_MESSAGE: return cli_message_from_json(field->descriptor, value, memory, at, error);
    case PROTOBUF_C_TYPE_ENUM: return to_enum(field, value, at, error);
    default: return refuse(field, value, "a field that can be given here (it is of bytes or a floating-point number)", error);
    }
}

static bool map_from_json(const ProtobufCFieldDescriptor *field, const json_t *object, ProtobufCMessage **entries,
                          struct cli_message_memory *memory, struct error *error) {
    const ProtobufCMessageDescriptor *descriptor = field->descriptor;
    const char *key;
    json_t *value;
    size_t i = 0;
    json_object_foreach((json_t *)object, key, value) {
        ProtobufCMessage *entry = take(memory, descriptor->sizeof_message);
        descriptor->message_init(entry);
        json_t *name = json_string(key);
        char *base = (char *)entry, *kept = take(memory, strlen(key) + 1);
        memcpy(kept, key, strlen(key));
        bool ok = one_from_json(&descriptor->fields[0], name, base + descriptor->fields[0].offset, memory, error) &&
                  one_from_json(&descriptor->fields[1], value, base + descriptor->fields[1].offset, memory, error);
        if (descriptor->fields[0].type == PROTOBUF_C_TYPE_STRING)
            *(char **)(void *)(base + descriptor->fields[0].offset) = kept; /* the name goes now */
        json_decref(name);
        if (!ok)
            return false;
        entries[i++] = entry;
    }
    return true;
}

static bool repeated_from_json(const ProtobufCFieldDescriptor *field, const json_t *value, ProtobufCMessage *message,
                               struct cli_message_memory *memory, struct error *error) {
    bool map = is_map(field);
    if (map ? !json_is_object(value) : !json_is_array(value))
        return refuse(field, value, map ? "an object" : "a list", error);
    size_t count = map ? json_object_size(value) : json_array_size(value);
    char *elements = take(memory, count * element_size(field));
    if (map) {
        if (!map_from_json(field, value, (ProtobufCMessage **)(void *)elements, memory, error))
            return false;
    } else {
        for (size_t i = 0; i < count; i++)
            if (!one_from_json(field, json_array_get(value, i), elements + i * element_size(field), memory, error))
                return false;
    }
    *(char **)(void *)((char *)message + field->offset) = elements;
    *(size_t *)(void *)((char *)message + field->quantifier_offset) = count;
    return true;
}

bool cli_message_from_json(const ProtobufCMessageDescriptor *descriptor, const json_t *object, struct cli_message_memory *memory,
                           ProtobufCMessage **ret_message, struct error *error) {
    ProtobufCMessage *message = take(memory, descriptor->sizeof_message);
    const char *key;
    json_t *value;
    descriptor->message_init(message);
    if (object != NULL && !json_is_object(object))
        return error_set(error, ERROR_INVALID, "%s is an object", descriptor->short_name);
    json_object_foreach((json_t *)object, key, value) {
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(descriptor, key);
        if (field == NULL)
            return error_set(error, ERROR_INVALID, "%s has no field %s", descriptor->short_name, key);
        bool ok = field->label == PROTOBUF_C_LABEL_REPEATED
                      ? repeated_from_json(field, value, message, memory, error)
                      : one_from_json(field, value, (char *)message + field->offset, memory, error);
        if (!ok)
            return false;
    }
    *ret_message = message;
    return true;
}
