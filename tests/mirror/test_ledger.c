/* The ledger against which lives are checked: what it accuses, and what it must not. */
#include "ledger.h"

#include "cluster.h"

#define ENGINE 1
#define NEXT_ENGINE 2

/* One block; no request is under way but those that a test has begun. */
static struct ledger make(void) {
    struct ledger ledger;
    ledger_init(&ledger, 1);
    return ledger;
}

static uint32_t begin(struct ledger *ledger, bool zero) {
    return ledger_write_begin(ledger, 0, ENGINE, zero, ledger_now(ledger));
}
static void answer(struct ledger *ledger, uint32_t id) { ledger_write_end(ledger, 0, id, true, false); }
static uint32_t write_one(struct ledger *ledger, bool zero) {
    uint32_t id = begin(ledger, zero);
    answer(ledger, id);
    return id;
}
static const char *read_one(struct ledger *ledger, uint32_t id) { return ledger_read(ledger, 0, id, ledger_now(ledger)); }
static void flush(struct ledger *ledger) { ledger_flush(ledger, ledger_now(ledger), LEDGER_NEVER); }

static void what_was_overwritten_is_accused(void **state) {
    (void)state;
    struct ledger ledger = make();
    uint32_t old = write_one(&ledger, false), new = write_one(&ledger, false);
    assert_null(read_one(&ledger, new));
    assert_string_equal(read_one(&ledger, old), "what was overwritten");
    assert_string_equal(read_one(&ledger, 0), "zeros that were overwritten");
    ledger_loss(&ledger); /* nothing was flushed */
    assert_null(read_one(&ledger, old));
    assert_string_equal(read_one(&ledger, new), "what was overwritten");
    ledger_fini(&ledger);
}

static void what_was_flushed_over_is_gone(void **state) {
    (void)state;
    struct ledger ledger = make();
    uint32_t old = write_one(&ledger, false);
    write_one(&ledger, false);
    flush(&ledger);
    ledger_loss(&ledger);
    assert_string_equal(read_one(&ledger, old), "what is gone");
    ledger_fini(&ledger);
}

/* A read saw it on the one leg that had it. */
static void a_write_without_an_answer_is_taken_back_with_its_engine_only(void **state) {
    (void)state;
    for (unsigned dies = 0; dies < 2; dies++) {
        struct ledger ledger = make();
        uint32_t old = write_one(&ledger, false), new = begin(&ledger, false);
        assert_null(read_one(&ledger, new));
        assert_string_equal(read_one(&ledger, old), "what was overwritten");
        if (dies)
            ledger_writers_over(&ledger, NEXT_ENGINE);
        else
            answer(&ledger, new);
        if (dies)
            assert_null(read_one(&ledger, old));
        else
            assert_string_equal(read_one(&ledger, old), "what was overwritten");
        ledger_fini(&ledger);
    }
}

/* All legs were lost for too long; the one that showed it may be gone, and the engine goes on with another (seed 80707). */
static void a_write_that_was_given_back_is_taken_back(void **state) {
    (void)state;
    for (unsigned given_back = 0; given_back < 2; given_back++) {
        struct ledger ledger = make();
        uint32_t old = write_one(&ledger, false), new = begin(&ledger, false);
        assert_null(read_one(&ledger, new));
        ledger_write_end(&ledger, 0, new, false, given_back);
        if (given_back)
            assert_null(read_one(&ledger, old));
        else
            assert_string_equal(read_one(&ledger, old), "what was overwritten");
        /* what was answered stays */
        uint32_t last = write_one(&ledger, false);
        assert_string_equal(read_one(&ledger, old), "what was overwritten");
        assert_null(read_one(&ledger, last));
        ledger_fini(&ledger);
    }
}

/* Zeros that were answered while `old` was under way, so that they may lie over it, and others that are not answered yet: which
 * of them a read shows nobody knows. */
static struct ledger make_zeros(uint32_t *ret_old, uint32_t *ret_loose) {
    struct ledger ledger = make();
    uint32_t zeros = begin(&ledger, true);
    *ret_old = begin(&ledger, false);
    answer(&ledger, zeros);
    answer(&ledger, *ret_old);
    *ret_loose = begin(&ledger, true);
    assert_null(read_one(&ledger, 0));
    return ledger;
}

static void zeros_may_be_those_that_are_taken_back(void **state) {
    (void)state;
    uint32_t old, loose;
    struct ledger ledger = make_zeros(&old, &loose);
    assert_string_equal(read_one(&ledger, old), "what was overwritten"); /* not while that engine lives */
    ledger_writers_over(&ledger, NEXT_ENGINE);
    flush(&ledger); /* seed 73132 */
    assert_null(read_one(&ledger, old));
    assert_string_equal(read_one(&ledger, 0), "zeros that were overwritten");
    ledger_fini(&ledger);
}

static void zeros_that_are_answered_stay(void **state) {
    (void)state;
    uint32_t old, loose;
    struct ledger ledger = make_zeros(&old, &loose);
    answer(&ledger, loose);
    ledger_writers_over(&ledger, NEXT_ENGINE);
    assert_string_equal(read_one(&ledger, old), "what was overwritten");
    assert_null(read_one(&ledger, 0));
    flush(&ledger);
    assert_string_equal(read_one(&ledger, old), "what is gone");
    ledger_fini(&ledger);
}

/* All that a read may show is answered: then it is as firm as any. */
static void zeros_that_were_answered_are_firm(void **state) {
    (void)state;
    struct ledger ledger = make();
    uint32_t zeros = begin(&ledger, true), old = begin(&ledger, false);
    answer(&ledger, zeros);
    answer(&ledger, old);
    assert_null(read_one(&ledger, 0));
    ledger_writers_over(&ledger, NEXT_ENGINE);
    assert_string_equal(read_one(&ledger, old), "what was overwritten");
    ledger_fini(&ledger);
}

/* Two are under way; that one is answered says nothing if it was the other that was shown. */
static void of_two_that_may_be_taken_back_neither_is_known(void **state) {
    (void)state;
    struct ledger ledger = make();
    uint32_t old = begin(&ledger, false), first = begin(&ledger, true), second = begin(&ledger, true);
    answer(&ledger, old);
    assert_null(read_one(&ledger, 0));
    answer(&ledger, second);
    ledger_write_end(&ledger, 0, first, false, true);
    ledger_writers_over(&ledger, NEXT_ENGINE);
    assert_null(read_one(&ledger, old));
    ledger_fini(&ledger);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_overwritten_is_accused),
        cmocka_unit_test(what_was_flushed_over_is_gone),
        cmocka_unit_test(a_write_without_an_answer_is_taken_back_with_its_engine_only),
        cmocka_unit_test(a_write_that_was_given_back_is_taken_back),
        cmocka_unit_test(zeros_may_be_those_that_are_taken_back),
        cmocka_unit_test(zeros_that_are_answered_stay),
        cmocka_unit_test(zeros_that_were_answered_are_firm),
        cmocka_unit_test(of_two_that_may_be_taken_back_neither_is_known),
    };
    return cmocka_run_group_tests_name("the ledger", tests, NULL, NULL);
}
