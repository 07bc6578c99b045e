/* Writes of a leg that are answered before their region's mark is durable: who comes after them sees them, a flush and a claim
 * wait for them, a close takes them along, and one that cannot be kept fails the store. */
#include "leg.h"

#include "base/block_sum.h"
#include "blockdev/volume/internal.h"

#define REGION MIB(1)

/* So many members of an epoch, of which it is the first. */
static void store_members(struct fixture *f, const struct port *port, uint64_t depth, uint8_t members) {
    struct replica_store document = {.record = status_of(f, port).record};
    document.record.epoch = (struct replica_epoch){depth, id((uint8_t)(100 + depth))};
    document.record.state = REPLICA_WHOLE;
    document.record.leg_count = members;
    for (uint8_t i = 0; i < members; i++)
        document.record.legs[i] = (struct replica_leg){.id = id((uint8_t)(11 + i)), .flags = REPLICA_LEG_MEMBER};
    assert_int_equal(put(f, port, REPLICA_STORE, &document, sizeof(document)), IO_OK);
}

/* One of two, with data at the beginning of each region, of which the first alone is marked. */
static void begin_as_leg(struct fixture *f, struct port *port) {
    static uint8_t zeros[KIB(16)];
    static struct store_options options; /* the session keeps it */
    options = leg_options;
    options.disk.flush_ns = 20 * NS_PER_MS; /* a mark takes long */
    begin_on(f, &options);
    way(f, port);
    assert_int_equal(claim(f, port, 2, 1, 1), IO_OK);
    store_members(f, port, 1, 2);
    for (unsigned r = 1; r < REGIONS; r++)
        assert_int_equal(io_run(f, port, BLOCK_WRITE, 0, r * REGION, sizeof(zeros), zeros), IO_OK);
    assert_int_equal(write_at(f, port, 0, 1), IO_OK);
    assert_int_equal(flush(f, port), IO_OK); /* the node of the marks is durable */
    union ranges document = {.head.count = 1};
    document.head.ranges[0] = (struct replica_range){1, REGIONS - 1};
    assert_int_equal(put(f, port, REPLICA_CLEAR, &document, replica_ranges_bytes(1)), IO_OK);
    assert_int_equal(flush(f, port), IO_OK);
}

static unsigned early(const struct fixture *f) { return f->session.store->early_count; }

static void write_early(struct fixture *f, const struct port *port, uint64_t offset, uint8_t fill) {
    uint64_t began = f->session.world.now_ns;
    unsigned before = early(f);
    assert_int_equal(write_at(f, port, offset, fill), IO_OK);
    assert_int_equal(early(f), before + 1);
    assert_in_range(f->session.world.now_ns - began, 0, NS_PER_MS);
}

static uint8_t read_at(struct fixture *f, const struct port *port, uint64_t offset) {
    uint8_t block[4096];
    assert_int_equal(io_run(f, port, BLOCK_READ, 0, offset, sizeof(block), block), IO_OK);
    for (size_t i = 1; i < sizeof(block); i++)
        assert_int_equal(block[i], block[0]);
    return block[0];
}

static void who_comes_after_sees_them(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_as_leg(&f, &a);
    write_early(&f, &a, 3 * REGION, 7);
    write_early(&f, &a, 4 * REGION, 8);
    assert_int_equal(marks(&f, &a, 0), 1u | 1u << 3 | 1u << 4); /* at once, for a leg that returns */
    assert_int_equal(early(&f), 2);
    assert_int_equal(read_at(&f, &a, 3 * REGION + 4096), 0); /* a neighbour need not wait */
    assert_int_equal(early(&f), 2);
    assert_int_equal(read_at(&f, &a, 3 * REGION), 7);
    assert_int_equal(read_at(&f, &a, 4 * REGION), 8);
    assert_int_equal(early(&f), 0);

    write_early(&f, &a, 5 * REGION, 9);
    assert_int_equal(write_at(&f, &a, 5 * REGION, 10), IO_OK); /* behind it, whatever takes how long */
    assert_int_equal(read_at(&f, &a, 5 * REGION), 10);
    write_early(&f, &a, 6 * REGION, 11);
    assert_int_equal(io_run(&f, &a, BLOCK_TRIM, 0, 0, 7 * REGION, NULL), IO_OK);
    assert_int_equal(early(&f), 0);
    assert_int_equal(read_at(&f, &a, 6 * REGION), 0);

    write_early(&f, &a, 7 * REGION + 4096, 12);
    uint64_t sums[256];
    uint8_t block[4096];
    memset(block, 12, sizeof(block));
    assert_int_equal(
        io_run(&f, &a, BLOCK_REPLICA_GET, replica_argument(REPLICA_SUMS, 5, REPLICA_LAYER_HEAD), 7 * REGION, sizeof(sums), sums),
        IO_OK);
    assert_int_equal(sums[1], block_sum(block, sizeof(block), 7 * 256 + 1, 5));
    port_close(&a);
    end(&f);
}

static void a_flush_waits_for_them(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_as_leg(&f, &a);
    for (unsigned r = 2; r < 8; r++)
        write_early(&f, &a, r * REGION + 8192, (uint8_t)(r + 20));
    assert_int_equal(flush(&f, &a), IO_OK);
    write_early(&f, &a, 9 * REGION, 99); /* not covered */
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    for (unsigned r = 2; r < 8; r++)
        assert_int_equal(read_at(&f, &a, r * REGION + 8192), r + 20);
    assert_int_equal(read_at(&f, &a, 9 * REGION), 0);
    assert_int_equal(marks(&f, &a, 0) & 0xfc, 0xfc);
    port_close(&a);
    end(&f);
}

static void a_claim_waits_for_them(void **state) {
    (void)state;
    struct fixture f;
    struct port a, b;
    begin_as_leg(&f, &a);
    way(&f, &b);
    write_early(&f, &a, 3 * REGION, 7);
    assert_int_equal(claim(&f, &b, 3, 2, 1), IO_OK); /* another engine's */
    assert_int_equal(early(&f), 0);
    assert_int_equal(write_at(&f, &a, 3 * REGION, 8), IO_FENCED);
    assert_int_equal(read_at(&f, &b, 3 * REGION), 7);
    assert_int_equal(write_at(&f, &b, 4 * REGION, 10), IO_OK); /* who else has it was the other engine's word */
    assert_int_equal(early(&f), 0);
    store_members(&f, &b, 2, 2);
    write_early(&f, &b, 5 * REGION, 9);
    assert_int_equal(put(&f, &b, REPLICA_RELEASE, NULL, 0), IO_OK);
    port_close(&a);
    port_close(&b);
    assert_true(session_close_store(&f.session)); /* takes it along */
    assert_true(session_open(&f.session));
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 3, 2, 2), IO_OK);
    assert_int_equal(read_at(&f, &a, 5 * REGION), 9);
    port_close(&a);
    end(&f);
}

static void one_that_is_lost_fails_the_store(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_as_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, 3 * REGION, 6), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK);
    union ranges document = {.head.count = 1};
    document.head.ranges[0] = (struct replica_range){0, REGIONS};
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &document, replica_ranges_bytes(1)), IO_OK);
    f.session.disk->fail_status = IO_MEDIUM_WRITE;
    f.session.disk->fail_at[DISK_FAULT_WRITE] = f.session.disk->requests[DISK_FAULT_WRITE] + 2; /* the record, then this */
    f.session.disk->fail_count[DISK_FAULT_WRITE] = 1;
    write_early(&f, &a, 3 * REGION, 7);
    assert_int_equal(flush(&f, &a), IO_MEDIUM_WRITE);
    assert_int_equal(early(&f), 0);
    assert_true(f.session.store->failed);
    assert_non_null(strstr(f.session.store->reason, "a write that was answered failed"));
    uint8_t block[4096];
    assert_int_equal(io_run(&f, &a, BLOCK_READ, 0, 3 * REGION, sizeof(block), block), IO_MEDIUM_READ); /* never the old one */
    port_close(&a);
    again(&f, false);
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    assert_int_equal(marks(&f, &a, 0) >> 3 & 1, 1); /* it is compared with the others' */
    port_close(&a);
    end(&f);
}

static void those_that_may_fail_are_not_among_them(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    static uint8_t buffer[KIB(32)];
    struct io io;
    begin_as_leg(&f, &a);
    struct {
        uint64_t offset, length;
        uint8_t flags;
    } writes[] = {{2 * REGION, KIB(32), 0},       {3 * REGION - 4096, 8192, 0},     {4 * REGION, 512, 0},
                  {5 * REGION, 4096, BLOCK_FUA},  {6 * REGION + KIB(512), 4096, 0}, /* new in a file that may be full */
                  {7 * REGION + KIB(12), 8192, 0}};                                 /* half of it is */
    for (size_t i = 0; i < array_count(writes); i++) {
        io = (struct io){.slice = {buffer, writes[i].length}};
        io.request = (struct block_request){.op = BLOCK_WRITE,
                                            .flags = writes[i].flags,
                                            .slices = &io.slice,
                                            .slice_count = 1,
                                            .offset = writes[i].offset,
                                            .length = writes[i].length,
                                            .complete = io_done};
        block_submit(a.channel, &io.request);
        assert_int_equal(io_end(&f, &io), IO_OK);
        assert_int_equal(early(&f), 0);
    }
    /* Nobody else would have it. */
    store_members(&f, &a, 2, 1);
    assert_int_equal(write_at(&f, &a, 8 * REGION, 3), IO_OK);
    assert_int_equal(early(&f), 0);
    port_close(&a);
    end(&f);
}

/* The other member's leg is another volume of this process: whoever kills it has killed both. */
static void none_whose_members_are_all_in_this_process(void **state) {
    (void)state;
    struct fixture f;
    struct port a, b;
    struct uuid other;
    begin_as_leg(&f, &a);
    write_early(&f, &a, 3 * REGION, 7); /* it is not there yet */
    session_uuid(2, &other);
    struct volume_command create = {.name = "other", .size_bytes = VOLUME_BYTES, .new_uuid = other};
    assert_true(session_command(&f.session, volume_create, &create));
    assert_true(port_open(&f.session, &b, &other, false));
    struct replica_claim document = {.mirror = id(1), .engine = id(2), .term = 1, .attempt = 1, .leg = id(12)};
    assert_int_equal(put(&f, &b, REPLICA_CLAIM, &document, sizeof(document)), IO_OK);
    store_members(&f, &a, 2, 2);
    for (unsigned r = 4; r < 8; r++) {
        assert_int_equal(write_at(&f, &a, r * REGION, (uint8_t)r), IO_OK);
        assert_int_equal(early(&f), 0);
    }
    store_members(&f, &a, 3, 3); /* the third one is elsewhere */
    write_early(&f, &a, 3 * REGION, 9);
    store_members(&f, &a, 4, 2);
    assert_int_equal(write_at(&f, &a, 8 * REGION, 8), IO_OK);
    port_close(&a);
    port_close(&b);
    again(&f, false); /* the process is killed; what the kernel was told is there */
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    for (unsigned r = 4; r < 9; r++)
        assert_int_equal(read_at(&f, &a, r * REGION), r);
    store_members(&f, &a, 5, 2); /* found in the record when the store was opened */
    assert_int_equal(write_at(&f, &a, 5 * REGION, 1), IO_OK);
    assert_int_equal(early(&f), 0);
    assert_true(port_open(&f.session, &b, &other, false));
    document.attempt = 2;
    struct uuid mirror = id(1);
    assert_int_equal(put(&f, &b, REPLICA_CLAIM, &document, sizeof(document)), IO_OK);
    assert_int_equal(put(&f, &b, REPLICA_FORGET, &mirror, sizeof(mirror)), IO_OK);
    store_members(&f, &a, 6, 2); /* it is no leg any more: that one is somewhere else */
    write_early(&f, &a, 6 * REGION, 1);
    port_close(&a);
    port_close(&b);
    end(&f);
}

static void a_deletion_waits_for_them(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_as_leg(&f, &a);
    struct volume_command delete = {.volume = f.volume};
    for (unsigned r = 2; r < 8; r++)
        write_early(&f, &a, r * REGION, (uint8_t)r);
    port_close(&a);
    assert_int_equal(early(&f), 6);
    assert_true(session_command(&f.session, volume_delete, &delete));
    assert_int_equal(early(&f), 0);
    world_run_for(&f.session.world, NS_PER_S);
    end(&f); /* nothing is left of it: the store is checked */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_after_sees_them),
        cmocka_unit_test(a_flush_waits_for_them),
        cmocka_unit_test(a_claim_waits_for_them),
        cmocka_unit_test(one_that_is_lost_fails_the_store),
        cmocka_unit_test(those_that_may_fail_are_not_among_them),
        cmocka_unit_test(none_whose_members_are_all_in_this_process),
        cmocka_unit_test(a_deletion_waits_for_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
