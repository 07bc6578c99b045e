/* The load generator: patterns keep their depth and end, and verification finds what it is there to find. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "block/device.h"
#include "host/sim/sim.h"
#include "load/load.h"
#include "load/pattern.h"

#define DISK_BYTES MIB(4)

/* A disk with a volatile cache that a "crash" can lose, and that can lie. */
struct disk {
    struct block_device device;
    char bytes[DISK_BYTES], flushed[DISK_BYTES];
    unsigned under_way, deepest, flushes;
    uint64_t corrupt_write; /* counts down to the write that is stored wrong; 0 = never */
    uint64_t fail_after;    /* as above for a failure */
    uint64_t slow_after;    /* counts down to the request that takes slow_ns; 0 = never */
    uint64_t slow_ns;
    struct list waiting; /* completes together, a millisecond after the first came */
    struct reactor_timer timer;
};

static struct disk *disk_of(struct block_request *request) {
    return container_of(block_channel_device(request->channel), struct disk, device);
}

static void disk_done(struct reactor_timer *timer) {
    struct disk *disk = container_of(timer, struct disk, timer);
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &disk->waiting);
    for (struct list_node *node; (node = list_pop_front(&batch)) != NULL;) {
        struct block_request *request = list_entry(node, struct block_request, node);
        disk->under_way--;
        block_complete(request, (enum io_status)request->device_private[0]);
    }
}

static void disk_submit(struct block_channel *channel, struct block_request *request) {
    (void)channel;
    struct disk *disk = disk_of(request);
    disk->deepest = max_u32(disk->deepest, ++disk->under_way);
    enum io_status status = IO_OK;
    if (request->op == BLOCK_READ) {
        slice_copy_in(request->slices, request->slice_count, 0, disk->bytes + request->offset, request->length);
    } else if (request->op == BLOCK_FLUSH) {
        memcpy(disk->flushed, disk->bytes, DISK_BYTES);
        disk->flushes++;
    } else if (disk->fail_after > 0 && --disk->fail_after == 0) {
        status = IO_MEDIUM_WRITE;
    } else {
        slice_copy_out(request->slices, request->slice_count, 0, disk->bytes + request->offset, request->length);
        if (disk->corrupt_write > 0 && --disk->corrupt_write == 0)
            disk->bytes[request->offset + 700] ^= 4;
    }
    request->device_private[0] = status;
    uint64_t takes_ns = disk->slow_after > 0 && --disk->slow_after == 0 ? disk->slow_ns : NS_PER_MS;
    if (list_empty(&disk->waiting))
        reactor_timer_start(reactor_current(), &disk->timer, reactor_now_ns(reactor_current()) + takes_ns);
    list_push_back(&disk->waiting, &request->node);
}

static void disk_destroy(struct block_device *device) { free(container_of(device, struct disk, device)); }
static const struct block_device_ops disk_ops = {
    .kind = "disk", .product_name = "disk", .submit = disk_submit, .destroy = disk_destroy};

struct world {
    struct sim *sim;
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct disk *disk;
    struct block_handle handle;
    struct block_channel *channel;
    struct load *load;
    unsigned ended;
};

static void ended(struct load *load, void *arg) {
    (void)load;
    ((struct world *)arg)->ended++;
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof(*world));
    struct sim_options options;
    sim_options_init(&options, 1);
    world->sim = sim_create(&options);
    world->host = sim_process_start(sim_node_create(world->sim, "n", "10.0.0.1"));
    struct reactor_options reactor = {.name = "r", .cpu = -1};
    assert_int_equal(reactor_create(world->host, &reactor, &world->reactor), 0);
    block_graph_init(&world->graph, world->host, 1);
    world->disk = calloc(1, sizeof(*world->disk));
    struct block_device *device = &world->disk->device;
    device->ops = &disk_ops;
    snprintf(device->name, sizeof(device->name), "%s", "disk");
    device->block_size = 512;
    device->block_count = DISK_BYTES / 512;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH);
    device->native_fua = true;
    list_init(&world->disk->waiting);
    world->disk->timer.run = disk_done;
    assert_true(block_device_register(&world->graph, device, NULL));
    world->handle.owner = "load";
    assert_true(block_handle_open(&world->handle, device, BLOCK_MODE_WRITE, NULL));
    reactor_enter(world->reactor);
    world->channel = block_channel_open(&world->handle);
    reactor_enter(NULL);
    assert_int_equal(reactor_start(world->reactor), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    if (world->load != NULL)
        load_destroy(world->load);
    reactor_enter(world->reactor);
    block_channel_close(world->channel);
    reactor_enter(NULL);
    block_handle_close(&world->handle);
    assert_true(block_device_remove(&world->disk->device, NULL, NULL, NULL));
    block_graph_fini(&world->graph);
    reactor_destroy(world->reactor);
    sim_process_exit(world->host);
    sim_destroy(world->sim);
    free(world);
    return 0;
}

static bool has_ended(void *arg) { return ((struct world *)arg)->ended > 0; }

static void wait_end(struct world *world) {
    host_loop_wake(world->reactor->loop);
    assert_int_equal(sim_run_until(world->sim, has_ended, world, 100 * NS_PER_S, 0), SIM_MET);
    world->ended = 0;
}

static const struct load_result *run(struct world *world, const struct load_options *options) {
    struct error error;
    reactor_enter(world->reactor);
    if (world->load == NULL && !load_create(world->channel, options, ended, world, &world->load, &error))
        fail_msg("%s", error.text);
    load_start(world->load, options);
    reactor_enter(NULL);
    wait_end(world);
    return load_result(world->load);
}

static const struct load_result *read_back(struct world *world) {
    reactor_enter(world->reactor);
    load_start_read_back(world->load);
    reactor_enter(NULL);
    wait_end(world);
    return load_result(world->load);
}

static const struct load_options verified = {.random = true,
                                             .read_percent = 30,
                                             .request_bytes = 8192,
                                             .depth = 16,
                                             .request_limit = 3000,
                                             .flush_every = 10,
                                             .verify = true,
                                             .seed = 5};

static void depth_and_limit_are_kept(void **state) {
    struct world *world = *state;
    struct load_options options = {
        .random = true, .read_percent = 50, .request_bytes = 4096, .depth = 7, .request_limit = 1000, .seed = 1};
    const struct load_result *result = run(world, &options);
    assert_int_equal(result->requests, 1000);
    assert_int_equal(result->bytes, 1000 * 4096);
    assert_int_equal(result->latency_ticks.count, 1000);
    assert_int_equal(result->errors, 0);
    assert_int_equal(world->disk->deepest, 7);
    options.request_limit = 0;
    options.duration_ns = 500 * NS_PER_MS;
    result = run(world, &options);
    assert_in_range(result->elapsed_ns, 500 * NS_PER_MS, 510 * NS_PER_MS);
    assert_int_equal(result->interval_count, 5);
    uint64_t sum = 0;
    for (size_t i = 0; i < 5; i++)
        sum += result->intervals[i];
    assert_in_range(sum, result->requests - 7, result->requests);
}

static bool has_requests(void *arg) { return load_result(((struct world *)arg)->load)->requests >= 500; }

static void stalls_are_told_for_each_part(void **state) {
    struct world *world = *state;
    struct load_options options = {.request_bytes = 4096, .depth = 1, .request_limit = 1000, .seed = 1};
    world->disk->slow_after = 100;
    world->disk->slow_ns = 70 * NS_PER_MS;
    reactor_enter(world->reactor);
    assert_true(load_create(world->channel, &options, ended, world, &world->load, NULL));
    load_start(world->load, &options);
    reactor_enter(NULL);
    host_loop_wake(world->reactor->loop);
    assert_int_equal(sim_run_until(world->sim, has_requests, world, 100 * NS_PER_S, 0), SIM_MET);
    reactor_enter(world->reactor);
    load_begin_part(world->load);
    reactor_enter(NULL);
    world->disk->slow_after = 100;
    world->disk->slow_ns = 40 * NS_PER_MS;
    wait_end(world);
    const struct load_result *result = load_result(world->load);
    assert_int_equal(result->part_count, 2);
    assert_in_range(result->part_stall_ns[0], 70 * NS_PER_MS, 75 * NS_PER_MS);
    assert_in_range(result->part_stall_ns[1], 40 * NS_PER_MS, 45 * NS_PER_MS);
    assert_int_equal(result->longest_stall_ns, result->part_stall_ns[0]);
}

static void what_was_written_is_found(void **state) {
    struct world *world = *state;
    const struct load_result *result = run(world, &verified);
    assert_int_equal(result->mismatches + result->errors, 0);
    assert_true(result->flushes > 100);
    result = read_back(world);
    assert_int_equal(result->mismatches + result->errors, 0);
    assert_int_equal(result->requests, 3000); /* the figures are those of the measured run */
}

static void a_flipped_bit_is_found(void **state) {
    struct world *world = *state;
    world->disk->corrupt_write = 2000;
    run(world, &verified);
    assert_true(read_back(world)->mismatches > 0);
    assert_non_null(strstr(load_result(world->load)->first_mismatch, "foreign or torn data"));
}

static void a_lost_write_is_found(void **state) {
    struct world *world = *state;
    struct load_options options = verified;
    options.read_percent = 0;
    run(world, &options);
    /* as if the last writes had never been: the flushed state of a moment ago */
    memcpy(world->disk->bytes, world->disk->flushed, DISK_BYTES);
    options.flush_every = 0;
    options.request_limit = 200;
    run(world, &options);
    memcpy(world->disk->bytes, world->disk->flushed, DISK_BYTES);
    assert_true(read_back(world)->mismatches > 0);
}

static void a_crash_may_lose_only_what_was_not_flushed(void **state) {
    struct world *world = *state;
    run(world, &verified);
    struct load_options options = verified;
    options.flush_every = 0;
    options.read_percent = 0;
    run(world, &options);
    memcpy(world->disk->bytes, world->disk->flushed, DISK_BYTES);
    load_expect_crash(world->load);
    assert_int_equal(read_back(world)->mismatches, 0);
    /* seen once, it never changes back; and older than flushed is wrong */
    static char old[DISK_BYTES];
    memset(old, 0, sizeof(old));
    memcpy(world->disk->bytes, old, DISK_BYTES);
    assert_true(read_back(world)->mismatches > 0);
    load_expect_crash(world->load);
    assert_true(read_back(world)->mismatches > 0);
}

static void a_failed_write_may_be_old_or_new(void **state) {
    struct world *world = *state;
    struct load_options options = verified;
    options.read_percent = 0;
    world->disk->fail_after = 500;
    const struct load_result *result = run(world, &options);
    assert_int_equal(result->errors, 1);
    assert_int_equal(result->first_error, IO_MEDIUM_WRITE);
    assert_int_equal(read_back(world)->mismatches, 0);
}

static void bad_options_are_named(void **state) {
    struct world *world = *state;
    static const struct {
        struct load_options options;
        const char *field;
    } cases[] = {
        {{.request_bytes = 1000, .depth = 1, .request_limit = 1}, "block-size"},
        {{.request_bytes = MIB(2), .depth = 1, .request_limit = 1}, "block-size"},
        {{.request_bytes = 512, .depth = 1, .request_limit = 1, .verify = true}, "block-size"},
        {{.request_bytes = 4096, .depth = 0, .request_limit = 1}, "depth"},
        {{.request_bytes = 4096, .depth = 5000, .request_limit = 1}, "depth"},
        {{.request_bytes = 4096, .depth = 1}, "time"},
        {{.request_bytes = 4096, .depth = 1, .request_limit = 1, .region_bytes = MIB(5)}, "region"},
        {{.request_bytes = 4096, .depth = 100, .request_limit = 1, .region_bytes = KIB(64), .verify = true}, "region"},
        {{.request_bytes = 4096, .depth = 1, .request_limit = 1, .read_percent = 101}, "read-percent"},
        {{.request_bytes = 4096, .depth = 1, .request_limit = 1, .verify = true, .trim = true}, "verify"},
    };
    for (size_t i = 0; i < array_count(cases); i++) {
        struct error error;
        struct load *load;
        assert_false(load_create(world->channel, &cases[i].options, ended, world, &load, &error));
        assert_string_equal(error.field, cases[i].field);
    }
}

static void patterns_tell_versions_and_places_apart(void **state) {
    (void)state;
    static char block[PATTERN_BLOCK];
    assert_int_equal(pattern_version(block, 1, 8192), 0);
    pattern_fill(block, 1, 8192, 3);
    assert_int_equal(pattern_version(block, 1, 8192), 3);
    assert_int_equal(pattern_version(block, 2, 8192), UINT32_MAX);
    assert_int_equal(pattern_version(block, 1, 4096), UINT32_MAX);
    static char newer[PATTERN_BLOCK];
    pattern_fill(newer, 1, 8192, 4);
    memcpy(block + 512, newer + 512, 512);
    assert_int_equal(pattern_version(block, 1, 8192), UINT32_MAX);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(depth_and_limit_are_kept),
        TEST(stalls_are_told_for_each_part),
        TEST(what_was_written_is_found),
        TEST(a_flipped_bit_is_found),
        TEST(a_lost_write_is_found),
        TEST(a_crash_may_lose_only_what_was_not_flushed),
        TEST(a_failed_write_may_be_old_or_new),
        TEST(bad_options_are_named),
        cmocka_unit_test(patterns_tell_versions_and_places_apart),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
