#include "disk.h"

#include <stdio.h>

#include "world.h"

#define NEVER UINT32_MAX

struct disk_page {
    struct disk_page *next;
    const struct disk_image *owner; /* the image that may change it in place; NULL = a log's, never changed */
    uint8_t bytes[DISK_PAGE_SIZE];
};

/* A request under way. */
struct disk_operation {
    struct list_node node;
    struct reactor_timer timer;
    struct disk *disk;
    struct block_request *request;
    uint32_t write, flush; /* indices in the log */
    bool landed, planted;  /* planted: a fault of fail_at */
    enum io_status status;
};

/* ---- images ---- */

static struct disk_page *page_new(struct disk_page **chain, const struct disk_image *owner) {
    struct disk_page *page = plain_alloc(sizeof(*page));
    page->next = *chain;
    page->owner = owner;
    *chain = page;
    return page;
}

static void chain_free(struct disk_page *chain) {
    while (chain != NULL) {
        struct disk_page *next = chain->next;
        plain_free(chain);
        chain = next;
    }
}

void disk_image_init(struct disk_image *image, uint64_t size) {
    assert(size % DISK_PAGE_SIZE == 0 && size > 0);
    image->page_count = (uint32_t)(size / DISK_PAGE_SIZE);
    image->pages = plain_alloc(image->page_count * sizeof(struct disk_page *));
    memset(image->pages, 0, image->page_count * sizeof(struct disk_page *));
    image->owned = NULL;
}

void disk_image_copy(struct disk_image *image, const struct disk_image *from) {
    image->page_count = from->page_count;
    image->pages = plain_alloc(image->page_count * sizeof(struct disk_page *));
    memcpy(image->pages, from->pages, image->page_count * sizeof(struct disk_page *));
    image->owned = NULL;
}

/* New pages are `fill`, which lives longer. */
static void image_grow(struct disk_image *image, uint32_t page_count, struct disk_page *fill) {
    image->pages = plain_grow(image->pages, page_count * sizeof(struct disk_page *));
    while (image->page_count < page_count)
        image->pages[image->page_count++] = fill;
}

void disk_image_fini(struct disk_image *image) {
    chain_free(image->owned);
    plain_free(image->pages);
    *image = (struct disk_image){0};
}

void disk_image_read(const struct disk_image *image, uint64_t offset, void *to, uint64_t length) {
    for (uint8_t *at = to; length > 0;) {
        uint64_t in = offset % DISK_PAGE_SIZE, n = min_u64(length, DISK_PAGE_SIZE - in);
        const struct disk_page *page = image->pages[offset / DISK_PAGE_SIZE];
        if (page == NULL)
            memset(at, 0, n);
        else
            memcpy(at, page->bytes + in, n);
        at += n, offset += n, length -= n;
    }
}

/* The page's bytes, the image's own to change; `whole`: the caller overwrites all of them. */
static uint8_t *page_own(struct disk_image *image, uint64_t index, bool whole) {
    struct disk_page *old = image->pages[index];
    if (old != NULL && old->owner == image)
        return old->bytes;
    struct disk_page *page = page_new(&image->owned, image);
    if (!whole && old != NULL)
        memcpy(page->bytes, old->bytes, DISK_PAGE_SIZE);
    else if (!whole)
        memset(page->bytes, 0, DISK_PAGE_SIZE);
    image->pages[index] = page;
    return page->bytes;
}

void disk_image_write(struct disk_image *image, uint64_t offset, const void *from, uint64_t length) {
    for (const uint8_t *at = from; length > 0;) {
        uint64_t in = offset % DISK_PAGE_SIZE, n = min_u64(length, DISK_PAGE_SIZE - in);
        memcpy(page_own(image, offset / DISK_PAGE_SIZE, n == DISK_PAGE_SIZE) + in, at, n);
        at += n, offset += n, length -= n;
    }
}

static void image_fill(struct disk_image *image, uint64_t offset, int byte, uint64_t length) {
    while (length > 0) {
        uint64_t in = offset % DISK_PAGE_SIZE, n = min_u64(length, DISK_PAGE_SIZE - in);
        if (n == DISK_PAGE_SIZE && byte == 0)
            image->pages[offset / DISK_PAGE_SIZE] = NULL;
        else
            memset(page_own(image, offset / DISK_PAGE_SIZE, n == DISK_PAGE_SIZE) + in, byte, n);
        offset += n, length -= n;
    }
}

void disk_image_clone(struct disk_image *image, const struct disk_image *from) {
    disk_image_init(image, (uint64_t)from->page_count * DISK_PAGE_SIZE);
    for (uint32_t i = 0; i < from->page_count; i++)
        if (from->pages[i] != NULL)
            memcpy(page_own(image, i, true), from->pages[i]->bytes, DISK_PAGE_SIZE);
}

uint64_t disk_image_hash(const struct disk_image *image) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < image->page_count; i++)
        if (image->pages[i] != NULL)
            hash += hash_u64(hash_bytes(image->pages[i]->bytes, DISK_PAGE_SIZE, i));
    return hash;
}

/* Puts bytes [from, to) of the disk, a part of the write, into the image. */
static void apply_range(struct disk_image *image, const struct disk_write *write, uint64_t from, uint64_t to) {
    if (write->fill >= 0) {
        image_fill(image, from, write->fill, to - from);
        return;
    }
    uint64_t index = write->offset / DISK_PAGE_SIZE;
    for (struct disk_page *page = write->pages; page != NULL; page = page->next, index++) {
        uint64_t start = max_u64(index * DISK_PAGE_SIZE, from), end = min_u64((index + 1) * DISK_PAGE_SIZE, to);
        if (start >= end)
            continue;
        if (end - start == DISK_PAGE_SIZE)
            image->pages[index] = page;
        else
            memcpy(page_own(image, index, false) + start % DISK_PAGE_SIZE, page->bytes + start % DISK_PAGE_SIZE, end - start);
    }
}

static void apply(struct disk_image *image, const struct disk_write *write, struct disk_keep keep, uint32_t unit) {
    uint64_t start = write->offset, end = write->offset + write->length, first = start / unit;
    switch (keep.kind) {
    case DISK_LOST: return;
    case DISK_KEPT: apply_range(image, write, start, end); return;
    case DISK_TORN_PREFIX: apply_range(image, write, start, min_u64(end, (first + keep.value) * unit)); return;
    case DISK_TORN_SUFFIX:
        if (keep.value < write->units)
            start = (first + write->units - keep.value) * unit;
        apply_range(image, write, start, end);
        return;
    case DISK_TORN_SEEDED:
        for (uint32_t i = 0; i < write->units; i++)
            if ((hash_u64(keep.value + i) & 1) != 0)
                apply_range(image, write, max_u64(start, (first + i) * unit), min_u64(end, (first + i + 1) * unit));
        return;
    }
}

/* ---- the log ---- */

static uint32_t event(struct disk *disk, enum disk_event_kind kind, uint32_t index) {
    struct disk_log *log = &disk->log;
    if (!disk->logging)
        return log->event_count++; /* time goes on */
    if (log->event_count == log->event_capacity) {
        log->event_capacity = log->event_capacity == 0 ? 256 : log->event_capacity * 2;
        log->events = plain_grow(log->events, log->event_capacity * sizeof(struct disk_event));
    }
    log->events[log->event_count] = (struct disk_event){.kind = kind, .index = index};
    return log->event_count++;
}

uint32_t disk_mark(struct disk *disk) { return event(disk, DISK_MARK, 0); }

static struct disk_write *write_new(struct disk *disk) {
    struct disk_log *log = &disk->log;
    if (log->write_count == log->write_capacity) {
        log->write_capacity = log->write_capacity == 0 ? 128 : log->write_capacity * 2;
        log->writes = plain_grow(log->writes, log->write_capacity * sizeof(struct disk_write));
    }
    return &log->writes[log->write_count++];
}

static uint32_t units_of(const struct disk *disk, uint64_t offset, uint64_t length) {
    uint32_t unit = disk->options.power_fail_unit;
    return (uint32_t)(divide_up(offset + length, unit) - offset / unit);
}

static void log_write(struct disk *disk, struct disk_operation *operation) {
    const struct block_request *request = operation->request;
    struct disk_write *write = write_new(disk);
    operation->write = disk->log.write_count - 1;
    *write = (struct disk_write){.offset = request->offset,
                                 .length = request->length,
                                 .units = units_of(disk, request->offset, request->length),
                                 .fua = (request->flags & BLOCK_FUA) != 0 || disk->options.write_through,
                                 .fill = request->op == BLOCK_WRITE          ? -1
                                         : request->op == BLOCK_WRITE_ZEROES ? 0
                                                                             : DISK_POISON,
                                 .landed = NEVER,
                                 .completed = NEVER,
                                 .dropped = NEVER};
    struct disk_page **last = &write->pages;
    for (uint64_t done = 0; write->fill < 0 && done < request->length;) {
        uint64_t in = (request->offset + done) % DISK_PAGE_SIZE, n = min_u64(request->length - done, DISK_PAGE_SIZE - in);
        struct disk_page *page = page_new(last, NULL);
        slice_copy_out(request->slices, request->slice_count, done, page->bytes + in, n);
        page->next = NULL;
        last = &page->next;
        done += n;
    }
    event(disk, DISK_SUBMITTED, operation->write);
}

static uint32_t log_flush(struct disk *disk) {
    struct disk_log *log = &disk->log;
    if (!disk->logging)
        return 0;
    if (log->flush_count == log->flush_capacity) {
        log->flush_capacity = log->flush_capacity == 0 ? 64 : log->flush_capacity * 2;
        log->flushes = plain_grow(log->flushes, log->flush_capacity * sizeof(uint32_t));
    }
    log->flushes[log->flush_count] = event(disk, DISK_FLUSH, log->flush_count);
    return log->flush_count++;
}

void disk_inherit(struct disk *disk, const struct disk_write *write) {
    struct disk_write *copy = write_new(disk);
    *copy = *write;
    copy->pages = NULL;
    struct disk_page **last = &copy->pages;
    for (const struct disk_page *from = write->pages; from != NULL; from = from->next) {
        struct disk_page *page = page_new(last, NULL);
        memcpy(page->bytes, from->bytes, DISK_PAGE_SIZE);
        page->next = NULL;
        last = &page->next;
    }
    copy->dropped = NEVER;
    event(disk, DISK_SUBMITTED, disk->log.write_count - 1);
    copy->landed = event(disk, DISK_LANDED, disk->log.write_count - 1);
    copy->completed = event(disk, DISK_COMPLETED, disk->log.write_count - 1);
    apply(&disk->now, copy, (struct disk_keep){DISK_KEPT, 0}, disk->options.power_fail_unit);
}

/* ---- the device ---- */

static void land(struct disk_operation *operation) {
    struct disk *disk = operation->disk;
    struct block_request *request = operation->request;
    operation->landed = true;
    if (disk->logging) {
        struct disk_write *write = &disk->log.writes[operation->write];
        write->landed = event(disk, DISK_LANDED, operation->write);
        apply(&disk->now, write, (struct disk_keep){DISK_KEPT, 0}, disk->options.power_fail_unit);
        return;
    }
    if (request->op != BLOCK_WRITE) {
        image_fill(&disk->now, request->offset, request->op == BLOCK_TRIM ? DISK_POISON : 0, request->length);
        return;
    }
    for (uint64_t done = 0; done < request->length;) {
        uint64_t offset = request->offset + done, in = offset % DISK_PAGE_SIZE;
        uint64_t n = min_u64(request->length - done, DISK_PAGE_SIZE - in);
        uint8_t *to = page_own(&disk->now, offset / DISK_PAGE_SIZE, n == DISK_PAGE_SIZE);
        slice_copy_out(request->slices, request->slice_count, done, to + in, n);
        done += n;
    }
}

static void read_now(const struct disk *disk, struct block_request *request) {
    for (uint64_t done = 0; done < request->length;) {
        uint64_t offset = request->offset + done, in = offset % DISK_PAGE_SIZE;
        uint64_t n = min_u64(request->length - done, DISK_PAGE_SIZE - in);
        const struct disk_page *page = disk->now.pages[offset / DISK_PAGE_SIZE];
        if (page == NULL)
            slice_fill(request->slices, request->slice_count, done, 0, n);
        else
            slice_copy_in(request->slices, request->slice_count, done, page->bytes + in, n);
        done += n;
    }
}

/* The kernel has marked the pages clean: nothing that was complete by now will ever be made durable by a later flush. */
static void drop_dirty(struct disk *disk, uint32_t flush) {
    uint32_t at = event(disk, DISK_FLUSH_FAILED, flush);
    for (uint32_t i = 0; i < disk->log.write_count; i++) {
        struct disk_write *write = &disk->log.writes[i];
        if (write->completed != NEVER && write->dropped == NEVER)
            write->dropped = at;
    }
}

static enum disk_fault fault_kind(const struct block_request *request) {
    switch ((enum block_op)request->op) {
    case BLOCK_READ: return DISK_FAULT_READ;
    case BLOCK_FLUSH: return DISK_FAULT_FLUSH;
    case BLOCK_TRIM: return DISK_FAULT_TRIM;
    default: return DISK_FAULT_WRITE;
    }
}

static void finish(struct disk_operation *operation) {
    struct disk *disk = operation->disk;
    struct block_request *request = operation->request;
    enum io_status status = operation->status;
    disk->failed[fault_kind(request)] += operation->planted;
    bool writes = request->op == BLOCK_WRITE || request->op == BLOCK_TRIM || request->op == BLOCK_WRITE_ZEROES;
    if (writes && !operation->landed && status != IO_NO_SPACE && (status == IO_OK || random_chance(&disk->random, 1, 2)))
        land(operation);
    if (writes && status == IO_OK && disk->logging)
        disk->log.writes[operation->write].completed = event(disk, DISK_COMPLETED, operation->write);
    if (writes && status != IO_OK && disk->logging)
        event(disk, DISK_FAILED, operation->write);
    if (request->op == BLOCK_READ && status == IO_OK)
        read_now(disk, request);
    if (request->op == BLOCK_FLUSH && disk->logging) {
        if (status == IO_OK)
            event(disk, DISK_FLUSHED, operation->flush);
        else
            drop_dirty(disk, operation->flush);
    }
    list_remove(&operation->node);
    operation->node.next = (struct list_node *)(void *)disk->free;
    disk->free = operation;
    block_complete(request, status);
}

static void timer_run(struct reactor_timer *timer) { finish(container_of(timer, struct disk_operation, timer)); }

static enum io_status fate(struct disk *disk, const struct block_request *request, bool *ret_planted) {
    static const enum io_status natural[] = {IO_MEDIUM_READ, IO_MEDIUM_WRITE, IO_MEDIUM_WRITE, IO_MEDIUM_WRITE};
    enum disk_fault kind = fault_kind(request);
    uint64_t number = ++disk->requests[kind];
    if (disk->fail_at[kind] != 0 && number >= disk->fail_at[kind] && number - disk->fail_at[kind] < disk->fail_count[kind]) {
        *ret_planted = true;
        return disk->fail_status != IO_OK ? disk->fail_status : natural[kind];
    }
    if (kind == DISK_FAULT_READ && request->offset < disk->bad_offset + disk->bad_length &&
        disk->bad_offset < request->offset + request->length)
        return IO_MEDIUM_READ;
    if (kind == DISK_FAULT_WRITE && disk->page_limit != 0) {
        uint64_t first = request->offset / DISK_PAGE_SIZE, end = divide_up(request->offset + request->length, DISK_PAGE_SIZE);
        uint64_t fresh = 0;
        for (uint64_t i = first; i < end; i++)
            fresh += disk->now.pages[i] == NULL;
        if (disk->pages_used + fresh > disk->page_limit)
            return IO_NO_SPACE;
        disk->pages_used += fresh;
    }
    return IO_OK;
}

static void submit(struct block_channel *channel, struct block_request *request) {
    struct disk *disk = container_of(block_channel_device(channel), struct disk, device);
    struct disk_operation *operation = disk->free;
    if (operation != NULL)
        disk->free = (struct disk_operation *)(void *)operation->node.next;
    else
        operation = plain_alloc(sizeof(*operation));
    *operation = (struct disk_operation){.timer.run = timer_run, .disk = disk, .request = request};
    operation->status = fate(disk, request, &operation->planted);
    list_push_back(&disk->running, &operation->node);
    uint64_t longest = disk->options.write_ns;
    switch ((enum block_op)request->op) {
    case BLOCK_READ:
        longest = disk->options.read_ns;
        disk->bytes_read += request->length;
        break;
    case BLOCK_FLUSH:
        longest = disk->options.flush_ns;
        operation->flush = log_flush(disk);
        break;
    default:
        disk->bytes_written += request->length;
        if (disk->logging)
            log_write(disk, operation);
        if (operation->status == IO_OK && random_chance(&disk->random, 1, 2))
            land(operation);
    }
    const struct disk_options *options = &disk->options;
    uint64_t delay = longest / 4 + random_below(&disk->random, longest - longest / 4 + 1);
    if (options->slow_one_in != 0 && fault_kind(request) == DISK_FAULT_WRITE && request->offset >= options->slow_from &&
        request->offset < options->slow_to && random_chance(&disk->random, 1, options->slow_one_in))
        delay *= options->slow_factor;
    reactor_timer_start(disk->world->reactor, &operation->timer, disk->world->now_ns + delay);
}

void disk_grow(struct disk *disk, uint64_t bytes) {
    uint32_t page_count = (uint32_t)(bytes / DISK_PAGE_SIZE);
    assert(page_count >= disk->now.page_count);
    if (disk->poison == NULL) {
        page_new(&disk->poison, NULL);
        memset(disk->poison->bytes, DISK_POISON, DISK_PAGE_SIZE);
    }
    image_grow(&disk->now, page_count, disk->poison);
    event(disk, DISK_GROWN, page_count);
    block_device_set_size(&disk->device, bytes / disk->options.block_size);
}

static void device_destroy(struct block_device *device) { (void)device; }

static const struct block_device_ops ops = {
    .kind = "test_disk", .product_name = "Test disk", .submit = submit, .destroy = device_destroy};

struct disk *disk_create(struct world *world, struct block_graph *graph, const struct disk_options *options,
                         const struct disk_image *image, uint64_t seed, bool logging) {
    struct disk *disk = plain_alloc(sizeof(*disk));
    *disk = (struct disk){.options = *options, .world = world, .logging = logging};
    disk_image_copy(&disk->now, image);
    if (logging)
        disk_image_copy(&disk->base, image);
    list_init(&disk->running);
    random_init(&disk->random, seed);
    for (int i = 0; i < DISK_FAULT_COUNT; i++)
        disk->fail_count[i] = 1;
    struct block_device *device = &disk->device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "disk");
    device->block_size = options->block_size;
    device->physical_block_size = options->power_fail_unit;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_WRITE_ZEROES) |
                         (options->no_trim ? 0 : BLOCK_BIT(BLOCK_TRIM));
    device->native_fua = options->native_fua;
    device->volatile_cache = !options->write_through;
    device->block_count = (uint64_t)image->page_count * DISK_PAGE_SIZE / options->block_size;
    device->uuid.bytes[0] = 0xd1;
    struct error error;
    bool registered = block_device_register(graph, device, &error);
    assert(registered);
    return disk;
}

void disk_destroy(struct disk *disk) {
    for (struct list_node *node; (node = list_pop_front(&disk->running)) != NULL;)
        plain_free(container_of(node, struct disk_operation, node));
    while (disk->free != NULL) {
        struct disk_operation *operation = disk->free;
        disk->free = (struct disk_operation *)(void *)operation->node.next;
        plain_free(operation);
    }
    for (uint32_t i = 0; i < disk->log.write_count; i++)
        chain_free(disk->log.writes[i].pages);
    plain_free(disk->log.writes);
    plain_free(disk->log.events);
    plain_free(disk->log.flushes);
    disk_image_fini(&disk->now);
    disk_image_fini(&disk->base);
    chain_free(disk->poison);
    plain_free(disk);
}

/* ---- cuts ---- */

void disk_cursor_init(struct disk_cursor *cursor, const struct disk *disk) {
    *cursor = (struct disk_cursor){.disk = disk, .changed = true};
    disk_image_copy(&cursor->durable, &disk->base);
}

void disk_cursor_fini(struct disk_cursor *cursor) {
    disk_image_fini(&cursor->durable);
    plain_free(cursor->outstanding);
}

static const struct disk_write *write_at(const struct disk_cursor *cursor, uint32_t slot) {
    return &cursor->disk->log.writes[cursor->outstanding[slot]];
}

static bool has_landed(const struct disk_cursor *cursor, const struct disk_write *write) {
    return write->landed < cursor->position;
}

static void outstanding_add(struct disk_cursor *cursor, uint32_t index) {
    if (cursor->outstanding_count == cursor->outstanding_capacity) {
        cursor->outstanding_capacity = cursor->outstanding_capacity == 0 ? 64 : cursor->outstanding_capacity * 2;
        cursor->outstanding = plain_grow(cursor->outstanding, cursor->outstanding_capacity * sizeof(uint32_t));
    }
    cursor->outstanding[cursor->outstanding_count++] = index;
}

/* The write goes behind all that have landed before it. */
static void outstanding_landed(struct disk_cursor *cursor, uint32_t index) {
    uint32_t from = 0, to = 0;
    while (cursor->outstanding[from] != index)
        from++;
    while (to < from && write_at(cursor, to)->landed < cursor->disk->log.writes[index].landed)
        to++;
    memmove(&cursor->outstanding[to + 1], &cursor->outstanding[to], (from - to) * sizeof(uint32_t));
    cursor->outstanding[to] = index;
}

static void outstanding_drop(struct disk_cursor *cursor, uint32_t index) {
    uint32_t at = 0;
    while (cursor->outstanding[at] != index)
        at++;
    cursor->outstanding_count--;
    memmove(&cursor->outstanding[at], &cursor->outstanding[at + 1], (cursor->outstanding_count - at) * sizeof(uint32_t));
}

static bool overlaps(const struct disk_write *a, const struct disk_write *b) {
    return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

/* Moves the chosen writes to the medium, in order of landing. What landed before one of them on the same bytes goes with it: the
 * cache holds one value only, so an older one can no longer come back. */
static void make_durable(struct disk_cursor *cursor, bool (*covered)(const struct disk_write *, uint32_t a, uint32_t b),
                         uint32_t a, uint32_t b) {
    uint32_t kept = 0, count = cursor->outstanding_count;
    bool durable[DISK_OUTSTANDING_MAX];
    assert(count <= DISK_OUTSTANDING_MAX);
    for (uint32_t i = count; i-- > 0;) { /* from the latest, since it goes on from each to those below */
        const struct disk_write *write = write_at(cursor, i);
        durable[i] = covered(write, a, b);
        for (uint32_t j = i + 1; j < count && !durable[i] && has_landed(cursor, write); j++)
            durable[i] = durable[j] && overlaps(write, write_at(cursor, j));
    }
    for (uint32_t i = 0; i < count; i++)
        if (durable[i])
            apply(&cursor->durable, write_at(cursor, i), (struct disk_keep){DISK_KEPT, 0}, cursor->disk->options.power_fail_unit);
        else
            cursor->outstanding[kept++] = cursor->outstanding[i];
    cursor->changed = cursor->changed || kept != count;
    cursor->outstanding_count = kept;
}

static bool covered_by_flush(const struct disk_write *write, uint32_t submitted, uint32_t now) {
    return write->completed < submitted && write->dropped > now;
}
static bool covered_by_itself(const struct disk_write *write, uint32_t completed, uint32_t unused) {
    (void)unused;
    return write->completed == completed;
}

bool disk_cursor_next(struct disk_cursor *cursor) {
    const struct disk_log *log = &cursor->disk->log;
    if (cursor->position == log->event_count)
        return false;
    uint32_t at = cursor->position++;
    const struct disk_event *e = &log->events[at];
    cursor->changed = false;
    switch (e->kind) {
    case DISK_SUBMITTED:
        outstanding_add(cursor, e->index);
        cursor->changed = true;
        break;
    case DISK_LANDED: outstanding_landed(cursor, e->index); break;
    case DISK_COMPLETED:
        if (log->writes[e->index].fua)
            make_durable(cursor, covered_by_itself, at, 0);
        break;
    case DISK_FAILED:
        if (log->writes[e->index].landed == NEVER)
            outstanding_drop(cursor, e->index);
        break;
    case DISK_FLUSHED: make_durable(cursor, covered_by_flush, log->flushes[e->index], at); break;
    case DISK_GROWN:
        image_grow(&cursor->durable, e->index, cursor->disk->poison);
        cursor->changed = true;
        break;
    case DISK_FLUSH:
    case DISK_FLUSH_FAILED:
    case DISK_MARK: break;
    }
    return true;
}

void disk_cursor_image(const struct disk_cursor *cursor, const struct disk_keep *keep, struct disk_image *ret_image) {
    disk_image_copy(ret_image, &cursor->durable);
    for (uint32_t i = 0; keep != NULL && i < cursor->outstanding_count; i++)
        apply(ret_image, write_at(cursor, i), keep[i], cursor->disk->options.power_fail_unit);
}
