/* Simulated disks: what survives, what tears, what faults do. The models here are written apart from the simulator: they know the
 * contract (sim_disk.h, host.h), not how it is done. */
#include "sim_rig.h"

#include <errno.h>
#include <stdlib.h>

#include "base/random.h"

#define UNIT 512
#define BLOCK 4096
#define BLOCKS 24

/* ---- a workload whose every power-fail unit says which write it is of ---- */

enum fate { UNDER_WAY, COMPLETED, DURABLE };

struct stamped {
    struct rig_io *io;
    uint64_t first, units; /* on the disk */
    enum fate fate;
};

struct workload {
    struct rig *rig;
    struct host_file *file;
    struct random random;
    struct stamped writes[400];
    uint32_t count;
    struct rig_io *sync;
    bool covered[400]; /* writes that were complete when the sync was submitted */
};

static void stamp(uint8_t *data, uint64_t unit, uint64_t version) {
    for (uint64_t at = 0; at < UNIT; at += 16) {
        put_le64(data + at, unit);
        put_le64(data + at + 8, version);
    }
}

/* The version that a unit shows, 0 for zeros; fails on mixed or foreign content. */
static uint64_t version_of(const uint8_t *data, uint64_t unit) {
    uint64_t version = get_le64(data + 8);
    for (uint64_t at = 0; at < UNIT; at += 16) {
        assert_int_equal(get_le64(data + at + 8), version);
        assert_int_equal(get_le64(data + at), version == 0 ? 0 : unit);
    }
    return version;
}

static bool unit_busy(const struct workload *w, uint64_t first, uint64_t units) {
    for (uint32_t i = 0; i < w->count; i++)
        if (w->writes[i].fate == UNDER_WAY && w->writes[i].first < first + units &&
            first < w->writes[i].first + w->writes[i].units)
            return true;
    return false;
}

static void workload_reap(struct workload *w) {
    for (uint32_t i = 0; i < w->count; i++)
        if (w->writes[i].fate == UNDER_WAY && w->writes[i].io->done) {
            assert_int_equal(w->writes[i].io->request.result, w->writes[i].units * UNIT);
            w->writes[i].fate = COMPLETED;
        }
    if (w->sync == NULL || !w->sync->done)
        return;
    assert_int_equal(w->sync->request.result, 0);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->covered[i])
            w->writes[i].fate = DURABLE;
    rig_io_free(w->sync);
    w->sync = NULL;
}

static void workload_write(struct workload *w) {
    uint64_t first = random_below(&w->random, BLOCKS * 8), units = 1 + random_below(&w->random, 20);
    units = min_u64(units, BLOCKS * 8 - first);
    if (w->count == array_count(w->writes) || unit_busy(w, first, units))
        return;
    struct stamped *write = &w->writes[w->count++];
    *write = (struct stamped){.first = first, .units = units};
    write->io = rig_io_create(w->file, HOST_FILE_WRITE, first * UNIT, units * UNIT);
    for (uint64_t i = 0; i < units; i++)
        stamp(write->io->data + i * UNIT, first + i, w->count);
    rig_io_submit(w->rig, write->io);
}

static void workload_step(struct workload *w) {
    workload_reap(w);
    if (w->sync == NULL && random_chance(&w->random, 1, 8)) {
        for (uint32_t i = 0; i < w->count; i++)
            w->covered[i] = w->writes[i].fate != UNDER_WAY;
        w->sync = rig_io_start(w->rig, w->file, HOST_FILE_SYNC, 0, 0, 0);
    } else {
        workload_write(w);
    }
    if (random_chance(&w->random, 1, 2))
        sim_run_for(w->rig->sim, random_below(&w->random, 60 * NS_PER_US));
    workload_reap(w);
}

static void workload_free(struct workload *w) {
    for (uint32_t i = 0; i < w->count; i++)
        rig_io_free(w->writes[i].io);
    if (w->sync != NULL)
        rig_io_free(w->sync);
}

/* The newest durable version of a unit, as the contract promises it. */
static uint64_t durable_version(const struct workload *w, uint64_t unit) {
    uint64_t version = 0;
    for (uint32_t i = 0; i < w->count; i++)
        if (w->writes[i].fate == DURABLE && unit >= w->writes[i].first && unit < w->writes[i].first + w->writes[i].units)
            version = i + 1;
    return version;
}

static struct sim_disk *disk_at(struct rig *rig, const char *path, uint64_t size) {
    struct sim_disk_options options;
    sim_disk_options_init(&options, size);
    struct sim_disk *disk = sim_disk_create(rig->sim, &options);
    sim_node_attach(rig->node, path, disk);
    return disk;
}

/* ---- what survives ---- */

static void power_cuts_keep_what_was_flushed_and_tear_the_rest(void **state) {
    (void)state;
    unsigned lost = 0, kept = 0, torn = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct workload *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->rig = &rig;
        w->file = rig_open(&rig, "disk", true);
        random_init(&w->random, seed);
        for (uint64_t steps = random_below(&w->random, 200); steps > 0; steps--)
            workload_step(w);
        sim_node_power_off(rig.node);
        uint8_t *image = malloc(BLOCKS * BLOCK);
        assert_non_null(image);
        sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, image, BLOCKS * BLOCK);
        bool whole[401] = {0}, part[401] = {0};
        for (uint64_t unit = 0; unit < BLOCKS * 8; unit++) {
            uint64_t version = version_of(image + unit * UNIT, unit), floor = durable_version(w, unit);
            assert_true(version >= floor && version <= w->count);
            for (uint64_t v = floor + 1; v <= w->count; v++)
                if (unit >= w->writes[v - 1].first && unit < w->writes[v - 1].first + w->writes[v - 1].units)
                    *(v == version ? &whole[v] : &part[v]) = true;
        }
        for (uint32_t v = 1; v <= w->count; v++) {
            kept += whole[v] && !part[v];
            lost += !whole[v] && part[v];
            torn += whole[v] && part[v];
        }
        free(image);
        workload_free(w);
        free(w);
        rig_fini(&rig);
    }
    assert_true(lost > 50 && kept > 50 && torn > 20);
}

static void a_kill_loses_nothing_that_was_handed_over(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct workload *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->rig = &rig;
        w->file = rig_open(&rig, "disk", true);
        random_init(&w->random, seed);
        for (int steps = 0; steps < 60; steps++)
            workload_step(w);
        sim_process_kill(rig.host, SIM_KILL_CLOSE);
        rig_restart(&rig);
        struct host_file *file = rig_open(&rig, "disk", true); /* waits for the last write to land */
        struct sim_disk_stats stats;
        sim_disk_stats(disk, &stats);
        assert_int_equal(stats.in_flight, 0);
        uint8_t data[UNIT];
        for (uint64_t unit = 0; unit < BLOCKS * 8; unit++) {
            uint64_t newest = 0;
            for (uint32_t i = 0; i < w->count; i++)
                if (unit >= w->writes[i].first && unit < w->writes[i].first + w->writes[i].units)
                    newest = i + 1;
            sim_disk_peek(disk, SIM_VIEW_CURRENT, unit * UNIT, data, UNIT);
            assert_int_equal(version_of(data, unit), newest);
        }
        (void)file;
        workload_free(w);
        free(w);
        rig_fini(&rig);
    }
}

/* ---- the record: every cut, every subset, against a second way of computing it ---- */

static bool is_outstanding(const struct sim_record *record, size_t position, uint32_t write) {
    size_t completed = SIZE_MAX, submitted = SIZE_MAX;
    bool synced = false;
    size_t sync_at[400] = {0};
    for (size_t i = 0; i < position; i++) {
        const struct sim_record_event *event = sim_record_event(record, i);
        if (event->kind == SIM_RECORD_WRITE && event->index == write)
            submitted = i;
        if (event->kind == SIM_RECORD_COMPLETED && event->index == write)
            completed = i;
        if (event->kind == SIM_RECORD_SYNC)
            sync_at[event->index] = i;
        if (event->kind == SIM_RECORD_SYNCED && completed < sync_at[event->index])
            synced = true;
    }
    return submitted != SIZE_MAX && !synced;
}

static void check_image(const struct workload *w, const struct sim_record *record, const struct sim_cursor *cursor,
                        const struct sim_survival *survivals, struct sim_disk *image) {
    static uint8_t data[BLOCKS * BLOCK];
    sim_disk_peek(image, SIM_VIEW_CURRENT, 0, data, sizeof(data));
    for (uint64_t unit = 0; unit < BLOCKS * 8; unit++) {
        uint64_t expected = 0;
        for (uint32_t i = 0; i < w->count; i++) {
            const struct stamped *write = &w->writes[i];
            bool touches = unit >= write->first && unit < write->first + write->units, survives = false, submitted = false;
            for (size_t e = 0; touches && !submitted && e < cursor->position; e++)
                submitted = sim_record_event(record, e)->kind == SIM_RECORD_WRITE && sim_record_event(record, e)->index == i;
            if (!touches || !submitted)
                continue;
            survives = true;
            for (uint32_t k = 0; k < cursor->outstanding_count; k++)
                if (cursor->outstanding[k] == i)
                    survives =
                        survivals[k].kind == SIM_KEPT ||
                        (survivals[k].kind == SIM_TORN_PREFIX && unit - write->first < survivals[k].value) ||
                        (survivals[k].kind == SIM_TORN_SUFFIX && write->first + write->units - unit <= survivals[k].value) ||
                        (survivals[k].kind == SIM_TORN_MASK && (survivals[k].value >> (unit - write->first) % 64 & 1) != 0);
            if (survives)
                expected = i + 1;
        }
        assert_int_equal(version_of(data + unit * UNIT, unit), expected);
    }
}

static unsigned check_cuts(const struct workload *w, struct sim_record *record, struct random *random) {
    struct sim_cursor *cursor = sim_cursor_create(record);
    unsigned images = 0;
    do {
        for (uint32_t i = 0; i < w->count; i++) {
            bool listed = false;
            for (uint32_t k = 0; k < cursor->outstanding_count; k++)
                listed |= cursor->outstanding[k] == i;
            assert_int_equal(listed, is_outstanding(record, cursor->position, i));
        }
        uint32_t subsets = cursor->outstanding_count <= 4 ? 1u << cursor->outstanding_count : 16;
        for (uint32_t subset = 0; subset < subsets && cursor->changed; subset++, images++) {
            struct sim_survival survivals[400] = {0};
            for (uint32_t k = 0; k < cursor->outstanding_count; k++) {
                bool one = cursor->outstanding_count <= 4 ? (subset >> k & 1) != 0 : random_chance(random, 1, 2);
                survivals[k].kind = one ? SIM_KEPT : SIM_LOST;
                if (random_chance(random, 1, 4)) {
                    const enum sim_survival_kind kinds[] = {SIM_TORN_PREFIX, SIM_TORN_SUFFIX, SIM_TORN_MASK};
                    survivals[k] = (struct sim_survival){kinds[random_below(random, 3)], random_below(random, 16)};
                }
            }
            struct sim_disk *image = sim_cursor_image(cursor, survivals);
            check_image(w, record, cursor, survivals, image);
            sim_disk_destroy(image);
        }
    } while (sim_cursor_next(cursor));
    sim_cursor_destroy(cursor);
    return images;
}

static void a_record_gives_every_image_of_every_cut(void **state) {
    (void)state;
    unsigned images = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct sim_record *record = sim_record_start(disk);
        struct workload *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->rig = &rig;
        w->file = rig_open(&rig, "disk", true);
        random_init(&w->random, seed);
        for (int steps = 0; steps < 50; steps++)
            workload_step(w);
        sim_run_for(rig.sim, 100 * NS_PER_MS);
        sim_record_mark(record, 4711);
        assert_int_equal(sim_record_event(record, sim_record_event_count(record) - 1)->value, 4711);
        assert_int_equal(sim_record_write_count(record), w->count);
        sim_record_stop(record);
        images += check_cuts(w, record, &w->random);
        sim_record_destroy(record);
        workload_free(w);
        free(w);
        rig_fini(&rig);
    }
    assert_true(images > 3000);
}

/* An image is a disk like any other: it can be recorded and cut in turn, and its base stays as it is. */
static void an_image_can_be_recorded_and_cut_again(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 5);
    struct sim_disk *disk = disk_at(&rig, "/first", BLOCKS * BLOCK);
    struct host_file *file = rig_open(&rig, "first", false);
    struct sim_record *record = sim_record_start(disk);
    struct rig_io *io = rig_io_start(&rig, file, HOST_FILE_WRITE, 0, BLOCK, 1);
    rig_io_wait(&rig, io);
    rig_io_free(io);
    struct sim_cursor *cursor = sim_cursor_create(record);
    while (sim_cursor_next(cursor))
        ;
    assert_int_equal(cursor->outstanding_count, 1);
    struct sim_survival keep = {.kind = SIM_KEPT};
    struct sim_disk *image = sim_cursor_image(cursor, &keep), *plain = sim_cursor_image(cursor, NULL);
    sim_node_attach(rig.node, "/second", image);
    struct host_file *second = rig_open(&rig, "second", false);
    struct sim_record *again = sim_record_start(image);
    io = rig_io_start(&rig, second, HOST_FILE_WRITE, 512, 512, 2);
    rig_io_wait(&rig, io);
    rig_io_free(io);
    struct sim_cursor *inner = sim_cursor_create(again);
    while (sim_cursor_next(inner))
        ;
    assert_int_equal(inner->outstanding_count, 1);
    for (int kept = 0; kept < 2; kept++) {
        struct sim_survival survival = {.kind = kept ? SIM_KEPT : SIM_LOST};
        struct sim_disk *last = sim_cursor_image(inner, &survival);
        uint8_t data[1024];
        sim_disk_peek(last, SIM_VIEW_CURRENT, 0, data, sizeof(data));
        assert_int_equal(data[511], 1);
        assert_int_equal(data[512], kept ? 2 : 1);
        sim_disk_destroy(last);
    }
    uint8_t byte = 9;
    sim_disk_peek(plain, SIM_VIEW_CURRENT, 0, &byte, 1);
    assert_int_equal(byte, 0);
    sim_cursor_destroy(inner);
    sim_process_kill(rig.host, SIM_KILL_CLOSE);
    sim_disk_destroy(image);
    sim_disk_destroy(plain);
    sim_record_destroy(again);
    sim_cursor_destroy(cursor);
    sim_record_destroy(record);
    rig_fini(&rig);
}

/* ---- faults ---- */

static int64_t io(struct rig *rig, struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length, uint8_t fill) {
    struct rig_io *one = rig_io_start(rig, file, op, offset, length, fill);
    rig_io_wait(rig, one);
    int64_t result = one->request.result;
    rig_io_free(one);
    return result;
}

static void the_nth_request_fails(void **state) {
    (void)state;
    for (unsigned n = 1; n <= 6; n++) {
        struct rig rig;
        rig_init(&rig, n);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct host_file *file = rig_open(&rig, "disk", false);
        struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_WRITE), .skip = n - 1, .count = 1};
        unsigned number = sim_disk_fault_add(disk, &fault);
        for (unsigned i = 1; i <= 6; i++) {
            assert_int_equal(io(&rig, file, HOST_FILE_WRITE, i * 4096, 4096, 1), i == n ? -EIO : 4096);
            assert_int_equal(io(&rig, file, HOST_FILE_READ, i * 4096, 4096, 0), 4096);
            assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), 0);
        }
        assert_int_equal(sim_disk_fault_hits(disk, number), 1);
        fault = (struct sim_disk_fault){.ops = SIM_OP(HOST_FILE_READ), .offset = 8192, .length = 512, .error = -ENODATA};
        sim_disk_fault_add(disk, &fault);
        assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 8192, 0), 8192);
        assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 8704, 0), -ENODATA);
        sim_disk_faults_clear(disk);
        assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 8704, 0), 8704);
        sim_disk_set_dead(disk);
        assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 512, 0), -EIO);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), -EIO);
        rig_fini(&rig);
    }
}

static void a_failed_write_may_have_changed_some(void **state) {
    (void)state;
    unsigned none = 0, some = 0, all = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct host_file *file = rig_open(&rig, "disk", false);
        struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_WRITE)};
        sim_disk_fault_add(disk, &fault);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 16384, 7), -EIO);
        uint8_t data[16384];
        sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, data, sizeof(data));
        unsigned changed = 0;
        for (size_t i = 0; i < sizeof(data); i++) {
            assert_true(data[i] == 0 || data[i] == 7);
            changed += data[i] == 7;
        }
        assert_int_equal(changed % UNIT, 0);
        none += changed == 0;
        all += changed == sizeof(data);
        some += changed > 0 && changed < sizeof(data);
        rig_fini(&rig);
    }
    assert_true(none > 5 && some > 5 && all > 5);
}

static void bad_sectors_read_again_once_written(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
    struct host_file *file = rig_open(&rig, "disk", false);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 16384, 7), 16384);
    sim_disk_bad_add(disk, 4096, 4096);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 4096, 0), 4096);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 4608, 0), -EIO);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 4608, 512, 8), 512);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 4608, 512, 0), 512);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 4096, 512, 0), -EIO);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 5120, 512, 0), -EIO);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 4096, 4096, 8), 4096);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 0, 16384, 0), 16384);
    rig_fini(&rig);
}

static void a_full_disk_refuses_new_pages_only(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    struct sim_disk_options options;
    sim_disk_options_init(&options, GIB(1));
    options.block_device = false;
    options.space = 4 * BLOCK;
    struct sim_disk *disk = sim_disk_create(rig.sim, &options);
    sim_node_attach(rig.node, "/disk", disk);
    struct host_file *file = rig_open(&rig, "disk", false);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 16384, 7), 16384);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, MIB(1), 4096, 7), -ENOSPC);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 4096, 4096, 8), 4096);
    assert_int_equal(io(&rig, file, HOST_FILE_PUNCH, 0, 8192, 0), 0);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, MIB(1), 8192, 7), 8192);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, MIB(2), 4096, 7), -ENOSPC);
    sim_disk_set_full(disk, true);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, MIB(3), 4096, 7), -ENOSPC);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, MIB(1), 4096, 9), 4096);
    /* a device has all its space, but an end */
    disk_at(&rig, "/device", BLOCKS * BLOCK);
    file = rig_open(&rig, "device", false);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, (BLOCKS - 1) * BLOCK, 8192, 7), 4096);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, BLOCKS * BLOCK, 4096, 7), -ENOSPC);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, (BLOCKS - 1) * BLOCK, 8192, 7), 4096);
    /* and what is not aligned is refused where O_DIRECT refuses it */
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 100, 512, 7), -EINVAL);
    assert_int_equal(io(&rig, file, HOST_FILE_READ, 512, 100, 7), -EINVAL);
    rig_fini(&rig);
}

/* What a retried flush would hide: the second one succeeds, and the data is gone all the same. */
static void a_failed_flush_drops_what_a_later_one_does_not_bring_back(void **state) {
    (void)state;
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct host_file *file = rig_open(&rig, "disk", false);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 4096, 1), 4096);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), 0);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 4096, 2), 4096);
        struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_SYNC), .count = 1};
        sim_disk_fault_add(disk, &fault);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), -EIO);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), 0);
        /* what is written after the failure is as good as ever */
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 8192, 4096, 3), 4096);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), 0);
        sim_node_power_off(rig.node);
        uint8_t data[12288];
        sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, data, sizeof(data));
        for (unsigned i = 0; i < 4096; i++) {
            assert_true(data[i] == 1 || data[i] == 2);
            assert_int_equal(data[8192 + i], 3);
            lost += data[i] == 1;
            kept += data[i] == 2;
        }
        rig_fini(&rig);
    }
    assert_true(lost > 4096 && kept > 4096);
}

/* In the record such a write stays of unknown fate: no sync that succeeds later makes it sure. And for as long as the disk runs,
 * reads may show it still, or no longer. */
static void a_dropped_write_stays_of_unknown_fate(void **state) {
    (void)state;
    unsigned old = 0, new = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct host_file *file = rig_open(&rig, "disk", false);
        struct sim_record *record = sim_record_start(disk);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 4096, 2), 4096);
        struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_SYNC), .count = 1};
        sim_disk_fault_add(disk, &fault);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), -EIO);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 8192, 4096, 3), 4096);
        assert_int_equal(io(&rig, file, HOST_FILE_SYNC, 0, 0, 0), 0);
        struct sim_cursor *cursor = sim_cursor_create(record);
        while (sim_cursor_next(cursor))
            ;
        assert_int_equal(cursor->outstanding_count, 1);
        assert_int_equal(cursor->outstanding[0], 0);
        sim_cursor_destroy(cursor);
        uint8_t byte = 0;
        sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, &byte, 1);
        assert_true(byte == 0 || byte == 2);
        old += byte == 0;
        new += byte == 2;
        rig_fini(&rig);
    }
    assert_true(old > 5 && new > 5);
}

/* ---- ghosts and locks ---- */

static void a_killed_process_holds_its_disk_until_its_write_has_landed(void **state) {
    (void)state;
    for (int forgets = 0; forgets < 2; forgets++) {
        struct rig rig;
        rig_init(&rig, (uint64_t)forgets + 1);
        struct sim_disk_options disk_options;
        sim_disk_options_init(&disk_options, BLOCKS * BLOCK);
        disk_options.lock_forgets_requests = forgets != 0;
        struct sim_disk *disk = sim_disk_create(rig.sim, &disk_options);
        sim_node_attach(rig.node, "/disk", disk);
        struct host_file *file = rig_open(&rig, "disk", true);
        struct sim_disk_fault fault = {.ops = SIM_OP(HOST_FILE_WRITE), .action = SIM_FAULT_HANG, .count = 1};
        sim_disk_fault_add(disk, &fault);
        struct rig_io *ghost = rig_io_start(&rig, file, HOST_FILE_WRITE, 0, 4096, 0x66);
        sim_run_for(rig.sim, 10 * NS_PER_MS);
        assert_false(ghost->done);
        assert_int_equal(sim_disk_hung(disk), 1);
        sim_process_kill(rig.host, SIM_KILL_CLOSE);
        memset(ghost->data, 0xee, 4096); /* the dead process's memory is nobody's */
        rig_restart(&rig);
        struct host_file_open open;
        struct host_file_options hold = {.hold = true, .hold_timeout_ms = 100};
        file = actor_open(&rig.actor, "disk", hold, &open);
        uint8_t data[4096];
        if (forgets) { /* the broken lock: what the new process writes is overwritten by the dead one */
            assert_non_null(file);
            assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 4096, 1), 4096);
            sim_disk_release(disk);
            sim_run_for(rig.sim, 10 * NS_PER_MS);
            sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, data, 4096);
            assert_int_equal(data[0], 0x66);
        } else {
            assert_null(file);
            assert_int_equal(open.error.code, ERROR_BUSY);
            sim_disk_release(disk);
            file = actor_open(&rig.actor, "disk", hold, &open);
            assert_non_null(file);
            sim_disk_peek(disk, SIM_VIEW_CURRENT, 0, data, 4096);
            assert_int_equal(data[0], 0x66);
            assert_int_equal(data[4095], 0x66);
        }
        struct sim_disk_stats stats;
        sim_disk_stats(disk, &stats);
        assert_int_equal(stats.ghosts, 1);
        rig_io_free(ghost);
        rig_fini(&rig);
    }
}

/* Killed at each of its effects in turn: so many requests have reached the disk, not one more. */
static void a_process_dies_at_its_nth_effect(void **state) {
    (void)state;
    for (uint64_t n = 1; n <= 8; n++) {
        struct rig rig;
        rig_init(&rig, n);
        struct sim_disk *disk = disk_at(&rig, "/disk", BLOCKS * BLOCK);
        struct host_file *file = rig_open(&rig, "disk", true);
        sim_process_kill_at(rig.host, n, SIM_KILL_CLOSE, n % 2 == 0);
        struct rig_io *ios[8];
        for (int i = 0; i < 8; i++) {
            ios[i] = rig_io_create(file, HOST_FILE_WRITE, (uint64_t)i * 4096, 4096);
            memset(ios[i]->data, i + 1, 4096);
        }
        for (uint64_t i = 0; i + 1 < n; i++)
            rig_io_submit(&rig, ios[i]);
        assert_int_equal(sim_node_kill_count(rig.node), 0);
        /* the deadly one: nobody answers the call any more, so it is not waited for */
        rig_io_submit_unawaited(&rig, ios[n - 1]);
        sim_run_for(rig.sim, NS_PER_MS);
        assert_int_equal(sim_node_kill_count(rig.node), 1);
        assert_int_equal(sim_node_is_on(rig.node), n % 2 == 1);
        struct sim_disk_stats stats;
        sim_disk_stats(disk, &stats);
        assert_int_equal(stats.requests[HOST_FILE_WRITE], n - 1);
        for (int i = 0; i < 8; i++)
            rig_io_free(ios[i]);
        rig_fini(&rig);
    }
}

/* ---- the rest of the contract that leaves choices ---- */

static void a_punched_device_reads_zero_or_as_before(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 3);
    struct sim_disk *disk = disk_at(&rig, "/disk", 64 * BLOCK);
    struct host_file *file = rig_open(&rig, "disk", false);
    assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 64 * BLOCK, 7), 64 * BLOCK);
    assert_int_equal(io(&rig, file, HOST_FILE_PUNCH, 0, 64 * BLOCK, 0), 0);
    unsigned zero = 0;
    uint8_t data[BLOCK];
    for (uint64_t i = 0; i < 64; i++) {
        sim_disk_peek(disk, SIM_VIEW_CURRENT, i * BLOCK, data, BLOCK);
        assert_true(data[0] == 0 || data[0] == 7);
        assert_int_equal(data[0], data[BLOCK - 1]);
        zero += data[0] == 0;
    }
    assert_true(zero > 10 && zero < 54);
    assert_int_equal(io(&rig, file, HOST_FILE_ZERO, 0, 64 * BLOCK, 0), 0);
    for (uint64_t i = 0; i < 64; i++) {
        sim_disk_peek(disk, SIM_VIEW_CURRENT, i * BLOCK, data, BLOCK);
        assert_int_equal(data[0], 0);
    }
    rig_fini(&rig);
}

static void a_stated_power_fail_unit_is_never_torn(void **state) {
    (void)state;
    unsigned mixed = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk_options options;
        sim_disk_options_init(&options, BLOCKS * BLOCK);
        options.power_fail_unit = 4096;
        struct sim_disk *disk = sim_disk_create(rig.sim, &options);
        sim_node_attach(rig.node, "/disk", disk);
        struct host_file *file = rig_open(&rig, "disk", false);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, BLOCKS * BLOCK, 7), BLOCKS * BLOCK);
        sim_node_power_off(rig.node);
        uint8_t data[BLOCK], first = 0;
        for (uint64_t i = 0; i < BLOCKS; i++) {
            sim_disk_peek(disk, SIM_VIEW_CURRENT, i * BLOCK, data, BLOCK);
            for (unsigned j = 1; j < BLOCK; j++)
                assert_int_equal(data[j], data[0]);
            mixed += i > 0 && data[0] != first;
            first = data[0];
        }
        rig_fini(&rig);
    }
    assert_true(mixed > 3);
}

static void a_file_grown_and_not_flushed_may_be_short_again(void **state) {
    (void)state;
    unsigned small = 0, large = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct host_file_open open;
        struct host_file *file =
            actor_open(&rig.actor, "file", (struct host_file_options){.create = true, .create_size = 8192}, &open);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 65536, 4096, 7), 4096);
        uint64_t size = 0;
        host_file_size(file, &size);
        assert_int_equal(size, 69632);
        sim_node_power_off(rig.node);
        size = sim_disk_size(sim_node_disk(rig.node, "/file"));
        assert_true(size == 8192 || (size > 65536 && size <= 69632));
        small += size == 8192;
        large += size == 69632;
        rig_fini(&rig);
    }
    assert_true(small > 3 && large > 3);
}

static void a_write_through_disk_loses_nothing_that_completed(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        struct sim_disk_options options;
        sim_disk_options_init(&options, BLOCKS * BLOCK);
        options.write_through = true;
        struct sim_disk *disk = sim_disk_create(rig.sim, &options);
        sim_node_attach(rig.node, "/disk", disk);
        struct host_file *file = rig_open(&rig, "disk", false);
        struct sim_record *record = sim_record_start(disk);
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, 0, 16384, 7), 16384);
        struct sim_cursor *cursor = sim_cursor_create(record);
        while (sim_cursor_next(cursor))
            ;
        assert_int_equal(cursor->outstanding_count, 0);
        sim_cursor_destroy(cursor);
        sim_node_power_off(rig.node);
        uint8_t data[16384];
        sim_disk_peek(disk, SIM_VIEW_DURABLE, 0, data, sizeof(data));
        for (unsigned i = 0; i < sizeof(data); i++)
            assert_int_equal(data[i], 7);
        rig_fini(&rig);
    }
}

static void huge_sparse_disks_cost_what_they_hold(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, 1);
    struct sim_disk *disk = disk_at(&rig, "/disk", TIB(64));
    struct host_file *file = rig_open(&rig, "disk", false);
    for (uint64_t i = 0; i < 64; i++)
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, i * TIB(1), 4096, (uint8_t)i), 4096);
    uint64_t hash = sim_disk_hash(disk, SIM_VIEW_CURRENT);
    assert_int_equal(io(&rig, file, HOST_FILE_ZERO, TIB(32), TIB(32), 0), 0);
    assert_true(sim_disk_hash(disk, SIM_VIEW_CURRENT) != hash);
    uint8_t byte = 9;
    sim_disk_peek(disk, SIM_VIEW_CURRENT, TIB(40), &byte, 1);
    assert_int_equal(byte, 0);
    sim_disk_peek(disk, SIM_VIEW_CURRENT, TIB(31), &byte, 1);
    assert_int_equal(byte, 31);
    for (uint64_t i = 32; i < 64; i++)
        assert_int_equal(io(&rig, file, HOST_FILE_WRITE, i * TIB(1), 4096, (uint8_t)i), 4096);
    assert_true(sim_disk_hash(disk, SIM_VIEW_CURRENT) == hash);
    sim_disk_flip_bit(disk, TIB(5) + 77, 3);
    assert_true(sim_disk_hash(disk, SIM_VIEW_CURRENT) != hash);
    rig_fini(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts_keep_what_was_flushed_and_tear_the_rest),
        cmocka_unit_test(a_kill_loses_nothing_that_was_handed_over),
        cmocka_unit_test(a_record_gives_every_image_of_every_cut),
        cmocka_unit_test(an_image_can_be_recorded_and_cut_again),
        cmocka_unit_test(the_nth_request_fails),
        cmocka_unit_test(a_failed_write_may_have_changed_some),
        cmocka_unit_test(bad_sectors_read_again_once_written),
        cmocka_unit_test(a_full_disk_refuses_new_pages_only),
        cmocka_unit_test(a_failed_flush_drops_what_a_later_one_does_not_bring_back),
        cmocka_unit_test(a_dropped_write_stays_of_unknown_fate),
        cmocka_unit_test(a_killed_process_holds_its_disk_until_its_write_has_landed),
        cmocka_unit_test(a_process_dies_at_its_nth_effect),
        cmocka_unit_test(a_punched_device_reads_zero_or_as_before),
        cmocka_unit_test(a_stated_power_fail_unit_is_never_torn),
        cmocka_unit_test(a_file_grown_and_not_flushed_may_be_short_again),
        cmocka_unit_test(a_write_through_disk_loses_nothing_that_completed),
        cmocka_unit_test(huge_sparse_disks_cost_what_they_hold),
    };
    return cmocka_run_group_tests_name("host/sim: disks", tests, NULL, NULL);
}
