/* Which copy is newest, who may start, and what becomes of the others: verdicts over records. Pure; docs/mirror.md, "Deciding".
 */
#pragma once

#include "base/error.h"
#include "block/replica.h"

struct decide_leg {
    const struct replica_status *status; /* NULL = not seen */
    bool tie_breaker;                    /* of a first start; afterwards the records say it */
    bool overwrite;                      /* what it holds is given up, if it has no record */
    const char *name;                    /* under which it is offered; NULL = none */
};

struct decide_input {
    unsigned leg_count; /* offered legs, ≤ REPLICA_LEGS_MAX */
    struct decide_leg legs[REPLICA_LEGS_MAX];
    struct uuid mirror;     /* nil = whichever the records say */
    uint32_t accept_absent; /* bit = index in the newest record's `legs`: may be missing, and is excluded from now on */
    bool assume_equal;      /* of a first start */
    bool source_set;        /* of a first start: what all but leg `source`, by index, hold is given up */
    unsigned source;        /* no tie-breaker */
};

enum decide_outcome {
    DECIDE_START,       /* with result->newest */
    DECIDE_FIRST_START, /* no epoch anywhere */
    DECIDE_WAIT,        /* somebody is missing */
    DECIDE_REFUSE       /* diverged, or legs that are not of one mirror: waiting does not help */
};

enum decide_verdict {
    DECIDE_UNSEEN,
    DECIDE_SOURCE,    /* whole, with the newest history: may be a member */
    DECIDE_RETURNING, /* has the history up to base */
    DECIDE_FULL,      /* may have anything */
    DECIDE_WITNESS,   /* tie-breaker */
    DECIDE_DIVERGED,  /* kept as it is until an operator says `discard` */
    DECIDE_STRANGER   /* holds data, and no record: likewise */
};

struct decide_result {
    enum decide_outcome outcome;
    const struct replica_record *newest; /* DECIDE_START: the record that counts for configuration and history */
    struct replica_epoch epoch;          /* and the newest epoch */
    struct replica_record made;          /* newest, where no record has that epoch for its own any more */
    enum decide_verdict verdicts[REPLICA_LEGS_MAX];
    struct replica_epoch bases[REPLICA_LEGS_MAX]; /* of those that return */
    uint64_t from_depths[REPLICA_LEGS_MAX];       /* they need the sources' marks at or above this */
    uint32_t excluded;                            /* legs of the newest record that are excluded from this start on */
    uint32_t missing;   /* DECIDE_WAIT: legs of the newest record that are not there and would all have to
                           be given up; or offered ones at a first start */
    uint32_t refused;   /* DECIDE_REFUSE: legs of the input that do not go together */
    bool unasked;       /* DECIDE_REFUSE: a first start would overwrite those, and nobody said so */
    struct error error; /* DECIDE_WAIT: why, with names; DECIDE_REFUSE: without */
};

/* The records say that what the device `name` holds was given up. They have a name's beginning: with one that is longer nobody
 * knows whose it is, and what it holds stays. */
bool decide_is_given_up(const struct replica_leg *configured, const char *name);

/* Looks at what was seen. Every status has been checked (replica_record_check()) if it has a record. */
void decide(const struct decide_input *input, struct decide_result *ret_result);

/* What one leg is to a mirror that runs, whose record (of any member, or as it would be) is `newest`. SOURCE: it has all that was
 * there at its base. */
enum decide_verdict decide_leg(const struct replica_record *newest, const struct replica_status *status,
                               struct replica_epoch *ret_base, uint64_t *ret_from_depth);

/* The same for a diverged one of which nothing is wanted that the mirror does not have: RETURNING from the last common epoch, or
 * FULL. */
enum decide_verdict decide_discarded(const struct replica_record *newest, const struct replica_record *own,
                                     struct replica_epoch *ret_base, uint64_t *ret_from_depth);
