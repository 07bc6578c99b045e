/* One rebuilding of a replica of this node, from its first call to its last. Inside of src/gateway: rebuild.c, rebuild_calls.c.
 * The control loop. */
#pragma once

#include "control/names.h"
#include "gateway/internal.h"

enum { REBUILD_COMPARED = 256 };
#define REBUILD_CLUSTER MIB(1) /* on the wire, whatever the store uses */

struct rebuild_snapshot {
    char *name, *parent;
    uint64_t bytes;
    bool done;
};

enum rebuild_state {
    REBUILD_BEGINNING,
    REBUILD_READY,   /* for the next snapshot */
    REBUILD_COPYING, /* current */
    REBUILD_COPIED,  /* current: its snapshot is to be made */
    REBUILD_FAILED
};

struct rebuild {
    struct list_node node;
    struct gateway *gateway;
    struct grpc_call *call; /* that began it; NULL = answered */
    char replica[CONTROL_NAME_MAX + 1], source[CONTROL_NAME_MAX + 1], source_address[CONTROL_ADDRESS_SIZE];
    char external[CONTROL_NAME_MAX + 1], external_address[CONTROL_ADDRESS_SIZE];
    char root_parent[NAMES_VOLUME_SIZE]; /* of a linked clone; "" = none */
    struct rebuild_snapshot *snapshots;
    const char **names;
    size_t count;
    enum rebuild_state state;
    char failure[256];
    bool busy; /* something is under way that calls back */
    bool over; /* it goes when it is not busy */
    /* the current snapshot */
    struct rebuild_snapshot *current;
    bool fast;
    uint64_t limit_mib; /* a second; 0 = as fast as it goes */
    bool listed;        /* nothing is there to compare with: what the source holds is copied by clusters, to go slowly */
    uint64_t pulled_ns; /* when the last piece was begun */
    struct reactor_timer timer;
    char parent[NAMES_VOLUME_SIZE];
    uint64_t *mismatches; /* clusters to be copied; all of them are known before the first is */
    size_t mismatch_count, mismatch_capacity, mismatch_at, pulled;
    uint64_t compare_at;
    struct sum {
        uint64_t cluster, value;
    } source_sums[REBUILD_COMPARED];
    size_t source_sum_count;
    struct gateway_pull pull;
    struct gateway_ask ask;
    struct control_goal goal;
};

static inline struct control *rebuild_control(const struct rebuild *rebuild) { return rebuild->gateway->options.control; }
/* NULL: there is none, over or not. */
struct rebuild *rebuild_find_any(const struct gateway *gateway, const char *replica);
/* One whose replica was deleted, or stopped, is over: NULL. */
struct rebuild *rebuild_find(const struct gateway *gateway, const char *name);
/* One that is not in the gateway's list, and is not busy. */
void rebuild_free(struct rebuild *take_rebuild);
/* Nobody hears of it any more: it goes, as soon as it is not busy. */
void rebuild_leave(struct rebuild *take_rebuild);
/* Makes its goal, to be started; it is busy until that is done. */
void rebuild_run_goal(struct rebuild *rebuild, enum control_verb verb, void (*done)(struct control_goal *goal));
/* Begins to copy its current snapshot. */
void rebuild_copy_current(struct rebuild *rebuild);
