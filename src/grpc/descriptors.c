#include "grpc/descriptors.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 512

/* Field numbers of descriptor.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_DEPENDENCY = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    ANY_NAME = 1,
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    MESSAGE_ONEOF = 8,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2,
};

struct symbol {
    struct hash_node node;
    size_t file;
    char name[];
};

struct reader {
    const uint8_t *at, *end;
};

static uint64_t take_varint(struct reader *reader) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            break;
    }
    return value;
}

/* The next length-delimited field; others are passed over. False: the end. */
static bool next_field(struct reader *reader, unsigned *ret_number, struct reader *ret_value) {
    while (reader->at < reader->end) {
        uint64_t tag = take_varint(reader);
        uint64_t length = 0;
        switch (tag & 7) {
        case 0: (void)take_varint(reader); continue;
        case 1: length = 8; break;
        case 5: length = 4; break;
        case 2: length = take_varint(reader); break;
        default: return false;
        }
        if (length > (size_t)(reader->end - reader->at))
            return false;
        *ret_number = (unsigned)(tag >> 3);
        *ret_value = (struct reader){reader->at, reader->at + length};
        reader->at += length;
        if ((tag & 7) == 2)
            return true;
    }
    return false;
}

/* The first field of that number, empty if there is none. */
static struct reader field_of(struct reader reader, unsigned wanted) {
    unsigned number;
    struct reader value;
    while (next_field(&reader, &number, &value))
        if (number == wanted)
            return value;
    return (struct reader){reader.end, reader.end};
}

static bool add_symbol(struct descriptors *descriptors, size_t file, const char *name) {
    size_t size = strlen(name) + 1;
    struct symbol *symbol = malloc(sizeof(*symbol) + size);
    if (symbol == NULL)
        return false;
    symbol->file = file;
    memcpy(symbol->name, name, size);
    if (hash_map_insert(&descriptors->symbols, &symbol->node, hash_text(name)))
        return true;
    free(symbol);
    return false;
}

/* Which fields of a kind of descriptor are named things themselves, and of what kind. */
enum kind { KIND_LEAF, KIND_FILE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_NONE };

static enum kind kind_of(enum kind parent, unsigned number) {
    switch (parent) {
    case KIND_FILE:
        return number == FILE_MESSAGE   ? KIND_MESSAGE
               : number == FILE_ENUM    ? KIND_ENUM
               : number == FILE_SERVICE ? KIND_SERVICE
                                        : KIND_NONE;
    case KIND_MESSAGE:
        return number == MESSAGE_NESTED                             ? KIND_MESSAGE
               : number == MESSAGE_ENUM                             ? KIND_ENUM
               : number == MESSAGE_FIELD || number == MESSAGE_ONEOF ? KIND_LEAF
                                                                    : KIND_NONE;
    case KIND_ENUM: return number == ENUM_VALUE ? KIND_LEAF : KIND_NONE;
    case KIND_SERVICE: return number == SERVICE_METHOD ? KIND_LEAF : KIND_NONE;
    default: return KIND_NONE;
    }
}

/* Adds what a descriptor defines under `prefix`. As deep as our own files nest messages. */
static bool add_symbols(struct descriptors *descriptors, size_t file, struct reader reader, enum kind kind, const char *prefix) {
    unsigned number;
    struct reader value;
    while (next_field(&reader, &number, &value)) {
        enum kind child = kind_of(kind, number);
        if (child == KIND_NONE)
            continue;
        struct reader name = field_of(value, ANY_NAME);
        char full[NAME_MAX_BYTES];
        snprintf(full, sizeof(full), "%s%s%.*s", prefix, prefix[0] != '\0' ? "." : "", (int)(name.end - name.at),
                 (const char *)name.at);
        if (!add_symbol(descriptors, file, full) || !add_symbols(descriptors, file, value, child, full))
            return false;
    }
    return true;
}

void descriptors_init(struct descriptors *descriptors) {
    *descriptors = (struct descriptors){0};
    hash_map_init(&descriptors->symbols);
}

void descriptors_fini(struct descriptors *descriptors) {
    for (size_t i = 0; i < descriptors->symbols.bucket_count; i++)
        while (descriptors->symbols.buckets[i] != NULL) {
            struct symbol *symbol = container_of(descriptors->symbols.buckets[i], struct symbol, node);
            hash_map_remove(&descriptors->symbols, &symbol->node);
            free(symbol);
        }
    hash_map_fini(&descriptors->symbols);
    free(descriptors->files);
    descriptors_init(descriptors);
}

static bool add_file(struct descriptors *descriptors, struct reader file) {
    struct reader name = field_of(file, FILE_NAME), package = field_of(file, FILE_PACKAGE);
    size_t name_length = (size_t)(name.end - name.at), index = descriptors->file_count;
    if (descriptors_file(descriptors, (const char *)name.at, name_length) != NULL)
        return true;
    struct descriptor_file *files = realloc(descriptors->files, (index + 1) * sizeof(*files));
    if (files == NULL)
        return false;
    descriptors->files = files;
    files[index] = (struct descriptor_file){file.at, (size_t)(file.end - file.at), (const char *)name.at, name_length};
    descriptors->file_count++;
    char prefix[NAME_MAX_BYTES];
    snprintf(prefix, sizeof(prefix), "%.*s", (int)(package.end - package.at), (const char *)package.at);
    return add_symbols(descriptors, index, file, KIND_FILE, prefix);
}

bool descriptors_add(struct descriptors *descriptors, const uint8_t *set, size_t length) {
    struct reader reader = {set, set + length}, value;
    unsigned number;
    while (next_field(&reader, &number, &value))
        if (number == SET_FILE && !add_file(descriptors, value))
            return false;
    return true;
}

const struct descriptor_file *descriptors_file(const struct descriptors *descriptors, const char *name, size_t length) {
    for (size_t i = 0; i < descriptors->file_count; i++) {
        const struct descriptor_file *file = &descriptors->files[i];
        if (file->name_length == length && memcmp(file->name, name, length) == 0)
            return file;
    }
    return NULL;
}

const struct descriptor_file *descriptors_symbol(const struct descriptors *descriptors, const char *name) {
    for (struct hash_node *n = hash_map_first(&descriptors->symbols, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        const struct symbol *symbol = container_of(n, struct symbol, node);
        if (strcmp(symbol->name, name) == 0)
            return &descriptors->files[symbol->file];
    }
    return NULL;
}

bool descriptors_import(const struct descriptor_file *file, size_t index, const char **ret_name, size_t *ret_length) {
    struct reader reader = {file->bytes, file->bytes + file->length}, value;
    unsigned number;
    while (next_field(&reader, &number, &value)) {
        if (number != FILE_DEPENDENCY || index-- > 0)
            continue;
        *ret_name = (const char *)value.at;
        *ret_length = (size_t)(value.end - value.at);
        return true;
    }
    return false;
}
