/* Each allocation of the target and of the initiator fails once while they meet: nothing crashes, nothing leaks, and the next
 * attempt works. */
#include "workload.h"

#define NQN "nqn.2026-01.org.penstock:no-memory"
#define BLOCKS 32
#define DISK_BYTES (BLOCKS * WORKLOAD_BLOCK)

/* A reactor that gets no memory for its timers stops the process on purpose (reactor/timer.c): so it has that already. */
static void warm(struct plane *plane, void *arg) {
    struct reactor_timer timer = {.run = NULL};
    (void)plane;
    reactor_timer_start(arg, &timer, UINT64_MAX);
    reactor_timer_stop(arg, &timer);
}

static void warm_up(struct plane *plane) {
    plane_do_on(plane, plane->control, warm, plane->control);
    plane_do_on(plane, plane->data[0], warm, plane->data[0]);
    sim_run_for(plane->cluster->sim, 10 * NS_PER_MS);
}

/* One attach with I/O, during which the n-th allocation of one side fails. False if there was no n-th. */
static bool fails_at(uint64_t n, bool of_target) {
    struct cluster cluster;
    struct plane target, initiator;
    cluster_init(&cluster, n);
    plane_init(&target, &cluster, "target", "10.0.0.1", 1);
    plane_init(&initiator, &cluster, "initiator", "10.0.0.2", 1);
    plane_start(&target, NULL);
    plane_add_memory(&target, "disk", DISK_BYTES);
    plane_serve(&target, NQN, "disk");
    struct nvme_initiator_options options;
    plane_initiator_options(&options);
    plane_start(&initiator, &options);
    warm_up(&target);
    warm_up(&initiator);
    struct heap *heap = of_target ? &target.heap : &initiator.heap;
    heap->fail_at = heap->allocations + n;
    struct error error = {0};
    bool attached = plane_try_attach(&initiator, "remote", &target, NQN, &error);
    if (!attached)
        assert_int_not_equal(error.code, ERROR_NONE);
    bool failed = heap->failed > 0;
    heap->fail_at = 0;
    sim_run_for(cluster.sim, 5 * NS_PER_S);
    if (attached && !plane_has(&initiator, "remoten1")) { /* the controller is there, its device had no memory */
        plane_detach(&initiator, "remote");
        attached = false;
    }
    if (!attached)
        plane_attach(&initiator, "remote", &target, NQN);
    struct workload *workload = plain_alloc(sizeof(*workload));
    workload_init(workload, &initiator, "remoten1", BLOCKS, 4, (uint32_t)n);
    workload_start(workload, 200);
    cluster_wait(&cluster, workload_is_done, workload, 600 * NS_PER_S, "200 requests");
    workload_stop(workload, 600 * NS_PER_S);
    assert_int_equal(workload->failed, 0);
    workload_verify(workload);
    workload_fini(workload);
    plain_free(workload);
    plane_exit(&initiator);
    plane_exit(&target);
    cluster_fini(&cluster);
    return failed;
}

static void each_allocation_of(bool of_target) {
    uint64_t n = 1;
    while (fails_at(n, of_target))
        n++;
    print_message("%llu allocations\n", (unsigned long long)n - 1);
    assert_true(n > 5);
}

static void each_allocation_of_the_target_may_fail(void **state) {
    (void)state;
    each_allocation_of(true);
}

static void each_allocation_of_the_initiator_may_fail(void **state) {
    (void)state;
    each_allocation_of(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_of_the_target_may_fail),
        cmocka_unit_test(each_allocation_of_the_initiator_may_fail),
    };
    return cmocka_run_group_tests_name("target and initiator without memory", tests, NULL, NULL);
}
