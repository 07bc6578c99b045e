/* The helper that has a block device, as a process: started with the names by which targets know this node's kernel. */
#pragma once

#include "control/control.h"
#include "programs/penstockd/options.h"

struct blockdev_program {
    struct reactor *reactor; /* set before the first start */
    struct log *log;
    char path[512], host_nqn[80], host_id[UUID_TEXT_SIZE];
};

/* `self`: argv[0]. */
void blockdev_program_init(struct blockdev_program *program, const struct daemon_options *options, const char *self);
/* `folder`: of sockets and logs; stays. */
struct control_helpers blockdev_program_helpers(struct blockdev_program *program, const char *folder);
