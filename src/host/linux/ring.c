/* File requests by io_uring, one ring a loop, made by the loop's first request. Completions are read from memory; the kernel is
 * entered to submit, and when it says that completions wait to be posted. Asleep, the loop's own eventfd is told: with deferred
 * task work the ring's descriptor does not become readable by itself. */
#include "host/linux/internal.h"

#ifdef HAVE_LIBURING

#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>

struct ring {
    struct io_uring uring;
    unsigned in_flight;   /* prepared or in the kernel */
    struct queue backlog; /* struct file_io: beyond RING_IN_FLIGHT_MAX, or no entry was free */
};

enum { REAP_BATCH = 64 };
enum { GROUP_SHARE = 8, GROUP_MAX = 16 }; /* requests are handed over when there are 1/8 as many as the kernel has, or 16 */
#define RING_MOVE_MAX GIB(1)              /* an entry's length is 32 bits; the rest goes on as after any short transfer */

static int ring_setup(struct ring *ring) {
    /* Newer kernels first: completions posted only when we ask (no interruptions), then cooperatively, then anyhow. */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 6.1 */
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,                               /* 5.19 */
        0,
    };
    int result = -EINVAL;
    for (size_t i = 0; i < array_count(flags) && result == -EINVAL; i++) {
        struct io_uring_params parameters = {.flags = flags[i] | IORING_SETUP_CQSIZE, .cq_entries = RING_IN_FLIGHT_MAX};
        result = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &parameters);
    }
    return result;
}

/* Ordered like the rest of the sleep handshake: the kernel marks its work, then looks at this flag; we set it, then look for
 * work. */
static void set_eventfd(struct ring *ring, bool enabled) {
    __atomic_store_n(ring->uring.cq.kflags, enabled ? 0 : IORING_CQ_EVENTFD_DISABLED, __ATOMIC_SEQ_CST);
}

static unsigned kernel_flags(const struct ring *ring) {
    return __atomic_load_n(ring->uring.sq.kflags, __ATOMIC_SEQ_CST) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* NULL: refused, or no memory (then, too, helper threads are the way to go on). */
static struct ring *ring_get(struct linux_loop *loop) {
    struct linux_host *host = loop->host;
    if (likely(loop->ring != NULL))
        return loop->ring;
    if (host->options.no_io_uring || atomic_load_explicit(&host->ring_refused, memory_order_relaxed))
        return NULL;
    struct ring *ring = calloc(1, sizeof(*ring));
    int result = ring == NULL ? -ENOMEM : ring_setup(ring);
    if (result == 0) {
        queue_init(&ring->backlog);
        result = io_uring_register_eventfd(&ring->uring, loop->wake.fd);
        if (result != 0)
            io_uring_queue_exit(&ring->uring);
        else
            set_eventfd(ring, false);
    }
    if (result != 0) {
        free(ring);
        if (!atomic_exchange(&host->ring_refused, true))
            linux_log(host, "io_uring is not available here (%s): files are accessed by helper threads, which is slower",
                      strerrordesc_np(-result));
        return NULL;
    }
    return loop->ring = ring;
}

static void prepare(struct io_uring_sqe *sqe, struct host_file_request *request) {
    struct linux_file *file = (struct linux_file *)request->file;
    switch (request->op) {
    case HOST_FILE_READ:
    case HOST_FILE_WRITE: {
        bool read = request->op == HOST_FILE_READ;
        const struct slice *slices = request->slices;
        if (request->slice_count == 1)
            io_uring_prep_rw(read ? IORING_OP_READ : IORING_OP_WRITE, sqe, file->fd, slices->base,
                             (unsigned)min_u64(slices->length, RING_MOVE_MAX), request->offset);
        else
            io_uring_prep_rw(read ? IORING_OP_READV : IORING_OP_WRITEV, sqe, file->fd, slices, request->slice_count,
                             request->offset);
        break;
    }
    case HOST_FILE_SYNC: io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC); break;
    case HOST_FILE_PUNCH:
    case HOST_FILE_ZERO: {
        int mode = request->op == HOST_FILE_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
        io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, file->fd, NULL, (unsigned)(mode | FALLOC_FL_KEEP_SIZE), request->offset);
        sqe->addr = request->length;
        break;
    }
    }
    sqe->user_data = (uintptr_t)request;
}

/* False: no entry is free, or too many requests are under way. */
static bool ring_try(struct ring *ring, struct host_file_request *request) {
    struct io_uring_sqe *sqe = ring->in_flight < RING_IN_FLIGHT_MAX ? io_uring_get_sqe(&ring->uring) : NULL;
    if (sqe == NULL)
        return false;
    prepare(sqe, request);
    ring->in_flight++;
    return true;
}

static void feed_backlog(struct ring *ring) {
    while (!queue_empty(&ring->backlog)) {
        struct thread_pool_work *work = container_of(ring->backlog.first, struct thread_pool_work, node);
        /* The node lies in the request, which a completion may reuse as soon as the kernel has it: take it out first. */
        struct queue_node *node = queue_pop(&ring->backlog);
        if (ring_try(ring, file_io_request(work)))
            continue;
        node->next = ring->backlog.first; /* back to the front */
        if (ring->backlog.first == NULL)
            ring->backlog.last = &node->next;
        ring->backlog.first = node;
        return;
    }
}

/* A disk that idles is given its first requests at once, while the rest of the turn's are still being made; one that is busy gets
 * them in groups, at a fraction of the cost. Without the former, 32 requests in flight move as one convoy: the disk waits for all
 * of them to be made, then the loop for all of them to be done. */
static bool group_is_full(const struct ring *ring) {
    unsigned prepared = io_uring_sq_ready(&ring->uring), in_kernel = ring->in_flight - prepared;
    return prepared >= max_u32(1, min_u32(in_kernel / GROUP_SHARE, GROUP_MAX));
}

bool linux_ring_submit(struct linux_loop *loop, struct host_file_request *request) {
    struct ring *ring = ring_get(loop);
    if (unlikely(ring == NULL))
        return false;
    if (likely(queue_empty(&ring->backlog)) && ring_try(ring, request)) {
        if (group_is_full(ring))
            linux_ring_flush(loop);
        return true;
    }
    if (queue_empty(&ring->backlog) && ring->in_flight < RING_IN_FLIGHT_MAX) {
        linux_ring_flush(loop); /* the entries are used up: hand them over */
        if (ring_try(ring, request))
            return true;
    }
    queue_push(&ring->backlog, &file_io_of(request)->work.node);
    return true;
}

/* The kernel has answered. */
static void finish(struct linux_loop *loop, struct host_file_request *request, int32_t result) {
    bool moves = request->op == HOST_FILE_READ || request->op == HOST_FILE_WRITE;
    bool again = result == -EAGAIN || result == -EINTR || (result == -EOPNOTSUPP && request->op == HOST_FILE_ZERO);
    if (moves && result > 0 && (uint64_t)result < request->length) {
        file_io_of(request)->moved = (uint64_t)result; /* short: the rest, or the end of the file */
        again = true;
    }
    if (unlikely(again)) {
        linux_file_io_to_threads(loop, request);
        return;
    }
    request->result = result;
    request->complete(request);
}

unsigned linux_ring_poll(struct linux_loop *loop) {
    struct ring *ring = loop->ring;
    if (ring == NULL || ring->in_flight == 0)
        return 0;
    struct io_uring *uring = &ring->uring;
    if (io_uring_cq_ready(uring) == 0) {
        if (kernel_flags(ring) == 0)
            return 0;
        io_uring_get_events(uring);
    }
    /* Copied out first: a completion may submit, and submitting may need the kernel. */
    struct {
        struct host_file_request *request;
        int32_t result;
    } batch[REAP_BATCH];
    unsigned count = 0, head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(uring, head, cqe) {
        batch[count].request = (struct host_file_request *)(uintptr_t)cqe->user_data;
        batch[count].result = cqe->res;
        if (++count == REAP_BATCH)
            break;
    }
    io_uring_cq_advance(uring, count);
    assert(count <= ring->in_flight);
    ring->in_flight -= count;
    feed_backlog(ring);
    for (unsigned i = 0; i < count; i++)
        finish(loop, batch[i].request, batch[i].result);
    return count;
}

void linux_ring_flush(struct linux_loop *loop) {
    struct ring *ring = loop->ring;
    if (ring == NULL || io_uring_sq_ready(&ring->uring) == 0)
        return;
    /* Also posts what has completed, at no further cost. -EAGAIN, -EBUSY, -EINTR: they stay prepared for the next turn. */
    int n = io_uring_submit_and_get_events(&ring->uring);
    assert(n >= 0 || n == -EAGAIN || n == -EBUSY || n == -EINTR || n == -ENOMEM);
}

bool linux_ring_pending(const struct linux_loop *loop) {
    struct ring *ring = loop->ring;
    return ring != NULL &&
           (io_uring_sq_ready(&ring->uring) != 0 || io_uring_cq_ready(&ring->uring) != 0 || kernel_flags(ring) != 0);
}

void linux_ring_sleeps(struct linux_loop *loop, bool asleep) {
    if (loop->ring != NULL && (loop->ring->in_flight != 0 || !asleep))
        set_eventfd(loop->ring, asleep);
}

void linux_ring_destroy(struct linux_loop *loop) {
    if (loop->ring == NULL)
        return;
    io_uring_queue_exit(&loop->ring->uring);
    free(loop->ring);
    loop->ring = NULL;
}

#else /* no liburing: helper threads do all */

bool linux_ring_submit(struct linux_loop *loop, struct host_file_request *request) {
    (void)request;
    if (!atomic_exchange(&loop->host->ring_refused, true))
        linux_log(loop->host, "built without io_uring: files are accessed by helper threads, which is slower");
    return false;
}
unsigned linux_ring_poll(struct linux_loop *loop) { return (void)loop, 0; }
void linux_ring_flush(struct linux_loop *loop) { (void)loop; }
bool linux_ring_pending(const struct linux_loop *loop) { return (void)loop, false; }
void linux_ring_sleeps(struct linux_loop *loop, bool asleep) { (void)loop, (void)asleep; }
void linux_ring_destroy(struct linux_loop *loop) { (void)loop; }

#endif
