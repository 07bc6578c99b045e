/* The file device on simulated disks: errors, sizes, holes, flushes, queues. tests/blockdev/test_file_linux.c has real files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "blockdev/file/file_internal.h"
#include "host/sim/sim_disk.h"

enum { BLOCK = 4096, BLOCKS = 1024 };

struct fixture {
    struct sim *sim;
    struct sim_node *node;
    struct sim_disk *disk;
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct block_device *device;
    struct block_handle handle;
    struct block_channel *channel;
    unsigned events; /* of the handle */
};

struct io {
    struct block_request request;
    struct slice slice;
    bool done;
};

static bool wait_for(struct fixture *f, bool (*condition)(void *arg), void *arg) {
    return sim_run_until(f->sim, condition, arg, 60 * NS_PER_S, 0) == SIM_MET;
}

/* The simulator wants calls of host.h inside a turn: a message carries them there. */
struct call {
    struct reactor_message message;
    void (*run)(struct fixture *f, void *arg);
    struct fixture *f;
    void *arg;
    bool done;
};
static void run_call(struct reactor_message *message) {
    struct call *call = container_of(message, struct call, message);
    call->run(call->f, call->arg);
    call->done = true;
}
static bool call_done(void *arg) { return ((struct call *)arg)->done; }
static void on_reactor(struct fixture *f, void (*run)(struct fixture *f, void *arg), void *arg) {
    struct call call = {.message.run = run_call, .run = run, .f = f, .arg = arg};
    reactor_post(f->reactor, &call.message);
    assert_true(wait_for(f, call_done, &call));
}

static void world_up(struct fixture *f, struct sim_disk_options *disk_options) {
    memset(f, 0, sizeof(*f));
    struct sim_options options;
    sim_options_init(&options, 11);
    f->sim = sim_create(&options);
    f->node = sim_node_create(f->sim, "n", "10.0.0.1");
    if (disk_options != NULL) {
        f->disk = sim_disk_create(f->sim, disk_options);
        sim_node_attach(f->node, "/disk", f->disk);
    }
    f->host = sim_process_start(f->node);
    assert_int_equal(reactor_create(f->host, &(struct reactor_options){.name = "c", .cpu = -1}, &f->reactor), 0);
    assert_int_equal(reactor_start(f->reactor), 0);
    block_graph_init(&f->graph, f->host, 1);
}

struct creation {
    struct file_device_create create;
    bool done;
};
static void created(struct file_device_create *create) { container_of(create, struct creation, create)->done = true; }
static bool creation_done(void *arg) { return ((struct creation *)arg)->done; }
static void submit_creation(struct fixture *f, void *arg) {
    struct creation *creation = arg;
    file_device_create_submit(&f->graph, f->reactor, &creation->create);
    assert_false(creation->done);
}
static bool create_device(struct fixture *f, struct file_device_options options, struct creation *ret) {
    *ret = (struct creation){.create = {.options = options, .done = created}};
    on_reactor(f, submit_creation, ret);
    assert_true(wait_for(f, creation_done, ret));
    return ret->create.ok;
}

static void on_handle_event(struct block_handle *handle, enum block_event event) {
    struct fixture *f = container_of(handle, struct fixture, handle);
    f->events += event == BLOCK_EVENT_RESIZED;
}
static void open_channel(struct fixture *f, void *arg) {
    (void)arg;
    f->handle = (struct block_handle){.owner = "test", .event = on_handle_event};
    enum block_mode mode = atomic_load(&f->device->read_only) ? BLOCK_MODE_READ : BLOCK_MODE_WRITE;
    assert_true(block_handle_open(&f->handle, f->device, mode, NULL));
    f->channel = block_channel_open(&f->handle);
    assert_non_null(f->channel);
}
static void close_all(struct fixture *f, void *arg) {
    (void)arg;
    if (f->channel != NULL) {
        block_channel_close(f->channel);
        block_handle_close(&f->handle);
    }
    f->channel = NULL;
    while (f->graph.device_count > 0)
        assert_true(block_device_remove(block_graph_next(&f->graph, NULL), NULL, NULL, NULL));
}
static void device_up(struct fixture *f, struct file_device_options options) {
    struct creation creation;
    options.name = "f0";
    options.path = "/disk";
    if (!create_device(f, options, &creation))
        fail_msg("%s", creation.create.error.text);
    f->device = creation.create.device;
    on_reactor(f, open_channel, NULL);
}
static void world_down(struct fixture *f) {
    on_reactor(f, close_all, NULL);
    block_graph_fini(&f->graph);
    reactor_destroy(f->reactor);
    sim_process_exit(f->host);
    sim_destroy(f->sim);
}
/* A block device of BLOCKS blocks, written directly. */
static void up(struct fixture *f) {
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    world_up(f, &disk);
    device_up(f, (struct file_device_options){.block_size = BLOCK});
}

static void completed(struct block_request *request) {
    struct io *io = container_of(request, struct io, request);
    assert(!io->done);
    io->done = true;
}
static bool io_done(void *arg) { return ((struct io *)arg)->done; }
static void io_init(struct io *io, enum block_op op, uint64_t offset, void *data, uint64_t length) {
    *io = (struct io){.slice = {data, length}};
    io->request = (struct block_request){.op = (uint8_t)op, .offset = offset, .length = length, .complete = completed};
    if (data != NULL) {
        io->request.slices = &io->slice;
        io->request.slice_count = 1;
    }
}
static void submit_io(struct fixture *f, void *arg) {
    struct io *io = arg;
    block_submit(f->channel, &io->request);
    assert_false(io->done);
}
static enum io_status do_io(struct fixture *f, enum block_op op, uint64_t offset, void *data, uint64_t length, uint8_t flags) {
    struct io io;
    io_init(&io, op, offset, data, length);
    io.request.flags = flags;
    on_reactor(f, submit_io, &io);
    assert_true(wait_for(f, io_done, &io));
    return (enum io_status)io.request.status;
}

static _Alignas(4096) char buffer[512 * BLOCK], other[512 * BLOCK];

/* ---- what it is ---- */

static void errors_are_mapped_once(void **state) {
    (void)state;
    assert_int_equal(file_device_status(BLOCK_READ, 4096), IO_OK);
    assert_int_equal(file_device_status(BLOCK_READ, -EIO), IO_MEDIUM_READ);
    assert_int_equal(file_device_status(BLOCK_WRITE, -EIO), IO_MEDIUM_WRITE);
    assert_int_equal(file_device_status(BLOCK_WRITE, -ENOSPC), IO_NO_SPACE);
    assert_int_equal(file_device_status(BLOCK_WRITE, -EDQUOT), IO_NO_SPACE);
    assert_int_equal(file_device_status(BLOCK_FLUSH, -ENOSPC), IO_MEDIUM_WRITE);
    assert_int_equal(file_device_status(BLOCK_WRITE, -EROFS), IO_READ_ONLY);
    assert_int_equal(file_device_status(BLOCK_READ, -ENODEV), IO_DEVICE_GONE);
    assert_int_equal(file_device_status(BLOCK_TRIM, -EOPNOTSUPP), IO_UNSUPPORTED);
    assert_int_equal(file_device_status(BLOCK_READ, -EINVAL), IO_INVALID);
    assert_int_equal(file_device_status(BLOCK_READ, -ENOMEM), IO_NO_MEMORY);
    assert_int_equal(file_device_status(BLOCK_READ, -EBADMSG), IO_DAMAGED);
    assert_int_equal(file_device_status(BLOCK_TRIM, -ENOLCK), IO_MEDIUM_WRITE); /* anything else */
}

static void block_sizes_are_found_and_checked(void **state) {
    (void)state;
    static const struct {
        uint64_t size;
        uint32_t logical, given, expected; /* 0 = refused */
        bool block_device;
    } cases[] = {
        {MIB(4), 512, 0, 512, true},        {MIB(4), 4096, 0, 4096, true},      {MIB(4), 512, 0, 4096, false},
        {MIB(4) + 512, 512, 0, 512, false}, {MIB(4), 512, 1024, 1024, false},   {MIB(4), 512, 65536, 65536, false},
        {MIB(4), 4096, 512, 0, true},       {MIB(4), 512, 1000, 0, false},      {MIB(4), 512, 131072, 0, false},
        {MIB(4), 512, 256, 0, false},       {MIB(4) + 512, 512, 4096, 0, true},
    };
    for (size_t i = 0; i < array_count(cases); i++) {
        struct fixture f;
        struct sim_disk_options disk;
        sim_disk_options_init(&disk, cases[i].size);
        disk.logical_block = cases[i].logical;
        disk.block_device = cases[i].block_device;
        world_up(&f, &disk);
        struct creation c;
        bool ok = create_device(&f, (struct file_device_options){.name = "x", .path = "/disk", .block_size = cases[i].given}, &c);
        assert_int_equal(ok, cases[i].expected != 0);
        if (ok) {
            assert_int_equal(c.create.device->block_size, cases[i].expected);
            assert_int_equal(block_device_size(c.create.device), cases[i].size);
            assert_true(file_device_is(c.create.device));
            struct file_device_facts facts;
            file_device_facts(c.create.device, &facts);
            assert_string_equal(facts.path, "/disk");
            assert_int_equal(facts.block_size_given, cases[i].given != 0);
            assert_true(facts.direct);
        } else {
            assert_int_equal(c.create.error.code, ERROR_INVALID);
            assert_null(c.create.device);
        }
        world_down(&f);
    }
}

static void what_cannot_be_made_says_why(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    struct creation c;
    assert_false(create_device(&f, (struct file_device_options){.name = "f0", .path = "/else"}, &c));
    assert_int_equal(c.create.error.code, ERROR_EXISTS);
    assert_string_equal(c.create.error.text, "the name f0 is taken");
    uint64_t before_ns = sim_now_ns(f.sim);
    assert_false(create_device(&f, (struct file_device_options){.name = "f1", .path = "/disk"}, &c));
    assert_int_equal(c.create.error.code, ERROR_EXISTS);
    assert_string_equal(c.create.error.text, "/disk is open already, as f0");
    assert_true(sim_now_ns(f.sim) - before_ns < NS_PER_S); /* without waiting for ourselves */
    assert_false(create_device(&f, (struct file_device_options){.name = "f1", .path = "/none"}, &c));
    assert_int_equal(c.create.error.code, ERROR_NOT_FOUND);
    world_down(&f);
}

/* Two creations of one name at once: the second finds it taken after its file was opened, and lets go of that file. */
static void a_name_taken_meanwhile_is_refused(void **state) {
    (void)state;
    struct fixture f;
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    world_up(&f, &disk);
    struct sim_disk *second = sim_disk_create(f.sim, &disk);
    sim_node_attach(f.node, "/second", second);
    struct creation a = {.create = {.options = {.name = "x", .path = "/disk"}, .done = created}};
    struct creation b = {.create = {.options = {.name = "x", .path = "/second"}, .done = created}};
    on_reactor(&f, submit_creation, &a);
    on_reactor(&f, submit_creation, &b);
    assert_true(wait_for(&f, creation_done, &a));
    assert_true(wait_for(&f, creation_done, &b));
    assert_true(a.create.ok != b.create.ok);
    struct creation *loser = a.create.ok ? &b : &a, again;
    assert_int_equal(loser->create.error.code, ERROR_EXISTS);
    assert_true(create_device(&f, (struct file_device_options){.name = "y", .path = loser->create.options.path}, &again));
    world_down(&f);
}

static void another_process_is_waited_for(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    struct host *rival = sim_process_start(f.node);
    struct reactor *reactor;
    assert_int_equal(reactor_create(rival, &(struct reactor_options){.name = "r", .cpu = -1}, &reactor), 0);
    assert_int_equal(reactor_start(reactor), 0);
    struct fixture g = {.sim = f.sim, .host = rival, .reactor = reactor};
    block_graph_init(&g.graph, rival, 1);
    struct creation c;
    assert_false(create_device(&g, (struct file_device_options){.name = "r0", .path = "/disk", .hold_timeout_ms = 20}, &c));
    assert_int_equal(c.create.error.code, ERROR_BUSY);
    struct creation waiting = {.create = {.options = {.name = "r0", .path = "/disk"}, .done = created}};
    on_reactor(&g, submit_creation, &waiting);
    on_reactor(&f, close_all, NULL);
    assert_true(wait_for(&g, creation_done, &waiting));
    assert_true(waiting.create.ok);
    on_reactor(&g, close_all, NULL);
    block_graph_fini(&g.graph);
    reactor_destroy(reactor);
    sim_process_exit(rival);
    world_down(&f);
}

static void a_read_only_device_is_shared(void **state) {
    (void)state;
    struct fixture f;
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    world_up(&f, &disk);
    device_up(&f, (struct file_device_options){.read_only = true});
    struct creation c;
    assert_true(create_device(&f, (struct file_device_options){.name = "f1", .path = "/disk", .read_only = true}, &c));
    assert_int_equal(do_io(&f, BLOCK_READ, 0, buffer, BLOCK, 0), IO_OK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_READ_ONLY);
    assert_int_equal(do_io(&f, BLOCK_TRIM, 0, NULL, BLOCK, 0), IO_READ_ONLY);
    world_down(&f);
}

/* ---- I/O ---- */

static void what_is_written_is_read(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    for (size_t i = 0; i < sizeof(buffer); i += 8)
        put_le64(buffer + i, i * 0x9e3779b97f4a7c15u);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 7 * BLOCK, buffer, 300 * BLOCK, 0), IO_OK);
    assert_int_equal(do_io(&f, BLOCK_READ, 7 * BLOCK, other, 300 * BLOCK, 0), IO_OK);
    assert_memory_equal(buffer, other, 300 * BLOCK);
    assert_int_equal(do_io(&f, BLOCK_COMPARE, 7 * BLOCK, buffer, BLOCK, 0), IO_OK);
    assert_int_equal(do_io(&f, BLOCK_COMPARE, 8 * BLOCK, buffer, BLOCK, 0), IO_COMPARE_FAILED);
    assert_int_equal(do_io(&f, BLOCK_READ, BLOCKS * BLOCK, other, BLOCK, 0), IO_OUT_OF_RANGE);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, 0, 0), IO_OK);
    /* Memory that direct access cannot take is bounced. */
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer + 8, BLOCK, 0), IO_OK);
    assert_int_equal(do_io(&f, BLOCK_READ, 0, other + 16, BLOCK, 0), IO_OK);
    assert_memory_equal(buffer + 8, other + 16, BLOCK);
    world_down(&f);
}

static void more_slices_than_the_host_takes(void **state) {
    (void)state;
    enum { SLICES = 700 };
    struct fixture f;
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    world_up(&f, &disk);
    device_up(&f, (struct file_device_options){.block_size = 512});
    static struct slice slices[SLICES];
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < SLICES; i++) {
            slices[i] = (struct slice){(way == 0 ? buffer : other) + ((SLICES - 1 - i) * 512), 512};
            if (way == 0)
                memset(slices[i].base, (int)(i % 253), 512);
        }
        struct io io;
        io_init(&io, way == 0 ? BLOCK_WRITE : BLOCK_READ, 512, NULL, SLICES * 512);
        io.request.slices = slices;
        io.request.slice_count = SLICES;
        on_reactor(&f, submit_io, &io);
        assert_true(wait_for(&f, io_done, &io));
        assert_int_equal(io.request.status, IO_OK);
    }
    assert_memory_equal(buffer, other, SLICES * 512);
    struct sim_disk_stats stats;
    sim_disk_stats(f.disk, &stats);
    assert_int_equal(stats.requests[HOST_FILE_WRITE], 3);
    world_down(&f);
}

static void trims_and_zeroes(void **state) {
    (void)state;
    for (int file = 0; file < 2; file++) {
        for (int keep = 0; keep < 2; keep++) {
            struct fixture f;
            struct sim_disk_options disk;
            sim_disk_options_init(&disk, BLOCKS * BLOCK);
            disk.block_device = !file;
            world_up(&f, &disk);
            device_up(&f, (struct file_device_options){.block_size = BLOCK, .keep_space = keep != 0});
            assert_int_equal(f.device->trim_reads_zero, file);
            memset(buffer, 0x77, 16 * BLOCK);
            assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, 16 * BLOCK, 0), IO_OK);
            assert_int_equal(do_io(&f, BLOCK_TRIM, 0, NULL, 2 * BLOCK, 0), keep ? IO_UNSUPPORTED : IO_OK);
            assert_int_equal(do_io(&f, BLOCK_WRITE_ZEROES, 4 * BLOCK, NULL, 2 * BLOCK, 0), IO_OK);
            assert_int_equal(do_io(&f, BLOCK_WRITE_ZEROES, 8 * BLOCK, NULL, 2 * BLOCK, BLOCK_MAY_TRIM), IO_OK);
            struct sim_disk_stats stats;
            sim_disk_stats(f.disk, &stats);
            /* A hole reads zero in a file only. */
            assert_int_equal(stats.requests[HOST_FILE_PUNCH], keep ? 0 : file ? 2 : 1);
            assert_int_equal(stats.requests[HOST_FILE_ZERO], !keep && file ? 1 : 2);
            assert_int_equal(do_io(&f, BLOCK_READ, 0, other, 16 * BLOCK, 0), IO_OK);
            memset(buffer + 4 * BLOCK, 0, 2 * BLOCK);
            memset(buffer + 8 * BLOCK, 0, 2 * BLOCK);
            if (file && !keep)
                memset(buffer, 0, 2 * BLOCK);
            size_t from = !file && !keep ? 2 * BLOCK : 0; /* a discarded block reads as anything */
            assert_memory_equal(buffer + from, other + from, 16 * BLOCK - from);
            world_down(&f);
        }
    }
}

static void a_failing_disk_fails_the_request_alone(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    sim_disk_bad_add(f.disk, 10 * BLOCK, BLOCK);
    assert_int_equal(do_io(&f, BLOCK_READ, 8 * BLOCK, other, 4 * BLOCK, 0), IO_MEDIUM_READ);
    assert_int_equal(do_io(&f, BLOCK_READ, 8 * BLOCK, other, 2 * BLOCK, 0), IO_OK);
    unsigned fault =
        sim_disk_fault_add(f.disk, &(struct sim_disk_fault){.ops = SIM_OP(HOST_FILE_WRITE), .error = -ENOSPC, .count = 1});
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_NO_SPACE);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_OK);
    sim_disk_fault_remove(f.disk, fault);
    world_down(&f);
}

/* Somebody cuts the file under us. */
static void a_file_that_became_short_is_an_error(void **state) {
    (void)state;
    struct fixture f;
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    disk.block_device = false;
    world_up(&f, &disk);
    device_up(&f, (struct file_device_options){.block_size = BLOCK});
    assert_int_equal(host_file_truncate(file_of(f.device)->file, 8 * BLOCK), 0);
    assert_int_equal(do_io(&f, BLOCK_READ, 6 * BLOCK, other, 4 * BLOCK, 0), IO_MEDIUM_READ);
    assert_int_equal(do_io(&f, BLOCK_READ, 6 * BLOCK, other, 2 * BLOCK, 0), IO_OK);
    world_down(&f);
}

/* ---- flushes ---- */

static void a_completed_flush_is_durable(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    memset(buffer, 0x11, BLOCK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_OK);
    assert_int_equal(do_io(&f, BLOCK_FLUSH, 0, NULL, 0, 0), IO_OK);
    sim_disk_peek(f.disk, SIM_VIEW_DURABLE, 0, other, BLOCK);
    assert_memory_equal(buffer, other, BLOCK);
    memset(buffer, 0x22, BLOCK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, BLOCK_FUA), IO_OK);
    sim_disk_peek(f.disk, SIM_VIEW_DURABLE, 0, other, BLOCK);
    assert_memory_equal(buffer, other, BLOCK);
    world_down(&f);
}

struct many {
    struct io ios[40];
    size_t count;
};
static void submit_many(struct fixture *f, void *arg) {
    struct many *many = arg;
    for (size_t i = 0; i < many->count; i++)
        block_submit(f->channel, &many->ios[i].request);
}
static bool many_done(void *arg) {
    struct many *many = arg;
    for (size_t i = 0; i < many->count; i++)
        if (!many->ios[i].done)
            return false;
    return true;
}

static void flushes_share_a_sync(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    struct many many = {.count = 40};
    for (size_t i = 0; i < many.count; i++)
        io_init(&many.ios[i], BLOCK_FLUSH, 0, NULL, 0);
    on_reactor(&f, submit_many, &many);
    assert_true(wait_for(&f, many_done, &many));
    struct sim_disk_stats stats;
    sim_disk_stats(f.disk, &stats);
    assert_int_equal(stats.requests[HOST_FILE_SYNC], 2); /* the first alone; all that came meanwhile together */
    for (size_t i = 0; i < many.count; i++)
        assert_int_equal(many.ios[i].request.status, IO_OK);
    world_down(&f);
}

/* A FLUSH must not be answered by a sync that was submitted before the write it is to cover had completed. */
static void a_flush_joins_no_sync_that_is_under_way(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    unsigned fault =
        sim_disk_fault_add(f.disk, &(struct sim_disk_fault){.ops = SIM_OP(HOST_FILE_SYNC), .action = SIM_FAULT_HANG, .count = 1});
    struct io first, second;
    io_init(&first, BLOCK_FLUSH, 0, NULL, 0);
    on_reactor(&f, submit_io, &first);
    sim_run_for(f.sim, NS_PER_MS); /* handed over, and hangs */
    assert_int_equal(sim_disk_fault_hits(f.disk, fault), 1);
    memset(buffer, 0x33, BLOCK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_OK);
    io_init(&second, BLOCK_FLUSH, 0, NULL, 0);
    on_reactor(&f, submit_io, &second);
    sim_run_for(f.sim, 10 * NS_PER_MS);
    assert_false(second.done);
    sim_disk_release(f.disk);
    assert_true(wait_for(&f, io_done, &second));
    assert_true(first.done);
    sim_disk_peek(f.disk, SIM_VIEW_DURABLE, 0, other, BLOCK);
    assert_memory_equal(buffer, other, BLOCK);
    world_down(&f);
}

static void a_failed_flush_fails_all_later_ones(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    memset(buffer, 0x44, BLOCK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, 0, buffer, BLOCK, 0), IO_OK);
    sim_disk_fault_add(f.disk, &(struct sim_disk_fault){.ops = SIM_OP(HOST_FILE_SYNC), .error = -EIO, .count = 1});
    struct many many = {.count = 3};
    for (size_t i = 0; i < many.count; i++)
        io_init(&many.ios[i], BLOCK_FLUSH, 0, NULL, 0);
    on_reactor(&f, submit_many, &many);
    assert_true(wait_for(&f, many_done, &many));
    for (size_t i = 0; i < many.count; i++) /* those that waited for the next sync, too */
        assert_int_equal(many.ios[i].request.status, IO_MEDIUM_WRITE);
    assert_int_equal(do_io(&f, BLOCK_FLUSH, 0, NULL, 0, 0), IO_MEDIUM_WRITE); /* the disk would say yes now */
    assert_int_equal(do_io(&f, BLOCK_WRITE, BLOCK, buffer, BLOCK, BLOCK_FUA), IO_MEDIUM_WRITE);
    assert_int_equal(do_io(&f, BLOCK_READ, 0, other, BLOCK, 0), IO_OK);
    struct file_device_facts facts;
    file_device_facts(f.device, &facts);
    assert_true(facts.flush_failed);
    struct sim_disk_stats stats;
    sim_disk_stats(f.disk, &stats);
    assert_int_equal(stats.requests[HOST_FILE_SYNC], 1);
    world_down(&f);
}

/* ---- queues ---- */

struct flood {
    struct io ios[FILE_IN_FLIGHT_MAX + 50];
    bool taken_back;
};
static void submit_flood(struct fixture *f, void *arg) {
    struct flood *flood = arg;
    for (size_t i = 0; i < array_count(flood->ios); i++)
        block_submit(f->channel, &flood->ios[i].request);
    /* The last one waits for memory, the first has been given to the host. */
    flood->taken_back = block_abort(f->channel, &flood->ios[array_count(flood->ios) - 1].request) &&
                        !block_abort(f->channel, &flood->ios[0].request);
}
static bool flood_done(void *arg) {
    struct flood *flood = arg;
    for (size_t i = 0; i < array_count(flood->ios); i++)
        if (!flood->ios[i].done)
            return false;
    return true;
}

static void beyond_the_limit_requests_wait(void **state) {
    (void)state;
    struct fixture f;
    up(&f);
    static struct flood flood;
    memset(&flood, 0, sizeof(flood));
    for (size_t i = 0; i < array_count(flood.ios); i++)
        io_init(&flood.ios[i], BLOCK_WRITE, (i % BLOCKS) * BLOCK, buffer, BLOCK);
    on_reactor(&f, submit_flood, &flood);
    assert_true(flood.taken_back);
    assert_true(wait_for(&f, flood_done, &flood));
    for (size_t i = 0; i < array_count(flood.ios); i++)
        assert_int_equal(flood.ios[i].request.status, i + 1 < array_count(flood.ios) ? IO_OK : IO_ABORTED);
    world_down(&f);
}

/* ---- sizes ---- */

static void do_rescan(struct fixture *f, void *arg) {
    struct error *error = arg;
    file_device_rescan(f->device, error);
}
struct resizing {
    struct file_device_resize resize;
    bool done;
};
static void resized(struct file_device_resize *resize) { container_of(resize, struct resizing, resize)->done = true; }
static bool resizing_done(void *arg) { return ((struct resizing *)arg)->done; }
static void submit_resize(struct fixture *f, void *arg) {
    struct resizing *r = arg;
    file_device_resize_submit(f->reactor, &r->resize);
    assert_false(r->done);
}
static enum error_code resize_to(struct fixture *f, uint64_t size) {
    struct resizing r = {.resize = {.device = f->device, .size = size, .done = resized}};
    on_reactor(f, submit_resize, &r);
    assert_true(wait_for(f, resizing_done, &r));
    assert_int_equal(r.resize.ok, r.resize.error.code == ERROR_NONE);
    return r.resize.error.code;
}

static void it_grows_with_its_file(void **state) {
    (void)state;
    struct fixture f;
    struct sim_disk_options disk;
    sim_disk_options_init(&disk, BLOCKS * BLOCK);
    disk.block_device = false;
    world_up(&f, &disk);
    device_up(&f, (struct file_device_options){.block_size = BLOCK});
    struct error error = {0};
    on_reactor(&f, do_rescan, &error);
    assert_int_equal(error.code, ERROR_NONE);
    assert_int_equal(f.events, 0); /* nothing new */
    assert_int_equal(host_file_truncate(file_of(f.device)->file, 2 * BLOCKS * BLOCK), 0);
    on_reactor(&f, do_rescan, &error);
    assert_int_equal(error.code, ERROR_NONE);
    assert_int_equal(f.events, 1);
    assert_int_equal(block_device_size(f.device), 2 * BLOCKS * BLOCK);
    assert_int_equal(do_io(&f, BLOCK_WRITE, (2 * BLOCKS - 1) * BLOCK, buffer, BLOCK, 0), IO_OK);
    assert_int_equal(host_file_truncate(file_of(f.device)->file, 2 * BLOCKS * BLOCK + 512), 0);
    on_reactor(&f, do_rescan, &error);
    assert_int_equal(error.code, ERROR_INVALID);
    assert_int_equal(block_device_size(f.device), 2 * BLOCKS * BLOCK);

    assert_int_equal(resize_to(&f, 3 * BLOCKS * BLOCK), ERROR_NONE);
    assert_int_equal(block_device_size(f.device), 3 * BLOCKS * BLOCK);
    assert_int_equal(sim_disk_size(f.disk), 3 * BLOCKS * BLOCK);
    assert_int_equal(f.events, 2);
    assert_int_equal(resize_to(&f, BLOCK + 1), ERROR_INVALID);
    assert_int_equal(resize_to(&f, 0), ERROR_INVALID);
    assert_int_equal(block_device_size(f.device), 3 * BLOCKS * BLOCK);
    world_down(&f);
    up(&f);
    assert_int_equal(resize_to(&f, 2 * BLOCKS * BLOCK), ERROR_UNSUPPORTED); /* a block device */
    world_down(&f);
}

static void a_file_is_made_where_asked(void **state) {
    (void)state;
    struct fixture f;
    world_up(&f, NULL);
    struct creation c;
    assert_true(create_device(
        &f, (struct file_device_options){.name = "n", .path = "/new", .create = true, .create_size = 64 * BLOCK}, &c));
    assert_int_equal(block_device_size(c.create.device), 64 * BLOCK);
    assert_non_null(sim_node_disk(f.node, "/new"));
    world_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_mapped_once),
        cmocka_unit_test(block_sizes_are_found_and_checked),
        cmocka_unit_test(what_cannot_be_made_says_why),
        cmocka_unit_test(a_name_taken_meanwhile_is_refused),
        cmocka_unit_test(another_process_is_waited_for),
        cmocka_unit_test(a_read_only_device_is_shared),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(more_slices_than_the_host_takes),
        cmocka_unit_test(trims_and_zeroes),
        cmocka_unit_test(a_failing_disk_fails_the_request_alone),
        cmocka_unit_test(a_file_that_became_short_is_an_error),
        cmocka_unit_test(a_completed_flush_is_durable),
        cmocka_unit_test(flushes_share_a_sync),
        cmocka_unit_test(a_flush_joins_no_sync_that_is_under_way),
        cmocka_unit_test(a_failed_flush_fails_all_later_ones),
        cmocka_unit_test(beyond_the_limit_requests_wait),
        cmocka_unit_test(it_grows_with_its_file),
        cmocka_unit_test(a_file_is_made_where_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
