/* Simulated disks: content in shared pages, a volatile write cache, faults, and the record of what was written, from which a test
 * takes the image of any power cut within microseconds. See sim.h for the world they are part of. Must not know: who uses them.
 *
 * What a disk does, all within the contract of host.h:
 * - A write lands (readers see it) at a drawn time between its submission and its completion. It is durable once a SYNC completed
 *   with 0 that was submitted after that write's completion. Until then it is *outstanding*.
 * - A power cut keeps any subset of the outstanding writes, each possibly torn at multiples of the power-fail unit, in any order.
 * - Requests that a killed process had handed over still land, later; until they do, its locks are held.
 * - A failed SYNC drops writes as the kernel does: they stay readable until that is told
 *   and for a while after, and no later SYNC makes them durable. */
#pragma once

#include "host/sim/sim.h"

#define SIM_PAGE_SIZE 4096u

struct sim_disk_options {
    uint64_t size;              /* bytes */
    bool block_device;          /* fixed size; a punched range reads as zero or as before (drawn for each page) */
    bool in_memory;             /* what host_file_facts says */
    bool can_direct;            /* O_DIRECT works: requests on files opened so must be aligned to logical_block */
    bool can_punch, can_zero;   /* else -EOPNOTSUPP */
    bool write_through;         /* no volatile cache: what completed is durable */
    bool lock_forgets_requests; /* breaks rule 7: a killed process's lock goes at once, its requests land later (canary) */
    uint32_t logical_block;     /* 512 or 4096 */
    uint32_t power_fail_unit;   /* bytes that are never torn: 512 … 4096 */
    uint64_t read_min_ns, read_max_ns, write_min_ns, write_max_ns, sync_min_ns, sync_max_ns;
    uint64_t bytes_per_second; /* 0 = unlimited */
    uint64_t space;            /* bytes that may be allocated (whole pages) before -ENOSPC; 0 = no limit */
};
/* Defaults: a direct block device of that size, 512/512, latencies 10–80 µs, sync 50–400 µs. */
void sim_disk_options_init(struct sim_disk_options *options, uint64_t size);

/* An empty (all zero) disk; freed by sim_disk_destroy() or with the world. */
struct sim_disk *sim_disk_create(struct sim *sim, const struct sim_disk_options *options);
/* No file may be open on it, no request under way. Takes it off the nodes' paths. */
void sim_disk_destroy(struct sim_disk *disk);

/* ---- content, past the host interface (no virtual time passes) ---- */

enum sim_view {
    SIM_VIEW_CURRENT, /* what a read sees */
    SIM_VIEW_DURABLE  /* what surely survives a power cut */
};
void sim_disk_peek(const struct sim_disk *disk, enum sim_view view, uint64_t offset, void *to, size_t length);
/* Sets current and durable content; nothing outstanding may touch the range. */
void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *from, size_t length);
/* Flips one bit in current and durable content. */
void sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset, unsigned bit);
uint64_t sim_disk_size(const struct sim_disk *disk);
/* Hash of all non-zero pages of a view: equal content, equal hash. */
uint64_t sim_disk_hash(const struct sim_disk *disk, enum sim_view view);

/* ---- faults ---- */

enum sim_fault_action {
    SIM_FAULT_FAIL, /* completes with `error`; a failed write or zero may have changed none, some or all of its range */
    SIM_FAULT_HANG, /* does nothing until sim_disk_release() */
    SIM_FAULT_DELAY /* lands `delay_ns` later than it would */
};
/* Which requests it hits: all conditions together. Looked at when a request is handed over, in the order they were added; the
 * first that applies is taken. */
struct sim_disk_fault {
    unsigned ops;            /* mask of SIM_OP(HOST_FILE_…) */
    uint64_t offset, length; /* overlapping this range; length 0 = anywhere (SYNC is everywhere) */
    uint64_t skip;           /* first so many matching requests pass: n - 1 fails the n-th */
    uint64_t count;          /* how many it hits; 0 = all from then on */
    uint32_t one_in;         /* of those, one in n is hit, drawn; 0 or 1 = each */
    enum sim_fault_action action;
    int error;         /* -EIO, -ENOSPC, …; 0 = -EIO */
    uint64_t delay_ns; /* SIM_FAULT_DELAY */
};
#define SIM_OP(op) (1u << (op))
#define SIM_OP_ALL 0x1fu
#define SIM_DISK_FAULTS_MAX 16

/* Returns its number, for sim_disk_fault_remove(). */
unsigned sim_disk_fault_add(struct sim_disk *disk, const struct sim_disk_fault *fault);
void sim_disk_fault_remove(struct sim_disk *disk, unsigned number);
void sim_disk_faults_clear(struct sim_disk *disk);
/* How often a fault has hit. */
uint64_t sim_disk_fault_hits(const struct sim_disk *disk, unsigned number);
/* Lets all hung requests go on. */
void sim_disk_release(struct sim_disk *disk);
uint64_t sim_disk_hung(const struct sim_disk *disk);
/* Sectors that cannot be read (-EIO) until they are written again. */
void sim_disk_bad_add(struct sim_disk *disk, uint64_t offset, uint64_t length);
/* The rest of the space is taken by others: writes to pages that are not allocated yet give -ENOSPC. */
void sim_disk_set_full(struct sim_disk *disk, bool full);
/* Gone for good, all requests: -EIO now and later. */
void sim_disk_set_dead(struct sim_disk *disk);

struct sim_disk_stats {
    uint64_t requests[5]; /* handed over, by enum host_file_op */
    uint64_t failed[5];
    uint64_t bytes_read, bytes_written;
    uint64_t in_flight;   /* handed over, not yet landed or hung */
    uint64_t ghosts;      /* landed after their process was killed */
    uint64_t outstanding; /* landed, not durable */
};
void sim_disk_stats(const struct sim_disk *disk, struct sim_disk_stats *ret_stats);

/* ---- power cuts ---- */

enum sim_survival_kind {
    SIM_LOST,
    SIM_KEPT,
    SIM_TORN_PREFIX, /* the first `value` units */
    SIM_TORN_SUFFIX, /* the last `value` units */
    SIM_TORN_SEEDED, /* each unit or not, drawn from `value` */
    SIM_TORN_MASK    /* unit n if bit n % 64 of `value` is set */
};
/* What becomes of one outstanding write. A unit is power_fail_unit bytes, aligned on the disk. */
struct sim_survival {
    enum sim_survival_kind kind;
    uint64_t value;
};
struct sim_write_facts {
    enum host_file_op op; /* WRITE, PUNCH or ZERO */
    uint64_t offset, length;
    uint32_t units; /* power-fail units touched */
    bool completed; /* its completion had been told */
};

/* Cuts the power of this disk alone: `choose` is asked for each outstanding write in the order of landing (those still under way
 * last); NULL = drawn. Requests under way end without completion: their processes must be dead already. */
void sim_disk_power_cut(struct sim_disk *disk, struct sim_survival (*choose)(void *arg, const struct sim_write_facts *write),
                        void *arg);

/* ---- the record, and images of cuts ---- */

struct sim_record;

enum sim_record_kind {
    SIM_RECORD_WRITE,     /* a write, punch or zero was handed over: it is outstanding from here on */
    SIM_RECORD_LANDED,    /* it is in the disk's cache: its order against overlapping ones is settled */
    SIM_RECORD_COMPLETED, /* its completion was told */
    SIM_RECORD_SYNC,      /* a sync was submitted: it covers what was completed by now */
    SIM_RECORD_SYNCED,    /* it completed with 0: what it covers is durable */
    SIM_RECORD_MARK       /* the caller's, see sim_record_mark() */
};
struct sim_record_event {
    enum sim_record_kind kind;
    uint32_t index; /* of the write or sync, from 0 in order of WRITE or SYNC events */
    uint64_t value; /* MARK: the caller's */
};

/* Starts recording from the disk's content as it is; nothing may be outstanding or under way. A disk has one record at most. */
struct sim_record *sim_record_start(struct sim_disk *disk);
/* Ends it; the record stays valid, the disk may go on or be destroyed. */
void sim_record_stop(struct sim_record *record);
/* After its cursors. Stops it if it still runs. */
void sim_record_destroy(struct sim_record *record);
/* Notes a moment of the caller's among the events, e.g. "flush 17 answered": what a cut after it must show. */
void sim_record_mark(struct sim_record *record, uint64_t value);
size_t sim_record_event_count(const struct sim_record *record);
const struct sim_record_event *sim_record_event(const struct sim_record *record, size_t position);
uint32_t sim_record_write_count(const struct sim_record *record);
/* `completed` is as of the end of the record. */
void sim_record_write_facts(const struct sim_record *record, uint32_t index, struct sim_write_facts *ret_facts);

/* Walks a record event by event. At each position: what is surely on the medium, and which writes are outstanding. Only reading
 * for the caller. */
struct sim_cursor {
    struct sim_record *record;
    size_t position;             /* events applied; the cut is just after them */
    const uint32_t *outstanding; /* indices of writes, in order of landing, those still under way last */
    uint32_t outstanding_count;
    bool changed; /* the last event changed which images are possible (a MARK or COMPLETED does not) */
};
struct sim_cursor *sim_cursor_create(struct sim_record *record);
void sim_cursor_destroy(struct sim_cursor *cursor);
/* Applies the next event; false at the end. All images of the previous position must be destroyed. */
bool sim_cursor_next(struct sim_cursor *cursor);
/* A new disk (options of the recorded one) with the durable content and what `survivals` says of each outstanding write
 * (outstanding_count of them; NULL = all lost). It shares pages with the record: it costs what differs. */
struct sim_disk *sim_cursor_image(struct sim_cursor *cursor, const struct sim_survival *survivals);
