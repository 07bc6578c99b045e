/* Drives one session with a seeded mix of overlapping requests and commands, and tells the model. Reads are checked while it
 * runs. */
#pragma once

#include "session.h"

enum action {
    ACTION_WRITE,    /* 1 … 8 blocks */
    ACTION_SUBWRITE, /* 1 … 12 sectors anywhere */
    ACTION_BIGWRITE, /* up to 32 blocks */
    ACTION_READ,
    ACTION_ZERO,
    ACTION_TRIM,
    ACTION_FLUSH,
    ACTION_IDLE, /* up to two seconds without anything new */
    ACTION_COMMANDS,
    ACTION_SNAPSHOT = ACTION_COMMANDS,
    ACTION_CLONE,
    ACTION_REVERT,
    ACTION_DELETE_SNAPSHOT,
    ACTION_DELETE_VOLUME,
    ACTION_CREATE,
    ACTION_RESIZE,
    ACTION_RENAME,
    ACTION_ATTRIBUTE,
    ACTION_INFLATE,
    ACTION_DECOUPLE,
    ACTION_GROW, /* the disk becomes larger, then the store */
    ACTION_COUNT
};

#define DRIVER_DEPTH_MAX 24
#define DRIVER_CONTROLS 2
#define DRIVER_BUFFER KIB(128)

struct workload {
    const char *name;
    uint64_t seed;
    unsigned operations;
    unsigned depth;    /* requests under way */
    unsigned controls; /* commands under way, at most DRIVER_CONTROLS */
    unsigned volumes;
    unsigned clusters; /* 64 KiB, each volume at first */
    unsigned fua_percent;
    unsigned hot_percent; /* of requests that go to the first blocks of a volume */
    unsigned filler_free; /* clusters that a thick filler leaves; 0 = no filler */
    bool drain_first;     /* commands wait until nothing else is under way */
    unsigned warm;        /* commands before the run that only fill the journal: one record each */
    uint8_t weights[ACTION_COUNT];
    struct store_options store;
    /* Faults: the n-th request of a kind fails after the workload began; 0 = none. */
    uint64_t fail_at[DISK_FAULT_COUNT];
    uint64_t fail_count;
};

struct target {
    struct port port;
    bool open, snapshot, deleted, filler;
    bool leaving;    /* nothing new is sent to it */
    bool reserved;   /* a command is about it */
    unsigned busy;   /* requests under way */
    uint64_t bytes;  /* what may be addressed */
    uint32_t parent; /* a node, or MODEL_NODES_MAX */
};

struct slot {
    struct driver *driver;
    struct block_request request;
    struct slice slices[3];
    uint8_t *buffer;
    bool busy;
    enum action action;
    uint32_t node, first, count; /* sectors */
    uint32_t operation[3], operations, flush;
    uint32_t *completed; /* reads: what had to be seen */
    bool after_failure;  /* begun when the disk had failed a flush */
};

enum control_state { CONTROL_IDLE, CONTROL_DRAINING, CONTROL_RUNNING, CONTROL_LEARNING };
struct control {
    struct driver *driver;
    enum control_state state;
    enum action action;
    struct volume_command command;
    char name[MODEL_NAME_SIZE], value[MODEL_NAME_SIZE];
    uint32_t node, other; /* what it is about; the node made by it, or reverted to */
    uint32_t flush, cut;
    uint64_t bytes;
    bool after_failure;
    /* learning a new snapshot */
    struct block_request request;
    struct slice slice;
    uint8_t *buffer;
    uint32_t *content;
    uint64_t at;
};

struct driver {
    const struct workload *workload;
    struct session *session;
    struct model *model;
    struct random random;
    unsigned left; /* operations to begin */
    unsigned busy; /* slots and controls */
    bool idle;     /* until the timer */
    struct reactor_timer timer;
    struct target targets[MODEL_NODES_MAX];
    struct slot slots[DRIVER_DEPTH_MAX];
    struct control controls[DRIVER_CONTROLS];
    uint64_t next_number; /* names, UUIDs, attributes */
    unsigned done[ACTION_COUNT], refused[ACTION_COUNT], failed[ACTION_COUNT];
    unsigned commands_after_failure;
    bool store_failed; /* an error other than a refusal was seen: faults are allowed to do that */
    char failure[512]; /* what went wrong, "" = nothing */
};

/* `model` knows what the store holds (a node each); opens all volumes. False: see driver->failure. */
bool driver_init(struct driver *driver, const struct workload *workload, struct session *session, struct model *model,
                 uint64_t seed, unsigned operations);
/* Runs to the end; false: see driver->failure. */
bool driver_run(struct driver *driver);
/* Closes all volumes; nothing is under way. */
void driver_close(struct driver *driver);
/* Frees it; the session may be gone already. */
void driver_free(struct driver *driver);
/* Makes the volumes that a workload begins with. `model` is initialised. */
bool driver_prepare(const struct workload *workload, struct session *session, struct model *model);
const char *action_name(enum action action);
