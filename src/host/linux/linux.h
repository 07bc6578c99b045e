/* What a program needs of host/linux beyond host.h: making the host, signals, readiness. Only src/programs, bench and tests
 * include it. */
#pragma once

#include "host/host.h"

struct host_linux_options {
    bool no_io_uring;     /* as if the kernel refused it */
    unsigned threads_max; /* of each of the two helper pools (jobs; file I/O without io_uring); 0 = 16 */
    const int *signals;   /* blocked in every thread, for host_linux_watch_signals(); 0 ends the list; NULL = none */
    void (*log)(void *arg, const char *text); /* what an operator should know, once each; NULL = dropped. Any thread */
    void *log_arg;
};

/* Makes the host. From main, before any other thread runs (it blocks signals for all of them). Takes note of listening sockets
 * that the service manager has opened ($LISTEN_FDS): host_listen() at the address of one takes it. -errno or 0. */
int host_linux_create(const struct host_linux_options *options, struct host **ret_host);
/* All loops and files are gone. Ends the helper threads. */
void host_linux_destroy(struct host *host);
/* Turns the loop on the caller's thread, instead of host_loop_start(), until host_loop_stop(); may be called again, and the loop
 * be started afterwards. For programs that wait for one thing after the other. */
void host_linux_loop_run(struct host_loop *loop);
/* Waits until the loop was stopped and its thread has ended; host_loop_destroy() is still to be called. Not on a loop. */
void host_linux_loop_wait(struct host_loop *loop);

/* How many descriptors the process may have open. host_linux_create() has raised it as far as the limit's owner allows. Any
 * thread. */
uint64_t host_linux_files_max(void);

/* "adaptive", "always" or "never"; false: none of these. Any thread. */
bool host_linux_poll_mode_parse(const char *text, enum host_poll_mode *ret_mode);

/* Whether an open descriptor is a terminal. Any thread. */
bool host_linux_is_terminal(int descriptor);

/* Calls `signalled` inside host_loop_poll() for each of the options' signals that arrives. On the loop (or before it starts), one
 * loop of a host at a time. -errno or 0. */
int host_linux_watch_signals(struct host_loop *loop, void (*signalled)(void *arg, int number), void *arg);
/* No more: those that arrive wait for the next one who does. On the loop, or while it does not turn. */
void host_linux_unwatch_signals(struct host_loop *loop);

/* Gives up, for good, what a plane never needs: running other programs, looking into other processes, mounting, modules, clocks,
 * most capabilities. Files, devices, sockets and io_uring stay, and what `keeps` names. From main, before any other thread runs.
 * -errno if the kernel has no such thing; all is as before then, or less is allowed. Under a sanitizer, which needs some of it,
 * no call is denied. */
enum host_linux_keeps {
    HOST_LINUX_KEEP_INTERFACES = 1, /* use and make network interfaces */
    HOST_LINUX_KEEP_BPF = 2,        /* load programs into the kernel: AF_XDP */
};
int host_linux_confine(unsigned keeps);

/* Tells the service manager from this loop that it turns, as often as $WATCHDOG_USEC asks; nothing if that is not there. On the
 * loop, or before it starts; once. -errno or 0. */
int host_linux_watchdog(struct host_loop *loop);

/* Sends `state` ("READY=1") to the service manager named by $NOTIFY_SOCKET; 0 also when there is none, else -errno. Any thread.
 */
int host_linux_notify(const char *state);

/* ---- waking a loop that sleeps ---- */

/* For drivers that move data themselves (packet/dpdk): a descriptor that ends the loop's sleep while it is readable, or `once`
 * each time that it becomes so or is signalled. Awake, that changes nothing: the poller looks. On the loop. -errno or 0. */
struct host_linux_waker;
int host_linux_waker_open(struct host_loop *loop, int fd, bool once, struct host_linux_waker **ret_waker);
/* Before its descriptor is closed. */
void host_linux_waker_close(struct host_linux_waker *waker);
/* Blocks: in helper threads only. */
void host_linux_pause(uint64_t ns);
/* A descriptor that is readable once it was signalled, for good: for several processes, and wakers that wake once. Any thread.
 * -errno, or the descriptor. */
int host_linux_event_open(void);
void host_linux_event_signal(int fd);
/* A set of descriptors that is one itself. Any thread. -errno, or the descriptor. */
int host_linux_epoll_open(void);
void host_linux_close(int fd); /* of any kind; negative: nothing happens */
/* A descriptor whose becoming readable makes the set readable, once each time. One that was closed has left it by itself. -errno
 * or 0. */
int host_linux_epoll_add(int set, int fd);
void host_linux_epoll_drop(int set, int fd);
/* What the set was readable for is past. */
void host_linux_epoll_forget(int set);

/* This process's sockets of AF_XDP, `max` at most: how a driver's own is found, by comparing before and after. Returns
 * how many. Any thread. */
size_t host_linux_xdp_sockets(int *ret_fds, size_t max);

/* Of this process's Unix streams, those of libraries that read and write them with calls that wait: each such call waits `ms` at
 * most from now on, and fails then. Any thread. */
void host_linux_bound_streams(uint64_t ms);
/* Ends a connection, whose descriptor is closed by whom it belongs to. Any thread. */
void host_linux_hang_up(int fd);

/* A descriptor that is readable when a frame has come in by a network interface since it was armed. -errno or 0. */
struct host_linux_frame_watch;
int host_linux_frame_watch_open(const char *interface, struct host_linux_frame_watch **ret_watch);
void host_linux_frame_watch_close(struct host_linux_frame_watch *watch);
int host_linux_frame_watch_fd(const struct host_linux_frame_watch *watch);
void host_linux_frame_watch_arm(struct host_linux_frame_watch *watch);

/* The cores that this thread may use, as "0-1,4-4". Cut at a core where `size` is short. */
void host_linux_cpus(char *to, size_t size);
bool host_linux_has_cpu(int cpu);

/* ---- descriptors of others ---- */

enum { HOST_LINUX_FILES_MAX = 253 /* of one message */ };

/* As host_socket_write() on a Unix stream, and descriptors go with the first byte; they stay the caller's. On the loop. */
int64_t host_linux_socket_send_files(struct host_socket *socket, const void *bytes, size_t size, const int *fds, unsigned count);
/* As host_socket_read(). *ret_count descriptors came as well (HOST_LINUX_FILES_MAX of them have room): the caller's now. -EMFILE:
 * there were more than may be open, or than have room; none is left, and the bytes are lost. */
int64_t host_linux_socket_receive_files(struct host_socket *socket, void *bytes, size_t size, int *ret_fds, unsigned *ret_count);

/* ---- memory of others ---- */

/* From now on a shared mapping whose file its owner has cut short costs the mapping and not the process: it is replaced, all of
 * it, by zeros of our own. After libraries that catch SIGBUS have started. -errno or 0. */
int host_linux_guard_mappings(void);
/* How many were replaced so far. Any thread; cheap. */
unsigned host_linux_lost_mappings(void);
/* True if one of those after the first `from` lay in this range. Any thread. */
bool host_linux_lost_mapping(unsigned from, const void *start, size_t size);

/* Removes the socket at a path that nobody listens at, for libraries that bind to it. 0 also if there is nothing; -EADDRINUSE:
 * somebody listens; -EEXIST: it is no socket; -errno. */
int host_linux_remove_stale_socket(const char *path);

/* ---- files that only grow ---- */

/* Makes a file (0600), or empties the one there, or opens a pipe, which nobody needs to read yet. Not through a symbolic link.
 * May sleep, as writing may: not on a loop. -errno or 0. */
struct host_linux_sink;
int host_linux_sink_open(const char *path, struct host_linux_sink **ret_sink);
/* How many bytes went; -EAGAIN: the pipe is full; else -errno. */
int64_t host_linux_sink_write(struct host_linux_sink *sink, const void *bytes, size_t size);
void host_linux_sink_close(struct host_linux_sink *sink);

/* ---- other programs ---- */

struct host_linux_process;
struct host_linux_process_options {
    const char *const *arguments; /* the program (a path, or a name to be found in $PATH), its arguments, NULL */
    const char *log_path;         /* takes what it writes to stdout and stderr; appended to, made (0600) if absent */
};

/* Starts a program in a session of its own, with no open file but those three: it goes on when we end. `ended` comes once, from
 * the loop, with the exit status (128 + the signal that ended it), and the process is released then. On the loop, or before it
 * starts. -errno or 0. */
int host_linux_process_start(struct host_loop *loop, const struct host_linux_process_options *options,
                             void (*ended)(void *arg, int status), void *arg, struct host_linux_process **ret_process);
/* Watches a process that somebody else started; its end has status -1. -ESRCH: there is none; -ENOSYS: the kernel cannot. */
int host_linux_process_adopt(struct host_loop *loop, uint64_t number, void (*ended)(void *arg, int status), void *arg,
                             struct host_linux_process **ret_process);
uint64_t host_linux_process_number(const struct host_linux_process *process);
/* Asks it to end (SIGTERM), or kills it; `ended` comes when it has. */
void host_linux_process_end(struct host_linux_process *process, bool kill);
/* Watches it no more; the process goes on. */
void host_linux_process_release(struct host_linux_process *process);
/* Makes a folder (0700) unless it is there. May sleep: before the loops run. -errno or 0. */
int host_linux_make_folder(const char *path);

/* What is in use, for framework_get_reactors and tests. Any thread. */
bool host_linux_uses_io_uring(struct host *host); /* false once the kernel refused it */
/* Of this process, for clients that want to know whom they speak to. */
uint64_t host_linux_process_id(void);
