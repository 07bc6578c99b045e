/* See sim_rig.h. */
#include "sim_rig.h"

#include <stdio.h>
#include <stdlib.h>

static bool wait(struct fixture *fixture, bool (*condition)(void *arg), void *arg) {
    struct rig *rig = container_of(fixture, struct rig, fixture);
    enum sim_end end = sim_run_until(rig->sim, condition, arg, 3600 * NS_PER_S, 20 * 1000 * 1000);
    if (end != SIM_MET)
        print_error("%s\n", sim_end_name(end));
    return end == SIM_MET;
}

void rig_restart(struct rig *rig) {
    rig->host = rig->fixture.host = sim_process_start(rig->node);
    actor_init(&rig->actor, &rig->fixture);
}

void rig_init_options(struct rig *rig, const struct sim_options *options) {
    print_message("seed %llu\r", (unsigned long long)options->seed);
    *rig = (struct rig){.fixture = {.directory = "", .wait = wait}};
    rig->sim = sim_create(options);
    rig->node = sim_node_create(rig->sim, "one", "10.0.0.1");
    rig_restart(rig);
}

void rig_init(struct rig *rig, uint64_t seed) {
    struct sim_options options;
    sim_options_init(&options, seed);
    rig_init_options(rig, &options);
}

void rig_join(struct rig *rig, struct rig *other, const char *name, const char *address) {
    *rig = (struct rig){.fixture = {.directory = "", .wait = wait}, .sim = other->sim};
    rig->node = sim_node_create(rig->sim, name, address);
    rig_restart(rig);
}

void rig_exit(struct rig *rig) {
    actor_fini(&rig->actor);
    sim_process_exit(rig->host);
}

void rig_fini(struct rig *rig) { sim_destroy(rig->sim); }

static void io_complete(struct host_file_request *request) {
    struct rig_io *io = container_of(request, struct rig_io, request);
    assert(!io->done);
    io->done = true;
}
static void io_submit(struct actor *actor, void *arg) { host_file_submit(actor->loop, &((struct rig_io *)arg)->request); }
static bool io_is_done(void *arg) { return ((struct rig_io *)arg)->done; }

struct rig_io *rig_io_create(struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length) {
    struct rig_io *io = calloc(1, sizeof(*io));
    assert_non_null(io);
    bool moves = op == HOST_FILE_READ || op == HOST_FILE_WRITE;
    io->data = moves ? aligned_alloc(4096, round_up(length, 4096)) : NULL;
    io->slice = (struct slice){io->data, (size_t)length};
    io->request = (struct host_file_request){.file = file,
                                             .op = op,
                                             .slices = &io->slice,
                                             .slice_count = moves ? 1 : 0,
                                             .offset = offset,
                                             .length = length,
                                             .complete = io_complete};
    return io;
}

void rig_io_submit(struct rig *rig, struct rig_io *io) { actor_do(&rig->actor, io_submit, io); }

void rig_io_submit_unawaited(struct rig *rig, struct rig_io *io) {
    rig->actor.call = io_submit;
    rig->actor.arg = io;
    atomic_fetch_add(&rig->actor.asked, 1);
    host_loop_wake(rig->actor.loop);
}

struct rig_io *rig_io_start(struct rig *rig, struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length,
                            uint8_t fill) {
    struct rig_io *io = rig_io_create(file, op, offset, length);
    if (io->data != NULL)
        memset(io->data, fill, (size_t)length);
    rig_io_submit(rig, io);
    return io;
}

void rig_io_wait(struct rig *rig, struct rig_io *io) { actor_wait(&rig->actor, io_is_done, io, "an I/O"); }

void rig_io_free(struct rig_io *io) {
    free(io->data);
    free(io);
}

struct host_file *rig_open(struct rig *rig, const char *name, bool hold) {
    struct host_file_open open;
    struct host_file_options options = {.direct = true, .hold = hold, .hold_timeout_ms = 1000};
    struct host_file *file = actor_open(&rig->actor, name, options, &open);
    if (file == NULL)
        fail_msg("%s", open.error.text);
    return file;
}
