/* What reflection can say, out of compiled descriptor sets (google.protobuf.FileDescriptorSet, as protoc writes them): files by
 * name, and files by the symbols that they define. The sets are ours: they are trusted, and stay in memory. */
#pragma once

#include "base/hash_map.h"

struct descriptor_file {
    const uint8_t *bytes; /* a FileDescriptorProto */
    size_t length;
    const char *name; /* not terminated */
    size_t name_length;
};

struct descriptors {
    struct descriptor_file *files;
    size_t file_count;
    struct hash_map symbols; /* of messages, fields, enumerations, values, services, methods */
};

void descriptors_init(struct descriptors *descriptors);
void descriptors_fini(struct descriptors *descriptors);
/* Adds the files of a set, but for those that are there. False: no memory. */
bool descriptors_add(struct descriptors *descriptors, const uint8_t *set, size_t length);
/* NULL if there is none. */
const struct descriptor_file *descriptors_file(const struct descriptors *descriptors, const char *name, size_t length);
/* The file that defines "package.Message", "package.Service.Method", … NULL if none does. */
const struct descriptor_file *descriptors_symbol(const struct descriptors *descriptors, const char *name);
/* The index-th file that `file` imports, by name; false: there are no more. */
bool descriptors_import(const struct descriptor_file *file, size_t index, const char **ret_name, size_t *ret_length);
