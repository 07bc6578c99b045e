/* Goes through what a snapshot holds, some pieces at a time: checksums of it, and copies of it to another device. Reads and
 * writes go through the block contract like anybody's; only the map of what is held comes from inside. */
#include "blockdev/volume/internal.h"

#include "base/block_sum.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BLOCKS 64u /* one word of a map */
#define CHUNK_BYTES (CHUNK_BLOCKS * BLOCK_BYTES)
#define SLOTS 8u
#define SLOT_WRITES 8u
#define PIECES_A_TURN 4u /* of the map */
#define SEED_DATA 1u
#define SEED_CLEARED 2u

struct scan;

struct slot {
    struct scan *scan;
    uint64_t first;           /* block of bit 0 */
    uint64_t data, zero;      /* blocks to be read, or cleared */
    uint64_t left_data, left; /* not written yet: those with data, and all */
    bool starts_unit, busy;
    unsigned pending;
    uint8_t *buffer, *below; /* below: what the parent has there, of a checksum of the whole */
    struct slice slice;
    struct block_request read;
    struct pool_waiter op_waiter;
    struct slot_write {
        struct slot *slot;
        struct block_request request;
        struct slice slice;
        bool busy;
    } writes[SLOT_WRITES];
};

enum scan_phase { SCAN_COUNT, SCAN_WORK, SCAN_FLUSH, SCAN_OVER };

struct scan {
    struct volume_scan *asked;
    struct volume *volume;
    struct volume_store *store;
    struct block_handle from, to;
    struct block_channel *from_channel, *to_channel;
    struct reactor_message message;
    struct reactor_job job;
    bool queued;
    struct waiter waiter;
    _Atomic bool cancelled;
    enum scan_phase phase;
    struct layer *layer; /* a read-only volume's does not change */
    uint32_t content_changes;
    uint64_t size, unit_blocks;
    uint64_t at, end;                     /* blocks: next chunk, end of the stretch */
    size_t next_unit;                     /* COPY_UNITS: index of the next stretch */
    uint64_t counted_unit, unit_had_data; /* number + 1 of the unit last counted */
    bool failed;
    struct slot slots[SLOTS];
    unsigned busy;
    struct block_request flush;
    struct volume_command command; /* the checksum's attribute */
    char sum_text[24];
    struct volume_map map; /* of [first_block, end_block) when end_block is not 0 */
};

static void queue_step(struct scan *scan);

static bool copies(const struct scan *scan) { return scan->asked->what >= VOLUME_SCAN_COPY; }

static void scan_fail(struct scan *scan, enum io_status status, const char *what, const struct block_device *device,
                      uint64_t offset) {
    if (scan->failed)
        return;
    scan->failed = true;
    enum error_code code = status == IO_NO_SPACE ? ERROR_NO_SPACE : status == IO_NO_MEMORY ? ERROR_NO_MEMORY : ERROR_IO;
    error_set(&scan->asked->error, code, "%s %s at byte %llu: %s", what, device->name, (unsigned long long)offset,
              io_status_words(status));
}

static void scan_fail_changed(struct scan *scan) {
    if (!scan->failed)
        error_set(&scan->asked->error, ERROR_BUSY, "what the snapshot holds has changed while its checksum was made");
    scan->failed = true;
}

/* ---- the end: home, then control ---- */

static void free_scan(struct scan *scan) {
    for (unsigned i = 0; i < SLOTS; i++) {
        free(scan->slots[i].buffer);
        free(scan->slots[i].below);
    }
    free(scan);
}

static void finish(struct scan *scan) {
    struct volume_scan *asked = scan->asked;
    block_handle_close(&scan->from);
    if (copies(scan))
        block_handle_close(&scan->to);
    asked->private = NULL;
    free_scan(scan);
    asked->done(asked);
}

static void attribute_set(struct volume_command *command) {
    struct scan *scan = container_of(command, struct scan, command);
    scan->asked->ok = command->ok;
    if (!command->ok)
        scan->asked->error = command->error;
    finish(scan);
}

static void ended(struct reactor_message *message) {
    struct scan *scan = container_of(message, struct scan, message);
    struct volume_scan *asked = scan->asked;
    asked->ok = !scan->failed;
    if (!asked->ok || asked->what != VOLUME_SCAN_SUM) {
        finish(scan);
        return;
    }
    snprintf(scan->sum_text, sizeof(scan->sum_text), "%llu", (unsigned long long)asked->ret_sum);
    scan->command = (struct volume_command){.store = scan->store,
                                            .volume = scan->volume->uuid,
                                            .name = VOLUME_CHECKSUM_ATTRIBUTE,
                                            .value = scan->sum_text,
                                            .content_changes = scan->content_changes,
                                            .done = attribute_set};
    checksum_set(&scan->command);
}

static void leave_home(struct scan *scan) {
    scan->phase = SCAN_OVER;
    if (scan->from_channel != NULL)
        block_channel_close(scan->from_channel);
    if (scan->to_channel != NULL)
        block_channel_close(scan->to_channel);
    scan->message.run = ended;
    reactor_post(scan->store->control, &scan->message);
}

static void flushed(struct block_request *request) {
    struct scan *scan = container_of(request, struct scan, flush);
    if (request->status != IO_OK)
        scan_fail(scan, (enum io_status)request->status, "flushing", scan->to.device, 0);
    leave_home(scan);
}

/* ---- one chunk ---- */

static void slot_done(struct slot *slot) {
    struct scan *scan = slot->scan;
    slot->busy = false;
    scan->busy--;
    if (slot->starts_unit && !scan->failed)
        atomic_fetch_add_explicit(&scan->asked->handled_units, 1, memory_order_relaxed);
    queue_step(scan);
}

static void slot_write(struct slot *slot);

static void written(struct block_request *request) {
    struct slot_write *write = container_of(request, struct slot_write, request);
    struct slot *slot = write->slot;
    write->busy = false;
    slot->pending--;
    if (request->status != IO_OK)
        scan_fail(slot->scan, (enum io_status)request->status, "writing to", slot->scan->to.device, request->offset);
    slot_write(slot);
}

/* The next run of blocks that are written alike: how many from *ret_first on; 0 = none is left. */
static unsigned next_run(const struct slot *slot, unsigned *ret_first, bool *ret_data) {
    if (slot->left == 0)
        return 0;
    unsigned first = (unsigned)__builtin_ctzll(slot->left), count = 1;
    *ret_first = first;
    *ret_data = (slot->left_data >> first & 1) != 0;
    uint64_t alike = *ret_data ? slot->left_data : slot->left & ~slot->left_data;
    while (first + count < CHUNK_BLOCKS && (alike >> (first + count) & 1) != 0)
        count++;
    return count;
}

static void slot_write(struct slot *slot) {
    struct scan *scan = slot->scan;
    unsigned first, count;
    bool data;
    for (unsigned i = 0; i < SLOT_WRITES && !scan->failed; i++) {
        struct slot_write *write = &slot->writes[i];
        if (write->busy || (count = next_run(slot, &first, &data)) == 0)
            continue;
        uint64_t run = (count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1) << first;
        slot->left &= ~run;
        slot->left_data &= ~run;
        write->busy = true;
        write->slice = (struct slice){slot->buffer + (size_t)first * BLOCK_BYTES, (size_t)count * BLOCK_BYTES};
        write->request = (struct block_request){.op = data ? BLOCK_WRITE : BLOCK_WRITE_ZEROES,
                                                .flags = data ? 0 : BLOCK_MAY_TRIM,
                                                .slices = data ? &write->slice : NULL,
                                                .slice_count = data ? 1 : 0,
                                                .offset = (slot->first + first) * BLOCK_BYTES,
                                                .length = (uint64_t)count * BLOCK_BYTES,
                                                .complete = written};
        slot->pending++;
        block_submit(scan->to_channel, &write->request);
    }
    if (slot->pending == 0 && (slot->left == 0 || scan->failed))
        slot_done(slot);
}

static bool block_is_zero(const uint8_t *block) { return block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0; }

/* ---- one chunk: a checksum of the whole counts what differs from the parent ---- */

/* Not what is held: copies of a mirror hold the same, but one that was copied may hold blocks of its own that others have below.
 */
static void slot_difference(const struct slot *slot, bool compared) {
    for (uint64_t rest = slot->data | slot->zero; rest != 0; rest &= rest - 1) {
        unsigned b = (unsigned)__builtin_ctzll(rest);
        const uint8_t *block = slot->buffer + (size_t)b * BLOCK_BYTES, *below = slot->below + (size_t)b * BLOCK_BYTES;
        bool zero = (slot->zero >> b & 1) != 0 || block_is_zero(block);
        if (compared && (zero ? block_is_zero(below) : memcmp(block, below, BLOCK_BYTES) == 0))
            continue;
        slot->scan->asked->ret_sum += zero ? block_sum("", 1, slot->first + b, SEED_CLEARED) /* a sum of sums: in any order */
                                           : block_sum(block, BLOCK_BYTES, slot->first + b, SEED_DATA);
    }
}

static void below_read(struct volume_op *op, enum io_status status) {
    struct slot *slot = container_of(op->request, struct slot, read);
    if (status == IO_OK)
        slot_difference(slot, true);
    else if (status == IO_DEVICE_GONE)
        scan_fail_changed(slot->scan);
    else
        scan_fail(slot->scan, status, "reading below", slot->scan->from.device, op->request->offset);
    slot_done(slot);
}

/* The request is filled but for its layer, which may be another one by now. */
static void below_ready(struct pool_waiter *waiter, void *take_op) {
    struct slot *slot = container_of(waiter, struct slot, op_waiter);
    struct volume_op *op = take_op;
    struct layer *below = layer_below(slot->scan->layer);
    if (below != NULL && below->external == NULL && slot->read.offset + slot->read.length <= layer_size(below) * BLOCK_BYTES) {
        op_read_inside(op, slot->scan->volume, below, &slot->read, below_read);
        return;
    }
    pool_give(&slot->scan->store->ops, op);
    scan_fail_changed(slot->scan);
    slot_done(slot);
}

static void slot_compare(struct slot *slot) {
    struct scan *scan = slot->scan;
    const struct layer *below = layer_below(scan->layer);
    uint64_t asked = slot->data | slot->zero, size = below == NULL ? 0 : layer_size(below);
    uint64_t from = (uint64_t)__builtin_ctzll(asked), to = 64 - (uint64_t)__builtin_clzll(asked);
    to = min_u64(to, size > slot->first ? size - slot->first : 0);
    memset(slot->below, 0, CHUNK_BYTES); /* beyond its end, too */
    if (from >= to || below->external != NULL) {
        slot_difference(slot, below == NULL || below->external == NULL); /* another device may say anything at another time */
        slot_done(slot);
        return;
    }
    slot->slice = (struct slice){slot->below + from * BLOCK_BYTES, (to - from) * BLOCK_BYTES};
    slot->read = (struct block_request){.op = BLOCK_READ,
                                        .slices = &slot->slice,
                                        .slice_count = 1,
                                        .offset = (slot->first + from) * BLOCK_BYTES,
                                        .length = slot->slice.length,
                                        .channel = scan->from_channel};
    slot->op_waiter.ready = below_ready;
    struct volume_op *op = pool_take(&scan->store->ops);
    if (op != NULL) {
        below_ready(&slot->op_waiter, op);
    } else if (scan->store->ops.lent > 0) {
        pool_wait(&scan->store->ops, &slot->op_waiter);
    } else {
        scan_fail(scan, IO_NO_MEMORY, "reading below", scan->from.device, slot->read.offset);
        slot_done(slot);
    }
}

static void slot_sum(const struct slot *slot) {
    struct scan *scan = slot->scan;
    uint64_t sum = 0;
    for (uint64_t rest = slot->data; rest != 0; rest &= rest - 1) {
        unsigned b = (unsigned)__builtin_ctzll(rest);
        sum += block_sum(slot->buffer + (size_t)b * BLOCK_BYTES, BLOCK_BYTES, slot->first + b, SEED_DATA);
    }
    for (uint64_t rest = slot->zero; rest != 0; rest &= rest - 1)
        sum += block_sum("", 1, slot->first + (unsigned)__builtin_ctzll(rest), SEED_CLEARED);
    struct volume_unit_sum *unit = &scan->asked->sums[slot->first / scan->unit_blocks - scan->asked->first_unit];
    unit->sum += sum;
    unit->held = true;
}

static void slot_has_data(struct slot *slot) {
    struct scan *scan = slot->scan;
    if (scan->asked->what == VOLUME_SCAN_SUM) {
        slot_compare(slot);
        return;
    }
    if (!copies(scan)) {
        slot_sum(slot);
        slot_done(slot);
        return;
    }
    slot->left = slot->data | slot->zero;
    slot->left_data = slot->data;
    if (scan->asked->what == VOLUME_SCAN_COPY_UNITS)
        for (uint64_t rest = slot->data; rest != 0; rest &= rest - 1) {
            unsigned b = (unsigned)__builtin_ctzll(rest);
            if (block_is_zero(slot->buffer + (size_t)b * BLOCK_BYTES))
                slot->left_data &= ~(UINT64_C(1) << b);
        }
    slot_write(slot);
}

static void was_read(struct block_request *request) {
    struct slot *slot = container_of(request, struct slot, read);
    if (request->status != IO_OK) {
        scan_fail(slot->scan, (enum io_status)request->status, "reading", slot->scan->from.device, request->offset);
        slot_done(slot);
        return;
    }
    slot_has_data(slot);
}

static void slot_start(struct scan *scan, uint64_t first, uint64_t data, uint64_t zero, bool starts_unit) {
    struct slot *slot = scan->slots;
    while (slot->busy)
        slot++;
    slot->scan = scan;
    slot->first = first;
    slot->data = data;
    slot->zero = zero;
    slot->starts_unit = starts_unit;
    slot->busy = true;
    slot->pending = 0;
    scan->busy++;
    if (data == 0) {
        slot_has_data(slot);
        return;
    }
    unsigned from = (unsigned)__builtin_ctzll(data), to = 63 - (unsigned)__builtin_clzll(data);
    slot->slice = (struct slice){slot->buffer + (size_t)from * BLOCK_BYTES, (size_t)(to - from + 1) * BLOCK_BYTES};
    slot->read = (struct block_request){.op = BLOCK_READ,
                                        .slices = &slot->slice,
                                        .slice_count = 1,
                                        .offset = (first + from) * BLOCK_BYTES,
                                        .length = slot->slice.length,
                                        .complete = was_read};
    block_submit(scan->from_channel, &slot->read);
}

/* ---- chunk after chunk ---- */

/* The next stretch of blocks; false: that was all. */
static bool next_stretch(struct scan *scan) {
    const struct volume_scan *asked = scan->asked;
    if (asked->what == VOLUME_SCAN_COPY_UNITS) {
        if (scan->next_unit == asked->unit_count)
            return false;
        scan->at = asked->units[scan->next_unit++] * scan->unit_blocks;
        scan->end = min_u64(scan->size, scan->at + scan->unit_blocks);
        return true;
    }
    if (scan->next_unit++ > 0)
        return false;
    scan->at = 0;
    scan->end = scan->size;
    if (asked->what == VOLUME_SCAN_UNIT_SUMS) {
        uint64_t units = divide_up(scan->size, scan->unit_blocks), first = min_u64(units, asked->first_unit);
        scan->at = min_u64(scan->size, first * scan->unit_blocks);
        scan->end = min_u64(scan->size, (first + min_u64(units - first, asked->unit_count)) * scan->unit_blocks);
    }
    return true;
}

static void first_stretch(struct scan *scan, enum scan_phase phase) {
    scan->phase = phase;
    scan->next_unit = 0;
    scan->counted_unit = 0;
    scan->map.end_block = 0;
    next_stretch(scan);
}

/* The map of the chunk at scan->at is there. */
static enum got map_here(struct scan *scan, unsigned *pieces) {
    enum io_status status = IO_OK;
    if (scan->map.end_block > scan->at && scan->map.first_block <= scan->at)
        return GOT;
    if (*pieces == 0) {
        queue_step(scan);
        return WAIT;
    }
    (*pieces)--;
    scan->map.first_block = scan->at;
    scan->map.deep = scan->asked->what == VOLUME_SCAN_COPY_DEEP;
    scan->map.end_block = 0;
    enum got got = occupancy_get(scan->store, scan->layer, &scan->map, &scan->waiter, &status);
    if (got == FAILED)
        scan_fail(scan, status, "reading the map of", scan->from.device, scan->at * BLOCK_BYTES);
    return got;
}

static uint64_t chunk_bits(const struct volume_map *map, const uint64_t *bits, uint64_t first, uint64_t count) {
    uint64_t bit = first - map->first_block, word = bit / 64;
    if (bit >= VOLUME_MAP_BLOCKS)
        return 0;
    uint64_t value = bits[word] >> bit % 64;
    if (bit % 64 != 0 && word + 1 < VOLUME_MAP_BLOCKS / 64)
        value |= bits[word + 1] << (64 - bit % 64);
    return count == 64 ? value : value & ((UINT64_C(1) << count) - 1);
}

/* A unit is counted once, when the first chunk of which something is held is met. */
static void count_unit(struct scan *scan, uint64_t unit, bool data) {
    struct volume_scan *asked = scan->asked;
    if (scan->counted_unit != unit + 1) {
        scan->counted_unit = unit + 1;
        scan->unit_had_data = 0;
        atomic_fetch_add_explicit(&asked->total_units, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&asked->cleared_units, 1, memory_order_relaxed);
    }
    if (data && scan->unit_had_data == 0) {
        scan->unit_had_data = 1;
        atomic_fetch_sub_explicit(&asked->cleared_units, 1, memory_order_relaxed);
    }
}

/* One chunk; WAIT: it waits, or others have their turn. */
static enum got one_chunk(struct scan *scan, unsigned *pieces) {
    uint64_t count = min_u64(min_u64(CHUNK_BLOCKS, scan->unit_blocks - scan->at % scan->unit_blocks), scan->end - scan->at);
    uint64_t data = count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1, zero = 0;
    if (scan->asked->what != VOLUME_SCAN_COPY_UNITS || scan->phase == SCAN_COUNT) {
        enum got got = map_here(scan, pieces);
        if (got != GOT)
            return got;
        data = chunk_bits(&scan->map, scan->map.held, scan->at, count);
        zero = chunk_bits(&scan->map, scan->map.cleared, scan->at, count);
        if ((data | zero) == 0 && scan->at - scan->map.first_block >= VOLUME_MAP_BLOCKS) { /* nothing up to its end */
            scan->at = min_u64(scan->end, max_u64(scan->at + count, round_down(scan->map.end_block, CHUNK_BLOCKS)));
            return GOT;
        }
    }
    uint64_t first = scan->at, unit = first / scan->unit_blocks;
    scan->at += count;
    bool unit_ends = scan->at == scan->end || scan->at % scan->unit_blocks == 0;
    if (scan->phase == SCAN_COUNT) {
        if ((data | zero) != 0 || (scan->asked->what == VOLUME_SCAN_COPY_UNITS && unit_ends))
            count_unit(scan, unit, data != 0);
    } else if ((data | zero) != 0) {
        slot_start(scan, first, data, zero, scan->counted_unit != unit + 1);
        scan->counted_unit = unit + 1;
    }
    return GOT;
}

static void step(struct scan *scan) {
    unsigned pieces = PIECES_A_TURN;
    if (scan->phase >= SCAN_FLUSH || list_linked(&scan->waiter.node))
        return;
    if (atomic_load(&scan->cancelled) && !scan->failed) {
        scan->failed = true;
        error_set(&scan->asked->error, ERROR_CANCELLED, "the work on %s was stopped", scan->volume->name);
    }
    while (!scan->failed && scan->busy < SLOTS) {
        if (scan->at < scan->end) {
            if (one_chunk(scan, &pieces) == WAIT)
                return;
        } else if (!next_stretch(scan)) {
            if (scan->phase == SCAN_WORK)
                break;
            first_stretch(scan, SCAN_WORK);
        }
    }
    if (scan->busy > 0 || scan->queued)
        return;
    if (!scan->failed)
        atomic_store(&scan->asked->handled_units, atomic_load(&scan->asked->total_units));
    if (copies(scan) && !scan->failed) {
        scan->phase = SCAN_FLUSH;
        scan->flush = (struct block_request){.op = BLOCK_FLUSH, .complete = flushed};
        block_submit(scan->to_channel, &scan->flush);
        return;
    }
    leave_home(scan);
}

static void job_run(struct reactor_job *job) {
    struct scan *scan = container_of(job, struct scan, job);
    scan->queued = false;
    step(scan);
}

static void queue_step(struct scan *scan) {
    if (scan->queued || scan->phase >= SCAN_FLUSH)
        return;
    scan->queued = true;
    scan->job.run = job_run;
    reactor_defer_late(scan->store->home, &scan->job);
}

static void wake(struct waiter *waiter, enum io_status status) {
    (void)status; /* asked again, it fails there with its reason */
    queue_step(container_of(waiter, struct scan, waiter));
}

/* ---- the beginning: control, then home ---- */

static void begin(struct reactor_message *message) {
    struct scan *scan = container_of(message, struct scan, message);
    scan->layer = scan->volume->layer;
    scan->from_channel = block_channel_open(&scan->from);
    if (copies(scan))
        scan->to_channel = block_channel_open(&scan->to);
    bool buffers = true;
    for (unsigned i = 0; i < SLOTS; i++)
        buffers &=
            (scan->slots[i].buffer = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES)) != NULL &&
            (scan->asked->what != VOLUME_SCAN_SUM || (scan->slots[i].below = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES)) != NULL);
    for (unsigned i = 0; i < SLOTS; i++)
        for (unsigned w = 0; w < SLOT_WRITES; w++)
            scan->slots[i].writes[w].slot = &scan->slots[i];
    if (scan->layer == NULL || scan->from_channel == NULL || (copies(scan) && scan->to_channel == NULL) || !buffers) {
        scan_fail(scan, scan->layer == NULL ? IO_DEVICE_GONE : IO_NO_MEMORY, "beginning with", scan->from.device, 0);
        leave_home(scan);
        return;
    }
    scan->content_changes = scan->layer->content_changes;
    scan->size = layer_size(scan->layer);
    scan->unit_blocks = scan->store->super.unit_bytes / BLOCK_BYTES;
    scan->waiter.wake = wake;
    for (size_t i = 0; scan->asked->what == VOLUME_SCAN_COPY_UNITS && i < scan->asked->unit_count; i++)
        if (scan->asked->units[i] >= divide_up(scan->size, scan->unit_blocks))
            scan_fail(scan, IO_OUT_OF_RANGE, "going through the units of", scan->from.device,
                      scan->asked->units[i] * scan->store->super.unit_bytes);
    first_stretch(scan, scan->asked->what == VOLUME_SCAN_UNIT_SUMS ? SCAN_WORK : SCAN_COUNT);
    queue_step(scan);
}

static void from_event(struct block_handle *handle, enum block_event event) {
    if (event == BLOCK_EVENT_REMOVE)
        atomic_store(&container_of(handle, struct scan, from)->cancelled, true);
}
static void to_event(struct block_handle *handle, enum block_event event) {
    if (event == BLOCK_EVENT_REMOVE)
        atomic_store(&container_of(handle, struct scan, to)->cancelled, true);
}

static bool devices_open(struct scan *scan) {
    struct volume_scan *asked = scan->asked;
    struct error *error = &asked->error;
    if (!atomic_load(&asked->from->read_only))
        return error_set(error, ERROR_PERMISSION, "%s can be written: make a snapshot of it", asked->from->name);
    if (copies(scan) && block_device_size(asked->to) < block_device_size(asked->from))
        return error_set(error, ERROR_INVALID, "%s has %llu bytes: fewer than %s", asked->to->name,
                         (unsigned long long)block_device_size(asked->to), asked->from->name);
    if (copies(scan) && block_device_block_size(asked->to) > BLOCK_BYTES)
        return error_set(error, ERROR_INVALID, "%s has blocks of %u bytes: more than 4096", asked->to->name,
                         block_device_block_size(asked->to));
    scan->from.owner = scan->to.owner = "copy or checksum of a snapshot";
    scan->from.event = from_event;
    scan->to.event = to_event;
    if (!block_handle_open(&scan->from, asked->from, BLOCK_MODE_READ, error))
        return false;
    if (copies(scan) && !block_handle_open(&scan->to, asked->to, BLOCK_MODE_CLAIM, error)) {
        block_handle_close(&scan->from);
        return false;
    }
    return true;
}

bool volume_scan_start(struct volume_scan *asked) {
    assert(volume_device_is(asked->from));
    asked->ok = false;
    asked->ret_sum = 0;
    error_clear(&asked->error);
    atomic_store(&asked->total_units, 0);
    atomic_store(&asked->handled_units, 0);
    atomic_store(&asked->cleared_units, 0);
    for (size_t i = 0; asked->what == VOLUME_SCAN_UNIT_SUMS && i < asked->unit_count; i++)
        asked->sums[i] = (struct volume_unit_sum){.unit = asked->first_unit + i};
    struct scan *scan = calloc(1, sizeof(*scan));
    if (scan == NULL)
        return error_set(&asked->error, ERROR_NO_MEMORY, "no memory to go through %s", asked->from->name);
    scan->asked = asked;
    scan->volume = container_of(asked->from, struct volume, device);
    scan->store = scan->volume->store;
    if (!devices_open(scan)) {
        free(scan);
        return false;
    }
    asked->private = scan;
    scan->message.run = begin;
    reactor_post(scan->store->home, &scan->message);
    return true;
}

void volume_scan_cancel(struct volume_scan *asked) {
    if (asked->private != NULL)
        atomic_store(&asked->private->cancelled, true);
}
