/* Faults of a fleet, drawn from the seed, each with its end; and faults at named moments of the protocol. Whoever a fault has
 * brought down comes up again by itself, as a supervisor would have it. */
#pragma once

#include "blockdev/mirror/canary.h"
#include "blockdev/volume/canary.h"
#include "fleet.h"

enum chaos_kind {
    CHAOS_STORE_DIES,
    CHAOS_STORES_DIE, /* several at once */
    CHAOS_ALL_DIE,    /* the power of everything fails */
    CHAOS_ENGINE_DIES,
    CHAOS_SWITCH_OVER, /* another engine of a higher term, while the old one goes on */
    CHAOS_SAME_TERM,   /* another engine of the same term */
    CHAOS_PAUSE_STORE,
    CHAOS_PAUSE_ENGINE,
    CHAOS_CUT,
    CHAOS_CUT_ONE_WAY,
    CHAOS_SLOW_LINK,
    CHAOS_SLOW_DISK,
    CHAOS_HUNG_DISK,
    CHAOS_FAILED_FLUSH,
    CHAOS_FAILED_WRITE,
    CHAOS_FULL_DISK,
    CHAOS_HELD_BYTES, /* of one connection; they come later, though it may have been given up */
    CHAOS_DELAYED_CONNECTION,
    CHAOS_RESET,
    CHAOS_STANDBY,     /* another engine that claims nothing yet */
    CHAOS_LEFT_BEHIND, /* a store dies for long, and the engine with it */
    CHAOS_HALF_CHANGE, /* a leg is cut off, and who has not stored the change that leaves it out dies with the engine */
    CHAOS_POINT,       /* armed: it happens at a moment of the protocol */
    CHAOS_KINDS
};

enum chaos_action { CHAOS_CRASH, CHAOS_STOP, CHAOS_DISCONNECT, CHAOS_ACTIONS };

#define CHAOS_POINTS (VOLUME_POINTS + MIRROR_POINTS)
#define CHAOS_UNDOS 64
#define CHAOS_ARMS 4

struct chaos_undo {
    uint64_t at_ns;
    enum chaos_kind kind;
    struct fleet_node *node;
    uint64_t boots; /* of the node, when it began */
    struct sim_link *link;
    struct sim_link_options options;
    uint64_t connection;
    enum sim_direction direction;
};

struct chaos {
    struct fleet *fleet;
    struct random *random;
    struct chaos_undo undos[CHAOS_UNDOS];
    unsigned undo_count;
    struct chaos_arm {
        unsigned point; /* CHAOS_POINTS = none */
        enum chaos_action action;
        unsigned skip; /* so many times it passes */
    } arms[CHAOS_ARMS];
    enum chaos_kind often; /* every second fault; CHAOS_POINT = none */
    unsigned next;         /* pair of point and action, the next one to be armed */
    uint64_t half_over_ns; /* HALF_CHANGE: until then one is waited for */
    uint64_t half_depth;   /* deeper than this */
    /* over all lives of the batch */
    uint64_t done[CHAOS_KINDS];
    uint64_t (*hits)[CHAOS_ACTIONS]; /* of each point */
};

/* `number`: of this life in its batch, so that all points have their turn. */
void chaos_init(struct chaos *chaos, struct fleet *fleet, unsigned number, uint64_t (*hits)[CHAOS_ACTIONS]);
/* One fault. */
void chaos_strike(struct chaos *chaos);
/* What is over ends; who lies on the ground is started. */
void chaos_tend(struct chaos *chaos);
/* No fault is left, and at most one engine. */
void chaos_end(struct chaos *chaos);
const char *chaos_kind_name(enum chaos_kind kind);
/* NULL: there is no such point, or none that is asked for. */
const char *chaos_point_name(unsigned point);
