/* What a store must show: a plain model of volumes and snapshots in memory, with what a power cut may have taken. It knows
 * nothing of how the store works. Time is a position in the disk's log (disk_mark), so that "before the cut" is a comparison.
 *
 * Every 512-byte sector that a test writes is a stamp {store, node, sector, operation} repeated; a sector that reads as another
 * node's, another place's or an unknown one's is foreign, whatever else is allowed. Rules, at a cut:
 * - a write that a completed FLUSH or FUA covers is there, unless something that began later has replaced it;
 * - any other write is there or not, sector by sector;
 * - an answered command's effect is there; one that was asked for is there as a whole or not at all;
 * - an answered snapshot is exactly what it was when it was first read. */
#pragma once

#include "base/random.h"
#include "base/uuid.h"
#include "heap.h"

#define MODEL_SECTOR 512u
#define MODEL_FOREIGN UINT32_MAX /* content that nobody has written here */
#define MODEL_NEVER UINT32_MAX
#define MODEL_NODES_MAX 96
#define MODEL_NAME_SIZE 32

enum model_kind {
    MODEL_WRITE,
    MODEL_ZERO,      /* write zeroes, trim */
    MODEL_MAYBE_ZERO /* the parts of blocks at a trim's ends: zero or as before */
};
struct model_write {
    enum model_kind kind;
    bool fua, failed;            /* failed: fate unknown */
    bool undone;                 /* refused as a whole: must have changed nothing */
    uint32_t node, first, count; /* sectors */
    uint32_t start, done;
};

/* Content that a node had as a whole: at its creation, after a revert. */
struct model_base {
    uint32_t start, done;
    uint32_t *content; /* operation a sector, 0 = zeros */
    uint32_t count;
    struct model_base *older;
};
/* One value of a name, a size or an attribute, with the time it was asked for and answered. */
struct model_fact {
    uint32_t start, done;
    uint64_t value;
    struct model_fact *older;
};

struct model_node {
    struct uuid uuid;
    bool snapshot;
    uint32_t created_start, created_done; /* done = NEVER: not answered */
    uint32_t deleted_start, deleted_done;
    uint32_t count;          /* sectors that it ever had room for: length of the arrays */
    struct model_base *base; /* newest first */
    struct model_fact *size, *name, *attribute;
    uint32_t *exact; /* snapshots: content once read; NULL before */
    uint32_t exact_count;
};

enum model_event_kind {
    MODEL_WRITE_DONE,
    MODEL_FLUSH_START,
    MODEL_FLUSH_DONE,
    MODEL_ALL_DURABLE,
    MODEL_BEGUN,   /* something new may be seen */
    MODEL_ANSWERED /* something must be seen */
};
struct model_event {
    enum model_event_kind kind;
    uint32_t position, node;
    uint32_t index; /* write, or the number that a flush's start and end share */
};

/* How far things are at a position. */
struct model_view {
    uint32_t position, next_event;
    struct {
        uint32_t *completed; /* for each sector: latest start of the writes completed */
        uint32_t *durable;   /* … and of those that are durable */
        uint32_t count;
    } nodes[MODEL_NODES_MAX];
    uint32_t **flushes; /* by number: a count, then `completed` as it was when the flush began */
    uint32_t flush_count;
};

struct model {
    uint32_t store; /* in each stamp */
    struct model_node nodes[MODEL_NODES_MAX];
    uint32_t node_count;
    struct model_write *writes;
    uint32_t write_count, write_capacity, first_write; /* operation n is writes[n - first_write] */
    struct model_event *events;
    uint32_t event_count, event_capacity;
    uint32_t flush_count;
    struct model_fact *capacity; /* bytes of the store; NULL = not told */
    uint64_t overhead;           /* of the disk's bytes those that are not capacity */
    struct model_view live;      /* at the present position */
};

/* `first_write` ≥ 1: where the numbers of operations begin. */
void model_init(struct model *model, uint32_t store, uint32_t first_write);
void model_fini(struct model *model);

/* ---- what the test does; `at` is disk_mark() ---- */

/* A volume of `bytes`, or a clone: `content` (NULL = zeros) of `content_count` sectors is copied. Returns the node. */
uint32_t model_create(struct model *model, uint32_t at, const struct uuid *uuid, bool snapshot, uint64_t bytes, uint64_t name,
                      const uint32_t *content, uint32_t content_count);
/* The command was answered; !ok = it must have done nothing. One whose fate is unknown is never told: both stay allowed. */
void model_created(struct model *model, uint32_t node, uint32_t at, bool ok);
/* As above for a snapshot, created by model_create(): `flush` is what model_flush() gave for its source when it was asked for. */
void model_delete(struct model *model, uint32_t node, uint32_t at);
void model_deleted(struct model *model, uint32_t node, uint32_t at, bool ok);
/* An answered snapshot's content, from the first reading. */
void model_learn(struct model *model, uint32_t node, const uint32_t *content, uint32_t count);
/* A write begins; returns its operation number, for the stamps. */
uint32_t model_write(struct model *model, uint32_t at, uint32_t node, enum model_kind kind, bool fua, uint32_t first,
                     uint32_t count);
enum model_result { MODEL_OK, MODEL_FAILED /* fate unknown */, MODEL_UNDONE /* nothing changed */ };
void model_written(struct model *model, uint32_t operation, uint32_t at, enum model_result result);
/* A flush (or a command that implies one); returns its number. */
uint32_t model_flush(struct model *model, uint32_t at, uint32_t node);
void model_flushed(struct model *model, uint32_t node, uint32_t flush, uint32_t at, bool ok);
/* Facts change: `list` is &node->size, … , &model->capacity; the newest is answered by model_fact_done(). */
void model_fact(struct model *model, struct model_fact **list, uint32_t at, uint64_t value);
void model_fact_done(struct model *model, struct model_fact **list, uint32_t at, bool ok);
/* The whole content is replaced. */
void model_revert(struct model *model, uint32_t node, uint32_t at, const uint32_t *content, uint32_t count);
void model_reverted(struct model *model, uint32_t node, uint32_t at, bool ok);
/* Shrinking: sectors from `first` on are zero. Ends with model_written(). */
uint32_t model_cut(struct model *model, uint32_t at, uint32_t node, uint32_t first);

/* ---- stamps ---- */

void model_stamp(const struct model *model, uint32_t node, uint32_t operation, uint32_t first_sector, void *to, uint32_t count);
/* The operation that each sector holds; `whole` looks at every byte and not at the ends only. */
void model_unstamp(const struct model *model, const void *from, uint32_t first_sector, uint32_t count, bool whole, uint32_t *to);

/* ---- what is allowed ---- */

/* A read of the live store that began when `completed` was copied from live.nodes[node].completed, and saw what was begun before
 * `until`: true if each content is one that may have been seen. Else *ret_bad is the first bad sector. */
bool model_read_ok(const struct model *model, uint32_t node, uint32_t first, uint32_t count, const uint32_t *completed,
                   uint32_t until, const uint32_t *content, uint32_t *ret_bad);

void model_view_init(struct model_view *view);
void model_view_fini(struct model_view *view);
/* To a later position: what happened before it. True if more must be seen than before. */
bool model_view_advance(const struct model *model, struct model_view *view, uint32_t position);
/* True if at this position something was begun that makes other content right. */
bool model_begins(const struct model *model, const struct model_view *view, uint32_t position);

/* A store's content, as found. */
struct model_found {
    struct uuid uuid;
    bool snapshot;
    uint64_t bytes, name, attribute;
    uint32_t *content;
    uint32_t count;
};
/* True if that may be left of the model after a cut at the view's position; else `text` says what is wrong. */
bool model_check(const struct model *model, const struct model_view *view, const struct model_found *found, uint32_t found_count,
                 char *text, size_t size);
/* True if the store may have that capacity at the view's position. */
bool model_capacity_ok(const struct model *model, const struct model_view *view, uint64_t bytes, char *text, size_t size);
/* A new model that has exactly this content: once read, it must never change back. */
void model_from_found(struct model *model, const struct model *origin, const struct model_found *found, uint32_t found_count);
