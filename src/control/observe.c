/* Observing: the listings, then the attributes of snapshots not seen before, and the snapshots of mirrors. */
#include "control/observe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LISTING_MS = 60000,
    TREE_MS = 2000,
    RETRY_MS = 1000,
    FOLLOW_MS = 60000,   /* each question what happens */
    STIR_MS = 5,         /* after something has happened: more of it may come */
    UNSETTLED_MS = 50,   /* after something did not fit: doubling … */
    UNSETTLED_TIMES = 7, /* … so many times */
    ONE_BY_ONE = 16      /* so many of a kind are listed each by itself, and an eighth of those that are known */
};

#define ATTRIBUTE_METHOD "bdev_lvol_get_xattr"
static const char *const attribute_names[] = {"user_created", "snapshot_timestamp", "penstock_operation", "snapshot_checksum"};

static void begin(struct observer *observer);
static void follow(struct observer *observer);
static void stir_in_ms(struct observer *observer, uint64_t ms);

/* ---- the end of one ---- */

static void again_later(struct observer *observer) {
    list_splice_back(&observer->served, &observer->waiting);
    list_splice_back(&observer->waiting, &observer->served);
    struct reactor *reactor = observer->plane->options.reactor;
    if (control_plane_ready(observer->plane)) /* else observer_resume() follows */
        reactor_timer_start(reactor, &observer->retry, host_now_ns(reactor->host) + RETRY_MS * NS_PER_MS);
}

/* Those who asked before it began; then the next one, if it is wanted. */
static void tell(struct observer *observer) {
    struct list told;
    list_init(&told);
    list_splice_back(&told, &observer->served);
    while (!list_empty(&told)) {
        struct observe_waiter *waiter = list_entry(list_pop_front(&told), struct observe_waiter, node);
        waiter->done(waiter);
    }
    follow(observer);
    if (!list_empty(&observer->waiting))
        begin(observer);
    else if (observer->stirred)
        stir_in_ms(observer, STIR_MS);
    else if (observer->unsettled > 0 && observer->unsettled < UNSETTLED_TIMES)
        stir_in_ms(observer, UNSETTLED_MS << observer->unsettled);
}

static void forget_touched(struct observer *observer) {
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        json_object_clear(observer->parts[kind].touched);
}

static void drop_pending(struct observer *observer) {
    while (!list_empty(&observer->pending))
        observed_attributes_unref(list_entry(list_pop_front(&observer->pending), struct observed_attributes, pending));
}

static struct observed_attributes *find_attributes(struct observer *observer, const char *uuid);

static bool wants_attributes(const struct observer *observer, const struct observation *seen,
                             const struct observed_volume *volume) {
    return seen->has_attributes && volume->snapshot && strlen(volume->uuid) < UUID_TEXT_SIZE &&
           observer->is_replica(observer->arg, volume);
}

/* A snapshot has just been put in. */
static void give_attributes(struct observer *observer, const json_t *item) {
    struct observed_volume read;
    if (!observed_volume_read(observer->seen, item, &read) || !wants_attributes(observer, observer->seen, &read))
        return;
    const struct observed_volume *found = observed_volume(observer->seen, read.store, read.name);
    struct observed_volume *volume = found == NULL ? NULL : &observer->seen->volumes[found - observer->seen->volumes];
    struct observed_attributes *attributes = find_attributes(observer, read.uuid);
    if (volume == NULL || volume->listed != item || attributes == NULL)
        return;
    attributes->references++;
    volume->attributes = attributes;
}

static void give_tree(struct observer *observer, struct observed_mirror *mirror) {
    json_decref(mirror->tree);
    mirror->tree = json_incref(json_object_get(observer->trees, mirror->name));
}

static void give_named_tree(struct observer *observer, const char *mirror) {
    const struct observed_mirror *found = observed_mirror(observer->seen, mirror);
    if (found != NULL)
        give_tree(observer, &observer->seen->mirrors[found - observer->seen->mirrors]);
}

/* What was listed again into the observation that is there. False: no memory. */
static bool bring_up_to_date(struct observer *observer) {
    const char *name;
    json_t *item;
    bool ok = !observer->other_stores || observation_set_stores(observer->seen, observer->parts[OBSERVE_STORES].listed);
    if (observer->other_transport)
        observation_set_transports(observer->seen, observer->parts[OBSERVE_TRANSPORTS].listed);
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        json_object_foreach(observer->parts[kind].touched, name, item) if (!json_is_null(item))
            observation_remove(observer->seen, (enum observe_kind)kind, item);
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        json_object_foreach(observer->parts[kind].touched, name, item) {
            json_t *now = json_object_get(observer->parts[kind].listed, name);
            if (now == NULL)
                continue;
            ok = ok && observation_add(observer->seen, (enum observe_kind)kind, now);
            if (kind == OBSERVE_DEVICES)
                give_attributes(observer, now);
            if (kind == OBSERVE_MIRRORS)
                give_named_tree(observer, name);
        }
    json_object_foreach(observer->trees_told, name, item) give_named_tree(observer, name);
    observer->seen->at_ns = observer->began_ns;
    return ok;
}

static void look_whether_settled(struct observer *observer, bool all);

static void publish(struct observer *observer) {
    bool all = observer->next != NULL;
    if (all) {
        observation_unref(observer->seen);
        observer->seen = observer->next;
        observer->next = NULL;
        observer->anew = false;
        for (size_t i = 0; i < observer->seen->mirror_count; i++)
            give_tree(observer, &observer->seen->mirrors[i]);
    } else if (!bring_up_to_date(observer)) {
        observer->anew = true;
        drop_pending(observer);
        again_later(observer);
        return;
    }
    json_object_clear(observer->trees_told);
    observer->other_stores = observer->other_transport = false;
    if (observer->follows)
        look_whether_settled(observer, all);
    drop_pending(observer);
    observer->observed(observer->arg, all);
    forget_touched(observer);
    tell(observer);
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
        drop_pending(observer);
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
    if (!answered)
        json_object_set_new(observer->attribute_doubts, attributes->uuid, json_true());
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
            .method = ATTRIBUTE_METHOD,
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
    char name[256];
};

/* One that is not had (the mirror is at work, or holds everything) is as it was before. */
static void tree_told(struct plane_call *call) {
    struct tree_call *asked = container_of(call, struct tree_call, call);
    struct observer *observer = asked->observer;
    if (call->ok) {
        json_object_set_new(observer->trees, asked->name, call->result);
        json_object_set_new(observer->trees_told, asked->name, json_true());
        json_object_del(observer->tree_doubts, asked->name);
    }
    json_decref(call->params);
    free(asked);
    details_told(observer);
}

static void ask_tree(struct observer *observer, const char *mirror) {
    struct tree_call *asked = calloc(1, sizeof(*asked));
    assert(asked != NULL);
    *asked = (struct tree_call){.observer = observer};
    snprintf(asked->name, sizeof(asked->name), "%s", mirror);
    asked->call = (struct plane_call){
        .method = "mirror_get_snapshots", .params = json_pack("{s:s}", "name", mirror), .timeout_ms = TREE_MS, .done = tree_told};
    observer->details_missing++;
    control_plane_call(observer->plane, &asked->call);
}

static bool has_tree(const struct observer *observer, const char *mirror) {
    const json_t *listed = json_object_get(observer->parts[OBSERVE_MIRRORS].listed, mirror);
    const char *state = json_string_value(json_object_get(listed, "state"));
    return state != NULL && strcmp(state, "serving") == 0 && observer->is_engine(observer->arg, mirror);
}

static void ask_trees(struct observer *observer) {
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(observer->tree_doubts, next, name, value) {
        if (json_object_get(observer->parts[OBSERVE_MIRRORS].listed, name) == NULL) {
            json_object_del(observer->trees, name);
            json_object_del(observer->tree_doubts, name);
        } else if (has_tree(observer, name)) {
            ask_tree(observer, name);
        }
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

void observer_doubt_attributes(struct observer *observer, const char *uuid) {
    struct observed_attributes *attributes = find_attributes(observer, uuid);
    if (attributes != NULL)
        attributes->known = false;
    json_object_set_new(observer->attribute_doubts, uuid, json_true());
}

/* They stay until what is going to be in the observation is there. */
static void hold_attributes(struct observer *observer, struct observed_attributes *attributes) {
    if (list_linked(&attributes->pending))
        return;
    attributes->references++;
    list_push_back(&observer->pending, &attributes->pending);
    if (!attributes->known && attributes->waiting == 0)
        ask_attributes(observer, attributes);
}

static struct observed_attributes *need_attributes(struct observer *observer, const struct observed_volume *volume) {
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
    hold_attributes(observer, attributes);
    return attributes;
}

/* Of all that is in the next observation. */
static void ask_all_attributes(struct observer *observer) {
    for (size_t i = 0; i < observer->next->volume_count; i++) {
        struct observed_volume *volume = &observer->next->volumes[i];
        if (!wants_attributes(observer, observer->next, volume))
            continue;
        volume->attributes = need_attributes(observer, volume);
        volume->attributes->references++;
    }
}

/* Of what was listed again, or is in doubt. */
static void ask_touched_attributes(struct observer *observer) {
    const char *name;
    json_t *value;
    json_object_foreach(observer->parts[OBSERVE_DEVICES].touched, name, value) {
        struct observed_volume volume;
        const json_t *item = json_object_get(observer->parts[OBSERVE_DEVICES].listed, name);
        if (item != NULL && observed_volume_read(observer->seen, item, &volume) &&
            wants_attributes(observer, observer->seen, &volume))
            need_attributes(observer, &volume);
    }
    json_object_foreach(observer->attribute_doubts, name, value) {
        struct observed_attributes *attributes = find_attributes(observer, name);
        if (attributes != NULL)
            hold_attributes(observer, attributes);
    }
}

static void ask_details(struct observer *observer) {
    observer->details_missing = 1; /* this list */
    ask_trees(observer);
    if (observer->next != NULL)
        ask_all_attributes(observer);
    else
        ask_touched_attributes(observer);
    json_object_clear(observer->attribute_doubts);
    details_told(observer);
}

/* ---- listings ---- */

/* How a kind is listed: all of it, or one by its name. */
static const struct {
    const char *method, *parameter, *key; /* parameter NULL: never one alone; key: the item's name */
} kinds[OBSERVE_KINDS] = {
    [OBSERVE_DEVICES] = {"bdev_get_bdevs", "name", "name"},
    [OBSERVE_STORES] = {"bdev_lvol_get_lvstores", NULL, NULL},
    [OBSERVE_TRANSPORTS] = {"nvmf_get_transports", NULL, NULL},
    [OBSERVE_EXPORTS] = {"nvmf_get_subsystems", "nqn", "nqn"},
    [OBSERVE_CONTROLLERS] = {"bdev_nvme_get_controllers", "name", "name"},
    [OBSERVE_MIRRORS] = {"mirror_get", "name", "name"},
};

struct listing {
    struct plane_call call;
    struct observer *observer;
    enum observe_kind kind;
    char name[256]; /* "" = all */
};

static void round_told(struct observer *observer);

static void fail(struct observer *observer, const struct plane_call *call) {
    observer->failed = true;
    if (call->code != 0 || call->error.code == ERROR_TIMED_OUT)
        log_warning(observer->log, LOG_AREA_APP, "storage plane: %s", call->error.text);
}

/* Of which there is but an array: whether it is another one. */
static bool take_array(struct observe_part *part, json_t *take_items) {
    bool same = part->listed != NULL && json_equal(part->listed, take_items);
    json_decref(part->listed);
    part->listed = take_items;
    return !same;
}

static bool same_stores(const json_t *a, const json_t *b) {
    static const char *const keys[] = {"uuid", "name", "base_bdev", "failed"};
    bool same = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; same && i < json_array_size(a); i++)
        for (unsigned k = 0; same && k < array_count(keys); k++) {
            const json_t *in_a = json_object_get(json_array_get(a, i), keys[k]),
                         *in_b = json_object_get(json_array_get(b, i), keys[k]);
            same = in_a == in_b || (in_a != NULL && in_b != NULL && json_equal(in_a, in_b));
        }
    return same;
}

static void take_stores(struct observer *observer, json_t *take_items) {
    struct observe_part *part = &observer->parts[OBSERVE_STORES];
    observer->anew = observer->anew || !same_stores(part->listed, take_items);
    observer->other_stores = take_array(part, take_items) || observer->other_stores;
}

static void take_all(struct observer *observer, enum observe_kind kind, json_t *take_items) {
    struct observe_part *part = &observer->parts[kind];
    const char *name;
    size_t i;
    json_t *item;
    if (kind == OBSERVE_TRANSPORTS) {
        observer->other_transport = take_array(part, take_items) || observer->other_transport;
        return;
    }
    observer->anew = true;
    json_object_clear(part->listed);
    if (kind == OBSERVE_DEVICES)
        json_object_clear(observer->aliases);
    json_array_foreach(take_items, i, item) {
        name = json_string_value(json_object_get(item, kinds[kind].key));
        if (name != NULL)
            observer_set_listed(observer, kind, name, item);
        if (name != NULL && kind == OBSERVE_MIRRORS)
            json_object_set_new(observer->tree_doubts, name, json_true());
    }
    json_decref(take_items);
}

/* Any refusal but a time-out says that it is not there. */
static void take_one(struct observer *observer, struct listing *asked) {
    json_t *item = asked->call.ok ? json_array_get(asked->call.result, 0) : NULL;
    const char *name = json_string_value(json_object_get(item, kinds[asked->kind].key));
    json_t *before = json_object_get(observer->parts[asked->kind].listed, name != NULL ? name : asked->name);
    if (item == NULL || (name != NULL && (before == NULL || !json_equal(before, item)))) {
        if (asked->kind == OBSERVE_DEVICES)
            observer_note_device(observer, before, item);
        observer_set_listed(observer, asked->kind, item == NULL ? asked->name : name, item);
    }
    if (asked->call.ok)
        json_decref(asked->call.result);
}

static void listed(struct plane_call *call) {
    struct listing *asked = container_of(call, struct listing, call);
    struct observer *observer = asked->observer;
    bool one = asked->name[0] != '\0', refused = !call->ok && call->code != 0;
    if (!call->ok && (!one || !refused)) {
        fail(observer, call);
        observer_doubt(observer, asked->kind, one ? asked->name : NULL);
    } else if (one) {
        take_one(observer, asked);
    } else {
        take_all(observer, asked->kind, call->result);
    }
    json_decref(call->params);
    free(asked);
    round_told(observer);
}

static void list(struct observer *observer, enum observe_kind kind, const char *name) {
    struct listing *asked = calloc(1, sizeof(*asked));
    assert(asked != NULL);
    *asked = (struct listing){.observer = observer, .kind = kind};
    snprintf(asked->name, sizeof(asked->name), "%s", name);
    asked->call = (struct plane_call){.method = kinds[kind].method,
                                      .params = name[0] == '\0' ? NULL : json_pack("{s:s}", kinds[kind].parameter, name),
                                      .timeout_ms = LISTING_MS,
                                      .done = listed};
    observer->answers_missing++;
    control_plane_call(observer->plane, &asked->call);
}

/* Lists what is in doubt. False: nothing is. */
static bool list_doubts(struct observer *observer) {
    bool any = false;
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        struct observe_part *part = &observer->parts[kind];
        size_t doubts = json_object_size(part->doubts);
        const char *name;
        json_t *value;
        if (kind == OBSERVE_STORES || (!part->all && doubts == 0))
            continue;
        if (kind >= OBSERVE_CONTROLLERS && !control_plane_can(observer->plane, kinds[kind].method)) {
            part->all = false; /* a plane without them */
            json_object_clear(part->doubts);
            continue;
        }
        any = true;
        json_t *names = part->doubts;
        part->doubts = json_object(); /* answers come with doubts of their own */
        if (part->all || doubts > ONE_BY_ONE + json_object_size(part->listed) / 8)
            list(observer, (enum observe_kind)kind, "");
        else
            json_object_foreach(names, name, value) list(observer, (enum observe_kind)kind, name);
        part->all = false;
        json_decref(names);
    }
    return any;
}

/* ---- one observation: stores, events, what is in doubt ---- */

static json_t *items_of(const struct observer *observer, enum observe_kind kind) {
    const char *name;
    json_t *listed = observer->parts[kind].listed, *item, *items;
    if (kind >= OBSERVE_CONTROLLERS && !control_plane_can(observer->plane, kinds[kind].method))
        return NULL;
    if (kinds[kind].key == NULL)
        return json_incref(listed);
    items = json_array();
    json_object_foreach(listed, name, item) json_array_append(items, item);
    return items;
}

/* A volume whose parent or child is not there is being changed: nobody tells when that is done. */
static bool fits(const struct observation *seen, const struct observed_volume *volume, const json_t *lvol) {
    size_t i;
    const json_t *child;
    if (volume->parent != NULL && observed_volume(seen, volume->store, volume->parent) == NULL)
        return false;
    json_array_foreach(json_object_get(lvol, "clones"), i,
                       child) if (observed_volume(seen, volume->store, json_string_value(child)) == NULL) return false;
    return true;
}

/* Those that do not are listed again. */
static bool is_fit(struct observer *observer, const char *name) {
    json_t *device = json_object_get(observer->parts[OBSERVE_DEVICES].listed, name);
    struct observed_volume volume;
    if (device == NULL || !observed_volume_read(observer->seen, device, &volume) ||
        fits(observer->seen, &volume, json_object_get(json_object_get(device, "driver_specific"), "lvol")))
        return true;
    observer_doubt(observer, OBSERVE_DEVICES, name);
    return false;
}

static void look_whether_settled(struct observer *observer, bool all) {
    const char *name;
    json_t *value;
    void *next;
    if (observer->unsettled >= UNSETTLED_TIMES) /* it stays so, whatever it is */
        json_object_clear(observer->unfit);
    json_object_foreach(observer->parts[OBSERVE_DEVICES].touched, name, value)
        json_object_set_new(observer->unfit, name, json_true());
    if (all)
        json_object_foreach(observer->parts[OBSERVE_DEVICES].listed, name, value)
            json_object_set_new(observer->unfit, name, json_true());
    json_object_foreach_safe(observer->unfit, next, name, value) if (is_fit(observer, name))
        json_object_del(observer->unfit, name);
    observer->unsettled = json_object_size(observer->unfit) == 0 ? 0 : observer->unsettled + 1;
}

static void made(struct observer *observer) {
    if (!observer->anew) {
        ask_details(observer);
        return;
    }
    json_t *items[OBSERVE_KINDS];
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        items[kind] = items_of(observer, (enum observe_kind)kind);
    observer->next = observation_make(&(struct observation_answers){.devices = items[OBSERVE_DEVICES],
                                                                    .stores = items[OBSERVE_STORES],
                                                                    .transports = items[OBSERVE_TRANSPORTS],
                                                                    .exports = items[OBSERVE_EXPORTS],
                                                                    .controllers = items[OBSERVE_CONTROLLERS],
                                                                    .mirrors = items[OBSERVE_MIRRORS]});
    if (observer->next == NULL) {
        again_later(observer);
        return;
    }
    observer->next->at_ns = observer->began_ns;
    observer->next->has_attributes = control_plane_can(observer->plane, ATTRIBUTE_METHOD);
    ask_details(observer);
}

static bool has_news(const struct observer *observer) {
    bool news =
        observer->anew || observer->other_stores || observer->other_transport || json_object_size(observer->attribute_doubts) > 0;
    const char *name;
    json_t *value;
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++)
        news = news || json_object_size(observer->parts[kind].touched) > 0;
    json_object_foreach(observer->tree_doubts, name, value) news = news || has_tree(observer, name);
    return news;
}

static void round_told(struct observer *observer) {
    if (--observer->answers_missing != 0)
        return;
    if (observer->failed) {
        again_later(observer);
        return;
    }
    observer->answers_missing = 1; /* this list */
    bool more = list_doubts(observer);
    observer->answers_missing--;
    if (more && observer->answers_missing > 0)
        return;
    if (has_news(observer)) {
        made(observer);
        return;
    }
    if (observer->follows)
        look_whether_settled(observer, false);
    tell(observer);
}

static void events_told(struct plane_call *call) {
    struct observer *observer = call->arg;
    if (call->ok) {
        observer_note_events(observer, call->result);
        json_decref(call->result);
    } else {
        fail(observer, call);
    }
    json_decref(call->params);
    round_told(observer);
}

/* Stores first: the volumes of a store that is listed are in a listing, or in events, that were asked for afterwards. The other
 * way round a store that is being opened would be seen without them. */
static void stores_told(struct plane_call *call) {
    struct observer *observer = call->arg;
    if (call->ok)
        take_stores(observer, call->result);
    else
        fail(observer, call);
    if (observer->failed || !control_plane_ready(observer->plane)) {
        observer->failed = true;
        round_told(observer);
        return;
    }
    uint64_t now = observer->began_ns;
    if (!observer->follows || now - observer->full_ns >= OBSERVE_FULL_S * NS_PER_S || observer->full_ns == 0) {
        observer_doubt_all(observer);
        observer->full_ns = now;
    }
    observer->events = (struct plane_call){.method = "notify_get_notifications",
                                           .params = json_pack("{s:I}", "id", (json_int_t)observer->next_event),
                                           .timeout_ms = LISTING_MS,
                                           .done = events_told,
                                           .arg = observer};
    if (observer->follows)
        control_plane_call(observer->plane, &observer->events);
    else
        round_told(observer);
}

static bool busy(const struct observer *observer) {
    return observer->answers_missing != 0 || observer->details_missing != 0 || reactor_timer_armed(&observer->retry);
}

static void begin(struct observer *observer) {
    if (busy(observer) || !control_plane_ready(observer->plane))
        return;
    reactor_timer_stop(observer->plane->options.reactor, &observer->stir);
    list_splice_back(&observer->served, &observer->waiting);
    observer->failed = observer->stirred = false;
    observer->began_ns = host_now_ns(observer->plane->options.reactor->host);
    observer->answers_missing = 1;
    observer->stores = (struct plane_call){
        .method = kinds[OBSERVE_STORES].method, .timeout_ms = LISTING_MS, .done = stores_told, .arg = observer};
    control_plane_call(observer->plane, &observer->stores);
}

static void retry(struct reactor_timer *timer) { begin(container_of(timer, struct observer, retry)); }

/* ---- following ---- */

static void stir(struct reactor_timer *timer) { begin(container_of(timer, struct observer, stir)); }

static void stir_in_ms(struct observer *observer, uint64_t ms) {
    struct reactor *reactor = observer->plane->options.reactor;
    if (!reactor_timer_armed(&observer->stir))
        reactor_timer_start(reactor, &observer->stir, host_now_ns(reactor->host) + ms * NS_PER_MS);
}

/* What happens is fetched with the next observation, which is soon. */
static void followed(struct plane_call *call) {
    struct observer *observer = call->arg;
    bool some = call->ok && json_array_size(call->result) > 0, ok = call->ok;
    observer->is_following = false;
    if (ok)
        json_decref(call->result);
    json_decref(call->params);
    if (some && busy(observer))
        observer->stirred = true;
    else if (some)
        stir_in_ms(observer, STIR_MS);
    else if (ok)
        follow(observer);
    /* else the plane is gone, or what happens is seen with the next observation */
}

static void follow(struct observer *observer) {
    if (observer->is_following || !observer->follows || !control_plane_ready(observer->plane))
        return;
    observer->is_following = true;
    observer->following = (struct plane_call){
        .method = "notify_wait",
        .params = json_pack("{s:I, s:i, s:i}", "id", (json_int_t)observer->next_event, "max", 1, "wait_ms", (int)FOLLOW_MS),
        .timeout_ms = FOLLOW_MS + LISTING_MS,
        .done = followed,
        .arg = observer};
    control_plane_call(observer->plane, &observer->following);
}

/* ---- what others call ---- */

void observer_init(struct observer *observer, struct control_plane *plane, struct log *log) {
    *observer = (struct observer){.plane = plane, .log = log, .retry.run = retry, .stir.run = stir};
    list_init(&observer->waiting);
    list_init(&observer->served);
    hash_map_init(&observer->attributes);
    list_init(&observer->pending);
    observer->anew = true;
    observer->aliases = json_object();
    observer->trees = json_object();
    observer->tree_doubts = json_object();
    observer->trees_told = json_object();
    observer->attribute_doubts = json_object();
    observer->unfit = json_object();
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        observer->parts[kind].listed = kinds[kind].key == NULL ? json_array() : json_object();
        observer->parts[kind].doubts = json_object();
        observer->parts[kind].touched = json_object();
    }
}

void observer_fini(struct observer *observer) {
    assert(observer->answers_missing == 0 && observer->details_missing == 0 && !observer->is_following);
    reactor_timer_stop(observer->plane->options.reactor, &observer->retry);
    reactor_timer_stop(observer->plane->options.reactor, &observer->stir);
    observation_unref(observer->seen);
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        json_decref(observer->parts[kind].listed);
        json_decref(observer->parts[kind].doubts);
        json_decref(observer->parts[kind].touched);
    }
    json_decref(observer->aliases);
    json_decref(observer->trees);
    json_decref(observer->tree_doubts);
    json_decref(observer->trees_told);
    json_decref(observer->attribute_doubts);
    json_decref(observer->unfit);
    assert(observer->attributes.count == 0);
    hash_map_fini(&observer->attributes);
}

void observer_ask(struct observer *observer, struct observe_waiter *waiter) {
    list_push_back(&observer->waiting, &waiter->node);
    begin(observer);
}

void observer_resume(struct observer *observer) {
    reactor_timer_stop(observer->plane->options.reactor, &observer->retry);
    observer->follows = control_plane_can(observer->plane, "notify_wait");
    observer->next_event = 0;
    observer->full_ns = 0;
    observer->unsettled = 0;
    observer->anew = true;
    if (!list_empty(&observer->waiting))
        begin(observer);
}
