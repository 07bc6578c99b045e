#include "orders.h"

#include <stdio.h>

#include "blockdev/mirror/mirror_internal.h"

#define ONE_IN 120       /* rounds of a life */
#define ACCEPT_ONE_IN 30 /* rounds in which somebody is waited for */
#define LEASE_MS_MAX 300
#define PROMOTE_ONE_IN 40 /* rounds in which there is a standby beside an engine */

void orders_init(struct orders *orders, struct fleet *fleet) { *orders = (struct orders){.fleet = fleet}; }

bool orders_rest(const struct orders *orders) { return !orders->busy && orders->lease == 0; }

static uint64_t now(const struct orders *orders) { return sim_now_ns(orders->fleet->cluster.sim); }

static const char *verb_name(enum mirror_verb verb) {
    static const char *const names[MIRROR_RESUME + 1] = {
        [MIRROR_DISCARD] = "discard", [MIRROR_START] = "start without", [MIRROR_PROMOTE] = "promote",
        [MIRROR_RELEASE] = "release", [MIRROR_PAUSE] = "pause",         [MIRROR_RESUME] = "resume"};
    return names[verb];
}

static void answered(struct mirror_command *command) { container_of(command, struct orders, command)->answered = true; }

static void submit(struct reactor_message *message) {
    struct orders *orders = container_of(message, struct orders, message);
    orders->command.device = orders->node->mirror;
    orders->command.control = orders->node->plane.control;
    mirror_command(&orders->command);
}

/* orders->command is filled in. */
static void ask(struct orders *orders, struct fleet_node *node) {
    struct mirror_command *command = &orders->command;
    command->done = answered;
    orders->busy = true;
    orders->answered = false;
    orders->node = node;
    orders->boots = node->boots;
    orders->begin = ledger_now(&orders->fleet->ledger);
    fleet_log(orders->fleet, "%s: %s %s%s", node->name, verb_name(command->verb), command->leg,
              command->accept_absent_count > 0 ? command->accept_absent[0] : "");
    orders->message = (struct reactor_message){.run = submit};
    reactor_post(node->plane.control, &orders->message);
}

/* ---- whom ---- */

static bool can_be_asked(const struct fleet_node *node) {
    return node->state == FLEET_UP && !node->paused && node->mirror != NULL && node->channel != NULL;
}

static enum mirror_state state_of(const struct fleet_node *node) { return mirror_of(node->mirror)->state; }

/* The standby to be promoted; *ret_needed: nobody else is an engine. */
static struct fleet_node *standby(struct fleet *fleet, bool *ret_needed) {
    struct fleet_node *found = NULL;
    *ret_needed = true;
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (!node->engine || (node->state == FLEET_DOWN && node->again_ns == 0))
            continue;
        bool stands_by = node->mirror != NULL && state_of(node) == MIRROR_STANDBY;
        *ret_needed = *ret_needed && stands_by;
        if (stands_by && can_be_asked(node) && (found == NULL || node->term > found->term))
            found = node;
    }
    return found;
}

static void promote(struct orders *orders, struct fleet_node *node) {
    struct fleet *fleet = orders->fleet;
    node->term = ++fleet->terms;
    node->writer = ++fleet->writers;
    node->standby = node->served = false;
    orders->command = (struct mirror_command){.verb = MIRROR_PROMOTE, .term = node->term};
    ask(orders, node);
}

/* A leg that a start left out, and that is back. */
static bool discard(struct orders *orders, struct fleet_node *node) {
    mirror_for_each_leg(mirror_of(node->mirror), leg) {
        if (leg->told.state != MIRROR_LEG_DIVERGED || (leg->config.flags & REPLICA_LEG_EXCLUDED) == 0)
            continue;
        orders->command = (struct mirror_command){.verb = MIRROR_DISCARD};
        snprintf(orders->command.leg, sizeof(orders->command.leg), "%s", leg->told.name);
        ask(orders, node);
        return true;
    }
    return false;
}

/* It may go on with a leg that this one does not see: whoever orders a start without that leg sees to it first that nobody does.
 */
static bool another_serves(struct fleet *fleet, const struct fleet_node *node) {
    for (unsigned i = 0; i < fleet->node_count; i++) {
        const struct fleet_node *other = &fleet->nodes[i];
        if (other == node || other->state == FLEET_DOWN || other->mirror == NULL)
            continue;
        enum mirror_state state = state_of(other);
        if (state == MIRROR_STARTING || state == MIRROR_SERVING || state == MIRROR_HOLDING)
            return true;
    }
    return false;
}

/* An engine that waits for legs, and sees one that has everything. Not by majority: those who are left out could start by
 * themselves then. */
static bool go_without(struct orders *orders, struct fleet_node *node) {
    struct fleet *fleet = orders->fleet;
    struct mirror_command command = {.verb = MIRROR_START, .term = node->term};
    bool has_all = false;
    mirror_for_each_leg(mirror_of(node->mirror), leg) {
        const struct fleet_leg *of = &node->legs[leg->index];
        if (leg->seen)
            has_all = has_all || (of->node->store != NULL && (fleet->whole >> of->node->index & 1) != 0);
        else
            snprintf(command.accept_absent[command.accept_absent_count++], sizeof(command.accept_absent[0]), "%s", of->device);
    }
    if (!has_all || command.accept_absent_count == 0 || fleet->options.policy == REPLICA_MAJORITY || another_serves(fleet, node))
        return false;
    orders->command = command;
    ask(orders, node);
    return true;
}

/* ---- answers ---- */

static void was_done(struct orders *orders) {
    struct fleet *fleet = orders->fleet;
    switch (orders->command.verb) {
    case MIRROR_PAUSE:
        orders->lease = orders->command.lease;
        orders->answers = orders->node->answers;
        orders->resume_ns = now(orders) + random_below(&fleet->random, 2 * orders->command.lease_ms) * NS_PER_MS;
        break;
    case MIRROR_RESUME:
        if (orders->answers != 0)
            fleet_fail(fleet, "%s: requests were answered during a pause that held", orders->node->name);
        break;
    case MIRROR_RELEASE: ledger_flush(&fleet->ledger, orders->begin, fleet_oldest(fleet)); break;
    default: break;
    }
}

static void was_refused(struct orders *orders) {
    struct fleet_node *node = orders->node;
    if (orders->command.verb == MIRROR_RESUME)
        orders->leases_over++;
    if (orders->command.verb != MIRROR_DISCARD || orders->command.error.code != ERROR_PERMISSION)
        return;
    fleet_node_die(node, FLEET_CLOSE); /* a later engine has its promise: as the message says, one of a higher term is needed */
    node->again_ns = now(orders) + NS_PER_MS;
}

static void look(struct orders *orders) {
    const struct error *error = &orders->command.error;
    orders->busy = false;
    fleet_log(orders->fleet, "%s: %s %s: %s", orders->node->name, verb_name(orders->command.verb), orders->command.leg,
              error->code == ERROR_NONE ? "done" : error->text);
    if (orders->command.verb == MIRROR_RESUME)
        orders->lease = 0;
    if (error->code == ERROR_NONE) {
        orders->done[orders->command.verb]++;
        was_done(orders);
    } else {
        was_refused(orders);
    }
}

/* ---- time ---- */

static bool is_gone(const struct orders *orders) {
    return orders->node->state == FLEET_DOWN || orders->node->boots != orders->boots;
}

static bool tend_lease(struct orders *orders) {
    if (orders->lease == 0)
        return false;
    if (now(orders) >= orders->resume_ns && can_be_asked(orders->node)) {
        orders->answers = orders->node->answers - orders->answers; /* while it held, if that is said now */
        orders->command = (struct mirror_command){.verb = MIRROR_RESUME, .lease = orders->lease};
        ask(orders, orders->node);
    }
    return true;
}

void orders_tend(struct orders *orders, bool may_begin) {
    struct fleet *fleet = orders->fleet;
    struct random *random = &fleet->random;
    if ((orders->busy || orders->lease != 0) && is_gone(orders)) {
        orders->busy = false;
        orders->lease = 0;
    }
    if (orders->busy && orders->answered)
        look(orders);
    if (orders->busy || tend_lease(orders))
        return;
    bool needed;
    struct fleet_node *node = standby(fleet, &needed), *engine = fleet_engine(fleet);
    if (node != NULL && (needed || (may_begin && random_chance(random, 1, PROMOTE_ONE_IN)))) {
        promote(orders, node);
        return;
    }
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *waiting = &fleet->nodes[i];
        if (can_be_asked(waiting) && state_of(waiting) == MIRROR_CONFIGURING && may_begin &&
            random_chance(random, 1, ACCEPT_ONE_IN) && go_without(orders, waiting))
            return;
    }
    if (engine == NULL || !can_be_asked(engine) || discard(orders, engine))
        return;
    if (!may_begin || !random_chance(random, 1, ONE_IN))
        return;
    if (random_chance(random, 1, 3))
        orders->command = (struct mirror_command){.verb = MIRROR_RELEASE};
    else
        orders->command = (struct mirror_command){.verb = MIRROR_PAUSE, .lease_ms = 1 + random_below(random, LEASE_MS_MAX)};
    ask(orders, engine);
}
