/* Closing a store: devices away (control reactor), background work to a halt, a last commit and checkpoint (home), the disk given
 * back (control). And growing one. */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

#define CLOSE_POLL_NS (200 * NS_PER_US)

enum close_stage { CLOSE_QUIET, CLOSE_COMMIT, CLOSE_CHECKPOINT, CLOSE_IDLE };

static void closed(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    struct volume_store *store = command->store;
    bool ended = externals_end(store);
    assert(ended); /* what they read ended before the home reactor did */
    block_handle_close(&store->base_handle);
    store_free(store);
    command->done(command);
}

/* A merge goes on no more, but may have blocks for which a write waits that was answered and has to end. */
static void locks_let_go(struct volume_store *store) {
    list_for_each (&store->backgrounds, struct background, background, node)
        if (background->buffer == NULL && background->lock.layer != NULL && background->lock.granted)
            lock_release(&background->lock);
}

static bool quiet(const struct volume_store *store) {
    if (!list_empty(&store->makings) || !list_empty(&store->copies) || store->discarding || store->command != NULL ||
        !list_empty(&store->commands) || store->early_count > 0)
        return false;
    list_for_each (&store->backgrounds, struct background, background, node) {
        if (background->buffer != NULL)
            return false;
    }
    return true;
}

static void close_wake(struct waiter *waiter, enum io_status status) {
    struct volume_store *store = container_of(waiter, struct volume_store, close_waiter);
    (void)status;
    store->close_stage++;
    /* Not from in here: who wakes us still uses the store, and the last step gives it to another thread to be freed. */
    reactor_timer_start(store->home, &store->close_timer, reactor_now_ns(store->home));
}

static void poll_later(struct volume_store *store) {
    reactor_timer_start(store->home, &store->close_timer, reactor_now_ns(store->home) + CLOSE_POLL_NS);
}

static void close_step(struct volume_store *store) {
    struct volume_command *command = store->closing_command;
    store->close_waiter.wake = close_wake;
    switch ((enum close_stage)store->close_stage) {
    case CLOSE_QUIET:
        locks_let_go(store);
        if (!quiet(store)) {
            poll_later(store);
            return;
        }
        store->close_stage = CLOSE_COMMIT;
        commit_join(store, &store->close_waiter);
        return;
    case CLOSE_COMMIT: return; /* close_wake() goes on */
    case CLOSE_CHECKPOINT:
        if (store->checkpoint.state != CHECKPOINT_IDLE || store->commit.state != COMMIT_IDLE) {
            poll_later(store);
            return;
        }
        if (!store_frozen(store)) {
            store->checkpoint.clean = true;
            list_push_back(&store->checkpoint.waiters, &store->close_waiter.node);
            checkpoint_start(store);
            return;
        }
        store->close_stage = CLOSE_IDLE;
        __attribute__((fallthrough));
    case CLOSE_IDLE:
        if (store->ios_out > 0 || store->commit.state != COMMIT_IDLE || store->checkpoint.state != CHECKPOINT_IDLE) {
            poll_later(store);
            return;
        }
        command->ok = !store->failed || error_set(&command->error, ERROR_IO, "%s", store->reason);
        trail_end(store, !store_frozen(store) && !trail_is_doubted(store));
        block_channel_close(store->base);
        command->message.run = closed;
        reactor_post(store->control, &command->message);
    }
}

static void close_timer_run(struct reactor_timer *timer) { close_step(container_of(timer, struct volume_store, close_timer)); }

static void close_begin(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    struct volume_store *store = command->store;
    store->closing = true;
    store->close_stage = CLOSE_QUIET;
    store->close_timer.run = close_timer_run;
    copies_kick(store);
    close_step(store);
}

void store_close_devices_gone(struct volume_store *store) {
    externals_end(store);
    store->closing_command->message.run = close_begin;
    reactor_post(store->home, &store->closing_command->message);
}

void volume_store_close(struct volume_command *command) {
    struct volume_store *store = command->store;
    error_clear(&command->error);
    command->ok = false;
    store->closing_command = command;
    devices_remove_all(store);
}

void volume_store_abandon(struct volume_store *store) { store_free(store); }

/* ---- growing ---- */

struct growing {
    struct volume_command *command;
    struct bulk bulk;
    uint32_t total, first_node;
};

static void grow_finish(struct volume_command *command);

static bool describe_node(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct growing *growing = bulk->owner;
    uint32_t blocks = CLUSTER_BLOCKS;
    *ret_offset = ((uint64_t)alloc_node_cluster(growing->first_node + i / blocks) * blocks + i % blocks) * BLOCK_BYTES;
    *ret_buffer = bulk->store->zero_block;
    *ret_length = BLOCK_BYTES;
    return true;
}

static void nodes_written(struct bulk *bulk) {
    struct growing *growing = bulk->owner;
    struct volume_store *store = bulk->store;
    struct volume_command *command = growing->command;
    store->unflushed = true;
    if (bulk->status != IO_OK) {
        error_set(&command->error, bulk->status == IO_NO_SPACE ? ERROR_NO_SPACE : ERROR_IO, "%s: %s",
                  store->base_handle.device->name, io_status_words(bulk->status));
        free(growing);
        command_fail(store, command);
        return;
    }
    command->size_bytes = (uint64_t)growing->total << CLUSTER_SHIFT;
    free(growing);
    command->run = grow_finish;
    command->run(command);
}

/* The new nodes are zero on disk: counts and total change in one turn. */
static void grow_finish(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint32_t total = (uint32_t)(command->size_bytes >> CLUSTER_SHIFT);
    if (store_frozen(store)) {
        error_set(&command->error, ERROR_IO, "%s", store->reason);
        command_fail(store, command);
        return;
    }
    if (commit_room(store, TREE_CHANGE_WORDS, &store->command_waiter) != GOT)
        return;
    uint32_t old_pages = alloc_pages(store), pages = (uint32_t)divide_up(total, ALLOC_PAGE_CLUSTERS);
    for (uint32_t page = (uint32_t)round_up(old_pages, NODE_PAGES); page < pages; page += NODE_PAGES) {
        struct page *index = page_find(store, SPACE(PAGE_ALLOC_INDEX, 0), page / PAGE_WORDS);
        page_set(store, index, page % PAGE_WORDS, index->words[page % PAGE_WORDS] | 1);
        store->used_clusters++;
    }
    page_set(store, page_find(store, SPACE(PAGE_TABLE, 0), 0), STORE_TOTAL, total);
    store->total_clusters = total;
    waiters_wake(&store->space_waiters, IO_OK);
    command_commit(store, command, NULL);
}

/* A command that arrives meanwhile has the current one run again. */
static void grow_waits(struct volume_command *command) { (void)command; }

static void grow_run(struct volume_command *command) {
    struct volume_store *store = command->store;
    uint64_t total = min_u64(block_device_size(store->base_handle.device) >> CLUSTER_SHIFT, CLUSTERS_MAX);
    uint64_t most = (uint64_t)store->super.alloc_index_pages * PAGE_WORDS * ALLOC_PAGE_CLUSTERS;
    if (store_frozen(store)) {
        error_set(&command->error, store->failed ? ERROR_IO : ERROR_READ_ONLY, "%s", store->reason);
    } else if (total > store->total_clusters && store->total_clusters == most) {
        error_set(&command->error, ERROR_NO_SPACE, "%s has grown as far as it can", store->name);
    }
    if (command->error.code != ERROR_NONE) {
        command_fail(store, command);
        return;
    }
    total = min_u64(total, most);
    if (total <= store->total_clusters) {
        command_commit(store, command, NULL);
        return;
    }
    struct growing *growing = calloc(1, sizeof(*growing));
    if (growing == NULL) {
        error_set(&command->error, ERROR_NO_MEMORY, "no memory to grow %s", store->name);
        command_fail(store, command);
        return;
    }
    growing->command = command;
    command->run = grow_waits;
    growing->total = (uint32_t)total;
    growing->first_node = (uint32_t)divide_up(store->total_clusters, ALLOC_NODE_CLUSTERS);
    uint32_t nodes = (uint32_t)divide_up(total, ALLOC_NODE_CLUSTERS) - growing->first_node;
    growing->bulk = (struct bulk){.store = store,
                                  .op = BLOCK_WRITE,
                                  .count = nodes * CLUSTER_BLOCKS,
                                  .describe = describe_node,
                                  .done = nodes_written,
                                  .owner = growing};
    bulk_start(&growing->bulk);
}

void volume_store_grow(struct volume_command *command) { command_start(command, grow_run); }
