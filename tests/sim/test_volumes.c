/* Volumes over three nodes of the product in the simulator, from one seed: whole daemons with their gRPC services, which ask each
 * other over the simulated network, and whole planes. Volumes are made, grown, given another replica and one less, reverted, and
 * deleted, each request now and then twice; daemons, planes and machines die, links are cut, answers of the state store get lost;
 * a host writes meanwhile. Then all is healed, and within 30 s of simulated time:
 *
 *   nothing is lost  what was answered to be made is there, with the size and the replicas that were answered, and what was
 * answered to be deleted is not; every block holds the last write that was answered, or one begun later; all converges  each
 * volume stands, with all replicas whole, or could not be made and says so; nothing is under way; nothing is left over  every
 * replica, engine and frontend of any node belongs to a volume.
 *
 * Arguments: SEED COUNT. TRACE=1 prints the logs. */
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

enum { VOLUMES = 3, ASKED_MAX = 64 };
#define CONVERGE_NS (30 * NS_PER_S)
#define PAUSE_NS (5 * NS_PER_MS)

enum belief { ABSENT, THERE, UNSURE };

/* A volume, by what was answered about it. */
struct believed {
    char name[16];
    unsigned owner, generation; /* generation: of its data; another one when it is made anew */
    enum belief belief;
    bool data_unsure; /* it was to be deleted: what it holds is nobody's concern until it is surely gone */
    uint64_t least_bytes;
    struct writer *writer; /* NULL = nobody writes */
};

struct asked {
    struct fleet_request request;
    struct machine *machine;
    struct believed *volume;
    struct reactor_message go;
    char replica[CONTROL_NAME_MAX + 1];
    const char *nodes[NODES];
    bool busy, posted;
};

/* A snapshot that is asked for, one at a time. */
struct snapping {
    struct control_goal goal;
    struct machine *machine;
    char engine[CONTROL_NAME_MAX + 1];
    struct reactor_message go;
    bool busy;
};

struct world {
    struct ground ground;
    bool reverts;
    struct snapping snapping;
    struct sim_client client;
    struct believed volumes[VOLUMES];
    struct asked asked[ASKED_MAX];
    unsigned generations, answered, refused, unknown;
};

static struct world *world_of(const struct machine *machine) { return container_of(machine->ground, struct world, ground); }
static uint64_t draw(struct world *world, uint64_t below) { return ground_draw(&world->ground, below); }

static bool is_busy(const struct world *world, const struct believed *volume) {
    for (unsigned i = 0; i < ASKED_MAX; i++)
        if (world->asked[i].busy && world->asked[i].volume == volume)
            return true;
    return false;
}

static struct fleet_volume *find(const struct world *world, const struct believed *volume) {
    const struct machine *machine = &world->ground.machines[volume->owner];
    return machine->daemon == NULL || !machine->ready ? NULL : fleet_find(machine->fleet, volume->name);
}

/* ---- requests ---- */

/* What it is said to be from now on. */
static void believe(struct asked *asked, bool ok, bool known) {
    struct believed *volume = asked->volume;
    const struct fleet_volume *found = known ? find(world_of(asked->machine), volume) : NULL;
    switch (asked->request.verb) {
    case FLEET_CREATE:
        if (ok && found != NULL && found->record.phase == FLEET_STANDING) {
            volume->belief = THERE;
            volume->least_bytes = max_u64(volume->least_bytes, asked->request.bytes);
        } else if (volume->belief == ABSENT) {
            volume->belief = UNSURE;
        }
        break;
    case FLEET_DELETE:
        if (ok)
            volume->belief = ABSENT;
        else if (volume->belief == THERE)
            volume->belief = UNSURE;
        volume->least_bytes = 0;
        break;
    case FLEET_EXPAND:
        if (ok)
            volume->least_bytes = max_u64(volume->least_bytes, asked->request.bytes);
        break;
    case FLEET_ADD:
        if (ok && found != NULL && fleet_record_member((struct fleet_record *)&found->record, asked->request.member) == NULL)
            ground_fail(asked->machine->ground, "replica %s was added to %s, and is not there", asked->request.member,
                        volume->name);
        break;
    default: break;
    }
}

static void request_ended(struct fleet_request *request) {
    struct asked *asked = container_of(request, struct asked, request);
    struct world *world = world_of(asked->machine);
    bool ok = request->error.code == ERROR_NONE;
    if (ground_traces())
        printf("%9.3f %s request %d of %s: %s\n", ground_seconds(&world->ground), asked->machine->name, (int)request->verb,
               asked->volume->name, ok ? "done" : request->error.text);
    world->answered += ok;
    world->refused += !ok;
    asked->busy = false;
    believe(asked, ok, true);
}

/* Requests to a daemon that dies end without an answer. */
static void daemon_ended(struct machine *machine) {
    struct world *world = world_of(machine);
    for (unsigned i = 0; i < ASKED_MAX; i++) {
        struct asked *asked = &world->asked[i];
        if (!asked->busy || asked->machine != machine)
            continue;
        asked->busy = false;
        world->unknown++;
        believe(asked, false, false);
    }
    if (world->snapping.machine == machine)
        world->snapping.busy = false;
}

static void submit(struct reactor_message *message) {
    struct asked *asked = container_of(message, struct asked, go);
    fleet_submit(asked->machine->fleet, &asked->request);
}

static struct asked *ask(struct world *world, struct believed *volume, enum fleet_verb verb) {
    struct machine *machine = &world->ground.machines[volume->owner];
    if (machine->daemon == NULL || !machine->ready)
        return NULL;
    for (unsigned i = 0; i < ASKED_MAX; i++) {
        struct asked *asked = &world->asked[i];
        if (asked->busy)
            continue;
        *asked = (struct asked){.machine = machine, .volume = volume, .busy = true};
        for (unsigned n = 0; n < NODES; n++)
            asked->nodes[n] = world->ground.machines[n].address;
        asked->request = (struct fleet_request){.verb = verb,
                                                .name = volume->name,
                                                .bytes = MIB(2),
                                                .frontend = "spdk-tcp-nvmf",
                                                .replicas = NODES,
                                                .snapshot = "s",
                                                .nodes = verb == FLEET_CREATE ? asked->nodes : NULL,
                                                .node_count = verb == FLEET_CREATE ? NODES : 0,
                                                .done = request_ended};
        asked->go.run = submit;
        reactor_post(machine->reactor, &asked->go);
        return asked;
    }
    return NULL;
}

/* ---- the host ---- */

static void stop_writing(struct believed *volume) {
    if (volume->writer != NULL)
        writer_stop(volume->writer);
    volume->writer = NULL;
}

static void write_to(struct world *world, struct believed *volume) {
    const struct machine *machine = &world->ground.machines[volume->owner];
    const struct fleet_volume *found = find(world, volume);
    const struct control_engine *engine = found == NULL ? NULL : fleet_engine(machine->fleet, found);
    char subnqn[96];
    if (engine == NULL || engine->record.port == 0 || world->client.writer_count == WRITERS_MAX)
        return;
    snprintf(subnqn, sizeof(subnqn), "nqn.2023-01.io.longhorn.spdk:volume-%s", volume->name);
    volume->writer = sim_client_write(&world->client, volume->generation, subnqn, machine, engine->record.port, PAUSE_NS);
}

/* ---- what happens ---- */

static void make(struct world *world, struct believed *volume) {
    stop_writing(volume);
    if (volume->belief == ABSENT) {
        volume->generation = ++world->generations;
        volume->data_unsure = false;
    }
    ask(world, volume, FLEET_CREATE);
}

/* As a host does: it lets go first. A write that is under way would be made again in what follows. */
static bool let_go(struct believed *volume) {
    if (volume->writer != NULL)
        writer_stop(volume->writer);
    return volume->writer == NULL || volume->writer->idle;
}

static void snapped(struct control_goal *goal) { container_of(goal, struct snapping, goal)->busy = false; }

static void snap(struct reactor_message *message) {
    struct snapping *snapping = container_of(message, struct snapping, go);
    control_goal_start(snapping->machine->control, &snapping->goal);
}

/* To a snapshot, which is made first if there is none. */
static void revert(struct world *world, struct believed *volume, const struct fleet_volume *found) {
    struct snapping *snapping = &world->snapping;
    struct machine *machine = &world->ground.machines[volume->owner];
    const struct control_engine *engine = fleet_engine(machine->fleet, found);
    const struct observation *seen = control_seen(machine->control);
    const struct observed_mirror *mirror = engine == NULL || seen == NULL ? NULL : observed_mirror(seen, engine->record.name);
    if (mirror != NULL && json_array_size(mirror->tree) == 0 && !snapping->busy) {
        *snapping = (struct snapping){.machine = machine, .busy = true, .go.run = snap};
        fleet_engine_name(&found->record, snapping->engine);
        snapping->goal = (struct control_goal){.verb = CONTROL_ENGINE_SNAPSHOT_CREATE,
                                               .name = snapping->engine,
                                               .snapshot = "s",
                                               .timestamp = "",
                                               .user_created = true,
                                               .done = snapped};
        reactor_post(machine->reactor, &snapping->go);
    } else if (let_go(volume) && ask(world, volume, FLEET_REVERT) != NULL) {
        volume->writer = NULL;
        volume->data_unsure = true;
    }
}

static void change(struct world *world, struct believed *volume) {
    const struct fleet_volume *found = find(world, volume);
    struct asked *asked;
    if (found == NULL || !found->recorded || found->record.member_count == 0)
        return;
    if (world->reverts && draw(world, 2) == 0) {
        revert(world, volume, found);
        return;
    }
    switch (draw(world, 4)) {
    case 0:
        if ((asked = ask(world, volume, FLEET_EXPAND)) != NULL)
            asked->request.bytes = found->record.wanted_bytes + MIB(draw(world, 2));
        break;
    case 1:
        if (found->record.member_count == NODES && (asked = ask(world, volume, FLEET_REMOVE)) != NULL) {
            fleet_copy(asked->replica, sizeof(asked->replica),
                       found->record.members[draw(world, found->record.member_count)].name);
            asked->request.replica = asked->replica;
        }
        break;
    case 2:
        if (found->record.member_count < NODES)
            ask(world, volume, FLEET_ADD);
        break;
    default:
        if (let_go(volume) && ask(world, volume, FLEET_DELETE) != NULL) {
            volume->writer = NULL;
            volume->data_unsure = true;
        }
        break;
    }
}

static void request_something(struct world *world) {
    struct believed *volume = &world->volumes[draw(world, VOLUMES)];
    if (is_busy(world, volume)) {
        /* The same once more, as a caller does whose answer did not come. */
        for (unsigned i = 0; i < ASKED_MAX; i++)
            if (world->asked[i].busy && world->asked[i].volume == volume &&
                (world->asked[i].request.verb == FLEET_CREATE || world->asked[i].request.verb == FLEET_DELETE)) {
                ask(world, volume, world->asked[i].request.verb);
                return;
            }
        return;
    }
    if (volume->belief != THERE)
        make(world, volume);
    else if (volume->writer == NULL && !volume->data_unsure)
        write_to(world, volume);
    else
        change(world, volume);
}

static void happen(struct world *world) {
    if (draw(world, 5) < 2)
        ground_strike(&world->ground);
    else
        request_something(world);
    sim_run_for(world->ground.sim, draw(world, 1500) * NS_PER_MS);
}

/* ---- at the end ---- */

static bool belongs(const struct world *world, enum control_kind kind, const char *name, const struct machine *machine) {
    char part[CONTROL_NAME_MAX + 1];
    for (unsigned i = 0; i < VOLUMES; i++) {
        const struct fleet_volume *found = find(world, &world->volumes[i]);
        if (found == NULL || !found->recorded)
            continue;
        const struct fleet_record *record = &found->record;
        for (unsigned m = 0; m < record->member_count; m++)
            if (kind == CONTROL_REPLICAS && strcmp(record->members[m].name, name) == 0)
                return strcmp(record->members[m].node, machine->address) == 0;
        fleet_engine_name(record, part);
        if (kind == CONTROL_ENGINES && strcmp(part, name) == 0)
            return machine->index == world->volumes[i].owner;
        fleet_frontend_name(record, part);
        if (kind == CONTROL_FRONTENDS && strcmp(part, name) == 0)
            return machine->index == world->volumes[i].owner;
    }
    return false;
}

static bool machine_is_well(const struct world *world, const struct machine *machine, char *why, size_t size) {
    if (machine->daemon == NULL || !machine->ready) {
        snprintf(why, size, "%s: its daemon is not ready", machine->name);
        return false;
    }
    for (unsigned kind = CONTROL_REPLICAS; kind <= CONTROL_FRONTENDS; kind++)
        list_for_each (&machine->control->objects[kind], struct control_object, object, node) {
            bool owned = belongs(world, (enum control_kind)kind, control_object_name(object), machine);
            if (owned && list_empty(&object->goals))
                continue;
            snprintf(why, size, "%s: %s %s", machine->name, control_object_name(object),
                     owned ? "is being worked at" : "belongs to nobody");
            return false;
        }
    return true;
}

static bool volume_is_well(const struct world *world, const struct believed *volume, char *why, size_t size) {
    const struct machine *machine = &world->ground.machines[volume->owner];
    const struct fleet_volume *found = find(world, volume);
    unsigned leg;
    if (found == NULL)
        return true; /* whether that may be is looked at later */
    if (!found->recorded || !fleet_record_is_settled(&found->record) || !list_empty(&found->requests)) {
        snprintf(why, size, "%s: phase %d, stage %d, waits for: %s", volume->name, (int)found->record.phase, (int)found->stage,
                 found->waits_for);
        return false;
    }
    if (found->record.phase == FLEET_FAILED)
        return true;
    const struct control_engine *engine = fleet_engine(machine->fleet, found);
    if (engine == NULL || engine->state != CONTROL_RUNNING) {
        snprintf(why, size, "%s: engine %s", volume->name, engine == NULL ? "gone" : engine->reason);
        return false;
    }
    for (unsigned i = 0; i < found->record.member_count; i++)
        if (fleet_member_mode(engine, &found->record.members[i], &leg) != (int)CONTROL_LEG_RW) {
            snprintf(why, size, "%s: replica %s is not whole: %s", volume->name, found->record.members[i].name,
                     fleet_member_mode(engine, &found->record.members[i], &leg) < 0 ? "the engine has it not"
                                                                                    : engine->legs[leg].text);
            return false;
        }
    return true;
}

static bool is_well(const struct world *world, char *why, size_t size) {
    for (unsigned i = 0; i < NODES; i++)
        if (world->ground.machines[i].daemon == NULL || !world->ground.machines[i].ready) {
            snprintf(why, size, "%s: its daemon is not ready", world->ground.machines[i].name);
            return false;
        }
    for (unsigned i = 0; i < VOLUMES; i++)
        if (!volume_is_well(world, &world->volumes[i], why, size))
            return false;
    for (unsigned i = 0; i < NODES; i++)
        if (!machine_is_well(world, &world->ground.machines[i], why, size))
            return false;
    for (unsigned i = 0; i < ASKED_MAX; i++)
        if (world->asked[i].busy) {
            snprintf(why, size, "request %d of %s is not answered", (int)world->asked[i].request.verb,
                     world->asked[i].volume->name);
            return false;
        }
    return true;
}

static bool converged(void *arg) {
    char why[512];
    return is_well(arg, why, sizeof(why));
}

static void check_converged(struct world *world) {
    char why[512] = "";
    uint64_t begin = sim_now_ns(world->ground.sim);
    if (sim_run_until(world->ground.sim, converged, world, CONVERGE_NS, 0) != SIM_MET) {
        for (unsigned i = 0; i < NODES; i++)
            machine_show(&world->ground.machines[i]);
        is_well(world, why, sizeof(why));
        ground_fail(&world->ground, "after 30 s not all is as it should be: %s", why);
    }
    if (ground_traces())
        printf("converged after %.3f s\n", (double)(sim_now_ns(world->ground.sim) - begin) / 1e9);
}

static void check_answers(struct world *world) {
    for (unsigned i = 0; i < VOLUMES; i++) {
        const struct believed *volume = &world->volumes[i];
        const struct fleet_volume *found = find(world, volume);
        bool stands = found != NULL && found->record.phase == FLEET_STANDING;
        if (volume->belief == THERE && !stands)
            ground_fail(&world->ground, "volume %s was made, and does not stand", volume->name);
        if (volume->belief == ABSENT && found != NULL)
            ground_fail(&world->ground, "volume %s was deleted, and is there", volume->name);
        if (volume->belief == THERE && found->record.bytes < volume->least_bytes)
            ground_fail(&world->ground, "volume %s has %llu bytes, and was made larger", volume->name,
                        (unsigned long long)found->record.bytes);
    }
}

static void check_data(struct world *world) {
    for (unsigned i = 0; i < VOLUMES; i++)
        stop_writing(&world->volumes[i]);
    for (unsigned i = 0; i < VOLUMES; i++) {
        struct believed *volume = &world->volumes[i];
        const struct fleet_volume *found = find(world, volume);
        if (found == NULL || found->record.phase != FLEET_STANDING || volume->data_unsure)
            continue;
        write_to(world, volume);
        if (volume->writer == NULL)
            continue;
        struct writer *writer = volume->writer;
        stop_writing(volume);
        writer_check(writer);
    }
}

static void world_create(struct world *world, uint64_t seed) {
    *world = (struct world){.generations = 0};
    ground_create(&world->ground, seed, true, daemon_ended);
    sim_client_start(&world->client, &world->ground);
    for (unsigned i = 0; i < VOLUMES; i++) {
        snprintf(world->volumes[i].name, sizeof(world->volumes[i].name), "vol%u", i);
        world->volumes[i].owner = i % NODES;
    }
    ground_wait(&world->ground, ground_is_ready, &world->ground, 10 * NS_PER_S, "the daemons");
}

static void run_seed(uint64_t seed, bool reverts) {
    struct world *world = plain_alloc(sizeof(*world));
    world_create(world, seed);
    world->reverts = reverts;
    ground_open_disks(&world->ground);
    world->ground.faults = true;
    unsigned steps = 24 + (unsigned)draw(world, 24);
    for (unsigned i = 0; i < steps; i++)
        happen(world);
    ground_heal(&world->ground);
    check_converged(world);
    check_answers(world);
    check_data(world);
    print_message("seed %llu: %u answered, %u refused, %u unknown, %u deaths, %u makings, %u writes\n", (unsigned long long)seed,
                  world->answered, world->refused, world->unknown, world->ground.deaths, world->generations,
                  world->client.write_count);
    sim_client_end(&world->client);
    ground_destroy(&world->ground);
    sim_client_release(&world->client);
    plain_free(world);
}

static uint64_t first_seed = 1, seed_count = 3;

/* Seeds that found something: all lost in a removal (38, 245); a removal while another leg is away (49, 76); one that was asked
 * for again when it was done (338); an addition of which nobody knew whether it was done (633). */
static void test_known_seeds(void **state) {
    static const uint64_t seeds[] = {38, 49, 76, 245, 338, 633};
    (void)state;
    for (unsigned i = 0; i < array_count(seeds); i++)
        run_seed(seeds[i], false);
}

static void test_seeds(void **state) {
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
        run_seed(seed, false);
}

/* Of every other volume that is changed: reverted. */
static void test_seeds_with_reverts(void **state) {
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
        run_seed(seed, true);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds), cmocka_unit_test(test_seeds_with_reverts),
                                       cmocka_unit_test(test_known_seeds)};
    heap_keep_memory();
    json_set_alloc_funcs(malloc, free);
    json_object_seed(1);
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed_count = strtoull(argv[2], NULL, 10);
    if (argc > 1)
        cmocka_set_skip_filter("test_known_seeds");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
