/* How long goals wait, and what becomes of what they record when the store does not say: on a store in memory, with a plane that
 * never answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "control/internal.h"
#include "support/stage.h"

struct world {
    struct stage stage;
    struct control *control;
    bool stopped;
    unsigned writes;
    enum store_memory_fault faults[3]; /* of the first write, of the second, of all others */
};

static void on_stopped(void *arg) { ((struct world *)arg)->stopped = true; }
static bool is_stopped(void *arg) { return ((struct world *)arg)->stopped; }
static void no_done(struct control_goal *goal) { (void)goal; }
static bool is_ended(void *arg) { return ((struct control_goal *)arg)->stage == GOAL_ENDED; }

static enum store_memory_fault fault_of(void *arg, const struct store_request *request) {
    struct world *world = arg;
    return request->verb != STORE_TRANSACT ? STORE_MEMORY_FINE : world->faults[min_u32(world->writes++, 2)];
}

static void begin(struct world *world) {
    *world = (struct world){0};
    stage_begin(&world->stage, fault_of, world);
    struct control_options control = {.reactor = world->stage.reactor,
                                      .log = &world->stage.log,
                                      .store = world->stage.store,
                                      .node = "n",
                                      .address = "127.0.0.1",
                                      .socket_path = "/plane",
                                      .plane_log_path = "/log"};
    reactor_enter(world->stage.reactor);
    world->control = control_create(&control);
    reactor_enter(NULL);
}

static void end(struct world *world) {
    reactor_enter(world->stage.reactor);
    control_stop(world->control, on_stopped, world);
    reactor_enter(NULL);
    assert_true(step_host_run(world->stage.host, is_stopped, world, 10 * NS_PER_S));
    reactor_enter(world->stage.reactor);
    control_destroy(world->control);
    reactor_enter(NULL);
    stage_end(&world->stage);
}

/* The frontend's node has given up by the time its turn comes: writes would be held for nobody. */
static void a_pause_does_not_wait_long(void **state) {
    struct world world;
    struct control_goal expand = {.verb = CONTROL_ENGINE_EXPAND, .name = "e", .bytes = MIB(2), .done = no_done},
                        pause = {.verb = CONTROL_ENGINE_PAUSE, .name = "e", .done = no_done};
    (void)state;
    begin(&world);
    reactor_enter(world.stage.reactor);
    struct control_engine *engine = engine_add(world.control, "e");
    snprintf(engine->record.name, sizeof(engine->record.name), "e");
    engine->state = CONTROL_RUNNING;
    control_goal_start(world.control, &expand);
    control_goal_start(world.control, &pause);
    reactor_enter(NULL);
    assert_false(step_host_run(world.stage.host, is_ended, &pause, (CONTROL_PAUSE_S - 1) * NS_PER_S));
    assert_true(step_host_run(world.stage.host, is_ended, &pause, 2 * NS_PER_S));
    assert_int_equal(pause.error.code, ERROR_TIMED_OUT);
    assert_false(is_ended(&expand)); /* it was not its turn */
    assert_true(step_host_run(world.stage.host, is_ended, &expand, CONTROL_GOAL_S * NS_PER_S));
    end(&world);
}

static void start_deletion(struct world *world, struct control_goal *goal) {
    reactor_enter(world->stage.reactor);
    struct control_replica *replica = control_add_replica(world->control, "r");
    snprintf(replica->record.name, sizeof(replica->record.name), "r");
    replica->object.recorded = true;
    control_goal_start(world->control, goal);
    reactor_enter(NULL);
}

static void on_accepted(struct control_goal *goal) { *(bool *)goal->arg = true; }
static bool is_set(void *arg) { return *(bool *)arg; }

/* The first try took effect and its answer was lost; the second is refused, as by the guard or while the store is away. It is
 * recorded, then: taken for not recorded it would be carried out by the next start, after its caller was told that it failed. */
static void an_answer_that_was_lost_is_asked_for_until_it_comes(void **state) {
    struct world world;
    bool accepted = false;
    struct control_goal goal = {
        .verb = CONTROL_REPLICA_DELETE, .name = "r", .accepted = on_accepted, .done = no_done, .arg = &accepted};
    (void)state;
    begin(&world);
    world.faults[0] = STORE_MEMORY_LOSE_ANSWER;
    world.faults[1] = STORE_MEMORY_REFUSE;
    start_deletion(&world, &goal);
    assert_true(step_host_run(world.stage.host, is_set, &accepted, 60 * NS_PER_S));
    assert_false(is_ended(&goal));
    assert_int_equal(world.writes, 3);
    assert_true(control_find_replica(world.control, "r")->record.deleting);
    end(&world);
}

/* What was refused, and of which nothing is in doubt, ends at once. */
static void what_was_not_written_never_was(void **state) {
    struct world world;
    struct control_goal goal = {.verb = CONTROL_REPLICA_DELETE, .name = "r", .done = no_done};
    (void)state;
    begin(&world);
    world.faults[0] = STORE_MEMORY_REFUSE;
    start_deletion(&world, &goal);
    assert_true(step_host_run(world.stage.host, is_ended, &goal, 60 * NS_PER_S));
    assert_int_equal(goal.error.code, ERROR_IO);
    assert_int_equal(world.writes, 1);
    assert_false(control_find_replica(world.control, "r")->record.deleting);
    end(&world);
}

static void one_that_is_in_doubt_does_not_keep_the_daemon(void **state) {
    struct world world;
    struct control_goal goal = {.verb = CONTROL_REPLICA_DELETE, .name = "r", .done = no_done};
    (void)state;
    begin(&world);
    world.faults[0] = world.faults[1] = world.faults[2] = STORE_MEMORY_LOSE;
    start_deletion(&world, &goal);
    assert_false(step_host_run(world.stage.host, is_ended, &goal, 60 * NS_PER_S));
    assert_true(world.writes > 10);
    end(&world);
    assert_true(is_ended(&goal));
    assert_int_equal(goal.error.code, ERROR_IO);
    assert_non_null(strstr(goal.error.text, "may have been written"));
}

/* ---- what an engine is told to be ---- */

static void check_reason(const char *error, const char *reason) {
    struct world world;
    char text[512];
    begin(&world);
    snprintf(text, sizeof(text), "[{\"name\":\"e\",\"uuid\":\"u\",\"state\":\"holding\",\"engine\":\"u\",\"legs\":[]%s}]", error);
    struct observation *seen = observation_make(&(struct observation_answers){.devices = json_array(),
                                                                              .stores = json_array(),
                                                                              .transports = json_array(),
                                                                              .exports = json_array(),
                                                                              .controllers = json_array(),
                                                                              .mirrors = json_loads(text, 0, NULL)});
    assert_non_null(seen);
    reactor_enter(world.stage.reactor);
    struct control_engine *engine = engine_add(world.control, "e");
    snprintf(engine->record.name, sizeof(engine->record.name), "e");
    struct observation *before = world.control->observer.seen;
    enum control_plane_state state = world.control->plane.state;
    world.control->observer.seen = seen;
    world.control->plane.state = CONTROL_PLANE_READY;
    engine_judge(world.control, engine);
    world.control->observer.seen = before;
    world.control->plane.state = state;
    assert_int_equal(engine->state, CONTROL_ERROR);
    assert_string_equal(engine->reason, reason);
    observation_unref(seen);
    reactor_enter(NULL);
    end(&world);
}

/* Without a replica requests are given back after a while; short of a majority they are not. */
static void what_becomes_of_requests_that_wait(void **state) {
    (void)state;
    check_reason("", "no replica answers; requests are held for a while");
    check_reason(",\"error\":{\"code\":\"busy\",\"text\":\"away: a\"}", "away: a; requests wait until enough are there");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_does_not_wait_long),
        cmocka_unit_test(an_answer_that_was_lost_is_asked_for_until_it_comes),
        cmocka_unit_test(what_was_not_written_never_was),
        cmocka_unit_test(one_that_is_in_doubt_does_not_keep_the_daemon),
        cmocka_unit_test(what_becomes_of_requests_that_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
