/* A store under test on a real loop, with calls that wait for their answer and keep a copy of it. One implementation is a
 * struct store_kind. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "control/store/store.h"

struct rig;

struct store_kind {
    const char *name;
    void *(*begin)(void); /* what is kept, blank or shared by all rigs of the program */
    void (*end)(void *kept);
    struct store *(*open)(void *kept, const struct store_options *options);
    bool shared;  /* others write there too: revisions have gaps */
    bool endures; /* what is kept outlives the store */
};

#define RIG_TIMEOUT_MS 60000

struct rig {
    const struct store_kind *kind;
    void *kept;
    struct host *host;
    struct reactor *reactor;
    struct store *store;
    char root[64]; /* all keys of this rig begin so */
    bool closed, timed_out, waited_out;
    struct reactor_timer guard, pause;
    struct store_status status;
    unsigned status_changes;
    struct rig_text *keys; /* that rig_key() made */
};

/* A copy of an answer. */
struct answer {
    enum store_outcome outcome;
    struct error error;
    int64_t revision;
    bool succeeded, more;
    uint32_t result_count;
    struct answer_result {
        struct store_entry *entries; /* keys and values are copies; keys without the rig's root */
        uint32_t count, deleted;
    } * results;
};

struct rig *rig_create(const struct store_kind *kind);
void rig_destroy(struct rig *rig);
/* Waits until it is READY or has FAILED; the second one does not wait. */
void rig_open(struct rig *rig);
void rig_begin_open(struct rig *rig);
void rig_close(struct rig *rig);
/* Turns the loop until the condition holds; fails after 60 s. */
void rig_wait(struct rig *rig, bool (*condition)(void *arg), void *arg);
/* False: it did not hold within that time. */
bool rig_wait_for(struct rig *rig, bool (*condition)(void *arg), void *arg, uint64_t ns);
void rig_pause(struct rig *rig, uint64_t ns);
/* Something changed that a condition may look at: from callbacks. */
void rig_poke(struct rig *rig);
/* The key with the rig's root before it; lives until the rig goes. */
const char *rig_key(struct rig *rig, const char *name);
const char *rig_name(const struct rig *rig, const char *key);

/* Submits and waits. The answer is to be freed. Who names no timeout gets RIG_TIMEOUT_MS: how slow a machine may be is no matter
   of the contract. */
struct answer *rig_ask(struct rig *rig, const struct store_request *request);
void answer_free(struct answer *answer);
/* These expect DONE. */
int64_t rig_put(struct rig *rig, const char *name, const char *value);
int64_t rig_delete(struct rig *rig, const char *name);
/* The value, to be freed; NULL = absent. */
char *rig_get(struct rig *rig, const char *name);
struct answer *rig_list(struct rig *rig, const char *prefix, int64_t revision);
int64_t rig_revision(struct rig *rig);
void rig_compact(struct rig *rig, int64_t revision);
void assert_value(struct rig *rig, const char *name, const char *value);

/* Collects the events of a watch as text: "+key=value@revision " and "-key@revision ". */
struct watcher {
    struct rig *rig;
    struct store_watch watch;
    char *text;
    size_t length;
    unsigned events, calls;
    int64_t last_revision; /* of the last event: it must grow from call to call */
    bool ended;
    struct error error;
    unsigned want;    /* of watcher_await() */
    const char *gone; /* of watcher_await_gone() */
};

void watcher_start(struct watcher *watcher, struct rig *rig, const char *name, bool prefix, int64_t from);
void watcher_stop(struct watcher *watcher);
/* Waits for so many events in all. */
void watcher_await(struct watcher *watcher, unsigned events);
/* Waits until a name was told to be gone, whatever else is told. */
void watcher_await_gone(struct watcher *watcher, const char *name);
void watcher_await_end(struct watcher *watcher);
