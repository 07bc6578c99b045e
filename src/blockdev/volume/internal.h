/* Inside of src/blockdev/volume: what its files offer each other, file by file. Nobody outside this folder includes it, tests
 * apart. Everything is for the home reactor unless a comment says otherwise. The state that it is about: store.h. */
#pragma once

#include "blockdev/volume/store.h"

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

/* ---- early.c: writes of legs that are answered before their mark is durable ---- */
/* The room for them, once a store has a leg; without memory there are none. */
void early_init(struct volume_store *store);
void early_fini(struct volume_store *store);
/* GOT: the write is answered, and goes on as the store's own: it will have the space and the head that it has now, and the store
 * fails if it does. WAIT: again when woken. FAILED: it must wait for its mark. Inside of replica_mark(). */
enum got early_take(struct volume_op *op);
/* False: it waits for its turn at the disk. Of others nothing. */
bool early_goes(struct volume_op *op);
/* True if the range has blocks of such a write: look again when woken. */
bool early_meets(struct volume *volume, uint64_t offset, uint64_t length, struct waiter *waiter);
/* The same for any of those up to the one with this number. */
bool early_any(struct volume *volume, uint64_t until, struct waiter *waiter);

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
/* What a layer holds, or what it is compared with, will change by a merge or another parent: its checksum is not true any more. A
 * page of changes. */
void layer_content_changes(struct volume_store *store, struct layer *layer);

/* As volume_attribute_set() of VOLUME_CHECKSUM_ATTRIBUTE, if the layer's content is still that of command->content_changes. */
void checksum_set(struct volume_command *command);

/* ---- occupancy.c ---- */
/* The nearest ancestor that stays: what lies between is being merged into `layer` and counts as its own. NULL = none. */
struct layer *layer_below(const struct layer *layer);
/* Blocks of a cluster that its parent holds, or may, and that the layer hides by its limit: no word says so. */
uint16_t layer_hidden_by_limit(const struct layer *layer, uint32_t cluster);
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
