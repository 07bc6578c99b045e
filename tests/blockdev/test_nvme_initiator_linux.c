/* The initiator and the target on real loopback sockets and threads: verified load from two reactors while the controller is
 * reset under it, namespaces change, and the end comes under load. What runs in several threads is for ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "blockdev/memory/memory.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "frontend/nvme_tcp/transport.h"
#include "host/linux/linux.h"
#include "load/load.h"

#define NQN "nqn.2024-01.io.example:loopback"
#define DISK_BYTES MIB(8)
#define JOBS 2

struct world;
struct job {
    struct world *world;
    struct reactor *reactor;
    struct block_handle handle;
    struct block_channel *channel;
    struct load *load;
    struct load_options options;
    struct load_result result;
    sem_t ended;
};

struct world {
    struct host *host;
    struct reactor *control, *data[JOBS], *target_data;
    struct block_graph graph; /* of both sides: one process, the data reactors first */
    struct nvme_target *target;
    struct nvme_subsystem *subsystem;
    uint16_t port;
    struct nvme_initiator *initiator;
    struct nvme_initiator_attach attach;
    struct job jobs[JOBS];
    sem_t done;
    bool reset_ok;
};

struct call {
    struct reactor_message message;
    void (*run)(void *arg);
    void *arg;
};
static void call_run(struct reactor_message *message) {
    struct call *call = container_of(message, struct call, message);
    call->run(call->arg);
}
static void wait(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0)
        ;
}
/* Runs it there; it or what it started posts `done`. */
static void on(struct world *world, struct reactor *reactor, void (*run)(void *arg), void *arg) {
    struct call call = {.message.run = call_run, .run = run, .arg = arg};
    reactor_post(reactor, &call.message);
    wait(&world->done);
}

static void target_make(void *arg) {
    struct world *world = arg;
    struct block_device *device;
    struct memory_device_options memory = {.name = "m0", .block_size = 512, .block_count = DISK_BYTES / 512};
    bool ok = memory_device_create(&world->graph, &memory, &device, NULL);
    memory.name = "m1";
    ok = ok && memory_device_create(&world->graph, &memory, &device, NULL);
    struct nvme_target_options target = {
        .graph = &world->graph, .control = world->control, .data = &world->target_data, .data_count = 1};
    world->target = nvme_target_create(&target, NULL);
    ok = ok && world->target != NULL &&
         nvme_tcp_transport_create(world->target, world->control, &(struct nvme_transport_options){0}, NULL);
    ok = ok && nvme_subsystem_create(world->target, &(struct nvme_subsystem_options){.nqn = NQN, .allow_any_host = true},
                                     &world->subsystem, NULL);
    uint32_t nsid;
    ok = ok && nvme_subsystem_add_namespace(world->subsystem, &(struct nvme_namespace_options){.device = "m0"}, &nsid, NULL);
    struct nvme_listen_address address = {
        .transport = NVME_TRANSPORT_TCP, .family = NVME_FAMILY_IPV4, .address = "127.0.0.1", .port = 0};
    ok = ok && nvme_subsystem_add_listener(world->subsystem, &address, NVME_ANA_OPTIMIZED, NULL);
    ok = ok && nvme_initiator_create(&world->graph, world->control, &world->initiator, NULL);
    assert(ok);
    world->port = address.port;
    sem_post(&world->done);
}

static void attached(struct nvme_initiator_attach *attach) { sem_post(&container_of(attach, struct world, attach)->done); }
static void attach_begin(void *arg) {
    struct world *world = arg;
    world->attach = (struct nvme_initiator_attach){.name = "r",
                                                   .address = {.family = HOST_IPV4, .port = world->port, .text = "127.0.0.1"},
                                                   .subnqn = NQN,
                                                   .data_digest = true,
                                                   .done = attached};
    nvme_initiator_attach(world->initiator, &world->attach);
}

static void job_open_handle(void *arg) {
    struct job *job = arg;
    struct block_device *device = block_graph_find(&job->world->graph, "rn1");
    job->handle = (struct block_handle){.owner = "test"};
    bool ok = device != NULL && block_handle_open(&job->handle, device, BLOCK_MODE_WRITE, NULL);
    assert(ok);
    sem_post(&job->world->done);
}
static void load_done(struct load *load, void *arg) {
    struct job *job = arg;
    job->result = *load_result(load);
    sem_post(&job->ended);
}
static void job_start(void *arg) {
    struct job *job = arg;
    job->channel = block_channel_open(&job->handle);
    bool ok = job->channel != NULL && load_create(job->channel, &job->options, load_done, job, &job->load, NULL);
    assert(ok);
    load_start(job->load, &job->options);
    sem_post(&job->world->done);
}
static void job_read_back(void *arg) {
    struct job *job = arg;
    load_start_read_back(job->load);
    sem_post(&job->world->done);
}
static void job_end(void *arg) {
    struct job *job = arg;
    load_destroy(job->load);
    block_channel_close(job->channel);
    sem_post(&job->world->done);
}
static void job_close_handle(void *arg) {
    struct job *job = arg;
    block_handle_close(&job->handle);
    sem_post(&job->world->done);
}

static void reset_told(bool ok, void *arg) {
    struct world *world = arg;
    world->reset_ok = ok;
    sem_post(&world->done);
}
static void reset_begin(void *arg) {
    struct world *world = arg;
    bool ok = nvme_initiator_reset(world->initiator, "r", reset_told, world, NULL);
    assert(ok);
}
static void told(void *arg) { sem_post(&((struct world *)arg)->done); }
static void namespace_add(void *arg) {
    struct world *world = arg;
    uint32_t nsid;
    bool ok =
        nvme_subsystem_add_namespace(world->subsystem, &(struct nvme_namespace_options){.nsid = 2, .device = "m1"}, &nsid, NULL);
    assert(ok);
    sem_post(&world->done);
}
static void namespace_remove(void *arg) {
    struct world *world = arg;
    bool ok = nvme_subsystem_remove_namespace(world->subsystem, 2, told, world, NULL);
    assert(ok);
}
static void detach_begin(void *arg) {
    struct world *world = arg;
    bool ok = nvme_initiator_detach(world->initiator, "r", NULL, told, world, NULL);
    assert(ok);
}
static void target_end(void *arg) {
    struct world *world = arg;
    nvme_initiator_destroy(world->initiator);
    nvme_target_destroy(world->target, told, world);
}
static void disks_remove(void *arg) {
    struct world *world = arg;
    while (world->graph.device_count > 0)
        (void)block_device_remove(block_graph_next(&world->graph, NULL), NULL, NULL, NULL);
    sem_post(&world->done);
}

static struct reactor *reactor_new(struct world *world, const char *name, unsigned index) {
    struct reactor *reactor;
    struct reactor_options options = {.name = name, .cpu = -1, .index = index};
    assert_int_equal(reactor_create(world->host, &options, &reactor), 0);
    assert_int_equal(reactor_start(reactor), 0);
    return reactor;
}

static void test_loopback(void **state) {
    (void)state;
    struct world *world = calloc(1, sizeof(*world));
    sem_init(&world->done, 0, 0);
    assert_int_equal(host_linux_create(&(struct host_linux_options){.log = NULL}, &world->host), 0);
    block_graph_init(&world->graph, world->host, JOBS + 2);
    for (unsigned i = 0; i < JOBS; i++)
        world->data[i] = reactor_new(world, "data", i);
    world->target_data = reactor_new(world, "target", JOBS);
    world->control = reactor_new(world, "control", JOBS + 1);
    on(world, world->control, target_make, world);
    on(world, world->control, attach_begin, world);
    if (!world->attach.ok)
        fail_msg("attach: %s", world->attach.error.text);
    for (unsigned i = 0; i < JOBS; i++) {
        struct job *job = &world->jobs[i];
        *job = (struct job){.world = world, .reactor = world->data[i]};
        sem_init(&job->ended, 0, 0);
        job->options = (struct load_options){.random = true,
                                             .read_percent = 50,
                                             .request_bytes = i == 0 ? 4096 : 16384,
                                             .depth = 16,
                                             .region_offset = i * (DISK_BYTES / 2),
                                             .region_bytes = DISK_BYTES / 2,
                                             .request_limit = 3000,
                                             .flush_every = 50,
                                             .verify = true,
                                             .seed = i + 1};
        on(world, world->control, job_open_handle, job);
        on(world, job->reactor, job_start, job);
    }
    for (unsigned i = 0; i < 2; i++) { /* under load */
        on(world, world->control, namespace_add, world);
        on(world, world->control, reset_begin, world);
        assert_true(world->reset_ok);
        on(world, world->control, namespace_remove, world);
    }
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < JOBS; i++) {
            struct job *job = &world->jobs[i];
            wait(&job->ended);
            if (job->result.errors > 0 || job->result.mismatches > 0)
                fail_msg("%llu errors (%s), %llu mismatches (%s)", (unsigned long long)job->result.errors,
                         io_status_name(job->result.first_error), (unsigned long long)job->result.mismatches,
                         job->result.first_mismatch);
            if (pass == 0)
                on(world, job->reactor, job_read_back, job);
        }
    for (unsigned i = 0; i < JOBS; i++) {
        on(world, world->jobs[i].reactor, job_end, &world->jobs[i]);
        on(world, world->control, job_close_handle, &world->jobs[i]);
        sem_destroy(&world->jobs[i].ended);
    }
    on(world, world->control, detach_begin, world);
    on(world, world->control, target_end, world);
    on(world, world->control, disks_remove, world);
    for (unsigned i = 0; i < JOBS; i++)
        reactor_destroy(world->data[i]);
    reactor_destroy(world->target_data);
    reactor_destroy(world->control);
    block_graph_fini(&world->graph);
    host_linux_destroy(world->host);
    sem_destroy(&world->done);
    free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loopback)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
