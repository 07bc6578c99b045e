/* Both sides of the SQLite store. A database and a batch are the thread's while a job runs and the loop's otherwise; there is one
 * job at a time. */
#pragma once

#include <sqlite3.h>

#include "control/store/arena.h"
#include "control/store/backend.h"

/* ---- database.c, batch.c: the thread's side ---- */

enum statement {
    S_BEGIN,
    S_COMMIT,
    S_ROLLBACK,
    S_STATE,
    S_SET_STATE,
    S_GET,
    S_RANGE,
    S_RANGE_PAST,
    S_KEYS,
    S_KEYS_OF_LEASE,
    S_PUT,
    S_DELETE,
    S_LOG,
    S_PAST,
    S_COMPACT,
    S_LEASE_FIND,
    S_LEASE_ADD,
    S_LEASE_DROP,
    S_LEASES,
    S_COUNT
};

struct database {
    const char *path, *vfs;
    sqlite3 *handle; /* NULL: not open */
    sqlite3_stmt *statements[S_COUNT];
    int64_t revision, compacted; /* with what the transaction under way has done to them */
    int64_t sequence;            /* of the log's next row in this revision */
};

/* What a watch is to be told of the past. */
struct feed {
    struct list_node node;     /* of the store's feeds, or of those being told */
    struct list_node sent;     /* of the batch's */
    struct store_watch *watch; /* NULL: stopped meanwhile */
    bool live;                 /* is told of each commit; else the past is to be read */
    bool in_batch;
    /* the batch's: question … */
    char low[STORE_KEY_MAX + 2], high[STORE_KEY_MAX + 2];
    int64_t from_revision;
    /* … and answer */
    struct error error;
    int64_t compacted; /* > 0: nothing is told, this is why */
    bool complete;     /* there was no more */
    struct store_event *events;
    uint32_t count;
    int64_t last_revision;
};

struct known_lease {
    int64_t id;
    uint32_t ttl_s;
};

struct batch {
    struct arena arena;
    struct list requests, feeds;
    struct store_event *events; /* of all that was committed */
    uint32_t event_count;
    int64_t revision;   /* after it */
    struct error fatal; /* the store has failed */
};

/* Opens or makes the file. False: error. `leases` come from the arena. */
bool database_open(struct database *database, struct arena *arena, struct known_lease **ret_leases, uint32_t *ret_count,
                   struct error *error);
void database_close(struct database *database);
/* Error of the last call, which gave `code`; returns false. */
bool database_error(struct database *database, int code, struct error *error);
/* Is the store of no use after this? */
bool database_is_fatal(const struct error *error);
/* Steps a statement that gives no row, and resets it. */
bool database_run(struct database *database, enum statement statement, struct error *error);
/* Reads the row of revisions. */
bool database_read_state(struct database *database, struct error *error);

/* Serves all requests and feeds; outcome, results and errors are in them afterwards. */
void batch_run(struct batch *batch, struct database *database);
/* The keys that a prefix (or one key) covers: low <= key < high. */
void key_bounds(const char *key, bool prefix, char *low, char *high);
