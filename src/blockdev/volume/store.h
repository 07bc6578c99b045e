/* Inside of src/blockdev/volume: the store's state, as structs. Everything is for the home reactor unless a comment says
 * otherwise. What the files do with it for each other is in internal.h; how the parts work together: docs/volume-store.md. */
#pragma once

#include <stdatomic.h>

#include "base/hash_map.h"
#include "blockdev/volume/canary.h"
#include "blockdev/volume/format.h"
#include "blockdev/volume/volume.h"
#include "reactor/pool.h"

/* ---- limits ---- */
#define IO_SLICES 16        /* of one child request that is cut out of a larger one */
#define POOL_OPS 65536      /* requests under way a store; more wait */
#define EPOCH_RING 64       /* a power of two */
#define CHECKPOINT_GROUP 64 /* pages under way at a time */
#define COMMIT_DELAY_NS (500 * NS_PER_MS)
#define WALK_STEPS 2048 /* words a walker looks at before it lets others run */
#define DISCARD_MAX_BYTES MIB(64)
#define CACHE_PAGE_BYTES (BLOCK_BYTES + sizeof(struct page))

/* Something that waits for a turn of things (a page, space, a commit); embedded in its owner. Woken at most once a wait. */
struct waiter {
    struct list_node node;
    void (*wake)(struct waiter *waiter, enum io_status status);
};

/* How an attempt to get something ended. WAIT: the waiter will be woken, then try again from the start. */
enum got { GOT, WAIT, FAILED };

/* ---- pages ---- */
struct page {
    struct hash_node node;
    struct list_node cache_node; /* store->cache, for kinds that can be evicted */
    struct list_node dirty_node; /* store->dirty[kind] or the checkpoint's queue */
    struct list_node batch_node; /* pages with changes in the open batch */
    struct list_node urgent_node;
    struct list waiters; /* while it is being read */
    uint32_t space, index;
    uint32_t pins;
    bool loading, dirty, in_batch, in_urgent, referenced, dropped;
    bool imaging;            /* in the checkpoint's group: copied, or to be copied when the batch closes */
    uint8_t *image_wanted;   /* copy it here at the next close */
    uint64_t image_sequence; /* of the copy */
    uint64_t last_sequence;  /* newest closed record that has a change of this page */
    uint64_t disk_sequence;  /* of the copy on disk; 0 = none. Of owners: the move generation in which they were found out */
    uint64_t changed[8];     /* in the open batch */
    uint64_t urgent[8];      /* of those: may go ahead of it */
    uint64_t *shadow;        /* ALLOC: clusters not to be given out although their bit is clear; NULL = none */
    uint32_t shadow_count;
    uint8_t *bytes; /* 4 KiB, aligned: header and words */
    uint64_t *words;
};

/* A page that is only in memory: who holds the blocks of 63 clusters that a layer leaves to its ancestors, as far as a reader
 * found out. It lies in the cache as those of the disk do, and is evicted with them. */
#define PAGE_OWNERS 15u /* a kind that no disk has */
#define OWNERS_CLUSTERS (PAGE_WORDS * 2 / CLUSTER_BLOCKS)
#define OWNERS_DEPTH_MIN 4 /* layers looked at: fewer are found again as fast, by pages that take less room */
#define OWNER_UNKNOWN 0u
#define OWNER_ZERO UINT32_MAX /* nobody: reads as zeros; else the cluster, in which the block has its own place */

struct overlay_change {
    uint64_t value;
    uint64_t sequence_word; /* sequence × 512 + word */
};
/* Replayed changes of a page that was not read yet. */
struct overlay {
    struct hash_node node;
    struct list_node list_node;
    uint32_t space, index;
    uint32_t count, capacity;
    struct overlay_change *changes;
};

/* ---- layers and volumes ---- */

/* Blocks of a layer that someone writes (shared) or fills, copies (exclusive). In the layer's list in order of arrival. */
struct block_lock {
    struct list_node node; /* layer->locks */
    uint64_t first, last;  /* blocks */
    struct layer *layer;   /* NULL = not held and not waiting */
    bool exclusive, granted;
    bool clears; /* of a trim, which wants no cluster */
    struct waiter *waiter;
};

/* Blocks for all of which a write, or write-zeroes, of several steps has found space: nobody gives their clusters and nodes back,
 * and what would take the layer from under it waits (layer_hold_off). So it ends whole, however often it has to wait. */
struct hold {
    struct list_node node; /* layer->holds */
    struct layer *layer;   /* NULL = not held */
    uint64_t first, last;  /* blocks */
};

/* Clears a range of a layer's own blocks, step by step; resumable anywhere. Used by trim, reclaim, resize. */
struct walk {
    struct layer *layer;
    uint64_t start, first, end; /* blocks; first moves from start to end */
    bool hide;                  /* set zero bits where the parent could be asked */
    bool nodes;                 /* drop nodes that are inside as a whole */
    const struct hold *hold;    /* the walker's own, NULL = none: what others hold stays */
    struct waiter *waiter;
};

/* What reclaims or merges a layer; part of it, so that there is always memory for it. */
struct background {
    struct list_node node;      /* store->backgrounds */
    struct volume_store *store; /* NULL: there is nothing to do */
    struct layer *layer;
    struct waiter waiter;
    struct reactor_job job;
    bool queued;
    enum io_status stopped; /* IO_OK: goes on. IO_NO_SPACE, IO_NO_MEMORY: waits for some. Else: not before the next opening */
    uint64_t after;         /* number of the batch that says so: nothing is moved before it is durable */
    struct walk walk;
    bool walking;
    uint32_t roots; /* reclaimed so far */
    /* merging */
    struct layer *child; /* into which, so far */
    uint32_t cluster;    /* next word */
    uint32_t into;       /* the child's cluster that is being copied into */
    struct block_lock lock;
    uint8_t *buffer; /* one cluster, while copying */
    uint16_t copying;
    uint32_t pending;
    enum io_status status;
};

struct layer {
    struct list_node node; /* store->layers, by creation in this opening or by id */
    uint32_t id;
    struct page *record;
    struct layer *parent;
    struct list children;
    struct list_node sibling;
    struct volume *volume; /* NULL: nameless */
    unsigned child_count;  /* that are not deleting */
    uint32_t writes_in_flight;
    uint32_t busy; /* walkers and nodes being made that still refer to it */
    bool frozen;   /* a snapshot, or nameless: nothing new is written */
    bool draining; /* frozen with writes in flight: no batch is closed */
    bool damaged;
    bool copying;              /* inflate or decouple is at work: no merge into it */
    uint32_t content_changes;  /* how often what it holds has changed although it is frozen */
    unsigned heirs;            /* grandchildren that a decouple under way will make its children */
    struct external *external; /* it is another device's content; NULL = its own */
    uint64_t promise;          /* clusters a thick layer may still take */
    struct list locks;
    uint32_t exclusive_count; /* in locks, granted or not */
    struct list holds;
    struct list drain_waiters;
    struct background background;
};

enum external_state { EXTERNAL_ABSENT, EXTERNAL_OPEN, EXTERNAL_CLOSING };
/* A device that is the root of layers. */
struct external {
    struct volume_store *store;
    struct uuid source;
    uint64_t bytes;
    /* home reactor */
    struct layer *layer;           /* NULL: gone */
    struct block_channel *channel; /* NULL: the device is not there */
    uint32_t ios;                  /* reads under way */
    bool closing;
    /* control reactor */
    struct list_node node; /* store->externals */
    enum external_state state;
    bool layer_gone;
    struct block_handle handle;
    /* to the home reactor and back; each under way at most once */
    struct reactor_message open, close, closed, gone;
};

struct volume {
    struct block_device device; /* control reactor and block layer */
    struct volume_store *store;
    struct list_node node; /* store->volumes */
    struct hash_node by_uuid, by_name;
    struct uuid uuid;
    char name[VOLUME_NAME_SIZE];
    struct layer *layer; /* NULL once it is being deleted */
    bool read_only;
    enum volume_state state;
    unsigned progress_percent;
    struct list waiting;             /* commands that wait until it is idle */
    struct volume_command *deleting; /* no new commands */
    bool registered;                 /* control reactor's */
    /* requests that are under way, those before and after the last turn apart; who waits for those before */
    uint32_t under_way[2];
    unsigned generation;
    struct list idle_waiters;
    struct replica *replica; /* NULL = it is nobody's leg */
    struct volume_op *put;   /* the document under way */
    struct list puts;        /* struct replica_document, waiting */
    unsigned put_count;
    bool put_queued;
    struct reactor_job put_job;
    struct list early; /* writes that were answered and are not on the disk, by arrival */
    unsigned early_count;
};

/* ---- requests ---- */

/* One request to the base device. */
struct store_io {
    struct block_request request;
    struct volume_store *store;
    void (*done)(struct store_io *io); /* gives the io back itself */
    void *owner;
    struct layer *layer;       /* a data write: where its bits go */
    struct page *page;         /* pinned */
    struct external *external; /* a read of that instead of the base; NULL = the base */
    uint64_t first_block;
    uint32_t block_count, cluster; /* cluster: of first_block's map word when it was issued; the next ones follow on disk */
    bool sets_bits, embedded;      /* embedded: not of the pool */
    uint32_t epoch;                /* it began in; 0 = it uses no cluster that could be freed */
    uint32_t reserved_words;       /* of the batch, for its bits */
    uint32_t trail;                /* generation that it is counted in, 0 = none */
    uint64_t trail_covered;        /* a flush: what is listed before that */
    struct slice slices[IO_SLICES];
};

struct volume_op {
    struct waiter waiter;
    struct block_request *request;
    struct volume *volume;
    void (*resume)(struct volume_op *op);
    uint64_t cursor, end; /* bytes */
    uint32_t pending;     /* children under way */
    enum io_status status;
    bool waiting;      /* somebody wakes it */
    bool commit_after; /* FUA that the disk's own FUA does not cover */
    bool *ended;       /* inside submit: tell it there; else NULL */
    struct block_lock lock;
    struct hold hold;
    uint8_t *buffer;     /* one block: of a fill, or an answer that is put together */
    uint32_t zero_stage; /* of write-zeroes: which edge */
    struct reactor_job job;
    uint8_t generation;                                          /* in which count of its volume it is */
    struct layer *reads;                                         /* instead of the volume's own; held by `busy` */
    struct replica_document *put;                                /* of BLOCK_REPLICA_PUT */
    void (*inside)(struct volume_op *op, enum io_status status); /* told of the end instead of the block layer */
    /* while the range is being marked */
    void (*mark_next)(struct volume_op *op);
    void (*mark_wake)(struct waiter *waiter, enum io_status status);
    uint64_t mark_first, mark_end; /* regions of this round */
    uint32_t mark_depth;
    struct early_write *early; /* answered already; NULL = not */
    uint64_t early_until;      /* of a flush: of those before it, the last */
    /* not cleared for each request */
    struct walk walk;
};

/* ---- commit ---- */
/* Words that depend on no data and on no other change may go to the journal ahead of the batch that they are in, by a record of
 * their own, which waits for no flush of data: a replica's record and its marks. A full ring holds up only the latter. */
enum commit_urge { COMMIT_IN_TURN, COMMIT_AHEAD, COMMIT_AHEAD_OF_ALL };
enum commit_state { COMMIT_IDLE, COMMIT_DATA_FLUSH, COMMIT_RECORD, COMMIT_RECORD_FLUSH };
struct commit {
    enum commit_state state;
    bool scheduled, wanted;
    bool hasty; /* wanted by more than a FLUSH: not held back for company */
    struct reactor_job job;
    struct reactor_timer timer, hold;
    uint32_t joined, answered, expected;   /* waiters of the open batch; of the commit under way; who may come soon */
    uint64_t closed_ns, ended_ns, took_ns; /* took_ns: the last commit, from close to end */
    struct list batch;                     /* pages with changes */
    uint32_t batch_words, reserved_words;  /* in the open batch; promised to writes under way */
    enum commit_urge urge;                 /* what page_set() sets now may go ahead of the open batch */
    bool announcing;                       /* the next record is wanted for its header, whatever it holds */
    bool ahead;                            /* the record under way is of such words */
    bool ahead_before;                     /* so was the last one: the batch's turn, if it is wanted */
    struct list urgent;                    /* pages with such words */
    struct list urgent_waiters;            /* for them */
    struct list waiters;                   /* join the open batch */
    struct list running_waiters;           /* of the commit under way */
    struct list room_waiters;              /* wait for the batch to have room */
    uint64_t closed_sequence;              /* of the last record composed */
    uint64_t durable_sequence;
    uint64_t closed_batches, durable_batches; /* batches with changes; records ahead of them do not count */
    uint8_t *record;                          /* record_blocks_max blocks */
    uint32_t record_blocks, record_blocks_max, words_max;
    uint32_t record_parts;      /* writes under way */
    uint32_t ring_blocks, head; /* head: block where the next record begins */
    uint32_t used;              /* blocks of the ring that a replay needs, up to head */
    uint32_t durable_crc;       /* of the last durable record */
    uint64_t found_opening;     /* whose record, or superblock, was the last one at this opening */
    uint32_t record_crc;
    uint64_t opening_id;
    struct store_io ios[2];
};

enum checkpoint_state { CHECKPOINT_IDLE, CHECKPOINT_PAGES, CHECKPOINT_FLUSH, CHECKPOINT_SUPERBLOCK, CHECKPOINT_SUPERBLOCK_FLUSH };
struct checkpoint_slot {
    struct page *page, *holder; /* pinned; holder: has the reference, NULL for index pages */
    unsigned word, sub;
    struct store_io io;
};
struct checkpoint {
    enum checkpoint_state state;
    bool clean; /* nothing will follow: the store is being closed */
    bool stepping;
    uint32_t start_blocks; /* of the ring in use: time for one */
    unsigned round;        /* index into the order of kinds */
    struct list queue;     /* pages of this round to be written */
    struct waiter waiter;
    struct reactor_timer retry; /* memory was out */
    uint64_t sequence;          /* the journal up to here is free afterwards */
    uint32_t head, crc;         /* of the journal there */
    struct checkpoint_slot group[CHECKPOINT_GROUP];
    uint32_t group_count, group_writing;
    bool group_filled;
    uint8_t *images;    /* CHECKPOINT_GROUP pages */
    struct store_io io; /* flushes and the superblock */
    struct superblock *superblock;
    struct list waiters; /* wait for its end */
};

/* Freed clusters on their way to be given out again. */
struct freed {
    struct list_node node;
    uint64_t epoch;             /* wait until all requests up to this one are done */
    size_t count, capacity, at; /* at: next to be discarded */
    uint32_t *clusters;
};

struct node_making {
    struct list_node node; /* store->makings */
    struct layer *layer;   /* NULL: a table node */
    uint32_t space, index; /* of the first page of the node */
    struct page *holder;   /* pinned: has the reference */
    uint32_t word;
    uint32_t cluster;
    struct list waiters;
};

/* What was written since the last flush that ended well: kept for the process that comes next, entries by place % TRAIL_ENTRIES.
 * Places only rise. An entry is a block of the disk (44 bits) and how many (20). */
#define TRAIL_ENTRIES 65536u
#define TRAIL_GENERATIONS 16u
struct trail_memory {
    _Atomic uint64_t magic;
    struct uuid store_id;
    uint64_t opening;         /* whose list it is: the newest record on the disk is that one's, or this is of another disk */
    _Atomic uint64_t doubted; /* a leg here may show what no list tells of */
    uint64_t unlisted;        /* what was written before this place is not in the list */
    _Atomic uint64_t head, tail;
    _Atomic uint64_t entries[TRAIL_ENTRIES];
};
struct trail {
    struct trail_memory *memory;           /* NULL: none is kept; places are counted all the same */
    uint64_t head, tail;                   /* the next place; the first that is not on the disk */
    uint64_t oldest, newest;               /* generations: a new one begins with each flush */
    uint64_t starts[TRAIL_GENERATIONS];    /* place at which it began */
    uint32_t under_way[TRAIL_GENERATIONS]; /* requests that began in it */
    uint64_t awaited, covered; /* a flush ended well, and will count when generations up to this one have ended; 0 = none */
    uint64_t bytes;            /* since the last flush began */
    bool failed;               /* a flush */
};

struct volume_store {
    struct reactor *home, *control;
    struct block_graph *graph;
    struct block_handle base_handle;
    struct block_channel *base; /* opened on the home reactor */
    struct superblock super;    /* as last written */
    struct uuid store_id;
    struct uuid uuid; /* what users see */
    char name[VOLUME_NAME_SIZE];
    uint32_t total_clusters;
    bool read_only; /* asked for, or because of damage or unknown features */
    bool failed;    /* rule 10 */
    bool unproven;  /* it was not closed before this opening, and nobody left a list of what was not flushed */
    struct trail trail;
    bool closing;
    char reason[256];

    /* pages */
    struct hash_map pages;
    struct list cache;
    size_t cache_count, cache_limit; /* pages that can be evicted */
    size_t dirty_count;
    struct list dirty[PAGE_KINDS];
    struct list memory_waiters;
    void *page_slabs;
    struct page *page_free;
    struct hash_map overlays;
    struct list overlay_lists[PAGE_KINDS];
    size_t overlay_changes;

    /* space */
    uint64_t used_clusters, shadow_clusters, promised_clusters;
    uint64_t waiting_clusters;       /* shadow clusters that will be free again without help */
    uint32_t alloc_page, alloc_word; /* where the search begins */
    struct freed *freed_open, *freed_running;
    struct list grace, discards;
    bool discarding;
    struct list space_waiters;
    struct list makings;
    uint32_t *quarantined; /* a few, or none */
    uint32_t quarantined_count, quarantined_capacity;
    void *zero_block;
    void *fill_block; /* for a fill when the reactor's pool has no buffer left: so one of them always goes on */
    bool fill_block_lent;
    struct list fill_waiters; /* for it; empty while it is not lent */
    struct early_room *early; /* for payloads of writes that wait for a mark; NULL: those are not answered before */
    uint64_t early_sequence;  /* of the last one */
    unsigned early_count;
    uint64_t epoch, epoch_oldest;
    uint32_t epoch_count[EPOCH_RING];

    struct commit commit;
    struct checkpoint checkpoint;
    bool unflushed;    /* data was written since the last flush was issued */
    unsigned flushing; /* flushes under way */
    unsigned draining; /* layers */
    struct list drain_waiters;
    uint64_t gate_ticks;      /* when it was shut */
    uint64_t hold_ticks;      /* the longest that a command has kept requests from going on, since the opening */
    struct layer *gate;       /* the command waits until nothing of it is held: no new holds. NULL = none */
    struct list hold_waiters; /* for that */
    struct list gate_waiters; /* until the command has ended */
    uint64_t move_generation; /* rises when an ancestor's words may have moved */

    /* layers, volumes */
    struct layer **layer_by_id; /* LAYERS_MAX pointers, NULL = none */
    struct list layers;
    struct list volumes;
    struct hash_map by_uuid, by_name;
    unsigned volume_count;
    struct list commands;           /* waiting */
    struct volume_command *command; /* being carried out up to its change; NULL = none */
    struct waiter command_waiter;
    struct reactor_job command_job;
    bool commands_queued;
    uint32_t layer_hint; /* no free id below */
    struct list backgrounds;
    struct list copies;
    unsigned background_count;

    struct pool ops, ios;
    uint32_t ios_out;
    struct waiter close_waiter;
    struct reactor_timer close_timer;
    struct volume_command *closing_command;
    char control_name[VOLUME_NAME_SIZE]; /* the name as the control reactor knows it */
    struct list externals;               /* control reactor, as what follows */
    struct block_watcher watcher;
    struct reactor_job externals_job;
    bool externals_queued;
    unsigned close_devices; /* control reactor: still to be removed */
    unsigned close_stage;

    uint64_t commits, records, base_flushes, checkpoints, replayed_records, open_reads;
};
