/* The loop on the simulated host: order, budgets, timers, messages, tasks, pools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "host/sim/sim.h"
#include "reactor/pool.h"
#include "reactor/reactor.h"
#include "reactor/task.h"

struct world {
    struct sim *sim;
    struct host *host;
    struct reactor *a, *b;
};

static int set_up(void **state) {
    static struct world world;
    struct sim_options options;
    sim_options_init(&options, 1);
    world.sim = sim_create(&options);
    world.host = sim_process_start(sim_node_create(world.sim, "n", "10.0.0.1"));
    struct reactor_options reactor = {.name = "a", .cpu = -1};
    assert_int_equal(reactor_create(world.host, &reactor, &world.a), 0);
    reactor.name = "b";
    reactor.index = 1;
    assert_int_equal(reactor_create(world.host, &reactor, &world.b), 0);
    assert_int_equal(reactor_start(world.a), 0);
    assert_int_equal(reactor_start(world.b), 0);
    *state = &world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    reactor_destroy(world->a);
    reactor_destroy(world->b);
    sim_process_exit(world->host);
    sim_destroy(world->sim);
    return 0;
}

struct note {
    struct reactor_job job;
    struct reactor_message message;
    struct reactor_timer timer;
    struct reactor *reactor;
    int *log, *length, value;
    uint64_t fired_ns;
    struct note *then;
};

static void write_down(struct note *note) {
    assert_ptr_equal(reactor_current(), note->reactor);
    note->log[(*note->length)++] = note->value;
    note->fired_ns = reactor_now_ns(note->reactor);
}
static void note_job(struct reactor_job *job) {
    struct note *note = container_of(job, struct note, job);
    write_down(note);
    if (note->then != NULL)
        reactor_defer(note->reactor, &note->then->job);
}
static void note_message(struct reactor_message *message) { write_down(container_of(message, struct note, message)); }
static void note_timer(struct reactor_timer *timer) { write_down(container_of(timer, struct note, timer)); }

static void notes_init(struct note *notes, int count, struct reactor *reactor, int *log, int *length) {
    for (int i = 0; i < count; i++)
        notes[i] = (struct note){.job.run = note_job,
                                 .message.run = note_message,
                                 .timer.run = note_timer,
                                 .reactor = reactor,
                                 .log = log,
                                 .length = length,
                                 .value = i};
}

static void jobs_run_in_order_and_late_ones_last(void **state) {
    struct world *world = *state;
    int log[8], length = 0;
    struct note notes[4];
    notes_init(notes, 4, world->a, log, &length);
    notes[0].then = &notes[2];
    reactor_enter(world->a);
    reactor_defer_late(world->a, &notes[3].job);
    reactor_defer(world->a, &notes[0].job);
    reactor_defer(world->a, &notes[1].job);
    reactor_enter(NULL);
    host_loop_wake(world->a->loop);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(length, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(log[i], i);
}

static void messages_keep_their_order_across_reactors(void **state) {
    struct world *world = *state;
    int log[32], length = 0;
    struct note notes[32];
    notes_init(notes, 32, world->b, log, &length);
    for (int i = 0; i < 32; i++)
        reactor_post(world->b, &notes[i].message);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(length, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(log[i], i);
}

/* Random starts, moves and stops against a plain array. */
static void timers_fire_in_order_of_deadline(void **state) {
    struct world *world = *state;
    enum { COUNT = 200 };
    static int log[COUNT * 4], length;
    static struct note notes[COUNT];
    struct random random;
    random_init(&random, 7);
    length = 0;
    notes_init(notes, COUNT, world->a, log, &length);
    reactor_enter(world->a);
    uint64_t now = reactor_now_ns(world->a);
    for (int i = 0; i < COUNT; i++)
        reactor_timer_start(world->a, &notes[i].timer, now + random_below(&random, 50) * NS_PER_MS);
    for (int i = 0; i < COUNT; i += 3)
        reactor_timer_stop(world->a, &notes[i].timer);
    for (int i = 0; i < COUNT; i += 5)
        reactor_timer_start(world->a, &notes[i].timer, now + 60 * NS_PER_MS + random_below(&random, 50) * NS_PER_MS);
    reactor_timer_stop(world->a, &notes[3].timer);
    reactor_enter(NULL);
    host_loop_wake(world->a->loop);
    sim_run_for(world->sim, NS_PER_S);
    int expected = 0;
    for (int i = 0; i < COUNT; i++) {
        bool armed = i % 5 == 0 || i % 3 != 0;
        expected += armed;
        if (armed)
            assert_true(notes[i].fired_ns >= notes[i].timer.deadline_ns);
        else
            assert_int_equal(notes[i].fired_ns, 0);
    }
    assert_int_equal(length, expected);
    for (int i = 1; i < length; i++)
        assert_true(notes[log[i - 1]].timer.deadline_ns <= notes[log[i]].timer.deadline_ns);
}

/* Never early, late by less than a tick, and a tick has one wake-up. */
static void coarse_timers_fire_together(void **state) {
    struct world *world = *state;
    enum { COUNT = 300, TICK_MS = 100, SPAN_MS = 1000 };
    static int log[COUNT], length;
    static struct note notes[COUNT];
    uint64_t due_ns[COUNT];
    struct random random;
    random_init(&random, 11);
    length = 0;
    notes_init(notes, COUNT, world->a, log, &length);
    reactor_enter(world->a);
    for (int i = 0; i < COUNT; i++) {
        due_ns[i] = reactor_now_ns(world->a) + random_below(&random, SPAN_MS * NS_PER_MS);
        reactor_timer_start_coarse(world->a, &notes[i].timer, due_ns[i], TICK_MS * NS_PER_MS);
    }
    reactor_enter(NULL);
    host_loop_wake(world->a->loop);
    sim_run_for(world->sim, 2 * NS_PER_S);
    assert_int_equal(length, COUNT);
    int wake_ups = 1;
    for (int i = 1; i < length; i++)
        wake_ups += notes[log[i]].fired_ns != notes[log[i - 1]].fired_ns;
    assert_in_range(wake_ups, 2, SPAN_MS / TICK_MS + 1);
    for (int i = 0; i < COUNT; i++)
        assert_in_range(notes[i].fired_ns, due_ns[i], due_ns[i] + TICK_MS * NS_PER_MS);
}

/* ---- tasks ---- */

enum { STEP_BEGIN, STEP_WAIT, STEP_UNDO, STEP_END };
static const char *const step_names[] = {"begin", "wait", "undo", "end"};
static const uint64_t step_moves[] = {[STEP_BEGIN] = TASK_MOVE(STEP_WAIT),
                                      [STEP_WAIT] = TASK_MOVE(STEP_UNDO) | TASK_MOVE(STEP_END),
                                      [STEP_UNDO] = TASK_MOVE(STEP_END),
                                      [STEP_END] = 0};

struct walk {
    struct task task;
    bool ready, undone, ended;
    unsigned waits;
};

static void walk_step(struct task *task) {
    struct walk *walk = container_of(task, struct walk, task);
    switch (task->state) {
    case STEP_BEGIN: task_move(task, STEP_WAIT); break;
    case STEP_WAIT:
        walk->waits++;
        if (task->expired)
            task_move(task, STEP_UNDO);
        else if (walk->ready)
            task_move(task, STEP_END);
        break;
    case STEP_UNDO:
        walk->undone = true;
        task_move(task, STEP_END);
        break;
    case STEP_END: task_end(task); break;
    default: fail();
    }
}
static void walk_end(struct task *task) { container_of(task, struct walk, task)->ended = true; }
static bool walk_holds(const struct task *task) { return task->state <= STEP_END; }

static const struct task_type walk_type = {.name = "walk",
                                           .state_names = step_names,
                                           .state_count = 4,
                                           .moves = step_moves,
                                           .step = walk_step,
                                           .end = walk_end,
                                           .invariant = walk_holds};

static void tasks_walk_their_states(void **state) {
    struct world *world = *state;
    struct walk woken, expiring;
    memset(&woken, 0, sizeof(woken));
    memset(&expiring, 0, sizeof(expiring));
    reactor_enter(world->a);
    task_start(&woken.task, &walk_type, world->a, STEP_BEGIN, UINT64_MAX);
    task_start(&expiring.task, &walk_type, world->a, STEP_BEGIN, reactor_now_ns(world->a) + 10 * NS_PER_MS);
    reactor_enter(NULL);
    host_loop_wake(world->a->loop);
    sim_run_for(world->sim, NS_PER_MS);
    assert_int_equal(woken.task.state, STEP_WAIT);
    assert_string_equal(task_state_name(&woken.task), "wait");
    assert_int_equal(woken.waits, 1);
    woken.ready = true;
    reactor_enter(world->a);
    task_wake(&woken.task);
    task_wake(&woken.task);
    reactor_enter(NULL);
    host_loop_wake(world->a->loop);
    sim_run_for(world->sim, NS_PER_S);
    assert_true(woken.ended && !woken.undone);
    assert_int_equal(woken.waits, 2);
    assert_true(expiring.ended && expiring.undone);
}

/* ---- memory ---- */

struct pool_guest {
    struct pool_waiter waiter;
    void *object;
};
static void pool_served(struct pool_waiter *waiter, void *take_object) {
    container_of(waiter, struct pool_guest, waiter)->object = take_object;
}

static void pools_serve_waiters_in_order(void **state) {
    (void)state;
    struct pool pool;
    pool_init(&pool, 100, 3);
    void *objects[3];
    for (int i = 0; i < 3; i++)
        assert_non_null(objects[i] = pool_take(&pool));
    assert_null(pool_take(&pool));
    struct pool_guest guests[2] = {{.waiter.ready = pool_served}, {.waiter.ready = pool_served}};
    pool_wait(&pool, &guests[0].waiter);
    pool_wait(&pool, &guests[1].waiter);
    pool_give(&pool, objects[0]);
    assert_ptr_equal(guests[0].object, objects[0]);
    assert_null(guests[1].object);
    assert_null(pool_take(&pool)); /* nobody passes those who wait */
    pool_give(&pool, objects[1]);
    assert_ptr_equal(guests[1].object, objects[1]);
    for (int i = 0; i < 3; i++)
        pool_give(&pool, objects[i]);
    pool_fini(&pool);
}

struct buffer_guest {
    struct buffer_waiter waiter;
    void *buffer;
};
static void buffer_served(struct buffer_waiter *waiter, void *take_buffer) {
    container_of(waiter, struct buffer_guest, waiter)->buffer = take_buffer;
}

static void buffers_stop_at_their_limit_and_serve_waiters(void **state) {
    (void)state;
    struct buffer_pool pool;
    buffer_pool_init(&pool, MIB(1) + KIB(256));
    char *large = buffer_take(&pool, MIB(1)), *small[64];
    assert_non_null(large);
    assert_int_equal((uintptr_t)large % BUFFER_ALIGNMENT, 0);
    memset(large, 1, MIB(1));
    for (int i = 0; i < 64; i++)
        assert_non_null(small[i] = buffer_take(&pool, 1));
    assert_null(buffer_take(&pool, 4096));
    struct buffer_guest first = {.waiter = {.size = MIB(1), .ready = buffer_served}},
                        second = {.waiter = {.size = 512, .ready = buffer_served}}, third = second;
    buffer_wait(&pool, &first.waiter);
    buffer_wait(&pool, &second.waiter);
    buffer_wait(&pool, &third.waiter);
    buffer_give(&pool, small[0], 1);
    assert_null(second.buffer); /* a small one does not pass a large one */
    buffer_wait_cancel(&pool, &third.waiter);
    buffer_give(&pool, large, MIB(1));
    assert_non_null(first.buffer);
    assert_non_null(second.buffer);
    assert_null(third.buffer);
    buffer_give(&pool, first.buffer, MIB(1));
    buffer_give(&pool, second.buffer, 512);
    for (int i = 1; i < 64; i++)
        buffer_give(&pool, small[i], 1);
    assert_int_equal(pool.in_use, 0);
    buffer_pool_fini(&pool);
}

/* Small buffers in every place of the limit, then large ones, and again: what was split must become whole. */
static void buffers_change_their_class(void **state) {
    (void)state;
    enum { SMALL = 3 * 256 };
    struct buffer_pool pool;
    void *small[SMALL], *large[3];
    buffer_pool_init(&pool, MIB(3));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SMALL; i++) {
            assert_non_null(small[i] = buffer_take(&pool, 4096));
            memset(small[i], (int)i, 4096);
        }
        assert_null(buffer_take(&pool, 4096));
        struct buffer_guest guest = {.waiter = {.size = MIB(1), .ready = buffer_served}};
        buffer_wait(&pool, &guest.waiter);
        for (unsigned i = 0; i < SMALL; i++) { /* scattered, the first MiB's last */
            unsigned at = (i * 7 + 256) % SMALL;
            buffer_give(&pool, small[at], 4096);
        }
        assert_non_null(large[0] = guest.buffer);
        for (unsigned i = 1; i < 3; i++)
            assert_non_null(large[i] = buffer_take(&pool, MIB(1)));
        assert_null(buffer_take(&pool, 1));
        assert_int_equal(pool.taken, MIB(3));
        for (unsigned i = 0; i < 3; i++) {
            memset(large[i], 0xee, MIB(1));
            buffer_give(&pool, large[i], MIB(1));
        }
        assert_int_equal(pool.in_use, 0);
    }
    buffer_pool_fini(&pool);
}

/* Any mix of sizes: no two lent buffers overlap, and everything comes back. */
static void buffers_never_overlap(void **state) {
    (void)state;
    enum { LENT = 200 };
    struct {
        char *buffer;
        size_t size;
    } lent[LENT] = {0};
    struct random random;
    struct buffer_pool pool;
    random_init(&random, 5);
    buffer_pool_init(&pool, MIB(5) + KIB(64));
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)random_below(&random, LENT);
        if (lent[i].buffer != NULL) {
            for (size_t at = 0; at < lent[i].size; at += 4096)
                assert_int_equal((unsigned char)lent[i].buffer[at], i);
            buffer_give(&pool, lent[i].buffer, lent[i].size);
            lent[i].buffer = NULL;
            continue;
        }
        lent[i].size = 1 + random_below(&random, KIB(4) << random_below(&random, BUFFER_CLASSES));
        lent[i].buffer = buffer_take(&pool, lent[i].size);
        for (size_t at = 0; lent[i].buffer != NULL && at < lent[i].size; at += 4096)
            lent[i].buffer[at] = (char)i;
    }
    for (unsigned i = 0; i < LENT; i++)
        if (lent[i].buffer != NULL)
            buffer_give(&pool, lent[i].buffer, lent[i].size);
    assert_int_equal(pool.in_use, 0);
    void *whole[5];
    for (unsigned i = 0; i < 5; i++)
        assert_non_null(whole[i] = buffer_take(&pool, MIB(1)));
    for (unsigned i = 0; i < 5; i++)
        buffer_give(&pool, whole[i], MIB(1));
    buffer_pool_fini(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(jobs_run_in_order_and_late_ones_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_keep_their_order_across_reactors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(timers_fire_in_order_of_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(coarse_timers_fire_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tasks_walk_their_states, set_up, tear_down),
        cmocka_unit_test(pools_serve_waiters_in_order),
        cmocka_unit_test(buffers_stop_at_their_limit_and_serve_waiters),
        cmocka_unit_test(buffers_change_their_class),
        cmocka_unit_test(buffers_never_overlap),
    };
    return cmocka_run_group_tests_name("reactor", tests, NULL, NULL);
}
