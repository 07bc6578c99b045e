/* A simulated disk as a block device, made for crash enumeration: content in shared pages, a volatile write cache, a log of every
 * write, trim and flush with its data, and images of any power cut at the price of what differs. The rules are those of
 * host/sim/sim_disk.h; this one stands where blockdev/file would, so that a cut costs microseconds and not a process.
 *
 * - A write lands (reads see it) when it is submitted or when it completes, drawn. It is durable once a FLUSH has completed that
 * was submitted after that write's completion, or with FUA. Until then it is *outstanding*.
 * - A power cut keeps any subset of the outstanding writes, each possibly torn at multiples of the power-fail unit.
 * - A trim is a write of poison: who reads a trimmed block and believes in zeros is found out.
 * - A failed FLUSH drops what it should have covered, as the kernel does: readable still, but no later FLUSH makes it durable.
 * - The disk may grow. What is new is poison: nobody may believe in zeros there either. */
#pragma once

#include "base/random.h"
#include "block/device.h"

#define DISK_PAGE_SIZE 4096u
#define DISK_POISON 0xdb

struct disk_page;

/* Content of a disk. Pages may belong to others, who live longer. */
struct disk_image {
    uint32_t page_count;
    struct disk_page **pages; /* NULL = zeros */
    struct disk_page *owned;  /* chain of the pages that die with this image */
};

void disk_image_init(struct disk_image *image, uint64_t size);
/* The same content; `from` must live longer and not change. */
void disk_image_copy(struct disk_image *image, const struct disk_image *from);
/* The same content in pages of its own. */
void disk_image_clone(struct disk_image *image, const struct disk_image *from);
void disk_image_fini(struct disk_image *image);
void disk_image_read(const struct disk_image *image, uint64_t offset, void *to, uint64_t length);
void disk_image_write(struct disk_image *image, uint64_t offset, const void *from, uint64_t length);
uint64_t disk_image_hash(const struct disk_image *image);

/* ---- the log ---- */

enum disk_event_kind {
    DISK_SUBMITTED, /* a write or trim: outstanding from here on */
    DISK_LANDED,    /* its order against overlapping ones is settled */
    DISK_COMPLETED, /* its completion was told: a flush submitted from here on covers it */
    DISK_FAILED,    /* its failure was told: what has not landed by now never will */
    DISK_FLUSH,     /* a flush was submitted */
    DISK_FLUSHED,   /* and completed: what it covers is durable */
    DISK_FLUSH_FAILED,
    DISK_GROWN, /* to `index` pages, durably */
    DISK_MARK   /* the test's: only a place in time */
};
struct disk_event {
    enum disk_event_kind kind;
    uint32_t index; /* of the write; DISK_FLUSH…: of the flush; DISK_GROWN: pages */
};
struct disk_write {
    uint64_t offset, length; /* bytes */
    struct disk_page *pages; /* its data: the pages touched, in order, chained by `next`; owned by the log */
    uint32_t units;          /* power-fail units touched */
    bool fua;
    int fill; /* ≥ 0: no pages, this byte everywhere */
    /* positions in the log, UINT32_MAX = never; dropped: a failed flush has given it up */
    uint32_t landed, completed, dropped;
};
struct disk_log {
    struct disk_event *events;
    struct disk_write *writes;
    uint32_t *flushes; /* position of each flush's submission */
    uint32_t event_count, event_capacity, write_count, write_capacity, flush_count, flush_capacity;
};

/* ---- the device ---- */

enum disk_fault { DISK_FAULT_READ, DISK_FAULT_WRITE, DISK_FAULT_FLUSH, DISK_FAULT_TRIM, DISK_FAULT_COUNT };

struct disk_options {
    uint32_t power_fail_unit; /* 512 … 4096: also what the device states */
    uint32_t block_size;
    uint64_t read_ns, write_ns, flush_ns; /* the longest; each is drawn from a quarter of it on */
    bool write_through;                   /* no volatile cache */
    bool native_fua;
    bool no_trim;
    /* Of the writes that begin in [slow_from, slow_to), one in `slow_one_in` takes `slow_factor` times as long: what comes after
     * it overtakes it by far. 0 = none */
    uint64_t slow_from, slow_to;
    unsigned slow_one_in, slow_factor;
};

struct disk {
    struct block_device device;
    struct disk_options options;
    struct world *world;
    struct disk_image now;    /* what reads see */
    struct disk_image base;   /* durable content when the log began */
    struct disk_page *poison; /* what new pages of a grown disk hold; NULL = it has not grown */
    struct disk_log log;
    struct random random;
    bool logging;
    struct list running; /* struct disk_operation */
    struct disk_operation *free;
    /* faults: the request with this number (from 1) of its kind fails, and `fail_count` - 1 after it */
    uint64_t fail_at[DISK_FAULT_COUNT], fail_count[DISK_FAULT_COUNT];
    enum io_status fail_status;
    uint64_t requests[DISK_FAULT_COUNT], failed[DISK_FAULT_COUNT];
    uint64_t bad_offset, bad_length; /* reads of this range fail */
    uint64_t bytes_read, bytes_written;
    uint64_t page_limit, pages_used; /* pages that may be allocated before IO_NO_SPACE; 0 = any */
};

/* Makes the device "disk" on the world's reactor; content is that of `image` (which lives longer), nothing outstanding. */
struct disk *disk_create(struct world *world, struct block_graph *graph, const struct disk_options *options,
                         const struct disk_image *image, uint64_t seed, bool logging);
/* Frees it, with its log. The world is gone already. */
void disk_destroy(struct disk *disk);
/* Makes it larger, for those who look from now on. Its pages' content is poison. */
void disk_grow(struct disk *disk, uint64_t bytes);
/* Notes a moment; returns its position: a cut after `n` events includes it if it is < n. */
uint32_t disk_mark(struct disk *disk);
/* Puts a write into the cache that an earlier process has left there: completed, not durable. Before the first request. */
void disk_inherit(struct disk *disk, const struct disk_write *write);

/* ---- cuts ---- */

#define DISK_OUTSTANDING_MAX 1024

struct disk_keep {
    enum { DISK_LOST, DISK_KEPT, DISK_TORN_PREFIX, DISK_TORN_SUFFIX, DISK_TORN_SEEDED } kind;
    uint64_t value; /* units, or the seed */
};
/* Walks a log event by event. */
struct disk_cursor {
    const struct disk *disk;
    uint32_t position;         /* events applied */
    struct disk_image durable; /* what is surely on the medium */
    uint32_t *outstanding;     /* indices of writes, in order of landing, those still under way last */
    uint32_t outstanding_count, outstanding_capacity;
    bool changed; /* the last event changed which images are possible */
};
void disk_cursor_init(struct disk_cursor *cursor, const struct disk *disk);
void disk_cursor_fini(struct disk_cursor *cursor);
/* Applies the next event; false at the end. */
bool disk_cursor_next(struct disk_cursor *cursor);
/* The medium after a cut here, `keep` saying what became of each outstanding write (NULL = all lost). Valid until the cursor
 * moves. */
void disk_cursor_image(const struct disk_cursor *cursor, const struct disk_keep *keep, struct disk_image *ret_image);
