/* The file: opening, schema, and what SQLite's errors mean. */
#include <stdio.h>

#include "control/store/sqlite/internal.h"

#define APPLICATION_ID 0x50537374 /* "PSst" */
#define SCHEMA 1
#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

/* The log holds what each key was from a revision on, until that is compacted; entries are the newest of it. */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL);"
    "INSERT INTO state VALUES (1, 1, 0);"
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL,"
    " modify_revision INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX entries_by_lease ON entries (lease) WHERE lease != 0;"
    "CREATE TABLE log (revision INTEGER NOT NULL, sequence INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,"
    " create_revision INTEGER NOT NULL, lease INTEGER NOT NULL, deleted INTEGER NOT NULL,"
    " PRIMARY KEY (revision, sequence)) WITHOUT ROWID;"
    "CREATE INDEX log_by_key ON log (key, revision);"
    "CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_s INTEGER NOT NULL);"
    "PRAGMA application_id = " TEXT(APPLICATION_ID) ";"
                                                    "PRAGMA user_version = " TEXT(SCHEMA) ";"
                                                                                          "COMMIT;";

static const char *const sources[S_COUNT] = {
    [S_BEGIN] = "BEGIN IMMEDIATE",
    [S_COMMIT] = "COMMIT",
    [S_ROLLBACK] = "ROLLBACK",
    [S_STATE] = "SELECT revision, compacted FROM state WHERE id = 1",
    [S_SET_STATE] = "UPDATE state SET revision = ?1, compacted = ?2 WHERE id = 1",
    [S_GET] = "SELECT key, value, create_revision, modify_revision, lease FROM entries WHERE key = ?1",
    [S_RANGE] = "SELECT key, value, create_revision, modify_revision, lease FROM entries"
                " WHERE key >= ?1 AND key < ?2 AND key > ?3 ORDER BY key LIMIT ?4",
    [S_RANGE_PAST] = "SELECT key, value, create_revision, revision, lease FROM log AS this"
                     " WHERE key >= ?1 AND key < ?2 AND key > ?3 AND NOT deleted"
                     " AND revision = (SELECT max(revision) FROM log WHERE key = this.key AND revision <= ?5)"
                     " ORDER BY key LIMIT ?4",
    [S_KEYS] = "SELECT key FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key",
    [S_KEYS_OF_LEASE] = "SELECT key FROM entries WHERE lease = ?1 AND lease != 0 ORDER BY key",
    [S_PUT] = "INSERT INTO entries VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
              " modify_revision = excluded.modify_revision, lease = excluded.lease RETURNING create_revision",
    [S_DELETE] = "DELETE FROM entries WHERE key = ?1",
    [S_LOG] = "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [S_PAST] = "SELECT key, value, create_revision, revision, lease, deleted FROM log"
               " WHERE revision >= ?1 AND key >= ?2 AND key < ?3 ORDER BY revision, sequence",
    [S_COMPACT] = "DELETE FROM log WHERE revision <= ?1 AND (deleted OR EXISTS (SELECT 1 FROM log AS newer"
                  " WHERE newer.key = log.key AND newer.revision > log.revision AND newer.revision <= ?1))",
    [S_LEASE_FIND] = "SELECT 1 FROM leases WHERE id = ?1",
    [S_LEASE_ADD] = "INSERT INTO leases VALUES (?1, ?2)",
    [S_LEASE_DROP] = "DELETE FROM leases WHERE id = ?1",
    [S_LEASES] = "SELECT id, ttl_s FROM leases",
};

/* ---- errors ---- */

static enum error_code code_of(int code) {
    switch (code & 0xff) {
    case SQLITE_FULL: return ERROR_NO_SPACE;
    case SQLITE_READONLY: return ERROR_READ_ONLY;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN: return ERROR_PERMISSION;
    case SQLITE_CORRUPT: return ERROR_DAMAGED;
    case SQLITE_NOTADB: return ERROR_FOREIGN;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERROR_BUSY;
    case SQLITE_NOMEM: return ERROR_NO_MEMORY;
    case SQLITE_IOERR: return code == SQLITE_IOERR_NOMEM ? ERROR_NO_MEMORY : ERROR_IO;
    default: return ERROR_INTERNAL;
    }
}

bool database_error(struct database *database, int code, struct error *error) {
    enum error_code meaning = code_of(code);
    error_set(error, meaning, "state file %.120s: %s", database->path,
              database->handle != NULL ? sqlite3_errmsg(database->handle) : sqlite3_errstr(code));
    if (meaning == ERROR_DAMAGED)
        error_hint(error, "stop the daemon, keep the file, and put a copy in its place");
    return false;
}

bool database_is_fatal(const struct error *error) { return error->code != ERROR_NO_SPACE && error->code != ERROR_NO_MEMORY; }

bool database_run(struct database *database, enum statement statement, struct error *error) {
    sqlite3_stmt *s = database->statements[statement];
    int code = sqlite3_step(s);
    bool ok = code == SQLITE_DONE || code == SQLITE_ROW || database_error(database, code, error);
    sqlite3_reset(s);
    return ok;
}

/* ---- opening ---- */

static bool execute(struct database *database, const char *text, struct error *error) {
    int code = sqlite3_exec(database->handle, text, NULL, NULL, NULL);
    return code == SQLITE_OK || database_error(database, code, error);
}

/* One number that a statement gives. */
static bool ask(struct database *database, const char *text, int64_t *ret_number, struct error *error) {
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(database->handle, text, -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    bool ok = code == SQLITE_ROW || database_error(database, code, error);
    if (ok)
        *ret_number = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return ok;
}

/* Is it sound from end to end? The file is small: this takes milliseconds. */
static bool check_sound(struct database *database, struct error *error) {
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(database->handle, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    bool ok = code == SQLITE_ROW || database_error(database, code, error);
    if (ok && strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0) {
        ok = error_set(error, ERROR_DAMAGED, "state file %.80s is damaged: %.120s", database->path,
                       (const char *)sqlite3_column_text(s, 0));
        error_hint(error, "stop the daemon, keep the file, and put a copy in its place");
    }
    sqlite3_finalize(s);
    return ok;
}

/* Is it ours, or blank? */
static bool check_schema(struct database *database, bool *ret_blank, struct error *error) {
    int64_t tables, id, version;
    if (!ask(database, "SELECT count(*) FROM sqlite_schema", &tables, error) ||
        !ask(database, "PRAGMA application_id", &id, error) || !ask(database, "PRAGMA user_version", &version, error))
        return false;
    *ret_blank = tables == 0 && id == 0 && version == 0;
    if (*ret_blank)
        return true;
    if (id != APPLICATION_ID)
        return error_set(error, ERROR_FOREIGN, "state file %.150s is a database of another program", database->path);
    if (version != SCHEMA) {
        error_set(error, ERROR_UNSUPPORTED, "state file %.120s has schema %lld, this penstock knows %d", database->path,
                  (long long)version, SCHEMA);
        return error_hint(error, "start the newer penstock that wrote it");
    }
    return check_sound(database, error);
}

bool database_read_state(struct database *database, struct error *error) {
    sqlite3_stmt *s = database->statements[S_STATE];
    int code = sqlite3_step(s);
    bool ok = code == SQLITE_ROW;
    if (ok) {
        database->revision = sqlite3_column_int64(s, 0);
        database->compacted = sqlite3_column_int64(s, 1);
        if (database->revision < 1 || database->compacted < 0 || database->compacted > database->revision)
            ok = error_set(error, ERROR_DAMAGED, "state file %.120s: revision %lld, compacted %lld", database->path,
                           (long long)database->revision, (long long)database->compacted);
    } else if (code == SQLITE_DONE) {
        error_set(error, ERROR_DAMAGED, "state file %.150s has lost its revision", database->path);
    } else {
        database_error(database, code, error);
    }
    sqlite3_reset(s);
    return ok;
}

static bool read_leases(struct database *database, struct arena *arena, struct known_lease **ret_leases, uint32_t *ret_count,
                        struct error *error) {
    sqlite3_stmt *s = database->statements[S_LEASES];
    struct known_lease *leases = NULL;
    uint32_t count = 0;
    int code;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        struct known_lease *more = arena_grow(arena, leases, count, sizeof(*leases));
        if (more == NULL) {
            code = SQLITE_NOMEM;
            break;
        }
        leases = more;
        int64_t ttl_s = sqlite3_column_int64(s, 1);
        ttl_s = ttl_s < STORE_TTL_MIN_S ? STORE_TTL_MIN_S : ttl_s > STORE_TTL_MAX_S ? STORE_TTL_MAX_S : ttl_s;
        leases[count++] = (struct known_lease){.id = sqlite3_column_int64(s, 0), .ttl_s = (uint32_t)ttl_s};
    }
    sqlite3_reset(s);
    *ret_leases = leases;
    *ret_count = count;
    return code == SQLITE_DONE || database_error(database, code, error);
}

static bool open_further(struct database *database, struct error *error) {
    bool blank;
    int64_t mode;
    sqlite3_extended_result_codes(database->handle, 1);
    sqlite3_busy_timeout(database->handle, 1000);
    sqlite3_db_config(database->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    /* Exclusive before the first read: then there is no shared-memory file, and nobody else gets in. */
    if (!execute(database, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;", error) ||
        !check_schema(database, &blank, error) ||
        !execute(database, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;", error) ||
        !ask(database, "PRAGMA synchronous", &mode, error))
        return false;
    if (mode != 2)
        return error_set(error, ERROR_INTERNAL, "state file %.150s: SQLite does not flush", database->path);
    if (blank && !execute(database, schema, error))
        return false;
    for (unsigned i = 0; i < S_COUNT; i++) {
        int code =
            sqlite3_prepare_v3(database->handle, sources[i], -1, SQLITE_PREPARE_PERSISTENT, &database->statements[i], NULL);
        if (code != SQLITE_OK)
            return database_error(database, code, error);
    }
    return database_read_state(database, error);
}

bool database_open(struct database *database, struct arena *arena, struct known_lease **ret_leases, uint32_t *ret_count,
                   struct error *error) {
    int code = sqlite3_open_v2(database->path, &database->handle,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, database->vfs);
    bool ok = code == SQLITE_OK ? open_further(database, error) && read_leases(database, arena, ret_leases, ret_count, error)
                                : database_error(database, code, error);
    if (!ok)
        database_close(database);
    return ok;
}

void database_close(struct database *database) {
    for (unsigned i = 0; i < S_COUNT; i++) {
        sqlite3_finalize(database->statements[i]);
        database->statements[i] = NULL;
    }
    sqlite3_close(database->handle);
    database->handle = NULL;
}
