/* Fuzzes the NVMe/TCP codec of both roles. Byte 0: role and options; byte 1: how many bytes arrive at once (0 = all); the rest is
 * what the peer sends. What comes out must not depend on how the bytes arrive (but for a host that writes: whether a second
 * request for data is wrong depends on whether the first one's data have left). */
#include "base/crc32c.h"
#include "wire/nvme_tcp/host.h"
#include "wire/nvme_tcp/target.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH 8
#define DATA_SIZE 16384

struct run {
    uint64_t sum; /* of all that came out, in any order: a host tells an early answer once its data have left */
    struct nvme_tcp_fault fault;
};

static void fold(struct run *run, const void *what, size_t size) { run->sum += crc32c(what, size); }

/* Takes everything that the machine says: as one stream of bytes, however it is cut. */
static void drain(struct run *run, struct nvme_tcp_tx *tx) {
    uint32_t crc = 0;
    struct slice slices[16];
    for (uint32_t count; (count = nvme_tcp_tx_out(tx, slices, 16)) > 0;) {
        for (uint32_t i = 0; i < count; i++)
            crc = crc32c_continue(crc, slices[i].base, slices[i].length);
        nvme_tcp_tx_sent(tx, slice_total(slices, count));
    }
    run->sum += crc;
}

static size_t give(const struct slice *to, uint32_t count, const uint8_t *data, size_t size, size_t at_once) {
    size_t n = min_u64(min_u64(size, at_once), slice_total(to, count));
    if (n > 0)
        slice_copy_in(to, count, 0, data, n);
    return n;
}

struct command {
    struct nvme_tcp_transfer transfer;
    struct nvme_tcp_out answer;
    bool busy;
};

static void run_target(struct run *run, uint8_t options, const uint8_t *data, size_t size, size_t at_once) {
    struct nvme_tcp_target_options target_options = {.h2c_data_limit = 4096,
                                                     .in_capsule_limit = options & 2 ? 8192 : 0,
                                                     .allow_header_digest = options & 4,
                                                     .allow_data_digest = options & 8};
    struct nvme_tcp_target *target = malloc(sizeof(*target));
    uint8_t *staging = malloc(NVME_TCP_STAGING_MIN), *memory = calloc(1, DATA_SIZE);
    struct command *commands = calloc(DEPTH, sizeof(*commands));
    struct nvme_tcp_transfer *table[DEPTH];
    for (unsigned i = 0; i < DEPTH; i++)
        table[i] = &commands[i].transfer;
    struct slice slices[3] = {{memory, 100}, {memory + 100, 4000}, {memory + 4100, DATA_SIZE - 4100}};
    nvme_tcp_target_init(target, &target_options, staging, NVME_TCP_STAGING_MIN);
    nvme_tcp_target_set_transfers(target, table, DEPTH);
    for (bool open = true; open;) {
        struct slice to[8];
        uint32_t room = nvme_tcp_target_want(target, to, 8);
        size_t n = give(to, room, data, size, at_once);
        nvme_tcp_target_got(target, n);
        data += n;
        size -= n;
        open = n > 0;
        struct nvme_tcp_target_event event;
        do {
            nvme_tcp_target_next(target, &event);
            if (event.type != NVME_TCP_TARGET_IDLE)
                fold(run, &event.type, sizeof(event.type));
            if (event.type == NVME_TCP_TARGET_COMMAND) {
                fold(run, event.sqe, sizeof(*event.sqe));
                unsigned tag = event.sqe->cid % DEPTH;
                struct nvme_cqe cqe = {.cid = event.sqe->cid};
                if (event.payload_length > 0 && event.sqe->opcode & 1)
                    nvme_tcp_target_place(target, slices, 3);
                else if (event.payload_length > 0)
                    nvme_tcp_target_discard(target);
                else if (event.sqe->opcode & 2)
                    nvme_tcp_target_respond_with_data(target, &commands[tag].answer, &cqe, slices, 3, 5000, event.sqe->flags & 1);
                else if (!commands[tag].transfer.active)
                    nvme_tcp_target_request(target, (uint16_t)tag, event.sqe->cid, slices, 3, 9000);
                drain(run, &target->tx);
                while (nvme_tcp_target_take_sent(target) != NULL)
                    ;
            }
            if (event.type == NVME_TCP_TARGET_TRANSFER)
                assert(event.transfer->received == 9000 && !event.transfer->active);
            drain(run, &target->tx);
            while (nvme_tcp_target_take_sent(target) != NULL)
                ;
        } while (event.type != NVME_TCP_TARGET_IDLE && event.type != NVME_TCP_TARGET_FAULT &&
                 event.type != NVME_TCP_TARGET_TERMINATED);
        if (event.type != NVME_TCP_TARGET_IDLE)
            break;
    }
    run->fault = target->rx.fault;
    fold(run, memory, DATA_SIZE);
    free(commands);
    free(memory);
    free(staging);
    free(target);
}

static void run_host(struct run *run, uint8_t options, const uint8_t *data, size_t size, size_t at_once) {
    struct nvme_tcp_host_options host_options = {
        .success_flag = options & 2, .header_digest = options & 4, .data_digest = options & 8};
    struct nvme_tcp_host *host = malloc(sizeof(*host));
    uint8_t *staging = malloc(NVME_TCP_STAGING_MIN), *memory = calloc(1, DATA_SIZE);
    struct nvme_tcp_request *requests = calloc(DEPTH, sizeof(*requests)), *table[DEPTH];
    for (unsigned i = 0; i < DEPTH; i++)
        table[i] = &requests[i];
    struct slice slices[3] = {{memory, 100}, {memory + 100, 4000}, {memory + 4100, DATA_SIZE - 4100}};
    nvme_tcp_host_init(host, &host_options, staging, NVME_TCP_STAGING_MIN);
    nvme_tcp_host_set_requests(host, table, DEPTH);
    nvme_tcp_host_sent(host, sizeof(struct nvme_tcp_icreq));
    for (bool open = true; open;) {
        struct slice to[8];
        uint32_t room = nvme_tcp_host_want(host, to, 8);
        size_t n = give(to, room, data, size, at_once);
        nvme_tcp_host_got(host, n);
        data += n;
        size -= n;
        open = n > 0;
        struct nvme_tcp_host_event event;
        do {
            nvme_tcp_host_next(host, &event);
            if (event.type != NVME_TCP_HOST_IDLE)
                fold(run, &event.type, sizeof(event.type));
            if (event.type == NVME_TCP_HOST_CONNECTED)
                for (uint16_t cid = 0; cid < DEPTH; cid++) {
                    bool write = options & 16 && cid & 1;
                    struct nvme_sqe sqe = {.opcode = write ? NVME_IO_WRITE : NVME_IO_READ, .cid = cid};
                    nvme_tcp_host_submit(host, &sqe, write ? NVME_HOST_TO_CONTROLLER : NVME_CONTROLLER_TO_HOST, slices, 3,
                                         cid & 2 ? 9000 : 512, write && cid == 1);
                }
            if (event.type == NVME_TCP_HOST_COMPLETION) {
                assert(event.request->received <= event.request->length);
                fold(run, &event.request->cqe, sizeof(event.request->cqe));
            }
            for (struct slice out[16]; (room = nvme_tcp_tx_out(&host->tx, out, 16)) > 0;)
                nvme_tcp_host_sent(host, slice_total(out, room));
        } while (event.type == NVME_TCP_HOST_CONNECTED || event.type == NVME_TCP_HOST_COMPLETION);
        if (event.type != NVME_TCP_HOST_IDLE)
            break;
    }
    run->fault = host->rx.fault;
    fold(run, memory, DATA_SIZE);
    free(requests);
    free(memory);
    free(staging);
    free(host);
}

static void run_one(struct run *run, uint8_t options, const uint8_t *data, size_t size, size_t at_once) {
    *run = (struct run){0};
    (options & 1 ? run_host : run_target)(run, options, data, size, at_once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 65536)
        return 0;
    struct run whole, split;
    run_one(&whole, data[0], data + 2, size - 2, SIZE_MAX);
    run_one(&split, data[0], data + 2, size - 2, data[1] + 1U);
    if (data[0] & 1 && data[0] & 16)
        return 0;
    assert(whole.fault.fes == split.fault.fes && whole.fault.fei == split.fault.fei);
    assert(whole.fault.fes != 0 || whole.sum == split.sum);
    return 0;
}
