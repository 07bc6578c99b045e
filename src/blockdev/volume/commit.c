/* The journal's writing side: one commit at a time takes the open batch through data flush, record and record flush (rules 1, 3,
 * 5, 10). Reading it: replay.c. Making room in it: checkpoint.c. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

#define WORDS_SLACK 512u /* room for changes of a few words that nobody asked for */

static void commit_step(struct volume_store *store);

static void job_run(struct reactor_job *job) {
    struct volume_store *store = container_of(job, struct volume_store, commit.job);
    store->commit.scheduled = false;
    commit_step(store);
}

/* Behind what is ready now, so that what completes together is one commit. */
static void schedule(struct volume_store *store) {
    struct commit *commit = &store->commit;
    if (commit->scheduled || commit->state != COMMIT_IDLE)
        return;
    commit->scheduled = true;
    commit->job.run = job_run;
    reactor_defer(store->home, &commit->job);
}

static void hold_run(struct reactor_timer *timer) { schedule(container_of(timer, struct volume_store, commit.hold)); }

static void timer_run(struct reactor_timer *timer) { commit_hasten(container_of(timer, struct volume_store, commit.timer)); }

void commit_init(struct volume_store *store) {
    struct commit *commit = &store->commit;
    commit->timer.run = timer_run;
    commit->hold.run = hold_run;
    list_init(&commit->batch);
    list_init(&commit->urgent);
    list_init(&commit->urgent_waiters);
    list_init(&commit->waiters);
    list_init(&commit->running_waiters);
    list_init(&commit->room_waiters);
}

void commit_kick(struct volume_store *store) {
    struct commit *commit = &store->commit;
    if (commit->wanted || !list_empty(&commit->waiters) || !list_empty(&commit->urgent_waiters))
        schedule(store);
}

void commit_hasten(struct volume_store *store) {
    store->commit.wanted = store->commit.hasty = true;
    schedule(store);
}

void commit_announce(struct volume_store *store) {
    store->commit.announcing = true;
    commit_hasten(store);
}

void commit_join(struct volume_store *store, struct waiter *waiter) {
    struct commit *commit = &store->commit;
    if (VOLUME_CANARY == VOLUME_CANARY_FLUSH_JOINS_LATE && commit->state != COMMIT_IDLE)
        list_push_back(&commit->running_waiters, &waiter->node);
    else
        list_push_back(&commit->waiters, &waiter->node);
    commit->joined++;
    commit->wanted = true;
    schedule(store);
}

void commit_join_ahead(struct volume_store *store, struct waiter *waiter) {
    list_push_back(&store->commit.urgent_waiters, &waiter->node);
    schedule(store);
}

/* Those whom the last commit answered write again and come back within half a flush: a commit for the first of them
 * alone would make the others wait for a second one. */
static bool hold_back(struct volume_store *store) {
    struct commit *commit = &store->commit;
    uint64_t until = commit->ended_ns + commit->took_ns / 2;
    if (commit->hasty || commit->joined * 4 >= commit->expected * 3 || reactor_now_ns(store->home) >= until)
        return false;
    reactor_timer_start(store->home, &commit->hold, until);
    return true;
}

void commit_changed(struct volume_store *store) {
    struct commit *commit = &store->commit;
    if (!reactor_timer_armed(&commit->timer))
        reactor_timer_start(store->home, &commit->timer, reactor_now_ns(store->home) + COMMIT_DELAY_NS);
    if (unlikely(commit->batch_words >= commit->words_max / 4) && !commit->wanted)
        commit_hasten(store);
}

/* From here on nothing new is let into the batch until a checkpoint has made room: the rest of the ring is for what is under way.
 */
static bool ring_tight(const struct commit *commit) { return commit->used > commit->ring_blocks / 8 * 5; }

enum got commit_room(struct volume_store *store, uint32_t words, struct waiter *waiter) {
    struct commit *commit = &store->commit;
    uint32_t taken = commit->batch_words + commit->reserved_words;
    bool tight = ring_tight(commit) && commit->urge != COMMIT_AHEAD_OF_ALL;
    if (likely(taken + words + WORDS_SLACK <= commit->words_max && !tight) || store_frozen(store))
        return GOT;
    list_push_back(&commit->room_waiters, &waiter->node);
    if (tight)
        checkpoint_start(store);
    else
        commit_hasten(store);
    return WAIT;
}

void commit_unreserve(struct volume_store *store, uint32_t words) {
    assert(store->commit.reserved_words >= words);
    store->commit.reserved_words -= words;
    if (unlikely(store->commit.reserved_words == 0 && store->checkpoint.state != CHECKPOINT_IDLE))
        commit_kick(store);
}

/* ---- composing a record ---- */

static uint64_t journaled(const struct page *page, unsigned word) {
    uint64_t value = page->words[word];
    if (SPACE_KIND(page->space) == PAGE_ALLOC_INDEX || word_is_reference(page->space, page->index, word))
        value &= REFERENCE_JOURNALED;
    return value;
}

static bool left_out(const struct volume_store *store, const struct page *page) {
    if (VOLUME_CANARY != VOLUME_CANARY_SNAPSHOT_WITHOUT_PENDING || SPACE_KIND(page->space) != PAGE_MAP)
        return false;
    const struct layer *layer = store->layer_by_id[SPACE_OWNER(page->space)];
    return layer != NULL && layer->frozen;
}

static struct record_change *first_change(struct commit *commit) {
    return (struct record_change *)(void *)(commit->record + sizeof(struct record_header));
}

static uint32_t blocks_of(uint32_t words) {
    return (uint32_t)divide_up(sizeof(struct record_header) + words * sizeof(struct record_change), BLOCK_BYTES);
}

/* Its changes are there: header and checksum. */
static void seal(struct volume_store *store, uint32_t count) {
    struct commit *commit = &store->commit;
    size_t bytes = sizeof(struct record_header) + count * sizeof(struct record_change);
    commit->record_blocks = blocks_of(count);
    memset(commit->record + bytes, 0, (size_t)commit->record_blocks * BLOCK_BYTES - bytes);
    struct record_header header = {.magic = RECORD_MAGIC,
                                   .blocks = commit->record_blocks,
                                   .change_count = count,
                                   .sequence = commit->closed_sequence,
                                   .opening_id = commit->opening_id,
                                   .store_id = store->store_id,
                                   .previous_crc = commit->durable_crc,
                                   .durable_sequence = commit->durable_sequence};
    memcpy(commit->record, &header, sizeof(header));
    commit->record_crc = format_crc(commit->record, (size_t)commit->record_blocks * BLOCK_BYTES, RECORD_CRC_FIELD);
    put_le32(commit->record + RECORD_CRC_FIELD, commit->record_crc);
    commit->used += commit->record_blocks;
}

static void forget_urgent(struct commit *commit) {
    for (struct list_node *node; (node = list_pop_front(&commit->urgent)) != NULL;)
        list_entry(node, struct page, urgent_node)->in_urgent = false;
}

static void compose(struct volume_store *store) {
    struct commit *commit = &store->commit;
    struct record_change *change = first_change(commit);
    uint32_t count = 0;
    commit->closed_sequence++;
    commit->closed_batches++;
    commit->announcing = false;
    for (struct list_node *node; (node = list_pop_front(&commit->batch)) != NULL;) {
        struct page *page = list_entry(node, struct page, batch_node);
        bool skip = left_out(store, page);
        for (unsigned i = 0; i < 8; i++)
            for (uint64_t bits = page->changed[i]; bits != 0 && !skip; bits &= bits - 1) {
                unsigned word = i * 64 + (unsigned)__builtin_ctzll(bits);
                assert(count < commit->words_max);
                change[count++] = (struct record_change){page->space, page->index * PAGE_WORDS + word, journaled(page, word)};
            }
        page->in_batch = false;
        page->last_sequence = commit->closed_sequence;
        if (page->image_wanted != NULL)
            checkpoint_take_image(store, page);
    }
    commit->batch_words = 0;
    seal(store, count);
}

/* ---- ahead of the batch ---- */

/* True if a node that the page is in, or its holder is in, was made in the open batch: replay must hear of it first. */
static bool is_new(struct volume_store *store, const struct page *page) {
    uint32_t space = page->space, index = page->index;
    while (SPACE_KIND(space) == PAGE_MAP || SPACE_KIND(space) == PAGE_DIR) {
        unsigned word, sub;
        page_holder(space, index, &space, &index, &word, &sub);
        const struct page *holder = page_find(store, space, index);
        if (holder != NULL && holder->in_batch && (holder->changed[word >> 6] >> (word & 63) & 1) != 0)
            return true;
    }
    return false;
}

/* What belongs together must not be torn apart: of a layer's record only what writes of data change may stay behind. */
static bool tears(const struct page *page) {
    bool torn = false;
    for (unsigned word = 0; SPACE_KIND(page->space) == PAGE_TABLE && word < PAGE_WORDS; word++) {
        bool stays = ((page->changed[word >> 6] & ~page->urgent[word >> 6]) >> (word & 63) & 1) != 0;
        torn =
            torn || (stays && word != LAYER_USED && word != LAYER_NODES && (word < LAYER_ROOTS || word >= LAYER_IDENTITY_WORDS));
    }
    return torn;
}

/* How many words can go ahead; UINT32_MAX if they cannot now. */
static uint32_t count_urgent(struct volume_store *store) {
    uint32_t count = 0;
    list_for_each (&store->commit.urgent, const struct page, page, urgent_node) {
        if (is_new(store, page) || tears(page))
            return UINT32_MAX;
        for (unsigned i = 0; i < 8; i++)
            count += (uint32_t)__builtin_popcountll(page->urgent[i] & page->changed[i]);
    }
    return count;
}

static void compose_urgent(struct volume_store *store) {
    struct commit *commit = &store->commit;
    struct record_change *change = first_change(commit);
    uint32_t count = 0;
    commit->closed_sequence++;
    for (struct list_node *node; (node = list_pop_front(&commit->urgent)) != NULL;) {
        struct page *page = list_entry(node, struct page, urgent_node);
        uint64_t rest = 0;
        page->in_urgent = false;
        for (unsigned i = 0; i < 8; i++) {
            for (uint64_t bits = page->urgent[i] & page->changed[i]; bits != 0; bits &= bits - 1) {
                unsigned word = i * 64 + (unsigned)__builtin_ctzll(bits);
                change[count++] = (struct record_change){page->space, page->index * PAGE_WORDS + word, journaled(page, word)};
            }
            page->changed[i] &= ~page->urgent[i];
            rest |= page->changed[i];
        }
        page->last_sequence = commit->closed_sequence;
        if (rest != 0)
            continue;
        list_remove(&page->batch_node);
        page->in_batch = false;
        if (page->image_wanted != NULL)
            checkpoint_take_image(store, page);
    }
    commit->batch_words -= count;
    seal(store, count);
}

/* ---- the steps of one commit ---- */

static void commit_end(struct volume_store *store) {
    struct commit *commit = &store->commit;
    commit->state = COMMIT_IDLE;
    if (!commit->ahead) {
        commit->durable_batches = commit->closed_batches;
        commit->ended_ns = reactor_now_ns(store->home);
        commit->took_ns = commit->ended_ns - commit->closed_ns;
        commit->expected = commit->answered + commit->joined;
    }
    commit->ahead_before = commit->ahead;
    commit->ahead = false;
    store->commits++;
    if (commit->record_blocks > 0) {
        commit->durable_sequence = commit->closed_sequence;
        commit->durable_crc = commit->record_crc;
        commit->head = (commit->head + commit->record_blocks) % commit->ring_blocks;
        store->records++;
    }
    freed_durable(store);
    waiters_wake(&commit->running_waiters, store->failed ? IO_MEDIUM_WRITE : IO_OK);
    waiters_wake(&commit->room_waiters, IO_OK);
    checkpoint_consider(store);
    checkpoint_kick(store);
    commit_kick(store);
}

static bool step_failed(struct volume_store *store, enum io_status status, const char *what) {
    if (status == IO_OK || VOLUME_CANARY == VOLUME_CANARY_FLUSH_RETRIED)
        return false;
    store_fail(store, "%s failed: %s; open the store anew to recover", what, io_status_words(status));
    store->commit.state = COMMIT_IDLE;
    store->commit.ahead = false;
    waiters_wake(&store->commit.running_waiters, IO_MEDIUM_WRITE);
    commit_kick(store);
    checkpoint_kick(store);
    return true;
}

static void record_flushed(struct store_io *io) {
    struct volume_store *store = io->store;
    store->flushing--;
    if (!step_failed(store, (enum io_status)io->request.status, "flush of the journal"))
        commit_end(store);
}

static void record_written(struct store_io *io) {
    struct volume_store *store = io->store;
    struct commit *commit = &store->commit;
    if (commit->state != COMMIT_RECORD) { /* the other part failed */
        commit->record_parts--;
        return;
    }
    if (step_failed(store, (enum io_status)io->request.status, "write of the journal")) {
        commit->record_parts--;
        return;
    }
    if (--commit->record_parts > 0)
        return;
    if (commit->ahead && store->base_handle.device->native_fua) {
        commit_end(store);
        return;
    }
    commit->state = COMMIT_RECORD_FLUSH;
    io_use(&commit->ios[0], store, record_flushed, NULL);
    io_flush(&commit->ios[0]);
}

static void write_record(struct volume_store *store) {
    struct commit *commit = &store->commit;
    commit->state = COMMIT_RECORD;
    uint64_t ring = (uint64_t)store->super.journal_cluster << CLUSTER_SHIFT;
    uint32_t first = min_u32(commit->record_blocks, commit->ring_blocks - commit->head);
    uint32_t rest = commit->record_blocks - first;
    commit->record_parts = rest > 0 ? 2 : 1;
    io_use(&commit->ios[0], store, record_written, NULL);
    io_use(&commit->ios[1], store, record_written, NULL);
    if (commit->ahead && store->base_handle.device->native_fua)
        commit->ios[0].request.flags = commit->ios[1].request.flags = BLOCK_FUA;
    io_buffer(&commit->ios[0], BLOCK_WRITE, ring + (uint64_t)commit->head * BLOCK_BYTES, commit->record,
              (size_t)first * BLOCK_BYTES);
    if (rest > 0)
        io_buffer(&commit->ios[1], BLOCK_WRITE, ring, commit->record + (size_t)first * BLOCK_BYTES, (size_t)rest * BLOCK_BYTES);
}

static void data_flushed(struct store_io *io) {
    struct volume_store *store = io->store;
    store->flushing--;
    if (step_failed(store, (enum io_status)io->request.status, "flush"))
        return;
    if (store->commit.record_blocks > 0)
        write_record(store);
    else
        commit_end(store);
}

/* True if the open batch may go to the ring now. The last record's room is kept for the close that a checkpoint needs: with
 * nothing under way and nothing let in, that one empties the batch for good. */
static bool ring_has_room(struct volume_store *store) {
    struct commit *commit = &store->commit;
    uint32_t needed = blocks_of(commit->batch_words);
    uint32_t there = commit->ring_blocks - commit->used;
    if (there >= needed + commit->record_blocks_max)
        return true;
    checkpoint_start(store);
    return ring_tight(commit) && commit->reserved_words == 0 && there > needed;
}

/* Writes the words that may go ahead, if there are some: they wait for no data, nor for a layer that drains. False: they cannot,
 * or it is the batch's turn. */
static bool step_ahead(struct volume_store *store) {
    struct commit *commit = &store->commit;
    if (list_empty(&commit->urgent_waiters) || (commit->ahead_before && commit->wanted && store->draining == 0))
        return false;
    uint32_t count = count_urgent(store), there = commit->ring_blocks - commit->used;
    if (count == 0) { /* they went with a batch, which is durable */
        forget_urgent(commit);
        waiters_wake(&commit->urgent_waiters, IO_OK);
        return false;
    }
    if (count > commit->words_max || there < blocks_of(count) + commit->record_blocks_max) {
        commit->wanted = commit->hasty = true;
        return false;
    }
    list_splice_back(&commit->running_waiters, &commit->urgent_waiters);
    commit->ahead = true;
    compose_urgent(store);
    write_record(store);
    return true;
}

static void commit_step(struct volume_store *store) {
    struct commit *commit = &store->commit;
    if (commit->state != COMMIT_IDLE)
        return;
    if (store_frozen(store)) {
        commit->wanted = commit->hasty = false;
        reactor_timer_stop(store->home, &commit->timer);
        reactor_timer_stop(store->home, &commit->hold);
        list_splice_back(&commit->waiters, &commit->urgent_waiters);
        waiters_wake(&commit->waiters, store->failed ? IO_MEDIUM_WRITE : IO_READ_ONLY);
        return;
    }
    if (step_ahead(store) || !commit->wanted)
        return;
    if (store->draining > 0 && VOLUME_CANARY == VOLUME_CANARY_NEW_HEAD_FLUSH_EARLY)
        waiters_wake(&commit->waiters, IO_OK);
    if (store->draining > 0 && VOLUME_CANARY != VOLUME_CANARY_SNAPSHOT_BEFORE_DATA)
        return; /* the end of the drain comes back here */
    bool empty = list_empty(&commit->batch) && !commit->announcing;
    if (empty && !store->unflushed && store->flushing == 0)
        commit->hasty = true;                                    /* nothing to wait for */
    if (hold_back(store) || (!empty && !ring_has_room(store))) { /* its timer comes back here, or the checkpoint's end */
        commit->ahead_before = false;
        (void)step_ahead(store);
        return;
    }
    reactor_timer_stop(store->home, &commit->hold);
    commit->wanted = commit->hasty = false;
    commit->answered = commit->joined;
    commit->joined = 0;
    commit->closed_ns = reactor_now_ns(store->home);
    reactor_timer_stop(store->home, &commit->timer);
    list_splice_back(&commit->running_waiters, &commit->waiters);
    list_splice_back(&commit->running_waiters, &commit->urgent_waiters);
    forget_urgent(commit);
    commit->record_blocks = 0;
    if (!empty)
        compose(store);
    freed_close(store);
    waiters_wake(&store->drain_waiters, IO_OK);
    commit->state = COMMIT_DATA_FLUSH;
    if ((store->unflushed || store->flushing > 0) && VOLUME_CANARY != VOLUME_CANARY_BIT_BEFORE_FLUSH) {
        io_use(&commit->ios[0], store, data_flushed, NULL);
        io_flush(&commit->ios[0]);
    } else if (commit->record_blocks > 0) {
        write_record(store);
    } else {
        commit_end(store);
    }
}
