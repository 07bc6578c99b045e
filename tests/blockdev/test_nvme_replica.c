/* The replica interface over NVMe: documents both ways, associations, losses, recalls; on a stepped host and on the simulator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/nvme_rig.h"

#define MS NS_PER_MS
#define REGIONS 256u /* of the disks */
#define DISK_BYTES MIB(REGIONS)

static struct rig *rig_new(struct rig_options options, uint32_t entries) {
    options.seed = 1;
    options.replicas = true;
    options.disk_bytes = DISK_BYTES;
    options.block_size = 4096;
    struct rig *rig = rig_create(&options);
    struct nvme_initiator_options initiator;
    nvme_initiator_options_default(&initiator);
    initiator.io_queue_entries = entries;
    bool ok = nvme_initiator_set_options(rig->initiator, &initiator, NULL); /* nothing runs yet */
    assert_true(ok);
    return rig;
}

static void attach_as(struct rig *rig, const char *name, const char *hostnqn) {
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.name = name;
    attach.hostnqn = hostnqn;
    if (!rig_attach(rig, &attach))
        fail_msg("attach: %s", attach.error.text);
}

static struct rig *rig_attached(struct rig_options options) {
    struct rig *rig = rig_new(options, 128);
    attach_as(rig, "r", RIG_HOSTNQN);
    return rig;
}

static enum io_status ended(struct rig_io *io) {
    assert_true(rig_wait(io, 60 * NS_PER_S));
    return (enum io_status)io->request.status;
}
static enum io_status put(struct rig_device *device, unsigned verb, void *bytes, uint64_t length) {
    struct rig_io io;
    rig_start_replica(device, &io, BLOCK_REPLICA_PUT, replica_argument(verb, 0, 0), 0, bytes, length);
    return ended(&io);
}
static enum io_status get(struct rig_device *device, uint64_t argument, uint64_t offset, void *bytes, uint64_t length) {
    struct rig_io io;
    rig_start_replica(device, &io, BLOCK_REPLICA_GET, argument, offset, bytes, length);
    return ended(&io);
}
static struct uuid id(uint8_t n) { return (struct uuid){{n}}; }
static enum io_status claim(struct rig_device *device, uint64_t term, uint8_t engine, uint64_t attempt) {
    struct replica_claim claim = {.mirror = id(1), .engine = id(engine), .term = term, .attempt = attempt, .leg = id(11)};
    return put(device, REPLICA_CLAIM, &claim, sizeof(claim));
}

/* ---- every operation ---- */

static void every_document_travels(bool simulated) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct replica_device *disk = replica_device_of(rig_disk(rig, 0));
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    assert_true(block_device_is_replica(device.handle.device));
    assert_true(block_device_is_prompt(device.handle.device));
    assert_true(block_device_path_is_up(device.handle.device));
    struct {
        struct replica_status status;
        uint8_t behind[100];
    } view;
    memset(&view, 0xee, sizeof(view));
    assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, &view, sizeof(view)), IO_OK);
    assert_int_equal(view.status.size, DISK_BYTES);
    assert_int_equal(view.status.flags, 0);
    assert_int_equal(view.behind[0] | view.behind[99], 0); /* zeros behind a document, not what was in the buffer */
    assert_int_equal(put(&device, REPLICA_RELEASE, NULL, 0), IO_NOT_READY);
    assert_int_equal(claim(&device, 5, 50, 1), IO_OK);
    assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, &view, sizeof(view)), IO_OK);
    assert_int_equal(view.status.flags, REPLICA_HAS_RECORD | REPLICA_CLAIMED | REPLICA_CLAIM_YOURS);
    assert_int_equal(view.status.record.promised_term, 5);

    struct replica_store *store = calloc(1, REPLICA_DOCUMENT_MAX);
    store->record = view.status.record;
    store->record.epoch = (struct replica_epoch){.depth = 9, .id = id(109)};
    store->marks.count = REPLICA_RANGES_MAX; /* the largest there is */
    for (uint32_t i = 0; i < REPLICA_RANGES_MAX; i++)
        store->marks.ranges[i] = (struct replica_range){.first = i % 100 * 2, .count = 1};
    size_t length = offsetof(struct replica_store, marks) + replica_ranges_bytes(REPLICA_RANGES_MAX);
    assert_int_equal(put(&device, REPLICA_STORE, store, length), IO_OK);
    assert_int_equal(put(&device, REPLICA_STORE, store, length - 8), IO_INVALID);
    store->record.state = 9;
    assert_int_equal(put(&device, REPLICA_STORE, store, length), IO_INVALID);
    assert_int_equal(put(&device, REPLICA_MARK, store, REPLICA_DOCUMENT_MAX), IO_INVALID);
    uint8_t marks[REGIONS / 8];
    assert_int_equal(get(&device, replica_argument(REPLICA_MARKS, 0, 9), 0, marks, sizeof(marks)), IO_OK);
    assert_int_equal(marks[0], 0x55);
    assert_int_equal(marks[25], 0); /* region 200 */
    assert_int_equal(get(&device, replica_argument(REPLICA_MARKS, 0, 10), 0, marks, sizeof(marks)), IO_OK);
    assert_int_equal(marks[0], 0);
    struct replica_ranges all = {.flags = REPLICA_ALL_REGIONS};
    assert_int_equal(put(&device, REPLICA_CLEAR, &all, sizeof(all)), IO_OK);
    assert_int_equal(get(&device, replica_argument(REPLICA_OWNED, 0, 3), 1, marks, 10), IO_OK);
    assert_int_equal(marks[0], 0);
    assert_int_equal(disk->last_argument, replica_argument(REPLICA_OWNED, 0, 3));
    uint8_t tree[500] = "a tree", back[600];
    assert_int_equal(put(&device, REPLICA_TREE, tree, 500), IO_OK);
    assert_int_equal(get(&device, replica_argument(REPLICA_LAYERS, 0, 0), 2, back, sizeof(back)), IO_OK);
    assert_string_equal((char *)back, "tree");
    assert_int_equal(put(&device, 200, tree, 8), IO_UNSUPPORTED);
    assert_int_equal(get(&device, replica_argument(99, 0, 0), 0, back, 8), IO_UNSUPPORTED);
    assert_int_equal(put(&device, REPLICA_RELEASE, NULL, 0), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, tree, 0), IO_OK); /* nothing is nothing */
    static uint8_t block[4096];
    assert_int_equal(rig_do(&device, BLOCK_WRITE, BLOCK_FAIL_FAST, 0, block, 4096), IO_NOT_READY);
    assert_int_equal(claim(&device, 5, 50, 2), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_WRITE, BLOCK_FAIL_FAST, 0, block, 4096), IO_OK);
    assert_int_equal(disk->last_write_flags, 0);
    assert_int_equal(rig_do(&device, BLOCK_WRITE, BLOCK_UNMARKED, 0, block, 4096), IO_OK);
    assert_int_equal(disk->last_write_flags, BLOCK_UNMARKED);
    struct uuid mirror = id(2);
    assert_int_equal(put(&device, REPLICA_FORGET, &mirror, 16), IO_INVALID);
    mirror = id(1);
    assert_int_equal(put(&device, REPLICA_FORGET, &mirror, 16), IO_OK);
    assert_false(disk->has_record);
    free(store);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* Long answers go as several commands; sums count bytes of the layer. */
static void long_answers_are_put_together(bool simulated) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct replica_device *disk = replica_device_of(rig_disk(rig, 0));
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(claim(&device, 5, 50, 1), IO_OK);
    for (uint64_t block = 0; block < DISK_BYTES / 4096; block += 3)
        put_le64(disk->bytes + block * 4096, block * UINT64_C(0x9e3779b97f4a7c15));
    uint64_t first = 7, count = DISK_BYTES / 4096 - first;
    uint64_t *sums = malloc(count * 8);
    assert_int_equal(get(&device, replica_argument(REPLICA_SUMS, 0xabcdef, 4), first * 4096, sums, count * 8), IO_OK);
    assert_true(disk->largest_get < count * 8); /* it was several */
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(sums[i], replica_device_sum(disk, first + i, 0xabcdef));
    free(sums);
    uint8_t *data = malloc(MIB(1));
    assert_int_equal(get(&device, replica_argument(REPLICA_READ, 0, 4), MIB(3), data, MIB(1)), IO_OK);
    assert_memory_equal(data, disk->bytes + MIB(3), MIB(1));
    unsigned gets = disk->gets, puts = disk->puts;
    assert_int_equal(put(&device, REPLICA_TREE, data, MIB(1)), IO_INVALID); /* what cannot be one command is none */
    assert_int_equal(get(&device, replica_argument(REPLICA_READ, 0, 4), UINT64_MAX - 4095, data, 8192), IO_INVALID);
    assert_int_equal(disk->gets + disk->puts, gets + puts);
    free(data);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* ---- associations ---- */

static void a_superseded_engine_hears_it(bool simulated) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct replica_device *disk = replica_device_of(rig_disk(rig, 0));
    attach_as(rig, "s", "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c9");
    struct rig_device a, b;
    rig_device_open(rig, &a, "rn1", 0);
    rig_device_open(rig, &b, "sn1", 1);
    uint8_t data[4096] = "first", back[4096];
    assert_int_equal(claim(&a, 5, 50, 1), IO_OK);
    uint64_t first = disk->last_association;
    assert_int_equal(rig_do(&a, BLOCK_WRITE, BLOCK_FAIL_FAST, 4096, data, 4096), IO_OK);
    assert_int_equal(disk->last_association, first); /* all ways of one controller */
    assert_int_equal(rig_do(&b, BLOCK_WRITE, BLOCK_FAIL_FAST, 4096, data, 4096), IO_NOT_READY);
    assert_int_not_equal(disk->last_association, first);
    assert_int_equal(claim(&b, 5, 51, 1), IO_FENCED); /* the same term */
    assert_int_equal(claim(&b, 6, 51, 1), IO_OK);
    unsigned writes = disk->writes;
    snprintf((char *)data, sizeof(data), "too late");
    assert_int_equal(rig_do(&a, BLOCK_WRITE, 0, 4096, data, 4096), IO_FENCED); /* not retried either */
    assert_int_equal(rig_do(&a, BLOCK_READ, 0, 4096, back, 4096), IO_FENCED);
    assert_int_equal(put(&a, REPLICA_RELEASE, NULL, 0), IO_FENCED);
    assert_int_equal(claim(&a, 5, 50, 2), IO_FENCED);
    assert_int_equal(disk->writes, writes);
    assert_int_equal(rig_do(&b, BLOCK_READ, 0, 4096, back, 4096), IO_OK);
    assert_string_equal((char *)back, "first");
    /* the claim goes with its association: one that was made anew has none */
    struct nvme_initiator_controller_info info;
    rig_recall(&b);
    rig_info(rig, &info);
    for (unsigned i = 0; i < 100 && b.path_told < 2; i++)
        rig_run(rig, NULL, NULL, 100 * MS);
    assert_int_equal(b.path_told, 2);
    assert_int_equal(rig_do(&b, BLOCK_READ, BLOCK_FAIL_FAST, 4096, back, 4096), IO_NOT_READY);
    assert_int_equal(claim(&b, 6, 51, 1), IO_FENCED); /* an old attempt, as one that came late */
    assert_int_equal(claim(&b, 6, 51, 2), IO_OK);
    assert_int_equal(rig_do(&b, BLOCK_READ, BLOCK_FAIL_FAST, 4096, back, 4096), IO_OK);
    rig_device_close(&a);
    rig_device_close(&b);
    rig_destroy(rig);
}

static void statuses_arrive_as_they_were_sent(bool simulated) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    static const enum io_status statuses[] = {IO_FENCED,  IO_NOT_READY,   IO_NO_SPACE,  IO_MEDIUM_READ, IO_MEDIUM_WRITE,
                                              IO_INVALID, IO_UNSUPPORTED, IO_NO_MEMORY, IO_PATH_LOST};
    static uint8_t data[4096];
    for (unsigned i = 0; i < array_count(statuses); i++) {
        uint64_t before = rig_disk_hits(rig, 0);
        rig_disk_inject(rig, 0,
                        &(struct error_device_rule){
                            .ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_STATUS, .status = statuses[i], .count = 5});
        assert_int_equal(put(&device, REPLICA_MARK, data, 8), statuses[i]);
        assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, data, 8), statuses[i]);
        assert_int_equal(rig_do(&device, BLOCK_WRITE, BLOCK_FAIL_FAST, 0, data, 4096), statuses[i]);
        assert_int_equal(rig_do(&device, BLOCK_READ, BLOCK_FAIL_FAST, 0, data, 4096), statuses[i]);
        assert_int_equal(rig_do(&device, BLOCK_FLUSH, BLOCK_FAIL_FAST, 0, NULL, 0), statuses[i]);
        assert_int_equal(rig_disk_hits(rig, 0) - before, 5); /* each once, those that pass too */
    }
    rig_disk_inject(rig, 0, NULL);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* ---- losses and recalls ---- */

static void hold_all(struct rig *rig) {
    rig_disk_inject(rig, 0, &(struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_PENDING});
}

static bool path_is_up(void *arg) { return block_device_path_is_up(((struct rig_device *)arg)->handle.device); }

/* `how` 0: the connection is cut (stepped host), 1: recalled. Each kind of request is at the target and held there. */
static void a_lost_association_ends_what_fails_fast(bool simulated, unsigned how) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct replica_device *disk = replica_device_of(rig_disk(rig, 0));
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    static uint8_t bytes[6][65536];
    struct rig_io fast[5], patient;
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, bytes[0], 4096), IO_OK); /* it is connected */
    hold_all(rig);
    memset(bytes, 0xaa, sizeof(bytes));
    rig_start(&device, &fast[0], BLOCK_WRITE, BLOCK_FAIL_FAST, 65536, bytes[0], 65536);
    rig_start(&device, &fast[1], BLOCK_READ, BLOCK_FAIL_FAST, 0, bytes[1], 65536);
    rig_start(&device, &fast[2], BLOCK_FLUSH, BLOCK_FAIL_FAST, 0, NULL, 0);
    rig_start_replica(&device, &fast[3], BLOCK_REPLICA_PUT, replica_argument(REPLICA_MARK, 0, 0), 0, bytes[3], 64);
    rig_start_replica(&device, &fast[4], BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, bytes[4], 4096);
    rig_start(&device, &patient, BLOCK_WRITE, 0, 8 * 65536, bytes[5], 65536);
    rig_run(rig, NULL, NULL, 20 * MS);
    assert_int_equal(rig_disk_hits(rig, 0), 6);
    if (how == 0)
        step_host_reset(rig->host, 1);
    else
        rig_recall(&device);
    uint64_t before = rig_now_ns(rig);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(ended(&fast[i]), IO_PATH_LOST);
    assert_true(rig_now_ns(rig) - before <= MS);
    memset(bytes[0], 0xee, sizeof(bytes[0])); /* the buffers are ours again */
    memset(bytes[1], 0xee, sizeof(bytes[1]));
    memset(bytes[4], 0xee, sizeof(bytes[4]));
    /* What comes while there is no way fails at once: the held commands keep the next association from becoming ready. */
    struct rig_io late;
    before = rig_now_ns(rig);
    rig_start(&device, &late, BLOCK_READ, BLOCK_FAIL_FAST, 0, bytes[3], 4096);
    assert_int_equal(ended(&late), IO_PATH_LOST);
    assert_true(rig_now_ns(rig) - before <= 2 * MS);
    rig_run(rig, NULL, NULL, 100 * MS);
    assert_false(path_is_up(&device));
    assert_int_equal(device.path_told, 1);
    rig_start_replica(&device, &late, BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, bytes[3], 4096);
    assert_int_equal(ended(&late), IO_PATH_LOST);
    assert_false(patient.done);
    rig_disk_inject(rig, 0, NULL); /* the held ones go on, for nobody */
    assert_int_equal(ended(&patient), IO_OK);
    assert_true(rig_run(rig, path_is_up, &device, NS_PER_S));
    assert_int_equal(device.path_told, 2);
    assert_int_equal(rig_do(&device, BLOCK_READ, BLOCK_FAIL_FAST, 0, bytes[3], 4096), IO_OK);
    /* The read's and the document's buffers were not touched, and the write that landed has none of what we put there since. */
    for (unsigned i = 0; i < sizeof(bytes[1]); i++)
        assert_int_equal(bytes[1][i] & bytes[4][i], 0xee);
    for (unsigned i = 0; i < 65536; i++)
        assert_int_equal(disk->bytes[65536 + i], 0xaa);
    assert_int_equal(disk->puts, 1); /* none was sent twice */
    assert_int_equal(disk->gets, 1);
    rig_device_close(&device);
    rig_destroy(rig);
}
static void a_cut_ends_what_fails_fast(bool simulated) {
    if (!simulated)
        a_lost_association_ends_what_fails_fast(false, 0);
}
static void a_recall_ends_what_fails_fast(bool simulated) { a_lost_association_ends_what_fails_fast(simulated, 1); }

/* A payload that was half on its way when it was recalled. */
struct tap {
    uint64_t bytes, poison;
};
static void tap_run(void *arg, unsigned connection, bool to_server, uint8_t *bytes, size_t length) {
    struct tap *tap = arg;
    (void)connection;
    for (size_t i = 0; to_server && i < length; i++)
        tap->poison += bytes[i] == 0xee;
    tap->bytes += to_server ? length : 0;
}

static void a_recalled_payload_is_never_sent(bool simulated) {
    if (simulated)
        return;
    for (unsigned steps = 1; steps < 40; steps++) {
        struct tap tap = {0};
        struct rig *rig = rig_attached((struct rig_options){
            .step = {.tap = tap_run, .tap_arg = &tap, .write_max = 9000, .random_sizes = true, .window_bytes = 20000}});
        struct rig_device device;
        rig_device_open(rig, &device, "rn1", 0);
        static uint8_t data[MIB(1)], other[65536];
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, 4096), IO_OK);
        memset(data, 0x11, sizeof(data));
        memset(other, 0x22, sizeof(other));
        struct rig_io write, document;
        uint64_t poison = tap.poison, until = tap.bytes + steps * UINT64_C(17011);
        rig_start(&device, &write, BLOCK_WRITE, BLOCK_FAIL_FAST, 0, data, sizeof(data));
        rig_start_replica(&device, &document, BLOCK_REPLICA_PUT, replica_argument(REPLICA_TREE, 0, 0), 0, other, sizeof(other));
        while (tap.bytes < until && !write.done)
            step_host_run(rig->host, NULL, NULL, 1);
        bool was_done = write.done;
        rig_recall(&device);
        assert_int_equal(ended(&write), was_done ? IO_OK : IO_PATH_LOST);
        ended(&document);
        memset(data, 0xee, sizeof(data));
        memset(other, 0xee, sizeof(other));
        assert_true(rig_run(rig, path_is_up, &device, 10 * NS_PER_S));
        rig_run(rig, NULL, NULL, 100 * MS);
        assert_true(tap.poison - poison < 200); /* bytes of headers and random ids, not of 1 MiB */
        rig_device_close(&device);
        rig_destroy(rig);
    }
}

/* A request that comes when its queue is not connected yet, and its controller ready, waits for that and no longer. */
static void the_first_request_waits_for_its_queue(bool simulated) {
    struct rig *rig = rig_attached((struct rig_options){.simulated = simulated});
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 1);
    static uint8_t data[4096];
    assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, data, 4096), IO_OK);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* Without a queue of its own a channel's requests, and its recalls, go by another's. */
static void a_recall_reaches_the_queue_that_stands_in(bool simulated) {
    struct rig *rig = rig_new((struct rig_options){.simulated = simulated}, 128);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.io_queues = 1;
    assert_true(rig_attach(rig, &attach));
    struct rig_device devices[2];
    static uint8_t data[2][4096];
    for (unsigned i = 0; i < 2; i++) {
        rig_device_open(rig, &devices[i], "rn1", i);
        assert_int_equal(rig_do(&devices[i], BLOCK_READ, 0, 0, data[i], 4096), IO_OK);
    }
    hold_all(rig);
    for (unsigned recaller = 0; recaller < 2; recaller++) {
        struct rig_io ios[2];
        uint64_t before = rig_disk_hits(rig, 0);
        for (unsigned i = 0; i < 2; i++)
            rig_start(&devices[i], &ios[i], BLOCK_READ, BLOCK_FAIL_FAST, 0, data[i], 4096);
        rig_run(rig, NULL, NULL, 20 * MS);
        assert_int_equal(rig_disk_hits(rig, 0) - before, 2);
        rig_recall(&devices[recaller]);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(ended(&ios[i]), IO_PATH_LOST);
        rig_disk_inject(rig, 0, NULL);
        rig_run(rig, NULL, NULL, 10 * MS);
        assert_true(rig_run(rig, path_is_up, &devices[0], 10 * NS_PER_S));
        hold_all(rig);
    }
    rig_disk_inject(rig, 0, NULL);
    for (unsigned i = 0; i < 2; i++)
        rig_device_close(&devices[i]);
    rig_destroy(rig);
}

static void a_slot_is_kept_for_documents(bool simulated) {
    struct rig *rig = rig_new((struct rig_options){.simulated = simulated}, 9); /* eight commands */
    attach_as(rig, "r", RIG_HOSTNQN);
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    static uint8_t data[20][4096], document[4096];
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data[0], 4096), IO_OK);
    rig_disk_inject(rig, 0,
                    &(struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_PENDING});
    struct rig_io writes[20];
    for (unsigned i = 0; i < 20; i++)
        rig_start(&device, &writes[i], BLOCK_WRITE, 0, i * UINT64_C(4096), data[i], 4096);
    rig_run(rig, NULL, NULL, 20 * MS);
    assert_int_equal(rig_disk_hits(rig, 0), 7);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, document, 4096), IO_OK);
    assert_int_equal(rig_disk_hits(rig, 0), 7); /* and no write slipped into it */
    rig_disk_inject(rig, 0, NULL);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(ended(&writes[i]), IO_OK);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* A target whose commands are too small for a document has none of it, nor has a disk that is no replica. */
static void what_cannot_be_is_not_announced(bool simulated) {
    for (unsigned small = 0; small < 2; small++) {
        struct rig_options options = {.simulated = simulated, .seed = 1, .replicas = small == 1};
        if (small == 1)
            options.transport.max_io_bytes = 65536;
        struct rig *rig = rig_create(&options);
        attach_as(rig, "r", RIG_HOSTNQN);
        struct rig_device device;
        rig_device_open(rig, &device, "rn1", 0);
        uint8_t bytes[8];
        assert_false(block_device_is_replica(device.handle.device));
        assert_int_equal(get(&device, replica_argument(REPLICA_STATUS, 0, 0), 0, bytes, 8), IO_UNSUPPORTED);
        rig_device_close(&device);
        rig_destroy(rig);
    }
}

#define BOTH(name)                                                                                                               \
    static void name##_stepped(void **state) {                                                                                   \
        (void)state;                                                                                                             \
        name(false);                                                                                                             \
    }                                                                                                                            \
    static void name##_simulated(void **state) {                                                                                 \
        (void)state;                                                                                                             \
        name(true);                                                                                                              \
    }
BOTH(every_document_travels)
BOTH(long_answers_are_put_together)
BOTH(a_superseded_engine_hears_it)
BOTH(statuses_arrive_as_they_were_sent)
BOTH(a_cut_ends_what_fails_fast)
BOTH(a_recall_ends_what_fails_fast)
BOTH(a_recalled_payload_is_never_sent)
BOTH(the_first_request_waits_for_its_queue)
BOTH(a_recall_reaches_the_queue_that_stands_in)
BOTH(a_slot_is_kept_for_documents)
BOTH(what_cannot_be_is_not_announced)

int main(void) {
#define TESTS(name) cmocka_unit_test(name##_stepped), cmocka_unit_test(name##_simulated)
    const struct CMUnitTest tests[] = {
        TESTS(every_document_travels),
        TESTS(long_answers_are_put_together),
        TESTS(a_superseded_engine_hears_it),
        TESTS(statuses_arrive_as_they_were_sent),
        TESTS(a_cut_ends_what_fails_fast),
        TESTS(a_recall_ends_what_fails_fast),
        TESTS(a_recalled_payload_is_never_sent),
        TESTS(the_first_request_waits_for_its_queue),
        TESTS(a_recall_reaches_the_queue_that_stands_in),
        TESTS(a_slot_is_kept_for_documents),
        TESTS(what_cannot_be_is_not_announced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
