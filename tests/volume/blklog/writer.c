/* The recorded run: a store on a real file through host/linux (io_uring and fdatasync), doing what plan.h says. Usage:
 * blklog_writer FILE. Prints the number of batches at the end; a failing request ends it with 1. */
#include <stdio.h>
#include <stdlib.h>

#include "blockdev/file/file.h"
#include "blockdev/volume/volume.h"
#include "host/linux/linux.h"
#include "plan.h"

struct run {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct file_device_create create;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command command;
    struct {
        struct block_handle handle;
        struct block_channel *channel;
    } volumes[PLAN_VOLUMES + 1];
    unsigned waiting;
};

static void die(const char *what, const char *why) {
    fprintf(stderr, "blklog_writer: %s: %s\n", what, why);
    exit(1);
}

/* Turns the loop until as much is answered as was asked for. */
static void wait_all(struct run *run) {
    reactor_enter(NULL);
    while (run->waiting > 0)
        host_linux_loop_run(run->reactor->loop);
    reactor_enter(run->reactor);
}
static void answered(struct run *run) {
    if (--run->waiting == 0)
        host_loop_stop(run->reactor->loop);
}

static void created(struct file_device_create *create) { answered(container_of(create, struct run, create)); }
static void formatted(struct volume_store_format *format) { answered(container_of(format, struct run, format)); }
static void opened(struct volume_store_open *open) { answered(container_of(open, struct run, open)); }
static void commanded(struct volume_command *command) { answered(container_of(command, struct run, command)); }

static void command(struct run *run, void (*call)(struct volume_command *), struct volume_command command, const char *what) {
    run->command = command;
    run->command.store = run->open.store;
    run->command.done = commanded;
    run->waiting++;
    call(&run->command);
    wait_all(run);
    if (!run->command.ok)
        die(what, run->command.error.text);
}

struct io {
    struct block_request request;
    struct slice slice;
    struct run *run;
    uint8_t *bytes;
};
static void io_done(struct block_request *request) {
    struct io *io = container_of(request, struct io, request);
    if (request->status != IO_OK)
        die("a request", io_status_name((enum io_status)request->status));
    free(io->bytes);
    struct run *run = io->run;
    free(io);
    answered(run);
}

static void submit(struct run *run, unsigned volume, enum block_op op, uint32_t block, uint32_t count, uint32_t batch) {
    struct io *io = calloc(1, sizeof(*io));
    assert(io != NULL);
    io->run = run;
    io->request = (struct block_request){.op = (uint8_t)op,
                                         .offset = (uint64_t)block * 4096,
                                         .length = (uint64_t)count * 4096,
                                         .slices = &io->slice,
                                         .complete = io_done};
    if (op == BLOCK_WRITE) {
        io->bytes = aligned_alloc(4096, (size_t)count * 4096);
        assert(io->bytes != NULL);
        for (uint32_t i = 0; i < count; i++)
            plan_fill(io->bytes + (size_t)i * 4096, volume, block + i, batch);
        io->slice = (struct slice){io->bytes, (size_t)count * 4096};
        io->request.slice_count = 1;
    }
    run->waiting++;
    block_submit(run->volumes[volume].channel, &io->request);
}

static void batch_run(struct run *run, uint32_t number) {
    struct plan_batch batch;
    char name[32];
    plan_batch(number, &batch);
    for (unsigned i = 0; i < PLAN_REGIONS; i++) {
        const struct plan_operation *o = &batch.operations[i];
        submit(run, o->volume, o->trim ? BLOCK_TRIM : BLOCK_WRITE, o->block, o->count, number);
    }
    wait_all(run);
    for (unsigned i = 0; i < PLAN_VOLUMES; i++)
        submit(run, i, BLOCK_FLUSH, 0, 0, 0);
    wait_all(run);
    if (batch.snapshot) {
        struct volume_command snapshot = {.name = name};
        snprintf(name, sizeof(name), "s%u", number);
        plan_uuid(batch.volume, &snapshot.volume);
        plan_uuid(100 + number, &snapshot.new_uuid);
        command(run, volume_snapshot_create, snapshot, "a snapshot");
    }
    if (batch.drop) {
        struct volume_command drop = {0};
        plan_uuid(100 + batch.dropped_batch, &drop.volume);
        command(run, volume_delete, drop, "a deletion");
    }
    submit(run, PLAN_MARKER, BLOCK_WRITE, 0, 1, number);
    wait_all(run);
    submit(run, PLAN_MARKER, BLOCK_FLUSH, 0, 0, 0);
    wait_all(run);
}

static void start(struct run *run, const char *path) {
    struct host_linux_options options = {0};
    if (host_linux_create(&options, &run->host) != 0)
        die("host", "cannot be made");
    struct reactor_options reactor = {.name = "writer", .cpu = -1};
    if (reactor_create(run->host, &reactor, &run->reactor) != 0)
        die("reactor", "cannot be made");
    block_graph_init(&run->graph, run->host, 1);
    reactor_enter(run->reactor);
    run->create = (struct file_device_create){.options = {.name = "disk", .path = path, .block_size = 512}, .done = created};
    run->waiting++;
    file_device_create_submit(&run->graph, run->reactor, &run->create);
    wait_all(run);
    if (!run->create.ok)
        die(path, run->create.error.text);
    run->format = (struct volume_store_format){.base = run->create.device,
                                               .home = run->reactor,
                                               .name = "blklog",
                                               .unit_bytes = 4096,
                                               .journal_bytes = MIB(1),
                                               .done = formatted};
    run->waiting++;
    volume_store_format(&run->format);
    wait_all(run);
    if (!run->format.ok)
        die("formatting", run->format.error.text);
    run->open =
        (struct volume_store_open){.base = run->create.device, .home = run->reactor, .checkpoint_bytes = KIB(64), .done = opened};
    run->waiting++;
    volume_store_open(&run->open);
    wait_all(run);
    if (!run->open.ok)
        die("opening", run->open.error.text);
    for (unsigned i = 0; i <= PLAN_VOLUMES; i++) {
        char name[32], uuid[UUID_TEXT_SIZE];
        struct volume_command create = {.name = name, .size_bytes = i == PLAN_MARKER ? 4096 : PLAN_BLOCKS * 4096};
        snprintf(name, sizeof(name), "v%u", i);
        plan_uuid(i, &create.new_uuid);
        command(run, volume_create, create, "a volume");
        uuid_format(&create.new_uuid, uuid);
        struct block_device *device = block_graph_find(&run->graph, uuid);
        run->volumes[i].handle = (struct block_handle){.owner = "writer"};
        if (device == NULL || !block_handle_open(&run->volumes[i].handle, device, BLOCK_MODE_WRITE, NULL))
            die("a volume", "cannot be opened");
        run->volumes[i].channel = block_channel_open(&run->volumes[i].handle);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: blklog_writer FILE\n");
        return 2;
    }
    struct run *run = calloc(1, sizeof(*run));
    assert(run != NULL);
    start(run, argv[1]);
    for (uint32_t number = 1; number <= PLAN_BATCHES; number++)
        batch_run(run, number);
    printf("%u batches\n", PLAN_BATCHES);
    fflush(stdout);
    _Exit(0); /* as a killed process: nothing is closed */
}
