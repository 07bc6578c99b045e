/* The Linux host: its table of functions, clocks and signals. */
#include "host/linux/linux.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "host/linux/internal.h"

static_assert(sizeof(struct slice) == sizeof(struct iovec) && offsetof(struct slice, base) == offsetof(struct iovec, iov_base) &&
                  offsetof(struct slice, length) == offsetof(struct iovec, iov_len),
              "a slice is passed as an iovec");

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t linux_now_ns(struct host *host) {
    (void)host;
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t linux_wall_ns(struct host *host) {
    (void)host;
    return clock_ns(CLOCK_REALTIME);
}

static void linux_random(struct host *host, void *to, size_t length) {
    (void)host;
    for (size_t done = 0; done < length;) {
        ssize_t n = getrandom((char *)to + done, length - done, 0);
        assert(n > 0 || errno == EINTR); /* nothing else is possible since 3.17, and nothing good can be done without it */
        done += n > 0 ? (size_t)n : 0;
    }
}

#define HUGE_PAGE MIB(2)

static size_t map_size(size_t bytes) { return round_up(bytes, bytes >= HUGE_PAGE ? HUGE_PAGE : KIB(4)); }

static void *linux_memory_map(struct host *host, size_t bytes) {
    (void)host;
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return NULL;
    bool huge = bytes >= HUGE_PAGE;
    size_t size = map_size(bytes), extra = huge ? HUGE_PAGE : 0; /* room to begin at a whole huge page */
    char *map = mmap(NULL, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    char *memory = huge ? (char *)round_up((uintptr_t)map, HUGE_PAGE) : map;
    if (memory > map)
        munmap(map, (size_t)(memory - map));
    if (map + extra > memory)
        munmap(memory + size, (size_t)(map + extra - memory));
    if (huge)
        madvise(memory, size, MADV_HUGEPAGE); /* or not: then small ones */
    return memory;
}

static void linux_memory_unmap(struct host *host, void *take_memory, size_t bytes) {
    (void)host;
    munmap(take_memory, map_size(bytes));
}

void linux_log(struct linux_host *host, const char *format, ...) {
    if (host->options.log == NULL)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    host->options.log(host->options.log_arg, text);
}

static struct host_job *job_of(struct thread_pool_work *work) {
    return container_of((void **)(void *)work, struct host_job, host_private[0]);
}
static void job_run(struct thread_pool_work *work) { job_of(work)->run(job_of(work)); }
static void job_done(struct thread_pool_work *work) { job_of(work)->done(job_of(work)); }

static void linux_job_submit(struct host_loop *base, struct host_job *job) {
    struct linux_loop *loop = (struct linux_loop *)base;
    static_assert(sizeof(struct thread_pool_work) <= sizeof(job->host_private), "fits the job");
    struct thread_pool_work *work = (struct thread_pool_work *)(void *)job->host_private;
    *work = (struct thread_pool_work){.loop = loop, .run = job_run, .done = job_done};
    thread_pool_submit(&loop->host->jobs, work);
}

static const struct host_ops linux_ops = {
    .now_ns = linux_now_ns,
    .ticks = linux_now_ns,
    .wall_ns = linux_wall_ns,
    .random = linux_random,
    .memory_map = linux_memory_map,
    .memory_unmap = linux_memory_unmap,
    .memory_keep = linux_memory_keep,
    .memory_leave = linux_memory_leave,
    .loop_create = linux_loop_create,
    .loop_start = linux_loop_start,
    .loop_stop = linux_loop_stop,
    .loop_destroy = linux_loop_destroy,
    .loop_poll = linux_loop_poll,
    .loop_flush = linux_loop_flush,
    .loop_wake = linux_loop_wake,
    .loop_stats = linux_loop_stats,
    .job_submit = linux_job_submit,
    .file_open_submit = linux_file_open_submit,
    .file_close = linux_file_close,
    .file_size = linux_file_size,
    .file_truncate = linux_file_truncate,
    .file_submit = linux_file_submit,
    .listen = linux_listen,
    .accept = linux_accept,
    .connect = linux_connect,
    .socket_error = linux_socket_error,
    .socket_local = linux_socket_local,
    .socket_read = linux_socket_read,
    .socket_write = linux_socket_write,
    .socket_detach = linux_socket_detach,
    .socket_attach = linux_socket_attach,
    .socket_close = linux_socket_close,
    .socket_reset = linux_socket_reset,
};

bool host_linux_is_terminal(int descriptor) { return isatty(descriptor) == 1; }

bool host_linux_poll_mode_parse(const char *text, enum host_poll_mode *ret_mode) {
    static const char *const names[] = {
        [HOST_POLL_ADAPTIVE] = "adaptive", [HOST_POLL_ALWAYS] = "always", [HOST_POLL_NEVER] = "never"};
    for (size_t i = 0; i < array_count(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_mode = (enum host_poll_mode)i;
            return true;
        }
    return false;
}

uint64_t host_linux_files_max(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

/* A thousand volumes are some thousands of connections. What the soft limit is kept low for is select(), which nobody here calls.
 */
static void raise_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* refused: it is as it was */
}

int host_linux_create(const struct host_linux_options *options, struct host **ret_host) {
    struct linux_host *host = calloc(1, sizeof(*host));
    if (host == NULL)
        return -ENOMEM;
    host->base.ops = &linux_ops;
    host->options = *options;
    host->options.signals = NULL; /* kept as a set */
    sigemptyset(&host->signals);
    for (const int *number = options->signals; number != NULL && *number != 0; number++)
        sigaddset(&host->signals, *number);
    int result = -pthread_sigmask(SIG_BLOCK, &host->signals, NULL);
    if (result != 0) {
        free(host);
        return result;
    }
    raise_files();
    unsigned threads = options->threads_max != 0 ? min_u32(options->threads_max, POOL_THREADS_MAX) : 16;
    thread_pool_init(&host->jobs, "job", threads);
    thread_pool_init(&host->io, "file-io", threads);
    linux_ticks_calibrate(&host->base);
    linux_inherit_sockets(host);
    *ret_host = &host->base;
    return 0;
}

void host_linux_destroy(struct host *base) {
    struct linux_host *host = (struct linux_host *)base;
    thread_pool_fini(&host->jobs);
    thread_pool_fini(&host->io);
    linux_close_inherited(host);
    free(host);
}

bool host_linux_uses_io_uring(struct host *base) {
#ifdef HAVE_LIBURING
    struct linux_host *host = (struct linux_host *)base;
    return !host->options.no_io_uring && !atomic_load(&host->ring_refused);
#else
    (void)base;
    return false;
#endif
}

/* ---- signals ---- */

struct signal_watch {
    struct watch watch;
    void (*signalled)(void *arg, int number);
    void *arg;
    struct linux_loop *loop;
};

static void signal_fire(struct watch *watch, uint32_t events) {
    (void)events;
    struct signal_watch *signals = container_of(watch, struct signal_watch, watch);
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        signals->signalled(signals->arg, (int)info.ssi_signo);
}

int host_linux_watch_signals(struct host_loop *base, void (*signalled)(void *arg, int number), void *arg) {
    struct linux_loop *loop = (struct linux_loop *)base;
    assert(loop->signals == NULL);
    struct signal_watch *signals = calloc(1, sizeof(*signals));
    if (signals == NULL)
        return -ENOMEM;
    *signals = (struct signal_watch){.signalled = signalled, .arg = arg, .loop = loop};
    signals->watch.fire = signal_fire;
    signals->watch.fd = signalfd(-1, &loop->host->signals, SFD_NONBLOCK | SFD_CLOEXEC);
    int result = signals->watch.fd < 0 ? -errno : linux_loop_watch(loop, &signals->watch, EPOLLIN);
    if (result != 0) {
        if (signals->watch.fd >= 0)
            close(signals->watch.fd);
        free(signals);
        return result;
    }
    loop->signals = signals;
    return 0;
}

void host_linux_unwatch_signals(struct host_loop *base) { linux_signals_unwatch((struct linux_loop *)base); }

void linux_signals_unwatch(struct linux_loop *loop) {
    if (loop->signals == NULL)
        return;
    linux_loop_unwatch(loop, &loop->signals->watch);
    close(loop->signals->watch.fd);
    free(loop->signals);
    loop->signals = NULL;
}

uint64_t host_linux_process_id(void) { return (uint64_t)getpid(); }
