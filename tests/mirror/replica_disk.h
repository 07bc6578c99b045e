/* The leg of a mirror as docs/mirror.md wants it, in memory: record, claim, fence, marks, checksums, and what a machine does to
 * it. A *disk* is the replica itself, which outlives processes; a *view* is the way of one engine's process to it, a block device
 * in that process's graph. Requests pass three places, one random step at a time: the network, the replica, and the way back.
 * Nothing moves by itself: the test calls replica_disk_step(). */
#pragma once

#include "base/random.h"
#include "block/device.h"
#include "block/replica.h"

struct replica_view;

/* Ways in which a replica may be wrong: what a test of tests turns on. */
enum replica_canary {
    REPLICA_FENCE_BY_NUMBER = 1, /* a claim waits for nobody, and lets the same engine's old associations in */
    REPLICA_MARKS_RESET = 2,     /* a new epoch forgets marks */
    REPLICA_MARK_AFTER_DATA = 4, /* a cut may leave data without its mark */
};

struct replica_disk {
    char name[64];
    uint64_t size; /* bytes */
    uint8_t *bytes, *durable;
    uint64_t *dirty;       /* blocks that were not flushed */
    uint32_t *marks;       /* of each region; always durable */
    const uint64_t *owned; /* regions that its head holds itself; NULL = it does not tell */
    struct replica_record record;
    bool has_record, untouched, up, hung;
    bool read_only;        /* it says so */
    bool plain;            /* no replica: it keeps no record, and knows no fence */
    uint64_t *unreadable;  /* blocks that cannot be read until they are written; NULL = all can */
    bool stays_unreadable; /* nor then */
    bool fail_flush, full; /* the next flush fails; writes fail with no space */
    bool cramped,
        kept; /* a copy of its head that is kept leaves no room for writes, and flushes fail with no space; there is one */
    bool fail_write, torn; /* the next write fails; what it wrote is there all the same */
    uint64_t incarnation, tree_sequence;
    uint64_t claim_view, claim_association; /* 0 = nobody's */
    struct list operations, views;
    unsigned operation_count;
    struct random random;
    unsigned canaries;
    uint64_t writes, claims, stores, fenced, cuts;
    /* Named places where a test stops: told before (after) each durable step. */
    void (*point)(void *arg, struct replica_disk *disk, const char *name);
    void *point_arg;
};

void replica_disk_init(struct replica_disk *disk, const char *name, uint64_t size, uint64_t seed);
void replica_disk_fini(struct replica_disk *disk);
/* Moves one request on, if there is one that can be. Not from inside a simulated process. */
bool replica_disk_step(struct replica_disk *disk);
/* The machine loses power (`lose`: what was not flushed may be gone) or its process dies; then it is opened anew. Views lose
 * their connections. */
void replica_disk_cut(struct replica_disk *disk, bool lose);

/* Registers a way to the disk under its name; `home` NULL = any reactor. Control reactor of the process; the view is the test's
 * memory. */
struct replica_view *replica_view_create(struct replica_disk *disk, struct block_graph *graph, struct reactor *home);
/* The view as a device, which may be removed: then it is freed with its last user. Its connection is lost before that. */
struct block_device *replica_view_device(struct replica_view *view);
/* The connection is lost (and stays so until it is mended): what is under way ends with IO_PATH_LOST, and may still arrive. */
void replica_view_break(struct replica_view *view);
void replica_view_mend(struct replica_view *view);
/* The process of all views has died: nothing is answered any more; what they sent may still arrive. Frees the views. */
void replica_disk_forsake(struct replica_disk *disk);
/* The same of one view. */
void replica_view_forsake(struct replica_view *view);
