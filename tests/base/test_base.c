/* The pure helpers of src/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/bitmap.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/hash_map.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/random.h"
#include "base/slice.h"
#include "base/text.h"
#include "base/uuid.h"

/* Vectors of RFC 3720, appendix B.4. */
static void crc32c_matches_the_rfc(void **state) {
    (void)state;
    uint8_t data[32] = {0};
    assert_int_equal(crc32c(data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_int_equal(crc32c(data, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(crc32c(data, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c_continue(crc32c(data, cut), data + cut, 32 - cut), 0x46dd794e);
}

/* All lengths around those where the code takes another path, against one bit at a time. */
static void crc32c_agrees_with_the_definition(void **state) {
    (void)state;
    struct random random;
    random_init(&random, 2);
    static uint8_t data[13000];
    static uint32_t slow[13001];
    random_fill(&random, data, sizeof(data));
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < sizeof(data); i++) {
        slow[i] = ~crc;
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? (crc >> 1) ^ UINT32_C(0x82F63B78) : crc >> 1;
    }
    slow[sizeof(data)] = ~crc;
    for (size_t length = 0; length <= sizeof(data); length += length < 1100 ? 1 : 1 + random_below(&random, 40)) {
        assert_int_equal(crc32c(data, length), slow[length]);
        size_t cut = random_below(&random, length + 1);
        assert_int_equal(crc32c_continue(crc32c(data, cut), data + cut, length - cut), slow[length]);
    }
}

static void bitmap_agrees_with_a_byte_array(void **state) {
    (void)state;
    struct random random;
    random_init(&random, 1);
    uint64_t map[5] = {0};
    uint8_t model[300] = {0};
    for (int round = 0; round < 2000; round++) {
        uint64_t first = random_below(&random, 300), count = random_below(&random, 301 - first);
        bool set = random_chance(&random, 1, 2);
        set ? bitmap_set_range(map, first, count) : bitmap_clear_range(map, first, count);
        memset(model + first, set, count);
        uint64_t total = 0, from = random_below(&random, 300), next_set = 300, next_clear = 300;
        for (uint64_t i = 300; i-- > 0;) {
            assert_int_equal(bitmap_test(map, i), model[i]);
            total += model[i];
            if (i >= from && model[i])
                next_set = i;
            if (i >= from && !model[i])
                next_clear = i;
        }
        assert_int_equal(bitmap_count(map, 300), total);
        assert_int_equal(bitmap_find_set(map, 300, from), next_set);
        assert_int_equal(bitmap_find_clear(map, 300, from), next_clear);
    }
}

struct entry {
    struct hash_node node;
    uint64_t key;
};

static struct entry *entry_find(struct hash_map *map, uint64_t key) {
    for (struct hash_node *n = hash_map_first(map, hash_u64(key)); n != NULL; n = hash_map_next(n))
        if (container_of(n, struct entry, node)->key == key)
            return container_of(n, struct entry, node);
    return NULL;
}

static void hash_map_finds_what_was_put(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    static struct entry entries[COUNT];
    struct hash_map map;
    hash_map_init(&map);
    assert_null(entry_find(&map, 5));
    for (uint64_t i = 0; i < COUNT; i++) {
        entries[i].key = i * 7;
        assert_true(hash_map_insert(&map, &entries[i].node, hash_u64(i * 7)));
    }
    for (uint64_t i = 0; i < COUNT; i += 2)
        hash_map_remove(&map, &entries[i].node);
    assert_int_equal(map.count, COUNT / 2);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_ptr_equal(entry_find(&map, i * 7), i % 2 ? &entries[i] : NULL);
    hash_map_fini(&map);
}

static void histogram_percentiles_are_close(void **state) {
    (void)state;
    static struct histogram h, other;
    histogram_init(&h);
    histogram_init(&other);
    assert_int_equal(histogram_percentile(&h, 5000), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(i % 2 ? &h : &other, i * 10);
    histogram_merge(&h, &other);
    assert_in_range(histogram_percentile(&h, 5000), 500000, 508000);
    assert_in_range(histogram_percentile(&h, 9990), 999000, 1000000);
    assert_int_equal(histogram_percentile(&h, 10000), 1000000);
    assert_int_equal(histogram_mean(&h), 500005);
    histogram_add(&h, UINT64_MAX);
    assert_true(histogram_percentile(&h, 10000) == UINT64_MAX);
}

static void streamed_slices_are_copied_whole(void **state) {
    (void)state;
    static _Alignas(64) uint8_t from[8192], to[8192 + 192];
    struct random random;
    random_init(&random, 5);
    for (int round = 0; round < 2000; round++) {
        random_fill(&random, from, sizeof(from));
        memset(to, 0xee, sizeof(to));
        struct slice slices[4];
        size_t count = 1 + random_below(&random, 4), at = 0, skew = round % 2 == 0 ? 0 : random_below(&random, 64);
        for (size_t i = 0; i < count; i++) { /* whole lines, odd pieces, empty ones */
            size_t length = random_below(&random, 2048);
            length = random_below(&random, 2) == 0 ? length & ~(size_t)63 : length;
            slices[i] = (struct slice){from + at, length};
            at += length;
        }
        slice_stream_out(slices, count, to + 64 + skew);
        assert_memory_equal(to + 64 + skew, from, at);
        assert_int_equal(to[63 + skew], 0xee);
        assert_int_equal(to[64 + skew + at], 0xee);
    }
}

static void lists_keep_order(void **state) {
    (void)state;
    struct list list, other;
    list_init(&list);
    list_init(&other);
    struct list_node nodes[4] = {0};
    assert_false(list_linked(&nodes[0]));
    list_push_back(&list, &nodes[1]);
    list_push_front(&list, &nodes[0]);
    list_push_back(&other, &nodes[2]);
    list_push_back(&other, &nodes[3]);
    list_splice_back(&list, &other);
    assert_true(list_empty(&other));
    list_remove(&nodes[2]);
    assert_false(list_linked(&nodes[2]));
    assert_ptr_equal(list_pop_front(&list), &nodes[0]);
    assert_ptr_equal(list_pop_front(&list), &nodes[1]);
    assert_ptr_equal(list_pop_front(&list), &nodes[3]);
    assert_null(list_pop_front(&list));

    struct queue queue;
    queue_init(&queue);
    struct queue_node q[2];
    queue_push(&queue, &q[0]);
    queue_push(&queue, &q[1]);
    assert_ptr_equal(queue_pop(&queue), &q[0]);
    assert_ptr_equal(queue_pop(&queue), &q[1]);
    assert_null(queue_pop(&queue));
    queue_push(&queue, &q[1]);
    assert_ptr_equal(queue_pop(&queue), &q[1]);
}

static void numbers_and_sizes_parse_strictly(void **state) {
    (void)state;
    uint64_t v = 77;
    assert_true(text_parse_u64("18446744073709551615", UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    v = 77;
    const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "18446744073709551616", "0x", "1.0", "abc"};
    for (size_t i = 0; i < array_count(bad); i++)
        assert_false(text_parse_u64(bad[i], UINT64_MAX, &v));
    assert_false(text_parse_u64("256", 255, &v));
    assert_int_equal(v, 77);
    assert_true(text_parse_size("10G", &v));
    assert_int_equal(v, GIB(10));
    assert_true(text_parse_size("512KiB", &v));
    assert_int_equal(v, KIB(512));
    assert_true(text_parse_size("0x1000", &v));
    assert_int_equal(v, 4096);
    const char *const bad_size[] = {"10X", "G", "10GB", "16384P", "1GiBs", "99999999P"};
    for (size_t i = 0; i < array_count(bad_size); i++)
        assert_false(text_parse_size(bad_size[i], &v));
    char s[24];
    assert_string_equal(text_format_size(4096, s, sizeof(s)), "4.00 KiB");
    assert_true(text_is_name("vol-1.a", 63));
    assert_false(text_is_name("a/b", 63));
    assert_false(text_is_name("", 63));
    assert_false(text_is_name("abcd", 3));
}

static void text_stops_at_its_limit(void **state) {
    (void)state;
    struct text text;
    text_init(&text, 100);
    for (int i = 0; i < 9; i++)
        text_appendf(&text, "%s", "0123456789");
    assert_false(text.failed);
    assert_int_equal(text.length, 90);
    text_append_string(&text, "01234567890");
    assert_true(text.failed);
    assert_int_equal(text.length, 90);
    text_reset(&text);
    text_append_char(&text, 'x');
    assert_string_equal(text.bytes, "x");
    text_fini(&text);
}

/* Expected values: Python's uuid.uuid5(); lengths around the ends of a block. */
static void uuids_of_names(void **state) {
    static const struct {
        const struct uuid *space;
        const char *name, *wanted;
    } rows[] = {
        {&uuid_space_url, "volume-x", "53007978-d784-5d6a-9b53-356c2ab5901e"},
        {&uuid_space_oid, "volume-x", "cb41d7ae-4046-5f54-86db-d3db2c775bce"},
        {&uuid_space_url, "", "1b4db7eb-4057-5ddf-91e0-36dec72071f5"},
        {&uuid_space_oid, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", "0e4a13ac-1ed2-5ec4-814c-386c97f7b41d"},
        {&uuid_space_url, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", "e80c0bfa-bcb7-540c-898a-86ab2b4adabb"},
        {&uuid_space_url, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", "478fe633-6f3e-5336-8493-080a53e86606"},
        {&uuid_space_oid, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", "de29a296-a2e6-5c36-868c-2591a48e085e"},
        {&uuid_space_url,
         "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
         "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv",
         "541784b6-623a-530a-bf73-f76294fe919d"},
    };
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        char text[UUID_TEXT_SIZE];
        struct uuid uuid;
        uuid_from_name(rows[i].space, rows[i].name, &uuid);
        uuid_format(&uuid, text);
        assert_string_equal(text, rows[i].wanted);
    }
}

static void uuid_round_trips(void **state) {
    (void)state;
    struct uuid u, before;
    char s[UUID_TEXT_SIZE];
    assert_true(uuid_parse("6BA7B810-9dad-11d1-80b4-00c04fd430c8", &u));
    uuid_format(&u, s);
    assert_string_equal(s, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    before = u;
    const char *const bad[] = {"",
                               "6ba7b810",
                               "6ba7b810-9dad-11d1-80b4-00c04fd430c",
                               "6ba7b810-9dad-11d1-80b4-00c04fd430c8a",
                               "6ba7b8109dad-11d1-80b4-00c04fd430c8-",
                               "gba7b810-9dad-11d1-80b4-00c04fd430c8"};
    for (size_t i = 0; i < array_count(bad); i++)
        assert_false(uuid_parse(bad[i], &u));
    assert_true(uuid_equal(&u, &before));
}

static void errors_name_field_value_and_expectation(void **state) {
    (void)state;
    struct error error;
    assert_false(error_invalid(&error, "size", "12", "a multiple of %d", 4096));
    assert_string_equal(error.text, "size is 12: expected a multiple of 4096");
    assert_string_equal(error.field, "size");
    assert_false(error_set_errno(&error, -ENOSPC, "writing %s", "x"));
    assert_int_equal(error.code, ERROR_NO_SPACE);
    assert_string_equal(error.text, "writing x: No space left on device");
    char longer[600];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    error_invalid(&error, longer, longer, "%s", longer);
    error_set_errno(&error, EIO, "%s", longer);
    assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
    for (int code = ERROR_INVALID; code < ERROR_CODE_COUNT; code++)
        assert_true(error_facts((enum error_code)code)->negative_errno < 0);
    assert_int_equal(error_from_errno(12345), ERROR_IO);
    /* What a file system answers whose checksums are wrong: errno's words are about letters. */
    const char *damaged = error_facts(ERROR_DAMAGED)->errno_text;
    for (size_t i = 0; i < 3; i++) {
        int number = ((const int[]){-EILSEQ, EBADMSG, EUCLEAN})[i];
        assert_int_equal(error_from_errno(number), ERROR_DAMAGED);
        assert_string_equal(error_errno_words(number), damaged);
    }
    assert_string_equal(error_errno_words(-ENOSPC), error_facts(ERROR_NO_SPACE)->errno_text);
    assert_string_equal(error_errno_words(12345), "Unknown error");
    error_set_errno(&error, EILSEQ, "disk");
    assert_string_equal(error.text, "disk: A checksum or an identity is wrong");
}

static void base64_is_that_of_the_rfc(void **state) {
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct text text;
        text_init(&text, 64);
        text_append_base64(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(text.bytes != NULL ? text.bytes : "", pairs[i][1]);
        text_fini(&text);
    }
    struct text text;
    text_init(&text, 64);
    text_append_base64(&text, "\xff\xef\xbe", 3);
    assert_string_equal(text.bytes, "/+++");
    text_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_the_rfc),
        cmocka_unit_test(crc32c_agrees_with_the_definition),
        cmocka_unit_test(bitmap_agrees_with_a_byte_array),
        cmocka_unit_test(hash_map_finds_what_was_put),
        cmocka_unit_test(histogram_percentiles_are_close),
        cmocka_unit_test(streamed_slices_are_copied_whole),
        cmocka_unit_test(lists_keep_order),
        cmocka_unit_test(numbers_and_sizes_parse_strictly),
        cmocka_unit_test(text_stops_at_its_limit),
        cmocka_unit_test(uuids_of_names),
        cmocka_unit_test(uuid_round_trips),
        cmocka_unit_test(base64_is_that_of_the_rfc),
        cmocka_unit_test(errors_name_field_value_and_expectation),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
