/* Asymmetric namespace access: what hosts read and are told, a state for each listener, draining, and a device whose path goes.
 */
#include "world.h"

#define ANA_NQN "nqn.2026-01.penstock:moving"
#define OTHER_PORT 4421
#define IDENTITY ((struct uuid){{0xc0, 0xff, 0xee, 1, 2, 3, 0x40, 4, 0x80, 5, 6, 7, 8, 9, 10, 11}})

static uint8_t page[NVME_IDENTIFY_SIZE], data[4096];

struct scene {
    struct world *world;
    struct nvme_subsystem *subsystem;
    struct nvme_listen_address address[2];
    /* of set_state() */
    unsigned listener;
    uint32_t group;
    enum nvme_ana_state state;
    bool answered, accepted;
    struct error refused, failed;
};

static void build(void *arg) {
    struct scene *scene = arg;
    struct uuid uuid = IDENTITY;
    struct nvme_subsystem_options options = {
        .nqn = ANA_NQN, .allow_any_host = true, .max_namespaces = 4, .min_cntlid = 100, .max_cntlid = 101, .ana = true};
    struct nvme_namespace_options ns = {.device = "disk2", .uuid = &uuid};
    struct error error = {0};
    uint32_t nsid = 0;
    assert_true(nvme_subsystem_create(scene->world->target, &options, &scene->subsystem, &error));
    ns.anagrpid = 5;
    assert_false(nvme_subsystem_add_namespace(scene->subsystem, &ns, &nsid, &error));
    assert_string_equal(error.field, "anagrpid");
    ns.anagrpid = 0;
    assert_true(nvme_subsystem_add_namespace(scene->subsystem, &ns, &nsid, &error));
    ns = (struct nvme_namespace_options){.device = "disk", .anagrpid = 4};
    assert_true(nvme_subsystem_add_namespace(scene->subsystem, &ns, &nsid, &error));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(nvme_listen_address_parse("TCP", "IPv4", "10.0.0.1", i == 0 ? "4420" : "4421", &scene->address[i], &error));
        enum nvme_ana_state state = i == 0 ? NVME_ANA_OPTIMIZED : NVME_ANA_INACCESSIBLE_STATE;
        assert_true(nvme_subsystem_add_listener(scene->subsystem, &scene->address[i], state, &error));
    }
    /* one that does not report */
    assert_false(nvme_subsystem_add_listener(scene->world->subsystem, &scene->address[1], NVME_ANA_NON_OPTIMIZED, &error));
    assert_int_equal(error.code, ERROR_UNSUPPORTED);
}

static void scene_create(struct scene *scene, uint64_t seed) {
    *scene = (struct scene){.world = world_create(seed, NULL, 512)};
    world_do(scene->world, build, scene);
}

static void on_set(void *arg, const struct error *error) {
    struct scene *scene = arg;
    scene->answered = true;
    scene->failed = error != NULL ? *error : (struct error){0};
}
static void set(void *arg) {
    struct scene *scene = arg;
    scene->answered = false;
    scene->accepted = nvme_listener_set_ana_state(scene->subsystem, &scene->address[scene->listener], scene->group, scene->state,
                                                  on_set, scene, &scene->refused);
}
/* Begins to; lets 10 ms pass. */
static void set_state(struct scene *scene, unsigned listener, uint32_t group, enum nvme_ana_state state) {
    scene->listener = listener;
    scene->group = group;
    scene->state = state;
    world_do(scene->world, set, scene);
    world_pass(scene->world, 10);
}

static unsigned log_read(struct client *admin, uint32_t flags, uint32_t offset, uint32_t length) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .nsid = NVME_NSID_ALL,
                           .cdw10 = NVME_LOG_ANA | flags | (length / 4 - 1) << 16,
                           .cdw12 = offset};
    memset(page, 0xee, sizeof(page));
    return client_run(admin, sqe, NVME_CONTROLLER_TO_HOST, page, length, false);
}
/* The state of a group; both have one namespace: 1 in 1, 2 in 4. */
static unsigned seen(struct client *admin, uint32_t group) {
    assert_int_equal(log_read(admin, 0, 0, sizeof(page)), 0);
    const struct nvme_ana_header *header = (const struct nvme_ana_header *)page;
    assert_int_equal(header->group_count, 2);
    const struct nvme_ana_group *one = (const struct nvme_ana_group *)(header + 1);
    const struct nvme_ana_group *four = (const struct nvme_ana_group *)((const uint8_t *)(one + 1) + 4);
    assert_int_equal(one->id, 1);
    assert_int_equal(one->namespace_count, 1);
    assert_int_equal(get_le32((const uint8_t *)(one + 1)), 1);
    assert_int_equal(four->id, 4);
    assert_int_equal(get_le32((const uint8_t *)(four + 1)), 2);
    return group == 1 ? one->state : four->state;
}
static void events_on(struct client *admin) {
    struct nvme_sqe sqe = {
        .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = NVME_FEATURE_ASYNC_EVENT_CONFIG, .cdw11 = NVME_AEC_NAMESPACE | NVME_AEC_ANA};
    assert_int_equal(client_run(admin, sqe, NVME_NO_DATA, NULL, 0, false), 0);
}
static void event_ask(struct client *admin) {
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    admin->done[5] = false;
    client_submit(admin, 5, aer, NVME_NO_DATA, NULL, 0, false);
    world_pass(admin->world, 10);
}
#define ANA_EVENT (NVME_EVENT_NOTICE | NVME_NOTICE_ANA << 8 | NVME_LOG_ANA << 16)

static struct client *come_in(struct scene *scene, unsigned listener) {
    return controller_open_at(scene->world, ANA_NQN, listener == 0 ? PORT : OTHER_PORT, 0);
}

static void hosts_read_what_there_is(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 1);
    struct client *plain = controller_open(scene.world, 0), *admin = come_in(&scene, 0);
    assert_int_equal(client_identify(admin, NVME_CNS_CONTROLLER, 0, page), 0);
    const struct nvme_identify_controller *id = (const struct nvme_identify_controller *)page;
    assert_int_equal(id->cmic, 1 | 2 | 8);
    assert_int_equal(id->oaes, NVME_AEC_NAMESPACE | NVME_AEC_ANA);
    assert_int_equal(id->anatt, NVME_ANA_TRANSITION_S);
    assert_int_equal(id->anacap, 0x57);
    assert_int_equal(id->anagrpmax, 4);
    assert_int_equal(id->nanagrpid, 4);
    assert_in_range(id->cntlid, 100, 101);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 2, page), 0);
    assert_int_equal(((const struct nvme_identify_namespace *)page)->anagrpid, 4);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_INDEPENDENT, 1, page), 0);
    assert_int_equal(((const struct nvme_identify_namespace_independent *)page)->anagrpid, 1);
    struct uuid identity = IDENTITY;
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_DESCRIPTORS, 1, page), 0);
    assert_memory_equal(page + 4, identity.bytes, 16); /* the NGUID */
    assert_int_equal(seen(admin, 1), NVME_ANA_OPTIMIZED);
    /* groups alone; and in two pieces */
    assert_int_equal(log_read(admin, NVME_LOG_ANA_GROUPS_ONLY, 0, sizeof(page)), 0);
    assert_int_equal(((const struct nvme_ana_group *)(page + 16))->namespace_count, 0);
    assert_int_equal(((const struct nvme_ana_group *)(page + 48))->id, 4);
    assert_int_equal(log_read(admin, 0, 16, 32), 0);
    assert_int_equal(((const struct nvme_ana_group *)page)->id, 1);
    assert_int_equal(page[32], 0xee);
    assert_int_equal(log_read(admin, 0, 4096, 32), NVME_INVALID_FIELD);
    /* a subsystem that does not report has nothing of it */
    assert_int_equal(log_read(plain, 0, 0, 64), NVME_INVALID_LOG_PAGE);
    assert_int_equal(client_identify(plain, NVME_CNS_CONTROLLER, 0, page), 0);
    assert_int_equal(id->cmic, 1 | 2);
    assert_int_equal(id->oaes, NVME_AEC_NAMESPACE);
    assert_int_equal(id->nanagrpid, 0);
    /* the range of controller ids is all there is: two nodes with disjoint ones never give the same */
    struct client *second = come_in(&scene, 1), *third = client_open(scene.world, false, false, false);
    assert_in_range(second->cntlid, 100, 101);
    assert_int_not_equal(second->cntlid, admin->cntlid);
    assert_int_equal(client_connect(third, ANA_NQN, 0, DEPTH, NVME_CNTLID_DYNAMIC, 0), NVME_CONNECT_CONTROLLER_BUSY);
    world_destroy(scene.world);
}

static void each_listener_has_its_state(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 2);
    struct client *here = come_in(&scene, 0), *there = come_in(&scene, 1);
    struct client *here_io = queue_open(here, 1), *there_io = queue_open(there, 1);
    events_on(here);
    events_on(there);
    event_ask(here);
    event_ask(there);
    assert_int_equal(seen(there, 1), NVME_ANA_INACCESSIBLE_STATE);
    assert_int_equal(client_io(here_io, NVME_IO_READ, 0, 8, data, 4096), 0);
    unsigned submitted = scene.world->disk2->submitted;
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_FLUSH, NVME_IO_WRITE_ZEROES, NVME_IO_COMPARE};
    for (size_t i = 0; i < sizeof(opcodes); i++) {
        bool payload = opcodes[i] != NVME_IO_FLUSH && opcodes[i] != NVME_IO_WRITE_ZEROES;
        assert_int_equal(client_io(there_io, opcodes[i], 0, 8, data, payload ? 4096 : 0), NVME_ANA_INACCESSIBLE);
        assert_false(nvme_status_field(NVME_DO_NOT_RETRY) & there_io->cqe[0].status); /* hosts would not try elsewhere */
    }
    assert_int_equal(scene.world->disk2->submitted, submitted);
    /* the other becomes the one */
    set_state(&scene, 1, 1, NVME_ANA_NON_OPTIMIZED);
    assert_true(scene.answered && scene.failed.code == ERROR_NONE);
    assert_true(there->done[5]);
    assert_false(here->done[5]);
    assert_int_equal(there->cqe[5].dw0, ANA_EVENT);
    assert_int_equal(seen(there, 1), NVME_ANA_NON_OPTIMIZED);
    assert_int_equal(seen(there, 4), NVME_ANA_INACCESSIBLE_STATE);
    assert_int_equal(seen(here, 1), NVME_ANA_OPTIMIZED);
    assert_int_equal(client_io(there_io, NVME_IO_READ, 0, 8, data, 4096), 0);
    set_state(&scene, 0, 0, NVME_ANA_INACCESSIBLE_STATE);
    assert_true(scene.answered && here->done[5]);
    assert_int_equal(client_io(here_io, NVME_IO_WRITE, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    /* what is masked until the log is read is told then, unless the log said it */
    event_ask(here);
    set_state(&scene, 0, 1, NVME_ANA_OPTIMIZED);
    assert_false(here->done[5]);
    assert_int_equal(log_read(here, NVME_LOG_RETAIN_EVENT, 0, sizeof(page)), 0);
    assert_false(here->done[5]);
    assert_int_equal(log_read(here, 0, 0, 16), 0); /* not all of it */
    assert_true(here->done[5]);
    event_ask(here);
    set_state(&scene, 0, 1, NVME_ANA_NON_OPTIMIZED);
    assert_int_equal(seen(here, 1), NVME_ANA_NON_OPTIMIZED);
    assert_false(here->done[5]);
    set_state(&scene, 0, 1, NVME_ANA_NON_OPTIMIZED); /* which it is: nothing to tell */
    assert_false(here->done[5]);
    /* what cannot be */
    scene.address[1].port++;
    set_state(&scene, 1, 1, NVME_ANA_OPTIMIZED);
    assert_false(scene.accepted);
    assert_int_equal(scene.refused.code, ERROR_NOT_FOUND);
    set_state(&scene, 0, 5, NVME_ANA_OPTIMIZED);
    assert_string_equal(scene.refused.field, "anagrpid");
    world_destroy(scene.world);
}

static void a_path_drains_before_it_is_inaccessible(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 3);
    struct world *world = scene.world;
    set_state(&scene, 1, 0, NVME_ANA_OPTIMIZED);
    struct client *here = come_in(&scene, 0), *there = come_in(&scene, 1);
    struct client *io = queue_open(here, 1), *there_io = queue_open(there, 1);
    events_on(here);
    world->disk2->hold = true;
    struct nvme_sqe write = {.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7};
    client_submit(io, 3, write, NVME_HOST_TO_CONTROLLER, data, 4096, true);
    struct nvme_sqe other = {.opcode = NVME_IO_READ, .nsid = 1, .cdw12 = 7};
    uint8_t *into = page;
    client_submit(there_io, 3, other, NVME_CONTROLLER_TO_HOST, into, 4096, false);
    world_pass(world, 10);
    set_state(&scene, 0, 1, NVME_ANA_INACCESSIBLE_STATE);
    assert_false(scene.answered);
    assert_int_equal(seen(here, 1), NVME_ANA_CHANGE);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_TRANSITION);
    struct nvme_sqe elsewhere = {.opcode = NVME_IO_READ, .nsid = 2, .cdw12 = 7};
    assert_int_equal(client_run(io, elsewhere, NVME_CONTROLLER_TO_HOST, data, 4096, false), 0);
    set_state(&scene, 0, 1, NVME_ANA_OPTIMIZED);
    assert_false(scene.accepted);
    assert_int_equal(scene.refused.code, ERROR_BUSY);
    scene.state = NVME_ANA_INACCESSIBLE_STATE;
    event_ask(here);
    assert_false(scene.answered);
    disk_release(world, world->disk2);
    client_wait(io, 3);
    assert_int_equal(nvme_status_code(&io->cqe[3]), 0); /* what was in the device has ended well */
    world_pass(world, 10);
    assert_true(scene.answered && scene.failed.code == ERROR_NONE);
    client_wait(here, 5);
    assert_int_equal(here->cqe[5].dw0, ANA_EVENT);
    assert_int_equal(seen(here, 1), NVME_ANA_INACCESSIBLE_STATE);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    assert_int_equal(client_io(there_io, NVME_IO_READ, 0, 8, data, 4096), 0);
    world_destroy(world);
}

/* Data that come late find the door closed, and a command whose host has gone holds it open. */
static void what_is_on_its_way_counts(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 4);
    struct world *world = scene.world;
    struct client *here = come_in(&scene, 0), *io = queue_open(here, 1);
    world->disk2->hold = true;
    struct nvme_sqe write = {.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7};
    client_submit(io, 3, write, NVME_HOST_TO_CONTROLLER, data, 4096, true);
    world_pass(world, 10);
    client_close(io);
    client_close(here);
    world_pass(world, 10);
    set_state(&scene, 0, 1, NVME_ANA_INACCESSIBLE_STATE);
    assert_false(scene.answered);
    disk_release(world, world->disk2);
    world_pass(world, 10);
    assert_true(scene.answered && scene.failed.code == ERROR_NONE);
    /* a device that does not answer: the path closes, and whoever asked is told */
    set_state(&scene, 0, 1, NVME_ANA_OPTIMIZED);
    here = come_in(&scene, 0);
    io = queue_open(here, 1);
    world->disk2->hold = true;
    client_submit(io, 3, write, NVME_HOST_TO_CONTROLLER, data, 4096, true);
    world_pass(world, 10);
    set_state(&scene, 0, 0, NVME_ANA_INACCESSIBLE_STATE);
    world_pass(world, NVME_ANA_TRANSITION_S * 1000 - 100);
    assert_false(scene.answered);
    world_pass(world, 200);
    assert_true(scene.answered);
    assert_int_equal(scene.failed.code, ERROR_TIMED_OUT);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    /* asked again, it waits again; the subsystem's end waits for both */
    set_state(&scene, 0, 0, NVME_ANA_INACCESSIBLE_STATE);
    assert_false(scene.answered);
    disk_release(world, world->disk2);
    world_pass(world, 10);
    assert_true(scene.answered && scene.failed.code == ERROR_NONE);
    world_destroy(world);
}

static void drop_listener(void *arg) {
    struct scene *scene = arg;
    assert_true(nvme_subsystem_remove_listener(scene->subsystem, &scene->address[0], NULL));
}
static void drop_subsystem(void *arg) { nvme_subsystem_delete(((struct scene *)arg)->subsystem, NULL, NULL); }

static void a_change_outlives_its_listener(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 5);
    struct world *world = scene.world;
    struct client *here = come_in(&scene, 0), *io = queue_open(here, 1);
    world->disk2->hold = true;
    struct nvme_sqe write = {.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7};
    client_submit(io, 3, write, NVME_HOST_TO_CONTROLLER, data, 4096, true);
    world_pass(world, 10);
    set_state(&scene, 0, 1, NVME_ANA_INACCESSIBLE_STATE);
    world_do(world, drop_listener, &scene);
    world_do(world, drop_subsystem, &scene);
    world_pass(world, 10);
    assert_false(scene.answered);
    disk_release(world, world->disk2);
    world_pass(world, 10);
    assert_true(scene.answered && scene.failed.code == ERROR_NONE);
    world_destroy(world);
}

static void path_down(void *arg) { block_device_set_path(&((struct scene *)arg)->world->disk2->device, false); }
static void path_up(void *arg) { block_device_set_path(&((struct scene *)arg)->world->disk2->device, true); }

/* A mirror that is a standby, or was fenced: its hosts go elsewhere without anybody's command. */
static void a_device_without_its_path_is_inaccessible(void **state) {
    (void)state;
    struct scene scene;
    scene_create(&scene, 6);
    struct world *world = scene.world;
    world_do(world, path_down, &scene);
    struct client *here = come_in(&scene, 0), *io = queue_open(here, 1);
    events_on(here);
    event_ask(here);
    assert_int_equal(seen(here, 1), NVME_ANA_INACCESSIBLE_STATE);
    assert_int_equal(seen(here, 4), NVME_ANA_OPTIMIZED);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    world_do(world, path_up, &scene);
    client_wait(here, 5);
    assert_int_equal(here->cqe[5].dw0, ANA_EVENT);
    assert_int_equal(seen(here, 1), NVME_ANA_OPTIMIZED);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    /* the status of a request that the device gave back is path-related too: the event may come later */
    world->disk2->fail_with = IO_PATH_LOST;
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    world->disk2->fail_with = IO_FENCED; /* this one is a replica: its engine must hear of the fence */
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_RESERVATION_CONFLICT);
    world->disk2->device.native_ops &= ~(BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET));
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_ANA_INACCESSIBLE);
    world->disk2->fail_with = IO_MEDIUM_READ;
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), NVME_UNRECOVERED_READ);
    world_destroy(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_read_what_there_is),
        cmocka_unit_test(each_listener_has_its_state),
        cmocka_unit_test(a_path_drains_before_it_is_inaccessible),
        cmocka_unit_test(what_is_on_its_way_counts),
        cmocka_unit_test(a_change_outlives_its_listener),
        cmocka_unit_test(a_device_without_its_path_is_inaccessible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
