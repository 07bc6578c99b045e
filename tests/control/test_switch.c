/* A switch-over by model: two engines of which one has the replicas' claims, and every way in which questions, answers and the
 * daemon that asks can be lost. However it goes, in the end hosts find the one that can write, and the frontend knows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "control/switch.h"

enum { FAULTS_MAX = 4, CHOICES = 4, ROUNDS_MAX = 60 };

struct world {
    /* The engines. */
    bool next_has_claims, old_accessible;
    bool promoting; /* the next one was told to, and has not come to an end */
    /* The daemon, and what it has recorded. */
    enum switch_step step;
    bool moved;
    /* Choices still to be made: a digit for each question. */
    unsigned choices[FAULTS_MAX], used;
};

static unsigned choose(struct world *world) { return world->used < FAULTS_MAX ? world->choices[world->used++] : 0; }

static enum switch_answer look(const struct world *world) {
    return world->next_has_claims ? SWITCH_SERVES : world->promoting ? SWITCH_SILENT : SWITCH_STANDS_BY;
}

/* 0: done and answered. 1: done, the answer is lost. 2: the question is lost. 3: refused; a promotion: neither yet. */
static enum switch_answer ask(struct world *world, enum switch_ask what) {
    unsigned fate = choose(world);
    bool done = fate < 2, refused = fate == 3;
    switch (what) {
    case SWITCH_ASK_NEXT:
        return fate == 0 ? look(world) : refused && !world->next_has_claims && !world->promoting ? SWITCH_REFUSED : SWITCH_SILENT;
    case SWITCH_ASK_CONNECT: break;
    case SWITCH_ASK_OLD: return fate == 0 ? SWITCH_SERVES : refused ? SWITCH_REFUSED : SWITCH_SILENT;
    case SWITCH_ASK_DRAIN:
        if (done)
            world->old_accessible = false;
        break;
    case SWITCH_ASK_PROMOTE:
        if (done)
            world->next_has_claims = true;
        world->promoting = refused && !world->next_has_claims;
        return fate == 0 ? SWITCH_SERVES : SWITCH_SILENT;
    case SWITCH_ASK_RESTORE:
    case SWITCH_ASK_RESTORE_BLIND:
        if (done)
            world->old_accessible = true;
        break;
    case SWITCH_ASK_NOTHING: fail();
    }
    return fate == 0 ? SWITCH_SERVES : refused ? SWITCH_REFUSED : SWITCH_SILENT;
}

/* One life of the daemon: until it has nothing to do, or dies before its `death`th question. True: nothing is left to do. */
static bool live(struct world *world, enum switch_phase phase, unsigned death) {
    struct switch_move move = switch_next(world->step, phase, SWITCH_ASK_NOTHING, SWITCH_BEGIN);
    for (unsigned asked = 0;; asked++) {
        world->step = move.step;
        world->moved |= move.end == SWITCH_MOVED;
        if (move.end != SWITCH_GOES_ON)
            return move.end != SWITCH_LATER && world->step != SWITCH_DRAINED && world->step != SWITCH_UNDOING;
        if (asked == death)
            return false;
        assert_true(asked < ROUNDS_MAX);
        enum switch_ask what = move.ask;
        move = switch_next(world->step, phase, what, ask(world, what));
    }
}

/* As the daemon takes up what a restart or a caller that stays away has left. */
static void take_up(struct world *world) {
    if (world->step == SWITCH_DRAINED)
        world->step = SWITCH_MOVING;
}

static void check(const struct world *world, bool promotion_succeeds) {
    bool right = world->moved == world->next_has_claims && (world->next_has_claims || world->old_accessible);
    if (!right)
        fail_msg("choices %u %u %u %u, promotion %u: the next one %s the claims, the old one is %s, the frontend is with the %s",
                 world->choices[0], world->choices[1], world->choices[2], world->choices[3], promotion_succeeds,
                 world->next_has_claims ? "has" : "has not", world->old_accessible ? "accessible" : "not",
                 world->moved ? "next" : "old");
}

static void story(const unsigned choices[FAULTS_MAX], enum switch_phase phase, unsigned death, bool promotion_succeeds) {
    struct world world = {.old_accessible = true};
    memcpy(world.choices, choices, sizeof(world.choices));
    bool over = live(&world, phase, death);
    for (unsigned round = 0; !over; round++) {
        assert_true(round < ROUNDS_MAX);
        if (round == 2 && world.promoting) { /* it comes to an end by itself */
            world.promoting = false;
            world.next_has_claims = promotion_succeeds;
        }
        take_up(&world);
        if (world.step == SWITCH_NONE || world.step == SWITCH_PREPARED)
            break;
        over = live(&world, SWITCH_ALL, UINT32_MAX);
    }
    assert_false(world.promoting);
    check(&world, promotion_succeeds);
}

static void test_every_way(void **state) {
    (void)state;
    static const enum switch_phase phases[] = {SWITCH_PREPARE, SWITCH_DRAIN, SWITCH_ALL};
    unsigned count = 1;
    for (unsigned i = 0; i < FAULTS_MAX; i++)
        count *= CHOICES;
    for (unsigned p = 0; p < array_count(phases); p++)
        for (unsigned death = 0; death <= 7; death++)
            for (unsigned n = 0; n < count; n++) {
                unsigned choices[FAULTS_MAX], rest = n;
                for (unsigned i = 0; i < FAULTS_MAX; i++, rest /= CHOICES)
                    choices[i] = rest % CHOICES;
                story(choices, phases[p], death, false);
                story(choices, phases[p], death, true);
            }
}

/* Without faults: each phase goes as far as it says, and the last one takes up where the others have stopped. */
static void test_phases(void **state) {
    struct world world = {.old_accessible = true};
    (void)state;
    assert_true(live(&world, SWITCH_PREPARE, UINT32_MAX));
    assert_int_equal(world.step, SWITCH_PREPARED);
    assert_true(world.old_accessible && !world.next_has_claims);
    (void)live(&world, SWITCH_DRAIN, UINT32_MAX);
    assert_int_equal(world.step, SWITCH_DRAINED);
    assert_true(!world.old_accessible && !world.next_has_claims);
    assert_true(live(&world, SWITCH_ALL, UINT32_MAX));
    assert_int_equal(world.step, SWITCH_NONE);
    assert_true(world.moved && world.next_has_claims);
}

/* An old engine that does not answer is not asked to drain. */
static void test_dead(void **state) {
    struct switch_move move = switch_next(SWITCH_MOVING, SWITCH_ALL, SWITCH_ASK_OLD, SWITCH_SILENT);
    (void)state;
    assert_int_equal(move.ask, SWITCH_ASK_PROMOTE);
}

static void test_names(void **state) {
    enum switch_step step;
    (void)state;
    for (unsigned i = SWITCH_NONE; i <= SWITCH_UNDOING; i++) {
        assert_true(switch_step_parse(switch_step_name((enum switch_step)i), &step));
        assert_int_equal(step, i);
    }
    assert_false(switch_step_parse("", &step));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_way), cmocka_unit_test(test_phases),
                                       cmocka_unit_test(test_dead), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
