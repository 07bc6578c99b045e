/* A plane's process, as control's supervision wants it: started, found again, let go. One for each plane. */
#pragma once

#include "control/plane.h"
#include "programs/penstockd/options.h"

struct plane_program {
    struct reactor *reactor;
    struct log *log;
    const char *name; /* "storage plane" */
    const char *log_path;
    const char *command[3 * DAEMON_LIST_MAX + 16];
    unsigned count;
};

/* PROGRAM -r SOCKET ARGUMENT…; all stays. */
void plane_program_init(struct plane_program *program, const char *name, const char *path, const char *socket_path,
                        const char *log_path, const struct daemon_list *arguments);
/* An option of ours besides, with its value (NULL: it has none); both stay. */
void plane_program_add(struct plane_program *program, const char *option, const char *value);
/* Without `end`, for which there is the other one. */
struct control_processes plane_program_processes(struct plane_program *program);
void plane_program_end(void *arg, void *process, bool kill);
