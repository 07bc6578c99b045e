/* The NVMe target over simulated sockets: hosts that misbehave. */
#include "world.h"

#include <stdlib.h>

#include "base/crc32c.h"

static uint8_t data[262144];

static const uint8_t icreq[128] = {0, 0, 128, 0, 128};

static void send_connect(struct client *raw, uint16_t qid, uint16_t cntlid) {
    struct {
        struct nvme_tcp_command head;
        struct nvme_connect_data data;
    } NVME_PACKED capsule = {
        .head.common = {NVME_TCP_COMMAND, 0, 72, 72, 72 + 1024},
        .data = {.cntlid = cntlid, .host_id = {1, 2, 3, 4}, .subnqn = NQN, .hostnqn = HOST_NQN},
    };
    struct nvme_connect connect = {.opcode = NVME_OPCODE_FABRICS,
                                   .flags = NVME_FLAG_PSDT_SGL,
                                   .fabrics_type = NVME_FABRICS_CONNECT,
                                   .sgl = {.length = 1024, .type = NVME_SGL_OFFSET},
                                   .qid = qid,
                                   .sq_size = DEPTH - 1};
    memcpy(&capsule.head.sqe, &connect, 64);
    client_send(raw, icreq, sizeof(icreq));
    client_send(raw, &capsule, sizeof(capsule));
}

/* A raw I/O queue of a new controller, past its Connect. */
static struct client *raw_queue(struct world *world, struct client **ret_admin) {
    *ret_admin = controller_open(world, 0);
    struct client *raw = client_open(world, true, false, false);
    send_connect(raw, 1, (*ret_admin)->cntlid);
    for (int i = 0; i < 100 && raw->in_length < 128 + 24; i++)
        world_pass(world, 10);
    assert_int_equal(raw->in_length, 128 + 24);
    assert_int_equal(get_le16(raw->in + 128 + 22), 0);
    raw->in_length = 0;
    return raw;
}

static void send_command(struct client *raw, uint16_t cid, uint8_t opcode, uint32_t blocks, uint8_t sgl_type, const void *payload,
                         uint32_t payload_length, uint32_t claimed_length) {
    struct nvme_tcp_command command = {
        .common = {NVME_TCP_COMMAND, 0, 72, payload_length > 0 ? 72 : 0, 72 + payload_length},
        .sqe = {.opcode = opcode,
                .flags = NVME_FLAG_PSDT_SGL,
                .cid = cid,
                .nsid = 1,
                .sgl = {.length = claimed_length, .type = sgl_type},
                .cdw12 = blocks - 1},
    };
    client_send(raw, &command, sizeof(command));
    if (payload_length > 0)
        client_send(raw, payload, payload_length);
}

static unsigned raw_status(struct world *world, struct client *raw) {
    for (int i = 0; i < 100 && raw->in_length < 24; i++)
        world_pass(world, 10);
    assert_int_equal(raw->in_length, 24);
    assert_int_equal(raw->in[0], NVME_TCP_RESPONSE);
    raw->in_length = 0;
    return nvme_status_code((const struct nvme_cqe *)(raw->in + 8));
}

static void data_pointers_are_checked(void **state) {
    (void)state;
    struct world *world = world_create(16, NULL, 512);
    struct client *admin, *raw = raw_queue(world, &admin);
    static const struct {
        uint8_t opcode, sgl;
        uint32_t blocks, payload, claimed;
        unsigned status;
    } rows[] = {
        {NVME_IO_WRITE, NVME_SGL_OFFSET, 8, 4096, 4096, 0},
        {NVME_IO_WRITE, NVME_SGL_OFFSET, 8, 2048, 4096, NVME_SGL_INVALID_LENGTH},
        {NVME_IO_WRITE, NVME_SGL_OFFSET, 8, 0, 4096, NVME_SGL_INVALID_LENGTH},
        {NVME_IO_WRITE, NVME_SGL_OFFSET, 4, 4096, 4096, NVME_SGL_INVALID_LENGTH},
        {NVME_IO_WRITE, NVME_SGL_TRANSPORT, 8, 4096, 4096, NVME_SGL_INVALID_TYPE},
        {NVME_IO_WRITE, 0x00, 8, 0, 4096, NVME_SGL_INVALID_TYPE},
        {NVME_IO_WRITE, 0x30, 8, 0, 4096, NVME_SGL_INVALID_TYPE},
        {NVME_IO_READ, NVME_SGL_OFFSET, 8, 0, 4096, NVME_SGL_INVALID_TYPE},
        {NVME_IO_READ, NVME_SGL_TRANSPORT, 8, 4096, 4096, NVME_SGL_INVALID_TYPE},
        {NVME_IO_FLUSH, NVME_SGL_OFFSET, 1, 512, 512, NVME_SGL_INVALID_TYPE},
        {NVME_IO_WRITE, NVME_SGL_OFFSET, 8, 4096, 4096, 0}, /* and the stream is still in step */
    };
    for (size_t i = 0; i < array_count(rows); i++) {
        send_command(raw, (uint16_t)i, rows[i].opcode, rows[i].blocks, rows[i].sgl, data, rows[i].payload, rows[i].claimed);
        unsigned status = raw_status(world, raw);
        if (status != rows[i].status)
            fail_msg("row %zu: status %#x, not %#x", i, status, rows[i].status);
    }
    world_destroy(world);
}

static void a_broken_protocol_ends_the_controller(void **state) {
    (void)state;
    struct world *world = world_create(17, NULL, 512);
    struct client *admin, *raw = raw_queue(world, &admin);
    /* more commands than the queue has entries */
    world->disk->hold = true;
    for (uint16_t i = 0; i <= DEPTH; i++)
        send_command(raw, i, NVME_IO_READ, 1, NVME_SGL_TRANSPORT, NULL, 0, 512);
    assert_true(client_is_closed(raw, 5000));
    assert_int_equal(raw->in[0], NVME_TCP_C2H_TERM);
    assert_int_equal(get_le16(raw->in + 8), NVME_TCP_FES_SEQUENCE);
    assert_true(client_is_closed(admin, 5000));
    assert_int_equal(world_controllers(world), 1);
    disk_release(world, world->disk);
    world_pass(world, 50);
    assert_int_equal(world_controllers(world), 0);
    /* garbage at once */
    raw = client_open(world, true, false, false);
    client_send(raw, "GET / HTTP/1.1\r\nHost: disk\r\n\r\n", 31);
    assert_true(client_is_closed(raw, 5000));
    assert_int_equal(raw->in[0], NVME_TCP_C2H_TERM);
    /* a data digest that is wrong fails its command only; see test_nvme_tcp for the codec's own cases */
    world_destroy(world);
}

static void silence_is_not_waited_for(void **state) {
    (void)state;
    struct world *world = world_create(18, NULL, 512);
    struct client *silent = client_open(world, true, false, false); /* connects and says nothing */
    struct client *half = client_open(world, true, false, false);   /* half an ICReq */
    client_send(half, icreq, 64);
    struct client *icreq_only = client_open(world, true, false, false);
    client_send(icreq_only, icreq, 128);
    world_pass(world, NVME_TCP_CONNECT_TIMEOUT_MS / 2);
    assert_false(silent->closed || half->closed || icreq_only->closed);
    assert_true(client_is_closed(silent, NVME_TCP_CONNECT_TIMEOUT_MS));
    assert_true(client_is_closed(half, NVME_TCP_CONNECT_TIMEOUT_MS));
    assert_true(client_is_closed(icreq_only, NVME_TCP_CONNECT_TIMEOUT_MS));
    /* data that never come: asked for by R2T, and half of a capsule */
    for (int way = 0; way < 2; way++) {
        struct client *admin, *raw = raw_queue(world, &admin);
        if (way == 0)
            send_command(raw, 1, NVME_IO_WRITE, 8, NVME_SGL_TRANSPORT, NULL, 0, 4096);
        else {
            send_command(raw, 1, NVME_IO_WRITE, 8, NVME_SGL_OFFSET, data, 4096, 4096);
            raw->out_length -= 1000;
        }
        world_pass(world, NVME_TCP_STALL_TIMEOUT_MS / 2);
        assert_false(raw->closed);
        assert_true(world->data->buffers.in_use > 0);
        assert_true(client_is_closed(raw, 2 * NVME_TCP_STALL_TIMEOUT_MS));
        world_pass(world, 100);
        assert_int_equal(world->data->buffers.in_use, 0);
        assert_int_equal(world_controllers(world), 0);
        assert_int_equal(world->disk->submitted, 0);
    }
    /* an idle queue may be silent for ever */
    struct client *admin = controller_open(world, 0), *io = queue_open(admin, 1);
    world_pass(world, 10 * NVME_TCP_STALL_TIMEOUT_MS);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    world_destroy(world);
}

/* A capsule under a data digest; `flip` breaks the payload behind the digest's back. */
static void send_digested(struct client *raw, const struct nvme_sqe *sqe, uint8_t *payload, uint32_t length, bool flip) {
    struct nvme_tcp_command command = {
        .common = {NVME_TCP_COMMAND, NVME_TCP_FLAG_DATA_DIGEST, 72, 72, 72 + length + NVME_TCP_DIGEST_SIZE}, .sqe = *sqe};
    uint32_t digest = crc32c(payload, length);
    client_send(raw, &command, sizeof(command));
    payload[length / 2] ^= flip;
    client_send(raw, payload, length);
    payload[length / 2] ^= flip;
    client_send(raw, &digest, sizeof(digest));
}

static void broken_data_never_reach_the_device(void **state) {
    (void)state;
    struct world *world = world_create(21, NULL, 512);
    struct client *admin = controller_open(world, 0), *raw = client_open(world, true, false, false);
    uint8_t digested_icreq[128] = {0, 0, 128, 0, 128, [11] = NVME_TCP_DIGEST_DATA};
    client_send(raw, digested_icreq, sizeof(digested_icreq));
    struct nvme_connect_data connect_data = {
        .cntlid = admin->cntlid, .host_id = {1, 2, 3, 4}, .subnqn = NQN, .hostnqn = HOST_NQN};
    struct nvme_connect connect = {.opcode = NVME_OPCODE_FABRICS,
                                   .flags = NVME_FLAG_PSDT_SGL,
                                   .fabrics_type = NVME_FABRICS_CONNECT,
                                   .sgl = {.length = 1024, .type = NVME_SGL_OFFSET},
                                   .qid = 1,
                                   .sq_size = DEPTH - 1};
    struct nvme_sqe sqe;
    memcpy(&sqe, &connect, sizeof(sqe));
    send_digested(raw, &sqe, (uint8_t *)&connect_data, sizeof(connect_data), true);
    for (int i = 0; i < 100 && raw->in_length < 128 + 24; i++)
        world_pass(world, 10);
    assert_int_equal(raw->in_length, 128 + 24);
    assert_int_equal(get_le16(raw->in + 128 + 22) >> 1, NVME_TRANSIENT_TRANSPORT_ERROR);
    raw->in_length = 0;
    send_digested(raw, &sqe, (uint8_t *)&connect_data, sizeof(connect_data), false);
    assert_int_equal(raw_status(world, raw), 0);
    fill(data, 4096, 5);
    sqe = (struct nvme_sqe){.opcode = NVME_IO_WRITE,
                            .flags = NVME_FLAG_PSDT_SGL,
                            .nsid = 1,
                            .sgl = {.length = 4096, .type = NVME_SGL_OFFSET},
                            .cdw12 = 7};
    send_digested(raw, &sqe, data, 4096, true);
    assert_int_equal(raw_status(world, raw), NVME_TRANSIENT_TRANSPORT_ERROR);
    assert_int_equal(world->disk->submitted, 0);
    send_digested(raw, &sqe, data, 4096, false);
    assert_int_equal(raw_status(world, raw), 0);
    assert_memory_equal(world->disk->bytes, data, 4096);
    world_destroy(world);
}

static void a_reader_that_stops_is_bounded(void **state) {
    (void)state;
    struct world *world = world_create(19, NULL, 512);
    struct client *admin, *raw = raw_queue(world, &admin);
    raw->no_read = true;
    for (uint16_t i = 0; i < DEPTH; i++)
        send_command(raw, i, NVME_IO_READ, 256, NVME_SGL_TRANSPORT, NULL, 0, 131072);
    world_pass(world, 1000);
    assert_true(world->data->buffers.in_use <= DEPTH * 131072);
    /* others are served */
    struct client *io = queue_open(admin, 2);
    assert_int_equal(client_io(io, NVME_IO_READ, 0, 8, data, 4096), 0);
    world_pass(world, 2 * NVME_TCP_STALL_TIMEOUT_MS + 1000);
    assert_int_equal(world_controllers(world), 0);
    assert_int_equal(world->data->buffers.in_use, 0);
    world_destroy(world);
}

static void strangers_are_limited(void **state) {
    (void)state;
    struct world *world = world_create(20, NULL, 512);
    struct client **many = calloc(NVME_TCP_LIMIT_STRANGERS + 20, sizeof(struct client *));
    unsigned closed = 0;
    for (unsigned i = 0; i < NVME_TCP_LIMIT_STRANGERS + 20; i++) {
        many[i] = client_open(world, true, false, false);
        if (i % 32 == 0)
            world_pass(world, 5);
    }
    world_pass(world, 500);
    for (unsigned i = 0; i < NVME_TCP_LIMIT_STRANGERS + 20; i++)
        closed += many[i]->closed;
    assert_int_equal(closed, 20);
    free(many);
    world_destroy(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_pointers_are_checked),      cmocka_unit_test(a_broken_protocol_ends_the_controller),
        cmocka_unit_test(silence_is_not_waited_for),      cmocka_unit_test(broken_data_never_reach_the_device),
        cmocka_unit_test(a_reader_that_stops_is_bounded), cmocka_unit_test(strangers_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
