/* The tools of the crash tests prove themselves: the disk's rules, the images of cuts, the model's verdicts. A checker that
 * accepts everything would pass every other test here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "disk.h"
#include "model.h"
#include "world.h"

#define SIZE KIB(256)

struct rig {
    struct world world;
    struct block_graph graph;
    struct disk_image empty;
    struct disk *disk;
    struct block_handle handle;
    struct block_channel *channel;
    unsigned running;
    enum io_status status;
};

struct request {
    struct block_request request;
    struct slice slice;
    struct rig *rig;
    uint8_t bytes[8192];
};

static void rig_start(struct rig *rig, bool native_fua) {
    static const struct disk_options options = {
        .power_fail_unit = 512, .block_size = 512, .read_ns = 80000, .write_ns = 90000, .flush_ns = 100000};
    struct disk_options own = options;
    own.native_fua = native_fua;
    *rig = (struct rig){.handle.owner = "test"};
    disk_image_init(&rig->empty, SIZE);
    world_init(&rig->world, 1);
    block_graph_init(&rig->graph, &rig->world.host, 1);
    rig->disk = disk_create(&rig->world, &rig->graph, &own, &rig->empty, 1, true);
    struct error error;
    assert_true(block_handle_open(&rig->handle, &rig->disk->device, BLOCK_MODE_WRITE, &error));
    rig->channel = block_channel_open(&rig->handle);
}

static void rig_end(struct rig *rig) {
    world_crash(&rig->world);
    disk_destroy(rig->disk);
    disk_image_fini(&rig->empty);
}

static void request_done(struct block_request *request) {
    struct rig *rig = container_of(request, struct request, request)->rig;
    rig->status = (enum io_status)request->status;
    rig->running--;
}
static bool rig_idle(void *arg) { return ((struct rig *)arg)->running == 0; }
static void rig_wait(struct rig *rig) { assert_true(world_run_until(&rig->world, rig_idle, rig, 100000)); }

static void begin(struct rig *rig, struct request *request, enum block_op op, uint8_t flags, uint64_t offset, uint64_t length,
                  int byte) {
    *request = (struct request){.rig = rig};
    memset(request->bytes, byte, length);
    request->slice = (struct slice){request->bytes, length};
    request->request = (struct block_request){.op = (uint8_t)op,
                                              .flags = flags,
                                              .slices = &request->slice,
                                              .slice_count = op == BLOCK_READ || op == BLOCK_WRITE ? 1 : 0,
                                              .offset = offset,
                                              .length = length,
                                              .complete = request_done};
    rig->running++;
    block_submit(rig->channel, &request->request);
}
static enum io_status run(struct rig *rig, enum block_op op, uint8_t flags, uint64_t offset, uint64_t length, int byte) {
    static struct request request; /* large */
    begin(rig, &request, op, flags, offset, length, byte);
    rig_wait(rig);
    return rig->status;
}

/* Bytes at `offset` after a cut at the end of the log. */
static int byte_after_cut(struct rig *rig, const struct disk_keep *keep, uint64_t offset) {
    struct disk_cursor cursor;
    struct disk_image image;
    uint8_t byte;
    disk_cursor_init(&cursor, rig->disk);
    while (disk_cursor_next(&cursor)) {
    }
    disk_cursor_image(&cursor, keep, &image);
    disk_image_read(&image, offset, &byte, 1);
    disk_image_fini(&image);
    disk_cursor_fini(&cursor);
    return byte;
}
static uint32_t outstanding(struct rig *rig) {
    struct disk_cursor cursor;
    disk_cursor_init(&cursor, rig->disk);
    while (disk_cursor_next(&cursor)) {
    }
    uint32_t count = cursor.outstanding_count;
    disk_cursor_fini(&cursor);
    return count;
}

static void a_write_is_outstanding_until_a_flush_behind_it(void **state) {
    (void)state;
    struct rig rig;
    static const struct disk_keep kept[2] = {{DISK_KEPT, 0}, {DISK_KEPT, 0}};
    rig_start(&rig, false);
    assert_int_equal(run(&rig, BLOCK_WRITE, 0, 4096, 4096, 1), IO_OK);
    assert_int_equal(outstanding(&rig), 1);
    assert_int_equal(byte_after_cut(&rig, NULL, 4096), 0);
    assert_int_equal(byte_after_cut(&rig, kept, 4096), 1);
    assert_int_equal(run(&rig, BLOCK_FLUSH, 0, 0, 0, 0), IO_OK);
    assert_int_equal(outstanding(&rig), 0);
    assert_int_equal(byte_after_cut(&rig, NULL, 4096), 1);
    /* one that completes after the flush was submitted is not covered */
    static struct request write, flush;
    begin(&rig, &write, BLOCK_WRITE, 0, 8192, 4096, 2);
    begin(&rig, &flush, BLOCK_FLUSH, 0, 0, 0, 0);
    rig_wait(&rig);
    assert_int_equal(outstanding(&rig), 1);
    assert_int_equal(byte_after_cut(&rig, NULL, 8192), 0);
    rig_end(&rig);
}

static void fua_is_durable_and_older_data_cannot_come_back(void **state) {
    (void)state;
    struct rig rig;
    static const struct disk_keep kept[2] = {{DISK_KEPT, 0}, {DISK_KEPT, 0}};
    rig_start(&rig, true);
    assert_int_equal(run(&rig, BLOCK_WRITE, 0, 0, 8192, 1), IO_OK);
    assert_int_equal(run(&rig, BLOCK_WRITE, BLOCK_FUA, 0, 4096, 2), IO_OK);
    assert_int_equal(byte_after_cut(&rig, NULL, 0), 2);
    if (outstanding(&rig) > 0)
        assert_int_equal(byte_after_cut(&rig, kept, 0), 2);
    rig_end(&rig);
}

static void a_torn_write_keeps_whole_units(void **state) {
    (void)state;
    struct rig rig;
    rig_start(&rig, false);
    assert_int_equal(run(&rig, BLOCK_WRITE, 0, 4096, 8192, 7), IO_OK);
    struct disk_keep prefix = {DISK_TORN_PREFIX, 3}, suffix = {DISK_TORN_SUFFIX, 3};
    assert_int_equal(byte_after_cut(&rig, &prefix, 4096 + 3 * 512 - 1), 7);
    assert_int_equal(byte_after_cut(&rig, &prefix, 4096 + 3 * 512), 0);
    assert_int_equal(byte_after_cut(&rig, &suffix, 4096 + 13 * 512 - 1), 0);
    assert_int_equal(byte_after_cut(&rig, &suffix, 4096 + 13 * 512), 7);
    unsigned kept = 0;
    struct disk_keep seeded = {DISK_TORN_SEEDED, 5};
    for (unsigned i = 0; i < 16; i++) {
        int first = byte_after_cut(&rig, &seeded, 4096 + i * 512), last = byte_after_cut(&rig, &seeded, 4096 + i * 512 + 511);
        assert_int_equal(first, last);
        kept += first == 7;
    }
    assert_in_range(kept, 1, 15);
    rig_end(&rig);
}

static void a_failed_flush_drops_what_it_should_have_covered(void **state) {
    (void)state;
    struct rig rig;
    rig_start(&rig, false);
    assert_int_equal(run(&rig, BLOCK_WRITE, 0, 0, 4096, 1), IO_OK);
    rig.disk->fail_at[DISK_FAULT_FLUSH] = 1;
    assert_int_equal(run(&rig, BLOCK_FLUSH, 0, 0, 0, 0), IO_MEDIUM_WRITE);
    assert_int_equal(run(&rig, BLOCK_WRITE, 0, 4096, 4096, 2), IO_OK);
    assert_int_equal(run(&rig, BLOCK_FLUSH, 0, 0, 0, 0), IO_OK);
    assert_int_equal(byte_after_cut(&rig, NULL, 0), 0);
    assert_int_equal(byte_after_cut(&rig, NULL, 4096), 2);
    rig_end(&rig);
}

static void trims_poison_and_faults_strike_their_number(void **state) {
    (void)state;
    struct rig rig;
    rig_start(&rig, false);
    assert_int_equal(run(&rig, BLOCK_TRIM, 0, 0, 8192, 0), IO_OK);
    assert_int_equal(run(&rig, BLOCK_FLUSH, 0, 0, 0, 0), IO_OK);
    assert_int_equal(byte_after_cut(&rig, NULL, 5000), DISK_POISON);
    rig.disk->fail_at[DISK_FAULT_READ] = 2;
    assert_int_equal(run(&rig, BLOCK_READ, 0, 0, 512, 0), IO_OK);
    assert_int_equal(run(&rig, BLOCK_READ, 0, 0, 512, 0), IO_MEDIUM_READ);
    assert_int_equal(run(&rig, BLOCK_READ, 0, 0, 512, 0), IO_OK);
    rig_end(&rig);
}

/* The cursor's images against a plain replay: what reads see is what a cut leaves if everything outstanding is kept. */
static void keeping_everything_is_what_reads_see(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rig rig;
        static struct request requests[8];
        struct random random;
        random_init(&random, seed);
        rig_start(&rig, seed % 2 == 0);
        for (unsigned round = 0; round < 40; round++) {
            for (unsigned i = 0; i < 8; i++) {
                uint64_t what = random_below(&random, 10), offset = random_below(&random, 64) * 512;
                enum block_op op = what < 7 ? BLOCK_WRITE : what < 8 ? BLOCK_TRIM : BLOCK_FLUSH;
                begin(&rig, &requests[i], op, random_chance(&random, 1, 4) && op == BLOCK_WRITE ? BLOCK_FUA : 0,
                      op == BLOCK_FLUSH ? 0 : offset, op == BLOCK_FLUSH ? 0 : (1 + random_below(&random, 16)) * 512,
                      (int)(round * 8 + i) % 251 + 1);
            }
            rig_wait(&rig);
        }
        struct disk_cursor cursor;
        struct disk_image image;
        static struct disk_keep keep[1000];
        for (unsigned i = 0; i < array_count(keep); i++)
            keep[i].kind = DISK_KEPT;
        disk_cursor_init(&cursor, rig.disk);
        while (disk_cursor_next(&cursor)) {
        }
        assert_in_range(cursor.outstanding_count, 0, array_count(keep));
        disk_cursor_image(&cursor, keep, &image);
        assert_int_equal(disk_image_hash(&image), disk_image_hash(&rig.disk->now));
        disk_image_fini(&image);
        disk_cursor_fini(&cursor);
        rig_end(&rig);
    }
}

/* ---- the model ---- */

struct scene {
    struct model model;
    struct uuid uuid;
    uint32_t node, first, second, third;
    struct model_found found;
    uint32_t content[16];
    char text[256];
};

/* Sector 0: three writes at 10–12, 20–22, 30–…; a flush 24–26. Sector 1: the same, without the third; sector 2: a trim 40–42 with
 * FUA over the first write. */
static void scene_init(struct scene *scene) {
    memset(scene, 0, sizeof(*scene));
    struct model *model = &scene->model;
    model_init(model, 77, 1);
    scene->uuid.bytes[0] = 1;
    scene->node = model_create(model, 1, &scene->uuid, false, 16 * MODEL_SECTOR, 5, NULL, 0);
    model_created(model, scene->node, 2, true);
    scene->first = model_write(model, 10, scene->node, MODEL_WRITE, false, 0, 3);
    model_written(model, scene->first, 12, MODEL_OK);
    scene->second = model_write(model, 20, scene->node, MODEL_WRITE, false, 0, 2);
    model_written(model, scene->second, 22, MODEL_OK);
    uint32_t flush = model_flush(model, 24, scene->node);
    model_flushed(model, scene->node, flush, 26, true);
    scene->third = model_write(model, 30, scene->node, MODEL_WRITE, false, 0, 1);
    uint32_t trim = model_write(model, 40, scene->node, MODEL_ZERO, true, 2, 1);
    model_written(model, trim, 42, MODEL_OK);
    scene->found =
        (struct model_found){.uuid = scene->uuid, .bytes = 16 * MODEL_SECTOR, .name = 5, .content = scene->content, .count = 16};
}

static bool verdict(struct scene *scene, uint32_t at, uint32_t count) {
    struct model_view view;
    model_view_init(&view);
    model_view_advance(&scene->model, &view, at);
    bool ok = model_check(&scene->model, &view, &scene->found, count, scene->text, sizeof(scene->text));
    model_view_fini(&view);
    return ok;
}
static bool shows(struct scene *scene, uint32_t at, uint32_t a, uint32_t b, uint32_t c) {
    scene->content[0] = a, scene->content[1] = b, scene->content[2] = c;
    return verdict(scene, at, 1);
}

static void the_model_knows_what_a_cut_may_leave(void **state) {
    (void)state;
    struct scene s;
    scene_init(&s);
    assert_true(shows(&s, 11, 0, 0, 0) && shows(&s, 11, s.first, 0, s.first)); /* in flight */
    assert_false(shows(&s, 10, s.first, 0, 0));                                /* before it was asked for */
    assert_true(shows(&s, 25, 0, s.second, s.first) && shows(&s, 25, s.first, 0, 0));
    assert_true(shows(&s, 27, s.second, s.second, s.first)); /* flushed */
    assert_false(shows(&s, 27, s.first, s.second, s.first));
    assert_false(shows(&s, 27, 0, s.second, s.first));
    assert_false(shows(&s, 27, s.second, s.second, 0));
    assert_true(shows(&s, 31, s.third, s.second, s.first) && shows(&s, 31, s.second, s.second, s.first));
    assert_false(shows(&s, 31, s.second, s.third, s.first)); /* it did not write there */
    assert_true(shows(&s, 41, s.second, s.second, 0) && shows(&s, 41, s.second, s.second, s.first));
    assert_true(shows(&s, 43, s.second, s.second, 0));
    assert_false(shows(&s, 43, s.second, s.second, s.first)); /* the trim was durable */
    assert_false(shows(&s, 43, s.second, MODEL_FOREIGN, 0));
    assert_false(shows(&s, 43, s.second, 999, 0));
    model_fini(&s.model);
}

static void the_model_knows_volumes_come_and_go(void **state) {
    (void)state;
    struct scene s;
    scene_init(&s);
    s.content[0] = s.content[1] = s.second;
    assert_false(verdict(&s, 50, 0)); /* gone */
    assert_true(verdict(&s, 50, 1));
    s.found.name = 6;
    assert_false(verdict(&s, 50, 1));
    model_fact(&s.model, &s.model.nodes[s.node].name, 50, 6);
    assert_true(verdict(&s, 51, 1));
    s.found.name = 5;
    assert_true(verdict(&s, 51, 1)); /* renaming, not answered */
    model_fact_done(&s.model, &s.model.nodes[s.node].name, 55, true);
    assert_false(verdict(&s, 56, 1));
    s.found.name = 6;
    model_delete(&s.model, s.node, 60);
    assert_true(verdict(&s, 61, 1) && verdict(&s, 61, 0));
    model_deleted(&s.model, s.node, 65, true);
    assert_false(verdict(&s, 66, 1));
    assert_true(verdict(&s, 66, 0));
    model_fini(&s.model);
}

static void the_model_holds_a_snapshot_still(void **state) {
    (void)state;
    struct scene s;
    scene_init(&s);
    struct uuid uuid = {{2}};
    uint32_t flush = model_flush(&s.model, 50, s.node);
    uint32_t snapshot = model_create(&s.model, 50, &uuid, true, 16 * MODEL_SECTOR, 9, NULL, 0);
    model_created(&s.model, snapshot, 60, true);
    model_flushed(&s.model, s.node, flush, 60, true);
    uint32_t content[16] = {s.third, s.second, 0}, bad;
    assert_true(model_read_ok(&s.model, s.node, 0, 16, s.model.live.flushes[flush] + 1, 60, content, &bad));
    model_learn(&s.model, snapshot, content, 16);
    struct model_found both[2] = {s.found, s.found};
    uint32_t frozen[16];
    memcpy(frozen, content, sizeof(frozen));
    s.content[0] = s.third, s.content[1] = s.second;
    both[1] = (struct model_found){
        .uuid = uuid, .snapshot = true, .bytes = 16 * MODEL_SECTOR, .name = 9, .content = frozen, .count = 16};
    struct model_view view;
    model_view_init(&view);
    model_view_advance(&s.model, &view, 61);
    assert_true(model_check(&s.model, &view, both, 2, s.text, sizeof(s.text)));
    frozen[0] = s.second;
    assert_false(model_check(&s.model, &view, both, 2, s.text, sizeof(s.text)));
    frozen[0] = s.third;
    assert_false(model_check(&s.model, &view, both, 1, s.text, sizeof(s.text)));
    model_view_fini(&view);
    model_fini(&s.model);
}

static void stamps_are_their_own(void **state) {
    (void)state;
    struct scene s;
    scene_init(&s);
    uint8_t bytes[4 * MODEL_SECTOR] = {0};
    uint32_t content[4];
    model_stamp(&s.model, 0, 2, 8, bytes + MODEL_SECTOR, 2);
    model_unstamp(&s.model, bytes, 7, 4, true, content);
    assert_int_equal(content[0], 0);
    assert_int_equal(content[1], 2);
    assert_int_equal(content[2], 2);
    assert_int_equal(content[3], 0);
    model_unstamp(&s.model, bytes, 6, 4, false, content); /* another place */
    assert_int_equal(content[1], MODEL_FOREIGN);
    bytes[MODEL_SECTOR + 300] ^= 1;
    model_unstamp(&s.model, bytes, 7, 4, true, content);
    assert_int_equal(content[1], MODEL_FOREIGN);
    model_fini(&s.model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_outstanding_until_a_flush_behind_it),
        cmocka_unit_test(fua_is_durable_and_older_data_cannot_come_back),
        cmocka_unit_test(a_torn_write_keeps_whole_units),
        cmocka_unit_test(a_failed_flush_drops_what_it_should_have_covered),
        cmocka_unit_test(trims_poison_and_faults_strike_their_number),
        cmocka_unit_test(keeping_everything_is_what_reads_see),
        cmocka_unit_test(the_model_knows_what_a_cut_may_leave),
        cmocka_unit_test(the_model_knows_volumes_come_and_go),
        cmocka_unit_test(the_model_holds_a_snapshot_still),
        cmocka_unit_test(stamps_are_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
