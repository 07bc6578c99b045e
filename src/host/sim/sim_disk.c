/* Disks: requests with latencies and faults, the write cache, power cuts. Content is sim_content.c's, files and locks are
 * sim_file.c's. */
#include "host/sim/sim_disk_internal.h"

#include <errno.h>

/* A cache of so many writes: beyond it the oldest are written back, as any cache does. */
#define PENDING_MAX 8192

static void land(struct sim_event *event);

/* ---- life ---- */

void sim_disk_options_init(struct sim_disk_options *options, uint64_t size) {
    *options = (struct sim_disk_options){
        .size = size,
        .block_device = true,
        .can_direct = true,
        .can_punch = true,
        .can_zero = true,
        .logical_block = 512,
        .power_fail_unit = 512,
        .read_min_ns = 10 * NS_PER_US,
        .read_max_ns = 80 * NS_PER_US,
        .write_min_ns = 10 * NS_PER_US,
        .write_max_ns = 80 * NS_PER_US,
        .sync_min_ns = 50 * NS_PER_US,
        .sync_max_ns = 400 * NS_PER_US,
    };
}

struct sim_disk *sim_disk_of_layer(struct sim *sim, const struct sim_disk_options *options, struct sim_layer *below) {
    assert(is_power_of_two(options->logical_block) && is_power_of_two(options->power_fail_unit));
    assert(options->power_fail_unit >= 512 && options->power_fail_unit <= SIM_PAGE_SIZE);
    struct sim_disk *disk = sim_pool_take(&sim->disks);
    disk->sim = sim;
    disk->options = *options;
    disk->id = ++sim->next_id;
    list_init(&disk->in_flight);
    list_init(&disk->files);
    list_init(&disk->waiting);
    list_push_back(&sim->disk_list, &disk->of_sim);
    uint64_t size = below == NULL ? options->size : below->size;
    disk->current = sim_layer_create(sim, below, size);
    disk->stable = sim_layer_create(sim, below, size);
    if (options->space != 0)
        disk->allocated = sim_layer_allocated(disk->current);
    return disk;
}

struct sim_disk *sim_disk_create(struct sim *sim, const struct sim_disk_options *options) {
    return sim_disk_of_layer(sim, options, NULL);
}

void sim_disk_destroy(struct sim_disk *disk) {
    struct sim *sim = disk->sim;
    assert(list_empty(&disk->files) && list_empty(&disk->in_flight) && list_empty(&disk->waiting));
    for (uint32_t i = 0; i < sim->node_count; i++)
        list_for_each_safe (&sim->nodes[i]->paths, struct sim_path, path, node)
            if (path->disk == disk) {
                list_remove(&path->node);
                sim_release(sim, path);
            }
    if (disk->record != NULL)
        sim_record_stop(disk->record);
    sim_outstanding_fini(&disk->pending, sim);
    sim_outstanding_fini(&disk->phantoms, sim);
    sim_layer_unref(disk->current);
    sim_layer_unref(disk->stable);
    list_remove(&disk->of_sim);
    sim_pool_give(&sim->disks, disk);
}

/* ---- content ---- */

static struct sim_layer *view_of(const struct sim_disk *disk, enum sim_view view) {
    return view == SIM_VIEW_CURRENT ? disk->current : disk->stable;
}

void sim_disk_peek(const struct sim_disk *disk, enum sim_view view, uint64_t offset, void *to, size_t length) {
    sim_layer_read(view_of(disk, view), offset, to, length);
}

void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *from, size_t length) {
    assert(disk->record == NULL);
    for (uint32_t i = 0; i < disk->pending.count; i++) {
        const struct sim_write *write = disk->pending.writes[i];
        assert(write->offset >= offset + length || offset >= write->offset + write->length);
    }
    sim_layer_write(disk->stable, offset, from, length);
    sim_layer_write(disk->current, offset, from, length);
}

void sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset, unsigned bit) {
    const enum sim_view views[] = {SIM_VIEW_CURRENT, SIM_VIEW_DURABLE};
    for (size_t i = 0; i < array_count(views); i++) {
        uint8_t byte;
        sim_layer_read(view_of(disk, views[i]), offset, &byte, 1);
        byte ^= (uint8_t)(1u << bit);
        sim_layer_write(view_of(disk, views[i]), offset, &byte, 1);
    }
}

uint64_t sim_disk_size(const struct sim_disk *disk) { return disk->current->size; }
uint64_t sim_disk_hash(const struct sim_disk *disk, enum sim_view view) { return sim_layer_hash(view_of(disk, view)); }

/* ---- faults ---- */

unsigned sim_disk_fault_add(struct sim_disk *disk, const struct sim_disk_fault *fault) {
    unsigned number = 0;
    while (number < disk->fault_count && disk->faults[number].armed)
        number++;
    assert(number < SIM_DISK_FAULTS_MAX);
    disk->faults[number] = (struct sim_armed_fault){.fault = *fault, .armed = true};
    disk->fault_count = max_u32(disk->fault_count, number + 1);
    return number;
}

void sim_disk_fault_remove(struct sim_disk *disk, unsigned number) { disk->faults[number].armed = false; }

void sim_disk_faults_clear(struct sim_disk *disk) {
    for (uint32_t i = 0; i < disk->fault_count; i++)
        disk->faults[i].armed = false;
    disk->fault_count = 0;
}

uint64_t sim_disk_fault_hits(const struct sim_disk *disk, unsigned number) { return disk->faults[number].hits; }

static bool fault_matches(struct sim_disk *disk, struct sim_armed_fault *armed, const struct sim_io *io) {
    const struct sim_disk_fault *fault = &armed->fault;
    if (!armed->armed || (fault->ops & SIM_OP(io->op)) == 0 || (fault->count != 0 && armed->hits >= fault->count))
        return false;
    if (fault->length != 0 && io->op != HOST_FILE_SYNC &&
        (io->offset >= fault->offset + fault->length || fault->offset >= io->offset + io->length))
        return false;
    if (armed->seen++ < fault->skip || (fault->one_in > 1 && !sim_one_in(disk->sim, fault->one_in)))
        return false;
    armed->hits++;
    return true;
}

static const struct sim_disk_fault *fault_for(struct sim_disk *disk, const struct sim_io *io) {
    for (uint32_t i = 0; i < disk->fault_count; i++)
        if (fault_matches(disk, &disk->faults[i], io)) {
            sim_note(disk->sim, SIM_TRACE_FAULT, disk->id, disk->faults[i].fault.action);
            return &disk->faults[i].fault;
        }
    return NULL;
}

void sim_disk_release(struct sim_disk *disk) {
    list_for_each (&disk->in_flight, struct sim_io, io, of_disk)
        if (io->hung) {
            io->hung = false;
            io->tell_at_ns = disk->sim->now_ns + sim_draw(disk->sim, disk->options.write_min_ns, disk->options.write_max_ns);
            sim_event_at(disk->sim, &io->event, io->tell_at_ns);
        }
}

uint64_t sim_disk_hung(const struct sim_disk *disk) {
    uint64_t count = 0;
    list_for_each (&disk->in_flight, struct sim_io, io, of_disk)
        count += io->hung;
    return count;
}

void sim_disk_bad_add(struct sim_disk *disk, uint64_t offset, uint64_t length) {
    assert(disk->bad_count < SIM_BAD_RANGES_MAX);
    disk->bad[disk->bad_count++] = (struct sim_bad_range){offset, length};
}

static bool range_is_bad(const struct sim_disk *disk, uint64_t offset, uint64_t length) {
    for (uint32_t i = 0; i < disk->bad_count; i++)
        if (offset < disk->bad[i].offset + disk->bad[i].length && disk->bad[i].offset < offset + length)
            return true;
    return false;
}

/* Writing heals: what lies inside the written range is good again. */
static void heal(struct sim_disk *disk, uint64_t offset, uint64_t length) {
    for (uint32_t i = disk->bad_count; i-- > 0;) {
        struct sim_bad_range bad = disk->bad[i];
        uint64_t end = bad.offset + bad.length;
        if (offset >= end || bad.offset >= offset + length)
            continue;
        disk->bad[i] = disk->bad[--disk->bad_count];
        if (bad.offset < offset)
            sim_disk_bad_add(disk, bad.offset, offset - bad.offset);
        if (offset + length < end)
            sim_disk_bad_add(disk, offset + length, end - offset - length);
    }
}

void sim_disk_set_full(struct sim_disk *disk, bool full) { disk->full = full; }
void sim_disk_set_dead(struct sim_disk *disk) { disk->dead = true; }

void sim_disk_stats(const struct sim_disk *disk, struct sim_disk_stats *ret_stats) {
    *ret_stats = disk->stats;
    ret_stats->outstanding = disk->pending.count;
    ret_stats->in_flight = 0;
    list_for_each (&disk->in_flight, struct sim_io, io, of_disk)
        ret_stats->in_flight += !io->landed;
}

/* ---- requests ---- */

static bool changes(enum host_file_op op) { return op == HOST_FILE_WRITE || op == HOST_FILE_PUNCH || op == HOST_FILE_ZERO; }

/* What the kernel refuses at once. */
static int refuse(const struct sim_disk *disk, const struct sim_io *io) {
    uint64_t align = disk->options.logical_block;
    if (disk->dead)
        return -EIO;
    if (io->op == HOST_FILE_SYNC)
        return 0;
    if (changes(io->op) && io->file->read_only)
        return -EBADF;
    if (io->file->direct && (io->op == HOST_FILE_READ || io->op == HOST_FILE_WRITE)) {
        if ((io->offset | io->length) % align != 0 || !slice_aligned(io->request->slices, io->request->slice_count, align))
            return -EINVAL;
    }
    if ((io->op == HOST_FILE_PUNCH && !disk->options.can_punch) || (io->op == HOST_FILE_ZERO && !disk->options.can_zero))
        return -EOPNOTSUPP;
    if ((io->op == HOST_FILE_PUNCH || io->op == HOST_FILE_ZERO) &&
        (io->length == 0 || (disk->options.block_device && ((io->offset | io->length) % align != 0 ||
                                                            !range_inside(io->offset, io->length, disk->current->size)))))
        return -EINVAL;
    if (io->op == HOST_FILE_WRITE && disk->options.block_device && io->length > 0 && io->offset >= disk->current->size)
        return -ENOSPC;
    return 0;
}

static uint64_t latency(struct sim_disk *disk, const struct sim_io *io) {
    const struct sim_disk_options *o = &disk->options;
    uint64_t drawn = io->op == HOST_FILE_READ   ? sim_draw(disk->sim, o->read_min_ns, o->read_max_ns)
                     : io->op == HOST_FILE_SYNC ? sim_draw(disk->sim, o->sync_min_ns, o->sync_max_ns)
                                                : sim_draw(disk->sim, o->write_min_ns, o->write_max_ns);
    if (o->bytes_per_second == 0 || (io->op != HOST_FILE_READ && io->op != HOST_FILE_WRITE))
        return drawn;
    uint64_t now = disk->sim->now_ns;
    disk->busy_until_ns = max_u64(disk->busy_until_ns, now) + (uint64_t)((double)io->length * 1e9 / (double)o->bytes_per_second);
    return disk->busy_until_ns - now + drawn;
}

/* Takes a write's payload from the caller, if that has not been done yet. */
static void capture(struct sim_io *io, uint64_t length) {
    if (io->write != NULL && !io->write->filled)
        sim_write_fill(io->write, io->request->slices, io->request->slice_count, length);
}

/* A write that ends at the end of a device, or where the space ends, is cut or refused; -errno or the length that fits. */
static int64_t fit(struct sim_disk *disk, const struct sim_io *io) {
    if (disk->options.block_device)
        return (int64_t)min_u64(io->length, disk->current->size - io->offset);
    if (!disk->full && disk->options.space == 0)
        return (int64_t)io->length;
    uint64_t absent = 0;
    for (uint64_t n = io->offset / SIM_PAGE_SIZE; n < divide_up(io->offset + io->length, SIM_PAGE_SIZE); n++) {
        bool present;
        sim_layer_page(disk->current, n, &present);
        absent += present ? 0 : SIM_PAGE_SIZE;
    }
    if (absent > 0 && (disk->full || disk->allocated + absent > disk->options.space))
        return -ENOSPC;
    if (disk->options.space != 0)
        disk->allocated += absent;
    return (int64_t)io->length;
}

void sim_disk_start(struct sim_disk *disk, struct sim_io *io) {
    struct sim *sim = disk->sim;
    io->handed_over = true;
    io->event.run = land;
    list_push_back(&disk->in_flight, &io->of_disk);
    disk->stats.requests[io->op]++;
    sim_note(sim, SIM_TRACE_SUBMIT, disk->id << 8 | io->op, io->offset ^ io->length << 40);
    io->fail = refuse(disk, io);
    const struct sim_disk_fault *fault = io->fail == 0 ? fault_for(disk, io) : NULL;
    uint64_t delay = latency(disk, io);
    if (fault != NULL && fault->action == SIM_FAULT_FAIL)
        io->fail = fault->error == 0 ? -EIO : fault->error;
    if (fault != NULL && fault->action == SIM_FAULT_DELAY)
        delay += fault->delay_ns;
    if (changes(io->op) && (io->fail == 0 || fault != NULL)) {
        int64_t fits = io->op == HOST_FILE_WRITE ? fit(disk, io) : (int64_t)io->length;
        if (fits < 0) {
            io->fail = (int)fits;
        } else {
            io->write = sim_write_create(sim, io->op, io->offset, (uint64_t)fits);
            if (io->op == HOST_FILE_PUNCH && disk->options.block_device)
                io->write->punch = random_u64(&sim->random) | 1;
            /* the device reads the caller's memory at any time between submission and completion */
            if (sim_one_in(sim, 2))
                capture(io, io->write->length);
            if (disk->record != NULL)
                sim_record_write(disk->record, io->write);
        }
    }
    if (io->op == HOST_FILE_SYNC && disk->record != NULL)
        io->sync_index = sim_record_sync(disk->record, io->mark);
    io->tell_at_ns = sim->now_ns + delay;
    io->hung = fault != NULL && fault->action == SIM_FAULT_HANG;
    if (!io->hung) /* one in 4 lands well before it is told */
        sim_event_at(sim, &io->event,
                     sim_one_in(sim, 4) ? sim_draw(sim, sim->now_ns + delay / 4, io->tell_at_ns) : io->tell_at_ns);
}

static int64_t land_read(struct sim_disk *disk, struct sim_io *io) {
    uint64_t size = disk->current->size;
    uint64_t length = io->offset >= size ? 0 : min_u64(io->length, size - io->offset);
    if (range_is_bad(disk, io->offset, length))
        return -EIO;
    if (io->request == NULL) /* nobody waits for it any more */
        return (int64_t)length;
    uint64_t done = 0;
    for (uint32_t i = 0; i < io->request->slice_count && done < length; i++) {
        const struct slice *slice = &io->request->slices[i];
        uint64_t part = min_u64(slice->length, length - done);
        sim_layer_read(disk->current, io->offset + done, slice->base, (size_t)part);
        done += part;
    }
    disk->stats.bytes_read += length;
    return (int64_t)length;
}

/* The pending write at the head of the cache is written back. */
static void write_back(struct sim_disk *disk) {
    while (disk->pending.count > PENDING_MAX) {
        uint64_t mark = 0;
        for (uint32_t i = 0; i < PENDING_MAX / 4; i++)
            mark = max_u64(mark, disk->pending.writes[i]->completed);
        uint32_t before = disk->pending.count;
        sim_outstanding_sync(&disk->pending, disk->stable, mark);
        if (disk->pending.count == before)
            return;
    }
}

static void land_write(struct sim_disk *disk, struct sim_io *io, struct sim_survival survival) {
    struct sim_write *write = io->write;
    if (io->request != NULL)
        capture(io, write->length);
    sim_write_apply(write, disk->current, survival, disk->options.power_fail_unit);
    if (disk->options.space != 0 && io->op != HOST_FILE_WRITE)
        disk->allocated = sim_layer_allocated(disk->current);
    if (io->op == HOST_FILE_WRITE)
        disk->stats.bytes_written += write->length;
    if (io->fail != 0 || disk->options.write_through) {
        /* what a failed write has changed is on the medium: one of the fates that it may have */
        sim_write_apply(write, disk->stable, survival, disk->options.power_fail_unit);
    } else {
        heal(disk, write->offset, write->length);
        sim_outstanding_push(&disk->pending, disk->sim, sim_write_ref(write));
        write_back(disk);
    }
    if (disk->record != NULL && disk->record == write->record)
        sim_record_note(disk->record, SIM_RECORD_LANDED, write->index);
}

static struct sim_survival draw_torn(struct sim *sim, uint32_t units) {
    static const enum sim_survival_kind kinds[] = {SIM_TORN_PREFIX, SIM_TORN_SUFFIX, SIM_TORN_SEEDED, SIM_TORN_MASK};
    enum sim_survival_kind kind = kinds[random_below(&sim->random, array_count(kinds))];
    bool counted = kind == SIM_TORN_PREFIX || kind == SIM_TORN_SUFFIX;
    return (struct sim_survival){kind, counted ? random_below(&sim->random, (uint64_t)units + 1) : random_u64(&sim->random)};
}

/* A failed write: nothing, a part or all of it is there. */
static struct sim_survival draw_failed(struct sim *sim, uint32_t units) {
    switch (random_below(&sim->random, 3)) {
    case 0: return (struct sim_survival){.kind = SIM_LOST};
    case 1: return (struct sim_survival){.kind = SIM_KEPT};
    default: return draw_torn(sim, units);
    }
}

static bool pages_covered(const struct sim_outstanding *writes, uint64_t number) {
    for (uint32_t i = 0; i < writes->count; i++)
        if (writes->writes[i]->offset < (number + 1) * SIM_PAGE_SIZE &&
            number * SIM_PAGE_SIZE < writes->writes[i]->offset + writes->writes[i]->length)
            return true;
    return false;
}

/* The kernel forgets the pages that it could not write: reads show the medium again, but where newer writes are pending. */
static void evict_phantoms(struct sim_disk *disk) {
    for (uint32_t i = 0; i < disk->phantoms.count; i++)
        for (const struct sim_piece *piece = disk->phantoms.writes[i]->pieces; piece != NULL; piece = piece->next)
            if (!pages_covered(&disk->pending, piece->number))
                sim_layer_copy_page(disk->current, disk->stable, piece->number);
    sim_outstanding_clear(&disk->phantoms);
}

/* A failed sync: dirty pages are dropped, some after they reached the medium, and no later sync writes them. Those that another
 * sync under way has promised stay. */
static void drop_dirty(struct sim_disk *disk, const struct sim_io *sync) {
    struct sim *sim = disk->sim;
    uint64_t promised = 0;
    list_for_each (&disk->in_flight, struct sim_io, io, of_disk)
        if (io != sync && io->op == HOST_FILE_SYNC && !io->landed)
            promised = max_u64(promised, io->mark);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->pending.count; i++) {
        struct sim_write *write = disk->pending.writes[i];
        if (write->completed == 0 || write->completed <= promised || write->truncate) {
            disk->pending.writes[kept++] = write;
            continue;
        }
        if (sim_one_in(sim, 2))
            sim_write_apply(write, disk->stable,
                            sim_one_in(sim, 2) ? (struct sim_survival){.kind = SIM_KEPT}
                                               : draw_torn(sim, sim_write_units(write, disk->options.power_fail_unit)),
                            disk->options.power_fail_unit);
        write->completed = UINT64_MAX; /* no later sync covers it, in the record neither */
        sim_outstanding_push(&disk->phantoms, sim, write);
    }
    disk->pending.count = kept;
}

static void land_sync(struct sim_disk *disk, struct sim_io *io) {
    if (io->fail != 0) {
        drop_dirty(disk, io);
        return;
    }
    sim_outstanding_sync(&disk->pending, disk->stable, io->mark);
    if (disk->record != NULL && io->sync_index != UINT32_MAX)
        sim_record_note(disk->record, SIM_RECORD_SYNCED, io->sync_index);
}

static void tell(struct sim_told *told) {
    struct sim_io *io = container_of(told, struct sim_io, told);
    struct host_file_request *request = io->request;
    int64_t result = io->result;
    sim_disk_told(io->file->disk, io);
    request->result = result;
    request->complete(request);
}

void sim_disk_told(struct sim_disk *disk, struct sim_io *io) {
    struct sim_write *write = io->write;
    if (write != NULL && io->landed) {
        if (io->result >= 0 && write->completed == 0) {
            write->completed = ++disk->completions;
            if (disk->record != NULL && disk->record == write->record)
                sim_record_note(disk->record, SIM_RECORD_COMPLETED, write->index);
        }
    }
    if (write != NULL)
        sim_write_unref(write);
    if (io->result < 0)
        disk->stats.failed[io->op]++;
    if (io->result < 0 && io->op == HOST_FILE_SYNC && sim_one_in(disk->sim, 2))
        evict_phantoms(disk); /* not before the failure is told: what was read until then may still be trusted */
    sim_note(disk->sim, SIM_TRACE_COMPLETE, disk->id << 8 | io->op, (uint64_t)io->result);
    list_remove(&io->of_disk);
    struct sim_file *file = io->file;
    file->in_flight--;
    if (io->request != NULL) {
        list_remove(&io->of_process);
        io->process->request_count--;
        io->loop->request_count--;
    } else if (file->process == NULL && file->in_flight == 0) {
        sim_file_free(file);
    }
    sim_pool_give(&disk->sim->ios, io);
}

/* First call: it takes effect. Later call, or the same one: the completion goes to its loop. */
static void land(struct sim_event *event) {
    struct sim_io *io = container_of(event, struct sim_io, event);
    struct sim_disk *disk = io->file->disk;
    struct sim *sim = disk->sim;
    if (!io->landed) {
        disk->stats.ghosts += io->request == NULL;
        sim_note(sim, SIM_TRACE_LAND, disk->id << 8 | io->op, io->offset);
        if (disk->dead && io->fail == 0)
            io->fail = -EIO;
        io->result = io->fail;
        if (io->op == HOST_FILE_SYNC)
            land_sync(disk, io);
        else if (io->op == HOST_FILE_READ)
            io->result = io->fail != 0 ? io->fail : land_read(disk, io);
        else if (io->write != NULL) {
            land_write(disk, io,
                       io->fail == 0 ? (struct sim_survival){.kind = SIM_KEPT}
                                     : draw_failed(sim, sim_write_units(io->write, disk->options.power_fail_unit)));
            io->result = io->fail != 0 ? io->fail : io->op == HOST_FILE_WRITE ? (int64_t)io->write->length : 0;
        }
        io->landed = true;
        if (io->request != NULL && io->tell_at_ns > sim->now_ns) {
            sim_event_at(sim, event, io->tell_at_ns);
            return;
        }
    }
    if (io->request == NULL) {
        sim_disk_told(disk, io);
        return;
    }
    io->told.tell = tell;
    sim_loop_tell(io->loop, &io->told);
}

void sim_io_orphan(struct sim_io *io) {
    if (!io->landed && io->write != NULL)
        capture(io, io->write->length);
    list_remove(&io->of_process);
    bool was_told = list_linked(&io->told.node);
    if (was_told)
        list_remove(&io->told.node);
    io->request = NULL;
    io->loop = NULL;
    io->process = NULL;
    if (io->landed && !sim_event_armed(&io->event)) /* its completion was on the way to the loop */
        sim_disk_told(io->file->disk, io);
}

int sim_disk_truncate(struct sim_disk *disk, uint64_t bytes) {
    if (disk->dead)
        return -EIO;
    if (disk->options.block_device)
        return -EINVAL;
    uint64_t size = disk->current->size;
    if (bytes == size)
        return 0;
    struct sim_write *write =
        sim_write_create(disk->sim, HOST_FILE_ZERO, min_u64(size, bytes), max_u64(size, bytes) - min_u64(size, bytes));
    write->truncate = true;
    write->grow = bytes > size;
    if (disk->record != NULL)
        sim_record_write(disk->record, write);
    sim_write_apply(write, disk->current, (struct sim_survival){.kind = SIM_KEPT}, disk->options.power_fail_unit);
    write->completed = ++disk->completions;
    if (disk->record != NULL) {
        sim_record_note(disk->record, SIM_RECORD_LANDED, write->index);
        sim_record_note(disk->record, SIM_RECORD_COMPLETED, write->index);
    }
    sim_outstanding_push(&disk->pending, disk->sim, write);
    return 0;
}

/* ---- power ---- */

/* One cut has one temper: all kept, all lost, the oldest kept, or each by itself; some torn. */
struct drawn_cut {
    struct sim *sim;
    uint64_t temper, kept;
};

static struct sim_survival draw_survival(struct drawn_cut *cut, uint32_t units) {
    if (cut->temper >= 3 && sim_one_in(cut->sim, 4))
        return draw_torn(cut->sim, units);
    bool kept = cut->temper == 0 ? false : cut->temper == 1 ? true : cut->temper == 2 ? cut->kept > 0 : sim_one_in(cut->sim, 2);
    cut->kept -= cut->kept > 0;
    return (struct sim_survival){.kind = kept ? SIM_KEPT : SIM_LOST};
}

static void cut_one(struct sim_disk *disk, const struct sim_write *write, struct drawn_cut *drawn,
                    struct sim_survival (*choose)(void *arg, const struct sim_write_facts *write), void *arg) {
    uint32_t units = sim_write_units(write, disk->options.power_fail_unit);
    struct sim_write_facts facts = {
        .op = write->op, .offset = write->offset, .length = write->length, .units = units, .completed = write->completed != 0};
    struct sim_survival survival = choose != NULL ? choose(arg, &facts) : draw_survival(drawn, units);
    sim_write_apply(write, disk->stable, survival, disk->options.power_fail_unit);
}

void sim_disk_power_cut(struct sim_disk *disk, struct sim_survival (*choose)(void *arg, const struct sim_write_facts *write),
                        void *arg) {
    struct sim *sim = disk->sim;
    struct drawn_cut drawn = {sim, random_below(&sim->random, 6), random_below(&sim->random, disk->pending.count + 4)};
    sim_note(sim, SIM_TRACE_POWER, disk->id, disk->pending.count);
    for (uint32_t i = 0; i < disk->pending.count; i++)
        cut_one(disk, disk->pending.writes[i], &drawn, choose, arg);
    sim_outstanding_clear(&disk->pending);
    sim_outstanding_clear(&disk->phantoms);
    while (!list_empty(&disk->in_flight)) {
        struct sim_io *io = list_entry(list_first(&disk->in_flight), struct sim_io, of_disk);
        assert(io->request == NULL && "power cut under a living process");
        if (io->write != NULL && !io->landed)
            cut_one(disk, io->write, &drawn, choose, arg);
        sim_event_cancel(sim, &io->event);
        io->result = 0;
        io->landed = false;
        sim_disk_told(disk, io);
    }
    sim_layer_copy(disk->current, disk->stable);
    disk->busy_until_ns = 0;
    if (disk->record != NULL)
        sim_record_stop(disk->record);
}

/* A disk that stands outside keeps its power while a process elsewhere uses it. */
static bool used_elsewhere(const struct sim_disk *disk) {
    list_for_each (&disk->files, struct sim_file, file, of_disk)
        if (file->process != NULL)
            return true;
    return false;
}

void sim_disks_power_cut(struct sim_node *node) {
    list_for_each (&node->paths, struct sim_path, path, node)
        if (!used_elsewhere(path->disk))
            sim_disk_power_cut(path->disk, NULL, NULL);
}

void sim_disks_destroy(struct sim *sim) {
    sim_records_destroy(sim);
    while (!list_empty(&sim->disk_list)) {
        struct sim_disk *disk = list_entry(list_first(&sim->disk_list), struct sim_disk, of_sim);
        while (!list_empty(&disk->in_flight)) {
            struct sim_io *io = list_entry(list_first(&disk->in_flight), struct sim_io, of_disk);
            sim_event_cancel(sim, &io->event);
            io->landed = false;
            sim_disk_told(disk, io);
        }
        sim_disk_destroy(disk);
    }
    sim_layers_fini(sim);
}
