/* One reactor's I/O queue: requests in, commands out, on a connection that comes and goes with the controller's associations. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/replica.h"
#include "blockdev/nvme_tcp/internal.h"

#define STAGING_SIZE KIB(128)
#define RETRY_DELAY_NS (100 * NS_PER_MS)

/* A request's scratch while it is here. */
struct request_state {
    uint64_t issued;      /* bytes handed out to commands (a FLUSH: 1) */
    uint32_t outstanding; /* commands under way */
    uint8_t status;       /* first error, IO_OK = none */
    uint8_t tries;        /* sent again so often */
    bool waiting;         /* on queue->waiting */
    bool again;           /* a command failed in passing: all of it is to be tried again */
    bool flushing;        /* the flush behind a trim is under way */
};
static_assert(sizeof(struct request_state) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static struct request_state *state_of(struct block_request *request) {
    return (struct request_state *)(void *)request->device_private;
}

static void pump(struct initiator_queue *queue);

static void pump_later(struct initiator_queue *queue) {
    if (queue->pump_queued)
        return;
    queue->pump_queued = true;
    reactor_defer(queue->reactor, &queue->pump);
}

/* ---- ends of requests ---- */

static void complete_at_home(struct reactor_message *message) {
    struct block_request *request = container_of(message, struct block_request, message);
    block_complete(request, (enum io_status)request->status);
}

/* Ends a request of which no command is under way and which is on no list. */
static void request_end(struct initiator_queue *queue, struct block_request *request, enum io_status status) {
    struct reactor *home = block_channel_reactor(request->channel);
    if (likely(home == queue->reactor)) {
        block_complete(request, status);
        return;
    }
    request->status = (uint8_t)status;
    request->message.run = complete_at_home;
    reactor_post(home, &request->message);
}

static bool is_urgent(const struct block_request *request) { return request->op >= BLOCK_REPLICA_PUT; }
/* Neither waits for another association nor is sent on one. A document that arrives twice is none the engine sent twice. */
static bool fails_fast(const struct block_request *request) {
    return (request->flags & BLOCK_FAIL_FAST) != 0 || is_urgent(request);
}
static struct list *waiting_of(struct initiator_queue *queue, const struct block_request *request) {
    return is_urgent(request) ? &queue->urgent : &queue->waiting;
}
static void wait_last(struct initiator_queue *queue, struct block_request *request) {
    state_of(request)->waiting = true;
    list_push_back(waiting_of(queue, request), &request->node);
}
static void wait_first(struct initiator_queue *queue, struct block_request *request) {
    state_of(request)->waiting = true;
    list_push_front(waiting_of(queue, request), &request->node);
}
static void wait_no_more(struct block_request *request) {
    list_remove(&request->node);
    state_of(request)->waiting = false;
}

static bool may_retry(const struct initiator_queue *queue, struct block_request *request) {
    struct request_state *state = state_of(request);
    int32_t limit = fails_fast(request) ? 0 : queue->controller->options.retry_count;
    if (limit >= 0 && state->tries >= (uint32_t)limit)
        return false;
    if (state->tries < UINT8_MAX)
        state->tries++;
    return true;
}

/* All commands of a request are back. */
static void request_settle(struct initiator_queue *queue, struct block_request *request) {
    struct request_state *state = state_of(request);
    if (state->again && state->status == IO_OK) {
        if (state->waiting)
            wait_no_more(request);
        state->again = state->flushing = false;
        state->issued = 0;
        if (!reactor_timer_armed(&queue->retry))
            reactor_timer_start(queue->reactor, &queue->retry, reactor_now_ns(queue->reactor) + RETRY_DELAY_NS * state->tries);
        list_push_back(&queue->delayed, &request->node);
        return;
    }
    if (state->status != IO_OK) {
        if (state->waiting)
            wait_no_more(request);
        request_end(queue, request, (enum io_status)state->status);
        return;
    }
    if (state->waiting) /* more of it is to be issued */
        return;
    bool flush_behind = request->op == BLOCK_TRIM && (request->flags & BLOCK_FUA) != 0 && !state->flushing &&
                        queue->controller->association.facts.volatile_cache;
    if (flush_behind) {
        state->flushing = true;
        wait_first(queue, request);
        return;
    }
    request_end(queue, request, IO_OK);
}

/* ---- commands ---- */

static struct initiator_queue *queue_of(struct initiator_connection *connection) {
    return container_of(connection, struct initiator_queue, connection);
}

static uint16_t command_id(const struct initiator_queue *queue, const struct initiator_command *command) {
    return (uint16_t)(command - queue->commands);
}

/* A command that an abort is under way for is not used again before the answer: it would hit the wrong one. */
static void command_free(struct initiator_queue *queue, struct initiator_command *command) {
    command->request = NULL;
    if (unlikely(command->abort_asked) && atomic_load(&queue->abort) == command_id(queue, command) + 1u)
        return;
    command->aborting = command->abort_asked = false;
    list_push_front(&queue->free, &command->node); /* the last one used is still in the cache */
}

static void timer_arm(struct initiator_queue *queue, uint64_t deadline_ns) {
    if (!reactor_timer_armed(&queue->timer))
        reactor_timer_start(queue->reactor, &queue->timer, deadline_ns);
}

static void replica_fill(const struct initiator_command *command, struct nvme_sqe *sqe) {
    const struct block_request *request = command->request;
    uint64_t offset = replica_get_offset(request->argument, request->offset, command->offset - request->offset);
    sqe->cdw10 = (uint32_t)offset;
    sqe->cdw11 = (uint32_t)(offset >> 32);
    sqe->cdw12 = (uint32_t)request->argument;
    sqe->cdw13 = (uint32_t)(request->argument >> 32);
}

static void command_send(struct initiator_queue *queue, struct initiator_command *command) {
    struct block_request *request = command->request;
    const struct nvme_initiator_controller *controller = queue->controller;
    const struct initiator_namespace *namespace = initiator_namespace_of(request);
    const struct initiator_controller_facts *facts = &controller->association.facts;
    unsigned shift = log2_u64(namespace->device.block_size);
    uint64_t first = command->offset >> shift;
    struct nvme_sqe sqe = {.cid = command_id(queue, command), .nsid = namespace->facts.nsid};
    enum nvme_direction direction = NVME_NO_DATA;
    const struct slice *slices = request->slices;
    uint32_t slice_count = request->slice_count, length = (uint32_t)command->length;
    command->tcp.skip = command->offset - request->offset;
    if (request->op != BLOCK_FLUSH && request->op != BLOCK_TRIM && !is_urgent(request)) {
        sqe.cdw10 = (uint32_t)first;
        sqe.cdw11 = (uint32_t)(first >> 32);
        sqe.cdw12 = (uint32_t)(command->length >> shift) - 1;
        if ((request->flags & BLOCK_FUA) != 0)
            sqe.cdw12 |= NVME_IO_FORCE_UNIT_ACCESS;
    }
    switch ((enum block_op)request->op) {
    case BLOCK_READ:
        sqe.opcode = NVME_IO_READ;
        sqe.cdw12 &= ~NVME_IO_FORCE_UNIT_ACCESS;
        direction = NVME_CONTROLLER_TO_HOST;
        break;
    case BLOCK_WRITE:
        sqe.opcode = NVME_IO_WRITE;
        if (unlikely((request->flags & BLOCK_UNMARKED) != 0) && namespace->facts.replica)
            sqe.cdw13 = NVME_IO_UNMARKED;
        direction = NVME_HOST_TO_CONTROLLER;
        break;
    case BLOCK_COMPARE:
        sqe.opcode = NVME_IO_COMPARE;
        sqe.cdw12 &= ~NVME_IO_FORCE_UNIT_ACCESS;
        direction = NVME_HOST_TO_CONTROLLER;
        break;
    case BLOCK_WRITE_ZEROES:
        sqe.opcode = NVME_IO_WRITE_ZEROES;
        if ((request->flags & BLOCK_MAY_TRIM) != 0)
            sqe.cdw12 |= NVME_IO_DEALLOCATE;
        length = 0;
        break;
    case BLOCK_TRIM:
        if (state_of(request)->flushing) {
            sqe.opcode = NVME_IO_FLUSH;
            length = 0;
            break;
        }
        sqe.opcode = NVME_IO_DATASET_MANAGEMENT;
        sqe.cdw11 = NVME_DSM_DEALLOCATE;
        command->range = (struct nvme_dsm_range){.block_count = (uint32_t)(command->length >> shift), .first_block = first};
        command->range_slice = (struct slice){&command->range, sizeof(command->range)};
        command->tcp.skip = 0;
        slices = &command->range_slice;
        slice_count = 1;
        length = sizeof(command->range);
        direction = NVME_HOST_TO_CONTROLLER;
        break;
    case BLOCK_REPLICA_PUT:
        sqe.opcode = NVME_IO_REPLICA_PUT;
        replica_fill(command, &sqe);
        direction = length > 0 ? NVME_HOST_TO_CONTROLLER : NVME_NO_DATA;
        break;
    case BLOCK_REPLICA_GET:
        sqe.opcode = NVME_IO_REPLICA_GET;
        replica_fill(command, &sqe);
        direction = length > 0 ? NVME_CONTROLLER_TO_HOST : NVME_NO_DATA;
        break;
    default: /* BLOCK_FLUSH */
        sqe.opcode = NVME_IO_FLUSH;
        length = 0;
        break;
    }
    queue->under_way++;
    list_push_back(&queue->active, &command->node);
    if (controller->options.timeout_us != 0) {
        command->deadline_ns = reactor_now_ns(queue->reactor) + controller->options.timeout_us * NS_PER_US;
        timer_arm(queue, command->deadline_ns);
    }
    initiator_connection_submit(&queue->connection, &sqe, direction, length > 0 ? slices : NULL, length > 0 ? slice_count : 0,
                                length, direction == NVME_HOST_TO_CONTROLLER && length <= facts->in_capsule_max);
}

/* How much of a request fits one command, from `offset` on. */
static uint64_t piece_length(const struct initiator_queue *queue, const struct block_request *request, uint64_t left) {
    const struct initiator_controller_facts *facts = &queue->controller->association.facts;
    uint32_t block_size = block_device_block_size(block_channel_device(request->channel));
    uint64_t limit = facts->transfer_max;
    if (request->op == BLOCK_WRITE_ZEROES)
        limit = min_u64(facts->zeroes_max, UINT64_C(65536) * block_size);
    else if (request->op == BLOCK_TRIM)
        limit = min_u64(facts->trim_max_blocks, UINT32_MAX) * block_size;
    return min_u64(left, max_u64(round_down(limit, block_size), block_size));
}

/* The last slots are for what decides whether the others are of any use. */
static bool slot_is_free(const struct initiator_queue *queue, const struct block_request *request) {
    if (list_empty(&queue->free) || queue->under_way >= queue->depth)
        return false;
    if (likely(queue->under_way + 1 < queue->depth && list_first(&queue->free) != list_last(&queue->free)))
        return true;
    uint32_t reserved = atomic_load_explicit(&queue->controller->slots_reserved, memory_order_relaxed);
    return reserved == 0 || is_urgent(request) || queue->depth == 1;
}

/* Hands out as much of a request as there are commands. True if all of it is out (or it has ended otherwise). */
static bool request_issue(struct initiator_queue *queue, struct block_request *request) {
    struct request_state *state = state_of(request);
    if (unlikely(atomic_load_explicit(&initiator_namespace_of(request)->gone, memory_order_relaxed)))
        state->status = IO_DEVICE_GONE;
    else if (unlikely(request->op == BLOCK_REPLICA_PUT && request->length > queue->controller->association.facts.transfer_max))
        state->status = IO_INVALID;                                                     /* it has to be one command */
    bool whole = request->op == BLOCK_FLUSH || request->length == 0 || state->flushing; /* one command, no range */
    uint64_t end = whole ? 1 : request->length;
    if (state->flushing && state->issued >= end)
        state->issued = 0;
    while (state->status == IO_OK && state->issued < end) {
        if (unlikely(!slot_is_free(queue, request)))
            return false;
        struct initiator_command *command = list_entry(list_pop_front(&queue->free), struct initiator_command, node);
        command->request = request;
        command->offset = whole ? request->offset : request->offset + state->issued;
        command->length = whole ? 0 : piece_length(queue, request, request->length - state->issued);
        state->issued += whole ? 1 : command->length;
        state->outstanding++;
        command_send(queue, command);
    }
    return true;
}

/* A command is done, whatever became of it. */
static void command_settle(struct initiator_queue *queue, struct initiator_command *command, enum io_status status,
                           bool passing) {
    struct block_request *request = command->request;
    struct request_state *state = state_of(request);
    list_remove(&command->node);
    queue->under_way--;
    command_free(queue, command);
    state->outstanding--;
    if (unlikely(status != IO_OK)) {
        if (passing && (state->again || may_retry(queue, request)))
            state->again = true;
        else if (state->status == IO_OK)
            state->status = (uint8_t)status;
        if (state->waiting) /* what is not out yet is not begun */
            wait_no_more(request);
    }
    if (state->outstanding == 0)
        request_settle(queue, request);
}

static bool status_passes(unsigned code) {
    switch (code) {
    case NVME_NAMESPACE_NOT_READY:
    case NVME_COMMAND_INTERRUPTED:
    case NVME_TRANSIENT_TRANSPORT_ERROR:
    case NVME_DATA_TRANSFER_ERROR:
    case NVME_ANA_INACCESSIBLE:
    case NVME_ANA_TRANSITION: return true;
    default: return code >> 8 == 3 && code != NVME_ANA_PERSISTENT_LOSS;
    }
}

static void connect_answered(struct initiator_queue *queue);

static void on_completed(struct initiator_connection *connection, struct nvme_tcp_request *tcp) {
    struct initiator_queue *queue = queue_of(connection);
    if (unlikely(tcp == &queue->connect)) {
        connect_answered(queue);
        return;
    }
    struct initiator_command *command = container_of(tcp, struct initiator_command, tcp);
    unsigned code = nvme_status_code(&tcp->cqe);
    if (unlikely(code != NVME_SUCCESS)) {
        uint8_t op = command->request->op;
        bool writes = op != BLOCK_READ && op != BLOCK_COMPARE && op != BLOCK_REPLICA_GET;
        command_settle(queue, command, nvme_initiator_status(code, writes),
                       !nvme_status_do_not_retry(&tcp->cqe) && status_passes(code));
    } else if (unlikely(tcp->direction == NVME_CONTROLLER_TO_HOST && (tcp->digest_error || tcp->received < tcp->length))) {
        command_settle(queue, command, IO_DAMAGED, true);
    } else {
        command_settle(queue, command, IO_OK, false);
    }
    if (!list_empty(&queue->waiting) || unlikely(!list_empty(&queue->urgent)))
        pump(queue);
}

/* ---- what waits ---- */

/* The scratch of a request on its way says where it goes. */
static void forwarded(struct reactor_message *message) {
    struct block_request *request = container_of(message, struct block_request, message);
    initiator_queue_submit((struct initiator_queue *)(uintptr_t)request->device_private[0], request);
}

static void forward(struct initiator_queue *queue, struct block_request *request) {
    request->device_private[0] = (uintptr_t)queue->forward;
    request->message.run = forwarded;
    reactor_post(queue->forward->reactor, &request->message);
}

static void pump(struct initiator_queue *queue) {
    while (atomic_load_explicit(&queue->up, memory_order_relaxed)) {
        struct list_node *node = list_first(&queue->urgent);
        if (likely(node == NULL) && (node = list_first(&queue->waiting)) == NULL)
            return;
        struct block_request *request = list_entry(node, struct block_request, node);
        struct request_state *state = state_of(request);
        if (queue->forward != NULL) { /* without a connection nothing of it is under way */
            wait_no_more(request);
            forward(queue, request);
            continue;
        }
        if (!request_issue(queue, request))
            return;
        wait_no_more(request);
        if (state->outstanding == 0)
            request_settle(queue, request);
    }
}

static void pump_run(struct reactor_job *job) {
    struct initiator_queue *queue = container_of(job, struct initiator_queue, pump);
    queue->pump_queued = false;
    pump(queue);
}

/* A submit never completes inline; what another queue handed over is not inside of one. */
static void submit_end(struct initiator_queue *queue, struct block_request *request, enum io_status status) {
    if (block_channel_reactor(request->channel) == queue->reactor)
        block_complete_later(request, status);
    else
        request_end(queue, request, status);
}

/* It is on its way to be connected for the association that is ready. */
static bool will_be_up(struct initiator_queue *queue) {
    uint64_t ready = atomic_load(&queue->controller->ready);
    return ready != 0 && ready != atomic_load(&queue->lost);
}

void initiator_queue_submit(struct initiator_queue *queue, struct block_request *request) {
    *state_of(request) = (struct request_state){.status = IO_OK};
    bool up = atomic_load_explicit(&queue->up, memory_order_relaxed);
    if (unlikely(request->length == 0 && request->op != BLOCK_FLUSH && !is_urgent(request))) {
        submit_end(queue, request, IO_OK);
        return;
    }
    if (likely(up && queue->forward == NULL && list_empty(waiting_of(queue, request)) &&
               !atomic_load_explicit(&initiator_namespace_of(request)->gone, memory_order_relaxed))) {
        if (!request_issue(queue, request))
            wait_last(queue, request);
        else if (unlikely(state_of(request)->outstanding == 0)) /* its device went in this instant */
            submit_end(queue, request, (enum io_status)state_of(request)->status);
        return;
    }
    if (!up && fails_fast(request) && !will_be_up(queue)) {
        submit_end(queue, request, IO_PATH_LOST);
        return;
    }
    wait_last(queue, request);
    if (up) /* to be forwarded, or to fail */
        pump_later(queue);
    else if (atomic_load(&queue->failing) || initiator_namespace_of(request)->gone)
        initiator_look_post(&queue->to_queue, queue->reactor);
}

bool initiator_queue_abort(struct initiator_queue *queue, struct block_request *request) {
    if (queue->forward != NULL)
        return false;
    list_for_each (waiting_of(queue, request), struct block_request, other, node) {
        if (other != request)
            continue;
        if (state_of(request)->issued > 0)
            return false;
        wait_no_more(request);
        block_complete_later(request, IO_ABORTED);
        return true;
    }
    return false;
}

static void retry_run(struct reactor_timer *timer) {
    struct initiator_queue *queue = container_of(timer, struct initiator_queue, retry);
    for (struct list_node *node; (node = list_pop_front(&queue->delayed)) != NULL;)
        wait_last(queue, list_entry(node, struct block_request, node));
    pump(queue);
}

/* Ends what waits and may not wait any longer: all of it, what fails fast, or what belongs to a namespace that is gone. */
static void waiting_fail(struct initiator_queue *queue, bool failing, bool fast) {
    struct list all;
    list_init(&all);
    list_splice_back(&all, &queue->urgent);
    list_splice_back(&all, &queue->waiting);
    list_splice_back(&all, &queue->delayed);
    for (struct list_node *node; (node = list_pop_front(&all)) != NULL;) {
        struct block_request *request = list_entry(node, struct block_request, node);
        struct request_state *state = state_of(request);
        bool gone = atomic_load(&initiator_namespace_of(request)->gone);
        if (!gone && !failing && !(fast && fails_fast(request))) {
            wait_last(queue, request);
            continue;
        }
        state->waiting = false;
        state->status = gone ? IO_DEVICE_GONE : IO_PATH_LOST;
        if (state->outstanding == 0)
            request_end(queue, request, (enum io_status)state->status);
    }
}

/* ---- time ---- */

static void abort_ask(struct initiator_queue *queue) {
    if (atomic_load(&queue->abort) != 0)
        return;
    list_for_each (&queue->aborting, struct initiator_command, command, node) {
        if (!command->aborting || command->abort_asked)
            continue;
        command->abort_asked = true;
        atomic_store(&queue->abort, command_id(queue, command) + 1u);
        initiator_look_post(&queue->to_control, queue->controller->initiator->control);
        return;
    }
}

static void timer_run(struct reactor_timer *timer) {
    struct initiator_queue *queue = container_of(timer, struct initiator_queue, timer);
    uint64_t now = reactor_now_ns(queue->reactor), timeout_ns = queue->controller->options.timeout_us * NS_PER_US;
    struct list_node *node = list_first(&queue->aborting);
    if (node != NULL && list_entry(node, struct initiator_command, node)->deadline_ns <= now) {
        initiator_connection_lose(&queue->connection, "a command did not end and could not be aborted", 0);
        return;
    }
    while ((node = list_first(&queue->active)) != NULL) {
        struct initiator_command *command = list_entry(node, struct initiator_command, node);
        if (command->deadline_ns > now)
            break;
        if (queue->controller->options.timeout_action == NVME_INITIATOR_TIMEOUT_RESET) {
            initiator_connection_lose(&queue->connection, "a command did not end in time", 0);
            return;
        }
        list_remove(node);
        command->aborting = queue->controller->options.timeout_action == NVME_INITIATOR_TIMEOUT_ABORT;
        command->deadline_ns = command->aborting ? now + timeout_ns : UINT64_MAX;
        list_push_back(&queue->aborting, node);
    }
    abort_ask(queue);
    uint64_t next = UINT64_MAX;
    if ((node = list_first(&queue->active)) != NULL)
        next = list_entry(node, struct initiator_command, node)->deadline_ns;
    if ((node = list_first(&queue->aborting)) != NULL)
        next = min_u64(next, list_entry(node, struct initiator_command, node)->deadline_ns);
    if (next != UINT64_MAX)
        reactor_timer_start(queue->reactor, timer, next);
}

/* The answer to an abort is here: its slot may be used again, the next one may be asked for. */
static void abort_look(struct initiator_queue *queue) {
    if (atomic_load(&queue->abort) != 0)
        return;
    for (uint16_t i = 0; i < queue->command_count; i++) {
        struct initiator_command *command = &queue->commands[i];
        if (command->abort_asked && command->request == NULL) {
            command->aborting = command->abort_asked = false;
            list_push_back(&queue->free, &command->node);
        }
    }
    pump(queue);
}

/* ---- coming and going ---- */

static void on_ready(struct initiator_connection *connection) {
    struct initiator_queue *queue = queue_of(connection);
    struct nvme_initiator_controller *controller = queue->controller;
    union {
        struct nvme_connect connect;
        struct nvme_sqe sqe;
    } command;
    initiator_connect_fill(controller, queue->qid, controller->association.entries, &command.connect, queue->connect_slice.base);
    command.connect.cid = queue->command_count;
    initiator_connection_submit(connection, &command.sqe, NVME_HOST_TO_CONTROLLER, &queue->connect_slice, 1,
                                sizeof(struct nvme_connect_data), true);
}

static void connect_late(struct reactor_timer *timer) {
    struct initiator_queue *queue = container_of(timer, struct initiator_queue, connect_deadline);
    initiator_connection_lose(&queue->connection, "an I/O queue was not connected in time", 0);
}

static void connect_answered(struct initiator_queue *queue) {
    unsigned code = nvme_status_code(&queue->connect.cqe);
    if (code != NVME_SUCCESS) {
        char why[INITIATOR_WHY_SIZE];
        snprintf(why, sizeof(why), "an I/O queue was refused with status 0x%03x", code);
        initiator_connection_lose(&queue->connection, why, 0);
        return;
    }
    reactor_timer_stop(queue->reactor, &queue->connect_deadline);
    atomic_store(&queue->up, true);
    initiator_look_post(&queue->to_control, queue->controller->initiator->control);
    pump(queue);
}

/* The connection is closed: takes every command back, and lines their requests up again, oldest first. */
static void commands_take_back(struct initiator_queue *queue) {
    struct list back, again;
    list_init(&back);
    list_init(&again);
    list_splice_back(&back, &queue->aborting);
    list_splice_back(&back, &queue->active);
    queue->under_way = 0;
    list_init(&queue->free);
    for (struct list_node *node; (node = list_pop_front(&back)) != NULL;) {
        struct initiator_command *command = list_entry(node, struct initiator_command, node);
        struct block_request *request = command->request;
        struct request_state *state = state_of(request);
        if (--state->outstanding > 0)
            continue;
        state->issued = 0;
        state->flushing = state->again = false;
        if (state->status == IO_OK && !may_retry(queue, request))
            state->status = IO_PATH_LOST;
        if (state->waiting)
            wait_no_more(request);
        list_push_back(&again, &request->node);
    }
    for (uint16_t i = queue->command_count; i-- > 0;) {
        queue->commands[i].request = NULL;
        queue->commands[i].aborting = queue->commands[i].abort_asked = false;
        list_push_front(&queue->free, &queue->commands[i].node);
    }
    for (struct list_node *node; (node = list_last(&again)) != NULL;) {
        struct block_request *request = list_entry(node, struct block_request, node);
        list_remove(node);
        if (state_of(request)->status != IO_OK)
            request_end(queue, request, (enum io_status)state_of(request)->status);
        else
            wait_first(queue, request);
    }
}

/* Not connected any more. */
static void queue_down(struct initiator_queue *queue) {
    reactor_timer_stop(queue->reactor, &queue->connect_deadline);
    reactor_timer_stop(queue->reactor, &queue->timer);
    atomic_store(&queue->up, false);
    queue->forward = NULL;
    commands_take_back(queue);
    waiting_fail(queue, false, true);
    atomic_store(&queue->held, 0);
    initiator_look_post(&queue->to_control, queue->controller->initiator->control);
}

static void on_lost(struct initiator_connection *connection, const char *why, int error) {
    struct initiator_queue *queue = queue_of(connection);
    snprintf(queue->lost_why, sizeof(queue->lost_why), "%s", why);
    queue->lost_error = error;
    atomic_store(&queue->lost, atomic_load(&queue->held));
    queue_down(queue);
}

static const struct initiator_connection_ops connection_ops = {.ready = on_ready, .completed = on_completed, .lost = on_lost};

static void queue_connect(struct initiator_queue *queue, uint64_t association) {
    struct nvme_initiator_controller *controller = queue->controller;
    atomic_store(&queue->held, association);
    if (queue->qid == 0) {
        queue->forward = atomic_load(&controller->queues[queue->forward_to]);
        atomic_store(&queue->up, true);
        initiator_look_post(&queue->to_control, controller->initiator->control);
        return;
    }
    queue->depth = min_u32(controller->association.entries - 1, queue->command_count);
    reactor_timer_start(queue->reactor, &queue->connect_deadline,
                        reactor_now_ns(queue->reactor) + controller->connect_timeout_ns);
    struct error error;
    if (!initiator_connection_open(&queue->connection, &controller->address, &controller->from, &controller->tcp_options, &error))
        on_lost(&queue->connection, error.text, 0);
}

void initiator_queue_recall(struct initiator_queue *queue) {
    atomic_store(&queue->recalled, true);
    initiator_look_post(&queue->to_queue, queue->reactor);
}

static void recall(struct initiator_queue *queue) {
    if (queue->forward != NULL)
        initiator_queue_recall(queue->forward);
    initiator_connection_lose(&queue->connection, "it was given up: somebody wanted his requests back", 0);
    waiting_fail(queue, false, true);
}

static void queue_look(struct reactor_message *message) {
    struct initiator_queue *queue =
        container_of(container_of(message, struct initiator_look, message), struct initiator_queue, to_queue);
    initiator_look_taken(&queue->to_queue);
    if (atomic_exchange(&queue->recalled, false))
        recall(queue);
    uint64_t wanted = atomic_load(&queue->wanted), held = atomic_load(&queue->held);
    if (held != 0 && held != wanted) {
        initiator_connection_close(&queue->connection);
        queue_down(queue);
        held = 0;
    }
    if (held == 0 && wanted != 0 && wanted != atomic_load(&queue->lost))
        queue_connect(queue, wanted);
    bool failing = atomic_load(&queue->failing) && !atomic_load(&queue->up);
    unsigned gone = atomic_load(&queue->controller->gone_count);
    bool fast = !atomic_load(&queue->up) && !will_be_up(queue);
    if (failing || fast || gone != queue->gone_seen || gone > 0)
        waiting_fail(queue, failing, fast);
    queue->gone_seen = gone;
    abort_look(queue);
    abort_ask(queue);
}

/* ---- life ---- */

static void dismantle_run(struct reactor_job *job) {
    struct initiator_queue *queue = container_of(job, struct initiator_queue, dismantle);
    if (!initiator_connection_idle(&queue->connection) || queue->pump_queued) {
        reactor_defer(queue->reactor, job);
        return;
    }
    assert(list_empty(&queue->waiting) && list_empty(&queue->urgent) && list_empty(&queue->delayed) && queue->under_way == 0);
    reactor_timer_stop(queue->reactor, &queue->timer);
    reactor_timer_stop(queue->reactor, &queue->retry);
    reactor_post(queue->controller->initiator->control, &queue->goodbye);
}

/* Control's last message: it is down, and no device is left that could use it. */
static void queue_end(struct reactor_message *message) {
    struct initiator_queue *queue = container_of(message, struct initiator_queue, end);
    assert(atomic_load(&queue->held) == 0);
    reactor_defer(queue->reactor, &queue->dismantle);
}

void initiator_queue_free(struct initiator_queue *queue) {
    initiator_connection_fini(&queue->connection);
    free(queue->connect_slice.base);
    free(queue->requests);
    free(queue->commands);
    free(queue);
}

struct initiator_queue *initiator_queue_create(struct nvme_initiator_controller *controller) {
    struct initiator_queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL)
        return NULL;
    queue->controller = controller;
    queue->reactor = reactor_current();
    queue->command_count = (uint16_t)(controller->options.io_queue_entries - 1);
    queue->commands = calloc(queue->command_count, sizeof(*queue->commands));
    queue->requests = calloc(queue->command_count + 1u, sizeof(struct nvme_tcp_request *));
    queue->connect_slice = (struct slice){calloc(1, sizeof(struct nvme_connect_data)), sizeof(struct nvme_connect_data)};
    struct initiator_connection_options options = {.ops = &connection_ops,
                                                   .staging_size = STAGING_SIZE,
                                                   .requests = queue->requests,
                                                   .request_count = (uint16_t)(queue->command_count + 1)};
    bool ok = initiator_connection_init(&queue->connection, queue->reactor, &options);
    if (!ok || queue->commands == NULL || queue->requests == NULL || queue->connect_slice.base == NULL) {
        initiator_queue_free(queue);
        return NULL;
    }
    list_init(&queue->free);
    list_init(&queue->active);
    list_init(&queue->aborting);
    list_init(&queue->waiting);
    list_init(&queue->urgent);
    list_init(&queue->delayed);
    for (uint16_t i = 0; i < queue->command_count; i++) {
        queue->requests[i] = &queue->commands[i].tcp;
        list_push_back(&queue->free, &queue->commands[i].node);
    }
    queue->requests[queue->command_count] = &queue->connect;
    queue->timer.run = timer_run;
    queue->retry.run = retry_run;
    queue->connect_deadline.run = connect_late;
    queue->pump.run = pump_run;
    queue->dismantle.run = dismantle_run;
    queue->to_queue.message.run = queue_look;
    queue->end.run = queue_end;
    queue->to_control.message.run = initiator_controller_queue_looks;
    queue->goodbye.run = initiator_controller_queue_gone;
    return queue;
}
