/* What a volume is meant to be, and what its nodes were seen to have, to the calls that bring the one to the other. Pure. */
#pragma once

#include "fleet/record.h"

/* ---- what was seen ---- */

enum fleet_presence {
    FLEET_UNKNOWN, /* its node does not answer */
    FLEET_ABSENT,
    FLEET_PRESENT
};

struct fleet_thing {
    enum fleet_presence presence;
    enum control_state state;           /* PRESENT */
    char text[200];                     /* why it is in error; UNKNOWN: why */
    char address[CONTROL_ADDRESS_SIZE]; /* where it is served; "" = nowhere */
    char volume[CONTROL_NAME_MAX + 1];  /* engines, frontends: whose they say they are */
    uint64_t bytes;
    unsigned percent;                  /* of a clone */
    bool offered, whole, has_snapshot; /* engines: hosts find it; all its replicas are whole; it has the one that is asked for */
    bool standby;                      /* engines: it runs, and has claimed nothing (text: who has) */
    bool fresh;                        /* nothing was called since that changes it */
};

struct fleet_seen {
    struct fleet_thing members[FLEET_MEMBERS_MAX];    /* as in the record */
    struct fleet_thing engine, frontend, clone;       /* clone: running = all was copied, pending = it is being copied */
    struct control_leg_record legs[CONTROL_LEGS_MAX]; /* of the engine */
    unsigned leg_count;
};

bool fleet_seen_has_leg(const struct fleet_seen *seen, const char *name);

/* ---- what to do ---- */

enum fleet_act {
    FLEET_LOOK_NODE, /* its disks */
    FLEET_LOOK_VOLUME,
    FLEET_LOOK_REPLICA,
    FLEET_LOOK_ENGINE,
    FLEET_LOOK_CLONE,
    FLEET_LOOK_FRONTEND,
    FLEET_REPLICA_CREATE,
    FLEET_REPLICA_DELETE,
    FLEET_ENGINE_CREATE,
    FLEET_ENGINE_DELETE,
    FLEET_ENGINE_PROMOTE, /* a standby: it claims its replicas */
    FLEET_ENGINE_EXPAND,
    FLEET_ENGINE_ADD,
    FLEET_ENGINE_REMOVE,
    FLEET_ENGINE_REVERT,
    FLEET_ENGINE_CLONE,
    FLEET_FRONTEND_CREATE,
    FLEET_FRONTEND_DELETE,
    FLEET_FRONTEND_EXPAND,
    FLEET_ACT_COUNT
};
const char *fleet_act_name(enum fleet_act act); /* "make replica" */

enum fleet_outcome {
    FLEET_CARRY_OUT, /* the steps, beside each other; then plan again */
    FLEET_REACHED,
    FLEET_WAIT,   /* for what `text` says */
    FLEET_REFUSED /* it cannot be: `text` */
};

struct fleet_plan {
    enum fleet_outcome outcome;
    struct fleet_step {
        enum fleet_act act;
        unsigned member; /* in the record, if it is about one */
    } steps[FLEET_MEMBERS_MAX + 2];
    unsigned step_count;
    char text[256];
};

void fleet_plan_make(const struct fleet_record *record, const struct fleet_seen *seen, struct fleet_plan *plan);
/* Takes over what was seen to be done: phases, members that have come or gone, the size. True: the record has changed; GONE: it
 * is to be deleted. `seen` keeps to the record's members. */
bool fleet_plan_advance(struct fleet_record *record, struct fleet_seen *seen);
/* A step was done that no look could tell of: true: what the record says from then on. */
bool fleet_plan_done(struct fleet_record *record, const struct fleet_step *step);
/* A step was refused for good: what the record says from then on, so that it is undone. True: it has changed. */
bool fleet_plan_refused(struct fleet_record *record, const struct fleet_step *step, const char *text);
/* What was begun and could not be finished in its time. True: the record has changed. */
bool fleet_plan_expired(struct fleet_record *record, const char *waits_for);

/* What the policy asks for: by the modes of the members as the engine has them (in the record's order; -1 = it has it not). */
enum fleet_care { FLEET_CARE_NOTHING, FLEET_CARE_ADD, FLEET_CARE_REMOVE };
enum fleet_care fleet_plan_care(const struct fleet_record *record, const int *modes, unsigned *ret_member);

/* ---- places ---- */

/* A disk that could have a replica, or (disk "") a node that told of none: `text` says why. */
struct fleet_candidate {
    char node[FLEET_NODE_SIZE], disk[CONTROL_NAME_MAX + 1];
    uint64_t free_bytes;
    bool ready;
    char text[200];
};

/* Fills in node and disk of `count` members: as they say (a node, or a node and a disk), else on the nodes with most free space,
 * one a node. Not on a disk of the record's, nor, where it is not said, on such a node. False: error. */
bool fleet_plan_place(const struct fleet_record *record, const struct fleet_candidate *candidates, unsigned candidate_count,
                      struct fleet_member *members, unsigned count, struct error *error);
