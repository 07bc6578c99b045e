/* What the initiator does when connections, answers and namespaces come and go: on a stepped host, with exact times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/nvme_rig.h"

#define BLOCK 512u
#define MS NS_PER_MS

struct options_call {
    struct rig *rig;
    struct nvme_initiator_options options;
    bool ok;
    struct error error;
};
static void options_set(void *arg) {
    struct options_call *call = arg;
    call->ok = nvme_initiator_set_options(call->rig->initiator, &call->options, &call->error);
}

static struct nvme_initiator_options defaults(void) {
    struct nvme_initiator_options options;
    nvme_initiator_options_default(&options);
    return options;
}

static struct rig *rig_new(struct rig_options options, const struct nvme_initiator_options *initiator) {
    options.seed = 1;
    struct rig *rig = rig_create(&options);
    struct options_call call = {.rig = rig, .options = *initiator};
    rig_call(rig, rig->control, options_set, &call);
    if (!call.ok)
        fail_msg("options: %s", call.error.text);
    return rig;
}

static struct rig *rig_attached(struct rig_options options, const struct nvme_initiator_options *initiator) {
    struct rig *rig = rig_new(options, initiator);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    if (!rig_attach(rig, &attach))
        fail_msg("attach: %s", attach.error.text);
    return rig;
}

static struct nvme_initiator_controller_info info_of(struct rig *rig) {
    struct nvme_initiator_controller_info info;
    rig_info(rig, &info);
    return info;
}

/* ---- attaching ---- */

static void test_attach_refused(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_new((struct rig_options){0}, &options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.address.port = 1;
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_IO);
    assert_non_null(strstr(attach.error.text, "Connection refused"));

    rig_attach_options(&attach);
    attach.subnqn = "nqn.2024-01.io.example:nobody";
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_IO);
    assert_non_null(strstr(attach.error.text, "nqn.2024-01.io.example:nobody"));

    rig_attach_options(&attach);
    attach.subnqn = NVME_DISCOVERY_NQN;
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_UNSUPPORTED);

    step_host_refuse(rig->host, false, true); /* nobody answers */
    uint64_t before = rig_now_ns(rig);
    rig_attach_options(&attach);
    attach.connect_timeout_us = 700000;
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_TIMED_OUT);
    assert_in_range(rig_now_ns(rig) - before, 700 * MS, 720 * MS);
    step_host_refuse(rig->host, false, false);
    assert_int_equal(step_host_open_sockets(rig->host), 1); /* the listener */
    rig_destroy(rig);
}

/* Not there, by a refusal or by silence: the answer is ok, and it is found when it is there. */
static void test_attach_with_patience(void **state) {
    (void)state;
    for (unsigned hang = 0; hang < 2; hang++) {
        struct nvme_initiator_options options = defaults();
        struct rig *rig = rig_new((struct rig_options){0}, &options);
        struct nvme_initiator_attach attach;
        step_host_refuse(rig->host, !hang, hang);
        uint64_t before = rig_now_ns(rig);
        rig_attach_options(&attach);
        attach.connect_timeout_us = 10000000;
        attach.loss_set = true;
        attach.loss = (struct nvme_initiator_loss){-1, 1000, 0};
        attach.patience_ns = 500 * MS;
        assert_true(rig_attach(rig, &attach));
        assert_non_null(attach.controller);
        assert_in_range(rig_now_ns(rig) - before, hang ? 500 * MS : 0, hang ? 520 * MS : 20 * MS);
        assert_int_equal(info_of(rig).devices, 0);
        rig_run(rig, NULL, NULL, 25 * NS_PER_S);
        assert_int_equal(info_of(rig).devices, 0);
        step_host_refuse(rig->host, false, false);
        assert_true(rig_wait_state(rig, NVME_INITIATOR_ENABLED, 12 * NS_PER_S));
        assert_int_equal(info_of(rig).devices, 1);
        rig_destroy(rig);
    }
    /* One that is still looked for can be detached. */
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_new((struct rig_options){0}, &options);
    struct nvme_initiator_attach attach;
    step_host_refuse(rig->host, true, false);
    rig_attach_options(&attach);
    attach.loss_set = true;
    attach.loss = (struct nvme_initiator_loss){-1, 1000, 0};
    attach.patience_ns = 500 * MS;
    assert_true(rig_attach(rig, &attach));
    assert_true(rig_detach(rig, "r"));
    step_host_refuse(rig->host, false, false);
    rig_destroy(rig);
}

static void test_attach_misuse(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_ALREADY);
    assert_string_equal(attach.error.text, "A controller named r already exists with the specified network path");
    rig_attach_options(&attach);
    attach.address.port = 4421;
    assert_false(rig_attach(rig, &attach));
    assert_string_equal(attach.error.text, "A controller named r already exists and multipath is disabled");
    rig_attach_options(&attach);
    attach.subnqn = "nqn.2024-01.io.example:other";
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_INVALID);
    assert_string_equal(attach.error.field, "subnqn");
    rig_attach_options(&attach);
    attach.name = "second";
    assert_false(rig_attach(rig, &attach));
    assert_int_equal(attach.error.code, ERROR_EXISTS);
    static const struct {
        int64_t lost;
        uint32_t delay, fast;
        const char *field;
    } wrong[] = {{-2, 1000, 0, "ctrlr_loss_timeout_sec"},        {0, 1000, 0, "reconnect_delay_sec"},
                 {0, 0, 1000, "fast_io_fail_timeout_sec"},       {-1, 0, 0, "reconnect_delay_sec"},
                 {1000, 2000, 0, "ctrlr_loss_timeout_sec"},      {9000, 2000, 1000, "fast_io_fail_timeout_sec"},
                 {9000, 2000, 10000, "fast_io_fail_timeout_sec"}};
    for (unsigned i = 0; i < array_count(wrong); i++) {
        rig_attach_options(&attach);
        attach.name = "third";
        attach.hostnqn = "nqn.2024-01.io.example:third-host";
        attach.loss_set = true;
        attach.loss = (struct nvme_initiator_loss){wrong[i].lost, wrong[i].delay, wrong[i].fast};
        assert_false(rig_attach(rig, &attach));
        assert_int_equal(attach.error.code, ERROR_INVALID);
        assert_string_equal(attach.error.field, wrong[i].field);
    }
    struct options_call call = {.rig = rig, .options = options};
    rig_call(rig, rig->control, options_set, &call);
    assert_false(call.ok);
    assert_string_equal(call.error.text, "RPC not permitted with nvme controllers already attached");
    assert_false(rig_detach(rig, "nobody"));
    rig_destroy(rig);
}

/* ---- losing connections ---- */

/* Requests under way on both reactors when a connection dies are done on the next association. */
static void test_requests_survive_a_reset(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    for (unsigned victim = 0; victim < 3; victim++) { /* the admin connection, then each I/O queue's */
        struct rig *rig = rig_attached((struct rig_options){0}, &options);
        struct rig_device devices[2];
        struct rig_io ios[2][20];
        static uint8_t data[2][20][4096];
        rig_device_open(rig, &devices[0], "rn1", 0);
        rig_device_open(rig, &devices[1], "rn1", 1);
        rig_disk_delay(rig, 0, 20000, 20000);
        for (unsigned d = 0; d < 2; d++)
            for (unsigned i = 0; i < 20; i++) {
                memset(data[d][i], (int)(d * 20 + i), 4096);
                rig_start(&devices[d], &ios[d][i], BLOCK_WRITE, 0, (d * 20 + i) * 4096, data[d][i], 4096);
            }
        assert_true(rig_wait_state(rig, NVME_INITIATOR_ENABLED, MS));
        step_host_reset(rig->host, victim);
        for (unsigned d = 0; d < 2; d++)
            for (unsigned i = 0; i < 20; i++) {
                assert_true(rig_wait(&ios[d][i], 10 * NS_PER_S));
                assert_int_equal(ios[d][i].request.status, IO_OK);
            }
        assert_int_equal(step_host_connections(rig->host), 6);
        struct nvme_initiator_controller_info info = info_of(rig);
        assert_int_equal(info.reconnects, 1);
        assert_int_equal(info.state, NVME_INITIATOR_ENABLED);
        assert_int_not_equal(strlen(info.last_loss), 0);
        uint8_t back[4096];
        for (unsigned i = 0; i < 40; i++) {
            assert_int_equal(rig_do(&devices[i / 20], BLOCK_READ, 0, i * 4096, back, 4096), IO_OK);
            assert_memory_equal(back, data[i / 20][i % 20], 4096);
        }
        rig_device_close(&devices[0]);
        rig_device_close(&devices[1]);
        rig_destroy(rig);
    }
}

/* Without retries the fate is unknown, and said so. */
static void test_no_retry(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.retry_count = 0;
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    struct rig_io io;
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    rig_disk_delay(rig, 0, 20000, 20000);
    rig_start(&device, &io, BLOCK_WRITE, 0, 0, data, BLOCK);
    rig_run(rig, NULL, NULL, MS);
    step_host_reset(rig->host, 1);
    assert_true(rig_wait(&io, 100 * MS));
    assert_int_equal(io.request.status, IO_PATH_LOST);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    rig_device_close(&device);
    rig_destroy(rig);
}

static bool refused_long(struct rig *rig) { return info_of(rig).state == NVME_INITIATOR_RECONNECT_IS_DELAYED; }

/* First attempt at once, then every reconnect_delay; requests fail after fast_io_fail; the devices go after ctrlr_loss. */
static void test_back_off_fast_fail_loss(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.loss = (struct nvme_initiator_loss){10000, 1000, 3000};
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    struct rig_io waits, later;
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    step_host_refuse(rig->host, true, false);
    uint64_t lost_at = rig_now_ns(rig);
    step_host_reset(rig->host, 0);
    rig_start(&device, &waits, BLOCK_READ, 0, 0, data, BLOCK);
    assert_false(rig_wait(&waits, 2900 * MS));
    assert_true(refused_long(rig));
    assert_in_range(info_of(rig).reconnects, 3, 4); /* at 0, 1, 2 s */
    assert_true(rig_wait(&waits, NS_PER_S));
    assert_in_range(rig_now_ns(rig) - lost_at, 3000 * MS, 3050 * MS);
    assert_int_equal(waits.request.status, IO_PATH_LOST);
    rig_start(&device, &later, BLOCK_READ, 0, 0, data, BLOCK); /* fails at once now */
    assert_true(rig_wait(&later, MS));
    assert_int_equal(later.request.status, IO_PATH_LOST);
    assert_false(device.remove_told);
    rig_run(rig, NULL, NULL, lost_at + 9900 * MS - rig_now_ns(rig));
    assert_false(device.remove_told);
    rig_run(rig, NULL, NULL, 200 * MS);
    assert_true(device.remove_told);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_DEVICE_GONE);
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_DELETING);
    rig_device_close(&device);
    rig_run(rig, NULL, NULL, 100 * MS);
    assert_false(rig_device_known(rig, "rn1"));
    struct nvme_initiator_attach attach; /* the name is free again */
    step_host_refuse(rig->host, false, false);
    rig_attach_options(&attach);
    assert_true(rig_attach(rig, &attach));
    rig_destroy(rig);
}

/* It comes back within the time: what waited is done. */
static void test_back_in_time(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.loss = (struct nvme_initiator_loss){-1, 500, 0};
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    struct rig_io waits;
    rig_device_open(rig, &device, "rn1", 0);
    step_host_refuse(rig->host, true, false);
    step_host_reset(rig->host, 0);
    rig_start(&device, &waits, BLOCK_READ, 0, 0, data, BLOCK);
    assert_false(rig_wait(&waits, 100 * NS_PER_S));
    assert_in_range(info_of(rig).reconnects, 195, 205);
    step_host_refuse(rig->host, false, false);
    assert_true(rig_wait(&waits, 600 * MS));
    assert_int_equal(waits.request.status, IO_OK);
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_ENABLED);
    rig_device_close(&device);
    rig_destroy(rig);
}

struct reset_call {
    struct rig *rig;
    bool began, done, ok;
    struct error error;
};
static void reset_told(bool ok, void *arg) {
    struct reset_call *call = arg;
    call->done = true;
    call->ok = ok;
}
static void reset_begin(void *arg) {
    struct reset_call *call = arg;
    call->began = nvme_initiator_reset(call->rig->initiator, "r", reset_told, call, &call->error);
}
static bool reset_done(void *arg) { return ((struct reset_call *)arg)->done; }

static bool reset(struct rig *rig) {
    struct reset_call call = {.rig = rig};
    rig_call(rig, rig->control, reset_begin, &call);
    assert_true(call.began);
    assert_true(rig_run(rig, reset_done, &call, 60 * NS_PER_S));
    return call.ok;
}

/* All timeouts 0: one attempt, then failed until a reset. */
static void test_failed_until_reset(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    struct rig_io waits;
    rig_device_open(rig, &device, "rn1", 0);
    step_host_refuse(rig->host, true, false);
    step_host_reset(rig->host, 0);
    rig_start(&device, &waits, BLOCK_READ, 0, 0, data, BLOCK);
    assert_true(rig_wait(&waits, 100 * MS));
    assert_int_equal(waits.request.status, IO_PATH_LOST);
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_FAILED);
    assert_int_equal(info_of(rig).reconnects, 1);
    assert_false(reset(rig));
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_FAILED);
    step_host_refuse(rig->host, false, false);
    rig_run(rig, NULL, NULL, 100 * NS_PER_S);
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_FAILED);
    assert_true(reset(rig));
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_ENABLED);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    assert_true(reset(rig)); /* of a healthy one */
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* A silent network: keep-alive finds it, also when nothing is under way. */
static void test_keep_alive(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.keep_alive_timeout_ms = 2000;
    options.loss = (struct nvme_initiator_loss){-1, 1000, 0};
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    rig_device_open(rig, &device, "rn1", 0);
    rig_run(rig, NULL, NULL, 60 * NS_PER_S); /* idle: both sides content */
    assert_int_equal(info_of(rig).reconnects, 0);
    step_host_stall_all(rig->host, true);
    rig_run(rig, NULL, NULL, 900 * MS);
    assert_int_equal(info_of(rig).state, NVME_INITIATOR_ENABLED);
    rig_run(rig, NULL, NULL, 2300 * MS);
    assert_int_not_equal(info_of(rig).state, NVME_INITIATOR_ENABLED);
    step_host_stall_all(rig->host, false);
    assert_true(rig_wait_state(rig, NVME_INITIATOR_ENABLED, 60 * NS_PER_S));
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* ---- commands that take too long ---- */

static void test_timeout_abort_reset(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.timeout_us = 1000000;
    options.loss = (struct nvme_initiator_loss){-1, 1000, 0};
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = "stuck", back[BLOCK];
    struct rig_io stuck;
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
    rig_disk_inject(
        rig, 0,
        &(struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_PENDING, .count = 1});
    rig_start(&device, &stuck, BLOCK_WRITE, 0, 0, data, BLOCK);
    assert_false(rig_wait(&stuck, 1900 * MS)); /* aborted at 1 s, in vain: others go on */
    assert_int_equal(info_of(rig).reconnects, 0);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
    assert_false(rig_wait(&stuck, 200 * MS)); /* given up at 2 s */
    assert_int_equal(info_of(rig).reconnects, 1);
    assert_int_not_equal(info_of(rig).state, NVME_INITIATOR_ENABLED); /* the target waits for the old write */
    rig_run(rig, NULL, NULL, 3 * NS_PER_S);
    assert_false(stuck.done);
    rig_disk_inject(rig, 0, NULL);
    assert_true(rig_wait(&stuck, 60 * NS_PER_S));
    assert_int_equal(stuck.request.status, IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
    assert_memory_equal(back, data, BLOCK);
    rig_device_close(&device);
    rig_destroy(rig);
}

static void test_timeout_reset_and_none(void **state) {
    (void)state;
    for (unsigned action = NVME_INITIATOR_TIMEOUT_NONE; action <= NVME_INITIATOR_TIMEOUT_RESET; action++) {
        struct nvme_initiator_options options = defaults();
        options.timeout_us = 1000000;
        options.timeout_action = (enum nvme_initiator_timeout_action)action;
        struct rig *rig = rig_attached((struct rig_options){0}, &options);
        struct rig_device device;
        uint8_t data[BLOCK] = {0};
        struct rig_io stuck;
        rig_device_open(rig, &device, "rn1", 0);
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
        rig_disk_inject(rig, 0,
                        &(struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_PENDING, .count = 1});
        rig_start(&device, &stuck, BLOCK_READ, 0, 0, data, BLOCK);
        rig_run(rig, NULL, NULL, 1100 * MS);
        assert_int_equal(info_of(rig).reconnects, action == NVME_INITIATOR_TIMEOUT_RESET);
        rig_disk_inject(rig, 0, NULL);
        assert_true(rig_wait(&stuck, 60 * NS_PER_S));
        assert_int_equal(stuck.request.status, IO_OK);
        rig_device_close(&device);
        rig_destroy(rig);
    }
}

/* ---- what passes, and what does not ---- */

static void test_errors(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    rig_device_open(rig, &device, "rn1", 0);
    static const struct {
        enum io_status injected, seen;
        unsigned count;
    } cases[] = {{IO_MEDIUM_READ, IO_MEDIUM_READ, 1},
                 {IO_NO_SPACE, IO_NO_SPACE, 1},
                 {IO_FENCED, IO_FENCED, 1},
                 {IO_READ_ONLY, IO_READ_ONLY, 1},
                 {IO_NOT_READY, IO_OK, 3},
                 {IO_NOT_READY, IO_NOT_READY, 4},
                 {IO_NO_MEMORY, IO_OK, 2},
                 {IO_DEVICE_GONE, IO_DEVICE_GONE, 1},
                 {IO_INTERNAL, IO_INTERNAL, 1}};
    for (unsigned i = 0; i < array_count(cases); i++) {
        uint64_t before = rig_disk_hits(rig, 0);
        rig_disk_inject(
            rig, 0,
            &(struct error_device_rule){
                .ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_STATUS, .status = cases[i].injected, .count = cases[i].count});
        assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, data, BLOCK), cases[i].seen);
        assert_int_equal(rig_disk_hits(rig, 0) - before, cases[i].count);
        rig_disk_inject(rig, 0, NULL);
    }
    assert_int_equal(info_of(rig).reconnects, 0);
    rig_device_close(&device);
    rig_destroy(rig);
}

struct tap {
    bool armed, to_server;
    unsigned connection;
    uint64_t skip, hits; /* flips one bit after so many bytes of that direction */
    uint64_t passed;
};
static void tap_run(void *arg, unsigned connection, bool to_server, uint8_t *bytes, size_t length) {
    struct tap *tap = arg;
    if (!tap->armed || connection != tap->connection || to_server != tap->to_server)
        return;
    if (tap->passed + length > tap->skip && tap->passed <= tap->skip) {
        bytes[tap->skip - tap->passed] ^= 4;
        tap->hits++;
        tap->armed = false;
    }
    tap->passed += length;
}

/* A bit flipped anywhere in an exchange under digests: never wrong data, never a failed request. */
static void test_digests_catch_every_byte(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct tap tap = {0};
    struct rig *rig = rig_new((struct rig_options){.step = {.tap = tap_run, .tap_arg = &tap}}, &options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.header_digest = attach.data_digest = true;
    assert_true(rig_attach(rig, &attach));
    struct rig_device device;
    rig_device_open(rig, &device, "rn1", 0);
    uint8_t data[BLOCK], back[BLOCK];
    unsigned hits = 0;
    for (uint64_t at = 0; at < 640; at += 7) {
        for (unsigned to_server = 0; to_server < 2; to_server++) {
            memset(data, (int)(at + to_server + 1), sizeof(data));
            memset(back, 0, sizeof(back));
            if (!to_server)
                assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, data, BLOCK), IO_OK);
            rig_run(rig, NULL, NULL, 10 * MS); /* quiet: what is tapped is this exchange */
            tap = (struct tap){
                .armed = true, .to_server = to_server, .connection = step_host_connections(rig->host) - 1, .skip = at};
            if (to_server)
                assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, data, BLOCK), IO_OK);
            else
                assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
            tap.armed = false;
            hits += (unsigned)tap.hits;
            assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
            assert_memory_equal(back, data, BLOCK);
        }
    }
    assert_in_range(hits, 150, 200);
    rig_device_close(&device);
    rig_destroy(rig);
}

/* ---- namespaces ---- */

static void settle(struct rig *rig) { rig_run(rig, NULL, NULL, 50 * MS); }

static void test_namespaces_come_and_go(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_attached((struct rig_options){.disks = 2}, &options);
    struct rig_device device;
    uint8_t data[BLOCK] = {0};
    rig_device_open(rig, &device, "rn2", 0);
    assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, data, BLOCK), IO_OK);
    assert_false(rig_device_known(rig, "rn3"));
    rig_disk_add(rig, 2);
    settle(rig);
    assert_true(rig_device_known(rig, "rn3"));
    assert_true(rig_device_known(rig, "11220000-0000-0000-0000-000000000003")); /* its identity is the disk's */
    rig_disk_resize(rig, 1, MIB(4));
    settle(rig);
    assert_true(device.resize_told);
    assert_int_equal(block_device_size(device.handle.device), MIB(4));
    rig_disk_withdraw(rig, 1);
    settle(rig);
    assert_true(device.remove_told);
    assert_false(rig_device_known(rig, "rn2"));
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_DEVICE_GONE);
    rig_disk_offer(rig, 1, NULL); /* again, while the old one is still held open */
    settle(rig);
    assert_true(rig_device_known(rig, "rn2"));
    struct rig_device again;
    rig_device_open(rig, &again, "rn2", 1);
    assert_int_equal(rig_do(&again, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_DEVICE_GONE);
    rig_device_close(&again);
    rig_device_close(&device);
    assert_int_equal(info_of(rig).reconnects, 0);
    assert_int_equal(info_of(rig).devices, 3);
    rig_destroy(rig);
}

/* While the connection was lost the number was given to another disk: nothing that waited may reach it. */
static void test_another_disk_after_reconnect(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.loss = (struct nvme_initiator_loss){-1, 100, 0};
    struct rig *rig = rig_attached((struct rig_options){0}, &options);
    struct rig_device device, other;
    uint8_t data[BLOCK] = "for the old disk", back[BLOCK];
    struct rig_io waits;
    rig_device_open(rig, &device, "rn1", 0);
    step_host_refuse(rig->host, true, false);
    step_host_reset(rig->host, 0);
    settle(rig);
    rig_start(&device, &waits, BLOCK_WRITE, 0, 0, data, BLOCK);
    rig_disk_withdraw(rig, 0);
    rig_disk_offer(rig, 0, &(struct uuid){{0xab, 0xcd}});
    assert_false(waits.done);
    step_host_refuse(rig->host, false, false);
    assert_true(rig_wait(&waits, NS_PER_S));
    assert_int_equal(waits.request.status, IO_DEVICE_GONE);
    assert_true(device.remove_told);
    rig_device_close(&device);
    settle(rig);
    rig_device_open(rig, &other, "rn1", 0);
    assert_int_equal(rig_do(&other, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
    assert_int_equal(back[0], 0);
    assert_true(rig_device_known(rig, "abcd0000-0000-0000-0000-000000000000"));
    rig_device_close(&other);
    rig_destroy(rig);
}

static void test_many_namespaces(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_new((struct rig_options){.disks = 300}, &options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.devices_max = 1024;
    assert_true(rig_attach(rig, &attach));
    assert_int_equal(info_of(rig).devices, 300);
    assert_true(rig_detach(rig, "r"));
    rig_attach_options(&attach);
    attach.devices_max = 7;
    assert_true(rig_attach(rig, &attach));
    assert_int_equal(info_of(rig).devices, 7);
    assert_true(rig_device_known(rig, "rn7"));
    rig_destroy(rig);
}

/* ---- queues ---- */

/* One I/O queue for two reactors: the second hands its requests over, also across a loss. */
static void test_shared_queue(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_new((struct rig_options){0}, &options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.io_queues = 1;
    assert_true(rig_attach(rig, &attach));
    struct rig_device devices[2];
    uint8_t data[4096] = "shared", back[4096];
    struct rig_io ios[16];
    rig_device_open(rig, &devices[0], "rn1", 0);
    rig_device_open(rig, &devices[1], "rn1", 1);
    assert_int_equal(rig_do(&devices[1], BLOCK_WRITE, 0, 0, data, sizeof(data)), IO_OK);
    assert_int_equal(rig_do(&devices[0], BLOCK_READ, 0, 0, back, sizeof(back)), IO_OK);
    assert_memory_equal(data, back, sizeof(data));
    assert_int_equal(info_of(rig).io_queues, 1);
    assert_int_equal(rig_do(&devices[1], BLOCK_READ, 0, 0, back, 0), IO_OK);
    rig_disk_delay(rig, 0, 20000, 20000);
    for (unsigned i = 0; i < array_count(ios); i++)
        rig_start(&devices[i % 2], &ios[i], BLOCK_READ, 0, 0, back, sizeof(back));
    rig_run(rig, NULL, NULL, MS);
    step_host_reset(rig->host, 1);
    for (unsigned i = 0; i < array_count(ios); i++) {
        assert_true(rig_wait(&ios[i], 10 * NS_PER_S));
        assert_int_equal(ios[i].request.status, IO_OK);
    }
    rig_device_close(&devices[0]);
    rig_device_close(&devices[1]);
    rig_destroy(rig);
}

struct abort_call {
    struct rig_io *io;
    bool taken_back;
};
static void abort_try(void *arg) {
    struct abort_call *call = arg;
    call->taken_back = block_abort(call->io->device->channel, &call->io->request);
}

static void test_block_abort(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    struct rig *rig = rig_attached((struct rig_options){.transport = {.queue_depth = 3}}, &options);
    struct rig_device device;
    uint8_t data[BLOCK];
    struct rig_io ios[6];
    rig_device_open(rig, &device, "rn1", 0);
    rig_disk_delay(rig, 0, 1000, 1000);
    for (unsigned i = 0; i < 6; i++)
        rig_start(&device, &ios[i], BLOCK_READ, 0, 0, data, BLOCK);
    struct abort_call under_way = {&ios[0], false}, waiting = {&ios[4], false};
    rig_run(rig, NULL, NULL, 200 * NS_PER_US);
    rig_call(rig, device.reactor, abort_try, &under_way);
    rig_call(rig, device.reactor, abort_try, &waiting);
    assert_false(under_way.taken_back);
    assert_true(waiting.taken_back);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(rig_wait(&ios[i], NS_PER_S));
        assert_int_equal(ios[i].request.status, i == 4 ? IO_ABORTED : IO_OK);
    }
    rig_device_close(&device);
    rig_destroy(rig);
}

/* ---- detaching ---- */

static void set_true(void *arg) { *(bool *)arg = true; }
static bool is_true(void *arg) { return *(bool *)arg; }
struct detach_call {
    struct rig *rig;
    bool began, done;
};
static void detach_begin(void *arg) {
    struct detach_call *call = arg;
    call->began = nvme_initiator_detach(call->rig->initiator, "r", &(struct nvme_initiator_path){.subnqn = RIG_NQN}, set_true,
                                        &call->done, NULL);
}

/* What is under way ends well, what comes after finds the device gone, and the end waits for the users. */
static void test_detach_in_use(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    for (unsigned cut = 0; cut < 2; cut++) { /* and again with the connection lost meanwhile */
        struct rig *rig = rig_attached((struct rig_options){0}, &options);
        struct rig_device device;
        uint8_t data[BLOCK] = {0};
        struct rig_io io;
        rig_device_open(rig, &device, "rn1", 0);
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_OK);
        rig_disk_delay(rig, 0, 100000, 100000);
        rig_start(&device, &io, BLOCK_WRITE, 0, 0, data, BLOCK);
        settle(rig);
        struct detach_call call = {.rig = rig};
        rig_call(rig, rig->control, detach_begin, &call);
        assert_true(call.began && device.remove_told);
        if (cut)
            step_host_reset(rig->host, 1);
        assert_true(rig_wait(&io, NS_PER_S));
        assert_int_equal(io.request.status, cut ? IO_DEVICE_GONE : IO_OK);
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, data, BLOCK), IO_DEVICE_GONE);
        assert_false(call.done);
        rig_device_close(&device);
        assert_true(rig_run(rig, is_true, &call.done, 10 * NS_PER_S));
        assert_false(rig_device_known(rig, "rn1"));
        rig_run(rig, NULL, NULL, 100 * MS);
        assert_int_equal(step_host_open_sockets(rig->host), 1);
        rig_destroy(rig);
    }
}

/* A detach while the first attach is under way, or while it is lost. */
static void test_detach_at_any_time(void **state) {
    (void)state;
    struct nvme_initiator_options options = defaults();
    options.loss = (struct nvme_initiator_loss){-1, 1000, 0};
    for (unsigned us = 0; us < 400; us += 3) {
        struct rig *rig = rig_attached((struct rig_options){0}, &options);
        struct rig_device device;
        uint8_t data[BLOCK] = {0};
        struct rig_io io;
        rig_device_open(rig, &device, "rn1", 0);
        rig_disk_delay(rig, 0, 50, 50);
        rig_start(&device, &io, BLOCK_READ, 0, 0, data, BLOCK);
        step_host_reset(rig->host, 0);
        rig_run(rig, NULL, NULL, us * NS_PER_US);
        struct detach_call call = {.rig = rig};
        rig_call(rig, rig->control, detach_begin, &call);
        assert_true(rig_wait(&io, 10 * NS_PER_S));
        assert_true(io.request.status == IO_OK || io.request.status == IO_DEVICE_GONE);
        rig_device_close(&device);
        assert_true(rig_run(rig, is_true, &call.done, 10 * NS_PER_S));
        rig_destroy(rig);
    }
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attach_refused),
        cmocka_unit_test(test_attach_with_patience),
        cmocka_unit_test(test_attach_misuse),
        cmocka_unit_test(test_requests_survive_a_reset),
        cmocka_unit_test(test_no_retry),
        cmocka_unit_test(test_back_off_fast_fail_loss),
        cmocka_unit_test(test_back_in_time),
        cmocka_unit_test(test_failed_until_reset),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_timeout_abort_reset),
        cmocka_unit_test(test_timeout_reset_and_none),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_digests_catch_every_byte),
        cmocka_unit_test(test_namespaces_come_and_go),
        cmocka_unit_test(test_another_disk_after_reconnect),
        cmocka_unit_test(test_many_namespaces),
        cmocka_unit_test(test_shared_queue),
        cmocka_unit_test(test_block_abort),
        cmocka_unit_test(test_detach_in_use),
        cmocka_unit_test(test_detach_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
