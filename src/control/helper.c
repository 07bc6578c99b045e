#include "control/helper.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/internal.h"

static int start(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct control_helper *helper = arg;
    const struct control_helpers *helpers = &helper->control->options.helpers;
    return helpers->start(helpers->arg, helper->socket_path, helper->log_path, ended, ended_arg, ret_process);
}

static int adopt(void *arg, uint64_t number, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    const struct control_processes *processes = &((struct control_helper *)arg)->control->options.processes;
    return processes->adopt(processes->arg, number, ended, ended_arg, ret_process);
}

static void release(void *arg, void *process) {
    const struct control_processes *processes = &((struct control_helper *)arg)->control->options.processes;
    processes->release(processes->arg, process);
}

static void changed(void *arg) {
    struct control_helper *helper = arg;
    frontend_helper_changed(helper->control, helper->frontend);
}

struct control_helper *helper_create(struct control *control, struct control_frontend *frontend) {
    struct control_helper *helper = calloc(1, sizeof(*helper));
    const char *folder = control->options.helpers.folder, *name = frontend->record.name;
    if (helper == NULL)
        return NULL;
    helper->control = control;
    helper->frontend = frontend;
    snprintf(helper->what, sizeof(helper->what), "block device of %s", name);
    /* Names may be long, and paths of sockets not. */
    if (snprintf(helper->socket_path, sizeof(helper->socket_path), "%s/dev-%08x.sock", folder, (unsigned)hash_text(name)) >=
            (int)sizeof(helper->socket_path) ||
        snprintf(helper->log_path, sizeof(helper->log_path), "%s/blockdev.log", folder) >= (int)sizeof(helper->log_path)) {
        free(helper);
        return NULL;
    }
    control_plane_init(&helper->plane, &(struct control_plane_options){
                                           .reactor = control->options.reactor,
                                           .log = control->options.log,
                                           .name = helper->what,
                                           .socket_path = helper->socket_path,
                                           .log_path = helper->log_path,
                                           .processes = {.start = start, .adopt = adopt, .release = release, .arg = helper},
                                           .changed = changed,
                                           .arg = helper});
    return helper;
}

void helper_destroy(struct control_helper *take_helper) {
    if (take_helper == NULL)
        return;
    control_plane_fini(&take_helper->plane);
    free(take_helper);
}
