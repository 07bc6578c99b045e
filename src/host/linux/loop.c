/* A loop: a thread that calls its turn, spins while work arrives (spin.h) and blocks in epoll when it stops.
 *
 * Going to sleep: store asleep = 1, call the turn once more, block if it found nothing. Waking: make work visible, then load
 * asleep. All four are seq_cst, so one of the two sides sees the other (no fences: TSan does not see them). The eventfd is
 * edge-triggered and never read; the ring signals it, too. Who is late with waking – its work was already found – takes asleep
 * to 0, and the turn's look at epoll may take its edge: then there is no sleep, since nobody after it would end that. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "host/linux/internal.h"

enum {
    EPOLL_HOT_US = 100,    /* after a socket's event: look every turn for so long */
    EPOLL_COLD_US = 2,     /* else so often, while spinning for other reasons */
    TIMER_SLACK_NS = 5000, /* the default, 50 µs, is half a sleep of ours */
};

static uint64_t loop_ticks(struct linux_loop *loop) { return host_ticks(&loop->host->base); }

static void counter_add(_Atomic uint64_t *counter, uint64_t n) {
    /* One writer: no locked instruction needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- the epoll set ---- */

int linux_loop_watch(struct linux_loop *loop, struct watch *watch, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) != 0)
        return -errno;
    if (watch->fire != NULL)
        loop->watched++;
    loop->epoll_hot_until = UINT64_MAX; /* it may be ready already: look at the next turn */
    return 0;
}

void linux_loop_unwatch(struct linux_loop *loop, struct watch *watch) {
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    if (watch->fire != NULL)
        loop->watched--;
    for (unsigned i = loop->batch_next; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
}

static unsigned epoll_dispatch(struct linux_loop *loop) {
    unsigned fired = 0;
    while (loop->batch_next < loop->batch_count) {
        struct epoll_event *event = &loop->batch[loop->batch_next++];
        struct watch *watch = event->data.ptr;
        if (watch == NULL || watch->fire == NULL)
            continue;
        watch->fire(watch, event->events);
        fired++;
    }
    return fired;
}

static unsigned epoll_poll(struct linux_loop *loop) {
    if (loop->batch_next == loop->batch_count) { /* else: what ended the sleep */
        if (loop->watched == 0)
            return 0;
        uint64_t now = loop_ticks(loop);
        if (now >= loop->epoll_hot_until && now < loop->epoll_next)
            return 0;
        int n = epoll_wait(loop->epoll_fd, loop->batch, EPOLL_BATCH, 0);
        loop->batch_next = 0;
        loop->batch_count = n > 0 ? (unsigned)n : 0;
        if (loop->epoll_hot_until == UINT64_MAX && n <= 0)
            loop->epoll_hot_until = now;
        loop->epoll_next = now + EPOLL_COLD_US * loop->spin.ticks_per_us;
    }
    unsigned fired = epoll_dispatch(loop);
    if (fired > 0)
        loop->epoll_hot_until = loop_ticks(loop) + EPOLL_HOT_US * loop->spin.ticks_per_us;
    return fired;
}

/* ---- work that comes back from helper threads ---- */

void linux_loop_work_done(struct thread_pool_work *work) {
    struct linux_loop *loop = work->loop;
    struct queue_node *head = atomic_load_explicit(&loop->done, memory_order_relaxed);
    do
        work->node.next = head;
    while (!atomic_compare_exchange_weak(&loop->done, &head, &work->node));
    linux_loop_wake(&loop->base);
    atomic_fetch_sub(&loop->in_pool, 1); /* last: the loop may go now */
}

static unsigned done_poll(struct linux_loop *loop) {
    if (likely(atomic_load(&loop->done) == NULL))
        return 0;
    struct queue_node *newest_first = atomic_exchange(&loop->done, NULL), *oldest_first = NULL;
    while (newest_first != NULL) {
        struct queue_node *next = newest_first->next;
        newest_first->next = oldest_first;
        oldest_first = newest_first;
        newest_first = next;
    }
    unsigned count = 0;
    while (oldest_first != NULL) {
        struct thread_pool_work *work = container_of(oldest_first, struct thread_pool_work, node);
        oldest_first = oldest_first->next;
        work->done(work);
        count++;
    }
    return count;
}

unsigned linux_loop_poll(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    return done_poll(loop) + linux_file_io_poll(loop) + linux_ring_poll(loop) + epoll_poll(loop);
}

void linux_loop_flush(struct host_loop *base) { linux_ring_flush((struct linux_loop *)base); }

/* ---- sleeping ---- */

void linux_loop_wake(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    if (likely(atomic_load(&loop->asleep) == 0) || atomic_exchange(&loop->asleep, 0) == 0)
        return;
    uint64_t one = 1;
    ssize_t n = write(loop->wake.fd, &one, sizeof(one));
    assert(n == (ssize_t)sizeof(one) || errno == EINTR);
}

/* How long this thread was ready to run but did not, in ticks: the second number of schedstat. */
static uint64_t core_waited(const struct linux_loop *loop) {
    char text[64];
    ssize_t n = loop->schedstat_fd < 0 ? -1 : pread(loop->schedstat_fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return SPIN_WAIT_UNKNOWN;
    text[n] = '\0';
    const char *second = strchr(text, ' ');
    return second == NULL ? SPIN_WAIT_UNKNOWN : strtoull(second, NULL, 10) / 1000 * loop->spin.ticks_per_us;
}

static void sample_switches(struct linux_loop *loop, uint64_t now) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    uint64_t switches = (uint64_t)usage.ru_nivcsw;
    spin_sample(&loop->spin, now, switches, switches != loop->spin.switches ? core_waited(loop) : 0);
    atomic_store_explicit(&loop->switches, (uint64_t)usage.ru_nivcsw, memory_order_relaxed);
}

static bool has_own_work(struct linux_loop *loop) {
    return !queue_empty(&loop->sync) || linux_ring_pending(loop) || atomic_load(&loop->done) != NULL ||
           loop->batch_next < loop->batch_count || atomic_load(&loop->stop);
}

/* Blocks until an event, a wake-up or the deadline. */
static void block(struct linux_loop *loop, uint64_t deadline_ns) {
    struct timespec timeout, *limit = NULL;
    if (deadline_ns != UINT64_MAX) {
        uint64_t now_ns = host_now_ns(&loop->host->base), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        timeout = (struct timespec){.tv_sec = (time_t)(left_ns / NS_PER_S), .tv_nsec = (long)(left_ns % NS_PER_S)};
        limit = &timeout;
    }
    int n = -1;
    if (!loop->coarse_timeouts) {
        n = epoll_pwait2(loop->epoll_fd, loop->batch, EPOLL_BATCH, limit, NULL);
        loop->coarse_timeouts = n < 0 && errno != EINTR; /* before Linux 5.11, or refused by a filter */
    }
    if (loop->coarse_timeouts) {
        uint64_t ms = limit == NULL ? 0 : divide_up((uint64_t)timeout.tv_sec * NS_PER_S + (uint64_t)timeout.tv_nsec, NS_PER_MS);
        n = epoll_wait(loop->epoll_fd, loop->batch, EPOLL_BATCH, limit == NULL ? -1 : (int)min_u64(ms, 60000));
    }
    loop->batch_next = 0;
    loop->batch_count = n > 0 ? (unsigned)n : 0;
}

static struct host_turn run_turn(struct linux_loop *loop) {
    struct host_turn turn = loop->options.turn(loop->options.arg);
    counter_add(&loop->turns, 1);
    return turn;
}

static void tell_sleep(struct linux_loop *loop, bool asleep) {
    if (loop->options.sleeps != NULL)
        loop->options.sleeps(loop->options.arg, asleep);
}

/* A turn that began at `before` has ended. Returns the ticks now. */
static uint64_t account(struct linux_loop *loop, uint64_t before, bool worked) {
    uint64_t now = loop_ticks(loop);
    if (worked) {
        counter_add(&loop->busy_ticks, now - before);
        spin_worked(&loop->spin, now);
    }
    return now;
}

/* The turn found nothing: look once more with the sleep announced, then block. `now`: ticks. Returns the ticks after it. */
static uint64_t sleep_or_not(struct linux_loop *loop, uint64_t now) {
    linux_ring_sleeps(loop, true);
    atomic_store(&loop->asleep, 1);
    tell_sleep(loop, true);
    struct host_turn turn = run_turn(loop);
    linux_ring_sleeps(loop, true); /* that turn may have submitted the first request in a while */
    if (turn.worked || turn.deadline_ns == 0 || has_own_work(loop) || atomic_load(&loop->asleep) == 0) {
        atomic_store(&loop->asleep, 0);
        linux_ring_sleeps(loop, false);
        tell_sleep(loop, false);
        return account(loop, now, turn.worked);
    }
    counter_add(&loop->sleeps, 1);
    block(loop, turn.deadline_ns);
    atomic_store(&loop->asleep, 0);
    linux_ring_sleeps(loop, false);
    uint64_t woken = loop_ticks(loop);
    spin_slept(&loop->spin, woken, woken - now);
    /* First what woke us, then what it takes to be awake. */
    turn = run_turn(loop);
    tell_sleep(loop, false);
    return account(loop, woken, turn.worked);
}

static void turn_until_stopped(struct linux_loop *loop) {
    enum host_poll_mode mode = loop->options.poll_mode;
    uint64_t now = loop_ticks(loop);
    spin_init(&loop->spin, loop->host->base.ticks_per_second, now, 0);
    loop->schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    sample_switches(loop, now);
    bool spun = false; /* the last turn found nothing, and no sleep came after it */
    while (!atomic_load_explicit(&loop->stop, memory_order_relaxed)) {
        struct host_turn turn = run_turn(loop);
        uint64_t before = now;
        now = account(loop, before, turn.worked);
        if (turn.worked) {
            if (spun)
                spin_paid(&loop->spin);
            spun = false;
            continue;
        }
        if (spin_wants_sample(&loop->spin, now))
            sample_switches(loop, now);
        if (mode == HOST_POLL_ALWAYS || turn.deadline_ns == 0 || (mode == HOST_POLL_ADAPTIVE && spin_may(&loop->spin, now))) {
            cpu_relax();
            spun = true;
            continue;
        }
        now = sleep_or_not(loop, now);
        spun = false;
    }
    if (loop->schedstat_fd >= 0)
        close(loop->schedstat_fd);
}

void host_linux_loop_run(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    assert(!loop->started);
    atomic_store(&loop->stop, false);
    turn_until_stopped(loop);
}

static void *loop_main(void *arg) {
    struct linux_loop *loop = arg;
    pthread_mutex_lock(&loop->lock);
    if (loop->options.launcher != NULL) /* which does not tell */
        loop->thread = pthread_self();
    loop->running = true;
    pthread_mutex_unlock(&loop->lock);
    pthread_setname_np(pthread_self(), loop->name);
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    turn_until_stopped(loop);
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    pthread_mutex_lock(&loop->lock);
    loop->cpu_ns_at_end = (uint64_t)cpu.tv_sec * NS_PER_S + (uint64_t)cpu.tv_nsec;
    loop->running = false;
    pthread_mutex_unlock(&loop->lock);
    return NULL;
}

/* ---- life ---- */

/* The cores this process may use: an absent one is the caller's mistake, not a reason to run elsewhere. */
static bool cpu_is_present(int cpu) {
    cpu_set_t allowed;
    return cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_ISSET((size_t)cpu, &allowed);
}

int linux_loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop) {
    if (options->cpu >= 0 && !cpu_is_present(options->cpu))
        return -EINVAL;
    struct linux_loop *loop = aligned_alloc(64, round_up(sizeof(*loop), 64));
    if (loop == NULL)
        return -ENOMEM;
    memset(loop, 0, sizeof(*loop));
    loop->base.host = host;
    loop->host = (struct linux_host *)host;
    loop->options = *options;
    snprintf(loop->name, sizeof(loop->name), "%s", options->name);
    loop->options.name = loop->name;
    queue_init(&loop->sync);
    pthread_mutex_init(&loop->lock, NULL);
    spin_init(&loop->spin, host->ticks_per_second, host_ticks(host), 0);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int result = loop->epoll_fd < 0 || loop->wake.fd < 0 ? -errno : linux_loop_watch(loop, &loop->wake, EPOLLIN | EPOLLET);
    if (result != 0) {
        linux_loop_destroy(&loop->base);
        return result;
    }
    *ret_loop = &loop->base;
    return 0;
}

static int start_thread(struct linux_loop *loop) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (loop->options.cpu >= 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((size_t)loop->options.cpu, &one);
        pthread_attr_setaffinity_np(&attributes, sizeof(one), &one);
    }
    int result = -pthread_create(&loop->thread, &attributes, loop_main, loop);
    pthread_attr_destroy(&attributes);
    return result;
}

int linux_loop_start(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    struct host_launcher *launcher = loop->options.launcher;
    assert(!loop->started);
    pthread_mutex_lock(&loop->lock); /* the thread takes it before it says anything */
    loop->started_ticks = loop_ticks(loop);
    atomic_store(&loop->stop, false); /* that of host_linux_loop_run() */
    int result = launcher != NULL ? launcher->launch(launcher, loop_main, loop) : start_thread(loop);
    loop->started = result == 0;
    pthread_mutex_unlock(&loop->lock);
    return result;
}

void linux_loop_stop(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    atomic_store(&loop->stop, true);
    linux_loop_wake(base);
}

void host_linux_loop_wait(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    if (!loop->started || loop->joined)
        return;
    if (loop->options.launcher != NULL) {
        loop->options.launcher->wait(loop->options.launcher);
    } else {
        assert(!pthread_equal(pthread_self(), loop->thread));
        pthread_join(loop->thread, NULL);
    }
    loop->joined = true;
}

void linux_loop_destroy(struct host_loop *base) {
    struct linux_loop *loop = (struct linux_loop *)base;
    linux_loop_stop(base);
    host_linux_loop_wait(base);
    /* Jobs cannot be cancelled; those still running end before their loop goes, and nobody hears of them. */
    while (atomic_load(&loop->in_pool) != 0) {
        struct timespec pause = {.tv_nsec = 100000};
        nanosleep(&pause, NULL);
    }
    linux_signals_unwatch(loop);
    linux_watchdog_end(loop);
    linux_ring_destroy(loop);
    if (loop->wake.fd >= 0)
        close(loop->wake.fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static uint64_t ticks_to_ns(const struct linux_loop *loop, uint64_t ticks) {
    return (uint64_t)((unsigned __int128)ticks * NS_PER_S / loop->host->base.ticks_per_second);
}

void linux_loop_stats(struct host_loop *base, struct host_loop_stats *ret_stats) {
    struct linux_loop *loop = (struct linux_loop *)base;
    struct host_loop_stats stats = {
        .turns = atomic_load_explicit(&loop->turns, memory_order_relaxed),
        .sleeps = atomic_load_explicit(&loop->sleeps, memory_order_relaxed),
        .involuntary_switches = atomic_load_explicit(&loop->switches, memory_order_relaxed),
        .asleep = atomic_load_explicit(&loop->asleep, memory_order_relaxed) != 0,
    };
    pthread_mutex_lock(&loop->lock);
    if (loop->started) {
        stats.busy_ns = ticks_to_ns(loop, atomic_load_explicit(&loop->busy_ticks, memory_order_relaxed));
        uint64_t all_ns = ticks_to_ns(loop, loop_ticks(loop) - loop->started_ticks);
        stats.idle_ns = all_ns > stats.busy_ns ? all_ns - stats.busy_ns : 0;
        clockid_t clock;
        struct timespec cpu;
        if (!loop->running)
            stats.cpu_ns = loop->cpu_ns_at_end;
        else if (pthread_getcpuclockid(loop->thread, &clock) == 0 && clock_gettime(clock, &cpu) == 0)
            stats.cpu_ns = (uint64_t)cpu.tv_sec * NS_PER_S + (uint64_t)cpu.tv_nsec;
    }
    pthread_mutex_unlock(&loop->lock);
    *ret_stats = stats;
}
