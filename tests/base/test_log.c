/* The log: levels, flags, what reaches the sink; times as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/text.h"

struct sink {
    unsigned count;
    struct log_record last;
    char text[1100];
};

static uint64_t wall_ns(void *arg) {
    (void)arg;
    return 42;
}

static void sink_write(void *arg, const struct log_record *record) {
    struct sink *sink = arg;
    sink->count++;
    sink->last = *record;
    snprintf(sink->text, sizeof(sink->text), "%s", record->text);
}

static void test_levels(void **state) {
    (void)state;
    struct sink sink = {0};
    struct log log;
    log_init(&log, wall_ns, sink_write, &sink);
    log_notice(NULL, LOG_AREA_APP, "nowhere");
    log_notice(&log, LOG_AREA_APP, "n %d", 1);
    assert_int_equal(sink.count, 1);
    assert_string_equal(sink.text, "n 1");
    assert_true(sink.last.print && sink.last.keep && sink.last.wall_ns == 42 && sink.last.area == LOG_AREA_APP);
    log_info(&log, LOG_AREA_RPC, "its flag is not set");
    assert_int_equal(sink.count, 1);
    assert_true(log_set_flag(&log, "rpc", true));
    log_info(&log, LOG_AREA_RPC, "within the print level");
    assert_true(sink.count == 2 && sink.last.print && !sink.last.keep);
    log_debug(&log, LOG_AREA_RPC, "beyond both levels");
    log_info(&log, LOG_AREA_NVMF, "another's flag");
    assert_int_equal(sink.count, 2);
    atomic_store(&log.level, LOG_LEVEL_DEBUG);
    log_debug(&log, LOG_AREA_RPC, "x");
    assert_true(sink.count == 3 && !sink.last.print && sink.last.keep);
    assert_true(log_set_flag(&log, "all", false));
    log_debug(&log, LOG_AREA_RPC, "x");
    assert_int_equal(sink.count, 3);
    assert_false(log_set_flag(&log, "no such", true));
    assert_int_equal(atomic_load(&log.flags), 0);
    log_set_flag(&log, "all", true);
    for (unsigned area = 0; area < LOG_AREA_COUNT; area++)
        assert_true(log_flag_is_set(&log, area) && log_area_name(area)[0] != '\0');
}

/* A message is one line, of bounded length, whatever stands in it. */
static void test_text(void **state) {
    (void)state;
    struct sink sink = {0};
    struct log log;
    char large[3000];
    log_init(&log, wall_ns, sink_write, &sink);
    log_error(&log, LOG_AREA_APP, "a\nb\x1b[0m\x7f");
    assert_string_equal(sink.text, "a?b?[0m?");
    memset(large, 'x', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    log_error(&log, LOG_AREA_APP, "%s", large);
    assert_int_equal(strlen(sink.text), 1023);
    assert_string_equal(sink.text + 1020, "...");
}

static void test_time(void **state) {
    (void)state;
    static const struct {
        uint64_t seconds;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.123Z"},          {951782399, "2000-02-28T23:59:59.123Z"},
        {951782400, "2000-02-29T00:00:00.123Z"},  {951868800, "2000-03-01T00:00:00.123Z"},
        {1709164800, "2024-02-29T00:00:00.123Z"}, {1735689599, "2024-12-31T23:59:59.123Z"},
        {4107542400, "2100-03-01T00:00:00.123Z"}, {1795260961, "2026-11-21T11:36:01.123Z"},
    };
    for (size_t i = 0; i < array_count(rows); i++) {
        char text[TEXT_TIME_SIZE];
        assert_string_equal(text_format_time(rows[i].seconds * NS_PER_S + 123 * NS_PER_MS, text, sizeof(text)), rows[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_text), cmocka_unit_test(test_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
