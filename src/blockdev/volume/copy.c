/* The long parts of commands: copying what ancestors hold into a volume (inflate, decouple), and clearing what a shrink cut off.
 */
#include "blockdev/volume/internal.h"

#include <stdlib.h>

struct copy {
    struct list_node node; /* store->copies */
    struct volume_store *store;
    struct volume_command *command; /* NULL: taken up at opening, nobody waits */
    struct volume *volume;
    struct layer *layer;
    struct layer *heir_of; /* decouple: the parent to be; counts this as a child, so it is not merged away. NULL = none */
    struct waiter waiter;
    struct reactor_job job;
    bool queued, decouple, tail;
    bool over; /* finished while its job was still queued */
    struct walk walk;
    uint32_t cluster;
    struct block_lock lock;
    uint8_t *buffer;  /* while a cluster is copied */
    uint16_t copying; /* blocks */
    uint32_t into, pending;
    enum io_status status;
};

static void queue(struct copy *copy);

/* It is over: answered when `ok` and durable, or failed. */
static void finish(struct copy *copy, enum io_status status) {
    struct volume_store *store = copy->store;
    struct volume_command *command = copy->command;
    struct volume *volume = copy->volume;
    bool tail = copy->tail;
    lock_release(&copy->lock);
    copy->layer->copying = false;
    copy->layer->busy--;
    if (copy->heir_of != NULL)
        copy->heir_of->heirs--;
    list_remove(&copy->node);
    free(copy->buffer);
    copy->over = true;
    if (!copy->queued)
        free(copy);
    if (command != NULL && status == IO_OK) {
        command_subject(command, volume);
        command_commit(store, command, tail ? volume_resized : NULL);
    } else if (command != NULL) {
        enum error_code code = status == IO_NO_SPACE ? ERROR_NO_SPACE : status == IO_NO_MEMORY ? ERROR_NO_MEMORY : ERROR_IO;
        error_set(&command->error, code, "%s: %s", volume->name, io_status_words(status));
        command_fail(store, command);
    }
    volume_set_idle(store, volume);
}

/* ---- one cluster ---- */

static void written(struct store_io *io) {
    struct volume_store *store = io->store;
    struct copy *copy = io->owner;
    if (io->request.status != IO_OK) {
        copy->status = (enum io_status)io->request.status;
        if (copy->status != IO_NO_SPACE)
            cluster_quarantine(store, copy->into);
    }
    store->unflushed = true;
    io_give(io);
    if (--copy->pending > 0)
        return;
    uint64_t word;
    enum io_status status = copy->status;
    enum got got = GOT;
    struct page *page = NULL;
    if (status == IO_OK && !store_frozen(store))
        got = map_get(store, copy->layer, copy->cluster, &copy->waiter, &word, &status);
    if (got == GOT && status == IO_OK && !store_frozen(store) && map_cluster(word) == copy->into)
        got = map_page_for_write(store, copy->layer, copy->cluster, false, &copy->waiter, &page, &status);
    if (got == WAIT) { /* evicted meanwhile: copied once more, which is rare */
        list_remove(&copy->waiter.node);
    } else if (page != NULL) {
        uint16_t present = copy->copying & (uint16_t) ~(map_present(word) | map_zero(word)); /* not what was trimmed meanwhile */
        page_set(store, page, copy->cluster % PAGE_WORDS, map_word(copy->into, map_present(word) | present, map_zero(word)));
    }
    free(copy->buffer);
    copy->buffer = NULL;
    lock_release(&copy->lock);
    if (status != IO_OK)
        finish(copy, status);
    else
        queue(copy);
}

static void write_blocks(struct copy *copy) {
    copy->pending = 1;
    for (unsigned b = 0; b < CLUSTER_BLOCKS && copy->status == IO_OK;) {
        unsigned count = 0;
        while (b + count < CLUSTER_BLOCKS && (copy->copying >> (b + count) & 1) != 0)
            count++;
        if (count == 0) {
            b++;
            continue;
        }
        struct store_io *io = io_take(copy->store, written, copy);
        if (io == NULL) {
            copy->status = IO_NO_MEMORY;
            break;
        }
        copy->pending++;
        epoch_enter(io);
        io_buffer(io, BLOCK_WRITE, ((uint64_t)copy->into * CLUSTER_BLOCKS + b) * BLOCK_BYTES,
                  copy->buffer + (size_t)b * BLOCK_BYTES, (size_t)count * BLOCK_BYTES);
        b += count;
    }
    if (--copy->pending == 0)
        finish(copy, copy->status); /* only a failure sends nothing */
}

static void read_done(struct store_io *io) {
    struct copy *copy = io->owner;
    if (io->request.status != IO_OK)
        copy->status = (enum io_status)io->request.status;
    io_give(io);
    if (--copy->pending == 0)
        write_blocks(copy);
}

static void read_blocks(struct copy *copy, const struct resolved *resolved) {
    copy->pending = 1;
    copy->status = IO_OK;
    for (unsigned b = 0; b < CLUSTER_BLOCKS && copy->status == IO_OK;) {
        unsigned count = 0;
        while (b + count < CLUSTER_BLOCKS && resolved->block[b + count] != 0 &&
               resolved->block[b + count] == resolved->block[b] + count)
            count++;
        if (count == 0) {
            b++;
            continue;
        }
        struct store_io *io = io_take(copy->store, read_done, copy);
        if (io == NULL) {
            copy->status = IO_NO_MEMORY;
            break;
        }
        copy->pending++;
        epoch_enter(io);
        io_aim(io, resolved, resolved->block[b]);
        io_buffer(io, BLOCK_READ, resolved->block[b] * BLOCK_BYTES, copy->buffer + (size_t)b * BLOCK_BYTES,
                  (size_t)count * BLOCK_BYTES);
        b += count;
    }
    if (--copy->pending == 0)
        write_blocks(copy);
}

static bool ancestors_drain(const struct layer *layer) {
    for (const struct layer *up = layer->parent; up != NULL; up = up->parent)
        if (up->writes_in_flight > 0)
            return true;
    return false;
}

/* GOT: nothing to do, or done in this turn. WAIT: waits, or the cluster is being copied. */
static enum got one_cluster(struct copy *copy, enum io_status *ret_status) {
    struct volume_store *store = copy->store;
    struct layer *layer = copy->layer;
    uint64_t word, parent_word = 0, first = (uint64_t)copy->cluster * CLUSTER_BLOCKS;
    struct resolved resolved;
    enum got got = map_get(store, layer, copy->cluster, &copy->waiter, &word, ret_status);
    uint16_t absent = (uint16_t) ~(map_present(word) | map_zero(word)) & layer_parent_mask(layer, copy->cluster);
    if (got != GOT || absent == 0)
        return got;
    got = chain_resolve(store, layer, copy->cluster, absent, true, copy->decouple, &copy->waiter, &resolved, ret_status);
    if (got == GOT && copy->decouple && layer->parent->parent != NULL)
        got = map_get(store, layer->parent, copy->cluster, &copy->waiter, &parent_word, ret_status);
    if (got != GOT)
        return got;
    uint16_t mask = 0, zero = map_zero(parent_word) & absent;
    if (copy->decouple && layer->parent->parent != NULL) /* what the parent does not ask for is zero for good */
        zero |= absent & (uint16_t) ~(map_present(parent_word) | layer_parent_mask(layer->parent, copy->cluster));
    for (unsigned b = 0; b < CLUSTER_BLOCKS; b++)
        mask |= (uint16_t)((resolved.block[b] != 0) << b);
    if (mask == 0 && zero == 0)
        return GOT;
    if (copy->lock.layer == NULL)
        lock_take(layer, &copy->lock, first, first + CLUSTER_BLOCKS - 1, true, &copy->waiter);
    if (!copy->lock.granted || ancestors_drain(layer))
        return WAIT;
    got = commit_room(store, 16, &copy->waiter);
    struct page *page;
    if (got == GOT)
        got = map_page_for_write(store, layer, copy->cluster, false, &copy->waiter, &page, ret_status);
    if (got != GOT)
        return got;
    page_pin(page);
    uint32_t into = map_cluster(word);
    if (mask != 0 && into == 0) {
        got = cluster_take(store, layer, SPACE_DATA, false, &copy->waiter, &into, ret_status);
        if (got == GOT) {
            layer_set(store, layer, LAYER_USED, layer_get(layer, LAYER_USED) + 1);
            promise_update(store, layer);
        }
    }
    if (got == GOT)
        page_set(store, page, copy->cluster % PAGE_WORDS, map_word(into, map_present(word), map_zero(word) | zero));
    page_unpin(store, page);
    if (got != GOT || mask == 0)
        return got;
    copy->buffer = aligned_alloc(BLOCK_BYTES, CLUSTER_BYTES);
    if (copy->buffer == NULL) {
        *ret_status = IO_NO_MEMORY;
        return FAILED;
    }
    copy->copying = mask;
    copy->into = into;
    read_blocks(copy, &resolved);
    return WAIT;
}

/* ---- the whole ---- */

static enum got cut_parent(struct copy *copy) {
    struct volume_store *store = copy->store;
    struct layer *layer = copy->layer, *parent = layer->parent;
    if (commit_room(store, 16, &copy->waiter) != GOT)
        return WAIT;
    if (copy->decouple && parent != NULL) {
        layer_set(store, layer, LAYER_LIMIT, min_u64(layer_get(layer, LAYER_LIMIT), layer_get(parent, LAYER_LIMIT)));
        layer_set(store, layer, LAYER_PARENT, layer_get(parent, LAYER_PARENT));
        layer_set_parent(store, layer, parent->parent);
    } else if (!copy->decouple) { /* else it has been merged away while this waited */
        layer_set(store, layer, LAYER_STATE, layer_get(layer, LAYER_STATE) | LAYER_THICK);
        layer_set(store, layer, LAYER_PARENT, 0);
        layer_set_parent(store, layer, NULL);
        promise_update(store, layer);
    }
    return GOT;
}

static void tail_step(struct copy *copy) {
    struct volume_store *store = copy->store;
    struct layer *layer = copy->layer;
    uint32_t budget = WALK_STEPS;
    enum io_status status = IO_OK;
    copy->lock.clears = true;
    if (copy->lock.layer == NULL) /* writes of before that reach beyond the new end, first */
        lock_take(layer, &copy->lock, copy->walk.start, copy->walk.end - 1, true, &copy->waiter);
    if (!copy->lock.granted)
        return;
    enum got got = walk_clear(store, &copy->walk, &budget, &status);
    if (got == GOT && copy->walk.first < copy->walk.end) {
        queue(copy);
        return;
    }
    if (got == GOT)
        got = commit_room(store, 1, &copy->waiter);
    if (got == WAIT)
        return;
    if (got == GOT)
        layer_set(store, layer, LAYER_TAIL, layer_size(layer));
    finish(copy, got == GOT ? IO_OK : status);
}

/* The end of what is waited for kicks; but a merge may have no end before the next opening, or before others give space back. */
static enum got merge_awaited(const struct layer *layer, enum io_status *ret_status) {
    if (layer_state(layer) != LAYER_MERGING)
        return layer->volume != NULL && layer->volume->deleting != NULL ? WAIT : GOT;
    *ret_status = layer->background.stopped;
    return layer->background.stopped != IO_OK ? FAILED : WAIT;
}

/* Nothing merges meanwhile that would change what the direct parent holds, or who its parent is. */
static enum got begin(struct copy *copy, enum io_status *ret_status) {
    struct layer *layer = copy->layer, *parent = layer->parent, *next = parent == NULL ? NULL : parent->parent;
    enum got got = parent == NULL || layer_state(parent) != LAYER_MERGING ? GOT : merge_awaited(parent, ret_status);
    if (got == GOT && copy->decouple && next != NULL)
        got = merge_awaited(next, ret_status);
    if (got != GOT)
        return got;
    if (copy->decouple && next != NULL) {
        copy->heir_of = next;
        next->heirs++;
    }
    layer->copying = true;
    return GOT;
}

static void step(struct copy *copy) {
    struct volume_store *store = copy->store;
    struct layer *layer = copy->layer;
    if (copy->buffer != NULL || list_linked(&copy->waiter.node))
        return;
    if (store_frozen(store) || store->closing) {
        finish(copy, IO_MEDIUM_WRITE);
        return;
    }
    if (copy->tail) {
        tail_step(copy);
        return;
    }
    enum io_status status = IO_OK;
    enum got begun = layer->copying ? GOT : begin(copy, &status);
    if (begun == FAILED)
        finish(copy, status);
    if (begun != GOT)
        return;
    uint32_t clusters = (uint32_t)divide_up(layer_size(layer), CLUSTER_BLOCKS), budget = WALK_STEPS;
    while (layer->parent != NULL && copy->cluster < clusters && budget-- > 0) {
        enum got got = one_cluster(copy, &status);
        if (got == WAIT)
            return;
        if (got == FAILED) {
            finish(copy, status);
            return;
        }
        lock_release(&copy->lock);
        copy->cluster++;
        copy->volume->progress_percent = (unsigned)((uint64_t)copy->cluster * 100 / clusters);
    }
    if (layer->parent != NULL && copy->cluster < clusters)
        queue(copy);
    else if (cut_parent(copy) == GOT)
        finish(copy, IO_OK);
}

static void job_run(struct reactor_job *job) {
    struct copy *copy = container_of(job, struct copy, job);
    copy->queued = false;
    if (copy->over)
        free(copy);
    else
        step(copy);
}

static void queue(struct copy *copy) {
    if (copy->queued)
        return;
    copy->queued = true;
    copy->job.run = job_run;
    reactor_defer_late(copy->store->home, &copy->job);
}

static void wake(struct waiter *waiter, enum io_status status) {
    struct copy *copy = container_of(waiter, struct copy, waiter);
    if (status != IO_OK) /* asked again, it fails there with its reason */
        copy->status = status;
    queue(copy);
}

void copies_kick(struct volume_store *store) {
    list_for_each (&store->copies, struct copy, copy, node)
        queue(copy);
}

void copies_fini(struct volume_store *store) {
    for (struct list_node *node; (node = list_pop_front(&store->copies)) != NULL;) {
        struct copy *copy = list_entry(node, struct copy, node);
        free(copy->buffer);
        free(copy);
    }
}

static struct copy *copy_new(struct volume_store *store, struct volume_command *command, struct volume *volume) {
    struct copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        if (command != NULL) {
            error_set(&command->error, ERROR_NO_MEMORY, "no memory to work on %s", volume->name);
            command_fail(store, command);
        }
        return NULL;
    }
    copy->store = store;
    copy->command = command;
    copy->volume = volume;
    copy->layer = volume->layer;
    copy->layer->busy++;
    copy->waiter.wake = wake;
    list_push_back(&store->copies, &copy->node);
    queue(copy);
    return copy;
}

void copy_start(struct volume_store *store, struct volume_command *command, struct volume *volume, bool decouple) {
    struct copy *copy = copy_new(store, command, volume);
    if (copy == NULL)
        return;
    copy->decouple = decouple;
    volume->state = decouple ? VOLUME_DECOUPLING : VOLUME_INFLATING;
}

bool tail_start(struct volume_store *store, struct volume_command *command, struct volume *volume, uint64_t size, uint64_t tail) {
    struct copy *copy = copy_new(store, command, volume);
    if (copy == NULL)
        return false;
    copy->tail = true;
    copy->walk =
        (struct walk){.layer = copy->layer, .start = size, .first = size, .end = tail, .nodes = true, .waiter = &copy->waiter};
    volume->state = VOLUME_RESIZING;
    return true;
}
