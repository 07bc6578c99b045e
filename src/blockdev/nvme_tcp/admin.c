/* The admin queue: commands of the controller's task, keep-alive, events, aborts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "blockdev/nvme_tcp/internal.h"

#define ADMIN_ENTRIES 32
#define STAGING_SIZE KIB(16)

static struct nvme_initiator_controller *of(struct initiator_connection *connection) {
    return container_of(connection, struct nvme_initiator_controller, admin);
}

static void on_ready(struct initiator_connection *connection) {
    of(connection)->admin_ready = true;
    task_wake(&of(connection)->task);
}

static void on_lost(struct initiator_connection *connection, const char *why, int error) {
    struct nvme_initiator_controller *controller = of(connection);
    initiator_controller_end(controller, error == -ETIMEDOUT ? ERROR_TIMED_OUT : ERROR_IO, "%s", why);
}

static void on_completed(struct initiator_connection *connection, struct nvme_tcp_request *tcp) {
    struct nvme_initiator_controller *controller = of(connection);
    struct initiator_admin_command *command = container_of(tcp, struct initiator_admin_command, tcp);
    reactor_timer_stop(connection->reactor, &command->deadline);
    command->busy = false;
    command->answered = true;
    bool short_data = tcp->direction == NVME_CONTROLLER_TO_HOST && nvme_status_code(&tcp->cqe) == NVME_SUCCESS &&
                      (tcp->digest_error || tcp->received < tcp->length);
    if (short_data)
        initiator_controller_end(controller, ERROR_IO, "the controller's answer is incomplete or fails its digest");
    else if (command->done != NULL)
        command->done(command);
    else
        task_wake(&controller->task);
}

static const struct initiator_connection_ops connection_ops = {.ready = on_ready, .completed = on_completed, .lost = on_lost};

static void late(struct reactor_timer *timer) {
    struct initiator_admin_command *command = container_of(timer, struct initiator_admin_command, deadline);
    initiator_controller_end(command->controller, ERROR_TIMED_OUT, "the controller did not answer in time");
}

/* ---- keep-alive ---- */

static void keep_alive_answered(struct initiator_admin_command *command) {
    if (nvme_status_code(&command->tcp.cqe) != NVME_SUCCESS)
        initiator_controller_end(command->controller, ERROR_IO, "keep-alive was answered with status 0x%03x",
                                 nvme_status_code(&command->tcp.cqe));
}

static void keep_alive_due(struct reactor_timer *timer) {
    struct nvme_initiator_controller *controller = container_of(timer, struct nvme_initiator_controller, keep_alive);
    uint64_t timeout_ns = controller->options.keep_alive_timeout_ms * NS_PER_MS;
    if (!initiator_connection_is_open(&controller->admin))
        return; /* lost in this very turn: the task, which is woken, gives the association up */
    if (!controller->commands[ADMIN_KEEP_ALIVE].busy) {
        struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
        initiator_admin_send(controller, ADMIN_KEEP_ALIVE, &sqe, NVME_NO_DATA, NULL, 0, timeout_ns);
    }
    initiator_admin_keep_alive_start(controller);
}

void initiator_admin_keep_alive_start(struct nvme_initiator_controller *controller) {
    uint64_t timeout_ns = controller->options.keep_alive_timeout_ms * NS_PER_MS;
    if (timeout_ns == 0)
        return;
    /* After half of it, but all controllers at the same ticks: a thousand of them wake the loop, and their peers', a few times a
     * second rather than two hundred times. */
    struct reactor *control = controller->initiator->control;
    reactor_timer_start_coarse(control, &controller->keep_alive, reactor_now_ns(control) + timeout_ns / 2, timeout_ns / 16);
}

/* ---- events ---- */

static void event_answered(struct initiator_admin_command *command) {
    struct nvme_initiator_controller *controller = command->controller;
    if (nvme_status_code(&command->tcp.cqe) != NVME_SUCCESS)
        return; /* it knows no events: none will come */
    uint32_t event = command->tcp.cqe.dw0;
    if ((event & 7) == NVME_EVENT_NOTICE &&
        (((event >> 8) & 0xff) == NVME_NOTICE_NAMESPACE || ((event >> 8) & 0xff) == NVME_NOTICE_ANA))
        controller->rescan = true;
    /* others say nothing that we act on; reading their log page is what re-arms them, so they come once */
    initiator_admin_await_event(controller);
    task_wake(&controller->task);
}

void initiator_admin_await_event(struct nvme_initiator_controller *controller) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    if (!controller->commands[ADMIN_EVENT].busy)
        initiator_admin_send(controller, ADMIN_EVENT, &sqe, NVME_NO_DATA, NULL, 0, 0);
}

/* ---- aborts ---- */

static void abort_answered(struct initiator_admin_command *command) {
    struct nvme_initiator_controller *controller = command->controller;
    struct initiator_queue *queue = atomic_load(&controller->queues[controller->abort_queue]);
    controller->aborting = false;
    atomic_store(&queue->abort, 0); /* whatever it says: the command ends, or its second deadline decides */
    initiator_queue_tell(queue);
    initiator_admin_abort_next(controller);
}

void initiator_admin_abort_next(struct nvme_initiator_controller *controller) {
    if (controller->aborting || !controller->admin_ready || !initiator_connection_is_open(&controller->admin))
        return;
    for (unsigned i = 1; i <= controller->queue_slots; i++) { /* from the one after the last, so that each gets its turn */
        unsigned slot = (controller->abort_queue + i) % controller->queue_slots;
        struct initiator_queue *queue = atomic_load(&controller->queues[slot]);
        uint32_t wanted = queue == NULL ? 0 : atomic_load(&queue->abort);
        if (wanted == 0 || atomic_load(&queue->held) != controller->association.number)
            continue;
        controller->abort_queue = slot;
        controller->aborting = true;
        struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = queue->qid | (wanted - 1) << 16};
        initiator_admin_send(controller, ADMIN_ABORT, &sqe, NVME_NO_DATA, NULL, 0, initiator_admin_timeout_ns(controller));
        return;
    }
}

/* ---- commands ---- */

bool initiator_admin_init(struct nvme_initiator_controller *controller) {
    static void (*const done[ADMIN_SLOTS])(struct initiator_admin_command *) = {
        [ADMIN_KEEP_ALIVE] = keep_alive_answered, [ADMIN_EVENT] = event_answered, [ADMIN_ABORT] = abort_answered};
    for (unsigned i = 0; i < ADMIN_SLOTS; i++) {
        controller->requests[i] = &controller->commands[i].tcp;
        controller->commands[i].controller = controller;
        controller->commands[i].deadline.run = late;
        controller->commands[i].done = done[i];
    }
    controller->keep_alive.run = keep_alive_due;
    struct initiator_connection_options options = {
        .ops = &connection_ops, .staging_size = STAGING_SIZE, .requests = controller->requests, .request_count = ADMIN_SLOTS};
    controller->page = aligned_alloc(4096, NVME_IDENTIFY_SIZE);
    return initiator_connection_init(&controller->admin, controller->initiator->control, &options) && controller->page != NULL;
}

void initiator_admin_close(struct nvme_initiator_controller *controller) {
    struct reactor *control = controller->initiator->control;
    initiator_connection_close(&controller->admin);
    reactor_timer_stop(control, &controller->keep_alive);
    for (unsigned i = 0; i < ADMIN_SLOTS; i++) {
        reactor_timer_stop(control, &controller->commands[i].deadline);
        controller->commands[i].busy = controller->commands[i].answered = false;
    }
    controller->admin_ready = controller->aborting = false;
}

uint64_t initiator_admin_timeout_ns(const struct nvme_initiator_controller *controller) {
    const struct nvme_initiator_options *options = &controller->options;
    uint64_t us = options->timeout_admin_us != 0 ? options->timeout_admin_us : options->timeout_us;
    return us != 0 ? us * NS_PER_US : controller->connect_timeout_ns;
}

void initiator_admin_send(struct nvme_initiator_controller *controller, enum initiator_admin_slot slot, struct nvme_sqe *sqe,
                          enum nvme_direction direction, void *data, uint32_t length, uint64_t timeout_ns) {
    struct initiator_admin_command *command = &controller->commands[slot];
    assert(!command->busy && initiator_connection_is_open(&controller->admin));
    command->busy = true;
    command->answered = false;
    command->slice = (struct slice){data, length};
    sqe->cid = (uint16_t)slot;
    if (timeout_ns != 0)
        reactor_timer_start(controller->initiator->control, &command->deadline,
                            reactor_now_ns(controller->initiator->control) + timeout_ns);
    initiator_connection_submit(&controller->admin, sqe, direction, length > 0 ? &command->slice : NULL, length > 0 ? 1 : 0,
                                length, direction == NVME_HOST_TO_CONTROLLER);
}

void initiator_connect_fill(const struct nvme_initiator_controller *controller, uint16_t qid, uint32_t entries,
                            struct nvme_connect *ret_command, struct nvme_connect_data *ret_data) {
    *ret_command = (struct nvme_connect){
        .opcode = NVME_OPCODE_FABRICS, .fabrics_type = NVME_FABRICS_CONNECT, .qid = qid, .sq_size = (uint16_t)(entries - 1)};
    if (!controller->association.sq_flow_control)
        ret_command->attributes = NVME_CONNECT_DISABLE_SQ_FLOW;
    if (qid == 0)
        ret_command->kato_ms = controller->options.keep_alive_timeout_ms;
    *ret_data = (struct nvme_connect_data){.cntlid = qid == 0 ? NVME_CNTLID_DYNAMIC : controller->association.cntlid};
    memcpy(ret_data->host_id, controller->host_id.bytes, sizeof(ret_data->host_id));
    memcpy(ret_data->line_mark, NVME_CONNECT_LINE_MARK, sizeof(ret_data->line_mark));
    memcpy(ret_data->line, controller->line.bytes, sizeof(ret_data->line));
    memcpy(ret_data->subnqn, controller->subnqn, strlen(controller->subnqn));
    memcpy(ret_data->hostnqn, controller->hostnqn, strlen(controller->hostnqn));
}

void initiator_admin_connect(struct nvme_initiator_controller *controller) {
    union {
        struct nvme_connect connect;
        struct nvme_sqe sqe;
    } command;
    static_assert(sizeof(struct nvme_connect_data) <= NVME_IDENTIFY_SIZE, "fits the page");
    initiator_connect_fill(controller, 0, ADMIN_ENTRIES, &command.connect, (struct nvme_connect_data *)controller->page);
    initiator_admin_send(controller, ADMIN_TASK, &command.sqe, NVME_HOST_TO_CONTROLLER, controller->page,
                         sizeof(struct nvme_connect_data), controller->connect_timeout_ns);
}

static void property_send(struct nvme_initiator_controller *controller, struct nvme_property property) {
    union {
        struct nvme_property property;
        struct nvme_sqe sqe;
    } command = {.property = property};
    command.property.opcode = NVME_OPCODE_FABRICS;
    initiator_admin_send(controller, ADMIN_TASK, &command.sqe, NVME_NO_DATA, NULL, 0, controller->connect_timeout_ns);
}

void initiator_admin_property_get(struct nvme_initiator_controller *controller, uint32_t offset, bool wide) {
    property_send(controller,
                  (struct nvme_property){.fabrics_type = NVME_FABRICS_PROPERTY_GET, .attributes = wide, .offset = offset});
}

void initiator_admin_property_set(struct nvme_initiator_controller *controller, uint32_t offset, uint32_t value) {
    property_send(controller,
                  (struct nvme_property){.fabrics_type = NVME_FABRICS_PROPERTY_SET, .offset = offset, .value = value});
}

void initiator_admin_identify(struct nvme_initiator_controller *controller, enum nvme_cns cns, uint32_t nsid) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = (uint32_t)cns};
    initiator_admin_send(controller, ADMIN_TASK, &sqe, NVME_CONTROLLER_TO_HOST, controller->page, NVME_IDENTIFY_SIZE,
                         initiator_admin_timeout_ns(controller));
}

void initiator_admin_set_feature(struct nvme_initiator_controller *controller, enum nvme_feature feature, uint32_t value) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = (uint32_t)feature, .cdw11 = value};
    initiator_admin_send(controller, ADMIN_TASK, &sqe, NVME_NO_DATA, NULL, 0, initiator_admin_timeout_ns(controller));
}

static void read_log(struct nvme_initiator_controller *controller, uint32_t page) {
    struct nvme_sqe sqe = {
        .opcode = NVME_ADMIN_GET_LOG_PAGE, .nsid = NVME_NSID_ALL, .cdw10 = page | (NVME_IDENTIFY_SIZE / 4 - 1) << 16};
    initiator_admin_send(controller, ADMIN_TASK, &sqe, NVME_CONTROLLER_TO_HOST, controller->page, NVME_IDENTIFY_SIZE,
                         initiator_admin_timeout_ns(controller));
}

void initiator_admin_read_ana(struct nvme_initiator_controller *controller) {
    read_log(controller, NVME_LOG_ANA | NVME_LOG_ANA_GROUPS_ONLY);
}

/* Reading the changed-namespaces log is what lets the next notice come; what it lists is not used, the whole list is read. */
void initiator_admin_clear_event(struct nvme_initiator_controller *controller) {
    read_log(controller, NVME_LOG_CHANGED_NAMESPACES);
}
