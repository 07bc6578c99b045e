/* A volume as the leg of a mirror: who may use it, what it keeps, what it marks before it writes, and what a power cut leaves. */
#include "leg.h"

#include <stdlib.h>

#include "base/bitmap.h"
#include "base/block_sum.h"
#include "blockdev/volume/internal.h"

/* ---- claims ---- */

static void nobody_uses_a_leg_without_its_claim(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a, b;
    way(&f, &a);
    way(&f, &b);
    assert_int_equal(status_of(&f, &a).flags, REPLICA_UNTOUCHED | REPLICA_CAN_WRITE);
    assert_int_equal(put(&f, &a, REPLICA_RELEASE, NULL, 0), IO_UNSUPPORTED);
    assert_int_equal(write_at(&f, &b, 0, 1), IO_OK); /* nobody's leg yet */
    assert_int_equal(claim(&f, &a, 2, 5, 1), IO_OK);
    struct replica_status status = status_of(&f, &a);
    assert_int_equal(status.flags, REPLICA_HAS_RECORD | REPLICA_CLAIMED | REPLICA_CLAIM_YOURS | REPLICA_CAN_WRITE);
    assert_int_equal(status.record.promised_term, 5);
    assert_int_equal(status.size, VOLUME_BYTES);
    assert_int_equal(status_of(&f, &b).flags & REPLICA_CLAIM_YOURS, 0);
    assert_int_equal(write_at(&f, &a, 0, 2), IO_OK);
    assert_int_equal(write_at(&f, &b, 0, 3), IO_NOT_READY);
    assert_int_equal(flush(&f, &b), IO_NOT_READY);
    uint8_t buffer[4096];
    assert_int_equal(io_run(&f, &b, BLOCK_READ, 0, 0, sizeof(buffer), buffer), IO_NOT_READY);
    assert_int_equal(io_run(&f, &b, BLOCK_TRIM, 0, 0, sizeof(buffer), NULL), IO_NOT_READY);
    assert_int_equal(store(&f, &b, 1, 0, 0), IO_NOT_READY);
    assert_int_equal(io_run(&f, &b, BLOCK_REPLICA_GET, replica_argument(REPLICA_MARKS, 0, 0), 0, 2, buffer), IO_NOT_READY);
    assert_int_equal(io_run(&f, &a, BLOCK_READ, 0, 0, sizeof(buffer), buffer), IO_OK);
    assert_int_equal(buffer[0], 2);
    assert_int_equal(put(&f, &a, REPLICA_RELEASE, NULL, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 4), IO_NOT_READY);
    port_close(&a);
    port_close(&b);
    again(&f, true); /* the promise is durable, the claim is not */
    way(&f, &a);
    status = status_of(&f, &a);
    assert_int_equal(status.flags, REPLICA_HAS_RECORD | REPLICA_CAN_WRITE | REPLICA_UNPROVEN);
    assert_int_equal(status.record.promised_term, 5);
    assert_int_equal(write_at(&f, &a, 0, 5), IO_NOT_READY);
    port_close(&a);
    end(&f);
}

static void terms_and_attempts_only_rise(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a, b, c;
    way(&f, &a);
    way(&f, &b);
    way(&f, &c);
    assert_int_equal(claim(&f, &a, 2, 5, 1), IO_OK);
    assert_int_equal(claim(&f, &b, 3, 4, 9), IO_FENCED); /* lower */
    assert_int_equal(claim(&f, &b, 3, 5, 9), IO_FENCED); /* equal, another engine */
    assert_int_equal(claim(&f, &b, 2, 5, 1), IO_FENCED); /* the same engine's late one */
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);     /* none of them hurt */
    assert_int_equal(claim(&f, &b, 2, 5, 2), IO_OK);     /* the same engine, by a new way */
    assert_int_equal(write_at(&f, &a, 0, 1), IO_NOT_READY);
    assert_int_equal(claim(&f, &a, 2, 5, 1), IO_FENCED);
    assert_int_equal(claim(&f, &c, 3, 6, 1), IO_OK); /* another engine, a higher term */
    assert_int_equal(write_at(&f, &b, 0, 1), IO_FENCED);
    assert_int_equal(store(&f, &b, 1, 0, 0), IO_FENCED);
    assert_int_equal(claim(&f, &b, 2, 5, 3), IO_FENCED);
    struct replica_claim other = {.mirror = id(9), .engine = id(2), .term = 9, .attempt = 1, .leg = id(11)};
    assert_int_equal(put(&f, &b, REPLICA_CLAIM, &other, sizeof(other)), IO_INVALID); /* another mirror's */
    other.mirror = id(1);
    other.leg = id(12);
    assert_int_equal(put(&f, &b, REPLICA_CLAIM, &other, sizeof(other)), IO_INVALID); /* another leg */
    assert_int_equal(put(&f, &b, REPLICA_CLAIM, &other, sizeof(other) - 1), IO_INVALID);
    assert_int_equal(write_at(&f, &c, 0, 1), IO_OK);
    port_close(&a);
    port_close(&b);
    port_close(&c);
    end(&f);
}

static void a_claim_waits_for_what_was_let_in(void **state) {
    (void)state;
    struct fixture f;
    static uint8_t buffer[4096];
    begin(&f);
    struct port a, b, c;
    way(&f, &a);
    way(&f, &b);
    way(&f, &c);
    struct io before, claims, after;
    io_start(&c, &before, BLOCK_WRITE, 0, 0, sizeof(buffer), buffer); /* from before it was a leg */
    struct replica_claim document = {.mirror = id(1), .engine = id(2), .term = 1, .attempt = 1, .leg = id(11)};
    io_start(&a, &claims, BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLAIM, 0, 0), 0, sizeof(document), &document);
    assert_int_equal(io_end(&f, &claims), IO_OK);
    assert_true(before.done);
    io_start(&a, &before, BLOCK_WRITE, 0, MIB(1), sizeof(buffer), buffer);
    document.attempt = 2;
    io_start(&b, &claims, BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLAIM, 0, 0), 0, sizeof(document), &document);
    assert_int_equal(io_end(&f, &claims), IO_OK);
    assert_true(before.done);
    /* it was let in, then waited for its mark: it must not come through behind the claim */
    assert_true(before.request.status == IO_OK || before.request.status == IO_NOT_READY);
    io_start(&a, &after, BLOCK_WRITE, 0, MIB(2), sizeof(buffer), buffer);
    assert_int_equal(io_end(&f, &after), IO_NOT_READY);
    port_close(&a);
    port_close(&b);
    port_close(&c);
    end(&f);
}

/* ---- records ---- */

static void a_record_is_checked_and_durable(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 5, 1), IO_OK);
    assert_int_equal(store(&f, &a, 3, 0, 0), IO_OK);
    assert_int_equal(store(&f, &a, 2, 0, 0), IO_INVALID); /* backwards */
    struct replica_store document = {.record = status_of(&f, &a).record};
#define WRONG(change)                                                                                                            \
    do {                                                                                                                         \
        struct replica_store wrong = document;                                                                                   \
        change;                                                                                                                  \
        assert_int_equal(put(&f, &a, REPLICA_STORE, &wrong, sizeof(wrong)), IO_INVALID);                                         \
    } while (0)
    WRONG(wrong.record.mirror = id(9));
    WRONG(wrong.record.leg = id(9));
    WRONG(wrong.record.promised_term++);
    WRONG(wrong.record.promised_engine = id(9));
    WRONG(wrong.record.epoch.id = id(9)); /* another history at the same depth */
    WRONG(wrong.record.state = 7);
    WRONG(wrong.marks.count = 1);
    WRONG(wrong.marks.flags = REPLICA_ALL_REGIONS);
#undef WRONG
    assert_int_equal(put(&f, &a, REPLICA_STORE, &document, sizeof(document) - 1), IO_INVALID);
    assert_int_equal(store(&f, &a, 4, REGIONS, 1), IO_INVALID); /* beyond the end */
    assert_int_equal(store(&f, &a, 4, REGIONS - 1, UINT64_MAX), IO_INVALID);
    assert_int_equal(store(&f, &a, 4, REGIONS - 1, 1), IO_OK);
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    struct replica_record record = status_of(&f, &a).record;
    assert_int_equal(record.epoch.depth, 4);
    assert_int_equal(record.state, REPLICA_WHOLE);
    assert_int_equal(claim(&f, &a, 2, 5, 2), IO_OK);
    assert_int_equal(marks(&f, &a, 4), 1u << (REGIONS - 1));
    port_close(&a);
    end(&f);
}

/* A disk whose flush takes long and whose FUA does not: neither claims nor records nor marks wait for flushes of data. */
static void a_record_waits_for_no_flush_of_data(void **state) {
    (void)state;
    struct fixture f;
    struct store_options options = leg_options;
    options.disk.flush_ns = 800 * NS_PER_MS;
    options.disk.native_fua = true;
    begin_on(&f, &options);
    struct port a, b;
    way(&f, &a);
    way(&f, &b);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &a, 1, 0, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK); /* the node of the marks is durable */
    for (unsigned i = 0; i < 4; i++) {
        uint64_t began = f.session.world.now_ns;
        assert_int_equal(write_at(&f, &a, MIB(2 + i), 7), IO_OK); /* a mark, data, and bits that wait for a flush */
        assert_int_equal(store(&f, &a, 2 + i, i, 1), IO_OK);
        assert_true(f.session.world.now_ns - began < 100 * NS_PER_MS);
        assert_true(f.session.store->commit.batch_words > 0);
    }
    uint64_t began = f.session.world.now_ns;
    assert_int_equal(claim(&f, &b, 2, 1, 2), IO_OK);
    assert_true(f.session.world.now_ns - began < 100 * NS_PER_MS);
    port_close(&a);
    port_close(&b);
    again(&f, true); /* all of it is durable */
    way(&f, &a);
    assert_int_equal(status_of(&f, &a).record.epoch.depth, 5);
    assert_int_equal(status_of(&f, &a).record.promised_attempt, 2);
    assert_int_equal(claim(&f, &a, 2, 1, 3), IO_OK);
    assert_int_equal(marks(&f, &a, 0) & (15u << 2 | 15u), 15u << 2 | 15u);
    port_close(&a);
    end(&f);
}

/* A ring that is nearly full holds up what writes to it, but no record. */
static void a_record_waits_for_no_checkpoint(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &a, 1, 0, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK);
    struct commit *commit = &f.session.store->commit;
    uint32_t used = commit->used;
    commit->used = commit->ring_blocks / 8 * 5 + 1;
    f.session.store->checkpoint.state = CHECKPOINT_FLUSH; /* one that does not end */
    static uint8_t buffer[4096];
    struct io waits;
    io_start(&a, &waits, BLOCK_WRITE, 0, MIB(5), sizeof(buffer), buffer);
    assert_int_equal(store(&f, &a, 2, 3, 1), IO_OK);
    assert_int_equal(marks(&f, &a, 2), 1u << 3);
    assert_false(waits.done);
    f.session.store->checkpoint.state = CHECKPOINT_IDLE;
    commit->used = used + 2; /* at least what was written since */
    checkpoint_start(f.session.store);
    assert_int_equal(io_end(&f, &waits), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK);
    port_close(&a);
    end(&f);
}

static void marks_tell_when_a_region_was_written(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &a, 1, 0, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(1) - 4096, 1), IO_OK);
    assert_int_equal(marks(&f, &a, 1), 1u);
    assert_int_equal(io_run(&f, &a, BLOCK_WRITE_ZEROES, 0, MIB(2) - 4096, 8192, NULL), IO_OK); /* both sides of a border */
    assert_int_equal(io_run(&f, &a, BLOCK_TRIM, 0, MIB(5), 4096, NULL), IO_OK);
    assert_int_equal(marks(&f, &a, 1), 1u << 0 | 1u << 1 | 1u << 2 | 1u << 5);
    assert_int_equal(store(&f, &a, 2, 7, 2), IO_OK); /* a change, with what is under way */
    assert_int_equal(marks(&f, &a, 2), 1u << 7 | 1u << 8);
    assert_int_equal(write_at(&f, &a, MIB(1), 2), IO_OK);
    assert_int_equal(marks(&f, &a, 2), 1u << 1 | 1u << 7 | 1u << 8);
    assert_int_equal(marks(&f, &a, 0), 1u << 0 | 1u << 1 | 1u << 2 | 1u << 5 | 1u << 7 | 1u << 8);
    union ranges document = {.head.count = 2};
    document.head.ranges[0] = (struct replica_range){0, 2};
    document.head.ranges[1] = (struct replica_range){8, 1};
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &document, sizeof(document)), IO_OK);
    assert_int_equal(marks(&f, &a, 0), 1u << 2 | 1u << 5 | 1u << 7);
    assert_int_equal(write_at(&f, &a, 0, 3), IO_OK); /* a cleared one is marked anew */
    assert_int_equal(marks(&f, &a, 2), 1u << 0 | 1u << 7);
    document.head = (struct replica_ranges){.flags = REPLICA_ALL_REGIONS};
    assert_int_equal(put(&f, &a, REPLICA_MARK, &document, sizeof(document.head)), IO_OK);
    assert_int_equal(marks(&f, &a, 2), (1u << REGIONS) - 1);
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &document, sizeof(document.head)), IO_OK);
    assert_int_equal(marks(&f, &a, 2), 1u << 0 | 1u << 7);
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    assert_int_equal(marks(&f, &a, 0), 1u << 0 | 1u << 2 | 1u << 5 | 1u << 7);
    port_close(&a);
    end(&f);
}

static enum io_status write_unmarked(struct fixture *f, const struct port *port, uint64_t offset) {
    static uint8_t buffer[4096];
    struct io io;
    memset(buffer, 0x5a, sizeof(buffer));
    io = (struct io){.slice = {buffer, sizeof(buffer)}};
    io.request = (struct block_request){.op = BLOCK_WRITE,
                                        .flags = BLOCK_UNMARKED,
                                        .slices = &io.slice,
                                        .slice_count = 1,
                                        .offset = offset,
                                        .length = sizeof(buffer),
                                        .complete = io_done};
    block_submit(port->channel, &io.request);
    return io_end(f, &io);
}

/* Only while nothing of the leg's content counts. */
static void copies_to_an_empty_leg_leave_no_marks(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    struct replica_store document = {.record = status_of(&f, &a).record};
    document.record.epoch = (struct replica_epoch){1, id(101)};
    document.record.state = REPLICA_SYNCING;
    assert_int_equal(put(&f, &a, REPLICA_STORE, &document, sizeof(document)), IO_OK);
    assert_int_equal(write_unmarked(&f, &a, MIB(3)), IO_OK);
    assert_int_equal(marks(&f, &a, 0), 0);
    assert_int_equal(write_at(&f, &a, MIB(4), 1), IO_OK); /* a host's */
    assert_int_equal(marks(&f, &a, 0), 1u << 4);
    document.record.epoch = (struct replica_epoch){2, id(102)};
    document.record.base = (struct replica_epoch){1, id(101)};
    assert_int_equal(put(&f, &a, REPLICA_STORE, &document, sizeof(document)), IO_OK);
    assert_int_equal(write_unmarked(&f, &a, MIB(5)), IO_OK);
    assert_int_equal(store(&f, &a, 3, 0, 0), IO_OK); /* whole */
    assert_int_equal(write_unmarked(&f, &a, MIB(6)), IO_OK);
    assert_int_equal(marks(&f, &a, 0), 1u << 4 | 1u << 5 | 1u << 6);
    uint8_t block[4096];
    assert_int_equal(io_run(&f, &a, BLOCK_READ, 0, MIB(3), sizeof(block), block), IO_OK);
    assert_int_equal(block[17], 0x5a);
    port_close(&a);
    end(&f);
}

/* Whatever a cut leaves: a region whose data differ from what it held when its marks were cleared has a mark. Writes, zeroes and
 * trims without any flush of ours. */
static void cut_while_regions_are_written(bool native_fua) {
    struct fixture f;
    static uint8_t held[VOLUME_BYTES];
    struct store_options options = leg_options;
    options.disk.native_fua = native_fua;
    begin_on(&f, &options);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &a, 1, 0, 0), IO_OK);
    for (unsigned r = 0; r < REGIONS; r++) /* in place from here on: no journal between the data and the disk */
        assert_int_equal(write_at(&f, &a, r * MIB(1), (uint8_t)(r + 1)), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK);
    union ranges document = {.head.count = 1};
    document.head.ranges[0] = (struct replica_range){0, REGIONS};
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &document, replica_ranges_bytes(1)), IO_OK);
    assert_int_equal(marks(&f, &a, 0), 0);
    for (uint64_t at = 0; at < VOLUME_BYTES; at += MIB(1))
        assert_int_equal(io_run(&f, &a, BLOCK_READ, 0, at, MIB(1), held + at), IO_OK);
    uint32_t from = disk_mark(f.session.disk);
    struct io io[REGIONS];
    static uint8_t buffer[4096];
    memset(buffer, 0xaa, sizeof(buffer));
    for (unsigned r = 0; r < REGIONS; r++)
        io_start(&a, &io[r],
                 r % 3 == 1   ? BLOCK_WRITE_ZEROES
                 : r % 3 == 2 ? BLOCK_TRIM
                              : BLOCK_WRITE,
                 0, r * MIB(1), 4096, r % 3 == 0 ? buffer : NULL);
    for (unsigned r = 0; r < REGIONS; r++)
        assert_int_equal(io_end(&f, &io[r]), IO_OK);
    port_close(&a);
    world_run_for(&f.session.world, NS_PER_S);
    session_crash(&f.session);

    struct disk_cursor cursor;
    disk_cursor_init(&cursor, f.session.disk);
    unsigned cuts = 0, changed = 0;
    while (disk_cursor_next(&cursor)) {
        if (cursor.position < from || !cursor.changed)
            continue;
        for (unsigned newest = 0; newest < 3; newest++) { /* all lost; all kept; every other one */
            struct disk_keep keep[DISK_OUTSTANDING_MAX] = {0};
            for (uint32_t i = 0; i < cursor.outstanding_count; i++)
                keep[i].kind = newest == 1 || (newest == 2 && i % 2 == 0) ? DISK_KEPT : DISK_LOST;
            struct fixture cut = {.volume = f.volume};
            disk_cursor_image(&cursor, keep, &cut.image);
            session_start(&cut.session, &leg_options, &cut.image, 9, false);
            assert_true(session_open(&cut.session));
            if (!session_check(&cut.session))
                fail_msg("cut %u: %s", cursor.position, cut.session.error.text);
            struct port port;
            way(&cut, &port);
            assert_int_equal(claim(&cut, &port, 2, 1, 2), IO_OK);
            uint16_t marked = marks(&cut, &port, 0);
            for (unsigned r = 0; r < REGIONS; r++) {
                uint8_t now[4096];
                assert_int_equal(io_run(&cut, &port, BLOCK_READ, 0, r * MIB(1), sizeof(now), now), IO_OK);
                if (memcmp(now, held + r * MIB(1), sizeof(now)) == 0)
                    continue;
                changed++;
                if ((marked >> r & 1) == 0)
                    fail_msg("cut %u, way %u: region %u has changed and has no mark", cursor.position, newest, r);
            }
            port_close(&port);
            session_crash(&cut.session);
            session_end(&cut.session);
            disk_image_fini(&cut.image);
            cuts++;
        }
    }
    disk_cursor_fini(&cursor);
    assert_in_range(cuts, 30, 100000);
    assert_in_range(changed, 30, 1000000);
    session_end(&f.session);
    disk_image_fini(&f.image);
}

static void no_data_reach_the_disk_before_their_mark(void **state) {
    (void)state;
    cut_while_regions_are_written(false);
    cut_while_regions_are_written(true);
}

/* ---- what it tells ---- */

static void sums_and_owned_regions(void **state) {
    (void)state;
    struct fixture f;
    static uint8_t data[MIB(1)];
    uint64_t sums[256];
    begin(&f);
    struct port a;
    way(&f, &a);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    struct random random;
    random_init(&random, 3);
    random_fill(&random, data, sizeof(data));
    assert_int_equal(io_run(&f, &a, BLOCK_WRITE, 0, MIB(3), sizeof(data), data), IO_OK);
    uint64_t argument = replica_argument(REPLICA_SUMS, 77, REPLICA_LAYER_HEAD);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, MIB(3), sizeof(sums), sums), IO_OK);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(sums[i], block_sum(data + i * 4096, 4096, 768 + i, 77));
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, MIB(7), sizeof(sums), sums), IO_OK);
    memset(data, 0, 4096);
    assert_int_equal(sums[9], block_sum(data, 4096, 1792 + 9, 77)); /* nobody's block reads as zeros */
    assert_int_not_equal(sums[9], sums[10]);                        /* and its place counts */
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, VOLUME_BYTES - 4096, 16, sums), IO_OUT_OF_RANGE);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, 512, 8, sums), IO_INVALID);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, 0, 7, sums), IO_INVALID);
    uint8_t owned[2];
    argument = replica_argument(REPLICA_OWNED, 0, REPLICA_LAYER_HEAD);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, argument, 0, sizeof(owned), owned), IO_OK);
    assert_int_equal(get_le16(owned), 1u << 3);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, replica_argument(REPLICA_OWNED, 0, 4711), 0, 2, owned), IO_DEVICE_GONE);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, replica_argument(200, 0, 0), 0, 2, owned), IO_UNSUPPORTED);
    assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_PUT, replica_argument(200, 0, 0), 0, 2, owned), IO_UNSUPPORTED);
    port_close(&a);
    end(&f);
}

static void a_leg_is_let_go_and_its_marks_with_it(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct port a;
    way(&f, &a);
    struct uuid mirror = id(1), other = id(2);
    struct volume_store_info before, after;
    volume_store_info(f.session.store, &before);
    assert_int_equal(claim(&f, &a, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &a, 1, 0, REGIONS), IO_OK);
    struct volume_command command = {.volume = f.volume, .name = "s"};
    assert_false(session_command(&f.session, volume_snapshot_create, &command)); /* the mirror does that */
    assert_int_equal(command.error.code, ERROR_PERMISSION);
    command = (struct volume_command){.volume = f.volume, .size_bytes = MIB(1)};
    assert_false(session_command(&f.session, volume_resize, &command));
    command = (struct volume_command){.volume = f.volume, .name = "renamed"};
    assert_true(session_command(&f.session, volume_rename, &command));
    assert_int_equal(put(&f, &a, REPLICA_FORGET, &other, sizeof(other)), IO_INVALID);
    assert_int_equal(put(&f, &a, REPLICA_FORGET, &mirror, sizeof(mirror)), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK); /* a plain volume again */
    assert_int_equal(flush(&f, &a), IO_OK);
    assert_int_equal(io_run(&f, &a, BLOCK_TRIM, 0, 0, VOLUME_BYTES, NULL), IO_OK);
    world_run_for(&f.session.world, 5 * NS_PER_S);
    assert_int_equal(flush(&f, &a), IO_OK);
    world_run_for(&f.session.world, 5 * NS_PER_S);
    volume_store_info(f.session.store, &after);
    assert_int_equal(after.background, 0);
    assert_in_range(before.free_bytes - after.free_bytes, 0, KIB(256)); /* the map's own nodes */
    assert_int_equal(claim(&f, &a, 3, 1, 1), IO_OK);                    /* anybody's from the start */
    port_close(&a);
    command = (struct volume_command){.volume = f.volume};
    assert_true(session_command(&f.session, volume_delete, &command)); /* an operator may */
    world_run_for(&f.session.world, 5 * NS_PER_S);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_uses_a_leg_without_its_claim),      cmocka_unit_test(terms_and_attempts_only_rise),
        cmocka_unit_test(a_claim_waits_for_what_was_let_in),        cmocka_unit_test(a_record_is_checked_and_durable),
        cmocka_unit_test(a_record_waits_for_no_flush_of_data),      cmocka_unit_test(a_record_waits_for_no_checkpoint),
        cmocka_unit_test(marks_tell_when_a_region_was_written),     cmocka_unit_test(copies_to_an_empty_leg_leave_no_marks),
        cmocka_unit_test(no_data_reach_the_disk_before_their_mark), cmocka_unit_test(sums_and_owned_regions),
        cmocka_unit_test(a_leg_is_let_go_and_its_marks_with_it),
    };
    return cmocka_run_group_tests_name("volume replica", tests, NULL, NULL);
}
