/* A volume's record, the claim on it and the fence: who may read and write a leg. */
#include "blockdev/volume/replica.h"

#include "base/bitmap.h"

#include <stdlib.h>

/* ---- in RAM ---- */

static struct replica *replica_new(struct volume *volume, const struct replica_record *record, struct layer *marks) {
    struct replica *replica = calloc(1, sizeof(*replica));
    if (replica == NULL || !block_replica_enter(volume->store->graph, &replica->here, &record->leg)) {
        free(replica);
        return NULL;
    }
    replica->volume = volume;
    replica->record = *record;
    replica->marks = marks;
    replica->unproven = volume->store->unproven;
    early_init(volume->store);
    return replica;
}

bool replica_open(struct volume_store *store, struct volume *volume) {
    uint32_t size, at = 0;
    const uint8_t *identity = record_identity(volume->layer->record, &size);
    struct replica_record record;
    bool found = false;
    for (struct identity_item item; identity_next(identity, size, &at, &item);) {
        if (item.type != IDENTITY_MIRROR)
            continue;
        found = true;
        if (item.length == sizeof(record))
            memcpy(&record, item.bytes, sizeof(record));
        if (item.length != sizeof(record) || replica_record_check(&record) != NULL) {
            layer_mark_damaged(store, volume->layer, "has a mirror's record that makes no sense");
            return true;
        }
    }
    if (!found)
        return true;
    uint64_t id = layer_get(volume->layer, LAYER_MARKS);
    struct layer *marks = id < LAYERS_MAX ? store->layer_by_id[id] : NULL;
    if (marks == NULL || (layer_get(marks, LAYER_STATE) & LAYER_HOLDS_MARKS) == 0) {
        layer_mark_damaged(store, volume->layer, "has lost its marks");
        return true;
    }
    volume->replica = replica_new(volume, &record, marks);
    return volume->replica != NULL;
}

void replica_close(struct volume *volume) {
    struct replica *replica = volume->replica;
    if (replica == NULL)
        return;
    volume->replica = NULL;
    block_replica_leave(volume->store->graph, &replica->here);
    free(replica->marked);
    free(replica);
}

/* ---- who may ---- */

enum io_status replica_admits(const struct replica *replica, const struct block_request *request) {
    uint64_t association = block_request_association(request);
    if (likely(association == replica->holder))
        return IO_OK;
    if (REPLICA_CANARY == REPLICA_CANARY_FENCE_BY_NUMBER && replica->holder != 0)
        return IO_OK;
    for (unsigned i = 0; i < REPLICA_FORMER_MAX; i++)
        if (replica->former[i] == association)
            return IO_FENCED;
    return IO_NOT_READY;
}

/* ---- the order of PUTs ---- */

static void put_run(struct volume_op *op);

static void puts_run(struct reactor_job *job) {
    struct volume *volume = container_of(job, struct volume, put_job);
    volume->put_queued = false;
    if (volume->put != NULL || list_empty(&volume->puts))
        return;
    volume->put = list_entry(list_pop_front(&volume->puts), struct replica_document, node)->op;
    volume->put_count--;
    put_run(volume->put);
}

static void puts_go_on(struct volume *volume) {
    if (volume->put != NULL || volume->put_queued || list_empty(&volume->puts))
        return;
    volume->put_queued = true;
    volume->put_job.run = puts_run;
    reactor_defer(volume->store->home, &volume->put_job);
}

void replica_put_done(struct volume_op *op) {
    struct volume *volume = op->volume;
    free(op->put);
    if (volume->put == op)
        volume->put = NULL;
    puts_go_on(volume);
}

static void put_committed(struct waiter *waiter, enum io_status status) {
    struct volume_op *op = container_of(waiter, struct volume_op, waiter);
    switch (status == IO_OK ? replica_verb(op->request->argument) : 0) {
    case REPLICA_STORE: VOLUME_AT(op->volume, STORE_DURABLE); break;
    case REPLICA_MARK: VOLUME_AT(op->volume, MARK_DURABLE); break;
    case REPLICA_CLEAR: VOLUME_AT(op->volume, CLEAR_DURABLE); break;
    case REPLICA_TREE: VOLUME_AT(op->volume, TREE_DURABLE); break;
    default: break;
    }
    op_end(op, status);
}

void replica_put_commit(struct volume_op *op) {
    op->waiter.wake = put_committed;
    commit_hasten(op->volume->store);
    commit_join(op->volume->store, &op->waiter);
}

/* The same for words that were set ahead of the batch. */
static void put_commit_ahead(struct volume_op *op) {
    op->waiter.wake = put_committed;
    commit_join_ahead(op->volume->store, &op->waiter);
}

/* True for the association with the claim; else the PUT is ended. */
static bool is_holder(struct volume_op *op) {
    const struct replica *replica = op->volume->replica;
    enum io_status status = replica == NULL ? IO_UNSUPPORTED : replica_admits(replica, op->request);
    if (status != IO_OK)
        op_end(op, status);
    return status == IO_OK;
}

/* Waits for the requests that were let in before this PUT stood in their way; false: it is woken when they have ended. */
static bool alone(struct volume_op *op) {
    struct volume *volume = op->volume;
    if (volume->under_way[volume->generation ^ 1] == 0)
        return true;
    list_push_back(&volume->idle_waiters, &op->waiter.node);
    return false;
}

/* What comes from now on counts apart. The other count is 0: whoever turned last has waited for that. */
static void turn(struct volume *volume) {
    if (volume->under_way[volume->generation] > 0)
        volume->generation ^= 1;
}

/* Replaces the record in the layer's identity; there is room for it, since its length never changes. */
static void record_put(struct volume_store *store, struct layer *layer, const struct replica_record *record) {
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size, at = 0;
    memcpy(identity, record_identity(layer->record, &size), IDENTITY_BYTES);
    for (struct identity_item item; identity_next(identity, size, &at, &item);)
        if (item.type == IDENTITY_MIRROR)
            memcpy(identity + (item.bytes - identity), record, sizeof(*record));
    bool fits = record_set_identity(store, layer->record, identity, size);
    assert(fits);
}

/* ---- claim ---- */

static bool outranked(const struct replica_record *record, const struct replica_claim *claim) {
    if (claim->term != record->promised_term)
        return claim->term < record->promised_term;
    if (!uuid_equal(&claim->engine, &record->promised_engine))
        return true;
    return claim->attempt <= record->promised_attempt;
}

/* From here on nobody is let in until the promise is durable. */
static void fence(struct replica *replica, const struct replica_claim *claim) {
    if (replica->holder != 0 && !uuid_equal(&claim->engine, &replica->record.promised_engine))
        replica->former[replica->former_next++ % REPLICA_FORMER_MAX] = replica->holder;
    replica->holder = 0;
    replica->elsewhere = false; /* until its engine says who are members */
    turn(replica->volume);
}

/* A volume becomes a leg: a record in its identity, and a layer for its marks. WAIT: again. */
static enum got adopt(struct volume_op *op, const struct replica_claim *claim, enum io_status *ret_status) {
    struct volume *volume = op->volume;
    struct volume_store *store = volume->store;
    struct page *page;
    uint32_t size;
    uint8_t identity[IDENTITY_BYTES];
    if (external_below(volume->layer) != NULL) { /* of what that holds no copy would be made for another leg */
        *ret_status = IO_UNSUPPORTED;
        return FAILED;
    }
    enum got got = commit_room(store, TREE_CHANGE_WORDS, &op->waiter);
    if (got == GOT)
        got = layer_record_new(store, &op->waiter, &page, ret_status);
    if (got != GOT)
        return got;
    struct replica_record record = {.magic = REPLICA_RECORD_MAGIC,
                                    .version = REPLICA_RECORD_VERSION,
                                    .mirror = claim->mirror,
                                    .leg = claim->leg,
                                    .state = REPLICA_SYNCING,
                                    .policy = REPLICA_ANY};
    memcpy(identity, record_identity(volume->layer->record, &size), IDENTITY_BYTES);
    if (!identity_append(identity, &size, IDENTITY_MIRROR, &record, sizeof(record))) {
        *ret_status = IO_NO_SPACE; /* attributes leave no room for it */
        return FAILED;
    }
    struct layer *marks = layer_attach(store, page->index, page);
    volume->replica = marks == NULL ? NULL : replica_new(volume, &record, marks);
    if (volume->replica == NULL) {
        if (marks != NULL)
            layer_detach(store, marks);
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    layer_set(store, marks, LAYER_STATE, LAYER_LIVE | LAYER_HOLDS_MARKS);
    layer_set(store, marks, LAYER_CREATED, host_wall_ns(store->home->host));
    layer_set(store, marks, LAYER_SIZE, MARKS_BLOCKS);
    layer_set(store, marks, LAYER_TAIL, MARKS_BLOCKS);
    layer_set(store, volume->layer, LAYER_MARKS, marks->id);
    record_set_identity(store, volume->layer->record, identity, size);
    trail_begin(store);
    return GOT;
}

static void claim_durable(struct waiter *waiter, enum io_status status) {
    struct volume_op *op = container_of(waiter, struct volume_op, waiter);
    if (status == IO_OK) {
        op->volume->replica->holder = block_request_association(op->request);
        VOLUME_AT(op->volume, CLAIM_DURABLE);
    }
    op_end(op, status);
}

static void claim_run(struct volume_op *op) {
    struct volume *volume = op->volume;
    struct volume_store *store = volume->store;
    const struct replica_claim *claim = (const void *)op->put->document;
    enum io_status status = IO_OK;
    if (op->put->length != sizeof(*claim) || uuid_is_nil(&claim->mirror) || uuid_is_nil(&claim->engine)) {
        op_end(op, IO_INVALID);
        return;
    }
    if (volume->replica == NULL) {
        if (uuid_is_nil(&claim->leg) || volume->read_only || volume->state != VOLUME_IDLE) {
            op_end(op, uuid_is_nil(&claim->leg) ? IO_UNSUPPORTED : IO_READ_ONLY);
            return;
        }
        enum got got = adopt(op, claim, &status);
        if (got == FAILED)
            op_end(op, status);
        if (got != GOT)
            return;
    }
    struct replica *replica = volume->replica;
    if (!op->put->fenced) {
        bool other = !uuid_equal(&claim->mirror, &replica->record.mirror) ||
                     (!uuid_is_nil(&claim->leg) && !uuid_equal(&claim->leg, &replica->record.leg));
        if (other || outranked(&replica->record, claim)) {
            op_end(op, other ? IO_INVALID : IO_FENCED);
            return;
        }
        fence(replica, claim);
        op->put->fenced = true;
    }
    if (!alone(op))
        return;
    store->commit.urge = COMMIT_AHEAD_OF_ALL;
    enum got room = commit_room(store, sizeof(struct replica_record) / 8 + 8, &op->waiter);
    store->commit.urge = COMMIT_IN_TURN;
    if (room != GOT)
        return;
    VOLUME_AT(volume, CLAIM);
    replica->record.promised_term = claim->term;
    replica->record.promised_engine = claim->engine;
    replica->record.promised_attempt = claim->attempt;
    store->commit.urge = COMMIT_AHEAD_OF_ALL;
    record_put(store, volume->layer, &replica->record);
    store->commit.urge = COMMIT_IN_TURN;
    op->waiter.wake = claim_durable;
    commit_join_ahead(store, &op->waiter);
}

static void release_run(struct volume_op *op) {
    if (!is_holder(op))
        return;
    op->volume->replica->holder = 0;
    op_end(op, IO_OK);
}

void replica_doubt(const struct volume *volume) {
    if (volume->replica == NULL || volume->replica->unproven)
        return;
    volume->replica->unproven = true;
    trail_look(volume->store);
}

/* ---- records and marks ---- */

/* What an engine may not change, or not backwards. */
static bool may_store(const struct replica_record *old, const struct replica_record *record) {
    return replica_record_check(record) == NULL && uuid_equal(&old->mirror, &record->mirror) &&
           uuid_equal(&old->leg, &record->leg) && old->promised_term == record->promised_term &&
           uuid_equal(&old->promised_engine, &record->promised_engine) && record->epoch.depth >= old->epoch.depth &&
           (record->epoch.depth > old->epoch.depth || uuid_equal(&old->epoch.id, &record->epoch.id) || old->epoch.depth == 0);
}

static bool ranges_inside(const struct volume *volume, const struct replica_ranges *ranges) {
    uint64_t count = divide_up(layer_size(volume->layer) << BLOCK_SHIFT, REPLICA_REGION_BYTES);
    for (uint32_t i = 0; i < ranges->count; i++)
        if (!range_inside(ranges->ranges[i].first, ranges->ranges[i].count, count))
            return false;
    return true;
}

/* Members were claimed before they are told as such: those that this process has are known by now. One that comes here later is
 * no member before the next record tells of it. */
static bool others_are_elsewhere(const struct replica *replica) {
    for (unsigned i = 0; i < replica->record.leg_count; i++) {
        const struct replica_leg *leg = &replica->record.legs[i];
        if ((leg->flags & REPLICA_LEG_MEMBER) != 0 && !block_replica_is_here(replica->volume->store->graph, &leg->id))
            return true;
    }
    return false;
}

/* Marks all of them; a part may be in an earlier record than the rest, which only marks too much. WAIT: again. */
static enum got mark_ranges(struct volume_op *op, const struct replica_ranges *ranges, uint32_t depth,
                            enum io_status *ret_status) {
    struct replica *replica = op->volume->replica;
    enum got got = GOT;
    for (uint32_t i = 0; i < ranges->count && got == GOT; i++) {
        got = replica_marks_set(replica, ranges->ranges[i].first, ranges->ranges[i].count, depth, &op->waiter, ret_status);
        if (got == GOT && depth == 0 && ranges->ranges[i].first < replica->region_count)
            bitmap_clear_range(replica->marked, ranges->ranges[i].first,
                               min_u64(ranges->ranges[i].count, replica->region_count - ranges->ranges[i].first));
    }
    return got;
}

static void store_run(struct volume_op *op) {
    struct volume *volume = op->volume;
    const struct replica_store *document = (const void *)op->put->document;
    if (!is_holder(op))
        return;
    struct replica *replica = volume->replica;
    bool whole = op->put->length >= sizeof(*document) &&
                 replica_ranges_check(&document->marks, op->put->length - sizeof(document->record)) == NULL;
    if (!whole || !may_store(&replica->record, &document->record) || document->marks.flags != 0 ||
        !ranges_inside(volume, &document->marks)) {
        op_end(op, IO_INVALID);
        return;
    }
    if (replica->unproven && early_any(volume, op->early_until, &op->waiter))
        return; /* what was in doubt is proven when it was written anew: before this came */
    enum io_status status = IO_OK;
    enum got got = GOT;
    volume->store->commit.urge = COMMIT_AHEAD_OF_ALL;
    if (REPLICA_CANARY == REPLICA_CANARY_MARKS_RESET && document->record.epoch.depth != replica->record.epoch.depth)
        got = replica_marks_set(replica, 0, divide_up(layer_size(volume->layer) << BLOCK_SHIFT, REPLICA_REGION_BYTES), 0,
                                &op->waiter, &status);
    if (got == GOT)
        got = mark_ranges(op, &document->marks, (uint32_t)document->record.epoch.depth, &status);
    if (got == GOT)
        got = commit_room(volume->store, sizeof(struct replica_record) / 8 + 8, &op->waiter);
    volume->store->commit.urge = COMMIT_IN_TURN;
    if (got == FAILED)
        op_end(op, status);
    if (got != GOT)
        return;
    VOLUME_AT(volume, STORE);
    uint64_t attempt = replica->record.promised_attempt;
    if (document->record.epoch.depth != replica->record.epoch.depth && replica->marked != NULL)
        memset(replica->marked, 0, bitmap_words(replica->region_count) * sizeof(uint64_t));
    replica->record = document->record;
    replica->record.promised_attempt = attempt;
    replica->elsewhere = others_are_elsewhere(replica);
    if (replica->unproven &&
        (replica->record.state == REPLICA_WITNESS || (replica->record.state == REPLICA_WHOLE && replica->record.settled != 0))) {
        replica->unproven = false; /* what was in doubt was written anew, under this opening */
        trail_look(volume->store);
    }
    volume->store->commit.urge = COMMIT_AHEAD_OF_ALL;
    record_put(volume->store, volume->layer, &replica->record);
    volume->store->commit.urge = COMMIT_IN_TURN;
    put_commit_ahead(op);
}

static void marks_run(struct volume_op *op) {
    struct volume *volume = op->volume;
    const struct replica_ranges *ranges = (const void *)op->put->document;
    bool clear = replica_verb(op->request->argument) == REPLICA_CLEAR;
    if (!is_holder(op))
        return;
    struct replica *replica = volume->replica;
    if (replica_ranges_check(ranges, op->put->length) != NULL || !ranges_inside(volume, ranges)) {
        op_end(op, IO_INVALID);
        return;
    }
    uint32_t depth = clear ? 0 : (uint32_t)replica->record.epoch.depth;
    bool all = (ranges->flags & REPLICA_ALL_REGIONS) != 0;
    enum io_status status = IO_OK;
    volume->store->commit.urge = all ? COMMIT_IN_TURN : COMMIT_AHEAD;
    enum got got = mark_ranges(op, ranges, depth, &status);
    volume->store->commit.urge = COMMIT_IN_TURN;
    if (got == GOT)
        got = commit_room(volume->store, 1, &op->waiter);
    if (got == FAILED)
        op_end(op, status);
    if (got != GOT)
        return;
    if (clear)
        VOLUME_AT(volume, CLEAR);
    else
        VOLUME_AT(volume, MARK);
    if (!all) {
        put_commit_ahead(op);
        return;
    }
    layer_set(volume->store, replica->marks, LAYER_TREE, depth); /* the floor under all of them */
    replica_put_commit(op);
}

static void forget_run(struct volume_op *op) {
    struct volume *volume = op->volume;
    if (!is_holder(op))
        return;
    struct replica *replica = volume->replica;
    if (op->put->length != sizeof(struct uuid) || memcmp(op->put->document, &replica->record.mirror, sizeof(struct uuid)) != 0) {
        op_end(op, IO_INVALID);
        return;
    }
    if (!op->put->fenced) {
        op->put->fenced = true;
        turn(volume);
    }
    if (!alone(op))
        return;
    if (early_any(volume, UINT64_MAX, &op->waiter))
        return;
    if (volume->under_way[volume->generation] > 0) { /* the engine writes on to what it gives up */
        op_end(op, IO_INVALID);
        return;
    }
    if (commit_room(volume->store, TREE_CHANGE_WORDS, &op->waiter) != GOT)
        return;
    replica_forget(volume);
    replica_put_commit(op);
    replica_drop_kept(volume); /* nobody makes it whole any more */
}

static void (*const put_runs[])(struct volume_op *op) = {
    [REPLICA_CLAIM] = claim_run, [REPLICA_RELEASE] = release_run,   [REPLICA_STORE] = store_run,   [REPLICA_MARK] = marks_run,
    [REPLICA_CLEAR] = marks_run, [REPLICA_TREE] = replica_tree_run, [REPLICA_FORGET] = forget_run,
};

static void put_run(struct volume_op *op) {
    struct volume *volume = op->volume;
    op->resume = put_run;
    if (volume->layer == NULL || volume->layer->damaged)
        op_end(op, volume->layer == NULL ? IO_DEVICE_GONE : IO_DAMAGED);
    else if (store_frozen(volume->store))
        op_end(op, volume->store->failed ? IO_MEDIUM_WRITE : IO_READ_ONLY);
    else
        put_runs[replica_verb(op->request->argument)](op);
}

void replica_put_start(struct volume_op *op) {
    struct volume *volume = op->volume;
    const struct block_request *request = op->request;
    unsigned verb = replica_verb(request->argument);
    if (verb >= array_count(put_runs) || put_runs[verb] == NULL) {
        op_end(op, IO_UNSUPPORTED);
        return;
    }
    if (request->length > REPLICA_DOCUMENT_MAX || request->offset != 0) {
        op_end(op, IO_INVALID);
        return;
    }
    struct replica_document *put =
        volume->put_count >= REPLICA_PUTS_MAX ? NULL : calloc(1, sizeof(*put) + (size_t)request->length);
    if (put == NULL) {
        op_end(op, IO_NO_MEMORY);
        return;
    }
    put->op = op;
    put->length = (uint32_t)request->length;
    slice_copy_out(request->slices, request->slice_count, 0, put->document, put->length);
    op->put = put;
    list_push_back(&volume->puts, &put->node);
    volume->put_count++;
    puts_go_on(volume);
}

/* ---- with the volume ---- */

bool replica_refuses_command(struct volume_command *command, const struct volume *volume) {
    if (volume->replica == NULL || command->tree != NULL)
        return false;
    char text[UUID_TEXT_SIZE];
    uuid_format(&volume->replica->record.mirror, text);
    error_set(&command->error, ERROR_PERMISSION, "%s is a leg of mirror %s: change the mirror", volume->name, text);
    command_fail(volume->store, command);
    return true;
}

void replica_follow(struct volume_store *store, struct layer *from, struct layer *to) {
    layer_set(store, to, LAYER_TREE, layer_get(from, LAYER_TREE));
    layer_set(store, to, LAYER_CHANGE, layer_get(from, LAYER_CHANGE));
    if (layer_get(from, LAYER_MARKS) == 0)
        return;
    layer_set(store, to, LAYER_MARKS, layer_get(from, LAYER_MARKS));
    layer_set(store, from, LAYER_MARKS, 0);
}

void replica_forget(struct volume *volume) {
    struct volume_store *store = volume->store;
    if (volume->replica == NULL)
        return;
    struct layer *layer = volume->layer, *marks = volume->replica->marks;
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size = 0, old_size, at = 0;
    const uint8_t *old = record_identity(layer->record, &old_size);
    for (struct identity_item item; identity_next(old, old_size, &at, &item);)
        if (item.type != IDENTITY_MIRROR)
            identity_append(identity, &size, item.type, item.bytes, item.length);
    record_set_identity(store, layer->record, identity, size);
    layer_set(store, layer, LAYER_MARKS, 0);
    layer_set(store, layer, LAYER_TREE, 0);
    layer_set(store, layer, LAYER_CHANGE, 0);
    layer_set_state(store, marks, LAYER_DELETING);
    background_start(store, marks);
    replica_close(volume);
    trail_look(store);
}
