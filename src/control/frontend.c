/* Frontends of engines: what gives a volume to its user. One that is offered over NVMe/TCP is the engine's own target: all there
 * is to it is which engine, and the pause of a suspended one. docs/control.md, "Frontends". */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/helper.h"
#include "control/internal.h"

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

struct control_frontend *frontend_add(struct control *control, const char *name) {
    struct control_frontend *frontend = control_object_add(control, CONTROL_FRONTENDS, name, sizeof(*frontend));
    if (frontend != NULL)
        frontend->state = CONTROL_PENDING;
    return frontend;
}

void frontend_remove(struct control *control, struct control_frontend *frontend) {
    helper_destroy(frontend->helper);
    control_object_remove(control, &frontend->object);
}

/* ---- states ---- */

#define set_frontend(frontend, ...)                                                                                              \
    control_set_state(&(frontend)->state, (frontend)->reason, sizeof((frontend)->reason), __VA_ARGS__)

void frontend_judge(struct control *control, struct control_frontend *frontend) {
    const struct control_frontend_record *record = &frontend->record;
    if (record->failure[0] != '\0')
        set_frontend(frontend, CONTROL_ERROR, "%s", record->failure);
    else if (!record->made)
        set_frontend(frontend, CONTROL_PENDING, "%s", "");
    else if (blockdev_is(record))
        blockdev_judge(control, frontend);
    else if (frontend->suspended_until_ns > host_now_ns(control->options.reactor->host))
        set_frontend(frontend, CONTROL_SUSPENDED, "%s", "");
    else
        set_frontend(frontend, CONTROL_RUNNING, "%s", "");
}

uint64_t frontend_fingerprint(const struct control_frontend *frontend) {
    uint64_t print = hash_bytes(&frontend->state, sizeof(frontend->state), hash_text(frontend->reason));
    print = hash_bytes(&frontend->record.step, sizeof(frontend->record.step), print);
    print ^= hash_text(frontend->path);
    return print + hash_text(frontend->record.target) + frontend->record.bytes + (frontend->expanding ? 1 : 0);
}

/* ---- arguments ---- */

static bool check_create(struct control_goal *goal) {
    struct error *error = &goal->error;
    if (!names_check(goal->volume, "volume_name", error) || !names_check(goal->engine, "engine_name", error) ||
        !verb_check_size(goal))
        return false;
    if (goal->bytes == 0)
        return error_invalid(error, "spec_size", "0", "the size of the volume");
    if (strcmp(goal->frontend, "ublk") == 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the frontend ublk is not offered: it has no suspension, expansion or recovery; use " CONTROL_BLOCKDEV);
    if (strcmp(goal->frontend, CONTROL_BLOCKDEV) == 0 && goal->control->options.helpers.start == NULL)
        return error_set(error, ERROR_UNSUPPORTED, "the frontend " CONTROL_BLOCKDEV " is not offered here: use spdk-tcp-nvmf");
    if (goal->frontend[0] != '\0' && strcmp(goal->frontend, "spdk-tcp-nvmf") != 0 &&
        strcmp(goal->frontend, CONTROL_BLOCKDEV) != 0)
        return error_invalid(error, "frontend", goal->frontend, "spdk-tcp-nvmf, " CONTROL_BLOCKDEV ", or nothing");
    if (goal->target[0] == '\0' && goal->frontend[0] == '\0')
        return true;
    return control_is_address(goal->target) || error_invalid(error, "target_address", goal->target, "the engine's IP:PORT");
}

bool frontend_accept(struct control_goal *goal) {
    if (!names_check(goal->name, "name", &goal->error) || (goal->verb == CONTROL_FRONTEND_CREATE && !check_create(goal)))
        return false;
    struct control_frontend *frontend = control_find_frontend(goal->control, goal->name);
    if (frontend == NULL && goal->verb == CONTROL_FRONTEND_DELETE)
        return false; /* nothing to do */
    if (frontend == NULL && goal->verb != CONTROL_FRONTEND_CREATE)
        return error_set(&goal->error, ERROR_NO_DEVICE, "there is no engine frontend %s", goal->name);
    if (frontend == NULL)
        frontend = frontend_add(goal->control, goal->name);
    if (frontend == NULL)
        return error_set(&goal->error, ERROR_NO_MEMORY, "no memory for a frontend");
    goal->object = &frontend->object;
    return true;
}

/* ---- the beginning ---- */

static enum verb_next end_with(bool ok) {
    assert(!ok);
    return VERB_END;
}

static enum verb_next begin_create(struct control_goal *goal) {
    struct control_frontend_record *record = &frontend_of(goal->object)->record;
    if (goal->object->recorded && record->failure[0] == '\0')
        return end_with(error_set(&goal->error, ERROR_EXISTS, "engine frontend %s is there", record->name));
    list_for_each (&goal->control->objects[CONTROL_FRONTENDS], struct control_object, object, node)
        if (object != goal->object && object->recorded && strcmp(frontend_of(object)->record.volume, goal->volume) == 0)
            return end_with(error_set(&goal->error, ERROR_EXISTS, "volume %s has the engine frontend %s", goal->volume,
                                      control_object_name(object)));
    copy(record->volume, sizeof(record->volume), goal->volume);
    copy(record->engine, sizeof(record->engine), goal->engine);
    copy(record->frontend, sizeof(record->frontend), goal->frontend);
    copy(record->target, sizeof(record->target), goal->target);
    record->bytes = goal->bytes;
    record->failure[0] = '\0';
    record->made = false;
    record->step = SWITCH_NONE;
    record->next_engine[0] = record->next_target[0] = '\0';
    return VERB_RECORD;
}

static enum verb_next begin_switch(struct control_goal *goal) {
    struct control_frontend_record *record = &frontend_of(goal->object)->record;
    if (!goal->object->recorded)
        return end_with(error_set(&goal->error, ERROR_NO_DEVICE, "engine frontend %s was deleted", record->name));
    bool over = goal->step == SWITCH_NONE;
    record->step = goal->step;
    copy(record->next_engine, sizeof(record->next_engine), over ? "" : goal->engine);
    copy(record->next_target, sizeof(record->next_target), over ? "" : goal->target);
    frontend_of(goal->object)->attached &= !over; /* with the targets that count from now on, and no others */
    if (goal->moved) {
        copy(record->engine, sizeof(record->engine), goal->engine);
        copy(record->target, sizeof(record->target), goal->target);
    }
    return VERB_RECORD;
}

/* Hosts may have no path but the one that the switch gives them. */
static enum verb_next begin_delete(struct control_goal *goal) {
    const struct control_frontend_record *record = &frontend_of(goal->object)->record;
    if (record->step == SWITCH_MOVING || record->step == SWITCH_DRAINED)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "engine frontend %s is switching over to %s", record->name,
                                  record->next_engine));
    return VERB_OBSERVE;
}

static enum verb_next begin_settle(struct control_goal *goal) {
    struct control_frontend_record *record = &frontend_of(goal->object)->record;
    if (!goal->object->recorded)
        return VERB_END; /* deleted meanwhile */
    copy(record->failure, sizeof(record->failure), goal->failure);
    record->made |= goal->failure[0] == '\0';
    if (goal->bytes != 0)
        record->bytes = goal->bytes;
    if (goal->failure[0] != '\0')
        frontend_of(goal->object)->attached = false;
    return VERB_RECORD;
}

/* A pause is the mirror's, kept by its plane: UNSUPPORTED means that its engine's node is to be asked first. */
static enum verb_next begin_pause(struct control_goal *goal) {
    struct control_frontend *frontend = frontend_of(goal->object);
    enum control_state wanted = goal->verb == CONTROL_FRONTEND_SUSPEND ? CONTROL_RUNNING : CONTROL_SUSPENDED;
    frontend_judge(goal->control, frontend);
    if (frontend->state != wanted)
        return end_with(error_set(&goal->error, ERROR_PERMISSION, "engine frontend %s is in state %s, not %s",
                                  frontend->record.name, control_state_name(frontend->state), control_state_name(wanted)));
    if (goal->elsewhere) {
        frontend->lease = goal->lease;
        frontend->suspended_until_ns =
            goal->verb == CONTROL_FRONTEND_SUSPEND ? goal->paused_ns + CONTROL_LEASE_MS * NS_PER_MS : 0;
        return VERB_END;
    }
    if (!blockdev_is(&frontend->record) && control_find_engine(goal->control, frontend->record.engine) == NULL)
        return end_with(error_set(&goal->error, ERROR_UNSUPPORTED, "engine %s is not on this node", frontend->record.engine));
    return VERB_OBSERVE;
}

enum verb_next frontend_begin(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_FRONTEND_CREATE: return begin_create(goal);
    case CONTROL_FRONTEND_SETTLE: return begin_settle(goal);
    case CONTROL_FRONTEND_ATTACH: return blockdev_begin_attach(goal);
    case CONTROL_FRONTEND_SWITCH: return begin_switch(goal);
    case CONTROL_FRONTEND_DELETE: return begin_delete(goal);
    default: return begin_pause(goal);
    }
}

/* ---- the end ---- */

static enum verb_next settle_delete(struct control_goal *goal) {
    frontend_of(goal->object)->attached = false;
    if (goal->error.code == ERROR_BUSY)
        goal->error.code = ERROR_PERMISSION;
    if (goal->error.code != ERROR_NONE)
        return VERB_END; /* what it was is looked after again */
    goal->object->recorded = false;
    return VERB_RECORD;
}

static enum verb_next settle_pause(struct control_goal *goal) {
    struct control_frontend *frontend = frontend_of(goal->object);
    if (goal->verb == CONTROL_FRONTEND_RESUME) {
        frontend->suspended_until_ns = 0; /* also when the lease was over: it went on then */
    } else if (goal->error.code == ERROR_NONE) {
        frontend->lease = (uint64_t)json_integer_value(goal->result);
        frontend->suspended_until_ns = host_now_ns(goal->control->options.reactor->host) + CONTROL_LEASE_MS * NS_PER_MS;
    }
    return VERB_END;
}

enum verb_next frontend_settle(struct control_goal *goal) {
    switch (goal->verb) {
    case CONTROL_FRONTEND_ATTACH: return blockdev_settle_attach(goal);
    case CONTROL_FRONTEND_DELETE: return settle_delete(goal);
    case CONTROL_FRONTEND_SUSPEND:
    case CONTROL_FRONTEND_RESUME: return settle_pause(goal);
    default: return VERB_END;
    }
}
