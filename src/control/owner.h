/* Whose a node's name is, where several daemons may have the same state store: the one whose id stands under
 * /penstock/NODE/owner, put with a lease. docs/control.md, "One of a name".
 *
 * Calling context: the control loop. Must not know: what is kept for the node. */
#pragma once

#include "base/log.h"
#include "control/store/store.h"

struct control_owner_options {
    struct reactor *reactor;
    struct log *log;
    struct store *store;
    const char *node, *address; /* address: told to who waits */
    const char *id;             /* of this daemon: the same after its restart, and nobody else's. A UUID */
    /* The name is this daemon's; once. May take as long as another one lives. */
    void (*taken)(void *arg);
    /* It is another's by now, or the store has failed; at most once, and nothing follows. */
    void (*lost)(void *arg, const struct error *error);
    void *arg;
};

struct control_owner;

/* Texts stay. NULL: no memory. */
struct control_owner *control_owner_create(const struct control_owner_options *options);
void control_owner_start(struct control_owner *owner);
/* Gives the name back, if that can be done in two seconds, so that the next one need not wait; `stopped` comes from the loop, and
 * nothing else any more. */
void control_owner_stop(struct control_owner *owner, void (*stopped)(void *arg), void *arg);
/* After it has stopped, or was never started. */
void control_owner_destroy(struct control_owner *take_owner);
