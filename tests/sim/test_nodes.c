/* Three nodes of the product in the simulator, from one seed: each the control daemon's mind with its state, and a whole storage
 * plane that it starts itself, on a disk of its own; beside them a host that writes to the volume. Calls, deaths of daemons,
 * planes and machines, cut and slow links, answers of the state store that get lost. Then all is healed, and within 30 s of
 * simulated time everything is as the answers said:
 *
 *   one writer  after a write by way of a newer engine was answered, none by way of an older one that was begun later is;
 *   nothing is lost  every block holds the last write that was answered, or one begun later; snapshots that were answered are
 * there; all converges  replicas run, the engine has all of them whole, an engine that was superseded says so, nothing is under
 * way.
 *
 * Arguments: SEED COUNT. TRACE=1 prints the logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "block/device.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "control/internal.h"
#include "control/store/memory/memory.h"
#include "heap.h"
#include "host/sim/sim.h"
#include "host/sim/sim_disk.h"
#include "plane_rpc/plane.h"
#include "plane_rpc/rpc_methods.h"

enum {
    NODES = 3,
    BLOCKS = 8,
    BLOCK_BYTES = 4096,
    CALLS_MAX = 64,
    WRITERS_MAX = 12,
    ENGINES_MAX = 8,
    WRITES_MAX = 1 << 16,
    HEAPS_MAX = 64
};
#define VOLUME "vol"
#define DISK_BYTES MIB(96)
#define VOLUME_BYTES MIB(2)
#define CONVERGE_NS (30 * NS_PER_S)

/* A process of the product. Its memory stays until the world ends: what a daemon wrote to its state lies in it. */
struct process {
    struct heap heap;
    struct host *host;
};

struct machine {
    struct world *world;
    unsigned index;
    char address[16], name[8], socket_path[48];
    struct sim_node *node;
    struct process *daemon, *plane_process; /* NULL = not running */
    /* of the daemon */
    struct log log;
    struct reactor *reactor;
    struct store *store;
    struct control *control;
    struct store_memory_data *data;
    bool ready;
    /* of the plane */
    struct plane *plane;
    uint64_t plane_number;
    bool plane_wanted; /* it was started, and runs in a moment */
    void (*ended)(void *arg, int status);
    void *ended_arg;
    struct reactor_message begin, ended_message, go;
    bool ended_posted, go_posted;
    struct call *to_start;
};

struct call {
    struct control_goal goal;
    struct machine *machine;
    struct call *next;
    char name[32], snapshot[32];
    struct control_leg_record legs[NODES];
    bool busy, done;
};

struct write {
    uint32_t block, writer;
    bool answered;
    uint64_t begun_ns;
};

/* A host's way to the volume by one engine. */
struct writer {
    struct world *world;
    unsigned index;
    struct nvme_initiator_attach attach;
    char name[16], subnqn[96];
    unsigned engine;
    bool stopped, idle, read_done; /* idle: stopped, and no request is under way */
    struct block_handle handle;
    struct block_channel *channel;
    struct block_request request;
    struct slice slice;
    uint8_t *buffer;
    uint32_t value;
    uint64_t answered;
    struct reactor_message begin;
    struct reactor_timer retry;
};

struct world {
    struct sim *sim;
    struct random luck;
    uint64_t seed;
    struct machine machines[NODES];
    struct process processes[HEAPS_MAX];
    unsigned process_count;
    struct call calls[CALLS_MAX];
    uint64_t next_number;
    bool faults; /* of the state store */
    /* the host */
    struct sim_node *host_node;
    struct process *host_process;
    struct reactor *host_reactor;
    struct block_graph graph;
    struct nvme_initiator *initiator;
    struct writer writers[WRITERS_MAX];
    unsigned writer_count;
    struct write *writes;
    uint32_t write_count;
    uint64_t newest_answered_ns[WRITERS_MAX];
    /* what the answers said */
    unsigned engine, engine_at, engines; /* the newest engine, its node */
    bool unsure;                         /* whether anybody has it: a taking over was not answered well */
    struct {
        char name[32];
        bool there, sure;
    } snapshots[CALLS_MAX];
    unsigned snapshot_count;
    unsigned answered, refused, unknown, deaths;
};

static uint64_t draw(struct world *world, uint64_t below) { return random_below(&world->luck, below); }

/* ---- processes ---- */

static void switched(void *arg, void *owner) {
    struct process *process = owner;
    (void)arg;
    heap_enter(process == NULL ? NULL : &process->heap);
    if (process == NULL)
        reactor_enter(NULL); /* a kill may have jumped out of a turn */
}

static struct process *process_start(struct world *world, struct sim_node *node) {
    assert_true(world->process_count < HEAPS_MAX);
    struct process *process = &world->processes[world->process_count++];
    heap_init(&process->heap);
    process->host = sim_process_start(node);
    sim_process_set_owner(process->host, process);
    return process;
}

static void log_print(void *arg, const struct log_record *record) {
    const struct machine *machine = arg;
    if (getenv("TRACE") != NULL)
        printf("%9.3f %s %s\n", (double)sim_now_ns(machine->world->sim) / 1e9, machine->name, record->text);
}

static uint64_t log_wall_ns(void *arg) { return sim_now_ns(((struct machine *)arg)->world->sim); }

/* ---- a plane ---- */

static void plane_begin(void *arg) {
    static const int cpus[] = {-1};
    struct machine *machine = arg;
    struct error error;
    machine->plane_wanted = false;
    if (machine->plane_process != NULL || !sim_node_is_on(machine->node))
        return;
    machine->plane_process = process_start(machine->world, machine->node);
    machine->plane_number = ++machine->world->next_number;
    switched(NULL, machine->plane_process);
    struct plane_options options = {.host = machine->plane_process->host,
                                    .socket_path = machine->socket_path,
                                    .cpus = cpus,
                                    .cpu_count = 1,
                                    .version = "1.2.3",
                                    .pid = machine->plane_number,
                                    .table = &rpc_table_plane,
                                    .log_write = log_print,
                                    .arg = machine};
    if (!plane_create(&options, &machine->plane, &error))
        fail_msg("%s", error.text);
    switched(NULL, NULL);
}

static void tell_ended(struct reactor_message *message) {
    struct machine *machine = container_of(message, struct machine, ended_message);
    void (*ended)(void *arg, int status) = machine->ended;
    machine->ended_posted = false;
    machine->ended = NULL;
    if (ended != NULL)
        ended(machine->ended_arg, -1);
}

static void plane_ended(struct machine *machine) {
    machine->plane_process = NULL;
    if (machine->daemon == NULL || machine->ended == NULL || machine->ended_posted)
        return;
    machine->ended_posted = true;
    machine->ended_message.run = tell_ended;
    reactor_post(machine->reactor, &machine->ended_message);
}

static int process_of_plane_start(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct machine *machine = arg;
    machine->ended = ended;
    machine->ended_arg = ended_arg;
    *ret_process = machine;
    if (!machine->plane_wanted)
        sim_at(machine->world->sim, sim_now_ns(machine->world->sim) + NS_PER_MS, plane_begin, machine);
    machine->plane_wanted = true;
    return 0;
}

static int process_of_plane_adopt(void *arg, uint64_t number, void (*ended)(void *ended_arg, int status), void *ended_arg,
                                  void **ret_process) {
    struct machine *machine = arg;
    if (machine->plane_process == NULL || machine->plane_number != number)
        return -3; /* ESRCH */
    machine->ended = ended;
    machine->ended_arg = ended_arg;
    *ret_process = machine;
    return 0;
}

static void process_of_plane_release(void *arg, void *process) {
    (void)process;
    ((struct machine *)arg)->ended = NULL;
}

/* ---- a daemon ---- */

static enum store_memory_fault store_fault(void *arg, const struct store_request *request) {
    struct world *world = arg;
    if (!world->faults || request->verb != STORE_TRANSACT || draw(world, 10) != 0)
        return STORE_MEMORY_FINE;
    return draw(world, 2) == 0 ? STORE_MEMORY_LOSE : STORE_MEMORY_LOSE_ANSWER;
}

static void is_ready(void *arg, const struct error *error) {
    struct machine *machine = arg;
    if (error != NULL)
        fail_msg("seed %llu: %s: %s", (unsigned long long)machine->world->seed, machine->name, error->text);
    machine->ready = true;
}

static void daemon_run(struct reactor_message *message) {
    struct machine *machine = container_of(message, struct machine, begin);
    control_start(machine->control, is_ready, machine);
}

static void daemon_start(void *arg) {
    struct machine *machine = arg;
    struct world *world = machine->world;
    if (machine->daemon != NULL || !sim_node_is_on(machine->node))
        return;
    machine->daemon = process_start(world, machine->node);
    machine->ended = NULL;
    machine->ended_posted = machine->go_posted = machine->ready = false;
    switched(NULL, machine->daemon);
    struct reactor_options reactor = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(machine->daemon->host, &reactor, &machine->reactor), 0);
    reactor_enter(machine->reactor);
    log_init(&machine->log, log_wall_ns, log_print, machine);
    store_memory_data_abandon(machine->data);
    machine->store = store_memory_create(&(struct store_memory_options){.store = {.reactor = machine->reactor},
                                                                        .data = machine->data,
                                                                        .shuffle_seed = world->seed,
                                                                        .fault = store_fault,
                                                                        .fault_arg = world});
    assert_non_null(machine->store);
    struct control_options options = {
        .reactor = machine->reactor,
        .log = &machine->log,
        .store = machine->store,
        .node = machine->name,
        .address = machine->address,
        .socket_path = machine->socket_path,
        .plane_log_path = "its log",
        .processes = {process_of_plane_start, process_of_plane_adopt, process_of_plane_release, machine}};
    machine->control = control_create(&options);
    assert_non_null(machine->control);
    machine->begin.run = daemon_run;
    reactor_post(machine->reactor, &machine->begin);
    reactor_enter(NULL);
    assert_int_equal(reactor_start(machine->reactor), 0);
    switched(NULL, NULL);
}

/* ---- deaths ---- */

/* Calls to a daemon that dies end without an answer. */
static void daemon_ended(struct machine *machine) {
    machine->daemon = NULL;
    machine->to_start = NULL;
    for (unsigned i = 0; i < CALLS_MAX; i++)
        if (machine->world->calls[i].busy && machine->world->calls[i].machine == machine) {
            machine->world->calls[i].busy = false;
            machine->world->unknown++;
        }
}

static void kill_daemon(struct machine *machine) {
    if (machine->daemon == NULL)
        return;
    sim_process_kill(machine->daemon->host, draw(machine->world, 2) == 0 ? SIM_KILL_CLOSE : SIM_KILL_VANISH);
    daemon_ended(machine);
    machine->world->deaths++;
}

static void kill_plane(struct machine *machine) {
    if (machine->plane_process == NULL)
        return;
    sim_process_kill(machine->plane_process->host, draw(machine->world, 2) == 0 ? SIM_KILL_CLOSE : SIM_KILL_VANISH);
    plane_ended(machine);
    machine->world->deaths++;
}

static void power_off(struct machine *machine) {
    sim_node_power_off(machine->node);
    daemon_ended(machine);
    machine->plane_process = NULL;
    machine->world->deaths++;
}

static void power_on(void *arg) {
    struct machine *machine = arg;
    if (sim_node_is_on(machine->node))
        return;
    sim_node_power_on(machine->node);
    daemon_start(machine);
}

/* ---- calls ---- */

static void note_answer(struct call *call);

static void call_done(struct control_goal *goal) {
    struct call *call = container_of(goal, struct call, goal);
    call->done = true;
    call->busy = false;
    note_answer(call);
}

static void start_calls(struct reactor_message *message) {
    struct machine *machine = container_of(message, struct machine, go);
    machine->go_posted = false;
    while (machine->to_start != NULL) {
        struct call *call = machine->to_start;
        machine->to_start = call->next;
        control_goal_start(machine->control, &call->goal);
    }
}

static struct call *call_make(struct machine *machine, enum control_verb verb, const char *name) {
    struct world *world = machine->world;
    if (machine->daemon == NULL || !machine->ready)
        return NULL;
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        struct call *call = &world->calls[i];
        if (call->busy)
            continue;
        *call = (struct call){.machine = machine, .busy = true};
        snprintf(call->name, sizeof(call->name), "%s", name);
        call->goal = (struct control_goal){.verb = verb,
                                           .name = call->name,
                                           .path = "",
                                           .driver = "",
                                           .uuid = "",
                                           .store_name = "",
                                           .store_uuid = "",
                                           .snapshot = call->snapshot,
                                           .timestamp = "",
                                           .volume = "",
                                           .frontend = "",
                                           .engine = "",
                                           .target = "",
                                           .failure = "",
                                           .done = call_done};
        return call;
    }
    return NULL;
}

static void call_start(struct call *call) {
    struct machine *machine = call->machine;
    call->next = machine->to_start;
    machine->to_start = call;
    machine->go.run = start_calls;
    if (!machine->go_posted)
        reactor_post(machine->reactor, &machine->go);
    machine->go_posted = true;
}

static void engine_name(unsigned engine, char name[32]) { snprintf(name, 32, "e%u", engine); }

static void find_snapshot(struct world *world, const char *name, bool there, bool sure) {
    for (unsigned i = 0; i < world->snapshot_count; i++)
        if (strcmp(world->snapshots[i].name, name) == 0) {
            world->snapshots[i].there = there;
            world->snapshots[i].sure = sure;
        }
}

static void note_answer(struct call *call) {
    struct world *world = call->machine->world;
    bool ok = call->goal.error.code == ERROR_NONE;
    world->answered += ok;
    world->refused += !ok;
    if (getenv("TRACE") != NULL)
        printf("%9.3f %s call %d %s %s: %s\n", (double)sim_now_ns(world->sim) / 1e9, call->machine->name, (int)call->goal.verb,
               call->name, call->snapshot, ok ? "done" : call->goal.error.text);
    if (call->goal.verb == CONTROL_ENGINE_SNAPSHOT_CREATE && ok)
        find_snapshot(world, call->snapshot, true, true);
    else if (call->goal.verb == CONTROL_ENGINE_SNAPSHOT_DELETE && ok)
        find_snapshot(world, call->snapshot, false, true);
}

static bool call_is_over(void *arg) { return !((struct call *)arg)->busy; }

static void wait_for(struct world *world, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what) {
    enum sim_end end = sim_run_until(world->sim, condition, arg, for_ns, 0);
    if (end != SIM_MET)
        fail_msg("seed %llu: waited in vain for %s: %s", (unsigned long long)world->seed, what, sim_end_name(end));
}

/* Until it is well answered. */
static void call_must(struct call *call, const char *what) {
    assert_non_null(call);
    struct world *world = call->machine->world;
    call_start(call);
    wait_for(world, call_is_over, call, 120 * NS_PER_S, what);
    if (!call->done || call->goal.error.code != ERROR_NONE)
        fail_msg("seed %llu: %s: %s", (unsigned long long)world->seed, what, call->goal.error.text);
}

/* ---- the host ---- */

static void fill(uint8_t *buffer, uint32_t value) {
    for (size_t i = 0; i < BLOCK_BYTES / sizeof(value); i++)
        memcpy(buffer + i * sizeof(value), &value, sizeof(value));
}

static void write_next(struct writer *writer);

static void write_done(struct block_request *request) {
    struct writer *writer = container_of(request, struct writer, request);
    struct world *world = writer->world;
    struct write *write = &world->writes[writer->value];
    if (request->status == IO_OK) {
        write->answered = true;
        writer->answered++;
        uint64_t now = sim_now_ns(world->sim);
        if (world->newest_answered_ns[writer->index] == 0)
            world->newest_answered_ns[writer->index] = now;
        for (unsigned newer = writer->index + 1; newer < world->writer_count; newer++)
            if (world->newest_answered_ns[newer] != 0 && write->begun_ns > world->newest_answered_ns[newer])
                fail_msg("seed %llu: write %u by way of engine %u was answered, begun %.6f s after one by way of engine %u was",
                         (unsigned long long)world->seed, writer->value, writer->index,
                         (double)(write->begun_ns - world->newest_answered_ns[newer]) / 1e9, newer);
    }
    if (writer->stopped)
        writer->idle = true;
    else
        write_next(writer);
}

static void write_next(struct writer *writer) {
    struct world *world = writer->world;
    assert_true(world->write_count < WRITES_MAX);
    writer->value = world->write_count++;
    struct write *write = &world->writes[writer->value];
    *write = (struct write){.block = (uint32_t)draw(world, BLOCKS), .writer = writer->index, .begun_ns = sim_now_ns(world->sim)};
    fill(writer->buffer, writer->value);
    writer->slice = (struct slice){.base = writer->buffer, .length = BLOCK_BYTES};
    writer->request = (struct block_request){.op = BLOCK_WRITE,
                                             .flags = BLOCK_FUA,
                                             .slices = &writer->slice,
                                             .slice_count = 1,
                                             .offset = (uint64_t)write->block * BLOCK_BYTES,
                                             .length = BLOCK_BYTES,
                                             .complete = write_done};
    block_submit(writer->channel, &writer->request);
}

static void writer_retry(struct reactor_timer *timer) {
    struct writer *writer = container_of(timer, struct writer, retry);
    if (!writer->stopped)
        nvme_initiator_attach(writer->world->initiator, &writer->attach);
}

static void attached(struct nvme_initiator_attach *attach) {
    struct writer *writer = container_of(attach, struct writer, attach);
    struct world *world = writer->world;
    struct error error;
    char name[32];
    if (!attach->ok) { /* it died right now: a host tries on */
        writer->retry.run = writer_retry;
        reactor_timer_start(world->host_reactor, &writer->retry, reactor_now_ns(world->host_reactor) + 200 * NS_PER_MS);
        return;
    }
    snprintf(name, sizeof(name), "%sn1", writer->name);
    struct block_device *device = block_graph_find(&world->graph, name);
    if (device == NULL)
        fail_msg("seed %llu: %s has no namespace", (unsigned long long)world->seed, writer->name);
    writer->handle.owner = "the host";
    if (!block_handle_open(&writer->handle, device, BLOCK_MODE_WRITE, &error))
        fail_msg("%s", error.text);
    writer->channel = block_channel_open(&writer->handle);
    assert_non_null(writer->channel);
    write_next(writer);
}

static void writer_run(struct reactor_message *message) {
    struct writer *writer = container_of(message, struct writer, begin);
    nvme_initiator_attach(writer->world->initiator, &writer->attach);
}

/* A host connects to the newest engine, and writes there from now on; those to older ones go on trying. */
static void writer_start(struct world *world) {
    const struct machine *machine = &world->machines[world->engine_at];
    char engine[32];
    engine_name(world->engine, engine);
    const struct control_engine *control_engine = control_find_engine(machine->control, engine);
    assert_non_null(control_engine);
    assert_true(world->writer_count < WRITERS_MAX);
    struct writer *writer = &world->writers[world->writer_count];
    *writer = (struct writer){.world = world, .index = world->writer_count++, .engine = world->engine};
    writer->buffer = plain_alloc(BLOCK_BYTES);
    snprintf(writer->name, sizeof(writer->name), "w%u", writer->index);
    snprintf(writer->subnqn, sizeof(writer->subnqn), "nqn.2023-01.io.longhorn.spdk:volume-%s", VOLUME);
    writer->attach = (struct nvme_initiator_attach){.name = writer->name,
                                                    .subnqn = writer->subnqn,
                                                    .address = {.family = HOST_IPV4, .port = control_engine->record.port},
                                                    .loss_set = true,
                                                    .loss = {.ctrlr_loss_timeout_ms = -1, .reconnect_delay_ms = 200},
                                                    .done = attached};
    memcpy(writer->attach.address.text, machine->address, sizeof(machine->address));
    writer->begin.run = writer_run;
    reactor_post(world->host_reactor, &writer->begin);
}

static void host_start(struct world *world) {
    struct error error;
    world->host_node = sim_node_create(world->sim, "host", "10.0.0.9");
    world->host_process = process_start(world, world->host_node);
    switched(NULL, world->host_process);
    struct reactor_options options = {.name = "host", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(world->host_process->host, &options, &world->host_reactor), 0);
    reactor_enter(world->host_reactor);
    block_graph_init(&world->graph, world->host_process->host, 1);
    if (!nvme_initiator_create(&world->graph, world->host_reactor, &world->initiator, &error))
        fail_msg("%s", error.text);
    reactor_enter(NULL);
    assert_int_equal(reactor_start(world->host_reactor), 0);
    switched(NULL, NULL);
}

/* ---- the world ---- */

static bool all_ready(void *arg) {
    struct world *world = arg;
    for (unsigned i = 0; i < NODES; i++)
        if (world->machines[i].daemon == NULL || !world->machines[i].ready)
            return false;
    return true;
}

static bool writes(void *arg) {
    struct world *world = arg;
    return world->writers[world->writer_count - 1].answered > 0;
}

static struct call *engine_create(struct world *world, unsigned at) {
    char name[32];
    engine_name(world->engines, name);
    struct call *call = call_make(&world->machines[at], CONTROL_ENGINE_CREATE, name);
    if (call == NULL)
        return NULL;
    call->goal.volume = VOLUME;
    call->goal.frontend = "spdk-tcp-nvmf";
    call->goal.bytes = VOLUME_BYTES;
    call->goal.port_count = 1;
    call->goal.legs = call->legs;
    call->goal.leg_count = NODES;
    for (unsigned i = 0; i < NODES; i++) {
        snprintf(call->legs[i].name, sizeof(call->legs[i].name), "r%u", i);
        snprintf(call->legs[i].address, sizeof(call->legs[i].address), "10.0.0.%u:20001", i + 1);
    }
    return call;
}

static void world_create(struct world *world, uint64_t seed) {
    struct sim_options options;
    switched(NULL, NULL);
    *world = (struct world){.seed = seed};
    random_init(&world->luck, seed);
    world->writes = plain_alloc(WRITES_MAX * sizeof(*world->writes));
    world->write_count = 1; /* 0 = zeros */
    sim_options_init(&options, seed);
    options.allocate = plain_alloc;
    options.release = plain_free;
    world->sim = sim_create(&options);
    sim_set_switch_hook(world->sim, switched, NULL);
    for (unsigned i = 0; i < NODES; i++) {
        struct machine *machine = &world->machines[i];
        *machine = (struct machine){.world = world, .index = i};
        snprintf(machine->name, sizeof(machine->name), "n%u", i + 1);
        snprintf(machine->address, sizeof(machine->address), "10.0.0.%u", i + 1);
        snprintf(machine->socket_path, sizeof(machine->socket_path), "/run/plane.sock");
        machine->node = sim_node_create(world->sim, machine->name, machine->address);
        struct sim_disk_options disk;
        sim_disk_options_init(&disk, DISK_BYTES);
        sim_node_attach(machine->node, "/disk", sim_disk_create(world->sim, &disk));
        machine->data = store_memory_data_create();
        assert_non_null(machine->data);
        daemon_start(machine);
    }
    host_start(world);
    wait_for(world, all_ready, world, 10 * NS_PER_S, "the daemons");
    for (unsigned i = 0; i < NODES; i++) {
        struct call *call = call_make(&world->machines[i], CONTROL_DISK_OPEN, "d");
        call->goal.path = "/disk";
        call->goal.bytes = 4096;
        call_must(call, "a disk");
        char name[8];
        snprintf(name, sizeof(name), "r%u", i);
        call = call_make(&world->machines[i], CONTROL_REPLICA_CREATE, name);
        call->goal.store_name = "d";
        call->goal.bytes = VOLUME_BYTES;
        call->goal.port_count = 1;
        call_must(call, "a replica");
    }
    call_must(engine_create(world, 0), "the engine");
    world->engines = 1;
    writer_start(world);
    wait_for(world, writes, world, 30 * NS_PER_S, "the first write");
    world->faults = true;
}

static void world_destroy(struct world *world) {
    for (unsigned i = 0; i < NODES; i++)
        if (sim_node_is_on(world->machines[i].node))
            sim_node_power_off(world->machines[i].node);
    sim_node_power_off(world->host_node);
    for (unsigned i = 0; i < NODES; i++) {
        store_memory_data_abandon(world->machines[i].data);
        store_memory_data_destroy(world->machines[i].data);
    }
    sim_destroy(world->sim);
    for (unsigned i = 0; i < world->process_count; i++)
        heap_drop(&world->processes[i].heap);
    for (unsigned i = 0; i < world->writer_count; i++)
        plain_free(world->writers[i].buffer);
    plain_free(world->writes);
}

/* ---- what happens ---- */

static void snapshot(struct world *world) {
    struct machine *machine = &world->machines[world->engine_at];
    char engine[32];
    engine_name(world->engine, engine);
    bool create = world->snapshot_count == 0 || (world->snapshot_count < 12 && draw(world, 3) != 0);
    unsigned which = create ? world->snapshot_count : (unsigned)draw(world, world->snapshot_count);
    for (unsigned i = 0; i < CALLS_MAX; i++) /* one call about each at a time, so that its answer counts */
        if (!create && world->calls[i].busy && strcmp(world->calls[i].snapshot, world->snapshots[which].name) == 0)
            return;
    struct call *call = call_make(machine, create ? CONTROL_ENGINE_SNAPSHOT_CREATE : CONTROL_ENGINE_SNAPSHOT_DELETE, engine);
    if (call == NULL)
        return;
    if (create)
        snprintf(world->snapshots[world->snapshot_count++].name, sizeof(world->snapshots[0].name), "s%u", which);
    world->snapshots[which].sure = false;
    snprintf(call->snapshot, sizeof(call->snapshot), "%s", world->snapshots[which].name);
    call_start(call);
}

static bool volume_call_busy(const struct world *world) {
    for (unsigned i = 0; i < CALLS_MAX; i++)
        if (world->calls[i].busy && world->calls[i].goal.verb >= CONTROL_ENGINE_CREATE)
            return true;
    return false;
}

/* NULL: it was not, or nobody knows. */
static const struct control_engine *engine_made(const struct call *call, unsigned engine) {
    char name[32];
    engine_name(engine, name);
    const struct control_engine *made = call->done && call->goal.error.code == ERROR_NONE && call->machine->daemon != NULL
                                            ? control_find_engine(call->machine->control, name)
                                            : NULL;
    return made != NULL && made->record.failure[0] == '\0' ? made : NULL;
}

/* Somebody takes the volume over, on another node: the one that has it is taken for dead. */
static void take_over(struct world *world) {
    unsigned at = (world->engine_at + 1 + (unsigned)draw(world, NODES - 1)) % NODES;
    if (world->engines == ENGINES_MAX || volume_call_busy(world) || world->machines[at].daemon == NULL ||
        !world->machines[at].ready)
        return;
    char name[32];
    for (unsigned i = 0; i < world->engines; i++) { /* one engine of a volume on a node: an old one goes first */
        engine_name(i, name);
        if (control_find_engine(world->machines[at].control, name) != NULL)
            return;
    }
    struct call *call = engine_create(world, at);
    if (call == NULL)
        return;
    call_start(call);
    unsigned engine = world->engines++;
    sim_run_until(world->sim, call_is_over, call, 90 * NS_PER_S, 0);
    const struct control_engine *made = engine_made(call, engine);
    if (made != NULL && made->record.standby) { /* the one before lives: this one claims the replicas all the same */
        engine_name(engine, name);
        call = call_make(&world->machines[at], CONTROL_ENGINE_ANA, name);
        if (call != NULL) {
            call->goal.ana = "optimized";
            call_start(call);
            sim_run_until(world->sim, call_is_over, call, 90 * NS_PER_S, 0);
            made = engine_made(call, engine);
        }
    }
    world->unsure = made == NULL || made->record.standby;
    if (!world->unsure) {
        world->engine = engine;
        world->engine_at = at;
        writer_start(world);
    }
}

static void happen(struct world *world) {
    struct machine *machine = &world->machines[draw(world, NODES)], *other = &world->machines[draw(world, NODES)];
    uint64_t now = sim_now_ns(world->sim);
    switch (draw(world, 12)) {
    case 0:
    case 1:
        kill_daemon(machine);
        sim_at(world->sim, now + draw(world, 2 * NS_PER_S), daemon_start, machine);
        break;
    case 2:
    case 3: kill_plane(machine); break;
    case 4:
        kill_daemon(machine);
        kill_plane(machine);
        sim_at(world->sim, now + draw(world, 2 * NS_PER_S), daemon_start, machine);
        break;
    case 5:
        if (sim_node_is_on(machine->node)) {
            power_off(machine);
            sim_at(world->sim, now + draw(world, 5 * NS_PER_S), power_on, machine);
        }
        break;
    case 6:
        if (machine != other)
            sim_cut(machine->node, other->node, true);
        break;
    case 7:
        for (unsigned i = 0; i < NODES; i++)
            if (&world->machines[i] != machine)
                sim_cut(machine->node, world->machines[i].node, false);
        break;
    case 8: take_over(world); break;
    default: snapshot(world); break;
    }
    sim_run_for(world->sim, draw(world, 1500) * NS_PER_MS);
}

static void heal(struct world *world) {
    world->faults = false;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < NODES; k++)
            if (i != k)
                sim_cut(world->machines[i].node, world->machines[k].node, false);
    for (unsigned i = 0; i < NODES; i++) {
        power_on(&world->machines[i]);
        daemon_start(&world->machines[i]);
    }
}

/* ---- at the end ---- */

static bool is_quiet(const struct control *control, char *why, size_t size) {
    for (unsigned kind = 0; kind < CONTROL_KINDS; kind++)
        list_for_each (&control->objects[kind], struct control_object, object, node)
            if (!list_empty(&object->goals)) {
                snprintf(why, size, "something is under way");
                return false;
            }
    return true;
}

/* NULL: it is as it should be. */
static const char *machine_is_wrong(struct world *world, struct machine *machine, char *why, size_t size) {
    char name[32];
    if (machine->daemon == NULL || !machine->ready)
        return "its daemon is not ready";
    struct control *control = machine->control;
    snprintf(name, sizeof(name), "r%u", machine->index);
    const struct control_replica *replica = control_find_replica(control, name);
    if (replica == NULL || replica->state != CONTROL_RUNNING) {
        snprintf(why, size, "replica %s: %s", name, replica == NULL ? "gone" : replica->reason);
        return why;
    }
    for (unsigned i = 0; i < world->engines; i++) {
        engine_name(i, name);
        const struct control_engine *engine = control_find_engine(control, name);
        if (engine == NULL)
            continue;
        bool whole = engine->state == CONTROL_RUNNING;
        for (unsigned leg = 0; leg < engine->record.leg_count; leg++)
            whole = whole && engine->legs[leg].mode == CONTROL_LEG_RW;
        /* Its making may have been cut off: then it is an error; so is one that was superseded. */
        if (engine->state != CONTROL_ERROR && !whole) {
            snprintf(why, size, "engine %s: %s %s", name, control_state_name(engine->state), engine->reason);
            return why;
        }
    }
    return is_quiet(control, why, size) ? NULL : why;
}

static bool engines_that_serve(struct world *world, unsigned *ret_count, unsigned *ret_at, unsigned *ret_engine) {
    char name[32];
    *ret_count = 0;
    for (unsigned m = 0; m < NODES; m++)
        for (unsigned i = 0; i < world->engines; i++) {
            engine_name(i, name);
            const struct control_engine *engine =
                world->machines[m].daemon == NULL ? NULL : control_find_engine(world->machines[m].control, name);
            if (engine == NULL || engine->state != CONTROL_RUNNING || engine->record.standby)
                continue;
            ++*ret_count;
            *ret_at = m;
            *ret_engine = i;
        }
    return *ret_count == 1;
}

static bool converged(void *arg) {
    struct world *world = arg;
    char why[400];
    unsigned count, at, engine;
    for (unsigned i = 0; i < NODES; i++)
        if (machine_is_wrong(world, &world->machines[i], why, sizeof(why)) != NULL)
            return false;
    return engines_that_serve(world, &count, &at, &engine) || (count == 0 && world->unsure);
}

/* Whoever took it over has failed, and the one before was superseded: it is made again, as its user would. */
static void make_again(struct world *world) {
    char name[32];
    for (unsigned i = 0; i < world->engines; i++) {
        engine_name(i, name);
        if (control_find_engine(world->machines[0].control, name) != NULL)
            call_must(call_make(&world->machines[0], CONTROL_ENGINE_DELETE, name), "the end of a failed engine");
    }
    world->engine = world->engines++;
    world->engine_at = 0;
    world->engines--; /* its name */
    call_must(engine_create(world, 0), "another engine");
    world->engines++;
    world->unsure = false;
}

/* For people: what a node thinks, and does. */
static void show(const struct world *world, const struct machine *machine) {
    for (unsigned kind = 0; machine->daemon != NULL && kind < CONTROL_KINDS; kind++)
        list_for_each (&machine->control->objects[kind], struct control_object, object, node) {
            print_message("  %s: %s failures %u %s\n", control_object_name(object),
                          kind != CONTROL_ENGINES ? "" : engine_of(object)->reason, object->failures, object->failure);
            list_for_each (&object->goals, struct control_goal, goal, node)
                print_message("    goal %d, stage %d, method %s, since %.3f s\n", (int)goal->verb, (int)goal->stage,
                              goal->call.method != NULL ? goal->call.method : "none", (double)(sim_now_ns(world->sim)) / 1e9);
        }
}

static void check_converged(struct world *world) {
    char why[400];
    unsigned count, at = 0, engine = 0;
    uint64_t begin = sim_now_ns(world->sim);
    if (sim_run_until(world->sim, converged, world, CONVERGE_NS, 0) != SIM_MET) {
        for (unsigned i = 0; i < NODES; i++) {
            const char *wrong = machine_is_wrong(world, &world->machines[i], why, sizeof(why));
            print_message("n%u: %s\n", i + 1, wrong == NULL ? "well" : wrong);
            show(world, &world->machines[i]);
        }
        engines_that_serve(world, &count, &at, &engine);
        fail_msg("seed %llu: after 30 s not all is as it should be; %u engines serve", (unsigned long long)world->seed, count);
    }
    if (!engines_that_serve(world, &count, &at, &engine)) {
        make_again(world);
        wait_for(world, converged, world, CONVERGE_NS, "another engine to run");
        engines_that_serve(world, &count, &at, &engine);
    }
    if (getenv("TRACE") != NULL)
        printf("converged after %.3f s\n", (double)(sim_now_ns(world->sim) - begin) / 1e9);
    world->engine = engine;
    world->engine_at = at;
}

static void check_snapshots(struct world *world) {
    const struct machine *machine = &world->machines[world->engine_at];
    char name[32];
    engine_name(world->engine, name);
    const struct observed_mirror *mirror = observed_mirror(control_seen(machine->control), name);
    assert_non_null(mirror);
    for (unsigned i = 0; i < world->snapshot_count; i++) {
        bool there = false;
        size_t k;
        const json_t *snapshot;
        json_array_foreach(mirror->tree, k, snapshot) there |=
            strcmp(json_string_value(json_object_get(snapshot, "name")), world->snapshots[i].name) == 0;
        if (world->snapshots[i].sure && there != world->snapshots[i].there)
            fail_msg("seed %llu: snapshot %s is %sthere", (unsigned long long)world->seed, world->snapshots[i].name,
                     there ? "" : "not ");
    }
}

/* ---- reading all back ---- */

static void read_next(struct writer *writer);

static void read_done(struct block_request *request) {
    struct writer *writer = container_of(request, struct writer, request);
    struct world *world = writer->world;
    uint32_t found, block = writer->value, last = 0;
    memcpy(&found, writer->buffer, sizeof(found));
    if (request->status != IO_OK)
        fail_msg("seed %llu: block %u cannot be read: status %d", (unsigned long long)world->seed, block, request->status);
    for (size_t i = 0; i < BLOCK_BYTES / sizeof(found); i++)
        assert_memory_equal(writer->buffer + i * sizeof(found), &found, sizeof(found));
    for (uint32_t i = 1; i < world->write_count; i++)
        if (world->writes[i].block == block && world->writes[i].answered)
            last = i;
    bool known = found == 0 ? true : found < world->write_count && world->writes[found].block == block;
    if (!known || found < last)
        fail_msg("seed %llu: block %u holds write %u, answered was %u", (unsigned long long)world->seed, block, found, last);
    writer->value++;
    if (writer->value < BLOCKS)
        read_next(writer);
    else
        writer->read_done = true;
}

static void read_next(struct writer *writer) {
    writer->slice = (struct slice){.base = writer->buffer, .length = BLOCK_BYTES};
    writer->request = (struct block_request){.op = BLOCK_READ,
                                             .slices = &writer->slice,
                                             .slice_count = 1,
                                             .offset = (uint64_t)writer->value * BLOCK_BYTES,
                                             .length = BLOCK_BYTES,
                                             .complete = read_done};
    block_submit(writer->channel, &writer->request);
}

static void read_begin(struct reactor_message *message) {
    struct writer *writer = container_of(message, struct writer, begin);
    writer->value = 0;
    read_next(writer);
}

static bool is_idle(void *arg) { return ((struct writer *)arg)->idle; }
static bool is_read(void *arg) { return ((struct writer *)arg)->read_done; }

static void check_data(struct world *world) {
    for (unsigned i = 0; i < world->writer_count; i++)
        world->writers[i].stopped = true;
    struct writer *writer = &world->writers[world->writer_count - 1];
    if (writer->engine != world->engine) {
        writer_start(world);
        writer = &world->writers[world->writer_count - 1];
        writer->stopped = true;
    }
    wait_for(world, is_idle, writer, 60 * NS_PER_S, "the last write");
    writer->begin.run = read_begin;
    reactor_post(world->host_reactor, &writer->begin);
    wait_for(world, is_read, writer, 60 * NS_PER_S, "all blocks to be read");
}

static void run_seed(uint64_t seed) {
    struct world *world = plain_alloc(sizeof(*world));
    world_create(world, seed);
    unsigned steps = 12 + (unsigned)draw(world, 12);
    for (unsigned i = 0; i < steps; i++)
        happen(world);
    heal(world);
    check_converged(world);
    check_snapshots(world);
    check_data(world);
    print_message("seed %llu: %u answered, %u refused, %u unknown, %u deaths, %u engines, %u writes\n", (unsigned long long)seed,
                  world->answered, world->refused, world->unknown, world->deaths, world->engines, world->write_count);
    world_destroy(world);
    plain_free(world);
}

static uint64_t first_seed = 1, seed_count = 3;

static void test_seeds(void **state) {
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
        run_seed(seed);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds)};
    heap_keep_memory();
    json_set_alloc_funcs(malloc, free);
    json_object_seed(1);
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed_count = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
