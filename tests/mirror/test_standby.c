/* Two engines for one mirror: one serves, the other one stands by. Over replicas in memory. */
#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* The second engine, on a machine of its own. */
struct second {
    struct world *world;
    struct plane plane;
    struct block_device *mirror;
    struct mirror_command command;
    bool yields; /* it is created to, and not as a standby */
};

static struct mirror_status look(const struct block_device *mirror) {
    struct mirror_status status;
    mirror_status_get(mirror, &status);
    return status;
}

static void second_create(struct plane *plane, void *arg) {
    struct second *second = arg;
    struct world *world = second->world;
    struct error error = {0};
    struct mirror_options options = world->options;
    for (unsigned i = 0; i < world->disk_count; i++)
        (void)replica_view_create(&world->disks[i], &plane->graph, plane->data[0]);
    options.home = plane->data[0];
    options.standby = !second->yields;
    options.yield = second->yields;
    options.term = 0;
    options.seed = 99;
    if (!mirror_create(&plane->graph, plane->control, &options, &second->mirror, &error))
        fail_msg("%s", error.text);
}

static void command_done(struct mirror_command *command) { command->device = NULL; }

static void command_send(struct plane *plane, void *arg) {
    struct second *second = arg;
    second->command.control = plane->control;
    mirror_command(&second->command);
}

static void second_begin(struct second *second, enum mirror_verb verb) {
    second->command = (struct mirror_command){.device = second->mirror, .verb = verb, .done = command_done};
    plane_do(&second->plane, command_send, second);
}

static enum error_code second_end(struct second *second) {
    for (unsigned i = 0; second->command.device != NULL; i++) {
        assert_true(i < 200000);
        world_run(second->world, 20 * NS_PER_US, 20);
    }
    return second->command.error.code;
}

static enum error_code second_do(struct second *second, enum mirror_verb verb) {
    second_begin(second, verb);
    return second_end(second);
}

static struct second *begin_beside(enum replica_policy policy, bool yields) {
    struct second *second = plain_alloc(sizeof(*second));
    *second = (struct second){.world = plain_alloc(sizeof(struct world)), .yields = yields};
    world_init(second->world, 3, 3, policy);
    second->world->engines = 1; /* so that term 1 is over */
    world_engine_start(second->world);
    world_serve(second->world);
    world_write_all(second->world);
    plane_init(&second->plane, &second->world->cluster, "second", "10.0.0.2", 1);
    plane_start(&second->plane, NULL);
    plane_do(&second->plane, second_create, second);
    return second;
}

static struct second *begin(enum replica_policy policy) {
    struct second *second = begin_beside(policy, false);
    world_pass(second->world, 100);
    return second;
}

static void end(struct second *second) {
    plane_kill(&second->plane, SIM_KILL_CLOSE);
    world_fini(second->world); /* frees all views */
    plain_free(second->world);
    plain_free(second);
}

static void a_standby_claims_nothing(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    assert_int_equal(look(second->mirror).state, MIRROR_STANDBY);
    assert_false(block_device_path_is_up(second->mirror));
    uint64_t term = world->disks[0].record.promised_term;
    world_write_all(world);
    world_pass(world, 1000);
    assert_int_equal(look(second->mirror).state, MIRROR_STANDBY);
    assert_int_equal(world->disks[0].record.promised_term, term);
    assert_int_equal(look(world->mirror).state, MIRROR_SERVING);
    assert_int_equal(look(world->mirror).legs[0].times_lost, 0);
    assert_int_equal(second_do(second, MIRROR_RELEASE), ERROR_BUSY);
    world_settle(world);
    end(second);
}

/* Everything that was acknowledged is there, unflushed too: it is not a crash of anybody. */
static void check_all(struct second *second) {
    struct world *world = second->world;
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        for (unsigned disk = 0; disk < world->disk_count; disk++) {
            assert_int_equal(world->blocks[i].now.count, 1);
            assert_int_equal(get_le32(world->disks[disk].bytes + world->blocks[i].offset), world->blocks[i].now.list[0]);
        }
}

static void a_planned_switch_over(void **state) {
    (void)state;
    struct mirror_command command = {0};
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    for (unsigned i = 0; i < 6; i++) /* some of them wait for room among the marks */
        assert_true(world_begin_write(world, i));
    assert_int_equal(world_do(world, MIRROR_RELEASE, "", &command), ERROR_NONE);
    for (unsigned i = 0; i < WORLD_OPS; i++)
        assert_false(world->ops[i].busy);
    assert_int_equal(world->failed, 0);
    assert_int_equal(look(world->mirror).state, MIRROR_STANDBY);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(world->disks[i].claim_association, 0);
    world_pass(world, 2);
    assert_false(block_device_path_is_up(world->mirror));
    assert_true(world_begin_read(world, 1)); /* hosts go the other way */
    world_pass(world, 2);
    assert_int_equal(world->failed, 1);
    assert_int_equal(second_do(second, MIRROR_PROMOTE), ERROR_NONE);
    assert_int_equal(look(second->mirror).state, MIRROR_SERVING);
    check_all(second);
    world_pass(world, 50);
    assert_true(look(second->mirror).settled);
    assert_true(block_device_path_is_up(second->mirror));
    /* and back */
    if (second_do(second, MIRROR_RELEASE) != ERROR_NONE)
        fail_msg("%s", second->command.error.text);
    command = (struct mirror_command){0};
    if (world_do(world, MIRROR_PROMOTE, "", &command) != ERROR_NONE)
        fail_msg("%s, %d", command.error.text, look(world->mirror).state);
    world_write_all(world);
    world_settle(world);
    assert_int_equal(look(second->mirror).state, MIRROR_STANDBY);
    end(second);
}

/* The old engine still writes: it is refused, and stops for good. */
static void an_unplanned_promotion(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    char engine[UUID_TEXT_SIZE];
    for (unsigned i = 0; i < 6; i++)
        assert_true(world_begin_write(world, i));
    assert_int_equal(second_do(second, MIRROR_PROMOTE), ERROR_NONE);
    uint64_t failed = world->failed;
    (void)world_begin_write(world, 9);
    world_pass(world, 100);
    struct mirror_status old = look(world->mirror);
    assert_int_equal(old.state, MIRROR_ENDED);
    struct mirror_command late = {0}, pause = {.lease_ms = 50};
    assert_int_equal(world_do(world, MIRROR_REMOVE_LEG, "a", &late), ERROR_PERMISSION); /* as it ended */
    assert_int_equal(world_do(world, MIRROR_PAUSE, "", &pause), ERROR_BUSY);
    assert_int_equal(second_do(second, MIRROR_PROMOTE), ERROR_BUSY); /* it is none any more */
    uuid_format(&world->disks[0].record.promised_engine, engine);
    assert_non_null(strstr(old.error.text, engine)); /* by whom */
    assert_true(world->failed > failed);
    world_pass(world, 2000);
    assert_int_equal(look(world->mirror).state, MIRROR_ENDED);
    assert_int_equal(look(second->mirror).state, MIRROR_SERVING);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(look(second->mirror).legs[i].state, MIRROR_LEG_WHOLE);
        assert_int_equal(look(second->mirror).legs[i].times_lost, 0);
    }
    end(second);
}

/* Under majority the old engine may still have one leg: it reads nothing there when the new one serves. */
static void a_promotion_waits_for_who_cannot_be_claimed(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_MAJORITY);
    struct world *world = second->world;
    world->disks[2].hung = true; /* a member that nobody can claim */
    uint64_t began = sim_now_ns(world->cluster.sim);
    second_begin(second, MIRROR_PROMOTE);
    world_pass(world, world->options.longest_stall_ms / 2);
    assert_int_not_equal(look(second->mirror).state, MIRROR_SERVING);
    assert_false(block_device_path_is_up(second->mirror)); /* hosts stay away until it serves */
    assert_int_equal(second_end(second), ERROR_NONE);
    world_pass(world, 1);
    assert_true(block_device_path_is_up(second->mirror));
    assert_true(sim_now_ns(world->cluster.sim) - began >= world->options.longest_stall_ms * NS_PER_MS);
    assert_int_equal(look(second->mirror).state, MIRROR_SERVING);
    world->disks[2].hung = false;
    world_pass(world, 500);
    assert_int_equal(look(second->mirror).legs[2].state, MIRROR_LEG_WHOLE);
    end(second);
}

static const struct uuid run_id = {{7}};

static void stands_by_whatever_comes(struct second *second) {
    assert_int_equal(look(second->mirror).state, MIRROR_STANDBY);
    for (unsigned i = 0; i < second->world->disk_count; i++)
        second->world->disks[i].up = true;
    world_pass(second->world, 3000);
    assert_int_equal(look(second->mirror).state, MIRROR_STANDBY);
    assert_false(block_device_path_is_up(second->mirror));
}

static void give_up(struct world *world) {
    assert_int_equal(world_do(world, MIRROR_RELEASE, "", &(struct mirror_command){0}), ERROR_NONE);
}

static enum error_code second_promote(struct second *second, struct mirror_command how) {
    second->command = how;
    second->command.device = second->mirror;
    second->command.verb = MIRROR_PROMOTE;
    second->command.engine = run_id;
    second->command.done = command_done;
    plane_do(&second->plane, command_send, second);
    return second_end(second);
}

/* Who was told that it failed need not fear that the mirror begins by itself when the leg comes that it waited for. */
static void a_promotion_that_failed_leaves_a_standby(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    give_up(world);
    world->disks[2].up = false;
    uint64_t claims = world->disks[0].claims;
    assert_int_equal(second_promote(second, (struct mirror_command){0}), ERROR_BUSY);
    assert_non_null(strstr(second->command.error.text, "newer data: c"));
    assert_non_null(strstr(second->command.error.expected, "promote m --accept-absent c"));
    stands_by_whatever_comes(second);
    assert_int_equal(world->disks[0].claims, claims);
    /* what was allowed then is not allowed any more */
    world->disks[1].up = world->disks[2].up = false;
    struct mirror_command without_c = {.accept_absent_count = 1, .accept_absent = {"c"}};
    assert_int_equal(second_promote(second, without_c), ERROR_BUSY);
    world->disks[1].up = true;
    world_pass(world, 2000);
    assert_int_equal(second_promote(second, (struct mirror_command){0}), ERROR_BUSY);
    assert_int_equal(second_promote(second, without_c), ERROR_NONE);
    assert_int_equal(look(second->mirror).state, MIRROR_SERVING);
    end(second);
}

static void falls_silent(void *arg, struct replica_disk *disk, const char *name) {
    (void)arg;
    if (strcmp(name, "after claim") == 0)
        disk->up = false;
}

/* One leg's claim is not answered, the others are claimed: all are given up, and told as promised to that run once they say so
 * themselves. */
static void a_promotion_that_failed_gives_its_claims_up(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    give_up(world);
    world->disks[0].point = falls_silent;
    assert_int_equal(second_promote(second, (struct mirror_command){0}), ERROR_BUSY);
    world->disks[0].point = NULL;
    struct mirror *mirror = mirror_of(second->mirror);
    mirror_for_each_leg(mirror, leg) assert_false(mirror_leg_is_up(leg));
    struct uuid promised = look(second->mirror).legs[0].promised; /* not what it was before the claim */
    assert_true(uuid_is_nil(&promised));
    stands_by_whatever_comes(second);
    mirror_for_each_leg(mirror, leg) {
        assert_false(mirror_leg_is_up(leg));
        assert_true(uuid_equal(&leg->told.promised, &run_id));
    }
    if (second_promote(second, (struct mirror_command){0}) != ERROR_NONE)
        fail_msg("%s", second->command.error.text);
    check_all(second);
    end(second);
}

/* The legs are promised to a higher term: nobody is cut off. */
static void a_promotion_that_is_refused_leaves_a_standby(void **state) {
    (void)state;
    struct second *second = begin(REPLICA_ANY);
    struct world *world = second->world;
    assert_int_equal(second_promote(second, (struct mirror_command){.term = 1}), ERROR_PERMISSION);
    stands_by_whatever_comes(second);
    world_write_all(world);
    world_settle(world);
    assert_int_equal(look(world->mirror).legs[0].times_lost, 0);
    end(second);
}

static bool stands_by(struct world *world) { return look(world->mirror).state == MIRROR_STANDBY; }

struct zeroes {
    struct world *world;
    struct block_request request;
    bool done;
};

static void zeroes_done(struct block_request *request) { container_of(request, struct zeroes, request)->done = true; }

static void zeroes_send(struct plane *plane, void *arg) {
    struct zeroes *zeroes = arg;
    (void)plane;
    block_submit(zeroes->world->channel, &zeroes->request);
}

/* Zeroes over the end of a marked region and the beginning of another wait until that one can be marked, too. A write of the
 * former that comes when the release was asked for is not to be in their way. */
static void a_release_waits_for_who_waits_for_room(void **state) {
    (void)state;
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, 31, 2, REPLICA_ANY);
    world_engine_start(world);
    world_serve(world);
    assert_true(world_begin_write(world, 0) && world_begin_write(world, 1)); /* as many regions as may be marked */
    world_drain(world, NS_PER_S);
    world->disks[0].hung = world->disks[1].hung = true; /* and no mark is cleared for now */
    uint64_t from = world->blocks[13].offset, end = world->blocks[2].offset + WORLD_BLOCK;
    struct zeroes zeroes = {.world = world,
                            .request = {.op = BLOCK_WRITE_ZEROES, .offset = from, .length = end - from, .complete = zeroes_done}};
    plane_do_on(&world->plane, world->plane.data[0], zeroes_send, &zeroes);
    world_pass(world, 1);
    assert_int_equal(mirror_of(world->mirror)->for_room, 1);
    world_ask(world, MIRROR_RELEASE, 0);
    world_pass(world, 1);
    assert_true(world_begin_write(world, 13));
    world_pass(world, 1);
    world->disks[0].hung = world->disks[1].hung = false;
    world_until(world, stands_by, "the release does not end");
    world_drain(world, NS_PER_S);
    assert_true(zeroes.done);
    assert_int_equal(zeroes.request.status, IO_OK);
    assert_int_equal(world->failed, 1); /* what came after it */
    world_fini(world);
    plain_free(world);
}

/* Claims that last for L are a living engine's, and it stands by; those that go before that are not. */
static void one_that_yields_leaves_a_living_engine_alone(void **state) {
    (void)state;
    for (unsigned goes = 0; goes < 2; goes++) {
        struct second *second = begin_beside(REPLICA_ANY, true);
        struct world *world = second->world;
        uint64_t claims = world->disks[0].claims;
        world_pass(world, world->options.longest_stall_ms / 2);
        assert_int_equal(look(second->mirror).state, MIRROR_CONFIGURING);
        if (goes != 0)
            give_up(world);
        world_pass(world, 300);
        assert_int_equal(look(second->mirror).state, goes != 0 ? MIRROR_SERVING : MIRROR_STANDBY);
        if (goes == 0) {
            assert_int_equal(world->disks[0].claims, claims);
            assert_int_equal(look(second->mirror).error.code, ERROR_BUSY);
            assert_false(block_device_path_is_up(second->mirror));
            assert_int_equal(look(world->mirror).state, MIRROR_SERVING);
            assert_int_equal(second_do(second, MIRROR_PROMOTE), ERROR_NONE); /* it is told to */
        }
        end(second);
    }
}

/* What was acknowledged would be gone with the power: it goes on serving. The same if all legs are lost on the way. */
static void a_release_that_fails_gives_nothing_back(void **state) {
    (void)state;
    struct world *world = plain_alloc(sizeof(*world));
    world_init(world, 32, 2, REPLICA_ANY);
    world->options.hold_ms = UINT64_MAX;
    world_engine_start(world);
    world_serve(world);
    world_write_all(world);
    world_pass(world, 20);
    world->disks[1].fail_flush = true;
    assert_int_equal(world_do(world, MIRROR_RELEASE, "", &(struct mirror_command){0}), ERROR_IO);
    assert_int_equal(look(world->mirror).state, MIRROR_SERVING);
    world_write_all(world);
    world_settle(world);
    world->disks[0].hung = world->disks[1].hung = true;
    assert_true(world_begin_write(world, 1));
    world_pass(world, 1);
    world_ask(world, MIRROR_RELEASE, 0);
    world_pass(world, 1);
    world_break(world, 0);
    world_break(world, 1);
    world_pass(world, 20);
    assert_false(world->asked);
    assert_int_equal(world->command.error.code, ERROR_BUSY);
    world_settle(world);
    world_write_all(world);
    assert_int_equal(world->failed, 0);
    world_fini(world);
    plain_free(world);
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_standby_claims_nothing),
        cmocka_unit_test(a_planned_switch_over),
        cmocka_unit_test(an_unplanned_promotion),
        cmocka_unit_test(a_promotion_waits_for_who_cannot_be_claimed),
        cmocka_unit_test(a_promotion_that_failed_leaves_a_standby),
        cmocka_unit_test(a_promotion_that_failed_gives_its_claims_up),
        cmocka_unit_test(a_promotion_that_is_refused_leaves_a_standby),
        cmocka_unit_test(a_release_waits_for_who_waits_for_room),
        cmocka_unit_test(one_that_yields_leaves_a_living_engine_alone),
        cmocka_unit_test(a_release_that_fails_gives_nothing_back),
    };
    return cmocka_run_group_tests_name("two engines for one mirror", tests, NULL, NULL);
}
