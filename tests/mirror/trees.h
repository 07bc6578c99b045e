/* Changes of a fleet's tree at random moments: snapshots, their deletion, reverts to them, shrinking and growing. No request is
 * under way while one is, so that it is known what the mirror shows afterwards; faults are. Whether a revert or another size was
 * done whose engine died, or that was answered with an error of I/O, is read from the tree's number when the next engine serves.
 * Must not know which faults there are. */
#pragma once

#include "fleet.h"

enum trees_phase {
    TREES_REST,
    TREES_QUIET, /* until no request is under way */
    TREES_ASKED,
    TREES_UNSURE /* until an engine serves that was started later */
};

struct trees {
    struct fleet *fleet;
    enum trees_phase phase;
    unsigned one_in; /* rounds of a life */
    uint64_t since_ns;
    struct mirror_tree_command command;
    struct reactor_message message;
    char name[16];
    bool answered;
    struct fleet_node *node; /* the engine's that was asked */
    uint32_t writer;         /* its */
    uint64_t sequence;       /* of the tree before */
    /* the snapshot that may be reverted to, and what the mirror showed then */
    bool kept;
    char kept_name[16];
    unsigned kept_regions;
    struct ledger then;
    unsigned regions; /* RESIZE: asked for */
    unsigned made;
    uint64_t done[REPLICA_DROP + 1]; /* changes, by kind */
};

/* A change begins in one of so many rounds. */
void trees_init(struct trees *trees, struct fleet *fleet, unsigned one_in);
void trees_fini(struct trees *trees);
/* Takes it further; `may_begin`: and begins another change, sometimes. True: requests must not be begun now. */
bool trees_tend(struct trees *trees, bool may_begin);
