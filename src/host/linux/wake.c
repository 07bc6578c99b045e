/* Descriptors that are looked at only while a loop sleeps: what drivers offer to be woken by, and a socket for interfaces whose
 * driver offers nothing. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/text.h"
#include "host/linux/internal.h"

void host_linux_cpus(char *to, size_t size) {
    cpu_set_t allowed;
    size_t length = 0;
    to[0] = '\0';
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        unsigned last = cpu;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &allowed))
            last++;
        int n = snprintf(to + length, size - length, "%s%u-%u", length == 0 ? "" : ",", cpu, last);
        if (n < 0 || (size_t)n >= size - length) {
            to[length] = '\0';
            return;
        }
        length += (size_t)n;
        cpu = last;
    }
}

bool host_linux_has_cpu(int cpu) {
    cpu_set_t allowed;
    return cpu >= 0 && cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_ISSET(cpu, &allowed);
}

int host_linux_event_open(void) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

void host_linux_event_signal(int fd) {
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));
    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN || errno == EINTR); /* full: it is readable */
}

int host_linux_epoll_open(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

void host_linux_close(int fd) {
    if (fd >= 0)
        close(fd);
}

int host_linux_epoll_add(int set, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST ? 0 : -errno;
}

void host_linux_epoll_drop(int set, int fd) { epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL); }

void host_linux_epoll_forget(int set) {
    struct epoll_event events[8];
    while (epoll_wait(set, events, (int)array_count(events), 0) == (int)array_count(events))
        ;
}

/* ---- wakers ---- */

struct host_linux_waker {
    struct linux_loop *loop;
    struct watch watch; /* without a function: waking up is all */
};

int host_linux_waker_open(struct host_loop *loop, int fd, bool once, struct host_linux_waker **ret_waker) {
    struct host_linux_waker *waker = calloc(1, sizeof(*waker));
    if (waker == NULL)
        return -ENOMEM;
    waker->loop = (struct linux_loop *)loop;
    waker->watch.fd = fd;
    int result = linux_loop_watch(waker->loop, &waker->watch, once ? EPOLLIN | EPOLLET : EPOLLIN);
    if (result != 0) {
        free(waker);
        return result;
    }
    *ret_waker = waker;
    return 0;
}

void host_linux_waker_close(struct host_linux_waker *waker) {
    linux_loop_unwatch(waker->loop, &waker->watch);
    free(waker);
}

void host_linux_pause(uint64_t ns) {
    struct timespec pause = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&pause, NULL);
}

/* ---- sockets of others ---- */

/* Calls `found` with each of this process's sockets of a family and type. */
static void each_socket(int family, int type, void (*found)(void *arg, int fd), void *arg) {
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *entry; all != NULL && (entry = readdir(all)) != NULL;) {
        uint64_t number;
        int its_family = 0, its_type = 0;
        socklen_t length = sizeof(int);
        if (text_parse_u64(entry->d_name, INT32_MAX, &number) &&
            getsockopt((int)number, SOL_SOCKET, SO_DOMAIN, &its_family, &length) == 0 && its_family == family &&
            getsockopt((int)number, SOL_SOCKET, SO_TYPE, &its_type, &length) == 0 && its_type == type)
            found(arg, (int)number);
    }
    if (all != NULL)
        closedir(all);
}

struct fd_list {
    int *fds;
    size_t max, count;
};

static void add_fd(void *arg, int fd) {
    struct fd_list *list = arg;
    if (list->count < list->max)
        list->fds[list->count++] = fd;
}

size_t host_linux_xdp_sockets(int *ret_fds, size_t max) {
    struct fd_list list = {ret_fds, max, 0};
    each_socket(AF_XDP, SOCK_RAW, add_fd, &list);
    return list.count;
}

static void bound_stream(void *arg, int fd) {
    const struct timeval *limit = arg;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof(*limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof(*limit));
}

void host_linux_bound_streams(uint64_t ms) {
    struct timeval limit = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    each_socket(AF_UNIX, SOCK_STREAM, bound_stream, &limit);
}

void host_linux_hang_up(int fd) { shutdown(fd, SHUT_RDWR); }

/* ---- frames of an interface ---- */

/* A socket that is never read while its loop is awake: it is full after two or three frames, and the kernel drops all others
 * before it looks at them. It is emptied before a sleep, so there is nothing to do between the wake-up and the frame. (A filter
 * that is changed when the loop falls asleep and wakes costs a compilation each time: 20 µs.) */
struct host_linux_frame_watch {
    int fd;
};

int host_linux_frame_watch_open(const char *interface, struct host_linux_frame_watch **ret_watch) {
    struct host_linux_frame_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return -ENOMEM;
    /* Protocol 0: nothing comes before it is bound. */
    watch->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unsigned index = if_nametoindex(interface);
    int result = watch->fd < 0 || index == 0 ? -errno : 0;
    if (result == 0) {
        int one = 1, room = 1; /* the least there is */
        struct sock_filter first_byte = BPF_STMT(BPF_RET | BPF_K, 1);
        struct sock_fprog filter = {.len = 1, .filter = &first_byte};
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
        setsockopt(watch->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
        setsockopt(watch->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)); /* Linux 4.20: else our own wake us, too */
        setsockopt(watch->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
        result = bind(watch->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ? -errno : 0;
    }
    if (result != 0) {
        host_linux_frame_watch_close(watch);
        return result;
    }
    *ret_watch = watch;
    return 0;
}

void host_linux_frame_watch_close(struct host_linux_frame_watch *watch) {
    if (watch->fd >= 0)
        close(watch->fd);
    free(watch);
}

int host_linux_frame_watch_fd(const struct host_linux_frame_watch *watch) { return watch->fd; }

void host_linux_frame_watch_arm(struct host_linux_frame_watch *watch) {
    char byte;
    while (recv(watch->fd, &byte, 1, MSG_TRUNC) >= 0)
        ;
}
