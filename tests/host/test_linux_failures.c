/* host/linux when the system refuses: the n-th of its calls fails, for all n. Whatever it is, either the way round it works or
 * the caller is told; nothing hangs, and no descriptor is left open (memory: run under the address sanitizer). The linker's
 * --wrap leads the calls of the library here (see meson.build). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/linux/linux.h"

/* ---- failing ---- */

static _Atomic long calls_left; /* until the one that fails; < 0 = none */
static _Atomic(const char *) failed_call;

static bool fails(const char *name) {
    if (atomic_load(&calls_left) < 0 || atomic_fetch_sub(&calls_left, 1) != 0)
        return false;
    atomic_store(&failed_call, name);
    return true;
}

#define WRAP(type, name, failure, number, parameters, ...)                                                                       \
    type __real_##name parameters;                                                                                               \
    type __wrap_##name parameters;                                                                                               \
    type __wrap_##name parameters {                                                                                              \
        if (fails(#name)) {                                                                                                      \
            errno = number;                                                                                                      \
            return failure;                                                                                                      \
        }                                                                                                                        \
        return __real_##name(__VA_ARGS__);                                                                                       \
    }

struct io_uring;
struct io_uring_params;
WRAP(void *, calloc, NULL, ENOMEM, (size_t n, size_t size), n, size)
WRAP(void *, aligned_alloc, NULL, ENOMEM, (size_t alignment, size_t size), alignment, size)
WRAP(char *, strdup, NULL, ENOMEM, (const char *text), text)
WRAP(int, pthread_create, EAGAIN, EAGAIN, (pthread_t * thread, const pthread_attr_t *a, void *(*run)(void *), void *arg), thread,
     a, run, arg)
WRAP(int, epoll_create1, -1, EMFILE, (int flags), flags)
WRAP(int, eventfd, -1, EMFILE, (unsigned value, int flags), value, flags)
WRAP(int, signalfd, -1, EMFILE, (int fd, const sigset_t *set, int flags), fd, set, flags)
WRAP(int, epoll_ctl, -1, ENOSPC, (int set, int op, int fd, struct epoll_event *event), set, op, fd, event)
WRAP(int, epoll_pwait2, -1, EPERM,
     (int set, struct epoll_event *to, int count, const struct timespec *limit, const sigset_t *mask), set, to, count, limit,
     mask)
WRAP(int, socket, -1, EMFILE, (int family, int type, int protocol), family, type, protocol)
WRAP(int, bind, -1, EACCES, (int fd, const struct sockaddr *at, socklen_t length), fd, at, length)
WRAP(int, listen, -1, EADDRINUSE, (int fd, int backlog), fd, backlog)
WRAP(int, connect, -1, ENETUNREACH, (int fd, const struct sockaddr *to, socklen_t length), fd, to, length)
WRAP(int, accept4, -1, EMFILE, (int fd, struct sockaddr *peer, socklen_t *length, int flags), fd, peer, length, flags)
WRAP(int, fchmod, -1, EPERM, (int fd, mode_t mode), fd, mode)
WRAP(int, flock, -1, ENOLCK, (int fd, int operation), fd, operation)
WRAP(int, fstat64, -1, EIO, (int fd, struct stat *to), fd, to)
WRAP(int, fstatat64, -1, EIO, (int folder, const char *path, struct stat *to, int flags), folder, path, to, flags)
WRAP(int, fcntl64, -1, EINVAL, (int fd, int command, long arg), fd, command, arg)
WRAP(int, openat64, -1, EMFILE, (int folder, const char *path, int flags, mode_t mode), folder, path, flags, mode)
WRAP(int, ftruncate64, -1, ENOSPC, (int fd, off_t size), fd, size)
WRAP(int, fallocate64, -1, EOPNOTSUPP, (int fd, int mode, off_t offset, off_t length), fd, mode, offset, length)
WRAP(int, fsync, -1, EIO, (int fd), fd)
WRAP(int, fdatasync, -1, EIO, (int fd), fd)
WRAP(ssize_t, pread64, -1, EIO, (int fd, void *to, size_t length, off_t offset), fd, to, length, offset)
WRAP(ssize_t, pwrite64, -1, ENOSPC, (int fd, const void *from, size_t length, off_t offset), fd, from, length, offset)
WRAP(int, io_uring_queue_init_params, -ENOMEM, ENOMEM, (unsigned entries, struct io_uring *ring, struct io_uring_params *p),
     entries, ring, p)
WRAP(int, io_uring_register_eventfd, -EMFILE, EMFILE, (struct io_uring * ring, int fd), ring, fd)
WRAP(int, io_uring_submit_and_get_events, -EAGAIN, EAGAIN, (struct io_uring * ring), ring)

/* ---- the scene ---- */

enum { BYTES = 65536 };

struct scene {
    struct host *host;
    struct host_loop *loop;
    _Atomic(void (*)(struct scene *scene)) act;
    sem_t acted, event;
    struct host_file_open open;
    struct host_file_request request;
    struct slice slice;
    struct host_address address;
    struct host_socket *listener, *client, *server;
    struct error error;
    bool got_byte, accept_failed;
    char folder[64], path[96];
};

static struct host_turn turn(void *arg) {
    struct scene *scene = arg;
    unsigned worked = host_loop_poll(scene->loop);
    void (*act)(struct scene *) = atomic_exchange(&scene->act, NULL);
    if (act != NULL)
        act(scene);
    host_loop_flush(scene->loop);
    if (act != NULL)
        sem_post(&scene->acted);
    return (struct host_turn){.worked = worked > 0 || act != NULL, .deadline_ns = UINT64_MAX};
}

static void wait_sem(sem_t *semaphore) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    while (sem_timedwait(semaphore, &until) != 0)
        if (errno != EINTR)
            fail_msg("it hangs after a failed %s", atomic_load(&failed_call));
}

static void on_loop(struct scene *scene, void (*act)(struct scene *scene)) {
    atomic_store(&scene->act, act);
    host_loop_wake(scene->loop);
    wait_sem(&scene->acted);
}

static void on_open(struct host_file_open *open) { sem_post(&container_of(open, struct scene, open)->event); }
static void open_file(struct scene *scene) { host_file_open_submit(scene->loop, &scene->open); }
static void on_io(struct host_file_request *request) { sem_post(&container_of(request, struct scene, request)->event); }
static void submit_io(struct scene *scene) { host_file_submit(scene->loop, &scene->request); }

static void on_stream(void *arg, unsigned events) {
    struct scene *scene = arg;
    char byte;
    if (scene->server != NULL && (events & HOST_READABLE) && host_socket_read(scene->server, &(struct slice){&byte, 1}, 1) == 1) {
        scene->got_byte = true;
        sem_post(&scene->event);
    }
}
static void on_client(void *arg, unsigned events) {
    (void)arg;
    (void)events;
}
static void on_listener(void *arg, unsigned events) {
    struct scene *scene = arg;
    int number = 0;
    (void)events;
    scene->server = host_accept(scene->listener, NULL, &number);
    if (scene->server == NULL || host_socket_attach(scene->server, scene->loop, on_stream, scene) != 0) {
        scene->accept_failed = true;
        sem_post(&scene->event);
    }
}
static void start_listening(struct scene *scene) {
    scene->listener = host_listen(scene->loop, &scene->address, on_listener, scene, &scene->error);
}
static void start_connecting(struct scene *scene) {
    scene->client = host_connect(scene->loop, &scene->address, NULL, on_client, scene, &scene->error);
    if (scene->client != NULL) /* a Unix connect is done at once */
        host_socket_write(scene->client, &(struct slice){(char[]){"x"}, 1}, 1);
}
static void close_sockets(struct scene *scene) {
    struct host_socket *sockets[] = {scene->server, scene->client, scene->listener};
    for (size_t i = 0; i < array_count(sockets); i++)
        if (sockets[i] != NULL)
            host_socket_close(sockets[i]);
}

static bool told(const struct scene *scene, const struct error *error) {
    (void)scene;
    if (error->code == ERROR_NONE || error->text[0] == '\0')
        fail_msg("%s failed and nobody was told why", atomic_load(&failed_call));
    return false;
}

static bool run_files(struct scene *scene, char *out, char *in) {
    scene->open = (struct host_file_open){
        .path = scene->path,
        .options = {.create = true, .create_size = BYTES, .direct = true, .hold = true},
        .done = on_open,
    };
    on_loop(scene, open_file);
    wait_sem(&scene->event);
    struct stat stat_of;
    if (stat(scene->path, &stat_of) == 0) /* made whole, or not at all */
        assert_int_equal(stat_of.st_size, BYTES);
    if (!scene->open.ok)
        return told(scene, &scene->open.error);
    static const enum host_file_op ops[] = {HOST_FILE_WRITE, HOST_FILE_SYNC, HOST_FILE_READ, HOST_FILE_ZERO, HOST_FILE_PUNCH};
    bool all = true;
    for (size_t i = 0; i < array_count(ops); i++) {
        bool moves = ops[i] == HOST_FILE_READ || ops[i] == HOST_FILE_WRITE;
        scene->slice = (struct slice){ops[i] == HOST_FILE_READ ? in : out, BYTES};
        scene->request = (struct host_file_request){.file = scene->open.file,
                                                    .op = ops[i],
                                                    .slices = &scene->slice,
                                                    .slice_count = moves ? 1 : 0,
                                                    .length = ops[i] == HOST_FILE_SYNC ? 0 : BYTES,
                                                    .result = INT64_MAX,
                                                    .complete = on_io};
        on_loop(scene, submit_io);
        wait_sem(&scene->event);
        int64_t result = scene->request.result;
        if (result < 0)
            all = false;
        else
            assert_int_equal(result, moves ? BYTES : 0);
        if (ops[i] == HOST_FILE_READ && all)
            assert_memory_equal(in, out, BYTES);
    }
    host_file_close(scene->open.file);
    return all;
}

static bool run_sockets(struct scene *scene) {
    on_loop(scene, start_listening);
    if (scene->listener == NULL)
        return told(scene, &scene->error);
    on_loop(scene, start_connecting);
    if (scene->client == NULL)
        return told(scene, &scene->error);
    wait_sem(&scene->event);
    return scene->got_byte;
}

static void on_signal(void *arg, int number) {
    (void)arg;
    (void)number;
}

/* True if all of it went well. */
static bool play(struct scene *scene, bool no_io_uring, char *out, char *in) {
    static const int signals[] = {SIGUSR2, 0};
    struct host_linux_options options = {.no_io_uring = no_io_uring, .signals = signals, .threads_max = 2};
    if (host_linux_create(&options, &scene->host) != 0)
        return false;
    struct host_loop_options loop_options = {.name = "scene", .cpu = -1, .turn = turn, .arg = scene};
    bool ok = host_loop_create(scene->host, &loop_options, &scene->loop) == 0;
    if (ok) {
        ok = host_linux_watch_signals(scene->loop, on_signal, scene) == 0 && host_loop_start(scene->loop) == 0;
        if (ok) {
            bool files = run_files(scene, out, in), sockets = run_sockets(scene);
            ok = files && sockets;
            on_loop(scene, close_sockets);
        }
        host_loop_destroy(scene->loop);
    }
    host_linux_destroy(scene->host);
    return ok;
}

static unsigned open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void fail_each(const char *where, bool no_io_uring) {
    char *written = NULL, *read_back = NULL;
    assert_int_equal(posix_memalign((void **)&written, 4096, BYTES), 0);
    assert_int_equal(posix_memalign((void **)&read_back, 4096, BYTES), 0);
    memset(written, 0x6b, BYTES);
    unsigned before = open_descriptors(), survived = 0, n = 0;
    for (;; n++) {
        struct scene scene = {.address.family = HOST_UNIX};
        sem_init(&scene.acted, 0, 0);
        sem_init(&scene.event, 0, 0);
        snprintf(scene.folder, sizeof(scene.folder), "%s/penstock-fail-XXXXXX", where);
        assert_non_null(mkdtemp(scene.folder));
        snprintf(scene.path, sizeof(scene.path), "%s/disk", scene.folder);
        snprintf(scene.address.text, sizeof(scene.address.text), "%s/socket", scene.folder);
        atomic_store(&failed_call, NULL);
        atomic_store(&calls_left, (long)n);
        bool ok = play(&scene, no_io_uring, written, read_back);
        atomic_store(&calls_left, -1);
        const char *failed = atomic_load(&failed_call);
        if (open_descriptors() != before)
            fail_msg("call %u, %s, failed and left a descriptor open", n, failed == NULL ? "none" : failed);
        survived += failed != NULL && ok;
        unlink(scene.path);
        unlink(scene.address.text);
        char lock[128];
        snprintf(lock, sizeof(lock), "%s.lock", scene.address.text);
        unlink(lock);
        assert_int_equal(rmdir(scene.folder), 0);
        sem_destroy(&scene.acted);
        sem_destroy(&scene.event);
        if (failed == NULL) {
            assert_true(ok); /* nothing failed, all went well */
            break;
        }
    }
    print_message("%u calls, each failed once; %u had a way round\n", n, survived);
    assert_true(n >= 25);
    assert_true(survived >= 2); /* io_uring or its eventfd, O_DIRECT, helper threads */
    free(written);
    free(read_back);
}

static void each_call_fails_once_on_disk(void **state) {
    (void)state;
    fail_each(".", false);
}
static void each_call_fails_once_with_threads(void **state) {
    (void)state;
    fail_each(".", true);
}
static void each_call_fails_once_on_tmpfs(void **state) {
    (void)state;
    if (access("/dev/shm", W_OK) != 0)
        skip();
    fail_each("/dev/shm", false);
}

int main(void) {
    atomic_store(&calls_left, -1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails_once_on_disk),
        cmocka_unit_test(each_call_fails_once_with_threads),
        cmocka_unit_test(each_call_fails_once_on_tmpfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
