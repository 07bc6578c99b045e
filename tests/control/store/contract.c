#include "contract.h"

static struct rig *of(void **state) { return *state; }

static struct answer *transact(struct rig *rig, const struct store_compare *compares, uint32_t compare_count,
                               const struct store_op *then_ops, uint32_t then_count, const struct store_op *else_ops,
                               uint32_t else_count) {
    struct store_request request = {.verb = STORE_TRANSACT,
                                    .compares = compares,
                                    .compare_count = compare_count,
                                    .then_ops = then_ops,
                                    .then_count = then_count,
                                    .else_ops = else_ops,
                                    .else_count = else_count};
    return rig_ask(rig, &request);
}

static struct store_op put_op(const char *key, const char *value) {
    return (struct store_op){.kind = STORE_PUT, .key = key, .value = value, .value_length = strlen(value)};
}

static void expect_refused(struct rig *rig, const struct store_request *request, enum error_code code) {
    struct answer *answer = rig_ask(rig, request);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    if (answer->error.code != code)
        fail_msg("%s", answer->error.text);
    answer_free(answer);
}

/* "key=value " of each entry of a list. */
static void assert_list(struct answer *answer, const char *expected) {
    char text[4096] = "";
    size_t length = 0;
    assert_int_equal(answer->outcome, STORE_DONE);
    for (uint32_t i = 0; i < answer->results[0].count; i++) {
        const struct store_entry *entry = &answer->results[0].entries[i];
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s=%s ", entry->key, (const char *)entry->value);
    }
    assert_string_equal(text, expected);
    answer_free(answer);
}

/* ---- entries ---- */

static void revisions_tell_making_and_change(void **state) {
    struct rig *rig = of(state);
    int64_t before = rig_revision(rig);
    assert_true(before >= 1);
    int64_t made = rig_put(rig, "a", "1"), changed = rig_put(rig, "a", "2");
    assert_true(made > before && changed > made);
    struct answer *answer = rig_list(rig, "a", 0);
    assert_int_equal(answer->revision, changed);
    const struct store_entry *entry = &answer->results[0].entries[0];
    assert_true(entry->create_revision == made && entry->modify_revision == changed && entry->lease == 0);
    answer_free(answer);
    int64_t gone = rig_delete(rig, "a");
    assert_value(rig, "a", NULL);
    int64_t again = rig_put(rig, "a", "3");
    assert_true(again > gone && gone > changed);
    answer = rig_list(rig, "a", 0);
    assert_int_equal(answer->results[0].entries[0].create_revision, again);
    answer_free(answer);
}

static void a_fresh_store_counts_from_one(void **state) {
    struct rig *rig = of(state);
    if (rig->kind->shared)
        return;
    assert_int_equal(rig_revision(rig), 1);
    assert_int_equal(rig_put(rig, "a", ""), 2);
    assert_int_equal(rig_put(rig, "b", ""), 3);
}

static void what_changes_nothing_makes_no_revision(void **state) {
    struct rig *rig = of(state);
    int64_t revision = rig_put(rig, "a", "1");
    assert_int_equal(rig_delete(rig, "absent"), revision);
    struct answer *answer = transact(rig, NULL, 0, NULL, 0, NULL, 0);
    assert_true(answer->outcome == STORE_DONE && answer->succeeded && answer->revision == revision);
    answer_free(answer);
    answer_free(rig_list(rig, "", 0));
    assert_int_equal(rig_revision(rig), revision);
}

static void values_are_bytes(void **state) {
    struct rig *rig = of(state);
    static uint8_t large[STORE_VALUE_MAX];
    struct random random;
    random_init(&random, 5);
    random_fill(&random, large, sizeof(large));
    const size_t sizes[] = {0, 1, 300, sizeof(large)};
    large[100] = 0;
    for (unsigned i = 0; i < 4; i++) {
        struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, "v"), .value = large, .value_length = sizes[i]};
        struct answer *answer = transact(rig, NULL, 0, &op, 1, NULL, 0);
        assert_int_equal(answer->outcome, STORE_DONE);
        answer_free(answer);
        answer = rig_list(rig, "v", 0);
        assert_int_equal(answer->results[0].entries[0].value_length, sizes[i]);
        assert_memory_equal(answer->results[0].entries[0].value, large, sizes[i]);
        answer_free(answer);
    }
}

/* ---- transactions ---- */

static void compares_decide(void **state) {
    struct rig *rig = of(state);
    int64_t made = rig_put(rig, "a", "m"), changed = rig_put(rig, "a", "mm");
    const struct {
        const char *key;
        enum store_compare_target target;
        int64_t revision; /* or … */
        const char *value;
        int order; /* what the key has, to it; 2 = nothing is true of it */
    } rows[] = {
        {"a", STORE_CREATE_REVISION, made, NULL, 0},
        {"a", STORE_CREATE_REVISION, made - 1, NULL, 1},
        {"a", STORE_CREATE_REVISION, changed, NULL, -1},
        {"a", STORE_MODIFY_REVISION, changed, NULL, 0},
        {"a", STORE_MODIFY_REVISION, made, NULL, 1},
        {"a", STORE_MODIFY_REVISION, changed + 1, NULL, -1},
        {"a", STORE_MODIFY_REVISION, 0, NULL, 1},
        {"absent", STORE_CREATE_REVISION, 0, NULL, 0},
        {"absent", STORE_MODIFY_REVISION, 0, NULL, 0},
        {"absent", STORE_MODIFY_REVISION, 5, NULL, -1},
        {"a", STORE_VALUE, 0, "mm", 0},
        {"a", STORE_VALUE, 0, "m", 1},
        {"a", STORE_VALUE, 0, "mmm", -1},
        {"a", STORE_VALUE, 0, "z", -1},
        {"a", STORE_VALUE, 0, "", 1},
        {"absent", STORE_VALUE, 0, "", 2},
        {"absent", STORE_VALUE, 0, "m", 2},
    };
    const enum store_relation relations[] = {STORE_EQUAL, STORE_NOT_EQUAL, STORE_LESS, STORE_GREATER};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned j = 0; j < 4; j++) {
            int order = rows[i].order;
            bool expected = relations[j] == STORE_EQUAL       ? order == 0
                            : relations[j] == STORE_NOT_EQUAL ? order != 0
                            : relations[j] == STORE_LESS      ? order < 0
                                                              : order == 1;
            struct store_compare compare = {.key = rig_key(rig, rows[i].key),
                                            .target = rows[i].target,
                                            .relation = relations[j],
                                            .revision = rows[i].revision,
                                            .value = rows[i].value,
                                            .value_length = rows[i].value != NULL ? strlen(rows[i].value) : 0};
            struct answer *answer = transact(rig, &compare, 1, NULL, 0, NULL, 0);
            assert_int_equal(answer->outcome, STORE_DONE);
            if (answer->succeeded != (order == 2 ? false : expected))
                fail_msg("%s: row %u, relation %u", rig->kind->name, i, j);
            answer_free(answer);
        }
    }
}

static void a_guard_holds_as_long_as_its_key(void **state) {
    struct rig *rig = of(state);
    struct store_compare wrong[STORE_COMPARES_MAX];
    struct store_op put = put_op(rig_key(rig, "a"), "3"), right = put_op(rig_key(rig, "right"), "theirs"),
                    look = {.kind = STORE_GET, .key = rig_key(rig, "a")};
    struct store_request write = {.verb = STORE_TRANSACT, .then_ops = &put, .then_count = 1},
                         take = {.verb = STORE_TRANSACT, .then_ops = &right, .then_count = 1, .unguarded = true};
    store_guard(rig->store, rig_key(rig, "right"), rig_put(rig, "right", "ours"));
    rig_put(rig, "a", "1");
    rig_put(rig, "right", "ours again"); /* it is the one that was made */
    int64_t changed = rig_put(rig, "a", "2");
    for (unsigned i = 0; i < STORE_COMPARES_MAX; i++)
        wrong[i] = (struct store_compare){
            .key = rig_key(rig, "a"), .target = STORE_MODIFY_REVISION, .relation = STORE_LESS, .revision = changed};
    struct answer *answer = transact(rig, wrong, 1, &put, 1, &look, 1); /* what is asked besides is told as ever */
    assert_true(answer->outcome == STORE_DONE && !answer->succeeded && answer->result_count == 1);
    assert_string_equal(answer->results[0].entries[0].value, "2");
    answer_free(answer);
    expect_refused(
        rig,
        &(struct store_request){
            .verb = STORE_TRANSACT, .compares = wrong, .compare_count = STORE_COMPARES_MAX, .then_ops = &put, .then_count = 1},
        ERROR_INVALID);
    rig_delete(rig, "right");
    expect_refused(rig, &write, ERROR_BUSY);
    answer = rig_ask(rig, &take);
    assert_int_equal(answer->outcome, STORE_DONE);
    int64_t theirs = answer->revision;
    answer_free(answer);
    expect_refused(rig, &write, ERROR_BUSY);
    assert_value(rig, "a", "2");
    store_guard(rig->store, rig_key(rig, "right"), theirs);
    rig_put(rig, "a", "4");
    store_guard(rig->store, "", 0);
}

static void one_branch_is_taken_whole(void **state) {
    struct rig *rig = of(state);
    const char *a = rig_key(rig, "a"), *b = rig_key(rig, "b"), *c = rig_key(rig, "c");
    struct store_compare compares[] = {{.key = a, .target = STORE_CREATE_REVISION, .relation = STORE_EQUAL, .revision = 0},
                                       {.key = b, .target = STORE_CREATE_REVISION, .relation = STORE_EQUAL, .revision = 0}};
    struct store_op then_ops[] = {put_op(a, "1"), put_op(b, "2"), {.kind = STORE_GET, .key = c}};
    struct store_op else_ops[] = {put_op(c, "3"), {.kind = STORE_GET, .key = a}, {.kind = STORE_DELETE, .key = b}};
    struct answer *answer = transact(rig, compares, 2, then_ops, 3, else_ops, 3);
    assert_true(answer->outcome == STORE_DONE && answer->succeeded && answer->result_count == 3);
    assert_int_equal(answer->results[2].count, 0);
    int64_t first = answer->revision;
    answer_free(answer);
    answer = transact(rig, compares, 2, then_ops, 3, else_ops, 3);
    assert_true(answer->outcome == STORE_DONE && !answer->succeeded && answer->result_count == 3);
    assert_string_equal(answer->results[1].entries[0].value, "1");
    assert_int_equal(answer->results[1].entries[0].create_revision, first);
    assert_int_equal(answer->results[2].deleted, 1);
    assert_true(answer->revision > first);
    int64_t second = answer->revision;
    answer_free(answer);
    answer = rig_list(rig, "", 0);
    assert_int_equal(answer->results[0].entries[1].modify_revision, second);
    assert_list(answer, "a=1 c=3 ");
    assert_list(rig_list(rig, "", first), "a=1 b=2 ");
}

static void operations_see_those_before(void **state) {
    struct rig *rig = of(state);
    rig_put(rig, "d/1", "x");
    rig_put(rig, "d/2", "x");
    rig_put(rig, "e", "x");
    const char *d = rig_key(rig, "d/"), *d1 = rig_key(rig, "d/1"), *e = rig_key(rig, "e");
    struct store_op ops[] = {{.kind = STORE_GET, .key = d1},
                             {.kind = STORE_DELETE, .key = d, .prefix = true},
                             {.kind = STORE_GET, .key = d1},
                             put_op(e, "y"),
                             {.kind = STORE_GET, .key = e}};
    struct answer *answer = transact(rig, NULL, 0, ops, 5, NULL, 0);
    assert_int_equal(answer->outcome, STORE_DONE);
    assert_int_equal(answer->results[0].count, 1);
    assert_int_equal(answer->results[1].deleted, 2);
    assert_int_equal(answer->results[2].count, 0);
    assert_string_equal(answer->results[4].entries[0].value, "y");
    assert_int_equal(answer->results[4].entries[0].modify_revision, answer->revision);
    answer_free(answer);
}

static void what_breaks_the_contract_is_refused_whole(void **state) {
    struct rig *rig = of(state);
    static char long_key[STORE_KEY_MAX + 2], large[STORE_VALUE_MAX + 1];
    memset(long_key, 'k', STORE_KEY_MAX + 1);
    struct store_op good = put_op("/penstock/test/refused", "1");
    struct store_op pairs[][2] = {{good, put_op("/penstock/test/refused", "2")},
                                  {good, {.kind = STORE_DELETE, .key = "/penstock/test/", .prefix = true}},
                                  {{.kind = STORE_DELETE, .key = good.key}, good},
                                  {good, put_op("", "x")},
                                  {good, put_op("a b", "x")},
                                  {good, put_op("a\n", "x")},
                                  {good, put_op("\xc3\xa4", "x")},
                                  {good, put_op(long_key, "x")},
                                  {good, {.kind = STORE_PUT, .key = "k", .value = large, .value_length = sizeof(large)}},
                                  {good, {.kind = STORE_PUT, .key = "k", .value = "", .lease = -1}}};
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        expect_refused(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = pairs[i], .then_count = 2},
                       ERROR_INVALID);
    static struct store_op many[STORE_OPS_MAX + 1];
    for (unsigned i = 0; i <= STORE_OPS_MAX; i++)
        many[i] = (struct store_op){.kind = i <= STORE_GETS_MAX ? STORE_GET : STORE_DELETE, .key = "k"};
    expect_refused(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = many, .then_count = STORE_OPS_MAX + 1},
                   ERROR_INVALID);
    expect_refused(rig, &(struct store_request){.verb = STORE_TRANSACT, .else_ops = many, .else_count = STORE_GETS_MAX + 1},
                   ERROR_INVALID);
    struct store_op heavy[5];
    for (unsigned i = 0; i < 5; i++) {
        static const char *const keys[] = {"a", "b", "c", "d", "e"};
        heavy[i] = (struct store_op){.kind = STORE_PUT, .key = keys[i], .value = large, .value_length = STORE_VALUE_MAX};
    }
    expect_refused(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = heavy, .then_count = 5}, ERROR_INVALID);
    expect_refused(rig, &(struct store_request){.verb = STORE_RANGE, .key = ""}, ERROR_INVALID);
    expect_refused(rig, &(struct store_request){.verb = STORE_RANGE, .key = "k", .limit = STORE_RANGE_MAX + 1}, ERROR_INVALID);
    expect_refused(rig, &(struct store_request){.verb = STORE_RANGE, .key = "k", .revision = -1}, ERROR_INVALID);
    expect_refused(rig, &(struct store_request){.verb = STORE_COMPACT}, ERROR_INVALID);
    struct answer *answer = rig_ask(rig, &(struct store_request){.verb = STORE_RANGE, .key = good.key});
    assert_int_equal(answer->results[0].count, 0);
    answer_free(answer);
}

static void a_lease_that_is_not_there_is_refused(void **state) {
    struct rig *rig = of(state);
    struct store_op ops[] = {put_op(rig_key(rig, "a"), "1"), put_op(rig_key(rig, "b"), "2")};
    ops[1].lease = 4711;
    expect_refused(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = ops, .then_count = 2}, ERROR_NOT_FOUND);
    assert_list(rig_list(rig, "", 0), "");
}

/* Many increments under way together, each by compare and swap, again and again until it took effect. */
struct increment {
    struct store_request request;
    struct store_compare compare;
    struct store_op put, get;
    struct rig *rig;
    unsigned *left;
    char text[24];
};

static void on_increment(struct store_request *request) {
    struct increment *increment = request->arg;
    assert_int_equal(request->outcome, STORE_DONE);
    if (request->succeeded) {
        --*increment->left;
        rig_poke(increment->rig);
        return;
    }
    const struct store_entry *entry = &request->results[0].entries[0];
    increment->compare.revision = entry->modify_revision;
    snprintf(increment->text, sizeof(increment->text), "%d", atoi(entry->value) + 1);
    increment->put.value_length = strlen(increment->text);
    store_submit(request->store, request);
}

static bool is_zero(void *arg) { return *(unsigned *)arg == 0; }

static void no_update_is_lost(void **state) {
    struct rig *rig = of(state);
    enum { COUNT = 40 };
    static struct increment increments[COUNT];
    unsigned left = COUNT;
    const char *key = rig_key(rig, "counter");
    rig_put(rig, "counter", "0");
    reactor_enter(rig->reactor);
    for (unsigned i = 0; i < COUNT; i++) {
        struct increment *it = &increments[i];
        *it = (struct increment){.rig = rig, .left = &left};
        it->compare = (struct store_compare){.key = key, .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = 1};
        it->put = (struct store_op){.kind = STORE_PUT, .key = key, .value = it->text};
        it->get = (struct store_op){.kind = STORE_GET, .key = key};
        it->request = (struct store_request){.verb = STORE_TRANSACT,
                                             .compares = &it->compare,
                                             .compare_count = 1,
                                             .then_ops = &it->put,
                                             .then_count = 1,
                                             .else_ops = &it->get,
                                             .else_count = 1,
                                             .timeout_ms = RIG_TIMEOUT_MS,
                                             .arg = it,
                                             .done = on_increment};
        store_submit(rig->store, &it->request);
    }
    reactor_enter(NULL);
    rig_wait(rig, is_zero, &left);
    char expected[16];
    snprintf(expected, sizeof(expected), "%u", COUNT);
    assert_value(rig, "counter", expected);
}

/* ---- ranges ---- */

static void ranges_are_in_order_and_in_pages(void **state) {
    struct rig *rig = of(state);
    static const char *const names[] = {"r/b", "r/a", "r/a/x", "r/~", "r", "s", "r/B"};
    int64_t revision = 0;
    for (unsigned i = 0; i < 7; i++)
        revision = rig_put(rig, names[i], "");
    rig_put(rig, "r/later", "");
    assert_list(rig_list(rig, "r/", revision), "r/B= r/a= r/a/x= r/b= r/~= ");
    struct store_request page = {.verb = STORE_RANGE,
                                 .key = rig_key(rig, "r/"),
                                 .prefix = true,
                                 .limit = 2,
                                 .revision = revision,
                                 .after = rig_key(rig, "r/a")};
    struct answer *answer = rig_ask(rig, &page);
    assert_true(answer->more);
    assert_list(answer, "r/a/x= r/b= ");
    page.after = rig_key(rig, "r/b");
    answer = rig_ask(rig, &page);
    assert_false(answer->more);
    assert_list(answer, "r/~= ");
    page.after = rig_key(rig, "r/~");
    assert_list(rig_ask(rig, &page), "");
    page.after = rig_key(rig, "q"); /* below all of them */
    page.limit = 0;
    assert_list(rig_ask(rig, &page), "r/B= r/a= r/a/x= r/b= r/~= ");
    page.prefix = false;
    page.after = NULL;
    assert_list(rig_ask(rig, &page), "");
}

static void a_heavy_answer_comes_in_parts(void **state) {
    struct rig *rig = of(state);
    enum { COUNT = 20 };
    static char value[STORE_VALUE_MAX];
    memset(value, 'v', sizeof(value));
    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];
        snprintf(name, sizeof(name), "h/%02u", i);
        struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, name), .value = value, .value_length = sizeof(value)};
        struct answer *answer = transact(rig, NULL, 0, &op, 1, NULL, 0);
        assert_int_equal(answer->outcome, STORE_DONE);
        answer_free(answer);
    }
    struct store_request page = {.verb = STORE_RANGE, .key = rig_key(rig, "h/"), .prefix = true};
    unsigned seen = 0, pages = 0;
    for (bool more = true; more; pages++) {
        struct answer *answer = rig_ask(rig, &page);
        assert_int_equal(answer->outcome, STORE_DONE);
        assert_true(answer->results[0].count > 0);
        seen += answer->results[0].count;
        more = answer->more;
        page.after = rig_key(rig, answer->results[0].entries[answer->results[0].count - 1].key);
        page.revision = answer->revision;
        answer_free(answer);
    }
    assert_int_equal(seen, COUNT);
    assert_true(pages > 1);
    struct store_op wipe = {.kind = STORE_DELETE, .key = rig->root, .prefix = true};
    answer_free(transact(rig, NULL, 0, &wipe, 1, NULL, 0));
}

static void the_past_is_there_and_the_future_is_not(void **state) {
    struct rig *rig = of(state);
    int64_t one = rig_put(rig, "a", "1"), two = rig_put(rig, "b", "1"), three = rig_delete(rig, "a");
    int64_t four = rig_put(rig, "a", "2");
    assert_list(rig_list(rig, "", one), "a=1 ");
    assert_list(rig_list(rig, "", two), "a=1 b=1 ");
    assert_list(rig_list(rig, "", three), "b=1 ");
    assert_list(rig_list(rig, "", four), "a=2 b=1 ");
    assert_list(rig_list(rig, "", 0), "a=2 b=1 ");
    struct answer *answer = rig_list(rig, "", four + 1000);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_INVALID);
    answer_free(answer);
}

/* ---- watches ---- */

static void assert_told(struct watcher *watcher, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void assert_told(struct watcher *watcher, const char *format, ...) {
    char expected[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(expected, sizeof(expected), format, arguments);
    va_end(arguments);
    assert_string_equal(watcher->text, expected);
}

static void a_watch_tells_all_from_its_revision(void **state) {
    struct rig *rig = of(state);
    struct watcher past, future, one, none;
    int64_t r1 = rig_put(rig, "w/a", "1"), r2 = rig_put(rig, "w/b", "2"), r3 = rig_delete(rig, "w/a");
    rig_put(rig, "other", "x");
    watcher_start(&past, rig, "w/", true, r2);
    watcher_start(&one, rig, "w/a", false, r1);
    watcher_start(&future, rig, "w/", true, r3 + 3);
    watcher_start(&none, rig, "w", false, r1);
    watcher_await(&past, 2);
    watcher_await(&one, 2);
    assert_told(&past, "+w/b=2@%lld -w/a@%lld ", (long long)r2, (long long)r3);
    assert_told(&one, "+w/a=1@%lld -w/a@%lld ", (long long)r1, (long long)r3);
    int64_t r4 = rig_put(rig, "w/a", "4"), r5 = rig_put(rig, "w/a/5", "5");
    watcher_await(&past, 4);
    watcher_await(&one, 3);
    assert_told(&past, "+w/b=2@%lld -w/a@%lld +w/a=4@%lld +w/a/5=5@%lld ", (long long)r2, (long long)r3, (long long)r4,
                (long long)r5);
    if (!rig->kind->shared) {
        watcher_await(&future, 1);
        assert_told(&future, "+w/a/5=5@%lld ", (long long)r5);
    }
    assert_int_equal(none.events, 0);
    watcher_stop(&past);
    watcher_stop(&one);
    watcher_stop(&future);
    watcher_stop(&none);
}

static void a_revision_is_told_whole_and_in_its_order(void **state) {
    struct rig *rig = of(state);
    struct watcher watcher;
    rig_put(rig, "p/1", "x");
    int64_t before = rig_put(rig, "p/2", "x");
    watcher_start(&watcher, rig, "", true, before + 1);
    struct store_op ops[] = {put_op(rig_key(rig, "z"), "1"),
                             {.kind = STORE_DELETE, .key = rig_key(rig, "p/"), .prefix = true},
                             put_op(rig_key(rig, "a"), "2")};
    answer_free(transact(rig, NULL, 0, ops, 3, NULL, 0));
    watcher_await(&watcher, 4);
    assert_int_equal(watcher.calls, 1);
    long long r = watcher.last_revision;
    assert_told(&watcher, "+z=1@%lld -p/1@%lld -p/2@%lld +a=2@%lld ", r, r, r, r);
    watcher_stop(&watcher);
}

static void a_long_past_is_told_without_gap_while_it_grows(void **state) {
    struct rig *rig = of(state);
    enum { BATCHES = 30, EACH = 100, LIVE = 40 };
    char names[EACH][16];
    struct store_op ops[EACH];
    for (unsigned i = 0; i < EACH; i++) {
        snprintf(names[i], sizeof(names[i]), "l/%u", i);
        ops[i] = put_op(rig_key(rig, names[i]), names[i]);
    }
    int64_t first = 0;
    for (unsigned i = 0; i < BATCHES; i++) {
        struct answer *answer = transact(rig, NULL, 0, ops, EACH, NULL, 0);
        assert_int_equal(answer->outcome, STORE_DONE);
        first = i == 0 ? answer->revision : first;
        answer_free(answer);
    }
    struct watcher watcher;
    watcher_start(&watcher, rig, "l/", true, first);
    for (unsigned i = 0; i < LIVE; i++)
        rig_put(rig, "l/live", "");
    watcher_await(&watcher, BATCHES * EACH + LIVE);
    watcher_stop(&watcher);
}

struct stopper {
    struct rig *rig;
    struct store_watch watch;
    unsigned told;
};

static void stop_it(struct store_watch *watch, const struct store_event *events, uint32_t count) {
    struct stopper *stopper = watch->arg;
    (void)events;
    (void)count;
    stopper->told++;
    store_watch_stop(watch);
    rig_poke(stopper->rig);
}

static void a_stopped_watch_is_silent(void **state) {
    struct rig *rig = of(state);
    struct stopper stopper = {.rig = rig};
    struct watcher other, idle;
    int64_t from = rig_put(rig, "a", "1");
    stopper.watch = (struct store_watch){
        .key = rig_key(rig, ""), .prefix = true, .from_revision = from + 1, .arg = &stopper, .events = stop_it};
    reactor_enter(rig->reactor);
    store_watch_start(rig->store, &stopper.watch);
    reactor_enter(NULL);
    watcher_start(&other, rig, "", true, from + 1);
    watcher_start(&idle, rig, "", true, from + 1);
    watcher_stop(&idle); /* before anything came */
    for (unsigned i = 0; i < 5; i++)
        rig_put(rig, "a", "x");
    watcher_await(&other, 5);
    assert_int_equal(stopper.told, 1);
    watcher_stop(&other);
}

/* ---- compaction ---- */

static void compaction_takes_the_past_only(void **state) {
    struct rig *rig = of(state);
    int64_t one = rig_put(rig, "a", "1");
    rig_put(rig, "b", "1");
    int64_t gone = rig_delete(rig, "b"), two = rig_put(rig, "a", "2"), last = rig_put(rig, "c", "3");
    struct watcher live, old, edge, fine;
    watcher_start(&live, rig, "", true, one);
    watcher_await(&live, 5);
    rig_compact(rig, two);
    rig_compact(rig, one); /* done already */
    rig_compact(rig, two);
    assert_list(rig_list(rig, "", two), "a=2 ");
    assert_list(rig_list(rig, "", last), "a=2 c=3 ");
    assert_list(rig_list(rig, "", 0), "a=2 c=3 ");
    struct answer *answer = rig_list(rig, "", gone);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_NOT_FOUND);
    answer_free(answer);
    watcher_start(&old, rig, "", true, one);
    watcher_start(&edge, rig, "", true, two);
    watcher_start(&fine, rig, "", true, two + 1);
    watcher_await_end(&old);
    watcher_await_end(&edge);
    assert_int_equal(old.error.code, ERROR_NOT_FOUND);
    assert_int_equal(edge.error.code, ERROR_NOT_FOUND);
    assert_int_equal(old.events + edge.events, 0);
    watcher_await(&fine, 1);
    rig_put(rig, "a", "4");
    watcher_await(&live, 6);
    watcher_await(&fine, 2);
    expect_refused(rig, &(struct store_request){.verb = STORE_COMPACT, .revision = last + 1000000}, ERROR_INVALID);
    answer = rig_list(rig, "a", 0);
    assert_int_equal(answer->results[0].entries[0].create_revision, one);
    answer_free(answer);
    watcher_stop(&live);
    watcher_stop(&old);
    watcher_stop(&edge);
    watcher_stop(&fine);
}

/* ---- life ---- */

static void what_was_done_is_there_after_a_new_start(void **state) {
    struct rig *rig = of(state);
    if (!rig->kind->endures)
        return;
    int64_t one = rig_put(rig, "a", "1"), two = rig_put(rig, "a", "2");
    rig_put(rig, "b", "x");
    int64_t gone = rig_delete(rig, "b");
    rig_close(rig);
    rig_open(rig);
    assert_int_equal(rig->status.state, STORE_READY);
    struct answer *answer = rig_list(rig, "", 0);
    assert_true(answer->revision >= gone);
    const struct store_entry *entry = &answer->results[0].entries[0];
    assert_true(entry->create_revision == one && entry->modify_revision == two);
    assert_list(answer, "a=2 ");
    assert_list(rig_list(rig, "", one), "a=1 ");
    struct watcher watcher;
    watcher_start(&watcher, rig, "", true, one);
    int64_t next = rig_put(rig, "c", "");
    assert_true(next > gone);
    watcher_await(&watcher, 5);
    watcher_stop(&watcher);
}

struct crowd {
    struct rig *rig;
    unsigned answered, busy, done, cancelled;
};

static void on_crowd(struct store_request *request) {
    struct crowd *crowd = request->arg;
    crowd->answered++;
    crowd->busy += request->error.code == ERROR_BUSY;
    crowd->cancelled += request->error.code == ERROR_CANCELLED;
    crowd->done += request->outcome == STORE_DONE;
    rig_poke(crowd->rig);
}

static bool all_answered(void *arg) { return ((struct crowd *)arg)->answered == STORE_REQUESTS_MAX + 10; }

static void a_crowd_is_bounded(void **state) {
    struct rig *rig = of(state);
    static struct store_request requests[STORE_REQUESTS_MAX + 10];
    struct crowd crowd = {.rig = rig};
    const char *key = rig_key(rig, "k");
    reactor_enter(rig->reactor);
    for (unsigned i = 0; i < STORE_REQUESTS_MAX + 10; i++) {
        requests[i] = (struct store_request){
            .verb = STORE_RANGE, .key = key, .timeout_ms = RIG_TIMEOUT_MS, .arg = &crowd, .done = on_crowd};
        store_submit(rig->store, &requests[i]);
    }
    reactor_enter(NULL);
    assert_int_equal(crowd.answered, 0);
    rig_wait(rig, all_answered, &crowd);
    assert_int_equal(crowd.busy, 10);
    assert_int_equal(crowd.done, STORE_REQUESTS_MAX);
}

static void closing_answers_everybody(void **state) {
    struct rig *rig = of(state);
    static struct store_request requests[20];
    struct crowd crowd = {.rig = rig};
    struct watcher watcher;
    struct store_op op = put_op(rig_key(rig, "k"), "v");
    watcher_start(&watcher, rig, "", true, 1);
    reactor_enter(rig->reactor);
    for (unsigned i = 0; i < 20; i++) {
        requests[i] =
            (struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1, .arg = &crowd, .done = on_crowd};
        store_submit(rig->store, &requests[i]);
    }
    reactor_enter(NULL);
    rig_pause(rig, 100 * 1000);
    rig_close(rig);
    assert_int_equal(crowd.answered, 20);
    assert_null(watcher.watch.store);
    watcher_stop(&watcher);
    rig_open(rig);
}

/* ---- running ---- */

static int set_up(void **state) {
    *state = rig_create(*(const struct store_kind **)state);
    return 0;
}

static int tear_down(void **state) {
    rig_destroy(*state);
    return 0;
}

int contract_run(const struct store_kind *kind) {
#define CASE(name)                                                                                                               \
    { #name, name, set_up, tear_down, (void *)(uintptr_t)kind }
    const struct CMUnitTest tests[] = {
        CASE(revisions_tell_making_and_change),
        CASE(a_fresh_store_counts_from_one),
        CASE(what_changes_nothing_makes_no_revision),
        CASE(values_are_bytes),
        CASE(compares_decide),
        CASE(a_guard_holds_as_long_as_its_key),
        CASE(one_branch_is_taken_whole),
        CASE(operations_see_those_before),
        CASE(what_breaks_the_contract_is_refused_whole),
        CASE(a_lease_that_is_not_there_is_refused),
        CASE(no_update_is_lost),
        CASE(ranges_are_in_order_and_in_pages),
        CASE(a_heavy_answer_comes_in_parts),
        CASE(the_past_is_there_and_the_future_is_not),
        CASE(a_watch_tells_all_from_its_revision),
        CASE(a_revision_is_told_whole_and_in_its_order),
        CASE(a_long_past_is_told_without_gap_while_it_grows),
        CASE(a_stopped_watch_is_silent),
        CASE(compaction_takes_the_past_only),
        CASE(what_was_done_is_there_after_a_new_start),
        CASE(a_crowd_is_bounded),
        CASE(closing_answers_everybody),
    };
    return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
