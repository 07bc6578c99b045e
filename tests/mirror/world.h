/* An engine and its replicas in one simulation, with checked I/O: a model says which versions of each block a read may show, by
 * the promises of docs/mirror.md, through cuts of power, deaths of processes and lost connections. */
#pragma once

#include "blockdev/mirror/mirror.h"
#include "cluster.h"
#include "replica_disk.h"

#define WORLD_DISKS 4
#define WORLD_REGIONS 6
#define WORLD_BLOCKS 18
#define WORLD_VERSIONS 512
#define WORLD_OPS 8
#define WORLD_BLOCK 4096

/* The versions that a block may show, 0 = never written. */
struct world_versions {
    uint32_t list[WORLD_VERSIONS];
    unsigned count;
};

struct world_block {
    uint64_t offset;
    struct world_versions now;     /* a read may show */
    struct world_versions flushed; /* a read may show after all was lost that was not flushed */
    uint64_t writes;
    bool busy;
};

struct world;
struct world_op {
    struct reactor_message message;
    struct block_request request;
    struct slice slice;
    struct world *world;
    uint8_t *payload;
    unsigned block;
    uint32_t version;
    bool busy;
    bool doubtful;                 /* unflushed data was lost since it began: its answer may be older than that */
    uint64_t writes[WORLD_BLOCKS]; /* FLUSH: of each block, when it was sent; UINT64_MAX = one was under way */
};

struct world {
    struct cluster cluster;
    struct plane plane;
    struct replica_disk disks[WORLD_DISKS];
    struct replica_view *views[WORLD_DISKS];
    unsigned disk_count; /* the first options.leg_count are named as legs when an engine starts */
    unsigned absent;     /* bits: no device of that name is there */
    unsigned apart;      /* bits: not a leg, and not compared with them */
    struct block_device *mirror;
    struct block_handle handle;
    struct block_channel *channel;
    struct mirror_options options;
    struct random random;
    uint64_t seed;
    struct world_block blocks[WORLD_BLOCKS];
    struct world_op ops[WORLD_OPS];
    uint32_t version;
    struct mirror_command command; /* of world_ask() */
    bool asked;                    /* it is under way */
    bool running;
    uint64_t reads, writes, flushes, failed, faults, engines, losses;
    bool trace;
    unsigned kept; /* bits: disks that have all that was acknowledged, and were not opened anew since */
    bool judged;   /* an answer of this engine was heard: it is known whom it began with */
};

void world_init(struct world *world, uint64_t seed, unsigned disk_count, enum replica_policy policy);
void world_fini(struct world *world);
/* Starts an engine; the one before is dead. */
void world_engine_start(struct world *world);
void world_engine_kill(struct world *world);
/* Its device is not there, and comes (again). */
void world_vanish(struct world *world, unsigned disk);
void world_appear(struct world *world, unsigned disk);
/* Asks the engine for it and waits; what became of it. */
enum error_code world_command(struct world *world, struct mirror_command *command);
/* Asks, if nothing is asked for now, and does not wait. START: without this disk. */
void world_ask(struct world *world, enum mirror_verb verb, unsigned disk);
/* Lets time pass until condition(world) holds; fails the test with `what` if it does not come. */
void world_until(struct world *world, bool (*condition)(struct world *world), const char *what);
/* Power or process of a replica. */
void world_cut(struct world *world, unsigned disk, bool lose);
void world_break(struct world *world, unsigned disk);
void world_mend(struct world *world, unsigned disk);
/* Begins a request drawn at random, if there is room. */
void world_begin_any(struct world *world);
bool world_begin_write(struct world *world, unsigned block);
bool world_begin_read(struct world *world, unsigned block);
bool world_begin_flush(struct world *world);
/* Lets so much time pass, in which the replicas take `steps` steps. */
void world_run(struct world *world, uint64_t ns, unsigned steps);
/* No request is under way any more; fails the test if that takes longer. */
void world_drain(struct world *world, uint64_t for_ns);
/* Short waits of targeted tests: until the mirror serves; so many milliseconds; until every block was written. */
void world_serve(struct world *world);
void world_pass(struct world *world, uint64_t ms);
void world_write_all(struct world *world);
/* world_command() of a verb on a leg. */
enum error_code world_do(struct world *world, enum mirror_verb verb, const char *leg, struct mirror_command *command);
/* Sets what `set` says; the error's code. */
enum error_code world_set(struct world *world, struct mirror_set *set);
void world_status(struct world *world, struct mirror_status *ret_status);
/* Mends everything, waits until all legs are whole and settled, reads all, and compares the replicas with each other. */
void world_settle(struct world *world);
/* Prints where everybody stands. */
void world_tell(struct world *world);
void world_log(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
