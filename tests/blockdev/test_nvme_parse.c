/* What a controller says of asymmetric access, believed no further than it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockdev/nvme_tcp/parse.h"

static uint8_t page[NVME_IDENTIFY_SIZE];

static struct nvme_ana_group *put_group(size_t at, uint32_t id, uint32_t namespaces, uint8_t state) {
    struct nvme_ana_group *group = (void *)(page + at);
    *group = (struct nvme_ana_group){.id = id, .namespace_count = namespaces, .state = state};
    return group;
}

static void begin(uint16_t groups) {
    memset(page, 0, sizeof(page));
    ((struct nvme_ana_header *)(void *)page)->group_count = groups;
}

static void states_go_to_the_namespaces_of_their_groups(void **state) {
    (void)state;
    struct initiator_namespace_facts found[4] = {{.ana_group = 1}, {.ana_group = 7}, {.ana_group = 1}, {.ana_group = 9}};
    for (unsigned i = 0; i < 4; i++)
        found[i].ana_state = NVME_ANA_OPTIMIZED;
    begin(2);
    put_group(16, 1, 0, NVME_ANA_CHANGE);
    put_group(48, 7, 0, 0xf0 | NVME_ANA_NON_OPTIMIZED); /* the upper bits are reserved */
    initiator_parse_ana(page, found, 4);
    assert_int_equal(found[0].ana_state, NVME_ANA_CHANGE);
    assert_int_equal(found[1].ana_state, NVME_ANA_NON_OPTIMIZED);
    assert_int_equal(found[2].ana_state, NVME_ANA_CHANGE);
    assert_int_equal(found[3].ana_state, NVME_ANA_OPTIMIZED); /* not named */
    /* one that lists namespaces although it was asked not to */
    begin(2);
    put_group(16, 1, 3, NVME_ANA_INACCESSIBLE_STATE);
    put_group(16 + 32 + 12, 9, 0, NVME_ANA_LOST_STATE);
    initiator_parse_ana(page, found, 4);
    assert_int_equal(found[0].ana_state, NVME_ANA_INACCESSIBLE_STATE);
    assert_int_equal(found[3].ana_state, NVME_ANA_LOST_STATE);
    /* a state that nobody knows is nothing to rely on */
    begin(1);
    put_group(16, 7, 0, 9);
    initiator_parse_ana(page, found, 4);
    assert_int_equal(found[1].ana_state, NVME_ANA_INACCESSIBLE_STATE);
}

static void a_log_that_lies_is_left_at_its_end(void **state) {
    (void)state;
    struct initiator_namespace_facts found[1] = {{.ana_group = 7, .ana_state = NVME_ANA_OPTIMIZED}};
    begin(UINT16_MAX);
    put_group(16, 1, UINT32_MAX, NVME_ANA_CHANGE); /* four times that: beyond the page, and beyond 32 bits */
    initiator_parse_ana(page, found, 1);
    begin(UINT16_MAX); /* all that fit, and the rest of the page */
    for (size_t at = 16; at + 32 <= sizeof(page); at += 32)
        put_group(at, 8, 0, NVME_ANA_CHANGE);
    initiator_parse_ana(page, found, 1);
    begin(2);
    put_group(16, 1, (NVME_IDENTIFY_SIZE - 16 - 32 - 28) / 4, NVME_ANA_CHANGE); /* the next one is cut */
    page[NVME_IDENTIFY_SIZE - 28] = 7;
    initiator_parse_ana(page, found, 1);
    assert_int_equal(found[0].ana_state, NVME_ANA_OPTIMIZED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_go_to_the_namespaces_of_their_groups),
        cmocka_unit_test(a_log_that_lies_is_left_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
