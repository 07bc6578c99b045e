/* The block layer on the simulated host: checks, statistics, home reactors, bouncing, emulation, names, claims, removal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "block/device.h"
#include "blockdev/memory/memory.h"
#include "blockdev/null/null.h"
#include "host/sim/sim.h"

#define DISK_BYTES MIB(8)

/* A device of the test's: a RAM disk with a home, and with less than the block layer offers. */
struct plain_disk {
    struct block_device device;
    char bytes[DISK_BYTES];
    unsigned reads, writes, flushes, largest;
    uint64_t association; /* of the last one done */
    uint8_t flags;
    bool destroyed;
    enum io_status fail_with;
};

static void plain_submit(struct block_channel *channel, struct block_request *request) {
    struct plain_disk *disk = container_of(block_channel_device(channel), struct plain_disk, device);
    assert_true(disk->device.home == NULL || disk->device.home == reactor_current());
    assert_true(slice_aligned(request->slices, request->slice_count, disk->device.memory_alignment));
    disk->largest = max_u32(disk->largest, (unsigned)request->length);
    if (disk->fail_with != IO_OK) {
        block_complete_later(request, disk->fail_with);
        return;
    }
    switch (request->op) {
    case BLOCK_READ:
        disk->reads++;
        slice_copy_in(request->slices, request->slice_count, 0, disk->bytes + request->offset, request->length);
        break;
    case BLOCK_WRITE:
        disk->writes++;
        slice_copy_out(request->slices, request->slice_count, 0, disk->bytes + request->offset, request->length);
        break;
    case BLOCK_FLUSH: disk->flushes++; break;
    default: fail();
    }
    assert_int_equal(request->flags & BLOCK_FUA, 0);
    disk->association = block_request_association(request);
    disk->flags = request->flags;
    block_complete_later(request, IO_OK);
}

static void plain_destroy(struct block_device *device) { container_of(device, struct plain_disk, device)->destroyed = true; }

static const struct block_device_ops plain_ops = {
    .kind = "plain", .product_name = "plain", .submit = plain_submit, .destroy = plain_destroy};

struct world {
    struct sim *sim;
    struct host *host;
    struct reactor *io, *control;
    struct block_graph graph;
    struct block_watcher watcher;
    struct plain_disk *disk;
    unsigned registered, unregistered, resized;
};

static void watch(struct block_watcher *watcher, const char *what, const struct block_device *device) {
    struct world *world = container_of(watcher, struct world, watcher);
    (void)device;
    world->registered += strcmp(what, "bdev_register") == 0;
    world->unregistered += strcmp(what, "bdev_unregister") == 0;
    world->resized += strcmp(what, "bdev_resize") == 0;
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof(*world));
    struct sim_options options;
    sim_options_init(&options, 1);
    world->sim = sim_create(&options);
    world->host = sim_process_start(sim_node_create(world->sim, "n", "10.0.0.1"));
    struct reactor_options reactor = {.name = "io", .cpu = -1};
    assert_int_equal(reactor_create(world->host, &reactor, &world->io), 0);
    reactor.name = "control";
    reactor.index = 1;
    assert_int_equal(reactor_create(world->host, &reactor, &world->control), 0);
    block_graph_init(&world->graph, world->host, 2);
    world->watcher.told = watch;
    block_graph_watch(&world->graph, &world->watcher);
    world->disk = calloc(1, sizeof(*world->disk));
    struct block_device *device = &world->disk->device;
    device->ops = &plain_ops;
    snprintf(device->name, sizeof(device->name), "%s", "disk");
    snprintf(device->aliases[0], sizeof(device->aliases[0]), "%s", "store/disk");
    device->block_size = 512;
    device->block_count = DISK_BYTES / 512;
    device->memory_alignment = 512;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH);
    device->volatile_cache = true;
    device->home = world->io;
    assert_true(block_device_register(&world->graph, device, NULL));
    assert_int_equal(reactor_start(world->io), 0);
    assert_int_equal(reactor_start(world->control), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    if (!world->disk->destroyed)
        assert_true(block_device_remove(&world->disk->device, NULL, NULL, NULL));
    assert_true(world->disk->destroyed);
    block_graph_fini(&world->graph);
    reactor_destroy(world->io);
    reactor_destroy(world->control);
    sim_process_exit(world->host);
    sim_destroy(world->sim);
    free(world->disk);
    free(world);
    return 0;
}

/* Runs one request to its end on a reactor. */
struct waited {
    struct block_request request;
    struct slice slices[4];
    struct reactor *reactor;
    bool done;
};
static void waited_done(struct block_request *request) {
    struct waited *waited = container_of(request, struct waited, request);
    assert_ptr_equal(reactor_current(), waited->reactor);
    assert_false(waited->done);
    waited->done = true;
}
static bool is_done(void *arg) { return ((struct waited *)arg)->done; }

static enum io_status run(struct world *world, struct reactor *reactor, struct block_channel *channel, struct waited *waited) {
    waited->request.complete = waited_done;
    waited->reactor = reactor;
    waited->done = false;
    reactor_enter(reactor);
    block_submit(channel, &waited->request);
    assert_false(waited->done); /* never inline */
    reactor_enter(NULL);
    host_loop_wake(reactor->loop);
    assert_int_equal(sim_run_until(world->sim, is_done, waited, 10 * NS_PER_S, 0), SIM_MET);
    return (enum io_status)waited->request.status;
}

static enum io_status transfer(struct world *world, struct reactor *reactor, struct block_channel *channel, enum block_op op,
                               uint8_t flags, void *bytes, uint64_t offset, uint64_t length) {
    struct waited waited = {.request = {.op = (uint8_t)op, .flags = flags, .offset = offset, .length = length}};
    waited.slices[0] = (struct slice){bytes, length};
    waited.request.slices = waited.slices;
    waited.request.slice_count = bytes != NULL ? 1 : 0;
    return run(world, reactor, channel, &waited);
}

struct opened {
    struct block_handle handle;
    struct block_channel *channel;
    struct reactor *reactor;
};
static void open_on(struct opened *opened, struct block_device *device, enum block_mode mode, struct reactor *reactor) {
    *opened = (struct opened){.handle.owner = "the test", .reactor = reactor};
    assert_true(block_handle_open(&opened->handle, device, mode, NULL));
    reactor_enter(reactor);
    opened->channel = block_channel_open(&opened->handle);
    reactor_enter(NULL);
    assert_non_null(opened->channel);
}
static void close_it(struct opened *opened) {
    reactor_enter(opened->reactor);
    block_channel_close(opened->channel);
    reactor_enter(NULL);
    block_handle_close(&opened->handle);
}

static void bad_requests_fail_with_a_reason(void **state) {
    struct world *world = *state;
    struct opened o, reader;
    open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, world->io);
    open_on(&reader, &world->disk->device, BLOCK_MODE_READ, world->io);
    static char buffer[4096] __attribute__((aligned(4096)));
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_READ, 0, buffer, 1, 512), IO_INVALID);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_READ, 0, buffer, 0, 511), IO_INVALID);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_READ, 0, buffer, DISK_BYTES, 512), IO_OUT_OF_RANGE);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_READ, 0, buffer, UINT64_MAX - 511, 512), IO_OUT_OF_RANGE);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_TRIM, 0, NULL, 0, 512), IO_UNSUPPORTED);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_OP_COUNT, 0, NULL, 0, 512), IO_UNSUPPORTED);
    assert_int_equal(transfer(world, world->io, reader.channel, BLOCK_WRITE, 0, buffer, 0, 512), IO_READ_ONLY);
    atomic_store(&world->disk->device.read_only, true);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE, 0, buffer, 0, 512), IO_READ_ONLY);
    assert_int_equal(world->disk->reads + world->disk->writes, 0);
    struct block_stats_sum sum;
    block_stats_sum(&world->disk->device, &sum);
    assert_int_equal(sum.errors[IO_READ_ONLY], 2);
    assert_int_equal(sum.errors[IO_OUT_OF_RANGE], 2);
    assert_int_equal(sum.ops[BLOCK_STATS_READ].ticks_min, 0);
    close_it(&o);
    close_it(&reader);
}

static void requests_from_elsewhere_go_home_and_back(void **state) {
    struct world *world = *state;
    struct opened o;
    open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, world->control);
    static char out[4096] __attribute__((aligned(4096))), in[4096] __attribute__((aligned(4096)));
    memset(out, 7, sizeof(out));
    assert_int_equal(transfer(world, world->control, o.channel, BLOCK_WRITE, 0, out, 8192, 4096), IO_OK);
    assert_int_equal(transfer(world, world->control, o.channel, BLOCK_READ, 0, in, 8192, 4096), IO_OK);
    assert_memory_equal(in, out, sizeof(in));
    struct block_stats_sum sum;
    assert_true(block_stats_of_reactor(&world->disk->device, 1, &sum));
    assert_int_equal(sum.forwarded, 2);
    assert_int_equal(sum.ops[BLOCK_STATS_WRITE].bytes, 4096);
    assert_false(block_stats_of_reactor(&world->disk->device, 2, &sum));
    close_it(&o);
}

/* Misaligned and scattered payloads of any size, against a model; from both reactors. */
static void misaligned_payloads_are_bounced(void **state) {
    struct world *world = *state;
    struct random random;
    random_init(&random, 3);
    static char model[DISK_BYTES], payload[MIB(4)], back[MIB(4)];
    for (int round = 0; round < 60; round++) {
        struct opened o;
        open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, round % 2 ? world->io : world->control);
        uint64_t blocks = 1 + random_below(&random, round % 10 == 0 ? 6000 : 40),
                 offset = random_below(&random, DISK_BYTES / 512 - blocks) * 512;
        size_t skew = random_below(&random, 64), length = blocks * 512;
        random_fill(&random, payload, length);
        struct waited waited = {.request = {.op = BLOCK_WRITE, .offset = offset, .length = length}};
        size_t cut = random_below(&random, length);
        memcpy(back + skew, payload, cut);
        memcpy(back + skew + cut + 3, payload + cut, length - cut);
        waited.slices[0] = (struct slice){back + skew, cut};
        waited.slices[1] = (struct slice){NULL, 0};
        waited.slices[2] = (struct slice){back + skew + cut + 3, length - cut};
        waited.request.slices = waited.slices;
        waited.request.slice_count = 3;
        assert_int_equal(run(world, o.reactor, o.channel, &waited), IO_OK);
        memcpy(model + offset, payload, length);
        assert_memory_equal(world->disk->bytes, model, DISK_BYTES);
        assert_int_equal(transfer(world, o.reactor, o.channel, BLOCK_COMPARE, 0, payload + 0, offset, length), IO_OK);
        payload[random_below(&random, length)] ^= 1;
        assert_int_equal(transfer(world, o.reactor, o.channel, BLOCK_COMPARE, 0, payload, offset, length), IO_COMPARE_FAILED);
        assert_int_equal(transfer(world, o.reactor, o.channel, BLOCK_READ, 0, back + skew, offset, length), IO_OK);
        assert_memory_equal(back + skew, model + offset, length);
        close_it(&o);
    }
    assert_true(world->disk->largest <= BUFFER_SIZE_MAX);
    assert_int_equal(world->io->buffers.in_use + world->control->buffers.in_use, 0);
}

static void what_a_device_lacks_is_emulated(void **state) {
    struct world *world = *state;
    struct opened o;
    open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, world->io);
    static char ones[4096] __attribute__((aligned(4096)));
    memset(world->disk->bytes, 1, DISK_BYTES);
    memset(ones, 1, sizeof(ones));
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE_ZEROES, 0, NULL, 4096, MIB(3)), IO_OK);
    for (uint64_t i = 0; i < DISK_BYTES; i++)
        if (world->disk->bytes[i] != !(i >= 4096 && i < 4096 + MIB(3)))
            fail_msg("byte %llu is wrong", (unsigned long long)i);
    assert_int_equal(world->disk->flushes, 0);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE, BLOCK_FUA, ones, 4096, 4096), IO_OK);
    assert_int_equal(world->disk->flushes, 1); /* behind the write */
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE_ZEROES, BLOCK_FUA, NULL, 4096, MIB(3)), IO_OK);
    assert_int_equal(world->disk->flushes, 2);
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_FLUSH, 0, NULL, 0, 0), IO_OK);
    assert_int_equal(world->disk->flushes, 3);
    world->disk->fail_with = IO_MEDIUM_READ;
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_COMPARE, 0, ones, 0, 4096), IO_MEDIUM_READ);
    world->disk->fail_with = IO_NO_SPACE;
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE, BLOCK_FUA, ones, 0, 4096), IO_NO_SPACE);
    assert_int_equal(world->disk->flushes, 3);
    close_it(&o);
}

/* More bounced requests than there are stages, and fewer buffers than requests: all end, in bounded memory. */
static void a_flood_of_bounced_requests_ends(void **state) {
    struct world *world = *state;
    enum { COUNT = 300 };
    static struct waited waited[COUNT];
    static char bytes[COUNT][4096 + 8];
    struct opened o;
    open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, world->io);
    world->io->buffers.limit = KIB(256);
    reactor_enter(world->io);
    for (int i = 0; i < COUNT; i++) {
        memset(bytes[i], i, sizeof(bytes[i]));
        waited[i] =
            (struct waited){.request = {.op = BLOCK_WRITE, .offset = (uint64_t)i * 4096, .length = 4096, .complete = waited_done},
                            .reactor = world->io};
        waited[i].slices[0] = (struct slice){bytes[i] + 1, 4096};
        waited[i].request.slices = waited[i].slices;
        waited[i].request.slice_count = 1;
        block_submit(o.channel, &waited[i].request);
    }
    assert_int_equal(block_channel_outstanding(o.channel), COUNT);
    reactor_enter(NULL);
    host_loop_wake(world->io->loop);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(sim_run_until(world->sim, is_done, &waited[i], 10 * NS_PER_S, 0), SIM_MET);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal((unsigned char)world->disk->bytes[i * 4096 + 4095], (unsigned char)i);
    assert_int_equal(block_channel_outstanding(o.channel), 0);
    assert_int_equal(world->io->buffers.in_use, 0);
    close_it(&o);
}

static void devices_are_found_by_every_name(void **state) {
    struct world *world = *state;
    struct block_device *disk = &world->disk->device, *other;
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&disk->uuid, uuid);
    for (char *p = uuid; *p != '\0'; p++)
        *p = (char)(*p >= 'a' && *p <= 'f' ? *p - 32 : *p);
    assert_ptr_equal(block_graph_find(&world->graph, "disk"), disk);
    assert_ptr_equal(block_graph_find(&world->graph, "store/disk"), disk);
    assert_ptr_equal(block_graph_find(&world->graph, uuid), disk);
    assert_null(block_graph_find(&world->graph, "Disk"));

    struct error error;
    struct null_device_options options = {.name = "store/disk", .block_size = 4096, .block_count = 10};
    assert_false(null_device_create(&world->graph, &options, &other, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    options.name = "n";
    options.block_size = 1000;
    assert_false(null_device_create(&world->graph, &options, &other, &error));
    assert_string_equal(error.text, "block_size is 1000: expected a power of two from 512 to 65536");
    options.block_size = 4096;
    assert_true(null_device_create(&world->graph, &options, &other, &error));
    assert_false(block_device_rename(other, -1, "disk", &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    assert_true(block_device_rename(other, -1, "m", &error));
    assert_null(block_graph_find(&world->graph, "n"));
    assert_true(block_device_rename(other, 1, "an alias", &error));
    assert_ptr_equal(block_graph_find(&world->graph, "an alias"), other);
    assert_true(block_device_rename(other, 1, "", &error));
    assert_null(block_graph_find(&world->graph, "an alias"));
    assert_ptr_equal(block_graph_next(&world->graph, disk), other);
    assert_null(block_graph_next(&world->graph, other));
    assert_true(block_device_remove(other, NULL, NULL, &error));
    assert_null(block_graph_find(&world->graph, "m"));
    assert_int_equal(world->registered, 2);
    assert_int_equal(world->unregistered, 1);
}

static void a_request_keeps_its_association_through_every_stage(void **state) {
    struct world *world = *state;
    struct opened o, other;
    open_on(&o, &world->disk->device, BLOCK_MODE_WRITE, world->io);
    open_on(&other, &world->disk->device, BLOCK_MODE_WRITE, world->control); /* from afar */
    assert_int_not_equal(o.handle.association, 0);
    assert_int_not_equal(o.handle.association, other.handle.association);
    static char buffer[8192] __attribute__((aligned(4096)));
    static const struct {
        enum block_op op;
        uint8_t flags;
        unsigned misaligned;
    } ways[] = {{BLOCK_WRITE, 0, 0}, {BLOCK_WRITE, 0, 1},   {BLOCK_WRITE, BLOCK_FUA, 0}, {BLOCK_WRITE_ZEROES, 0, 0},
                {BLOCK_READ, 0, 1},  {BLOCK_COMPARE, 0, 0}, {BLOCK_FLUSH, 0, 0}};
    for (unsigned i = 0; i < array_count(ways); i++) {
        for (uint64_t said = 0; said < 1000; said += 777) { /* 0: the handle's own */
            struct waited waited = {.request = {.op = (uint8_t)ways[i].op,
                                                .flags = ways[i].flags | BLOCK_FAIL_FAST,
                                                .length = ways[i].op == BLOCK_FLUSH ? 0 : 4096,
                                                .association = said}};
            waited.slices[0] = (struct slice){buffer + ways[i].misaligned, 4096};
            waited.request.slices = waited.slices;
            waited.request.slice_count = ways[i].op == BLOCK_FLUSH || ways[i].op == BLOCK_WRITE_ZEROES ? 0 : 1;
            struct opened *by = i % 2 == 0 ? &o : &other;
            if (ways[i].op == BLOCK_COMPARE)
                memcpy(buffer, world->disk->bytes, 4096);
            world->disk->association = 0;
            assert_int_equal(run(world, by->reactor, by->channel, &waited), IO_OK);
            assert_int_equal(world->disk->association, said != 0 ? said : by->handle.association);
            assert_int_equal(world->disk->flags, BLOCK_FAIL_FAST);
        }
    }
    reactor_enter(o.reactor);
    block_channel_recall(o.channel); /* a kind without: nothing happens */
    reactor_enter(NULL);
    assert_false(block_device_is_prompt(&world->disk->device) || block_device_is_replica(&world->disk->device));
    assert_true(block_device_path_is_up(&world->disk->device));
    close_it(&other);
    close_it(&o);
}

static void claims_keep_others_out(void **state) {
    struct world *world = *state;
    struct block_device *disk = &world->disk->device;
    struct error error;
    struct block_handle owner = {.owner = "store s"}, other = {.owner = "x"}, reader = {.owner = "y"};
    assert_true(block_handle_open(&reader, disk, BLOCK_MODE_READ, &error));
    assert_true(block_handle_open(&owner, disk, BLOCK_MODE_CLAIM, &error));
    assert_true(disk->claimed);
    assert_false(block_handle_open(&other, disk, BLOCK_MODE_WRITE, &error));
    assert_int_equal(error.code, ERROR_PERMISSION);
    assert_string_equal(error.text, "disk is in use by store s");
    block_handle_close(&owner);
    assert_true(block_handle_open(&other, disk, BLOCK_MODE_WRITE, &error));
    assert_false(block_handle_open(&owner, disk, BLOCK_MODE_CLAIM, &error));
    block_handle_close(&other);
    block_handle_close(&reader);
}

static void on_event(struct block_handle *handle, enum block_event event) {
    if (event == BLOCK_EVENT_REMOVE)
        block_handle_close(handle);
}
static void note_removed(struct block_device *device, void *arg) {
    (void)device;
    *(int *)arg += 1;
}

static void removal_waits_for_the_last_handle(void **state) {
    struct world *world = *state;
    struct block_device *disk = &world->disk->device;
    struct block_handle polite[2] = {{.owner = "a", .event = on_event}, {.owner = "b", .event = on_event}}, slow = {.owner = "c"};
    for (int i = 0; i < 2; i++)
        assert_true(block_handle_open(&polite[i], disk, BLOCK_MODE_WRITE, NULL));
    assert_true(block_handle_open(&slow, disk, BLOCK_MODE_READ, NULL));
    block_device_set_size(disk, 100);
    assert_int_equal(world->resized, 1);
    int removed = 0;
    struct error error;
    assert_true(block_device_remove(disk, note_removed, &removed, NULL));
    assert_int_equal(removed, 0);
    assert_null(block_graph_find(&world->graph, "disk"));
    assert_false(block_device_remove(disk, NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    struct block_handle late = {.owner = "d"};
    assert_false(block_handle_open(&late, disk, BLOCK_MODE_READ, &error));
    block_handle_close(&slow);
    assert_int_equal(removed, 1);
    assert_true(world->disk->destroyed);
}

static void keeps_what_is_written(struct world *world, uint64_t device_bytes) {
    struct block_device *device;
    struct error error;
    struct memory_device_options options = {.name = "m", .block_size = 512, .block_count = device_bytes / 512};
    assert_true(memory_device_create(&world->graph, &options, &device, &error));
    assert_true(memory_device_is(device) && !null_device_is(device));
    struct opened o;
    open_on(&o, device, BLOCK_MODE_WRITE, world->io);
    static char model[MIB(4)], bytes[MIB(4)];
    memset(model, 0, sizeof(model));
    struct random random;
    random_init(&random, 11);
    for (int round = 0; round < 200; round++) {
        uint64_t blocks = 1 + random_below(&random, round % 20 == 0 ? 5000 : 30),
                 offset = random_below(&random, MIB(4) / 512 - blocks) * 512;
        unsigned what = (unsigned)random_below(&random, 3);
        if (what == 0) {
            random_fill(&random, bytes, blocks * 512);
            memcpy(model + offset, bytes, blocks * 512);
            assert_int_equal(transfer(world, world->io, o.channel, BLOCK_WRITE, 0, bytes, offset, blocks * 512), IO_OK);
        } else {
            memset(model + offset, 0, blocks * 512);
            assert_int_equal(
                transfer(world, world->io, o.channel, what == 1 ? BLOCK_TRIM : BLOCK_WRITE_ZEROES, 0, NULL, offset, blocks * 512),
                IO_OK);
        }
    }
    assert_int_equal(transfer(world, world->io, o.channel, BLOCK_READ, 0, bytes, 0, MIB(4)), IO_OK);
    assert_memory_equal(bytes, model, MIB(4));
    close_it(&o);
    assert_true(block_device_remove(device, NULL, NULL, NULL));
}

static void memory_device_keeps_what_is_written(void **state) {
    keeps_what_is_written(*state, MIB(4));
    keeps_what_is_written(*state, MIB(64)); /* written past the cache */
}

static void memory_device_has_a_size_there_can_be(void **state) {
    struct world *world = *state;
    struct block_device *device;
    struct error error;
    struct memory_device_options options = {.name = "m", .block_size = 512, .block_count = 0};
    assert_false(memory_device_create(&world->graph, &options, &device, &error));
    assert_string_equal(error.field, "num_blocks");
    options.block_count = UINT64_MAX / 512;
    assert_false(memory_device_create(&world->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_NO_MEMORY);
}

static void statuses_have_names(void **state) {
    (void)state;
    for (int i = 0; i < IO_STATUS_COUNT; i++) {
        assert_non_null(io_status_name((enum io_status)i));
        assert_non_null(io_status_words((enum io_status)i));
        assert_null(strchr(io_status_words((enum io_status)i), '_'));
    }
    assert_true(io_status_retryable(IO_PATH_LOST) && !io_status_retryable(IO_MEDIUM_READ));
    assert_string_equal(io_status_name((enum io_status)99), "unknown");
    assert_string_equal(io_status_words((enum io_status)99), "unknown");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(bad_requests_fail_with_a_reason),
        TEST(requests_from_elsewhere_go_home_and_back),
        TEST(misaligned_payloads_are_bounced),
        TEST(what_a_device_lacks_is_emulated),
        TEST(a_flood_of_bounced_requests_ends),
        TEST(devices_are_found_by_every_name),
        TEST(a_request_keeps_its_association_through_every_stage),
        TEST(claims_keep_others_out),
        TEST(removal_waits_for_the_last_handle),
        TEST(memory_device_keeps_what_is_written),
        TEST(memory_device_has_a_size_there_can_be),
        cmocka_unit_test(statuses_have_names),
    };
    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
