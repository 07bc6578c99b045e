#include "programs/penstock-packet/together.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/linux/linux.h"
#include "programs/penstock-packet/join.h"
#include "reactor/reactor.h"

enum { MEMBERS_MAX = 64, JOIN_MS = 30000, AGAIN_MS = 20, HOLD_MS = 2000 };

struct member {
    struct together *together;
    struct host_socket *socket; /* NULL = the place is free */
    _Atomic bool joined;
    bool leaves;
    _Atomic uint32_t vf;
    _Atomic uint64_t mask; /* its cores; workers are on all but the lowest */
    struct join_line line;
};

struct together {
    struct reactor *reactor;
    struct host_address address;
    char bond[JOIN_BOND_MAX + 1];
    struct host_socket *listener; /* the primary's */
    struct member members[MEMBERS_MAX];
    struct reactor_message leave;
    /* Who has what is shared holds a file, PATH.held: processes together, a primary alone until it has made it anew. Others'
     * lives are not enough: one that was stopped is gone for its primary's successor, and wakes with the old one's memory. */
    char held_path[sizeof(((struct host_address *)0)->text) + 8];
    struct host_file_open hold;
    struct host_file *held; /* NULL = it is not held */
    int wakes[TOGETHER_WAKES_MAX];
    unsigned wake_count;
    /* a vf's process: the first member is the primary */
    bool joins, joined;
    bool answered; /* once: what the primary says behind it is nothing */
    uint32_t vf;
    uint64_t mask;
    struct reactor_timer again;
    uint64_t since_ns;
    struct error error;
};

/* Nothing of what is shared may be touched, so nothing is taken down. */
static void end_now(const char *who) {
    fprintf(stderr, "penstock-packet: %s has ended: all processes end, to be started again together\n", who);
    _Exit(70);
}

static bool say(struct host_socket *socket, const char *text) {
    struct slice slice = {.base = (void *)(uintptr_t)text, .length = strlen(text)};
    return host_socket_write(socket, &slice, 1) == (int64_t)slice.length;
}

/* A primary may have counted us in. */
static void say_leave(struct together *together) {
    if (together->joins && together->members[0].socket != NULL)
        say(together->members[0].socket, "leave\n");
}

/* Its number and its cores stay for together_next() in another thread, which may just be at them. */
static void drop(struct member *member) {
    member->joined = false;
    host_socket_close(member->socket);
    member->socket = NULL;
    member->leaves = false;
    member->line = (struct join_line){0};
}

static void hold_done(struct host_file_open *open) {
    struct together *together = container_of(open, struct together, hold);
    if (open->ok)
        together->held = open->file;
    else
        together->error = open->error;
    host_loop_stop(together->reactor->loop);
}

static void hold(struct together *together, bool with_others) {
    together->hold = (struct host_file_open){
        .path = together->held_path,
        .options = {.read_only = with_others, .create = !with_others, .hold = true, .hold_timeout_ms = HOLD_MS},
        .done = hold_done};
    host_file_open_submit(together->reactor->loop, &together->hold);
}

/* ---- the primary's side ---- */

static uint64_t workers_of(uint64_t mask) { return mask & (mask - 1); }

static const struct member *member_in_the_way(const struct together *together, uint32_t vf, uint64_t mask) {
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (together->members[i].joined &&
            (together->members[i].vf == vf || (workers_of(together->members[i].mask) & workers_of(mask)) != 0))
            return &together->members[i];
    return NULL;
}

/* With what workers of other processes are woken by. */
static bool say_yes(const struct member *member) {
    static const char yes[] = "yes\n";
    const struct together *together = member->together;
    return host_linux_socket_send_files(member->socket, yes, strlen(yes), together->wakes, together->wake_count) ==
           (int64_t)strlen(yes);
}

static void take_line(struct member *member) {
    const struct together *together = member->together;
    uint32_t vf;
    uint64_t mask;
    const char *bond;
    char answer[JOIN_LINE_MAX];
    if (member->joined) {
        member->leaves = member->leaves || join_is_leave(member->line.text);
        return;
    }
    if (!join_parse_hello(member->line.text, &vf, &mask, &bond))
        return;
    /* What it shares with us it would not find, or not understand, and its end would be everybody's. */
    bool bound = strcmp(bond, together->bond) == 0;
    const struct member *other = member_in_the_way(together, vf, mask);
    if (!bound)
        snprintf(answer, sizeof(answer),
                 "no the primary was started with -r spelled otherwise, another RUNTIME_DIRECTORY, other drivers (-d), or is of "
                 "another version\n");
    else if (other != NULL && other->vf == vf)
        snprintf(answer, sizeof(answer), "no there is a process of vf %u already\n", other->vf);
    else if (other != NULL)
        snprintf(answer, sizeof(answer), "no cores 0x%" PRIx64 " are vf %u's: processes cannot share those that they work on\n",
                 workers_of(other->mask) & workers_of(mask), other->vf);
    bool yes = bound && other == NULL;
    if (yes ? !say_yes(member) : !say(member->socket, answer)) {
        drop(member); /* it would wait for an answer */
        return;
    }
    member->vf = vf;
    member->mask = mask;
    member->joined = yes;
}

/* ---- a process's side ---- */

static void take_answer(struct member *member) {
    struct together *together = member->together;
    if (together->answered)
        return;
    together->answered = true;
    reactor_timer_stop(together->reactor, &together->again);
    const char *reason = join_parse_answer(member->line.text);
    member->joined = together->joined = reason == NULL;
    if (together->joined) {
        hold(together, true);
        return;
    }
    error_set(&together->error, ERROR_BUSY, "%.200s", reason);
    host_loop_stop(together->reactor->loop);
}

/* We are counted in, and could not wake the others. */
static void no_room_for_files(struct member *member) {
    struct together *together = member->together;
    together->answered = true;
    error_set(&together->error, ERROR_NO_MEMORY, "too few files may be open for what workers are woken by");
    host_loop_stop(together->reactor->loop);
}

static void try_again(struct together *together) {
    if (together->members[0].socket != NULL)
        drop(&together->members[0]);
    if (together->answered)
        return; /* what has been said holds */
    if (reactor_now_ns(together->reactor) - together->since_ns >= JOIN_MS * NS_PER_MS)
        host_loop_stop(together->reactor->loop);
    else
        reactor_timer_start(together->reactor, &together->again, reactor_now_ns(together->reactor) + AGAIN_MS * NS_PER_MS);
}

/* ---- both ---- */

static void ended(struct member *member) {
    char who[32];
    snprintf(who, sizeof(who), "vf %u's process", member->vf);
    if (member->joined && !member->leaves)
        end_now(member->together->joins ? "the primary" : who);
    if (member->together->joins)
        try_again(member->together);
    else
        drop(member);
}

static void take_bytes(struct member *member, const char *bytes, size_t count) {
    for (size_t taken; count > 0 && member->socket != NULL; bytes += taken, count -= taken) {
        if (!join_take(&member->line, bytes, count, &taken))
            continue;
        if (member->together->joins)
            take_answer(member);
        else
            take_line(member);
    }
}

static void take_files(struct together *together, const int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (together->joins && !together->answered && together->wake_count < TOGETHER_WAKES_MAX)
            together->wakes[together->wake_count++] = fds[i];
        else
            host_linux_close(fds[i]);
    }
}

static void heard(void *arg, unsigned events) {
    struct member *member = arg;
    struct together *together = member->together;
    char bytes[JOIN_LINE_MAX];
    (void)events;
    if (together->joins && !together->joined && host_socket_error(member->socket) != 0) {
        ended(member);
        return;
    }
    for (;;) {
        int fds[HOST_LINUX_FILES_MAX];
        unsigned fd_count;
        int64_t count = host_linux_socket_receive_files(member->socket, bytes, sizeof(bytes), fds, &fd_count);
        if (count == -EAGAIN)
            return;
        if (count == -EMFILE && together->joins && !together->answered) {
            no_room_for_files(member);
            return;
        }
        if (count <= 0) {
            ended(member);
            return;
        }
        take_files(together, fds, fd_count);
        take_bytes(member, bytes, (size_t)count);
        if (member->socket == NULL)
            return;
    }
}

static void knocked(void *arg, unsigned events) {
    struct together *together = arg;
    (void)events;
    for (;;) {
        int result = 0;
        struct host_address peer;
        struct host_socket *socket = host_accept(together->listener, &peer, &result);
        if (socket == NULL)
            return;
        unsigned i = 0;
        while (i < MEMBERS_MAX && together->members[i].socket != NULL)
            i++;
        if (i == MEMBERS_MAX) {
            host_socket_close(socket);
            continue;
        }
        together->members[i].socket = socket;
        if (host_socket_attach(socket, together->reactor->loop, heard, &together->members[i]) != 0)
            drop(&together->members[i]);
    }
}

static void left(struct reactor_message *message) {
    struct together *together = container_of(message, struct together, leave);
    if (together->listener != NULL)
        host_socket_close(together->listener);
    say_leave(together);
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (together->members[i].socket != NULL)
            drop(&together->members[i]);
    host_loop_stop(together->reactor->loop);
}

static struct together *create(struct host *host, const char *path, const char *bond, struct error *error) {
    struct together *together = calloc(1, sizeof(*together));
    struct reactor_options options = {.name = "together", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    int result = together == NULL ? -ENOMEM : reactor_create(host, &options, &together->reactor);
    if (result != 0) {
        error_set_errno(error, result, "no loop for the other processes");
        free(together);
        return NULL;
    }
    together->address.family = HOST_UNIX;
    snprintf(together->address.text, sizeof(together->address.text), "%s", path);
    snprintf(together->bond, sizeof(together->bond), "%s", bond);
    snprintf(together->held_path, sizeof(together->held_path), "%s.held", path);
    together->leave.run = left;
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        together->members[i].together = together;
    return together;
}

static void destroy(struct together *together) {
    if (together->held != NULL)
        host_file_close(together->held);
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (together->members[i].socket != NULL)
            host_socket_close(together->members[i].socket);
    for (unsigned i = 0; i < together->wake_count; i++)
        host_linux_close(together->wakes[i]);
    reactor_destroy(together->reactor);
    free(together);
}

/* Nothing that is shared has been touched, so there is nothing to be taken down. */
static void asked_to_end(void *arg, int number) {
    (void)number;
    say_leave(arg);
    _Exit(0);
}

/* Until the loop is stopped, or a signal comes. */
static void wait_here(struct together *together) {
    struct host_loop *loop = together->reactor->loop;
    host_linux_watch_signals(loop, asked_to_end, together); /* else they wait as long */
    host_linux_loop_run(loop);
    host_linux_unwatch_signals(loop);
}

static bool make_wakes(struct together *together, unsigned count, struct error *error) {
    assert(count <= TOGETHER_WAKES_MAX);
    while (together->wake_count < count) {
        int fd = host_linux_event_open();
        if (fd < 0)
            return error_set_errno(error, fd, "no descriptors for workers to be woken by");
        together->wakes[together->wake_count++] = fd;
    }
    return true;
}

const int *together_wakes(const struct together *together, unsigned *ret_count) {
    *ret_count = together->wake_count;
    return together->wakes;
}

/* From now on in a thread of its own. */
static bool start(struct together *together, struct error *error) {
    int result = reactor_start(together->reactor);
    return result == 0 || error_set_errno(error, result, "no thread for the other processes");
}

bool together_begin(struct host *host, const char *path, const char *bond, unsigned wake_count, struct together **ret_together,
                    struct error *error) {
    struct together *together = create(host, path, bond, error);
    if (together == NULL)
        return false;
    reactor_enter(together->reactor);
    hold(together, false);
    reactor_enter(NULL);
    wait_here(together);
    bool held = together->held != NULL;
    if (!held) {
        *error = together->error;
        error_hint(error, "a process of an earlier primary that does not end?");
    }
    if (!held || !make_wakes(together, wake_count, error)) {
        destroy(together);
        return false;
    }
    *ret_together = together;
    return true;
}

bool together_lead(struct together *together, struct error *error) {
    host_file_close(together->held);
    together->held = NULL;
    reactor_enter(together->reactor);
    together->listener = host_listen(together->reactor->loop, &together->address, knocked, together, error);
    reactor_enter(NULL);
    if (together->listener != NULL && start(together, error))
        return true;
    destroy(together);
    return false;
}

static void connect_again(struct reactor_timer *timer) {
    struct together *together = container_of(timer, struct together, again);
    struct member *primary = &together->members[0];
    char hello[JOIN_LINE_MAX];
    if (primary->socket != NULL) { /* for as long as we wait at all */
        error_set(&together->error, ERROR_TIMED_OUT, "the primary at %s does not answer", together->address.text);
        host_loop_stop(together->reactor->loop);
        return;
    }
    join_format_hello(together->vf, together->mask, together->bond, hello);
    primary->socket = host_connect(together->reactor->loop, &together->address, NULL, heard, primary, &together->error);
    if (primary->socket == NULL || !say(primary->socket, hello))
        try_again(together);
    else
        reactor_timer_start(together->reactor, timer, together->since_ns + JOIN_MS * NS_PER_MS);
}

bool together_join(struct host *host, const char *path, const char *bond, uint32_t vf, uint64_t mask,
                   struct together **ret_together, struct error *error) {
    struct together *together = create(host, path, bond, error);
    if (together == NULL)
        return false;
    together->joins = true;
    together->vf = vf;
    together->mask = mask;
    together->since_ns = host_now_ns(host);
    together->again.run = connect_again;
    reactor_enter(together->reactor);
    reactor_timer_start(together->reactor, &together->again, 0);
    reactor_enter(NULL);
    error_set(&together->error, ERROR_TIMED_OUT, "there is no primary at %s", path);
    wait_here(together);
    reactor_timer_stop(together->reactor, &together->again);
    bool held = together->held != NULL;
    if (!held)
        *error = together->error;
    if (!held || !start(together, error)) {
        say_leave(together);
        destroy(together);
        return false;
    }
    *ret_together = together;
    return true;
}

void together_leave(struct together *together) {
    reactor_post(together->reactor, &together->leave);
    host_linux_loop_wait(together->reactor->loop);
    destroy(together);
}

bool together_next(struct together *together, unsigned *at, uint32_t *ret_vf, uint64_t *ret_mask) {
    for (; *at < MEMBERS_MAX; (*at)++) {
        const struct member *member = &together->members[*at];
        if (!member->joined)
            continue;
        *ret_vf = member->vf;
        *ret_mask = member->mask;
        if (!member->joined || member->vf != *ret_vf) /* it left meanwhile, and another may have its place */
            continue;
        (*at)++;
        return true;
    }
    return false;
}
