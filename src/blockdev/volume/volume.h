/* The volume store: thin and thick volumes, snapshots and clones on a disk. What is stored how: docs/volume-format.md; how it
 * works: docs/volume-store.md.
 *
 * A store claims its base device and registers each volume and snapshot in the same block graph: the device's name is the
 * volume's UUID as text, its alias "store/volume"; I/O goes through the block contract. All else are commands.
 *
 * Calling context: volume_store_format(), _open() and every command are called on the node's control reactor, `done` is called
 * there, never from inside the call. The store does its work on its home reactor, which may be the same one. */
#pragma once

#include "block/device.h"

#define VOLUME_NAME_SIZE 128                          /* of stores and volumes, with the terminator */
#define VOLUME_ATTRIBUTES_SIZE 3072                   /* all keys, values and 8 bytes for each, of one volume */
#define VOLUME_CHECKSUM_ATTRIBUTE "snapshot_checksum" /* of volume_scan(); a merge into the snapshot takes it away */
#define VOLUME_CACHE_DEFAULT MIB(256)
#define VOLUME_CACHE_MIN MIB(4)

struct replica_tree;
struct volume;
struct volume_store;

/* ---- making and opening a store: caller's memory, untouched until done ---- */

struct volume_store_format {
    struct block_device *base;
    struct reactor *home;   /* where the work is done */
    const char *name;       /* text_is_name(), below VOLUME_NAME_SIZE */
    struct uuid uuid;       /* nil = random */
    uint32_t unit_bytes;    /* `cluster_sz`: sizes are rounded up to it; power of two, 4 KiB … 1 GiB; 0 = 1 MiB */
    uint64_t journal_bytes; /* 0 = as docs/volume-store.md says; 1 … 32 MiB */
    bool force;             /* overwrite what is there; else ERROR_FOREIGN, or ERROR_EXISTS if it is a store */
    bool discard;           /* trim the whole disk first */

    void (*done)(struct volume_store_format *format);
    bool ok;
    struct error error;
    struct reactor_message message; /* the store's, as what follows */
    void *private;
};
/* Writes an empty store. ERROR_NO_SPACE: the disk is too small (16 MiB is enough). */
void volume_store_format(struct volume_store_format *format);

struct volume_store_open {
    struct block_device *base;
    struct reactor *home;
    uint64_t cache_bytes;      /* limit of map pages kept, 0 = VOLUME_CACHE_DEFAULT */
    uint64_t checkpoint_bytes; /* of journal in use when a checkpoint begins; 0 = half of the ring */
    bool read_only;            /* writes nothing; several may do so at once */

    void (*done)(struct volume_store_open *open);
    bool ok;
    struct error error; /* ERROR_FOREIGN: no store; ERROR_DAMAGED: not even readable; ERROR_UNSUPPORTED: a newer format */
    struct volume_store *store;
    struct reactor_message message; /* the store's, as what follows */
    void *private;
};
/* Recovers and registers all volumes. Also ok when damage or unknown features leave it read-only: see volume_store_info. */
void volume_store_open(struct volume_store_open *open);

/* ---- commands ---- */

#define VOLUME_MAP_BLOCKS 8192u /* 32 MiB */
/* Which blocks (of 4 KiB) a volume or snapshot holds, a piece of it. */
struct volume_map {
    uint64_t first_block;                     /* asked for from here, rounded down to a multiple of 64 KiB */
    bool deep;                                /* what its ancestors hold counts as its own */
    uint64_t end_block;                       /* told up to here: VOLUME_MAP_BLOCKS, or more of which nothing is held */
    uint64_t held[VOLUME_MAP_BLOCKS / 64];    /* its own data; bit 0: first_block */
    uint64_t cleared[VOLUME_MAP_BLOCKS / 64]; /* zeros of its own, in front of what its ancestors may hold; not if `deep` */
};

/* One command: caller's memory, texts included, untouched until done. Unused arguments are zero. */
struct volume_command {
    struct volume_store *store;
    struct uuid volume;       /* which volume or snapshot; not for store commands and volume_create() */
    const char *name;         /* new volume, snapshot or clone; new name; attribute's key */
    const char *value;        /* attribute's value */
    const char *const *pairs; /* key, value, … of pair_count attributes, set with the creation */
    unsigned pair_count;
    uint64_t size_bytes;
    bool thick;
    bool children;               /* volume_list() */
    struct uuid new_uuid;        /* of what is created; nil = random */
    struct uuid snapshot;        /* volume_revert(), volume_parent_set() */
    struct block_device *device; /* volume_clone_device(), volume_parent_set_device() */

    void (*done)(struct volume_command *command);
    bool ok;
    struct error error;
    struct uuid ret_uuid;                 /* of what was created */
    char *ret_text;                       /* volume_attribute_get(): the caller frees it */
    struct volume_info *ret_infos;        /* volume_list(): the caller frees it */
    struct volume_store_info *store_info; /* volume_store_describe(): the caller's, filled */
    struct volume_map *map;               /* volume_map_get(): the caller's, filled */
    size_t ret_count;

    /* the store's */
    struct reactor_message message;
    struct list_node node;
    void (*run)(struct volume_command *command); /* on the home reactor */
    struct volume *subject;                      /* what the control reactor's part is about */
    uint64_t subject_blocks;
    uint32_t content_changes;        /* checksum_set(): as it was when the work began */
    struct external *external;       /* a new one, for the control reactor */
    const struct replica_tree *tree; /* a mirror's change of its leg; NULL = anybody's command */
    struct volume *leg;
    void *private[4];
};

/* Every command's answer is durable. Errors common to all: ERROR_READ_ONLY (store opened so, or damaged), ERROR_IO (the store has
 * failed: see volume_store_info.failed), ERROR_NO_DEVICE (no such volume), ERROR_NO_MEMORY.
 *
 * Makes an empty volume of at least size_bytes (> 0). ERROR_EXISTS: name or UUID is taken; ERROR_NO_SPACE: for a thick one. */
void volume_create(struct volume_command *command);
/* Takes volume or snapshot away; waits until its device is closed everywhere. Space returns in the background. ERROR_PERMISSION:
 * it has more than one child. */
void volume_delete(struct volume_command *command);
/* Freezes the volume's content under `name`. ERROR_EXISTS; ERROR_INVALID: the source is read-only. A thick volume is thin
 * afterwards. */
void volume_snapshot_create(struct volume_command *command);
/* Makes a writable volume with the content of `volume`, which must be a snapshot or read-only (else ERROR_INVALID). */
void volume_clone(struct volume_command *command);
/* Makes a writable thin volume with the content of a device of another kind or store, which is known by its UUID: while it is
 * absent, what would be read from it fails with IO_NOT_READY. Nobody may change it. ERROR_INVALID: its size is no multiple of the
 * store's unit, its blocks are larger than the store's, or it is a volume of this store. Such a volume cannot be a leg. */
void volume_clone_device(struct volume_command *command);
/* The volume gets the content (and size) of `snapshot`, one of its ancestors; what it held itself is dropped. I/O under way ends
 * up before or after. */
void volume_revert(struct volume_command *command);
void volume_rename(struct volume_command *command);
/* Rounded up to units. Shrinking cuts off: growing again shows zeros. */
void volume_resize(struct volume_command *command);
void volume_set_read_only(struct volume_command *command);
/* Copies what the ancestors hold into the volume, which then has no parent. ERROR_NO_SPACE leaves content and parent as they
 * were. */
void volume_inflate(struct volume_command *command);
/* The same for what the direct parent holds; the parent's parent is the new one. ERROR_INVALID without a parent. */
void volume_decouple(struct volume_command *command);
/* The volume's parent is left out: the parent's parent takes its place, nothing is copied. ERROR_INVALID without a parent;
 * ERROR_BUSY while the parent is on its way out itself. */
void volume_parent_detach(struct volume_command *command);
/* `snapshot` becomes the volume's parent: what the volume does not hold itself reads as that. ERROR_EXISTS: it is already;
 * ERROR_INVALID: it is not a snapshot, a descendant, larger than the volume, or the volume is thick; ERROR_BUSY as above. */
void volume_parent_set(struct volume_command *command);
/* The same with a device of another kind or store, as volume_clone_device(). */
void volume_parent_set_device(struct volume_command *command);
/* value NULL removes. ERROR_PERMISSION: read-only volume that is not a snapshot; ERROR_NO_SPACE: beyond VOLUME_ATTRIBUTES_SIZE.
 */
void volume_attribute_set(struct volume_command *command);
/* ERROR_NOT_FOUND. */
void volume_attribute_get(struct volume_command *command);
/* Fills command->map. */
void volume_map_get(struct volume_command *command);
/* All volumes of the store in order of creation; or, if that is set, `volume`, and with `children` those directly upon it. */
void volume_list(struct volume_command *command);

/* Fills command->store_info. */
void volume_store_describe(struct volume_command *command);
void volume_store_rename(struct volume_command *command);
/* Takes the base device's growth into use; ok when there was none. */
void volume_store_grow(struct volume_command *command);
/* Unregisters all volumes (waits until they are closed everywhere), writes a checkpoint and gives the base device back. The store
 * is gone afterwards even if that failed (then !ok: recovery will do it). */
void volume_store_close(struct volume_command *command);

/* Where a volume stands in a command that takes a while. */
enum volume_state { VOLUME_IDLE, VOLUME_RESIZING, VOLUME_INFLATING, VOLUME_DECOUPLING };
struct volume_info {
    struct uuid uuid, parent; /* parent: nil = none, or a nameless one that is being merged */
    char name[VOLUME_NAME_SIZE], parent_name[VOLUME_NAME_SIZE];
    uint64_t size_bytes, used_bytes; /* used: own clusters */
    uint64_t created_ns;             /* since 1970 */
    unsigned child_count;            /* clones and heads directly upon it */
    bool thick, snapshot, read_only;
    bool damaged;       /* it or an ancestor: I/O gives IO_DAMAGED */
    struct uuid source; /* the direct parent is this device; nil = none */
    bool source_absent; /* the device at the root of its chain is not there */
    enum volume_state state;
    unsigned progress_percent; /* of that state */
};

struct volume_store_info {
    struct uuid uuid;
    char name[VOLUME_NAME_SIZE];
    const char *base_name;
    uint32_t sector_bytes, unit_bytes, cluster_bytes;
    uint64_t total_bytes;       /* for data and its metadata */
    uint64_t free_bytes;        /* neither used nor promised nor reserved */
    uint64_t promised_bytes;    /* to thick volumes, not yet used */
    uint64_t provisioned_bytes; /* sizes of all volumes and snapshots */
    uint64_t max_growable_bytes;
    unsigned volume_count;
    bool nearly_full; /* ≥ 80 % used or promised */
    bool read_only;
    bool failed;                                          /* rule 10: until it is opened anew */
    char reason[256];                                     /* of read_only or failed */
    unsigned background;                                  /* layers being merged or reclaimed */
    uint64_t commits, records, base_flushes, checkpoints; /* since the opening */
    uint64_t replayed_records, open_reads;                /* of the opening */
    uint64_t longest_hold_ns;                             /* that a command (a snapshot, say) has kept requests from going on */
    uint64_t cache_bytes;
    uint64_t journal_bytes, journal_used_bytes; /* the ring; of it, what a replay would read */
};
/* The same as volume_store_describe(), for callers on the store's home reactor. */
void volume_store_info(struct volume_store *store, struct volume_store_info *ret_info);

/* ---- going through what a snapshot holds: checksums, copies to another device ---- */

enum volume_scan_what {
    VOLUME_SCAN_SUM, /* one checksum of all in which the snapshot differs from its parent, and where; kept as its attribute */
    VOLUME_SCAN_UNIT_SUMS,  /* one for each unit of which it holds something itself */
    VOLUME_SCAN_COPY,       /* what it holds itself, block by block, zeros too: over a copy of its parent gives a copy of it */
    VOLUME_SCAN_COPY_DEEP,  /* what it or any ancestor holds */
    VOLUME_SCAN_COPY_UNITS, /* these units as they read, whoever holds them */
};
struct volume_unit_sum {
    uint64_t unit, sum;
    bool held;
};

/* Caller's memory, arguments included, untouched until done but for volume_scan_cancel() and the counters. */
struct volume_scan {
    enum volume_scan_what what;
    struct block_device *from; /* a snapshot, or a read-only volume */
    struct block_device *to;   /* copies: no smaller; claimed meanwhile */
    const uint64_t *units;     /* COPY_UNITS: unit_count of them */
    uint64_t first_unit;       /* UNIT_SUMS: from here, unit_count of them; those beyond the end are left out */
    size_t unit_count;
    struct volume_unit_sum *sums; /* UNIT_SUMS: the caller's, unit_count of them, filled */

    void (*done)(struct volume_scan *scan); /* control reactor */
    bool ok;
    struct error error; /* ERROR_BUSY: what it holds has changed meanwhile (SUM); ERROR_CANCELLED */
    uint64_t ret_sum;   /* SUM */
    _Atomic uint64_t total_units, handled_units,
        cleared_units; /* handled ones include those that were only cleared; any thread */

    /* the store's */
    struct scan *private;
};
/* Control reactor. ERROR_PERMISSION: `from` can be written; ERROR_INVALID: `to` is smaller; or what opening a device may say.
 * False: not begun, scan->error says why, done is not called. */
bool volume_scan_start(struct volume_scan *scan);
/* It ends soon. Control reactor, before `done`. */
void volume_scan_cancel(struct volume_scan *scan);

/* The volume behind a device: false if it is not a volume. Control reactor. */
bool volume_device_is(const struct block_device *device);
struct volume_store *volume_device_store(const struct block_device *device);

/* For tests: frees the store as a killed process would: no I/O, no callbacks, whatever is under way. The base device's handle and
 * the devices' registrations are not undone: throw the graph away too. */
void volume_store_abandon(struct volume_store *store);
