/* Connect, and the life of a controller: made on the control reactor, living on the subsystem's home, ended when its last
 * connection has gone and the last of its commands is done there.
 *
 * The fence: a controller becomes ready only when every command of its host's lost controllers is done in the devices, and what a
 * lost connection had brought us before the host gave it up has been read. So no write of the past lands after a write of the new
 * controller. */
#include <stdlib.h>

#include "frontend/nvme/internal.h"

#define STATUS(status) ((status) | NVME_DO_NOT_RETRY)
#define SETTLE_INTERVAL_NS (1 * NS_PER_MS)

bool nvme_nqn_check(const char *nqn) {
    size_t length = strnlen(nqn, NVME_NQN_SIZE);
    if (length < 7 || length > NVME_NQN_LENGTH_MAX || memcmp(nqn, "nqn.", 4) != 0)
        return false;
    for (size_t i = 0; i < length; i++)
        if (nqn[i] <= ' ' || nqn[i] >= 0x7f)
            return false;
    return true;
}

/* ---- control reactor: may it come in, and to whom? ---- */

static void connect_invalid(struct nvme_command *command, bool in_data, size_t offset) {
    command->cqe.dw0 = (uint32_t)offset | (in_data ? 1U << 16 : 0);
    nvme_command_complete(command, STATUS(NVME_CONNECT_INVALID_PARAMETERS));
}
#define SQE_INVALID(command, member) connect_invalid(command, false, offsetof(struct nvme_connect, member))
#define DATA_INVALID(command, member) connect_invalid(command, true, offsetof(struct nvme_connect_data, member))

static struct nvme_listener *listener_of(const struct nvme_subsystem *subsystem, const void *socket) {
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node)
        if (listener->socket->socket == socket)
            return listener;
    return NULL;
}

static bool listens(const struct nvme_subsystem *subsystem, const void *socket) {
    return subsystem->discovery || listener_of(subsystem, socket) != NULL; /* every listener leads to the discovery one */
}

static struct nvme_controller *controller_find(struct nvme_subsystem *subsystem, uint16_t cntlid) {
    list_for_each (&subsystem->controllers, struct nvme_controller, controller, node)
        if (controller->cntlid == cntlid)
            return controller;
    return NULL;
}

/* A free controller id, not one used lately; 0 if all are taken. */
static uint16_t cntlid_choose(struct nvme_subsystem *subsystem) {
    unsigned span = subsystem->max_cntlid - subsystem->min_cntlid + 1U;
    for (unsigned i = 0; i < span; i++) {
        uint16_t cntlid = subsystem->next_cntlid;
        subsystem->next_cntlid = cntlid == subsystem->max_cntlid ? subsystem->min_cntlid : (uint16_t)(cntlid + 1);
        if (controller_find(subsystem, cntlid) == NULL)
            return cntlid;
    }
    return 0;
}

static unsigned controllers_of_host(const struct nvme_subsystem *subsystem, const struct nvme_connect_data *data) {
    unsigned count = 0;
    list_for_each (&subsystem->controllers, struct nvme_controller, controller, node)
        count += strcmp(controller->hostnqn, data->hostnqn) == 0;
    return count;
}

static struct nvme_controller *controller_create(struct nvme_queue *queue, struct nvme_subsystem *subsystem,
                                                 const struct nvme_connect_data *data, uint32_t kato_ms) {
    if (subsystem->controller_count >= NVME_LIMIT_CONTROLLERS ||
        controllers_of_host(subsystem, data) >= NVME_LIMIT_CONTROLLERS_HOST)
        return NULL;
    uint16_t cntlid = cntlid_choose(subsystem);
    struct nvme_controller *controller = cntlid == 0 ? NULL : calloc(1, sizeof(*controller));
    if (controller == NULL || !nvme_subsystem_settle_home(subsystem, NULL)) {
        free(controller);
        return NULL;
    }
    controller->target = subsystem->target;
    controller->subsystem = subsystem;
    controller->transport = queue->transport;
    controller->cntlid = cntlid;
    controller->path = subsystem->ana ? nvme_path_ref(listener_of(subsystem, queue->listener)->path) : NULL;
    controller->association = block_graph_new_association(subsystem->target->graph);
    memcpy(controller->hostnqn, data->hostnqn, strlen(data->hostnqn) + 1);
    memcpy(controller->hostid.bytes, data->host_id, sizeof(data->host_id));
    controller->has_line = memcmp(data->line_mark, NVME_CONNECT_LINE_MARK, sizeof(data->line_mark)) == 0;
    memcpy(controller->line.bytes, data->line, sizeof(data->line));
    atomic_store(&controller->kato_ms, kato_ms == 0 && subsystem->discovery ? NVME_DISCOVERY_KATO_MS : kato_ms);
    list_push_back(&subsystem->controllers, &controller->node);
    subsystem->controller_count++;
    return controller;
}

/* The connection belongs to this controller from now on; its home completes the Connect. */
static void admit(struct nvme_queue *queue, struct nvme_controller *controller, const struct nvme_connect *connect) {
    struct nvme_subsystem *subsystem = controller->subsystem;
    struct nvme_reactor_counters *counters = nvme_counters_of(subsystem->target, subsystem->home);
    queue->controller = controller;
    queue->subsystem = subsystem;
    queue->cntlid = controller->cntlid;
    queue->qid = connect->qid;
    queue->depth = (uint16_t)(connect->sq_size + 1);
    queue->sq_flow_disabled = connect->attributes & NVME_CONNECT_DISABLE_SQ_FLOW;
    queue->sq_head = (uint16_t)(1 % queue->depth);
    queue->reactor = subsystem->home;
    queue->counters = counters;
    controller->queue_refs++;
    subsystem->target->strangers--;
    counters->load++;
    list_push_back(&subsystem->queues, &queue->node);
    queue->ops->move(queue, subsystem->home);
}

static void connect_queue(struct nvme_command *command, struct nvme_subsystem *subsystem, const struct nvme_connect *connect,
                          const struct nvme_connect_data *data) {
    struct nvme_queue *queue = command->queue;
    const struct nvme_transport_options *options = &queue->transport->options;
    uint16_t depth_limit = connect->qid == 0 ? options->admin_queue_depth : options->queue_depth;
    struct nvme_controller *controller;
    if (connect->sq_size == 0 || connect->sq_size >= depth_limit) {
        SQE_INVALID(command, sq_size);
        return;
    }
    if (connect->qid > options->io_queues || (connect->qid > 0 && subsystem->discovery)) {
        SQE_INVALID(command, qid);
        return;
    }
    if (connect->qid == 0) {
        if (data->cntlid != NVME_CNTLID_DYNAMIC) {
            DATA_INVALID(command, cntlid);
            return;
        }
        controller = controller_create(queue, subsystem, data, connect->kato_ms);
        if (controller == NULL) {
            nvme_command_complete(command, NVME_CONNECT_CONTROLLER_BUSY);
            return;
        }
    } else {
        controller = controller_find(subsystem, data->cntlid);
        if (controller == NULL || strcmp(controller->hostnqn, data->hostnqn) != 0 ||
            memcmp(controller->hostid.bytes, data->host_id, sizeof(data->host_id)) != 0 ||
            controller->transport != queue->transport) {
            DATA_INVALID(command, cntlid);
            return;
        }
    }
    /* It leaves the core here and enters it again on its home, in nvme_queue_arrive(). */
    command->state = NVME_COMMAND_IDLE;
    queue->outstanding--;
    admit(queue, controller, connect);
}

void nvme_connect_execute(struct nvme_command *command) {
    struct nvme_queue *queue = command->queue;
    struct nvme_target *target = queue->transport->target;
    const struct nvme_connect *connect = (const struct nvme_connect *)&command->sqe;
    const struct nvme_connect_data *data = command->data;
    assert(queue->reactor == target->control);
    if (connect->record_format != 0) {
        nvme_command_complete(command, STATUS(NVME_CONNECT_INCOMPATIBLE_FORMAT));
        return;
    }
    if (!nvme_nqn_check(data->hostnqn)) {
        DATA_INVALID(command, hostnqn);
        return;
    }
    struct nvme_subsystem *subsystem = nvme_nqn_check(data->subnqn) ? nvme_target_find_subsystem(target, data->subnqn) : NULL;
    if (subsystem == NULL || target->destroying) {
        DATA_INVALID(command, subnqn);
        return;
    }
    if (!listens(subsystem, queue->listener) || !nvme_host_allowed(subsystem, data->hostnqn)) {
        nvme_command_complete(command, STATUS(NVME_CONNECT_INVALID_HOST));
        return;
    }
    connect_queue(command, subsystem, connect, data);
}

/* ---- home: arrival ---- */

static bool attach(struct nvme_queue *queue, struct nvme_command *command) {
    struct nvme_controller *controller = queue->controller;
    if (queue->qid == 0)
        nvme_controller_start(controller);
    if (controller->lost) { /* while this connection was on its way */
        DATA_INVALID(command, cntlid);
        return false;
    }
    if (queue->qid != 0 && (!(controller->csts & NVME_CSTS_READY) || controller->csts & NVME_CSTS_SHST_MASK)) {
        nvme_command_complete(command, STATUS(NVME_COMMAND_SEQUENCE_ERROR));
        return false;
    }
    uint32_t granted = controller->feature[NVME_FEATURE_NUMBER_OF_QUEUES] & 0xffff;
    if (queue->qid > granted + 1 || controller->queues[queue->qid] != NULL) {
        SQE_INVALID(command, qid);
        return false;
    }
    return true;
}

void nvme_queue_arrive(struct nvme_queue *queue, struct nvme_command *connect) {
    struct nvme_controller *controller = queue->controller;
    struct nvme_reactor_counters *counters = queue->counters;
    assert(reactor_current() == queue->reactor);
    connect->state = NVME_COMMAND_EXECUTING;
    queue->outstanding++;
    if (!attach(queue, connect)) {
        queue->ops->close(queue);
        return;
    }
    queue->attached = true;
    controller->queues[queue->qid] = queue;
    controller->queue_count++;
    counter_add(queue->qid == 0 ? &counters->admin_queues : &counters->io_queues, 1);
    counter_add(queue->qid == 0 ? &counters->current_admin : &counters->current_io, 1);
    if (queue->qid != 0)
        atomic_fetch_add(&controller->io_queue_count, 1);
    connect->cqe.dw0 = controller->cntlid;
    nvme_command_complete(connect, NVME_SUCCESS);
}

/* ---- home: the end ---- */

static void on_controller_gone(struct reactor_message *message);

static void controller_try_gone(struct nvme_controller *controller) {
    if (!controller->lost || controller->queue_count > 0 || !controller->arrived)
        return;
    struct nvme_subsystem *subsystem = controller->subsystem;
    controller->arrived = false;
    list_remove(&controller->live_node);
    controller->message.run = on_controller_gone;
    reactor_post(controller->target->control, &controller->message);
    /* Its host's next one may have waited for it. */
    list_for_each (&subsystem->live, struct nvme_controller, other, live_node)
        nvme_controller_advance(other);
}

void nvme_controller_lose(struct nvme_controller *controller) {
    if (controller->lost)
        return;
    controller->lost = true;
    controller->csts &= ~(uint32_t)NVME_CSTS_READY;
    controller->enabling = false;
    nvme_controller_stop(controller);
    for (unsigned qid = 0; qid <= NVME_LIMIT_IO_QUEUES; qid++)
        if (controller->queues[qid] != NULL)
            controller->queues[qid]->ops->close(controller->queues[qid]);
    controller_try_gone(controller);
}

void nvme_queue_lost(struct nvme_queue *queue, bool orderly) {
    if (queue->lost)
        return;
    queue->lost = true;
    if (queue->controller == NULL || !queue->attached)
        return;
    struct nvme_controller *controller = queue->controller;
    bool expected = controller->disabling || controller->csts & NVME_CSTS_SHST_MASK;
    if (queue->qid != 0 && (orderly || expected))
        return;
    nvme_controller_lose(controller);
}

void nvme_queue_detach(struct nvme_queue *queue) {
    assert(queue->lost && queue->outstanding == 0);
    struct nvme_controller *controller = queue->controller;
    if (!queue->attached) {
        /* An admin connection that was refused at its arrival leaves nothing of its controller. */
        return;
    }
    struct nvme_reactor_counters *counters = queue->counters;
    queue->attached = false;
    controller->queues[queue->qid] = NULL;
    controller->queue_count--;
    counter_add(queue->qid == 0 ? &counters->current_admin : &counters->current_io, UINT64_MAX);
    if (queue->qid != 0)
        atomic_fetch_sub(&controller->io_queue_count, 1);
    controller_try_gone(controller);
    if (!controller->lost)
        nvme_controller_advance(controller);
}

/* ---- home: waiting for what was before ---- */

static void on_settle(struct reactor_timer *timer) {
    nvme_controller_advance(container_of(timer, struct nvme_controller, settle_timer));
}

static bool same_host(const struct nvme_controller *a, const struct nvme_controller *b) {
    return uuid_equal(&a->hostid, &b->hostid) && strcmp(a->hostnqn, b->hostnqn) == 0;
}

/* True if everything that `other` brought us is read. One that cannot be read for long, while its host asks for a new controller,
 * is taken for lost. */
static bool settled(struct nvme_controller *controller, struct nvme_controller *other) {
    for (unsigned qid = 0; qid <= NVME_LIMIT_IO_QUEUES; qid++) {
        struct nvme_queue *queue = other->queues[qid];
        if (queue == NULL || queue->ops->settle(queue))
            continue;
        if (reactor_now_ns(controller->subsystem->home) >= controller->settle_deadline_ns)
            nvme_controller_lose(other);
        return false;
    }
    return true;
}

/* Bytes of a connection that its host gave up may still be in the network, where no reading finds them. So a host that says which
 * of its controllers this one replaces has that one ended, its connections closed. */
static bool replaces(const struct nvme_controller *controller, const struct nvme_controller *other) {
    return controller->has_line && other->has_line && uuid_equal(&controller->line, &other->line);
}

static bool past_is_over(struct nvme_controller *controller) {
    bool over = true, older = true; /* the list is in order of arrival */
    list_for_each (&controller->subsystem->live, struct nvme_controller, other, live_node) {
        older &= other != controller;
        if (other == controller || !same_host(controller, other))
            continue;
        if (older && !other->lost && replaces(controller, other)) {
            nvme_controller_lose(other); /* may change the list; looked at again once its commands are done */
            return false;
        }
        /* Only what came before: the younger one waits for the older, not the reverse. */
        if (other->lost || (other->cc & NVME_CC_ENABLE && !other->enabling))
            over &= !other->lost && settled(controller, other) && !other->lost;
    }
    return over;
}

void nvme_controller_advance(struct nvme_controller *controller) {
    struct reactor *home = controller->subsystem->home;
    if (controller->lost)
        return;
    bool queues_gone = atomic_load_explicit(&controller->io_queue_count, memory_order_relaxed) == 0;
    if (controller->disabling && queues_gone) {
        controller->disabling = false;
        controller->csts &= ~(uint32_t)NVME_CSTS_READY;
    }
    if ((controller->csts & NVME_CSTS_SHST_MASK) == NVME_CSTS_SHST_OCCURRING && queues_gone)
        controller->csts = (controller->csts & ~(uint32_t)NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_COMPLETE;
    if (!controller->enabling)
        return;
    if (past_is_over(controller)) {
        controller->enabling = false;
        controller->csts |= NVME_CSTS_READY;
    } else {
        controller->settle_timer.run = on_settle;
        reactor_timer_start(home, &controller->settle_timer, reactor_now_ns(home) + SETTLE_INTERVAL_NS);
    }
}

/* ---- control reactor: the last sign ---- */

static void controller_unref(struct nvme_controller *controller) {
    if (!controller->gone || controller->queue_refs > 0)
        return;
    nvme_path_unref(controller->path);
    block_graph_end_association(controller->target->graph, controller->association);
    free(controller);
}

static void on_controller_gone(struct reactor_message *message) {
    struct nvme_controller *controller = container_of(message, struct nvme_controller, message);
    struct nvme_subsystem *subsystem = controller->subsystem;
    list_remove(&controller->node);
    subsystem->controller_count--;
    controller->gone = true;
    controller_unref(controller);
    nvme_subsystem_try_finish(subsystem);
}

void nvme_queue_release(struct nvme_queue *queue) {
    struct nvme_controller *controller = queue->controller;
    struct nvme_subsystem *subsystem = queue->subsystem;
    struct nvme_target *target = queue->transport->target;
    if (controller == NULL) {
        target->strangers--;
        return;
    }
    queue->counters->load--;
    list_remove(&queue->node);
    queue->controller = NULL;
    controller->queue_refs--;
    controller_unref(controller);
    nvme_subsystem_try_finish(subsystem);
}
