/* A controller: properties, features, async events, keep alive, abort (Base 3, 5). On the subsystem's home. */
#include "frontend/nvme/internal.h"

#define STATUS(status) ((status) | NVME_DO_NOT_RETRY)

void nvme_queue_init(struct nvme_queue *queue) {
    queue->subsystem = NULL;
    queue->controller = NULL;
    queue->reactor = queue->transport->target->control;
    queue->qid = 0;
    queue->depth = 1;
    queue->attached = queue->lost = queue->sq_flow_disabled = false;
    queue->sq_head = 0;
    queue->outstanding = 0;
    list_node_init(&queue->node);
    queue->transport->target->strangers++;
}

void nvme_queue_heard(struct nvme_queue *queue) {
    if (likely(queue->attached))
        queue->controller->heard_ns = reactor_now_ns(queue->reactor);
}

static uint32_t queues_initial(const struct nvme_controller *controller);

/* ---- keep alive ---- */

static void on_keep_alive(struct reactor_timer *timer);

/* When it is over, at the granularity that is told to hosts: a thousand controllers that are heard of at about the same time wake
 * the loop once for all, not each for itself. */
static void keep_alive_watch(struct nvme_controller *controller, uint64_t kato_ns) {
    controller->kato_timer.run = on_keep_alive;
    reactor_timer_start_coarse(controller->subsystem->home, &controller->kato_timer, controller->heard_ns + kato_ns,
                               NVME_KATO_GRANULARITY_MS * NS_PER_MS);
}

static void on_keep_alive(struct reactor_timer *timer) {
    struct nvme_controller *controller = container_of(timer, struct nvme_controller, kato_timer);
    struct reactor *home = controller->subsystem->home;
    uint64_t kato_ns = atomic_load_explicit(&controller->kato_ms, memory_order_relaxed) * NS_PER_MS;
    if (kato_ns == 0 || controller->lost)
        return;
    if (reactor_now_ns(home) >= controller->heard_ns + kato_ns)
        nvme_controller_lose(controller);
    else
        keep_alive_watch(controller, kato_ns);
}

static void keep_alive_set(struct nvme_controller *controller, uint32_t kato_ms) {
    uint32_t granular = (uint32_t)min_u64(divide_up(kato_ms, NVME_KATO_GRANULARITY_MS) * NVME_KATO_GRANULARITY_MS, 3600000);
    if (kato_ms > 0 && granular < controller->transport->options.min_kato_ms)
        granular = controller->transport->options.min_kato_ms;
    atomic_store_explicit(&controller->kato_ms, granular, memory_order_relaxed);
    struct reactor *home = controller->subsystem->home;
    controller->heard_ns = reactor_now_ns(home);
    if (granular == 0)
        reactor_timer_stop(home, &controller->kato_timer);
    else
        keep_alive_watch(controller, granular * NS_PER_MS);
}

void nvme_controller_start(struct nvme_controller *controller) {
    controller->arrived = true;
    controller->created_ns = reactor_now_ns(controller->subsystem->home);
    list_init(&controller->async_requests);
    controller->feature[NVME_FEATURE_NUMBER_OF_QUEUES] = queues_initial(controller);
    keep_alive_set(controller, atomic_load_explicit(&controller->kato_ms, memory_order_relaxed));
    list_push_back(&controller->subsystem->live, &controller->live_node);
}

/* ---- async events ---- */

/* Tells what is to tell, while the host has requests waiting. Each event is masked until its log page is read. */
void nvme_controller_events_tell(struct nvme_controller *controller) {
    while (controller->async_count > 0) {
        uint32_t told;
        if (controller->namespace_event && !controller->namespace_masked && controller->async_config & NVME_AEC_NAMESPACE) {
            controller->namespace_event = false;
            controller->namespace_masked = true;
            told = NVME_EVENT_NOTICE | NVME_NOTICE_NAMESPACE << 8 | NVME_LOG_CHANGED_NAMESPACES << 16;
        } else if (controller->ana_event && !controller->ana_masked && controller->async_config & NVME_AEC_ANA) {
            controller->ana_event = false;
            controller->ana_masked = true;
            told = NVME_EVENT_NOTICE | NVME_NOTICE_ANA << 8 | NVME_LOG_ANA << 16;
        } else if (controller->discovery_event && !controller->discovery_masked &&
                   controller->async_config & NVME_AEC_DISCOVERY) {
            controller->discovery_event = false;
            controller->discovery_masked = true;
            told = NVME_EVENT_NOTICE | NVME_NOTICE_DISCOVERY << 8 | NVME_LOG_DISCOVERY << 16;
        } else
            return;
        struct nvme_command *command = list_entry(list_pop_front(&controller->async_requests), struct nvme_command, node);
        controller->async_count--;
        command->cqe.dw0 = told;
        nvme_command_complete(command, NVME_SUCCESS);
    }
}

void nvme_controller_namespace_event(struct nvme_controller *controller, uint32_t nsid) {
    controller->changed[nsid / 64] |= UINT64_C(1) << (nsid % 64);
    controller->namespace_event = true;
    if (!controller->lost)
        nvme_controller_events_tell(controller);
}

void nvme_controller_ana_event(struct nvme_controller *controller) {
    controller->ana_event = true;
    if (!controller->lost)
        nvme_controller_events_tell(controller);
}

void nvme_controller_discovery_event(struct nvme_controller *controller) {
    controller->discovery_event = true;
    if (!controller->lost)
        nvme_controller_events_tell(controller);
}

void nvme_controller_stop(struct nvme_controller *controller) {
    struct reactor *home = controller->subsystem->home;
    reactor_timer_stop(home, &controller->kato_timer);
    reactor_timer_stop(home, &controller->settle_timer);
    for (struct list_node *node; (node = list_pop_front(&controller->async_requests)) != NULL;) {
        controller->async_count--;
        nvme_command_complete(list_entry(node, struct nvme_command, node), NVME_ABORTED_SQ_DELETION);
    }
}

static void async_event_execute(struct nvme_controller *controller, struct nvme_command *command) {
    if (controller->async_count == NVME_LIMIT_AER) {
        nvme_command_complete(command, STATUS(NVME_AER_LIMIT_EXCEEDED));
        return;
    }
    command->state = NVME_COMMAND_WAITING;
    controller->async_count++;
    list_push_back(&controller->async_requests, &command->node);
    nvme_controller_events_tell(controller);
}

/* ---- abort ---- */

static bool abort_one(struct nvme_controller *controller, struct nvme_command *found) {
    if (found->state == NVME_COMMAND_WAITING) {
        list_remove(&found->node);
        controller->async_count--;
        nvme_command_complete(found, NVME_ABORTED_BY_REQUEST);
        return true;
    }
    /* One that is in its device: only what queues there can be taken back. */
    return found->queue->qid != 0 && found->ns != NULL && block_abort(found->ns->channel, &found->request);
}

static void abort_execute(struct nvme_controller *controller, struct nvme_command *command) {
    uint16_t qid = command->sqe.cdw10 & 0xffff, cid = (uint16_t)(command->sqe.cdw10 >> 16);
    struct nvme_queue *queue = qid <= NVME_LIMIT_IO_QUEUES ? controller->queues[qid] : NULL;
    bool aborted = false;
    for (unsigned i = 0; queue != NULL && i < queue->depth && !aborted; i++) {
        struct nvme_command *found = queue->ops->command(queue, i);
        if (found != NULL && found != command && found->sqe.cid == cid)
            aborted = abort_one(controller, found);
    }
    command->cqe.dw0 = aborted ? 0 : 1;
    nvme_command_complete(command, NVME_SUCCESS);
}

/* ---- features ---- */

/* Both counts of the feature, less one. */
static uint32_t queues_initial(const struct nvme_controller *controller) {
    uint32_t limit = controller->transport->options.io_queues - 1U;
    return limit | limit << 16;
}

uint32_t nvme_controller_events(const struct nvme_controller *controller) {
    return controller->subsystem->discovery ? NVME_AEC_DISCOVERY
                                            : NVME_AEC_NAMESPACE | (controller->path != NULL ? NVME_AEC_ANA : 0);
}

static unsigned features_set(struct nvme_controller *controller, struct nvme_command *command) {
    const struct nvme_sqe *sqe = &command->sqe;
    bool discovery = controller->subsystem->discovery;
    uint8_t id = sqe->cdw10 & 0xff;
    if (sqe->cdw10 & NVME_FEATURE_SAVE)
        return STATUS(NVME_FEATURE_NOT_SAVEABLE);
    if (discovery && id != NVME_FEATURE_ASYNC_EVENT_CONFIG && id != NVME_FEATURE_KEEP_ALIVE_TIMER)
        return STATUS(NVME_INVALID_FIELD);
    switch (id) {
    case NVME_FEATURE_NUMBER_OF_QUEUES: {
        uint32_t limit = controller->transport->options.io_queues - 1U;
        uint32_t sq = sqe->cdw11 & 0xffff, cq = sqe->cdw11 >> 16;
        if (sq == 0xffff || cq == 0xffff)
            return STATUS(NVME_INVALID_FIELD);
        if (atomic_load(&controller->io_queue_count) > 0)
            return STATUS(NVME_COMMAND_SEQUENCE_ERROR);
        /* Fabrics queues come in pairs. */
        command->cqe.dw0 = min_u32(max_u32(sq, cq), limit);
        command->cqe.dw0 |= command->cqe.dw0 << 16;
        controller->feature[id] = command->cqe.dw0;
        return NVME_SUCCESS;
    }
    case NVME_FEATURE_ASYNC_EVENT_CONFIG:
        if (sqe->cdw11 & ~(NVME_AEC_SMART_MASK | nvme_controller_events(controller)))
            return STATUS(NVME_INVALID_FIELD);
        controller->async_config = sqe->cdw11;
        nvme_controller_events_tell(controller);
        return NVME_SUCCESS;
    case NVME_FEATURE_KEEP_ALIVE_TIMER: keep_alive_set(controller, sqe->cdw11); return NVME_SUCCESS;
    case NVME_FEATURE_VOLATILE_WRITE_CACHE:
        /* The cache below cannot be switched off; saying so is better than lying. */
        return sqe->cdw11 & 1 ? NVME_SUCCESS : STATUS(NVME_FEATURE_NOT_CHANGEABLE);
    case NVME_FEATURE_POWER_MANAGEMENT: return (sqe->cdw11 & 0x1f) == 0 ? NVME_SUCCESS : STATUS(NVME_INVALID_FIELD);
    case NVME_FEATURE_ARBITRATION:
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
    case NVME_FEATURE_ERROR_RECOVERY:
    case NVME_FEATURE_WRITE_ATOMICITY: controller->feature[id] = sqe->cdw11; return NVME_SUCCESS;
    case NVME_FEATURE_HOST_ID: return STATUS(NVME_COMMAND_SEQUENCE_ERROR); /* Connect has set it */
    default: return STATUS(NVME_INVALID_FIELD);
    }
}

static unsigned features_get(struct nvme_controller *controller, struct nvme_command *command) {
    const struct nvme_sqe *sqe = &command->sqe;
    bool discovery = controller->subsystem->discovery;
    uint8_t id = sqe->cdw10 & 0xff, select = (sqe->cdw10 >> 8) & 7;
    if (select > NVME_SELECT_CAPABILITIES)
        return STATUS(NVME_INVALID_FIELD);
    if (discovery && id != NVME_FEATURE_ASYNC_EVENT_CONFIG && id != NVME_FEATURE_KEEP_ALIVE_TIMER)
        return STATUS(NVME_INVALID_FIELD);
    uint32_t current, initial = 0;
    bool changeable = true;
    switch (id) {
    case NVME_FEATURE_NUMBER_OF_QUEUES:
        initial = queues_initial(controller);
        current = controller->feature[id];
        break;
    case NVME_FEATURE_ASYNC_EVENT_CONFIG: current = controller->async_config; break;
    case NVME_FEATURE_KEEP_ALIVE_TIMER: current = atomic_load_explicit(&controller->kato_ms, memory_order_relaxed); break;
    case NVME_FEATURE_VOLATILE_WRITE_CACHE:
        current = initial = 1;
        changeable = false;
        break;
    case NVME_FEATURE_POWER_MANAGEMENT: current = 0; break;
    case NVME_FEATURE_ARBITRATION:
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
    case NVME_FEATURE_ERROR_RECOVERY:
    case NVME_FEATURE_WRITE_ATOMICITY: current = controller->feature[id]; break;
    case NVME_FEATURE_HOST_ID:
        if (!(sqe->cdw11 & 1) || command->length < sizeof(controller->hostid))
            return STATUS(NVME_INVALID_FIELD); /* fabrics use the 128-bit form */
        memset(command->data, 0, command->length);
        memcpy(command->data, controller->hostid.bytes, sizeof(controller->hostid));
        return NVME_SUCCESS;
    default: return STATUS(NVME_INVALID_FIELD);
    }
    if (command->length > 0)
        memset(command->data, 0, command->length);
    command->cqe.dw0 = select == NVME_SELECT_CURRENT        ? current
                       : select == NVME_SELECT_CAPABILITIES ? (changeable ? NVME_FEATURE_IS_CHANGEABLE : 0)
                                                            : initial;
    return NVME_SUCCESS;
}

/* ---- properties ---- */

static uint64_t capabilities(const struct nvme_controller *controller) {
    return NVME_CAP_MQES(controller->transport->options.queue_depth) | NVME_CAP_CQR | NVME_CAP_TIMEOUT(NVME_READY_TIMEOUT_500MS) |
           NVME_CAP_CSS_NVM;
}

static unsigned property_get(struct nvme_controller *controller, struct nvme_command *command) {
    const struct nvme_property *property = (const struct nvme_property *)&command->sqe;
    bool wide = (property->attributes & 7) == 1;
    uint64_t value;
    if ((property->attributes & 7) > 1)
        return STATUS(NVME_INVALID_FIELD);
    switch (property->offset) {
    case NVME_PROPERTY_CAP: value = capabilities(controller); break;
    case NVME_PROPERTY_VS: value = NVME_VERSION(1, 4, 0); break;
    case NVME_PROPERTY_CC: value = controller->cc; break;
    case NVME_PROPERTY_CSTS: value = controller->csts; break;
    default: return STATUS(NVME_INVALID_FIELD);
    }
    if (wide != (property->offset == NVME_PROPERTY_CAP))
        return STATUS(NVME_INVALID_FIELD);
    command->cqe.value = value;
    return NVME_SUCCESS;
}

/* Drops the I/O queues; the admin queue stays. */
static void io_queues_close(struct nvme_controller *controller) {
    for (unsigned qid = 1; qid <= NVME_LIMIT_IO_QUEUES; qid++)
        if (controller->queues[qid] != NULL)
            controller->queues[qid]->ops->close(controller->queues[qid]);
}

static void cc_write(struct nvme_controller *controller, uint32_t cc) {
    uint32_t before = controller->cc;
    bool enable = cc & NVME_CC_ENABLE && !(before & NVME_CC_ENABLE), disable = !(cc & NVME_CC_ENABLE) && before & NVME_CC_ENABLE;
    controller->cc = cc;
    if (enable) {
        bool io = !controller->subsystem->discovery;
        bool sizes = (cc & NVME_CC_IOSQES_MASK) == NVME_CC_IOSQES_64 && (cc & NVME_CC_IOCQES_MASK) == NVME_CC_IOCQES_16;
        if (cc & (NVME_CC_CSS_MASK | NVME_CC_MPS_MASK | NVME_CC_AMS_MASK) || (io && !sizes)) {
            controller->csts |= NVME_CSTS_FATAL;
            return;
        }
        controller->csts &= ~(uint32_t)(NVME_CSTS_SHST_MASK | NVME_CSTS_FATAL);
        controller->enabling = true;
        controller->disabling = false;
        controller->settle_deadline_ns = reactor_now_ns(controller->subsystem->home) + NVME_SETTLE_MS * NS_PER_MS;
    }
    if (disable) {
        controller->enabling = false;
        controller->disabling = true;
        io_queues_close(controller);
    }
    if (cc & NVME_CC_SHN_MASK && (cc & NVME_CC_SHN_MASK) != (before & NVME_CC_SHN_MASK)) {
        controller->csts = (controller->csts & ~(uint32_t)NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_OCCURRING;
        io_queues_close(controller);
    }
    nvme_controller_advance(controller);
}

static unsigned property_set(struct nvme_controller *controller, struct nvme_command *command) {
    const struct nvme_property *property = (const struct nvme_property *)&command->sqe;
    if (property->offset != NVME_PROPERTY_CC || (property->attributes & 7) != 0 || property->value > UINT32_MAX)
        return STATUS(NVME_INVALID_FIELD);
    cc_write(controller, (uint32_t)property->value);
    return NVME_SUCCESS;
}

/* ---- every admin command ---- */

static bool refuse(struct nvme_command *command, unsigned status) {
    nvme_command_fill(command, STATUS(status));
    return false;
}

bool nvme_admin_decode(struct nvme_queue *queue, struct nvme_command *command) {
    const struct nvme_sqe *sqe = &command->sqe;
    bool fabrics = sqe->opcode == NVME_OPCODE_FABRICS;
    command->ns = NULL;
    command->length = 0;
    command->direction = (enum nvme_direction)((fabrics ? sqe->fabrics_type : sqe->opcode) & 3);
    if (sqe->flags & NVME_FLAG_FUSE_MASK)
        return refuse(command, NVME_INVALID_FIELD);
    if (queue->controller == NULL) { /* nothing but Connect */
        if (!fabrics || sqe->fabrics_type != NVME_FABRICS_CONNECT)
            return refuse(command, NVME_COMMAND_SEQUENCE_ERROR);
        command->length = sqe->sgl.length;
        return command->length == sizeof(struct nvme_connect_data) || refuse(command, NVME_SGL_INVALID_LENGTH);
    }
    if (!queue->attached || queue->controller->lost)
        return refuse(command, NVME_COMMAND_SEQUENCE_ERROR);
    if (fabrics) {
        command->direction = NVME_NO_DATA;
        if (sqe->fabrics_type == NVME_FABRICS_PROPERTY_GET || sqe->fabrics_type == NVME_FABRICS_PROPERTY_SET)
            return true;
        return refuse(command, sqe->fabrics_type == NVME_FABRICS_CONNECT ? NVME_COMMAND_SEQUENCE_ERROR : NVME_INVALID_OPCODE);
    }
    bool discovery = queue->subsystem->discovery;
    switch (sqe->opcode) {
    case NVME_ADMIN_GET_LOG_PAGE:
    case NVME_ADMIN_IDENTIFY:
    case NVME_ADMIN_SET_FEATURES:
    case NVME_ADMIN_GET_FEATURES:
    case NVME_ADMIN_ASYNC_EVENT:
    case NVME_ADMIN_KEEP_ALIVE: break;
    case NVME_ADMIN_ABORT:
        if (!discovery)
            break;
        __attribute__((fallthrough));
    default: return refuse(command, NVME_INVALID_OPCODE);
    }
    if (!(queue->controller->csts & NVME_CSTS_READY))
        return refuse(command, NVME_COMMAND_SEQUENCE_ERROR);
    if (command->direction != NVME_NO_DATA)
        command->length = sqe->sgl.length;
    if (command->length > queue->transport->options.max_io_bytes && command->length > NVME_IDENTIFY_SIZE)
        return refuse(command, NVME_INVALID_FIELD);
    if (command->length == 0)
        command->direction = NVME_NO_DATA;
    return true;
}

void nvme_admin_execute(struct nvme_command *command) {
    struct nvme_controller *controller = command->queue->controller;
    unsigned status = STATUS(NVME_INVALID_OPCODE);
    bool connect = command->sqe.opcode == NVME_OPCODE_FABRICS && command->sqe.fabrics_type == NVME_FABRICS_CONNECT;
    if (connect) {
        nvme_connect_execute(command);
        return;
    }
    if (controller->lost) { /* while its data came */
        nvme_command_complete(command, NVME_ABORTED_SQ_DELETION);
        return;
    }
    switch (command->sqe.opcode) {
    case NVME_OPCODE_FABRICS:
        status = command->sqe.fabrics_type == NVME_FABRICS_PROPERTY_GET ? property_get(controller, command)
                                                                        : property_set(controller, command);
        break;
    case NVME_ADMIN_IDENTIFY: status = nvme_identify(controller, command); break;
    case NVME_ADMIN_GET_LOG_PAGE: status = nvme_log_page(controller, command); break;
    case NVME_ADMIN_SET_FEATURES: status = features_set(controller, command); break;
    case NVME_ADMIN_GET_FEATURES: status = features_get(controller, command); break;
    case NVME_ADMIN_KEEP_ALIVE: status = NVME_SUCCESS; break; /* having been heard is all */
    case NVME_ADMIN_ASYNC_EVENT: async_event_execute(controller, command); return;
    case NVME_ADMIN_ABORT: abort_execute(controller, command); return;
    default: break;
    }
    nvme_command_complete(command, status);
}

/* ---- what all commands share ---- */

static bool data_pointer_check(struct nvme_command *command, uint32_t capsule_length) {
    const struct nvme_sgl *sgl = &command->sqe.sgl;
    /* Data in a capsule that its command does not take: refused as a whole. */
    bool in_capsule = sgl->type == NVME_SGL_OFFSET;
    if (capsule_length > 0 && (command->direction != NVME_HOST_TO_CONTROLLER || !in_capsule))
        return refuse(command, NVME_SGL_INVALID_TYPE);
    if (command->direction == NVME_NO_DATA || command->length == 0)
        return true;
    if ((command->sqe.flags & NVME_FLAG_PSDT_MASK) != NVME_FLAG_PSDT_SGL)
        return refuse(command, NVME_INVALID_FIELD);
    if (in_capsule && command->direction == NVME_HOST_TO_CONTROLLER) {
        if (sgl->address != 0)
            return refuse(command, NVME_SGL_INVALID_OFFSET);
        return capsule_length == command->length || refuse(command, NVME_SGL_INVALID_LENGTH);
    }
    return sgl->type == NVME_SGL_TRANSPORT || refuse(command, NVME_SGL_INVALID_TYPE);
}

bool nvme_command_decode(struct nvme_queue *queue, struct nvme_command *command, uint32_t capsule_length) {
    assert(command->state == NVME_COMMAND_IDLE);
    command->queue = queue;
    command->cqe.value = 0;
    if (++queue->sq_head == queue->depth)
        queue->sq_head = 0;
    bool io = queue->qid != 0 && queue->attached;
    if (!(io ? nvme_io_decode(queue, command) : nvme_admin_decode(queue, command)))
        return false;
    return data_pointer_check(command, capsule_length);
}

void nvme_command_execute(struct nvme_command *command) {
    struct nvme_queue *queue = command->queue;
    command->state = NVME_COMMAND_EXECUTING;
    queue->outstanding++;
    if (likely(queue->qid != 0 && queue->attached)) {
        counter_add(&queue->counters->pending, 1);
        nvme_io_execute(command);
    } else
        nvme_admin_execute(command);
}

void nvme_command_refuse(struct nvme_command *command, unsigned status) { nvme_command_fill(command, status); }
