/* The loop's side: gathers requests and watches' questions into a batch, has it run in a helper thread, and tells what came of
 * it. */
#include "control/store/sqlite/sqlite.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/store/sqlite/internal.h"

#define BATCH_REQUESTS 256

enum step { STEP_HOLD, STEP_OPEN, STEP_SERVE, STEP_CLOSE };

struct sqlite_store {
    struct store store;
    struct database database;
    char *path, *vfs;
    struct host_file_open hold; /* the lock, and a first look at whether the file can be had at all */
    struct host_job job;
    enum step step; /* of the job under way */
    bool busy, closing, open_ok;
    struct error open_error;
    struct known_lease *leases;
    uint32_t lease_count;
    struct batch batch;
    struct list feeds, telling;
    struct reactor_job look;
    bool look_queued;
};

static struct sqlite_store *of(struct store *store) { return container_of(store, struct sqlite_store, store); }

static void go_on(struct sqlite_store *sqlite);

/* ---- the thread ---- */

static void on_run(struct host_job *job) {
    struct sqlite_store *sqlite = container_of(job, struct sqlite_store, job);
    if (sqlite->step == STEP_OPEN)
        sqlite->open_ok =
            database_open(&sqlite->database, &sqlite->batch.arena, &sqlite->leases, &sqlite->lease_count, &sqlite->open_error);
    else if (sqlite->step == STEP_SERVE)
        batch_run(&sqlite->batch, &sqlite->database);
    else
        database_close(&sqlite->database);
}

static void submit(struct sqlite_store *sqlite, enum step step) {
    assert(!sqlite->busy);
    sqlite->busy = true;
    sqlite->step = step;
    host_job_submit(sqlite->store.reactor->loop, &sqlite->job);
}

/* ---- opening ---- */

static void after_hold(struct host_file_open *hold) {
    struct sqlite_store *sqlite = container_of(hold, struct sqlite_store, hold);
    sqlite->busy = false;
    if (!hold->ok)
        store_set_state(&sqlite->store, STORE_FAILED, &hold->error);
    else if (!sqlite->closing)
        submit(sqlite, STEP_OPEN);
    go_on(sqlite);
}

static void after_open(struct sqlite_store *sqlite) {
    for (uint32_t i = 0; i < sqlite->lease_count && sqlite->open_ok; i++)
        if (!store_adopt_lease(&sqlite->store, sqlite->leases[i].id, sqlite->leases[i].ttl_s))
            sqlite->open_ok = error_set(&sqlite->open_error, ERROR_NO_MEMORY, "no memory for the state store");
    arena_fini(&sqlite->batch.arena);
    if (sqlite->open_ok)
        store_set_state(&sqlite->store, STORE_READY, NULL);
    else
        store_set_state(&sqlite->store, STORE_FAILED, &sqlite->open_error);
}

/* ---- batches ---- */

static bool feeds_ask(struct sqlite_store *sqlite) {
    bool any = false;
    list_for_each (&sqlite->feeds, struct feed, feed, node) {
        if (feed->live)
            continue;
        feed->in_batch = true;
        feed->from_revision = feed->watch->next_revision;
        list_push_back(&sqlite->batch.feeds, &feed->sent);
        any = true;
    }
    return any;
}

static void fill_batch(struct sqlite_store *sqlite) {
    struct batch *batch = &sqlite->batch;
    struct store_request *request;
    *batch = (struct batch){0};
    list_init(&batch->requests);
    list_init(&batch->feeds);
    for (unsigned i = 0; i < BATCH_REQUESTS && (request = store_take(&sqlite->store)) != NULL; i++)
        list_push_back(&batch->requests, &request->node);
    if (feeds_ask(sqlite) || !list_empty(&batch->requests))
        submit(sqlite, STEP_SERVE);
}

/* What was committed, to the watches that know all before it. Their callbacks may stop any watch and start others. */
static void tell_commits(struct sqlite_store *sqlite) {
    struct batch *batch = &sqlite->batch;
    if (batch->event_count == 0)
        return;
    list_splice_back(&sqlite->telling, &sqlite->feeds);
    for (struct list_node *node; (node = list_pop_front(&sqlite->telling)) != NULL;) {
        struct feed *feed = container_of(node, struct feed, node);
        list_push_back(&sqlite->feeds, node);
        if (!feed->live)
            continue;
        feed->live = false; /* unless it could be told; it may be gone afterwards */
        struct store_watch *watch = feed->watch;
        bool told = store_watch_tell(watch, batch->events, batch->event_count, batch->revision);
        if (told && watch->store == &sqlite->store && watch->impl == (struct store_impl *)feed)
            feed->live = true;
    }
}

static void tell_feed(struct sqlite_store *sqlite, struct feed *feed) {
    struct store_watch *watch = feed->watch;
    feed->in_batch = false;
    if (watch == NULL) {
        free(feed);
        return;
    }
    struct error error;
    if (sqlite->batch.fatal.code != ERROR_NONE || feed->error.code != ERROR_NONE)
        return; /* the store ends it, or it is asked again */
    if (feed->compacted > 0) {
        store_set_compacted(&error, feed->from_revision, feed->compacted);
        store_watch_end(watch, &error);
        return;
    }
    bool complete = feed->complete;
    bool told = store_watch_tell(watch, feed->events, feed->count, feed->last_revision);
    if (told && complete && watch->store == &sqlite->store && watch->impl == (struct store_impl *)feed)
        feed->live = true;
}

static void after_batch(struct sqlite_store *sqlite) {
    struct batch *batch = &sqlite->batch;
    if (batch->fatal.code != ERROR_NONE)
        store_set_state(&sqlite->store, STORE_FAILED, &batch->fatal);
    tell_commits(sqlite);
    for (struct list_node *node; (node = list_pop_front(&batch->feeds)) != NULL;)
        tell_feed(sqlite, container_of(node, struct feed, sent));
    for (struct list_node *node; (node = list_pop_front(&batch->requests)) != NULL;)
        store_answer(&sqlite->store, container_of(node, struct store_request, node));
    arena_fini(&batch->arena);
}

static void on_done(struct host_job *job) {
    struct sqlite_store *sqlite = container_of(job, struct sqlite_store, job);
    enum step step = sqlite->step;
    /* Still busy while telling: nothing starts a batch meanwhile. */
    if (step == STEP_OPEN)
        after_open(sqlite);
    else if (step == STEP_SERVE)
        after_batch(sqlite);
    sqlite->busy = false;
    if (step == STEP_CLOSE) {
        host_file_close(sqlite->hold.file);
        sqlite->hold.file = NULL;
    }
    go_on(sqlite);
}

/* Whatever is next. */
static void go_on(struct sqlite_store *sqlite) {
    if (sqlite->busy)
        return;
    if (sqlite->closing) {
        if (sqlite->database.handle != NULL || sqlite->hold.file != NULL)
            submit(sqlite, STEP_CLOSE);
        else
            store_backend_closed(&sqlite->store);
    } else if (sqlite->store.status.state == STORE_READY) {
        fill_batch(sqlite);
    }
}

static void on_look(struct reactor_job *job) {
    struct sqlite_store *sqlite = container_of(job, struct sqlite_store, look);
    sqlite->look_queued = false;
    go_on(sqlite);
}

static void look_soon(struct sqlite_store *sqlite) {
    if (sqlite->look_queued)
        return;
    sqlite->look_queued = true;
    reactor_defer(sqlite->store.reactor, &sqlite->look);
}

static void sqlite_work(struct store *store) { go_on(of(store)); }

/* ---- watches ---- */

static void sqlite_watch_start(struct store *store, struct store_watch *watch) {
    struct sqlite_store *sqlite = of(store);
    struct feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        watch->refused = true;
        return;
    }
    key_bounds(watch->key, watch->prefix, feed->low, feed->high);
    feed->watch = watch;
    watch->impl = (struct store_impl *)feed;
    list_push_back(&sqlite->feeds, &feed->node);
    look_soon(sqlite);
}

static void sqlite_watch_stop(struct store *store, struct store_watch *watch) {
    struct feed *feed = (struct feed *)watch->impl;
    (void)store;
    watch->impl = NULL;
    list_remove(&feed->node);
    feed->watch = NULL;
    if (!feed->in_batch)
        free(feed);
}

/* ---- life ---- */

static void sqlite_close(struct store *store) {
    struct sqlite_store *sqlite = of(store);
    sqlite->closing = true;
    look_soon(sqlite);
}

static void sqlite_free(struct sqlite_store *sqlite) {
    free(sqlite->path);
    free(sqlite->vfs);
    free(sqlite);
}

static void on_last_look(struct reactor_job *job) { sqlite_free(container_of(job, struct sqlite_store, look)); }

static void sqlite_destroy(struct store *store) {
    struct sqlite_store *sqlite = of(store);
    assert(!sqlite->busy && list_empty(&sqlite->feeds));
    if (sqlite->look_queued)
        sqlite->look.run = on_last_look;
    else
        sqlite_free(sqlite);
}

static const struct store_backend sqlite_backend = {
    .work = sqlite_work,
    .watch_start = sqlite_watch_start,
    .watch_stop = sqlite_watch_stop,
    .close = sqlite_close,
    .destroy = sqlite_destroy,
};

static char *copy(const char *text) {
    char *to = malloc(strlen(text) + 1);
    if (to != NULL)
        memcpy(to, text, strlen(text) + 1);
    return to;
}

struct store *store_sqlite_create(const struct store_sqlite_options *options) {
    struct sqlite_store *sqlite = calloc(1, sizeof(*sqlite));
    if (sqlite == NULL)
        return NULL;
    sqlite->path = copy(options->path);
    sqlite->vfs = options->vfs != NULL ? copy(options->vfs) : NULL;
    if (sqlite->path == NULL || (options->vfs != NULL && sqlite->vfs == NULL)) {
        sqlite_free(sqlite);
        return NULL;
    }
    store_init(&sqlite->store, &sqlite_backend, &options->store);
    snprintf(sqlite->store.status.where, sizeof(sqlite->store.status.where), "%s", options->path);
    sqlite->database.path = sqlite->path;
    sqlite->database.vfs = sqlite->vfs;
    sqlite->job.run = on_run;
    sqlite->job.done = on_done;
    sqlite->look.run = on_look;
    list_init(&sqlite->feeds);
    list_init(&sqlite->telling);
    sqlite->busy = true;
    sqlite->hold.path = sqlite->path;
    sqlite->hold.options = (struct host_file_options){
        .create = true, .hold = true, .hold_timeout_ms = options->hold_timeout_ms != 0 ? options->hold_timeout_ms : 2000};
    sqlite->hold.done = after_hold;
    host_file_open_submit(sqlite->store.reactor->loop, &sqlite->hold);
    return &sqlite->store;
}
