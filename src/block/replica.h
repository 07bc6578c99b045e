/* The optional *replica* interface of a block device: what a mirror asks of a leg besides data. Two operations of the block
 * contract, BLOCK_REPLICA_PUT and BLOCK_REPLICA_GET, carry documents; they take the way of every other request. What the
 * documents mean, and when each is answered: docs/mirror.md.
 *
 * Integers are little-endian and the structs are the bytes, on the wire and on disk; reserved bytes are zero. Pure; any context.
 */
#pragma once

#include "base/bytes.h"
#include "base/uuid.h"

#ifndef REPLICA_REGION_BYTES /* the simulator's lives have smaller ones */
#define REPLICA_REGION_BYTES MIB(1)
#endif
#define REPLICA_LEGS_MAX 8
#define REPLICA_HISTORY_MAX 16
#define REPLICA_RANGES_MAX 4096  /* of one document */
#define REPLICA_BLOCK_BYTES 4096 /* grain of checksums */
#define REPLICA_DOCUMENT_MAX KIB(68)
#define REPLICA_DEPTH_MAX UINT64_C(0xffffffff)

/* request->argument: verb in bits 0 … 7, seed in bits 8 … 31, a layer or a depth in bits 32 … 63. */
enum replica_put { REPLICA_CLAIM = 1, REPLICA_RELEASE, REPLICA_STORE, REPLICA_MARK, REPLICA_CLEAR, REPLICA_TREE, REPLICA_FORGET };
enum replica_get {
    REPLICA_STATUS = 1, /* struct replica_status; the one that needs no claim */
    REPLICA_LAYERS,     /* the mirror's snapshots, as far as the volume has them; struct replica_layers from byte `offset` on */
    REPLICA_MARKS,      /* a bit for each region of the head marked at or above the depth (0 = any) */
    REPLICA_OWNED,      /* a bit for each region in which the layer holds or hides anything itself */
    REPLICA_SUMS,       /* u64 for each block of the layer from byte `offset` of it: length / 8 blocks */
    REPLICA_READ,       /* data of a layer, which is not written any more */
    REPLICA_PAIRS /* the attributes that people gave a layer; struct replica_pairs from its begin on, ≤ REPLICA_PAIRS_BYTES */
};
#define REPLICA_LAYER_HEAD 0 /* the volume itself */
/* What a GET's offset has to be for the part of it that begins `done` bytes behind its begin. */
static inline uint64_t replica_get_offset(uint64_t argument, uint64_t offset, uint64_t done) {
    return offset + ((argument & 0xff) == REPLICA_SUMS ? done / 8 * REPLICA_BLOCK_BYTES : done);
}
static inline uint64_t replica_argument(unsigned verb, uint32_t seed, uint32_t layer_or_depth) {
    return verb | (uint64_t)(seed & 0xffffff) << 8 | (uint64_t)layer_or_depth << 32;
}
static inline unsigned replica_verb(uint64_t argument) { return argument & 0xff; }
static inline uint32_t replica_seed(uint64_t argument) { return argument >> 8 & 0xffffff; }
static inline uint32_t replica_layer_or_depth(uint64_t argument) { return (uint32_t)(argument >> 32); }

/* ---- the record ---- */

/* A stretch of history. depth 0 and a nil id: none. */
struct replica_epoch {
    uint64_t depth; /* ≤ REPLICA_DEPTH_MAX */
    struct uuid id;
};
static inline bool replica_epoch_equal(const struct replica_epoch *a, const struct replica_epoch *b) {
    return a->depth == b->depth && uuid_equal(&a->id, &b->id);
}

enum replica_state { REPLICA_WHOLE = 1, REPLICA_SYNCING, REPLICA_WITNESS };
enum replica_policy { REPLICA_ANY = 1, REPLICA_MAJORITY };
enum {
    REPLICA_LEG_MEMBER = 1,
    REPLICA_LEG_TIE_BREAKER = 2,
    REPLICA_LEG_EXCLUDED = 4, /* left out by an operator: diverged from here on */
    REPLICA_LEG_BLANK = 8,    /* no copy has this id yet: nothing needs to be kept for it */
    REPLICA_LEG_BEFORE = 16,  /* a member of the newest epoch before this one that did not come to nothing */
    REPLICA_LEG_FLAGS = 31
};

/* A configured leg. */
struct replica_leg {
    struct uuid id;
    struct replica_epoch last; /* the last one in which it was whole, while it is no member; depth 0 = anything may differ */
    uint64_t incarnation;      /* of a member, when the epoch began; of one before only, as that one's record told it */
    uint32_t flags;
    char name[28]; /* for people, and to know its device by before it has a record: replica_leg_name(); ends with zeros */
};

/* The name that a record has for a leg of this name: itself, or its beginning, '~' and a checksum of all of it. */
void replica_leg_name(const char *name, char ret_name[sizeof((struct replica_leg){0}.name)]);
/* True if the record's leg is of this name. */
bool replica_leg_is_named(const struct replica_leg *leg, const char *name);

#define REPLICA_RECORD_MAGIC 0x72725350u /* "PSrr" */
#define REPLICA_RECORD_VERSION 1
struct replica_record {
    uint32_t magic;
    uint16_t version;
    uint8_t leg_count, history_count;
    struct uuid mirror, leg;
    /* of the last claim; the replica's own */
    uint64_t promised_term, promised_attempt;
    struct uuid promised_engine;
    uint64_t term; /* under which the epoch was made */
    struct replica_epoch epoch;
    /* while syncing */
    struct replica_epoch base; /* its content is at least this one's; none = nothing */
    uint64_t joined;           /* depth at which it began to take writes, 0 = not yet */
    uint64_t cursor_change;    /* layer under way: sequence of the change that made it */
    uint64_t cursor_offset;    /* bytes; what lies before it is there as of `joined` */
    uint8_t state;             /* enum replica_state */
    uint8_t policy;            /* enum replica_policy */
    uint8_t settled;           /* 1: members are equal wherever they are not marked otherwise */
    uint8_t reserved;
    uint16_t came_to_nothing; /* bit i: history[i] was an attempt that the engine gave up: nothing was acknowledged in it */
    uint16_t reconfigured;    /* bit i: after history[i] it was others who count for a majority */
    struct replica_epoch history[REPLICA_HISTORY_MAX]; /* before the epoch, attempts too, newest first */
    struct replica_leg legs[REPLICA_LEGS_MAX];
};
#define REPLICA_RECORD_BYTES 1184
static_assert(sizeof(struct replica_leg) == 80 && sizeof(struct replica_record) == REPLICA_RECORD_BYTES, "as documented");

/* NULL, or what is wrong with it: magic, version, counts, ranges, ids that are nil or twice, depths that do not fall. It says
 * nothing of who may store it. */
const char *replica_record_check(const struct replica_record *record);
/* The leg's index by id; leg_count if there is none. */
unsigned replica_record_leg(const struct replica_record *record, const struct uuid *id);
/* True if the epoch is the record's own or in its history. */
bool replica_record_knows(const struct replica_record *record, const struct replica_epoch *epoch);

/* ---- documents of BLOCK_REPLICA_PUT ---- */

struct replica_claim {
    struct uuid mirror, engine;
    uint64_t term, attempt;
    struct uuid leg; /* for a volume without a record: becomes this leg; nil = only if it has one */
};
static_assert(sizeof(struct replica_claim) == 64, "as documented");

struct replica_range {
    uint64_t first, count; /* regions */
};
struct replica_ranges { /* REPLICA_MARK, REPLICA_CLEAR */
    uint32_t count;
    uint32_t flags;
    struct replica_range ranges[];
};
#define REPLICA_ALL_REGIONS 1u /* flag: every one, whatever `ranges` say */
struct replica_store {         /* REPLICA_STORE: the record, and regions to mark with its depth */
    struct replica_record record;
    struct replica_ranges marks;
};
static_assert(sizeof(struct replica_store) == REPLICA_RECORD_BYTES + 8, "nothing in between");
/* Bytes of a document with so many ranges. */
static inline size_t replica_ranges_bytes(uint32_t count) {
    return sizeof(struct replica_ranges) + count * sizeof(struct replica_range);
}
/* NULL, or what is wrong: length and count disagree, too many, flags. `length`: of the document from `ranges` on. */
const char *replica_ranges_check(const struct replica_ranges *ranges, size_t length);

/* REPLICA_RELEASE: no document. REPLICA_FORGET: the mirror's id, 16 bytes. */

enum replica_change {
    REPLICA_SNAPSHOT = 1,
    REPLICA_DELETE,
    REPLICA_REVERT,
    REPLICA_RESIZE,
    REPLICA_NOTE, /* nothing but the tree's number and id */
    REPLICA_KEEP, /* a copy of the head that is nobody's snapshot, until it is dropped; there is at most one, the first stays.
                     Neither changes the tree, nor its number */
    REPLICA_DROP,
    REPLICA_UPON /* a head that holds nothing comes to stand upon a snapshot that is beside it and no mirror's of its own */
};
#define REPLICA_TREE_CHECK 1u         /* flag: answers whether it would be done, and does nothing */
#define REPLICA_SNAPSHOT_NAME_MAX 104 /* with the terminator */
/* REPLICA_TREE. The answer, of a check too: IO_DEVICE_GONE: there is no such snapshot; IO_INVALID: name, size or attributes
 * cannot be; IO_ABORTED: of a check only: the snapshot has several children; UPON: the head holds something; IO_NO_SPACE;
 * IO_NOT_READY: the volume is at work on an earlier change. */
struct replica_tree {
    uint64_t sequence, change; /* the tree's afterwards: its number, and the id of the change that made it so */
    uint64_t layer;            /* SNAPSHOT: its id, not 0. DELETE, REVERT: which one; 0 = what lies below all of them */
    uint64_t size;             /* RESIZE: bytes, a multiple of the volume's unit */
    uint64_t created_ns;       /* SNAPSHOT: since 1970, 0 = now */
    uint32_t what, flags;      /* enum replica_change */
    uint32_t pair_bytes;       /* SNAPSHOT: of attributes: key, zero, value, zero, … UPON: of legs' volumes by name, and what
                                  each is to stand upon */
    uint32_t reserved;
    char name[REPLICA_SNAPSHOT_NAME_MAX]; /* SNAPSHOT: as people call it; ends with zeros */
    char pairs[];
};
static_assert(sizeof(struct replica_tree) == 160, "as documented");
#define REPLICA_PAIRS_MAX 64
/* NULL, or what is wrong with a document of `length` bytes. */
const char *replica_tree_check(const struct replica_tree *tree, size_t length);

/* ---- documents of BLOCK_REPLICA_GET ---- */

enum {
    REPLICA_HAS_RECORD = 1,
    REPLICA_CLAIMED = 2, /* by an association that has not ended */
    REPLICA_CLAIM_YOURS = 4,
    REPLICA_UNTOUCHED = 8,  /* no data, no parent */
    REPLICA_CAN_WRITE = 16, /* neither read-only nor failed */
    REPLICA_HAS_FLOOR = 32, /* all regions count as marked, since a revert or a shrink */
    REPLICA_UNPROVEN = 64   /* opened anew, and not known what of it was not flushed: what its marked regions show may be in a
                               cache that the disk gave up when a flush failed, and be gone with the next loss of power. Until
                               it is stored as whole and settled under this opening */
};
struct replica_status {
    struct replica_record record;        /* zeros without one */
    uint64_t incarnation;                /* random, of the store's opening */
    uint64_t size;                       /* bytes */
    uint64_t tree_sequence, tree_change; /* 0: no mirror has changed its tree */
    uint64_t waits;                      /* requests that the claim under way waits for */
    uint32_t flags, reserved;
};
static_assert(sizeof(struct replica_status) == REPLICA_RECORD_BYTES + 48, "as documented");

/* A snapshot that a mirror made of the leg. */
struct replica_layer {
    uint64_t id, parent; /* parent: the nearest below it, 0 = none */
    uint64_t size;       /* bytes */
    uint64_t used;       /* bytes of its own */
    uint64_t created_ns;
    struct uuid uuid;         /* of the volume that it is here */
    uint32_t layer, children; /* layer: its number here, for OWNED, SUMS and READ; children: all, clones too */
    char name[REPLICA_SNAPSHOT_NAME_MAX];
};
struct replica_layers {
    uint64_t sequence, change;
    uint64_t head_parent; /* id, 0 = none */
    uint64_t head_size;   /* bytes */
    uint32_t count, reserved;
    struct replica_layer layers[]; /* in no order */
};
static_assert(sizeof(struct replica_layer) == 168 && sizeof(struct replica_layers) == 40, "as documented");
#define REPLICA_LAYERS_MAX 1024 /* snapshots of a mirror */

/* Attributes of a layer as `pairs` of replica_tree has them; what says something of this copy alone (a checksum that was made of
 * it, say) is not among them. */
struct replica_pairs {
    uint32_t pair_bytes, reserved;
    char pairs[];
};
static_assert(sizeof(struct replica_pairs) == 8, "as documented");
#define REPLICA_PAIRS_BYTES KIB(4) /* room for all of a layer */
/* NULL, or what is wrong with an answer of `length` bytes. */
const char *replica_pairs_check(const struct replica_pairs *pairs, size_t length);

#define REPLICA_MARKS_MAX KIB(4) /* bytes of a bitmap that one REPLICA_MARKS asks for: 32,768 regions */
#define REPLICA_OWNED_MAX 256    /* likewise REPLICA_OWNED: it may have to look at 16 map words for each */
