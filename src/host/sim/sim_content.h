/* Content of simulated disks: immutable shared pages in layers, one above the other, and writes that can be applied to a layer
 * whole, in part or not at all. Nothing here knows time, requests or files. */
#pragma once

#include "host/sim/sim_disk.h"
#include "host/sim/sim_internal.h"

/* Shared: written only by its one owner, so while `references` is 1. */
struct sim_page {
    uint32_t references;
    uint8_t bytes[SIM_PAGE_SIZE];
};

struct sim_layer_entry {
    uint64_t number;       /* of the page on the disk */
    struct sim_page *page; /* NULL = zero, hides what is below */
    uint32_t slot;         /* in the table */
};

/* Pages that differ from the layer below. Changed only while nothing lies above it. */
struct sim_layer {
    struct sim *sim;
    struct sim_layer *below; /* NULL = all zero */
    uint32_t references;
    uint32_t above;                  /* layers whose `below` this is */
    uint64_t size;                   /* of the content, bytes */
    struct sim_layer_entry *entries; /* in order of their first change */
    uint32_t entry_count, entry_capacity;
    uint32_t *table; /* slot → index in entries + 1, open addressing */
    uint32_t table_size;
};

/* References one layer above `below` (NULL allowed), from which it takes its size. */
struct sim_layer *sim_layer_create(struct sim *sim, struct sim_layer *below, uint64_t size);
struct sim_layer *sim_layer_ref(struct sim_layer *layer);
void sim_layer_unref(struct sim_layer *layer);
/* Frees the layers that are kept for reuse. */
void sim_layers_fini(struct sim *sim);

/* The 4096 bytes of a page; *ret_present (NULL allowed) tells whether one is allocated. */
const uint8_t *sim_layer_page(const struct sim_layer *layer, uint64_t number, bool *ret_present);
/* The same page as `from` shows, shared; both above the same content otherwise. */
void sim_layer_copy_page(struct sim_layer *layer, const struct sim_layer *from, uint64_t number);
/* Makes `layer` show what `from` shows; both above the same layer. */
void sim_layer_copy(struct sim_layer *layer, const struct sim_layer *from);
void sim_layer_read(const struct sim_layer *layer, uint64_t offset, void *to, size_t length);
void sim_layer_write(struct sim_layer *layer, uint64_t offset, const void *from, size_t length);
/* Zeroes a range; cheap for large ranges of little content. `keep_one_in_two`: pages are zeroed or not, by hash of this value and
 * their number (0 = all are zeroed). */
void sim_layer_zero(struct sim_layer *layer, uint64_t offset, uint64_t length, uint64_t keep_one_in_two);
uint64_t sim_layer_allocated(const struct sim_layer *layer);
uint64_t sim_layer_hash(const struct sim_layer *layer);

/* The part of a write inside one page. */
struct sim_piece {
    struct sim_piece *next;
    struct sim_page *page; /* data at its place in the page */
    uint64_t number;
    uint32_t start, length;
};

/* A change of content: WRITE with data, PUNCH, ZERO, or a truncation. Kept by a disk while it is outstanding, and by a record. */
struct sim_write {
    struct sim *sim;
    uint32_t references;
    enum host_file_op op;
    bool truncate;             /* cuts [offset, offset + length) off the end, or adds it there */
    bool grow;                 /* the latter */
    bool filled;               /* the data is there (it may be taken at landing only) */
    uint64_t offset, length;   /* bytes */
    uint64_t punch;            /* see sim_layer_zero() */
    struct sim_piece *pieces;  /* WRITE, by rising number */
    uint64_t completed;        /* the disk's count of completions when this one was told, 0 = not yet, UINT64_MAX = dropped */
    struct sim_record *record; /* that it is part of, or NULL */
    uint32_t index;            /* in that record */
    bool taken;                /* scratch of sim_outstanding_sync() */
};

struct sim_write *sim_write_create(struct sim *sim, enum host_file_op op, uint64_t offset, uint64_t length);
/* Takes the data of a WRITE; cuts it to `length` if less is given. */
void sim_write_fill(struct sim_write *write, const struct slice *slices, uint32_t slice_count, uint64_t length);
struct sim_write *sim_write_ref(struct sim_write *write);
void sim_write_unref(struct sim_write *write);
static inline bool sim_write_overlaps(const struct sim_write *a, const struct sim_write *b) {
    return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}
uint32_t sim_write_units(const struct sim_write *write, uint32_t unit);
/* Changes the layer's content (and size) as the survival says. */
void sim_write_apply(const struct sim_write *write, struct sim_layer *layer, struct sim_survival survival, uint32_t unit);

/* Writes that are not durable, in order of landing. */
struct sim_outstanding {
    struct sim_write **writes; /* each referenced */
    uint32_t count, capacity;
};
void sim_outstanding_push(struct sim_outstanding *outstanding, struct sim *sim, struct sim_write *take_write);
/* A sync that covers the completions up to `mark` is done: what it covers goes to `layer`, with the older writes that overlap it.
 */
void sim_outstanding_sync(struct sim_outstanding *outstanding, struct sim_layer *layer, uint64_t mark);
void sim_outstanding_clear(struct sim_outstanding *outstanding);
void sim_outstanding_fini(struct sim_outstanding *outstanding, struct sim *sim);
