#include "control/plane.h"

#include <inttypes.h>

enum {
    TRY_MS = 50,             /* between attempts while it starts */
    START_MS = 120000,       /* until a process that was started must answer; then it may be ended */
    END_MS = 10000,          /* from being asked to end to being killed */
    GREETING_MS = 10000,     /* each answer of it */
    BACK_OFF_MIN_MS = 100,   /* doubling … */
    BACK_OFF_MAX_MS = 10000, /* … up to this */
    AGAIN_MAX = 5,           /* the exponent after a loss: 3.2 s, less than hosts bear */
    AT_ONCE = 8,             /* losses within … */
    FORGIVEN_MS = 60000      /* … this that are followed by another start at once: hosts wait */
};

static void connect_to(struct control_plane *plane);
static void greet(struct control_plane *plane, const char *method, void (*done)(struct plane_call *call));

static uint64_t now_ns(const struct control_plane *plane) { return host_now_ns(plane->options.reactor->host); }

static void enter(struct control_plane *plane, enum control_plane_state state) {
    plane->state = state;
    plane->since_ns = now_ns(plane);
}

static void drop_client(struct control_plane *plane) {
    struct plane_client *client = plane->client;
    plane->client = NULL;
    if (client != NULL)
        plane_client_destroy(client);
}

static void in_ms(struct control_plane *plane, uint64_t ms) {
    reactor_timer_start(plane->options.reactor, &plane->timer, now_ns(plane) + ms * NS_PER_MS);
}

static void stir(struct control_plane *plane) {
    if (plane->options.stirred != NULL)
        plane->options.stirred(plane->options.arg);
}

/* The process has not been ready since it was started: it is asked to end, and then killed. */
static void end_start(struct control_plane *plane) {
    const struct control_processes *processes = &plane->options.processes;
    if (!plane->vacant || plane->process == NULL || processes->end == NULL)
        return;
    log_warning(plane->options.log, LOG_AREA_APP, "%s: its process is %s", plane->options.name,
                plane->asked_to_end ? "killed" : "asked to end");
    processes->end(processes->arg, plane->process, plane->asked_to_end);
    plane->asked_to_end = true;
    plane->ready_by_ns = now_ns(plane) + END_MS * NS_PER_MS;
}

static void back_off(struct control_plane *plane) {
    uint64_t ms = BACK_OFF_MAX_MS;
    if (now_ns(plane) >= plane->ready_by_ns)
        end_start(plane);
    if (plane->failures < 8)
        ms = min_u64(ms, (uint64_t)BACK_OFF_MIN_MS << plane->failures);
    plane->failures++;
    drop_client(plane);
    enter(plane, CONTROL_PLANE_WAITING);
    in_ms(plane, ms);
    log_warning(plane->options.log, LOG_AREA_APP, "%s: %s; trying again in %" PRIu64 " ms", plane->options.name,
                plane->error.text, ms);
    stir(plane);
}

/* ---- its process ---- */

/* How many there were lately, with this one. */
static unsigned count_loss(struct control_plane *plane) {
    unsigned count = 0;
    plane->lost_ns[plane->loss_count++ % array_count(plane->lost_ns)] = now_ns(plane);
    for (unsigned i = 0; i < min_u64(plane->loss_count, array_count(plane->lost_ns)); i++)
        count += now_ns(plane) - plane->lost_ns[i] < FORGIVEN_MS * NS_PER_MS;
    return count;
}

/* It was ready, and is no more. */
static void lose(struct control_plane *plane) {
    unsigned losses = count_loss(plane);
    plane->gone_since_ns = now_ns(plane);
    enter(plane, CONTROL_PLANE_CONNECTING);
    plane->failures = losses <= AT_ONCE ? 0 : (unsigned)min_u64(losses - AT_ONCE, AGAIN_MAX);
    if (plane->failures == 0) {
        log_warning(plane->options.log, LOG_AREA_APP, "%s: %s; starting it again", plane->options.name, plane->error.text);
        plane->failures = 1;
        drop_client(plane);
        in_ms(plane, 0);
    } else {
        back_off(plane);
    }
    plane->options.changed(plane->options.arg);
}

static void process_ended(void *arg, int status) {
    struct control_plane *plane = arg;
    plane->process = NULL;
    plane->vacant = true;
    if (plane->asked_to_end)
        error_set(&plane->error, ERROR_TIMED_OUT, "it was started and did not answer; its process was ended (see %s)",
                  plane->options.log_path);
    else if (status >= 0)
        error_set(&plane->error, ERROR_IO, "its process ended with status %d (see %s)", status, plane->options.log_path);
    else
        error_set(&plane->error, ERROR_IO, "its process ended (see %s)", plane->options.log_path);
    switch (plane->state) {
    case CONTROL_PLANE_READY: lose(plane); break;
    case CONTROL_PLANE_STARTING:
    case CONTROL_PLANE_GREETING: back_off(plane); break;
    default: break;
    }
}

static void start_process(struct control_plane *plane) {
    int result = plane->options.processes.start(plane->options.processes.arg, process_ended, plane, &plane->process);
    if (result != 0) {
        plane->process = NULL;
        error_set_errno(&plane->error, result, "it cannot be started");
        back_off(plane);
        return;
    }
    plane->asked_to_end = false;
    plane->ready_by_ns = now_ns(plane) + START_MS * NS_PER_MS;
    enter(plane, CONTROL_PLANE_STARTING);
    in_ms(plane, TRY_MS / 5);
    stir(plane);
}

/* Nobody answers on the socket. */
static void refused(struct control_plane *plane, const struct error *why) {
    struct error error = *why; /* which may be the client's own */
    drop_client(plane);
    plane->vacant = plane->vacant || plane->process == NULL;
    if (plane->state == CONTROL_PLANE_STARTING) {
        if (now_ns(plane) < plane->ready_by_ns) {
            in_ms(plane, TRY_MS);
            return;
        }
        error_set(&plane->error, ERROR_TIMED_OUT, "it was started and does not answer (see %s)", plane->options.log_path);
        back_off(plane);
    } else if (plane->process != NULL || plane->options.processes.start == NULL) {
        /* It lives, so a second one could not, or it is somebody else's: wait for its end, or for its answer. */
        plane->error = error;
        back_off(plane);
    } else {
        start_process(plane);
    }
}

/* ---- the connection ---- */

static void lost(void *arg, const struct error *why) {
    struct control_plane *plane = arg;
    plane->error = *why;
    switch (plane->state) {
    case CONTROL_PLANE_READY: lose(plane); break;
    case CONTROL_PLANE_CONNECTING:
    case CONTROL_PLANE_STARTING: refused(plane, why); break;
    case CONTROL_PLANE_GREETING: back_off(plane); break;
    case CONTROL_PLANE_IDLE:
    case CONTROL_PLANE_WAITING: drop_client(plane); break;
    }
}

/* False: the connection is lost, or will be given up. */
static bool greeted(struct control_plane *plane, struct plane_call *call) {
    if (call->ok || call->code != 0)
        return true;
    if (call->error.code == ERROR_TIMED_OUT) {
        plane->error = call->error;
        back_off(plane);
    }
    return false; /* else lost() follows */
}

static void methods_told(struct plane_call *call) {
    struct control_plane *plane = call->arg;
    if (!greeted(plane, call))
        return;
    json_decref(plane->methods);
    plane->methods = json_object();
    size_t i;
    json_t *method;
    json_array_foreach(call->result, i, method) if (json_is_string(method))
        json_object_set_new(plane->methods, json_string_value(method), json_true());
    json_decref(call->result);
    log_notice(plane->options.log, LOG_AREA_APP, "%s: ready on %s, %zu methods%s", plane->options.name,
               plane->options.socket_path, json_object_size(plane->methods),
               plane->process == NULL ? "; its process cannot be watched" : "");
    error_clear(&plane->error);
    plane->vacant = plane->asked_to_end = false;
    enter(plane, CONTROL_PLANE_READY);
    plane->options.changed(plane->options.arg);
}

/* The number is still its own when it answers once more, after the process is watched. */
static void process_told(struct plane_call *call) {
    struct control_plane *plane = call->arg;
    if (!greeted(plane, call))
        return;
    enter(plane, CONTROL_PLANE_GREETING);
    const json_t *number = json_object_get(call->result, "pid");
    plane->process_number = (uint64_t)json_integer_value(number);
    plane->vacant = plane->vacant && plane->process != NULL;
    if (plane->process == NULL && json_is_integer(number) &&
        plane->options.processes.adopt(plane->options.processes.arg, (uint64_t)json_integer_value(number), process_ended, plane,
                                       &plane->process) != 0)
        plane->process = NULL;
    json_decref(call->result);
    greet(plane, "rpc_get_methods", methods_told);
}

static void greet(struct control_plane *plane, const char *method, void (*done)(struct plane_call *call)) {
    plane->greeting = (struct plane_call){.method = method, .timeout_ms = GREETING_MS, .done = done, .arg = plane};
    plane_client_call(plane->client, &plane->greeting);
}

static void connect_to(struct control_plane *plane) {
    struct error error;
    if (!plane_client_create(plane->options.reactor, plane->options.socket_path, &plane->client, &error)) {
        plane->client = NULL;
        refused(plane, &error);
        return;
    }
    plane_client_watch(plane->client, lost, plane);
    greet(plane, plane->options.greeting, process_told);
}

static void tick(struct reactor_timer *timer) {
    struct control_plane *plane = container_of(timer, struct control_plane, timer);
    if (plane->state == CONTROL_PLANE_WAITING)
        enter(plane, CONTROL_PLANE_CONNECTING);
    if (plane->client == NULL && plane->state != CONTROL_PLANE_IDLE)
        connect_to(plane);
}

/* ---- what others see ---- */

void control_plane_init(struct control_plane *plane, const struct control_plane_options *options) {
    *plane = (struct control_plane){.options = *options, .timer.run = tick};
    if (plane->options.name == NULL)
        plane->options.name = "storage plane";
    if (plane->options.greeting == NULL)
        plane->options.greeting = "framework_get_reactors";
    error_set(&plane->error, ERROR_BUSY, "it is not needed yet");
}

void control_plane_fini(struct control_plane *plane) {
    reactor_timer_stop(plane->options.reactor, &plane->timer);
    plane->state = CONTROL_PLANE_IDLE;
    drop_client(plane);
    if (plane->process != NULL)
        plane->options.processes.release(plane->options.processes.arg, plane->process);
    json_decref(plane->methods);
    *plane = (struct control_plane){0};
}

void control_plane_want(struct control_plane *plane) {
    if (plane->wanted)
        return;
    plane->wanted = true;
    error_set(&plane->error, ERROR_BUSY, "it is being started");
    plane->gone_since_ns = now_ns(plane);
    enter(plane, CONTROL_PLANE_CONNECTING);
    in_ms(plane, 0);
}

void control_plane_give_up_start(struct control_plane *plane) {
    if (!plane->asked_to_end)
        end_start(plane);
}

const char *control_plane_state_name(enum control_plane_state state) {
    switch (state) {
    case CONTROL_PLANE_IDLE: return "idle";
    case CONTROL_PLANE_CONNECTING: return "connecting";
    case CONTROL_PLANE_STARTING: return "starting";
    case CONTROL_PLANE_GREETING: return "greeting";
    case CONTROL_PLANE_READY: return "ready";
    case CONTROL_PLANE_WAITING: return "waiting";
    }
    return "unknown";
}

bool control_plane_can(const struct control_plane *plane, const char *method) {
    return control_plane_ready(plane) && json_object_get(plane->methods, method) != NULL;
}

uint64_t control_plane_gone_ns(const struct control_plane *plane) {
    return !plane->wanted || control_plane_ready(plane) ? 0 : now_ns(plane) - plane->gone_since_ns;
}

void control_plane_call(struct control_plane *plane, struct plane_call *call) {
    assert(control_plane_ready(plane));
    plane_client_call(plane->client, call);
}
