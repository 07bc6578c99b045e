#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "block/device.h"
#include "host/sim/sim_disk.h"
#include "plane_rpc/plane.h"
#include "plane_rpc/rpc_methods.h"

uint64_t ground_draw(struct ground *ground, uint64_t below) { return random_below(&ground->luck, below); }
double ground_seconds(const struct ground *ground) { return (double)sim_now_ns(ground->sim) / 1e9; }
bool ground_traces(void) { return getenv("TRACE") != NULL; }

void ground_wait(struct ground *ground, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what) {
    enum sim_end end = sim_run_until(ground->sim, condition, arg, for_ns, 0);
    if (end != SIM_MET)
        ground_fail(ground, "waited in vain for %s: %s", what, sim_end_name(end));
}

/* ---- processes ---- */

static void switched(void *arg, void *owner) {
    struct process *process = owner;
    (void)arg;
    heap_enter(process == NULL ? NULL : &process->heap);
    if (process == NULL)
        reactor_enter(NULL); /* a kill may have jumped out of a turn */
}

struct process *process_start(struct ground *ground, struct sim_node *node) {
    assert_true(ground->process_count < HEAPS_MAX);
    struct process *process = &ground->processes[ground->process_count++];
    heap_init(&process->heap);
    process->host = sim_process_start(node);
    sim_process_set_owner(process->host, process);
    return process;
}

void process_enter(struct process *process) { switched(NULL, process); }

static void log_print(void *arg, const struct log_record *record) {
    const struct machine *machine = arg;
    if (ground_traces())
        printf("%9.3f %s %s\n", ground_seconds(machine->ground), machine->name, record->text);
}

static uint64_t log_wall_ns(void *arg) { return sim_now_ns(((struct machine *)arg)->ground->sim); }

/* ---- a plane ---- */

static void plane_begin(void *arg) {
    static const int cpus[] = {-1};
    struct machine *machine = arg;
    struct error error;
    machine->plane_wanted = false;
    if (machine->plane_process != NULL || !sim_node_is_on(machine->node))
        return;
    machine->plane_process = process_start(machine->ground, machine->node);
    machine->plane_number = ++machine->ground->next_number;
    process_enter(machine->plane_process);
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
    process_enter(NULL);
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
        sim_at(machine->ground->sim, sim_now_ns(machine->ground->sim) + NS_PER_MS, plane_begin, machine);
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
    struct ground *ground = arg;
    if (!ground->faults || request->verb != STORE_TRANSACT || ground_draw(ground, 10) != 0)
        return STORE_MEMORY_FINE;
    return ground_draw(ground, 2) == 0 ? STORE_MEMORY_LOSE : STORE_MEMORY_LOSE_ANSWER;
}

static void is_ready(void *arg, const struct error *error) {
    struct machine *machine = arg;
    if (error != NULL)
        ground_fail(machine->ground, "%s: %s", machine->name, error->text);
    machine->ready = true;
}

static void call_node(void *arg, struct fleet_call *call) { gateway_fleet_call(((struct machine *)arg)->gateway, call); }

/* Its volumes are read: from now on it answers. */
static void fleet_is_ready(void *arg, const struct error *failed) {
    struct machine *machine = arg;
    struct grpc_server_options options = {.reactor = machine->reactor};
    struct gateway_options gateway = {
        .control = machine->control, .fleet = machine->fleet, .address = machine->address, .version = "1.2.3"};
    struct grpc_listen_options listen = {.address = {.family = HOST_IPV4, .port = GATEWAY_PEER_PORT}};
    struct error error;
    snprintf(listen.address.text, sizeof(listen.address.text), "%s", machine->address);
    machine->server = grpc_server_create(&options);
    assert_non_null(machine->server);
    machine->gateway = gateway_create(machine->server, &gateway);
    assert_non_null(machine->gateway);
    if (!grpc_server_listen(machine->server, &listen, NULL, &error))
        ground_fail(machine->ground, "%s: %s", machine->name, error.text);
    fleet_run(machine->fleet);
    is_ready(machine, failed);
}

static void control_is_ready(void *arg, const struct error *error) {
    struct machine *machine = arg;
    const struct fleet_options fleet = {.control = machine->control,
                                        .store = machine->store,
                                        .node = machine->name,
                                        .address = machine->address,
                                        .peers = {call_node, machine}};
    if (error != NULL || !machine->ground->serves) {
        is_ready(machine, error);
        return;
    }
    machine->fleet = fleet_create(&fleet);
    assert_non_null(machine->fleet);
    fleet_start(machine->fleet, fleet_is_ready, machine);
}

static void daemon_run(struct reactor_message *message) {
    struct machine *machine = container_of(message, struct machine, begin);
    control_start(machine->control, control_is_ready, machine);
}

void machine_start_daemon(void *arg) {
    struct machine *machine = arg;
    struct ground *ground = machine->ground;
    if (machine->daemon != NULL || !sim_node_is_on(machine->node))
        return;
    machine->daemon = process_start(ground, machine->node);
    machine->ended = NULL;
    machine->ended_posted = machine->ready = false;
    process_enter(machine->daemon);
    struct reactor_options reactor = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(machine->daemon->host, &reactor, &machine->reactor), 0);
    reactor_enter(machine->reactor);
    log_init(&machine->log, log_wall_ns, log_print, machine);
    store_memory_data_abandon(machine->data);
    machine->store = store_memory_create(&(struct store_memory_options){.store = {.reactor = machine->reactor},
                                                                        .data = machine->data,
                                                                        .shuffle_seed = ground->seed,
                                                                        .fault = store_fault,
                                                                        .fault_arg = ground});
    assert_non_null(machine->store);
    struct control_options options = {.reactor = machine->reactor,
                                      .log = &machine->log,
                                      .store = machine->store,
                                      .node = machine->name,
                                      .address = machine->address,
                                      .socket_path = machine->socket_path,
                                      .plane_log_path = "its log",
                                      .processes = {.start = process_of_plane_start,
                                                    .adopt = process_of_plane_adopt,
                                                    .release = process_of_plane_release,
                                                    .arg = machine}};
    machine->control = control_create(&options);
    assert_non_null(machine->control);
    machine->begin.run = daemon_run;
    reactor_post(machine->reactor, &machine->begin);
    reactor_enter(NULL);
    assert_int_equal(reactor_start(machine->reactor), 0);
    process_enter(NULL);
}

/* ---- deaths ---- */

static enum sim_kill how(struct ground *ground) { return ground_draw(ground, 2) == 0 ? SIM_KILL_CLOSE : SIM_KILL_VANISH; }

static void daemon_ended(struct machine *machine) {
    machine->daemon = NULL;
    machine->ground->daemon_ended(machine);
}

void machine_kill_daemon(struct machine *machine) {
    if (machine->daemon == NULL)
        return;
    sim_process_kill(machine->daemon->host, how(machine->ground));
    daemon_ended(machine);
    machine->ground->deaths++;
}

void machine_kill_plane(struct machine *machine) {
    if (machine->plane_process == NULL)
        return;
    sim_process_kill(machine->plane_process->host, how(machine->ground));
    plane_ended(machine);
    machine->ground->deaths++;
}

void machine_power_off(struct machine *machine) {
    sim_node_power_off(machine->node);
    daemon_ended(machine);
    machine->plane_process = NULL;
    machine->ground->deaths++;
}

void machine_power_on(void *arg) {
    struct machine *machine = arg;
    if (sim_node_is_on(machine->node))
        return;
    sim_node_power_on(machine->node);
    machine_start_daemon(machine);
}

void ground_strike(struct ground *ground) {
    struct machine *machine = &ground->machines[ground_draw(ground, NODES)],
                   *other = &ground->machines[ground_draw(ground, NODES)];
    uint64_t now = sim_now_ns(ground->sim);
    switch (ground_draw(ground, 8)) {
    case 0:
    case 1:
        machine_kill_daemon(machine);
        sim_at(ground->sim, now + ground_draw(ground, 2 * NS_PER_S), machine_start_daemon, machine);
        break;
    case 2:
    case 3: machine_kill_plane(machine); break;
    case 4:
        machine_kill_daemon(machine);
        machine_kill_plane(machine);
        sim_at(ground->sim, now + ground_draw(ground, 2 * NS_PER_S), machine_start_daemon, machine);
        break;
    case 5:
        if (sim_node_is_on(machine->node)) {
            machine_power_off(machine);
            sim_at(ground->sim, now + ground_draw(ground, 5 * NS_PER_S), machine_power_on, machine);
        }
        break;
    case 6:
        if (machine != other)
            sim_cut(machine->node, other->node, true);
        break;
    default:
        for (unsigned i = 0; i < NODES; i++)
            if (&ground->machines[i] != machine)
                sim_cut(machine->node, ground->machines[i].node, false);
        break;
    }
}

void ground_heal(struct ground *ground) {
    ground->faults = false;
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < NODES; k++)
            if (i != k)
                sim_cut(ground->machines[i].node, ground->machines[k].node, false);
    for (unsigned i = 0; i < NODES; i++) {
        machine_power_on(&ground->machines[i]);
        machine_start_daemon(&ground->machines[i]);
    }
}

/* ---- for people ---- */

void machine_show(const struct machine *machine) {
    for (unsigned kind = 0; machine->daemon != NULL && kind < CONTROL_KINDS; kind++)
        list_for_each (&machine->control->objects[kind], struct control_object, object, node) {
            print_message("  %s: %s failures %u %s\n", control_object_name(object),
                          kind != CONTROL_ENGINES ? "" : engine_of(object)->reason, object->failures, object->failure);
            list_for_each (&object->goals, struct control_goal, goal, node)
                print_message("    goal %d, stage %d, method %s, at %.3f s\n", (int)goal->verb, (int)goal->stage,
                              goal->call.method != NULL ? goal->call.method : "none", ground_seconds(machine->ground));
        }
}

/* ---- the ground ---- */

bool ground_is_ready(void *arg) {
    const struct ground *ground = arg;
    for (unsigned i = 0; i < NODES; i++)
        if (ground->machines[i].daemon == NULL || !ground->machines[i].ready)
            return false;
    return true;
}

void ground_create(struct ground *ground, uint64_t seed, bool serves, void (*ended)(struct machine *machine)) {
    struct sim_options options;
    process_enter(NULL);
    *ground = (struct ground){.seed = seed, .serves = serves, .daemon_ended = ended};
    random_init(&ground->luck, seed);
    sim_options_init(&options, seed);
    options.allocate = plain_alloc;
    options.release = plain_free;
    ground->sim = sim_create(&options);
    sim_set_switch_hook(ground->sim, switched, NULL);
    for (unsigned i = 0; i < NODES; i++) {
        struct machine *machine = &ground->machines[i];
        *machine = (struct machine){.ground = ground, .index = i};
        snprintf(machine->name, sizeof(machine->name), "n%u", i + 1);
        snprintf(machine->address, sizeof(machine->address), "10.0.0.%u", i + 1);
        snprintf(machine->socket_path, sizeof(machine->socket_path), "/run/plane.sock");
        machine->node = sim_node_create(ground->sim, machine->name, machine->address);
        struct sim_disk_options disk;
        sim_disk_options_init(&disk, DISK_BYTES);
        sim_node_attach(machine->node, "/disk", sim_disk_create(ground->sim, &disk));
        machine->data = store_memory_data_create();
        assert_non_null(machine->data);
        machine_start_daemon(machine);
    }
}

struct opening {
    struct control_goal goal;
    struct machine *machine;
    struct reactor_message message;
    bool done;
};

static void disk_opened(struct control_goal *goal) {
    struct opening *opening = container_of(goal, struct opening, goal);
    if (goal->error.code != ERROR_NONE)
        ground_fail(opening->machine->ground, "%s: a disk: %s", opening->machine->name, goal->error.text);
    opening->done = true;
}

static void open_disk(struct reactor_message *message) {
    struct opening *opening = container_of(message, struct opening, message);
    control_goal_start(opening->machine->control, &opening->goal);
}

static bool is_open(void *arg) { return ((struct opening *)arg)->done; }

void ground_open_disks(struct ground *ground) {
    struct opening openings[NODES];
    for (unsigned i = 0; i < NODES; i++) {
        struct opening *opening = &openings[i];
        *opening = (struct opening){.machine = &ground->machines[i], .message.run = open_disk};
        opening->goal = (struct control_goal){.verb = CONTROL_DISK_OPEN,
                                              .name = "d",
                                              .path = "/disk",
                                              .driver = "",
                                              .uuid = "",
                                              .bytes = 4096,
                                              .done = disk_opened};
        reactor_post(opening->machine->reactor, &opening->message);
    }
    for (unsigned i = 0; i < NODES; i++)
        ground_wait(ground, is_open, &openings[i], 60 * NS_PER_S, "a disk");
}

void ground_destroy(struct ground *ground) {
    for (unsigned i = 0; i < NODES; i++)
        if (sim_node_is_on(ground->machines[i].node))
            sim_node_power_off(ground->machines[i].node);
    for (unsigned i = 0; i < NODES; i++) {
        store_memory_data_abandon(ground->machines[i].data);
        store_memory_data_destroy(ground->machines[i].data);
    }
    sim_destroy(ground->sim);
    for (unsigned i = 0; i < ground->process_count; i++)
        heap_drop(&ground->processes[i].heap);
}
