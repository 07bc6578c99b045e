/* The delay and error devices over a memory device, on a stepped host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "block/block.h"
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/memory/memory.h"
#include "support/step_host.h"

#define BLOCK 512u
#define BLOCKS 4096u

struct fixture {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct block_device *memory, *device;
    struct block_handle handle;
    struct block_channel *channel;
    unsigned completions, path_events;
};

struct io {
    struct block_request request;
    struct slice slice;
    struct fixture *fixture;
    bool done;
    uint64_t done_ns;
    unsigned place; /* among all completions */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    f->host = step_host_create(&(struct step_host_options){.seed = 1});
    assert_int_equal(reactor_create(f->host, &(struct reactor_options){.name = "r0", .cpu = -1}, &f->reactor), 0);
    reactor_enter(f->reactor);
    block_graph_init(&f->graph, f->host, 1);
    struct memory_device_options options = {.name = "m0", .block_size = BLOCK, .block_count = BLOCKS};
    assert_true(memory_device_create(&f->graph, &options, &f->memory, NULL));
    *state = f;
    return 0;
}

static void open_device(struct fixture *f, struct block_device *device) {
    f->device = device;
    f->handle = (struct block_handle){.owner = "test"};
    assert_true(block_handle_open(&f->handle, device, BLOCK_MODE_WRITE, NULL));
    f->channel = block_channel_open(&f->handle);
    assert_non_null(f->channel);
    assert_int_equal(reactor_start(f->reactor), 0);
}

static void close_device(struct fixture *f) {
    block_channel_close(f->channel);
    block_handle_close(&f->handle);
    f->channel = NULL;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    reactor_enter(f->reactor);
    if (f->channel != NULL)
        close_device(f);
    while (f->graph.device_count > 0) { /* removing the base takes the filter along */
        struct block_device *first = block_graph_next(&f->graph, NULL);
        (void)block_device_remove(first, NULL, NULL, NULL);
    }
    block_graph_fini(&f->graph);
    reactor_enter(NULL);
    reactor_destroy(f->reactor);
    step_host_destroy(f->host);
    free(f);
    return 0;
}

static void completed(struct block_request *request) {
    struct io *io = container_of(request, struct io, request);
    io->done = true;
    io->done_ns = reactor_now_ns(io->fixture->reactor);
    io->place = io->fixture->completions++;
}

static void start(struct fixture *f, struct io *io, enum block_op op, uint64_t offset, void *bytes, uint64_t length) {
    *io = (struct io){.fixture = f, .slice = {bytes, length}};
    io->request = (struct block_request){.op = (uint8_t)op, .offset = offset, .length = length, .complete = completed};
    if (bytes != NULL) {
        io->request.slices = &io->slice;
        io->request.slice_count = 1;
    }
    reactor_enter(f->reactor);
    block_submit(f->channel, &io->request);
    assert_false(io->done);
    reactor_enter(NULL);
}

static bool is_done(void *arg) { return ((struct io *)arg)->done; }

static enum io_status finish(struct fixture *f, struct io *io) {
    assert_true(step_host_run(f->host, is_done, io, 10 * NS_PER_S));
    return (enum io_status)io->request.status;
}

static enum io_status execute(struct fixture *f, enum block_op op, uint64_t offset, void *bytes, uint64_t length) {
    struct io io;
    start(f, &io, op, offset, bytes, length);
    return finish(f, &io);
}

/* ---- delay ---- */

static void make_delay(struct fixture *f, uint64_t avg_read, uint64_t p99_read, uint64_t avg_write, uint64_t p99_write) {
    struct delay_device_options options = {.name = "d0", .base_name = "m0", .seed = 7};
    options.latency_us[DELAY_AVG_READ] = avg_read;
    options.latency_us[DELAY_P99_READ] = p99_read;
    options.latency_us[DELAY_AVG_WRITE] = avg_write;
    options.latency_us[DELAY_P99_WRITE] = p99_write;
    struct block_device *device;
    assert_true(delay_device_create(&f->graph, &options, &device, NULL));
    open_device(f, device);
}

static uint64_t took_us(struct fixture *f, enum block_op op, void *bytes) {
    uint64_t before = step_host_now_ns(f->host);
    struct io io;
    start(f, &io, op, 0, bytes, bytes != NULL || op == BLOCK_TRIM ? BLOCK : 0);
    assert_int_equal(finish(f, &io), IO_OK);
    return (io.done_ns - before) / NS_PER_US;
}

static void test_delay_times(void **state) {
    struct fixture *f = *state;
    make_delay(f, 1000, 1000, 3000, 3000);
    char bytes[BLOCK] = "data";
    assert_in_range(took_us(f, BLOCK_WRITE, bytes), 3000, 3020);
    memset(bytes, 0, sizeof(bytes));
    assert_in_range(took_us(f, BLOCK_READ, bytes), 1000, 1020);
    assert_string_equal(bytes, "data");
    assert_in_range(took_us(f, BLOCK_TRIM, NULL), 3000, 3020);
    assert_true(delay_device_set_latency(f->device, DELAY_AVG_READ, 0, NULL));
    assert_true(delay_device_set_latency(f->device, DELAY_P99_READ, 0, NULL));
    assert_in_range(took_us(f, BLOCK_READ, bytes), 0, 20);
    assert_int_equal(delay_device_latency_us(f->device, DELAY_AVG_WRITE), 3000);
    struct error error;
    assert_false(delay_device_set_latency(f->device, DELAY_P99_WRITE, DELAY_LATENCY_US_MAX + 1, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_string_equal(error.field, "p99_write_latency");
}

static void test_delay_p99_is_one_in_a_hundred(void **state) {
    struct fixture *f = *state;
    make_delay(f, 10, 5000, 0, 0);
    static char bytes[BLOCK];
    unsigned slow = 0;
    for (unsigned i = 0; i < 2000; i++)
        slow += took_us(f, BLOCK_READ, bytes) >= 5000;
    assert_in_range(slow, 8, 40);
}

static void test_delay_overlaps_requests(void **state) {
    struct fixture *f = *state;
    make_delay(f, 1000, 1000, 0, 0);
    static char bytes[64][BLOCK];
    static struct io ios[64];
    uint64_t before = step_host_now_ns(f->host);
    for (unsigned i = 0; i < 64; i++)
        start(f, &ios[i], BLOCK_READ, i * BLOCK, bytes[i], BLOCK);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(finish(f, &ios[i]), IO_OK);
    assert_in_range((step_host_now_ns(f->host) - before) / NS_PER_US, 1000, 1100);
}

static void test_delay_misuse(void **state) {
    struct fixture *f = *state;
    struct error error;
    struct block_device *device;
    struct delay_device_options options = {.name = "d0", .base_name = "nothing"};
    assert_false(delay_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_NO_DEVICE);
    options.base_name = "m0";
    options.name = "m0";
    assert_false(delay_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    options.name = "d0";
    assert_true(delay_device_create(&f->graph, &options, &device, &error));
    assert_true(delay_device_is(device) && delay_device_base(device) == f->memory);
    options.name = "d1"; /* the base is claimed */
    assert_false(delay_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_PERMISSION);
    assert_int_equal(f->graph.device_count, 2);
}

/* ---- error ---- */

static void make_error(struct fixture *f) {
    struct block_device *device;
    assert_true(error_device_create(&f->graph, "m0", &(struct uuid){{0}}, &device, NULL));
    assert_string_equal(device->name, "EE_m0");
    open_device(f, device);
}

static void inject(struct fixture *f, struct error_device_rule rule) { assert_true(error_device_inject(f->device, &rule, NULL)); }

static void test_error_counts_and_kinds(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK] = {0};
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_READ), .effect = ERROR_DEVICE_FAIL, .count = 2});
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    assert_int_equal(execute(f, BLOCK_READ, 0, bytes, BLOCK), IO_MEDIUM_READ);
    assert_int_equal(execute(f, BLOCK_READ, 0, bytes, BLOCK), IO_MEDIUM_READ);
    assert_int_equal(execute(f, BLOCK_READ, 0, bytes, BLOCK), IO_OK);
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_NO_MEMORY, .skip = 2});
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_NO_MEMORY);
    assert_int_equal(execute(f, BLOCK_WRITE_ZEROES, 0, NULL, BLOCK), IO_NO_MEMORY);
    error_device_clear(f->device);
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    inject(f, (struct error_device_rule){
                  .ops = ERROR_DEVICE_OP(ERROR_DEVICE_TRIM), .effect = ERROR_DEVICE_STATUS, .status = IO_FENCED, .count = 1});
    assert_int_equal(execute(f, BLOCK_TRIM, 0, NULL, BLOCK), IO_FENCED);
    assert_int_equal(execute(f, BLOCK_TRIM, 0, NULL, BLOCK), IO_OK);
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_FLUSH), .effect = ERROR_DEVICE_FAIL, .count = 1});
    assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_MEDIUM_WRITE);
    assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_OK);
    assert_int_equal(error_device_hits(f->device), 6);
}

static void test_error_drop_lies(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK] = "first", back[BLOCK];
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_DROP});
    memcpy(bytes, "second", 7);
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    assert_int_equal(execute(f, BLOCK_READ, 0, back, BLOCK), IO_OK);
    assert_string_equal(back, "first");
}

static void corrupt_and_compare(struct fixture *f, enum error_device_op op, uint64_t at, uint8_t value) {
    static uint8_t bytes[4 * BLOCK], back[4 * BLOCK], kept[4 * BLOCK];
    struct random random;
    random_init(&random, at);
    random_fill(&random, bytes, sizeof(bytes));
    memcpy(kept, bytes, sizeof(bytes));
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(op),
                                         .effect = ERROR_DEVICE_CORRUPT,
                                         .count = 1,
                                         .corrupt_offset = at,
                                         .corrupt_value = value});
    assert_int_equal(execute(f, BLOCK_WRITE, BLOCK, bytes, sizeof(bytes)), IO_OK);
    assert_memory_equal(bytes, kept, sizeof(bytes)); /* what is lent is not changed */
    assert_int_equal(execute(f, BLOCK_READ, BLOCK, back, sizeof(back)), IO_OK);
    for (size_t i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i] ^ kept[i], i == at ? (value == 0 ? 0xff : value) : 0);
}

static void test_error_corrupts_one_byte(void **state) {
    struct fixture *f = *state;
    make_error(f);
    corrupt_and_compare(f, ERROR_DEVICE_WRITE, 0, 1);
    corrupt_and_compare(f, ERROR_DEVICE_WRITE, 3 * BLOCK + 17, 0);
    corrupt_and_compare(f, ERROR_DEVICE_READ, 4 * BLOCK - 1, 0x80);
    corrupt_and_compare(f, ERROR_DEVICE_READ, 4 * BLOCK, 0x80); /* beyond the end: nothing */
    assert_int_equal(f->reactor->buffers.in_use, 0);
}

static void test_error_pending_until_cleared(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK] = "held", back[BLOCK];
    struct io held, other;
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_PENDING, .count = 1});
    start(f, &held, BLOCK_WRITE, 0, bytes, BLOCK);
    assert_false(step_host_run(f->host, is_done, &held, 5 * NS_PER_S));
    assert_int_equal(execute(f, BLOCK_READ, 0, back, BLOCK), IO_OK);
    assert_string_equal(back, "");
    start(f, &other, BLOCK_WRITE, BLOCK, bytes, BLOCK); /* the count is used up */
    assert_int_equal(finish(f, &other), IO_OK);
    error_device_clear(f->device);
    assert_int_equal(finish(f, &held), IO_OK);
    assert_true(held.place > other.place);
    assert_int_equal(execute(f, BLOCK_READ, 0, back, BLOCK), IO_OK);
    assert_string_equal(back, "held");
}

static void gone(struct block_device *device, void *arg) {
    (void)device;
    *(bool *)arg = true;
}
static bool is_true(void *arg) { return *(bool *)arg; }

static void test_error_delete_ends_pending(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK] = {0};
    struct io held;
    bool removed = false;
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_PENDING});
    start(f, &held, BLOCK_WRITE, 0, bytes, BLOCK);
    assert_true(error_device_delete(f->device, gone, &removed, NULL));
    assert_int_equal(finish(f, &held), IO_DEVICE_GONE);
    assert_false(removed);
    reactor_enter(f->reactor);
    close_device(f);
    assert_true(step_host_run(f->host, is_true, &removed, NS_PER_S));
    assert_int_equal(f->graph.device_count, 1);
    assert_false(f->memory->claimed);
}

static void recall(struct fixture *f) {
    reactor_enter(f->reactor);
    block_channel_recall(f->channel);
    reactor_enter(NULL);
}

static void test_error_recall_ends_pending(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK] = "held", back[BLOCK];
    struct io held[2], later;
    assert_true(block_device_is_prompt(f->device));
    recall(f); /* nothing is there to be called back */
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_PENDING, .count = 3});
    start(f, &held[0], BLOCK_WRITE, 0, bytes, BLOCK);
    start(f, &held[1], BLOCK_WRITE, BLOCK, bytes, BLOCK);
    recall(f);
    assert_false(held[0].done || held[1].done); /* not inline */
    start(f, &later, BLOCK_WRITE, 0, bytes, BLOCK);
    assert_int_equal(finish(f, &held[0]), IO_PATH_LOST);
    assert_int_equal(finish(f, &held[1]), IO_PATH_LOST);
    assert_int_equal(execute(f, BLOCK_READ, 0, back, BLOCK), IO_OK);
    assert_string_equal(back, "");
    assert_int_equal(finish(f, &later), IO_PATH_LOST); /* it was there before the recall was carried out */
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_PENDING, .count = 1});
    start(f, &later, BLOCK_WRITE, 0, bytes, BLOCK); /* the recall is over */
    assert_false(step_host_run(f->host, is_done, &later, NS_PER_S));
    error_device_clear(f->device);
    assert_int_equal(finish(f, &later), IO_OK);
}

static void test_delay_recall_ends_the_wait(void **state) {
    struct fixture *f = *state;
    make_delay(f, 5000000, 5000000, 5000000, 5000000);
    char bytes[BLOCK] = "slow", back[BLOCK];
    struct io slow[2];
    start(f, &slow[0], BLOCK_WRITE, 0, bytes, BLOCK);
    start(f, &slow[1], BLOCK_READ, 0, back, BLOCK);
    assert_false(step_host_run(f->host, is_done, &slow[0], NS_PER_S));
    recall(f);
    assert_false(slow[0].done || slow[1].done);
    assert_true(step_host_run(f->host, is_done, &slow[0], NS_PER_MS));
    assert_true(step_host_run(f->host, is_done, &slow[1], NS_PER_MS));
    assert_int_equal(slow[0].request.status, IO_OK);
    assert_string_equal(back, "slow");
}

static void on_path(struct block_handle *handle, enum block_event event) {
    struct fixture *f = container_of(handle, struct fixture, handle);
    f->path_events += event == BLOCK_EVENT_PATH;
}

static void test_filters_follow_the_path_of_their_base(void **state) {
    struct fixture *f = *state;
    block_device_set_path(f->memory, false);
    make_error(f);
    f->handle.event = on_path;
    assert_false(block_device_path_is_up(f->device));
    block_device_set_path(f->memory, true);
    assert_true(block_device_path_is_up(f->device));
    block_device_set_path(f->memory, true); /* nothing new */
    block_device_set_path(f->memory, false);
    assert_false(block_device_path_is_up(f->device));
    assert_int_equal(f->path_events, 2);
    assert_false(block_device_is_replica(f->device));
}

static void test_error_queue_depth(void **state) {
    struct fixture *f = *state;
    make_error(f);
    static char bytes[8][BLOCK];
    struct io ios[8];
    inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_FAIL, .queue_depth = 5});
    for (unsigned i = 0; i < 8; i++)
        start(f, &ios[i], BLOCK_READ, 0, bytes[i], BLOCK);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(finish(f, &ios[i]), i < 4 ? IO_OK : IO_MEDIUM_READ);
}

/* The same seed hits the same requests; about one in ten. */
static void test_error_drawn_by_seed(void **state) {
    struct fixture *f = *state;
    make_error(f);
    char bytes[BLOCK];
    uint64_t pattern[2][8] = {{0}};
    unsigned count = 0;
    for (unsigned run = 0; run < 2; run++) {
        inject(f, (struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_FAIL, .one_in = 10, .seed = 42});
        for (unsigned i = 0; i < 512; i++)
            if (execute(f, BLOCK_READ, 0, bytes, BLOCK) != IO_OK) {
                pattern[run][i / 64] |= UINT64_C(1) << (i % 64);
                count++;
            }
    }
    assert_memory_equal(pattern[0], pattern[1], sizeof(pattern[0]));
    assert_in_range(count / 2, 25, 85);
}

static void test_error_misuse(void **state) {
    struct fixture *f = *state;
    make_error(f);
    struct error error;
    struct error_device_rule rule = {.effect = ERROR_DEVICE_FAIL};
    assert_false(error_device_inject(f->device, &rule, &error));
    assert_string_equal(error.field, "io_type");
    rule = (struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_STATUS};
    assert_false(error_device_inject(f->device, &rule, &error));
    assert_string_equal(error.field, "nvme_sc");
    struct block_device *device;
    assert_false(
        error_device_create(&f->graph, "EE_m0", &(struct uuid){{0}}, &device, &error)); /* open for writing by the test */
    assert_int_equal(error.code, ERROR_PERMISSION);
}

/* ---- both, stacked: size and removal travel upward ---- */

static void test_filters_stack(void **state) {
    struct fixture *f = *state;
    struct block_device *error, *delay;
    assert_true(error_device_create(&f->graph, "m0", &(struct uuid){{0}}, &error, NULL));
    struct delay_device_options options = {.name = "d0", .base_name = "EE_m0", .latency_us = {5, 5, 5, 5}};
    assert_true(delay_device_create(&f->graph, &options, &delay, NULL));
    open_device(f, delay);
    char bytes[BLOCK] = "x";
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_OK);
    assert_true(error_device_inject(
        error, &(struct error_device_rule){.ops = ERROR_DEVICE_OP_ALL, .effect = ERROR_DEVICE_FAIL, .count = 1}, NULL));
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, BLOCK), IO_MEDIUM_WRITE);
    block_device_set_size(f->memory, BLOCKS / 2);
    assert_int_equal(block_device_size(delay), BLOCKS / 2 * BLOCK);
    assert_int_equal(execute(f, BLOCK_WRITE, BLOCKS / 2 * BLOCK, bytes, BLOCK), IO_OUT_OF_RANGE);
    assert_true(block_device_remove(f->memory, NULL, NULL, NULL));
    assert_null(block_graph_find(&f->graph, "d0"));
    assert_null(block_graph_find(&f->graph, "EE_m0"));
    assert_int_equal(f->graph.device_count, 3); /* until our handle goes */
    reactor_enter(f->reactor);
    close_device(f);
    assert_int_equal(f->graph.device_count, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_delay_times),
        TEST(test_delay_p99_is_one_in_a_hundred),
        TEST(test_delay_overlaps_requests),
        TEST(test_delay_misuse),
        TEST(test_error_counts_and_kinds),
        TEST(test_error_drop_lies),
        TEST(test_error_corrupts_one_byte),
        TEST(test_error_pending_until_cleared),
        TEST(test_error_delete_ends_pending),
        TEST(test_error_recall_ends_pending),
        TEST(test_delay_recall_ends_the_wait),
        TEST(test_filters_follow_the_path_of_their_base),
        TEST(test_error_queue_depth),
        TEST(test_error_drawn_by_seed),
        TEST(test_error_misuse),
        TEST(test_filters_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
