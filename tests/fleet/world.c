#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

const char *const world_addresses[NODES] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};
const char *const world_fault_names[FAULTS] = {"nothing",
                                               "a crash before",
                                               "a crash after",
                                               "no answer, not done",
                                               "no answer, done",
                                               "refused",
                                               "refused, since it was done at a try before"};

/* ---- the nodes ---- */

struct played {
    struct world *world;
    struct fleet_call *call;
    struct reactor_timer timer;
    bool silent;
};

unsigned world_node_of(const char *address) {
    for (unsigned i = 0; i < NODES; i++)
        if (strcmp(world_addresses[i], address) == 0)
            return i;
    fail_msg("no node %s", address);
    return 0;
}

char *world_find_replica(struct world *world, unsigned node, const char *name) {
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
    fleet_copy(disk->node, sizeof(disk->node), world_addresses[node]);
    fleet_copy(disk->disk, sizeof(disk->disk), "d");
    (void)world;
}

/* As a node would. */
static void play(struct world *world, struct fleet_call *call) {
    unsigned node = world_node_of(call->node);
    char *replica = world_find_replica(world, node, call->name);
    call->answer = FLEET_DONE;
    switch (call->act) {
    case FLEET_LOOK_NODE: tell_disk(world, node, call); break;
    case FLEET_LOOK_VOLUME: call->answer = FLEET_NOT_THERE; break;
    case FLEET_LOOK_REPLICA:
    case FLEET_REPLICA_CREATE:
        if (replica == NULL && call->act == FLEET_REPLICA_CREATE) {
            replica = world_find_replica(world, node, "");
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
    bool reached = fault != CRASH_BEFORE && fault != LOST_BEFORE && fault != REFUSED && !world->down[world_node_of(call->node)];
    if (reached)
        play(world, call);
    if (!reached || fault == LOST_AFTER || fault == REFUSED_DONE) {
        call->answer = fault == REFUSED || fault == REFUSED_DONE ? FLEET_NOT_DONE : FLEET_NO_ANSWER;
        fleet_copy(call->text, sizeof(call->text), world_fault_names[fault]);
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
    reactor_timer_start(world->stage.reactor, &played->timer, host_now_ns(world->stage.host) + NS_PER_MS);
}

/* ---- the daemon: begins, dies ---- */

static void on_ready(void *arg, const struct error *error) {
    assert_null(error);
    ((struct world *)arg)->ready = true;
}
static bool is_ready(void *arg) { return ((struct world *)arg)->ready; }

static void begin(struct world *world) {
    world->clone_failed = world->copying > 1; /* the daemon carried it out */
    world->copying = world->copying > 1 ? 0 : world->copying;
    struct control_options control = {.reactor = world->stage.reactor,
                                      .log = &world->stage.log,
                                      .store = world->stage.store,
                                      .node = "n",
                                      .address = world_addresses[0]};
    reactor_enter(world->stage.reactor);
    world->control = control_create(&control);
    struct fleet_options fleet = {.control = world->control,
                                  .store = world->stage.store,
                                  .node = "n",
                                  .address = world_addresses[0],
                                  .peers = {call_node, world}};
    world->fleet = fleet_create(&fleet);
    world->crashed = world->ready = false;
    fleet_start(world->fleet, on_ready, world);
    reactor_enter(NULL);
    assert_true(step_host_run(world->stage.host, is_ready, world, NS_PER_S));
    reactor_enter(world->stage.reactor);
    fleet_run(world->fleet);
    reactor_enter(NULL);
}

/* All that is under way is never heard of again. */
static void die(struct world *world) {
    world->crashed = true;
    world->fleet->stopping = true;
    stage_close_store(&world->stage);
    (void)step_host_run(world->stage.host, NULL, NULL, NS_PER_S); /* what was to be answered */
    reactor_enter(world->stage.reactor);
    control_unwatch(&world->fleet->engines);
    reactor_timer_stop(world->stage.reactor, &world->fleet->care_timer);
    list_for_each (&world->fleet->volumes, struct fleet_volume, volume, node)
        list_for_each (&volume->requests, struct fleet_request, request, node)
            reactor_timer_stop(world->stage.reactor, &request->timer);
    fleet_destroy(world->fleet);
    control_destroy(world->control);
    reactor_enter(NULL);
}

struct world *world_create(void) {
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world->engine_state = world->ill = CONTROL_RUNNING;
    world->node_count = NODES;
    stage_begin(&world->stage, NULL, NULL);
    begin(world);
    return world;
}

void world_destroy(struct world *world) {
    die(world);
    stage_end(&world->stage);
    free(world);
}

/* ---- requests ---- */

static void on_done(struct fleet_request *request) { container_of(request, struct asked, request)->done = true; }

bool asked_is_done(void *arg) {
    const struct asked *asked = arg;
    return asked->done || asked->world->crashed;
}

void world_send(struct asked *asked) {
    reactor_enter(asked->world->stage.reactor);
    asked->request.done = on_done;
    fleet_submit(asked->world->fleet, &asked->request);
    reactor_enter(NULL);
}

void world_submit(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica) {
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
                                        .nodes = verb == FLEET_CREATE ? world_addresses : NULL,
                                        .node_count = verb == FLEET_CREATE ? world->node_count : 0}};
    world_send(asked);
}

void world_ask(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica) {
    world_submit(world, asked, verb, bytes, replica);
    assert_true(step_host_run(world->stage.host, asked_is_done, asked, 100 * NS_PER_S));
    if (!world->crashed)
        return;
    die(world);
    stage_reopen(&world->stage);
    begin(world);
}

bool world_is_settled(void *arg) {
    struct world *world = arg;
    struct fleet_volume *volume = fleet_find(world->fleet, "v");
    return volume == NULL || (volume->recorded && volume->stage == FLEET_IDLE && fleet_record_is_settled(&volume->record));
}

/* ---- what must hold ---- */

unsigned world_count_replicas(const struct world *world) {
    unsigned count = 0;
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < REPLICAS; i++)
            count += world->replicas[n][i][0] != '\0';
    return count;
}

void world_check(struct world *world, const char *what) {
    struct fleet_volume *volume = fleet_find(world->fleet, "v");
    struct fleet_record *record = volume == NULL ? NULL : &volume->record;
    bool stands = record != NULL && record->phase == FLEET_STANDING;
    if (record != NULL && !stands && record->phase != FLEET_FAILED)
        fail_msg("%s: it is in phase %d", what, (int)record->phase);
    if (stands != world->engine || stands != world->frontend || (stands && !world->offered) || world->standby)
        fail_msg("%s: %s, and the engine is %sthere", what, stands ? "it stands" : "it does not stand",
                 world->engine ? "" : "not ");
    if (world_count_replicas(world) != (stands ? record->member_count : 0))
        fail_msg("%s: there are %u replicas", what, world_count_replicas(world));
    if (!stands)
        return;
    if (world->leg_count != record->member_count || world->engine_bytes != record->bytes)
        fail_msg("%s: its engine has %u replicas of %u", what, world->leg_count, record->member_count);
    for (unsigned i = 0; i < record->member_count; i++)
        if (world_find_replica(world, world_node_of(record->members[i].node), record->members[i].name) == NULL)
            fail_msg("%s: replica %s is not there", what, record->members[i].name);
}

void world_settle(struct world *world, const char *what) {
    if (!step_host_run(world->stage.host, world_is_settled, world, 300 * NS_PER_S))
        fail_msg("%s: it is never settled: %s", what, fleet_find(world->fleet, "v")->waits_for);
    world_check(world, what);
}
