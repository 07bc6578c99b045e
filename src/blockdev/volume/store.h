/* Inside of src/blockdev/volume: the store's objects and what its files ask of each other. Everything is for the home reactor
 * unless a comment says otherwise. How the parts work together: docs/volume-store.md. */
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

/* ---- io.c: requests to the base device ---- */
/* Never NULL in practice: the pool's limit is above what can be under way; NULL when memory is out. */
struct store_io *io_take(struct volume_store *store, void (*done)(struct store_io *io), void *owner);
/* The same for an io that is part of its owner; io_give() only ends its epoch. */
void io_use(struct store_io *io, struct volume_store *store, void (*done)(struct store_io *io), void *owner);
void io_give(struct store_io *io);
/* Fields op, offset, length, slices of io->request are set. */
void io_submit(struct store_io *io);
/* One contiguous buffer. */
void io_buffer(struct store_io *io, enum block_op op, uint64_t offset, void *buffer, size_t length);
/* A flush of the base; marks what is covered. */
void io_flush(struct store_io *io);
void waiters_wake(struct list *waiters, enum io_status status);
/* Rule 10. Tells everyone who waits for durability. */
void store_fail(struct volume_store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Damage of shared metadata found while running: no more changes. */
void store_set_read_only(struct volume_store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool store_frozen(const struct volume_store *store) { return store->failed || store->read_only; }

/* ---- trail.c: what a process leaves behind ---- */
struct trail_left {
    struct trail_memory *memory;
    uint64_t *runs; /* entries, by block */
    size_t count, at;
    uint64_t done; /* blocks before this one were told */
};
/* Every request that changes the disk, and every flush, before it is sent and when it has ended. */
void trail_enter(struct store_io *io);
void trail_leave(struct store_io *io);
/* A list is kept from here on, if the store has a volatile disk and writes to it. There is a leg. */
void trail_begin(struct volume_store *store);
/* Says whether a leg is in doubt: after each change of that. */
void trail_look(struct volume_store *store);
bool trail_is_doubted(const struct volume_store *store);
/* `forget`: everything is flushed, and nothing in doubt. */
void trail_end(struct volume_store *store, bool forget);
/* The list of the process before, if it is of the opening that the disk tells of, and complete. */
bool trail_find(struct volume_store *store, uint64_t opening, struct trail_left *ret_left);
/* The next blocks that it may not have flushed, each once; false: there are no more. */
bool trail_next(struct trail_left *left, uint64_t most_blocks, uint64_t *ret_block, uint64_t *ret_count);
/* What it told of was written anew and flushed: the list goes on as this store's. */
void trail_take_over(struct volume_store *store, struct trail_left *left);
void trail_left_fini(struct volume_store *store, struct trail_left *left);

/* ---- epochs: which requests may still use a freed cluster ---- */
/* The io resolved to clusters in this turn and is about to be submitted. io_give() ends it. */
void epoch_enter(struct store_io *io);
/* True if every io that entered up to `epoch` is done. Begins a new one if it is needed for that. */
bool epoch_passed(struct volume_store *store, uint64_t epoch);

/* ---- page.c: the cache ---- */
struct page *page_find(struct volume_store *store, uint32_t space, uint32_t index);
/* Room for one more without going over the limit. */
bool page_room(struct volume_store *store);
/* A page with all words zero, in the cache under its key, pinned by nobody; NULL: no memory (or the cache is full of what cannot
 * go: then a checkpoint was started and `waiter`, if given, is woken when there is room). */
struct page *page_create(struct volume_store *store, uint32_t space, uint32_t index, struct waiter *waiter);
/* Out of the cache, whatever its state; freed when unpinned. */
void page_drop(struct volume_store *store, struct page *page);
static inline void page_pin(struct page *page) { page->pins++; }
void page_unpin(struct volume_store *store, struct page *page);
/* Sets a word as part of the open batch. */
void page_set(struct volume_store *store, struct page *page, unsigned word, uint64_t value);
/* Sets bits that are not journaled. */
void page_set_places(struct volume_store *store, struct page *page, unsigned word, uint64_t value);
void page_mark_dirty(struct volume_store *store, struct page *page);
void page_clean(struct volume_store *store, struct page *page);
/* True for node references: a journaled change of one clears its places. */
bool word_is_reference(uint32_t space, uint32_t index, unsigned word);
/* True if a change of it is not durable yet. */
static inline bool page_pending(const struct volume_store *store, const struct page *page) {
    return page->in_batch || page->last_sequence > store->commit.durable_sequence;
}
/* Fills header and checksum of an image. */
void page_seal(const struct volume_store *store, uint8_t *image, uint32_t space, uint32_t index, uint64_t sequence,
               uint64_t place, uint64_t generation);
/* NULL, or what is wrong with it. */
const char *page_verify(const struct volume_store *store, const uint8_t *image, uint32_t space, uint32_t index, uint64_t place);
void cache_fini(struct volume_store *store);
/* Overlays. overlay_add: false if there is no memory. */
struct overlay *overlay_find(struct volume_store *store, uint32_t space, uint32_t index);
bool overlay_add(struct volume_store *store, uint32_t space, uint32_t word, uint64_t value, uint64_t sequence);
void overlay_drop(struct volume_store *store, struct overlay *overlay);
/* Applies a replayed value to a word of a page: keeps or clears places. */
void overlay_apply_word(struct page *page, unsigned word, uint64_t value);

/* ---- space.c: which page is where ---- */
/* The page, loaded; places and parents of it are fetched on the way. FAILED: *ret_status. */
enum got page_get(struct volume_store *store, uint32_t space, uint32_t index, struct waiter *waiter, struct page **ret_page,
                  enum io_status *ret_status);
/* Word `cluster` of a layer's map, without making a page that is not there. */
enum got map_get(struct volume_store *store, struct layer *layer, uint32_t cluster, struct waiter *waiter, uint64_t *ret_word,
                 enum io_status *ret_status);
/* The page of a map word, made (with its nodes) if it is not there. */
enum got map_page_for_write(struct volume_store *store, struct layer *layer, uint32_t cluster, bool housekeeping,
                            struct waiter *waiter, struct page **ret_page, enum io_status *ret_status);
/* Directory page for node reference `node` of a layer, made if it is not there. */
enum got dir_page_for_write(struct volume_store *store, struct layer *layer, uint32_t node, bool housekeeping,
                            struct waiter *waiter, struct page **ret_page, enum io_status *ret_status);
/* The node reference itself (word `node` of the layer's DIR space) without making pages. */
enum got dir_get(struct volume_store *store, struct layer *layer, uint32_t node, struct waiter *waiter, uint64_t *ret_reference,
                 enum io_status *ret_status);
/* Starts to make a node whose reference is word `word` of `holder`: WAIT, or FAILED with IO_NO_SPACE. */
enum got node_make(struct volume_store *store, struct layer *layer, uint32_t space, uint32_t index, struct page *holder,
                   unsigned word, bool housekeeping, struct waiter *waiter, enum io_status *ret_status);
/* Forgets the cached pages [first, first + count) of a space. */
void pages_forget(struct volume_store *store, uint32_t space, uint32_t first, uint32_t count);
/* Where a page's reference is: the holder's key and word, and which page of the node it is. */
void page_holder(uint32_t space, uint32_t index, uint32_t *ret_space, uint32_t *ret_index, unsigned *ret_word, unsigned *ret_sub);
/* Block number of a page's place. */
uint64_t page_place(uint32_t space, uint32_t index, uint64_t reference, unsigned place);

/* ---- allocator.c ---- */
enum space_purpose { SPACE_DATA, SPACE_HOUSEKEEPING };
/* True if `count` clusters may be taken for this layer (NULL: the store's own). */
bool space_available(const struct volume_store *store, const struct layer *layer, uint64_t count, enum space_purpose purpose);
/* Takes one cluster: its bit is set (in the open batch), or with `shadow_only` its shadow. WAIT also while freed clusters are on
 * their way back. FAILED: IO_NO_SPACE. */
enum got cluster_take(struct volume_store *store, struct layer *layer, enum space_purpose purpose, bool shadow_only,
                      struct waiter *waiter, uint32_t *ret_cluster, enum io_status *ret_status);
/* Makes a shadow-only cluster a used one, or free again; its ALLOC page is pinned by the shadow. */
void cluster_keep(struct volume_store *store, uint32_t cluster);
void cluster_return(struct volume_store *store, uint32_t cluster, bool quarantine);
/* The ALLOC page of a cluster and memory to remember it by, for one cluster_free() in this turn. */
enum got cluster_free_prepare(struct volume_store *store, uint32_t cluster, struct waiter *waiter, enum io_status *ret_status);
/* Frees it as part of the open batch; its ALLOC page is in the cache. */
void cluster_free(struct volume_store *store, uint32_t cluster);
/* A data write to it failed: it is not given out again in this opening. */
void cluster_quarantine(struct volume_store *store, uint32_t cluster);
/* The batch closed / became durable / epochs moved. */
void freed_close(struct volume_store *store);
void freed_durable(struct volume_store *store);
void freed_advance(struct volume_store *store);
void freed_fini(struct volume_store *store);
void promise_update(struct volume_store *store, struct layer *layer);
uint32_t alloc_pages(const struct volume_store *store);
/* An ALLOC page that was never written: its fixed clusters. */
void alloc_page_init(const struct superblock *super, uint32_t index, uint64_t *words);

/* ---- commit.c ---- */
void commit_init(struct volume_store *store);
/* The waiter is woken when all that is completed and changed now is durable. */
void commit_join(struct volume_store *store, struct waiter *waiter);
/* The same, of words that were set while commit->urge was not COMMIT_IN_TURN: woken when those are durable. */
void commit_join_ahead(struct volume_store *store, struct waiter *waiter);
/* Closes the open batch soon. */
void commit_hasten(struct volume_store *store);
/* Soon there is a record of this opening, so that the disk tells of it. */
void commit_announce(struct volume_store *store);
/* Room in the open batch for `words` more changes; else WAIT. Asked before changes of the same turn, or with commit_reserve(). */
enum got commit_room(struct volume_store *store, uint32_t words, struct waiter *waiter);
/* Keeps room for changes that come when an I/O ends. */
static inline void commit_reserve(struct volume_store *store, uint32_t words) { store->commit.reserved_words += words; }
void commit_unreserve(struct volume_store *store, uint32_t words);
/* A layer has drained, or ring space came free. */
void commit_kick(struct volume_store *store);
void commit_changed(struct volume_store *store);
/* Reads a record at `block` of the ring image: 0 = not a record of this store, else its blocks. */
uint32_t record_check(const struct uuid *store_id, const uint8_t *ring, uint32_t ring_blocks, uint32_t block, uint8_t *scratch,
                      uint32_t blocks_max);

/* ---- checkpoint.c ---- */
void checkpoint_init(struct volume_store *store);
void checkpoint_start(struct volume_store *store);
/* A reason for one may have come up. */
void checkpoint_consider(struct volume_store *store);
/* Called at the close of a batch for a page that asked for it. */
void checkpoint_take_image(struct volume_store *store, struct page *page);
/* Something it waits for may have happened. */
void checkpoint_kick(struct volume_store *store);
/* A page got replayed changes when it was read. */
void checkpoint_overlay_applied(struct volume_store *store, struct page *page);
void superblock_seal(struct superblock *super);

/* ---- layer.c ---- */
struct layer *layer_attach(struct volume_store *store, uint32_t id, struct page *record);
void layer_set_parent(struct volume_store *store, struct layer *layer, struct layer *parent);
void layer_detach(struct volume_store *store, struct layer *layer);
/* A record page for a new layer, all zero, pinned by the layer that will be made of it. */
enum got layer_record_new(struct volume_store *store, struct waiter *waiter, struct page **ret_page, enum io_status *ret_status);
static inline uint64_t layer_get(const struct layer *layer, unsigned word) { return layer->record->words[word]; }
static inline uint64_t layer_size(const struct layer *layer) { return layer->record->words[LAYER_SIZE]; }
static inline enum layer_state layer_state(const struct layer *layer) {
    return LAYER_STATE_OF(layer->record->words[LAYER_STATE]);
}
void layer_set(struct volume_store *store, struct layer *layer, unsigned word, uint64_t value);
/* Writes in flight ended. */
void layer_write_done(struct volume_store *store, struct layer *layer);
/* Blocks of a cluster (as a mask) for which the parent may be asked. */
uint16_t layer_parent_mask(const struct layer *layer, uint32_t cluster);
void layer_mark_damaged(struct volume_store *store, struct layer *layer, const char *what);
const uint8_t *record_identity(const struct page *record, uint32_t *ret_size);
/* Replaces the identity; false: too long. */
bool record_set_identity(struct volume_store *store, struct page *record, const uint8_t *identity, uint32_t size);
/* Takes an attribute away, if it is there; a page of changes in the open batch. */
void identity_drop_attribute(struct volume_store *store, struct page *record, const char *key);
bool identity_append(uint8_t *identity, uint32_t *size, uint16_t type, const void *bytes, size_t length);
/* Block locks. False: waits, `waiter` is woken when it is granted. */
bool lock_take(struct layer *layer, struct block_lock *lock, uint64_t first, uint64_t last, bool exclusive,
               struct waiter *waiter);
void lock_release(struct block_lock *lock);
/* Holds: what is to be held is there, in this turn. */
void hold_take(struct layer *layer, struct hold *hold, uint64_t first, uint64_t last);
void hold_release(struct volume_store *store, struct hold *hold);
/* True if another hold than `own` has a block of [first, last]. */
bool hold_covers(const struct layer *layer, uint64_t first, uint64_t last, const struct hold *own);
/* For the command being carried out, in the turn of its change: GOT if nothing of the layer is held. */
enum got layer_hold_off(struct volume_store *store, struct layer *layer, struct waiter *waiter);
/* WAIT: the layer's holds are counted out; the waiter, which holds and locks nothing, is woken afterwards. */
static inline enum got hold_gate(struct volume_store *store, const struct layer *layer, struct waiter *waiter) {
    if (likely(store->gate != layer))
        return GOT;
    list_push_back(&store->gate_waiters, &waiter->node);
    return WAIT;
}

/* ---- requests: read.c, write.c, trim.c ---- */
void volume_submit(struct block_channel *channel, struct block_request *request);
void read_start(struct volume_op *op);
void write_start(struct volume_op *op);
void trim_start(struct volume_op *op);
void op_end(struct volume_op *op, enum io_status status);
/* A read of `layer` (NULL = the volume's own) for ourselves, with an op and a request of ours; `done` is called instead of
 * request->complete(). */
void op_read_inside(struct volume_op *op, struct volume *volume, struct layer *layer, struct block_request *request,
                    void (*done)(struct volume_op *op, enum io_status status));
/* Ends it when its last child is done. */
void op_fail(struct volume_op *op, enum io_status status);
/* Ends it when all that is done so far is durable. */
void op_commit(struct volume_op *op);
/* The request's payload from byte `from` as slices of an io: how many bytes fit, 0 = not one sector. */
uint64_t op_slices(struct volume_op *op, struct store_io *io, uint64_t from, uint64_t length);
/* Goes on writing at op->cursor; write-zeroes use it for their edges. */
void write_run(struct volume_op *op);
/* IO_OK, or why nothing may be written up to byte `end` of the op's volume any more. */
enum io_status change_status(const struct volume_op *op, uint64_t end);
/* Every cluster of the bytes [from, end) is there afterwards, or nothing was changed that anyone could see. */
enum got write_prepare(struct volume_op *op, struct layer *layer, uint64_t from, uint64_t end, enum io_status *ret_status);
void trim_run(struct volume_op *op);
void op_child_done(struct volume_op *op, enum io_status status);
/* Gives op->buffer back, if it has one. */
void op_buffer_give(struct volume_op *op);
/* What each block of `mask` in a cluster reads as, through the chain: a base block number, or 0 = zeros. `skip_own`: begin at the
 * parent. */
struct resolved {
    uint64_t block[CLUSTER_BLOCKS]; /* OUTSIDE_BLOCKS and above: blocks of `external` */
    struct external *external;
};
#define OUTSIDE_BLOCKS (UINT64_C(1) << 40) /* more than a base can have */
enum got chain_resolve(struct volume_store *store, struct layer *layer, uint32_t cluster, uint16_t mask, bool skip_own,
                       bool one_level, struct waiter *waiter, struct resolved *ret, enum io_status *ret_status);

/* ---- external.c ---- */
/* For a read of what a block resolved to: before io_submit() with its place, times BLOCK_BYTES, as the offset. */
void io_aim(struct store_io *io, const struct resolved *resolved, uint64_t block);
/* From io_submit() and when it is done. */
void external_submit(struct store_io *io);
void external_io_done(struct external *external);
/* Gives a layer whose record says so its device, which is not looked for yet; NULL: no memory. */
struct external *external_attach(struct volume_store *store, struct layer *layer);
/* The layer is freed. */
void external_detach(struct layer *layer);
/* Begins to delete the layer if it is another device's content and has no children any more. NULL: nothing. A few words. */
void external_unused(struct volume_store *store, struct layer *layer);
/* At the root of the layer's chain; NULL = none. */
const struct external *external_below(const struct layer *layer);
bool external_is_there(const struct external *external);
/* A new layer that is the device of command->snapshot with size_bytes, in this turn; the batch has room. NULL: answered, or
 * waits. */
struct layer *external_layer_new(struct volume_command *command);
/* Checks command->device and takes note of what it is, then as command_start(). Control reactor. */
void external_start(struct volume_command *command, void (*run)(struct volume_command *command));
/* As `after` of such a command. Control reactor. */
void external_commanded(struct volume_command *command);
/* Control reactor: the store's are looked for from now on; each new one; none any more (they end while the store is closed). */
void externals_begin(struct volume_store *store);
void external_adopt(struct external *external);
bool externals_end(struct volume_store *store);
bool external_fits(const struct volume_store *store, const struct block_device *device, uint64_t bytes, struct error *error);
/* RAM only. */
void externals_free(struct volume_store *store);

/* ---- parent.c ---- */
/* What a layer holds will change by a merge or another parent: its checksum is not true any more. A page of changes. */
void layer_content_changes(struct volume_store *store, struct layer *layer);

/* As volume_attribute_set() of VOLUME_CHECKSUM_ATTRIBUTE, if the layer's content is still that of command->content_changes. */
void checksum_set(struct volume_command *command);

/* ---- occupancy.c ---- */
/* Fills *map for `layer`; its first_block and `deep` are set. */
enum got occupancy_get(struct volume_store *store, struct layer *layer, struct volume_map *map, struct waiter *waiter,
                       enum io_status *ret_status);

/* GOT: done. WAIT: go on when woken. `budget` words were looked at: GOT is not returned and *budget is 0: call again later. */
enum got walk_clear(struct volume_store *store, struct walk *walk, uint32_t *budget, enum io_status *ret_status);

/* ---- background.c: deleting and merging layers; merge.c: how one merges ---- */
/* The layer's state was just set to deleting or merging. */
void background_start(struct volume_store *store, struct layer *layer);
/* Something they wait for may have happened. */
void background_kick(struct volume_store *store);
void background_queue(struct background *background);
/* It cannot go on, see `stopped`. */
void background_stop(struct background *background, enum io_status status);
/* Takes up what the last opening left. */
void background_resume(struct volume_store *store);
void background_fini(struct volume_store *store);
/* Some words of a merge. GOT: all of them are done. */
enum got merge_step(struct background *background, uint32_t *budget, enum io_status *ret_status);
struct layer *layer_only_child(const struct layer *layer);
void layer_set_state(struct volume_store *store, struct layer *layer, enum layer_state state);

/* ---- command.c: how commands run ---- */
/* From the control reactor: `run` on the home reactor, in its turn, and again whenever what it waited for has come. */
void command_start(struct volume_command *command, void (*run)(struct volume_command *command));
/* The same for the later part of a command that was handed to the control reactor. */
void command_resume(struct volume_command *command, void (*run)(struct volume_command *command));
/* The volume of a command is idle again, or the command queue may go on. */
void commands_step(struct volume_store *store);
void volume_set_idle(struct volume_store *store, struct volume *volume);
/* False: answered, the store takes no changes. */
bool command_may_change(struct volume_command *command);
/* The command's volume, idle; NULL: answered, or put aside until it is. */
struct volume *command_target(struct volume_command *command);
/* Sets the error that there is no such volume; false, as error_set(). */
bool command_no_such(struct volume_command *command);
/* What the control reactor is to do with a volume's device when the command is answered. */
void command_subject(struct volume_command *command, struct volume *volume);
/* It lets others run, and is answered later by whoever has it then. */
void command_leave(struct volume_store *store, struct volume_command *command);
/* Ends a command whose changes are in the open batch: answered when they are durable. `after`: on the control reactor, if it
 * succeeded, instead of command->done; NULL = none. */
void command_commit(struct volume_store *store, struct volume_command *command, void (*after)(struct volume_command *command));
/* Ends one that has changed nothing. */
void command_finish(struct volume_command *command, bool ok, void (*after)(struct volume_command *command));
/* Its error is set; or is to be that of a status. */
void command_fail(struct volume_store *store, struct volume_command *command);
void command_fail_status(struct volume_command *command, enum io_status status);

/* ---- tree.c, copy.c: commands that change the tree ---- */
struct volume *volume_new(struct volume_store *store, struct layer *layer, const char *name, const struct uuid *uuid);
void volume_forget(struct volume_store *store, struct volume *volume);
/* The device of a volume that is being deleted is gone. Control reactor. */
void volume_device_removed(struct volume_command *command);
/* Copying for inflate and decouple. */
void copy_start(struct volume_store *store, struct volume_command *command, struct volume *volume, bool decouple);
/* Clearing the volume's own blocks from `size` up to `tail`, later in this turn or after it. `command` may be NULL; else false:
 * it was answered. */
bool tail_start(struct volume_store *store, struct volume_command *command, struct volume *volume, uint64_t size, uint64_t tail);
void copies_kick(struct volume_store *store);
void copies_fini(struct volume_store *store);

/* ---- identity.c ---- */
/* Checks and completes name and UUID of what is to be made; false: answered. */
bool identity_new(struct volume_command *command);
/* The identity that its record will have; false: answered. `identity` has IDENTITY_BYTES. */
bool identity_compose(struct volume_command *command, uint8_t *identity, uint32_t *ret_size);

/* ---- device.c: volumes as block devices, and the control reactor's side ---- */
bool volumes_build(struct volume_store *store);
void devices_register_all(struct volume_store *store);
void devices_remove_all(struct volume_store *store);
void base_event(struct block_handle *handle, enum block_event event);
struct volume *volume_find(struct volume_store *store, const struct uuid *uuid);
/* The control reactor's part of commands that succeeded; each ends with command->done(). */
void volume_registered(struct volume_command *command);
void volume_resized(struct volume_command *command);
void volume_renamed(struct volume_command *command);
void volume_made_read_only(struct volume_command *command);
void store_renamed(struct volume_command *command);
/* Goes on with the deletion on the home reactor when the device is closed everywhere. */
void volume_remove_device(struct volume_command *command);

/* ---- close.c ---- */
void store_close_devices_gone(struct volume_store *store);

/* ---- bulk.c: many requests, a few at a time ---- */
#define BULK_DEPTH 16
struct bulk {
    struct volume_store *store;
    enum block_op op;
    uint32_t count, next, pending;
    enum io_status status; /* the first failure */
    /* Where item `i` lies and its memory; false: skip it. */
    bool (*describe)(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length);
    void (*item)(struct bulk *bulk, uint32_t i, enum io_status status); /* NULL = nothing to do */
    void (*done)(struct bulk *bulk);
    void *owner;
    struct reactor_job job;
    struct bulk_slot {
        struct store_io io;
        uint32_t i;
        bool busy;
    } slots[BULK_DEPTH];
};
/* The caller has set all up to `owner`; `done` comes from the loop. */
void bulk_start(struct bulk *bulk);

/* ---- formatting.c, open.c, replay.c ---- */
/* Applies the records after the checkpoint from an image of the ring; `unreadable`: a part of it could not be read. False: no
 * memory. */
bool replay_run(struct volume_store *store, const uint8_t *ring, bool unreadable);
/* NULL, or what is wrong with its numbers. */
const char *superblock_verify(const struct superblock *super, uint64_t base_bytes);
/* Superblock images of both places to the newest valid one. ERROR_FOREIGN, ERROR_UNSUPPORTED, ERROR_DAMAGED. */
bool superblock_choose(const struct superblock images[2], uint64_t base_bytes, struct superblock *ret_super, struct error *error);
void store_free(struct volume_store *store);
bool store_alloc(struct block_device *base, struct reactor *home, struct reactor *control, uint64_t cache_bytes,
                 struct volume_store **ret_store, struct error *error);
