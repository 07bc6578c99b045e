/* Stream sockets: TCP over IPv4 and IPv6, and Unix. Edge-triggered in their loop's epoll set. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "host/linux/internal.h"

enum { LISTEN_BACKLOG = 1024 };

struct linux_socket {
    struct host_socket base;
    struct watch watch;
    struct linux_loop *loop; /* NULL = in no loop's epoll set */
    host_socket_event event;
    void *arg;
    enum host_family family;
    bool write_blocked; /* someone waits for room (or to be connected) */
    bool bound;         /* Unix listener: `path` is there, to be removed when closed */
    int lock_fd;        /* Unix listener: of <path>.lock; else -1 */
    char *path;
    char congestion_control[16]; /* TCP listener: the system's choice */
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

/* ---- addresses ---- */

static bool to_system(const struct host_address *address, union address *ret, socklen_t *ret_length, struct error *error) {
    memset(ret, 0, sizeof(*ret));
    switch (address->family) {
    case HOST_IPV4:
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(address->port);
        *ret_length = sizeof(ret->v4);
        return inet_pton(AF_INET, address->text, &ret->v4.sin_addr) == 1 ||
               error_invalid(error, "address", address->text, "a numeric IPv4 address");
    case HOST_IPV6:
        ret->v6.sin6_family = AF_INET6;
        ret->v6.sin6_port = htons(address->port);
        *ret_length = sizeof(ret->v6);
        return inet_pton(AF_INET6, address->text, &ret->v6.sin6_addr) == 1 ||
               error_invalid(error, "address", address->text, "a numeric IPv6 address");
    case HOST_UNIX:
        ret->local.sun_family = AF_UNIX;
        *ret_length = sizeof(ret->local);
        size_t length = strnlen(address->text, sizeof(address->text));
        if (length == 0 || length >= sizeof(ret->local.sun_path))
            return error_invalid(error, "address", address->text, "a path of 1 to %zu bytes", sizeof(ret->local.sun_path) - 1);
        memcpy(ret->local.sun_path, address->text, length);
        return true;
    }
    return error_invalid(error, "address", address->text, "IPv4, IPv6 or a Unix path");
}

static void from_system(const union address *from, socklen_t length, struct host_address *ret) {
    memset(ret, 0, sizeof(*ret));
    switch (from->any.sa_family) {
    case AF_INET:
        ret->family = HOST_IPV4;
        ret->port = ntohs(from->v4.sin_port);
        inet_ntop(AF_INET, &from->v4.sin_addr, ret->text, sizeof(ret->text));
        break;
    case AF_INET6:
        ret->family = HOST_IPV6;
        ret->port = ntohs(from->v6.sin6_port);
        inet_ntop(AF_INET6, &from->v6.sin6_addr, ret->text, sizeof(ret->text));
        break;
    default: /* an unnamed peer has no path at all */
        ret->family = HOST_UNIX;
        if (length > offsetof(struct sockaddr_un, sun_path))
            snprintf(ret->text, sizeof(ret->text), "%.*s", (int)(length - offsetof(struct sockaddr_un, sun_path)),
                     from->local.sun_path);
    }
}

static const char *show(const struct host_address *address, char *to, size_t size) {
    const char *format = address->family == HOST_UNIX ? "%s" : address->family == HOST_IPV6 ? "[%s]:%u" : "%s:%u";
    if (address->family == HOST_UNIX)
        snprintf(to, size, "%s", address->text);
    else
        snprintf(to, size, format, address->text, address->port);
    return to;
}

/* ---- events ---- */

static void socket_fire(struct watch *watch, uint32_t events) {
    struct linux_socket *s = container_of(watch, struct linux_socket, watch);
    unsigned told = 0;
    if (events & (EPOLLIN | EPOLLRDHUP))
        told |= HOST_READABLE;
    /* The kernel reports both directions whenever one changes: room to write is news only to who waits for it. */
    if ((events & EPOLLOUT) && s->write_blocked) {
        s->write_blocked = false;
        told |= HOST_WRITABLE;
    }
    if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
        told |= HOST_CLOSED;
    if (told != 0)
        s->event(s->arg, told); /* may close it: last */
}

static int watch_socket(struct linux_socket *s, struct linux_loop *loop) {
    s->watch.fire = socket_fire;
    int result = linux_loop_watch(loop, &s->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (result == 0)
        s->loop = loop;
    return result;
}

/* ---- connections within the machine ----
 *
 * They lose nothing and share no link. A congestion control made for wide networks (bbr, often the system's default) would pace
 * them, with a timer for every burst: it halves what such a connection moves. Pacing, once begun, goes on, and it begins when the
 * connection is made. So listeners are unpaced, and what they accept from elsewhere gets the system's choice back. */

#define UNPACED "reno" /* every system has it, for everybody */

static void choose_congestion_control(int fd, const char *name) {
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)); /* refused: it is only slower */
}

/* True if the address is one of this machine's: what is sent there comes from there. */
static bool is_own(const union address *address) {
    if (address->any.sa_family == AF_INET && ntohl(address->v4.sin_addr.s_addr) >> 24 == 127)
        return true;
    if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr))
        return true;
    union address from = {.any.sa_family = AF_UNSPEC};
    socklen_t length = address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6), from_length = sizeof(from);
    int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool own = connect(fd, &address->any, length) == 0 && getsockname(fd, &from.any, &from_length) == 0; /* sends nothing */
    close(fd);
    if (own && address->any.sa_family == AF_INET)
        own = from.v4.sin_addr.s_addr == address->v4.sin_addr.s_addr;
    else if (own)
        own = IN6_ARE_ADDR_EQUAL(&from.v6.sin6_addr, &address->v6.sin6_addr);
    return own;
}

/* Takes the descriptor, also when it fails. */
static struct linux_socket *make_socket(struct host *host, int take_fd, enum host_family family) {
    struct linux_socket *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        close(take_fd);
        return NULL;
    }
    s->base.host = host;
    s->watch.fd = take_fd;
    s->family = family;
    s->lock_fd = -1;
    int one = 1;
    if (family != HOST_UNIX)
        setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return s;
}

/* ---- listening ---- */

static void lock_name(const char *path, char *to, size_t size) { snprintf(to, size, "%s.lock", path); }

/* Locks <path>.lock, whose holder may remove it: so look whether what was locked is what lies there. -errno or 0. */
static int lock_path(const char *path, int *ret_fd) {
    char name[sizeof(((struct host_address *)0)->text) + 8];
    lock_name(path, name, sizeof(name));
    for (int tries = 0; tries < 8; tries++) {
        int fd = openat(AT_FDCWD, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return -errno;
        struct stat mine, there;
        int result = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
        if (result == 0 && fstat(fd, &mine) == 0 && fstatat(AT_FDCWD, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            mine.st_dev == there.st_dev && mine.st_ino == there.st_ino) {
            *ret_fd = fd;
            return 0;
        }
        close(fd);
        if (result != 0)
            return result;
    }
    return -EWOULDBLOCK;
}

/* Nobody listens at a path. */
static bool refuses(const union address *system) {
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused = probe >= 0 && connect(probe, &system->any, sizeof(system->local)) != 0 && errno == ECONNREFUSED;
    if (probe >= 0)
        close(probe);
    return refused;
}

int host_linux_remove_stale_socket(const char *path) {
    union address system = {.local.sun_family = AF_UNIX};
    struct stat stat;
    if (fstatat(AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(stat.st_mode) || strlen(path) >= sizeof(system.local.sun_path))
        return -EEXIST;
    memcpy(system.local.sun_path, path, strlen(path) + 1);
    if (!refuses(&system))
        return -EADDRINUSE;
    return unlink(path) == 0 ? 0 : -errno;
}

/* Removes what a dead process left at the path. Whoever holds <path>.lock is alive (the storage target's convention, too); so is
 * who answers. */
static bool claim_path(struct linux_socket *s, const struct host_address *address, const union address *system,
                       struct error *error) {
    int held = lock_path(address->text, &s->lock_fd);
    if (held == -EWOULDBLOCK) {
        error_set(error, ERROR_BUSY, "%s is in use by another process", address->text);
        return error_hint(error, "end that process, or give another socket path (-r)");
    }
    if (held != 0)
        return error_set_errno(error, held, "cannot lock %s.lock", address->text);
    if ((s->path = strdup(address->text)) == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to listen on %s", address->text);
    struct stat stat;
    if (fstatat(AT_FDCWD, address->text, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || error_set_errno(error, errno, "cannot use %s", address->text);
    if (!S_ISSOCK(stat.st_mode)) {
        error_set(error, ERROR_EXISTS, "%s exists and is not a socket", address->text);
        return error_hint(error, "remove it, or give another socket path (-r)");
    }
    if (!refuses(system)) {
        error_set(error, ERROR_BUSY, "%s is in use by another process", address->text);
        return error_hint(error, "end that process, or give another socket path (-r)");
    }
    return unlink(address->text) == 0 || error_set_errno(error, errno, "cannot remove the stale %s", address->text);
}

static void release_path(struct linux_socket *s) {
    char lock[sizeof(((struct host_address *)0)->text) + 8];
    if (s->bound && s->path != NULL)
        unlink(s->path);
    if (s->lock_fd >= 0) {
        if (s->path != NULL) {
            lock_name(s->path, lock, sizeof(lock));
            unlink(lock);
        }
        close(s->lock_fd);
    }
    free(s->path);
}

static bool bind_and_listen(struct linux_socket *s, const struct host_address *address, struct error *error) {
    union address system;
    socklen_t length;
    char shown[128];
    int one = 1;
    if (!to_system(address, &system, &length, error))
        return false;
    if (address->family == HOST_UNIX) {
        if (!claim_path(s, address, &system, error))
            return false;
        /* Before bind: the file appears with this mode. */
        if (fchmod(s->watch.fd, 0600) != 0)
            return error_set_errno(error, errno, "cannot set the mode of %s", address->text);
    } else {
        setsockopt(s->watch.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (address->family == HOST_IPV6)
            setsockopt(s->watch.fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    if (bind(s->watch.fd, &system.any, length) != 0) {
        error_set_errno(error, errno, "cannot listen on %s", show(address, shown, sizeof(shown)));
        return errno == EADDRINUSE ? error_hint(error, "another process listens there: end it, or choose another port") : false;
    }
    s->bound = address->family == HOST_UNIX;
    if (address->family != HOST_UNIX) {
        length = sizeof(s->congestion_control) - 1;
        if (getsockopt(s->watch.fd, IPPROTO_TCP, TCP_CONGESTION, s->congestion_control, &length) == 0)
            choose_congestion_control(s->watch.fd, UNPACED);
    }
    if (listen(s->watch.fd, LISTEN_BACKLOG) != 0)
        return error_set_errno(error, errno, "cannot listen on %s", show(address, shown, sizeof(shown)));
    return true;
}

static int system_family(enum host_family family) {
    return family == HOST_IPV4 ? AF_INET : family == HOST_IPV6 ? AF_INET6 : AF_UNIX;
}

/* A listener at that address that the service manager has opened for us; NULL = none. */
static struct linux_socket *inherit_socket(struct host_loop *loop, const struct host_address *address) {
    union address system;
    socklen_t length;
    struct error error;
    if (!to_system(address, &system, &length, &error))
        return NULL;
    if (address->family == HOST_UNIX)
        length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address->text) + 1);
    int fd = linux_take_inherited((struct linux_host *)loop->host, &system, length);
    struct linux_socket *s = fd < 0 ? NULL : make_socket(loop->host, fd, address->family);
    if (s != NULL && address->family != HOST_UNIX) {
        length = sizeof(s->congestion_control) - 1;
        if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, s->congestion_control, &length) == 0)
            choose_congestion_control(fd, UNPACED);
    }
    return s;
}

static struct linux_socket *open_socket(struct host_loop *loop, const struct host_address *address, struct error *error) {
    char shown[128];
    int fd = socket(system_family(address->family), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error_set_errno(error, errno, "cannot make a socket for %s", show(address, shown, sizeof(shown)));
        return NULL;
    }
    struct linux_socket *s = make_socket(loop->host, fd, address->family);
    if (s == NULL)
        error_set(error, ERROR_NO_MEMORY, "no memory for a socket");
    return s;
}

struct host_socket *linux_listen(struct host_loop *loop, const struct host_address *address, host_socket_event event, void *arg,
                                 struct error *error) {
    struct linux_socket *s = inherit_socket(loop, address);
    bool inherited = s != NULL;
    if (s == NULL)
        s = open_socket(loop, address, error);
    if (s == NULL)
        return NULL;
    s->event = event;
    s->arg = arg;
    bool ok = inherited || bind_and_listen(s, address, error);
    if (ok) {
        int result = watch_socket(s, (struct linux_loop *)loop);
        ok = result == 0 || error_set_errno(error, result, "cannot watch a socket");
    }
    if (!ok) {
        linux_socket_close(&s->base);
        return NULL;
    }
    return &s->base;
}

struct host_socket *linux_accept(struct host_socket *base, struct host_address *ret_peer, int *ret_errno) {
    struct linux_socket *listener = (struct linux_socket *)base;
    union address peer = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof(peer);
    int fd;
    do /* ECONNABORTED: that one is gone, there may be more */
        fd = accept4(listener->watch.fd, &peer.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
    if (fd < 0) {
        *ret_errno = -errno;
        return NULL;
    }
    struct linux_socket *s = make_socket(listener->base.host, fd, listener->family);
    if (s == NULL) {
        *ret_errno = -ENOMEM;
        return NULL;
    }
    if (listener->congestion_control[0] != '\0' && !is_own(&peer))
        choose_congestion_control(fd, listener->congestion_control);
    if (ret_peer != NULL)
        from_system(&peer, length, ret_peer);
    return &s->base;
}

/* ---- connecting ---- */

static bool begin_connect(struct linux_socket *s, const struct host_address *to, const struct host_address *from,
                          struct error *error) {
    union address system;
    socklen_t length;
    char shown[128];
    int one = 1;
    if (from != NULL && to->family != HOST_UNIX) {
        if (!to_system(from, &system, &length, error))
            return false;
        if (from->port == 0) /* the kernel chooses the port at connect: as many as there are peers, not one for all */
            setsockopt(s->watch.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(s->watch.fd, &system.any, length) != 0)
            return error_set_errno(error, errno, "cannot connect from %s", show(from, shown, sizeof(shown)));
    }
    if (!to_system(to, &system, &length, error))
        return false;
    if (to->family != HOST_UNIX && is_own(&system))
        choose_congestion_control(s->watch.fd, UNPACED);
    if (connect(s->watch.fd, &system.any, length) != 0 && errno != EINPROGRESS && errno != EINTR)
        return error_set_errno(error, errno, "cannot connect to %s", show(to, shown, sizeof(shown)));
    return true;
}

struct host_socket *linux_connect(struct host_loop *loop, const struct host_address *to, const struct host_address *from,
                                  host_socket_event event, void *arg, struct error *error) {
    struct linux_socket *s = open_socket(loop, to, error);
    if (s == NULL)
        return NULL;
    s->event = event;
    s->arg = arg;
    s->write_blocked = true;
    bool ok = begin_connect(s, to, from, error);
    if (ok) {
        int result = watch_socket(s, (struct linux_loop *)loop);
        ok = result == 0 || error_set_errno(error, result, "cannot watch a socket");
    }
    if (!ok) {
        linux_socket_close(&s->base);
        return NULL;
    }
    return &s->base;
}

int linux_socket_error(struct host_socket *base) {
    int number = 0;
    socklen_t length = sizeof(number);
    if (getsockopt(((struct linux_socket *)base)->watch.fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0)
        return -errno;
    return -number;
}

void linux_socket_local(struct host_socket *base, struct host_address *ret_address) {
    union address system = {0};
    socklen_t length = sizeof(system);
    if (getsockname(((struct linux_socket *)base)->watch.fd, &system.any, &length) != 0)
        length = 0;
    from_system(&system, length, ret_address);
}

/* ---- bytes ---- */

int64_t linux_socket_read(struct host_socket *base, const struct slice *slices, uint32_t count) {
    struct linux_socket *s = (struct linux_socket *)base;
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
    ssize_t n;
    do
        n = count == 1 ? recv(s->watch.fd, slices->base, slices->length, 0) : recvmsg(s->watch.fd, &message, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int64_t linux_socket_write(struct host_socket *base, const struct slice *slices, uint32_t count) {
    struct linux_socket *s = (struct linux_socket *)base;
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
    ssize_t n;
    do
        n = count == 1 ? send(s->watch.fd, slices->base, slices->length, MSG_NOSIGNAL)
                       : sendmsg(s->watch.fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        s->write_blocked = true;
    return n < 0 ? -errno : n;
}

/* ---- descriptors ---- */

union files {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(HOST_LINUX_FILES_MAX * sizeof(int))];
};

int64_t host_linux_socket_send_files(struct host_socket *base, const void *bytes, size_t size, const int *fds, unsigned count) {
    struct linux_socket *s = (struct linux_socket *)base;
    struct iovec iovec = {(void *)(uintptr_t)bytes, size};
    union files files = {
        .header = {.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &iovec, .msg_iovlen = 1};
    assert(s->family == HOST_UNIX && count <= HOST_LINUX_FILES_MAX);
    if (count > 0) {
        memcpy(CMSG_DATA(&files.header), fds, count * sizeof(int));
        message.msg_control = &files;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(s->watch.fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        s->write_blocked = true;
    return n < 0 ? -errno : n;
}

int64_t host_linux_socket_receive_files(struct host_socket *base, void *bytes, size_t size, int *ret_fds, unsigned *ret_count) {
    struct linux_socket *s = (struct linux_socket *)base;
    struct iovec iovec = {bytes, size};
    union files files;
    struct msghdr message = {.msg_iov = &iovec, .msg_iovlen = 1, .msg_control = &files, .msg_controllen = sizeof(files)};
    ssize_t n;
    do
        n = recvmsg(s->watch.fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    *ret_count = 0;
    for (struct cmsghdr *one = n < 0 ? NULL : CMSG_FIRSTHDR(&message); one != NULL; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS)
            continue;
        size_t length = one->cmsg_len - CMSG_LEN(0);
        memcpy(ret_fds + *ret_count, CMSG_DATA(one), length);
        *ret_count += (unsigned)(length / sizeof(int));
    }
    if (n < 0)
        return -errno;
    if ((message.msg_flags & MSG_CTRUNC) == 0)
        return n;
    while (*ret_count > 0)
        close(ret_fds[--*ret_count]);
    return -EMFILE;
}

/* ---- moving and closing ---- */

void linux_socket_detach(struct host_socket *base) {
    struct linux_socket *s = (struct linux_socket *)base;
    if (s->loop != NULL)
        linux_loop_unwatch(s->loop, &s->watch);
    s->loop = NULL;
}

int linux_socket_attach(struct host_socket *base, struct host_loop *loop, host_socket_event event, void *arg) {
    struct linux_socket *s = (struct linux_socket *)base;
    assert(s->loop == NULL);
    s->event = event;
    s->arg = arg;
    return watch_socket(s, (struct linux_loop *)loop);
}

void linux_socket_close(struct host_socket *base) {
    struct linux_socket *s = (struct linux_socket *)base;
    linux_socket_detach(base);
    close(s->watch.fd);
    release_path(s);
    free(s);
}

void linux_socket_reset(struct host_socket *base) {
    struct linger at_once = {.l_onoff = 1};
    setsockopt(((struct linux_socket *)base)->watch.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    linux_socket_close(base);
}
