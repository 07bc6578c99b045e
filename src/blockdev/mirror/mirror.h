/* The mirror: one block device of up to eight legs. Writes go to every leg, reads to the cheapest member; which leg is what is
 * stored on the legs themselves (block/replica.h). docs/mirror.md is its specification. Stands on the block contract alone: a leg
 * is any device. Must not know volumes, protocols or JSON-RPC.
 *
 * The device has a home; all of the engine runs there. Functions here are for the control reactor unless they say otherwise. */
#pragma once

#include "block/device.h"
#include "block/replica.h"

#define MIRROR_LEGS_MAX REPLICA_LEGS_MAX
#define MIRROR_RESUME_MAX 16

struct mirror;
struct mirror_event;

struct mirror_leg_options {
    const char *device; /* a device's name; one that is not there yet is absent */
    bool tie_breaker;
    bool foreign; /* keeps no record, beside legs that do: docs/mirror.md, "Legs without a record" */
};

/* How much the engine may do of its own accord (copying, verifying) beside its hosts' requests. Zeros = the defaults. */
struct mirror_rates {
    uint64_t bytes_per_s;   /* at most, 0 = as fast as it goes */
    unsigned share_percent; /* 1 … 100: of the time, while hosts are at work, but half as many regions a second if that is more;
                               0 = MIRROR_SHARE_DEFAULT */
};
#define MIRROR_SHARE_DEFAULT 25

struct mirror_options {
    const char *name;
    uint32_t block_size; /* bytes, while no leg is there to give it; 0 = 4096 */
    struct uuid uuid;    /* of the device and of the mirror; nil = as the records say (the device has it from when it serves), or
                            random at a first start */
    unsigned leg_count;
    struct mirror_leg_options legs[MIRROR_LEGS_MAX];
    enum replica_policy policy; /* of a first start; afterwards the records' counts */
    uint64_t term;              /* 0 = highest promised + 1 */
    bool assume_equal;          /* of a first start: the legs hold the same */
    bool plain_equal;           /* the same, if it turns out that no leg keeps a record */
    /* Leg `source`, by index and no tie-breaker, is copied to the others, whatever they hold: at a first start, and at every
     * start of legs without records. */
    bool source_set;
    unsigned source;
    bool overwrite;            /* of a first start of legs that keep records: the same, of the first leg that holds any */
    uint32_t accept_absent;    /* legs by index that may be missing at this start, and are excluded from it on */
    uint64_t longest_stall_ms; /* L, 0 = 900 */
    uint64_t hold_ms;          /* how long I/O is held while no leg is there, 0 = 30 s, UINT64_MAX = for ever;
                                  then the path is told to be away until that is over */
    uint64_t give_up_ms;       /* after which a leg that is away is copied as a whole when it returns, and nothing is kept for it
                                  any more; 0 = never */
    bool standby;              /* claims nothing until MIRROR_PROMOTE */
    bool yield;                /* becomes a standby by itself if another engine that is alive has a leg; else it starts */
    struct uuid engine;        /* id of this run, that no other has; nil = random */
    /* It resumes: refused unless each leg that is seen is promised to one of these runs, or to none. A leg that the records do
     * not have is let go again. Forgotten by a promotion. */
    unsigned resume_count;
    struct uuid resume[MIRROR_RESUME_MAX];
    unsigned copies;         /* regions that are copied at a time, 0 = 4 */
    uint32_t marked_max;     /* bound on marked regions, 0 = 1024 */
    bool marked_hard;        /* the bound is never passed while marks can be cleared: writes wait instead */
    uint32_t cursor_regions; /* copied before it is stored how far a full return got, 0 = 256 */
    struct mirror_rates rates;
    unsigned fault_returns; /* full returns after which the same error of a leg's disk makes it faulted, 0 = 2 */
    struct reactor *home;
    uint64_t seed; /* of ids and jitter; 0 = unpredictable */
    /* Called on the control reactor. event: each change of state, in order, until the device is removed. gone: it was deleted,
     * and its legs are free for others. NULL = nobody listens. */
    void (*event)(void *arg, struct block_device *device, const struct mirror_event *event);
    void (*gone)(void *arg);
    void *event_arg;
};

enum mirror_state {
    MIRROR_CONFIGURING, /* legs are missing, or looked for */
    MIRROR_STARTING,    /* claims and the first epoch */
    MIRROR_SERVING,
    MIRROR_HOLDING, /* all legs are lost, or, under `majority`, too many */
    MIRROR_STANDBY, /* looks at its legs; another engine may have them */
    MIRROR_REFUSED, /* cannot start: error says why */
    MIRROR_ENDED    /* another engine has the legs, or acknowledged writes are gone: the path is dead */
};

enum mirror_leg_state {
    MIRROR_LEG_ABSENT,
    MIRROR_LEG_CONNECTING, /* looked at, or claimed */
    MIRROR_LEG_WHOLE,
    MIRROR_LEG_SYNCING,
    MIRROR_LEG_SET_ASIDE, /* lost; comes back by itself */
    MIRROR_LEG_DIVERGED,  /* kept as it is */
    MIRROR_LEG_WITNESS,
    MIRROR_LEG_FAULTED /* its disk gave the same error again after it had come back twice: it waits for an operator */
};

enum mirror_verify_state {
    MIRROR_VERIFY_NEVER,
    MIRROR_VERIFY_RUNNING,
    MIRROR_VERIFY_STOPPED, /* by an operator; can go on */
    MIRROR_VERIFY_DONE
};

struct mirror_verify_options {
    bool repair;      /* what differs is written anew: from the majority of the legs, else from `trusted` */
    bool trusted_set; /* else the first whole leg is trusted */
    unsigned trusted; /* leg by index: whose content counts where no majority agrees */
    bool resume;      /* from where the last one was stopped, with its counts */
};

struct mirror_verify_status {
    enum mirror_verify_state state;
    bool repair;
    bool waits;                               /* running, but there are no two whole legs to compare now */
    uint64_t total, done;                     /* bytes */
    uint64_t mismatches, repaired;            /* blocks of 4 KiB */
    uint64_t undecided;                       /* of the mismatches: no majority agreed */
    uint64_t skipped;                         /* regions that were not compared: a leg was lost, or they were being made equal */
    uint64_t leg_mismatches[MIRROR_LEGS_MAX]; /* blocks in which it differed from what counts */
    uint64_t started_ns, ended_ns;            /* monotonic; ended_ns 0 = running */
    uint64_t last_offset;                     /* byte of the newest mismatch; UINT64_MAX = none */
    char last[128];                           /* what it was, and what was done; "" = none */
};

const char *mirror_state_name(enum mirror_state state);         /* "serving" */
const char *mirror_leg_state_name(enum mirror_leg_state state); /* "set aside" */
const char *mirror_verify_state_name(enum mirror_verify_state state);

enum { MIRROR_EVENT_SELF = -1, MIRROR_EVENT_VERIFY = -2 };
/* A change of state; or MIRROR_CONFIGURING again, when it is known what it waits for. */
struct mirror_event {
    int leg;                    /* index; or MIRROR_EVENT_… */
    unsigned before, state;     /* enum mirror_leg_state, mirror_state or mirror_verify_state */
    uint64_t at_ns;             /* monotonic */
    uint64_t dropped;           /* events that came too fast and were left out, so far */
    struct uuid mirror;         /* its id; nil while not known */
    char name[BLOCK_NAME_SIZE]; /* of the leg */
    char why[96];
    struct error error; /* of the mirror's own: as in mirror_status */
};

struct mirror_leg_status {
    char name[BLOCK_NAME_SIZE]; /* "" = a place whose leg was removed */
    enum mirror_leg_state state;
    char why[96];                      /* it is not whole; "" else */
    uint64_t since_ns;                 /* monotonic, of the state */
    uint64_t sync_total, sync_done;    /* bytes of the snapshot that is copied now, or of the head, while syncing */
    unsigned sync_percent;             /* of all that it is to get: never falls while it stays */
    uint64_t behind;                   /* bytes in which it may differ from the mirror */
    bool foreign;                      /* it keeps no record, beside legs that do */
    bool unnamed;                      /* the records have it, and no device was named for it */
    bool stranger;                     /* what is there under its name is not what was there: `why` says what it is */
    bool recordless;                   /* … and it keeps no record: it can be discarded */
    bool behind_exact;                 /* they were written since it was lost; else they are those of whole regions, at most */
    uint64_t times_lost, bytes_copied; /* since the engine's start, as what follows */
    uint64_t read_errors;              /* reads that it failed and another leg answered */
    uint64_t blocks_repaired;          /* of 4 KiB, that were written to it for that */
    struct uuid promised;              /* engine to which it was promised when it was looked at last; nil = none */
    bool held;                         /* another association than ours had it claimed then */
};

/* A leg of the records that a start waits for, under any name: its id is what says which one it is. */
struct mirror_awaited {
    struct uuid id;
    char name[28]; /* in the records */
};

struct mirror_status {
    enum mirror_state state;
    struct error error; /* CONFIGURING, REFUSED, ENDED: why; STANDBY: who has the legs, where it yielded */
    struct uuid mirror, engine;
    uint64_t term;
    enum replica_policy policy;
    struct replica_epoch epoch;
    unsigned leg_count;
    struct mirror_leg_status legs[MIRROR_LEGS_MAX];
    unsigned awaited_count; /* CONFIGURING; none at a first start, when there are no records */
    struct mirror_awaited awaited[MIRROR_LEGS_MAX];
    uint64_t unequal_regions, marked_regions;
    uint64_t changes, reads_repeated;
    uint64_t longest_stall_ns;       /* of a change: while it went on, no write was sent */
    uint64_t stall_before_ns;        /* of that: until the record could be sent */
    char stall_leg[BLOCK_NAME_SIZE]; /* whose answer to it came last; "" = no change yet */
    uint64_t tree;                   /* number of the members' snapshots and size: another one = they have changed */
    bool settled, paused;
    bool sync_paused; /* MIRROR_SYNC_PAUSE */
    struct mirror_rates rates;
    struct mirror_verify_status verify;
};

/* Makes the device and begins to look for its legs; I/O is held until they are found. Legs are devices by name: one that is not
 * there yet, or goes away, is taken when it appears; while none was ever there the device has 0 blocks. The first one gives the
 * size, one that does not agree with it is not taken (ERROR_INVALID if it is there already). ERROR_UNSUPPORTED for a leg
 * without the replica interface that is not said to be foreign beside one with it, and for legs without it of which nobody says
 * whose content counts; ERROR_EXISTS for a leg named twice, and the errors of block_handle_open() and
 * block_device_register(). */
bool mirror_create(struct block_graph *graph, struct reactor *control, const struct mirror_options *options,
                   struct block_device **ret_device, struct error *error);
/* As block_device_remove(): the legs keep their claim's promise, and their records. */
bool mirror_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                   struct error *error);
/* True for a device of this kind. */
bool mirror_is(const struct block_device *device);
/* The options' event_arg of such a device. */
void *mirror_event_arg(const struct block_device *device);
/* A copy of what the engine knows, taken on its home; `done` is called on the control reactor. */
struct mirror_look {
    struct reactor_message message;
    struct block_device *device;
    struct reactor *control;
    struct mirror_status status;
    void (*done)(struct mirror_look *look);
};
void mirror_look(struct mirror_look *look);
/* The same at once: on the home reactor. */
void mirror_status_get(const struct block_device *device, struct mirror_status *ret_status);

/* What a leg that is away has missed, by regions of REPLICA_REGION_BYTES, taken on the mirror's home. */
struct mirror_missed_look {
    struct reactor_message message;
    struct block_device *device; /* a mirror that is not being removed */
    struct reactor *control;
    char leg[BLOCK_NAME_SIZE]; /* as in mirror_command */
    void (*done)(struct mirror_missed_look *look);
    struct error error;   /* ERROR_NOT_FOUND: no such leg, or it is whole */
    uint64_t *ret_bitmap; /* base/bitmap.h; the caller frees it */
    uint64_t ret_regions;
};
void mirror_missed_look(struct mirror_missed_look *look);

/* ---- the tree: snapshots and size ---- */

/* Caller's memory, texts included, until `done`, which is called once, on the control reactor. */
struct mirror_tree_command {
    struct block_device *device; /* a mirror; held open until done */
    struct reactor *control;
    enum replica_change what; /* REPLICA_SNAPSHOT, _DELETE, _REVERT, _RESIZE, _UPON; 0 = only the list */
    const char *snapshot;     /* name of the new one, or of the one meant; REVERT: NULL = to nothing, if there is none */
    uint64_t size_bytes;      /* REPLICA_RESIZE */
    const char *const *pairs; /* REPLICA_SNAPSHOT: key, value, … of pair_count attributes; REPLICA_UPON: as in its document */
    unsigned pair_count;

    void (*done)(struct mirror_tree_command *command);
    bool ok;
    struct error error;
    uint64_t ret_layer;                /* REPLICA_SNAPSHOT: its id, the same on every leg */
    struct replica_layers *ret_layers; /* the list, as a member has it; the caller frees it */

    struct reactor_message message; /* the engine's, as what follows */
    struct list_node node;
};
/* Every member has done it when it is answered, durably; who could not is set aside. Commands of a mirror run one after the
 * other. ERROR_BUSY: it does not serve now, or is at work; ERROR_UNSUPPORTED: legs without records; ERROR_EXISTS,
 * ERROR_NOT_FOUND: the snapshot; ERROR_PERMISSION: it has several children; ERROR_INVALID, ERROR_NO_SPACE: a leg would not,
 * nothing has changed; ERROR_IO: all legs were lost meanwhile, it may have been done. A revert takes the snapshot's size. */
void mirror_tree_command(struct mirror_tree_command *command);

/* ---- copying and verifying ---- */

enum mirror_set_what {
    MIRROR_SET_RATES,  /* `rates`; ERROR_INVALID: share_percent above 100 */
    MIRROR_SYNC_PAUSE, /* legs that return or are new are copied to no more, until MIRROR_SYNC_RESUME or the engine's end. What
                          is under way ends; what members differ in after a crash is made equal all the same, since hosts
                          wait for it. Either one twice does nothing */
    MIRROR_SYNC_RESUME,
    MIRROR_VERIFY_START, /* `verify`: all whole legs are compared, region by region, while hosts work. ERROR_BUSY: one runs;
                            ERROR_INVALID: no such leg, or nothing to resume */
    MIRROR_VERIFY_STOP   /* ERROR_NOT_FOUND: none runs */
};
/* Takes effect at once. The memory is the caller's until `done`, which is called exactly once, on the control reactor. */
struct mirror_set {
    struct block_device *device; /* a mirror that is not being removed */
    struct reactor *control;
    enum mirror_set_what what;
    struct mirror_rates rates;
    struct mirror_verify_options verify;
    void (*done)(struct mirror_set *set);
    struct error error;             /* code ERROR_NONE: done */
    struct reactor_message message; /* the engine's */
};
/* Control reactor. Progress: mirror_look(). */
void mirror_set(struct mirror_set *set);

/* ---- commands ---- */

enum mirror_verb {
    /* A new leg: `leg` is the name of a device that is there, and is a leg of no other mirror (ERROR_PERMISSION). It gets a new
     * leg id, joins write-only and is copied to as a whole; what it held is gone. Ends when all records name it. */
    MIRROR_ADD_LEG,
    /* What lies under the head of a foreign leg that was added upon a snapshot is filled: it is read from now on. Nothing if it
     * was not added so. ERROR_NOT_FOUND: no such leg. */
    MIRROR_FILLED,
    /* No leg any more: ends when the other records say so, its own record and marks are forgotten (if it can be reached: if not
     * it keeps them, and they mean nothing) and its device is given back. ERROR_PERMISSION for the last whole copy; ERROR_BUSY
     * while, under `majority`, too few of the other legs are there. */
    MIRROR_REMOVE_LEG,
    /* What the leg holds is not trusted: it is set aside and copied as a whole. Errors as of MIRROR_REMOVE_LEG. */
    MIRROR_INVALIDATE,
    /* What a diverged leg has and the mirror has not is given up: it gets all that either side has written since their last
     * common epoch. ERROR_BUSY if it is not there, or is not diverged; ERROR_PERMISSION if it is promised to an engine of a
     * higher term than this one's. */
    MIRROR_DISCARD,
    /* A mirror that waits for legs or was refused is tried again, under `term` (0 = highest promised + 1). `accept_absent` names
     * legs that may be missing: what was acknowledged and only they have is lost, they are diverged from then on and stay as they
     * are until MIRROR_DISCARD. Ends when it serves, or with why it does not: then the mirror looks for its legs as before, and
     * neither term nor `accept_absent` (of its creation either) counts any more. */
    MIRROR_START,
    /* A standby claims the legs, under `term`, `accept_absent` as above. ERROR_BUSY if it is none. Ends when it serves, or with
     * why it does not: then it is a standby again and has given up what it claimed. Who had the legs before may be cut off all
     * the same. */
    MIRROR_PROMOTE,
    /* It drains, flushes, gives its claims back, and is a standby from then on: the first half of a planned switch-over. */
    MIRROR_RELEASE,
    /* I/O is drained and held until MIRROR_RESUME, at most `lease_ms` from now on (1 … 600,000). `lease` is what RESUME has to
     * show. ERROR_TIMED_OUT: what was under way did not end by then, and everything goes on. Does not wait for other commands. */
    MIRROR_PAUSE,
    /* Ends the pause. ERROR_TIMED_OUT: it had ended by itself, and requests went on: whatever needed the pause has failed. */
    MIRROR_RESUME
};

/* What an operator asks for. One is under way at a time, the others wait. The memory is the caller's until `done`, which is
 * called exactly once, on the control reactor. */
struct mirror_command {
    struct block_device *device; /* a mirror that is not being removed */
    struct reactor *control;
    enum mirror_verb verb;
    char leg[BLOCK_NAME_SIZE]; /* a device's name, a leg's as the records have it, or its id */
    bool tie_breaker;          /* ADD_LEG: it holds a record and no data */
    bool foreign;              /* ADD_LEG: it keeps no record, beside legs that do */
    uint64_t upon;             /* of such a leg: its head stands upon what the newest snapshot was when `tree` had this number,
                                  and somebody else fills what lies under it until MIRROR_FILLED; 0 = no */
    uint64_t term;             /* START, PROMOTE */
    struct uuid engine;        /* PROMOTE: id of the run that begins, that no other has; nil = random */
    uint64_t lease_ms, lease;  /* PAUSE, RESUME */
    unsigned accept_absent_count;
    char accept_absent[MIRROR_LEGS_MAX][BLOCK_NAME_SIZE]; /* START, PROMOTE: by device, by name in the records, or by id */
    void (*done)(struct mirror_command *command);
    struct error error; /* code ERROR_NONE: done. ERROR_NOT_FOUND: no such leg; ERROR_BUSY: not in this state; ERROR_CANCELLED:
                           what was under way was lost, and the records may tell of it: the legs that are there then do */

    /* the engine's */
    struct reactor_message message;
    struct list_node node;
    unsigned step;
    uint64_t config;
    uint64_t term_before; /* START, PROMOTE: of the mirror's options, which it has again if that fails */
    struct mirror_leg *found;
};
/* Control reactor. */
void mirror_command(struct mirror_command *command);
