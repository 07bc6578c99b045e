/* The file device on real files: the load generator's verifying patterns on a data reactor, over every way host/linux has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
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

static void verify_on(const char *folder, bool no_io_uring, bool buffered) {
    struct world *world = calloc(1, sizeof(*world));
    char path[256];
    snprintf(path, sizeof(path), "%s/penstock-file-%d", folder, (int)getpid());
    unlink(path);
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
        .options = {.name = "f0", .path = path, .buffered = buffered, .create = true, .create_size = MIB(16), .block_size = 4096},
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
    on(world, world->data, end_load);
    on(world, world->control, remove_device);
    reactor_destroy(world->data);
    reactor_destroy(world->control);
    block_graph_fini(&world->graph);
    host_linux_destroy(world->host);
    sem_destroy(&world->done);
    free(world);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directly_by_io_uring),
        cmocka_unit_test(buffered_by_io_uring),
        cmocka_unit_test(directly_by_threads),
        cmocka_unit_test(on_tmpfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
