/* A compiled wiring, divided among the processes that the packet plane consists of: {"0": {..}, "1": {..}}, each in compile.h's
 * form; 0 is the primary, the others are vfs by their id. docs/packet-processes.md. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* A new value. Rings are in each process that has them; a machine's port is in the one that uses it; any other device is the
 * primary's, and what another process attaches in its place is a ring, which a forward of the primary's fills or empties.
 * NULL: error, a machine's port or a core is used by two processes. */
json_t *packet_split(const json_t *compiled, struct error *error);
/* The same for a plane of one process. */
json_t *packet_split_none(json_t *take_compiled);
