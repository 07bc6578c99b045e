#include "packet/capture_file.h"

#include <errno.h>
#include <stdlib.h>

#define LOOK_NS (20 * NS_PER_MS)
#define BUFFER_SIZE 65536
#define BUFFERS_A_LOOK 64

/* ---- helper thread ---- */

static void open_run(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    struct capture_filter *filter = NULL;
    if (file->filter != NULL && !file->backend->compile_filter(file->filter, &filter, &file->error))
        return;
    struct host *host = file->control->host;
    int64_t offset_ns = (int64_t)(host_wall_ns(host) - host_now_ns(host));
    file->capture = capture_create(file->rx, file->tx, file->snap, offset_ns, filter);
    if (file->capture == NULL) {
        error_set(&file->error, ERROR_NO_MEMORY, "no memory for a capture");
        return;
    }
    if (!file->backend->open_sink(file->path, &file->sink, &file->error))
        return;
    capture_file_header(file->buffer, file->snap);
    file->pending = CAPTURE_FILE_HEADER_SIZE;
}

/* False: no more for now. */
static bool write_some(struct capture_file *file) {
    if (file->pending == 0) {
        file->pending_at = 0;
        file->pending = capture_read(file->capture, file->buffer, BUFFER_SIZE);
        if (file->pending == 0)
            return false;
        if (atomic_load(&file->written) + file->pending > file->limit_bytes)
            atomic_store(&file->full, true);
    }
    if (atomic_load(&file->full) || atomic_load(&file->failure) != 0) {
        file->pending = 0; /* read on, so that the workers' counters say what was lost here and not there */
        return true;
    }
    int64_t count = file->sink->write(file->sink, file->buffer + file->pending_at, file->pending);
    if (count == -EAGAIN || count == -EINTR)
        return false;
    if (count < 0) {
        atomic_store(&file->failure, (int)count);
        return true;
    }
    file->pending_at += (size_t)count;
    file->pending -= (size_t)count;
    atomic_store(&file->written, atomic_load(&file->written) + (uint64_t)count);
    return true;
}

static void write_run(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    for (unsigned i = 0; i < BUFFERS_A_LOOK && write_some(file); i++)
        ;
}

static void close_run(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    while (write_some(file)) /* what is left; a pipe that nobody empties loses it */
        ;
    file->sink->close(file->sink);
    file->sink = NULL;
}

/* ---- control reactor ---- */

static void submit(struct capture_file *file, void (*run)(struct host_job *), void (*done)(struct host_job *)) {
    file->job_runs = true;
    file->job = (struct host_job){.run = run, .done = done};
    host_job_submit(file->control->loop, &file->job);
}

static void closed(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    file->job_runs = false;
    file->done(file->arg, true);
}

static void written(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    file->job_runs = false;
    if (file->ends)
        submit(file, close_run, closed);
    else
        reactor_timer_start(file->control, &file->timer, reactor_now_ns(file->control) + LOOK_NS);
}

static void look(struct reactor_timer *timer) { submit(container_of(timer, struct capture_file, timer), write_run, written); }

static void opened(struct host_job *job) {
    struct capture_file *file = container_of(job, struct capture_file, job);
    file->job_runs = false;
    file->done(file->arg, file->sink != NULL);
}

struct capture_file *capture_file_open(struct reactor *control, struct packet_backend *backend,
                                       const struct capture_file_options *options, void (*done)(void *arg, bool ok), void *arg) {
    struct capture_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return NULL;
    file->control = control;
    file->backend = backend;
    file->path = strdup(options->path);
    file->filter = options->filter == NULL ? NULL : strdup(options->filter);
    file->buffer = malloc(BUFFER_SIZE);
    file->rx = options->rx;
    file->tx = options->tx;
    file->snap = options->snap;
    file->limit_bytes = options->limit_bytes;
    file->timer.run = look;
    file->done = done;
    file->arg = arg;
    if (file->path == NULL || file->buffer == NULL || (options->filter != NULL && file->filter == NULL)) {
        capture_file_destroy(file);
        return NULL;
    }
    submit(file, open_run, opened);
    return file;
}

void capture_file_start(struct capture_file *file) { reactor_timer_start(file->control, &file->timer, 0); }

void capture_file_stop(struct capture_file *file, void (*done)(void *arg, bool ok), void *arg) {
    file->done = done;
    file->arg = arg;
    file->ends = true;
    reactor_timer_stop(file->control, &file->timer);
    if (!file->job_runs)
        submit(file, close_run, closed);
}

void capture_file_destroy(struct capture_file *file) {
    if (file->sink != NULL)
        file->sink->close(file->sink);
    capture_unref(file->capture);
    free(file->path);
    free(file->filter);
    free(file->buffer);
    free(file);
}
