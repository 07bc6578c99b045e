/* What an operator asks of a fleet's engines at random moments: pauses by a lease, planned and unplanned switch-overs to a
 * standby, a start without those who are missing, and the discard of who was left out by that. Whoever is told to go ahead
 * without a leg knows that nothing is lost by it: some leg that the engine sees has all that was acknowledged. Must not know
 * which faults there are. */
#pragma once

#include "fleet.h"

struct orders {
    struct fleet *fleet;
    struct mirror_command command; /* the one that is under way */
    struct reactor_message message;
    bool busy, answered;
    struct fleet_node *node; /* whose engine was asked */
    uint64_t boots;          /* its, then */
    uint64_t begin;          /* the ledger's time, then */
    /* a pause that is held: nothing is answered until it is given back */
    uint64_t lease, resume_ns, answers;
    uint64_t done[MIRROR_RESUME + 1]; /* by verb, with success */
    uint64_t leases_over;             /* pauses that had ended by themselves */
};

void orders_init(struct orders *orders, struct fleet *fleet);
/* Takes it further; `may_begin`: and asks for something that nobody needs, sometimes. */
void orders_tend(struct orders *orders, bool may_begin);
/* True if nothing is under way, and no pause is held. */
bool orders_rest(const struct orders *orders);
