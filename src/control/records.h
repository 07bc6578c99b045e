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
