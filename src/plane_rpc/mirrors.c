#include "plane_rpc/mirrors.h"

#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/examine.h"
#include "plane_rpc/stores.h"

enum { DELTA_KEPT_S = 600 };

/* The look at a mirror that has begun to serve; may outlive it. */
struct plane_mirror_look {
    struct plane_examine examine;
    struct plane_mirror *mirror; /* NULL: gone */
};

/* ---- being told ---- */

static void created(struct plane_mirror *mirror, const struct error *error) {
    void (*done)(void *, struct plane_mirror *, const struct error *) = mirror->created;
    mirror->created = NULL;
    if (done != NULL)
        done(mirror->created_arg, error == NULL ? mirror : NULL, error);
}

static void forget(struct plane_mirror *mirror) {
    list_remove(&mirror->node);
    hash_map_remove(&mirror->plane->mirror_names, &mirror->by_name);
    list_for_each_safe (&mirror->deltas, struct plane_mirror_delta, delta, node)
        plane_mirror_forget_delta(delta);
    if (mirror->look != NULL)
        mirror->look->mirror = NULL;
    if (mirror->deleted != NULL)
        mirror->deleted(mirror->deleted_arg);
    free(mirror);
}

static void gone(void *arg) {
    struct plane_mirror *mirror = arg;
    log_notice(&mirror->plane->log, LOG_AREA_MIRROR, "mirror %s is deleted; its legs are free", mirror->name);
    if (mirror->failure.code == ERROR_NONE)
        error_set(&mirror->failure, ERROR_CANCELLED, "mirror %s was deleted", mirror->name);
    created(mirror, &mirror->failure);
    forget(mirror);
}

/* It cannot serve. Where somebody waits for it to be made, it is ended, and he is told why when its legs are free. */
static void failed(struct plane_mirror *mirror) {
    if (mirror->keep || mirror->created == NULL || mirror->deleting)
        return;
    mirror->failure = mirror->status.error;
    plane_mirror_delete(mirror, NULL, NULL, NULL);
}

static void examined(struct plane_examine *examine) {
    struct plane_mirror_look *look = container_of(examine, struct plane_mirror_look, examine);
    struct plane_mirror *mirror = look->mirror;
    free(look);
    if (mirror == NULL)
        return;
    mirror->look = NULL;
    created(mirror, NULL);
}

/* It serves for the first time: there may be a store on it. Who made it is answered when that is known. */
static void examine(struct plane_mirror *mirror) {
    mirror->look = calloc(1, sizeof(*mirror->look));
    if (mirror->look == NULL) {
        created(mirror, NULL);
        return;
    }
    mirror->look->mirror = mirror;
    mirror->look->examine.done = examined;
    plane_examine_automatically(mirror->plane, mirror->device, &mirror->look->examine);
}

static void leg_event(struct plane_mirror *mirror, const struct mirror_event *event) {
    struct plane *plane = mirror->plane;
    struct mirror_leg_status *leg = &mirror->status.legs[event->leg];
    bool loss = event->before == MIRROR_LEG_WHOLE || event->before == MIRROR_LEG_SYNCING;
    bool bad = loss && event->state != MIRROR_LEG_WHOLE && event->state != MIRROR_LEG_SYNCING;
    char text[NOTIFY_CONTEXT_SIZE];
    leg->state = (enum mirror_leg_state)event->state;
    leg->since_ns = event->at_ns;
    memcpy(leg->name, event->name, sizeof(leg->name));
    mirror->status.leg_count = max_u32(mirror->status.leg_count, (unsigned)event->leg + 1);
    snprintf(leg->why, sizeof(leg->why), "%.*s", (int)sizeof(leg->why) - 1, event->why);
    if (bad) {
        mirror->legs_set_aside++;
        mirror->legs[event->leg].set_aside++;
    }
    snprintf(text, sizeof(text), "%.80s %.80s %s%s%.60s", mirror->name, leg->name,
             mirror_leg_state_name((enum mirror_leg_state)event->state), event->why[0] != '\0' ? ": " : "", event->why);
    plane_notify(plane, "mirror_leg", text);
    log_write(&plane->log,
              bad || event->state == MIRROR_LEG_DIVERGED       ? LOG_LEVEL_WARNING
              : event->state == MIRROR_LEG_CONNECTING && !loss ? LOG_LEVEL_INFO
                                                               : LOG_LEVEL_NOTICE,
              LOG_AREA_MIRROR, "mirror %s: leg %s is %s, was %s%s%s", mirror->name, leg->name,
              mirror_leg_state_name((enum mirror_leg_state)event->state),
              mirror_leg_state_name((enum mirror_leg_state)event->before), event->why[0] != '\0' ? ": " : "", event->why);
}

static void own_event(struct plane_mirror *mirror, const struct mirror_event *event) {
    static const enum log_level levels[] = {
        [MIRROR_CONFIGURING] = LOG_LEVEL_NOTICE, [MIRROR_STARTING] = LOG_LEVEL_INFO,  [MIRROR_SERVING] = LOG_LEVEL_NOTICE,
        [MIRROR_HOLDING] = LOG_LEVEL_ERROR,      [MIRROR_STANDBY] = LOG_LEVEL_NOTICE, [MIRROR_REFUSED] = LOG_LEVEL_ERROR,
        [MIRROR_ENDED] = LOG_LEVEL_ERROR};
    struct plane *plane = mirror->plane;
    enum mirror_state state = (enum mirror_state)event->state;
    char text[NOTIFY_CONTEXT_SIZE];
    mirror->status.state = state;
    mirror->status.error = event->error;
    mirror->since_wall_ns = host_wall_ns(plane->host);
    const char *why = event->error.code != ERROR_NONE ? event->error.text : "";
    snprintf(text, sizeof(text), "%.80s %s%s%.120s", mirror->name, mirror_state_name(state), why[0] != '\0' ? ": " : "", why);
    plane_notify(plane, "mirror_state", text);
    log_write(&plane->log, levels[state], LOG_AREA_MIRROR, "mirror %s is %s%s%s", mirror->name, mirror_state_name(state),
              why[0] != '\0' ? ": " : "", why);
    switch (state) {
    case MIRROR_SERVING:
        if (!mirror->served)
            examine(mirror);
        mirror->served = true;
        plane_wake_waiters(plane);
        break;
    case MIRROR_CONFIGURING:
        if (event->error.code != ERROR_NONE)
            created(mirror, NULL);
        break;
    case MIRROR_REFUSED:
    case MIRROR_ENDED: failed(mirror); break;
    case MIRROR_STANDBY: created(mirror, NULL); break; /* what it waits for is its promotion */
    case MIRROR_STARTING:
    case MIRROR_HOLDING: break;
    }
}

static void verify_event(struct plane_mirror *mirror, const struct mirror_event *event) {
    const char *state = mirror_verify_state_name((enum mirror_verify_state)event->state);
    char text[NOTIFY_CONTEXT_SIZE];
    snprintf(text, sizeof(text), "%.80s %s%s%s", mirror->name, state, event->why[0] != '\0' ? ": " : "", event->why);
    plane_notify(mirror->plane, "mirror_verify", text);
    log_notice(&mirror->plane->log, LOG_AREA_MIRROR, "mirror %s: verify is %s%s%s", mirror->name, state,
               event->why[0] != '\0' ? ": " : "", event->why);
}

static void heard(void *arg, struct block_device *device, const struct mirror_event *event) {
    struct plane_mirror *mirror = arg;
    (void)device;
    mirror->events_dropped = event->dropped;
    if (event->leg >= 0)
        leg_event(mirror, event);
    else if (event->leg == MIRROR_EVENT_VERIFY)
        verify_event(mirror, event);
    else
        own_event(mirror, event);
}

/* ---- making ---- */

/* Where the first leg lives that has a home, else the data reactor with the fewest mirrors: one hop less for each request. */
static struct reactor *pick_home(const struct plane_mirror *mirror) {
    struct plane *plane = mirror->plane;
    unsigned best = 0, fewest = UINT32_MAX;
    for (unsigned i = 0; i < mirror->options.leg_count; i++) {
        const struct block_device *device = block_graph_find(&plane->graph, mirror->legs[i].name);
        if (device != NULL && device->home != NULL)
            return device->home;
    }
    for (unsigned i = 0; i < plane->reactor_count; i++) {
        unsigned count = 0;
        list_for_each (&plane->mirrors, struct plane_mirror, other, node)
            count += other != mirror && other->device->home == plane->reactors[i];
        if (count < fewest) {
            best = i;
            fewest = count;
        }
    }
    return plane->reactors[best];
}

static bool check(struct plane *plane, const struct mirror_options *options, struct error *error) {
    if (plane_mirror_find(plane, options->name) != NULL || block_graph_find(&plane->graph, options->name) != NULL) {
        error_invalid(error, "name", options->name, "a name that is not taken");
        error->code = ERROR_EXISTS;
        return false;
    }
    if (options->leg_count == 0 || options->leg_count > MIRROR_LEGS_MAX)
        return error_invalid(error, "legs", options->leg_count == 0 ? "0" : "too many", "one to %u legs", MIRROR_LEGS_MAX);
    for (unsigned i = 0; i < options->leg_count; i++) {
        if (options->legs[i].device[0] == '\0' || strlen(options->legs[i].device) >= BLOCK_NAME_SIZE)
            return error_invalid(error, "legs", options->legs[i].device, "names of devices");
        for (unsigned j = 0; j < i; j++)
            if (strcmp(options->legs[i].device, options->legs[j].device) == 0) {
                error_invalid(error, "legs", options->legs[i].device, "each leg once");
                return false;
            }
    }
    return true;
}

void plane_mirror_create(struct plane *plane, const struct mirror_options *options, bool keep,
                         void (*done)(void *arg, struct plane_mirror *mirror, const struct error *error), void *arg) {
    struct error error;
    if (!check(plane, options, &error)) {
        done(arg, NULL, &error);
        return;
    }
    struct plane_mirror *mirror = calloc(1, sizeof(*mirror));
    bool ok = mirror != NULL;
    if (ok) {
        *mirror = (struct plane_mirror){.plane = plane,
                                        .options = *options,
                                        .keep = keep,
                                        .since_wall_ns = host_wall_ns(plane->host),
                                        .created = done,
                                        .created_arg = arg,
                                        .status.leg_count = options->leg_count};
        ok = hash_map_insert(&plane->mirror_names, &mirror->by_name, hash_text(options->name));
    }
    if (!ok) {
        free(mirror);
        error_set(&error, ERROR_NO_MEMORY, "no memory for %s", options->name);
        done(arg, NULL, &error);
        return;
    }
    list_init(&mirror->deltas);
    snprintf(mirror->name, sizeof(mirror->name), "%s", options->name);
    mirror->options.name = mirror->name;
    mirror->options.event = heard;
    mirror->options.gone = gone;
    mirror->options.event_arg = mirror;
    for (unsigned i = 0; i < options->leg_count; i++) {
        snprintf(mirror->legs[i].name, sizeof(mirror->legs[i].name), "%s", options->legs[i].device);
        snprintf(mirror->status.legs[i].name, sizeof(mirror->status.legs[i].name), "%s", options->legs[i].device);
        mirror->options.legs[i].device = mirror->legs[i].name;
    }
    list_push_back(&plane->mirrors, &mirror->node);
    mirror->options.home = pick_home(mirror);
    if (!mirror_create(&plane->graph, plane->control, &mirror->options, &mirror->device, &error)) {
        created(mirror, &error);
        forget(mirror);
        return;
    }
    if (keep) /* what follows is told by events */
        created(mirror, NULL);
}

/* ---- finding, ending ---- */

bool plane_mirror_delete(struct plane_mirror *mirror, void (*deleted)(void *arg), void *arg, struct error *error) {
    if (mirror->deleting)
        return error_set(error, ERROR_BUSY, "mirror %s is being deleted", mirror->name);
    mirror->deleted = deleted;
    mirror->deleted_arg = arg;
    if (!mirror_delete(mirror->device, NULL, NULL, error))
        return false;
    mirror->deleting = true;
    return true;
}

struct plane_mirror *plane_mirror_find(struct plane *plane, const char *name) {
    for (struct hash_node *n = hash_map_first(&plane->mirror_names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct plane_mirror *mirror = container_of(n, struct plane_mirror, by_name);
        if (strcmp(mirror->name, name) == 0)
            return mirror;
    }
    const struct block_device *device = block_graph_find(&plane->graph, name);
    return device == NULL ? NULL : plane_mirror_of(plane, device);
}

struct plane_mirror *plane_mirror_of(struct plane *plane, const struct block_device *device) {
    struct plane_mirror *mirror = mirror_is(device) ? mirror_event_arg(device) : NULL;
    return mirror != NULL && mirror->plane == plane && mirror->device == device ? mirror : NULL; /* not while it is being made */
}

struct plane_mirror *plane_mirror_with_leg(struct plane *plane, const char *leg) {
    list_for_each (&plane->mirrors, struct plane_mirror, mirror, node) {
        for (unsigned i = 0; i < mirror->status.leg_count; i++)
            if (leg[0] != '\0' && strcmp(mirror->status.legs[i].name, leg) == 0)
                return mirror;
    }
    return NULL;
}

/* ---- what legs had missed ---- */

void plane_mirror_forget_delta(struct plane_mirror_delta *delta) {
    reactor_timer_stop(delta->mirror->plane->control, &delta->end);
    list_remove(&delta->node);
    free(delta->bitmap);
    free(delta);
}

static void delta_ends(struct reactor_timer *timer) {
    plane_mirror_forget_delta(container_of(timer, struct plane_mirror_delta, end));
}

bool plane_mirror_keep_delta(struct plane_mirror *mirror, const char *leg, uint64_t *take_bitmap, uint64_t regions,
                             struct error *error) {
    struct reactor *control = mirror->plane->control;
    struct plane_mirror_delta *delta = plane_mirror_delta_of(mirror->plane, leg);
    if (delta != NULL)
        plane_mirror_forget_delta(delta);
    delta = calloc(1, sizeof(*delta));
    if (delta == NULL) {
        free(take_bitmap);
        return error_set(error, ERROR_NO_MEMORY, "no memory to keep what %s has missed", leg);
    }
    *delta = (struct plane_mirror_delta){.mirror = mirror, .bitmap = take_bitmap, .regions = regions, .end.run = delta_ends};
    snprintf(delta->leg, sizeof(delta->leg), "%s", leg);
    list_push_back(&mirror->deltas, &delta->node);
    reactor_timer_start(control, &delta->end, reactor_now_ns(control) + DELTA_KEPT_S * NS_PER_S);
    return true;
}

struct plane_mirror_delta *plane_mirror_delta_of(struct plane *plane, const char *leg) {
    list_for_each (&plane->mirrors, struct plane_mirror, mirror, node) {
        list_for_each (&mirror->deltas, struct plane_mirror_delta, delta, node) {
            if (strcmp(delta->leg, leg) == 0)
                return delta;
        }
    }
    return NULL;
}

/* ---- looking ---- */

struct looking {
    struct plane *plane;
    unsigned waiting, count; /* waiting: answers, and who asks */
    void (*done)(void *arg);
    void *arg;
    struct looking_one {
        struct mirror_look look;
        struct looking *looking;
        char name[BLOCK_NAME_SIZE]; /* the mirror may be gone when the answer comes */
    } one[];
};

static void looking_end(struct looking *looking) {
    void (*done)(void *arg) = looking->done;
    void *arg = looking->arg;
    free(looking);
    done(arg);
}

static void looked(struct mirror_look *look) {
    struct looking_one *one = container_of(look, struct looking_one, look);
    struct looking *looking = one->looking;
    struct plane_mirror *mirror = plane_mirror_find(looking->plane, one->name);
    if (mirror != NULL && mirror->device == look->device)
        mirror->status = look->status;
    if (--looking->waiting == 0)
        looking_end(looking);
}

static void look_at(struct looking *looking, struct plane_mirror *mirror) {
    if (mirror->deleting)
        return;
    struct looking_one *one = &looking->one[looking->count++];
    one->looking = looking;
    memcpy(one->name, mirror->name, sizeof(one->name));
    one->look = (struct mirror_look){.device = mirror->device, .control = mirror->plane->control, .done = looked};
    looking->waiting++;
    mirror_look(&one->look);
}

void plane_mirrors_look(struct plane *plane, struct plane_mirror *only, void (*done)(void *arg), void *arg) {
    size_t count = only != NULL ? 1 : plane->mirror_names.count;
    struct looking *looking = calloc(1, sizeof(*looking) + count * sizeof(looking->one[0]));
    if (looking == NULL) { /* without memory: what is known */
        done(arg);
        return;
    }
    *looking = (struct looking){.plane = plane, .waiting = 1, .done = done, .arg = arg};
    if (only != NULL)
        look_at(looking, only);
    else
        list_for_each (&plane->mirrors, struct plane_mirror, mirror, node)
            look_at(looking, mirror);
    if (--looking->waiting == 0)
        looking_end(looking);
}

bool plane_mirrors_delete_all(struct plane *plane) {
    list_for_each_safe (&plane->mirrors, struct plane_mirror, mirror, node) {
        if (!mirror->deleting)
            plane_mirror_delete(mirror, NULL, NULL, NULL);
    }
    return list_empty(&plane->mirrors);
}
