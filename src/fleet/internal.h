/* What the files of fleet share. Nobody outside this folder includes it. */
#pragma once

#include "fleet/fleet.h"

/* ---- request.c: what each request checks, changes, and is done by ---- */

/* Arguments. False: request->error. */
bool request_check(struct fleet_request *request);
enum request_next {
    REQUEST_END,    /* it is over; request->error tells how */
    REQUEST_PLACE,  /* candidates are to be asked */
    REQUEST_WAIT,   /* the record is as it should be */
    REQUEST_RECORD, /* it was changed */
};
/* Its turn has come: looks at the record, changes it. After REQUEST_PLACE again, when it is placed. */
enum request_next request_begin(struct fleet_request *request);
/* The nodes to ask for REQUEST_PLACE. */
unsigned request_candidates(const struct fleet_request *request, char (*to)[FLEET_NODE_SIZE]);
/* What they told. False: request->error. */
bool request_place(struct fleet_request *request, const struct fleet_call *calls, unsigned count);
/* It is done, or will not be: request->error. */
bool request_is_over(struct fleet_request *request);
/* Its time is over: the error says what it waited for. */
void request_expire(struct fleet_request *request);
/* ---- submit.c: how requests end ---- */

/* With request->error; its owner is told from the loop. */
void request_end(struct fleet_request *request);
/* Those that are done, or will not be. */
void requests_end_over(struct fleet_volume *volume);

/* ---- fleet.c: volumes ---- */

static inline uint64_t fleet_now_ns(const struct fleet *fleet) { return host_now_ns(fleet->reactor->host); }
/* NULL: no memory, or there are FLEET_VOLUMES_MAX. Nothing is recorded of it yet. */
struct fleet_volume *fleet_volume_add(struct fleet *fleet, const char *name);
/* Nothing is under way for it. */
void fleet_volume_remove(struct fleet_volume *volume);
void fleet_tell_watchers(struct fleet *fleet);
/* While it stops: something that was under way has ended. */
void fleet_look_whether_stopped(struct fleet *fleet);

/* ---- reconcile.c: turns of a volume ---- */

/* Its turn comes soon, from the loop. */
void fleet_volume_kick(struct fleet_volume *volume);
/* Its turn: something may have come or ended. The volume may be gone afterwards. */
void fleet_volume_proceed(struct fleet_volume *volume);
void fleet_volume_turn(struct reactor_job *job);
void fleet_volume_retry(struct reactor_timer *timer);
/* Until it is tried again, longer each time. */
void fleet_volume_pause(struct fleet_volume *volume);
/* What the record goes back to if its change cannot be written: before each change. */
void fleet_volume_keep_before(struct fleet_volume *volume);
/* Writes the record, then goes on. `request`: whose change it is, NULL = nobody's. */
void fleet_volume_record(struct fleet_volume *volume, struct fleet_request *request);

/* ---- calls.c: calls of nodes ---- */

/* Asks candidates for their disks, for a request that is to be placed. */
void fleet_volume_place(struct fleet_volume *volume, struct fleet_request *request);
/* Looks at all that is to be planned for and may have changed, then plans and calls. */
void fleet_volume_look(struct fleet_volume *volume);
/* All that was seen may be otherwise by now. */
void fleet_volume_forget_seen(struct fleet_volume *volume);

/* ---- care.c: what it does by itself ---- */

/* Looks for lost replicas now, and again later while a volume wants that. */
void fleet_care_run(struct fleet *fleet);
void fleet_care_again(struct reactor_timer *timer);
