/* Verdicts over records, as tables: one line is one leg's record, and what is to come of it. The schedules are those of
 * docs/mirror.md, "Where attacks on an earlier page ended". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockdev/mirror/decide.h"

/* A leg's record in short. Epochs are numbers: depth and id in one; a letter after it (2b = 'b') makes another id of that depth.
 * Behind one of the history: '-' = it came to nothing, '!' = others counted after it, "(ab)" = its members, of the first that did
 * not come to nothing. */
struct line {
    bool seen;
    const char *epochs;  /* own epoch, then the history: "3 2 1", "2b 1", "4 3- 2(abc) 1" */
    const char *members; /* of the own epoch: "ab" */
    enum replica_state state;
    const char *base; /* while syncing, "" = nothing; '+' behind it: it takes writes */
    enum decide_verdict verdict;
    uint64_t from_depth;
};

struct row {
    const char *name;
    enum replica_policy policy;
    struct {                  /* what few have */
        const char *excluded; /* legs that every record of the newest epoch excludes */
        const char *tie_breaker;
        uint32_t accept_absent;
    } special;
    struct line legs[3];
    enum decide_outcome outcome;
    const char *newest;  /* its epoch */
    const char *last[3]; /* of each leg, in all records; NULL = none */
};

static struct uuid leg_id(unsigned leg) { return (struct uuid){.bytes = {0xee, (uint8_t)(leg + 1)}}; }

static const char *parse(const char *text, struct replica_epoch *ret_epoch) {
    *ret_epoch = (struct replica_epoch){0};
    while (*text == ' ')
        text++;
    if (*text < '1' || *text > '9')
        return text;
    ret_epoch->depth = (uint64_t)(*text++ - '0');
    ret_epoch->id.bytes[0] = (uint8_t)ret_epoch->depth;
    if (*text >= 'b' && *text <= 'z')
        ret_epoch->id.bytes[1] = (uint8_t)*text++;
    return text;
}

static void make(const struct row *row, unsigned leg, struct replica_status *ret_status) {
    const struct line *line = &row->legs[leg];
    struct replica_record *record = &ret_status->record;
    *ret_status = (struct replica_status){.incarnation = 5};
    if (line->epochs == NULL)
        return;
    ret_status->flags = REPLICA_HAS_RECORD;
    record->magic = REPLICA_RECORD_MAGIC;
    record->version = REPLICA_RECORD_VERSION;
    record->mirror.bytes[0] = 1;
    record->leg = leg_id(leg);
    record->state = (uint8_t)line->state;
    record->policy = (uint8_t)row->policy;
    record->leg_count = 3;
    const char *text = parse(line->epochs, &record->epoch);
    const char *before = NULL;
    for (struct replica_epoch epoch; (text = parse(text, &epoch)), epoch.depth != 0;) {
        for (; *text == '-' || *text == '!' || *text == '('; text++)
            if (*text == '(') {
                before = text;
                text = strchr(text, ')');
            } else {
                *(*text == '-' ? &record->came_to_nothing : &record->reconfigured) |= (uint16_t)(1u << record->history_count);
            }
        record->history[record->history_count++] = epoch;
    }
    if (line->base != NULL && *parse(line->base, &record->base) == '+')
        record->joined = record->epoch.depth;
    for (unsigned i = 0; i < 3; i++) {
        record->legs[i].id = leg_id(i);
        record->legs[i].name[0] = (char)('a' + i);
        if (line->members != NULL && strchr(line->members, 'a' + (int)i) != NULL)
            record->legs[i].flags |= REPLICA_LEG_MEMBER;
        if (before != NULL && memchr(before, 'a' + (int)i, strcspn(before, ")")) != NULL)
            record->legs[i].flags |= REPLICA_LEG_BEFORE;
        if (row->special.tie_breaker != NULL && strchr(row->special.tie_breaker, 'a' + (int)i) != NULL)
            record->legs[i].flags = REPLICA_LEG_TIE_BREAKER;
        if (row->special.excluded != NULL && strchr(row->special.excluded, 'a' + (int)i) != NULL && i != leg)
            record->legs[i].flags = REPLICA_LEG_EXCLUDED;
        if (row->last[i] != NULL)
            parse(row->last[i], &record->legs[i].last);
    }
    const char *wrong = replica_record_check(record);
    if (wrong != NULL)
        fail_msg("%s, leg %u: %s", row->name == NULL ? "a trial" : row->name, leg, wrong);
}

#define WHOLE REPLICA_WHOLE
#define SYNC REPLICA_SYNCING
#define SOURCE DECIDE_SOURCE
#define BACK DECIDE_RETURNING
#define ABSENT                                                                                                                   \
    { false, NULL, NULL, 0, NULL, DECIDE_UNSEEN, 0 }

static const struct row rows[] = {
    {"all members there",
     REPLICA_ANY,
     {0},
     {{true, "1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "1",
     {0}},
    {"a member is missing",
     REPLICA_ANY,
     {0},
     {{true, "1", "abc", WHOLE, NULL, SOURCE, 0}, {true, "1", "abc", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_WAIT,
     "1",
     {0}},
    {"a member is missing, and that is accepted",
     REPLICA_ANY,
     {.accept_absent = 4},
     {{true, "1", "abc", WHOLE, NULL, SOURCE, 0}, {true, "1", "abc", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_START,
     "1",
     {0}},
    {"who is given up may have gone on with one that was away",
     REPLICA_ANY,
     {.accept_absent = 1},
     {ABSENT, {true, "1", "ab", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_WAIT,
     "1",
     {0}},
    {"all that are absent are given up",
     REPLICA_ANY,
     {.accept_absent = 5},
     {ABSENT, {true, "1", "ab", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_START,
     "1",
     {0}},
    {"one of three, and one is given up: the third may have what that has",
     REPLICA_MAJORITY,
     {.accept_absent = 1},
     {ABSENT, {true, "1", "abc", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_WAIT,
     "1",
     {0}},
    {"a member is missing, two of three are a majority",
     REPLICA_MAJORITY,
     {0},
     {{true, "1", "abc", WHOLE, NULL, SOURCE, 0}, {true, "1", "abc", WHOLE, NULL, SOURCE, 0}, ABSENT},
     DECIDE_START,
     "1",
     {0}},
    {"one of three is no majority",
     REPLICA_MAJORITY,
     {0},
     {{true, "2 1", "a", WHOLE, NULL, SOURCE, 0}, ABSENT, ABSENT},
     DECIDE_WAIT,
     "2",
     {0}},
    {"a leg that was lost returns",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "2 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, BACK, 1}},
     DECIDE_START,
     "2",
     {0, 0, "1"}},
    {"a leg that was lost while members were unequal needs all marks",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "2 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, BACK, 0}},
     DECIDE_START,
     "2",
     {0}},
    /* S1: the syncing leg alone knows of the newest epoch */
    {"a syncing leg's record is evidence, majority",
     REPLICA_MAJORITY,
     {0},
     {ABSENT, {true, "3 2 1", "a", SYNC, "2", BACK, 2}, {true, "1", "abc", WHOLE, NULL, BACK, 1}},
     DECIDE_WAIT,
     "3",
     {0, "2", "1"}},
    {"a syncing leg's record is evidence, any",
     REPLICA_ANY,
     {0},
     {ABSENT, {true, "4 3 2 1", "a", SYNC, "3", BACK, 3}, {true, "1", "bc", WHOLE, NULL, BACK, 1}},
     DECIDE_WAIT,
     "4",
     {0, "3", "1"}},
    /* S20 (i): stored, but late: never complete */
    {"an attempt in the history is no branch",
     REPLICA_ANY,
     {0},
     {{true, "3 2 1", "a", WHOLE, NULL, SOURCE, 0}, {true, "2 1", "ab", WHOLE, NULL, BACK, 1}, ABSENT},
     DECIDE_START,
     "3",
     {0, "1", "1"}},
    /* S20 (ii): the old engine's attempt, which one member stored and another, which it names, never heard of */
    {"a void attempt",
     REPLICA_MAJORITY,
     {0},
     {{true, "2c 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "2c 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "2b 1", "bc", WHOLE, NULL, BACK, 1}},
     DECIDE_START,
     "2c",
     {0, 0, "1"}},
    /* the old engine's leg came back from one void attempt into another */
    {"a void base",
     REPLICA_MAJORITY,
     {0},
     {{true, "1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "3 2 1", "b", SYNC, "2", BACK, 1}},
     DECIDE_START,
     "1",
     {0, 0, 0}},
    {"a change that one member stored and the other did not",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "1", "abc", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "1",
     {0}},
    {"a leg that was to become whole",
     REPLICA_ANY,
     {0},
     {{true, "3 2 1", "ac", WHOLE, NULL, SOURCE, 0}, ABSENT, {true, "2 1", "a", SYNC, "1", BACK, 1}},
     DECIDE_START,
     "2",
     {0, "1", "1"}},
    {"a void attempt on a void attempt",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "ac", WHOLE, NULL, SOURCE, 0},
      {true, "4 3 2 1", "c", SYNC, "1", BACK, 1},
      {true, "3 2 1", "ac", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "2",
     {0, "1", 0}},
    {"an attempt that no majority can have stored",
     REPLICA_MAJORITY,
     {0},
     {{true, "3b 2 1", "a", WHOLE, NULL, BACK, 2},
      {true, "4 3c 2 1", "bc", WHOLE, NULL, SOURCE, 0},
      {true, "4 3c 2 1", "bc", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "4",
     {"2", 0, 0}},
    {"an attempt that the absent one may have stored",
     REPLICA_MAJORITY,
     {0},
     {{true, "3 2 1", "a", WHOLE, NULL, SOURCE, 0}, {true, "2 1", "abc", WHOLE, NULL, BACK, 1}, ABSENT},
     DECIDE_START,
     "3",
     {0, "1", "1"}},
    {"a base that the list would have, but has not",
     REPLICA_ANY,
     {0},
     {{true, "9 8 7 6 5 4 3c", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "9 8 7 6 5 4 3c", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "4", "b", SYNC, "3b", DECIDE_DIVERGED, 0}},
     DECIDE_START,
     "9",
     {0, 0, "2"}},
    {"of three void attempts the oldest but one was stored by two",
     REPLICA_MAJORITY,
     {0},
     {{true, "7 6 5 2 1", "b", SYNC, "2", BACK, 2},
      {true, "9 8 7 6 5 2 1", "b", WHOLE, NULL, SOURCE, 0},
      {true, "6 5 2 1", "bc", WHOLE, NULL, BACK, 6}},
     DECIDE_START,
     "7",
     {"2", 0, "6"}},
    {"two void attempts on one epoch",
     REPLICA_MAJORITY,
     {0},
     {{true, "2 1", "abc", WHOLE, NULL, BACK, 2},
      {true, "4b 3(bc) 2 1", "b", WHOLE, NULL, SOURCE, 0},
      {true, "4c 3(bc) 2 1", "c", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "3",
     {"2", "3", "3"}},
    {"two void attempts in a row, which the only member of both never heard of",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "4 3- 2(abc) 1", "a", SYNC, "2", SOURCE, 0},
      {true, "4 3- 2(abc) 1", "a", SYNC, "2", SOURCE, 0}},
     DECIDE_START,
     "2",
     {0}},
    {"an epoch that came to nothing, though nobody who should have it is there",
     REPLICA_ANY,
     {0},
     {{true, "3 2(ab) 1", "a", WHOLE, NULL, SOURCE, 0}, {true, "4 3- 2(ab) 1", "ac", SYNC, "2", SOURCE, 0}, ABSENT},
     DECIDE_START,
     "2",
     {0}},
    {"left out by a void attempt alone, it has everything",
     REPLICA_ANY,
     {0},
     {{true, "1", "ab", WHOLE, NULL, SOURCE, 0}, {true, "2 1(ab)", "a", SYNC, "1", SOURCE, 0}, ABSENT},
     DECIDE_START,
     "1",
     {0}},
    {"left out by a void attempt, but not a member before",
     REPLICA_ANY,
     {0},
     {{true, "2 1", "a", WHOLE, NULL, SOURCE, 0}, {true, "3 2(a) 1", "a", SYNC, "1", BACK, 1}, ABSENT},
     DECIDE_START,
     "2",
     {NULL, "1", NULL}},
    {"a majority that lacks what an earlier start went on from",
     REPLICA_MAJORITY,
     {0},
     {{true, "2 1", "abc", WHOLE, NULL, SOURCE, 0},
      {true, "4 3(b) 2 1", "b", WHOLE, NULL, SOURCE, 0},
      {true, "2 1", "abc", WHOLE, NULL, SOURCE, 0}},
     DECIDE_START,
     "2",
     {0}},
    {"the same, but others counted then",
     REPLICA_MAJORITY,
     {0},
     {{true, "2 1", "abc", WHOLE, NULL, BACK, 2},
      {true, "4 3(b)! 2 1", "b", WHOLE, NULL, SOURCE, 0},
      {true, "2 1", "abc", WHOLE, NULL, BACK, 2}},
     DECIDE_START,
     "3",
     {"2", NULL, "2"}},
    {"two that started without each other",
     REPLICA_ANY,
     {0},
     {{true, "2b 1", "a", WHOLE, NULL, 0, 0}, {true, "2c 1", "b", WHOLE, NULL, 0, 0}, ABSENT},
     DECIDE_REFUSE,
     NULL,
     {0}},
    {"a whole leg of another history",
     REPLICA_ANY,
     {0},
     {{true, "5 4 3", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "5 4 3", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "4 3", "c", SYNC, "2", DECIDE_DIVERGED, 0}},
     DECIDE_START,
     "5",
     {0}},
    {"older than the history, but remembered",
     REPLICA_ANY,
     {0},
     {{true, "9 8 7", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "9 8 7", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "9 8 7", "ab", SYNC, "2", BACK, 2}},
     DECIDE_START,
     "9",
     {0, 0, "2"}},
    {"half with the tie-breaker",
     REPLICA_MAJORITY,
     {.tie_breaker = "c"},
     {{true, "2 1", "a", WHOLE, NULL, SOURCE, 0}, ABSENT, {true, "2 1", "a", REPLICA_WITNESS, NULL, DECIDE_WITNESS, 0}},
     DECIDE_START,
     "2",
     {0}},
    {"a tie-breaker that knows of a newer epoch",
     REPLICA_MAJORITY,
     {.tie_breaker = "c"},
     {ABSENT, {true, "1", "ab", WHOLE, NULL, BACK, 1}, {true, "2 1", "a", REPLICA_WITNESS, NULL, DECIDE_WITNESS, 0}},
     DECIDE_WAIT,
     "2",
     {0, "1", 0}},
    {"what holds data and no record, beside members",
     REPLICA_ANY,
     {0},
     {{true, "1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, "1", "ab", WHOLE, NULL, SOURCE, 0},
      {true, NULL, NULL, 0, NULL, DECIDE_STRANGER, 0}},
     DECIDE_START,
     "1",
     {0}},
};

static void each_row(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        const struct row *row = &rows[i];
        struct replica_status statuses[3];
        struct decide_input input = {.leg_count = 3, .accept_absent = row->special.accept_absent};
        struct decide_result result;
        for (unsigned leg = 0; leg < 3; leg++) {
            make(row, leg, &statuses[leg]);
            input.legs[leg].status = row->legs[leg].seen ? &statuses[leg] : NULL;
        }
        decide(&input, &result);
        if (result.outcome != row->outcome)
            fail_msg("%s: outcome %d and not %d (%s)", row->name, result.outcome, row->outcome, result.error.text);
        if (row->outcome == DECIDE_REFUSE)
            continue;
        struct replica_epoch newest;
        parse(row->newest, &newest);
        if (!replica_epoch_equal(&newest, &result.epoch))
            fail_msg("%s: newest is of depth %llu", row->name, (unsigned long long)result.epoch.depth);
        for (unsigned leg = 0; leg < 3; leg++)
            if (result.verdicts[leg] != row->legs[leg].verdict || result.from_depths[leg] != row->legs[leg].from_depth)
                fail_msg("%s: leg %u is %d from %llu", row->name, leg, result.verdicts[leg],
                         (unsigned long long)result.from_depths[leg]);
        if (row->special.accept_absent != 0 && row->outcome == DECIDE_START)
            assert_int_equal(result.excluded, row->special.accept_absent);
    }
}

/* A row of a single test, what comes of it, and what the test changes of it before it decides. */
struct trial {
    struct row row;
    struct replica_status statuses[3];
    struct decide_input input;
    struct decide_result result;
};

static void trial_make(struct trial *trial, unsigned legs) {
    trial->input.leg_count = legs;
    for (unsigned i = 0; i < legs; i++) {
        make(&trial->row, i, &trial->statuses[i]);
        trial->input.legs[i].status = &trial->statuses[i];
    }
}

static void a_first_start_wants_all_legs(void **state) {
    (void)state;
    struct replica_status statuses[2] = {{.flags = REPLICA_UNTOUCHED}, {.flags = REPLICA_UNTOUCHED}};
    struct decide_input input = {.leg_count = 2, .legs = {{.status = &statuses[0]}, {.status = NULL}}};
    struct decide_result result;
    decide(&input, &result);
    assert_int_equal(result.outcome, DECIDE_WAIT);
    assert_int_equal(result.missing, 2);
    input.legs[1].status = &statuses[1];
    decide(&input, &result);
    assert_int_equal(result.outcome, DECIDE_FIRST_START);
    assert_int_equal(result.verdicts[1], DECIDE_SOURCE);
    statuses[1].flags = 0;
    decide(&input, &result); /* the first one would overwrite what the other holds */
    assert_int_equal(result.outcome, DECIDE_REFUSE);
    assert_int_equal(result.refused, 2);
    assert_true(result.unasked);
    statuses[0].flags = 0;
    decide(&input, &result);
    assert_int_equal(result.refused, 2);
    input.source_set = true;
    decide(&input, &result);
    assert_int_equal(result.outcome, DECIDE_FIRST_START);
    assert_int_equal(result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(result.verdicts[1], DECIDE_FULL);
    input.source = 1;
    decide(&input, &result);
    assert_int_equal(result.verdicts[0], DECIDE_FULL);
    assert_int_equal(result.verdicts[1], DECIDE_SOURCE);
    input.source_set = false;
    input.assume_equal = true;
    decide(&input, &result);
    assert_int_equal(result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(result.verdicts[1], DECIDE_SOURCE);
    input.assume_equal = false;
    statuses[1].flags = REPLICA_UNTOUCHED; /* nothing is lost: only the first one holds any */
    decide(&input, &result);
    assert_int_equal(result.outcome, DECIDE_FIRST_START);
    assert_int_equal(result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(result.verdicts[1], DECIDE_FULL);
    statuses[1].flags = 0; /* … and a tie-breaker's is not written to */
    input.legs[0].tie_breaker = true;
    decide(&input, &result);
    assert_int_equal(result.outcome, DECIDE_FIRST_START);
    assert_int_equal(result.verdicts[0], DECIDE_WITNESS);
    assert_int_equal(result.verdicts[1], DECIDE_SOURCE);
}

static void what_no_record_tells_of_is_not_overwritten(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY, .legs = {{true, "1", "a", WHOLE, NULL, 0, 0}, ABSENT, ABSENT}}};
    trial_make(&trial, 2);
    trial.input.legs[1].name = "b";
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_STRANGER);
    trial.statuses[1].flags = REPLICA_UNTOUCHED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
    trial.statuses[1].flags = 0;
    trial.input.legs[1].overwrite = true;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
    trial.input.legs[1].overwrite = false;
    trial.statuses[0].record.legs[1].flags = REPLICA_LEG_BLANK; /* it was being added under this name */
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
    trial.input.legs[1].name = "c";
    trial.statuses[0].record.legs[2].flags = 0;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_STRANGER);
    /* Longer names than the record's, which begin alike. */
    static const char own[] = "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-b";
    replica_leg_name(own, trial.statuses[0].record.legs[1].name);
    trial.input.legs[1].name = "pvc-6a1c7e02-93d4-4f5b-8e21-0d9b7c3e5f10-copy-c";
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_STRANGER);
    trial.input.legs[1].name = own;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
}

static void legs_that_do_not_belong_together_are_refused(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "1", "ab", WHOLE, NULL, 0, 0}, {true, "1", "ab", WHOLE, NULL, 0, 0}, ABSENT}}};
    trial_make(&trial, 2);
    trial.statuses[1].record.leg = trial.statuses[0].record.leg;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_REFUSE);
    assert_int_equal(trial.result.error.code, ERROR_EXISTS);
    make(&trial.row, 1, &trial.statuses[1]);
    trial.statuses[1].record.mirror.bytes[0]++;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_REFUSE);
    assert_int_equal(trial.result.error.code, ERROR_FOREIGN);
}

static void excluded_legs_are_not_asked(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .special = {.excluded = "b"},
                                  .legs = {{true, "2 1", "a", WHOLE, NULL, 0, 0}, {true, "1", "ab", WHOLE, NULL, 0, 0}, ABSENT}}};
    trial_make(&trial, 2);
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_DIVERGED);
    /* it went on by itself: still it is not asked */
    trial.statuses[1].record.epoch.depth = trial.statuses[1].record.epoch.id.bytes[0] = 7;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[1], DECIDE_DIVERGED);
    /* each was started without the other */
    trial.statuses[1].record.legs[0].flags = REPLICA_LEG_EXCLUDED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_REFUSE);
}

/* c was being made a member when it broke off; what it began from is older than the list can say. */
static void who_was_being_made_a_member_is_copied_to(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "9 8", "abc", WHOLE, NULL, 0, 0},
                                           {true, "9 8", "abc", WHOLE, NULL, 0, 0},
                                           {true, "9 8", "abc", SYNC, "2+", 0, 0}}}};
    trial_make(&trial, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct replica_record *record = &trial.statuses[i].record;
        record->epoch.depth = 40;
        record->history_count = REPLICA_HISTORY_MAX;
        for (unsigned k = 0; k < REPLICA_HISTORY_MAX; k++)
            record->history[k] = (struct replica_epoch){.depth = 39 - k, .id.bytes = {(uint8_t)(39 - k)}};
    }
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[2], DECIDE_FULL);
    /* one that the list must have */
    trial.statuses[2].record.base.depth = 30;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[2], DECIDE_DIVERGED);
}

/* b says that a is left out, from when it was started without a; since then a was discarded, is back, and went on with c without
 * b for longer than histories tell. c was there all the time. */
static void an_exclusion_that_is_over_counts_no_more(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "9 8", "ac", WHOLE, NULL, 0, 0},
                                           {true, "3 2", "c", SYNC, "2", 0, 0},
                                           {true, "9 8", "ac", WHOLE, NULL, 0, 0}}}};
    trial_make(&trial, 3);
    trial.statuses[0].record.legs[1].flags = trial.statuses[2].record.legs[1].flags = REPLICA_LEG_EXCLUDED;
    trial.statuses[1].record.legs[0].flags = REPLICA_LEG_EXCLUDED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_DIVERGED);
    assert_int_equal(trial.result.verdicts[2], DECIDE_SOURCE);
    /* without c nobody knows better */
    trial.input.leg_count = 2;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_REFUSE);
}

/* c says that a is left out, by an attempt whose only member, b, never stored it: nothing was acknowledged without a. */
static void an_exclusion_that_came_to_nothing_never_was(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "1", "abc", WHOLE, NULL, 0, 0},
                                           {true, "1", "abc", WHOLE, NULL, 0, 0},
                                           {true, "2 1(abc)", "b", SYNC, "1", 0, 0}},
                                  .last = {"1", NULL, "1"}}};
    trial_make(&trial, 3);
    trial.statuses[2].record.legs[0].flags |= REPLICA_LEG_EXCLUDED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(trial.result.verdicts[i], DECIDE_SOURCE);
    /* b is not there, and may have stored it: nobody knows better */
    trial.input.legs[1].status = NULL;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_WAIT);
    assert_int_equal(trial.result.verdicts[0], DECIDE_DIVERGED);
    assert_int_equal(trial.result.missing, 2);
    /* a was started without the two others meanwhile: that is what counts */
    trial.input.legs[1].status = &trial.statuses[1];
    trial.row.legs[0] = (struct line){true, "2b 1(abc)", "a", WHOLE, NULL, 0, 0};
    make(&trial.row, 0, &trial.statuses[0]);
    trial.statuses[0].record.legs[1].flags |= REPLICA_LEG_EXCLUDED;
    trial.statuses[0].record.legs[2].flags |= REPLICA_LEG_EXCLUDED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_DIVERGED);
    assert_int_equal(trial.result.verdicts[2], DECIDE_DIVERGED);
}

/* b stored an attempt without c, and nobody else did; then one that leaves a out, too, and which c alone has. */
static void an_exclusion_by_the_second_of_two_vain_attempts_never_was(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "1", "abc", WHOLE, NULL, 0, 0},
                                           {true, "2 1(abc)", "ab", WHOLE, NULL, 0, 0},
                                           {true, "3 2(ab) 1", "b", SYNC, "1", 0, 0}},
                                  .last = {NULL, NULL, "1"}}};
    for (unsigned with_last = 0; with_last < 2; with_last++) {
        trial_make(&trial, 3);
        trial.statuses[2].record.legs[0].flags |= REPLICA_LEG_EXCLUDED;
        if (with_last != 0) { /* known from what its last epoch was, and not from who were members before */
            parse("2", &trial.statuses[2].record.legs[0].last);
            for (unsigned i = 0; i < 3; i++)
                trial.statuses[2].record.legs[i].flags &= ~(uint32_t)REPLICA_LEG_BEFORE;
        }
        decide(&trial.input, &trial.result);
        assert_int_equal(trial.result.outcome, DECIDE_START);
        assert_int_equal(trial.result.newest->epoch.depth, 1);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(trial.result.verdicts[i], DECIDE_SOURCE);
        /* a was left out before the first of them already: that stands */
        for (unsigned i = 0; i < 3; i++) {
            trial.statuses[2].record.legs[i].flags &= ~(uint32_t)REPLICA_LEG_BEFORE;
            trial.statuses[2].record.legs[i].last = (struct replica_epoch){0};
        }
        decide(&trial.input, &trial.result);
        assert_int_equal(trial.result.verdicts[0], DECIDE_DIVERGED);
    }
}

/* a and c were left out one after the other, each by a start that had b; what they say of each other is old. */
static void two_that_were_left_behind_do_not_matter_to_each_other(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "2 1", "ab", WHOLE, NULL, 0, 0},
                                           {true, "5 4 3 2 1", "b", WHOLE, NULL, 0, 0},
                                           {true, "3 2 1", "bc", WHOLE, NULL, 0, 0}}}};
    trial_make(&trial, 3);
    trial.statuses[0].record.legs[2].flags = REPLICA_LEG_EXCLUDED;
    trial.statuses[2].record.legs[0].flags = REPLICA_LEG_EXCLUDED;
    trial.statuses[1].record.legs[0].flags = trial.statuses[1].record.legs[2].flags = REPLICA_LEG_EXCLUDED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_DIVERGED);
    assert_int_equal(trial.result.verdicts[1], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[2], DECIDE_DIVERGED);
}

/* What was begun with all legs and stored by one was never served. */
static void a_first_start_that_one_leg_stored_is_none(void **state) {
    (void)state;
    struct trial trial = {
        .row = {.policy = REPLICA_ANY, .legs = {{true, "1", "ab", WHOLE, NULL, 0, 0}, {true, "", "", SYNC, NULL, 0, 0}, ABSENT}}};
    trial_make(&trial, 2);
    trial.statuses[0].flags |= REPLICA_UNTOUCHED;
    trial.statuses[1].flags |= REPLICA_UNTOUCHED;
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_FIRST_START);
    assert_null(trial.result.newest);
    /* that leg is new, and the other one is all there is */
    trial.row.legs[0].members = "a";
    make(&trial.row, 0, &trial.statuses[0]);
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[0], DECIDE_SOURCE);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
}

/* Longer away than histories tell: what the members remember of it counts, and where they do not it gets everything. */
static void what_fell_off_the_list_is_remembered_by_the_members(void **state) {
    (void)state;
    struct trial trial = {.row = {.policy = REPLICA_ANY,
                                  .legs = {{true, "9 8", "a", WHOLE, NULL, 0, 0}, {true, "4 3", "ab", WHOLE, NULL, 0, 0}, ABSENT},
                                  .last = {NULL, "3"}}};
    trial_make(&trial, 2);
    struct replica_record *newest = &trial.statuses[0].record;
    newest->epoch.depth = 40;
    newest->history_count = REPLICA_HISTORY_MAX;
    for (unsigned i = 0; i < REPLICA_HISTORY_MAX; i++)
        newest->history[i] = (struct replica_epoch){.depth = 39 - i, .id.bytes = {(uint8_t)(39 - i)}};
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.outcome, DECIDE_START);
    assert_int_equal(trial.result.verdicts[1], DECIDE_RETURNING);
    assert_int_equal(trial.result.bases[1].depth, 3);
    assert_int_equal(trial.result.from_depths[1], 3);
    newest->legs[1].last = (struct replica_epoch){0};
    decide(&trial.input, &trial.result);
    assert_int_equal(trial.result.verdicts[1], DECIDE_FULL);
    /* Discarded: they have no epoch in common that the members' list tells; or it was no leg of this mirror. */
    struct replica_epoch base;
    uint64_t from_depth = 9;
    assert_int_equal(decide_discarded(newest, &trial.statuses[1].record, &base, &from_depth), DECIDE_FULL);
    assert_int_equal(from_depth, 0);
    trial.statuses[1].record.leg.bytes[5]++;
    assert_int_equal(decide_discarded(newest, &trial.statuses[1].record, &base, &from_depth), DECIDE_FULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row),
        cmocka_unit_test(a_first_start_wants_all_legs),
        cmocka_unit_test(what_no_record_tells_of_is_not_overwritten),
        cmocka_unit_test(legs_that_do_not_belong_together_are_refused),
        cmocka_unit_test(excluded_legs_are_not_asked),
        cmocka_unit_test(who_was_being_made_a_member_is_copied_to),
        cmocka_unit_test(an_exclusion_that_is_over_counts_no_more),
        cmocka_unit_test(an_exclusion_that_came_to_nothing_never_was),
        cmocka_unit_test(an_exclusion_by_the_second_of_two_vain_attempts_never_was),
        cmocka_unit_test(two_that_were_left_behind_do_not_matter_to_each_other),
        cmocka_unit_test(a_first_start_that_one_leg_stored_is_none),
        cmocka_unit_test(what_fell_off_the_list_is_remembered_by_the_members),
    };
    return cmocka_run_group_tests_name("deciding", tests, NULL, NULL);
}
