/* The state store in a file, by SQLite: durable when `done` says so. Must not know: the other implementations.
 *
 * Calling context: one reactor; what blocks runs in a helper thread of the host. */
#pragma once

#include "control/store/store.h"

struct store_sqlite_options {
    struct store_options store;
    const char *path;         /* made if it is absent (its folder is not); copied */
    const char *vfs;          /* SQLite's file layer, by name: tests put faults there; NULL = the usual; copied */
    uint64_t hold_timeout_ms; /* how long to wait for who holds the file; 0 = 2000 */
};

/* NULL: no memory. OPENING until the file is open; FAILED says why it cannot be. */
struct store *store_sqlite_create(const struct store_sqlite_options *options);
