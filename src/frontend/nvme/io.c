/* I/O commands: from NVMe's terms to the block layer's and back. The data path: no allocation, one continuation. */
#include "block/replica.h"
#include "frontend/nvme/internal.h"

#define STATUS(status) ((status) | NVME_DO_NOT_RETRY)

/* Retryable ones carry no Do Not Retry: hosts send them again by themselves. */
static const uint16_t status_of[IO_STATUS_COUNT] = {
    [IO_OK] = NVME_SUCCESS,
    [IO_INVALID] = STATUS(NVME_INVALID_FIELD),
    [IO_OUT_OF_RANGE] = STATUS(NVME_LBA_OUT_OF_RANGE),
    [IO_UNSUPPORTED] = STATUS(NVME_INVALID_OPCODE),
    [IO_READ_ONLY] = STATUS(NVME_NAMESPACE_WRITE_PROTECTED),
    [IO_NO_SPACE] = STATUS(NVME_CAPACITY_EXCEEDED),
    [IO_MEDIUM_READ] = STATUS(NVME_UNRECOVERED_READ),
    [IO_MEDIUM_WRITE] = STATUS(NVME_WRITE_FAULT),
    [IO_DAMAGED] = STATUS(NVME_UNRECOVERED_READ),
    [IO_COMPARE_FAILED] = STATUS(NVME_COMPARE_FAILURE),
    [IO_NOT_READY] = NVME_NAMESPACE_NOT_READY,
    [IO_PATH_LOST] = NVME_PATH_INTERNAL_ERROR,
    [IO_TIMED_OUT] = NVME_COMMAND_INTERRUPTED,
    [IO_DEVICE_GONE] = STATUS(NVME_INVALID_NAMESPACE),
    [IO_FENCED] = STATUS(NVME_RESERVATION_CONFLICT),
    [IO_ABORTED] = NVME_ABORTED_BY_REQUEST,
    [IO_NO_MEMORY] = NVME_COMMAND_INTERRUPTED,
    [IO_INTERNAL] = NVME_INTERNAL_ERROR,
};

/* A device whose path is gone has hosts go another way, and look at what this one says of itself. */
static unsigned status_for(const struct nvme_command *command, enum io_status status) {
    bool away = status == IO_PATH_LOST || (status == IO_FENCED && !block_device_is_replica(command->ns->device));
    if (unlikely(away && command->queue->controller->path != NULL))
        return NVME_ANA_INACCESSIBLE;
    return status_of[status];
}

void nvme_command_fill(struct nvme_command *command, unsigned status) {
    struct nvme_queue *queue = command->queue;
    command->cqe.cid = command->sqe.cid;
    command->cqe.sq_id = queue->qid;
    command->cqe.sq_head = queue->sq_flow_disabled ? 0 : queue->sq_head;
    command->cqe.status = nvme_status_field(status);
    struct nvme_controller *controller = queue->controller;
    if (unlikely(status != NVME_SUCCESS) && controller != NULL && queue->attached) {
        struct nvme_error_entry *entry = &controller->errors[controller->error_count++ % NVME_ERROR_LOG_ENTRIES];
        *entry = (struct nvme_error_entry){.count = controller->error_count,
                                           .sq_id = queue->qid,
                                           .cid = command->sqe.cid,
                                           .status = command->cqe.status,
                                           .parameter = 0xffff,
                                           .nsid = command->sqe.nsid,
                                           .lba = queue->qid != 0 ? command->sqe.cdw10 | (uint64_t)command->sqe.cdw11 << 32 : 0};
    }
}

void nvme_command_complete(struct nvme_command *command, unsigned status) {
    struct nvme_queue *queue = command->queue;
    assert(command->state != NVME_COMMAND_IDLE);
    command->state = NVME_COMMAND_IDLE;
    queue->outstanding--;
    if (likely(queue->qid != 0 && queue->attached && command->sqe.opcode != NVME_OPCODE_FABRICS)) {
        counter_add(&queue->counters->completed, 1);
        counter_add(&queue->counters->pending, UINT64_MAX);
    }
    nvme_command_fill(command, status);
    queue->ops->complete(command);
}

static bool refuse(struct nvme_command *command, unsigned status) {
    nvme_command_fill(command, STATUS(status));
    return false;
}

/* Read, Write, Compare, Write Zeroes: their range. */
static bool range_decode(struct nvme_command *command) {
    const struct nvme_sqe *sqe = &command->sqe;
    struct nvme_namespace *ns = command->ns;
    uint64_t first = sqe->cdw10 | (uint64_t)sqe->cdw11 << 32, count = (sqe->cdw12 & NVME_IO_BLOCKS_MASK) + 1;
    if (unlikely(sqe->cdw12 & (NVME_IO_PROTECTION_MASK | NVME_IO_STORAGE_TAG_CHECK)))
        return refuse(command, NVME_INVALID_PROTECTION);
    if (unlikely(!range_inside(first, count, block_device_size(ns->device) >> ns->block_shift)))
        return refuse(command, NVME_LBA_OUT_OF_RANGE);
    command->request.offset = first << ns->block_shift;
    command->request.length = count << ns->block_shift;
    command->request.flags = sqe->cdw12 & NVME_IO_FORCE_UNIT_ACCESS ? BLOCK_FUA : 0;
    return true;
}

/* The document is judged by the device. */
static bool replica_decode(struct nvme_command *command, const struct nvme_transport *transport) {
    const struct nvme_sqe *sqe = &command->sqe;
    bool put = sqe->opcode == NVME_IO_REPLICA_PUT;
    struct block_request *request = &command->request;
    if (!nvme_namespace_is_replica(command->ns, transport))
        return refuse(command, NVME_INVALID_OPCODE);
    if ((sqe->cdw2 | sqe->cdw3 | sqe->cdw14 | sqe->cdw15) != 0)
        return refuse(command, NVME_INVALID_FIELD);
    request->op = put ? BLOCK_REPLICA_PUT : BLOCK_REPLICA_GET;
    request->flags = 0;
    request->offset = sqe->cdw10 | (uint64_t)sqe->cdw11 << 32;
    request->argument = sqe->cdw12 | (uint64_t)sqe->cdw13 << 32;
    request->length = sqe->sgl.length;
    if (put ? request->offset != 0 || request->length > REPLICA_DOCUMENT_MAX
            : request->length == 0 || request->offset > UINT64_MAX - request->length)
        return refuse(command, NVME_INVALID_FIELD);
    if (request->length > 0)
        command->direction = put ? NVME_HOST_TO_CONTROLLER : NVME_CONTROLLER_TO_HOST;
    return true;
}

bool nvme_io_decode(struct nvme_queue *queue, struct nvme_command *command) {
    struct nvme_sqe *sqe = &command->sqe;
    struct nvme_subsystem *subsystem = queue->subsystem;
    struct nvme_controller *controller = queue->controller;
    command->direction = NVME_NO_DATA;
    command->length = 0;
    if (unlikely(controller->lost || !(controller->csts & NVME_CSTS_READY)))
        return refuse(command, NVME_COMMAND_SEQUENCE_ERROR);
    if (unlikely(sqe->flags & NVME_FLAG_FUSE_MASK))
        return refuse(command, NVME_INVALID_FIELD);
    if (unlikely(sqe->opcode == NVME_OPCODE_FABRICS))
        return refuse(command, NVME_INVALID_OPCODE);
    struct nvme_namespace *ns = sqe->nsid <= subsystem->max_namespaces ? subsystem->by_id[sqe->nsid] : NULL;
    if (unlikely(ns == NULL || ns->detaching))
        return refuse(command, NVME_INVALID_NAMESPACE);
    command->ns = ns;
    command->ns_serial = ns->serial;
    if (unlikely(controller->path != NULL)) {
        unsigned status = nvme_path_status(controller->path, ns);
        if (unlikely(status != NVME_SUCCESS)) {
            nvme_command_fill(command, status);
            return false;
        }
    }
    bool write_protected = false;
    switch (sqe->opcode) {
    case NVME_IO_READ:
        command->request.op = BLOCK_READ;
        if (!range_decode(command))
            return false;
        command->request.flags = 0;
        command->direction = NVME_CONTROLLER_TO_HOST;
        break;
    case NVME_IO_WRITE:
    case NVME_IO_COMPARE:
        command->request.op = sqe->opcode == NVME_IO_WRITE ? BLOCK_WRITE : BLOCK_COMPARE;
        if (!range_decode(command))
            return false;
        if (sqe->opcode == NVME_IO_COMPARE)
            command->request.flags = 0;
        else
            write_protected = true;
        if (unlikely((sqe->cdw13 & NVME_IO_UNMARKED) != 0) && sqe->opcode == NVME_IO_WRITE && block_device_is_replica(ns->device))
            command->request.flags |= BLOCK_UNMARKED;
        command->direction = NVME_HOST_TO_CONTROLLER;
        break;
    case NVME_IO_WRITE_ZEROES:
        command->request.op = BLOCK_WRITE_ZEROES;
        if (!range_decode(command))
            return false;
        if (sqe->cdw12 & NVME_IO_DEALLOCATE)
            command->request.flags |= BLOCK_MAY_TRIM;
        write_protected = true;
        break;
    case NVME_IO_FLUSH:
        command->request.op = BLOCK_FLUSH;
        command->request.offset = command->request.length = 0;
        command->request.flags = 0;
        break;
    case NVME_IO_DATASET_MANAGEMENT:
        /* Linux always sends room for the most ranges there can be. */
        command->direction = NVME_HOST_TO_CONTROLLER;
        command->length = sqe->sgl.length;
        if (command->length < ((sqe->cdw10 & 0xff) + 1) * sizeof(struct nvme_dsm_range) ||
            command->length > NVME_DSM_RANGES_MAX * sizeof(struct nvme_dsm_range))
            return refuse(command, NVME_SGL_INVALID_LENGTH);
        write_protected = sqe->cdw11 & NVME_DSM_DEALLOCATE;
        break;
    case NVME_IO_REPLICA_PUT:
    case NVME_IO_REPLICA_GET:
        if (!replica_decode(command, queue->transport))
            return false;
        write_protected = sqe->opcode == NVME_IO_REPLICA_PUT;
        break;
    default: return refuse(command, NVME_INVALID_OPCODE);
    }
    if (unlikely(write_protected && atomic_load_explicit(&ns->device->read_only, memory_order_relaxed)))
        return refuse(command, NVME_NAMESPACE_WRITE_PROTECTED);
    if (command->direction != NVME_NO_DATA && sqe->opcode != NVME_IO_DATASET_MANAGEMENT) {
        if (unlikely(command->request.length > queue->transport->options.max_io_bytes))
            return refuse(command, NVME_INVALID_FIELD);
        command->length = (uint32_t)command->request.length;
    }
    if (unlikely(command->length != sqe->sgl.length && command->direction != NVME_NO_DATA))
        return refuse(command, NVME_SGL_INVALID_LENGTH);
    return true;
}

static void device_enter(struct nvme_command *command) {
    struct nvme_path *path = command->queue->controller->path;
    command->ns->outstanding++;
    if (unlikely(path != NULL))
        nvme_path_enter(path, command->ns->anagrpid);
}

static void device_leave(struct nvme_command *command) {
    struct nvme_namespace *ns = command->ns;
    struct nvme_path *path = command->queue->controller->path;
    ns->outstanding--;
    if (unlikely(path != NULL))
        nvme_path_leave(path, ns->anagrpid);
    if (unlikely(ns->detaching))
        nvme_namespace_idle(ns);
}

static void on_complete(struct block_request *request) {
    struct nvme_command *command = container_of(request, struct nvme_command, request);
    unsigned status = status_for(command, request->status);
    device_leave(command);
    nvme_command_complete(command, status);
}

/* ---- Dataset Management: one trim after the other ---- */

static void trim_next(struct nvme_command *command);

static void on_trimmed(struct block_request *request) {
    struct nvme_command *command = container_of(request, struct nvme_command, request);
    /* Deallocate is a hint: a device without it has nothing to give back. */
    if (request->status == IO_OK || request->status == IO_UNSUPPORTED) {
        trim_next(command);
        return;
    }
    unsigned status = status_for(command, request->status);
    device_leave(command);
    nvme_command_complete(command, status);
}

static void trim_next(struct nvme_command *command) {
    const struct nvme_dsm_range *ranges = command->data;
    struct nvme_namespace *ns = command->ns;
    uint32_t count = (command->sqe.cdw10 & 0xff) + 1;
    while (command->range_next < count && ranges[command->range_next].block_count == 0)
        command->range_next++;
    if (command->range_next == count) {
        device_leave(command);
        nvme_command_complete(command, NVME_SUCCESS);
        return;
    }
    const struct nvme_dsm_range *range = &ranges[command->range_next++];
    command->request.offset = range->first_block << ns->block_shift;
    command->request.length = (uint64_t)range->block_count << ns->block_shift;
    block_submit(ns->channel, &command->request);
}

static void dataset_execute(struct nvme_command *command) {
    const struct nvme_dsm_range *ranges = command->data;
    struct nvme_namespace *ns = command->ns;
    uint64_t blocks = block_device_size(ns->device) >> ns->block_shift;
    uint32_t count = (command->sqe.cdw10 & 0xff) + 1;
    for (uint32_t i = 0; i < count; i++)
        if (!range_inside(ranges[i].first_block, ranges[i].block_count, blocks)) {
            nvme_command_complete(command, STATUS(NVME_LBA_OUT_OF_RANGE));
            return;
        }
    if (!(command->sqe.cdw11 & NVME_DSM_DEALLOCATE)) { /* the other attributes are hints about access */
        nvme_command_complete(command, NVME_SUCCESS);
        return;
    }
    command->request.op = BLOCK_TRIM;
    command->request.flags = 0;
    command->request.slice_count = 0;
    command->request.slices = NULL;
    command->request.complete = on_trimmed;
    command->range_next = 0;
    device_enter(command);
    trim_next(command);
}

void nvme_io_execute(struct nvme_command *command) {
    /* The namespace may have gone while the data came; another may have its place, and its memory. */
    struct nvme_namespace *ns = command->queue->subsystem->by_id[command->sqe.nsid];
    if (unlikely(ns == NULL || ns->detaching || ns->serial != command->ns_serial)) {
        nvme_command_complete(command, STATUS(NVME_INVALID_NAMESPACE));
        return;
    }
    struct nvme_controller *controller = command->queue->controller;
    unsigned closed = unlikely(controller->path != NULL) ? nvme_path_status(controller->path, ns) : NVME_SUCCESS;
    if (unlikely(closed != NVME_SUCCESS)) {
        nvme_command_complete(command, closed);
        return;
    }
    command->request.association = controller->association;
    switch (command->sqe.opcode) {
    case NVME_IO_DATASET_MANAGEMENT: dataset_execute(command); return;
    case NVME_IO_READ:
        controller->reads++;
        controller->read_bytes += command->length;
        break;
    case NVME_IO_WRITE:
        controller->writes++;
        controller->written_bytes += command->length;
        break;
    case NVME_IO_REPLICA_GET: memset(command->data, 0, command->length); break; /* what a device leaves out is nobody else's */
    default: break;
    }
    command->slice = (struct slice){command->data, command->length};
    command->request.slices = &command->slice;
    command->request.slice_count = command->length > 0 ? 1 : 0;
    command->request.complete = on_complete;
    device_enter(command);
    block_submit(ns->channel, &command->request);
}
