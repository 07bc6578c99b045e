/* What a snapshot holds: its map, checksums of it, copies of it; and parents that are changed. A tree copied snapshot by
 * snapshot, as a rebuild does it, must read as the original, whatever was written, trimmed, cut off and merged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "leg.h"

#define SNAPSHOTS 5
#define UNIT MIB(1)
#define BYTES MIB(6)

static struct uuid make(struct fixture *f, const char *name, uint64_t size) {
    struct volume_command create = {.name = name, .size_bytes = size};
    if (!session_command(&f->session, volume_create, &create))
        fail_msg("%s: %s", name, create.error.text);
    return create.ret_uuid;
}

static struct uuid snapshot(struct fixture *f, const struct uuid *of, const char *name) {
    struct volume_command command = {.volume = *of, .name = name};
    if (!session_command(&f->session, volume_snapshot_create, &command))
        fail_msg("%s: %s", name, command.error.text);
    return command.ret_uuid;
}

static struct block_device *device(struct fixture *f, const struct uuid *uuid) {
    char text[UUID_TEXT_SIZE];
    uuid_format(uuid, text);
    return block_graph_find(&f->session.graph, text);
}

static void load(struct fixture *f, const struct uuid *uuid, uint8_t *bytes, uint64_t size) {
    struct port port;
    assert_true(port_open(&f->session, &port, uuid, true));
    for (uint64_t at = 0; at < size; at += UNIT)
        assert_int_equal(io_run(f, &port, BLOCK_READ, 0, at, UNIT, bytes + at), IO_OK);
    port_close(&port);
}

static void same(struct fixture *f, const struct uuid *a, const struct uuid *b, uint64_t size, const char *what) {
    uint8_t *bytes = malloc(2 * size);
    load(f, a, bytes, size);
    load(f, b, bytes + size, size);
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != bytes[size + i])
            fail_msg("%s: block %llu differs: %02x, %02x", what, (unsigned long long)(i / 4096), bytes[i], bytes[size + i]);
    free(bytes);
}

/* Writes, trims and zeroes here and there, some of them smaller than a block. */
static void scribble(struct fixture *f, struct random *random, const struct uuid *uuid, uint64_t size) {
    uint8_t *buffer = aligned_alloc(4096, KIB(256));
    struct port port;
    assert_true(port_open(&f->session, &port, uuid, false));
    for (unsigned i = 0; i < 24; i++) {
        uint64_t length = 512 * (1 + random_below(random, i % 3 == 0 ? 500 : 16));
        uint64_t offset = 512 * random_below(random, (size - length) / 512);
        uint64_t kind = random_below(random, 8);
        memset(buffer, (int)(1 + random_below(random, 255)), length);
        if (kind == 0)
            io_run(f, &port, BLOCK_TRIM, 0, round_down(offset, 4096), round_up(length, 4096), NULL);
        else if (kind == 1)
            assert_int_equal(io_run(f, &port, BLOCK_WRITE_ZEROES, 0, offset, length, NULL), IO_OK);
        else
            assert_int_equal(io_run(f, &port, BLOCK_WRITE, 0, offset, length, buffer), IO_OK);
    }
    port_close(&port);
    free(buffer);
}

static void resize(struct fixture *f, const struct uuid *uuid, uint64_t size) {
    struct volume_command command = {.volume = *uuid, .size_bytes = size};
    assert_true(session_command(&f->session, volume_resize, &command));
}

/* ---- scans ---- */

struct scanning {
    struct volume_scan scan;
    bool done;
};
static void scan_done(struct volume_scan *scan) { container_of(scan, struct scanning, scan)->done = true; }
static bool scan_is_done(void *arg) { return ((struct scanning *)arg)->done; }

static bool scan_run(struct fixture *f, struct scanning *s) {
    s->scan.done = scan_done;
    s->done = false;
    bool begun = volume_scan_start(&s->scan);
    if (begun)
        assert_true(world_run_until(&f->session.world, scan_is_done, s, 10000000));
    return begun && s->scan.ok;
}

static void copy(struct fixture *f, enum volume_scan_what what, const struct uuid *from, const struct uuid *to) {
    struct scanning s = {.scan = {.what = what, .from = device(f, from), .to = device(f, to)}};
    if (!scan_run(f, &s))
        fail_msg("copy: %s", s.scan.error.text);
    assert_int_equal(atomic_load(&s.scan.handled_units), atomic_load(&s.scan.total_units));
}

static uint64_t sum(struct fixture *f, const struct uuid *of) {
    struct scanning s = {.scan = {.what = VOLUME_SCAN_SUM, .from = device(f, of)}};
    if (!scan_run(f, &s))
        fail_msg("checksum: %s", s.scan.error.text);
    return s.scan.ret_sum;
}

static bool has_sum(struct fixture *f, const struct uuid *of, uint64_t *ret_sum) {
    struct volume_command get = {.volume = *of, .name = VOLUME_CHECKSUM_ATTRIBUTE};
    if (!session_command(&f->session, volume_attribute_get, &get))
        return false;
    *ret_sum = strtoull(get.ret_text, NULL, 10);
    free(get.ret_text);
    return true;
}

static void unit_sums(struct fixture *f, const struct uuid *of, struct volume_unit_sum *sums, size_t count) {
    struct scanning s = {.scan = {.what = VOLUME_SCAN_UNIT_SUMS, .from = device(f, of), .sums = sums, .unit_count = count}};
    if (!scan_run(f, &s))
        fail_msg("checksums: %s", s.scan.error.text);
}

/* ---- the tests ---- */

static void a_tree_is_copied(uint64_t seed) {
    struct fixture f;
    struct random random;
    struct uuid snapshots[SNAPSHOTS], copies[SNAPSHOTS], from, to;
    char name[32];
    random_init(&random, seed);
    begin(&f);
    from = make(&f, "from", BYTES);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        if (random_below(&random, 3) == 0) { /* what a shrink hides has no word of its own */
            resize(&f, &from, BYTES - UNIT * (1 + random_below(&random, 3)));
            resize(&f, &from, BYTES);
        }
        scribble(&f, &random, &from, BYTES);
        snprintf(name, sizeof(name), "from%u", i);
        snapshots[i] = snapshot(&f, &from, name);
    }
    unsigned gone = 1 + (unsigned)random_below(&random, SNAPSHOTS - 1), kept = 0;
    if (gone < SNAPSHOTS - 1) { /* merged into the next one, also while that is copied */
        struct volume_command delete = {.volume = snapshots[gone]};
        assert_true(session_command(&f.session, volume_delete, &delete));
    }
    to = make(&f, "to", BYTES);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        if (i == gone && gone < SNAPSHOTS - 1)
            continue;
        copy(&f, VOLUME_SCAN_COPY, &snapshots[i], &to);
        snprintf(name, sizeof(name), "to%u", i);
        copies[i] = snapshot(&f, &to, name);
        same(&f, &snapshots[i], &copies[i], BYTES, name);
        kept++;
    }
    assert_true(kept >= SNAPSHOTS - 1);
    struct uuid deep = make(&f, "deep", BYTES);
    copy(&f, VOLUME_SCAN_COPY_DEEP, &snapshots[SNAPSHOTS - 1], &deep);
    same(&f, &snapshots[SNAPSHOTS - 1], &deep, BYTES, "deep");
    end(&f);
}

static void a_tree_copied_snapshot_by_snapshot_reads_alike(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        a_tree_is_copied(seed);
}

static void units_that_differ_are_found_and_made_alike(void **state) {
    (void)state;
    struct fixture f;
    struct random random;
    random_init(&random, 5);
    begin(&f);
    struct uuid from = make(&f, "from", BYTES), to = make(&f, "to", BYTES);
    scribble(&f, &random, &from, BYTES);
    struct uuid base = snapshot(&f, &from, "base");
    copy(&f, VOLUME_SCAN_COPY, &base, &to);
    snapshot(&f, &to, "to-base");
    scribble(&f, &random, &from, MIB(3));
    scribble(&f, &random, &to, MIB(2));
    struct uuid wanted = snapshot(&f, &from, "wanted"), stale = snapshot(&f, &to, "stale");
    struct volume_unit_sum a[8], b[8];
    uint64_t units[8];
    size_t count = 0;
    unit_sums(&f, &wanted, a, 8);
    unit_sums(&f, &stale, b, 8);
    for (unsigned i = 0; i < BYTES / UNIT; i++)
        if (a[i].held != b[i].held || a[i].sum != b[i].sum)
            units[count++] = i;
    assert_true(count >= 2 && count <= 3);
    assert_false(a[5].held || b[5].held || a[7].held);
    struct scanning s = {.scan = {.what = VOLUME_SCAN_COPY_UNITS,
                                  .from = device(&f, &wanted),
                                  .to = device(&f, &to),
                                  .units = units,
                                  .unit_count = count}};
    assert_true(scan_run(&f, &s));
    assert_int_equal(atomic_load(&s.scan.total_units), count);
    same(&f, &wanted, &to, BYTES, "after the units");
    units[0] = BYTES / UNIT;
    assert_false(scan_run(&f, &s));
    assert_int_equal(s.scan.error.code, ERROR_IO);
    end(&f);
}

static void a_checksum_says_what_and_where(void **state) {
    (void)state;
    struct fixture f;
    struct uuid twins[3], snaps[3];
    uint8_t *buffer = aligned_alloc(4096, KIB(8));
    uint64_t stored;
    char name[16];
    begin(&f);
    for (unsigned i = 0; i < 3; i++) {
        struct port port;
        snprintf(name, sizeof(name), "twin%u", i);
        twins[i] = make(&f, name, BYTES);
        assert_true(port_open(&f.session, &port, &twins[i], false));
        memset(buffer, 7, KIB(8)); /* the third holds the same somewhere else */
        assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, i == 2 ? KIB(16) : KIB(4), KIB(8), buffer), IO_OK);
        port_close(&port);
        snprintf(name, sizeof(name), "snap%u", i);
        snaps[i] = snapshot(&f, &twins[i], name);
        assert_false(has_sum(&f, &snaps[i], &stored));
    }
    uint64_t sums[3];
    for (unsigned i = 0; i < 3; i++) {
        sums[i] = sum(&f, &snaps[i]);
        assert_true(has_sum(&f, &snaps[i], &stored) && stored == sums[i]);
    }
    assert_true(sums[0] == sums[1] && sums[0] != sums[2]);
    again(&f, true);
    assert_true(has_sum(&f, &snaps[0], &stored) && stored == sums[0]);

    /* It goes when what is below is merged into it. */
    struct uuid later = snapshot(&f, &twins[0], "later");
    sum(&f, &later);
    struct volume_command delete = {.volume = snaps[0]};
    assert_true(has_sum(&f, &later, &stored));
    assert_true(session_command(&f.session, volume_delete, &delete));
    assert_false(has_sum(&f, &later, &stored));
    world_run_for(&f.session.world, NS_PER_S);
    assert_true(sum(&f, &later) == sums[0]);
    free(buffer);
    end(&f);
}

/* Two replicas with the same content, of which one holds blocks of its own that the other has below, zeros too. */
static void a_checksum_says_nothing_of_who_holds_it(void **state) {
    (void)state;
    struct fixture f;
    struct uuid twins[2], tops[2];
    uint8_t *buffer = aligned_alloc(4096, KIB(64));
    uint64_t stored;
    char name[16];
    begin(&f);
    for (unsigned i = 0; i < 2; i++) {
        struct port port;
        snprintf(name, sizeof(name), "twin%u", i);
        twins[i] = make(&f, name, BYTES);
        assert_true(port_open(&f.session, &port, &twins[i], false));
        memset(buffer, 7, KIB(64));
        assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(4), KIB(64), buffer), IO_OK);
        snprintf(name, sizeof(name), "ground%u", i);
        snapshot(&f, &twins[i], name);
        if (i == 1) {
            assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(8), KIB(32), buffer), IO_OK);
            memset(buffer, 0, KIB(64));
            assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(256), KIB(16), buffer), IO_OK);
        }
        memset(buffer, 9, KIB(64));
        assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(12), KIB(8), buffer), IO_OK);
        memset(buffer, 0, KIB(64)); /* the one by what was written, the other by having it cleared */
        assert_int_equal(io_run(&f, &port, i == 0 ? BLOCK_WRITE : BLOCK_WRITE_ZEROES, 0, KIB(48), KIB(8), buffer), IO_OK);
        port_close(&port);
        snprintf(name, sizeof(name), "top%u", i);
        tops[i] = snapshot(&f, &twins[i], name);
    }
    uint64_t first = sum(&f, &tops[0]);
    assert_true(first == sum(&f, &tops[1]));

    /* On another parent it is another one; also that of one upon it. */
    struct uuid above = snapshot(&f, &twins[1], "above");
    sum(&f, &above);
    struct volume_command detach = {.volume = tops[1]};
    assert_true(session_command(&f.session, volume_parent_detach, &detach));
    assert_true(!has_sum(&f, &tops[1], &stored) && !has_sum(&f, &above, &stored));
    assert_true(first != sum(&f, &tops[1]));
    sum(&f, &above);
    free(buffer);
    end(&f);
}

/* What is being merged into it is its own all the time. */
static void a_checksum_and_a_map_hold_during_a_merge(void **state) {
    (void)state;
    struct fixture f;
    struct random random;
    random_init(&random, 4);
    begin(&f);
    struct uuid from = make(&f, "from", BYTES), snaps[3];
    for (unsigned i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "snap%u", i);
        scribble(&f, &random, &from, BYTES);
        snaps[i] = snapshot(&f, &from, name);
    }
    struct volume_command delete = {.volume = snaps[1]};
    static struct volume_map maps[2];
    assert_true(session_command(&f.session, volume_delete, &delete));
    for (unsigned i = 0; i < 2; i++) {
        struct volume_command get = {.volume = snaps[2], .map = &maps[i]};
        assert_true(session_command(&f.session, volume_map_get, &get));
        if (i == 0) {
            uint64_t first = sum(&f, &snaps[2]);
            world_run_for(&f.session.world, 10 * NS_PER_S);
            assert_true(first == sum(&f, &snaps[2]));
        }
    }
    assert_memory_equal(maps[0].held, maps[1].held, sizeof(maps[0].held));
    assert_memory_equal(maps[0].cleared, maps[1].cleared, sizeof(maps[0].cleared));
    end(&f);
}

static void a_checksum_of_what_changes_is_refused(void **state) {
    (void)state;
    struct fixture f;
    struct random random;
    random_init(&random, 9);
    begin(&f);
    struct uuid from = make(&f, "from", BYTES);
    scribble(&f, &random, &from, BYTES);
    struct uuid first = snapshot(&f, &from, "first");
    scribble(&f, &random, &from, BYTES);
    struct uuid second = snapshot(&f, &from, "second");
    struct scanning s = {.scan = {.what = VOLUME_SCAN_SUM, .from = device(&f, &second), .done = scan_done}};
    assert_true(volume_scan_start(&s.scan));
    struct volume_command delete = {.volume = first};
    assert_true(session_command(&f.session, volume_delete, &delete));
    assert_true(world_run_until(&f.session.world, scan_is_done, &s, 1000000));
    uint64_t stored;
    assert_true(!s.scan.ok && s.scan.error.code == ERROR_BUSY);
    assert_false(has_sum(&f, &second, &stored));

    struct scanning writable = {.scan = {.what = VOLUME_SCAN_SUM, .from = device(&f, &from)}};
    assert_false(scan_run(&f, &writable));
    assert_int_equal(writable.scan.error.code, ERROR_PERMISSION);

    s = (struct scanning){.scan = {.what = VOLUME_SCAN_SUM, .from = device(&f, &second), .done = scan_done}};
    assert_true(volume_scan_start(&s.scan));
    volume_scan_cancel(&s.scan);
    assert_true(world_run_until(&f.session.world, scan_is_done, &s, 1000000));
    assert_true(!s.scan.ok && s.scan.error.code == ERROR_CANCELLED);
    end(&f);
}

static void copies_that_cannot_be_say_so(void **state) {
    (void)state;
    struct fixture f;
    struct random random;
    random_init(&random, 3);
    begin(&f);
    struct uuid from = make(&f, "from", BYTES), small = make(&f, "small", UNIT), to = make(&f, "to", BYTES);
    scribble(&f, &random, &from, BYTES);
    struct uuid taken = snapshot(&f, &from, "taken");
    struct scanning s = {.scan = {.what = VOLUME_SCAN_COPY, .from = device(&f, &taken), .to = device(&f, &small)}};
    assert_false(scan_run(&f, &s));
    assert_int_equal(s.scan.error.code, ERROR_INVALID);

    struct port port; /* somebody writes to it */
    assert_true(port_open(&f.session, &port, &to, false));
    s.scan.to = device(&f, &to);
    assert_false(scan_run(&f, &s));
    assert_int_equal(s.scan.error.code, ERROR_PERMISSION);
    port_close(&port);

    struct disk *disk = f.session.disk;
    disk->fail_status = IO_MEDIUM_WRITE;
    disk->fail_at[DISK_FAULT_WRITE] = disk->requests[DISK_FAULT_WRITE] + 3;
    disk->fail_count[DISK_FAULT_WRITE] = 1;
    assert_false(scan_run(&f, &s));
    assert_int_equal(s.scan.error.code, ERROR_IO);
    assert_true(scan_run(&f, &s));
    same(&f, &taken, &to, BYTES, "at the second attempt");
    end(&f);
}

static void a_map_tells_what_is_held(void **state) {
    (void)state;
    struct fixture f;
    uint8_t *buffer = aligned_alloc(4096, KIB(4));
    memset(buffer, 1, KIB(4));
    begin(&f);
    struct uuid from = make(&f, "from", MIB(100));
    struct port port;
    assert_true(port_open(&f.session, &port, &from, false));
    assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(8), KIB(4), buffer), IO_OK);
    assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, MIB(70), KIB(4), buffer), IO_OK);
    port_close(&port);
    snapshot(&f, &from, "one");
    assert_true(port_open(&f.session, &port, &from, false));
    assert_int_equal(io_run(&f, &port, BLOCK_TRIM, 0, KIB(8), KIB(4), NULL), IO_OK);
    assert_int_equal(io_run(&f, &port, BLOCK_WRITE, 0, KIB(16), KIB(4), buffer), IO_OK);
    port_close(&port);
    struct volume_map *map = calloc(1, sizeof(*map));
    struct volume_command get = {.volume = from, .map = map};
    assert_true(session_command(&f.session, volume_map_get, &get));
    assert_int_equal(map->end_block, VOLUME_MAP_BLOCKS);
    assert_true(bitmap_count(map->held, VOLUME_MAP_BLOCKS) == 1 && bitmap_test(map->held, 4));
    assert_true(bitmap_count(map->cleared, VOLUME_MAP_BLOCKS) == 1 && bitmap_test(map->cleared, 2));
    map->deep = true;
    assert_true(session_command(&f.session, volume_map_get, &get));
    assert_true(bitmap_count(map->held, VOLUME_MAP_BLOCKS) == 2 && bitmap_test(map->held, 2));
    map->first_block = MIB(70) / 4096;
    assert_true(session_command(&f.session, volume_map_get, &get));
    assert_true(map->end_block == MIB(100) / 4096 && bitmap_count(map->held, VOLUME_MAP_BLOCKS) == 1 &&
                bitmap_test(map->held, 0));
    free(map);
    free(buffer);
    end(&f);
}

/* ---- parents ---- */

static uint8_t byte_at(struct fixture *f, const struct uuid *uuid, uint64_t offset) {
    uint8_t *buffer = aligned_alloc(4096, KIB(4)), byte;
    struct port port;
    assert_true(port_open(&f->session, &port, uuid, true));
    assert_int_equal(io_run(f, &port, BLOCK_READ, 0, offset, KIB(4), buffer), IO_OK);
    port_close(&port);
    byte = buffer[0];
    free(buffer);
    return byte;
}

static void fill(struct fixture *f, const struct uuid *uuid, uint64_t offset, uint8_t byte) {
    uint8_t *buffer = aligned_alloc(4096, KIB(4));
    struct port port;
    memset(buffer, byte, KIB(4));
    assert_true(port_open(&f->session, &port, uuid, false));
    assert_int_equal(io_run(f, &port, BLOCK_WRITE, 0, offset, KIB(4), buffer), IO_OK);
    port_close(&port);
    free(buffer);
}

static enum error_code parent_set(struct fixture *f, const struct uuid *volume, const struct uuid *parent) {
    struct volume_command command = {.volume = *volume, .snapshot = *parent};
    bool ok = session_command(&f->session, volume_parent_set, &command);
    return ok ? ERROR_NONE : command.error.code;
}
static enum error_code parent_detach(struct fixture *f, const struct uuid *volume) {
    struct volume_command command = {.volume = *volume};
    bool ok = session_command(&f->session, volume_parent_detach, &command);
    return ok ? ERROR_NONE : command.error.code;
}

static void parents_are_changed_without_copying(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct uuid a = make(&f, "a", BYTES), b = make(&f, "b", BYTES), big = make(&f, "big", 2 * BYTES);
    fill(&f, &a, 0, 1);
    fill(&f, &a, KIB(4), 1);
    struct uuid a1 = snapshot(&f, &a, "a1");
    fill(&f, &a, KIB(4), 2);
    struct uuid a2 = snapshot(&f, &a, "a2");
    fill(&f, &a, KIB(8), 3);
    fill(&f, &b, KIB(4), 9);
    struct uuid b1 = snapshot(&f, &b, "b1");
    struct uuid big1 = snapshot(&f, &big, "big1");

    assert_int_equal(parent_set(&f, &a, &a2), ERROR_EXISTS);
    assert_int_equal(parent_set(&f, &a, &b), ERROR_INVALID);    /* can be written */
    assert_int_equal(parent_set(&f, &a1, &a2), ERROR_INVALID);  /* a circle */
    assert_int_equal(parent_set(&f, &a, &big1), ERROR_INVALID); /* larger */
    assert_int_equal(parent_set(&f, &a, &f.volume), ERROR_INVALID);
    assert_int_equal(byte_at(&f, &a, KIB(4)), 2);

    assert_int_equal(parent_detach(&f, &a), ERROR_NONE); /* a2 is left out */
    assert_int_equal(byte_at(&f, &a, 0), 1);
    assert_int_equal(byte_at(&f, &a, KIB(4)), 1);
    assert_int_equal(byte_at(&f, &a, KIB(8)), 3);
    assert_int_equal(parent_set(&f, &a, &b1), ERROR_NONE);
    for (unsigned pass = 0; pass < 2; pass++) {
        assert_int_equal(byte_at(&f, &a, 0), 0);
        assert_int_equal(byte_at(&f, &a, KIB(4)), 9);
        assert_int_equal(byte_at(&f, &a, KIB(8)), 3);
        again(&f, true);
    }
    assert_int_equal(parent_detach(&f, &a), ERROR_NONE);
    assert_int_equal(byte_at(&f, &a, KIB(4)), 0);
    assert_int_equal(parent_detach(&f, &a), ERROR_INVALID);
    assert_int_equal(parent_set(&f, &big, &a2), ERROR_NONE); /* a smaller one: zeros beyond */
    assert_int_equal(byte_at(&f, &big, KIB(4)), 2);
    assert_int_equal(byte_at(&f, &big, BYTES), 0);
    end(&f);
}

static void a_parent_on_its_way_out_is_busy(void **state) {
    (void)state;
    struct fixture f;
    struct random random;
    random_init(&random, 4);
    begin(&f);
    struct uuid a = make(&f, "a", BYTES);
    scribble(&f, &random, &a, BYTES);
    struct uuid a1 = snapshot(&f, &a, "a1");
    scribble(&f, &random, &a, BYTES);
    struct volume_command delete = {.volume = a1};
    assert_true(session_command(&f.session, volume_delete, &delete));
    uint8_t *before = malloc(BYTES), *after = malloc(BYTES);
    load(&f, &a, before, BYTES);
    struct volume_command again_asked = {.volume = a};
    if (!session_command(&f.session, volume_parent_detach, &again_asked)) /* its merge may be over by now */
        assert_true(again_asked.error.code == ERROR_BUSY || again_asked.error.code == ERROR_INVALID);
    world_run_for(&f.session.world, NS_PER_S);
    load(&f, &a, after, BYTES);
    assert_memory_equal(before, after, BYTES);
    free(before);
    free(after);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_tells_what_is_held),
        cmocka_unit_test(a_tree_copied_snapshot_by_snapshot_reads_alike),
        cmocka_unit_test(units_that_differ_are_found_and_made_alike),
        cmocka_unit_test(a_checksum_says_what_and_where),
        cmocka_unit_test(a_checksum_says_nothing_of_who_holds_it),
        cmocka_unit_test(a_checksum_and_a_map_hold_during_a_merge),
        cmocka_unit_test(a_checksum_of_what_changes_is_refused),
        cmocka_unit_test(copies_that_cannot_be_say_so),
        cmocka_unit_test(parents_are_changed_without_copying),
        cmocka_unit_test(a_parent_on_its_way_out_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
