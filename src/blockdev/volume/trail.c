/* What was written to the disk and not flushed since, told to the process that comes after this one dies: a list in memory that
 * outlives it. Whatever it is that a disk or a kernel forgot of that, the next one writes it anew as it reads it, and what is
 * read is on the disk from then on. docs/volume-store.md, "What a process leaves behind". */
#include "blockdev/volume/replica.h"

#include <stdio.h>
#include <stdlib.h>

#define TRAIL_MAGIC UINT64_C(0x316c696172745350)
#define TRAIL_KICK_BYTES MIB(256) /* written since the last flush began: one more, so that little is written anew */
#define ENTRY_BLOCKS_BITS 20
#define ENTRY_BLOCKS_MAX ((UINT64_C(1) << ENTRY_BLOCKS_BITS) - 1)

static uint64_t entry_of(uint64_t block, uint64_t count) { return block << ENTRY_BLOCKS_BITS | count; }
static uint64_t entry_block(uint64_t entry) { return entry >> ENTRY_BLOCKS_BITS; }
static uint64_t entry_count(uint64_t entry) { return entry & ENTRY_BLOCKS_MAX; }

static void name_of(const struct volume_store *store, char name[HOST_KEPT_NAME_SIZE]) {
    char uuid[UUID_TEXT_SIZE];
    uuid_format(&store->store_id, uuid);
    snprintf(name, HOST_KEPT_NAME_SIZE, "store-%s", uuid);
}

static bool is_kept_for(const struct volume_store *store) {
    return !store_frozen(store) && store->base_handle.device->volatile_cache;
}

/* ---- while it is written to ---- */

static unsigned slot_of(uint64_t generation) { return (unsigned)(generation % TRAIL_GENERATIONS); }

static void generation_begin(struct trail *trail) {
    if (trail->newest - trail->oldest == TRAIL_GENERATIONS - 1)
        return; /* something hangs: all that came since counts with the newest */
    trail->newest++;
    trail->starts[slot_of(trail->newest)] = trail->head;
    trail->under_way[slot_of(trail->newest)] = 0;
}

static void pass_over_ended(struct trail *trail) {
    while (trail->oldest < trail->newest && trail->under_way[slot_of(trail->oldest)] == 0)
        trail->oldest++;
}

static void append(struct trail *trail, uint64_t block, uint64_t count) {
    struct trail_memory *memory = trail->memory;
    uint64_t at = trail->head - 1;
    if (trail->head > trail->starts[slot_of(trail->newest)]) {
        uint64_t last = memory->entries[at % TRAIL_ENTRIES];
        if (entry_block(last) + entry_count(last) == block && entry_count(last) + count <= ENTRY_BLOCKS_MAX) {
            atomic_store_explicit(&memory->entries[at % TRAIL_ENTRIES], last + count, memory_order_release);
            return;
        }
    }
    atomic_store_explicit(&memory->entries[trail->head % TRAIL_ENTRIES], entry_of(block, count), memory_order_release);
    trail->head++;
    atomic_store_explicit(&memory->head, trail->head, memory_order_release); /* before the disk hears of the write */
}

static void list_write(struct volume_store *store, const struct block_request *request) {
    struct trail *trail = &store->trail;
    uint64_t block = request->offset >> BLOCK_SHIFT, end = divide_up(request->offset + request->length, BLOCK_BYTES);
    for (uint64_t count; block < end; block += count) {
        count = min_u64(end - block, ENTRY_BLOCKS_MAX);
        append(trail, block, count);
    }
    trail->bytes += request->length;
    if (unlikely(trail->bytes > TRAIL_KICK_BYTES || (trail->head - trail->tail > TRAIL_ENTRIES / 2 && trail->head % 1024 == 0)) &&
        is_kept_for(store)) {
        trail->bytes = 0;
        commit_hasten(store);
    }
}

void trail_enter(struct store_io *io) {
    struct volume_store *store = io->store;
    struct trail *trail = &store->trail;
    if (io->request.op == BLOCK_FLUSH) {
        /* It covers what has ended, which is all before the oldest that has not. */
        pass_over_ended(trail);
        unsigned oldest = slot_of(trail->oldest);
        io->trail_covered = trail->under_way[oldest] > 0 ? trail->starts[oldest] : trail->head;
        generation_begin(trail);
        trail->bytes = 0;
    } else if (trail->memory != NULL) {
        list_write(store, &io->request);
    } else {
        trail->head++;
    }
    io->trail = slot_of(trail->newest) + 1;
    trail->under_way[io->trail - 1]++;
}

/* A flush counts when all that was under way with it has ended, too: of two that overlap the kernel tells one alone that a page
 * could not be written. */
void trail_leave(struct store_io *io) {
    struct trail *trail = &io->store->trail;
    trail->under_way[io->trail - 1]--;
    io->trail = 0;
    if (io->request.op == BLOCK_FLUSH || (io->request.flags & BLOCK_FUA) != 0)
        trail->failed = trail->failed || io->request.status != IO_OK;
    if (io->request.op == BLOCK_FLUSH && trail->awaited == 0) {
        trail->awaited = trail->newest;
        trail->covered = io->trail_covered;
        generation_begin(trail);
    }
    if (trail->awaited == 0)
        return;
    pass_over_ended(trail);
    if (trail->oldest <= trail->awaited)
        return;
    trail->awaited = 0;
    if (trail->failed)
        return; /* for good: the store takes no more changes */
    trail->tail = max_u64(trail->tail, trail->covered);
    if (trail->memory != NULL)
        atomic_store_explicit(&trail->memory->tail, trail->tail, memory_order_release);
}

/* ---- whose it is ---- */

void trail_look(struct volume_store *store) {
    if (store->trail.memory == NULL)
        return;
    uint64_t doubted = 0;
    list_for_each (&store->volumes, const struct volume, volume, node)
        doubted |= volume->replica != NULL && volume->replica->unproven;
    atomic_store_explicit(&store->trail.memory->doubted, doubted, memory_order_release);
}

bool trail_is_doubted(const struct volume_store *store) {
    list_for_each (&store->volumes, const struct volume, volume, node)
        if (volume->replica != NULL && volume->replica->unproven)
            return true;
    return false;
}

void trail_begin(struct volume_store *store) {
    struct trail *trail = &store->trail;
    if (trail->memory == NULL && is_kept_for(store)) {
        char name[HOST_KEPT_NAME_SIZE];
        name_of(store, name);
        struct trail_memory *memory =
            host_memory_keep(store->home->host, name, store->base_handle.device->place, sizeof(*memory), true);
        if (memory == NULL)
            return; /* then the next one has to doubt */
        memory->store_id = store->store_id;
        memory->opening = store->commit.opening_id;
        memory->doubted = 1; /* until all is said */
        memory->head = trail->head;
        memory->unlisted = trail->head;
        memory->tail = trail->tail;
        atomic_store_explicit(&memory->magic, TRAIL_MAGIC, memory_order_release);
        trail->memory = memory;
    }
    trail_look(store);
}

void trail_end(struct volume_store *store, bool forget) {
    struct trail_memory *memory = store->trail.memory;
    if (memory == NULL)
        return;
    char name[HOST_KEPT_NAME_SIZE];
    name_of(store, name);
    store->trail.memory = NULL;
    host_memory_leave(store->home->host, name, memory, sizeof(*memory), forget);
}

/* ---- what the one before left ---- */

static int by_block(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static bool entries_sane(const struct trail_memory *memory, uint64_t blocks) {
    for (uint64_t at = memory->tail; at < memory->head; at++) {
        uint64_t entry = memory->entries[at % TRAIL_ENTRIES];
        if (entry_count(entry) == 0 || entry_block(entry) + entry_count(entry) > blocks)
            return false;
    }
    return true;
}

bool trail_find(struct volume_store *store, uint64_t opening, struct trail_left *ret_left) {
    char name[HOST_KEPT_NAME_SIZE];
    *ret_left = (struct trail_left){0};
    name_of(store, name);
    struct trail_memory *memory =
        is_kept_for(store) ? host_memory_keep(store->home->host, name, store->base_handle.device->place, sizeof(*memory), false)
                           : NULL;
    if (memory == NULL)
        return false;
    uint64_t blocks = divide_up(block_device_size(store->base_handle.device), BLOCK_BYTES);
    bool known = memory->magic == TRAIL_MAGIC && uuid_equal(&memory->store_id, &store->store_id) && memory->opening == opening &&
                 memory->doubted == 0 && memory->unlisted <= memory->tail && memory->tail <= memory->head &&
                 memory->head - memory->tail <= TRAIL_ENTRIES && entries_sane(memory, blocks);
    size_t count = known ? (size_t)(memory->head - memory->tail) : 0;
    uint64_t *runs = known ? malloc((count + 1) * sizeof(*runs)) : NULL;
    if (runs == NULL) {
        host_memory_leave(store->home->host, name, memory, sizeof(*memory), false); /* it is made anew */
        return false;
    }
    for (size_t i = 0; i < count; i++)
        runs[i] = memory->entries[(memory->tail + i) % TRAIL_ENTRIES];
    qsort(runs, count, sizeof(*runs), by_block);
    ret_left->memory = memory;
    ret_left->runs = runs;
    ret_left->count = count;
    return true;
}

bool trail_next(struct trail_left *left, uint64_t most_blocks, uint64_t *ret_block, uint64_t *ret_count) {
    while (left->at < left->count) {
        uint64_t entry = left->runs[left->at], end = entry_block(entry) + entry_count(entry);
        uint64_t block = max_u64(entry_block(entry), left->done); /* they overlap */
        if (block >= end) {
            left->at++;
            continue;
        }
        *ret_block = block;
        *ret_count = min_u64(most_blocks, end - block);
        left->done = block + *ret_count;
        return true;
    }
    return false;
}

void trail_take_over(struct volume_store *store, struct trail_left *left) {
    struct trail *trail = &store->trail;
    struct trail_memory *memory = left->memory;
    memory->opening = store->commit.opening_id; /* before the list is shorter: it is of no other disk */
    trail->memory = memory;
    trail->head = trail->tail = memory->head; /* all of it is on the disk now */
    trail->starts[slot_of(trail->newest)] = trail->head;
    atomic_store_explicit(&memory->tail, trail->tail, memory_order_release);
    left->memory = NULL;
}

void trail_left_fini(struct volume_store *store, struct trail_left *left) {
    char name[HOST_KEPT_NAME_SIZE];
    name_of(store, name);
    if (left->memory != NULL)
        host_memory_leave(store->home->host, name, left->memory, sizeof(*left->memory), false);
    free(left->runs);
    *left = (struct trail_left){0};
}
