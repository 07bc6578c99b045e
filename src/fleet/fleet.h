/* Volumes as one thing, each of which belongs to the node that was asked to make it. What is recorded of one is what it is meant
 * to be; it is brought there by the same three steps, again and again: look at its parts, on their nodes; plan (plan.h); call.
 * docs/control.md, "Volumes".
 *
 * Calling context: the control loop. Must not know: how calls reach nodes. */
#pragma once

#include "fleet/plan.h"

enum {
    FLEET_GIVE_UP_S = 45, /* what is begun and not done by then is undone */
    FLEET_REQUEST_S = 60, /* a request's time */
    FLEET_VOLUMES_MAX = 10000,
    FLEET_REQUESTS_MAX = 256 /* under way, of one volume */
};

/* ---- what carries calls to nodes, this one too ---- */

enum fleet_answer {
    FLEET_DONE,
    FLEET_NOT_THERE, /* what is named is not there */
    FLEET_NO_ANSWER, /* it may be done, or not */
    FLEET_NOT_DONE   /* refused */
};

/* A call of one node. Its maker sets what stands above the line, and lets it stay until `done`, which comes once, from the loop.
 */
struct fleet_call {
    enum fleet_act act;
    char node[FLEET_NODE_SIZE];
    char name[CONTROL_NAME_MAX + 1]; /* of the object */
    char volume[CONTROL_NAME_MAX + 1], engine[CONTROL_NAME_MAX + 1], disk[CONTROL_NAME_MAX + 1], frontend[24];
    char snapshot[CONTROL_NAME_MAX + 1];              /* to revert to, to look for, to copy; "" = none */
    char source[CONTROL_NAME_MAX + 1];                /* of which engine it is copied */
    char target[CONTROL_ADDRESS_SIZE];                /* of a frontend: its engine's */
    struct control_leg_record legs[CONTROL_LEGS_MAX]; /* of an engine; of a replica added or removed: one */
    unsigned leg_count;
    uint64_t bytes;
    void (*done)(struct fleet_call *call);
    /* ---- the answer ---- */
    enum fleet_answer answer;
    char text[256];           /* unless DONE */
    struct fleet_thing thing; /* DONE: a look or a making */
    struct control_leg_record seen_legs[CONTROL_LEGS_MAX];
    unsigned seen_leg_count;
    struct fleet_candidate disks[16]; /* of a node */
    unsigned disk_count;
    /* ---- fleet's ---- */
    struct fleet_volume *volume_of;
    struct fleet_step step;
};

struct fleet_peers {
    void (*call)(void *arg, struct fleet_call *call);
    void *arg;
};

/* ---- volumes ---- */

struct fleet;

enum fleet_stage {
    FLEET_IDLE,
    FLEET_PLACING, /* candidates are asked what they have */
    FLEET_RECORDING,
    FLEET_LOOKING,
    FLEET_CALLING,
    FLEET_PAUSED /* until it is tried again */
};

struct fleet_volume {
    struct list_node node;
    struct hash_node by_name;
    struct fleet *fleet;
    struct fleet_record record;
    bool recorded;
    enum fleet_stage stage;
    char waits_for[256]; /* what keeps it; "" = nothing does */
    struct fleet_seen seen;
    uint64_t expires_ns;      /* what was begun is given up then; 0 = nothing was */
    unsigned failures;        /* in a row */
    struct list requests;     /* of fleet_request */
    struct fleet_call *calls; /* under way, or answered */
    struct {
        enum fleet_act act;
        char member[CONTROL_NAME_MAX + 1]; /* "" = nothing is */
        char text[256];
    } refusal; /* of an engine's replica: it counts when the engine was looked at since, and is as before */
    unsigned call_count, calls_missing;
    struct fleet_request *placing, *recording; /* for whom that is done; NULL = for nobody */
    struct reactor_timer timer;
    struct reactor_job job;
    bool job_queued;
    bool uncertain;             /* whether the last record was written is not known: it is written again */
    bool caring;                /* a request of our own is under way */
    uint64_t care_ns;           /* not before */
    struct fleet_record before; /* RECORDING: what to go back to */
    bool recorded_before;
    struct store_request request;
    struct store_op op;
    char key[160];
    struct text value;
};

enum fleet_verb { FLEET_CREATE, FLEET_EXPAND, FLEET_UPDATE, FLEET_DELETE, FLEET_ADD, FLEET_REMOVE, FLEET_REVERT };

/* What somebody wants of a volume. Its owner sets what stands above the line, and lets it stay until `done`, which comes once,
 * from the loop. */
struct fleet_request {
    enum fleet_verb verb;
    const char *name;
    uint64_t bytes;
    const char *frontend;
    unsigned replicas; /* 0 = as many as places, or 3 */
    bool replace, abandon;
    const char *const *nodes, *const *places; /* "NODE", "NODE/DISK" */
    size_t node_count, place_count;
    const char *replica;                  /* REMOVE */
    const char *snapshot;                 /* REVERT */
    const char *source, *source_snapshot; /* CREATE, as a clone: of which volume of this node; NULL = empty */
    void (*done)(struct fleet_request *request);
    void *arg;
    /* ---- the answer ---- */
    struct error error;                /* NONE: done; a volume that could not be made is there, in phase FAILED or UNMAKING */
    char member[CONTROL_NAME_MAX + 1]; /* ADD: the replica */
    /* ---- fleet's ---- */
    struct list_node node;
    struct fleet_volume *volume; /* NULL: none */
    struct fleet *fleet;
    bool begun, placed, own;
    struct reactor_timer timer;
    struct fleet_member wanted[FLEET_REPLICAS_MAX];
    unsigned wanted_count;
    struct reactor_job job;
};

struct fleet_options {
    struct control *control;
    struct store *store;
    const char *node;    /* its part of the keys */
    const char *address; /* this node, as others reach it */
    struct fleet_peers peers;
};

struct fleet_watcher {
    struct list_node node;
    void (*changed)(struct fleet_watcher *watcher); /* something about a volume; from the loop, or from inside of a request */
};

struct fleet {
    struct fleet_options options;
    struct reactor *reactor;
    struct log *log;
    struct list volumes, watchers;
    struct hash_map names;
    unsigned volume_count;
    bool stopping, is_loading;
    struct control_watcher engines; /* ours changed, perhaps */
    struct reactor_timer care_timer;
    struct store_request loading;
    char loading_key[128], loading_after[STORE_KEY_MAX + 1];
    void (*ready)(void *arg, const struct error *error);
    void (*stopped)(void *arg);
    void *arg, *stop_arg;
    struct reactor_job stop_job;
    bool stop_told;
};

/* NULL: no memory. */
struct fleet *fleet_create(const struct fleet_options *options);
/* Reads the state; `ready` comes once, from the loop. Nothing is called before fleet_run(). */
void fleet_start(struct fleet *fleet, void (*ready)(void *arg, const struct error *error), void *arg);
/* Goes on with what was begun before. */
void fleet_run(struct fleet *fleet);
/* Ends requests with ERROR_CANCELLED; `stopped` comes from the loop, when calls and writes under way have ended. */
void fleet_stop(struct fleet *fleet, void (*stopped)(void *arg), void *arg);
/* After it has stopped, or without having been started; or abruptly, when nothing will answer it any more. */
void fleet_destroy(struct fleet *fleet);

void fleet_submit(struct fleet *fleet, struct fleet_request *request);
/* NULL: there is none. */
struct fleet_volume *fleet_find(struct fleet *fleet, const char *name);
/* Of a volume: NULL, or its engine on this node. */
const struct control_engine *fleet_engine(const struct fleet *fleet, const struct fleet_volume *volume);
/* The mode of a member as its engine has it; -1: it has it not. */
int fleet_member_mode(const struct control_engine *engine, const struct fleet_member *member, unsigned *ret_leg);
/* Nodes that volumes of this one have, this one first; at most `max`. */
unsigned fleet_nodes(const struct fleet *fleet, char (*to)[FLEET_NODE_SIZE], unsigned max);
void fleet_watch(struct fleet *fleet, struct fleet_watcher *watcher);
static inline void fleet_unwatch(struct fleet_watcher *watcher) { list_remove(&watcher->node); }
