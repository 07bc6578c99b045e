/* What a service manager wants and gives: readiness and signs of life (sd_notify(3)'s protocol), and sockets that it has opened
 * (sd_listen_fds(3)'s). By hand: the library would bring seven others. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "host/linux/internal.h"

/* Never waits: a manager that does not read must not hold a loop up. */
int host_linux_notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || path[0] == '\0')
        return 0;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length >= sizeof(to.sun_path))
        return -EINVAL;
    memcpy(to.sun_path, path, length);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* abstract */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t n = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    int result = n < 0 ? -errno : 0;
    close(fd);
    return result;
}

/* A number in the environment, meant for this process if `whose` names it; 0 = none. */
static uint64_t number_of(const char *name, const char *whose) {
    const char *text = getenv(name), *pid = getenv(whose);
    if (text == NULL || (pid != NULL && strtoull(pid, NULL, 10) != (unsigned long long)getpid()))
        return 0;
    return strtoull(text, NULL, 10);
}

/* ---- signs of life ---- */

static void watchdog_fire(struct watch *watch, uint32_t events) {
    uint64_t ticks;
    (void)events;
    if (read(watch->fd, &ticks, sizeof(ticks)) == sizeof(ticks))
        host_linux_notify("WATCHDOG=1");
}

int host_linux_watchdog(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    uint64_t us = number_of("WATCHDOG_USEC", "WATCHDOG_PID") / 2;
    if (us == 0)
        return 0;
    assert(loop->watchdog.fire == NULL);
    loop->watchdog = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), .fire = watchdog_fire};
    struct itimerspec every = {.it_interval = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000}};
    every.it_value = every.it_interval;
    int result = loop->watchdog.fd < 0 || timerfd_settime(loop->watchdog.fd, 0, &every, NULL) != 0 ? -errno : 0;
    if (result == 0)
        result = linux_loop_watch(loop, &loop->watchdog, EPOLLIN);
    if (result != 0)
        linux_watchdog_end(loop);
    return result;
}

void linux_watchdog_end(struct linux_loop *loop) {
    if (loop->watchdog.fire != NULL && loop->watchdog.fd >= 0)
        close(loop->watchdog.fd);
    loop->watchdog = (struct watch){0};
}

/* ---- sockets that were opened for us ---- */

void linux_inherit_sockets(struct linux_host *host) {
    enum { FIRST = 3 };
    uint64_t count = getenv("LISTEN_PID") == NULL ? 0 : number_of("LISTEN_FDS", "LISTEN_PID");
    for (unsigned i = 0; i < min_u64(count, INHERITED_MAX); i++) {
        int fd = FIRST + (int)i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0)
            host->inherited[host->inherited_count++] = fd;
    }
    /* Not for programs that we start. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

int linux_take_inherited(struct linux_host *host, const void *address, size_t length) {
    for (unsigned i = 0; i < host->inherited_count; i++) {
        union {
            struct sockaddr any;
            struct sockaddr_storage all;
        } bound = {0};
        socklen_t size = sizeof(bound);
        int fd = host->inherited[i], listens = 0;
        socklen_t option_size = sizeof(listens);
        if (getsockname(fd, &bound.any, &size) != 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &option_size) != 0 ||
            listens == 0 || memcmp(&bound, address, length) != 0)
            continue;
        host->inherited[i] = host->inherited[--host->inherited_count];
        return fd;
    }
    return -1;
}

void linux_close_inherited(struct linux_host *host) {
    while (host->inherited_count > 0)
        close(host->inherited[--host->inherited_count]);
}
