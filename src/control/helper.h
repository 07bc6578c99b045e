/* The process that has a frontend's block device: started when it is needed, watched, started again; spoken to as the plane is.
 * What it does: src/programs/penstock-blockdev. */
#pragma once

#include "control/control.h"

struct control_helper {
    struct control_plane plane;
    struct control *control;
    struct control_frontend *frontend;
    char what[96], socket_path[108], log_path[256];
};

/* NULL: no memory, or its socket's path is too long. */
struct control_helper *helper_create(struct control *control, struct control_frontend *frontend);
/* The process is let be: it ends when nobody asks for it for a while. NULL is fine. */
void helper_destroy(struct control_helper *take_helper);
