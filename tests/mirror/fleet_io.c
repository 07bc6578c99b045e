/* Checked I/O on a fleet's engines, and on its stores at the end. */
#include "fleet.h"

#include <stdio.h>

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/replica.h"

static uint64_t offset_of(unsigned block) {
    return block / FLEET_BLOCKS_A_REGION * REPLICA_REGION_BYTES + (uint64_t)(block % FLEET_BLOCKS_A_REGION) * FLEET_BLOCK;
}

static uint64_t word_of(uint32_t id, unsigned block) { return id == 0 ? 0 : (uint64_t)block << 32 | id; }

static void fill(uint8_t *bytes, unsigned block, uint32_t id) {
    uint64_t *words = (uint64_t *)(void *)bytes, word = word_of(id, block);
    for (unsigned i = 0; i < FLEET_BLOCK / 8; i++)
        words[i] = word;
}

/* The version that bytes are of; fails the test if they are of none. */
static uint32_t id_of(struct fleet *fleet, const uint8_t *bytes, unsigned block, const char *where) {
    const uint64_t *words = (const uint64_t *)(const void *)bytes;
    uint64_t differs = 0;
    for (unsigned i = 1; i < FLEET_BLOCK / 8; i++)
        differs |= words[i] ^ words[0];
    if (differs != 0 || words[0] != word_of((uint32_t)words[0], block))
        fleet_fail(fleet, "block %u in %s is torn or of another place: %016llx", block, where, (unsigned long long)words[0]);
    return (uint32_t)words[0];
}

static void check(struct fleet *fleet, const uint8_t *bytes, unsigned block, uint64_t begin, const char *where) {
    uint32_t id = id_of(fleet, bytes, block, where);
    fleet_log(fleet, "block %u in %s shows version %u", block, where, id);
    const char *wrong = ledger_read(&fleet->ledger, block, id, begin);
    if (wrong == NULL)
        return;
    const struct ledger_block *b = &fleet->ledger.blocks[block];
    for (unsigned i = 0; i < b->count; i++)
        printf("  version %u of %u: begun %llu, ended %llu, dead %llu%s\n", b->versions[i].id, b->versions[i].writer,
               (unsigned long long)b->versions[i].begin, (unsigned long long)b->versions[i].end,
               (unsigned long long)b->versions[i].dead, b->versions[i].gone ? ", gone" : "");
    fleet_fail(fleet, "block %u in %s shows %s: version %u, asked at %llu, lost at %llu", block, where, wrong, id,
               (unsigned long long)begin, (unsigned long long)fleet->ledger.lost_at);
}

/* ---- requests ---- */

uint64_t fleet_oldest(const struct fleet *fleet) {
    uint64_t begin = LEDGER_NEVER;
    for (unsigned i = 0; i < fleet->node_count; i++)
        for (unsigned j = 0; fleet->nodes[i].channel != NULL && j < FLEET_OPS; j++)
            if (fleet->nodes[i].ops[j].busy)
                begin = min_u64(begin, fleet->nodes[i].ops[j].begin);
    return begin;
}

static bool prepare(struct fleet_op *op, enum block_op kind, unsigned first, unsigned count);
static bool prepare_any(struct fleet_op *op);

static bool is_write(const struct fleet_op *op) {
    return op->request.op == BLOCK_WRITE || op->request.op == BLOCK_WRITE_ZEROES || op->request.op == BLOCK_TRIM;
}

static void done(struct block_request *request) {
    struct fleet_op *op = container_of(request, struct fleet_op, request);
    struct fleet_node *node = op->node;
    struct fleet *fleet = node->fleet;
    enum io_status status = (enum io_status)request->status;
    bool ok = status == IO_OK;
    fleet_log(fleet, "%s: op %u of %u+%u (%u): %s", node->name, request->op, op->first, op->count, op->ids[0],
              io_status_name(status));
    fleet->failures += !ok;
    node->failed = ok ? 0 : node->failed + 1;
    node->answers += ok;
    fleet->answers += ok;
    if (ok && !node->served) {
        node->served = true;
        ledger_writers_over(&fleet->ledger, node->writer);
    }
    if (is_write(op)) {
        for (unsigned i = 0; i < op->count; i++)
            ledger_write_end(&fleet->ledger, op->first + i, op->ids[i], ok, !ok && status == IO_PATH_LOST);
    } else if (request->op == BLOCK_READ) {
        for (unsigned i = 0; ok && i < op->count; i++)
            check(fleet, op->payload + (size_t)i * FLEET_BLOCK, op->first + i, op->begin, "a read");
    } else if (ok) {
        ledger_flush(&fleet->ledger, op->begin, fleet_oldest(fleet));
    }
    op->busy = false;
    sim_trace(fleet->cluster.sim, "answer", op->first, (uint64_t)request->op << 8 | status);
    if (fleet->driving && ok && prepare_any(op))
        block_submit(node->channel, &op->request);
}

static bool prepare(struct fleet_op *op, enum block_op kind, unsigned first, unsigned count) {
    struct fleet *fleet = op->node->fleet;
    op->busy = true;
    op->first = first;
    op->count = kind == BLOCK_FLUSH ? 0 : count;
    op->begin = ledger_now(&fleet->ledger);
    op->slice = (struct slice){op->payload, (size_t)count * FLEET_BLOCK};
    op->request = (struct block_request){.op = (uint8_t)kind, .complete = done};
    if (kind == BLOCK_FLUSH) {
        fleet->flushes++;
        return true;
    }
    op->request.offset = offset_of(first);
    op->request.length = (uint64_t)count * FLEET_BLOCK;
    if (kind == BLOCK_READ) {
        fleet->reads++;
    } else {
        fleet->writes++;
        for (unsigned i = 0; i < count; i++)
            op->ids[i] = ledger_write_begin(&fleet->ledger, first + i, op->node->writer, kind != BLOCK_WRITE, op->begin);
    }
    if (kind == BLOCK_READ || kind == BLOCK_WRITE) {
        op->request.slices = &op->slice;
        op->request.slice_count = 1;
        for (unsigned i = 0; i < count; i++)
            fill(op->payload + (size_t)i * FLEET_BLOCK, kind == BLOCK_WRITE ? first + i : FLEET_BLOCKS,
                 kind == BLOCK_WRITE ? op->ids[i] : 1);
    }
    return true;
}

static bool prepare_any(struct fleet_op *op) {
    struct random *random = &op->node->fleet->random;
    unsigned what = (unsigned)random_below(random, 32), region = (unsigned)random_below(random, op->node->fleet->regions);
    unsigned at = (unsigned)random_below(random, FLEET_BLOCKS_A_REGION);
    unsigned count = 1 + (unsigned)random_below(random, min_u32(FLEET_OP_BLOCKS, FLEET_BLOCKS_A_REGION - at));
    enum block_op kind = what < 2    ? BLOCK_FLUSH
                         : what < 3  ? BLOCK_WRITE_ZEROES
                         : what < 4  ? BLOCK_TRIM
                         : what < 18 ? BLOCK_WRITE
                                     : BLOCK_READ;
    return prepare(op, kind, region * FLEET_BLOCKS_A_REGION + at, count);
}

static void submit(struct reactor_message *message) {
    struct fleet_op *op = container_of(message, struct fleet_op, message);
    block_submit(op->node->channel, &op->request);
}

static struct fleet_op *free_op(struct fleet_node *node) {
    for (unsigned i = 0; node->channel != NULL && i < FLEET_OPS; i++)
        if (!node->ops[i].busy)
            return &node->ops[i];
    return NULL;
}

static void send(struct fleet_op *op) {
    op->message = (struct reactor_message){.run = submit};
    reactor_post(op->node->plane.data[0], &op->message);
}

bool fleet_begin(struct fleet_node *node, enum block_op kind, unsigned first, unsigned count) {
    struct fleet_op *op = free_op(node);
    if (op == NULL)
        return false;
    prepare(op, kind, first, count);
    send(op);
    return true;
}

unsigned fleet_busy(const struct fleet_node *node) {
    unsigned busy = 0;
    for (unsigned i = 0; i < FLEET_OPS; i++)
        busy += node->ops[i].busy;
    return busy;
}

bool fleet_is_idle(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet_busy(&fleet->nodes[i]) > 0)
            return false;
    return true;
}

void fleet_fill(struct fleet_node *node) {
    struct fleet_op *op;
    for (unsigned busy = fleet_busy(node); busy < node->fleet->options.depth && (op = free_op(node)) != NULL; busy++) {
        prepare_any(op);
        send(op);
    }
}

bool fleet_has_two_members(struct fleet *fleet) {
    struct fleet_node *engine = fleet_engine(fleet);
    return engine != NULL && __builtin_popcount(mirror_of(engine->mirror)->members) == 2;
}

bool fleet_stores_are_up(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].exported && fleet->nodes[i].state != FLEET_UP)
            return false;
    return true;
}

void fleet_drive(struct fleet *fleet, uint64_t requests, bool keep) {
    uint64_t until = fleet->reads + fleet->writes + fleet->flushes + requests;
    uint64_t end = sim_now_ns(fleet->cluster.sim) + 60 * NS_PER_S;
    fleet->driving = true;
    while (fleet->reads + fleet->writes + fleet->flushes < until) {
        struct fleet_node *engine = fleet_engine(fleet);
        if (engine != NULL)
            fleet_fill(engine);
        if (sim_now_ns(fleet->cluster.sim) > end)
            fleet_fail(fleet, "requests are not answered");
        fleet_run(fleet, NS_PER_MS);
    }
    fleet->driving = keep;
    if (!keep)
        fleet_wait(fleet, fleet_is_idle, NS_PER_S, "requests to end");
}

/* ---- each store by itself ---- */

struct look {
    struct fleet_node *node;
    struct block_handle handle;
    struct block_channel *channel;
    struct block_request request;
    struct replica_claim claim;
    struct slice slice;
    bool done;
};

static void look_open(struct plane *plane, void *arg) {
    struct look *look = arg;
    struct block_device *device = block_graph_find(&plane->graph, look->node->device);
    look->handle = (struct block_handle){.owner = "the test"};
    struct error error = {0};
    if (device == NULL || !block_handle_open(&look->handle, device, BLOCK_MODE_WRITE, &error))
        fleet_fail(look->node->fleet, "%s: its volume: %s", look->node->name, error.text);
}
static void look_channel(struct plane *plane, void *arg) {
    struct look *look = arg;
    (void)plane;
    look->channel = block_channel_open(&look->handle);
}
static void look_done(struct block_request *request) { container_of(request, struct look, request)->done = true; }
static bool look_is_done(void *arg) { return ((struct look *)arg)->done; }
static void look_send(struct plane *plane, void *arg) {
    struct look *look = arg;
    (void)plane;
    block_submit(look->channel, &look->request);
}

static void look_do(struct look *look, enum block_op op, uint64_t argument, uint64_t offset, void *bytes, uint64_t length) {
    look->done = false;
    look->slice = (struct slice){bytes, length};
    look->request = (struct block_request){.op = (uint8_t)op,
                                           .slices = &look->slice,
                                           .slice_count = 1,
                                           .offset = offset,
                                           .length = length,
                                           .argument = argument,
                                           .complete = look_done};
    plane_do_on(&look->node->plane, look->node->plane.data[0], look_send, look);
    cluster_wait(look->node->plane.cluster, look_is_done, look, 60 * NS_PER_S, "a look at a store");
    if (look->request.status != IO_OK)
        fleet_fail(look->node->fleet, "%s: a look at its store: %s", look->node->name,
                   io_status_name((enum io_status)look->request.status));
}

#define TREE_LAYERS_MAX 16
static struct replica_layers *tree_of(struct look *look) {
    size_t bytes = tree_bytes(TREE_LAYERS_MAX);
    struct replica_layers *tree = plain_alloc(bytes);
    look_do(look, BLOCK_REPLICA_GET, replica_argument(REPLICA_LAYERS, 0, 0), 0, tree, bytes);
    const char *wrong = tree->count > TREE_LAYERS_MAX ? "it has too many" : tree_check(tree, tree_bytes(tree->count));
    if (wrong != NULL)
        fleet_fail(look->node->fleet, "%s: its snapshots: %s", look->node->name, wrong);
    return tree;
}

static void same_layer(struct look *a, const struct replica_layer *layer_a, struct look *b, const struct replica_layer *layer_b) {
    enum { SUMS = REPLICA_REGION_BYTES / REPLICA_BLOCK_BYTES };
    static uint64_t of_a[SUMS], of_b[SUMS];
    for (uint64_t offset = 0; offset < layer_a->size; offset += REPLICA_REGION_BYTES) {
        look_do(a, BLOCK_REPLICA_GET, replica_argument(REPLICA_SUMS, 1, layer_a->layer), offset, of_a, sizeof(of_a));
        look_do(b, BLOCK_REPLICA_GET, replica_argument(REPLICA_SUMS, 1, layer_b->layer), offset, of_b, sizeof(of_b));
        if (memcmp(of_a, of_b, sizeof(of_a)) != 0)
            fleet_fail(a->node->fleet, "snapshot %s differs between %s and %s in region %llu", layer_a->name, a->node->name,
                       b->node->name, (unsigned long long)(offset / REPLICA_REGION_BYTES));
    }
}

const char *const fleet_pairs[2 * FLEET_PAIRS] = {"user_created",         "true",  "snapshot_timestamp",
                                                  "2026-01-02T03:04:05Z", "empty", ""};

static void has_pairs(struct look *look, const struct replica_layer *layer) {
    uint8_t room[REPLICA_PAIRS_BYTES] __attribute__((aligned(8)));
    const struct replica_pairs *pairs = (const void *)room;
    look_do(look, BLOCK_REPLICA_GET, replica_argument(REPLICA_PAIRS, 0, layer->layer), 0, room, sizeof(room));
    uint32_t at = 0;
    for (unsigned i = 0; i < 2 * FLEET_PAIRS; i++) {
        const char *text = fleet_pairs[i];
        if (at + strlen(text) >= pairs->pair_bytes || strcmp(pairs->pairs + at, text) != 0)
            fleet_fail(look->node->fleet, "%s: snapshot %s lacks its attribute %s", look->node->name, layer->name, text);
        at += (uint32_t)strlen(text) + 1;
    }
    if (at != pairs->pair_bytes)
        fleet_fail(look->node->fleet, "%s: snapshot %s has attributes that nobody gave it", look->node->name, layer->name);
}

/* Number, snapshots, whose children they are, and their content. */
static void same_trees(struct look *a, struct look *b) {
    struct fleet *fleet = a->node->fleet;
    struct replica_layers *of_a = tree_of(a), *of_b = tree_of(b);
    if (of_a->sequence != of_b->sequence || of_a->change != of_b->change || of_a->count != of_b->count ||
        of_a->head_parent != of_b->head_parent || of_a->head_size != of_b->head_size)
        fleet_fail(fleet, "%s is at change %llu (%llx), %u snapshots, head on %llx; %s at %llu (%llx), %u, %llx", a->node->name,
                   (unsigned long long)of_a->sequence, (unsigned long long)of_a->change, of_a->count,
                   (unsigned long long)of_a->head_parent, b->node->name, (unsigned long long)of_b->sequence,
                   (unsigned long long)of_b->change, of_b->count, (unsigned long long)of_b->head_parent);
    for (uint32_t i = 0; i < of_a->count; i++) {
        const struct replica_layer *x = &of_a->layers[i], *y = &of_b->layers[i]; /* sorted by id */
        if (x->id != y->id || x->parent != y->parent || x->size != y->size || strcmp(x->name, y->name) != 0)
            fleet_fail(fleet, "snapshot %s is another on %s than on %s", x->name, b->node->name, a->node->name);
        has_pairs(a, x);
        has_pairs(b, y);
        same_layer(a, x, b, y);
    }
    plain_free(of_a);
    plain_free(of_b);
}

void fleet_compare(struct fleet *fleet) {
    struct look *looks = plain_alloc(FLEET_NODES * sizeof(*looks));
    uint8_t *bytes = plain_alloc(FLEET_BLOCK);
    const struct replica_record *record = NULL;
    fleet->at_point = NULL;
    fleet->driving = false;
    /* An engine's own leg dies with it: what it holds is what was flushed. */
    struct fleet_node *engine = fleet_engine(fleet);
    if (engine != NULL && !fleet_begin(engine, BLOCK_FLUSH, 0, 0))
        fleet_fail(fleet, "requests are under way at the end");
    fleet_wait(fleet, fleet_is_idle, 10 * NS_PER_S, "the last flush");
    uint64_t promised = ++fleet->terms;
    for (unsigned i = 0; i < fleet->node_count; i++) {
        fleet->nodes[i].again_ns = 0;
        if (fleet->nodes[i].engine && fleet->nodes[i].state != FLEET_DOWN) {
            fleet->nodes[i].engine = fleet->nodes[i].disk == NULL; /* one with a store comes up again without its engine */
            fleet_node_die(&fleet->nodes[i], FLEET_CLOSE);
            if (fleet->nodes[i].disk != NULL)
                fleet_node_up(&fleet->nodes[i]);
        }
    }
    for (unsigned i = 0; i < 50; i++)
        fleet_run(fleet, 10 * NS_PER_MS);
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->disk == NULL)
            continue;
        if (node->state != FLEET_UP)
            fleet_fail(fleet, "%s is not up at the end", node->name);
        looks[i] = (struct look){.node = node};
        plane_do(&node->plane, look_open, &looks[i]);
        plane_do_on(&node->plane, node->plane.data[0], look_channel, &looks[i]);
        record = fleet_record(node);
        looks[i].claim = (struct replica_claim){
            .mirror = record->mirror, .engine = {{0xee, (uint8_t)i}}, .term = promised, .attempt = 1, .leg = record->leg};
        look_do(&looks[i], BLOCK_REPLICA_PUT, replica_argument(REPLICA_CLAIM, 0, 0), 0, &looks[i].claim, sizeof(looks[i].claim));
    }
    struct look *first = NULL;
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].disk != NULL) {
            if (first != NULL)
                same_trees(first, &looks[i]);
            else
                first = &looks[i];
        }
    for (unsigned block = 0; block < fleet->regions * FLEET_BLOCKS_A_REGION; block++)
        for (unsigned i = 0; i < fleet->node_count; i++) {
            if (fleet->nodes[i].disk == NULL)
                continue;
            uint64_t begin = ledger_now(&fleet->ledger);
            look_do(&looks[i], BLOCK_READ, 0, offset_of(block), bytes, FLEET_BLOCK);
            check(fleet, bytes, block, begin, fleet->nodes[i].name);
        }
    plain_free(bytes);
    plain_free(looks);
}
