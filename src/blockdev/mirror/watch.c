/* What changed, told to the control reactor: whoever made the mirror hears of each change of its state and of its legs', in
 * order. docs/mirror.md, "For who runs it". Changes are noticed by comparison, so that no place of the engine has to tell. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

const char *mirror_state_name(enum mirror_state state) {
    static const char *const names[] = {[MIRROR_CONFIGURING] = "configuring",
                                        [MIRROR_STARTING] = "starting",
                                        [MIRROR_SERVING] = "serving",
                                        [MIRROR_HOLDING] = "holding",
                                        [MIRROR_STANDBY] = "standby",
                                        [MIRROR_REFUSED] = "refused",
                                        [MIRROR_ENDED] = "ended"};
    return names[state];
}

const char *mirror_leg_state_name(enum mirror_leg_state state) {
    static const char *const names[] = {
        [MIRROR_LEG_ABSENT] = "absent",   [MIRROR_LEG_CONNECTING] = "connecting", [MIRROR_LEG_WHOLE] = "whole",
        [MIRROR_LEG_SYNCING] = "syncing", [MIRROR_LEG_SET_ASIDE] = "set aside",   [MIRROR_LEG_DIVERGED] = "diverged",
        [MIRROR_LEG_FAULTED] = "faulted", [MIRROR_LEG_WITNESS] = "tie-breaker",
    };
    return names[state];
}

const char *mirror_verify_state_name(enum mirror_verify_state state) {
    static const char *const names[] = {[MIRROR_VERIFY_NEVER] = "never",
                                        [MIRROR_VERIFY_RUNNING] = "running",
                                        [MIRROR_VERIFY_STOPPED] = "stopped",
                                        [MIRROR_VERIFY_DONE] = "done"};
    return names[state];
}

static void send(struct mirror *mirror);

/* Back on the home reactor: what came meanwhile follows. */
static void told(struct reactor_message *message) {
    struct mirror_watch *watch = container_of(message, struct mirror_watch, message);
    watch->busy = false;
    send(container_of(watch, struct mirror, watch));
}

static void tell(struct reactor_message *message) {
    struct mirror_watch *watch = container_of(message, struct mirror_watch, message);
    struct mirror *mirror = container_of(watch, struct mirror, watch);
    for (unsigned i = 0; i < watch->sent_count && !watch->over; i++) {
        const struct mirror_event *event = &watch->sent[i];
        if (event->leg == MIRROR_EVENT_SELF && event->state == MIRROR_SERVING) /* the same device at every start */
            block_device_set_uuid(&mirror->device, &event->mirror, NULL);
        if (event->leg == MIRROR_EVENT_SELF && event->state == MIRROR_ENDED)
            block_device_set_path(&mirror->device, false);
        if (mirror->options.event != NULL)
            mirror->options.event(mirror->options.event_arg, &mirror->device, event);
    }
    watch->message.run = told;
    reactor_post(mirror->home, &watch->message);
}

static void send(struct mirror *mirror) {
    struct mirror_watch *watch = &mirror->watch;
    if (watch->busy || watch->count == 0)
        return;
    watch->busy = true;
    watch->sent_count = watch->count;
    memcpy(watch->sent, watch->events, watch->count * sizeof(watch->events[0]));
    watch->count = 0;
    watch->message.run = tell;
    reactor_post(mirror->control, &watch->message);
}

/* A full list loses the one before its last: what is now is told in any case. */
static void add(struct mirror *mirror, int leg, unsigned before, unsigned state, const char *why) {
    struct mirror_watch *watch = &mirror->watch;
    if (watch->count == MIRROR_EVENTS_MAX) {
        watch->count--;
        watch->dropped++;
    }
    struct mirror_event *event = &watch->events[watch->count++];
    *event = (struct mirror_event){.leg = leg,
                                   .before = before,
                                   .state = state,
                                   .at_ns = reactor_now_ns(mirror->home),
                                   .dropped = watch->dropped,
                                   .mirror = mirror->id};
    snprintf(event->why, sizeof(event->why), "%.*s", (int)sizeof(event->why) - 1, why);
    if (leg >= 0)
        memcpy(event->name, mirror->legs[leg].told.name, sizeof(event->name));
    if (leg == MIRROR_EVENT_SELF)
        event->state = mirror_state_told(mirror, &event->error);
}

void mirror_watch_look(struct mirror *mirror) {
    struct mirror_watch *watch = &mirror->watch;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++) /* who was removed was told so */
        if (mirror->legs[i].vacant)
            watch->legs[i] = MIRROR_LEG_ABSENT;
    mirror_for_each_leg(mirror, leg) {
        bool not_begun = watch->legs[leg->index] == MIRROR_LEG_ABSENT && leg->told.state == MIRROR_LEG_SET_ASIDE;
        if (leg->told.state == watch->legs[leg->index] || (not_begun && leg->told.why[0] == '\0'))
            continue;
        add(mirror, (int)leg->index, watch->legs[leg->index], leg->told.state, leg->told.why);
        watch->legs[leg->index] = leg->told.state;
    }
    bool waits = mirror->state == MIRROR_CONFIGURING && mirror->error.code != ERROR_NONE;
    struct error error;
    enum mirror_state state = mirror_state_told(mirror, &error);
    if (state != watch->state || waits != watch->waits)
        add(mirror, MIRROR_EVENT_SELF, watch->state, state, "");
    watch->state = state;
    watch->waits = waits;
    struct mirror_verify_status verify;
    mirror_verify_status_get(mirror, &verify);
    if (verify.state != watch->verify) {
        char text[96];
        snprintf(text, sizeof(text), "%llu blocks differ, %llu repaired, %llu regions left out",
                 (unsigned long long)verify.mismatches, (unsigned long long)verify.repaired, (unsigned long long)verify.skipped);
        add(mirror, MIRROR_EVENT_VERIFY, watch->verify, verify.state, verify.state == MIRROR_VERIFY_RUNNING ? "" : text);
        watch->verify = verify.state;
    }
    send(mirror);
}
