/* File requests: io_uring (ring.c) where the kernel has it, a helper thread where not, and inside poll on tmpfs, where the calls
 * do not sleep and io_uring would only hand them to a thread. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "host/linux/internal.h"

/* Freeing this much of tmpfs takes long enough to be noticed by others on the loop. */
#define SYNC_DEALLOCATE_MAX MIB(1)

static const _Alignas(4096) char zeroes[65536];

static int64_t move_bytes(struct linux_file *file, struct host_file_request *request) {
    struct iovec vectors[HOST_FILE_SLICES_MAX];
    uint64_t moved = file_io_of(request)->moved;
    while (moved < request->length) {
        size_t count = slice_sub(request->slices, request->slice_count, moved, request->length - moved,
                                 (struct slice *)(void *)vectors, HOST_FILE_SLICES_MAX);
        off_t at = (off_t)(request->offset + moved);
        ssize_t n = request->op == HOST_FILE_READ ? preadv(file->fd, vectors, (int)count, at)
                                                  : pwritev(file->fd, vectors, (int)count, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return request->op == HOST_FILE_READ ? (int64_t)moved : -EIO;
        moved += (uint64_t)n;
    }
    return (int64_t)moved;
}

/* One slice, the common case: without copying vectors. */
static int64_t move_slice(struct linux_file *file, struct host_file_request *request) {
    const struct slice *slice = request->slices;
    ssize_t n = request->op == HOST_FILE_READ ? pread(file->fd, slice->base, slice->length, (off_t)request->offset)
                                              : pwrite(file->fd, slice->base, slice->length, (off_t)request->offset);
    if (likely(n == (ssize_t)slice->length))
        return n;
    if (n > 0)
        file_io_of(request)->moved = (uint64_t)n;
    return move_bytes(file, request);
}

static int try_fallocate(struct linux_file *file, int mode, const struct host_file_request *request) {
    int result;
    do
        result =
            fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset, (off_t)request->length) == 0 ? 0 : -errno;
    while (result == -EINTR);
    return result;
}

static int punch(struct linux_file *file, const struct host_file_request *request) {
    if (!file->block_device)
        return try_fallocate(file, FALLOC_FL_PUNCH_HOLE, request);
    uint64_t range[2] = {request->offset, request->length};
    return ioctl(file->fd, BLKDISCARD, range) == 0 ? 0 : -errno;
}

static int zero(struct linux_file *file, const struct host_file_request *request) {
    int result = try_fallocate(file, FALLOC_FL_ZERO_RANGE, request);
    if (result == -EOPNOTSUPP && !file->block_device)
        result = try_fallocate(file, FALLOC_FL_PUNCH_HOLE, request);
    if (result != -EOPNOTSUPP)
        return result;
    for (uint64_t done = 0; done < request->length;) {
        size_t want = min_u64(request->length - done, sizeof(zeroes));
        ssize_t n = pwrite(file->fd, zeroes, want, (off_t)(request->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EIO : -errno;
        done += (uint64_t)n;
    }
    return 0;
}

void linux_file_io_run(struct host_file_request *request) {
    struct linux_file *file = (struct linux_file *)request->file;
    switch (request->op) {
    case HOST_FILE_READ:
    case HOST_FILE_WRITE:
        request->result =
            request->slice_count == 1 && file_io_of(request)->moved == 0 ? move_slice(file, request) : move_bytes(file, request);
        break;
    case HOST_FILE_SYNC: request->result = fdatasync(file->fd) == 0 ? 0 : -errno; break;
    case HOST_FILE_PUNCH: request->result = punch(file, request); break;
    case HOST_FILE_ZERO: request->result = zero(file, request); break;
    }
}

static void io_run(struct thread_pool_work *work) { linux_file_io_run(file_io_request(work)); }
static void io_done(struct thread_pool_work *work) {
    struct host_file_request *request = file_io_request(work);
    request->complete(request);
}

void linux_file_io_to_threads(struct linux_loop *loop, struct host_file_request *request) {
    struct file_io *io = file_io_of(request);
    io->work = (struct thread_pool_work){.loop = loop, .run = io_run, .done = io_done};
    thread_pool_submit(&loop->host->io, &io->work);
}

static bool is_quick(const struct linux_file *file, const struct host_file_request *request) {
    return file->synchronous && (request->op <= HOST_FILE_SYNC || request->length <= SYNC_DEALLOCATE_MAX);
}

void linux_file_submit(struct host_loop *base, struct host_file_request *request) {
    struct linux_loop *loop = (struct linux_loop *)base;
    struct linux_file *file = (struct linux_file *)request->file;
    bool moves = request->op == HOST_FILE_READ || request->op == HOST_FILE_WRITE;
    assert(!moves || (request->slice_count > 0 && request->slice_count <= HOST_FILE_SLICES_MAX && request->length > 0));
    assert(request->op == HOST_FILE_SYNC || range_inside(request->offset, request->length, INT64_MAX));
    file_io_of(request)->moved = 0;
    if (is_quick(file, request)) {
        queue_push(&loop->sync, &file_io_of(request)->work.node);
        return;
    }
    /* BLKDISCARD is no io_uring operation before Linux 6.12. */
    if ((request->op == HOST_FILE_PUNCH && file->block_device) || file->synchronous || !linux_ring_submit(loop, request))
        linux_file_io_to_threads(loop, request);
}

unsigned linux_file_io_poll(struct linux_loop *loop) {
    if (likely(queue_empty(&loop->sync)))
        return 0;
    struct queue_node **end = loop->sync.last; /* completions may submit more: those wait for the next turn */
    unsigned count = 0;
    for (bool last = false; !last; count++) {
        struct queue_node *node = queue_pop(&loop->sync);
        last = &node->next == end;
        struct host_file_request *request = file_io_request(container_of(node, struct thread_pool_work, node));
        linux_file_io_run(request);
        request->complete(request);
    }
    return count;
}
