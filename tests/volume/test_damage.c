/* Disks that are damaged, foreign, cut short or taken: a clear word, and nothing written to what is not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "damage.h"
#include "life.h"

static const struct store_options options = {
    .disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 1000, .write_ns = 1000, .flush_ns = 1000},
    .disk_bytes = MIB(32),
    .journal_bytes = MIB(1),
    .cache_bytes = MIB(4)};

static void a_damaged_record_in_the_middle_is_told(void **state) {
    (void)state;
    char text[400] = "";
    if (!damage_in_the_journal_is_told(text, sizeof(text)))
        fail_msg("%s", text);
}

static void any_flipped_bit_is_told_or_harmless(void **state) {
    (void)state;
    char text[400] = "";
    if (!no_flip_goes_unnoticed(text, sizeof(text)))
        fail_msg("%s", text);
}

static void foreign_disks_are_refused_untouched(void **state) {
    (void)state;
    struct disk_image image;
    struct session session;
    struct random random;
    uint8_t block[4096];
    random_init(&random, 3);
    disk_image_init(&image, options.disk_bytes);
    for (unsigned i = 0; i < 2; i++) { /* zeros, then somebody's data */
        session_start(&session, &options, &image, 1, false);
        assert_false(session_open(&session));
        assert_int_equal(session.error.code, ERROR_FOREIGN);
        assert_int_equal(session.disk->bytes_written, 0);
        if (i == 1) {
            assert_false(session_format(&session));
            assert_int_equal(session.error.code, ERROR_FOREIGN);
            assert_int_equal(session.disk->bytes_written, 0);
        }
        session_crash(&session);
        disk_destroy(session.disk);
        for (uint64_t at = 0; at < MIB(1); at += sizeof(block)) {
            random_fill(&random, block, sizeof(block));
            disk_image_write(&image, at, block, sizeof(block));
        }
    }
    disk_image_fini(&image);
}

static void a_store_is_not_made_over_another(void **state) {
    (void)state;
    struct disk_image image;
    struct session session;
    disk_image_init(&image, options.disk_bytes);
    session_start(&session, &options, &image, 1, false);
    assert_true(session_format(&session));
    uint64_t written = session.disk->bytes_written;
    assert_false(session_format(&session));
    assert_int_equal(session.error.code, ERROR_EXISTS);
    assert_int_equal(session.disk->bytes_written, written);
    session_end(&session);
    disk_image_fini(&image);
}

/* A disk that has become shorter holds less than the store believes. */
static void a_shorter_disk_is_told(void **state) {
    (void)state;
    struct disk_image image, part;
    struct session session;
    disk_image_init(&image, options.disk_bytes);
    session_start(&session, &options, &image, 1, false);
    assert_true(session_format(&session));
    disk_image_init(&part, MIB(16));
    for (uint64_t at = 0; at < MIB(16); at += 4096) {
        uint8_t block[4096];
        disk_image_read(&session.disk->now, at, block, sizeof(block));
        disk_image_write(&part, at, block, sizeof(block));
    }
    session_end(&session);
    session_start(&session, &options, &part, 1, false);
    if (session_open(&session)) {
        struct volume_store_info info;
        volume_store_info(session.store, &info);
        assert_true(info.read_only);
    } else {
        assert_true(session.error.text[0] != '\0');
    }
    session_crash(&session);
    disk_destroy(session.disk);
    disk_image_fini(&part);
    disk_image_fini(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_record_in_the_middle_is_told),
        cmocka_unit_test(any_flipped_bit_is_told_or_harmless),
        cmocka_unit_test(foreign_disks_are_refused_untouched),
        cmocka_unit_test(a_store_is_not_made_over_another),
        cmocka_unit_test(a_shorter_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
