/* The contract's cases on host/sim, each over many seeds: what the contract leaves open comes out differently each time. */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>

#include "host/sim/sim.h"

#define SEEDS 12

struct world {
    struct fixture fixture; /* first: *state is both */
    struct sim *sim;
    struct host *host;
};

static bool wait(struct fixture *fixture, bool (*condition)(void *arg), void *arg) {
    struct world *world = container_of(fixture, struct world, fixture);
    enum sim_end end = sim_run_until(world->sim, condition, arg, 600 * NS_PER_S, 20 * 1000 * 1000);
    if (end != SIM_MET)
        print_error("%s\n", sim_end_name(end));
    return end == SIM_MET;
}

/* One seed of one case; cmocka's jump out of a failed assertion is what the world's leak then costs. */
static void run_seed(const struct CMUnitTest *test, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    struct world world = {.fixture = {.directory = "/sim", .wait = wait}};
    world.sim = sim_create(&options);
    world.host = sim_process_start(sim_node_create(world.sim, "one", "10.0.0.1"));
    world.fixture.host = world.host;
    world.fixture.world = &world;
    void *state = &world.fixture;
    test->test_func(&state);
    sim_process_exit(world.host);
    sim_destroy(world.sim);
}

static void each_seed(void **state) {
    const struct CMUnitTest *test = *state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        print_message("seed %llu\r", (unsigned long long)seed);
        run_seed(test, seed);
    }
}

int main(void) {
    struct CMUnitTest *tests = calloc(contract_case_count, sizeof(*tests));
    if (tests == NULL)
        return 1;
    for (size_t i = 0; i < contract_case_count; i++)
        tests[i] = (struct CMUnitTest){contract_cases[i].name, each_seed, NULL, NULL, (void *)&contract_cases[i]};
    int failed = _cmocka_run_group_tests("host/sim: the contract", tests, contract_case_count, NULL, NULL);
    free(tests);
    return failed;
}
