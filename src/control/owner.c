#include "control/owner.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "base/uuid.h"

enum { TTL_S = 10, LOOK_MS = 1000, AGAIN_MS = 100, ASK_MS = 3000, LEAVE_MS = 2000, SAY_S = 30 };

struct control_owner {
    struct control_owner_options options;
    struct reactor_timer timer;
    struct store_lease lease;
    struct store_request request;
    struct store_compare compare;
    struct store_op op;
    bool asking;   /* the request is under way */
    bool holds;    /* the key was put with the lease that is held */
    bool told;     /* taken */
    bool over;     /* lost */
    bool stopping; /* stopped() is to come */
    int64_t seen;  /* the key's revision; 0 = it is not there */
    int64_t made;  /* that which made it, while it is ours: writes are guarded by it. 0 = it is not ours */
    uint64_t said_ns;
    char key[STORE_KEY_MAX + 1], since[TEXT_TIME_SIZE];
    char *text;
    struct reactor_job job;
    void (*stopped)(void *arg);
    void *stop_arg;
};

static uint64_t now_ns(const struct control_owner *owner) { return reactor_now_ns(owner->options.reactor); }

static void look_later(struct control_owner *owner, uint64_t after_ms) {
    reactor_timer_start(owner->options.reactor, &owner->timer, now_ns(owner) + after_ms * NS_PER_MS);
}

static void lose(struct control_owner *owner, const struct error *error) {
    if (owner->over)
        return;
    owner->over = true;
    owner->holds = false;
    owner->made = 0;
    store_lease_end(&owner->lease, false);
    owner->options.lost(owner->options.arg, error);
}

/* ---- the end ---- */

static void tell_stopped(struct reactor_job *job) {
    struct control_owner *owner = container_of(job, struct control_owner, job);
    store_lease_end(&owner->lease, true);
    owner->stopped(owner->stop_arg);
}

static void given_back(struct store_request *request) {
    struct control_owner *owner = request->arg;
    owner->asking = false;
    reactor_defer(owner->options.reactor, &owner->job);
}

static void submit(struct control_owner *owner, void (*done)(struct store_request *request), uint32_t timeout_ms) {
    owner->compare = (struct store_compare){
        .key = owner->key, .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = owner->seen};
    owner->request = (struct store_request){.verb = STORE_TRANSACT,
                                            .compares = &owner->compare,
                                            .compare_count = 1,
                                            .then_ops = &owner->op,
                                            .then_count = 1,
                                            .unguarded = true,
                                            .timeout_ms = timeout_ms,
                                            .done = done,
                                            .arg = owner};
    owner->asking = true;
    store_submit(owner->options.store, &owner->request);
}

static void leave(struct control_owner *owner) {
    reactor_timer_stop(owner->options.reactor, &owner->timer);
    if (owner->made == 0) {
        reactor_defer(owner->options.reactor, &owner->job);
        return;
    }
    owner->op = (struct store_op){.kind = STORE_DELETE, .key = owner->key};
    submit(owner, given_back, LEAVE_MS);
}

/* False: nobody asks any more. */
static bool goes_on(struct control_owner *owner) {
    owner->asking = false;
    if (owner->stopping)
        leave(owner);
    return !owner->stopping && !owner->over;
}

/* ---- the name is taken ---- */

/* The key's maker stays the same however often it is put, until it is gone. */
static void is_ours(struct control_owner *owner, int64_t made) {
    owner->made = made;
    store_guard(owner->options.store, owner->key, made);
}

static void tell_taken(struct control_owner *owner) {
    if (owner->told)
        return;
    owner->told = true;
    owner->options.taken(owner->options.arg);
}

static void put_done(struct store_request *request) {
    struct control_owner *owner = request->arg;
    bool done = request->outcome == STORE_DONE && request->succeeded;
    if (done) {
        is_ours(owner, owner->seen != 0 ? owner->made : request->now_revision);
        owner->seen = request->now_revision;
        owner->holds = owner->lease.store != NULL; /* else it has run out meanwhile */
    }
    if (!goes_on(owner))
        return;
    if (done && owner->holds)
        tell_taken(owner);
    else
        look_later(owner, done ? 0 : AGAIN_MS);
}

static void put(struct control_owner *owner) {
    owner->op = (struct store_op){.kind = STORE_PUT,
                                  .key = owner->key,
                                  .value = owner->text,
                                  .value_length = strlen(owner->text),
                                  .lease = owner->lease.id};
    submit(owner, put_done, ASK_MS);
}

static void granted(struct store_lease *lease, const struct error *error) {
    struct control_owner *owner = lease->arg;
    if (owner->stopping || owner->over)
        return;
    if (error == NULL) {
        put(owner);
        return;
    }
    log_warning(owner->options.log, LOG_AREA_APP, "the state store gives no lease: %s", error->text);
    look_later(owner, LOOK_MS);
}

/* Nobody else can have it before this is told: it is taken anew as soon as the store can be reached, unless somebody was faster.
 */
static void lease_lost(struct store_lease *lease) {
    struct control_owner *owner = lease->arg;
    bool held = owner->holds;
    owner->holds = false;
    if (owner->stopping || owner->over || !held)
        return;
    log_warning(owner->options.log, LOG_AREA_APP, "the lease on the name %s has run out: taking it anew", owner->options.node);
    if (!owner->asking)
        look_later(owner, 0);
}

/* ---- whose is it? ---- */

static void say_waits(struct control_owner *owner, const json_t *value) {
    const char *id = json_string_value(json_object_get(value, "id")), *at = json_string_value(json_object_get(value, "address")),
               *since = json_string_value(json_object_get(value, "since"));
    uint64_t now = now_ns(owner);
    if (owner->said_ns != 0 && now - owner->said_ns < SAY_S * NS_PER_S)
        return;
    owner->said_ns = now;
    log_warning(owner->options.log, LOG_AREA_APP,
                "the name %s belongs to another penstockd (%.36s, at %.48s, since %.40s) in this state store: waiting until it "
                "has ended, "
                "or was silent for %d s. If both are to run, give one of them another --node-name",
                owner->options.node, id == NULL ? "?" : id, at == NULL ? "?" : at, since == NULL ? "?" : since, TTL_S);
}

static bool is_own(const struct control_owner *owner, const json_t *value) {
    const char *id = json_string_value(json_object_get(value, "id"));
    return id != NULL && strcmp(id, owner->options.id) == 0;
}

static void judge(struct control_owner *owner, const struct store_entry *entry) {
    json_t *value = entry == NULL ? NULL : json_loadb(entry->value, entry->value_length, 0, NULL);
    struct error error;
    owner->seen = entry == NULL ? 0 : entry->modify_revision;
    owner->made = 0;
    if (entry == NULL || is_own(owner, value)) {
        if (entry != NULL)
            is_ours(owner, entry->create_revision);
        if (owner->lease.store == NULL)
            store_lease_grant(owner->options.store, &owner->lease);
        else
            put(owner);
        if (entry != NULL) /* whoever begins anew need not wait for its lease: what it writes meanwhile is guarded */
            tell_taken(owner);
    } else if (owner->told) {
        error_set(&error, ERROR_EXISTS, "another penstockd has taken the name %s while the state store could not be reached",
                  owner->options.node);
        lose(owner, &error);
    } else {
        say_waits(owner, value);
        look_later(owner, LOOK_MS);
    }
    json_decref(value);
}

static void looked(struct store_request *request) {
    struct control_owner *owner = request->arg;
    const struct store_result *result = request->outcome == STORE_DONE ? &request->results[0] : NULL;
    struct error error = request->error;
    bool away = result == NULL && store_is_away(request);
    if (!goes_on(owner))
        return;
    if (result != NULL) {
        judge(owner, result->count > 0 ? &result->entries[0] : NULL);
    } else if (away) {
        log_warning(owner->options.log, LOG_AREA_APP, "whose the name %s is cannot be read yet: %s", owner->options.node,
                    error.text);
        look_later(owner, AGAIN_MS); /* the request itself has waited */
    } else {
        lose(owner, &error);
    }
}

static void look(struct reactor_timer *timer) {
    struct control_owner *owner = container_of(timer, struct control_owner, timer);
    owner->request = (struct store_request){
        .verb = STORE_RANGE, .key = owner->key, .limit = 1, .timeout_ms = ASK_MS, .done = looked, .arg = owner};
    owner->asking = true;
    store_submit(owner->options.store, &owner->request);
}

/* ---- from outside ---- */

struct control_owner *control_owner_create(const struct control_owner_options *options) {
    struct control_owner *owner = calloc(1, sizeof(*owner));
    if (owner == NULL)
        return NULL;
    owner->options = *options;
    owner->timer.run = look;
    owner->job.run = tell_stopped;
    owner->lease = (struct store_lease){.ttl_s = TTL_S, .arg = owner, .granted = granted, .lost = lease_lost};
    snprintf(owner->key, sizeof(owner->key), "/penstock/%.400s/owner", options->node);
    text_format_time(host_wall_ns(options->reactor->host), owner->since, sizeof(owner->since));
    json_t *value = json_pack("{s:s, s:s, s:s}", "id", options->id, "address", options->address, "since", owner->since);
    owner->text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (owner->text != NULL)
        return owner;
    free(owner);
    return NULL;
}

void control_owner_start(struct control_owner *owner) { look_later(owner, 0); }

void control_owner_stop(struct control_owner *owner, void (*stopped)(void *arg), void *arg) {
    owner->stopping = true;
    owner->stopped = stopped;
    owner->stop_arg = arg;
    if (!owner->asking)
        leave(owner);
}

void control_owner_destroy(struct control_owner *take_owner) {
    if (take_owner == NULL)
        return;
    free(take_owner->text);
    free(take_owner);
}
