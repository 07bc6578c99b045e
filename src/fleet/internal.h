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
