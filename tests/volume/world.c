#include "world.h"

#include <stdlib.h>

static struct world *of_host(struct host *host) { return container_of(host, struct world, host); }
static struct world *of_loop(struct host_loop *loop) { return container_of(loop, struct world, loop); }

static uint64_t now_ns(struct host *host) { return of_host(host)->now_ns; }
static void random_bytes(struct host *host, void *to, size_t length) { random_fill(&of_host(host)->random, to, length); }

static int loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop) {
    struct world *world = of_host(host);
    assert(world->turn == NULL);
    world->turn = options->turn;
    world->turn_arg = options->arg;
    world->loop.host = host;
    *ret_loop = &world->loop;
    return 0;
}
static int loop_start(struct host_loop *loop) {
    (void)loop;
    return 0;
}
static void loop_nothing(struct host_loop *loop) { (void)loop; }
static void loop_stats(struct host_loop *loop, struct host_loop_stats *ret_stats) {
    (void)loop;
    *ret_stats = (struct host_loop_stats){0};
}

static unsigned loop_poll(struct host_loop *loop) {
    struct world *world = of_loop(loop);
    unsigned count = 0;
    while (world->jobs != NULL) {
        struct host_job *job = world->jobs;
        world->jobs = job->host_private[0];
        job->run(job);
        job->done(job);
        count++;
    }
    return count;
}

static void job_submit(struct host_loop *loop, struct host_job *job) {
    struct world *world = of_loop(loop);
    job->host_private[0] = world->jobs;
    world->jobs = job;
}

static void *memory_map(struct host *host, size_t bytes) {
    (void)host;
    void *memory = aligned_alloc(4096, round_up(bytes, 4096));
    return memory == NULL ? NULL : memset(memory, 0, bytes);
}
static void memory_unmap(struct host *host, void *memory, size_t bytes) {
    (void)host;
    (void)bytes;
    free(memory);
}

static const struct host_ops ops = {
    .memory_map = memory_map,
    .memory_unmap = memory_unmap,
    .now_ns = now_ns,
    .ticks = now_ns,
    .wall_ns = now_ns,
    .random = random_bytes,
    .loop_create = loop_create,
    .loop_start = loop_start,
    .loop_stop = loop_nothing,
    .loop_destroy = loop_nothing,
    .loop_poll = loop_poll,
    .loop_flush = loop_nothing,
    .loop_wake = loop_nothing,
    .loop_stats = loop_stats,
    .job_submit = job_submit,
};

void world_enter(struct world *world) {
    heap_enter(&world->heap);
    reactor_enter(world->reactor);
}

void world_leave(struct world *world) {
    (void)world;
    reactor_enter(NULL);
    heap_enter(NULL);
}

void world_init(struct world *world, uint64_t seed) {
    *world = (struct world){.host = {.ops = &ops, .ticks_per_second = NS_PER_S}, .now_ns = NS_PER_S};
    heap_init(&world->heap);
    random_init(&world->random, seed);
    heap_enter(&world->heap);
    struct reactor_options options = {.name = "world", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    if (reactor_create(&world->host, &options, &world->reactor) != 0 || reactor_start(world->reactor) != 0)
        abort();
    reactor_enter(world->reactor);
}

#define TIMERS 1000

void world_reserve_timers(struct world *world) {
    struct reactor_timer *timers = plain_alloc(TIMERS * sizeof(*timers));
    memset(timers, 0, TIMERS * sizeof(*timers));
    for (unsigned i = 0; i < TIMERS; i++)
        reactor_timer_start(world->reactor, &timers[i], UINT64_MAX);
    for (unsigned i = 0; i < TIMERS; i++)
        reactor_timer_stop(world->reactor, &timers[i]);
    plain_free(timers);
}

void world_crash(struct world *world) {
    world_leave(world);
    heap_drop(&world->heap);
}

void world_exit(struct world *world) {
    reactor_destroy(world->reactor);
    world_leave(world);
    assert(world->heap.live_bytes == 0 && list_empty(&world->heap.blocks));
}

/* One turn; the clock moves after one that found nothing to do, so that the caller adds to each moment what belongs there. False:
 * nothing is left to happen. */
static bool step(struct world *world, uint64_t until_ns) {
    heap_enter(&world->heap);
    struct host_turn result = world->turn(world->turn_arg);
    world->turns++;
    reactor_enter(world->reactor);
    if (result.worked || result.deadline_ns == 0 || world->jobs != NULL)
        return true;
    if (result.deadline_ns == UINT64_MAX || result.deadline_ns > until_ns)
        return false;
    if (result.deadline_ns > world->now_ns)
        world->now_ns = result.deadline_ns;
    return true;
}

static bool idle(const struct world *world) {
    struct reactor *reactor = world->reactor;
    return world->jobs == NULL && atomic_load(&reactor->inbox) == NULL && reactor->timers.count == 0 &&
           queue_empty(&reactor->ready) && queue_empty(&reactor->late);
}

bool world_run_until(struct world *world, bool (*condition)(void *arg), void *arg, uint64_t max_turns) {
    world_enter(world);
    for (uint64_t i = 0; i < max_turns; i++) {
        if (condition(arg))
            return true;
        if (!step(world, UINT64_MAX) && !condition(arg) && idle(world)) /* a condition may begin something new */
            return false;
    }
    return condition(arg);
}

void world_run_for(struct world *world, uint64_t for_ns) {
    world_enter(world);
    uint64_t until_ns = world->now_ns + for_ns;
    while (step(world, until_ns)) {
    }
    world->now_ns = until_ns;
    reactor_enter(world->reactor);
}
