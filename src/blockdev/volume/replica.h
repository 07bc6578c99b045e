/* Inside of src/blockdev/volume: a volume that is a leg of a mirror. Its record, the claim on it and the fence, its region marks.
 * What they mean: docs/mirror.md. Everything is for the home reactor. */
#pragma once

#include "block/replica.h"
#include "blockdev/volume/internal.h"

#define REPLICA_PUTS_MAX 64      /* that wait, of one volume; more are refused */
#define REPLICA_FORMER_MAX 8     /* superseded associations that are remembered */
#define REPLICA_MARKS_A_TURN 512 /* regions looked at before others run */

/* A document that was brought. PUTs of a volume are carried out one after the other, each run again from its start whenever what
 * it waited for has come. */
struct replica_document {
    struct list_node node; /* volume->replica_puts */
    struct volume_op *op;
    uint32_t length;
    bool fenced;                                    /* a claim that nobody stands before any more */
    uint8_t document[] __attribute__((aligned(8))); /* structs are read in place */
};

struct replica {
    struct volume *volume;
    struct replica_record record;
    struct layer *marks;                 /* its map's words are marks, docs/volume-format.md */
    uint64_t *marked;                    /* regions whose mark is durable at the record's depth; later ones are beyond its end */
    uint64_t region_count;               /* of `marked` */
    uint64_t holder;                     /* association with the claim, 0 = none */
    uint64_t former[REPLICA_FORMER_MAX]; /* superseded by another engine: the newest ones */
    unsigned former_next;
    struct block_replica here;
    bool elsewhere; /* a member of the epoch stored last, under this claim, is in another process */
    bool unproven;  /* what its marked regions show may not be on the disk; until it was made equal under this opening */
};

/* ---- replica.c: records, claims, admission ---- */

/* Takes up the record in a layer's identity, if there is one; false: no memory. A record that makes no sense damages the layer.
 */
bool replica_open(struct volume_store *store, struct volume *volume);
/* RAM only; its volume goes or the store is closed. */
void replica_close(struct volume *volume);
/* IO_OK for the association with the claim; else what it is told, IO_FENCED or IO_NOT_READY. */
enum io_status replica_admits(const struct replica *replica, const struct block_request *request);
void replica_put_start(struct volume_op *op);
/* From op_end() of a PUT: the next one's turn. */
void replica_put_done(struct volume_op *op);
/* Fails a tree command on a volume that is a leg: true if it did. Those go through the mirror. */
bool replica_refuses_command(struct volume_command *command, const struct volume *volume);
/* The marks go with the head: in the turn in which `to` becomes it. */
void replica_follow(struct volume_store *store, struct layer *from, struct layer *to);
/* The record and the marks go, in this turn; the room of a tree change is there. */
void replica_forget(struct volume *volume);

/* The disk failed a write of this volume's, so that it may show what no flush will keep: a leg is unproven from here on. */
void replica_doubt(const struct volume *volume);
/* Ends the PUT when what is in the open batch is durable. */
void replica_put_commit(struct volume_op *op);

/* ---- replica_tree.c ---- */
struct replica_snapshot {
    struct uuid mirror, leg;
    uint64_t id;
    char name[REPLICA_SNAPSHOT_NAME_MAX];
};
/* True if a mirror made this snapshot of its leg: of this one, or of any (NULL). */
bool replica_snapshot_of(const struct layer *layer, const struct replica *replica, struct replica_snapshot *ret_snapshot);
/* The nearest such layer below another one; NULL if there is none (*ret_snapshot stays). */
const struct layer *replica_layer_below(const struct replica *replica, const struct layer *layer,
                                        struct replica_snapshot *ret_snapshot);
/* REPLICA_TREE, REPLICA_LAYERS and REPLICA_PAIRS, of a snapshot's volume. */
void replica_tree_run(struct volume_op *op);
void replica_get_layers(struct volume_op *op);
void replica_get_pairs(struct volume_op *op, const struct volume *of);
/* The copy that was kept of it before it returned (REPLICA_KEEP) goes by merging, when it can. The store's home. */
void replica_drop_kept(struct volume *leg);
/* Goes on with the deletions that the last opening did not come to. Control reactor, after the devices are registered. */
void replica_delete_let_go(struct volume_store *store);
/* Of commands: what a change of the mirror's adds to the identity of what it makes (false: no room), and to the leg's record, in
 * the turn of the change itself. Nothing for commands of others. */
bool replica_tree_identity(const struct volume_command *command, uint8_t *identity, uint32_t *size);
void replica_tree_stamp(struct volume_command *command);
/* Fails the deletion of a snapshot that is a mirror's: true if it did. */
bool replica_refuses_delete(struct volume_command *command, const struct volume *volume);

/* ---- replica_get.c ---- */
void replica_get_start(struct volume_op *op);

/* ---- replica_mark.c ---- */

/* Makes sure that the op's range is marked, durably, then calls `next`. */
void replica_mark(struct volume_op *op, void (*next)(struct volume_op *op));
/* True for a write of which no mark is wanted, and of whose leg none is needed: nothing of its content counts yet. */
static inline bool replica_is_unmarked(const struct replica *replica, const struct block_request *request) {
    return (request->flags & BLOCK_UNMARKED) != 0 && request->op == BLOCK_WRITE && replica->record.state == REPLICA_SYNCING &&
           replica->record.base.depth == 0;
}
/* Sets [first, first + count) to `depth` (0 = none) in the open batch. WAIT, FAILED as page_get(); may have done a part. */
enum got replica_marks_set(struct replica *replica, uint64_t first, uint64_t count, uint32_t depth, struct waiter *waiter,
                           enum io_status *ret_status);
/* The mark of a region, the floor under all of them counted in; 0 = none. */
enum got replica_mark_get(struct replica *replica, uint64_t region, struct waiter *waiter, uint32_t *ret_depth,
                          enum io_status *ret_status);
