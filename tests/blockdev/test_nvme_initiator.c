/* The initiator against our target, both on one stepped host or on two simulated machines: requests of every kind, what is lost
 * and what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "load/load.h"
#include "support/nvme_rig.h"

#define BLOCK 512u

static struct rig *rig_new(struct rig_options options) {
    if (options.seed == 0)
        options.seed = 1;
    return rig_create(&options);
}

static void attach_ok(struct rig *rig, struct nvme_initiator_attach *attach) {
    if (!rig_attach(rig, attach))
        fail_msg("attach: %s", attach->error.text);
}

static struct rig *rig_attached(struct rig_options options) {
    struct rig *rig = rig_new(options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach_ok(rig, &attach);
    return rig;
}

static uint8_t *pattern(size_t size, uint64_t seed) {
    uint8_t *bytes = malloc(size);
    struct random random;
    random_init(&random, seed);
    random_fill(&random, bytes, size);
    return bytes;
}

/* ---- requests ---- */

/* Writes and reads back sizes around every limit, then the other operations. */
static void every_operation(struct rig *rig, unsigned reactor) {
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", reactor);
    static const uint32_t sizes[] = {512, 1024, 4096, 4096 + 512, 8192, 65536, 131072, 131072 + 512, 1000448, 3 * 1048576 + 1536};
    for (unsigned i = 0; i < array_count(sizes); i++) {
        uint8_t *data = pattern(sizes[i], i), *back = calloc(1, sizes[i]);
        assert_int_equal(rig_do(&device, BLOCK_WRITE, i % 2 ? BLOCK_FUA : 0, BLOCK * i, data, sizes[i]), IO_OK);
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, BLOCK * i, back, sizes[i]), IO_OK);
        assert_memory_equal(data, back, sizes[i]);
        assert_int_equal(rig_do(&device, BLOCK_COMPARE, 0, BLOCK * i, data, sizes[i]), IO_OK);
        data[sizes[i] - 1] ^= 1;
        assert_int_equal(rig_do(&device, BLOCK_COMPARE, 0, BLOCK * i, data, sizes[i]), IO_COMPARE_FAILED);
        free(data);
        free(back);
    }
    assert_int_equal(rig_do(&device, BLOCK_FLUSH, 0, 0, NULL, 0), IO_OK);
    uint8_t *back = malloc(KIB(64)), *zero = calloc(1, KIB(64));
    assert_int_equal(rig_do(&device, BLOCK_TRIM, 0, 0, NULL, KIB(64)), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, KIB(64)), IO_OK);
    assert_memory_equal(back, zero, KIB(64));
    assert_int_equal(rig_do(&device, BLOCK_WRITE_ZEROES, BLOCK_MAY_TRIM, KIB(64), NULL, MIB(2)), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, KIB(64), back, KIB(64)), IO_OK);
    assert_memory_equal(back, zero, KIB(64));
    assert_int_equal(rig_do(&device, BLOCK_TRIM, BLOCK_FUA, 0, NULL, RIG_DISK_BYTES), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, RIG_DISK_BYTES, back, BLOCK), IO_OUT_OF_RANGE);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, 0), IO_OK);
    free(back);
    free(zero);
    rig_device_close(&device);
}

static void test_operations(void **state) {
    (void)state;
    struct rig *rig = rig_attached((struct rig_options){.step = {0}});
    every_operation(rig, 0);
    every_operation(rig, 1);
    struct nvme_initiator_controller_info info;
    rig_info(rig, &info);
    assert_int_equal(info.state, NVME_INITIATOR_ENABLED);
    assert_int_equal(info.io_queues, 2);
    assert_int_equal(info.devices, 1);
    assert_string_equal(info.model, "SPDK bdev Controller");
    assert_int_equal(info.reconnects, 0);
    rig_destroy(rig);
}

/* The same with digests, tiny reads and writes of the sockets, in-capsule sizes, flow control, 4 KiB blocks. */
static void test_operations_variants(void **state) {
    (void)state;
    for (unsigned variant = 0; variant < 32; variant++) {
        struct rig_options options = {.seed = variant + 1};
        options.step.read_max = variant & 1 ? 30000 : 0;
        options.step.write_max = variant & 2 ? 20000 : 0;
        options.step.random_sizes = true;
        options.transport.in_capsule_given = true;
        options.transport.in_capsule_bytes = variant & 4 ? 0 : variant & 1 ? 8192 : 4096;
        options.transport.max_io_bytes = variant & 8 ? 8192 : variant & 2 ? 1048576 : 0;
        options.transport.no_c2h_success = variant & 16;
        options.transport.queue_depth = variant & 1 ? 4 : 0;
        struct rig *rig = rig_new(options);
        struct nvme_initiator_attach attach;
        rig_attach_options(&attach);
        attach.header_digest = variant & 1;
        attach.data_digest = variant & 2;
        attach.sq_flow_control = variant & 4;
        attach_ok(rig, &attach);
        struct nvme_initiator_controller_info info;
        rig_info(rig, &info);
        assert_int_equal(info.header_digest, (variant & 1) != 0);
        assert_int_equal(info.data_digest, (variant & 2) != 0);
        every_operation(rig, 0);
        rig_destroy(rig);
    }
}

/* A limit that the controller could not tell its hosts is refused. */
static void test_smallest_transfer(void **state) {
    (void)state;
    struct error error;
    struct nvme_transport_options options = {.max_io_bytes = 4096};
    assert_false(nvme_transport_options_complete(&options, &error));
    assert_string_equal(error.field, "max_io_size");
    options.max_io_bytes = 8192;
    assert_true(nvme_transport_options_complete(&options, &error));
}

static void test_4k_blocks(void **state) {
    (void)state;
    struct rig *rig = rig_attached((struct rig_options){.block_size = 4096});
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(block_device_block_size(device.handle.device), 4096);
    uint8_t *data = pattern(MIB(1), 3), *back = malloc(MIB(1));
    assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 4096, data, MIB(1)), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 4096, back, MIB(1)), IO_OK);
    assert_memory_equal(data, back, MIB(1));
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 512, back, 512), IO_INVALID);
    free(data);
    free(back);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* Payloads scattered at will, more requests than commands. */
static void test_many_and_scattered(void **state) {
    (void)state;
    enum { COUNT = 600, PIECES = 40 };
    struct rig *rig = rig_attached((struct rig_options){.transport = {.queue_depth = 16, .max_io_bytes = 8192}});
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    struct rig_io *ios = calloc(COUNT, sizeof(*ios));
    struct slice(*slices)[PIECES] = calloc(COUNT, sizeof(*slices));
    size_t size = 10 * KIB(1);
    uint8_t *data = pattern(COUNT * size, 5), *back = calloc(COUNT, size);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < COUNT; i++) {
            uint8_t *at = (pass == 0 ? data : back) + i * size;
            size_t left = size;
            for (unsigned p = 0; p < PIECES; p++) {
                size_t n = p == PIECES - 1 ? left : min_u64(left, (i * 7 + p * 13) % 500);
                slices[i][p] = (struct slice){at, n};
                at += n;
                left -= n;
            }
            rig_start_slices(&device, &ios[i], pass == 0 ? BLOCK_WRITE : BLOCK_READ, 0, i * size, slices[i], PIECES);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            assert_true(rig_wait(&ios[i], 60 * NS_PER_S));
            assert_int_equal(ios[i].request.status, IO_OK);
        }
    }
    assert_memory_equal(data, back, COUNT * size);
    free(ios);
    free(slices);
    free(data);
    free(back);
    rig_device_close(&device);
    rig_destroy(rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations), cmocka_unit_test(test_operations_variants), cmocka_unit_test(test_smallest_transfer),
        cmocka_unit_test(test_4k_blocks),  cmocka_unit_test(test_many_and_scattered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
