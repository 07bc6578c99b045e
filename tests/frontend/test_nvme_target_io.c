/* The NVMe target over simulated sockets: commands that move data, and many of them at once. */
#include "world.h"

#include "base/random.h"

static uint8_t data[262144], other[262144];

/* ---- I/O ---- */

static void io_moves_data(void **state) {
    (void)state;
    for (unsigned way = 0; way < 4; way++)
        for (uint32_t block = 512; block <= 4096; block *= 8) {
            struct world *world = world_create(8 + way, NULL, block);
            struct client *admin = controller_open(world, 0);
            struct client *io = client_open(world, false, way & 1, way & 2);
            io->disable_sq_flow = way == 3;
            assert_int_equal(client_connect(io, NQN, 1, DEPTH, admin->cntlid, 0), 0);
            for (uint32_t size = block; size <= 131072; size *= 4) {
                fill(data, size, (uint8_t)size);
                assert_int_equal(client_io(io, NVME_IO_WRITE, 3, size / block, data, size), 0);
                assert_memory_equal(world->disk->bytes + 3 * block, data, size);
                memset(other, 0, size);
                assert_int_equal(client_io(io, NVME_IO_READ, 3, size / block, other, size), 0);
                assert_memory_equal(other, data, size);
                if (!io->disable_sq_flow)
                    assert_true(io->cqe[0].sq_head < DEPTH);
            }
            world_destroy(world);
        }
}

static void other_commands_and_refusals(void **state) {
    (void)state;
    struct world *world = world_create(9, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    struct disk *disk = world->disk;
    fill(data, 4096, 1);
    struct nvme_sqe fua = {.opcode = NVME_IO_WRITE, .nsid = 1, .cdw12 = 7 | NVME_IO_FORCE_UNIT_ACCESS};
    assert_int_equal(client_run(io, fua, NVME_HOST_TO_CONTROLLER, data, 4096, true), 0);
    assert_int_equal(disk->fua, 1);
    assert_int_equal(client_io(io, NVME_IO_FLUSH, 0, 1, NULL, 0), 0);
    assert_int_equal(disk->flushes, 1);
    assert_int_equal(client_io(io, NVME_IO_COMPARE, 0, 8, data, 4096), 0);
    data[77]++;
    assert_int_equal(client_io(io, NVME_IO_COMPARE, 0, 8, data, 4096), NVME_COMPARE_FAILURE);
    assert_int_equal(client_io(io, NVME_IO_WRITE_ZEROES, 1, 2, NULL, 0), 0);
    assert_int_equal(disk->zeroes, 1);
    assert_int_equal(disk->bytes[512], 0);
    struct nvme_dsm_range ranges[3] = {
        {.first_block = 3, .block_count = 2}, {.first_block = 6, .block_count = 0}, {.first_block = 7, .block_count = 1}};
    struct nvme_sqe dsm = {.opcode = NVME_IO_DATASET_MANAGEMENT, .nsid = 1, .cdw10 = 2, .cdw11 = NVME_DSM_DEALLOCATE};
    assert_int_equal(client_run(io, dsm, NVME_HOST_TO_CONTROLLER, ranges, sizeof(ranges), true), 0);
    assert_int_equal(disk->trims, 2);
    assert_int_equal(disk->trimmed_bytes, 3 * 512);
    memcpy(other, ranges, sizeof(ranges)); /* in a buffer for 256 ranges, as Linux sends them */
    assert_int_equal(client_run(io, dsm, NVME_HOST_TO_CONTROLLER, other, 4096, true), 0);
    assert_int_equal(disk->trims, 4);
    assert_int_equal(client_run(io, dsm, NVME_HOST_TO_CONTROLLER, other, 32, true), NVME_SGL_INVALID_LENGTH);
    assert_int_equal(client_run(io, dsm, NVME_HOST_TO_CONTROLLER, other, 8192, false), NVME_SGL_INVALID_LENGTH);
    ranges[2].first_block = UINT64_MAX;
    assert_int_equal(client_run(io, dsm, NVME_HOST_TO_CONTROLLER, ranges, sizeof(ranges), true), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(disk->trims, 4); /* nothing of it is done */

    uint64_t blocks = MIB(4) / 512;
    assert_int_equal(client_io(io, NVME_IO_READ, blocks - 7, 8, data, 4096), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(client_io(io, NVME_IO_WRITE, UINT64_MAX, 8, data, 4096), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(client_io(io, NVME_IO_WRITE_ZEROES, blocks, 1, NULL, 0), NVME_LBA_OUT_OF_RANGE);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 512, data, 262144), NVME_INVALID_FIELD); /* MDTS */
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 512), NVME_SGL_INVALID_LENGTH);
    assert_int_equal(client_io(io, NVME_IO_WRITE, 0, 1, data, 4096), NVME_SGL_INVALID_LENGTH);
    assert_int_equal(client_io(io, NVME_IO_VERIFY, 0, 1, NULL, 0), NVME_INVALID_OPCODE);
    assert_int_equal(client_io(io, NVME_IO_WRITE_UNCORRECTABLE, 0, 1, NULL, 0), NVME_INVALID_OPCODE);
    struct nvme_sqe wrong = {.opcode = NVME_IO_READ, .nsid = 2, .cdw12 = 7};
    assert_int_equal(client_run(io, wrong, NVME_CONTROLLER_TO_HOST, data, 4096, false), NVME_INVALID_NAMESPACE);
    wrong.nsid = 0;
    assert_int_equal(client_run(io, wrong, NVME_CONTROLLER_TO_HOST, data, 4096, false), NVME_INVALID_NAMESPACE);
    wrong.nsid = NVME_NSID_ALL;
    assert_int_equal(client_run(io, wrong, NVME_CONTROLLER_TO_HOST, data, 4096, false), NVME_INVALID_NAMESPACE);
    wrong.nsid = 1;
    wrong.flags = 1; /* fused */
    assert_int_equal(client_run(io, wrong, NVME_CONTROLLER_TO_HOST, data, 4096, false), NVME_INVALID_FIELD);
    wrong.flags = 0;
    wrong.cdw12 |= 1 << 29; /* protection information */
    assert_int_equal(client_run(io, wrong, NVME_CONTROLLER_TO_HOST, data, 4096, false), NVME_INVALID_PROTECTION);
    assert_int_equal(client_run(io, (struct nvme_sqe){.opcode = NVME_OPCODE_FABRICS}, NVME_NO_DATA, NULL, 0, false),
                     NVME_INVALID_OPCODE);
    assert_int_equal(client_run(admin, (struct nvme_sqe){.opcode = NVME_ADMIN_CREATE_SQ}, NVME_NO_DATA, NULL, 0, false),
                     NVME_INVALID_OPCODE);
    assert_int_equal(client_run(admin, (struct nvme_sqe){.opcode = 0xc1}, NVME_NO_DATA, NULL, 0, false), NVME_INVALID_OPCODE);

    static const struct {
        enum io_status from;
        unsigned to;
        bool again;
    } errors[] = {
        {IO_MEDIUM_READ, NVME_UNRECOVERED_READ, false}, {IO_NO_SPACE, NVME_CAPACITY_EXCEEDED, false},
        {IO_NOT_READY, NVME_NAMESPACE_NOT_READY, true}, {IO_NO_MEMORY, NVME_COMMAND_INTERRUPTED, true},
        {IO_FENCED, NVME_RESERVATION_CONFLICT, false},  {IO_MEDIUM_WRITE, NVME_WRITE_FAULT, false},
    };
    for (size_t i = 0; i < array_count(errors); i++) {
        disk->fail_with = errors[i].from;
        assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), errors[i].to);
        assert_int_equal(nvme_status_do_not_retry(&io->cqe[0]), !errors[i].again);
    }
    disk->fail_with = IO_OK;
    atomic_store(&disk->device.read_only, true);
    assert_int_equal(client_io(io, NVME_IO_WRITE, 0, 8, data, 4096), NVME_NAMESPACE_WRITE_PROTECTED);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    atomic_store(&disk->device.read_only, false);
    world_destroy(world);
}

static void replica_commands_believe_nothing(void **state) {
    (void)state;
    struct world *world = world_create(11, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    struct disk *disk = world->disk;
    struct nvme_sqe put = {.opcode = NVME_IO_REPLICA_PUT, .nsid = 1, .cdw12 = 0x01020304, .cdw13 = 0x05060708};
    struct nvme_sqe get = {.opcode = NVME_IO_REPLICA_GET, .nsid = 1, .cdw10 = 8, .cdw11 = 1, .cdw12 = 3};
    assert_int_equal(client_run(io, put, NVME_HOST_TO_CONTROLLER, data, 4000, false), 0);
    assert_int_equal(disk->argument, UINT64_C(0x0506070801020304));
    assert_int_equal(disk->offset, 0);
    uint64_t association = disk->association;
    assert_int_equal(client_run(io, put, NVME_NO_DATA, NULL, 0, false), 0); /* a document may be nothing */
    assert_int_equal(client_run(io, put, NVME_HOST_TO_CONTROLLER, data, 100, true), 0);
    memset(data, 0xee, 8192);
    assert_int_equal(client_run(io, get, NVME_CONTROLLER_TO_HOST, data, 8192, false), 0);
    assert_int_equal(disk->offset, UINT64_C(0x100000008));
    assert_int_equal(disk->association, association);
    assert_int_equal(data[0] | data[8191], 0); /* the disk said nothing: nobody else's bytes either */
    struct client *second = queue_open(controller_open(world, 0), 1);
    assert_int_equal(client_run(second, put, NVME_NO_DATA, NULL, 0, false), 0);
    assert_int_not_equal(disk->association, association);
    assert_int_equal(client_io(second, NVME_IO_READ, 0, 8, data, 4096), 0);
    assert_int_not_equal(disk->association, association);

    unsigned submitted = disk->submitted;
    struct nvme_sqe wrong[] = {put, put, put, put, put, get, get};
    wrong[0].cdw2 = 1;
    wrong[1].cdw15 = 1;
    wrong[2].cdw10 = 8; /* a PUT begins at 0 */
    wrong[3].nsid = 77;
    wrong[4].flags = 1; /* fused */
    wrong[5].cdw10 = wrong[5].cdw11 = UINT32_MAX;
    wrong[6].cdw14 = 1;
    for (unsigned i = 0; i < array_count(wrong); i++) {
        bool gets = wrong[i].opcode == NVME_IO_REPLICA_GET;
        assert_int_equal(client_run(io, wrong[i], gets ? NVME_CONTROLLER_TO_HOST : NVME_HOST_TO_CONTROLLER, data, 512, false),
                         i == 3 ? NVME_INVALID_NAMESPACE : NVME_INVALID_FIELD);
    }
    assert_int_equal(client_run(io, get, NVME_NO_DATA, NULL, 0, false), NVME_INVALID_FIELD);
    assert_int_equal(client_run(io, put, NVME_HOST_TO_CONTROLLER, data, 72 * 1024, false), NVME_INVALID_FIELD);
    assert_int_equal(client_run(io, get, NVME_CONTROLLER_TO_HOST, data, 132 * 1024, false), NVME_INVALID_FIELD);
    atomic_store(&disk->device.read_only, true);
    assert_int_equal(client_run(io, put, NVME_NO_DATA, NULL, 0, false), NVME_NAMESPACE_WRITE_PROTECTED);
    atomic_store(&disk->device.read_only, false);
    assert_int_equal(disk->submitted, submitted);
    disk->device.native_ops &= ~BLOCK_BIT(BLOCK_REPLICA_PUT);
    assert_int_equal(client_run(io, put, NVME_NO_DATA, NULL, 0, false), NVME_INVALID_OPCODE);
    assert_int_equal(client_run(io, get, NVME_CONTROLLER_TO_HOST, data, 512, false), NVME_INVALID_OPCODE);
    world_destroy(world);
}

static void abort_takes_back_what_queues(void **state) {
    (void)state;
    struct world *world = world_create(10, NULL, 512);
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    world->disk->hold = true;
    struct nvme_sqe read = {.opcode = NVME_IO_READ, .nsid = 1, .cdw12 = 7};
    client_submit(io, 9, read, NVME_CONTROLLER_TO_HOST, data, 4096, false);
    world_pass(world, 10);
    struct nvme_sqe abort = {.opcode = NVME_ADMIN_ABORT, .cdw10 = 1 | 9 << 16};
    assert_int_equal(client_run(admin, abort, NVME_NO_DATA, NULL, 0, false), 0);
    assert_int_equal(admin->cqe[0].dw0, 1); /* it runs */
    assert_false(io->done[9]);
    world->disk->abortable = true;
    assert_int_equal(client_run(admin, abort, NVME_NO_DATA, NULL, 0, false), 0);
    assert_int_equal(admin->cqe[0].dw0, 0);
    client_wait(io, 9);
    assert_int_equal(nvme_status_code(&io->cqe[9]), NVME_ABORTED_BY_REQUEST);
    abort.cdw10 = 77 | 1 << 16; /* no such queue */
    assert_int_equal(client_run(admin, abort, NVME_NO_DATA, NULL, 0, false), 0);
    assert_int_equal(admin->cqe[0].dw0, 1);
    /* an async event request */
    client_submit(admin, 6, (struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT}, NVME_NO_DATA, NULL, 0, false);
    abort.cdw10 = 6 << 16;
    assert_int_equal(client_run(admin, abort, NVME_NO_DATA, NULL, 0, false), 0);
    client_wait(admin, 6);
    assert_int_equal(nvme_status_code(&admin->cqe[6]), NVME_ABORTED_BY_REQUEST);
    for (unsigned i = 1; i <= NVME_LIMIT_AER + 1; i++)
        client_submit(admin, (uint16_t)i, (struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT}, NVME_NO_DATA, NULL, 0, false);
    client_wait(admin, NVME_LIMIT_AER + 1);
    assert_int_equal(nvme_status_code(&admin->cqe[NVME_LIMIT_AER + 1]), NVME_AER_LIMIT_EXCEEDED);
    disk_release(world, world->disk);
    world_destroy(world);
}

/* ---- everything ---- */

/* Many commands at once over splits, stalls and resets that the seed draws; every completion is right, nothing is left behind. */
static void everything_at_once(void **state) {
    (void)state;
    for (uint64_t seed = 100; seed < 112; seed++) {
        struct nvme_transport_options options = {.in_capsule_given = seed % 3 == 0, .no_c2h_success = seed % 2 == 0};
        struct world *world = world_create(seed, &options, 512);
        struct random *random = sim_random(world->sim);
        struct sim_link_options link;
        sim_link_get(sim_link(world->host_node, world->target_node), &link);
        link.split_one_in = 2;
        link.short_write_one_in = 3;
        link.delivery_bytes = seed % 4 == 0 ? 200 : 5000;
        sim_link_set(sim_link(world->host_node, world->target_node), &link);
        sim_link_set(sim_link(world->target_node, world->host_node), &link);
        struct client *admin = controller_open(world, 0), *queues[3];
        for (uint16_t q = 0; q < 3; q++) {
            queues[q] = client_open(world, false, seed & 1, seed & 2);
            queues[q]->disable_sq_flow = q == 1;
            assert_int_equal(client_connect(queues[q], NQN, (uint16_t)(q + 1), DEPTH, admin->cntlid, 0), 0);
        }
        static uint8_t memory[3][16][16384];
        for (int round = 0; round < 3; round++) {
            for (uint16_t q = 0; q < 3; q++)
                for (uint16_t i = 0; i < 16; i++) { /* each has a place of its own on the disk */
                    uint32_t size = 512U << random_below(random, 6);
                    uint64_t block = (uint64_t)(q * 16 + i) * 32;
                    bool write = random_chance(random, 1, 2), capsule = write && size <= 4096 && !options.in_capsule_given;
                    fill(memory[q][i], size, (uint8_t)(seed + round + i));
                    if (!write)
                        memcpy(world->disk->bytes + block * 512, memory[q][i], size), memset(memory[q][i], 0, size);
                    struct nvme_sqe sqe = {.opcode = write ? NVME_IO_WRITE : NVME_IO_READ,
                                           .nsid = 1,
                                           .cdw10 = (uint32_t)block,
                                           .cdw12 = size / 512 - 1};
                    client_submit(queues[q], i, sqe, write ? NVME_HOST_TO_CONTROLLER : NVME_CONTROLLER_TO_HOST, memory[q][i],
                                  size, capsule);
                }
            for (uint16_t q = 0; q < 3; q++)
                for (uint16_t i = 0; i < 16; i++) {
                    client_wait(queues[q], i);
                    assert_int_equal(queues[q]->cqe[i].status, 0);
                    assert_memory_equal(memory[q][i], world->disk->bytes + (q * 16 + i) * 16384, queues[q]->slices[i].length);
                }
        }
        /* in the middle of it a connection is reset */
        for (uint16_t i = 0; i < 16; i++)
            client_submit(queues[0], i, (struct nvme_sqe){.opcode = NVME_IO_READ, .nsid = 1, .cdw12 = 31},
                          NVME_CONTROLLER_TO_HOST, memory[0][i], 16384, false);
        world_pass(world, random_below(random, 3));
        struct sim_connection *connection = sim_connection_next(world->sim, NULL);
        for (uint64_t skip = random_below(random, 4); skip > 0; skip--)
            connection = sim_connection_next(world->sim, connection);
        sim_connection_reset(connection);
        world_pass(world, 500);
        assert_int_equal(world_controllers(world), 0);
        world_destroy(world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io_moves_data),
        cmocka_unit_test(other_commands_and_refusals),
        cmocka_unit_test(replica_commands_believe_nothing),
        cmocka_unit_test(abort_takes_back_what_queues),
        cmocka_unit_test(everything_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
