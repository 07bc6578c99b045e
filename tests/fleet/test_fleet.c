/* Volumes over nodes that are played: stories (made, grown, given and deprived of a replica, deleted) in which one thing goes
 * wrong, at every single step in turn: the daemon dies before or after the step had its effect, an answer is lost, a step is
 * refused. After each the volume is settled, has what it says, and nothing is left over. Then plans and places, by tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "world.h"

/* ---- stories ---- */

enum story { MADE, DELETED, GROWN, GIVEN, DEPRIVED, REVERTED, CLONED, REVERTED_YIELDING, CLONED_YIELDING, STORIES };
static const char *const story_names[STORIES] = {"made",
                                                 "deleted",
                                                 "grown",
                                                 "given a replica",
                                                 "deprived of a replica",
                                                 "reverted",
                                                 "cloned",
                                                 "reverted by engines that yield",
                                                 "cloned by engines that yield"};

static void tell_story(struct world *world, enum story story, struct asked *asked) {
    char replica[CONTROL_NAME_MAX + 1];
    switch (story) {
    case MADE: world_ask(world, asked, FLEET_CREATE, MIB(16), NULL); break;
    case DELETED: world_ask(world, asked, FLEET_DELETE, 0, NULL); break;
    case GROWN: world_ask(world, asked, FLEET_EXPAND, MIB(32), NULL); break;
    case GIVEN: world_ask(world, asked, FLEET_ADD, 0, NULL); break;
    case DEPRIVED:
        fleet_copy(replica, sizeof(replica), fleet_find(world->fleet, "v")->record.members[0].name);
        world_ask(world, asked, FLEET_REMOVE, 0, replica);
        break;
    case CLONED_YIELDING: world->lingering = UINT32_MAX; __attribute__((fallthrough));
    case CLONED:
        world->clones = true;
        world_ask(world, asked, FLEET_CREATE, MIB(16), NULL);
        world->clones = false;
        break;
    case REVERTED_YIELDING: world->lingering = UINT32_MAX; __attribute__((fallthrough));
    case REVERTED: world_ask(world, asked, FLEET_REVERT, 0, NULL); break;
    case STORIES: fail();
    }
}

/* What a successful answer promises. */
static void check_answer(struct world *world, enum story story, const char *what) {
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    bool is_clone = story == CLONED || story == CLONED_YIELDING, is_revert = story == REVERTED || story == REVERTED_YIELDING;
    bool right = story == DELETED ? volume == NULL
                 : is_clone       ? volume != NULL && (volume->record.phase == FLEET_FAILED ||
                                                 (volume->record.phase == FLEET_STANDING && world->cloned))
                 : volume == NULL ? false
                 : story == MADE  ? volume->record.phase == FLEET_STANDING || volume->record.phase == FLEET_FAILED
                 : story == GROWN ? volume->record.bytes == MIB(32)
                 : is_revert      ? world->reverted && volume->record.member_count == 3
                                  : volume->record.member_count == (story == GIVEN ? 4U : 2U);
    if (!right)
        fail_msg("%s: that it is done was answered", what);
}

/* True: the fault came. */
static bool run_story(enum story story, enum fault fault, unsigned at) {
    struct world *world = world_create();
    struct asked asked, again;
    char what[128];
    snprintf(what, sizeof(what), "%s, and at call %u %s", story_names[story], at, world_fault_names[fault]);
    if (story != MADE && story != CLONED && story != CLONED_YIELDING) {
        world_ask(world, &again, FLEET_CREATE, MIB(16), NULL);
        assert_int_equal(again.request.error.code, ERROR_NONE);
        world_check(world, "before");
    }
    world->calls = 0;
    world->fault_at = at;
    world->fault = fault;
    tell_story(world, story, &asked);
    bool done = asked.done && asked.request.error.code == ERROR_NONE;
    world_settle(world, what);
    bool came = world->calls >= at;
    world->fault_at = 0;
    if (done)
        check_answer(world, story, what);
    else if (fault == REFUSED_DONE)
        fail_msg("%s: it is done, and was not answered to be", what);
    /* Whatever came of it: it can be had, and got rid of. */
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    if (volume == NULL || volume->record.phase == FLEET_FAILED) {
        world_ask(world, &again, FLEET_CREATE, MIB(16), NULL);
        world_settle(world, "made again");
        assert_int_equal(fleet_find(world->fleet, "v")->record.phase, FLEET_STANDING);
    }
    world_ask(world, &again, FLEET_DELETE, 0, NULL);
    if (again.request.error.code != ERROR_NONE || fleet_find(world->fleet, "v") != NULL || world_count_replicas(world) != 0)
        fail_msg("%s: it cannot be deleted: done %d, code %d, %s, %u replicas left", what, again.done, again.request.error.code,
                 again.request.error.text, world_count_replicas(world));
    world_destroy(world);
    return came;
}

static void test_one_thing_goes_wrong_at_every_step(void **state) {
    unsigned runs = 0;
    (void)state;
    for (enum story story = MADE; story < STORIES; story++)
        for (enum fault fault = CRASH_BEFORE; fault < FAULTS; fault++)
            for (unsigned at = 1;; at++) {
                runs++;
                if (!run_story(story, fault, at)) {
                    assert_true(at > 2);
                    break;
                }
            }
    printf("note: %u stories, in each of which one thing goes wrong\n", runs);
}

static bool is_copying(void *arg) { return ((struct world *)arg)->copying > 1; }

/* The clone's engine stops for good while it is copied to: the clone is not made. */
static void test_a_copy_that_stands_still(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world->clones = true;
    world_submit(world, &asked, FLEET_CREATE, MIB(16), NULL);
    assert_true(step_host_run(world->stage.host, is_copying, world, 10 * NS_PER_S));
    world->engine_state = CONTROL_PENDING;
    world_settle(world, "not made");
    assert_int_equal(fleet_find(world->fleet, "v")->record.phase, FLEET_FAILED);
    assert_true(asked.done);
    world_destroy(world);
}

static void test_a_node_is_away(void **state) {
    struct world *world = world_create();
    struct asked asked;
    char replica[CONTROL_NAME_MAX + 1];
    (void)state;
    world_ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    world_settle(world, "made");
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    unsigned away = world_node_of(record->members[2].node);
    fleet_copy(replica, sizeof(replica), record->members[2].name);
    world->down[away] = true;
    /* A replica that is there is removed: the volume is rid of it at once, its data goes later. */
    world_ask(world, &asked, FLEET_REMOVE, 0, replica);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_int_equal(world->leg_count, 2);
    assert_int_equal(world_count_replicas(world), 3);
    world->down[away] = false;
    world_settle(world, "removed");
    /* Deleted: told that it waits; with `abandon` it does not. */
    world_ask(world, &asked, FLEET_ADD, 0, NULL);
    world_settle(world, "added");
    away = world_node_of(fleet_find(world->fleet, "v")->record.members[1].node);
    world->down[away] = true;
    world_ask(world, &asked, FLEET_DELETE, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_CANCELLED);
    assert_non_null(strstr(asked.request.error.text, world_addresses[away]));
    assert_int_equal(world_count_replicas(world), 1);
    asked = (struct asked){.world = world, .request = {.verb = FLEET_DELETE, .name = "v", .frontend = "", .abandon = true}};
    world_send(&asked);
    assert_true(step_host_run(world->stage.host, asked_is_done, &asked, 100 * NS_PER_S));
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_null(fleet_find(world->fleet, "v"));
    world_destroy(world);
}

/* ---- tables ---- */

static void test_the_policy(void **state) {
    static const struct {
        const char *what;
        int modes[4];
        unsigned count;
        enum fleet_care care;
        unsigned member;
    } rows[] = {
        {"all well", {CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW}, 3, FLEET_CARE_NOTHING, 0},
        {"one is away for a while", {CONTROL_LEG_RW, CONTROL_LEG_WO, CONTROL_LEG_RW}, 3, FLEET_CARE_NOTHING, 0},
        {"one is lost", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW}, 3, FLEET_CARE_ADD, 1},
        {"its engine has it not", {CONTROL_LEG_RW, CONTROL_LEG_RW, -1}, 3, FLEET_CARE_ADD, 2},
        {"the new one is copied to", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW, CONTROL_LEG_WO}, 4, FLEET_CARE_NOTHING, 0},
        {"the new one is whole", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW, CONTROL_LEG_RW}, 4, FLEET_CARE_REMOVE, 1},
        {"the lost one came back", {CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW}, 4, FLEET_CARE_NOTHING, 0},
    };
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct fleet_record record = {.phase = FLEET_STANDING,
                                      .replicas = 3,
                                      .replace = true,
                                      .member_count = rows[i].count,
                                      .bytes = 1,
                                      .wanted_bytes = 1};
        unsigned member = 0;
        if (fleet_plan_care(&record, rows[i].modes, &member) != rows[i].care)
            fail_msg("%s", rows[i].what);
        if (rows[i].care != FLEET_CARE_NOTHING)
            assert_int_equal(member, rows[i].member);
        record.replace = false;
        assert_int_equal(fleet_plan_care(&record, rows[i].modes, &member), FLEET_CARE_NOTHING);
    }
}

static void test_places(void **state) {
    static const struct fleet_candidate candidates[] = {
        {.node = "10.0.0.1", .disk = "a", .free_bytes = 10, .ready = true},
        {.node = "10.0.0.1", .disk = "b", .free_bytes = 40, .ready = true},
        {.node = "10.0.0.2", .disk = "a", .free_bytes = 30, .ready = true},
        {.node = "10.0.0.3", .disk = "a", .free_bytes = 90, .text = "it is in state error"},
        {.node = "10.0.0.4", .text = "does not answer"},
    };
    static const struct {
        const char *said[3], *placed; /* "" ends */
    } rows[] = {
        {{"", "", NULL}, "10.0.0.1/b 10.0.0.2/a "},
        {{"10.0.0.1", NULL, NULL}, "10.0.0.1/b "},
        {{"10.0.0.1/a", "", NULL}, "10.0.0.1/a 10.0.0.2/a "},
        {{"10.0.0.1", "10.0.0.1", NULL},
         "10.0.0.1/b 10.0.0.1/a "}, /* where it is said, two may be on a node, and never on a disk */
        {{"10.0.0.1/a", "10.0.0.1/a", NULL}, "two replicas of it"},
        {{"", "", ""}, "3 nodes with a ready disk are wanted"},
        {{"10.0.0.3/a", NULL, NULL}, "it is in state error"},
        {{"10.0.0.4", NULL, NULL}, "does not answer"},
        {{"10.0.0.1/none", NULL, NULL}, "cannot have a replica"},
    };
    const struct fleet_record record = {.member_count = 0};
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct fleet_member members[3] = {0};
        struct error error;
        char text[128] = "";
        unsigned count = 0;
        for (; count < 3 && rows[i].said[count] != NULL; count++) {
            const char *said = rows[i].said[count], *slash = strchr(said, '/');
            snprintf(members[count].node, sizeof(members[count].node), "%.*s",
                     (int)(slash != NULL ? slash - said : (int)strlen(said)), said);
            fleet_copy(members[count].disk, sizeof(members[count].disk), slash != NULL ? slash + 1 : "");
        }
        bool ok = fleet_plan_place(&record, candidates, array_count(candidates), members, count, &error);
        for (unsigned m = 0; ok && m < count; m++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.20s/%.10s ", members[m].node, members[m].disk);
        if (ok ? strcmp(text, rows[i].placed) != 0 : strstr(error.text, rows[i].placed) == NULL)
            fail_msg("row %zu: %s", i, ok ? text : error.text);
    }
}

static void test_records(void **state) {
    struct fleet_record record = {.name = "v",
                                  .frontend = "spdk-tcp-nvmf",
                                  .bytes = MIB(16),
                                  .wanted_bytes = MIB(32),
                                  .replicas = 3,
                                  .replace = true,
                                  .abandon = true,
                                  .phase = FLEET_UNMAKING,
                                  .members = {{.name = "v-r-p1234567",
                                               .node = "::1",
                                               .disk = "d",
                                               .change = FLEET_GOES,
                                               .address = "[::1]:20001"}},
                                  .member_count = 1,
                                  .nodes = {"::1", "10.0.0.1"},
                                  .node_count = 2,
                                  .revert = FLEET_RESTORING,
                                  .served = true,
                                  .clone = FLEET_CLONED,
                                  .source = "u",
                                  .source_snapshot = "t",
                                  .snapshot = "s",
                                  .failure = "it \"failed\"\n"},
                        again;
    static const char *const hostile[] = {"", "[]", "{}", "{\"name\": 1}", "\"\"", "{\"name\": \"v\", \"name\": \"w\"}"};
    struct text text;
    struct error error;
    const char *kind;
    (void)state;
    text_init(&text, KIB(64));
    assert_true(fleet_record_write(&record, &text));
    assert_true(fleet_record_read(text.bytes, text.length, &again, &error));
    assert_memory_equal(&record, &again, sizeof(record));
    for (size_t length = 0; length < text.length; length++)
        assert_false(fleet_record_read(text.bytes, length, &again, &error));
    text_fini(&text);
    for (size_t i = 0; i < array_count(hostile); i++)
        assert_false(fleet_record_read(hostile[i], strlen(hostile[i]), &again, &error));
    assert_int_equal(fleet_volume_of("v-r-p1234567", &kind), 1);
    assert_string_equal(kind, "replica");
    assert_int_equal(fleet_volume_of("v-r-01234567", &kind), 0);
    assert_int_equal(fleet_volume_of("v-ef-0", &kind), 1);
    assert_string_equal(kind, "frontend");
    assert_int_equal(fleet_volume_of("v-e-0", &kind), 1);
    assert_string_equal(kind, "engine");
    assert_int_equal(fleet_volume_of("-e-0", &kind), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thing_goes_wrong_at_every_step),
        cmocka_unit_test(test_a_copy_that_stands_still),
        cmocka_unit_test(test_a_node_is_away),
        cmocka_unit_test(test_the_policy),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
