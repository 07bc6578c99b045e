/* Asymmetric namespace access (Base 8.1): what state a listener's controllers see a group of namespaces in, the change of it, and
 * the log page that tells. A path is the way in through one listener; its controllers share it. Must not know what stands behind
 * a namespace: only whether its device's own path is there.
 *
 * A change to inaccessible drains: from the moment that it is begun on the home, commands of this path to the group are refused
 * with a path-related status (their hosts send them by another path), the group is in transition until the last one in the device
 * has ended, and only then is it inaccessible and the change answered. Whoever moves a volume to another node relies on it. */
#include <stdlib.h>

#include "frontend/nvme/internal.h"

/* ---- control reactor ---- */

struct nvme_path *nvme_path_create(struct nvme_subsystem *subsystem, enum nvme_ana_state state) {
    struct nvme_path *path = calloc(1, sizeof(*path) + (subsystem->max_namespaces + 1) * sizeof(path->groups[0]));
    if (path == NULL)
        return NULL;
    path->subsystem = subsystem;
    path->refs = 1;
    for (uint32_t group = 1; group <= subsystem->max_namespaces; group++)
        path->groups[group].configured = path->groups[group].state = (uint8_t)state;
    return path;
}

struct nvme_path *nvme_path_ref(struct nvme_path *path) {
    if (path != NULL)
        path->refs++;
    return path;
}

void nvme_path_unref(struct nvme_path *path) {
    if (path != NULL && --path->refs == 0)
        free(path);
}

static void on_change(struct reactor_message *message);

static void on_changed(struct reactor_message *message) {
    struct nvme_path *path = container_of(message, struct nvme_path, message);
    struct nvme_subsystem *subsystem = path->subsystem;
    nvme_ana_done done = path->done;
    void *arg = path->done_arg;
    struct error error;
    bool drained = path->left == 0 || error_set(&error, ERROR_TIMED_OUT, "%u commands are still in the device", path->left);
    path->busy = false;
    subsystem->path_changes--;
    nvme_path_unref(path);
    nvme_subsystem_try_finish(subsystem);
    done(arg, drained ? NULL : &error);
}

void nvme_path_change(struct nvme_path *path, uint32_t group, enum nvme_ana_state state, nvme_ana_done done, void *arg) {
    struct nvme_subsystem *subsystem = path->subsystem;
    assert(!path->busy && group <= subsystem->max_namespaces);
    path->busy = true;
    path->first = group == 0 ? 1 : group;
    path->last = group == 0 ? subsystem->max_namespaces : group;
    path->wanted = (uint8_t)state;
    path->done = done;
    path->done_arg = arg;
    nvme_path_ref(path);
    subsystem->path_changes++;
    for (group = path->first; group <= path->last; group++)
        path->groups[group].configured = (uint8_t)state;
    path->message.run = on_change;
    if (subsystem->home != NULL) {
        reactor_post(subsystem->home, &path->message);
        return;
    }
    for (group = path->first; group <= path->last; group++) /* nobody was ever connected */
        path->groups[group].state = (uint8_t)state;
    path->left = 0;
    path->message.run = on_changed;
    reactor_post(subsystem->target->control, &path->message);
}

/* ---- home ---- */

static void path_tell(const struct nvme_path *path) {
    list_for_each (&path->subsystem->live, struct nvme_controller, controller, live_node)
        if (controller->path == path)
            nvme_controller_ana_event(controller);
}

/* Sets the groups of the change under way; those with commands in devices may be given another state. */
static void groups_set(struct nvme_path *path, enum nvme_ana_state idle, enum nvme_ana_state busy) {
    bool changed = false;
    for (uint32_t i = path->first; i <= path->last; i++) {
        struct nvme_path_group *group = &path->groups[i];
        uint8_t state = (uint8_t)(group->outstanding > 0 ? busy : idle);
        group->change_count += group->state != state;
        changed |= group->state != state;
        group->state = state;
    }
    path->change_count += changed;
    if (changed)
        path_tell(path);
}

static uint32_t groups_outstanding(const struct nvme_path *path) {
    uint32_t outstanding = 0;
    for (uint32_t i = path->first; i <= path->last; i++)
        outstanding += path->groups[i].outstanding;
    return outstanding;
}

static void change_end(struct nvme_path *path) {
    reactor_timer_stop(path->subsystem->home, &path->deadline);
    path->draining = false;
    path->left = path->wanted == NVME_ANA_INACCESSIBLE_STATE ? groups_outstanding(path) : 0;
    groups_set(path, path->wanted, path->wanted);
    path->message.run = on_changed;
    reactor_post(path->subsystem->target->control, &path->message);
}

static void on_deadline(struct reactor_timer *timer) { change_end(container_of(timer, struct nvme_path, deadline)); }

static void on_change(struct reactor_message *message) {
    struct nvme_path *path = container_of(message, struct nvme_path, message);
    struct reactor *home = path->subsystem->home;
    if (path->wanted != NVME_ANA_INACCESSIBLE_STATE || groups_outstanding(path) == 0) {
        change_end(path);
        return;
    }
    path->draining = true;
    groups_set(path, path->wanted, NVME_ANA_CHANGE);
    path->deadline.run = on_deadline;
    reactor_timer_start(home, &path->deadline, reactor_now_ns(home) + NVME_ANA_TRANSITION_S * NS_PER_S);
}

void nvme_path_leave(struct nvme_path *path, uint32_t group) {
    path->groups[group].outstanding--;
    if (unlikely(path->draining && groups_outstanding(path) == 0))
        change_end(path);
}

static bool is_accessible(unsigned state) { return state == NVME_ANA_OPTIMIZED || state == NVME_ANA_NON_OPTIMIZED; }

unsigned nvme_path_status(const struct nvme_path *path, const struct nvme_namespace *ns) {
    unsigned state = path->groups[ns->anagrpid].state;
    if (likely(is_accessible(state) && !ns->away))
        return NVME_SUCCESS;
    return state == NVME_ANA_CHANGE ? NVME_ANA_TRANSITION : NVME_ANA_INACCESSIBLE;
}

void nvme_namespace_look_away(struct nvme_namespace *ns) {
    struct nvme_subsystem *subsystem = ns->subsystem;
    bool away = !block_device_path_is_up(ns->device);
    if (ns->away == away)
        return;
    ns->away = away;
    list_for_each (&subsystem->live, struct nvme_controller, controller, live_node)
        if (controller->path != NULL) {
            controller->path->change_count++; /* more than once for a path of several: it only has to grow */
            controller->path->groups[ns->anagrpid].change_count++;
            nvme_controller_ana_event(controller);
        }
}

/* ---- the log page ---- */

struct group_members {
    uint32_t begin, count; /* in `ids` */
    bool away;             /* one of them is: the group is no better than its worst */
};

void nvme_ana_log(const struct nvme_controller *controller, bool groups_only, struct nvme_window *window) {
    const struct nvme_subsystem *subsystem = controller->subsystem;
    const struct nvme_path *path = controller->path;
    struct group_members groups[NVME_LIMIT_NAMESPACES + 1] = {0};
    uint32_t ids[NVME_LIMIT_NAMESPACES], begin = 0;
    struct nvme_ana_header header = {.change_count = path->change_count};
    for (uint32_t nsid = 1; nsid <= subsystem->max_namespaces; nsid++) {
        const struct nvme_namespace *ns = subsystem->by_id[nsid];
        if (ns == NULL || ns->detaching)
            continue;
        if (groups[ns->anagrpid].count++ == 0)
            header.group_count++;
        groups[ns->anagrpid].away |= ns->away;
    }
    for (uint32_t id = 1; id <= subsystem->max_namespaces; id++) {
        groups[id].begin = begin;
        begin += groups[id].count;
        groups[id].count = 0;
    }
    for (uint32_t nsid = 1; nsid <= subsystem->max_namespaces; nsid++) {
        const struct nvme_namespace *ns = subsystem->by_id[nsid];
        if (ns != NULL && !ns->detaching)
            ids[groups[ns->anagrpid].begin + groups[ns->anagrpid].count++] = nsid;
    }
    nvme_window_put(window, &header, sizeof(header));
    for (uint32_t id = 1; id <= subsystem->max_namespaces; id++) {
        const struct group_members *members = &groups[id];
        unsigned state = path->groups[id].state;
        struct nvme_ana_group group = {.id = id,
                                       .namespace_count = groups_only ? 0 : members->count,
                                       .change_count = path->groups[id].change_count,
                                       .state =
                                           is_accessible(state) && members->away ? NVME_ANA_INACCESSIBLE_STATE : (uint8_t)state};
        if (members->count == 0)
            continue;
        nvme_window_put(window, &group, sizeof(group));
        nvme_window_put(window, ids + members->begin, group.namespace_count * sizeof(ids[0]));
    }
}
