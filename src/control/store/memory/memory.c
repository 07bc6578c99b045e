#include "control/store/memory/memory.h"

#include <stdlib.h>

#include "base/random.h"
#include "control/store/backend.h"

#define TOLD_MAX 1000 /* events of one telling, but for the rest of their revision */

struct key;

/* What a key was from a revision on. */
struct version {
    struct key *key;
    struct version *older;
    int64_t revision, create_revision, lease;
    bool deleted;
    size_t value_length;
    uint8_t value[]; /* with a zero byte behind it */
};

struct key {
    struct version *newest; /* NULL: never made after all */
    char name[];
};

struct lease {
    int64_t id;
    uint32_t ttl_s;
};

struct store_memory_data {
    struct key **keys; /* in order of names */
    size_t key_count, key_capacity;
    struct version **log; /* all versions, in order of their making */
    size_t log_count, log_capacity;
    struct lease leases[2 * STORE_LEASES_MAX];
    unsigned lease_count;
    int64_t revision, compacted;
    bool in_use;
};

struct memory_store {
    struct store store;
    struct store_memory_options options;
    struct store_memory_data *data;
    struct random random;
    struct reactor_job job; /* tells watches, opens, closes */
    bool queued;
};

static struct memory_store *of(struct store *store) { return container_of(store, struct memory_store, store); }

/* ---- what is kept ---- */

struct store_memory_data *store_memory_data_create(void) {
    struct store_memory_data *data = calloc(1, sizeof(*data));
    if (data != NULL)
        data->revision = 1;
    return data;
}

void store_memory_data_abandon(struct store_memory_data *data) { data->in_use = false; }

void store_memory_data_destroy(struct store_memory_data *data) {
    assert(!data->in_use);
    for (size_t i = 0; i < data->log_count; i++)
        free(data->log[i]);
    for (size_t i = 0; i < data->key_count; i++)
        free(data->keys[i]);
    free(data->log);
    free(data->keys);
    free(data);
}

/* The first key that is not below `name`. */
static size_t key_place(const struct store_memory_data *data, const char *name) {
    size_t low = 0, high = data->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(data->keys[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct key *key_find(const struct store_memory_data *data, const char *name) {
    size_t place = key_place(data, name);
    return place < data->key_count && strcmp(data->keys[place]->name, name) == 0 ? data->keys[place] : NULL;
}

static bool grow(void **array, size_t count, size_t *capacity) {
    if (count < *capacity)
        return true;
    size_t more = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = realloc(*array, more * sizeof(void *));
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = more;
    return true;
}

static struct key *key_make(struct store_memory_data *data, const char *name) {
    struct key *key = key_find(data, name);
    if (key != NULL)
        return key;
    size_t length = strlen(name), place = key_place(data, name);
    if (!grow((void **)&data->keys, data->key_count, &data->key_capacity) || (key = malloc(sizeof(*key) + length + 1)) == NULL)
        return NULL;
    key->newest = NULL;
    memcpy(key->name, name, length + 1);
    memmove(&data->keys[place + 1], &data->keys[place], (data->key_count - place) * sizeof(*data->keys));
    data->keys[place] = key;
    data->key_count++;
    return key;
}

static const struct version *version_at(const struct key *key, int64_t revision) {
    const struct version *version = key != NULL ? key->newest : NULL;
    while (version != NULL && version->revision > revision)
        version = version->older;
    return version != NULL && !version->deleted ? version : NULL;
}

static const struct version *newest(const struct store_memory_data *data, const char *name) {
    return version_at(key_find(data, name), INT64_MAX);
}

static bool version_add(struct store_memory_data *data, struct key *key, const struct store_op *put) {
    size_t length = put != NULL ? put->value_length : 0;
    struct version *version;
    if (!grow((void **)&data->log, data->log_count, &data->log_capacity) ||
        (version = malloc(sizeof(*version) + length + 1)) == NULL)
        return false;
    const struct version *last = version_at(key, INT64_MAX);
    *version = (struct version){.key = key, .older = key->newest, .revision = data->revision + 1, .value_length = length};
    if (put != NULL) {
        version->create_revision = last != NULL ? last->create_revision : version->revision;
        version->lease = put->lease;
        if (length > 0)
            memcpy(version->value, put->value, length);
    }
    version->deleted = put == NULL;
    version->value[length] = 0;
    key->newest = version;
    data->log[data->log_count++] = version;
    return true;
}

/* Takes back what was added beyond `count`. */
static void log_cut(struct store_memory_data *data, size_t count) {
    while (data->log_count > count) {
        struct version *version = data->log[--data->log_count];
        version->key->newest = version->older;
        free(version);
    }
}

static struct store_entry entry_of(const struct version *version) {
    return (struct store_entry){.key = version->key->name,
                                .value = version->value,
                                .value_length = version->value_length,
                                .create_revision = version->create_revision,
                                .modify_revision = version->revision,
                                .lease = version->lease};
}

static bool lease_exists(const struct store_memory_data *data, int64_t id) {
    for (unsigned i = 0; i < data->lease_count; i++)
        if (data->leases[i].id == id)
            return true;
    return false;
}

/* ---- transactions ---- */

static bool holds(const struct store_memory_data *data, const struct store_compare *compare) {
    const struct version *version = newest(data, compare->key);
    if (version == NULL)
        return store_compare_holds(compare, NULL);
    return store_compare_holds(compare, &(struct store_entry){.value = version->value,
                                                              .value_length = version->value_length,
                                                              .create_revision = version->create_revision,
                                                              .modify_revision = version->revision});
}

static bool apply_delete(struct store_memory_data *data, const struct store_op *op, uint32_t *deleted) {
    size_t length = strlen(op->key);
    for (size_t i = key_place(data, op->key); i < data->key_count; i++) {
        struct key *key = data->keys[i];
        if (op->prefix ? strncmp(key->name, op->key, length) != 0 : strcmp(key->name, op->key) != 0)
            break;
        if (version_at(key, INT64_MAX) == NULL)
            continue;
        if (!version_add(data, key, NULL))
            return false;
        ++*deleted;
    }
    return true;
}

static bool apply(struct store_memory_data *data, const struct store_op *op, struct store_result *result,
                  struct store_entry *entry) {
    const struct version *version;
    struct key *key;
    switch (op->kind) {
    case STORE_PUT: return (key = key_make(data, op->key)) != NULL && version_add(data, key, op);
    case STORE_DELETE: return apply_delete(data, op, &result->deleted);
    case STORE_GET:
        if ((version = newest(data, op->key)) != NULL) {
            *entry = entry_of(version);
            result->entries = entry;
            result->count = 1;
        }
        return true;
    }
    return false;
}

static void no_memory(struct store_request *request) {
    request->outcome = STORE_NOT_DONE;
    error_set(&request->error, ERROR_NO_MEMORY, "no memory for a transaction of the state store");
}

/* What was added to the log becomes a revision, if anything was. */
static void commit(struct store_memory_data *data, size_t log_before) { data->revision += data->log_count > log_before; }

static void transact(struct store_memory_data *data, struct store_request *request, struct store_result *results,
                     struct store_entry *entries) {
    request->succeeded = true;
    for (uint32_t i = 0; i < request->compare_count && request->succeeded; i++)
        request->succeeded = holds(data, &request->compares[i]);
    const struct store_op *ops = request->succeeded ? request->then_ops : request->else_ops;
    uint32_t count = request->succeeded ? request->then_count : request->else_count;
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].kind == STORE_PUT && ops[i].lease != 0 && !lease_exists(data, ops[i].lease)) {
            request->outcome = STORE_NOT_DONE;
            error_set(&request->error, ERROR_NOT_FOUND, "no lease has the id %lld", (long long)ops[i].lease);
            return;
        }
    size_t log_before = data->log_count;
    for (uint32_t i = 0; i < count; i++) {
        results[i] = (struct store_result){0};
        if (!apply(data, &ops[i], &results[i], &entries[i])) {
            log_cut(data, log_before);
            no_memory(request);
            return;
        }
    }
    commit(data, log_before);
    request->outcome = STORE_DONE;
    request->results = results;
    request->result_count = count;
}

static void lease_grant(struct store_memory_data *data, struct store_request *request) {
    if (data->lease_count == sizeof(data->leases) / sizeof(data->leases[0])) {
        error_set(&request->error, ERROR_NO_MEMORY, "too many leases");
        return;
    }
    data->leases[data->lease_count++] = (struct lease){.id = request->revision, .ttl_s = request->limit};
    request->outcome = STORE_DONE;
}

static void lease_revoke(struct store_memory_data *data, struct store_request *request) {
    size_t log_before = data->log_count;
    for (size_t i = 0; i < data->key_count; i++) {
        const struct version *version = version_at(data->keys[i], INT64_MAX);
        if (version != NULL && version->lease == request->revision && !version_add(data, data->keys[i], NULL)) {
            log_cut(data, log_before);
            no_memory(request);
            return;
        }
    }
    commit(data, log_before);
    for (unsigned i = 0; i < data->lease_count; i++)
        if (data->leases[i].id == request->revision)
            data->leases[i--] = data->leases[--data->lease_count];
    request->outcome = STORE_DONE;
}

/* ---- ranges, compaction ---- */

static void range(struct store_memory_data *data, struct store_request *request, struct arena *arena,
                  struct store_result *result) {
    int64_t at = request->revision != 0 ? request->revision : data->revision;
    uint32_t limit = request->limit != 0 ? request->limit : STORE_RANGE_MAX;
    assert(request->key != NULL); /* store_check_request() has seen to it */
    size_t length = strlen(request->key), bytes = 0;
    if (at > data->revision) {
        store_set_future(&request->error, at, data->revision);
        return;
    }
    if (at < data->compacted) {
        store_set_compacted(&request->error, at, data->compacted);
        return;
    }
    *result = (struct store_result){0};
    for (size_t i = key_place(data, request->key); i < data->key_count && !request->more; i++) {
        const struct key *key = data->keys[i];
        const struct version *version = version_at(key, at);
        assert(key->name != NULL);
        if (request->prefix ? strncmp(key->name, request->key, length) != 0 : strcmp(key->name, request->key) != 0)
            break;
        if (version == NULL || (request->after != NULL && strcmp(key->name, request->after) <= 0))
            continue;
        bytes += strlen(key->name) + version->value_length;
        request->more = result->count == limit || (result->count > 0 && bytes > STORE_RANGE_BYTES);
        if (request->more)
            break;
        struct store_entry *entries = arena_grow(arena, result->entries, result->count, sizeof(*entries));
        if (entries == NULL) {
            no_memory(request);
            return;
        }
        entries[result->count++] = entry_of(version);
        result->entries = entries;
    }
    request->outcome = STORE_DONE;
    request->results = result;
    request->result_count = 1;
}

/* Frees what of a key was replaced at or before the revision. True: nothing is left of it. */
static bool key_compact(struct key *key, int64_t revision) {
    struct version **link = &key->newest;
    while (*link != NULL && (*link)->revision > revision)
        link = &(*link)->older;
    if (*link != NULL && !(*link)->deleted)
        link = &(*link)->older; /* it stands */
    for (struct version *version = *link, *older; version != NULL; version = older) {
        older = version->older;
        version->key = NULL; /* to be found in the log */
    }
    *link = NULL;
    return key->newest == NULL;
}

static void compact(struct store_memory_data *data, struct store_request *request) {
    if (request->revision > data->revision) {
        store_set_future(&request->error, request->revision, data->revision);
        return;
    }
    request->outcome = STORE_DONE;
    if (request->revision <= data->compacted)
        return;
    data->compacted = request->revision;
    size_t keys = 0, versions = 0;
    for (size_t i = 0; i < data->key_count; i++) {
        if (key_compact(data->keys[i], request->revision))
            free(data->keys[i]);
        else
            data->keys[keys++] = data->keys[i];
    }
    data->key_count = keys;
    for (size_t i = 0; i < data->log_count; i++) {
        if (data->log[i]->key == NULL)
            free(data->log[i]);
        else
            data->log[versions++] = data->log[i];
    }
    data->log_count = versions;
}

/* ---- requests ---- */

static void serve(struct memory_store *memory, struct store_request *request) {
    struct store_memory_data *data = memory->data;
    struct store_result results[STORE_OPS_MAX];
    struct store_entry entries[STORE_OPS_MAX];
    struct arena arena;
    enum store_memory_fault fault = memory->options.fault != NULL && request->verb <= STORE_COMPACT
                                        ? memory->options.fault(memory->options.fault_arg, request)
                                        : STORE_MEMORY_FINE;
    arena_init(&arena);
    if (fault == STORE_MEMORY_REFUSE || fault == STORE_MEMORY_LOSE)
        error_set(&request->error, ERROR_IO, "the state store in memory fails as it was told to");
    else
        switch (request->verb) {
        case STORE_RANGE: range(data, request, &arena, results); break;
        case STORE_TRANSACT: transact(data, request, results, entries); break;
        case STORE_COMPACT: compact(data, request); break;
        case STORE_LEASE_GRANT: lease_grant(data, request); break;
        case STORE_LEASE_REVOKE: lease_revoke(data, request); break;
        }
    request->now_revision = data->revision;
    bool lost = fault == STORE_MEMORY_LOSE || fault == STORE_MEMORY_LOSE_ANSWER;
    if (lost && request->verb == STORE_TRANSACT) {
        struct error error;
        error_set(&error, ERROR_IO, "the state store in memory loses an answer as it was told to");
        store_answer_error(&memory->store, request, STORE_UNKNOWN, &error);
    } else {
        store_answer(&memory->store, request);
    }
    arena_fini(&arena);
}

static void job_soon(struct memory_store *memory) {
    if (memory->queued)
        return;
    memory->queued = true;
    reactor_defer(memory->store.reactor, &memory->job);
}

static void memory_work(struct store *store) {
    struct memory_store *memory = of(store);
    struct store_request *taken[STORE_REQUESTS_MAX + 4 * STORE_LEASES_MAX];
    size_t count = 0;
    for (struct store_request *request; count < sizeof(taken) / sizeof(taken[0]) && (request = store_take(store)) != NULL;) {
        taken[count++] = request;
        if (memory->options.shuffle_seed != 0) {
            size_t other = random_below(&memory->random, count);
            taken[count - 1] = taken[other];
            taken[other] = request;
        }
    }
    for (size_t i = 0; i < count; i++)
        serve(memory, taken[i]);
    job_soon(memory);
}

/* ---- watches ---- */

static size_t log_place(const struct store_memory_data *data, int64_t revision) {
    size_t low = 0, high = data->log_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (data->log[middle]->revision < revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* False: no memory now. */
static bool tell(struct memory_store *memory, struct store_watch *watch) {
    struct store_memory_data *data = memory->data;
    if (watch->next_revision <= data->compacted) {
        struct error error;
        store_set_compacted(&error, watch->next_revision, data->compacted);
        store_watch_end(watch, &error);
        return true;
    }
    size_t begin = log_place(data, watch->next_revision), end = begin;
    while (end < data->log_count && (end - begin < TOLD_MAX || data->log[end]->revision == data->log[end - 1]->revision))
        end++;
    struct store_event *events = malloc((end - begin + 1) * sizeof(*events));
    if (events == NULL)
        return false;
    for (size_t i = begin; i < end; i++)
        events[i - begin] = (struct store_event){.entry = entry_of(data->log[i]), .deleted = data->log[i]->deleted};
    int64_t last = end == data->log_count ? data->revision : data->log[end - 1]->revision;
    bool ok = store_watch_tell(watch, events, (uint32_t)(end - begin), last);
    free(events);
    return ok;
}

static struct store_watch *watch_to_tell(struct memory_store *memory) {
    list_for_each (&memory->store.watches, struct store_watch, watch, node)
        if (!watch->refused && watch->next_revision <= memory->data->revision)
            return watch;
    return NULL;
}

static void on_job(struct reactor_job *job) {
    struct memory_store *memory = container_of(job, struct memory_store, job);
    memory->queued = false;
    if (memory->store.status.state == STORE_OPENING)
        store_set_state(&memory->store, STORE_READY, NULL);
    for (struct store_watch *watch; (watch = watch_to_tell(memory)) != NULL;)
        if (!tell(memory, watch)) {
            job_soon(memory);
            break;
        }
}

static void memory_watch_start(struct store *store, struct store_watch *watch) {
    (void)watch;
    job_soon(of(store));
}

static void memory_watch_stop(struct store *store, struct store_watch *watch) {
    (void)store;
    (void)watch;
}

/* ---- life ---- */

static void memory_close(struct store *store) { store_backend_closed(store); }

static void on_last_job(struct reactor_job *job) { free(container_of(job, struct memory_store, job)); }

static void memory_destroy(struct store *store) {
    struct memory_store *memory = of(store);
    memory->data->in_use = false;
    memory->job.run = on_last_job;
    if (!memory->queued)
        free(memory);
}

static const struct store_backend memory_backend = {
    .work = memory_work,
    .watch_start = memory_watch_start,
    .watch_stop = memory_watch_stop,
    .close = memory_close,
    .destroy = memory_destroy,
};

struct store *store_memory_create(const struct store_memory_options *options) {
    struct memory_store *memory = calloc(1, sizeof(*memory));
    struct store_memory_data *data = options->data;
    if (memory == NULL)
        return NULL;
    assert(!data->in_use);
    data->in_use = true;
    store_init(&memory->store, &memory_backend, &options->store);
    memory->options = *options;
    memory->data = data;
    memory->job.run = on_job;
    random_init(&memory->random, options->shuffle_seed);
    memcpy(memory->store.status.where, "memory", sizeof("memory"));
    for (unsigned i = 0; i < data->lease_count; i++)
        if (!store_adopt_lease(&memory->store, data->leases[i].id, data->leases[i].ttl_s)) {
            memory_destroy(&memory->store);
            return NULL;
        }
    job_soon(memory);
    return &memory->store;
}
