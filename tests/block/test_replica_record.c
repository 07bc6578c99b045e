/* A mirror's record and documents: what is refused, and why. Everything in them may come from a disk or a peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/replica.h"

static struct uuid id(uint8_t n) {
    struct uuid uuid = {.bytes = {n}};
    return uuid;
}

static struct replica_record good(void) {
    struct replica_record record = {.magic = REPLICA_RECORD_MAGIC,
                                    .version = REPLICA_RECORD_VERSION,
                                    .leg_count = 3,
                                    .history_count = 2,
                                    .mirror = id(1),
                                    .leg = id(11),
                                    .promised_term = 7,
                                    .promised_engine = id(2),
                                    .epoch = {9, id(109)},
                                    .state = REPLICA_WHOLE,
                                    .policy = REPLICA_ANY,
                                    .settled = 1,
                                    .history = {{8, id(108)}, {6, id(106)}}};
    for (uint8_t i = 0; i < 3; i++)
        record.legs[i] = (struct replica_leg){.id = id((uint8_t)(10 + i)), .flags = REPLICA_LEG_MEMBER, .name = "n"};
    return record;
}

static void expect(const struct replica_record *record, const char *why) {
    const char *got = replica_record_check(record);
    if (why == NULL)
        assert_null(got);
    else
        assert_string_equal(got, why);
}

static void records_that_make_no_sense_are_refused(void **state) {
    (void)state;
    struct replica_record record = good();
    expect(&record, NULL);
#define WRONG(change, why)                                                                                                       \
    do {                                                                                                                         \
        record = good();                                                                                                         \
        change;                                                                                                                  \
        expect(&record, why);                                                                                                    \
    } while (0)
    WRONG(record.magic++, "it is no record");
    WRONG(record.version = 2, "its version is unknown");
    WRONG(record.leg_count = 9, "it has too many legs or epochs");
    WRONG(record.history_count = 17, "it has too many legs or epochs");
    WRONG(record.mirror = id(0), "the mirror or the leg has no id");
    WRONG(record.state = 0, "its state is unknown");
    WRONG(record.state = 4, "its state is unknown");
    WRONG(record.policy = 3, "its policy or a flag is unknown");
    WRONG(record.settled = 2, "its policy or a flag is unknown");
    WRONG(record.reserved = 1, "its policy or a flag is unknown");
    WRONG(record.came_to_nothing = 4, "it tells of epochs that it does not have");
    WRONG(record.reconfigured = 4, "it tells of epochs that it does not have");
    WRONG(record.epoch.id = id(0), "an epoch has a depth or an id only, or is too deep");
    WRONG(record.epoch.depth = REPLICA_DEPTH_MAX + 1, "an epoch has a depth or an id only, or is too deep");
    WRONG(record.history[0].depth = 9, "the history does not fall");
    WRONG(record.history[1].depth = 8, "the history does not fall");
    WRONG(record.history_count = 3, "the history does not fall");
    WRONG(record.joined = 10, "the leg knows more than its epoch");
    WRONG(record.base = ((struct replica_epoch){10, id(3)}), "the leg knows more than its epoch");
    WRONG(record.legs[2].id = id(10), "two legs have one id");
    WRONG(record.legs[1].id = id(0), "a leg has no id");
    WRONG(record.legs[1].flags = 32, "a leg has an unknown flag");
    WRONG(record.legs[1].flags |= REPLICA_LEG_EXCLUDED, "a member is excluded or a tie-breaker");
    WRONG(record.legs[1].name[2] = 'x', "a leg's last epoch or name is none");
    WRONG(memset(record.legs[1].name, 'x', sizeof(record.legs[1].name)), "a leg's last epoch or name is none");
#undef WRONG
    record = good(); /* nothing decided yet */
    record.epoch = (struct replica_epoch){0};
    record.history_count = record.leg_count = 0;
    expect(&record, NULL);
}

static void records_are_asked_for_legs_and_epochs(void **state) {
    (void)state;
    struct replica_record record = good();
    struct uuid second = id(11), stranger = id(77);
    assert_int_equal(replica_record_leg(&record, &second), 1);
    assert_int_equal(replica_record_leg(&record, &stranger), 3);
    assert_true(replica_record_knows(&record, &record.epoch));
    assert_true(replica_record_knows(&record, &record.history[1]));
    assert_false(replica_record_knows(&record, &(struct replica_epoch){8, id(109)})); /* the id alone says so, at its depth */
    assert_false(replica_record_knows(&record, &(struct replica_epoch){0}));
}

static void ranges_have_the_length_that_they_say(void **state) {
    (void)state;
    union {
        struct replica_ranges ranges;
        uint8_t bytes[64];
    } document = {.ranges = {.count = 2}};
    assert_null(replica_ranges_check(&document.ranges, 40));
    assert_non_null(replica_ranges_check(&document.ranges, 7));
    assert_non_null(replica_ranges_check(&document.ranges, 39));
    assert_non_null(replica_ranges_check(&document.ranges, 56));
    document.ranges.flags = REPLICA_ALL_REGIONS;
    assert_null(replica_ranges_check(&document.ranges, 40));
    document.ranges.flags = 2;
    assert_non_null(replica_ranges_check(&document.ranges, 40));
    document.ranges = (struct replica_ranges){.count = REPLICA_RANGES_MAX + 1};
    assert_non_null(replica_ranges_check(&document.ranges, replica_ranges_bytes(REPLICA_RANGES_MAX + 1)));
    document.ranges.count = UINT32_MAX;
    assert_non_null(replica_ranges_check(&document.ranges, 8));
}

static void an_argument_holds_three_things(void **state) {
    (void)state;
    uint64_t argument = replica_argument(REPLICA_SUMS, 0x123456, 0xfedcba98);
    assert_int_equal(replica_verb(argument), REPLICA_SUMS);
    assert_int_equal(replica_seed(argument), 0x123456);
    assert_int_equal(replica_layer_or_depth(argument), 0xfedcba98);
}

static void attributes_are_texts_by_twos(void **state) {
    (void)state;
    union {
        struct replica_pairs pairs;
        uint8_t bytes[sizeof(struct replica_pairs) + 2 * 2 * (REPLICA_PAIRS_MAX + 1)];
    } document = {.bytes = {0}};
    struct replica_pairs *pairs = &document.pairs;
    assert_null(replica_pairs_check(pairs, sizeof(*pairs)));
    assert_non_null(replica_pairs_check(pairs, sizeof(*pairs) - 1));
    memcpy(pairs->pairs, "a\0b\0c\0\0", 8);
    pairs->pair_bytes = 7;
    assert_null(replica_pairs_check(pairs, sizeof(*pairs) + 7));
    assert_null(replica_pairs_check(pairs, sizeof(*pairs) + 9)); /* an answer may be longer */
    assert_non_null(replica_pairs_check(pairs, sizeof(*pairs) + 6));
    pairs->pair_bytes = 6; /* a key without its value */
    assert_non_null(replica_pairs_check(pairs, sizeof(document)));
    pairs->pair_bytes = 3; /* no end */
    assert_non_null(replica_pairs_check(pairs, sizeof(document)));
    pairs->pair_bytes = UINT32_MAX;
    assert_non_null(replica_pairs_check(pairs, sizeof(document)));
    memset(pairs->pairs, 0, sizeof(document) - sizeof(*pairs));
    pairs->pair_bytes = 2 * REPLICA_PAIRS_MAX;
    assert_null(replica_pairs_check(pairs, sizeof(document)));
    pairs->pair_bytes = 2 * (REPLICA_PAIRS_MAX + 1); /* too many */
    assert_non_null(replica_pairs_check(pairs, sizeof(document)));
}

static void long_names_are_told_apart(void **state) {
    (void)state;
    struct replica_leg leg = {0};
    static const char *const names[] = {"",
                                        "r-0000000a@vol-e-0",
                                        "twenty-seven-bytes-of-a-nam",
                                        "twenty-eight-bytes-of-a-name",
                                        "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-a",
                                        "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-b"};
    for (size_t i = 0; i < array_count(names); i++) {
        replica_leg_name(names[i], leg.name);
        assert_true(strlen(leg.name) < sizeof(leg.name));
        assert_int_equal(strcmp(leg.name, names[i]) == 0, strlen(names[i]) < sizeof(leg.name));
        for (size_t k = 0; k < array_count(names); k++)
            assert_int_equal(replica_leg_is_named(&leg, names[k]), i == k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_that_make_no_sense_are_refused), cmocka_unit_test(records_are_asked_for_legs_and_epochs),
        cmocka_unit_test(ranges_have_the_length_that_they_say),   cmocka_unit_test(attributes_are_texts_by_twos),
        cmocka_unit_test(an_argument_holds_three_things),         cmocka_unit_test(long_names_are_told_apart),
    };
    return cmocka_run_group_tests_name("replica record", tests, NULL, NULL);
}
