/* The initiator against a controller that lies: the real target's answers, changed on their way as the input says, through
 * connect, identify, requests, namespace notices, losses and reconnects. Whatever comes, every request completes once, everything
 * ends, and nothing is touched that is not ours (the sanitizers look).
 *
 * Input: one byte of options, then changes of four bytes: how many bytes of what the controller sends to let pass (two bytes,
 * little-endian, the top two bits are the kind of change), a value, and a length. */
#include "support/nvme_rig.h"

struct changes {
    const uint8_t *next, *end;
    uint64_t pass; /* bytes to go before the next change */
    uint8_t kind, value, length;
    bool loaded;
};

static bool load(struct changes *changes) {
    if (changes->loaded)
        return true;
    if (changes->end - changes->next < 4)
        return false;
    uint16_t head = get_le16(changes->next);
    changes->pass = head & 0x3fff;
    changes->kind = (uint8_t)(head >> 14);
    changes->value = changes->next[2];
    changes->length = changes->next[3];
    changes->next += 4;
    changes->loaded = true;
    return true;
}

static void tap(void *arg, unsigned connection, bool to_server, uint8_t *bytes, size_t length) {
    struct changes *changes = arg;
    (void)connection;
    if (to_server)
        return;
    for (size_t at = 0; at < length && load(changes);) {
        uint64_t n = min_u64(changes->pass, length - at);
        changes->pass -= n;
        at += n;
        if (at == length)
            return;
        size_t run = min_u64(changes->length / 16 + 1u, length - at);
        for (size_t i = 0; i < run; i++)
            switch (changes->kind) {
            case 0: bytes[at + i] ^= changes->value; break;
            case 1: bytes[at + i] = changes->value; break;
            case 2: bytes[at + i] = (uint8_t)(bytes[at + i] + changes->value); break;
            default: bytes[at + i] = i == 0 ? changes->value : 0; break; /* a little-endian number */
            }
        at += run;
        changes->loaded = false;
    }
}

struct call {
    struct rig *rig;
    struct nvme_initiator_options options;
};
static void options_set(void *arg) {
    struct call *call = arg;
    bool ok = nvme_initiator_set_options(call->rig->initiator, &call->options, NULL);
    assert(ok);
}
static void use(struct rig *rig) {
    struct rig_device device;
    struct rig_io ios[6];
    static uint8_t bytes[6][64 * 1024];
    if (!rig_device_try_open(rig, &device, NULL, 0))
        return;
    uint64_t block = block_device_block_size(device.handle.device), size = block_device_size(device.handle.device);
    uint64_t length = min_u64(size, 64 * 1024);
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_READ, BLOCK_TRIM, BLOCK_WRITE_ZEROES, BLOCK_COMPARE, BLOCK_FLUSH};
    for (unsigned i = 0; i < array_count(ops); i++) {
        enum block_op op = ops[i];
        bool data = op == BLOCK_WRITE || op == BLOCK_READ || op == BLOCK_COMPARE;
        uint64_t n = op == BLOCK_FLUSH ? 0 : i % 2 ? block : length;
        rig_start(&device, &ios[i], op, 0, op == BLOCK_FLUSH ? 0 : size - max_u64(n, block), data ? bytes[i] : NULL, n);
    }
    struct rig_io documents[2];
    static uint8_t document[2][160 * 1024];
    bool replica = block_device_is_replica(device.handle.device);
    if (replica) {
        struct replica_claim claim = {.mirror = {{1}}, .engine = {{2}}, .term = 3, .attempt = 1, .leg = {{4}}};
        memcpy(document[0], &claim, sizeof(claim));
        rig_start_replica(&device, &documents[0], BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLAIM, 0, 0), 0, document[0],
                          sizeof(claim));
        rig_start_replica(&device, &documents[1], BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, document[1],
                          sizeof(document[1]));
    }
    rig_run(rig, NULL, NULL, 5 * NS_PER_MS);
    if (replica)
        rig_recall(&device);
    for (unsigned i = 0; replica && i < array_count(documents); i++) { /* whatever the target does, at once */
        bool done = rig_wait(&documents[i], NS_PER_MS);
        assert(done);
    }
    step_host_reset(rig->host, 1);
    for (unsigned i = 0; i < array_count(ops); i++) {
        bool done = rig_wait(&ios[i], 600 * NS_PER_S);
        assert(done);
    }
    rig_disk_resize(rig, 0, RIG_DISK_BYTES / 2);
    rig_disk_add(rig, 2);
    rig_run(rig, NULL, NULL, 100 * NS_PER_MS);
    rig_device_close(&device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 4096)
        return 0;
    struct changes changes = {.next = data + 1, .end = data + size};
    struct rig_options options = {.seed = 1, .disks = 2};
    options.step.tap = tap;
    options.step.tap_arg = &changes;
    options.step.read_max = data[0] & 1 ? 4000 : 0;
    options.step.random_sizes = true;
    options.replicas = data[0] & 128;
    options.transport.in_capsule_given = true;
    options.transport.in_capsule_bytes = data[0] & 2 ? 0 : 4096;
    struct rig *rig = rig_create(&options);
    struct call call = {.rig = rig};
    nvme_initiator_options_default(&call.options);
    call.options.timeout_us = 1000000;
    call.options.keep_alive_timeout_ms = data[0] & 4 ? 1000 : 0;
    call.options.connect_timeout_ms = 1000;
    if (data[0] & 8)
        call.options.loss = (struct nvme_initiator_loss){10000, 1000, 5000};
    rig_call(rig, rig->control, options_set, &call);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.header_digest = data[0] & 16;
    attach.data_digest = data[0] & 32;
    attach.sq_flow_control = data[0] & 64;
    if (rig_attach(rig, &attach))
        use(rig);
    rig_destroy(rig);
    return 0;
}
