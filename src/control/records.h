/* The records of disks and replicas as JSON, and their keys: /penstock/NODE/disks/NAME, /penstock/NODE/replicas/NAME. Pure. */
#pragma once

#include "base/text.h"
#include "control/control.h"

/* False: the text is too long for memory. */
bool records_write_disk(const struct control_disk_record *record, struct text *to);
bool records_write_replica(const struct control_replica_record *record, struct text *to);
/* False: error says what is wrong; a store that somebody else wrote to is hostile. */
bool records_read_disk(const char *value, size_t length, struct control_disk_record *ret_record, struct error *error);
bool records_read_replica(const char *value, size_t length, struct control_replica_record *ret_record, struct error *error);
