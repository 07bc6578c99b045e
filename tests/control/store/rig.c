#include "rig.h"

#include "host/linux/linux.h"

struct rig_text {
    struct rig_text *next;
    char bytes[];
};

/* ---- the loop ---- */

static void on_guard(struct reactor_timer *timer) {
    struct rig *rig = container_of(timer, struct rig, guard);
    rig->timed_out = true;
    rig_poke(rig);
}

static void on_pause(struct reactor_timer *timer) {
    struct rig *rig = container_of(timer, struct rig, pause);
    rig->waited_out = true;
    rig_poke(rig);
}

void rig_poke(struct rig *rig) { host_loop_stop(rig->reactor->loop); }

bool rig_wait_for(struct rig *rig, bool (*condition)(void *arg), void *arg, uint64_t ns) {
    reactor_enter(rig->reactor);
    rig->timed_out = false;
    reactor_timer_start(rig->reactor, &rig->guard, reactor_now_ns(rig->reactor) + ns);
    reactor_enter(NULL);
    while (!condition(arg) && !rig->timed_out)
        host_linux_loop_run(rig->reactor->loop);
    reactor_timer_stop(rig->reactor, &rig->guard);
    return condition(arg);
}

void rig_wait(struct rig *rig, bool (*condition)(void *arg), void *arg) {
    if (!rig_wait_for(rig, condition, arg, 60 * NS_PER_S))
        fail_msg("%s: waited 60 s in vain; %s", rig->kind->name, rig->status.error.text);
}

static bool has_waited(void *arg) { return ((struct rig *)arg)->waited_out; }

void rig_pause(struct rig *rig, uint64_t ns) {
    rig->waited_out = false;
    reactor_enter(rig->reactor);
    reactor_timer_start(rig->reactor, &rig->pause, reactor_now_ns(rig->reactor) + ns);
    reactor_enter(NULL);
    rig_wait(rig, has_waited, rig);
}

/* ---- life ---- */

static void on_changed(void *arg, const struct store_status *status) {
    struct rig *rig = arg;
    rig->status = *status;
    rig->status_changes++;
    rig_poke(rig);
}

static void on_closed(void *arg) {
    struct rig *rig = arg;
    rig->closed = true;
    rig_poke(rig);
}

static bool is_closed(void *arg) { return ((struct rig *)arg)->closed; }
static bool is_open(void *arg) {
    enum store_state state = ((struct rig *)arg)->status.state;
    return state == STORE_READY || state == STORE_FAILED;
}

void rig_begin_open(struct rig *rig) {
    struct store_options options = {.reactor = rig->reactor, .arg = rig, .changed = on_changed};
    rig->status.state = STORE_OPENING;
    reactor_enter(rig->reactor);
    rig->store = rig->kind->open(rig->kept, &options);
    reactor_enter(NULL);
    assert_non_null(rig->store);
}

void rig_open(struct rig *rig) {
    rig_begin_open(rig);
    rig_wait(rig, is_open, rig);
}

void rig_close(struct rig *rig) {
    rig->closed = false;
    reactor_enter(rig->reactor);
    store_close(rig->store, on_closed, rig);
    reactor_enter(NULL);
    rig_wait(rig, is_closed, rig);
    rig->store = NULL;
}

struct rig *rig_create(const struct store_kind *kind) {
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    rig->kind = kind;
    rig->guard.run = on_guard;
    rig->pause.run = on_pause;
    struct host_linux_options options = {.threads_max = 2};
    assert_int_equal(host_linux_create(&options, &rig->host), 0);
    struct reactor_options reactor = {.name = "store", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(rig->host, &reactor, &rig->reactor), 0);
    uint64_t number;
    host_random(rig->host, &number, sizeof(number));
    snprintf(rig->root, sizeof(rig->root), "/t%016llx/", (unsigned long long)number);
    rig->kept = kind->begin != NULL ? kind->begin() : NULL;
    rig_open(rig);
    if (rig->status.state != STORE_READY)
        fail_msg("%s: %s", kind->name, rig->status.error.text);
    return rig;
}

void rig_destroy(struct rig *rig) {
    if (rig->store != NULL)
        rig_close(rig);
    for (struct rig_text *text; (text = rig->keys) != NULL;) {
        rig->keys = text->next;
        free(text);
    }
    reactor_destroy(rig->reactor);
    host_linux_destroy(rig->host);
    if (rig->kind->end != NULL)
        rig->kind->end(rig->kept);
    free(rig);
}

/* ---- requests ---- */

const char *rig_key(struct rig *rig, const char *name) {
    struct rig_text *text = malloc(sizeof(*text) + strlen(rig->root) + strlen(name) + 1);
    assert_non_null(text);
    text->next = rig->keys;
    rig->keys = text;
    char *key = text->bytes;
    memcpy(key, rig->root, strlen(rig->root));
    memcpy(key + strlen(rig->root), name, strlen(name) + 1);
    return key;
}

const char *rig_name(const struct rig *rig, const char *key) {
    assert_int_equal(strncmp(key, rig->root, strlen(rig->root)), 0);
    return key + strlen(rig->root);
}

struct asked {
    struct rig *rig;
    struct answer *answer;
};

static void copy_entry(const struct rig *rig, struct store_entry *to, const struct store_entry *from) {
    *to = *from;
    to->key = strdup(rig_name(rig, from->key));
    char *value = malloc(from->value_length + 1);
    assert_true(value != NULL && to->key != NULL);
    memcpy(value, from->value, from->value_length + 1);
    assert_int_equal(value[from->value_length], 0);
    to->value = value;
}

static struct answer *copy_answer(const struct rig *rig, const struct store_request *request) {
    struct answer *answer = calloc(1, sizeof(*answer));
    assert_non_null(answer);
    *answer = (struct answer){.outcome = request->outcome,
                              .error = request->error,
                              .revision = request->now_revision,
                              .succeeded = request->succeeded,
                              .more = request->more,
                              .result_count = request->result_count,
                              .results = calloc(request->result_count + 1, sizeof(*answer->results))};
    for (uint32_t i = 0; i < request->result_count; i++) {
        const struct store_result *from = &request->results[i];
        struct answer_result *to = &answer->results[i];
        to->count = from->count;
        to->deleted = from->deleted;
        to->entries = calloc(from->count + 1, sizeof(*to->entries));
        for (uint32_t j = 0; j < from->count; j++)
            copy_entry(rig, &to->entries[j], &from->entries[j]);
    }
    return answer;
}

void answer_free(struct answer *answer) {
    for (uint32_t i = 0; i < answer->result_count; i++) {
        for (uint32_t j = 0; j < answer->results[i].count; j++) {
            free((char *)(uintptr_t)answer->results[i].entries[j].key);
            free((char *)(uintptr_t)answer->results[i].entries[j].value);
        }
        free(answer->results[i].entries);
    }
    free(answer->results);
    free(answer);
}

static void on_done(struct store_request *request) {
    struct asked *asked = request->arg;
    assert_null(asked->answer);
    assert_true((request->outcome == STORE_DONE) == (request->error.code == ERROR_NONE));
    asked->answer = copy_answer(asked->rig, request);
    rig_poke(asked->rig);
}

static bool is_answered(void *arg) { return ((struct asked *)arg)->answer != NULL; }

struct answer *rig_ask(struct rig *rig, const struct store_request *request) {
    struct asked asked = {.rig = rig};
    struct store_request mine = *request;
    mine.arg = &asked;
    mine.done = on_done;
    if (mine.timeout_ms == 0)
        mine.timeout_ms = RIG_TIMEOUT_MS;
    reactor_enter(rig->reactor);
    store_submit(rig->store, &mine);
    reactor_enter(NULL);
    assert_null(asked.answer);
    rig_wait(rig, is_answered, &asked);
    return asked.answer;
}

static struct answer *ask_done(struct rig *rig, const struct store_request *request) {
    struct answer *answer = rig_ask(rig, request);
    if (answer->outcome != STORE_DONE)
        fail_msg("%s: %s", rig->kind->name, answer->error.text);
    return answer;
}

static int64_t act(struct rig *rig, const struct store_op *op) {
    struct store_request request = {.verb = STORE_TRANSACT, .then_ops = op, .then_count = 1};
    struct answer *answer = ask_done(rig, &request);
    int64_t revision = answer->revision;
    assert_true(answer->succeeded);
    answer_free(answer);
    return revision;
}

int64_t rig_put(struct rig *rig, const char *name, const char *value) {
    return act(rig,
               &(struct store_op){.kind = STORE_PUT, .key = rig_key(rig, name), .value = value, .value_length = strlen(value)});
}

int64_t rig_delete(struct rig *rig, const char *name) {
    return act(rig, &(struct store_op){.kind = STORE_DELETE, .key = rig_key(rig, name)});
}

char *rig_get(struct rig *rig, const char *name) {
    struct store_request request = {.verb = STORE_RANGE, .key = rig_key(rig, name)};
    struct answer *answer = ask_done(rig, &request);
    assert_int_equal(answer->result_count, 1);
    char *value = answer->results[0].count == 1 ? strdup(answer->results[0].entries[0].value) : NULL;
    answer_free(answer);
    return value;
}

struct answer *rig_list(struct rig *rig, const char *prefix, int64_t revision) {
    struct store_request request = {.verb = STORE_RANGE, .key = rig_key(rig, prefix), .prefix = true, .revision = revision};
    struct answer *answer = rig_ask(rig, &request);
    return answer;
}

int64_t rig_revision(struct rig *rig) {
    struct answer *answer = rig_list(rig, "none", 0);
    assert_int_equal(answer->outcome, STORE_DONE);
    int64_t revision = answer->revision;
    answer_free(answer);
    return revision;
}

void rig_compact(struct rig *rig, int64_t revision) {
    answer_free(ask_done(rig, &(struct store_request){.verb = STORE_COMPACT, .revision = revision}));
}

void assert_value(struct rig *rig, const char *name, const char *value) {
    char *has = rig_get(rig, name);
    if (value == NULL)
        assert_null(has);
    else {
        assert_non_null(has);
        assert_string_equal(has, value);
    }
    free(has);
}

/* ---- watches ---- */

static void note(struct watcher *watcher, const struct store_event *event) {
    const char *name = rig_name(watcher->rig, event->entry.key);
    size_t room = strlen(name) + event->entry.value_length + 32;
    watcher->text = realloc(watcher->text, watcher->length + room);
    assert_non_null(watcher->text);
    char *to = watcher->text + watcher->length;
    long long revision = event->entry.modify_revision;
    int written = event->deleted ? snprintf(to, room, "-%s@%lld ", name, revision)
                                 : snprintf(to, room, "+%s=%s@%lld ", name, (const char *)event->entry.value, revision);
    watcher->length += (size_t)written;
    if (event->deleted)
        assert_true(event->entry.value_length == 0 && event->entry.lease == 0);
}

static void on_events(struct store_watch *watch, const struct store_event *events, uint32_t count) {
    struct watcher *watcher = watch->arg;
    assert_true(count > 0 && !watcher->ended);
    assert_true(events[0].entry.modify_revision > watcher->last_revision);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(events[i].entry.modify_revision >= watcher->last_revision);
        watcher->last_revision = events[i].entry.modify_revision;
        note(watcher, &events[i]);
    }
    watcher->events += count;
    watcher->calls++;
    rig_poke(watcher->rig);
}

static void on_ended(struct store_watch *watch, const struct error *error) {
    struct watcher *watcher = watch->arg;
    assert_false(watcher->ended);
    assert_null(watch->store);
    watcher->ended = true;
    watcher->error = *error;
    rig_poke(watcher->rig);
}

void watcher_start(struct watcher *watcher, struct rig *rig, const char *name, bool prefix, int64_t from) {
    *watcher = (struct watcher){.rig = rig, .text = calloc(1, 1)};
    watcher->watch = (struct store_watch){.key = rig_key(rig, name),
                                          .prefix = prefix,
                                          .from_revision = from,
                                          .arg = watcher,
                                          .events = on_events,
                                          .ended = on_ended};
    reactor_enter(rig->reactor);
    store_watch_start(rig->store, &watcher->watch);
    reactor_enter(NULL);
}

void watcher_stop(struct watcher *watcher) {
    reactor_enter(watcher->rig->reactor);
    store_watch_stop(&watcher->watch);
    reactor_enter(NULL);
    free(watcher->text);
}

static bool has_events(void *arg) {
    struct watcher *watcher = arg;
    return watcher->events >= watcher->want || watcher->ended;
}

void watcher_await(struct watcher *watcher, unsigned events) {
    watcher->want = events;
    rig_wait(watcher->rig, has_events, watcher);
    if (watcher->ended)
        fail_msg("%s: the watch ended: %s", watcher->rig->kind->name, watcher->error.text);
    assert_int_equal(watcher->events, events);
}

static bool has_gone(void *arg) {
    const struct watcher *watcher = arg;
    char text[80];
    snprintf(text, sizeof(text), "-%s@", watcher->gone);
    return strstr(watcher->text, text) != NULL || watcher->ended;
}

void watcher_await_gone(struct watcher *watcher, const char *name) {
    watcher->gone = name;
    rig_wait(watcher->rig, has_gone, watcher);
    if (watcher->ended)
        fail_msg("%s: the watch ended: %s", watcher->rig->kind->name, watcher->error.text);
}

static bool has_ended(void *arg) { return ((struct watcher *)arg)->ended; }

void watcher_await_end(struct watcher *watcher) { rig_wait(watcher->rig, has_ended, watcher); }
