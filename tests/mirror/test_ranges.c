/* Ranges against a plain model: nobody holds what overlaps an earlier one, everybody is granted in the end, reads wait for what
 * came before them. And the table of regions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/random.h"
#include "blockdev/mirror/ranges.h"
#include "blockdev/mirror/region.h"

#define SLOTS 96

struct slot {
    struct range range;
    bool used, held, shared;
    uint64_t offset, length, order;
};

struct model {
    struct ranges ranges;
    struct slot slots[SLOTS];
    uint64_t order, granted;
};
static struct model *model_of_test;

static void check_grant(struct model *model, struct slot *slot) {
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *other = &model->slots[i];
        if (other != slot && other->used && !other->shared && other->order < slot->order &&
            other->offset < slot->offset + slot->length && slot->offset < other->offset + other->length)
            fail_msg("a range was granted before an earlier one that overlaps has left");
    }
    slot->held = true;
    model->granted++;
}

static void granted(struct range *range) { check_grant(model_of_test, container_of(range, struct slot, range)); }

static void every_range_waits_for_the_earlier_ones_and_no_longer(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct model *model = calloc(1, sizeof(*model));
        struct random random;
        random_init(&random, seed);
        model_of_test = model;
        ranges_init(&model->ranges);
        uint64_t entered = 0, shared = 0;
        for (unsigned step = 0; step < 6000; step++) {
            struct slot *slot = &model->slots[random_below(&random, SLOTS)];
            if (!slot->used && step < 5000) {
                static const uint64_t sizes[] = {KIB(4), KIB(4), KIB(4), KIB(64), KIB(200), MIB(1), MIB(100)};
                slot->length = sizes[random_below(&random, array_count(sizes))];
                slot->offset = random_below(&random, 512) * KIB(4);
                slot->shared = random_chance(&random, 1, 4);
                slot->order = ++model->order;
                slot->used = true;
                slot->held = false;
                slot->range.granted = granted;
                entered++;
                shared += slot->shared;
                if ((slot->shared ? ranges_enter_shared : ranges_enter)(&model->ranges, &slot->range, slot->offset, slot->length))
                    check_grant(model, slot);
                if (!slot->shared)
                    assert_true(ranges_busy(&model->ranges, slot->offset, 1));
            } else if (slot->used && slot->held) {
                slot->used = false;
                if (!slot->shared)
                    ranges_leave(&model->ranges, &slot->range);
            }
        }
        for (bool any = true; any;) {
            any = false;
            for (unsigned i = 0; i < SLOTS; i++)
                if (model->slots[i].used && model->slots[i].held) {
                    any = true;
                    model->slots[i].used = false;
                    if (!model->slots[i].shared)
                        ranges_leave(&model->ranges, &model->slots[i].range);
                }
        }
        assert_int_equal(model->granted, entered);
        assert_true(shared > 20);
        assert_false(ranges_busy(&model->ranges, 0, GIB(1)));
        free(model);
    }
}

static void regions_are_idle_when_nobody_touched_them_since_the_round_began(void **state) {
    (void)state;
    struct regions regions;
    uint64_t left;
    assert_true(regions_init(&regions, MIB(200) + 4096));
    assert_int_equal(regions.count, 201);
    regions_touch(&regions, MIB(3) - 4096, 8192);
    regions_touch(&regions, MIB(200), 4096);
    assert_int_equal(regions.marked_count, 3);
    left = regions.count;
    assert_true(regions_next_idle(&regions, &left) == UINT64_MAX);
    regions_round_begin(&regions);
    regions_touch(&regions, MIB(3), 4096);
    regions_unequal_add(&regions, 200, 200);
    left = regions.count;
    assert_int_equal(regions_next_idle(&regions, &left), 2);
    assert_true(regions_next_idle(&regions, &left) == UINT64_MAX);
    assert_true(regions_unequal_in(&regions, MIB(199), MIB(1)) == UINT64_MAX);
    assert_int_equal(regions_unequal_in(&regions, MIB(199), MIB(1) + 4096), 200);
    regions_unequal_remove(&regions, 200);
    regions_unequal_remove(&regions, 200);
    assert_int_equal(regions.unequal_count, 0);
    regions_cleared(&regions, 2);
    left = regions.count;
    assert_int_equal(regions_next_idle(&regions, &left), 200);
    regions_cleared(&regions, 200);
    assert_int_equal(regions.marked_count, 1);
    assert_false(regions_is_idle(&regions, 3));
    regions_round_begin(&regions);
    assert_true(regions_is_idle(&regions, 3));
    uint64_t bits[2] = {UINT64_C(1) << 63, UINT64_C(1) << 63};
    regions_add_marks(&regions, 64, bits, 128);
    assert_int_equal(regions.marked_count, 3);
    regions_forget(&regions);
    assert_int_equal(regions.marked_count, 0);
    regions_fini(&regions);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_waits_for_the_earlier_ones_and_no_longer),
        cmocka_unit_test(regions_are_idle_when_nobody_touched_them_since_the_round_began),
    };
    return cmocka_run_group_tests_name("ranges and regions", tests, NULL, NULL);
}
