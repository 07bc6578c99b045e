/* The processes that the packet plane consists of: the plane itself (0, which is DPDK's primary if there are several), and one
 * for each vf. Each is supervised by itself: that all end with one is their own doing. docs/packet-processes.md.
 *
 * Calling context: the control loop. Must not know: the wiring, what is asked of a plane. */
#pragma once

#include "base/list.h"
#include "control/plane.h"

enum { PACKET_PROCESSES_MAX = 64 };

/* How one is started. vf: 0 = the plane itself. */
struct packet_launch {
    /* Those of that vf with these cores. `place`: below PACKET_PROCESSES_MAX, no other's until this one is let go. */
    struct control_processes (*processes)(void *arg, unsigned place, unsigned vf, const char *core_mask);
    void *arg;
};

struct packet_processes_options {
    struct reactor *reactor;
    struct log *log;
    const char *socket_path, *log_path; /* of the plane itself; stay */
    bool several;                       /* vfs are processes */
    struct packet_launch launch;
    void (*changed)(void *arg); /* one became ready, is so no more, or has gone */
    void (*stirred)(void *arg); /* one that is not ready was started, or could not be */
    void *arg;
};

struct packet_process {
    struct packet_processes *all;
    bool exists;
    unsigned vf;
    bool leaves; /* it is not wanted, or with other cores: asked to end as soon as it can be asked */
    bool asked;  /* and was */
    bool gone;   /* it has said that it ends */
    struct error
        stuck; /* why it does not do what it is to; it is left alone until all is tried once more; code NONE = it is not */
    char name[32], socket_path[128], core_mask[24];
    struct control_plane plane;
    struct plane_call stop;
    json_t *observed;
};

struct packet_processes {
    struct packet_processes_options options;
    struct packet_process list[PACKET_PROCESSES_MAX]; /* the first is the plane itself */
    bool ending;
};

void packet_processes_init(struct packet_processes *processes, const struct packet_processes_options *options);
/* Lets go of all; they go on. */
void packet_processes_fini(struct packet_processes *processes);
/* Those by their vf's id with {"core_mask"}, and the plane itself, are to run, and no others. */
void packet_processes_want(struct packet_processes *processes, const json_t *vfs);
/* One is there of which nothing is known here, with these cores: it is watched, and ends if it is not wanted so.
 * As a plane tells it: nothing comes of number 0, nor without cores (NULL). */
void packet_processes_found(struct packet_processes *processes, unsigned vf, const char *core_mask);
/* It is wanted as it is, and there. */
bool packet_process_ready(const struct packet_process *process);
/* It is not ready, and has nothing that another one may be waiting for: its process has not been ready since it was started here,
 * or there is none. */
bool packet_process_empty(const struct packet_process *process);
/* What all wait for: the plane itself if it is not ready, else the first one that is neither ready nor empty. NULL: nothing. */
const struct packet_process *packet_processes_missing(const struct packet_processes *processes);
static inline bool packet_processes_usable(const struct packet_processes *processes) {
    return packet_processes_missing(processes) == NULL;
}
/* One of no use is still there: _want() is to be called now and then. */
bool packet_processes_leaving(const struct packet_processes *processes);
/* What they have is to be looked at anew. */
void packet_processes_forget(struct packet_processes *processes);
bool packet_processes_stuck(const struct packet_processes *processes); /* one is */
/* Those that are stuck are tried once more. */
void packet_processes_unstick(struct packet_processes *processes);
static inline bool packet_processes_wanted(const struct packet_processes *processes) { return processes->list[0].plane.wanted; }
/* NULL: there is none. */
struct packet_process *packet_processes_find(struct packet_processes *processes, unsigned vf);
