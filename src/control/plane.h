/* The supervision of one plane: found on its socket or started, greeted, watched, started again with back-off. It is
 * never killed, but where `end` says so. docs/control.md has the states.
 *
 * Calling context: the control loop. */
#pragma once

#include <jansson.h>

#include "base/log.h"
#include "plane_client/client.h"
#include "reactor/reactor.h"

/* Processes, as the program gives them: host/linux in the product. `ended` comes once, from the loop; the handle is void then. */
struct control_processes {
    /* NULL: somebody else starts the plane. */
    int (*start)(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process);
    int (*adopt)(void *arg, uint64_t number, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process);
    void (*release)(void *arg, void *process); /* watch it no more; it goes on */
    /* Ask it to end, or kill it: one that was started and is not ready in time. NULL: that is never done. */
    void (*end)(void *arg, void *process, bool kill);
    void *arg;
};

enum control_plane_state {
    CONTROL_PLANE_IDLE,       /* nobody needs it */
    CONTROL_PLANE_CONNECTING, /* to one that may run already */
    CONTROL_PLANE_STARTING,   /* its process runs, and does not answer yet */
    CONTROL_PLANE_GREETING,
    CONTROL_PLANE_READY,
    CONTROL_PLANE_WAITING /* back-off */
};

struct control_plane_options {
    struct reactor *reactor;
    struct log *log;
    const char *name;        /* "packet plane", for people; NULL = "storage plane" */
    const char *greeting;    /* a method whose result has its process id, "pid"; NULL = framework_get_reactors */
    const char *socket_path; /* stays */
    const char *log_path;    /* of the process, for people; stays */
    struct control_processes processes;
    void (*changed)(void *arg); /* it became ready, or is ready no more */
    void (*stirred)(void *arg); /* its process was started, or an attempt was in vain; NULL = nobody asks */
    void *arg;
};

struct control_plane {
    struct control_plane_options options;
    enum control_plane_state state;
    struct plane_client *client;
    void *process;           /* watched; NULL = none, or it cannot be */
    uint64_t process_number; /* as it told */
    bool wanted;
    bool vacant;          /* it has nothing: there is no process, or one that was started here and has not been ready yet */
    bool asked_to_end;    /* its process, which was not ready in time */
    uint64_t ready_by_ns; /* its process, if it was started here, or it is asked to end, and then killed */
    unsigned failures;    /* in a row: the back-off's exponent */
    uint64_t lost_ns[16]; /* when it was ready no more: the last ones, round and round */
    unsigned loss_count;
    uint64_t since_ns;      /* of the state */
    uint64_t gone_since_ns; /* unless it is ready: wanted, or ready no more, since */
    struct reactor_timer timer;
    struct plane_call greeting;
    json_t *methods;    /* of the plane, as an object */
    struct error error; /* why it is not ready */
};

void control_plane_init(struct control_plane *plane, const struct control_plane_options *options);
/* Lets go of the plane, which goes on. Calls under way end with ERROR_CANCELLED, before this returns. */
void control_plane_fini(struct control_plane *plane);
/* Somebody needs it, from now on. */
void control_plane_want(struct control_plane *plane);
static inline bool control_plane_ready(const struct control_plane *plane) { return plane->state == CONTROL_PLANE_READY; }
const char *control_plane_state_name(enum control_plane_state state); /* "ready" */
/* Ready and able to do this. */
bool control_plane_can(const struct control_plane *plane, const char *method);
/* Asks its process to end if that was started here and has not been ready yet; whether it can be asked: options.processes.end. */
void control_plane_give_up_start(struct control_plane *plane);
/* How long it has not been ready; 0 = it is, or was never wanted. */
uint64_t control_plane_gone_ns(const struct control_plane *plane);
/* The plane is ready. As plane_client_call(). */
void control_plane_call(struct control_plane *plane, struct plane_call *call);
