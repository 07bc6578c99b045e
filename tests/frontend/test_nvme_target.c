/* The NVMe target over simulated sockets: who may connect, what a host is told, namespaces that change, hosts that vanish. */
#include "world.h"

static uint8_t page[NVME_IDENTIFY_SIZE], data[262144], other[262144];

/* ---- Connect ---- */

static void connect_is_checked(void **state) {
    (void)state;
    struct world *world = world_create(1, NULL, 512);
    static const struct {
        const char *subnqn, *hostnqn;
        uint16_t qid, depth, cntlid;
        unsigned status;
        uint32_t dw0;
    } rows[] = {
        {"nqn.2026-01.penstock:none", HOST_NQN, 0, 32, 0xffff, NVME_CONNECT_INVALID_PARAMETERS, 256 | 1 << 16},
        {"nonsense", HOST_NQN, 0, 32, 0xffff, NVME_CONNECT_INVALID_PARAMETERS, 256 | 1 << 16},
        {NQN, "nonsense", 0, 32, 0xffff, NVME_CONNECT_INVALID_PARAMETERS, 512 | 1 << 16},
        {NQN, HOST_NQN, 0, 1, 0xffff, NVME_CONNECT_INVALID_PARAMETERS, 44},
        {NQN, HOST_NQN, 0, 1000, 0xffff, NVME_CONNECT_INVALID_PARAMETERS, 44},
        {NQN, HOST_NQN, 0, 32, 7, NVME_CONNECT_INVALID_PARAMETERS, 16 | 1 << 16},
        {NQN, HOST_NQN, 1, 32, 7, NVME_CONNECT_INVALID_PARAMETERS, 16 | 1 << 16},
        {NQN, HOST_NQN, 500, 32, 7, NVME_CONNECT_INVALID_PARAMETERS, 42},
        {NVME_DISCOVERY_NQN, HOST_NQN, 1, 32, 1, NVME_CONNECT_INVALID_PARAMETERS, 42},
    };
    for (size_t i = 0; i < array_count(rows); i++) {
        struct client *client = client_open(world, false, false, false);
        client->hostnqn = rows[i].hostnqn;
        assert_int_equal(client_connect(client, rows[i].subnqn, rows[i].qid, rows[i].depth, rows[i].cntlid, 0), rows[i].status);
        assert_int_equal(client->cqe[0].dw0, rows[i].dw0);
        assert_true(nvme_status_do_not_retry(&client->cqe[0]));
        /* another try on the same connection works */
        client->hostnqn = HOST_NQN;
        assert_int_equal(client_connect(client, NQN, 0, 32, 0xffff, 0), 0);
        client_close(client);
    }
    /* nothing but Connect first */
    struct client *client = client_open(world, false, false, false);
    assert_int_equal(client_identify(client, NVME_CNS_CONTROLLER, 0, page), NVME_COMMAND_SEQUENCE_ERROR);
    uint64_t value;
    assert_int_equal(client_property_get(client, NVME_PROPERTY_VS, false, &value), NVME_COMMAND_SEQUENCE_ERROR);
    /* not twice, and nothing but properties before it is enabled */
    assert_int_equal(client_connect(client, NQN, 0, 32, 0xffff, 0), 0);
    uint16_t cntlid = client->cntlid;
    assert_int_equal(client_connect(client, NQN, 0, 32, 0xffff, 0), NVME_COMMAND_SEQUENCE_ERROR);
    assert_int_equal(client_identify(client, NVME_CNS_CONTROLLER, 0, page), NVME_COMMAND_SEQUENCE_ERROR);
    struct client *io = client_open(world, false, false, false);
    assert_int_equal(client_connect(io, NQN, 1, 32, cntlid, 0), NVME_COMMAND_SEQUENCE_ERROR);
    assert_true(client_is_closed(io, 5000));
    world_destroy(world);
}

struct host_change {
    struct world *world;
    const char *add, *remove;
    bool any;
};
static void change_hosts(void *arg) {
    struct host_change *change = arg;
    struct nvme_subsystem *subsystem = change->world->subsystem;
    nvme_subsystem_allow_any_host(subsystem, change->any);
    if (change->add != NULL)
        assert_true(nvme_subsystem_add_host(subsystem, change->add, NULL));
    if (change->remove != NULL)
        assert_true(nvme_subsystem_remove_host(subsystem, change->remove, NULL));
}

static void only_allowed_hosts_come_in(void **state) {
    (void)state;
    struct world *world = world_create(2, NULL, 512);
    world_do(world, change_hosts, &(struct host_change){world, .add = "nqn.2014-08.org.nvmexpress:other"});
    struct client *client = client_open(world, false, false, false);
    assert_int_equal(client_connect(client, NQN, 0, 32, 0xffff, 0), NVME_CONNECT_INVALID_HOST);
    world_do(world, change_hosts, &(struct host_change){world, .add = HOST_NQN});
    assert_int_equal(client_connect(client, NQN, 0, 32, 0xffff, 0), 0);
    world_do(world, change_hosts, &(struct host_change){world, .remove = HOST_NQN});
    assert_true(client_is_closed(client, 5000));
    world_pass(world, 100);
    assert_int_equal(world_controllers(world), 0);
    world_destroy(world);
}

/* ---- what hosts ask ---- */

static void properties_and_reset(void **state) {
    (void)state;
    struct world *world = world_create(3, NULL, 512);
    struct client *admin = controller_open(world, 0);
    uint64_t value;
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_CAP, true, &value), 0);
    assert_int_equal(value & 0xffff, NVME_DEFAULT_QUEUE_DEPTH - 1);
    assert_true(value & NVME_CAP_CSS_NVM && value & NVME_CAP_CQR);
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_CAP, false, &value), NVME_INVALID_FIELD);
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_VS, false, &value), 0);
    assert_int_equal(value, NVME_VERSION(1, 4, 0));
    assert_int_equal(client_property_get(admin, 0x999, false, &value), NVME_INVALID_FIELD);
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CSTS, 0), NVME_INVALID_FIELD);
    struct client *io = queue_open(admin, 1);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    /* a second connection may not have the same queue */
    struct client *twin = client_open(world, false, false, false);
    assert_int_equal(client_connect(twin, NQN, 1, 32, admin->cntlid, 0), NVME_CONNECT_INVALID_PARAMETERS);
    /* disabling takes the I/O queues, the admin queue stays */
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CC, CC_USUAL & ~NVME_CC_ENABLE), 0);
    assert_true(client_is_closed(io, 5000));
    world_pass(world, 50);
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_CSTS, false, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CC, CC_USUAL), 0);
    world_pass(world, 50);
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_CSTS, false, &value), 0);
    assert_int_equal(value, NVME_CSTS_READY);
    io = queue_open(admin, 1);
    /* shutdown */
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CC, CC_USUAL | NVME_CC_SHN_NORMAL), 0);
    assert_true(client_is_closed(io, 5000));
    world_pass(world, 50);
    assert_int_equal(client_property_get(admin, NVME_PROPERTY_CSTS, false, &value), 0);
    assert_int_equal(value & NVME_CSTS_SHST_MASK, NVME_CSTS_SHST_COMPLETE);
    /* what cannot be enabled says so */
    struct client *wrong = client_open(world, false, false, false);
    assert_int_equal(client_connect(wrong, NQN, 0, 32, 0xffff, 0), 0);
    assert_int_equal(client_property_set(wrong, NVME_PROPERTY_CC, NVME_CC_ENABLE | 7 << 16 | NVME_CC_IOCQES_16), 0);
    assert_int_equal(client_property_get(wrong, NVME_PROPERTY_CSTS, false, &value), 0);
    assert_int_equal(value, NVME_CSTS_FATAL);
    world_destroy(world);
}

static void identify_answers(void **state) {
    (void)state;
    struct world *world = world_create(4, NULL, 4096);
    struct client *admin = controller_open(world, 0);
    assert_int_equal(client_identify(admin, NVME_CNS_CONTROLLER, 0, page), 0);
    const struct nvme_identify_controller *controller = (const struct nvme_identify_controller *)page;
    assert_memory_equal(controller->serial, "S1                  ", 20);
    assert_memory_equal(controller->model, "Model                                   ", 40);
    assert_int_equal(controller->cntlid, admin->cntlid);
    assert_int_equal(controller->mdts, 5);
    assert_int_equal(controller->nn, NVME_DEFAULT_NAMESPACES);
    assert_int_equal(controller->ioccsz, (64 + 4096) / 16);
    assert_int_equal(controller->iorcsz, 1);
    assert_int_equal(controller->oncs, 0x1d);
    assert_int_equal(controller->vwc, 5);
    assert_string_equal(controller->subnqn, NQN);
    assert_int_equal(controller->oaes, NVME_AEC_NAMESPACE);

    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 1, page), 0);
    const struct nvme_identify_namespace *ns = (const struct nvme_identify_namespace *)page;
    assert_int_equal(ns->size, MIB(4) / 4096);
    assert_int_equal(ns->formats[0].block_shift, 12);
    assert_int_equal(ns->dlfeat, 9);
    assert_memory_equal(ns->nguid, world->disk->device.uuid.bytes, 16);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 2, page), 0); /* inactive: zero */
    assert_int_equal(ns->size, 0);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 33, page), NVME_INVALID_NAMESPACE);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 0, page), NVME_INVALID_NAMESPACE);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, NVME_NSID_ALL, page), NVME_INVALID_NAMESPACE);

    assert_int_equal(client_identify(admin, NVME_CNS_ACTIVE_NAMESPACES, 0, page), 0);
    assert_int_equal(get_le32(page), 1);
    assert_int_equal(get_le32(page + 4), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_ACTIVE_NAMESPACES, 1, page), 0);
    assert_int_equal(get_le32(page), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_ACTIVE_NAMESPACES, 0xfffffffe, page), NVME_INVALID_NAMESPACE);

    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_DESCRIPTORS, 1, page), 0);
    assert_memory_equal(page, "\2\20\0\0", 4); /* NGUID */
    assert_memory_equal(page + 4, world->disk->device.uuid.bytes, 16);
    assert_memory_equal(page + 20, "\3\20\0\0", 4); /* UUID */
    assert_memory_equal(page + 24, world->disk->device.uuid.bytes, 16);
    assert_memory_equal(page + 40, "\4\1\0\0\0\0\0\0\0", 9); /* command set NVM; end */
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_DESCRIPTORS, 2, page), NVME_INVALID_NAMESPACE);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_INDEPENDENT, 1, page), 0);
    assert_int_equal(((struct nvme_identify_namespace_independent *)page)->status, 1);
    assert_int_equal(client_identify(admin, NVME_CNS_CONTROLLER_OF_CSI, 0, page), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE_OF_CSI, 1, page), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_COMMAND_SETS, 0, page), 0);
    assert_int_equal(get_le64(page), 1);
    assert_int_equal(client_identify(admin, NVME_CNS_CONTROLLERS, 0, page), 0);
    assert_int_equal(get_le16(page), 1);
    assert_int_equal(get_le16(page + 2), admin->cntlid);
    assert_int_equal(client_identify(admin, 0x55, 0, page), NVME_INVALID_FIELD);
    struct nvme_sqe wrong_set = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CONTROLLER_OF_CSI, .cdw11 = 2U << 24};
    assert_int_equal(client_run(admin, wrong_set, NVME_CONTROLLER_TO_HOST, page, 4096, false), NVME_INVALID_FIELD);
    struct nvme_sqe shorter = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CONTROLLER};
    assert_int_equal(client_run(admin, shorter, NVME_CONTROLLER_TO_HOST, page, 512, false), NVME_SGL_INVALID_LENGTH);
    world_destroy(world);
}

static unsigned feature(struct client *admin, uint8_t opcode, uint32_t id, uint32_t value) {
    struct nvme_sqe sqe = {.opcode = opcode, .cdw10 = id, .cdw11 = value};
    return client_run(admin, sqe, NVME_NO_DATA, NULL, 0, false);
}

static void features_answer(void **state) {
    (void)state;
    struct world *world = world_create(5, NULL, 512);
    struct client *admin = controller_open(world, 0);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_NUMBER_OF_QUEUES, 3 | 3 << 16), 0);
    assert_int_equal(admin->cqe[0].dw0, 3 | 3 << 16);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_NUMBER_OF_QUEUES, 500 | 500 << 16), 0);
    assert_int_equal(admin->cqe[0].dw0, 126 | 126 << 16);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_NUMBER_OF_QUEUES, 0xffff), NVME_INVALID_FIELD);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_NUMBER_OF_QUEUES, 0), 0);
    struct client *io = client_open(world, false, false, false);
    assert_int_equal(client_connect(io, NQN, 2, 32, admin->cntlid, 0), NVME_CONNECT_INVALID_PARAMETERS); /* one was granted */
    (void)queue_open(admin, 1);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_NUMBER_OF_QUEUES, 5), NVME_COMMAND_SEQUENCE_ERROR);
    assert_int_equal(feature(admin, NVME_ADMIN_GET_FEATURES, NVME_FEATURE_VOLATILE_WRITE_CACHE, 0), 0);
    assert_int_equal(admin->cqe[0].dw0, 1);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_VOLATILE_WRITE_CACHE, 0), NVME_FEATURE_NOT_CHANGEABLE);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_AEC_NAMESPACE), 0);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_AEC_DISCOVERY),
                     NVME_INVALID_FIELD);
    assert_int_equal(feature(admin, NVME_ADMIN_GET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG, 0), 0);
    assert_int_equal(admin->cqe[0].dw0, NVME_AEC_NAMESPACE);
    assert_int_equal(feature(admin, NVME_ADMIN_GET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG | 3 << 8, 0), 0);
    assert_int_equal(admin->cqe[0].dw0, NVME_FEATURE_IS_CHANGEABLE);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_SAVE | NVME_FEATURE_ERROR_RECOVERY, 0),
                     NVME_FEATURE_NOT_SAVEABLE);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_KEEP_ALIVE_TIMER, 5001), 0);
    assert_int_equal(feature(admin, NVME_ADMIN_GET_FEATURES, NVME_FEATURE_KEEP_ALIVE_TIMER, 0), 0);
    assert_int_equal(admin->cqe[0].dw0, 5100); /* rounded up to the granularity */
    assert_int_equal(feature(admin, NVME_ADMIN_GET_FEATURES, 0x77, 0), NVME_INVALID_FIELD);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = NVME_FEATURE_HOST_ID, .cdw11 = 1};
    assert_int_equal(client_run(admin, sqe, NVME_CONTROLLER_TO_HOST, page, 16, false), 0);
    assert_memory_equal(page, "\1\2\3\4", 4);
    world_destroy(world);
}

static unsigned log_page(struct client *admin, uint8_t id, uint64_t offset, uint32_t length, void *to) {
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .nsid = NVME_NSID_ALL,
                           .cdw10 = id | (length / 4 - 1) << 16,
                           .cdw11 = (length / 4 - 1) >> 16,
                           .cdw12 = (uint32_t)offset,
                           .cdw13 = (uint32_t)(offset >> 32)};
    return client_run(admin, sqe, NVME_CONTROLLER_TO_HOST, to, length, false);
}

static void log_pages_answer(void **state) {
    (void)state;
    struct world *world = world_create(6, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    assert_int_equal(client_io(io, NVME_IO_WRITE, 0, 8, data, 4096), 0);
    assert_int_equal(client_io(io, NVME_IO_READ, UINT64_MAX, 8, data, 4096), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(log_page(admin, NVME_LOG_ERROR, 0, 128, page), 0);
    const struct nvme_error_entry *error = (const struct nvme_error_entry *)page;
    assert_int_equal(error[0].count, 1);
    assert_int_equal(error[0].sq_id, 1);
    assert_int_equal((error[0].status >> 1) & NVME_STATUS_MASK, NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(error[1].count, 0);
    assert_int_equal(log_page(admin, NVME_LOG_SMART, 0, 512, page), 0);
    const struct nvme_smart_log *smart = (const struct nvme_smart_log *)page;
    assert_int_equal(smart->host_writes[0], 1);
    assert_int_equal(smart->data_units_written[0], 1);
    assert_int_equal(smart->error_entries[0], 1);
    assert_int_equal(log_page(admin, NVME_LOG_FIRMWARE, 0, 512, page), 0);
    assert_int_equal(page[0], 1);
    assert_int_equal(log_page(admin, NVME_LOG_EFFECTS, 0, 4096, page), 0);
    assert_int_equal(get_le32(page + 1024 + 4 * NVME_IO_WRITE), 3);
    assert_int_equal(get_le32(page + 1024 + 4 * 0x55), 0);
    assert_int_equal(log_page(admin, NVME_LOG_EFFECTS, 1024 + 4, 8, page), 0); /* a piece */
    assert_int_equal(get_le32(page), 3);
    assert_int_equal(log_page(admin, NVME_LOG_SUPPORTED, 0, 1024, page), 0);
    assert_int_equal(page[4 * NVME_LOG_SMART], 1);
    assert_int_equal(log_page(admin, NVME_LOG_DISCOVERY, 0, 1024, page), NVME_INVALID_LOG_PAGE);
    assert_int_equal(log_page(admin, 0x99, 0, 512, page), NVME_INVALID_LOG_PAGE);
    assert_int_equal(log_page(admin, NVME_LOG_SMART, 516, 512, page), NVME_INVALID_FIELD);
    assert_int_equal(log_page(admin, NVME_LOG_SMART, UINT64_MAX - 3, 512, page), NVME_INVALID_FIELD);
    world_destroy(world);
}

/* ---- discovery ---- */

struct add_one {
    struct world *world;
    const char *nqn;
    struct nvme_subsystem *subsystem;
};
static void add_subsystem(void *arg) {
    struct add_one *add = arg;
    struct nvme_subsystem_options options = {.nqn = add->nqn, .allow_any_host = true};
    struct nvme_listen_address address;
    assert_true(nvme_subsystem_create(add->world->target, &options, &add->subsystem, NULL));
    assert_true(nvme_listen_address_parse("tcp", "", "10.0.0.1", "4420", &address, NULL));
    assert_true(nvme_subsystem_add_listener(add->subsystem, &address, NVME_ANA_OPTIMIZED, NULL));
}
static void delete_subsystem(void *arg) { nvme_subsystem_delete(((struct add_one *)arg)->subsystem, NULL, NULL); }

static void discovery_lists_what_a_host_may_use(void **state) {
    (void)state;
    struct world *world = world_create(7, NULL, 512);
    struct client *admin = client_open(world, false, false, false);
    assert_int_equal(client_connect(admin, NVME_DISCOVERY_NQN, 0, 32, 0xffff, 0), 0);
    assert_int_equal(client_property_set(admin, NVME_PROPERTY_CC, CC_USUAL), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_CONTROLLER, 0, page), 0);
    assert_int_equal(((struct nvme_identify_controller *)page)->type, NVME_CONTROLLER_DISCOVERY);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 1, page), NVME_INVALID_FIELD);
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_AEC_DISCOVERY), 0);
    client_submit(admin, 5, (struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT}, NVME_NO_DATA, NULL, 0, false);
    assert_int_equal(log_page(admin, NVME_LOG_DISCOVERY, 0, 2048, page), 0);
    uint64_t generation = get_le64(page);
    assert_int_equal(get_le64(page + 8), 1);
    const struct nvme_discovery_entry *entry = (const struct nvme_discovery_entry *)(page + 1024);
    assert_int_equal(entry->transport, NVME_TRANSPORT_TCP);
    assert_int_equal(entry->family, NVME_FAMILY_IPV4);
    assert_string_equal(entry->subnqn, NQN);
    assert_string_equal(entry->address, "10.0.0.1");
    assert_string_equal(entry->service, "4420");
    assert_false(admin->done[5]);
    struct add_one add = {world, "nqn.2026-01.penstock:more", NULL};
    world_do(world, add_subsystem, &add);
    client_wait(admin, 5);
    assert_int_equal(admin->cqe[5].dw0, 2 | 0xf0 << 8 | 0x70 << 16);
    assert_int_equal(log_page(admin, NVME_LOG_DISCOVERY, 0, 16, page), 0);
    assert_true(get_le64(page) > generation);
    assert_int_equal(get_le64(page + 8), 2);
    assert_int_equal(log_page(admin, NVME_LOG_DISCOVERY, 2048, 1024, page), 0);
    assert_string_equal(((struct nvme_discovery_entry *)page)->subnqn, "nqn.2026-01.penstock:more");
    world_do(world, delete_subsystem, &add);
    world_do(world, change_hosts, &(struct host_change){world, .any = false});
    assert_int_equal(log_page(admin, NVME_LOG_DISCOVERY, 0, 16, page), 0);
    assert_int_equal(get_le64(page + 8), 0);
    world_destroy(world);
}

/* ---- namespaces that come, change and go ---- */

struct ns_change {
    struct world *world;
    uint32_t nsid;
    bool done;
};
static void add_ns(void *arg) {
    struct ns_change *change = arg;
    struct nvme_namespace_options options = {.device = "disk2"};
    assert_true(nvme_subsystem_add_namespace(change->world->subsystem, &options, &change->nsid, NULL));
    struct error error = {0};
    assert_false(nvme_subsystem_add_namespace(change->world->subsystem, &options, &change->nsid, &error));
    assert_string_equal(error.field, "bdev_name");
}
static void ns_removed(void *arg) { ((struct ns_change *)arg)->done = true; }
static void remove_ns(void *arg) {
    struct ns_change *change = arg;
    struct error error = {0};
    assert_true(nvme_subsystem_remove_namespace(change->world->subsystem, change->nsid, ns_removed, change, NULL));
    assert_false(nvme_subsystem_remove_namespace(change->world->subsystem, change->nsid, NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    assert_false(nvme_subsystem_remove_namespace(change->world->subsystem, 9, NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}
static void resize(void *arg) { block_device_set_size(&((struct world *)arg)->disk->device, 100); }
static void remove_device(void *arg) {
    assert_true(block_device_remove(&((struct world *)arg)->disk2->device, NULL, NULL, NULL));
}

static void namespaces_change_under_hosts(void **state) {
    (void)state;
    struct world *world = world_create(11, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    assert_int_equal(feature(admin, NVME_ADMIN_SET_FEATURES, NVME_FEATURE_ASYNC_EVENT_CONFIG, NVME_AEC_NAMESPACE), 0);
    client_submit(admin, 5, aer, NVME_NO_DATA, NULL, 0, false);
    struct ns_change change = {.world = world};
    world_do(world, add_ns, &change);
    assert_int_equal(change.nsid, 2);
    client_wait(admin, 5);
    assert_int_equal(admin->cqe[5].dw0, 2 | 4 << 16);
    assert_int_equal(log_page(admin, NVME_LOG_CHANGED_NAMESPACES, 0, 4096, page), 0);
    assert_int_equal(get_le32(page), 2);
    assert_int_equal(get_le32(page + 4), 0);
    assert_int_equal(client_identify(admin, NVME_CNS_ACTIVE_NAMESPACES, 0, page), 0);
    assert_int_equal(get_le32(page + 4), 2);
    /* resize */
    client_submit(admin, 5, aer, NVME_NO_DATA, NULL, 0, false);
    world_do(world, resize, world);
    client_wait(admin, 5);
    assert_int_equal(client_identify(admin, NVME_CNS_NAMESPACE, 1, page), 0);
    assert_int_equal(get_le64(page), 100);
    assert_int_equal(client_io(io, NVME_IO_READ, 96, 8, data, 4096), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(log_page(admin, NVME_LOG_CHANGED_NAMESPACES, 0, 4096, page), 0);
    assert_int_equal(get_le32(page), 1);
    /* removal waits for what is in the device, and refuses what comes */
    world->disk2->hold = true;
    struct nvme_sqe read = {.opcode = NVME_IO_READ, .nsid = 2, .cdw12 = 7};
    client_submit(io, 3, read, NVME_CONTROLLER_TO_HOST, data, 4096, false);
    world_pass(world, 10);
    world_do(world, remove_ns, &change);
    world_pass(world, 10);
    assert_false(change.done);
    assert_int_equal(client_run(io, read, NVME_CONTROLLER_TO_HOST, other, 4096, false), NVME_INVALID_NAMESPACE);
    disk_release(world, world->disk2);
    client_wait(io, 3);
    assert_int_equal(io->cqe[3].status, 0);
    world_pass(world, 10);
    assert_true(change.done);
    /* a device that is removed takes its namespace along */
    world_do(world, add_ns, &change);
    world_do(world, remove_device, world);
    world_pass(world, 10);
    assert_true(world->disk2->destroyed);
    assert_int_equal(client_run(io, read, NVME_CONTROLLER_TO_HOST, other, 4096, false), NVME_INVALID_NAMESPACE);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    world_destroy(world);
}

/* ---- hosts that vanish ---- */

static void keep_alive_finds_the_half_open(void **state) {
    (void)state;
    struct world *world = world_create(12, NULL, 512);
    struct client *admin = controller_open(world, 2000), *io = queue_open(admin, 1);
    for (int i = 0; i < 5; i++) {
        world_pass(world, 1500);
        assert_int_equal(client_run(admin, (struct nvme_sqe){.opcode = NVME_ADMIN_KEEP_ALIVE}, NVME_NO_DATA, NULL, 0, false), 0);
    }
    assert_int_equal(world_queues(world), 2);
    world_pass(world, 1500);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0); /* other traffic counts */
    world_pass(world, 1500);
    assert_int_equal(world_queues(world), 2);
    sim_cut(world->target_node, world->host_node, true);
    world_pass(world, 3000);
    assert_int_equal(world_queues(world), 0);
    assert_int_equal(world_controllers(world), 0);
    sim_cut(world->target_node, world->host_node, false);
    world_destroy(world);
}

static void a_lost_connection_loses_its_controller(void **state) {
    (void)state;
    struct world *world = world_create(13, NULL, 512);
    struct client *admin = controller_open(world, 0), *one = queue_open(admin, 1), *two = queue_open(admin, 2);
    client_close(two); /* between two commands: only this queue */
    world_pass(world, 50);
    assert_int_equal(world_queues(world), 2);
    two = queue_open(admin, 2);
    world->disk->hold = true;
    struct nvme_sqe write = {.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7};
    client_submit(one, 1, write, NVME_HOST_TO_CONTROLLER, data, 4096, true);
    world_pass(world, 50);
    client_close(one); /* in the middle: all of them */
    assert_true(client_is_closed(two, 5000));
    assert_true(client_is_closed(admin, 5000));
    world_pass(world, 50);
    assert_int_equal(world_controllers(world), 1); /* its write is in the device */
    assert_true(world->data->buffers.in_use > 0);  /* and its buffer is lent */
    disk_release(world, world->disk);
    world_pass(world, 50);
    assert_int_equal(world_controllers(world), 0);
    world_destroy(world);
}

/* A write that a lost connection brought is done before its host's new controller is ready. */
static void ghosts_are_gone_before_the_new_controller_is_ready(void **state) {
    (void)state;
    struct world *world = world_create(14, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    world->disk->hold = true;
    fill(data, 4096, 1);
    client_submit(io, 1, (struct nvme_sqe){.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7}, NVME_HOST_TO_CONTROLLER, data, 4096,
                  true);
    world_pass(world, 50);
    client_close(io);
    client_close(admin);
    struct client *again = client_open(world, false, false, false);
    assert_int_equal(client_connect(again, NQN, 0, DEPTH, 0xffff, 0), 0);
    assert_int_equal(client_property_set(again, NVME_PROPERTY_CC, CC_USUAL), 0);
    uint64_t csts;
    world_pass(world, 3000);
    assert_int_equal(client_property_get(again, NVME_PROPERTY_CSTS, false, &csts), 0);
    assert_int_equal(csts, 0);
    /* another host does not wait */
    struct client *stranger = client_open(world, false, false, false);
    stranger->hostnqn = "nqn.2014-08.org.nvmexpress:other";
    assert_int_equal(client_connect(stranger, NQN, 0, DEPTH, 0xffff, 0), 0);
    assert_int_equal(client_property_set(stranger, NVME_PROPERTY_CC, CC_USUAL), 0);
    world_pass(world, 10);
    assert_int_equal(client_property_get(stranger, NVME_PROPERTY_CSTS, false, &csts), 0);
    assert_int_equal(csts, NVME_CSTS_READY);
    disk_release(world, world->disk);
    world_pass(world, 50);
    assert_int_equal(client_property_get(again, NVME_PROPERTY_CSTS, false, &csts), 0);
    assert_int_equal(csts, NVME_CSTS_READY);
    assert_memory_equal(world->disk->bytes, data, 4096);
    world_destroy(world);
}

/* The target did not run for a while: the host has given up and connects anew; what the old connection had brought is found and
 * done first. */
static void what_an_old_connection_brought_comes_first(void **state) {
    (void)state;
    struct world *world = world_create(15, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    fill(data, 4096, 1);
    fill(other, 4096, 2);
    sim_process_pause(world->host);
    client_submit(io, 1, (struct nvme_sqe){.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7}, NVME_HOST_TO_CONTROLLER, data, 4096,
                  true);
    world_pass(world, 100);
    client_close(io); /* the write is in the target's socket */
    client_close(admin);
    struct client *again = client_open(world, false, false, false);
    world_pass(world, 100);
    sim_process_resume(world->host);
    assert_int_equal(client_connect(again, NQN, 0, DEPTH, 0xffff, 0), 0);
    assert_int_equal(client_property_set(again, NVME_PROPERTY_CC, CC_USUAL), 0);
    uint64_t csts = 0;
    while (!(csts & NVME_CSTS_READY))
        assert_int_equal(client_property_get(again, NVME_PROPERTY_CSTS, false, &csts), 0);
    struct client *queue = queue_open(again, 1);
    assert_int_equal(client_io(queue, NVME_IO_WRITE, 0, 8, other, 4096), 0);
    world_pass(world, 1000);
    assert_memory_equal(world->disk->bytes, other, 4096);
    assert_int_equal(world_controllers(world), 1);
    world_destroy(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_is_checked),
        cmocka_unit_test(only_allowed_hosts_come_in),
        cmocka_unit_test(properties_and_reset),
        cmocka_unit_test(identify_answers),
        cmocka_unit_test(features_answer),
        cmocka_unit_test(log_pages_answer),
        cmocka_unit_test(discovery_lists_what_a_host_may_use),
        cmocka_unit_test(namespaces_change_under_hosts),
        cmocka_unit_test(keep_alive_finds_the_half_open),
        cmocka_unit_test(a_lost_connection_loses_its_controller),
        cmocka_unit_test(ghosts_are_gone_before_the_new_controller_is_ready),
        cmocka_unit_test(what_an_old_connection_brought_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
