/* Random lives of a mirror: I/O at depth, and faults drawn from the seed. After the faults everything must come back by itself,
 * every read must have shown what the promises allow, and the replicas must hold the same. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

struct life {
    unsigned disks;
    enum replica_policy policy;
    unsigned events; /* faults */
};

static void fault(struct world *world) {
    unsigned disk = (unsigned)random_below(&world->random, world->disk_count);
    struct replica_disk *d = &world->disks[disk];
    world->faults++;
    switch (random_below(&world->random, 17)) {
    case 0:
    case 1: world_break(world, disk); break;
    case 2:
    case 3:
        world_break(world, disk);
        world_mend(world, disk);
        break;
    case 4:
        d->hung = true;
        world_log(world, "%s hangs", d->name);
        break;
    case 5: world_cut(world, disk, true); break;
    case 6: world_cut(world, disk, false); break;
    case 7:
    case 8:
        world_engine_kill(world);
        world_engine_start(world);
        break;
    case 9:
        world_engine_kill(world);
        for (unsigned i = 0; i < world->disk_count; i++)
            world_cut(world, i, true);
        world_engine_start(world);
        break;
    case 10: d->fail_flush = true; break;
    case 11: d->full = !d->full; break;
    case 12: world_vanish(world, disk); break;
    case 13:
        world_vanish(world, disk);
        world_appear(world, disk);
        break;
    case 14: world_ask(world, MIRROR_REMOVE_LEG, disk); break;
    case 15: world_ask(world, MIRROR_ADD_LEG, disk); break;
    case 16: world_ask(world, MIRROR_INVALIDATE, disk); break;
    default: break;
    }
}

static void heal(struct world *world) {
    for (unsigned i = 0; i < world->disk_count; i++) {
        if (random_chance(&world->random, 1, 2))
            world_mend(world, i);
        if (random_chance(&world->random, 1, 2))
            world_appear(world, i);
        if (random_chance(&world->random, 1, 2))
            world->disks[i].hung = world->disks[i].full = false;
    }
    struct mirror_status status;
    world_status(world, &status);
    if (status.state == MIRROR_REFUSED) {
        world_tell(world);
        fail_msg("seed %llu: the start was refused", (unsigned long long)world->seed);
    }
    if (status.state == MIRROR_ENDED) {
        world_engine_kill(world);
        world_engine_start(world);
    }
}

static void live(uint64_t seed, const struct life *life) {
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, seed, life->disks, life->policy);
    world_engine_start(world);
    for (unsigned event = 0; event < life->events; event++) {
        unsigned rounds = (unsigned)random_below(&world->random, 60) + 1;
        for (unsigned i = 0; i < rounds; i++) {
            world_begin_any(world);
            bool long_one = random_chance(&world->random, 1, 12);
            world_run(world, long_one ? 6 * NS_PER_MS : 30 * NS_PER_US, (unsigned)random_below(&world->random, 24));
        }
        if (random_chance(&world->random, 1, 2))
            fault(world);
        else
            heal(world);
    }
    world_settle(world);
    world_fini(world);
    plain_free(world);
}

static uint64_t first_seed = 1, seeds = 80;
static const uint64_t failed_once[] = {161, 182, 257, 321, 361, 470}; /* lived whatever is asked for */

static void lives(unsigned disks, enum replica_policy policy) {
    const struct life life = {disks, policy, 40};
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
        live(seed, &life);
    for (size_t i = 0; i < array_count(failed_once); i++)
        live(failed_once[i], &life);
}

static void two_legs(void **state) {
    (void)state;
    lives(2, REPLICA_ANY);
}

static void three_legs(void **state) {
    (void)state;
    lives(3, REPLICA_ANY);
}

static void three_legs_by_majority(void **state) {
    (void)state;
    lives(3, REPLICA_MAJORITY);
}

int main(int argc, char **argv) {
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_legs),
        cmocka_unit_test(three_legs),
        cmocka_unit_test(three_legs_by_majority),
    };
    return cmocka_run_group_tests_name("random lives of a mirror", tests, NULL, NULL);
}
