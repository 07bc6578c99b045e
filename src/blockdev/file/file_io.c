/* The data path of the file device: block requests become host file requests. */
#include <errno.h>

#include "blockdev/file/file_internal.h"

enum io_status file_device_status(enum block_op op, int64_t result) {
    if (result >= 0)
        return IO_OK;
    bool reads = op == BLOCK_READ || op == BLOCK_COMPARE;
    switch (-result) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return op == BLOCK_FLUSH ? IO_MEDIUM_WRITE : IO_NO_SPACE; /* a flush that found none has lost something */
    case EROFS:
    case EBADF:
    case EPERM:
    case EACCES: return IO_READ_ONLY;
    case ENODEV:
    case ENXIO: return IO_DEVICE_GONE;
    case EOPNOTSUPP: return IO_UNSUPPORTED;
    case EINVAL:
    case EFAULT: return IO_INVALID;
    case ENOMEM:
    case EAGAIN: return IO_NO_MEMORY;
    case ETIMEDOUT: return IO_TIMED_OUT;
    case EILSEQ:
    case EBADMSG: return IO_DAMAGED;
    default: return reads ? IO_MEDIUM_READ : IO_MEDIUM_WRITE;
    }
}

bool file_channel_open(struct block_channel *channel) {
    struct file_channel *own = block_channel_private(channel);
    pool_init(&own->ios, sizeof(struct file_io), FILE_IN_FLIGHT_MAX);
    list_init(&own->waiting);
    list_init(&own->flushes);
    list_init(&own->covered);
    return true;
}

void file_channel_close(struct block_channel *channel) {
    struct file_channel *own = block_channel_private(channel);
    assert(list_empty(&own->waiting) && list_empty(&own->flushes) && list_empty(&own->covered));
    pool_fini(&own->ios);
}

static void start(struct file_io *io);

/* Gives the host request's memory to whoever waits longest, else back to the pool. */
static void io_give(struct file_channel *own, struct file_io *io) {
    struct list_node *node = list_pop_front(&own->waiting);
    if (likely(node == NULL)) {
        pool_give(&own->ios, io);
        return;
    }
    io->request = container_of(node, struct block_request, node);
    start(io);
}

/* ---- reads, writes, trims ---- */

static void submit_part(struct file_io *io) {
    struct block_request *request = io->request;
    struct host_file_request *host = &io->host;
    host->slices = request->slices + io->slices_done;
    host->slice_count = min_u32(request->slice_count - io->slices_done, HOST_FILE_SLICES_MAX);
    host->offset = request->offset + io->bytes_done;
    host->length =
        likely(host->slice_count == request->slice_count) ? request->length : slice_total(host->slices, host->slice_count);
    host_file_submit(block_channel_reactor(request->channel)->loop, host);
}

static void completed(struct host_file_request *host) {
    struct file_io *io = container_of(host, struct file_io, host);
    struct block_request *request = io->request;
    enum io_status status = file_device_status((enum block_op)request->op, host->result);
    bool moves = host->op == HOST_FILE_READ || host->op == HOST_FILE_WRITE;
    if (moves && status == IO_OK) {
        /* The file ends earlier than it did: somebody cut it. */
        if (unlikely((uint64_t)host->result != host->length))
            status = host->op == HOST_FILE_READ ? IO_MEDIUM_READ : IO_MEDIUM_WRITE;
        io->slices_done += host->slice_count;
        io->bytes_done += host->length;
        if (unlikely(status == IO_OK && io->bytes_done < request->length)) {
            submit_part(io);
            return;
        }
    }
    io_give(io->channel, io);
    block_complete(request, status);
}

/* ---- flushes ---- */

static void answer(struct list *requests, enum io_status status) {
    for (struct list_node *node; (node = list_pop_front(requests)) != NULL;)
        block_complete(container_of(node, struct block_request, node), status);
}

static void flushed(struct host_file_request *host);

/* A sync covers what completed before it was submitted: a FLUSH that comes while one is under way waits for the next, together
 * with all others that came meanwhile. */
static void start_flush(struct block_channel *channel) {
    struct file_channel *own = block_channel_private(channel);
    list_splice_back(&own->covered, &own->flushes);
    own->flush = (struct host_file_request){
        .file = file_of(block_channel_device(channel))->file, .op = HOST_FILE_SYNC, .complete = flushed};
    host_file_submit(block_channel_reactor(channel)->loop, &own->flush);
}

static void flushed(struct host_file_request *host) {
    struct file_channel *own = container_of(host, struct file_channel, flush);
    struct block_request *first = container_of(list_first(&own->covered), struct block_request, node);
    struct block_channel *channel = first->channel;
    struct file_device *file = file_of(block_channel_device(channel));
    enum io_status status = file_device_status(BLOCK_FLUSH, host->result);
    if (status != IO_OK)
        atomic_store_explicit(&file->flush_failed, true, memory_order_relaxed);
    struct list done;
    list_init(&done);
    list_splice_back(&done, &own->covered);
    if (atomic_load_explicit(&file->flush_failed, memory_order_relaxed))
        answer(&own->flushes, IO_MEDIUM_WRITE);
    else if (!list_empty(&own->flushes))
        start_flush(channel);
    answer(&done, status); /* last: the channel may go with it */
}

static void submit_flush(struct block_channel *channel, struct block_request *request) {
    struct file_channel *own = block_channel_private(channel);
    struct file_device *file = file_of(block_channel_device(channel));
    if (unlikely(atomic_load_explicit(&file->flush_failed, memory_order_relaxed))) {
        block_complete_later(request, IO_MEDIUM_WRITE);
        return;
    }
    list_push_back(&own->flushes, &request->node);
    if (list_empty(&own->covered))
        start_flush(channel);
}

/* ---- submitting ---- */

static enum host_file_op host_op(const struct file_device *file, const struct block_request *request) {
    switch ((enum block_op)request->op) {
    case BLOCK_READ: return HOST_FILE_READ;
    case BLOCK_WRITE: return HOST_FILE_WRITE;
    case BLOCK_TRIM: return HOST_FILE_PUNCH;
    case BLOCK_WRITE_ZEROES:
        /* A hole in a file reads zero; a discarded range of a device may not. */
        return (request->flags & BLOCK_MAY_TRIM) != 0 && file->facts.can_punch && !file->facts.block_device && !file->keep_space
                   ? HOST_FILE_PUNCH
                   : HOST_FILE_ZERO;
    default: assert(!"checked by the block layer"); return HOST_FILE_READ;
    }
}

static void start(struct file_io *io) {
    struct block_request *request = io->request;
    struct file_device *file = file_of(block_channel_device(request->channel));
    io->channel = block_channel_private(request->channel);
    io->slices_done = 0;
    io->bytes_done = 0;
    io->host.file = file->file;
    io->host.op = host_op(file, request);
    io->host.complete = completed;
    submit_part(io);
}

void file_submit(struct block_channel *channel, struct block_request *request) {
    struct file_channel *own = block_channel_private(channel);
    if (unlikely(request->op == BLOCK_FLUSH)) {
        submit_flush(channel, request);
        return;
    }
    if (unlikely(request->length == 0)) { /* nothing to do, and the system would object */
        block_complete_later(request, IO_OK);
        return;
    }
    struct file_io *io = likely(list_empty(&own->waiting)) ? pool_take(&own->ios) : NULL;
    if (unlikely(io == NULL)) {
        list_push_back(&own->waiting, &request->node);
        return;
    }
    io->request = request;
    start(io);
}

bool file_abort(struct block_channel *channel, struct block_request *request) {
    struct file_channel *own = block_channel_private(channel);
    struct list *queues[] = {&own->waiting, &own->flushes};
    for (size_t i = 0; i < array_count(queues); i++)
        list_for_each (queues[i], struct block_request, queued, node) {
            if (queued != request)
                continue;
            list_remove(&request->node);
            block_complete_later(request, IO_ABORTED);
            return true;
        }
    return false;
}
