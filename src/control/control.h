/* What a node is meant to hold, and how it comes to hold it: disks, replicas, engines, the goals of callers. docs/control.md.
 *
 * Calling context: the control loop. Must not know: gRPC, or any other way in which callers come. */
#pragma once

#include "base/text.h"
#include "control/observe.h"
#include "control/store/store.h"
#include "control/switch.h"

enum {
    CONTROL_NAME_MAX = 63, /* bytes of a disk's, replica's or snapshot's name */
    CONTROL_PORT_FIRST = 20001,
    CONTROL_PORT_LAST = 30000,
    CONTROL_PORTS_MAX = 64, /* of one replica */
    CONTROL_LEGS_MAX = 8,   /* replicas of an engine */
    CONTROL_RUNS_MAX = 16,  /* of an engine, that are remembered */
    CONTROL_ADDRESS_SIZE = 64,
    CONTROL_GOAL_S = 60,       /* a goal's time */
    CONTROL_GOALS_MAX = 1024,  /* under way */
    CONTROL_HASHES_MAX = 1024, /* checksums being made, or that have failed */
    CONTROL_RANGE_MAX = 65536, /* clusters whose checksums are asked for at once */
    CONTROL_LEG_RETURN_S = 300,
    CONTROL_LEASE_MS = 5000, /* of a pause */
    CONTROL_PAUSE_S = 8,     /* a CONTROL_ENGINE_PAUSE's time: nobody would end one that comes when its caller has given up */
};
#define CONTROL_STANDBY "standby" /* how the reason of an engine begins that runs as one */

struct control;

/* ---- what others see ---- */

enum control_state {
    CONTROL_CREATING, /* disks: being opened or made */
    CONTROL_READY,    /* disks */
    CONTROL_PENDING,  /* replicas: being made */
    CONTROL_STOPPED,  /* there, not exported */
    CONTROL_RUNNING,  /* exported */
    CONTROL_TERMINATING,
    CONTROL_SUSPENDED, /* frontends */
    CONTROL_ERROR
};
const char *control_state_name(enum control_state state); /* "creating" */

/* What the state store keeps of an object; its JSON is in records.c. */
struct control_disk_record {
    char name[CONTROL_NAME_MAX + 1], path[256], driver[16];
    char uuid[UUID_TEXT_SIZE]; /* the store's; "" = not made yet */
    uint32_t block_bytes;
    char failure[256]; /* of the attempt to make it; "" = none */
};

struct control_replica_record {
    char name[CONTROL_NAME_MAX + 1], disk[CONTROL_NAME_MAX + 1], store[UUID_TEXT_SIZE];
    uint64_t bytes;
    uint16_t port, port_count;                                               /* 0 = none */
    bool made;                                                               /* there was a head: never make it again */
    bool exported;                                                           /* it is to be */
    bool deleting;                                                           /* it is to go, with its data */
    char failure[256];                                                       /* of the last attempt to make it; "" = none */
    char engine[CONTROL_NAME_MAX + 1], engine_address[CONTROL_ADDRESS_SIZE]; /* that was told to have it; "" = none */
    /* A snapshot of it that is exported to another replica, which is rebuilt from it. */
    struct control_outgoing {
        char snapshot[CONTROL_NAME_MAX + 1], peer[CONTROL_NAME_MAX + 1]; /* "" = none */
    } outgoing;
    /* What another replica's contents are being copied into it for. */
    struct control_incoming {
        enum control_incoming_kind { CONTROL_INCOMING_NONE, CONTROL_REBUILD, CONTROL_CLONE } kind;
        char source[CONTROL_NAME_MAX + 1], snapshot[CONTROL_NAME_MAX + 1];
    } incoming;
};

/* A replica of an engine, by its name and where it is exported, "IP:PORT". */
struct control_leg_record {
    char name[CONTROL_NAME_MAX + 1], address[CONTROL_ADDRESS_SIZE];
    bool changing; /* it is being added or taken away: what was not answered is as the mirror has it */
    bool adding;   /* changing: added; it is not the engine's before that is known */
    bool foreign;  /* it keeps no record of the mirror: it was rebuilt call by call */
    bool filling;  /* that has not come to its end */
};

struct control_engine_record {
    char name[CONTROL_NAME_MAX + 1], volume[CONTROL_NAME_MAX + 1], frontend[24];
    uint64_t bytes;
    struct control_leg_record legs[CONTROL_LEGS_MAX];
    unsigned leg_count;
    uint16_t port, port_count; /* 0 = none */
    uint32_t snapshot_max;     /* 0 = any number */
    /* Ids of runs of its mirror: the one that served last, then those that were tried since. Only their replicas are its own. */
    char runs[CONTROL_RUNS_MAX][UUID_TEXT_SIZE];
    unsigned run_count;
    char ana[16];      /* state of its target's listener: optimized, non-optimized, inaccessible */
    bool made;         /* it has served, or stands by: it is brought back when it is not there */
    bool standby;      /* another engine has its replicas: it claims none */
    bool promoting;    /* a standby that was told to claim them: whether it has claimed any is found out, if need be */
    bool deleting;     /* it is to go */
    bool superseded;   /* another engine has its replicas: it stays as it is until it is deleted */
    char failure[256]; /* it is not brought back; "" = none */
    char expansion_failure[256], expansion_failed_at[40]; /* of the last one that failed; "" = none */
    /* The copy of another engine's snapshot that it is, or is becoming. */
    struct control_engine_clone {
        enum control_clone_state {
            CONTROL_CLONE_NONE,
            CONTROL_CLONE_COPYING,
            CONTROL_CLONE_COMPLETE,
            CONTROL_CLONE_FAILED
        } state;
        char snapshot[CONTROL_NAME_MAX + 1], source[CONTROL_NAME_MAX + 1], source_address[CONTROL_ADDRESS_SIZE];
        char failure[256];
    } clone;
};
/* It is offered to hosts. One that is not may have a port all the same, while it is copied into. */
static inline bool control_engine_is_offered(const struct control_engine_record *record) {
    return record->port != 0 && record->frontend[0] != '\0';
}

struct control_frontend_record {
    char name[CONTROL_NAME_MAX + 1], volume[CONTROL_NAME_MAX + 1], engine[CONTROL_NAME_MAX + 1], frontend[24];
    char target[CONTROL_ADDRESS_SIZE]; /* the engine's, "" = none */
    uint64_t bytes;
    bool made;         /* its engine was there */
    char failure[256]; /* "" = none */
    /* A switch-over under way: to which engine, and how far it got. */
    bool device; /* there may be a block device of it in the kernel */
    enum switch_step step;
    char next_engine[CONTROL_NAME_MAX + 1], next_target[CONTROL_ADDRESS_SIZE];
};

struct control_goal;

enum control_kind { CONTROL_DISKS, CONTROL_REPLICAS, CONTROL_ENGINES, CONTROL_FRONTENDS, CONTROL_KINDS };

/* What goals are served in turn for. */
struct control_object {
    struct list_node node;
    struct list_node judge_node; /* it is to be judged: what it is judged from may have changed, or it is not at rest */
    struct hash_node by_name;
    struct list goals; /* the first one is served */
    enum control_kind kind;
    bool recorded;
    int64_t revision;       /* of its key in the state; 0 = it is not there */
    uint64_t refreshed_ns;  /* what changes without an event was asked for then */
    unsigned failures;      /* of what it tried by itself, in a row */
    uint64_t not_before_ns; /* it tries again then */
    char failure[256];      /* of that */
};

struct control_disk {
    struct control_object object;
    struct control_disk_record record;
    enum control_state state;
    char reason[256];
    struct observation *shown; /* the newest that had its store; NULL = none */
    char id[32];               /* "major:minor" of the device behind it, with '-'; "" = not known */
    bool id_asked;
    struct control_disk **identifying; /* who asks for the id: to be told when the disk goes */
};

struct control_replica {
    struct control_object object;
    struct control_replica_record record;
    enum control_state state;
    char reason[256];
    bool outgoing_ends;   /* what is recorded as outgoing is to be taken away */
    bool incoming_lives;  /* somebody sees to what is recorded as incoming: it was begun by this process, and goes on */
    uint64_t fingerprint; /* of what watchers care for */
};

enum control_leg_mode { CONTROL_LEG_WO, CONTROL_LEG_RW, CONTROL_LEG_ERR };

/* A leg of an engine as it is judged. */
struct control_leg {
    enum control_leg_mode mode;
    char text[128];                      /* why it is not RW; "" else */
    uint64_t out_since_ns;               /* neither whole nor being copied to since; 0 = it is */
    unsigned percent;                    /* of its copying */
    uint64_t copied_bytes, behind_bytes; /* since it came back; what it lacks */
    bool rebuilt;                        /* call by call, from here, now */
};

struct control_engine {
    struct control_object object;
    struct control_engine_record record;
    enum control_state state;
    char reason[256];
    struct control_leg legs[CONTROL_LEGS_MAX]; /* as in the record */
    bool expanding;
    bool clone_lives; /* somebody sees to the copy that is recorded, until control_engine_clone_left() */
    uint64_t fingerprint;
};

struct control_frontend {
    struct control_object object;
    struct control_frontend_record record;
    enum control_state state;
    char reason[256];
    bool expanding;
    uint64_t lease, suspended_until_ns; /* of the pause; 0 = none */
    uint64_t fingerprint;
    /* Of one that is a block device. */
    struct control_helper *helper; /* NULL = it was not needed yet */
    bool attached;                 /* the device stands as it should, as far as is known */
    char path[128];
};

/* ---- goals ---- */

enum control_verb {
    CONTROL_DISK_OPEN, /* made or opened */
    CONTROL_DISK_DELETE,
    CONTROL_REPLICA_CREATE, /* there, and exported */
    CONTROL_REPLICA_EXPORT, /* what is recorded, again: our own */
    CONTROL_REPLICA_STOP,
    CONTROL_REPLICA_DELETE,
    CONTROL_REPLICA_FORGET, /* its disk was deleted: our own */
    CONTROL_REPLICA_EXPAND,
    CONTROL_SNAPSHOT_CREATE,
    CONTROL_SNAPSHOT_DELETE,
    CONTROL_SNAPSHOT_REVERT,
    CONTROL_SNAPSHOT_PURGE,
    CONTROL_SNAPSHOT_RANGES, /* checksums of its clusters */
    CONTROL_REPLICA_NOTE,    /* which engine has it */
    CONTROL_EXPOSE,          /* a snapshot is exported to another replica */
    CONTROL_UNEXPOSE,
    CONTROL_COPY,             /* what a snapshot holds, to another replica's scratch volume: begun */
    CONTROL_REBUILD_BEGIN,    /* the head stands upon another replica's snapshot */
    CONTROL_REBUILD_SCRATCH,  /* a volume to copy the next snapshot into */
    CONTROL_REBUILD_KEEP,     /* a snapshot that is as it should be gets its parent */
    CONTROL_REBUILD_SNAPSHOT, /* of the scratch volume */
    CONTROL_REBUILD_END,      /* the head stands upon its own snapshots again, or (not `complete`) it is cleaned up */
    CONTROL_CLONE_BEGIN,      /* a scratch volume to copy a snapshot of another replica into */
    CONTROL_CLONE_END,        /* the head stands upon it, or it is cleaned up */
    CONTROL_CLONE_LINK,       /* the head stands upon a snapshot of another replica on the same disk */
    CONTROL_ENGINE_CREATE,
    CONTROL_ENGINE_TEND, /* what is recorded, again: our own */
    CONTROL_ENGINE_DELETE,
    CONTROL_ENGINE_EXPAND,
    CONTROL_ENGINE_SNAPSHOT_CREATE,
    CONTROL_ENGINE_SNAPSHOT_DELETE,
    CONTROL_ENGINE_SNAPSHOT_REVERT,
    CONTROL_ENGINE_SNAPSHOT_PURGE,
    CONTROL_ENGINE_SNAPSHOT_MAX,
    CONTROL_ENGINE_REPLICA_ADD,
    CONTROL_ENGINE_REPLICA_DELETE,
    CONTROL_ENGINE_FILLED, /* a replica that is rebuilt call by call has all its snapshots */
    CONTROL_ENGINE_LIMIT,  /* of the speed of its copies */
    CONTROL_ENGINE_PAUSE,  /* its mirror holds all writes, for CONTROL_LEASE_MS at most: a lease is the result */
    CONTROL_ENGINE_UNPAUSE,
    CONTROL_ENGINE_CLONE_BEGIN, /* it is exported to be copied into */
    CONTROL_ENGINE_CLONE_END,   /* it has a snapshot of what was copied, or (not `complete`) is empty again */
    CONTROL_ENGINE_CLONE_LINK,  /* the heads of its replicas stand upon snapshots beside them */
    CONTROL_ENGINE_ANA,         /* the state of its target's listener; a standby that is to be optimized is promoted */
    CONTROL_FRONTEND_CREATE,
    CONTROL_FRONTEND_SETTLE, /* what was heard of its engine */
    CONTROL_FRONTEND_ATTACH, /* its block device, over `target` too, if that is given */
    CONTROL_FRONTEND_SWITCH, /* the next step of a switch-over: our own */
    CONTROL_FRONTEND_DELETE,
    CONTROL_FRONTEND_SUSPEND,
    CONTROL_FRONTEND_RESUME,
    CONTROL_LOG_SET_LEVEL,
    CONTROL_LOG_GET_LEVEL,
    CONTROL_LOG_SET_FLAGS,
    CONTROL_LOG_GET_FLAGS,
    /* Nothing but an observation that is not older than a second, if one can be had soon; also of what changes without an event,
     * as how full things are: of a disk, replica or engine by its name, "" = of all. */
    CONTROL_REFRESH,
    CONTROL_AWAIT_DISK, /* the same; and while the plane is away, or opens the disk of the replica `name`, that is waited for */
    CONTROL_VERB_COUNT
};

enum goal_stage { GOAL_QUEUED, GOAL_RECORDING, GOAL_OBSERVING, GOAL_CARRYING_OUT, GOAL_SETTLING, GOAL_ENDED };

struct plan_command {
    const char *method;
    json_t *params; /* NULL = none */
    bool aside;     /* at the same time as those aside next to it; its failure is noted, and ends nothing */
};

/* A command aside that is under way. */
struct goal_aside {
    struct plane_call call;
    struct control_goal *goal;
};

/* A request. Its owner sets what stands above the line and lets all of it stay until `done`, which comes once, from the loop. */
/* Number of the tree of an engine's mirror as it was observed last, if its newest snapshot is that one; else 1, which is no
 * tree's that has a snapshot. */
uint64_t control_engine_tree(const struct control *control, const char *engine, const char *snapshot);

/* A replica is not rebuilt any more, call by call: done, or it never will be. */
void control_engine_rebuilt(struct control *control, const char *engine, const char *replica);
/* Nobody sees any more to the copy that CONTROL_ENGINE_CLONE_BEGIN began: if it is still under way by the record, it is ended by
 * itself as soon as the engine runs. An engine that is gone, or becomes no clone, is fine. */
void control_engine_clone_left(struct control *control, const char *engine);

struct control_goal {
    enum control_verb verb;
    const char *name;                    /* of the disk or replica; log: level or flags */
    const char *path, *driver, *uuid;    /* disk; uuid of its store, "" = any */
    const char *store_name, *store_uuid; /* replica: one of them, the other "" */
    uint64_t bytes;                      /* replica; disk: of a block */
    int64_t port_count;
    const char *snapshot, *timestamp;
    bool user_created;
    const char *volume, *frontend;         /* engine */
    const struct control_leg_record *legs; /* engine: leg_count of them; of a replica added or taken away: one, a part of which
                                              may be "" */
    unsigned leg_count;
    uint64_t first_cluster, cluster_count; /* of 1 MiB */
    const uint64_t *clusters;              /* copy: cluster_count of them; NULL = what the snapshot holds */
    const char *peer, *peer_address;       /* another replica; where something of it is exported */
    const char *parent;                    /* rebuild: the snapshot's parent, a volume on the same disk; "" = none */
    const char *const *names;              /* rebuild: name_count snapshots that the source has; engine that is linked: of
                                              replicas, each with the volume that it is to stand upon */
    size_t name_count;
    bool deep;     /* copy: with what the snapshot's ancestors hold */
    bool delta;    /* rebuild: the scratch volume begins as the snapshot that is there */
    bool complete; /* rebuild, clone: everything was copied */
    bool salvage;  /* engine: what is not there may be missing although it may have newer data */
    uint64_t tree; /* engine: number of its mirror's tree when the head of a replica came to stand upon its newest snapshot */
    bool rebuilds; /* engine: it is asked for by who rebuilds a replica, when no other snapshot may be made */
    bool stays;    /* engine: the replica taken away is listed on, as one whose rebuilding has failed */
    bool in_doubt; /* engine: what became of the try before, to add this replica or to take it away, is not known */
    int64_t snapshot_max;
    const char *ana; /* engine */
    bool elsewhere;  /* frontend: its engine's node has paused it at `paused_ns`, with `lease`, or lets it go on */
    uint64_t lease, paused_ns;
    enum switch_step step;                       /* frontend */
    bool moved;                                  /* frontend: `engine` at `target` is its engine from now on */
    const char *engine, *target, *failure;       /* frontend; failure "" = its engine was there */
    void (*accepted)(struct control_goal *goal); /* it is well, and recorded; may be NULL. Before done */
    void (*done)(struct control_goal *goal);
    void *arg;
    /* ---- the answer ---- */
    struct error error; /* code ERROR_NONE = reached */
    struct text text;   /* log: what was asked for */
    json_t *result;     /* of the last command, until done is over */
    /* ---- control's ---- */
    struct control *control;
    struct control_object *object; /* NULL: of none */
    struct list_node node;         /* of the object's, or the control's */
    enum goal_stage stage;
    bool own;         /* nobody asked for it */
    bool carried_out; /* all commands of a plan have succeeded, not counting those of a plane that is gone */
    bool told;        /* accepted */
    bool transport_raced;
    bool plane_lost;  /* it died in a command, which may have been carried out */
    bool asides_done; /* commands aside were tried: what they were to bring is not tried again by this goal */
    bool resumes;     /* an engine's: a run has been recorded for the mirror that it makes */
    bool salvaged, looked_again;
    bool planned_end;        /* the plan refused to go on */
    char aside_failure[256]; /* of the last one that failed */
    struct goal_aside asides[CONTROL_LEGS_MAX];
    unsigned asides_missing;
    unsigned rounds, port_moves;
    struct control_leg_record leg_meant;
    char made_up[9];              /* a snapshot's name */
    char subject[UUID_TEXT_SIZE]; /* a volume's */
    char now[TEXT_TIME_SIZE];     /* a snapshot's, unless the caller has told one */
    char id[UUID_TEXT_SIZE];      /* of the operation */
    union control_record *before; /* the object's record when it began: before_size bytes */
    size_t before_size;
    bool recorded_before;
    struct plan_command *commands;
    unsigned command_count, command_at;
    struct plane_call call;
    struct observe_waiter waiter;
    struct reactor_timer deadline;
    uint64_t deadline_ns;
    struct reactor_job job;
    struct store_request request;
    struct store_compare compare;
    struct store_op op, look;
    unsigned writes; /* of one record: more than one when somebody else's stood there */
    bool uncertain;  /* whether it is written is not known: it is written again */
    struct reactor_timer again;
    char key[160];
    struct text value;
};

/* For keeping either. */
union control_record {
    struct control_disk_record disk;
    struct control_replica_record replica;
    struct control_engine_record engine;
    struct control_frontend_record frontend;
};

struct control_options {
    struct reactor *reactor;
    struct log *log;
    struct store *store;
    const char *node;    /* its part of the keys */
    const char *address; /* replicas listen there */
    const char *socket_path, *plane_log_path;
    struct control_processes processes;
    /* Of block devices, each with a process of its own; start is NULL where there are none. */
    struct control_helpers {
        int (*start)(void *arg, const char *socket_path, const char *log_path, void (*ended)(void *ended_arg, int status),
                     void *ended_arg, void **ret_process);
        void *arg;
        const char *folder; /* of their sockets and logs */
    } helpers;
    uint64_t leg_return_ns; /* how long a leg may be away before it counts as lost; 0 = CONTROL_LEG_RETURN_S */
};

struct control {
    struct control_options options;
    struct control_plane plane;
    struct observer observer;
    struct list objects[CONTROL_KINDS]; /* of control_object */
    struct hash_map names[CONTROL_KINDS];
    struct list to_judge[CONTROL_KINDS];
    bool judged_some;                    /* since all were judged */
    struct list free_goals;              /* of no object */
    struct list watchers[CONTROL_KINDS]; /* of struct control_watcher */
    unsigned goal_count;
    struct list copies; /* copy.c */
    struct list hashes; /* hash.c */
    unsigned hash_count;
    uint64_t ports[(CONTROL_PORT_LAST + 1 - CONTROL_PORT_FIRST + 63) / 64]; /* taken */
    bool loaded, started, stopping;
    struct reactor_timer timer;    /* what is to be tried again */
    struct observe_waiter waiter;  /* its own: after the plane has become ready, and before a second try */
    struct reactor_timer patience; /* ready without an observation */
    struct store_request loading;
    bool is_loading;
    uint64_t refreshed_ns; /* of everything */
    char loading_key[128], loading_after[STORE_KEY_MAX + 1];
    void (*ready)(void *arg, const struct error *error); /* the state is read; NULL = well */
    void (*stopped)(void *arg);
    void *arg, *stop_arg;
    struct reactor_job stop_job, judge_job;
    bool judge_queued;
    bool stop_told;
};

struct control *control_create(const struct control_options *options);
/* Reads the state, then takes up what it says. `ready` comes once, from the loop. */
void control_start(struct control *control, void (*ready)(void *arg, const struct error *error), void *arg);
/* Ends goals with ERROR_CANCELLED, lets go of the plane (which goes on); `stopped` comes from the loop. */
void control_stop(struct control *control, void (*stopped)(void *arg), void *arg);
/* After it has stopped, or was never started. */
void control_destroy(struct control *control);

void control_goal_start(struct control *control, struct control_goal *goal);
/* Whether CONTROL_REFRESH of `name` would have nothing to ask the plane for: what is known may be told at once. */
bool control_is_fresh(struct control *control, const char *name);
#define CONTROL_BLOCKDEV "spdk-tcp-blockdev"
bool control_is_address(const char *address); /* "IP:PORT", "[IP]:PORT" */

struct control_disk *control_find_disk(struct control *control, const char *name);
struct control_replica *control_find_replica(struct control *control, const char *name);
struct control_engine *control_find_engine(struct control *control, const char *name);
struct control_frontend *control_find_frontend(struct control *control, const char *name);
/* The disk whose store has that UUID (or, without, that name). NULL: none that is open. */
struct control_disk *control_find_store(struct control *control, const char *uuid, const char *name);
/* The replica's snapshot as it was last observed. NULL: there is none. */
const struct observed_volume *control_find_snapshot(struct control *control, const struct control_replica *replica,
                                                    const char *snapshot);

/* Where its snapshots and scratch volumes are exported. */
uint16_t control_private_port(const struct control_replica_record *record);

/* ---- copies to other replicas, begun by CONTROL_COPY ---- */

struct control_copy_status {
    const char *state;       /* "in_progress", "complete", "error" */
    uint64_t handled, total; /* clusters of 1 MiB */
    const char *error;
};
/* The last one of this snapshot to that peer. False: there was none since this process began. */
bool control_copy_get(struct control *control, const char *replica, const char *peer, const char *snapshot,
                      struct control_copy_status *ret_status);

/* ---- checksums of snapshots ---- */

struct control_hash_status {
    const char *state; /* "" (there is none), "in_progress", "complete", "error" */
    const char *checksum, *error;
};
/* Makes it, beside everything else, unless there is one (and not `again`) or it is being made. False: ERROR_NO_DEVICE = no such
 * replica, ERROR_PERMISSION = no such snapshot, and others. */
bool control_hash_start(struct control *control, const char *replica, const char *snapshot, bool again, struct error *error);
/* The texts live until the next turn of the loop. False: as above. */
bool control_hash_get(struct control *control, const char *replica, const char *snapshot, struct control_hash_status *ret_status,
                      struct error *error);

/* The newest observation; NULL = there was none yet. Gone with the next turn of the loop. */
static inline const struct observation *control_seen(const struct control *control) { return control->observer.seen; }

/* What was last seen of a disk's store and its volumes: while the plane is started again, that is not the newest. May be NULL. */
const struct observation *control_shown(const struct control *control, const struct control_disk *disk);

struct control_watcher {
    struct list_node node;
    void (*changed)(struct control_watcher *watcher); /* something about objects of the kind */
};
void control_watch(struct control *control, enum control_kind kind, struct control_watcher *watcher);
static inline void control_unwatch(struct control_watcher *watcher) { list_remove(&watcher->node); }
