/* The simulated world itself: one seed, one run; virtual time, clocks, deaths in the middle of a turn, ends of runs. */
#include "sim_rig.h"

#include <stdlib.h>

#include "base/random.h"

/* ---- one seed, one run ---- */

static bool is_closed(void *arg) { return ((struct peer *)arg)->closed; }
static bool is_connected(void *arg) { return ((struct peer *)arg)->connected; }
static void go(struct actor *actor, void *arg) {
    (void)actor;
    peer_go(arg);
}

/* Network, disk, a job (the open), a kill and a power cut: everything that draws. */
static uint64_t story(uint64_t seed, uint64_t *ret_steps, uint64_t *ret_content) {
    struct rig one, two;
    rig_init(&one, seed);
    rig_join(&two, &one, "two", "10.0.0.2");
    struct sim_disk_options options;
    sim_disk_options_init(&options, 64 * 4096);
    struct sim_disk *disk = sim_disk_create(one.sim, &options);
    sim_node_attach(one.node, "/disk", disk);
    struct host_file *file = rig_open(&one, "disk", true);
    struct rig_io *ios[40];
    for (unsigned i = 0; i < 40; i++)
        ios[i] = rig_io_start(&one, file, i % 9 == 8 ? HOST_FILE_SYNC : HOST_FILE_WRITE, i % 9 == 8 ? 0 : i * 4096,
                              i % 9 == 8 ? 0 : 4096, (uint8_t)i);
    struct peer client, server;
    peer_init(&client, 65536);
    peer_init(&server, 65536);
    struct door door = {.peers = {&server}, .capacity = 1};
    door_open(&one.actor, &door, HOST_IPV4, "10.0.0.1", 0);
    peer_connect(&two.actor, &client, &door.address);
    actor_wait(&two.actor, is_connected, &client, "a connection");
    memset(client.out, 1, 65536);
    client.out_length = 65536;
    actor_do(&two.actor, go, &client);
    sim_run_for(one.sim, 100 * NS_PER_US);
    sim_process_kill(one.host, SIM_KILL_CLOSE);
    actor_wait(&two.actor, is_closed, &client, "the end of the stream");
    sim_trace(one.sim, "bytes that got through", server.in_length, 0);
    sim_node_power_off(one.node);
    sim_run_for(one.sim, NS_PER_S);
    uint64_t hash = sim_trace_hash(one.sim);
    *ret_steps = sim_steps(one.sim);
    *ret_content = sim_disk_hash(disk, SIM_VIEW_CURRENT);
    for (unsigned i = 0; i < 40; i++)
        rig_io_free(ios[i]);
    peer_fini(&client);
    peer_fini(&server);
    rig_fini(&one);
    return hash;
}

static void the_same_seed_gives_the_same_run(void **state) {
    (void)state;
    uint64_t hashes[30], different_content = 0, last_content = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        uint64_t steps[2], content[2];
        hashes[seed] = story(seed, &steps[0], &content[0]);
        void *moved = malloc(100000); /* addresses must not matter */
        assert_true(story(seed, &steps[1], &content[1]) == hashes[seed]);
        free(moved);
        assert_true(steps[0] == steps[1] && content[0] == content[1]);
        for (uint64_t other = 0; other < seed; other++)
            assert_true(hashes[other] != hashes[seed]);
        different_content += content[0] != last_content;
        last_content = content[0];
    }
    assert_true(different_content > 5);
}

/* ---- time ---- */

struct called {
    char order[8];
    unsigned count;
    struct one_call {
        struct called *called;
        char name;
    } each[4];
};

static void call(void *arg) {
    const struct one_call *each = arg;
    each->called->order[each->called->count++] = each->name;
}

static void simultaneous_calls_come_in_any_order(void **state) {
    (void)state;
    bool seen[24] = {0};
    unsigned orders = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct sim_options options;
        sim_options_init(&options, seed);
        struct sim *sim = sim_create(&options);
        struct called called = {.count = 0};
        for (unsigned i = 0; i < 4; i++) {
            called.each[i].called = &called;
            called.each[i].name = (char)('0' + i);
            sim_at(sim, 5 * NS_PER_S, call, &called.each[i]);
        }
        assert_int_equal(sim_run_until(sim, NULL, NULL, 0, 0), SIM_QUIET);
        assert_int_equal(called.count, 4);
        assert_true(sim_now_ns(sim) == 5 * NS_PER_S);
        unsigned index = 0;
        for (unsigned i = 0; i < 4; i++) {
            unsigned less = 0;
            for (unsigned j = i + 1; j < 4; j++)
                less += called.order[j] < called.order[i];
            index = index * (4 - i) + less;
        }
        orders += !seen[index];
        seen[index] = true;
        sim_destroy(sim);
    }
    assert_int_equal(orders, 24);
}

static bool never(void *arg) {
    (void)arg;
    return false;
}

static struct host_turn busy_turn(void *arg) {
    host_loop_poll(*(struct host_loop **)arg);
    return (struct host_turn){.worked = true};
}

static void a_run_that_gets_nowhere_says_how(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    sim_run_for(rig.sim, NS_PER_S);
    /* nothing is left to happen: a deadlock */
    assert_int_equal(sim_run_until(rig.sim, never, NULL, 10 * NS_PER_S, 0), SIM_QUIET);
    /* a loop that always has work: a livelock */
    struct host_loop *loop = NULL;
    struct host_loop_options options = {.name = "busy", .cpu = -1, .turn = busy_turn, .arg = &loop};
    assert_int_equal(host_loop_create(rig.host, &options, &loop), 0);
    assert_int_equal(host_loop_start(loop), 0);
    assert_int_equal(sim_run_until(rig.sim, never, NULL, 0, 1000), SIM_STEPS);
    uint64_t before = sim_now_ns(rig.sim);
    assert_int_equal(sim_run_until(rig.sim, never, NULL, NS_PER_MS, 0), SIM_TIMEOUT);
    assert_int_equal(sim_now_ns(rig.sim) - before, NS_PER_MS);
    struct host_loop_stats stats;
    host_loop_stats(loop, &stats);
    assert_true(stats.turns > 1000 && stats.busy_ns > 0 && stats.sleeps == 0);
    host_loop_stop(loop);
    host_loop_destroy(loop);
    rig_exit(&rig);
    rig_fini(&rig);
}

static void clocks_of_machines_differ_in_start_and_rate(void **state) {
    (void)state;
    struct rig one, two;
    rig_init(&one, 3);
    rig_join(&two, &one, "two", "10.0.0.2");
    sim_node_set_clock_rate(two.node, 100);
    uint64_t a = host_now_ns(one.host), b = host_now_ns(two.host);
    assert_true(a != b);
    sim_run_for(one.sim, 1000 * NS_PER_S);
    assert_int_equal(host_now_ns(one.host) - a, 1000 * NS_PER_S);
    uint64_t gone = host_now_ns(two.host) - b;
    assert_true(gone >= 1000 * NS_PER_S + 100 * NS_PER_MS - 2 && gone <= 1000 * NS_PER_S + 100 * NS_PER_MS + 2);
    sim_node_set_clock_rate(two.node, -500);
    uint64_t at = host_now_ns(two.host);
    assert_true(at - b - gone <= 2); /* the clock changed its rate, not its time */
    rig_fini(&one);
}

/* A deadline is of the node's own clock, never early by it. */
struct sleeper {
    struct host_loop *loop;
    struct host *host;
    uint64_t deadline_ns, late_ns;
    unsigned turns;
};

static struct host_turn sleep_turn(void *arg) {
    struct sleeper *sleeper = arg;
    host_loop_poll(sleeper->loop);
    uint64_t now = host_now_ns(sleeper->host);
    if (sleeper->turns++ > 0) {
        assert(now >= sleeper->deadline_ns);
        sleeper->late_ns = max_u64(sleeper->late_ns, now - sleeper->deadline_ns);
    }
    sleeper->deadline_ns = now + 777 * NS_PER_US;
    return (struct host_turn){.deadline_ns = sleeper->deadline_ns};
}

static void a_deadline_is_of_the_nodes_own_clock(void **state) {
    (void)state;
    const int32_t rates[] = {0, 300, -300, 50000};
    for (size_t i = 0; i < array_count(rates); i++) {
        struct rig rig;
        rig_init(&rig, i);
        sim_node_set_clock_rate(rig.node, rates[i]);
        struct sleeper sleeper = {.host = rig.host};
        struct host_loop_options options = {.name = "sleeper", .cpu = -1, .turn = sleep_turn, .arg = &sleeper};
        assert_int_equal(host_loop_create(rig.host, &options, &sleeper.loop), 0);
        assert_int_equal(host_loop_start(sleeper.loop), 0);
        sim_run_for(rig.sim, NS_PER_S);
        assert_in_range(sleeper.turns, 1100, 1400);
        assert_true(sleeper.late_ns < 10 * NS_PER_US);
        struct host_loop_stats stats;
        host_loop_stats(sleeper.loop, &stats);
        assert_true(stats.sleeps >= sleeper.turns - 1 && stats.idle_ns > 900 * NS_PER_MS);
        rig_fini(&rig);
    }
}

/* ---- deaths ---- */

static void kill_self(struct actor *actor, void *arg) {
    unsigned *reached = arg;
    *reached = 1;
    sim_process_kill(actor->fixture->host, SIM_KILL_CLOSE);
    *reached = 2;
}

static void job_done(struct host_job *job) {
    (void)job;
    assert(!"a dead process's job is not told");
}
static void job_nothing(struct host_job *job) { (void)job; }
static void job_submit(struct actor *actor, void *arg) { host_job_submit(actor->loop, arg); }

static void a_process_may_die_inside_its_turn(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct host_job job = {.run = job_nothing, .done = job_done};
        actor_do(&rig.actor, job_submit, &job);
        unsigned reached = 0;
        rig.actor.call = kill_self;
        rig.actor.arg = &reached;
        atomic_fetch_add(&rig.actor.asked, 1);
        host_loop_wake(rig.actor.loop);
        uint64_t turns = atomic_load(&rig.actor.turns);
        sim_run_for(rig.sim, NS_PER_S);
        assert_int_equal(reached, 1);
        assert_int_equal(atomic_load(&rig.actor.turns), turns);
        assert_int_equal(sim_node_kill_count(rig.node), 1);
        rig_restart(&rig);
        rig_exit(&rig);
        rig_fini(&rig);
    }
}

static void power_off_self(struct actor *actor, void *arg) {
    (void)actor;
    sim_node_power_off(arg);
    assert(!"the machine is off");
}

static void a_machine_may_lose_power_inside_a_turn(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    rig.actor.call = power_off_self;
    rig.actor.arg = rig.node;
    atomic_fetch_add(&rig.actor.asked, 1);
    host_loop_wake(rig.actor.loop);
    sim_run_for(rig.sim, NS_PER_S);
    assert_false(sim_node_is_on(rig.node));
    sim_node_power_on(rig.node);
    rig_restart(&rig);
    rig_exit(&rig);
    rig_fini(&rig);
}

static void nothing(struct actor *actor, void *arg) {
    (void)actor;
    (void)arg;
}

static void a_paused_process_does_nothing_and_keeps_all(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    struct sim_disk_options options;
    sim_disk_options_init(&options, 4096 * 16);
    sim_node_attach(rig.node, "/disk", sim_disk_create(rig.sim, &options));
    struct host_file *file = rig_open(&rig, "disk", true);
    struct rig_io *io = rig_io_start(&rig, file, HOST_FILE_WRITE, 0, 4096, 7);
    sim_process_pause(rig.host);
    uint64_t turns = atomic_load(&rig.actor.turns);
    sim_run_for(rig.sim, 10 * NS_PER_S);
    assert_int_equal(atomic_load(&rig.actor.turns), turns);
    assert_false(io->done);
    uint8_t byte = 0;
    sim_disk_peek(sim_node_disk(rig.node, "/disk"), SIM_VIEW_CURRENT, 0, &byte, 1);
    assert_int_equal(byte, 7); /* the disk went on */
    sim_process_resume(rig.host);
    rig_io_wait(&rig, io);
    assert_int_equal(io->request.result, 4096);
    actor_do(&rig.actor, nothing, NULL);
    rig_io_free(io);
    rig_fini(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_run),       cmocka_unit_test(simultaneous_calls_come_in_any_order),
        cmocka_unit_test(a_run_that_gets_nowhere_says_how),       cmocka_unit_test(clocks_of_machines_differ_in_start_and_rate),
        cmocka_unit_test(a_deadline_is_of_the_nodes_own_clock),   cmocka_unit_test(a_process_may_die_inside_its_turn),
        cmocka_unit_test(a_machine_may_lose_power_inside_a_turn), cmocka_unit_test(a_paused_process_does_nothing_and_keeps_all),
    };
    return cmocka_run_group_tests_name("host/sim: the world", tests, NULL, NULL);
}
