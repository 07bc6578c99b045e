/* A daemon whose volumes lie over nodes that are played here, as nodes would; one thing may go wrong: at one call to a node the
 * daemon dies, an answer is lost, or it is refused. */
#pragma once

#include "fleet/fleet.h"
#include "support/stage.h"

#define NODES 4
#define REPLICAS 16
extern const char *const world_addresses[NODES];

enum fault { NONE, CRASH_BEFORE, CRASH_AFTER, LOST_BEFORE, LOST_AFTER, REFUSED, REFUSED_DONE, FAULTS };
extern const char *const world_fault_names[FAULTS];

struct world {
    struct stage stage;
    struct control *control;
    struct fleet *fleet;
    /* what the nodes have */
    char replicas[NODES][REPLICAS][CONTROL_NAME_MAX + 1]; /* "" = a free place */
    bool engine, frontend, offered;
    enum control_state engine_state, ill; /* ill: of what is on node `ill_node` */
    unsigned ill_node;
    unsigned generation;    /* of the volume's contents */
    bool reverted, written; /* to the snapshot, and hosts found it since */
    bool small;             /* the replicas, since then */
    bool degraded;          /* the engine, while it has no target */
    bool no_snapshot;
    unsigned lingering; /* engines yet to be made that find the claims of the one before */
    bool standby;       /* the engine found some, and has not been promoted */
    unsigned promotions;
    unsigned copying; /* looks until the copy is complete; 0 = nothing is copied */
    bool clones, cloned, clone_failed;
    uint64_t engine_bytes;
    struct control_leg_record legs[CONTROL_LEGS_MAX];
    unsigned leg_count;
    bool down[NODES];
    /* what goes wrong */
    unsigned calls, fault_at, node_count, deletions; /* deletions: of engines and frontends */
    enum fault fault;
    bool crashed, ready;
};

struct world *world_create(void);
void world_destroy(struct world *world);
unsigned world_node_of(const char *address);
/* NULL: node number `node` has none of that name. */
char *world_find_replica(struct world *world, unsigned node, const char *name);
unsigned world_count_replicas(const struct world *world);

/* ---- requests ---- */

struct asked {
    struct fleet_request request;
    struct world *world;
    bool done;
};

/* It was answered, or the daemon died. */
bool asked_is_done(void *asked);
/* Submits what is asked as it is, but for what it calls at its end. */
void world_send(struct asked *asked);
/* Asks something of volume v; `replica` may be NULL. */
void world_submit(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica);
/* … and waits for the answer or the end of the daemon, which is begun anew. */
void world_ask(struct world *world, struct asked *asked, enum fleet_verb verb, uint64_t bytes, const char *replica);

/* ---- what must hold ---- */

bool world_is_settled(void *world);
/* The volume has what it says, and nothing else is there. */
void world_check(struct world *world, const char *what);
/* Waits until it is settled, and checks that. */
void world_settle(struct world *world, const char *what);
