#include "control/packet/processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STOP_MS = 20000 };

static void changed(void *arg) {
    struct packet_process *process = arg;
    process->all->options.changed(process->all->options.arg);
}

static void stirred(void *arg) {
    struct packet_process *process = arg;
    process->all->options.stirred(process->all->options.arg);
}

struct packet_process *packet_processes_find(struct packet_processes *processes, unsigned vf) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        if (processes->list[i].exists && processes->list[i].vf == vf)
            return &processes->list[i];
    return NULL;
}

/* NULL: there are too many. */
static struct packet_process *add(struct packet_processes *processes, unsigned vf, const char *core_mask) {
    const struct packet_processes_options *options = &processes->options;
    struct packet_process *process = NULL;
    for (unsigned i = PACKET_PROCESSES_MAX; i > 0; i--)
        if (!processes->list[i - 1].exists)
            process = &processes->list[i - 1];
    if (process == NULL)
        return NULL;
    *process = (struct packet_process){.all = processes, .exists = true, .vf = vf};
    if (vf == 0) {
        snprintf(process->name, sizeof(process->name), "packet plane");
        snprintf(process->socket_path, sizeof(process->socket_path), "%s", options->socket_path);
    } else {
        snprintf(process->name, sizeof(process->name), "packet plane, vf %u", vf);
        snprintf(process->socket_path, sizeof(process->socket_path), "%s.vf-%u", options->socket_path, vf);
    }
    snprintf(process->core_mask, sizeof(process->core_mask), "%s", core_mask);
    struct control_plane_options plane = {.reactor = options->reactor,
                                          .log = options->log,
                                          .name = process->name,
                                          .greeting = "packet_get_status",
                                          .socket_path = process->socket_path,
                                          .log_path = options->log_path,
                                          .processes = options->launch.processes(
                                              options->launch.arg, (unsigned)(process - processes->list), vf, process->core_mask),
                                          .changed = changed,
                                          .stirred = stirred,
                                          .arg = process};
    control_plane_init(&process->plane, &plane);
    return process;
}

static void drop(struct packet_process *process) {
    control_plane_fini(&process->plane);
    json_decref(process->observed);
    *process = (struct packet_process){0};
}

/* ---- one that is to end ---- */

static void stopped(struct plane_call *call) {
    struct packet_process *process = call->arg;
    json_decref(call->result);
    process->asked = false;
    process->gone = call->ok;
    if (!process->all->ending)
        process->all->options.changed(process->all->options.arg);
}

/* Nobody shall be started in its place, and so it is let go as soon as it ends or nobody is there. */
static void have_it_end(struct packet_process *process) {
    enum control_plane_state state = process->plane.state;
    process->leaves = true;
    if (process->gone) {
        drop(process);
    } else if (control_plane_ready(&process->plane) && !process->asked) {
        process->asked = true;
        process->stop = (struct plane_call){.method = "packet_stop", .timeout_ms = STOP_MS, .done = stopped, .arg = process};
        control_plane_call(&process->plane, &process->stop);
    } else if (!process->asked && process->plane.process == NULL &&
               (state == CONTROL_PLANE_IDLE || (state == CONTROL_PLANE_WAITING && process->plane.vacant))) {
        drop(process);
    } else {
        control_plane_give_up_start(&process->plane);
    }
}

/* ---- what is to be ---- */

void packet_processes_want(struct packet_processes *processes, const json_t *vfs) {
    control_plane_want(&processes->list[0].plane);
    if (!processes->options.several)
        return;
    const char *id;
    json_t *vf;
    for (unsigned i = 1; i < PACKET_PROCESSES_MAX; i++) {
        struct packet_process *process = &processes->list[i];
        char key[24];
        if (!process->exists)
            continue;
        snprintf(key, sizeof(key), "%u", process->vf);
        const char *mask = json_string_value(json_object_get(json_object_get(vfs, key), "core_mask"));
        if (process->leaves || mask == NULL || strcmp(mask, process->core_mask) != 0)
            have_it_end(process);
    }
    json_object_foreach((json_t *)vfs, id, vf) {
        unsigned number = (unsigned)strtoul(id, NULL, 10);
        struct packet_process *process = packet_processes_find(processes, number);
        if (process == NULL)
            process = add(processes, number, json_string_value(json_object_get(vf, "core_mask")));
        if (process != NULL && !process->leaves)
            control_plane_want(&process->plane);
    }
}

void packet_processes_found(struct packet_processes *processes, unsigned vf, const char *core_mask) {
    if (vf == 0 || core_mask == NULL)
        return; /* the plane itself is none of them */
    struct packet_process *process = packet_processes_find(processes, vf);
    if (process != NULL) {
        process->leaves = process->leaves || strcmp(process->core_mask, core_mask) != 0;
        return;
    }
    process = add(processes, vf, core_mask);
    if (process == NULL)
        return;
    process->plane.options.processes.start = NULL; /* it is looked for, and not made */
    process->leaves = true;
    control_plane_want(&process->plane);
}

bool packet_process_ready(const struct packet_process *process) {
    return !process->leaves && control_plane_ready(&process->plane);
}

/* After a restart of ours, one that is not ready may be a full one that is yet to be found. */
bool packet_process_empty(const struct packet_process *process) { return process->plane.vacant; }

const struct packet_process *packet_processes_missing(const struct packet_processes *processes) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        const struct packet_process *process = &processes->list[i];
        if (process->exists && !packet_process_ready(process) && (i == 0 || !packet_process_empty(process)))
            return process;
    }
    return NULL;
}

bool packet_processes_leaving(const struct packet_processes *processes) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        if (processes->list[i].exists && processes->list[i].leaves)
            return true;
    return false;
}

void packet_processes_forget(struct packet_processes *processes) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        json_decref(processes->list[i].observed);
        processes->list[i].observed = NULL;
    }
}

bool packet_processes_stuck(const struct packet_processes *processes) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        if (processes->list[i].stuck.code != ERROR_NONE)
            return true;
    return false;
}

void packet_processes_unstick(struct packet_processes *processes) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        error_clear(&processes->list[i].stuck);
}

void packet_processes_init(struct packet_processes *processes, const struct packet_processes_options *options) {
    *processes = (struct packet_processes){.options = *options};
    add(processes, 0, "");
}

void packet_processes_fini(struct packet_processes *processes) {
    processes->ending = true;
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        if (processes->list[i].exists)
            drop(&processes->list[i]);
}
