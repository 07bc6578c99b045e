/* The file device on real files: the load generator's verifying patterns on a data reactor, over every way host/linux has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev/file/file.h"
#include "host/linux/linux.h"
#include "load/load.h"

struct world {
    struct host *host;
    struct reactor *control, *data;
    struct block_graph graph;
    struct file_device_create create;
    struct block_handle handle;
    struct block_channel *channel;
    struct load *load;
    struct load_options options;
    struct load_result result;
    sem_t done;
    struct block_request request;
    struct reactor_message message;
    void (*run)(struct world *world);
};

static void run_message(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, message);
    world->run(world);
}
/* Runs it there; it or what it started posts `done`. */
static void on(struct world *world, struct reactor *reactor, void (*run)(struct world *world)) {
    world->run = run;
    world->message.run = run_message;
    reactor_post(reactor, &world->message);
    while (sem_wait(&world->done) != 0)
        ;
}

static void created(struct file_device_create *create) { sem_post(&container_of(create, struct world, create)->done); }
static void make_device(struct world *world) { file_device_create_submit(&world->graph, world->control, &world->create); }
static void open_handle(struct world *world) {
    world->handle = (struct block_handle){.owner = "test"};
    bool ok = block_handle_open(&world->handle, world->create.device, BLOCK_MODE_WRITE, NULL);
    assert(ok);
    sem_post(&world->done);
}
static void open_channel(struct world *world) {
    world->channel = block_channel_open(&world->handle);
    assert(world->channel != NULL);
    sem_post(&world->done);
}
static void load_done(struct load *load, void *arg) {
    struct world *world = arg;
    world->result = *load_result(load);
    sem_post(&world->done);
}
static void start_load(struct world *world) {
    if (world->load == NULL) {
        bool ok = load_create(world->channel, &world->options, load_done, world, &world->load, NULL);
        assert(ok);
    }
    load_start(world->load, &world->options);
}
static void start_read_back(struct world *world) { load_start_read_back(world->load); }
static void end_load(struct world *world) {
    load_destroy(world->load);
    block_channel_close(world->channel);
    sem_post(&world->done);
}
static void remove_device(struct world *world) {
    block_handle_close(&world->handle);
    bool ok = block_device_remove(world->create.device, NULL, NULL, NULL);
    assert(ok);
    sem_post(&world->done);
}

/* `create`: a file of that size first. `check`, if given, looks at it when all was written and read back. */
static void verify_at(const char *path, uint64_t create, bool no_io_uring, bool buffered, void (*check)(struct world *world)) {
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    sem_init(&world->done, 0, 0);
    struct host_linux_options options = {.no_io_uring = no_io_uring};
    assert_int_equal(host_linux_create(&options, &world->host), 0);
    block_graph_init(&world->graph, world->host, 2);
    struct reactor_options control = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .index = 1};
    struct reactor_options data = {.name = "data", .cpu = -1};
    assert_int_equal(reactor_create(world->host, &control, &world->control), 0);
    assert_int_equal(reactor_create(world->host, &data, &world->data), 0);
    assert_int_equal(reactor_start(world->control), 0);
    assert_int_equal(reactor_start(world->data), 0);
    world->create = (struct file_device_create){
        .options =
            {.name = "f0", .path = path, .buffered = buffered, .create = create != 0, .create_size = create, .block_size = 4096},
        .done = created};
    on(world, world->control, make_device);
    if (!world->create.ok)
        fail_msg("%s", world->create.error.text);
    on(world, world->control, open_handle);
    on(world, world->data, open_channel);
    static const struct load_options patterns[] = {
        {.random = true, .read_percent = 30, .request_limit = 3000, .flush_every = 64},
        {.random = true, .read_percent = 50, .request_limit = 300, .fua = true},
    };
    for (size_t i = 0; i < array_count(patterns); i++) {
        world->options = patterns[i];
        world->options.verify = true;
        world->options.seed = 5;
        world->options.request_bytes = 8192;
        world->options.depth = 32;
        on(world, world->data, start_load);
        if (world->result.errors != 0 || world->result.mismatches != 0)
            fail_msg("pattern %zu on %s: %llu errors, first %s; %s", i, path, (unsigned long long)world->result.errors,
                     io_status_name(world->result.first_error), world->result.first_mismatch);
        assert_true(world->result.requests >= patterns[i].request_limit);
    }
    on(world, world->data, start_read_back);
    assert_int_equal(world->result.errors, 0);
    assert_int_equal(world->result.mismatches, 0);
    if (check != NULL)
        check(world);
    on(world, world->data, end_load);
    on(world, world->control, remove_device);
    reactor_destroy(world->data);
    reactor_destroy(world->control);
    block_graph_fini(&world->graph);
    host_linux_destroy(world->host);
    sem_destroy(&world->done);
    free(world);
}

static void verify_on(const char *folder, bool no_io_uring, bool buffered) {
    char path[256];
    snprintf(path, sizeof(path), "%s/penstock-file-%d", folder, (int)getpid());
    unlink(path);
    verify_at(path, MIB(16), no_io_uring, buffered, NULL);
    unlink(path);
}

static void directly_by_io_uring(void **state) {
    (void)state;
    verify_on(".", false, false);
}
static void buffered_by_io_uring(void **state) {
    (void)state;
    verify_on(".", false, true);
}
static void directly_by_threads(void **state) {
    (void)state;
    verify_on(".", true, false);
}
static void on_tmpfs(void **state) {
    (void)state;
    if (access("/dev/shm", W_OK) != 0)
        skip();
    verify_on("/dev/shm", false, false);
}

/* ---- a block device: a loop device, where we may make one ---- */

static struct loop {
    char path[32], backing[32];
    int fd, backing_fd;
} loop;

/* NULL, or what cannot be had here. */
static const char *loop_make(void) {
    snprintf(loop.backing, sizeof(loop.backing), "penstock-loop-XXXXXX");
    loop.backing_fd = mkstemp(loop.backing);
    if (loop.backing_fd < 0 || ftruncate(loop.backing_fd, MIB(16)) != 0)
        return "a file";
    unlink(loop.backing);
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0)
        close(control);
    snprintf(loop.path, sizeof(loop.path), "/dev/loop%d", number);
    loop.fd = number < 0 ? -1 : open(loop.path, O_RDWR | O_CLOEXEC);
    if (loop.fd < 0)
        return "a loop device";
    if (ioctl(loop.fd, LOOP_SET_FD, loop.backing_fd) != 0) {
        close(loop.fd);
        return "the loop device";
    }
    /* gone when the last one has closed it, so also when the test dies */
    struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};
    assert_int_equal(ioctl(loop.fd, LOOP_SET_STATUS64, &info), 0);
    return NULL;
}

static uint64_t backing_bytes(void) {
    struct stat facts;
    assert_int_equal(fstat(loop.backing_fd, &facts), 0);
    return (uint64_t)facts.st_blocks * 512;
}

static void trimmed(struct block_request *request) { sem_post(&container_of(request, struct world, request)->done); }
static void trim(struct world *world) {
    world->request = (struct block_request){.op = BLOCK_TRIM, .length = MIB(16), .complete = trimmed};
    block_submit(world->channel, &world->request);
}

/* While the device has it nobody else may; what is trimmed is discarded. */
static void held_and_discarded(struct world *world) {
    assert_int_equal(open(loop.path, O_RDWR | O_EXCL | O_CLOEXEC), -1);
    assert_int_equal(errno, EBUSY);
    assert_true(backing_bytes() > MIB(4));
    if ((world->create.device->native_ops & BLOCK_BIT(BLOCK_TRIM)) == 0) {
        print_message("the file system below cannot punch holes: nothing is discarded\n");
        return;
    }
    on(world, world->data, trim);
    assert_int_equal(world->request.status, IO_OK);
    assert_true(backing_bytes() < MIB(1));
}

static void on_a_block_device(void **state) {
    (void)state;
    const char *missing = loop_make();
    if (missing != NULL) {
        print_message("skipped: %s cannot be had here\n", missing);
        close(loop.backing_fd);
        skip();
    }
    for (unsigned i = 0; i < 2; i++) {
        verify_at(loop.path, 0, i == 1, false, held_and_discarded);
        int fd = open(loop.path, O_RDWR | O_EXCL | O_CLOEXEC); /* it was let go */
        assert_true(fd >= 0);
        close(fd);
    }
    close(loop.fd);
    close(loop.backing_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directly_by_io_uring), cmocka_unit_test(buffered_by_io_uring),
        cmocka_unit_test(directly_by_threads),  cmocka_unit_test(on_tmpfs),
        cmocka_unit_test(on_a_block_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
