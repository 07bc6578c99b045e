/* Requests, served in a helper thread: all of a batch in one transaction of SQLite's, so that they share its flush; if that
 * fails, each by itself, so that one which is too large for the disk does not stop the others. */
#include "control/store/sqlite/internal.h"

#define FEED_EVENTS 1000 /* told at once, but for the rest of their revision */
#define FEED_BYTES MIB(1)

void key_bounds(const char *key, bool prefix, char *low, char *high) {
    size_t length = strlen(key);
    memcpy(low, key, length + 1);
    memcpy(high, key, length + 1);
    /* Keys consist of ' ' + 1 … '~'. */
    if (prefix && length > 0) {
        high[length - 1]++;
    } else {
        high[length] = prefix ? '\x7f' : '\x01';
        high[length + 1] = '\0';
    }
}

static sqlite3_stmt *statement(struct database *database, enum statement which) { return database->statements[which]; }

static bool no_memory(struct error *error) { return error_set(error, ERROR_NO_MEMORY, "no memory for the state store"); }

static void bind_text(sqlite3_stmt *s, int index, const char *text) { sqlite3_bind_text(s, index, text, -1, SQLITE_STATIC); }

static void bind_value(sqlite3_stmt *s, int index, const void *value, size_t length) {
    /* NULL would be bound as such, and that is no blob. */
    sqlite3_bind_blob(s, index, length > 0 ? value : "", (int)length, SQLITE_STATIC);
}

/* ---- reading ---- */

/* The row's first five columns: key, value, create revision, modify revision, lease. */
static bool read_entry(sqlite3_stmt *s, struct arena *arena, struct store_entry *entry) {
    /* The blob first: its length is that of the pointer's type. */
    const void *value = sqlite3_column_blob(s, 1);
    size_t value_length = (size_t)sqlite3_column_bytes(s, 1);
    const void *key = sqlite3_column_text(s, 0);
    size_t key_length = (size_t)sqlite3_column_bytes(s, 0);
    if (key == NULL || (value == NULL && value_length > 0))
        return false;
    *entry = (struct store_entry){.key = arena_copy(arena, key, key_length),
                                  .value = arena_copy(arena, value, value_length),
                                  .value_length = value_length,
                                  .create_revision = sqlite3_column_int64(s, 2),
                                  .modify_revision = sqlite3_column_int64(s, 3),
                                  .lease = sqlite3_column_int64(s, 4)};
    return entry->key != NULL && entry->value != NULL;
}

/* Rows into `result`, at most `limit` of them. */
static bool read_rows(struct database *database, enum statement which, struct arena *arena, uint32_t limit,
                      struct store_result *result, bool *ret_more, struct error *error) {
    sqlite3_stmt *s = statement(database, which);
    size_t bytes = 0;
    int code;
    bool ok = true;
    while (ok && (code = sqlite3_step(s)) == SQLITE_ROW) {
        bytes += (size_t)sqlite3_column_bytes(s, 0) + (size_t)sqlite3_column_bytes(s, 1);
        *ret_more = result->count == limit || (result->count > 0 && bytes > STORE_RANGE_BYTES);
        if (*ret_more)
            break;
        struct store_entry *entries = arena_grow(arena, result->entries, result->count, sizeof(*entries));
        ok = entries != NULL && read_entry(s, arena, &entries[result->count]);
        if (ok) {
            result->entries = entries;
            result->count++;
        } else {
            no_memory(error);
        }
    }
    if (ok && code != SQLITE_ROW && code != SQLITE_DONE)
        ok = database_error(database, code, error);
    sqlite3_reset(s);
    return ok;
}

static bool get(struct database *database, const char *key, struct arena *arena, struct store_result *result,
                struct error *error) {
    bool more = false;
    bind_text(statement(database, S_GET), 1, key);
    return read_rows(database, S_GET, arena, 1, result, &more, error);
}

static bool range(struct database *database, struct store_request *request, struct arena *arena, struct error *error) {
    char low[STORE_KEY_MAX + 2], high[STORE_KEY_MAX + 2];
    uint32_t limit = request->limit != 0 ? request->limit : STORE_RANGE_MAX;
    int64_t at = request->revision != 0 ? request->revision : database->revision;
    if (at > database->revision)
        return store_set_future(error, at, database->revision);
    if (at < database->compacted)
        return store_set_compacted(error, at, database->compacted);
    struct store_result *result = arena_take(arena, sizeof(*result));
    if (result == NULL)
        return no_memory(error);
    *result = (struct store_result){0};
    enum statement which = at == database->revision ? S_RANGE : S_RANGE_PAST;
    sqlite3_stmt *s = statement(database, which);
    key_bounds(request->key, request->prefix, low, high);
    bind_text(s, 1, low);
    bind_text(s, 2, high);
    bind_text(s, 3, request->after != NULL ? request->after : "");
    sqlite3_bind_int64(s, 4, limit + 1);
    if (which == S_RANGE_PAST)
        sqlite3_bind_int64(s, 5, at);
    if (!read_rows(database, which, arena, limit, result, &request->more, error))
        return false;
    request->results = result;
    request->result_count = 1;
    return true;
}

/* ---- writing ---- */

/* One change of the revision under way: into the log, and to be told. */
static bool record(struct batch *batch, struct database *database, const struct store_entry *entry, bool deleted,
                   struct error *error) {
    sqlite3_stmt *s = statement(database, S_LOG);
    sqlite3_bind_int64(s, 1, entry->modify_revision);
    sqlite3_bind_int64(s, 2, database->sequence++);
    bind_text(s, 3, entry->key);
    bind_value(s, 4, entry->value, entry->value_length);
    sqlite3_bind_int64(s, 5, entry->create_revision);
    sqlite3_bind_int64(s, 6, entry->lease);
    sqlite3_bind_int(s, 7, deleted);
    if (!database_run(database, S_LOG, error))
        return false;
    struct store_event *events = arena_grow(&batch->arena, batch->events, batch->event_count, sizeof(*events));
    if (events == NULL)
        return no_memory(error);
    batch->events = events;
    struct store_event *event = &events[batch->event_count];
    *event = (struct store_event){.entry = *entry, .deleted = deleted};
    event->entry.key = arena_copy(&batch->arena, entry->key, strlen(entry->key));
    event->entry.value = arena_copy(&batch->arena, entry->value, entry->value_length);
    if (event->entry.key == NULL || event->entry.value == NULL)
        return no_memory(error);
    batch->event_count++;
    return true;
}

static bool put(struct batch *batch, struct database *database, const struct store_op *op, struct error *error) {
    struct store_entry entry = {.key = op->key,
                                .value = op->value_length > 0 ? op->value : "",
                                .value_length = op->value_length,
                                .modify_revision = database->revision + 1,
                                .lease = op->lease};
    sqlite3_stmt *s = statement(database, S_PUT);
    bind_text(s, 1, op->key);
    bind_value(s, 2, op->value, op->value_length);
    sqlite3_bind_int64(s, 3, entry.modify_revision);
    sqlite3_bind_int64(s, 4, op->lease);
    int code = sqlite3_step(s);
    bool ok = code == SQLITE_ROW || database_error(database, code, error);
    if (ok) {
        entry.create_revision = sqlite3_column_int64(s, 0);
        code = sqlite3_step(s);
        ok = code == SQLITE_DONE || database_error(database, code, error);
    }
    sqlite3_reset(s);
    return ok && record(batch, database, &entry, false, error);
}

/* Deletes the keys that a bound statement gives. */
static bool delete_keys(struct batch *batch, struct database *database, enum statement which, uint32_t *deleted,
                        struct error *error) {
    sqlite3_stmt *s = statement(database, which);
    const char **keys = NULL;
    uint32_t count = 0;
    int code;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        const char **more = arena_grow(&batch->arena, keys, count, sizeof(*keys));
        const void *key = sqlite3_column_text(s, 0);
        if (more == NULL || key == NULL ||
            (more[count] = arena_copy(&batch->arena, key, (size_t)sqlite3_column_bytes(s, 0))) == NULL) {
            code = SQLITE_NOMEM;
            break;
        }
        keys = more;
        count++;
    }
    sqlite3_reset(s);
    if (code != SQLITE_DONE)
        return code == SQLITE_NOMEM ? no_memory(error) : database_error(database, code, error);
    for (uint32_t i = 0; i < count; i++) {
        struct store_entry entry = {.key = keys[i], .value = "", .modify_revision = database->revision + 1};
        bind_text(statement(database, S_DELETE), 1, keys[i]);
        if (!database_run(database, S_DELETE, error) || !record(batch, database, &entry, true, error))
            return false;
    }
    *deleted = count;
    return true;
}

static bool apply(struct batch *batch, struct database *database, const struct store_op *op, struct store_result *result,
                  struct error *error) {
    char low[STORE_KEY_MAX + 2], high[STORE_KEY_MAX + 2];
    switch (op->kind) {
    case STORE_PUT: return put(batch, database, op, error);
    case STORE_GET: return get(database, op->key, &batch->arena, result, error);
    case STORE_DELETE:
        key_bounds(op->key, op->prefix, low, high);
        bind_text(statement(database, S_KEYS), 1, low);
        bind_text(statement(database, S_KEYS), 2, high);
        return delete_keys(batch, database, S_KEYS, &result->deleted, error);
    }
    return false;
}

static bool compare_all(struct batch *batch, struct database *database, struct store_request *request, struct error *error) {
    request->succeeded = true;
    for (uint32_t i = 0; i < request->compare_count && request->succeeded; i++) {
        struct store_result has = {0};
        if (!get(database, request->compares[i].key, &batch->arena, &has, error))
            return false;
        request->succeeded = store_compare_holds(&request->compares[i], has.count > 0 ? has.entries : NULL);
    }
    return true;
}

static bool leases_exist(struct database *database, const struct store_op *ops, uint32_t count, struct error *error) {
    sqlite3_stmt *s = statement(database, S_LEASE_FIND);
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind != STORE_PUT || ops[i].lease == 0)
            continue;
        sqlite3_bind_int64(s, 1, ops[i].lease);
        int code = sqlite3_step(s);
        sqlite3_reset(s);
        if (code == SQLITE_DONE)
            return error_set(error, ERROR_NOT_FOUND, "no lease has the id %lld", (long long)ops[i].lease);
        if (code != SQLITE_ROW)
            return database_error(database, code, error);
    }
    return true;
}

static bool transact(struct batch *batch, struct database *database, struct store_request *request, struct error *error) {
    if (!compare_all(batch, database, request, error))
        return false;
    const struct store_op *ops = request->succeeded ? request->then_ops : request->else_ops;
    uint32_t count = request->succeeded ? request->then_count : request->else_count;
    struct store_result *results = arena_take(&batch->arena, (count + 1) * sizeof(*results));
    if (results == NULL)
        return no_memory(error);
    if (!leases_exist(database, ops, count, error))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        results[i] = (struct store_result){0};
        if (!apply(batch, database, &ops[i], &results[i], error))
            return false;
    }
    request->results = results;
    request->result_count = count;
    return true;
}

static bool compact(struct database *database, int64_t revision, struct error *error) {
    if (revision > database->revision)
        return store_set_future(error, revision, database->revision);
    if (revision <= database->compacted)
        return true;
    sqlite3_bind_int64(statement(database, S_COMPACT), 1, revision);
    if (!database_run(database, S_COMPACT, error))
        return false;
    database->compacted = revision;
    return true;
}

static bool lease_grant(struct database *database, int64_t id, uint32_t ttl_s, struct error *error) {
    sqlite3_bind_int64(statement(database, S_LEASE_ADD), 1, id);
    sqlite3_bind_int64(statement(database, S_LEASE_ADD), 2, ttl_s);
    return database_run(database, S_LEASE_ADD, error);
}

static bool lease_revoke(struct batch *batch, struct database *database, int64_t id, struct error *error) {
    uint32_t deleted;
    sqlite3_bind_int64(statement(database, S_KEYS_OF_LEASE), 1, id);
    sqlite3_bind_int64(statement(database, S_LEASE_DROP), 1, id);
    return delete_keys(batch, database, S_KEYS_OF_LEASE, &deleted, error) && database_run(database, S_LEASE_DROP, error);
}

/* ---- one request, and all of them ---- */

/* False: SQLite failed (or memory did), and what the request has done so far must be rolled back. A request that is refused is
 * served: it has done nothing. */
static bool serve(struct batch *batch, struct database *database, struct store_request *request, struct error *ret_failed) {
    struct error error;
    bool ok = false;
    error_clear(&error);
    database->sequence = 0;
    uint32_t events_before = batch->event_count;
    request->more = request->succeeded = false;
    switch (request->verb) {
    case STORE_RANGE: ok = range(database, request, &batch->arena, &error); break;
    case STORE_TRANSACT: ok = transact(batch, database, request, &error); break;
    case STORE_COMPACT: ok = compact(database, request->revision, &error); break;
    case STORE_LEASE_GRANT: ok = lease_grant(database, request->revision, request->limit, &error); break;
    case STORE_LEASE_REVOKE: ok = lease_revoke(batch, database, request->revision, &error); break;
    }
    bool refused = error.code == ERROR_NOT_FOUND || error.code == ERROR_INVALID;
    if (!ok && !refused) {
        *ret_failed = error;
        return false;
    }
    database->revision += batch->event_count > events_before;
    request->outcome = ok ? STORE_DONE : STORE_NOT_DONE;
    request->error = error;
    request->now_revision = database->revision;
    return true;
}

static bool begin(struct database *database, struct error *error) { return database_run(database, S_BEGIN, error); }

static bool commit(struct database *database, struct error *error) {
    sqlite3_bind_int64(statement(database, S_SET_STATE), 1, database->revision);
    sqlite3_bind_int64(statement(database, S_SET_STATE), 2, database->compacted);
    return database_run(database, S_SET_STATE, error) && database_run(database, S_COMMIT, error);
}

/* SQLite may have rolled back by itself. */
static void roll_back(struct batch *batch, struct database *database, int64_t revision, int64_t compacted, uint32_t events) {
    struct error ignored;
    if (sqlite3_get_autocommit(database->handle) == 0)
        (void)database_run(database, S_ROLLBACK, &ignored);
    database->revision = revision;
    database->compacted = compacted;
    batch->event_count = events;
}

static bool writes(const struct store_request *request) { return request->verb != STORE_RANGE; }

static void set_failed(struct store_request *request, enum store_outcome outcome, const struct error *error) {
    request->outcome = outcome;
    request->error = *error;
    request->results = NULL;
    request->result_count = 0;
}

/* Serves `count` requests from `first` on as one transaction. False: none of them was served. */
static bool serve_together(struct batch *batch, struct database *database, struct list_node *first, uint32_t count,
                           struct error *error, bool *ret_in_commit) {
    int64_t revision = database->revision, compacted = database->compacted;
    uint32_t events = batch->event_count;
    bool wrote = false;
    *ret_in_commit = false;
    bool ok = begin(database, error);
    struct list_node *node = first;
    for (uint32_t i = 0; ok && i < count; i++, node = node->next) {
        struct store_request *request = container_of(node, struct store_request, node);
        wrote = wrote || writes(request);
        ok = serve(batch, database, request, error);
    }
    if (ok && wrote) {
        *ret_in_commit = true;
        ok = commit(database, error);
    } else if (ok) {
        ok = database_run(database, S_ROLLBACK, error);
    }
    if (!ok)
        roll_back(batch, database, revision, compacted, events);
    return ok;
}

/* After a failure of the disk while committing, nobody knows what is in the file: not done is what was not begun. */
static void fail_from(struct batch *batch, struct list_node *node, bool in_commit, uint32_t count, const struct error *error) {
    batch->fatal = *error;
    for (; node != &batch->requests.head; node = node->next) {
        struct store_request *request = container_of(node, struct store_request, node);
        bool unknown = in_commit && count > 0 && writes(request);
        set_failed(request, unknown ? STORE_UNKNOWN : STORE_NOT_DONE, error);
        count -= count > 0;
    }
}

static void serve_requests(struct batch *batch, struct database *database) {
    struct list_node *first = list_first(&batch->requests), *node = first;
    struct error error;
    bool in_commit;
    uint32_t count = 0;
    list_for_each (&batch->requests, struct store_request, request, node)
        count++;
    if (count == 0 || serve_together(batch, database, first, count, &error, &in_commit))
        return;
    if (database_is_fatal(&error)) {
        fail_from(batch, first, in_commit, count, &error);
        return;
    }
    for (; node != &batch->requests.head; node = node->next) {
        if (serve_together(batch, database, node, 1, &error, &in_commit))
            continue;
        set_failed(container_of(node, struct store_request, node), STORE_NOT_DONE, &error);
        if (database_is_fatal(&error)) {
            fail_from(batch, node, in_commit, 1, &error);
            return;
        }
    }
}

/* ---- what watches are told of the past ---- */

static bool feed_more(struct feed *feed, struct batch *batch, sqlite3_stmt *s, size_t *bytes) {
    int64_t revision = sqlite3_column_int64(s, 3);
    if ((feed->count >= FEED_EVENTS || *bytes >= FEED_BYTES) && revision != feed->last_revision) {
        feed->complete = false;
        return false;
    }
    struct store_event *events = arena_grow(&batch->arena, feed->events, feed->count, sizeof(*events));
    if (events == NULL || !read_entry(s, &batch->arena, &events[feed->count].entry)) {
        no_memory(&feed->error);
        return false;
    }
    feed->events = events;
    events[feed->count].deleted = sqlite3_column_int(s, 5) != 0;
    *bytes += events[feed->count].entry.value_length;
    feed->last_revision = revision;
    feed->count++;
    return true;
}

static void feed_run(struct feed *feed, struct batch *batch, struct database *database) {
    sqlite3_stmt *s = statement(database, S_PAST);
    size_t bytes = 0;
    int code;
    feed->events = NULL;
    feed->count = 0;
    feed->last_revision = 0;
    feed->complete = true;
    error_clear(&feed->error);
    feed->compacted = feed->from_revision <= database->compacted ? database->compacted : 0;
    if (feed->compacted > 0)
        return;
    sqlite3_bind_int64(s, 1, feed->from_revision);
    bind_text(s, 2, feed->low);
    bind_text(s, 3, feed->high);
    while ((code = sqlite3_step(s)) == SQLITE_ROW)
        if (!feed_more(feed, batch, s, &bytes))
            break;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        database_error(database, code, &feed->error);
    if (feed->error.code != ERROR_NONE && database_is_fatal(&feed->error))
        batch->fatal = feed->error;
    if (feed->complete)
        feed->last_revision = database->revision;
    sqlite3_reset(s);
}

void batch_run(struct batch *batch, struct database *database) {
    serve_requests(batch, database);
    batch->revision = database->revision;
    list_for_each (&batch->feeds, struct feed, feed, sent)
        if (batch->fatal.code == ERROR_NONE)
            feed_run(feed, batch, database);
}
