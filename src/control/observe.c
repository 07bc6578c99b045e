/* Observing: the listings, then the attributes of snapshots not seen before, and the snapshots of mirrors. */
#include "control/observe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LISTING_MS = 60000, TREE_MS = 2000, RETRY_MS = 1000 };

/* In the order of struct observation_answers. */
enum { DEVICES, STORES, TRANSPORTS, EXPORTS, CONTROLLERS, MIRRORS };
static const char *const listings[OBSERVE_LISTINGS] = {"bdev_get_bdevs",      "bdev_lvol_get_lvstores",    "nvmf_get_transports",
                                                       "nvmf_get_subsystems", "bdev_nvme_get_controllers", "mirror_get"};
static const char *const attribute_names[] = {"user_created", "snapshot_timestamp", "penstock_operation", "snapshot_checksum"};

static void begin(struct observer *observer);

/* ---- the end of one ---- */

static void again_later(struct observer *observer) {
    list_splice_back(&observer->served, &observer->waiting);
    list_splice_back(&observer->waiting, &observer->served);
    struct reactor *reactor = observer->plane->options.reactor;
    if (control_plane_ready(observer->plane)) /* else observer_resume() follows */
        reactor_timer_start(reactor, &observer->retry, host_now_ns(reactor->host) + RETRY_MS * NS_PER_MS);
}

static void publish(struct observer *observer) {
    observation_unref(observer->seen);
    observer->seen = observer->next;
    observer->next = NULL;
    observer->observed(observer->arg);
    struct list told;
    list_init(&told);
    list_splice_back(&told, &observer->served);
    while (!list_empty(&told)) {
        struct observe_waiter *waiter = list_entry(list_pop_front(&told), struct observe_waiter, node);
        waiter->done(waiter);
    }
    if (!list_empty(&observer->waiting))
        begin(observer);
}

/* ---- attributes ---- */

struct attribute_call {
    struct plane_call call;
    struct observer *observer;
    struct observed_attributes *attributes;
    unsigned which;
};

static struct observed_attributes *find_attributes(struct observer *observer, const char *uuid) {
    for (struct hash_node *n = hash_map_first(&observer->attributes, hash_text(uuid)); n != NULL; n = hash_map_next(n)) {
        struct observed_attributes *attributes = container_of(n, struct observed_attributes, node);
        if (strcmp(attributes->uuid, uuid) == 0)
            return attributes;
    }
    return NULL;
}

static void details_told(struct observer *observer) {
    if (--observer->details_missing != 0)
        return;
    if (observer->failed) {
        observation_unref(observer->next);
        observer->next = NULL;
        again_later(observer);
    } else {
        publish(observer);
    }
}

static void attribute_told(struct plane_call *call) {
    struct attribute_call *asked = container_of(call, struct attribute_call, call);
    struct observer *observer = asked->observer;
    struct observed_attributes *attributes = asked->attributes;
    const char *value = call->ok ? json_string_value(call->result) : NULL;
    /* An attribute that is not there is an answer, too; a volume that went meanwhile is in no later listing. */
    bool answered = call->ok || call->code != 0;
    if (value != NULL && asked->which == 0)
        attributes->user_created = strcmp(value, "true") == 0;
    else if (value != NULL && asked->which == 1)
        snprintf(attributes->timestamp, sizeof(attributes->timestamp), "%s", value);
    else if (value != NULL && asked->which == 2)
        snprintf(attributes->operation, sizeof(attributes->operation), "%s", value);
    else if (answered && asked->which == 3)
        snprintf(attributes->checksum, sizeof(attributes->checksum), "%s", value != NULL ? value : "");
    if (call->ok)
        json_decref(call->result);
    json_decref(call->params);
    attributes->known &= answered;
    attributes->waiting--;
    observer->failed |= !answered;
    free(asked);
    details_told(observer);
}

static void ask_attributes(struct observer *observer, struct observed_attributes *attributes) {
    for (unsigned which = 0; which < array_count(attribute_names); which++) {
        struct attribute_call *asked = calloc(1, sizeof(*asked));
        assert(asked != NULL);
        *asked = (struct attribute_call){.observer = observer, .attributes = attributes, .which = which};
        asked->call = (struct plane_call){
            .method = "bdev_lvol_get_xattr",
            .params = json_pack("{s:s, s:s}", "name", attributes->uuid, "xattr_name", attribute_names[which]),
            .timeout_ms = LISTING_MS,
            .done = attribute_told,
        };
        attributes->waiting++;
        attributes->known = true; /* unless one of them does not come */
        observer->details_missing++;
        control_plane_call(observer->plane, &asked->call);
    }
}

/* ---- trees of mirrors ---- */

struct tree_call {
    struct plane_call call;
    struct observer *observer;
    size_t mirror; /* of the next observation */
};

/* One that is not had (the mirror is at work, or holds everything) is as it was before. */
static void tree_told(struct plane_call *call) {
    struct tree_call *asked = container_of(call, struct tree_call, call);
    struct observer *observer = asked->observer;
    struct observed_mirror *mirror = &observer->next->mirrors[asked->mirror];
    if (call->ok) {
        json_decref(mirror->tree);
        mirror->tree = call->result;
    }
    json_decref(call->params);
    free(asked);
    details_told(observer);
}

static void ask_trees(struct observer *observer) {
    for (size_t i = 0; i < observer->next->mirror_count; i++) {
        struct observed_mirror *mirror = &observer->next->mirrors[i];
        const struct observed_mirror *before = observer->seen == NULL ? NULL : observed_mirror(observer->seen, mirror->name);
        if (before != NULL)
            mirror->tree = json_incref(before->tree);
        if (strcmp(mirror->state, "serving") != 0 || !observer->is_engine(observer->arg, mirror->name))
            continue;
        struct tree_call *asked = calloc(1, sizeof(*asked));
        assert(asked != NULL);
        *asked = (struct tree_call){.observer = observer, .mirror = i};
        asked->call = (struct plane_call){.method = "mirror_get_snapshots",
                                          .params = json_pack("{s:s}", "name", mirror->name),
                                          .timeout_ms = TREE_MS,
                                          .done = tree_told};
        observer->details_missing++;
        control_plane_call(observer->plane, &asked->call);
    }
}

/* Its parent was merged into it, or it was given another one: its checksum is gone. */
static void note_parent(struct observed_attributes *attributes, const char *parent) {
    if ((parent == NULL) == (attributes->parent == NULL) && (parent == NULL || strcmp(parent, attributes->parent) == 0))
        return;
    free(attributes->parent);
    attributes->parent = parent == NULL ? NULL : strdup(parent);
    assert(parent == NULL || attributes->parent != NULL);
    attributes->known = false;
}

void observer_doubt(struct observer *observer, const char *uuid) {
    struct observed_attributes *attributes = find_attributes(observer, uuid);
    if (attributes != NULL)
        attributes->known = false;
}

static void ask_details(struct observer *observer) {
    observer->details_missing = 1; /* this loop */
    ask_trees(observer);
    for (size_t i = 0; i < observer->next->volume_count; i++) {
        struct observed_volume *volume = &observer->next->volumes[i];
        if (!volume->snapshot || strlen(volume->uuid) >= UUID_TEXT_SIZE || !observer->is_replica(observer->arg, volume))
            continue;
        struct observed_attributes *attributes = find_attributes(observer, volume->uuid);
        if (attributes == NULL) {
            attributes = calloc(1, sizeof(*attributes));
            assert(attributes != NULL);
            attributes->map = &observer->attributes;
            snprintf(attributes->uuid, sizeof(attributes->uuid), "%s", volume->uuid);
            bool ok = hash_map_insert(&observer->attributes, &attributes->node, hash_text(attributes->uuid));
            assert(ok);
        }
        note_parent(attributes, volume->parent);
        if (!attributes->known && attributes->waiting == 0)
            ask_attributes(observer, attributes);
        attributes->references++;
        volume->attributes = attributes;
    }
    details_told(observer);
}

/* ---- listings ---- */

static void ask_listing(struct observer *observer, unsigned which);

/* Stores first: the volumes of a store that is listed are in a listing that was asked for afterwards. The other way round a store
 * that is being opened would be seen without them. */
static void go_on(struct observer *observer) {
    for (unsigned i = 0; i < array_count(listings) && !observer->failed; i++)
        if (i != STORES && (i < CONTROLLERS || control_plane_can(observer->plane, listings[i]))) {
            observer->answers_missing++;
            ask_listing(observer, i);
        }
}

static void listed(struct plane_call *call) {
    struct observer *observer = call->arg;
    if (!call->ok) {
        observer->failed = true;
        if (call->code != 0 || call->error.code == ERROR_TIMED_OUT)
            log_warning(observer->log, LOG_AREA_APP, "storage plane: %s", call->error.text);
    }
    if (call == &observer->calls[STORES]) {
        observer->failed |= !control_plane_ready(observer->plane);
        go_on(observer);
    }
    if (--observer->answers_missing != 0)
        return;
    json_t *results[OBSERVE_LISTINGS];
    for (unsigned i = 0; i < OBSERVE_LISTINGS; i++)
        results[i] = observer->calls[i].ok ? observer->calls[i].result : NULL;
    if (observer->failed) {
        for (unsigned i = 0; i < OBSERVE_LISTINGS; i++)
            json_decref(results[i]);
        again_later(observer);
        return;
    }
    observer->next = observation_make(&(struct observation_answers){.devices = results[DEVICES],
                                                                    .stores = results[STORES],
                                                                    .transports = results[TRANSPORTS],
                                                                    .exports = results[EXPORTS],
                                                                    .controllers = results[CONTROLLERS],
                                                                    .mirrors = results[MIRRORS]});
    if (observer->next == NULL) {
        again_later(observer);
        return;
    }
    observer->next->at_ns = observer->began_ns;
    ask_details(observer);
}

static void ask_listing(struct observer *observer, unsigned which) {
    observer->calls[which] =
        (struct plane_call){.method = listings[which], .timeout_ms = LISTING_MS, .done = listed, .arg = observer};
    control_plane_call(observer->plane, &observer->calls[which]);
}

static bool busy(const struct observer *observer) {
    return observer->answers_missing != 0 || observer->details_missing != 0 || reactor_timer_armed(&observer->retry);
}

static void begin(struct observer *observer) {
    if (busy(observer) || !control_plane_ready(observer->plane))
        return;
    list_splice_back(&observer->served, &observer->waiting);
    observer->failed = false;
    observer->began_ns = host_now_ns(observer->plane->options.reactor->host);
    observer->answers_missing = 1;
    memset(observer->calls, 0, sizeof(observer->calls));
    ask_listing(observer, STORES);
}

static void retry(struct reactor_timer *timer) { begin(container_of(timer, struct observer, retry)); }

void observer_init(struct observer *observer, struct control_plane *plane, struct log *log) {
    *observer = (struct observer){.plane = plane, .log = log, .retry.run = retry};
    list_init(&observer->waiting);
    list_init(&observer->served);
    hash_map_init(&observer->attributes);
}

void observer_fini(struct observer *observer) {
    assert(observer->answers_missing == 0 && observer->details_missing == 0);
    reactor_timer_stop(observer->plane->options.reactor, &observer->retry);
    observation_unref(observer->seen);
    assert(observer->attributes.count == 0);
    hash_map_fini(&observer->attributes);
}

void observer_ask(struct observer *observer, struct observe_waiter *waiter) {
    list_push_back(&observer->waiting, &waiter->node);
    begin(observer);
}

void observer_resume(struct observer *observer) {
    reactor_timer_stop(observer->plane->options.reactor, &observer->retry);
    if (!list_empty(&observer->waiting))
        begin(observer);
}
