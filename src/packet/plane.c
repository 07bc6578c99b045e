#include "packet/plane.h"

#include <stdio.h>
#include <stdlib.h>

#include "packet/ring.h"

/* Looks at all inputs in a turn of the loop, which costs as much as several of them: a frame that comes in the middle waits for
 * the next look. Fewer when they bring much, so that neither messages nor the time that frames are stamped with are late. */
enum { RUNS_A_TURN = 16, FRAMES_A_TURN = 4 * PACKET_BURST };

/* How often a port is looked at that cannot wake its worker. */
#define LOOK_AGAIN_NS (500 * NS_PER_US)

const char *packet_port_kind_name(enum packet_port_kind kind) {
    static const char *const names[PACKET_PORT_KIND_COUNT] = {
        [PACKET_PORT_AF_PACKET] = "af_packet", [PACKET_PORT_TAP] = "tap",       [PACKET_PORT_VHOST_USER] = "vhost_user",
        [PACKET_PORT_MEMIF] = "memif",         [PACKET_PORT_RING] = "ring",     [PACKET_PORT_NULL] = "null",
        [PACKET_PORT_PCAP] = "pcap",           [PACKET_PORT_AF_XDP] = "af_xdp", [PACKET_PORT_PCI] = "pci",
    };
    assert((unsigned)kind < PACKET_PORT_KIND_COUNT);
    return names[kind];
}

/* ---- workers ---- */

static unsigned worker_poll(struct reactor_poller *poller) {
    struct packet_worker *worker = container_of(poller, struct packet_worker, poller);
    unsigned received = 0;
    worker->scratch.now_ns = reactor_now_ns(worker->reactor);
    for (unsigned i = 0; i < RUNS_A_TURN && received < FRAMES_A_TURN; i++)
        received += plan_run(worker->plan, &worker->scratch);
    return received;
}

static uint64_t worker_sleep(struct reactor_poller *poller, bool asleep) {
    struct packet_worker *worker = container_of(poller, struct packet_worker, poller);
    uint64_t limit_ns = UINT64_MAX;
    for (unsigned c = 0; c < worker->plan->component_count; c++) {
        const struct plan_component *component = &worker->plan->components[c];
        for (unsigned i = 0; i < component->input_count; i++) {
            struct packet_port *port = component->inputs[i].port;
            if (!port->ops->sleep(port, asleep))
                limit_ns = LOOK_AGAIN_NS;
        }
    }
    return limit_ns;
}

static bool plan_reads(const struct plan *plan, const struct packet_port *port) {
    for (unsigned c = 0; c < plan->component_count; c++)
        for (unsigned i = 0; i < plan->components[c].input_count; i++)
            if (plan->components[c].inputs[i].port == port)
                return true;
    return false;
}

/* Tells the ports that are in `plan` and not in `other`. */
static void tell_difference(struct packet_worker *worker, const struct plan *plan, const struct plan *other, bool begins) {
    for (unsigned c = 0; c < plan->component_count; c++)
        for (unsigned i = 0; i < plan->components[c].input_count; i++) {
            struct packet_port *port = plan->components[c].inputs[i].port;
            if (port->ops->read_by != NULL && !plan_reads(other, port))
                port->ops->read_by(port, worker->reactor, begins);
        }
}

static const struct plan no_plan;

static void worker_begin(struct reactor_message *message) {
    struct packet_worker *worker = container_of(message, struct packet_worker, begin);
    struct packet_backend *backend = worker->plane->options.backend;
    if (backend->thread != NULL)
        backend->thread(backend, true);
    reactor_set_poller(worker->reactor, &worker->poller);
}

/* Between two bursts. */
static void worker_adopt(struct reactor_message *message) {
    struct packet_worker *worker = container_of(message, struct packet_worker, adopt);
    const struct plan *plan = worker->next_plan;
    tell_difference(worker, worker->plan, plan, false);
    tell_difference(worker, plan, worker->plan, true);
    worker->plan = plan;
    reactor_post(worker->plane->options.control, &worker->adopted);
}

static void worker_adopted(struct reactor_message *message) {
    struct packet_worker *worker = container_of(message, struct packet_worker, adopted);
    struct packet_change *change = list_entry(list_first(&worker->plane->changes), struct packet_change, node);
    assert(change->pending > 0);
    if (--change->pending == 0)
        task_wake(&change->task);
}

static void worker_ended(struct reactor_message *message) {
    struct packet_plane *plane = container_of(message, struct packet_worker, ended)->plane;
    if (plane->ending > 0) {
        if (--plane->ending == 0)
            plane->stopped(plane->stopped_arg);
        return;
    }
    struct packet_change *change = list_entry(list_first(&plane->changes), struct packet_change, node);
    assert(change->pending > 0);
    if (--change->pending == 0)
        task_wake(&change->task);
}

static void worker_end(struct reactor_message *message) {
    struct packet_worker *worker = container_of(message, struct packet_worker, end);
    struct packet_backend *backend = worker->plane->options.backend;
    reactor_set_poller(worker->reactor, NULL);
    if (backend->thread != NULL)
        backend->thread(backend, false);
    reactor_post(worker->plane->options.control, &worker->ended);
}

static void worker_destroy(struct packet_worker *worker) {
    reactor_destroy(worker->reactor);
    free(worker);
}

/* Made, and its thread runs, with nothing to do. NULL: error. */
static struct packet_worker *worker_create(struct packet_plane *plane, unsigned index, const struct model_worker *place,
                                           struct error *error) {
    const struct packet_plane_options *options = &plane->options;
    struct packet_worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        error_set(error, ERROR_NO_MEMORY, "no memory for a worker");
        return NULL;
    }
    worker->plane = plane;
    worker->index = index;
    worker->cpu = place->cpu;
    worker->plan = &no_plan;
    worker->scratch.memory = options->backend->memory;
    worker->poller = (struct reactor_poller){.poll = worker_poll, .sleep = worker_sleep};
    worker->begin.run = worker_begin;
    worker->adopt.run = worker_adopt;
    worker->adopted.run = worker_adopted;
    worker->end.run = worker_end;
    worker->ended.run = worker_ended;
    char name[32]; /* the reactor keeps 15 characters */
    snprintf(name, sizeof(name), "worker_%u", index);
    struct packet_backend *backend = options->backend;
    struct reactor_options reactor_options = {.name = name, .cpu = place->cpu, .poll_mode = options->poll_mode, .index = index};
    if (backend->launcher != NULL) {
        reactor_options.launcher = backend->launcher(backend, index, place->core);
        reactor_options.cpu = -1; /* the launcher's is pinned already */
    }
    int result = reactor_create(options->host, &reactor_options, &worker->reactor);
    if (result != 0) {
        error_set_errno(error, result, "no worker on processor %d", place->cpu);
        free(worker);
        return NULL;
    }
    reactor_post(worker->reactor, &worker->begin);
    result = reactor_start(worker->reactor);
    if (result != 0) {
        error_set_errno(error, result, "worker %u does not start", index);
        worker_destroy(worker);
        return NULL;
    }
    return worker;
}

/* ---- versions ---- */

static void version_destroy(struct packet_version *version) {
    if (version == NULL)
        return;
    model_plans_fini(&version->plans);
    model_destroy(version->model);
    free(version);
}

/* A copy of what runs, to be edited. NULL: no memory. */
static struct packet_version *version_create(const struct packet_version *from) {
    struct packet_version *version = calloc(1, sizeof(*version));
    if (version == NULL)
        return NULL;
    version->model = from == NULL ? model_create() : model_clone(from->model);
    version->generation = from == NULL ? 1 : from->generation + 1;
    if (version->model == NULL) {
        free(version);
        return NULL;
    }
    return version;
}

/* Starts the workers that the model has and we have not. */
static bool start_workers(struct packet_plane *plane, const struct model *model, struct error *error) {
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (!model->workers[i].exists || plane->workers[i] != NULL)
            continue;
        plane->workers[i] = worker_create(plane, i, &model->workers[i], error);
        if (plane->workers[i] == NULL)
            return false;
    }
    return true;
}

/* Asks those to end that the running version has not; returns how many. */
static unsigned end_workers(struct packet_plane *plane) {
    unsigned count = 0;
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (plane->workers[i] != NULL && !plane->version->model->workers[i].exists) {
            reactor_post(plane->workers[i]->reactor, &plane->workers[i]->end);
            count++;
        }
    return count;
}

static void destroy_ended_workers(struct packet_plane *plane) {
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (plane->workers[i] != NULL && !plane->version->model->workers[i].exists) {
            worker_destroy(plane->workers[i]);
            plane->workers[i] = NULL;
        }
}

/* ---- changes ---- */

enum change_state {
    CHANGE_CHECK,
    CHANGE_OPEN,
    CHANGE_PUBLISH,
    CHANGE_ADOPT,
    CHANGE_END_WORKERS, /* that are not in the version any more, or not in any */
    CHANGE_CLOSE,
    CHANGE_DONE,
    CHANGE_UNDO,
    CHANGE_COUNT
};
static const char *const change_names[] = {"check", "open", "publish", "adopt", "end_workers", "close", "done", "undo"};
static const uint64_t change_moves[CHANGE_COUNT] = {
    [CHANGE_CHECK] = TASK_MOVE(CHANGE_OPEN) | TASK_MOVE(CHANGE_PUBLISH) | TASK_MOVE(CHANGE_UNDO),
    [CHANGE_OPEN] = TASK_MOVE(CHANGE_PUBLISH) | TASK_MOVE(CHANGE_UNDO),
    [CHANGE_PUBLISH] = TASK_MOVE(CHANGE_ADOPT) | TASK_MOVE(CHANGE_UNDO),
    [CHANGE_ADOPT] = TASK_MOVE(CHANGE_END_WORKERS) | TASK_MOVE(CHANGE_CLOSE) | TASK_MOVE(CHANGE_DONE),
    [CHANGE_END_WORKERS] = TASK_MOVE(CHANGE_DONE),
    [CHANGE_CLOSE] = TASK_MOVE(CHANGE_DONE),
    [CHANGE_UNDO] = TASK_MOVE(CHANGE_END_WORKERS) | TASK_MOVE(CHANGE_DONE),
};

static void open_run(struct host_job *job) {
    struct packet_change *change = container_of(job, struct packet_change, job);
    struct packet_backend *backend = change->plane->options.backend;
    const struct packet_port_options *open = change->open;
    if (open->kind == PACKET_PORT_RING && !backend->opens_rings)
        change->ok = packet_ring_create(open->name, open->size, backend->memory, &change->opened, &change->error);
    else
        change->ok = backend->open(backend, open, &change->opened, &change->error);
}

static void close_run(struct host_job *job) {
    struct packet_change *change = container_of(job, struct packet_change, job);
    change->closing->ops->destroy(change->closing);
}

static void job_done(struct host_job *job) {
    struct packet_change *change = container_of(job, struct packet_change, job);
    change->job_done = true;
    task_wake(&change->task);
}

static void submit_job(struct packet_change *change, void (*run)(struct host_job *job)) {
    change->job_done = false;
    change->job = (struct host_job){.run = run, .done = job_done};
    host_job_submit(change->plane->options.control->loop, &change->job);
}

static void step_check(struct packet_change *change) {
    change->next = version_create(change->plane->version);
    if (change->next == NULL) {
        change->ok = error_set(&change->error, ERROR_NO_MEMORY, "no memory for a version of the configuration");
    } else {
        change->ok = change->edit == NULL || change->edit(change, change->next->model, &change->error);
        if (change->ok && change->open != NULL)
            change->ok = model_check_new_port(change->next->model, change->open->name, &change->error);
    }
    if (!change->ok) {
        change->closing = NULL;
        task_move(&change->task, CHANGE_UNDO);
    } else if (change->open != NULL) {
        submit_job(change, open_run);
        task_move(&change->task, CHANGE_OPEN);
    } else {
        task_move(&change->task, CHANGE_PUBLISH);
    }
}

static void step_open(struct packet_change *change) {
    if (!change->job_done)
        return;
    if (change->ok)
        change->ok = model_add_port(change->next->model, change->opened, &change->error);
    task_move(&change->task, change->ok ? CHANGE_PUBLISH : CHANGE_UNDO);
}

static void step_publish(struct packet_change *change) {
    struct packet_plane *plane = change->plane;
    if (!model_compile(change->next->model, &change->next->plans))
        change->ok = error_set(&change->error, ERROR_NO_MEMORY, "no memory for the workers' plans");
    if (!change->ok || !start_workers(plane, change->next->model, &change->error)) {
        change->ok = false;
        change->closing = NULL; /* it stays */
        task_move(&change->task, CHANGE_UNDO);
        return;
    }
    change->pending = 0;
    task_move(&change->task, CHANGE_ADOPT);
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (plane->workers[i] == NULL)
            continue;
        change->pending++;
        plane->workers[i]->next_plan = &change->next->plans.plans[i];
        reactor_post(plane->workers[i]->reactor, &plane->workers[i]->adopt);
    }
}

static void step_adopt(struct packet_change *change) {
    struct packet_plane *plane = change->plane;
    if (change->pending > 0)
        return;
    struct packet_version *old = plane->version;
    plane->version = change->next;
    change->generation = plane->version->generation;
    version_destroy(old);
    if (change->closing != NULL) {
        submit_job(change, close_run);
        task_move(&change->task, CHANGE_CLOSE);
    } else {
        change->pending = end_workers(plane);
        task_move(&change->task, change->pending > 0 ? CHANGE_END_WORKERS : CHANGE_DONE);
    }
}

static void step_end_workers(struct packet_change *change) {
    if (change->pending > 0)
        return;
    destroy_ended_workers(change->plane);
    task_move(&change->task, CHANGE_DONE);
}

/* What was opened is closed, and the version that nobody saw freed. */
static void step_undo(struct packet_change *change) {
    version_destroy(change->next);
    change->next = NULL;
    if (change->opened != NULL && change->closing == NULL) {
        change->closing = change->opened;
        submit_job(change, close_run);
        return;
    }
    if (change->closing != NULL && !change->job_done)
        return;
    change->pending = end_workers(change->plane);
    task_move(&change->task, change->pending > 0 ? CHANGE_END_WORKERS : CHANGE_DONE);
}

static void change_step(struct task *task) {
    struct packet_change *change = container_of(task, struct packet_change, task);
    switch ((enum change_state)task->state) {
    case CHANGE_CHECK: step_check(change); break;
    case CHANGE_OPEN: step_open(change); break;
    case CHANGE_PUBLISH: step_publish(change); break;
    case CHANGE_ADOPT: step_adopt(change); break;
    case CHANGE_END_WORKERS: step_end_workers(change); break;
    case CHANGE_CLOSE:
        if (change->job_done)
            task_move(task, CHANGE_DONE);
        break;
    case CHANGE_UNDO: step_undo(change); break;
    case CHANGE_DONE:
    case CHANGE_COUNT: task_end(task); break;
    }
}

static void start_first(struct packet_plane *plane);

static void change_end(struct task *task) {
    struct packet_change *change = container_of(task, struct packet_change, task);
    struct packet_plane *plane = change->plane;
    list_remove(&change->node);
    change->done(change);
    if (!list_empty(&plane->changes))
        start_first(plane);
}

static const struct task_type change_type = {.name = "packet_change",
                                             .state_names = change_names,
                                             .state_count = CHANGE_COUNT,
                                             .moves = change_moves,
                                             .step = change_step,
                                             .end = change_end};

static void start_first(struct packet_plane *plane) {
    struct packet_change *change = list_entry(list_first(&plane->changes), struct packet_change, node);
    task_start(&change->task, &change_type, plane->options.control, CHANGE_CHECK, UINT64_MAX);
}

void packet_plane_submit(struct packet_plane *plane, struct packet_change *change) {
    bool idle = list_empty(&plane->changes);
    change->plane = plane;
    change->ok = false;
    change->next = NULL;
    change->opened = change->closing = NULL;
    change->task = (struct task){.type = NULL};
    list_push_back(&plane->changes, &change->node);
    if (idle)
        start_first(plane);
}

bool packet_change_remove_port(struct packet_change *change, struct model *model, const char *name, struct error *error) {
    struct packet_port *port = model_find_port(model, name);
    if (!model_remove_port(model, name, error))
        return false;
    assert(port != NULL);
    change->closing = port;
    return true;
}

/* ---- the end ---- */

/* All components at once, then port after port. */
static bool remove_something(struct packet_change *change, struct model *model, struct error *error) {
    bool ok = true;
    while (ok && model->component_count > 0)
        ok = model_remove_component(model, model->components[0]->name, error);
    return ok && (model->port_count == 0 || packet_change_remove_port(change, model, model->ports[0]->name, error));
}

static void something_removed(struct packet_change *change) {
    struct packet_plane *plane = change->plane;
    if (change->ok && plane->version->model->port_count > 0) {
        list_push_back(&plane->changes, &change->node);
        change->closing = NULL;
        change->task = (struct task){.type = NULL};
        return; /* the caller starts it */
    }
    plane->ending = 1; /* ours, so that it is not over before all are asked */
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (plane->workers[i] != NULL) {
            plane->ending++;
            reactor_post(plane->workers[i]->reactor, &plane->workers[i]->end);
        }
    if (--plane->ending == 0)
        plane->stopped(plane->stopped_arg);
}

void packet_plane_stop(struct packet_plane *plane, void (*stopped)(void *arg), void *arg) {
    plane->stopped = stopped;
    plane->stopped_arg = arg;
    plane->last.edit = remove_something;
    plane->last.done = something_removed;
    packet_plane_submit(plane, &plane->last);
}

/* ---- making ---- */

void packet_plane_destroy(struct packet_plane *plane) {
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (plane->workers[i] != NULL)
            worker_destroy(plane->workers[i]);
    version_destroy(plane->version);
    free(plane);
}

bool packet_plane_create(const struct packet_plane_options *options, struct packet_plane **ret_plane, struct error *error) {
    assert(options->cpu_count <= MODEL_WORKERS_MAX);
    struct packet_plane *plane = calloc(1, sizeof(*plane));
    if (plane == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    plane->options = *options;
    list_init(&plane->changes);
    plane->version = version_create(NULL);
    bool ok = plane->version != NULL || error_set(error, ERROR_NO_MEMORY, "no memory");
    for (unsigned i = 0; ok && i < options->cpu_count; i++)
        ok = model_add_worker(plane->version->model, options->cpus[i], error);
    if (ok && options->vf != NULL)
        ok = model_add_vf(plane->version->model, options->vf, options->cores, options->cpu_is_there, error);
    if (!ok || !start_workers(plane, plane->version->model, error)) {
        packet_plane_destroy(plane);
        return false;
    }
    *ret_plane = plane;
    return true;
}
