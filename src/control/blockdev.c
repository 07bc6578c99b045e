/* Frontends that are block devices: what is asked of the helper that has the device. docs/control.md, "Block devices". Plans are
 * pure; there is nothing to observe first, since each of these commands looks, and does what is missing. */
#include <stdio.h>

#include "control/helper.h"
#include "control/internal.h"

enum { ATTACH_MS = 20000 };

static const struct control_frontend_record *record_of(const struct control_goal *goal) {
    return &frontend_of(goal->object)->record;
}

bool blockdev_is(const struct control_frontend_record *record) { return strcmp(record->frontend, CONTROL_BLOCKDEV) == 0; }

bool verb_is_of_helper(const struct control_goal *goal) {
    if (goal->object == NULL || goal->object->kind != CONTROL_FRONTENDS || !blockdev_is(record_of(goal)))
        return false;
    return goal->verb == CONTROL_FRONTEND_ATTACH || goal->verb == CONTROL_FRONTEND_SUSPEND ||
           goal->verb == CONTROL_FRONTEND_RESUME || (goal->verb == CONTROL_FRONTEND_DELETE && record_of(goal)->device);
}

struct control_plane *blockdev_plane(struct control_goal *goal) {
    struct control_frontend *frontend = frontend_of(goal->object);
    if (frontend->helper == NULL && goal->control->options.helpers.start != NULL)
        frontend->helper = helper_create(goal->control, frontend);
    return frontend->helper == NULL ? NULL : &frontend->helper->plane;
}

/* While a switch-over is under way both targets are kept, whoever asks. */
static json_t *attach_params(const struct control_goal *goal, const char *nqn) {
    const struct control_frontend_record *record = record_of(goal);
    const char *also = record->next_target[0] != '\0' ? record->next_target : goal->target == NULL ? "" : goal->target;
    json_t *targets = json_pack("[s]", record->target);
    if (also[0] != '\0' && strcmp(also, record->target) != 0)
        json_array_append_new(targets, json_string(also));
    return json_pack("{s:s, s:s, s:o, s:b, s:I, s:i}", "volume", record->volume, "nqn", nqn, "targets", targets, "only",
                     also[0] == '\0', "bytes", (json_int_t)record->bytes, "timeout_ms", (int)ATTACH_MS);
}

void plan_blockdev(const struct control_goal *goal, struct plan *ret_plan) {
    const struct control_frontend *frontend = frontend_of(goal->object);
    const char *volume = frontend->record.volume;
    char nqn[NAMES_NQN_SIZE];
    *ret_plan = (struct plan){.outcome = PLAN_CARRY_OUT};
    names_make_volume_nqn(volume, nqn);
    switch (goal->verb) {
    case CONTROL_FRONTEND_ATTACH: plan_add(ret_plan, "blockdev_attach", attach_params(goal, nqn)); break;
    case CONTROL_FRONTEND_DELETE:
        plan_add(ret_plan, "blockdev_detach", json_pack("{s:s, s:s}", "volume", volume, "nqn", nqn));
        break;
    case CONTROL_FRONTEND_SUSPEND:
        plan_add(ret_plan, "blockdev_suspend", json_pack("{s:s, s:i}", "volume", volume, "lease_ms", (int)CONTROL_LEASE_MS));
        break;
    default:
        plan_add(ret_plan, "blockdev_resume", json_pack("{s:s, s:I}", "volume", volume, "lease", (json_int_t)frontend->lease));
    }
}

/* ---- states ---- */

void blockdev_judge(const struct control *control, struct control_frontend *frontend) {
    const struct control_plane *plane = frontend->helper == NULL ? NULL : &frontend->helper->plane;
    enum control_state state = CONTROL_RUNNING;
    const char *why = "";
    if (frontend->attached && frontend->suspended_until_ns > host_now_ns(control->options.reactor->host)) {
        state = CONTROL_SUSPENDED;
    } else if (!frontend->attached && frontend->object.failures > 0) {
        state = CONTROL_ERROR;
        why = frontend->object.failure;
    } else if (!frontend->attached) {
        state = CONTROL_PENDING;
        why = plane != NULL && !control_plane_ready(plane) && plane->failures > 1 ? plane->error.text : "";
    }
    control_set_state(&frontend->state, frontend->reason, sizeof(frontend->reason), state, "%s", why);
}

void blockdev_care(struct control *control, struct control_frontend *frontend) {
    const struct control_frontend_record *record = &frontend->record;
    const struct control_object *object = &frontend->object;
    if (!blockdev_is(record) || !record->made || record->failure[0] != '\0' || frontend->attached || control->stopping ||
        !object->recorded || !list_empty(&object->goals) || host_now_ns(control->options.reactor->host) < object->not_before_ns)
        return;
    goal_start_own(control, &frontend->object, CONTROL_FRONTEND_ATTACH);
}

/* Its process came, or went: the device is looked after anew, which lets go on what it had suspended. */
void frontend_helper_changed(struct control *control, struct control_frontend *frontend) {
    if (control->stopping)
        return;
    if (!control_plane_ready(&frontend->helper->plane)) {
        frontend->attached = false;
        frontend->suspended_until_ns = 0;
    }
    if (!list_empty(&frontend->object.goals))
        goal_helper_changed(list_entry(list_first(&frontend->object.goals), struct control_goal, node));
    control_judge_soon(control, &frontend->object);
}

/* ---- verbs ---- */

enum verb_next blockdev_begin_attach(struct control_goal *goal) {
    struct control_frontend_record *record = &frontend_of(goal->object)->record;
    if (!goal->object->recorded || !blockdev_is(record))
        return VERB_END; /* deleted meanwhile */
    if (record->device)
        return VERB_OBSERVE;
    record->device = true;
    return VERB_RECORD;
}

enum verb_next blockdev_settle_attach(struct control_goal *goal) {
    struct control_frontend *frontend = frontend_of(goal->object);
    const char *path = json_string_value(json_object_get(goal->result, "device"));
    if (goal->error.code != ERROR_NONE) {
        verb_own_failed(goal);
        return VERB_END;
    }
    frontend->attached = true;
    snprintf(frontend->path, sizeof(frontend->path), "%s", path == NULL ? "" : path);
    verb_own_succeeded(goal);
    return VERB_END;
}
