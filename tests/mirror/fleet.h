/* A mirror's whole world in one thread, from one seed: machines with a volume store on a caching disk, served over NVMe/TCP on
 * the simulated network, and machines with an engine, whose legs are those volumes and perhaps one of its own. All of it is the
 * product's code; what is checked is said by ledger.h.
 *
 * A node comes up by itself, step by step, on its own reactors (fleet_node_up), so that a fault may hit any of these steps. */
#pragma once

#include "base/random.h"
#include "blockdev/mirror/mirror.h"
#include "blockdev/volume/volume.h"
#include "cluster.h"
#include "ledger.h"

#define FLEET_NODES 5
#define FLEET_REGIONS 6
#define FLEET_BYTES (FLEET_REGIONS * REPLICA_REGION_BYTES)
#define FLEET_BLOCK 4096
#define FLEET_BLOCKS_A_REGION 4
#define FLEET_BLOCKS (FLEET_REGIONS * FLEET_BLOCKS_A_REGION)
#define FLEET_OPS 16
#define FLEET_OP_BLOCKS 3

enum fleet_state {
    FLEET_DOWN,
    FLEET_COMING, /* opening its store, attaching its legs */
    FLEET_UP,
    FLEET_FAILED /* its store cannot be opened: it has to be started again */
};

struct fleet;
struct fleet_node;

/* A checked request of an engine's. */
struct fleet_op {
    struct reactor_message message;
    struct block_request request;
    struct slice slice;
    struct fleet_node *node;
    uint8_t *payload;
    bool busy;
    unsigned first, count; /* blocks */
    uint32_t ids[FLEET_OP_BLOCKS];
    uint64_t begin; /* ledger's time */
};

struct fleet_leg {
    struct nvme_initiator_attach attach;
    char name[16], device[UUID_TEXT_SIZE];
    bool asked, attached;
    struct fleet_node *node;
};

struct fleet_node {
    struct fleet *fleet;
    unsigned index;
    char name[16], nqn[64];
    struct plane plane;
    enum fleet_state state;
    char why[200]; /* FAILED */
    bool paused;
    uint64_t boots;
    uint64_t again_ns; /* DOWN, FAILED: when it comes up again; 0 = when somebody says so */

    /* its store */
    struct sim_disk *disk; /* NULL = none */
    bool formatted, exported;
    struct file_device_create file;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command command;
    struct volume_store *store; /* open; NULL else */
    char device[UUID_TEXT_SIZE];
    bool kept;             /* has all that was acknowledged, since its process started */
    uint64_t stored_depth; /* of the newest record that it was heard to have stored, durably */

    /* its engine */
    bool engine;     /* it has one while it is up */
    bool standby;    /* which claims nothing until somebody says so */
    uint32_t writer; /* counts engines: whose versions are whose */
    uint64_t term;
    struct fleet_leg legs[FLEET_NODES];
    unsigned leg_count;
    struct reactor_timer attach_again, patience;
    struct mirror_options options;
    struct block_device *mirror; /* NULL = not made yet */
    struct block_handle handle;
    struct block_channel *channel;
    struct reactor_message opened;
    struct fleet_op ops[FLEET_OPS];
    bool served;      /* a request of it was answered with success */
    uint64_t answers; /* with success */
    unsigned failed;  /* requests, in a row */
    uint64_t seen_points[MIRROR_LEGS_MAX + 1];
};

struct fleet_options {
    uint64_t seed;
    unsigned storages; /* machines with a store that is served */
    unsigned engines;  /* machines with an engine, at most one at a time unless the test wants two */
    bool local;        /* the first engine's machine has a store too, not served: a leg beside the others */
    enum replica_policy policy;
    unsigned depth; /* requests at a time, of an engine */
    uint64_t longest_stall_ms;
};

struct fleet {
    struct cluster cluster;
    struct fleet_options options;
    struct fleet_node nodes[FLEET_NODES];
    unsigned node_count;
    struct random random;
    struct ledger ledger;
    uint8_t *payloads;
    unsigned regions;    /* the mirror's size: at most FLEET_REGIONS */
    bool trace, driving; /* driving: whatever ends is followed by another request */
    uint32_t writers;
    uint64_t terms;
    uint64_t incarnations[FLEET_NODES];
    /* the deepest epoch that somebody has stored: who is whole in it, and up ever since it was told so */
    struct replica_epoch newest;
    unsigned whole;
    /* told of each moment (volume_point, or VOLUME_POINTS + mirror_point) of a node; NULL = nobody */
    void (*at_point)(struct fleet *fleet, struct fleet_node *node, unsigned leg, unsigned point);
    void *at_point_arg;
    /* counts */
    uint64_t reads, writes, flushes, answers, failures, faults, losses; /* answers: with success */
};

void fleet_init(struct fleet *fleet, const struct fleet_options *options);
void fleet_fini(struct fleet *fleet);

/* Its process starts and comes up. With `engine`: an engine of that term too. */
void fleet_node_up(struct fleet_node *node);
void fleet_engine_up(struct fleet_node *node, uint64_t term);
void fleet_standby_up(struct fleet_node *node);
enum fleet_death { FLEET_CLOSE, FLEET_VANISH, FLEET_POWER };
/* Its process dies; from inside of one of its turns too, then this does not return. */
void fleet_node_die(struct fleet_node *node, enum fleet_death death);
void fleet_node_pause(struct fleet_node *node, bool pause);

/* Lets time pass. */
void fleet_run(struct fleet *fleet, uint64_t ns);
/* Until condition(fleet) or fails the test with `what`. */
void fleet_wait(struct fleet *fleet, bool (*condition)(struct fleet *fleet), uint64_t for_ns, const char *what);
/* The engine that serves, of the highest term; NULL if none does. */
struct fleet_node *fleet_engine(struct fleet *fleet);
/* All legs of that engine are whole, members equal, nothing marked otherwise. */
bool fleet_all_whole(struct fleet *fleet);
void fleet_status(struct fleet_node *node, struct mirror_status *ret_status);

/* Conditions for fleet_wait(): every served store is up; the engine's members are two. */
bool fleet_stores_are_up(struct fleet *fleet);
bool fleet_has_two_members(struct fleet *fleet);
/* So many more requests are answered, by whichever engine serves. `keep`: they go on; else none is under way at the end. */
void fleet_drive(struct fleet *fleet, uint64_t requests, bool keep);

/* Begins a request on this node's engine if there is room; false if there is none. */
bool fleet_begin(struct fleet_node *node, enum block_op kind, unsigned first, unsigned count);
/* Begins requests until `depth` are under way. */
void fleet_fill(struct fleet_node *node);
unsigned fleet_busy(const struct fleet_node *node);
/* The ledger's time at which the oldest request under way began; LEDGER_NEVER = there is none. */
uint64_t fleet_oldest(const struct fleet *fleet);
/* No engine has a request under way. */
bool fleet_is_idle(struct fleet *fleet);

/* What the leg on this node has stored, in RAM; NULL if it has no record or is down. */
const struct replica_record *fleet_record(const struct fleet_node *node);
/* Attributes, key and value in turn, that every snapshot is made with. */
#define FLEET_PAIRS 3
extern const char *const fleet_pairs[2 * FLEET_PAIRS];
/* Ends all engines, and looks at each store by a claim of its own: every block must be what it may be, and the same on all; so
 * must the snapshots, which have their attributes. */
void fleet_compare(struct fleet *fleet);
void fleet_tell(struct fleet *fleet);
void fleet_log(struct fleet *fleet, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fleet_fail(struct fleet *fleet, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
