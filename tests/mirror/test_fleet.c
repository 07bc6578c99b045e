/* A mirror over real volumes on other nodes, and one of its own: single stories. What happens by chance: test_fleet_random.c. */
#include "fleet.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

static struct fleet *fleet_new(const struct fleet_options *options) {
    struct fleet *fleet = plain_alloc(sizeof(*fleet));
    fleet_init(fleet, options);
    return fleet;
}

static void fleet_free(struct fleet *fleet) {
    fleet_fini(fleet);
    plain_free(fleet);
}

/* A leg dies, the others go on, it returns and gets what changed meanwhile and nothing else. */
static void story(uint64_t seed, bool local, enum fleet_death death, unsigned victim) {
    struct fleet_options options = {
        .seed = seed, .storages = local ? 2 : 3, .engines = 1, .local = local, .policy = REPLICA_ANY, .depth = 8};
    struct fleet *fleet = fleet_new(&options);
    fleet_wait(fleet, fleet_stores_are_up, 10 * NS_PER_S, "the stores");
    struct fleet_node *engine = &fleet->nodes[options.storages];
    fleet_engine_up(engine, ++fleet->terms);
    fleet_wait(fleet, fleet_all_whole, 10 * NS_PER_S, "the first start");
    fleet_drive(fleet, 400, false);
    for (unsigned i = 0; i < 200 && mirror_of(engine->mirror)->regions.marked_count > 0; i++)
        fleet_run(fleet, 100 * NS_PER_MS);
    assert_int_equal(mirror_of(engine->mirror)->regions.marked_count, 0);
    fleet_node_die(&fleet->nodes[victim], death);
    /* two regions are written while it is away */
    assert_true(fleet_begin(engine, BLOCK_WRITE, 1, 2) && fleet_begin(engine, BLOCK_WRITE, 4 * FLEET_BLOCKS_A_REGION, 1));
    fleet_wait(fleet, fleet_is_idle, 2 * NS_PER_S, "a write without the leg");
    fleet_wait(fleet, fleet_has_two_members, 2 * NS_PER_S, "the change");
    assert_true(fleet->failures == 0);
    fleet_run(fleet, 300 * NS_PER_MS);
    fleet_node_up(&fleet->nodes[victim]);
    fleet_wait(fleet, fleet_all_whole, 70 * NS_PER_S, "its return");
    const struct mirror_leg *leg = NULL;
    for (unsigned i = 0; i < engine->leg_count; i++)
        if (engine->legs[i].node == &fleet->nodes[victim])
            leg = &mirror_of(engine->mirror)->legs[i];
    assert_int_equal(leg->told.bytes_copied, 3 * FLEET_BLOCK);
    assert_int_equal(leg->work_total, 2);
    fleet_drive(fleet, 200, false);
    assert_true(fleet->failures == 0);
    fleet_compare(fleet);
    fleet_free(fleet);
}

static void a_remote_leg_dies_and_gets_only_what_it_missed(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        story(seed, false, (enum fleet_death)(seed % 3), (unsigned)(seed % 2));
}

static void the_same_beside_a_local_leg(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        story(seed, true, (enum fleet_death)(seed % 3), (unsigned)(seed % 2));
}

int main(void) {
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_remote_leg_dies_and_gets_only_what_it_missed),
        cmocka_unit_test(the_same_beside_a_local_leg),
    };
    return cmocka_run_group_tests_name("a fleet", tests, NULL, NULL);
}
