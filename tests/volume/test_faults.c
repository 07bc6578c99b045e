/* The n-th request of each kind, and the n-th allocation, fails: for all n, while a store is made, opened, used. Nothing crashes,
 * hangs or leaks, nobody is told a lie, rule 10 holds, and what was durable is there after the next opening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "context.h"
#include "life.h"

/* Everything once in a while, and short: it runs once for each request it makes. */
static const struct workload short_one = {
    .name = "faults",
    .seed = 31,
    .operations = 70,
    .depth = 6,
    .controls = 1,
    .volumes = 3,
    .clusters = 2,
    .fua_percent = 20,
    .hot_percent = 50,
    .weights = {[ACTION_WRITE] = 40,
                [ACTION_SUBWRITE] = 12,
                [ACTION_READ] = 10,
                [ACTION_TRIM] = 6,
                [ACTION_ZERO] = 4,
                [ACTION_FLUSH] = 12,
                [ACTION_SNAPSHOT] = 6,
                [ACTION_CLONE] = 3,
                [ACTION_DELETE_SNAPSHOT] = 5,
                [ACTION_REVERT] = 2,
                [ACTION_RESIZE] = 2,
                [ACTION_DECOUPLE] = 2,
                [ACTION_CREATE] = 2,
                [ACTION_DELETE_VOLUME] = 1},
    .store = {.disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 80000, .write_ns = 80000, .flush_ns = 100000},
              .disk_bytes = MIB(32),
              .journal_bytes = MIB(1),
              .checkpoint_bytes = KIB(16),
              .cache_bytes = MIB(4)},
};

/* Mostly commands, which is where memory is asked for. */
static const struct workload commands_mostly = {
    .name = "faults",
    .seed = 32,
    .operations = 100,
    .depth = 6,
    .controls = 2,
    .volumes = 3,
    .clusters = 2,
    .fua_percent = 20,
    .hot_percent = 50,
    .weights = {[ACTION_WRITE] = 20,
                [ACTION_SUBWRITE] = 10,
                [ACTION_BIGWRITE] = 4,
                [ACTION_READ] = 4,
                [ACTION_TRIM] = 6,
                [ACTION_ZERO] = 6,
                [ACTION_FLUSH] = 4,
                [ACTION_SNAPSHOT] = 8,
                [ACTION_CLONE] = 6,
                [ACTION_DELETE_SNAPSHOT] = 8,
                [ACTION_REVERT] = 4,
                [ACTION_RESIZE] = 4,
                [ACTION_DECOUPLE] = 4,
                [ACTION_INFLATE] = 3,
                [ACTION_CREATE] = 4,
                [ACTION_DELETE_VOLUME] = 4,
                [ACTION_RENAME] = 2,
                [ACTION_ATTRIBUTE] = 2,
                [ACTION_GROW] = 2},
    .store = {.disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 80000, .write_ns = 80000, .flush_ns = 100000},
              .disk_bytes = MIB(32),
              .journal_bytes = MIB(1),
              .checkpoint_bytes = KIB(16),
              .cache_bytes = MIB(4)},
};

enum { FAULT_ALLOCATION = DISK_FAULT_COUNT, FAULT_KINDS };
static const char *const fault_names[FAULT_KINDS] = {"read", "write", "flush", "trim", "allocation"};

static void plant(struct session *session, unsigned kind, uint64_t n, enum io_status status) {
    if (kind == FAULT_ALLOCATION) {
        session->world.heap.fail_at = session->world.heap.allocations + n;
        return;
    }
    session->disk->fail_at[kind] = session->disk->requests[kind] + n;
    session->disk->fail_status = status;
}
static bool struck(struct session *session, unsigned kind) {
    return kind == FAULT_ALLOCATION ? session->world.heap.failed > 0 : session->disk->failed[kind] > 0;
}
static void uproot(struct session *session) {
    session->world.heap.fail_at = 0;
    memset(session->disk->fail_at, 0, sizeof(session->disk->fail_at));
}

/* Closed in good order, or at least without leaving anything behind; what is on disk is a whole store. */
static void close_after(struct session *session, struct driver *driver, unsigned kind, uint64_t n) {
    driver_close(driver);
    driver_free(driver);
    if (!session_close_store(session) || !session_check(session))
        fail_msg("%s %llu, closing: %s", fault_names[kind], (unsigned long long)n, session->error.text);
    session_end(session); /* asserts that all memory was given back */
}

/* One run with one fault; then power goes (or `close`), and the store must come back with what it promised. False: the fault was
 * not reached. */
static bool run_with_fault(const struct life *life, uint64_t seed, bool close, unsigned kind, uint64_t n, enum io_status status) {
    struct session session;
    struct model model;
    struct workload workload = *life->workload;
    char text[300] = "";
    workload.fail_at[kind % DISK_FAULT_COUNT] = n; /* so that the driver expects errors */
    session_start(&session, &workload.store, &life->image, 1000, true);
    world_reserve_timers(&session.world);
    assert_true(session_open(&session));
    struct model_found *found;
    uint32_t count;
    assert_true(session_find(&session, &life->model, true, &found, &count));
    model_from_found(&model, &life->model, found, count);
    session_found_free(found, count);
    struct driver *driver = plain_alloc(sizeof(*driver));
    assert_true(driver_init(driver, &workload, &session, &model, seed, workload.operations));
    plant(&session, kind, n, status);
    if (!driver_run(driver))
        fail_msg("%s %llu: %s", fault_names[kind], (unsigned long long)n, driver->failure);
    bool hit = struck(&session, kind); /* one that is still under way when all is answered counts as not reached */
    uproot(&session);
    struct volume_store_info info;
    volume_store_info(session.store, &info);
    if (kind == DISK_FAULT_READ || kind == DISK_FAULT_TRIM)
        assert_false(info.failed); /* rule 10 is about flushes and the journal */
    if (kind == DISK_FAULT_FLUSH && hit)
        assert_true(info.failed);
    uint32_t at = disk_mark(session.disk) + 1;
    if (close) {
        close_after(&session, driver, kind, n);
        model_fini(&model);
        return hit;
    }
    driver_free(driver);
    session_crash(&session);

    struct disk_cursor cursor;
    struct disk_keep keep[DISK_OUTSTANDING_MAX];
    struct random random;
    random_init(&random, n);
    disk_cursor_init(&cursor, session.disk);
    while (disk_cursor_next(&cursor)) {
    }
    struct model_view view;
    model_view_init(&view);
    model_view_advance(&model, &view, at);
    for (unsigned i = 0; i < 3; i++) {
        struct disk_image image;
        struct session after;
        life_survival(&random, &cursor, keep);
        disk_cursor_image(&cursor, keep, &image);
        session_start(&after, &workload.store, &image, 2000 + n, false);
        if (!session_open(&after) || !session_check(&after) || !session_find(&after, &model, true, &found, &count))
            fail_msg("%s %llu, opening again: %s", fault_names[kind], (unsigned long long)n, after.error.text);
        if (!model_check(&model, &view, found, count, text, sizeof(text)))
            fail_msg("%s %llu, after opening again: %s", fault_names[kind], (unsigned long long)n, text);
        session_found_free(found, count);
        session_crash(&after);
        disk_destroy(after.disk);
        disk_image_fini(&image);
    }
    disk_cursor_fini(&cursor);
    model_view_fini(&view);
    model_fini(&model);
    disk_destroy(session.disk);
    return hit;
}

/* How many there were. */
static uint64_t run_each(const struct life *life, uint64_t seed, bool close, unsigned kind, enum io_status status) {
    uint64_t n = 1;
    do
        context_set("%s %llu fails while the store is used, seed %llu", fault_names[kind], (unsigned long long)n,
                    (unsigned long long)seed);
    while (run_with_fault(life, seed, close, kind, n, status) && n++ < 100000);
    return n - 1;
}

static void run_all(unsigned kind, enum io_status status) {
    struct life *life = plain_alloc(sizeof(*life));
    if (!life_begin(life, &short_one, 5))
        fail_msg("%s", life->failure);
    const char *only = getenv("PENSTOCK_TEST_SEED"), *budget = getenv("PENSTOCK_TEST_BUDGET");
    uint64_t first = only != NULL ? strtoull(only, NULL, 0) : 77, failed = 0;
    uint64_t seeds = only != NULL ? 1 : budget != NULL && strcmp(budget, "long") == 0 ? 40 : 3;
    for (uint64_t seed = first; seed < first + seeds; seed++)
        failed += run_each(life, seed, false, kind, status);
    print_message("%llu %ss failed, each once\n", (unsigned long long)failed, fault_names[kind]);
    assert_true(failed > (kind == DISK_FAULT_TRIM ? 1 : 5) || only != NULL);
    life_fini(life);
    plain_free(life);
}

static void nth_read(void **state) {
    (void)state;
    run_all(DISK_FAULT_READ, IO_OK);
}
static void nth_write(void **state) {
    (void)state;
    run_all(DISK_FAULT_WRITE, IO_OK);
}
static void nth_write_without_space(void **state) {
    (void)state;
    run_all(DISK_FAULT_WRITE, IO_NO_SPACE);
}
static void nth_flush(void **state) {
    (void)state;
    run_all(DISK_FAULT_FLUSH, IO_OK);
}
static void nth_trim(void **state) {
    (void)state;
    run_all(DISK_FAULT_TRIM, IO_OK);
}
static void nth_allocation(void **state) {
    (void)state;
    struct life *life = plain_alloc(sizeof(*life));
    uint64_t failed = 0;
    if (!life_begin(life, &commands_mostly, 5))
        fail_msg("%s", life->failure);
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    uint64_t seeds = budget != NULL && strcmp(budget, "long") == 0 ? 60 : 12;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        failed += run_each(life, seed, seed % 2 == 0, FAULT_ALLOCATION, IO_OK);
    print_message("%llu allocations failed, each once\n", (unsigned long long)failed);
    assert_true(failed > 300);
    life_fini(life);
    plain_free(life);
}
/* A crashed image, to be opened with faults. */
static struct life *crashed(void) {
    struct life *life = plain_alloc(sizeof(*life));
    if (!life_begin(life, &short_one, 6) || !life_go_on(life, 8, 70, LIFE_CUT))
        fail_msg("%s", life->failure);
    return life;
}

static void nth_fault_while_opening(void **state) {
    (void)state;
    struct life *life = crashed();
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        uint64_t n = 1;
        for (bool hit = true; hit; n++) {
            struct session session;
            context_set("%s %llu fails while the store is opened", fault_names[kind], (unsigned long long)n);
            session_start(&session, &short_one.store, &life->image, 3000 + n, false);
            world_reserve_timers(&session.world);
            uint64_t live = session.world.heap.live_bytes;
            plant(&session, kind, n, IO_OK);
            bool ok = session_open(&session);
            hit = struck(&session, kind);
            uproot(&session);
            if (!ok) {
                assert_true(hit);
                assert_true(session.error.code != ERROR_NONE && session.error.text[0] != '\0');
                assert_int_equal(session.world.heap.live_bytes, live); /* it kept nothing */
                if (!session_open(&session))                           /* and the same process may try again */
                    fail_msg("%s %llu: opening again: %s", fault_names[kind], (unsigned long long)n, session.error.text);
            }
            struct volume_store_info info;
            volume_store_info(session.store, &info);
            if (!info.failed && !info.read_only && !session_close_store(&session))
                fail_msg("%s %llu: closing: %s", fault_names[kind], (unsigned long long)n, session.error.text);
            session_crash(&session);
            disk_destroy(session.disk);
        }
        print_message("opening: %llu %ss failed, each once\n", (unsigned long long)n - 2, fault_names[kind]);
    }
    life_fini(life);
    plain_free(life);
}

static void nth_fault_while_formatting(void **state) {
    (void)state;
    struct disk_image empty;
    disk_image_init(&empty, short_one.store.disk_bytes);
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
        for (uint64_t n = 1, hit = true; hit; n++) {
            struct session session;
            context_set("%s %llu fails while the store is made", fault_names[kind], (unsigned long long)n);
            session_start(&session, &short_one.store, &empty, 4000 + n, false);
            world_reserve_timers(&session.world);
            uint64_t live = session.world.heap.live_bytes;
            plant(&session, kind, n, IO_OK);
            bool ok = session_format(&session);
            hit = struck(&session, kind);
            uproot(&session);
            assert_true(ok || hit);
            assert_int_equal(session.world.heap.live_bytes, live);
            if (ok)
                assert_true(session_open(&session));
            session_crash(&session);
            disk_destroy(session.disk);
        }
    disk_image_fini(&empty);
}

/* A power cut while the store is made leaves no store or a whole one, and what was there is no obstacle to trying again. */
static void cut_while_formatting(void **state) {
    (void)state;
    struct disk_image empty;
    struct session session;
    disk_image_init(&empty, short_one.store.disk_bytes);
    session_start(&session, &short_one.store, &empty, 5000, true);
    assert_true(session_format(&session));
    session_crash(&session);
    struct disk_cursor cursor;
    struct random random;
    unsigned whole = 0, cuts = 0;
    random_init(&random, 1);
    disk_cursor_init(&cursor, session.disk);
    while (disk_cursor_next(&cursor)) {
        if (!cursor.changed)
            continue;
        for (unsigned i = 0; i < 6; i++, cuts++) {
            struct disk_keep keep[DISK_OUTSTANDING_MAX];
            struct disk_image image;
            struct session after;
            context_set("cut at %u while the store is made", cursor.position);
            life_survival(&random, &cursor, keep);
            disk_cursor_image(&cursor, keep, &image);
            session_start(&after, &short_one.store, &image, 6000, false);
            if (session_open(&after)) {
                struct volume_store_info info;
                volume_store_info(after.store, &info);
                assert_false(info.read_only || info.failed);
                assert_true(session_check(&after));
                whole++;
            } else {
                assert_true(after.error.code == ERROR_FOREIGN || after.error.code == ERROR_DAMAGED);
            }
            session_crash(&after);
            disk_destroy(after.disk);
            disk_image_fini(&image);
        }
    }
    assert_in_range(whole, 1, cuts - 1);
    disk_cursor_fini(&cursor);
    disk_destroy(session.disk);
    disk_image_fini(&empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_read),
        cmocka_unit_test(nth_write),
        cmocka_unit_test(nth_write_without_space),
        cmocka_unit_test(nth_flush),
        cmocka_unit_test(nth_trim),
        cmocka_unit_test(nth_allocation),
        cmocka_unit_test(nth_fault_while_opening),
        cmocka_unit_test(nth_fault_while_formatting),
        cmocka_unit_test(cut_while_formatting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
