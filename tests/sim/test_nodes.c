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
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

enum { CALLS_MAX = 64, ENGINES_MAX = 8 };
#define VOLUME "vol"
#define SUBNQN "nqn.2023-01.io.longhorn.spdk:volume-" VOLUME
#define VOLUME_BYTES MIB(2)
#define CONVERGE_NS (30 * NS_PER_S)

struct call {
    struct control_goal goal;
    struct machine *machine;
    struct call *next;
    char name[32], snapshot[32];
    struct control_leg_record legs[NODES];
    bool busy, done;
};

struct world {
    struct ground ground;
    struct sim_client client;
    struct call calls[CALLS_MAX];
    struct going {
        struct reactor_message message;
        struct call *to_start;
        bool posted;
    } go[NODES]; /* calls on their way into the loop of each machine's daemon */
    /* what the answers said */
    unsigned engine, engine_at, engines; /* the newest engine, its node */
    unsigned written;                    /* the engine by whose way the newest writer writes */
    bool unsure;                         /* whether anybody has it: a taking over was not answered well */
    struct {
        char name[32];
        bool there, sure;
    } snapshots[CALLS_MAX];
    unsigned snapshot_count;
    unsigned answered, refused, unknown;
};

static struct world *world_of(const struct machine *machine) { return container_of(machine->ground, struct world, ground); }
static uint64_t draw(struct world *world, uint64_t below) { return ground_draw(&world->ground, below); }

/* Calls to a daemon that dies end without an answer. */
static void daemon_ended(struct machine *machine) {
    struct world *world = world_of(machine);
    world->go[machine->index].to_start = NULL;
    world->go[machine->index].posted = false;
    for (unsigned i = 0; i < CALLS_MAX; i++)
        if (world->calls[i].busy && world->calls[i].machine == machine) {
            world->calls[i].busy = false;
            world->unknown++;
        }
}

/* ---- calls ---- */

static void note_answer(struct call *call);

static void call_done(struct control_goal *goal) {
    struct call *call = container_of(goal, struct call, goal);
    call->done = true;
    call->busy = false;
    note_answer(call);
}

static struct call *call_make(struct machine *machine, enum control_verb verb, const char *name) {
    struct world *world = world_of(machine);
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

static void start_calls(struct reactor_message *message) {
    struct going *going = container_of(message, struct going, message);
    going->posted = false;
    while (going->to_start != NULL) {
        struct call *call = going->to_start;
        going->to_start = call->next;
        control_goal_start(call->machine->control, &call->goal);
    }
}

static void call_start(struct call *call) {
    struct machine *machine = call->machine;
    struct going *going = &world_of(machine)->go[machine->index];
    call->next = going->to_start;
    going->to_start = call;
    going->message.run = start_calls;
    if (!going->posted)
        reactor_post(machine->reactor, &going->message);
    going->posted = true;
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
    struct world *world = world_of(call->machine);
    bool ok = call->goal.error.code == ERROR_NONE;
    world->answered += ok;
    world->refused += !ok;
    if (ground_traces())
        printf("%9.3f %s call %d %s %s: %s\n", ground_seconds(&world->ground), call->machine->name, (int)call->goal.verb,
               call->name, call->snapshot, ok ? "done" : call->goal.error.text);
    if (call->goal.verb == CONTROL_ENGINE_SNAPSHOT_CREATE && ok)
        find_snapshot(world, call->snapshot, true, true);
    else if (call->goal.verb == CONTROL_ENGINE_SNAPSHOT_DELETE && ok)
        find_snapshot(world, call->snapshot, false, true);
}

static bool call_is_over(void *arg) { return !((struct call *)arg)->busy; }

static void wait_for(struct world *world, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what) {
    ground_wait(&world->ground, condition, arg, for_ns, what);
}

/* Until it is well answered. */
static void call_must(struct call *call, const char *what) {
    assert_non_null(call);
    struct world *world = world_of(call->machine);
    call_start(call);
    wait_for(world, call_is_over, call, 120 * NS_PER_S, what);
    if (!call->done || call->goal.error.code != ERROR_NONE)
        ground_fail(&world->ground, "%s: %s", what, call->goal.error.text);
}

/* ---- the world ---- */

/* A host connects to the newest engine, and writes there from now on. */
static void writer_start(struct world *world) {
    const struct machine *machine = &world->ground.machines[world->engine_at];
    char name[32];
    engine_name(world->engine, name);
    const struct control_engine *engine = control_find_engine(machine->control, name);
    assert_non_null(engine);
    sim_client_write(&world->client, 0, SUBNQN, machine, engine->record.port, 0);
    world->written = world->engine;
}

static struct writer *newest_writer(struct world *world) { return &world->client.writers[world->client.writer_count - 1]; }

static struct call *engine_create(struct world *world, unsigned at) {
    char name[32];
    engine_name(world->engines, name);
    struct call *call = call_make(&world->ground.machines[at], CONTROL_ENGINE_CREATE, name);
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
    *world = (struct world){.engine = 0};
    ground_create(&world->ground, seed, false, daemon_ended);
    sim_client_start(&world->client, &world->ground);
    wait_for(world, ground_is_ready, &world->ground, 10 * NS_PER_S, "the daemons");
    ground_open_disks(&world->ground);
    for (unsigned i = 0; i < NODES; i++) {
        char name[8];
        snprintf(name, sizeof(name), "r%u", i);
        struct call *call = call_make(&world->ground.machines[i], CONTROL_REPLICA_CREATE, name);
        call->goal.store_name = "d";
        call->goal.bytes = VOLUME_BYTES;
        call->goal.port_count = 1;
        call_must(call, "a replica");
    }
    call_must(engine_create(world, 0), "the engine");
    world->engines = 1;
    writer_start(world);
    wait_for(world, writer_has_written, newest_writer(world), 30 * NS_PER_S, "the first write");
    world->ground.faults = true;
}

static void world_destroy(struct world *world) {
    sim_client_end(&world->client);
    ground_destroy(&world->ground);
    sim_client_release(&world->client);
}

/* ---- what happens ---- */

static void snapshot(struct world *world) {
    struct machine *machine = &world->ground.machines[world->engine_at];
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
    if (world->engines == ENGINES_MAX || volume_call_busy(world) || world->ground.machines[at].daemon == NULL ||
        !world->ground.machines[at].ready)
        return;
    char name[32];
    for (unsigned i = 0; i < world->engines; i++) { /* one engine of a volume on a node: an old one goes first */
        engine_name(i, name);
        if (control_find_engine(world->ground.machines[at].control, name) != NULL)
            return;
    }
    struct call *call = engine_create(world, at);
    if (call == NULL)
        return;
    call_start(call);
    unsigned engine = world->engines++;
    sim_run_until(world->ground.sim, call_is_over, call, 90 * NS_PER_S, 0);
    const struct control_engine *made = engine_made(call, engine);
    if (made != NULL && made->record.standby) { /* the one before lives: this one claims the replicas all the same */
        engine_name(engine, name);
        call = call_make(&world->ground.machines[at], CONTROL_ENGINE_ANA, name);
        if (call != NULL) {
            call->goal.ana = "optimized";
            call_start(call);
            sim_run_until(world->ground.sim, call_is_over, call, 90 * NS_PER_S, 0);
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
    switch (draw(world, 12)) {
    case 0: take_over(world); break;
    case 1:
    case 2:
    case 3: snapshot(world); break;
    default: ground_strike(&world->ground); break;
    }
    sim_run_for(world->ground.sim, draw(world, 1500) * NS_PER_MS);
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
                world->ground.machines[m].daemon == NULL ? NULL : control_find_engine(world->ground.machines[m].control, name);
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
        if (machine_is_wrong(world, &world->ground.machines[i], why, sizeof(why)) != NULL)
            return false;
    return engines_that_serve(world, &count, &at, &engine) || (count == 0 && world->unsure);
}

/* Whoever took it over has failed, and the one before was superseded: it is made again, as its user would. */
static void make_again(struct world *world) {
    char name[32];
    for (unsigned i = 0; i < world->engines; i++) {
        engine_name(i, name);
        if (control_find_engine(world->ground.machines[0].control, name) != NULL)
            call_must(call_make(&world->ground.machines[0], CONTROL_ENGINE_DELETE, name), "the end of a failed engine");
    }
    world->engine = world->engines++;
    world->engine_at = 0;
    world->engines--; /* its name */
    call_must(engine_create(world, 0), "another engine");
    world->engines++;
    world->unsure = false;
}

static void check_converged(struct world *world) {
    char why[400];
    unsigned count, at = 0, engine = 0;
    uint64_t begin = sim_now_ns(world->ground.sim);
    if (sim_run_until(world->ground.sim, converged, world, CONVERGE_NS, 0) != SIM_MET) {
        for (unsigned i = 0; i < NODES; i++) {
            const char *wrong = machine_is_wrong(world, &world->ground.machines[i], why, sizeof(why));
            print_message("n%u: %s\n", i + 1, wrong == NULL ? "well" : wrong);
            machine_show(&world->ground.machines[i]);
        }
        engines_that_serve(world, &count, &at, &engine);
        ground_fail(&world->ground, "after 30 s not all is as it should be; %u engines serve", count);
    }
    if (!engines_that_serve(world, &count, &at, &engine)) {
        make_again(world);
        wait_for(world, converged, world, CONVERGE_NS, "another engine to run");
        engines_that_serve(world, &count, &at, &engine);
    }
    if (ground_traces())
        printf("converged after %.3f s\n", (double)(sim_now_ns(world->ground.sim) - begin) / 1e9);
    world->engine = engine;
    world->engine_at = at;
}

static void check_snapshots(struct world *world) {
    const struct machine *machine = &world->ground.machines[world->engine_at];
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
            ground_fail(&world->ground, "snapshot %s is %sthere", world->snapshots[i].name, there ? "" : "not ");
    }
}

static void check_data(struct world *world) {
    for (unsigned i = 0; i < world->client.writer_count; i++)
        writer_stop(&world->client.writers[i]);
    if (world->written != world->engine) {
        writer_start(world);
        writer_stop(newest_writer(world));
    }
    writer_check(newest_writer(world));
}

static void run_seed(uint64_t seed) {
    struct world *world = plain_alloc(sizeof(*world));
    world_create(world, seed);
    unsigned steps = 12 + (unsigned)draw(world, 12);
    for (unsigned i = 0; i < steps; i++)
        happen(world);
    ground_heal(&world->ground);
    check_converged(world);
    check_snapshots(world);
    check_data(world);
    print_message("seed %llu: %u answered, %u refused, %u unknown, %u deaths, %u engines, %u writes\n", (unsigned long long)seed,
                  world->answered, world->refused, world->unknown, world->ground.deaths, world->engines,
                  world->client.write_count);
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
