/* Volumes over nodes that are played here: plans and places by tables; then stories (made, grown, given and deprived of a
 * replica, deleted) in which one thing goes wrong, at every single step in turn: the daemon dies before or after the step had its
 * effect, an answer is lost, a step is refused. After each the volume is settled, has what it says, and nothing is left over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/store/memory/memory.h"
#include "fleet/fleet.h"
#include "support/step_host.h"

#define NODES 4
#define REPLICAS 16
static const char *const addresses[NODES] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};

/* ---- the nodes ---- */

enum fault { NONE, CRASH_BEFORE, CRASH_AFTER, LOST_BEFORE, LOST_AFTER, REFUSED, REFUSED_DONE, FAULTS };
static const char *const fault_names[FAULTS] = {"nothing",
                                                "a crash before",
                                                "a crash after",
                                                "no answer, not done",
                                                "no answer, done",
                                                "refused",
                                                "refused, since it was done at a try before"};

struct world {
    struct host *host;
    struct reactor *reactor;
    struct log log;
    struct store_memory_data *data;
    struct store *store;
    struct control *control;
    struct fleet *fleet;
    /* what the nodes have */
    char replicas[NODES][REPLICAS][CONTROL_NAME_MAX + 1]; /* "" = a free place */
    bool engine, frontend, offered;
    enum control_state engine_state, ill; /* ill: of what is on node `ill_node` */
    unsigned ill_node;
    unsigned generation;    /* of the volume's contents */
    bool reverted, written; /* to the snapshot, and hosts found it since */
    bool small;             /* the replicas, since then */
    bool degraded;          /* the engine, while it has no target */
    bool no_snapshot;
    unsigned lingering; /* engines yet to be made that find the claims of the one before */
    bool standby;       /* the engine found some, and has not been promoted */
    unsigned promotions;
    unsigned copying; /* looks until the copy is complete; 0 = nothing is copied */
    bool clones, cloned, clone_failed;
    uint64_t engine_bytes;
    struct control_leg_record legs[CONTROL_LEGS_MAX];
    unsigned leg_count;
    bool down[NODES];
    /* what goes wrong */
    unsigned calls, fault_at, node_count, deletions; /* deletions: of engines and frontends */
    enum fault fault;
    bool crashed, ready, closed;
};

struct played {
    struct world *world;
    struct fleet_call *call;
    struct reactor_timer timer;
    bool silent;
};

static unsigned node_of(const char *address) {
    for (unsigned i = 0; i < NODES; i++)
        if (strcmp(addresses[i], address) == 0)
            return i;
    fail_msg("no node %s", address);
    return 0;
}

static char *find_replica(struct world *world, unsigned node, const char *name) {
    for (unsigned i = 0; i < REPLICAS; i++)
        if (strcmp(world->replicas[node][i], name) == 0)
            return world->replicas[node][i];
    return NULL;
}

static void set_thing(struct fleet_call *call, const char *address, uint64_t bytes) {
    call->thing = (struct fleet_thing){.presence = FLEET_PRESENT, .state = CONTROL_RUNNING, .bytes = bytes};
    fleet_copy(call->thing.address, sizeof(call->thing.address), address);
    fleet_copy(call->thing.volume, sizeof(call->thing.volume), "v");
}

static void tell_engine(struct world *world, struct fleet_call *call) {
    if (!world->engine) {
        call->answer = FLEET_NOT_THERE;
        return;
    }
    set_thing(call, "10.0.0.1:20009", world->engine_bytes);
    call->thing.state = world->engine_state;
    call->thing.standby = world->standby && world->engine_state == CONTROL_RUNNING;
    if (call->thing.standby)
        fleet_copy(call->thing.text, sizeof(call->thing.text), "standby: engine x has r");
    call->thing.offered = world->offered;
    call->thing.whole = world->offered || !world->degraded;
    call->thing.has_snapshot = !world->no_snapshot && !world->standby && strcmp(call->snapshot, "s") == 0;
    memcpy(call->seen_legs, world->legs, sizeof(world->legs));
    call->seen_leg_count = world->leg_count;
}

static void remove_leg(struct world *world, const char *name) {
    for (unsigned i = 0; i < world->leg_count; i++)
        if (strcmp(world->legs[i].name, name) == 0)
            world->legs[i--] = world->legs[--world->leg_count];
}

static void tell_disk(struct world *world, unsigned node, struct fleet_call *call) {
    struct fleet_candidate *disk = &call->disks[call->disk_count++];
    *disk = (struct fleet_candidate){.ready = true, .free_bytes = GIB(10) - node};
    fleet_copy(disk->node, sizeof(disk->node), addresses[node]);
    fleet_copy(disk->disk, sizeof(disk->disk), "d");
    (void)world;
}

/* As a node would. */
static void play(struct world *world, struct fleet_call *call) {
    unsigned node = node_of(call->node);
    char *replica = find_replica(world, node, call->name);
    call->answer = FLEET_DONE;
    switch (call->act) {
    case FLEET_LOOK_NODE: tell_disk(world, node, call); break;
    case FLEET_LOOK_VOLUME: call->answer = FLEET_NOT_THERE; break;
    case FLEET_LOOK_REPLICA:
    case FLEET_REPLICA_CREATE:
        if (replica == NULL && call->act == FLEET_REPLICA_CREATE) {
            replica = find_replica(world, node, "");
            assert_non_null(replica);
            fleet_copy(replica, CONTROL_NAME_MAX + 1, call->name);
        }
        if (replica == NULL)
            call->answer = FLEET_NOT_THERE;
        else
            set_thing(call, "10.0.0.9:20001", call->bytes);
        if (node == world->ill_node)
            call->thing.state = world->ill;
        break;
    case FLEET_REPLICA_DELETE:
        for (unsigned i = 0; i < world->leg_count; i++)
            assert_true(!world->engine || strcmp(world->legs[i].name, call->name) != 0); /* never under an engine that has it */
        if (replica != NULL)
            replica[0] = '\0';
        break;
    case FLEET_ENGINE_CREATE:
        if (world->engine) { /* it is there: to be looked at again */
            call->answer = FLEET_NO_ANSWER;
            break;
        }
        assert_false(world->frontend);
        world->engine = true;
        world->offered = call->frontend[0] != '\0';
        assert_false(world->offered && fleet_find(world->fleet, "v")->record.clone == FLEET_CLONING);
        world->written = world->offered && world->reverted;
        world->copying = 0; /* that is the engine's */
        world->clone_failed = false;
        world->standby = world->lingering > 0;
        world->lingering -= world->standby;
        world->engine_state = CONTROL_RUNNING;
        assert_true(!world->offered || !world->small); /* never over replicas that are smaller */
        world->engine_bytes = call->bytes;
        memcpy(world->legs, call->legs, sizeof(world->legs));
        world->leg_count = call->leg_count;
        tell_engine(world, call);
        break;
    case FLEET_LOOK_ENGINE: tell_engine(world, call); break;
    case FLEET_ENGINE_DELETE:
        world->engine = world->standby = false;
        world->deletions++;
        break;
    case FLEET_ENGINE_PROMOTE: /* nobody is there who may write */
        assert_true(world->engine && !world->frontend);
        world->standby = false;
        world->promotions++;
        break;
    case FLEET_ENGINE_EXPAND:
    case FLEET_FRONTEND_EXPAND:
        assert_false(world->standby);
        world->engine_bytes = call->bytes;
        world->small = false;
        break;
    case FLEET_ENGINE_ADD:
        remove_leg(world, call->legs[0].name);
        world->legs[world->leg_count++] = call->legs[0];
        break;
    case FLEET_ENGINE_REMOVE: remove_leg(world, call->legs[0].name); break;
    case FLEET_ENGINE_CLONE:
        assert_true(world->engine && !world->standby && !world->offered && !world->frontend && world->copying == 0);
        assert_string_equal(call->source, "u-e-0");
        assert_string_equal(call->snapshot, "s");
        world->copying = 3;
        break;
    case FLEET_LOOK_CLONE:
        set_thing(call, "", 0);
        if (!world->engine || (world->copying == 0 && !world->clone_failed))
            call->answer = FLEET_NOT_THERE;
        else if (world->clone_failed)
            call->thing.state = CONTROL_ERROR;
        else if (world->copying > 1 && world->engine_state != CONTROL_RUNNING)
            call->thing.state = CONTROL_PENDING; /* for ever */
        else if (world->copying > 1)
            call->thing.state = --world->copying > 1 ? CONTROL_PENDING : CONTROL_RUNNING;
        world->cloned = world->copying == 1;
        break;
    case FLEET_ENGINE_REVERT: /* under nobody, and never over what was written since */
        assert_true(world->engine && !world->standby && !world->offered && !world->frontend && !world->written);
        assert_string_equal(call->snapshot, "s");
        world->engine_bytes = MIB(8); /* it is of the time before it grew */
        world->reverted = world->small = true;
        break;
    case FLEET_FRONTEND_CREATE:
        assert_true(world->engine && world->offered && !world->standby);
        world->frontend = true;
        set_thing(call, "", call->bytes);
        break;
    case FLEET_LOOK_FRONTEND:
        if (world->frontend)
            set_thing(call, "", world->engine_bytes);
        else
            call->answer = FLEET_NOT_THERE;
        break;
    case FLEET_FRONTEND_DELETE:
        world->frontend = false;
        world->deletions++;
        break;
    case FLEET_ACT_COUNT: fail();
    }
}

static void answer(struct reactor_timer *timer) {
    struct played *played = container_of(timer, struct played, timer);
    struct fleet_call *call = played->call;
    bool silent = played->silent;
    free(played);
    if (!silent)
        call->done(call);
}

static bool is_look(enum fleet_act act) { return act <= FLEET_LOOK_FRONTEND; }

/* What the one thing that goes wrong does to this call. False: nobody is there any more to hear the answer. */
static bool suffer(struct world *world, struct fleet_call *call) {
    enum fault fault = ++world->calls == world->fault_at ? world->fault : NONE;
    if (fault == REFUSED && is_look(call->act))
        fault = LOST_BEFORE;
    if (fault == REFUSED_DONE && call->act != FLEET_ENGINE_ADD && call->act != FLEET_ENGINE_REMOVE)
        fault = NONE; /* the others are answered as done, each time */
    if (world->crashed)
        return false;
    bool reached = fault != CRASH_BEFORE && fault != LOST_BEFORE && fault != REFUSED && !world->down[node_of(call->node)];
    if (reached)
        play(world, call);
    if (!reached || fault == LOST_AFTER || fault == REFUSED_DONE) {
        call->answer = fault == REFUSED || fault == REFUSED_DONE ? FLEET_NOT_DONE : FLEET_NO_ANSWER;
        fleet_copy(call->text, sizeof(call->text), fault_names[fault]);
    }
    world->crashed = fault == CRASH_BEFORE || fault == CRASH_AFTER;
    return !world->crashed;
}

static void call_node(void *arg, struct fleet_call *call) {
    struct world *world = arg;
    struct played *played = calloc(1, sizeof(*played));
    assert_non_null(played);
    *played = (struct played){.world = world, .call = call, .timer.run = answer};
    played->silent = !suffer(world, call);
    reactor_timer_start(world->reactor, &played->timer, host_now_ns(world->host) + NS_PER_MS);
}

/* ---- the daemon: begins, dies ---- */

static void on_ready(void *arg, const struct error *error) {
    assert_null(error);
    ((struct world *)arg)->ready = true;
}
static bool is_ready(void *arg) { return ((struct world *)arg)->ready; }
static void on_closed(void *arg) { ((struct world *)arg)->closed = true; }
static bool is_closed(void *arg) { return ((struct world *)arg)->closed; }
static uint64_t no_clock(void *arg) {
    (void)arg;
    return 0;
}
static void no_record(void *arg, const struct log_record *record) {
    (void)arg;
    (void)record;
}

static void begin(struct world *world) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    world->clone_failed = world->copying > 1; /* the daemon carried it out */
    world->copying = world->copying > 1 ? 0 : world->copying;
    assert_int_equal(reactor_create(world->host, &options, &world->reactor), 0);
    log_init(&world->log, no_clock, no_record, world);
    struct store_memory_options store = {.store = {.reactor = world->reactor}, .data = world->data};
    world->store = store_memory_create(&store);
    struct control_options control = {
        .reactor = world->reactor, .log = &world->log, .store = world->store, .node = "n", .address = addresses[0]};
    world->control = control_create(&control);
    struct fleet_options fleet = {
        .control = world->control, .store = world->store, .node = "n", .address = addresses[0], .peers = {call_node, world}};
    world->fleet = fleet_create(&fleet);
    world->crashed = world->ready = world->closed = false;
    assert_int_equal(reactor_start(world->reactor), 0);
    reactor_enter(world->reactor);
    fleet_start(world->fleet, on_ready, world);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_ready, world, NS_PER_S));
    reactor_enter(world->reactor);
    fleet_run(world->fleet);
    reactor_enter(NULL);
}

/* All that is under way is never heard of again. */
static void die(struct world *world) {
    world->crashed = true;
    world->fleet->stopping = true;
    reactor_enter(world->reactor);
    store_close(world->store, on_closed, world);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_closed, world, NS_PER_S));
    (void)step_host_run(world->host, NULL, NULL, NS_PER_S); /* what was to be answered */
    reactor_enter(world->reactor);
    control_unwatch(&world->fleet->engines);
    reactor_timer_stop(world->reactor, &world->fleet->care_timer);
    list_for_each (&world->fleet->volumes, struct fleet_volume, volume, node)
        list_for_each (&volume->requests, struct fleet_request, request, node)
            reactor_timer_stop(world->reactor, &request->timer);
    fleet_destroy(world->fleet);
    control_destroy(world->control);
    reactor_enter(NULL);
    reactor_destroy(world->reactor);
}

static struct world *world_create(void) {
    struct step_host_options options = {.seed = 1};
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world->engine_state = world->ill = CONTROL_RUNNING;
    world->node_count = NODES;
    world->host = step_host_create(&options);
    world->data = store_memory_data_create();
    begin(world);
    return world;
}

static void world_destroy(struct world *world) {
    die(world);
    store_memory_data_destroy(world->data);
    step_host_destroy(world->host);
    free(world);
}

/* ---- requests ---- */

struct asked {
    struct fleet_request request;
    struct world *world;
    bool done;
};

static void on_done(struct fleet_request *request) { container_of(request, struct asked, request)->done = true; }

static bool is_done(void *arg) {
    const struct asked *asked = arg;
    return asked->done || asked->world->crashed;
}

static void submit(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica) {
    *asked = (struct asked){.world = world,
                            .request = {.verb = verb,
                                        .name = "v",
                                        .bytes = bytes,
                                        .frontend = "spdk-tcp-nvmf",
                                        .source = world->clones ? "u" : NULL,
                                        .source_snapshot = "s",
                                        .replicas = min_u32(world->node_count, 3),
                                        .replica = replica,
                                        .snapshot = "s",
                                        .nodes = verb == FLEET_CREATE ? addresses : NULL,
                                        .node_count = verb == FLEET_CREATE ? world->node_count : 0,
                                        .done = on_done}};
    reactor_enter(world->reactor);
    fleet_submit(world->fleet, &asked->request);
    reactor_enter(NULL);
}

/* Asks, and waits for the answer or the end of the daemon, which is begun anew. `replica` may be NULL. */
static void ask(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica) {
    submit(world, asked, verb, bytes, replica);
    assert_true(step_host_run(world->host, is_done, asked, 100 * NS_PER_S));
    if (!world->crashed)
        return;
    die(world);
    begin(world);
}

static bool is_settled(void *arg) {
    struct world *world = arg;
    struct fleet_volume *volume = fleet_find(world->fleet, "v");
    return volume == NULL || (volume->recorded && volume->stage == FLEET_IDLE && fleet_record_is_settled(&volume->record));
}

/* ---- what must hold ---- */

static unsigned count_replicas(const struct world *world) {
    unsigned count = 0;
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < REPLICAS; i++)
            count += world->replicas[n][i][0] != '\0';
    return count;
}

/* The volume has what it says, and nothing else is there. */
static void check(struct world *world, const char *what) {
    struct fleet_volume *volume = fleet_find(world->fleet, "v");
    struct fleet_record *record = volume == NULL ? NULL : &volume->record;
    bool stands = record != NULL && record->phase == FLEET_STANDING;
    if (record != NULL && !stands && record->phase != FLEET_FAILED)
        fail_msg("%s: it is in phase %d", what, (int)record->phase);
    if (stands != world->engine || stands != world->frontend || (stands && !world->offered) || world->standby)
        fail_msg("%s: %s, and the engine is %sthere", what, stands ? "it stands" : "it does not stand",
                 world->engine ? "" : "not ");
    if (count_replicas(world) != (stands ? record->member_count : 0))
        fail_msg("%s: there are %u replicas", what, count_replicas(world));
    if (!stands)
        return;
    if (world->leg_count != record->member_count || world->engine_bytes != record->bytes)
        fail_msg("%s: its engine has %u replicas of %u", what, world->leg_count, record->member_count);
    for (unsigned i = 0; i < record->member_count; i++)
        if (find_replica(world, node_of(record->members[i].node), record->members[i].name) == NULL)
            fail_msg("%s: replica %s is not there", what, record->members[i].name);
}

static void settle(struct world *world, const char *what) {
    if (!step_host_run(world->host, is_settled, world, 300 * NS_PER_S))
        fail_msg("%s: it is never settled: %s", what, fleet_find(world->fleet, "v")->waits_for);
    check(world, what);
}

/* ---- stories ---- */

enum story { MADE, DELETED, GROWN, GIVEN, DEPRIVED, REVERTED, CLONED, REVERTED_YIELDING, CLONED_YIELDING, STORIES };
static const char *const story_names[STORIES] = {"made",
                                                 "deleted",
                                                 "grown",
                                                 "given a replica",
                                                 "deprived of a replica",
                                                 "reverted",
                                                 "cloned",
                                                 "reverted by engines that yield",
                                                 "cloned by engines that yield"};

static void tell_story(struct world *world, enum story story, struct asked *asked) {
    char replica[CONTROL_NAME_MAX + 1];
    switch (story) {
    case MADE: ask(world, asked, FLEET_CREATE, MIB(16), NULL); break;
    case DELETED: ask(world, asked, FLEET_DELETE, 0, NULL); break;
    case GROWN: ask(world, asked, FLEET_EXPAND, MIB(32), NULL); break;
    case GIVEN: ask(world, asked, FLEET_ADD, 0, NULL); break;
    case DEPRIVED:
        fleet_copy(replica, sizeof(replica), fleet_find(world->fleet, "v")->record.members[0].name);
        ask(world, asked, FLEET_REMOVE, 0, replica);
        break;
    case CLONED_YIELDING: world->lingering = UINT32_MAX; __attribute__((fallthrough));
    case CLONED:
        world->clones = true;
        ask(world, asked, FLEET_CREATE, MIB(16), NULL);
        world->clones = false;
        break;
    case REVERTED_YIELDING: world->lingering = UINT32_MAX; __attribute__((fallthrough));
    case REVERTED: ask(world, asked, FLEET_REVERT, 0, NULL); break;
    case STORIES: fail();
    }
}

/* What a successful answer promises. */
static void check_answer(struct world *world, enum story story, const char *what) {
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    bool is_clone = story == CLONED || story == CLONED_YIELDING, is_revert = story == REVERTED || story == REVERTED_YIELDING;
    bool right = story == DELETED ? volume == NULL
                 : is_clone       ? volume != NULL && (volume->record.phase == FLEET_FAILED ||
                                                 (volume->record.phase == FLEET_STANDING && world->cloned))
                 : volume == NULL ? false
                 : story == MADE  ? volume->record.phase == FLEET_STANDING || volume->record.phase == FLEET_FAILED
                 : story == GROWN ? volume->record.bytes == MIB(32)
                 : is_revert      ? world->reverted && volume->record.member_count == 3
                                  : volume->record.member_count == (story == GIVEN ? 4U : 2U);
    if (!right)
        fail_msg("%s: that it is done was answered", what);
}

/* True: the fault came. */
static bool run_story(enum story story, enum fault fault, unsigned at) {
    struct world *world = world_create();
    struct asked asked, again;
    char what[128];
    snprintf(what, sizeof(what), "%s, and at call %u %s", story_names[story], at, fault_names[fault]);
    if (story != MADE && story != CLONED && story != CLONED_YIELDING) {
        ask(world, &again, FLEET_CREATE, MIB(16), NULL);
        assert_int_equal(again.request.error.code, ERROR_NONE);
        check(world, "before");
    }
    world->calls = 0;
    world->fault_at = at;
    world->fault = fault;
    tell_story(world, story, &asked);
    bool done = asked.done && asked.request.error.code == ERROR_NONE;
    settle(world, what);
    bool came = world->calls >= at;
    world->fault_at = 0;
    if (done)
        check_answer(world, story, what);
    else if (fault == REFUSED_DONE)
        fail_msg("%s: it is done, and was not answered to be", what);
    /* Whatever came of it: it can be had, and got rid of. */
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    if (volume == NULL || volume->record.phase == FLEET_FAILED) {
        ask(world, &again, FLEET_CREATE, MIB(16), NULL);
        settle(world, "made again");
        assert_int_equal(fleet_find(world->fleet, "v")->record.phase, FLEET_STANDING);
    }
    ask(world, &again, FLEET_DELETE, 0, NULL);
    if (again.request.error.code != ERROR_NONE || fleet_find(world->fleet, "v") != NULL || count_replicas(world) != 0)
        fail_msg("%s: it cannot be deleted: done %d, code %d, %s, %u replicas left", what, again.done, again.request.error.code,
                 again.request.error.text, count_replicas(world));
    world_destroy(world);
    return came;
}

static void test_one_thing_goes_wrong_at_every_step(void **state) {
    unsigned runs = 0;
    (void)state;
    for (enum story story = MADE; story < STORIES; story++)
        for (enum fault fault = CRASH_BEFORE; fault < FAULTS; fault++)
            for (unsigned at = 1;; at++) {
                runs++;
                if (!run_story(story, fault, at)) {
                    assert_true(at > 2);
                    break;
                }
            }
    printf("note: %u stories, in each of which one thing goes wrong\n", runs);
}

/* Addresses as its engine says, which is not played to this node. */
static void put_addresses(struct world *world) {
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    for (unsigned i = 0; i < record->member_count; i++)
        fleet_copy(record->members[i].address, sizeof(record->members[i].address), "10.0.0.9:20001");
}

static void test_reverts(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NOT_FOUND);
    ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    /* To what is not there: nothing is touched. */
    unsigned calls = world->calls;
    world->no_snapshot = true;
    ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
    assert_non_null(strstr(asked.request.error.text, "no snapshot s"));
    assert_true(world->calls - calls <= NODES + 2); /* looks */
    settle(world, "refused");
    for (unsigned at = 1; at <= NODES + 2; at++) { /* nor if one of them is not answered */
        world->fault = LOST_BEFORE;
        world->fault_at = world->calls + at;
        ask(world, &asked, FLEET_REVERT, 0, NULL);
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        settle(world, "refused later");
    }
    world->fault_at = 0;
    assert_int_equal(world->deletions, 0);
    assert_false(world->reverted);
    world->no_snapshot = false;
    /* A node goes away in it before anything is done: it is given up, and the volume serves again, without that node. */
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    unsigned away = node_of(record->members[2].node);
    struct asked begun = {.world = world,
                          .request = {.verb = FLEET_REVERT, .name = "v", .frontend = "", .snapshot = "s", .done = on_done}};
    world->down[away] = true;
    reactor_enter(world->reactor);
    fleet_submit(world->fleet, &begun.request);
    reactor_enter(NULL);
    (void)step_host_run(world->host, NULL, NULL, 5 * NS_PER_MS);
    put_addresses(world);
    ask(world, &asked, FLEET_EXPAND, MIB(32), NULL);
    assert_int_equal(asked.request.error.code, ERROR_BUSY);
    assert_true(step_host_run(world->host, is_done, &begun, 100 * NS_PER_S));
    assert_int_equal(begun.request.error.code, ERROR_PERMISSION);
    assert_non_null(strstr(begun.request.error.text, "not done in its time"));
    assert_true(world->down[away] && !world->reverted);
    settle(world, "given up");
    assert_string_equal(world->legs[2].address, "10.0.0.9:20001");
    world->down[away] = false;
    ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_true(world->reverted);
    settle(world, "reverted");
    world_destroy(world);
}

static bool is_reverted(void *arg) { return ((struct world *)arg)->reverted; }
static bool is_hidden(void *arg) {
    const struct world *world = arg;
    return world->engine && !world->offered;
}
static bool is_copying(void *arg) { return ((struct world *)arg)->copying > 1; }

/* A replica goes away, or fails, while the volume is reverted, and never comes back: the volume does. */
static void test_a_replica_is_lost_in_a_revert(void **state) {
    static const struct {
        unsigned count;
        bool down, after;
    } rows[] = {{2, true, false}, {2, true, true}, {2, false, true}, {3, true, false}, {3, false, false}, {3, false, true}};
    (void)state;
    for (unsigned i = 0; i < array_count(rows); i++) {
        struct world *world = world_create();
        struct asked asked;
        world->node_count = rows[i].count;
        ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        settle(world, "made");
        world->degraded = !rows[i].after;
        submit(world, &asked, FLEET_REVERT, 0, NULL);
        assert_true(step_host_run(world->host, rows[i].after ? is_reverted : is_hidden, world, 100 * NS_PER_S));
        put_addresses(world);
        world->ill_node = node_of(fleet_find(world->fleet, "v")->record.members[1].node);
        world->ill = rows[i].down ? CONTROL_RUNNING : CONTROL_ERROR;
        world->down[world->ill_node] = rows[i].down;
        if (!step_host_run(world->host, is_settled, world, 300 * NS_PER_S))
            fail_msg("row %u: it is never settled: %s", i, fleet_find(world->fleet, "v")->waits_for);
        assert_true(asked.done && world->frontend && world->offered && world->reverted == rows[i].after);
        assert_int_equal(world->leg_count, rows[i].count);
        world_destroy(world);
    }
}

/* Each engine that is made in a revert finds claims of the one before, and stands by. */
static void test_engines_that_stand_by_in_a_revert(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    settle(world, "made");
    world->lingering = UINT32_MAX;
    ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_true(world->reverted);
    settle(world, "reverted");
    assert_int_equal(world->promotions, 2); /* without target, and with it */
    assert_false(fleet_find(world->fleet, "v")->record.served);
    world_destroy(world);
}

/* Its users have switched over to an engine of theirs: that is left alone, whatever is asked. */
static void test_a_standby_beside_an_engine_of_others(void **state) {
    static const char *const frontends[] = {"spdk-tcp-nvmf", ""};
    (void)state;
    for (unsigned i = 0; i < array_count(frontends); i++) {
        struct world *world = world_create();
        struct asked asked;
        ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        settle(world, "made");
        struct fleet_volume *volume = fleet_find(world->fleet, "v");
        fleet_copy(volume->record.frontend, sizeof(volume->record.frontend), frontends[i]);
        world->standby = true;
        world->frontend = world->offered = frontends[i][0] != '\0';
        ask(world, &asked, FLEET_REVERT, 0, NULL);
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        assert_non_null(strstr(asked.request.error.text, "standby: engine x has r"));
        assert_true(step_host_run(world->host, is_settled, world, 200 * NS_PER_S));
        assert_true(!world->reverted && world->standby && world->engine);
        assert_int_equal(world->promotions + world->deletions, 0);
        assert_false(volume->record.served);
        world_destroy(world);
    }
}

/* They have deleted the volume's own since: the one that a revert makes waits for them. */
static void test_a_standby_instead_of_a_deleted_engine(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    settle(world, "made");
    world->engine = world->frontend = false;
    world->leg_count = 0;
    world->lingering = UINT32_MAX;
    ask(world, &asked, FLEET_REVERT, 0, NULL);
    assert_int_not_equal(asked.request.error.code, ERROR_NONE);
    (void)step_host_run(world->host, NULL, NULL, 200 * NS_PER_S);
    const struct fleet_volume *volume = fleet_find(world->fleet, "v");
    assert_true(world->engine && world->standby && !world->reverted && !world->frontend);
    assert_int_equal(world->promotions, 0);
    assert_non_null(strstr(volume->waits_for, "its engine is a standby"));
    ask(world, &asked, FLEET_DELETE, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_int_equal(count_replicas(world), 0);
    world_destroy(world);
}

/* Two of three: the engine that runs is not given up for one that could not be made. */
static void test_too_many_are_lost_in_a_revert(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    submit(world, &asked, FLEET_REVERT, 0, NULL);
    assert_true(step_host_run(world->host, is_reverted, world, 100 * NS_PER_S));
    put_addresses(world);
    for (unsigned i = 1; i < 3; i++)
        world->down[node_of(fleet_find(world->fleet, "v")->record.members[i].node)] = true;
    (void)step_host_run(world->host, NULL, NULL, 200 * NS_PER_S);
    assert_true(world->engine && !world->offered && !world->frontend);
    world->down[node_of(fleet_find(world->fleet, "v")->record.members[1].node)] = false;
    assert_true(step_host_run(world->host, is_settled, world, 100 * NS_PER_S));
    assert_true(world->offered && world->frontend);
    world_destroy(world);
}

/* Its engine does not run for a while (its plane dies), and cannot tell what it has and how large it is: before anything is
 * touched, and when it was reverted. */
static void test_a_revert_and_an_engine_that_does_not_run(void **state) {
    static const enum control_state states[] = {CONTROL_ERROR, CONTROL_PENDING};
    (void)state;
    for (unsigned i = 0; i < array_count(states); i++) {
        struct world *world = world_create();
        struct asked asked;
        world->clones = i == 0;
        ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
        settle(world, "made");
        world->engine_state = states[i];
        world->no_snapshot = true;
        submit(world, &asked, FLEET_REVERT, 0, NULL);
        (void)step_host_run(world->host, NULL, NULL, 20 * NS_PER_S);
        assert_true(!asked.done && world->engine && world->offered && world->frontend);
        world->engine_state = CONTROL_RUNNING;
        assert_true(step_host_run(world->host, is_done, &asked, 100 * NS_PER_S));
        assert_int_equal(asked.request.error.code, ERROR_PERMISSION);
        assert_non_null(strstr(asked.request.error.text, "no snapshot s"));
        settle(world, "refused");
        /* For longer than the revert's time. */
        world->engine_state = states[i];
        submit(world, &asked, FLEET_REVERT, 0, NULL);
        (void)step_host_run(world->host, NULL, NULL, 100 * NS_PER_S);
        assert_true(world->engine && world->offered && world->frontend && !world->reverted);
        world->engine_state = CONTROL_RUNNING;
        settle(world, "given up");
        world->no_snapshot = false;
        submit(world, &asked, FLEET_REVERT, 0, NULL);
        assert_true(step_host_run(world->host, is_reverted, world, 100 * NS_PER_S));
        world->engine_state = states[i];
        (void)step_host_run(world->host, NULL, NULL, 30 * NS_PER_S);
        assert_true(world->engine && !world->offered);
        world->engine_state = CONTROL_RUNNING;
        assert_true(step_host_run(world->host, is_done, &asked, 100 * NS_PER_S));
        assert_int_equal(asked.request.error.code, ERROR_NONE);
        settle(world, "reverted");
        assert_int_equal(world->engine_bytes, MIB(16));
        world_destroy(world);
    }
}

/* The clone's engine stops for good while it is copied to: the clone is not made. */
static void test_a_copy_that_stands_still(void **state) {
    struct world *world = world_create();
    struct asked asked;
    (void)state;
    world->clones = true;
    submit(world, &asked, FLEET_CREATE, MIB(16), NULL);
    assert_true(step_host_run(world->host, is_copying, world, 10 * NS_PER_S));
    world->engine_state = CONTROL_PENDING;
    settle(world, "not made");
    assert_int_equal(fleet_find(world->fleet, "v")->record.phase, FLEET_FAILED);
    assert_true(asked.done);
    world_destroy(world);
}

static void test_a_node_is_away(void **state) {
    struct world *world = world_create();
    struct asked asked;
    char replica[CONTROL_NAME_MAX + 1];
    (void)state;
    ask(world, &asked, FLEET_CREATE, MIB(16), NULL);
    settle(world, "made");
    struct fleet_record *record = &fleet_find(world->fleet, "v")->record;
    unsigned away = node_of(record->members[2].node);
    fleet_copy(replica, sizeof(replica), record->members[2].name);
    world->down[away] = true;
    /* A replica that is there is removed: the volume is rid of it at once, its data goes later. */
    ask(world, &asked, FLEET_REMOVE, 0, replica);
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_int_equal(world->leg_count, 2);
    assert_int_equal(count_replicas(world), 3);
    world->down[away] = false;
    settle(world, "removed");
    /* Deleted: told that it waits; with `abandon` it does not. */
    ask(world, &asked, FLEET_ADD, 0, NULL);
    settle(world, "added");
    away = node_of(fleet_find(world->fleet, "v")->record.members[1].node);
    world->down[away] = true;
    ask(world, &asked, FLEET_DELETE, 0, NULL);
    assert_int_equal(asked.request.error.code, ERROR_CANCELLED);
    assert_non_null(strstr(asked.request.error.text, addresses[away]));
    assert_int_equal(count_replicas(world), 1);
    asked = (struct asked){.world = world,
                           .request = {.verb = FLEET_DELETE, .name = "v", .frontend = "", .abandon = true, .done = on_done}};
    reactor_enter(world->reactor);
    fleet_submit(world->fleet, &asked.request);
    reactor_enter(NULL);
    assert_true(step_host_run(world->host, is_done, &asked, 100 * NS_PER_S));
    assert_int_equal(asked.request.error.code, ERROR_NONE);
    assert_null(fleet_find(world->fleet, "v"));
    world_destroy(world);
}

/* ---- tables ---- */

static void test_the_policy(void **state) {
    static const struct {
        const char *what;
        int modes[4];
        unsigned count;
        enum fleet_care care;
        unsigned member;
    } rows[] = {
        {"all well", {CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW}, 3, FLEET_CARE_NOTHING, 0},
        {"one is away for a while", {CONTROL_LEG_RW, CONTROL_LEG_WO, CONTROL_LEG_RW}, 3, FLEET_CARE_NOTHING, 0},
        {"one is lost", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW}, 3, FLEET_CARE_ADD, 1},
        {"its engine has it not", {CONTROL_LEG_RW, CONTROL_LEG_RW, -1}, 3, FLEET_CARE_ADD, 2},
        {"the new one is copied to", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW, CONTROL_LEG_WO}, 4, FLEET_CARE_NOTHING, 0},
        {"the new one is whole", {CONTROL_LEG_RW, CONTROL_LEG_ERR, CONTROL_LEG_RW, CONTROL_LEG_RW}, 4, FLEET_CARE_REMOVE, 1},
        {"the lost one came back", {CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW, CONTROL_LEG_RW}, 4, FLEET_CARE_NOTHING, 0},
    };
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct fleet_record record = {.phase = FLEET_STANDING,
                                      .replicas = 3,
                                      .replace = true,
                                      .member_count = rows[i].count,
                                      .bytes = 1,
                                      .wanted_bytes = 1};
        unsigned member = 0;
        if (fleet_plan_care(&record, rows[i].modes, &member) != rows[i].care)
            fail_msg("%s", rows[i].what);
        if (rows[i].care != FLEET_CARE_NOTHING)
            assert_int_equal(member, rows[i].member);
        record.replace = false;
        assert_int_equal(fleet_plan_care(&record, rows[i].modes, &member), FLEET_CARE_NOTHING);
    }
}

static void test_places(void **state) {
    static const struct fleet_candidate candidates[] = {
        {.node = "10.0.0.1", .disk = "a", .free_bytes = 10, .ready = true},
        {.node = "10.0.0.1", .disk = "b", .free_bytes = 40, .ready = true},
        {.node = "10.0.0.2", .disk = "a", .free_bytes = 30, .ready = true},
        {.node = "10.0.0.3", .disk = "a", .free_bytes = 90, .text = "it is in state error"},
        {.node = "10.0.0.4", .text = "does not answer"},
    };
    static const struct {
        const char *said[3], *placed; /* "" ends */
    } rows[] = {
        {{"", "", NULL}, "10.0.0.1/b 10.0.0.2/a "},
        {{"10.0.0.1", NULL, NULL}, "10.0.0.1/b "},
        {{"10.0.0.1/a", "", NULL}, "10.0.0.1/a 10.0.0.2/a "},
        {{"10.0.0.1", "10.0.0.1", NULL},
         "10.0.0.1/b 10.0.0.1/a "}, /* where it is said, two may be on a node, and never on a disk */
        {{"10.0.0.1/a", "10.0.0.1/a", NULL}, "two replicas of it"},
        {{"", "", ""}, "3 nodes with a ready disk are wanted"},
        {{"10.0.0.3/a", NULL, NULL}, "it is in state error"},
        {{"10.0.0.4", NULL, NULL}, "does not answer"},
        {{"10.0.0.1/none", NULL, NULL}, "cannot have a replica"},
    };
    const struct fleet_record record = {.member_count = 0};
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct fleet_member members[3] = {0};
        struct error error;
        char text[128] = "";
        unsigned count = 0;
        for (; count < 3 && rows[i].said[count] != NULL; count++) {
            const char *said = rows[i].said[count], *slash = strchr(said, '/');
            snprintf(members[count].node, sizeof(members[count].node), "%.*s",
                     (int)(slash != NULL ? slash - said : (int)strlen(said)), said);
            fleet_copy(members[count].disk, sizeof(members[count].disk), slash != NULL ? slash + 1 : "");
        }
        bool ok = fleet_plan_place(&record, candidates, array_count(candidates), members, count, &error);
        for (unsigned m = 0; ok && m < count; m++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.20s/%.10s ", members[m].node, members[m].disk);
        if (ok ? strcmp(text, rows[i].placed) != 0 : strstr(error.text, rows[i].placed) == NULL)
            fail_msg("row %zu: %s", i, ok ? text : error.text);
    }
}

static void test_records(void **state) {
    struct fleet_record record = {.name = "v",
                                  .frontend = "spdk-tcp-nvmf",
                                  .bytes = MIB(16),
                                  .wanted_bytes = MIB(32),
                                  .replicas = 3,
                                  .replace = true,
                                  .abandon = true,
                                  .phase = FLEET_UNMAKING,
                                  .members = {{.name = "v-r-p1234567",
                                               .node = "::1",
                                               .disk = "d",
                                               .change = FLEET_GOES,
                                               .address = "[::1]:20001"}},
                                  .member_count = 1,
                                  .nodes = {"::1", "10.0.0.1"},
                                  .node_count = 2,
                                  .revert = FLEET_RESTORING,
                                  .served = true,
                                  .clone = FLEET_CLONED,
                                  .source = "u",
                                  .source_snapshot = "t",
                                  .snapshot = "s",
                                  .failure = "it \"failed\"\n"},
                        again;
    static const char *const hostile[] = {"", "[]", "{}", "{\"name\": 1}", "\"\"", "{\"name\": \"v\", \"name\": \"w\"}"};
    struct text text;
    struct error error;
    const char *kind;
    (void)state;
    text_init(&text, KIB(64));
    assert_true(fleet_record_write(&record, &text));
    assert_true(fleet_record_read(text.bytes, text.length, &again, &error));
    assert_memory_equal(&record, &again, sizeof(record));
    for (size_t length = 0; length < text.length; length++)
        assert_false(fleet_record_read(text.bytes, length, &again, &error));
    text_fini(&text);
    for (size_t i = 0; i < array_count(hostile); i++)
        assert_false(fleet_record_read(hostile[i], strlen(hostile[i]), &again, &error));
    assert_int_equal(fleet_volume_of("v-r-p1234567", &kind), 1);
    assert_string_equal(kind, "replica");
    assert_int_equal(fleet_volume_of("v-r-01234567", &kind), 0);
    assert_int_equal(fleet_volume_of("v-ef-0", &kind), 1);
    assert_string_equal(kind, "frontend");
    assert_int_equal(fleet_volume_of("v-e-0", &kind), 1);
    assert_string_equal(kind, "engine");
    assert_int_equal(fleet_volume_of("-e-0", &kind), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thing_goes_wrong_at_every_step),
        cmocka_unit_test(test_reverts),
        cmocka_unit_test(test_a_replica_is_lost_in_a_revert),
        cmocka_unit_test(test_engines_that_stand_by_in_a_revert),
        cmocka_unit_test(test_a_standby_beside_an_engine_of_others),
        cmocka_unit_test(test_a_standby_instead_of_a_deleted_engine),
        cmocka_unit_test(test_too_many_are_lost_in_a_revert),
        cmocka_unit_test(test_a_revert_and_an_engine_that_does_not_run),
        cmocka_unit_test(test_a_copy_that_stands_still),
        cmocka_unit_test(test_a_node_is_away),
        cmocka_unit_test(test_the_policy),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
