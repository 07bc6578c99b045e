/* The records of objects as JSON, and their keys: /penstock/NODE/KIND/NAME. Pure. */
#pragma once

#include "base/text.h"
#include "control/control.h"

/* False: the text is too long for memory. */
bool records_write_disk(const struct control_disk_record *record, struct text *to);
bool records_write_replica(const struct control_replica_record *record, struct text *to);
bool records_write_engine(const struct control_engine_record *record, struct text *to);
bool records_read_engine(const char *value, size_t length, struct control_engine_record *ret_record, struct error *error);
bool records_write_frontend(const struct control_frontend_record *record, struct text *to);
bool records_read_frontend(const char *value, size_t length, struct control_frontend_record *ret_record, struct error *error);
/* "disks": the kind's part of the keys. */
const char *records_folder(enum control_kind kind);
/* `record`: of the kind's type. */
bool records_write(enum control_kind kind, const void *record, struct text *to);
/* False: error says what is wrong; a store that somebody else wrote to is hostile. */
bool records_read_disk(const char *value, size_t length, struct control_disk_record *ret_record, struct error *error);
bool records_read_replica(const char *value, size_t length, struct control_replica_record *ret_record, struct error *error);

/* ---- for records of others ---- */

/* False: no memory, or the text is too long. */
bool records_write_json(json_t *take_json, struct text *to);
/* NULL: it is no JSON object. The result is the caller's. */
json_t *records_parse(const char *value, size_t length, struct error *error);
bool records_read_text(const json_t *json, const char *key, char *to, size_t size, struct error *error);
bool records_read_number(const json_t *json, const char *key, uint64_t max, uint64_t *ret, struct error *error);
