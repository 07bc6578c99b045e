/* host/linux: when a loop spins and sleeps, waking it, deadlines, pinning, jobs, signals, readiness. */
#include "loop_fixture.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the spin policy, pure ---- */

enum { TICKS_PER_US = 3000 };
#define US(n) ((uint64_t)(n)*TICKS_PER_US)

static struct spin new_spin(uint64_t now) {
    struct spin spin;
    spin_init(&spin, (uint64_t)TICKS_PER_US * 1000000, now, 0);
    return spin;
}

static void spinning_ends_100_us_after_the_last_work(void **state) {
    (void)state;
    struct spin spin = new_spin(US(1000));
    assert_true(spin_may(&spin, US(1099)));
    assert_false(spin_may(&spin, US(1100)));
    spin_worked(&spin, US(2000));
    assert_true(spin_may(&spin, US(2099)));
    assert_false(spin_may(&spin, US(2100)));
}

/* The loop spins for `spin_us`, then sleeps for `sleep_us`; returns the time after it. */
static uint64_t pause_of(struct spin *spin, uint64_t now, uint64_t spin_us, uint64_t sleep_us) {
    spin_worked(spin, now);
    now += US(spin_us + sleep_us);
    spin_slept(spin, now, US(sleep_us));
    return now;
}

static void long_pauses_shorten_the_spin_and_short_ones_restore_it(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    uint64_t now = 0;
    for (int i = 0; i < 10; i++)
        now = pause_of(&spin, now, spin.window / TICKS_PER_US, 5000);
    assert_int_equal(spin.window, US(SPIN_MIN_US));
    assert_true(spin_may(&spin, now + US(SPIN_MIN_US) - 1));
    assert_false(spin_may(&spin, now + US(SPIN_MIN_US)));
    for (int i = 0; i < 4; i++) /* a longer spin would have caught these */
        now = pause_of(&spin, now, spin.window / TICKS_PER_US, 5);
    assert_int_equal(spin.window, US(80 < SPIN_MAX_US ? SPIN_MAX_US : 80));
}

/* A peer on our core can only run when we sleep: each time, work comes just after a whole spin. */
static void a_spin_that_keeps_its_peer_away_is_given_up(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    uint64_t now = pause_of(&spin, 0, SPIN_MAX_US, 20);
    assert_true(spin_may(&spin, now)); /* once may be chance */
    now = pause_of(&spin, now, SPIN_MAX_US, 20);
    spin_worked(&spin, now);
    assert_false(spin_may(&spin, now));
    /* While it does not spin, short sleeps are no further sign: it tries again, and gives up for longer. */
    uint64_t until = spin.contended_until;
    assert_int_equal(until - now, US(SPIN_HOLD_MIN_US));
    while (now < until)
        now = pause_of(&spin, now, 0, 20);
    assert_int_equal(spin.contended_until, until);
    assert_true(spin_may(&spin, now));
    now = pause_of(&spin, now, SPIN_MAX_US, 20);
    now = pause_of(&spin, now, SPIN_MAX_US, 20);
    assert_int_equal(spin.contended_until - now, US(2 * SPIN_HOLD_MIN_US));
}

/* Work that comes after unrelated pauses is no sign of contention. */
static void chance_is_no_contention(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    uint64_t now = 0;
    for (int i = 0; i < 20; i++) {
        now = pause_of(&spin, now, SPIN_MAX_US, 20);
        now = pause_of(&spin, now, SPIN_MAX_US, 400);
        now = pause_of(&spin, now, 5, 0);
    }
    assert_int_equal(spin.contended_until, 0);
}

static void a_contended_core_is_not_spun_on(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    assert_false(spin_wants_sample(&spin, US(SPIN_SAMPLE_US) - 1));
    assert_true(spin_wants_sample(&spin, US(SPIN_SAMPLE_US)));
    spin_sample(&spin, US(50), 0, SPIN_WAIT_UNKNOWN);
    assert_true(spin_may(&spin, US(51)));
    spin_sample(&spin, US(100), 1, SPIN_WAIT_UNKNOWN);
    spin_worked(&spin, US(101));
    assert_false(spin_may(&spin, US(102))); /* at once */
    uint64_t again = US(100 + SPIN_HOLD_MIN_US);
    spin_worked(&spin, again);
    assert_true(spin_may(&spin, again));
    /* The neighbour is still there: twice as long each time, up to the limit. */
    uint64_t now = again;
    for (unsigned i = 2; i < 20; i++) {
        spin_sample(&spin, now, i, SPIN_WAIT_UNKNOWN);
        assert_true(spin.contended_until - now == min_u64(US(SPIN_HOLD_MIN_US) << (i - 1), US(SPIN_HOLD_MAX_US)));
        now = spin.contended_until;
    }
    /* Gone for long: the next rise starts small. */
    now += US(10 * SPIN_HOLD_MAX_US);
    spin_sample(&spin, now, 100, SPIN_WAIT_UNKNOWN);
    assert_int_equal(spin.contended_until - now, US(SPIN_HOLD_MIN_US));
}

/* Kernel threads take the core for microseconds; a neighbour, for a good part of the time. */
static void a_core_that_is_soon_back_is_not_contended(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    uint64_t now = 0, waited = 0;
    for (unsigned i = 1; i < 1000; i++) {
        now += US(100);
        waited += US(5);
        spin_sample(&spin, now, i, waited);
        assert_int_equal(spin.contended_until, 0);
    }
    spin_sample(&spin, now += US(100), 1000, waited += US(60)); /* once, but more than half of the time */
    assert_int_equal(spin.contended_until, now + US(SPIN_HOLD_MIN_US));
    spin_sample(&spin, now += US(100000), 1001, waited += US(6000)); /* much, but in a long time */
    assert_true(spin.contended_until < now);
    spin_sample(&spin, now += US(6000), 1002, waited + US(3000)); /* half of it */
    assert_int_equal(spin.contended_until, now + US(SPIN_HOLD_MIN_US));
}

static void a_spin_that_paid_clears_its_peer(void **state) {
    (void)state;
    struct spin spin = new_spin(0);
    uint64_t now = 0;
    for (int i = 0; i < 20; i++) { /* a slow answer now and then */
        now = pause_of(&spin, now, SPIN_MAX_US, 20);
        spin_worked(&spin, now += US(60));
        spin_paid(&spin);
    }
    assert_int_equal(spin.contended_until, 0);
}

/* ---- clocks ---- */

static void ticks_agree_with_the_clock(void **state) {
    (void)state;
    struct host *host = make_host(false);
    /* Bracketed, so that being preempted between the readings widens the bounds rather than failing. */
    uint64_t ns0 = host_now_ns(host), ticks0 = host_ticks(host), ns1 = host_now_ns(host);
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    uint64_t ns2 = host_now_ns(host), ticks1 = host_ticks(host), ns3 = host_now_ns(host);
    double seconds = (double)(ticks1 - ticks0) / (double)host->ticks_per_second;
    assert_true(seconds * 1e9 > (double)(ns2 - ns1) * 0.95 - 1e6);
    assert_true(seconds * 1e9 < (double)(ns3 - ns0) * 1.05);
    uint64_t a = 0, b = 0;
    host_random(host, &a, sizeof(a));
    host_random(host, &b, sizeof(b));
    assert_true(a != b);
    assert_true(host_wall_ns(host) > UINT64_C(1600000000) * NS_PER_S);
    host_linux_destroy(host);
}

/* ---- life and pinning ---- */

static void an_absent_core_is_an_error(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct host_loop_options options = {.name = "x", .cpu = CPU_SETSIZE - 1};
    struct host_loop *loop = NULL;
    assert_int_equal(host_loop_create(host, &options, &loop), -EINVAL);
    options.cpu = CPU_SETSIZE + 7;
    assert_int_equal(host_loop_create(host, &options, &loop), -EINVAL);
    assert_null(loop);
    host_linux_destroy(host);
}

static void note_affinity(void *arg) {
    cpu_set_t *set = arg;
    assert_int_equal(sched_getaffinity(0, sizeof(*set), set), 0);
}

static void a_pinned_loop_runs_on_its_core(void **state) {
    (void)state;
    struct host *host = make_host(false);
    cpu_set_t all, seen;
    sched_getaffinity(0, sizeof(all), &all);
    int cpu = 0;
    while (!CPU_ISSET((size_t)cpu, &all))
        cpu++;
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ADAPTIVE, cpu);
    loop_fixture_run(&fixture, note_affinity, &seen);
    assert_int_equal(CPU_COUNT(&seen), 1);
    assert_true(CPU_ISSET((size_t)cpu, &seen));
    loop_fixture_stop(&fixture);
    host_linux_destroy(host);
}

static void a_loop_that_never_started_can_go(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct loop_fixture fixture;
    struct host_loop_options options = {.name = "a name too long for a thread", .cpu = -1, .arg = &fixture};
    struct host_loop *loop;
    assert_int_equal(host_loop_create(host, &options, &loop), 0);
    struct host_loop_stats stats;
    host_loop_stats(loop, &stats);
    assert_int_equal(stats.turns, 0);
    host_loop_destroy(loop);
    host_linux_destroy(host);
}

/* ---- sleeping and waking ---- */

static void wait_asleep(struct host_loop *loop) {
    struct host_loop_stats stats;
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < 60000; i++, nanosleep(&pause, NULL)) {
        host_loop_stats(loop, &stats);
        if (stats.asleep && stats.sleeps > 0)
            return;
    }
    fail_msg("the loop does not go to sleep");
}

static void nothing_to_do_sleeps_and_a_wake_up_ends_it(void **state) {
    (void)state;
    static const enum host_poll_mode modes[] = {HOST_POLL_ADAPTIVE, HOST_POLL_NEVER};
    for (size_t i = 0; i < array_count(modes); i++) {
        struct host *host = make_host(false);
        struct loop_fixture fixture;
        loop_fixture_start(&fixture, host, modes[i], -1);
        cpu_set_t ignored;
        for (int round = 0; round < 20; round++) {
            wait_asleep(fixture.loop);
            loop_fixture_run(&fixture, note_affinity, &ignored);
        }
        struct host_loop_stats stats;
        host_loop_stats(fixture.loop, &stats);
        assert_true(stats.sleeps >= 20);
        assert_true(stats.busy_ns > 0 && stats.idle_ns > 0 && stats.cpu_ns > 0);
        loop_fixture_stop(&fixture);
        host_linux_destroy(host);
    }
}

static void poll_always_never_sleeps(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ALWAYS, -1);
    struct timespec pause = {.tv_nsec = 5000000};
    struct host_loop_stats stats = {0};
    for (int i = 0; i < 12000 && stats.turns < 1000; i++) {
        nanosleep(&pause, NULL);
        host_loop_stats(fixture.loop, &stats);
    }
    assert_true(stats.turns >= 1000);
    assert_int_equal(stats.sleeps, 0);
    loop_fixture_stop(&fixture);
    host_linux_destroy(host);
}

struct deadlines {
    struct host *host;
    struct host_loop *loop;
    uint64_t next_ns;
    unsigned met, early;
    sem_t done;
};

static struct host_turn deadline_turn(void *arg) {
    struct deadlines *d = arg;
    host_loop_poll(d->loop);
    uint64_t now = host_now_ns(d->host);
    if (now < d->next_ns) {
        d->early++;
        return (struct host_turn){.deadline_ns = d->next_ns};
    }
    if (++d->met == 50)
        sem_post(&d->done);
    d->next_ns = d->met >= 50 ? UINT64_MAX : now + 300000;
    return (struct host_turn){.worked = true, .deadline_ns = d->next_ns};
}

/* Nobody wakes this loop: only its deadlines bring it on. */
static void deadlines_end_a_sleep(void **state) {
    (void)state;
    for (int coarse = 0; coarse < 2; coarse++) {
        struct deadlines d = {.host = make_host(false)};
        sem_init(&d.done, 0, 0);
        struct host_loop_options options = {
            .name = "deadline", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .turn = deadline_turn, .arg = &d};
        assert_int_equal(host_loop_create(d.host, &options, &d.loop), 0);
        ((struct linux_loop *)d.loop)->coarse_timeouts = coarse; /* as before Linux 5.11 */
        assert_int_equal(host_loop_start(d.loop), 0);
        wait_for(&d.done);
        struct host_loop_stats stats;
        host_loop_stats(d.loop, &stats);
        assert_true(stats.sleeps >= 25);
        host_loop_destroy(d.loop);
        assert_int_equal(d.met, 50);
        sem_destroy(&d.done);
        host_linux_destroy(d.host);
    }
}

/* ---- no wake-up is ever lost ---- */

/* A sender whose message was found before it came to waking: its wake-up arrives between the announcement of the sleep and the
 * turn's look at epoll. */
struct late {
    struct host_loop *loop;
    struct watch watch;
    bool announced, woke;
    _Atomic bool asked;
    sem_t late, answered;
};

static void late_announced(void *arg, bool asleep) { ((struct late *)arg)->announced = asleep; }

static void late_ready(struct watch *watch, uint32_t events) { (void)watch, (void)events; }

static struct host_turn late_turn(void *arg) {
    struct late *late = arg;
    bool now = late->announced && !late->woke;
    if (now) {
        late->woke = true;
        host_loop_wake(late->loop);
        ((struct linux_loop *)late->loop)->epoll_hot_until = UINT64_MAX; /* it is looked at in this turn */
    }
    host_loop_poll(late->loop);
    if (now)
        sem_post(&late->late);
    bool answers = atomic_exchange(&late->asked, false);
    if (answers)
        sem_post(&late->answered);
    return (struct host_turn){.worked = answers, .deadline_ns = UINT64_MAX};
}

static void a_late_wake_up_costs_no_later_one(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct late late = {.watch = {.fd = eventfd(0, EFD_CLOEXEC), .fire = late_ready}};
    sem_init(&late.late, 0, 0);
    sem_init(&late.answered, 0, 0);
    struct host_loop_options options = {
        .name = "late", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .turn = late_turn, .sleeps = late_announced, .arg = &late};
    assert_int_equal(host_loop_create(host, &options, &late.loop), 0);
    assert_int_equal(linux_loop_watch((struct linux_loop *)late.loop, &late.watch, EPOLLIN), 0);
    assert_int_equal(host_loop_start(late.loop), 0);
    wait_for(&late.late);
    for (int round = 0; round < 3; round++) {
        atomic_store(&late.asked, true);
        host_loop_wake(late.loop);
        wait_for(&late.answered);
    }
    host_loop_stop(late.loop);
    host_linux_loop_wait(late.loop);
    linux_loop_unwatch((struct linux_loop *)late.loop, &late.watch);
    host_loop_destroy(late.loop);
    close(late.watch.fd);
    sem_destroy(&late.late);
    sem_destroy(&late.answered);
    host_linux_destroy(host);
}

enum { SENDERS = 3, MESSAGES = 4000 };
struct message {
    struct message *next;
};
struct inbox {
    struct host_loop *loop;
    _Atomic(struct message *) newest;
    unsigned received;
    sem_t all, each;
};

static struct host_turn inbox_turn(void *arg) {
    struct inbox *inbox = arg;
    host_loop_poll(inbox->loop);
    unsigned count = 0;
    for (struct message *m = atomic_exchange(&inbox->newest, NULL); m != NULL; m = m->next)
        count++;
    inbox->received += count;
    if (count > 0 && inbox->received == SENDERS * MESSAGES)
        sem_post(&inbox->all);
    return (struct host_turn){.worked = count > 0, .deadline_ns = UINT64_MAX};
}

struct sender {
    struct inbox *inbox;
    struct message messages[MESSAGES];
};

static void *send_messages(void *arg) {
    struct sender *sender = arg;
    for (int i = 0; i < MESSAGES; i++) {
        struct message *m = &sender->messages[i];
        m->next = atomic_load(&sender->inbox->newest);
        while (!atomic_compare_exchange_weak(&sender->inbox->newest, &m->next, m))
            ;
        host_loop_wake(sender->inbox->loop);
        if (i % 7 == 0)
            sched_yield(); /* let the loop fall asleep now and then */
    }
    return NULL;
}

static void no_wake_up_is_lost(void **state) {
    (void)state;
    static struct sender senders[SENDERS];
    static const enum host_poll_mode modes[] = {HOST_POLL_NEVER, HOST_POLL_ADAPTIVE};
    for (size_t mode = 0; mode < array_count(modes); mode++) {
        struct host *host = make_host(false);
        struct inbox inbox = {0};
        sem_init(&inbox.all, 0, 0);
        struct host_loop_options options = {
            .name = "inbox", .cpu = -1, .poll_mode = modes[mode], .turn = inbox_turn, .arg = &inbox};
        assert_int_equal(host_loop_create(host, &options, &inbox.loop), 0);
        assert_int_equal(host_loop_start(inbox.loop), 0);
        pthread_t threads[SENDERS];
        for (int i = 0; i < SENDERS; i++) {
            senders[i].inbox = &inbox;
            pthread_create(&threads[i], NULL, send_messages, &senders[i]);
        }
        wait_for(&inbox.all);
        for (int i = 0; i < SENDERS; i++)
            pthread_join(threads[i], NULL);
        host_loop_destroy(inbox.loop);
        assert_int_equal(inbox.received, SENDERS * MESSAGES);
        sem_destroy(&inbox.all);
        host_linux_destroy(host);
    }
}

/* ---- jobs ---- */

struct test_job {
    struct host_job job;
    struct loop_fixture *fixture;
    pthread_t ran_in, done_in;
    bool ran;
    sem_t *all_done;
    _Atomic unsigned *left;
};

static void job_runs(struct host_job *job) {
    struct test_job *t = container_of(job, struct test_job, job);
    t->ran_in = pthread_self();
    t->ran = true;
}
static void job_is_done(struct host_job *job) {
    struct test_job *t = container_of(job, struct test_job, job);
    t->done_in = pthread_self();
    if (atomic_fetch_sub(t->left, 1) == 1)
        sem_post(t->all_done);
}
enum { JOBS = 100 };
static void submit_jobs(void *arg) {
    struct test_job *jobs = arg;
    for (int i = 0; i < JOBS; i++)
        host_job_submit(jobs[i].fixture->loop, &jobs[i].job);
    for (int i = 0; i < JOBS; i++)
        assert(jobs[i].done_in == 0); /* never inside submit */
}

static void jobs_run_elsewhere_and_end_on_the_loop(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ADAPTIVE, -1);
    static struct test_job jobs[JOBS];
    memset(jobs, 0, sizeof(jobs));
    sem_t all_done;
    sem_init(&all_done, 0, 0);
    _Atomic unsigned left = JOBS;
    for (int i = 0; i < JOBS; i++)
        jobs[i] = (struct test_job){
            .job = {.run = job_runs, .done = job_is_done}, .fixture = &fixture, .all_done = &all_done, .left = &left};
    loop_fixture_run(&fixture, submit_jobs, jobs);
    wait_for(&all_done);
    for (int i = 0; i < JOBS; i++) {
        assert_true(jobs[i].ran);
        assert_false(pthread_equal(jobs[i].ran_in, fixture.thread));
        assert_true(pthread_equal(jobs[i].done_in, fixture.thread));
    }
    assert_true(((struct linux_host *)host)->jobs.threads <= 4);
    loop_fixture_stop(&fixture);
    sem_destroy(&all_done);
    host_linux_destroy(host);
}

static void slow_job_runs(struct host_job *job) {
    struct timespec pause = {.tv_nsec = 30000000};
    nanosleep(&pause, NULL);
    container_of(job, struct test_job, job)->ran = true;
}
static void never_done(struct host_job *job) {
    (void)job;
    assert(!"its loop has gone");
}
static void submit_one(void *arg) {
    struct test_job *t = arg;
    host_job_submit(t->fixture->loop, &t->job);
}

static void a_loop_outlives_its_jobs(void **state) {
    (void)state;
    struct host *host = make_host(false);
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ADAPTIVE, -1);
    struct test_job t = {.job = {.run = slow_job_runs, .done = never_done}, .fixture = &fixture};
    loop_fixture_run(&fixture, submit_one, &t);
    loop_fixture_stop(&fixture);
    assert_true(t.ran);
    host_linux_destroy(host);
}

/* ---- signals and readiness ---- */

struct signalled {
    sem_t came;
    int numbers[2];
    unsigned count;
};
static void on_signal(void *arg, int number) {
    struct signalled *s = arg;
    if (s->count < 2)
        s->numbers[s->count++] = number;
    sem_post(&s->came);
}

struct signal_set_up {
    struct loop_fixture *fixture;
    struct signalled *signalled;
};
static void set_up_signals(void *arg) {
    struct signal_set_up *s = arg;
    int result = host_linux_watch_signals(s->fixture->loop, on_signal, s->signalled);
    assert(result == 0);
}

static void signals_arrive_on_the_loop(void **state) {
    (void)state;
    static const int numbers[] = {SIGUSR1, SIGUSR2, 0};
    struct host_linux_options options = {.signals = numbers};
    struct host *host;
    assert_int_equal(host_linux_create(&options, &host), 0);
    struct signalled s = {.count = 0};
    sem_init(&s.came, 0, 0);
    struct loop_fixture fixture;
    loop_fixture_start(&fixture, host, HOST_POLL_ADAPTIVE, -1);
    loop_fixture_run(&fixture, set_up_signals, &(struct signal_set_up){&fixture, &s});
    kill(getpid(), SIGUSR1);
    wait_for(&s.came);
    kill(getpid(), SIGUSR2);
    wait_for(&s.came);
    assert_int_equal(s.numbers[0], SIGUSR1);
    assert_int_equal(s.numbers[1], SIGUSR2);
    loop_fixture_stop(&fixture);
    sem_destroy(&s.came);
    host_linux_destroy(host);
}

static void readiness_is_told_where_asked(void **state) {
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(host_linux_notify("READY=1"), 0);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(host_linux_notify("READY=1"), -EINVAL);
    for (int abstract = 0; abstract < 2; abstract++) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        char name[64];
        snprintf(name, sizeof(name), "%s/tmp/penstock-notify-%d", abstract ? "@" : "", (int)getpid());
        memcpy(at.sun_path, name, strlen(name) + 1);
        if (abstract)
            at.sun_path[0] = '\0';
        setenv("NOTIFY_SOCKET", name, 1);
        unlink(name);
        assert_true(host_linux_notify("READY=1") < 0); /* nobody there */
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
        assert_int_equal(bind(fd, (struct sockaddr *)&at, length), 0);
        assert_int_equal(host_linux_notify("READY=1"), 0);
        char got[32] = "";
        assert_int_equal(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT), 7);
        assert_string_equal(got, "READY=1");
        close(fd);
        unlink(name);
    }
    unsetenv("NOTIFY_SOCKET");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spinning_ends_100_us_after_the_last_work),
        cmocka_unit_test(long_pauses_shorten_the_spin_and_short_ones_restore_it),
        cmocka_unit_test(a_spin_that_keeps_its_peer_away_is_given_up),
        cmocka_unit_test(chance_is_no_contention),
        cmocka_unit_test(a_contended_core_is_not_spun_on),
        cmocka_unit_test(a_core_that_is_soon_back_is_not_contended),
        cmocka_unit_test(a_spin_that_paid_clears_its_peer),
        cmocka_unit_test(ticks_agree_with_the_clock),
        cmocka_unit_test(an_absent_core_is_an_error),
        cmocka_unit_test(a_pinned_loop_runs_on_its_core),
        cmocka_unit_test(a_loop_that_never_started_can_go),
        cmocka_unit_test(nothing_to_do_sleeps_and_a_wake_up_ends_it),
        cmocka_unit_test(poll_always_never_sleeps),
        cmocka_unit_test(deadlines_end_a_sleep),
        cmocka_unit_test(a_late_wake_up_costs_no_later_one),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(jobs_run_elsewhere_and_end_on_the_loop),
        cmocka_unit_test(a_loop_outlives_its_jobs),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(readiness_is_told_where_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
