/* The NVMe/TCP codec: golden bytes, the two roles against each other over every split, and peers that break the protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/random.h"
#include "wire/nvme_tcp/host.h"
#include "wire/nvme_tcp/target.h"

#define DEPTH 8
#define DATA_MAX 20000

/* ---- a pair: both machines, and a scripted controller and host around them ---- */

struct command {
    struct nvme_tcp_request request; /* host */
    struct nvme_tcp_out answer;      /* target */
    struct nvme_tcp_transfer transfer;
    struct nvme_sqe sqe; /* as the target saw it */
    uint8_t host_data[DATA_MAX], target_data[DATA_MAX];
    struct slice host_slices[5], target_slices[5];
    uint32_t length;
    enum nvme_direction direction;
    bool done, sending;
};

struct pair {
    struct random random;
    struct nvme_tcp_host host;
    struct nvme_tcp_target target;
    uint8_t host_staging[2048], target_staging[NVME_TCP_STAGING_MIN];
    struct command commands[DEPTH];
    struct nvme_tcp_request *requests[DEPTH];
    struct nvme_tcp_transfer *transfers[DEPTH];
    struct command *placing; /* whose in-capsule payload comes */
    bool connected, success_flag;
    unsigned completions, held;
    bool hold_payloads; /* the controller has no buffer */
    uint64_t split;     /* largest number of bytes moved at once; 0 = drawn each time */
    int64_t corrupt_at; /* offset in the stream to the target whose byte is flipped; < 0 none */
    int64_t corrupt_back_at;
    int64_t moved, moved_back;
};

/* Cuts memory into slices of odd sizes, an empty one among them. */
static void cut(struct pair *pair, struct slice slices[5], uint8_t *data, uint32_t length) {
    uint32_t at = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint32_t n = i == 4 ? length - at : i == 2 ? 0 : (uint32_t)random_below(&pair->random, length - at + 1);
        slices[i] = (struct slice){data + at, n};
        at += n;
    }
}

static struct pair *pair_create(uint64_t seed, const struct nvme_tcp_host_options *host,
                                const struct nvme_tcp_target_options *target) {
    struct pair *pair = calloc(1, sizeof(*pair));
    random_init(&pair->random, seed);
    pair->corrupt_at = pair->corrupt_back_at = -1;
    pair->success_flag = host->success_flag;
    nvme_tcp_host_init(&pair->host, host, pair->host_staging, sizeof(pair->host_staging));
    nvme_tcp_target_init(&pair->target, target, pair->target_staging, sizeof(pair->target_staging));
    for (unsigned i = 0; i < DEPTH; i++) {
        pair->requests[i] = &pair->commands[i].request;
        pair->transfers[i] = &pair->commands[i].transfer;
    }
    nvme_tcp_host_set_requests(&pair->host, pair->requests, DEPTH);
    nvme_tcp_target_set_transfers(&pair->target, pair->transfers, DEPTH);
    return pair;
}

static uint64_t draw(struct pair *pair, uint64_t max) {
    uint64_t limit = pair->split > 0 ? pair->split : 1 + random_below(&pair->random, 3000);
    return min_u64(max, limit);
}

/* Moves bytes one way, as a socket pair does; returns how many. */
static size_t move(struct pair *pair, const struct slice *from, uint32_t from_count, const struct slice *to, uint32_t to_count,
                   int64_t *moved, int64_t corrupt_at) {
    size_t n = min_u64(slice_total(from, from_count), slice_total(to, to_count));
    n = draw(pair, n);
    uint8_t *flat = malloc(n + 1);
    slice_copy_out(from, from_count, 0, flat, n);
    if (corrupt_at >= *moved && corrupt_at < *moved + (int64_t)n)
        flat[corrupt_at - *moved] ^= 0x10;
    slice_copy_in(to, to_count, 0, flat, n);
    free(flat);
    *moved += (int64_t)n;
    return n;
}

static void answer(struct pair *pair, struct command *command, unsigned status) {
    struct nvme_cqe cqe = {.cid = command->sqe.cid, .status = nvme_status_field(status), .sq_head = 3};
    if (command->direction == NVME_CONTROLLER_TO_HOST && status == 0) {
        for (uint32_t i = 0; i < command->length; i++)
            command->target_data[i] = (uint8_t)(i * 7 + command->sqe.cid);
        nvme_tcp_target_respond_with_data(&pair->target, &command->answer, &cqe, command->target_slices, 5, command->length,
                                          pair->success_flag);
    } else
        nvme_tcp_target_respond(&pair->target, &command->answer, &cqe);
}

static void on_target_event(struct pair *pair, const struct nvme_tcp_target_event *event) {
    struct command *command;
    switch (event->type) {
    case NVME_TCP_TARGET_COMMAND:
        assert_in_range(event->sqe->cid, 0, DEPTH - 1);
        command = &pair->commands[event->sqe->cid];
        command->sqe = *event->sqe;
        cut(pair, command->target_slices, command->target_data, command->length);
        if (event->payload_length > 0) {
            assert_int_equal(event->payload_length, command->length);
            pair->placing = command;
            if (pair->hold_payloads)
                return;
            nvme_tcp_target_place(&pair->target, command->target_slices, 5);
        } else if (command->direction == NVME_HOST_TO_CONTROLLER)
            nvme_tcp_target_request(&pair->target, event->sqe->cid, event->sqe->cid, command->target_slices, 5, command->length);
        else
            answer(pair, command, 0);
        break;
    case NVME_TCP_TARGET_PAYLOAD: answer(pair, pair->placing, event->digest_error ? NVME_TRANSIENT_TRANSPORT_ERROR : 0); break;
    case NVME_TCP_TARGET_TRANSFER:
        command = container_of(event->transfer, struct command, transfer);
        answer(pair, command, event->digest_error ? NVME_TRANSIENT_TRANSPORT_ERROR : 0);
        break;
    default: break;
    }
}

/* Runs both ends until nothing moves. Returns false if an end gave up. */
static bool pair_run(struct pair *pair) {
    for (bool moved = true; moved;) {
        struct slice from[64], to[8];
        moved = false;
        uint32_t count = nvme_tcp_tx_out(&pair->host.tx, from, 64);
        uint32_t room = nvme_tcp_target_want(&pair->target, to, 2 + (uint32_t)random_below(&pair->random, 7));
        if (count > 0 && room > 0) {
            size_t n = move(pair, from, count, to, room, &pair->moved, pair->corrupt_at);
            nvme_tcp_host_sent(&pair->host, n);
            nvme_tcp_target_got(&pair->target, n);
            moved = true;
        }
        struct nvme_tcp_target_event event;
        do {
            nvme_tcp_target_next(&pair->target, &event);
            on_target_event(pair, &event);
            if (event.type == NVME_TCP_TARGET_FAULT || event.type == NVME_TCP_TARGET_TERMINATED)
                return false;
            pair->held += event.type == NVME_TCP_TARGET_HELD;
        } while (event.type != NVME_TCP_TARGET_IDLE && event.type != NVME_TCP_TARGET_HELD);

        count = nvme_tcp_tx_out(&pair->target.tx, from, 64);
        room = nvme_tcp_host_want(&pair->host, to, 2 + (uint32_t)random_below(&pair->random, 7));
        if (count > 0 && room > 0) {
            size_t n = move(pair, from, count, to, room, &pair->moved_back, pair->corrupt_back_at);
            nvme_tcp_tx_sent(&pair->target.tx, n);
            while (nvme_tcp_target_take_sent(&pair->target) != NULL)
                ;
            nvme_tcp_host_got(&pair->host, n);
            moved = true;
        }
        struct nvme_tcp_host_event back;
        do {
            nvme_tcp_host_next(&pair->host, &back);
            if (back.type == NVME_TCP_HOST_CONNECTED)
                pair->connected = true;
            if (back.type == NVME_TCP_HOST_COMPLETION) {
                container_of(back.request, struct command, request)->done = true;
                pair->completions++;
            }
            if (back.type == NVME_TCP_HOST_FAULT || back.type == NVME_TCP_HOST_TERMINATED)
                return false;
        } while (back.type != NVME_TCP_HOST_IDLE);
    }
    return true;
}

static void submit(struct pair *pair, uint16_t cid, enum nvme_direction direction, uint32_t length, bool in_capsule) {
    struct command *command = &pair->commands[cid];
    command->direction = direction;
    command->length = length;
    command->done = false;
    for (uint32_t i = 0; i < length; i++) {
        command->host_data[i] = direction == NVME_HOST_TO_CONTROLLER ? (uint8_t)(i * 3 + cid) : 0;
        command->target_data[i] = 0xee;
    }
    cut(pair, command->host_slices, command->host_data, length);
    struct nvme_sqe sqe = {.opcode = direction == NVME_HOST_TO_CONTROLLER ? NVME_IO_WRITE : NVME_IO_READ, .cid = cid, .nsid = 1};
    nvme_tcp_host_submit(&pair->host, &sqe, direction, command->host_slices, 5, length, in_capsule);
}

static const struct nvme_tcp_target_options usual = {
    .h2c_data_limit = 4096, .in_capsule_limit = 4096, .allow_header_digest = true, .allow_data_digest = true};

static void converse(uint64_t seed, bool header_digest, bool data_digest, bool success_flag, uint8_t alignment, uint64_t split) {
    struct nvme_tcp_host_options options = {
        .header_digest = header_digest, .data_digest = data_digest, .success_flag = success_flag};
    struct pair *pair = pair_create(seed, &options, &usual);
    ((struct nvme_tcp_icreq *)pair->host.control_bytes)->alignment = alignment;
    pair->host.rx.alignment = (uint8_t)((alignment + 1) * 4);
    pair->split = split;
    assert_true(pair_run(pair));
    assert_true(pair->connected);
    assert_int_equal(pair->target.tx.header_digest, header_digest);
    assert_int_equal(pair->target.rx.data_digest, data_digest);
    for (int round = 0; round < 2; round++) {
        submit(pair, 0, NVME_NO_DATA, 0, false);
        submit(pair, 1, NVME_HOST_TO_CONTROLLER, 4096, true);
        submit(pair, 2, NVME_HOST_TO_CONTROLLER, 9001, false); /* three H2CData, the last one odd */
        submit(pair, 3, NVME_CONTROLLER_TO_HOST, 4096, false);
        submit(pair, 4, NVME_CONTROLLER_TO_HOST, 17000, false);
        submit(pair, 5, NVME_HOST_TO_CONTROLLER, 1, true);
        submit(pair, 6, NVME_HOST_TO_CONTROLLER, 17000, false); /* large ones change how much is read ahead */
        submit(pair, 7, NVME_CONTROLLER_TO_HOST, 512, false);
        assert_true(pair_run(pair));
        for (unsigned i = 0; i < DEPTH; i++) {
            struct command *command = &pair->commands[i];
            assert_true(command->done);
            assert_int_equal(command->request.cqe.status, 0);
            assert_false(command->request.digest_error);
            assert_memory_equal(command->host_data, command->target_data, command->length);
            if (command->direction == NVME_CONTROLLER_TO_HOST)
                assert_int_equal(command->request.received, command->length);
        }
    }
    assert_int_equal(pair->completions, 2 * DEPTH);
    free(pair);
}

static void roles_agree_over_every_split(void **state) {
    (void)state;
    for (unsigned way = 0; way < 8; way++) {
        converse(way, way & 1, way & 2, way & 4, 0, 1);
        for (uint64_t seed = 1; seed <= 20; seed++)
            converse(seed, way & 1, way & 2, way & 4, (uint8_t)(seed % 32), seed % 3 == 0 ? 0 : 13 * seed);
        converse(way, way & 1, way & 2, way & 4, 31, UINT64_MAX);
    }
}

static void digests_are_only_what_both_want(void **state) {
    (void)state;
    struct nvme_tcp_host_options options = {.header_digest = true, .data_digest = true};
    struct nvme_tcp_target_options target = usual;
    target.allow_data_digest = false;
    struct pair *pair = pair_create(1, &options, &target);
    assert_true(pair_run(pair));
    assert_true(pair->host.rx.header_digest && pair->target.rx.header_digest);
    assert_false(pair->host.rx.data_digest || pair->target.rx.data_digest);
    free(pair);
}

static void a_broken_payload_fails_its_command_only(void **state) {
    (void)state;
    struct nvme_tcp_host_options options = {.header_digest = true, .data_digest = true};
    struct pair *pair = pair_create(1, &options, &usual);
    assert_true(pair_run(pair));
    pair->corrupt_at = pair->moved + 72 + 4 + 100; /* in the payload of the first capsule */
    submit(pair, 1, NVME_HOST_TO_CONTROLLER, 4096, true);
    assert_true(pair_run(pair));
    assert_int_equal(nvme_status_code(&pair->commands[1].request.cqe), NVME_TRANSIENT_TRANSPORT_ERROR);
    submit(pair, 2, NVME_HOST_TO_CONTROLLER, 9000, false);
    pair->corrupt_at = pair->moved + 72 + 4 + 2 * (24 + 4 + 4 + 4096) + 28 + 5; /* in the third H2CData */
    assert_true(pair_run(pair));
    assert_int_equal(nvme_status_code(&pair->commands[2].request.cqe), NVME_TRANSIENT_TRANSPORT_ERROR);
    submit(pair, 3, NVME_CONTROLLER_TO_HOST, 4096, false);
    pair->corrupt_back_at = pair->moved_back + 28 + 7;
    assert_true(pair_run(pair));
    assert_true(pair->commands[3].request.digest_error);
    pair->corrupt_at = pair->corrupt_back_at = -1;
    submit(pair, 4, NVME_HOST_TO_CONTROLLER, 4096, true);
    assert_true(pair_run(pair));
    assert_int_equal(pair->commands[4].request.cqe.status, 0);
    assert_memory_equal(pair->commands[4].host_data, pair->commands[4].target_data, 4096);
    free(pair);
}

static void a_broken_header_ends_the_connection(void **state) {
    (void)state;
    struct nvme_tcp_host_options options = {.header_digest = true};
    struct pair *pair = pair_create(1, &options, &usual);
    assert_true(pair_run(pair));
    pair->corrupt_at = pair->moved + 30;
    submit(pair, 0, NVME_NO_DATA, 0, false);
    assert_false(pair_run(pair));
    assert_int_equal(pair->target.rx.fault.fes, NVME_TCP_FES_HEADER_DIGEST);
    /* the host is told why */
    pair->corrupt_at = -1;
    assert_false(pair_run(pair));
    struct slice from[4], to[4];
    uint32_t count = nvme_tcp_tx_out(&pair->target.tx, from, 4);
    uint32_t room = nvme_tcp_host_want(&pair->host, to, 4);
    size_t n = slice_total(from, count);
    uint8_t flat[NVME_TCP_TERM_SIZE];
    assert_int_equal(n, 24 + 72);
    slice_copy_out(from, count, 0, flat, n);
    slice_copy_in(to, room, 0, flat, n);
    nvme_tcp_host_got(&pair->host, n);
    struct nvme_tcp_host_event event;
    nvme_tcp_host_next(&pair->host, &event);
    assert_int_equal(event.type, NVME_TCP_HOST_TERMINATED);
    assert_int_equal(pair->host.controller_fes, NVME_TCP_FES_HEADER_DIGEST);
    free(pair);
}

static void nothing_is_read_while_a_payload_has_no_place(void **state) {
    (void)state;
    struct nvme_tcp_host_options options = {0};
    struct pair *pair = pair_create(1, &options, &usual);
    assert_true(pair_run(pair));
    pair->hold_payloads = true;
    submit(pair, 1, NVME_HOST_TO_CONTROLLER, 4096, true);
    submit(pair, 2, NVME_HOST_TO_CONTROLLER, 4096, true);
    assert_true(pair_run(pair));
    assert_true(pair->held > 0 && pair->completions == 0);
    struct slice to[2];
    assert_int_equal(nvme_tcp_target_want(&pair->target, to, 2), 0);
    pair->hold_payloads = false;
    nvme_tcp_target_place(&pair->target, pair->commands[1].target_slices, 5);
    assert_true(pair_run(pair));
    assert_int_equal(pair->completions, 2);
    assert_memory_equal(pair->commands[2].host_data, pair->commands[2].target_data, 4096);
    free(pair);
}

static void a_discarded_payload_leaves_the_stream_in_step(void **state) {
    (void)state;
    struct nvme_tcp_host_options options = {.data_digest = true};
    for (uint64_t split = 0; split < 3; split++) {
        struct pair *pair = pair_create(split, &options, &usual);
        pair->split = split * 700;
        assert_true(pair_run(pair));
        pair->hold_payloads = true;
        submit(pair, 1, NVME_HOST_TO_CONTROLLER, 4096, true);
        submit(pair, 2, NVME_HOST_TO_CONTROLLER, 4096, true);
        assert_true(pair_run(pair));
        pair->hold_payloads = false;
        nvme_tcp_target_discard(&pair->target);
        assert_true(pair_run(pair));
        assert_int_equal(pair->completions, 2);
        assert_int_equal(pair->commands[1].target_data[0], 0xee);
        assert_int_equal(pair->commands[1].request.cqe.status, 0);
        assert_memory_equal(pair->commands[2].host_data, pair->commands[2].target_data, 4096);
        free(pair);
    }
}

/* ---- golden bytes ---- */

static size_t flatten(const struct nvme_tcp_tx *tx, uint8_t *to, size_t size) {
    struct slice slices[64];
    uint32_t count = nvme_tcp_tx_out(tx, slices, 64);
    size_t n = slice_total(slices, count);
    assert_in_range(n, 0, size);
    slice_copy_out(slices, count, 0, to, n);
    return n;
}

static void feed_target(struct nvme_tcp_target *target, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        struct slice to[8];
        uint32_t room = nvme_tcp_target_want(target, to, 8);
        size_t n = min_u64(count, slice_total(to, room));
        if (n == 0)
            return;
        slice_copy_in(to, room, 0, bytes, n);
        nvme_tcp_target_got(target, n);
        bytes += n;
        count -= n;
        if (count > 0) {
            struct nvme_tcp_target_event event;
            nvme_tcp_target_next(target, &event);
        }
    }
}

static void feed_host(struct nvme_tcp_host *host, const uint8_t *bytes, size_t count) {
    struct slice to[8];
    uint32_t room = nvme_tcp_host_want(host, to, 8);
    assert_in_range(count, 0, slice_total(to, room));
    slice_copy_in(to, room, 0, bytes, count);
    nvme_tcp_host_got(host, count);
}

static void bytes_are_those_of_the_specification(void **state) {
    (void)state;
    uint8_t staging[2][NVME_TCP_STAGING_MIN], bytes[8192];
    struct nvme_tcp_host host;
    struct nvme_tcp_host_options options = {.header_digest = true, .data_digest = true};
    nvme_tcp_host_init(&host, &options, staging[0], sizeof(staging[0]));
    uint8_t icreq[128] = {0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 3};
    assert_int_equal(flatten(&host.tx, bytes, sizeof(bytes)), 128);
    assert_memory_equal(bytes, icreq, 128);
    nvme_tcp_host_sent(&host, 128);

    struct nvme_tcp_target target;
    nvme_tcp_target_init(&target, &usual, staging[1], sizeof(staging[1]));
    struct nvme_tcp_target_event event;
    feed_target(&target, icreq, 128);
    nvme_tcp_target_next(&target, &event);
    assert_int_equal(event.type, NVME_TCP_TARGET_CONNECTED);
    uint8_t icresp[128] = {1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 3, 0, 0x10, 0, 0};
    assert_int_equal(flatten(&target.tx, bytes, sizeof(bytes)), 128);
    assert_memory_equal(bytes, icresp, 128);
    nvme_tcp_tx_sent(&target.tx, 128);
    nvme_tcp_target_take_sent(&target);
    feed_host(&host, icresp, 128);
    struct nvme_tcp_host_event back;
    nvme_tcp_host_next(&host, &back);
    assert_int_equal(back.type, NVME_TCP_HOST_CONNECTED);

    /* a write of 4 bytes in the capsule: 72 + 4, payload, its digest */
    struct nvme_tcp_request request = {0}, *requests[3] = {0, 0, &request};
    nvme_tcp_host_set_requests(&host, requests, 3);
    uint8_t data[4] = {'d', 'a', 't', 'a'};
    struct slice slice = {data, 4};
    struct nvme_sqe sqe = {.opcode = NVME_IO_WRITE, .cid = 2, .nsid = 1, .cdw10 = 0x11223344};
    nvme_tcp_host_submit(&host, &sqe, NVME_HOST_TO_CONTROLLER, &slice, 1, 4, true);
    assert_int_equal(flatten(&host.tx, bytes, sizeof(bytes)), 84);
    uint8_t capsule[84] = {4, 3, 72, 76, 84, 0, 0, 0, 1, 0x40, 2, 0, 1};
    capsule[8 + 32] = 4;
    capsule[8 + 39] = 0x01;
    memcpy(capsule + 8 + 40, (uint8_t[]){0x44, 0x33, 0x22, 0x11}, 4);
    put_le32(capsule + 72, crc32c(capsule, 72));
    memcpy(capsule + 76, data, 4);
    put_le32(capsule + 80, crc32c(data, 4));
    assert_memory_equal(bytes, capsule, 84);

    /* an R2T, data for the host with its response behind it, a response alone */
    struct nvme_tcp_transfer transfer = {0}, *table[8] = {0, 0, 0, 0, 0, &transfer};
    nvme_tcp_target_set_transfers(&target, table, 8);
    nvme_tcp_target_request(&target, 5, 2, &slice, 1, 4);
    uint8_t r2t[28] = {9, 1, 24, 0, 28, 0, 0, 0, 2, 0, 5, 0, 0, 0, 0, 0, 4};
    put_le32(r2t + 24, crc32c(r2t, 24));
    assert_int_equal(flatten(&target.tx, bytes, sizeof(bytes)), 28);
    assert_memory_equal(bytes, r2t, 28);
    nvme_tcp_tx_sent(&target.tx, 28);
    assert_null(nvme_tcp_target_take_sent(&target));

    struct nvme_tcp_out out = {0};
    struct nvme_cqe cqe = {.dw0 = 7, .sq_head = 9, .cid = 2, .status = nvme_status_field(NVME_DO_NOT_RETRY | NVME_INVALID_FIELD)};
    nvme_tcp_target_respond_with_data(&target, &out, &cqe, &slice, 1, 4, false);
    uint8_t read[64] = {7, 7, 24, 28, 36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4};
    put_le32(read + 24, crc32c(read, 24));
    memcpy(read + 28, data, 4);
    put_le32(read + 32, crc32c(data, 4));
    memcpy(read + 36, (uint8_t[]){5, 1, 24, 0, 28, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 4, 0x80}, 24);
    put_le32(read + 60, crc32c(read + 36, 24));
    assert_int_equal(flatten(&target.tx, bytes, sizeof(bytes)), 64);
    assert_memory_equal(bytes, read, 64);
    nvme_tcp_tx_sent(&target.tx, 63);
    assert_null(nvme_tcp_target_take_sent(&target));
    nvme_tcp_tx_sent(&target.tx, 1);
    assert_ptr_equal(nvme_tcp_target_take_sent(&target), &out);
    assert_false(out.queued);

    nvme_tcp_target_respond_with_data(&target, &out, &cqe, &slice, 1, 4, true);
    assert_int_equal(flatten(&target.tx, bytes, sizeof(bytes)), 36);
    assert_int_equal(bytes[1],
                     NVME_TCP_FLAG_HEADER_DIGEST | NVME_TCP_FLAG_DATA_DIGEST | NVME_TCP_FLAG_LAST | NVME_TCP_FLAG_SUCCESS);
}

/* ---- peers that break the protocol ---- */

enum hostile_state { FRESH, CONNECTED, ASKED /* for 8192 bytes of command 3 under tag 3, 4096 of them here */ };
struct hostile {
    const char *name;
    enum hostile_state state;
    uint8_t type, flags, header_length, data_offset;
    uint32_t length;
    uint8_t rest[32]; /* from byte 8 on */
    enum nvme_tcp_fes fes;
    uint32_t fei;
};

/* cid, tag, offset, length of a data PDU */
#define DATA_PDU(cid, tag, offset, length)                                                                                       \
    { cid, 0, tag, 0, (offset)&0xff, ((offset) >> 8) & 0xff, 0, 0, (length)&0xff, ((length) >> 8) & 0xff, 0, 0 }

static const struct hostile hostile_hosts[] = {
    {"unknown type", CONNECTED, 8, 0, 24, 0, 24, {0}, NVME_TCP_FES_INVALID_HEADER, 0},
    {"huge type", FRESH, 255, 0, 24, 0, 24, {0}, NVME_TCP_FES_INVALID_HEADER, 0},
    {"type of the other direction", CONNECTED, NVME_TCP_RESPONSE, 0, 24, 0, 24, {0}, NVME_TCP_FES_INVALID_HEADER, 0},
    {"R2T from a host", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, {0}, NVME_TCP_FES_INVALID_HEADER, 0},
    {"command before ICReq", FRESH, NVME_TCP_COMMAND, 0, 72, 0, 72, {0}, NVME_TCP_FES_SEQUENCE, 0},
    {"data before ICReq", FRESH, NVME_TCP_H2C_DATA, 4, 24, 24, 32, DATA_PDU(0, 0, 0, 8), NVME_TCP_FES_SEQUENCE, 0},
    {"second ICReq", CONNECTED, NVME_TCP_ICREQ, 0, 128, 0, 128, {0}, NVME_TCP_FES_SEQUENCE, 0},
    {"ICReq header length", FRESH, NVME_TCP_ICREQ, 0, 24, 0, 128, {0}, NVME_TCP_FES_INVALID_HEADER, 2},
    {"ICReq length", FRESH, NVME_TCP_ICREQ, 0, 128, 0, 129, {0}, NVME_TCP_FES_INVALID_HEADER, 4},
    {"ICReq version", FRESH, NVME_TCP_ICREQ, 0, 128, 0, 128, {1}, NVME_TCP_FES_UNSUPPORTED, 8},
    {"ICReq alignment", FRESH, NVME_TCP_ICREQ, 0, 128, 0, 128, {0, 0, 32}, NVME_TCP_FES_INVALID_HEADER, 10},
    {"length 0", CONNECTED, NVME_TCP_COMMAND, 0, 72, 0, 0, {0}, NVME_TCP_FES_INVALID_HEADER, 4},
    {"length below header", CONNECTED, NVME_TCP_COMMAND, 0, 72, 0, 71, {0}, NVME_TCP_FES_INVALID_HEADER, 4},
    {"capsule too large", CONNECTED, NVME_TCP_COMMAND, 0, 72, 72, 72 + 4097, {0}, NVME_TCP_FES_LIMIT, 4},
    {"length of 4 GiB", CONNECTED, NVME_TCP_COMMAND, 0, 72, 72, UINT32_MAX, {0}, NVME_TCP_FES_LIMIT, 4},
    {"data offset in the header", CONNECTED, NVME_TCP_COMMAND, 0, 72, 68, 80, {0}, NVME_TCP_FES_INVALID_HEADER, 3},
    {"data offset not aligned", CONNECTED, NVME_TCP_COMMAND, 0, 72, 74, 80, {0}, NVME_TCP_FES_INVALID_HEADER, 3},
    {"data offset past the end", CONNECTED, NVME_TCP_COMMAND, 0, 72, 252, 80, {0}, NVME_TCP_FES_INVALID_HEADER, 4},
    {"header digest nobody agreed on", CONNECTED, NVME_TCP_COMMAND, 1, 72, 0, 72, {0}, NVME_TCP_FES_INVALID_HEADER, 1},
    {"data digest nobody agreed on", CONNECTED, NVME_TCP_COMMAND, 2, 72, 72, 84, {0}, NVME_TCP_FES_INVALID_HEADER, 1},
    {"data nobody asked for", CONNECTED, NVME_TCP_H2C_DATA, 4, 24, 24, 32, DATA_PDU(3, 3, 0, 8), NVME_TCP_FES_INVALID_HEADER, 10},
    {"tag out of the table", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(3, 200, 0, 8), NVME_TCP_FES_INVALID_HEADER, 10},
    {"tag of another", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(3, 2, 0, 8), NVME_TCP_FES_INVALID_HEADER, 10},
    {"command of another", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(2, 3, 4096, 8), NVME_TCP_FES_INVALID_HEADER, 8},
    {"length not the payload's", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(3, 3, 4096, 9), NVME_TCP_FES_INVALID_HEADER,
     16},
    {"empty data", ASKED, NVME_TCP_H2C_DATA, 0, 24, 0, 24, DATA_PDU(3, 3, 4096, 0), NVME_TCP_FES_INVALID_HEADER, 16},
    {"data past the end", ASKED, NVME_TCP_H2C_DATA, 4, 24, 24, 24 + 4000, DATA_PDU(3, 3, 8000, 4000), NVME_TCP_FES_OUT_OF_RANGE,
     12},
    {"data far past the end",
     ASKED,
     NVME_TCP_H2C_DATA,
     4,
     24,
     24,
     24 + 8,
     {3, 0, 3, 0, 0xff, 0xff, 0xff, 0xff, 8},
     NVME_TCP_FES_OUT_OF_RANGE,
     12},
    {"data twice", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(3, 3, 0, 8), NVME_TCP_FES_INVALID_HEADER, 12},
    {"a gap in the data", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 32, DATA_PDU(3, 3, 4104, 8), NVME_TCP_FES_INVALID_HEADER, 12},
    {"last too early", ASKED, NVME_TCP_H2C_DATA, 4, 24, 24, 32, DATA_PDU(3, 3, 4096, 8), NVME_TCP_FES_INVALID_HEADER, 1},
    {"no last", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 24 + 4096, DATA_PDU(3, 3, 4096, 4096), NVME_TCP_FES_INVALID_HEADER, 1},
    {"more than the data limit", ASKED, NVME_TCP_H2C_DATA, 0, 24, 24, 24 + 4097, DATA_PDU(3, 3, 4096, 4097), NVME_TCP_FES_LIMIT,
     4},
    {"termination request too long", CONNECTED, NVME_TCP_H2C_TERM, 0, 24, 0, 24 + 129, {0}, NVME_TCP_FES_INVALID_HEADER, 4},
};

static void target_tells_what_is_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(hostile_hosts); i++) {
        const struct hostile *h = &hostile_hosts[i];
        uint8_t staging[8192], data[8192], bytes[8192] = {0};
        struct nvme_tcp_target target;
        struct nvme_tcp_target_event event;
        nvme_tcp_target_init(&target, &usual, staging, sizeof(staging));
        struct nvme_tcp_transfer transfers[4] = {0}, *table[4] = {&transfers[0], &transfers[1], &transfers[2], &transfers[3]};
        nvme_tcp_target_set_transfers(&target, table, 4);
        struct slice slice = {data, sizeof(data)};
        if (h->state >= CONNECTED) {
            const uint8_t icreq[128] = {0, 0, 128, 0, 128};
            feed_target(&target, icreq, sizeof(icreq));
            nvme_tcp_target_next(&target, &event);
            assert_int_equal(event.type, NVME_TCP_TARGET_CONNECTED);
        }
        if (h->state == ASKED) {
            nvme_tcp_target_request(&target, 3, 3, &slice, 1, 8192);
            nvme_tcp_tx_sent(&target.tx, 128 + 24);
            assert_null(nvme_tcp_target_take_sent(&target));
            uint8_t first[24 + 4096] = {NVME_TCP_H2C_DATA, 0, 24, 24, 0x18, 0x10, 0, 0, 3, 0, 3, 0, 0, 0, 0, 0, 0, 0x10};
            feed_target(&target, first, sizeof(first));
            nvme_tcp_target_next(&target, &event);
            assert_int_equal(event.type, NVME_TCP_TARGET_IDLE);
            assert_int_equal(transfers[3].received, 4096);
        } else {
            nvme_tcp_tx_sent(&target.tx, target.tx.waiting_bytes);
            assert_null(nvme_tcp_target_take_sent(&target));
        }
        struct nvme_tcp_common common = {h->type, h->flags, h->header_length, h->data_offset, h->length};
        memcpy(bytes, &common, 8);
        memcpy(bytes + 8, h->rest, sizeof(h->rest));
        feed_target(&target, bytes, 300);
        nvme_tcp_target_next(&target, &event);
        if (event.type != NVME_TCP_TARGET_FAULT || target.rx.fault.fes != h->fes || target.rx.fault.fei != h->fei)
            fail_msg("%s: event %d, fes %d, fei %u (%s)", h->name, event.type, target.rx.fault.fes, target.rx.fault.fei,
                     target.rx.fault.text);
        struct slice to[2];
        assert_int_equal(nvme_tcp_target_want(&target, to, 2), 0);
        uint8_t term[256];
        size_t n = flatten(&target.tx, term, sizeof(term));
        assert_in_range(n, 24, 24 + 128);
        assert_int_equal(term[0], NVME_TCP_C2H_TERM);
        assert_int_equal(get_le32(term + 4), n);
        assert_int_equal(get_le16(term + 8), h->fes);
        assert_int_equal(get_le32(term + 10), h->fei);
        assert_memory_equal(term + 24, bytes, n - 24);
    }
}

/* A connected host with command 1 (read of 4096, sent), 2 (write of 8192, sent), 3 (write, not sent). */
static const struct hostile hostile_controllers[] = {
    {"type of the other direction", CONNECTED, NVME_TCP_COMMAND, 0, 72, 0, 72, {0}, NVME_TCP_FES_INVALID_HEADER, 0},
    {"response before ICResp", FRESH, NVME_TCP_RESPONSE, 0, 24, 0, 24, {0}, NVME_TCP_FES_SEQUENCE, 0},
    {"second ICResp", CONNECTED, NVME_TCP_ICRESP, 0, 128, 0, 128, {0}, NVME_TCP_FES_SEQUENCE, 0},
    {"ICResp version", FRESH, NVME_TCP_ICRESP, 0, 128, 0, 128, {1, 0, 0, 0, 0, 16}, NVME_TCP_FES_UNSUPPORTED, 8},
    {"ICResp alignment", FRESH, NVME_TCP_ICRESP, 0, 128, 0, 128, {0, 0, 32, 0, 0, 16}, NVME_TCP_FES_INVALID_HEADER, 10},
    {"ICResp digests", FRESH, NVME_TCP_ICRESP, 0, 128, 0, 128, {0, 0, 0, 2, 0, 16}, NVME_TCP_FES_INVALID_HEADER, 11},
    {"ICResp data limit", FRESH, NVME_TCP_ICRESP, 0, 128, 0, 128, {0, 0, 0, 0, 0xff, 0xf}, NVME_TCP_FES_INVALID_HEADER, 12},
    {"response to nothing", CONNECTED, NVME_TCP_RESPONSE, 0, 24, 0, 24, {[12] = 5}, NVME_TCP_FES_INVALID_HEADER, 20},
    {"response out of the table", CONNECTED, NVME_TCP_RESPONSE, 0, 24, 0, 24, {[13] = 5}, NVME_TCP_FES_INVALID_HEADER, 20},
    {"response to what is not sent", CONNECTED, NVME_TCP_RESPONSE, 0, 24, 0, 24, {[12] = 3}, NVME_TCP_FES_SEQUENCE, 0},
    {"response with payload", CONNECTED, NVME_TCP_RESPONSE, 0, 24, 24, 28, {[12] = 1}, NVME_TCP_FES_INVALID_HEADER, 4},
    {"R2T for a read", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(1, 0, 0, 4096), NVME_TCP_FES_SEQUENCE, 0},
    {"R2T for what is not sent", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(3, 0, 0, 4096), NVME_TCP_FES_SEQUENCE, 0},
    {"empty R2T", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(2, 0, 0, 0), NVME_TCP_FES_OUT_OF_RANGE, 12},
    {"R2T too long", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(2, 0, 0, 8193), NVME_TCP_FES_OUT_OF_RANGE, 12},
    {"R2T past the end",
     CONNECTED,
     NVME_TCP_R2T,
     0,
     24,
     0,
     24,
     {2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2},
     NVME_TCP_FES_OUT_OF_RANGE,
     12},
    {"R2T out of order", CONNECTED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(2, 0, 512, 512), NVME_TCP_FES_INVALID_HEADER, 12},
    {"second R2T", ASKED, NVME_TCP_R2T, 0, 24, 0, 24, DATA_PDU(2, 0, 4096, 4096), NVME_TCP_FES_LIMIT, 0},
    {"data for a write", CONNECTED, NVME_TCP_C2H_DATA, 4, 24, 24, 32, DATA_PDU(2, 0, 0, 8), NVME_TCP_FES_SEQUENCE, 0},
    {"data for nothing", CONNECTED, NVME_TCP_C2H_DATA, 4, 24, 24, 32, DATA_PDU(0, 0, 0, 8), NVME_TCP_FES_INVALID_HEADER, 8},
    {"data past the end", CONNECTED, NVME_TCP_C2H_DATA, 4, 24, 24, 24 + 4097, DATA_PDU(1, 0, 0, 4097), NVME_TCP_FES_OUT_OF_RANGE,
     12},
    {"data with a gap", CONNECTED, NVME_TCP_C2H_DATA, 4, 24, 24, 32, DATA_PDU(1, 0, 8, 8), NVME_TCP_FES_INVALID_HEADER, 12},
    {"data length", CONNECTED, NVME_TCP_C2H_DATA, 4, 24, 24, 32, DATA_PDU(1, 0, 0, 7), NVME_TCP_FES_INVALID_HEADER, 16},
    {"success nobody agreed on", CONNECTED, NVME_TCP_C2H_DATA, 12, 24, 24, 32, DATA_PDU(1, 0, 0, 8), NVME_TCP_FES_INVALID_HEADER,
     1},
};

static void host_tells_what_is_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(hostile_controllers); i++) {
        const struct hostile *h = &hostile_controllers[i];
        uint8_t staging[8192], data[8192] = {0}, bytes[512] = {0};
        struct nvme_tcp_host host;
        struct nvme_tcp_host_event event;
        struct nvme_tcp_host_options options = {0};
        nvme_tcp_host_init(&host, &options, staging, sizeof(staging));
        struct nvme_tcp_request requests[6] = {0}, *table[6];
        for (unsigned k = 0; k < 6; k++)
            table[k] = &requests[k];
        nvme_tcp_host_set_requests(&host, table, 6);
        nvme_tcp_host_sent(&host, 128);
        struct slice slice = {data, sizeof(data)};
        if (h->state >= CONNECTED) {
            const uint8_t icresp[128] = {1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 16};
            feed_host(&host, icresp, sizeof(icresp));
            nvme_tcp_host_next(&host, &event);
            assert_int_equal(event.type, NVME_TCP_HOST_CONNECTED);
            struct nvme_sqe sqe = {.opcode = NVME_IO_READ, .cid = 1};
            nvme_tcp_host_submit(&host, &sqe, NVME_CONTROLLER_TO_HOST, &slice, 1, 4096, false);
            sqe = (struct nvme_sqe){.opcode = NVME_IO_WRITE, .cid = 2};
            nvme_tcp_host_submit(&host, &sqe, NVME_HOST_TO_CONTROLLER, &slice, 1, 8192, false);
            nvme_tcp_host_sent(&host, 144);
            sqe.cid = 3;
            nvme_tcp_host_submit(&host, &sqe, NVME_HOST_TO_CONTROLLER, &slice, 1, 8192, false);
        }
        if (h->state == ASKED) {
            const uint8_t r2t[24] = {9, 0, 24, 0, 24, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x10};
            feed_host(&host, r2t, sizeof(r2t));
            nvme_tcp_host_next(&host, &event);
            assert_int_equal(event.type, NVME_TCP_HOST_IDLE);
        }
        struct nvme_tcp_common common = {h->type, h->flags, h->header_length, h->data_offset, h->length};
        memcpy(bytes, &common, 8);
        memcpy(bytes + 8, h->rest, sizeof(h->rest));
        feed_host(&host, bytes, 300);
        nvme_tcp_host_next(&host, &event);
        if (event.type != NVME_TCP_HOST_FAULT || host.rx.fault.fes != h->fes || host.rx.fault.fei != h->fei)
            fail_msg("%s: event %d, fes %d, fei %u (%s)", h->name, event.type, host.rx.fault.fes, host.rx.fault.fei,
                     host.rx.fault.text);
    }
}

static void an_early_answer_waits_for_the_data_that_leave(void **state) {
    (void)state;
    uint8_t staging[NVME_TCP_STAGING_MIN], data[8192] = {0};
    struct nvme_tcp_host host;
    struct nvme_tcp_host_event event;
    struct nvme_tcp_host_options options = {0};
    nvme_tcp_host_init(&host, &options, staging, sizeof(staging));
    struct nvme_tcp_request request = {0}, *table[1] = {&request};
    nvme_tcp_host_set_requests(&host, table, 1);
    nvme_tcp_host_sent(&host, 128);
    const uint8_t icresp[128] = {1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 16};
    feed_host(&host, icresp, sizeof(icresp));
    nvme_tcp_host_next(&host, &event);
    struct slice slice = {data, sizeof(data)};
    struct nvme_sqe sqe = {.opcode = NVME_IO_WRITE};
    nvme_tcp_host_submit(&host, &sqe, NVME_HOST_TO_CONTROLLER, &slice, 1, 8192, false);
    nvme_tcp_host_sent(&host, 72);
    const uint8_t r2t[24] = {9, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20};
    feed_host(&host, r2t, sizeof(r2t));
    nvme_tcp_host_next(&host, &event);
    nvme_tcp_host_sent(&host, 100); /* a part of the first of two H2CData */
    const uint8_t failed[24] = {5, 0, 24, 0, 24, [22] = 0x0c, [23] = 0};
    feed_host(&host, failed, sizeof(failed));
    nvme_tcp_host_next(&host, &event);
    assert_int_equal(event.type, NVME_TCP_HOST_IDLE); /* the buffer is still being sent from */
    nvme_tcp_host_sent(&host, 24 + 4096 - 100);
    nvme_tcp_host_next(&host, &event);
    assert_int_equal(event.type, NVME_TCP_HOST_COMPLETION);
    assert_int_equal(nvme_status_code(&request.cqe), NVME_INTERNAL_ERROR);
    assert_true(nvme_tcp_tx_empty(&host.tx)); /* the second one is not sent any more */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_specification),
        cmocka_unit_test(roles_agree_over_every_split),
        cmocka_unit_test(digests_are_only_what_both_want),
        cmocka_unit_test(a_broken_payload_fails_its_command_only),
        cmocka_unit_test(a_broken_header_ends_the_connection),
        cmocka_unit_test(nothing_is_read_while_a_payload_has_no_place),
        cmocka_unit_test(a_discarded_payload_leaves_the_stream_in_step),
        cmocka_unit_test(target_tells_what_is_wrong),
        cmocka_unit_test(host_tells_what_is_wrong),
        cmocka_unit_test(an_early_answer_waits_for_the_data_that_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
