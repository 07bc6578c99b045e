#include "control/records.h"

#include <stdio.h>
#include <stdlib.h>

static bool write_json(json_t *take_json, struct text *to) {
    char *printed = take_json == NULL ? NULL : json_dumps(take_json, JSON_COMPACT);
    if (printed != NULL)
        text_append_string(to, printed);
    free(printed);
    json_decref(take_json);
    return printed != NULL && !to->failed;
}

bool records_write_disk(const struct control_disk_record *record, struct text *to) {
    return write_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "name", record->name, "path", record->path, "driver",
                                record->driver, "uuid", record->uuid, "block_bytes", (json_int_t)record->block_bytes, "failure",
                                record->failure),
                      to);
}

bool records_write_replica(const struct control_replica_record *record, struct text *to) {
    return write_json(json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:b, s:b, s:b, s:s}", "name", record->name, "disk", record->disk,
                                "store", record->store, "bytes", (json_int_t)record->bytes, "port", (int)record->port, "ports",
                                (int)record->port_count, "made", record->made, "exported", record->exported, "deleting",
                                record->deleting, "failure", record->failure),
                      to);
}

static bool read_text(const json_t *json, const char *key, char *to, size_t size, struct error *error) {
    const char *value = json_string_value(json_object_get(json, key));
    if (value == NULL || strlen(value) >= size)
        return error_set(error, ERROR_DAMAGED, "\"%s\" is not a text of at most %zu bytes", key, size - 1);
    memcpy(to, value, strlen(value) + 1);
    return true;
}

static bool read_number(const json_t *json, const char *key, uint64_t max, uint64_t *ret, struct error *error) {
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
        return error_set(error, ERROR_DAMAGED, "\"%s\" is no number in its range", key);
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static json_t *parse(const char *value, size_t length, struct error *error) {
    json_t *json = json_loadb(value, length, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json))
        return json;
    json_decref(json);
    error_set(error, ERROR_DAMAGED, "it is no JSON object");
    return NULL;
}

bool records_read_disk(const char *value, size_t length, struct control_disk_record *ret_record, struct error *error) {
    json_t *json = parse(value, length, error);
    struct control_disk_record record = {0};
    uint64_t block_bytes = 0;
    bool ok = json != NULL && read_text(json, "name", record.name, sizeof(record.name), error) &&
              read_text(json, "path", record.path, sizeof(record.path), error) &&
              read_text(json, "driver", record.driver, sizeof(record.driver), error) &&
              read_text(json, "uuid", record.uuid, sizeof(record.uuid), error) &&
              read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              read_number(json, "block_bytes", KIB(64), &block_bytes, error);
    record.block_bytes = (uint32_t)block_bytes;
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}

bool records_read_replica(const char *value, size_t length, struct control_replica_record *ret_record, struct error *error) {
    json_t *json = parse(value, length, error);
    struct control_replica_record record = {0};
    uint64_t port = 0, ports = 0;
    bool ok = json != NULL && read_text(json, "name", record.name, sizeof(record.name), error) &&
              read_text(json, "disk", record.disk, sizeof(record.disk), error) &&
              read_text(json, "store", record.store, sizeof(record.store), error) &&
              read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              read_number(json, "bytes", INT64_MAX, &record.bytes, error) &&
              read_number(json, "port", CONTROL_PORT_LAST, &port, error) &&
              read_number(json, "ports", CONTROL_PORTS_MAX, &ports, error);
    if (ok && (port == 0) != (ports == 0))
        ok = error_set(error, ERROR_DAMAGED, "it has ports without a number of them");
    if (ok && port != 0 && (port < CONTROL_PORT_FIRST || port + ports - 1 > CONTROL_PORT_LAST))
        ok = error_set(error, ERROR_DAMAGED, "its ports are out of range");
    record.port = (uint16_t)port;
    record.port_count = (uint16_t)ports;
    record.made = json_is_true(json_object_get(json, "made"));
    record.exported = json_is_true(json_object_get(json, "exported"));
    record.deleting = json_is_true(json_object_get(json, "deleting"));
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}
