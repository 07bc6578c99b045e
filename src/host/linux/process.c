/* Other programs: started in a session of their own, so that they outlive us, and watched by a pidfd. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "host/linux/internal.h"

struct host_linux_process {
    struct watch watch; /* of the pidfd */
    struct linux_loop *loop;
    pid_t pid;
    bool child;
    void (*ended)(void *arg, int status);
    void *arg;
};

/* Only a child tells how it ended. */
static void process_fire(struct watch *watch, uint32_t events) {
    struct host_linux_process *process = container_of(watch, struct host_linux_process, watch);
    (void)events;
    int status = -1;
    if (process->child && waitpid(process->pid, &status, WNOHANG) != process->pid)
        return;
    void (*ended)(void *arg, int status) = process->ended;
    void *arg = process->arg;
    host_linux_process_release(process);
    ended(arg, status < 0 ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int watch_process(struct linux_loop *loop, struct host_linux_process *process) {
    process->loop = loop;
    process->watch = (struct watch){.fd = pidfd_open(process->pid, 0), .fire = process_fire};
    if (process->watch.fd < 0)
        return -errno;
    int result = linux_loop_watch(loop, &process->watch, EPOLLIN);
    if (result != 0)
        close(process->watch.fd);
    return result;
}

/* What a program may expect of its starter: no blocked or ignored signals, a session, no open files but the three. */
static int spawn(const struct host_linux_process_options *options, pid_t *ret_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int result = -posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (result == 0)
        result =
            -posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, options->log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (result == 0)
        result = -posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (result == 0) /* what we were given by who started us, too */
        result = -posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    if (result == 0)
        result = -posix_spawnp(ret_pid, options->arguments[0], &actions, &attributes, (char *const *)options->arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return result;
}

static struct host_linux_process *make(void (*ended)(void *arg, int status), void *arg) {
    struct host_linux_process *process = calloc(1, sizeof(*process));
    if (process != NULL)
        *process = (struct host_linux_process){.ended = ended, .arg = arg};
    return process;
}

int host_linux_process_start(struct host_loop *loop, const struct host_linux_process_options *options,
                             void (*ended)(void *arg, int status), void *arg, struct host_linux_process **ret_process) {
    struct host_linux_process *process = make(ended, arg);
    if (process == NULL)
        return -ENOMEM;
    process->child = true;
    int result = spawn(options, &process->pid);
    if (result == 0) {
        result = watch_process((struct linux_loop *)loop, process);
        if (result != 0) { /* nobody would ever see its end */
            kill(process->pid, SIGKILL);
            waitpid(process->pid, NULL, 0);
        }
    }
    if (result != 0)
        free(process);
    else
        *ret_process = process;
    return result;
}

int host_linux_process_adopt(struct host_loop *loop, uint64_t pid, void (*ended)(void *arg, int status), void *arg,
                             struct host_linux_process **ret_process) {
    struct host_linux_process *process = pid == 0 || pid > INT32_MAX ? NULL : make(ended, arg);
    if (process == NULL)
        return pid == 0 || pid > INT32_MAX ? -ESRCH : -ENOMEM;
    process->pid = (pid_t)pid;
    int result = watch_process((struct linux_loop *)loop, process);
    if (result != 0)
        free(process);
    else
        *ret_process = process;
    return result;
}

uint64_t host_linux_process_number(const struct host_linux_process *process) { return (uint64_t)process->pid; }

void host_linux_process_end(struct host_linux_process *process, bool kill) {
    pidfd_send_signal(process->watch.fd, kill ? SIGKILL : SIGTERM, NULL, 0);
}

void host_linux_process_release(struct host_linux_process *process) {
    linux_loop_unwatch(process->loop, &process->watch);
    close(process->watch.fd);
    free(process);
}

int host_linux_make_folder(const char *path) {
    struct stat facts;
    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (stat(path, &facts) != 0)
        return -errno;
    return S_ISDIR(facts.st_mode) ? 0 : -ENOTDIR;
}
