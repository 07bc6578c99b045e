/* Inside of blockdev/mirror. Everything here lives on the home reactor, but creation and removal (mirror.c).
 *
 * Who does what: attach.c devices that come and go, on the control reactor; command.c what an operator asks for; io.c a request's
 * life; leg.c a task a leg: finding, claiming, bringing up; leg_lost.c its loss; start.c the first epoch; epoch.c changes of it;
 * resync.c copying, for returning legs and for unequal regions; retire.c clearing of marks; decide.c, ranges.c, region.c are
 * pure. */
#pragma once

#include "base/random.h"
#include "blockdev/mirror/canary.h"
#include "blockdev/mirror/decide.h"
#include "blockdev/mirror/mirror.h"
#include "blockdev/mirror/ranges.h"
#include "blockdev/mirror/region.h"
#include "blockdev/mirror/tree.h"
#include "reactor/pool.h"
#include "reactor/task.h"

#define MIRROR_IO_MAX 4096   /* requests under way; more wait */
#define MIRROR_COPIES_MAX 16 /* regions copied at a time */
#define MIRROR_MARKS_PIECE REPLICA_MARKS_MAX
#define MIRROR_RETIRE_BATCH 64 /* regions cleared at a time; where writers wait for it, as many as half of the bound */
#define MIRROR_MARKED_MAX 1024 /* regions, where the options say nothing */

typedef uint8_t mirror_mask; /* a bit for each leg */

/* ---- a document to or from a leg ---- */

struct mirror_call {
    struct block_request request;
    struct slice slice;
    struct mirror_leg *leg;
    bool busy;
    enum io_status status;
    uint64_t sent_ns;
    void (*done)(struct mirror_call *call); /* also when the leg was lost meanwhile: leg->generation tells */
    uint32_t generation;
};

/* The tree of a leg, asked for in pieces. */
struct mirror_fetch {
    struct mirror_call call;
    struct replica_layers *tree; /* room for the largest; checked when status is IO_OK */
    size_t have;
    bool busy;
    enum io_status status;
    const char *wrong; /* status is another */
    void (*done)(struct mirror_fetch *fetch);
};

/* All of the device, as somebody's who works on it: writes and copies under way are waited for, what comes waits. */
struct mirror_hold {
    struct mirror *mirror;
    struct range range;
    bool waits, held;
    void (*granted)(struct mirror_hold *hold);
};

/* ---- requests ---- */

struct mirror_io;
struct mirror_child {
    struct block_request request;
    struct mirror_io *io;
    struct slice slice; /* the buffer that it has, if it is `buffered` */
};

struct mirror_io {
    struct block_request *request;
    struct mirror *mirror;
    uint64_t offset, length; /* bytes: of the request; of a long one without payload, the piece of it that is at work */
    struct list_node node;   /* under way, held, or waiting for a region */
    uint64_t sequence;
    uint64_t born_ns; /* of the engine's running time */
    uint64_t sent_ns;
    mirror_mask sent;      /* legs it was given to */
    mirror_mask pending;   /* of those: no answer yet, and not lost */
    mirror_mask out;       /* of those: the child has not come back */
    mirror_mask good, bad; /* of those: answers */
    mirror_mask buffered;  /* legs whose child has a buffer */
    mirror_mask kept;      /* of those: it is the child's own by now */
    bool ranged;           /* entered its range */
    bool for_room;         /* waits for room among the marks, or had to, and was not sent since */
    bool under_way; /* in the list of that name; else held, or waiting for its range, with late answers perhaps still to come */
    bool answered;
    struct range range;
    uint64_t acknowledged; /* FLUSH: writes acknowledged before it was sent */
    uint8_t status[MIRROR_LEGS_MAX];
    void *buffer; /* copy of the payload, NULL = none */
    size_t buffer_size;
    struct buffer_waiter buffer_waiter;
    struct mirror_child child[]; /* one for each leg */
};

/* ---- legs ---- */

enum mirror_wish {
    WISH_IN = 1,
    WISH_OUT = 2,
    WISH_RENEW = 4,   /* another leg id, which nobody has yet */
    WISH_FILL = 8,    /* somebody is about to have it */
    WISH_INCLUDE = 16 /* is excluded no more */
};

enum attach_state {
    ATTACH_FREE,   /* no device is wanted */
    ATTACH_AWAY,   /* there is none of that name, or none that can be taken */
    ATTACH_THERE,  /* the home has it */
    ATTACH_LEAVING /* it was asked back */
};

/* A leg's device as the control reactor sees it. */
struct mirror_attach {
    enum attach_state state;
    char name[BLOCK_NAME_SIZE];
    bool tie_breaker, foreign;
    struct uuid uuid; /* of the device that was taken last; set before the home is told of it */
    bool dropped;     /* the slot is free when it has left */
    char refusal[96];
    struct reactor_message come, go, left, hint, refused, drop;
    _Atomic bool hinted, refusing; /* those two are under way */
};

enum leg_phase {
    LEG_REST,    /* lost, or not looked for yet: waits for its time and for its requests to come back */
    LEG_LOOK,    /* its record is asked for */
    LEG_SEEN,    /* waits for a verdict that lets it be claimed */
    LEG_CLAIM,   /* the claim is under way */
    LEG_RELOOK,  /* its record, under the claim */
    LEG_FORGET,  /* its record and marks go: it was another leg of this mirror, or is none any more */
    LEG_CLAIMED, /* waits for what it is to be */
    LEG_ADOPT,   /* its record says syncing */
    LEG_KEEP,    /* its head is kept as it is, for people */
    LEG_TREES,   /* both trees are asked for */
    LEG_TREE_STEP,
    LEG_TREE_CHANGE,
    LEG_FILL_LIST, /* which regions of its head may differ from the layer that it lacks */
    LEG_FILL,
    LEG_FILL_FLUSH,
    LEG_LISTED, /* its tree is the mirror's: what its head misses is listed */
    LEG_OWNED,  /* nothing is known of it: what its head or a member's holds */
    LEG_OWN_MARKS,
    LEG_JOIN,    /* it is stored that it takes part in writes */
    LEG_BARRIER, /* requests sent without it end */
    LEG_SOURCE_MARKS,
    LEG_MARK,
    LEG_COPY,
    LEG_FLUSH,
    LEG_RAISE, /* waits for the change that makes it a member */
    LEG_MEMBER,
    LEG_WITNESS,
    LEG_FOREIGN, /* has everything, and no record tells of it */
    LEG_STUCK,   /* diverged, or not what it should be */
    LEG_OVER,    /* the engine has ended */
    LEG_PHASES
};

struct mirror_leg {
    /* what every request looks at */
    struct mirror *mirror;
    struct block_channel *channel;
    uint64_t association;
    uint64_t heard_ns;    /* when the youngest thing that it answered was sent */
    uint32_t outstanding; /* data requests and calls under way */
    uint32_t generation;  /* of being lost */
    uint32_t read_ns;     /* what a read of it takes, a moving average */
    unsigned index;
    mirror_mask bit;
    bool lost;    /* or never had */
    bool claimed; /* it obeys this engine */
    bool copies;  /* cannot be recalled, so it never has a caller's payload */
    bool trims;   /* what was trimmed reads as zeros */
    bool vacant;  /* nobody: for_each passes over it */

    struct replica_leg config; /* as in records; a nil id: not known yet */
    bool tie_breaker, replica;
    bool foreign;                /* not configured; beside legs with records */
    uint64_t upon;               /* its head is the newest snapshot of the tree of this number; 0 = nothing is known */
    bool filling;                /* what lies under its head is filled by somebody else: it is not read */
    struct uuid counted_id;      /* as which leg it is counted */
    struct uuid own_id;          /* which leg it said it is when it was claimed */
    struct uuid known;           /* and the device's UUID then */
    bool overwrite;              /* until it has a record: what it holds without one was given up */
    bool configured;             /* stands in records, or will with the next change */
    bool counted;                /* stands in the records of the last complete epoch, and is not excluded there */
    bool nameless;               /* the records have it, nobody named a device for it */
    bool recorded_only;          /* named at the start of one that resumes: a leg only if the records have it */
    uint8_t wishes;              /* enum mirror_wish: what the next change does to its configuration */
    struct mirror_attach attach; /* with the handle, the control reactor's; here it is there if there is a channel */
    struct block_handle handle;
    uint64_t size;          /* bytes */
    bool first;             /* its device was there when the mirror was made */
    bool leaving;           /* the channel is given back when nothing is under way */
    bool dropping, dropped; /* no device comes for it any more: asked for, granted */
    bool removing, forget;  /* is to be no leg any more; is to lose its record */
    bool renewing, discard; /* waits for another id; what only it has does not count */
    uint64_t renewed;       /* version of the configuration with that id */
    uint64_t away_ns;       /* since when, as give_up.c sees it; 0 = it is not */
    struct task task;
    struct reactor_timer retry;
    bool fell;    /* the task has to hear of it */
    bool allowed; /* a start lets it be claimed */
    bool relook;  /* what it said is old */
    uint32_t losses_in_row;
    bool refused; /* lost last for what it answered, and not reached since: a path that is back at once is no news then */
    uint64_t path_down_ns; /* since when, 0 = it is up */
    unsigned refusals;     /* how much speaks against keeping a copy of what it had: leg_lost.c; 0 once it is a member */
    uint64_t up_since_ns;
    struct replica_status status; /* as seen last */
    bool seen, recorded;          /* recorded: it has stored the present engine's epoch once */
    enum io_status claim_status;
    enum decide_verdict verdict;
    struct replica_epoch base;
    uint64_t from_depth, joined;
    uint64_t cursor, cursor_layer; /* cursor.c: bytes of a layer (0 = the head) that are there, durably; 0 = none */
    uint64_t cursor_joined;        /* as of this depth, 0 of a frozen layer */
    uint64_t cursor_next, cursor_sent, cursor_stored, cursor_left;
    unsigned cursor_step;
    uint64_t barrier;                /* requests before this sequence were sent without it */
    uint64_t *work;                  /* regions to copy, while syncing */
    uint64_t *doubtful;              /* of those: what it shows there is no proof of what it holds, if it is doubted */
    uint64_t work_count, work_words; /* regions that it speaks of; words that there is room for */
    uint64_t piece;                  /* first region of the piece under way */
    uint64_t work_total, work_left, work_hand;
    struct mirror_layers *layers; /* NULL = its tree was never another */
    bool keeping, listing;        /* layers.c: the document of this phase has been sent */
    struct mirror_leg *fill;      /* LEG_FILL: whose layer its head is filled from */
    uint32_t fill_generation, fill_layer;
    uint64_t fill_size;
    unsigned copying;
    uint64_t *missed, missed_count; /* missed.c: blocks that were written without it; NULL = not known */
    uint64_t missed_incarnation;    /* it had then */
    unsigned repair_failures;       /* in a row */
    enum io_status fault_status;    /* of its disk, last */
    unsigned faults;                /* how often it gave that, each time after a full return */
    bool returned, faulted;         /* returned: it was a member since the last fault */
    bool doubted;                   /* opened anew since it was whole, and not closed before (REPLICA_UNPROVEN) */
    unsigned blind_left;            /* regions that are copied without checksums */
    uint32_t sync_base, sync_share; /* of 10,000: what it had when this step of copying began, and what that adds */
    bool blank;                     /* its head has never been written but by the mirror: what is not there reads as zeros */
    struct mirror_leg *source;      /* of marks */
    struct mirror_leg *asker;       /* who uses this one's call to ask for marks */
    uint32_t source_generation;
    unsigned mark_step, owned_step;
    struct mirror_call call, store, ping;
    void *call_document, *store_document;
    struct replica_status ping_document;
    struct mirror_call drop; /* of the private copy */
    uint8_t drop_document[sizeof(struct replica_tree)] __attribute__((aligned(8)));
    struct replica_epoch store_epoch; /* of the record under way */
    bool store_failed;
    uint64_t attempt;
    struct mirror_leg_status told;
};

/* ---- changes ---- */

enum epoch_phase {
    EPOCH_REST,
    EPOCH_ATTEMPT, /* composes and sends to all but who is to become whole by it */
    EPOCH_STORED,  /* waits for answers */
    EPOCH_RAISED,  /* waits for the answer of who becomes whole */
    EPOCH_SHORT,   /* too few records for a majority: waits for legs */
    EPOCH_PHASES
};

/* ---- work of the engine's own accord ---- */

enum mirror_chore { MIRROR_CHORE_COPY, MIRROR_CHORE_VERIFY, MIRROR_CHORES };

struct mirror_throttle {
    struct mirror_rates rates;
    uint64_t sequence;        /* mirror->sequence as looked at last */
    uint64_t active_until_ns; /* hosts count as at work */
    uint64_t rate_until_ns, share_until_ns, began_ns;
    uint64_t due_ns[MIRROR_CHORES]; /* from then on the next piece begins whatever the share says */
    unsigned running;               /* pieces under way */
};

/* ---- who is told (watch.c) ---- */

#define MIRROR_EVENTS_MAX 32
struct mirror_watch {
    struct mirror_event events[MIRROR_EVENTS_MAX]; /* not told yet */
    struct mirror_event sent[MIRROR_EVENTS_MAX];   /* the control reactor's, while busy */
    unsigned count, sent_count;
    bool busy;
    bool over; /* the device is removed: the control reactor's */
    uint64_t dropped;
    enum mirror_state state; /* as noticed last */
    bool waits;
    enum mirror_leg_state legs[MIRROR_LEGS_MAX];
    enum mirror_verify_state verify;
    struct reactor_message message;
};

/* ---- the mirror ---- */

struct mirror {
    struct block_device device;
    struct block_graph *graph;
    struct reactor *control, *home;
    struct host *host;
    enum mirror_state state;
    struct error error;
    struct mirror_options options;
    struct random random;
    uint64_t stall_ns, hold_ns;
    unsigned leg_count;
    struct mirror_leg legs[MIRROR_LEGS_MAX];
    bool plain;    /* legs without records */
    uint64_t size; /* bytes that there is room for here; 0 = no leg was there yet */
    bool assembled, closing;
    struct reactor_message sized; /* on its way to the control reactor and back, with `told_size` */
    bool telling_size;
    uint64_t told_size;

    /* the control reactor's */
    struct block_watcher watcher;
    struct reactor_timer attach_timer;
    uint64_t geometry_size; /* bytes, 0 = no leg was there yet */
    bool geometry_plain, destroyed;

    /* identity of the engine, and history */
    struct uuid id, engine;
    uint64_t term;
    enum replica_policy policy;
    struct replica_epoch epoch; /* sent last, complete or not */
    uint64_t deepest;           /* of all that was ever seen: the next one is deeper */
    bool deeper;                /* a leg that is back has an epoch that came to nothing and is as deep: the next one is wanted */
    struct replica_epoch history[REPLICA_HISTORY_MAX];
    unsigned history_count;
    uint16_t came_to_nothing, reconfigured; /* bits, as the record has them */
    uint64_t sent_config;                   /* mirror_config_sum() of `epoch` */
    mirror_mask named;                      /* members of the last complete epoch, and of every attempt since */
    mirror_mask sent_members;               /* of `epoch` */
    bool sent_settled;
    struct replica_epoch complete;
    mirror_mask members;                    /* of the last complete epoch */
    mirror_mask standing;                   /* of those: not lost since */
    mirror_mask chain;                      /* of those: members of every attempt since, too */
    bool together;                          /* an attempt that all must store who were a member of any since */
    uint64_t incarnations[MIRROR_LEGS_MAX]; /* of members, when that epoch began */
    bool settled;
    uint64_t bytes;                      /* its size, as the home knows it */
    uint64_t tree_sequence, tree_change; /* of the members */
    uint64_t tree_highest;               /* number of any tree that was ever seen */

    /* the change under way */
    struct task epoch_task;
    bool changing;    /* no write may be sent */
    bool change_over; /* the change under way counts no more: mirror_epoch_forget() */
    bool starting;    /* the change is a start's, with start_members */
    mirror_mask start_members, raise, stored, awaited, unsent;
    mirror_mask fell;                                 /* lost since the attempt was sent */
    uint64_t config_wanted, config_sent, config_done; /* versions of the configuration: as it is, sent last, complete */
    struct reactor_timer store_deadline;
    uint64_t change_began_ns, record_sent_ns, changes, longest_stall_ns;
    uint64_t stall_before_ns; /* of the longest one, as in mirror_status */
    char stall_leg[BLOCK_NAME_SIZE];
    const struct mirror_leg *stored_last;

    /* start */
    struct task start_task;
    struct decide_result decision;
    struct reactor_timer start_timer;
    bool patient; /* it was decided to wait: decided again now and then */

    /* requests */
    uint64_t sequence, running_ns, ticked_ns;
    uint64_t acknowledged, flushed; /* writes, in order of acknowledgement */
    mirror_mask writers, readers;   /* legs that get writes; that may be read */
    mirror_mask foreign;            /* legs without a record that have everything: no members, read while there are any */
    mirror_mask missing;            /* legs of which it is known what they miss */
    bool regions_known;
    bool settle_queued;
    bool watched;                      /* somebody waits for requests to end */
    uint32_t for_room;                 /* requests that are so */
    uint64_t piece_bytes;              /* the longest trim or zeroing that is done at once */
    uint64_t closed_first, closed_end; /* regions that no write begins in until they are cleared; end 0 = none */
    struct list under_way, held, regions_wait, reads_wait;
    struct pool ios;
    struct reactor_timer tick;
    struct regions regions;
    struct ranges ranges;
    uint64_t reads_repeated, reads_elsewhere; /* elsewhere: from a leg that was not the cheapest, to measure it */
    struct reactor_timer hold_end;
    bool hold_over;
    bool is_short;                 /* it serves by its state, and too few records are there for `majority`: nothing is answered */
    bool promoting;                /* it was a standby, and does not serve yet: the path stays away */
    struct reactor_job settle_job; /* looks at all requests under way again */

    /* copying */
    bool sync_paused; /* nothing is copied for a leg that is no member */
    struct mirror_copy *copies[MIRROR_COPIES_MAX];
    unsigned copy_count;
    struct reactor_timer copy_timer;
    uint64_t copy_rest_ns; /* no copy begins before */
    uint64_t front[16];    /* unequal regions that somebody waits for */
    unsigned front_count;
    struct mirror_retire *retire;
    struct mirror_throttle throttle;
    struct mirror_repair *repair;
    struct mirror_tree_commands *tree_commands;
    struct mirror_verify *verify; /* NULL = none was ever asked for */
    struct mirror_watch watch;

    /* lease.c */
    bool paused;
    uint64_t lease; /* of the pause, 0 = none */
    struct reactor_timer lease_end;
    struct mirror_command *pausing; /* waits until nothing is under way */
    struct reactor_message path_message;
    bool path_down, path_busy;

    /* standby.c, give_up.c */
    bool restart;           /* the start begins again */
    bool stand_by;          /* it ends, and claims nothing any more */
    uint64_t held_since_ns; /* looks, one after the other, have shown a leg with a living engine; 0 = the last one did not */
    bool releasing;         /* as paused, on the way there */
    bool release_waits;
    unsigned decided;                                 /* how often since it was asked */
    struct mirror_awaited waits_for[MIRROR_LEGS_MAX]; /* by the last decision */
    unsigned waits_for_count;
    unsigned accept_count;
    char accept[MIRROR_LEGS_MAX][BLOCK_NAME_SIZE]; /* legs that may be missing at the start */
    bool accept_sent;                              /* a record may say so */
    struct mirror_fan *release_fan;
    uint64_t give_up_ns; /* 0 = never */
    struct reactor_timer give_up_timer;

    struct list commands; /* in order; the first is under way */
    struct reactor_timer command_timer;
    struct mirror_leg *adding; /* its slot is not in use yet, and is taken */

    struct reactor_message opened, closed;
    void (*removed)(struct block_device *device, void *arg);
    void *removed_arg;
};

static inline struct mirror *mirror_of(const struct block_device *device) { return container_of(device, struct mirror, device); }
#define mirror_for_each_leg(mirror, leg)                                                                                         \
    for (typeof(&(mirror)->legs[0]) leg = (mirror)->legs; leg < (mirror)->legs + (mirror)->leg_count; leg++)                     \
        if (leg->vacant) {                                                                                                       \
        } else
/* True if its record counts for a majority. */
static inline bool mirror_leg_counts(const struct mirror_leg *leg) {
    return leg->configured && (leg->config.flags & (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK)) == 0;
}

/* ---- attach.c ---- */

/* Control reactor: opens the device for the leg, if it fits. The home hears of it by mirror_attach_send(), or takes it itself
 * before it runs (mirror_attach_here()). Errors: ERROR_INVALID, ERROR_EXISTS, and those of block_handle_open(). */
bool mirror_attach_open(struct mirror_leg *leg, struct block_device *device, struct error *error);
void mirror_attach_send(struct mirror_leg *leg);
/* Control reactor: devices are looked for from here on, and no more. */
void mirror_attach_begin(struct mirror *mirror);
void mirror_attach_end(struct mirror *mirror);
/* Home: the device is here. */
void mirror_attach_here(struct mirror_leg *leg);
/* Home: nothing of the leg is under way: its channel is given back. */
void mirror_attach_leave(struct mirror_leg *leg);
/* Home: no device is wanted for the leg any more; leg->vacant when that is so. */
void mirror_attach_drop(struct mirror_leg *leg);

/* ---- command.c ---- */

/* Home: something that the command under way waits for may have come. */
void mirror_commands_look(struct mirror *mirror);
void mirror_commands_init(struct mirror *mirror);
/* Goes back to who asked. */
void mirror_command_answer(struct mirror_command *command);
/* Home: no command comes to an end any more. */
void mirror_commands_cancel(struct mirror *mirror, enum error_code code, const char *why);

/* ---- lease.c ---- */

void mirror_pause(struct mirror *mirror, struct mirror_command *command);
void mirror_resume(struct mirror *mirror, struct mirror_command *command);
/* Requests have ended. */
void mirror_lease_look(struct mirror *mirror);
void mirror_lease_cancel(struct mirror *mirror, enum error_code code, const char *why);
/* No leg serves: requests are held from now on, for as long as they may be; one serves again. */
void mirror_away_begin(struct mirror *mirror);
void mirror_away_end(struct mirror *mirror);
/* Legs have come or gone: are those that store records a majority? */
void mirror_short_look(struct mirror *mirror);
/* The state as people are told it, and why it is so. */
enum mirror_state mirror_state_told(const struct mirror *mirror, struct error *ret_error);
/* Tells the block layer whether hosts reach anything here. */
void mirror_path_look(struct mirror *mirror);

/* ---- standby.c: steps of commands, true = it has ended ---- */

bool mirror_start_command(struct mirror *mirror, struct mirror_command *command);
bool mirror_promote_command(struct mirror *mirror, struct mirror_command *command);
bool mirror_release_command(struct mirror *mirror, struct mirror_command *command);

/* ---- give_up.c ---- */

void mirror_give_up_begin(struct mirror *mirror);
/* It can only come back as a new leg, once mirror->config_done has reached what is returned. */
uint64_t mirror_leg_renew(struct mirror_leg *leg);

/* ---- mirror.c ---- */

/* Home: room for a larger device; false if there is no memory. */
bool mirror_resize(struct mirror *mirror, uint64_t bytes);
/* Home: the device gets the mirror's size; start and tree commands are woken when it has it. */
void mirror_tell_size(struct mirror *mirror);

/* ---- watch.c ---- */

/* Something may have changed that is told. */
void mirror_watch_look(struct mirror *mirror);

/* ---- io.c ---- */

void mirror_io_init(struct mirror *mirror);
void mirror_io_fini(struct mirror *mirror);
void mirror_submit(struct block_channel *channel, struct block_request *request);
/* Looks at everything that is held or under way again, from the loop. */
void mirror_io_look(struct mirror *mirror);
/* Writes under way that the leg has not done are missed by it. */
void mirror_io_missed(struct mirror *mirror, struct mirror_leg *leg);
/* No answer counts any more: all is sent anew when somebody serves again. */
void mirror_io_forget_all(struct mirror *mirror);
/* Nothing of the leg counts any more. */
void mirror_io_forget_leg(struct mirror *mirror, struct mirror_leg *leg);
/* Ranges of regions of writes that are under way; at most MIRROR_IO_MAX. */
uint32_t mirror_io_regions(struct mirror *mirror, struct replica_range *ranges);
/* True if no write is under way that was sent before `sequence`. */
bool mirror_io_all_after(const struct mirror *mirror, uint64_t sequence);
/* True if nothing sent to the leg is under way. */
bool mirror_io_idle_on(const struct mirror *mirror, const struct mirror_leg *leg);
/* True if reads are under way. */
bool mirror_io_reads(const struct mirror *mirror);
/* A region is equal now: who waited for it goes on. */
void mirror_io_region_equal(struct mirror *mirror);
/* A leg answered something sent at that time. */
static inline void mirror_leg_heard(struct mirror_leg *leg, uint64_t sent_ns) {
    if (sent_ns > leg->heard_ns)
        leg->heard_ns = sent_ns;
}

/* ---- choice.c ---- */

/* The leg of `from` (not 0) that a read of `offset` is asked of: one that answers quickly and has little to do. */
struct mirror_leg *mirror_leg_cheapest(struct mirror *mirror, mirror_mask from, uint64_t offset);
/* A read that was sent to it then has been answered. */
static inline void mirror_leg_read_took(struct mirror_leg *leg, uint64_t took_ns) {
    leg->read_ns += ((uint32_t)min_u64(took_ns, NS_PER_S) >> 4) - (leg->read_ns >> 4);
}

/* ---- leg.c ---- */

/* Memory for a leg that is used; false if there is none. Done again it does nothing. */
bool mirror_leg_init(struct mirror_leg *leg);
void mirror_leg_fini(struct mirror_leg *leg);
void mirror_leg_begin(struct mirror_leg *leg);
/* It is no leg any more: gives its device and its slot back; leg->vacant when it has. */
void mirror_leg_depart(struct mirror_leg *leg, const char *why);
/* It may be read: what lies under its head is there. */
void mirror_leg_filled(struct mirror_leg *leg);
/* It rests: tries again now. */
void mirror_leg_retry(struct mirror_leg *leg);
/* Sends a document; call->done when it is answered. `length` bytes at `bytes`, which stay until then. */
void mirror_call_send(struct mirror_leg *leg, struct mirror_call *call, enum block_op op, uint64_t argument, uint64_t offset,
                      void *bytes, size_t length, void (*done)(struct mirror_call *call));
/* True if the leg is there, claimed, and its requests count. */
static inline bool mirror_leg_is_up(const struct mirror_leg *leg) { return leg->claimed && !leg->lost; }
void mirror_legs_wake(struct mirror *mirror);
/* True if a leg that has no history of the mirror's is not as large as it. */
static inline bool mirror_leg_misfits(const struct mirror_leg *leg, uint64_t size) {
    return !leg->tie_breaker && leg->status.record.epoch.depth == 0 && leg->status.size != size;
}
/* A call of the leg's own task has ended: true if it went well. Else the leg goes back to the beginning; `what` is shown. */
bool mirror_leg_went_well(struct mirror_leg *leg, const char *what);
/* Wakes the leg's task: what a call of its own does when it is answered. */
void mirror_leg_called(struct mirror_call *call);
/* Asks the leg, by its own call, for a document of so many bytes. */
void mirror_leg_get(struct mirror_leg *leg, enum replica_get verb, uint32_t layer_or_depth, uint64_t offset, size_t length);

/* ---- leg_lost.c: how a leg is lost, or the whole mirror ---- */

/* Lost: no request of it counts any more, its channel is recalled. Wakes whoever must act. `why` is shown. */
void mirror_leg_lose(struct mirror_leg *leg, const char *why);
/* Lost for an error of its disk; the same one after two full returns makes it faulted. Only where another member stands. IO_OK:
 * it did right, and the others did not. */
void mirror_leg_fault(struct mirror_leg *leg, enum io_status status, const char *why);
/* Lost for that answer, which is noted unless it is of the path; IO_OK = it was another's. */
void mirror_leg_refused(struct mirror_leg *leg, enum io_status status, const char *why);
/* Its claim is given up, also one that is on its way; it is looked at again. Nothing that was under way is waited for. */
void mirror_leg_let_go(struct mirror_leg *leg);
/* True if it is to be brought up without a copy of what it had, which may be what takes the room. */
bool mirror_leg_is_cramped(const struct mirror_leg *leg);
/* Its device is asked back: it goes to rest, and gives the channel up. */
void mirror_leg_detach(struct mirror_leg *leg, const char *why);
/* What an answer means beyond the request: FENCED ends the engine, a dead path costs the leg. True if the leg is lost by it. */
bool mirror_leg_judge(struct mirror_leg *leg, enum io_status status);
/* Another engine has claimed it: the mirror ends, and the leg is asked who that was. */
void mirror_leg_superseded(struct mirror_leg *leg);
/* What is shown of it, from now on; "" = nothing. */
void mirror_leg_tell(struct mirror_leg *leg, const char *why);
/* The engine is over: no request is sent any more. */
void mirror_end(struct mirror *mirror, enum error_code code, const char *why);

/* ---- work.c: what a leg has to be given ---- */

/* An empty list for so many regions; false: no memory. */
bool mirror_work_begin(struct mirror_leg *leg, uint64_t regions);
/* True if the leg may show what its disk has given up: mirror->incarnations tells as which opening it was whole. */
bool mirror_leg_is_doubtful(const struct mirror_leg *leg);
/* Sums it up when it is complete. */
void mirror_work_count(struct mirror_leg *leg, uint64_t after_bytes);
/* Of all that it is to get since it joined, of 10,000. */
uint32_t mirror_work_progress(const struct mirror_leg *leg);
/* One that takes part, and is no member yet, may show what the members do not: the region is copied to it (again), or it is lost.
 */
void mirror_work_again(struct mirror_leg *leg, uint64_t region);
/* Each is the step of one phase of the leg's task. */
void mirror_work_listed(struct mirror_leg *leg);
void mirror_work_own_marks(struct mirror_leg *leg);
void mirror_work_source_marks(struct mirror_leg *leg);
void mirror_work_marked(struct mirror_leg *leg);
void mirror_work_owned(struct mirror_leg *leg);
/* Of a leg without a record, whose head stands upon the newest snapshot: it takes writes already. */
void mirror_work_upon(struct mirror_leg *leg);
/* The member that was asked may be asked by others. */
void mirror_work_leave_source(struct mirror_leg *leg);

/* By its device's name, its name in the records, or its id; NULL = none (command.c). */
struct mirror_leg *mirror_leg_named(struct mirror *mirror, const char *name);

/* ---- missed.c: what a leg that is away has missed, for people ---- */

/* A whole leg was lost. */
void mirror_missed_begin(struct mirror_leg *leg);
/* It is whole; or it is not known any more. */
void mirror_missed_end(struct mirror_leg *leg);
/* A write of that range does not go to these legs; length > 0. */
void mirror_missed_add(struct mirror *mirror, mirror_mask legs, uint64_t offset, uint64_t length);
/* A region has been copied to it. */
void mirror_missed_copied(struct mirror_leg *leg, uint64_t region);
/* Bytes in which it may differ; `exact`: they were written meanwhile, else they are bytes of whole regions. */
uint64_t mirror_missed_bytes(const struct mirror_leg *leg, bool *ret_exact);

/* ---- cursor.c ---- */

/* What the leg's record says of an earlier return, if that still counts. When verdict and base are set. */
void mirror_cursor_find(struct mirror_leg *leg);
void mirror_cursor_compose(const struct mirror_leg *leg, struct replica_record *record);
/* What the leg's head holds is about to change: its record says no more how far it got. False: not yet, its task is woken. */
bool mirror_cursor_forget(struct mirror_leg *leg);
/* The leg's work is a layer's (id, 0 = the head): takes what lies before the cursor off the list. False as above. */
bool mirror_cursor_begin(struct mirror_leg *leg, uint64_t layer);
/* A step of it while the leg is copied to. False: it uses the leg's call, or waits. */
bool mirror_cursor_step(struct mirror_leg *leg, uint64_t layer);

/* ---- layers.c: each is the step of one phase of the leg's task ---- */

/* Asks a leg that is up for its tree; false: no memory. */
bool mirror_fetch_begin(struct mirror_fetch *fetch, struct mirror_leg *of, void (*done)(struct mirror_fetch *fetch));
void mirror_fetch_fini(struct mirror_fetch *fetch);
/* True if number and change say that the leg's tree is the mirror's. */
bool mirror_tree_is_equal(const struct mirror_leg *leg);
void mirror_layers_keep(struct mirror_leg *leg);
void mirror_layers_begin(struct mirror_leg *leg);
void mirror_layers_step(struct mirror_leg *leg);
void mirror_layers_change(struct mirror_leg *leg);
void mirror_layers_list(struct mirror_leg *leg);
void mirror_layers_fill(struct mirror_leg *leg);
void mirror_layers_freeze(struct mirror_leg *leg);
/* A whole leg's private copy goes. */
void mirror_layers_drop(struct mirror_leg *leg);
void mirror_layers_fini(struct mirror_leg *leg);

/* ---- tree_command.c ---- */

enum command_phase {
    COMMAND_REST,
    COMMAND_LIST,   /* a member's tree is asked for */
    COMMAND_CHECK,  /* every member says whether it would */
    COMMAND_SETTLE, /* until the members are equal */
    COMMAND_HOLD,   /* until what is under way has ended */
    COMMAND_SEND,
    COMMAND_SIZES,  /* until all devices show the new size */
    COMMAND_TOLD,   /* the mirror's own size, on the control reactor */
    COMMAND_CHANGE, /* who did not do it is lost: the next epoch is without it */
    COMMAND_PHASES
};

/* Takes all of the device. `granted` is called when it is held, unless hold->held is set at once. */
void mirror_hold_begin(struct mirror *mirror, struct mirror_hold *hold, void (*granted)(struct mirror_hold *hold));
void mirror_hold_end(struct mirror_hold *hold);
bool mirror_tree_commands_init(struct mirror *mirror);
void mirror_tree_commands_begin(struct mirror *mirror);
void mirror_tree_commands_wake(struct mirror *mirror);
/* One that changes it is under way. */
bool mirror_tree_is_changing(const struct mirror *mirror);
/* Members are at it, or the mirror has not taken over the size that they have by it: a leg that comes back now would be brought
 * up by what was, and be a member of what is. */
bool mirror_tree_is_sent(const struct mirror *mirror);
bool mirror_tree_commands_are_busy(const struct mirror *mirror);
/* One holds all requests, or is about to: a copy that begins now would wait for its end, and it for the copy's. */
bool mirror_tree_commands_hold(const struct mirror *mirror);
void mirror_tree_commands_fini(struct mirror *mirror);

/* ---- epoch.c ---- */

void mirror_epoch_init(struct mirror *mirror);
/* The mirror starts anew, or serves no more: whatever was sent and is not complete is for the next start to find. Not from the
 * change's own steps. */
void mirror_epoch_forget(struct mirror *mirror);
/* By those that are there and store records, `leaving` (NULL = none) not counted; true under `any`. */
bool mirror_majority_is_there(const struct mirror *mirror, const struct mirror_leg *leaving);
/* Something changed that a change may be needed for, or that one waits for. */
void mirror_epoch_wake(struct mirror *mirror);
/* The record of a leg as of the epoch sent last. */
void mirror_record_compose(const struct mirror *mirror, const struct mirror_leg *leg, struct replica_record *ret_record);
/* Takes over history and configuration from a record; `epoch` counts as the one before the next. */
void mirror_epoch_adopt(struct mirror *mirror, const struct replica_record *record);
/* Sends the leg's record as of the epoch sent last; `marks`: with the regions under way. leg->recorded when it is stored. */
void mirror_store_send(struct mirror_leg *leg, bool marks);
/* Legs that are claimed and not lost. */
mirror_mask mirror_up(const struct mirror *mirror);
/* Wants a change of the configuration; it is in all records when mirror->config_done has reached what is returned. */
uint64_t mirror_config_wish(struct mirror_leg *leg, unsigned wish /* 0 = none: the change alone */);
/* Sets readers and writers by who stands. */
void mirror_masks_update(struct mirror *mirror);
struct uuid mirror_random_id(struct mirror *mirror);

/* ---- start.c ---- */

void mirror_start_begin(struct mirror *mirror);
/* Its status is of this start. */
bool mirror_leg_is_seen(const struct mirror_leg *leg);
void mirror_start_wake(struct mirror *mirror);
/* Puts the names of legs behind a text that lacks them. */
void mirror_put_names(const struct mirror *mirror, mirror_mask legs, struct error *error);
/* The first epoch is complete. */
void mirror_start_complete(struct mirror *mirror);

/* ---- slots.c ---- */

/* Takes over identity and configuration from what was decided: whose slot is which leg's. */
void mirror_slots_configure(struct mirror *mirror);
/* A leg that says that it is the one another slot stands for takes that slot's place. False if that one is in use. */
bool mirror_leg_trade(struct mirror_leg *leg);

/* ---- resync.c ---- */

bool mirror_copy_init(struct mirror *mirror);
void mirror_copy_fini(struct mirror *mirror);
/* There may be work. */
void mirror_copy_wake(struct mirror *mirror);
/* A request waits for this region: it comes next. */
void mirror_copy_first(struct mirror *mirror, uint64_t region);

/* ---- retire.c ---- */

bool mirror_retire_init(struct mirror *mirror);
void mirror_retire_fini(struct mirror *mirror);
void mirror_retire_begin(struct mirror *mirror);
bool mirror_retire_is_busy(const struct mirror *mirror);
/* True if a write of those regions may begin now; else it waits among the held ones until it is asked again. */
bool mirror_retire_admits(struct mirror *mirror, uint64_t first, uint64_t last);
static inline bool mirror_marks_admit(struct mirror *mirror, uint64_t offset, uint64_t length) {
    uint64_t first = region_first(offset), last = region_last(offset, length);
    if (likely(first == last && bitmap_test(mirror->regions.marked, first) && mirror->closed_end == 0))
        return true;
    return mirror_retire_admits(mirror, first, last);
}
bool mirror_copy_is_busy(const struct mirror *mirror);

/* ---- throttle.c ---- */

/* True if a piece of background work may begin now; else when to ask again, if one that runs has not ended before, which wakes
 * copying and verifying. */
bool mirror_throttle_admits(struct mirror *mirror, enum mirror_chore chore, uint64_t *ret_until_ns);
/* A piece of so many bytes begins, admitted or urgent; each has its end. */
void mirror_throttle_begin(struct mirror *mirror, enum mirror_chore chore, uint64_t bytes);
void mirror_throttle_end(struct mirror *mirror);
void mirror_throttle_set(struct mirror *mirror, const struct mirror_rates *rates);

/* ---- verify.c ---- */

bool mirror_verify_begin(struct mirror *mirror, const struct mirror_verify_options *options, struct error *error);
/* Ends with what is under way; a later begin may go on from there. False: none runs. */
bool mirror_verify_end(struct mirror *mirror);
/* A piece may begin now, or a leg has come. */
void mirror_verify_wake(struct mirror *mirror);
void mirror_verify_status_get(const struct mirror *mirror, struct mirror_verify_status *ret_status);
bool mirror_verify_is_busy(const struct mirror *mirror);
void mirror_verify_fini(struct mirror *mirror);

/* ---- repair.c ---- */

bool mirror_repair_init(struct mirror *mirror);
void mirror_repair_fini(struct mirror *mirror);
bool mirror_repair_is_busy(const struct mirror *mirror);
/* Legs could not read a range, and another one could: it is written to them anew, if there is room to do so now. */
void mirror_repair_begin(struct mirror *mirror, uint64_t offset, uint64_t length, mirror_mask bad);
