/* What an operator asks of a mirror: legs added and removed. Commands come from the control reactor, run on the home one after
 * the other, each a few steps that wait for legs and changes, and go back. Must not know JSON-RPC. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

/* ---- coming and going ---- */

static void command_answered(struct reactor_message *message) {
    struct mirror_command *command = container_of(message, struct mirror_command, message);
    command->done(command);
}

void mirror_command_answer(struct mirror_command *command) {
    command->message.run = command_answered;
    reactor_post(command->control, &command->message);
}

static void finish(struct mirror *mirror, struct mirror_command *command) {
    list_remove(&command->node);
    mirror_command_answer(command);
    mirror_commands_look(mirror);
}

static bool fail(struct mirror_command *command, enum error_code code, const char *text) {
    return error_set(&command->error, code, "%s: %.180s", command->leg, text);
}

static struct mirror_command *under_way(struct mirror *mirror) {
    return list_empty(&mirror->commands) ? NULL : list_entry(list_first(&mirror->commands), struct mirror_command, node);
}

/* ---- which leg ---- */

struct mirror_leg *mirror_leg_named(struct mirror *mirror, const char *name) {
    struct uuid id;
    bool is_id = uuid_parse(name, &id);
    mirror_for_each_leg(mirror, leg) {
        if (!leg->configured && leg->nameless) /* a place that its leg has left for the one that was added */
            continue;
        if (strcmp(leg->told.name, name) == 0 || strcmp(leg->config.name, name) == 0 ||
            (is_id && uuid_equal(&leg->config.id, &id)))
            return leg;
    }
    return NULL;
}

/* ---- add ---- */

enum { ADD_BEGIN, ADD_OPEN, ADD_OPENED, ADD_LOOK, ADD_TELL, ADD_UNDO };

/* Nothing runs yet: what is added counts as if it had been named at creation. */
static bool is_early(const struct mirror *mirror) {
    return mirror->state == MIRROR_CONFIGURING || mirror->state == MIRROR_REFUSED;
}

static void add_opened(struct reactor_message *message) {
    struct mirror_command *command = container_of(message, struct mirror_command, message);
    struct mirror *mirror = mirror_of(command->device);
    struct mirror_leg *leg = command->found;
    mirror->adding = NULL;
    command->step = ADD_OPENED;
    if (command->error.code == ERROR_NONE && (mirror->state == MIRROR_ENDED || mirror->closing)) {
        fail(command, ERROR_CANCELLED, "the mirror has ended");
    }
    if (command->error.code == ERROR_NONE) {
        leg->vacant = false;
        leg->configured = leg->counted = leg->nameless = leg->recorded_only = false;
        leg->forget = leg->removing = leg->dropped = false;
        leg->discard = leg->renewing = leg->faulted = false;
        leg->faults = 0;
        leg->wishes = 0;
        leg->attempt = 0;
        leg->overwrite = true;
        leg->known = (struct uuid){0};
        leg->tie_breaker = command->tie_breaker;
        leg->foreign = command->foreign;
        leg->upon = command->foreign ? command->upon : 0;
        leg->filling = leg->upon != 0;
        leg->config = (struct replica_leg){.id = mirror_random_id(mirror),
                                           .flags = REPLICA_LEG_BLANK | (command->tie_breaker ? REPLICA_LEG_TIE_BREAKER : 0u)};
        leg->told = (struct mirror_leg_status){0};
        replica_leg_name(command->leg, leg->config.name);
        snprintf(leg->told.name, sizeof(leg->told.name), "%s", command->leg);
        mirror->leg_count = max_u32(mirror->leg_count, leg->index + 1);
        mirror_leg_begin(leg);
        mirror_attach_here(leg);
        leg->configured = is_early(mirror) && !leg->foreign;
        command->step = leg->configured || leg->foreign ? ADD_OPENED : ADD_LOOK;
    }
    mirror_commands_look(mirror);
}

/* On the control reactor. */
static void add_open(struct reactor_message *message) {
    struct mirror_command *command = container_of(message, struct mirror_command, message);
    struct mirror *mirror = mirror_of(command->device);
    struct mirror_leg *leg = command->found;
    struct block_device *device = block_graph_find(mirror->graph, command->leg);
    assert(leg->attach.state == ATTACH_FREE);
    snprintf(leg->attach.name, sizeof(leg->attach.name), "%s", command->leg);
    leg->attach.tie_breaker = command->tie_breaker;
    leg->attach.foreign = command->foreign;
    if (device == NULL)
        error_set(&command->error, ERROR_NO_DEVICE, "there is no device %s", command->leg);
    else if (mirror->destroyed)
        error_set(&command->error, ERROR_CANCELLED, "%s is removed", mirror->device.name);
    else
        (void)mirror_attach_open(leg, device, &command->error);
    command->message.run = add_opened;
    reactor_post(mirror->home, &command->message);
}

static bool add_begin(struct mirror_command *command) {
    struct mirror *mirror = mirror_of(command->device);
    const struct mirror_leg *same = mirror_leg_named(mirror, command->leg);
    if (mirror->state != MIRROR_SERVING && !is_early(mirror))
        return fail(command, ERROR_BUSY, "the mirror does not serve now");
    if (same != NULL && !same->nameless)
        return fail(command, ERROR_EXISTS, "it is a leg already");
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        if (!leg->vacant || (leg->task.type != NULL && (!leg->task.ended || leg->task.queued)))
            continue;
        if (!mirror_leg_init(leg))
            return fail(command, ERROR_NO_MEMORY, "there is no memory for another leg");
        command->found = mirror->adding = leg;
        command->step = ADD_OPEN;
        command->message.run = add_open;
        reactor_post(mirror->control, &command->message);
        return true;
    }
    return fail(command, ERROR_NO_MEMORY, "there is no room for another leg: eight are the most");
}

/* What it says of itself lets it in, or does not. */
static bool add_looked(struct mirror_command *command, struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    bool has = (leg->status.flags & REPLICA_HAS_RECORD) != 0;
    char text[UUID_TEXT_SIZE];
    if (leg->task.state == LEG_REST || leg->task.state == LEG_STUCK)
        return fail(command, ERROR_IO, leg->told.why);
    if (has && !uuid_equal(&leg->status.record.mirror, &mirror->id)) {
        uuid_format(&leg->status.record.mirror, text);
        return error_set(&command->error, ERROR_PERMISSION, "%s is a leg of mirror %s", command->leg, text);
    }
    if ((leg->status.flags & REPLICA_CAN_WRITE) == 0 && leg->replica)
        return fail(command, ERROR_READ_ONLY, "it cannot be written");
    if (mirror->size > 0 && mirror_leg_misfits(leg, mirror->size))
        return fail(command, ERROR_INVALID, "it is not as large as the mirror");
    if (has && !mirror_leg_trade(leg))
        return fail(command, ERROR_EXISTS, "it is one of the legs already");
    /* It was a leg once, and comes as another one: what it missed of the mirror's size goes with what it was. */
    if (!leg->configured && has && mirror->size > 0 && !leg->tie_breaker && leg->status.size != mirror->size)
        return fail(command, ERROR_INVALID, "it is not as large as the mirror");
    if (!leg->configured) {
        leg->forget = has;
        command->config = mirror_config_wish(leg, WISH_IN);
    }
    return true;
}

static bool add(struct mirror *mirror, struct mirror_command *command) {
    struct mirror_leg *leg = command->found;
    switch (command->step) {
    case ADD_BEGIN: return !add_begin(command);
    case ADD_OPEN: return false;
    case ADD_OPENED: return true;
    case ADD_LOOK:
        if (leg->task.state != LEG_SEEN && leg->task.state != LEG_STUCK && leg->task.state != LEG_CLAIMED &&
            !(leg->task.state == LEG_REST && leg->told.why[0] != '\0'))
            return false;
        if (add_looked(command, leg)) {
            command->step = ADD_TELL;
            return false;
        }
        mirror_leg_depart(leg, "it was refused");
        command->step = ADD_UNDO;
        return false;
    case ADD_TELL:
        if (mirror->config_done < command->config)
            return false;
        mirror_legs_wake(mirror);
        return true;
    case ADD_UNDO: return leg->vacant;
    default: return true;
    }
}

static bool fill(struct mirror *mirror, struct mirror_command *command) {
    struct mirror_leg *leg = mirror_leg_named(mirror, command->leg);
    if (leg == NULL)
        return !fail(command, ERROR_NOT_FOUND, "there is no such leg");
    mirror_leg_filled(leg);
    return true;
}

/* ---- remove ---- */

enum { REMOVE_BEGIN, REMOVE_ASK, REMOVE_TELL, REMOVE_FORGET, REMOVE_LEAVE };

/* Nothing that it holds counts: what it misses is all. */
static void lose_trust(struct mirror_leg *leg) {
    mirror_leg_lose(leg, "it was invalidated");
    mirror_missed_end(leg);
}

/* Whether the others are there is asked first, by a change that changes nothing: a member is let go only when they are. */
static bool remove_begin(struct mirror_command *command) {
    struct mirror *mirror = mirror_of(command->device);
    struct mirror_leg *leg = mirror_leg_named(mirror, command->leg);
    if (leg == NULL || (!leg->configured && !leg->foreign) || (command->verb == MIRROR_INVALIDATE && leg->tie_breaker))
        return fail(command, ERROR_NOT_FOUND, "there is no such leg");
    if (mirror->state != MIRROR_SERVING)
        return fail(command, ERROR_BUSY, "the mirror does not serve now");
    command->found = leg;
    if (leg->foreign) { /* no record tells of it */
        command->step = REMOVE_LEAVE;
        if (command->verb == MIRROR_INVALIDATE)
            lose_trust(leg);
        else
            mirror_leg_depart(leg, "it was removed");
        mirror_leg_retry(leg);
        return true;
    }
    command->config = mirror_config_wish(leg, 0);
    command->step = REMOVE_ASK;
    return true;
}

static bool remove_asked(struct mirror_command *command, struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    if ((mirror->standing & ~leg->bit) == 0)
        return fail(command, ERROR_PERMISSION, "it is the last whole copy");
    if (!mirror_majority_is_there(mirror, leg)) /* they complete the epochs without it */
        return fail(command, ERROR_BUSY, "too few of the other legs are there: they have to be a majority without it");
    command->step = REMOVE_TELL;
    if (command->verb == MIRROR_INVALIDATE) {
        command->config = mirror->plain ? mirror->config_done : mirror_leg_renew(leg); /* without a record it is copied anyway */
    } else {
        leg->removing = true;
        leg->forget = leg->channel != NULL && !mirror->plain && leg->task.state != LEG_STUCK; /* a diverged copy stays as it is */
        command->config = mirror_config_wish(leg, WISH_OUT);
    }
    if (command->verb == MIRROR_INVALIDATE)
        lose_trust(leg);
    else if (mirror_leg_is_up(leg))
        mirror_leg_lose(leg, "it is being removed");
    mirror_leg_retry(leg);
    return true;
}

static bool take_out(struct mirror *mirror, struct mirror_command *command) {
    struct mirror_leg *leg = command->found;
    switch (command->step) {
    case REMOVE_BEGIN: return !remove_begin(command);
    case REMOVE_ASK: return mirror->config_done >= command->config && !remove_asked(command, leg);
    case REMOVE_TELL:
        if (mirror->config_done < command->config)
            return false;
        if (command->verb == MIRROR_INVALIDATE)
            return true;
        command->step = REMOVE_FORGET;
        mirror_leg_retry(leg);
        return false;
    case REMOVE_FORGET:
        if (leg->forget && leg->channel != NULL && !leg->leaving && leg->task.state != LEG_STUCK)
            return false;
        leg->forget = false;
        mirror_leg_depart(leg, "it was removed");
        command->step = REMOVE_LEAVE;
        return false;
    case REMOVE_LEAVE: return leg->vacant || command->verb == MIRROR_INVALIDATE;
    default: return true;
    }
}

/* ---- copies that are not wanted as they are ---- */

static bool discard(struct mirror *mirror, struct mirror_command *command) {
    struct mirror_leg *leg = command->step == 0 ? mirror_leg_named(mirror, command->leg) : command->found;
    if (command->step > 0) {
        if (leg->discard && (leg->fell || leg->task.state != LEG_STUCK))
            return false;
        leg->discard = false;
        if (leg->task.state == LEG_STUCK)
            (void)fail(command, ERROR_PERMISSION, leg->told.why);
        return true;
    }
    if (leg == NULL || !leg->configured)
        return !fail(command, ERROR_NOT_FOUND, "there is no such leg");
    if (mirror->state != MIRROR_SERVING || leg->task.state != LEG_STUCK ||
        (leg->verdict != DECIDE_DIVERGED && leg->verdict != DECIDE_STRANGER))
        return !fail(command, ERROR_BUSY, "the mirror does not serve now, or it is not diverged, or not there");
    command->found = leg;
    command->step = 1;
    leg->discard = leg->fell = true;
    leg->overwrite = leg->verdict == DECIDE_STRANGER;
    task_wake(&leg->task);
    return false;
}

/* ---- all ---- */

static bool run(struct mirror *mirror, struct mirror_command *command) {
    switch (command->verb) {
    case MIRROR_ADD_LEG: return add(mirror, command);
    case MIRROR_FILLED: return fill(mirror, command);
    case MIRROR_REMOVE_LEG:
    case MIRROR_INVALIDATE: return take_out(mirror, command);
    case MIRROR_DISCARD: return discard(mirror, command);
    case MIRROR_START: return mirror_start_command(mirror, command);
    case MIRROR_PROMOTE: return mirror_promote_command(mirror, command);
    case MIRROR_RELEASE: return mirror_release_command(mirror, command);
    case MIRROR_PAUSE:
    case MIRROR_RESUME: break; /* they do not wait for others */
    }
    return true;
}

static void look(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, command_timer);
    struct mirror_command *command;
    unsigned step;
    while ((command = under_way(mirror)) != NULL) {
        step = command->step;
        if (run(mirror, command))
            finish(mirror, command);
        else if (command->step == step)
            return;
    }
}

void mirror_commands_look(struct mirror *mirror) {
    if (!list_empty(&mirror->commands) && !reactor_timer_armed(&mirror->command_timer))
        reactor_timer_start(mirror->home, &mirror->command_timer, 0);
}

void mirror_commands_init(struct mirror *mirror) {
    list_init(&mirror->commands);
    mirror->command_timer = (struct reactor_timer){.run = look};
}

static void arrived(struct reactor_message *message) {
    struct mirror_command *command = container_of(message, struct mirror_command, message);
    struct mirror *mirror = mirror_of(command->device);
    if (command->verb == MIRROR_PAUSE && !mirror->closing) {
        mirror_pause(mirror, command);
        return;
    }
    if (command->verb == MIRROR_RESUME && !mirror->closing) {
        mirror_resume(mirror, command);
        return;
    }
    list_push_back(&mirror->commands, &command->node);
    if (mirror->state == MIRROR_ENDED || mirror->closing) {
        command->error = mirror->error;
        if (command->error.code == ERROR_NONE)
            fail(command, ERROR_CANCELLED, "the mirror is removed");
        finish(mirror, command);
        return;
    }
    mirror_commands_look(mirror);
}

void mirror_command(struct mirror_command *command) {
    assert(mirror_is(command->device));
    error_clear(&command->error);
    command->step = 0;
    command->message.run = arrived;
    reactor_post(command->device->home, &command->message);
}

/* What no record tells yet is undone. */
static void undo(struct mirror_command *command) {
    struct mirror_leg *leg = command->found;
    if (leg == NULL || leg->vacant)
        return;
    leg->wishes = 0;
    leg->discard = leg->renewing = false;
    if (command->verb == MIRROR_DISCARD)
        leg->overwrite = false; /* what it holds stays, if it was not claimed yet */
    if (command->verb == MIRROR_ADD_LEG && !leg->configured)
        mirror_leg_depart(leg, "the mirror was lost while it was added");
    else if (leg->configured)
        leg->removing = leg->forget = false;
}

/* The records may tell of it by now. */
static bool may_be_done(const struct mirror_command *command) {
    switch (command->verb) {
    case MIRROR_ADD_LEG: return command->step == ADD_TELL;
    case MIRROR_REMOVE_LEG:
    case MIRROR_INVALIDATE: return command->step >= REMOVE_TELL;
    case MIRROR_DISCARD: return command->step > 0 && command->found->task.state > LEG_SEEN; /* it may be claimed */
    default: return false;
    }
}

void mirror_commands_cancel(struct mirror *mirror, enum error_code code, const char *why) {
    struct list list;
    list_init(&list);
    list_splice_back(&list, &mirror->commands);
    for (struct list_node *node; (node = list_pop_front(&list)) != NULL;) {
        struct mirror_command *command = list_entry(node, struct mirror_command, node);
        bool starts = command->verb == MIRROR_START || command->verb == MIRROR_PROMOTE || command->verb == MIRROR_RELEASE;
        if ((starts && mirror->state != MIRROR_ENDED && !mirror->closing) ||
            (command->verb == MIRROR_ADD_LEG && command->step == ADD_OPEN)) { /* on its way between the reactors */
            list_push_back(&mirror->commands, node);
            continue;
        }
        fail(command, may_be_done(command) ? ERROR_CANCELLED : code, why);
        undo(command);
        mirror_command_answer(command);
    }
}
