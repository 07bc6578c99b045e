/* See workload.h. */
#include "workload.h"

#define SECTOR 512

/* ---- payloads ---- */

static void stamp(const struct workload *workload, uint32_t block, uint32_t version, uint8_t *to) {
    for (uint32_t at = 0; at < WORKLOAD_BLOCK; at += 16) {
        put_le32(to + at, block);
        put_le32(to + at + 4, version);
        put_le32(to + at + 8, workload->seed);
        put_le32(to + at + 12, at);
    }
}

/* The version that all sectors show; fails on anything else. */
static uint32_t version_of(const struct workload *workload, uint32_t block, const uint8_t *bytes) {
    uint32_t version = get_le32(bytes + 4);
    for (uint32_t at = 0; at < WORKLOAD_BLOCK; at += 16) {
        uint32_t words[4] = {get_le32(bytes + at), get_le32(bytes + at + 4), get_le32(bytes + at + 8), get_le32(bytes + at + 12)};
        if (words[1] != version)
            fail_msg("block %u: sector %u is of version %u, the first of %u", block, at / SECTOR, words[1], version);
        if (version == 0 ? (words[0] | words[2] | words[3]) != 0
                         : words[0] != block || words[2] != workload->seed || words[3] != at)
            fail_msg("block %u, byte %u: foreign bytes (block %u, version %u)", block, at, words[0], words[1]);
    }
    return version;
}

static void check_read(struct workload *workload, uint32_t block, const uint8_t *bytes) {
    struct workload_block *model = &workload->blocks[block];
    uint32_t version = version_of(workload, block, bytes);
    if (version == model->answered)
        return;
    for (uint32_t i = 0; i < model->unknown_count; i++)
        if (model->unknown[i] == version) {
            /* shown once, it stays; those before it can no longer come */
            model->answered = version;
            memmove(model->unknown, model->unknown + i + 1, (model->unknown_count - i - 1) * sizeof(model->unknown[0]));
            model->unknown_count -= i + 1;
            return;
        }
    fail_msg("block %u shows version %u, answered was %u (%u of unknown fate)", block, version, model->answered,
             model->unknown_count);
}

void workload_check(struct workload *workload, uint32_t block, const uint8_t *bytes) { check_read(workload, block, bytes); }

/* ---- requests ---- */

static void begin_next(struct workload_slot *slot);

static void ended(struct block_request *request) {
    struct workload_slot *slot = container_of(request, struct workload_slot, request);
    struct workload *workload = slot->lane->workload;
    struct workload_block *model = &workload->blocks[slot->block];
    bool ok = request->status == IO_OK;
    assert(slot->busy);
    workload->ended[min_u32(request->status, 15)]++;
    workload->failed += !ok;
    sim_trace(workload->plane->cluster->sim, "ended", (uint64_t)slot->block << 8 | request->op, request->status);
    if (request->op == BLOCK_READ && ok)
        check_read(workload, slot->block, slot->payload);
    if (request->op == BLOCK_WRITE && ok) {
        model->answered = slot->version;
        model->unknown_count = 0;
    } else if (request->op == BLOCK_WRITE) {
        assert(model->unknown_count < WORKLOAD_UNKNOWN_MAX);
        model->unknown[model->unknown_count++] = slot->version;
    }
    if (request->op != BLOCK_FLUSH)
        model->busy = false;
    slot->busy = false;
    slot->lane->busy--;
    begin_next(slot);
}

static void submit(struct workload_slot *slot, enum block_op op, uint32_t block) {
    struct workload *workload = slot->lane->workload;
    slot->busy = true;
    slot->lane->busy++;
    slot->block = block;
    slot->request = (struct block_request){.op = (uint8_t)op, .complete = ended};
    if (op != BLOCK_FLUSH) {
        /* in three pieces now and then, so that scattered payloads travel too */
        bool scattered = random_chance(&workload->random, 1, 4);
        slot->slices[0] = (struct slice){slot->payload, scattered ? SECTOR : WORKLOAD_BLOCK};
        slot->slices[1] = (struct slice){slot->payload + SECTOR, SECTOR * 2};
        slot->slices[2] = (struct slice){slot->payload + SECTOR * 3, WORKLOAD_BLOCK - SECTOR * 3};
        slot->request.slices = slot->slices;
        slot->request.slice_count = scattered ? 3 : 1;
        slot->request.offset = (uint64_t)block * WORKLOAD_BLOCK;
        slot->request.length = WORKLOAD_BLOCK;
        workload->blocks[block].busy = true;
    }
    if (op == BLOCK_WRITE) {
        slot->version = ++workload->blocks[block].last;
        stamp(workload, block, slot->version, slot->payload);
        if (random_chance(&workload->random, 1, 8))
            slot->request.flags = BLOCK_FUA;
        workload->writes++;
    } else if (op == BLOCK_READ) {
        memset(slot->payload, 0xa5, WORKLOAD_BLOCK);
        workload->reads++;
    } else {
        workload->flushes++;
    }
    workload->begun++;
    block_submit(slot->lane->channel, &slot->request);
}

static void begin_next(struct workload_slot *slot) {
    struct workload *workload = slot->lane->workload;
    if (!workload->running || (workload->limit != 0 && workload->begun >= workload->limit))
        return;
    uint64_t draw = random_below(&workload->random, 20);
    if (draw == 0) {
        submit(slot, BLOCK_FLUSH, 0);
        return;
    }
    uint32_t block = (uint32_t)random_below(&workload->random, workload->block_count);
    while (workload->blocks[block].busy || workload->blocks[block].unknown_count == WORKLOAD_UNKNOWN_MAX)
        block = (block + 1) % workload->block_count;
    submit(slot, draw < 8 ? BLOCK_READ : BLOCK_WRITE, block);
}

/* ---- lanes ---- */

static void lane_open(struct plane *plane, void *arg) {
    struct workload_lane *lane = arg;
    (void)plane;
    lane->channel = block_channel_open(&lane->workload->handle);
    assert(lane->channel != NULL);
}

static void lane_close(struct plane *plane, void *arg) {
    struct workload_lane *lane = arg;
    (void)plane;
    block_channel_close(lane->channel);
    lane->channel = NULL;
}

struct opening {
    struct workload *workload;
    const char *device;
    struct error error;
    bool ok;
};

static void handle_open(struct plane *plane, void *arg) {
    struct opening *opening = arg;
    struct block_device *device = block_graph_find(&plane->graph, opening->device);
    opening->workload->handle = (struct block_handle){.owner = "the workload"};
    opening->ok = device != NULL && block_handle_open(&opening->workload->handle, device, BLOCK_MODE_WRITE, &opening->error);
}

static void handle_close(struct plane *plane, void *arg) {
    (void)plane;
    block_handle_close(&((struct workload *)arg)->handle);
}

void workload_reopen(struct workload *workload, const char *device) {
    struct opening opening = {.workload = workload, .device = device};
    plane_do(workload->plane, handle_open, &opening);
    if (!opening.ok)
        fail_msg("opening %s: %s", device, opening.error.text);
    for (unsigned i = 0; i < workload->plane->data_count; i++) {
        struct workload_lane *lane = &workload->lanes[i];
        lane->reactor = workload->plane->data[i];
        plane_do_on(workload->plane, lane->reactor, lane_open, lane);
    }
}

void workload_init(struct workload *workload, struct plane *plane, const char *device, unsigned block_count, unsigned depth,
                   uint32_t seed) {
    assert_true(block_count <= WORKLOAD_BLOCKS_MAX && depth <= WORKLOAD_DEPTH_MAX);
    assert_true(depth * plane->data_count < block_count); /* a block that is free can always be found */
    *workload = (struct workload){.plane = plane, .seed = seed, .depth = depth, .block_count = block_count};
    random_init(&workload->random, seed);
    for (unsigned i = 0; i < plane->data_count; i++) {
        struct workload_lane *lane = &workload->lanes[i];
        lane->workload = workload;
        for (unsigned j = 0; j < depth; j++) {
            lane->slots[j].lane = lane;
            lane->slots[j].payload = plain_alloc(WORKLOAD_BLOCK);
        }
    }
    workload_reopen(workload, device);
}

static void lane_go(struct plane *plane, void *arg) {
    struct workload_lane *lane = arg;
    (void)plane;
    for (unsigned i = 0; i < lane->workload->depth; i++)
        if (!lane->slots[i].busy)
            begin_next(&lane->slots[i]);
}

static void lanes_message(struct reactor_message *message) {
    struct workload_lane *lane = container_of(message, struct workload_lane, message);
    lane->posted = false;
    lane_go(NULL, lane);
}

void workload_start(struct workload *workload, uint64_t limit) {
    workload->running = true;
    workload->limit = limit == 0 ? 0 : workload->begun + limit;
    for (unsigned i = 0; i < workload->plane->data_count; i++) {
        struct workload_lane *lane = &workload->lanes[i];
        if (lane->posted) /* the plane stands still */
            continue;
        lane->posted = true;
        lane->message.run = lanes_message;
        reactor_post(lane->reactor, &lane->message);
    }
}

bool workload_is_idle(void *arg) {
    struct workload *workload = arg;
    unsigned busy = 0;
    for (unsigned i = 0; i < workload->plane->data_count; i++)
        busy += workload->lanes[i].busy;
    return busy == 0;
}

bool workload_is_done(void *arg) {
    struct workload *workload = arg;
    return workload->begun >= workload->limit && workload_is_idle(workload);
}

void workload_stop(struct workload *workload, uint64_t for_ns) {
    workload->running = false;
    cluster_wait(workload->plane->cluster, workload_is_idle, workload, for_ns, "the end of all requests");
}

struct one_request {
    struct workload_lane *lane;
    enum block_op op;
    uint32_t block;
};

static void submit_one(struct plane *plane, void *arg) {
    struct one_request *one = arg;
    (void)plane;
    struct workload_slot *slot = NULL;
    for (unsigned i = 0; slot == NULL && i < one->lane->workload->depth; i++)
        if (!one->lane->slots[i].busy)
            slot = &one->lane->slots[i];
    assert(slot != NULL && !one->lane->workload->blocks[one->block].busy);
    submit(slot, one->op, one->block);
}

void workload_begin_write(struct workload *workload, unsigned lane, uint32_t block) {
    struct one_request one = {&workload->lanes[lane], BLOCK_WRITE, block};
    plane_do_on(workload->plane, one.lane->reactor, submit_one, &one);
}

static bool block_is_free(void *arg) { return !((struct workload_block *)arg)->busy; }

enum io_status workload_write(struct workload *workload, unsigned lane, uint32_t block) {
    uint64_t before[16];
    memcpy(before, workload->ended, sizeof(before));
    workload_begin_write(workload, lane, block);
    cluster_wait(workload->plane->cluster, block_is_free, &workload->blocks[block], 600 * NS_PER_S, "a write");
    return workload->blocks[block].answered == workload->blocks[block].last ? IO_OK : IO_INTERNAL;
}

void workload_verify(struct workload *workload) {
    assert_false(workload->running);
    for (uint32_t block = 0; block < workload->block_count; block++) {
        struct one_request one = {&workload->lanes[block % workload->plane->data_count], BLOCK_READ, block};
        uint64_t failed = workload->failed;
        plane_do_on(workload->plane, one.lane->reactor, submit_one, &one);
        cluster_wait(workload->plane->cluster, block_is_free, &workload->blocks[block], 600 * NS_PER_S, "a read");
        assert_int_equal(workload->failed, failed);
    }
}

void workload_orphaned(struct workload *workload) {
    workload->running = false;
    for (unsigned i = 0; i < workload->plane->data_count; i++) {
        struct workload_lane *lane = &workload->lanes[i];
        lane->busy = 0;
        lane->posted = false;
        for (unsigned j = 0; j < workload->depth; j++) {
            struct workload_slot *slot = &lane->slots[j];
            struct workload_block *model = &workload->blocks[slot->block];
            if (slot->busy && slot->request.op == BLOCK_WRITE) {
                assert(model->unknown_count < WORKLOAD_UNKNOWN_MAX);
                model->unknown[model->unknown_count++] = slot->version;
            }
            if (slot->busy && slot->request.op != BLOCK_FLUSH)
                model->busy = false;
            slot->busy = false;
        }
    }
}

void workload_fini(struct workload *workload) {
    if (workload->plane->running) {
        for (unsigned i = 0; i < workload->plane->data_count; i++)
            plane_do_on(workload->plane, workload->lanes[i].reactor, lane_close, &workload->lanes[i]);
        plane_do(workload->plane, handle_close, workload);
    }
    for (unsigned i = 0; i < workload->plane->data_count; i++)
        for (unsigned j = 0; j < workload->depth; j++)
            plain_free(workload->lanes[i].slots[j].payload);
}
