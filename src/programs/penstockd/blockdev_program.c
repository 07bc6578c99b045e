#include "programs/penstockd/blockdev_program.h"

#include <stdio.h>

#include "host/linux/linux.h"

static int start(void *arg, const char *socket_path, const char *log_path, void (*ended)(void *ended_arg, int status),
                 void *ended_arg, void **ret_process) {
    struct blockdev_program *program = arg;
    const char *command[] = {program->path,     "--socket",  socket_path,      "--host-nqn",
                             program->host_nqn, "--host-id", program->host_id, NULL};
    struct host_linux_process_options options = {.arguments = command, .log_path = log_path};
    struct host_linux_process *process;
    int result = host_linux_process_start(program->reactor->loop, &options, ended, ended_arg, &process);
    if (result == 0)
        *ret_process = process;
    return result;
}

/* Both paths to a volume must come from the same host, also after a restart: the names follow from the node's. */
void blockdev_program_init(struct blockdev_program *program, const struct daemon_options *options, const char *self) {
    const char *slash = strrchr(self, '/');
    char name[256];
    struct uuid uuid;
    if (options->blockdev != NULL)
        snprintf(program->path, sizeof(program->path), "%s", options->blockdev);
    else
        snprintf(program->path, sizeof(program->path), "%.*spenstock-blockdev", slash == NULL ? 0 : (int)(slash + 1 - self),
                 self);
    snprintf(name, sizeof(name), "penstock-host:%s:%s", options->node, options->address);
    uuid_from_name(&uuid_space_url, name, &uuid);
    uuid_format(&uuid, program->host_id);
    snprintf(program->host_nqn, sizeof(program->host_nqn), "nqn.2014-08.org.nvmexpress:uuid:%s", program->host_id);
}

struct control_helpers blockdev_program_helpers(struct blockdev_program *program, const char *folder) {
    return (struct control_helpers){.start = start, .arg = program, .folder = folder};
}
