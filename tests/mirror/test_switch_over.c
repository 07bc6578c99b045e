/* A volume moves to another node under its host: two engines over the same replicas, each behind a target that reports asymmetric
 * access, one subsystem on both, and a host that has a path to each and goes the other way when it is told to. The steps are
 * those of docs/nvme-target.md; a switch that breaks off at any moment leaves one engine able to write, and everything in its
 * place. */
#include "base/random.h"
#include "blockdev/mirror/mirror.h"
#include "cluster.h"
#include "replica_disk.h"

#include <stdio.h>

#define DISKS 3
#define REGIONS 4
#define BYTES (REGIONS * REPLICA_REGION_BYTES)
#define SLOTS 6
#define BLOCK 4096
#define NQN "nqn.2026-01.penstock:moving"
#define IDENTITY ((struct uuid){{0xc0, 0xff, 0xee, 1, 2, 3, 0x40, 4, 0x80, 5, 6, 7, 8, 9, 10, 11}})

struct story;

/* A node with an engine, and the host's path to it. The host has an initiator, on a machine of its own, for each path. */
struct way {
    struct story *story;
    unsigned index;
    struct plane plane, host;
    struct replica_view *views[DISKS];
    struct block_device *mirror;
    struct mirror_command command;
    bool standby;
    struct nvme_subsystem *subsystem;
    struct nvme_listen_address address;
    bool state_set;
    struct error state_error;
    enum nvme_ana_state state;
    struct block_handle handle; /* the host's */
    struct block_channel *channel;
    struct block_handle own_handle; /* the engine's own node's, past all targets */
    struct block_channel *own_channel;
    struct block_request probe;
    struct slice probe_slice;
    struct reactor_message message;
    bool probing;
};

/* A block of the host's, with one request at a time, which is repeated by the other path until it succeeds. */
struct slot {
    struct story *story;
    struct block_request request;
    struct slice slice;
    struct reactor_message message;
    uint8_t *payload;
    unsigned index, way;
    bool busy, again;
    uint32_t acknowledged, version; /* version: of the write under way */
};

struct story {
    struct cluster cluster;
    struct random random;
    uint64_t seed;
    struct replica_disk disks[DISKS];
    struct way ways[2];
    struct slot slots[SLOTS];
    uint8_t *probe_payload;
    unsigned best; /* the way that worked last */
    uint64_t ended, refused;
    bool quiet; /* nothing new is begun */
};

/* ---- the host ---- */

static void slot_done(struct block_request *request) {
    struct slot *slot = container_of(request, struct slot, request);
    struct story *story = slot->story;
    if (request->status != IO_OK) {
        if (request->status != IO_PATH_LOST && request->status != IO_NOT_READY)
            fail_msg("seed %llu: %s", (unsigned long long)story->seed, io_status_name((enum io_status)request->status));
        story->refused++;
        slot->again = true;
        return;
    }
    story->ended++;
    story->best = slot->way;
    slot->busy = false;
    if (request->op == BLOCK_WRITE)
        slot->acknowledged = slot->version;
    else if (get_le32(slot->payload) != slot->acknowledged)
        fail_msg("seed %llu: slot %u shows version %u by way %u, %u was acknowledged", (unsigned long long)story->seed,
                 slot->index, get_le32(slot->payload), slot->way, slot->acknowledged);
}

static void slot_run(struct reactor_message *message) {
    struct slot *slot = container_of(message, struct slot, message);
    block_submit(slot->story->ways[slot->way].channel, &slot->request);
}

static void slot_begin(struct slot *slot) {
    struct story *story = slot->story;
    if (slot->again)
        slot->way ^= 1;
    else
        slot->way = story->best;
    if (!slot->again) {
        bool write = random_chance(&story->random, 1, 2);
        slot->version = slot->acknowledged + 1;
        put_le32(slot->payload, slot->version);
        slot->slice = (struct slice){slot->payload, BLOCK};
        slot->request = (struct block_request){.op = write ? BLOCK_WRITE : BLOCK_READ,
                                               .flags = BLOCK_FAIL_FAST,
                                               .offset = slot->index % REGIONS * REPLICA_REGION_BYTES + slot->index * BLOCK,
                                               .length = BLOCK,
                                               .slices = &slot->slice,
                                               .slice_count = 1,
                                               .complete = slot_done};
    }
    slot->busy = true;
    slot->again = false;
    slot->message.run = slot_run;
    reactor_post(story->ways[slot->way].host.data[0], &slot->message);
}

/* Lets 20 µs pass; the host is at work. */
static void step(struct story *story) {
    for (unsigned i = 0; i < SLOTS; i++)
        if (story->slots[i].again || (!story->slots[i].busy && !story->quiet))
            slot_begin(&story->slots[i]);
    for (unsigned i = 0; i < 20; i++)
        (void)replica_disk_step(&story->disks[random_below(&story->random, DISKS)]);
    sim_run_for(story->cluster.sim, 20 * NS_PER_US);
}

static void pass(struct story *story, uint64_t us) {
    for (uint64_t i = 0; i < us; i += 20)
        step(story);
}

static void until_ended(struct story *story, uint64_t requests) {
    uint64_t end = story->ended + requests;
    for (unsigned i = 0; story->ended < end; i++) {
        if (i > 500000)
            fail_msg("seed %llu: the host waits for ever", (unsigned long long)story->seed);
        step(story);
    }
}

static void host_open(struct plane *plane, void *arg) {
    struct way *way = arg;
    struct error error;
    way->handle = (struct block_handle){.owner = "the host"};
    if (!block_handle_open(&way->handle, block_graph_find(&plane->graph, "pn1"), BLOCK_MODE_WRITE, &error))
        fail_msg("%s", error.text);
}
static void channel_open(struct plane *plane, void *arg) {
    struct way *way = arg;
    (void)plane;
    way->channel = block_channel_open(&way->handle);
}

/* To the host: the initiator hears of each change. */
static bool seems_up(const struct way *way) { return block_device_path_is_up(way->handle.device); }

static void host_connect_to(struct way *way) {
    struct nvme_initiator_options options;
    plane_initiator_options(&options);
    plane_start(&way->host, &options);
    plane_attach(&way->host, "p", &way->plane, NQN);
    plane_do(&way->host, host_open, way);
    plane_do_on(&way->host, way->host.data[0], channel_open, way);
}

/* ---- the engines ---- */

static void engine_create(struct plane *plane, void *arg) {
    struct way *way = arg;
    struct error error = {0};
    struct mirror_options options = {.name = "m",
                                     .leg_count = DISKS,
                                     .home = plane->data[0],
                                     .standby = way->standby,
                                     .policy = REPLICA_ANY,
                                     .longest_stall_ms = 200,
                                     .seed = random_u64(&way->story->random) | 1};
    for (unsigned i = 0; i < DISKS; i++) {
        way->views[i] = replica_view_create(&way->story->disks[i], &plane->graph, plane->data[0]);
        options.legs[i].device = way->story->disks[i].name;
    }
    if (!mirror_create(&plane->graph, plane->control, &options, &way->mirror, &error))
        fail_msg("%s", error.text);
    way->own_handle = (struct block_handle){.owner = "the probe"};
    if (!block_handle_open(&way->own_handle, way->mirror, BLOCK_MODE_WRITE, &error))
        fail_msg("%s", error.text);
}
static void own_channel_open(struct plane *plane, void *arg) {
    struct way *way = arg;
    (void)plane;
    way->own_channel = block_channel_open(&way->own_handle);
}

static void offer(struct plane *plane, void *arg) {
    struct way *way = arg;
    struct error error = {0};
    struct nvme_transport_options transport = {0};
    struct uuid identity = IDENTITY;
    struct nvme_subsystem_options options = {.nqn = NQN,
                                             .allow_any_host = true,
                                             .ana = true,
                                             .min_cntlid = (uint16_t)(way->index * 100 + 1),
                                             .max_cntlid = (uint16_t)(way->index * 100 + 100)};
    struct nvme_namespace_options namespace = {.device = "m", .uuid = &identity};
    uint32_t nsid = 0;
    if (!nvme_tcp_transport_create(plane->target, plane->control, &transport, &error) ||
        !nvme_subsystem_create(plane->target, &options, &way->subsystem, &error) ||
        !nvme_subsystem_add_namespace(way->subsystem, &namespace, &nsid, &error) ||
        !nvme_listen_address_parse("TCP", "IPv4", plane->address, "4420", &way->address, &error) ||
        !nvme_subsystem_add_listener(way->subsystem, &way->address, NVME_ANA_OPTIMIZED, &error))
        fail_msg("%s", error.text);
}

static void engine_start(struct way *way, bool standby) {
    way->standby = standby;
    plane_start(&way->plane, NULL);
    plane_do(&way->plane, engine_create, way);
    plane_do_on(&way->plane, way->plane.data[0], own_channel_open, way);
    for (unsigned i = 0; atomic_load(&way->mirror->block_count) == 0; i++) {
        assert_true(i < 500000);
        step(way->story);
    }
    plane_do(&way->plane, offer, way);
}

static void engine_kill(struct way *way) {
    plane_kill(&way->plane, random_chance(&way->story->random, 1, 2) ? SIM_KILL_CLOSE : SIM_KILL_VANISH);
    for (unsigned i = 0; i < DISKS; i++)
        replica_view_forsake(way->views[i]);
    way->mirror = NULL;
}

static enum mirror_state state_of(const struct way *way) {
    struct mirror_status status;
    mirror_status_get(way->mirror, &status);
    return status.state;
}

static void command_done(struct mirror_command *command) { command->device = NULL; }
static void command_send(struct plane *plane, void *arg) {
    struct way *way = arg;
    way->command.control = plane->control;
    mirror_command(&way->command);
}
static void promote_begin(struct way *way) {
    way->command = (struct mirror_command){.device = way->mirror, .verb = MIRROR_PROMOTE, .done = command_done};
    plane_do(&way->plane, command_send, way);
}
static void until_answered(struct way *way) {
    for (unsigned i = 0; way->command.device != NULL; i++) {
        assert_true(i < 500000);
        step(way->story);
    }
}
static void promote(struct way *way) {
    promote_begin(way);
    until_answered(way);
    if (way->command.error.code != ERROR_NONE)
        fail_msg("seed %llu: %s", (unsigned long long)way->story->seed, way->command.error.text);
}

static void on_state(void *arg, const struct error *error) {
    struct way *way = arg;
    way->state_set = true;
    way->state_error = error != NULL ? *error : (struct error){0};
}
static void state_send(struct plane *plane, void *arg) {
    struct way *way = arg;
    struct error error;
    (void)plane;
    if (!nvme_listener_set_ana_state(way->subsystem, &way->address, 0, way->state, on_state, way, &error))
        fail_msg("%s", error.text);
}
static void set_state(struct way *way, enum nvme_ana_state state) {
    way->state = state;
    way->state_set = false;
    plane_do(&way->plane, state_send, way);
    for (unsigned i = 0; !way->state_set; i++) {
        assert_true(i < 500000);
        step(way->story);
    }
    assert_int_equal(way->state_error.code, ERROR_NONE);
}

/* ---- who can write ---- */

static void probe_done(struct block_request *request) { container_of(request, struct way, probe)->probing = false; }
static void probe_run(struct reactor_message *message) {
    struct way *way = container_of(message, struct way, message);
    block_submit(way->own_channel, &way->probe);
}
/* Past all targets, on its own node: a block that nobody else uses. */
static bool can_write(struct way *way) {
    if (way->mirror == NULL)
        return false;
    way->probe_slice = (struct slice){way->story->probe_payload, BLOCK};
    way->probe = (struct block_request){.op = BLOCK_WRITE,
                                        .offset = BYTES - BLOCK,
                                        .length = BLOCK,
                                        .slices = &way->probe_slice,
                                        .slice_count = 1,
                                        .complete = probe_done};
    way->probing = true;
    way->message.run = probe_run;
    reactor_post(way->plane.data[0], &way->message);
    for (unsigned i = 0; way->probing; i++) {
        assert_true(i < 3000000);
        step(way->story);
    }
    return way->probe.status == IO_OK;
}

/* ---- the story ---- */

static struct story *begin(uint64_t seed) {
    struct story *story = plain_alloc(sizeof(*story));
    *story = (struct story){.seed = seed};
    random_init(&story->random, seed);
    cluster_init(&story->cluster, seed);
    for (unsigned i = 0; i < DISKS; i++) {
        char name[8];
        snprintf(name, sizeof(name), "r%u", i);
        replica_disk_init(&story->disks[i], name, BYTES, seed * DISKS + i);
    }
    story->probe_payload = plain_alloc(BLOCK);
    memset(story->probe_payload, 7, BLOCK);
    story->quiet = true;
    for (unsigned i = 0; i < SLOTS; i++) {
        story->slots[i] = (struct slot){.story = story, .index = i, .payload = plain_alloc(BLOCK)};
        memset(story->slots[i].payload, 0, BLOCK);
    }
    for (unsigned i = 0; i < 2; i++) {
        static const char *const names[] = {"a", "b"}, *const hosts[] = {"host by a", "host by b"};
        static const char *const addresses[] = {"10.0.0.1", "10.0.0.2"}, *const host_addresses[] = {"10.0.1.1", "10.0.1.2"};
        struct way *way = &story->ways[i];
        way->story = story;
        way->index = i;
        plane_init(&way->plane, &story->cluster, names[i], addresses[i], 1);
        plane_init(&way->host, &story->cluster, hosts[i], host_addresses[i], 1);
    }
    engine_start(&story->ways[0], false);
    engine_start(&story->ways[1], true);
    host_connect_to(&story->ways[0]);
    host_connect_to(&story->ways[1]);
    story->quiet = false;
    until_ended(story, 100);
    assert_int_equal(story->best, 0);
    return story;
}

static void end(struct story *story) {
    story->quiet = true;
    for (unsigned i = 0; i < SLOTS; i++)
        for (unsigned j = 0; story->slots[i].busy; j++) {
            assert_true(j < 500000);
            step(story);
        }
    for (unsigned i = 0; i < 2; i++) {
        plane_kill(&story->ways[i].host, SIM_KILL_CLOSE);
        if (story->ways[i].plane.running)
            plane_kill(&story->ways[i].plane, SIM_KILL_CLOSE);
    }
    for (unsigned i = 0; i < DISKS; i++) {
        replica_disk_forsake(&story->disks[i]);
        replica_disk_fini(&story->disks[i]);
    }
    cluster_fini(&story->cluster);
    for (unsigned i = 0; i < SLOTS; i++)
        plain_free(story->slots[i].payload);
    plain_free(story->probe_payload);
    plain_free(story);
}

static void a_planned_switch(void **state) {
    (void)state;
    struct story *story = begin(1);
    struct way *a = &story->ways[0], *b = &story->ways[1];
    assert_int_equal(state_of(b), MIRROR_STANDBY);
    uint64_t refused = story->refused;
    assert_int_equal(refused, 0); /* nobody went to the standby */
    assert_true(seems_up(a) && !seems_up(b));
    set_state(a, NVME_ANA_INACCESSIBLE_STATE);
    pass(story, 5000);
    uint64_t ended = story->ended;
    pass(story, 5000);
    assert_int_equal(story->ended, ended); /* neither serves */
    assert_true(!seems_up(a) && !seems_up(b));
    assert_true(can_write(a));
    assert_false(can_write(b));
    promote(b);
    until_ended(story, 100);
    assert_int_equal(story->best, 1);
    assert_false(can_write(a));
    assert_true(can_write(b));
    pass(story, 20000);
    assert_int_equal(state_of(a), MIRROR_ENDED);
    assert_true(!seems_up(a) && seems_up(b));
    /* A is optimized again: its engine is not, and nobody gets anything there */
    set_state(a, NVME_ANA_OPTIMIZED);
    story->best = 0;
    until_ended(story, 100);
    assert_int_equal(story->best, 1);
    end(story);
}

static void a_dead_one_is_skipped(void **state) {
    (void)state;
    struct story *story = begin(2);
    engine_kill(&story->ways[0]);
    pass(story, 2000);
    promote(&story->ways[1]);
    until_ended(story, 100);
    assert_int_equal(story->best, 1);
    end(story);
}

/* The old one is not asked: it serves until it is fenced, and its host loses nothing. */
static void an_old_one_that_is_cut_off_from_its_masters(void **state) {
    (void)state;
    struct story *story = begin(3);
    promote(&story->ways[1]);
    until_ended(story, 100);
    assert_int_equal(story->best, 1);
    assert_false(can_write(&story->ways[0]));
    end(story);
}

/* Its claims come with a term that is over: that is said at once, and it may be told to try again. */
static void one_that_is_fenced_is_told(void **state) {
    (void)state;
    struct story *story = begin(4);
    struct way *b = &story->ways[1];
    b->command = (struct mirror_command){.device = b->mirror, .verb = MIRROR_PROMOTE, .term = 1, .done = command_done};
    plane_do(&b->plane, command_send, b);
    until_answered(b);
    assert_int_equal(b->command.error.code, ERROR_PERMISSION);
    assert_int_equal(state_of(b), MIRROR_STANDBY);
    assert_true(can_write(&story->ways[0]));
    until_ended(story, 100);
    assert_int_equal(story->best, 0);
    promote(b);
    assert_true(can_write(b));
    end(story);
}

/* B dies at some moment of its promotion. What A can do then decides; if it was superseded, B goes on. */
static void a_switch_breaks_off_anywhere(void **state) {
    (void)state;
    unsigned stayed = 0, moved = 0;
    for (uint64_t seed = 10; seed < 40; seed++) {
        struct story *story = begin(seed);
        struct way *a = &story->ways[0], *b = &story->ways[1];
        set_state(a, NVME_ANA_INACCESSIBLE_STATE);
        if (seed % 10 > 0) {
            promote_begin(b);
            pass(story, random_below(&story->random, 3000));
        }
        engine_kill(b);
        set_state(a, NVME_ANA_OPTIMIZED);
        if (can_write(a)) {
            stayed++;
            until_ended(story, 50);
            assert_int_equal(story->best, 0);
            engine_start(b, true); /* it comes back, and claims nothing */
            until_ended(story, 50);
            assert_int_equal(state_of(b), MIRROR_STANDBY);
        } else {
            moved++;
            assert_int_equal(state_of(a), MIRROR_ENDED);
            engine_start(b, true);
            promote(b);
            until_ended(story, 50);
            assert_int_equal(story->best, 1);
            assert_false(can_write(a));
        }
        assert_int_not_equal(can_write(a), can_write(b));
        end(story);
    }
    assert_true(stayed >= 3 && moved >= 3); /* it was broken off on both sides of the claims */
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    heap_keep_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_planned_switch),
        cmocka_unit_test(a_dead_one_is_skipped),
        cmocka_unit_test(an_old_one_that_is_cut_off_from_its_masters),
        cmocka_unit_test(one_that_is_fenced_is_told),
        cmocka_unit_test(a_switch_breaks_off_anywhere),
    };
    return cmocka_run_group_tests_name("switch-over", tests, NULL, NULL);
}
